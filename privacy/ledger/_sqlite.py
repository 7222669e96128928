"""The ledger's file: an insert-only journal in SQLite, one writer at a time, each commit on the disk when it returns.

entry    the journal; `seq` has no gaps
answer   the stored answers, encrypted, by digest of their key
erased   digests of the keys whose answers were erased: only those leave `answer`
state    what the journal implies (`books`), so that a spend need not read it

Writers queue on a side file (`_queue`) before `BEGIN IMMEDIATE`: SQLite's own waiting is a lottery in which some
process can wait for seconds. The queue is for fairness; the transaction is what keeps two spends apart. Checkpoints of
the write-ahead log run inside commits and on close, so they too happen under the queue.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

from privacy.errors import LedgerCorrupt
from privacy.ledger._queue import turn
from privacy.ledger._sqlite_library import Connection, connect
from privacy.ledger.errors import LedgerUnavailable
from privacy.ledger.store import Move

APPLICATION_ID = 0x53594E4C
_PREFIX = "sqlite:///"
_WAIT_SECONDS = 60.0
_READ_WAIT_SECONDS = 5.0

# The triggers stop accidents and INSERT OR REPLACE. Whoever can write the file can drop them; `verify` sees that.
_FIRST = (
    """CREATE TABLE entry (
        seq INTEGER PRIMARY KEY,
        body BLOB NOT NULL CHECK (typeof(body) = 'blob'),
        hash BLOB NOT NULL CHECK (typeof(hash) = 'blob' AND length(hash) = 32)
    )""",
    """CREATE TABLE answer (
        key_digest BLOB PRIMARY KEY NOT NULL CHECK (typeof(key_digest) = 'blob'),
        body BLOB NOT NULL CHECK (typeof(body) = 'blob')
    )""",
    "CREATE TRIGGER entry_update BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'entries are for ever'); END",
    "CREATE TRIGGER entry_delete BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'entries are for ever'); END",
    """CREATE TRIGGER entry_insert BEFORE INSERT ON entry
        WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entry)
        BEGIN SELECT RAISE(ABORT, 'entries have no gaps'); END""",
    "CREATE TRIGGER answer_update BEFORE UPDATE ON answer BEGIN SELECT RAISE(ABORT, 'answers are for ever'); END",
    "CREATE TABLE erased (key_digest BLOB PRIMARY KEY NOT NULL CHECK (typeof(key_digest) = 'blob')) WITHOUT ROWID",
    "CREATE TABLE state (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TRIGGER erased_update BEFORE UPDATE ON erased BEGIN SELECT RAISE(ABORT, 'erased is for ever'); END",
    "CREATE TRIGGER erased_delete BEFORE DELETE ON erased BEGIN SELECT RAISE(ABORT, 'erased is for ever'); END",
    """CREATE TRIGGER answer_delete BEFORE DELETE ON answer
        WHEN NOT EXISTS (SELECT 1 FROM erased WHERE key_digest = OLD.key_digest)
        BEGIN SELECT RAISE(ABORT, 'answers are for ever'); END""",
    """CREATE TRIGGER answer_insert BEFORE INSERT ON answer
        WHEN EXISTS (SELECT 1 FROM answer WHERE key_digest = NEW.key_digest)
        BEGIN SELECT RAISE(ABORT, 'answers are for ever'); END""",
)
# Numbered scripts: version 2 is the first, each later one changes what the one before it made, and none ever changes.
_FIRST_VERSION = 2
SCRIPTS: list[tuple[str, ...]] = [_FIRST]
_SCHEMA_QUERY = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"


def path_of(url: str) -> Path:
    """Return the file that a URL names: `sqlite:///relative.db` or `sqlite:////absolute/path.db`, taken literally.

    Raises ValueError on any other URL.
    """
    if not url.startswith(_PREFIX) or url in (_PREFIX, _PREFIX + ":memory:"):
        raise ValueError(f"a ledger's URL is sqlite:///relative.db or sqlite:////absolute/path.db, got {url!r}")
    return Path(url[len(_PREFIX) :]).absolute()


def format_version() -> int:
    """Return the version of the tables that this software makes."""
    return _FIRST_VERSION + len(SCRIPTS) - 1


@lru_cache(maxsize=4)
def _expected_schema(scripts: tuple[tuple[str, ...], ...]) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in itertools.chain(*scripts):
            connection.execute(statement)
        return connection.execute(_SCHEMA_QUERY).fetchall()


def format_problems(connection: Connection) -> list[str]:
    """Return what is wrong with the file's marks and tables; nothing if they are exactly what this version makes."""
    problems = []
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application_id != APPLICATION_ID:
        problems.append("the file is not a ledger: it lacks the mark of one")
    if version != format_version():
        problems.append(f"the file has format version {version}; this software reads version {format_version()}")
    if connection.execute(_SCHEMA_QUERY).fetchall() != _expected_schema(tuple(SCRIPTS)):
        problems.append("tables or triggers are missing, changed or added")
    return problems


@contextlib.contextmanager
def reading_only(path: Path) -> Iterator[Connection]:
    """Give a connection that cannot write. Raises sqlite3.Error, or ChangedWhileRead: then read again."""
    before = _marks(path)
    # Without a log nobody has the file open, and it can be read without leaving a lock file beside it: from a
    # read-only medium, too. If somebody opened it meanwhile, what was read may be torn.
    alone = before[0] is None
    with contextlib.closing(connect(path, "immutable" if alone else "ro", _READ_WAIT_SECONDS)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("BEGIN")  # one state of the file, whoever writes meanwhile
        try:
            yield connection
        except sqlite3.Error:
            if alone and _marks(path) != before:
                raise ChangedWhileRead from None
            raise
    if alone and _marks(path) != before:
        raise ChangedWhileRead


class ChangedWhileRead(Exception):
    """Somebody opened the file while it was read without locks."""


def _marks(path: Path) -> tuple[object, ...]:
    log, status = Path(f"{path}-wal"), path.stat()
    return (log.stat().st_size if log.exists() else None, status.st_mtime_ns, status.st_size, status.st_ino)


def schema_hash() -> str:
    """Return the hash of tables and triggers, which the journal names: `sqlite-2:` and 64 hexadecimal digits."""
    text = "\n".join(str(row) for row in _expected_schema(tuple(SCRIPTS)))
    return f"sqlite-{format_version()}:{hashlib.sha256(text.encode()).hexdigest()}"


def create(path: Path, rows: Sequence[tuple[int, bytes, bytes]], states: Iterable[tuple[str, bytes]]) -> None:
    """Make a ledger with its first entries and their states; does nothing if the file exists.

    The file appears whole or not at all, so an empty file at this place is never taken for a new ledger.

    Raises
    ------
    LedgerUnavailable
        If it cannot be written.
    LedgerCorrupt
        If a write-ahead log of a vanished ledger lies there: SQLite would mix it into the new file.
    """
    if path.exists():
        return
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise LedgerCorrupt(f"{path.name} is gone but its log is there: restore the file, or move the log away")
    new = path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
    try:
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with contextlib.closing(connect(new, "rw", _WAIT_SECONDS)) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {format_version()}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in itertools.chain(*SCRIPTS):
                connection.execute(statement)
            connection.executemany("INSERT INTO entry VALUES (?, ?, ?)", rows)
            connection.executemany("INSERT INTO state VALUES (?, ?)", states)
            connection.execute("COMMIT")
            # Everything into the one file, before it gets its name. Closing would do it too, but hide a failure.
            busy, left, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy or left:
                raise sqlite3.OperationalError("its log could not be moved into it")
        # `link` fails if somebody else was faster: theirs is the ledger.
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
        _sync_folder(path)
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailable(f"{path.name} cannot be made: {error}") from error
    finally:
        for name in (new, Path(f"{new}-wal"), Path(f"{new}-shm")):
            name.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class SqliteStore:
    """One connection to a ledger's file, a `store.Store`. Not thread-safe: the `Ledger` serialises its threads.

    wait_seconds   how long a writer waits for its turn, and a statement for a lock
    """

    # The only writer has checked the caps already.
    guards = False

    def __init__(self, path: Path, *, wait_seconds: float = _WAIT_SECONDS) -> None:
        self.path = path
        self.name = path.name
        self.wait_seconds = wait_seconds
        self._connection: Connection | None = None
        self._file = (0, 0)
        self._schema_version = -1
        self._migrating = False

    def outdated(self) -> bool:
        """Return whether scripts may have to be run (`migrate`). Until then the tables are not checked."""
        # From the file's header, without another connection. A newer one may still be in the log: then `migrate` finds
        # nothing to do.
        with self._errors(), self.path.open("rb") as file:
            header = file.read(72)
        version, application_id = int.from_bytes(header[60:64], "big"), int.from_bytes(header[68:72], "big")
        self._migrating = application_id == APPLICATION_ID and _FIRST_VERSION <= version < format_version()
        return self._migrating

    def migrate(self) -> bool:
        """Run the scripts that are missing, inside `writing`; return whether there were any.

        An entry that names the new schema belongs into the same commit.
        """
        connection = self._open()
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for statement in itertools.chain(*SCRIPTS[version - _FIRST_VERSION + 1 :]):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {format_version()}")
        self._migrating = False
        self._check_format(connection)
        return bool(version < format_version())

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer; commit on leaving, roll back on an error. Raises LedgerUnavailable or LedgerCorrupt."""
        with self._errors(), self._queue(self.wait_seconds), self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the file for the whole block. Raises LedgerUnavailable or LedgerCorrupt."""
        with self._errors(), self._transaction("BEGIN"):
            yield

    def rows(self, first: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield seq, body and hash of the entries from `first` on."""
        yield from self._open().execute("SELECT seq, body, hash FROM entry WHERE seq >= ? ORDER BY seq", (first,))

    def row(self, seq: int) -> tuple[bytes, bytes] | None:
        """Return body and hash of an entry, or None."""
        found = self._open().execute("SELECT body, hash FROM entry WHERE seq = ?", (seq,)).fetchone()
        return None if found is None else (bytes(found[0]), bytes(found[1]))

    def last(self) -> tuple[int, bytes] | None:
        """Return seq and hash of the last entry, or None."""
        found = self._open().execute("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
        return None if found is None else (found[0], bytes(found[1]))

    def append(self, rows: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Insert entries."""
        done = self._open().executemany("INSERT INTO entry (seq, body, hash) VALUES (?, ?, ?)", rows)
        if done.rowcount != len(rows):
            raise LedgerCorrupt("a row was not inserted: something in the file intercepts writes")

    def state(self, name: str) -> bytes | None:
        """Return the document of this name, or None."""
        row = self._open().execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def states(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield names and documents of the names that begin so."""
        yield from self._open().execute(
            "SELECT name, value FROM state WHERE name >= ? AND name < ? ORDER BY name", (prefix, prefix + "\U0010ffff")
        )

    def put_states(self, states: Sequence[tuple[str, bytes]]) -> None:
        """Write documents in the place of earlier ones of their names."""
        self._open().executemany(
            "INSERT INTO state VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", states
        )

    def guard(self, moves: Sequence[Move]) -> None:
        """Nothing."""

    def put_answer(self, digest: bytes, body: bytes) -> None:
        """Insert an answer."""
        self._insert("INSERT INTO answer (key_digest, body) VALUES (?, ?)", (digest, body))

    def erase_answers(self, digests: Sequence[bytes]) -> None:
        """Destroy answers: their bytes are overwritten in the file, and in the log at its next checkpoint."""
        connection = self._open()
        names = [(digest,) for digest in digests]
        connection.executemany("INSERT INTO erased VALUES (?) ON CONFLICT DO NOTHING", names)
        connection.executemany("DELETE FROM answer WHERE key_digest = ?", names)

    def answer(self, digest: bytes) -> bytes | None:
        """Return the stored answer, or None."""
        row = self._open().execute("SELECT body FROM answer WHERE key_digest = ?", (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Close the connection. Never raises: everything acknowledged is on disk already."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            # The last connection moves the log into the file: under the queue, like any other write. If that is not
            # free, its holder has the file open, so this is not the last one. Never wait here: a ledger that is
            # collected as garbage is closed wherever its thread happens to be, which may be inside the queue.
            with contextlib.suppress(OSError, sqlite3.Error, LedgerUnavailable), self._queue(0.0):
                connection.close()
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _insert(self, statement: str, values: tuple[object, ...]) -> None:
        if self._open().execute(statement, values).rowcount != 1:
            raise LedgerCorrupt("a row was not inserted: something in the file intercepts writes")

    def _open(self) -> Connection:
        if self._connection is None:
            connection = connect(self.path, "rw", self.wait_seconds)
            try:
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("PRAGMA cell_size_check = ON")
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute("PRAGMA fullfsync = ON")
                connection.execute("PRAGMA checkpoint_fullfsync = ON")
                connection.execute("PRAGMA synchronous = FULL")  # NORMAL forgets acknowledged spends at a power cut
                self._check_format(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                self._file = self._identity()
            except BaseException:
                connection.close()
                raise
            self._connection, self._schema_version = connection, -1
        return self._connection

    def _identity(self) -> tuple[int, int]:
        status = self.path.stat()
        return (status.st_dev, status.st_ino)

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        connection = self._open()
        connection.execute(begin)
        try:
            self._check_file(connection)
            yield
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise

    def _check_file(self, connection: Connection) -> None:
        if self._identity() != self._file:
            self._drop()
            raise LedgerCorrupt(
                f"{self.path.name} was replaced while it was open; find out by whom, then open it again"
            )
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        if version != self._schema_version:
            self._check_format(connection)
            self._schema_version = version

    def _check_format(self, connection: Connection) -> None:
        if self._migrating:
            return
        if problems := format_problems(connection):
            raise LedgerCorrupt(f"{self.path.name}: {'; '.join(problems)}")

    def _queue(self, wait_seconds: float) -> AbstractContextManager[None]:
        return turn(Path(f"{self.path}-queue"), wait_seconds, self.name)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:
            self._drop()
            raise LedgerCorrupt(f"{self.path.name} cannot be read as a ledger: a text in it is none") from error
        except (sqlite3.Error, OSError) as error:
            # After a failed sync the page cache is not to be trusted: the next use starts from the disk.
            self._drop()
            if type(error) is sqlite3.DatabaseError:  # the file itself is malformed or no database
                raise LedgerCorrupt(f"{self.path.name} cannot be read as a ledger: {error}") from error
            raise LedgerUnavailable(
                f"{self.path.name} could not be read or written ({error}); what was not acknowledged is there as a "
                "whole or not at all: make room or mend the disk, and try again with the same key"
            ) from error

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
