"""Text files of any delimiter and encoding: found where only one reading is possible, else to be declared.

A byte above 127 is another letter in each of a dozen encodings, and most of them read any bytes without complaint.
UTF-8 does not: text that is valid UTF-8 is UTF-8. So UTF-8 and byte order marks are found; all else is declared.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence

from synthema.errors import TableError
from synthema.intake.raw import NumberForm, RawTable, as_texts
from synthema.tables import check_form, listed, text_columns

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DECLARE = 'declare it, e.g. encoding = "windows-1252" for exports of Windows programs in Western Europe'


def read_delimited(
    name: str,
    raw: bytes,
    wanted: Sequence[str],
    *,
    delimiter: str = "auto",
    encoding: str = "auto",
    numbers: NumberForm | None = None,
) -> RawTable:
    r"""Return the table of a text file.

    Parameters
    ----------
    name
        How the file is called in messages.
    raw
        Its bytes.
    wanted
        Columns that are looked for: at least one must be named in the first line.
    delimiter, encoding
        As declared; "auto" finds them where that is safe.
    numbers
        How the file writes numbers.

    Raises
    ------
    TableError
        For another form or encoding than declared; never with a value.

    Examples
    --------
    >>> read_delimited("a.csv", b"age;hb\n61;13,5\n", ["age", "hb"]).columns["hb"].tolist()
    ['13,5']
    """
    text = decoded(name, raw, encoding)
    if not text.strip():
        raise TableError(f"{name} is empty; give a header line and at least one row")
    if "\0" in text:
        raise TableError(f"{name} holds binary data, or UTF-16 without a mark: declare its encoding")
    sign = _found_delimiter(name, text, wanted) if delimiter == "auto" else delimiter
    header = check_form(name, text, wanted, delimiter=sign)
    if "" in header:
        raise TableError(f"{name} has a column without a name: name it, or delete it")
    columns = text_columns(text, header, delimiter=sign)
    return RawTable(
        name, {column: as_texts(values.tolist()) for column, values in columns.items()}, numbers or NumberForm()
    )


def decoded(name: str, raw: bytes, encoding: str) -> str:
    """Return the file's text. Raises TableError where the bytes speak against the declared encoding."""
    if raw.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise TableError(f'{name} is a spreadsheet or archive, not text: set kind = "excel", or export it as CSV')
    marked = next((found for mark, found in _MARKS if raw.startswith(mark)), None)
    family = {"utf-8-sig": "utf-8", "utf-16": "utf-16"}.get(marked or "", "")
    if marked is not None and encoding != "auto" and not encoding.startswith(family):
        raise TableError(f"{name} begins with the mark of {family}, but encoding = {encoding!r}: declare {family!r}")
    # A mark is taken off where the encoding's own codec would leave it in the first column's name.
    codec = marked or ("utf-8" if encoding == "auto" else encoding)
    try:
        text = raw.decode("utf-16" if codec.startswith("utf-16") and marked else codec)
    except UnicodeDecodeError:
        told = f"is not UTF-8: {_DECLARE}" if codec.startswith("utf-8") else f"is no {codec} text: declare another one"
        raise TableError(f"{name} {told}") from None
    if codec in ("windows-1252", "latin-1"):
        _check_single_bytes(name, raw, codec)
    return text


def _check_single_bytes(name: str, raw: bytes, codec: str) -> None:
    if not raw.isascii():
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            # Letters of a single-byte encoding would have to stand together just so, everywhere in the file.
            raise TableError(f'{name} is declared as {codec}, but is UTF-8: set encoding = "utf-8"')
    if codec == "latin-1" and any(0x80 <= byte <= 0x9F for byte in set(raw)):
        raise TableError(f'{name} holds signs that Latin-1 does not have: set encoding = "windows-1252"')


def _found_delimiter(name: str, text: str, wanted: Sequence[str]) -> str:
    """Return the delimiter by which the first line names most of the wanted columns."""
    found: dict[str, int] = {}
    for sign in _DELIMITERS:
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True))
        except (csv.Error, StopIteration):
            continue
        found[sign] = len({cell.strip() for cell in header} & set(wanted))
    most = max(found.values(), default=0)
    best = [sign for sign, count in found.items() if count == most]
    if most == 1 and all(sign not in text for sign in _DELIMITERS):
        return ","
    if most == 0 or len(best) > 1:
        words = ", ".join(_DELIMITERS.values())
        raise TableError(
            f"the first line of {name} names none of the columns that are looked for ({listed(wanted)}), or its "
            f"delimiter is none of {words}: put their names there, or declare delimiter"
            if most == 0
            else f"{name} can be read with several delimiters: declare delimiter"
        )
    return best[0]
