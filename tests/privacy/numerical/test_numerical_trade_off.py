"""The trade-off curve: never above the exact one, close to it, and of the shape that every such curve has."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from privacy._trade_off import TradeOff
from privacy.events import (
    ApproximateDP,
    DiscreteGaussian,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    PoissonSampled,
    PureDP,
)
from privacy.numerical import NumericalAccountant
from privacy.numerical import accountant as module

# What the curve may lack everywhere, and relative to the attacker's success at rare false alarms.
CLOSE = 1e-4
RELATIVE = 1e-3
ROUNDING = 1e-12

RATES = np.concatenate((np.linspace(0, 1, 1001), np.geomspace(1e-9, 1e-3, 25)))

COMPOSITIONS = {
    "gaussian": [(Gaussian(1.0), 1)],
    "sampled Gaussian": [(PoissonSampled(Gaussian(1.0), 0.01), 1000)],
    "one sampled Gaussian": [(PoissonSampled(Gaussian(0.7), 0.1), 1)],
    "two of them": [(PoissonSampled(Gaussian(1.0), 0.01), 2)],
    "rare and loud": [(PoissonSampled(Gaussian(0.3), 1e-4), 1000)],
    "cut": [(PoissonSampled(Gaussian(0.8), 0.001), 300)],
    "Laplace": [(Laplace(10.0), 50)],
    "pure": [(PureDP(0.1), 100)],
    "two kinds of pure": [(PureDP(0.1), 40), (PureDP(0.037), 60)],
    "discrete Gaussian": [(DiscreteGaussian(noise_multiplier=3.0), 3)],
    "mixture": [(PoissonSampled(Gaussian(1.0), 0.01), 1000), (Laplace(10.0), 100), (Gaussian(10.0), 20)],
    "approximate": [(ApproximateDP(0.1, 1e-3), 10)],
    "selection": [(ExponentialMechanism(0.1), 100)],
    "vector": [(DiscreteGaussian(scale=10.0, l2_sensitivity_squared=9, linf_sensitivity=2), 4), (Gaussian(4.0), 1)],
    "nothing": [],
}


def account(pairs):
    accountant = NumericalAccountant(neighbours="add_remove_one")
    for event, count in pairs:
        accountant.compose(event, count=count)
    return accountant


def gaussian_curve(x, sigma):
    return ndtr(-ndtri(x) - 1 / sigma)


def convex_hull_below(x, y):
    """The largest convex function below the points, at each x (increasing)."""
    kept: list[tuple[float, float]] = []
    for point in zip(x, y, strict=True):
        while len(kept) > 1 and (kept[-1][1] - kept[-2][1]) * (point[0] - kept[-1][0]) >= (point[1] - kept[-1][1]) * (
            kept[-1][0] - kept[-2][0]
        ):
            kept.pop()
        kept.append(point)
    return np.interp(x, *zip(*kept, strict=True))


def check(bound, exact):
    assert np.all(bound <= exact + ROUNDING)
    assert np.max(exact - bound) <= CLOSE


# Several lines, each for many epsilons.
DEAR = {"rare and loud", "two of them", "cut"}


@pytest.mark.parametrize("sigma", [0.3, 1.0, 7.0, 1e4])
def test_the_curve_of_a_gaussian_is_the_closed_form_from_below(sigma):
    made = account([(Gaussian(sigma), 1)])
    exact, bound = gaussian_curve(RATES, sigma), made.trade_off(RATES)
    check(bound, exact)
    assert np.all((exact - bound) <= RELATIVE * (1 - exact) + ROUNDING)
    # One rate is as good as many.
    for rate in (1e-6, 0.01, 0.2, 0.97):
        found = account([(Gaussian(sigma), 1)]).success_probability(rate)
        assert 0 <= found - (1 - gaussian_curve(rate, sigma)) <= 1e-6


def test_the_readable_numbers_are_those_of_the_closed_form():
    made = account([(Gaussian(0.5), 1), (Gaussian(0.5), 1)])
    mu = math.sqrt(8)
    assert 0 <= made.attack_advantage() - (2 * ndtr(mu / 2) - 1) < 1e-12
    for prior in (0.5, 0.1, 0.999):
        # The least of prior * FNR + (1 - prior) * FPR, over the thresholds of the likelihood ratio.
        alpha = ndtr(-np.linspace(-12, 12, 400_001))
        exact = np.min(prior * gaussian_curve(alpha, 1 / mu) + (1 - prior) * alpha)
        assert 0 <= exact - made.bayes_risk(prior) < 1e-9


def step_law(q, sigma, spacing, size):
    """P and Q masses of the loss of one step, patient removed, each at the middle of its cell."""
    edges = (np.arange(size + 1) - size / 2 - 0.5) * spacing
    inner = np.expm1(edges) / q
    with np.errstate(invalid="ignore", divide="ignore"):
        x = sigma**2 * np.log1p(np.where(inner > -1, inner, -1)) + 0.5
    low, high = ndtr(x / sigma), ndtr((x - 1) / sigma)
    return np.diff((1 - q) * low + q * high), np.diff(low)


@pytest.mark.parametrize(
    ("q", "sigma", "n"),
    [
        (0.2, 2.0, 50),
        pytest.param(0.9, 3.0, 20, marks=pytest.mark.slow),
        pytest.param(0.05, 1.0, 30, marks=pytest.mark.slow),
        pytest.param(0.01, 1.0, 2, marks=pytest.mark.slow),
    ],
)
def test_the_curve_of_a_sampled_gaussian_is_that_of_a_convolution(q, sigma, n):
    # Both laws of the summed loss by FFT on a grid: the parametric curve of the likelihood ratio tests.
    spacing, size = 1e-4, 1 << 19
    p, other = (np.fft.irfft(np.fft.rfft(np.roll(law, -size // 2)) ** n) for law in step_law(q, sigma, spacing, size))
    p, other = (np.roll(law, size // 2) for law in (p, other))
    alpha, beta = 1 - np.cumsum(other), np.cumsum(p)  # accuse a loss above the threshold
    alpha, beta = (np.clip(values, 0, 1) for values in (alpha, beta))
    x = np.linspace(0, 1, 4001)
    removed = np.interp(x, alpha[::-1], beta[::-1])
    added = np.interp(x, beta, alpha)  # the pair in the other order: the mirror image
    exact = convex_hull_below(x, np.minimum(removed, added))
    bound = account([(PoissonSampled(Gaussian(sigma), q), n)]).trade_off(x)
    assert np.all(bound <= exact + 2e-6)
    assert np.max(exact - bound) <= CLOSE
    # Negative control: a fiftieth less noise is outside.
    other_noise = account([(PoissonSampled(Gaussian(1.02 * sigma), q), n)]).trade_off(x)
    assert np.any(other_noise > exact + 2e-6)


def test_the_curve_of_one_sampled_gaussian_is_the_closed_form():
    # T(Q, (1 - q) Q + q P) = q T(Q, P) + (1 - q) (1 - x), and its mirror image.
    q, sigma = 0.1, 0.7
    x = np.linspace(0, 1, 20_001)
    removed = q * gaussian_curve(x, sigma) + (1 - q) * (1 - x)
    added = np.interp(x, removed[::-1], x[::-1])
    check(account(COMPOSITIONS["one sampled Gaussian"]).trade_off(x), convex_hull_below(x, np.minimum(removed, added)))


def test_the_curve_of_pure_dp_is_two_lines():
    epsilon = 0.7
    exact = np.maximum(1 - math.exp(epsilon) * RATES, math.exp(-epsilon) * (1 - RATES))
    bound = account([(PureDP(epsilon), 1)]).trade_off(RATES)
    check(bound, exact)
    assert np.max(exact - bound) < 1e-9


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in DEAR else []) for name in COMPOSITIONS],
)
def test_a_curve_falls_is_convex_symmetric_and_below_the_diagonal(name):
    made = account(COMPOSITIONS[name])
    x = np.linspace(0, 1, 401)
    f = made.trade_off(x)
    assert f.shape == x.shape
    assert np.all((f >= 0) & (f <= 1 - x))
    assert np.all(np.diff(f) <= 0)
    assert np.all(np.diff(f, 2) >= -ROUNDING)
    # Its own mirror image, where it falls.
    inside = f > 1e-3
    assert np.max(np.abs(made.trade_off(f[inside]) - x[inside]) * np.minimum(1, f[inside] / (1 - x[inside]))) < 1e-3
    # No tangent that `delta` gives lies above it by more than the tolerance.
    for epsilon in (0.0, 0.1, 1.0):
        kept = 1 - made.delta(epsilon=epsilon)
        assert np.all(f >= np.maximum(kept - math.exp(epsilon) * x, math.exp(-epsilon) * (kept - x)) - CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMPOSITIONS if name not in {"rare and loud", "two of them"}])
def test_one_line_for_all_epsilons_agrees_with_one_for_each(name):
    made = account(COMPOSITIONS[name])
    curves = [module.upper_curve(direction) for direction in made._directions()]
    for epsilon in (0.0, 0.05, 0.3, 2.0, 20.0):
        low, high = made.delta_interval(epsilon=epsilon)
        found = (max if epsilon > 0 else min)(curve(epsilon) for curve in curves)
        assert low <= found <= 1.06 * high + 1e-10
        if name in {"gaussian", "sampled Gaussian", "one sampled Gaussian", "pure", "mixture"}:
            assert found <= high + 1e-11


def test_the_total_variation_is_the_same_in_both_directions():
    # The line is affordable for the patient who is added; for the one who is removed only the grid is.
    made = account([(PoissonSampled(Gaussian(0.8), 0.001), 300)])
    low, high = made.delta_interval(epsilon=0.0)
    assert 0.013035 < low <= high < 0.013036
    assert made.trade_off(0.3) <= 0.7 - low * 0.3
    assert made.trade_off(0.5) >= 0.5 - high - 1e-9


@given(
    sigma=st.floats(0.2, 50),
    epsilon=st.floats(0.01, 3),
    rates=st.lists(st.floats(0, 1), min_size=1, max_size=6),
)
def test_a_composition_lets_nothing_through_that_a_part_does_not(sigma, epsilon, rates):
    x = np.sort(rates)
    both = account([(Gaussian(sigma), 1), (PureDP(epsilon), 1)]).trade_off(x)
    assert np.all(np.diff(both) <= 0)
    assert np.all(both <= gaussian_curve(x, sigma) + ROUNDING)
    assert np.all(both <= np.maximum(1 - math.exp(epsilon) * x, math.exp(-epsilon) * (1 - x)) + ROUNDING)


def test_a_delta_that_is_a_little_too_small_is_caught(monkeypatch):
    # Negative control: the same curve from deltas that are a thousandth too small rises above the exact one.
    right = module.upper_curve

    def less(made):
        curve = right(made)
        return lambda epsilon: curve(epsilon) * 0.999

    monkeypatch.setattr(module, "upper_curve", less)
    x = np.linspace(0, 1, 101)
    assert np.any(account([(Gaussian(1.0), 1)]).trade_off(x) > gaussian_curve(x, 1.0) + ROUNDING)


def test_a_curve_asks_for_few_deltas():
    asked = []

    def delta(epsilon):
        asked.append(epsilon)
        return float(ndtr(0.5 - epsilon) - math.exp(min(epsilon, 100.0)) * ndtr(-0.5 - epsilon))

    curve = TradeOff(delta)
    curve.at(0.01)
    assert len(asked) < 60
    curve.at(np.linspace(0, 1, 1000))
    assert len(asked) < 1200
    before = len(asked)
    curve.at(np.linspace(0, 1, 1000))
    assert len(asked) == before


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_a_rate_is_a_probability(bad):
    with pytest.raises(ValueError, match="must lie in"):
        account([(Gaussian(1.0), 1)]).trade_off([0.5, bad])
