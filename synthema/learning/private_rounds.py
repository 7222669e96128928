"""The rounds of a private regression: what is asked in each, which follows from what was opened with noise before.

    round 0      size: number of patients, first and second moments of each covariate and of the outcome. With them
                 the covariates are centred and standardised anew, so that patients' vectors are as short as the rows
                 allow, and not only as the schema's bounds do
    rounds 1..   score and information at the coefficients so far, each patient's part clipped

x         scaled by the schema's bounds, entries in [-1, 1]; z = (x - mean) / sd by round 0, z_0 = 1
B         bound of the residual r at z (`private_residuals`)
weight    min(1, C / (B |z|), D / (V |z|^2)): it depends on covariates alone, not on the outcome, so that clipping
          moves no coefficient (Mallows weights; Kuensch, Stefanski, Carroll 1989)
parts     weight r z / C and weight V z z' / D, of length at most 1, times the square roots of their shares; linear
          models add weight r^2 / B^2. All together at most 1 in length

Which round gets how much of rho, how the parts share it, and where they are clipped was chosen by measurement
(`benchmarks/compare_private_regression.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from synthema.errors import ModelFailed
from synthema.learning.design import Design, Floats
from synthema.learning.private_posterior import Opened, Posterior, posterior
from synthema.learning.private_residuals import Kind, Residuals
from synthema.learning.responses import Response

# Of rho: the sizes, then three steps.
ROUND_SHARES = (0.12, 0.088, 0.132, 0.66)
N_STEPS = len(ROUND_SHARES) - 1
# Of a step's rho: its information.
_INFORMATION_SHARES = (0.4, 0.3, 0.2)
_DISPERSION_SHARE = 0.03

# Clipping: |z| in units of sqrt(p), z z' in units of p, residuals in standard deviations; all of it wider, by up to
# `_WIDEST`, where noise is then still below `_QUIET` of the sampling error.
_SCORE_CLIP = 1.05
_INFORMATION_CLIP = 1.5
_RESIDUAL_CLIP = 2.0
_QUIET = 0.15
_WIDEST = 3.0

_LEAST_SD = 0.02
_LARGEST_STEP = 3.0
# Events and their absence are taken for at least so frequent at the start.
_LEAST_FREQUENCY = 0.02
# Prior of a slope for one standard deviation of its covariate: normal, mean 0. Log odds and log rates; for numbers, in
# standard deviations of the outcome.
PRIOR_SD = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Sizes:
    """Asks for round 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Asks for score and information.

    mean, sd          standardise the covariates, shape (p,); 0 and 1 for the intercept
    beta              coefficients of standardised covariates, shape (p,)
    residuals         the outcome's side
    score_clip        C;  information_clip  D;  unit  B for the dispersion of linear models
    shares            of score, information and dispersion: what each part's square of length may be, 1 in all
    """

    mean: Floats
    sd: Floats
    beta: Floats
    residuals: Residuals
    score_clip: float
    information_clip: float
    unit: float
    shares: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """What is public of a model in advance: it decides how long the vectors of its rounds are."""

    kind: Kind
    design: Design
    response: Response

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.design.n_coefficients

    @property
    def numbers(self) -> tuple[int, ...]:
        """Indices of the terms that are numbers."""
        return tuple(j for j, (_, category) in enumerate(self.design.terms, start=1) if not category)

    @property
    def n_categorical(self) -> int:
        """Number of covariates with categories: a patient has at most one term of each."""
        return len({name for name, category in self.design.terms if category})

    @property
    def sizes_norm(self) -> float:
        """Greatest length of a patient's part of round 0."""
        of_outcome = 1 if self.kind == "logistic" else 2
        return math.sqrt(1 + 2 * len(self.numbers) + self.n_categorical + of_outcome)

    def dimension(self, index: int) -> int:
        """Return how many numbers round `index` opens."""
        if index == 0:
            of_outcome = 1 if self.kind == "logistic" else 2
            return 1 + len(self.design.terms) + len(self.numbers) + of_outcome
        return self.p + self.p * (self.p + 1) // 2 + (self.kind == "linear")


class PrivateNewton:
    """The public side of a fit: give it each opening, ask it for the next question.

    Parameters
    ----------
    noise_stds
        Standard deviation of the noise in each number of each round, where a patient's part has length at most 1.
    """

    def __init__(self, shape: Shape, noise_stds: tuple[float, ...]) -> None:
        self.shape = shape
        self._noise = noise_stds
        self.index = 0
        self.question: Sizes | Step = Sizes()
        self.n_patients = 0.0
        self.n_error = 0.0
        self._least_n = 1.0
        self.dispersion = 1.0
        self._prior_sd = PRIOR_SD
        self._offset = 0.0
        self.posterior: Posterior | None = None
        # What the last step opened, for whoever wants to look at the noise.
        self.last: Opened | None = None

    def __repr__(self) -> str:
        return f"PrivateNewton(round {self.index})"

    @property
    def done(self) -> bool:
        """Whether all rounds were opened."""
        return self.index > N_STEPS

    def update(self, opened: Floats) -> None:
        """Take what the round opened, in units of the greatest length of a patient's part; shape (dimension,).

        Raises
        ------
        ModelFailed
            If there are too few patients for the noise.
        """
        if isinstance(self.question, Sizes):
            self._take_sizes(opened)
        else:
            self._take_step(self.question, opened)
        self.index += 1
        if isinstance(self.question, Step) and not self.done:
            self.question = self._clipped(self.question)

    def _take_sizes(self, opened: Floats) -> None:
        shape, norm = self.shape, self.shape.sizes_norm
        values, noise = opened * norm, self._noise[0] * norm
        self.n_patients, self.n_error, self._least_n = float(values[0]), noise, 2 * noise
        if values[0] < 4 * noise:
            raise ModelFailed(
                "the noise is larger than the signal: there are too few patients for this budget; give the model "
                "more of it"
            )
        n, p = float(values[0]), shape.p
        mean, numbers = np.zeros(p), np.array(shape.numbers, dtype=int)
        mean[1:] = values[1:p] / n
        dummy = np.ones(p, dtype=bool)
        dummy[numbers], dummy[0] = False, False
        mean = np.clip(mean, np.where(dummy, 0.0, -1.0), 1.0)
        mean[0] = 0.0
        variance = mean * (1 - mean)
        variance[numbers] = values[p : p + len(numbers)] / n - mean[numbers] ** 2
        # A variance that is smaller than its own noise is not believed: the covariate stays as the schema scaled it.
        error = 2 * noise / n
        sd = np.sqrt(np.clip(np.maximum(variance, min(error, 1 / 3)), _LEAST_SD**2, 1.0))
        sd[0] = 1.0
        beta, residual_sd = np.zeros(p), 1.0
        first, second = (values[p + len(numbers) :] / n).tolist()[0], float(values[-1]) / n
        match shape.kind:
            case "logistic":
                frequency = min(max((first + 1) / 2, _LEAST_FREQUENCY), 1 - _LEAST_FREQUENCY)
                beta[0] = math.log(frequency / (1 - frequency))
            case "linear":
                beta[0] = min(max(first, -1.0), 1.0)
                least = max(_LEAST_SD**2, min(error, 0.1))
                residual_sd = math.sqrt(min(max(second - beta[0] ** 2, least), 1 / 3))
                self._prior_sd = PRIOR_SD * residual_sd
            case "poisson":
                most = shape.response.high
                count = min(max(math.expm1(min(max(first, 0.0), 1.0) * math.log1p(most)), 0.01), most)
                exposure = min(max(second, shape.response.least_exposure), 1.0)
                self._offset = math.log(exposure)
                beta[0] = math.log(count) - self._offset
        self.dispersion = residual_sd**2 if shape.kind == "linear" else 1.0
        residuals = Residuals(shape.kind, most=shape.response.high, sd=residual_sd, reach=_RESIDUAL_CLIP)
        none = (0.0, 0.0, 0.0)
        self.question = Step(mean, sd, beta, residuals, score_clip=1, information_clip=1, unit=1, shares=none)

    def _clipped(self, step: Step) -> Step:
        """Return the question with its clipping: as wide as the noise of its round allows."""
        shape, information = self.shape, _INFORMATION_SHARES[self.index - 1]
        spread = _DISPERSION_SHARE if shape.kind == "linear" else 0.0
        shares = (1 - information - spread, information, spread)
        centre = np.array([step.beta[0] + self._offset])
        sd = math.sqrt(float(step.residuals.moments(centre)[1][0]) * self.dispersion)
        narrow = replace(step.residuals, sd=math.sqrt(self.dispersion), reach=_RESIDUAL_CLIP)
        score = _SCORE_CLIP * math.sqrt(shape.p) * float(narrow.bound(centre)[0])
        noise = score * self._noise[self.index] / math.sqrt(shares[0])
        n = max(self.n_patients, self._least_n)
        wide = min(max(_QUIET * math.sqrt(n) * sd / noise, 1.0), _WIDEST)
        residuals = replace(narrow, reach=_RESIDUAL_CLIP * wide)
        unit = float(residuals.bound(centre)[0])
        variance = float(residuals.moments(centre)[1][0])
        return replace(
            step,
            residuals=residuals,
            score_clip=_SCORE_CLIP * wide * math.sqrt(shape.p) * unit,
            information_clip=_INFORMATION_CLIP * wide * shape.p * variance,
            unit=unit,
            shares=shares,
        )

    def _take_step(self, step: Step, opened: Floats) -> None:
        shape, p, noise = self.shape, self.shape.p, self._noise[self.index]
        score_unit = step.score_clip / math.sqrt(step.shares[0])
        information_unit = step.information_clip / math.sqrt(step.shares[1])
        upper = np.triu_indices(p)
        triangle = opened[p : p + len(upper[0])] * information_unit
        information = np.zeros((p, p))
        # Off the diagonal, what was opened is sqrt(2) times the entry.
        information[upper] = np.where(upper[0] == upper[1], triangle, triangle / math.sqrt(2))
        information = information + np.triu(information, 1).T
        found = Opened(
            score=opened[:p] * score_unit,
            information=information,
            score_noise=noise * score_unit,
            information_noise=noise * information_unit,
        )
        prior_precision = np.full(p, 1 / self._prior_sd**2)
        prior_precision[0] = 0.0
        result = posterior(found, step.beta, prior_precision, self.dispersion)
        if shape.kind == "linear":
            spread_unit = step.unit**2 / math.sqrt(step.shares[2])
            squares, error = float(opened[-1]) * spread_unit, noise * spread_unit
            for _ in range(4):
                left = squares - 2 * found.score @ result.step + result.step @ found.psd @ result.step
                n = max(float(found.psd[0, 0]), self._least_n)
                # On the safe side: residuals that are thought larger than they are cost width, not coverage.
                guess = (max(float(left), 0.0) + error) / n
                self.dispersion = min(max(guess, (0.1 * step.residuals.sd) ** 2, 1e-6), step.residuals.sd**2)
                result = posterior(found, step.beta, prior_precision, self.dispersion)
        self.last, self.posterior = found, result
        self.question = replace(step, beta=step.beta + np.clip(result.step, -_LARGEST_STEP, _LARGEST_STEP))

    def on_bounds_scale(self) -> tuple[Floats, Floats]:
        """Return (beta, covariance) of the covariates as the schema's bounds scale them.

        Raises
        ------
        ModelFailed
            If the noise leaves nothing but the prior.
        """
        if self.posterior is None or not isinstance(self.question, Step):
            raise ModelFailed("no round was opened yet")
        covariance = self.posterior.covariance
        slopes = np.sqrt(np.diag(covariance)[1:])
        if len(slopes) and slopes.min() > 0.9 * self._prior_sd:
            raise ModelFailed(
                "the noise is larger than the signal: nothing can be said of any covariate at this budget; give the "
                "model more of it, or take fewer covariates"
            )
        back = self.back(self.question)
        return back @ self.question.beta, back @ covariance @ back.T

    def sampling_on_bounds_scale(self) -> Floats:
        """Return what the covariance would be without noise: of a scale that the noise does not reckon with."""
        if self.last is None or not isinstance(self.question, Step):
            raise ModelFailed("no round was opened yet")
        # Directions that the noise has drowned are left to the total.
        values, vectors = np.linalg.eigh(self.last.information)
        least = self.last.information_noise
        own = (vectors * (self.dispersion / np.maximum(values, max(least, 1e-9)))) @ vectors.T
        back = self.back(self.question)
        out: Floats = back @ own @ back.T
        return out

    @staticmethod
    def back(step: Step) -> Floats:
        """Return the matrix from standardised covariates' coefficients to those of the schema's scale."""
        out = np.diag(1 / step.sd)
        out[0, 1:] = -step.mean[1:] / step.sd[1:]
        return out
