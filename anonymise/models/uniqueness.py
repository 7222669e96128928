"""Models of the whole release: average risk, sample uniqueness, population uniqueness.

s_i  rows of the i-th released class; n = sum s_i; m classes

They do not judge a class. Where a release fails, its smallest classes are suppressed, as in ARX, until it passes. Where
not all of one size must go, ARX begins with those of least loss; here the order of the public codes decides.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, get_args

import numpy as np

from anonymise._checks import check_number, is_whole
from anonymise.classes import IntArray
from anonymise.models._exact import ratio
from anonymise.population import Estimator, population_uniqueness


@dataclass(frozen=True, slots=True)
class AverageRisk:
    """The average risk of a released row under the prosecutor's attack, m / n, is at most the threshold.

    threshold  in (0, 1), inclusive

    An average bounds nobody's own risk: a patient may be alone in a class while others stand in large ones. Combine it
    with k-anonymity.
    Source: El Emam 2013, "Guide to the De-Identification of Personal Health Information", CRC Press, chapter 16 (Ra).

    Examples
    --------
    >>> AverageRisk(0.2).least_dropped(np.array([1, 1, 5, 9]))
    1
    """

    threshold: float

    # A merger has fewer classes.
    monotone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, above=0.0, below=1.0, hint="an average class of 1 / threshold rows")

    @property
    def least_rows(self) -> int:
        """A table with fewer rows has a risk above the threshold in a single class."""
        top, bottom = ratio(self.threshold)
        return -(-bottom // top)

    def satisfied(self, sizes: IntArray) -> bool:
        """Return whether classes of these sizes may be released."""
        top, bottom = ratio(self.threshold)
        return int(sizes.size) * bottom <= top * int(sizes.sum())

    def least_dropped(self, sizes: IntArray) -> int:
        """Return how many of the smallest classes must go; sizes ascending."""
        top, bottom = ratio(self.threshold)
        n = int(sizes.sum())
        gone = np.concatenate([[0], np.cumsum(sizes)])
        # The average class grows with each smallest one that goes: the first number that is enough is bisected.
        low, high = 0, int(sizes.size)
        while low < high:
            middle = (low + high) // 2
            if (sizes.size - middle) * bottom <= top * (n - int(gone[middle])):
                high = middle
            else:
                low = middle + 1
        return low


@dataclass(frozen=True, slots=True)
class SampleUniqueness:
    """At most a share of the released rows is alone in its class.

    threshold  in [0, 1), inclusive

    The rows that are alone are singled out by everybody who knows their quasi-identifiers; the model only counts them.
    Source: Skinner, Elliot 2002, JRSS B 64(4) (uniqueness as a measure of risk).
    """

    threshold: float

    # Who is not alone is not alone after a merger.
    monotone: ClassVar[bool] = True
    least_rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, above=-1e-300, below=1.0, hint="1 lets every row be alone")

    def satisfied(self, sizes: IntArray) -> bool:
        """Return whether classes of these sizes may be released."""
        top, bottom = ratio(self.threshold)
        return int((sizes == 1).sum()) * bottom <= top * int(sizes.sum())

    def least_dropped(self, sizes: IntArray) -> int:
        """Return how many rows that are alone must go; sizes ascending."""
        # u - d <= threshold (n - d)
        top, bottom = ratio(self.threshold)
        alone = int((sizes == 1).sum())
        return max(0, -((top * int(sizes.sum()) - alone * bottom) // (bottom - top)))


@dataclass(frozen=True, slots=True)
class PopulationUniqueness:
    """At most a share of the population is estimated to be alone in its class.

    threshold        in [0, 1), inclusive
    population_size  people of whom the table is a simple random sample
    estimator        see `anonymise.population`; "dankar" is what ARX reports

    An estimate that is 0 counts only where nobody is alone in the table, as in ARX; one that did not converge satisfies
    nothing. It is an estimate from a model of the population, right for random samples alone: patients of one ward or
    one year are none. Who is alone in the table and known to be in it is singled out whatever the population.
    Source: Dankar, El Emam, Neisa, Roffey 2012, BMC Med Inform Decis Mak 12:66.
    """

    threshold: float
    _: KW_ONLY
    population_size: int
    estimator: Estimator = "dankar"

    # The models of the population are fitted anew to every release, and a fit can jump.
    monotone: ClassVar[bool] = False
    least_rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, above=-1e-300, below=1.0, hint="1 lets everybody be alone")
        if not is_whole(self.population_size, least=1):
            raise ValueError(f"population_size must be an integer >= 1, got {self.population_size!r}")
        if self.estimator not in get_args(Estimator):
            raise ValueError(f"estimator must be one of {', '.join(get_args(Estimator))}, got {self.estimator!r}")

    def satisfied(self, sizes: IntArray) -> bool:
        """Return whether classes of these sizes may be released."""
        if not (sizes == 1).any():
            return True
        share = population_uniqueness(sizes, population_size=self.population_size, estimator=self.estimator).value
        return share is not None and 0.0 < share <= self.threshold

    def least_dropped(self, sizes: IntArray) -> int:
        """Return how many rows that are alone must go; sizes ascending.

        The number is bisected as in ARX: with one less the release fails, though a far smaller number might pass where
        an estimate jumps.
        """
        if self.satisfied(sizes):
            return 0
        low, high = 0, int((sizes == 1).sum())
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.satisfied(sizes[middle:]) else (middle, high)
        return high
