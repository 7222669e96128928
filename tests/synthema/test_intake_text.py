"""Text files as hospitals export them: any delimiter, encoding and decimal sign; what is refused, not guessed."""

import contextlib
import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intake_clinic import SCHEMA, expected, patients, same, site_map

from privacy import Schema, SchemaError
from synthema.errors import TableError
from synthema.intake import check_source, read_source, source_of
from synthema.intake.delimited import read_delimited
from synthema.intake.raw import NumberForm

SIMPLE = Schema.from_dict(
    {"columns": {"sex": {"categories": ["F", "M"]}, "hb": {"kind": "continuous", "bounds": [0, 30], "nullable": True}}}
)


def written(columns, delimiter=",", decimal=".", quoting=csv.QUOTE_MINIMAL, end="\r\n"):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(
            ["" if v is None else repr(v).replace(".", decimal) if isinstance(v, float) else str(v) for v in row]
        )
    return out.getvalue()


def source(tmp_path, content, **options):
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return source_of({"kind": "csv", "path": "t.csv", **options})


def read(tmp_path, content, schema=SIMPLE, site_map=None, **options):
    return read_source(source(tmp_path, content, **options), schema, site_map, folder=tmp_path)


# Letters of all the encodings, delimiters, quotes and line breaks inside a field; blanks at its ends are taken off.
TEXTS = st.text(alphabet="aZ0 äéß,;|\t\"'\n-", max_size=8).map(str.strip)


@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "windows-1252", "latin-1"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_was_written_is_read_whatever_the_form(rows, delimiter, encoding, quoting):
    columns = {"first": [a for a, _ in rows], "second": [b for _, b in rows]}
    if all(not a and not b for a, b in rows):
        return
    text = written(columns, delimiter, quoting=quoting, end="\n")
    declared = "auto" if encoding.startswith("utf") else encoding
    for sign in ("auto", delimiter):
        table = read_delimited("t.csv", text.encode(encoding), ["first", "second"], delimiter=sign, encoding=declared)
        assert {name: values.tolist() for name, values in table.columns.items()} == columns


@given(
    number=st.one_of(st.floats(-1e6, 1e6, allow_nan=False), st.integers(-(10**9), 10**9)),
    form=st.sampled_from([(".", ""), (",", ""), (".", ","), (",", "."), (",", " "), (".", "'")]),
)
def test_numbers_are_read_in_their_form_and_in_no_other(number, form):
    decimal, thousands = form
    plain = f"{number:,.3f}" if thousands else f"{number:.3f}"
    text = plain.replace(",", "~").replace(".", decimal).replace("~", thousands)
    assert NumberForm(decimal, thousands).parse(text) == float(f"{number:.3f}")
    other = "." if decimal == "," else ","
    if thousands != other:
        assert NumberForm(other).parse(text) is None


@pytest.mark.parametrize(
    "text", ["1_000", "nan", "inf", "١٢", "1.25", "12.3456", "1,2,3", "", "5 g/L", "0x1", "--1", "1e9999"]
)
def test_what_is_no_number_in_the_declared_form_is_none(text):
    assert NumberForm(",", ".").parse(text) is None


def test_a_clinics_own_columns_codes_and_units_become_the_schemas(tmp_path):
    rows = patients()
    text = written(rows, ";", decimal=",")
    spec = source(tmp_path, text.encode("windows-1252"), decimal=",", encoding="windows-1252")
    assert check_source(spec, SCHEMA, site_map(), folder=tmp_path) == []
    frame = read_source(spec, SCHEMA, site_map(), folder=tmp_path)
    assert list(frame.columns) == list(SCHEMA.names)
    assert same(frame, expected(rows))


def test_a_wrong_decimal_sign_is_named_and_never_guessed(tmp_path):
    for content, declared, word in [("sex;hb\nF;13,5\n", ".", "comma"), ("sex;hb\nF;13.5\n", ",", "point")]:
        with pytest.raises(SchemaError, match=f"'hb': must hold numbers.*holds a {word}") as caught:
            read(tmp_path, content, decimal=declared)
        assert "13" not in str(caught.value)
    assert read(tmp_path, "sex;hb\nF;1.013,5\n".replace("1.0", ""), decimal=",", thousands=".")["hb"].tolist() == [13.5]


def test_thousands_that_are_not_declared_are_no_number(tmp_path):
    schema = Schema.from_dict(
        {"columns": {"plt": {"kind": "integer", "bounds": [0, 10**6]}, "sex": {"categories": ["F"]}}}
    )
    assert read(tmp_path, "plt;sex\n150.000;F\n", schema, decimal=",", thousands=".")["plt"].tolist() == [150_000]
    with pytest.raises(SchemaError, match="point"):
        read(tmp_path, "plt;sex\n150.000;F\n", schema, decimal=",")
    # As a decimal fraction it is a number, but far below what a platelet count is; so it is whole or refused.
    assert read(tmp_path, "plt;sex\n150.000;F\n", schema)["plt"].tolist() == [150]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("sex,hb\nF,5\n".encode("utf-16-le"), {}, "binary data, or UTF-16"),
        ("sex,hb,ä\nF,5,1\n".encode("latin-1"), {}, "not UTF-8: declare it"),
        ("sex,hb,ä\nF,5,1\n".encode(), {"encoding": "windows-1252"}, "but is UTF-8"),
        (b"sex,hb,\x80\nF,5,1\n", {"encoding": "latin-1"}, "windows-1252"),
        (b"sex,hb,\x81\nF,5,1\n", {"encoding": "windows-1252"}, "no windows-1252 text"),
        (b"\xef\xbb\xbfsex,hb\nF,5\n", {"encoding": "windows-1252"}, "begins with the mark of utf-8"),
        (b"\xff\xfes\0e\0", {"encoding": "utf-8"}, "mark of utf-16"),
        (b"PK\x03\x04", {}, 'kind = "excel"'),
        (b"", {}, "is empty"),
        ("61;F;13,5\n47;M;12,0\n", {}, "names none of the columns"),
        ("sex;hb;hb\nF;1;2\n", {}, "'hb' more than once"),
        ("sex;hb;\nF;1;2\n", {}, "without a name"),
        ("sex;hb\nF;1;2\n", {}, "3 fields under 2"),
        ('sex;hb\n"F;1\n', {}, "quotes"),
        ("sex;hb\n", {}, "0 rows"),
        ("hb\n13,5\n", {}, "several delimiters"),
    ],
)
def test_a_file_that_can_be_read_in_two_ways_or_in_none_is_refused(tmp_path, content, options, message):
    with pytest.raises(TableError, match=message) as caught:
        read(tmp_path, content, **options)
    assert not any(value in str(caught.value) for value in ("61", "47", "13,5"))
    [problem] = check_source(source(tmp_path, content, **options), SIMPLE, folder=tmp_path)
    assert problem.column == "-"


@given(
    raw=st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.sampled_from(
                [b"sex", b"hb", b";", b",", b"\t", b'"', b"\n", b"\r", b"F", b"1,5", b"\xe4", b"\0", b"\xff\xfe"]
            ),
            max_size=14,
        ).map(b"".join),
    ),
    encoding=st.sampled_from(["auto", "utf-8", "utf-16", "utf-16-le", "windows-1252", "latin-1"]),
    delimiter=st.sampled_from(["auto", ",", ";", "\t", " "]),
)
@settings(max_examples=150)
def test_whatever_the_bytes_a_table_comes_out_or_a_typed_refusal(raw, encoding, delimiter):
    with contextlib.suppress(TableError):
        table = read_delimited("t.csv", raw, ["sex", "hb"], delimiter=delimiter, encoding=encoding)
        assert len({len(values) for values in table.columns.values()}) == 1
        assert all(isinstance(value, str) for values in table.columns.values() for value in values)


def test_quoted_line_breaks_stay_inside_a_field(tmp_path):
    schema = Schema.from_dict({"columns": {"note": {"role": "identifier"}, "sex": {"categories": ["F"]}}})
    frame = read(tmp_path, 'note;sex\r\n"one;\r\ntwo ""2""";F\r\n', schema)
    assert frame["note"].tolist() == ['one;\r\ntwo "2"']


def test_all_problems_are_told_at_once_and_without_a_value(tmp_path):
    rows = patients(20)
    rows["GESCHLECHT"][3] = 7771
    rows["HB"][4] = "acht"
    rows["DIAGNOSE"][5] = "31.02.2020"
    del rows["PATNR"]
    rows["TOD"][6] = rows["KONTAKT"][6] = None
    found = check_source(source(tmp_path, written(rows, ";")), SCHEMA, site_map(), folder=tmp_path)
    assert {problem.column for problem in found} == {"id", "sex", "age", "hb", "os_days", "os_status"}
    said = str(SchemaError(found))
    assert not any(value in said for value in ("7771", "acht", "31.02"))
    assert "codes that the map does not cover" in said


@given(values=st.lists(st.sampled_from(["1", "2", "9", "X-secret", "M"]), min_size=1, max_size=8))
def test_a_map_covers_every_code_or_the_column_is_refused(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    spec = source(folder, "g;n\n" + "".join(f"{value};1\n" for value in values))
    schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
    rules = site_map().from_dict(
        {"version": 1, "others": "drop", "columns": {"sex": {"from": "g", "recode": {"1": "M", "2": "F"}}}}
    )
    problems = check_source(spec, schema, rules, folder=folder)
    assert bool(problems) == (not set(values) <= {"1", "2"})
    assert "secret" not in str(SchemaError(problems or [*problems]))


def test_a_path_stays_inside_its_root(tmp_path):
    (tmp_path / "out.csv").write_text("sex,hb\nF,5\n")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.csv").symlink_to(tmp_path / "out.csv")
    (root / "own.csv").write_text("sex,hb\nF,5\n")
    (root / "again.csv").symlink_to(root / "own.csv")
    for path, message in [("link.csv", "outside the data's folder"), ("none.csv", "cannot be read"), (".", "regular")]:
        with pytest.raises(TableError, match=message):
            read_source(source_of({"kind": "csv", "path": path, "root": "root"}), SIMPLE, folder=tmp_path)
    for path in ("../out.csv", "/etc/passwd", "a/../../out.csv"):
        with pytest.raises(TableError, match="must be relative"):
            source_of({"kind": "csv", "path": path})
    again = source_of({"kind": "csv", "path": "again.csv", "root": "root"})
    assert len(read_source(again, SIMPLE, folder=tmp_path)) == 1


def test_a_file_larger_than_declared_is_not_read(tmp_path):
    with pytest.raises(TableError, match="larger than max_megabytes = 1"):
        read(tmp_path, b"sex,hb\n" + b"F,5\n" * 300_000, max_megabytes=1)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"kind": "csv"}, "path: Field required"),
        ({"kind": "fax", "path": "a"}, "does not match any of the expected tags"),
        ({"kind": "csv", "path": "a", "decimal": ",", "thousands": ","}, "different signs"),
        ({"kind": "csv", "path": "a", "delimeter": ";"}, "delimeter: Extra inputs"),
        ({"kind": "postgres", "table": "t", "dsn": "postgresql://u:hunter2@h/d"}, "dsn: Extra inputs"),
        ({"kind": "postgres", "table": "t"}, "never the address itself"),
    ],
)
def test_a_wrong_data_section_is_named_by_entry_and_repeats_no_secret(section, message):
    with pytest.raises(TableError, match=message) as caught:
        source_of(section)
    assert "hunter2" not in str(caught.value)


def test_the_address_of_a_database_is_read_from_a_file_that_only_its_owner_can_read(tmp_path, monkeypatch):
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://u:hunter2@h/d\n")
    spec = source_of({"kind": "postgres", "table": "t", "dsn_file": "dsn"})
    secret.chmod(0o644)
    with pytest.raises(TableError, match="chmod 600") as caught:
        spec.address(tmp_path)
    assert "hunter2" not in str(caught.value)
    secret.chmod(0o600)
    assert spec.address(tmp_path) == "postgresql://u:hunter2@h/d"
    spec = source_of({"kind": "postgres", "table": "t", "dsn_env": "CLINIC_DSN"})
    monkeypatch.delenv("CLINIC_DSN", raising=False)
    with pytest.raises(TableError, match=r"CLINIC_DSN .* is not set"):
        spec.address(tmp_path)
    monkeypatch.setenv("CLINIC_DSN", "x")
    assert spec.address(tmp_path) == "x"


def test_a_table_without_a_map_needs_the_schemas_names(tmp_path):
    frame = read(tmp_path, "hb|sex\n|F\n13.5|M\n")
    assert np.isnan(frame["hb"][0])
    assert frame["sex"].tolist() == ["F", "M"]
    with pytest.raises(SchemaError, match="'ward': is not needed"):
        read(tmp_path, "hb|sex|ward\n1|F|3\n")
