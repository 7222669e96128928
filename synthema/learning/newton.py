"""Newton's method on opened sums, for every family of generalised linear models.

Give it each opening, ask it for the next coefficients. Everything here is public: every site and every member moves in
the same way. Coefficients are those of the scaled covariates (`design`).

A step after which the log-likelihood is lower is halved, and one beyond what the next sums could hold is shortened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from synthema.errors import ModelFailed
from synthema.learning.design import Design, Floats
from synthema.learning.families import Family
from synthema.learning.glm_sums import Encoding
from synthema.learning.responses import Response

MAX_ITERATIONS = 12
# A last step so small is squared by the next one.
_TOLERANCE = 1e-7
# Largest error of an estimate by rounded sums, in standard errors.
_LARGEST_ERROR = 1e-6
# Log odds or rate ratios beyond this (per half range of a covariate) mean that the outcome is separated.
_LARGEST_COEFFICIENT = 30.0
# Least eigenvalue of the information, scaled to a diagonal of ones, that is not collinearity.
_LEAST_EIGENVALUE = 1e-9
# Last steps of a fit that does not converge: beyond this, some coefficient grows for ever.
_STILL_GROWING = 0.3


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model, in the columns' own units; shape (p,) each.

    log_likelihood   None if the value was not opened
    n_patients, residual_variance, r_squared   linear models only
    """

    names: tuple[str, ...]
    estimate: Floats
    std_error: Floats
    iterations: int
    log_likelihood: float | None
    n_patients: int | None = None
    residual_variance: float | None = None
    r_squared: float | None = None


def start(design: Design) -> Floats:
    """Return the first coefficients (of the scaled covariates): public, small, and different from zero.

    Near enough to zero for Newton's method, far enough for weights that differ between patients in the second digit.
    """
    signs = np.where(np.arange(design.n_coefficients) % 2 == 0, 1.0, -1.0)
    return signs * (0.3 + 0.05 * np.arange(design.n_coefficients) / design.n_coefficients)


class Newton:
    """One model's way to its maximum.

    Parameters
    ----------
    log_rate
        Poisson models: the logarithm of events over exposure, where the intercept starts.
    most_rows
        Public bound on the patients of all sites together.

    Raises
    ------
    ModelFailed
        If the schema's bounds leave no room for sums; `update` names what else may go wrong.
    """

    def __init__(
        self,
        family: Family,
        design: Design,
        response: Response,
        *,
        n_sites: int,
        most_rows: int,
        log_rate: float | None = None,
    ) -> None:
        self.family, self.design, self.response = family, design, response
        self._n_sites, self._most_rows = n_sites, most_rows
        self.beta: Floats = np.zeros(design.n_coefficients) if family.one_step else start(design)
        if log_rate is not None:
            self.beta[0] = log_rate
        self.encoding = self._encoding(self.beta)
        self.iterations = 0
        self.converged = False
        self._before: tuple[Floats, float] | None = None
        self._information: Floats = np.eye(design.n_coefficients)
        self._value: float | None = None

    def update(self, opened: Floats) -> None:
        """Take the pooled score, information and value (which may be missing) at `beta`, and move.

        Raises ModelFailed, naming the reason and the way out.
        """
        p = self.design.n_coefficients
        if not np.isfinite(opened).all():
            raise ModelFailed("the sums are no finite numbers: check the covariates' bounds in the schema")
        upper = np.triu_indices(p)
        n_sums = p + len(upper[0])
        score, value = opened[:p], float(opened[n_sums]) if len(opened) > n_sums else None
        information = np.zeros((p, p))
        information[upper] = opened[p:n_sums]
        information += np.triu(information, 1).T
        self.iterations += 1
        if self._got_worse(value):
            step = (self._before[0] - self.beta) / 2 if self._before else np.zeros(p)
        else:
            self._check_information(information)
            self._information = information
            step = np.linalg.solve(information, score)
            self._before = None if value is None else (self.beta, value)
            self.converged = self.family.one_step or self._is_last(step)
            if self.converged and value is not None:
                # The parabola through the last point, exact for squares: the value where the step ends.
                gain = float(score @ step)
                self._value = value - gain if self.family.one_step else value + gain / 2
            if self.family.one_step and value is not None:
                self._check_residuals(step, value, score)
        self._move(step)

    def _encoding(self, beta: Floats) -> Encoding:
        low, high = self.design.reach(beta)
        largest = self.family.largest(low + self.response.least_offset, high, self.response)
        return Encoding.of(largest, n_sites=self._n_sites, most_rows=self._most_rows)

    def _got_worse(self, value: float | None) -> bool:
        if value is None or self._before is None:
            return False
        return value < self._before[1] - 1e-9 * (1 + abs(value))

    def _is_last(self, step: Floats) -> bool:
        least = float(np.linalg.eigvalsh(self._information)[0])
        # What rounding of the sums moves a step by is no reason to go on.
        noise = 4 * self.encoding.error * math.sqrt(len(step)) / least
        return bool(np.abs(step).max() < max(_TOLERANCE, noise))

    def _move(self, step: Floats) -> None:
        if self.converged:
            self.beta = self.beta + step
            return
        if np.abs((self.beta + step)[1:]).max(initial=0.0) > _LARGEST_COEFFICIENT:
            raise self._separated(step)
        if self.iterations >= MAX_ITERATIONS:
            if np.abs(step).max() > _STILL_GROWING:
                raise self._separated(step)
            raise ModelFailed(
                f"no convergence in {MAX_ITERATIONS} Newton steps: narrow the covariates' bounds, or leave one out"
            )
        for _ in range(60):
            try:
                self.encoding = self._encoding(self.beta + step)
                break
            except ModelFailed:
                step = step / 2
        self.beta = self.beta + step

    def _check_information(self, information: Floats) -> None:
        diagonal = np.diag(information)
        names = self.design.names
        # Rounding leaves this much of a sum of zeros.
        nothing = [names[j] for j in range(len(names)) if diagonal[j] <= 2 * self.encoding.error]
        if nothing:
            if self.iterations > 1:
                raise ModelFailed(SEPARATED.format(", ".join(nothing)))
            raise ModelFailed(
                f"{', '.join(nothing)}: no patient differs in it from the others; merge the category with another one, "
                "or leave the covariate out"
            )
        scale = 1 / np.sqrt(diagonal)
        values, vectors = np.linalg.eigh(scale[:, None] * information * scale)
        least = float(np.linalg.eigvalsh(information)[0])
        error = self.encoding.error * math.sqrt(len(names))
        if values[0] >= _LEAST_EIGENVALUE and least > 0 and error / math.sqrt(least) <= _LARGEST_ERROR:
            return
        weights = np.abs(vectors[:, 0])
        involved = [names[j] for j in range(len(names)) if weights[j] > 0.1 * weights.max()]
        if self.iterations > 1:
            raise ModelFailed(SEPARATED.format(", ".join(involved)))
        others = [name for name in involved if name != "intercept"]
        if len(others) == 1:
            raise ModelFailed(f"{others[0]} does not vary enough within its bounds (collinear): leave it out")
        raise ModelFailed(f"the covariates are collinear ({', '.join(involved)}): leave one out")

    def _check_residuals(self, beta: Floats, value: float, score: Floats) -> None:
        # Of the sum of squares, rounding moves this much.
        rounded = self.encoding.error * (1 + float(np.abs(beta).sum())) ** 2
        left = value - float(score @ beta)
        degrees = self._n_patients - len(beta)
        if degrees < 1 or left <= rounded / _LARGEST_ERROR:
            raise ModelFailed("the covariates determine the outcome: leave out the one that follows from it")
        deviation = math.sqrt(left / degrees)
        least = float(np.linalg.eigvalsh(self._information)[0])
        if self.encoding.error * math.sqrt(len(beta)) * (1 + np.abs(beta).sum()) > (
            _LARGEST_ERROR * deviation * math.sqrt(least)
        ):
            raise ModelFailed(
                "the covariates are nearly collinear, or vary little within their bounds: narrow the bounds in the "
                "schema, or leave one out"
            )

    def _separated(self, step: Floats) -> ModelFailed:
        growing = np.abs(step) >= 0.5 * np.abs(step).max()
        names = [name for name, grows in zip(self.design.names, growing, strict=True) if grows and name != "intercept"]
        return ModelFailed(SEPARATED.format(", ".join(names or ["intercept"])))

    @property
    def _n_patients(self) -> int:
        # With weights of one, the information of the intercept is their number.
        return round(float(self._information[0, 0]))

    def fit(self) -> Fit:
        """Return coefficients and standard errors in the columns' own units; to be called when it has converged."""
        response, p = self.response, self.design.n_coefficients
        back = self.design.back
        covariance = back @ np.linalg.inv(self._information) @ back.T
        estimate, std_error = back @ self.beta, np.sqrt(np.diag(covariance))
        if not self.family.one_step:
            estimate[0] -= math.log(response.longest_exposure)
            return Fit(self.design.names, estimate, std_error, self.iterations, self._value)
        if self._value is None:
            raise ModelFailed("the outcome's sum of squares was not opened")
        n = self._n_patients
        squares = self._value * response.scale**2
        variance = squares / (n - p)
        estimate = estimate * response.scale
        estimate[0] += response.centre
        before = self._before[1] if self._before else 0.0
        total = (before - self._sum_of_outcome**2 / n) * response.scale**2
        return Fit(
            self.design.names,
            estimate,
            std_error * math.sqrt(variance),
            self.iterations,
            -n / 2 * (math.log(2 * math.pi * squares / n) + 1),
            n_patients=n,
            residual_variance=variance,
            r_squared=1 - squares / total,
        )

    @property
    def _sum_of_outcome(self) -> float:
        # The normal equation of the intercept.
        return float(self._information[0] @ self.beta)


SEPARATED = (
    "a coefficient grows without bound, the outcome is separated by {}: merge the category with another one, or leave "
    "the covariate out"
)
