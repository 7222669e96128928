"""Reading a site's CSV file: strict about form, helpful about what is wrong, silent about values."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from privacy import Schema, SchemaError, SchemaProblem
from privacy._values import is_missing
from privacy.schema import Column
from synthema.errors import TableError

_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def read_table(path: str | Path, schema: Schema) -> pd.DataFrame:
    """Read a comma-separated UTF-8 file and check it against the schema.

    Returns the frame with the schema's columns in the schema's order: numbers as int64 or float64 (float64 where an
    integer column is nullable), everything else as text, missing values as NaN or None.

    Raises
    ------
    TableError
        The file is empty, not UTF-8, uses another delimiter, repeats a column name, or has ragged rows.
    SchemaError
        The table does not fit the schema: every problem, by column, without any value.
    """
    path = Path(path)
    text = _read_text(path)
    header = check_form(path.name, text, schema.names)
    return fitted(text_columns(text, header), schema)


def fitted(
    given: Mapping[str, npt.NDArray[Any]], schema: Schema, *, problems: Sequence[SchemaProblem] = ()
) -> pd.DataFrame:
    """Return columns of texts or numbers as a frame that fits the schema; see `read_table`.

    Parameters
    ----------
    given
        The columns by name; None or NaN where a value is missing.
    schema
        The public description.
    problems
        What is known to be wrong already. Nothing else is said of these columns.

    Raises
    ------
    SchemaError
        If there are problems, known or found: all of them.
    """
    said = list(problems)
    columns: dict[str, Any] = {}
    for name, values in given.items():
        columns[name], problem = _typed(schema.column(name), values) if name in schema.names else (values, None)
        if problem is not None:
            said.append(problem)
    frame = pd.DataFrame(columns)
    try:
        schema.validate(frame)
    except SchemaError as error:
        # A column that is no number at all was reported when it was read; the rest is the schema's to say.
        told = {problem.column for problem in said}
        said.extend(problem for problem in error.problems if problem.column not in told)
    if said:
        raise SchemaError(list(dict.fromkeys(said)))
    return frame[list(schema.names)]


def read_released(path: str | Path, schema: Schema) -> pd.DataFrame:
    """Read a table that was made of another: any of the schema's columns, values as text, whatever they became.

    Raises TableError for a file that cannot be read as it is, or that has a column of another name.
    """
    path = Path(path)
    text = _read_text(path)
    header = check_form(path.name, text, schema.names)
    unknown = [name for name in header if name not in schema.names]
    if unknown:
        raise TableError(f"{path.name} has the column {unknown[0]!r}, which is not in the schema; drop it")
    return pd.DataFrame(text_columns(text, header))


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TableError(
            f"{path.name} cannot be read ({type(error).__name__}); check the path and permissions"
        ) from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TableError(f"{path.name} is UTF-16 text; save it as 'CSV UTF-8'")
    if raw.startswith(b"PK\x03\x04"):
        raise TableError(f"{path.name} is a spreadsheet or archive, not CSV; save it as 'CSV UTF-8'")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TableError(f"{path.name} is not UTF-8 (perhaps Latin-1); save it as 'CSV UTF-8'") from None
    if not text.strip():
        raise TableError(f"{path.name} is empty; give a header line and at least one row")
    if "\x00" in text:
        raise TableError(f"{path.name} holds binary data; save it as 'CSV UTF-8'")
    return text


def text_columns(text: str, header: Sequence[str], *, delimiter: str = ",") -> dict[str, npt.NDArray[Any]]:
    """Return the columns of a text that `check_form` has passed, as texts; NaN where a field is empty."""
    frame = pd.read_csv(
        io.StringIO(text), sep=delimiter, dtype=str, keep_default_na=False, na_values=[""], index_col=False
    )
    return {name: frame.iloc[:, at].to_numpy(dtype=object) for at, name in enumerate(header)}


def check_form(name: str, text: str, wanted: Collection[str], *, delimiter: str = ",") -> list[str]:
    """Return the names in a text's first line, if it is a table in which at least one of the wanted names is found.

    Raises TableError, naming the file by `name`, for another delimiter, a repeated name, ragged rows or open quotes.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip() for cell in next(rows)]
        if len(header) == 1 and delimiter == ",":
            for sign, word in _OTHER_DELIMITERS.items():
                if sign in header[0]:
                    raise TableError(
                        f"{name} is separated by {word}; save it with commas (and a point as the decimal sign)"
                    )
        if not set(header) & set(wanted):
            # A first line that names no column may be a patient's row, so nothing of it is repeated.
            raise TableError(
                f"the first line of {name} names none of the schema's columns; put their names there: {listed(wanted)}"
            )
        repeated = sorted({cell for cell in header if header.count(cell) > 1})
        if repeated:
            raise TableError(f"{name} names the column {repeated[0]!r} more than once; keep one of them")
        n_rows = 0
        for row in rows:
            if not row:
                continue
            n_rows += 1
            if len(row) != len(header):
                raise TableError(
                    f"{name}, line {rows.line_num}: {len(row)} fields under {len(header)} names; a decimal comma or "
                    "an unquoted comma in a text does this: use a decimal point, quote texts"
                )
    except csv.Error as error:
        raise TableError(f"{name}, line {rows.line_num}: {error}; check the quotes") from None
    if n_rows == 0:
        raise TableError(f"{name} has a header but 0 rows; check that the export is complete")
    return header


def listed(names: Collection[str]) -> str:
    """Return the first of some names, for a message."""
    return ", ".join([*list(names)[:20], *(["..."] if len(names) > 20 else [])])


def _typed(column: Column, values: npt.NDArray[Any]) -> tuple[Any, SchemaProblem | None]:
    """Return the column's values with their type, and what is wrong if they are no numbers."""
    if not (column.is_numeric and column.is_coded):
        return values, None
    try:
        numbers = np.array(
            [np.nan if missing else float(value) for value, missing in zip(values, is_missing(values), strict=True)]
        )
    except ValueError:
        comma = any(isinstance(value, str) and "," in value for value in values)
        way_out = "write a decimal point instead of a comma" if comma else "remove units and texts from this column"
        return values, SchemaProblem(column.name, f"must hold numbers (kind {column.kind})", way_out)
    if column.kind == "integer" and not column.nullable and np.isfinite(numbers).all() and (numbers % 1 == 0).all():
        return numbers.astype(np.int64), None
    return numbers, None
