"""Division, roots, exponential, logarithm and sigmoid of shared fixed-point numbers, with proved errors.

f, u       fractional bits of the result, and its unit 2^-f
least, most  public range that the caller vouches for, as with `Shared.declare`

Every function here is right within

    1 unit                if the session's truncation is "exact": half a unit for the last rounding,
    1.5 units             if it is "stochastic" or "local": less than a unit for it,

where 1 is the sum of what each line of the code says it loses; `exp` adds a quarter of exp(x) units. The argument counts
as exact. A range that cannot be computed with this error in words of 64 bits is refused before anything is sent.

Rounds (r: of the last rounding, 1 stochastic, 3 or 4 exact; c: of a comparison to bits, 2 below 2^15 units, else 3):

    sigmoid   1 + r; max(1 + r, c) + 1 for numbers that may lie beyond (f + 2) ln 2
    exp       the same
    log       c + 2 + r
    others    c + 4 + r

Intermediate values are always rounded stochastically, whatever the session's truncation: this is in the bound. "local"
truncation would be worthless for numbers of up to 61 bits, so that "stochastic" takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from privacy._checks import check_count, check_positive
from smpc._rounds import Rounds
from smpc.approximation import EXP, INVERSE_SQRT, LOG, MOST_BITS, RECIPROCAL, SIGMOID, SQRT, Pieces, Smooth, pieces
from smpc.comparison import at_least, width_for
from smpc.conversion import gates
from smpc.errors import RangeExceeded, SessionMismatch
from smpc.normalise import Exponents, normalised
from smpc.pieces import evaluate
from smpc.ring import RING64, Words
from smpc.shared import Public, Shared
from smpc.truncation import Truncating, truncated

if TYPE_CHECKING:
    from smpc.session import Session

_LN2 = Decimal(2).ln(Context(prec=40))


class Functions(Rounds):
    """The functions of one real number, and division, as methods of a session."""

    truncation: Truncating

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
        f = _fraction(x.frac_bits if frac_bits is None else frac_bits)
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
        return _result(x, words, 2**f + 1, f)

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
        f, unit = _fraction(x.frac_bits if frac_bits is None else frac_bits), 2**x.frac_bits
        # Below the cut, the exponential is less than a quarter of a unit.
        cut = -math.ceil((f + 2) * math.log(2) * unit)
        low = max(-bound, cut)
        high = max(bound if most is None else min(bound, math.ceil(Fraction(most) * unit)), low)
        if high > MOST_BITS * unit:
            raise _too_large("exp")
        largest = math.exp(high / unit) + 1
        plan = pieces(EXP, low=low, high=high, frac_bits=x.frac_bits, precision=f + 2, largest=largest)
        if -bound >= cut:
            words = await self._core(flat, plan, f)
        else:
            width = _checked_width(bound - cut)
            words, bits = await self.together(self._core(flat, plan, f), at_least(self, flat, [cut], width))
            _, products = await gates(self, bits, words[None])
            words = products[0, 0]
        return _result(x, words, math.ceil(math.ldexp(largest, f)) + 2, f)

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
        f = _fraction(x.frac_bits if frac_bits is None else frac_bits)
        powers = _powers(exponents, x.frac_bits)
        largest = max(abs(powers.start), abs(powers.stop)) + 1
        # log x = log x' + k ln 2, both within a quarter of a unit together: precision f + 2 for the polynomials, and
        # half of 2^-scale_bits for the table.
        plan = _unit_pieces(LOG, exponents, precision=f + 3, largest=largest)
        table = [_nearest(k * _LN2, plan.scale_bits) for k in powers]
        norm = await normalised(self, flat, exponents, table)
        words = await evaluate(self, norm.x, plan) + norm.entry
        words = await self._rounded(words, plan.scale_bits - f)
        return _result(x, words, math.ceil(largest * math.log(2) * 2**f) + 2, f)

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
        frac_bits
            Of the result; by default the larger of both operands', or those of x.

        Raises
        ------
        RangeExceeded
            If a range is not declared, or the quotient's is too large: |x| / least is at most 2^11 with 16 fractional
            bits, 2^3 with 24.

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
        _, bound = self._ranged(x)
        flat, exponents = self._positive(y, least, most)
        f = _fraction(max(x.frac_bits, y.frac_bits) if frac_bits is None else frac_bits)
        shape = np.broadcast_shapes(x.shape, y.shape)
        numerator = np.broadcast_to(_words(x), shape).reshape(-1)
        denominator = flat if y.shape == shape else np.broadcast_to(_words(y), shape).reshape(-1)
        # x / y = (2^-k x) / y', |2^-k x| at most `most_scaled`; 2^(K-k) x has `scaled_bits` fractional bits.
        most_scaled = Fraction(bound, 2**x.frac_bits) / Fraction(2) ** _powers(exponents, y.frac_bits).start
        if bound << (exponents.highest - exponents.lowest) >= 2**MOST_BITS:
            raise _too_large("the quotient")
        g_bits, u_bits = _split_bits(f, most_scaled, "the quotient")
        scaled_bits = x.frac_bits + exponents.highest - y.frac_bits
        if scaled_bits - u_bits > MOST_BITS:
            raise _too_large("the quotient")
        plan = _unit_pieces(RECIPROCAL, exponents, precision=g_bits + 1, largest=2.0)
        norm = await normalised(self, denominator, exponents, [0] * len(_powers(exponents, 0)), numerator)
        assert norm.other is not None  # noqa: S101 - it was given
        words = await self._times(norm.x, plan, g_bits, norm.other, scaled_bits - u_bits, f)
        quotient = Fraction(bound, 2**x.frac_bits) * Fraction(2**y.frac_bits, exponents.least)
        return Shared(x.session, RING64, words.reshape(shape), bound=math.ceil(quotient * 2**f) + 2, frac_bits=f)

    async def _divide_by_public(self, x: Shared, y: Public, frac_bits: int | None) -> Shared:
        flat, bound = self._ranged(x)
        f = _fraction(x.frac_bits if frac_bits is None else frac_bits)
        divisors = np.asarray(y)
        if divisors.dtype.kind not in "iuf" or not np.isfinite(divisors).all() or not divisors.all():
            raise ValueError("a public divisor must be finite numbers, none of them 0")
        # x 2^(f - x.frac_bits) / y in units of 2^-f. The factor is rounded to an integer after multiplication by 2^n_bits:
        # wrong by bound / 2 2^-n_bits, at most a quarter of a unit.
        n_bits = max(bound, 1).bit_length() + 1
        scale = Fraction(2) ** (n_bits + f - x.frac_bits)
        factors = [round(scale / Fraction(value.item())) for value in divisors.reshape(-1)]
        largest = max(map(abs, factors), default=0)
        if bound * largest >= 2**MOST_BITS:
            raise _too_large("the quotient")
        shape = np.broadcast_shapes(x.shape, divisors.shape)
        words = np.array([factor % 2**64 for factor in factors], dtype=np.uint64).reshape(divisors.shape)
        products = (words * flat.reshape(x.shape)).reshape(-1)
        quotients = await self._rounded(products, n_bits)
        return Shared(x.session, RING64, quotients.reshape(shape), bound=(bound * largest >> n_bits) + 2, frac_bits=f)

    # What the functions have in common.

    async def _core(self, x: Words, plan: Pieces, frac_bits: int) -> Words:
        """Evaluate a plan and round its result."""
        return await self._rounded(await evaluate(self, x, plan), plan.scale_bits - frac_bits)

    async def _rounded(self, x: Words, n_bits: int) -> Words:
        how: Truncating = "exact" if self.truncation == "exact" else "stochastic"
        return await truncated(self, x, n_bits, how)

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
        f = _fraction(x.frac_bits if frac_bits is None else frac_bits)
        with localcontext(Context(prec=40)):
            factors = [factor(k) for k in _powers(exponents, x.frac_bits)]
        largest = max(Fraction(factors[0]), Fraction(factors[-1]))
        g_bits, u_bits = _split_bits(f, largest, function.name)
        plan = _unit_pieces(function, exponents, precision=g_bits + 1, largest=2.0)
        table = [_nearest(value, u_bits) for value in factors]
        norm = await normalised(self, flat, exponents, table)
        words = await self._times(norm.x, plan, g_bits, norm.entry, 0, f)
        # g of [1, 2) is at most sqrt 2.
        return _result(x, words, math.ceil(largest * 3 / 2 * 2**f) + 2, f)

    async def _times(self, x: Words, plan: Pieces, g_bits: int, u: Words, excess: int, frac_bits: int) -> Words:
        """Return g(x') u with `frac_bits` fractional bits, u having `excess` more than f + 3.

        g is rounded to g_bits = f + log2(U) + 3 bits, |u| <= U, and loses 1.5 of its units; u loses at most one of its
        units 2^-(f+3). |g| <= 2, so that g u is wrong by (1.5 + 2) / 8 units of 2^-f before the last rounding.
        """
        session = cast("Session", self)
        if excess < 0:
            u = u << np.uint64(-excess)

        async def narrower() -> Words:
            return await truncated(self, u, excess, "stochastic")

        async def value() -> Words:
            wide = await evaluate(self, x, plan)
            return await truncated(self, wide, plan.scale_bits - g_bits, "stochastic")

        g, *rest = await self.together(value(), *([narrower()] if excess > 0 else []))
        u = rest[0] if rest else u
        product = await session.mul(Shared(session, RING64, g), Shared(session, RING64, u))
        return await self._rounded(_words(product), g_bits + 3)

    # Operands.

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
        return _words(x).reshape(-1), x.bound

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
            raise _too_large("the range")
        return flat, Exponents(low, high)


def _split_bits(frac_bits: int, largest: Fraction, what: str) -> tuple[int, int]:
    """Return the fractional bits of g and of u, |u| <= largest, or raise RangeExceeded if their product does not fit."""
    log_largest = max(math.ceil(largest) - 1, 0).bit_length()
    g_bits, u_bits = frac_bits + log_largest + 3, frac_bits + 3
    if g_bits + 1 + u_bits + log_largest > MOST_BITS:
        raise _too_large(what)
    return g_bits, u_bits


def _unit_pieces(function: Smooth, exponents: Exponents, *, precision: int, largest: float) -> Pieces:
    """Return the plan for [1, 2), with as many fractional bits as `normalised` gives."""
    one = 2**exponents.highest
    return pieces(function, low=one, high=2 * one, frac_bits=exponents.highest, precision=precision, largest=largest)


def _powers(exponents: Exponents, frac_bits: int) -> range:
    """Return the exponents of the real numbers."""
    return range(exponents.lowest - frac_bits, exponents.highest - frac_bits + 1)


def _nearest(value: Decimal, bits: int) -> int:
    return round(Fraction(value) * 2**bits)


def _fraction(frac_bits: int) -> int:
    check_count("frac_bits", frac_bits)
    return frac_bits


def _checked_width(bound: int) -> int:
    if bound >= 2**63:
        raise _too_large("the range")
    return width_for(bound)


def _too_large(what: str) -> RangeExceeded:
    return RangeExceeded(
        rule=f"{what} is too large for this error in words of 64 bits",
        way_out="declare a smaller range (least=, most=), or use fewer fractional bits",
    )


def _result(x: Shared, words: Words, bound: int, frac_bits: int) -> Shared:
    return Shared(x.session, RING64, words.reshape(x.shape), bound=bound, frac_bits=frac_bits)


def _words(x: Shared) -> Words:
    return x._share  # noqa: SLF001 - a session is the friend of its shared values
