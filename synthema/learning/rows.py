"""What models read of a site's rows, the same way everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from synthema.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from privacy.schema import Survival


def survival_of(schema: Schema, rows: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return days under observation and whether each patient died, shape (n,) each.

    Days are counted up to the end of the day, so a fraction of a day belongs to the day it falls in; follow-up ends at
    the schema's horizon, as in `causes_of_rows`. Raises StudyError if the schema has no [survival] section.
    """
    time, cause = causes_of_rows(schema, rows, ("1",))
    return time, cause > 0


def causes_of_rows(
    schema: Schema, rows: pd.DataFrame, causes: Iterable[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return days under observation and what each patient died of: 0 for nothing, or the place of the cause from 1 on.

    Follow-up ends at the schema's horizon, as everywhere: what comes on that day or later did not happen.
    """
    survival = _survival(schema)
    time = _days(rows, survival)
    column = schema.column(survival.event)
    place = np.zeros(len(column.categories), dtype=np.int64)
    for i, category in enumerate(causes, start=1):
        place[column.categories.index(category)] = i
    cause = place[column.encode(rows[survival.event].to_numpy())]
    if survival.horizon is not None:
        end = int(np.ceil(survival.horizon))
        cause = np.where(rows[survival.time].to_numpy(dtype=np.float64) >= survival.horizon, 0, cause)
        time = np.minimum(time, end)
    return time, cause


def _survival(schema: Schema) -> Survival:
    if schema.survival is None:
        raise StudyError("the schema has no [survival] section")
    return schema.survival


def _days(rows: pd.DataFrame, survival: Survival) -> npt.NDArray[np.int64]:
    days: npt.NDArray[np.int64] = np.ceil(rows[survival.time].to_numpy(dtype=np.float64)).astype(np.int64)
    return days
