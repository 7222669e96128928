"""What reading and checking a site's table costs beside the bare reading, and counting it in place beside one grouping.

Run: pytest benchmarks/test_bench_intake.py --benchmark-enable. Ten million rows: `measure_site_tables.py`, by hand.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthema.intake import SiteMap, open_source, read_source, source_of

sys.path.append(str(Path(__file__).parent))
from measure_site_tables import PAIRS, SCHEMA, rows_sql

duckdb = pytest.importorskip("duckdb")


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.fixture
def rows(benchmark):
    n_rows = 1_000_000 if benchmark.enabled else 1_000
    return rows_sql(n_rows, lists=lambda names: f"({names!r})")


def test_a_parquet_file_is_counted_in_place_beside_one_plain_grouping(benchmark, rows, tmp_path):
    path = tmp_path / "t.parquet"
    duckdb.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    spec = source_of({"kind": "parquet", "path": path.name})

    def ours():
        return open_source(spec, SCHEMA, folder=tmp_path).marginals(SCHEMA, PAIRS)

    def floor():
        with duckdb.connect(":memory:", config={"threads": "2"}) as connection:
            return connection.execute(
                f"SELECT sex, risk, diagnosis, COUNT(*) FROM read_parquet('{path}') GROUP BY ALL"
            ).fetchall()

    counts = benchmark.pedantic(ours, rounds=3)
    assert len({int(table.sum()) for table in counts}) == 1
    benchmark.extra_info["floor_seconds"] = min(seconds(floor) for _ in range(3))


def test_a_text_file_is_read_mapped_and_checked_beside_its_bare_parsing(benchmark, rows, tmp_path):
    frame = duckdb.execute(f"SELECT * FROM ({rows}) LIMIT 100000").df()
    frame["SEX"] = frame.pop("sex").map({"F": "2", "M": "1"})
    frame["hb"] /= 10
    frame.to_csv(tmp_path / "t.csv", sep=";", decimal=",", index=False)
    spec = source_of({"kind": "csv", "path": "t.csv", "decimal": ","})
    rules = SiteMap.from_dict(
        {
            "version": 1,
            "columns": {
                "sex": {"from": "SEX", "recode": {"1": "M", "2": "F"}},
                "hb": {"unit": {"from": "g/dL", "to": "g/L"}},
            },
        }
    )
    read = benchmark.pedantic(lambda: read_source(spec, SCHEMA, rules, folder=tmp_path), rounds=3)
    assert np.allclose(read["hb"], frame["hb"] * 10)
    benchmark.extra_info["floor_seconds"] = min(
        seconds(lambda: pd.read_csv(tmp_path / "t.csv", sep=";", decimal=",")) for _ in range(3)
    )
