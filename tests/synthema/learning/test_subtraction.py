"""Exact models of one study beside each other: what could be subtracted is refused, and what it would have told."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clinics import OPEN_POLICY, job, leukaemia
from local_rounds import fitted

from privacy import Schema
from synthema.errors import DisclosureRefused, StudyError
from synthema.learning import GradientBoosting, KMeans, LinearRegression, TableOne, cox_shares, log_rank
from synthema.learning.boosting import BoostedTreesSpec
from synthema.learning.boosting_fit import known_rows
from synthema.learning.cox import CoxSpec
from synthema.learning.kmeans import KMeansSpec
from synthema.learning.regression import LinearSpec, LogisticSpec, PoissonSpec
from synthema.learning.responses import outcome_of
from synthema.learning.table_one import TableOneSpec
from synthema.submitters import SimulatedNetwork

SITES = ("vienna", "madrid", "milan")
SCHEMA = {
    "columns": {
        "age": {"kind": "integer", "bounds": [0, 100], "edges": [50]},
        "dose": {"kind": "continuous", "bounds": [0, 10], "edges": [5]},
        "grafts": {"kind": "integer", "bounds": [0, 20], "edges": [5]},
        "flag": {"kind": "integer", "bounds": [0, 3], "edges": [2]},
        "ward": {"categories": ["a", "b", "c"]},
    }
}
PRIVATE = {"mode": "private", "budget_share": 0.5}


def _frames(n: int = 200) -> dict[str, pd.DataFrame]:
    """Simulated, fixed: one patient is alone in ward c."""
    frames = {}
    for i, site in enumerate(SITES):
        random = np.random.default_rng(i)
        frames[site] = pd.DataFrame(
            {
                "age": np.clip(np.rint(random.normal(55, 14, n)), 0, 100).astype(np.int64),
                "dose": random.uniform(0, 10, n),
                "grafts": 0,
                "flag": 0,
                "ward": random.choice(["a", "b"], n),
            }
        )
    frames["vienna"].loc[0, ["age", "ward"]] = [93, "c"]
    return frames


def test_a_small_group_is_not_all_patients_less_the_others() -> None:
    frames, study = _frames(), job(SCHEMA, SITES)
    table, _ = fitted(study, TableOneSpec(columns=("age",), by="ward"), frames)
    model, rounds = fitted(study, LinearSpec(outcome="dose", covariates=("age",)), frames)
    # Each by itself is opened; together they are the patient of ward c.
    shown = sum(size for size in table["sizes"] if size is not None)
    assert model["patients"] - shown == 1
    means, sizes = table["columns"][0]["mean"], table["sizes"]
    of_wards = sum(float(mean) * size for mean, size in zip(means, sizes, strict=True) if mean is not None)
    # Score of two coefficients, then the information: patients, ages scaled by their bounds.
    n, scaled = np.ldexp(rounds.answers["sums/0"][2:4].astype(np.float64), -28)
    assert 50 * scaled + 50 * n - of_wards == pytest.approx(93, abs=1e-3)
    both = {
        "t": {"kind": "table-one", "columns": ["age"], "by": "ward"},
        "l": {"kind": "linear", "outcome": "dose", "covariates": ["age"]},
    }
    network = SimulatedNetwork(frames)
    with pytest.raises(DisclosureRefused, match="a group holds 1 to 19 patients"):
        network.submit(job(SCHEMA, SITES, models=both))
    frames["vienna"].loc[0, "ward"] = "a"
    released = SimulatedNetwork(frames).submit(job(SCHEMA, SITES, name="large", models=both))["released"]
    answers = {each["name"]: each["answer"] for each in released["models"]}
    assert answers["t"]["sizes"][2] == 0


def test_a_second_clustering_would_tell_who_lies_between() -> None:
    study = job(SCHEMA, SITES)
    # Simulated, fixed: three groups of doses.
    frames = {}
    for i, site in enumerate(SITES):
        random = np.random.default_rng(i)
        random.choice(3, 300), random.normal(size=300)
        dose = np.clip(random.normal(np.array([2.0, 8.0, 5.0])[random.choice(3, 300)], 0.8), 0, 10)
        frames[site] = pd.DataFrame({"dose": dose})
    sizes = [
        fitted(study, KMeansSpec(columns=("dose",), n_clusters=k, max_iterations=most), frames)[0]["sizes"]
        for k in (3, 4, 5)
        for most in (1, 2, 3)
    ]
    moved = [
        abs(a - b)
        for one, other in itertools.pairwise(sizes)
        if len(one) == len(other)
        for a, b in zip(one, other, strict=True)
    ]
    assert any(0 < each < 5 for each in moved)
    model = {"kind": "k-means", "columns": ["dose"], "n_clusters": 3}
    with pytest.raises(StudyError, match="a second exact k-means could be subtracted"):
        job(SCHEMA, SITES, models={"a": model, "b": model | {"max_iterations": 1}})
    assert job(SCHEMA, SITES, models={"a": model, "b": model | PRIVATE}).models


def test_clusters_of_survival_times_stand_beside_no_survival_results() -> None:
    _, plain = leukaemia()
    clusters = {"kind": "k-means", "columns": ["time"], "n_clusters": 3}
    curves = {"kind": "kaplan-meier", "group": "sex", "grid_days": 360}
    with pytest.raises(StudyError, match=r"models\.a: leave the survival columns out"):
        job(plain.data_schema, tuple(plain.sites), models={"a": clusters, "b": curves})
    assert job(plain.data_schema, tuple(plain.sites), models={"a": clusters | {"columns": ["age"]}, "b": curves}).models


@pytest.mark.parametrize("turned", [False, True])
def test_a_patient_at_the_far_bound_makes_up_the_sum_of_distances_from_the_other(*, turned: bool) -> None:
    frames, study = _frames(), job(SCHEMA, SITES)
    for frame in frames.values():
        frame["grafts"] = 20 * turned
    frames["vienna"].loc[1, "grafts"] = 20 - 20 * turned
    answer, _ = fitted(study, TableOneSpec(columns=("grafts", "age")), frames)
    grafts, age = answer["columns"]
    assert grafts["mean"] is None
    assert "one patient" in grafts["reason"]
    assert age["mean"] is not None


@pytest.mark.parametrize("fields", [{"outcome": "dose", "covariates": ("grafts", "age")}, {"outcome": "grafts"}])
def test_a_number_that_one_patient_has_does_not_give_away_the_others_of_that_patient(fields: dict[str, Any]) -> None:
    frames, study = _frames(), job(SCHEMA, SITES)
    frames["vienna"].loc[1, "grafts"] = 20
    spec = LinearSpec(**({"covariates": ("age", "dose")} | fields))
    with pytest.raises(DisclosureRefused, match=r"one patient would make up more than 0\.9 of a sum"):
        fitted(study, spec, frames)
    # The attack on what would be opened: the sum of (1 + x) y less nobody else's, for x = -1 at all others.
    rows = pd.concat(list(frames.values()), ignore_index=True)
    x, y = rows["grafts"] / 10 - 1, rows["dose"] / 5 - 1
    assert ((x * y).sum() + y.sum()) / 2 == pytest.approx(frames["vienna"].loc[1, "dose"] / 5 - 1)
    for frame in frames.values():
        frame.loc[:20, "grafts"] = 20
    assert fitted(study, spec, frames)[0]["coefficients"]


def test_sums_of_few_values_are_counts() -> None:
    frames, study = _frames(), job(SCHEMA, SITES)
    network = SimulatedNetwork(frames)
    with pytest.raises(StudyError, match="'flag' has few values"):
        TableOne(columns=["flag"]).fit(network, study)
    assert TableOne(columns=["flag"], **PRIVATE).fit(network, study).answer_


AT_RISK = np.array([[100.0, 80, 55, 20], [120.0, 90, 60, 25]])
DEATHS = np.array([[12.0, 3, 15, 10], [20.0, 2, 11, 9]])


def test_the_first_score_of_cox_is_that_of_a_log_rank_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack that the rule prevents: curves by group with one closed count each, and Cox's model of the group."""
    # Four times are easier to solve than the twenty that a study needs.
    monkeypatch.setattr(cox_shares, "LEAST_TIMES", 4)
    rows = []
    for g, name in enumerate("ab"):
        left = [*AT_RISK[g], 0.0]
        for t in range(4):
            died, gone = int(DEATHS[g, t]), int(left[t] - left[t + 1])
            rows += [(5 * t + 5, "1" if i < died else "0", name) for i in range(gone)]
    table = pd.DataFrame(rows, columns=["days", "died", "arm"])
    table["dose"] = np.random.default_rng(0).uniform(-1, 1, len(table))
    schema = {
        "columns": {
            "days": {"kind": "integer", "bounds": [0, 100], "edges": [50]},
            "died": {"categories": ["0", "1"]},
            "arm": {"categories": ["a", "b"]},
            "dose": {"kind": "continuous", "bounds": [-1, 1], "edges": [0]},
        },
        "survival": {"time": "days", "event": "died"},
    }
    study = job(schema, SITES, policy=OPEN_POLICY | {"min_grid_days": 1})
    frames = {site: table[i::3].reset_index(drop=True) for i, site in enumerate(SITES)}
    spec = CoxSpec(covariates=("dose", "arm"), grid_days=5, ties="breslow")
    _, rounds = fitted(study, spec, frames)
    score = rounds.answers["sums/0"][1] / 2**8
    deaths = DEATHS.copy()
    fitting = []
    for guess in itertools.product(range(1, 5), repeat=2):
        deaths[:, 1] = guess
        if abs(log_rank.from_counts(AT_RISK, deaths)[0][1] - score) < 2**-7:
            fitting.append(guess)
    assert fitting == [(3, 2)]
    cox: dict[str, Any] = {"kind": "cox", "covariates": ["dose", "arm"], "grid_days": 5}
    curves = {"kind": "kaplan-meier", "group": "arm", "grid_days": 30}
    with pytest.raises(StudyError, match="an exact Cox model stands beside no exact curves"):
        job(schema, SITES, models={"a": cox, "b": curves})
    with pytest.raises(StudyError, match="share grid_days"):
        job(schema, SITES, models={"a": cox, "b": cox | {"grid_days": 4}})
    assert job(schema, SITES, models={"a": cox, "b": curves | PRIVATE, "c": cox | {"covariates": ["dose"]}}).models
    for kind in ({"kind": "cox", "covariates": ["dose"]}, {"kind": "log-rank", "group": "arm"} | PRIVATE):
        with pytest.raises(StudyError, match="within one interval"):
            job(schema, SITES, models={"a": kind | {"grid_days": 10**30}})


@pytest.mark.parametrize(
    ("estimator", "fields"),
    [
        (LinearRegression, {"outcome": "dose", "covariates": ["age"]}),
        (TableOne, {"columns": ["age"]}),
        (KMeans, {"columns": ["age"], "n_clusters": 2}),
        (GradientBoosting, {"outcome": "ward", "event_category": "a", "covariates": ["age"]}),
    ],
)
@pytest.mark.parametrize(
    "answer", ["{}", '{"coefficients": [["x", "y", 1]]}', '{"centres": 5, "sizes": null, "trees": 1}']
)
def test_files_that_hold_no_answer_are_refused(estimator: Any, fields: Any, answer: str) -> None:
    spec = estimator(**fields).spec_.model_dump()
    with pytest.raises(StudyError, match="this is no"):
        estimator.from_json(json.dumps({"format": "synthema-model-v1", "spec": spec, "answer": json.loads(answer)}))


@pytest.mark.parametrize("causes", [{"2": "relapse", "3": "other"}, {"1": "relapse", "2": "other"}])
@pytest.mark.parametrize(
    "sections",
    [
        {"models": {"m": {"kind": "cox", "covariates": ["dose"], "grid_days": 5}}},
        {"models": {"m": {"kind": "cox", "covariates": ["dose"], "grid_days": 5} | PRIVATE}},
        {"models": {"m": {"kind": "logistic", "covariates": ["dose"], "horizon_days": 5}}},
        {
            "models": {
                "m": {"kind": "boosted-trees", "covariates": ["dose"], "horizon_days": 5, "rounds": 1, "depth": 1}
            }
        },
        {"exact": {"logistic": {"covariates": ["dose"], "horizon_days": 5}}},
        {"exact": {"kaplan_meier": {"group": "arm", "grid_days": 30}}},
    ],
)
def test_other_causes_are_not_taken_for_losses(sections: dict[str, Any], causes: dict[str, str]) -> None:
    schema = {
        "columns": {
            "days": {"kind": "integer", "bounds": [0, 100], "edges": [50]},
            "cause": {"categories": ["0", *causes]},
            "arm": {"categories": ["a", "b"]},
            "dose": {"kind": "continuous", "bounds": [-1, 1], "edges": [0]},
        },
        "survival": {"time": "days", "event": "cause", "competing": causes},
    }
    with pytest.raises(StudyError, match=r"needs a category '1' and no other causes.*name a cause in a log-rank test"):
        job(schema, SITES, **sections)
    curves = {"kind": "aalen-johansen", "group": "arm", "grid_days": 30}
    assert job(schema, SITES, models={"m": curves}).models


HORIZON_MODELS: list[dict[str, Any]] = [
    {"kind": "logistic", "covariates": ["dose"]},
    {"kind": "boosted-trees", "covariates": ["dose"], "rounds": 1, "depth": 1},
]


def _followed(**survival: Any) -> dict[str, Any]:
    return {
        "columns": {
            "days": {"kind": "integer", "bounds": [0, 100], "edges": [50]},
            "died": {"categories": ["0", "1"]},
            "dose": {"kind": "continuous", "bounds": [-1, 1], "edges": [0]},
        },
        "survival": {"time": "days", "event": "died"} | survival,
    }


def test_an_outcome_by_a_horizon_ends_where_the_schemas_follow_up_does() -> None:
    rows = pd.DataFrame(
        {"days": [10, 40, 50, 60, 30, 90], "died": ["1", "1", "1", "1", "0", "0"], "dose": np.linspace(-1, 1, 6)}
    )
    found = []
    for ends in ({}, {"horizon": 50}):
        schema = Schema.from_dict(_followed(**ends))
        known, y = outcome_of(LogisticSpec(covariates=("dose",), horizon_days=50), schema, rows)
        assert known.tolist() == [True, True, True, True, False, True]
        spec = BoostedTreesSpec(covariates=("dose",), horizon_days=50, rounds=1, depth=1)
        assert known_rows(spec, schema, rows)[1].tolist() == y[known].astype(bool).tolist()
        found.append(y.tolist())
    # Whoever died on the last day was followed to it, without event.
    assert found == [[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize("model", HORIZON_MODELS)
def test_no_model_looks_beyond_the_schemas_horizon(model: dict[str, Any]) -> None:
    schema = _followed(horizon=50)
    assert job(schema, SITES, models={"m": model | {"horizon_days": 50}}).models
    with pytest.raises(StudyError, match=r"horizon_days: follow-up ends after 50 days by the schema's horizon"):
        job(schema, SITES, models={"m": model | {"horizon_days": 51}})
    exact = {"logistic": {"covariates": ["dose"], "horizon_days": 51}}
    with pytest.raises(StudyError, match=r"exact\.logistic\.horizon_days: follow-up ends after 50 days"):
        job(schema, SITES, exact=exact)


@pytest.mark.parametrize("repeated", [1, 4, 5])
def test_a_count_of_two_or_more_that_few_have_is_the_total_less_the_number_of_events(repeated: int) -> None:
    frames, study = _frames(), job(SCHEMA, SITES)
    for i, frame in enumerate(frames.values()):
        frame["grafts"] = np.random.default_rng(i).integers(0, 2, len(frame))
    frames["vienna"].loc[: repeated - 1, "grafts"] = 13
    everybody = pd.concat(list(frames.values()))["grafts"]
    # The attack: what is known of the patients, and the total that a model opens first.
    assert everybody.sum() - np.count_nonzero(everybody) == 12 * repeated
    spec = PoissonSpec(outcome="grafts", covariates=("age", "dose"), min_cell=5)
    if repeated < spec.min_cell:
        with pytest.raises(DisclosureRefused, match="holds 1 to 4 patients"):
            fitted(study, spec, frames)
    else:
        assert fitted(study, spec, frames)[0]["coefficients"]


def test_counts_of_two_or_more_are_tested_in_each_category() -> None:
    frames, study = _frames(), job(SCHEMA, SITES)
    for i, frame in enumerate(frames.values()):
        frame["grafts"] = np.where(frame["ward"] == "a", np.random.default_rng(i).integers(0, 4, len(frame)), 1)
    frames["vienna"].loc[0, "ward"] = "b"
    frames["vienna"].loc[0, "grafts"] = 1
    for frame in frames.values():
        frame.loc[50:60, ["ward", "grafts"]] = ["b", 0]
    spec = PoissonSpec(outcome="grafts", covariates=("age", "dose", "ward"), min_cell=5)
    frames["madrid"].loc[3, ["ward", "grafts"]] = ["b", 2]
    with pytest.raises(DisclosureRefused, match="holds 1 to 4 patients"):
        fitted(study, spec, frames)


def test_trees_by_a_horizon_beside_a_model_of_all_patients_would_tell_who_was_lost() -> None:
    frames = {}
    for i, site in enumerate(SITES):
        random = np.random.default_rng(i)
        died = random.random(200) < 0.5
        rows = {"days": np.where(died, 20, 90), "died": np.where(died, "1", "0"), "dose": random.uniform(-1, 1, 200)}
        frames[site] = pd.DataFrame(rows)
    # One patient is lost before the horizon.
    frames["vienna"].loc[np.flatnonzero(frames["vienna"]["died"] == "0")[0], "days"] = 10
    schema = _followed()
    study = job(schema, SITES, federation={"most_patients": 1000})
    trees: dict[str, Any] = {"kind": "boosted-trees", "horizon_days": 50, "rounds": 1, "depth": 1}
    everybody: dict[str, Any] = {"kind": "linear", "outcome": "dose"}
    schema["columns"]["age"] = {"kind": "integer", "bounds": [0, 100], "edges": [50]}
    _, rounds = fitted(study, BoostedTreesSpec(covariates=("dose",), **trees), frames)
    # The attack: deaths are known, the rate is opened to 2^-12, and a linear model says how many patients there are.
    n_all = sum(len(frame) for frame in frames.values())
    n_died = sum(int((frame["died"] == "1").sum()) for frame in frames.values())
    [rate] = rounds.answers["counts"]
    assert [lost for lost in range(30) if abs(n_died / (n_all - lost) * 4096 - rate) <= 0.5] == [1]
    asked = {"t": trees | {"covariates": ["dose"]}, "l": everybody | {"covariates": ["age"]}}
    with pytest.raises(
        StudyError, match=r"models\.t: exact boosted trees by a horizon stand beside no exact models of all"
    ):
        job(schema, SITES, models=asked)
    table = {"kind": "table-one", "columns": ["age"]}
    with pytest.raises(StudyError, match=r"models\.t: exact boosted trees by a horizon"):
        job(schema, SITES, models={"t": asked["t"], "o": table})
    by = {"kind": "logistic", "covariates": ["dose"], "horizon_days": 50}
    # Of the same patients, or one of the two with noise; regressions test those who were lost.
    for models in (
        {"t": asked["t"], "b": by},
        {"t": asked["t"], "l": asked["l"] | PRIVATE},
        {"t": asked["t"] | PRIVATE, "l": asked["l"]},
        {"b": by, "l": asked["l"]},
    ):
        assert job(schema, SITES, models=models).models
