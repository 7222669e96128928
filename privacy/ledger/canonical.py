"""One byte string for each document: the journal's JSON.

The profile is strict: null, booleans, integers, strings, lists, and maps with string keys; keys sorted by their UTF-16
code units, no whitespace, UTF-8 in Unicode normal form C. There are no floats (write decimals as text), no duplicate
keys, no NaN. For integers up to 2^53 that is what the JSON Canonicalization Scheme (RFC 8785) writes. The stored bytes
are what is hashed: they are never written again from the parsed value, only compared with it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any, NoReturn

_MAX_DEPTH = 100


def encode(value: Any) -> bytes:
    r"""Return the canonical bytes. Raises ValueError for what the profile does not hold.

    Examples
    --------
    >>> encode({"b": [1, True, None], "a": "é"})
    b'{"a":"\xc3\xa9","b":[1,true,null]}'
    """
    _check(value, _MAX_DEPTH)
    return _text(value).encode()


def plain(value: Any) -> bytes:
    """Return the canonical bytes of what needs no check: a part of a decoded document, or our own lists and numbers."""
    return _text(value).encode()


def decode(data: bytes) -> Any:
    """Return the value of canonical bytes. Raises ValueError if they are anything but what `encode` writes.

    Examples
    --------
    >>> decode(b'{"a":1}')
    {'a': 1}
    >>> decode(b'{"a":1.0}')
    Traceback (most recent call last):
    ...
    ValueError: floats are not allowed: write a decimal as text
    """
    text = data.decode()
    try:
        value, _ = _read(text, 0)
        same = _text(value) == text
    except StopIteration:
        raise ValueError("the bytes are no JSON") from None
    except RecursionError:
        raise ValueError(f"a document may be nested {_MAX_DEPTH} deep at most") from None
    if not same:
        # A name that appears twice is written once: that is found here, and looked for to be named.
        json.loads(text, object_pairs_hook=_no_duplicates)
        raise ValueError("the bytes are not in canonical form")
    # What was parsed has the profile's types; depth and normal form are seen from the text where it is simple.
    if not text.isascii() or text.count("[") + text.count("{") > _MAX_DEPTH or "\\u" in text:
        _check(value, _MAX_DEPTH)
    return value


def normalised(value: Any) -> Any:
    """Return the value with every string in Unicode normal form C, so that one spelling is one name."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [normalised(item) for item in value]
    if isinstance(value, dict):
        return {normalised(name): normalised(item) for name, item in value.items()}
    return value


def _check(value: Any, depth: int) -> None:
    if depth < 0:
        raise ValueError(f"a document may be nested {_MAX_DEPTH} deep at most")
    # Exact types: a subclass may write itself as something else than it compares to.
    if value is None or type(value) in (bool, int):
        return
    if type(value) is str:
        if not value.isascii() and not unicodedata.is_normalized("NFC", value):
            raise ValueError("a text is not in Unicode normal form C")
    elif type(value) is list:
        for item in value:
            if not (type(item) is str and depth and item.isascii()):  # most are: a call costs more than the look
                _check(item, depth - 1)
    elif type(value) is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise ValueError(f"names in a map must be texts, got {type(name).__name__}")
            if not name.isascii():
                _check(name, depth)
            if not (type(item) is str and depth and item.isascii()):
                _check(item, depth - 1)
    elif isinstance(value, float):
        _no_float("")
    else:
        raise ValueError(f"a document cannot hold a value of type {type(value).__name__}")


def _no_float(_text: str) -> NoReturn:
    raise ValueError("floats are not allowed: write a decimal as text")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name appears twice in one map")
    return out


def _writer(*, sort: bool) -> Callable[[Any], str]:
    encoder = json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, sort_keys=sort, separators=(",", ":"), check_circular=False
    )
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    # What `encode` makes anew for every document, made once; values are trees, by their type or by parsing.
    chunks = make(None, encoder.default, json.encoder.encode_basestring, None, ":", ",", sort, False, False)
    return lambda value: "".join(chunks(value, 0))


_write, _write_as_is = _writer(sort=True), _writer(sort=False)


def _text(value: Any) -> str:
    text = _write(value)
    # Code points and UTF-16 code units are in another order only beyond the basic plane.
    return text if text.isascii() or max(text) <= "\uffff" else _write_as_is(_sorted(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value, key=lambda name: name.encode("utf-16-be"))}
    return value


# Without the search for whitespace around a document, which is refused anyway.
_read = json.JSONDecoder(parse_float=_no_float, parse_constant=_no_float).scan_once  # type: ignore[attr-defined]
