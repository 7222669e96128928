"""Free text is refused: sensitive and insensitive columns are released as they are, and a note names its patient.

A column that would be released is refused unless the schema allows it (`allow_text = true`) if it is

    of kind text;
    categorical or ordinal without a list of categories;
    categorical or ordinal, and reads like text: at least 20 values are there, more than half of the rows have a value
    of their own (distinct values > rows / 2), and the median length of the distinct values is above 20 characters.

A date without public bounds is refused, whatever is allowed, if it holds anything but days and times.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from anonymise._domains import read_days
from anonymise.encoded import distinct
from privacy._values import is_missing, text_of
from privacy.errors import SchemaError, SchemaProblem
from privacy.schema import Column, Schema

_FEWEST: Final = 20
_LONG: Final = 20
_WAY_OUT: Final = "make it an identifier (it is dropped), or set allow_text = true after reading every value"


def free_text_problems(frame: pd.DataFrame, schema: Schema) -> list[SchemaProblem]:
    """Return which columns would release free text."""
    out = []
    for column in schema.columns:
        if column.role in ("sensitive", "insensitive"):
            rule = _rule(frame[column.name], column)
            if rule:
                out.append(SchemaProblem(column.name, rule, _WAY_OUT))
    return out


def _rule(values: pd.Series, column: Column) -> str:
    if column.kind == "date" and not column.is_coded:
        try:
            read_days(column, distinct(values)[1])
        except SchemaError:
            return "is a date, but holds other text"
    if column.allow_text:
        return ""
    if column.kind == "text":
        return "is free text and would be released"
    if column.kind in ("categorical", "ordinal"):
        if not column.categories:
            return "has no list of categories, so it may be free text, and would be released"
        # Of short or few categories nothing needs to be counted.
        if 2 * len(column.categories) > _FEWEST and max(map(len, column.categories)) > _LONG and _is_varied(values):
            return "reads like free text (long values, most of them different) and would be released"
    return ""


def _is_varied(values: pd.Series) -> bool:
    codes, found = distinct(values)
    present = ~is_missing(found)
    n_rows = int(present[codes].sum())
    n_distinct = int(present.sum())
    if n_rows < _FEWEST or 2 * n_distinct <= n_rows:
        return False
    return float(np.median([len(text) for text in text_of(found[present])])) > _LONG
