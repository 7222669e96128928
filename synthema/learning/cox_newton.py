"""Newton's method for Cox's model on opened scores and informations: public, the same at every site and member.

The log partial likelihood is concave, and its value is not opened on the way. A step went too far if the score behind
it points back by more than it pointed forward before: then half of it is taken. A step beyond what the next sums could
hold is shortened.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthema.errors import ModelFailed
from synthema.learning.cox_sums import Encoding
from synthema.learning.design import Design, Floats

MAX_ITERATIONS = 15
# A last step so small is squared by the next one.
_TOLERANCE = 1e-7
# Error of an opened score for each death, and at the least: see `cox_shares`.
_ERROR_PER_DEATH, _LEAST_ERROR = 2.0**-29, 2.0**-23
# Log hazard ratios beyond this (per half range of a covariate) mean that the likelihood has no maximum.
_LARGEST_COEFFICIENT = 30.0
# Least eigenvalue of the information, scaled to a diagonal of ones, that is not collinearity.
_LEAST_EIGENVALUE = 1e-7
# Information of a covariate in which patients at risk do not differ.
_NO_INFORMATION = 1e-4
# Last steps of a fit that does not converge: beyond this, some coefficient grows for ever.
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
    ...     b = newton.beta[0]
    ...     newton.update(np.array([20 - 40 / (1 + np.exp(-b)), 40 * np.exp(-b) / (1 + np.exp(-b)) ** 2]) + [5, 0])
    >>> round(float(newton.beta[0]), 6), round(float(np.log(25 / 15)), 6)
    (0.510826, 0.510826)
    """

    def __init__(self, design: Design, *, most_rows: int) -> None:
        self.design, self._most_rows = design, most_rows
        self.beta: Floats = np.zeros(len(design.terms))
        self.encoding = self._encoding(self.beta)
        self.iterations = 0
        self.converged = False
        self._step: Floats | None = None
        self._slope = 0.0
        self._halvings = 0
        self._information: Floats = np.eye(len(self.beta))
        self._first_diagonal: Floats | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return self.design.names[1:]

    def update(self, opened: Floats) -> None:
        """Take pooled score and upper triangle of the information at `beta`, and move.

        Raises ModelFailed, naming the reason and the way out.
        """
        p = len(self.beta)
        score, information = opened[:p], np.zeros((p, p))
        information[np.triu_indices(p)] = opened[p:]
        information += np.triu(information, 1).T
        self.iterations += 1
        if self._step is not None and float(score @ self._step) < -max(self._slope, 1e-6):
            # Too far: back by half of the step.
            self._halvings += 1
            self._step = self._step / 2
            self._slope /= 2
            self._move(self.beta - self._step, self._step)
            return
        self._check(information)
        self._information = information
        step = np.linalg.solve(information, score)
        self._slope = float(score @ step)
        least = float(np.linalg.eigvalsh(information)[0])
        # What rounding of the sums moves a step by is no reason to go on.
        noise = 4 * (_LEAST_ERROR + _ERROR_PER_DEATH * float(np.trace(information))) / least
        self.converged = bool(np.abs(step).max() < max(_TOLERANCE, noise))
        if self.converged:
            self.beta = self.beta + step
            return
        if np.abs(self.beta + step).max() > _LARGEST_COEFFICIENT:
            raise self._separated(step)
        full = step
        for _ in range(60):
            try:
                self._encoding(self.beta + step)
                break
            except ModelFailed:
                step = step / 2
        self._step, self._slope = step, self._slope * float(np.abs(step).max() / np.abs(full).max())
        self._move(self.beta + step, full)

    def _move(self, beta: Floats, wanted: Floats) -> None:
        if self.iterations >= MAX_ITERATIONS:
            if np.abs(wanted).max() > _STILL_GROWING:
                raise self._separated(wanted)
            raise ModelFailed(
                f"no convergence in {MAX_ITERATIONS} Newton steps: narrow the covariates' bounds, or leave one out"
            )
        self.encoding = self._encoding(beta)
        self.beta = beta

    def final_encoding(self) -> Encoding:
        """Return the encoding at the maximum, for the log-likelihood."""
        return self._encoding(self.beta)

    def _encoding(self, beta: Floats) -> Encoding:
        return Encoding.of(self.design.reach(np.concatenate([[0.0], beta])), most_rows=self._most_rows)

    def _check(self, information: Floats) -> None:
        diagonal = np.diag(information)
        nothing = [self.names[j] for j in range(len(diagonal)) if not diagonal[j] > _NO_INFORMATION]
        if self._first_diagonal is None:
            if nothing:
                raise ModelFailed(
                    f"{', '.join(nothing)}: no patient at risk differs in it from the others; merge the category with "
                    "another one, or leave the covariate out"
                )
            self._first_diagonal = diagonal
        vanished = diagonal < np.maximum(_VANISHING * self._first_diagonal, _NO_INFORMATION)
        if vanished.any():
            names = [self.names[j] for j in np.nonzero(vanished)[0]]
            raise ModelFailed(MONOTONE.format(", ".join(names)))
        scale = 1 / np.sqrt(diagonal)
        values, vectors = np.linalg.eigh(scale[:, None] * information * scale)
        if values[0] >= _LEAST_EIGENVALUE:
            return
        weights = np.abs(vectors[:, 0])
        involved = [name for name, weight in zip(self.names, weights, strict=True) if weight > 0.1 * weights.max()]
        raise ModelFailed(f"the covariates are collinear ({', '.join(involved)}): leave one of them out")

    def _separated(self, step: Floats) -> ModelFailed:
        growing = np.abs(step) >= 0.5 * np.abs(step).max()
        names = [name for name, grows in zip(self.names, growing, strict=True) if grows]
        return ModelFailed(MONOTONE.format(", ".join(names)))

    def fit(self) -> Fit:
        """Return coefficients in the columns' own units; to be called when it has converged."""
        scale = np.array(self.design.scale[1:])
        covariance = np.linalg.inv(self._information) / scale[:, None] / scale
        return Fit(self.names, self.beta / scale, covariance, self.iterations)


MONOTONE = (
    "a coefficient grows without bound, the likelihood is monotone in {}: at every time those die who have its largest, "
    "or smallest, values; merge the category with another one, or leave the covariate out"
)
