"""The exponential mechanism in integers that shares can compute: its tables, and a bound on how far they are off.

s_i     integer score of candidate i, i = 0..m - 1; one patient moves each by at most Delta
d_i     max_j s_j - s_i, >= 0
rho     rate, a rational number: what a unit of score is worth in log-weight
D       cut: differences beyond count as D
w_i     e^(-rho min(d_i, D)), the ideal weight
v_i     the integer that shares compute in its place, close to 2^a w_i
mu      2 Delta; Delta if one patient moves all scores up or all down ("monotone": counts under add_remove_one)

**The ideal mechanism** takes i with probability w_i / sum_j w_j, and has bounded range rho mu: for neighbours,

    log (w_i' / w_i) - log (w_j' / w_j) <= rho mu    for all i, j.                                               (1)

Without the cut the log-weight of candidate i changes by rho (s_i' - s_i) - rho (max s' - max s). Both changes are
those of scores, so they lie in one interval of length mu (from -Delta to Delta; or from 0 to Delta, or -Delta to 0):
max s' - max s lies there because a maximum moves no further than what it is taken of. Hence all log-weights' changes
lie in one interval of length rho mu that contains 0. The cut applies x -> max(x, -rho D) to each log-weight, which is
monotone and moves no two numbers apart: the change of each is between 0 and what it was, so in the same interval.

**Shares** compute v_i with lo <= v_i / (2^a w_i) <= hi, and take the first i with U < C_i, else the last, where C_i =
v_0 + ... + v_i, T = C_(m-1), r is uniform on 0..2^k - 1 and known to nobody, and |U - r T / 2^k| <= u. Let o be all
that is opened on the way: masked words, uniform and independent of data and of r. What v_i and U are within these
limits may depend on o. Given o, the numbers r for which i is taken are at most (v_i + 2 u) 2^k / T + 1 and at least
(v_i - 2 u) 2^k / T - 1, so with theta = (2 u + T / 2^k) / min v

    (1 - theta) v_i / T <= P(i | o) <= (1 + theta) v_i / T,

and the odds P(i | o) / P(j | o) differ from w_i / w_j by a factor of at most e^h,

    h = log(hi / lo) + log((1 + theta) / (1 - theta)).                                                           (2)

By (1) the choice has, given any o, bounded range rho mu + 2 h. As o has the same law whatever the data, index and o
together cost no more than the dearest choice: for each order the divergence of the pair is a mean, over o, of
exponentials of divergences that are all bounded. `exponential_law` takes rho so that rho mu + 2 h <= epsilon: the event
is ExponentialMechanism(epsilon), epsilon^2 / 8 of rho, and it has no delta.

**Digits.** d is opened as c = d + q modulo 2^K with q unknown. In digits of six bits, with places m_p = 6 p,

    d = sum_p 2^(m_p) (c_p - q_p),   the highest difference modulo 2^6:                                          (3)

no borrow has to be computed. Below the top, differences are negative as well. The top one is the digit of d or, where
what is below is negative, the next one; that is unique for d <= 2^K - 2^(K-6). So w is a product of as many factors as
there are digits, each a lookup in a public table by the opened digit. All have b fractional bits. Those below the top
lie between e^-g and e^g, g = rho 2^(K-6). That of the top may be as small as e^(-rho D): what is multiplied is it times
2^e, between 1/2 and 1, and in the end the product is multiplied by 2^(E-e), which is looked up beside it; E is the
largest e, and a = b + E. A product of two factors is cut back by b bits, down or up by less than one unit, so the
result is no function of d alone; lo and hi bound all that can come out, computed in rational numbers from the tables
themselves. What is looked up for a difference beyond D is replaced by 2^a e^(-rho D), to the nearest integer.

**U** is computed in units of 1 / 16. With r = sum_l 16^l r_l, l = 0..L - 1, its parts 16^(l + 1 - L) r_l T are products
that all but the highest are cut back by 4 (L - 1 - l) bits, each by less than one unit: u = (L - 1) / 16.

Sources: McSherry, Talwar 2007 (FOCS); bounded range, Durfee, Rogers 2019, arXiv:1905.04273; its price, Cesar, Rogers
2021, arXiv:2004.07223, Lemma 3.4. In finite precision, with weights that are dyadic: Ilvento 2020, arXiv:1912.04222.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from privacy import ExponentialMechanism
from privacy._bernoulli import enclose_exp
from privacy._checks import check_count, check_positive
from smpc.noise.geometric_law import exact_down

DIGIT_BITS = 6
LIMB_BITS = 4
_SIDE = 1 << DIGIT_BITS
_MOST_DIGITS = 8

# All candidates at the cut together weigh e^-10 of the best one; more, where words have no room for that.
_NATS_BELOW_ALL = (10, 7, 5, 3)

# b: as many as there is room for.
_FACTOR_BITS = range(28, 15, -1)

# What is multiplied, truncated and compared stays below 2^61; the largest that can be truncated is 2^62.
_ROOM_BITS = 61

# Rounding may take so much of epsilon; the second only where the first cannot be had at all.
_MOST_EXCESS = (Fraction(1, 32), Fraction(1, 8))

_RATE_BITS = 160
_ENCLOSURE_BITS = 192
_ONE = 1 << _ENCLOSURE_BITS

Table = tuple[int, ...]
_Node = TypeVar("_Node")


@dataclass(frozen=True, slots=True)
class Bracket:
    """What may stand for a positive number >= least: between low and high times it, in units of 2^-b."""

    low: Fraction
    high: Fraction
    least: Fraction


@dataclass(frozen=True, slots=True)
class ExponentialLaw:
    """The law of a choice on shares. Made by `exponential_law`.

    rate          rho, of one unit of score
    cut           D
    stretch       differences are multiplied by 2^stretch before they are opened, to fill the digits
    tables        of each digit, lowest first: the factor for c - q = -63..63; for the top, 0..63
    powers        2^(E - e) for the top, 0..63
    factor_bits   b
    weight_at_cut   of differences of more than D
    lowest, highest   lo and hi
    n_limbs       L: r has k = 4 L bits
    excess        2 h, an upper bound
    """

    rate: Fraction
    cut: int
    stretch: int
    tables: tuple[Table, ...]
    powers: Table
    factor_bits: int
    weight_at_cut: int
    lowest: Fraction
    highest: Fraction
    n_limbs: int
    excess: Fraction

    @property
    def n_digits(self) -> int:
        """Number of digits, and of factors."""
        return len(self.tables)

    @property
    def weight_bits(self) -> int:
        """Fractional bits a of the weights."""
        return self.factor_bits + max(self.powers).bit_length() - 1

    @property
    def largest_weight(self) -> int:
        """No v_i is larger."""
        return math.floor(self.highest * (1 << self.weight_bits))

    @property
    def digest(self) -> str:
        """Name of the integers: parties that computed different ones must not compute together."""
        integers = (
            self.cut,
            self.stretch,
            self.tables,
            self.powers,
            self.factor_bits,
            self.weight_at_cut,
            self.n_limbs,
        )
        return hashlib.sha256(repr(integers).encode()).hexdigest()[:16]

    def ideal(self, scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the ideal mechanism's probabilities; those on shares differ by a factor of e^excess at most.

        Parameters
        ----------
        scores
            Integers, shape (..., m).

        Examples
        --------
        >>> law, _ = exponential_law(2.0, 1, 3)
        >>> law.ideal([3, 3, 2]).round(3)
        array([0.422, 0.422, 0.155])
        """
        s = np.asarray(scores, dtype=np.int64)
        below = np.minimum(s.max(axis=-1, keepdims=True) - s, self.cut)
        weights = np.exp(-float(self.rate) * below)
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def exponential_law(
    epsilon: float, sensitivity: int, n_candidates: int, *, monotone: bool = False
) -> tuple[ExponentialLaw, ExponentialMechanism]:
    """Return the law of a choice on shares, and the event that it implements.

    Parameters
    ----------
    epsilon
        Of the event; > 0. The choice has bounded range of at most exactly this number.
    sensitivity
        Delta, an integer: the most that one patient changes any score, as it is compared, after rounding.
    n_candidates
        m.
    monotone
        True if one patient moves all scores up, or all down.

    Raises
    ------
    ValueError
        If rounding would take more than an eighth of epsilon, or scores need too many digits.

    Examples
    --------
    >>> law, event = exponential_law(0.01, sensitivity=16, n_candidates=41)
    >>> event, law.n_digits, law.excess < 0.01 / 1000
    (ExponentialMechanism(epsilon=0.01), 3, True)
    """
    check_positive("epsilon", epsilon)
    check_count("sensitivity", sensitivity)
    check_count("n_candidates", n_candidates)
    law = _law(exact_down(epsilon), sensitivity if monotone else 2 * sensitivity, n_candidates)
    return law, ExponentialMechanism(float(epsilon))


@lru_cache(maxsize=256)
def _law(epsilon: Fraction, shift: int, n_candidates: int) -> ExponentialLaw:
    for most_excess, nats in itertools.product(_MOST_EXCESS, _NATS_BELOW_ALL):
        law = _most_precise(epsilon, shift, n_candidates, nats, most_excess)
        if law is not None:
            return law
    raise ValueError(
        f"a choice of {n_candidates} at epsilon {float(epsilon):.3g}, with scores that change by {shift}, takes more "
        "digits than a word has: take a larger epsilon, fewer candidates, or a coarser unit"
    )


def _most_precise(
    epsilon: Fraction, shift: int, n_candidates: int, nats: int, most_excess: Fraction
) -> ExponentialLaw | None:
    """Return the law of most bits for which words have room; None if that takes too much of epsilon."""
    for factor_bits in _FACTOR_BITS:
        excess = epsilon / 2**16
        while excess <= most_excess * epsilon:
            law = _with_rate((epsilon - excess) / shift, n_candidates, nats, factor_bits)
            if law is None:
                break
            if law.rate * shift + law.excess <= epsilon:
                return law
            excess = max(law.excess, excess) * Fraction(9, 8)
        else:
            # Fewer bits would take more.
            return None
    return None


def _rounded_down(rate: Fraction) -> Fraction:
    return Fraction(math.floor(rate * 2**_RATE_BITS), 2**_RATE_BITS)


def _with_rate(wanted: Fraction, n_candidates: int, nats: int, factor_bits: int) -> ExponentialLaw | None:
    """Return the law of at most this rate, and of so many bits; None if words have no room for it."""
    # Rounded, so that the last bit of a machine's logarithm is not in it.
    reach = Fraction(round(math.log(n_candidates) * 1024), 1024) + nats
    # One unit that is worth the reach decides as well as anything; and cut times rate shall not go far beyond it.
    rate = min(_rounded_down(wanted), reach)
    if rate <= 0:
        return None
    cut = math.ceil(reach / rate)
    rate = min(rate, _rounded_down(reach * 5 / 4 / cut))
    # The top digit must be able to count one further.
    n_digits = next(n for n in itertools.count(1) if cut <= (_SIDE - (n > 1)) * _SIDE ** (n - 1) - (n == 1))
    if n_digits > _MOST_DIGITS:
        return None
    stretch = 0
    while n_digits > 1 and cut << stretch + 1 <= (_SIDE - 1) * _SIDE ** (n_digits - 1):
        stretch += 1
    fine, most = rate / 2**stretch, cut << stretch
    spread = math.ceil(float(fine) * _SIDE ** (n_digits - 1) / math.log(2))
    if n_digits > 1 and 2 * (factor_bits + spread) + 1 > _ROOM_BITS:
        return None
    tables, powers, weight = _factors(fine, most, n_digits, factor_bits)
    unit = max(powers) << factor_bits
    [at_cut], beyond = _table([enclose_exp(rate * cut, _ENCLOSURE_BITS)], unit.bit_length() - 1)
    lowest, highest = min(weight.low, beyond.low), max(weight.high, beyond.high)
    least = lowest * unit * beyond.least
    largest = n_candidates * math.floor(highest * unit)
    if largest.bit_length() + LIMB_BITS > _ROOM_BITS:
        return None
    n_limbs = -(-(math.ceil(largest / least).bit_length() + factor_bits) // LIMB_BITS)
    theta = (Fraction(2 * (n_limbs - 1), 1 << LIMB_BITS) + Fraction(largest, 1 << LIMB_BITS * n_limbs)) / least
    return ExponentialLaw(
        rate=rate,
        cut=cut,
        stretch=stretch,
        tables=tables,
        powers=powers,
        factor_bits=factor_bits,
        weight_at_cut=at_cut,
        lowest=lowest,
        highest=highest,
        n_limbs=n_limbs,
        # log x <= x - 1.
        excess=2 * (highest / lowest - 1 + 2 * theta / (1 - theta)),
    )


def _factors(fine: Fraction, most: int, n_digits: int, bits: int) -> tuple[tuple[Table, ...], Table, Bracket]:
    """Return the tables of all digits, the powers beside that of the top, and what may stand for a weight."""
    tables, nodes = [], []
    for p in range(n_digits - 1):
        falling = _enclosed_powers(fine * _SIDE**p, _SIDE)
        rising = [(_ONE * _ONE // high, -(-_ONE * _ONE // low)) for low, high in falling[:0:-1]]
        table, node = _table([*rising, *falling], bits)
        tables.append(table)
        nodes.append(node)
    place = _SIDE ** (n_digits - 1)
    # A single digit is that of d; else the next one may be met.
    falling = _enclosed_powers(fine * place, min(most // place + (n_digits > 1), _SIDE - 1) + 1)
    halvings = [0, *(_ENCLOSURE_BITS - low.bit_length() for low, _ in falling[1:])]
    mantissas, node = _table([(low << e, high << e) for (low, high), e in zip(falling, halvings, strict=True)], bits)
    nodes.append(node)
    unused = (0,) * (_SIDE - len(falling))
    powers = tuple(1 << halvings[-1] - e for e in halvings) + unused
    while len(nodes) > 1:
        joined = []
        for low, high in zip(*pairs(nodes), strict=True):
            least = low.least * high.least
            # Dropping b bits gives floor or floor + 1: less than one unit off.
            unit = 1 / (least * 2**bits)
            joined.append(Bracket(low.low * high.low - unit, low.high * high.high + unit, least))
        nodes = nodes[: len(nodes) % 2] + joined
    return (*tables, mantissas + unused), powers, nodes[0]


def _enclosed_powers(exponent: Fraction, count: int) -> list[tuple[int, int]]:
    """Return integers that enclose 2^P e^(-j exponent), j = 0..count - 1; P = 192."""
    first_low, first_high = enclose_exp(exponent, _ENCLOSURE_BITS)
    out = [(_ONE, _ONE)]
    for _ in range(count - 1):
        low, high = out[-1]
        out.append((low * first_low >> _ENCLOSURE_BITS, -(-high * first_high >> _ENCLOSURE_BITS)))
    return out


def _table(enclosed: Sequence[tuple[int, int]], bits: int) -> tuple[Table, Bracket]:
    """Return numbers, enclosed in units of 2^-P, to so many fractional bits; and what these say of them."""
    half = _ENCLOSURE_BITS - bits - 1
    entries = tuple(((low >> half) + 1) >> 1 for low, _ in enclosed)
    # In units of 2^-P, outwards: entry / (2^bits number).
    shift = 2 * _ENCLOSURE_BITS - bits
    lowest = min((entry << shift) // high for entry, (_, high) in zip(entries, enclosed, strict=True))
    highest = max(-(-(entry << shift) // low) for entry, (low, _) in zip(entries, enclosed, strict=True))
    least = min(low for low, _ in enclosed)
    return entries, Bracket(Fraction(lowest, _ONE), Fraction(highest, _ONE), Fraction(least, _ONE))


def pairs(nodes: Sequence[_Node]) -> tuple[Sequence[_Node], Sequence[_Node]]:
    """Return who is multiplied with whom: neighbours, from the top downwards; the lowest is left over if odd."""
    rest = len(nodes) % 2
    return nodes[rest::2], nodes[rest + 1 :: 2]
