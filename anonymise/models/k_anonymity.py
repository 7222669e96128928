"""k-anonymity: nobody stands in a crowd of fewer than k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anonymise._checks import is_whole
from anonymise.classes import BoolArray, Classes, IntArray


@dataclass(frozen=True, slots=True)
class KAnonymity:
    """Each released patient agrees with at least k - 1 others on all quasi-identifiers.

    k   least class size, >= 2 (EMA Policy 0070 uses a risk of 0.09, that is k = 11, for public release)

    It hinders singling a patient out. It does not hide what a class has in common, does not compose over repeated
    releases, and is no differential privacy.
    Source: Samarati 2001, IEEE TKDE 13(6); Sweeney 2002, IJUFKS 10(5).

    Examples
    --------
    >>> from anonymise.classes import Classes
    >>> KAnonymity(3).class_fails(Classes(np.array([1, 2, 3, 40]), n_rows=46)).tolist()
    [True, True, False, False]
    """

    k: int

    attribute: ClassVar[None] = None
    needs_population: ClassVar[bool] = False
    # A part of a class is smaller than the class, and a union is larger than its parts.
    downward_closed: ClassVar[bool] = True
    monotone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not is_whole(self.k, least=2):
            raise ValueError(f"k must be an integer >= 2 (1 protects nobody), got {self.k!r}")

    @property
    def least_rows(self) -> int:
        """Fewer than k patients cannot form a class."""
        return self.k

    def class_fails(self, classes: Classes) -> BoolArray:
        """Return which classes have fewer than k patients, shape (n_classes,)."""
        return np.asarray(classes.sizes < self.k)

    def least_lost(self, classes: Classes) -> IntArray:
        """Return the sizes: every part of a class that is too small is too small."""
        return classes.sizes
