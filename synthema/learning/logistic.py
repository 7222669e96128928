"""Logistic regression by Newton steps on secret-shared sums, equal to the fit on the pooled rows.

In each step every site computes its score X'(y - p) and information X'WX at the current coefficients, shares them in
fixed point, and only their sums over all sites are opened. Covariates are scaled by the schema's public bounds, so
that every entry is at most one per patient; the coefficients are given back in the columns' own units.

What is opened are sums of known functions of the covariates. The first coefficients are not zero (`start`), so that
no sum is a count as it stands; but whoever sees the sums of several steps can combine them into good estimates of
counts by category, and round. So counts up to the horizon are treated as known to the compute parties, beside the
curves (`kaplan_meier.horizon_may_be_known`), and only coefficients and standard errors go to readers. Sums are rounded
to 2^-28: enough for estimates to 8 digits, and no more than that.

Before anything is opened, two things are tested on shares: the outcome and its absence have at least 3 patients per
coefficient (p <= 0.33 x events), and every cell of the table of outcome and all categorical covariates holds 0 or at
least `min_cell` patients. Which covariates are allowed at all is in `synthema.learning.covariates`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy import Schema
from smpc import FixedPoint, Session, Shared, small_cells
from synthema.errors import ModelFailed
from synthema.learning.covariates import PARAMETER_RATIO, categorical, n_cells
from synthema.released import Coefficient, LogisticModel

FRAC_BITS = 28
MAX_PATIENTS = 2**20
MAX_ITERATIONS = 12
# Rounding of the opened sums moves a step by less than this once the information is of the order of one.
_TOLERANCE = 1e-7
# Log odds ratios beyond this (per half range of a covariate) mean that the outcome is separated.
_LARGEST_COEFFICIENT = 30.0

FLOATS = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Design:
    """Public shape of the model: one term per numeric covariate, one per category but the first.

    terms     (column, category or "") of each coefficient after the intercept
    centre    subtracted from each term's raw value, shape (p,), 0 for the intercept
    scale     divides it, shape (p,), 1 for the intercept
    """

    terms: tuple[tuple[str, str], ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients, the intercept included."""
        return len(self.terms) + 1


def design_of(schema: Schema, covariates: Sequence[str]) -> Design:
    """Return the model's public shape from the schema alone."""
    terms: list[tuple[str, str]] = []
    centre, scale = [0.0], [1.0]
    for name in covariates:
        column = schema.column(name)
        if column.categories:
            terms.extend((name, category) for category in column.categories[1:])
            centre.extend(0.0 for _ in column.categories[1:])
            scale.extend(1.0 for _ in column.categories[1:])
        else:
            low, high = column.bin_edges[[0, -1]]
            terms.append((name, ""))
            centre.append(float(low + high) / 2)
            scale.append(float(high - low) / 2)
    return Design(terms=tuple(terms), centre=tuple(centre), scale=tuple(scale))


def outcome_within(
    time: npt.NDArray[np.float64 | np.int64], event: npt.NDArray[np.bool_], horizon_days: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return (known, died): whose state at the horizon is known, and who had died by then.

    Examples
    --------
    >>> known, died = outcome_within(np.array([10.0, 10, 365, 400]), np.array([True, False, False, True]), 365)
    >>> known.tolist(), died.tolist()
    ([True, False, True, True], [True, False, False, False])
    """
    died = event & (time <= horizon_days)
    return died | (time >= horizon_days), died


def design_matrix(columns: dict[str, npt.NDArray[Any]], schema: Schema, design: Design) -> FLOATS:
    """Return the scaled design matrix, shape (n, p), every entry in [-1, 1]."""
    n = len(next(iter(columns.values())))
    out = np.ones((n, design.n_coefficients))
    for j, (name, category) in enumerate(design.terms, start=1):
        column = schema.column(name)
        if category:
            raw = (column.encode(columns[name]) == column.categories.index(category)).astype(np.float64)
        else:
            raw = columns[name].astype(np.float64)
        out[:, j] = (raw - design.centre[j]) / design.scale[j]
    return out


def score_and_information(x: FLOATS, died: npt.NDArray[np.bool_], beta: FLOATS) -> FLOATS:
    """Return the score and the upper triangle of the information, shape (p + p (p + 1) / 2,)."""
    p = 0.5 * (1 + np.tanh(0.5 * (x @ beta)))
    score = x.T @ (died - p)
    information = (x * (p * (1 - p))[:, None]).T @ x
    return np.concatenate([score, information[np.triu_indices(len(beta))]])


def small_count_table(
    columns: dict[str, npt.NDArray[Any]], schema: Schema, covariates: Sequence[str], died: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return the counts that are tested before anything is opened, shape (2 + cells,).

    First those without and with the outcome, then the table of the outcome and all categorical covariates.
    """
    cell = died.astype(np.int64)
    for column in categorical(schema, covariates):
        cell = cell * len(column.categories) + column.encode(columns[column.name])
    outcome = np.bincount(died.astype(np.int64), minlength=2)
    return np.concatenate([outcome, np.bincount(cell, minlength=n_cells(schema, covariates))]).astype(np.int64)


async def check_counts(session: Session, counts: Shared, *, n_coefficients: int, min_cell: int) -> str:
    """Return why the model may not be opened, or "" if it may. Opens one yes/no per tested count.

    `counts`: shares in FIELD61 of the pooled `small_count_table`.
    """
    # +1 makes an outcome that nobody (or everybody) had count as too rare as well.
    least = math.ceil(n_coefficients / PARAMETER_RATIO)
    rare = await small_cells(session, counts[:2] + 1, threshold=least + 1)
    if rare.any():
        return f"{n_coefficients} coefficients need at least {least} patients with and without the outcome"
    if (await small_cells(session, counts[2:], threshold=min_cell)).any():
        return f"a cell of outcome and categories holds 1 to {min_cell - 1} patients: merge rare categories"
    return ""


def fixed_point() -> FixedPoint:
    """Return the encoding of score and information."""
    return FixedPoint(FRAC_BITS)


def start(design: Design) -> FLOATS:
    """Return the first coefficients (of the scaled covariates): public, small, and different from zero.

    Near enough to zero for Newton's method, far enough for weights that differ between patients in the second digit.
    """
    signs = np.where(np.arange(design.n_coefficients) % 2 == 0, 1.0, -1.0)
    return signs * (0.3 + 0.05 * np.arange(design.n_coefficients) / design.n_coefficients)


class Newton:
    """Newton's method on opened sums: give it each opening, ask it for the next coefficients.

    Examples
    --------
    >>> newton = Newton(Design(terms=(), centre=(0.0,), scale=(1.0,)))
    >>> x, died = np.ones((4, 1)), np.array([True, False, False, False])
    >>> while not newton.converged:
    ...     newton.update(score_and_information(x, died, newton.beta))
    >>> round(float(newton.beta[0]), 6), round(float(np.log(1 / 3)), 6)
    (-1.098612, -1.098612)
    """

    def __init__(self, design: Design) -> None:
        self.design = design
        self.beta: FLOATS = start(design)
        self.iterations = 0
        self.converged = False
        self._information: FLOATS = np.eye(design.n_coefficients)

    def update(self, opened: FLOATS) -> None:
        """Take the pooled score and information at `beta` and move. Raises ModelFailed, naming the reason."""
        p = self.design.n_coefficients
        score = opened[:p]
        information = np.zeros((p, p))
        information[np.triu_indices(p)] = opened[p:]
        information = information + np.triu(information, 1).T
        self._information = information
        # Scaled covariates: a condition number beyond this is collinearity, not units.
        if not np.isfinite(information).all() or np.linalg.cond(information) > 1e10:
            raise ModelFailed("the covariates are collinear or the outcome is separated: leave one covariate out")
        step = np.linalg.solve(information, score)
        self.beta = self.beta + step
        self.iterations += 1
        if np.abs(self.beta).max() > _LARGEST_COEFFICIENT:
            raise ModelFailed("a coefficient grows without bound (the outcome is separated): leave a covariate out")
        self.converged = bool(np.abs(step).max() < _TOLERANCE)
        if not self.converged and self.iterations >= MAX_ITERATIONS:
            raise ModelFailed(f"no convergence in {MAX_ITERATIONS} Newton steps")

    def model(self, *, outcome: str) -> LogisticModel:
        """Return coefficients and standard errors in the columns' own units."""
        p = self.design.n_coefficients
        # beta' x_scaled = (beta / scale)' x + intercept - sum(beta centre / scale)
        back = np.diag(1 / np.array(self.design.scale))
        back[0, 1:] = -np.array(self.design.centre[1:]) / np.array(self.design.scale[1:])
        estimate = back @ self.beta
        std_error = np.sqrt(np.diag(back @ np.linalg.inv(self._information) @ back.T))
        names = ["intercept", *(f"{name} = {category}" if category else name for name, category in self.design.terms)]
        return LogisticModel(
            outcome=outcome,
            coefficients=tuple(Coefficient(names[j], float(estimate[j]), float(std_error[j])) for j in range(p)),
            iterations=self.iterations,
        )


def model_to_json(model: LogisticModel) -> dict[str, Any]:
    """Return the model as plain data for the ledger; numbers are exact decimal strings."""
    return {
        "outcome": model.outcome,
        "iterations": model.iterations,
        "coefficients": [[c.term, repr(c.estimate), repr(c.std_error)] for c in model.coefficients],
    }


def model_from_json(data: dict[str, Any]) -> LogisticModel:
    """Return what `model_to_json` wrote."""
    return LogisticModel(
        outcome=data["outcome"],
        iterations=data["iterations"],
        coefficients=tuple(Coefficient(term, float(est), float(se)) for term, est, se in data["coefficients"]),
    )
