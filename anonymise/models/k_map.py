"""k-map: each released row is like at least k people of a population, of which the table is a part.

f    sampling fraction: rows of the table divided by people of the population
k'   derived threshold: a class with k' rows is taken to stand for k people

With a population table the people of each class are counted. Without one, the rows |C| that a class of exactly k people
sends into a simple random sample are taken as Poisson with mean f k, and "this class has only k people" must be
rejected at the significance level a, as in ARX:

poisson                  k' = x + 2 for the least x >= 0 with P(X <= x) >= 1 - a, X ~ Poisson(f k)
zero_truncated_poisson   k' = x + 1 for the least x >= 1 with P(X <= x | X >= 1) >= 1 - a: only classes that the sample
                         hit are seen
both                     never more than k (k rows are k people) and never more than the rows of the table

The test itself asks for x + 1 in both cases; ARX's Poisson rule asks for one row more, and so does this one.
Source: Sweeney 2001 (k-map); Pannekoek 1999, Statistica Neerlandica 53(1) (Poisson); El Emam, Dankar 2008, JAMIA 15(5)
(the tests, "D3" and "D4").
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np

from anonymise._checks import check_number, is_whole
from anonymise.classes import BoolArray, Classes, IntArray

Estimator = Literal["poisson", "zero_truncated_poisson"]


@dataclass(frozen=True, slots=True)
class KMap:
    """Each released row agrees with at least k people of the population on all quasi-identifiers.

    k                   people, >= 2
    population_size     people of whom the table is a simple random sample; None: a population table is given
    estimator           "poisson" or "zero_truncated_poisson", see above; for population_size only
    significance_level  chance that a class of k people is taken for a larger one, in (0, 1)

    It protects from an outsider who does not know who is in the table. Who knows that a patient is in it (a relative, a
    colleague) singles the patient out in a class of one row: that takes k-anonymity. The estimate is an average over
    random samples; patients of one ward or one year are none, and a sampling fraction near 1, as in registers of rare
    diseases, leaves nothing but k-anonymity. It does not hide what a class has in common and does not compose.

    Examples
    --------
    >>> KMap(5, population_size=100_000, estimator="zero_truncated_poisson").least_class(1_000)
    3
    """

    k: int
    _: KW_ONLY
    population_size: int | None = None
    estimator: Estimator = "poisson"
    significance_level: float = 0.01

    attribute: ClassVar[None] = None
    # A part of a class has fewer people, and a union has more.
    downward_closed: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    # Few rows can stand for many people.
    least_rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not is_whole(self.k, least=2):
            raise ValueError(f"k must be an integer >= 2 (1 protects nobody), got {self.k!r}")
        if self.population_size is not None and not is_whole(self.population_size, least=1):
            raise ValueError(f"population_size must be an integer >= 1 or None, got {self.population_size!r}")
        if self.estimator not in {"poisson", "zero_truncated_poisson"}:
            raise ValueError(f'estimator must be "poisson" or "zero_truncated_poisson", got {self.estimator!r}')
        check_number("significance_level", self.significance_level, above=0.0, below=1.0, hint="0.01 in ARX's examples")

    @property
    def needs_population(self) -> bool:
        """Whether people are counted in a population table."""
        return self.population_size is None

    def least_class(self, n_rows: int) -> int:
        """Return k' for a table with so many rows; needs population_size."""
        if self.population_size is None:
            raise ValueError("k-map with a population table counts people, it derives no threshold of rows")
        if n_rows > self.population_size:
            raise ValueError(
                f"population_size must be at least the rows of the table, got {self.population_size!r}; "
                "the table is a part of the population"
            )
        derived = _derived(self.k, n_rows / self.population_size, self.estimator, self.significance_level)
        return min(self.k, n_rows, derived)

    def class_fails(self, classes: Classes) -> BoolArray:
        """Return which classes stand for fewer than k people, shape (n_classes,)."""
        if self.population_size is None:
            return np.asarray(classes.population() < self.k)
        return np.asarray(classes.sizes < self.least_class(classes.n_rows))

    def least_lost(self, classes: Classes) -> IntArray:
        """Return the sizes: every part of a class with too few people has too few."""
        return classes.sizes


@lru_cache(maxsize=64)
def _derived(k: int, fraction: float, estimator: Estimator, significance_level: float) -> int:
    truncated = estimator == "zero_truncated_poisson"
    mean = fraction * k
    # P(X >= 1), the condition of the truncated law.
    scale = -math.expm1(-mean) if truncated else 1.0
    total = 0.0
    for x in range(1 if truncated else 0, k):
        total += math.exp(x * math.log(mean) - mean - math.lgamma(x + 1)) / scale
        if total >= 1.0 - significance_level:
            return x + 1 if truncated else x + 2
    return k
