"""The state of a `LocalWitness`: for each origin the last checkpoint it countersigned, in one SQLite file.

Whoever can write the file can make the witness forget; so can a restored backup of it. The file is the witness's memory
and belongs on a machine that the journals' owners do not run.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path
from urllib.parse import quote

from privacy.ledger.notes import Checkpoint, Note

_APPLICATION_ID = 0x53594E57
_FORMAT_VERSION = 1
_WAIT_SECONDS = 60.0
# The triggers hold what the code promises, should the code be wrong: a tree never shrinks, and no size has two roots.
_SCHEMA = (
    """CREATE TABLE last (
        origin TEXT PRIMARY KEY NOT NULL,
        size INTEGER NOT NULL CHECK (typeof(size) = 'integer' AND size >= 0),
        root BLOB NOT NULL CHECK (typeof(root) = 'blob' AND length(root) = 32),
        note TEXT NOT NULL
    )""",
    """CREATE TRIGGER last_update BEFORE UPDATE ON last
        WHEN NEW.origin IS NOT OLD.origin OR NEW.size < OLD.size OR (NEW.size = OLD.size AND NEW.root IS NOT OLD.root)
        BEGIN SELECT RAISE(ABORT, 'a witness does not go back'); END""",
    "CREATE TRIGGER last_delete BEFORE DELETE ON last BEGIN SELECT RAISE(ABORT, 'a witness does not forget'); END",
)


class Damaged(Exception):
    """The file is not what this module wrote. Nothing is to be signed from it."""


def last(connection: sqlite3.Connection, origin: str) -> tuple[Checkpoint, Note] | None:
    """Return the last checkpoint of an origin, and the note it came in. Raises Damaged or sqlite3.Error."""
    row = connection.execute("SELECT size, root, note FROM last WHERE origin = ?", (origin,)).fetchone()
    if row is None:
        return None
    try:
        note = Note.parse(row[2])
        checkpoint = Checkpoint.parse(note.text)
    except ValueError:
        raise Damaged(f"what is kept of {origin!r} is no checkpoint: find out why, before the witness signs") from None
    # The note says it all; the columns are there for the triggers. If they differ, somebody wrote the file by hand.
    if (checkpoint.origin, checkpoint.size, checkpoint.root) != (origin, row[0], row[1]):
        raise Damaged(f"what is kept of {origin!r} contradicts itself: find out why, before the witness signs")
    return checkpoint, note


def keep(connection: sqlite3.Connection, checkpoint: Checkpoint, note: Note) -> None:
    """Make a checkpoint the last of its origin. Raises Damaged or sqlite3.Error."""
    changed = connection.execute(
        "INSERT INTO last (origin, size, root, note) VALUES (?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE "
        "SET size = excluded.size, root = excluded.root, note = excluded.note",
        (checkpoint.origin, checkpoint.size, checkpoint.root, note.render()),
    ).rowcount
    if changed != 1:
        raise Damaged("the checkpoint was not kept: something in the file intercepts writes")


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection whose commits are on the disk when they return. Raises Damaged, sqlite3.Error or OSError."""
    # mode=rw: a file that vanished is not made again, as a witness that never saw anything.
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=_WAIT_SECONDS
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA fullfsync = ON")
        # A rollback journal and not a write-ahead log: writes are rare, and no second file holds part of the state.
        # EXTRA is FULL and syncs the folder, without which a power cut can bring a journal back and undo a commit.
        connection.execute("PRAGMA synchronous = EXTRA")
        _check_marks(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_marks(connection: sqlite3.Connection) -> None:
    marks = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if marks != [_APPLICATION_ID, _FORMAT_VERSION]:
        raise Damaged("the file is not a witness's state of a known version")


def create(path: Path) -> None:
    """Make the state of a witness that saw nothing, whole or not at all; does nothing if the file exists.

    Raises Damaged, sqlite3.Error or OSError.
    """
    if path.exists():
        return
    if Path(f"{path}-journal").exists():
        # SQLite would roll the new file back with the pages of the old one.
        raise Damaged("the file is gone but its journal is there: restore the file, or move the journal away")
    new = path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
    try:
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_FORMAT_VERSION}")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")
        with contextlib.suppress(FileExistsError):  # somebody else was faster: theirs is the state
            os.link(new, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        new.unlink(missing_ok=True)
