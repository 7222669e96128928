"""delta-presence: a released class tells little about whether somebody of the population is in the table.

T(C)  rows of the table in the class; P(C) people of the population table in it, those of the table included

Source: Nergiz, Atzori, Clifton 2007, "Hiding the presence of individuals from shared databases", SIGMOD, definition 1;
the estimate T(C) / P(C) for full-domain generalisation as in section 4 there and in ARX.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anonymise._checks import check_number
from anonymise.classes import BoolArray, Classes, IntArray
from anonymise.models._exact import exact, ratio


@dataclass(frozen=True, slots=True)
class DeltaPresence:
    """In each released class, low <= T(C) / P(C) <= high: the chance that a person of the class is in the table.

    low   least chance, in [0, 1); > 0 also keeps an outsider from learning that somebody is *not* in the table
    high  largest chance, in (0, 1]; both inclusive

    For tables where being in them is the secret (patients with one disease); needs a population table. It says nothing
    of sensitive values, and with high = 1 nothing of who is in the table. It does not compose over releases.
    """

    low: float
    high: float

    attribute: ClassVar[None] = None
    needs_population: ClassVar[bool] = True
    # Parts of a class share its people unevenly; the chance of a union lies between those of its parts.
    downward_closed: ClassVar[bool] = False
    monotone: ClassVar[bool] = True
    least_rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("high", self.high, above=0.0, most=1.0, hint="the largest chance of being in the table")
        check_number("low", self.low, above=-math.ulp(0.0), below=1.0, hint="the least chance of being in the table")
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got low={self.low!r} and high={self.high!r}")

    def class_fails(self, classes: Classes) -> BoolArray:
        """Return which classes have too many or too few of their people in the table, shape (n_classes,)."""
        sizes, people = exact(self._largest(classes), classes.sizes, classes.population())
        (low, low_of), (high, high_of) = ratio(self.low), ratio(self.high)
        return np.asarray((sizes * high_of > people * high) | (sizes * low_of < people * low), dtype=bool)

    def least_lost(self, classes: Classes) -> IntArray:
        """Return how many rows of each failing class are lost at every more specific node, shape (n_classes,).

        The kept parts have at most `high` of their people in the table, and no more people than the class. Where too
        few are in the table, nothing certain is lost: the others may fall into a part without rows.
        """
        sizes, people = exact(self._largest(classes), classes.sizes, classes.population())
        high, high_of = ratio(self.high)
        return np.asarray(np.maximum(sizes - people * high // high_of, 0), dtype=np.int64)

    def _largest(self, classes: Classes) -> int:
        return int(max(classes.population().max(initial=0), classes.sizes.max(initial=0))) * max(
            *ratio(self.low), *ratio(self.high)
        )
