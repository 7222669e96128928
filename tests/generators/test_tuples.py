"""Distinct tuples of a table: the same counts as from its rows, in a database as in memory."""

import itertools
from collections import Counter

import numpy as np
import pytest

from generators import Domain, TooManyRecords, count_marginal, encode
from generators.errors import TableTooLarge
from generators.sql import SqlTable
from generators.tuples import CodedTuples, encode_tuples, group_tuples
from privacy import Schema, SchemaError

KEY = b"k" * 32


@pytest.fixture
def table(clinic_frame):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(":memory:") as connection:
        frame = clinic_frame.copy()  # noqa: F841 - found by its name
        connection.execute("CREATE TABLE t AS SELECT * FROM frame")
        yield SqlTable(connection, '"t"')


def cliques_of(schema):
    return [c for k in (1, 2, 3) for c in itertools.combinations(Domain.from_schema(schema).columns, k)]


def test_marginals_are_those_of_the_rows(clinic_frame, clinic_schema, table):
    codes, domain = encode(clinic_frame, clinic_schema), Domain.from_schema(clinic_schema)
    for tuples in (encode_tuples(clinic_frame, clinic_schema), group_tuples(table, clinic_schema)):
        assert tuples.n_rows == len(clinic_frame)
        cliques = cliques_of(clinic_schema)
        for clique, counts in zip(cliques, tuples.marginals(clinic_schema, cliques), strict=True):
            assert np.array_equal(counts, count_marginal(codes, domain, clique)), clique


def test_subsets_of_the_schema_are_counted_as_if_the_table_had_no_other_columns(clinic_frame, clinic_schema, table):
    tuples = group_tuples(table, clinic_schema)
    coded = clinic_schema.coded
    for names in (coded[:2], coded[::2], coded[-2:], coded[-1:]):
        schema = clinic_schema.subset(names)
        codes, domain = encode(clinic_frame[list(names)], schema), Domain.from_schema(schema)
        for clique, counts in zip(cliques_of(schema), tuples.marginals(schema, cliques_of(schema)), strict=True):
            assert np.array_equal(counts, count_marginal(codes, domain, clique)), (names, clique)


@pytest.mark.parametrize("names", [("time", "event"), ("event", "sex"), ("time",)])
def test_a_horizon_ends_events_where_the_time_is_counted_too_and_only_there(clinic_frame, clinic_schema, names):
    data = clinic_schema.to_dict()
    data["survival"]["horizon"] = 1000
    whole = Schema.from_dict(data)
    schema = whole.subset(names)
    codes, domain = encode(clinic_frame[list(names)], schema), Domain.from_schema(schema)
    [counts] = encode_tuples(clinic_frame, whole).marginals(schema, [names])
    assert np.array_equal(counts, count_marginal(codes, domain, names))


def test_tuples_are_distinct_ascending_and_counted(clinic_frame, clinic_schema):
    tuples = encode_tuples(clinic_frame, clinic_schema)
    rows = [tuple(row) for row in tuples.codes.tolist()]
    plain = Counter(
        map(
            tuple,
            encode(
                clinic_frame,
                Schema.from_dict({key: value for key, value in clinic_schema.to_dict().items() if key != "survival"}),
            ).tolist(),
        )
    )
    assert rows == sorted(plain)
    assert dict(zip(rows, tuples.counts.tolist(), strict=True)) == plain


def test_the_fingerprint_is_the_tables_and_the_keys(clinic_frame, clinic_schema, table):
    here = encode_tuples(clinic_frame, clinic_schema).fingerprint(KEY)
    shuffled = clinic_frame.sample(frac=1, random_state=3)
    assert (
        here
        == encode_tuples(shuffled, clinic_schema).fingerprint(KEY)
        == group_tuples(table, clinic_schema).fingerprint(KEY)
    )
    assert here != encode_tuples(clinic_frame, clinic_schema).fingerprint(b"l" * 32)
    assert here != encode_tuples(clinic_frame.iloc[1:], clinic_schema).fingerprint(KEY)
    changed = clinic_frame.copy()
    changed.loc[changed.index[0], "sex"] = {"F": "M", "M": "F"}[changed["sex"].iloc[0]]
    assert here != encode_tuples(changed, clinic_schema).fingerprint(KEY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", 111),
        ("age", -1),
        ("sex", "X"),
        ("sex", None),
        ("visits", -1),
        ("pid", None),
        ("pid", " "),
        ("wbc", "inf"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_as_a_frame_is(clinic_frame, clinic_schema, table, name, value):
    schema = Schema.from_dict({**clinic_schema.to_dict(), "rules": []})
    bad = clinic_frame.copy()
    bad.loc[7, name] = float(value) if value == "inf" else value
    with pytest.raises(SchemaError) as expected:
        schema.validate(bad)
    literal = "NULL" if value is None else f"'{value}'" if name in ("sex", "pid", "wbc") else str(value)
    table.connection.execute(f'UPDATE t SET "{name}" = {literal} WHERE rowid = 7')
    with pytest.raises(SchemaError) as caught:
        group_tuples(table, schema)
    assert str(caught.value) == str(expected.value)


def test_one_number_of_a_bin_that_is_not_whole_is_found(clinic_schema, table):
    table.connection.execute("ALTER TABLE t ALTER age TYPE DOUBLE")
    group_tuples(table, clinic_schema)
    table.connection.execute("UPDATE t SET age = floor(age) + 0.5 WHERE rowid = 7")
    with pytest.raises(SchemaError, match="'age': must hold whole numbers"):
        group_tuples(table, clinic_schema)


def test_numbers_that_are_texts_in_the_database_are_refused_before_they_are_cast(clinic_schema, table):
    table.connection.execute("ALTER TABLE t ALTER age TYPE VARCHAR")
    with pytest.raises(SchemaError, match="'age': must have a numeric type"):
        group_tuples(table, clinic_schema)


def test_a_patient_twice_is_refused(clinic_schema, table):
    table.connection.execute("UPDATE t SET pid = 'anna' WHERE rowid IN (3, 7)")
    with pytest.raises(TooManyRecords):
        group_tuples(table, clinic_schema)


def test_a_patient_without_an_id_and_a_set_of_strangers_are_refused(clinic_schema, table):
    data = clinic_schema.to_dict()
    data["columns"]["pid"]["nullable"] = True
    table.connection.execute("UPDATE t SET pid = NULL WHERE rowid = 3")
    with pytest.raises(SchemaError, match="'pid': holds a missing value"):
        group_tuples(table, Schema.from_dict(data))
    table.connection.execute("UPDATE t SET pid = 'p3' WHERE rowid = 3")
    data["columns"]["codes"] = {"kind": "set", "categories": ["C92", "D46"]}
    table.connection.execute("ALTER TABLE t ADD codes VARCHAR DEFAULT 'C92;D46'")
    group_tuples(table, Schema.from_dict(data))
    table.connection.execute("UPDATE t SET codes = 'C92;X' WHERE rowid = 3")
    with pytest.raises(SchemaError, match="'codes': holds a member"):
        group_tuples(table, Schema.from_dict(data))


def test_an_empty_table_and_one_too_large_are_refused(clinic_schema, table):
    with pytest.raises(TableTooLarge, match="more distinct combinations"):
        group_tuples(table, clinic_schema, most_bytes=100)
    table.connection.execute("DELETE FROM t")
    with pytest.raises(SchemaError, match="no rows"):
        group_tuples(table, clinic_schema)


def test_nothing_of_the_rows_is_shown(clinic_frame, clinic_schema):
    assert repr(encode_tuples(clinic_frame, clinic_schema)).startswith("CodedTuples(")
    assert "array" not in repr(CodedTuples.of([(np.array([[0]]), np.array([7]))], clinic_schema))
