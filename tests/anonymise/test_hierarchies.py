import datetime as dt

import numpy as np
import pandas as pd
import pytest

from anonymise import HierarchyError, build_hierarchy
from privacy.errors import SchemaError
from privacy.schema import Column, HierarchySpec


def rows(*lines):
    return HierarchySpec("rows", rows=tuple(tuple(line.split(";")) for line in lines))


def column(hierarchy=None, *, categories=("a", "b", "c"), **more):
    return Column("stage", role="quasi-identifier", categories=categories, hierarchy=hierarchy, **more)


def integer(hierarchy=None, *, bounds=(0, 9), **more):
    return Column("age", role="quasi-identifier", kind="integer", bounds=bounds, hierarchy=hierarchy, **more)


def continuous(hierarchy=None, *, bounds=(0, 10), **more):
    return Column("wbc", role="quasi-identifier", kind="continuous", bounds=bounds, hierarchy=hierarchy, **more)


def date(hierarchy=None, **more):
    return Column("seen", role="quasi-identifier", kind="date", hierarchy=hierarchy, **more)


def groups(hierarchy, level):
    return [hierarchy.labels[level][code] for code in hierarchy.codes[level]]


def test_rows_are_read_as_arx_writes_them():
    h = build_hierarchy(column(rows("a;low;*", "b;low;*", "c;high;*")))
    assert [groups(h, level) for level in range(3)] == [["a", "b", "c"], ["low", "low", "high"], ["*"] * 3]
    assert h.shares(1).tolist() == [2 / 3, 2 / 3, 1 / 3]


def test_a_shared_hierarchy_may_cover_more_than_the_schema_and_all_its_leaves_count():
    h = build_hierarchy(column(rows("z;high;*", "c;high;*", "b;low;*", "a;low;*")))
    assert h.encode(np.array(["a", "b", "c"])).tolist() == [3, 2, 1]
    assert h.shares(1)[0] == 0.5


def test_whole_numbers_are_leaves_and_intervals_align_at_the_lower_bound():
    h = build_hierarchy(integer(HierarchySpec("interval", steps=(2, 4)), bounds=(3, 9)))
    assert h.n_leaves == 7
    assert groups(h, 1) == ["[3, 5)", "[3, 5)", "[5, 7)", "[5, 7)", "[7, 9)", "[7, 9)", "[9, 11)"]
    assert groups(h, 2) == ["[3, 7)"] * 4 + ["[7, 11)"] * 3
    assert h.labels[3] == ("*",)


def test_whole_numbers_without_a_hierarchy_generalise_to_the_public_bins():
    h = build_hierarchy(integer(edges=(5,)))
    assert h.n_leaves == 10
    assert h.labels[1:] == (("0-4", "5-9"), ("*",))
    assert h.encode(np.array(["7", "0"])).tolist() == [7, 0]


def test_a_continuous_value_is_never_released_finer_than_its_bin():
    h = build_hierarchy(continuous(edges=(2.5, 5.0)))
    assert h.labels[0] == ("0 to 2.5", "2.5 to 5", "5 to 10")
    assert h.encode(np.array([0.1, 2.5, 10.0])).tolist() == [0, 1, 2]
    unbinned = build_hierarchy(continuous())
    assert unbinned.labels[0] == ("0 to 10",)


def test_continuous_intervals_without_edges_take_the_first_width_as_leaves():
    h = build_hierarchy(continuous(HierarchySpec("interval", steps=(0.1, 0.5)), bounds=(0, 1)))
    assert h.n_leaves == 10
    assert h.labels[2] == ("[0, 0.5)", "[0.5, 1]")
    assert h.encode(np.array([0.3, 0.29999, 1.0])).tolist() == [3, 2, 9]


def test_continuous_bins_must_lie_within_the_intervals():
    build_hierarchy(continuous(HierarchySpec("interval", steps=(5,)), edges=(2, 5, 7)))
    with pytest.raises(HierarchyError, match=r"'wbc'.*'4 to 7'.*two intervals of width 5"):
        build_hierarchy(continuous(HierarchySpec("interval", steps=(5,)), edges=(4, 7)))


def test_prefixes_mask_to_one_length_so_that_lengths_tell_nothing():
    h = build_hierarchy(column(HierarchySpec("prefix", steps=(3, 1)), categories=("C92.0", "C92", "D57.1")))
    assert groups(h, 1) == ["C92**", "C92**", "D57**"]
    assert groups(h, 2) == ["C****", "C****", "D****"]
    assert groups(h, 3) == ["*"] * 3


def test_days_generalise_to_months_years_and_decades():
    h = build_hierarchy(date(bounds=(1999, 2000)))
    assert h.n_leaves == 365 + 366
    leaf = h.encode(np.array(["2000-02-29"]))[0]
    assert [groups(h, level)[leaf] for level in range(5)] == ["2000-02-29", "2000-02", "2000", "2000-2009", "*"]
    h = build_hierarchy(date(HierarchySpec("date", steps=("year",)), bounds=(1999, 2000)))
    assert h.labels[1:] == (("1999", "2000"), ("*",))


@pytest.mark.parametrize(
    "values",
    [
        np.array(["2000-01-02", " 2000-01-02 ", "2000-01-02 10:30"], dtype=object),
        np.array([dt.date(2000, 1, 2), pd.Timestamp("2000-01-02 23:59"), pd.Timestamp("2000-01-02")], dtype=object),
        np.array(["2000-01-02"] * 3, dtype="datetime64[ns]"),
    ],
)
def test_days_are_read_from_text_dates_and_times(values):
    assert build_hierarchy(date(bounds=(2000, 2000))).encode(values).tolist() == [1, 1, 1]


@pytest.mark.parametrize("value", ["2000", "02.01.2000", 730000, 3.5, "2000-02-30", "1999-12-31", "2001-01-01", None])
def test_what_is_no_day_of_the_domain_is_refused_without_being_named(value):
    with pytest.raises(SchemaError) as caught:
        build_hierarchy(date(bounds=(2000, 2000))).encode(np.array([value], dtype=object))
    assert str(value) not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.problems[0].column == "seen"


def test_days_may_be_listed_as_categories():
    h = build_hierarchy(date(categories=("2001-05-01", "2000-01-01"), nullable=True))
    assert h.encode(np.array(["2000-01-01", "2001-05-01", ""], dtype=object)).tolist() == [1, 0, 2]


def test_a_missing_value_is_a_leaf_of_its_own_until_the_single_group():
    for missing in (None, float("nan"), pd.NA):
        h = build_hierarchy(integer(HierarchySpec("interval", steps=(5,)), nullable=True))
        leaf = h.encode(np.array([3, missing], dtype=object))[1]
        assert [groups(h, level)[leaf] for level in range(3)] == ["missing", "missing", "*"]
    h = build_hierarchy(date(bounds=(2000, 2000), nullable=True))
    assert h.encode(np.array(["NaT"], dtype="datetime64[ns]"))[0] == h.n_leaves - 1


def test_a_hierarchy_may_say_itself_how_a_missing_value_generalises():
    h = build_hierarchy(column(rows("missing;low;*", "a;low;*", "b;low;*", "c;high;*"), nullable=True))
    assert groups(h, 1)[h.encode(np.array([None], dtype=object))[0]] == "low"


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (column(rows("a;low;*", "b;low;*")), "no row for 1 value.*'c'"),
        (column(rows("a;low;*", "b;low", "c;high;*")), "'b' has another number of levels"),
        (column(rows("a;low;*", "b;low;*", "b;high;*", "c;high;*")), "lists 'b' twice"),
        (column(rows("a;low;x", "b;low;y", "c;high;y")), "group 'low' of level 1 is split again at level 2"),
        (column(HierarchySpec("rows", rows=(("a", "*"), ()))), "'' has another number of levels"),
        (column(rows("a", "b", "c")), "at least one level"),
        (column(HierarchySpec("rows")), "at least one level"),
        (column(HierarchySpec("interval", steps=(5,))), "needs a number"),
        (column(HierarchySpec("date", steps=("year",))), "kind date"),
        (column(HierarchySpec("prefix", steps=(1, 2))), "fewer than before"),
        (column(HierarchySpec("prefix", steps=(0,))), "fewer than before"),
        (integer(HierarchySpec("prefix", steps=(1,))), "needs categories"),
        (integer(HierarchySpec("interval", steps=(2, 5))), "not a multiple"),
        (integer(HierarchySpec("interval", steps=(4, 4))), "not a multiple"),
        (integer(HierarchySpec("interval", steps=(0,))), "> 0"),
        (integer(HierarchySpec("interval", steps=("ten",))), "> 0"),
        (integer(HierarchySpec("interval", steps=(2.5,))), "whole"),
        (integer(bounds=(0, 2_000_000)), "spans more than"),
        (integer(bounds=None), "public domain"),
        (date(), "public bounds"),
        (date(bounds=(0, 10)), "are years"),
        (date(categories=("yesterday",)), "not a day"),
        (date(HierarchySpec("date", steps=("year", "month")), bounds=(2000, 2000)), "in this order"),
        (date(HierarchySpec("date", steps=("fortnight",)), bounds=(2000, 2000)), "in this order"),
        (date(HierarchySpec("date", steps=("week", "month")), bounds=(2000, 2000)), "weeks lie in two months"),
        (continuous(edges=(1.0000000000001, 1.0000000000002, 1.0000000000003)), "same label"),
    ],
)
def test_what_is_no_hierarchy_is_refused_with_column_rule_and_way_out(bad, rule):
    with pytest.raises(HierarchyError, match=rule) as caught:
        build_hierarchy(bad)
    assert caught.value.column == bad.name
    assert caught.value.way_out
