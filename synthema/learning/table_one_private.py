"""Table one, differentially private: one noisy sum over patients, and what can be said from it.

A patient adds, in the part of the patient's group: 1 to a cell for each column with categories; for each number, 1 to
a bin of 16 or to the missing, z and z^2, with z the value scaled by public bounds to [-1, 1]. All in units of 1 / K,
rounded to whole ones, so that nobody's part is longer than the root of K^2 (categorical columns + 3 numbers).

The totals of all columns of a group count the same patients: they are joined, and each column's cells are moved
to the common total. All of it is computed from what was opened; intervals reckon with the noise, whose law is public.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthema.errors import StudyError
from synthema.learning.model import Contribution
from synthema.learning.noisy_sums import noise_std, open_noisy_sum, sum_event
from synthema.learning.table_one_exact import QUANTILES, scaled

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Event, Schema
    from privacy.schema import Column
    from synthema.learning.model import Rounds
    from synthema.learning.table_one import TableOneSpec
    from synthema.study import Study

Floats = npt.NDArray[np.float64]

# Finer units than any noise that is paid for: rounding adds nothing to see.
UNIT = 1024
N_BINS = 16
_Z95 = 1.959963984540054


def _width(column: Column) -> int:
    return column.n_codes if column.categories else N_BINS + int(column.nullable) + 2


def _layout(spec: TableOneSpec, schema: Schema) -> tuple[int, list[int]]:
    """Return the number of groups and each column's width; a group's part is one column after the other."""
    return len(spec.groups(schema)), [_width(schema.column(name)) for name in spec.columns]


def event(spec: TableOneSpec, study: Study, rho: float) -> Event:
    """See `ModelSpec.event`."""
    schema = study.data_schema
    n_groups, widths = _layout(spec, schema)
    parts = len(spec.categorical(schema)) + 3 * len(spec.numeric(schema))
    return sum_event(
        study,
        rho,
        dimension=n_groups * sum(widths),
        l1_sensitivity=UNIT * parts,
        l2_sensitivity_squared=UNIT * UNIT * parts,
    )


class AtSite:
    """See `synthema.learning.model.SiteHalf`."""

    def __init__(self, spec: TableOneSpec, schema: Schema, rows: pd.DataFrame) -> None:
        self._spec, self._schema, self._rows = spec, schema, rows

    def contribute(self, what: str, opened: Any) -> Contribution:
        """Return "sums": the sum of all patients' parts, shape (groups, cells)."""
        del opened
        if what != "sums":
            raise StudyError(f"table one gives no {what!r}")
        n_groups, _ = _layout(self._spec, self._schema)
        group = np.zeros(len(self._rows), dtype=np.int64)
        if self._spec.by is not None:
            group = self._schema.column(self._spec.by).encode(self._rows[self._spec.by].to_numpy())
        parts = [self._part(self._schema.column(name), group, n_groups) for name in self._spec.columns]
        return Contribution(np.concatenate(parts, axis=1))

    def _part(self, column: Column, group: npt.NDArray[np.int64], n_groups: int) -> npt.NDArray[np.int64]:
        values = self._rows[column.name].to_numpy()
        if column.categories:
            codes, n_codes = column.encode(values), column.n_codes
        else:
            z = scaled(column, values)
            n_codes = N_BINS + int(column.nullable)
            codes = np.where(np.isnan(z), N_BINS, _bin_of(np.nan_to_num(z)))
        cells = np.bincount(group * n_codes + codes, minlength=n_groups * n_codes).reshape(n_groups, n_codes)
        out = UNIT * cells.astype(np.int64)
        if column.categories:
            return out
        z = np.nan_to_num(z)
        moments = np.zeros((n_groups, 2), dtype=np.int64)
        for j, each in enumerate((z, z * z)):
            # Rounded for each patient, so that nobody's part is larger than the unit.
            np.add.at(moments[:, j], group, np.rint(each * UNIT).astype(np.int64))
        return np.concatenate([out, moments], axis=1)


def _bin_of(z: Floats) -> npt.NDArray[np.int64]:
    return np.minimum(((z + 1) * (N_BINS / 2)).astype(np.int64), N_BINS - 1)


def fit(spec: TableOneSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`."""
    schema = rounds.schema
    noisy = open_noisy_sum(rounds, "sums") / UNIT
    std = noise_std(rounds) / UNIT
    n_groups, widths = _layout(spec, schema)
    columns = [schema.column(name) for name in spec.columns]
    starts = np.concatenate([[0], np.cumsum(widths)])
    cells_of = [width if column.categories else width - 2 for column, width in zip(columns, widths, strict=True)]
    # Each column's cells add up to the size, with the noise of as many cells: weighted by its inverse.
    weights = np.array([1 / n for n in cells_of]) / sum(1 / n for n in cells_of)
    totals = np.stack([noisy[:, s : s + n].sum(axis=1) for s, n in zip(starts, cells_of, strict=False)], axis=1)
    sizes = totals @ weights
    found = []
    for j, column in enumerate(columns):
        start, n_cells = int(starts[j]), cells_of[j]
        cells = noisy[:, start : start + n_cells] + ((sizes - totals[:, j]) / n_cells)[:, None]
        if column.categories:
            error = std * math.sqrt(1 - 1 / n_cells + _size_variance(cells_of) / n_cells**2)
            found.append(
                {
                    "name": column.name,
                    "kind": "categorical",
                    "labels": list(column.labels()),
                    "counts": [[float(f"{max(each, 0.0):.2f}") for each in row] for row in cells],
                    "std_error": repr(error),
                }
            )
        else:
            moments = noisy[:, start + n_cells : start + n_cells + 2]
            count_std = std * math.sqrt(_present_variance(n_cells, _size_variance(cells_of)))
            described = [_described(column, cells[g], moments[g], std, count_std) for g in range(n_groups)]
            found.append(
                {"name": column.name, "kind": "numeric"} | {key: [each[key] for each in described] for key in _KEYS}
            )
    return {
        "groups": list(spec.groups(schema)),
        "sizes": [float(f"{max(size, 0.0):.2f}") for size in sizes],
        "size_std_error": repr(std * math.sqrt(_size_variance(cells_of))),
        "columns": found,
    }


_KEYS = ("present", "missing", "mean", "sd", "std_error", "quartiles")


def _size_variance(cells_of: list[int]) -> float:
    """Return the variance of the joint size, in units of one cell's."""
    return 1 / sum(1 / n for n in cells_of)


def _present_variance(n_cells: int, size_variance: float) -> float:
    """Return the variance of those who have a value, in units of one cell's: all, or all but the missing.

    Cells c are moved to c + (S - sum of c) / n. The joint size S has the same covariance with each cell, so none with
    the sum over b cells of (1 - b / n) c minus b / n times the others.
    """
    part = N_BINS / n_cells
    return part * (1 - part) * n_cells + part * part * size_variance


def _described(column: Column, cells: Floats, moments: Floats, std: float, count_std: float) -> dict[str, Any]:
    """Return one number in one group. None where the noise leaves no more than a guess: fewer than 5 deviations."""
    low, high = (float(edge) for edge in column.bin_edges[[0, -1]])
    centre, half = (low + high) / 2, (high - low) / 2
    histogram = cells[:N_BINS]
    n = float(histogram.sum())
    entry: dict[str, Any] = dict.fromkeys(_KEYS)
    entry["present"] = float(f"{max(n, 0.0):.2f}")
    entry["missing"] = float(f"{max(float(cells[N_BINS]), 0.0):.2f}") if column.nullable else 0.0
    if n < 5 * count_std or n < 2:
        return entry
    mean = float(np.clip(moments[0] / n, -1, 1))
    second = float(np.clip(moments[1] / n, mean * mean, 1))
    variance = max(second - mean * mean, 0.0)
    # The mean is a ratio of two noisy numbers: the delta method, beside the variance of sampling.
    error = math.sqrt(variance / n + (std**2 + (mean * count_std) ** 2) / n**2)
    entry["mean"], entry["sd"] = repr(centre + half * mean), repr(half * math.sqrt(variance * n / (n - 1)))
    entry["std_error"] = repr(half * error)
    entry["quartiles"] = [_quantile(q, histogram, std, low, high) for q in QUANTILES]
    return entry


def _quantile(q: float, histogram: Floats, std: float, low: float, high: float) -> tuple[float, float]:
    """Return the range of bins in which the quantile may lie: 95 %, of the noise, edge by edge."""
    n = float(histogram.sum())
    below = np.cumsum(histogram)[:-1]
    b = np.arange(1, N_BINS)
    # Below an edge minus q of all: noise of b cells at 1 - q and of the others at q.
    spread = std * np.sqrt(b * (1 - q) ** 2 + (N_BINS - b) * q * q)
    surely_below = below - q * n < -_Z95 * spread
    surely_above = below - q * n > _Z95 * spread
    edges = np.linspace(low, high, N_BINS + 1)
    first = int(np.flatnonzero(surely_below).max(initial=-1)) + 1
    last = int(np.flatnonzero(surely_above).min(initial=N_BINS - 1)) + 1
    return float(edges[first]), float(edges[max(last, first + 1)])
