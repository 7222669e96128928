"""Positive numbers of a wide range brought to [1, 2): what division, roots and logarithm begin with.

x   integer, least <= x <= most, public bounds;  2^K  largest power of two up to most, 2^k0 up to least
k   its highest bit: 2^k <= x < 2^(k+1), k0 <= k <= K
z_i shared bit [x >= 2^i], all of them from one opening (`smpc.comparison.at_least`)

[x has highest bit i] = z_i - z_{i+1}, so that whatever is public for each i is linear in the bits,

    u_k = u_{k0} + sum_{i > k0} z_i (u_i - u_{i-1}),

and v x for v = 2^(K-k) is linear in the products z_i x, which one round gives for all i at once. x' = v x lies in
[2^K, 2^(K+1)): the polynomials of `smpc.pieces` take it from there, with K fractional bits.

Source: Catrina and Saxena 2010 (FC), protocol Norm, has a chain of all bits of x here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from smpc.comparison import at_least, width_for
from smpc.conversion import gates
from smpc.ring import Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds


@dataclass(frozen=True, slots=True)
class Exponents:
    """Which highest bits are possible: of numbers least..most, and of zero if least is 0."""

    least: int
    most: int

    @property
    def lowest(self) -> int:
        """k0."""
        return max(self.least, 1).bit_length() - 1

    @property
    def highest(self) -> int:
        """K."""
        return self.most.bit_length() - 1

    @property
    def thresholds(self) -> list[int]:
        """The powers of two that x is compared with."""
        first = self.lowest if self.least == 0 else self.lowest + 1
        return [2**k for k in range(first, self.highest + 1)]


@dataclass(frozen=True, slots=True)
class Normalised:
    """Shares of x' = 2^(K-k) x, of the entry k of a public table, and of 2^(K-k) times another number; shape (n,)."""

    x: Words
    entry: Words
    other: Words | None


async def normalised(
    session: Rounds, x: Words, exponents: Exponents, table: Sequence[int], other: Words | None = None
) -> Normalised:
    """Bring numbers to [2^K, 2^(K+1)). Three rounds for numbers below 2^15, four for others; none if k0 = K.

    Parameters
    ----------
    x
        Shares in RING64, shape (n,).
    table
        One integer for each k from k0 to K. Where x is 0, the result is 0.
    other
        Shares of further numbers, shape (n,), to be multiplied by 2^(K-k) too.
    """
    entries = [0, *table] if exponents.least == 0 else list(table)
    start = np.full(len(x), entries[0] % 2**64 if session.party == 0 else 0, dtype=np.uint64)
    # 2^(K-k0), then falling powers: v = 2^(K-k0) - sum z_i 2^(K-i). At x = 0 the first one does no harm.
    shift = exponents.highest - exponents.lowest
    values = x[None] if other is None else np.stack([x, other])
    scaled = values << np.uint64(shift)
    thresholds = exponents.thresholds
    if thresholds:
        bits = await at_least(session, x, thresholds, width_for(exponents.most))
        z, products = await gates(session, bits, values)
        steps = np.array([(b - a) % 2**64 for a, b in pairwise(entries)], dtype=np.uint64)
        start += np.sum(steps[:, None] * z, axis=0, dtype=np.uint64)
        for i in range(1, shift + 1):
            scaled -= products[i - 1 - shift] << np.uint64(shift - i)
    return Normalised(scaled[0], start, None if other is None else scaled[1])
