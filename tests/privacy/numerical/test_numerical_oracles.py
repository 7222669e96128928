"""The certified intervals against independent values: closed forms, brute force and 40-digit quadrature by mpmath."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

from privacy.events import (
    ApproximateDP,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    PermuteAndFlip,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    Repeated,
)
from privacy.numerical import NumericalAccountant, _moment, _paths, _sampled_law
from privacy.numerical._sampled_law import SampledLaw

RELATIVE = 1e-9


DIGITS = 40


def account(*events, neighbours="add_remove_one"):
    accountant = NumericalAccountant(neighbours=neighbours)
    for event in events:
        accountant.compose(event)
    return accountant


def check(interval, exact, relative=RELATIVE, absolute=1e-12):
    low, high = interval
    assert mpf(low) <= exact <= mpf(high), (low, high, exact)
    assert high - low <= max(relative * float(exact), absolute), (low, high)


def phi(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def gaussian_delta(sigma, epsilon):
    s, e = mpf(sigma), mpf(epsilon)
    return phi(1 / (2 * s) - e * s) - mpmath.exp(e) * phi(-1 / (2 * s) - e * s)


@pytest.mark.parametrize(
    ("sigma", "delta", "exact"),
    [(1.0, 1e-5, "4.37717809568122462765011629324"), (10.0, 1e-9, "0.535148231553172567232410056879")],
)
def test_epsilon_of_a_gaussian_is_the_closed_form(sigma, delta, exact):
    check(account(Gaussian(sigma)).epsilon_interval(delta=delta), mpf(exact))


@pytest.mark.parametrize(
    ("sigma", "epsilon"),
    [(1, 1), (1, 0), (5, 0.5), (10, 0.1), (0.05, 100), (0.05, 250), (1e4, 0), (1e4, 1e-4), (1, 35)],
)
def test_delta_of_a_gaussian_is_the_closed_form(sigma, epsilon):
    interval = account(Gaussian(sigma)).delta_interval(epsilon=epsilon)
    check(interval, gaussian_delta(sigma, epsilon), absolute=0)


def test_delta_below_the_doubles_is_given_in_logs():
    low, high = account(Gaussian(1.0)).log_delta_interval(epsilon=40.0)
    exact = mpmath.log(gaussian_delta(1, 40))
    assert low <= exact <= high
    assert high - low < RELATIVE
    assert account(Gaussian(1.0)).delta(epsilon=40.0) > 0


def test_many_gaussians_are_one():
    many = account(Repeated(Gaussian(20.0), 100), Composed((Repeated(Gaussian(40.0), 1200),)))
    exact = account(Gaussian(1.0)).epsilon_interval(delta=1e-6)
    assert many.epsilon(delta=1e-6) == pytest.approx(exact[1], rel=1e-12)


@pytest.mark.parametrize(("steps", "exact"), [(1_000, "1.828236666516577"), (100_000, "25.57310698652150432174")])
def test_sampled_gaussian_steps_cost_the_published_epsilon(steps, exact):
    event = Repeated(PoissonSampled(Gaussian(1.0), 0.01), steps)
    low, high = account(event).epsilon_interval(delta=1e-5)
    # The reference has 16 digits: half a unit of its last one is granted.
    assert low * (1 - 1e-15) <= float(exact) <= high * (1 + 1e-15)
    assert high - low <= RELATIVE * high


def slow_sampled_delta(q, sigma, n, epsilon, c, step):
    """Delta, the larger of both directions: trapezoids within trapezoids at 30 digits, on a line of its own."""
    s = mpf(sigma)
    width = s / max(6, math.ceil(10 / sigma))
    logs, weights = [], []
    for k in range(int(-11 * s / width), int((11 * s + c + 2) / width) + 1):
        x = k * width
        logs.append(mpmath.log(1 - mpf(q) + mpf(q) * mpmath.exp((2 * x - 1) / (2 * s * s))))
        weights.append(mpmath.npdf(x, 0, s) * width)
    best = mpf(0)
    for remove in (True, False):
        total, t = mpf(0), 0
        while True:
            z = mpmath.mpc(c, t * mpf(step))
            power = 1 + z if remove else -z
            moment = mpmath.fsum(w * mpmath.exp(power * d) for w, d in zip(weights, logs, strict=True))
            value = moment**n * mpmath.exp(-z * epsilon) / (z * (1 + z))
            total += value.real / (2 if t == 0 else 1)
            t += 1
            if abs(value) < mpf("1e-16") * abs(total):
                break
        best = max(best, total * mpf(step) / mpmath.pi)
    return best


@pytest.mark.parametrize(
    ("q", "sigma", "n", "epsilon", "c", "step"),
    [(0.2, 2.0, 50, 1.0, 4, 0.4), (0.5, 1.5, 20, 4.0, 2, 0.2), (0.9, 3.0, 30, 2.5, 2, 0.25)],
)
def test_delta_of_sampled_gaussians_is_that_of_a_thirty_digit_integral(q, sigma, n, epsilon, c, step):
    with mp.workdps(30):
        exact = slow_sampled_delta(q, sigma, n, epsilon, c, step)
    low, high = account(Repeated(PoissonSampled(Gaussian(sigma), q), n)).delta_interval(epsilon=epsilon)
    assert low * (1 - 1e-13) <= exact <= high * (1 + 1e-13)
    assert high - low <= RELATIVE * high


def test_one_sampled_gaussian_is_the_closed_form():
    for q, sigma, epsilon in itertools.product((1e-8, 0.01, 0.5, 0.99), (0.3, 1.0, 20.0), (0.0, 1e-3, 0.5, 3.0)):
        a = mpmath.exp(mpf(epsilon))
        remove = mpf(q) * gaussian_delta(sigma, mpmath.log(1 + (a - 1) / mpf(q)))
        d = 1 - a * (1 - mpf(q))
        add = d * gaussian_delta(sigma, mpmath.log(a * mpf(q) / d)) if d > 0 else mpf(0)
        exact = max(remove, add)
        low, high = account(PoissonSampled(Gaussian(sigma), q)).log_delta_interval(epsilon=epsilon)
        assert low <= mpmath.log(exact) <= high
        assert high - low < 2e-9


def test_two_sampled_gaussians_are_the_double_integral():
    q, sigma, epsilon = mpf("0.01"), mpf(1), mpf("0.2")

    def ratio(x):
        return 1 - q + q * mpmath.exp((2 * x - 1) / (2 * sigma**2))

    def inner(x):
        # Exact over the second release: it is a Gaussian at another epsilon.
        rest = mpmath.exp(epsilon) / ratio(x)
        if rest <= 1 - q:
            return 1 - rest
        return q * gaussian_delta(sigma, mpmath.log((rest - 1 + q) / q))

    def density(x):
        return mpmath.npdf(x, 0, sigma) * ratio(x)

    with mp.workdps(20):
        # From the kink on the second release need not lose anything.
        kink = mpmath.log((mpmath.exp(epsilon) / (1 - q) - 1 + q) / q) + mpf(1) / 2
        exact = mpmath.quad(lambda x: density(x) * inner(x), [-9, -4, -2, 0, 2, 3, kink, 4, 5, 6, 8, 11, 14])
    low, high = account(Repeated(PoissonSampled(Gaussian(1.0), 0.01), 2)).delta_interval(epsilon=0.2)
    assert low <= exact <= high
    assert high - low < 1e-9 * high


def binary_delta(epsilons, epsilon):
    total = mpf(0)
    losses = [(mpf(0), mpf(1))]
    for e, n in epsilons:
        p = 1 / (1 + mpmath.exp(-mpf(e)))
        losses = [
            (loss + (2 * k - n) * mpf(e), mass * mpmath.binomial(n, k) * p**k * (1 - p) ** (n - k))
            for loss, mass in losses
            for k in range(n + 1)
        ]
    for loss, mass in losses:
        if loss > epsilon:
            total += mass * (1 - mpmath.exp(epsilon - loss))
    return total


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 1.0, 2.5, 9.5, 9.95])
def test_pure_dp_is_the_binomial_sum(epsilon):
    exact = binary_delta([(0.1, 100)], epsilon)
    check(account(Repeated(PureDP(0.1), 100)).delta_interval(epsilon=epsilon), exact, absolute=0)


@pytest.mark.parametrize(("step", "count", "delta"), [(0.005583696371926955, 3, 1.2e-11), (0.3, 2, 1e-200)])
def test_epsilon_just_below_the_largest_loss_is_the_closed_form(step, count, delta):
    # The best tilt is beyond all bounds there, and steeper than doubles can hold.
    top = 1 / (1 + mpmath.exp(-mpf(step)))
    exact = count * mpf(step) + mpmath.log1p(-mpf(delta) / top**count)
    low, high = account(Repeated(PureDP(step), count)).epsilon_interval(delta=delta)
    assert low <= exact * (1 + 1e-15)
    assert exact <= high <= exact * (1 + 1e-6)
    # Negative control: half a loss less, and the bound is too low.
    assert high - 0.5 * step < exact


@pytest.mark.parametrize(
    ("step", "count", "exact"),
    [(0.1, 100, "0.1256883902406364251365028"), (0.01, 10_000, "0.1269242683818759943009533")],
)
def test_randomised_response_costs_the_published_delta(step, count, exact):
    accountant = account(Repeated(RandomizedResponse(step), count), neighbours="replace_one")
    check(accountant.delta_interval(epsilon=1.0), mpf(exact))


def test_the_count_of_randomised_response_counts():
    at_once = NumericalAccountant(neighbours="replace_one")
    at_once.compose(RandomizedResponse(0.5), count=100)
    one_by_one = NumericalAccountant(neighbours="replace_one")
    for _ in range(100):
        one_by_one.compose(RandomizedResponse(0.5))
    assert at_once.epsilon(delta=1e-5) == one_by_one.epsilon(delta=1e-5) > 20


def test_two_lattices_that_do_not_fit_are_the_sum_over_both():
    # A bound on the characteristic function within one period must not be used beyond it.
    exact = binary_delta([(0.1, 10), (0.037, 50)], 1.0)
    check(account(Repeated(PureDP(0.1), 10), Repeated(PureDP(0.037), 50)).delta_interval(epsilon=1.0), exact)


def test_two_lattices_too_large_to_enumerate_are_bounded_by_the_grid():
    events = [Repeated(DiscreteGaussian(noise_multiplier=3.0), 2), Repeated(PureDP(0.37), 3)]
    s = mpf(3)
    z = mpmath.fsum(mpmath.exp(-(mpf(x) ** 2) / (2 * s * s)) for x in range(-60, 61))
    mass = {x: mpmath.exp(-(mpf(x) ** 2) / (2 * s * s)) / z for x in range(-60, 61)}
    exact = mpf(0)
    p = 1 / (1 + mpmath.exp(-mpf("0.37")))
    sums: dict[int, mpf] = {}
    for x, y in itertools.product(mass, mass):
        sums[x + y] = sums.get(x + y, mpf(0)) + mass[x] * mass[y]
    e37 = mpf(0.37)
    for total, weight in sums.items():
        for k in range(4):
            loss = (2 - 2 * mpf(total)) / (2 * s * s) + (2 * k - 3) * e37
            if loss > 1:
                exact += weight * mpmath.binomial(3, k) * p**k * (1 - p) ** (3 - k) * (1 - mpmath.exp(1 - loss))
    low, high = account(*events).delta_interval(epsilon=1.0)
    assert low <= exact <= high
    assert high - low < 0.02 * high


@pytest.mark.parametrize(
    ("scale", "epsilon", "exact"),
    [
        (1.0, 1.0, "0.1413513394056219080995417"),
        (2.0, 1.0, "0.007248776845952577949554827"),
        (0.5, 3.0, "0.1014145341299396230297602"),
    ],
)
def test_one_discrete_gaussian_is_the_published_sum(scale, epsilon, exact):
    check(account(DiscreteGaussian(noise_multiplier=scale)).delta_interval(epsilon=epsilon), mpf(exact))


@pytest.mark.parametrize(("scale", "n"), [(1.5, 1), (1.5, 3), (4.0, 2)])
def test_discrete_gaussians_are_the_sum_over_the_lattice(scale, n):
    s = mpf(scale)
    reach = int(12 * scale)
    z = mpmath.fsum(mpmath.exp(-(mpf(x) ** 2) / (2 * s * s)) for x in range(-reach, reach + 1))
    single = {x: mpmath.exp(-(mpf(x) ** 2) / (2 * s * s)) / z for x in range(-reach, reach + 1)}
    law = {0: mpf(1)}
    for _ in range(n):
        law = _convolve(law, single)
    for epsilon in (0.0, 0.3, 2.0):
        exact = mpf(0)
        for x, mass in law.items():
            loss = (n - 2 * mpf(x)) / (2 * s * s)
            if loss > epsilon:
                exact += mass * (1 - mpmath.exp(mpf(epsilon) - loss))
        event = Repeated(DiscreteGaussian(noise_multiplier=scale), n)
        check(account(event).delta_interval(epsilon=epsilon), exact)
        # A vector with entries that change by at most 1: as many coordinates.
        vector = DiscreteGaussian(scale=scale, l2_sensitivity_squared=n, linf_sensitivity=1)
        check(account(vector).delta_interval(epsilon=epsilon), exact)


def _convolve(a, b):
    out: dict[int, mpf] = {}
    for x, p in a.items():
        for y, q in b.items():
            out[x + y] = out.get(x + y, mpf(0)) + p * q
    return out


def test_laplace_is_the_closed_form():
    for scale, epsilon in ((1.0, 0.3), (10.0, 0.05), (0.2, 2.0)):
        exact = 1 - mpmath.exp((mpf(epsilon) - 1 / mpf(scale)) / 2)
        low, high = account(Laplace(scale)).delta_interval(epsilon=epsilon)
        assert low <= exact <= high
        assert high - low < 1e-3 * high
        assert account(Laplace(scale)).delta(epsilon=1 / scale + 0.1) <= 1e-9


def test_laplace_with_a_gaussian_is_the_convolution():
    e, sigma, epsilon = mpf("0.5"), mpf(2), mpf("0.7")
    mu = 1 / (2 * sigma**2)

    def rest(loss):
        # Delta of the Gaussian alone at what is left.
        left = epsilon - loss
        if left >= 0:
            return gaussian_delta(sigma, left)
        return 1 - mpmath.exp(left) + mpmath.exp(left) * gaussian_delta(sigma, -left)

    del mu
    exact = rest(e) / 2 + mpmath.exp(-e) / 2 * rest(-e)
    exact += mpmath.quad(lambda x: mpmath.exp((x - e) / 2) / 4 * rest(x), [-e, 0, e])
    check(account(Laplace(2.0), Gaussian(2.0)).delta_interval(epsilon=0.7), exact)


def test_approximate_dp_adds_a_probability_of_failure():
    delta = mpf("1e-6")
    finite = (1 - mpf(1e-6)) ** 20
    exact = 1 - finite * (1 - binary_delta([(0.1, 20)], 0.5))
    check(account(Repeated(ApproximateDP(0.1, 1e-6), 20)).delta_interval(epsilon=0.5), exact)
    del delta
    assert account(ApproximateDP(0.1, 1e-3)).epsilon(delta=1e-4) == math.inf
    low, high = account(ApproximateDP(0.0, 1e-3)).epsilon_interval(delta=2e-3)
    assert (low, high) == (0.0, 0.0)


def test_sampled_pure_dp_is_the_binomial_sum():
    e, r, n, epsilon = mpf(1), mpf("0.1"), 30, mpf("0.8")
    p = 1 / (1 + mpmath.exp(-e))
    high_q, low_q = 1 - p, p
    first = (1 - r) * high_q + r * p
    exact = mpf(0)
    for remove in (True, False):
        a, b = (first, high_q) if remove else (high_q, first)
        total = mpf(0)
        for k in range(n + 1):
            loss = k * mpmath.log(a / b) + (n - k) * mpmath.log((1 - a) / (1 - b))
            if loss > epsilon:
                total += mpmath.binomial(n, k) * a**k * (1 - a) ** (n - k) * (1 - mpmath.exp(epsilon - loss))
        exact = max(exact, total)
    del low_q
    check(account(Repeated(PoissonSampled(PureDP(1.0), 0.1), n)).delta_interval(epsilon=0.8), exact, relative=1e-8)


def test_pure_releases_cost_the_same_by_any_name():
    for event in (PermuteAndFlip(0.3), DiscreteLaplace(1 / 0.3)):
        assert account(Repeated(event, 7)).epsilon(delta=1e-6) == pytest.approx(
            account(Repeated(PureDP(0.3), 7)).epsilon(delta=1e-6), rel=1e-9
        )


def test_bounded_range_is_cheaper_than_pure_dp_and_dearer_than_nothing():
    chosen = account(Repeated(ExponentialMechanism(0.1), 200)).epsilon(delta=1e-6)
    pure = account(Repeated(PureDP(0.1), 200)).epsilon(delta=1e-6)
    assert 0.3 * pure < chosen < pure


def test_a_wrong_moment_is_caught_by_the_oracle():
    # Negative control: an eighth of a percent less noise is outside the certified interval.
    low, _ = account(Gaussian(1.0)).delta_interval(epsilon=1.0)
    assert not mpf(low) <= gaussian_delta(1.00125, 1) <= mpf(low) * (1 + mpf(10) ** -9)


@pytest.fixture
def no_laws_kept():
    def clear():
        for kept in (_sampled_law.grid_of, _sampled_law.loss_at, _paths.stage_of, _moment.moment):
            kept.cache_clear()

    clear()
    yield
    clear()


@pytest.mark.parametrize(("wrong", "holds"), [(0.0, True), (1e-7, False), (-1e-7, False)])
@pytest.mark.usefixtures("no_laws_kept")
def test_a_loss_that_is_wrong_in_the_seventh_digit_is_outside_the_interval(monkeypatch, wrong, holds):
    # Negative control of the oracle: the certificate covers rounding, not a wrong formula.
    right = SampledLaw.logs

    def shifted(self, u):
        log_ratio, sigmoid, error = right(self, u)
        return log_ratio * (1 + wrong), sigmoid, error

    monkeypatch.setattr(SampledLaw, "logs", shifted)
    with mp.workdps(30):
        exact = slow_sampled_delta(0.2, 2.0, 50, 1.0, 4, 0.4)
    low, high = account(Repeated(PoissonSampled(Gaussian(2.0), 0.2), 50)).delta_interval(epsilon=1.0)
    assert (low * (1 - 1e-13) <= exact <= high * (1 + 1e-13)) is holds


def test_random_gaussian_sets_hold_the_closed_form():
    rng = np.random.default_rng(7)
    for _ in range(60):
        sigma = float(10 ** rng.uniform(-1.3, 4))
        n = int(10 ** rng.uniform(0, 9))
        total = mpf(sigma) / mpmath.sqrt(n)
        delta = float(10 ** -rng.uniform(0.31, 300))
        low, high = account(Repeated(Gaussian(sigma), n)).epsilon_interval(delta=delta)
        assert high - low <= max(RELATIVE * high, 1e-12), (sigma, n, delta)
        if high > 0:
            assert gaussian_delta(total, mpf(high)) <= delta
        if low > 0:
            assert gaussian_delta(total, mpf(low)) >= delta
