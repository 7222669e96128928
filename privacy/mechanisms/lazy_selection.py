"""The exponential mechanism when scores are dear: only those candidates are scored that could still win.

rate      epsilon / (2 sensitivity), or epsilon / sensitivity if one patient moves all scores the same way
U_i       independent uniform reals on (0, 1);  G_i = -log(-log U_i), which are Gumbel variables
key_i     rate * score_i + G_i; the candidate of the largest key wins, with probability proportional to
          exp(rate * score_i): exactly the exponential mechanism's law (the Gumbel-max identity)
bound_i   an integer >= score_i, cheap to know

All U_i are drawn first. Candidates are visited by falling rate * bound_i + G_i, and once the best key exceeds that of
every candidate left, no score can change the winner: the law is that of scoring them all.

Exactness: each U_i is a lazily extended string of random bits. Keys are compared in doubles where they differ by more
than their proven errors. Where they do not, both strings get further bits and the keys are enclosed in decimals of
growing precision until the enclosures part. So the winner is that of the real U_i. The loop ends with probability one,
since two keys are equal with probability zero.

Which candidates are scored depends on the scores: running time is not constant, and whoever can watch it, or the calls
of `score`, learns more than the choice. Whoever must not learn them asks for all.

Sources: McSherry, Talwar 2007 (the mechanism); Yellott 1977, J. Math. Psychol. 15:109 (Gumbel-max); privacy of the
choice as in `selection`, a property of the law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count, check_positive
from privacy.randomness import Rng

_SCORE_LIMIT = 1 << 62
_WORD_BITS = 64
_GUARD_DIGITS = 12

# A key in doubles is off by at most this much for G (proved: 2^-43, see `_gumbels`), and by so much of its shift for
# five roundings (proved: 2^-51).
_GUMBEL_ERROR = 2.0**-40
_RELATIVE_ERROR = 2.0**-50

# Outside these the first 64 bits do not tell a Gumbel variable to a relative 2^-45: once in 2^18 draws.
_LEAST_WORD = np.uint64(1 << 45)
_LARGEST_WORD = np.uint64((1 << 64) - (1 << 45))


def lazy_exponential_mechanism(
    bounds: Sequence[int],
    score: Callable[[int], int],
    *,
    epsilon: float,
    sensitivity: int,
    rng: Rng,
    monotone: bool = False,
) -> int:
    """Return the index of one candidate, drawn with probability proportional to exp(epsilon score / 2 sensitivity).

    Parameters
    ----------
    bounds
        For each candidate an integer that its score does not exceed, below 2^62 in absolute value; k >= 1 of them.
        The closer, the fewer scores are asked for.
    score
        Gives a candidate's score, an integer; asked at most once for each candidate.
    epsilon
        Privacy parameter, > 0, taken as the exact rational that the float stands for.
    sensitivity
        The most that one patient changes any score, >= 1. Bounds may change in any way: they do not move the law.
    rng
        Source of randomness.
    monotone
        True if one patient moves all scores up, or all down; see `exponential_mechanism`.

    Raises
    ------
    ValueError
        If a score exceeds its bound.

    Examples
    --------
    >>> from privacy import SecureRng
    >>> scores = [3, 9_000, 5]
    >>> lazy_exponential_mechanism([10, 10_000, 10], scores.__getitem__, epsilon=1.0, sensitivity=1, rng=SecureRng())
    1
    """
    check_positive("epsilon", epsilon)
    check_count("sensitivity", sensitivity)
    limits = [int(bound) for bound in bounds]
    if not limits:
        raise ValueError("selection needs at least one candidate")
    top = max(limits)
    if top >= _SCORE_LIMIT or min(limits) <= -_SCORE_LIMIT:
        raise ValueError("bounds must be below 2^62 in absolute value; take a coarser unit")
    rate = Fraction(epsilon) / (sensitivity if monotone else 2 * sensitivity)
    words = rng.uint64(len(limits))
    gumbels = _gumbels(words, rng=rng)
    # Scores count from the largest bound: differences are exact, and what is near the winner is small.
    shifts = np.array([float(bound - top) for bound in limits]) * float(rate)
    ceilings = shifts + gumbels.values + (_GUMBEL_ERROR + _RELATIVE_ERROR * np.abs(shifts))
    best: _Key | None = None
    for i in np.argsort(-ceilings, kind="stable").tolist():
        if best is not None and ceilings[i] < best.floor:
            break
        value = int(score(i))
        if value > limits[i]:
            raise ValueError("a score exceeds its bound, so the choice would not have the mechanism's law")
        key = _Key(i, (value - top) * rate, float(gumbels.values[i]), gumbels.bits(i))
        if best is None or key.beats(best):
            best = key
    if best is None:  # pragma: no cover - there is at least one candidate, and it is visited
        raise ValueError("selection needs at least one candidate")
    return best.index


class _Bits:
    """One uniform real on (0, 1), known to lie between prefix / 2^n_bits and (prefix + 1) / 2^n_bits."""

    __slots__ = ("_rng", "n_bits", "prefix")

    def __init__(self, word: int, *, rng: Rng) -> None:
        self.prefix, self.n_bits, self._rng = word, _WORD_BITS, rng

    def extend(self) -> None:
        self.prefix = (self.prefix << _WORD_BITS) | int.from_bytes(self._rng.bytes(_WORD_BITS // 8), "little")
        self.n_bits += _WORD_BITS

    def gumbel(self) -> tuple[Decimal, Decimal]:
        """Return an enclosure of -log(-log U); infinite where the bits do not exclude U = 0 or U = 1."""
        down, up = _contexts(self.n_bits)
        whole = Decimal(1 << self.n_bits)
        # Quotients enclose U; `ln` rounds half-even whatever the context says, so one unit outwards encloses it.
        low = down.divide(Decimal(self.prefix), whole)
        high = min(up.divide(Decimal(self.prefix + 1), whole), Decimal(1))
        waits = [
            Decimal("Infinity") if not low else up.next_plus(down.ln(low).copy_negate()),
            max(down.next_minus(down.ln(high).copy_negate()), Decimal(0)),
        ]
        return (
            down.next_minus(down.ln(waits[0]).copy_negate()),
            up.next_plus(down.ln(waits[1]).copy_negate()) if waits[1] else Decimal("Infinity"),
        )


class _Gumbels:
    """The Gumbel variables of one selection: doubles, each within 2^-43 of the real one, and the bits behind them."""

    __slots__ = ("_known", "_rng", "_words", "values")

    def __init__(
        self, values: npt.NDArray[np.float64], words: npt.NDArray[np.uint64], known: dict[int, _Bits], *, rng: Rng
    ) -> None:
        self.values, self._words, self._known, self._rng = values, words, known, rng

    def bits(self, i: int) -> _Bits:
        if i not in self._known:
            self._known[i] = _Bits(int(self._words[i]), rng=self._rng)
        return self._known[i]


def _gumbels(words: npt.NDArray[np.uint64], *, rng: Rng) -> _Gumbels:
    """Return -log(-log U) of the uniform reals whose first 64 bits these are, shape (k,)."""
    low = words < np.uint64(1 << 63)
    # U, or 1 - U where that is smaller: a double holds it to a relative 2^-53, and half an unknown bit is 2^-46 of it.
    near = np.where(low, words, ~words).astype(np.float64)
    uniform = np.clip((near + 0.5) * 2.0**-64, 2.0**-19, 0.5)
    # -log U >= log 2 is known to 2^-45, -log(1 - V) to a relative 2^-45; so is the wait. Its logarithm, at most 14 in
    # absolute value, is off by that and by a relative 2^-48: below 2^-43 together.
    wait = np.where(low, -np.log(uniform), -np.log1p(-uniform))
    values = -np.log(wait)
    known = {}
    for i in np.flatnonzero((words < _LEAST_WORD) | (words > _LARGEST_WORD)).tolist():
        known[i] = _Bits(int(words[i]), rng=rng)
        values[i] = _refined(known[i])
    return _Gumbels(values, words, known, rng=rng)


def _refined(bits: _Bits) -> float:
    while True:
        low, high = bits.gumbel()
        if low.is_finite() and high.is_finite() and float(high) - float(low) < 2.0**-44:
            return float(low)
        bits.extend()


class _Key:
    """rate * score + G of one candidate: a double with its error, and an enclosure that can be narrowed at will."""

    __slots__ = ("_bits", "_error", "_shift", "_value", "index")

    def __init__(self, index: int, shift: Fraction, gumbel: float, bits: _Bits) -> None:
        self.index, self._shift, self._bits = index, shift, bits
        self._value = float(shift) + gumbel
        self._error = _GUMBEL_ERROR + _RELATIVE_ERROR * abs(float(shift))

    @property
    def floor(self) -> float:
        """A double that the key is not below."""
        return self._value - self._error

    def beats(self, other: _Key) -> bool:
        """Return whether this key is the larger, which it is or is not: never a matter of rounding."""
        margin = self._error + other._error
        difference = self._value - other._value
        # "not above" rather than "at most": a NaN would be refined.
        if abs(difference) > margin:
            return difference > 0
        while True:
            (low, high), (other_low, other_high) = self.enclosure(), other.enclosure()
            if low > other_high:
                return True
            if high < other_low:
                return False
            self._bits.extend()
            other._bits.extend()

    def enclosure(self) -> tuple[Decimal, Decimal]:
        low, high = self._bits.gumbel()
        extra = max(abs(self._shift.numerator) // self._shift.denominator, 1).bit_length()
        down, up = _contexts(self._bits.n_bits + extra)
        numerator, denominator = Decimal(self._shift.numerator), Decimal(self._shift.denominator)
        return down.add(down.divide(numerator, denominator), low), up.add(up.divide(numerator, denominator), high)


def _contexts(n_bits: int) -> tuple[Context, Context]:
    digits = n_bits * 302 // 1000 + _GUARD_DIGITS  # log10(2) < 0.302
    return (
        Context(prec=digits, rounding=ROUND_FLOOR, Emin=MIN_EMIN, Emax=MAX_EMAX),
        Context(prec=digits, rounding=ROUND_CEILING, Emin=MIN_EMIN, Emax=MAX_EMAX),
    )
