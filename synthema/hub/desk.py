"""The hub's desk: one thread that takes what is meant for the hub, one thing after the other, and writes it down.

It alone uses the store while the hub serves. Every event is one transaction; members are told after it is durable. A
hub that stops at any moment goes on from its file: jobs that ran still run, and what members have not handled is sent
again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from smpc.transport.handshake import run_digest
from synthema.enrolling import is_proven
from synthema.errors import StudyError
from synthema.hub import jobs
from synthema.hub.authority import Authority
from synthema.hub.jobs import Job, NotPossible, Send, Step
from synthema.hub.server import HubConnection, HubServer, ListedMember
from synthema.hub.store import HubStore, MemberRow, NotEnrolled
from synthema.messages import (
    DECISION_LIST,
    AskCatalogue,
    AskJob,
    Cancel,
    Catalogue,
    Decision,
    Enrol,
    Enrolled,
    Head,
    JobState,
    Message,
    Outcome,
    Publish,
    Refused,
    Status,
    Submit,
)
from synthema.submission import Submission

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.5
# Messages that must arrive, on their way to one member at a time, and bytes of their payloads.
_WINDOW, _WINDOW_BYTES = 32, 1 << 24


class Clock(Protocol):
    """Tells Unix seconds."""

    def __call__(self) -> float:
        """Return the time."""


@dataclass(frozen=True, slots=True)
class DeskRules:
    """What the hub's operator sets.

    certificate_days   of members
    document_bytes     of a study document, at most
    entry_bytes        of a site's entry in the catalogue, at most
    most_jobs          of one researcher that are open at a time
    """

    certificate_days: int = 397
    document_bytes: int = 1 << 22
    most_jobs: int = 100
    entry_bytes: int = 2_000_000


@dataclass(slots=True)
class _Flow:
    """What is on its way to a member that is connected."""

    sent: int
    unhandled: dict[int, int]


class HubDesk:
    """The desk of one hub.

    Parameters
    ----------
    store
        Used by the desk alone, and closed by it.
    authority
        Certifies members.
    hub_fingerprint
        Of the hub's certificate, which invitations name.
    rules, clock
        See there.
    """

    def __init__(
        self,
        store: HubStore,
        authority: Authority,
        *,
        hub_fingerprint: bytes,
        rules: DeskRules | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._store = store
        self._authority = authority
        self._hub_fingerprint = hub_fingerprint
        self._rules = rules or DeskRules()
        self._clock = clock
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="desk of the hub", daemon=True)
        self._server: HubServer | None = None
        self._members: dict[int, MemberRow] = {}
        self._numbers: dict[str, int] = {}
        self._flows: dict[int, _Flow] = {}
        self._version = -1
        self.failure: BaseException | None = None

    def start(self, server: HubServer) -> None:
        """Tell the server what is in the store, and begin. Before the server serves."""
        self._server = server
        self._read_members()
        self._grant()
        self._thread.start()

    def stop(self) -> None:
        """Finish what was taken, and end."""
        self._events.put(None)
        self._thread.join(30)

    # Called by the server.

    def arrived(self, number: int, handled: int) -> None:
        """Send a member what it has not handled."""
        self._events.put(lambda: self._arrived(number, handled))

    def left(self, number: int) -> None:
        """Forget what was on its way."""
        self._events.put(lambda: self._left(number))

    def handled(self, number: int, sequence: int) -> None:
        """Forget what a member has handled, and send more."""
        self._events.put(lambda: self._handled(number, sequence))

    def received(self, number: int, message_id: int, message: Message) -> None:
        """Do what a member's message says."""
        self._events.put(lambda: self._received(number, message_id, message))

    def asked_to_enrol(self, connection: HubConnection, head: Enrol, request: bytes) -> None:
        """Enrol a member, or refuse."""
        self._events.put(lambda: self._enrol(connection, head, request))

    # In the desk's thread.

    def _run(self) -> None:
        ticked = time.monotonic()
        try:
            while True:
                event: Callable[[], None] | None = self._tick
                with contextlib.suppress(queue.Empty):
                    event = self._events.get(timeout=_TICK_SECONDS)
                if event is None:
                    return
                event()
                if time.monotonic() - ticked >= _TICK_SECONDS:
                    ticked = time.monotonic()
                    self._tick()
        except BaseException as failure:  # noqa: BLE001 - handed to whoever serves: without its desk a hub must end
            # A full or broken disk: what was not written was not told to anybody.
            _log.error("the desk failed: %s", type(failure).__name__)
            self.failure = failure
            self._tell_server(HubServer.stop)
        finally:
            self._store.close()

    def _tell_server(self, action: Callable[[HubServer], None]) -> None:
        server = self._server
        if server is not None:
            server.post(lambda: action(server))

    def _tick(self) -> None:
        version = self._store.version
        if version != self._version:
            self._version = version
            self._read_members()
        now = self._clock()
        for job in self._store.jobs("offered", "running"):
            if now >= job.deadline:
                self._apply(job, jobs.expired(job, now=now))

    def _read_members(self) -> None:
        """Take over the members from the store, where another process may have revoked some."""
        before = self._members
        rows = self._store.members()
        self._members = {row.number: row for row in rows}
        self._numbers = {row.name: row.number for row in rows}
        listed = [ListedMember(row.number, row.name, row.role, row.identity, row.fingerprint) for row in rows]
        self._tell_server(lambda server: server.set_members(listed))
        revoked = [row.name for number, row in before.items() if number not in self._members]
        for job in self._store.jobs("offered", "running") if revoked or not before else []:
            # At a start: also of members who were revoked while the hub was down.
            missing = [name for name in (*job.members, job.researcher) if name not in self._numbers]
            for name in missing or revoked:
                self._apply(job, jobs.revoked(job, name))

    def _arrived(self, number: int, handled: int) -> None:
        self._flows[number] = _Flow(0, {})
        self._store.handled(number, handled)
        self._flows[number].sent = handled
        self._pump(number)

    def _left(self, number: int) -> None:
        self._flows.pop(number, None)

    def _handled(self, number: int, sequence: int) -> None:
        flow = self._flows.get(number)
        if flow is None or sequence > flow.sent:
            return
        self._store.handled(number, sequence)
        flow.unhandled = {each: n_bytes for each, n_bytes in flow.unhandled.items() if each > sequence}
        self._pump(number)

    def _pump(self, number: int) -> None:
        """Send a member what waits, a window at most."""
        flow = self._flows.get(number)
        if flow is None:
            return
        for each in self._store.waiting(number, after=flow.sent, most=_WINDOW):
            if len(flow.unhandled) >= _WINDOW or (flow.unhandled and sum(flow.unhandled.values()) >= _WINDOW_BYTES):
                return
            flow.sent = each.sequence
            flow.unhandled[each.sequence] = len(each.payload)
            self._deliver(number, each.head, each.payload)

    def _deliver(self, number: int, head: Head, payload: bytes = b"") -> None:
        self._tell_server(lambda server: server.deliver(number, head, payload))

    def _received(self, number: int, message_id: int, message: Message) -> None:
        member = self._members.get(number)
        if member is not None:
            try:
                self._do(member, message)
            except NotPossible as problem:
                job = message.head.job
                self._deliver(number, Refused(job=job, reason=problem.reason, explanation=problem.explanation))
        self._tell_server(lambda server: server.taken(number, message_id))

    def _do(self, member: MemberRow, message: Message) -> None:
        head = message.head
        if member.role == "researcher":
            if isinstance(head, Submit):
                self._submit(member, head, message.payload)
            elif isinstance(head, AskJob):
                self._show(member, self._own_job(member, head.job), with_result=head.with_result)
            elif isinstance(head, AskCatalogue):
                self._deliver(member.number, Catalogue(), json.dumps(self._store.catalogue()).encode())
            elif isinstance(head, Cancel):
                job = self._own_job(member, head.job)
                self._apply(job, jobs.given_up(job, researcher=member.name))
            else:
                self._cut_off(member)
            return
        if isinstance(head, Publish) and member.role == "site":
            self._publish(member, message.payload)
            return
        if isinstance(head, Submit) and member.role == "site":
            self._bring(member, head, message.payload)
            return
        before = self._store.job(head.job)
        if isinstance(head, Decision | Outcome | Status):
            # What is about a job that the hub does not know changes nothing.
            if before is not None:
                self._about(member, before, head, message.payload)
        else:
            self._cut_off(member)

    def _publish(self, member: MemberRow, entry: bytes) -> None:
        # Signed by the site and read by researchers; here it is text of a bounded length.
        try:
            text = entry.decode("ascii")
        except UnicodeDecodeError:
            raise NotPossible("malformed", "an entry of the catalogue is ASCII text") from None
        if len(text) > self._rules.entry_bytes:
            raise NotPossible("too-large", f"an entry may have {self._rules.entry_bytes} bytes")
        self._store.publish(member.number, text, now=self._clock())

    def _cut_off(self, member: MemberRow) -> None:
        self._tell_server(lambda server: server.cut_off(member.number))

    def _about(self, member: MemberRow, job: Job, head: Decision | Outcome | Status, payload: bytes) -> None:
        if isinstance(head, Decision):
            self._apply(job, jobs.decided(job, member.name, head, now=self._clock()))
        elif isinstance(head, Outcome):
            self._apply(job, jobs.finished(job, member.name, head), result=payload)
        else:
            self._apply(job, (jobs.reported(job, member.name, head), ()))

    def _own_job(self, member: MemberRow, job_id: str) -> Job:
        job = self._store.job(job_id)
        if job is None or self._store.owner(job_id) != member.number:
            raise NotPossible("unknown-job", "there is no such job of yours")
        return job

    def _submit(self, member: MemberRow, head: Submit, document: bytes) -> None:
        self._check_document(head, document)
        before = self._store.job(head.job)
        if before is not None and self._store.owner(head.job) != member.number:
            raise NotPossible("not-yours", "another researcher submitted this document")
        if before is None:
            self._check_open_jobs(member)
        now = self._clock()
        job, sends = jobs.submitted(head, researcher=member.name, roles=self._roles, before=before, now=now)
        self._keep(member, before, (job, sends), document, now)
        self._show(member, job)

    def _bring(self, member: MemberRow, head: Submit, document: bytes) -> None:
        self._check_document(head, document)
        before = self._store.job(head.job)
        if before is None:
            self._check_open_jobs(member)
        now = self._clock()
        step = jobs.brought(head, site=member.name, roles=self._roles, before=before, now=now)
        self._keep(member, before, step, document, now)

    def _check_document(self, head: Submit, document: bytes) -> None:
        if len(document) > self._rules.document_bytes:
            raise NotPossible("too-large", f"a document may have {self._rules.document_bytes} bytes")
        # Its form alone: whether it is signed, and what it asks, is for the sites.
        try:
            submitted = Submission.decode(document)
        except StudyError as problem:
            raise NotPossible("malformed", str(problem)) from None
        if submitted.job_id != head.job:
            raise NotPossible("other-document", "the document is not the one of this job id")

    def _check_open_jobs(self, member: MemberRow) -> None:
        n_open = sum(job.researcher == member.name for job in self._store.jobs("offered", "running"))
        if n_open >= self._rules.most_jobs:
            raise NotPossible("too-many-jobs", f"a {member.role} may have {self._rules.most_jobs} open jobs")

    @property
    def _roles(self) -> dict[str, str]:
        return {row.name: row.role for row in self._members.values()}

    def _keep(self, member: MemberRow, before: Job | None, step: Step, document: bytes, now: float) -> None:
        job, sends = step
        if before is not None:
            # Offered once more, it is what was submitted now: the result may be for another key.
            self._apply(before, step, document=document)
            return
        with self._store.transaction():
            self._store.add_job(job, researcher=member.number, document=document, now=now)
            self._enqueue(sends)
        self._told(job, sends)

    def _apply(self, before: Job, step: Step, *, result: bytes | None = None, document: bytes | None = None) -> None:
        """Write down a job's new state and the messages that it causes; then send them."""
        job, sends = step
        if job == before:
            return
        with self._store.transaction():
            self._store.save_job(job, result=result if job.phase == "done" else None, document=document)
            self._enqueue(sends)
        self._told(job, sends)
        owner = self._store.owner(job.job_id)
        if owner in self._flows and owner in self._members:
            self._show(self._members[owner], job)

    def _enqueue(self, sends: tuple[Send, ...]) -> None:
        for send in sends:
            number = self._numbers.get(send.to)
            if number is not None:
                self._store.enqueue(number, send)

    def _told(self, job: Job, sends: tuple[Send, ...]) -> None:
        # Seats first: who is told to start finds its own.
        if job.phase != "offered":
            self._grant()
        for send in sends:
            number = self._numbers.get(send.to)
            if number is not None:
                self._pump(number)

    def _grant(self) -> None:
        """Tell the server which runs members may join."""
        grants = {}
        fingerprints = {row.name: row.fingerprint for row in self._members.values()}
        for job in self._store.jobs("running"):
            for name, members in jobs.runs(job).items():
                grants[run_digest(name)] = tuple(fingerprints.get(member, b"-") for member in members)
        self._tell_server(lambda server: server.set_grants(grants))

    def _show(self, member: MemberRow, job: Job, *, with_result: bool = False) -> None:
        result = self._store.result(job.job_id) if with_result and job.phase == "done" else None
        head = JobState(
            job=job.job_id,
            attempt=job.attempt,
            state=job.phase,
            content="decisions" if result is None else "result",
            error=job.ending.error,
            explanation=job.ending.explanation,
            site=job.ending.site,
            step=job.ending.step,
        )
        self._deliver(member.number, head, DECISION_LIST.dump_json(job.decisions) if result is None else result)

    def _enrol(self, connection: HubConnection, head: Enrol, request: bytes) -> None:
        answer: Head
        try:
            member, certificate = self._enrolled(head, request)
        except NotEnrolled as problem:
            answer, payload = Refused(reason=problem.reason, explanation=problem.explanation), b""
        else:
            self._read_members()
            answer = Enrolled(name=member.name, number=member.number, role=member.role)
            payload = certificate + self._authority.pem
        self._tell_server(lambda server: server.answer(connection, answer, payload))

    def _enrolled(self, head: Enrol, request: bytes) -> tuple[MemberRow, bytes]:
        secret, now = bytes.fromhex(head.secret), self._clock()
        role = self._store.invitation_role(secret, name=head.name, now=now)
        if not is_proven(head, request, self._hub_fingerprint):
            raise NotEnrolled("not-proven", "the identity key did not sign this request")
        try:
            issued = self._authority.certify(request, name=head.name, role=role, days=self._rules.certificate_days)
        except ValueError:
            raise NotEnrolled("no-request", "the certificate request is none that the hub certifies") from None
        member = self._store.enrol(
            secret,
            name=head.name,
            identity=bytes.fromhex(head.identity),
            fingerprint=issued.fingerprint,
            now=now,
            expires_at=issued.expires_at,
        )
        return member, issued.pem
