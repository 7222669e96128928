"""Tables of any library, in chunks, on disk or in a database: the same exact counts, refusals and prices everywhere."""

from __future__ import annotations

import importlib
import itertools
import math
import sqlite3
import sys

import numpy as np
import pandas as pd
import pytest

from generators import Domain, DomainMismatch, LocalTableOracle, TooManyRecords, encode
from generators.errors import MissingLibrary
from generators.sources import TableOracle, chunks_of
from generators.sql import SqlOracle, quoted
from privacy import DiscreteGaussian, InsecureSeededRng, Schema, SchemaError

# A normal variable leaves this interval once in 10^6 tests.
Z_THRESHOLD = 4.9
N_NOISE_CELLS = 20_000

# Names that would do harm if they were pasted into a query.
EVIL_TABLE = 'pat"ients; DROP TABLE x; --'
EVIL_COLUMN = "se\"x'; DELETE FROM y; -- %s :a ?"


def in_sqlite(frame):
    connection = sqlite3.connect(":memory:")
    columns = ", ".join(quoted(name) for name in frame.columns)
    connection.execute(f"CREATE TABLE {quoted(EVIL_TABLE)} ({columns})")
    marks = ", ".join("?" * len(frame.columns))
    rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)
    connection.executemany(f"INSERT INTO {quoted(EVIL_TABLE)} VALUES ({marks})", rows)
    return connection


def in_duckdb(frame):
    duckdb = importlib.import_module("duckdb")
    connection = duckdb.connect(":memory:")
    connection.register("given", frame)
    connection.execute(f"CREATE TEMPORARY TABLE {quoted(EVIL_TABLE)} AS SELECT * FROM given")
    return connection


def in_chunks(frame):
    return (frame.iloc[start : start + 333] for start in range(0, len(frame), 333))


def in_polars(frame, *, lazy):
    polars = pytest.importorskip("polars")
    plain = frame.astype(object).where(frame.notna(), None)
    table = polars.DataFrame({name: plain[name].tolist() for name in frame.columns}, strict=False)
    return table.lazy() if lazy else table


def in_arrow(frame):
    return pytest.importorskip("pyarrow").Table.from_pandas(frame, preserve_index=False)


def relation_of_duckdb(frame):
    pytest.importorskip("pyarrow")
    duckdb = importlib.import_module("duckdb")
    connection = duckdb.connect(":memory:")
    connection.register("given", frame)
    return connection.sql("SELECT * FROM given")


def read_back_as_csv(frame, folder):
    frame.to_csv(folder / "table.csv", index=False)
    with pd.read_csv(folder / "table.csv", chunksize=271) as reader:
        yield from reader


ENGINES = {
    "pandas": lambda frame, _: frame,
    "chunks": lambda frame, _: in_chunks(frame),
    "csv": read_back_as_csv,
    "spilled": lambda frame, _: in_chunks(frame),
    "polars": lambda frame, _: in_polars(frame, lazy=False),
    "lazy": lambda frame, _: in_polars(frame, lazy=True),
    "arrow": lambda frame, _: in_arrow(frame),
    "relation": lambda frame, _: relation_of_duckdb(frame),
    "sqlite": lambda frame, _: in_sqlite(frame),
    "duckdb": lambda frame, _: in_duckdb(frame),
}


@pytest.fixture(params=ENGINES)
def engine(request, tmp_path):
    def oracle(frame, schema, **options):
        table = ENGINES[request.param](frame, tmp_path)
        if request.param in {"sqlite", "duckdb"}:
            return SqlOracle(table, EVIL_TABLE, schema, **options)
        spill_folder = tmp_path if request.param == "spilled" else None
        return TableOracle(table, schema, spill_folder=spill_folder, **options)

    return oracle


def exact(oracle, cliques):
    return oracle._count(cliques)


def test_every_engine_counts_a_table_with_missing_values_alike(engine, clinic_frame, clinic_schema, monkeypatch):
    monkeypatch.setattr("generators.sources._BLOCK_ROWS", 700)
    local = LocalTableOracle(clinic_frame, clinic_schema)
    cliques = [c for k in (1, 2, 3) for c in itertools.combinations(local.domain.columns, k)]
    cliques += [("event", "time"), ("wbc", "age", "sex")]
    other = engine(clinic_frame, clinic_schema)
    assert other.domain == local.domain
    for clique, expected, counts in zip(cliques, exact(local, cliques), exact(other, cliques), strict=True):
        assert counts.dtype == np.int64
        assert np.array_equal(counts, expected), clique
        assert counts.sum() == len(clinic_frame)


BAD = {
    "category": {"sex": "secret"},
    "low": {"age": -17},
    "high": {"blasts": 1.0000001},
    "infinite": {"wbc": math.inf},
    "fraction": {"visits": 2.5},
    "missing": {"age": None},
    "missing text": {"sex": None},
    "missing name": {"pid": None},
    "blank name": {"pid": "  "},
    "no number": {"time": "secret"},
    "rule": {"sex": "M", "pregnant": "yes"},
}


@pytest.mark.parametrize("bad", BAD)
def test_every_engine_refuses_what_the_schema_refuses_in_the_same_words(engine, clinic_frame, clinic_schema, bad):
    frame = clinic_frame.head(800).astype(object).copy()
    for name, value in BAD[bad].items():
        frame.loc[777, name] = value
    frame = frame.infer_objects()
    with pytest.raises(SchemaError) as expected:
        LocalTableOracle(frame, clinic_schema)
    if bad == "no number":
        # Typed libraries cannot even hold a column of numbers and texts: there, all are texts.
        frame["time"] = frame["time"].astype(str)
    with pytest.raises(SchemaError) as caught:
        engine(frame, clinic_schema)
    assert str(caught.value) == str(expected.value)
    for private in ("secret", "-17", "2.5", "p777"):
        assert private not in str(caught.value)


def test_every_engine_refuses_other_columns_and_no_rows(engine, clinic_frame, clinic_schema):
    for bad in (
        clinic_frame.drop(columns="age"),
        clinic_frame.assign(extra="1"),
        clinic_frame.head(0),
    ):
        with pytest.raises(SchemaError) as expected:
            LocalTableOracle(bad, clinic_schema)
        with pytest.raises(SchemaError) as caught:
            engine(bad, clinic_schema)
        if len(bad):
            assert str(caught.value) == str(expected.value)
        else:
            assert "the table has no rows" in str(caught.value)


def test_every_engine_holds_patients_to_the_limit_across_chunks(engine, clinic_frame, clinic_schema):
    frame = clinic_frame.head(1000).copy()
    # The first, the last, and one in the middle are one patient.
    frame.loc[[0, 500, 999], "pid"] = "anna"
    for limit in (1, 2):
        with pytest.raises(TooManyRecords, match=f"max_records_per_patient = {limit} ") as caught:
            engine(frame, clinic_schema, max_records_per_patient=limit)
        assert "anna" not in str(caught.value)
    oracle = engine(frame, clinic_schema, max_records_per_patient=3)
    oracle.measure([("sex",)], rho=0.5)
    assert oracle.events[0].l2_sensitivity_squared == 9


def test_a_name_is_one_patient_whether_it_comes_as_a_number_or_a_text():
    schema = Schema.from_dict(
        {"table": {"patient_id": "pid"}, "columns": {"pid": {"role": "identifier"}, "b": {"categories": ["0", "1"]}}}
    )
    chunks = [pd.DataFrame({"pid": [7], "b": ["0"]}), pd.DataFrame({"pid": ["7"], "b": ["1"]})]
    with pytest.raises(TooManyRecords):
        TableOracle(chunks, schema)


def test_names_with_quotes_and_semicolons_are_names(clinic_frame):
    frame = pd.DataFrame({EVIL_COLUMN: clinic_frame["sex"], 'a""b': clinic_frame["age"]})
    schema = Schema.from_dict(
        {
            "columns": {
                EVIL_COLUMN: {"categories": ["F", "M"]},
                'a""b': {"kind": "integer", "bounds": [0, 110], "edges": [40]},
            }
        }
    )
    cliques = [(EVIL_COLUMN,), (EVIL_COLUMN, 'a""b')]
    expected = exact(LocalTableOracle(frame, schema), cliques)
    connection = in_sqlite(frame)
    connection.execute("CREATE TABLE x (a)")
    connection.execute("CREATE TABLE y (a)")
    connection.execute("INSERT INTO y VALUES (1)")
    oracle = SqlOracle(connection, ("main", EVIL_TABLE), schema)
    for counts, right in zip(exact(oracle, cliques), expected, strict=True):
        assert np.array_equal(counts, right)
    assert connection.execute("SELECT COUNT(*) FROM x").fetchall() == [(0,)]
    assert connection.execute("SELECT COUNT(*) FROM y").fetchall() == [(1,)]
    with pytest.raises(DomainMismatch, match="null character"):
        quoted("a\0b")


@pytest.mark.parametrize(
    "values", [["F", " M", "M ", "F"], [1, 0, 1, 1], [1.0, 0.0, 1.0, 1.0], [True, False, True, True]]
)
def test_spellings_and_types_of_categories_are_read_as_in_a_frame(values):
    frame = pd.DataFrame({"a": values})
    categories = ["F", "M"] if "F" in values else ["0", "1"]
    schema = Schema.from_dict({"columns": {"a": {"categories": categories}}})
    [expected] = exact(LocalTableOracle(frame, schema), [("a",)])
    [counts] = exact(SqlOracle(in_sqlite(frame), EVIL_TABLE, schema), [("a",)])
    assert np.array_equal(counts, expected)


@pytest.mark.parametrize("driver", ["sqlite3", "duckdb"])
def test_one_row_does_not_choose_what_others_read_as_whatever_the_collation(driver):
    module = pytest.importorskip(driver)
    schema = Schema.from_dict({"columns": {"gene": {"categories": ["kit", "KIT"]}}})
    for rows, counts in ((["kit"] * 5, [5, 0]), (["KIT", *["kit"] * 5], [5, 1]), ([*["kit"] * 5, "KIT"], [5, 1])):
        connection = module.connect(":memory:")
        connection.execute("CREATE TABLE t (gene VARCHAR COLLATE NOCASE)")
        connection.executemany("INSERT INTO t VALUES (?)", [(row,) for row in rows])
        [found] = exact(SqlOracle(connection, "t", schema), [("gene",)])
        assert found.tolist() == counts
        if "KIT" in rows:
            with pytest.raises(SchemaError, match="none of its 1 categories"):
                SqlOracle(connection, "t", Schema.from_dict({"columns": {"gene": {"categories": ["kit"]}}}))
        connection.close()


def test_text_that_looks_like_numbers_is_refused_by_a_database(clinic_frame):
    schema = Schema.from_dict({"columns": {"age": {"kind": "integer", "bounds": [0, 110], "edges": [40]}}})
    frame = pd.DataFrame({"age": clinic_frame["age"].astype(str)})
    with pytest.raises(SchemaError, match="must hold numbers"):
        SqlOracle(in_sqlite(frame), EVIL_TABLE, schema)


def test_edges_divide_doubles_in_sql_as_in_numpy():
    edges = [0.1, 0.3, 1 / 3, 0.7, 1e-7]
    near = [float(np.nextafter(edge, side)) for edge in edges for side in (0.0, 1.0)]
    frame = pd.DataFrame({"x": [*edges, *near, 0.0, 1.0, None]})
    column = {"kind": "continuous", "bounds": [0, 1], "edges": sorted(edges), "nullable": True}
    schema = Schema.from_dict({"columns": {"x": column}})
    [expected] = exact(LocalTableOracle(frame, schema), [("x",)])
    for connect in (in_sqlite, in_duckdb):
        [counts] = exact(SqlOracle(connect(frame), EVIL_TABLE, schema), [("x",)])
        assert np.array_equal(counts, expected)


def test_single_precision_numbers_are_binned_as_the_doubles_they_are():
    connection = importlib.import_module("duckdb").connect(":memory:")
    connection.execute("CREATE TABLE t AS SELECT * FROM (VALUES (0.7::REAL), (0.3::REAL), (0.1::REAL)) AS v(x)")
    frame = pd.DataFrame({"x": np.array([0.7, 0.3, 0.1], dtype=np.float32)})
    schema = Schema.from_dict({"columns": {"x": {"kind": "continuous", "bounds": [0, 1], "edges": [0.3, 0.7]}}})
    [expected] = exact(LocalTableOracle(frame, schema), [("x",)])
    [counts] = exact(SqlOracle(connection, "t", schema), [("x",)])
    assert counts.tolist() == expected.tolist() == [1, 2, 0]
    tight = Schema.from_dict({"columns": {"x": {"kind": "continuous", "bounds": [0.1, 0.7], "edges": [0.2]}}})
    beyond = pd.DataFrame({"x": np.array([0.3], dtype=np.float32)})
    connection.execute("CREATE TABLE u AS SELECT 0.3::REAL AS x")
    least = Schema.from_dict({"columns": {"x": {"kind": "continuous", "bounds": [0, 0.3], "edges": [0.2]}}})
    for refuse in (lambda: LocalTableOracle(beyond, least), lambda: SqlOracle(connection, "u", least)):
        with pytest.raises(SchemaError, match="outside its bounds"):
            refuse()
    assert exact(SqlOracle(connection, "t", tight), [("x",)])[0].tolist() == [1, 2]


def test_a_value_that_is_no_number_counts_as_missing_in_duckdb():
    connection = importlib.import_module("duckdb").connect(":memory:")
    connection.execute("CREATE TABLE t AS SELECT * FROM (VALUES (0.5::DOUBLE), ('NaN'::DOUBLE), (NULL), (1.0)) AS v(x)")
    column = {"kind": "continuous", "bounds": [0, 1], "edges": [0.7]}
    nullable = Schema.from_dict({"columns": {"x": {**column, "nullable": True}}})
    [counts] = exact(SqlOracle(connection, "t", nullable), [("x",)])
    assert counts.tolist() == [1, 1, 2]
    with pytest.raises(SchemaError, match="missing value"):
        SqlOracle(connection, "t", Schema.from_dict({"columns": {"x": column}}))


def test_noise_is_drawn_for_every_engine_and_its_absence_is_noticed(engine):
    columns = {"a": {"categories": [str(i) for i in range(200)]}, "b": {"categories": [str(i) for i in range(100)]}}
    schema = Schema.from_dict({"columns": columns})
    frame = pd.DataFrame({"a": ["3"] * 500, "b": ["7"] * 500})
    oracle = engine(frame, schema, rng=InsecureSeededRng(3))
    [part] = oracle.measure([("a", "b")], rho=0.005)
    counts = np.zeros((200, 100), dtype=np.int64)
    counts[3, 7] = 500
    noise = part.values - counts
    assert noise.size == N_NOISE_CELLS

    def z_score(noise):
        return float((np.square(noise).mean() / part.noise_std**2 - 1) * math.sqrt(noise.size / 2))

    assert abs(z_score(noise)) < Z_THRESHOLD
    assert abs(z_score(np.rint(0.7 * noise))) > Z_THRESHOLD
    assert oracle.events == [DiscreteGaussian(scale=part.noise_std, l2_sensitivity_squared=1, linf_sensitivity=1)]


def test_codes_are_answered_without_a_copy_and_checked(clinic_frame, clinic_schema):
    schema = clinic_schema.subset([name for name in clinic_schema.names if name != "pid"])
    codes = encode(clinic_frame, schema)
    local = LocalTableOracle(clinic_frame.drop(columns="pid"), schema)
    cliques = list(itertools.combinations(local.domain.columns, 2))
    for given in (codes, [codes[:700], codes[700:]], np.ascontiguousarray(codes)):
        oracle = TableOracle.from_codes(given, schema)
        for counts, expected in zip(exact(oracle, cliques), exact(local, cliques), strict=True):
            assert np.array_equal(counts, expected)
    assert np.shares_memory(TableOracle.from_codes(codes, schema)._blocks[0], codes)
    wrong = codes.copy()
    wrong[5, 2] = 77
    for bad in (wrong, codes[:, 1:], codes.astype(float), codes[:0], -codes.astype(np.int64) - 1):
        with pytest.raises(DomainMismatch) as caught:
            TableOracle.from_codes(bad, schema)
        assert "77" not in str(caught.value)


def test_codes_of_a_schema_with_patients_need_the_patients(clinic_frame, clinic_schema):
    codes = encode(clinic_frame, clinic_schema)
    patients = clinic_frame["pid"].to_numpy()
    assert TableOracle.from_codes(codes, clinic_schema, patients=patients).domain == Domain.from_schema(clinic_schema)
    for bad in (None, patients[1:]):
        with pytest.raises(DomainMismatch, match="patient"):
            TableOracle.from_codes(codes, clinic_schema, patients=bad)
    with pytest.raises(TooManyRecords):
        TableOracle.from_codes(codes, clinic_schema, patients=np.where(patients == "p1", "p0", patients))


def test_spilled_codes_leave_no_file_and_no_copy_in_memory(tmp_path, clinic_frame, clinic_schema):
    oracle = TableOracle(clinic_frame, clinic_schema, spill_folder=tmp_path)
    assert isinstance(oracle._blocks[0], np.memmap)
    assert list(tmp_path.iterdir()) == []


def test_chunks_are_cut_to_size_and_lose_no_row(clinic_frame):
    chunks = list(chunks_of([clinic_frame.head(0), clinic_frame.head(1001), clinic_frame.tail(3)], n_rows=500))
    assert [len(chunk) for chunk in chunks] == [0, 500, 500, 1, 3]


def test_a_relation_needs_pyarrow_and_says_so(monkeypatch, clinic_schema):
    duckdb = importlib.import_module("duckdb")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    relation = duckdb.connect(":memory:").sql("SELECT 1 AS a")
    with pytest.raises(MissingLibrary, match="pip install 'pyarrow'"):
        TableOracle(relation, clinic_schema)


def test_a_table_that_needs_narwhals_says_so_without_it(monkeypatch, clinic_schema):
    monkeypatch.setitem(sys.modules, "narwhals.stable.v2", None)

    class Table:
        columns = ("a",)

    with pytest.raises(MissingLibrary, match=r"pip install 'synthema\[frames\]'"):
        TableOracle(Table(), clinic_schema)
