"""Curves of survival as models of a study: at hospitals, over a network, with competing causes, and what is refused."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clinics import OPEN_POLICY, job, leukaemia, pooled

from privacy import Schema, SchemaError
from synthema.errors import SiteRefused, StudyError
from synthema.learning import AalenJohansen, KaplanMeier, LogRank, NelsonAalen
from synthema.learning.estimator import NotFitted
from synthema.submitters import SimulatedNetwork

sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))

from network_members import DEALER, LocalFederation

COMPETING = {
    "columns": {
        "arm": {"categories": ["A", "B", "C"]},
        "days": {"kind": "integer", "bounds": [0, 800], "edges": [360, 720]},
        "what": {"categories": ["0", "1", "2"]},
    },
    "survival": {
        "time": "days",
        "event": "what",
        "competing": {"1": "relapse", "2": "death"},
        "horizon": 720,
    },
}
SITES = ("vienna", "madrid", "milan")


def transplanted(n: int = 260) -> dict[str, pd.DataFrame]:
    """Patients of two arms at three hospitals; nobody is in the third arm."""
    frames = {}
    for i, site in enumerate(SITES):
        rng = np.random.default_rng(i)
        days = np.minimum(rng.exponential(420, n), 800).astype(int)
        frames[site] = pd.DataFrame(
            {
                "arm": rng.choice(["A", "B"], n),
                "days": days,
                "what": np.where(days == 800, "0", rng.choice(["0", "1", "2"], n, p=[0.3, 0.4, 0.3])),
            }
        )
    return frames


def by_interval(rows: pd.DataFrame, arm: str, cause: str, grid_days: int) -> list[int]:
    own = rows[(rows["arm"] == arm) & (rows["what"] == cause) & (rows["days"] < 720)]
    interval = np.maximum((own["days"] - 1) // grid_days, 0)
    return [int((interval == t).sum()) for t in range(720 // grid_days)]


def test_counts_that_are_opened_are_those_of_the_pooled_rows() -> None:
    frames, plain = leukaemia()
    model = KaplanMeier(group="sex", grid_days=180).fit(SimulatedNetwork(frames), plain)
    rows = pooled(frames)
    for label, group in zip(("F", "M"), model.answer_["groups"], strict=True):
        own = rows[rows["sex"] == label]
        events = [
            ((own["event"] == "1") & (own["time"] > 180 * t) & (own["time"] <= 180 * (t + 1))).sum() for t in range(4)
        ]
        # Day 0 belongs to the first interval.
        events[0] += ((own["event"] == "1") & (own["time"] == 0)).sum()
        assert group["events"][:4] == events
    assert "sex = F" in str(model.summary())
    again = KaplanMeier.from_json(model.to_json())
    assert str(again.summary()) == str(model.summary())
    assert model.predict(100) == {"sex = F": (1.0, 1.0), "sex = M": (1.0, 1.0)}
    low, high = model.predict(365)["sex = M"]
    assert low == pytest.approx(high)
    assert model.median_["sex = F"].days == (360.0, 360.0)
    until, test = model.log_rank()
    assert (until, test.degrees) == (360, 1)
    with pytest.raises(StudyError, match="a multiple of grid_days"):
        model.restricted_mean(100)
    with pytest.raises(StudyError, match="choose an earlier one"):
        model.restricted_mean(5940)
    assert ET.fromstring(model.plot()).tag.endswith("svg")


@pytest.mark.slow
def test_convicts_on_parole_a_week_an_interval() -> None:
    from lifelines.datasets import load_rossi

    rossi = load_rossi()
    # A week counts as 30 days, the narrowest interval that there is; who is in jail is no matter here.
    rows = pd.DataFrame({"all": "yes", "days": 30 * rossi["week"], "arrested": rossi["arrest"].astype(str)})
    frames = {site: rows[i::3].reset_index(drop=True) for i, site in enumerate(SITES)}
    schema = {
        "columns": {
            "all": {"categories": ["yes"]},
            "days": {"kind": "integer", "bounds": [0, 1560]},
            "arrested": {"categories": ["0", "1"]},
        },
        "survival": {"time": "days", "event": "arrested"},
    }
    model = KaplanMeier(group="all", grid_days=30 * 26).fit(SimulatedNetwork(frames), job(schema, SITES))
    [curve] = model.curves_.values()
    assert curve.low == pytest.approx([0.875, 0.7361111111], abs=1e-10)
    assert curve.low == pytest.approx(curve.high, abs=1e-12)


def test_competing_causes_end_at_the_horizon_and_add_up() -> None:
    frames = transplanted()
    network, plain = SimulatedNetwork(frames), job(COMPETING, SITES)
    model = AalenJohansen(group="arm", grid_days=90).fit(network, plain)
    rows = pooled(frames)
    for arm, group in zip("AB", model.answer_["groups"], strict=False):
        for k, cause in enumerate("12"):
            expected = by_interval(rows, arm, cause, 90)
            opened = [(d, e) for d, e in zip(group["causes"][k], expected, strict=True) if d >= 0]
            assert len(opened) >= 6
            assert all(d == e for d, e in opened)
        assert len(group["events"]) == 8
    curves = model.curves_
    assert list(curves)[:2] == ["arm = A, relapse", "arm = A, death"]
    alive = KaplanMeier(group="arm", grid_days=90).fit(network, plain).curves_["arm = A"]
    # Until a split stays closed, both causes and survival make up the whole.
    total = curves["arm = A, relapse"].low + curves["arm = A, death"].low + alive.high
    assert total[0] == pytest.approx(1)
    # Nobody is in the third arm: a right answer, without a curve.
    assert np.isnan(curves["arm = C, death"].low).all()
    assert "arm = C" in str(model.summary())
    assert ET.fromstring(model.plot()).tag.endswith("svg")


def test_private_curves_of_competing_causes_lie_near_the_pooled_ones() -> None:
    frames = transplanted(2000)
    model = AalenJohansen(group="arm", grid_days=90, mode="private", budget_share=1.0).fit(
        SimulatedNetwork(frames), job(COMPETING, SITES)
    )
    assert set(model.answer_) == {"labels", "causes", "noise_std", "measured"}
    rows = pooled(frames)
    curve = model.curves_["arm = B, relapse"]
    own = rows[rows["arm"] == "B"]
    end = np.minimum(own["days"], 720)
    died = [by_interval(rows, "B", cause, 90) for cause in "12"]
    at_risk = [(np.maximum((end - 1) // 90, 0) >= t).sum() for t in range(8)]
    s = np.concatenate([[1], np.cumprod(1 - np.sum(died, axis=0) / at_risk)[:-1]])
    expected = np.cumsum(s * died[0] / at_risk)
    # Noise of some 5 in counts of hundreds.
    assert np.abs(curve.low - expected).max() < 0.03
    assert ((curve.lower < curve.low) & (curve.low < curve.upper)).all()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"group": "age", "grid_days": 180}, "must be a column with categories"),
        ({"group": "nobody", "grid_days": 180}, "is not in the schema"),
        ({"group": "sex", "grid_days": 7000}, "follow-up ends after 6000 days"),
    ],
)
def test_what_the_schema_does_not_allow_is_refused_by_field(fields: dict[str, object], rule: str) -> None:
    frames, plain = leukaemia()
    with pytest.raises(StudyError, match=rule):
        KaplanMeier(**fields).fit(SimulatedNetwork(frames), plain)


def test_incidence_needs_competing_causes_and_no_curve_more_than_400_intervals() -> None:
    frames, plain = leukaemia()
    with pytest.raises(StudyError, match="or ask for kaplan-meier"):
        AalenJohansen(group="sex", grid_days=180).fit(SimulatedNetwork(frames), plain)
    with pytest.raises(StudyError, match="greater than or equal to 30"):
        KaplanMeier(group="sex", grid_days=29)
    long = plain.data_schema.to_dict()
    long["columns"]["time"]["bounds"] = [0, 20000]
    with pytest.raises(StudyError, match="at most 400 intervals, so at least 50"):
        NelsonAalen(group="sex", grid_days=30).fit(SimulatedNetwork(frames), job(long, tuple(frames)))
    without = plain.data_schema.to_dict()
    del without["survival"]
    with pytest.raises(StudyError, match=r"need a \[survival\] section"):
        NelsonAalen(group="sex", grid_days=30).fit(SimulatedNetwork(frames), job(without, tuple(frames)))
    with pytest.raises(SchemaError, match="event column must have"):
        Schema.from_dict(COMPETING | {"survival": COMPETING["survival"] | {"competing": {"9": "relapse"}}})  # type: ignore[dict-item]


@pytest.mark.slow
def test_no_deaths_a_site_with_one_group_only_and_an_empty_group_have_right_answers() -> None:
    frames, plain = leukaemia()
    alive = {site: rows.assign(event="0") for site, rows in frames.items()}
    alive["alder"] = alive["alder"][alive["alder"]["sex"] == "F"].reset_index(drop=True)
    model = KaplanMeier(group="sex", grid_days=360).fit(SimulatedNetwork(alive), plain)
    for curve in model.curves_.values():
        assert set(curve.low[np.isfinite(curve.low)]) == {1.0}
    assert "not reached" in str(model.summary())
    women = {site: rows[rows["sex"] == "F"].reset_index(drop=True) for site, rows in frames.items()}
    model = KaplanMeier(group="sex", grid_days=360).fit(SimulatedNetwork(women), plain)
    assert np.isnan(model.curves_["sex = M"].low).all()
    assert np.isfinite(model.curves_["sex = F"].low[:3]).all()


def test_a_site_that_allows_no_exact_release_refuses() -> None:
    frames, plain = leukaemia(policy={"epsilon_cap": 1.0, "delta_cap": 1e-6})
    with pytest.raises(SiteRefused, match="no exact releases"):
        KaplanMeier(group="sex", grid_days=180).fit(SimulatedNetwork(frames), plain)
    frames, plain = leukaemia(policy=OPEN_POLICY | {"min_grid_days": 90})
    with pytest.raises(SiteRefused, match="grid_days must be at least 90"):
        KaplanMeier(group="sex", grid_days=60).fit(SimulatedNetwork(frames), plain)
    with pytest.raises(NotFitted):
        KaplanMeier(group="sex", grid_days=180).summary()


class Clinics(LocalFederation):
    """Hospitals as agents of their own, with these tests' patients."""

    def open_site(self, site: str):
        from privacy.ledger import open_ledger
        from synthema.site import Site, SitePolicy

        terms = {"epsilon_cap": 20.0, "delta_cap": 1e-5, "allow_exact": True}
        return Site(
            site,
            transplanted()[site],
            job(COMPETING, SITES).data_schema,
            ledger=open_ledger(f"sqlite:///{self.folder / site}.db", site=site),
            policy=SitePolicy(partners=frozenset(self.sites), **terms),
            secret=b"s" * 32,
        )


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Clinics]:
    found = Clinics(tmp_path)
    found.begin()
    yield found
    found.close()


@pytest.mark.slow
def test_over_a_network_every_curve_of_a_study_is_read_from_the_same_counts(federation: Clinics) -> None:
    curves = {"group": "arm", "grid_days": 90}
    study = job(
        COMPETING,
        SITES,
        federation={"dealer": DEALER},
        models={
            "incidence": {"kind": "aalen-johansen", **curves},
            "survival": {"kind": "kaplan-meier", **curves},
            "hazard": {"kind": "nelson-aalen", **curves},
            "noisy": {"kind": "log-rank", "group": "arm", "grid_days": 60, "mode": "private", "budget_share": 1.0},
        },
    )
    released = federation.run(study)["released"]
    answers = {each["name"]: each["answer"] for each in released["models"]}
    assert answers["incidence"] == answers["survival"] == answers["hazard"]
    alone = AalenJohansen(group="arm", grid_days=90).fit(SimulatedNetwork(transplanted()), job(COMPETING, SITES))
    assert alone.answer_ == answers["incidence"]
    assert np.shape(answers["noisy"]["measured"]) == (3, 1, 2, 12)


def test_the_outcome_is_no_group() -> None:
    _, job = leukaemia()
    with pytest.raises(StudyError, match="is the outcome"):
        job.with_model("curves", KaplanMeier(group="event", grid_days=180).spec_)
    with pytest.raises(StudyError, match="is the outcome"):
        job.with_model("test", LogRank(group="sex", strata=["event"], grid_days=30).spec_)
    with pytest.raises(StudyError, match=r"exact\.kaplan_meier\.group: 'event' is the outcome"):
        leukaemia(exact={"kaplan_meier": {"group": "event", "grid_days": 180}})
