"""Comparisons: the sign of a shared number, equality, order, in two or three rounds to bits and one more to numbers.

w  width: the number x is known to fit -2^(w-1)..2^(w-1) - 1, w = 8, 16, 32 or 64. Only x mod 2^w counts
r  uniform modulo 2^w, known to nobody; shares of r and of the thermometers of its digits come from the dealer
c  x + r mod 2^w, opened: uniform whatever x is

Whether r > c follows from the digits: for an opened c each party looks up its shares of "digit of r greater than digit
of c" and "at least", without a message, and a tree over 4 (8, 16) digits joins them. Then

    x = 0  iff  every digit of r equals that of c;
    x < 0  iff  c_top  xor  [r > c]  xor  [r > c + 2^(w-1)],

the second because x = c - r runs through the negative numbers while r runs through an interval that begins behind c or
behind c + 2^(w-1), cyclically. c and c + 2^(w-1) differ in one digit only, the highest, so that one tree serves both.

Source: bits of a mask from the preprocessing, Damgard et al. 2006 (TCC) and edaBits (Escudero et al. 2020, eprint
2020/338). Looking up digits in place of single bits is what shortens the tree from six levels to two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smpc._rounds import Layout
from smpc.binary import narrow, to_narrow
from smpc.bitplanes import compare_digits, pack_bits
from smpc.conjunctions import all_tree, conjunctions, greater_tree
from smpc.kinds import Digits, all_of
from smpc.material import Elements
from smpc.ring import Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds

_WIDTHS = (8, 16, 32, 64)


def width_for(bound: int | None) -> int:
    """Return the least width for numbers of absolute value at most `bound`; 64 if there is none."""
    if bound is None:
        return 64
    return next((width for width in _WIDTHS if bound < 2 ** (width - 1)), 64)


async def negative(session: Rounds, x: Words, width: int) -> Words:
    """Return shares of whether x < 0, packed. Two rounds for width 8 and 16, three for 32 and 64.

    Parameters
    ----------
    x
        Shares in RING64, shape (n,), of numbers in -2^(width-1)..2^(width-1) - 1.

    Returns
    -------
    Words of bits, shape (ceil(n / 64),).
    """
    c, thermometers = await open_masked(session, x, width)
    return await _negative(session, c, thermometers, width)


async def _negative(session: Rounds, c: Words, thermometers: Elements, width: int) -> Words:
    """Return shares of whether c - r < 0, for a public c < 2^width."""
    greater, _, equal = compare_digits(c, thermometers)
    # The highest digit under c and under c + 2^(width-1): their sum is the digit that the tree starts with.
    top = c >> np.uint64(width - 4)
    other_greater, _, other_equal = compare_digits(top ^ np.uint64(8), thermometers[-1:])
    greater[-1] ^= other_greater[0]
    equal[-1] ^= other_equal[0]
    out = await greater_tree(session, greater[::-1], equal[::-1])
    if session.party == 0:
        out = out ^ pack_bits((top >> np.uint64(3)).astype(np.uint8))
    return out


async def at_least(session: Rounds, x: Words, thresholds: Sequence[int | Words], width: int) -> Words:
    """Return shares of whether x >= t for each of several public numbers t. Rounds as `negative`.

    One opening serves all: c - t is public, and x - t = (c - t) - r.

    Parameters
    ----------
    x
        Shares in RING64, shape (n,). All x - t lie in -2^(width-1)..2^(width-1) - 1. (At width 64 any x may be given:
        the answer is then that of the top bit of x - t, as words.)
    thresholds
        Numbers, or a row of words with one for each x.

    Returns
    -------
    Words of bits, shape (thresholds, ceil(n / 64)).
    """
    c, thermometers = await open_masked(session, x, width)
    n_thresholds, n = len(thresholds), len(x)
    n_words = -(-n // 64)
    shifted = np.zeros((n_thresholds, 64 * n_words), dtype=np.uint64)
    for row, threshold in zip(shifted, thresholds, strict=True):
        t = threshold if isinstance(threshold, np.ndarray) else np.uint64(threshold % 2**64)
        np.subtract(c, t, out=row[:n])
    shifted &= np.uint64(2**width - 1)
    tables = np.zeros((len(thermometers), n_thresholds, 64 * n_words), dtype=thermometers.dtype)
    tables[..., :n] = thermometers[:, None]
    out = await _negative(session, shifted.reshape(-1), tables.reshape(len(thermometers), -1), width)
    return (~out if session.party == 0 else out).reshape(n_thresholds, n_words)


async def is_zero(session: Rounds, x: Words, width: int) -> Words:
    """Return shares of whether x = 0 modulo 2^width, packed. Two rounds for width 8 and 16, three for 32 and 64."""
    c, thermometers = await open_masked(session, x, width)
    return await all_tree(session, compare_digits(c, thermometers)[2])


async def less_anywhere(session: Rounds, x: Words, y: Words) -> Words:
    """Return shares of whether x < y as signed 64-bit integers, whatever they are, packed. Four rounds.

    The difference may wrap, so its sign counts only where x and y have the same sign.
    """
    n = len(x)
    n_words = -(-n // 64)
    padded = np.zeros((3, 64 * n_words), dtype=np.uint64)
    padded[0, :n], padded[1, :n] = x, y
    np.subtract(padded[0], padded[1], out=padded[2])
    x_sign, y_sign, difference = (await negative(session, padded.reshape(-1), 64)).reshape(3, n_words)
    product = await conjunctions(session, all_of(2), np.stack([x_sign ^ y_sign, difference ^ x_sign]))
    return np.asarray(difference ^ product[0])


async def open_masked(session: Rounds, x: Words, width: int) -> tuple[Words, Elements]:
    """Open x + r modulo 2^width, and return it with the shares of the thermometers of r."""
    r, thermometers = session.take(Digits(width), len(x))
    layout = Layout([(narrow(width), x.shape)])
    buffer = layout.buffer()
    np.add(to_narrow(x, width), r, out=layout.views(buffer)[0])
    (c,) = await session.reveal("masked", layout, buffer)
    return c.astype(np.uint64, copy=False), thermometers
