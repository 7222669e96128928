"""Releases of which only Renyi divergences are known: never below an exact value, never above what RDP says."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from scipy.special import ndtr

from privacy.events import (
    ApproximateDP,
    DiscreteGaussian,
    DistributedDiscreteGaussian,
    DistributedSkellam,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    SampledWithoutReplacement,
    ZeroConcentratedDP,
)
from privacy.numerical import NumericalAccountant
from privacy.rdp import RdpAccountant

ADD_REMOVE, REPLACE = "add_remove_one", "replace_one"
EPSILONS = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0)

MOMENTS = [
    ZeroConcentratedDP(0.05),
    DistributedDiscreteGaussian(3.0, 4, 5, 5, 9),
    DistributedSkellam(30.0, 3, 4, 4, 6),
    DiscreteGaussian(scale=9.0, l2_sensitivity_squared=5, linf_sensitivity=2),
    ExponentialMechanism(0.3),
]
SAMPLED = [PoissonSampled(ApproximateDP(1.0, 1e-7), 0.1)]
WITHOUT_REPLACEMENT = [
    SampledWithoutReplacement(inner, 10, 100)
    for inner in (
        Gaussian(1.0),
        DiscreteGaussian(noise_multiplier=2.0),
        ZeroConcentratedDP(0.1),
        PureDP(0.5),
        Laplace(2.0),
        RandomizedResponse(0.5),
        ExponentialMechanism(0.5),
        ApproximateDP(0.5, 1e-6),
    )
] + [SampledWithoutReplacement(Gaussian(2.0), 10, 10)]
ALONE = [(event, ADD_REMOVE) for event in MOMENTS + SAMPLED] + [(event, REPLACE) for event in WITHOUT_REPLACEMENT]


def account(*pairs, neighbours=ADD_REMOVE, make=NumericalAccountant):
    accountant = make(neighbours=neighbours)
    for event, count in pairs:
        accountant.compose(event, count=count)
    return accountant


@pytest.mark.slow
@pytest.mark.parametrize(("event", "neighbours"), ALONE, ids=repr)
@pytest.mark.parametrize("mixed", [(), ((Gaussian(3.0), 4), (PureDP(0.1), 10))], ids=["alone", "mixed"])
def test_one_moment_costs_no_more_than_all_renyi_orders(event, neighbours, mixed):
    for count in (1, 40):
        ours = account((event, count), *mixed, neighbours=neighbours)
        theirs = account((event, count), *mixed, neighbours=neighbours, make=RdpAccountant)
        assert not ours.is_tight
        for delta in (1e-3, 1e-6, 1e-12):
            low, high = ours.epsilon_interval(delta=delta)
            assert low == 0.0
            assert high <= theirs.epsilon(delta=delta) * (1 + 1e-6) + 1e-9
        for epsilon in EPSILONS:
            low, high = ours.delta_interval(epsilon=epsilon)
            assert low == 0.0
            assert high <= theirs.delta(epsilon=epsilon) * (1 + 1e-5) + 1e-12


def test_zcdp_is_dearer_than_the_gaussian_that_has_it():
    rho, count = 0.02, 10
    for exact in (account((Gaussian(5.0), count)), account((DiscreteGaussian(noise_multiplier=5.0), count))):
        bound, half = account((ZeroConcentratedDP(rho), count)), account((ZeroConcentratedDP(rho / 2), count))
        for delta in (1e-3, 1e-6, 1e-12):
            low = exact.epsilon_interval(delta=delta)[0]
            assert low < bound.epsilon(delta=delta) < 1.4 * low
            # Negative control: half the rho is noticed.
            assert half.epsilon(delta=delta) < low


def test_the_noise_of_one_party_is_a_discrete_gaussian():
    exact = account((DiscreteGaussian(noise_multiplier=2.0), 3))
    bound = account((DistributedDiscreteGaussian(2.0, 1, 1, 1, 1), 3))
    for epsilon in EPSILONS:
        assert exact.delta_interval(epsilon=epsilon)[0] <= bound.delta(epsilon=epsilon)


def lattice_delta(p, q, epsilon):
    return mpmath.fsum(max(mpf(0), a - mpmath.exp(epsilon) * b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("n_parties", [2, 3])
def test_the_sum_of_discrete_gaussians_is_cheaper_than_its_bound(n_parties):
    scale = 1.0
    x = np.arange(-40, 41)
    one = np.exp(-(x**2) / (2 * scale**2))
    law = one / one.sum()
    total = law
    for _ in range(n_parties - 1):
        total = np.convolve(total, law)
    bound = account((DistributedDiscreteGaussian(scale, n_parties, 1, 1, 1), 1))
    for epsilon in EPSILONS:
        exact = np.maximum(total[1:] - math.exp(epsilon) * total[:-1], 0).sum()
        assert exact <= bound.delta(epsilon=epsilon)


@pytest.mark.parametrize("variance", [4.0, 50.0])
def test_one_skellam_integer_is_cheaper_than_its_bound(variance):
    bound = account((DistributedSkellam(variance / 2, 2, 1, 1, 1), 1))
    reach = int(14 * math.sqrt(variance)) + 10
    with mpmath.workdps(40):
        law = [mpmath.exp(-variance) * mpmath.besseli(abs(k), variance) for k in range(-reach, reach + 1)]
        for epsilon in EPSILONS:
            exact = lattice_delta(law[1:], law[:-1], epsilon)
            assert exact <= bound.delta(epsilon=epsilon)
        assert bound.delta(epsilon=0.1) < 3.2 * lattice_delta(law[1:], law[:-1], mpf("0.1"))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_sampled_approximate_dp_is_dearer_than_its_worst_pair(n):
    # Two outcomes of randomised response, and one for each side that gives all away.
    q, epsilon, delta = 0.3, 0.8, 0.05
    high = (1 - delta) / (1 + math.exp(-epsilon))
    low = 1 - delta - high
    base, changed = [low, high, delta, 0.0], [high, low, 0.0, delta]
    mixed = [(1 - q) * b + q * c for b, c in zip(base, changed, strict=True)]
    bound = account((PoissonSampled(ApproximateDP(epsilon, delta), q), n))
    for at in EPSILONS:
        exact = 0.0
        for p, other in ((mixed, base), (base, mixed)):
            total = 0.0
            for outcome in itertools.product(range(4), repeat=n):
                a, b = (math.prod(law[i] for i in outcome) for law in (p, other))
                total += max(0.0, a - math.exp(at) * b)
            exact = max(exact, total)
        found = bound.delta(epsilon=at)
        assert exact <= found + 1e-15
        # The sampled failure is paid once: the probability that a sample fails and nothing less.
        assert found <= exact + (1 - (1 - q * delta) ** n)


@pytest.mark.parametrize(("size", "population", "sigma"), [(10, 100, 1.0), (1, 2, 2.0)])
def test_a_sample_of_a_fixed_size_is_dearer_than_a_pair_of_tables(size, population, sigma):
    # Everybody else holds 0, the patient +1/2 or -1/2: the sum moves by 1 where the patient is in the sample.
    q = size / population
    bound = account((SampledWithoutReplacement(Gaussian(sigma), size, population), 1), neighbours=REPLACE)
    edges = np.linspace(-14 * sigma, 14 * sigma, 20_001)

    def masses(shift):
        return (1 - q) * np.diff(ndtr(edges / sigma)) + q * np.diff(ndtr((edges - shift) / sigma))

    for epsilon in EPSILONS:
        exact = np.maximum(masses(0.5) - math.exp(epsilon) * masses(-0.5), 0).sum()
        assert exact <= bound.delta(epsilon=epsilon) + 1e-13


def test_pure_releases_on_samples_of_a_fixed_size_are_amplified():
    # log(1 + q (e^epsilon - 1)): arXiv:1807.01647, Theorem 9.
    q, epsilon = 0.1, 0.5
    amplified = math.log1p(q * math.expm1(epsilon))
    ours = account((SampledWithoutReplacement(PureDP(epsilon), 10, 100), 20), neighbours=REPLACE)
    same = account((PureDP(amplified), 20), neighbours=REPLACE)
    assert ours.epsilon(delta=1e-6) == pytest.approx(same.epsilon(delta=1e-6), rel=1e-9)
    failing = account((SampledWithoutReplacement(ApproximateDP(epsilon, 1e-6), 10, 100), 20), neighbours=REPLACE)
    assert failing.delta(epsilon=1.0) == pytest.approx(same.delta(epsilon=1.0) + 20 * 1e-7, rel=1e-2)


def test_a_trade_off_from_moments_is_below_that_of_the_law():
    x = np.linspace(0, 1, 101)
    bound, exact = account((ZeroConcentratedDP(0.02), 10)).trade_off(x), account((Gaussian(5.0), 10)).trade_off(x)
    assert np.all(bound <= exact + 1e-9)
    assert np.max(exact - bound) < 0.12
