"""What every reader returns: columns of texts as the source has them, before any map; and how a text is a number."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy._values import text_of
from synthema.errors import TableError
from synthema.tables import listed

Texts = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class NumberForm:
    """How the source writes numbers. Nothing is guessed: "1.250" is 1.25 in one clinic and 1,250 in another.

    Examples
    --------
    >>> NumberForm(decimal=",", thousands=".").parse("-1.250,5"), NumberForm().parse("1,5")
    (-1250.5, None)
    """

    decimal: str = "."
    thousands: str = ""

    def parse(self, text: str) -> float | None:
        """Return the text's number, or None if it is none in this form."""
        if not self._pattern().fullmatch(text):
            return None
        plain = text.replace(self.thousands, "") if self.thousands else text
        return float(plain.replace(self.decimal, "."))

    def way_out(self, texts: Sequence[str]) -> str:
        """Return what to do about texts that are no numbers in this form; repeats none of them."""
        other = "," if self.decimal == "." else "."
        if any(other in text for text in texts):
            words = {",": "comma", ".": "point"}
            return (
                f"the column holds a {words[other]}, but the decimal sign is declared as a {words[self.decimal]}: "
                f'set decimal = "{other}", or thousands if it separates thousands'
            )
        return "remove units and texts from this column, or list codes for missing values in the map"

    def _pattern(self) -> re.Pattern[str]:
        whole = r"[0-9]+"
        if self.thousands:
            # All groups or none: "1.25" is no thousand.
            whole = rf"(?:[0-9]{{1,3}}(?:{re.escape(self.thousands)}[0-9]{{3}})+|[0-9]+)"
        fraction = rf"{re.escape(self.decimal)}[0-9]+"
        return re.compile(rf"[+-]?(?:{whole}(?:{fraction})?|{fraction})(?:[eE][+-]?[0-9]{{1,3}})?")


@dataclass(frozen=True, slots=True)
class RawTable:
    """A source's table: columns by name, in order, each an array of stripped texts; "" where a value is missing."""

    name: str
    columns: dict[str, Texts]
    numbers: NumberForm = NumberForm()

    def __repr__(self) -> str:
        return f"RawTable({self.name!r}, {len(self.columns)} columns)"


def as_texts(values: Sequence[Any]) -> Texts:
    """Return texts without outer blanks; "" for what is missing.

    Examples
    --------
    >>> as_texts([" a", None, float("nan")]).tolist()
    ['a', '', '']
    """
    out = np.empty(len(values), dtype=object)
    out[:] = [value.strip() if isinstance(value, str) else "" for value in values]
    return out


def cell_text(value: Any) -> str | None:
    """Return the text of a cell that has a type: 1, 1.0 and True are "1", days are ISO; None for an unknown kind.

    Examples
    --------
    >>> cell_text(5.0), cell_text(0.1), cell_text(True), cell_text(dt.datetime(2024, 2, 1)), cell_text(None)
    ('5', '0.1', '1', '2024-02-01', '')
    """
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return ""
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time() else value.isoformat(timespec="seconds")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, bool | int | float | str | Decimal):
        return text_of(np.array([value], dtype=object))[0]
    return None


def check_header(name: str, header: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise TableError if the header of a table of cells names none of the wanted columns, or one twice, or ""."""
    if not set(header) & set(wanted):
        # It may be a patient's row, so nothing of it is repeated.
        raise TableError(
            f"the header of {name} names none of the columns that are looked for: {listed(wanted)}; put their "
            "names there, or say which row has them"
        )
    for cell in dict.fromkeys(header):
        if not cell:
            raise TableError(f"{name} has a column without a name: name it, or delete it")
        if header.count(cell) > 1:
            raise TableError(f"{name} names the column {cell!r} more than once; keep one of them")
