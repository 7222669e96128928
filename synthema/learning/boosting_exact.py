"""Gradient boosted trees on secret-shared histograms: the same as on the pooled rows, integer by integer.

s_i     score (log odds) of patient i: the start plus the learning rate times the values of the leaves so far
g_i     p_i - y_i, and h_i = p_i (1 - p_i), with p_i = 1 / (1 + exp(-s_i)) for |s_i| <= 5 (beyond, that of 5), both
        rounded to 2^-12
G, H    their sums over the patients of a node; w is the number nearest to -G / (H + l2) in units of 2^-12, and -w G
        the node's gain. The value of a leaf is w for G rounded to a multiple of 8 (`Rules.rounded_to`)

At each level of a tree, every site shares the sums of g and h, and the numbers of patients with and without the
outcome, by node, covariate and bin. On shares: the sums of both sides of every split, their values and gains; a split
whose sides do not both hold `min_leaf` patients, `min_cell` of them with and `min_cell` without the outcome, gets a
gain below zero. The arg max of a node's own gain and those of its splits is opened, and of a node that stays a leaf,
its value. Histograms, sums, gains and counts are not.

Who knows the covariates of all patients knows p_i and H, and would find in an exact value how many patients of the leaf
had the outcome; from two leaves that differ by one patient, whether that patient had. Hence the rounding of G: the sum
over a leaf then says that number to 4 more or fewer, while it varies by the root of H anyhow.

Quotients are rounded exactly (`Session.rounded_quotient`) and of equal gains the first wins, so that what is opened is
a function of the pooled rows alone.

Source of gains and values: Chen, Guestrin 2016 (XGBoost, KDD), equations 5-7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthema.learning.ensemble import VALUE_BITS, VALUE_UNIT, Tree, leaf_values
from synthema.learning.tree_splits import Split

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GRADIENT_BITS = 12
_UNIT = 1 << GRADIENT_BITS
# Of scores in gradients. A patient's g is then at least .0067, so that nobody makes up more than .89 of the sum of |g|
# over 20 patients: the dominance rule (`synthema.learning.dominance`) holds for every leaf.
LARGEST_SCORE = 5.0
# |G| <= 152 H, each patient's g being at most 151 times h; a test goes through all p.
LARGEST_VALUE = 256
# What is opened of the outcome before any tree: the part of patients that have it, in such units.
RATE_BITS = 12
# Of a histogram, by node.
N_STATISTICS = 4


@dataclass(frozen=True, slots=True)
class Rules:
    """What a fit asks of splits, and its public bounds.

    l2              added to each H
    min_leaf        fewest patients of a leaf
    min_cell        fewest of them with, and fewest without the outcome
    min_gain        least gain of a split beyond that of its node
    most_patients   of all sites
    """

    l2: float
    min_leaf: int
    min_cell: int
    min_gain: float
    most_patients: int

    @property
    def l2_units(self) -> int:
        """In units of 2^-12."""
        return round(self.l2 * _UNIT)

    @property
    def rounded_to(self) -> int:
        """Patients to whose multiples a leaf's sum of g is rounded: the power of two from `min_cell` on."""
        return 1 << (self.min_cell - 1).bit_length()

    @property
    def largest_sum(self) -> int:
        """Bound of what sites share."""
        return self.most_patients << GRADIENT_BITS

    @property
    def gain_units(self) -> int:
        """In units of 2^-24, those of gains."""
        return round(self.min_gain * (1 << GRADIENT_BITS + VALUE_BITS))


def gradients(scores: npt.NDArray[np.floating[Any]], outcome: Bools) -> tuple[Ints, Ints]:
    """Return g and h of each patient in units of 2^-12.

    Examples
    --------
    >>> g, h = gradients(np.array([0.0, 9.0]), np.array([True, True]))
    >>> g.tolist(), h.tolist()
    ([-2048, -27], [1024, 27])
    """
    p = 1 / (1 + np.exp(-np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE)))
    g = np.rint((p - outcome) * _UNIT).astype(np.int64)
    h = np.rint(p * (1 - p) * _UNIT).astype(np.int64)
    return g, h


def largest_part(min_leaf: int) -> float:
    """Return the largest part that one patient may have of the sum of |g| over a leaf of so many patients.

    Examples
    --------
    >>> round(largest_part(20), 3), round(largest_part(100), 3)
    (0.888, 0.604)
    """
    (least, most), _ = gradients(np.array([-LARGEST_SCORE, LARGEST_SCORE]), np.zeros(2, dtype=np.bool_))
    return float(most / (most + (min_leaf - 1) * least))


def start_of(rate: int) -> float:
    """Return the log odds of an opened rate, in units of 2^-12; of one that was rounded to 0 or 1, of half a unit."""
    share = min(max(float(rate), 0.5), 2**RATE_BITS - 0.5) / 2**RATE_BITS
    return math.log(share / (1 - share))


class Course:
    """How far a fit is, from what was opened: the same at every site and at whoever puts the answer together.

    What is opened of a level has one entry for each of its nodes: [0, value] for a node that stays a leaf, [k] for one
    that is parted by split k - 1, and at the last level [k, value left, value right].
    """

    def __init__(self, *, rounds: int, depth: int) -> None:
        self._rounds, self._depth = rounds, depth
        self.rate: int | None = None
        self.trees: list[Tree] = []
        self.level = 0
        # Nodes of the tree that is growing, by number: the children of i are 2 i + 1 and 2 i + 2.
        self._nodes: dict[int, int | tuple[int]] = {}
        self.active: tuple[int, ...] = (0,)
        self.finished = False

    @property
    def due(self) -> str:
        """Name of the next contribution."""
        return "counts" if self.rate is None else f"tree-{len(self.trees)}/level-{self.level}"

    @property
    def is_last_level(self) -> bool:
        """Whether the children of this level's nodes are leaves."""
        return self.level == self._depth - 1

    def take(self, opened: Any) -> None:
        """Take what was opened of the contribution that was due."""
        if self.rate is None:
            self.rate = int(opened)
            return
        children: list[int] = []
        for node, (number, *values) in zip(self.active, opened, strict=True):
            if number == 0:
                self._nodes[node] = int(values[0])
                continue
            self._nodes[node] = (int(number) - 1,)
            sides = (2 * node + 1, 2 * node + 2)
            if self.is_last_level:
                self._nodes |= {side: int(value) for side, value in zip(sides, values, strict=True)}
            else:
                children.extend(sides)
        self.active, self.level = tuple(children), self.level + 1
        if not children:
            self._end_tree()

    def _end_tree(self) -> None:
        tree = self._tree(0)
        # Without a split, another tree would have none either: its value is that of all patients, which start is.
        if isinstance(tree, list):
            self.trees.append(tree)
        self.finished = not isinstance(tree, list) or len(self.trees) == self._rounds
        self._nodes, self.active, self.level = {}, (0,), 0

    def _tree(self, node: int) -> Tree:
        found = self._nodes[node]
        return found if isinstance(found, int) else [found[0], self._tree(2 * node + 1), self._tree(2 * node + 2)]


class SiteCourse:
    """A site's rows in the course of a fit: which node each patient is in, and the histograms of the nodes.

    Parameters
    ----------
    codes
        Shape (covariates, n).
    outcome
        Shape (n,).
    splits
        All, in order.
    """

    def __init__(
        self,
        codes: npt.NDArray[np.uint8],
        outcome: Bools,
        *,
        course: Course,
        splits: Sequence[Split],
        sizes: Sequence[int],
        learning_rate: float,
    ) -> None:
        self.course = course
        self._codes, self._outcome, self._splits, self._sizes = codes, outcome, splits, sizes
        self._rate = learning_rate
        self._total: Ints = np.zeros(len(outcome), dtype=np.int64)
        self._node = np.zeros(len(outcome), dtype=np.intp)
        self._gradients: tuple[Ints, Ints] = (self._total, self._total)

    def take(self, opened: Any) -> None:
        """Move on by what was opened."""
        course, n_trees = self.course, len(self.course.trees)
        parted = dict(zip(course.active, opened, strict=True)) if course.rate is not None else {}
        course.take(opened)
        if course.level == 0:
            if len(course.trees) > n_trees:
                self._total += leaf_values(course.trees[-1], self._splits, self._codes)
            scores = start_of(course.rate or 0) + self._rate * VALUE_UNIT * self._total
            self._gradients = gradients(scores, self._outcome)
            self._node[:] = 0
            return
        # Position of a patient's node among the active ones, -1 in a leaf.
        place = {node: i for i, node in enumerate(course.active)}
        node = np.full_like(self._node, -1)
        for i, (number, (split, *_)) in enumerate(parted.items()):
            if split:
                rows = np.flatnonzero(self._node == i)
                rule = self._splits[split - 1]
                left = rule.goes_left[self._codes[rule.feature, rows]]
                node[rows] = np.where(left, place[2 * number + 1], place[2 * number + 2])
        self._node = node

    def counts(self) -> Ints:
        """Return the numbers of patients with and without the outcome."""
        return np.bincount(~self._outcome, minlength=2).astype(np.int64)

    def histograms(self) -> Ints:
        """Return the sums of g and h, and the patients with and without the outcome, by node and code.

        Returns
        -------
        Shape (nodes, 4, codes of all covariates).
        """
        rows = np.flatnonzero(self._node >= 0)
        whole = len(rows) == len(self._node)
        node = self._node if whole else self._node[rows]
        g, h = (each if whole else each[rows] for each in self._gradients)
        no = ~(self._outcome if whole else self._outcome[rows])
        n_nodes = len(self.course.active)
        parts = []
        for size, codes in zip(self._sizes, self._codes, strict=True):
            cell = node * size + (codes if whole else codes[rows])
            # Sums of weights are exact: below 2^53 in doubles.
            sums = [np.bincount(cell, weights=each, minlength=n_nodes * size).astype(np.int64) for each in (g, h)]
            split = np.bincount(2 * cell + no, minlength=2 * n_nodes * size).astype(np.int64).reshape(-1, 2)
            parts.append(np.stack([*sums, split[:, 0], split[:, 1]]).reshape(N_STATISTICS, n_nodes, size))
        return np.ascontiguousarray(np.concatenate(parts, axis=2).transpose(1, 0, 2))
