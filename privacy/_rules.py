"""Public structural knowledge: what cannot occur in a table, whoever is in it.

Every rule but an order says that no row has codes from certain sets in certain columns all at once (`Impossible`).
An order compares values, which bins only approximate. Messages name columns and public labels, never what a row holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from privacy._columns import MISSING, BoolArray, Column, FloatArray, IntArray

Columns = Mapping[str, Column]


@dataclass(frozen=True, slots=True, eq=False)
class Impossible:
    """No row has in every one of these columns a code of its set; sets have shape (n_codes of the column,)."""

    columns: tuple[str, ...]
    sets: tuple[BoolArray, ...]

    def broken_by(self, codes: Mapping[str, IntArray]) -> BoolArray:
        """Return which rows break it, shape (n_rows,), from the columns' codes."""
        hit = self.sets[0][codes[self.columns[0]]]
        for name, members in zip(self.columns[1:], self.sets[1:], strict=True):
            hit = hit & members[codes[name]]
        return hit


@dataclass(frozen=True, slots=True)
class Rule:
    """A combination of values that cannot occur. A column named twice means any of its values."""

    forbid: tuple[tuple[str, str], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the rule speaks of."""
        return tuple(dict.fromkeys(name for name, _ in self.forbid))

    @property
    def text(self) -> str:
        """The rule in words."""
        parts = [f"{name} = {' or '.join(self._labels(name))}" for name in self.columns]
        return f"the combination {' and '.join(parts)} is forbidden by a rule"

    def impossible(self, columns: Columns) -> tuple[Impossible, ...]:
        """Return the rule in codes. Raises KeyError on an unknown column or label."""
        sets = [
            np.logical_or.reduce([columns[name].codes_of(label) for label in self._labels(name)])
            for name in self.columns
        ]
        return (Impossible(self.columns, tuple(sets)),)

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain data."""
        labels = {name: self._labels(name) for name in self.columns}
        return {"forbid": {name: found[0] if len(found) == 1 else found for name, found in labels.items()}}

    def _labels(self, name: str) -> list[str]:
        return [label for other, label in self.forbid if other == name]


@dataclass(frozen=True, slots=True)
class Determines:
    """One column's value follows from another's: a hospital lies in one region. A missing source says nothing."""

    source: str
    target: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the rule speaks of."""
        return (self.source, self.target)

    @property
    def text(self) -> str:
        """The rule in words."""
        return f"{self.source} determines {self.target}, but not as the rule's map says"

    def impossible(self, columns: Columns) -> tuple[Impossible, ...]:
        """Return the rule in codes: for each target, its sources with anything else."""
        source, target = columns[self.source], columns[self.target]
        # One index for all pairs: a map of thousands of diagnoses would take a second with `codes_of`.
        code = {label: i for i, label in enumerate(source.labels())}
        sources: dict[str, BoolArray] = {}
        for left, right in self.pairs:
            sources.setdefault(right, np.zeros(source.n_codes, dtype=bool))[code[left]] = True
        return tuple(Impossible(self.columns, (members, ~target.codes_of(label))) for label, members in sources.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain data."""
        return {"determines": [self.source, self.target], "map": dict(self.pairs)}


@dataclass(frozen=True, slots=True)
class OnlyIf:
    """A column has a value only if the condition holds (a date of relapse: only if there was one).

    always     it also has one whenever the condition holds
    """

    column: str
    condition: tuple[tuple[str, str], ...]
    always: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the rule speaks of."""
        return (self.column, *(name for name, _ in self.condition))

    @property
    def text(self) -> str:
        """The rule in words."""
        condition = " and ".join(f"{name} = {label}" for name, label in self.condition)
        return f"has a value {'exactly' if self.always else 'only'} if {condition}, by a rule that the table breaks"

    def impossible(self, columns: Columns) -> tuple[Impossible, ...]:
        """Return the rule in codes: a value with any part of the condition broken; and missing with all of it met."""
        missing = columns[self.column].codes_of(MISSING)
        met = {name: columns[name].codes_of(label) for name, label in self.condition}
        out = [Impossible((self.column, name), (~missing, ~members)) for name, members in met.items()]
        if self.always:
            out.append(Impossible((self.column, *met), (missing, *met.values())))
        return tuple(out)

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain data."""
        out: dict[str, Any] = {"column": self.column, "only_if": dict(self.condition)}
        return out | {"always": True} if self.always else out


@dataclass(frozen=True, slots=True)
class MissingTogether:
    """These columns are missing all at once or not at all: one laboratory order, one questionnaire."""

    columns: tuple[str, ...]

    @property
    def text(self) -> str:
        """The rule in words."""
        return f"must be missing exactly where {', '.join(self.columns[1:])} is"

    def impossible(self, columns: Columns) -> tuple[Impossible, ...]:
        """Return the rule in codes: each column with the next, one missing and the other not."""
        missing = {name: columns[name].codes_of(MISSING) for name in self.columns}
        return tuple(
            Impossible((one, two), (gone, other))
            for one, two in zip(self.columns, self.columns[1:], strict=False)
            for gone, other in ((missing[one], ~missing[two]), (~missing[one], missing[two]))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain data."""
        return {"missing_together": list(self.columns)}


@dataclass(frozen=True, slots=True)
class Order:
    """Values do not decrease from each column to the next, where both are there.

    strict     they increase (two columns only)
    """

    columns: tuple[str, ...]
    strict: bool = False

    @property
    def text(self) -> str:
        """The rule in words."""
        return f"must not come after {', '.join(self.columns[1:])}{' or with it' if self.strict else ''}"

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every earlier column with every later one: one in between may be missing."""
        return tuple((one, two) for i, one in enumerate(self.columns) for two in self.columns[i + 1 :])

    def broken_by(self, numbers: Mapping[str, FloatArray]) -> BoolArray:
        """Return which rows break it, shape (n_rows,), from the columns' numbers, NaN where missing."""
        hit = np.zeros(len(numbers[self.columns[0]]), dtype=bool)
        for one, two in self.pairs:
            # A comparison with NaN is false: a missing value breaks no order.
            hit |= numbers[one] >= numbers[two] if self.strict else numbers[one] > numbers[two]
        return hit

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain data."""
        out: dict[str, Any] = {"order": list(self.columns)}
        return out | {"strict": True} if self.strict else out


AnyRule = Rule | Determines | OnlyIf | MissingTogether | Order
