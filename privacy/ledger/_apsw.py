"""A `sqlite3` connection made of an `apsw` one: the few methods that the ledger uses, and the same errors.

`apsw` carries its own copy of SQLite, newer than most systems'; it also lets a test put a failing disk below it.
The package is an extra, so it is imported where it is used.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


def sqlite_version() -> str:
    """Return the version of SQLite inside."""
    import apsw

    return str(apsw.sqlite_lib_version())


def connect(uri: str, wait_seconds: float, *, vfs: str | None = None) -> ApswConnection:
    """Open the database of a `file:` URI. Raises sqlite3.Error. `vfs` names another disk, for tests."""
    import apsw

    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
    with _errors():
        connection = apsw.Connection(uri, flags=flags, vfs=vfs)
        connection.set_busy_timeout(int(wait_seconds * 1000))
    return ApswConnection(connection)


def copy(source: object, target: Path) -> None:
    """Copy what a connection of ours sees into another file. Raises sqlite3.Error."""
    import apsw

    if not isinstance(source, ApswConnection):
        raise sqlite3.ProgrammingError("the connection is of another library")
    with (
        _errors(),
        contextlib.closing(apsw.Connection(str(target))) as other,
        other.backup("main", source.inner, "main") as pages,
    ):
        while not pages.done:
            pages.step(-1)


class ApswConnection:
    """A connection like `sqlite3`'s; threads may share it, one at a time."""

    def __init__(self, connection: Any) -> None:
        import apsw

        self._connection = connection
        self._error = apsw.Error

    @property
    def inner(self) -> Any:
        """The `apsw` connection."""
        return self._connection

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        with _errors():
            return bool(self._connection.in_transaction)

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> ApswCursor:
        """Run one statement. Raises sqlite3.Error."""
        # Without the context manager of `_errors`: a spend makes some twenty calls.
        try:
            return ApswCursor(self._connection.execute(sql, parameters), self._connection.changes(), self._error)
        except self._error as error:
            raise _translated(error) from error

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> ApswCursor:
        """Run a statement that changes rows once for each. Raises sqlite3.Error."""
        changed = 0
        cursor = self._connection.cursor()
        try:
            for each in parameters:
                cursor.execute(sql, each)
                changed += self._connection.changes()
        except self._error as error:
            raise _translated(error) from error
        return ApswCursor(cursor, changed, self._error)

    def close(self) -> None:
        """Close; closing twice is fine. As in `sqlite3`, a failure to tidy up is no error: nothing is lost by it."""
        with contextlib.suppress(sqlite3.Error), _errors():
            self._connection.close()


class ApswCursor:
    """Rows. `rowcount` is of use after an INSERT, UPDATE or DELETE."""

    __slots__ = ("_cursor", "_error", "rowcount")

    def __init__(self, cursor: Any, rowcount: int, error: type[Exception]) -> None:
        self._cursor = cursor
        self._error = error
        self.rowcount = rowcount

    def fetchone(self) -> Any:
        """Return the next row, or None. Raises sqlite3.Error."""
        try:
            return self._cursor.fetchone()
        except self._error as error:
            raise _translated(error) from error

    def fetchall(self) -> list[Any]:
        """Return the rows that are left. Raises sqlite3.Error."""
        try:
            rows: list[Any] = self._cursor.fetchall()
        except self._error as error:
            raise _translated(error) from error
        return rows

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._cursor
        except self._error as error:
            raise _translated(error) from error


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    import apsw

    try:
        yield
    except apsw.Error as error:
        raise _translated(error) from error


def _translated(error: Exception) -> sqlite3.Error:
    """Return the error of the class that `sqlite3` itself chooses."""
    import apsw

    kind: type[sqlite3.Error] = sqlite3.OperationalError
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        kind = sqlite3.DatabaseError
    elif isinstance(error, (apsw.ConstraintError, apsw.MismatchError)):
        kind = sqlite3.IntegrityError
    elif isinstance(error, (apsw.MisuseError, apsw.RangeError, apsw.BindingsError, apsw.ConnectionClosedError)):
        kind = sqlite3.ProgrammingError
    return kind(str(error) or type(error).__name__)
