"""The life of a job, as a function from state and event to state and what is to be sent. No clock, no socket, no disk.

    offered --all accept--> running --lead's result--> done
       |                       |
       | one refuses           | a member fails, time is over, a member is revoked
       v                       v
    refused   cancelled      failed          (cancelled: by the researcher, from offered or running)

A study may also be brought by its sites, which decided on it elsewhere: then bringing it is accepting it.

The hub decides nothing: it counts the sites' decisions and keeps the deadlines. An event that does not fit (late, of
another attempt, of somebody who takes no part, a repetition) changes nothing and sends nothing. A job that ended
otherwise than well is offered again when the researcher submits it again, as the next attempt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from smpc.sharing import LEAST_PARTIES
from synthema.messages import (
    MOST_ATTEMPTS,
    Cancel,
    Decision,
    Head,
    JobPhase,
    Offer,
    Outcome,
    SiteDecision,
    Start,
    Status,
    Submit,
)

OPEN_PHASES: frozenset[JobPhase] = frozenset({"offered", "running"})


class NotPossible(Exception):
    """What a researcher asked cannot be done; `reason` is a fixed code."""

    def __init__(self, reason: str, explanation: str) -> None:
        self.reason = reason
        self.explanation = explanation
        super().__init__(explanation)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a job did not end well. `site`: who is named."""

    error: str = ""
    explanation: str = ""
    site: str | None = None
    step: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    wanted      what the researcher submitted, without the document
    researcher  name of who submitted it
    deadline    Unix seconds: of the decisions while it is offered, of the result while it runs
    decisions   one for each site, in the order of the sites, then the dealer's
    """

    wanted: Submit
    researcher: str
    phase: JobPhase
    attempt: int
    deadline: float
    decisions: tuple[SiteDecision, ...]
    ending: Ending = Ending()

    @property
    def job_id(self) -> str:
        """SHA-256 of the study document, hex."""
        return self.wanted.job

    @property
    def lead(self) -> str:
        """Who sends the result."""
        return (self.wanted.parties or self.wanted.sites)[0]

    @property
    def asked(self) -> tuple[str, ...]:
        """Who has to accept: every site, and the dealer if there is one."""
        return tuple(each.site for each in self.decisions)

    @property
    def members(self) -> tuple[str, ...]:
        """All who take part: sites, compute parties, dealer."""
        wanted = self.wanted
        dealer = () if wanted.dealer is None else (wanted.dealer,)
        return tuple(dict.fromkeys((*wanted.sites, *wanted.parties, *dealer)))


@dataclass(frozen=True, slots=True)
class Send:
    """A message to a member that must arrive. The document of the job goes with an offer."""

    to: str
    head: Head

    @property
    def has_document(self) -> bool:
        """Whether the document is its payload."""
        return isinstance(self.head, Offer)


Step = tuple[Job, tuple[Send, ...]]


def submitted(head: Submit, *, researcher: str, roles: Mapping[str, str], before: Job | None, now: float) -> Step:
    """Offer a job to its sites, or find that it is there already.

    Parameters
    ----------
    roles
        Role of every member, by name.
    before
        The job of this document, if there is one.

    Raises
    ------
    NotPossible
    """
    _check_form(head, roles)
    attempt = 1
    if before is not None:
        if before.researcher != researcher:
            raise NotPossible("not-yours", "another researcher submitted this document")
        if before.phase in OPEN_PHASES or before.phase == "done":
            return before, ()
        attempt = before.attempt + 1
    return _offered(head, researcher=researcher, attempt=attempt, now=now)


def brought(head: Submit, *, site: str, roles: Mapping[str, str], before: Job | None, now: float) -> Step:
    """Take a study from one of its sites, to which it came by another way than this hub, and which takes part.

    The sites are offered nothing: each brings it. When all have, and the dealer accepts, it starts. What has ended, in
    whatever way, begins anew as the next attempt: sites have their answers, and decide again.

    Raises
    ------
    NotPossible
    """
    _check_form(head, roles)
    if site not in head.sites:
        raise NotPossible("not-yours", "a site brings the studies that it takes part in")
    if before is not None and roles.get(before.researcher) != "site":
        raise NotPossible("not-yours", "a researcher handed this study in to this hub: give it another name")
    sends: tuple[Send, ...] = ()
    if before is not None and before.phase in OPEN_PHASES:
        job = before
    else:
        researcher, attempt = (site, 1) if before is None else (before.researcher, before.attempt + 1)
        job, offers = _offered(head, researcher=researcher, attempt=attempt, now=now)
        sends = tuple(send for send in offers if send.to == head.dealer)
    said = Decision(job=job.job_id, attempt=job.attempt, decision="accepted")
    job, more = decided(job, site, said, now=now)
    return job, sends + more


def _offered(head: Submit, *, researcher: str, attempt: int, now: float) -> Step:
    if attempt > MOST_ATTEMPTS:
        raise NotPossible("too-many-attempts", f"a study has {MOST_ATTEMPTS} attempts: give it another name")
    deadline = now + head.decide_seconds
    asked = (*head.sites, *(() if head.dealer is None else (head.dealer,)))
    job = Job(head, researcher, "offered", attempt, deadline, tuple(_asked(name) for name in asked))
    offer = Offer(
        job=head.job,
        attempt=attempt,
        researcher=researcher,
        public_key=head.public_key,
        signature=head.signature,
        sites=head.sites,
        parties=head.parties,
        dealer=head.dealer,
        decide_by=deadline,
        run_seconds=head.run_seconds,
    )
    return job, tuple(Send(name, offer) for name in asked)


def _asked(site: str) -> SiteDecision:
    return SiteDecision(site=site, decision="asked")


def _check_form(head: Submit, roles: Mapping[str, str]) -> None:
    for what, names in (("sites", head.sites), ("parties", head.parties)):
        if len(set(names)) < len(names):
            raise NotPossible("named-twice", f"{what} names a member twice")
        for name in names:
            if roles.get(name) != "site":
                raise NotPossible("unknown-site", f"{name!r} is no site of this hub")
    if 0 < len(head.parties) < LEAST_PARTIES:
        raise NotPossible("too-few-parties", f"a protocol on shares needs at least {LEAST_PARTIES} compute parties")
    if head.dealer is not None and roles.get(head.dealer) != "dealer":
        raise NotPossible("unknown-dealer", f"{head.dealer!r} is no dealer of this hub")


def decided(job: Job, site: str, head: Decision, *, now: float) -> Step:
    """Note a site's decision; start the job when all accepted, end it when one refuses."""
    if job.phase != "offered" or head.attempt != job.attempt or site not in job.asked:
        return job, ()
    said = SiteDecision(site=site, decision=head.decision, reason=head.reason, explanation=head.explanation)
    decisions = tuple(said if each.site == site else each for each in job.decisions)
    if decisions == job.decisions:
        return job, ()
    job = replace(job, decisions=decisions)
    if head.decision == "refused":
        ending = Ending(head.reason or "refused", head.explanation, site)
        return _ended(job, "refused", ending, reason="refused", told={site})
    if all(each.decision == "accepted" for each in decisions):
        job = replace(job, phase="running", deadline=now + job.wanted.run_seconds)
        wanted = job.wanted
        start = Start(
            job=job.job_id,
            attempt=job.attempt,
            sites=wanted.sites,
            parties=wanted.parties,
            dealer=wanted.dealer,
            run_by=job.deadline,
        )
        return job, tuple(Send(name, start) for name in job.members)
    return job, ()


def reported(job: Job, site: str, head: Status) -> Job:
    """Note where a site is."""
    if job.phase != "running" or head.attempt != job.attempt:
        return job
    decisions = tuple(
        each.model_copy(update={"step": head.step}) if each.site == site else each for each in job.decisions
    )
    return replace(job, decisions=decisions)


def finished(job: Job, sender: str, head: Outcome) -> Step:
    """End a job: well, if its lead says so; badly, if any member does."""
    if job.phase != "running" or head.attempt != job.attempt or sender not in job.members:
        return job, ()
    if head.state == "failed":
        # Whom the sender names takes part, or the sender is named itself; what is no site's fault names nobody.
        site = head.site if head.site is None or head.site in job.members else sender
        ending = Ending(head.error or "failed", head.explanation, site, head.step)
        return _ended(job, "failed", ending, reason="failed", told={sender})
    if sender != job.lead:
        return job, ()
    done = Outcome(job=job.job_id, attempt=job.attempt, state="done")
    return replace(job, phase="done"), tuple(Send(name, done) for name in job.members if name != sender)


def expired(job: Job, *, now: float) -> Step:
    """End a job whose time is over, with the name of who is missing."""
    if job.phase not in OPEN_PHASES or now < job.deadline:
        return job, ()
    if job.phase == "offered":
        missing = [each.site for each in job.decisions if each.decision != "accepted"]
        ending = Ending("no-decision", "a site did not decide in time", missing[0])
    else:
        ending = Ending("no-outcome", "the lead of the computation sent no result in time", job.lead)
    return _ended(job, "failed", ending, reason=ending.error)


def given_up(job: Job, *, researcher: str) -> Step:
    """End a job because its researcher says so. Raises NotPossible if it is somebody else's."""
    if job.researcher != researcher:
        raise NotPossible("unknown-job", "there is no such job of yours")
    if job.phase not in OPEN_PHASES:
        return job, ()
    return _ended(job, "cancelled", Ending("cancelled", "the researcher gave it up"), reason="cancelled")


def revoked(job: Job, name: str) -> Step:
    """End a job because a member of it was revoked."""
    if job.phase not in OPEN_PHASES or name not in {*job.members, job.researcher}:
        return job, ()
    site = name if name in job.members else None
    ending = Ending("revoked", "the hub's operator revoked a member of this job", site)
    return _ended(job, "failed", ending, reason="revoked", told={name})


def _ended(job: Job, phase: JobPhase, ending: Ending, *, reason: str, told: Collection[str] = ()) -> Step:
    """End a job; all who were asked, except those who know, are told."""
    asked = job.members if job.phase == "running" else job.asked
    # Why a site refused is for the researcher; why a job failed is for all who worked on it.
    said = ending.explanation if phase == "failed" else ""
    cancel = Cancel(job=job.job_id, attempt=job.attempt, reason=reason, explanation=said, site=ending.site)
    return replace(job, phase=phase, ending=ending), tuple(Send(name, cancel) for name in asked if name not in told)


def runs(job: Job) -> dict[str, tuple[str, ...]]:
    """Return the runs of a job for which the relay gives seats: by name, the members in the order of their seats."""
    if job.phase != "running" or len(job.wanted.parties) < LEAST_PARTIES:
        return {}
    start = f"{job.job_id}/{job.attempt}"
    named = {f"{start}/mpc": job.wanted.parties}
    if job.wanted.dealer is not None:
        for i, party in enumerate(job.wanted.parties):
            named[f"{start}/deal/{i}"] = (job.wanted.dealer, party)
    return named
