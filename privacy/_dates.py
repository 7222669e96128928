"""Days and times as whole numbers of a public unit since 1970-01-01, and the calendar's bin edges.

A value that is finer than the unit is cut down to it: how exactly a time is kept is public, never read from the rows.
No time zones: a clinical table's times are local, and a mixture would compare what cannot be compared.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Resolution = Literal["day", "hour", "minute", "second"]
Step = Literal["month", "quarter", "year"]

UNITS: Final[dict[str, str]] = {"day": "D", "hour": "h", "minute": "m", "second": "s"}
STEPS: Final[dict[str, int]] = {"month": 1, "quarter": 3, "year": 12}

_ISO: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?")
_LENGTHS: Final = {"day": 10, "hour": 16, "minute": 16, "second": 19}


def to_units(values: npt.NDArray[Any], resolution: Resolution) -> npt.NDArray[np.int64]:
    """Return each day or time, none of them missing, as units since 1970-01-01. Raises ValueError, naming none."""
    unit = UNITS[resolution]
    if values.dtype.kind == "M":
        return values.astype(f"datetime64[{unit}]").astype(np.int64)
    texts = [_iso(value) for value in values.ravel().tolist()]
    try:
        times = np.array(texts, dtype="datetime64[s]")
    except ValueError:
        raise ValueError("a text is no day of the calendar") from None
    return times.astype(f"datetime64[{unit}]").astype(np.int64).reshape(values.shape)


def one_unit(value: Any, resolution: Resolution) -> int:
    """Return one public day or time as units since 1970-01-01. Raises ValueError."""
    return int(to_units(np.array([value], dtype=object), resolution)[0])


def iso_texts(units: npt.NDArray[Any], resolution: Resolution) -> list[str]:
    """Return the ISO text of each number of units, as long as the resolution needs.

    Examples
    --------
    >>> iso_texts(np.array([0, 365]), "day")
    ['1970-01-01', '1971-01-01']
    """
    times = np.asarray(units).astype(np.int64).astype(f"datetime64[{UNITS[resolution]}]").astype("datetime64[s]")
    return [str(text)[: _LENGTHS[resolution]] for text in np.datetime_as_string(times).ravel()]


def calendar_edges(low: int, high: int, step: Step, resolution: Resolution) -> tuple[int, ...]:
    """Return the first units of all months, quarters or years strictly inside [low, high].

    Examples
    --------
    >>> iso_texts(np.array(calendar_edges(0, 400, "quarter", "day")), "day")
    ['1970-04-01', '1970-07-01', '1970-10-01', '1971-01-01']
    """
    unit = f"datetime64[{UNITS[resolution]}]"
    first, last = (int(np.int64(end).astype(unit).astype("datetime64[M]").astype(np.int64)) for end in (low, high))
    length = STEPS[step]
    months = np.arange(-(-first // length) * length, last + 1, length)
    edges = months.astype("datetime64[M]").astype(unit).astype(np.int64)
    return tuple(int(edge) for edge in edges if low < edge <= high)


def _iso(value: Any) -> str:
    if isinstance(value, str):
        text = value.strip()
        # NumPy would read "2001" as the first of January.
        if not _ISO.fullmatch(text):
            raise ValueError("a text is no ISO date")
        return text[:19]
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            raise ValueError("a time has a time zone")
        return value.isoformat()[:19]
    if isinstance(value, dt.date):
        return value.isoformat()
    raise ValueError("a value is no date")
