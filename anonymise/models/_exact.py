"""Limits compared in whole numbers, so that "inclusive" and "strictly" mean what they say."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy.typing as npt


@lru_cache(maxsize=256)
def ratio(value: float) -> tuple[int, int]:
    """Return numerator and denominator of a number as it was meant: 0.29 of 100 rows are 29, 1 / 3 of 6 rows are 2.

    That is the fraction of the smallest denominator up to a million that is this number in floating point; a number
    without one is taken as the decimal that it prints as.

    Examples
    --------
    >>> ratio(0.29), ratio(1 / 3)
    ((29, 100), (1, 3))
    """
    meant = Fraction(float(value)).limit_denominator(1_000_000)
    return (meant if float(meant) == value else Fraction(repr(float(value)))).as_integer_ratio()


def exact(largest: int, *arrays: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Return the arrays as they are if products up to `largest` fit 64 bits, else as Python's integers (slow)."""
    return arrays if largest < 1 << 62 else tuple(array.astype(object) for array in arrays)
