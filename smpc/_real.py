"""What the functions of a real number ask of their operands, and how they round their results.

f, u         fractional bits of the result, and its unit 2^-f
least, most  public range of a shared number, which the caller vouches for as with `Shared.declare`
"""

from __future__ import annotations

import math
from fractions import Fraction

from privacy._checks import check_count, check_positive
from smpc._rounds import Rounds
from smpc.approximation import MOST_BITS, Pieces, Smooth, pieces
from smpc.errors import RangeExceeded, SessionMismatch
from smpc.normalise import Exponents
from smpc.ring import RING64, Words
from smpc.shared import Shared
from smpc.truncation import Truncating, truncated


class RealOperands(Rounds):
    """Checks of operands, and the last rounding."""

    truncation: Truncating

    async def _rounded(self, x: Words, n_bits: int) -> Words:
        how: Truncating = "exact" if self.truncation == "exact" else "stochastic"
        return await truncated(self, x, n_bits, how)

    def _ranged(self, x: Shared) -> tuple[Words, int]:
        """Return the words of an array of a declared range, in one row, and the range in units."""
        if not isinstance(x, Shared):
            raise TypeError(f"expected a Shared value, got {type(x).__name__}")
        if x.session is not self:
            raise SessionMismatch
        if x.domain is not RING64:
            raise ValueError(f"numbers in {x.domain} have no fractions: share them in RING64")
        if x.bound is None:
            raise RangeExceeded(
                rule="a function of a real number needs a declared range",
                way_out="declare max_abs with the input, or call declare",
            )
        return words_of(x).reshape(-1), x.bound

    def _positive(self, x: Shared, least: float, most: float | None, *, zero: bool = False) -> tuple[Words, Exponents]:
        flat, bound = self._ranged(x)
        if not zero or least != 0:
            check_positive("least", least)
        unit = 2**x.frac_bits
        low = max(math.floor(Fraction(least) * unit), 0 if zero and least == 0 else 1)
        high = bound if most is None else min(bound, math.ceil(Fraction(most) * unit))
        if high < max(low, 1):
            raise ValueError(f"least must be at most most, and within the declared range, got {least!r}")
        if high >= 2**MOST_BITS:
            raise too_large("the range")
        return flat, Exponents(low, high)


def unit_pieces(function: Smooth, exponents: Exponents, *, precision: int, largest: float) -> Pieces:
    """Return the plan for [1, 2), with as many fractional bits as `normalised` gives."""
    one = 2**exponents.highest
    return pieces(function, low=one, high=2 * one, frac_bits=exponents.highest, precision=precision, largest=largest)


def powers_of(exponents: Exponents, frac_bits: int) -> range:
    """Return the exponents of the real numbers."""
    return range(exponents.lowest - frac_bits, exponents.highest - frac_bits + 1)


def checked_frac_bits(frac_bits: int) -> int:
    """Return the fractional bits of a result: at least one."""
    check_count("frac_bits", frac_bits)
    return frac_bits


def too_large(what: str) -> RangeExceeded:
    """Return the error for what does not fit."""
    return RangeExceeded(
        rule=f"{what} is too large for this error in words of 64 bits",
        way_out="declare a smaller range (least=, most=), or use fewer fractional bits",
    )


def real_result(x: Shared, words: Words, bound: int, frac_bits: int) -> Shared:
    """Return words as the result of a function of `x`, in its shape."""
    return Shared(x.session, RING64, words.reshape(x.shape), bound=bound, frac_bits=frac_bits)


def words_of(x: Shared) -> Words:
    """Return this party's share."""
    return x._share  # noqa: SLF001 - a session is the friend of its shared values
