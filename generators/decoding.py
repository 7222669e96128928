"""From codes to values: a category within its group, a position within its bin, in the order that rules want.

Everything is drawn from public laws, column by column; then rows whose values break a rule are drawn again, in the
same groups and bins, until they obey. So a rule never changes what the model said about codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from generators.domain import Domain
from generators.errors import DomainMismatch, NoLikelyRow
from generators.marginals import Codes
from generators.ordering import Orders
from generators.within_bins import (
    FloatArray,
    IntArray,
    bin_limits,
    draw_positions,
    follow_up,
    grid_of,
    stratified,
    uniform,
    uniform_in_log,
)
from privacy import Schema
from privacy._dates import UNITS
from privacy.schema import Column, Impossible, Order

# Categories that break a rule within their groups are drawn again so often.
_REDRAWS = 100


class Decoder:
    """One decoding: codes, the public laws, and the random source."""

    def __init__(
        self,
        codes: Codes,
        schema: Schema,
        *,
        logarithmic: frozenset[str],
        survival_counts: FloatArray | None,
        rng: np.random.Generator,
    ) -> None:
        self.schema = schema
        self.domain = Domain.from_schema(schema)
        self.logarithmic = logarithmic
        self.rng = rng
        self.codes = {name: codes[:, self.domain.position(name)].astype(np.int64) for name in schema.coded}
        self.survival_counts = self._survival_counts(survival_counts)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return the values of each coded column."""
        leaves = self._leaves()
        binned = [name for name in self.schema.coded if self.schema.column(name).is_binned]
        positions = {name: self._positions(name, np.arange(len(self.codes[name]))) for name in binned}
        orders = Orders.of(self.schema)
        if orders.columns:
            orders.draw(self.codes, positions, self._positions, rng=self.rng)
        return {
            name: _values(self.schema.column(name), self.codes[name], positions[name])
            if name in positions
            else _texts(self.schema.column(name))[leaves[name]]
            for name in self.schema.coded
        }

    # ------------------------------------------------------------ categories within groups

    def _leaves(self) -> dict[str, IntArray]:
        """Return the code of each value in its column's own list, groups resolved, rules kept."""
        out = dict(self.codes)
        grouped = [name for name in self.schema.coded if self.schema.column(name).model_level]
        rows = np.arange(len(next(iter(self.codes.values()))))
        for name in grouped:
            out[name] = self._draw_leaves(name, rows)
        rules = self._rules_within(grouped)
        for _ in range(_REDRAWS if rules else 0):
            broken = np.zeros(rows.size, dtype=bool)
            for rule in rules:
                broken |= rule.broken_by(out)
            bad = np.flatnonzero(broken)
            if not bad.size:
                return out
            for name in {name for rule in rules for name in rule.columns if name in grouped}:
                out[name][bad] = self._draw_leaves(name, bad)
        if rules and any(rule.broken_by(out).any() for rule in rules):
            raise NoLikelyRow("the schema's rules leave no category in some groups; model those columns more finely")
        return out

    def _rules_within(self, grouped: list[str]) -> list[Impossible]:
        columns = {column.name: column for column in self.schema.columns}
        return [
            part
            for rule in self.schema.rules
            if not isinstance(rule, Order)
            for part in rule.impossible(columns)
            if set(part.columns) & set(grouped)
        ]

    def _draw_leaves(self, name: str, rows: npt.NDArray[np.intp]) -> IntArray:
        """Return a category of each row's group, by the schema's weights, in one search for all rows."""
        column = self.schema.column(name)
        groups = column.model_codes()
        weights = np.ones(len(groups))
        if column.weights:
            weights[: len(column.categories)] = column.weights
        empty = np.bincount(groups, weights=weights) <= 0
        weights[empty[groups]] = 1.0
        order = np.argsort(groups, kind="stable")
        share = weights[order] / np.bincount(groups, weights=weights)[groups[order]]
        # The cumulative share of group g runs from g to g + 1.
        top = np.cumsum(share)
        found = np.searchsorted(top, self.codes[name][rows] + self.rng.random(rows.size), side="right")
        first = np.searchsorted(groups[order], self.codes[name][rows], side="left")
        last = np.searchsorted(groups[order], self.codes[name][rows], side="right") - 1
        # Rounding of the sum may point one place beside the group.
        leaves: IntArray = order[np.clip(found, first, last)]
        return leaves

    # ------------------------------------------------------------ positions within bins

    def _positions(self, name: str, rows: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """Return a position in the bin of each of the rows; where the value is missing, one that means nothing."""
        column = self.schema.column(name)
        codes = self.codes[name][rows]
        bins = np.where(codes < len(column.edges) + 1, codes, 0)
        survival = self.schema.survival
        follows = survival is not None and name == survival.time and survival.event in self.codes
        if follows and name not in self.logarithmic:
            return self._follow_up(column, bins, rows)
        law = uniform_in_log(column) if name in self.logarithmic else uniform
        return draw_positions(bins, self.rng.random(len(bins)), column, law, bin_limits(column))

    def _follow_up(self, column: Column, bins: IntArray, rows: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """Return times of each kind of event by its own law, never zero; at the horizon, the horizon."""
        survival = self.schema.survival
        if survival is None:
            raise DomainMismatch("there is no follow-up without [survival] in the schema")
        grid = grid_of(column)
        limits = bin_limits(column)
        if grid and limits[0, 0] == 0 and limits[0, 1] > 1:
            # A patient who leaves at time zero was never followed: no curve counts one.
            limits[0, 0] = 1
        out = np.empty(len(bins), dtype=np.int64 if grid else np.float64)
        events = self.codes[survival.event][rows]
        for event in np.unique(events):
            here = np.flatnonzero(events == event)
            at = stratified(bins[here], len(limits), rng=self.rng)
            law = follow_up(self.survival_counts[: len(limits), event], column)
            out[here] = draw_positions(bins[here], at, column, law, limits)
        if survival.horizon is not None:
            out[bins == len(limits) - 1] = survival.horizon * (grid or 1)
        return out

    def _survival_counts(self, given: FloatArray | None) -> FloatArray:
        survival = self.schema.survival
        if survival is None or not {survival.time, survival.event} <= set(self.codes):
            return np.zeros((0, 0))
        shape = self.domain.sizes((survival.time, survival.event))
        if given is not None:
            if np.shape(given) != shape:
                raise DomainMismatch(f"survival_counts must have shape {shape}: time codes, event codes")
            return np.asarray(given, dtype=np.float64)
        flat = self.codes[survival.time] * shape[1] + self.codes[survival.event]
        return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


def _texts(column: Column) -> npt.NDArray[np.object_]:
    return np.array([*column.categories, *([None] if column.nullable else [])], dtype=object)


def _values(column: Column, codes: IntArray, positions: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values of the column's type; missing as NaN, NaT or None."""
    missing = codes == column.n_codes - 1 if column.nullable else np.zeros(len(codes), dtype=bool)
    if column.kind == "date" and column.resolution is not None:
        return _dates(column, missing, positions)
    grid = grid_of(column)
    if column.kind == "integer" and not column.nullable:
        return positions
    # Division, because steps * 10**-decimals would not give the double nearest to the decimal number.
    values: npt.NDArray[Any] = positions.astype(np.float64) if grid is None else positions / grid
    values[missing] = np.nan
    return values


def _dates(column: Column, missing: npt.NDArray[np.bool_], positions: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if column.dtype == "text":
        texts: npt.NDArray[Any] = np.array(column.text(positions), dtype=object)
        texts[missing] = None
        return texts
    unit = UNITS[column.resolution or "day"]
    times = positions.astype(f"datetime64[{unit}]").astype("datetime64[s]")
    times[missing] = np.datetime64("NaT")
    return times
