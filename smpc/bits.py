"""One party's share of an array of bits, 64 to a word: what comparisons compute on.

The last axis runs over the elements and is packed, bit j of word i being element 64 i + j; other axes (bits of a
number, candidates, thresholds) are those of an array of words. Shares add up by exclusive or, so `^` and `~` are local
and `Session.all_of` costs a round.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from smpc.bitplanes import pack_bits
from smpc.errors import SessionMismatch
from smpc.ring import Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds
    from smpc.shared import Index


class SharedBits:
    """A secret-shared array of bits as one party holds it: `words` of shape (..., ceil(length / 64))."""

    __slots__ = ("_words", "length", "session")

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, session: Rounds, words: Words, length: int) -> None:
        self.session = session
        self.length = length
        self._words = words

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array of bits; public."""
        return (*self._words.shape[:-1], self.length)

    def __repr__(self) -> str:
        return f"SharedBits(shape={self.shape})"

    def __xor__(self, other: SharedBits | npt.NDArray[np.bool_]) -> SharedBits:
        if isinstance(other, SharedBits):
            if other.session is not self.session:
                raise SessionMismatch
            if other.length != self.length:
                raise ValueError(f"bits of {self.length} and of {other.length} elements cannot be combined")
            return SharedBits(self.session, self._words ^ other._words, self.length)
        return self._public(np.broadcast_to(np.asarray(other, dtype=bool), (*np.shape(other)[:-1], self.length)))

    def __rxor__(self, other: npt.NDArray[np.bool_]) -> SharedBits:
        return self ^ other

    def _public(self, other: npt.NDArray[np.bool_]) -> SharedBits:
        words = pack_bits(other)
        # One party flips the bits: the shares add up.
        mine = self._words ^ (words if self.session.party == 0 else np.zeros_like(words))
        return SharedBits(self.session, mine, self.length)

    def __invert__(self) -> SharedBits:
        return SharedBits(self.session, ~self._words if self.session.party == 0 else self._words, self.length)

    def __getitem__(self, index: Index) -> SharedBits:
        """Return some of the leading axes' entries; the axis of elements is not indexed."""
        *lead, n_words = self._words.shape
        if not lead:
            raise IndexError("the axis of elements is packed and cannot be indexed")
        # Positions of rows are indexed in place of the words: an index cannot reach the packed axis.
        rows = np.arange(math.prod(lead)).reshape(lead)[index]
        return SharedBits(self.session, self._words.reshape(-1, n_words)[rows], self.length)

    def __bool__(self) -> NoReturn:
        raise TypeError("shared bits have no truth value: open them, if they may be known")

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("shared bits cannot be compared locally: open what may be known")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a share does not leave its session: it cannot be pickled or copied")
