"""How many rows meet a conjunction of conditions: bit sets, one word for 64 rows.

A condition (column, relation, value) becomes a bit set of the table once for a block of conjunctions; a conjunction is
then an AND, and its count a population count.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.attacks.table import IntArray, Rows

# Bit sets of one block: 2^23 words are 64 MB.
_BLOCK_WORDS = 1 << 23


class Relation(IntEnum):
    """What a condition asks of a value; a missing number meets only MISSING."""

    EQUAL = 0
    AT_LEAST = 1
    AT_MOST = 2
    MISSING = 3
    UNEQUAL = 4
    ABOVE = 5
    BELOW = 6


@dataclass(frozen=True, slots=True)
class Conjunctions:
    """Conjunctions of k conditions each: three arrays of shape (n, k).

    columns    positions of the columns, ascending within a conjunction
    relations  `Relation`s
    values     category codes or numbers
    """

    columns: IntArray
    relations: IntArray
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.columns)

    def take(self, positions: npt.NDArray[Any]) -> Conjunctions:
        """Return some of the conjunctions."""
        return Conjunctions(self.columns[positions], self.relations[positions], self.values[positions])

    def joined(self, other: Conjunctions) -> Conjunctions:
        """Return these conjunctions and then the other's."""
        return Conjunctions(
            np.concatenate((self.columns, other.columns)),
            np.concatenate((self.relations, other.relations)),
            np.concatenate((self.values, other.values)),
        )

    def first_occurrences(self) -> IntArray:
        """Return the positions at which a conjunction appears for the first time, ascending."""
        table = np.concatenate((self.columns, self.relations, self.values), axis=1)
        _, first = np.unique(table, axis=0, return_index=True)
        return np.sort(first)


def count_matches(rows: Rows, asked: Conjunctions) -> IntArray:
    """Return how many rows meet each conjunction, shape (n,).

    Examples
    --------
    >>> rows = Rows(("sex", "age"), (False, True), (np.array([0, 1, 1], np.uint8), np.array([30.0, 40.0, np.nan])))
    >>> asked = Conjunctions(np.array([[0, 1]] * 2), np.array([[0, 1], [0, 3]]), np.array([[1, 35.0], [1, 0.0]]))
    >>> count_matches(rows, asked).tolist()
    [1, 1]
    """
    counts = np.empty(len(asked), dtype=np.int64)
    width = asked.columns.shape[1]
    n_words = (len(rows) + 63) // 64
    block = max(1, _BLOCK_WORDS // (n_words * (width + 1)))
    for start in range(0, len(asked), block):
        part = asked.take(np.arange(start, min(start + block, len(asked))))
        conditions = np.stack((part.columns.ravel(), part.relations.ravel(), part.values.ravel()), axis=1)
        distinct, place = np.unique(conditions, axis=0, return_inverse=True)
        place = place.reshape(-1, width)
        bits = np.zeros((len(distinct), n_words * 8), dtype=np.uint8)
        for i, (column, relation, value) in enumerate(distinct.tolist()):
            packed = np.packbits(_meets(rows.columns[int(column)], Relation(int(relation)), value))
            bits[i, : len(packed)] = packed
        words = bits.view(np.uint64)
        met = words[place[:, 0]]
        for k in range(1, width):
            met &= words[place[:, k]]
        counts[start : start + block] = np.bitwise_count(met).sum(axis=1, dtype=np.int64)
    return counts


def _meets(column: npt.NDArray[Any], relation: Relation, value: float) -> npt.NDArray[np.bool_]:
    """Return which values meet the condition. Comparisons with NaN are false, as a missing number should be."""
    met: npt.NDArray[np.bool_]
    if relation is Relation.MISSING:
        met = np.isnan(column)
    elif relation is Relation.UNEQUAL:
        met = (column != value) & (column == column)  # noqa: PLR0124 - NaN differs from itself
    elif relation is Relation.EQUAL:
        met = column == column.dtype.type(value)
    elif relation is Relation.AT_LEAST:
        met = column >= value
    elif relation is Relation.AT_MOST:
        met = column <= value
    elif relation is Relation.ABOVE:
        met = column > value
    else:
        met = column < value
    return met
