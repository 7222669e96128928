"""What a released text stands for: the set of raw values that it is consistent with.

A text is looked up among the labels of the column's hierarchy; one that is no label is read as what other recodings
write: "*" (anything), a run of numbers or days ("[31, 38)", "10 to 50", "<20", "90+"), a set ("{A, B}"), a plain
number. Where a label means different groups at different levels, it stands for all of their values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from anonymise._domains import domain_labels, is_age
from anonymise.classes import BoolArray, FloatArray
from anonymise.hierarchies import ALL, Hierarchy
from privacy.schema import MISSING

_NUMBER: Final = r"([-+]?\d[\d.]*(?:[eE][-+]?\d+)?)"
_RUNS: Final = (
    re.compile(rf"\[{_NUMBER}, {_NUMBER}(\)|\])"),
    re.compile(rf"{_NUMBER}(?: to |-){_NUMBER}()"),
)
# Runs and leaves whose ends differ by less than this share of the column's range meet in a point.
_TOLERANCE: Final = 1e-9


def regions(texts: Sequence[str], hierarchy: Hierarchy) -> BoolArray:
    """Return which leaves each text stands for, shape (n_texts, n_leaves); "" is a missing value.

    Raises ValueError, naming the column only, if some text stands for nothing in the hierarchy.

    Examples
    --------
    >>> from anonymise.hierarchies import build_hierarchy
    >>> from privacy.schema import Column
    >>> stage = build_hierarchy(Column("stage", categories=("I", "II", "III")))
    >>> regions(["II", "*", "{I, III}"], stage).astype(int).tolist()
    [[0, 1, 0], [1, 1, 1], [1, 0, 1]]
    """
    texts = [text or MISSING for text in texts]
    levels = [level for level, labels in enumerate(hierarchy.labels) if set(texts) <= set(labels)]
    places = [{label: at for at, label in enumerate(labels)} for labels in hierarchy.labels]
    by_label = [(places[level], hierarchy.codes[level]) for level in levels or range(hierarchy.n_levels)]
    ends, whole = _ends(hierarchy), hierarchy.column.kind != "continuous"
    out = np.zeros((len(texts), hierarchy.n_leaves), dtype=np.bool_)
    for at, text in enumerate(texts):
        for groups, codes in by_label:
            if text in groups:
                out[at] |= codes == groups[text]
        if not out[at].any():
            read = _set(text, places[0], hierarchy) | _days(text, places[0], hierarchy)
            out[at] = read | _run(text, ends, whole=whole) | (text == ALL)
    if not out.any(axis=1).all():
        raise ValueError(
            f"column {hierarchy.name!r}: some released text stands for no value of the schema's hierarchy; give the "
            "schema of the release, and write intervals as '[20, 30)'"
        )
    return out


def _set(text: str, leaves: dict[str, int], hierarchy: Hierarchy) -> BoolArray:
    out = np.zeros(hierarchy.n_leaves, dtype=np.bool_)
    if text.startswith("{") and text.endswith("}"):
        # Labels may hold commas themselves: the longest one that continues the text is taken.
        rest = text[1:-1]
        while rest:
            label = max((label for label in leaves if f"{rest}, ".startswith(f"{label}, ")), key=len, default=None)
            if label is None:
                out[:] = False
                break
            out[leaves[label]] = True
            rest = rest[len(label) + 2 :]
    return out


def _days(text: str, leaves: dict[str, int], hierarchy: Hierarchy) -> BoolArray:
    """Return the leaves of a run whose ends are leaves themselves, in the order of the public values."""
    out = np.zeros(hierarchy.n_leaves, dtype=np.bool_)
    first, found, last = text.partition(" to ")
    if found and first in leaves and last in leaves:
        of_value = hierarchy.leaf_of_domain[: hierarchy.leaf_of_domain.size - hierarchy.column.nullable]
        low = np.flatnonzero(of_value == leaves[first])
        high = np.flatnonzero(of_value == leaves[last])
        if low.size and high.size:
            out[of_value[low[0] : high[-1] + 1]] = True
    return out


def _run(text: str, ends: FloatArray, *, whole: bool) -> BoolArray:
    """Return the leaves that a run of numbers meets; every one whose values the run can hold."""
    low, high = ends
    none = np.zeros(low.size, dtype=np.bool_)
    finite = ends[np.isfinite(ends)]
    if not finite.size:
        return none
    slack = _TOLERANCE * (finite.max() - finite.min())
    for pattern in _RUNS:
        match = pattern.fullmatch(text)
        if match:
            first, last = float(match[1]), float(match[2])
            # Bins meet in their ends; whole numbers do not.
            closed = match[3] != ")" and (whole or first == last)
            return _meets(low, high, first, last, slack, closed=closed)
    if match := re.fullmatch(rf"<{_NUMBER}", text):
        return _meets(low, high, -np.inf, float(match[1]), slack, closed=False)
    if match := re.fullmatch(rf"{_NUMBER}\+", text):
        return _meets(low, high, float(match[1]), np.inf, slack, closed=True)
    if match := re.fullmatch(_NUMBER, text):
        return _meets(low, high, float(match[1]), float(match[1]), slack, closed=True)
    return none


def _meets(low: FloatArray, high: FloatArray, first: float, last: float, slack: float, *, closed: bool) -> BoolArray:
    # A leaf [low, high) holds the run's last value only if the run is closed; NaN meets nothing.
    begins = (low <= last + slack) if closed else (low < last - slack)
    return np.asarray(begins & (high > first + slack))


def _ends(hierarchy: Hierarchy) -> FloatArray:
    """Return where each leaf begins and ends, shape (2, n_leaves); NaN where its values are no numbers."""
    out = np.full((2, hierarchy.n_leaves), np.nan)
    column = hierarchy.column
    if not is_age(column) and (not column.is_numeric or column.categories):
        return out
    if column.kind == "continuous":
        low, high = column.bin_edges[:-1], column.bin_edges[1:]
    else:
        low = np.array(domain_labels(column), dtype=np.float64)
        high = low + 1
    leaves = hierarchy.leaf_of_domain[: low.size]
    np.fmin.at(out[0], leaves, low)
    np.fmax.at(out[1], leaves, high)
    return out
