"""A table that stays in PostgreSQL: its booleans, decimals and NaN are read as in a frame."""

from __future__ import annotations

import contextlib
import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generators import LocalTableOracle, TooManyRecords
from generators.sql import SqlOracle, quoted
from privacy import Schema, SchemaError

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.postgres

sys.path.append(str(Path(__file__).parents[1] / "privacy" / "ledger"))

TYPES = {"age": "smallint", "wbc": "numeric", "blasts": "double precision", "visits": "integer", "time": "bigint"}


@pytest.fixture(scope="module")
def server():
    from postgres_server import running

    with running() as started:
        yield started


def test_one_row_does_not_choose_what_others_read_as_whatever_the_collation(server):
    schema = Schema.from_dict({"columns": {"gene": {"categories": ["kit", "KIT"]}}})
    url = server.database()
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        connection.execute("CREATE TABLE t (gene text COLLATE nocase)")
        connection.execute("INSERT INTO t VALUES ('KIT'), ('kit'), ('kit'), ('kit')")
        [counts] = SqlOracle(connection, "t", schema)._count([("gene",)])
        assert counts.tolist() == [3, 1]
    server.give_back(url)


@pytest.fixture
def load(server):
    """Return a function that makes a table in an empty database and returns a connection to it."""
    with contextlib.ExitStack() as stack:

        def make(frame, types):
            url = server.database()
            stack.callback(server.give_back, url)
            connection = stack.enter_context(psycopg.connect(url))
            columns = ", ".join(f"{quoted(name)} {types.get(name, 'text')}" for name in frame.columns)
            connection.execute(f'CREATE TABLE "the; ""table"" %s" ({columns})')
            rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)
            with connection.cursor() as cursor:
                marks = ", ".join(["%s"] * len(frame.columns))
                cursor.executemany(f'INSERT INTO "the; ""table"" %%s" VALUES ({marks})', list(rows))
            return connection

        yield make


TABLE = 'the; "table" %s'


def test_postgresql_counts_and_refuses_as_a_frame_does(load, clinic_frame, clinic_schema):
    frame = clinic_frame.head(500)
    local = LocalTableOracle(frame, clinic_schema)
    cliques = [c for k in (1, 2, 3) for c in itertools.combinations(local.domain.columns, k)]
    other = SqlOracle(load(frame, TYPES), TABLE, clinic_schema)
    for clique, expected, counts in zip(cliques, local._count(cliques), other._count(cliques), strict=True):
        assert np.array_equal(counts, expected), clique
    for name, value in [("age", 111), ("sex", "X"), ("wbc", None), ("pid", None), ("pid", " "), ("visits", -1)]:
        bad = frame.copy()
        bad.loc[7, name] = value
        schema = Schema.from_dict({**clinic_schema.to_dict(), "rules": []})
        columns = {**schema.to_dict()["columns"]}
        columns["wbc"] = {**columns["wbc"], "nullable": False}
        schema = Schema.from_dict({**schema.to_dict(), "columns": columns})
        with pytest.raises(SchemaError) as expected_error:
            LocalTableOracle(bad, schema)
        with pytest.raises(SchemaError) as caught:
            SqlOracle(load(bad, TYPES), TABLE, schema)
        assert str(caught.value) == str(expected_error.value)


def test_postgresql_holds_patients_to_the_limit(load, clinic_frame, clinic_schema):
    frame = clinic_frame.head(300).copy()
    frame.loc[[3, 299], "pid"] = "anna"
    connection = load(frame, TYPES)
    with pytest.raises(TooManyRecords):
        SqlOracle(connection, TABLE, clinic_schema)
    assert SqlOracle(connection, TABLE, clinic_schema, max_records_per_patient=2).domain["sex"] == 2


def test_booleans_are_categories_and_nan_is_missing(load):
    schema = Schema.from_dict(
        {
            "columns": {
                "event": {"categories": ["0", "1"]},
                "x": {"kind": "continuous", "bounds": [0, 1], "edges": [0.1, 0.7], "nullable": True},
            }
        }
    )
    frame = pd.DataFrame({"event": [True, False, True, True], "x": [0.1, 0.7, 0.05, None]})
    connection = load(frame, {"event": "boolean", "x": "double precision"})
    connection.execute(f"INSERT INTO {quoted(TABLE)} VALUES (TRUE, 'NaN')")
    [event, x] = SqlOracle(connection, TABLE, schema)._count([("event",), ("x",)])
    assert event.tolist() == [1, 4]
    assert x.tolist() == [1, 1, 1, 2]
    connection.execute(f"INSERT INTO {quoted(TABLE)} VALUES (TRUE, 'Infinity')")
    with pytest.raises(SchemaError, match="outside its bounds"):
        SqlOracle(connection, TABLE, schema)
