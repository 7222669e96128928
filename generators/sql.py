"""Tables that stay in their database: it groups and counts, and sends groups with counts instead of rows.

connection   DB-API 2.0, as of `sqlite3`, `duckdb` or `psycopg`; standard SQL only, identifiers in double quotes
key          what rows are grouped by: the bin of a number, computed in SQL from the public edges, or the value itself
witness      values of a column that break a rule of the schema if any value does: the smallest and largest number, one
             that is not whole, one missing; every distinct text

The schema's own code judges the witnesses and codes one representative of each group, so what is refused and how
values are coded is the same as for a frame, however each database writes booleans, dates or decimals.
"""

# ruff: noqa: S608 - names of tables and columns are quoted (`quoted`); all else in the queries are numbers.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.domain import Clique, Domain
from generators.encoding import encode
from generators.errors import DomainMismatch, TooManyRecords
from generators.marginals import Counts, Pass, count_in_passes
from generators.oracle import CountingOracle
from privacy import Rng, Schema, SchemaError, SchemaProblem
from privacy.neighbours import Neighbours
from privacy.schema import Column

# Scans cost more than in memory, and so do the groups that come back, which are coded one by one.
_PASS_CELLS = 1 << 14

# Rows fetched at a time.
_FETCH = 1 << 16

# A column's collation may take "a" and "A" for equal. Grouped by it alone, one more row could choose which of the two
# stands for all; so texts are grouped by their bytes as well.
_BYTES_OF = {
    "sqlite3": "HEX({})",
    "duckdb": "HEX({})",
    "psycopg": "CONVERT_TO({}, 'UTF8')",
    "psycopg2": "CONVERT_TO({}, 'UTF8')",
}

# More distinct spellings than this are no list of categories.
_MOST_VALUES = 1 << 20


class SqlOracle(CountingOracle):
    """Answers from a table in a database, which groups and counts; noise and selection as `LocalTableOracle`.

    The table must not change while the oracle lives: work on a snapshot (in PostgreSQL, a transaction with isolation
    level REPEATABLE READ). Numeric columns must have a numeric type; text that looks like numbers is refused. Texts are
    told apart by their bytes in SQLite, DuckDB and PostgreSQL; elsewhere, columns of categories must have a collation
    that does so.

    Parameters
    ----------
    connection
        An open DB-API connection; the oracle only reads.
    table
        Name of the table or view, or (schema, table). It is quoted, never parsed.
    schema
        The public description. With `patient_id`, a patient may have several rows; without, a row is a patient.
    neighbours
        Relation under which sensitivities are computed.
    max_records_per_patient
        Most rows of one patient, m. Noise grows by m. A table in which a patient has more is refused.
    rng
        Source of noise; the operating system's by default. Anything else protects nobody.

    Raises
    ------
    SchemaError
        If the table does not fit the schema.
    TooManyRecords
        If a patient has more rows than `max_records_per_patient`.

    Examples
    --------
    >>> import sqlite3
    >>> connection = sqlite3.connect(":memory:")
    >>> _ = connection.execute('CREATE TABLE "patients" (age INTEGER)')
    >>> _ = connection.executemany("INSERT INTO patients VALUES (?)", [(age,) for age in [35, 50, 65, 70] * 250])
    >>> schema = Schema.from_dict({"columns": {"age": {"kind": "integer", "bounds": [0, 110], "edges": [40, 60]}}})
    >>> [age] = SqlOracle(connection, "patients", schema).measure([("age",)], rho=0.5)
    >>> bool(abs(age.values - [250, 250, 500]).max() < 20)
    True
    >>> connection.close()
    """

    def __init__(
        self,
        connection: Any,
        table: str | tuple[str, str],
        schema: Schema,
        *,
        neighbours: Neighbours = "add_remove_one",
        max_records_per_patient: int = 1,
        rng: Rng | None = None,
    ) -> None:
        domain = Domain.from_schema(schema)
        super().__init__(domain, neighbours=neighbours, max_records_per_patient=max_records_per_patient, rng=rng)
        self._table = SqlTable(connection, ".".join(map(quoted, (table,) if isinstance(table, str) else table)))
        self._schema = schema
        self._n_rows = _validate(self._table, schema)
        if schema.patient_id is not None:
            check_records(self._table, schema.patient_id, most=max_records_per_patient)

    def _count(self, cliques: Sequence[Clique]) -> list[Counts]:
        return count_in_passes(
            cliques,
            self.domain,
            n_rows=self._n_rows,
            most_cells=_PASS_CELLS,
            count=lambda passes: [self._count_pass(part) for part in passes],
        )

    def _count_pass(self, part: Pass) -> Counts:
        """Group the rows by what the columns' codes depend on, and add each group's count to the cell of its codes."""
        wanted = (*part.left, *part.right)
        schema = self._schema.subset(self._schema.needed_for(wanted))
        columns = [schema.column(name) for name in schema.names]
        # Any row of a group stands for all: its smallest number has the same key as the others, so the same code.
        members = [f"MIN({number_of(c)})" if is_binned(c) else quoted(c.name) for c in columns]
        group = ", ".join(self._table.key_of(c) for c in columns)
        query = f"SELECT {', '.join(members)}, COUNT(*) FROM {self._table.name} GROUP BY {group}"
        domain = Domain.from_schema(schema)
        order = [domain.position(name) for name in wanted]
        counts = np.zeros(part.cells, dtype=np.int64)
        for rows in self._table.chunks(query):
            values = list(zip(*rows, strict=True))
            frame = pd.DataFrame(
                {name: as_column(column) for name, column in zip(schema.names, values[:-1], strict=True)}
            )
            codes = encode(frame, schema)
            flat = np.ravel_multi_index([codes[:, i].astype(np.intp) for i in order], self.domain.sizes(wanted))
            np.add.at(counts, flat, np.array(values[-1], dtype=np.int64))
        return counts


def quoted(name: str) -> str:
    """Return the name as a quoted SQL identifier, whatever it holds.

    Examples
    --------
    >>> print(quoted('a"b; DROP TABLE c'))
    "a""b; DROP TABLE c"
    """
    if "\0" in name:
        raise DomainMismatch("a name in a database cannot hold a null character")
    return '"' + name.replace('"', '""') + '"'


def key_of(column: Column) -> str:
    """Return the SQL expression that the column's rows are grouped by.

    Examples
    --------
    >>> print(key_of(Column("age", kind="integer", bounds=(0, 110), edges=(40,))))
    CASE WHEN CAST("age" AS DOUBLE PRECISION) < 40.0 THEN 0 WHEN CAST("age" AS DOUBLE PRECISION) <= 110.0 THEN 1 END
    """
    if not is_binned(column):
        return quoted(column.name)
    number = number_of(column)
    # NaN is neither below nor equal to a bound, or above all of them, so it has the key NULL, as missing values do.
    bins = [f"WHEN {number} < {float(edge)!r} THEN {code}" for code, edge in enumerate(column.bin_edges[1:-1])]
    return f"CASE {' '.join([*bins, f'WHEN {number} <= {float(column.bin_edges[-1])!r} THEN {len(bins)}'])} END"


@dataclass(frozen=True, slots=True)
class SqlTable:
    """A connection and the quoted name of a table in it."""

    connection: Any
    name: str

    def key_of(self, column: Column) -> str:
        """Return the expressions that the column's rows are grouped by: `key_of`, and a text's bytes."""
        key = key_of(column)
        if is_binned(column) or self.driver not in _BYTES_OF:
            return key
        return f"{key}, {_BYTES_OF[self.driver].format(f'CAST({key} AS VARCHAR(4000))')}"

    @property
    def driver(self) -> str:
        """Name of the connection's package, as in `_BYTES_OF`."""
        return type(self.connection).__module__.partition(".")[0].lstrip("_")

    def chunks(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the query's rows, some at a time."""
        cursor = self._execute(query)
        while rows := cursor.fetchmany(_FETCH):
            yield rows

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the query's rows."""
        return [row for chunk in self.chunks(query) for row in chunk]

    def columns(self) -> list[str]:
        """Return the names of the table's columns."""
        return [name for name, _ in self.types()]

    def types(self) -> list[tuple[str, Any]]:
        """Return the columns' names, each with its driver's own code of its type."""
        cursor = self._execute(f"SELECT * FROM {self.name} WHERE 1 = 0")
        return [(str(entry[0]), entry[1]) for entry in cursor.description]

    def _execute(self, query: str) -> Any:
        # A cursor of DuckDB is another connection, which would see neither temporary tables nor the same snapshot.
        if hasattr(self.connection, "execute"):
            return self.connection.execute(query)
        cursor = self.connection.cursor()
        cursor.execute(query)
        return cursor


@dataclass(frozen=True, slots=True)
class _Witnesses:
    """A frame whose columns are witnesses, so their lengths differ; the number of rows is the table's."""

    values: dict[str, npt.NDArray[Any]]
    columns: list[str]
    n_rows: int

    def __getitem__(self, name: str) -> pd.Series[Any]:
        return pd.Series(self.values[name])

    def __len__(self) -> int:
        return self.n_rows


def _validate(table: SqlTable, schema: Schema) -> int:
    """Return the number of rows. Raises SchemaError as `Schema.validate` does."""
    [(n_rows,)] = table.rows(f"SELECT COUNT(*) FROM {table.name}")
    names = table.columns()
    known = [name for name in names if name in schema.names]
    witnesses = {name: as_column(witnesses_of(table, schema.column(name))) for name in known}
    # Witnesses of different columns are not of one row, so rules that join columns are left for later.
    replace(schema, rules=()).validate(_Witnesses(witnesses, names, n_rows))
    check_rules(table, schema)
    return int(n_rows)


def check_records(table: SqlTable, patient_id: str, *, most: int) -> None:
    """Raise TooManyRecords if a patient has more than `most` rows."""
    patient = quoted(patient_id)
    # As the database tells names apart, and as `patient_names` does: neither may find a patient of too many.
    for name in (patient, f"COALESCE(TRIM(CAST({patient} AS VARCHAR(4000))), '')"):
        [(found,)] = table.rows(
            f"SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM {table.name} GROUP BY {name}) AS patients"
        )
        if found is not None and found > most:
            raise TooManyRecords.of(most)


def check_rules(table: SqlTable, schema: Schema) -> None:
    """Raise SchemaError if rows break a rule that joins columns."""
    for rule in schema.rules:
        joined = schema.subset(rule.columns)
        select = ", ".join(map(quoted, joined.names))
        keys = ", ".join(quoted(c.name) if is_binned(c) else table.key_of(c) for c in joined.columns)
        for rows in table.chunks(f"SELECT {select} FROM {table.name} GROUP BY {keys}"):
            joined.validate(pd.DataFrame(dict(zip(joined.names, map(as_column, zip(*rows, strict=True)), strict=True))))


def witnesses_of(table: SqlTable, column: Column) -> list[Any]:
    """Return values of the column that break a rule of the schema if any value does."""
    name = quoted(column.name)
    blank = f"SELECT {name} FROM {table.name} WHERE {name} IS NULL OR TRIM(CAST({name} AS VARCHAR(64))) = '' LIMIT 1"
    if not column.is_coded:
        return [value for (value,) in table.rows(blank)]
    if not is_binned(column):
        query = f"SELECT {name} FROM {table.name} GROUP BY {table.key_of(column)} LIMIT {_MOST_VALUES + 1}"
        values = [value for (value,) in table.rows(query)]
        if len(values) > _MOST_VALUES:
            raise SchemaError([SchemaProblem(column.name, "holds too many distinct values", "check what it holds")])
        return values
    [(low, high)] = table.rows(f"SELECT MIN({name}), MAX({name}) FROM {table.name}")
    witnesses = [low, high, *(value for (value,) in table.rows(blank))]
    if not all(value is None or _isnumber_of(value) for value in witnesses):
        # Some databases order text beside numbers: the schema judges it, and numbers written as text are refused too.
        return ["text"]
    number, most = number_of(column), float(column.bin_edges[-1])
    # As doubles, like all that follows: a single-precision 0.7 is printed as 0.7, but lies below it.
    [(low, high)] = table.rows(f"SELECT MIN({number}), MAX({number}) FROM {table.name}")
    witnesses += [low, high]
    if high is not None and not float(high) <= most:
        # Above the bound there may be a NaN, which is missing, and above all numbers in order.
        witnesses += [
            value
            for (value,) in table.rows(f"SELECT DISTINCT {number} FROM {table.name} WHERE {number} > {most!r} LIMIT 2")
        ]
    if column.kind == "integer":
        witnesses += [
            value
            for (value,) in table.rows(
                f"SELECT {number} FROM {table.name} WHERE {number} <> ROUND({number}) AND {number} <= {most!r} LIMIT 1"
            )
        ]
    return witnesses


def is_binned(column: Column) -> bool:
    """Whether rows are grouped by the column's bins."""
    return column.is_numeric and not column.categories


def number_of(column: Column) -> str:
    """Return the column as a double, in SQL."""
    return f"CAST({quoted(column.name)} AS DOUBLE PRECISION)"


def _isnumber_of(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str | bytes)


def as_column(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Return the values as objects, none of them converted."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out
