"""From bits to numbers.

numbers_of  bits that are shared by exclusive or become numbers 0 and 1 that add up: the bit is opened under a random
            bit that is shared in both ways (daBits, Rotaru and Wood 2019, eprint 2019/207)
gated       a number times a bit that is shared by exclusive or, in the same single round
gates       several numbers times each of several bits, and the bits as numbers, in the same single round
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smpc._rounds import Layout
from smpc.binary import BITS
from smpc.bitplanes import unpack_bits
from smpc.kinds import Bit, Gate, Gates
from smpc.ring import RING64, Domain, Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds


async def numbers_of(session: Rounds, words: Words, length: int, domain: Domain = RING64) -> Words:
    """Return shares of the bits as numbers. One round.

    Parameters
    ----------
    words
        Shares of bits, shape (..., w), the last axis packed.
    length
        Elements of the packed axis, at most 64 w.

    Returns
    -------
    Shape (..., length).
    """
    masks, numbers = session.take(Bit(domain), words.size)
    layout = Layout([(BITS, words.shape)])
    buffer = layout.buffer()
    np.bitwise_xor(words, masks.reshape(words.shape), out=layout.views(buffer)[0])
    (opened,) = await session.reveal("bit", layout, buffer)
    return _apply(session, opened, numbers.reshape(*words.shape[:-1], 64 * words.shape[-1])[..., :length], domain)


def _apply(session: Rounds, opened: Words, mask: Words, domain: Domain) -> Words:
    """Return opened + mask - 2 opened mask: the exclusive or of a public bit and a shared one, as numbers."""
    length = mask.shape[-1]
    bit = unpack_bits(opened, length).astype(np.uint64)
    if domain is RING64:
        # As integers modulo 2^64: (mask ^ -bit) + bit is -mask where the bit is set, mask where not.
        flipped = mask ^ np.negative(bit)
        flipped += bit
        if session.party == 0:
            flipped += bit
        return np.asarray(flipped)
    flipped = np.where(bit != 0, domain.neg(mask), mask)
    return domain.add(flipped, bit) if session.party == 0 else flipped


async def gated(session: Rounds, words: Words, values: Words) -> Words:
    """Return shares of the values times the bits. One round.

    With b = d + (1 - 2 d) p, d opened and p a random bit, and v = e + a, e opened:

        b v = d (e + a) + (1 - 2 d) (p e + p a).

    Parameters
    ----------
    words
        Shares of bits, shape (..., w), packed.
    values
        Shares of numbers in RING64, shape (..., length) with length at most 64 w.
    """
    *lead, length = values.shape
    n_words = words.shape[-1]
    masks, a, p, pa = session.take(Gate(), words.size)
    layout = Layout([(BITS, words.shape), (RING64, values.shape)])
    buffer = layout.buffer()
    masked_bits, masked_values = layout.views(buffer)
    np.bitwise_xor(words, masks.reshape(words.shape), out=masked_bits)

    def cut(part: Words) -> Words:
        return part.reshape(*lead, 64 * n_words)[..., :length]

    np.subtract(values, cut(a), out=masked_values)
    opened, e = await session.reveal("gate", layout, buffer)
    d = unpack_bits(opened, length).astype(np.uint64)
    minus_d = np.negative(d)
    product = e * cut(p)
    product += cut(pa)
    # As in `_apply`: the product with 1 - 2 d.
    product ^= minus_d
    product += d
    kept = e + cut(a) if session.party == 0 else cut(a)
    product += kept & minus_d
    return np.asarray(product)


async def gates(session: Rounds, words: Words, values: Words) -> tuple[Words, Words]:
    """Return shares of the bits as numbers, and of the products of every bit with every number. One round.

    As `gated`, with one mask for a number whatever the number of bits: an element costs the bits and 8 bytes for each
    number.

    Parameters
    ----------
    words
        Shares of bits, shape (b, ceil(n / 64)), packed.
    values
        Shares of numbers in RING64, shape (m, n).

    Returns
    -------
    Shapes (b, n) and (b, m, n).
    """
    (n_bits, n_words), (n_values, n) = words.shape, values.shape
    masks, a, p, pa = session.take(Gates(n_bits, n_values), n_words)
    a, p, pa = a[:, :n], p[:, :n], pa.reshape(n_bits, n_values, -1)[..., :n]
    layout = Layout([(BITS, words.shape), (RING64, values.shape)])
    buffer = layout.buffer()
    masked_bits, masked_values = layout.views(buffer)
    np.bitwise_xor(words, masks, out=masked_bits)
    np.subtract(values, a, out=masked_values)
    opened, e = await session.reveal("gates", layout, buffer)
    d = unpack_bits(opened, n).astype(np.uint64)
    minus_d = np.negative(d)
    products = e * p[:, None]
    products += pa
    # As in `_apply`: the product with 1 - 2 d.
    products ^= minus_d[:, None]
    products += d[:, None]
    products += (e + a if session.party == 0 else a) & minus_d[:, None]
    return _apply(session, opened, p, RING64), products
