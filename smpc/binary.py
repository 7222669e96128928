"""Domains of bits: words that are shared by exclusive or, and integers modulo 2^8, 2^16 and 2^32.

BITS, BITS16   each bit of a word is a secret of its own. The sum of shares is their exclusive or, the product of two
               shared words the conjunction of their bits: one word carries 64 (16) independent bits.
narrow(w)      Z_2^w for w = 8, 16, 32, 64. A share in Z_2^64 reduced modulo 2^w is a share of the reduced value, so
               numbers known to be small are opened under a mask in fewer bytes.

Both serve inside protocols; what is put in and opened lives in RING64 or FIELD61.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from privacy.randomness import Rng
from smpc.ring import RING64, Domain, Words


class _Binary(Domain):
    """What the domains of this module have in common: any word is an element, and randomness is bytes."""

    __slots__ = ()

    def _from_int64(self, values: npt.NDArray[np.int64]) -> Words:
        return values.astype(self.dtype)

    def to_signed(self, elements: Words) -> npt.NDArray[np.int64]:
        return elements.astype(np.int64)

    def checked(self, elements: Words) -> Words:
        return elements

    def matmul(self, a: Words, b: Words) -> Words:  # noqa: ARG002 - there is none
        raise TypeError(f"{self.name} has no matrix product")

    def random(self, shape: tuple[int, ...], rng: Rng) -> Words:
        n_bytes = math.prod(shape) * self.dtype.itemsize
        words = rng.uint64(-(-n_bytes // 8))
        return words.view(self.dtype)[: math.prod(shape)].reshape(shape)


class _Xor(_Binary):
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

    def sum(self, a: Words, axis: int | None = None) -> Words:
        return np.asarray(np.bitwise_xor.reduce(a, axis=axis))


class _Narrow(_Binary):
    """Z_2^w in words of w bits: NumPy's own unsigned arithmetic."""

    __slots__ = ()

    def add(self, a: Words, b: Words, out: Words | None = None) -> Words:
        return np.asarray(np.add(np.asarray(a), b, out=out))

    def sub(self, a: Words, b: Words, out: Words | None = None) -> Words:
        return np.asarray(np.subtract(np.asarray(a), b, out=out))

    def neg(self, a: Words) -> Words:
        return np.asarray(np.negative(np.asarray(a)))

    def mul(self, a: Words, b: Words) -> Words:
        return np.asarray(np.multiply(np.asarray(a), b))

    def sum(self, a: Words, axis: int | None = None) -> Words:
        return np.asarray(np.sum(a, axis=axis, dtype=self.dtype))


BITS: Domain = _Xor("BITS", 2, np.dtype("<u8"))
BITS16: Domain = _Xor("BITS16", 2, np.dtype("<u2"))

_NARROW: dict[int, Domain] = {
    8: _Narrow("RING8", 2**8, np.dtype("<u1")),
    16: _Narrow("RING16", 2**16, np.dtype("<u2")),
    32: _Narrow("RING32", 2**32, np.dtype("<u4")),
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
