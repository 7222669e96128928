"""Dates, levels, rules and patterns of missing values in the schema: what is read, what is refused, what stays."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import Schema, SchemaError
from privacy.schema import Determines, MissingTogether, OnlyIf, Order, Rule

REGISTRY = {
    "table": {"name": "registry"},
    "columns": {
        "diagnosis": {"kind": "date", "bounds": ["2000-01-01", "2019-12-31"], "step": "year"},
        "transplant": {"kind": "date", "bounds": ["2000-01-01", "2020-12-31"], "bins": 6, "nullable": True},
        "seen": {"kind": "date", "bounds": ["2020-01-01", "2020-01-02"], "resolution": "hour", "dtype": "text"},
        "hospital": {"categories": ["H1", "H2", "H3"], "hierarchy": {"rows": [["H1", "N"], ["H2", "N"], ["H3", "S"]]}},
        "region": {"categories": ["N", "S"]},
        "relapsed": {"categories": ["0", "1"]},
        "relapse": {"kind": "integer", "bounds": [0, 9], "edges": [5], "nullable": True},
        "wbc": {"kind": "continuous", "bounds": [0, 9], "nullable": True},
        "ldh": {"kind": "continuous", "bounds": [0, 9], "nullable": True},
        "icd": {"categories": ["C91.0", "C92.0", "C92.1"], "hierarchy": {"prefix": [3]}, "model_level": 1},
        "time": {"kind": "integer", "bounds": [0, 9999], "edges": [365, 3650]},
        "event": {"categories": ["0", "1", "2"]},
    },
    "survival": {
        "time": "time",
        "event": "event",
        "competing": {"1": "PCM", "2": "death"},
        "horizon": 3650,
        "strata": ["region"],
    },
    "missing": {"patterns": [["wbc", "ldh"]]},
    "rules": [
        {"order": ["diagnosis", "transplant"]},
        {"determines": ["hospital", "region"], "level": 1},
        {"column": "relapse", "only_if": {"relapsed": "1"}, "always": True},
        {"missing_together": ["wbc", "ldh"]},
        {"forbid": {"icd": ["C91**", "C92.1"], "region": "S"}},
    ],
}


def registry_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "diagnosis": ["2000-01-01", "2004-07-09", "2019-12-31"],
            "transplant": ["2000-01-01", None, "2020-06-01"],
            "seen": ["2020-01-01 13:45:01", "2020-01-01T00:00", "2020-01-02"],
            "hospital": ["H1", "H2", "H3"],
            "region": ["N", "N", "S"],
            "relapsed": ["1", "0", "0"],
            "relapse": [3, None, None],
            "wbc": [1.0, None, 2.0],
            "ldh": [1.0, None, 2.0],
            "icd": ["C91.0", "C92.1", "C92.0"],
            "time": [5, 4000, 3650],
            "event": ["1", "2", "0"],
        }
    )


def one_column(**body):
    return Schema.from_dict({"columns": {"x": body}}).column("x")


def test_older_schemas_keep_their_content_hash():
    older = {
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
    # Recorded before dates, levels and the newer rules were added.
    assert Schema.from_dict(older).content_hash() == "136a2588cb7663e688028ccc6ed65c8f7be76a71569a9fa51bbc567e5938acb5"
    years = {"role": "quasi-identifier", "kind": "date", "bounds": [2000, 2020], "nullable": True}
    years["hierarchy"] = {"date": ["month", "year"]}
    found = Schema.from_dict({"columns": {"seen": years}})
    assert found.content_hash() == "6ca2457705bea581f009c8cdb25d32edd9666c14afe1dfcf84e27549169d5457"
    assert found.coded == ()


def test_everything_survives_toml_and_a_good_table_passes(tmp_path):
    schema = Schema.from_dict(REGISTRY)
    schema.save(tmp_path / "schema.toml")
    again = Schema.load(tmp_path / "schema.toml")
    assert again == schema
    assert again.content_hash() == schema.content_hash()
    schema.validate(registry_frame())


def test_native_toml_dates_are_read_as_their_texts():
    native = one_column(kind="date", bounds=[dt.date(2000, 1, 1), dt.date(2000, 12, 31)], step="quarter")
    assert native == one_column(kind="date", bounds=["2000-01-01", "2000-12-31"], step="quarter")
    assert native.labels() == (
        "2000-01-01 to 2000-03-31",
        "2000-04-01 to 2000-06-30",
        "2000-07-01 to 2000-09-30",
        "2000-10-01 to 2000-12-31",
    )


@given(st.dates(dt.date(1900, 1, 1), dt.date(2100, 12, 31)), st.sampled_from(["month", "quarter", "year"]))
def test_a_calendar_bin_holds_the_days_of_its_month_quarter_or_year(day, step):
    column = one_column(kind="date", bounds=["1900-01-01", "2100-12-31"], step=step)
    since = (day.year - 1900) * 12 + day.month - 1
    by_hand = since // {"month": 1, "quarter": 3, "year": 12}[step]
    for value in (day.isoformat(), day, pd.Timestamp(day) + pd.Timedelta(hours=23)):
        assert column.encode(np.array([value], dtype=object)).tolist() == [by_hand]
    assert column.encode(np.array([day], dtype="datetime64[ns]")).tolist() == [by_hand]


@pytest.mark.parametrize(
    "bad", ["2001", "2001-02-30", 20010101, 12.5, "1.2.2001", pd.Timestamp("2001-01-01", tz="UTC")]
)
def test_what_is_no_local_day_is_refused_without_being_named(bad):
    column = one_column(kind="date", bounds=["2000-01-01", "2010-12-31"])
    with pytest.raises(SchemaError, match="must hold days") as caught:
        column.encode(np.array([bad], dtype=object))
    assert str(bad) not in str(caught.value)


def test_days_outside_the_bounds_are_refused_and_the_last_day_belongs_to_the_last_bin():
    column = one_column(kind="date", bounds=["2000-01-01", "2000-12-31"], edges=["2000-07-01"], nullable=True)
    values = np.array(["2000-06-30", "2000-07-01", "2000-12-31", None], dtype=object)
    assert column.encode(values).tolist() == [0, 1, 1, 2]
    for outside in ("1999-12-31", "2001-01-01"):
        with pytest.raises(SchemaError, match=r"outside its bounds \[2000-01-01, 2000-12-31\]"):
            column.encode(np.array([outside], dtype=object))


def test_a_resolution_cuts_times_down_to_its_unit():
    column = Schema.from_dict(REGISTRY).column("seen")
    first, second = column.numbers(np.array(["2020-01-01T13:00", "2020-01-01T13:59:59"], dtype=object))
    assert first == second
    assert column.text([first]) == ["2020-01-01T13:00"]


def test_a_level_models_groups_and_leaves_the_public_list_alone():
    icd = Schema.from_dict(REGISTRY).column("icd")
    assert icd.labels() == ("C91.0", "C92.0", "C92.1")
    assert icd.modelled().labels() == ("C91**", "C92**")
    assert icd.model_codes().tolist() == [0, 1, 1]
    assert icd.codes_of("C92**").tolist() == [False, True, True]
    refined = one_column(categories=["a1", "a2", "b1"], hierarchy={"prefix": [1]}, model_level=1, refined=["a2"])
    assert refined.modelled().labels() == ("a*", "a2", "b*")


def test_a_pattern_is_a_column_that_the_table_does_not_have():
    schema = Schema.from_dict(REGISTRY)
    pattern = schema.column("missing(wbc,ldh)")
    assert pattern.categories == ("none", "wbc", "ldh", "wbc+ldh")
    assert "missing(wbc,ldh)" not in schema.names
    assert schema.modelled[-1] == pattern
    assert schema.subset(["wbc", "ldh"]).derived == (pattern,)
    assert schema.subset(["wbc", "sex"] if "sex" in schema.names else ["wbc", "region"]).derived == ()


def test_a_subset_keeps_only_rules_and_strata_on_its_columns():
    schema = Schema.from_dict(REGISTRY).subset(["hospital", "region", "wbc", "time", "event"])
    assert [type(rule) for rule in schema.rules] == [Determines]
    assert schema.survival is not None
    assert schema.survival.strata == ("region",)
    without = schema.subset(["time", "event"])
    assert without.survival is not None
    assert without.survival.strata == ()


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"transplant": ["1999-12-31", None, "2020-06-01"]}, "transplant"),
        ({"diagnosis": ["2000-01-02", "2004-07-09", "2019-12-31"]}, "diagnosis"),
        ({"region": ["N", "N", "N"]}, "hospital"),
        ({"relapse": [None, None, None]}, "relapse"),
        ({"relapse": [3, 4, None]}, "relapse"),
        ({"wbc": [1.0, 1.0, 2.0]}, "wbc"),
        ({"icd": ["C91.0", "C92.1", "C92.1"]}, "icd"),
        ({"icd": ["C91.0", "C92.1", "C91.0"]}, "icd"),
    ],
)
def test_a_broken_rule_is_reported_by_column_without_a_value(change, column):
    frame = registry_frame().assign(**change)
    with pytest.raises(SchemaError) as caught:
        Schema.from_dict(REGISTRY).validate(frame)
    assert [problem.column for problem in caught.value.problems] == [column]
    for secret in ("1999-12-31", "2000-01-02", "2004-07-09", "4.0", "H3"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"order": ["diagnosis"]}, "at least two different"),
        ({"order": ["diagnosis", "hospital"]}, "numbers or dates"),
        ({"order": ["diagnosis", "relapse"]}, "one unit"),
        ({"order": ["transplant", "diagnosis"]}, "before itself"),
        ({"order": ["diagnosis", "transplant"], "strict": "yes"}, "strict"),
        ({"determines": ["hospital", "region"], "map": {"H1": "N"}}, "each of its values once"),
        ({"determines": ["hospital", "region"], "map": {"H1": "N", "H2": "N", "H3": "X"}}, "unknown column or value"),
        ({"determines": ["hospital", "region"], "level": 2}, "no such level"),
        ({"determines": ["region", "hospital"]}, "says how it determines"),
        ({"column": "wbc", "only_if": {}}, "only_if needs"),
        ({"column": "region", "only_if": {"relapsed": "1"}}, "nullable"),
        ({"column": "wbc", "only_if": {"wbc": "missing"}}, "another column"),
        ({"missing_together": ["wbc", "region"]}, "nullable"),
        ({"forbid": {"region": "X"}}, "unknown column or value"),
        ({"forbid": {"region": []}}, "needs forbid"),
        ({"forbid": {"region": "N"}, "order": ["a", "b"]}, "one known form"),
        ({"forbids": {}}, "one known form"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule, message):
    body = REGISTRY | {"rules": [{"order": ["diagnosis", "transplant"]}, rule]}
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict(body)


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("survival", {"horizon": 400}, "last of its edges"),
        ("survival", {"competing": {"1": "x"}}, "categories 0 and 1"),
        ("survival", {"strata": ["time"]}, "strata"),
        ("survival", {"strat": ["region"]}, "unknown key"),
        ("missing", {"patterns": [["wbc"]]}, "2 to 8"),
        ("missing", {"patterns": [["wbc", "region"]]}, "nullable"),
        ("missing", {"pattern": [["wbc", "ldh"]]}, "must hold patterns"),
    ],
)
def test_sections_with_a_mistake_are_refused(section, value, message):
    body = {**REGISTRY, section: {**REGISTRY[section], **value} if section == "survival" else value}
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"kind": "date", "bounds": ["2000-01-01", "1999-01-01"]}, "ascend"),
        ({"kind": "date", "bounds": ["2000-01-01", 2020]}, "ISO dates"),
        ({"kind": "date", "bounds": ["2000-01-01", "2001-01-01"], "step": "week"}, "month, quarter or year"),
        ({"kind": "date", "bounds": ["2000-01-01", "2001-01-01"], "resolution": "ms"}, "resolution"),
        ({"kind": "integer", "bounds": [0, 9], "resolution": "day"}, "resolution"),
        ({"kind": "integer", "bounds": [0, 9], "dtype": "text"}, "dtype"),
        ({"categories": ["a"], "model_level": 1}, "model_level"),
        ({"categories": ["a"], "hierarchy": {"rows": [["b", "g"]]}, "model_level": 1}, "model_level"),
        ({"categories": ["a"], "hierarchy": {"prefix": [1]}, "model_level": 2}, "model_level"),
        ({"categories": ["a"], "hierarchy": {"prefix": [1]}, "model_level": 1, "refined": ["b"]}, "refined"),
        ({"categories": ["a"], "hierarchy": {"prefix": [1]}, "model_level": 1, "weights": [-1]}, "weights"),
        ({"categories": ["a"], "hierarchy": {"prefix": [1]}, "weights": [1]}, "model_level"),
        (
            {
                "categories": ["a", "b"],
                "hierarchy": {"rows": [["a", "a"], ["b", "a"]]},
                "model_level": 1,
                "refined": ["a"],
            },
            "name of a refined category",
        ),
    ],
)
def test_a_column_that_cannot_be_meant_is_refused(body, message):
    with pytest.raises(SchemaError, match=message):
        one_column(**body)


def test_rules_are_values():
    assert [type(rule) for rule in Schema.from_dict(REGISTRY).rules] == [
        Order,
        Determines,
        OnlyIf,
        MissingTogether,
        Rule,
    ]
