"""Shared numbers that nobody knows, compared with public ones: coins of any dyadic probability, uniform integers.

U  uniform on 0..2^k - 1, given by its k bits, each shared by exclusive or; every party draws its share of them, so that
   a single party whose words are unknown to a coalition keeps the bits uniform for it, and the dealer sees none
T  public threshold, 0 <= T < 2^k: the coin [U < T] is one with probability T / 2^k, exactly

A digit is a few bits of U. All products of a digit's bits are made in one round; every function of a digit is a sum
over GF(2) of them, so [digit < t] and [digit = t] for all t cost nothing more. A tree joins the digits. One number
compared with many thresholds pays for its digits once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count
from smpc._rounds import Layout
from smpc.binary import BITS
from smpc.bitplanes import pack_bits, unpack_bits
from smpc.bits import SharedBits
from smpc.conjunctions import RADIX, greater_tree
from smpc.conversion import numbers_of
from smpc.kinds import Subsets, node
from smpc.ring import RING64, Domain, Words
from smpc.session import Session
from smpc.shared import Shared

# Bits d of a digit. All products of its bits are dealt, 2^d - d - 1 of them: many thresholds for one number are worth
# larger digits, because the products are shared by all of them and the tree above is not.
_DIGIT, WIDE_DIGIT = 4, 8

_ALL = np.uint64(2**64 - 1)

# More candidates than needed by so many standard deviations: a second batch is needed once in 10^9 times.
_SPARE_DEVIATIONS = 6

MOST_UNIFORM_BITS = 62


def digits_of(thresholds: Sequence[int], n_bits: int, digit: int = _DIGIT) -> npt.NDArray[np.intp]:
    """Return the digits of thresholds, highest first: shape (n_bits / digit, thresholds)."""
    if n_bits < digit or n_bits % digit:
        raise ValueError(f"n_bits must be a multiple of {digit}, got {n_bits!r}")
    if not all(0 <= threshold < 2**n_bits for threshold in thresholds):
        raise ValueError(f"thresholds must be in 0..2^{n_bits} - 1")
    places = range(n_bits - digit, -1, -digit)
    return np.array(
        [[threshold >> place & ((1 << digit) - 1) for threshold in thresholds] for place in places], dtype=int
    )


async def _compared(session: Session, u: Words, digit: int) -> tuple[Words, Words]:
    """Return shares of [d < t] and of [d = t] for each digit d and all its possible values t. One round.

    Parameters
    ----------
    u
        Shares of the bits of numbers, highest first, shape (n_bits, ...).

    Returns
    -------
    Shape (2^digit, n_bits / digit, ...) each.
    """
    n_bits, *rest = u.shape
    kind = Subsets(digit)
    # Bit j of a digit is variable j, so the order within a digit is turned round.
    bits = u.reshape(n_bits // digit, digit, -1)[:, ::-1].transpose(1, 0, 2).reshape(digit, -1)
    masks, products = session.take(kind, bits.shape[1])
    layout = Layout([(BITS, bits.shape)])
    buffer = layout.buffer()
    np.bitwise_xor(bits, masks, out=layout.views(buffer)[0])
    (opened,) = await session.reveal("and", layout, buffer)

    # Row t: the product of the masks a_j of the bits j set in t; of none, one. With x_j = d_j + a_j, d opened, each a_j
    # becomes x_j in turn: a product with j gets d_j times the product without.
    equal = np.empty((1 << digit, bits.shape[1]), dtype=np.uint64)
    equal[0] = _ALL if session.party == 0 else 0
    equal[[1 << j for j in range(digit)]] = masks
    equal[kind.sets] = products.reshape(bits.shape[1], -1).T
    for j, d in enumerate(opened):
        without, with_j = np.moveaxis(equal.reshape(-1, 2, 1 << j, bits.shape[1]), 1, 0)
        with_j ^= d & without
    # [d = t] has a factor 1 + x_j for every other bit as well: the sum of the products over all supersets of t.
    for j in range(digit):
        without, with_j = np.moveaxis(equal.reshape(-1, 2, 1 << j, bits.shape[1]), 1, 0)
        without ^= with_j
    less = np.zeros_like(equal)
    np.bitwise_xor.accumulate(equal[:-1], axis=0, out=less[1:])
    shape = (1 << digit, n_bits // digit, *rest)
    return less.reshape(shape), equal.reshape(shape)


async def below_each(session: Session, u: Words, thresholds: Sequence[int]) -> Words:
    """Return shares of whether each number is below the threshold of its row. 1 + `tree_cost(n_bits)[0]` rounds.

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
    digits = digits_of(thresholds, len(u))
    less, equal = await _compared(session, u, _DIGIT)
    # Of every digit of every row, what concerns the threshold of its row.
    place = (digits, np.arange(len(digits))[:, None], np.arange(len(thresholds))[None, :])
    out = await greater_tree(session, *(each[place].reshape(len(digits), -1) for each in (less, equal)))
    return out.reshape(u.shape[1:])


async def below_all(session: Session, u: Words, thresholds: Sequence[int]) -> Words:
    """Return shares of whether each number is below each threshold. 1 + `tree_cost(n_bits, WIDE_DIGIT)[0]` rounds.

    Parameters
    ----------
    u
        Shares of the bits of numbers, highest first, shape (n_bits, words).

    Returns
    -------
    Shape (thresholds, words).
    """
    digits = digits_of(thresholds, len(u), WIDE_DIGIT)
    less, equal = await _compared(session, u, WIDE_DIGIT)
    place = (digits, np.arange(len(digits))[:, None])
    out = await greater_tree(session, *(each[place].reshape(len(digits), -1) for each in (less, equal)))
    return out.reshape(len(thresholds), -1)


def tree_cost(n_bits: int, digit: int = _DIGIT) -> tuple[int, int]:
    """Return what joining the digits of numbers costs: rounds, and bits that each party opens a comparison.

    The digits themselves take one round more and `n_bits` bits for each number.

    Examples
    --------
    >>> tree_cost(64), tree_cost(128, WIDE_DIGIT)
    ((2, 34), (2, 34))
    """
    n_digits, rounds, bits = n_bits // digit, 0, 0
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
        # What is opened is which are too large, not which are not: so a rehearsal on zeros (`smpc.forecast`) ends.
        too_large = await session.open(~SharedBits(session, (await below_each(session, u, [bound]))[0], n_drawn))
        candidates = unpack_bits(u[n_padded - n_bits :, 0], n_drawn)
        kept.append(candidates[:, np.flatnonzero(~too_large)[:missing]])
        missing -= kept[-1].shape[1]
    # Picked columns may lie column by column in memory; packing takes rows.
    return pack_bits(np.ascontiguousarray(np.concatenate(kept, axis=1)))
