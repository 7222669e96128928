"""What an agent must not forget when it is stopped: which jobs it was offered, how far it got, what the hub said last.

offered    came in, not decided for good: considered again after a restart
accepted   every step is reserved in the ledger
running    its steps may have started, or the hub does not know yet how it ended: after a restart it has failed here
cancelled  what was reserved for it is to be given back
over       refused, cancelled, done or failed; the ledger holds no open charge of it

One SQLite file. What the hub said and what follows from it are written in one transaction, before the hub hears that
the message was handled.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthema.errors import StudyError

Phase = Literal["offered", "accepted", "running", "cancelled", "over"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    job_id TEXT PRIMARY KEY, attempt INTEGER NOT NULL, phase TEXT NOT NULL, submission BLOB NOT NULL, at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS heard (one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job as the agent remembers it."""

    job_id: str
    attempt: int
    phase: Phase
    submission: bytes


class Memory:
    """See the module. Threads may share it.

    Parameters
    ----------
    path
        The file; made if it is not there.

    Raises
    ------
    StudyError
        If an agent that runs has it: a second one would close the charges of the first one's jobs.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._held: int | None = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._held)
            raise StudyError(f"another agent serves {path.absolute().parent}: stop it first") from None
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
            held, self._held = self._held, None
            if held is not None:
                os.close(held)

    @property
    def handled(self) -> int:
        """Number of the hub's last message that was handled."""
        with self._lock:
            row = self._database.execute("SELECT sequence FROM heard").fetchone()
        return 0 if row is None else int(row[0])

    def hear(self, sequence: int) -> None:
        """Note that a message of the hub was handled, where nothing else follows from it."""
        with self._transaction():
            self._hear(sequence)

    def keep_offer(self, job_id: str, attempt: int, submission: bytes, *, sequence: int) -> None:
        """Keep an offer. A job that runs already is left as it is."""
        with self._transaction():
            self._hear(sequence)
            row = self._database.execute("SELECT phase, attempt FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
            if row is None or (row[0] != "running" or row[1] != attempt):
                self._database.execute(
                    "INSERT OR REPLACE INTO jobs VALUES (?, ?, 'offered', ?, ?)",
                    (job_id, attempt, submission, time.time()),
                )

    def enter(self, job_id: str, phase: Phase, *, attempt: int, sequence: int = 0) -> None:
        """Note how far an attempt at a job is."""
        with self._transaction():
            self._hear(sequence)
            self._database.execute(
                "UPDATE jobs SET phase = ?, attempt = ?, at = ? WHERE job_id = ?", (phase, attempt, time.time(), job_id)
            )

    def decide(self, job_id: str, phase: Literal["accepted", "over"]) -> None:
        """Note what was decided on an offer. One that was cancelled meanwhile stays so."""
        with self._transaction():
            self._move(job_id, phase, "phase IN ('offered', 'accepted')")

    def cancel(self, job_id: str, *, sequence: int) -> None:
        """Note that a job was cancelled. One that runs comes to its own end."""
        with self._transaction():
            self._hear(sequence)
            self._move(job_id, "cancelled", "phase IN ('offered', 'accepted')")

    def drop(self, job_id: str) -> None:
        """Note that a cancelled job keeps nothing reserved. One that was offered again meanwhile is left as it is."""
        with self._transaction():
            self._move(job_id, "over", "phase = 'cancelled'")

    def end(self, job_id: str, attempt: int) -> None:
        """Note that an attempt is over and the hub knows. A later attempt is left as it is."""
        with self._transaction():
            self._move(job_id, "over", "attempt = ?", attempt)

    def _move(self, job_id: str, phase: Phase, condition: str, *values: object) -> None:
        statement = f"UPDATE jobs SET phase = ?, at = ? WHERE job_id = ? AND {condition}"  # noqa: S608 - constants
        self._database.execute(statement, (phase, time.time(), job_id, *values))

    def unfinished(self) -> list[KnownJob]:
        """Return the jobs that are not over, the oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT job_id, attempt, phase, submission FROM jobs WHERE phase <> 'over' ORDER BY at"
            ).fetchall()
        return [KnownJob(*row) for row in rows]

    def _hear(self, sequence: int) -> None:
        if sequence:
            self._database.execute(
                "INSERT INTO heard VALUES (1, ?)"
                " ON CONFLICT (one) DO UPDATE SET sequence = max(sequence, excluded.sequence)",
                (sequence,),
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
