"""Nearest rows of a table in Gower's distance, exactly, by brute force over contiguous columns.

d(x, y)    sum over columns of |x - y| / range for numbers and of [x != y] for codes; two missing numbers are equal, and
           one missing number is as far as a different code
view       the columns that count in a search; several views share the comparisons of each column

Ranges are those of the searched table, which is what an attacker knows. Distances are integers (numbers in steps of
2^-20 of the range), so that sums are exact and ties are ties. Equally near rows are told apart by their order, which
`NeighbourSearch` makes random.

Source: Gower 1971, Biometrics 27:857.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.attacks.table import IntArray, Rows

_STEPS = 1 << 20


class NeighbourSearch:
    """Search among the rows of one table.

    Examples
    --------
    >>> table = Rows(("sex", "age"), (False, True), (np.array([0, 1, 1], np.uint8), np.array([30.0, 40.0, 80.0])))
    >>> search = NeighbourSearch(table, rng=np.random.default_rng(1))
    >>> target = Rows(("sex", "age"), (False, True), (np.array([1], np.uint8), np.array([41.0])))
    >>> rows, distances = search.nearest(target, [(0, 1)], n_neighbours=1)
    >>> int(rows[0, 0, 0]), round(float(distances[0, 0, 0]), 2)
    (1, 0.02)
    """

    def __init__(self, table: Rows, *, rng: np.random.Generator) -> None:
        self._order = rng.permutation(len(table))
        self._numeric = table.numeric
        # Codes alone are counted in bytes, four times faster than steps; a byte holds the sum of 254 columns.
        self._dtype = np.dtype(np.int32) if any(table.numeric) or len(table.names) > 254 else np.dtype(np.uint8)
        self._unit = _STEPS if any(table.numeric) else 1
        self._columns: list[npt.NDArray[Any]] = []
        self._missing: list[npt.NDArray[np.bool_] | None] = []
        self._scale: list[tuple[float, float]] = []
        for column, numeric in zip(table.columns, table.numeric, strict=True):
            values = column[self._order]
            missing = np.isnan(values) if numeric else None
            present = values[~missing] if missing is not None and not missing.all() else np.zeros(1)
            self._scale.append((float(present.min()), float(np.ptp(present)) or 1.0))
            self._missing.append(missing if missing is not None and missing.any() else None)
            self._columns.append(_steps(values, self._scale[-1]) if numeric else values)

    def __len__(self) -> int:
        return len(self._order)

    def nearest(
        self, targets: Rows, views: Sequence[Sequence[int]], *, n_neighbours: int
    ) -> tuple[IntArray, npt.NDArray[np.float64]]:
        """Return the nearest rows of each target in each view, nearest first, and their distances.

        Parameters
        ----------
        targets
            Rows with the same columns.
        views
            Positions of the columns that count, each at least one.
        n_neighbours
            At most the number of rows searched.

        Returns
        -------
        Positions in the table as it was given, and distances in [0, 2 * number of columns]; both of shape
        (n_views, n_targets, n_neighbours).
        """
        n_columns = len(self._columns)
        found = np.empty((len(views), len(targets), n_neighbours), dtype=np.int64)
        distances = np.empty(found.shape)
        plans = [_plan(view, n_columns) for view in views]
        used = [i for i in range(n_columns) if any(i in keep or from_total for from_total, keep in plans)]
        asked = [_steps(c, s) if n else c for c, s, n in zip(targets.columns, self._scale, self._numeric, strict=True)]
        parts = [np.empty(len(self._order), dtype=bool if not n else np.int32) for n in self._numeric]
        total, key = (np.empty(len(self._order), dtype=self._dtype) for _ in range(2))
        for t in range(len(targets)):
            for i in used:
                absent = self._numeric[i] and bool(np.isnan(targets.columns[i][t]))
                self._compare(i, asked[i][t], absent=absent, out=parts[i])
            if any(from_total for from_total, _ in plans):
                self._sum(parts, range(n_columns), out=total)
            for v, (from_total, chosen) in enumerate(plans):
                if from_total and len(chosen) == 1 and self._numeric[chosen[0]]:
                    np.subtract(total, parts[chosen[0]], out=key)
                else:
                    self._sum(parts, chosen, out=key)
                    if from_total:
                        np.subtract(total, key, out=key)
                for k in range(n_neighbours):
                    best = key.argmin()
                    found[v, t, k], distances[v, t, k] = best, key[best]
                    key[best] = np.iinfo(self._dtype).max
        return self._order[found], distances / self._unit

    def _compare(self, i: int, value: Any, *, absent: bool, out: npt.NDArray[Any]) -> None:
        """Write how far each row's value in column i is: 0 or 1 for codes, steps for numbers."""
        missing = self._missing[i]
        if not self._numeric[i]:
            np.not_equal(self._columns[i], value, out=out)
        elif absent:
            out.fill(_STEPS)
            if missing is not None:
                out[missing] = 0
        else:
            np.subtract(self._columns[i], value, out=out)
            np.abs(out, out=out)
            if missing is not None:
                np.copyto(out, _STEPS, where=missing)

    def _sum(self, parts: list[npt.NDArray[Any]], columns: Sequence[int], *, out: npt.NDArray[Any]) -> None:
        """Write the distance over some of the columns."""
        codes = [parts[i].view(np.uint8) for i in columns if not self._numeric[i]]
        numbers = [parts[i] for i in columns if self._numeric[i]]
        if codes:
            differences = codes[0]
            if len(codes) > 1:
                differences = np.add(codes[0], codes[1], dtype=np.uint8 if len(codes) < 255 else np.int32)
                for one in codes[2:]:
                    np.add(differences, one, out=differences)
            np.multiply(differences, self._dtype.type(self._unit), out=out)
        else:
            np.copyto(out, numbers.pop() if numbers else 0)
        for one in numbers:
            np.add(out, one, out=out)


def _steps(values: npt.NDArray[np.float64], scale: tuple[float, float]) -> npt.NDArray[np.int32]:
    """Return numbers as steps of the range; all that lies further than one range outside of it is equally far."""
    low, spread = scale
    return np.rint(np.clip((np.nan_to_num(values) - low) / spread, -1.0, 2.0) * _STEPS).astype(np.int32)


def _plan(view: Sequence[int], n_columns: int) -> tuple[bool, tuple[int, ...]]:
    """Return (False, columns to sum), or (True, columns to take off the sum over all) where that is less work."""
    left_out = tuple(i for i in range(n_columns) if i not in view)
    return (True, left_out) if len(left_out) < len(view) else (False, tuple(view))
