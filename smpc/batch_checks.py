"""Whether everything in a group is zero, or within bounds: one bit for each group, whatever was put in.

x      words that somebody shared who may lie: any elements of Z_2^64, no declared range is believed
K      tests for each group, 64
group  a row; all its elements must pass

Both questions end in a row of numbers, or of bits, that must all be zero, and zero is tested by K sums over random
subsets: with independent fair coins b_j that are drawn when the d_j are fixed,

    P(sum_j b_j d_j = 0) <= 1/2    in any abelian group, unless all d_j are zero.                                (1)

For let d_i be one that is not zero and fix all coins but b_i: of the two sums, which differ by d_i, at most one is
zero. K sums with coins of their own are all zero with probability at most 2^-K = 2^-64. Nothing about the d_j enters:
the bound is the same for 1 and for 2^63, which a product with a uniform word would miss half of the time, because an
even factor takes it to zero. (1) is sharp: one d_j that is not zero, and its K coins are zero with probability 2^-K.

The sums themselves stay shared; only whether all are zero goes on. So a group that fails shows that it does, and a
group that passes shows nothing.

Coins come from a public seed (`Rounds.coin`) through a pseudorandom stream: the bound then holds up to its
distinguishing advantage. The seed must be agreed on when the shares are with the parties, not before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count
from smpc._products import bits_of
from smpc._real import words_of
from smpc.bitplanes import pack_bits, unpack_bits
from smpc.bits import SharedBits
from smpc.comparison import at_least, is_zero
from smpc.conjunctions import all_tree
from smpc.prg import Prg
from smpc.ring import RING64, Words
from smpc.session import Session
from smpc.shared import Shared

N_TESTS = 64

# Comparisons at a time: some 150 bytes of material and temporaries each.
_BATCH_COMPARISONS = 1 << 19

# Terms of a sum of doubles: 2^32 - 1 at most each, so that it stays below 2^53.
_BATCH_TERMS = 1 << 13

Bounds = int | npt.NDArray[np.int64]


async def each_zero(session: Session, x: Shared, seed: bytes) -> SharedBits:
    """Return whether all elements of each row are zero, one bit a row. Six rounds, 64 comparisons a row.

    A row that is not zero passes with probability at most 2^-64.

    Parameters
    ----------
    x
        Shape (rows, n), in RING64.
    seed
        32 bytes, public, agreed on after x was shared.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     return await s.open(await each_zero(s, a[0] - a[1], await s.coin(32)))
    >>> run_local(protocol, inputs=[[[1, 2], [3, 4]], [[1, 2], [3, 2**63 - 4]]]).results[0]
    array([ True, False])
    """
    words = _rows(x)
    sums = random_sums(words, Prg(seed, b"zero").uint64(words.shape[1]))
    flat = np.ascontiguousarray(sums.T).reshape(-1)
    zeros = unpack_bits(await is_zero(session, flat, 64), len(flat)).reshape(N_TESTS, -1)
    return SharedBits(session, await all_tree(session, pack_bits(zeros)), len(words))


async def each_within(session: Session, x: Shared, low: Bounds, high: Bounds, seed: bytes) -> SharedBits:
    """Return whether all elements of each row lie in low..high, one bit a row.

    Six rounds, and three more for every further 2^19 elements; two comparisons an element that share their opening.

    With y = x - low and w = high - low + 1 <= 2^63, as words: y < w iff the top bit of y is zero and that of y - w is
    one. (If y < 2^63, then y - w wraps to a word >= 2^63 just if y < w; and w <= 2^63 makes y >= 2^63 fail the first.)
    So the answer is right for every word, as no comparison of numbers of a declared range would be. Then the bits that
    must be zero are tested like numbers: a row that is not within passes with probability at most 2^-64.

    Parameters
    ----------
    x
        Shape (rows, n), in RING64.
    low, high
        0 <= low <= high < 2^62, one for all or one for each row.
    seed
        As for `each_zero`; it may be the same.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     return await s.open(await each_within(s, a[0] + a[1], 0, 5, await s.coin(32)))
    >>> run_local(protocol, inputs=[[[0, 5], [7, -1]], [[0, 0], [0, 0]]]).results[0]
    array([ True, False])
    """
    words = _rows(x)
    n_rows, n = words.shape
    least, most = (np.broadcast_to(np.asarray(bound, dtype=np.int64), n_rows) for bound in (low, high))
    if not ((least >= 0) & (least <= most) & (most < 2**62)).all():
        raise ValueError("bounds must satisfy 0 <= low <= high < 2^62")
    flat = words.reshape(-1)
    thresholds = np.repeat(np.stack([least, most + 1]).astype(np.uint64), n, axis=1)
    bad = np.empty((2, n_rows * n), dtype=np.uint8)
    for start in range(0, flat.size, _BATCH_COMPARISONS):
        part = slice(start, start + _BATCH_COMPARISONS)
        found = await at_least(session, flat[part], list(thresholds[:, part]), 64)
        bad[:, part] = unpack_bits(found, len(flat[part]))
    if session.party == 0:
        bad[0] ^= 1
    # A row's bits side by side, those of both bounds: shape (rows, words).
    packed = pack_bits(bad.reshape(2, n_rows, n)).transpose(1, 0, 2).reshape(n_rows, -1)
    sums = random_parities(packed, Prg(seed, b"within").uint64(N_TESTS * packed.shape[1]))
    if session.party == 0:
        sums ^= 1
    return SharedBits(session, await all_tree(session, pack_bits(sums)), n_rows)


def random_sums(x: Words, coins: Words) -> Words:
    """Return for each row its 64 sums over random subsets, modulo 2^64. Local: linear in x.

    Parameters
    ----------
    x
        Shape (rows, n).
    coins
        Shape (n,): bit k of word j says whether element j is in sum k.

    Returns
    -------
    Shape (rows, 64).

    Examples
    --------
    >>> random_sums(np.array([[1, 2**63]], dtype=np.uint64), np.array([0b01, 0b11], dtype=np.uint64))[0, :3]
    array([9223372036854775809, 9223372036854775808, 0], dtype=uint64)
    """
    out = np.zeros((len(x), N_TESTS), dtype=np.uint64)
    low = np.uint64(2**32 - 1)
    for start in range(0, x.shape[1], _BATCH_TERMS):
        part = x[:, start : start + _BATCH_TERMS]
        chosen = unpack_bits(coins[start : start + _BATCH_TERMS, None], N_TESTS).astype(np.float64)
        # Halves of 32 bits, so that doubles are exact, at the speed of their products.
        for half, shift in ((part & low, np.uint64(0)), (part >> np.uint64(32), np.uint64(32))):
            out += (half.astype(np.float64) @ chosen).astype(np.uint64) << shift
    return out


def random_parities(bits: Words, coins: Words) -> npt.NDArray[np.uint8]:
    """Return for each row of packed bits its 64 sums over random subsets, modulo 2. Local: linear in the bits.

    Parameters
    ----------
    bits
        Shape (rows, words).
    coins
        Shape (64 * words,): the subsets, one after the other.

    Returns
    -------
    Zeros and ones, shape (64, rows).
    """
    subsets = coins.reshape(N_TESTS, -1)
    parities = [np.bitwise_count(np.bitwise_xor.reduce(bits & subset, axis=1)) & np.uint8(1) for subset in subsets]
    return np.stack(parities)


def joined(*answers: SharedBits) -> SharedBits:
    """Return answers of equally many groups as rows of one array, to be opened together. Local."""
    first = answers[0]
    check_count("groups", first.length)
    return SharedBits(first.session, np.stack([bits_of(each) for each in answers]), first.length)


def _rows(x: Shared) -> Words:
    if x.ndim != 2 or x.domain is not RING64:
        raise ValueError(f"groups are the rows of an array of shape (rows, n) in RING64, got {x!r}")
    return words_of(x)
