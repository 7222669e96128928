import json
import tomllib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import Schema, SchemaError
from privacy._toml import dump_toml
from privacy.schema import Column

CLINIC = {
    "table": {"name": "clinic", "patient_id": "id"},
    "columns": {
        "id": {"role": "identifier"},
        "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 110], "edges": [20, 40, 60]},
        "sex": {"role": "quasi-identifier", "kind": "categorical", "categories": ["F", "M"]},
        "ldh": {"role": "sensitive", "kind": "continuous", "bounds": [0, 5000], "bins": 4, "nullable": True},
        "time": {"role": "sensitive", "kind": "integer", "bounds": [0, 4000], "edges": [365]},
        "event": {"role": "sensitive", "kind": "categorical", "categories": ["0", "1"]},
        "pregnant": {"kind": "categorical", "categories": ["no", "yes"]},
    },
    "survival": {"time": "time", "event": "event"},
    "rules": [{"forbid": {"sex": "M", "pregnant": "yes"}}],
}


def clinic_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "age": [0, 59, 110],
            "sex": ["F", "M", "F"],
            "ldh": [0.0, np.nan, 5000.0],
            "time": [1, 365, 4000],
            "event": ["0", "1", "1"],
            "pregnant": ["yes", "no", "no"],
        }
    )


def problems_of(schema: Schema, frame: pd.DataFrame) -> dict[str, str]:
    with pytest.raises(SchemaError) as caught:
        schema.validate(frame)
    return {problem.column: problem.rule for problem in caught.value.problems}


def test_a_good_table_passes_and_is_not_changed():
    frame = clinic_frame()
    before = frame.copy()
    Schema.from_dict(CLINIC).validate(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_codes_follow_public_edges_and_the_upper_bound_is_in_the_last_bin():
    age = Schema.from_dict(CLINIC).column("age")
    assert age.encode(np.array([0, 19, 20, 39, 40, 60, 110])).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert age.labels() == ("0-19", "20-39", "40-59", "60-110")


def test_missing_has_the_last_code_where_the_column_is_nullable():
    ldh = Schema.from_dict(CLINIC).column("ldh")
    assert ldh.n_codes == 5
    assert ldh.encode(np.array([np.nan, 0.0, 1250.0])).tolist() == [4, 0, 1]
    assert ldh.labels()[-1] == "missing"


@pytest.mark.parametrize("values", [[1, 0], [1.0, 0.0], ["1", "0"], [" 1", "0 "], [True, False]])
def test_categories_are_matched_by_their_text_whatever_the_dtype(values):
    event = Schema.from_dict(CLINIC).column("event")
    assert event.encode(np.array(values, dtype=object)).tolist() == [1, 0]
    assert event.encode(np.array(values)).tolist() == [1, 0]


def test_all_problems_are_reported_at_once_by_column():
    schema = Schema.from_dict(CLINIC)
    frame = clinic_frame().drop(columns="time").assign(extra=1)
    frame.loc[0, "age"] = 111
    frame.loc[0, "sex"] = "X"
    frame.loc[1, "event"] = None
    found = problems_of(schema, frame)
    assert set(found) == {"age", "sex", "event", "time", "extra"}
    assert "bounds [0, 110]" in found["age"]
    assert "F, M" in found["sex"]
    assert "not nullable" in found["event"]


def test_an_error_never_names_a_patients_value():
    schema = Schema.from_dict(CLINIC)
    frame = clinic_frame()
    frame["age"] = [0, 59, 98765]
    frame["sex"] = ["F", "M", "secret-value"]
    with pytest.raises(SchemaError) as caught:
        schema.validate(frame)
    assert "98765" not in str(caught.value)
    assert "secret-value" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, -1, 110.5])
def test_infinities_and_values_out_of_bounds_are_refused(bad):
    frame = clinic_frame().astype({"age": "float64"})
    frame.loc[0, "age"] = bad
    assert "age" in problems_of(Schema.from_dict(CLINIC), frame)


def test_a_fraction_in_an_integer_column_is_refused():
    frame = clinic_frame().astype({"age": "float64"})
    frame.loc[0, "age"] = 40.5
    assert problems_of(Schema.from_dict(CLINIC), frame) == {"age": "must hold whole numbers"}


def test_a_forbidden_combination_is_refused():
    frame = clinic_frame()
    frame.loc[1, "pregnant"] = "yes"
    assert "forbidden" in problems_of(Schema.from_dict(CLINIC), frame)["sex"]


def test_duplicate_columns_empty_tables_and_wrong_delimiters_are_named():
    schema = Schema.from_dict(CLINIC)
    frame = clinic_frame()
    doubled = pd.concat([frame, frame[["age"]]], axis=1)
    assert "more than once" in problems_of(schema, doubled)["age"]
    assert "no rows" in problems_of(schema, frame.iloc[:0])["-"]
    one = pd.DataFrame({"id;age;sex": ["a;3;F"]})
    with pytest.raises(SchemaError, match="another delimiter"):
        schema.validate(one)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"age": {"kind": "integer"}}, "public bounds"),
        ({"age": {"kind": "integer", "bounds": [10, 5]}}, "ascend"),
        ({"age": {"kind": "integer", "bounds": [0, 9], "edges": [9]}}, "ascend"),
        ({"age": {"kind": "integer", "bounds": [0, float("nan")]}}, "finite"),
        ({"sex": {"kind": "categorical"}}, "public list of categories"),
        ({"sex": {"categories": ["F", "F"]}}, "twice"),
        ({"sex": {"categories": ["F"], "colour": 1}}, "unknown key"),
        ({"sex": {"categories": ["F"], "role": "friend"}}, "role"),
        ({"sex": {"categories": ["F"], "kind": "fuzzy"}}, "kind"),
        ({"sex": {"categories": ["missing"], "nullable": True}}, "label of a missing value"),
        ({"sex": {"categories": ["F"], "hierarchy": {"magic": [1]}}}, "hierarchy"),
        ({"age": {"kind": "integer", "bounds": [0, 9], "bins": 0}}, "bins"),
        ({"age": {"kind": "integer", "bounds": [0, 9], "bins": 10**15}}, "bins must be"),
        ({"age": {"kind": "continuous", "bounds": [0, 9], "decimals": 10**9}}, "decimals must be"),
        ({"age": {"kind": "integer", "bounds": [0, 9], "bins": 2, "edges": [3]}}, "both bins and edges"),
    ],
)
def test_a_wrong_schema_says_which_rule_it_breaks(change, rule):
    with pytest.raises(SchemaError, match=rule):
        Schema.from_dict({"columns": change})


def test_rules_and_survival_must_name_known_columns_and_labels():
    with pytest.raises(SchemaError, match="unknown column or value"):
        Schema.from_dict(CLINIC | {"rules": [{"forbid": {"sex": "Z"}}]})
    with pytest.raises(SchemaError, match="time and an event"):
        Schema.from_dict(CLINIC | {"survival": {"time": "nowhere", "event": "event"}})


def test_a_schema_survives_toml_and_keeps_its_content_hash(tmp_path):
    schema = Schema.from_dict(CLINIC)
    schema.save(tmp_path / "schema.toml")
    again = Schema.load(tmp_path / "schema.toml")
    assert again == schema
    assert again.content_hash() == schema.content_hash()
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_a_hierarchy_file_becomes_part_of_the_schema(tmp_path):
    (tmp_path / "sex.csv").write_text("F;*\nM;*\n", encoding="utf-8")
    (tmp_path / "schema.toml").write_text(
        '[columns.sex]\ncategories = ["F", "M"]\nhierarchy = "sex.csv"\n', encoding="utf-8"
    )
    spec = Schema.load(tmp_path / "schema.toml").column("sex").hierarchy
    assert spec is not None
    assert spec.rows == (("F", "*"), ("M", "*"))
    with pytest.raises(SchemaError, match=r"nowhere\.csv"):
        Schema.from_dict({"columns": {"sex": {"categories": ["F"], "hierarchy": "nowhere.csv"}}}, folder=tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[columns", b"[table]\nname='x'\n"])
def test_a_file_that_is_no_schema_is_refused_with_its_name(tmp_path, content):
    (tmp_path / "broken.toml").write_bytes(content)
    with pytest.raises(SchemaError):
        Schema.load(tmp_path / "broken.toml")


def test_a_subset_keeps_order_and_drops_what_refers_to_other_columns():
    schema = Schema.from_dict(CLINIC).subset(["event", "sex", "time"])
    assert schema.names == ("sex", "time", "event")
    assert schema.survival is not None
    assert schema.rules == ()
    assert schema.patient_id is None


@given(
    edges=st.lists(st.integers(1, 99), unique=True, min_size=0, max_size=6).map(sorted),
    values=st.lists(st.integers(0, 100), min_size=1, max_size=50),
)
def test_every_allowed_value_gets_the_bin_that_holds_it(edges, values):
    column = Column("x", kind="integer", bounds=(0, 100), edges=tuple(map(float, edges)))
    codes = column.encode(np.array(values))
    full = column.bin_edges
    for value, code in zip(values, codes.tolist(), strict=True):
        assert full[code] <= value
        assert value < full[code + 1] or (code == column.n_codes - 1 and value == 100)


_PLAIN = st.one_of(
    st.text(max_size=20), st.integers(-(2**53), 2**53), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)
)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.one_of(
            _PLAIN, st.lists(_PLAIN, max_size=4), st.dictionaries(st.text(min_size=1, max_size=8), _PLAIN, max_size=3)
        ),
        max_size=5,
    )
)
def test_written_toml_reads_back_equal(data):
    assert tomllib.loads(dump_toml(data)) == data
