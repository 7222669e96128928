"""Columns whose values come in an order: a transplant not before its diagnosis.

Codes are bins, so a pair of bins obeys, breaks, or may do either. Here: which bins cannot obey, and how to draw values
from bins that can.

gap        0 where values may be equal, 1 step where they must increase (on a grid; a continuum has no steps)
[l_i, h_i] smallest and largest position of column i's bin
A row's bins can be put in order if and only if l_i + gap <= h_j for every column i and every later column j along
chains of rules, gaps added up: drawing each column in turn, not below what came before and not above what later
columns allow, then never gets stuck.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.within_bins import bin_limits, grid_of
from privacy import Schema
from privacy.schema import Column, Order

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Positions = dict[str, npt.NDArray[Any]]

# Rows out of order are drawn again so often from their columns' own laws, then one column after the other.
_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Orders:
    """All orders of a schema.

    columns   earlier ones first
    gaps      (earlier column, later column) -> the gap that a rule wants
    least     a position that a column is not drawn below where its bin and its order leave a choice
    """

    columns: tuple[str, ...]
    gaps: dict[tuple[str, str], int]
    by_name: dict[str, Column]
    least: dict[str, int]

    @classmethod
    def of(cls, schema: Schema) -> Orders:
        """Return the orders among the schema's rules; empty if there are none."""
        gaps: dict[tuple[str, str], int] = {}
        for rule in schema.rules:
            if isinstance(rule, Order):
                for pair in rule.pairs:
                    gaps[pair] = max(gaps.get(pair, 0), int(rule.strict))
        waiting = [name for name in schema.names if any(name in pair for pair in gaps)]
        columns: list[str] = []
        while waiting:
            # The schema has no cycles, so some column has none before it.
            first = next(name for name in waiting if not any((other, name) in gaps for other in waiting))
            waiting.remove(first)
            columns.append(first)
        # No patient is followed for no time at all.
        least = {schema.survival.time: 1} if schema.survival is not None else {}
        return cls(tuple(columns), gaps, {name: schema.column(name) for name in columns}, least)

    def impossible(self, one: str, two: str, *, strict: bool) -> BoolArray:
        """Return which pairs of codes cannot be in order, shape (n_codes of one, n_codes of two)."""
        first, second = self.by_name[one], self.by_name[two]
        low, high = self._ends(first)[0], self._ends(second)[1]
        gap = int(strict) if grid_of(first) else 0
        # A comparison with NaN is false: a missing value breaks no order.
        return np.asarray(low[:, None] + gap > high[None, :])

    def infeasible(self, codes: Mapping[str, npt.NDArray[Any]]) -> BoolArray:
        """Return which rows' bins hold no values in order, shape (n_rows,)."""
        low = {name: self._ends(self.by_name[name])[0][codes[name]] for name in self.columns}
        high = self._highest(codes)
        out = np.zeros(len(next(iter(codes.values()))), dtype=bool)
        for name in self.columns:
            for (one, two), gap in self.gaps.items():
                if two == name:
                    low[name] = np.fmax(
                        low[name], np.where(np.isnan(low[name]), np.nan, low[one] + self._gap(one, gap))
                    )
            out |= low[name] > high[name]
        return out

    def draw(
        self,
        codes: Mapping[str, npt.NDArray[Any]],
        positions: Positions,
        redraw: Callable[[str, npt.NDArray[np.intp]], npt.NDArray[Any]],
        *,
        rng: np.random.Generator,
    ) -> None:
        """Put the values of each row in order, in place.

        Parameters
        ----------
        codes
            Codes of the ordered columns, whose bins can be put in order.
        positions
            Their positions, drawn without regard to any order. Where the code is missing they mean nothing.
        redraw
            Draws the positions of a column again in some of the rows.
        rng
            Any generator.
        """
        rows = np.flatnonzero(self._broken(codes, positions))
        for _ in range(_ROUNDS):
            if not rows.size:
                return
            # All columns of a row together: this is their joint law under the condition that they are in order.
            for name in self.columns:
                positions[name][rows] = redraw(name, rows)
            rows = rows[self._broken(_at(codes, rows), _at(positions, rows))]
        if rows.size:
            self._one_after_the_other(codes, positions, rows, rng=rng)

    def _one_after_the_other(
        self,
        codes: Mapping[str, npt.NDArray[Any]],
        positions: Positions,
        rows: npt.NDArray[np.intp],
        *,
        rng: np.random.Generator,
    ) -> None:
        some = _at(codes, rows)
        high = self._highest(some)
        drawn: dict[str, FloatArray] = {}
        for name in self.columns:
            column = self.by_name[name]
            low = self._ends(column)[0][some[name]]
            missing = np.isnan(low)
            for (one, two), gap in self.gaps.items():
                if two == name:
                    low = np.where(missing, np.nan, np.fmax(low, drawn[one] + self._gap(one, gap)))
            if grid_of(column) and name in self.least:
                low = np.fmin(np.fmax(low, self.least[name]), high[name])
            span = high[name] - low
            if grid_of(column):
                value = low + np.floor(rng.random(rows.size) * (span + 1))
                value = np.fmin(value, high[name])
            else:
                value = low + rng.random(rows.size) * span
            drawn[name] = value
            here = rows[~missing]
            positions[name][here] = value[~missing].astype(positions[name].dtype)

    def _highest(self, codes: Mapping[str, npt.NDArray[Any]]) -> dict[str, FloatArray]:
        """Return the largest position that each column may have so that later ones still fit, NaN where missing."""
        high = {name: self._ends(self.by_name[name])[1][codes[name]] for name in self.columns}
        for name in reversed(self.columns):
            for (one, two), gap in self.gaps.items():
                if one == name:
                    allowed = np.where(np.isnan(high[name]), np.nan, high[two] - self._gap(one, gap))
                    high[name] = np.fmin(high[name], allowed)
        return high

    def _broken(self, codes: Mapping[str, npt.NDArray[Any]], positions: Positions) -> BoolArray:
        out = np.zeros(len(positions[self.columns[0]]), dtype=bool) if self.columns else np.zeros(0, dtype=bool)
        for (one, two), gap in self.gaps.items():
            there = self._there(one, codes[one]) & self._there(two, codes[two])
            ordered = positions[one] < positions[two] if gap else positions[one] <= positions[two]
            out |= there & ~ordered
        return out

    def _there(self, name: str, codes: npt.NDArray[Any]) -> BoolArray:
        column = self.by_name[name]
        return np.asarray(codes < column.n_codes - 1) if column.nullable else np.ones(len(codes), dtype=bool)

    def _gap(self, name: str, gap: int) -> int:
        return gap if grid_of(self.by_name[name]) else 0

    @staticmethod
    def _ends(column: Column) -> tuple[FloatArray, FloatArray]:
        """Return the smallest and the largest position of each code, NaN where it is missing."""
        limits = bin_limits(column)
        low, high = limits[:, 0].astype(np.float64), limits[:, 1].astype(np.float64)
        if grid_of(column):
            high -= 1
        else:
            # Only the last bin of a continuum is closed.
            high[:-1] = np.nextafter(high[:-1], -np.inf)
        if column.nullable:
            low, high = np.append(low, np.nan), np.append(high, np.nan)
        return low, high


def _at(arrays: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.intp]) -> Positions:
    return {name: array[rows] for name, array in arrays.items()}
