"""Survival estimates against lifelines and brute force, and the three distances on curves whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import DomainMismatch, compare_survival, cumulative_incidence, kaplan_meier, nelson_aalen
from generators.survival import kaplan_meier_band

GRID = np.arange(0, 15, 0.5)


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=40))
def test_nelson_aalen_is_the_sum_of_hazards_at_event_times(patients):
    time = np.array([t for t, _ in patients], dtype=float)
    event = np.array([e for _, e in patients])
    by_hand = [
        sum(((time == t) & event).sum() / (time >= t).sum() for t in np.unique(time[event]) if t <= point)
        for point in GRID
    ]
    assert np.allclose(nelson_aalen(time, event, GRID), by_hand, atol=1e-12)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), min_size=1, max_size=40))
def test_incidences_of_all_causes_and_survival_of_any_sum_to_one(patients):
    time, cause = np.array(patients).T
    incidence = cumulative_incidence(time, cause, GRID, n_causes=2)
    assert np.allclose(incidence.sum(axis=0) + kaplan_meier(time, cause > 0, GRID), 1, atol=1e-12)
    assert (np.diff(incidence, axis=1) >= -1e-12).all()


@pytest.mark.slow
def test_cumulative_incidence_equals_lifelines():
    from lifelines import AalenJohansenFitter

    rng = np.random.default_rng(1)
    # Without ties, which lifelines breaks by chance.
    time = rng.permutation(300) + 1.0
    cause = rng.integers(0, 3, 300)
    found = cumulative_incidence(time, cause, [50, 150, 299], n_causes=2)
    for k in (1, 2):
        fitted = AalenJohansenFitter(calculate_variance=False).fit(time, cause, event_of_interest=k)
        steps = fitted.cumulative_density_.iloc[:, 0]
        assert np.allclose(found[k - 1], [steps[steps.index <= t].iloc[-1] for t in (50, 150, 299)], atol=1e-9)


def test_one_cause_is_the_complement_of_kaplan_meier():
    time, event = [2, 3, 3, 5, 8], [1, 1, 0, 1, 0]
    assert np.allclose(cumulative_incidence(time, event, GRID, n_causes=1)[0], 1 - kaplan_meier(time, event, GRID))


def test_a_table_is_at_distance_zero_of_itself():
    rng = np.random.default_rng(2)
    table = (rng.integers(1, 100, 200), rng.random(200) < 0.6)
    found = compare_survival(table, table, np.arange(10, 101, 10))
    assert (found.km_divergence, found.optimism, found.short_sightedness) == (0, 0, 0)


def test_follow_up_cut_in_half_is_half_short_sighted():
    time = np.arange(1, 101)
    event = np.zeros(100, dtype=bool)
    cut = np.minimum(time, 50)
    assert compare_survival((time, event), (cut, event), [25, 50, 100]).short_sightedness == pytest.approx(0.5)


def test_smaller_hazards_are_optimistic_and_larger_ones_pessimistic():
    rng = np.random.default_rng(3)
    time = rng.exponential(100, 4000)
    event = np.ones(4000, dtype=bool)
    grid = np.arange(20, 200, 20)
    longer = compare_survival((time, event), (time * 1.5, event), grid)
    shorter = compare_survival((time, event), (time / 1.5, event), grid)
    # S(t)^(1/1.5) - S(t), averaged over the grid, for an exponential law.
    expected = float(np.mean(np.exp(-grid / 150) - np.exp(-grid / 100)))
    assert longer.optimism == pytest.approx(expected, abs=0.02)
    assert longer.km_divergence == pytest.approx(longer.optimism)
    assert shorter.optimism < -0.05


@pytest.mark.parametrize(
    ("time", "event"),
    [([], []), ([1.0, np.nan], [1, 1]), ([1.0], [1, 0]), ([1.0], [3]), ([1.0], [0.5]), ([1.0], ["x"])],
)
def test_what_is_no_follow_up_is_refused(time, event):
    with pytest.raises(DomainMismatch):
        cumulative_incidence(time, event, GRID, n_causes=2)


def test_distances_need_a_grid_and_follow_up():
    with pytest.raises(DomainMismatch, match="grid"):
        compare_survival(([1], [1]), ([1], [1]), [])
    with pytest.raises(DomainMismatch, match="follow-up time"):
        compare_survival(([0], [1]), ([1], [1]), [1])


@pytest.mark.slow
def test_the_confidence_band_equals_lifelines():
    from lifelines import KaplanMeierFitter

    rng = np.random.default_rng(2)
    time, event = rng.integers(1, 30, 80).astype(float), rng.random(80) < 0.6
    fitted = KaplanMeierFitter().fit(time, event)
    limits = fitted.confidence_interval_survival_function_
    low, high = kaplan_meier_band(time, event, limits.index.to_numpy())
    inside = (fitted.survival_function_.iloc[:, 0] > 0) & (fitted.survival_function_.iloc[:, 0] < 1)
    assert inside.sum() > 10
    assert np.allclose(low[inside], limits.iloc[:, 0][inside], atol=1e-9)
    assert np.allclose(high[inside], limits.iloc[:, 1][inside], atol=1e-9)
