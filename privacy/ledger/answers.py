"""Answers as bytes and back: NumPy arrays of four types, numbers, texts and plain JSON values. Nothing is pickled.

The first line says what follows: `{"dtype":"<i8","kind":"array","shape":[2,3]}` and the array's little-endian bytes in
C order, or `{"kind":"json"}` and JSON. An answer, unlike an entry, may hold floats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from privacy.ledger import canonical

_DTYPES = ("<i8", "<u8", "<f8", "|b1")
_JSON_HEADER = canonical.encode({"kind": "json"})
_MAX_DEPTH = 100

# A list of these alone needs no look at its items one by one.
_SCALARS = {int, bool, type(None), str, float}


def encode_answer(value: Any) -> bytes:
    """Return the answer's bytes.

    Parameters
    ----------
    value
        An array of int64, uint64, float64 or bool (any shape), a number, a text, a bool, or lists and maps of these.
        Numbers outside arrays must be finite; None is allowed inside lists and maps, but is no answer by itself.

    Raises
    ------
    ValueError
        For anything else, by type; never naming a value.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.newbyteorder("<").str not in _DTYPES:
            raise ValueError(
                f"an answer's array must be int64, uint64, float64 or bool, got {value.dtype}: convert it with astype"
            )
        array = value.astype(value.dtype.newbyteorder("<"), copy=False)
        header = {"kind": "array", "dtype": array.dtype.str, "shape": list(array.shape)}
        return canonical.encode(header) + b"\n" + array.tobytes(order="C")
    if value is None:
        raise ValueError("None is no answer; leave without release if there is none")
    text = json.dumps(_plain(value, _MAX_DEPTH), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _JSON_HEADER + b"\n" + text.encode()


def decode_answer(data: bytes) -> Any:
    """Return the answer that `encode_answer` wrote; tuples come back as lists. Raises ValueError on other bytes.

    Examples
    --------
    >>> decode_answer(encode_answer(np.array([[1, 2], [3, 4]])))
    array([[1, 2],
           [3, 4]])
    >>> decode_answer(encode_answer({"mean": 0.1, "n": (1, 2)}))
    {'mean': 0.1, 'n': [1, 2]}
    """
    line, newline, rest = data.partition(b"\n")
    if not newline:
        raise ValueError("the answer has no header")
    if line == _JSON_HEADER:
        try:
            return json.loads(rest.decode())
        except RecursionError:
            raise ValueError(f"an answer may be nested {_MAX_DEPTH} deep at most") from None
    match canonical.decode(line):
        case {"kind": "array", "dtype": str(dtype), "shape": list(shape), **more} if dtype in _DTYPES and not more:
            return _array(rest, np.dtype(dtype), shape)
        case _:
            raise ValueError("the answer has an unknown header")


def _array(data: bytes, dtype: np.dtype[Any], shape: list[Any]) -> np.ndarray[Any, Any]:
    if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError("the answer's length does not fit its shape")
    if dtype.kind == "b" and data.translate(None, b"\x00\x01"):
        raise ValueError("a bool in the answer is neither 0 nor 1")
    # Native byte order and memory of its own: what comes back can be used as what went in.
    return np.frombuffer(data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _plain(value: Any, depth: int) -> Any:
    if depth < 0:
        raise ValueError(f"an answer may be nested {_MAX_DEPTH} deep at most")
    match value:
        case np.generic():
            return _plain(value.item(), depth) if value.dtype.kind in "biuf" else _refuse(value)
        case None | bool() | int():
            return value
        case str():
            value.encode()  # raises UnicodeEncodeError, a ValueError, for half of a surrogate pair
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError("a number in an answer must be finite; an array may hold infinities")
            return value
        case list() | tuple():
            kinds = set(map(type, value))
            if depth > 0 and kinds <= _SCALARS:
                _check_scalars(value, kinds)
                return list(value)
            return [_plain(item, depth - 1) for item in value]
        case dict():
            if not all(isinstance(name, str) for name in value):
                raise ValueError("names in an answer's map must be texts")
            return {name: _plain(item, depth - 1) for name, item in value.items()}
        case _:
            return _refuse(value)


def _check_scalars(values: Sequence[Any], kinds: set[type]) -> None:
    """Refuse what `_plain` refuses. Released marginals and tables are long lists of one type."""
    if str in kinds:
        "".join(value for value in values if type(value) is str).encode()
    if float in kinds and not all(math.isfinite(value) for value in values if type(value) is float):
        raise ValueError("a number in an answer must be finite; an array may hold infinities")


def _refuse(value: object) -> NoReturn:
    raise ValueError(f"an answer cannot hold a value of type {type(value).__name__}")
