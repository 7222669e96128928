"""Non-uniform entropy: how many bits the release leaves open about the raw values, given how often each occurs.

generalised_j   sum over all rows of -log2(rows with the raw value / rows with the released value), column j
suppressed_j    sum over suppressed rows of -log2(suppressed rows with the generalised value / suppressed rows)
score           sum over columns of w_j (g generalised_j + s suppressed_j), in bits: ARX 3.9's non-monotonic
                "Non-uniform entropy" with the aggregate SUM, whatever the number of rows

As in ARX a suppressed row pays as if it had been generalised, and on top of it what its generalised values would have
told; without suppression this is Gionis and Tassa's measure.

prior   g generalised_j depends on the level alone: it is known for every node before anything is counted.
below   For p <= n the suppressed rows at p contain those of certain classes, S. The code length |A| H(A) of a set is at
        least the sum of those of its parts (entropy is concave), so suppressed_j(p) >= |S| H_j(S at level p_j): a
        vector per column, added to that of `prior`.
above   nothing beyond `prior`.

Sources: Gionis, Tassa 2009, IEEE TKDE 21(2); Prasser, Bild, Kuhn 2016, IPCCC (ARX's form).
"""

from __future__ import annotations

import math

import numpy as np

from anonymise.classes import BoolArray, FloatArray
from anonymise.hierarchies import Hierarchy
from anonymise.quality.base import NodeClasses, Problem, leaf_rows, outer_sum


class NonUniformEntropy:
    """ARX's non-uniform entropy, in bits."""

    def __init__(self, problem: Problem) -> None:
        self._encoded = problem.encoded
        self._lost_weights = problem.suppression_weight * problem.weights
        g = problem.generalisation_weight
        self._generalised = [
            g * weight * (_bits(rows, hierarchy)[0] - _bits(rows, hierarchy))
            for weight, rows, hierarchy in zip(
                problem.weights, leaf_rows(self._encoded), self._encoded.hierarchies, strict=True
            )
        ]

    def prior(self) -> FloatArray:
        """Return the score of every node if no row were suppressed."""
        return outer_sum(self._generalised)

    def score(self, classes: NodeClasses) -> float:
        """Return the score of the node."""
        columns = self._columns(classes.suppressed, classes)
        return float(sum(column[level] for column, level in zip(columns, classes.node, strict=True)))

    def below(self, classes: NodeClasses) -> FloatArray:
        """Return a lower bound of the score of every p <= n, one axis of levels 0..n per column."""
        columns = self._columns(classes.certain, classes)
        return outer_sum([column[: level + 1] for column, level in zip(columns, classes.node, strict=True)])

    def above(self, classes: NodeClasses) -> float:
        """Return nothing new: `prior` already holds what generalising costs at every node."""
        del classes
        return -math.inf

    def _columns(self, chosen: BoolArray, classes: NodeClasses) -> list[FloatArray]:
        lost = np.flatnonzero(chosen[classes.class_of])
        if not lost.size:
            return self._generalised
        return [
            known + weight * _bits(rows, hierarchy)
            for known, weight, rows, hierarchy in zip(
                self._generalised,
                self._lost_weights,
                leaf_rows(self._encoded, lost),
                self._encoded.hierarchies,
                strict=True,
            )
        ]


def _bits(rows: FloatArray, hierarchy: Hierarchy) -> FloatArray:
    """Return rows * entropy of one column at each level, in bits, shape (n_levels,)."""
    return np.array([_code_length(np.bincount(codes, weights=rows).astype(np.float64)) for codes in hierarchy.codes])


def _code_length(counts: FloatArray) -> float:
    counts = counts[counts > 0]
    total = float(counts.sum())
    return total * math.log2(total) - float(counts @ np.log2(counts)) if total else 0.0
