"""Generalisation hierarchies: which values become one value at which level.

leaf     a value of level 0; its integer code is its position in the hierarchy
domain   the column's public values in the schema's order: categories, whole numbers within the bounds, bins, days;
         last of all "missing" where the column is nullable
group    a value of a higher level; level l maps every leaf to one group, and every group of level l - 1 into one of l

What a leaf is depends on the column's kind. Whole numbers, categories and days are leaves themselves. A *continuous*
value is never released as it is: its leaves are the bins between the schema's public edges (or the first interval of
its hierarchy), because a real number measured to several digits names its patient.

A hierarchy may cover more values than the schema lists (a shared file of a whole classification); all its leaves count
in the loss, as in ARX (Prasser, Eicher, Spengler, Bild, Kuhn 2020, doi:10.1002/spe.2812).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from anonymise._domains import IntArray, domain_codes, domain_labels, hierarchy_error, hierarchy_errors, named, oldest
from anonymise._intervals import interval_levels, with_interval_leaves
from anonymise._rules import DATE_STEPS, Levels, calendar_levels, ordered_levels, prefix_levels, redacted_levels
from anonymise._sets import set_levels
from anonymise._tables import row_levels, tree_levels
from anonymise.errors import HierarchyError
from privacy.errors import SchemaProblem
from privacy.schema import MISSING, Column, HierarchySpec

ALL: Final = "*"


@dataclass(frozen=True, slots=True, eq=False)
class Hierarchy:
    """The levels of one column, from its leaves to (usually) a single group.

    column           the schema's column; a continuous one carries the edges of its leaves
    labels           labels[level][group], public
    codes            codes[level][leaf] -> group, each of shape (n_leaves,)
    leaf_of_domain   the leaf of each public value of the column, shape (n_domain,)

    Examples
    --------
    >>> age = Column("age", kind="integer", bounds=(0, 9), hierarchy=HierarchySpec("interval", steps=(5,)))
    >>> hierarchy = build_hierarchy(age)
    >>> hierarchy.n_levels, hierarchy.labels[1]
    (3, ('[0, 5)', '[5, 10)'))
    >>> hierarchy.encode(np.array([3, 9])).tolist()
    [3, 9]
    """

    column: Column
    labels: tuple[tuple[str, ...], ...]
    codes: tuple[IntArray, ...]
    leaf_of_domain: IntArray

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.column.name

    @property
    def n_levels(self) -> int:
        """Number of levels, the leaves included."""
        return len(self.codes)

    @property
    def n_leaves(self) -> int:
        """Number of values of level 0."""
        return int(self.codes[0].size)

    def n_groups(self, level: int) -> int:
        """Return the number of groups of a level."""
        return len(self.labels[level])

    def shares(self, level: int) -> npt.NDArray[np.float64]:
        """Return, for each leaf, its group's size divided by the number of leaves, shape (n_leaves,)."""
        codes = self.codes[level]
        return np.asarray(np.bincount(codes)[codes] / self.n_leaves, dtype=np.float64)

    def rows(self) -> list[tuple[str, ...]]:
        """Return (value, level 1, ..., level n) of each public value, as ARX reads it.

        Where level 0 is coarser than the values (bottom and top codes, levels cut off), it is level 1 of the rows.

        Examples
        --------
        >>> stage = Column("stage", categories=("I", "II", "III"), hierarchy=HierarchySpec("order", steps=(2,)))
        >>> build_hierarchy(stage).rows()
        [('I', 'I to II', '*'), ('II', 'I to II', '*'), ('III', 'III', '*')]
        """
        values = [*domain_labels(self.column), *([MISSING] if self.column.nullable else [])]
        leaves = self.leaf_of_domain.tolist()
        values += [self.labels[0][leaf] for leaf in sorted(set(range(self.n_leaves)) - set(leaves))]
        leaves += sorted(set(range(self.n_leaves)) - set(leaves))
        coarser = any(self.labels[0][leaf] != value for value, leaf in zip(values, leaves, strict=True))
        levels = range(0 if coarser else 1, self.n_levels)
        return [
            (value, *(self.labels[level][self.codes[level][leaf]] for level in levels))
            for value, leaf in zip(values, leaves, strict=True)
        ]

    def save(self, path: str | Path) -> None:
        """Write the rows as CSV, separated by semicolons: a schema, or ARX, can name the file as a hierarchy."""
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=";", lineterminator="\n").writerows(self.rows())

    def encode(self, values: npt.NDArray[Any]) -> IntArray:
        """Return the leaf of each value, shape of `values`. Raises SchemaError for a value outside the schema."""
        return self.leaf_of_domain[domain_codes(self.column, values)]


def build_hierarchies(columns: Iterable[Column]) -> tuple[Hierarchy, ...]:
    """Return the hierarchy of each column. Raises HierarchyError with the problems of all columns at once."""
    found: list[Hierarchy] = []
    problems: list[SchemaProblem] = []
    for column in columns:
        try:
            found.append(build_hierarchy(column))
        except HierarchyError as error:
            problems.extend(error.problems)
    if problems:
        first, *more = problems
        raise HierarchyError(column=first.column, rule=first.rule, way_out=first.way_out, more=tuple(more))
    return tuple(found)


def build_hierarchy(column: Column) -> Hierarchy:
    """Return the hierarchy that a column's schema describes.

    rows       as written: value, level 1, ..., level n
    tree       the ancestor at each depth, then "*"
    interval   widths, counted from the lower bound, or cut points: "[60, 65)"; bottom, top: "<20", "90+"; then "*"
    order      groups of consecutive values, then "*"
    prefix     numbers of characters kept, the others masked to one common length (lengths tell values apart), then "*"
    redact     numbers of characters masked from one side, then "*"
    date       any of week, month, quarter, year, decade, century, then "*"; bounds are days, or first and last year
    age        of a date: the age in whole years at a day, or at another date column's day; then widths as in interval
    none       categorical: "*"; integer: the schema's bins if it has edges, then "*"; continuous: bins, then "*";
               date: month, year, decade, "*"

    Sets are generalised member by member (`anonymise._sets`). `keep_levels` cuts lower levels (their values are never
    released) and higher ones off. A missing value is a leaf of its own and joins the others at the first level that has
    a single group.

    Raises HierarchyError naming column, rule and way out.
    """
    spec = column.hierarchy
    if column.kind == "set":
        members = build_hierarchy(replace(column, kind="categorical", nullable=False))
        levels = set_levels(column, members)
        leaf_of_domain = list(range(len(levels[0])))
    else:
        if spec is not None and spec.kind == "interval" and column.kind == "continuous" and not column.edges:
            column = with_interval_leaves(column, spec)
        levels, leaf_of_domain = _levels(column, spec)
    if column.nullable:
        levels, leaf_of_domain = _with_missing(column, levels, leaf_of_domain)
    # Before leaves are joined: what splits must not be hidden by it.
    _check_nesting(column, levels)
    if spec is not None and spec.keep_levels is not None and column.kind != "set":
        levels = _kept(column, levels, *spec.keep_levels)
    levels, leaf_of_domain = _merged(levels, leaf_of_domain)
    return _assemble(column, levels, leaf_of_domain)


def _levels(column: Column, spec: HierarchySpec | None) -> tuple[Levels, list[int]]:
    """Return the label of each leaf at each level, and the leaf of each public value."""
    domain = domain_labels(column)
    if len(set(domain)) < len(domain):
        raise hierarchy_error(column, "two of its public values have the same label", "give edges of at most 6 digits")
    if not domain:
        raise hierarchy_error(column, "has no public value", "list its categories, or widen its bounds")
    if spec is not None and spec.kind == "rows":
        return row_levels(column, spec, domain)
    every = [ALL] * len(domain)
    own = list(range(len(domain)))
    if spec is None:
        return [domain, *_default(column, domain), every], own
    if spec.kind == "interval":
        return [*interval_levels(column, spec, domain), every], own
    if spec.kind == "age":
        years = Column(column.name, kind="integer", bounds=(0, oldest(column)))
        return [*interval_levels(years, spec, domain), every], own
    return [domain, *_BUILDERS[spec.kind](column, spec, domain), every], own


def _default(column: Column, domain: list[str]) -> Levels:
    if column.kind == "date":
        return calendar_levels(column, HierarchySpec("date", steps=DATE_STEPS), domain)
    if column.kind == "integer" and column.edges and not column.categories:
        whole = replace(column, nullable=False)
        labels = whole.labels()
        return [[labels[code] for code in whole.encode(np.array(domain, dtype=np.float64))]]
    return []


_BUILDERS: Final[dict[str, Callable[[Column, HierarchySpec, list[str]], Levels]]] = {
    "prefix": prefix_levels,
    "redact": redacted_levels,
    "order": ordered_levels,
    "date": calendar_levels,
    "tree": tree_levels,
}


def _kept(column: Column, levels: Levels, low: int, high: int) -> Levels:
    if high >= len(levels):
        raise hierarchy_error(
            column, f"keep_levels ends at {high}, its hierarchy at level {len(levels) - 1}", "lower the second number"
        )
    return levels[low : high + 1]


def _merged(levels: Levels, leaf_of_domain: list[int]) -> tuple[Levels, list[int]]:
    """Join leaves of one label: bottom and top codes, and what a lowest level that is kept has joined."""
    first: dict[str, int] = {}
    place = [first.setdefault(label, len(first)) for label in levels[0]]
    if len(first) == len(place):
        return levels, leaf_of_domain
    kept = {leaf: at for at, leaf in reversed(list(enumerate(place)))}
    merged = [[texts[kept[leaf]] for leaf in range(len(first))] for texts in levels]
    return merged, [place[leaf] for leaf in leaf_of_domain]


def _with_missing(column: Column, levels: Levels, leaf_of_domain: list[int]) -> tuple[Levels, list[int]]:
    if MISSING in levels[0]:  # The hierarchy's own row says how a missing value generalises.
        if column.missing == "wildcard":
            raise hierarchy_error(
                column,
                "a missing value matches every other, so the hierarchy has no row for it",
                f'take the row of {MISSING!r} out, or set missing = "own_value"',
            )
        return levels, [*leaf_of_domain, levels[0].index(MISSING)]
    if any(MISSING in texts for texts in levels):
        raise hierarchy_error(column, f"a group is named {MISSING!r}, as missing values are", "rename the group")
    leaf = len(levels[0])
    grown = [[*texts, texts[0] if at and len(set(texts)) == 1 else MISSING] for at, texts in enumerate(levels)]
    return grown, [*leaf_of_domain, leaf]


def _check_nesting(column: Column, levels: Levels) -> None:
    """Raise HierarchyError naming every group that lies in two groups of the next level."""
    problems = []
    for level, (low, high) in enumerate(pairwise(levels), start=1):
        above: dict[str, str] = {}
        split = dict.fromkeys(a for a, b in zip(low, high, strict=True) if above.setdefault(a, b) != b)
        if split:
            what, verb = ("group", "is") if len(split) == 1 else ("groups", "are")
            rule = f"the {what} {named(list(split))} of level {level - 1} {verb} split again at level {level}"
            problems.append((rule, "a value that is one at a level must stay one above it: correct the hierarchy"))
    if problems:
        raise hierarchy_errors(column, problems)


def _assemble(column: Column, levels: Levels, leaf_of_domain: Sequence[int]) -> Hierarchy:
    labels: list[tuple[str, ...]] = []
    codes: list[IntArray] = []
    for texts in levels:
        index: dict[str, int] = {}
        codes.append(np.array([index.setdefault(text, len(index)) for text in texts], dtype=np.int64))
        labels.append(tuple(index))
    for array in codes:
        array.setflags(write=False)
    return Hierarchy(
        column=column,
        labels=tuple(labels),
        codes=tuple(codes),
        leaf_of_domain=np.array(leaf_of_domain, dtype=np.int64),
    )
