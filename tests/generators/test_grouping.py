"""Merged codes: sums are right, sensitivities stay, what is told apart again is one distribution and breaks no rule."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import MST, Domain, DomainMismatch, LocalTableOracle, Measurement, UnknownColumn, count_marginal
from generators.compression import merge_evidence, merge_rare, merge_zeros, shares_of, tell_apart
from generators.forest import Forest
from generators.grouping import check_groups, coarse_domain, merge_codes
from generators.inference import Evidence, estimate_total, fit_forest, margins, pool
from privacy import InsecureSeededRng, Schema, rho_of


def dice(n_codes: int):
    """Groups of a column of n_codes codes, numbered 0, 1, ... without gaps."""
    return st.lists(st.integers(0, n_codes - 1), min_size=n_codes, max_size=n_codes).map(
        lambda raw: np.unique(raw, return_inverse=True)[1]
    )


@given(dice(5), dice(4), st.lists(st.integers(0, 59), max_size=40))
def test_merging_is_counting_the_groups_and_a_row_more_moves_one_count_by_one(first, second, rows):
    domain = Domain(("a", "b", "c"), (5, 4, 3))
    codes = np.array([np.unravel_index(row, (5, 4, 3)) for row in rows], dtype=np.uint8).reshape(-1, 3)
    groups = check_groups({"a": first, "b": second}, domain)
    grouped = np.stack([first[codes[:, 0]], second[codes[:, 1]], codes[:, 2]], axis=1)
    coarse = coarse_domain(domain, groups)
    for clique in [("a", "b", "c"), ("c", "a"), ("b",)]:
        merged = merge_codes(count_marginal(codes, domain, clique), clique, groups)
        assert np.array_equal(merged, count_marginal(grouped, coarse, clique))
        if len(codes):
            fewer = merge_codes(count_marginal(codes[1:], domain, clique), clique, groups)
            assert np.abs(merged - fewer).sum() == 1


def test_a_group_far_beyond_the_codes_is_refused_before_anything_is_allocated():
    with pytest.raises(DomainMismatch, match="numbered"):
        check_groups({"a": [0, 0, 1 << 40]}, Domain(("a",), (3,)))


def test_groups_are_checked():
    domain = Domain(("sex", "age"), (2, 3))
    assert check_groups(None, domain) == check_groups({"age": [0, 1, 2]}, domain) == {}
    for bad in ([0, 1], [0, 2, 2], [-1, 0, 1], [0.0, 0.0, 1.0], [1, 1, 1]):
        with pytest.raises(DomainMismatch, match="'age'"):
            check_groups({"age": np.array(bad)}, domain)
    with pytest.raises(UnknownColumn):
        check_groups({"hair": [0, 0]}, domain)


@pytest.fixture
def table():
    columns = {"a": {"categories": list("vwxyz")}, "b": {"categories": ["0", "1"]}}
    frame = pd.DataFrame({"a": list("vvvvwwxyyz") * 100, "b": list("0101010101") * 100})
    return Schema.from_dict({"columns": columns}), frame


def test_an_oracle_measures_groups_at_the_price_of_codes(table):
    schema, frame = table
    oracle = LocalTableOracle(frame, schema)
    group = np.array([0, 1, 2, 2, 2])
    a, b, pair = oracle.measure([("a",), ("b",), ("a", "b")], rho=50.0, groups={"a": group})
    assert np.abs(a.values - [400, 200, 400]).max() <= 3
    assert np.abs(pair.values - [[200, 200], [100, 100], [200, 200]]).max() <= 3
    assert b.groups == ()
    assert pair.groups[1] is None
    assert np.array_equal(pair.groups[0], group)
    [event] = oracle.events
    assert event.l2_sensitivity_squared == 3
    assert rho_of(event) <= 50.0
    with pytest.raises(DomainMismatch, match="group"):
        Measurement(("a",), np.zeros(2, dtype=np.int64), 1.0, (np.array([0, 2]),))
    with pytest.raises(DomainMismatch, match="groups must be empty"):
        Measurement(("a",), np.zeros(2, dtype=np.int64), 1.0, (None, None))


def test_an_oracle_selects_among_merged_marginals_and_does_not_mix_up_groups(table):
    schema, frame = table
    oracle = LocalTableOracle(frame, schema, rng=InsecureSeededRng(1))
    estimates = [np.array([400.0, 600.0]), np.array([500.0, 500.0])]
    # The same clique against the same estimate, in two groupings: near in one, far in the other.
    for group, chosen in ((np.array([0, 1, 1, 1, 1]), 1), (np.array([0, 1, 0, 1, 1]), 0)):
        assert oracle.select([("a",), ("a",)], estimates, epsilon=5.0, groups={"a": group}) == chosen
    with pytest.raises(DomainMismatch, match="estimate"):
        oracle.select([("a",)], [np.zeros(5)], epsilon=1.0, groups={"a": np.array([0, 0, 0, 0, 1])})


def test_a_merged_group_has_the_variance_of_its_sum_and_the_fit_weighs_it_so():
    part = Evidence(("a",), np.array([90.0, 4.0, 8.0, 3.0]), 4.0)
    merged = merge_evidence(part, {"a": np.array([0, 1, 1, 1])})
    assert merged.values.tolist() == [90.0, 15.0]
    assert merged.variance.tolist() == [4.0, 12.0]
    assert estimate_total([merged]) == 105.0
    # The nearest counts of sum 109: the excess of 4 is shared as variances are, 1 to 3.
    domain = Domain(("a",), (2,))
    fit = fit_forest(Forest(domain, ()), [merged], total=109.0, tolerance=1e-12)
    assert fit.marginals.project(("a",)) * 109 == pytest.approx([91.0, 18.0], abs=1e-5)
    first, second = margins(Evidence(("a", "b"), np.ones((2, 2)), np.array([[1.0, 2.0], [3.0, 4.0]])))
    assert (first.variance.tolist(), second.variance.tolist()) == ([3.0, 7.0], [4.0, 6.0])
    both = pool([merged, Evidence(("a",), np.array([94.0, 15.0]), 4.0)])[("a",)]
    assert both.values.tolist() == [92.0, 15.0]
    assert both.variance.tolist() == [2.0, 3.0]


@given(dice(6), dice(4), st.integers(0, 2**32 - 1))
def test_codes_told_apart_are_one_distribution_whose_groups_are_as_before(first, second, seed):
    rng = np.random.default_rng(seed)
    groups = check_groups({"a": first, "b": second}, Domain(("a", "b"), (6, 4)))
    shares = {
        name: shares_of(rng.normal(0, 5, len(g)), 25.0, g, rng.gamma(1, 10, g.max() + 1), np.ones(len(g), dtype=bool))
        for name, g in groups.items()
    }
    coarse = rng.gamma(0.5, 1, (first.max() + 1, second.max() + 1))
    pair = tell_apart(coarse, ("a", "b"), groups, shares)
    assert pair.shape == (6, 4)
    assert pair.min() >= 0
    assert merge_codes(pair, ("a", "b"), groups) == pytest.approx(coarse)
    # Both ways to the margin of one column agree.
    assert pair.sum(axis=1) == pytest.approx(tell_apart(coarse.sum(axis=1), ("a",), groups, shares))


def test_shares_follow_counts_where_they_say_something_and_are_equal_where_they_do_not():
    group = np.zeros(4, dtype=np.int64)
    possible = np.ones(4, dtype=bool)
    sure = shares_of(np.array([400.0, 300.0, 200.0, 100.0]), 1.0, group, np.array([1000.0]), possible)
    assert sure == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=1e-3)
    unsure = shares_of(np.array([260.0, 240.0, 245.0, 255.0]), 100.0**2, group, np.array([1000.0]), possible)
    assert unsure == pytest.approx([0.25] * 4)
    nobody = shares_of(np.array([-3.0, 5.0, 1.0, -2.0]), 9.0, group, np.array([0.0]), possible)
    assert nobody.sum() == pytest.approx(1.0)
    never = shares_of(np.array([400.0, 300.0, 200.0, 100.0]), 1.0, group, np.array([700.0]), np.array([0, 1, 1, 1]) > 0)
    assert never[0] == 0
    assert never.sum() == pytest.approx(1.0)


def test_rare_codes_are_those_below_the_threshold():
    assert merge_rare(np.array([5.0, 6.0]), 1.0).tolist() == [0, 1]
    assert merge_rare(np.array([0.0, 6.0, -4.0]), 1.0).tolist() == [1, 0, 1]
    assert merge_rare(np.array([0.0, 0.0]), 1.0).tolist() == [0, 0]


def test_a_combination_of_groups_is_impossible_only_if_all_its_codes_are():
    zeros = {("a", "b"): np.array([[True, False], [True, True], [True, True]])}
    merged = merge_zeros(zeros, {"a": np.array([0, 0, 1])})[("a", "b")]
    assert merged.tolist() == [[True, False], [True, True]]


def test_mst_merges_rare_codes_keeps_them_in_the_model_and_spares_columns_of_rules(tmp_path):
    labels = [f"s{i}" for i in range(30)]
    schema = Schema.from_dict(
        {
            "columns": {
                "stage": {"categories": labels},
                "site": {"categories": labels},
                "ward": {"categories": labels},
                "drug": {"categories": ["none", "mab"]},
            },
            "rules": [{"forbid": {"ward": "s29", "drug": "mab"}}, {"forbid": {"stage": "s28"}}],
        }
    )
    rng = np.random.default_rng(3)
    stage = rng.integers(0, 3, 3000)
    frame = pd.DataFrame(
        {
            "stage": [labels[i] for i in stage],
            "site": [labels[i] for i in np.where(rng.random(3000) < 0.8, stage, 27)],
            "ward": [labels[i] for i in rng.integers(0, 2, 3000)],
            "drug": "none",
        }
    )
    model = MST(epsilon=1.0, delta=1e-9).fit(frame, schema, rng=InsecureSeededRng(1))
    merged = {
        name for part in model.measurements for name, g in zip(part.columns, part.groups, strict=False) if g is not None
    }
    assert merged == {"stage", "site"}
    # Hardly anybody is in codes 3 to 26, but the model still knows them.
    assert (model.marginal(["site"]).estimate[3:27] > 0).any()
    assert model.marginal(["stage"]).estimate[28] == 0
    assert model.marginal(["ward", "drug"]).estimate[29, 1] == 0
    pair = model.marginal(["stage", "site"]).estimate
    assert pair.sum(axis=1) == pytest.approx(model.marginal(["stage"]).estimate)
    assert pair[np.arange(3), np.arange(3)].sum() / pair.sum() == pytest.approx(0.8, abs=0.1)
    assert np.isnan(model.marginal(["stage", "drug"]).std_error[20]).all()
    assert np.isfinite(model.marginal(["stage"]).std_error).all()
    model.save(tmp_path / "m")
    read = MST.load(tmp_path / "m")
    for one, two in zip(model.measurements, read.measurements, strict=True):
        assert np.array_equal(one.values, two.values)
        assert all(np.array_equal(g, h) for g, h in zip(one.groups, two.groups, strict=True))
    table = model.sample(500, rng=np.random.default_rng(1))
    schema.validate(table)
    assert math.isclose(model.total, 3000, rel_tol=0.1)
