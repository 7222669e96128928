"""Models of the whole release: average risk, sample uniqueness, population uniqueness.

s_i  rows of the i-th released class; n = sum s_i; m classes

They do not judge a class. Where a release fails, its smallest classes are suppressed, as in ARX, until it passes: all
classes below a size together, so that no other order than that of the sizes decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from anonymise._checks import check_number
from anonymise.classes import IntArray


@dataclass(frozen=True, slots=True)
class AverageRisk:
    """The average risk of a released row under the prosecutor's attack, m / n, is at most the threshold.

    threshold  in (0, 1), inclusive

    An average bounds nobody's own risk: a patient may be alone in a class while others stand in large ones. Combine it
    with k-anonymity.
    Source: El Emam 2013, "Guide to the De-Identification of Personal Health Information", CRC Press, chapter 16 (Ra).

    Examples
    --------
    >>> AverageRisk(0.2).least_size(np.array([1, 1, 5, 9]))
    5
    """

    threshold: float

    # A merger has fewer classes.
    monotone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, above=0.0, below=1.0, hint="an average class of 1 / threshold rows")

    @property
    def least_rows(self) -> int:
        """A table with fewer rows has a risk above the threshold in a single class."""
        return -(-1 // Fraction(repr(float(self.threshold))))

    def satisfied(self, sizes: IntArray) -> bool:
        """Return whether classes of these sizes may be released."""
        return int(sizes.size) <= Fraction(repr(float(self.threshold))) * int(sizes.sum())

    def least_size(self, sizes: IntArray) -> int:
        """Return the least size such that the classes of at least that size may be released; above all if none."""
        found, classes = np.unique(sizes, return_counts=True)
        # Classes and rows of at least each size: the average size rises with the size that is left.
        n_classes = np.cumsum(classes[::-1])[::-1]
        n_rows = np.cumsum((classes * found)[::-1])[::-1]
        threshold = Fraction(repr(float(self.threshold)))
        low, high = 0, int(found.size)
        while low < high:
            middle = (low + high) // 2
            if int(n_classes[middle]) <= threshold * int(n_rows[middle]):
                high = middle
            else:
                low = middle + 1
        if low == found.size:
            return int(sizes.max(initial=0)) + 1
        return 1 if low == 0 else int(found[low])


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
        return int((sizes == 1).sum()) <= Fraction(repr(float(self.threshold))) * int(sizes.sum())

    def least_size(self, sizes: IntArray) -> int:
        """Return 1 if the rows that are alone may be released, else 2."""
        return 1 if self.satisfied(sizes) else 2
