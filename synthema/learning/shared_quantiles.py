"""Quantiles of a histogram on shares: opened is a bin that holds enough patients, and nothing of the others.

A row of H counts patients in B = 2^L equal bins of a public range. The q-quantile is the value of patient
k = ceil(q n), who lies in the first bin whose cumulative count reaches k. That bin may hold few patients: then the bin
of twice the width is looked at, and so on. A wider bin holds the patients of the narrower ones in it, so the levels at
which there are enough follow each other, and which is the first needs no comparison of its own.

Opened is one number for each quantile: which bin of which width, or that the widest would show too few. That a
narrower bin was not opened tells that it held fewer than the least cell; not how many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from privacy.schema import Column
    from smpc import Session, Shared

Ints = npt.NDArray[np.int64]

# 64 bins of the whole range, then 32, 16, 8 and 4.
LEVELS = (64, 32, 16, 8, 4)
FINEST = LEVELS[0]


@dataclass(frozen=True, slots=True)
class Bins:
    """Equal bins of a column's public range: the finest, of which wider ones are pairs.

    Bins of whole numbers begin at whole numbers, and may go beyond the upper bound.
    """

    low: float
    width: float
    whole: bool

    @classmethod
    def of(cls, column: Column) -> Bins:
        """Return the bins of a numeric column."""
        low, high = (float(edge) for edge in column.bin_edges[[0, -1]])
        if column.kind == "integer":
            return cls(low, float(math.ceil((high - low + 1) / FINEST)), whole=True)
        return cls(low, (high - low) / FINEST, whole=False)

    def count(self, values: npt.NDArray[np.float64]) -> Ints:
        """Return how many values each of the finest bins holds, shape (FINEST,)."""
        code = np.minimum(np.floor((values - self.low) / self.width).astype(np.int64), FINEST - 1)
        return np.bincount(code, minlength=FINEST).astype(np.int64)

    def range_of(self, opened: int) -> tuple[float, float] | None:
        """Return what `open_quantiles` means: lowest and highest value of the bin; None if nothing was opened."""
        index = opened - 1
        for level in LEVELS:
            if 0 <= index < level:
                width = self.width * (FINEST // level)
                start = self.low + index * width
                return (start, start + width - 1) if self.whole else (start, start + width)
            index -= level
        return None


def rank_of(quantile: float, n: int) -> int:
    """Return which patient, from the lowest, is the quantile of n; at least the first.

    Examples
    --------
    >>> [rank_of(0.5, 4), rank_of(0.25, 5), rank_of(0.01, 3)]
    [2, 2, 1]
    """
    # 0.1 * 30 is a little more than 3 in floating point, and rank 4 would be another patient.
    return max(1, math.ceil(quantile * n * (1 - 1e-12)))


async def open_quantiles(
    session: Session, histograms: Shared, ranks: Sequence[Sequence[int]], *, min_cell: int
) -> Ints:
    """Return for each row and rank the number of a bin (`Bins.range_of`); 0: too few patients in the widest.

    Parameters
    ----------
    histograms
        Counts in RING64 of a declared range, shape (R, FINEST).
    ranks
        Public, R rows of as many ranks each, 1..n of the row.

    Returns
    -------
    Shape (R, Q).

    Examples
    --------
    >>> from smpc import run_local
    >>> table = np.zeros((1, FINEST), dtype=np.int64)
    >>> table[0, [3, 9, 40]] = 2, 6, 2
    >>> async def protocol(s, x):
    ...     a = await s.input(x, max_abs=100)
    ...     return await open_quantiles(s, a[0] + a[1], [[5, 10]], min_cell=5)
    >>> found = run_local(protocol, inputs=[table, 0 * table]).results[0]
    >>> [Bins(0.0, 1.0, whole=True).range_of(int(each)) for each in found[0]]
    [(9.0, 9.0), None]
    """
    n_rows, n_ranks = len(ranks), len(ranks[0])
    row = np.repeat(np.arange(n_rows), n_ranks)
    wanted = np.array(ranks, dtype=np.int64).reshape(-1, 1)
    found = await session.together(*(_level(session, histograms, row, wanted, level, min_cell) for level in LEVELS))
    offset, narrower = 1, None
    chosen = []
    for level, (index, enough) in zip(LEVELS, found, strict=True):
        first = enough if narrower is None else enough - narrower
        chosen.append((first, index + offset))
        narrower, offset = enough, offset + level
    products = await session.mul_many(chosen)
    total = products[0]
    for product in products[1:]:
        total = total + product
    opened: Ints = await session.open(total)
    return opened.reshape(n_rows, n_ranks)


async def _level(
    session: Session, histograms: Shared, row: Ints, wanted: Ints, level: int, min_cell: int
) -> tuple[Shared, Shared]:
    """Return the bin of each wanted rank and whether it holds enough patients, as shares, shape (R Q,) each."""
    merged = histograms @ np.repeat(np.eye(level, dtype=np.int64), FINEST // level, axis=0)
    below = merged @ np.triu(np.ones((level, level), dtype=np.int64))
    bits = await session.negative_bits((below[row] - wanted).reshape(-1))
    before = (await session.to_numbers(bits)).reshape(len(row), level)
    # 1 in the bin of the rank: the cumulative count is below it before the bin, and not after.
    shift = np.eye(level, k=1, dtype=np.int64)
    first = np.zeros(level, dtype=np.int64)
    first[0] = 1
    there = before @ shift - before + first
    held = (await session.mul(there, merged[row])).sum(axis=1)
    few = await session.to_numbers(await session.negative_bits(held - min_cell))
    return before.sum(axis=1), 1 - few
