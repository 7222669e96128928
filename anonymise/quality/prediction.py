"""How well a column can be predicted from others: naive Bayes, judged on rows that it has not seen.

n_y        rows with target value y;  n_jxy  those of them with value x in column j
p(y | x)   proportional to (n_y + 1) product over j of (n_jxy + 1) / (n_y + V_j), V_j values of column j (Laplace)

Every row is predicted from all rows but itself: its own counts are taken out of the formula, which is leave-one-out
cross-validation in closed form. So the accuracy depends on no fold, no seed and no order of rows. Of equally likely
values the first in the target's order is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from anonymise.classes import IntArray

# Rows times target values that are scored at a time.
_CELLS: Final = 4_000_000
_TIE: Final = 1e-9


def leave_one_out_accuracy(columns: Sequence[IntArray], target: IntArray) -> float:
    """Return the share of rows whose target value is predicted from their other columns, each without itself.

    Parameters
    ----------
    columns
        Codes of the predictors, shape (n_rows,) each.
    target
        Codes of the target, shape (n_rows,).

    Examples
    --------
    >>> x = np.array([0, 0, 0, 1, 1, 1])
    >>> leave_one_out_accuracy([x], x)
    1.0
    >>> leave_one_out_accuracy([np.zeros(6, dtype=np.int64)], x)
    0.0
    """
    # Rows that are equal in everything are predicted alike.
    table = np.stack([target, *columns])
    cells, times = np.unique(table, axis=1, return_counts=True)
    y, predictors = cells[0], cells[1:]
    n_values = int(target.max()) + 1
    of_value = np.bincount(y, weights=times, minlength=n_values)
    counts = []
    for codes in predictors:
        size = int(codes.max()) + 1
        joint = np.bincount(codes * n_values + y, weights=times, minlength=size * n_values)
        counts.append(joint.reshape(size, n_values))
    right = 0
    step = max(1, _CELLS // n_values)
    for start in range(0, y.size, step):
        some = slice(start, start + step)
        own = np.zeros((y[some].size, n_values))
        own[np.arange(own.shape[0]), y[some]] = 1.0
        n_y = of_value - own
        scores = np.log(n_y + 1.0)
        for codes, joint in zip(predictors, counts, strict=True):
            scores += np.log(joint[codes[some]] - own + 1.0) - np.log(n_y + joint.shape[0])
        # Equal likelihoods may differ by rounding: the first of those within it is meant.
        first = (scores >= scores.max(axis=1, keepdims=True) - _TIE).argmax(axis=1)
        right += int(times[some][first == y[some]].sum())
    return right / target.size


def majority_accuracy(target: IntArray) -> float:
    """Return the share of the most frequent value: what predicting without any column achieves."""
    return float(np.bincount(target).max()) / target.size
