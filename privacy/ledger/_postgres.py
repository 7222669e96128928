"""A ledger in a PostgreSQL database, one in each: the tables of SQLite's (`_postgres_schema`), and guarded balances.

Writers queue on an advisory lock, which the server grants in the order of asking; what keeps two spends apart is the
lock on the one row that says where the journal stands, in READ COMMITTED: nobody is ever rolled back for having been
slower. Then each balance moves by one UPDATE that holds only if the cap in the row covers it and the row is what the
books say. READ COMMITTED needs no retries, and does not depend on SERIALIZABLE being right.

Connect directly, or through a pooler that keeps a session: settings and prepared statements belong to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from privacy.errors import LedgerCorrupt
from privacy.ledger._postgres_balance import move_balances
from privacy.ledger._postgres_link import Link
from privacy.ledger._postgres_schema import QUEUE, catalog_problems, missing_scripts, run_scripts, schema_hash
from privacy.ledger.errors import LedgerUnavailable
from privacy.ledger.store import Move

if TYPE_CHECKING:
    import psycopg

# One message: three round trips fewer while the others wait. The settings are looked at each time, as the server's
# operator can change them while we are connected.
_BEGIN_WRITING = f"""
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SELECT pg_advisory_xact_lock({QUEUE});
SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'),
  current_setting('synchronous_standby_names') FROM synthema_ledger.state WHERE name = 'head' FOR UPDATE
"""  # noqa: S608 - a number of ours
_BEGIN_MAKING = f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({QUEUE})"
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

_ROWS_AT_ONCE = 2000


class PostgresStore:
    """One connection to a ledger's database, a `store.Store`. Not thread-safe: the `Ledger` serialises its threads.

    Raises ValueError for a bad URL, LedgerUnavailable without psycopg. It connects at the first use, and again after
    an error of the connection.
    """

    guards = True

    def __init__(self, url: str) -> None:
        self._link = Link(url)
        self.name = self._link.name
        self._connection: psycopg.Connection[Any] | None = None
        self._checked = self._warned = self._migrating = False

    def __repr__(self) -> str:
        return f"PostgresStore({self.name!r})"

    def schema_hash(self) -> str:
        """Return the hash of the scripts, which the journal names."""
        return schema_hash()

    def create(self, rows: Sequence[tuple[int, bytes, bytes]], states: Sequence[tuple[str, bytes]]) -> None:
        """Make a ledger with its first entries and their states, in one transaction; nothing if there is a schema.

        Tables that are there and empty are never taken for a new ledger.

        Raises
        ------
        LedgerUnavailable
            It cannot be made: no connection, or no right to.
        LedgerCorrupt
            What is there is no ledger of this version.
        """
        with self._errors():
            connection = self._connected()
            if _is_made(connection):
                return
            with self._transaction(_BEGIN_MAKING):
                if _is_made(connection):  # somebody else was faster: theirs is the ledger
                    return
                run_scripts(connection)
                connection.cursor().executemany("INSERT INTO synthema_ledger.entry VALUES (%s, %s, %s)", rows)
                self.put_states(states)

    def outdated(self) -> bool:
        """Return whether scripts are to be run (`migrate`). Until then nothing is checked. Raises as `reading`."""
        with self._errors():
            self._migrating = bool(missing_scripts(self._connected()))
        return self._migrating

    def migrate(self) -> bool:
        """Run the scripts that are missing, inside `writing`; return whether there were any. For the owner.

        An entry that names the new schema belongs into the same commit.
        """
        done = run_scripts(self._connected())
        self._migrating = self._checked = False
        self._open()
        return done

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer; commit on leaving, roll back on an error. Raises LedgerUnavailable or LedgerCorrupt."""
        with self._errors(), self._transaction(_BEGIN_WRITING) as settings:
            if settings is None:
                raise LedgerCorrupt(f"{self.name}: it does not say where its journal stands; see verify")
            self._link.check_durable(settings[:3])
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the database for the whole block. Raises LedgerUnavailable or LedgerCorrupt."""
        with self._errors(), self._transaction(_BEGIN_READING):
            yield

    def rows(self, first: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield seq, body and hash of the entries from `first` on, in pieces: a history may be longer than memory."""
        query = "SELECT seq, body, hash FROM synthema_ledger.entry WHERE seq >= %s ORDER BY seq LIMIT %s"
        while True:
            found = self._open().execute(query, (first, _ROWS_AT_ONCE)).fetchall()
            yield from found
            if len(found) < _ROWS_AT_ONCE:
                return
            first = found[-1][0] + 1

    def row(self, seq: int) -> tuple[bytes, bytes] | None:
        """Return body and hash of an entry, or None."""
        return self._one("SELECT body, hash FROM synthema_ledger.entry WHERE seq = %s", seq)

    def last(self) -> tuple[int, bytes] | None:
        """Return seq and hash of the last entry, or None."""
        return self._one("SELECT seq, hash FROM synthema_ledger.entry ORDER BY seq DESC LIMIT 1")

    def append(self, rows: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Insert entries."""
        self._insert("INSERT INTO synthema_ledger.entry (seq, body, hash) VALUES (%s, %s, %s)", rows)

    def state(self, name: str) -> bytes | None:
        """Return the document of this name, or None."""
        row = self._one("SELECT value FROM synthema_ledger.state WHERE name = %s", name)
        return None if row is None else row[0]

    def states(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield names and documents of the names that begin so."""
        query = "SELECT name, value FROM synthema_ledger.state WHERE name >= %s AND name < %s ORDER BY name"
        yield from self._open().execute(query, (prefix, prefix + "\U0010ffff"))

    def put_states(self, states: Sequence[tuple[str, bytes]]) -> None:
        """Write documents in the place of earlier ones of their names."""
        self._insert(
            "INSERT INTO synthema_ledger.state VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            states,
        )

    def guard(self, moves: Sequence[Move]) -> None:
        """Move the balances, each where its own row allows it. Raises LedgerCorrupt if one does not."""
        move_balances(self._open(), moves, self.name)

    def put_answer(self, digest: bytes, body: bytes) -> None:
        """Insert an answer."""
        self._insert("INSERT INTO synthema_ledger.answer (key_digest, body) VALUES (%s, %s)", [(digest, body)])

    def erase_answers(self, digests: Sequence[bytes]) -> None:
        """Destroy answers. The server frees their bytes at its next vacuum; its archives of the log keep them."""
        cursor, names = self._open().cursor(), [(digest,) for digest in digests]
        cursor.executemany("INSERT INTO synthema_ledger.erased VALUES (%s) ON CONFLICT DO NOTHING", names)
        cursor.executemany("DELETE FROM synthema_ledger.answer WHERE key_digest = %s", names)

    def answer(self, digest: bytes) -> bytes | None:
        """Return the stored answer, or None."""
        row = self._one("SELECT body FROM synthema_ledger.answer WHERE key_digest = %s", digest)
        return None if row is None else row[0]

    def close(self) -> None:
        """Close the connection. Never raises: everything acknowledged is on disk already."""
        connection, self._connection = self._connection, None
        self._checked = False
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        return self._open().execute(query, values).fetchone()

    def _insert(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        cursor = self._open().cursor()
        cursor.executemany(statement, rows)
        if cursor.rowcount != len(rows):
            raise LedgerCorrupt(f"{self.name}: a row was not inserted: something in the database intercepts writes")

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self.close()
            self._connection = self._link.connect()
            self._connection.add_notice_handler(self._notice)
        return self._connection

    def _open(self) -> psycopg.Connection[Any]:
        connection = self._connected()
        if not self._checked and not self._migrating:
            if problems := catalog_problems(connection):
                raise LedgerCorrupt(f"{self.name}: {'; '.join(problems)}")
            self._checked = True
        return connection

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        self._warned = self._warned or notice.severity_nonlocalized == "WARNING"

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[tuple[str, ...] | None]:
        connection = self._connected()
        try:
            cursor = connection.execute(begin, prepare=False)
            while cursor.nextset():
                pass
            settings = cursor.fetchone() if cursor.description else None
            yield settings
            self._commit(connection, standby=settings is not None and settings[-1] != "")
        except BaseException:
            self._roll_back(connection)
            raise

    def _commit(self, connection: psycopg.Connection[Any], *, standby: bool) -> None:
        self._warned = False
        with self._link.limited(connection, standby=standby):
            status = connection.execute("COMMIT").statusmessage
        # A transaction that an error ended earlier answers ROLLBACK, and that is no error to the driver.
        if status != "COMMIT":
            raise LedgerUnavailable(f"{self.name}: the transaction had failed: try again with the same key")
        if self._warned:
            raise self._link.unconfirmed()

    def _roll_back(self, connection: psycopg.Connection[Any]) -> None:
        try:
            if connection.closed or connection.broken:
                self.close()
            else:
                connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001 - the error that led here says more; the next use connects anew
            self.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._link.errors as error:
            if isinstance(error, OSError) or error.sqlstate is None:
                self.close()
            raise self._link.translated(error) from None


def _is_made(connection: psycopg.Connection[Any]) -> bool:
    query = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'synthema_ledger'"
    return connection.execute(query).fetchone() is not None
