"""Curves from counts, against lifelines, sums written out, and the brackets of what may be opened."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from survival_in_plain import MIN_CELL, opened_in_plain, split_in_plain

from synthema.learning.curve_estimates import (
    counts_of,
    exact_counts,
    hazard,
    incidence,
    median,
    restricted_mean,
    survival,
)
from synthema.learning.curve_results import ExactGroup
from synthema.learning.kaplan_meier import OpenedGroup

GRID = 30


def patients(seed: int = 0, n: int = 400):
    """Days, on a grid, and causes 0, 1, 2 of patients."""
    rng = np.random.default_rng(seed)
    days = GRID * np.minimum(1 + (rng.exponential(6, n)).astype(int), 20)
    return days, np.where(days == 20 * GRID, 0, rng.choice([0, 1, 2], n, p=[0.3, 0.5, 0.2]))


def table(days, cause):
    """Number at risk and deaths of each cause by interval."""
    ends = GRID * np.arange(1, 21)
    at_risk = np.array([(days >= end).sum() for end in ends], dtype=float)
    return (
        ends.astype(float),
        at_risk,
        np.array([[((days == e) & (cause == k)).sum() for e in ends] for k in (1, 2)], dtype=float),
    )


def all_opened(seed: int = 0):
    days, cause = patients(seed)
    ends, at_risk, causes = table(days, cause)
    s = np.cumprod(1 - causes.sum(axis=0) / at_risk)
    counts = exact_counts(at_risk, causes)
    return days, cause, counts, survival(counts, s, ends)


@pytest.mark.slow
def test_survival_and_its_limits_are_those_of_lifelines():
    from lifelines import KaplanMeierFitter
    from lifelines.utils import median_survival_times, restricted_mean_survival_time

    days, cause, counts, curve = all_opened()
    peer = KaplanMeierFitter().fit(days, cause > 0)
    np.testing.assert_allclose(curve.low, peer.predict(curve.days).to_numpy(), rtol=1e-12)
    limits = peer.confidence_interval_survival_function_.loc[curve.days]
    np.testing.assert_allclose(curve.lower, limits.iloc[:, 0], rtol=1e-9)
    np.testing.assert_allclose(curve.upper, limits.iloc[:, 1], rtol=1e-9)
    found = median(curve)
    assert found.days == (peer.median_survival_time_,) * 2
    assert list(found.interval) == median_survival_times(peer.confidence_interval_).iloc[0].tolist()
    mean = restricted_mean(curve, counts, n_intervals=12)
    assert mean.until_day == 360
    expected = restricted_mean_survival_time(peer, 360)
    assert mean.low == mean.high == pytest.approx(expected, rel=1e-12)
    # Written out: area from each death on, squared, times Greenwood's term.
    s, n, d = curve.low, counts.at_risk.low, counts.deaths.low
    variance = sum((GRID * s[t:11].sum()) ** 2 * d[t] / (n[t] * (n[t] - d[t])) for t in range(11))
    assert mean.std_error == pytest.approx(variance**0.5, rel=1e-12)


@pytest.mark.slow
def test_the_cumulative_hazard_is_that_of_lifelines():
    from lifelines import NelsonAalenFitter

    days, cause, counts, curve = all_opened()
    for k, died in ((None, cause > 0), (0, cause == 1)):
        peer = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(days, died)
        found = hazard(counts, curve.days, cause=k)
        np.testing.assert_allclose(found.low, peer.cumulative_hazard_.loc[curve.days].iloc[:, 0], rtol=1e-12)
        limits = peer.confidence_interval_.loc[curve.days]
        np.testing.assert_allclose(found.lower, limits.iloc[:, 0], rtol=1e-9)
        np.testing.assert_allclose(found.upper, limits.iloc[:, 1], rtol=1e-9)


def test_incidence_is_the_sum_written_out_and_adds_up_to_all_deaths():
    days, cause, counts, curve = all_opened()
    found = [incidence(counts, curve, k) for k in (0, 1)]
    for k, each in enumerate(found):
        total, s = 0.0, 1.0
        for t, end in enumerate(curve.days):
            at_risk = (days >= end).sum()
            total += s * ((days == end) & (cause == k + 1)).sum() / at_risk
            s *= 1 - ((days == end) & (cause > 0)).sum() / at_risk
            assert each.low[t] == each.high[t] == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(found[0].low + found[1].low, 1 - curve.low, rtol=1e-12)


@pytest.mark.slow
def test_incidence_without_ties_and_its_limits_are_those_of_lifelines():
    from lifelines import AalenJohansenFitter

    rng = np.random.default_rng(4)
    days, cause = GRID * (1.0 + rng.permutation(80)), rng.choice([0, 1, 2], 80)
    peer = AalenJohansenFitter(calculate_variance=True).fit(days, cause, event_of_interest=1)
    ends = GRID * np.arange(1.0, 81)
    at_risk = np.array([(days >= end).sum() for end in ends], dtype=float)
    causes = np.array([[((days == e) & (cause == k)).sum() for e in ends] for k in (1, 2)], dtype=float)
    counts = exact_counts(at_risk, causes)
    curve = survival(counts, np.cumprod(1 - causes.sum(axis=0) / at_risk), ends)
    found = incidence(counts, curve, 0)
    np.testing.assert_allclose(found.low, peer.cumulative_density_.loc[ends].iloc[:, 0], rtol=1e-9)
    # Where one patient is left, Greenwood's term has no value if that patient dies.
    known = (found.low > 0) & (at_risk > 1)
    limits = peer.confidence_interval_.loc[ends[known]]
    np.testing.assert_allclose(found.lower[known], limits.min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.upper[known], limits.max(axis=1), rtol=1e-6)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=7))
def test_brackets_and_limits_hold_what_the_pooled_counts_give(cells):
    causes, losses = np.array([cell[:2] for cell in cells]).T, [cell[2] for cell in cells]
    deaths = causes.sum(axis=0)
    _, events, at_risk, _ = opened_in_plain(deaths.tolist(), losses)
    opened = OpenedGroup(np.array(at_risk), np.array(events), np.array(split_in_plain(causes.tolist(), events)))
    group = ExactGroup("g", opened, grid_days=GRID, min_cell=MIN_CELL)
    leaving = deaths + losses
    n = np.cumsum(leaving[::-1])[::-1].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.cumprod(np.where(n > 0, 1 - deaths / n, 1))
    pooled = exact_counts(n, causes.astype(float))
    curve = survival(pooled, s, group.days)
    pairs = [(group.survival, curve), (group.hazard(), hazard(pooled, group.days))]
    pairs += [(group.hazard(k), hazard(pooled, group.days, cause=k)) for k in (0, 1)]
    pairs += [(group.incidence(k), incidence(pooled, curve, k)) for k in (0, 1)]
    for found, exact in pairs:
        for low, high, inner, outer in (
            (found.low, found.high, exact.low, exact.high),
            (found.lower, found.upper, exact.lower, exact.upper),
        ):
            said = np.isfinite(low) & np.isfinite(inner)
            assert (low[said] <= inner[said] + 1e-9).all()
            said = np.isfinite(high) & np.isfinite(outer)
            assert (high[said] >= outer[said] - 1e-9).all()


def test_a_group_without_patients_and_one_without_deaths_have_right_answers():
    empty = ExactGroup("g", OpenedGroup(np.zeros(4, dtype=int), np.zeros(3, dtype=int)), grid_days=GRID, min_cell=5)
    assert np.isnan(empty.survival.low).all()
    assert median(empty.survival).days == (None, None)
    alive = ExactGroup("g", OpenedGroup(np.array([90, 60, 30, 0]), np.zeros(3, dtype=int)), grid_days=GRID, min_cell=5)
    assert alive.survival.low.tolist() == alive.survival.lower.tolist() == [1.0, 1.0, 1.0]
    assert alive.hazard().upper.tolist() == [0.0, 0.0, 0.0]
    assert median(alive.survival).days == (None, None)


def test_what_nothing_is_known_of_is_not_a_number():
    closed = OpenedGroup(np.full(4, -1), np.full(3, -1), np.full((2, 3), -1))
    counts = counts_of(closed, min_cell=5)
    assert np.isnan(counts.at_risk.high).all()
    group = ExactGroup("g", closed, grid_days=GRID, min_cell=5)
    assert np.isnan([group.survival.low, group.hazard().low, group.incidence(1).high]).all()
    with pytest.raises(ValueError, match="choose an earlier one"):
        group.restricted_mean(1)
