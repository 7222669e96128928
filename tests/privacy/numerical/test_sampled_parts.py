"""Sampled Gaussians taken apart by edges: moments, parts and whole answers against integrals to 30 digits."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from privacy.events import Gaussian, Laplace, PoissonSampled
from privacy.numerical import NumericalAccountant, _split
from privacy.numerical._sampled_gaussian import SampledGaussianTerm, SampledPart, log_beyond
from privacy.numerical._sampled_law import SampledLaw
from privacy.numerical._split import Splitter, split_epsilon
from privacy.numerical._terms import LaplaceTerm
from privacy.numerical._window import Edge, Window

pytestmark = pytest.mark.slow

DIGITS = 30


def moment(law, exponent, ceiling, floor=None, *, nodes=900):
    """E[(E_ceiling - E_floor) D^exponent] by a fine trapezoidal rule up to the ceiling's end."""
    q, s = mpf(law.sampling_rate), mpf(law.noise_multiplier)
    low, high = mpf(-14), mpf(ceiling.end)
    step = (high - low) / nodes
    total = mpf(0)
    for k in range(nodes):
        u = high - (k + mpf(1) / 2) * step
        kept = mpmath.erfc((u - ceiling.middle) / ceiling.width / mpmath.sqrt(2)) / 2
        if floor is not None and u < floor.end:
            kept -= mpmath.erfc((u - floor.middle) / floor.width / mpmath.sqrt(2)) / 2
        ratio = 1 - q + q * mpmath.exp(u / s - 1 / (2 * s * s))
        total += kept * mpmath.npdf(u) * mpmath.power(ratio, exponent)
    return total * step


CASES = [
    pytest.param(0.01, 1.0, 1000, 0.5, marks=pytest.mark.slow),
    (0.01, 1.0, 1000, 6.0),
    (1e-6, 0.3, 200, 0.5),
    pytest.param(0.5, 0.1, 10, 0.5, marks=pytest.mark.slow),
    pytest.param(1e-7, 41.8, 8, 1e6, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("q", "s", "n", "c"), CASES)
def test_moments_and_transforms_are_within_their_errors(q, s, n, c):
    law = SampledLaw(s, q, "remove")
    ceiling, floor = law.edge_for(-40 - math.log(n)), law.edge_for(-20 - math.log(n))
    floor = floor.between(None, ceiling)
    below = SampledGaussianTerm(s, q, n, "remove", ceiling)
    part = SampledPart((below,), (floor,))
    whole, beyond = moment(law, 1 + mpf(c), ceiling), moment(law, 1 + mpf(c), ceiling, floor)
    at, apart = below.at(c), part.at(c)
    log_part = n * mpmath.log(whole) + mpmath.log(-mpmath.expm1(n * mpmath.log1p(-beyond / whole)))
    assert abs(at.log_moment - n * mpmath.log(whole)) <= at.error
    assert abs(apart.log_moment - log_part) <= apart.error
    t = np.arange(24) * 0.25 / math.sqrt(apart.variance)
    for made, power in ((at, None), (apart, log_part)):
        logs, growth = made.nodes(t)
        for k in (3, 19):
            z = mpmath.mpc(1 + c, t[k])
            value = moment(law, z, ceiling)
            exact = value**n
            if power is None:
                exact /= whole**n
            else:
                exact = (exact - (value - moment(law, z, ceiling, floor)) ** n) / mpmath.exp(power)
            exact *= mpmath.exp(-1j * mpf(made.mean) * t[k])
            ours = mpmath.exp(mpmath.mpc(complex(logs[k])))
            assert abs(ours - exact) <= mpmath.expm1(growth[k] + made.error) * abs(ours) + mpf(10) ** -25
            assert mpmath.log(abs(exact)) <= made.log_decay(float(t[k])) + 1e-9


def test_parts_by_number_and_their_remainder_make_up_the_part():
    s, q, n, c = 0.3, 1e-3, 40, 1.0
    law = SampledLaw(s, q, "remove")
    ceiling = law.edge_for(-60.0)
    floor = law.edge_at(4.5).between(None, ceiling)
    below = (SampledGaussianTerm(s, q, n, "remove", ceiling),)
    whole = SampledPart(below, (floor,)).at(c).log_moment
    some = [SampledPart(below, (floor,), k).at(c).log_moment for k in range(1, 7)]
    rest = math.exp(whole) - math.fsum(math.exp(one) for one in some)
    under = SampledGaussianTerm(s, q, n, "remove", floor).at(c).log_moment
    odds = math.exp((some[0] - math.log(n) - under * (n - 1) / n) - under / n)
    assert -1e-12 * math.exp(whole) <= rest <= math.exp(under + log_beyond(n, odds, 6)) + 1e-12 * math.exp(whole)


def rare_large_delta(q, s, n, epsilon):
    """Noise so small that a loss is log(1 - q), or normal: closed form, to within 1e-15."""
    q, s = mpf(q), mpf(s)
    total = mpf(0)
    for k in range(1, min(n, 60) + 1):
        weight = mpmath.binomial(n, k) * q**k * (1 - q) ** (n - k)
        mean = k * (1 / (2 * s * s) + mpmath.log(q)) + (n - k) * mpmath.log1p(-q)
        spread = mpmath.sqrt(k) / s
        z = (mean - epsilon) / spread
        total += weight * (mpmath.ncdf(z) - mpmath.exp(epsilon - mean + spread**2 / 2) * mpmath.ncdf(z - spread))
    return total


@pytest.mark.parametrize(("q", "n", "epsilon"), [(2.1e-5, 73_000, 600.0), (1e-4, 300, 350.0), (1e-3, 40, 800.0)])
def test_rare_large_losses_cost_their_closed_form(q, n, epsilon):
    exact = mpmath.log(rare_large_delta(q, 0.05, n, epsilon))
    accountant = NumericalAccountant(neighbours="add_remove_one")
    accountant.compose(PoissonSampled(Gaussian(0.05), q), count=n)
    low, high = accountant.log_delta_interval(epsilon=epsilon)
    assert low - 1e-12 <= exact <= high + 1e-12
    assert high - low < 1e-9
    wrong = mpmath.log(rare_large_delta(q * (1 + 1e-7), 0.05, n, epsilon))
    assert not low <= wrong <= high


# Small noise with rare participation, heavy tails, few steps, large n, tiny delta.
HARD = [
    (1e-3, 0.5, 1000, -13.8),
    (2.5e-5, 1.0, 100_000, -22.8),
    (0.011, 6.36, 360, -543.0),
    (4.9e-6, 0.285, 200, -24.2),
    (1.2e-7, 41.8, 8, -27.6),
    (4.59e-5, 1.47, 12_109_660, -572.0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("q", "s", "n", "log_delta"), HARD)
def test_wherever_the_edges_are_the_answer_is_the_same(monkeypatch, q, s, n, log_delta):
    terms = [SampledGaussianTerm(s, q, n, "remove")]
    first = split_epsilon(terms, log_delta)
    assert 0 <= first[1] - first[0] <= 1e-9 * first[1] + 1e-12
    for name, value in (("_CANCELLED", 5.0), ("_DROPPED", -29.0)):
        with monkeypatch.context() as changed:
            changed.setattr(_split, name, value)
            other = split_epsilon(terms, log_delta)
        assert other[0] <= first[1]
        assert first[0] <= other[1]


def test_a_wrong_law_is_outside_the_answer():
    # Negative control: the intervals above are narrow enough to tell.
    right = split_epsilon([SampledGaussianTerm(1.0, 2.5e-5, 100_000, "remove")], -22.8)
    wrong = split_epsilon([SampledGaussianTerm(1.0, 2.5e-5 * (1 + 1e-7), 100_000, "remove")], -22.8)
    assert right[1] < wrong[0]


def test_what_is_left_out_is_bounded_at_smaller_epsilons_too():
    # A part that is nothing where the curve was made grows towards smaller epsilons.
    terms = [
        SampledGaussianTerm(0.7595572334628434, 3.2499514437189e-05, 1650, "remove"),
        SampledGaussianTerm(7.89886919835191, 3.2499514437189e-05, 1, "remove"),
    ]
    log_delta = -378.2595513303728
    low, high = split_epsilon(terms, log_delta)
    epsilon = 0.5 * (low + high)
    exact = Splitter(terms).curve(epsilon, log_delta).evaluate(epsilon)[0]
    farther = Splitter(terms).curve(epsilon + 0.5, log_delta).evaluate(epsilon)[0]
    assert farther.low <= exact.high
    assert exact.low <= farther.high


@pytest.mark.parametrize(
    "laws",
    [
        [(3.0134, 3.98e-7, 408_700), (0.674, 4.73e-5, 4_438_455)],
        [(0.6125, 1.2984e-5, 83_606), (29.33, 0.008674, 47)],
        [(0.5, 0.001, 1000), (5.0, 0.001, 900)],
    ],
)
def test_several_sampled_laws_are_certified(laws):
    accountant = NumericalAccountant(neighbours="add_remove_one")
    for s, q, n in laws:
        accountant.compose(PoissonSampled(Gaussian(s), q), count=n)
    low, high = accountant.epsilon_interval(delta=1e-6)
    assert 0 <= high - low <= 1e-9 * high + 1e-12


def test_a_sampled_law_beside_laplace_noise_holds_the_sum_over_both():
    # One release each: condition on the Laplace loss, the other is a Gaussian at another epsilon.
    q, s, b, epsilon = mpf("0.05"), mpf("0.8"), mpf(3), mpf("0.5")

    def gaussian_delta(e):
        return mpmath.ncdf(1 / (2 * s) - e * s) - mpmath.exp(e) * mpmath.ncdf(-1 / (2 * s) - e * s)

    def rest(loss):
        other = mpmath.exp(epsilon - loss)
        if other <= 1 - q:
            return 1 - other
        return q * gaussian_delta(mpmath.log((other - 1 + q) / q))

    top = 1 / b
    # The loss is -1/b, 1/b, or between with density exp((loss - 1/b) / 2) / 4.
    kink = epsilon - mpmath.log1p(-q)
    exact = rest(top) / 2 + mpmath.exp(-top) * rest(-top) / 2
    pieces = sorted({-top, min(top, kink), top})
    exact += mpmath.quad(lambda loss: mpmath.exp((loss - top) / 2) / 4 * rest(loss), pieces)
    accountant = NumericalAccountant(neighbours="add_remove_one")
    accountant.compose(PoissonSampled(Gaussian(0.8), 0.05))
    accountant.compose(Laplace(3.0))
    low, high = accountant.delta_interval(epsilon=0.5)
    assert low <= exact <= high
    assert Splitter([LaplaceTerm(1 / 3, 1), SampledGaussianTerm(0.8, 0.05, 1, "remove")]).others


def test_edges_fit_below_one_another():
    ceiling, floor = Edge(10.0, 0.2), Edge(6.0, 0.02)
    made = Edge(9.5, 0.5).between(floor, ceiling)
    u = np.linspace(4.0, 15.0, 2000)
    window = Window(ceiling, made)
    # Nowhere does the floor keep more than the ceiling, but for less than exp(-128).
    assert np.all(np.exp(made.log(u)) <= np.exp(ceiling.log(u)) + math.exp(-128))
    assert np.all(np.exp(floor.log(u)) <= np.exp(made.log(u)) + math.exp(-128))
    assert np.all(window.log(u) <= window.log_envelope(u) + 1e-12)
    assert Edge(9.999, 0.01).between(None, Edge(10.0, 0.5)).width == pytest.approx(0.5, abs=1e-3)
    assert Edge(10.5, 0.1).between(None, ceiling) is None
