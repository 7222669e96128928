"""Free text does not leave, ages at another date, sets and trees do: the release of what the schema newly describes."""

import numpy as np
import pandas as pd
import pytest

from anonymise import KAnonymity, Schema, anonymise
from privacy.errors import SchemaError

N = 24
NOTES = [f"patient number {i:02d} was seen in the day clinic" for i in range(N)]


def release(column, values, **more):
    schema = Schema.from_dict({"columns": {"sex": {"role": "quasi-identifier", "categories": ["F", "M"]}, "c": column}})
    frame = pd.DataFrame({"sex": ["F", "M"] * (len(values) // 2), "c": values})
    return anonymise(frame, schema, models=[KAnonymity(2)], **more).table


def refused(rule, column, values):
    with pytest.raises(SchemaError, match=rule) as caught:
        release(column, values)
    assert caught.value.problems[0].column == "c"
    assert "patient number" not in str(caught.value)


@pytest.mark.parametrize("role", ["sensitive", "insensitive"])
def test_free_text_is_refused_unless_it_is_dropped_or_allowed(role):
    refused("is free text and would be released", {"role": role, "kind": "text"}, NOTES)
    assert set(release({"role": role, "kind": "text", "allow_text": True}, NOTES)["c"]) == set(NOTES)
    assert "c" not in release({"role": "identifier", "kind": "text"}, NOTES).columns


def test_categories_that_read_like_free_text_are_refused():
    column = {"role": "sensitive", "categories": NOTES}
    refused("reads like free text", column, NOTES)
    assert len(release(column | {"allow_text": True}, NOTES)) == N


@pytest.mark.parametrize(
    "values",
    [
        NOTES[:12] * 2,  # Half of the rows have a value of their own, not more.
        [note[:20] for note in (f"{i:02d} {NOTES[i]}" for i in range(N))],  # Of 20 characters, not more.
        NOTES[:18],  # Too few rows to tell.
    ],
)
def test_categories_at_the_edge_of_the_rule_are_released(values):
    assert len(release({"role": "sensitive", "categories": sorted(set(values))}, values)) == len(values)


def test_a_date_that_holds_text_is_refused_whatever_is_allowed():
    days = [f"2020-01-{i + 1:02d}" for i in range(N)]
    column = {"role": "insensitive", "kind": "date"}
    assert len(release(column, days)) == N
    refused("is a date, but holds other text", column | {"allow_text": True}, [*days[:-1], "patient number 7"])


def test_a_quasi_identifier_is_never_free_text():
    with pytest.raises(SchemaError, match="free text has no public values"):
        Schema.from_dict({"columns": {"c": {"role": "quasi-identifier", "kind": "text"}}})


def registry(**birth):
    columns = {
        "born": {
            "role": "quasi-identifier",
            "kind": "date",
            "hierarchy": {"age": [10, 40], "at": "diagnosed", "top": 80},
            **birth,
        },
        "diagnosed": {"kind": "date", "bounds": ["2000-01-01", "2020-12-31"], "nullable": True},
        "codes": {
            "role": "quasi-identifier",
            "kind": "set",
            "categories": ["C91.0", "C92.0", "D46.2"],
            "hierarchy": {"tree": "icd10_haematology"},
        },
    }
    return Schema.from_dict({"columns": columns})


def test_an_age_at_another_date_and_a_set_of_codes_are_released_as_groups():
    frame = pd.DataFrame(
        {
            "born": ["1950-06-01", "1951-06-01", "1960-01-31", "1969-12-31", "1900-01-01", "1910-01-01"],
            "diagnosed": ["2005-05-31", "2005-06-01", "2010-01-30", "2010-01-30", "2005-01-01", "2005-01-01"],
            "codes": ["C91.0", "C91.0;C91.0", "C92.0;D46.2", "D46.2; C92.0", "C91.0", "C91.0"],
        }
    )
    table = anonymise(frame, registry(), models=[KAnonymity(2)]).table
    assert set(zip(table["born"], table["codes"], strict=True)) == {
        ("[50, 60)", "C91.0"),
        ("[40, 50)", "C92.0;D46.2"),
        ("80+", "C91.0"),
    }


def test_an_age_needs_both_dates_unless_the_column_is_nullable():
    frame = pd.DataFrame(
        {"born": ["1950-06-01"] * 4, "diagnosed": ["2005-06-01"] * 2 + [None] * 2, "codes": ["C91.0"] * 4}
    )
    with pytest.raises(SchemaError, match=r"'born'.*missing value"):
        anonymise(frame, registry(), models=[KAnonymity(2)])
    table = anonymise(frame, registry(nullable=True), models=[KAnonymity(2)]).table
    assert sorted(table["born"]) == ["55", "55", "missing", "missing"]


@pytest.mark.parametrize("value", ["C93.0", "C91.0;C92.0;D46.2;C91.1", ""])
def test_no_error_names_a_cell_of_a_set(value):
    frame = pd.DataFrame(
        {"born": ["1950-06-01"] * 4, "diagnosed": ["2005-06-01"] * 4, "codes": ["C91.0"] * 3 + [value]}
    )
    with pytest.raises(SchemaError) as caught:
        anonymise(frame, registry(), models=[KAnonymity(2)])
    assert caught.value.problems[0].column == "codes"
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize("bad", [1950, 1950.5, "1950", np.inf, "x", ["1950-06-01"]])
def test_mixed_types_in_a_date_of_birth_are_refused_by_name(bad):
    frame = pd.DataFrame({"born": ["1950-06-01"] * 4, "diagnosed": ["2005-06-01"] * 4, "codes": ["C91.0"] * 4})
    frame["born"] = pd.Series(["1950-06-01", "1950-06-01", "1950-06-01", bad], dtype=object)
    with pytest.raises(SchemaError, match="'born'"):
        anonymise(frame, registry(), models=[KAnonymity(2)])


def test_a_table_of_many_columns_is_released_and_each_bad_one_is_named():
    wide = {f"lab{i}": {"kind": "continuous", "bounds": [0, 1], "nullable": True} for i in range(400)}
    schema = Schema.from_dict({"columns": {"sex": {"role": "quasi-identifier", "categories": ["F", "M"]}, **wide}})
    frame = pd.DataFrame({"sex": ["F", "M"] * 4, **dict.fromkeys(wide, [0.5, np.nan] * 4)})
    assert anonymise(frame, schema, models=[KAnonymity(2)]).table.shape == (8, 401)
    frame["lab7"] = "high"
    frame["lab8"] = 2.0
    with pytest.raises(SchemaError) as caught:
        anonymise(frame, schema, models=[KAnonymity(2)])
    assert [problem.column for problem in caught.value.problems] == ["lab7", "lab8"]
