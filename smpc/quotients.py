"""Division and roots of shared numbers: a function of the normalised number, times a power of its scale.

x'   in [1, 2), x = 2^k x' (`smpc.normalise`);  g  reciprocal, root or reciprocal root, |g(x')| < 2
u    what g leaves to the scale: g(x) = g(x') u_k, from a public table; for a quotient a / x, 2^-k a. |u| <= U
f    fractional bits of the result

g(x') is computed to a = f + ceil(log2 U) + 3 fractional bits, and u to b = f + 3. The first is wrong by 1.5 2^-a at
most, half for the polynomials (`smpc.pieces`) and one for a stochastic rounding; the second by 2^-b, less than one unit
of a rounding, or half a unit of a table. So before the last rounding the product is wrong by

    1.5 2^-a U + 2 2^-b <= (1.5 + 2) / 8 2^-f,

less than half a unit of the result. g u is below 2^(a + b + log2 U + 1), which must fit 61 bits: f + log2 U <= 27.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from privacy._checks import check_positive
from smpc._real import RealOperands, checked_frac_bits, powers_of, real_result, too_large, unit_pieces, words_of
from smpc.approximation import INVERSE_SQRT, MOST_BITS, RECIPROCAL, SQRT, Pieces, Smooth, nearest
from smpc.normalise import normalised
from smpc.pieces import evaluate
from smpc.ring import RING64, Words
from smpc.shared import Public, Shared
from smpc.truncation import Truncating, truncated

if TYPE_CHECKING:
    from smpc.session import Session


@dataclass(frozen=True, slots=True)
class _Quotient:
    """What the caller vouches for, and the fractional bits of the result."""

    least: float
    most: float | None
    largest: float | None
    frac_bits: int


class Quotients(RealOperands):
    """Division and roots, as methods of a session."""

    async def reciprocal(
        self, x: Shared, *, least: float, most: float | None = None, frac_bits: int | None = None
    ) -> Shared:
        """Return 1 / x of positive numbers, within 1 unit (exact) or 1.5 (stochastic).

        Eight rounds stochastic, eleven exact; one less for numbers below 2^15 units. Parameters and errors as `log`.
        1 / least is at most 2^11 with 16 fractional bits, 2^3 with 24.

        Examples
        --------
        >>> from smpc import run_local
        >>> async def protocol(s, x):
        ...     a = await s.input(x, max_abs=1000.0, frac_bits=16)
        ...     return await s.open(await s.reciprocal(a[0], least=0.1))
        >>> run_local(protocol, inputs=[[4.0, 0.125], [0.0, 0.0]]).results[0].round(3)
        array([0.25, 8.  ])
        """
        return await self._scaled(RECIPROCAL, x, least, most, frac_bits, lambda k: Decimal(2) ** -k)

    async def sqrt(
        self, x: Shared, *, least: float = 0, most: float | None = None, frac_bits: int | None = None
    ) -> Shared:
        """Return the square root of numbers that are not negative, within 1 unit (exact) or 1.5 (stochastic).

        Rounds, parameters and errors as `reciprocal`, but that `least` may be 0, and the root of 0 is 0.

        Examples
        --------
        >>> from smpc import run_local
        >>> async def protocol(s, x):
        ...     a = await s.input(x, max_abs=1000.0, frac_bits=16)
        ...     return await s.open(await s.sqrt(a[0]))
        >>> run_local(protocol, inputs=[[0.0, 2.0], [0.0, 0.0]]).results[0].round(3)
        array([0.   , 1.414])
        """
        return await self._scaled(SQRT, x, least, most, frac_bits, lambda k: (Decimal(2) ** k).sqrt())

    async def inverse_sqrt(
        self, x: Shared, *, least: float, most: float | None = None, frac_bits: int | None = None
    ) -> Shared:
        """Return 1 / sqrt(x) of positive numbers, within 1 unit (exact) or 1.5 (stochastic). As `reciprocal`.

        Examples
        --------
        >>> from smpc import run_local
        >>> async def protocol(s, x):
        ...     a = await s.input(x, max_abs=1000.0, frac_bits=16)
        ...     return await s.open(await s.inverse_sqrt(a[0], least=0.1))
        >>> run_local(protocol, inputs=[[4.0, 0.25], [0.0, 0.0]]).results[0].round(3)
        array([0.5, 2. ])
        """
        return await self._scaled(INVERSE_SQRT, x, least, most, frac_bits, lambda k: (Decimal(2) ** -k).sqrt())

    async def divide(
        self,
        x: Shared,
        y: Shared | Public,
        *,
        least: float | None = None,
        most: float | None = None,
        largest: float | None = None,
        frac_bits: int | None = None,
    ) -> Shared:
        """Return x / y, within 1 unit (exact) or 1.5 (stochastic); y shared and positive, or public and not 0.

        By a shared number: rounds as `reciprocal`. By a public one: one rounding.

        Parameters
        ----------
        x, y
            Numbers of declared ranges; shapes broadcast.
        least, most
            Public range, > 0, of a shared y, that the caller vouches for; `most` is the end of the declared range by
            default. The result for a divisor outside means nothing.
        largest
            Public bound of |x / y|, > 0, that the caller vouches for, as for a part over the whole; by default what the
            declared range of x and `least` allow. The result for a larger quotient means nothing.
        frac_bits
            Of the result; by default the larger of both operands', or those of x.

        Raises
        ------
        RangeExceeded
            If a range is not declared, or the quotient's is too large: |x| over the power of two below `least`, or
            twice `largest`, is at most 2^11 with 16 fractional bits, 2^3 with 24.

        Examples
        --------
        >>> from smpc import run_local
        >>> async def protocol(s, x):
        ...     a = await s.input(x, max_abs=1000.0, frac_bits=16)
        ...     return await s.open(await s.divide(a[0], a[1], least=1.0))
        >>> run_local(protocol, inputs=[[1.0, -2.0], [3.0, 1000.0]]).results[0].round(3)
        array([ 0.333, -0.002])
        """
        if not isinstance(y, Shared):
            return await self._divide_by_public(x, y, frac_bits)
        if least is None:
            raise ValueError("a shared divisor needs a public least=, above 0: nobody can see whether it is 0")
        f = checked_frac_bits(max(x.frac_bits, y.frac_bits) if frac_bits is None else frac_bits)
        how: Truncating = "exact" if self.truncation == "exact" else "stochastic"
        return await self._divide_by_shared(x, y, _Quotient(least, most, largest, f), how)

    async def rounded_quotient(
        self, x: Shared, y: Shared, *, n_bits: int, least: int, most: int | None = None, largest: float | None = None
    ) -> Shared:
        """Return the integer nearest to 2^n_bits x / y, ties up, of integers: a function of x and y alone.

        `divide` is off by a unit now and then, and two runs may differ. Here the remainder of a quotient that is within
        1.5 units says whether the integer above or below it is nearer. Thirteen rounds, whatever the session's
        truncation; two fewer for numbers below 2^12.

        Parameters
        ----------
        x, y
            Integers of declared ranges, y positive; shapes broadcast.
        n_bits
            At least 1.
        least, most
            As in `divide`, of y.
        largest
            As in `divide`: of |x / y|.

        Raises
        ------
        RangeExceeded
            As `divide`, with `n_bits` fractional bits.

        Examples
        --------
        >>> from smpc import run_local
        >>> async def protocol(s, x):
        ...     a = await s.input(x, max_abs=1000)
        ...     return await s.open(await s.rounded_quotient(a[0], a[1], n_bits=1, least=1))
        >>> run_local(protocol, inputs=[[1, 5, -5, -7], [1, 4, 4, 3]]).results[0]
        array([ 2,  3, -2, -5])
        """
        if x.frac_bits or y.frac_bits:
            raise ValueError("a rounded quotient is one of integers: these numbers have fractional bits")
        f = checked_frac_bits(n_bits)
        near = await self._divide_by_shared(x, y, _Quotient(least, most, largest, f), "stochastic")
        session = cast("Session", self)
        bound = 0 if y.bound is None else y.bound
        # |near - 2^f x / y| < 1.5, so the remainder r = 2^f x - near y is below 1.5 y: right although its parts may
        # wrap. The nearest integer is near + 1 if 2 r >= y, and near - 1 if 2 r < -y.
        divisor = np.broadcast_to(words_of(y), near.shape)
        product = await session.mul(Shared(session, RING64, words_of(near)), Shared(session, RING64, divisor))
        twice = (np.broadcast_to(words_of(x), near.shape) << np.uint64(f + 1)) - (words_of(product) << np.uint64(1))
        both = np.stack([twice + divisor, twice - divisor])
        below = await session.negative(Shared(session, RING64, both, bound=4 * bound))
        words = words_of(near) - words_of(below.sum(axis=0))
        if self.party == 0:
            words += np.uint64(1)
        return Shared(session, RING64, words, bound=(near.bound or 0) + 1)

    async def _divide_by_shared(self, x: Shared, y: Shared, wanted: _Quotient, how: Truncating) -> Shared:
        _, bound = self._ranged(x)
        flat, exponents = self._positive(y, wanted.least, wanted.most)
        f = wanted.frac_bits
        shape = np.broadcast_shapes(x.shape, y.shape)
        numerator = np.broadcast_to(words_of(x), shape).reshape(-1)
        denominator = flat if y.shape == shape else np.broadcast_to(words_of(y), shape).reshape(-1)
        # x / y = (2^-k x) / y', |2^-k x| at most `most_scaled`; 2^(K-k) x has `scaled_bits` fractional bits.
        most_scaled = Fraction(bound, 2**x.frac_bits) / Fraction(2) ** powers_of(exponents, y.frac_bits).start
        quotient = Fraction(bound, 2**x.frac_bits) * Fraction(2**y.frac_bits, exponents.least)
        if wanted.largest is not None:
            # y' < 2, so that |2^-k x| < 2 |x / y|.
            check_positive("largest", wanted.largest)
            most_scaled = min(most_scaled, 2 * Fraction(wanted.largest))
            quotient = min(quotient, Fraction(wanted.largest))
        if bound << (exponents.highest - exponents.lowest) >= 2**MOST_BITS:
            raise too_large("the quotient")
        g_bits, u_bits = _split_bits(f, most_scaled, "the quotient")
        scaled_bits = x.frac_bits + exponents.highest - y.frac_bits
        if scaled_bits - u_bits > MOST_BITS:
            raise too_large("the quotient")
        plan = unit_pieces(RECIPROCAL, exponents, precision=g_bits + 1, largest=2.0)
        norm = await normalised(self, denominator, exponents, [0] * len(powers_of(exponents, 0)), numerator)
        assert norm.other is not None  # noqa: S101 - it was given
        words = await self._times(norm.x, plan, g_bits, norm.other, scaled_bits - u_bits, how)
        return Shared(x.session, RING64, words.reshape(shape), bound=math.ceil(quotient * 2**f) + 2, frac_bits=f)

    async def _divide_by_public(self, x: Shared, y: Public, frac_bits: int | None) -> Shared:
        flat, bound = self._ranged(x)
        f = checked_frac_bits(x.frac_bits if frac_bits is None else frac_bits)
        divisors = np.asarray(y)
        if divisors.dtype.kind not in "iuf" or not np.isfinite(divisors).all() or not divisors.all():
            raise ValueError("a public divisor must be finite numbers, none of them 0")
        # x 2^(f - x.frac_bits) / y in units of 2^-f. The factor times 2^n_bits is rounded to an integer, so that the
        # result is wrong by bound / 2 2^-n_bits, at most a quarter of a unit.
        n_bits = max(bound, 1).bit_length() + 1
        scale = Fraction(2) ** (n_bits + f - x.frac_bits)
        factors = [round(scale / Fraction(value.item())) for value in divisors.reshape(-1)]
        largest = max(map(abs, factors), default=0)
        if bound * largest >= 2**MOST_BITS:
            raise too_large("the quotient")
        shape = np.broadcast_shapes(x.shape, divisors.shape)
        words = np.array([factor % 2**64 for factor in factors], dtype=np.uint64).reshape(divisors.shape)
        products = (words * flat.reshape(x.shape)).reshape(-1)
        quotients = await self._rounded(products, n_bits)
        return Shared(x.session, RING64, quotients.reshape(shape), bound=(bound * largest >> n_bits) + 2, frac_bits=f)

    async def _scaled(
        self,
        function: Smooth,
        x: Shared,
        least: float,
        most: float | None,
        frac_bits: int | None,
        factor: Callable[[int], Decimal],
    ) -> Shared:
        """Return g(x) = g(x') u_k for a power g, u_k = g(2^k)."""
        flat, exponents = self._positive(x, least, most, zero=function is SQRT)
        f = checked_frac_bits(x.frac_bits if frac_bits is None else frac_bits)
        with localcontext(Context(prec=40)):
            factors = [factor(k) for k in powers_of(exponents, x.frac_bits)]
        largest = max(Fraction(factors[0]), Fraction(factors[-1]))
        g_bits, u_bits = _split_bits(f, largest, function.name)
        plan = unit_pieces(function, exponents, precision=g_bits + 1, largest=2.0)
        table = [nearest(value, u_bits) for value in factors]
        norm = await normalised(self, flat, exponents, table)
        how: Truncating = "exact" if self.truncation == "exact" else "stochastic"
        words = await self._times(norm.x, plan, g_bits, norm.entry, 0, how)
        # g of [1, 2) is at most sqrt 2.
        return real_result(x, words, math.ceil(largest * 3 / 2 * 2**f) + 2, f)

    async def _times(self, x: Words, plan: Pieces, g_bits: int, u: Words, excess: int, how: Truncating) -> Words:
        """Return g(x') u, rounded to f fractional bits as `how` says; u has `excess` more than f + 3."""
        session = cast("Session", self)

        async def narrow_value() -> Words:
            wide = await evaluate(self, x, plan)
            return await truncated(self, wide, plan.scale_bits - g_bits, "stochastic")

        if excess > 0:
            g, u = await self.together(narrow_value(), truncated(self, u, excess, "stochastic"))
        else:
            g, u = await narrow_value(), u << np.uint64(-excess)
        product = await session.mul(Shared(session, RING64, g), Shared(session, RING64, u))
        return await truncated(self, words_of(product), g_bits + 3, how)


def _split_bits(frac_bits: int, largest: Fraction, what: str) -> tuple[int, int]:
    """Return a and b for |u| <= largest, or raise RangeExceeded if the product does not fit."""
    log_largest = max(math.ceil(largest) - 1, 0).bit_length()
    g_bits, u_bits = frac_bits + log_largest + 3, frac_bits + 3
    if g_bits + 1 + u_bits + log_largest > MOST_BITS:
        raise too_large(what)
    return g_bits, u_bits
