"""Correlated randomness: random values in a known relation that no party knows, made by a dealer, compressed to seeds.

kind      which relation: for Beaver's products, a and b random and c = a b (`smpc.kinds`)
item      one instance of a kind. A product of a thousand numbers takes a thousand items
free      fields of an item that are uniform
tied      fields that follow from the free ones
share     what one party holds of a field; the parties' shares add up to it

Party i expands its shares of the free fields from its own seed, and all parties but the last one their shares of the
tied fields too. These do not fit the free fields; the last party's share of the tied fields is the correction that
makes them fit, and comes from the dealer. So the dealer sends 32 bytes to each party at the start, and after that the
tied fields to the last party alone. The last party's shares are uniform because those of the others are.

The dealer must be a separate role: it knows every mask, so the dealer together with any single party sees every value
that enters a product. It learns nothing by itself, for it sees no message of the protocol.

An item serves once. Two products with the same a would open x - x'. Positions are burnt before material is handed out,
and neither the dealer nor a party's store goes back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from privacy._checks import check_count
from privacy.randomness import Rng, SecureRng
from smpc.errors import TripleOutOfOrder, TripleReused
from smpc.prg import SEED_BYTES
from smpc.sharing import check_parties
from smpc.streams import Elements, Field, Streams

__all__ = ["Corrections", "Dealer", "Elements", "Field", "Kind", "MaterialStore"]


class Kind(ABC):
    """A relation between random values. Implementations are frozen: equal kinds are one kind, at every party."""

    __slots__ = ()

    @property
    @abstractmethod
    def label(self) -> str:
        """Name that differs in every detail which the shares depend on."""

    @property
    @abstractmethod
    def free(self) -> tuple[Field, ...]:
        """Fields that are uniform."""

    @property
    @abstractmethod
    def tied(self) -> tuple[Field, ...]:
        """Fields that follow from the free ones."""

    @abstractmethod
    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:
        """Return the tied fields of `count` items."""

    def n_bytes(self, count: int) -> int:
        """Return the size of one party's shares of `count` items."""
        return sum(field.n_bytes(count) for field in (*self.free, *self.tied))

    @property
    def n_rows(self) -> int:
        """Number of streams that one party's shares are drawn from."""
        return sum(field.n_rows for field in (*self.free, *self.tied))

    def dealer_bytes(self, count: int) -> int:
        """Return how many bytes the dealer sends for `count` items."""
        return sum(field.n_bytes(count) for field in self.tied)

    def streams(self, seed: bytes, *, with_tied: bool, start: int = 0) -> Streams:
        """Return one party's shares from item `start` on, of the tied fields only if they are its own to draw."""
        fields = (*self.free, *(self.tied if with_tied else ()))
        return Streams(seed, self.label, fields, start=start)


class Corrections(Protocol):
    """Where the last party gets its shares of the tied fields from."""

    def correction(self, kind: Kind, start: int, count: int) -> list[Elements]:
        """Return the last party's shares for items start..start + count - 1; once."""
        ...


class Pool:
    """Items that were expanded ahead, and how far they are used."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields
        self._arrays: list[Elements] = [np.empty(field.shape(0), dtype=field.domain.dtype) for field in fields]
        self._start = 0
        self.left = 0

    def put(self, arrays: Sequence[Elements], count: int) -> None:
        """Add the next `count` items, an array for each field."""
        if self.left:
            rest = self._slices(self._start, self.left)
            arrays = [np.concatenate(pair, axis=-1) for pair in zip(rest, arrays, strict=True)]
        self._arrays, self._start, self.left = list(arrays), 0, self.left + count

    def get(self, count: int) -> list[Elements]:
        """Return views of the next `count` items, of which there are as many."""
        out = self._slices(self._start, count)
        self.drop(count)
        return out

    def drop(self, count: int) -> None:
        """Pass over `count` items."""
        self._start += count
        self.left -= count

    def _slices(self, start: int, count: int) -> list[Elements]:
        return [
            array[..., start * field.length : (start + count) * field.length]
            for field, array in zip(self._fields, self._arrays, strict=True)
        ]


class MaterialStore:
    """One party's material, in order, each item once.

    Parameters
    ----------
    seed
        This party's 32 bytes from the dealer.
    corrections
        The dealer, at the last party; None at the others.
    """

    def __init__(self, seed: bytes, *, corrections: Corrections | None) -> None:
        self._seed = seed
        self._corrections = corrections
        self._streams: dict[Kind, Streams] = {}
        self._pools: dict[Kind, Pool] = {}
        # Items expanded, and items handed out.
        self._drawn: dict[Kind, int] = {}
        self._used: dict[Kind, int] = {}

    def __repr__(self) -> str:
        return f"MaterialStore(kinds={len(self._used)}, items={sum(self._used.values())})"

    @property
    def dealing(self) -> bytes | None:
        """Random number of the dealing that the seed is of, where the parties are to compare it before a run."""
        return None

    @property
    def used(self) -> dict[Kind, int]:
        """How many items of each kind were handed out."""
        return dict(self._used)

    def prepare(self, amounts: Mapping[Kind, int]) -> None:
        """Expand items ahead of their use, into memory: what then remains to be done in a round is arithmetic."""
        for kind, count in amounts.items():
            check_count("count", count, least=0)
            pool = self._pools.setdefault(kind, Pool((*kind.free, *kind.tied)))
            pool.put(self._draw(kind, count), count)

    def take(self, kind: Kind, count: int) -> list[Elements]:
        """Return this party's shares of the next items: free fields, then tied ones.

        The arrays may be views of a pool: they are not to be written to.
        """
        start = self._used.get(kind, 0)
        # Burnt first: if what follows fails, the items are lost, never served again.
        self._used[kind] = start + count
        pool = self._pools.get(kind)
        if pool is None or not pool.left:
            return self._draw(kind, count)
        if pool.left < count:
            missing = count - pool.left
            pool.put(self._draw(kind, missing), missing)
        return pool.get(count)

    def take_at(self, kind: Kind, start: int, count: int) -> list[Elements]:
        """As `take`, for a caller who says which items are due.

        Raises
        ------
        TripleReused
            If one of them was handed out before, whether or not it was used.
        TripleOutOfOrder
            If items before them were not taken.
        """
        check_start(start, self._used.get(kind, 0))
        return self.take(kind, count)

    def skip(self, kind: Kind, start: int) -> None:
        """Pass over the items before `start`: the next one handed out is `start`. They are not expanded.

        Raises
        ------
        TripleReused
            If `start` or an item behind it was handed out before.
        """
        used, drawn = self._used.get(kind, 0), self._drawn.get(kind, 0)
        if start < used:
            raise TripleReused(start)
        self._used[kind] = start
        pool = self._pools.get(kind)
        if start <= drawn:
            if pool is not None:
                pool.drop(start - used)
            return
        if pool is not None:
            pool.drop(pool.left)
        self._streams.pop(kind, None)
        self._drawn[kind] = start

    def close(self) -> None:
        """Give back what the store is kept in: nothing, for material in memory."""

    def _draw(self, kind: Kind, count: int) -> list[Elements]:
        start = self._drawn.get(kind, 0)
        if kind not in self._streams:
            self._streams[kind] = kind.streams(self._seed, with_tied=self._corrections is None, start=start)
        self._drawn[kind] = start + count
        try:
            arrays = self._streams[kind].draw(count)
            if self._corrections is not None:
                arrays += self._corrections.correction(kind, start, count)
        except BaseException:
            # Streams and pool no longer agree on a position: all that was to come from them is burnt.
            del self._streams[kind]
            self._pools.pop(kind, None)
            self._used[kind] = start + count
            raise
        return arrays


class Dealer:
    """Makes the material of one session. One object, held by none of the parties.

    Parameters
    ----------
    n_parties
        2..5.
    rng
        Source of the seeds; the operating system's by default. Anything else protects nobody.

    Examples
    --------
    >>> from smpc.kinds import Product
    >>> from smpc.ring import RING64
    >>> dealer = Dealer(2)
    >>> (a0, b0, c0), (a1, b1, c1) = (dealer.store(party).take(Product(RING64), 4) for party in range(2))
    >>> ((a0 + a1) * (b0 + b1) == c0 + c1).all()
    np.True_
    """

    def __init__(self, n_parties: int, *, rng: Rng | None = None) -> None:
        check_parties(n_parties)
        source = SecureRng() if rng is None else rng
        self.n_parties = n_parties
        self._seeds = [source.bytes(SEED_BYTES) for _ in range(n_parties)]
        self._handed_out: set[int] = set()
        self._streams: dict[Kind, list[Streams]] = {}
        self._next: dict[Kind, int] = {}
        self.bytes_sent = 0

    def __repr__(self) -> str:
        return f"Dealer(n_parties={self.n_parties}, kinds={len(self._next)})"

    def seed(self, party: int) -> bytes:
        """Return a party's seed; once for each party.

        Raises
        ------
        TripleReused
            If it was handed out before: two stores on one seed would serve every item twice.
        """
        if party in self._handed_out:
            raise TripleReused(0)
        self._handed_out.add(party)
        self.bytes_sent += SEED_BYTES
        return self._seeds[party]

    def store(self, party: int) -> MaterialStore:
        """Return a party's store, for a party in this process."""
        return MaterialStore(self.seed(party), corrections=self if party == self.n_parties - 1 else None)

    def correction(self, kind: Kind, start: int, count: int) -> list[Elements]:
        """Return the last party's shares of the tied fields of items start..start + count - 1, which must be the next.

        Raises
        ------
        TripleReused, TripleOutOfOrder
            If they are not.
        """
        check_start(start, self._next.get(kind, 0))
        self._next[kind] = start + count
        if kind not in self._streams:
            last = self.n_parties - 1
            self._streams[kind] = [
                kind.streams(seed, with_tied=party != last) for party, seed in enumerate(self._seeds)
            ]
        n_free = len(kind.free)
        fields = (*kind.free, *kind.tied)
        total, *others = (streams.draw(count) for streams in self._streams[kind])
        for shares in others:
            for field, sum_so_far, words in zip(fields, total, shares, strict=False):
                field.domain.add(sum_so_far, words, out=sum_so_far)
        tied = kind.tie(total[:n_free], count)
        out = [
            field.domain.sub(value, known) for field, value, known in zip(kind.tied, tied, total[n_free:], strict=True)
        ]
        self.bytes_sent += kind.dealer_bytes(count)
        return out


def check_start(start: int, expected: int) -> None:
    """Raise TripleReused or TripleOutOfOrder unless the item that is asked for is the one that is due."""
    if start < expected:
        raise TripleReused(start)
    if start > expected:
        raise TripleOutOfOrder(start, expected=expected)
