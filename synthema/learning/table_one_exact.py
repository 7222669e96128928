"""Table one, exact: what is tested on shares, and what is opened.

1. The size of a group is opened if it is 0 or at least `kaplan_meier.GROUP_FACTOR` times the least cell; nothing of a
   smaller group is. There is no row for all groups together, which it could be subtracted from.
2. A column's counts are opened if each of them, in every group that is open, is 0 or at least the least cell; for a
   number: who has a value (as many as in a group), and who has none. One answer for each column.
   Beside other exact models, which tell how many patients there are and what they sum up to, nothing is opened if any
   group is small: the others, subtracted from all, would be its numbers.
3. Sums and sums of squares of a number are opened if nobody dominates any of them (`dominance`). Numbers are scaled
   by the column's public bounds to [-1, 1]; sums are rounded to 2^-24 of half the range. Whoever knows both also knows
   the sums of distances from either bound and of their squares: nobody may dominate these either.
4. Of a quartile, the narrowest bin that holds the least cell (`shared_quantiles`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smpc import FIELD61, FixedPoint, Session, Shared, SharePackage, any_small, small_cells
from synthema.errors import DisclosureRefused, StudyError
from synthema.learning.dominance import RULE, any_dominated
from synthema.learning.kaplan_meier import GROUP_FACTOR
from synthema.learning.model import Contribution, Rounds, each, pooled
from synthema.learning.shared_quantiles import FINEST, Bins, open_quantiles, rank_of

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from privacy.schema import Column
    from synthema.learning.table_one import TableOneSpec
    from synthema.study import Study

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

QUANTILES = (0.25, 0.5, 0.75)
FRAC_BITS = 24
# Sums that are opened, and sums that are tested for dominance; the largest number that a patient adds to one.
_N_SUMS, _N_TESTED = 2, 6
_LARGEST = 4
_HISTOGRAM = _N_SUMS + 2 * _N_TESTED
_SMALL = "a cell holds too few patients"


def scaled(column: Column, values: npt.NDArray[Any]) -> Floats:
    """Return a column's values scaled by its public bounds to [-1, 1], NaN where missing."""
    low, high = column.bin_edges[[0, -1]]
    return np.asarray((column.numbers(values) - (low + high) / 2) / ((high - low) / 2), dtype=np.float64)


class AtSite:
    """See `synthema.learning.model.SiteHalf`."""

    def __init__(self, spec: TableOneSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> None:
        self._spec, self._schema, self._rows = spec, schema, rows
        self._most = study.largest_cohort
        self._group = np.zeros(len(rows), dtype=np.int64)
        if spec.by is not None:
            self._group = schema.column(spec.by).encode(rows[spec.by].to_numpy())
        self._n_groups = len(spec.groups(schema))

    def contribute(self, what: str, opened: Any) -> Contribution:
        """Return "counts": sizes and the cells of all columns; "sums": see `_moments`."""
        del opened
        match what:
            case "counts":
                return Contribution.counts(np.concatenate([self._sizes()[:, None], *self._cells()], axis=1))
            case "sums":
                parts = [self._moments(column) for column in self._spec.numeric(self._schema)]
                return Contribution(np.stack(parts))
        raise StudyError(f"table one gives no {what!r}")

    def _sizes(self) -> Ints:
        return np.bincount(self._group, minlength=self._n_groups).astype(np.int64)

    def _cells(self) -> list[Ints]:
        tables = []
        for name in self._spec.columns:
            column, values = self._schema.column(name), self._rows[name].to_numpy()
            # Of a number: who has a value, and who has none.
            codes = column.encode(values) if column.categories else np.isnan(column.numbers(values)).astype(np.int64)
            n_codes = column.n_codes if column.categories else 2
            cells = np.bincount(self._group * n_codes + codes, minlength=self._n_groups * n_codes)
            tables.append(cells.reshape(self._n_groups, n_codes).astype(np.int64))
        return tables

    def _moments(self, column: Column) -> Ints:
        """Return for each group sum, sum of squares, S and a of what is tested (`dominance`), and the histogram."""
        values = self._rows[column.name].to_numpy()
        z, raw = scaled(column, values), column.numbers(values)
        bins, encoding = Bins.of(column), FixedPoint(FRAC_BITS)
        out = np.zeros((self._n_groups, _HISTOGRAM + FINEST), dtype=np.int64)
        ends = slice(_N_SUMS, _N_SUMS + _N_TESTED), slice(_N_SUMS + _N_TESTED, _HISTOGRAM)
        for g in range(self._n_groups):
            own = (self._group == g) & ~np.isnan(z)
            terms = np.stack([z[own], z[own] ** 2])
            from_low, from_high = np.maximum(1 + z[own], 0), np.maximum(1 - z[own], 0)
            sizes = np.stack([*np.abs(terms), from_low, from_high, from_low**2, from_high**2])
            out[g, :_N_SUMS] = encoding.encode(terms.sum(axis=1), max_abs=float(self._most))
            out[g, ends[0]] = np.floor(np.ldexp(sizes.sum(axis=1), FRAC_BITS))
            out[g, ends[1]] = np.ceil(np.ldexp(sizes.max(axis=1, initial=0.0), FRAC_BITS))
            out[g, _HISTOGRAM:] = bins.count(raw[own])
        return out


def fit(spec: TableOneSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`."""
    schema, min_cell = rounds.schema, spec.min_cell
    columns = [schema.column(name) for name in spec.columns]
    widths = [column.n_codes if column.categories else 2 for column in columns]
    beside = sum(model.mode == "exact" for model in rounds.study.models.values()) > 1

    async def open_counts(session: Session, packages: Sequence[SharePackage]) -> dict[str, Any]:
        return await _open_counts(session, packages, columns, widths, min_cell=min_cell, beside=beside)

    counts = rounds.run("counts", open_counts)
    sizes: list[int] = counts["sizes"]
    if not sizes:
        raise DisclosureRefused(
            f"table one was not opened: a group holds 1 to {GROUP_FACTOR * min_cell - 1} patients, and other exact "
            "models of the study would tell them by subtraction: merge rare groups, or leave `by` out"
        )
    if max(sizes) <= 0:
        raise DisclosureRefused(f"table one was not opened: no group has {GROUP_FACTOR * min_cell} patients")
    numeric = spec.numeric(schema)
    present = {
        column.name: [int(cells[0]) if cells is not None else 0 for cells in counts["cells"][i]]
        for i, column in enumerate(columns)
        if not column.categories and counts["cells"][i] is not None
    }
    moments: dict[str, Any] = {}
    if any(sum(each) for each in present.values()):
        moments = rounds.run(
            "sums", lambda session, packages: _open_moments(session, packages, rounds.study, numeric, present, min_cell)
        )
    found = []
    for i, column in enumerate(columns):
        cells = counts["cells"][i]
        if column.categories:
            entry = {"name": column.name, "kind": "categorical", "labels": list(column.labels()), "counts": cells}
            if cells is None:
                entry["reason"] = f"{_SMALL}: merge rare categories"
        else:
            entry = {"name": column.name, "kind": "numeric"} | _described(column, cells, moments.get(column.name))
        found.append(entry)
    groups = list(spec.groups(schema))
    return {"groups": groups, "sizes": [size if size >= 0 else None for size in sizes], "columns": found}


async def _open_counts(
    session: Session,
    packages: Sequence[SharePackage],
    columns: Sequence[Column],
    widths: Sequence[int],
    *,
    min_cell: int,
    beside: bool,
) -> dict[str, Any]:
    table = pooled(session, packages, FIELD61)
    if beside and await any_small(session, [(table[g, 0], GROUP_FACTOR * min_cell) for g in range(table.shape[0])]):
        return {"sizes": [], "cells": []}
    hidden = await small_cells(session, table[:, 0], threshold=GROUP_FACTOR * min_cell)
    shown = np.flatnonzero(~hidden)
    ends = 1 + np.cumsum(widths)
    parts = [table[:, end - width : end] for end, width in zip(ends, widths, strict=True)]
    if not len(shown):
        return {"sizes": [-1] * len(hidden), "cells": [None for _ in parts]}

    async def may_open(column: Column, part: Shared) -> bool:
        least = [min_cell] * part.shape[1] if column.categories else [GROUP_FACTOR * min_cell, min_cell]
        tests = [(part[g, j : j + 1], least[j]) for g in shown.tolist() for j in range(part.shape[1])]
        return not await any_small(session, tests)

    open_it = await session.together(*(may_open(column, part) for column, part in zip(columns, parts, strict=True)))
    wanted = [table[shown, 0], *(part[shown] for part, yes in zip(parts, open_it, strict=True) if yes)]
    opened = await session.open(*wanted) if len(wanted) > 1 else (await session.open(wanted[0]),)
    values = iter(opened[1:])
    sizes = np.full(len(hidden), -1, dtype=np.int64)
    sizes[shown] = opened[0]
    cells: list[Any] = []
    for yes in open_it:
        if not yes:
            cells.append(None)
            continue
        rows: list[Any] = [None] * len(hidden)
        for g, row in zip(shown.tolist(), next(values).tolist(), strict=True):
            rows[g] = row
        cells.append(rows)
    return {"sizes": sizes.tolist(), "cells": cells}


async def _open_moments(
    session: Session,
    packages: Sequence[SharePackage],
    study: Study,
    numeric: Sequence[Column],
    present: dict[str, list[int]],
    min_cell: int,
) -> dict[str, Any]:
    sites = each(session, packages)
    n_rows = study.largest_cohort * len(study.sites)

    async def of_column(i: int, n: list[int]) -> dict[str, Any]:
        groups = [g for g, held in enumerate(n) if held]
        parts = [site[i][groups] for site in sites]
        most = _LARGEST << FRAC_BITS
        largest = [part[:, _N_SUMS + _N_TESTED : _HISTOGRAM].reshape(-1).declare(most) for part in parts]
        totals = [
            part[:, _N_SUMS : _N_SUMS + _N_TESTED].reshape(-1).declare(study.largest_cohort * most) for part in parts
        ]
        pool_of = parts[0]
        for part in parts[1:]:
            pool_of = pool_of + part
        ranks = [[rank_of(q, n[g]) for q in QUANTILES] for g in groups]
        histograms = pool_of[:, _HISTOGRAM:].declare(n_rows)
        dominated, bins = await session.together(
            any_dominated(session, totals, largest), open_quantiles(session, histograms, ranks, min_cell=min_cell)
        )
        sums = None if dominated else (await session.open(pool_of[:, :_N_SUMS])).tolist()
        return {"groups": groups, "sums": sums, "bins": bins.tolist()}

    wanted = [(i, column.name) for i, column in enumerate(numeric) if sum(present.get(column.name, []))]
    found = await session.together(*(of_column(i, present[name]) for i, name in wanted))
    return {name: answer for (_, name), answer in zip(wanted, found, strict=True)}


def _described(column: Column, cells: list[Any] | None, moments: dict[str, Any] | None) -> dict[str, Any]:
    """Return a number's part of the answer, from what was opened."""
    entry: dict[str, Any] = {"present": None, "missing": None, "mean": None, "sd": None, "quartiles": None}
    if cells is None:
        return entry | {"reason": _SMALL}
    entry["present"] = [None if row is None else row[0] for row in cells]
    entry["missing"] = [None if row is None else row[1] for row in cells]
    if moments is None:
        return entry
    low, high = (float(edge) for edge in column.bin_edges[[0, -1]])
    centre, half, bins = (low + high) / 2, (high - low) / 2, Bins.of(column)
    means: list[str | None] = [None] * len(cells)
    sds: list[str | None] = [None] * len(cells)
    quartiles: list[Any] = [None] * len(cells)
    for row, g in enumerate(moments["groups"]):
        n = cells[g][0]
        quartiles[g] = [bins.range_of(number) for number in moments["bins"][row]]
        if moments["sums"] is not None:
            first, second = FixedPoint(FRAC_BITS).decode(np.array(moments["sums"][row], dtype=np.int64))
            variance = max(0.0, (second - first * first / n) / (n - 1))
            means[g], sds[g] = repr(float(centre + half * first / n)), repr(float(half * variance**0.5))
    entry["quartiles"] = quartiles
    if moments["sums"] is None:
        return entry | {"reason": RULE}
    return entry | {"mean": means, "sd": sds}
