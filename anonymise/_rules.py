"""Levels of categories and days by rule: prefixes, redaction, order, the calendar."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, Final

import numpy as np

from anonymise._domains import hierarchy_error, hierarchy_errors, named
from privacy.schema import Column, HierarchySpec

Levels = list[list[str]]

DATE_STEPS: Final = ("month", "year", "decade")
_CALENDAR: Final = ("day", "week", "month", "quarter", "year", "decade", "century")


def prefix_levels(column: Column, spec: HierarchySpec, domain: list[str]) -> Levels:
    """Return the first characters of each value, the others masked to one common length: lengths tell values apart."""
    if not column.categories or column.kind == "date":
        raise hierarchy_error(
            column, "a prefix hierarchy needs categories", "use interval for numbers and date for days"
        )
    kept = _whole_numbers(spec)
    if kept is None or any(low <= high for low, high in pairwise(kept)):
        raise hierarchy_error(
            column, "prefix lists numbers of kept characters, each fewer than before", "write prefix = [3, 1]"
        )
    longest = max(len(label) for label in domain)
    return [[label[:n].ljust(longest, "*") for label in domain] for n in kept]


def redacted_levels(column: Column, spec: HierarchySpec, domain: list[str]) -> Levels:
    """Return each value with its first or last characters masked, shorter values filled up to one length.

    ARX's redaction-based hierarchy (HierarchyBuilderRedactionBased), where the padding shows; here it is the mask
    unless the rule names another character.
    """
    if not column.categories and column.kind != "integer":
        raise hierarchy_error(
            column, "redaction needs categories or whole numbers", "use interval for numbers and date for days"
        )
    masked = _whole_numbers(spec)
    longest = max(len(label) for label in domain)
    if masked is None or any(low >= high for low, high in pairwise(masked)):
        raise hierarchy_error(
            column, "redact lists numbers of masked characters, each more than before", "write redact = [1, 2]"
        )
    if masked[-1] >= longest:
        raise hierarchy_error(
            column,
            f"redact masks {masked[-1]} of at most {longest} characters",
            "leave that level out: the last level is always one group",
        )
    pad = spec.mask if spec.pad is None else spec.pad
    filled = [label.ljust(longest, pad) if spec.align == "left" else label.rjust(longest, pad) for label in domain]
    if spec.side == "left":
        return [[spec.mask * n + text[n:] for text in filled] for n in masked]
    return [[text[: longest - n] + spec.mask * n for text in filled] for n in masked]


def _whole_numbers(spec: HierarchySpec) -> list[int] | None:
    """Return the steps as whole numbers >= 1, or None if one is not."""
    found = [int(step) for step in spec.steps if not isinstance(step, str | bool | tuple) and step == int(step) >= 1]
    return found if len(found) == len(spec.steps) and found else None


# ---------------------------------------------------------------- order


def ordered_levels(column: Column, spec: HierarchySpec, domain: list[str]) -> Levels:
    """Return groups of consecutive values, in the schema's order; a group without a name is "first to last".

    A level is a number of consecutive groups of the level below, or names each group's size, or its first value.
    """
    levels: Levels = []
    # (name, first value, how many values) of each group of the level below.
    below = [(label, label, 1) for label in domain]
    for at, step in enumerate(spec.steps, start=1):
        below = _grouped(column, at, step, below, domain)
        levels.append([name for name, _, n_values in below for _ in range(n_values)])
    return levels


def _grouped(
    column: Column, at: int, step: Any, below: list[tuple[str, str, int]], domain: list[str]
) -> list[tuple[str, str, int]]:
    problems: list[tuple[str, str]] = []
    names: list[str] = []
    starts: list[int] = []
    if isinstance(step, tuple):
        names = [name for name, _ in step]
        by_value = isinstance(step[0][1], str)
        if by_value:
            firsts = [first for _, first, _ in below]
            wrong = [value for _, value in step if value not in firsts]
            if wrong:
                rule = f"level {at} of order cuts at {named(wrong)}, which begins no group of the level below"
                problems.append((rule, "cut where a value, or a group of the level below, begins"))
            starts = [firsts.index(value) for _, value in step if value in firsts]
            if starts[:1] != [0] and not any(names):
                names, starts = ["", *names], [0, *starts]
            if starts[:1] != [0] or any(not a < b for a, b in pairwise(starts)):
                rule = f"the groups of level {at} of order do not ascend from the first value"
                problems.append((rule, "name the groups in the order of the categories, from the first one"))
        else:
            sizes = [size for _, size in step]
            starts = [sum(sizes[:place]) for place in range(len(sizes))]
            if min(sizes) < 1 or sum(sizes) != len(below):
                rule = f"the sizes of level {at} of order sum to {sum(sizes)}, the level below has {len(below)} groups"
                problems.append((rule, "give sizes >= 1 of all groups"))
    elif isinstance(step, bool) or not isinstance(step, int) or step < 2:
        problems.append((f"level {at} of order must join 2 or more groups", "write order = [2, 2]"))
    else:
        starts = list(range(0, len(below), step))
        names = [""] * len(starts)
    if problems:
        raise hierarchy_errors(column, problems)
    groups = []
    done = 0
    for name, start, end in zip(names, starts, [*starts[1:], len(below)], strict=True):
        n_values = sum(n for _, _, n in below[start:end])
        first, last = domain[done], domain[done + n_values - 1]
        groups.append((name or (first if first == last else f"{first} to {last}"), first, n_values))
        done += n_values
    times = Counter(name for name, _, _ in groups)
    twice = sorted(name for name, n in times.items() if n > 1)
    if twice:
        raise hierarchy_error(column, f"level {at} of order names {named(twice)} twice", "name each group differently")
    return groups


# ---------------------------------------------------------------- the calendar


def calendar_levels(column: Column, spec: HierarchySpec, domain: list[str]) -> Levels:
    """Return the weeks (ISO 8601), months, quarters, years, decades or centuries of days written YYYY-MM-DD."""
    if column.kind != "date":
        raise hierarchy_error(column, "a date hierarchy needs a column of kind date", "set kind = 'date', or use rows")
    steps = [str(step) for step in spec.steps]
    ranks = [_CALENDAR.index(step) if step in _CALENDAR else -1 for step in steps]
    if -1 in ranks or any(low >= high for low, high in pairwise(ranks)):
        raise hierarchy_error(
            column, f"date lists any of {', '.join(_CALENDAR)}, in this order", 'write date = ["month", "year"]'
        )
    if "week" in steps[:-1]:
        raise hierarchy_error(
            column, "weeks lie in two months, quarters or years", 'end with the week, or write date = ["month", "year"]'
        )
    # Level 0 is the day.
    return [_periods(step, domain) for step in steps if step != "day"]


def _periods(step: str, days: list[str]) -> list[str]:
    if step == "week":
        times = np.array(days, dtype="datetime64[D]").astype(object).tolist()
        found = [day.isocalendar() for day in times]
        return [f"{week.year:04d}-W{week.week:02d}" for week in found]
    if step == "quarter":
        return [f"{day[:4]}-Q{(int(day[5:7]) + 2) // 3}" for day in days]
    if step in ("decade", "century"):
        kept = 3 if step == "decade" else 2
        return [f"{day[:kept].ljust(4, '0')}-{day[:kept].ljust(4, '9')}" for day in days]
    return [day[: 7 if step == "month" else 4] for day in days]
