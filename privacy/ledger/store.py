"""Where a ledger is kept: what a store has to do, whatever it is made of.

A store knows nothing of rules. It keeps entries, documents (`books`) and answers, lets one writer in at a time, and
makes what was written durable before the block that wrote it is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Move:
    """What an entry does to one amount of one block of an account, in whole units.

    place      account, block and amount
    cap        in force
    charged    and `reserved`: what is added, which may be negative
    after      what is charged and what is reserved, as the books have it after the entry
    sets_cap   the entry puts `cap` in force
    """

    place: tuple[str, str, int]
    cap: int
    charged: int
    reserved: int
    after: tuple[int, int]
    sets_cap: bool = False


class Store(Protocol):
    """A ledger's store. Blocks raise LedgerUnavailable, LedgerCorrupt; they are written as a whole or not at all."""

    name: str
    # Whether `guard` does anything.
    guards: bool

    def writing(self) -> AbstractContextManager[None]:
        """Be the only writer; commit on leaving, roll back on an error."""

    def reading(self) -> AbstractContextManager[None]:
        """See one state for the whole block."""

    def rows(self, first: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield seq, body and hash of the entries from `first` on."""

    def row(self, seq: int) -> tuple[bytes, bytes] | None:
        """Return body and hash of an entry, or None."""

    def last(self) -> tuple[int, bytes] | None:
        """Return seq and hash of the last entry, or None."""

    def append(self, rows: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Insert entries."""

    def state(self, name: str) -> bytes | None:
        """Return the document of this name, or None."""

    def states(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield names and documents of the names that begin so."""

    def put_states(self, states: Sequence[tuple[str, bytes]]) -> None:
        """Write documents in the place of earlier ones of their names."""

    def guard(self, moves: Sequence[Move]) -> None:
        """Check the caps once more, where the store can: a second pair of eyes. Raises LedgerCorrupt.

        A store that keeps balances of its own compares them with the books, and moves them.
        """

    def answer(self, digest: bytes) -> bytes | None:
        """Return the stored answer, or None."""

    def put_answer(self, digest: bytes, body: bytes) -> None:
        """Insert an answer."""

    def erase_answers(self, digests: Sequence[bytes]) -> None:
        """Destroy answers."""

    def close(self) -> None:
        """Close; never raises."""
