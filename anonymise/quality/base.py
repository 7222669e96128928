"""What a quality metric tells the search: the score of a node, and bounds for the nodes that have not been looked at.

node n       one level per column; p <= n <= q: p is more specific, q more general
entry        patients who are equal in all quasi-identifiers: a distinct tuple, or a history of several rows
S_n          patients who are suppressed at n; K_n the released ones; N all of them
certain      classes at n whose rows are suppressed at every p <= n (every part of them fails)
l_C          rows of a class C that are suppressed at every p <= n, whichever they are: 0 where nothing is known
k            every released class has at least k rows (1 where no model says so)
g, s         weights of generalisation and of suppression, from one factor f as in ARX: f = 0.5 gives (1, 1), f < 0.5
             makes suppression cheap (1, 2f), f > 0.5 makes generalisation cheap (2 - 2f, 1)

Every score is a loss: lower is better. Three kinds of bound prove an optimum without looking at every node:

prior        of each node's score before anything is counted
below        of the scores of all p <= n, once the classes at n are counted
above        of the scores of all q >= n, likewise: classes at q are unions of classes at n
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from anonymise.classes import Attribute, BoolArray, FloatArray, IntArray
from anonymise.encoded import Encoded, Node
from anonymise.errors import NotAnonymisable
from anonymise.longitudinal import LongitudinalEncoded


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is searched, as far as a metric needs to know it.

    encoded         the table
    max_suppressed  rows that may be suppressed, at most
    least_class     every released class has at least as many rows, >= 1
    weights         importance of each column, shape (n_columns,), the largest is 1
    factor          generalisation against suppression, in [0, 1]
    target          the column to be predicted, for metrics that need one
    """

    encoded: Encoded
    max_suppressed: int
    least_class: int
    weights: FloatArray
    factor: float = 0.5
    target: Attribute | None = None

    @property
    def generalisation_weight(self) -> float:
        """Weight g of what is lost by generalising."""
        return min(1.0, 2.0 - 2.0 * self.factor)

    @property
    def suppression_weight(self) -> float:
        """Weight s of what is lost by suppressing."""
        return min(1.0, 2.0 * self.factor)


@dataclass(frozen=True, slots=True, eq=False)
class NodeClasses:
    """The classes of one node.

    class_of      class of each entry, shape (n_entries,)
    sizes         patients of each class, shape (n_classes,), each >= 1
    suppressed    whether the class is suppressed at this node
    certain_rows  rows of each class that are suppressed at every more specific node: the class's size if it is
                  certain, else l_C
    """

    node: Node
    class_of: IntArray
    sizes: IntArray
    suppressed: BoolArray
    certain_rows: IntArray

    @property
    def n_suppressed(self) -> int:
        """Number of suppressed rows."""
        return int(self.sizes[self.suppressed].sum())

    @property
    def certain(self) -> BoolArray:
        """Which classes are suppressed entirely at every more specific node."""
        return np.asarray(self.certain_rows == self.sizes)

    @property
    def partly(self) -> IntArray:
        """Positions of the classes of which some rows, but not known which, are suppressed at every p <= n."""
        return np.flatnonzero((self.certain_rows > 0) & ~self.certain)

    @property
    def some_entry(self) -> IntArray:
        """An entry of each class: all entries of a class are generalised alike."""
        out = np.empty(self.sizes.size, dtype=np.int64)
        out[self.class_of] = np.arange(self.class_of.size)
        return out


class Quality(Protocol):
    """A loss of nodes with bounds; see the module. All three bounds may be weak, none may be wrong."""

    def prior(self) -> FloatArray:
        """Return a lower bound of every node's score, one axis per column."""
        ...

    def score(self, classes: NodeClasses) -> float:
        """Return the score of the node."""
        ...

    def below(self, classes: NodeClasses) -> FloatArray | float:
        """Return a lower bound of the score of every p <= n: one number, or one axis of levels 0..n per column."""
        ...

    def above(self, classes: NodeClasses) -> float:
        """Return a lower bound of the score of every q >= n; minus infinity if nothing is known."""
        ...


def column_weights(names: Sequence[str], weights: Mapping[str, float] | None) -> FloatArray:
    """Return the weight of each column, divided by the largest as in ARX; 1 for a column that is not listed.

    Raises ValueError for an unknown column, a negative or infinite weight, or if all weights are 0.

    Examples
    --------
    >>> column_weights(["age", "sex", "zip"], {"age": 4.0, "sex": 2.0}).tolist()
    [1.0, 0.5, 0.25]
    """
    given = {} if weights is None else dict(weights)
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"weights name {unknown[0]!r}, which is no quasi-identifier; they are {', '.join(names)}")
    out = np.array([float(given.get(name, 1.0)) for name in names])
    for name, weight in zip(names, out.tolist(), strict=True):
        if not 0.0 <= weight < np.inf:
            raise ValueError(f"the weight of {name!r} must be a number >= 0, got {weight!r}")
    if not out.max() > 0.0:
        raise ValueError("weights must not all be 0: nothing would count as a loss")
    return np.asarray(out / out.max())


def leaf_rows(encoded: Encoded, entries: IntArray | None = None) -> list[FloatArray]:
    """Return, per column, the rows with each leaf among all patients of some entries (default: all), shape (n_leaves,).

    Whole numbers are summed per leaf before anything is weighed, so that no score depends on the order of rows.
    """
    if entries is None:
        entries = np.arange(encoded.counts.size)
    tuples, rows = encoded.rows_of(entries, encoded.counts[entries])
    return [
        np.bincount(codes, weights=rows, minlength=hierarchy.n_leaves).astype(np.float64)
        for hierarchy, codes in zip(encoded.hierarchies, encoded.leaves[:, tuples], strict=True)
    ]


def check_one_row_each(encoded: Encoded, name: str) -> None:
    """Raise NotAnonymisable if patients have several rows: a metric that counts single rows has no bounds there."""
    if isinstance(encoded, LongitudinalEncoded):
        raise NotAnonymisable(
            rule=f"quality {name} needs one row a patient",
            way_out="choose 'loss', 'non_uniform_entropy' or 'discernibility', and leave suppression_factor at 0.5",
        )


def most_parts(encoded: Encoded) -> list[list[FloatArray]]:
    """Return into how many groups of each level a group of a higher level falls, at most.

    [column][level n]: shape (n + 1,), one number per level up to n. Only groups that occur in the table count. Where
    patients have several rows a class can fall into any number of parts.
    """
    if isinstance(encoded, LongitudinalEncoded):
        return [[np.full(level + 1, np.inf) for level in range(levels)] for levels in encoded.shape]
    out = []
    for hierarchy, leaves in zip(encoded.hierarchies, encoded.leaves, strict=True):
        used = np.unique(leaves)
        codes = [level_codes[used] for level_codes in hierarchy.codes]
        # One leaf stands for each group.
        firsts = [np.unique(groups, return_index=True)[1] for groups in codes]
        out.append(
            [
                np.array([np.bincount(above[firsts[low]]).max() for low in range(level + 1)], dtype=np.float64)
                for level, above in enumerate(codes)
            ]
        )
    return out


def outer_sum(vectors: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return a new array whose entry at (i, j, ...) is vectors[0][i] + vectors[1][j] + ...: one axis per vector."""
    out = vectors[0].copy()
    for vector in vectors[1:]:
        out = out[..., None] + vector
    return out


def outer_product(vectors: Sequence[FloatArray]) -> FloatArray:
    """Return a new array whose entry at (i, j, ...) is vectors[0][i] * vectors[1][j] * ...: one axis per vector."""
    out = vectors[0].copy()
    for vector in vectors[1:]:
        out = out[..., None] * vector
    return out
