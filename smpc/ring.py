"""The two domains in which shares live: Z_2^64 and F_p with p = 2^61 - 1.

An element is a uint64 word. Integers enter and leave by their residue of least absolute value, so that negative
numbers need no care: -1 is 2^64 - 1 in the ring and p - 1 in the field.

RING64   the machine's own arithmetic, wrap-around included. Sums, products, matrix products at full speed.
FIELD61  every non-zero element has an inverse, so a product with a uniform non-zero mask is uniform: the place for
         questions such as "is this zero?". p is a Mersenne prime: 2^61 = 1, and reduction is a shift and an add.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy.randomness import Rng
from smpc._ring_matmul import matmul
from smpc.errors import RangeExceeded

Words = npt.NDArray[np.uint64]

P61 = 2**61 - 1

_P = np.uint64(P61)
_32 = np.uint64(32)
_LOW32 = np.uint64(2**32 - 1)
_29 = np.uint64(29)
_LOW29 = np.uint64(2**29 - 1)
_3 = np.uint64(3)
_61 = np.uint64(61)

# Temporaries of this many words stay in cache: four times faster than whole arrays.
_CHUNK = 1 << 14

# Three limbs of 21 bits: (2^21 - 1)^2 * 2048 < 2^53, so a double-precision dot product of this length is exact,
# whatever the entries are.
_LIMB_BITS = 21
_LIMB_TERMS = 2048


@dataclass(frozen=True, slots=True)
class Domain(ABC):
    """Arithmetic on arrays of elements.

    All operations take and return uint64 arrays of elements and broadcast like NumPy. `out`, where it is offered,
    is overwritten with the result and returned; it may be one of the arguments.
    """

    name: str
    modulus: int
    dtype: np.dtype[Any] = np.dtype("<u8")  # noqa: RUF009 - a dtype is a constant

    def __repr__(self) -> str:
        return self.name

    @property
    def largest(self) -> int:
        """Largest m such that all integers from -m to m are different elements."""
        return (self.modulus - 1) // 2

    def from_signed(self, values: npt.ArrayLike) -> Words:
        """Return the elements that integers stand for.

        Parameters
        ----------
        values
            Integers or booleans; any shape. Floats are refused: see `FixedPoint`.

        Raises
        ------
        RangeExceeded
            If an integer lies outside -largest..largest (in the ring, -2^63 and words up to 2^64 - 1 are also taken).

        Examples
        --------
        >>> FIELD61.from_signed([-1, 5])
        array([2305843009213693950, 5], dtype=uint64)
        """
        array = np.asarray(values)
        if array.dtype.kind == "O" and all(type(value) is int for value in array.flat):
            # Python integers above 2^63 next to negative ones: NumPy has no common type for them.
            return self._from_python(array)
        if array.dtype.kind not in "iub":
            raise ValueError(f"values must be integers, got dtype {array.dtype}; encode real numbers by FixedPoint")
        if array.dtype.kind == "u":
            return self.checked(array.astype(np.uint64))
        return self._from_int64(array.astype(np.int64))

    def _from_python(self, values: npt.NDArray[Any]) -> Words:
        if any(not -self.modulus // 2 <= value < self.modulus for value in values.flat):
            raise self._too_large()
        residues = [value % self.modulus for value in values.flat]
        return np.array(residues, dtype=np.uint64).reshape(values.shape)

    def _too_large(self) -> RangeExceeded:
        return RangeExceeded(
            rule=f"an integer lies outside the range of {self.name}, -{self.largest}..{self.largest}",
            way_out="use smaller numbers, or fewer fractional bits",
        )

    @abstractmethod
    def _from_int64(self, values: npt.NDArray[np.int64]) -> Words: ...

    @abstractmethod
    def to_signed(self, elements: Words) -> npt.NDArray[np.int64]:
        """Return the integers of least absolute value that the elements stand for."""

    @abstractmethod
    def checked(self, elements: Words) -> Words:
        """Return the words if each of them is an element, raise RangeExceeded if not."""

    @abstractmethod
    def add(self, a: Words, b: Words, out: Words | None = None) -> Words:
        """Return a + b."""

    @abstractmethod
    def sub(self, a: Words, b: Words, out: Words | None = None) -> Words:
        """Return a - b."""

    @abstractmethod
    def neg(self, a: Words) -> Words:
        """Return -a."""

    @abstractmethod
    def mul(self, a: Words, b: Words) -> Words:
        """Return the elementwise product."""

    @abstractmethod
    def matmul(self, a: Words, b: Words) -> Words:
        """Return the product of matrices of shapes (m, k) and (k, n), exact for all entries."""

    @abstractmethod
    def sum(self, a: Words, axis: int | None = None) -> Words:
        """Return the sum over one axis, or over all."""

    @abstractmethod
    def random(self, shape: tuple[int, ...], rng: Rng) -> Words:
        """Return independent uniform elements."""


class PowerOfTwo(Domain):
    """Z_2^w in words of w bits: NumPy's own unsigned arithmetic."""

    __slots__ = ()

    def _from_int64(self, values: npt.NDArray[np.int64]) -> Words:
        return values.astype(self.dtype)

    def to_signed(self, elements: Words) -> npt.NDArray[np.int64]:
        """Return the integers of least absolute value that the elements stand for."""
        return elements.astype(np.int64)

    def checked(self, elements: Words) -> Words:
        """Return the words: each of them is an element."""
        return elements

    def add(self, a: Words, b: Words, out: Words | None = None) -> Words:
        """Return a + b."""
        return np.asarray(np.add(np.asarray(a), b, out=out))

    def sub(self, a: Words, b: Words, out: Words | None = None) -> Words:
        """Return a - b."""
        return np.asarray(np.subtract(np.asarray(a), b, out=out))

    def neg(self, a: Words) -> Words:
        """Return -a."""
        return np.asarray(np.negative(np.asarray(a)))

    def mul(self, a: Words, b: Words) -> Words:
        """Return the elementwise product."""
        return np.asarray(np.multiply(np.asarray(a), b))

    def matmul(self, a: Words, b: Words) -> Words:
        """Return the product of matrices; of 64-bit words only."""
        return matmul(a, b)

    def sum(self, a: Words, axis: int | None = None) -> Words:
        """Return the sum over one axis, or over all."""
        return np.asarray(np.sum(a, axis=axis, dtype=self.dtype))

    def random(self, shape: tuple[int, ...], rng: Rng) -> Words:
        """Return independent uniform elements."""
        size = math.prod(shape)
        words = rng.uint64(-(-size * self.dtype.itemsize // 8))
        return words.view(self.dtype)[:size].reshape(shape)


class _Field61(Domain):
    """F_p, p = 2^61 - 1. Every result is reduced to [0, p)."""

    __slots__ = ()

    def _from_int64(self, values: npt.NDArray[np.int64]) -> Words:
        if values.size and (int(values.max()) > self.largest or int(values.min()) < -self.largest):
            raise self._too_large()
        words = values.astype(np.uint64)
        # A negative integer is 2^64 - |x| as a word; adding p wraps it to p - |x|, the smaller of the two.
        return np.asarray(np.minimum(words, words + _P))

    def to_signed(self, elements: Words) -> npt.NDArray[np.int64]:
        signed = np.asarray(elements).astype(np.int64)
        return np.asarray(np.where(signed > self.largest, signed - P61, signed))

    def checked(self, elements: Words) -> Words:
        if elements.size and int(elements.max()) >= P61:
            raise RangeExceeded(
                rule=f"a word is not an element of {self.name}, 0..2^61 - 2", way_out="share it in this domain first"
            )
        return elements

    def add(self, a: Words, b: Words, out: Words | None = None) -> Words:
        total = np.asarray(np.add(np.asarray(a), b, out=out))
        # Below p, subtracting p wraps to a huge word; the minimum is the reduced one in both cases.
        return np.asarray(np.minimum(total, total - _P, out=out))

    def sub(self, a: Words, b: Words, out: Words | None = None) -> Words:
        difference = np.asarray(np.subtract(np.asarray(a), b, out=out))
        return np.asarray(np.minimum(difference, difference + _P, out=out))

    def neg(self, a: Words) -> Words:
        opposite = np.asarray(_P - np.asarray(a))
        return np.asarray(np.minimum(opposite, opposite - _P))

    def mul(self, a: Words, b: Words) -> Words:
        left, right = np.broadcast_arrays(a, b)
        return _chunked(_mul61, left.reshape(-1), right.reshape(-1)).reshape(left.shape)

    def matmul(self, a: Words, b: Words) -> Words:
        out = np.zeros((a.shape[0], b.shape[1]), dtype=np.uint64)
        for start in range(0, a.shape[1], _LIMB_TERMS):
            stop = start + _LIMB_TERMS
            self.add(out, _matmul61(a[:, start:stop], b[start:stop]), out=out)
        return out

    def sum(self, a: Words, axis: int | None = None) -> Words:
        # 2^31 terms of 32 and of 29 bits add up without wrapping.
        if a.size >= 2**31:
            raise ValueError("sum takes fewer than 2^31 elements: add the sums of parts")
        low = np.asarray(np.sum(a & _LOW32, axis=axis, dtype=np.uint64))
        high = np.asarray(np.sum(a >> _32, axis=axis, dtype=np.uint64))
        # At least one axis: NumPy's scalars warn where its arrays wrap.
        folded = self.add(_rotate61(_fold61(np.atleast_1d(high)), 32), _fold61(np.atleast_1d(low)))
        return folded.reshape(low.shape)

    def random(self, shape: tuple[int, ...], rng: Rng) -> Words:
        out = rng.uint64(math.prod(shape)) & _P
        # 61 uniform bits, drawn again at the one value that is no element: exactly uniform on [0, p).
        pending = np.flatnonzero(out == _P)
        while pending.size:
            out[pending] = rng.uint64(pending.size) & _P
            pending = pending[out[pending] == _P]
        return out.reshape(shape)


def _chunked(function: Callable[[Words, Words], Words], a: Words, b: Words) -> Words:
    out = np.empty(len(a), dtype=np.uint64)
    for start in range(0, len(a), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = function(a[part], b[part])
    return out


def _mul61(a: Words, b: Words) -> Words:
    """Return a * b mod p from four products of 32-bit halves, for a, b < 2^61."""
    a_low, a_high = a & _LOW32, a >> _32
    b_low, b_high = b & _LOW32, b >> _32
    low = a_low * b_low  # < 2^64
    middle = a_high * b_low + a_low * b_high  # < 2 * 2^29 * 2^32 = 2^62
    high = a_high * b_high  # < 2^58
    # With 2^61 = 1: high * 2^64 = 8 high, and middle * 2^32 = (middle >> 29) + (middle & (2^29 - 1)) * 2^32.
    # The terms are below 2^61, 2^33, 2^61, 2^61 and 8: their sum stays below 2^63.
    total = (high << _3) + (middle >> _29) + ((middle & _LOW29) << _32) + (low & _P) + (low >> _61)
    return _fold61(total)


def _fold61(a: Words) -> Words:
    """Return any word mod p."""
    # (a mod 2^61) + (a div 2^61) <= p + 7 < 2 p: one conditional subtraction is enough.
    total = (a & _P) + (a >> _61)
    return np.asarray(np.minimum(total, total - _P))


def _rotate61(a: Words, bits: int) -> Words:
    """Return a * 2^bits mod p for an element a: a rotation of its 61 bits."""
    up, down = np.uint64(bits), np.uint64(61 - bits)
    return np.asarray(((a << up) & _P) | (a >> down))


def _matmul61(a: Words, b: Words) -> Words:
    """Return a @ b mod p for at most 2048 terms, by nine products of doubles that hold 21-bit limbs."""
    mask = np.uint64(2**_LIMB_BITS - 1)
    a_limbs = [((a >> np.uint64(_LIMB_BITS * i)) & mask).astype(np.float64) for i in range(3)]
    b_limbs = [((b >> np.uint64(_LIMB_BITS * i)) & mask).astype(np.float64) for i in range(3)]
    out = np.zeros((a.shape[0], b.shape[1]), dtype=np.uint64)
    for i, a_limb in enumerate(a_limbs):
        for j, b_limb in enumerate(b_limbs):
            part = (a_limb @ b_limb).astype(np.uint64)  # < 2^53, exact
            out = FIELD61.add(out, _rotate61(part, _LIMB_BITS * (i + j) % 61))
    return out


RING64: Domain = PowerOfTwo("RING64", 2**64)
FIELD61: Domain = _Field61("FIELD61", P61)

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (RING64, FIELD61)}
