"""The outcome of a regression: its public range from the schema, and its values at a site."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from synthema.learning.design import Column, Floats, design_of, encoded, matrix

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from synthema.learning.regression import RegressionSpec


@dataclass(frozen=True, slots=True)
class Response:
    """What is public of an outcome.

    low, high         its least and greatest value: 0 and 1 for an event; a number column's bounds
    centre, scale     a number y is modelled as (y - centre) / scale, in [-1, 1]; 0 and 1 for events and counts
    least_exposure    of a Poisson model's exposure, relative to the greatest; 1 without one
    longest_exposure  the greatest exposure, in the column's unit; the model's offset is log(exposure / longest)
    """

    low: float = 0.0
    high: float = 1.0
    centre: float = 0.0
    scale: float = 1.0
    least_exposure: float = 1.0
    longest_exposure: float = 1.0

    @property
    def least_offset(self) -> float:
        """The least offset that a patient may have; the greatest is 0."""
        return math.log(self.least_exposure)


@dataclass(frozen=True, slots=True, eq=False)
class Patients:
    """A site's rows as a regression sees them; patients whose outcome is not known are left out.

    x       scaled design matrix, shape (n, p), entries in [-1, 1], columns contiguous
    y       outcome on the model's scale, shape (n,)
    offset  added to the linear predictor, shape (n,), at most 0; None if there is none
    """

    x: Floats
    y: Floats
    offset: Floats | None


def response_of(spec: RegressionSpec, schema: Schema) -> Response:
    """Return the public range of the model's outcome."""
    if spec.outcome is None or schema.column(spec.outcome).categories:
        out = Response()
    else:
        low, high = (float(edge) for edge in schema.column(spec.outcome).bin_edges[[0, -1]])
        if spec.kind == "linear":
            out = Response(low=low, high=high, centre=(low + high) / 2, scale=(high - low) / 2)
        else:
            out = Response(low=low, high=high)
    exposure = getattr(spec, "exposure", None)
    if exposure is None:
        return out
    shortest, longest = (float(edge) for edge in schema.column(exposure).bin_edges[[0, -1]])
    return Response(low=out.low, high=out.high, least_exposure=shortest / longest, longest_exposure=longest)


def patients_of(spec: RegressionSpec, schema: Schema, rows: pd.DataFrame) -> Patients:
    """Return a site's rows as the model sees them. `rows`: valid for the schema."""
    known, y = outcome_of(spec, schema, rows)
    return patients_from(spec, schema, rows, known=known, y=y, columns=encoded(schema, rows, spec.covariates))


def patients_from(
    spec: RegressionSpec,
    schema: Schema,
    rows: pd.DataFrame,
    *,
    known: npt.NDArray[np.bool_],
    y: Floats,
    columns: Mapping[str, Column],
) -> Patients:
    """Return the same from what `outcome_of` and `encoded` read."""
    response, exposure, offset = response_of(spec, schema), getattr(spec, "exposure", None), None
    here = columns if known.all() else {name: values[known] for name, values in columns.items()}
    if exposure is not None:
        times = schema.column(exposure).numbers(rows[exposure].to_numpy())[known]
        offset = np.log(times / response.longest_exposure)
    return Patients(
        x=matrix(here, schema, design_of(schema, spec.covariates)),
        y=(y[known] - response.centre) / response.scale,
        offset=offset,
    )


def outcome_of(spec: RegressionSpec, schema: Schema, rows: pd.DataFrame) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Return (known, y), shape (all rows,) each: whose outcome is known, and the outcome in its own unit."""
    from synthema.learning.rows import survival_of

    horizon_days = getattr(spec, "horizon_days", None)
    if horizon_days is not None:
        known, died = outcome_within(*survival_of(schema, rows), horizon_days)
        return known, died.astype(np.float64)
    if spec.outcome is None:
        raise ValueError("the model has no outcome")
    column, [values] = schema.column(spec.outcome), encoded(schema, rows, [spec.outcome]).values()
    everybody = np.ones(len(rows), dtype=np.bool_)
    if column.categories:
        event = getattr(spec, "event_category", None)
        return everybody, (values == column.categories.index(str(event))).astype(np.float64)
    return everybody, values.astype(np.float64)


def outcome_within(
    time: npt.NDArray[np.float64 | np.int64], event: npt.NDArray[np.bool_], horizon_days: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return (known, died): whose state at the horizon is known, and who had died by then.

    Examples
    --------
    >>> known, died = outcome_within(np.array([10.0, 10, 365, 400]), np.array([True, False, False, True]), 365)
    >>> known.tolist(), died.tolist()
    ([True, False, True, True], [True, False, False, False])
    """
    died = event & (time <= horizon_days)
    return died | (time >= horizon_days), died
