"""Tables that stay where they are, opened to be read and nothing else: a Parquet file in DuckDB, a table in PostgreSQL.

Whatever the database says goes no further than the kind of its error: its messages quote values and addresses.
"""

# ruff: noqa: S608 - names are quoted (`quoted`); all else in the queries are numbers.

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from generators.sql import SqlTable, quoted
from synthema.errors import TableError
from synthema.intake.raw import RawTable, cell_text
from synthema.intake.spec import ParquetSource, PostgresSource
from synthema.tables import listed

# PostgreSQL has no statistics of bins and takes a tenth of the rows for the number of groups. It would sort ten million
# rows on disk, four times slower, rather than hash what are a few thousand groups, and would not do it in parallel.
_GROUPING = ("work_mem = '256MB'", "parallel_tuple_cost = 0", "jit = off")


@contextlib.contextmanager
def parquet_table(spec: ParquetSource, folder: Path) -> Iterator[SqlTable]:
    """Open a Parquet file: DuckDB in memory, bounded, without extensions, and with this one file in reach."""
    try:
        import duckdb
    except ImportError:
        raise TableError("reading Parquet needs another library: pip install 'synthema[parquet]'") from None
    path = spec.file(folder)
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            raise TableError(f"{path.name} is no Parquet file, or an encrypted one")
    config: dict[str, Any] = {
        "threads": str(spec.threads),
        "memory_limit": f"{spec.memory_megabytes}MB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        # Private rows are not spilled to a folder that nobody chose.
        "temp_directory": "",
    }
    try:
        with contextlib.closing(duckdb.connect(":memory:", config=config)) as connection:
            connection.execute(f"SET allowed_paths = [{_text(str(path))}]")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield SqlTable(connection, f"read_parquet({_text(str(path))})")
    except duckdb.OutOfMemoryException:
        raise TableError(f"counting {path.name} needs more memory: raise memory_megabytes") from None
    except duckdb.Error as error:
        raise TableError(f"{path.name} cannot be read by DuckDB ({type(error).__name__})") from None


@contextlib.contextmanager
def postgres_table(spec: PostgresSource, folder: Path) -> Iterator[SqlTable]:
    """Open a table in one read-only transaction that sees one state of it, with a limit on the time of a query."""
    try:
        import psycopg
    except ImportError:
        raise TableError("reading PostgreSQL needs another library: pip install 'synthema[postgres]'") from None
    name = ".".join(quoted(part) for part in (spec.namespace, spec.table) if part is not None)
    try:
        with psycopg.connect(spec.address(folder), connect_timeout=30) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.execute(f"SET LOCAL statement_timeout = {spec.timeout_seconds * 1000}")
            # Texts of a map are written with their quotes doubled, which is all only under this setting.
            connection.execute("SET LOCAL standard_conforming_strings = on")
            for setting in _GROUPING:
                connection.execute(f"SET LOCAL {setting}")
            yield SqlTable(connection, name)
    except psycopg.errors.QueryCanceled:
        raise TableError(
            f"PostgreSQL took longer than timeout_seconds = {spec.timeout_seconds}: raise it, or make a smaller view"
        ) from None
    except psycopg.errors.UndefinedTable:
        raise TableError("PostgreSQL has no such table: correct table and namespace") from None
    except psycopg.errors.InsufficientPrivilege:
        raise TableError("PostgreSQL does not let this user read the table: GRANT SELECT on it") from None
    except psycopg.OperationalError as error:
        raise TableError(f"PostgreSQL cannot be reached or stopped ({type(error).__name__})") from None
    except (psycopg.Error, UnicodeError) as error:
        raise TableError(f"PostgreSQL cannot count the table ({type(error).__name__})") from None


def rows_of(table: SqlTable, name: str, wanted: tuple[str, ...], *, most_rows: int) -> RawTable:
    """Return a database's table as texts. Raises TableError beyond `most_rows`, or for a type that is no cell."""
    held = table.columns()
    columns = [column for column in wanted if column in held]
    if not columns:
        raise TableError(f"{name} has none of the columns that are looked for: {listed(wanted)}")
    lists: list[list[str]] = [[] for _ in columns]
    n_rows = 0
    for rows in table.chunks(f"SELECT {', '.join(map(quoted, columns))} FROM {table.name} LIMIT {most_rows + 1}"):
        n_rows += len(rows)
        if n_rows > most_rows:
            raise TableError(f'{name} has more than max_rows = {most_rows} rows: raise it, or set load = "count"')
        for column, values, texts in zip(columns, zip(*rows, strict=True), lists, strict=True):
            for value in values:
                text = cell_text(value)
                if text is None:
                    raise TableError(f"{name}, column {column!r}: has a type that is no number, text, date or boolean")
                texts.append(text)
    return RawTable(name, {column: np.array(texts, dtype=object) for column, texts in zip(columns, lists, strict=True)})


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
