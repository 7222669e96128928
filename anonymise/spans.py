"""A run of a column's values as one released text: how values are ordered, what a run is called, and what it loses.

order   numbers and days by size; categories so that every group of every level is a run (depth-first through the tree);
        a missing value far behind all others, because a run that joins it to a value is "*"
run     the values between a first and a last one, both included
text    numbers: "[31, 38)" (whole numbers, ages), "10 to 50" (bins), "<20", "90+" (coded ends); days: "2001-03-04 to
        2001-05-17"; categories: the lowest group of the hierarchy that holds them all; where the hierarchy has no
        groups, the set of values "{HbSC, HbSS}"
loss    (values the text stands for - 1) / (values of the column - 1), in [0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from anonymise._domains import domain_labels, is_age
from anonymise.classes import FloatArray, IntArray
from anonymise.hierarchies import ALL, Hierarchy
from privacy.schema import Column

Notation = Literal["numbers", "days", "tree", "set"]
# A missing value stands this many domain sizes behind the first value: no run that joins it looks narrow.
_FAR: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """The values of a column in the order in which runs are formed.

    rank       place of each leaf, shape (n_leaves,); places are not always consecutive
    leaf       leaf of each place (-1: none), shape (n_ranks,)
    notation   how a run is written
    ends       of numbers: where each leaf begins and ends, shape (2, n_leaves), NaN for a leaf that no value has

    Examples
    --------
    >>> from anonymise.hierarchies import build_hierarchy
    >>> from privacy.schema import Column
    >>> age = Spans.of(build_hierarchy(Column("age", kind="integer", bounds=(0, 99))))
    >>> texts, loss = age.texts(np.array([31, 40]), np.array([37, 40]))
    >>> texts, loss.round(4).tolist()
    (['[31, 38)', '40'], [0.0606, 0.0])
    """

    hierarchy: Hierarchy
    rank: IntArray
    leaf: IntArray
    notation: Notation
    ends: FloatArray

    @classmethod
    def of(cls, hierarchy: Hierarchy) -> Spans:
        """Return the order and the notation of a column."""
        ends = np.full((2, hierarchy.n_leaves), np.nan)
        column = hierarchy.column
        notation: Notation
        if not _in_runs(hierarchy):
            notation = _tree_or_set(hierarchy)
        elif is_age(column) or (column.is_numeric and not column.categories):
            notation = "numbers"
            lows, highs = _ends(column)
            of_value = hierarchy.leaf_of_domain[: lows.size]
            # A leaf of several values begins with the first and ends with the last.
            ends[0, of_value[::-1]], ends[1, of_value] = lows[::-1], highs
        elif column.kind == "date" and not column.categories:
            notation = "days"
            days = np.arange(hierarchy.leaf_of_domain.size - column.nullable)
            ends[0, hierarchy.leaf_of_domain[days[::-1]]] = days[::-1]
        else:
            notation = _tree_or_set(hierarchy)
        if notation in ("numbers", "days"):
            order = np.argsort(ends[0], kind="stable")
        else:
            # Depth-first: the most general level is the first key, the leaf itself the last.
            order = np.lexsort([np.arange(hierarchy.n_leaves), *hierarchy.codes])
        rank = np.empty(hierarchy.n_leaves, dtype=np.int64)
        rank[order] = np.arange(hierarchy.n_leaves)
        missing = _missing_leaf(hierarchy)
        if missing is not None:
            rank[missing] = _FAR * hierarchy.n_leaves
        leaf = np.full(int(rank.max()) + 1, -1, dtype=np.int64)
        leaf[rank] = np.arange(hierarchy.n_leaves)
        return cls(hierarchy, rank, leaf, notation, ends)

    @property
    def full_width(self) -> int:
        """Distance of the first and the last value: what widths are divided by. At least 1."""
        return max(1, self.hierarchy.n_leaves - 1)

    def texts(self, first: IntArray, last: IntArray) -> tuple[list[str], FloatArray]:
        """Return the text and the loss of each run, given the places of its ends, shape (n_runs,) each.

        Not for the notation "set", where a text depends on which values of the run occur (`set_texts`).
        """
        pairs, which = np.unique(first * self.leaf.size + last, return_inverse=True)
        found = [self._one(low, high) for low, high in zip(*np.divmod(pairs, self.leaf.size), strict=True)]
        losses = np.array([loss for _, loss in found], dtype=np.float64)
        return [found[at][0] for at in which.tolist()], losses[which]

    def set_texts(self, sets: list[tuple[int, ...]]) -> tuple[list[str], FloatArray]:
        """Return the text and the loss of each set of leaves (ascending)."""
        n = self.hierarchy.n_leaves
        texts = {chosen: self._set(chosen) for chosen in dict.fromkeys(sets)}
        return [texts[chosen] for chosen in sets], np.array([(len(chosen) - 1) / max(1, n - 1) for chosen in sets])

    def _set(self, chosen: tuple[int, ...]) -> str:
        labels = self.hierarchy.labels[0]
        if len(chosen) == 1:
            return labels[chosen[0]]
        if len(chosen) == len(labels):
            return ALL
        return "{" + ", ".join(labels[leaf] for leaf in chosen) + "}"

    def _one(self, low: np.int64, high: np.int64) -> tuple[str, float]:
        hierarchy = self.hierarchy
        a, b = int(self.leaf[low]), int(self.leaf[high])
        if a == b:
            return hierarchy.labels[0][a], 0.0
        if self.notation == "tree":
            for level, codes in enumerate(hierarchy.codes):
                if codes[a] == codes[b]:
                    size = int((codes == codes[a]).sum())
                    return hierarchy.labels[level][int(codes[a])], (size - 1) / self.full_width
            return ALL, 1.0
        if b == _missing_leaf(hierarchy):
            return ALL, 1.0
        loss = int(high - low) / self.full_width
        first, last = hierarchy.labels[0][a], hierarchy.labels[0][b]
        if self.notation == "days":
            return f"{first} to {last}", loss
        return self._number_text(a, b), loss

    def _number_text(self, first: int, last: int) -> str:
        hierarchy = self.hierarchy
        low, high = float(self.ends[0, first]), float(self.ends[1, last])
        spec = hierarchy.column.hierarchy
        # Bottom and top codes are leaves, and stay open: "<20", "90+".
        from_below = spec is not None and spec.bottom is not None and first == hierarchy.leaf_of_domain[0]
        highest = hierarchy.leaf_of_domain[-1 - hierarchy.column.nullable]
        to_above = spec is not None and spec.top is not None and last == highest
        if from_below and to_above:
            return ALL
        if from_below:
            return f"<{high:.12g}"
        if to_above:
            return f"{low:.12g}+"
        whole = hierarchy.column.kind != "continuous"
        return f"[{low:.12g}, {high:.12g})" if whole else f"{low:.12g} to {high:.12g}"


def _tree_or_set(hierarchy: Hierarchy) -> Literal["tree", "set"]:
    inner = any(1 < hierarchy.n_groups(level) < hierarchy.n_leaves for level in range(hierarchy.n_levels))
    return "tree" if inner else "set"


def _in_runs(hierarchy: Hierarchy) -> bool:
    """Return whether every leaf stands for consecutive values (a lowest level that is kept may join others)."""
    of_value = hierarchy.leaf_of_domain[: hierarchy.leaf_of_domain.size - hierarchy.column.nullable]
    return int((np.diff(of_value) != 0).sum()) + 1 == np.unique(of_value).size


def _ends(column: Column) -> tuple[FloatArray, FloatArray]:
    """Return where each value of a number's domain begins and ends (a whole number ends where the next begins)."""
    if column.kind == "continuous":
        return column.bin_edges[:-1], column.bin_edges[1:]
    starts = np.array(domain_labels(column), dtype=np.float64)
    return starts, starts + 1


def _missing_leaf(hierarchy: Hierarchy) -> int | None:
    return int(hierarchy.leaf_of_domain[-1]) if hierarchy.column.nullable else None
