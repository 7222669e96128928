"""The metrics by name, and what each of them can be told: weights of columns, the factor, a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from anonymise.quality.base import Problem, Quality
from anonymise.quality.class_sizes import AverageClassSize, Discernibility
from anonymise.quality.classification import Classification
from anonymise.quality.kl_divergence import KLDivergence
from anonymise.quality.non_uniform_entropy import NonUniformEntropy
from anonymise.quality.separable import Separable

QualityName = Literal[
    "loss",
    "loss_geometric",
    "precision",
    "entropy",
    "non_uniform_entropy",
    "discernibility",
    "average_class_size",
    "kl_divergence",
    "classification",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric and what it takes.

    weights   whether columns can differ in importance
    factor    whether generalisation can be weighed against suppression
    target    whether it needs a column to predict
    """

    build: Callable[[Problem], Quality]
    weights: bool
    factor: bool
    target: bool = False


QUALITIES: Final[dict[QualityName, Entry]] = {
    "loss": Entry(lambda problem: Separable(problem, "loss"), weights=True, factor=True),
    "loss_geometric": Entry(lambda problem: Separable(problem, "loss", "geometric"), weights=True, factor=True),
    "precision": Entry(lambda problem: Separable(problem, "precision"), weights=True, factor=True),
    "entropy": Entry(lambda problem: Separable(problem, "entropy"), weights=True, factor=True),
    "non_uniform_entropy": Entry(NonUniformEntropy, weights=True, factor=True),
    "discernibility": Entry(Discernibility, weights=False, factor=False),
    "average_class_size": Entry(AverageClassSize, weights=False, factor=True),
    "kl_divergence": Entry(KLDivergence, weights=False, factor=False),
    "classification": Entry(Classification, weights=False, factor=True, target=True),
}
