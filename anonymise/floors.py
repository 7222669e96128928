"""What one checked node proves of every more specific node, as a sum of one term a column.

S_n        patients who are certainly suppressed at n and below
floor of n   N score(p) >= constant + sum over columns j of terms[j, p_j]   for all p <= n

A row that is certainly suppressed counts 1, in the constant; every other row counts its loss at p, which is a sum over
columns (`anonymise.checking` has the proof). Below a node at most more is lost, so the sums of a more specific node are
those of the node above it without the rows that are newly lost: only these are looked at.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anonymise.checking import Checked
from anonymise.classes import FloatArray
from anonymise.encoded import Encoded, Node
from anonymise.loss import Metric


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Floor:
    """A lower bound of the summed loss at every node below a checked one.

    lost       a bit for each entry, set where its patients are certainly suppressed there; None if there are none
    n_lost     rows of these
    constant   n_lost, and what the certain losses of partly lost classes cost beyond the loss of their rows
    terms      summed loss of all other rows, shape (n_columns, most levels of a column); inf where there is no level
    """

    lost: npt.NDArray[np.uint8] | None
    n_lost: float
    constant: float
    terms: FloatArray

    def at(self, node: Node) -> float:
        """Return the bound at a node; in a box it is least at the most specific node, since loss rises with levels."""
        return self.constant + sum_at(self.terms, node)


def sum_at(terms: FloatArray, node: Node) -> float:
    """Return the sum of one term a column, each at the node's level: correctly rounded, so in any order of columns."""
    # Some ten numbers are looked up faster one by one than through arrays of positions.
    return math.fsum(map(terms.item, itertools.count(), node))


class Floors:
    """Floors and scores of checked nodes; holds what they share."""

    def __init__(self, encoded: Encoded, metric: Metric) -> None:
        self._encoded = encoded
        self._metric = metric
        self._shape = len(encoded.shape), max(encoded.shape)
        self._none = self._lost(np.ones(encoded.n_entries))[1], 0.0
        for row, levels in zip(self._none[0], encoded.shape, strict=True):
            row[levels:] = math.inf

    def floor(self, checked: Checked, node: Node, above: Floor | None = None) -> Floor:
        """Return what a checked node proves; `above`: the floor of a more general node."""
        lost, (terms, n_lost) = None, self._none
        if above is not None:
            lost, terms, n_lost = above.lost, above.terms, above.n_lost
        if checked.n_certain:
            certain = np.packbits(checked.failing_below)
            new = certain if lost is None else certain & ~lost
            n_new, sums = self._lost(np.unpackbits(new, count=checked.failing_below.size))
            lost = new if lost is None else lost | new
            terms, n_lost = terms - sums, n_lost + n_new
        return Floor(lost, n_lost, n_lost + self._beyond(checked, node, lost), terms)

    def score(self, checked: Checked, node: Node, floor: Floor) -> float:
        """Return the summed loss of a checked node, whose floor is given."""
        terms, n_lost = floor.terms, floor.n_lost
        if checked.failing is not None and checked.failing is not checked.failing_below:
            n_lost, sums = self._lost(checked.failing)
            terms = self._none[0] - sums
        return n_lost + sum_at(terms, node)

    def _lost(self, entries: npt.NDArray[Any]) -> tuple[float, FloatArray]:
        """Return how many rows the patients of some entries have, and their summed loss per column and level."""
        some = np.flatnonzero(entries)
        tuples, rows = self._encoded.rows_of(some, self._encoded.counts.take(some))
        out = np.zeros(self._shape)
        per_column = self._metric.level_sums(self._encoded.leaves.take(tuples, axis=1), rows)
        for row, sums in zip(out, per_column, strict=True):
            row[: sums.size] = sums
        return float(rows.sum()), out

    def _beyond(self, checked: Checked, node: Node, lost: npt.NDArray[np.uint8] | None) -> float:
        """Return what the certain losses of partly lost classes cost beyond the loss of their rows, at least."""
        partly, partly_lost = checked.partly, checked.partly_lost
        if partly.size and lost is not None:
            # A class can be known from above to be lost as a whole, though its own check proves less. It is part of a
            # class there, so one of its entries tells, and its patients count once.
            counted = (lost[partly >> 3] >> (7 - (partly & 7)).astype(np.uint8)) & 1 == 1
            partly, partly_lost = partly[~counted], partly_lost[~counted]
        if not partly.size:
            return 0.0
        # All patients of a class are generalised alike, so one of them tells the loss of all.
        tuples, rows = self._encoded.rows_of(partly, partly_lost)
        loss = self._metric.row_losses(self._encoded.leaves.take(tuples, axis=1), node)
        return float(np.dot(rows, np.maximum(0.0, 1.0 - loss)))
