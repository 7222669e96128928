"""Kullback-Leibler divergence of the release: how far the table it suggests is from the raw one, in bits.

c, a(E)   rows of a distinct raw tuple; number of raw tuples a class E may stand for = product of its groups' sizes
A         number of all raw tuples = product of the numbers of leaves
out(t)    share of a reader who spreads a class evenly over what it stands for: |E| / (N a(E)) for a tuple in a released
          class, |S| / (N A) for a suppressed one
score     sum over distinct raw tuples t of c/N log2( (c/N) / out(t) )
          = ( sum c log2 c + sum over released rows of log2(a(E)/|E|) + |S| log2(A/|S|) ) / N

ARX 3.9 sums over rows instead of distinct tuples (a tuple of c rows counts c^2), which is no divergence; where no two
rows are equal, both are the same number.

above   Write x(n) for the score if nothing were suppressed at n. Classes of a node are disjoint boxes, so their volumes
        add up to at most A, and the log-sum inequality gives: suppressing never lowers the score, and x(q) >= x(n) for
        q >= n. So score(q) >= x(n).
below   Let certain classes at n have s rows and the volume a_s. At p <= n the suppressed rows are these and others, T,
        in classes disjoint from that volume. The log-sum inequality over T's classes and (s, a_s) gives: N score(p) >=
        sum c log2 c + sum over rows not certain of (log2 a_p - log2 |E_n|) + s log2(a_s/s), as classes at p are parts
        of classes at n. The a_p separate into one vector per column.
        Or: u log2(A/u) is concave, so the suppressed cost at least s log2(A/s) + |T| d with its slope at the limit,
        d = log2(A / (e max_suppressed)). A row of T was counted with at most h, the highest log2 a_p: subtract
        (max_suppressed - s) (h - d) where positive. The larger of the two bounds is taken.
prior   x(p) with the joint entropy of the classes at least that of each single column.

Source: Kifer, Gehrke 2006, SIGMOD (definition); Cover, Thomas 2006, theorem 2.7.1 (log-sum inequality).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from anonymise.classes import FloatArray, IntArray
from anonymise.quality.base import NodeClasses, Problem, check_one_row_each, leaf_rows, outer_sum


class KLDivergence:
    """Divergence of what the release suggests from the raw table, in bits; 0 for the raw table itself."""

    def __init__(self, problem: Problem) -> None:
        check_one_row_each(problem.encoded, "'kl_divergence'")
        self._encoded = problem.encoded
        self._max_suppressed = problem.max_suppressed
        self._own = _log_sum(problem.encoded.counts)
        # log2 of the group's size, [column]: shape (n_levels, n_leaves)
        self._volumes = [
            np.stack([np.log2(np.bincount(codes)[codes]) for codes in hierarchy.codes])
            for hierarchy in self._encoded.hierarchies
        ]
        self._leaf_rows = leaf_rows(self._encoded)
        self._all_volumes = self._column_volumes(np.empty(0, dtype=np.int64))
        self._whole = math.log2(math.prod(hierarchy.n_leaves for hierarchy in self._encoded.hierarchies))
        self._highest = [
            table[:, np.unique(leaves)].max(axis=1)
            for table, leaves in zip(self._volumes, self._encoded.leaves, strict=True)
        ]

    def prior(self) -> FloatArray:
        """Return the divergence without suppression, classes being at most as small as the finest column's groups."""
        n_rows = self._encoded.n_rows
        largest = np.full(self._encoded.shape, n_rows * math.log2(n_rows))
        for at, (hierarchy, rows) in enumerate(zip(self._encoded.hierarchies, self._leaf_rows, strict=True)):
            sums = [_log_sum(np.bincount(codes, weights=rows)) for codes in hierarchy.codes]
            axis = tuple(-1 if at == other else 1 for other in range(largest.ndim))
            np.minimum(largest, np.reshape(sums, axis), out=largest)
        return np.asarray((outer_sum(self._all_volumes) - largest + self._own) / n_rows)

    def score(self, classes: NodeClasses) -> float:
        """Return the divergence of the node."""
        lost_tuples = np.flatnonzero(classes.suppressed[classes.class_of])
        n_lost = classes.n_suppressed
        volume = sum(
            float(column[level]) for column, level in zip(self._column_volumes(lost_tuples), classes.node, strict=True)
        )
        inside = _log_sum(classes.sizes[~classes.suppressed])
        lost = n_lost * (self._whole - math.log2(n_lost)) if n_lost else 0.0
        return (self._own + volume - inside + lost) / self._encoded.n_rows

    def below(self, classes: NodeClasses) -> FloatArray:
        """Return a lower bound of the score of every p <= n, one axis of levels 0..n per column."""
        certain = classes.certain
        gone = np.flatnonzero(certain[classes.class_of])
        columns = [column[: level + 1] for column, level in zip(self._column_volumes(gone), classes.node, strict=True)]
        bound = outer_sum(columns)
        bound += self._own - _log_sum(classes.sizes[~certain])
        n_certain = int(classes.sizes[certain].sum())
        if n_certain:
            bits = math.log2(n_certain)
            slope = self._whole - math.log2(math.e * self._max_suppressed)
            highest = outer_sum(
                [column[: level + 1] for column, level in zip(self._highest, classes.node, strict=True)]
            )
            saved = np.maximum(highest - slope, 0.0) * (self._max_suppressed - n_certain)
            bound += np.maximum(
                n_certain * (self._certain_volume(classes) - bits), n_certain * (self._whole - bits) - saved
            )
        return np.asarray(bound / self._encoded.n_rows)

    def above(self, classes: NodeClasses) -> float:
        """Return a lower bound of the score of every q >= n: what it is at n without suppression."""
        volume = sum(float(column[level]) for column, level in zip(self._all_volumes, classes.node, strict=True))
        return (self._own + volume - _log_sum(classes.sizes)) / self._encoded.n_rows

    def _column_volumes(self, without: IntArray) -> list[FloatArray]:
        """Return, per column, log2 of the group's size at each level, summed over all rows but those of some tuples."""
        return [
            np.asarray(table @ (rows - gone))
            for table, rows, gone in zip(self._volumes, self._leaf_rows, leaf_rows(self._encoded, without), strict=True)
        ]

    def _certain_volume(self, classes: NodeClasses) -> float:
        """Return log2 of how many raw tuples the certain classes may stand for."""
        chosen = classes.some_entry[classes.certain]
        logs = sum(
            table[level, leaves[chosen]]
            for table, leaves, level in zip(self._volumes, self._encoded.leaves, classes.node, strict=True)
        )
        return float(np.logaddexp2.reduce(logs))


def _log_sum(sizes: npt.NDArray[Any]) -> float:
    """Return the sum of size * log2(size)."""
    some = sizes[sizes > 0].astype(np.float64)
    return float(some @ np.log2(some))
