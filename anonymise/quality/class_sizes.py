"""Losses that look at the sizes of classes alone: discernibility and average class size.

E, G    a released class, the number of them; k rows at least in each

Discernibility        sum over released classes of |E|^2 + N |S|: with how many others each row agrees.
                      Bayardo, Agrawal 2005, ICDE; ARX 3.9's non-monotonic "Discernibility".
Average class size    N / (s G + g [some row is suppressed]): suppressed rows form one more class. ARX 3.9's "Average
                      equivalence class size", in which the two weights change places (f < 0.5 divides by less, so that
                      it favours suppression). LeFevre, DeWitt, Ramakrishnan 2006, ICDE: C_AVG is this divided by k.

At p <= n a class C of n falls into at most D parts, D the product over columns of how many groups of level p_j a group
of level n_j falls into.

Discernibility, below: at p <= n a row of a certain class costs N; any other costs N if suppressed, else its class size,
which is at least k and at least the rows that share its raw values. Each of l_C further rows costs N instead of at most
max(|C|, k). And the parts of C cost at least the sum of their squared sizes, at least |C|^2 / D. Above: at q >= n a
row's class contains its class at n, and |E| <= N. Prior: below, at the most general node.

Average class size, bounds of G. Below: released classes at p are parts of classes C at n that are not certain; C holds
at most (|C| - l_C)/k of them, no more than its distinct raw tuples, and at most D. Above: a released class at q
contains a class released at n, or only rows suppressed at n, at least k of these. Prior: G is at most N/k, the product
of the groups that occur, and the number of distinct tuples.
"""

from __future__ import annotations

import math

import numpy as np

from anonymise.classes import FloatArray
from anonymise.encoded import Encoded
from anonymise.quality.base import NodeClasses, Problem, most_parts, outer_product


class Discernibility:
    """Sum over rows of the number of rows each cannot be told from; N for a suppressed one."""

    def __init__(self, problem: Problem) -> None:
        self._encoded, self._k = problem.encoded, problem.least_class
        self._n_rows = float(problem.encoded.n_rows)
        self._parts = most_parts(problem.encoded)
        self._tuples = problem.encoded.counts * np.maximum(problem.encoded.counts, self._k).astype(np.float64)

    def prior(self) -> FloatArray:
        """Return what the numbers of groups, the sizes of the distinct tuples and k tell."""
        parts = outer_product([column[-1] for column in self._parts])
        return np.maximum(self._n_rows**2 / (parts * _top_classes(self._encoded)), float(self._tuples.sum()))

    def score(self, classes: NodeClasses) -> float:
        """Return the discernibility of the node."""
        kept = classes.sizes[~classes.suppressed].astype(np.float64)
        return float(kept @ kept) + self._n_rows * classes.n_suppressed

    def below(self, classes: NodeClasses) -> FloatArray:
        """Return a lower bound of the score of every p <= n, one axis of levels 0..n per column."""
        certain = classes.certain
        open_ = classes.sizes[~certain].astype(np.float64)
        parts = outer_product([column[level] for column, level in zip(self._parts, classes.node, strict=True)])
        others = float(self._tuples[~certain[classes.class_of]].sum())
        partly = classes.partly
        most = np.maximum(classes.sizes[partly], self._k)
        extra = float((classes.certain_rows[partly] * np.maximum(self._n_rows - most, 0.0)).sum())
        lost = self._n_rows * float(classes.sizes[certain].sum())
        return np.asarray(np.maximum(float(open_ @ open_) / parts, others + extra) + lost)

    def above(self, classes: NodeClasses) -> float:
        """Return a lower bound of the score of every q >= n."""
        return float((classes.sizes * np.maximum(classes.sizes, self._k).astype(np.float64)).sum())


class AverageClassSize:
    """Rows per class, suppressed rows being one class."""

    def __init__(self, problem: Problem) -> None:
        if problem.suppression_weight == 0.0:
            raise ValueError("average_class_size needs a suppression_factor > 0: with 0 no released class counts")
        self._encoded, self._k = problem.encoded, problem.least_class
        self._per_class, self._for_suppressed = problem.suppression_weight, problem.generalisation_weight
        self._may_suppress = problem.max_suppressed > 0
        self._parts = most_parts(problem.encoded)

    def prior(self) -> FloatArray:
        """Return what the number of groups of each level tells."""
        parts = outer_product([column[-1] for column in self._parts]) * _top_classes(self._encoded)
        limit = min(self._encoded.n_rows // self._k, self._encoded.counts.size)
        return self._least_score(np.minimum(parts, limit))

    def score(self, classes: NodeClasses) -> float:
        """Return the average class size of the node."""
        n_classes = int((~classes.suppressed).sum())
        with_suppressed = self._for_suppressed if n_classes < classes.sizes.size else 0.0
        return self._encoded.n_rows / (self._per_class * n_classes + with_suppressed)

    def below(self, classes: NodeClasses) -> FloatArray:
        """Return a lower bound of the score of every p <= n, one axis of levels 0..n per column."""
        open_ = ~classes.certain
        n_tuples = np.bincount(classes.class_of, minlength=classes.sizes.size)
        most = np.minimum((classes.sizes - classes.certain_rows) // self._k, n_tuples)[open_]
        if not most.size:
            return self._least_score(np.zeros(1)).reshape((1,) * len(classes.node))
        # of_parts[d] = sum over classes of min(most, d) = sum over i <= d of the classes that may hold i.
        of_parts = np.append(0, np.cumsum(np.cumsum(np.bincount(most)[::-1])[::-1][1:]))
        parts = outer_product([column[level] for column, level in zip(self._parts, classes.node, strict=True)])
        at = np.minimum(parts, of_parts.size - 1).astype(np.int64)
        return self._least_score(of_parts[at].astype(np.float64))

    def above(self, classes: NodeClasses) -> float:
        """Return a lower bound of the score of every q >= n."""
        n_kept = int((~classes.suppressed).sum())
        n_others = min(classes.n_suppressed // self._k, classes.sizes.size - n_kept)
        return float(self._least_score(np.float64(n_kept + n_others)))

    def _least_score(self, most_classes: FloatArray | np.float64) -> FloatArray:
        with_suppressed = self._for_suppressed if self._may_suppress else 0.0
        denominator = self._per_class * most_classes + with_suppressed
        with np.errstate(divide="ignore"):
            return np.asarray(self._encoded.n_rows / denominator)


def _top_classes(encoded: Encoded) -> float:
    """Return how many classes the most general node has at most: the product of the groups that occur."""
    return math.prod(
        float(np.unique(hierarchy.codes[-1][leaves]).size)
        for hierarchy, leaves in zip(encoded.hierarchies, encoded.leaves, strict=True)
    )
