"""Losses that are sums over rows and columns: loss (arithmetic or geometric mean), precision, uniform entropy.

c       cell in [0, 1] of a released row in a column; it never falls when the column's level rises
v_j     mean over rows of what column j costs: `kept` if the row is released, `lost` if it is suppressed
score   arithmetic: sum of part_j v_j;  geometric: (product of 1 + w_j v_j)^(1/m) - 1, with m columns

metric      c                                          kept       lost           part_j
loss        (g share - g/n)/(1 - g/n)                  c          c + s(1 - c)   w_j/m
precision   level / highest level                      g c        s              w_j/m
entropy     log(group's size) / log n                  g c        s              w_j log n_j / sum_i w_i log n_i

n is the number of leaves of the column's hierarchy, share = group's size / n. Loss and precision are ARX 3.9's "Loss"
and "Precision", entropy its "Entropy-based information loss" (which has no weights), without ARX's cutting of each
column to ten decimals. A column with one leaf loses nothing by being released and counts as lost when suppressed.

below   Let lost >= kept (all but the next paragraph). For p <= n rows of certain classes are suppressed at p, others
        cost at least `kept` at p: v_j(p) >= (kept at p_j of the others + lost at p_j of the certain) / N, a vector per
        column, and both scores rise with each v_j. Of l_C further rows each adds at least lost - kept at n, since that
        difference never rises when levels fall.
        For precision and entropy with f < 0.5 suppressing may be cheaper. Let a(p) be a row's released cost and t the
        cost of a suppressed one. A row outside certain classes costs at least min(a, t). At most R of these rows can be
        suppressed, and each saves at most (max a) - t. And min(a, t) >= s a, because a is at most sum of parts = t / s.

Sources: Iyengar 2002, KDD (loss); Sweeney 2002, IJUFKS 10(5) (precision); Gionis, Tassa 2009, IEEE TKDE 21(2)
(entropy); Prasser, Eicher, Spengler, Bild, Kuhn 2020, doi:10.1002/spe.2812 (ARX's forms).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from anonymise.classes import FloatArray
from anonymise.hierarchies import Hierarchy
from anonymise.loss import Loss
from anonymise.quality.base import NodeClasses, Problem, check_one_row_each, leaf_rows, outer_sum

Cell = Literal["loss", "precision", "entropy"]
Mean = Literal["arithmetic", "geometric"]


class Separable:
    """A loss that is a mean over columns of means over rows; score in [0, 1] with equal weights."""

    def __init__(self, problem: Problem, cell: Cell, mean: Mean = "arithmetic") -> None:
        hierarchies = problem.encoded.hierarchies
        g, self._s = problem.generalisation_weight, problem.suppression_weight
        self._encoded, self._mean, self._max_suppressed = problem.encoded, mean, problem.max_suppressed
        # [column]: shape (n_levels, n_leaves)
        self._kept = [_TABLES[cell](hierarchy, g) for hierarchy in hierarchies]
        self._lost = [
            table + self._s * (1.0 - table) if cell == "loss" else np.full_like(table, self._s) for table in self._kept
        ]
        self._weights = problem.weights
        self._parts = problem.weights / len(hierarchies)
        if cell == "entropy":
            self._parts = problem.weights * np.log([hierarchy.n_leaves for hierarchy in hierarchies])
            self._parts /= self._parts.sum() or 1.0
        self._cheap_to_suppress = cell != "loss" and self._s < 1.0
        if self._cheap_to_suppress:
            check_one_row_each(self._encoded, f"{cell!r} with a suppression_factor below 0.5")
        self._highest = [
            table[:, np.unique(leaves)].max(axis=1)
            for table, leaves in zip(self._kept, self._encoded.leaves, strict=True)
        ]
        self._all_rows = leaf_rows(self._encoded)

    def as_row_loss(self) -> tuple[Loss | None, float]:
        """Return the same loss as a sum over rows in which suppressing one costs 1, and what it is to be scaled by.

        None where there is no such form: the geometric mean, or suppression that costs less than a whole row.
        """
        whole = float(self._parts.sum())
        if self._mean == "geometric" or self._s < 1.0 or whole == 0.0:
            return None, 1.0
        return Loss(tuple(table * (part / whole) for table, part in zip(self._kept, self._parts, strict=True))), whole

    def prior(self) -> FloatArray:
        """Return the score of every node if no row were suppressed, or less where suppressing is cheaper."""
        zero = [np.zeros_like(rows) for rows in self._all_rows]
        return self._bound(zero, 0, [0.0] * len(zero), self._encoded.shape)

    def score(self, classes: NodeClasses) -> float:
        """Return the score of the node."""
        lost = leaf_rows(self._encoded, np.flatnonzero(classes.suppressed[classes.class_of]))
        values = [
            kept[level : level + 1] @ (rows - gone) + out[level : level + 1] @ gone
            for kept, out, rows, gone, level in zip(
                self._kept, self._lost, self._all_rows, lost, classes.node, strict=True
            )
        ]
        return float(self._combined([value / self._encoded.n_records for value in values]).reshape(-1)[0])

    def below(self, classes: NodeClasses) -> FloatArray:
        """Return a lower bound of the score of every p <= n, one axis of levels 0..n per column."""
        certain = classes.certain
        rows = leaf_rows(self._encoded, np.flatnonzero(certain[classes.class_of]))
        shape = tuple(level + 1 for level in classes.node)
        return self._bound(rows, int(classes.sizes[certain].sum()), self._partly_lost(classes), shape)

    def above(self, classes: NodeClasses) -> float:
        """Return nothing new: `prior` already holds the cells of every node."""
        del classes
        return -math.inf

    def _bound(
        self, certain: list[FloatArray], n_certain: int, extra: list[float], shape: tuple[int, ...]
    ) -> FloatArray:
        n_rows = self._encoded.n_records
        kept = [
            table[:levels] @ (rows - gone)
            for table, rows, gone, levels in zip(self._kept, self._all_rows, certain, shape, strict=True)
        ]
        if not self._cheap_to_suppress:
            lost = [table[:levels] @ gone for table, gone, levels in zip(self._lost, certain, shape, strict=True)]
            return self._combined([(k + c + more) / n_rows for k, c, more in zip(kept, lost, extra, strict=True)])
        released = self._combined([column / n_rows for column in kept])
        highest = self._combined([column[:levels] for column, levels in zip(self._highest, shape, strict=True)])
        cost = self._s * float(self._parts.sum())
        saved = np.maximum(highest - cost, 0.0)
        saved *= min(self._max_suppressed, n_rows) - n_certain
        return np.asarray(np.maximum(released - saved / n_rows, self._s * released) + cost * n_certain / n_rows)

    def _partly_lost(self, classes: NodeClasses) -> list[float]:
        partly = classes.partly
        if not partly.size or self._cheap_to_suppress:
            return [0.0] * len(self._kept)
        tuples, rows = self._encoded.rows_of(classes.some_entry[partly], classes.certain_rows[partly])
        return [
            float((out - kept)[level, leaves[tuples]] @ rows)
            for kept, out, leaves, level in zip(self._kept, self._lost, self._encoded.leaves, classes.node, strict=True)
        ]

    def _combined(self, columns: list[FloatArray]) -> FloatArray:
        if self._mean == "arithmetic":
            return outer_sum([part * column for part, column in zip(self._parts, columns, strict=True)])
        logs = [np.log1p(weight * column) / len(columns) for weight, column in zip(self._weights, columns, strict=True)]
        return np.asarray(np.expm1(outer_sum(logs)))


def _loss(hierarchy: Hierarchy, g: float) -> FloatArray:
    shares = np.stack([hierarchy.shares(level) for level in range(hierarchy.n_levels)])
    smallest = 1.0 / hierarchy.n_leaves
    if hierarchy.n_leaves == 1:
        return np.zeros_like(shares)
    return np.asarray(g * (shares - smallest) / (1.0 - g * smallest))


def _precision(hierarchy: Hierarchy, g: float) -> FloatArray:
    heights = np.arange(hierarchy.n_levels) / max(1, hierarchy.n_levels - 1)
    return g * np.tile(heights[:, None], (1, hierarchy.n_leaves))


def _entropy(hierarchy: Hierarchy, g: float) -> FloatArray:
    sizes = np.stack([np.bincount(codes)[codes] for codes in hierarchy.codes])
    return np.asarray(g * np.log(sizes) / max(math.log(hierarchy.n_leaves), math.log(2)))


_TABLES = {"loss": _loss, "precision": _precision, "entropy": _entropy}
