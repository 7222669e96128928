"""What models read of a site's rows, the same way everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from synthema.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema


def survival_of(schema: Schema, rows: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return days under observation and whether each patient died, shape (n,) each.

    Days are counted up to the end of the day, so a fraction of a day belongs to the day it falls in. Raises StudyError
    if the schema has no [survival] section.
    """
    survival = schema.survival
    if survival is None:
        raise StudyError("the schema has no [survival] section")
    time = np.ceil(rows[survival.time].to_numpy(dtype=np.float64)).astype(np.int64)
    column = schema.column(survival.event)
    event = column.encode(rows[survival.event].to_numpy()) == column.categories.index("1")
    return time, event
