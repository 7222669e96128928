"""A table as attackers compare it: numbers as they are, everything else as the schema's category codes.

Identifiers and free texts are left out: an attacker who holds those needs no attack.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.errors import DomainMismatch
from privacy import Schema, SchemaError, SchemaProblem
from privacy._dates import to_units
from privacy._values import is_missing
from privacy.schema import Column

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of equal length, by name.

    numeric    whether a column holds numbers (float64, NaN is missing) or codes (unsigned, missing is a code)
    """

    names: tuple[str, ...]
    numeric: tuple[bool, ...]
    columns: tuple[npt.NDArray[Any], ...]

    @classmethod
    def of(cls, frame: pd.DataFrame, schema: Schema) -> Rows:
        """Return the comparable columns of a table. Raises SchemaError with every problem, by column."""
        described = [column for column in schema.columns if _comparable(column)]
        if len(described) < 2:
            raise DomainMismatch("attacks need at least two columns with categories, numbers or dates in the schema")
        columns: list[npt.NDArray[Any]] = []
        problems: list[SchemaProblem] = []
        for column in described:
            if column.name not in frame.columns:
                problems.append(
                    SchemaProblem(column.name, "is missing from the table", "add it, or drop it everywhere")
                )
                continue
            try:
                columns.append(_values(frame[column.name], column))
            except SchemaError as error:
                problems.extend(error.problems)
        if not len(frame):
            problems.append(SchemaProblem("-", "the table has no rows", "check the file"))
        if problems:
            raise SchemaError(problems)
        names = tuple(column.name for column in described)
        return cls(names, tuple(not column.categories for column in described), tuple(columns))

    def __len__(self) -> int:
        return len(self.columns[0])

    def take(self, positions: IntArray) -> Rows:
        """Return the rows at those positions, in that order."""
        return Rows(self.names, self.numeric, tuple(column[positions] for column in self.columns))

    def sample(self, n_rows: int, *, rng: np.random.Generator) -> Rows:
        """Return `n_rows` random rows without replacement, or all of them in random order if there are fewer."""
        return self.take(rng.permutation(len(self))[:n_rows])

    def split(self, *, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Return two random halves; the second is the larger if the number of rows is odd."""
        order = rng.permutation(len(self))
        return self.take(order[: len(self) // 2]), self.take(order[len(self) // 2 :])

    def distinct(self) -> Rows:
        """Return the rows without repetitions; missing equals missing."""
        return self.take(np.flatnonzero(~_frame(self).duplicated().to_numpy()))

    def joined(self, other: Rows) -> Rows:
        """Return these rows and then the other's."""
        pairs = zip(self.columns, other.columns, strict=True)
        return Rows(self.names, self.numeric, tuple(np.concatenate(pair) for pair in pairs))

    def shuffled(self, *, rng: np.random.Generator) -> Rows:
        """Return a table in which every column is shuffled by itself: its values stay, all relations go."""
        return Rows(self.names, self.numeric, tuple(rng.permutation(column) for column in self.columns))

    def found_in(self, other: Rows) -> npt.NDArray[np.bool_]:
        """Return for each row whether the other table holds an identical one; missing equals missing."""
        both = _frame(self.joined(other))
        group = both.groupby(list(both.columns), dropna=False, sort=False).ngroup().to_numpy()
        found: npt.NDArray[np.bool_] = np.isin(group[: len(self)], group[len(self) :])
        return found

    def positions(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the places of those columns. Raises DomainMismatch for a column that is not compared."""
        wanted = tuple(names)
        unknown = sorted(set(wanted) - set(self.names))
        if unknown:
            raise DomainMismatch(f"no comparable column {unknown[0]!r}; known: {', '.join(self.names)}")
        return tuple(self.names.index(name) for name in wanted)


def _frame(rows: Rows) -> pd.DataFrame:
    return pd.DataFrame(dict(enumerate(rows.columns)))


def _comparable(column: Column) -> bool:
    """Whether attackers compare the column; one that only tells which others are missing adds nothing.

    Sets and free texts have no codes and no distances.
    """
    if column.role == "identifier" or column.missing_of or column.kind == "set":
        return False
    return bool(column.categories) or column.is_numeric or column.kind == "date"


def _values(values: pd.Series[Any], column: Column) -> npt.NDArray[Any]:
    if column.categories:
        # Each distinct value is read once; the schema's own encoding judges it.
        position, distinct = pd.factorize(np.asarray(values.to_numpy(dtype=object)), use_na_sentinel=True)
        # Missing values have position -1, which reads the last.
        known = np.array([*distinct, *([None] if (position < 0).any() else [])], dtype=object)
        codes = column.encode(known)[position].astype(np.min_scalar_type(max(column.n_codes - 1, 1)))
        return np.ascontiguousarray(codes)
    raw = np.asarray(values.to_numpy())
    if column.kind != "date" or column.is_binned:
        return column.numbers(raw)
    # A date without bounds has no codes, but it has distances.
    missing = is_missing(raw)
    if missing.any() and not column.nullable:
        raise SchemaError(column.problems(raw))
    days = np.full(len(raw), np.nan)
    try:
        days[~missing] = to_units(raw[~missing], "second") / 86_400
    except ValueError:
        problem = SchemaProblem(column.name, "must hold dates without a time zone", "write dates as YYYY-MM-DD")
        raise SchemaError([problem]) from None
    return days
