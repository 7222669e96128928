"""Laplace releases and two-valued losses against sums by mpmath, each other, and laws that are wrong on purpose."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from privacy.events import Laplace, PoissonSampled, PureDP
from privacy.numerical import (
    NumericalAccountant,
    _atoms,
    _binomial,
    _certified,
    _few_laplace,
    _grid,
    _laplace,
    _moments,
    _solve,
    _splines,
    _sums,
    _tails,
)
from privacy.numerical._explicit import SummedCurve, log_delta_between
from privacy.numerical._terms import AtomsTerm, LaplaceTerm

RELATIVE = 1e-9


DIGITS = 60


def account(*pairs):
    accountant = NumericalAccountant(neighbours="add_remove_one")
    for event, count in pairs:
        accountant.compose(event, count=count)
    return accountant


def pure(e, n):
    p = 1 / (1 + math.exp(-e))
    return AtomsTerm((-e, e), (math.exp(-e) * p, p), n)


def laplace_delta(e, n, epsilon):
    """Delta of n equal Laplace releases: truncated powers, over how many losses lie between and how many are e."""
    e, epsilon = mpf(e), mpf(epsilon)
    y, total = epsilon / (2 * e) + mpf(n) / 2, mpf(0)

    def integrated(w, k):
        # The k-fold running integral of 2 sinh(e w) from 0.
        if w <= 0:
            return mpf(0)
        taylor = mpmath.fsum((1 - (-1) ** (m + k)) * (e * w) ** m / mpmath.factorial(m) for m in range(k))
        return (mpmath.exp(e * w) - (-1) ** k * mpmath.exp(-e * w) - taylor) / e**k

    for k in range(n + 1):
        for j in range(n - k + 1):
            part = mpmath.fsum((-1) ** i * mpmath.binomial(k, i) * integrated(k - i + j - y, k) for i in range(k + 1))
            total += mpmath.binomial(n, k) * e**k * mpmath.binomial(n - k, j) * part
    return total * (mpmath.exp(-e / 2) / 2) ** n * mpmath.exp(epsilon / 2)


def atoms_delta(terms, epsilon):
    """Delta of two-valued losses, every joint outcome on its own."""
    total = mpf(0)
    kinds = [[(k, term) for k in range(term.count + 1)] for term in terms]
    for outcome in itertools.product(*kinds):
        loss, mass = mpf(0), mpf(1)
        for k, term in outcome:
            (low, high), (p, q) = term.losses, term.probabilities
            loss += (term.count - k) * mpf(low) + k * mpf(high)
            mass *= mpmath.binomial(term.count, k) * mpf(q) ** k * mpf(p) ** (term.count - k)
        if loss > epsilon:
            total += mass * (1 - mpmath.exp(epsilon - loss))
    return total


def mixed_delta(laplaces, pures, epsilon):
    """Delta of Laplace and pure releases: all truncated powers of all scales, over the signs of the ends."""
    epsilon, count = mpf(epsilon), sum(n for _, n in laplaces)
    outcomes = [(mpf(0), 0, mpf(1))]
    for e, n in laplaces:
        unit = mpmath.exp(-mpf(e) / 2) / 2
        outcomes = [
            (loss + (2 * p - n) * mpf(e), sign + 2 * p - n, mass * mpmath.binomial(n, p) * unit**n)
            for loss, sign, mass in outcomes
            for p in range(n + 1)
        ]
    for e, n in pures:
        p = 1 / (1 + mpmath.exp(-mpf(e)))
        outcomes = [
            (
                loss + (2 * k - n) * mpf(e),
                sign,
                mass * mpmath.binomial(n, k) * p**k * (1 - p) ** (n - k) * mpmath.exp((n - 2 * k) * mpf(e) / 2),
            )
            for loss, sign, mass in outcomes
            for k in range(n + 1)
        ]
    total = mpf(0)
    for loss, sign, mass in outcomes:
        x = (loss - epsilon) / 2
        if x <= 0:
            continue
        symmetric = [mpf(1), mpf(sign)]
        for k in range(2, count + 1):
            symmetric.append((sign * symmetric[k - 1] - (count - k + 2) * symmetric[k - 2]) / k)
        for k in range(count + 1):
            whole = mpmath.cosh(x) if k % 2 else mpmath.sinh(x)
            tail = whole - mpmath.fsum(x**m / mpmath.factorial(m) for m in range((k + 1) % 2, k + 1, 2))
            total += 2 * mass * symmetric[k] * tail
    return total * mpmath.exp(epsilon / 2)


def contains(bounds, exact, width=RELATIVE):
    low, high = bounds
    return low <= mpmath.log(exact) <= high and high - low <= width


# The pieces.


def test_binomial_probabilities_keep_their_digits_for_a_billion_trials():
    for n, logit in ((7, 0.3), (200, -4.0), (10**6, 1e-3), (10**9, 1e-4), (10**9, -18.0), (50, 700.0)):
        one = _binomial.window(n, logit, -38.0)
        p = 1 / (1 + mpmath.exp(-mpf(logit)))
        for k in {one.first, one.last, (one.first + one.last) // 2}:
            exact = mpmath.exp(
                mpmath.loggamma(n + 1)
                - mpmath.loggamma(k + 1)
                - mpmath.loggamma(n - k + 1)
                + k * mpmath.log(p)
                + (n - k) * mpmath.log(1 / (1 + mpmath.exp(mpf(logit))))
            )
            assert abs(mpf(float(one.weight[k - one.first])) / exact - 1) <= one.error
        assert one.error < 1e-9
        assert abs(float(one.weight.sum()) - 1) < 1e-10


def test_the_quadrature_rules_are_as_exact_as_they_are_said_to_be():
    for size in (8, 32, 64, 96):
        left, right, weight = _splines._rule(size)
        for i in (0, 1, size // 3, size - 1):
            # Newton from the node itself, at 60 digits.
            x = 2 * mpf(float(left[i])) - 1
            for _ in range(3):
                p, q = mpmath.legendre(size, x), mpmath.legendre(size - 1, x)
                slope = size * (q - x * p) / (1 - x * x)
                x -= p / slope
            q = mpmath.legendre(size - 1, x)
            slope = size * q / (1 - x * x)
            for found, exact, bound in (
                (left[i], (1 + x) / 2, _splines._NODE_ERROR),
                (right[i], (1 - x) / 2, _splines._NODE_ERROR),
                (weight[i], 1 / ((1 - x * x) * slope**2), _splines._WEIGHT_ERROR),
            ):
                assert abs(mpf(float(found)) / exact - 1) <= bound / 2


def test_integrals_over_sums_of_uniform_numbers_are_truncated_powers():
    for e, f in ((0.01, 0.3), (1.0, 0.0), (7.0, 0.99), (40.0, 1e-9)):
        rising, falling = _splines.partial_integrals(9, f, 1 - f, e)
        slack = _splines.relative_error(9, e)
        for k, i in ((1, 0), (2, 1), (5, 2), (9, 0), (9, 7)):
            z = i + mpf(f)

            def above(sign, k=k, z=z, e=e):
                # int over x > z of exp(sign e (x - z)) N_k(x) dx, by k running integrals of the exponential.
                total, s = mpf(0), sign * mpf(e)
                for j in range(k + 1):
                    w = k - j - z
                    if w > 0:
                        taylor = mpmath.fsum((s * w) ** m / mpmath.factorial(m) for m in range(k))
                        total += (-1) ** j * mpmath.binomial(k, j) * (mpmath.exp(s * w) - taylor) / s**k
                return total

            scale = mpmath.exp(-mpf(e) * (k - z))
            for found, exact in ((rising, above(1) - above(-1)), (falling, above(-1))):
                assert abs(mpf(float(found[k, i])) / (exact * scale) - 1) <= slack


def test_sums_of_hyperbolic_tails_are_what_they_stand_for():
    rng = np.random.default_rng(3)
    loss, weight, c = np.sort(rng.uniform(0, 9, 21)), rng.uniform(0.1, 1, 21), 0.7
    sums = _tails.suffix_sums(loss, weight, c, 4)
    for j, k in itertools.product((0, 5, 20), range(-1, 5)):
        exact = mpf(0)
        for x, b in zip(loss[j:], weight[j:], strict=True):
            y = (mpf(x) - mpf(loss[j])) / 2
            whole = mpmath.cosh(y) if k % 2 else mpmath.sinh(y)
            tail = whole - mpmath.fsum(y**m / mpmath.factorial(m) for m in range((k + 1) % 2, k + 1, 2))
            exact += mpf(b) * mpmath.exp(-(2 * mpf(c) + 1) * y) * tail
        assert abs(mpf(float(sums[k + 1, j])) - exact) <= 1e-14 * exact


def test_the_tilted_laplace_loss_is_its_closed_form():
    rng = np.random.default_rng(5)
    for _ in range(60):
        e, c, n = float(10 ** rng.uniform(-6, 2)), float(10 ** rng.uniform(-5, 4)), int(10 ** rng.uniform(0, 7))
        one = LaplaceTerm(e, n).at(c)

        def moment(z, e=e):
            return ((1 + z) * mpmath.exp(z * mpf(e)) + z * mpmath.exp(-(1 + z) * mpf(e))) / (1 + 2 * z)

        assert abs(n * mpmath.log(moment(mpf(c))) - mpf(one.log_moment)) <= one.error
        t = np.sort(10 ** rng.uniform(-3, 2, 4)) / e / math.sqrt(n)
        logs, errors = one.nodes(t)
        for x, log_value, error in zip(t, logs, errors, strict=True):
            exact = (moment(mpmath.mpc(c, x)) / moment(mpf(c))) ** n * mpmath.exp(-1j * mpf(one.mean) * mpf(x))
            if abs(exact) < mpf(10) ** -250:
                continue
            off = abs(mpmath.exp(mpmath.mpc(log_value)) / exact - 1)
            assert off <= mpmath.expm1(mpf(min(error, 30.0))) + 1e-15 * (1 + abs(log_value))
            assert mpmath.log(abs(exact)) <= one.log_decay(x) + 1e-9


# Equal Laplace releases.


@pytest.mark.parametrize(("n", "e"), list(itertools.product((1, 2, 3, 6), (1e-3, 0.1, 1.0, 10.0, 40.0))))
def test_laplace_is_the_sum_of_truncated_powers(n, e):
    for share in (0.0, 0.1, 0.33, 0.7, 0.97):
        epsilon = share * n * e
        assert contains(_sums.sum_log_delta([LaplaceTerm(e, n)], epsilon), laplace_delta(e, n, epsilon), 1e-10)


@pytest.mark.parametrize("e", [1e-4, 0.1, 1.0, 20.0])
@pytest.mark.parametrize("delta", [0.2, 1e-5, 1e-30, 1e-200])
def test_one_laplace_release_costs_the_closed_form(e, delta):
    # delta = 1 - exp((epsilon - 1 / b) / 2)
    low, high = account((Laplace(1 / e), 1)).epsilon_interval(delta=delta)
    exact = max(mpf(0), 1 / mpf(1 / e) + 2 * mpmath.log(1 - mpf(delta)))
    assert low <= exact <= high
    assert high - low <= max(RELATIVE * high, 1e-12)


@pytest.mark.parametrize(
    "n", [1, 10, 100, 10**6, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 10**4, 10**9))]
)
@pytest.mark.parametrize("e", [1e-5, 1e-3, 0.1, 1.0, 10.0, 50.0])
def test_laplace_is_certified_for_every_count_and_scale(n, e):
    terms = (LaplaceTerm(e, n),)
    last = 0.0
    for delta in (0.3, 1e-5, 1e-30, 1e-200):
        low, high = _certified._exact_epsilon(terms, math.log(delta))
        assert 0 <= low <= high <= min(n * e * (1 + 1e-13), _moments.chernoff_epsilon(terms, (), math.log(delta)))
        assert high - low <= max(RELATIVE * high, 1e-12), (n, e, delta)
        assert low >= last * (1 - RELATIVE)
        last = high


def test_delta_of_laplace_is_contained_in_what_the_grid_says():
    for n, e in ((1, 0.5), (4, 2.0), (12, 0.3), (60, 1.0)):
        for log_delta in (-3.0, -15.0):
            low, high = _sums.sum_epsilon([LaplaceTerm(e, n)], log_delta)
            grid = _grid.grid_epsilon([LaplaceTerm(e, n)], log_delta)
            assert grid[0] <= low <= high <= grid[1]


def test_the_line_and_the_sum_agree_where_both_apply():
    # Some 45 losses between the ends: the characteristic function has decayed, and the sum is still short.
    terms = [LaplaceTerm(1.0, 130)]
    for epsilon in (20.0, 45.0, 80.0):
        line = _solve.curve_at(terms, epsilon)[0]
        law = _laplace.LaplaceSum.of(terms, _solve.saddle(terms, epsilon).c)
        low, high = log_delta_between(SummedCurve(law), epsilon)
        assert line.high - line.low < 1e-9
        assert line.low <= high
        assert low <= line.high


# Two-valued losses.


def test_two_valued_losses_are_the_sum_over_all_outcomes():
    sampled = AtomsTerm((math.log(0.95), math.log(1.6)), (0.6, 0.4), 5)
    for terms in ([pure(0.1, 4), pure(0.037, 6), pure(1.0, 2)], [sampled, pure(0.2, 7)], [pure(0.31, 9), sampled]):
        for epsilon in (0.0, 0.11, 0.9, 1.7):
            exact = atoms_delta(terms, epsilon)
            # What the masses lack of 1 is rounding of the probabilities above.
            assert contains(_sums.sum_log_delta(terms, epsilon), exact)


def test_thirty_unlike_releases_meet_in_the_middle():
    steps = [0.1 + 0.013 * i for i in range(30)]
    terms = [pure(e, 1) for e in steps]
    low, high = _sums.sum_epsilon(terms, math.log(1e-6))
    assert 0 < high - low <= RELATIVE * high
    # All but one loss in units of 1e-3, so that a table of the sums is exact: an independent convolution.
    law = {0: mpf(1)}
    for e in steps:
        p, unit = 1 / (1 + mpmath.exp(-mpf(e))), round(1000 * e)
        new: dict[int, mpf] = {}
        for loss, mass in law.items():
            for sign, q in ((1, p), (-1, 1 - p)):
                new[loss + sign * unit] = new.get(loss + sign * unit, mpf(0)) + mass * q
        law = new

    def delta(epsilon):
        return mpmath.fsum(
            mass * (1 - mpmath.exp(epsilon - mpf(loss) / 1000)) for loss, mass in law.items() if loss > 1000 * epsilon
        )

    assert delta(mpf(high) + mpf(10) ** -12) <= mpf(10) ** -6 <= delta(mpf(low) - mpf(10) ** -12)


def test_counts_beyond_any_table_of_outcomes_are_certified():
    accountant = account((PureDP(0.1), 10_000), (PureDP(0.0123), 10**6), (PoissonSampled(PureDP(1.0), 0.01), 100))
    for delta in (1e-3, 1e-9, 1e-100):
        low, high = accountant.epsilon_interval(delta=delta)
        assert 0 < low <= high <= low * (1 + RELATIVE)


# Several scales, and both kinds together.

SETS = [
    ([(0.5, 2)], [(0.3, 3)]),
    ([(0.5, 3), (0.2, 2)], []),
    ([(0.1, 6)], [(0.05, 12), (0.33, 2)]),
    ([(3.0, 2), (0.2, 4)], [(1.0, 3)]),
    ([(0.01, 9)], [(0.5, 2)]),
]


@pytest.mark.parametrize(("laplaces", "pures"), SETS)
def test_mixtures_are_the_sum_over_signs_whatever_is_left_to_the_line(laplaces, pures):
    terms = [*(LaplaceTerm(e, n) for e, n in laplaces), *(pure(e, n) for e, n in pures)]
    top = sum(e * n for e, n in (*laplaces, *pures))
    for share, order in itertools.product((0.0, 0.3, 0.9), (3, 4, 6)):
        epsilon = share * top
        exact = mixed_delta(laplaces, pures, epsilon)
        c = _solve.saddle(terms, epsilon).c
        curve = _few_laplace.few_laplace_curve(terms, c, epsilon, float(mpmath.log(exact)), order)
        assert contains(log_delta_between(curve, epsilon), exact)
        assert contains(_sums.sum_log_delta(terms, epsilon), exact)


def test_two_scales_are_the_convolution():
    first, second, epsilon = mpf("0.8"), mpf("0.5"), mpf("0.35")

    def rest(left):
        # Delta of the second release alone: 1 - exp((left - e) / 2) between, 1 - exp(left) below.
        return max(mpf(0), 1 - mpmath.exp((left - second) / 2)) if left > -second else 1 - mpmath.exp(left)

    exact = rest(epsilon - first) / 2 + mpmath.exp(-first) / 2 * rest(epsilon + first)
    points = sorted({-first, first, *(x for x in (epsilon - second, epsilon + second) if abs(x) < first)})
    exact += mpmath.quad(lambda x: mpmath.exp((x - first) / 2) / 4 * rest(epsilon - x), points)
    low, high = account((Laplace(1.25), 1), (Laplace(2.0), 1)).log_delta_interval(epsilon=0.35)
    assert contains((low, high), exact)


def test_equal_scales_that_come_apart_are_one():
    for e, log_delta in itertools.product((0.05, 0.7, 5.0), (-2.0, -12.0, -60.0)):
        low, high = _sums.sum_epsilon([LaplaceTerm(e, 7)], log_delta)
        apart = _sums.sum_epsilon([LaplaceTerm(e, 3), LaplaceTerm(e, 4)], log_delta)
        assert low <= apart[1]
        assert apart[0] <= high
        assert apart[1] - apart[0] <= max(RELATIVE * high, 1e-12)


@given(
    laplaces=st.lists(st.tuples(st.floats(0.02, 5), st.integers(1, 40)), max_size=2),
    pures=st.lists(st.tuples(st.floats(0.02, 2), st.integers(1, 40)), min_size=1, max_size=2),
    log_delta=st.floats(-200, -1),
)
def test_epsilon_is_below_the_moment_bound_grows_with_releases_and_inverts_delta(laplaces, pures, log_delta):
    terms = (*(LaplaceTerm(e, n) for e, n in laplaces), *(pure(e, n) for e, n in pures))
    low, high = _certified._exact_epsilon(terms, log_delta)
    assert 0 <= low <= high
    assert low <= _moments.chernoff_epsilon(terms, (), log_delta)
    more = _certified._exact_epsilon((*terms, pure(0.1, 1)), log_delta)
    assert more[1] >= low
    if low > 0:
        assert _certified._exact_log_delta(terms, low * (1 - 1e-12))[1] >= log_delta - 1e-9
        assert _certified._exact_log_delta(terms, high * (1 + 1e-12))[0] <= log_delta + 1e-9


# That the tests and the certificates are able to fail.


@pytest.mark.parametrize("wrong", [1e-7, -1e-7])
def test_a_law_that_is_wrong_in_the_seventh_digit_is_rejected(wrong):
    for terms, delta in (
        ([LaplaceTerm(0.5 * (1 + wrong), 5)], laplace_delta(0.5, 5, 0.8)),
        ([LaplaceTerm(0.5 * (1 + wrong), 2), pure(0.3, 3)], mixed_delta([(0.5, 2)], [(0.3, 3)], 0.8)),
        ([pure(0.2, 4), pure(0.31 * (1 + wrong), 5)], atoms_delta([pure(0.2, 4), pure(0.31, 5)], 0.8)),
    ):
        assert not contains(_sums.sum_log_delta(terms, 0.8), delta, width=math.inf)


def test_a_wrong_share_between_the_ends_is_rejected(monkeypatch):
    right = _laplace.log_growth
    monkeypatch.setattr(_laplace, "log_growth", lambda x: right(x) * (1 + 1e-7))
    assert not contains(_sums.sum_log_delta([LaplaceTerm(0.5, 5)], 0.8), laplace_delta(0.5, 5, 0.8), width=math.inf)


def test_leaving_out_more_outcomes_widens_the_interval(monkeypatch):
    terms, epsilon = [pure(0.1, 40), pure(0.037, 60)], 1.1
    exact = atoms_delta(terms, epsilon)
    fine = _sums.sum_log_delta(terms, epsilon)
    monkeypatch.setattr(_atoms, "LOG_LOST", -6.0)
    coarse = _sums.sum_log_delta(terms, epsilon)
    assert contains(fine, exact)
    assert contains(coarse, exact, width=1.0)
    assert coarse[1] - coarse[0] > 1e-5


def test_the_upper_law_of_the_grid_stays_above_where_the_tilt_is_steep():
    for e in (1.0, 9.374908646033136):
        for log_delta in (-30.0, -100.0, -264.8):
            # Epsilon of one release is its top here: 2 log(1 - delta) is below any rounding.
            assert _grid.grid_epsilon([LaplaceTerm(e, 1)], log_delta)[1] >= e * (1 - 1e-12)


@pytest.mark.parametrize(("n", "e"), [(1, 90.0), (3, 105.0), (5, 300.0)])
def test_laplace_of_huge_epsilon_is_the_sum_of_truncated_powers(n, e):
    for missing in (0.5, 3.0, 20.0, n * e):
        # The exponentials of the oracle cancel to all but the last of these digits.
        with mp.workdps(250 + int(n * e)):
            exact = laplace_delta(e, n, n * e - missing)
            assert contains(_sums.sum_log_delta([LaplaceTerm(e, n)], n * e - missing), exact)


def test_no_epsilon_is_too_large_to_be_certified():
    for n, e in itertools.product((1, 10, 10**4, 10**9), (60.0, 100.0, 200.0, 1e5)):
        for delta in (0.5, 1e-5, 1e-200):
            low, high = _certified._exact_epsilon((LaplaceTerm(e, n),), math.log(delta))
            assert 0 < low <= high <= low * (1 + RELATIVE)
