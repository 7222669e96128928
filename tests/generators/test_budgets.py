"""Whatever the schema joins, whoever the neighbours are: no mechanism spends more than it was given.

A watched oracle answers from one table and looks at a neighbouring one beside it. For each question that a mechanism
asks, it compares how far one patient moves the exact answer with what the event in the list pays for.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import AIM, MST, Adaptive, ChowLiu, Independent, LocalTableOracle, PrivBayes
from generators.grouping import check_groups
from privacy import DiscreteGaussian, ExponentialMechanism, InsecureSeededRng, Schema, ZcdpAccountant, rho_of

MECHANISMS = [MST, ChowLiu, Independent, PrivBayes, AIM, Adaptive]

TWO, FIVE = ["0", "1"], [str(i) for i in range(5)]
TIME = {"kind": "integer", "bounds": [1, 900], "edges": [90, 365]}


def forbid(first, second):
    return {"forbid": {first: "1", second: "1"}}


SCHEMAS = {
    "one column": {"columns": {"a": {"categories": FIVE}}},
    "one column of one code": {"columns": {"a": {"categories": ["x"]}}},
    "two columns": {"columns": {"a": {"categories": FIVE}, "b": {"categories": TWO}}},
    "two columns that survival joins": {
        "columns": {"time": TIME, "event": {"categories": TWO}},
        "survival": {"time": "time", "event": "event"},
    },
    "four columns": {"columns": {name: {"categories": FIVE if name == "a" else TWO} for name in "abcd"}},
    "a tree of rules": {
        "columns": {name: {"categories": TWO} for name in "abcd"},
        "rules": [forbid("a", "b"), forbid("b", "c"), forbid("b", "d")],
    },
    "rules that close a cycle": {
        "columns": {name: {"categories": TWO} for name in "abcd"},
        "rules": [forbid("a", "b"), forbid("b", "c"), forbid("a", "c")],
    },
    "a clique of three that is known": {
        "columns": {"sex": {"categories": TWO}, "time": TIME, "event": {"categories": TWO}, "b": {"categories": FIVE}},
        "survival": {"time": "time", "event": "event", "strata": ["sex"]},
    },
    "a pattern of missing values": {
        "columns": {
            "a": {"categories": TWO, "nullable": True},
            "b": {"categories": TWO, "nullable": True},
            "c": {"categories": FIVE},
        },
        "missing": {"patterns": [["a", "b"]]},
    },
}


def table_of(schema, codes):
    """Return the table whose columns hold the category, or a number of the bin, of each code (taken modulo)."""
    out = {}
    for position, name in enumerate(schema.coded):
        column = schema.column(name)
        labels = [*(column.categories or column.bin_edges[:-1].astype(int).tolist()), *[None] * column.nullable]
        out[name] = pd.Series([labels[row[position] % len(labels)] for row in codes], dtype=object)
    return pd.DataFrame(out)


class Watched(LocalTableOracle):
    """Answers from a table, and compares each answer with that of its neighbour."""

    def __init__(self, frame, neighbour, schema, **options):
        super().__init__(frame, schema, rng=InsecureSeededRng(7), **options)
        self.other = LocalTableOracle(neighbour, schema, **options)
        self.closest = 0.0

    def measure(self, cliques, *, rho, groups=None):
        before = len(self.events)
        answer = super().measure(cliques, rho=rho, groups=groups)
        [event] = self.events[before:]
        merged = check_groups(groups, self.domain)
        pairs = zip(self._each_count(cliques, merged), self.other._each_count(cliques, merged), strict=True)
        changes = [one - two for one, two in pairs]
        squared = sum(int(np.square(change).sum()) for change in changes)
        assert isinstance(event, DiscreteGaussian)
        assert squared <= event.l2_sensitivity_squared
        assert max(int(np.abs(change).max()) for change in changes) <= event.linf_sensitivity
        assert rho_of(event) <= rho
        assert all(part.noise_std == event.scale for part in answer)
        self.closest = max(self.closest, squared / event.l2_sensitivity_squared)
        return answer

    def select(self, candidates, estimates, *, epsilon, weights=None, penalties=None, groups=None):
        before = len(self.events)
        chosen = super().select(
            candidates, estimates, epsilon=epsilon, weights=weights, penalties=penalties, groups=groups
        )
        assert self.events[before:] == [ExponentialMechanism(epsilon)]
        merged = check_groups(groups, self.domain)
        known = [np.asarray(estimate) for estimate in estimates]
        scores = zip(*(one._scores(candidates, known, merged) for one in (self, self.other)), strict=True)
        factors = weights or [1] * len(candidates)
        most = max(factors) * self._max_records * (1 if self.neighbours == "add_remove_one" else 2) << 20
        assert max(factor * abs(one - two) for factor, (one, two) in zip(factors, scores, strict=True)) <= most
        return chosen


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.__name__)
@pytest.mark.parametrize(
    ("neighbours", "most", "rho"),
    [
        ("add_remove_one", 2, 0.3),
        ("replace_one", 3, 40.0),
        pytest.param("add_remove_one", 1, 0.3, marks=pytest.mark.slow),
        pytest.param("add_remove_one", 2, 1e-4, marks=pytest.mark.slow),
    ],
)
def test_no_mechanism_spends_more_than_it_was_given_or_less_than_it_owes(mechanism, name, neighbours, most, rho):
    schema = Schema.from_dict(SCHEMAS[name])
    rng = np.random.default_rng(3)
    # At most one column is not zero, so no rule is broken.
    others = [
        np.where(np.arange(len(schema.coded)) == i, value, 0).tolist() for i, value in rng.integers(0, 5, (60, 2))
    ]
    # All rows of the patient are alike: the worst that a patient can be.
    mine, another = [[0] * len(schema.coded)] * most, [[1, *[0] * (len(schema.coded) - 1)]] * most
    with_me = table_of(schema, [*mine, *others])
    without = table_of(schema, [*(another if neighbours == "replace_one" else []), *others])
    oracle = Watched(with_me, without, schema, neighbours=neighbours, max_records_per_patient=most)
    model = mechanism(rho=rho).fit(None, schema, oracle=oracle)
    assert list(model.events) == oracle.events
    accountant = ZcdpAccountant(neighbours=neighbours)
    for event in model.events:
        accountant.compose(event)
    assert accountant.rho <= rho
    # Nothing is left lying about either (a selection of large epsilon costs less than its share, epsilon^2 / 8), and
    # some question was as sensitive as its price says.
    shares = [
        event.epsilon**2 / 8 if isinstance(event, ExponentialMechanism) else rho_of(event) for event in model.events
    ]
    assert math.fsum(shares) > 0.999 * rho
    if neighbours == "add_remove_one":
        assert oracle.closest == 1.0


@given(st.data())
def test_one_patients_rows_move_any_vector_of_merged_marginals_by_no_more_than_is_paid_for(data):
    domain = {"a": 4, "b": 3, "c": 2}
    schema = Schema.from_dict(
        {"columns": {name: {"categories": [str(i) for i in range(size)]} for name, size in domain.items()}}
    )
    most = data.draw(st.integers(1, 3))
    neighbours = data.draw(st.sampled_from(["add_remove_one", "replace_one"]))
    row = st.tuples(*(st.integers(0, size - 1) for size in domain.values()))
    others = data.draw(st.lists(row, min_size=1, max_size=8))
    mine = data.draw(st.lists(row, max_size=most))
    another = data.draw(st.lists(row, max_size=most)) if neighbours == "replace_one" else []
    cliques = data.draw(
        st.lists(
            st.sampled_from([c for k in (1, 2, 3) for c in itertools.permutations(domain, k)]), min_size=1, max_size=4
        )
    )
    groups = {
        name: np.unique(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)), return_inverse=True)[1]
        for name, size in domain.items()
        if data.draw(st.booleans())
    }
    oracle = Watched(
        table_of(schema, [*mine, *others]),
        table_of(schema, [*another, *others]),
        schema,
        neighbours=neighbours,
        max_records_per_patient=most,
    )
    oracle.measure(cliques, rho=0.1, groups=groups)
    shapes = [part.values.shape for part in oracle.measure(cliques, rho=0.1, groups=groups)]
    weights = data.draw(st.lists(st.integers(1, 5), min_size=len(cliques), max_size=len(cliques)))
    oracle.select(cliques, [np.full(shape, 0.7) for shape in shapes], epsilon=1.0, weights=weights, groups=groups)


def test_an_event_that_pays_for_too_little_is_noticed():
    # The negative control: the oracle is told that patients have one row, and they have two.
    schema = Schema.from_dict(SCHEMAS["two columns"])
    rows = [[0, 0], [1, 1], [2, 0]]
    oracle = Watched(table_of(schema, [[0, 0], [0, 0], *rows]), table_of(schema, rows), schema)
    with pytest.raises(AssertionError):
        oracle.measure([("a",)], rho=0.1)
    with pytest.raises(AssertionError):
        oracle.select([("a",)], [np.zeros(5)], epsilon=1.0)
