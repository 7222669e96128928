"""Shares that a seed stands for, item after item, from any item on.

field   one array of a kind of material, `length` elements an item, perhaps in several rows
stream  one row of one field: a stream of AES of its own, in which item j begins at byte j * length * itemsize

So item j is the same however the items before it are cut into pieces, and whether or not they were drawn at all: a
store that passes over items does not expand them.

A prime field has words that are no elements. Element k is the first element among word k of the stream (61 bits of it)
and the words of a stream that serves as spare for position k alone: exactly uniform, and still a function of k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from smpc.prg import Prg
from smpc.ring import Domain, Words

# Words of any width: what a domain computes with.
Elements = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind.

    domain   in which the shares add up
    length   elements of one item in a row
    rows     for fields that are used row by row: n items are an array of shape (rows, n * length), else (n * length,)
    """

    domain: Domain
    length: int = 1
    rows: int | None = None

    def shape(self, count: int) -> tuple[int, ...]:
        """Return the shape of `count` items' arrays."""
        row = (count * self.length,)
        return row if self.rows is None else (self.rows, *row)

    def n_bytes(self, count: int) -> int:
        """Return the size of `count` items' arrays."""
        return count * self.length * self.n_rows * self.domain.dtype.itemsize

    @property
    def n_rows(self) -> int:
        """Number of streams that the field is drawn from."""
        return 1 if self.rows is None else self.rows


class Streams:
    """One party's shares of one kind's fields.

    Parameters
    ----------
    seed
        32 bytes.
    label
        Name of the kind.
    fields
        In order; a field's number is part of its streams' names.
    start
        First item that is drawn.

    Examples
    --------
    >>> from smpc.ring import RING64
    >>> whole = Streams(bytes(32), "x", [Field(RING64, 2)]).draw(10)
    >>> part = Streams(bytes(32), "x", [Field(RING64, 2)], start=7).draw(3)
    >>> (whole[0][14:] == part[0]).all()
    np.True_
    """

    def __init__(self, seed: bytes, label: str, fields: Sequence[Field], *, start: int = 0) -> None:
        self._rows = [
            (field, [_Row(seed, f"material {label} {i} {row}".encode(), field, start) for row in range(field.n_rows)])
            for i, field in enumerate(fields)
        ]

    def __repr__(self) -> str:
        return "Streams(<hidden>)"

    def draw(self, count: int) -> list[Elements]:
        """Return the next `count` items, an array for each field."""
        out = []
        for field, rows in self._rows:
            array = np.empty(field.shape(count), dtype=field.domain.dtype)
            for row, part in zip(rows, [array] if field.rows is None else array, strict=True):
                row.fill(part)
            out.append(array)
        return out


class _Row:
    def __init__(self, seed: bytes, label: bytes, field: Field, start: int) -> None:
        self._domain = field.domain
        self._position = start * field.length
        self._prg = Prg(seed, label, start=self._position * field.domain.dtype.itemsize)
        self._spare = lambda position: Prg(seed, label + f" spare {position}".encode())

    def fill(self, out: Elements) -> None:
        self._prg.fill_bytes(out)
        if self._domain.modulus & (self._domain.modulus - 1):
            reduce_to_elements(out, self._domain.modulus, self._position, self._spare)
        self._position += len(out)


def reduce_to_elements(words: Words, modulus: int, position: int, spare: Callable[[int], Prg]) -> None:
    """Turn uniform words into uniform elements 0..modulus - 1, in place.

    Parameters
    ----------
    words
        Shape (n,); word i belongs to position `position + i`.
    spare
        For a position, the stream of words that stand in for a word that is no element.
    """
    mask = np.uint64(2 ** modulus.bit_length() - 1)
    words &= mask
    for i in np.flatnonzero(words >= np.uint64(modulus)):
        source = spare(position + int(i))
        while words[i] >= modulus:
            words[i] = source.uint64(1)[0] & mask
