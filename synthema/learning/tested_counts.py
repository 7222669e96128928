"""The counts that decide whether a regression may be opened: tested on shares, opened to nobody.

Those with and those without an event must be at least 3 for each coefficient (p <= 0.33 x events), and every cell of
the table of the event and all categorical covariates holds 0 or at least `min_cell` patients. A count's event is that
it is not 0; a number has none. Of counts, cells of those who have 2 or more are tested too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy import Schema
from smpc import Session, Shared, small_cells
from synthema.learning.covariates import PARAMETER_RATIO, categorical, n_cells
from synthema.learning.families import Family

# Of all exact models of a study together: more cannot be tested on shares.
MOST_COEFFICIENTS = math.floor(1000 * PARAMETER_RATIO)


def count_table(
    family: Family,
    columns: Mapping[str, npt.NDArray[Any]],
    schema: Schema,
    covariates: Sequence[str],
    event: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """Return a site's counts, shape (groups + cells,): patients of each tested group, then the table's cells.

    `columns`: codes of the categorical covariates at least, shape (n,) each.
    """
    groups = [int(np.count_nonzero(event == each)) for each in family.tested] or [len(event)]
    outcome = event.astype(np.int64) if family.tested else np.zeros(len(event), dtype=np.int64)
    cells = cells_of(columns, schema, covariates, outcome, n_outcomes=2 if family.tested else 1)
    return np.concatenate([np.array(groups, dtype=np.int64), cells])


def cells_of(
    columns: Mapping[str, npt.NDArray[Any]],
    schema: Schema,
    covariates: Sequence[str],
    outcome: npt.NDArray[np.int64],
    *,
    n_outcomes: int = 1,
) -> npt.NDArray[np.int64]:
    """Return how many patients each cell of the table of outcome and all categorical covariates holds, flattened."""
    cell, n = outcome, n_outcomes
    for column in categorical(schema, covariates):
        cell, n = cell * len(column.categories) + columns[column.name], n * len(column.categories)
    return np.bincount(cell, minlength=n).astype(np.int64)


def repeated_cells(
    columns: Mapping[str, npt.NDArray[Any]],
    schema: Schema,
    covariates: Sequence[str],
    count: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Return how many patients of each cell of the categorical covariates have a count of 2 or more, flattened.

    The total of a count less the number of those who have any is what these patients have beyond 1: of one patient
    alone it would be that patient's count.
    """
    repeated = count > 1
    here = {name: values[repeated] for name, values in columns.items()}
    return cells_of(here, schema, covariates, np.zeros(np.count_nonzero(repeated), dtype=np.int64))


def table_size(family: Family, schema: Schema, covariates: Sequence[str]) -> int:
    """Return the number of cells of the table that is tested."""
    return n_cells(schema, covariates) // (1 if family.tested else 2)


async def why_not(session: Session, counts: Shared, *, family: Family, n_coefficients: int, min_cell: int) -> str:
    """Return why the model may not be opened, or "" if it may. Opens one yes/no per tested count.

    Parameters
    ----------
    counts
        Shares in FIELD61 of the pooled `count_table`.
    n_coefficients
        Of all exact models of the study.
    """
    n_groups = len(family.tested) or 1
    # +1 makes an outcome that nobody (or everybody) had count as too rare as well.
    least = math.ceil(n_coefficients / PARAMETER_RATIO)
    rare = await small_cells(session, counts[:n_groups] + 1, threshold=least + 1)
    if rare.any():
        whom = {(): "", (True,): " with the outcome", (False, True): " with and without the outcome"}[family.tested]
        return f"{n_coefficients} coefficients need at least {least} patients{whom}: leave covariates out"
    if (await small_cells(session, counts[n_groups:], threshold=min_cell)).any():
        of = "outcome and categories" if family.tested else "categories"
        counts_too = ", or take as outcome whether a count is above 0" if family.tested == (True,) else ""
        return f"a cell of {of} holds 1 to {min_cell - 1} patients: merge rare categories{counts_too}"
    return ""
