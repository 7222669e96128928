"""Analyses of one table with the variance that a real table would have: a mean, a survival probability, a regression.

The variances hold for a real table. For a synthetic one they are too small (they ignore the noise, and that it was
drawn from a model of a table that was drawn itself): combine the estimates of several copies instead (`combining`).

Sources: Kaplan, Meier 1958, J. Am. Stat. Assoc. 53:457 and Greenwood 1926 (survival); McCullagh, Nelder 1989,
Generalized Linear Models, sections 4.4 and 3.2 (logistic and linear regression).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from generators.errors import DomainMismatch
from generators.factor import FloatArray
from generators.survival import kaplan_meier, kaplan_meier_variance

_MOST_STEPS = 50
_SMALL_STEP = 1e-10


class Answer(NamedTuple):
    """An estimate and its variance as if the table were real, of the same shape."""

    estimate: FloatArray
    variance: FloatArray


def mean(values: npt.ArrayLike) -> Answer:
    """Return the mean of a column.

    Examples
    --------
    >>> estimate, variance = mean([1, 2, 3, 4])
    >>> float(estimate), round(float(variance), 4)
    (2.5, 0.4167)
    """
    numbers = _numbers(values, 1)
    if len(numbers) < 2:
        raise DomainMismatch("a mean with a variance needs at least two values")
    return Answer(numbers.mean(), numbers.var(ddof=1) / len(numbers))


def survival_at(time: npt.ArrayLike, event: npt.ArrayLike, at: npt.ArrayLike) -> Answer:
    """Return the Kaplan-Meier probability of surviving beyond each time in `at`, with Greenwood's variance.

    Parameters
    ----------
    time
        Follow-up times, shape (n,), n >= 1.
    event
        True where the event happened at that time, False where follow-up ended, shape (n,).
    at
        A time, or several, shape (k,).

    Examples
    --------
    >>> survival, variance = survival_at([1, 2, 3, 4], [1, 0, 1, 0], [3.5])
    >>> survival.tolist(), variance.round(5).tolist()
    ([0.375], [0.08203])
    """
    return Answer(kaplan_meier(time, event, at), kaplan_meier_variance(time, event, at))


def linear_regression(x: npt.ArrayLike, y: npt.ArrayLike) -> Answer:
    """Return the coefficients of least squares: intercept first, then one for each column of `x`.

    Parameters
    ----------
    x
        Shape (n,) or (n, k): numbers, without an intercept. The columns must not determine one another.
    y
        Shape (n,).

    Examples
    --------
    >>> linear_regression([0, 1, 2, 3], [1.0, 3.0, 5.0, 7.0]).estimate.round(6).tolist()
    [1.0, 2.0]
    """
    design, outcome = _design(x, y)
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ (design.T @ outcome)
    rest = outcome - design @ coefficients
    return Answer(coefficients, np.diag(inverse) * float(rest @ rest) / (len(outcome) - design.shape[1]))


def logistic_regression(x: npt.ArrayLike, y: npt.ArrayLike) -> Answer:
    """Return the log odds of maximum likelihood: intercept first, then one for each column of `x`.

    Parameters
    ----------
    x
        Shape (n,) or (n, k): numbers, without an intercept. The columns must not determine one another.
    y
        Outcome, True or False, shape (n,); both must occur, and no combination of columns may tell them apart.

    Raises
    ------
    DomainMismatch
        If there is no finite maximum.

    Examples
    --------
    >>> logistic_regression([0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1]).estimate.round(4).tolist()
    [-0.6931, 1.3863]
    """
    design, outcome = _design(x, np.asarray(y, dtype=bool))
    coefficients = np.zeros(design.shape[1])
    for _ in range(_MOST_STEPS):
        expected = 1 / (1 + np.exp(-np.clip(design @ coefficients, -500, 500)))
        information = (design * (expected * (1 - expected))[:, None]).T @ design
        try:
            step = np.linalg.solve(information, design.T @ (outcome - expected))
        except np.linalg.LinAlgError:
            break
        # A step beyond this leaves the region where the quadratic model holds.
        coefficients = coefficients + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        if float(np.abs(step).max()) < _SMALL_STEP:
            return Answer(coefficients, np.diag(np.linalg.inv(information)))
    raise DomainMismatch("the log odds have no finite maximum: the columns tell the outcomes apart, or each other")


def _design(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    columns = np.asarray(x, dtype=np.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    design = np.column_stack([np.ones(len(columns)), columns])
    outcome = _numbers(y, 1)
    if design.ndim != 2 or len(design) != len(outcome) or not np.isfinite(design).all():
        raise DomainMismatch("x and y must be finite, with one row of x for each value of y")
    if len(design) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        raise DomainMismatch(
            "the columns of x determine one another, or there are too few rows: leave some columns out"
        )
    return design, outcome


def _numbers(values: npt.ArrayLike, n_axes: int) -> FloatArray:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != n_axes or not np.isfinite(numbers).all():
        raise DomainMismatch(f"values must be finite numbers in an array of {n_axes} axes, without missing ones")
    return numbers
