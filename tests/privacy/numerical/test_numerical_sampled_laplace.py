"""Sampled Laplace noise: exact moments and characteristic functions, one and two releases by quadrature."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

from privacy.events import Gaussian, Laplace, PoissonSampled, PureDP
from privacy.numerical import NumericalAccountant
from privacy.numerical._sampled_laplace import SampledLaplaceTerm

pytestmark = pytest.mark.slow


def account(*pairs):
    accountant = NumericalAccountant(neighbours="add_remove_one")
    for event, count in pairs:
        accountant.compose(event, count=count)
    return accountant


def moment(e, q, power):
    """E_Q0[D^power] at as many digits as mpmath is set to."""

    def ratio(x):
        return 1 - q + q * mpmath.exp(x)

    inside = mpmath.quad(lambda x: mpmath.exp(-(x + e) / 2) / 4 * ratio(x) ** power, mpmath.linspace(-e, e, 7))
    return ratio(-e) ** power / 2 + mpmath.exp(-e) / 2 * ratio(e) ** power + inside


@pytest.mark.parametrize("direction", ["remove", "add"])
@pytest.mark.parametrize(
    ("e", "q"),
    [
        (1.0, 0.1),
        (0.1, 0.01),
        (1e-3, 0.5),
        pytest.param(6.0, 0.3, marks=pytest.mark.slow),
        pytest.param(20.0, 1e-4, marks=pytest.mark.slow),
    ],
)
def test_moments_and_characteristic_functions_are_within_their_errors(e, q, direction):
    term = SampledLaplaceTerm(e, q, 1, direction)
    with mp.workdps(22):
        for c in (-0.5, 3.0, 60.0):
            at = term.at(c)
            power, sign = (mpf(1 + c), 1) if direction == "remove" else (mpf(-c), -1)
            exact = mpmath.log(moment(mpf(e), mpf(q), power))
            assert abs(at.log_moment - exact) <= at.error < 1e-11 * (1 + abs(exact))
            t = np.array([0.7, 40.0])
            values, errors = at.nodes(t)
            for argument, value, error in zip(t, values, errors, strict=True):
                true = moment(mpf(e), mpf(q), power + sign * mpf(argument) * 1j) / mpmath.exp(exact)
                true *= mpmath.exp(-1j * mpf(at.mean) * mpf(argument))
                assert abs(mpmath.exp(complex(value)) / true - 1) <= error < 1e-9
                assert mpmath.log(abs(true)) <= at.log_decay(float(argument))
            # Negative control: half the sampling rate is far outside.
            assert abs(SampledLaplaceTerm(e, q / 2, 1, direction).at(c).log_moment - exact) > at.error


def laplace_delta(e, epsilon):
    if epsilon >= e:
        return mpf(0)
    if epsilon <= -e:
        return 1 - mpmath.exp(epsilon)
    return 1 - mpmath.exp((epsilon - e) / 2)


def sampled_delta(e, q, epsilon, *, remove):
    """H of the sampled pair at any real epsilon: a Laplace pair at another one."""
    a = mpmath.exp(epsilon)
    if remove:
        return q * laplace_delta(e, mpmath.log(1 + (a - 1) / q)) if a > 1 - q else 1 - a
    d = 1 - a * (1 - q)
    # The Laplace pair is its own mirror image.
    return d * laplace_delta(e, mpmath.log(a * q / d)) if d > 0 else mpf(0)


@pytest.mark.parametrize(("e", "q"), [(1.0, 0.1), (3.0, 0.01), (0.2, 0.7)])
def test_one_release_is_the_closed_form(e, q):
    made = account((PoissonSampled(Laplace(1 / e), q), 1))
    assert made.is_tight
    for epsilon in (0.0, 0.3 * q * e, 0.1):
        exact = max(sampled_delta(mpf(e), mpf(q), mpf(epsilon), remove=remove) for remove in (True, False))
        low, high = made.delta_interval(epsilon=epsilon)
        assert low <= exact * (1 + 1e-12) + mpf("1e-12")
        assert exact <= high * (1 + 1e-12)
        assert high - low <= 2e-3 * high + 1e-9


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3])
def test_two_releases_are_the_integral_over_one_of_them(epsilon):
    e, q = mpf(1), mpf("0.3")

    def ratio(x):
        return 1 - q + q * mpmath.exp(x)

    values = []
    for remove in (True, False):

        def rest(x, remove=remove):
            loss = mpmath.log(ratio(x)) if remove else -mpmath.log(ratio(x))
            weight = ratio(x) if remove else 1
            return weight * sampled_delta(e, q, mpf(epsilon) - loss, remove=remove)

        inside = mpmath.quad(lambda x, rest=rest: mpmath.exp(-(x + e) / 2) / 4 * rest(x), mpmath.linspace(-e, e, 33))
        values.append(rest(-e) / 2 + mpmath.exp(-e) / 2 * rest(e) + inside)
    low, high = account((PoissonSampled(Laplace(1.0), 0.3), 2)).delta_interval(epsilon=epsilon)
    assert low - 1e-9 <= max(values) <= high + 1e-9
    assert high - low < 2e-3 * high


def test_many_releases_are_certified_and_cheaper_than_sampled_pure_dp():
    step, worst = PoissonSampled(Laplace(1.0), 0.1), PoissonSampled(PureDP(1.0), 0.1)
    low, high = account((step, 400), (Gaussian(20.0), 1)).epsilon_interval(delta=1e-6)
    assert high - low <= 1e-9 * high
    assert high < account((worst, 400), (Gaussian(20.0), 1)).epsilon(delta=1e-6)
    # All of a sample is no sample.
    assert account((PoissonSampled(Laplace(2.0), 1.0), 30)).epsilon(delta=1e-6) == account((Laplace(2.0), 30)).epsilon(
        delta=1e-6
    )


def test_the_grid_and_the_line_agree():
    from privacy.numerical._grid import grid_epsilon
    from privacy.numerical._solve import epsilon_at
    from privacy.numerical._terms import GaussianTerm

    for direction in ("remove", "add"):
        terms = [SampledLaplaceTerm(1.0, 0.1, 100, direction), GaussianTerm(0.01)]
        line, grid = epsilon_at(terms, -12.0), grid_epsilon(terms, -12.0)
        assert line is not None
        assert line[1] - line[0] < 1e-9
        assert grid[0] <= line[1]
        assert grid[1] >= line[0]
        assert grid[1] - grid[0] < 0.02 * grid[1]


def test_next_to_no_noise_is_taken_as_sampled_pure_dp():
    step = PoissonSampled(Laplace(1 / 60), 0.1)
    assert not account((step, 1)).is_tight
    assert account((step, 1)).epsilon(delta=1e-6) == pytest.approx(60 + math.log(0.1), rel=1e-3)
