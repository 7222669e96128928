"""Distinct combinations of codes, each with its number of rows: one wide grouping, from which every marginal is summed.

tuple    one combination of codes of all modelled columns
counts   how many rows have each tuple, shape (n_tuples,)

A database that groups ten million rows by five columns once and sends a few thousand groups is several times faster
than one that groups them by each pair. What comes of it is small, fixed in time, and enough for every later question:
counts and fingerprints agree with each other even where the table goes on growing.
"""

# ruff: noqa: S608 - names of tables and columns are quoted (`quoted`); all else in the queries are numbers.

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.domain import Clique, Domain
from generators.encoding import encode, stop_at_horizon
from generators.errors import TableTooLarge
from generators.marginals import Codes, Counts, Pass, count_in_passes, count_marginals
from generators.sql import (
    SqlTable,
    as_column,
    check_records,
    check_rules,
    is_binned,
    key_of,
    number_of,
    quoted,
    witnesses_of,
)
from privacy import Schema, SchemaError, SchemaProblem
from privacy.schema import Column

# Tuples with their counts: a gigabyte, as much as ten million rows of a hundred columns.
MOST_BYTES = 1 << 30

# Rows that a database sends at a time.
_FETCH = 1 << 14

# PostgreSQL's character types: text, bpchar, varchar.
_POSTGRES_TEXT = (25, 1042, 1043)
_POSTGRES_WHOLE = (20, 21, 23)
_POSTGRES_NUMBERS = (*_POSTGRES_WHOLE, 700, 701, 1700)
_DUCKDB_WHOLE = tuple(f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE"))
_DUCKDB_WHOLE += ("INTEGER", "UINTEGER")
_DUCKDB_NUMBERS = (*_DUCKDB_WHOLE, "FLOAT", "DOUBLE", "DECIMAL")


@dataclass(frozen=True, slots=True)
class CodedTuples:
    """A table's distinct tuples in ascending order. Private, as the table is.

    schema   the table's public description
    codes    shape (n_tuples, n_columns), columns in the order of `Domain.from_schema`; events beyond a horizon as they
             were recorded
    counts   shape (n_tuples,), each >= 1
    """

    schema: Schema
    codes: Codes
    counts: Counts

    @classmethod
    def of(cls, blocks: Sequence[tuple[Codes, Counts]], schema: Schema) -> CodedTuples:
        """Return the sum of blocks of tuples, which may repeat each other.

        Examples
        --------
        >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
        >>> blocks = [(np.array([[1], [0]]), np.array([2, 5])), (np.array([[1]]), np.array([3]))]
        >>> tuples = CodedTuples.of(blocks, schema)
        >>> tuples.codes.ravel().tolist(), tuples.counts.tolist(), tuples.n_rows
        ([0, 1], [5, 5], 10)
        """
        if not any(len(block) for block, _ in blocks):
            raise SchemaError([SchemaProblem("-", "the table has no rows", "check its name and that it is filled")])
        codes = np.concatenate([block for block, _ in blocks])
        counts = np.concatenate([part for _, part in blocks])
        # First column first, so that the order is that of the codes whatever their type.
        order = np.lexsort(codes.T[::-1])
        codes, counts = codes[order], counts[order]
        starts = np.flatnonzero(np.r_[True, (codes[1:] != codes[:-1]).any(axis=1)])
        return cls(schema, np.asfortranarray(codes[starts]), np.add.reduceat(counts, starts))

    def __repr__(self) -> str:
        return f"CodedTuples({self.codes.shape[1]} columns)"

    @property
    def n_rows(self) -> int:
        """Number of rows of the table: private."""
        return int(self.counts.sum())

    def marginals(self, schema: Schema, cliques: Sequence[Clique]) -> list[Counts]:
        """Return exact counts of each clique of a subset of the schema; private. Errors as `count_marginals`."""
        own, domain = Domain.from_schema(_plain(self.schema)), Domain.from_schema(schema)
        codes = np.asfortranarray(self.codes[:, [own.position(name) for name in domain.columns]])
        stop_at_horizon(codes, schema, domain)
        if (self.counts == 1).all():
            return count_marginals(codes, domain, cliques)

        def count(part: Pass) -> Counts:
            wanted = (*part.left, *part.right)
            columns = [codes[:, domain.position(name)].astype(np.intp) for name in wanted]
            flat = np.ravel_multi_index(columns, domain.sizes(wanted))
            # Exact: sums of whole numbers below 2^53.
            return np.bincount(flat, weights=self.counts, minlength=part.cells).astype(np.int64)

        return count_in_passes(cliques, domain, n_rows=len(codes), count=lambda passes: list(map(count, passes)))

    def fingerprint(self, secret: bytes) -> str:
        """Return a keyed hash of what is counted: the same table, the same text; nothing without the key.

        Values that differ within a bin have one code, and so one fingerprint: no count can tell them apart either.
        """
        own = Domain.from_schema(_plain(self.schema))
        digest = hmac.new(secret, b"synthema-tuples-v1", hashlib.sha256)
        for name, size in zip(own.columns, own.n_codes, strict=True):
            digest.update(f"\x1e{len(name)}\x1f{name}\x1f{size}".encode())
        digest.update(np.ascontiguousarray(self.codes, dtype="<i8").tobytes())
        digest.update(self.counts.astype("<i8").tobytes())
        return digest.hexdigest()


def encode_tuples(frame: pd.DataFrame, schema: Schema) -> CodedTuples:
    """Return the distinct tuples of a frame that fits the schema.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
    >>> encode_tuples(pd.DataFrame({"sex": ["M", "F", "M"]}), schema).counts.tolist()
    [1, 2]
    """
    codes = encode(frame, _plain(schema))
    return CodedTuples.of([(codes, np.ones(len(codes), dtype=np.int64))], schema)


def group_tuples(table: SqlTable, schema: Schema, *, most_bytes: int = MOST_BYTES) -> CodedTuples:
    """Return a table in PostgreSQL or DuckDB as distinct tuples: it groups, one query sends the groups.

    Parameters
    ----------
    table
        A table with at least the schema's columns; others are not read. Two more queries look at patients and rules,
        so it must be a snapshot. Numeric columns must have a numeric type.
    schema
        The public description. With `patient_id`, a patient must have one row.
    most_bytes
        Of tuples and counts.

    Raises
    ------
    SchemaError
        If the table does not fit the schema: every problem, by column, without any value.
    TooManyRecords
        If a patient has more than one row.
    TableTooLarge
        If the table has too many distinct tuples.
    """
    types = dict(table.types())
    problems = [
        SchemaProblem(name, "is missing from the table", "add it, map it, or take it out of the schema")
        for name in schema.names
        if name not in types
    ]
    if problems:
        raise SchemaError(problems)
    problems = [_not_a_number(c) for c in schema.columns if is_binned(c) and not _is_number(table, types[c.name])]
    if problems:
        raise SchemaError(problems)
    plain = _plain(schema.subset(schema.coded))
    seen = dict.fromkeys(problem for column in schema.columns for problem in _uncoded_problems(table, column, schema))
    blocks: list[tuple[Codes, Counts]] = []
    held = 0
    for values, counts in _groups(table, plain, types):
        seen |= dict.fromkeys(p for name, column in values for p in plain.column(name).problems(column))
        if seen:
            continue
        codes = encode(pd.DataFrame(dict(values[: len(plain.columns)])), plain)
        held += codes.nbytes + counts.nbytes
        if held > most_bytes:
            raise TableTooLarge(
                f"the table has more distinct combinations than fit into {most_bytes >> 20} MB: describe fewer columns "
                "in the schema, or wider bins"
            )
        blocks.append((codes, counts))
    if seen:
        raise SchemaError(list(seen))
    if schema.patient_id is not None:
        check_records(table, schema.patient_id, most=1)
    check_rules(table, schema)
    return CodedTuples.of(blocks, schema)


def _plain(schema: Schema) -> Schema:
    """Return the schema without its survival: codes that depend on their own column alone."""
    return replace(schema, survival=None)


def _groups(
    table: SqlTable, schema: Schema, types: dict[str, Any]
) -> Iterator[tuple[list[tuple[str, npt.NDArray[Any]]], Counts]]:
    """Yield values of some groups and the groups' numbers of rows.

    The values are one representative of each group for every column, then witnesses of broken rules, if any. A bin's
    smallest number stands for all of it. It also tells whether a number is out of bounds: one below lies in the first
    bin, one above in the group of those that have none, where only missing values and NaN could hide it, and these
    come last in a database's order.
    """
    members, keys, broken = [], [], []
    for column in schema.columns:
        key = _key_of(table, column, types[column.name])
        keys.append(key)
        members.append(f"MIN({number_of(column)})" if is_binned(column) else key)
        if is_binned(column) and column.kind == "integer" and not _is_whole(table, types[column.name]):
            number = number_of(column)
            # The smallest may be whole although others are not.
            broken.append((column.name, f"MIN(CASE WHEN {number} <> ROUND({number}) THEN {number} END)"))
    select = ", ".join([*members, *(expression for _, expression in broken), "COUNT(*)"])
    query = f"SELECT {select} FROM {table.name} GROUP BY {', '.join(keys)}"
    for rows in _stream(table, query):
        *columns, counts = zip(*rows, strict=True)
        values = [(name, as_column(column)) for name, column in zip(schema.names, columns, strict=False)]
        for (name, _), found in zip(broken, columns[len(members) :], strict=True):
            values.append((name, as_column([value for value in found if value is not None])))
        yield values, np.array(counts, dtype=np.int64)


def _key_of(table: SqlTable, column: Column, kind: Any) -> str:
    """Return the one expression that the column's rows are grouped by; texts by their bytes, whatever the collation."""
    if is_binned(column):
        if table.driver == "psycopg" and column.edges:
            # PostgreSQL's own search in the edges, instead of a comparison with each; NaN is not <= and has no bin.
            number, edges = number_of(column), ", ".join(repr(float(edge)) for edge in column.bin_edges[1:-1])
            found = f"WIDTH_BUCKET({number}, CAST(ARRAY[{edges}] AS DOUBLE PRECISION[]))"
            return f"CASE WHEN {number} <= {float(column.bin_edges[-1])!r} THEN {found} END"
        return key_of(column)
    is_text = kind in _POSTGRES_TEXT if table.driver == "psycopg" else str(kind) == "VARCHAR"
    return f'{quoted(column.name)} COLLATE "C"' if is_text else quoted(column.name)


def _is_number(table: SqlTable, kind: Any) -> bool:
    return kind in _POSTGRES_NUMBERS if table.driver == "psycopg" else str(kind).partition("(")[0] in _DUCKDB_NUMBERS


def _is_whole(table: SqlTable, kind: Any) -> bool:
    return kind in _POSTGRES_WHOLE if table.driver == "psycopg" else str(kind) in _DUCKDB_WHOLE


def _not_a_number(column: Column) -> SchemaProblem:
    rule = f"must have a numeric type in the database (kind {column.kind})"
    return SchemaProblem(column.name, rule, "change the column's type, or make a view that casts it")


def _uncoded_problems(table: SqlTable, column: Column, schema: Schema) -> list[SchemaProblem]:
    """Return what is wrong with an identifier, a text or a set, whose values are not counted."""
    if column.is_coded:
        return []
    if column.kind == "set" and column.role != "identifier":
        name = quoted(column.name)
        return column.problems(
            as_column([value for (value,) in table.rows(f"SELECT DISTINCT {name} FROM {table.name}")])
        )
    # Whoever has no id is no patient, whatever the schema says of it.
    column = replace(column, nullable=column.nullable and column.name != schema.patient_id)
    return column.problems(as_column(witnesses_of(table, column)))


def _stream(table: SqlTable, query: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows some at a time. A cursor declared at the server would keep PostgreSQL from working in parallel."""
    if table.driver != "psycopg":
        yield from table.chunks(query)
        return
    rows: list[tuple[Any, ...]] = []
    with table.connection.cursor() as cursor:
        for row in cursor.stream(query):
            rows.append(row)
            if len(rows) == _FETCH:
                yield rows
                rows = []
    if rows:
        yield rows
