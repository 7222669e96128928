"""What the hub keeps, in one SQLite file: members, invitations, jobs, and what members have not handled yet.

A change and the messages that it causes are one transaction, durable (WAL, synchronous=FULL) before anybody is told.
Invitations are kept as the SHA-256 of their secret. Results are kept until the operator removes them.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from synthema.errors import SynthemaError
from synthema.hub.jobs import Job, Send
from synthema.messages import Numbered, Role

_APPLICATION_ID = 0x53594855
_VERSION = 1
_MOST_MEMBERS = 0xFFFF
_SCHEMA = """
CREATE TABLE members (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, identity BLOB NOT NULL,
    fingerprint BLOB NOT NULL UNIQUE, enrolled_at REAL NOT NULL, expires_at REAL NOT NULL, revoked_at REAL,
    last_sequence INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX one_member_of_a_name ON members (name) WHERE revoked_at IS NULL;
CREATE TABLE invitations (
    digest BLOB PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, expires_at REAL NOT NULL, used_at REAL
) STRICT;
CREATE TABLE jobs (
    job TEXT PRIMARY KEY, researcher INTEGER NOT NULL REFERENCES members, phase TEXT NOT NULL, deadline REAL NOT NULL,
    state TEXT NOT NULL, document BLOB NOT NULL, result BLOB, submitted_at REAL NOT NULL
) STRICT;
CREATE INDEX jobs_by_phase ON jobs (phase, deadline);
CREATE TABLE catalogue (number INTEGER PRIMARY KEY REFERENCES members, entry TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE outbox (
    number INTEGER NOT NULL REFERENCES members, sequence INTEGER NOT NULL, head TEXT NOT NULL, document_of TEXT,
    PRIMARY KEY (number, sequence)
) STRICT, WITHOUT ROWID;
"""
_JOB: TypeAdapter[Job] = TypeAdapter(Job)


class NotEnrolled(SynthemaError):
    """A member was not enrolled or invited; `reason` is a fixed code."""

    def __init__(self, reason: str, explanation: str) -> None:
        self.reason = reason
        self.explanation = explanation
        super().__init__(explanation)


@dataclass(frozen=True, slots=True)
class MemberRow:
    """One member as the hub keeps it. Times are Unix seconds.

    fingerprint   SHA-256 of its certificate (DER)
    """

    number: int
    name: str
    role: Role
    identity: bytes
    fingerprint: bytes
    enrolled_at: float
    expires_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that a member has not handled."""

    sequence: int
    head: Numbered
    payload: bytes


_MEMBER_COLUMNS = "number, name, role, identity, fingerprint, enrolled_at, expires_at, revoked_at"


class HubStore:
    """The hub's file. One thread uses it; several processes may.

    Parameters
    ----------
    path
        Made, with mode 0600, if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
        try:
            self._open(path)
        except BaseException:
            self._db.close()
            raise

    def _open(self, path: Path) -> None:
        for pragma in ("trusted_schema = OFF", "foreign_keys = ON", "synchronous = FULL", "secure_delete = ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("PRAGMA journal_mode = WAL")
        with self.transaction():
            if self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
                for statement in _SCHEMA.strip().split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
        found = tuple(self._db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("application_id", "user_version"))
        if found != (_APPLICATION_ID, _VERSION):
            raise ValueError(f"{path.name} is no store of a hub, or of another version of synthema")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, durable at the end."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @property
    def version(self) -> int:
        """A number that changes when another process has changed the file."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # Members and invitations

    def members(self, *, with_revoked: bool = False) -> list[MemberRow]:
        """Return the members, by number."""
        which = "" if with_revoked else "WHERE revoked_at IS NULL"
        rows = self._db.execute(f"SELECT {_MEMBER_COLUMNS} FROM members {which} ORDER BY number")  # noqa: S608 - constants
        return [MemberRow(*row) for row in rows]

    def invite(self, secret: bytes, *, name: str, role: Role, now: float, seconds: float) -> None:
        """Note an invitation. Raises NotEnrolled if a member has this name."""
        with self.transaction():
            self._check_name(name)
            # A new invitation replaces those for the same name that nobody used.
            self._db.execute("DELETE FROM invitations WHERE name = ? AND used_at IS NULL", (name,))
            digest = hashlib.sha256(secret).digest()
            self._db.execute("INSERT INTO invitations VALUES (?, ?, ?, ?, NULL)", (digest, name, role, now + seconds))

    def _check_name(self, name: str) -> None:
        if self._db.execute("SELECT 1 FROM members WHERE name = ? AND revoked_at IS NULL", (name,)).fetchone():
            raise NotEnrolled("name-taken", f"a member is called {name!r}: revoke it first, or take another name")

    def invitation_role(self, secret: bytes, *, name: str, now: float) -> Role:
        """Return the role that an invitation gives. Raises NotEnrolled if it does not hold."""
        row = self._db.execute(
            "SELECT name, role, expires_at, used_at FROM invitations WHERE digest = ?",
            (hashlib.sha256(secret).digest(),),
        ).fetchone()
        # One answer for all three: who guesses learns nothing.
        if row is None or row[0] != name or row[3] is not None:
            raise NotEnrolled("no-invitation", "the invitation does not hold, or was used: ask for another")
        if now >= row[2]:
            raise NotEnrolled("expired", "the invitation has expired: ask for another")
        return cast("Role", row[1])

    def enrol(
        self, secret: bytes, *, name: str, identity: bytes, fingerprint: bytes, now: float, expires_at: float
    ) -> MemberRow:
        """Use an invitation up and make its member, in one transaction. Raises NotEnrolled."""
        with self.transaction():
            role = self.invitation_role(secret, name=name, now=now)
            self._check_name(name)
            number = self._db.execute("SELECT coalesce(max(number) + 1, 0) FROM members").fetchone()[0]
            if number >= _MOST_MEMBERS:
                raise NotEnrolled("full", "this hub has had as many members as it can number")
            digest = hashlib.sha256(secret).digest()
            self._db.execute("UPDATE invitations SET used_at = ? WHERE digest = ?", (now, digest))
            member = MemberRow(number, name, role, identity, fingerprint, now, expires_at, None)
            self._db.execute(
                f"INSERT INTO members ({_MEMBER_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
                (number, name, role, identity, fingerprint, now, expires_at, None),
            )
        return member

    def revoke(self, name: str, *, now: float) -> MemberRow | None:
        """Revoke a member for good, and an invitation of this name; return the member, or None if there is none."""
        with self.transaction():
            self._db.execute("DELETE FROM invitations WHERE name = ? AND used_at IS NULL", (name,))
            row = self._db.execute(
                f"UPDATE members SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL RETURNING {_MEMBER_COLUMNS}",  # noqa: S608 - constants
                (now, name),
            ).fetchone()
            if row is not None:
                self._db.execute("DELETE FROM outbox WHERE number = ?", (row[0],))
        return None if row is None else MemberRow(*row)

    def publish(self, number: int, entry: str, *, now: float) -> None:
        """Keep a site's entry of the catalogue in place of the one before; an empty one takes it out."""
        with self.transaction():
            self._db.execute("DELETE FROM catalogue WHERE number = ?", (number,))
            if entry:
                self._db.execute("INSERT INTO catalogue VALUES (?, ?, ?)", (number, entry, now))

    def catalogue(self) -> dict[str, str]:
        """Return the entries of the members that are not revoked, by name."""
        rows = self._db.execute(
            "SELECT name, entry FROM catalogue JOIN members USING (number) WHERE revoked_at IS NULL ORDER BY name"
        )
        return {str(name): str(entry) for name, entry in rows}

    # Jobs

    def job(self, job_id: str) -> Job | None:
        """Return a job."""
        row = self._db.execute("SELECT state FROM jobs WHERE job = ?", (job_id,)).fetchone()
        return None if row is None else _JOB.validate_json(row[0])

    def jobs(self, *phases: str) -> list[Job]:
        """Return the jobs in these phases, or all, the oldest first."""
        marks = ", ".join("?" * len(phases))
        which = f"WHERE phase IN ({marks})" if phases else ""
        rows = self._db.execute(f"SELECT state FROM jobs {which} ORDER BY submitted_at", phases)  # noqa: S608 - marks
        return [_JOB.validate_json(row[0]) for row in rows]

    def owner(self, job_id: str) -> int | None:
        """Return the number of the researcher who submitted a job."""
        row = self._db.execute("SELECT researcher FROM jobs WHERE job = ?", (job_id,)).fetchone()
        return None if row is None else int(row[0])

    def result(self, job_id: str) -> bytes | None:
        """Return the result of a job, if it is there."""
        row = self._db.execute("SELECT result FROM jobs WHERE job = ?", (job_id,)).fetchone()
        return None if row is None else row[0]

    def add_job(self, job: Job, *, researcher: int, document: bytes, now: float) -> None:
        """Keep a new job, inside a transaction."""
        self._db.execute(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, NULL, ?)",
            (job.job_id, researcher, job.phase, job.deadline, _text(job), document, now),
        )

    def save_job(self, job: Job, *, result: bytes | None = None, document: bytes | None = None) -> None:
        """Keep a job's new state and what came with it, inside a transaction."""
        self._db.execute(
            "UPDATE jobs SET phase = ?, deadline = ?, state = ?, result = coalesce(?, result), "
            "document = coalesce(?, document) WHERE job = ?",
            (job.phase, job.deadline, _text(job), result, document, job.job_id),
        )

    # Messages that must arrive

    def enqueue(self, number: int, send: Send) -> None:
        """Keep a message until its receiver has handled it, inside a transaction."""
        (sequence,) = self._db.execute(
            "UPDATE members SET last_sequence = last_sequence + 1 WHERE number = ? RETURNING last_sequence", (number,)
        ).fetchone()
        head = Numbered(sequence=sequence, head=cast("Any", send.head))
        document_of = send.head.job if send.has_document else None
        row = (number, sequence, head.model_dump_json(), document_of)
        self._db.execute("INSERT INTO outbox VALUES (?, ?, ?, ?)", row)

    def waiting(self, number: int, *, after: int, most: int) -> list[Waiting]:
        """Return what a member has not handled, in order."""
        rows = self._db.execute(
            "SELECT sequence, head, document FROM outbox LEFT JOIN jobs ON job = document_of "
            "WHERE number = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (number, after, most),
        )
        return [Waiting(row[0], Numbered.model_validate_json(row[1]), row[2] or b"") for row in rows]

    def handled(self, number: int, sequence: int) -> None:
        """Forget what a member has handled.

        A member may be ahead of a store that was restored from a backup: numbers go on from the member's then.
        """
        row = self._db.execute("SELECT last_sequence FROM members WHERE number = ?", (number,)).fetchone()
        if row is None:
            return
        with self.transaction():
            if sequence <= row[0]:
                self._db.execute("DELETE FROM outbox WHERE number = ? AND sequence <= ?", (number, sequence))
                return
            left = self.waiting(number, after=0, most=-1)
            self._db.execute("DELETE FROM outbox WHERE number = ?", (number,))
            self._db.execute("UPDATE members SET last_sequence = ? WHERE number = ?", (sequence, number))
            for each in left:
                self.enqueue(number, Send("", each.head.head))


def _text(job: Job) -> str:
    return _JOB.dump_json(job).decode()
