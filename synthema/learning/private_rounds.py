"""The rounds of a private regression: what is asked in each, which follows from what was opened with noise before.

    round 0      size: number of patients, first and second moments of each covariate and of the outcome. With them
                 the covariates are centred and standardised anew, so that patients' vectors are as short as the rows
                 allow, and not only as the schema's bounds do
    rounds 1..   score and information at the coefficients so far, each patient's part clipped

x         scaled by the schema's bounds, entries in [-1, 1]; z = (x - mean) / sd by round 0, z_0 = 1
B         bound of the residual r at z (`private_residuals`)
weight    min(1, C / (B |z|), D / (V |z|^2)): it depends on covariates alone, not on the outcome, so that clipping
          moves no coefficient (Mallows weights; Kuensch, Stefanski, Carroll 1989). Time at risk until an event is
          part of the outcome: B and V are then taken at everybody's mean time
parts     weight r z / C and weight V z z' / D, of length at most 1, times the square roots of their shares; linear
          models add weight r^2 / B^2. All together at most 1 in length

Which round gets how much of rho, how the parts share it, and where they are clipped was chosen by measurement
(`benchmarks/compare_private_regression.py`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from synthema.errors import ModelFailed
from synthema.learning.design import Floats
from synthema.learning.private_posterior import Curve, Opened, Posterior, posterior, straight
from synthema.learning.private_questions import Shape, Sizes, Step
from synthema.learning.private_residuals import Residuals, clipped_normal

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
_WIDEST_RESIDUAL = 1.6

_LEAST_SD = 0.02
_LARGEST_STEP = 3.0
# Events and their absence are taken for at least so frequent at the start.
_LEAST_FREQUENCY = 0.02
# Prior of a slope for one standard deviation of its covariate: normal, mean 0. Log odds and log rates; for numbers, in
# standard deviations of the outcome. Where a covariate's spread within its bounds is not told from 0, so that the
# standard deviation that is taken may be much too large, the prior is wider by `_UNTOLD`.
PRIOR_SD = 1.0
_UNTOLD = 2.0
# A linear model's residual in the intercept's score is pulled in only so much further out, and counts there for so much
# less: with skewed residuals the intercept is what suffers from pulling in.
_INTERCEPT_REACH = 2.0


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
        self._wider: Floats = np.ones(shape.p)
        self.untold: tuple[str, ...] = ()
        self._offset = 0.0
        self.posterior: Posterior | None = None
        # What the last step opened, for whoever wants to look at the noise.
        self.last: Opened | None = None
        self._score_dispersion = 1.0

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
        # A variance's own noise is that of a second moment, and of twice the mean times that of a first; a category's
        # is a function of its frequency alone.
        own = noise / n * np.where(dummy, np.abs(1 - 2 * mean), np.sqrt(1 + 4 * mean**2))
        untold = variance < 1.5 * own
        untold[0] = False
        self.untold = tuple(name for name, hidden in zip(shape.design.names, untold, strict=True) if hidden)
        self._wider = np.where(untold, _UNTOLD, 1.0)
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
        times = shape.kind == "poisson" and shape.response.high == 1 and shape.response.least_exposure < 1
        residuals = Residuals(
            shape.kind, most=shape.response.high, sd=residual_sd, reach=_RESIDUAL_CLIP, of_times=times
        )
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
        score = _SCORE_CLIP * math.sqrt(shape.p) * float(narrow.weighing_bound(centre)[0])
        noise = score * self._noise[self.index] / math.sqrt(shares[0])
        n = max(self.n_patients, self._least_n)
        wide = min(max(_QUIET * math.sqrt(n) * sd / noise, 1.0), _WIDEST)
        # Both widen what a patient may add: residuals first, for those that are pulled in are lost to the fit.
        pulled = 1.0 if shape.kind == "logistic" else min(wide, _WIDEST_RESIDUAL)
        residuals = replace(narrow, reach=_RESIDUAL_CLIP * pulled)
        unit = float(residuals.weighing_bound(centre)[0])
        variance = float(residuals.moments(centre)[1][0])
        return replace(
            step,
            residuals=residuals,
            score_clip=_SCORE_CLIP * (wide / pulled) * math.sqrt(shape.p) * unit,
            information_clip=_INFORMATION_CLIP * wide * shape.p * variance,
            unit=unit,
            shares=shares,
            offset=self._offset,
            intercept_reach=_INTERCEPT_REACH if shape.kind == "linear" else 1.0,
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
        of_score = score_unit * step.intercept_reach ** (np.arange(p) == 0)
        found = Opened(
            score=opened[:p] * of_score,
            information=information,
            score_noise=noise * of_score,
            information_noise=noise * information_unit,
        )
        prior_precision = 1 / (self._prior_sd * self._wider) ** 2
        prior_precision[0] = 0.0
        if shape.kind == "linear":
            found, result = self._with_dispersion(step, found, opened[-1], prior_precision)
        else:
            result = posterior(found, step.beta, prior_precision, self.dispersion, self._curve(step))
            # What is left of the information at the end of the step.
            tangent = self._curve(step)(min(max(float(result.step[0]), -_LARGEST_STEP), _LARGEST_STEP))[1]
            found = replace(
                found,
                information=found.information * tangent,
                information_noise=found.information_noise * tangent,
            )
        self.last, self.posterior = found, result
        self.question = replace(step, beta=step.beta + np.clip(result.step, -_LARGEST_STEP, _LARGEST_STEP))

    def _curve(self, step: Step) -> Curve:
        """Return how the mean of the average patient bends with the intercept."""
        if self.shape.kind == "linear":
            return straight
        start = float(step.beta[0]) + self._offset

        def bend(move: float) -> tuple[float, float]:
            mean, slope = step.residuals.moments(np.array([start, start + move]))
            secant = 1.0 if abs(move) < 1e-6 else float((mean[1] - mean[0]) / move / slope[0])
            return max(secant, 1e-3), max(float(slope[1] / slope[0]), 1e-3)

        return bend

    def _with_dispersion(
        self, step: Step, raw: Opened, opened: float, prior_precision: Floats
    ) -> tuple[Opened, Posterior]:
        """Find the residuals' variance, and the step with it, in turn: each needs the other."""
        noise, unit = self._noise[self.index], step.unit**2 / math.sqrt(step.shares[2])
        squares, error = opened * unit, noise * unit
        n = max(float(raw.psd[0, 0]), self._least_n)
        for _ in range(6):
            inside, second = clipped_normal(step.unit / math.sqrt(self.dispersion))
            # Of residuals that are pulled in, only those within the bound follow the coefficients.
            found = replace(raw, information=raw.information * inside, information_noise=raw.information_noise * inside)
            self._score_dispersion = self.dispersion * second / inside
            result = posterior(found, step.beta, prior_precision, self._score_dispersion)
            left = squares - 2 * raw.score @ result.step + result.step @ raw.psd @ result.step
            # On the safe side: residuals that are thought larger than they are cost width, not coverage.
            guess = (max(float(left), 0.0) + error) / max(n - self.shape.p, 1.0) / second
            least = max((0.1 * step.residuals.sd) ** 2, 1e-6)
            self.dispersion = min(max(guess, least), step.residuals.sd**2)
        return found, result

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
        own = (vectors * (self._score_dispersion / np.maximum(values, max(least, 1e-9)))) @ vectors.T
        back = self.back(self.question)
        out: Floats = back @ own @ back.T
        return out

    @staticmethod
    def back(step: Step) -> Floats:
        """Return the matrix from standardised covariates' coefficients to those of the schema's scale."""
        out = np.diag(1 / step.sd)
        out[0, 1:] = -step.mean[1:] / step.sd[1:]
        return out
