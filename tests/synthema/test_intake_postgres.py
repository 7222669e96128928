"""A site's table in PostgreSQL: counted there in one read-only transaction, mapped as in memory, silent on values."""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from intake_clinic import SCHEMA, expected, patients, site_map

from generators import Domain
from generators.sql import quoted
from privacy import Schema
from synthema.errors import TableError
from synthema.intake import CountedData, FrameData, SiteMap, check_source, open_source, read_source, source_of
from synthema.intake.databases import postgres_table

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.postgres

sys.path.append(str(Path(__file__).parents[1] / "privacy" / "ledger"))

TYPES = {
    "PATNR": "text",
    "GESCHLECHT": "smallint",
    "HB": "double precision",
    "GEBURT": "date",
    "DIAGNOSE": "timestamp",
    "TOD": "date",
    "KONTAKT": "date",
    "BEMERKUNG": "varchar(40)",
}


@pytest.fixture(scope="module")
def server():
    from postgres_server import running

    with running() as started:
        yield started


@pytest.fixture
def load(server, monkeypatch):
    """Return a function that makes a table in an empty database and returns the source that reads it."""
    with contextlib.ExitStack() as stack:

        def make(rows, types=TYPES, **options):
            url = server.database()
            stack.callback(server.give_back, url)
            with psycopg.connect(url) as connection, connection.cursor() as cursor:
                columns = ", ".join(f"{quoted(name)} {types[name]}" for name in rows)
                cursor.execute(f'CREATE SCHEMA "the clinic"; CREATE TABLE "the clinic"."a ""t""" ({columns})')
                stack.callback(
                    server.execute, 'DROP SCHEMA "the clinic" CASCADE', database=url.split("@/")[1].split("?")[0]
                )
                marks = ", ".join(["%s"] * len(rows))
                cursor.executemany(
                    f'INSERT INTO "the clinic"."a ""t""" VALUES ({marks})', list(zip(*rows.values(), strict=True))
                )
            monkeypatch.setenv("CLINIC_DSN", url)
            return source_of(
                {"kind": "postgres", "namespace": "the clinic", "table": 'a "t"', "dsn_env": "CLINIC_DSN", **options}
            )

        yield make


def test_counts_in_place_are_those_of_the_rows_in_memory(load, tmp_path):
    rows = patients()
    spec = load(rows)
    there = open_source(spec, SCHEMA, site_map(), folder=tmp_path)
    assert isinstance(there, CountedData)
    columns = Domain.from_schema(SCHEMA).columns
    cliques = [(a,) for a in columns] + [(a, b) for a in columns for b in columns if a < b] + [columns]
    here = FrameData(pd.DataFrame(expected(rows)), SCHEMA).marginals(SCHEMA, cliques)
    in_memory = FrameData(read_source(spec, SCHEMA, site_map(), folder=tmp_path), SCHEMA).marginals(SCHEMA, cliques)
    for counts, plain, read in zip(there.marginals(SCHEMA, cliques), here, in_memory, strict=True):
        assert np.array_equal(counts, plain)
        assert np.array_equal(counts, read)


@pytest.mark.parametrize(
    ("column", "value", "told"), [("GESCHLECHT", 7, "sex"), ("HB", 25.5, "hb"), ("TOD", "2001-01-01", "os_days")]
)
def test_what_does_not_fit_is_refused_by_column(load, tmp_path, column, value, told):
    rows = patients(40)
    rows[column][8] = value
    problems = check_source(load(rows), SCHEMA, site_map(), folder=tmp_path)
    assert told in {problem.column for problem in problems}
    assert "25.5" not in str(problems)


def test_texts_are_told_apart_by_their_bytes_whatever_the_collation(load, tmp_path):
    spec = load({"gene": ["KIT"] * 3}, {"gene": "text"})
    with psycopg.connect(os.environ["CLINIC_DSN"]) as connection:
        connection.execute(
            "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        connection.execute('ALTER TABLE "the clinic"."a ""t""" ALTER gene TYPE text COLLATE nocase')
        connection.execute('INSERT INTO "the clinic"."a ""t""" VALUES (\'kit\')')
    schema = Schema.from_dict({"columns": {"gene": {"categories": ["kit", "KIT"]}}})
    [counts] = open_source(spec, schema, folder=tmp_path).marginals(schema, [("gene",)])
    assert counts.tolist() == [1, 3]


def test_booleans_decimals_nan_and_numbers_as_codes_read_as_in_memory(load, tmp_path):
    rows = {"e": [True, False, None, True], "x": [0.1, float("nan"), -9, 0.7], "y": [1, 2, 1, 9]}
    spec = load(rows, {"e": "boolean", "x": "numeric(6, 3)", "y": "numeric(4, 2)"})
    schema = Schema.from_dict(
        {
            "columns": {
                "e": {"categories": ["no", "yes"], "nullable": True},
                "x": {"kind": "continuous", "bounds": [0, 1], "edges": [0.1, 0.7], "nullable": True},
                "y": {"categories": ["a", "b"], "nullable": True},
            }
        }
    )
    rules = SiteMap.from_dict(
        {
            "version": 1,
            "missing": ["-9", "9"],
            "columns": {"e": {"recode": {"1": "yes", "0": "no"}}, "y": {"recode": {"1": "a", "2": "b"}}},
        }
    )
    wanted = [[1, 2, 1], [0, 1, 1, 2], [2, 1, 1]]
    for load_as in ("count", "frame"):
        data = open_source(spec.model_copy(update={"load": load_as}), schema, rules, folder=tmp_path)
        assert [counts.tolist() for counts in data.marginals(schema, [("e",), ("x",), ("y",)])] == wanted


def test_the_transaction_reads_only_and_ends_in_time(load, tmp_path):
    spec = load(patients(5), timeout_seconds=1)
    told = r"cannot count the table \(ReadOnlySqlTransaction\)"
    with pytest.raises(TableError, match=told), postgres_table(spec, tmp_path) as table:
        table.rows('DELETE FROM "the clinic"."a ""t"""')
    told = "longer than timeout_seconds = 1"
    with pytest.raises(TableError, match=told), postgres_table(spec, tmp_path) as table:
        table.rows("SELECT pg_sleep(20)")


def test_errors_of_the_database_repeat_neither_values_nor_addresses(load, tmp_path, monkeypatch):
    spec = load(patients(5))
    with pytest.raises(TableError) as caught, postgres_table(spec, tmp_path) as table:
        table.rows("SELECT CAST('hunter2' AS integer)")
    assert "hunter2" not in str(caught.value)
    missing = spec.model_copy(update={"table": "no"})
    with pytest.raises(TableError, match="no such table"):
        open_source(missing, SCHEMA, site_map(), folder=tmp_path)
    for address in ("postgresql://u:hunter2@127.0.0.1:1/d", "nonsense hunter2"):
        monkeypatch.setenv("CLINIC_DSN", address)
        with pytest.raises(TableError) as caught:
            open_source(spec, SCHEMA, site_map(), folder=tmp_path)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_table_too_long_for_memory_is_refused(load, tmp_path):
    with pytest.raises(TableError, match="more than max_rows = 3"):
        open_source(load(patients(5), load="frame", max_rows=3), SCHEMA, site_map(), folder=tmp_path)
