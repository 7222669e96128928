"""The binary digits of a shared number, as shared bits: from sums to exclusive or.

w  width: x is taken modulo 2^w
r  uniform modulo 2^w, known to nobody; c = x + r is opened, so that x = c - r
i  number of a digit of four bits;  b_i  whether digits 0..i-1 of c are less than those of r: the borrow into digit i

Digit i of x is c_i - r_i - b_i modulo 16. For an opened c_i, each bit of c_i - r_i and of c_i - r_i - 1 is the parity
of some of the sixteen bits "r_i = v", which follow from the shared thermometer of r_i: a lookup without a message. The
borrows are comparisons of the digits below, all joined at once by trees; then one round chooses between the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smpc.bitplanes import compare_digits, digits4, pack_bits
from smpc.comparison import open_masked
from smpc.conjunctions import conjunctions, greater_tree
from smpc.kinds import DIGIT_BITS, all_of
from smpc.ring import Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds

_DIGITS = np.arange(16)


def _parity_masks(borrow: int) -> Words:
    """Return for each bit j and opened digit c the set of r for which bit j of c - r - borrow is set; shape (4, 16)."""
    difference = (_DIGITS[:, None] - _DIGITS[None, :] - borrow) % 16
    bits = (difference[None] >> np.arange(DIGIT_BITS)[:, None, None]) & 1
    return np.asarray((bits << _DIGITS).sum(axis=-1).astype(np.uint16))


_WITHOUT_BORROW, _WITH_BORROW = _parity_masks(0), _parity_masks(1)


async def binary_digits(session: Rounds, x: Words, width: int) -> Words:
    """Return shares of the bits of x modulo 2^width. 2, 3, 4 and 5 rounds for width 8, 16, 32 and 64.

    Parameters
    ----------
    x
        Shares in RING64, shape (n,).
    width
        8, 16, 32 or 64.

    Returns
    -------
    Shape (width, ceil(n / 64)), lowest bit first, packed.
    """
    c, thermometers = await open_masked(session, x, width)
    n_digits = width // DIGIT_BITS
    greater, _, equal = compare_digits(c, thermometers)
    is_value = thermometers ^ (thermometers >> np.uint16(1))
    c_digits = digits4(c, n_digits)

    def parities(masks: Words) -> Words:
        chosen = is_value[None] & masks[:, c_digits]
        return pack_bits(np.bitwise_count(chosen) & np.uint8(1))

    # Shape (digits, 4, words).
    without, with_borrow = (parities(masks).transpose(1, 0, 2) for masks in (_WITHOUT_BORROW, _WITH_BORROW))
    borrows = np.stack(
        await session.together(*(greater_tree(session, greater[:i][::-1], equal[:i][::-1]) for i in range(1, n_digits)))
    )
    changes = (without ^ with_borrow)[1:]
    variables = np.stack([np.broadcast_to(borrows[:, None], changes.shape), changes]).reshape(2, -1)
    changed = (await conjunctions(session, all_of(2), variables)).reshape(changes.shape)
    out = without.copy()
    out[1:] ^= changed
    return out.reshape(width, -1)
