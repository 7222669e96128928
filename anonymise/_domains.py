"""The public domain of a quasi-identifier: its values in the schema's order, and which of them a raw value is.

Categories, whole numbers within the bounds, bins between the public edges, days, ages in whole years, sets of at most
so many categories; a missing value comes last.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import re
from dataclasses import replace
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from anonymise.errors import HierarchyError
from privacy._values import is_missing
from privacy.errors import SchemaError, SchemaProblem
from privacy.schema import Column

IntArray = npt.NDArray[np.int64]
Days = npt.NDArray[np.datetime64]

MAX_LEAVES: Final = 1_000_000
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?$")


def domain_labels(column: Column) -> list[str]:
    """Return the text of each public value, without the missing one. Raises HierarchyError if there is no list."""
    if column.kind == "set":
        return [column.separator.join(column.categories[code] for code in chosen) for chosen in all_sets(column)]
    if is_age(column):
        return [str(age) for age in range(oldest(column) + 1)]
    if column.kind == "date":
        return [str(day) for day in _days(column)]
    if column.categories:
        return list(column.categories)
    if column.bounds is None:
        way_out = (
            "make it an identifier (it is dropped), or list its categories"
            if column.kind == "text"
            else "give categories or bounds in the schema"
        )
        raise hierarchy_error(column, "a quasi-identifier needs a public domain", way_out)
    if column.kind == "integer":
        low, high = _whole_bounds(column)
        check_size(column, high - low + 1)
        return [str(value) for value in range(low, high + 1)]
    return list(replace(column, nullable=False).labels())


def domain_codes(column: Column, values: npt.NDArray[Any]) -> IntArray:
    """Return the position of each value in the column's domain; the schema's own rules are applied.

    A column of ages takes days of birth where its reference is a day, and else the ages themselves.
    """
    if column.kind == "set":
        return _set_codes(column, values)
    if is_age(column):
        return _age_codes(column, values)
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


# ---------------------------------------------------------------- days


def _days(column: Column) -> Days:
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


def read_days(column: Column, values: npt.NDArray[Any]) -> Days:
    """Return the day of each value, NaT where missing. Raises SchemaError for what is no day, without naming it."""
    if values.dtype.kind == "M":
        return values.astype("datetime64[D]")
    with contextlib.suppress(TypeError, ValueError):
        return np.array([_one_day(value) for value in values.tolist()], dtype="datetime64[D]")
    # Outside of the handler, so that no context repeats the value.
    raise _value_error(column, "must hold days", "write dates as YYYY-MM-DD")


def _day_codes(column: Column, values: npt.NDArray[Any]) -> IntArray:
    days = read_days(column, values)
    known = _days(column)
    order = np.argsort(known)
    missing = np.isnat(days)
    place = np.minimum(np.searchsorted(known[order], days), known.size - 1)
    codes = order[place].astype(np.int64)
    if (known[codes] != days)[~missing].any():
        raise _value_error(column, "holds a day outside its public domain", "correct it, or widen the schema's bounds")
    _check_missing(column, missing)
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


# ---------------------------------------------------------------- ages


def is_age(column: Column) -> bool:
    """Whether a date column is released as an age."""
    return column.hierarchy is not None and column.hierarchy.kind == "age"


def oldest(column: Column) -> int:
    """Return the highest public age of a column of ages."""
    if column.kind != "date" or column.hierarchy is None:
        raise hierarchy_error(column, "an age is counted from a column of kind date", "set kind = 'date'")
    return column.hierarchy.oldest


def reference_day(column: Column) -> np.datetime64 | None:
    """Return the day at which a column's ages are counted; None where another column tells it."""
    at = "" if column.hierarchy is None else column.hierarchy.at
    try:
        return _one_day(at) if _DAY.match(at) else None
    except ValueError:
        raise hierarchy_error(column, "the reference of its ages is no day", "write YYYY-MM-DD") from None


def whole_years(born: Days, at: Days) -> npt.NDArray[np.float64]:
    """Return the age in whole years, NaN where a day is missing; who was born on 29 February is older on 1 March.

    Examples
    --------
    >>> whole_years(np.array(["2000-02-29"], "M8[D]"), np.array(["2018-02-28"], "M8[D]")).tolist()
    [17.0]
    """
    born, at = np.broadcast_arrays(born, at)
    month_of = [days.astype("datetime64[M]") for days in (born, at)]
    months = (month_of[1] - month_of[0]).astype(np.float64)
    day_of_month = [(days - month).astype(np.float64) for days, month in zip((born, at), month_of, strict=True)]
    years = np.floor((months - (day_of_month[1] < day_of_month[0])) / 12)
    return np.where(np.isnat(born) | np.isnat(at), np.nan, years)


def _age_codes(column: Column, values: npt.NDArray[Any]) -> IntArray:
    day = reference_day(column)
    if day is not None:
        ages = whole_years(read_days(column, values), np.array(day))
    elif values.dtype.kind in "fiu":
        ages = values.astype(np.float64)
    else:
        rule = "its ages are counted at another column, so they must be counted before"
        raise hierarchy_error(column, rule, "give the whole table, or a day as reference")
    missing = np.isnan(ages)
    _check_missing(column, missing)
    highest = oldest(column)
    if (((ages < 0) | (ages > highest)) & ~missing).any():
        raise _value_error(
            column,
            f"gives an age below 0 or above {highest}",
            "correct the dates, or widen oldest in the schema (a public decision)",
        )
    codes = np.full(ages.shape, highest + 1, dtype=np.int64)
    codes[~missing] = ages[~missing].astype(np.int64)
    return codes


# ---------------------------------------------------------------- sets


def all_sets(column: Column) -> list[tuple[int, ...]]:
    """Return every set of one to max_members categories, small ones first, then in lexicographic order."""
    n = len(column.categories)
    sizes = range(1, min(column.max_members, n) + 1)
    n_sets = sum(math.comb(n, size) for size in sizes)
    if n_sets > MAX_LEAVES:
        raise hierarchy_error(
            column,
            f"has {n_sets} public sets, at most {MAX_LEAVES} can be listed",
            "lower max_members, or list coarser categories",
        )
    return [chosen for size in sizes for chosen in combinations(range(n), size)]


def _set_codes(column: Column, values: npt.NDArray[Any]) -> IntArray:
    missing = is_missing(values)
    _check_missing(column, missing)
    cells, problems = column.members(values[~missing])
    if problems:
        raise SchemaError(problems)
    n = len(column.categories)
    most = min(column.max_members, n)
    before = np.cumsum([0, *(math.comb(n, size) for size in range(1, most + 1))])
    codes = np.full(values.shape, int(before[-1]), dtype=np.int64)
    # The place of a set among those of its size, all in lexicographic order (combinatorial number system).
    codes[~missing] = [
        int(before[len(cell)]) - 1 - sum(math.comb(n - 1 - code, len(cell) - at) for at, code in enumerate(cell))
        for cell in cells
    ]
    return codes


# ---------------------------------------------------------------- shared


def _check_missing(column: Column, missing: npt.NDArray[np.bool_]) -> None:
    if missing.any() and not column.nullable:
        raise _value_error(column, "holds a missing value, but is not nullable", "fill it in, or set nullable = true")


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


def hierarchy_errors(column: Column, problems: list[tuple[str, str]]) -> HierarchyError:
    """Return one error for several broken rules of a column, each with its way out; at least one."""
    first, *more = [SchemaProblem(column.name, rule, way_out) for rule, way_out in problems]
    return HierarchyError(column=first.column, rule=first.rule, way_out=first.way_out, more=tuple(more))


def named(labels: list[str], most: int = 12) -> str:
    """Write public labels as a list that is not endless."""
    return ", ".join(repr(label) for label in labels[:most]) + (", ..." if len(labels) > most else "")
