"""The site agent as a process: its file, its line to the hub, its memory, and the agent between them.

    line      one outbound connection, which comes back by itself (`synthema.networks.line`)
    memory    offers and how far they got, over restarts
    agent     decides and runs (`synthema.agent.agent`)

Heavy modules are loaded when the first job comes: an agent that waits is small.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from smpc.transport.roster import Identity, Roster
from synthema.agent.agent import Agent
from synthema.agent.config import SiteConfig
from synthema.agent.memory import Memory
from synthema.agent.orders import Orders
from synthema.agent.table import OperatorApproval, open_table, settle_charges
from synthema.errors import StudyError
from synthema.messages import Cancel, Garbled, Head, Mail, Message, Offer, Outcome, Presence, Publish, Refused, Start
from synthema.messages import Decision as DecisionHead
from synthema.networks.asking import Asking, Question
from synthema.networks.base import Decision, Ending
from synthema.networks.line import Line, LineBusy, LineDown, LineState, MemberAbsent
from synthema.networks.lines import Letter, Stopped
from synthema.networks.seats import take_seat

if TYPE_CHECKING:
    from privacy.ledger import LocalWitness
    from smpc.material import MaterialStore
    from smpc.transport import NetworkTransport
    from synthema.agent.agent import Approval
    from synthema.agent.door import Door
    from synthema.site import Site

_log = logging.getLogger(__name__)

PUBLISH_FILE = "publish.wanted"
MEMORY_FILE, WITNESS_FILE, PAGES_FOLDER = "jobs.db", "witness.db", "pages"
_NO_JOB = "0" * 64
_KINDS: dict[str, Literal["hello", "mail", "ack"]] = {"hello": "hello", "mail": "mail", "ack": "ack"}
_QUESTIONS: dict[str, Literal["witness", "answer"]] = {"witness": "witness", "answer": "answer"}
_POLL_SECONDS = 0.5


class SiteService:
    """One site's agent behind a hub.

    Parameters
    ----------
    config
        The site's file.
    approval
        Whether the operator wants to be asked; by default as the file says.
    open_site
        Opens table and ledger.
    """

    def __init__(
        self,
        config: SiteConfig,
        *,
        approval: Approval | None = None,
        open_site: Callable[[SiteConfig, Asking], Site] = open_table,
    ) -> None:
        if config.hub is None:
            raise StudyError("site.toml names no hub: join one with `synthema site join`")
        self.config = config
        self._memory = Memory(config.place(MEMORY_FILE))
        self._address = config.hub.hub_address()
        self._files = config.keys.member_files(config.folder)
        self._line = Line(
            self._address,
            self._files,
            on_message=self._on_message,
            on_change=self._on_change,
            handled=self._memory.handled,
        )
        self._orders = Orders(config.name, self._memory, lambda: self.agent, self._tell_hub)
        self._door: Door | None = None
        self._attempts: dict[str, int] = {}
        self._unsent: list[tuple[Head, bytes]] = []
        # Attempts that ended here; whether the hub has written it down is not known yet.
        self._ended: list[tuple[str, int]] = []
        # Decisions of the operator that the agent was given.
        self._taken_up: set[str] = set()
        self._lock = threading.Lock()
        self.approval: Approval = approval or OperatorApproval(lambda: self.config)
        self.agent = Agent(
            config.name,
            identity=Identity.load(0, self._files.identity),
            partners={name: section.partner() for name, section in config.partners.items()},
            open_site=lambda asking: open_site(self.config, asking),
            control=self,
            courier=self,
            connect=self._connect,
            post=self._ask,
            approval=self.approval,
            witness=self._witness(),
            material=remote_material_of,
            patience=config.patience.patience(),
            keep_page=self._keep_page,
        )
        self._stopping = threading.Event()

    def __repr__(self) -> str:
        return f"SiteService({self.config.name!r}, {self._line.state.kind})"

    @property
    def line(self) -> Line:
        """The line to the hub."""
        return self._line

    def begin(self) -> None:
        """Start the threads, and take up what was left when the agent was stopped."""
        self.agent.begin()
        for job in self._memory.unfinished():
            # Offered at the door of the process before this one: whoever asked has gone.
            if job.attempt == 0:
                self._memory.cancel(job.job_id, sequence=0)
        unfinished = self._memory.unfinished()
        left = {job.job_id for job in unfinished if job.phase in ("running", "cancelled")}
        is_settled = not left or self._settle(left)
        for job in unfinished:
            self._attempts[job.job_id] = job.attempt
            if job.phase == "running":
                stopped = Ending("failed", self.config.name, "", "its agent was stopped")
                self._tell_ending(job.job_id, job.attempt, stopped, b"")
                if is_settled:
                    self._ended.append((job.job_id, job.attempt))
            elif job.phase == "cancelled":
                if is_settled:
                    self._memory.drop(job.job_id)
            else:
                self.agent.offer(job.job_id, job.submission)
        if self.config.flower is not None:
            from synthema.agent.door import Door

            section = self.config.flower
            self._door = Door(self.config.place(section.socket), self._orders.answer, group=section.group)
        self._line.start()

    def _settle(self, jobs: set[str]) -> bool:
        """Close the charges that jobs of a process before this one left open; return whether it could be done."""
        try:
            settle_charges(self.config, jobs)
        except Exception as error:  # noqa: BLE001 - the agent serves others all the same; at its next start it tries again
            _log.error("%s: open charges cannot be closed: %s", self.config.name, type(error).__name__)
            return False
        return True

    def serve(self) -> None:
        """Work until `stop` is called. Decisions that the operator made elsewhere are taken up."""
        self.begin()
        try:
            while not self._stopping.wait(_POLL_SECONDS):
                try:
                    self._take_approvals()
                except Exception as error:  # noqa: BLE001 - a file being edited, or locked for long, ends no agent
                    _log.error("%s: its files cannot be read: %s", self.config.name, type(error).__name__)
        finally:
            self.close()

    def stop(self) -> None:
        """End `serve` soon; from any thread or a signal handler."""
        self._stopping.set()

    def close(self) -> None:
        """End what runs, the line and the threads."""
        if self._door is not None:
            self._door.close()
        self.agent.close()
        # What the hub is still to be told has a moment to leave.
        deadline = time.monotonic() + 2.0
        while self._line.state.kind == "up" and not self._is_told and time.monotonic() < deadline:
            time.sleep(0.05)
        self._note_endings()
        self._line.close()
        self._memory.close()

    # From the agent.

    def decision(self, job_id: str, decision: Decision) -> None:
        """Tell the hub what the site decided."""
        if decision.state == "refused":
            self._memory.decide(job_id, "over")
        elif decision.state == "accepted":
            self._memory.decide(job_id, "accepted")
        if self._orders.knows(job_id):
            self._orders.decided(job_id, decision)
            return
        if job_id not in self._attempts:
            # Who asked has gone, and the job is cancelled behind this.
            return
        head = DecisionHead(
            job=job_id,
            attempt=self._attempts[job_id],
            decision=decision.state,
            reason=decision.reason,
            explanation=decision.explanation[:2000],
        )
        self._tell_hub(head, b"")

    def ending(self, job_id: str, attempt: int, ending: Ending, result: bytes) -> None:
        """Tell the hub how a job ended here; of one that came by an order the result goes back to who asked."""
        if self._orders.knows(job_id):
            self._tell_outcome(job_id, attempt, ending, b"")
            self._orders.ended(job_id, ending, result)
        else:
            self._tell_ending(job_id, attempt, ending, result)
        # Not over before the hub has it: after a restart in between, the hub would wait for an ending in vain.
        self._ended.append((job_id, attempt))

    def dropped(self, job_id: str) -> None:
        """Take note that a cancelled job keeps nothing reserved here."""
        self._memory.drop(job_id)

    def _tell_ending(self, job_id: str, attempt: int, ending: Ending, result: bytes) -> None:
        # The others' success is the lead's to tell.
        if ending.state == "failed" or result:
            self._tell_outcome(job_id, attempt, ending, result)

    def _tell_outcome(self, job_id: str, attempt: int, ending: Ending, result: bytes) -> None:
        head = Outcome(
            job=job_id,
            attempt=attempt,
            state=ending.state,
            site=ending.site or None,
            step=ending.step[:80],
            explanation=ending.error[:2000],
        )
        self._tell_hub(head, result)

    def post(self, to: str, letter: Letter) -> None:
        """Send a letter, or lose it: it is sent again when the member is back."""
        head = Mail(
            job=letter.job,
            attempt=letter.attempt,
            step=letter.kind,
            what=letter.what or letter.kind,
            number=letter.number,
        )
        with contextlib.suppress(LineDown, MemberAbsent, LineBusy):
            self._line.send(to, head, letter.payload)

    def _ask(self, to: str, question: Question) -> bool:
        head = Mail(job=_NO_JOB, attempt=1, step="question", what=question.what, number=question.number)
        try:
            self._line.send(to, head, question.payload)
        except LineDown:
            # Asked again when the line is back.
            return True
        except (MemberAbsent, LineBusy):
            return False
        return True

    def _connect(
        self, roster: Roster, identity: Identity, run: str, within: float, stopped: Stopped
    ) -> NetworkTransport:
        return take_seat(self._address, self._files, roster, identity, run, within=within, stopped=stopped)

    def _tell_hub(self, head: Head, payload: bytes) -> None:
        with self._lock:
            self._unsent.append((head, payload))
        self._send_unsent()

    def _send_unsent(self) -> None:
        with self._lock:
            while self._unsent:
                try:
                    self._line.send(None, *self._unsent[0])
                except (LineDown, LineBusy):
                    return
                self._unsent.pop(0)

    # From the line, in its thread.

    def _on_message(self, message: Message) -> None:
        head = message.head
        match head:
            case Mail():
                self._on_mail(message.sender, head, message.payload)
            case Presence():
                if head.is_connected:
                    self.agent.resume(head.name)
                else:
                    self.agent.miss(head.name)
            case Garbled():
                self.agent.blame(head.name, f"what it sent was rejected: {head.rule}")
            case Offer():
                self._orders.forget(head.job)
                self._memory.keep_offer(head.job, head.attempt, message.payload, sequence=message.sequence)
                self._attempts[head.job] = head.attempt
                self.agent.offer(head.job, message.payload)
            case Start():
                self._memory.enter(head.job, "running", attempt=head.attempt, sequence=message.sequence)
                self._orders.started(head.job)
                self.agent.start(head.job, head.attempt)
            case Cancel():
                self._memory.cancel(head.job, sequence=message.sequence)
                error = head.explanation or head.reason or "the job was cancelled"
                self.agent.cancel(head.job, site=head.site or "", error=error)
                self._orders.stopped(head.job, head.site or "", error)
            case Refused():
                self._orders.stopped(head.job, "", f"the hub refused it: {head.explanation}")
            case Outcome():
                self._memory.hear(message.sequence)
                self._orders.finished(head.job)
                if head.state == "failed":
                    self.agent.cancel(head.job, site=head.site or "", error=head.explanation or "it failed")
            case _:
                if message.sequence:
                    self._memory.hear(message.sequence)

    def _on_mail(self, sender: str, head: Mail, payload: bytes) -> None:
        if head.step == "question":
            what = _QUESTIONS.get(head.what)
            if what is not None:
                self.agent.question(sender, Question(what, head.number, payload))
        kind = _KINDS.get(head.step)
        if kind is not None:
            self.agent.letter(sender, Letter(kind, head.job, head.attempt, head.number, head.what, payload))

    def _on_change(self, state: LineState) -> None:
        _log.info("%s: the line to the hub is %s %s", self.config.name, state.kind, state.reason)
        if state.kind == "up":
            self._send_unsent()
            self.agent.resume()

    def _take_approvals(self) -> None:
        """Tell the hub what it could not be told before, and take up what the operator decided meanwhile."""
        self._send_unsent()
        self._orders.expire()
        self._publish_if_wanted()
        self._note_endings()
        if isinstance(self.approval, OperatorApproval):
            for job_id, submission in self.approval.newly_decided():
                if job_id in self._attempts and job_id not in self._taken_up:
                    self._taken_up.add(job_id)
                    self.agent.offer(job_id, submission)

    def _publish_if_wanted(self) -> None:
        wanted = self.config.place(PUBLISH_FILE)
        if not wanted.exists():
            return
        wanted.unlink(missing_ok=True)
        # The file as it is now: its description may just have been written.
        config = SiteConfig.load(self.config.folder)

        def make(site: Site) -> bytes:
            from synthema.catalogue import entry_of

            return entry_of(site, config.catalogue, identity=Identity.load(0, self._files.identity))

        def take(entry: bytes) -> None:
            _log.info("%s: its entry of the catalogue is made", config.name)
            self._tell_hub(Publish(), entry)

        self.agent.publish(make, take)

    @property
    def _is_told(self) -> bool:
        """Whether the hub has written down all that it was to be told."""
        return not self._unsent and self._line.is_confirmed

    def _note_endings(self) -> None:
        # Those that ended before the look at the line, not after it.
        ended = list(self._ended)
        if ended and self._is_told:
            for job_id, attempt in ended:
                self._memory.end(job_id, attempt)
            del self._ended[: len(ended)]

    def _witness(self) -> LocalWitness | None:
        from privacy.ledger import LocalWitness, Verifier, load_key

        logs = {
            partner.ledger: Verifier.parse(partner.ledger_key)
            for partner in self.config.partners.values()
            if partner.ledger and partner.ledger_key
        }
        if not logs:
            return None
        signer = load_key(self.config.place(self.config.keys.witness))
        return LocalWitness(self.config.place(WITNESS_FILE), signer, logs)

    def _keep_page(self, job_id: str, page: str) -> None:
        folder = self.config.place(PAGES_FOLDER)
        folder.mkdir(mode=0o700, exist_ok=True)
        _write_private(folder / f"{job_id[:16]}.html", page)


def remote_material_of(transport: NetworkTransport, party: int, n_parties: int) -> MaterialStore:
    """Return this party's material, from the dealer at the other end of a line."""
    from smpc.remote_material import remote_material

    return remote_material(transport, party=party, n_parties=n_parties)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
