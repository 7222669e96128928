"""The certificate at its edges: each case was outside the bounds once, and is compared with 60 digits by mpmath."""

from __future__ import annotations

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
    Gaussian,
    Laplace,
    PermuteAndFlip,
    PoissonSampled,
    PureDP,
    Repeated,
)
from privacy.numerical import NumericalAccountant
from privacy.numerical._contour import Contour, build, joint, log_chernoff_bound, log_chernoff_factor
from privacy.numerical._decay import layers_of_density, sinc_envelope
from privacy.numerical._grid import grid_epsilon, grid_log_delta
from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._single import tails
from privacy.numerical._solve import chernoff_log_delta
from privacy.numerical._terms import AtomsTerm, DiscreteGaussianTerm, GaussianTerm, LaplaceTerm
from privacy.numerical._translate import compose

DIGITS = 60
# Noise so small that 900 digits take a second.
DEAR = (0.04, 0.5, 1e-300)


def account(*events):
    accountant = NumericalAccountant(neighbours="add_remove_one")
    for event in events:
        accountant.compose(event)
    return accountant


def normal_delta(mu, epsilon):
    """Delta of L ~ N(mu, 2 mu) at any real epsilon."""
    sd = mpmath.sqrt(2 * mpf(mu))
    above = mpmath.erfc((epsilon - mu) / sd / mpmath.sqrt(2)) / 2
    return above - mpmath.exp(epsilon) * mpmath.erfc((epsilon + mu) / sd / mpmath.sqrt(2)) / 2


def two_point(epsilon, rate, direction):
    e, r = mpf(epsilon), mpf(rate)
    high, low = 1 / (1 + mpmath.exp(-e)), 1 / (1 + mpmath.exp(e))
    up, down = mpmath.log(1 - r + r * mpmath.exp(e)), mpmath.log(1 - r + r * mpmath.exp(-e))
    if direction == "remove":
        return [(down, (1 - r) * high + r * low), (up, (1 - r) * low + r * high)]
    return [(-up, low), (-down, high)]


def discrete_gaussian(scale, count):
    """Losses and masses of so many releases, to exp(-90)."""
    s2 = mpf(scale) ** 2
    reach = int(14 * scale) + 2
    weight = {x: mpmath.exp(-mpf(x * x) / (2 * s2)) for x in range(-reach, reach + 1)}
    whole = mpmath.fsum(weight.values())
    law = {0: mpf(1)}
    for _ in range(count):
        more: dict[int, mpf] = {}
        for x, p in law.items():
            for y, w in weight.items():
                more[x + y] = more.get(x + y, mpf(0)) + p * w / whole
        law = {x: p for x, p in more.items() if p > mpf(10) ** -45}
    return [(mpf(count - 2 * x) / (2 * s2), p) for x, p in law.items()]


def delta_of(law, mu, epsilon):
    if mu:
        return mpmath.fsum(p * normal_delta(mu, epsilon - loss) for loss, p in law)
    return mpmath.fsum(p * -mpmath.expm1(epsilon - loss) for loss, p in law if loss > epsilon)


def powered(law, count):
    (a, p), (b, q) = law
    return [((count - k) * a + k * b, mpmath.binomial(count, k) * p ** (count - k) * q**k) for k in range(count + 1)]


# -- the discrete Gaussian in mixtures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "count", "sigma", "sigmas", "epsilon"),
    [
        pytest.param(6.1503393492581555, 3, 1621.7712238653903, 16, "1.05613871304317", marks=pytest.mark.slow),
        (4.0, 1, 200.0, 1, "0.927354169549183"),
        (2.5, 1, 30.0, 1, "1.555808379983689"),
        (5.0, 4, 100.0, 1, "1.555383655295087"),
        pytest.param(10.0, 1, 400.0, 1, "0.3408375344249866", marks=pytest.mark.slow),
    ],
)
def test_a_discrete_gaussian_beside_a_wide_one_is_the_sum_over_its_lattice(scale, count, sigma, sigmas, epsilon):
    # Far beyond one period of the lattice the Gaussian's transform has not fallen yet.
    made = account(Repeated(DiscreteGaussian(noise_multiplier=scale), count), Repeated(Gaussian(sigma), sigmas))
    low, high = made.epsilon_interval(delta=1e-5)
    assert low <= float(epsilon) * (1 + 1e-15)
    assert float(epsilon) * (1 - 1e-15) <= high
    assert high - low < 1e-9 * high
    exact = delta_of(discrete_gaussian(scale, count), mpf(sigmas) / (2 * mpf(sigma) ** 2), mpf(2 / scale))
    low, high = made.delta_interval(epsilon=2 / scale)
    assert low <= exact <= high
    assert high - low < 1e-9 * high


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.7, 1.9, 2.1, 3.7])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("c", [-0.4, 0.3, 2.5, 11.75])
def test_the_transform_of_a_discrete_gaussian_is_the_sum_at_all_frequencies(scale, count, c):
    tilted = DiscreteGaussianTerm(scale, count).at(c)
    period = 2 * math.pi * scale**2
    t = period * np.array([0.0, 0.1, 0.49, 0.51, 0.97, 1.0, 1.6, 7.3, 100.45])
    logs, errors = tilted.nodes(t)
    s2, cc = mpf(scale) ** 2, mpf(c)
    reach = range(-int(20 * scale + abs(c)) - 3, int(20 * scale + abs(c)) + 4)
    weight = {x: mpmath.exp(-((x + cc) ** 2) / (2 * s2)) for x in reach}
    whole = mpmath.fsum(weight.values())
    for at, log, error in zip(t, logs, errors, strict=True):
        loss = {x: mpf(1 - 2 * x) / (2 * s2) - mpf(tilted.mean) / count for x in reach}
        exact = (mpmath.fsum(w * mpmath.expj(mpf(at) * loss[x]) for x, w in weight.items()) / whole) ** count
        ratio = mpmath.exp(mpmath.mpc(log)) / exact
        assert abs(ratio - 1) <= error <= 1e-3


@pytest.mark.parametrize("count", [1, 3])
def test_the_transform_of_two_values_is_the_sum_at_all_frequencies(count):
    losses, probabilities = (-0.3, 0.9), (0.7, 0.3)
    tilted = AtomsTerm(losses, probabilities, count).at(1.5)
    t = 2 * math.pi / 1.2 * np.array([0.0, 0.3, 0.5, 1.0, 1.7, 30.4])
    logs, errors = tilted.nodes(t)
    weight = [mpf(p) * mpmath.exp(mpf(1.5) * loss) for p, loss in zip(probabilities, losses, strict=True)]
    for at, log, error in zip(t, logs, errors, strict=True):
        turned = [mpmath.expj(mpf(at) * (mpf(loss) - mpf(tilted.mean) / count)) for loss in losses]
        exact = (mpmath.fdot(weight, turned) / mpmath.fsum(weight)) ** count
        assert abs(mpmath.exp(mpmath.mpc(log)) / exact - 1) <= error <= 1e-10


def test_a_discrete_gaussian_of_little_noise_is_bounded():
    # All but exp(-5000) of the noise is 0, and the loss 1 / (2 scale^2) = 5000.
    exact = 5000 + mpmath.log1p(-mpf(1e-5))
    low, high = account(DiscreteGaussian(noise_multiplier=0.01)).epsilon_interval(delta=1e-5)
    assert low <= exact <= high < 5001
    low, high = account(DiscreteGaussian(noise_multiplier=0.01), Gaussian(10.0)).epsilon_interval(delta=1e-5)
    assert low <= 5000.6
    assert 5000 < high < math.inf


# -- one moment ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [1e-320, 1e-12, 0.3, 1.0, 1e4, 1e9, 1e15])
def test_the_factor_of_one_moment_is_rounded_up_and_does_not_cancel(a):
    with mp.workdps(400):
        exact = mpf(a) * mpmath.log(mpf(a)) - (1 + mpf(a)) * mpmath.log1p(mpf(a))
    assert exact <= log_chernoff_factor(a)
    if a > 1e-300:
        assert log_chernoff_factor(a) - exact <= 1e-14 * abs(exact)


def test_one_moment_bounds_delta_with_its_rounding():
    rng = np.random.default_rng(3)
    for _ in range(200):
        c, moment, epsilon = (float(10 ** rng.uniform(-3, 12)) for _ in range(3))
        exact = mpf(moment) - mpf(c) * mpf(epsilon)
        exact += mpf(c) * mpmath.log(mpf(c)) - (1 + mpf(c)) * mpmath.log1p(mpf(c))
        assert exact <= log_chernoff_bound(c, moment, epsilon)
    for sigma in (0.001, 1.0, 30.0):
        mu = 1 / (2 * mpf(sigma) ** 2)
        bound = chernoff_log_delta((GaussianTerm(float(mu)),), 3 / sigma)
        assert mpmath.log(normal_delta(mu, mpf(3 / sigma))) <= bound


# -- sampling rates near 1 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["remove", "add"])
@pytest.mark.parametrize("left", [2**-53, 1e-12, 1e-7, 1e-3, 0.4, 1 - 1e-9])
@pytest.mark.parametrize("epsilon", [1e-9, 0.1, 20.0, 100.0, 650.0])
def test_the_two_values_of_a_sampled_release_are_relatively_accurate(epsilon, left, direction):
    rate = 1 - left
    (term,) = compose({PoissonSampled(PureDP(epsilon), rate): 1}, direction).terms
    with mp.workdps(700):
        exact = two_point(epsilon, rate, direction)
    for loss, p, (exact_loss, exact_p) in zip(term.losses, term.probabilities, exact, strict=True):
        assert abs(mpf(loss) - exact_loss) <= mpf(2) ** -50 * abs(exact_loss)
        assert abs(mpf(p) - exact_p) <= mpf(2) ** -50 * exact_p


@pytest.mark.parametrize(("left", "epsilon", "count", "delta"), [(1e-7, 30.0, 2, 1 - 1e-7), (1e-3, 20.0, 3, 1 - 1e-4)])
def test_sampled_pure_dp_at_a_rate_near_one_is_the_binomial_sum(left, epsilon, count, delta):
    made = account(Repeated(PoissonSampled(PureDP(epsilon), 1 - left), count))
    laws = [powered(two_point(epsilon, 1 - left, side), count) for side in ("remove", "add")]

    def curve(e):
        return max(delta_of(law, 0, mpf(e)) for law in laws)

    low, high = made.epsilon_interval(delta=delta)
    assert curve(high) <= mpf(delta) <= curve(low)
    low, high = made.log_delta_interval(epsilon=0.9 * count * epsilon)
    assert low <= mpmath.log(curve(0.9 * count * epsilon)) <= high


@pytest.mark.parametrize("direction", ["remove", "add"])
def test_tails_of_a_sampled_gaussian_near_its_least_loss_are_accurate(direction):
    left = 1e-9
    term = SampledGaussianTerm(0.7, 1 - left, 1, direction)
    s, q = mpf(0.7), mpf(1 - left)
    losses = np.log(left) + np.array([1e-6, 0.01, 0.3, 2.0, 10.0, 20.0])
    losses = losses if direction == "remove" else -losses[::-1]
    found = tails(term, losses)
    for i, at in enumerate(losses):
        # Losses count as known to a few roundings.
        bounds = []
        for slip in (-1, 1):
            loss = mpf(at) * (1 + slip * mpf(2) ** -49)
            ratio = loss if direction == "remove" else -loss
            u = s * mpmath.log1p(mpmath.expm1(ratio) / q) + 1 / (2 * s)
            low, shifted = mpmath.ncdf(u), mpmath.ncdf(u - 1 / s)
            mixed = (1 - q) * low + q * shifted
            bounds.append(
                (mixed, 1 - mixed, low, 1 - low) if direction == "remove" else (1 - low, low, 1 - mixed, mixed)
            )
        for values, first, second in zip(found, *bounds, strict=True):
            least, most = min(first, second), max(first, second)
            assert least * (1 - mpf("1e-12")) <= mpf(float(values[i])) <= most * (1 + mpf("1e-12"))


@pytest.mark.slow
def test_tails_of_many_values_are_summed_with_few_roundings():
    scale = 5e3
    values = np.arange(-3, 4) * 1e-4
    p_low, _, _, q_high = tails(DiscreteGaussianTerm(scale, 1), values)
    x = np.arange(-40 * scale, 40 * scale + 1)
    for y, found, side in ((0, p_low, 1), (1, q_high, -1)):
        weight = np.exp(-((x - y) ** 2) / (2 * scale**2))
        whole = math.fsum(weight)
        loss = (1 - 2 * x) / (2 * scale**2)
        for at, value in zip(values, found, strict=True):
            kept = weight[loss <= at] if side > 0 else weight[loss > at]
            assert value == pytest.approx(math.fsum(kept) / whole, rel=2e-12)


# -- the grid -----------------------------------------------------------------------------------------------------


def test_the_grid_is_right_where_the_other_law_is_below_the_doubles():
    sigma, count, delta = 0.09058198618467582, 2039, 0.9999994610012855
    mu = count / (2 * mpf(sigma) ** 2)
    for low, high in (
        grid_epsilon((GaussianTerm(float(mu)),), math.log(delta)),
        account(Repeated(Gaussian(sigma), count)).epsilon_interval(delta=delta),
    ):
        assert normal_delta(mu, mpf(high)) <= mpf(delta) <= normal_delta(mu, mpf(low))


@pytest.mark.parametrize("epsilon", [0.1, 0.23203095026793485, 1.0])
@pytest.mark.parametrize("delta", [1e-6, 1e-9, 1e-30])
def test_the_grid_holds_just_below_the_largest_loss(epsilon, delta):
    top = 1 / (1 + mpmath.exp(-mpf(epsilon)))
    exact = mpf(epsilon) + mpmath.log1p(-mpf(delta) / top)
    low, high = grid_epsilon((AtomsTerm((-epsilon, epsilon), (float(1 - top), float(top)), 1),), math.log(delta))
    assert low <= exact <= high * (1 + 1e-15)
    low, high = grid_epsilon((LaplaceTerm(epsilon, 1),), math.log(delta))
    assert low <= mpf(epsilon) + 2 * mpmath.log1p(-mpf(delta)) <= high * (1 + 1e-15)


def test_bounds_of_the_grid_never_contradict_each_other():
    rng = np.random.default_rng(5)
    for _ in range(12):
        terms = (GaussianTerm(float(10 ** rng.uniform(-4, 3))), LaplaceTerm(float(10 ** rng.uniform(-3, 1)), 2))
        low, high = grid_log_delta(terms, float(10 ** rng.uniform(-3, 1)))
        assert low <= high
        low, high = grid_epsilon(terms, -float(10 ** rng.uniform(-6, 2.8)))
        assert low <= high


# -- approximate DP -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [1e-300, 1e-63, 1e-62, 1e-5])
def test_no_epsilon_is_promised_at_the_delta_that_may_be_lost(delta):
    made = account(Gaussian(1.0), ApproximateDP(1.0, delta))
    assert made.epsilon(delta=delta) == math.inf
    assert made.epsilon_interval(delta=delta * 0.999) == (math.inf, math.inf)
    assert math.isfinite(made.epsilon(delta=delta * 1.001))


@pytest.mark.parametrize("delta", [1e-300, 1e-50, 1e-5, 0.3])
def test_approximate_dp_alone_has_its_own_epsilon_at_its_own_delta(delta):
    low, high = account(ApproximateDP(1.0, delta)).epsilon_interval(delta=delta)
    assert low <= 1 <= high <= 1 + 1e-12


@pytest.mark.parametrize("epsilon", [0.5, 30.0, 60.0])
def test_a_delta_far_below_the_doubles_joins_what_may_be_lost(epsilon):
    lost = 1e-310
    exact = mpmath.log(mpf(lost) + (1 - mpf(lost)) * normal_delta(mpf(1) / 2, mpf(epsilon)))
    low, high = account(Gaussian(1.0), ApproximateDP(0.0, lost)).log_delta_interval(epsilon=epsilon)
    assert low <= exact <= high
    assert high - low < 1e-9


# -- what doubles cannot carry ------------------------------------------------------------------------------------


def test_noise_beyond_the_doubles_is_bounded_from_the_safe_side_only():
    low, high = account(Gaussian(1e15)).delta_interval(epsilon=0.0)
    assert low <= normal_delta(1 / (2 * mpf(1e15) ** 2), mpf(0)) <= high
    assert account(PureDP(2e5)).delta_interval(epsilon=3e5)[0] == 0
    assert account(Laplace(1e-6)).delta_interval(epsilon=2e6)[0] == 0
    # The Renyi bound reaches where no line does: the mean loss is 5e13, its standard deviation 1e7.
    low, high = account(Gaussian(1e-7)).epsilon_interval(delta=1e-5)
    assert (low, 5e13 + 4e7 < high < 5e13 + 6e7) == (0.0, True)
    assert account(PureDP(2e5)).epsilon_interval(delta=1 - 1e-15)[0] == 0
    # What else was released is known from below.
    alone = account(Gaussian(1.0)).epsilon_interval(delta=1e-5)
    both = account(Gaussian(1.0), PureDP(2e5)).epsilon_interval(delta=1e-5)
    assert both[0] == alone[0]
    assert 2e5 + alone[0] <= both[1] < 2e5 + 10


def test_several_gaussians_on_one_sample_are_bounded_from_either_side():
    event = PoissonSampled(Composed((Gaussian(1.7), Repeated(Gaussian(3.1), 3))), 0.3)
    precision = 1 / mpf(1.7) ** 2 + 3 / mpf(3.1) ** 2
    q, epsilon = mpf(0.3), mpf(0.4)
    exact = q * normal_delta(precision / 2, mpmath.log1p(mpmath.expm1(epsilon) / q))
    low, high = account(event).log_delta_interval(epsilon=0.4)
    assert low <= mpmath.log(exact) <= high
    assert high - low < 1e-9
    up = compose({event: 1}, "remove")
    assert up.below is not None
    assert up.terms[0].noise_multiplier < 1 / mpmath.sqrt(precision) < up.below.terms[0].noise_multiplier


@pytest.mark.parametrize(
    ("events", "exact"),
    [
        ((PureDP(800.0), PureDP(1.0)), 801 + mpmath.log1p(-1e-5 * (1 + mpmath.exp(-1)))),
        ((PureDP(800.0), Laplace(1.0)), 801 + 2 * mpmath.log1p(-mpf(1e-5))),
        ((PureDP(720.0), Laplace(1.0)), 721 + 2 * mpmath.log1p(-mpf(1e-5))),
        ((PureDP(9e4),), 90_000 + mpmath.log1p(-mpf(1e-5))),
    ],
)
def test_losses_beyond_the_exponents_of_doubles_are_the_closed_form(events, exact):
    low, high = account(*events).epsilon_interval(delta=1e-5)
    assert low <= exact <= high
    assert high - low < 1e-9 * high


@pytest.mark.parametrize("rate", [1e-315, 1e-200, 0.3, 1 - 1e-12])
def test_a_sampled_loss_beyond_the_exponents_of_doubles_is_the_closed_form(rate):
    with mp.workdps(800):
        law = two_point(800.0, rate, "remove")
        exact = mpmath.log(delta_of(law, 0, mpf(1)))
    low, high = account(PoissonSampled(PureDP(800.0), rate)).log_delta_interval(epsilon=1.0)
    assert low <= exact <= high
    low, high = account(PoissonSampled(PureDP(800.0), rate), Gaussian(5.0)).log_delta_interval(epsilon=1.0)
    with mp.workdps(800):
        exact = mpmath.log(delta_of(law, mpf("0.02"), mpf(1)))
    assert low <= exact <= high


# -- the decay of the transform -----------------------------------------------------------------------------------


def test_the_envelope_of_the_sinc_is_above_it_from_there_on():
    x = np.concatenate((np.linspace(1e-6, 12, 4001), np.linspace(2.4, 2.6, 801), [1e-12, 50.0, 1e4]))
    y = np.linspace(1e-6, 40, 400_001)
    after = np.maximum.accumulate(np.abs(np.sin(y) / y)[::-1])[::-1]
    bound = sinc_envelope(x)
    assert np.all(bound >= np.abs(np.sin(x) / x))
    inside = x < 39
    assert np.all(bound[inside] >= after[np.searchsorted(y, x[inside])])
    assert np.all(bound[x > 3.2] <= 1 / x[x > 3.2])


def test_layers_are_narrowed_by_what_their_ends_are_off():
    edges, log_density = np.array([0.0, 1.0]), np.array([0.0])
    t = 1.0
    for error in (0.0, 0.01, 0.2):
        width = 1 - 2 * error
        exact = 1 - width * (1 - math.sin(t * width / 2) / (t * width / 2))
        found = math.exp(layers_of_density(edges, log_density, np.full(2, error))(t))
        assert exact <= found <= exact + 1e-6


# -- lattices -----------------------------------------------------------------------------------------------------


def test_a_line_too_far_out_says_nothing_from_below():
    # exp(-c gap) is below the doubles at this tilt: the kernel must not be replaced by a number.
    term = AtomsTerm((-400.0, 500.0), (0.6, 0.4), 1)
    at = joint((term,), 5.0)
    contour = build((term,), at, 10.0, log_target=-200.0)
    assert isinstance(contour, Contour)
    for epsilon in (1.0, 10.0, 200.0, 450.0, 499.0):
        bounds, _ = contour.evaluate(epsilon)
        exact = mpmath.log(mpf(0.4) * -mpmath.expm1(mpf(epsilon) - 500))
        assert bounds.low <= exact <= bounds.high
    for epsilon in (500.0, 501.0, 900.0):
        assert contour.evaluate(epsilon)[0].low == -math.inf


def test_beyond_the_largest_loss_delta_is_nothing():
    many = account(Repeated(PureDP(0.01), 200_000))
    assert many.delta_interval(epsilon=2000.001) == (0.0, 0.0)
    assert many.log_delta_interval(epsilon=2000.001) == (-math.inf, -math.inf)


# -- one sampled Gaussian -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "rate"), [(0.03, 0.5), (0.03, 1 - 1e-12), (0.05, 1e-12), (1.0, 1 - 1e-15)])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 27.0, 27.6, 34.0, 40.0, 400.0, 800.0])
def test_one_sampled_gaussian_is_the_closed_form_at_any_epsilon(sigma, rate, epsilon):
    with mp.workdps(400):
        s, q, a = mpf(sigma), mpf(rate), mpmath.exp(mpf(epsilon))
        mu, d = 1 / (2 * s * s), 1 - a * (1 - q)
        exact = q * normal_delta(mu, mpmath.log1p((a - 1) / q))
        if d > 0:
            exact = max(exact, d * normal_delta(mu, mpmath.log1p((a - 1) / d)))
        log_exact = mpmath.log(exact)
    low, high = account(PoissonSampled(Gaussian(sigma), rate)).log_delta_interval(epsilon=epsilon)
    assert low <= log_exact <= high <= 0


@pytest.mark.parametrize(
    ("sigma", "rate", "delta"),
    [
        pytest.param(
            *pair, delta, marks=[pytest.mark.slow] if delta in (1e-100, 1e-15) or (*pair, delta) == DEAR else []
        )
        for pair in [(0.3, 1e-14), (0.04, 0.5), (0.2, 1e-9)]
        for delta in (1e-300, 9e-10, 1e-100, 1e-15)
    ],
)
def test_epsilon_of_one_sampled_gaussian_is_the_closed_form(sigma, rate, delta):
    low, high = account(PoissonSampled(Gaussian(sigma), rate)).epsilon_interval(delta=delta)
    with mp.workdps(900):
        mu, q = 1 / (2 * mpf(sigma) ** 2), mpf(rate)

        def curve(epsilon):
            return q * normal_delta(mu, mpmath.log1p(mpmath.expm1(mpf(epsilon)) / q))

        assert curve(high) <= mpf(delta)
        assert low == 0 or curve(low) >= mpf(delta)


# -- tightness ----------------------------------------------------------------------------------------------------


def test_permute_and_flip_is_bounded_from_above_only():
    # Two candidates: the total variation is at most 1 - exp(-epsilon / 2), less than that of randomised response.
    for event in (PermuteAndFlip(1.0), PoissonSampled(PermuteAndFlip(1.0), 0.5)):
        made = account(event)
        assert not made.is_tight
        assert made.delta_interval(epsilon=0.0)[0] == 0
    assert account(PermuteAndFlip(1.0)).delta(epsilon=0.0) >= 1 - math.exp(-0.5)


@pytest.mark.slow
def test_what_has_no_exact_method_lies_between_its_dearest_loss_alone_and_one_moment():
    # Windows of these sampled Gaussians end left of what the other losses weigh, and nothing is left to sum there.
    lattice = Repeated(DiscreteLaplace(noise_multiplier=5.8241580111838385), 3_684_201)
    events = (
        lattice,
        Repeated(PoissonSampled(Gaussian(noise_multiplier=0.27788361685766877), 3.0879661863428756e-05), 43),
        Repeated(PoissonSampled(Gaussian(noise_multiplier=1508.3749267979656), 0.00019394263483627722), 1897),
        Repeated(PoissonSampled(PureDP(0.04343698504386165), 0.4099666019778588), 2),
    )
    delta = 1.902936870739542e-08
    low, high = account(*events).epsilon_interval(delta=delta)
    alone = account(lattice).epsilon_interval(delta=delta)
    assert alone[0] * (1 - 1e-9) <= low <= high <= 1.01 * alone[1]


def test_a_rare_loss_that_no_line_reaches_adds_at_most_its_total_variation():
    common = Repeated(PoissonSampled(Gaussian(3.4358995573468327), 0.0004309937912293112), 274_327)
    rare = PoissonSampled(Gaussian(0.13939733444875682), 2.7317123695559567e-07)
    epsilon = 0.00044476584768721774
    low, high = account(common, rare).log_delta_interval(epsilon=epsilon)
    alone = account(common).log_delta_interval(epsilon=epsilon)
    distance = rare.sampling_rate * math.erf(math.sqrt(0.125) / rare.event.noise_multiplier)
    assert alone[0] - 1e-9 <= low <= high <= math.log(math.exp(alone[1]) + distance) + 1e-9
    low, high = account(common, rare).epsilon_interval(delta=1e-3)
    alone = account(common).epsilon_interval(delta=1e-3)[0], account(common).epsilon_interval(delta=1e-3 - distance)[1]
    assert alone[0] * (1 - 1e-9) <= low <= high <= alone[1] * (1 + 1e-9)
