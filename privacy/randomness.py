"""Random sources: one that protects people, and one for tests that says so in its name.

`SecureRng` reads the operating system's generator and holds no state, so a fork cannot repeat it and nothing can be
rewound. `InsecureSeededRng` is reproducible and therefore protects nobody.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count


class Rng(Protocol):
    """A source of uniform random bits."""

    def bytes(self, n: int) -> bytes:
        """Return `n` uniform bytes."""
        ...

    def uint64(self, size: int) -> npt.NDArray[np.uint64]:
        """Return `size` words, uniform on [0, 2^64)."""
        ...

    def below(self, bound: int, size: int) -> npt.NDArray[np.int64]:
        """Return `size` integers, exactly uniform on [0, bound), 1 <= bound <= 2^63."""
        ...

    def permutation(self, n: int) -> npt.NDArray[np.int64]:
        """Return a uniform permutation of 0..n-1."""
        ...


class WordSource(ABC):
    """What follows from bytes alone: words, exact bounded integers, permutations."""

    @abstractmethod
    def bytes(self, n: int) -> bytes:
        """Return `n` uniform bytes."""

    def uint64(self, size: int) -> npt.NDArray[np.uint64]:
        """Return `size` words, uniform on [0, 2^64)."""
        return np.frombuffer(self.bytes(8 * size), dtype="<u8").astype(np.uint64)

    def below(self, bound: int, size: int) -> npt.NDArray[np.int64]:
        """Return `size` integers, exactly uniform on [0, bound).

        Words of just enough bits are drawn and those >= bound are drawn again, so there is no modulo bias.
        """
        check_count("bound", bound)
        if bound > 2**63:
            raise ValueError(f"bound must be <= 2^63, got {bound!r}")
        mask = np.uint64((1 << (bound - 1).bit_length()) - 1)
        out = self.uint64(size) & mask
        pending = np.flatnonzero(out >= np.uint64(bound))
        while pending.size:
            again = self.uint64(pending.size) & mask
            out[pending] = again
            pending = pending[again >= np.uint64(bound)]
        return out.astype(np.int64)

    def permutation(self, n: int) -> npt.NDArray[np.int64]:
        """Return a uniform permutation of 0..n-1: the order of n distinct 64-bit words (drawn anew on a tie)."""
        while True:
            words = self.uint64(n)
            order = np.argsort(words)
            if n < 2 or bool((np.diff(words[order]) > 0).all()):
                return order.astype(np.int64)


class SecureRng(WordSource):
    """Cryptographically secure source: the operating system's generator. Stateless, safe across forks.

    Examples
    --------
    >>> SecureRng().below(6, size=100).max() < 6
    np.True_
    """

    def bytes(self, n: int) -> bytes:
        """Return `n` uniform bytes from `os.urandom`."""
        return os.urandom(n)


class InsecureSeededRng(WordSource):
    """Reproducible source for tests and simulations. Protects nobody: whoever knows the seed knows the noise.

    Examples
    --------
    >>> InsecureSeededRng(1).below(10, size=4).tolist() == InsecureSeededRng(1).below(10, size=4).tolist()
    True
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def bytes(self, n: int) -> bytes:
        """Return `n` reproducible bytes."""
        return self._generator.bytes(n)
