"""Boosted trees with noise: one covariate after the other, leaves chosen without looking at patients.

A round takes the next covariate, puts its bins together to at most 2^depth leaves, and opens the noisy sum of g over
each leaf (a missing value is a leaf of its own). Which bins come together is a public draw, another one in every
round, and over many rounds adds up to a curve as fine as the bins. In the rounds before, the noisy numbers of patients
by bin are opened, once for each covariate. A leaf's value is

    -G / (max(N, 0) / 4 + sd of the noise in G + l2),

N its noisy number of patients, of which 1/4 is the largest curvature. All trees of a covariate add up to one, with a
leaf for each bin.

In every round a patient is in one leaf, and adds a number of at most 1 to it, in units of 2^-12 at most 2^12: rounds
have the same sensitivity, and the same noise.

Source: Nori, Caruana, Bu, Shen, Kulkarni 2021 (ICML), arXiv:2106.09680, whose noise is continuous and one curator's.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthema.errors import StudyError
from synthema.learning.boosting_exact import GRADIENT_BITS, gradients
from synthema.learning.boosting_fit import known_rows
from synthema.learning.ensemble import VALUE_BITS, VALUE_UNIT, Tree, compacted
from synthema.learning.model import Contribution
from synthema.learning.noisy_sums import noise_std, open_noisy_sum, sum_event
from synthema.learning.tree_splits import Features, Split

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Event, Schema
    from privacy.schema import Column
    from synthema.learning.boosting import BoostedTreesSpec
    from synthema.learning.model import Rounds
    from synthema.study import Study

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# What a patient adds to a count, and at most to a sum of g.
LARGEST_PART = 1 << GRADIENT_BITS
# Of a leaf, in log odds: what noise alone could give is cut.
_LARGEST_VALUE = 2.0


def event(spec: BoostedTreesSpec, study: Study, rho: float) -> Event:
    """Return the event of all sums of a fit; see `ModelSpec.event`."""
    features = spec.features(study.data_schema)
    return sum_event(
        study,
        rho,
        dimension=max(features.sizes),
        l1_sensitivity=LARGEST_PART,
        l2_sensitivity_squared=LARGEST_PART**2,
        n_rounds=len(features.columns) + spec.rounds,
    )


def leaves_of(column: Column, *, round_number: int, most: int) -> npt.NDArray[np.int64]:
    """Return the leaf of each code of a covariate in a round, shape (n_codes,); public.

    Numbers are cut at edges, categories are put together anyhow; a missing value has the last leaf. Drawn by SHA-256,
    so that all sites draw the same.
    """
    n_known = column.n_codes - int(column.nullable)
    leaves = np.zeros(column.n_codes, dtype=np.int64)
    n_leaves = min(most, n_known)

    def order(what: str, n: int) -> list[int]:
        return sorted(
            range(n), key=lambda i: hashlib.sha256(f"{what} {column.name} {round_number} {i}".encode()).digest()
        )

    if column.categories:
        for place, code in enumerate(order("category", n_known)):
            leaves[code] = place % n_leaves
    else:
        cuts = sorted(1 + each for each in order("edge", n_known - 1)[: n_leaves - 1])
        leaves[:n_known] = np.searchsorted(cuts, np.arange(n_known), side="right")
    if column.nullable:
        leaves[-1] = n_leaves
    return leaves


class NoisyCourse:
    """How far a fit is, from what was opened: the same at every site and at whoever puts the answer together.

    values   of each code of each covariate, in units of 2^-12 log odds before the learning rate
    """

    def __init__(self, spec: BoostedTreesSpec, features: Features) -> None:
        self._features, self._rounds = features, spec.rounds
        self._most, self._l2 = 2**spec.depth, spec.l2
        self._n = 0
        self._counts: list[Floats] = []
        self.values: list[Ints] = [np.zeros(size, dtype=np.int64) for size in features.sizes]

    @property
    def finished(self) -> bool:
        """Whether nothing more is opened."""
        return self._n == len(self._features.columns) + self._rounds

    @property
    def due(self) -> str:
        """Name of the next contribution."""
        return f"sums/{self._n}"

    @property
    def is_count(self) -> bool:
        """Whether patients are counted by bin."""
        return self._n < len(self._features.columns)

    @property
    def covariate(self) -> int:
        """The covariate whose turn it is."""
        return self._n % len(self._features.columns)

    @property
    def leaves(self) -> Ints:
        """The leaf of each of its codes."""
        column = self._features.columns[self.covariate]
        if self.is_count:
            return np.arange(column.n_codes)
        return leaves_of(column, round_number=self._n, most=self._most)

    def take(self, opened: Any) -> None:
        """Take what was opened: the noise's standard deviation, in units, and the sums."""
        std, sums = float(opened[0]), np.array(opened[1], dtype=np.float64)
        j, leaves = self.covariate, self.leaves
        sums, std = sums[: leaves.max() + 1] / LARGEST_PART, std / LARGEST_PART
        if self.is_count:
            self._counts.append(sums)
        else:
            patients = np.bincount(leaves, weights=self._counts[j], minlength=len(sums))
            step = -sums / (np.maximum(patients, 0) / 4 + std + self._l2)
            step = np.clip(step, -_LARGEST_VALUE, _LARGEST_VALUE)
            self.values[j] = self.values[j] + np.rint(np.ldexp(step, VALUE_BITS)).astype(np.int64)[leaves]
        self._n += 1

    def trees(self) -> tuple[tuple[Split, ...], list[Tree]]:
        """Return splits, and a tree for each covariate that has any effect: its codes one after the other."""
        splits: list[Split] = []
        trees: list[Tree] = []
        for j, values in enumerate(self.values):
            tree: Tree = int(values[-1])
            codes = np.arange(len(values))
            for code in range(len(values) - 2, -1, -1):
                splits.append(Split(j, codes == code))
                tree = [len(splits) - 1, int(values[code]), tree]
            trees.append(tree)
        return tuple(splits), trees


class AtSite:
    """See `SiteHalf`."""

    def __init__(self, spec: BoostedTreesSpec, schema: Schema, rows: pd.DataFrame) -> None:
        self._codes, self._outcome = known_rows(spec, schema, rows)
        features = spec.features(schema)
        self._course = NoisyCourse(spec, features)
        self._length = max(features.sizes)
        self._rate = spec.learning_rate
        self._started = False

    def contribute(self, what: str, opened: Any) -> Contribution:
        """See `SiteHalf`."""
        if self._started:
            self._course.take(opened)
        self._started = True
        course = self._course
        if course.finished or what != course.due:
            raise StudyError(f"boosted trees: no {what!r} is due")
        leaf = course.leaves[self._codes[course.covariate]]
        if course.is_count:
            return Contribution(np.bincount(leaf, minlength=self._length) * LARGEST_PART)
        total = np.zeros(len(leaf), dtype=np.int64)
        for codes, values in zip(self._codes, course.values, strict=True):
            total += values[codes]
        g, _ = gradients(self._rate * VALUE_UNIT * total, self._outcome)
        return Contribution(np.bincount(leaf, weights=g, minlength=self._length).astype(np.int64))


def fit(spec: BoostedTreesSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`."""
    features = spec.features(rounds.schema)
    course = NoisyCourse(spec, features)
    std, opened = noise_std(rounds), None
    while not course.finished:
        sums = open_noisy_sum(rounds, course.due, opened=opened)
        opened = (std, sums.tolist())
        course.take(opened)
    splits, trees = course.trees()
    ensemble = compacted(features, splits, trees, start=0.0, learning_rate=spec.learning_rate)
    return ensemble.to_json() | {"noise_std": repr(std / LARGEST_PART)}
