"""A ledger read at one moment, without writing to it: for exports, proofs, backups and histories.

An SQLite file is read beside its writers, by a connection that cannot write. Another store is read by an open ledger.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from privacy.errors import LedgerCorrupt
from privacy.ledger._sqlite import ChangedWhileRead, SqliteStore, format_problems, path_of, reading_only
from privacy.ledger._sqlite_library import Connection
from privacy.ledger.books import Head
from privacy.ledger.errors import LedgerUnavailable
from privacy.ledger.ledger import Ledger, open_ledger

_ATTEMPTS = 5
_Result = TypeVar("_Result")


class Snapshot(Protocol):
    """One state of a journal: the reading half of a `store.Store`."""

    name: str

    def rows(self, first: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield seq, body and hash of the entries from `first` on."""
        ...

    def row(self, seq: int) -> tuple[bytes, bytes] | None:
        """Return body and hash of an entry, or None."""
        ...

    def state(self, name: str) -> bytes | None:
        """Return the document of this name, or None."""
        ...

    def states(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield names and documents of the names that begin so."""
        ...


class _FileSnapshot:
    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self._connection = connection

    def rows(self, first: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
        for seq, body, digest in self._connection.execute(
            "SELECT seq, body, hash FROM entry WHERE seq >= ? ORDER BY seq", (first,)
        ):
            yield seq, bytes(body), bytes(digest)

    def row(self, seq: int) -> tuple[bytes, bytes] | None:
        found = self._connection.execute("SELECT body, hash FROM entry WHERE seq = ?", (seq,)).fetchone()
        return None if found is None else (bytes(found[0]), bytes(found[1]))

    def state(self, name: str) -> bytes | None:
        found = self._connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if found is None else bytes(found[0])

    def states(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        for name, value in self._connection.execute(
            "SELECT name, value FROM state WHERE name >= ? AND name < ? ORDER BY name", (prefix, prefix + "\U0010ffff")
        ):
            yield name, bytes(value)


def from_snapshot(ledger: Ledger | str, take: Callable[[Snapshot], _Result]) -> _Result:
    """Return what `take` makes of one state of a ledger, given open or by its URL. It may be called several times.

    Raises
    ------
    LedgerCorrupt
        It is no ledger of this version.
    LedgerUnavailable
        It cannot be read, or is not there: reading makes no ledger.
    """
    if isinstance(ledger, str) and not ledger.startswith("sqlite:"):
        with open_ledger(ledger, check="head") as opened:
            return from_snapshot(opened, take)
    if isinstance(ledger, Ledger):
        journal = ledger._journal  # noqa: SLF001 - the ledger's own package
        if not isinstance(journal.store, SqliteStore):
            with journal.reading():
                return take(journal.store)
        path = journal.store.path
    else:
        path = path_of(ledger)
    if not path.is_file():
        raise LedgerUnavailable(f"{path.name} is not there: give a ledger's file")
    for _ in range(_ATTEMPTS):
        try:
            with reading_only(path) as connection:
                if problems := format_problems(connection):
                    raise LedgerCorrupt(f"{path.name}: {'; '.join(problems)}")
                return take(_FileSnapshot(path.name, connection))
        except ChangedWhileRead:
            continue
        except sqlite3.Error as error:
            if type(error) is sqlite3.DatabaseError:
                raise LedgerCorrupt(f"{path.name} cannot be read as a ledger: {error}") from error
            raise LedgerUnavailable(f"{path.name} could not be read ({error}): try again") from error
    raise LedgerUnavailable(f"{path.name} changed each time it was read: read a copy, or once it is at rest")


def head_of(snapshot: Snapshot) -> Head:
    """Return where the journal stands. Raises LedgerCorrupt if the ledger does not say so."""
    try:
        return Head.of(snapshot.state("head") or b"it is missing")
    except (ValueError, TypeError) as error:
        raise LedgerCorrupt(f"{snapshot.name}: where its journal stands cannot be read: {error}; see verify") from None
