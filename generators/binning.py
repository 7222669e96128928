"""Bin edges near the quantiles of private values, paid for: bins that hold about equally many patients.

k          bins wanted;  D = ceil(log2 k)  depth
a / b      share of a block's rows that a split wants on its left

Fixed public edges waste codes where nobody is; edges at exact quantiles would publish patients' values. Here edges come
from a public grid by the exponential mechanism: first the middle one, then the middle of each half, and so on. A grid
point g splits a block of n rows with score -|b #(rows below g) - a n|, an integer. Adding or removing a row changes it
by at most max(a, b - a).

Price. The blocks of one level are told apart by edges that are public by then, so one row lies in one of them: under
add_remove_one with one row a patient, a whole level is one exponential mechanism (parallel composition), and k - 1
edges cost D of them instead of k - 1. In any other case (replace_one; several rows) a patient may lie in several
blocks, and every edge is priced by itself, its sensitivity times m or 2 m.
Source: Kaplan, Schnapp, Stemmer 2022, arXiv:2110.05429 (recursion); Smith 2011, STOC (the score).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.capping import check_records
from generators.errors import BudgetInvalid, DomainMismatch
from generators.oracle import check_rng
from generators.selection import exponential_mechanism
from generators.within_bins import FloatArray, grid_of
from privacy import Event, ExponentialMechanism, Rng, Schema, rho_of
from privacy._checks import check_count
from privacy.neighbours import Neighbours, check_neighbours
from privacy.schema import Column

# A finer grid would only slow the choice down.
_MOST_POINTS = 1 << 15

# Accountants round prices up; so much of the budget is left to them.
_GUARD = 1 - 1e-10


@dataclass(frozen=True, slots=True)
class _Block:
    """An interval of grid points, from first to before last, in which `bins` bins are still to be made."""

    first: int
    last: int
    bins: int


def private_edges(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    bins: Mapping[str, int],
    rho: float,
    grids: Mapping[str, Sequence[float]] | None = None,
    neighbours: Neighbours = "add_remove_one",
    max_records_per_patient: int = 1,
    rng: Rng | None = None,
) -> tuple[Schema, tuple[Event, ...]]:
    """Return the schema with edges near quantiles, and what they cost.

    Parameters
    ----------
    frame
        The private table.
    schema
        The public description.
    bins
        Column with public bounds -> number of bins wanted, >= 2. Where the grid has no room there are fewer.
    rho
        Budget, shared equally by the columns.
    grids
        Column -> public candidates for its edges, ascending, inside its bounds (for a date: units of its resolution
        since 1970-01-01). By default every value of the column's grid if there are at most 32,768, else so many
        equally spaced ones.
    neighbours, max_records_per_patient
        As for `LocalTableOracle`; a table in which a patient has more rows is refused.
    rng
        Source of randomness; the operating system's by default. Anything else protects nobody.

    Returns
    -------
    The schema, and events for any accountant: give them to `fit(..., prior_events=)`.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"age": {"kind": "integer", "bounds": [0, 110]}}})
    >>> frame = pd.DataFrame({"age": np.arange(20_000) % 80})
    >>> binned, events = private_edges(frame, schema, bins={"age": 4}, rho=0.5)
    >>> binned.column("age").edges, len(events)
    ((20.0, 40.0, 60.0), 2)
    """
    check_neighbours(neighbours)
    check_count("max_records_per_patient", max_records_per_patient)
    source = check_rng(rng)
    if not (rho > 0 and math.isfinite(rho)):
        raise BudgetInvalid(f"rho must be a finite number > 0, got {rho!r}")
    if not bins:
        raise DomainMismatch("bins names no column; give bins = {column: number of bins}")
    points = {name: _points(schema.column(name), count, (grids or {}).get(name)) for name, count in bins.items()}
    # Rules and horizons that name bins would refuse nearly any edges: that is said before any row is looked at.
    _with_edges(schema, {name: (float(part[0]),) for name, part in points.items()})
    schema.validate(frame)
    if schema.patient_id is not None:
        check_records(frame, schema.patient_id, max_records_per_patient)
    one_block_each = neighbours == "add_remove_one" and max_records_per_patient == 1
    change = max_records_per_patient * (1 if neighbours == "add_remove_one" else 2)
    edges: dict[str, tuple[float, ...]] = {}
    events: list[Event] = []
    for name, count in bins.items():
        values = schema.column(name).numbers(np.asarray(frame[name].to_numpy()))
        prices = math.ceil(math.log2(count)) if one_block_each else count - 1
        epsilon = math.sqrt(8 * rho * _GUARD / len(bins) / prices)
        event = ExponentialMechanism(epsilon)
        if rho_of(event) * prices * len(bins) > rho:  # pragma: no cover - the guard is larger than the rounding
            raise BudgetInvalid("the edges would cost more than was granted")
        # The price is noted before anything is drawn, at its most: where the grid ends early, less is drawn.
        events.extend([event] * prices)
        edges[name] = _edges(np.sort(values[~np.isnan(values)]), points[name], count, epsilon, change, source)
    return _with_edges(schema, edges), tuple(events)


def _with_edges(schema: Schema, edges: Mapping[str, tuple[float, ...]]) -> Schema:
    columns = [
        replace(column, edges=edges[column.name]) if column.name in edges else column for column in schema.columns
    ]
    return Schema.from_dict(replace(schema, columns=tuple(columns)).to_dict())


def _edges(
    values: FloatArray, points: FloatArray, bins: int, epsilon: float, change: int, rng: Rng
) -> tuple[float, ...]:
    """Return ascending edges among the points, one exponential mechanism at `epsilon` for each block that is split."""
    below = np.searchsorted(values, points, side="left")
    waiting = [_Block(0, len(points), bins)]
    found: list[int] = []
    while waiting:
        block = waiting.pop()
        if block.bins < 2 or block.first >= block.last:
            continue
        left = block.bins // 2
        # Rows of the block: from its left edge, the point before its first one, to its right edge.
        start = int(below[block.first - 1]) if block.first else 0
        end = int(below[block.last]) if block.last < len(points) else len(values)
        inside: npt.NDArray[np.int64] = below[block.first : block.last].astype(np.int64) - start
        scores = (-np.abs(block.bins * inside - left * (end - start))).tolist()
        sensitivity = change * max(left, block.bins - left)
        chosen = block.first + exponential_mechanism(scores, epsilon=epsilon, sensitivity=sensitivity, rng=rng)
        found.append(chosen)
        waiting.append(_Block(block.first, chosen, left))
        waiting.append(_Block(chosen + 1, block.last, block.bins - left))
    return tuple(float(points[i]) for i in sorted(found))


def _points(column: Column, bins: int, given: Sequence[float] | None) -> FloatArray:
    """Return the public candidates: inside the bounds, the lower one left out, each on the column's grid."""
    check_count("bins", bins)
    if not column.is_binned or bins < 2:
        raise DomainMismatch(f"{column.name!r} must be a number or date with public bounds, in at least 2 bins")
    low, high = column.bin_edges[[0, -1]]
    if given is not None:
        points = np.asarray(given, dtype=np.float64)
        if (
            points.ndim != 1
            or not points.size
            or (np.diff(points) <= 0).any()
            or points[0] <= low
            or points[-1] >= high
        ):
            raise DomainMismatch(f"the grid of {column.name!r} must ascend strictly inside its bounds")
        return points
    grid = grid_of(column)
    steps = math.floor(high * grid) - math.floor(low * grid) if grid else _MOST_POINTS
    spaced = np.linspace(low, high, min(steps, _MOST_POINTS) + 1)
    rounded = np.unique(np.rint(spaced * grid)) / grid if grid else spaced
    inside: FloatArray = rounded[(rounded > low) & (rounded < high)]
    if not inside.size:
        raise DomainMismatch(f"the bounds of {column.name!r} leave no room for an edge")
    return inside
