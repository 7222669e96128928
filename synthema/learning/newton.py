"""Newton's method on opened sums, for every family of generalised linear models.

Give it each opening, ask it for the next coefficients. Everything here is public: every site and every member moves in
the same way. Coefficients are those of the scaled covariates (`design`).

Each opening is a set of equations about the patients, so as little is opened as the fit needs:

    way     all sums, rounded coarsely, at coefficients far apart; finer only if the information asks for it
    ending  the score alone, rounded finely, at coefficients close together; steps by the last information
    end     all sums, rounded finely, once: estimates and standard errors are exact

Were all sums opened finely on the whole way, then near the least number of patients an outsider who solves them would
come much nearer to single patients (tests/synthema/learning/test_regression_attack.py).

On the way, a step after which the log-likelihood is lower is halved, and one beyond what the next sums could hold is
shortened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synthema.errors import ModelFailed
from synthema.learning.design import Design, Floats
from synthema.learning.families import Family
from synthema.learning.glm_sums import FRAC_BITS, Encoding
from synthema.learning.responses import Response

# Openings on the way, and of all kinds together.
MAX_STEPS = 12
MAX_OPENINGS = 28
# Fractional bits of sums on the way, and how many more are taken where the information is too small for so few.
COARSE_BITS = 8
_MORE_BITS = 6
# Largest error of a step on the way by rounding, in parts of it.
_LARGEST_NOISE = 0.1
# Steps smaller than this are near enough for steps by the same information.
_NEAR = 0.05
# A step so small by a constant information is squared by the last, exact one.
_TOLERANCE = 1e-6
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
        self.iterations = 0
        self.converged = False
        self._phase: Literal["way", "ending", "end"] = "end" if family.one_step else "way"
        self._bits = COARSE_BITS
        self.encoding = self._encoding(self.beta)
        self._before: tuple[Floats, float] | None = None
        self._last_step = math.inf
        self._information: Floats = np.eye(design.n_coefficients)
        self._value: float | None = None
        # Of a linear model's outcome, before anything is explained.
        self._squares = 0.0

    @property
    def score_alone(self) -> bool:
        """Whether the score is all that is opened next."""
        return self._phase == "ending"

    def update(self, opened: Floats) -> None:
        """Take what was opened at `beta`, and move: the score, and unless it is alone information and value.

        The value may be missing. Raises ModelFailed, naming the reason and the way out.
        """
        if not np.isfinite(opened).all():
            raise ModelFailed("the sums are no finite numbers: check the covariates' bounds in the schema")
        self.iterations += 1
        if self._phase == "ending":
            self._end_or_go_on(np.linalg.solve(self._information, opened))
        else:
            p = self.design.n_coefficients
            upper = np.triu_indices(p)
            n_sums = p + len(upper[0])
            information = np.zeros((p, p))
            information[upper] = opened[p:n_sums]
            information += np.triu(information, 1).T
            value = float(opened[n_sums]) if len(opened) > n_sums else None
            if self._phase == "way":
                self._on_the_way(opened[:p], information, value)
            else:
                self._at_the_end(opened[:p], information, value)
        if not self.converged:
            if self.iterations >= MAX_OPENINGS:
                raise ModelFailed(
                    f"no convergence in {MAX_OPENINGS} steps: narrow the covariates' bounds, or leave one out"
                )
            self.encoding = self._encoding(self.beta)

    def _on_the_way(self, score: Floats, information: Floats, value: float | None) -> None:
        if self._before is not None and value is not None and value < self._before[1] - self._slack(value):
            self.beta = (self._before[0] + self.beta) / 2
            self._check_way(np.zeros_like(self.beta))
            return
        least = float(np.linalg.eigvalsh(information)[0])
        noise = self.encoding.error * math.sqrt(len(score)) / least if least > 0 else math.inf
        if noise > _LARGEST_NOISE and self._bits < FRAC_BITS:
            self._bits = min(self._bits + _MORE_BITS, FRAC_BITS)
            return
        self._check_information(information)
        self._information = information
        self._before = None if value is None else (self.beta, value)
        step = np.linalg.solve(information, score)
        self._check_way(step)
        if np.abs(step).max() < max(_NEAR, 3 * noise):
            self._phase = "ending"
        self._move(step)

    def _check_way(self, step: Floats) -> None:
        if np.abs((self.beta + step)[1:]).max(initial=0.0) > _LARGEST_COEFFICIENT:
            raise self._separated(step)
        if self.iterations < MAX_STEPS:
            return
        if np.abs(step).max() > _STILL_GROWING:
            raise self._separated(step)
        self._phase = "ending"

    def _end_or_go_on(self, step: Floats) -> None:
        size = float(np.abs(step).max())
        if size < max(_TOLERANCE, self._noise_at_the_end()) or size > 0.5 * self._last_step:
            # Near enough, or this information leads no nearer.
            self._phase = "end"
        self._last_step = size
        self._move(step)

    def _at_the_end(self, score: Floats, information: Floats, value: float | None) -> None:
        self._check_information(information)
        self._information = information
        step = np.linalg.solve(information, score)
        self.converged = self.family.one_step or bool(np.abs(step).max() < max(_TOLERANCE, self._noise_at_the_end()))
        if not self.converged:
            self._phase, self._last_step = "ending", math.inf
            self._move(step)
            return
        self.beta = self.beta + step
        if value is None:
            return
        # The parabola through the last point, exact for squares: the value where the step ends.
        gain = float(score @ step)
        self._value = value - gain if self.family.one_step else value + gain / 2
        if self.family.one_step:
            self._squares = value
            self._check_residuals(step, self._value)

    def _slack(self, value: float) -> float:
        return 2 * self.encoding.error + 1e-9 * abs(value)

    def _noise_at_the_end(self) -> float:
        # What rounding of the sums moves a step by is no reason to go on.
        least = float(np.linalg.eigvalsh(self._information)[0])
        return 4 * self.encoding.error * math.sqrt(len(self.beta)) / least if least > 0 else 0.0

    def _move(self, step: Floats) -> None:
        for _ in range(60):
            try:
                self._encoding(self.beta + step)
                break
            except ModelFailed:
                step = step / 2
        self.beta = self.beta + step

    def _encoding(self, beta: Floats) -> Encoding:
        low, high = self.design.reach(beta)
        largest = self.family.largest(low + self.response.least_offset, high, self.response)
        bits = self._bits if self._phase == "way" else FRAC_BITS
        return Encoding.of(largest, n_sites=self._n_sites, most_rows=self._most_rows, frac_bits=bits)

    def _check_information(self, information: Floats) -> None:
        diagonal = np.diag(information)
        names = self.design.names
        # Rounding leaves this much of a sum of zeros.
        nothing = [names[j] for j in range(len(names)) if diagonal[j] <= 2 * self.encoding.error]
        if nothing:
            if self._moved:
                raise ModelFailed(SEPARATED.format(", ".join(nothing)))
            raise ModelFailed(
                f"{', '.join(nothing)}: no patient differs in it from the others; merge the category with another one, "
                "or leave the covariate out"
            )
        scale = 1 / np.sqrt(diagonal)
        values, vectors = np.linalg.eigh(scale[:, None] * information * scale)
        least = float(np.linalg.eigvalsh(information)[0])
        error = self._n_sites * math.ldexp(1.0, -FRAC_BITS - 1) * math.sqrt(len(names))
        if values[0] >= _LEAST_EIGENVALUE and least > 0 and error / math.sqrt(least) <= _LARGEST_ERROR:
            return
        weights = np.abs(vectors[:, 0])
        involved = [names[j] for j in range(len(names)) if weights[j] > 0.1 * weights.max()]
        if self._moved:
            raise ModelFailed(SEPARATED.format(", ".join(involved)))
        others = [name for name in involved if name != "intercept"]
        if len(others) == 1:
            raise ModelFailed(f"{others[0]} does not vary enough within its bounds (collinear): leave it out")
        raise ModelFailed(f"the covariates are collinear ({', '.join(involved)}): leave one out")

    @property
    def _moved(self) -> bool:
        # A first information that is singular is collinearity: the weights do not differ much yet.
        return self._before is not None or not np.array_equal(self._information, np.eye(len(self.beta)))

    def _check_residuals(self, beta: Floats, left: float) -> None:
        # Of the sum of squares, rounding moves this much.
        rounded = self.encoding.error * (1 + float(np.abs(beta).sum())) ** 2
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
        total = (self._squares - self._sum_of_outcome**2 / n) * response.scale**2
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
