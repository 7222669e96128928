"""What a released text stands for: the set of raw values that it may have been.

A label of any level of the column's hierarchy stands for the leaves below it, the lowest level first; "*" for all.
Texts that are chosen by class are read as well: "[31, 38)", "[31, 38]", "10 to 50", "2001-03-04 to 2001-05-17", "90+",
"<= 17", "{HbSC, HbSS}".
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from anonymise.classes import BoolArray, FloatArray
from anonymise.hierarchies import ALL, Hierarchy

_NUMBER: Final = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_DAY: Final = r"\d{4}-\d{2}-\d{2}"
_INTERVAL: Final = re.compile(rf"\[({_NUMBER}), ({_NUMBER})([\])])")
_BINS: Final = re.compile(rf"({_NUMBER}) to ({_NUMBER})")
_DAYS: Final = re.compile(rf"({_DAY}) to ({_DAY})")
_ABOVE: Final = re.compile(rf"({_NUMBER})\+")
_BELOW: Final = re.compile(rf"<= ({_NUMBER})")
# Edges that differ by less are the same edge: they were written to 12 digits.
_TOLERANCE: Final = 1e-9


class Texts:
    """Reads the texts of one column.

    Examples
    --------
    >>> from anonymise.hierarchies import build_hierarchy
    >>> from privacy.schema import Column
    >>> texts = Texts(build_hierarchy(Column("age", kind="integer", bounds=(0, 9))))
    >>> [int(texts.leaves(text).sum()) for text in ("7", "*", "[2, 5)", "8+", "<= 3")]
    [1, 10, 3, 2, 4]
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self._place: dict[str, tuple[int, int]] = {}
        for level, labels in enumerate(hierarchy.labels):
            for group, label in enumerate(labels):
                self._place.setdefault(label, (level, group))
        self._index = {label: leaf for leaf, label in enumerate(hierarchy.labels[0])}

    def leaves(self, text: str) -> BoolArray:
        """Return which leaves a text stands for, shape (n_leaves,); at least one.

        Raises ValueError if it stands for none, without naming it: it may be a patient's.
        """
        if text in self._place:
            level, group = self._place[text]
            return np.asarray(self.hierarchy.codes[level] == group)
        found = np.ones(self.hierarchy.n_leaves, dtype=np.bool_) if text == ALL else self._range(text)
        if found is None:
            found = self._set(text)
        if found is None or not found.any():
            raise ValueError(
                f"column {self.hierarchy.name!r} of the release holds a text that no level of its hierarchy has and "
                "that is no range or set of its values; measure it with the schema that it was released with"
            )
        return found

    def level(self, leaves: BoolArray) -> int:
        """Return the lowest level of which one group holds all of some leaves; the highest level if none does."""
        for level, codes in enumerate(self.hierarchy.codes):
            if np.unique(codes[leaves]).size == 1:
                return level
        return self.hierarchy.n_levels - 1

    def _range(self, text: str) -> BoolArray | None:
        days = _DAYS.fullmatch(text)
        if days:
            labels = np.array(self.hierarchy.labels[0])
            is_day = np.array([bool(re.fullmatch(_DAY, label)) for label in self.hierarchy.labels[0]])
            return np.asarray(is_day & (labels >= days[1]) & (labels <= days[2]))
        low, high = -np.inf, np.inf
        if match := _INTERVAL.fullmatch(text):
            low, high = float(match[1]), float(match[2])
            if match[3] == "]" and self._ends()[2]:
                high += 1.0
        elif match := _BINS.fullmatch(text):
            low, high = float(match[1]), float(match[2])
        elif match := _ABOVE.fullmatch(text):
            low = float(match[1])
        elif match := _BELOW.fullmatch(text):
            high = float(match[1]) + (1.0 if self._ends()[2] else 0.0)
        else:
            return None
        starts, ends, _ = self._ends()
        slack = _TOLERANCE * max(1.0, abs(low) if np.isfinite(low) else 0.0, abs(high) if np.isfinite(high) else 0.0)
        return np.asarray((starts >= low - slack) & (ends <= high + slack))

    def _ends(self) -> tuple[FloatArray, FloatArray, bool]:
        """Return where each leaf begins and ends, NaN where it is no number, and whether leaves are whole numbers."""
        whole = self.hierarchy.column.kind == "integer"
        starts, ends = np.full(self.hierarchy.n_leaves, np.nan), np.full(self.hierarchy.n_leaves, np.nan)
        for leaf, label in enumerate(self.hierarchy.labels[0]):
            if match := _BINS.fullmatch(label):
                starts[leaf], ends[leaf] = float(match[1]), float(match[2])
            elif re.fullmatch(_NUMBER, label):
                starts[leaf] = float(label)
                ends[leaf] = starts[leaf] + (1.0 if whole else 0.0)
            elif match := _ABOVE.fullmatch(label):
                starts[leaf], ends[leaf] = float(match[1]), np.inf
            elif match := _BELOW.fullmatch(label):
                starts[leaf], ends[leaf] = -np.inf, float(match[1]) + (1.0 if whole else 0.0)
        return starts, ends, whole

    def _set(self, text: str) -> BoolArray | None:
        if not (text.startswith("{") and text.endswith("}")):
            return None
        found = np.zeros(self.hierarchy.n_leaves, dtype=np.bool_)
        parts = text[1:-1].split(", ")
        # A label may hold ", " itself: the longest run of parts that is a label is taken.
        at = 0
        while at < len(parts):
            end = next((e for e in range(len(parts), at, -1) if ", ".join(parts[at:e]) in self._index), None)
            if end is None:
                return None
            found[self._index[", ".join(parts[at:end])]] = True
            at = end
        return found
