"""The operator's queue: jobs that a site was offered, who decided on them and when. One SQLite file at the site.

    offered -> waiting -> approved | refused -> running -> done | failed
    offered -> approved                                     by the policy, where it needs no person
    any but refused -> cancelled                            somebody else's refusal or failure ended the job

The agent and the operator's commands are processes of their own and meet in this file. A decision is made once: a job
that is offered again (the hub was away, a machine restarted) has the decision that it had. A study is its text, so a
decision is about that text for ever; another text is another job.

Rows of the file hold public things only: the study, its price, names and decisions. What an operator writes beside a
refusal is for the site; the researcher sees the reason's fixed sentence.

One file serves all tables of an agent: `site` says whose.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Self

from synthema.errors import SiteRefused, SynthemaError
from synthema.governance.refusals import OPERATOR_SENTENCES
from synthema.networks.base import DecisionState
from synthema.policy import SitePolicy
from synthema.study import Study

State = Literal["offered", "waiting", "approved", "refused", "running", "done", "failed", "cancelled"]

POLICY: Final = "policy"
_MOST_SUBMISSION_BYTES = 16_000_000
_MOST_NOTE = 2000
_WAIT_SECONDS = 10.0
_FORMAT = 1

# From which states a job may come into another one.
_FROM: Final[dict[str, frozenset[str]]] = {
    "waiting": frozenset({"offered", "waiting", "cancelled"}),
    "approved": frozenset({"offered", "waiting", "approved", "cancelled", "running", "done", "failed"}),
    "refused": frozenset({"offered", "waiting", "approved", "refused", "cancelled"}),
    "running": frozenset({"approved", "running", "failed", "done"}),
    "done": frozenset({"running", "done"}),
    "failed": frozenset({"approved", "running", "failed"}),
    "cancelled": frozenset({"offered", "waiting", "approved", "running", "failed", "cancelled"}),
}
# The agent's word for an approved job whose steps are reserved.
_SAME: Final = {"accepted": "approved"}

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    job_id TEXT NOT NULL, site TEXT NOT NULL, state TEXT NOT NULL, study TEXT NOT NULL, purpose TEXT NOT NULL,
    researcher TEXT NOT NULL, researcher_name TEXT NOT NULL, price TEXT NOT NULL, document BLOB NOT NULL,
    submission BLOB NOT NULL, offered_at TEXT NOT NULL, decision TEXT NOT NULL, decided_at TEXT NOT NULL,
    decided_by TEXT NOT NULL, reason TEXT NOT NULL, note TEXT NOT NULL, told INTEGER NOT NULL,
    PRIMARY KEY (job_id, site)
) STRICT;
CREATE TABLE IF NOT EXISTS steps (
    number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, site TEXT NOT NULL, at TEXT NOT NULL,
    state TEXT NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL, note TEXT NOT NULL
) STRICT;
"""
_COLUMNS = (
    "job_id, site, state, study, purpose, researcher, researcher_name, price, offered_at, decision, decided_at, "
    "decided_by, reason, note"
)


class QueueError(SynthemaError):
    """The queue does not allow it, or its file cannot be used; the message says which and the way out."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job at a site, as the operator sees it.

    decision     "approved", "refused", or "" as long as nobody has decided
    decided_by   the operator's name, or "policy"
    reason       of a refusal: one of `OPERATOR_SENTENCES`; what the researcher sees
    note         what the operator wrote beside it; stays here
    """

    job_id: str
    site: str
    state: str
    study: str
    purpose: str
    researcher: str
    researcher_name: str
    price: str
    offered_at: str
    decision: str
    decided_at: str
    decided_by: str
    reason: str
    note: str


@dataclass(frozen=True, slots=True)
class Move:
    """One change of a job's state: when, to what, by whom."""

    job_id: str
    site: str
    at: str
    state: str
    who: str
    reason: str
    note: str


class ApprovalQueue:
    """The file. Threads may share it; every process opens its own.

    Raises
    ------
    QueueError
        The file is of another format, or cannot be opened.
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], datetime] | None = None) -> None:
        self._path = Path(path)
        self._clock = clock or (lambda: datetime.now(UTC))
        self._lock = threading.RLock()
        try:
            # Made by us, for our user alone, before SQLite would make it for everybody.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            with self._writing():
                (version,) = self._db.execute("PRAGMA user_version").fetchone()
                if version not in (0, _FORMAT):
                    raise QueueError(f"{self._path.name} is of another version: update this site")
                for statement in _TABLES.strip().split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        except (OSError, sqlite3.Error) as error:
            raise QueueError(f"{self._path.name} cannot be opened ({type(error).__name__})") from None

    def __repr__(self) -> str:
        return f"ApprovalQueue({self._path.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._db.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # The agent's side.

    def offer(
        self,
        job_id: str,
        site: str,
        study: Study,
        *,
        researcher: str,
        researcher_name: str = "",
        price: str = "",
        submission: bytes = b"",
    ) -> QueuedJob:
        """Keep an offer, if it is new, and return the job as it stands."""
        if len(submission) > _MOST_SUBMISSION_BYTES:
            raise QueueError(f"a submission has at most {_MOST_SUBMISSION_BYTES} bytes")
        with self._writing():
            known = self._find(job_id, site)
            if known is not None:
                if submission and known.researcher == researcher:
                    # Handed in once more, the result may be for another key; the text is the same.
                    self._db.execute(
                        "UPDATE jobs SET submission = ? WHERE job_id = ? AND site = ?", (submission, job_id, site)
                    )
                return known
            row = (job_id, site, "offered", study.name, study.purpose, researcher, researcher_name, price)
            at = self._now()
            self._db.execute(
                f"INSERT INTO jobs VALUES ({', '.join('?' * 17)})",  # noqa: S608 - question marks only
                (*row, study.document(), submission, at, "", "", "", "", "", 0),
            )
            self._log(job_id, site, "offered", "", "", "")
            return self._get(job_id, site)

    def move(self, job_id: str, site: str, state: str) -> None:
        """Keep what became of a job: the agent's word. A state that cannot follow the present one is refused.

        "accepted", "refused" and "waiting" also say that the hub knows of the decision.
        """
        state = _SAME.get(state, state)
        with self._writing():
            job = self._get(job_id, site)
            # A refusal that no operator made (a policy that has changed, a budget) is not for ever.
            now = "cancelled" if job.state == "refused" and job.decision != "refused" else job.state
            if state != job.state and now not in _FROM.get(state, frozenset()):
                raise QueueError(f"job {job_id[:12]} is {job.state} and cannot become {state}")
            if state in ("approved", "running") and job.decision != "approved":
                raise QueueError(f"nobody has approved job {job_id[:12]}")
            told = state in ("approved", "refused", "waiting")
            self._db.execute(
                "UPDATE jobs SET state = ?, told = CASE WHEN ? THEN (decision != '') ELSE told END "
                "WHERE job_id = ? AND site = ?",
                (state, told, job_id, site),
            )
            if job.state != state:
                self._log(job_id, site, state, "", "", "")

    def decide_by_policy(self, job_id: str, site: str) -> QueuedJob:
        """Approve a job that needs no person. A job that was decided before keeps its decision."""
        with self._writing():
            job = self._get(job_id, site)
            if not job.decision:
                self._decide(job, "approved", POLICY, "", "", told=True)
            return self._get(job_id, site)

    def untold(self) -> tuple[tuple[QueuedJob, bytes], ...]:
        """Return what operators decided and the hub does not know yet, with the submissions: what the agent polls."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT submission, {_COLUMNS} FROM jobs WHERE decision != '' AND told = 0 "  # noqa: S608 - constant
                "AND state IN ('waiting', 'approved', 'refused') ORDER BY decided_at, job_id, site"
            ).fetchall()
        return tuple((QueuedJob(*row[1:]), row[0]) for row in rows)

    def interrupted(self) -> tuple[QueuedJob, ...]:
        """Return the jobs that were running when the agent stopped: what it looks at when it starts."""
        return tuple(job for job in self.jobs() if job.state == "running")

    # The operator's side.

    def approve(self, job_id: str, *, by: str, site: str | None = None, note: str = "") -> QueuedJob:
        """Approve a job that waits. Raises QueueError for any other; approving twice is fine."""
        return self._by_operator(job_id, site, "approved", by, "", note)

    def refuse(self, job_id: str, *, by: str, reason: str, site: str | None = None, note: str = "") -> QueuedJob:
        """Refuse a job that waits. `reason` is one of `OPERATOR_SENTENCES`; `note` stays at the site."""
        if reason not in OPERATOR_SENTENCES:
            raise QueueError(f"a reason is one of {', '.join(OPERATOR_SENTENCES)}; write anything else as a note")
        return self._by_operator(job_id, site, "refused", by, reason, note)

    def jobs(self, state: State | None = None) -> tuple[QueuedJob, ...]:
        """Return the jobs, the latest offer first."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE ?1 IS NULL OR state = ?1 "  # noqa: S608 - constant
                "ORDER BY offered_at DESC, job_id, site",
                (state,),
            ).fetchall()
        return tuple(QueuedJob(*row) for row in rows)

    def document(self, job_id: str, site: str) -> bytes:
        """Return the study's canonical text: what an operator reads before they decide."""
        with self._lock:
            row = self._db.execute("SELECT document FROM jobs WHERE job_id = ? AND site = ?", (job_id, site)).fetchone()
        if row is None:
            raise QueueError(f"job {job_id[:12]} is not known at {site}")
        document: bytes = row[0]
        return document

    def moves(self, job_id: str) -> tuple[Move, ...]:
        """Return what happened to a job, in order."""
        with self._lock:
            rows = self._db.execute(
                "SELECT job_id, site, at, state, who, reason, note FROM steps WHERE job_id = ? ORDER BY number",
                (job_id,),
            ).fetchall()
        return tuple(Move(*row) for row in rows)

    def find(self, text: str, site: str | None = None) -> QueuedJob:
        """Return the job whose identity begins so. Raises QueueError unless it is exactly one."""
        found = [job for job in self.jobs() if job.job_id.startswith(text) and site in (None, job.site)]
        if len(found) != 1 or not text:
            rule = "no job begins so" if not found else "several jobs begin so: give more of it, or the table's name"
            raise QueueError(f"{text[:64]!r}: {rule}")
        return found[0]

    def _by_operator(self, text: str, site: str | None, decision: str, by: str, reason: str, note: str) -> QueuedJob:
        by = by.strip()
        if not by or by == POLICY or len(by) > 200:
            raise QueueError("say who decides: a name of up to 200 characters")
        if len(note) > _MOST_NOTE:
            raise QueueError(f"a note has at most {_MOST_NOTE} characters")
        with self._writing():
            job = self.find(text, site)
            if job.decision == decision and job.decided_by != POLICY:
                return job
            if job.decision:
                raise QueueError(f"job {job.job_id[:12]} was {job.decision} by {job.decided_by} on {job.decided_at}")
            if job.state != "waiting":
                raise QueueError(f"job {job.job_id[:12]} is {job.state}: only a waiting job is decided")
            self._decide(job, decision, by, reason, note, told=False)
            return self._get(job.job_id, job.site)

    def _decide(self, job: QueuedJob, decision: str, by: str, reason: str, note: str, *, told: bool) -> None:
        self._db.execute(
            "UPDATE jobs SET state = ?1, decision = ?1, decided_at = ?2, decided_by = ?3, reason = ?4, note = ?5, "
            "told = ?6 WHERE job_id = ?7 AND site = ?8",
            (decision, self._now(), by, reason, note, int(told), job.job_id, job.site),
        )
        self._log(job.job_id, job.site, decision, by, reason, note)

    def _log(self, job_id: str, site: str, state: str, who: str, reason: str, note: str) -> None:
        self._db.execute(
            "INSERT INTO steps (job_id, site, at, state, who, reason, note) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (job_id, site, self._now(), state, who, reason, note),
        )

    def _find(self, job_id: str, site: str) -> QueuedJob | None:
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE job_id = ? AND site = ?",  # noqa: S608 - constant
            (job_id, site),
        ).fetchone()
        return None if row is None else QueuedJob(*row)

    def _get(self, job_id: str, site: str) -> QueuedJob:
        job = self._find(job_id, site)
        if job is None:
            raise QueueError(f"job {job_id[:12]} is not known at {site}")
        return job

    def _now(self) -> str:
        return self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class QueueApproval:
    """The queue as the agent asks it (`synthema.agent.agent.Approval`): the policy decides, or the job waits.

    Parameters
    ----------
    site
        Whose table it is: this site, or a guest.
    policy
        The table's policy.
    price
        What a study would cost, in plain words, for the operator to read.
    """

    def __init__(
        self, queue: ApprovalQueue, site: str, policy: SitePolicy, *, price: Callable[[Study], str] | None = None
    ) -> None:
        self._queue, self._site, self._policy = queue, site, policy
        self._price = price

    def ask(self, job_id: str, study: Study, researcher: str, submission: bytes = b"") -> DecisionState:
        """Return whether the job is accepted, refused, or waits for the operator.

        Raises SiteRefused if another researcher handed the same text in before: what was decided was about both.
        """
        listed = self._policy.researcher(researcher)
        job = self._queue.offer(
            job_id,
            self._site,
            study,
            researcher=researcher,
            researcher_name=listed.name if listed is not None else "",
            price="" if self._price is None else self._price(study),
            submission=submission,
        )
        if job.researcher != researcher:
            raise SiteRefused(
                site=self._site,
                reason="researcher",
                explanation="another researcher handed in this very study before: give yours a name of its own",
            )
        if not job.decision and self._policy.approval(study, researcher) == "automatic":
            job = self._queue.decide_by_policy(job_id, self._site)
        match job.decision:
            case "approved":
                return "accepted"
            case "refused":
                return "refused"
            case _:
                return "waiting"

    def refusal(self, job_id: str) -> tuple[str, str]:
        """Return the reason of an operator's refusal and the sentence that the researcher may see."""
        job = self._queue.find(job_id, self._site)
        return job.reason, OPERATOR_SENTENCES[job.reason]

    def note(self, job_id: str, state: str) -> None:
        """Keep a job's state; one that never came into the queue (its study was refused before) is not kept."""
        with contextlib.suppress(QueueError):
            self._queue.move(job_id, self._site, state)
