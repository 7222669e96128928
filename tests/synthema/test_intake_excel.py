"""Excel workbooks: what typed cells read as, and archives that are refused before they are unpacked."""

import contextlib
import datetime as dt
import io
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intake_clinic import SCHEMA, expected, patients, same, site_map

from privacy import Schema
from synthema.errors import TableError
from synthema.intake import read_source, source_of
from synthema.intake.excel import read_excel

openpyxl = pytest.importorskip("openpyxl")

WANTED = ["a", "b"]


def workbook(path, rows, sheet="Sheet", more=()):
    book = openpyxl.Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    for name in more:
        book.create_sheet(name)
    book.save(path)
    return path


def edited(path, change):
    """Rewrite the archive: `change` gets each part's name and bytes and returns bytes, or None to leave it out."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            new = change(name, data)
            if new is not None:
                archive.writestr(name, new)
    return path


def in_sheet(old, new):
    def change(name, data):
        return data.replace(old, new) if name == "xl/worksheets/sheet1.xml" else data

    return change


def column(path, name="a", **options):
    return read_excel(path, WANTED, **options).columns[name].tolist()


def test_a_clinics_workbook_becomes_the_schemas_table(tmp_path):
    rows = patients(100)
    workbook(tmp_path / "t.xlsx", [list(rows), *zip(*rows.values(), strict=True)])
    spec = source_of({"kind": "excel", "path": "t.xlsx"})
    assert same(read_source(spec, SCHEMA, site_map(), folder=tmp_path), expected(rows))


def test_cells_read_as_what_they_are(tmp_path):
    cells = [
        1,
        1.0,
        0.1,
        True,
        False,
        dt.date(2024, 2, 29),
        dt.datetime.fromisoformat("2024-02-29T13:05"),
        " x ",
        "007",
        10**11,
        None,
    ]
    texts = ["1", "1", "0.1", "1", "0", "2024-02-29", "2024-02-29T13:05:00", "x", "007", "100000000000", ""]
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], *([cell, 1] for cell in cells)])
    assert column(path) == texts


def test_dates_of_the_1904_calendar_are_the_days_that_excel_shows(tmp_path):
    book = openpyxl.Workbook()
    book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    for row in (["a"], [dt.datetime.fromisoformat("2020-03-01")]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    assert column(tmp_path / "t.xlsx") == ["2020-03-01"]


def test_rows_above_the_header_and_empty_rows_are_left_out(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["Report of the clinic"], [], ["a", "b"], [1, 2], [], [3, None]])
    assert column(path, header_row=3) == ["1", "3"]
    assert column(path, "b", header_row=3) == ["2", ""]
    with pytest.raises(TableError, match="names none of the columns"):
        read_excel(path, WANTED)


def test_a_sheet_is_chosen_only_if_there_is_one(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["a"], [1]], sheet="data", more=["notes"])
    with pytest.raises(TableError, match="several sheets"):
        read_excel(path, WANTED)
    assert column(path, sheet="data") == ["1"]
    with pytest.raises(TableError, match="no sheet of the name"):
        read_excel(path, WANTED, sheet="secret")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a", "a"], [1, 2]], "'a' more than once"),
        ([["a", None, "b"], [1, 2, 3]], "without a name"),
        ([["a", "b"], [1, 2, 3]], "right of its named columns"),
        ([["a", "b"]], "0 rows"),
        ([["x", "y"], [1, 2]], "none of the columns"),
        ([["a", "b"], [dt.timedelta(hours=30), 2]], "times or durations"),
        ([["a", "b"], [dt.time(13, 5), 2]], "times or durations"),
    ],
)
def test_a_sheet_that_is_no_table_is_refused(tmp_path, rows, message):
    with pytest.raises(TableError, match=message):
        read_excel(workbook(tmp_path / "t.xlsx", rows), WANTED)


def test_a_formula_is_its_stored_value_or_an_error(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], ["=1+1", 5], [3, 4]])
    with pytest.raises(TableError, match="column 'a': holds a formula whose value is not stored"):
        read_excel(path, WANTED)
    stored = edited(path, in_sheet(b"<f>1+1</f><v />", b"<f>1+1</f><v>2</v>"))
    assert column(stored) == ["2", "3"]
    empty = edited(stored, in_sheet(b'<c r="A2"><f>1+1</f><v>2</v>', b'<c r="A2" t="str"><f>1+1</f><v></v>'))
    assert column(empty) == ["", "3"]


def test_a_row_of_nothing_but_formulas_without_values_is_not_taken_for_empty(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], [1, 2], ["=1+1", "=2+2"]])
    with pytest.raises(TableError, match="formula"):
        read_excel(path, WANTED)


def test_an_error_of_excel_is_named_by_its_column(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], [1, 2]])
    broken = edited(path, in_sheet(b'<c r="A2" t="n"><v>1</v>', b'<c r="A2" t="e"><v>#N/A</v>'))
    with pytest.raises(TableError, match=r"column 'a': holds an error of Excel"):
        read_excel(broken, WANTED)


def test_texts_in_the_table_that_excel_shares_between_cells_are_read(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], ["x", 2]])
    shared = b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">%s</sst>'
    shared %= b"<si><t>a</t></si><si><t>b</t></si><si><r><t>x </t></r><r><t>y</t></r></si>"

    def change(name, data):
        if name == "xl/worksheets/sheet1.xml":
            for i, text in enumerate((b"a", b"b", b"x")):
                data = data.replace(b't="inlineStr"><is><t>%s</t></is>' % text, b't="s"><v>%d</v>' % i)
        if name == "[Content_Types].xml":
            kind = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
            data = data.replace(
                b"</Types>", b'<Override PartName="/xl/sharedStrings.xml" ContentType="%s"/></Types>' % kind
            )
        return data

    with zipfile.ZipFile(edited(path, change), "a") as archive:
        archive.writestr("xl/sharedStrings.xml", shared)
    assert column(path) == ["x y"]


def refused_small(path, message, most_bytes=8 << 20):
    """The refusal comes before anything large is in memory."""
    tracemalloc.start()
    try:
        with pytest.raises(TableError, match=message):
            read_excel(path, WANTED)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most_bytes


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], [1, 2]])
    bomb = edited(path, lambda _, data: data.replace(b"</sheetData>", b" " * (20 << 20) + b"</sheetData>"))
    assert bomb.stat().st_size < 1 << 20
    refused_small(bomb, "zip bomb")


def test_many_parts_that_are_large_together_are_refused(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], [1, 2]])
    noise = bytes(range(256)) * 4096  # 1 MB of which no part alone looks packed too tightly
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        for i in range(3):
            archive.writestr(f"xl/media/{i}.bin", noise)
    with pytest.raises(TableError, match="unpack to more than 2 MB"):
        read_excel(path, WANTED, max_unpacked_megabytes=2)
    assert column(path) == ["1"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("part", ["xl/worksheets/sheet1.xml", "xl/styles.xml", "[Content_Types].xml"])
def test_an_xml_document_type_is_refused_in_any_part_and_encoding(tmp_path, part, encoding):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], ["x", 2]])
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha" * 10}">' for i in range(10))

    def change(name, data):
        if name != part:
            return data
        text = data.decode()
        text = text[text.index("?>") + 2 :] if text.startswith("<?xml") else text
        return f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [{entities}]>{text}'.encode(encoding)

    refused_small(edited(path, change), "document type")


def test_a_comment_as_long_as_a_book_hides_no_document_type(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], ["x", 2]])
    long = b"<!--" + bytes(range(33, 45)) * 20_000 + b"-->"
    changed = edited(path, lambda name, data: long + data if name == "xl/styles.xml" else data)
    refused_small(changed, "no workbook's")


def test_a_sheet_that_claims_a_billion_cells_is_read_as_far_as_it_goes(tmp_path, monkeypatch):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], [1, 2]])
    assert column(edited(path, in_sheet(b'ref="A1:B2"', b'ref="A1:XFD1048576"'))) == ["1"]
    monkeypatch.setattr("synthema.intake.excel._MOST_ROWS", 1000)
    with pytest.raises(TableError, match="more cells than are read"):
        read_excel(edited(path, in_sheet(b'r="2"', b'r="99999999999"')), WANTED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xd0\xcf\x11\xe0" + b"x" * 600, "old .xls workbook, or has a password"),
        (b"a;b\n1;2\n", 'kind = "csv"'),
        (b"PK\x03\x04 and nothing", "damaged"),
    ],
)
def test_what_is_no_workbook_is_named(tmp_path, content, message):
    (tmp_path / "t.xlsx").write_bytes(content)
    with pytest.raises(TableError, match=message):
        read_excel(tmp_path / "t.xlsx", WANTED)


def test_macros_other_archives_and_broken_parts_are_refused(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["a", "b"], [1, 2]])
    kept = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/vbaProject.bin", b"x")
    with pytest.raises(TableError, match="macros"):
        read_excel(path, WANTED)
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    path.write_bytes(other.getvalue())
    with pytest.raises(TableError, match=r"no \.xlsx workbook"):
        read_excel(path, WANTED)
    path.write_bytes(kept)
    with pytest.raises(TableError, match=r"no sound \.xlsx workbook") as caught:
        read_excel(edited(path, in_sheet(b"<v>2</v>", b"<v>secret</v>")), WANTED)
    assert "secret" not in str(caught.value)


@settings(max_examples=30)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_workbook_is_refused_or_read_as_it_was(flips):
    book = io.BytesIO()
    made = openpyxl.Workbook()
    for row in (["a", "b"], [1, "x"], [2.5, None]):
        made.active.append(row)
    made.save(book)
    raw = bytearray(book.getvalue())
    for place, bits in flips:
        raw[int(place * len(raw))] ^= bits
    with tempfile.NamedTemporaryFile(suffix=".xlsx") as file, contextlib.suppress(TableError):
        file.write(raw)
        file.flush()
        columns = read_excel(Path(file.name), WANTED).columns
        # What is read is right: every part that matters has its checksum.
        assert {name: texts.tolist() for name, texts in columns.items()} == {"a": ["1", "2.5"], "b": ["x", ""]}


def test_a_column_of_codes_keeps_its_texts(tmp_path):
    schema = Schema.from_dict({"columns": {"a": {"categories": ["0", "1"]}, "b": {"categories": ["01", "02"]}}})
    workbook(tmp_path / "t.xlsx", [["a", "b"], [True, "01"], [0, "02"], [1.0, "01"]])
    frame = read_source(source_of({"kind": "excel", "path": "t.xlsx"}), schema, folder=tmp_path)
    assert frame["a"].tolist() == ["1", "0", "1"]
    assert frame["b"].tolist() == ["01", "02", "01"]
