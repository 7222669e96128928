"""Which SQLite reads and writes the ledgers of this process: Python's own, or `apsw`'s where Python's has a known bug.

The bug: up to 3.51.2, two connections that write and checkpoint at the same moment can, very rarely, lose commits from
the write-ahead log ("the WAL-reset bug"). The ledger's queue keeps writers and checkpoints apart, so it should not
happen here; a library without the bug is one thing less to believe.

A process uses one library for all its ledgers. A second copy of SQLite in the same process would not see the locks of
the first, and would drop them by closing a file: for the same reason, nothing else in the process may open a ledger's
file with `sqlite3`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

Version = tuple[int, int, int]

# The first version with the bug, and the first without. Some systems cure older versions, which cannot be seen here.
_BUG_FROM, _BUG_UNTIL = (3, 7, 0), (3, 51, 3)

_CHOICE = "SYNTHEMA_SQLITE"


class Cursor(Protocol):
    """What a statement gives back, as in `sqlite3`. `rowcount` counts what an INSERT, UPDATE or DELETE changed."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """The few methods of a `sqlite3` connection that the ledger uses; errors are `sqlite3`'s."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor: ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Cursor: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Library:
    """A copy of SQLite.

    name      "sqlite3": Python's own; "apsw": the one inside the package of that name
    version   of SQLite
    """

    name: Literal["sqlite3", "apsw"]
    version: Version

    def __str__(self) -> str:
        """Return it in words."""
        return f"SQLite {'.'.join(map(str, self.version))} of {self.name}"


def known_bug(version: Version) -> bool:
    """Whether this version of SQLite has the WAL-reset bug.

    Examples
    --------
    >>> known_bug((3, 40, 1)), known_bug((3, 51, 3))
    (True, False)
    """
    return _BUG_FROM <= version < _BUG_UNTIL


@lru_cache(maxsize=1)
def sqlite_of() -> Library:
    """Return the library that this process uses.

    Python's own, unless it has the bug and `apsw` is installed (the extra `apsw`). The environment's SYNTHEMA_SQLITE,
    "sqlite3" or "apsw", decides otherwise.

    Raises
    ------
    ValueError
        SYNTHEMA_SQLITE has another value, or asks for an `apsw` that is not installed.
    """
    own = Library("sqlite3", _version(sqlite3.sqlite_version))
    choice = os.environ.get(_CHOICE, "")
    if choice not in ("", "sqlite3", "apsw"):
        raise ValueError(f"{_CHOICE} must be sqlite3 or apsw, got {choice!r}")
    installed = find_spec("apsw") is not None
    if choice == "apsw" and not installed:
        raise ValueError(f"{_CHOICE} asks for apsw, which is not installed: pip install 'synthema[apsw]'")
    if choice == "sqlite3" or not installed or (not choice and not known_bug(own.version)):
        return own
    from privacy.ledger import _apsw

    other = Library("apsw", _version(_apsw.sqlite_version()))
    return own if not choice and known_bug(other.version) else other


def connect(path: Path, mode: Literal["rw", "ro", "immutable"], wait_seconds: float) -> Connection:
    """Open a file that exists. Raises sqlite3.Error.

    Parameters
    ----------
    mode
        "rw", "ro" for reading only, or "immutable": reading only, without locks, a file that nobody writes.
    wait_seconds
        How long a statement waits for another connection's lock.
    """
    options = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    uri = f"file:{quote(str(path))}?{options}"
    if sqlite_of().name == "apsw":
        from privacy.ledger import _apsw

        return _apsw.connect(uri, wait_seconds)
    return sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,  # Python begins no transaction of its own, so none begins too late
        check_same_thread=False,
        timeout=wait_seconds,
    )


def copy(source: Connection, target: Path) -> None:
    """Copy what an open connection sees into another file, page by page. Raises sqlite3.Error."""
    if isinstance(source, sqlite3.Connection):
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as other:
            source.backup(other)
        return
    from privacy.ledger import _apsw

    _apsw.copy(source, target)


def _version(text: str) -> Version:
    first, second, third = (int(part) for part in text.split(".")[:3])
    return first, second, third
