"""zCDP: conversions against 40 digits, costs against brute-force Renyi divergences, the accountant's bookkeeping."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import (
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    DistributedDiscreteGaussian,
    Event,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    NonPrivate,
    PureDP,
    Repeated,
    UnsupportedEvent,
    ZcdpAccountant,
    ZeroConcentratedDP,
    epsilon_to_rho,
    rho_of,
    rho_to_delta,
    rho_to_epsilon,
)

TOO_SMALL = 0.7
ORDERS = [1.01, 1.1, 1.5, 2.0, 3.0, 5.0, 8.0, 16.0, 32.0, 64.0]

# ---------------------------------------------------------------- conversions


def exact_delta(rho, epsilon):
    """Return Proposition 12's delta, minimised over the order by ternary search in 40 digits."""
    rho, epsilon = mpmath.mpf(rho), mpmath.mpf(epsilon)

    def log_delta(log_a):
        a = mpmath.exp(log_a)
        return a * ((1 + a) * rho - epsilon) + (1 + a) * mpmath.log(a / (1 + a)) - mpmath.log(a)

    with mpmath.workdps(40):
        low, high = mpmath.mpf(-60), mpmath.mpf(80)
        for _ in range(200):
            third = (high - low) / 3
            low, high = (low, high - third) if log_delta(low + third) < log_delta(high - third) else (low + third, high)
        return min(mpmath.mpf(1), mpmath.exp(log_delta(low)))


CONVERSIONS = [
    (1e-20, 1e-10),
    (1e-15, 1e-8),
    (1e-9, 1e-3),
    (1e-8, 0),
    (1e-6, 0.01),
    (1e-3, 0),
    (0.0149730, 1),
    (0.5, 1e-3),
    (0.5, 4),
    (3, 0),
    (5, 0.1),
    (100, 150),
    (1e4, 1.2e4),
    (1e4, 3),
]


@pytest.mark.parametrize(("rho", "epsilon"), CONVERSIONS)
def test_delta_is_the_minimum_over_orders_rounded_up(rho, epsilon):
    exact = exact_delta(rho, epsilon)
    got = rho_to_delta(rho, epsilon)
    assert got >= min(1, exact)
    assert got <= exact * (1 + mpmath.mpf("2e-9"))


@given(rho=st.floats(1e-6, 50), epsilon=st.floats(0, 100))
def test_delta_is_never_below_the_exact_minimum(rho, epsilon):
    exact = exact_delta(rho, epsilon)
    assert exact <= rho_to_delta(rho, epsilon) <= exact * (1 + mpmath.mpf("2e-9")) + mpmath.mpf("1e-323")


def test_a_delta_that_underflows_is_not_zero():
    assert rho_to_delta(1e-3, 2.0) > 0  # 5e-438 exactly
    assert rho_to_delta(0.0, 2.0) == 0


# The largest rho at (epsilon, 1e-9) and at (epsilon, 1e-5), to the digits printed by an independent implementation.
REFERENCE_RHO = [
    (0.01, 1e-9, 2.10e-6, 5e-9),
    (0.1, 1e-9, 1.7714e-4, 5e-9),
    (1, 1e-9, 0.01497306, 5e-9),
    (10, 1e-9, 1.0907857, 5e-8),
    (100, 1e-9, 42.38021, 5e-6),
    (0.01, 1e-5, 6.54e-6, 5e-9),
    (0.1, 1e-5, 4.3299e-4, 5e-9),
    (1, 1e-5, 0.0305566, 5e-8),
    (10, 1e-5, 1.78269562, 5e-9),
    (100, 1e-5, 52.70518, 5e-6),
]


@pytest.mark.parametrize(("epsilon", "delta", "rho", "half_a_digit"), REFERENCE_RHO)
def test_rho_agrees_with_reference_values(epsilon, delta, rho, half_a_digit):
    assert epsilon_to_rho(epsilon, delta) == pytest.approx(rho, abs=1.02 * half_a_digit)


@pytest.mark.parametrize(("epsilon", "delta", "rho", "half_a_digit"), REFERENCE_RHO)
def test_the_rho_is_affordable_and_hardly_more_is(epsilon, delta, rho, half_a_digit):
    del rho, half_a_digit
    largest = epsilon_to_rho(epsilon, delta)
    assert exact_delta(largest, epsilon) <= delta
    assert exact_delta(largest * (1 + 1e-8), epsilon) > delta


def exact_gaussian_epsilon(noise_multiplier, delta):
    """Return the tight epsilon of a Gaussian release: Phi(1/2s - es) - e^e Phi(-1/2s - es) = delta, in 40 digits."""
    with mpmath.workdps(40):
        s = mpmath.mpf(noise_multiplier)
        low, high = mpmath.mpf(0), mpmath.mpf(1000)
        for _ in range(120):
            middle = (low + high) / 2
            excess = mpmath.ncdf(1 / (2 * s) - middle * s) - mpmath.exp(middle) * mpmath.ncdf(-1 / (2 * s) - middle * s)
            low, high = (middle, high) if excess > delta else (low, middle)
        return float(high)


def test_the_oracle_gives_the_published_gaussian_epsilons():
    assert exact_gaussian_epsilon(1, 1e-5) == pytest.approx(4.37717809568122462765, rel=1e-14)
    assert exact_gaussian_epsilon(10, 1e-9) == pytest.approx(0.535148231553172567232, rel=1e-14)


# What zCDP gives away against the exact epsilon: more at a large delta and at much noise.
@pytest.mark.parametrize(("delta", "slack"), [(1e-4, 0.20), (1e-6, 0.105), (1e-9, 0.065), (1e-12, 0.05)])
@pytest.mark.parametrize("noise_multiplier", [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0])
def test_epsilon_is_never_below_the_exact_gaussian_one_and_close_above(noise_multiplier, delta, slack):
    accountant = ZcdpAccountant(neighbours="add_remove_one")
    accountant.compose(Gaussian(noise_multiplier))
    exact = exact_gaussian_epsilon(noise_multiplier, delta)
    assert exact < accountant.epsilon(delta=delta) < (1 + slack) * exact
    # Negative control: 30 % less noise, priced as if it were there, falls below what it costs.
    assert accountant.epsilon(delta=delta) < exact_gaussian_epsilon(TOO_SMALL * noise_multiplier, delta)


epsilons = st.floats(1e-4, 200)
rhos = st.floats(1e-9, 1e3)
deltas = st.floats(1e-15, 0.4)


@given(epsilon=epsilons, delta=deltas)
def test_an_account_that_spends_the_rho_of_its_epsilon_stays_within_that_epsilon(epsilon, delta):
    rho = epsilon_to_rho(epsilon, delta)
    assert rho_to_epsilon(rho, delta) <= epsilon
    accountant = ZcdpAccountant(neighbours="replace_one")
    accountant.compose(ZeroConcentratedDP(rho))
    assert accountant.epsilon(delta=delta) <= epsilon
    assert accountant.delta(epsilon=epsilon) <= delta


@given(rho=rhos, delta=deltas)
def test_the_other_round_trip_gives_the_rho_back(rho, delta):
    epsilon = rho_to_epsilon(rho, delta)
    if epsilon > 1e-9:
        assert epsilon_to_rho(epsilon, delta) == pytest.approx(rho, rel=1e-8)
    assert rho_to_delta(rho, epsilon) <= delta


@pytest.mark.slow
@given(rho=rhos, factor=st.floats(1, 10), epsilon=epsilons, delta=deltas)
def test_more_rho_costs_more_and_a_larger_delta_costs_less(rho, factor, epsilon, delta):
    hair = 1 + 1e-9
    assert rho_to_epsilon(factor * rho, delta) * hair >= rho_to_epsilon(rho, delta)
    assert rho_to_delta(factor * rho, epsilon) * hair >= rho_to_delta(rho, epsilon)
    assert rho_to_delta(rho, factor * epsilon) <= rho_to_delta(rho, epsilon) * hair
    assert rho_to_epsilon(rho, min(factor * delta, 0.99)) <= rho_to_epsilon(rho, delta) * hair
    assert epsilon_to_rho(factor * epsilon, delta) * hair >= epsilon_to_rho(epsilon, delta)


@pytest.mark.parametrize("delta", [5e-324, 1e-300, 0.999])
@pytest.mark.parametrize("rho", [1e-300, 1e-30, 1.0, 1e8, 1e100])
def test_conversions_stay_finite_at_the_ends_of_the_doubles(rho, delta):
    epsilon = rho_to_epsilon(rho, delta)
    assert math.isfinite(epsilon)
    assert rho_to_delta(rho, epsilon) <= delta
    assert 0 <= epsilon_to_rho(1e100, delta) < math.inf


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_arguments_that_are_no_budget_are_refused(bad):
    for call in (
        lambda: rho_to_delta(bad, 1.0),
        lambda: rho_to_delta(1.0, bad),
        lambda: rho_to_epsilon(bad, 1e-6),
        lambda: rho_to_epsilon(1.0, bad),
        lambda: epsilon_to_rho(bad, 1e-6),
        lambda: epsilon_to_rho(1.0, bad),
    ):
        with pytest.raises(ValueError, match="must"):
            call()
    for delta in (0.0, 1.0):
        with pytest.raises(ValueError, match="delta"):
            rho_to_epsilon(1.0, delta)


# ---------------------------------------------------------------- prices against brute force


def divergence(first, second, order):
    """Return the Renyi divergence of two laws given as probabilities of the same outcomes."""
    total = mpmath.fsum(p**order * q ** (1 - order) for p, q in zip(first, second, strict=True))
    return mpmath.log(total) / (order - 1)


def shift_divergence(law, shift, order):
    """Return the Renyi divergence between an integer law and its shift, on the outcomes where both are given."""
    return divergence(law[shift:], law[: len(law) - shift], order)


@cache
def sum_of_discrete_gaussians(scale, n, reach):
    """Return the probabilities of -reach..reach of a sum of n discrete Gaussians, by convolution in 40 digits.

    What falls outside the reach is dropped: it must be far beyond (largest order x shift + 10 standard deviations).
    """
    with mpmath.workdps(40):
        one = [mpmath.exp(-mpmath.mpf(x * x) / (2 * mpmath.mpf(scale) ** 2)) for x in range(-reach, reach + 1)]
        total = mpmath.fsum(one)
        one = [weight / total for weight in one]
        law = one
        for _ in range(n - 1):
            law = [
                mpmath.fdot(
                    (one[x - y + reach], law[y + reach])
                    for y in range(max(-reach, x - reach), min(reach, x + reach) + 1)
                )
                for x in range(-reach, reach + 1)
            ]
        return law


@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("shift", [1, 3])
def test_discrete_gaussian_price_bounds_every_order_and_less_noise_breaks_it(scale, shift):
    rho = rho_of(DiscreteGaussian(scale=scale, l2_sensitivity_squared=shift**2, linf_sensitivity=shift))
    assert rho == pytest.approx(shift**2 / (2 * scale**2), rel=1e-11)
    orders = [order for order in ORDERS if order <= 8]
    reach = math.ceil(8 * shift + 12 * scale + 4)
    for order in orders:
        assert shift_divergence(sum_of_discrete_gaussians(scale, 1, reach), shift, order) <= rho * order
    broken = [shift_divergence(sum_of_discrete_gaussians(TOO_SMALL * scale, 1, reach), shift, o) for o in orders]
    assert any(value > rho * order for value, order in zip(broken, orders, strict=True))


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_distributed_price_bounds_every_order_of_the_brute_force_sum(scale, n):
    # One integer of sensitivity 1. The orders go as far as the support does.
    rho = rho_of(DistributedDiscreteGaussian(scale, n, 1, 1, 1))
    law = sum_of_discrete_gaussians(scale, n, 45)
    orders = [order for order in ORDERS if order <= 16]
    for order in orders:
        assert shift_divergence(law, 1, order) <= rho * order, order


@pytest.mark.parametrize(("scale", "n"), [(1.0, 2), (1.0, 3), (1.5, 2), (2.0, 3), (2.0, 5)])
def test_distributed_price_is_broken_by_noise_30_percent_too_small(scale, n):
    rho = rho_of(DistributedDiscreteGaussian(scale, n, 1, 1, 1))
    law = sum_of_discrete_gaussians(TOO_SMALL * scale, n, 45)
    assert any(shift_divergence(law, 1, order) > rho * order for order in ORDERS if order <= 16)


def test_distributed_price_holds_for_vectors_because_divergences_add():
    # Sensitivity vector (2, 1, 0): coordinates are independent, so the divergence is the sum over them.
    scale, n = 1.0, 3
    rho = rho_of(DistributedDiscreteGaussian(scale, n, 3, 3, 5))
    law = sum_of_discrete_gaussians(scale, n, 45)
    for order in [order for order in ORDERS if order <= 8]:
        assert shift_divergence(law, 2, order) + shift_divergence(law, 1, order) <= rho * order


def test_a_sum_of_discrete_gaussians_is_not_priced_as_one_where_it_differs():
    # At a small scale the sum's divergence exceeds the discrete Gaussian's rate: the paid-for difference is real.
    scale, n = 0.5, 2
    law = sum_of_discrete_gaussians(scale, n, 45)
    naive = 1 / (2 * n * scale**2)
    assert any(shift_divergence(law, 1, order) > naive * order for order in ORDERS if order <= 16)


@pytest.mark.parametrize(
    ("scale", "n", "d", "l1", "l2"), [(0.5, 2, 1, 1, 1), (0.8, 7, 40, 12, 30), (2.0, 3, 500, 9, 9)]
)
def test_distributed_price_is_proposition_14(scale, n, d, l1, l2):
    with mpmath.workdps(30):
        s = mpmath.mpf(scale)
        tau = 10 * mpmath.fsum(mpmath.exp(-2 * mpmath.pi**2 * s**2 * mpmath.mpf(k) / (k + 1)) for k in range(1, n))
        expected = (mpmath.mpf(l2) / (n * s**2) + 2 * l1 * tau / (mpmath.sqrt(n) * s) + tau**2 * d) / 2
    got = rho_of(DistributedDiscreteGaussian(scale, n, d, l1, l2))
    assert expected <= got <= expected * (1 + mpmath.mpf("1e-11"))


def test_one_honest_party_costs_what_its_own_noise_costs():
    assert rho_of(DistributedDiscreteGaussian(3.0, 1, 7, 4, 6)) == rho_of(
        DiscreteGaussian(scale=3.0, l2_sensitivity_squared=6)
    )


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5, 1.0, 2.0, 3.0, 10.0])
def test_pure_price_bounds_the_worst_pair_of_laws_at_every_order(epsilon):
    # Randomised response is the worst case of pure DP: (e^eps, 1) / (1 + e^eps) against its mirror image.
    e = mpmath.exp(epsilon)
    law = [e / (1 + e), 1 / (1 + e)]
    rho = rho_of(PureDP(epsilon))
    assert rho == pytest.approx(min(epsilon**2 / 2, epsilon), rel=1e-11)
    for order in ORDERS:
        assert divergence(law, law[::-1], order) <= rho * order
    # Negative control: a mechanism of a third more epsilon is not covered.
    f = mpmath.exp(epsilon / TOO_SMALL)
    worse = [f / (1 + f), 1 / (1 + f)]
    assert any(divergence(worse, worse[::-1], order) > rho * order for order in ORDERS)


@pytest.mark.parametrize("noise_multiplier", [0.3, 1.0, 4.0])
def test_laplace_prices_bound_the_brute_force_divergence(noise_multiplier):
    with mpmath.workdps(30):
        reach = math.ceil(80 * noise_multiplier)
        weights = [mpmath.exp(-abs(x) / mpmath.mpf(noise_multiplier)) for x in range(-reach, reach + 1)]
        total = mpmath.fsum(weights)
        law = [weight / total for weight in weights]
        for event, order in product((Laplace(noise_multiplier), DiscreteLaplace(noise_multiplier)), ORDERS):
            assert shift_divergence(law, 1, order) <= rho_of(event) * order
    assert rho_of(Laplace(noise_multiplier)) == rho_of(PureDP(1 / noise_multiplier))


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0, 8.0, 20.0])
def test_exponential_mechanism_price_bounds_every_bounded_range_pair(epsilon):
    # Worst case of a range of epsilon: two outcomes with log-ratios t - epsilon and t, for some t in (0, epsilon).
    rho = rho_of(ExponentialMechanism(epsilon))
    assert rho <= epsilon**2 / 8 * (1 + 1e-11)
    worst = mpmath.mpf(0)
    for t in np.linspace(0.01, 0.99, 50) * epsilon:
        top, bottom = mpmath.exp(t), mpmath.exp(t - epsilon)
        q = (1 - bottom) / (top - bottom)
        first, second = [q * top, (1 - q) * bottom], [q, 1 - q]
        assert mpmath.almosteq(sum(first), 1)
        for order in ORDERS:
            value = divergence(first, second, order)
            assert value <= rho * order
            worst = max(worst, value / (rho * order))
    if epsilon <= 1:
        assert worst > 0.9  # and the price is not a loose one


# ---------------------------------------------------------------- the accountant

priced = st.one_of(
    st.floats(0.1, 100).map(Gaussian),
    st.floats(0.1, 100).map(Laplace),
    st.floats(0.01, 5).map(PureDP),
    st.floats(0.01, 5).map(ExponentialMechanism),
    st.floats(1e-6, 5).map(ZeroConcentratedDP),
    st.floats(0.5, 50).map(lambda s: DistributedDiscreteGaussian(s, 3, 20, 5, 9)),
    st.integers(1, 50).map(lambda l2: DiscreteGaussian(scale=9.0, l2_sensitivity_squared=l2)),
)


def account_of(*events):
    accountant = ZcdpAccountant(neighbours="add_remove_one")
    for event in events:
        accountant.compose(event)
    return accountant


@given(st.lists(priced, min_size=1, max_size=6))
def test_composition_is_the_sum_in_any_order_and_grouping(events):
    total = math.fsum(rho_of(event) for event in events)
    for accountant in (account_of(*events), account_of(*reversed(events)), account_of(Composed(tuple(events)))):
        assert accountant.rho == pytest.approx(total, rel=1e-11)
        assert accountant.rho >= total * (1 - 1e-15)


@given(priced, st.integers(1, 200))
def test_count_equals_that_many_singles(event, count):
    counted = ZcdpAccountant(neighbours="add_remove_one")
    counted.compose(event, count=count)
    singles = account_of(*[event] * count)
    assert counted.rho == pytest.approx(singles.rho, rel=1e-11)
    assert account_of(Repeated(event, count)).rho == counted.rho
    assert counted.rho == pytest.approx(count * rho_of(event), rel=1e-11)


@given(priced)
def test_one_more_release_never_makes_epsilon_smaller(event):
    before, after = account_of(Gaussian(5.0)), account_of(Gaussian(5.0), event)
    assert after.rho > before.rho
    assert after.epsilon(delta=1e-6) >= before.epsilon(delta=1e-6)
    assert after.delta(epsilon=1.0) >= before.delta(epsilon=1.0)


class UnknownEvent(Event):
    """An event type that no accountant knows."""

    kind = "unknown"


@pytest.mark.parametrize(
    "event",
    [
        NonPrivate("the exact curve"),
        UnknownEvent(),
        Repeated(NonPrivate("x"), 3),
        Composed((Gaussian(1.0), NonPrivate("x"))),
        Composed((Gaussian(1.0), Repeated(Composed((UnknownEvent(),)), 2))),
    ],
)
def test_an_event_without_a_price_is_refused_and_leaves_the_accountant_unchanged(event):
    accountant = account_of(Gaussian(2.0))
    before = accountant.rho
    assert not accountant.supports(event)
    with pytest.raises(UnsupportedEvent, match="zCDP cannot price"):
        accountant.compose(event, count=2)
    with pytest.raises(ValueError, match="count"):
        accountant.compose(Gaussian(1.0), count=0)
    assert accountant.rho == before
    assert accountant.supports(Gaussian(2.0))


def test_an_empty_account_has_spent_nothing():
    accountant = ZcdpAccountant(neighbours="replace_one")
    assert (accountant.rho, accountant.epsilon(delta=1e-9), accountant.delta(epsilon=0.0)) == (0, 0, 0)
    with pytest.raises(ValueError, match="neighbours must be one of"):
        ZcdpAccountant(neighbours="whatever")


@pytest.mark.parametrize(
    "event",
    [
        Gaussian(1e300),
        DiscreteGaussian(scale=1e200),
        PureDP(1e-200),
        ExponentialMechanism(1e-170),
        ZeroConcentratedDP(5e-324),
        Repeated(Gaussian(1e300), 10**6),
    ],
)
def test_no_release_is_free_however_small_its_cost(event):
    assert rho_of(event) > 0
    assert account_of(Gaussian(1e300), event).rho > account_of(Gaussian(1e300)).rho


@pytest.mark.parametrize(
    "event",
    [
        Gaussian(1e-200),
        Repeated(Gaussian(1.0), 10**400),
        DiscreteGaussian(scale=1.0, l2_sensitivity_squared=10**400),
        Composed((ZeroConcentratedDP(1.7e308), ZeroConcentratedDP(1.7e308))),
    ],
)
def test_a_cost_beyond_the_doubles_is_infinite_not_a_crash(event):
    accountant = account_of(Gaussian(1.0), event)
    assert accountant.rho == math.inf
    assert accountant.epsilon(delta=1e-6) == math.inf
    assert accountant.delta(epsilon=5.0) == 1
