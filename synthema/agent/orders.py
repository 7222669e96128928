"""Jobs that come to the agent by orders at its door, instead of from the hub: offered, run and taken back.

    offer    considered as any other; what is accepted stands for a while, and is void if nobody starts it
    run      the site brings the study to the hub (`Submit`), which starts it when every site of the study has: from
             then on it is a job as any other, and its ending is the answer
    cancel   nothing stays reserved

The hub carries letters, gives seats in the rounds, starts the dealer and tells all when one fails. It sees no decision
and gets no result. Whoever asked and went away before the job ended has taken the site out: the job ends, naming it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from synthema.agent.memory import Memory
from synthema.errors import StudyError
from synthema.messages import Head, Submit
from synthema.networks.base import Decision, Ending
from synthema.networks.orders import Answer, Order
from synthema.submission import Submission

if TYPE_CHECKING:
    from synthema.agent.agent import Agent

# How often a wait looks whether its asker has gone.
_LOOK_SECONDS = 0.2
# In which every site of a study has to bring it: carriers that poll are some seconds apart.
_BRING_SECONDS = 60.0
_SETTLE_SECONDS = 5.0
# In which the hub says that not all have, beyond that: else it is not reached.
_HUB_SECONDS = 15.0


class TellHub(Protocol):
    """Sends a message to the hub, now or when the line is back."""

    def __call__(self, head: Head, payload: bytes, /) -> None:
        """Send."""
        ...


@dataclass(slots=True)
class _Brought:
    submission: bytes
    stands_until: float
    decision: Decision | None = None
    is_started: bool = False
    is_running: bool = False
    is_told: bool = False
    ending: Ending | None = None
    result: bytes = field(default=b"", repr=False)


class Orders:
    """See the module.

    Parameters
    ----------
    site
        This site.
    memory
        The agent's.
    agent
        The agent.
    tell_hub
        Sends to the hub.
    """

    def __init__(self, site: str, memory: Memory, agent: Callable[[], Agent], tell_hub: TellHub) -> None:
        self._site, self._memory, self._agent, self._tell_hub = site, memory, agent, tell_hub
        self._changed = threading.Condition()
        self._jobs: dict[str, _Brought] = {}

    def answer(self, order: Order, payload: bytes, is_gone: Callable[[], bool]) -> tuple[Answer, bytes]:
        """Do what an order says, and return the answer; blocks until there is one, time is over, or nobody waits."""
        match order.what:
            case "offer":
                return Answer.of_decision(self._site, self._offer(order, payload, is_gone)), b""
            case "run":
                ending, result = self._run(order, is_gone)
                return Answer.of_ending(self._site, ending), result
            case _:
                # What the hub offered is the hub's to take back.
                if self.knows(order.job):
                    self._cancel(order.job, order.site or "", order.error or "the job was cancelled")
                    self._agent().wait_until_idle(within=order.within)
                return Answer(site=self._site, state="cancelled"), b""

    # From the agent.

    def knows(self, job_id: str) -> bool:
        """Whether a job came by an order."""
        return job_id in self._jobs

    def decided(self, job_id: str, decision: Decision) -> None:
        """Take the decision on an offer."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is not None:
                job.decision = decision
                self._changed.notify_all()

    def ended(self, job_id: str, ending: Ending, result: bytes) -> None:
        """Take how a job ended here."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is not None:
                job.ending, job.result, job.is_running = ending, result, False
                self._changed.notify_all()

    # From the hub.

    def started(self, job_id: str) -> None:
        """Every site has brought the job."""
        with self._changed:
            if job_id in self._jobs:
                self._jobs[job_id].is_running = True

    def finished(self, job_id: str) -> None:
        """The hub has heard of the lead that the job is done."""
        with self._changed:
            if job_id in self._jobs:
                self._jobs[job_id].is_told = True
                self._changed.notify_all()

    def stopped(self, job_id: str, site: str, error: str) -> None:
        """The job does not start, or not go on; one that runs comes to its own end."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is not None and not job.is_running and job.ending is None:
                job.ending = Ending("failed", site, "start", error)
                self._changed.notify_all()

    def forget(self, job_id: str) -> None:
        """The hub offers the job itself."""
        with self._changed:
            self._jobs.pop(job_id, None)

    def expire(self) -> None:
        """Void what was accepted and not started in time, and forget what is over."""
        now = time.monotonic()
        with self._changed:
            late = [job_id for job_id, job in self._jobs.items() if now > job.stands_until and not job.is_running]
            over = {job_id: self._jobs[job_id] for job_id in late}
            for job_id, job in over.items():
                if job.ending is not None or not job.is_started:
                    del self._jobs[job_id]
        for job_id, job in over.items():
            if job.ending is None and not job.is_started:
                self._cancel(job_id, "", "nobody started it in time")

    def _offer(self, order: Order, payload: bytes, is_gone: Callable[[], bool]) -> Decision:
        job_id = order.job
        # Attempts are counted by the hub, from 1: 0 is what was never brought there.
        is_open = any(
            each.job_id == job_id and each.attempt > 0 and each.phase in ("offered", "accepted")
            for each in self._memory.unfinished()
        )
        with self._changed:
            before = self._jobs.get(job_id)
            is_open |= before is not None and (before.is_running or before.decision is None)
            if is_open or self._agent().runs(job_id):
                return Decision("refused", "running", "the job has not ended here since it was offered before")
            self._jobs[job_id] = job = _Brought(payload, time.monotonic() + order.within + order.run_seconds)
        self._memory.keep_offer(job_id, 0, payload, sequence=0)
        self._agent().offer(job_id, payload)
        if self._wait(lambda: job.decision is not None, order.within, is_gone) and job.decision is not None:
            return job.decision
        self._cancel(job_id, self._site, "it did not decide in time")
        job.stands_until = 0.0
        return Decision("refused", "no-decision", "the site was busy with another job")

    def _run(self, order: Order, is_gone: Callable[[], bool]) -> tuple[Ending, bytes]:
        job_id = order.job
        with self._changed:
            job = self._jobs.get(job_id)
            if job is None or job.is_started or job.decision is None or job.decision.state != "accepted":
                return Ending("failed", self._site, "start", "the site has not accepted this job"), b""
            job.is_started = True
            job.stands_until = time.monotonic() + order.within
        try:
            head = _submit_head(job.submission, order)
        except StudyError:
            return Ending("failed", self._site, "start", "the site has not accepted this job"), b""
        self._tell_hub(head, job.submission)
        began = self._wait(
            lambda: job.is_running or job.ending is not None, min(order.within, _BRING_SECONDS + _HUB_SECONDS), is_gone
        )
        if not began or not self._wait(lambda: job.ending is not None, order.within, is_gone):
            error = "the job did not end in time" if began else "the hub did not start the job: is it reached?"
            self._end(job_id, job, "who asked it to run the job went away" if is_gone() else error)
        ending = job.ending or Ending("failed", self._site, "start", "the job did not end")
        if ending.state == "done" and not job.result:
            # Not done before the hub has heard it of the lead: run again at once, it would be taken for the same run.
            self._wait(lambda: job.is_told, _SETTLE_SECONDS, is_gone)
        return ending, job.result

    def _end(self, job_id: str, job: _Brought, error: str) -> None:
        """Take the site out of a job."""
        self._cancel(job_id, self._site, error)
        # What runs is told at once, and tells the hub; what never started here ends now.
        if job.is_running:
            self._wait(lambda: job.ending is not None, _BRING_SECONDS, lambda: False)
        with self._changed:
            job.ending = job.ending or Ending("failed", self._site, "start", error)

    def _cancel(self, job_id: str, site: str, error: str) -> None:
        self._memory.cancel(job_id, sequence=0)
        self._agent().cancel(job_id, site=site, error=error)

    def _wait(self, condition: Callable[[], bool], within: float, is_gone: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + within
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0 or is_gone():
                    return False
                self._changed.wait(min(left, _LOOK_SECONDS))
        return True


def _submit_head(data: bytes, order: Order) -> Submit:
    from synthema.study import Study

    submission = Submission.decode(data)
    study = Study.from_document(submission.document.body)
    return Submit(
        job=submission.job_id,
        public_key=submission.document.public_key,
        signature=submission.document.signature.hex(),
        sites=tuple(study.sites),
        parties=study.compute_parties,
        dealer=study.federation.dealer,
        decide_seconds=min(_BRING_SECONDS, order.within),
        run_seconds=order.run_seconds,
    )
