"""Prices of joint releases, against the formulas they come from."""

import math
from fractions import Fraction

import pytest

from privacy import (
    ApproximateDP,
    DistributedDiscreteGaussian,
    ExponentialMechanism,
    ZcdpFilter,
    ZeroConcentratedDP,
    rho_of,
)
from synthema.errors import StudyError
from synthema.joint_noise import JointTerms, Purse, TableNoise, rho_and_delta


@pytest.mark.parametrize(("n", "t"), [(2, 1), (3, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("rho", [1e-4, 0.01, 1.0])
def test_the_part_of_the_honest_pays_for_a_patient_at_several_sites(n, t, m, rho):
    terms = JointTerms(n, t, m)
    noise = terms.count_noise(rho, n_marginals=7, dimension=50)
    assert rho_of(noise) <= rho
    # Of n parties t collude; a patient changes 7 marginals by m each.
    variance = (n - t) * noise.per_party_scale**2
    assert 7 * m**2 / (2 * variance) <= rho
    # No more noise than that, but for the grid of scales and what sums of discrete Gaussians cost.
    assert noise.per_party_scale <= max(0.5, math.sqrt(7 * m**2 / (2 * rho * (n - t)))) * 1.01 + 2**-9
    assert terms.noise_std(noise) == pytest.approx(noise.per_party_scale * math.sqrt(n))


@pytest.mark.parametrize("m", [1, 2])
def test_noise_sampled_jointly_is_that_of_one_trusted_party(m):
    terms = JointTerms(3, 2, m, noise="joint")
    noise = terms.count_noise(0.05, n_marginals=4, dimension=30)
    assert isinstance(noise, TableNoise)
    rho, delta = rho_and_delta(noise)
    assert rho <= 0.05
    assert noise.table.scale == pytest.approx(math.sqrt(4 * m**2 / (2 * 0.05)), abs=2**-9)
    assert noise.table.linf_sensitivity == m
    assert 0 < delta <= terms.largest_delta(n_choices=0, n_marginals=4)
    # Beyond the largest table, noise by shares: by the same rule for everybody.
    assert isinstance(terms.count_noise(1e-6, n_marginals=4, dimension=30), DistributedDiscreteGaussian)


def test_a_choice_is_priced_as_the_exponential_mechanism_and_scales_with_weights_and_sites():
    one = JointTerms(3, 1).choice(0.4, largest_weight=1, n_candidates=10)
    assert one.event == ExponentialMechanism(0.4)
    rho, delta = rho_and_delta(one.event)
    assert rho == pytest.approx(0.4**2 / 8, rel=1e-9)
    assert delta == 0
    # A row is 16 units, and one patient moves scores up or down: what a unit is worth, but for what rounding takes.
    assert 2 * 16 * float(one.law.rate) == pytest.approx(0.4, rel=2e-3)
    assert 2 * 16 * one.law.rate + one.law.excess <= Fraction(0.4)
    # Twice the weight and three sites of a patient: a sixth.
    six = JointTerms(3, 1, 3).choice(0.4, largest_weight=2, n_candidates=10)
    assert six.event == one.event
    assert float(one.law.rate / six.law.rate) == pytest.approx(6, rel=1e-3)


def test_a_purse_counts_in_the_units_of_the_ledger_and_never_below_zero():
    priced = ZeroConcentratedDP(0.3)
    purse, ledger = Purse(priced), ZcdpFilter(1.0, 1e-6, neighbours="add_remove_one")
    event = ZeroConcentratedDP(0.1 * (1 - 1e-11))
    assert [purse.takes(event) for _ in range(4)] == [True, True, True, False]
    assert 3 * ledger.price(event)[0] <= ledger.price(priced)[0] < 4 * ledger.price(event)[0]
    # A delta that nothing was set aside for.
    assert not Purse(priced).takes(ApproximateDP(0.0, 1e-30))
    assert len(purse.spent) == 3


def test_thresholds_that_do_not_fit_are_refused():
    for threshold in (0, 3):
        with pytest.raises(StudyError, match="may collude"):
            JointTerms(3, threshold)
