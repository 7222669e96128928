"""Renyi divergences against 40-digit sums and brute force; conversions never below the exact epsilon."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import (
    ApproximateDP,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    DistributedSkellam,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    NonPrivate,
    PermuteAndFlip,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    RdpAccountant,
    Repeated,
    SampledWithoutReplacement,
    UnsupportedEvent,
    ZeroConcentratedDP,
    rdp_of,
)
from privacy._sampled_gaussian import sampled_gaussian_rdp, sampled_pure_rdp

# A bound may be this much above the exact value, relative, and never below it.
TIGHT = 2e-12
TOO_SMALL = 0.7
# Of the 40 in which the oracle sums.
VECTOR_DIGITS = 25
ORDERS = np.array([1 + 1e-6, 1.001, 1.1, 1.5, 2.0, 2.5, 3.0, 7.3, 20.0, 64.0])


def assert_just_above(got, exact, slack=TIGHT):
    """Check that `got` is at least `exact` and at most a relative `slack` above it."""
    assert exact <= got <= exact * (1 + slack), (got, exact)


# ---------------------------------------------------------------- the sampled Gaussian


def sampled_gaussian_oracle(noise_multiplier, rate, order, direction="remove"):
    """Return the divergence by a trapezoid sum in 40 digits, at a step far below what double precision needs."""
    with mpmath.workdps(40):
        s, q, alpha = 1 / mpmath.mpf(noise_multiplier), mpmath.mpf(rate), mpmath.mpf(order)
        power = alpha if direction == "remove" else 1 - alpha
        step = min(mpmath.mpf("0.2"), mpmath.mpf("0.2") / s)
        # In the other direction the tilt goes to the left.
        low, high = min(power * s, mpmath.mpf(0)) - 15, max(power * s, mpmath.mpf(0)) + s + 15

        def term(y):
            w = 1 - q + q * mpmath.exp(s * y - s * s / 2)
            # E[w] = 1 under the base: what is subtracted has mean 0, and the rest no cancellation.
            return mpmath.npdf(y) * (w**power - 1 - power * (w - 1))

        total = mpmath.fsum(term(low + k * step) for k in range(int((high - low) / step) + 1)) * step
        return mpmath.log1p(total) / (alpha - 1)


@pytest.mark.parametrize(
    ("rate", "noise_multiplier", "order", "value"),
    [
        (0.01, 1.0, 2.0, "1.718134220745479309906573e-4"),
        (0.01, 1.0, 2.5, "2.175753322818804526148431e-4"),
        (0.01, 1.0, 8.0, "8.936439076060318473451405e-4"),
        (0.1, 2.0, 1.5, "2.098934595710176514531495e-3"),
    ],
)
def test_sampled_gaussian_equals_published_values(rate, noise_multiplier, order, value):
    got = rdp_of(PoissonSampled(Gaussian(noise_multiplier), rate), order, neighbours="add_remove_one")
    assert_just_above(float(got), float(value), 4e-12)
    assert float(sampled_gaussian_oracle(noise_multiplier, rate, order)) == pytest.approx(float(value), rel=1e-15)


def test_the_oracle_of_the_other_direction_gives_its_published_value():
    assert float(sampled_gaussian_oracle(2, 0.1, 1.5, "add")) == pytest.approx(1.995191233686e-3, rel=1e-12)


VECTORS = json.loads((Path(__file__).parent / "vectors" / "sampled_gaussian_rdp.json").read_text())["vectors"]


def test_sampled_gaussian_is_just_above_40_digits_at_random_real_orders_rates_and_noises():
    with mpmath.workdps(40):
        for case in VECTORS:
            a = np.array([case["order_less_one"]])
            got = float(sampled_gaussian_rdp(case["noise_multiplier"], case["rate"], a)[0])
            assert_just_above(got, mpmath.mpf(case["rdp"]))
            # Negative control: the price of 30 % less noise is another number.
            assert got < mpmath.mpf(case["rdp_of_less_noise"])
    assert len(VECTORS) > 30


@pytest.mark.slow
@pytest.mark.parametrize("case", VECTORS, ids=[f"case{i}" for i in range(len(VECTORS))])
def test_the_vectors_are_those_of_the_oracle(case):
    order = 1 + mpmath.mpf(case["order_less_one"])
    for name, factor in (("rdp", 1), ("rdp_of_less_noise", TOO_SMALL)):
        exact = sampled_gaussian_oracle(factor * case["noise_multiplier"], case["rate"], order)
        assert mpmath.nstr(exact, VECTOR_DIGITS) == case[name]


@pytest.mark.slow
@pytest.mark.parametrize("noise_multiplier", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.3, 0.9])
def test_adding_never_costs_more_than_removing(noise_multiplier, rate):
    for order in (1.001, 1.5, 2, 3.7, 16):
        price = float(sampled_gaussian_rdp(noise_multiplier, rate, np.array([order - 1]))[0])
        assert sampled_gaussian_oracle(noise_multiplier, rate, order, "add") <= price


@pytest.mark.parametrize(("rate", "noise_multiplier"), [(0.02, 0.8), (0.5, 3.0), (1e-4, 0.3)])
def test_integer_orders_equal_the_binomial_sum(rate, noise_multiplier):
    with mpmath.workdps(30):
        for alpha in (2, 3, 5, 17, 60):
            q = mpmath.mpf(rate)
            total = mpmath.fsum(
                mpmath.binomial(alpha, k)
                * (1 - q) ** (alpha - k)
                * q**k
                * mpmath.exp(mpmath.mpf(k * (k - 1)) / (2 * mpmath.mpf(noise_multiplier) ** 2))
                for k in range(alpha + 1)
            )
            got = float(sampled_gaussian_rdp(noise_multiplier, rate, np.array([alpha - 1.0]))[0])
            assert_just_above(got, mpmath.log(total) / (alpha - 1))


@pytest.mark.parametrize("noise_multiplier", [1e-6, 0.02, 0.041, 0.05, 0.3, 1.0, 30.0, 1e4, 1e9])
@pytest.mark.parametrize("rate", [1e-300, 1e-8, 0.01, 0.5, 1 - 1e-12, 1.0])
def test_the_curve_is_finite_increasing_in_the_order_and_below_the_plain_gaussian(rate, noise_multiplier):
    a = np.geomspace(1e-7, 1e9, 41)
    curve = sampled_gaussian_rdp(noise_multiplier, rate, a)
    assert np.isfinite(curve).all()
    assert (curve >= 0).all()
    assert (np.diff(curve) >= -1e-11 * curve[1:]).all()
    assert (curve <= (1 + a) / (2 * noise_multiplier**2) * (1 + 1e-12)).all()


@given(rate=st.floats(1e-8, 1), noise=st.floats(0.05, 100), factor=st.floats(1.001, 3), a=st.floats(1e-4, 1e3))
def test_sampling_more_costs_more_and_noise_makes_it_cheaper(rate, noise, factor, a):
    order = np.array([a])
    hair = 1 + 1e-11
    price = sampled_gaussian_rdp(noise, rate, order)[0]
    assert sampled_gaussian_rdp(noise * factor, rate, order)[0] <= price * hair
    assert sampled_gaussian_rdp(noise, min(1.0, rate * factor), order)[0] * hair >= price


def test_a_sampled_pure_release_is_just_above_its_two_outcomes():
    generator = np.random.default_rng(7)
    with mpmath.workdps(900):
        for _ in range(60):
            epsilon, rate, a = (10 ** generator.uniform(*ends) for ends in ((-6, 2.9), (-8, 0), (-6, 5)))
            grow, q, alpha = mpmath.exp(epsilon), mpmath.mpf(rate), 1 + mpmath.mpf(a)
            moment = ((1 - q + q * grow) ** alpha + grow * (1 - q + q / grow) ** alpha) / (1 + grow)
            got = float(sampled_pure_rdp(epsilon, rate, np.array([a]))[0])
            assert_just_above(got, mpmath.log(moment) / a, 1e-11)


# ---------------------------------------------------------------- closed forms


def divergence(first, second, order):
    """Return the Renyi divergence of two laws given as probabilities of the same outcomes."""
    return mpmath.log(mpmath.fsum(p**order * q ** (1 - order) for p, q in zip(first, second, strict=True))) / (
        order - 1
    )


def price(event, order, neighbours="add_remove_one"):
    return float(rdp_of(event, float(order), neighbours=neighbours))


@pytest.mark.parametrize("epsilon", [1e-7, 0.01, 0.5, 1.0, 3.0, 40.0])
def test_pure_prices_are_those_of_randomised_response(epsilon):
    with mpmath.workdps(60):
        e = mpmath.exp(epsilon)
        law = [e / (1 + e), 1 / (1 + e)]
        for order in map(float, ORDERS):
            exact = divergence(law, law[::-1], mpmath.mpf(order))
            for event in (PureDP(epsilon), PermuteAndFlip(epsilon), DiscreteLaplace(1 / epsilon)):
                assert_just_above(price(event, order), exact, 1e-11)
            assert price(RandomizedResponse(epsilon), order, "replace_one") == price(PureDP(epsilon), order)
            assert price(PureDP(TOO_SMALL * epsilon), order) < exact


def test_discrete_laplace_noise_is_as_bad_as_randomised_response():
    # Sensitivity 1, by brute force over the integers: the price is attained.
    with mpmath.workdps(30):
        weights = [mpmath.exp(-abs(x) / mpmath.mpf(2)) for x in range(-200, 202)]
        law = [w / mpmath.fsum(weights) for w in weights]
        for order in (1.5, 2, 7):
            assert float(divergence(law[1:], law[:-1], order)) == pytest.approx(
                price(DiscreteLaplace(2.0), order), rel=1e-9
            )


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0, 10.0, 1e5])
def test_laplace_price_is_its_integral(scale):
    with mpmath.workdps(60):
        # Outside the two shifted peaks the likelihood ratio is constant; between them the integral is elementary:
        # mean of ratio^alpha = e^(a e) / 2 + e^(-alpha e) / 2 + (e^(a e) - e^(-alpha e)) / (2 (2 alpha - 1)).
        e = 1 / mpmath.mpf(scale)
        for order in map(float, ORDERS):
            alpha = mpmath.mpf(order)
            up, down = mpmath.exp((alpha - 1) * e), mpmath.exp(-alpha * e)
            exact = mpmath.log(up / 2 + down / 2 + (up - down) / (2 * (2 * alpha - 1))) / (alpha - 1)
            assert_just_above(price(Laplace(scale), order), exact, 1e-11)


def test_a_vector_with_laplace_noise_costs_no_more_than_one_number_of_the_same_sensitivity():
    for order in map(float, ORDERS):
        for parts in ((0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5)):
            split = sum(price(Laplace(1 / part), order) for part in parts)
            assert split <= price(Laplace(1.0), order) * (1 + 1e-10)


@pytest.mark.parametrize("epsilon", [1e-5, 0.1, 1.0, 3.0, 8.0, 30.0])
def test_bounded_range_price_is_the_worst_pair_and_not_more(epsilon):
    with mpmath.workdps(60):
        for order in map(float, ORDERS):
            worst = mpmath.mpf(0)
            for share in np.linspace(0.01, 0.99, 99):
                top, bottom = mpmath.exp(share * epsilon), mpmath.exp((share - 1) * epsilon)
                q = (1 - bottom) / (top - bottom)
                worst = max(worst, divergence([q * top, (1 - q) * bottom], [q, 1 - q], mpmath.mpf(order)))
            got = price(ExponentialMechanism(epsilon), order)
            # The scan of pairs misses the worst by a little where it is narrow.
            assert worst <= got <= worst * 1.25
            assert got <= order * epsilon**2 / 8 * (1 + 1e-11)
            if epsilon >= 1:
                assert price(ExponentialMechanism(TOO_SMALL * epsilon), order) < worst


@pytest.mark.parametrize("variance", [0.3, 1.0, 6.0, 40.0])
@pytest.mark.parametrize("shift", [1, 3])
def test_skellam_price_bounds_the_brute_force_divergence_at_every_real_order(variance, shift):
    event = DistributedSkellam(variance / 3, 3, 1, shift, shift**2)
    with mpmath.workdps(30):
        reach = 60 + int(16 * shift + 3 * variance)
        law = [mpmath.exp(-variance) * mpmath.besseli(abs(x), variance) for x in range(-reach, reach + 1)]
        assert float(mpmath.fsum(law)) == pytest.approx(1)
        for order in (1.01, 1.5, 2, 2.5, 3, 6.4):
            exact = divergence(law[shift:], law[: len(law) - shift], mpmath.mpf(order))
            assert exact <= price(event, order)
            if variance >= 40 and order == 2:
                assert price(event, order) < 1.06 * exact
        # Negative control: noise of half the variance is not covered where the bound is close.
        if variance >= 6 and shift == 1:
            weak = DistributedSkellam(variance * 2 / 3, 3, 1, 1, 1)
            assert price(weak, 2) < divergence(law[1:], law[:-1], 2)


def test_gaussian_like_events_grow_linearly_in_the_order():
    for order in map(float, ORDERS):
        assert_just_above(price(Gaussian(2.0), order), order / 8, 1e-11)
        assert_just_above(price(DiscreteGaussian(scale=3.0, l2_sensitivity_squared=5), order), order * 5 / 18, 1e-11)
        assert_just_above(price(ZeroConcentratedDP(0.25), order), order / 4, 1e-11)


@pytest.mark.parametrize("scale", [0.8, 2.0])
@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_sampled_discrete_gaussian_price_bounds_the_brute_force_divergence_in_both_directions(scale, rate):
    event = PoissonSampled(DiscreteGaussian(scale=scale, l2_sensitivity_squared=4, linf_sensitivity=2), rate)
    with mpmath.workdps(40):
        weights = [mpmath.exp(-mpmath.mpf(x * x) / (2 * mpmath.mpf(scale) ** 2)) for x in range(-50, 51)]
        law = [w / mpmath.fsum(weights) for w in weights]
        without, shifted = law[2:], law[:-2]
        mixed = [(1 - rate) * p + rate * q for p, q in zip(without, shifted, strict=True)]
        for order in (1.3, 2, 2.5, 5, 7.9):
            exact = max(divergence(mixed, without, order), divergence(without, mixed, order))
            assert exact <= price(event, order)
            assert price(event, order) <= price(event.event, order) * (1 + 1e-11)


@pytest.mark.parametrize("noise_multiplier", [1.0, 4.0])
@pytest.mark.parametrize(("size", "population"), [(1, 100), (20, 100), (90, 100)])
def test_samples_of_a_fixed_size_cost_at_least_the_divergence_of_a_concrete_pair(noise_multiplier, size, population):
    # All others hold 0, the replaced patient +1/2 or -1/2: sensitivity 1 under replace_one.
    event = SampledWithoutReplacement(Gaussian(noise_multiplier), size, population)
    rate, x = size / population, np.linspace(-60, 60, 240_001)

    def density(centre):
        def bell(c):
            return np.exp(-0.5 * ((x - c) / noise_multiplier) ** 2) / (noise_multiplier * math.sqrt(2 * math.pi))

        return (1 - rate) * bell(0) + rate * bell(centre)

    first, second = density(0.5), density(-0.5)
    for order in (1.5, 2.0, 3.0, 4.7, 8.0):
        positive = (first > 0) & (second > 0)
        moment = np.sum(np.exp(order * np.log(first[positive]) + (1 - order) * np.log(second[positive]))) * (
            x[1] - x[0]
        )
        got = price(event, order, "replace_one")
        assert math.log(moment) / (order - 1) <= got * (1 + 1e-9)
        assert got <= price(event.event, order, "replace_one") * (1 + 1e-11)


def test_samples_of_a_fixed_size_follow_the_published_sum_at_integer_orders():
    rho, rate = 0.5, 0.01
    for alpha in (2, 3, 9):
        total = 1 + rate**2 * math.comb(alpha, 2) * min(4 * math.expm1(2 * rho), 2 * math.exp(2 * rho))
        total += sum(2 * rate**j * math.comb(alpha, j) * math.exp((j - 1) * j * rho) for j in range(3, alpha + 1))
        got = price(SampledWithoutReplacement(Gaussian(1.0), 1, 100), alpha, "replace_one")
        assert_just_above(got, math.log(total) / (alpha - 1), 1e-8)


def test_pure_samples_are_amplified_and_whole_samples_are_not():
    amplified = math.log1p(0.1 * math.expm1(1.0))
    assert price(SampledWithoutReplacement(PureDP(1.0), 1, 10), 5, "replace_one") == pytest.approx(
        price(PureDP(amplified), 5), rel=1e-9
    )
    for event in (PureDP(1.0), Gaussian(2.0), Laplace(3.0)):
        assert price(SampledWithoutReplacement(event, 7, 7), 5, "replace_one") == price(event, 5)
        assert price(PoissonSampled(event, 1.0), 5) == pytest.approx(price(event, 5), rel=1e-11)


# ---------------------------------------------------------------- the accountant


def account_of(*events, neighbours="add_remove_one"):
    accountant = RdpAccountant(neighbours=neighbours)
    for event in events:
        accountant.compose(event)
    return accountant


@pytest.mark.parametrize(
    ("steps", "exact", "most"),
    # What dp-accounting's RDP reports is what ours may not exceed.
    [(1_000, 1.828236666516577, 2.10137), (10_000, 6.187712389972, 6.71276), (100_000, 25.573106986521504, 27.23790)],
)
def test_sampled_gaussian_epsilon_lies_between_the_exact_one_and_the_peers(steps, exact, most):
    accountant = RdpAccountant(neighbours="add_remove_one")
    accountant.compose(PoissonSampled(Gaussian(1.0), 0.01), count=steps)
    epsilon = accountant.epsilon(delta=1e-5)
    assert exact < epsilon < most
    assert accountant.delta(epsilon=epsilon) == pytest.approx(1e-5, rel=1e-6)


def exact_gaussian_epsilon(noise_multiplier, delta):
    with mpmath.workdps(40):
        mu = 1 / mpmath.mpf(noise_multiplier)

        def excess(e):
            return mpmath.ncdf(mu / 2 - e / mu) - mpmath.exp(e) * mpmath.ncdf(-mu / 2 - e / mu) - mpmath.mpf(delta)

        low, high = mpmath.mpf(0), mpmath.mpf(1000)
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) > 0 else (low, middle)
        return float(high)


@pytest.mark.parametrize("delta", [1e-4, 1e-9, 1e-100])
@pytest.mark.parametrize("noise_multiplier", [0.3, 1.0, 10.0])
def test_gaussian_epsilon_is_at_least_exact_and_equals_the_zcdp_conversion(noise_multiplier, delta):
    from privacy import ZcdpAccountant

    accountant, reference = account_of(Gaussian(noise_multiplier)), ZcdpAccountant(neighbours="add_remove_one")
    reference.compose(Gaussian(noise_multiplier))
    epsilon = accountant.epsilon(delta=delta)
    assert exact_gaussian_epsilon(noise_multiplier, delta) < epsilon
    assert epsilon == pytest.approx(reference.epsilon(delta=delta), rel=1e-6)


def test_orders_that_are_not_integers_make_it_tighter_where_epsilon_is_large():
    accountant = account_of(Gaussian(0.05))
    integers = np.arange(2, 200)
    at_integers = accountant.rdp(integers) + np.log1p(-1 / integers) - np.log(1e-5 * integers) / (integers - 1)
    assert accountant.epsilon(delta=1e-5) < 0.8 * at_integers.min()


def test_the_deltas_of_black_boxes_are_added():
    accountant = account_of(Gaussian(2.0), Repeated(ApproximateDP(0.0, 1e-7), 30))
    assert accountant.epsilon(delta=1e-5) == pytest.approx(account_of(Gaussian(2.0)).epsilon(delta=7e-6), rel=1e-9)
    assert accountant.epsilon(delta=2.9e-6) == math.inf
    only = account_of(ApproximateDP(0.5, 1e-7), ApproximateDP(0.25, 2e-7))
    assert only.epsilon(delta=1e-6) <= 0.75 * (1 + 1e-11)
    assert only.delta(epsilon=0.76) == pytest.approx(3e-7, rel=1e-9)
    assert account_of(Repeated(ApproximateDP(0.1, 0.1), 100)).delta(epsilon=1.0) == 1


def test_a_sampled_black_box_is_amplified():
    sampled = account_of(PoissonSampled(ApproximateDP(1.0, 1e-5), 0.1))
    amplified = math.log1p(0.1 * math.expm1(1.0))
    assert sampled.delta(epsilon=amplified * (1 + 1e-9)) == pytest.approx(1e-6, rel=1e-9)


def test_pure_releases_never_cost_more_than_the_sum_of_their_epsilons():
    assert account_of(PureDP(0.3), Laplace(10.0)).epsilon(delta=1e-300) <= 0.4 * (1 + 1e-11)
    assert account_of(Repeated(PureDP(0.1), 100)).epsilon(delta=1e-5) < 6


@pytest.mark.parametrize("delta", [1e-300, 1e-12, 0.5])
def test_no_hang_nan_or_exception_over_the_domain(delta):
    generator = np.random.default_rng(11)
    cases = [(1e-8, 0.05, 10**9), (1.0, 1e4, 1), (1e-8, 1e4, 1), (1.0, 0.05, 10**9), (0.5, 0.05, 1), (1e-5, 1.0, 1000)]
    cases += [
        (10 ** generator.uniform(-8, 0), 10 ** generator.uniform(-1.3, 4), int(10 ** generator.uniform(0, 9)))
        for _ in range(12)
    ]
    for rate, noise, steps in cases:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            accountant = RdpAccountant(neighbours="add_remove_one")
            accountant.compose(PoissonSampled(Gaussian(noise), rate), count=steps)
            epsilon = accountant.epsilon(delta=delta)
            assert 0 <= epsilon < math.inf
            assert 0 <= accountant.delta(epsilon=epsilon) <= delta * (1 + 1e-6)


@pytest.mark.parametrize("count", [10**30, 10**400])
def test_absurd_counts_are_infinite_or_large_not_a_crash(count):
    accountant = RdpAccountant(neighbours="add_remove_one")
    accountant.compose(Gaussian(1.0), count=count)
    accountant.compose(ApproximateDP(0.0, 1e-300), count=1)
    assert accountant.epsilon(delta=1e-5) > 1e20
    assert accountant.delta(epsilon=1.0) == 1


@pytest.mark.parametrize("neighbours", ["add_remove_one", "replace_one"])
@pytest.mark.parametrize(
    "event",
    [
        Laplace(5e-324),
        Laplace(1e-310),
        Laplace(1e308),
        DiscreteLaplace(1e-310),
        PureDP(1e308),
        PureDP(5e-324),
        ExponentialMechanism(1e308),
        ExponentialMechanism(1e-320),
        Gaussian(1e-200),
        Gaussian(1e300),
        DistributedSkellam(1e-300, 1, 1, 1, 10**300),
        DistributedSkellam(1e300, 1, 1, 1, 1),
        DiscreteGaussian(scale=1.0, l2_sensitivity_squared=10**400),
        SampledWithoutReplacement(Gaussian(1e-3), 1, 10**9),
        SampledWithoutReplacement(PureDP(1e300), 1, 10**9),
        SampledWithoutReplacement(Gaussian(1e5), 1, 10**30),
        PoissonSampled(PureDP(1e300), 0.1),
        PoissonSampled(PureDP(1e-300), 1e-300),
        PoissonSampled(DiscreteGaussian(scale=1e-3), 0.1),
        PoissonSampled(Laplace(1e-310), 0.1),
        PoissonSampled(Gaussian(1e-200), 0.1),
        PoissonSampled(Gaussian(1e200), 1e-200),
    ],
    ids=repr,
)
def test_the_ends_of_the_doubles_cost_all_or_next_to_nothing_but_no_exception(event, neighbours):
    accountant = RdpAccountant(neighbours=neighbours)
    if accountant.supports(event):
        accountant.compose(event)
        epsilon, delta = accountant.epsilon(delta=1e-6), accountant.delta(epsilon=1.0)
        assert (epsilon, delta) == (0, pytest.approx(0, abs=1e-300)) or (epsilon > 20 and delta == 1)
        if isinstance(event, PoissonSampled) and event.event == PureDP(1e300):
            assert epsilon >= 1e300


@pytest.mark.parametrize(
    "event",
    [
        NonPrivate("the exact curve"),
        RandomizedResponse(1.0),
        SampledWithoutReplacement(Gaussian(1.0), 1, 10),
        PoissonSampled(RandomizedResponse(1.0), 0.1),
        PoissonSampled(Composed((Gaussian(1.0), Gaussian(1.0))), 0.1),
        PoissonSampled(ZeroConcentratedDP(0.1), 0.1),
        Composed((Gaussian(1.0), Repeated(NonPrivate("x"), 2))),
    ],
)
def test_what_has_no_price_under_the_relation_is_refused_by_name(event):
    accountant = account_of(Gaussian(1.0))
    before = accountant.epsilon(delta=1e-5)
    assert not accountant.supports(event)
    with pytest.raises(UnsupportedEvent, match="RDP cannot price") as caught:
        accountant.compose(event)
    # The part that cannot be priced is named, not the whole.
    assert not isinstance(caught.value.event, Composed) or isinstance(event, PoissonSampled)
    assert accountant.epsilon(delta=1e-5) == before


def test_poisson_samples_are_refused_under_replace_one():
    with pytest.raises(UnsupportedEvent, match="add_remove_one only"):
        account_of(PoissonSampled(Gaussian(1.0), 0.1), neighbours="replace_one")


def test_rdp_of_refuses_what_is_no_divergence():
    with pytest.raises(UnsupportedEvent, match="its delta"):
        rdp_of(ApproximateDP(0.1, 1e-6), 2.0, neighbours="replace_one")
    for orders in (1.0, [2.0, math.nan], math.inf):
        with pytest.raises(ValueError, match="orders"):
            rdp_of(Gaussian(1.0), orders, neighbours="replace_one")
        with pytest.raises(ValueError, match="orders"):
            account_of().rdp(orders)


def test_a_thousand_kinds_of_events_are_priced_from_their_counts():
    accountant = RdpAccountant(neighbours="add_remove_one")
    for i in range(1000):
        accountant.compose(Gaussian(100.0 + i), count=1000 + i)
    rho = math.fsum((1000 + i) / (2 * (100.0 + i) ** 2) for i in range(1000))
    assert accountant.epsilon(delta=1e-6) == pytest.approx(
        account_of(ZeroConcentratedDP(rho)).epsilon(delta=1e-6), rel=1e-9
    )


@pytest.mark.parametrize("rate", [1e-315, 1e-309, 1e-307, 1e-300])
def test_rates_at_the_end_of_the_doubles_are_not_free(rate):
    # Delta of one release at epsilon 1 is about the rate, if the release itself hides nothing.
    accountant = RdpAccountant(neighbours="add_remove_one")
    accountant.compose(PoissonSampled(PureDP(800.0), rate))
    assert accountant.delta(epsilon=1.0) >= rate
