"""Mondrian: the table is cut in two, and each part again, as long as both halves satisfy the models.

part    patients who are told apart by no cut so far; at the end, a class
cut     a column and a value: what lies below it goes left, the rest right. Strict: patients who agree in the column
        stay together. The value is the part's median, or the one behind it, whichever makes the halves more equal
column  the one in which the part is widest, as a share of the column's public width; if no cut of it passes, the next

All parts of one depth are cut together, on the distinct tuples with their counts: a depth costs a few passes over the
tuples, however many parts there are. Nothing is random, and tuples stand in the order of their codes, so the classes do
not depend on the order of rows.

The result is not optimal, and it can be attacked: classes are as small as the rule allows, and a text names the least
and the greatest value of its class, which somebody has (`AttackableRelease`).
Source: LeFevre, DeWitt, Ramakrishnan 2006, ICDE, "Mondrian multidimensional k-anonymity" (strict, median).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from anonymise.classes import Attribute, BoolArray, Classes, IntArray
from anonymise.encoded import Encoded
from anonymise.errors import NotAnonymisable
from anonymise.models import Model
from anonymise.spans import Spans

Ranks = npt.NDArray[Any]

# Distributions are counted for so many (half, value) cells at a time.
_CELLS: Final = 4_000_000


def mondrian_classes(encoded: Encoded, models: Sequence[Model], spans: Sequence[Spans]) -> IntArray:
    """Return the class of each distinct tuple, shape (n_tuples,), numbered from 0.

    Raises NotAnonymisable if the table as a whole, taken as one class, fails a model.
    """
    # Ranks are moved at every depth: half the width is half the time on large tables.
    small = max(int(span.rank.max()) for span in spans) < np.iinfo(np.int16).max
    ranks = np.stack([span.rank[leaves] for span, leaves in zip(spans, encoded.leaves, strict=True)]).astype(
        np.int16 if small else np.int32
    )
    full = np.array([span.full_width for span in spans], dtype=np.float64)
    judge = _Judge(encoded, models)
    everybody = np.zeros(encoded.n_tuples, dtype=np.int64)
    if judge.fails(np.array([encoded.n_rows]), np.arange(encoded.n_tuples), everybody).any():
        raise NotAnonymisable(
            rule="the whole table, taken as one class, does not satisfy the models",
            way_out="relax the models, or pool the table with other sites",
        )
    out = np.empty(encoded.n_tuples, dtype=np.int64)
    n_classes = 0
    parts = _Parts(np.arange(encoded.n_tuples), ranks, encoded.counts, np.zeros(1, dtype=np.int64))
    while parts.starts.size:
        column, at = _cuts(parts, full, judge)
        final = column < 0
        numbers = n_classes + np.cumsum(final) - 1
        done = final[parts.part_of]
        out[parts.tuples[done]] = numbers[parts.part_of[done]]
        n_classes += int(final.sum())
        parts = parts.cut(column, at)
    return out


@dataclass(slots=True, eq=False, repr=False)
class _Parts:
    """The parts of one depth, one behind the other.

    tuples   which tuple stands at each place, shape (n_places,)
    ranks    its value in each column, shape (n_columns, n_places)
    weights  its patients, shape (n_places,)
    starts   first place of each part, shape (n_parts,)
    """

    tuples: npt.NDArray[np.intp]
    ranks: Ranks
    weights: IntArray
    starts: IntArray

    lengths: IntArray = field(init=False)
    part_of: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = np.diff(self.starts, append=self.tuples.size)
        self.part_of = np.repeat(np.arange(self.starts.size), self.lengths)

    def cut(self, column: IntArray, at: IntArray) -> _Parts:
        """Return the halves of the parts that are cut (column >= 0), in order; the others are gone."""
        places = np.flatnonzero((column >= 0)[self.part_of])
        part = self.part_of[places]
        right = self.ranks[column[part], places] >= at[part]
        n_right = np.bincount(part[right], minlength=self.starts.size)[column >= 0]
        n_left = self.lengths[column >= 0] - n_right
        # Within its part a place moves behind what goes left before it: no sort is needed.
        where = np.empty(places.size, dtype=np.int64)
        left_places, right_places = places[~right], places[right]
        where[np.arange(left_places.size) + np.repeat(np.cumsum(n_right) - n_right, n_left)] = left_places
        where[np.arange(right_places.size) + np.repeat(np.cumsum(n_left), n_right)] = right_places
        lengths = np.stack([n_left, n_right], axis=1).reshape(-1)
        return _Parts(self.tuples[where], self.ranks[:, where], self.weights[where], np.cumsum(lengths) - lengths)


class _Judge:
    """Asks the models about classes that are given by the tuples they hold."""

    def __init__(self, encoded: Encoded, models: Sequence[Model]) -> None:
        self.least_rows = max(model.least_rows for model in models)
        self._n_rows = encoded.n_rows
        # Sizes alone are cheap; and what fails a closed model needs no other look.
        self._by_size = [model for model in models if model.attribute is None]
        self._by_value = sorted(
            (model for model in models if model.attribute is not None), key=lambda model: not model.downward_closed
        )
        names = dict.fromkeys(model.attribute for model in self._by_value if model.attribute is not None)
        self._entries = {name: _Entries(encoded.attributes[name], encoded.n_tuples) for name in names}

    def fails_by_size(self, sizes: IntArray) -> BoolArray:
        """Return which classes of these sizes fail a model of sizes."""
        fails = np.zeros(sizes.size, dtype=np.bool_)
        for model in self._by_size:
            fails |= model.class_fails(Classes(sizes, n_rows=self._n_rows))
        return fails

    @property
    def sizes_are_enough(self) -> bool:
        """Whether no model looks at a sensitive attribute."""
        return not self._by_value

    def fails(self, sizes: IntArray, tuples: npt.NDArray[Any], places: IntArray) -> BoolArray:
        """Return which classes fail a model; `places` is the class of each of the tuples."""
        fails = self.fails_by_size(sizes)
        for model in self._by_value:
            if fails.all():
                break
            entries = self._entries[model.attribute]  # type: ignore[index]
            standing = np.flatnonzero(~fails)
            n_blocks = -(-standing.size * entries.n_values // _CELLS)
            for block in np.array_split(standing, n_blocks):
                number = np.full(sizes.size, -1, dtype=np.int64)
                number[block] = np.arange(block.size)
                local = number[places]
                some = local >= 0
                attribute, own = entries.of(tuples[some])
                classes = Classes(
                    sizes[block], n_rows=self._n_rows, attributes={attribute.name: attribute}, places=local[some][own]
                )
                fails[block] = model.class_fails(classes)
        return fails


class _Entries:
    """The counts of an attribute, ready to be taken for some tuples only."""

    def __init__(self, attribute: Attribute, n_tuples: int) -> None:
        order = np.argsort(attribute.tuples, kind="stable")
        self._attribute = replace(
            attribute, tuples=attribute.tuples[order], values=attribute.values[order], counts=attribute.counts[order]
        )
        self._ends = np.searchsorted(self._attribute.tuples, np.arange(n_tuples + 1))
        self.n_values = attribute.n_values

    def of(self, tuples: npt.NDArray[Any]) -> tuple[Attribute, npt.NDArray[Any]]:
        """Return the attribute of some tuples, each entry a tuple of its own, and the position of each one's tuple."""
        first, last = self._ends[tuples], self._ends[tuples + 1]
        lengths = last - first
        own = np.repeat(np.arange(tuples.size), lengths)
        chosen = np.arange(own.size) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
        attribute = replace(
            self._attribute,
            tuples=np.arange(own.size),
            values=self._attribute.values[chosen],
            counts=self._attribute.counts[chosen],
        )
        return attribute, own


def _cuts(parts: _Parts, full: npt.NDArray[np.float64], judge: _Judge) -> tuple[IntArray, IntArray]:
    """Return the column in which each part is cut, -1 for none, and the first value that goes right."""
    n_parts = parts.starts.size
    chosen, at = np.full(n_parts, -1, dtype=np.int64), np.zeros(n_parts, dtype=np.int64)
    low = np.minimum.reduceat(parts.ranks, parts.starts, axis=1)
    high = np.maximum.reduceat(parts.ranks, parts.starts, axis=1)
    sizes = np.add.reduceat(parts.weights, parts.starts)
    low, high = low.astype(np.int64), high.astype(np.int64)
    width = (high - low) / full[:, None]
    by_width = np.argsort(-width, axis=0, kind="stable")
    pending = np.flatnonzero(sizes >= 2 * judge.least_rows)
    for attempt in range(full.size):
        column = by_width[attempt, pending]
        wide = width[column, pending] > 0
        pending, column = pending[wide], column[wide]
        if not pending.size:
            break
        halves = _Halves.of(parts, pending, column, low[column, pending], high[column, pending], sizes[pending])
        found = halves.first_passing(judge)
        passed = found >= 0
        chosen[pending[passed]], at[pending[passed]] = column[passed], found[passed]
        pending = pending[~passed]
    return chosen, at


@dataclass(slots=True, eq=False, repr=False)
class _Halves:
    """The two cuts that each of some parts could have in one column.

    tuples, value, part   tuple, value in the column and part (counted from 0) of each place of these parts
    cut                   first value that goes right, the more equal cut first, shape (2, n_parts)
    left                  patients who go left, shape (2, n_parts)
    sizes                 patients of each part, shape (n_parts,)
    """

    tuples: npt.NDArray[np.intp]
    value: Ranks
    part: IntArray
    cut: IntArray
    left: IntArray
    sizes: IntArray

    @classmethod
    def of(
        cls, parts: _Parts, pending: npt.NDArray[Any], column: IntArray, low: IntArray, high: IntArray, sizes: IntArray
    ) -> _Halves:
        """Return the cuts before and behind the median of some parts, each in its own column."""
        number = np.full(parts.starts.size, -1, dtype=np.int64)
        number[pending] = np.arange(pending.size)
        part = number[parts.part_of]
        places = np.flatnonzero(part >= 0)
        part = part[places]
        value = parts.ranks[column[part], places]
        # One count per value between the least and the greatest of each part, all parts behind one another.
        base = np.cumsum(high - low + 1) - (high - low + 1)
        bins = (base - low)[part] + value
        n_bins = int(base[-1]) + int(high[-1] - low[-1]) + 1
        if n_bins > 16 * places.size + 4096:
            used, bins = np.unique(bins, return_inverse=True)
        else:
            used = np.arange(n_bins)
        # Whole numbers below 2^53 are exact in float64.
        up_to = np.cumsum(np.bincount(bins, weights=parts.weights[places], minlength=used.size)).astype(np.int64)
        before = np.cumsum(sizes) - sizes
        median = np.searchsorted(up_to, before + sizes // 2, side="right")
        below = np.where(median > 0, up_to[median - 1], 0) - before
        left = np.stack([below, up_to[median] - before])
        cut = used[median] - base + low
        # Ties go to the cut before the median.
        swap = np.abs(2 * left[1] - sizes) < np.abs(2 * left[0] - sizes)
        return cls(
            tuples=parts.tuples[places],
            value=value,
            part=part,
            cut=np.where(swap, [cut + 1, cut], [cut, cut + 1]),
            left=np.where(swap, left[::-1], left),
            sizes=sizes,
        )

    def first_passing(self, judge: _Judge) -> IntArray:
        """Return the first cut of each part whose halves pass, -1 where neither does."""
        out = np.full(self.sizes.size, -1, dtype=np.int64)
        for cut, left in zip(self.cut, self.left, strict=True):
            asked = np.flatnonzero((out < 0) & (left > 0) & (left < self.sizes))
            halves = np.stack([left[asked], self.sizes[asked] - left[asked]], axis=1)
            asked = asked[~judge.fails_by_size(halves.reshape(-1)).reshape(-1, 2).any(axis=1)]
            if asked.size and not judge.sizes_are_enough:
                asked = asked[~self._fails(judge, asked, cut, left)]
            out[asked] = cut[asked]
        return out

    def _fails(self, judge: _Judge, asked: npt.NDArray[Any], cut: IntArray, left: IntArray) -> BoolArray:
        number = np.full(self.sizes.size, -1, dtype=np.int64)
        number[asked] = np.arange(asked.size)
        part = number[self.part]
        some = part >= 0
        places = 2 * part[some] + (self.value[some] >= cut[self.part[some]])
        sizes = np.stack([left[asked], self.sizes[asked] - left[asked]], axis=1).reshape(-1)
        return np.asarray(judge.fails(sizes, self.tuples[some], places).reshape(-1, 2).any(axis=1))
