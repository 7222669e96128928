"""The joint descriptive table: pandas on the pooled rows; small cells stay shut; with noise, honest intervals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clinics import job, leukaemia, pooled

from privacy import Schema
from synthema.errors import DisclosureRefused, SiteRefused, StudyError
from synthema.learning import KaplanMeier, TableOne, table_one_private
from synthema.learning.noisy_sums import noise_of
from synthema.learning.shared_quantiles import FINEST, Bins
from synthema.learning.table_one import TableOneSpec
from synthema.submitters import SimulatedNetwork


def test_it_is_the_pooled_table_and_quartiles_lie_in_their_bins() -> None:
    frames, study = leukaemia()
    model = TableOne(columns=["age", "wbc", "event"], by="sex").fit(SimulatedNetwork(frames), study)
    rows = pooled(frames)
    for label in ("F", "M"):
        own, group = rows[rows["sex"] == label], f"sex = {label}"
        for name in ("age", "wbc"):
            assert model.mean(name, group) == pytest.approx(own[name].mean(), rel=1e-7)
    answer = model.answer_
    assert answer["sizes"] == rows.groupby("sex").size().tolist()
    age, wbc, event = answer["columns"]
    assert event["counts"] == pd.crosstab(rows["sex"], rows["event"])[["0", "1"]].to_numpy().tolist()
    for column in (age, wbc):
        by_sex = rows.groupby("sex")[column["name"]]
        np.testing.assert_allclose([float(each) for each in column["sd"]], by_sex.std(), rtol=1e-6)
        for found, (_, values) in zip(column["quartiles"], by_sex, strict=True):
            for (low, high), q in zip(found, (0.25, 0.5, 0.75), strict=True):
                assert low <= np.quantile(values, q, method="inverted_cdf") <= high
                assert ((values >= low) & (values <= high)).sum() >= 5
    text = str(model.summary())
    assert "age: mean (SD)" in text
    assert str(TableOne.from_json(model.to_json()).summary()) == text


SCHEMA = {
    "columns": {
        "sex": {"categories": ["F", "M"]},
        "grade": {"categories": ["low", "mid", "high"], "nullable": True},
        "age": {"kind": "integer", "bounds": [0, 100], "edges": [20, 40, 60, 80]},
        "dose": {"kind": "continuous", "bounds": [0, 10], "edges": [5], "nullable": True},
    }
}
SITES = ("vienna", "madrid", "milan")


def _frames(n: int = 200) -> dict[str, pd.DataFrame]:
    """Simulated, fixed; doses are missing now and then."""
    frames = {}
    for i, site in enumerate(SITES):
        random = np.random.default_rng(i)
        dose = random.uniform(0, 10, n)
        frames[site] = pd.DataFrame(
            {
                "sex": random.choice(["F", "M"], n),
                "grade": random.choice(["low", "mid", "high"], n),
                "age": random.integers(0, 101, n),
                "dose": np.where(random.random(n) < 0.1, np.nan, dose),
            }
        )
    return frames


def _fit(frames: dict[str, pd.DataFrame], *, study: Any = None, **fields: Any) -> dict[str, Any]:
    return TableOne(**fields).fit(SimulatedNetwork(frames), study or job(SCHEMA, SITES)).answer_


def test_a_rare_category_shuts_its_column_and_no_other() -> None:
    frames = _frames()
    frames["milan"].loc[[0, 1], "grade"] = None
    answer = _fit(frames, columns=["grade", "age"])
    grade, age = answer["columns"]
    assert grade["counts"] is None
    assert "merge rare categories" in grade["reason"]
    assert age["mean"] is not None
    # Nobody missing is a count that may be known, and so is enough of them.
    frames["milan"].loc[:8, "grade"] = None
    assert _fit(frames, columns=["grade"])["columns"][0]["counts"][0][-1] == 9


def test_a_small_group_is_shut_and_cannot_be_subtracted() -> None:
    frames = _frames(60)
    for frame in frames.values():
        frame["sex"] = "F"
    frames["vienna"].loc[:18, "sex"] = "M"
    answer = _fit(frames, columns=["grade", "age"], by="sex")
    assert answer["sizes"] == [161, None]
    assert all(column["counts"][1] is None for column in answer["columns"] if column["kind"] == "categorical")
    assert answer["columns"][1]["mean"][1] is None
    assert "all" not in answer["groups"]
    for frame in frames.values():
        frame["sex"] = "F"
    # Nobody at all is no small group.
    assert _fit(frames, columns=["age"], by="sex")["sizes"] == [180, 0]


def test_nothing_is_opened_of_a_handful_of_patients() -> None:
    frames = {site: frame.head(6) for site, frame in _frames().items()}
    policy = {"epsilon_cap": 1.0, "delta_cap": 1e-5, "allow_exact": True, "min_patients": 5}
    with pytest.raises(DisclosureRefused, match="no group has 20 patients"):
        _fit(frames, columns=["age"], study=job(SCHEMA, SITES, policy=policy))


def test_a_patient_who_makes_up_a_sum_shuts_it() -> None:
    frames = _frames()
    for frame in frames.values():
        frame["dose"] = 5.0
    frames["vienna"].loc[0, "dose"] = 9.9
    dose = _fit(frames, columns=["dose"])["columns"][0]
    assert dose["mean"] is None
    assert "one patient" in dose["reason"]
    # The patient's own bin is not opened either: quartiles are those of the others.
    assert all(low <= 5.0 <= high for low, high in dose["quartiles"][0])


def test_bins_of_whole_numbers_begin_at_whole_numbers() -> None:
    column = Schema.from_dict(SCHEMA).column("age")
    bins = Bins.of(column)
    counts = bins.count(np.arange(101.0))
    assert counts.sum() == 101
    assert bins.range_of(1) == (0.0, 1.0)
    assert bins.range_of(FINEST + 1) == (0.0, 3.0)
    assert bins.range_of(0) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": ["age", "age"]}, "once"),
        ({"columns": ["height"]}, "height"),
        ({"columns": ["grade"], "by": "age"}, "categories"),
        ({"columns": []}, "columns"),
        ({"columns": ["age"], "mode": "private"}, "budget_share"),
        ({"columns": ["age"], "colour": 1}, "colour"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        job(SCHEMA, SITES).with_model("table", TableOne(**fields).spec_)


def test_two_tables_of_one_study_could_be_subtracted() -> None:
    study = job(SCHEMA, SITES)
    one, two = (TableOneSpec(columns=("age",), by=by) for by in ("sex", "grade"))
    with pytest.raises(StudyError, match="subtracted"):
        job(SCHEMA, SITES, models={"one": one.model_dump(mode="json"), "two": two.model_dump(mode="json")})
    frames, study = leukaemia()
    both = {"curves": {"kind": "kaplan-meier", "group": "sex", "grid_days": 180}}
    with pytest.raises(StudyError, match="survival columns"):
        leukaemia(models=both | {"table": {"kind": "table-one", "columns": ["event"]}})
    assert leukaemia(models=both | {"table": {"kind": "table-one", "columns": ["age"]}})
    # Nor two studies, one after the other.
    network = SimulatedNetwork(frames)
    assert KaplanMeier(group="sex", grid_days=180).fit(network, study).answer_


def test_a_second_exact_study_of_the_same_table_is_refused(tmp_path: Any) -> None:
    network = SimulatedNetwork(_frames(), out=tmp_path)
    first = TableOne(columns=["age"]).fit(network, job(SCHEMA, SITES))
    with pytest.raises(SiteRefused, match="can be subtracted"):
        TableOne(columns=["age"], by="sex").fit(network, job(SCHEMA, SITES, name="again"))
    # The very same again is the stored answer.
    again = TableOne(columns=["age"]).fit(network, job(SCHEMA, SITES, name="same"))
    assert again.answer_ == first.answer_


def test_with_noise_every_site_pays_and_the_table_is_near(tmp_path: Any) -> None:
    frames = _frames(2000)
    study = job(SCHEMA, SITES, epsilon=3.0, policy={"epsilon_cap": 3.0, "delta_cap": 1e-5})
    model = TableOne(columns=["age", "grade", "dose"], by="sex", mode="private", budget_share=1.0)
    model.fit(SimulatedNetwork(frames, out=tmp_path), study)
    rows = pooled(frames)
    [step] = model.released_["steps"]
    assert step["kind"] == "private"
    assert 0.97 * 3.0 < step["epsilon_alone"] <= 3.0
    age, grade, dose = model.answer_["columns"]
    counts = pd.crosstab(rows["sex"], rows["grade"])[["low", "mid", "high"]].to_numpy()
    # 6 cells: beyond 6 standard errors with a probability below 1e-8.
    assert np.abs(np.array(grade["counts"])[:, :3] - counts).max() < 6 * float(grade["std_error"])
    for column in (age, dose):
        for g, (_, values) in enumerate(rows.groupby("sex")[column["name"]]):
            error = float(column["std_error"][g])
            assert abs(float(column["mean"][g]) - values.mean()) < 6 * error
            # The noise is small beside sampling here, and no smaller than what was paid for.
            assert error > 0.9 * values.std() / np.sqrt(len(values))
    assert "+-" in str(model.summary())


def test_a_patients_part_is_no_longer_than_what_is_paid_for() -> None:
    """Every part of one patient, extremes included, against the sensitivities of the event."""
    schema = Schema.from_dict(SCHEMA)
    spec = TableOneSpec(columns=("age", "grade", "dose"), by="sex", mode="private", budget_share=1.0)
    priced = noise_of(spec.event(job(SCHEMA, SITES), 0.1))
    longest = 0
    for age in (0, 37, 50, 100):
        for dose in (0.0, 4.9, 10.0, np.nan):
            row = pd.DataFrame({"sex": ["M"], "grade": ["mid"], "age": [age], "dose": [dose]})
            part = table_one_private.AtSite(spec, schema, row).contribute("sums", None).values
            longest = max(longest, int((part**2).sum()))
            assert np.abs(part).sum() <= priced.l1_sensitivity
            assert part.size == priced.dimension
    # Extremes reach the bound: it is no larger than it must be.
    assert longest == priced.l2_sensitivity_squared


@pytest.mark.slow
def test_intervals_of_means_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    """95 % intervals of a mean, 400 runs with fresh patients: within 3.5 standard errors of 95 %; naive ones not."""
    schema = Schema.from_dict(SCHEMA)
    spec = TableOneSpec(columns=("age", "dose"), mode="private", budget_share=1.0)
    noise = noise_of(spec.event(job(SCHEMA, SITES, epsilon=0.7), 0.02))
    std = noise.per_party_scale * 3**0.5
    random = np.random.default_rng(7)
    monkeypatch.setattr(table_one_private, "noise_std", lambda _rounds: std)
    hits, naive = 0, 0
    for _ in range(400):
        rows = pd.DataFrame({"age": random.integers(30, 71, 500), "dose": random.uniform(0, 10, 500)})
        exact = table_one_private.AtSite(spec, schema, rows).contribute("sums", None).values
        noisy = exact + np.rint(random.normal(0, std, exact.shape)).astype(np.int64)
        monkeypatch.setattr(table_one_private, "open_noisy_sum", lambda _rounds, _what, noisy=noisy: noisy)
        age = table_one_private.fit(spec, SimpleNamespace(schema=schema))["columns"][0]  # type: ignore[arg-type]
        apart = abs(float(age["mean"][0]) - 50)
        hits += apart <= 1.96 * float(age["std_error"][0])
        naive += apart <= 1.96 * float(age["sd"][0]) / 500**0.5
    margin = 3.5 * (0.95 * 0.05 / 400) ** 0.5
    assert abs(hits / 400 - 0.95) < margin
    assert naive / 400 < 0.95 - margin
