"""Newton's method for Cox's model on opened scores and informations: public, the same at every site and member.

Each opening is a set of equations about the patients, so as little is opened as the fit needs (as in `newton`):

    way     score and information, rounded coarsely, at coefficients far apart; finer where the information asks for it
    ending  the score alone, rounded finely, at coefficients close together; steps by the last information
    end     score and information, rounded finely, once: estimates and standard errors are exact

The log partial likelihood is concave, and its value is not opened on the way. A step went too far if the score behind
it points back by more than it pointed forward before: then half of it is taken. A step beyond what the next sums could
hold is shortened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from synthema.errors import ModelFailed
from synthema.learning.cox_sums import FRAC_BITS, Encoding
from synthema.learning.design import Design, Floats

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
# Error of a fine score at the least, and for a unit of information: see `cox_shares`.
_LEAST_ERROR, _ERROR_PER_INFORMATION = 2.0**-22, 2.0**-28
# Log hazard ratios beyond this (per half range of a covariate) mean that the likelihood has no maximum.
_LARGEST_COEFFICIENT = 30.0
# Least eigenvalue of the information, scaled to a diagonal of ones, that is not collinearity.
_LEAST_EIGENVALUE = 1e-7
# Information of a covariate in which patients at risk do not differ.
_NO_INFORMATION = 1e-4
# Last steps of a way that does not end: beyond this, some coefficient grows for ever.
_STILL_GROWING = 0.3
# The information of a coefficient that grows for ever vanishes; its first was that of the data.
_VANISHING = 1e-3


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model in the columns' own units: coefficients, shape (p,), and their covariance, shape (p, p)."""

    names: tuple[str, ...]
    estimate: Floats
    covariance: Floats
    iterations: int


class CoxNewton:
    """One model's way to its maximum, from coefficients of zero.

    Parameters
    ----------
    most_rows
        Public bound on the patients of all sites together.

    Examples
    --------
    >>> newton = CoxNewton(Design((("dose", ""),), (0.0, 5.0), (1.0, 5.0)), most_rows=1 << 24)
    >>> while not newton.converged:
    ...     part = 1 / (1 + np.exp(-newton.beta[0]))
    ...     newton.update(np.array([25 - 40 * part, 40 * part * (1 - part)])[: 1 if newton.score_alone else 2])
    >>> round(float(newton.beta[0]), 9), round(float(np.log(25 / 15)), 9)
    (0.510825624, 0.510825624)
    """

    def __init__(self, design: Design, *, most_rows: int) -> None:
        self.design, self._most_rows = design, most_rows
        self.beta: Floats = np.zeros(len(design.terms))
        self.encoding = self._encoding(self.beta)
        self.iterations = 0
        self.converged = False
        self._phase: Literal["way", "ending", "end"] = "way"
        self._bits = COARSE_BITS
        # The last step on the way, and how far the score pointed along it.
        self._step: Floats | None = None
        self._slope = 0.0
        self._last_step = math.inf
        self._information: Floats = np.eye(len(self.beta))
        self._first_diagonal: Floats | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return self.design.names[1:]

    @property
    def score_alone(self) -> bool:
        """Whether the score is all that is opened next."""
        return self._phase == "ending"

    @property
    def frac_bits(self) -> int:
        """Fractional bits of what is opened next."""
        return self._bits if self._phase == "way" else FRAC_BITS

    def update(self, opened: Floats) -> None:
        """Take the pooled score at `beta` and, unless it is alone, the information's upper triangle; and move.

        Raises ModelFailed, naming the reason and the way out.
        """
        self.iterations += 1
        p = len(self.beta)
        if self._phase == "ending":
            self._end_or_go_on(_solved(self._information, opened))
        else:
            information = np.zeros((p, p))
            information[np.triu_indices(p)] = opened[p:]
            information += np.triu(information, 1).T
            if self._phase == "way":
                self._on_the_way(opened[:p], information)
            else:
                self._at_the_end(opened[:p], information)
        if not self.converged and self.iterations >= MAX_OPENINGS:
            raise ModelFailed(
                f"no convergence in {MAX_OPENINGS} steps: narrow the covariates' bounds, or leave one out"
            )
        self.encoding = self._encoding(self.beta)

    def _on_the_way(self, score: Floats, information: Floats) -> None:
        error = math.ldexp(1.0, -self._bits)
        slack = 2 * error * float(np.abs(self._step).sum()) if self._step is not None else 0.0
        if self._step is not None and float(score @ self._step) < -(self._slope + slack):
            self._step, self._slope = self._step / 2, self._slope / 2
            self._check_way(self._step)
            self.beta = self.beta - self._step
            return
        least = float(np.linalg.eigvalsh(information)[0])
        noise = error * math.sqrt(len(score)) / least if least > 0 else math.inf
        if noise > _LARGEST_NOISE and self._bits < FRAC_BITS:
            self._bits = min(self._bits + _MORE_BITS, FRAC_BITS)
            return
        self._check(information, error)
        self._information = information
        step = _solved(information, score)
        self._check_way(step)
        if np.abs(step).max() < max(_NEAR, 3 * noise):
            self._phase = "ending"
        self._step = self._move(step)
        self._slope = abs(float(score @ self._step))

    def _check_way(self, step: Floats) -> None:
        if np.abs(self.beta + step).max() > _LARGEST_COEFFICIENT:
            raise self._monotone(step)
        if self.iterations < MAX_STEPS:
            return
        if np.abs(step).max() > _STILL_GROWING:
            raise self._monotone(step)
        self._phase = "ending"

    def _end_or_go_on(self, step: Floats) -> None:
        size = float(np.abs(step).max())
        if size < max(_TOLERANCE, self._noise) or size > 0.5 * self._last_step:
            # Near enough, or this information leads no nearer.
            self._phase = "end"
        self._last_step = size
        self._move(step)

    def _at_the_end(self, score: Floats, information: Floats) -> None:
        self._check(information, math.ldexp(1.0, -FRAC_BITS))
        self._information = information
        step = _solved(information, score)
        self.converged = bool(np.abs(step).max() < max(_TOLERANCE, self._noise))
        if not self.converged:
            self._phase, self._last_step = "ending", math.inf
        self._move(step)

    @property
    def _noise(self) -> float:
        # What rounding of the sums moves a step by is no reason to go on.
        least = float(np.linalg.eigvalsh(self._information)[0])
        error = _LEAST_ERROR + _ERROR_PER_INFORMATION * float(np.trace(self._information))
        return 4 * error / least if least > 0 else 0.0

    def _move(self, step: Floats) -> Floats:
        for _ in range(60):
            try:
                self._encoding(self.beta + step)
                break
            except ModelFailed:
                step = step / 2
        self.beta = self.beta + step
        return step

    def _encoding(self, beta: Floats) -> Encoding:
        return Encoding.of(self.design.reach(np.concatenate([[0.0], beta])), most_rows=self._most_rows)

    def _check(self, information: Floats, error: float) -> None:
        diagonal = np.diag(information)
        nothing = diagonal < max(2 * error, _NO_INFORMATION)
        if self._first_diagonal is None:
            if nothing.any():
                raise ModelFailed(
                    f"{self._named(nothing)}: no patient at risk differs in it from the others; merge the category "
                    "with another one, or leave the covariate out"
                )
            self._first_diagonal = diagonal
        vanished = nothing | (diagonal < _VANISHING * self._first_diagonal)
        if vanished.any():
            raise ModelFailed(MONOTONE.format(self._named(vanished)))
        scale = 1 / np.sqrt(diagonal)
        values, vectors = np.linalg.eigh(scale[:, None] * information * scale)
        if values[0] < _LEAST_EIGENVALUE:
            weights = np.abs(vectors[:, 0])
            involved = self._named(weights > 0.1 * weights.max())
            raise ModelFailed(f"the covariates are collinear ({involved}): leave one of them out")

    def _named(self, which: npt.NDArray[np.bool_]) -> str:
        return ", ".join(name for name, is_meant in zip(self.names, which, strict=True) if is_meant)

    def _monotone(self, step: Floats) -> ModelFailed:
        return ModelFailed(MONOTONE.format(self._named(np.abs(step) >= 0.5 * np.abs(step).max())))

    def fit(self) -> Fit:
        """Return coefficients in the columns' own units; to be called when it has converged."""
        scale = np.array(self.design.scale[1:])
        covariance = np.linalg.inv(self._information) / scale[:, None] / scale
        return Fit(self.names, self.beta / scale, covariance, self.iterations)


def _solved(matrix: Floats, right: Floats) -> Floats:
    return np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)


MONOTONE = (
    "a coefficient grows without bound, the likelihood is monotone in {}: at every time those with its largest, or "
    "smallest, values die; merge the category with another one, or leave the covariate out"
)
