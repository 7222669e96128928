"""Class sizes where a missing or a "*" cell says nothing: it agrees with any value.

Two rows agree if, column by column, their values are equal or one of them is a wildcard. This is no equivalence (one
row can agree with two that disagree), so each row has a crowd of its own instead of a class.

pattern   which columns are wildcards; rows of two patterns are compared on the columns that are known in both,
          which makes each pair of patterns a join on equal keys, exact and without comparing rows
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from anonymise.classes import IntArray
from anonymise.encoded import Codes, dense_key

BoolArray = npt.NDArray[np.bool_]

# A join of two patterns costs about as much as this many comparisons of one cell.
_JOIN: Final = 100_000
_CELLS: Final = 4_000_000


def crowds(
    tuples: Codes, wild: BoolArray, others: Codes, others_wild: BoolArray, counts: IntArray, sizes: list[int]
) -> IntArray:
    """Return, for each tuple, how many of the others agree with it.

    Parameters
    ----------
    tuples, wild
        Codes of the tuples, and which cells are wildcards (their codes are not looked at), shape (n_columns, n_tuples).
    others, others_wild
        What they are compared with, shape (n_columns, n_others).
    counts
        How many rows (or people) each of the others stands for, shape (n_others,).
    sizes
        A bound above the codes of each column.

    Returns
    -------
    Shape (n_tuples,).

    Examples
    --------
    >>> codes, unknown = np.array([[0, 1, 0]], dtype=np.int32), np.array([[False, False, True]])
    >>> crowds(codes, unknown, codes, unknown, np.array([5, 2, 1]), [2])
    array([6, 3, 8])
    """
    groups, other_groups = _patterns(wild), _patterns(others_wild)
    by_joins = len(groups) * len(other_groups) * _JOIN
    if by_joins > tuples.shape[1] * others.shape[1] * tuples.shape[0]:
        return _compared(tuples, wild, others, others_wild, counts)
    out = np.zeros(tuples.shape[1], dtype=np.int64)
    for group in groups:
        for other_group in other_groups:
            known = np.flatnonzero(~(wild[:, group[0]] | others_wild[:, other_group[0]]))
            weights = counts[other_group]
            if known.size == 0:
                out[group] += int(weights.sum())
                continue
            # One numbering for both sides.
            columns = [np.concatenate([tuples[j, group], others[j, other_group]]) for j in known]
            key, size = dense_key(columns, [sizes[j] for j in known])
            # Whole numbers below 2^53 are exact in float64.
            total = np.bincount(key[group.size :], weights=weights, minlength=size)
            out[group] += total[key[: group.size]].astype(np.int64)
    return out


def _patterns(wild: BoolArray) -> list[IntArray]:
    """Return the positions of the tuples of each pattern."""
    key, _ = dense_key([column.astype(np.int32) for column in wild], [2] * wild.shape[0])
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def _compared(tuples: Codes, wild: BoolArray, others: Codes, others_wild: BoolArray, counts: IntArray) -> IntArray:
    """Compare each with each, a block at a time: cheaper where nearly every tuple has a pattern of its own."""
    n_columns, n = tuples.shape
    out = np.empty(n, dtype=np.int64)
    for block in np.array_split(np.arange(n), max(1, n * others.shape[1] // _CELLS)):
        agree = np.ones((block.size, others.shape[1]), dtype=bool)
        for j in range(n_columns):
            agree &= (tuples[j, block, None] == others[j][None]) | wild[j, block, None] | others_wild[j][None]
        out[block] = agree @ counts
    return out
