"""Private curves: what one patient changes, the noise that is paid for, and whether intervals hold the truth.

Simulations take noise of the price's scale in plain numbers, n_trials cohorts each, and are compared with their nominal
rate by a binomial bound of one in a million; each has a control that must be found out.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from clinics import job, leukaemia
from scipy.stats import binom, chi2

from privacy import DistributedDiscreteGaussian, epsilon_to_rho, rho_of
from synthema.joint_noise import cheapest_joint_noise
from synthema.learning import KaplanMeier, LogRank, log_rank, noisy_counts
from synthema.learning.curve_estimates import survival
from synthema.learning.curve_results import PrivateGroup
from synthema.learning.curves import KaplanMeierSpec
from synthema.learning.kaplan_meier import Grid, count_table
from synthema.learning.noisy_counts import Noise, at_risk, encoded, fit, not_negative, sensitivities, strategy
from synthema.steps import plan, total_noise_std
from synthema.submitters import SimulatedNetwork

CHANCE = 1e-6


def noise_scale(epsilon: float, n_intervals: int, n_series: int) -> float:
    """Standard deviation in each opened integer, of three parties of whom one may collude."""
    l1, l2_squared = sensitivities(strategy(n_intervals))
    event = cheapest_joint_noise(
        2,
        epsilon_to_rho(epsilon, 1e-6),
        dimension=n_series * n_intervals,
        l1_sensitivity=l1,
        l2_sensitivity_squared=l2_squared,
    )
    return event.per_party_scale * math.sqrt(3)


@pytest.mark.parametrize("n_intervals", [1, 2, 34, 200])
def test_a_patient_changes_what_is_shared_by_one_column_and_no_more_than_is_paid_for(n_intervals: int) -> None:
    rng = np.random.default_rng(n_intervals)
    counts = rng.integers(0, 50, (3, n_intervals))
    l1, l2_squared = sensitivities(strategy(n_intervals))
    longest = 0
    for t in range(n_intervals):
        more = counts.copy()
        more[rng.integers(3), t] += 1
        change = encoded(more) - encoded(counts)
        assert np.abs(change).sum() <= l1
        longest = max(longest, int((change * change).sum()))
    assert longest == l2_squared
    # The error of a sum of later cells grows as the logarithm of their number, not as its root.
    root = np.triu(np.ones((n_intervals, n_intervals))) @ np.linalg.inv(strategy(n_intervals).astype(float))
    std = math.sqrt(l2_squared) * np.sqrt((root**2).sum(axis=1)).max()
    assert std <= 1.1 * (1 + math.log(n_intervals) / math.pi)


def test_the_price_covers_every_site_that_may_know_a_patient() -> None:
    frames, plain = leukaemia(epsilon=1.0)
    spec = KaplanMeierSpec(group="sex", grid_days=180, mode="private", budget_share=0.5)
    scales = []
    for m in (1, 2):
        study = job(
            plain.data_schema,
            tuple(frames),
            epsilon=1.0,
            study={"name": "a", "purpose": "prices", "schema": plain.data_schema, "max_sites_per_patient": m},
        ).with_model("curves", spec)
        [step] = plan(study)
        assert isinstance(step.event, DistributedDiscreteGaussian)
        assert rho_of(step.event) <= 0.5 * epsilon_to_rho(1.0, 1e-6)
        scales.append(total_noise_std(study, step.event))
    assert scales[1] / scales[0] == pytest.approx(2, rel=1e-3)


def test_the_noise_that_is_opened_is_the_noise_that_was_priced() -> None:
    """Of 136 noisy numbers, the sum of squares is chi-square; of noise 30 % too small it would not be."""
    frames, plain = leukaemia(epsilon=1.0)
    model = KaplanMeier(group="sex", grid_days=180, mode="private", budget_share=1.0)
    model.fit(SimulatedNetwork(frames), plain)
    exact = np.zeros((2, 2, 34), dtype=np.int64)
    for rows in frames.values():
        group = (rows["sex"] == "M").to_numpy().astype(int)
        table = count_table(
            group, rows["time"].to_numpy(), (rows["event"] == "1").to_numpy(), n_groups=2, grid=Grid(180, 34)
        )
        exact += table.transpose(1, 0, 2)
    noise = (np.array(model.answer_["measured"]) - encoded(exact)) / float(model.answer_["noise_std"])
    low, high = chi2.ppf([CHANCE, 1 - CHANCE], noise.size)
    assert low < (noise**2).sum() < high
    assert (0.4 * noise**2).sum() < low


def test_the_fit_is_that_of_scipy() -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(6)
    for n_intervals in (1, 7, 60):
        a = strategy(n_intervals) / 64
        for std in (0.1, 3.0, 30.0):
            y = a @ rng.poisson(2, n_intervals) + rng.normal(0, std, n_intervals)
            np.testing.assert_allclose(not_negative(a, y), nnls(a, y)[0], atol=1e-8 * (1 + std))


def test_the_fit_has_no_negative_cells_and_is_exact_without_noise() -> None:
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 30, (2, 2, 20))
    a = strategy(20)
    np.testing.assert_allclose(fit(encoded(counts), a), counts, atol=1e-9)
    noisy = fit(encoded(counts) + rng.normal(0, 2000, counts.shape), a)
    assert noisy.min() >= 0
    assert (np.diff(at_risk(noisy.sum(axis=1)), axis=1) <= 1e-9).all()


N_TIMES = 16


def cohort(rng: np.random.Generator, n: int, rate: float = 0.18, lost: float = 0.06):
    """Deaths and losses by interval, shape (2, T), of exponential times; all are lost at the end."""
    death, loss = rng.exponential(1 / rate, n), np.minimum(rng.exponential(1 / lost, n), N_TIMES - 1e-9)
    # Who is lost in an interval is at risk in all of it, as the grid has it.
    died = np.ceil(death) <= np.ceil(loss)
    time = np.ceil(np.where(died, death, loss)).astype(int) - 1
    return np.stack([np.bincount(time[died], minlength=N_TIMES), np.bincount(time[~died], minlength=N_TIMES)])


def coverage(epsilon: float, n: int, n_trials: int, *, with_noise: bool = True) -> tuple[float, float]:
    """How often the 95 % limits at intervals 2, 5 and 8 hold true survival, and the mean width there."""
    rng = np.random.default_rng(11)
    a, std = strategy(N_TIMES), noise_scale(epsilon, N_TIMES, 4)
    truth = np.exp(-0.18 * np.arange(1, N_TIMES + 1))
    held, widths = [], []
    for _ in range(n_trials):
        measured = encoded(cohort(rng, n)) + rng.normal(0, std, (2, N_TIMES))
        noise = Noise(a, std if with_noise else 1e-6)
        group = PrivateGroup("g", fit(measured, a), noise, grid_days=30)
        curve = group.survival
        for t in (1, 4, 7):
            if np.isfinite(curve.lower[t]):
                held.append(curve.lower[t] <= truth[t] <= curve.upper[t])
                widths.append(curve.upper[t] - curve.lower[t])
    return float(np.mean(held)), float(np.mean(widths))


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "n"), [(1.0, 500), (3.0, 300)])
def test_limits_hold_true_survival_as_often_as_they_say(epsilon: float, n: int) -> None:
    n_trials = 250
    # Three correlated points of each cohort count as one.
    least = binom.ppf(CHANCE, n_trials, 0.95) / n_trials
    assert coverage(epsilon, n, n_trials)[0] >= least
    assert coverage(0.5, n, n_trials, with_noise=False)[0] < least


def rejections(epsilon: float, n: int, n_trials: int, *, ratio: float = 1.0, reckoned: float = 1.0) -> float:
    """How often the private log-rank test of two groups rejects at 5 %."""
    rng = np.random.default_rng(12)
    std = noise_scale(epsilon, N_TIMES, 4)
    found = []
    for _ in range(n_trials):
        counts = np.stack([cohort(rng, n), cohort(rng, n, rate=0.18 * ratio)])[:, None]
        measured = encoded(counts) + rng.normal(0, std, counts.shape)
        found.append(log_rank.of_noisy_counts(measured, reckoned * std).p < 0.05)
    return float(np.mean(found))


@pytest.mark.slow
def test_the_private_log_rank_test_keeps_its_level_and_sees_what_there_is() -> None:
    n_trials = 200
    most = binom.ppf(1 - CHANCE, n_trials, 0.05) / n_trials
    assert rejections(0.5, 300, n_trials) <= most
    # Without the noise in its variance it would reject far too often.
    assert rejections(0.5, 300, n_trials, reckoned=1e-3) > most
    assert rejections(1.0, 500, 100, ratio=1.5) > 0.5


@pytest.mark.slow
def test_the_strategy_beats_noisy_cells_at_small_epsilon() -> None:
    rng = np.random.default_rng(13)
    truth = cohort(np.random.default_rng(1), 500)
    errors = {}
    for name, a in (("root", strategy(N_TIMES)), ("cells", 64 * np.eye(N_TIMES, dtype=np.int64))):
        l1, l2_squared = sensitivities(a)
        scale = cheapest_joint_noise(
            2, epsilon_to_rho(0.5, 1e-6), dimension=64, l1_sensitivity=l1, l2_sensitivity_squared=l2_squared
        ).per_party_scale * math.sqrt(3)
        sums = [
            at_risk(fit(truth @ a.T + rng.normal(0, scale, truth.shape), a).sum(axis=0)) - at_risk(truth.sum(axis=0))
            for _ in range(100)
        ]
        errors[name] = float(np.sqrt(np.mean(np.square(sums))))
    assert errors["root"] < 0.6 * errors["cells"]


@pytest.mark.slow
def test_a_private_test_at_hospitals_gives_a_plain_answer() -> None:
    frames, plain = leukaemia(epsilon=3.0)
    model = LogRank(group="sex", grid_days=180, mode="private", budget_share=1.0).fit(SimulatedNetwork(frames), plain)
    assert np.shape(model.answer_["measured"]) == (2, 1, 2, 34)
    assert model.statistic_.degrees == 1
    assert 0 <= model.statistic_.p <= 1
    assert "reckons with the noise" in str(model.summary())


def test_derivatives_are_those_of_finite_differences() -> None:
    cells = cohort(np.random.default_rng(3), 400).astype(float)
    a, std = strategy(N_TIMES), 700.0
    for function in (
        noisy_counts.log_survival,
        lambda x: noisy_counts.hazards(x, None),
        lambda x: noisy_counts.incidences(x, 0),
    ):
        slopes = np.zeros((2, N_TIMES, 8))
        for series, t in np.ndindex(2, N_TIMES):
            ends = []
            for step in (1e-4, -1e-4):
                moved = cells.copy()
                moved[series, t] += step
                ends.append(function(moved[None])[0, :8])
            slopes[series, t] = (ends[0] - ends[1]) / 2e-4
        covariance = np.linalg.inv(a.astype(float)) @ np.linalg.inv(a.astype(float)).T * std**2
        expected = sum(slopes[series].T @ covariance @ slopes[series] for series in range(2))
        found = Noise(a, std).covariance(lambda x, f=function: f(x)[:, :8], cells)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_noise_a_private_curve_is_the_exact_one() -> None:
    cells = cohort(np.random.default_rng(5), 400)
    group = PrivateGroup("g", fit(encoded(cells), strategy(N_TIMES)), Noise(strategy(N_TIMES), 1e-9), grid_days=30)
    n = at_risk(cells.sum(axis=0)).astype(float)
    s = np.cumprod(1 - cells[0] / n)
    np.testing.assert_allclose(group.survival.low, s, rtol=1e-8)
    from synthema.learning.curve_estimates import exact_counts

    exact = survival(exact_counts(n, cells[:1].astype(float)), s, group.days)
    np.testing.assert_allclose(group.survival.lower, exact.lower, rtol=1e-6)
