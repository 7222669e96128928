"""Downcoding: finer values than a table released, inferred from the table alone.

class      rows of equal text; its region is the set of raw tuples that its text stands for
nested     a class whose region lies within another's

`downcode` is for tables made step by step (local recoding, cell suppression). A class is released as a whole: whoever
was in its region when it was released is in it. If a class lies nested in a larger one, its step came first (else its
rows would be in the larger one), and with it all classes of its node. No row of a later class is in a region that was
released earlier. What no earlier region covers is what remains; where that is less than the text of a column says, the
cell is downcoded. A full-domain generalisation has no nested classes and is not downcoded.

`attained` is for Mondrian, whose texts are as narrow as its classes: somebody in the class has each end of a run, and
each value of a set. A class of two is known entirely.

Both are certain for the whole class and say nothing of which row it is. Whoever knows more infers more.
Source: Cohen 2022, USENIX Security, "Attacks on deidentification's defenses" (downcoding; minimality as the lever);
Chhillar, Righi, Sutter, Kornaropoulos 2025, arXiv:2509.03350 (refinement of ARX's local recoding).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.classes import BoolArray, IntArray
from anonymise.hierarchies import ALL, Hierarchy, build_hierarchies
from anonymise.spans import Spans
from privacy.schema import Schema

# A region is laid out as a grid; classes with a larger one are left alone, which makes fewer claims, not wrong ones.
_MAX_GRID: Final = 1_000_000
_RUN: Final = re.compile(r"\[(.+), (.+)\)|(.+) to (.+)")


@dataclass(frozen=True, slots=True)
class Refinement:
    """What is certain of all rows of a class in a stepwise release.

    rows     positions in the released table
    share    raw tuples that are still possible, as a share of those that the text stands for, in (0, 1)
    columns  (column, released text, the leaves that remain), for each column where fewer remain than the text says
    """

    rows: tuple[int, ...]
    share: float
    columns: tuple[tuple[str, str, tuple[str, ...]], ...]

    @property
    def n_cells(self) -> int:
        """Number of downcoded cells."""
        return len(self.rows) * len(self.columns)


@dataclass(frozen=True, slots=True)
class Attained:
    """Values of which each is certainly had by some row of a class: so many cells are downcoded.

    rows     positions in the released table
    column   name of the quasi-identifier
    text     what was released
    values   leaves of the column's hierarchy
    """

    rows: tuple[int, ...]
    column: str
    text: str
    values: tuple[str, ...]


def downcode(table: pd.DataFrame, schema: Schema) -> list[Refinement]:
    """Return the classes of a stepwise release of which something is certain that their text does not say.

    An empty list: nothing was found. Raises ValueError for a table whose texts are not the schema's.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {
    ...     "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 3], "hierarchy": {"interval": [2]}}}})
    >>> downcode(pd.DataFrame({"age": ["0", "0", "0", "[0, 2)", "[0, 2)"]}), schema)
    [Refinement(rows=(3, 4), share=0.5, columns=(('age', '[0, 2)', ('1',)),))]
    """
    hierarchies = _hierarchies(schema)
    classes = _classes(table, schema)
    regions, nodes = [], []
    for at, hierarchy in enumerate(hierarchies):
        leaves, levels = _read(table[hierarchy.name], hierarchy)
        regions.append(np.stack([leaves[text[at]] for text, _ in classes]))
        nodes.append(np.array([levels[text[at]] for text, _ in classes]))
    earlier = _earlier(regions, np.stack(nodes))
    out = []
    for this, (text, rows) in enumerate(classes):
        taken = earlier[this].copy()
        for region in regions:
            taken &= (region & region[this]).any(axis=1)
        if not taken.any():
            continue
        here = [region[this] for region in regions]
        share, remaining = _remaining(here, [region[taken] for region in regions])
        columns = tuple(
            (hierarchy.name, released, tuple(hierarchy.labels[0][leaf] for leaf in np.flatnonzero(left)))
            for hierarchy, released, before, left in zip(hierarchies, text, here, remaining, strict=True)
            if left.sum() < before.sum()
        )
        if share < 1.0:
            out.append(Refinement(rows, share, columns))
    return out


def attained(table: pd.DataFrame, schema: Schema) -> list[Attained]:
    """Return, for each class and column of a Mondrian release, the values that somebody in the class certainly has.

    Only where the text is a run or a set of values: "[31, 38)" has 31 and 37. Each value is one cell downcoded.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {
    ...     "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99]}}})
    >>> attained(pd.DataFrame({"age": ["[31, 38)", "[31, 38)", "40", "40"]}), schema)
    [Attained(rows=(0, 1), column='age', text='[31, 38)', values=('31', '37'))]
    """
    ends = [_EndsOfRuns.of(Spans.of(hierarchy)) for hierarchy in _hierarchies(schema)]
    out = []
    for texts, rows in _classes(table, schema):
        for run, text in zip(ends, texts, strict=True):
            values = run.values(text)
            if values:
                out.append(Attained(rows, run.span.hierarchy.name, text, values))
    return out


def _hierarchies(schema: Schema) -> tuple[Hierarchy, ...]:
    return build_hierarchies(schema.column(name) for name in schema.quasi_identifiers)


def _classes(table: pd.DataFrame, schema: Schema) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Return the texts of each class and the positions of its rows."""
    found: dict[tuple[str, ...], list[int]] = {}
    for row, texts in enumerate(zip(*(table[name].tolist() for name in schema.quasi_identifiers), strict=True)):
        found.setdefault(texts, []).append(row)
    return [(texts, tuple(rows)) for texts, rows in found.items()]


def _read(values: pd.Series, hierarchy: Hierarchy) -> tuple[dict[str, BoolArray], dict[str, int]]:
    """Return which leaves each text stands for, shape (n_leaves,), and its level, -1 if several levels have it."""
    leaves = {ALL: np.ones(hierarchy.n_leaves, dtype=np.bool_)}
    levels: dict[str, int] = {}
    for level, (labels, codes) in enumerate(zip(hierarchy.labels, hierarchy.codes, strict=True)):
        for group, label in enumerate(labels):
            leaves[label] = codes == group
            levels[label] = -1 if label in levels else level
    levels.setdefault(ALL, hierarchy.n_levels)
    if not set(values) <= set(leaves):
        raise ValueError(f"column {hierarchy.name!r} holds a text that is none of its hierarchy's")
    return leaves, levels


def _earlier(regions: Sequence[BoolArray], levels: IntArray) -> BoolArray:
    """Return whether class j was certainly released before class i, at (i, j)."""
    n = levels.shape[1]
    nested = np.ones((n, n), dtype=np.bool_)
    for region in regions:
        # Whether j has a leaf that i has not: a product of 0/1 matrices.
        outside = (~region).astype(np.float32) @ region.T.astype(np.float32)
        nested &= outside == 0
    np.fill_diagonal(nested, val=False)
    # All classes of a node were released in one step, so an order of two classes is an order of their nodes.
    known = (levels >= 0).all(axis=0)
    nodes, node_of = np.unique(levels[:, known], axis=1, return_inverse=True)
    node_of = node_of.reshape(-1)
    before = np.zeros((nodes.shape[1], nodes.shape[1]), dtype=np.bool_)
    later, sooner = np.nonzero(nested[np.ix_(known, known)])
    before[node_of[later], node_of[sooner]] = True
    for middle in range(before.shape[0]):
        before |= np.outer(before[:, middle], before[middle])
    # Nodes that come before themselves were used twice: their classes tell no order.
    twice = before.diagonal().copy()
    before[twice], before[:, twice] = False, False
    nested[np.ix_(known, known)] |= before[np.ix_(node_of, node_of)]
    return nested


def _remaining(region: Sequence[BoolArray], taken: Sequence[BoolArray]) -> tuple[float, list[BoolArray]]:
    """Return the share of a region that no taken one covers, and per column the leaves that some tuple there has."""
    # Leaves of a column that lie in the same taken regions need not be told apart.
    kinds: list[BoolArray] = []
    kind_of: list[IntArray] = []
    for here, inside in zip(region, taken, strict=True):
        found, which = np.unique(inside[:, np.flatnonzero(here)], axis=1, return_inverse=True)
        kinds.append(found)
        kind_of.append(which.reshape(-1).astype(np.int64))
    shape = tuple(kind.shape[1] for kind in kinds)
    if math.prod(shape) > _MAX_GRID:
        return 1.0, list(region)
    possible = np.ones(shape, dtype=np.bool_)
    for at in range(taken[0].shape[0]):
        possible[np.ix_(*(np.flatnonzero(kind[at]) for kind in kinds))] = False
    if not possible.any():  # No stepwise release looks like this.
        return 1.0, list(region)
    share: npt.NDArray[np.float64] = possible.astype(np.float64)
    for which in reversed(kind_of):
        share = share @ (np.bincount(which) / which.size)
    out = []
    for axis, (here, which) in enumerate(zip(region, kind_of, strict=True)):
        some = np.asarray(possible.any(axis=tuple(other for other in range(len(shape)) if other != axis)))
        left = here.copy()
        left[here] = some[which]
        out.append(left)
    return float(share), out


@dataclass(frozen=True, slots=True)
class _EndsOfRuns:
    """The values that a text of Mondrian names: `first[text]`, `last[text]` of a number's or a day's leaf."""

    span: Spans
    first: Mapping[str, str]
    last: Mapping[str, str]

    @classmethod
    def of(cls, span: Spans) -> _EndsOfRuns:
        labels = span.hierarchy.labels[0]
        if span.notation == "days":
            return cls(span, {label: label for label in labels}, {label: label for label in labels})
        if span.notation == "numbers":
            begins = {f"{low:.12g}": label for low, label in zip(span.ends[0], labels, strict=True)}
            return cls(span, begins, {f"{high:.12g}": label for high, label in zip(span.ends[1], labels, strict=True)})
        return cls(span, {}, {})

    def values(self, text: str) -> tuple[str, ...]:
        """Return the values that somebody in a class of this text has; none if the text is a value, or a group."""
        labels = self.span.hierarchy.labels[0]
        if text in labels:
            return ()
        if self.span.notation == "set":
            # A set is written in the order of the leaves; "*" is the set of all.
            return labels if text == ALL else tuple(text.strip("{}").split(", "))
        parts = _RUN.fullmatch(text)
        first = None if parts is None else self.first.get(parts[1] or parts[3])
        last = None if parts is None else self.last.get(parts[2] or parts[4])
        return () if first is None or last is None else (first, last)
