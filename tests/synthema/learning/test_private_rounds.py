"""Private regressions beside the fit without privacy: residuals, coefficients and standard errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from private_clinics import fitted, made_up, stds_of

from synthema.errors import ModelFailed
from synthema.learning.design import Design
from synthema.learning.private_posterior import Opened, posterior
from synthema.learning.private_questions import Shape
from synthema.learning.private_residuals import Residuals, clipped_normal
from synthema.learning.responses import Patients, Response

KINDS: tuple[Any, ...] = ("logistic", "linear", "poisson")


def test_counts_residuals_have_mean_zero_under_a_poisson_law_however_far_they_are_pulled_in() -> None:
    for reach in (1.0, 2.0, 4.5):
        residuals = Residuals("poisson", most=200.0, sd=1.0, reach=reach)
        for mean in (0.01, 0.3, 1.0, 7.0, 40.0):
            counts = np.arange(201.0)
            eta = np.full(201, np.log(mean))
            found = residuals.of(counts, eta)
            law = np.exp(counts * np.log(mean) - mean - [math.lgamma(each + 1) for each in counts])
            assert np.abs(found).max() <= residuals.bound(eta)[0]
            assert abs((law * found).sum()) < 1e-3 * np.sqrt(mean)
            # Negative control: pulled in and left so, the mean is off.
            if reach == 1.0 and mean >= 0.3:
                assert abs((law * np.clip(counts - mean, -np.sqrt(mean) - 1, np.sqrt(mean) + 1)).sum()) > 2e-3


def test_an_events_residual_is_never_pulled_in() -> None:
    eta = np.linspace(-4, 4, 9)
    for kind in ("logistic", "poisson"):
        residuals = Residuals(kind, most=1.0, sd=1.0, reach=2.0)
        mean, _ = residuals.moments(eta)
        for y in (0.0, 1.0):
            near = mean < 4
            assert np.allclose(residuals.of(np.full(9, y), eta)[near], (y - mean)[near])


def test_a_pulled_in_normal_is_that_of_numerical_integration() -> None:
    z = np.linspace(-9, 9, 1_800_001)
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    for reach in (0.5, 1.7, 3.0):
        inside, second = clipped_normal(reach)
        assert inside == pytest.approx(density[np.abs(z) <= reach].sum(), abs=1e-5)
        assert second == pytest.approx((density * np.clip(z, -reach, reach) ** 2).sum(), abs=1e-8)


def test_with_noise_in_one_dimension_the_posterior_is_the_textbooks() -> None:
    # S = a b + sampling (variance phi a) + noise (s^2); prior precision t.
    a, s, t, phi, score = 50.0, 6.0, 0.4, 1.7, 21.0
    opened = Opened(np.array([score]), np.array([[a]]), score_noise=np.array([s]), information_noise=0.0)
    found = posterior(opened, np.zeros(1), np.array([t]), phi)
    precision = a * a / (phi * a + s * s) + t
    assert found.covariance[0, 0] == pytest.approx(1 / precision, rel=1e-6)
    assert found.step[0] == pytest.approx(a * score / (phi * a + s * s) / precision, rel=1e-6)
    # Noise of the information counts along the step.
    wider = posterior(Opened(np.array([score]), np.array([[a]]), np.array([s]), 5.0), np.zeros(1), np.array([t]), phi)
    along = 25.0 * wider.step[0] ** 2
    assert wider.covariance[0, 0] == pytest.approx(1 / (a * a / (phi * a + s * s + along) + t), rel=1e-6)


def test_nothing_is_singular_when_noise_drowns_the_information() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        noise = random.normal(0, 100.0, (4, 4))
        opened = Opened(random.normal(0, 50.0, 4), (noise + noise.T) / 2, np.full(4, 50.0), 100.0)
        found = posterior(opened, np.zeros(4), np.array([0.0, 1.0, 1.0, 1.0]), 1.0)
        assert np.isfinite(found.step).all()
        assert np.linalg.eigvalsh(found.covariance).min() > 0
        # Slopes are never less certain than the prior.
        assert np.diag(found.covariance)[1:].max() <= 1 + 1e-6


def _plain_fit(kind: Any, patients: Any) -> tuple[Any, Any]:
    """Maximum likelihood by Newton's method, written out for each family: coefficients and standard errors."""
    x, y = patients.x, patients.y
    beta = np.zeros(x.shape[1])
    beta[0] = np.log(y.mean()) if kind == "poisson" else 0.0
    for _ in range(25):
        eta = x @ beta
        mean = {"logistic": 1 / (1 + np.exp(-eta)), "linear": eta, "poisson": np.exp(np.minimum(eta, 50))}[kind]
        weight = {"logistic": mean * (1 - mean), "linear": np.ones(len(y)), "poisson": mean}[kind]
        information = x.T @ (weight[:, None] * x)
        beta = beta + np.linalg.solve(information, x.T @ (y - mean))
    spread = ((y - x @ beta) ** 2).sum() / (len(y) - len(beta)) if kind == "linear" else 1.0
    return beta, np.sqrt(spread * np.diag(np.linalg.inv(information)))


@pytest.mark.parametrize("kind", KINDS)
def test_with_ample_budget_coefficients_and_standard_errors_are_those_of_the_plain_fit(kind: Any) -> None:
    shape, patients, _ = made_up(kind, 20_000, np.random.default_rng(4))
    plain, plain_error = _plain_fit(kind, patients)
    newton = fitted(shape, patients, stds_of(1000.0), None)
    beta, covariance = newton.on_bounds_scale()
    # Clipping by covariates costs a little efficiency, so the two are estimates of the same, and not the same number.
    assert np.abs((beta - plain) / plain_error).max() < 0.5
    assert np.allclose(np.sqrt(np.diag(covariance)), plain_error, rtol=0.12)
    assert newton.n_patients == pytest.approx(20_000)


def test_no_noise_reckoned_with_where_there_is_none_gives_the_sampling_errors() -> None:
    shape, patients, _ = made_up("logistic", 5_000, np.random.default_rng(1))
    newton = fitted(shape, patients, stds_of(1000.0), None)
    _, covariance = newton.on_bounds_scale()
    assert np.allclose(np.diag(covariance), np.diag(newton.sampling_on_bounds_scale()), rtol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_patients_for_the_noise_is_an_error_that_says_so(kind: Any) -> None:
    shape, patients, _ = made_up(kind, 60, np.random.default_rng(2))
    random = np.random.default_rng(3)
    with pytest.raises(ModelFailed, match="the noise is larger than the signal"):
        fitted(shape, patients, stds_of(0.2), random).on_bounds_scale()


RUNS = 120


def _coverage(kind: Any, n: int, epsilon: float, *, more: float = 1.0) -> tuple[float, float]:
    """Coverage of 95 % intervals over all coefficients: noise reckoned with, and left out."""
    random = np.random.default_rng(17)
    aware, naive = [], []
    for _ in range(RUNS):
        shape, patients, truth = made_up(kind, n, random)
        newton = fitted(shape, patients, stds_of(epsilon), random, more=more)
        beta, covariance = newton.on_bounds_scale()
        error = np.sqrt(np.diag(covariance))
        own = np.minimum(np.sqrt(np.diag(newton.sampling_on_bounds_scale())), error)
        aware.append(np.abs(beta - truth) <= 1.96 * error)
        naive.append(np.abs(beta - truth) <= 1.96 * own)
    return float(np.mean(aware)), float(np.mean(naive))


# 120 runs of 5 coefficients that are correlated: a coverage of 95 % is found with a standard deviation of 1.3 % or so.
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_and_those_that_forget_the_noise_do_not(kind: Any) -> None:
    aware, naive = _coverage(kind, 1200 if kind == "logistic" else 2000, 1.0)
    assert aware > 0.92
    assert naive < 0.9
    aware, _ = _coverage(kind, 1000, 10.0)
    assert 0.91 < aware < 0.985


@pytest.mark.slow
def test_noise_of_twice_the_size_that_is_reckoned_with_shows_in_the_coverage() -> None:
    aware, _ = _coverage("linear", 3000, 1.0, more=2.0)
    assert aware < 0.9


def _bias(shape: Shape, patients: Patients, truth: Any) -> Any:
    """Errors of a fit whose rounds have no noise, though clipped as if there were, in its own standard errors."""
    newton = fitted(shape, patients, stds_of(1.0), None)
    beta, covariance = newton.on_bounds_scale()
    return (beta - truth) / np.sqrt(np.diag(covariance))


def test_times_until_an_event_or_loss_move_no_coefficient_though_they_are_part_of_the_outcome() -> None:
    random, n = np.random.default_rng(6), 30_000
    x = np.ones((n, 3))
    x[:, 1], x[:, 2] = np.clip(random.normal(0, 0.35, n), -1, 1), random.random(n) < 0.5
    truth = np.array([0.3, 0.8, -0.4])
    lived, followed = random.exponential(np.exp(-x @ truth)), random.uniform(0.05, 1, n)
    time, event = np.clip(np.minimum(lived, followed), 0.01, 1), (lived <= followed).astype(float)
    shape = Shape(
        "poisson",
        Design((("age", ""), ("sex", "M")), (0.0,) * 3, (1.0,) * 3),
        Response(high=1.0, least_exposure=0.01, longest_exposure=1.0),
    )
    patients = Patients(x, event, np.log(time))
    assert np.abs(_bias(shape, patients, truth)).max() < 3
    # Negative control: weights by each one's own time, as they would be for a covariate.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Residuals, "weighing_bound", Residuals.bound)
        original = Residuals.__init__

        def as_covariate(self: Residuals, *args: Any, **fields: Any) -> None:
            original(self, *args, **{**fields, "of_times": False})

        patch.setattr(Residuals, "__init__", as_covariate)
        assert np.abs(_bias(shape, patients, truth)).max() > 5


def test_skewed_residuals_move_the_intercept_by_little() -> None:
    from synthema.learning import private_rounds

    random, n = np.random.default_rng(8), 30_000
    x = np.ones((n, 2))
    x[:, 1] = np.clip(random.normal(0, 0.3, n), -1, 1)
    truth = np.array([-0.4, 0.3])
    y = np.clip(x @ truth + random.exponential(0.12, n) - 0.12, -1, 1)
    shape = Shape("linear", Design((("age", ""),), (0.0,) * 2, (1.0,) * 2), Response(low=-1.0, high=1.0))
    patients = Patients(x, y, None)
    assert np.abs(_bias(shape, patients, truth)).max() < 3
    # Negative control: pulled in for the intercept as for the slopes.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private_rounds, "_INTERCEPT_REACH", 1.0)
        assert abs(_bias(shape, patients, truth)[0]) > 4
