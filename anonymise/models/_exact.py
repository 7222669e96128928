"""Limits compared in whole numbers, so that "inclusive" and "strictly" mean what they say."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy.typing as npt


def ratio(value: float) -> tuple[int, int]:
    """Return numerator and denominator of a number as the decimal it was written as: 0.29 of 100 rows are 29.

    Examples
    --------
    >>> ratio(0.29)
    (29, 100)
    """
    return Fraction(repr(float(value))).as_integer_ratio()


def exact(largest: int, *arrays: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Return the arrays as they are if products up to `largest` fit 64 bits, else as Python's integers (slow)."""
    return arrays if largest < 1 << 62 else tuple(array.astype(object) for array in arrays)
