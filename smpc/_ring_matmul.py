"""Exact products of matrices of 64-bit words modulo 2^64, at the speed of double-precision BLAS where they are large.

x = x_0 + 2^22 x_1 + 2^44 x_2 (mod 2^64)   signed limbs of 22, 22 and 20 bits: -2^21 <= x_0, x_1 < 2^21,
                                           -2^19 <= x_2 < 2^19
A = x_0 y_0                                products of matrices of limbs, k terms to each sum
C = x_1 y_1
S = (x_0 + x_1) (y_0 + y_1)
D = x_0 y_2 + x_2 y_0

The limbs x_1 y_2, x_2 y_1 and x_2 y_2 have a weight of 2^66 or more and vanish, so that (Karatsuba and Ofman 1962)

    x y = A + 2^22 (S - A - C) + 2^44 (C + D)    (mod 2^64)

takes five products of doubles instead of the six of the schoolbook.

Why the doubles are exact. Doubles hold every integer of magnitude <= 2^53. A sum of integers, added in any order and
association, with or without fused multiply-add, is exact if the sum of every subset of its terms is such an integer.
With k terms, all of them at their largest magnitude and of one sign, each quantity is at most

    A, C      2^21 2^21 k                  = 2^42 k
    S         2^22 2^22 k                  = 2^44 k     the largest
    S - A     (x_0 y_1 + x_1 y_0 + C)      <= 3 2^42 k
    S - A - C (x_0 y_1 + x_1 y_0)          <= 2^43 k
    C + D     2^42 k + 2 2^21 2^19 k       = 3 2^41 k

and a partial sum of m of the k terms is bounded likewise, with m for k. All of it is <= 2^53 if 2^44 k <= 2^53, that is
k <= 512 = `MAX_TERMS`. Longer products are cut into parts of at most 512 terms and added as words. The bound is sharp:
513 terms with x_0 + x_1 = y_0 + y_1 = -(2^22 - 1) sum up to an odd number above 2^53. Random matrices never come near.

Small and thin matrices go to NumPy's integer loops: splitting would cost more than the product. The borders are
measured (`benchmarks/test_bench_arithmetic.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Doubles = npt.NDArray[np.float64]

MAX_TERMS = 512

# Tiles of the result: the doubles of a tile are reused for the next one. A fresh array of 2 MiB costs ten times as much
# as a pass over it, since the operating system hands out its pages one by one.
_TILE_ROWS = 512
_TILE_COLUMNS = 512
_SPLIT_WORDS = 1 << 14  # words to a pass of splitting: they stay in cache

# Below so many multiplications the call of einsum costs more than `@` does.
_TINY = 1 << 13
# Shortest side, and mean side as a cube, from which limbs are faster than integer loops.
_SHORTEST_SIDE = 100
_LIMB_VOLUME = 144**3

_SHIFT = np.uint64(22)
_DIGIT = np.uint64(2**22 - 1)
# Half a digit at each limb: what is then an unsigned digit is half a digit more than the signed limb.
_HALVES = np.uint64(2**21 + 2**43 + 2**63)
# With these high bits a double has the value 2^52 + its low bits: OR and one subtraction make a double of an integer.
_TWO52 = np.uint64(0x4330000000000000)
_HALF_DIGIT = 2.0**52 + 2.0**21
_HALF_TOP = 2.0**52 + 2.0**19


class SplitMatrix:
    """A matrix with its limbs made beforehand: one factor of a product whose other factor comes later.

    It takes four doubles for each word. The matrix of words is kept as it is, not copied; do not change it.

    Parameters
    ----------
    words
        Shape (rows, columns).

    Examples
    --------
    >>> a = np.array([[1, 2], [3, 4]], dtype=np.uint64)
    >>> matmul(SplitMatrix(a), a)
    array([[ 7, 10],
           [15, 22]], dtype=uint64)
    """

    __slots__ = ("limbs", "words")

    def __init__(self, words: Words) -> None:
        if words.ndim != 2 or words.dtype != np.uint64:
            raise ValueError(f"words must be a matrix of uint64, got {words.dtype} of shape {words.shape}")
        self.words = words
        self.limbs: Doubles = np.empty((4, *words.shape))
        _split(words, self.limbs)

    def __repr__(self) -> str:
        return f"SplitMatrix(shape={self.shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.words.shape


Operand = Words | SplitMatrix


def limbs_pay(m: int, k: int, n: int) -> bool:
    """Return whether a product of shapes (m, k) and (k, n) is fastest by limbs: whether to make a `SplitMatrix`.

    Examples
    --------
    >>> limbs_pay(512, 512, 512), limbs_pay(10_000, 50, 1)
    (True, False)
    """
    return min(m, k, n) >= _SHORTEST_SIDE and m * k * n >= _LIMB_VOLUME


def matmul(a: Operand, b: Operand) -> Words:
    """Return a @ b mod 2^64.

    Parameters
    ----------
    a
        Shape (m, k); words may also have further axes in front, as for NumPy's `@`.
    b
        Shape (k, n), or with further axes in front.

    Returns
    -------
    Shape (m, n), exact for all entries.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> matmul(np.array([[2**63, 1]], dtype=np.uint64), np.array([[2], [5]], dtype=np.uint64))
    array([[5]], dtype=uint64)
    """
    return matmul_sum([(a, b)])


def matmul_sum(pairs: Sequence[tuple[Operand, Operand]]) -> Words:
    """Return the sum of products of matrices mod 2^64, all of one shape.

    A party's part of Beaver's product is `matmul_sum([(d, b), (a, e)])`, with a and b split before d and e are known.

    Parameters
    ----------
    pairs
        One or more factors (a, b) as of `matmul`.

    Returns
    -------
    Shape (m, n).

    Examples
    --------
    >>> one = np.eye(2, dtype=np.uint64)
    >>> matmul_sum([(one, one), (one, SplitMatrix(3 * one))])
    array([[4, 0],
           [0, 4]], dtype=uint64)
    """
    out: Words | None = None
    for a, b in pairs:
        if _words(a).dtype != np.uint64 or _words(b).dtype != np.uint64:
            raise ValueError(f"matrices must be of uint64, got {_words(a).dtype} and {_words(b).dtype}")
        if len(a.shape) != 2 or len(b.shape) != 2 or not limbs_pay(a.shape[0], a.shape[1], b.shape[1]):
            part = _small_matmul(_words(a), _words(b))
            out = part if out is None else np.add(out, part, out=out)
            continue
        if a.shape[1] != b.shape[0]:
            raise ValueError(f"matrices of shapes {a.shape} and {b.shape} cannot be multiplied")
        if out is None:
            out = np.zeros((a.shape[0], b.shape[1]), dtype=np.uint64)
        add_split_products(out, a, b, _add_tile)
    if out is None:
        raise ValueError("pairs must hold at least one pair of matrices")
    return out


def _words(matrix: Operand) -> Words:
    return matrix.words if isinstance(matrix, SplitMatrix) else matrix


def _small_matmul(a: Words, b: Words) -> Words:
    """Return a @ b by the fastest of NumPy's integer loops."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if m * k * n < _TINY or b.ndim < 2:
        return np.asarray(a @ b)
    if k >= n and m >= 8:
        # Rows times rows: the innermost loop is an inner product of contiguous words.
        return np.asarray(np.einsum("...ij,...kj->...ik", a, np.ascontiguousarray(np.swapaxes(b, -1, -2))))
    # The innermost loop adds a multiple of a row of b to a row of the result.
    return np.asarray(np.einsum("...ij,...jk->...ik", a, b))


class _Scratch(threading.local):
    """Buffers of one thread, kept between calls: at most 26 MiB. They hold limbs of shares, as freed memory does."""

    def __init__(self) -> None:
        self._buffers: dict[str, npt.NDArray[Any]] = {}

    def get(self, name: str, shape: tuple[int, ...]) -> Doubles:
        size = int(np.prod(shape))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size)
        return buffer[:size].reshape(shape)


_SCRATCH = _Scratch()


def _split(words: Words, limbs: Doubles) -> None:
    """Write x_0, x_1, x_0 + x_1 and x_2 of a matrix into limbs, shape (4, rows, columns)."""
    rows = max(1, _SPLIT_WORDS // max(1, words.shape[1]))
    for start in range(0, len(words), rows):
        stop = start + rows
        low, middle, both, top = limbs[:, start:stop]
        rest = words[start:stop] + _HALVES
        for limb in (low, middle):
            digit = np.bitwise_and(rest, _DIGIT)
            digit |= _TWO52
            np.subtract(digit.view(np.float64), _HALF_DIGIT, out=limb)
            rest >>= _SHIFT
        rest |= _TWO52
        np.subtract(rest.view(np.float64), _HALF_TOP, out=top)
        np.add(low, middle, out=both)


def _spans(length: int, longest: int) -> Iterator[slice]:
    """Cut a length into the fewest spans, all but equal, none longer than `longest`."""
    count = -(-length // longest)
    for i in range(count):
        yield slice(length * i // count, length * (i + 1) // count)


def add_split_products(
    out: Words,
    a: Operand,
    b: Operand,
    add_tile: Callable[[Words, Doubles, Doubles], None],
    *,
    max_terms: int = MAX_TERMS,
) -> None:
    """Add a @ b to out by `add_tile(tile of out, limbs of a, limbs of b)`, with at most `max_terms` terms at a time."""
    for terms in _spans(a.shape[1], max_terms):
        for columns in _spans(b.shape[1], _TILE_COLUMNS):
            right = _limbs(b, terms, columns, "right")
            for rows in _spans(a.shape[0], _TILE_ROWS):
                add_tile(out[..., rows, columns], _limbs(a, rows, terms, "left"), right)


def _limbs(matrix: Operand, rows: slice, columns: slice, name: str) -> Doubles:
    if isinstance(matrix, SplitMatrix):
        return matrix.limbs[:, rows, columns]
    part = matrix[rows, columns]
    limbs = _SCRATCH.get(name, (4, *part.shape))
    _split(part, limbs)
    return limbs


def _add_tile(out: Words, left: Doubles, right: Doubles) -> None:
    """Add the product of two split matrices to out: the formula at the top of this module."""
    x_0, x_1, x_both, x_2 = left
    y_0, y_1, y_both, y_2 = right
    A, C, S, D = _SCRATCH.get("products", (4, *out.shape))
    words = _SCRATCH.get("words", out.shape).view(np.int64)
    total = out.view(np.int64)

    np.matmul(x_0, y_0, out=A)
    np.copyto(words, A, casting="unsafe")
    total += words

    np.matmul(x_1, y_1, out=C)
    np.matmul(x_both, y_both, out=S)
    S -= A
    S -= C
    np.copyto(words, S, casting="unsafe")
    words <<= 22
    total += words

    np.matmul(x_0, y_2, out=D)
    C += D
    np.matmul(x_2, y_0, out=D)
    C += D
    np.copyto(words, C, casting="unsafe")
    words <<= 44
    total += words
