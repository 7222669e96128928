"""A copy of a ledger's file that is known to be whole: made beside its writers, and verified before it has a name.

A backup restores the entries, and with them a balance of the past: what was spent after it is missing. That is why
`restoring` is part of every result.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from privacy.errors import LedgerCorrupt
from privacy.ledger._files import new_file
from privacy.ledger._sqlite import ChangedWhileRead, SqliteStore, path_of, reading_only
from privacy.ledger._sqlite_library import copy
from privacy.ledger.errors import LedgerUnavailable
from privacy.ledger.ledger import Ledger
from privacy.ledger.verification import Verification, verify

_ATTEMPTS = 5
RESTORING = (
    "Restoring this copy gives back what was spent after it was made: open the restored ledger with its anchor, or "
    "with its witnesses, before anything is spent. They refuse an old copy; without either nobody can tell. Answers "
    "are encrypted in it: their key is another file, to be kept apart."
)


@dataclass(frozen=True, slots=True)
class Backup:
    """A verified copy.

    path           of the copy
    entries, head  the number of its entries and the last one's hash, in hexadecimal
    bytes          its size
    verification   of the copy, after it was written
    restoring      what to check when it is restored
    """

    path: Path
    entries: int
    head: str
    bytes: int
    verification: Verification
    restoring: str = RESTORING

    def __str__(self) -> str:
        """Return the backup in plain words."""
        return f"{self.path}: {self.entries} entries, {self.bytes} bytes, verified; head {self.head}\n{self.restoring}"


def backup(ledger: Ledger | str | os.PathLike[str], target: str | os.PathLike[str]) -> Backup:
    """Copy an SQLite ledger into a new file by SQLite's backup interface, and verify the copy.

    Parameters
    ----------
    ledger
        Open, its URL, or its file. Others may write meanwhile: the copy is of one moment.
    target
        The file to make, of mode 0600; on the disk when this returns, as a whole, or not at all.

    Raises
    ------
    LedgerRefused
        The target exists.
    LedgerCorrupt
        The copy does not verify, because the ledger does not. Nothing is left at the target; keep the ledger's files as
        they are and see `verify`.
    LedgerUnavailable
        Something cannot be read or written.
    ValueError
        The ledger is not an SQLite file: PostgreSQL has its own backups.
    """
    path = _path(ledger)
    if not path.is_file():
        raise LedgerUnavailable(f"{path.name} is not there: give a ledger's file")
    place = Path(target).absolute()
    with new_file(place) as new:
        last = _copy(path, new)
        found = verify(f"sqlite:///{new}", head=None if last is None else last[1].hex())
        if not found.ok or last is None or found.entries != last[0]:
            first = found.problems[0] if found.problems else "it has no entries, or others than the ledger"
            raise LedgerCorrupt(f"{path.name}: a copy of it does not verify: {first}; nothing was kept of it")
        size = new.stat().st_size
    return Backup(path=place, entries=last[0], head=last[1].hex(), bytes=size, verification=found)


def _copy(path: Path, new: Path) -> tuple[int, bytes] | None:
    """Copy the file's present state; return seq and hash of its last entry."""
    for _ in range(_ATTEMPTS):
        try:
            with reading_only(path) as source:
                row = source.execute("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
                copy(source, new)
            return None if row is None else (row[0], bytes(row[1]))
        except ChangedWhileRead:
            new.write_bytes(b"")
        except sqlite3.Error as error:
            if type(error) is sqlite3.DatabaseError:
                raise LedgerCorrupt(f"{path.name} cannot be read as a ledger: {error}") from error
            raise LedgerUnavailable(f"{path.name} could not be copied ({error}): try again") from error
        finally:
            # A copy in WAL mode has a log of its own until its connection is closed.
            for name in (f"{new}-wal", f"{new}-shm"):
                Path(name).unlink(missing_ok=True)
    raise LedgerUnavailable(f"{path.name} changed each time it was copied: try again")


def _path(ledger: Ledger | str | os.PathLike[str]) -> Path:
    if isinstance(ledger, Ledger):
        store = ledger._journal.store  # noqa: SLF001 - the ledger's own package
        if not isinstance(store, SqliteStore):
            raise ValueError(f"{store.name} is not an SQLite file: use the backups of its database")
        return store.path
    if isinstance(ledger, str) and "://" in ledger:
        return path_of(ledger)
    return Path(ledger).absolute()
