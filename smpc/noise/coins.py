"""Shared numbers that nobody knows, compared with public ones: coins of any dyadic probability, uniform integers.

U  uniform on 0..2^k - 1, given by its k bits, each shared by exclusive or; every party draws its share of them, so that
   a single party whose words are unknown to a coalition keeps the bits uniform for it, and the dealer sees none
T  public threshold, 0 <= T < 2^k: the coin [U < T] is one with probability T / 2^k, exactly

A digit is four bits of U. All products of a digit's bits are made in one round; every function of a digit is a sum
over GF(2) of them (its algebraic normal form), so [digit < t] and [digit = t] for any public t cost nothing more. A
tree joins the digits. One number compared with many thresholds pays for its digits once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count
from smpc.binary import BITS
from smpc.bitplanes import pack_bits, unpack_bits
from smpc.bits import SharedBits
from smpc.conjunctions import RADIX, conjunctions, greater_tree
from smpc.conversion import numbers_of
from smpc.kinds import Conjunctions, node
from smpc.ring import RING64, Domain, Words
from smpc.session import Session
from smpc.shared import Shared

_DIGIT = 4
_VALUES = 1 << _DIGIT
_ALL = np.uint64(2**64 - 1)

# Sets of at least two of a digit's bits, as `Conjunctions` orders and `_MASKS` numbers them.
_SUBSETS = tuple(subset for size in range(2, _DIGIT + 1) for subset in combinations(range(_DIGIT), size))
_PRODUCTS = Conjunctions(_SUBSETS)
_MASKS = [sum(1 << j for j in subset) for subset in _SUBSETS]

# More candidates than needed by so many standard deviations: a second batch is needed once in 10^9 times.
_SPARE_DEVIATIONS = 6

MOST_UNIFORM_BITS = 62


@cache
def _normal_forms() -> tuple[Words, Words]:
    """Return, as words of zeros or ones, the coefficients of [d < t] and of [d = t]: shape (t, products of bits)."""
    d = np.arange(_VALUES)
    forms = []
    for truth in (d[None, :] < d[:, None], d[None, :] == d[:, None]):
        coefficients = truth.astype(np.uint64)
        # Moebius transform over GF(2), one variable after the other.
        for j in range(_DIGIT):
            with_j = np.flatnonzero(d >> j & 1)
            coefficients[:, with_j] ^= coefficients[:, with_j ^ (1 << j)]
        forms.append(coefficients * _ALL)
    return forms[0], forms[1]


def digits_of(thresholds: Sequence[int], n_bits: int) -> npt.NDArray[np.intp]:
    """Return the digits of thresholds, highest first: shape (n_bits / 4, thresholds)."""
    if n_bits < _DIGIT or n_bits % _DIGIT:
        raise ValueError(f"n_bits must be a multiple of {_DIGIT}, got {n_bits!r}")
    if not all(0 <= threshold < 2**n_bits for threshold in thresholds):
        raise ValueError(f"thresholds must be in 0..2^{n_bits} - 1")
    places = range(n_bits - _DIGIT, -1, -_DIGIT)
    return np.array([[threshold >> place & (_VALUES - 1) for threshold in thresholds] for place in places], dtype=int)


async def _digit_products(session: Session, u: Words) -> Words:
    """Return the products of the bits of each digit. One round.

    Parameters
    ----------
    u
        Shares of the bits of numbers, highest first, shape (n_bits, ...).

    Returns
    -------
    Shape (16, n_bits / 4, ...): entry m is the product of the bits set in m; entry 0 is one.
    """
    n_bits, *rest = u.shape
    # Bit j of a digit is variable j, so the order within a digit is turned round.
    bits = u.reshape(n_bits // _DIGIT, _DIGIT, -1)[:, ::-1].transpose(1, 0, 2).reshape(_DIGIT, -1)
    out = np.empty((_VALUES, bits.shape[1]), dtype=np.uint64)
    out[0] = _ALL if session.party == 0 else 0
    for j in range(_DIGIT):
        out[1 << j] = bits[j]
    out[_MASKS] = await conjunctions(session, _PRODUCTS, np.ascontiguousarray(bits))
    return out.reshape(_VALUES, n_bits // _DIGIT, *rest)


async def below_each(session: Session, u: Words, thresholds: Sequence[int]) -> Words:
    """Return shares of whether each number is below the threshold of its row. 1 + `tree_rounds` rounds.

    Parameters
    ----------
    u
        Shares of the bits of numbers, highest first, shape (n_bits, rows, words).
    thresholds
        One for each row.

    Returns
    -------
    Shape (rows, words).
    """
    products = await _digit_products(session, u)
    digits = digits_of(thresholds, len(u))
    less, equal = (
        np.bitwise_xor.reduce(products & np.moveaxis(form[digits], -1, 0)[..., None], axis=0)
        for form in _normal_forms()
    )
    out = await greater_tree(session, less.reshape(len(digits), -1), equal.reshape(len(digits), -1))
    return out.reshape(u.shape[1:])


async def below_all(session: Session, u: Words, thresholds: Sequence[int]) -> Words:
    """Return shares of whether each number is below each threshold. 1 + `tree_rounds` rounds.

    Parameters
    ----------
    u
        Shares of the bits of numbers, highest first, shape (n_bits, words).

    Returns
    -------
    Shape (thresholds, words).
    """
    products = await _digit_products(session, u)
    digits = digits_of(thresholds, len(u))
    rows = np.arange(len(digits))[:, None]
    less, equal = (
        np.stack([np.bitwise_xor.reduce(products & row[:, None, None], axis=0) for row in form])[digits, rows]
        for form in _normal_forms()
    )
    out = await greater_tree(session, less.reshape(len(digits), -1), equal.reshape(len(digits), -1))
    return out.reshape(len(thresholds), -1)


def tree_cost(n_bits: int) -> tuple[int, int]:
    """Return what joining the digits of numbers costs: rounds, and bits that each party opens a comparison.

    The digits themselves take one round more and `n_bits` bits for each number.

    Examples
    --------
    >>> tree_cost(64), tree_cost(128)
    ((2, 34), (3, 72))
    """
    n_digits, rounds, bits = n_bits // _DIGIT, 0, 0
    while n_digits > 1:
        radix, whole = (n_digits, False) if n_digits <= RADIX else (RADIX, True)
        n_nodes = n_digits // radix
        rounds += 1
        bits += n_nodes * node(radix, whole=whole).n_variables
        n_digits -= n_nodes * (radix - 1)
    return rounds, bits


def random_words(session: Session, *shape: int) -> Words:
    """Return shares of words of uniform bits that no coalition of n - 1 parties knows. Local."""
    return BITS.random(shape, session.rng)


async def biased_bits(session: Session, probability: Fraction, length: int, *, n_bits: int = 64) -> SharedBits:
    """Return independent bits, each one with exactly the probability. 1 + `tree_cost(n_bits)[0]` rounds.

    Parameters
    ----------
    probability
        A multiple of 2^-n_bits in [0, 1).
    length
        How many, >= 1.
    n_bits
        Uniform bits behind each of them, a multiple of 4.

    Raises
    ------
    ValueError
        If the probability is none of these.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, _):
    ...     return await s.open(await biased_bits(s, Fraction(1, 4), 10_000))
    >>> bool(2_000 < run_local(protocol, [None, None]).results[0].sum() < 3_000)
    True
    """
    check_count("length", length)
    scaled = Fraction(probability) * 2**n_bits
    if scaled.denominator != 1 or not 0 <= scaled < 2**n_bits:
        raise ValueError(f"probability must be a multiple of 2^-{n_bits} in [0, 1), got {probability!r}")
    u = random_words(session, n_bits, 1, -(-length // 64))
    return SharedBits(session, (await below_each(session, u, [scaled.numerator]))[0], length)


async def uniform_below(session: Session, bound: int, length: int, *, domain: Domain = RING64) -> Shared:
    """Return independent integers, uniform on 0..bound - 1, exactly; no coalition of n - 1 parties knows them.

    A power of two takes as many shared bits and one round. Else numbers of just enough bits are drawn and those that
    are not below the bound are left out: whether they are is opened, and says nothing of those that stay, which are
    uniform whatever was left out. (Choosing the first good one of several on shares would hide which ones were
    left out, which nobody needs, and would fail with some probability.) At least half of the candidates stay, and some
    more are drawn than needed, so a second batch is hardly ever needed.

    Parameters
    ----------
    bound
        1..2^62.
    length
        How many, >= 1.

    Raises
    ------
    ValueError
        If the domain does not hold the integers.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, _):
    ...     return await s.open(await uniform_below(s, 6, 1000))
    >>> sorted(set(run_local(protocol, [None, None]).results[0].tolist()))
    [0, 1, 2, 3, 4, 5]
    """
    check_count("bound", bound)
    check_count("length", length)
    if bound > 2**MOST_UNIFORM_BITS or bound - 1 > domain.largest:
        raise ValueError(f"bound must be at most 2^{MOST_UNIFORM_BITS} and fit the domain, got {bound!r}")
    n_bits = (bound - 1).bit_length()
    if bound == 2**n_bits:
        planes = random_words(session, n_bits, -(-length // 64))
    else:
        planes = await _accepted(session, bound, n_bits, length)
    # Highest first, as comparisons take them.
    words = await weighted(session, planes[::-1], length, domain) if n_bits else np.zeros(length, dtype=np.uint64)
    return session.shared(words, domain, bound=bound - 1)


async def weighted(session: Session, planes: Words, length: int, domain: Domain) -> Words:
    """Return shares of the numbers whose bits are given, lowest first; shape (length,). One round."""
    numbers = await numbers_of(session, planes, length, domain)
    weights = domain.from_signed(2 ** np.arange(len(planes), dtype=np.int64))
    return domain.sum(domain.mul(numbers, weights[:, None]), axis=0)


async def _accepted(session: Session, bound: int, n_bits: int, length: int) -> Words:
    """Return shares of the bits, highest first, of `length` uniform numbers below the bound: shape (n_bits, words)."""
    n_padded = -(-n_bits // _DIGIT) * _DIGIT
    acceptance = bound / 2**n_bits
    kept: list[npt.NDArray[np.uint8]] = []
    missing = length
    while missing > 0:
        spare = _SPARE_DEVIATIONS * (math.sqrt(missing * (1 - acceptance)) + _SPARE_DEVIATIONS)
        n_drawn = math.ceil((missing + spare) / acceptance)
        u = np.zeros((n_padded, 1, -(-n_drawn // 64)), dtype=np.uint64)
        u[n_padded - n_bits :] = random_words(session, n_bits, *u.shape[1:])
        accepted = await session.open(SharedBits(session, (await below_each(session, u, [bound]))[0], n_drawn))
        candidates = unpack_bits(u[n_padded - n_bits :, 0], n_drawn)
        kept.append(candidates[:, np.flatnonzero(accepted)[:missing]])
        missing -= kept[-1].shape[1]
    # Picked columns may lie column by column in memory; packing takes rows.
    return pack_bits(np.ascontiguousarray(np.concatenate(kept, axis=1)))
