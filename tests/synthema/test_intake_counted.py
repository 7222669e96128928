"""Tables that are counted where they are: the map in SQL does what it does in memory, and a site works with counts."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from intake_clinic import MAP, SCHEMA, expected, patients, site_map

from generators import Domain
from generators.sql import SqlTable
from generators.tuples import group_tuples
from privacy import Schema, SchemaError
from privacy.ledger import open_ledger
from smpc import reconstruct
from synthema.errors import RowsNeeded, SiteRefused, TableError
from synthema.intake import CountedData, FrameData, SiteMap, check_source, open_source, read_source, source_of
from synthema.intake.databases import parquet_table
from synthema.intake.sql_map import mapped_table
from synthema.signing import Signer
from synthema.site import Site, SitePolicy
from synthema.study import Study

duckdb = pytest.importorskip("duckdb")

KEY = b"k" * 32
TYPES = {
    "PATNR": "VARCHAR",
    "GESCHLECHT": "SMALLINT",
    "HB": "DOUBLE",
    "GEBURT": "DATE",
    "DIAGNOSE": "TIMESTAMP",
    "TOD": "DATE",
    "KONTAKT": "DATE",
    "BEMERKUNG": "VARCHAR",
}


def loaded(connection, rows, types=TYPES, name='"t"'):
    columns = ", ".join(f'"{column}" {types[column]}' for column in rows)
    connection.execute(f"CREATE TABLE {name} ({columns})")
    marks = ", ".join("?" * len(rows))
    connection.executemany(f"INSERT INTO {name} VALUES ({marks})", list(zip(*rows.values(), strict=True)))
    return SqlTable(connection, name)


@pytest.fixture
def parquet(tmp_path):
    """Write rows as Parquet and return the source that reads them."""

    def write(rows, types=TYPES, **options):
        with duckdb.connect(":memory:") as connection:
            loaded(connection, rows, types)
            connection.execute(f"COPY t TO '{tmp_path}/o''f.parquet' (FORMAT parquet)")
        return source_of({"kind": "parquet", "path": "o'f.parquet", **options})

    return write


def test_counts_in_place_are_those_of_the_rows_in_memory(parquet, tmp_path):
    rows = patients()
    here = open_source(parquet(rows, load="frame"), SCHEMA, site_map(), folder=tmp_path)
    there = open_source(parquet(rows), SCHEMA, site_map(), folder=tmp_path)
    assert isinstance(here, FrameData)
    assert isinstance(there, CountedData)
    frame = pd.DataFrame(expected(rows))
    columns = Domain.from_schema(SCHEMA).columns
    cliques = [(a,) for a in columns] + [(a, b) for a in columns for b in columns if a < b] + [columns]
    plain = FrameData(frame, SCHEMA).marginals(SCHEMA, cliques)
    for data in (here, there):
        for counts, other in zip(data.marginals(SCHEMA, cliques), plain, strict=True):
            assert np.array_equal(counts, other)
        assert data.n_rows_at_least(200)
        assert not data.n_rows_at_least(201)
    with pytest.raises(RowsNeeded, match='load = "frame"'):
        there.frame()


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["1", "2", " 1", "9", "x'y", "", None]),
            st.one_of(st.none(), st.sampled_from([-9.0, 999.0, 8.05, 10.0, 0.1]), st.floats(0, 24)),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_map_in_sql_is_the_map_in_memory(rows):
    schema = Schema.from_dict(
        {
            "columns": {
                "sex": {"categories": ["F", "M", "o'k"], "nullable": True},
                "hb": {"kind": "continuous", "bounds": [0, 250], "edges": [80.5, 100], "nullable": True},
            }
        }
    )
    rules = SiteMap.from_dict(
        {
            "version": 1,
            "missing": ["-9", "9"],
            "columns": {
                "sex": {"from": "g", "recode": {"1": "M", "2": "F", "x'y": "o'k"}},
                "hb": {"from": "h", "unit": {"factor": 10.0, "offset": 0.1}, "missing": ["999"]},
            },
        }
    )
    columns = {"g": [code for code, _ in rows], "h": [number for _, number in rows]}
    with duckdb.connect(":memory:") as connection:
        table = mapped_table(loaded(connection, columns, {"g": "VARCHAR", "h": "DOUBLE"}), schema, rules)
        there = CountedData(group_tuples(table, schema))
    recoded = {"1": "M", "2": "F", "x'y": "o'k", "9": None, "": None, None: None}
    frame = pd.DataFrame(
        {
            "sex": [recoded[code and code.strip()] for code in columns["g"]],
            "hb": [None if v in (None, -9.0, 9.0, 999.0) else v * 10.0 + 0.1 for v in columns["h"]],
        }
    )
    here = FrameData(frame, schema).marginals(schema, [("sex", "hb")])
    assert np.array_equal(here[0], there.marginals(schema, [("sex", "hb")])[0])


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("GESCHLECHT", 7, "'sex'"),
        ("HB", 25.5, "'hb'.*outside its bounds"),
        ("GEBURT", "2031-01-01", "'age'.*outside its bounds"),
        ("TOD", "2001-01-01", "'os_days'.*outside"),
        ("PATNR", None, "'id'"),
    ],
)
def test_what_does_not_fit_is_refused_in_place_by_column_and_without_a_value(parquet, tmp_path, column, value, told):
    rows = patients(50)
    rows[column][8] = value
    problems = check_source(parquet(rows), SCHEMA, site_map(), folder=tmp_path)
    with pytest.raises(SchemaError, match=told):
        raise SchemaError(problems)
    assert str(value) not in str(SchemaError(problems)) or value in (None, 7)
    # The same rows in memory are refused for the same column.
    same = check_source(parquet(rows, load="frame"), SCHEMA, site_map(), folder=tmp_path)
    assert {problem.column for problem in same} == {problem.column for problem in problems}


def test_a_patient_twice_is_refused_in_place(parquet, tmp_path):
    rows = patients(50)
    rows["PATNR"][4] = rows["PATNR"][5]
    with pytest.raises(TableError, match="more than max_records_per_patient = 1"):
        open_source(parquet(rows), SCHEMA, site_map(), folder=tmp_path)


def test_types_that_a_rule_cannot_use_in_place_are_all_named(parquet, tmp_path):
    rows = patients(20)
    rows["HB"] = [None if value is None else str(value) for value in rows["HB"]]
    rows["GEBURT"] = [None if value is None else value.isoformat() for value in rows["GEBURT"]]
    spec = parquet(rows, {**TYPES, "HB": "VARCHAR", "GEBURT": "VARCHAR"})
    found = check_source(spec, SCHEMA, site_map(sex={"from": "GENDER"}), folder=tmp_path)
    assert {problem.column for problem in found} == {"hb", "age", "sex"}


def test_names_and_texts_of_a_map_are_never_read_as_sql(parquet, tmp_path):
    rows = patients(20)
    evil = "'; DROP TABLE t; --"
    recode = {"1": "M", "2": "F", evil: "F"}
    spec = parquet(rows)
    rules = site_map(sex={"from": "GESCHLECHT", "recode": recode, "missing": [evil]})
    assert check_source(spec, SCHEMA, rules, folder=tmp_path) == []
    [problem] = check_source(spec, SCHEMA, site_map(id={"from": 'a" FROM t; --'}), folder=tmp_path)
    assert "is not in the table" in problem.rule


def test_duckdb_reaches_no_other_file(parquet, tmp_path):
    (tmp_path / "other.csv").write_text("a\n1\n")
    for query in (f"SELECT * FROM read_csv('{tmp_path}/other.csv')", "SET enable_external_access = true"):
        spec = parquet(patients(5))
        with (
            pytest.raises(TableError, match="cannot be read by DuckDB") as caught,
            parquet_table(spec, tmp_path) as table,
        ):
            table.rows(query)
        assert "other" not in str(caught.value)


def test_what_is_no_parquet_or_too_long_for_memory_is_refused(parquet, tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR2")
    with pytest.raises(TableError, match="no Parquet file"):
        open_source(source_of({"kind": "parquet", "path": "t.parquet"}), SCHEMA, folder=tmp_path)
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(TableError, match="cannot be read by DuckDB"):
        open_source(source_of({"kind": "parquet", "path": "t.parquet"}), SCHEMA, folder=tmp_path)
    with pytest.raises(TableError, match="more than max_rows = 10"):
        read_source(parquet(patients(20), max_rows=10), SCHEMA, site_map(), folder=tmp_path)


POLICY = SitePolicy(
    epsilon_cap=2.0, delta_cap=1e-6, partners=frozenset({"madrid", "milan"}), min_patients=100, allow_exact=True
)


def study(**sections):
    data = {
        "study": {"name": "pilot", "purpose": "a test of counted data", "schema": SCHEMA.to_dict()},
        "budget": {"epsilon": 2.0, "delta": 1e-6},
        "sites": {name: {} for name in ("vienna", "madrid", "milan")},
        "synthesis": {"rows": 50},
        **sections,
    }
    return Study.from_dict(data)


@pytest.fixture
def site(tmp_path):
    """Return a function that makes a site of data; each has a ledger of its own."""
    ledgers = []

    def make(data, policy=POLICY):
        ledger = open_ledger(f"sqlite:///{tmp_path}/{len(ledgers)}.db")
        ledgers.append(ledger)
        return Site("vienna", data, SCHEMA, ledger=ledger, policy=policy, secret=KEY)

    yield make
    for ledger in ledgers:
        ledger.close()


def test_a_site_contributes_the_same_marginals_counted_in_place_as_from_rows(parquet, tmp_path, site):
    rows = patients()
    there = open_source(parquet(rows), SCHEMA, site_map(), folder=tmp_path)
    document = study().signed(Signer())
    opened = []
    for data in (there, pd.DataFrame(expected(rows)).astype({"age": float, "hb": float})):
        job = site(data).accept(document)
        job.start("marginals")
        opened.append(reconstruct(job.marginal_counts()))
    assert np.array_equal(*opened)
    assert opened[0].sum() > 0


def test_a_counted_site_refuses_steps_that_need_rows_and_small_cohorts(parquet, tmp_path, site):
    there = open_source(parquet(patients()), SCHEMA, site_map(), folder=tmp_path)
    signer = Signer()
    with pytest.raises(SiteRefused, match=r"\(rows\): step 'overlap' needs a table in memory"):
        site(there).accept(study(overlap={"n_buckets": 2**16}).signed(signer))
    with pytest.raises(SiteRefused, match=r"\(cohort\)"):
        site(there, dataclasses.replace(POLICY, min_patients=201)).accept(study().signed(signer))
    counted = site(there)
    assert counted.data_version == there.fingerprint(KEY)
    with pytest.raises(RowsNeeded):
        _ = counted.rows


def test_data_of_another_schema_are_no_sites(parquet, tmp_path, site):
    other = SCHEMA.subset(["id", "sex", "age"])
    rules = SiteMap.from_dict(
        {"version": 1, "missing": ["-9"], "columns": {name: MAP["columns"][name] for name in other.names}}
    )
    there = open_source(parquet(patients()), other, rules, folder=tmp_path)
    with pytest.raises(ValueError, match="own schema"):
        site(there)


def test_a_wide_table_is_counted_as_its_rows(tmp_path):
    names = [f"gene {i}" for i in range(144)]
    schema = Schema.from_dict({"columns": {name: {"categories": ["0", "1"]} for name in names}})
    frame = pd.DataFrame(np.random.default_rng(1).integers(0, 2, (300, 144)), columns=names)
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY (SELECT * FROM frame) TO '{tmp_path}/w.parquet' (FORMAT parquet)")
    there = open_source(source_of({"kind": "parquet", "path": "w.parquet"}), schema, folder=tmp_path)
    cliques = list(itertools.combinations(names, 2))
    here = FrameData(frame, schema).marginals(schema, cliques)
    assert all(map(np.array_equal, there.marginals(schema, cliques), here))
