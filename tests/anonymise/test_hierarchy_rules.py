"""Hierarchies by rule and from tables: what each rule makes, and what every hierarchy has to satisfy."""

import datetime as dt
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise import HierarchyError, Schema, build_hierarchy
from anonymise._domains import domain_labels
from anonymise.hierarchies import build_hierarchies
from privacy._hierarchy_reader import CLASSIFICATIONS, shipped_table
from privacy.errors import SchemaError

DATA = Path(__file__).parent / "data"
STAGES = ["I", "II", "III", "IV", "V"]


def column(name="x", **body):
    return Schema.from_dict({"columns": {name: {"role": "quasi-identifier", **body}}}).column(name)


def build(**body):
    return build_hierarchy(column(**body))


def groups(h, level):
    return [h.labels[level][code] for code in h.codes[level]]


def refused(rule, **body):
    with pytest.raises(HierarchyError, match=rule) as caught:
        build(**body)
    assert caught.value.column == "x"
    assert all(problem.way_out for problem in caught.value.problems)
    return caught.value


# ---------------------------------------------------------------- intervals


def test_a_top_code_is_one_value_at_every_level_and_level_0_too():
    h = build(kind="integer", bounds=[0, 110], hierarchy={"interval": [5, 10], "top": 90})
    assert h.n_leaves == 91
    assert h.labels[0][-2:] == ("89", "90+")
    assert h.labels[1][-2:] == ("[85, 90)", "90+")
    assert h.labels[2][-2:] == ("[80, 90)", "90+")
    assert h.encode(np.array([89, 90, 110])).tolist() == [89, 90, 90]


def test_intervals_are_counted_from_the_bottom_code_or_a_given_origin_and_end_at_the_top_code():
    h = build(kind="integer", bounds=[0, 50], hierarchy={"interval": [10], "bottom": 18, "top": 35})
    assert h.labels[1] == ("<18", "[18, 28)", "[28, 35)", "35+")
    h = build(kind="integer", bounds=[18, 50], hierarchy={"interval": [20], "origin": 0})
    assert h.labels[1] == ("[0, 20)", "[20, 40)", "[40, 60)")


def test_cut_points_make_uneven_intervals():
    h = build(kind="integer", bounds=[0, 99], hierarchy={"interval": [[18, 40, 65], [40]]})
    assert h.labels[1:] == (("[0, 18)", "[18, 40)", "[40, 65)", "[65, 99]"), ("[0, 40)", "[40, 99]"), ("*",))
    h = build(kind="continuous", bounds=[0, 500], hierarchy={"interval": [[4, 10], [10]], "top": 100})
    assert h.labels[0] == ("0 to 4", "4 to 10", "10 to 100", "100+")
    assert h.labels[1] == ("[0, 4)", "[4, 10)", "[10, 100)", "100+")
    assert h.encode(np.array([3.99, 4.0, 99.9, 500.0])).tolist() == [0, 1, 2, 3]


def test_cut_points_that_split_a_group_are_named():
    error = refused(
        r"'\[10, 20\)', '\[60, 70\)' of level 1 are split again",
        kind="integer",
        bounds=[0, 99],
        hierarchy={"interval": [10, [18, 65]]},
    )
    assert len(error.problems) == 1


@pytest.mark.parametrize(
    ("rule", "hierarchy"),
    [
        ("ascend inside the bounds", {"interval": [5], "top": 200}),
        ("ascend inside the bounds", {"interval": [5], "top": 20, "bottom": 30}),
        ("top of whole numbers must be whole", {"interval": [5], "top": 90.5}),
        ("cut points must ascend", {"interval": [[40, 18]]}),
        ("cut points must ascend", {"interval": [[0, 18]]}),
        ("cut points of whole numbers", {"interval": [[18.5]]}),
    ],
)
def test_ends_that_cannot_be_meant_are_refused(rule, hierarchy):
    refused(rule, kind="integer", bounds=[0, 110], hierarchy=hierarchy)


@pytest.mark.parametrize("rule", [{"interval": [1e-308]}, {"interval": [1e-6]}, {"interval": [1], "origin": -1e300}])
def test_more_intervals_than_can_be_listed_are_refused(rule):
    refused("spans more than", kind="continuous", bounds=[0, 500], hierarchy=rule)


# ---------------------------------------------------------------- order, redaction


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([2, 2], [["I to II"] * 2 + ["III to IV"] * 2 + ["V"], ["I to IV"] * 4 + ["V"]]),
        ([[2, 3]], [["I to II"] * 2 + ["III to V"] * 3]),
        ([["III"]], [["I to II"] * 2 + ["III to V"] * 3]),
        ([[["early", 2], ["late", 3]]], [["early"] * 2 + ["late"] * 3]),
        ([[["early", "I"], ["late", "III"]]], [["early"] * 2 + ["late"] * 3]),
        (
            [[1, 1, 3], [["early", "I"], ["late", "III"]]],
            [["I", "II"] + ["III to V"] * 3, ["early"] * 2 + ["late"] * 3],
        ),
    ],
)
def test_order_groups_consecutive_values_by_number_size_or_first_value(levels, expected):
    h = build(kind="ordinal", categories=STAGES, hierarchy={"order": levels})
    assert [groups(h, level) for level in range(1, h.n_levels - 1)] == expected
    assert h.labels[-1] == ("*",)


@pytest.mark.parametrize(
    ("rule", "levels"),
    [
        ("sum to 4, the level below has 5", [[2, 2]]),
        ("sum to 5", [[2, 0, 3], [5, 0]]),
        ("'IX', which begins no group", [["III", "IX"]]),
        ("'II', which begins no group", [[2, 3], ["II"]]),
        ("do not ascend", [["IV", "II"]]),
        ("do not ascend", [[["late", "II"]]]),
        ("must join 2 or more", [1]),
        ("names 'a' twice", [[["a", 2], ["a", 3]]]),
    ],
)
def test_an_order_that_is_none_is_refused(rule, levels):
    refused(rule, kind="ordinal", categories=STAGES, hierarchy={"order": levels})


CODES = st.lists(st.text("0123456789AB", min_size=1, max_size=6), min_size=2, max_size=8, unique=True)


@given(CODES, st.sampled_from(["left", "right"]), st.sampled_from(["left", "right"]), st.sampled_from(["0", " ", "*"]))
def test_redaction_is_arxs_character_by_character(codes, side, align, pad):
    longest = max(map(len, codes))
    levels = list(range(1, longest))
    if not levels:
        return
    rule = {"redact": levels, "side": side, "align": align, "pad": pad}
    h = build(categories=codes, hierarchy=rule)
    for n, code in itertools.product(levels, codes):
        # HierarchyBuilderRedactionBased: fill up to the longest, then replace n characters from one side.
        filled = code + pad * (longest - len(code)) if align == "left" else pad * (longest - len(code)) + code
        expected = "*" * n + filled[n:] if side == "left" else filled[: longest - n] + "*" * n
        assert groups(h, n)[codes.index(code)] == expected


def test_redaction_hides_lengths_unless_it_is_told_to_pad_otherwise():
    assert build(categories=["1010", "99"], hierarchy={"redact": [1]}).labels[1] == ("101*", "99**")
    padded = build(categories=["1010", "99"], hierarchy={"redact": [3], "side": "left", "align": "right", "pad": "0"})
    assert padded.labels[1] == ("***0", "***9")
    refused("masks 4 of at most 4", categories=["1010", "99"], hierarchy={"redact": [4]})
    refused("each more than before", categories=["1010", "99"], hierarchy={"redact": [2, 1]})
    refused("needs categories", kind="continuous", bounds=[0, 1], hierarchy={"redact": [2, 1]})


# ---------------------------------------------------------------- days and ages


@given(st.dates(dt.date(1950, 1, 1), dt.date(2049, 12, 20)))
def test_calendar_levels_are_the_calendars(day):
    end = day + dt.timedelta(days=10)
    steps = ["day", "month", "quarter", "year", "decade", "century"]
    h = build(kind="date", bounds=[str(day), str(end)], hierarchy={"date": steps})
    week = build(kind="date", bounds=[str(day), str(end)], hierarchy={"date": ["week"]})
    for value in (day, end):
        leaf = int(h.encode(np.array([str(value)], dtype=object))[0])
        y = value.year
        expected = [
            str(value),
            f"{y}-{value.month:02d}",
            f"{y}-Q{(value.month - 1) // 3 + 1}",
            str(y),
            f"{y // 10 * 10}-{y // 10 * 10 + 9}",
            f"{y // 100 * 100}-{y // 100 * 100 + 99}",
            "*",
        ]
        assert [groups(h, level)[leaf] for level in range(h.n_levels)] == expected
        iso = value.isocalendar()
        assert groups(week, 1)[leaf] == f"{iso.year}-W{iso.week:02d}"


@given(st.dates(dt.date(1900, 1, 1), dt.date(2020, 12, 31)))
def test_an_age_at_a_day_is_the_number_of_birthdays_since_birth(born):
    at = dt.date(2020, 12, 31)
    h = build(kind="date", hierarchy={"age": [10], "at": str(at), "top": 90})
    age = at.year - born.year - ((at.month, at.day) < (born.month, born.day))
    leaf = int(h.encode(np.array([str(born)], dtype=object))[0])
    assert groups(h, 0)[leaf] == (str(age) if age < 90 else "90+")
    assert h.encode(np.array([born], dtype="datetime64[ns]")).tolist() == [leaf]
    low = age // 10 * 10
    assert groups(h, 1)[leaf] == (f"[{low}, {low + 10})" if age < 90 else "90+")


@pytest.mark.parametrize(
    ("at", "age"), [("2018-02-28", 17), ("2018-03-01", 18), ("2020-02-29", 20), ("2020-02-28", 19)]
)
def test_who_was_born_on_a_leap_day_is_older_on_the_first_of_march(at, age):
    h = build(kind="date", hierarchy={"age": [10], "at": at})
    assert groups(h, 0)[h.encode(np.array(["2000-02-29"], dtype=object))[0]] == str(age)


@pytest.mark.parametrize("born", ["2021-01-01", "1899-12-30"])
def test_an_age_outside_its_public_range_is_refused_without_the_date(born):
    h = build(kind="date", hierarchy={"age": [10], "at": "2020-12-31"})
    with pytest.raises(SchemaError, match="below 0 or above 120") as caught:
        h.encode(np.array([born], dtype=object))
    assert born not in str(caught.value)


# ---------------------------------------------------------------- trees


def icd(*categories, **more):
    return build(categories=list(categories), hierarchy={"tree": "icd10_haematology", **more})


def test_a_tree_puts_each_code_at_its_ancestor_of_each_depth_and_repeats_shallow_ones():
    h = icd("C92.0", "C92", "D45", "D57.1", "C81-C96")
    assert [groups(h, level) for level in range(h.n_levels)] == [
        ["C92.0", "C92", "D45", "D57.1", "C81-C96"],
        ["C92", "C92", "D45", "D57", "C81-C96"],
        ["C81-C96", "C81-C96", "D37-D48", "D55-D59", "C81-C96"],
        ["II", "II", "II", "III", "II"],
        ["*"] * 5,
    ]


def test_levels_that_tell_nothing_apart_are_left_out():
    assert icd("C92.0", "C92.1", "C91.0").labels[1:] == (("C92", "C91"), ("*",))


POLY = [["r", ""], ["a", "r"], ["b", "r"], ["x", "a"], ["x", "b"], ["y", "b"]]


def test_a_node_with_several_parents_stands_where_the_schema_says():
    body = {"categories": ["x", "y"]}
    refused(r"1 node\(s\) have several parents: 'x'", **body, hierarchy={"tree": POLY})
    assert groups(build(**body, hierarchy={"tree": POLY, "preferred": "first"}), 1) == ["a", "b"]
    assert groups(build(**body, hierarchy={"tree": POLY, "preferred": [["x", "b"]]}), 1) == ["*", "*"]
    refused("'x;r', which is no row", **body, hierarchy={"tree": POLY, "preferred": [["x", "r"]]})


def test_all_that_is_wrong_with_a_tree_is_said_at_once():
    rows = [["a", "b"], ["b", "c"], ["c", "b"], ["d", "e"], ["x", "a"], ["x", "d"]]
    error = refused("lacks the parent", categories=["a", "q"], hierarchy={"tree": rows})
    text = str(error)
    assert len(error.problems) == 4
    for part in (
        "lacks the parent(s) 'e'",
        "several parents: 'x'",
        "circle through 'b', 'c'",
        "value(s) of the schema: 'q'",
    ):
        assert part in text
    refused("rows of a tree are child;parent, not 'a;b;c'", categories=["a"], hierarchy={"tree": [["a", "b", "c"]]})


@pytest.mark.parametrize("name", CLASSIFICATIONS)
def test_each_classification_that_comes_with_the_package_is_a_tree(name):
    h = build(categories="hierarchy", hierarchy={"tree": name})
    nodes = {row[0] for row in shipped_table(name)}
    assert set(h.labels[0]) == nodes
    assert len(shipped_table(name)) == len(nodes)
    assert h.labels[-1] == ("*",)


def test_icd_codes_lie_in_the_blocks_and_categories_that_they_name():
    parents = dict(shipped_table("icd10_haematology"))
    assert len(parents) == 329
    for code, parent in parents.items():
        if "." in code:
            assert parent == code[:3]
        elif len(code) == 3 and code != "III":
            first, last = parent.split("-")
            assert first <= code <= last
        elif "-" in code:
            assert parent in ("II", "III")
        else:
            assert parent == ""


# ---------------------------------------------------------------- sets, levels that are kept


def test_a_set_is_generalised_member_by_member_and_keeps_each_group_once():
    h = build(
        kind="set", categories=["C91.0", "C92.0", "D46.2"], hierarchy={"tree": "icd10_haematology"}, max_members=2
    )
    assert h.n_leaves == 3 + 3
    leaf = h.encode(np.array(["C92.0; C91.0", "D46.2;D46.2", "D46.2;C91.0"], dtype=object))
    assert [[groups(h, level)[at] for level in range(h.n_levels)] for at in leaf] == [
        ["C91.0;C92.0", "C91;C92", "C81-C96", "*"],
        ["D46.2", "D46", "D37-D48", "*"],
        ["C91.0;D46.2", "C91;D46", "C81-C96;D37-D48", "*"],
    ]


@given(st.integers(1, 7), st.integers(1, 4), st.data())
def test_every_public_set_is_a_leaf_and_reads_back(n, most, data):
    names = [f"c{i}" for i in range(n)]
    h = build(kind="set", categories=names, max_members=most, nullable=True, separator="|")
    expected = sum(1 for size in range(1, min(n, most) + 1) for _ in itertools.combinations(range(n), size))
    assert h.n_leaves == expected + 1
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=most))
    leaf = h.encode(np.array(["|".join(chosen), None], dtype=object))
    assert h.labels[0][leaf[0]] == "|".join(sorted(set(chosen), key=names.index))
    assert h.labels[0][leaf[1]] == "missing"


def test_sets_that_are_none_are_refused_without_being_named():
    h = build(kind="set", categories=["a", "b", "c"], max_members=2)
    for cell, rule in (("a;zz", "none of its 3 categories"), ("a;b;c", "more than 2 members"), (";", "none of its 3")):
        with pytest.raises(SchemaError, match=rule) as caught:
            h.encode(np.array([cell], dtype=object))
        assert "zz" not in str(caught.value)
    with pytest.raises(SchemaError, match="missing value"):
        h.encode(np.array([""], dtype=object))
    refused("public sets, at most", kind="set", categories=[f"c{i}" for i in range(300)], max_members=3)


def test_levels_that_may_not_be_released_are_cut_off():
    body = {"kind": "date", "bounds": ["2019-11-01", "2020-02-29"]}
    h = build(**body, hierarchy={"date": ["month", "quarter", "year"], "keep_levels": [1, 3]}, nullable=True)
    assert h.labels[0] == ("2019-11", "2019-12", "2020-01", "2020-02", "missing")
    assert h.labels[-1] == ("2019", "2020", "missing")
    assert h.encode(np.array(["2020-02-29", "2019-11-01", None], dtype=object)).tolist() == [3, 0, 4]
    refused(
        "ends at 6, its hierarchy at level 4",
        **body,
        hierarchy={"date": ["month", "quarter", "year"], "keep_levels": [0, 6]},
    )


# ---------------------------------------------------------------- what every hierarchy satisfies


def random_rule(data):
    kind = data.draw(st.sampled_from(["interval", "order", "prefix", "redact", "date", "age", "tree", "set", "cuts"]))
    nullable = data.draw(st.booleans())
    if kind in ("interval", "cuts"):
        low, high = data.draw(st.integers(-20, 20)), data.draw(st.integers(30, 90))
        width = data.draw(st.integers(1, 5))
        cuts = sorted(data.draw(st.sets(st.integers(low + 1, high - 1), min_size=2, max_size=6)))
        rule = {"interval": [width, width * 3] if kind == "interval" else [cuts, cuts[1:]]}
        if data.draw(st.booleans()):
            rule["top"] = data.draw(st.integers(high - 5, high - 1))
        if data.draw(st.booleans()):
            rule["bottom"] = data.draw(st.integers(low + 1, low + 5))
        number = data.draw(st.sampled_from(["integer", "continuous"]))
        return {"kind": number, "bounds": [low, high], "hierarchy": rule, "nullable": nullable}
    if kind == "order":
        levels = data.draw(st.lists(st.integers(2, 3), min_size=1, max_size=3))
        return {"kind": "ordinal", "categories": STAGES, "hierarchy": {"order": levels}, "nullable": nullable}
    if kind in ("prefix", "redact"):
        codes = data.draw(CODES)
        most = max(2, *map(len, codes))
        steps = list(range(1, most))
        rule = {kind: steps[::-1] if kind == "prefix" else steps}
        return {"categories": [*codes, "Z" * most], "hierarchy": rule, "nullable": nullable}
    if kind == "date":
        steps = sorted(data.draw(st.sets(st.integers(0, 4), min_size=1)))
        names = ["month", "quarter", "year", "decade", "century"]
        rule = {"date": [names[step] for step in steps]}
        return {"kind": "date", "bounds": ["1999-11-20", "2001-02-03"], "hierarchy": rule, "nullable": nullable}
    if kind == "age":
        return {"kind": "date", "hierarchy": {"age": [5, 10], "at": "2020-05-05", "top": 85}, "nullable": nullable}
    nodes = [row[0] for row in shipped_table("icd10_haematology")]
    chosen = data.draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=6, unique=True))
    body = {"categories": chosen, "hierarchy": {"tree": "icd10_haematology"}, "nullable": nullable}
    return body | ({"kind": "set"} if kind == "set" else {})


@given(st.data())
def test_levels_nest_shares_sum_to_one_and_every_public_value_has_a_leaf(data):
    body = random_rule(data)
    h = build(**body)
    assert h.leaf_of_domain.size == len(domain_labels(h.column)) + int(h.column.nullable)
    assert set(h.leaf_of_domain.tolist()) == set(range(h.n_leaves))
    assert h.codes[0].tolist() == list(range(h.n_leaves))
    for level in range(h.n_levels):
        assert len(h.codes[level]) == h.n_leaves
        assert set(h.codes[level].tolist()) == set(range(h.n_groups(level)))
        assert len(set(h.labels[level])) == h.n_groups(level)
        _, first = np.unique(h.codes[level], return_index=True)
        assert h.shares(level)[first].sum() == pytest.approx(1.0)
        if level:
            above = dict(zip(h.codes[level - 1].tolist(), h.codes[level].tolist(), strict=True))
            assert [above[code] for code in h.codes[level - 1].tolist()] == h.codes[level].tolist()
    assert h.labels[-1] == ("*",)


@given(data=st.data())
def test_a_rule_written_as_a_csv_file_reads_back_as_the_same_groups(data, tmp_path_factory):
    body = random_rule(data)
    h = build(**body)
    if h.column.kind in ("set", "continuous") or body["hierarchy"].get("age"):
        return  # Their raw values are not their leaves.
    folder = tmp_path_factory.mktemp("csv", numbered=True)
    h.save(folder / "x.csv")
    plain = {"role": "quasi-identifier", **body, "hierarchy": "x.csv"}
    again = build_hierarchy(Schema.from_dict({"columns": {"x": plain}}, folder=folder).column("x"))
    values = domain_labels(h.column)
    if h.column.kind != "date":
        values = [int(value) for value in values] if h.column.kind == "integer" else values
    leaves = [x.encode(np.array(values, dtype=object)) for x in (h, again)]
    for level in range(h.n_levels):
        at = level + again.n_levels - h.n_levels
        texts = [
            [x.labels[n][code] for code in x.codes[n][leaf]]
            for x, n, leaf in zip((h, again), (level, at), leaves, strict=True)
        ]
        assert texts[0] == texts[1]


def test_arxs_own_hierarchies_load_equal_cell_by_cell():
    schema = Schema.load(DATA / "adult.toml")
    for name in schema.quasi_identifiers:
        file = next((DATA / "hierarchies").glob(f"*{name}.csv"))
        table = pd.read_csv(file, sep=";", header=None, dtype=str, keep_default_na=False)
        h = build_hierarchy(schema.column(name))
        assert (h.n_leaves, h.n_levels) == table.shape
        for level in range(h.n_levels):
            assert groups(h, level) == table[level].tolist()


def test_problems_of_several_columns_are_reported_at_once_and_lists_are_bounded():
    many = [f"v{i:03d}" for i in range(40)]
    columns = [
        column("a", categories=many, hierarchy={"rows": [["v000", "*"], ["v000", "*"], ["v001"]]}),
        column("b", kind="integer", bounds=[0, 9], hierarchy={"interval": [2, 3]}),
        column("c", categories=["x"]),
    ]
    with pytest.raises(HierarchyError) as caught:
        build_hierarchies(columns)
    assert [problem.column for problem in caught.value.problems] == ["a", "a", "a", "b"]
    rules = " ".join(problem.rule for problem in caught.value.problems)
    assert "'v001' has another number of levels" in rules
    assert "'v000' twice" in rules
    assert "no row for 38 value(s) of the schema: 'v002'" in rules
    assert "'v013', ..." in rules
    assert "'v014'" not in rules


def test_every_group_that_splits_again_is_named():
    rows = [["a", "g", "1"], ["b", "g", "2"], ["c", "h", "1"], ["d", "h", "2"], ["e", "k", "2"]]
    refused("groups 'g', 'h' of level 1 are split again", categories=list("abcde"), hierarchy={"rows": rows})


def test_a_group_may_not_pass_for_a_missing_value():
    rows = [["a", "missing"], ["b", "missing"]]
    refused("named 'missing'", categories=["a", "b"], hierarchy={"rows": rows}, nullable=True)
    with_row = [["a", "x", "*"], ["b", "y", "*"], ["missing", "x", "*"]]
    body = {"categories": ["a", "b"], "hierarchy": {"rows": with_row}, "nullable": True}
    assert groups(build(**body), 1) == ["x", "y", "x"]
    refused("matches every other", **body, missing="wildcard")


def test_levels_that_are_cut_off_do_not_hide_a_group_that_splits():
    rows = [["a", "g", "1"], ["b", "g", "2"]]
    refused("'g' of level 1 is split", categories=["a", "b"], hierarchy={"rows": rows, "keep_levels": [1, 2]})


def test_the_row_of_a_missing_value_holds_where_lower_levels_are_cut_off():
    rows = [["a", "low", "*"], ["b", "high", "*"], ["missing", "low", "*"]]
    h = build(categories=["a", "b"], hierarchy={"rows": rows, "keep_levels": [1, 2]}, nullable=True)
    assert h.labels == (("low", "high"), ("*",))
    assert h.encode(np.array(["a", "b", None], dtype=object)).tolist() == [0, 1, 0]


@pytest.mark.parametrize("values", [np.array([45.0]), np.array([1975]), np.array([45], dtype=object)])
def test_a_number_is_no_day_of_birth(values):
    h = build(kind="date", hierarchy={"age": [10], "at": "2020-12-31"})
    with pytest.raises(SchemaError, match="must hold days"):
        h.encode(values)


ATOM = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 130),
    st.sampled_from([0.5, 1e-300, 1e300, float("nan"), float("inf"), 2**70]),
    st.sampled_from(["", "a", "b", "I", "first", "left", "right", "month", "week", "day", "2020-12-31", "x", "*"]),
)
BODY = st.recursive(ATOM, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
OPTION = st.sampled_from(
    ["bottom", "top", "origin", "at", "oldest", "side", "align", "mask", "pad", "preferred", "keep_levels"]
)
KINDS = [
    {"categories": ["a", "b", "I"]},
    {"kind": "set", "categories": ["a", "b", "I"]},
    {"kind": "integer", "bounds": [0, 110]},
    {"kind": "continuous", "bounds": [0, 1.5], "edges": [1]},
    {"kind": "date", "bounds": ["2020-01-01", "2020-03-01"]},
    {"kind": "text"},
]


@given(
    st.sampled_from(KINDS),
    st.sampled_from(["rows", "interval", "prefix", "date", "order", "redact", "age", "tree"]),
    st.one_of(BODY, st.lists(BODY, min_size=1, max_size=3), st.lists(st.integers(1, 3), min_size=1, max_size=3)),
    st.dictionaries(OPTION, BODY, max_size=2),
    st.booleans(),
)
def test_whatever_a_schema_says_is_a_hierarchy_or_a_named_mistake(kind, rule, body, options, nullable):
    described = {**kind, "hierarchy": {rule: body, **options}, "nullable": nullable}
    try:
        h = build(**described)
    except (SchemaError, HierarchyError):
        return
    assert Schema.from_dict({"columns": {"x": {"role": "quasi-identifier", **described}}}).content_hash()
    assert h.n_levels == len(h.labels) >= 1
