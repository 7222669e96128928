"""What holds for every composition: order, counts, monotonicity, and that a certificate cannot be talked into a lie."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import UnsupportedEvent
from privacy.events import (
    Composed,
    DiscreteGaussian,
    DistributedSkellam,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    Repeated,
    SampledWithoutReplacement,
    ZeroConcentratedDP,
)
from privacy.numerical import NumericalAccountant, _certified, _contour, _grid, _moments, _solve, _split
from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._terms import AtomsTerm, GaussianTerm, LaplaceTerm
from privacy.rdp import RdpAccountant

SLACK = 1e-9

MIXTURE = [
    (PoissonSampled(Gaussian(1.0), 0.01), 1000),
    (Laplace(10.0), 100),
    (Gaussian(10.0), 20),
    (PureDP(0.05), 50),
]


def account(*pairs, neighbours="add_remove_one"):
    accountant = NumericalAccountant(neighbours=neighbours)
    for event, count in pairs:
        accountant.compose(event, count=count)
    return accountant


def test_the_order_of_releases_does_not_matter():
    values = {account(*order).epsilon(delta=1e-5) for order in (MIXTURE, MIXTURE[::-1], MIXTURE[2:] + MIXTURE[:2])}
    assert max(values) - min(values) <= SLACK


def test_a_count_is_as_many_single_releases():
    for event in (
        PoissonSampled(Gaussian(2.0), 0.1),
        Laplace(5.0),
        DiscreteGaussian(noise_multiplier=3.0),
        PureDP(0.2),
    ):
        at_once, singly = account((event, 12), (Gaussian(3.0), 1)), account((Gaussian(3.0), 1))
        for _ in range(12):
            singly.compose(event)
        nested = account((Composed((Repeated(event, 4), Repeated(Repeated(event, 2), 4))), 1), (Gaussian(3.0), 1))
        assert singly.epsilon(delta=1e-6) == at_once.epsilon(delta=1e-6) == nested.epsilon(delta=1e-6)


def test_a_mixture_of_four_families_is_certified():
    low, high = account(*MIXTURE).epsilon_interval(delta=1e-5)
    assert 5.4 < low <= high <= low * (1 + SLACK)


@pytest.mark.slow
@given(
    q=st.floats(0.005, 0.9),
    s=st.floats(0.7, 30),
    n=st.integers(20, 100_000),
    log_delta=st.floats(-40, -3),
)
def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta(q, s, n, log_delta):
    delta = math.exp(log_delta)

    def lower_and_upper(q, s, n, delta):
        return account((PoissonSampled(Gaussian(s), q), n)).epsilon_interval(delta=delta)

    _, base = lower_and_upper(q, s, n, delta)
    for worse in ((min(1.0, q * 1.1), s, n, delta), (q, s / 1.1, n, delta), (q, s, 2 * n, delta), (q, s, n, delta / 3)):
        low, high = lower_and_upper(*worse)
        assert low <= high
        # Certified: the upper bound of the worse one is above the lower bound of the better one.
        assert high * (1 + SLACK) >= lower_and_upper(q, s, n, delta)[0]
        if base > 0 and high - low < SLACK * high:
            assert high >= base * (1 - SLACK)


def test_delta_and_epsilon_are_inverse_to_each_other():
    accountant = account(*MIXTURE)
    low, high = accountant.epsilon_interval(delta=1e-7)
    assert accountant.delta_interval(epsilon=high)[0] <= 1e-7 <= accountant.delta_interval(epsilon=low)[1]
    assert accountant.delta(epsilon=high * 1.001) < 1e-7


def test_too_few_nodes_widen_the_interval_instead_of_moving_it():
    # Negative control for the certificate: the same line with steps 1.5, 2 and 4 times too long.
    terms = [SampledGaussianTerm(1.0, 0.01, 1000, "remove")]
    at = _solve.saddle(terms, 1.828236666516577)
    fine = _contour.build(terms, at, 1.828236666516577, log_target=math.log(1e-5))
    truth, _ = fine.evaluate(1.828236666516577)
    assert truth.high - truth.low < 1e-9
    for factor, least in ((1.5, 0.0), (2.0, 1e-9), (4.0, 1e-3)):
        t = np.arange(len(fine.t)) * fine.step * factor
        log_phi, growth = at.parts[0].nodes(t)
        coarse = _contour.Contour(
            at,
            fine.period / factor,
            fine.step * factor,
            t,
            log_phi,
            growth,
            fine.log_tail,
            fine.above,
            fine.below,
            None,
        )
        bounds, _ = coarse.evaluate(1.828236666516577)
        # The trapezoidal rule errs upwards only, and the certificate knows by how much.
        assert bounds.low <= truth.high
        assert bounds.high >= truth.low
        assert bounds.high - bounds.low >= least


def test_a_line_cut_off_too_early_widens_the_interval():
    terms = [GaussianTerm(0.5)]
    at = _solve.saddle(terms, 4.0)
    fine = _contour.build(terms, at, 4.0, log_target=-10.0)
    truth, _ = fine.evaluate(4.0)
    keep = len(fine.t) // 3
    log_rest = at.log_decay(keep * fine.step) + math.log(1 / (math.pi * (keep - 1) * fine.step))
    short = _contour.Contour(
        at,
        fine.period,
        fine.step,
        fine.t[:keep],
        fine.log_phi[:keep],
        fine.growth[:keep],
        log_rest,
        fine.above,
        fine.below,
        None,
    )
    bounds, _ = short.evaluate(4.0)
    assert bounds.low <= truth.low
    assert bounds.high >= truth.high
    assert bounds.high - bounds.low > 1e-6


@pytest.mark.parametrize(
    "terms",
    [
        [SampledGaussianTerm(1.0, 0.01, 200, "remove")],
        [SampledGaussianTerm(1.0, 0.05, 200, "add")],
        [GaussianTerm(0.05), LaplaceTerm(0.2, 5)],
        [GaussianTerm(0.05), AtomsTerm((-0.1, 0.1), (1 / (1 + math.exp(0.1)), 1 / (1 + math.exp(-0.1))), 9)],
    ],
)
@pytest.mark.parametrize("log_delta", [-3.0, pytest.param(-12.0, marks=pytest.mark.slow), -40.0])
def test_the_grid_the_parts_and_one_moment_agree_with_the_line(terms, log_delta):
    # Four methods that share little: every interval must meet every other.
    line = _solve.epsilon_at(terms, log_delta)
    grid = _grid.grid_epsilon(terms, log_delta)
    moment = (0.0, _moments.chernoff_epsilon(terms, (), log_delta))
    parts = _split.split_epsilon(tuple(terms), log_delta) if _certified.splits(tuple(terms)) else None
    assert line is not None
    assert line[1] - line[0] <= SLACK * line[1]
    for low, high in (grid, moment, *([parts] if parts is not None else [])):
        assert low <= line[1]
        assert high >= line[0]


def test_the_trade_off_curve_of_a_gaussian_is_bounded_below_and_close():
    from scipy.special import ndtr, ndtri

    alpha = np.array([0.0, 1e-6, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0])
    exact = ndtr(ndtri(1 - alpha) - 1.0)
    bound = account((Gaussian(1.0), 1)).trade_off(alpha)
    assert bound.shape == alpha.shape
    assert np.all(bound <= exact + 1e-12)
    assert np.max(exact - bound) < 3e-3


def test_what_cannot_be_priced_is_named_and_changes_nothing():
    accountant = account((Gaussian(2.0), 3))
    before = accountant.epsilon(delta=1e-6)
    for event in (
        NonPrivate("a table"),
        RandomizedResponse(0.5),
        SampledWithoutReplacement(Gaussian(1.0), 10, 100),
        PoissonSampled(DiscreteGaussian(noise_multiplier=2.0), 0.1),
        PoissonSampled(ZeroConcentratedDP(0.1), 0.1),
        PoissonSampled(NonPrivate("a table"), 0.1),
    ):
        assert not accountant.supports(event)
        with pytest.raises(UnsupportedEvent) as caught:
            accountant.compose(Composed((Gaussian(1.0), Repeated(event, 2))))
        assert caught.value.event == event
    assert accountant.epsilon(delta=1e-6) == before
    replace = NumericalAccountant(neighbours="replace_one")
    assert not replace.supports(PoissonSampled(Gaussian(1.0), 0.1))
    assert replace.supports(RandomizedResponse(0.5))
    assert replace.supports(SampledWithoutReplacement(Gaussian(1.0), 10, 100))
    assert not replace.supports(SampledWithoutReplacement(DistributedSkellam(9.0, 1, 1, 1, 1), 10, 100))


def test_nothing_released_costs_nothing():
    empty = NumericalAccountant(neighbours="replace_one")
    assert empty.epsilon_interval(delta=1e-9) == (0.0, 0.0)
    assert empty.delta_interval(epsilon=0.0) == (0.0, 0.0)


def test_vectors_and_selections_say_that_they_are_not_tight():
    vector = account((DiscreteGaussian(scale=10.0, l2_sensitivity_squared=9, linf_sensitivity=2), 4))
    assert not vector.is_tight
    assert vector.epsilon_interval(delta=1e-6)[0] == 0.0
    assert account(*MIXTURE).is_tight


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
def test_extreme_parameters_give_an_interval(seed):
    rng = np.random.default_rng(seed)
    for _ in range(12):
        q, s = float(10 ** rng.uniform(-8, 0)), float(10 ** rng.uniform(math.log10(0.05), 4))
        n, delta = int(10 ** rng.uniform(0, 9)), float(10 ** -rng.uniform(0.31, 300 if rng.random() < 0.3 else 12))
        low, high = account((PoissonSampled(Gaussian(s), q), n)).epsilon_interval(delta=delta)
        assert 0 <= low <= high, (q, s, n, delta)
        assert not math.isnan(high)


@pytest.mark.parametrize(
    "epsilon", [0.1, 1.0, 5.0, 12.0, *(pytest.param(epsilon, marks=pytest.mark.slow) for epsilon in (0.5, 2.0))]
)
def test_delta_far_below_what_is_cut_away_has_an_interval_beneath_the_moment_bound(epsilon):
    made = account((PoissonSampled(Gaussian(1.0), 0.01), 100))
    low, high = made.delta_interval(epsilon=epsilon)
    renyi = RdpAccountant(neighbours="add_remove_one")
    renyi.compose(PoissonSampled(Gaussian(1.0), 0.01), count=100)
    assert 0 < low <= high <= 1.001 * renyi.delta(epsilon=epsilon)
    if epsilon > 5:
        return  # Below delta = 1e-25 or so the certificate is wider here: the moment bound stands in.
    assert high <= low * (1 + 1e-6)
    # Read backwards, the curve is the same.
    back = made.epsilon_interval(delta=high)
    assert back[0] <= epsilon * (1 + 1e-9)
    assert back[1] >= epsilon * (1 - 1e-6)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 3))])
def test_random_mixtures_answer_every_question(seed):
    rng = np.random.default_rng(100 + seed)
    for _ in range(6):
        steps = []
        for _ in range(rng.integers(1, 4)):
            s, q = float(10 ** rng.uniform(-1.3, 3)), float(10 ** rng.uniform(-8, 0))
            kinds = [Gaussian(s), Laplace(s), PoissonSampled(Gaussian(s), q), PureDP(min(1 / s, 5.0))]
            steps.append((kinds[rng.integers(4)], int(10 ** rng.uniform(0, 5))))
        made = account(*steps)
        epsilon, delta = float(10 ** rng.uniform(-4, 2)), float(10 ** -rng.uniform(0.31, 300))
        for low, high in (made.delta_interval(epsilon=epsilon), made.epsilon_interval(delta=delta)):
            assert 0 <= low <= high, (steps, epsilon, delta)
