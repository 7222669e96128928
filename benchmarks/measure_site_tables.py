"""Time and memory of counting a site's large table where it is: five columns, all ten pairs, beside plain queries.

By hand; made-up rows (sex, a risk group, a diagnosis, age in years, haemoglobin), in a server or file of its own:

    python benchmarks/measure_site_tables.py postgres 1e7
    python benchmarks/measure_site_tables.py parquet 1e7

`ours` opens the source as a site does: one read-only snapshot, numbers binned and checked against their bounds, codes
against their categories, then ten marginals. The floors are what the database needs for less: one pass that groups by
the three text columns and nothing else, and ten groupings by pairs as they would be asked one by one.

Memory is the process's peak above what it had before; PostgreSQL's own is not in it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from generators.domain import Domain
from generators.sql import SqlTable, key_of
from privacy import Schema
from synthema.intake import open_source, source_of

RISKS = ["favourable", "intermediate", "adverse", "unknown"]
DIAGNOSES = [f"AML with change {i:02}" for i in range(12)]
SCHEMA = Schema.from_dict(
    {
        "columns": {
            "sex": {"categories": ["F", "M"]},
            "risk": {"categories": RISKS},
            "diagnosis": {"categories": DIAGNOSES},
            "age": {"kind": "integer", "bounds": [0, 110], "edges": list(range(20, 100, 5))},
            "hb": {"kind": "continuous", "bounds": [0, 250], "edges": [70, 80, 90, 100, 120]},
        }
    }
)
PAIRS = list(itertools.combinations(SCHEMA.names, 2))


def rows_sql(n_rows, *, lists):
    """A query that makes the rows; `lists`: how the dialect picks from a list by a 1-based index."""
    risks, diagnoses = (lists(names) for names in (RISKS, DIAGNOSES))
    return f"""
        SELECT CASE WHEN random() < 0.46 THEN 'F' ELSE 'M' END AS sex,
               {risks}[1 + CAST(floor(random() * 4) AS integer)] AS risk,
               {diagnoses}[1 + CAST(floor(random() * random() * 12) AS integer)] AS diagnosis,
               CAST(floor(18 + random() * 80) AS integer) AS age,
               round(CAST(60 + random() * 100 AS numeric), 1)::double precision AS hb
        FROM generate_series(1, {n_rows}) AS numbers(i)"""


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(what, work):
    wall, cpu = time.perf_counter(), time.process_time()
    out = work()
    seconds = round(time.perf_counter() - wall, 2)
    line = {"what": what, "seconds": seconds, "own_processor_seconds": round(time.process_time() - cpu, 2)}
    print(json.dumps(line), flush=True)
    return out


def ours(spec, folder):
    before = peak_mb()
    data = open_source(spec, SCHEMA, folder=folder)
    counts = data.marginals(SCHEMA, PAIRS)
    print(json.dumps({"peak_mb_above_start": round(peak_mb() - before), "cells": sum(c.size for c in counts)}))
    return counts


def floors(table):
    """What less would cost: one plain grouping, and a grouping for each pair."""
    say(
        "floor: one grouping by the three text columns",
        lambda: table.rows(f"SELECT sex, risk, diagnosis, COUNT(*) FROM {table.name} GROUP BY sex, risk, diagnosis"),
    )
    keys = {column.name: key_of(column) for column in SCHEMA.columns}

    def pairs():
        return [
            table.rows(f"SELECT {keys[a]}, {keys[b]}, COUNT(*) FROM {table.name} GROUP BY {keys[a]}, {keys[b]}")
            for a, b in PAIRS
        ]

    return say("peer: ten groupings, one for each pair", pairs)


def same(counts, grouped):
    assert [sorted(c[c > 0].ravel().tolist()) for c in counts] == [sorted(row[-1] for row in rows) for rows in grouped]


def postgres(n_rows):
    import psycopg

    sys.path.append(str(Path(__file__).parents[1] / "tests" / "privacy" / "ledger"))
    from postgres_server import running

    with running() as server:
        url = os.environ["SITE_TABLES_DSN"] = server.database()
        with psycopg.connect(url, autocommit=True) as connection:
            query = rows_sql(n_rows, lists=lambda names: f"(ARRAY{names!r})")
            connection.execute(f"CREATE UNLOGGED TABLE patients AS {query}")
            connection.execute("VACUUM ANALYZE patients")
        spec = source_of({"kind": "postgres", "table": "patients", "dsn_env": "SITE_TABLES_DSN"})
        with psycopg.connect(url) as connection:
            table = SqlTable(connection, "patients")
            say("floor: a scan that counts rows", lambda: table.rows("SELECT COUNT(*) FROM patients"))
            counts = say("ours: opened, checked, all pairs", lambda: ours(spec, "."))
            say("ours again", lambda: ours(spec, "."))
            same(counts, floors(table))


def parquet(n_rows):
    import duckdb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "patients.parquet"
        query = rows_sql(n_rows, lists=lambda names: f"({names!r})")
        code = f"import duckdb; duckdb.execute({f'COPY ({query}) TO {str(path)!r} (FORMAT parquet)'!r})"
        # In a process of its own: making the rows is not what is measured.
        subprocess.run([sys.executable, "-c", code], check=True)
        print(json.dumps({"file_mb": round(path.stat().st_size / 1e6)}))
        spec = source_of({"kind": "parquet", "path": path.name})
        counts = say("ours: opened, checked, all pairs", lambda: ours(spec, folder))
        with contextlib.closing(duckdb.connect(":memory:", config={"threads": "2"})) as connection:
            same(counts, floors(SqlTable(connection, f"read_parquet('{path}')")))


if __name__ == "__main__":
    assert Domain.from_schema(SCHEMA).cells(SCHEMA.names) == 2 * 4 * 12 * 17 * 6
    {"postgres": postgres, "parquet": parquet}[sys.argv[1]](int(float(sys.argv[2])))
