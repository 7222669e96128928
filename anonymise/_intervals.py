"""Levels of numbers: intervals of given widths or between given cut points, with bottom and top codes.

Intervals are half-open, [low, high); they are counted from the rule's origin. Values below `bottom` and from `top` on
are one value at every level, level 0 included: "<20", "90+".
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from anonymise._domains import MAX_LEAVES, check_size, hierarchy_error, hierarchy_errors
from privacy.schema import Column, HierarchySpec, Step

# Two public numbers this close (in units of an interval's width) are the same edge: steps such as 0.1 are not binary.
_EDGE_TOLERANCE: Final = 1e-9

FloatArray = npt.NDArray[np.float64]


def interval_levels(column: Column, spec: HierarchySpec, domain: list[str]) -> list[list[str]]:
    """Return the label of each domain value at level 0 and at the rule's levels. Raises HierarchyError."""
    _check(column, spec)
    if column.kind == "integer":
        starts = np.array(domain, dtype=np.float64)
        ends = starts + 1
    else:
        starts, ends = column.bin_edges[:-1], column.bin_edges[1:]
    coded = _coded(spec, starts, ends)
    levels = [domain]
    problems = []
    for step in spec.steps:
        edges = _edges(column, spec, step)
        slack = _EDGE_TOLERANCE * float(np.diff(edges).min())
        place = np.searchsorted(edges, starts + slack, side="right") - 1
        until = np.searchsorted(edges, ends - slack, side="left") - 1
        split = [at for at in np.flatnonzero(place != until).tolist() if coded[at] is None]
        if split:
            what = "between its cut points" if isinstance(step, tuple) else f"of width {step:g}"
            rule = f"the leaf {domain[split[0]]!r} lies in two intervals {what}"
            problems.append((rule, "choose edges that the intervals' ends are among"))
        texts = [_label(column, spec, edges, at, listed=isinstance(step, tuple)) for at in range(edges.size - 1)]
        levels.append([texts[at] for at in place.tolist()])
    if problems:
        raise hierarchy_errors(column, problems)
    return [[text if code is None else code for text, code in zip(texts, coded, strict=True)] for texts in levels]


def with_interval_leaves(column: Column, spec: HierarchySpec) -> Column:
    """Return a continuous column without edges with those of its rule's first level, and its bottom and top code."""
    _check(column, spec)
    low, high = (float(edge) for edge in column.bin_edges[[0, -1]])
    first = low if spec.bottom is None else spec.bottom
    last = high if spec.top is None else spec.top
    slack = _EDGE_TOLERANCE * (last - first)
    edges = {first, last, *(edge for edge in _edges(column, spec, spec.steps[0]).tolist() if first < edge < last)}
    return replace(column, edges=tuple(sorted(edge for edge in edges if low + slack < edge < high - slack)))


def _edges(column: Column, spec: HierarchySpec, step: Step) -> FloatArray:
    """Return the ends of a level's intervals, the outer ones included, ascending."""
    low, high = (float(edge) for edge in column.bin_edges[[0, -1]])
    if isinstance(step, tuple):
        cuts = [cut for cut in step if isinstance(cut, float)]
        return np.array([low, *cuts, high + (column.kind == "integer")])
    width = float(step)
    origin = spec.origin if spec.origin is not None else spec.bottom if spec.bottom is not None else low
    reach = max(abs(low - origin), abs(high - origin)) / width
    if not reach < MAX_LEAVES:
        check_size(column, MAX_LEAVES + 1)
    first = math.floor((low - origin) / width + _EDGE_TOLERANCE)
    last = math.ceil((high + (column.kind == "integer") - origin) / width - _EDGE_TOLERANCE)
    check_size(column, last - first)
    return np.array([float(f"{origin + at * width:.12g}") for at in range(first, last + 1)])


def _label(column: Column, spec: HierarchySpec, edges: FloatArray, at: int, *, listed: bool) -> str:
    start, end = float(edges[at]), float(edges[at + 1])
    high = float(column.bin_edges[-1])
    # The upper bound belongs to a continuous column's last interval, and to the last one between cut points.
    closed = spec.top is None and (
        (listed and at == edges.size - 2)
        or (column.kind == "continuous" and abs(end - high) <= _EDGE_TOLERANCE * (end - start))
    )
    start = start if spec.bottom is None else max(start, spec.bottom)
    end = end if spec.top is None else min(end, spec.top)
    end = min(end, high) if closed else end
    return f"[{start:.12g}, {end:.12g}{']' if closed else ')'}"


def _coded(spec: HierarchySpec, starts: FloatArray, ends: FloatArray) -> list[str | None]:
    """Return the bottom or top code of each leaf, None where it has neither."""
    codes: list[str | None] = [None] * starts.size
    for at in range(starts.size):
        if spec.bottom is not None and ends[at] <= spec.bottom + _EDGE_TOLERANCE * abs(spec.bottom):
            codes[at] = f"<{spec.bottom:.12g}"
        elif spec.top is not None and starts[at] >= spec.top - _EDGE_TOLERANCE * abs(spec.top):
            codes[at] = f"{spec.top:.12g}+"
    return codes


def _check(column: Column, spec: HierarchySpec) -> None:
    if column.bounds is None or column.categories or not column.is_numeric:
        raise hierarchy_error(
            column, "an interval hierarchy needs a number with bounds", "use prefix or rows for categories"
        )
    problems: list[tuple[str, str]] = []
    before: float | None = None
    for step in spec.steps:
        if isinstance(step, tuple):
            before = None
            problems.extend(_check_cuts(column, step))
            continue
        if isinstance(step, str | bool) or not (step > 0 and math.isfinite(step)):
            problems.append(("an interval's width must be a number > 0", "write interval = [5, 10, 20]"))
            continue
        if column.kind == "integer" and step != int(step):
            problems.append(("intervals of whole numbers have whole widths", "write interval = [5, 10, 20]"))
        if before is not None:
            ratio = step / before
            if ratio < 2 - _EDGE_TOLERANCE or abs(ratio - round(ratio)) > _EDGE_TOLERANCE * ratio:
                rule = f"the width {step:g} is not a multiple of the one before it ({before:g})"
                problems.append((rule, "nest the intervals, for example interval = [5, 10, 20]"))
        before = float(step)
    low, high = column.bounds
    ends = {"bottom": spec.bottom, "top": spec.top}
    given = [low, *(end for end in ends.values() if end is not None), high]
    if any(not a < b for a, b in pairwise(given)) and any(end is not None for end in ends.values()):
        problems.append(("bottom and top must ascend inside the bounds", "write bottom = 20, top = 90, for example"))
    for name, end in (*ends.items(), ("origin", spec.origin)):
        if column.kind == "integer" and end is not None and end != int(end):
            problems.append((f"{name} of whole numbers must be whole", f"write {name} = 20, for example"))
    if problems:
        raise hierarchy_errors(column, problems)


def _check_cuts(column: Column, cuts: tuple[object, ...]) -> list[tuple[str, str]]:
    low, high = column.bounds or (0.0, 0.0)
    numbers = [cut for cut in cuts if isinstance(cut, float | int)]
    if len(numbers) < len(cuts) or any(not a < b for a, b in pairwise([low, *numbers, high])):
        return [("cut points must ascend strictly inside the bounds", "write interval = [[18, 40, 65]]")]
    if column.kind == "integer" and any(cut != int(cut) for cut in numbers):
        return [("cut points of whole numbers must be whole", "write interval = [[18, 40, 65]]")]
    return []
