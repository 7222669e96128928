"""Bit-sliced words: 64 bits of 64 elements in one machine word, and the digits of a public word looked up in a table.

plane k      bit k of every element, 64 elements to a word; element j is bit j mod 64 of word j div 64
digit i      bits 4i..4i+3 of an element
thermometer  of a digit r: the 16 bits [r >= 0], ..., [r >= 15], bit v says r >= v

XOR of shares is XOR of planes, so 64 Boolean gates cost one instruction. A thermometer turns the comparison of a secret
digit r with a public digit c into a choice of two bits of the table, [r >= c] at place c and [r > c] at place c + 1.
A choice by a public index is linear over GF(2): each party looks into its own XOR share of the table, sends nothing and
holds shares of the two answers. Source: one-time truth tables, Ishai, Kushilevitz, Meldgaard, Orlandi,
Paskin-Cherniavsky, "On the Power of Correlated Randomness in Secure Computation", TCC 2013; a thermometer is the table
of a comparison, cut to its 16 different bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Octets = npt.NDArray[np.uint8]
Tables = npt.NDArray[np.uint16]

DIGITS = 16  # of 4 bits in a word

# Elements to a pass, measured: passes of 2^11 or of the whole array take twice as long.
_CHUNK = 1 << 14

_BIT_OF_BYTE = (1 << np.arange(8)).astype(np.uint8)[:, None]


def pack_bits(bits: npt.NDArray[np.uint8] | npt.NDArray[np.bool_]) -> Words:
    """Return bits as words, 64 to a word, lowest place first, zeros behind the last.

    Parameters
    ----------
    bits
        Zeros and ones (or booleans), shape (..., n).

    Returns
    -------
    Shape (..., ceil(n / 64)).

    Examples
    --------
    >>> pack_bits(np.array([1, 0, 1, 1], dtype=np.uint8))
    array([13], dtype=uint64)
    """
    if bits.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"bits must be of type uint8 or bool, got {bits.dtype}")
    n = bits.shape[-1]
    packed = np.packbits(bits, axis=-1, bitorder="little")
    if n % 64:
        whole = np.zeros((*bits.shape[:-1], 8 * _n_words(n)), dtype=np.uint8)
        whole[..., : packed.shape[-1]] = packed
        packed = whole
    return packed.view(np.uint64)


def unpack_bits(words: Words, n: int) -> Octets:
    """Return the first n bits of words as zeros and ones; the inverse of `pack_bits`.

    Parameters
    ----------
    words
        Shape (..., ceil(n / 64)).
    n
        Number of bits.

    Returns
    -------
    Shape (..., n).

    Examples
    --------
    >>> unpack_bits(np.array([13], dtype=np.uint64), 6)
    array([1, 0, 1, 1, 0, 0], dtype=uint8)
    """
    _check_width(words, n)
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, count=n, bitorder="little")


def to_planes(elements: Words) -> Words:
    """Return the 64 bit planes of elements: a transposition of bits.

    Parameters
    ----------
    elements
        Shape (n,).

    Returns
    -------
    Shape (64, ceil(n / 64)); row k holds bit k of every element.

    Examples
    --------
    >>> to_planes(np.array([1, 2, 3], dtype=np.uint64))[:3].ravel()
    array([5, 6, 0], dtype=uint64)
    """
    n = _length(elements)
    out = np.zeros((8, 8, 8 * _n_words(n)), dtype=np.uint8)
    for start in range(0, n, _CHUNK):
        columns = _byte_columns(elements[start : start + _CHUNK], 8)
        octets = slice(start // 8, start // 8 + (columns.shape[1] + 7) // 8)
        # packbits reads 16 bytes at a time and asks of each only whether it is zero: half the time of the butterfly of
        # shifted masks on words (Warren, Hacker's Delight, 7-3).
        for i, column in enumerate(columns):
            out[i, :, octets] = np.packbits(column & _BIT_OF_BYTE, axis=-1, bitorder="little")
    return out.reshape(64, -1).view(np.uint64)


def from_planes(planes: Words, n: int) -> Words:
    """Return n elements from their 64 bit planes; the inverse of `to_planes`.

    Parameters
    ----------
    planes
        Shape (64, ceil(n / 64)).
    n
        Number of elements.

    Returns
    -------
    Shape (n,).

    Examples
    --------
    >>> from_planes(to_planes(np.array([7, 2**63], dtype=np.uint64)), 2).tolist()
    [7, 9223372036854775808]
    """
    if planes.ndim != 2 or planes.shape[0] != 64:
        raise ValueError(f"planes must have the shape (64, words), got {planes.shape}")
    _check_width(planes, n)
    octets = np.ascontiguousarray(planes).view(np.uint8)
    out = np.empty((n, 8), dtype=np.uint8)
    for start in range(0, n, _CHUNK):
        size = min(_CHUNK, n - start)
        part = octets[:, start // 8 : start // 8 + (size + 7) // 8]
        bits = np.unpackbits(part, axis=1, count=size, bitorder="little").reshape(8, 8, size)
        columns = bits[:, 7]
        for k in range(6, -1, -1):  # Horner's rule in 2
            columns = columns + columns
            columns |= bits[:, k]
        out[start : start + size] = columns.T
    return out.view(np.uint64).reshape(n)


def digits4(words: Words, n_digits: int = DIGITS) -> Tables:
    """Return the lowest digits of 4 bits of words.

    Parameters
    ----------
    words
        Shape (n,).
    n_digits
        1..16.

    Returns
    -------
    Shape (n_digits, n), lowest digit first, each 0..15; 16 bits wide, to be a shift of a table.

    Examples
    --------
    >>> digits4(np.array([0x123, 0xF], dtype=np.uint64), 3)
    array([[ 3, 15], [ 2, 0], [ 1, 0]], dtype=uint16)
    """
    if not 1 <= n_digits <= DIGITS:
        raise ValueError(f"n_digits must be in 1..{DIGITS}, got {n_digits!r}")
    n = _length(words)
    n_columns = (n_digits + 1) // 2
    columns = _byte_columns(words, n_columns).astype(np.uint16)
    out = np.empty((n_columns, 2, n), dtype=np.uint16)
    np.bitwise_and(columns, 15, out=out[:, 0])
    np.right_shift(columns, 4, out=out[:, 1])
    return out.reshape(2 * n_columns, n)[:n_digits]


def thermometer(words: Words, n_digits: int = DIGITS) -> Tables:
    """Return the thermometers of the digits of words: what a dealer shares by XOR.

    Parameters
    ----------
    words
        Shape (n,).
    n_digits
        1..16.

    Returns
    -------
    Shape (n_digits, n); bit v of entry (i, j) says whether digit i of word j is at least v. Bit 0 is always one.

    Examples
    --------
    >>> [f"{int(table):b}" for table in thermometer(np.array([0x3F0], dtype=np.uint64), 3)[:, 0]]
    ['1', '1111111111111111', '1111']
    """
    out = np.empty((n_digits, _length(words)), dtype=np.uint16)
    for start in range(0, len(words), _CHUNK):
        digits = digits4(words[start : start + _CHUNK], n_digits)
        # 2^(r+1) - 1: at r = 15 the power wraps to zero and the difference to all ones.
        np.left_shift(np.uint16(2), digits, out=digits)
        np.subtract(digits, 1, out=out[:, start : start + _CHUNK])
    return out


def compare_digits(public: Words, tables: Tables) -> tuple[Words, Words, Words]:
    """Return the comparisons of every secret digit with its public counterpart, looked up in thermometers.

    Parameters
    ----------
    public
        Shape (n,): words c that all parties know.
    tables
        Shape (n_digits, n): thermometers of words r, or one party's XOR share of them.

    Returns
    -------
    [r_i > c_i], [r_i >= c_i], [r_i = c_i] for each digit i, each of shape (n_digits, ceil(n / 64)), as `pack_bits`
    packs them; XOR shares of them if the tables were shares. Every party does the same: the constant [r_i >= 0] is in
    the shared table.

    Raises
    ------
    ValueError
        If the shapes or types do not fit.

    Examples
    --------
    >>> r, c = np.array([0x5, 0x5, 0x5], dtype=np.uint64), np.array([0x4, 0x5, 0x6], dtype=np.uint64)
    >>> [unpack_bits(bits[0], 3).tolist() for bits in compare_digits(c, thermometer(r))]
    [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    """
    n = _length(public)
    if tables.dtype != np.uint16 or tables.ndim != 2 or tables.shape[1] != n:
        raise ValueError(f"tables must be 16-bit words of shape (n_digits, {n}), got {tables.dtype} {tables.shape}")
    n_digits = tables.shape[0]
    out = np.zeros((3, n_digits, 8 * _n_words(n)), dtype=np.uint8)
    for start in range(0, n, _CHUNK):
        digits = digits4(public[start : start + _CHUNK], n_digits)
        # One shift brings [r >= c] to bit 0 and [r > c] to bit 1; behind bit 15 comes a zero, as no r exceeds 15.
        found = np.right_shift(tables[:, start : start + _CHUNK], digits, out=digits).astype(np.uint8)
        octets = slice(start // 8, start // 8 + (found.shape[1] + 7) // 8)
        out[0, :, octets] = np.packbits(found & 2, axis=-1, bitorder="little")
        out[1, :, octets] = np.packbits(found & 1, axis=-1, bitorder="little")
    greater, at_least, equal = out.view(np.uint64)
    np.bitwise_xor(greater, at_least, out=equal)
    return greater, at_least, equal


def _byte_columns(words: Words, n_columns: int) -> Octets:
    """Return the lowest bytes of words, shape (n_columns, n)."""
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), 8)
    return np.ascontiguousarray(octets[:, :n_columns].T)


def _n_words(n_bits: int) -> int:
    return (n_bits + 63) // 64


def _length(words: Words) -> int:
    if words.ndim != 1 or words.dtype != np.dtype("<u8"):
        raise ValueError(f"words must be one row of little-endian uint64, got {words.dtype} of shape {words.shape}")
    return len(words)


def _check_width(words: Words, n: int) -> None:
    if words.dtype != np.dtype("<u8") or words.ndim < 1 or words.shape[-1] != _n_words(n) or n < 0:
        raise ValueError(
            f"{n!r} bits need {_n_words(n)} words of little-endian uint64 in the last axis, got {words.dtype} of shape "
            f"{words.shape}"
        )
