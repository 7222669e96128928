"""A geometric law that coins can draw exactly, and what it costs in privacy.

G        = b_0 + 2 b_1 + ... + 2^(K-1) b_(K-1), the b_j independent, P(b_j = 1) = T_j / 2^k with integers T_j: every
         probability below is a rational number that is known exactly
N = 2^K  G lies in 0..N - 1
r_j      = T_j / (2^k - T_j), the odds of digit j
rate     the most by which log P(G = h) may fall from h to h + 1

An ideal geometric variable with ratio q = e^-rate has independent digits of odds q^(2^j), which are not dyadic. Here
the odds are rounded, one after the other and upwards, so that the one inequality that privacy needs stays true:

    P(G = h) <= e^rate P(G = h + 1)   for h = 0..N - 2.                                                       (1)

Where h has ones in its digits 0..j - 1 and a zero in digit j, adding one flips these, so the quotient of the two is
r_0 ... r_(j-1) / r_j; T_j is the least for which that is at most e^rate. The law therefore has the stated rate, not an
approximate one; what rounding costs is that large values are more frequent than q^h, by at most 2^-k a digit.

What (1) implies, with tail(d) = P(G >= N - d):

shifted noise     for every set S and 0 <= d <= D,  P(G in S) <= e^(d rate) P(G - d in S) + tail(d),
discrete Laplace  so f + G_1 - G_2 with two such variables is (D rate, tail(D))-DP for integers f of sensitivity D:
                  for a pair f, f + d fix G_1 if the first is to be bounded by the second, else G_2, and use (1).

G_1 - G_2 has, in the limit of N and k, P(x) = sum_g (1-q)^2 q^(2g + |x|) = (1-q)/(1+q) q^|x|: the discrete Laplace law.

Source: noise from shared coins, one for each binary digit, Dwork, Kenthapadi, McSherry, Mironov, Naor 2006 (Eurocrypt);
noisy max by such coins, Champion, shelat, Ullman 2019, eprint 2019/823. The rounding rule is of this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from privacy._bernoulli import enclose_exp
from privacy._checks import check_count

COIN_BITS = 64

# Noise of more digits would leave no room for the numbers it is added to.
MOST_DIGITS = 48

# Bits to which e^-rate is enclosed. Rounding is upwards, so more of them would only save the last unit of a T_j.
_ENCLOSURE_BITS = 256


@dataclass(frozen=True, slots=True)
class GeometricLaw:
    """G >= 0 with independent binary digits and exactly known probabilities.

    thresholds  T_j, lowest digit first
    coin_bits   k, a multiple of 4

    Examples
    --------
    >>> law = GeometricLaw((1 << 62, 1 << 60))  # odds 1/3 and 1/15
    >>> [str(p) for p in law.pmf()]
    ['45/64', '15/64', '3/64', '1/64']
    >>> law.tail(1)
    Fraction(1, 64)
    """

    thresholds: tuple[int, ...]
    coin_bits: int = COIN_BITS

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0 < threshold < 2**self.coin_bits for threshold in self.thresholds):
            raise ValueError(f"thresholds must be in 1..2^{self.coin_bits} - 1, one for each digit")

    @property
    def n_digits(self) -> int:
        """K."""
        return len(self.thresholds)

    @property
    def largest(self) -> int:
        """N - 1, the largest value."""
        return (1 << self.n_digits) - 1

    def tail(self, d: int) -> Fraction:
        """Return P(G >= N - d), exactly; 1 if d >= N."""
        if d > self.largest:
            return Fraction(1)
        if d == 0:
            return Fraction(0)
        least = 2**self.n_digits - d
        # Greater than least - 1: the digits above agree, then comes a one where least - 1 has a zero.
        beyond, above, whole = 0, 1, 2**self.coin_bits
        for j in reversed(range(self.n_digits)):
            one, zero = self.thresholds[j], whole - self.thresholds[j]
            beyond *= whole
            if (least - 1) >> j & 1:
                above *= one
            else:
                beyond += above * one
                above *= zero
        return Fraction(beyond, whole**self.n_digits)

    def pmf(self) -> list[Fraction]:
        """Return P(G = 0), ..., P(G = N - 1), exactly. For laws of few digits."""
        out = [Fraction(1)]
        for threshold in self.thresholds:
            p = Fraction(threshold, 2**self.coin_bits)
            out = [(1 - p) * each for each in out] + [p * each for each in out]
        return out


@lru_cache(maxsize=256)
def geometric_law(rate: Fraction, shift: int, max_tail: Fraction, coin_bits: int = COIN_BITS) -> GeometricLaw:
    """Return the law of fewest digits with tail(shift) <= max_tail that falls by `rate` a step at most.

    Parameters
    ----------
    rate
        > 0, exact.
    shift
        How far neighbours can be apart, >= 1.
    max_tail
        In (0, 1).
    coin_bits
        k, a multiple of 4.

    Raises
    ------
    ValueError
        If that takes more than 48 digits.

    Examples
    --------
    >>> law = geometric_law(Fraction(1, 10), 1, Fraction(1, 2**64))
    >>> law.n_digits, float(law.tail(1)) < 2.0**-64, round(float(law.pmf()[1] / law.pmf()[0]), 9)
    (9, True, 0.904837418)
    """
    check_count("shift", shift)
    if not rate > 0:
        raise ValueError(f"rate must be > 0, got {rate!r}")
    if not 0 < max_tail < 1:
        raise ValueError(f"max_tail must lie strictly between 0 and 1, got {max_tail!r}")
    if coin_bits < 4 or coin_bits % 4:
        raise ValueError(f"coin_bits must be a multiple of 4, got {coin_bits!r}")
    ratio = Fraction(max(enclose_exp(rate, _ENCLOSURE_BITS)[1], 1), 1 << _ENCLOSURE_BITS)  # >= e^-rate
    thresholds: list[int] = []
    odds_so_far = Fraction(1)  # r_0 ... r_(j-1)
    while len(thresholds) < MOST_DIGITS:
        least_odds = odds_so_far * ratio
        # T / (2^k - T) >= odds iff T >= 2^k odds / (1 + odds); below one half, as the odds are below one.
        threshold = math.ceil((least_odds / (1 + least_odds)) * 2**coin_bits)
        thresholds.append(threshold)
        odds_so_far *= Fraction(threshold, 2**coin_bits - threshold)
        law = GeometricLaw(tuple(thresholds), coin_bits)
        if law.tail(shift) <= max_tail:
            return law
    raise ValueError(
        f"noise of rate {float(rate):.3g} for a change of {shift} takes more than {MOST_DIGITS} binary digits; take a "
        "larger epsilon, or a coarser unit"
    )


def float_up(value: Fraction) -> float:
    """Return the least double such that neither it nor its shortest decimal, as accounts read it, is below the value.

    Examples
    --------
    >>> float_up(Fraction(1, 10)), float_up(Fraction(1, 3)) >= Fraction(1, 3)
    (0.1..., True)
    """
    rounded = float(value)
    while min(Fraction(rounded), Fraction(repr(rounded))) < value:
        rounded = math.nextafter(rounded, math.inf)
    return rounded


def exact_down(value: float) -> Fraction:
    """Return the number that a float stands for, or that of its shortest decimal if that is less.

    Accounts price an event by the decimal: noise for the smaller of the two is never under-priced.
    """
    return min(Fraction(float(value)), Fraction(repr(float(value))))
