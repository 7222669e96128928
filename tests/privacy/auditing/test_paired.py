"""Audits from many runs: bounds below the truth, close to it, and above the claim of what is broken."""

import math

import numpy as np
import pytest
from scipy import stats

from privacy import (
    DiscreteGaussian,
    InsecureSeededRng,
    Rng,
    ZcdpAccountant,
    sample_discrete_gaussian,
    sample_discrete_laplace,
)
from privacy.auditing import Audit, Distinguisher, audit, audit_scores

N_RUNS = 20_000
TIGHT_GAUSSIAN = 4.37717809568122  # noise 1, sensitivity 1, delta 1e-5


def gaussian_delta(epsilon, mu=1.0):
    return stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)


def scores(sample, shift, seed):
    rng = InsecureSeededRng(seed)
    return sample(rng) + shift, sample(rng)


def laplace(scale):
    return lambda rng: sample_discrete_laplace(scale, N_RUNS, rng=rng)


def gaussian(scale):
    return lambda rng: sample_discrete_gaussian(scale, N_RUNS, rng=rng)


@pytest.mark.parametrize("seed", range(5))
def test_laplace_noise_is_bounded_from_below_and_close(seed):
    result = audit_scores(*scores(laplace(1.0), 1, seed))
    assert 0.8 < result.epsilon_lower < 1.0
    # A shift by one whole scale: the loss is 1 or -1 and nothing between, as for randomised response.
    assert not result.contradicts(lambda epsilon: max(0.0, (math.e - math.exp(epsilon)) / (math.e + 1)))
    # Negative control: the curve of continuous Laplace noise is not that of the discrete.
    assert result.contradicts(lambda epsilon: max(0.0, 1 - math.exp((epsilon - 1) / 2)))


@pytest.mark.parametrize("seed", range(5))
def test_laplace_noise_thirty_percent_too_small_is_caught(seed):
    assert audit_scores(*scores(laplace(0.7), 1, seed)).epsilon_lower > 1.0


@pytest.mark.parametrize("seed", range(5))
def test_gaussian_noise_is_never_refuted_and_thirty_percent_too_small_is_caught(seed):
    honest = audit_scores(*scores(gaussian(10.0), 10, seed), delta=1e-5)
    assert honest.epsilon_lower < TIGHT_GAUSSIAN
    assert 0.9 < honest.gaussian_dp_lower < 1.0
    assert honest.advantage_lower < gaussian_delta(0.0)
    assert not honest.contradicts(gaussian_delta)
    broken = audit_scores(*scores(gaussian(7.0), 10, seed), delta=1e-5)
    assert broken.gaussian_dp_lower > 1.0
    assert broken.contradicts(gaussian_delta)


def test_a_forgotten_sensitivity_factor_is_caught_through_an_accountant_too():
    accountant = ZcdpAccountant(neighbours="replace_one")
    accountant.compose(DiscreteGaussian(noise_multiplier=10.0))

    def claim(epsilon):
        return accountant.delta(epsilon=epsilon)

    # The answer moves by 40, not by 1: a sum whose bound was forgotten.
    assert audit_scores(*scores(gaussian(10.0), 40, 1)).contradicts(claim)
    assert not audit_scores(*scores(gaussian(10.0), 1, 1)).contradicts(claim)


def test_answers_without_order_are_told_apart_by_sets():
    # Two answers out of five are likelier under one table: no threshold sees it.
    rng = np.random.default_rng(5)
    inside = rng.choice(5, N_RUNS, p=[0.3, 0.1, 0.3, 0.1, 0.2])
    outside = rng.choice(5, N_RUNS, p=[0.1, 0.3, 0.1, 0.3, 0.2])
    result = audit_scores(inside, outside)
    assert 0.95 < result.epsilon_lower < math.log(3)
    assert any("set" in rule.rule for rule in result.rules)


@pytest.mark.slow
def test_the_bound_is_wrong_no_more_often_than_stated():
    # Randomised response at epsilon 1, 400 audits at 70 % confidence: few lie above the truth.
    rng = np.random.default_rng(6)
    n_audits, truth = 400, math.e / (1 + math.e)
    above = 0
    for _ in range(n_audits):
        result = audit_scores(rng.random(400) < truth, rng.random(400) < 1 - truth, confidence=0.7)
        above += result.epsilon_lower > 1.0
    assert above <= 0.3 * n_audits
    # Negative control: point estimates in place of bounds are above the truth half of the time.
    ratios = rng.binomial(200, truth, n_audits) / rng.binomial(200, 1 - truth, n_audits)
    assert (np.log(ratios) > 1.0).mean() > 0.4


def test_a_mechanism_is_run_on_both_tables_with_the_source_it_was_given():
    def mechanism(table: list[int], rng: Rng) -> int:
        return sum(table) + int(sample_discrete_laplace(1.0, 1, rng=rng)[0])

    result = audit(mechanism, [1, 1, 1], [1, 1], n_runs=1500, rng=InsecureSeededRng(2))
    again = audit(mechanism, [1, 1, 1], [1, 1], n_runs=1500, rng=InsecureSeededRng(2))
    assert result == again
    assert 0.4 < result.epsilon_lower <= 1.0
    assert result.n_runs == 1500


def test_an_exact_answer_has_an_epsilon_that_grows_with_the_runs():
    few = audit(lambda table, _rng: len(table), [1, 1], [1], n_runs=100, rng=InsecureSeededRng(1))
    many = audit(lambda table, _rng: len(table), [1, 1], [1], n_runs=4000, rng=InsecureSeededRng(1))
    assert 1.5 < few.epsilon_lower < many.epsilon_lower < math.inf
    assert many.contradicts(lambda _epsilon: 0.5)


def test_a_vector_needs_a_score():
    def mechanism(table, rng):
        return table + sample_discrete_laplace(1.0, 3, rng=rng)

    one, other = np.array([1, 0, 0]), np.array([0, 0, 0])
    with pytest.raises(ValueError, match="score="):
        audit(mechanism, one, other, n_runs=20)
    result = audit(mechanism, one, other, n_runs=3000, score=lambda answer: answer[0], rng=InsecureSeededRng(4))
    assert 0.5 < result.epsilon_lower <= 1.0


def test_the_consequences_of_known_rates_are_exact():
    rule = Distinguisher("x", in_low=0.6, in_high=0.6, out_low=0.1, out_high=0.1)
    assert rule.epsilon_lower(0.0) == pytest.approx(math.log(6))
    assert rule.epsilon_lower(0.1) == pytest.approx(math.log(5))
    assert rule.delta_lower(math.log(2)) == pytest.approx(0.4)
    assert rule.gaussian_dp_lower() == pytest.approx(stats.norm.ppf(0.6) - stats.norm.ppf(0.1))
    # The complement and the other role count: here P[M(out) not in S] = 0.9 against 0.4 is weaker, but
    # with a rare complement it is the better side.
    rare = Distinguisher("y", in_low=0.99, in_high=0.99, out_low=0.9, out_high=0.9)
    assert rare.epsilon_lower(0.0) == pytest.approx(math.log(10))
    certain = Distinguisher("z", in_low=0.5, in_high=0.5, out_low=0.0, out_high=0.0)
    assert certain.epsilon_lower(0.0) == math.inf
    assert certain.gaussian_dp_lower() == math.inf
    both = Audit(n_runs=20, delta=0.0, confidence=0.9, rules=(rule, rare))
    assert both.epsilon_lower == pytest.approx(math.log(10))
    assert both.advantage_lower == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong",
    [{"n_runs": 19}, {"n_runs": 100, "delta": 1.0}, {"n_runs": 100, "confidence": 1.0}, {"n_runs": 100, "delta": -0.1}],
)
def test_impossible_audits_are_refused(wrong):
    with pytest.raises(ValueError):
        audit(lambda _table, _rng: 0, 0, 1, **wrong)
    with pytest.raises(ValueError):
        Distinguisher("x", in_low=0.5, in_high=0.4, out_low=0.0, out_high=1.0)
