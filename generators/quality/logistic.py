"""Logistic regression by Newton's method, and what its predictions are worth.

beta       coefficients, the first belongs to the column of ones;  minimises
           -sum_i (y_i eta_i - log(1 + exp eta_i)) + ridge/2 * sum_{j>0} beta_j^2,  eta = X beta
A Hessian is kept for as long as it makes good steps: near "no effect", where most fits here end, one is enough.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from generators.errors import NotConverged

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_BLOCK = 4096
_MOST_STEPS = 200


def fit_logistic(X: FloatArray, y: BoolArray, *, ridge: float, tolerance: float = 1e-8) -> FloatArray:
    """Return the coefficients, shape (n_columns,).

    Parameters
    ----------
    X
        Shape (n_rows, n_columns), the first column all ones.
    y
        Outcomes, shape (n_rows,).
    ridge
        Penalty, > 0: then the minimum exists and is unique, even if the outcomes can be separated.
    tolerance
        The objective is within about this of its minimum.

    Raises
    ------
    NotConverged
        If 200 steps were not enough.

    Examples
    --------
    >>> X = np.column_stack([np.ones(4), [0.0, 0.0, 1.0, 1.0]])
    >>> fit_logistic(X, np.array([True, False, True, True]), ridge=1.0).round(3)
    array([0.899, 0.421])
    """
    penalty = np.full(X.shape[1], ridge)
    penalty[0] = 0
    beta = np.zeros(X.shape[1])
    share = (y.sum() + 0.5) / (y.size + 1)
    beta[0] = np.log(share / (1 - share))
    outcome = y.astype(np.float64)
    factor: FloatArray | None = None
    eta = X @ beta
    value = _objective(eta, outcome) + 0.5 * float(penalty @ beta**2)
    before = np.inf
    for _ in range(_MOST_STEPS):
        p = expit(eta)
        gradient = X.T @ (outcome - p) - penalty * beta
        if factor is None:
            factor = _inverse(X, p * (1 - p), penalty)
            fresh = True
        step = factor @ gradient
        decrement = float(gradient @ step)
        if decrement < 2 * tolerance and (fresh or decrement < 0.02 * tolerance):
            return beta
        if not fresh and decrement > 0.25 * before:
            # The old Hessian has stopped paying for itself.
            factor, before = None, np.inf
            continue
        before, fresh = decrement, False
        size = 1.0
        while True:
            trial = eta + size * (X @ step)
            candidate = beta + size * step
            new = _objective(trial, outcome) + 0.5 * float(penalty @ candidate**2)
            if new <= value + 1e-10 * abs(value) or size < 1e-6:
                break
            size /= 2
        if size < 1:
            factor = None
        beta, eta, value = candidate, trial, new
    raise NotConverged("the logistic regression did not converge; give more rows or a larger ridge")


def expit(eta: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-eta))."""
    out: FloatArray = 0.5 * (1 + np.tanh(0.5 * eta))
    return out


def auc(score: FloatArray, y: BoolArray) -> float:
    """Return the chance that a random positive scores above a random negative, ties counting half; NaN without both.

    Examples
    --------
    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    return weighted_auc(np.unique(score, return_inverse=True)[1], y, np.ones(y.size))


def weighted_auc(rank: npt.NDArray[np.intp], y: BoolArray, weights: FloatArray) -> float:
    """Return the same for rows of these ranks that count so often each."""
    size = int(rank.max()) + 1
    positive = np.bincount(rank, weights=weights * y, minlength=size)
    negative = np.bincount(rank, weights=weights * ~y, minlength=size)
    below = np.cumsum(negative) - negative / 2
    pairs = float(positive.sum()) * float(negative.sum())
    return float(positive @ below) / pairs if pairs else float("nan")


def brier(p: FloatArray, y: BoolArray) -> float:
    """Return the mean squared error of predicted probabilities."""
    return float(np.mean((p - y) ** 2))


def _objective(eta: FloatArray, y: FloatArray) -> float:
    return float(np.logaddexp(0, eta).sum() - y @ eta)


def _inverse(X: FloatArray, weights: FloatArray, penalty: FloatArray) -> FloatArray:
    H = np.diag(penalty)
    for start in range(0, len(X), _BLOCK):
        block = X[start : start + _BLOCK]
        H += block.T @ (block * weights[start : start + _BLOCK, None])
    # A column of ones keeps the first diagonal entry away from zero; its own ridge of zero needs this floor.
    H[0, 0] += 1e-12
    return np.asarray(np.linalg.inv(H), dtype=np.float64)
