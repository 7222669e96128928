"""The best full-domain generalisation, with proof: exact search over all combinations of levels.

node n       one level per column; p <= n: no level of p is above n's (p is more specific)
S_n          rows of classes that fail a downward closed model at n; they are suppressed there and below
c_C          patients of a class C failing another model who are lost at every p <= n, at least
score(n)     ( sum over kept rows of loss_n(row) + suppressed rows ) / N
LB(n)        proven lower bound of score(n), one array entry per node

The bound. For p <= n classes at p are parts of classes at n, so what fails a downward closed model at n fails at p,
and of other failing classes a certified number of patients is lost (`anonymise.checking`). A row that is not suppressed
at n costs at least loss_p(row) at p, kept or not, because a row's loss is at most 1. Hence for all p <= n at once

    score(p) >= ( sum over rows outside S_n of loss_p(row) + |S_n| + sum over C of c_C (1 - loss_n(C)) ) / N,

and the sum separates into one term a column: checking one node bounds its whole down-set with one outer sum. If more
patients are certainly lost than may be suppressed, the whole down-set is infeasible. A node is dropped when its bound
shows that it cannot replace the incumbent; the search ends when none is left, which proves the optimum.

Compare: Kohlmayer, Prasser, Eckert, Kemper, Kuhn 2012 (Flash), where a check bounds the checked node alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from anonymise.checking import Checked, Checker
from anonymise.classes import BoolArray, FloatArray
from anonymise.encoded import Encoded, Node
from anonymise.errors import LatticeTooLarge
from anonymise.loss import Metric
from anonymise.models import AnyModel

MAX_NODES: Final = 50_000_000
# A score is a sum of at most N terms in [0, 1], divided by N: rounding stays far below. Closer scores are tied.
TIE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best node, and what its proof took.

    node          level of each column
    score         loss of the node, in [0, 1]
    n_suppressed  patients of failing classes
    n_checked     nodes whose classes were counted
    """

    node: Node
    score: float
    n_suppressed: int
    n_checked: int


def search(
    encoded: Encoded, metric: Metric, models: Sequence[AnyModel], *, max_suppressed: int, max_nodes: int = MAX_NODES
) -> Optimum | None:
    """Return the node of least score among those that suppress at most `max_suppressed` patients, or None.

    Among nodes with equal scores (to 1e-12) the lexicographically lowest level vector wins, so the answer does not
    depend on the order of rows. Raises LatticeTooLarge above `max_nodes` nodes.
    """
    n_nodes = math.prod(encoded.shape)
    if n_nodes > max_nodes:
        raise LatticeTooLarge(n_nodes=n_nodes, limit=max_nodes)
    checker = Checker(encoded, models)
    sums_of = _LevelSums(encoded, metric)
    bound = outer_sum(sums_of.all_rows)
    bound /= encoded.n_records
    flat = bound.reshape(-1)
    height = outer_sum([np.arange(levels, dtype=np.int16) for levels in encoded.shape]).reshape(-1)
    # Ascending height, and ascending index (= lexicographic order) within a height.
    alive = np.argsort(height, kind="stable")
    best_node: Node | None = None
    best_index, best_score, best_suppressed = n_nodes, math.inf, 0
    n_checked = 0
    while True:
        # A node stays if it can win, or tie and stand lower in lexicographic order.
        alive = alive[flat[alive] < best_score + np.where(alive < best_index, TIE, -TIE)]
        if not alive.size:
            break
        # The most general nodes first, since they bound the largest down-sets; among them the lowest bound.
        top = alive[np.searchsorted(height[alive], height[alive[-1]]) :]
        index = int(top[flat[top].argmin()])
        node = tuple(int(level) for level in np.unravel_index(index, encoded.shape))
        n_checked += 1
        checked = checker.check(node, max_suppressed=max_suppressed)
        down_set = bound[tuple(slice(0, level + 1) for level in node)]
        if checked.n_below > max_suppressed or checked.failing is None:
            down_set[...] = math.inf
            continue
        sums, n_lost = sums_of.kept(checked.failing_below, node)
        certain = n_lost + sums_of.beyond(checked, node)
        np.maximum(down_set, (outer_sum(sums) + certain) / encoded.n_records, out=down_set)
        flat[index] = math.inf
        if checked.n_failing > max_suppressed:
            continue
        if checked.failing is not checked.failing_below:
            sums, n_lost = sums_of.kept(checked.failing, node)
        score = (float(sum(column[-1] for column in sums)) + n_lost) / encoded.n_records
        if score < best_score + (TIE if index < best_index else -TIE):
            best_node, best_index, best_score, best_suppressed = node, index, score, checked.n_failing
    return None if best_node is None else Optimum(best_node, best_score, best_suppressed, n_checked)


class _LevelSums:
    """The summed loss of rows, per column and level: of all, and of those that are kept."""

    def __init__(self, encoded: Encoded, metric: Metric) -> None:
        self._encoded = encoded
        self._metric = metric
        tuples, rows = encoded.rows_of(np.arange(encoded.counts.size), encoded.counts)
        self.all_rows = metric.level_sums(encoded.leaves[:, tuples], rows)

    def kept(self, failing: BoolArray, node: Node) -> tuple[list[FloatArray], float]:
        """Return, per column, the summed loss of rows that do not fail, at levels 0..node[column]; rows that do."""
        lost = np.flatnonzero(failing)
        if not lost.size:
            return [sums[: level + 1] for sums, level in zip(self.all_rows, node, strict=True)], 0.0
        tuples, rows = self._encoded.rows_of(lost, self._encoded.counts[lost])
        gone = self._metric.level_sums(self._encoded.leaves[:, tuples], rows)
        kept = [
            all_rows[: level + 1] - some[: level + 1]
            for all_rows, some, level in zip(self.all_rows, gone, node, strict=True)
        ]
        return kept, float(rows.sum())

    def beyond(self, checked: Checked, node: Node) -> float:
        """Return what the certain losses of partly lost classes cost beyond the loss of their rows, at least."""
        if not checked.partly.size:
            return 0.0
        # All patients of a class are generalised alike, so one of them tells the loss of all.
        tuples, rows = self._encoded.rows_of(checked.partly, checked.partly_lost)
        loss = self._metric.row_losses(self._encoded.leaves[:, tuples], node)
        return float(np.dot(rows, np.maximum(0.0, 1.0 - loss)))


def outer_sum(vectors: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return a new array whose entry at (i, j, ...) is vectors[0][i] + vectors[1][j] + ...: one axis per vector."""
    out = vectors[0].copy()
    for vector in vectors[1:]:
        out = out[..., None] + vector
    return out
