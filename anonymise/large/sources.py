"""Where large tables come from: chunks of frames, lazy frames of an engine, tables of a database.

counted   one row per distinct combination of some columns, and how many rows of the table have it
"""

# ruff: noqa: S608 - names of tables and columns are quoted; nothing else enters the queries.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.errors import MissingLibrary
from privacy._frames import frames_of
from privacy.errors import SchemaError, SchemaProblem

CHUNK_ROWS: Final = 1 << 18
Counted = tuple[pd.DataFrame, npt.NDArray[np.int64]]

# A collation may take "a" and "A" for equal; grouped by their bytes as well, they are told apart.
_BYTES_OF: Final = {
    "sqlite3": "HEX({})",
    "duckdb": "HEX(CAST({} AS VARCHAR))",
    "psycopg": "CONVERT_TO(CAST({} AS TEXT), 'UTF8')",
}


@dataclass(frozen=True, slots=True)
class SqlTable:
    """A table or view of a database: it groups and counts, and sends rows only when they are released.

    connection   an open DB-API 2.0 connection, as of `sqlite3`, `duckdb` or `psycopg`; it is only read from
    name         name of the table or view, or (schema, table); quoted, never parsed

    The table must not change between counting and releasing: work in one transaction of isolation level REPEATABLE
    READ, or on a copy. A release of a table that did change is withheld.
    """

    connection: Any
    name: str | tuple[str, str]

    def counted(self, columns: Sequence[str]) -> Iterator[Counted]:
        """Yield the distinct combinations of some columns, counted by the database."""
        self._check(columns)
        names = ", ".join(map(_quoted, columns))
        keys = names
        form = _BYTES_OF.get(type(self.connection).__module__.split(".")[0].lstrip("_"))
        if form is not None:
            keys += ", " + ", ".join(form.format(_quoted(column)) for column in columns)
        for rows in self._fetched(f"SELECT {names}, COUNT(*) FROM {self._table} GROUP BY {keys}"):
            *values, counts = zip(*rows, strict=True)
            yield _frame(columns, values), np.array(counts, dtype=np.int64)

    def chunks(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield the rows of some columns."""
        self._check(columns)
        for rows in self._fetched(f"SELECT {', '.join(map(_quoted, columns))} FROM {self._table}"):
            yield _frame(columns, list(zip(*rows, strict=True)))

    @property
    def _table(self) -> str:
        return ".".join(map(_quoted, (self.name,) if isinstance(self.name, str) else self.name))

    def _check(self, columns: Sequence[str]) -> None:
        cursor = self._execute(f"SELECT * FROM {self._table} WHERE 1 = 0")
        known = [str(entry[0]) for entry in cursor.description]
        lacking = [name for name in columns if name not in known]
        if lacking:
            raise SchemaError(
                [SchemaProblem(name, "is not in the table", "add it, or correct the schema") for name in lacking]
            )

    def _execute(self, query: str) -> Any:
        # A cursor of DuckDB is another connection, which would not see the same snapshot.
        if hasattr(self.connection, "execute"):
            return self.connection.execute(query)
        cursor = self.connection.cursor()
        cursor.execute(query)
        return cursor

    def _fetched(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        cursor = self._execute(query)
        while rows := cursor.fetchmany(CHUNK_ROWS):
            yield rows


def counted(source: Any, columns: Sequence[str]) -> Iterator[Counted]:
    """Yield distinct combinations of some columns of a table with their counts; the same one may come again.

    source   a `SqlTable`; a frame, or an iterable of frames that can be read again, of any library that narwhals knows
    """
    if isinstance(source, SqlTable):
        yield from source.counted(columns)
        return
    grouped = _grouped(source, columns)
    if grouped is None:
        for frame in chunks(source, columns):
            yield frame, np.ones(len(frame), dtype=np.int64)
        return
    for frame in chunks(grouped, [*columns, _COUNT]):
        counts = frame.pop(_COUNT).to_numpy().astype(np.int64)
        yield frame, counts


def chunks(source: Any, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the rows of some columns of a table as pandas frames of at most `CHUNK_ROWS` rows."""
    if isinstance(source, SqlTable):
        yield from source.chunks(columns)
        return
    if isinstance(source, pd.DataFrame):
        for start in range(0, len(source), CHUNK_ROWS):
            yield _picked(source.iloc[start : start + CHUNK_ROWS], columns)
        return
    frames = frames_of(source, n_rows=CHUNK_ROWS, missing=MissingLibrary)
    if frames is not None:
        for frame in frames:
            yield _picked(frame.to_pandas(), columns)
        return
    if iter(source) is source:
        raise TypeError("the table is read twice: give a list or another iterable of frames that can be read again")
    for frame in source:
        yield from chunks(frame, columns)


_COUNT: Final = "rows of this combination"


def _grouped(source: Any, columns: Sequence[str]) -> Any:
    """Return a lazy frame's distinct combinations with their counts, computed by its engine; None for other tables."""
    try:
        import narwhals.stable.v2 as nw
    except ImportError:
        return None
    frame = nw.from_native(source, pass_through=True)
    if not isinstance(frame, nw.LazyFrame):
        return None
    known = frame.collect_schema().names()
    lacking = [name for name in columns if name not in known]
    if lacking:
        raise _lacking(lacking)
    return frame.group_by(*columns).agg(nw.len().alias(_COUNT)).collect().to_pandas()


def _picked(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    lacking = [name for name in columns if list(frame.columns).count(name) != 1]
    if lacking:
        raise _lacking(lacking)
    return frame[list(columns)]


def _lacking(names: Sequence[str]) -> SchemaError:
    return SchemaError(
        [SchemaProblem(name, "is not in the table exactly once", "correct the table or the schema") for name in names]
    )


def _frame(columns: Sequence[str], values: Sequence[Sequence[Any]]) -> pd.DataFrame:
    out = {}
    for name, of_column in zip(columns, values, strict=True):
        array = np.empty(len(of_column), dtype=object)
        array[:] = of_column
        out[name] = pd.Series(array).infer_objects()
    return pd.DataFrame(out)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
