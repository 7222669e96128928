"""Whatever a row holds, each round's sum changes by no more than was priced, and no round is without a price."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clinics import job
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import Composed, DistributedDiscreteGaussian, Event, Repeated, Schema
from synthema.errors import ModelFailed
from synthema.learning.model import Rounds
from synthema.steps import plan

SITES = ("vienna", "madrid", "milan")
SCHEMA = {
    "columns": {
        "days": {"kind": "integer", "bounds": [0, 1000], "edges": [100, 250, 500]},
        "died": {"categories": ["0", "1"]},
        "age": {"kind": "integer", "bounds": [-3, 97], "edges": [50]},
        "dose": {"kind": "continuous", "bounds": [1e-3, 7.7], "edges": [5]},
        "late": {"kind": "continuous", "bounds": [0, 0.3], "edges": [0.1, 0.2], "nullable": True},
        "grade": {"categories": ["low", "mid", "high"], "nullable": True},
        "ward": {"categories": ["a", "b", "c"]},
        "grafts": {"kind": "integer", "bounds": [0, 40], "edges": [5]},
    },
    "survival": {"time": "days", "event": "died"},
}
MODELS: dict[str, dict[str, Any]] = {
    "logistic": {"kind": "logistic", "horizon_days": 365, "covariates": ["age", "dose", "ward"]},
    "linear": {"kind": "linear", "outcome": "age", "covariates": ["dose", "ward"]},
    "poisson": {"kind": "poisson", "outcome": "grafts", "exposure": "dose", "covariates": ["age", "ward"]},
    "cox": {"kind": "cox", "covariates": ["age", "dose", "ward"], "grid_days": 90},
    "kaplan-meier": {"kind": "kaplan-meier", "group": "grade", "grid_days": 90},
    "log-rank": {"kind": "log-rank", "group": "ward", "strata": ["grade"], "grid_days": 90},
    "trees": {"kind": "boosted-trees", "horizon_days": 365, "covariates": ["late", "grade", "age"], "rounds": 7},
    "table-one": {"kind": "table-one", "columns": ["age", "late", "ward"], "by": "grade"},
    "k-means": {"kind": "k-means", "columns": ["age", "dose", "grafts"], "n_clusters": 3},
}
STUDIES = {
    name: job(SCHEMA, SITES, models={"m": fields | {"mode": "private", "budget_share": 1.0}})
    for name, fields in MODELS.items()
}


def _ends(low: float, high: float) -> st.SearchStrategy[float]:
    return st.one_of(st.sampled_from([low, high, (low + high) / 2]), st.floats(low, high))


ROW = st.fixed_dictionaries(
    {
        "days": st.one_of(st.sampled_from([0, 1, 365, 366, 1000]), st.integers(0, 1000)),
        "died": st.sampled_from(["0", "1"]),
        "age": st.one_of(st.sampled_from([-3, 47, 97]), st.integers(-3, 97)),
        "dose": _ends(1e-3, 7.7),
        "late": st.one_of(st.just(float("nan")), _ends(0.0, 0.3)),
        "grade": st.sampled_from(["low", "mid", "high", None]),
        "ward": st.sampled_from(["a", "b", "c"]),
        "grafts": st.sampled_from([0, 1, 40]),
    }
)


def _releases(event: Event) -> Iterator[DistributedDiscreteGaussian]:
    """The priced releases one by one."""
    match event:
        case Composed(events=parts):
            for part in parts:
                yield from _releases(part)
        case Repeated(event=part, count=count):
            for _ in range(count):
                yield from _releases(part)
        case DistributedDiscreteGaussian():
            yield event
        case _:
            raise AssertionError(event)


class _Alone(Rounds):
    """Rounds of a site with this one patient; what is opened is anything."""

    def __init__(self, study: Any, rows: pd.DataFrame, seed: int) -> None:
        [step] = plan(study)
        self.study, self.spec, self.event = study, study.models["m"], step.event
        self._half = self.spec.site_half(study, self.schema, rows)
        self._nobody = self.spec.site_half(study, self.schema, rows.head(0))
        self._random = np.random.default_rng(seed)
        self.left = list(_releases(step.event))

    @property
    def schema(self) -> Schema:
        return self.study.data_schema

    def run(self, what: str, protocol: Any, *, opened: Any = None) -> Any:
        del protocol
        priced = self.left.pop(0)
        given, empty = (half.contribute(what, opened).values for half in (self._half, self._nobody))
        assert not empty.any()
        # Words of 64 bits are too short for squares of the whole vector.
        ints = [int(each) for each in given.ravel()]
        assert sum(each * each for each in ints) <= priced.l2_sensitivity_squared
        assert sum(abs(each) for each in ints) <= priced.l1_sensitivity
        assert len(ints) <= priced.dimension
        noise = self._random.normal(0, 5 * priced.per_party_scale, given.shape)
        # Of a cohort, so that fits go on.
        return np.rint(np.abs(noise) * 20 + 50 * priced.per_party_scale).astype(np.int64)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12, deadline=None)
@given(row=ROW, seed=st.integers(0, 1000))
def test_no_row_changes_a_sum_by_more_than_was_priced(name: str, row: dict[str, Any], seed: int) -> None:
    rounds = _Alone(STUDIES[name], pd.DataFrame([row]), seed)
    try:
        rounds.spec.fit(rounds)
    except ModelFailed:
        # Of numbers that came from no patients.
        return
    assert not rounds.left


@pytest.mark.parametrize("name", MODELS)
def test_a_patient_who_is_counted_twice_is_seen(name: str) -> None:
    """The negative control: prices are no larger than they have to be."""
    seen = False
    for i in range(10):
        row = {"days": 365 * (i % 2), "died": str(i % 2), "age": 97 if i % 3 else -3, "dose": 7.7, "late": 0.3}
        row |= {"grade": "high", "ward": "c", "grafts": 40}
        rounds = _Alone(STUDIES[name], pd.DataFrame([row, row]), i)
        try:
            rounds.spec.fit(rounds)
        except ModelFailed:
            continue
        except AssertionError:
            seen = True
            break
    assert seen
