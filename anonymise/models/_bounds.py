"""How much of a failing class can still be released, whatever happens to it at more specific nodes.

A class C is split there into parts; parts that fail are suppressed, the others together form a sub-multiset K of C. If
the union of passing parts passes (the model is monotone), K passes. So at least |C| - max |K| rows of C are lost, and
the models need the largest size of a passing sub-multiset. For those that limit shares it is at most the largest m
with

    sum_g min(c_g, u_g m) >= r m                                                                            (*)

c_g  rows of C in group g of values; u_g  share of K up to which rows of group g count; r  share to be reached

The left side minus the right one is concave in m and 0 at m = 0. So (*) holds on an interval [0, m*], and Newton's
method from above approaches m* without ever passing it: every iterate is a certified bound.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from anonymise.classes import FloatArray, IntArray

# Sums of some hundred shares are right to 1e-13. Slopes are lowered and quotients raised by more than that, so a bound
# may be a row too weak, never a row too strong.
_SLACK: Final = 1e-11
# Each step frees the groups whose limit does not bind any more; on real classes two or three leave little to gain.
_STEPS: Final = 6


def largest_kept(sizes: IntArray, counts: IntArray | FloatArray, shares: FloatArray, reached: float) -> IntArray:
    """Return, per class, a whole number that the size of no sub-multiset with (*) exceeds; at most the class's size.

    Parameters
    ----------
    sizes
        Rows of each class, shape (n_classes,).
    counts
        c_g, shape (n_classes, n_groups). Groups may overlap, as those of several partitions do.
    shares
        u_g, shape (n_groups,), each >= 0.
    reached
        r, > 0.

    Examples
    --------
    Eight rows of one value and two of another, and no value may fill more than half: four rows can stay.

    >>> largest_kept(np.array([10]), np.array([[8, 2]]), np.array([0.5, 0.5]), 1.0).tolist()
    [4]
    """
    rows = counts.astype(np.float64)
    kept = sizes.astype(np.float64)
    # The slope at m = 0: values that are not there cannot be made up for by leaving rows out.
    kept[(rows > 0) @ shares < reached - _SLACK] = 0.0
    at = np.flatnonzero(kept)
    rows = rows[at]
    for _ in range(_STEPS):
        if not at.size:
            break
        free = rows > np.multiply.outer(kept[at], shares)
        slope = reached - free @ shares - _SLACK
        filled = np.where(free, 0.0, rows).sum(axis=1)
        lower = np.full(at.size, np.inf)
        np.divide(filled * (1.0 + _SLACK), slope, out=lower, where=slope > 0.0)
        np.floor(lower, out=lower)
        moved = lower < kept[at]
        at, rows = at[moved], rows[moved]
        kept[at] = lower[moved]
    return kept.astype(np.int64)


def largest_within(sizes: IntArray, counts: IntArray, limits: FloatArray) -> IntArray:
    """Return, per class, a whole number that the size of no part with at most limits_v of its rows of value v exceeds.

    Rows are whole: a part of size m has at most min(c_v, floor(u_v m)) rows of v, so its size is at most the sum of
    these, which does not fall with m. Starting from above, each step from m to that sum stays above every such part.

    Examples
    --------
    A value that may fill a tenth is lost from fewer than ten rows, and the other two may not fill them alone.

    >>> largest_within(np.array([9]), np.array([[4, 4, 1]]), np.array([0.45, 0.45, 0.1])).tolist()
    [0]
    """
    kept = largest_kept(sizes, counts, limits, 1.0)
    at = np.flatnonzero(kept)
    rows = counts[at]
    for _ in range(_STEPS):
        if not at.size:
            break
        fitting = np.floor(np.multiply.outer(kept[at], limits * (1.0 + _SLACK)) + _SLACK)
        lower = np.minimum(rows, fitting).sum(axis=1).astype(np.int64)
        moved = lower < kept[at]
        at, rows = at[moved], rows[moved]
        kept[at] = lower[moved]
    return kept
