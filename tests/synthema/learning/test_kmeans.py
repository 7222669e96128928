"""Joint k-means: the pooled rounded Lloyd's algorithm to the last step; small clusters stay shut; noise is honest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from clinics import job, leukaemia, pooled

from privacy import Schema
from synthema.errors import DisclosureRefused, ModelFailed, StudyError
from synthema.learning import KMeans, kmeans_private
from synthema.learning.kmeans import STEPS, KMeansSpec
from synthema.learning.kmeans_exact import first_centres
from synthema.learning.noisy_sums import noise_of
from synthema.submitters import SimulatedNetwork

SITES = ("vienna", "madrid", "milan")
SCHEMA = {
    "columns": {
        "age": {"kind": "integer", "bounds": [0, 100], "edges": [50]},
        "dose": {"kind": "continuous", "bounds": [0, 10], "edges": [5]},
        "note": {"categories": ["a", "b"]},
        "late": {"kind": "continuous", "bounds": [0, 1], "nullable": True, "bins": 4},
    }
}


def _frames(n: int = 300) -> dict[str, pd.DataFrame]:
    """Simulated, fixed: three groups of patients, mixed otherwise at each site."""
    frames = {}
    for i, site in enumerate(SITES):
        random = np.random.default_rng(i)
        which = random.choice(3, n, p=np.roll([0.5, 0.3, 0.2], i))
        age = np.clip(np.rint(random.normal(np.array([25, 50, 80])[which], 6)), 0, 100).astype(np.int64)
        dose = np.clip(random.normal(np.array([2.0, 8.0, 5.0])[which], 0.8), 0, 10)
        frames[site] = pd.DataFrame({"age": age, "dose": dose, "note": "a", "late": 0.5})
    return frames


def _pooled_lloyd(x: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """The same algorithm where all rows lie together: integers, divided and rounded to the grid."""
    whole = np.rint(x * 2**24).astype(np.int64)

    def mean(values: np.ndarray) -> np.ndarray:
        # Half a step belongs to the point above it.
        return np.array(
            [(2 * STEPS * int(total) + (len(values) << 24)) // (len(values) << 25) for total in values.sum(0)]
        )

    p = x.shape[1]
    pairs = [(i, j) for i in range(p) for j in range(i, p)]
    products = np.rint(np.stack([x[:, i] * x[:, j] for i, j in pairs], axis=1) * 2**24).astype(np.int64)
    first, second = mean(whole) / STEPS, mean(products) / STEPS
    covariance = np.zeros((p, p))
    for (i, j), value in zip(pairs, second, strict=True):
        covariance[i, j] = covariance[j, i] = value - first[i] * first[j]
    centres = np.rint(first_centres(first, covariance, k) * STEPS).astype(int)
    for number in range(1, 100):
        apart = ((x[:, None, :] - centres[None] / STEPS) ** 2).sum(axis=2)
        label = apart.argmin(axis=1)
        moved = np.stack([mean(whole[label == j]) for j in range(k)])
        if (moved == centres).all():
            return centres / STEPS, number
        centres = moved
    raise AssertionError("no end")


def _inertia(x: np.ndarray, centres: np.ndarray) -> float:
    return float(((x[:, None, :] - centres[None]) ** 2).sum(axis=2).min(axis=1).sum())


def _scaled(rows: pd.DataFrame) -> np.ndarray:
    return np.stack([rows["age"] / 50 - 1, rows["dose"] / 5 - 1], axis=1)


def test_it_is_the_pooled_algorithm_and_as_good_as_lloyds_without_rounding() -> None:
    from scipy.cluster.vq import kmeans2

    frames = _frames()
    model = KMeans(columns=["age", "dose"], n_clusters=3).fit(SimulatedNetwork(frames), job(SCHEMA, SITES))
    x = _scaled(pooled(frames))
    expected, rounds = _pooled_lloyd(x, 3)
    found = model.cluster_centers_ / [50, 5] - 1
    np.testing.assert_allclose(found, expected[np.argsort(expected[:, 0])], atol=1e-12)
    assert (model.answer_["converged"], model.answer_["iterations"]) == (True, rounds)
    label = model.predict(pooled(frames))
    assert np.bincount(label).tolist() == model.sizes_.tolist()
    plain, _ = kmeans2(x, expected, minit="matrix", iter=100)
    assert _inertia(x, found) < 1.005 * _inertia(x, plain)
    assert "cluster 3" in str(model.summary())
    again = KMeans.from_json(model.to_json())
    assert (again.predict(pooled(frames)) == label).all()


def test_leukaemia_patients_of_five_hospitals() -> None:
    frames, study = leukaemia()
    model = KMeans(columns=["age", "wbc", "tpi"], n_clusters=3).fit(SimulatedNetwork(frames), study)
    assert model.sizes_.sum() == len(pooled(frames))
    assert model.sizes_.min() >= STEPS


def test_a_small_cluster_is_refused_and_its_centre_stays_shut() -> None:
    frames = _frames(100)
    with pytest.raises(DisclosureRefused, match="ask for fewer clusters"):
        KMeans(columns=["age", "dose"], n_clusters=9).fit(SimulatedNetwork(frames), job(SCHEMA, SITES))
    few = {site: frame.head(20) for site, frame in frames.items()}
    with pytest.raises(DisclosureRefused, match="fewer than 64"):
        KMeans(columns=["age"], n_clusters=2).fit(SimulatedNetwork(few), job(SCHEMA, SITES))


def test_who_sees_all_that_is_opened_does_not_find_the_one_patient_who_moved() -> None:
    """Two pools that differ by one patient: the attack is exact on sums, and off by the half range on centres."""
    random = np.random.default_rng(1)
    errors_sums, errors_centres = [], []
    for _ in range(300):
        x = random.uniform(-1, 1, 80)
        target, others = x[0], x[1:]
        errors_sums.append(abs((x.sum() - others.sum()) - target))
        opened = [np.floor(STEPS * values.mean() + 0.5) / STEPS for values in (x, others)]
        errors_centres.append(abs(80 * opened[0] - 79 * opened[1] - target))
    assert max(errors_sums) < 1e-12
    # A guess of the middle is off by 0.5 on average.
    assert np.mean(errors_centres) > 0.35


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": ["age", "age"], "n_clusters": 2}, "once"),
        ({"columns": ["note"], "n_clusters": 2}, "note"),
        ({"columns": ["late"], "n_clusters": 2}, "nullable"),
        ({"columns": ["age"], "n_clusters": 1}, "n_clusters"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        job(SCHEMA, SITES).with_model("groups", KMeans(**fields).spec_)


def test_with_noise_it_finds_clear_groups_and_says_when_it_cannot() -> None:
    frames = _frames(2000)
    model = KMeans(columns=["age", "dose"], n_clusters=3, mode="private", budget_share=1.0)
    model.fit(SimulatedNetwork(frames), job(SCHEMA, SITES, epsilon=3.0, policy={"epsilon_cap": 3.0, "delta_cap": 1e-5}))
    x = _scaled(pooled(frames))
    expected, _ = _pooled_lloyd(x, 3)
    assert _inertia(x, model.cluster_centers_ / [50, 5] - 1) < 1.05 * _inertia(x, expected)
    assert model.released_["steps"][0]["kind"] == "private"
    low = {"epsilon_cap": 3.0, "delta_cap": 1e-5}
    with pytest.raises(ModelFailed, match="more epsilon"):
        KMeans(columns=["age", "dose"], n_clusters=3, mode="private", budget_share=1.0).fit(
            SimulatedNetwork(_frames(30)), job(SCHEMA, SITES, epsilon=0.01, policy=low)
        )


def test_a_patients_part_is_no_longer_than_what_is_paid_for() -> None:
    schema = Schema.from_dict(SCHEMA)
    spec = KMeansSpec(columns=("age", "dose"), n_clusters=3, mode="private", budget_share=1.0)
    start, moves = spec.event(job(SCHEMA, SITES), 0.1).events  # type: ignore[attr-defined]
    for age in (0, 31, 100):
        for dose in (0.0, 3.3, 10.0):
            half = kmeans_private.AtSite(spec, schema, pd.DataFrame({"age": [age], "dose": [dose]}))
            for what, event in (("moments", start), ("clusters/0", moves)):
                part = half.contribute(what, [["0.0", "0.0"], ["0.5", "0.5"], ["-1", "1"]]).values
                assert (part**2).sum() <= noise_of(event).l2_sensitivity_squared
                assert np.abs(part).sum() <= noise_of(event).l1_sensitivity
                assert part.size == noise_of(event).dimension
            with pytest.raises(StudyError, match="not due"):
                half.contribute("clusters/0", None)
