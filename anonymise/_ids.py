"""Patients' ids as texts: what is one id, and which are refused. Each distinct id is read once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.classes import IntArray
from anonymise.encoded import distinct

Ids = Sequence[Any] | npt.NDArray[Any] | pd.Series

# From here on not every whole number is a double: two ids may have become one.
_INEXACT: Final = 1 << 53
_HALVES: Final = re.compile("[\ud800-\udfff]")


def distinct_ids(ids: Ids, column: str) -> tuple[IntArray, list[str]]:
    """Return each id's position among the distinct ones, and their texts. Raises ValueError naming the column."""
    values = ids if isinstance(ids, pd.Series) else as_objects(ids)
    # True equals 1, so it must be found before equal values are merged.
    if values.dtype == object and bool in set(map(type, values)):
        raise _refused(column, _NO_ID)
    codes, found = distinct(values)
    return codes, [id_text(value, column=column) for value in found.tolist()]


def as_objects(ids: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a sequence as an array of its values, whatever they are."""
    if isinstance(ids, str | bytes):
        raise ValueError("ids must be a sequence of ids, not one text")
    if isinstance(ids, np.ndarray) and ids.ndim == 1:
        return ids
    out = np.empty(len(ids), dtype=object)
    out[:] = list(ids)
    return out


def column_name(ids: object, default: str) -> str:
    """Return the name of a column for messages: its own, or the domain's field."""
    name = ids.name if isinstance(ids, pd.Series) else None
    return name if isinstance(name, str) and name else default


def id_text(value: Any, *, column: str = "id") -> str:
    """Return the text that stands for an id: normal form C, no outer blanks, 7.0 as "7".

    Raises ValueError naming the column and the rule, never the value.
    """
    if isinstance(value, str):
        text = value if value.isascii() else unicodedata.normalize("NFC", value)
        text = text.strip()
        if not text:
            raise _refused(column, "an id is empty")
        # Found here, because an encoder's error would carry the id.
        if not text.isascii() and _HALVES.search(text):
            raise _refused(column, "an id is no valid Unicode text")
        return text
    if isinstance(value, float) and value.is_integer():
        if abs(value) >= _INEXACT:
            raise _refused(column, "an id was read as a decimal number and has lost digits (read ids as text)")
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise _refused(column, _NO_ID)
    return str(value)


_NO_ID: Final = "an id is missing or neither text nor a whole number"


def _refused(column: str, rule: str) -> ValueError:
    return ValueError(f"column {column!r}: {rule}; every row needs one")
