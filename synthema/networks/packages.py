"""Share packages as bytes: what a site seals for a compute party.

"SYP1", domain (1 byte), kind (1: seed, 2: values), number of axes (1), lengths (8 bytes each, little-endian), and
the seed's 32 bytes or the words of the values, little-endian
"""

from __future__ import annotations

import math
import struct

import numpy as np

from smpc import FIELD61, RING64, RangeExceeded, SharePackage
from smpc.prg import SEED_BYTES

_MAGIC = b"SYP1"
_HEAD = struct.Struct("<4sBBB")
_DOMAINS = {1: RING64, 2: FIELD61}
_SEED, _VALUES = 1, 2
_MOST_AXES = 4
_LENGTH = struct.Struct("<Q")
_LEAST_PADDED = 1 << 12


def encode_package(package: SharePackage) -> bytes:
    """Return a package's bytes.

    Examples
    --------
    >>> from smpc import share
    >>> [len(encode_package(package)) for package in share([1, 2, 3], 2)]
    [47, 39]
    """
    code = next(number for number, domain in _DOMAINS.items() if domain is package.domain)
    kind = _SEED if package.values is None else _VALUES
    head = _HEAD.pack(_MAGIC, code, kind, len(package.shape))
    lengths = struct.pack(f"<{len(package.shape)}Q", *package.shape)
    body = package.seed if package.values is None else np.ascontiguousarray(package.values, dtype="<u8").tobytes()
    return b"".join((head, lengths, body or b""))


def decode_package(data: bytes, *, like: SharePackage) -> SharePackage:
    """Return the package that bytes stand for.

    Parameters
    ----------
    like
        A package of the domain and shape that is expected: a party that contributes has its own.

    Raises
    ------
    ValueError
        If it is malformed, of another domain or shape, or holds words that are no elements. Never names a value.
    """
    rest = memoryview(data)[_HEAD.size :]
    if len(data) < _HEAD.size:
        raise ValueError("it is no package of shares")
    magic, code, kind, n_axes = _HEAD.unpack_from(data)
    if magic != _MAGIC or n_axes > _MOST_AXES or len(rest) < 8 * n_axes:
        raise ValueError("it is no package of shares")
    shape = struct.unpack_from(f"<{n_axes}Q", rest)
    if _DOMAINS.get(code) is not like.domain or shape != like.shape:
        raise ValueError("its shares are of another domain or shape than the step's")
    body = rest[8 * n_axes :]
    if kind == _SEED and len(body) == SEED_BYTES:
        return SharePackage(like.domain, like.shape, seed=bytes(body))
    if kind == _VALUES and len(body) == 8 * math.prod(shape):
        words = np.frombuffer(body, dtype="<u8").astype(np.uint64).reshape(shape)
        try:
            return SharePackage(like.domain, like.shape, values=like.domain.checked(words))
        except RangeExceeded:
            raise ValueError("it holds words that are no elements of its domain") from None
    raise ValueError("it is no package of shares")


def padded(data: bytes) -> bytes:
    """Return bytes of which the length tells no more than a power of two: for what depends on a number of rows.

    Examples
    --------
    >>> [len(padded(bytes(n))) for n in (0, 1000, 4088, 4089)]
    [4096, 4096, 4096, 8192]
    """
    size = max(_LEAST_PADDED, 1 << (_LENGTH.size + len(data) - 1).bit_length())
    return (_LENGTH.pack(len(data)) + data).ljust(size, b"\0")


def unpadded(data: bytes) -> bytes:
    """Return what was padded. Raises ValueError if it is not what `padded` returns."""
    length = _LENGTH.unpack_from(data)[0] if len(data) >= _LENGTH.size else len(data)
    found = data[_LENGTH.size : _LENGTH.size + length]
    if len(found) != length or padded(found) != data:
        raise ValueError("it is not padded as it should be")
    return found
