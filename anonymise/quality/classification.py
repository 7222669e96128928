"""Classification loss: how badly each class of the release predicts a target column by its most frequent value.

err(E)   rows of E that do not have E's most frequent value
E costs  g err(E) if one value is the most frequent; s |E| if several are; f |E| if E is suppressed
score    sum of costs / (N max(f, g, s)): ARX 3.9's "Classification accuracy" for a target that is no quasi-identifier.
         With f = 0.5 a suppressed row costs half of a misclassified one.

Both bounds rest on err(E) >= sum of err over any parts of E. A released class costs at least kappa(E) =
min(g err(E), s |E|), a suppressed one f |E|, and f <= s; so parts C of classes, each released or suppressed as a whole,
cost at least min(kappa(C), f |C|) each. And since at most R rows can be suppressed, each saving at most v = max over C
of kappa(C)/|C| - f, they cost at least sum of kappa(C) - R v in all. Above: the parts of classes at q are the classes
at n. Below: the parts at p are the distinct raw tuples that are not certain at n, and certain rows cost f each.

Source: Iyengar 2002, KDD (classification metric).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from anonymise.classes import BoolArray, FloatArray, IntArray
from anonymise.quality.base import NodeClasses, Problem

# Counts of (class, value) are a table up to so many cells; above, only the pairs that occur are listed.
_CELLS: Final = 20_000_000


class Classification:
    """Share of rows that a class's most frequent value of the target misses, in [0, 1]."""

    def __init__(self, problem: Problem) -> None:
        if problem.target is None:
            raise ValueError("classification needs a target: the column that the release should predict")
        self._encoded, self._target = problem.encoded, problem.target
        self._max_suppressed = problem.max_suppressed
        self._f, self._g, self._s = problem.factor, problem.generalisation_weight, problem.suppression_weight
        self._scale = problem.encoded.n_rows * max(self._f, self._g, self._s)
        self._last: tuple[NodeClasses, FloatArray, BoolArray] | None = None
        self._tuple_rows = problem.encoded.counts.astype(np.float64)
        self._tuples = self._kappa(self._majority(np.arange(problem.encoded.counts.size))[0], self._tuple_rows)

    def prior(self) -> FloatArray:
        """Return what equal raw tuples with unequal targets cost."""
        least = self._least(self._tuples, self._tuple_rows, self._max_suppressed)
        return np.full(self._encoded.shape, least / self._scale)

    def score(self, classes: NodeClasses) -> float:
        """Return the classification loss of the node."""
        sizes = classes.sizes.astype(np.float64)
        most, tied = self._of_classes(classes)
        costs = np.where(tied, self._s * sizes, self._g * (sizes - most))
        costs[classes.suppressed] = self._f * sizes[classes.suppressed]
        return float(costs.sum()) / self._scale

    def below(self, classes: NodeClasses) -> float:
        """Return a lower bound of the score of every p <= n."""
        certain = classes.certain
        n_certain = int(classes.sizes[certain].sum())
        others = ~certain[classes.class_of]
        left = self._max_suppressed - n_certain
        return (self._least(self._tuples[others], self._tuple_rows[others], left) + self._f * n_certain) / self._scale

    def above(self, classes: NodeClasses) -> float:
        """Return a lower bound of the score of every q >= n."""
        sizes = classes.sizes.astype(np.float64)
        kappa = self._kappa(self._of_classes(classes)[0], sizes)
        return self._least(kappa, sizes, self._max_suppressed) / self._scale

    def _of_classes(self, classes: NodeClasses) -> tuple[FloatArray, BoolArray]:
        # The bound and the score of a node are asked for one after the other.
        if self._last is None or self._last[0] is not classes:
            self._last = classes, *self._majority(classes.class_of)
        return self._last[1:]

    def _majority(self, group_of: IntArray) -> tuple[FloatArray, BoolArray]:
        """Return the rows with the most frequent value of each group of tuples, and if another is as frequent."""
        target, n_groups = self._target, int(group_of.max()) + 1
        key = group_of[target.tuples] * target.n_values + target.values
        if n_groups * target.n_values <= _CELLS:
            counts = np.bincount(key, weights=target.counts, minlength=n_groups * target.n_values)
            counts = counts.reshape(n_groups, target.n_values)
            most = counts.max(axis=1)
            return most, np.asarray((counts == most[:, None]).sum(axis=1) > 1)
        pairs, place = np.unique(key, return_inverse=True)
        counts, group = np.bincount(place, weights=target.counts), pairs // target.n_values
        most = np.zeros(n_groups)
        np.maximum.at(most, group, counts)
        return most, np.bincount(group[counts == most[group]], minlength=n_groups) > 1

    def _kappa(self, most: FloatArray, rows: FloatArray) -> FloatArray:
        return np.asarray(np.minimum(self._g * (rows - most), self._s * rows))

    def _least(self, kappa: FloatArray, rows: FloatArray, n_suppressed: int) -> float:
        if not kappa.size:
            return 0.0
        either = float(np.minimum(kappa, self._f * rows).sum())
        saved = max(0.0, float((kappa / rows).max()) - self._f)
        return max(either, float(kappa.sum()) - n_suppressed * saved)
