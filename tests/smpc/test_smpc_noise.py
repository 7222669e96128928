import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy import DistributedDiscreteGaussian, rho_of
from privacy.randomness import InsecureSeededRng
from smpc import (
    FIELD61,
    RING64,
    ConfirmationMissing,
    PartyFailed,
    joint_discrete_gaussian,
    per_party_scale,
    run_local,
)

SAMPLE_SIZE = 20_000
ALPHA = 1e-6


def opened_noise(domain, *, n_parties, scale, silent=()):
    async def protocol(s, x):
        a = await s.input(x, domain=domain)
        if s.party in silent:
            # A party that confirms and adds nothing: what the variance test must notice.
            await s.exchange(b"\x01")
            return await s.open(a[0])
        return await s.open(await joint_discrete_gaussian(s, a[0], scale, collusion_threshold=1))

    value = np.full(SAMPLE_SIZE, 1000)
    run = run_local(protocol, [value] * n_parties, rng=InsecureSeededRng(17))
    return run.results[0] - 1000, run.cost


def variance_pvalue(noise, variance):
    """Two-sided chi-square test of the variance, mean known to be 0."""
    statistic = float((noise.astype(float) ** 2).sum()) / variance
    tail = stats.chi2.cdf(statistic, SAMPLE_SIZE)
    return 2 * min(tail, 1 - tail)


@pytest.mark.parametrize("domain", [RING64, FIELD61])
@pytest.mark.parametrize("n_parties", [2, 3])
def test_the_opened_noise_has_the_variance_of_all_parties_together(domain, n_parties):
    scale = 12.5
    noise, cost = opened_noise(domain, n_parties=n_parties, scale=scale)
    assert variance_pvalue(noise, n_parties * scale**2) > ALPHA
    assert abs(noise.mean()) < 5 * scale * math.sqrt(n_parties / SAMPLE_SIZE)
    assert cost.rounds == 3  # input, confirmation, opening
    # Negative control: one party adds nothing.
    short, _ = opened_noise(domain, n_parties=n_parties, scale=scale, silent=(1,))
    assert variance_pvalue(short, n_parties * scale**2) < ALPHA


def test_each_element_and_each_party_has_noise_of_its_own():
    noise, _ = opened_noise(RING64, n_parties=2, scale=1000.0)
    half = SAMPLE_SIZE // 2
    assert abs(np.corrcoef(noise[:half], noise[half:])[0, 1]) < 6 / math.sqrt(half)
    # Were both parties' noise the same, every opened value would be even.
    assert 0.45 < (noise % 2).mean() < 0.55


def test_a_missing_confirmation_stops_the_run_before_anything_is_opened():
    opened = []

    async def protocol(s, x):
        a = (await s.input(x))[0]
        if s.party == 1:
            await s.exchange(b"\x00")
            return await s.open(a)
        noisy = await joint_discrete_gaussian(s, a, 1.0, collusion_threshold=1)
        opened.append(s.party)
        return await s.open(noisy)

    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, [[1], [2], [3]])
    assert isinstance(caught.value.__cause__, ConfirmationMissing)
    assert caught.value.__cause__.party == 1
    assert opened == []


def test_a_party_that_dies_before_confirming_stops_the_run():
    async def protocol(s, x):
        a = (await s.input(x))[0]
        if s.party == 2:
            return None
        return await s.open(await joint_discrete_gaussian(s, a, 1.0, collusion_threshold=1))

    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, [[1], [2], [3]])
    assert caught.value.party == 2


def test_without_confirmation_there_is_no_round():
    async def protocol(s, x):
        a = (await s.input(x))[0]
        return (await joint_discrete_gaussian(s, a, 1.0, collusion_threshold=1, confirm=False)).shape

    run = run_local(protocol, [np.zeros((2, 3), dtype=int)] * 2)
    assert run.results == [(2, 3)] * 2
    assert run.cost.rounds == 1


@pytest.mark.parametrize(
    ("scale", "threshold"), [(0.4, 1), (0.0, 1), (math.nan, 1), (math.inf, 1), (1.0, 0), (1.0, 2), (1.0, True)]
)
def test_noise_that_could_not_be_accounted_for_is_refused(scale, threshold):
    async def protocol(s, x):
        a = (await s.input(x))[0]
        return await joint_discrete_gaussian(s, a, scale, collusion_threshold=threshold)

    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, [[1], [2]])
    assert isinstance(caught.value.__cause__, ValueError)


@given(total=st.floats(1e-3, 1e12), n_parties=st.integers(2, 5), data=st.data())
def test_per_party_scale_is_the_least_float_on_the_safe_side(total, n_parties, data):
    threshold = data.draw(st.integers(1, n_parties - 1))
    n_honest = n_parties - threshold
    scale = per_party_scale(total, n_parties, threshold)
    assert n_honest * Fraction(scale) ** 2 >= Fraction(total) ** 2
    assert n_honest * Fraction(math.nextafter(scale, 0)) ** 2 < Fraction(total) ** 2


def test_the_accounting_event_costs_no_less_than_central_noise_of_the_total_scale():
    scale = per_party_scale(30.0, 3, 1)
    event = DistributedDiscreteGaussian(
        per_party_scale=scale, n_honest=2, dimension=10, l1_sensitivity=2, l2_sensitivity_squared=2
    )
    assert rho_of(event) == pytest.approx(2 / (2 * 30.0**2), rel=1e-9)


@pytest.mark.parametrize(("n_parties", "threshold"), [(3, 0), (3, 3), (1, 1), (6, 1)])
def test_per_party_scale_refuses_impossible_coalitions(n_parties, threshold):
    with pytest.raises(ValueError, match="must be in"):
        per_party_scale(1.0, n_parties, threshold)
