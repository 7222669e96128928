"""Reading the values of a column from arrays of any type, as text or as missing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

# From here on not every whole number is a double, so a double may stand for another one.
_INEXACT = 1 << 53

# Equal values of one of these types read as the same text.
_PLAIN = (str, int, float, bool)


def is_missing(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which entries are missing: None, NaN, NaT, pandas' NA, or an empty text; shape of `values`."""
    kind = values.dtype.kind
    if kind == "f":
        return np.asarray(np.isnan(values))
    if kind in "biu":
        return np.zeros(values.shape, dtype=bool)
    if kind in "mM":
        return np.asarray(np.isnat(values))
    listed = values.ravel().tolist()
    distinct = _distinct(listed)
    if distinct is None:
        return np.array([_one_missing(value) for value in listed], dtype=bool).reshape(values.shape)
    missing = {value for value in distinct if _one_missing(value)}
    if not missing:
        return np.zeros(values.shape, dtype=bool)
    return np.fromiter((value in missing for value in listed), dtype=bool, count=len(listed)).reshape(values.shape)


def _one_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return not value.strip()
    # NaN differs from itself; pandas' NA compares to neither, so it is told by its type's name above.
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def text_of(values: npt.NDArray[Any]) -> list[str]:
    """Return each value as its category's text: 1, 1.0 and True read as "1", text without outer blanks.

    A value's text depends on that value alone: never on its neighbours in the column, which may be equal and of another
    type. A double of 2^53 or more reads as no whole number: long codes must not become others by way of doubles.
    """
    listed = values.ravel().tolist()
    kinds = set(map(type, listed))
    if len(kinds) != 1 or not kinds <= set(_PLAIN):
        return [_one_text(value) for value in listed]
    texts = {value: _one_text(value) for value in set(listed)}
    return [texts[value] for value in listed]


def _distinct(values: list[Any]) -> set[Any] | None:
    """Return the values without repetition, or None if one cannot be hashed.

    Columns repeat a few values over many rows, so each is looked at once. 1, 1.0 and True count as one; each NaN counts
    by itself.
    """
    try:
        return set(values)
    except TypeError:
        return None


def _one_text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer() and abs(float(value)) < _INEXACT:
        return str(int(value))
    if isinstance(value, Decimal) and value.is_finite():
        # 1.50 and 1.5 are equal, whatever digits a database keeps.
        whole = value.to_integral_value()
        return str(int(whole)) if whole == value else f"{value:f}".rstrip("0")
    return str(value).strip()
