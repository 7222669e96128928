"""Distances and survival curves against independent computations."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import Domain, DomainMismatch, compare_marginals, encode, kaplan_meier, workload_error
from privacy import Schema


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=40))
def test_kaplan_meier_equals_lifelines(patients):
    time = np.array([t for t, _ in patients], dtype=float)
    event = np.array([e for _, e in patients])
    grid = np.arange(0, 15, 0.5)
    # Imported here: seconds that every worker would wait for before its first test.
    from lifelines import KaplanMeierFitter

    oracle = KaplanMeierFitter().fit(time, event).survival_function_at_times(grid).to_numpy()
    assert np.allclose(kaplan_meier(time, event, grid), oracle, atol=1e-12)


def test_kaplan_meier_of_nobody_or_of_unequal_columns_is_refused():
    with pytest.raises(DomainMismatch):
        kaplan_meier(np.array([]), np.array([], dtype=bool), np.array([1.0]))
    with pytest.raises(DomainMismatch):
        kaplan_meier(np.array([1.0, np.nan]), np.array([True, True]), np.array([1.0]))
    with pytest.raises(DomainMismatch):
        kaplan_meier(np.array([1.0, 2.0]), np.array([True]), np.array([1.0]))


@pytest.fixture
def schema() -> Schema:
    return Schema.from_dict({"columns": {"a": {"categories": ["x", "y"]}, "b": {"categories": ["0", "1", "2"]}}})


def test_distances_equal_those_of_crosstabs(schema):
    rng = np.random.default_rng(1)
    one, two = (
        pd.DataFrame({"a": rng.choice(["x", "y"], n), "b": rng.choice(["0", "1", "2"], n, p=[0.5, 0.3, 0.2])})
        for n in (80, 130)
    )
    found = compare_marginals(one, two, schema)
    for name in "ab":
        p, q = one[name].value_counts(normalize=True), two[name].value_counts(normalize=True)
        assert found.one_way[name] == pytest.approx(p.sub(q, fill_value=0).abs().sum())
    p, q = (pd.crosstab(t["a"], t["b"], normalize=True) for t in (one, two))
    assert found.two_way["a", "b"] == pytest.approx(p.sub(q, fill_value=0).abs().to_numpy().sum())
    assert found.mean_one_way == pytest.approx(np.mean(list(found.one_way.values())))
    assert found.mean_two_way == found.two_way["a", "b"]


def test_a_table_is_at_distance_zero_of_itself_and_two_of_a_disjoint_one(schema):
    one, two = (pd.DataFrame({"a": [a] * 5, "b": [b] * 5}) for a, b in (("x", "0"), ("y", "1")))
    assert compare_marginals(one, one, schema).mean_two_way == 0
    assert compare_marginals(one, two, schema).mean_two_way == 2


def test_the_workload_error_is_the_mean_over_all_marginals(leuk_frame, leuk_schema):
    domain, codes = Domain.from_schema(leuk_schema), encode(leuk_frame, leuk_schema)
    half, other = codes[::2], codes[1::2]
    for order in (1, 2):
        by_hand = []
        for columns in itertools.combinations(range(len(domain)), order):
            p, q = (pd.DataFrame(t[:, columns]).value_counts(normalize=True).rename("p") for t in (half, other))
            by_hand.append(p.sub(q, fill_value=0).abs().sum())
        assert workload_error(half, other, domain, order=order) == pytest.approx(np.mean(by_hand))
    with pytest.raises(DomainMismatch, match="order"):
        workload_error(half, other, domain, order=8)
