"""A table of any types as integer codes: what every figure of risk is counted from.

Unlike `anonymise.encoded`, no schema is needed: the values are those that occur. None, NaN, NaT and blank text are one
value, "missing", whatever mix of them a column holds; rows never vanish.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.classes import IntArray
from anonymise.encoded import Codes, dense_key, distinct
from privacy._values import text_of
from privacy.schema import MISSING, Schema

ANYTHING: Final = "*"  # What a fully generalised or suppressed cell reads as.


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CodedColumn:
    """One column: the code of each row, and the value of each code.

    codes     shape (n_rows,)
    values    distinct values, shape (n_values,); what the missing one reads as here is not used
    missing   code of a missing value, -1 if none is missing
    """

    name: str
    codes: Codes
    values: npt.NDArray[Any]
    missing: int

    @property
    def n_values(self) -> int:
        """Number of distinct values, missing being one."""
        return int(self.values.size)

    def counts(self) -> IntArray:
        """Return how many rows have each value, shape (n_values,)."""
        return np.bincount(self.codes, minlength=self.n_values).astype(np.int64)

    def texts(self) -> list[str]:
        """Return each value as text, "" for the missing one: 1, 1.0 and "1" read alike."""
        out = text_of(self.values)
        if self.missing >= 0:
            out[self.missing] = ""
        return out


@dataclass(frozen=True, slots=True)
class WildcardRule:
    """Which cells agree with any value: missing ones of some columns.

    columns    names of the columns that have wildcards
    stars      whether "*" is one as well
    released   columns in which a release writes a missing value as "missing"
    """

    columns: frozenset[str] = frozenset()
    stars: bool = False
    released: frozenset[str] = frozenset()

    @classmethod
    def of(cls, schema: Schema | None, names: Iterable[str], missing: str | None) -> WildcardRule:
        """Return the rule that was asked for; the schema's own if none was."""
        listed = {} if schema is None else {column.name: column for column in schema.columns}
        known = {name: listed[name] for name in names if name in listed}
        released = frozenset(
            name for name, column in known.items() if column.nullable and MISSING not in column.categories
        )
        if missing == "wildcard":
            return cls(frozenset(names), stars=True, released=released)
        if missing is None:
            wild = frozenset(name for name, column in known.items() if column.nullable and column.missing == "wildcard")
            return cls(wild, released=released)
        return cls()

    def values(self, column: CodedColumn) -> npt.NDArray[np.bool_]:
        """Return which values of a column are wildcards, shape (n_values,)."""
        mask = np.zeros(column.n_values, dtype=bool)
        if column.name not in self.columns:
            return mask
        texts = ({ANYTHING} if self.stars else set()) | ({MISSING} if column.name in self.released else set())
        if texts and column.values.dtype.kind not in "biufmM":
            mask[:] = [isinstance(value, str) and value.strip() in texts for value in column.values.tolist()]
        if column.missing >= 0:
            mask[column.missing] = True
        return mask


def code_column(name: str, values: pd.Series) -> CodedColumn:
    """Return a column as codes, in the order of first appearance."""
    codes, found = distinct(values)
    absent = _missing(found)
    places = np.flatnonzero(absent)
    if places.size == 0:
        return CodedColumn(name, codes.astype(np.int32), found, -1)
    # All kinds of missing become the first of them, and the codes close up.
    first = int(places[0])
    keep = ~absent
    keep[first] = True
    renumbered = np.cumsum(keep) - 1
    renumbered[absent] = renumbered[first]
    return CodedColumn(name, renumbered.astype(np.int32)[codes], found[keep], int(renumbered[first]))


def code_table(frame: pd.DataFrame) -> dict[str, CodedColumn]:
    """Return every column of a table as codes, by its name as text.

    Raises ValueError if there are no rows, or a name appears twice.
    """
    names = [str(name) for name in frame.columns]
    for name in names:
        if names.count(name) != 1:
            raise ValueError(f"column {name!r} must appear exactly once in the table")
    if len(frame) == 0:
        raise ValueError("the table has no rows")
    return {name: code_column(name, frame.iloc[:, at]) for at, name in enumerate(names)}


def key_of(columns: Iterable[CodedColumn]) -> IntArray:
    """Return the number of each row's combination of values, from 0 without gaps, shape (n_rows,)."""
    chosen = list(columns)
    key, size = dense_key([column.codes for column in chosen], [column.n_values for column in chosen])
    return close_up(key.astype(np.int64), size)


def close_up(key: IntArray, size: int) -> IntArray:
    """Renumber the keys in use, all below `size`, from 0 without gaps, keeping their order."""
    if size > 16 * key.size + 4096:
        return np.unique(key, return_inverse=True)[1].astype(np.int64)
    used = np.zeros(size, dtype=np.int64)
    used[key] = 1
    return (np.cumsum(used) - 1)[key]


def _missing(found: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if found.dtype.kind in "biu":
        return np.zeros(found.shape, dtype=bool)
    absent = np.asarray(pd.isna(found))
    if found.dtype.kind not in "fmM":
        # Texts of blanks only are few: every distinct value is looked at once.
        absent |= np.fromiter((isinstance(v, str) and not v.strip() for v in found.tolist()), bool, count=found.size)
    return absent
