"""A site's side of every job: offers are considered, approved and reserved; a start runs the steps; a cancel ends them.

    offer    a submission comes in: refused with a reason, waiting for the operator, or accepted (all steps reserved)
    start    every site accepted: the steps run (`synthema.site_run`), against the other members
    cancel   somebody refused or failed: what was not started is voided, what waits is told who it was

Jobs are worked on one after the other, in a thread of their own; letters of the running one are delivered meanwhile.
The agent knows nothing of sockets: who drives it gives it a courier, a way to connect for rounds, and a control that
takes its decisions and outcomes. It answers as a witness of its partners' ledgers at any time, in another thread.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from smpc.errors import RelayUnavailable, SmpcError
from smpc.transport.roster import Identity, Member, Roster
from synthema.errors import (
    JobFailed,
    SignatureInvalid,
    SiteFailed,
    SiteInputInvalid,
    SiteRefused,
    StudyError,
    SynthemaError,
)
from synthema.networks.asking import Asking, Question, answer_as_witness
from synthema.networks.base import Decision, DecisionState, Ending, Patience
from synthema.networks.lines import Courier, JobLines, Letter, Stopped
from synthema.submission import Submission, seal_result

if TYPE_CHECKING:
    from privacy.ledger import LocalWitness
    from smpc.material import MaterialStore
    from smpc.transport import NetworkTransport
    from synthema.job import SiteJob
    from synthema.networks.site_network import SiteNetwork
    from synthema.site import Site
    from synthema.study import Study

_log = logging.getLogger(__name__)

# A checkpoint and a proof of 64 hashes; and how many questions of partners may wait.
_MOST_QUESTION_BYTES, _MOST_QUESTIONS = 1 << 16, 256


@dataclass(frozen=True, slots=True)
class Partner:
    """Another member, as this site's operator has pinned it.

    identity     Ed25519 public key, 32 bytes
    ledger       origin of its ledger's checkpoints; empty: this site does not witness it
    ledger_key   key (note format) that signs them
    witness_key  key (note format) of its cosignatures; empty: it is no witness of this site
    """

    identity: bytes
    ledger: str = ""
    ledger_key: str = ""
    witness_key: str = ""


class Control(Protocol):
    """Takes what a site decides: the hub, or whoever stands for it."""

    def decision(self, job_id: str, decision: Decision) -> None:
        """Take a decision on an offer."""
        ...

    def ending(self, job_id: str, attempt: int, ending: Ending, result: bytes) -> None:
        """Take how a job ended here. `result`: sealed for the researcher, from the lead; empty from the others."""
        ...

    def dropped(self, job_id: str) -> None:
        """Take note that a cancelled job keeps nothing reserved here."""
        ...


class Approval(Protocol):
    """Says whether an offer that the policy allows needs the operator, and keeps what happens to jobs."""

    def ask(self, job_id: str, study: Study, researcher: str, submission: bytes, price: str) -> DecisionState:
        """Return "accepted", "refused" or "waiting"; the same again for a job that was decided before.

        `price`: what the study would cost this site, in plain words, for the operator to read.
        """
        ...

    def refusal(self, job_id: str) -> tuple[str, str]:
        """Return the reason of an operator's refusal, and the sentence that the researcher may see."""
        ...

    def note(self, job_id: str, state: str) -> None:
        """Keep a job's state for the operator to see."""
        ...


Connect = Callable[[Roster, Identity, str, float, Stopped], "NetworkTransport"]
# From a two-member transport (dealer, this party), this party's number and how many there are.
Material = Callable[["NetworkTransport", int, int], "MaterialStore"]


class Agent:
    """One site.

    Parameters
    ----------
    name
        This site.
    identity
        Its Ed25519 key.
    partners
        The other members, pinned.
    open_site
        Reads the table and opens the ledger. Called when a job needs them; rows are dropped when none does.
    control, courier, connect
        Towards the hub and the other members.
    post
        Sends questions and answers to members.
    approval
        Whether the operator wants to be asked.
    witness
        Countersigns partners' ledgers, or None.
    material
        Makes a store of a line to the dealer, or None.
    keep_page
        Takes a job's internal page, which stays at the site.
    """

    def __init__(
        self,
        name: str,
        *,
        identity: Identity,
        partners: Mapping[str, Partner],
        open_site: Callable[[Asking], Site],
        control: Control,
        courier: Courier,
        connect: Connect,
        post: Callable[[str, Question], bool],
        approval: Approval,
        witness: LocalWitness | None = None,
        material: Material | None = None,
        patience: Patience | None = None,
        keep_page: Callable[[str, str], None] | None = None,
    ) -> None:
        self.name = name
        self._identity = identity
        self._partners = dict(partners)
        self._open_site = open_site
        self._control, self._courier, self._connect, self._post = control, courier, connect, post
        self._approval = approval
        self._witness = witness
        self._material = material
        self._patience = patience
        self._keep_page = keep_page
        self.asking = Asking(post)
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[tuple[str, Question] | None] = queue.SimpleQueue()
        self._site: Site | None = None
        self._submissions: dict[str, Submission] = {}
        self._jobs: dict[str, SiteJob] = {}
        self._cancelled: dict[str, str] = {}
        self._lines: dict[tuple[str, int], JobLines] = {}
        # Members that left the hub and did not come back.
        self._missing: set[str] = set()
        self._threads = [
            threading.Thread(target=self._do_work, name=f"{name}-jobs", daemon=True),
            threading.Thread(target=self._answer_questions, name=f"{name}-witness", daemon=True),
        ]

    def __repr__(self) -> str:
        return f"Agent({self.name!r})"

    def begin(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self, *, within: float = 10.0) -> None:
        """Stop what runs, and end the threads."""
        for lines in list(self._lines.values()):
            lines.fail(self.name, "its agent was stopped")
        self._work.put(None)
        self._questions.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(within)

    # What comes in. None of these blocks.

    def offer(self, job_id: str, submission: bytes) -> None:
        """Take an offer; the decision goes to the control."""
        self._work.put(lambda: self._consider(job_id, submission))

    def start(self, job_id: str, attempt: int) -> None:
        """Run an accepted job; its ending goes to the control."""
        self._work.put(lambda: self._run(job_id, attempt))

    def publish(self, make: Callable[[Site], bytes], take: Callable[[bytes], None]) -> None:
        """Make something of the table and the ledger that is to be published, between two jobs."""

        def work() -> None:
            site = self._opened_site()
            if site is not None:
                take(make(site))
            self._rest()

        self._work.put(work)

    def cancel(self, job_id: str, *, site: str, error: str) -> None:
        """End a job: `site` refused or failed."""
        self._cancelled[job_id] = site
        for (job, _), lines in list(self._lines.items()):
            if job == job_id:
                lines.fail(site, error)
        self._work.put(lambda: self._abandon(job_id))

    def letter(self, sender: str, letter: Letter) -> None:
        """Take a letter of a job that runs; others are dropped, their sender sends them again."""
        lines = self._lines.get((letter.job, letter.attempt))
        if lines is not None:
            lines.deliver(sender, letter)

    def question(self, sender: str, question: Question) -> None:
        """Take a question to this site as a witness, or an answer to one of its own."""
        if question.what == "answer":
            self.asking.deliver(sender, question)
        elif (
            sender in self._partners
            and len(question.payload) <= _MOST_QUESTION_BYTES
            and self._questions.qsize() < _MOST_QUESTIONS
        ):
            # Who gets no answer asks again.
            self._questions.put((sender, question))

    def resume(self, member: str | None = None) -> None:
        """A member, or the line to all of them, is back: send again what did not arrive."""
        self.asking.resume(member)
        if member is None:
            # Who left while the line was down is not told: it has to be waited for.
            self._missing.clear()
        else:
            self._missing.discard(member)
        for lines in list(self._lines.values()):
            lines.resume(member)

    def miss(self, member: str) -> None:
        """A member left the hub."""
        self._missing.add(member)
        for lines in list(self._lines.values()):
            lines.miss(member)

    def runs(self, job_id: str) -> bool:
        """Whether a job runs here at the moment."""
        return any(job == job_id for job, _ in list(self._lines))

    def wait_until_idle(self, *, within: float) -> bool:
        """Wait until all that came in before this call is worked off; return whether it is."""
        idle = threading.Event()
        self._work.put(idle.set)
        return idle.wait(within)

    def blame(self, member: str, error: str) -> None:
        """A member broke the rules of the line: the jobs that it takes part in end, naming it."""
        for lines in list(self._lines.values()):
            if member in lines.partners:
                lines.fail(member, error)

    # The threads.

    def _do_work(self) -> None:
        while (task := self._work.get()) is not None:
            try:
                task()
            except Exception as error:  # noqa: BLE001 - the agent outlives any job; the text could hold a value
                _log.error("%s: a job ended with %s", self.name, type(error).__name__)
        for job in self._jobs.values():
            job.abandon()
        self._forget_site()

    def _answer_questions(self) -> None:
        while (item := self._questions.get()) is not None:
            sender, question = item
            if self._witness is None:
                continue
            try:
                answer = answer_as_witness(self._witness, question.payload)
                self._post(sender, Question("answer", question.number, answer))
            except Exception as error:  # noqa: BLE001 - whatever a partner asks, the others are answered
                _log.error("%s: a question of %s ended with %s", self.name, sender, type(error).__name__)

    # Jobs.

    def _consider(self, job_id: str, data: bytes) -> None:
        if job_id in self._jobs:
            # Offered again after the hub was away: nothing has changed.
            self._control.decision(job_id, Decision("accepted"))
            return
        self._cancelled.pop(job_id, None)
        decision = self._decide(job_id, data)
        self._approval.note(job_id, decision.state)
        self._control.decision(job_id, decision)
        self._rest()

    def _decide(self, job_id: str, data: bytes) -> Decision:
        try:
            submission = Submission.decode(data)
            if submission.job_id != job_id:
                return Decision("refused", "document", "the job is offered under another identity than its text has")
            submission.verify()
            site = self._opened_site()
            if site is None:
                return Decision("refused", "site", "the site has a problem of its own; its operator knows more")
            study = site.consider(submission.document)
            self._check_members(study)
            price = "\n".join(map(str, site.price(study)))
            state = self._approval.ask(job_id, study, submission.document.public_key, data, price)
            if state == "accepted":
                self._jobs[job_id] = site.accept(submission.document)
                self._submissions[job_id] = submission
        except SiteRefused as refused:
            return Decision("refused", refused.reason, refused.explanation)
        except (StudyError, SignatureInvalid) as error:
            return Decision("refused", "document", str(error))
        except Exception as error:  # noqa: BLE001 - the text could hold a patient's value
            _log.error("%s: an offer could not be considered: %s", self.name, type(error).__name__)
            return Decision("refused", "site", "the site has a problem of its own; its operator knows more")
        if state == "refused":
            return Decision("refused", *self._approval.refusal(job_id))
        return Decision(state)

    def _check_members(self, study: Study) -> None:
        from synthema.steps import needs_material

        dealer = study.federation.dealer
        if needs_material(study) and dealer is None:
            raise SiteRefused(
                site=self.name,
                reason="document",
                explanation="the study compares or chooses on shares: name the dealer in [federation]",
            )
        for member in (*study.sites, *([dealer] if dealer else [])):
            if member != self.name and member not in self._partners:
                raise SiteRefused(
                    site=self.name, reason="partners", explanation=f"the site has not pinned the keys of {member!r}"
                )

    def _run(self, job_id: str, attempt: int) -> None:
        job, submission = self._jobs.pop(job_id, None), self._submissions.pop(job_id, None)
        if job_id in self._cancelled:
            if job is not None:
                job.abandon()
            ending = Ending("failed", self._cancelled[job_id], "start", "the job was cancelled")
            self._control.ending(job_id, attempt, ending, b"")
            return
        if job is None or submission is None:
            ending = Ending("failed", self.name, "start", "the site does not know this job any more")
            self._control.ending(job_id, attempt, ending, b"")
            return
        self._approval.note(job_id, "running")
        result = b""
        try:
            result = self._run_steps(job, submission, attempt)
            ending = Ending("done")
        except SiteFailed as failed:
            ending = Ending("failed", failed.site, failed.step, failed.error)
        except SiteInputInvalid as invalid:
            ending = Ending("failed", invalid.site, type(invalid).__name__, str(invalid))
        except SynthemaError as error:
            # Overlap too large, a result that may not be opened, a model without convergence: the same at all sites.
            ending = Ending("failed", "", type(error).__name__, str(error))
        except Exception as error:  # noqa: BLE001 - the text could hold a patient's value
            ending = Ending("failed", self.name, "", type(error).__name__)
        finally:
            job.abandon()
        self._approval.note(job_id, ending.state)
        self._control.ending(job_id, attempt, ending, result)
        self._rest()

    def _run_steps(self, job: SiteJob, submission: Submission, attempt: int) -> bytes:
        from synthema.networks.site_network import SiteNetwork
        from synthema.site_run import run_at_site

        study, job_id = job.study, job.job_id
        parties = study.compute_parties
        others = study.sites if self.name in parties else parties
        keys = {other: self._partners[other].identity for other in others if other != self.name}
        lines = JobLines(
            self.name,
            self._identity,
            keys,
            job_id=job_id,
            attempt=attempt,
            courier=self._courier,
            connect=self._connect_members,
            request=submission.encode(),
            away_seconds=(self._patience or Patience()).away,
        )
        self._lines[(job_id, attempt)] = lines
        for member in list(self._missing):
            lines.miss(member)
        if job_id in self._cancelled:
            # It came before there were lines to tell.
            lines.fail(self._cancelled[job_id], "the job was cancelled")
        network: SiteNetwork | None = None
        try:
            lines.begin()
            run = f"{job_id}/{attempt}"
            material = self._material_of(study, run, lines)
            network = SiteNetwork(job, lines, run=run, material=material, patience=self._patience)
            result = run_at_site(job, submission.document, network)
            if self._keep_page is not None and result.internal:
                self._keep_page(job_id, result.internal)
            network.finish()
            lines.wait_until_read(within=10.0)
            return b"" if result.bundle is None else seal_result(result.bundle, submission.result_key, self._identity)
        except SiteFailed as failed:
            raise lines.explained(failed) from None
        finally:
            if network is not None:
                network.close()
            lines.close()
            del self._lines[(job_id, attempt)]

    def _connect_members(self, members: Sequence[str], run: str, within: float, stopped: Stopped) -> NetworkTransport:
        keys = {self.name: self._identity.public} | {name: each.identity for name, each in self._partners.items()}
        roster = Roster(tuple(Member(name, keys[name]) for name in members))
        party = list(members).index(self.name)
        try:
            return self._connect(roster, self._identity.at(party), run, within, stopped)
        except RelayUnavailable as error:
            raise JobFailed("relay", error.reason) from None
        except SmpcError as error:
            number = getattr(error, "party", getattr(error, "sender", None))
            site = members[number] if isinstance(number, int) else self.name
            raise SiteFailed(site=site, step="connect", error=getattr(error, "reason", type(error).__name__)) from None

    def _material_of(self, study: Study, run: str, lines: JobLines) -> Callable[[], MaterialStore] | None:
        dealer, material = study.federation.dealer, self._material
        if dealer is None or material is None or self.name not in study.compute_parties:
            return None
        parties = study.compute_parties
        party = parties.index(self.name)
        patience = self._patience or Patience()
        within = patience.gather + patience.round

        def store() -> MaterialStore:
            transport = lines.transport((dealer, self.name), f"{run}/deal/{party}", within=within)
            return material(transport, party, len(parties))

        return store

    def _abandon(self, job_id: str) -> None:
        job = self._jobs.pop(job_id, None)
        self._submissions.pop(job_id, None)
        if job is not None:
            job.abandon()
            self._approval.note(job_id, "cancelled")
        self._control.dropped(job_id)
        self._rest()

    def _opened_site(self) -> Site | None:
        """Return the table and the ledger, or None: what is wrong with them is for the operator alone."""
        if self._site is None:
            try:
                self._site = self._open_site(self.asking)
            except Exception as error:  # noqa: BLE001 - whatever it is, the researcher is told nothing of it
                _log.error("%s: table or ledger cannot be opened: %s", self.name, type(error).__name__)
        return self._site

    def _rest(self) -> None:
        """Drop the rows while no job needs them."""
        if not self._jobs:
            self._forget_site()

    def _forget_site(self) -> None:
        site, self._site = self._site, None
        if site is not None:
            site.forget_rows()
            with contextlib.suppress(Exception):
                site.ledger.close()
