"""Dates of a patient moved together: one secret shift a patient, so that every interval stays what it was.

D        largest shift in days, public
shifts   -D .. D without 0 (or the multiples of 7 among them, which keep the day of the week)
shift    number in that list: HMAC-SHA-256(sub-key, patient's id) modulo its length. Uniform: the 256-bit number is
         larger than the list by a factor above 2^230, so no shift is likelier than another by more than that.

The shift belongs to the patient, never to a row, a table or a column: tables of one domain and one D stay comparable.

What it does not hide. Intervals are kept exactly: whoever knows two intervals of a patient may recognise them, so
shifted dates are quasi-identifiers still. Whoever knows one true date of a patient knows the shift and so all dates.
The season shows through as far as D is short of a year, the weekday always with multiples of 7. Days on which many have
a date (a closed clinic, the first day of a study) can be recognised in the crowd and give D away.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise._checks import is_whole
from anonymise._ids import Ids, column_name, distinct_ids
from anonymise.classes import IntArray
from anonymise.encoded import distinct
from anonymise.errors import NotAnonymisable
from anonymise.keys import Domain, Keys, as_domain, current_key, hidden
from anonymise.pseudonyms import macs
from privacy.errors import SchemaError, SchemaProblem

Outside = Literal["refuse", "missing"]

MOST_DAYS: Final = 36_525
# What a date type can hold; the years before 1678 and after 2261 are no clinical dates.
_CALENDAR: Final = ("1678-01-01", "2261-12-31")
_ISO: Final = re.compile(r"(\d{4}-\d{2}-\d{2})((?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?)")
_DAY: Final = "datetime64[D]"


def possible_shifts(max_days: int, *, keep_weekdays: bool = False) -> IntArray:
    """Return all shifts that a patient may get, in days, ascending; 0 is not among them.

    Examples
    --------
    >>> possible_shifts(2).tolist(), possible_shifts(20, keep_weekdays=True).tolist()
    ([-2, -1, 1, 2], [-14, -7, 7, 14])
    """
    step = 7 if keep_weekdays else 1
    if not is_whole(max_days, least=step, most=MOST_DAYS):
        raise ValueError(f"max_days must be a whole number from {step} to {MOST_DAYS}, got {max_days!r}")
    up = np.arange(step, int(max_days) + 1, step, dtype=np.int64)
    return np.concatenate([-up[::-1], up])


def patient_shifts(patients: Ids, key: Keys, *, domain: Domain, max_days: int, keep_weekdays: bool = False) -> IntArray:
    """Return the shift of each row's patient in days, shape (n,): the same wherever the patient appears.

    It depends on the key, the domain, the patient's id (read as by `pseudonymise`), D and whether weekdays are kept;
    with a key ring, on its current key, so a rotation moves the dates anew.

    Examples
    --------
    >>> from anonymise import PseudonymKey
    >>> key = PseudonymKey(bytes(range(32)))
    >>> shifts = patient_shifts(["A", "B", "A"], key, domain=("aml-2026", "patient"), max_days=30)
    >>> bool(shifts[0] == shifts[2]), bool((abs(shifts) <= 30).all()), bool((shifts != 0).all())
    (True, True, True)
    """
    shifts = possible_shifts(max_days, keep_weekdays=keep_weekdays)
    key = hidden(key)
    where = as_domain(domain)
    codes, texts = distinct_ids(patients, column_name(patients, where.field))
    secret, version = current_key(key)
    # Another D has another sub-key: two releases with different D do not share their shifts' remainders.
    purpose = f"date shift of {max_days} days" + (" in weeks" if keep_weekdays else "")
    found = macs(texts, secret.subkey(purpose, where, version=version))
    return shifts[np.array([int.from_bytes(mac, "big") % shifts.size for mac in found], dtype=np.int64)[codes]]


def shift_dates(
    frame: pd.DataFrame,
    key: Keys,
    *,
    patient: str,
    dates: Sequence[str],
    domain: Domain,
    max_days: int,
    keep_weekdays: bool = False,
    bounds: tuple[str, str] | None = None,
    outside: Outside = "refuse",
) -> pd.DataFrame:
    """Return the table with the patient's dates moved by the patient's shift; all else as it was.

    Dates come as `datetime64` without a time zone, as ISO texts or as `date`, and leave as they came: times of day,
    missing values and types stay. Whole days are added to local times, so no clock change is ever crossed.

    Parameters
    ----------
    patient, dates
        The column of ids, and the columns of dates. A date of birth is one of them, or age would change.
    bounds
        First and last day that may be released; None: no limit. Those of the schema, widened by D at both ends
        (`shifted_bounds`), are enough for every date, so nothing is lost; narrower ones need `outside`.
    outside
        What becomes of a date that its shift moves out of the bounds. "refuse": NotAnonymisable, nothing is moved.
        "missing": it becomes missing, and the patient's other dates and all intervals between them stay. No date is
        moved to a bound, because that would change intervals, and no patient gets another shift for it, because then
        tables would differ and the shift would tell of the dates. What is missing at a bound tells that the date lay
        within D days of it.

    Raises
    ------
    ValueError
        An id is missing, or an argument is wrong.
    SchemaError
        A column is missing from the table or holds something else than dates; the value is not named.

    Examples
    --------
    >>> from anonymise import PseudonymKey
    >>> visits = pd.DataFrame({"mrn": [7, 7], "visit": ["2024-02-27", "2024-03-05T08:30"]})
    >>> moved = shift_dates(visits, PseudonymKey.generate(), patient="mrn", dates=["visit"],
    ...                     domain=("aml-2026", "patient"), max_days=180)
    >>> days = pd.to_datetime(moved["visit"].str[:10])
    >>> int((days[1] - days[0]).days), moved["visit"][1][10:]
    (7, 'T08:30')
    """
    if isinstance(dates, str) or not dates or len(set(dates)) < len(dates):
        raise ValueError("dates must list at least one column, each once")
    if outside not in ("refuse", "missing"):
        raise ValueError(f'outside must be "refuse" or "missing", got {outside!r}')
    limits = _limits(_CALENDAR if bounds is None else bounds)
    names = [str(name) for name in frame.columns]
    problems = [
        SchemaProblem(name, "must appear exactly once in the table", "check the names")
        for name in (patient, *dates)
        if names.count(name) != 1
    ]
    if problems:
        raise SchemaError(problems)
    shifts = patient_shifts(
        _series(frame, names.index(patient)), key, domain=domain, max_days=max_days, keep_weekdays=keep_weekdays
    )
    out = frame.copy()
    for name in dates:
        moved, lost = _moved(_series(frame, names.index(name)), shifts, limits, name)
        if lost and outside == "refuse":
            raise NotAnonymisable(
                rule=f"column {name!r}: a date would be moved out of the bounds",
                way_out='widen them by max_days at both ends, or choose outside="missing"',
            )
        out[frame.columns[names.index(name)]] = moved
    return out


def shifted_bounds(bounds: tuple[str, str], *, max_days: int) -> tuple[str, str]:
    """Return the public bounds of a column of dates after the shift: wider by D at both ends.

    Examples
    --------
    >>> shifted_bounds(("2020-01-01", "2024-12-31"), max_days=30)
    ('2019-12-02', '2025-01-30')
    """
    possible_shifts(max_days)
    first, last = _limits(bounds)
    return str(first - int(max_days)), str(last + int(max_days))


def days_of(values: pd.Series, name: str) -> npt.NDArray[np.datetime64]:
    """Return the day of each date, time or ISO text of a column, NaT where missing. Raises SchemaError."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        raise _zoned(name)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "M":
        return values.to_numpy().astype(_DAY)
    codes, found = distinct(values)
    return np.array([_day_of(value, name) for value in found.tolist()], dtype=_DAY)[codes]


def _limits(bounds: tuple[str, str]) -> tuple[np.datetime64, np.datetime64]:
    try:
        first, last = (np.datetime64(dt.date.fromisoformat(bound), "D") for bound in bounds)
    except (TypeError, ValueError):
        raise ValueError('bounds must be two days, such as ("2010-01-01", "2025-12-31")') from None
    if first > last:
        raise ValueError("bounds must be a first and a last day, in this order")
    return first, last


def _series(frame: pd.DataFrame, at: int) -> pd.Series:
    return frame.iloc[:, at]


def _moved(
    values: pd.Series, shifts: IntArray, limits: tuple[np.datetime64, np.datetime64], name: str
) -> tuple[pd.Series, bool]:
    """Return the moved values, of the type they came as, and whether any was lost to the limits."""
    by = shifts.astype("timedelta64[D]")
    # In days first: a sum that its type cannot hold would wrap around.
    days = days_of(values, name) + by
    lost = _beyond(days, limits)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "M":
        moved = values.to_numpy() + np.where(lost, np.timedelta64("NaT", "D"), by)
        return pd.Series(moved.astype(values.dtype), index=values.index), bool(lost.any())
    codes, found = distinct(values)
    out = _written(days, codes, found.tolist())
    # As it was missing: None stays None, and NaN stays NaN.
    absent = values.isna().to_numpy()
    out[absent] = values.to_numpy(dtype=object)[absent]
    out[lost] = None
    dtype = object if isinstance(values.dtype, pd.CategoricalDtype) else values.dtype
    return pd.Series(out, index=values.index, dtype=dtype), bool(lost.any())


def _beyond(days: npt.NDArray[np.datetime64], limits: tuple[np.datetime64, np.datetime64]) -> npt.NDArray[np.bool_]:
    return np.asarray((days < limits[0]) | (days > limits[1]))


def _day_of(value: Any, name: str) -> np.datetime64:
    """Return the day of a text, a date or a time; NaT for what is missing."""
    if isinstance(value, str):
        if not value.strip():
            return np.datetime64("NaT", "D")
        found = _ISO.fullmatch(value.strip())
        with contextlib.suppress(ValueError):
            return np.datetime64(dt.date.fromisoformat(found[1] if found else ""), "D")
        # Outside of the handler, so that no context repeats the text.
        raise _no_dates(name, "holds a text that is no day of the calendar", "write dates as YYYY-MM-DD")
    if pd.isna(value):
        return np.datetime64("NaT", "D")
    if not isinstance(value, dt.date):
        raise _no_dates(name, "holds a value that is no date", "write dates as YYYY-MM-DD")
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        raise _zoned(name)
    return np.datetime64(dt.date(value.year, value.month, value.day), "D")


def _written(days: npt.NDArray[np.datetime64], codes: IntArray, found: list[Any]) -> npt.NDArray[np.object_]:
    """Return the moved days as their values came: with the time of day, as a date, or missing as it was missing."""
    moved, at = np.unique(days, return_inverse=True)
    texts = np.datetime_as_string(moved).astype(object)
    if all(isinstance(value, str) and len(value) == 10 for value in found):
        return np.asarray(texts[at])
    out = np.empty(days.size, dtype=object)
    out[:] = [
        _one_written(found[code], text, day)
        for code, text, day in zip(codes.tolist(), texts[at], moved.astype(object)[at], strict=True)
    ]
    return out


def _one_written(value: Any, text: str, day: dt.date | None) -> Any:
    if day is None:
        return value
    if isinstance(value, str):
        return text + value.strip()[10:]
    return value + (day - value.date()) if isinstance(value, dt.datetime) else day


def _no_dates(name: str, rule: str, way_out: str) -> SchemaError:
    return SchemaError([SchemaProblem(name, rule, way_out)])


def _zoned(name: str) -> SchemaError:
    return _no_dates(name, "holds times with a time zone", "convert them to local times without one")
