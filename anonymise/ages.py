"""Patients older than 89: their ages become one class, and their dates of birth go.

HIPAA's Safe Harbor (45 CFR 164.514(b)(2)(i)(C)) lets no age over 89 stand, nor any date that tells of one, unless all
are one class "90 or older". A shift of dates keeps the age at every visit, so it does not help here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from anonymise._checks import is_whole
from anonymise._domains import whole_years
from anonymise.date_shift import days_of
from anonymise.encoded import distinct
from privacy.errors import SchemaError, SchemaProblem

HIGHEST_AGE: Final = 89


def cap_ages(ages: pd.Series, *, highest: int = HIGHEST_AGE) -> pd.Series:
    """Return ages with every one above `highest` as highest + 1, "or older"; missing ones stay.

    Examples
    --------
    >>> cap_ages(pd.Series([17, 89, 90, 103])).tolist()
    [17, 89, 90, 90]
    """
    _check_highest(highest)
    if not pd.api.types.is_numeric_dtype(ages.dtype) or pd.api.types.is_bool_dtype(ages.dtype):
        raise SchemaError([SchemaProblem(str(ages.name), "must hold ages in years, as numbers", "compute them first")])
    # Ages in parts of years: 89.9 is an age of 89.
    return ages.where(~(ages >= highest + 1), highest + 1)


def hide_births_of_oldest(
    frame: pd.DataFrame, *, patient: str, birth: str, dates: Sequence[str], highest: int = HIGHEST_AGE
) -> pd.DataFrame:
    """Return the table without the dates of birth of patients who are older than `highest` at any of their dates.

    The date of birth becomes missing in all rows of such a patient: one class, "90 or older" where `highest` is 89.
    Ages are completed years, so call it on the true dates, before they are shifted. List *all* dates of the table, and
    do it for each table that holds a date of birth. Raises SchemaError for columns that are missing or hold no dates.

    Examples
    --------
    >>> visits = pd.DataFrame({"mrn": [1, 1, 2], "birth": ["1930-05-01", "1930-05-01", "1980-01-01"],
    ...                        "visit": ["2019-04-30", "2020-05-01", "2020-05-01"]})
    >>> hide_births_of_oldest(visits, patient="mrn", birth="birth", dates=["visit"])["birth"].isna().tolist()
    [True, True, False]
    """
    _check_highest(highest)
    if isinstance(dates, str) or not dates:
        raise ValueError("dates must list at least one column")
    for name in (patient, birth, *dates):
        if [str(column) for column in frame.columns].count(name) != 1:
            raise SchemaError([SchemaProblem(name, "must appear exactly once in the table", "check the names")])
    born = days_of(frame[birth], birth)
    too_old = np.zeros(len(frame), dtype=np.bool_)
    codes, found = distinct(frame[patient])
    # Births of one patient that differ between rows: the earliest counts.
    earliest = pd.Series(born).groupby(codes).transform("min").to_numpy().astype("datetime64[D]")
    for name in dates:
        too_old |= whole_years(earliest, days_of(frame[name], name)) > highest
    hidden = np.zeros(found.size, dtype=np.bool_)
    hidden[codes[too_old]] = True
    return frame.assign(**{birth: frame[birth].mask(hidden[codes])})


def _check_highest(highest: int) -> None:
    if not is_whole(highest, least=1, most=150):
        raise ValueError(f"highest must be a whole number of years from 1 to 150, got {highest!r}")
