"""Hierarchies, sets, free text and the format's version in the schema: what is read, what is refused, what stays."""

import datetime as dt
import json
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import Schema, SchemaError
from privacy._hierarchy_reader import parse_table

STAGES = ["I", "II", "III"]
RULES = {
    "age": {"kind": "integer", "bounds": [0, 110], "hierarchy": {"interval": [5, 10, [40]], "top": 90, "bottom": 18}},
    "wbc": {"kind": "continuous", "bounds": [0, 500], "hierarchy": {"interval": [2.5, [10, 50.5]], "origin": -1.5}},
    "stage": {"kind": "ordinal", "categories": STAGES, "hierarchy": {"order": [2, [["low", 1], ["high", 1]]]}},
    "stage2": {"kind": "ordinal", "categories": STAGES, "hierarchy": {"order": [["II"]], "keep_levels": [1, 2]}},
    "post": {"categories": ["1010", "1020"], "hierarchy": {"redact": [1, 2], "side": "left", "pad": " "}},
    "icd": {"categories": ["C92.0", "C92"], "hierarchy": {"tree": [["C92", ""], ["C92.0", "C92"]]}},
    "orpha": {
        "categories": ["x"],
        "hierarchy": {"tree": [["r"], ["a", "r"], ["x", "a"], ["x", "r"]], "preferred": [["x", "r"]]},
    },
    "born": {"kind": "date", "hierarchy": {"age": [5, 10], "at": "seen", "oldest": 110}},
    "seen": {"kind": "date", "bounds": ["2000-01-01", "2020-12-31"], "hierarchy": {"date": ["week"]}},
    "codes": {
        "kind": "set",
        "categories": ["C92.0", "C92"],
        "separator": "|",
        "max_members": 2,
        "nullable": True,
        "missing": "wildcard",
        "hierarchy": {"prefix": [3]},
    },
    "lab": {"categories": ["a"], "nullable": True, "missing": "suppress"},
}


def schema():
    columns = {name: {"role": "quasi-identifier", **body} for name, body in RULES.items()}
    columns["notes"] = {"role": "sensitive", "kind": "text", "allow_text": True}
    return Schema.from_dict({"columns": columns})


@pytest.mark.parametrize("name", ["schema.toml", "schema.json"])
def test_every_rule_survives_toml_and_json(tmp_path, name):
    schema().save(tmp_path / name)
    again = Schema.load(tmp_path / name)
    assert again == schema()
    assert again.content_hash() == schema().content_hash()
    text = (tmp_path / name).read_text(encoding="utf-8")
    data = json.loads(text) if name.endswith("json") else tomllib.loads(text)
    assert data["version"] == 1
    assert data == json.loads(json.dumps({"version": 1, **schema().to_dict()}))


def test_rules_are_written_as_they_were():
    written = schema().to_dict()["columns"]
    for name, body in RULES.items():
        assert written[name].get("hierarchy") == body.get("hierarchy")


def test_every_option_of_a_rule_changes_the_content_hash():
    hashes = {schema().content_hash()}
    changes = [
        ("age", {"top": 80}),
        ("age", {"bottom": 20}),
        ("wbc", {"origin": 0}),
        ("post", {"side": "right"}),
        ("post", {"align": "right"}),
        ("post", {"mask": "#"}),
        ("post", {"pad": "0"}),
        ("orpha", {"preferred": "first"}),
        ("born", {"at": "2020-12-31"}),
        ("born", {"oldest": 100}),
        ("stage2", {"keep_levels": [0, 2]}),
    ]
    for name, change in changes:
        data = schema().to_dict()
        data["columns"][name]["hierarchy"] |= change
        hashes.add(Schema.from_dict(data).content_hash())
    for name, change in (
        ("codes", {"separator": ";"}),
        ("codes", {"max_members": 1}),
        ("codes", {"missing": "own_value"}),
        ("notes", {"allow_text": False}),
    ):
        data = schema().to_dict()
        data["columns"][name] |= change
        hashes.add(Schema.from_dict(data).content_hash())
    assert len(hashes) == 1 + len(changes) + 4


def test_a_version_that_is_not_known_is_refused():
    columns = {"columns": {"x": {"categories": ["a"]}}}
    assert Schema.from_dict({"version": 1, **columns}) == Schema.from_dict(columns)
    for version in (0, 2, "1", True, None):
        with pytest.raises(SchemaError, match="reads version 1"):
            Schema.from_dict({"version": version, **columns})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"hierarchy": {"interval": [5], "date": ["year"]}}, "not one of the known forms"),
        ({"hierarchy": {"interval": [5], "mask": "x"}}, "has no option 'mask'"),
        ({"hierarchy": {"interval": []}}, "does not list its levels"),
        ({"hierarchy": {"interval": [[]]}}, "does not list its levels"),
        ({"hierarchy": {"interval": [[1, "a"]]}}, "does not list its levels"),
        ({"hierarchy": {"order": [["a", 1]]}}, "does not list its levels"),
        ({"hierarchy": {"order": [[["a", 1], ["b", "x"]]]}}, "does not list its levels"),
        ({"hierarchy": {"order": [{"a": 1}]}}, "does not list its levels"),
        ({"hierarchy": {"prefix": [[1]]}}, "does not list its levels"),
        ({"hierarchy": {"interval": [5], "top": "high"}}, "top must be a number"),
        ({"hierarchy": {"interval": [5], "keep_levels": [2, 1]}}, "must ascend"),
        ({"hierarchy": {"interval": [5], "keep_levels": [1]}}, "two whole numbers"),
        ({"hierarchy": {"redact": [1], "pad": "ab", "side": "up"}}, "pad must be one character"),
        ({"hierarchy": {"tree": "no_such_table"}}, "no classification that comes with the package"),
        ({"hierarchy": {"tree": "codes.csv"}}, "cannot be found without a folder"),
        ({"hierarchy": {"tree": [["a", ""]], "preferred": "last"}}, "preferred lists pairs"),
        ({"hierarchy": {"rows": ["a"]}}, "lists of texts"),
        ({"hierarchy": {"age": [5], "at": "2020-12-31"}}, "kind date"),
        ({"kind": "date", "categories": [], "hierarchy": {"age": [5]}}, "needs its reference"),
        ({"kind": "date", "categories": [], "hierarchy": {"age": [5], "at": "x"}}, "no other date column"),
        ({"kind": "date", "categories": [], "hierarchy": {"age": [5], "at": "soon"}}, "neither a day nor a column"),
        ({"kind": "date", "categories": [], "hierarchy": {"age": [5], "at": "2020-12-31", "oldest": 0}}, "oldest"),
        ({"categories": "hierarchy"}, "must be a list"),
        ({"kind": "set", "categories": ["a;b"]}, "holds the separator"),
        ({"kind": "set", "max_members": 0}, "max_members"),
        ({"max_members": 2}, "max_members"),
        ({"separator": ","}, "separator"),
        ({"kind": "text"}, "free text has no public values"),
        ({"allow_text": "yes"}, "allow_text must be true or false"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, rule):
    with pytest.raises(SchemaError, match=rule):
        Schema.from_dict({"columns": {"x": {"role": "quasi-identifier", "categories": ["a"], **change}}})


def test_a_native_toml_date_may_be_the_reference_of_ages():
    def born(at):
        body = {"kind": "date", "hierarchy": {"age": [5], "at": at}}
        return Schema.from_dict({"columns": {"born": body}})

    assert born(dt.date(2020, 12, 31)) == born("2020-12-31")


@pytest.mark.parametrize("text", ["C92.0;C92\nC92;\n", "\ufeffC92.0,C92\r\nC92,\r\n", '"C92.0";"C92"\n\nC92;\n'])
def test_a_tree_is_read_from_semicolons_commas_and_quotes(tmp_path, text):
    (tmp_path / "tree.csv").write_text(text, encoding="utf-8", newline="")
    (tmp_path / "schema.toml").write_text(
        '[columns.icd]\ncategories = "hierarchy"\nhierarchy = { tree = "tree.csv" }\n', encoding="utf-8"
    )
    icd = Schema.load(tmp_path / "schema.toml").column("icd")
    assert icd.hierarchy.rows == (("C92.0", "C92"), ("C92", ""))
    assert icd.categories == ("C92.0", "C92")


def test_a_broken_table_is_refused_by_its_name(tmp_path):
    for content in (b"\xff\xfe;a", b'"a;b'):
        (tmp_path / "tree.csv").write_bytes(content)
        with pytest.raises(SchemaError, match=r"tree\.csv"):
            Schema.from_dict({"columns": {"x": {"categories": ["a"], "hierarchy": "tree.csv"}}}, folder=tmp_path)


CELL = st.text(st.characters(blacklist_characters=';,"\r\n', blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5), st.sampled_from(";,"))
def test_a_table_reads_back_as_it_was_written(rows, sign):
    stripped = [tuple(cell.strip() for cell in row) for row in rows]
    text = "\n".join(sign.join(row) for row in rows)
    assert list(parse_table(text)) == [row for row in stripped if any(row)]


@pytest.mark.parametrize("content", ["[]", "{", "3"])
def test_json_that_is_no_schema_is_refused(tmp_path, content):
    (tmp_path / "schema.json").write_text(content, encoding="utf-8")
    with pytest.raises(SchemaError, match=r"schema\.json"):
        Schema.load(tmp_path / "schema.json")


def test_sets_and_free_texts_have_no_codes_and_are_validated():
    assert "codes" not in schema().coded
    assert "notes" not in schema().coded
    codes = schema().column("codes")
    assert codes.problems(np.array(["C92|C92.0", None], dtype=object)) == []
    assert len(codes.problems(np.array(["C92|zz|C92.0"], dtype=object))) == 2
