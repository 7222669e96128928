"""Discrete Gaussians among two-valued and Laplace losses: 40-digit sums, the lattice, the grid, and wrong laws."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

from privacy.events import DiscreteGaussian, PoissonSampled, PureDP, RandomizedResponse
from privacy.numerical import (
    NumericalAccountant,
    _atoms,
    _certified,
    _discrete_gaussian,
    _grid,
    _moments,
    _solve,
    _sums,
)
from privacy.numerical._explicit import SummedCurve, log_delta_between
from privacy.numerical._terms import AtomsTerm, DiscreteGaussianTerm, LaplaceTerm

pytestmark = pytest.mark.slow

RELATIVE = 1e-9


DIGITS = 40


def noise(scale, n):
    return DiscreteGaussianTerm(scale, n)


def pure(e, n):
    p = 1 / (1 + math.exp(-e))
    return AtomsTerm((-e, e), (math.exp(-e) * p, p), n)


def weights(scale, n, c, *, far=15):
    """Probabilities of the sum of n integers with weights exp(-(y - c)^2 / (2 scale^2)): (first, object array)."""
    reach = math.ceil(far * scale) + 1
    first, s2 = math.floor(c) - reach, 2 * mpf(scale) ** 2
    one = np.array([mpmath.exp(-((first + i - mpf(c)) ** 2) / s2) for i in range(2 * reach + 2)], dtype=object)
    one /= one.sum()
    law = one
    for _ in range(n - 1):
        law = np.convolve(law, one)
    return n * first, law


def outcomes(terms):
    """Losses and probabilities of all joint outcomes, without a tilt."""
    found = [(mpf(0), mpf(1))]
    for term in terms:
        n = term.count
        if isinstance(term, DiscreteGaussianTerm):
            first, law = weights(term.scale, n, 0)
            kind = [((n + 2 * (first + i)) / (2 * mpf(term.scale) ** 2), p) for i, p in enumerate(law)]
        else:
            (low, high), (p, q) = term.losses, term.probabilities
            kind = [
                ((n - k) * mpf(low) + k * mpf(high), mpmath.binomial(n, k) * mpf(q) ** k * mpf(p) ** (n - k))
                for k in range(n + 1)
            ]
        found = [(x + y, p * q) for x, p in found for y, q in kind]
    return found


def exact_delta(law, epsilon):
    """Delta by adding up every outcome."""
    factor = mpmath.exp(mpf(epsilon))
    return mpmath.fsum(p * (1 - factor * mpmath.exp(-x)) for x, p in law if x > epsilon)


def laplace_delta(e, n, epsilon):
    """Delta of n equal Laplace releases at any epsilon: truncated powers, over how many are between and how many e."""
    total, e = mpf(0), mpf(e)
    for k, j in itertools.product(range(n + 1), range(n + 1)):
        if j + k > n:
            continue
        for i in range(k + 1):
            w = e * (2 * (j + k - i) - n) - epsilon
            if w > 0:
                # The k-fold running integral of 2 sinh(w / 2), each divided by 2.
                tail = mpmath.exp(w / 2) - (-1) ** k * mpmath.exp(-w / 2)
                tail -= mpmath.fsum((1 - (-1) ** (m + k)) * (w / 2) ** m / mpmath.factorial(m) for m in range(k))
                ways = mpmath.binomial(n, k) * mpmath.binomial(n - k, j) * mpmath.binomial(k, i)
                total += (-1) ** i * ways * tail
    return total * (mpmath.exp(-e / 2) / 2) ** n * mpmath.exp(mpf(epsilon) / 2)


def contains(interval, exact, width=1e-10):
    low, high = interval
    log_exact = mpmath.log(exact)
    return mpf(low) <= log_exact <= mpf(high) and high - low <= width


# The law.


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 1.9, 2.0])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_probabilities_of_sums_are_the_convolution(scale, n):
    for c in (1e-6, 0.5, 3.21, 1000.3):
        one = _discrete_gaussian.sum_window(noise(scale, n), c, -38.0)
        first, law = weights(scale, n, c)
        kept = law[one.first - first : one.last - first + 1]
        found = np.array([mpf(float(x)) for x in one.weight], dtype=object)
        # A measure below the law, and how much it lacks.
        assert all(found <= kept * (1 + one.error))
        assert law.sum() - found.sum() * (1 + 2 * one.error) <= mpmath.exp(one.log_lost)
        assert all(kept * (1 - one.error) - found <= mpmath.exp(one.log_lost))
        assert one.error <= 1e-11
        assert one.log_lost < -34


@pytest.mark.parametrize("n", [2, 3, 4])
def test_sums_of_discrete_gaussians_are_as_even_as_claimed(n):
    # Below the scale from which it is used, so that there is something to see.
    for scale in (0.7, 0.8, 1.0):
        first, law = weights(scale, n, 0)
        ratio = [p * mpmath.exp(mpf(first + i) ** 2 / (2 * n * mpf(scale) ** 2)) for i, p in enumerate(law)]
        ratio = ratio[len(ratio) // 2 - 6 : len(ratio) // 2 + 7]
        share = (1 + 2 / mpmath.expm1(mp.pi**2 * mpf(scale) ** 2)) ** n - 1
        # Within (1 + share) and (1 - share) of one constant.
        assert 1 < max(ratio) / min(ratio) <= (1 + share) / (1 - share)


def test_laws_that_are_convolved_and_laws_that_are_not_agree(monkeypatch):
    for scale, n, c in ((2.0, 50, 0.3), (3.0, 111, 2.7)):
        smooth = _discrete_gaussian.sum_window(noise(scale, n), c, -38.0)
        monkeypatch.setattr(_discrete_gaussian, "_LEAST_SMOOTH", 5.0)
        convolved = _discrete_gaussian.sum_window(noise(scale, n), c, -38.0)
        monkeypatch.undo()
        start = convolved.first - smooth.first
        shared = min(len(convolved.weight), len(smooth.weight) - start)
        assert start >= 0
        assert shared > 0.9 * len(smooth.weight)
        ratio = convolved.weight[:shared] / smooth.weight[start : start + shared] - 1
        error = convolved.error + smooth.error
        assert float(ratio.max()) <= error
        held = smooth.weight[start : start + shared] > 1e-3 * smooth.weight.max()
        assert float(ratio[held].min()) >= -error


# Delta and epsilon.

SETS = [
    [noise(2.0, 1), pure(0.1, 3)],
    [noise(2.5, 2), pure(0.3, 2), pure(0.11, 3)],
    [noise(0.6, 3), pure(0.7, 4)],
    [noise(0.9, 2), noise(2.3, 2)],
    [noise(2.0, 1), noise(0.8, 2), pure(0.2, 1)],
    [noise(2.2, 2), AtomsTerm((math.log(0.95), math.log(1.6)), (0.6, 0.4), 5)],
]


@pytest.mark.parametrize("terms", SETS)
def test_mixtures_are_the_sum_over_all_outcomes(terms):
    top = 15 / min(term.scale for term in terms if isinstance(term, DiscreteGaussianTerm))
    law = outcomes(terms)
    for epsilon in (0.0, 0.37, 0.2 * top, 0.5 * top):
        # What the masses of the sampled law lack of 1 is rounding of the probabilities above.
        assert contains(_sums.sum_log_delta(terms, epsilon), exact_delta(law, epsilon))


def test_tiny_delta_is_the_sum_over_all_outcomes():
    terms = [noise(2.0, 2), pure(0.3, 3)]
    law = [(x, p) for x, p in _outcomes_far(terms) if x > 8]
    for epsilon, least in ((9.0, -210), (12.0, -430)):
        exact = exact_delta(law, epsilon)
        assert least < mpmath.log(exact) < least / 4
        assert contains(_sums.sum_log_delta(terms, epsilon), exact)


def _outcomes_far(terms):
    first, law = weights(terms[0].scale, terms[0].count, 0, far=60)
    n, s2 = terms[0].count, mpf(terms[0].scale) ** 2
    rest = outcomes(terms[1:])
    return [((n + 2 * (first + i)) / (2 * s2) + y, p * q) for i, p in enumerate(law) for y, q in rest]


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("n", [1, 2, 30, 1000])
def test_alone_the_sum_agrees_with_the_line_on_the_lattice(scale, n):
    terms = [noise(scale, n)]
    assert _certified.summable(tuple(terms)) == (scale < 20 or n < 1000)
    for log_delta in (-1.5, -14.0, -100.0):
        low, high = _certified._exact_epsilon(tuple(terms), log_delta)
        assert high - low <= max(RELATIVE * high, 1e-12)
        line = _solve.epsilon_at(terms, log_delta)
        if line is not None:
            assert low <= line[1]
            assert line[0] <= high
        if low > 0:
            spent, _ = _solve.curve_at(terms, low)
            found = log_delta_between(SummedCurve(_atoms.AtomSum.of(terms, _solve.saddle(terms, low).c)), low)
            assert found[0] <= spent.high
            assert spent.low <= found[1]


def test_equal_scales_that_come_apart_are_one():
    for scale, log_delta in itertools.product((0.7, 5.0), (-2.0, -12.0, -200.0)):
        whole = _certified._exact_epsilon((noise(scale, 9),), log_delta)
        low, high = _sums.sum_epsilon([noise(scale, 4), noise(scale, 5)], log_delta)
        assert low <= whole[1]
        assert whole[0] <= high
        assert high - low <= RELATIVE * high


def test_random_mixtures_are_within_what_the_grid_says():
    rng = np.random.default_rng(11)
    for _ in range(8):
        scale, other = (float(10 ** rng.uniform(-0.2, 1.5)) for _ in range(2))
        terms = [
            noise(scale, int(rng.integers(1, 60))),
            pure(float(10 ** rng.uniform(-2, 0)), int(rng.integers(1, 40))),
        ]
        if rng.random() < 0.5:
            terms.append(noise(other, int(rng.integers(1, 20))))
        log_delta = float(rng.uniform(-40, -2))
        low, high = _sums.sum_epsilon(terms, log_delta)
        grid = _grid.grid_epsilon(terms, log_delta)
        assert grid[0] <= low <= high <= grid[1]
        assert high - low <= RELATIVE * high


def test_a_schedule_of_marginals_and_selections_is_certified():
    accountant = NumericalAccountant(neighbours="replace_one")
    accountant.compose(DiscreteGaussian(noise_multiplier=20.0), count=50)
    accountant.compose(DiscreteGaussian(noise_multiplier=33.0), count=40)
    accountant.compose(PureDP(0.1), count=20)
    accountant.compose(RandomizedResponse(epsilon=0.4), count=2)
    last = 0.0
    for delta in (0.3, 1e-3, 1e-6, 1e-30, 1e-200):
        low, high = accountant.epsilon_interval(delta=delta)
        assert last <= low <= high
        assert high - low <= RELATIVE * high
        last = high
    assert accountant.delta_interval(epsilon=0.0)[0] > 0
    rates = np.array([0.01, 0.1, 0.5])
    assert accountant.trade_off(rates).shape == rates.shape


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.99, 2.0, 40.0, 600.0])
@pytest.mark.parametrize("n", [1, 10, 500])
def test_every_scale_is_certified_and_below_the_moment_bound(scale, n):
    sampled = NumericalAccountant(neighbours="add_remove_one")
    sampled.compose(PoissonSampled(PureDP(1.0), 0.01), count=5)
    sampled.compose(DiscreteGaussian(noise_multiplier=scale), count=n)
    terms = (noise(scale, n), pure(0.05, 12))
    for delta in (0.3, 1e-9, 1e-200):
        for low, high in (_certified._exact_epsilon(terms, math.log(delta)), sampled.epsilon_interval(delta=delta)):
            assert 0 <= low <= high
            assert high - low <= max(RELATIVE * high, 1e-12)
        assert low == 0 or high <= sampled.epsilon_interval(delta=delta / 2)[1]
        low = _certified._exact_epsilon(terms, math.log(delta))[0]
        assert low <= _moments.chernoff_epsilon(terms, (), math.log(delta))


def test_what_cannot_be_listed_is_left_to_the_grid():
    assert _sums.sum_epsilon([noise(1e3, 10**6), pure(0.1, 5)], -10.0) is None
    assert _sums.sum_epsilon([noise(1.5, 10**6), pure(0.1, 5)], -10.0) is None


# Beside Laplace releases.


@pytest.mark.parametrize(
    ("e", "count", "scale", "n"), [(0.5, 2, 2.0, 1), (0.2, 4, 0.6, 1), (3.0, 3, 2.5, 1), (0.1, 1, 4.0, 1)]
)
def test_laplace_beside_discrete_gaussians_is_the_sum_over_the_lattice(e, count, scale, n):
    terms = [noise(scale, n), LaplaceTerm(e, count), pure(0.3, 1)]
    rest = [(x, p) for x, p in outcomes([terms[0], terms[2]]) if p > mpf(10) ** -32]
    for epsilon in (0.0, 0.6, 2.0):
        exact = mpmath.fsum(p * laplace_delta(e, count, epsilon - x) for x, p in rest)
        assert contains(_sums.sum_log_delta(terms, epsilon), exact)


# That the tests and the certificates are able to fail.


@pytest.mark.parametrize("wrong", [1e-7, -1e-7])
def test_a_law_that_is_wrong_in_the_seventh_digit_is_rejected(wrong):
    for scale in (0.8, 2.4):
        exact = exact_delta(outcomes([noise(scale, 2), pure(0.3, 3)]), 0.8)
        assert contains(_sums.sum_log_delta([noise(scale, 2), pure(0.3, 3)], 0.8), exact)
        for terms in ([noise(scale * (1 + wrong), 2), pure(0.3, 3)], [noise(scale, 2), pure(0.3 * (1 + wrong), 3)]):
            assert not contains(_sums.sum_log_delta(terms, 0.8), exact, width=math.inf)


def test_a_centre_that_is_a_little_off_is_rejected(monkeypatch):
    terms = [noise(2.4, 2), pure(0.3, 3)]
    exact = exact_delta(outcomes(terms), 0.8)
    right = _discrete_gaussian.sum_window
    monkeypatch.setattr(_atoms, "sum_window", lambda term, c, lost: right(term, c + 1e-7, lost))
    assert not contains(_sums.sum_log_delta(terms, 0.8), exact, width=math.inf)


def test_leaving_out_more_outcomes_widens_the_interval(monkeypatch):
    for scale in (1.2, 2.1):
        terms = [noise(scale, 3), pure(0.3, 4)]
        exact = exact_delta(outcomes(terms), 1.1)
        monkeypatch.setattr(_atoms, "LOG_LOST", -6.0)
        coarse = _sums.sum_log_delta(terms, 1.1)
        monkeypatch.undo()
        assert contains(coarse, exact, width=1.0)
        assert coarse[1] - coarse[0] > 1e-5
