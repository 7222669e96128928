"""The public domain of a quasi-identifier: its values in the schema's order, and which of them a raw value is.

Categories, whole numbers within the bounds, bins between the public edges, days; a missing value comes last.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from anonymise.errors import HierarchyError
from privacy.errors import SchemaError, SchemaProblem
from privacy.schema import Column

IntArray = npt.NDArray[np.int64]

MAX_LEAVES: Final = 1_000_000
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?$")


def domain_labels(column: Column) -> list[str]:
    """Return the text of each public value, without the missing one. Raises HierarchyError if there is no list."""
    if column.kind == "date":
        return [str(day) for day in _days(column)]
    if column.categories:
        return list(column.categories)
    if column.bounds is None:
        raise hierarchy_error(
            column, "a quasi-identifier needs a public domain", "give categories or bounds in the schema"
        )
    if column.kind == "integer":
        low, high = _whole_bounds(column)
        check_size(column, high - low + 1)
        return [str(value) for value in range(low, high + 1)]
    return list(replace(column, nullable=False).labels())


def domain_codes(column: Column, values: npt.NDArray[Any]) -> IntArray:
    """Return the position of each value in the column's domain; the schema's own rules are applied."""
    if column.kind == "date":
        return _day_codes(column, values)
    codes = column.encode(values)
    if column.kind != "integer" or column.categories:
        return codes
    # Bins are not leaves here: whole numbers are. A missing value got the last bin code.
    missing = codes == column.n_codes - 1 if column.nullable else np.zeros(codes.shape, dtype=bool)
    low, high = _whole_bounds(column)
    out = np.full(codes.shape, high - low + 1, dtype=np.int64)
    out[~missing] = values[~missing].astype(np.float64).astype(np.int64) - low
    return out


def _whole_bounds(column: Column) -> tuple[int, int]:
    low, high = column.bin_edges[[0, -1]].tolist()
    return math.ceil(low), math.floor(high)


def _days(column: Column) -> npt.NDArray[np.datetime64]:
    if column.categories:
        try:
            return np.array(column.categories, dtype="datetime64[D]")
        except ValueError:
            raise hierarchy_error(column, "a date category is not a day", "write days as YYYY-MM-DD") from None
    if column.bounds is None:
        raise hierarchy_error(
            column,
            "a date that is a quasi-identifier needs public bounds",
            'give bounds = ["first day", "last day"] or [first year, last year] in the schema',
        )
    if column.resolution is not None:
        start, end = np.array(column.text(column.bounds), dtype="datetime64[s]").astype("datetime64[D]")
        check_size(column, int((end - start).astype(np.int64)) + 1)
        return np.arange(start, end + 1)
    first, last = (int(year) for year in column.bounds)
    if not 1 <= first <= last <= 9998:
        raise hierarchy_error(column, "the bounds of a date are years", "give bounds = [1980, 2030], for example")
    check_size(column, 366 * (last - first + 1))
    return np.arange(np.datetime64(f"{first:04d}-01-01"), np.datetime64(f"{last + 1:04d}-01-01"))


def _day_codes(column: Column, values: npt.NDArray[Any]) -> IntArray:
    if values.dtype.kind == "M":
        days = values.astype("datetime64[D]")
    else:
        try:
            days = np.array([_one_day(value) for value in values.tolist()], dtype="datetime64[D]")
        except (TypeError, ValueError):
            raise _value_error(column, "must hold days", "write dates as YYYY-MM-DD") from None
    known = _days(column)
    order = np.argsort(known)
    missing = np.isnat(days)
    place = np.minimum(np.searchsorted(known[order], days), known.size - 1)
    codes = order[place].astype(np.int64)
    if (known[codes] != days)[~missing].any():
        raise _value_error(column, "holds a day outside its public domain", "correct it, or widen the schema's bounds")
    if missing.any() and not column.nullable:
        raise _value_error(column, "holds a missing value, but is not nullable", "fill it in, or set nullable = true")
    codes[missing] = known.size
    return codes


def _one_day(value: Any) -> np.datetime64:
    """Return the day of a text, a date or a time; NaT for what is missing. A number is not a day."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return np.datetime64("NaT", "D")
        # NumPy would read "2001" as the first of January.
        if not _DAY.match(text):
            raise ValueError
        return np.datetime64(text[:10], "D")
    if (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float) and math.isnan(value))
    ):
        return np.datetime64("NaT", "D")
    if not isinstance(value, dt.date):
        raise TypeError
    return np.datetime64(dt.date(value.year, value.month, value.day), "D")


def check_size(column: Column, n_leaves: int) -> None:
    """Raise HierarchyError if a domain is too large to be listed."""
    if n_leaves > MAX_LEAVES:
        raise hierarchy_error(
            column,
            f"spans more than {MAX_LEAVES} public values",
            "make it continuous with public edges, or narrow its bounds",
        )


def _value_error(column: Column, rule: str, way_out: str) -> SchemaError:
    return SchemaError([SchemaProblem(column.name, rule, way_out)])


def hierarchy_error(column: Column, rule: str, way_out: str) -> HierarchyError:
    """Return the error that names the column, the rule and the way out."""
    return HierarchyError(column=column.name, rule=rule, way_out=way_out)
