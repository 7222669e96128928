"""A raw and a released table as an attacker compares them: a released cell stands for a set of raw values.

value    code of a raw value: a leaf of the column's hierarchy, or any value of a column that is released as it is
label    code of a released text
covers   which values each label stands for; None where a label is a value
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonymise.classes import BoolArray, IntArray
from anonymise.encoded import distinct
from anonymise.errors import HierarchyError
from anonymise.hierarchies import Hierarchy, build_hierarchy
from anonymise.risk.coded import CodedColumn, code_column
from anonymise.wp29.regions import regions
from privacy.errors import SchemaError
from privacy.schema import Column


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Cells:
    """One column of the released, the raw and the control table, each as codes.

    labels          of the released rows, shape (n_released,)
    values          of the raw rows, shape (n_raw,)
    control         values of the control's rows, None without control
    n_labels        codes of labels are below it
    n_values        codes of values are below it
    covers          shape (n_labels, n_values); None: label and value are one code
    label_of_value  where no value has two labels: the label of each value, n_labels for one that has none; else None
    """

    name: str
    labels: IntArray
    values: IntArray
    control: IntArray | None
    n_labels: int
    n_values: int
    covers: BoolArray | None
    label_of_value: IntArray | None

    @classmethod
    def generalised(cls, column: Column, released: pd.Series, raw: pd.Series, control: pd.Series | None) -> Cells:
        """Return a column whose released texts are groups of the schema's hierarchy, runs or sets."""
        if released.dtype.kind in "iuf":
            # Numbers that are no text were not generalised.
            return cls.exact(column.name, released, raw, control)
        if released.dtype.kind == "M":
            released = released.dt.strftime("%Y-%m-%d")
        hierarchy = build_hierarchy(column)
        coded = code_column(column.name, released)
        covers = regions(coded.texts(), hierarchy)
        times = covers.sum(axis=0)
        label_of_value = None
        if times.max(initial=0) <= 1:
            label_of_value = np.where(times == 1, covers.argmax(axis=0), coded.n_values).astype(np.int64)
        return cls(
            name=column.name,
            labels=coded.codes.astype(np.int64),
            values=leaves_of(raw, hierarchy),
            control=None if control is None else leaves_of(control, hierarchy),
            n_labels=coded.n_values,
            n_values=hierarchy.n_leaves,
            covers=covers,
            label_of_value=label_of_value,
        )

    @classmethod
    def exact(cls, name: str, released: pd.Series, raw: pd.Series, control: pd.Series | None) -> Cells:
        """Return a column that is released as it is: equal texts are equal."""
        places: dict[str, int] = {}
        codes = [
            _numbered(code_column(name, series.astype("M8[us]") if series.dtype.kind == "M" else series), places)
            for series in (released, raw, *(() if control is None else (control,)))
        ]
        n = len(places)
        return cls(name, codes[0], codes[1], codes[2] if control is not None else None, n, n, None, np.arange(n))

    def numbered(self, codes: IntArray, *, label: bool) -> IntArray:
        """Return codes of either side as labels; only where no value has two."""
        if label or self.label_of_value is None:
            return codes
        return self.label_of_value[codes]

    def accepts(self, code: int, *, label: bool) -> BoolArray:
        """Return which values a label stands for, or which labels stand for a value."""
        if self.covers is None:
            return np.asarray(np.arange(self.n_values) == code)
        found: BoolArray = self.covers[code] if label else self.covers[:, code]
        return found


def leaves_of(values: pd.Series, hierarchy: Hierarchy) -> IntArray:
    """Return the leaf of each value; each distinct one is read once."""
    codes, found = distinct(values)
    return hierarchy.encode(found)[codes]


def secret_of(column: Column, released: pd.Series, raw: pd.Series, control: pd.Series | None) -> Cells:
    """Return a sensitive column as those values that models see: a continuous one as its bins, if it has several."""
    try:
        hierarchy = build_hierarchy(column)
        if hierarchy.n_leaves > 1 + int(column.nullable):
            labels, values = leaves_of(released, hierarchy), leaves_of(raw, hierarchy)
            others = None if control is None else leaves_of(control, hierarchy)
            n = hierarchy.n_leaves
            return Cells(column.name, labels, values, others, n, n, None, np.arange(n))
    except (SchemaError, HierarchyError):
        pass
    return Cells.exact(column.name, released, raw, control)


def _numbered(column: CodedColumn, places: dict[str, int]) -> IntArray:
    found = np.array([places.setdefault(text, len(places)) for text in column.texts()], dtype=np.int64)
    return found[column.codes]


def named(cells: Sequence[Cells]) -> tuple[str, ...]:
    """Return the columns' names."""
    return tuple(cell.name for cell in cells)
