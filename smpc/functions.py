"""Sigmoid, exponential and logarithm of shared fixed-point numbers, with proved errors.

f, u  fractional bits of the result, and its unit 2^-f

Every function here and in `smpc.quotients` is right within

    1 unit     if the session's truncation is "exact": half a unit for the last rounding, and less than half before;
    1.5 units  if it is "stochastic" or "local": less than a unit for the last rounding;

`exp` adds exp(x) / 4 units. The argument counts as exact. A range that cannot be computed with this error in words of
64 bits is refused before anything is sent.

Rounds (r: of the last rounding, 1 stochastic, 3 or 4 exact; c: of a comparison to bits, 2 below 2^15 units, else 3):

    sigmoid, exp         1 + r; max(1 + r, c) + 1 for numbers that may lie beyond (f + 2) ln 2
    log                  c + 2 + r
    quotients and roots  c + 4 + r
    by a public divisor  r

Intermediate values are rounded stochastically, whatever the session's truncation: this is in the bound. "local"
truncation would be worthless for numbers of up to 61 bits, so that "stochastic" takes its place.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from smpc._real import checked_frac_bits, powers_of, real_result, too_large, unit_pieces
from smpc.approximation import EXP, LN2, LOG, MOST_BITS, SIGMOID, Pieces, nearest, pieces
from smpc.comparison import at_least, width_for
from smpc.conversion import gates
from smpc.normalise import normalised
from smpc.pieces import evaluate
from smpc.quotients import Quotients
from smpc.ring import Words
from smpc.shared import Shared


class Functions(Quotients):
    """The functions of one real number, and division, as methods of a session."""

    async def sigmoid(self, x: Shared, *, frac_bits: int | None = None) -> Shared:
        """Return 1 / (1 + exp(-x)), within 1 unit (exact) or 1.5 (stochastic). Two rounds stochastic, five exact.

        Numbers whose declared range goes beyond (f + 2) ln 2, which is 12.5 for 16 bits, are compared with it, which
        costs four rounds in all, or six if exact.

        Parameters
        ----------
        x
            Fixed-point numbers of a declared range.
        frac_bits
            Of the result; those of `x` by default.

        Raises
        ------
        RangeExceeded
            If the range is not declared.

        Examples
        --------
        >>> from smpc import run_local
        >>> async def protocol(s, x):
        ...     a = await s.input(x, max_abs=100.0, frac_bits=16)
        ...     return await s.open(await s.sigmoid(a[0]))
        >>> run_local(protocol, inputs=[[0.0, 2.0, -100.0], [0.0, 0.0, 0.0]]).results[0].round(3)
        array([0.5  , 0.881, 0.   ])
        """
        flat, bound = self._ranged(x)
        f = checked_frac_bits(x.frac_bits if frac_bits is None else frac_bits)
        # Beyond the cut, the sigmoid differs from 0 or 1 by less than exp(-cut) = 2^-(f+2), a quarter of a unit.
        # Inside, the polynomials lose as much.
        cut = math.ceil((f + 2) * math.log(2) * 2**x.frac_bits)
        reach = min(bound, cut)
        plan = pieces(SIGMOID, low=-reach, high=reach, frac_bits=x.frac_bits, precision=f + 2, largest=1.1)
        if bound <= cut:
            words = await self._core(flat, plan, f)
        else:
            width = _checked_width(bound + cut)
            words, bits = await self.together(self._core(flat, plan, f), at_least(self, flat, [-cut, cut], width))
            numbers, products = await gates(self, bits, words[None])
            words = products[0, 0] - products[1, 0] + (numbers[1] << np.uint64(f))
        return real_result(x, words, 2**f + 1, f)

    async def exp(self, x: Shared, *, most: float | None = None, frac_bits: int | None = None) -> Shared:
        """Return exp(x), within 1 + exp(x) / 4 units (exact) or 1.5 + exp(x) / 4 (stochastic). Rounds as `sigmoid`.

        Parameters
        ----------
        x
            Fixed-point numbers of a declared range.
        most
            No number is larger: the caller vouches for it. The end of the declared range by default. Numbers far below
            are no difficulty, their exponential is 0.
        frac_bits
            Of the result; those of `x` by default.

        Raises
        ------
        RangeExceeded
            If the range is not declared, or exp(most) is too large for this number of fractional bits: about
            e^14 at 16 bits, e^4 at 24.

        Examples
        --------
        >>> from smpc import run_local
        >>> async def protocol(s, x):
        ...     a = await s.input(x, max_abs=100.0, frac_bits=16)
        ...     return await s.open(await s.exp(a[0], most=2.0))
        >>> run_local(protocol, inputs=[[0.0, 2.0, -100.0], [0.0, 0.0, 0.0]]).results[0].round(3)
        array([1.   , 7.389, 0.   ])
        """
        flat, bound = self._ranged(x)
        f, unit = checked_frac_bits(x.frac_bits if frac_bits is None else frac_bits), 2**x.frac_bits
        # Below the cut, the exponential is less than a quarter of a unit.
        cut = -math.ceil((f + 2) * math.log(2) * unit)
        low = max(-bound, cut)
        high = max(bound if most is None else min(bound, math.ceil(Fraction(most) * unit)), low)
        if high > MOST_BITS * unit:
            raise too_large("exp")
        largest = math.exp(high / unit) + 1
        plan = pieces(EXP, low=low, high=high, frac_bits=x.frac_bits, precision=f + 2, largest=largest)
        if -bound >= cut:
            words = await self._core(flat, plan, f)
        else:
            width = _checked_width(bound - cut)
            words, bits = await self.together(self._core(flat, plan, f), at_least(self, flat, [cut], width))
            _, products = await gates(self, bits, words[None])
            words = products[0, 0]
        return real_result(x, words, math.ceil(math.ldexp(largest, f)) + 2, f)

    async def log(self, x: Shared, *, least: float, most: float | None = None, frac_bits: int | None = None) -> Shared:
        """Return the natural logarithm of positive numbers, within 1 unit (exact) or 1.5 (stochastic).

        Six rounds stochastic, nine exact; one less for numbers below 2^15 units.

        Parameters
        ----------
        x
            Numbers of a declared range.
        least, most
            Public range, > 0, that the caller vouches for; `most` is the end of the declared range by default. The
            result for numbers outside means nothing.
        frac_bits
            Of the result; those of `x` by default.

        Raises
        ------
        RangeExceeded
            If the range is not declared, or the result does not fit.

        Examples
        --------
        >>> from smpc import run_local
        >>> async def protocol(s, x):
        ...     a = await s.input(x, max_abs=1000.0, frac_bits=16)
        ...     return await s.open(await s.log(a[0], least=0.001))
        >>> run_local(protocol, inputs=[[1.0, 1000.0], [0.0, 0.0]]).results[0].round(3)
        array([0.   , 6.908])
        """
        flat, exponents = self._positive(x, least, most)
        f = checked_frac_bits(x.frac_bits if frac_bits is None else frac_bits)
        powers = powers_of(exponents, x.frac_bits)
        largest = max(abs(powers.start), abs(powers.stop)) + 1
        # log x = log x' + k ln 2, both within a quarter of a unit together: precision f + 2 for the polynomials, and
        # half of 2^-scale_bits for the table.
        plan = unit_pieces(LOG, exponents, precision=f + 3, largest=largest)
        table = [nearest(k * LN2, plan.scale_bits) for k in powers]
        norm = await normalised(self, flat, exponents, table)
        words = await evaluate(self, norm.x, plan) + norm.entry
        words = await self._rounded(words, plan.scale_bits - f)
        return real_result(x, words, math.ceil(largest * math.log(2) * 2**f) + 2, f)

    async def _core(self, x: Words, plan: Pieces, frac_bits: int) -> Words:
        """Evaluate a plan and round its result."""
        return await self._rounded(await evaluate(self, x, plan), plan.scale_bits - frac_bits)


def _checked_width(bound: int) -> int:
    if bound >= 2**63:
        raise too_large("the range")
    return width_for(bound)
