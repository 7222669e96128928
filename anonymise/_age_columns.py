"""Ages that are counted at another column's day: a row's two dates become one number before anything is encoded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise._domains import Days, is_age, read_days, reference_day, whole_years
from anonymise.encoded import distinct
from privacy.errors import SchemaError, SchemaProblem
from privacy.schema import Column, Schema


def with_ages(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Return the table with the ages, NaN where missing, in place of quasi-identifiers that are ages at another column.

    Ages at a fixed day are read by the hierarchy itself. Raises SchemaError if a column holds no days, or the reference
    is not in the table.
    """
    ages = {
        column.name: _ages(frame, column, schema)
        for column in schema.columns
        if column.role == "quasi-identifier" and is_age(column) and reference_day(column) is None
    }
    return frame.assign(**ages) if ages else frame


def _ages(frame: pd.DataFrame, column: Column, schema: Schema) -> npt.NDArray[np.float64]:
    at = "" if column.hierarchy is None else column.hierarchy.at
    if at not in frame.columns:
        raise SchemaError(
            [
                SchemaProblem(
                    column.name, f"its ages are counted at {at!r}, which is not in the table", "add that column"
                )
            ]
        )
    born, reference = (_days(frame, part) for part in (column, schema.column(at)))
    return whole_years(born, reference)


def _days(frame: pd.DataFrame, column: Column) -> Days:
    codes, found = distinct(frame[column.name])
    return read_days(column, found)[codes]
