"""One sheet of an .xlsx workbook, read by openpyxl after the archive has been looked at from outside.

A workbook is a zip archive of XML: forty kilobytes can unpack to gigabytes, and an XML document type can do the same by
entities. Both are refused from the archive's table of contents and each part's first bytes, before anything is
unpacked into memory. What a part claims to be its size also bounds how much of it is ever read.
"""

from __future__ import annotations

import contextlib
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from synthema.errors import TableError
from synthema.intake.raw import RawTable, cell_text, check_header

# Text of a workbook packs to a tenth or a twentieth; a part of one repeated byte to a thousandth.
_MOST_RATIO = 200
_RATIO_FROM_BYTES = 1 << 20
_MOST_PARTS = 2000
_MOST_ROWS, _MOST_COLUMNS = 1 << 20, 1 << 14
_MOST_CELLS = 1 << 25
_PROLOG_BYTES = 1 << 16


def read_excel(
    path: Path,
    wanted: Sequence[str],
    *,
    sheet: str | None = None,
    header_row: int = 1,
    max_unpacked_megabytes: int = 256,
) -> RawTable:
    """Return the table of a sheet: numbers and dates as plain texts, TRUE and FALSE as 1 and 0.

    Parameters
    ----------
    path
        The workbook.
    wanted
        Columns that are looked for: at least one must be named in the header.
    sheet
        Name of the sheet; needed if more than one is visible.
    header_row
        The row that names the columns, counted from 1; what stands above is left out.
    max_unpacked_megabytes
        Most that all parts together may unpack to.

    Raises
    ------
    TableError
        For a file that is no such workbook, is too large unpacked, holds document types, macros, formulas without a
        value, or errors of Excel; never with a value.
    """
    try:
        import openpyxl
    except ImportError:
        raise TableError("reading .xlsx needs another library: pip install 'synthema[excel]'") from None
    check_archive(path, most_bytes=max_unpacked_megabytes << 20)
    try:
        with warnings.catch_warnings():
            # Of parts that are not read anyhow: validation lists, charts, printers.
            warnings.simplefilter("ignore")
            values = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
            with contextlib.closing(values):
                name = _sheet_name(path.name, values, sheet)
                columns, gaps = _columns(path.name, values[name], wanted, header_row)
                if gaps:
                    formulas = openpyxl.load_workbook(path, read_only=True, data_only=False, keep_links=False)
                    with contextlib.closing(formulas):
                        _check_formulas(path.name, values[name], formulas[name], list(columns), header_row)
    except TableError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken workbook breaks openpyxl in any of a dozen ways
        # Its message may quote a cell.
        raise TableError(f"{path.name} is no sound .xlsx workbook ({type(error).__name__}); save it again") from None
    return RawTable(path.name, columns)


def check_archive(path: Path, *, most_bytes: int) -> None:
    """Raise TableError unless the file is a workbook's archive of a bounded size without document types or macros."""
    name = path.name
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise TableError(f"{name} is an old .xls workbook, or has a password: save it as .xlsx without one")
    if not start.startswith(b"PK"):
        raise TableError(f'{name} is no .xlsx workbook: set kind = "csv" if it is text')
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            _check_sizes(name, parts, most_bytes)
            for part in parts:
                _check_no_document_type(name, archive, part)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError):
        raise TableError(f"{name} is a damaged or encrypted archive: save it again as .xlsx") from None
    if not any(part.filename == "xl/workbook.xml" for part in parts):
        raise TableError(f"{name} is an archive, but no .xlsx workbook: save it as .xlsx")
    if any(part.filename.lower().endswith("vbaproject.bin") for part in parts):
        raise TableError(f"{name} holds macros: save it as .xlsx, which holds none")


def _check_sizes(name: str, parts: Sequence[zipfile.ZipInfo], most_bytes: int) -> None:
    if len(parts) > _MOST_PARTS or len({part.filename for part in parts}) < len(parts):
        raise TableError(f"{name} has too many parts, or one twice: save it again as .xlsx")
    total = 0
    for part in parts:
        total += part.file_size
        if total > most_bytes:
            raise TableError(
                f"{name} would unpack to more than {most_bytes >> 20} MB: raise max_unpacked_megabytes if it is meant "
                "to, or export CSV"
            )
        if part.file_size > _RATIO_FROM_BYTES and part.file_size > _MOST_RATIO * max(part.compress_size, 1):
            raise TableError(f"{name} is packed more tightly than a table is (a zip bomb?): export CSV")


class _RootReached(Exception):
    """The document's first element began, so no document type can come any more."""


def _check_no_document_type(name: str, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    """Raise TableError if the part is XML with a document type, in whatever encoding: no workbook has one."""

    def document_type(*_: object) -> None:
        raise TableError(f"{name} holds an XML document type (an entity bomb?): save it again as .xlsx")

    def root(*_: object) -> None:
        raise _RootReached

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = document_type
    parser.StartElementHandler = root
    with archive.open(part) as file:
        try:
            parser.Parse(file.read(_PROLOG_BYTES), False)
        except _RootReached:
            return
        except expat.ExpatError:
            # A picture or other bytes. What is no XML from its first byte is none for openpyxl's parser either.
            return
        if part.file_size > _PROLOG_BYTES:
            raise TableError(f"{name} has a part that is no workbook's: save it again as .xlsx")


def _sheet_name(name: str, workbook: Any, sheet: str | None) -> str:
    sheets = [page.title for page in workbook.worksheets]
    if sheet is not None:
        if sheet not in sheets:
            raise TableError(f"{name} has no sheet of the name that is declared: correct sheet")
        return sheet
    visible = [page.title for page in workbook.worksheets if page.sheet_state == "visible"]
    if len(visible) != 1:
        raise TableError(f"{name} has several sheets, or none: declare sheet")
    return str(visible[0])


def _rows(name: str, page: Any, first: int) -> Iterator[tuple[Any, ...]]:
    """Yield the sheet's rows from one on, whatever size it claims to have."""
    page.reset_dimensions()
    cells = 0
    for n, row in enumerate(page.iter_rows(min_row=first)):
        cells += len(row)
        if n > _MOST_ROWS or len(row) > _MOST_COLUMNS or cells > _MOST_CELLS:
            raise TableError(f"{name} has more cells than are read from a workbook: export CSV")
        yield row


def _columns(name: str, page: Any, wanted: Sequence[str], header_row: int) -> tuple[dict[str, Any], bool]:
    """Return the columns as texts, and whether a cell of a filled row is empty."""
    rows = _rows(name, page, header_row)
    header = [_text(name, "-", cell) for cell in next(rows, ())]
    while header and not header[-1]:
        header.pop()
    check_header(name, header, wanted)
    lists: list[list[str]] = [[] for _ in header]
    gaps = False
    for row in rows:
        texts = [_text(name, header[at] if at < len(header) else "-", cell) for at, cell in enumerate(row)]
        if not any(texts):
            gaps = True
            continue
        if any(texts[len(header) :]):
            raise TableError(f"{name} has cells to the right of its named columns: name them, or delete them")
        texts += [""] * (len(header) - len(texts))
        gaps = gaps or "" in texts[: len(header)]
        for column, text in zip(lists, texts, strict=False):
            column.append(text)
    if not lists[0]:
        raise TableError(f"{name} has a header but 0 rows; check the sheet")
    return {column: np.array(texts, dtype=object) for column, texts in zip(header, lists, strict=True)}, gaps


def _text(name: str, column: str, cell: Any) -> str:
    value = cell.value
    if getattr(cell, "data_type", "n") == "e":
        raise TableError(
            f"{name}, column {column!r}: holds an error of Excel, such as #N/A; correct or empty the cells"
        )
    if isinstance(value, str):
        # Excel writes control characters as _x000D_.
        return re.sub(r"_x000[9AD]_", " ", value).strip()
    text = cell_text(value)
    if text is None:
        raise TableError(f"{name}, column {column!r}: holds times or durations; format its cells as numbers or texts")
    return text


def _check_formulas(name: str, values: Any, formulas: Any, header: Sequence[str], header_row: int) -> None:
    """Raise TableError if a formula's value was never stored: its cell reads as empty, which it is not."""
    first = header_row + 1
    for stored, written in zip(_rows(name, values, first), _rows(name, formulas, first), strict=True):
        for column, value, formula in zip(header, stored, written, strict=False):
            # The type "str" is that of a formula whose value is the empty text.
            unknown = value.value is None and getattr(value, "data_type", "n") != "str"
            if unknown and getattr(formula, "data_type", "n") == "f":
                raise TableError(
                    f"{name}, column {column!r}: holds a formula whose value is not stored; open the workbook in Excel "
                    "and save it, or paste values"
                )
