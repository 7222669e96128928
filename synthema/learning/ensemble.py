"""An ensemble of trees: values and scores, exact as plain data.

A tree is a leaf or a split. A leaf is a whole number, its value in units of 2^-12 log odds before the learning rate; a
split is [number of the split, left tree, right tree], where the number is that of the ensemble's own list of splits.
The score of a patient is the start plus the learning rate times the sum of the values of all leaves that it falls in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthema.learning.tree_splits import Features, Split

if TYPE_CHECKING:
    from privacy.schema import Frame
    from synthema.learning.tree_splits import Rows

Floats = npt.NDArray[np.float64]
# A leaf, or a split and its two sides.
Tree = int | list[Any]

VALUE_BITS = 12
VALUE_UNIT = 2.0**-VALUE_BITS


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Boosted trees for an outcome of yes or no.

    start           log odds before any tree
    learning_rate   factor of every leaf's value
    splits          those that some tree uses
    trees           see above
    """

    features: Features
    start: float
    learning_rate: float
    splits: tuple[Split, ...]
    trees: tuple[Tree, ...]

    def scores(self, rows: Rows | Frame) -> Floats:
        """Return the log odds of each row, shape (n,). Raises SchemaError for values that no covariate has."""
        codes = self.features.encode(rows)
        total = np.zeros(codes.shape[1], dtype=np.int64)
        for tree in self.trees:
            total += leaf_values(tree, self.splits, codes)
        return np.asarray(self.start + self.learning_rate * VALUE_UNIT * total, dtype=np.float64)

    def split_counts(self) -> tuple[int, ...]:
        """Return how many splits are by each covariate."""
        counts: Counter[int] = Counter()
        waiting = list(self.trees)
        while waiting:
            tree = waiting.pop()
            if isinstance(tree, list):
                counts[self.splits[tree[0]].feature] += 1
                waiting.extend(tree[1:])
        return tuple(counts[i] for i in range(len(self.features.columns)))

    def importances(self) -> Floats:
        """Return the weight of each covariate, shape (covariates,), adding up to 1, or 0 everywhere without a split.

        The part of all splits; where every tree is of one covariate alone, the range of its log odds as a part of all
        ranges, for then the number of splits says how many bins it has.
        """
        counts = np.array(self.split_counts(), dtype=np.float64)
        weights = counts
        if all(len(self._used(tree)) == 1 for tree in self.trees) and len(self.trees) <= len(counts):
            weights = np.zeros_like(counts)
            for tree in self.trees:
                found = _leaves(tree)
                weights[next(iter(self._used(tree)))] += max(found) - min(found)
        total = float(weights.sum())
        return weights / total if total else weights

    def _used(self, tree: Tree) -> set[int]:
        if isinstance(tree, int):
            return set()
        return {self.splits[tree[0]].feature} | self._used(tree[1]) | self._used(tree[2])

    @property
    def n_leaves(self) -> int:
        """Leaves of all trees."""
        return len(self.trees) + sum(self.split_counts())

    def to_json(self) -> dict[str, Any]:
        """Return the ensemble as plain data."""
        return {
            "covariates": self.features.to_dict(),
            "start": repr(self.start),
            "learning_rate": repr(self.learning_rate),
            "splits": [
                [split.feature, "".join("01"[int(left)] for left in split.goes_left.tolist())] for split in self.splits
            ],
            "trees": list(self.trees),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ensemble:
        """Return what `to_json` wrote. Raises ValueError for anything else."""
        features = Features.from_dict(data["covariates"])
        splits = tuple(Split(int(feature), np.array([c == "1" for c in codes])) for feature, codes in data["splits"])
        for split in splits:
            if not 0 <= split.feature < len(features.columns):
                raise ValueError("a split is by no covariate of this model")
            if len(split.goes_left) != features.sizes[split.feature]:
                raise ValueError("a split does not fit its covariate")
        trees = tuple(_checked(tree, len(splits)) for tree in data["trees"])
        return cls(features, float(data["start"]), float(data["learning_rate"]), splits, trees)


def _leaves(tree: Tree) -> list[int]:
    return [tree] if isinstance(tree, int) else _leaves(tree[1]) + _leaves(tree[2])


def _checked(tree: Any, n_splits: int) -> Tree:
    if isinstance(tree, bool) or not isinstance(tree, int | list | tuple):
        raise ValueError("this is no tree")
    if isinstance(tree, int):
        return tree
    if len(tree) != 3 or isinstance(tree[0], bool) or not isinstance(tree[0], int) or not 0 <= tree[0] < n_splits:
        raise ValueError("this is no tree")
    return [tree[0], _checked(tree[1], n_splits), _checked(tree[2], n_splits)]


def leaf_values(tree: Tree, splits: Sequence[Split], codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the value of the leaf that each row falls in, shape (n,). `codes`: shape (covariates, n)."""
    out = np.empty(codes.shape[1], dtype=np.int64)
    waiting: list[tuple[Tree, npt.NDArray[np.intp]]] = [(tree, np.arange(codes.shape[1]))]
    while waiting:
        node, rows = waiting.pop()
        if isinstance(node, int):
            out[rows] = node
            continue
        split = splits[node[0]]
        left = split.goes_left[codes[split.feature, rows]]
        waiting += [(node[1], rows[left]), (node[2], rows[~left])]
    return out


def compacted(
    features: Features, all_splits: Sequence[Split], trees: Sequence[Tree], *, start: float, learning_rate: float
) -> Ensemble:
    """Return the ensemble with a list of the splits that its trees use, which are given by number of all splits."""
    numbers: dict[int, int] = {}

    def renumbered(tree: Tree) -> Tree:
        if isinstance(tree, int):
            return tree
        return [numbers.setdefault(tree[0], len(numbers)), renumbered(tree[1]), renumbered(tree[2])]

    kept = tuple(renumbered(tree) for tree in trees)
    return Ensemble(features, start, learning_rate, tuple(all_splits[number] for number in numbers), kept)
