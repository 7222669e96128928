"""Domains of bits: words that are shared by exclusive or, and integers modulo 2^8, 2^16 and 2^32.

BITS, BITS16   each bit of a word is a secret of its own. The sum of shares is their exclusive or, the product of two
               shared words the conjunction of their bits: one word carries 64 (16) independent bits.
narrow(w)      Z_2^w for w = 8, 16, 32, 64. A share in Z_2^64 reduced modulo 2^w is a share of the reduced value, so
               numbers known to be small are opened under a mask in fewer bytes.

Both serve inside protocols; what is put in and opened lives in RING64 or FIELD61.
"""

from __future__ import annotations

import numpy as np

from smpc.ring import RING64, Domain, PowerOfTwo, Words


class _Xor(PowerOfTwo):
    """Bits of words: addition is exclusive or, multiplication is conjunction."""

    __slots__ = ()

    def add(self, a: Words, b: Words, out: Words | None = None) -> Words:
        return np.asarray(np.bitwise_xor(np.asarray(a), b, out=out))

    def sub(self, a: Words, b: Words, out: Words | None = None) -> Words:
        return np.asarray(np.bitwise_xor(np.asarray(a), b, out=out))

    def neg(self, a: Words) -> Words:
        return a

    def mul(self, a: Words, b: Words) -> Words:
        return np.asarray(np.bitwise_and(np.asarray(a), b))

    def matmul(self, a: Words, b: Words) -> Words:  # noqa: ARG002 - there is none
        raise TypeError(f"{self.name} has no matrix product")

    def sum(self, a: Words, axis: int | None = None) -> Words:
        return np.asarray(np.bitwise_xor.reduce(a, axis=axis))


BITS: Domain = _Xor("BITS", 2, np.dtype("<u8"))
BITS16: Domain = _Xor("BITS16", 2, np.dtype("<u2"))

_NARROW: dict[int, Domain] = {
    8: PowerOfTwo("RING8", 2**8, np.dtype("<u1")),
    16: PowerOfTwo("RING16", 2**16, np.dtype("<u2")),
    32: PowerOfTwo("RING32", 2**32, np.dtype("<u4")),
    64: RING64,
}


def narrow(width: int) -> Domain:
    """Return Z_2^width.

    Parameters
    ----------
    width
        8, 16, 32 or 64.

    Examples
    --------
    >>> int(narrow(16).add(np.uint16(65535), np.uint16(3)))
    2
    """
    if width not in _NARROW:
        raise ValueError(f"width must be 8, 16, 32 or 64, got {width!r}")
    return _NARROW[width]


def to_narrow(elements: Words, width: int) -> Words:
    """Return words modulo 2^width, in words of that width."""
    return elements if width == 64 else elements.astype(narrow(width).dtype)
