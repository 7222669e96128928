"""How many rows meet a conjunction of conditions: bit sets, one word for 64 rows.

A condition (column, relation, value) becomes a bit set of the table once; a conjunction is then an AND, and
its count a population count.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.attacks.table import IntArray, Rows

# Bit sets that are kept: 2^23 words are 64 MB.
_WORDS = 1 << 23
_CACHE_WORDS = 1 << 18


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


class Matcher:
    """Counts the rows of one table that meet conjunctions; bit sets of conditions are kept for the next call.

    Examples
    --------
    >>> rows = Rows(("sex", "age"), (False, True), (np.array([0, 1, 1], np.uint8), np.array([30.0, 40.0, np.nan])))
    >>> asked = Conjunctions(np.array([[0, 1]] * 2), np.array([[0, 1], [0, 3]]), np.array([[1, 35.0], [1, 0.0]]))
    >>> Matcher(rows).count(asked).tolist()
    [1, 1]
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._n_words = (len(rows) + 63) // 64
        self._capacity = max(64, _WORDS // self._n_words)
        self._bits = np.zeros((64, self._n_words), dtype=np.uint64)
        self._place: dict[tuple[float, ...], int] = {}

    def count(self, asked: Conjunctions) -> IntArray:
        """Return how many rows meet each conjunction, shape (n,)."""
        counts = np.empty(len(asked), dtype=np.int64)
        width = asked.columns.shape[1]
        # The bit sets of a block are ANDed in the second-level cache, and all of a block's conditions must find room.
        block = max(1, min(self._capacity // (2 * width), _CACHE_WORDS // self._n_words))
        for start in range(0, len(asked), block):
            place = self._places(asked.take(np.arange(start, min(start + block, len(asked)))))
            met = self._bits[place[:, 0]]
            for k in range(1, width):
                met &= self._bits[place[:, k]]
            counts[start : start + block] = np.bitwise_count(met).sum(axis=1, dtype=np.int64)
        return counts

    def _places(self, asked: Conjunctions) -> IntArray:
        """Return where the bit set of each condition is, making those that are new; shape (n, k)."""
        conditions = np.stack((asked.columns.ravel(), asked.relations.ravel(), asked.values.ravel()), axis=1)
        order = np.lexsort(conditions.T)
        new = np.ones(len(order), dtype=bool)
        new[1:] = (conditions[order[1:]] != conditions[order[:-1]]).any(axis=1)
        distinct = [tuple(condition) for condition in conditions[order[new]].tolist()]
        if len(self._place) + len(distinct) > self._capacity:
            self._place.clear()
        for condition in distinct:
            if condition not in self._place:
                self._place[condition] = self._add(len(self._place), condition)
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.array([self._place[c] for c in distinct], dtype=np.int64)[np.cumsum(new) - 1]
        return places.reshape(asked.columns.shape)

    def _add(self, place: int, condition: tuple[float, ...]) -> int:
        if place >= len(self._bits):
            self._bits = np.concatenate((self._bits, np.zeros_like(self._bits)))
        column, relation, value = condition
        packed = np.packbits(_meets(self._rows.columns[int(column)], Relation(int(relation)), value))
        self._bits[place].view(np.uint8)[: len(packed)] = packed
        return place


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
