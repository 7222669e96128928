import pandas as pd
import pytest

from privacy import Schema, SchemaError
from synthema.errors import TableError
from synthema.tables import read_table

SCHEMA = Schema.from_dict(
    {
        "columns": {
            "age": {"kind": "integer", "bounds": [0, 110]},
            "sex": {"categories": ["F", "M"]},
            "wbc": {"kind": "continuous", "bounds": [0, 500], "nullable": True},
        }
    }
)
GOOD = "age,sex,wbc\n61,F,13.3\n76,M,\n"


def write(tmp_path, content: str | bytes):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_good_file_is_read_with_the_schemas_types(tmp_path):
    frame = read_table(write(tmp_path, "sex,wbc,age\nF,13.3,61\nM,,76\n"), SCHEMA)
    assert list(frame.columns) == ["age", "sex", "wbc"]
    assert frame["age"].tolist() == [61, 76]
    assert frame["wbc"].isna().tolist() == [False, True]


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    frame = read_table(write(tmp_path, b"\xef\xbb\xbf" + GOOD.encode() + b"\n\n"), SCHEMA)
    assert len(frame) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("  \n\n", "is empty"),
        ("age,sex,wbc\n", "0 rows"),
        ("age;sex;wbc\n61;F;13,3\n", "separated by semicolons"),
        ("age\tsex\twbc\n61\tF\t13\n", "separated by tabs"),
        ("age,sex,wbc\n61,F,13,3\n", "decimal comma"),
        ("age,sex,wbc\n61,F\n", "2 fields under 3"),
        ("age,sex,sex,wbc\n61,F,F,1\n", "'sex' more than once"),
        ('age,sex,wbc\n61,"F,1\n', "quotes"),
        ("âge,sexe\n".encode("latin-1"), "not UTF-8"),
        ("age,sex".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04 spreadsheet", "spreadsheet"),
        (b"age,sex\n1,\x00\n", "binary"),
    ],
)
def test_a_file_of_the_wrong_form_is_refused_with_the_rule(tmp_path, content, message):
    path = write(tmp_path, content)
    before = path.read_bytes()
    with pytest.raises(TableError, match=message):
        read_table(path, SCHEMA)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["61,F,13.3\n76,M,\n", "61,F,61\n76,M,\n", "61\n76\n"])
def test_a_patients_row_in_the_place_of_names_is_not_repeated(tmp_path, content):
    with pytest.raises(TableError, match="none of the schema's columns") as caught:
        read_table(write(tmp_path, content), SCHEMA)
    assert "61" not in str(caught.value)
    frame = pd.DataFrame([[1, 2]], columns=["61", "F"])
    with pytest.raises(SchemaError, match="none of the schema's columns") as caught:
        SCHEMA.validate(frame)
    assert "61" not in str(caught.value)


def test_a_quoted_decimal_comma_is_named_with_its_column(tmp_path):
    with pytest.raises(SchemaError) as caught:
        read_table(write(tmp_path, 'age,sex,wbc\n61,F,"13,3"\n'), SCHEMA)
    (problem,) = caught.value.problems
    assert problem.column == "wbc"
    assert "point instead of a comma" in problem.way_out
    assert "13,3" not in str(caught.value)


def test_missing_and_unknown_columns_and_bad_values_are_reported_together(tmp_path):
    with pytest.raises(SchemaError) as caught:
        read_table(write(tmp_path, "age,wbc,city\n200,x,Bath\n"), SCHEMA)
    assert {problem.column for problem in caught.value.problems} == {"age", "sex", "wbc", "city"}
    assert "Bath" not in str(caught.value)


def test_a_missing_value_where_none_is_allowed_is_named(tmp_path):
    with pytest.raises(SchemaError, match="column 'age': holds a missing value"):
        read_table(write(tmp_path, "age,sex,wbc\n,F,1\n3,M,2\n"), SCHEMA)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(TableError, match=r"nowhere\.csv cannot be read"):
        read_table(tmp_path / "nowhere.csv", SCHEMA)


def test_writing_and_reading_gives_the_same_values(tmp_path):
    frame = pd.DataFrame({"age": [1, 110], "sex": ["M", "F"], "wbc": [0.1, 499.9]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv", SCHEMA), frame, check_dtype=False)
