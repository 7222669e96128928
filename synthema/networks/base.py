"""What a step of a study asks of a network, and what a site's side of a network asks of the lines between the members.

Steps (`synthema.joint`) are written once, against `StepNetwork`:

    gather    every site's contribution to a step: shares, one package for each compute party
    compute   what the compute parties make of the shares and open

`EmbeddedNetwork` holds all sites and parties in one process. `SiteNetwork` is one site's side where each is a process
of its own: all sites run the same steps, each contributes its own part, and what was opened comes to all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from synthema.errors import JobFailed, SiteFailed, SiteRefused, SynthemaError

if TYPE_CHECKING:
    from smpc import SharePackage
    from smpc.transport import NetworkTransport
    from synthema.job import SiteJob
    from synthema.study import Study
    from synthema.submission import Submission

T = TypeVar("T")


@dataclass(slots=True)
class Traffic:
    """What one step cost so far on a network."""

    rounds: int = 0
    bytes_sent: int = 0
    bytes_input: int = 0
    dealer_bytes: int = 0
    triples: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a site waits, in seconds.

    gather   for another site's contribution
    round    for a party's message in a round of a protocol
    away     for a site that left the hub to come back
    compute  a site that is no party, for what the parties open: they hold each other to `gather` and `round`

    Who waits for somebody who may be waiting himself waits longer, so that the first to give up names the cause:
    parties give each other `gather + round` to come together and in a round.
    """

    gather: float = 120.0
    round: float = 60.0
    away: float = 30.0
    compute: float = 3600.0


class StepNetwork(Protocol):
    """Where the steps of one accepted study run."""

    study: Study
    traffic: dict[str, Traffic]

    def run_step(
        self, step: str, work: Callable[[], T], *, encode: Callable[[T], Any], decode: Callable[[Any], T]
    ) -> T:
        """Start the step at the sites, do the work, settle it with the answer; or return the answer it had before."""
        ...

    def run_site_step(self, step: str, work: Callable[[SiteJob], Any]) -> dict[str, Any]:
        """As `run_step` where each site releases an answer of its own. Returns the answers by site."""
        ...

    def gather(self, step: str, ask: Callable[[SiteJob], T]) -> dict[str, T]:
        """Return the contributions that this process holds, by site."""
        ...

    def compute(
        self, step: str, protocol: Callable[..., Any], contributions: Mapping[str, Sequence[SharePackage]]
    ) -> Any:
        """Return what the compute parties open. `protocol(session, packages)`, one package of every site, runs there.

        What it returns is an answer that a ledger can store: an array, a number, a text, or lists and maps of them.
        """
        ...

    def common_key(self, step: str) -> bytes:
        """Return 32 random bytes that all sites of the study share, and the hub does not know."""
        ...


class SiteLines(Protocol):
    """One site's lines to the other members during one attempt at a job."""

    site: str

    def send(self, to: str, what: str, payload: bytes) -> None:
        """Seal a payload for a member and send it; what cannot be sent now is kept and sent later."""
        ...

    def receive(self, sender: str, what: str, *, within: float) -> bytes:
        """Return what a member sent. Raises SiteFailed if it does not come in time, or the job was stopped."""
        ...

    def wait_for(self, partner: str, *, within: float) -> None:
        """Wait until a member takes part in this attempt. Raises SiteFailed if it does not come in time."""
        ...

    def transport(self, members: Sequence[str], run: str, *, within: float) -> NetworkTransport:
        """Connect for rounds with other members, this one included: blocks until all are there."""
        ...


DecisionState = Literal["accepted", "refused", "waiting"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a site says to an offer. Reason and explanation depend on public things only."""

    state: DecisionState
    reason: str = ""
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended at a site: done, or failed with the site that is to blame and what it did, in public words."""

    state: Literal["done", "failed"]
    site: str = ""
    step: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended for its researcher.

    decisions  what each site said, by site
    endings    how it ended at each site that ran it
    result     sealed for the researcher by the lead; empty if the job failed
    """

    decisions: Mapping[str, Decision]
    endings: Mapping[str, Ending]
    result: bytes


class Network(Protocol):
    """Control plane, seen by a researcher: one message to each site that offers a job, one that starts it.

    Drivers: threads in this process; agents behind a hub; and whatever else carries messages to sites.
    """

    def offer(self, submission: Submission, *, within: float) -> Mapping[str, Decision]:
        """Offer a job to every site of its study; return what each said. A site that is silent is missing."""
        ...

    def run(self, job_id: str, *, within: float) -> JobResult:
        """Start a job that every site accepted, and return how it ended."""
        ...

    def cancel(self, job_id: str, *, site: str, error: str) -> None:
        """Take an offer back: no site keeps anything reserved for it."""
        ...


def run_job(network: Network, submission: Submission, *, offer_within: float = 60.0, within: float = 600.0) -> bytes:
    """Offer a job, start it if every site accepts, and return the sealed result.

    Raises
    ------
    SiteRefused
        A site refused, or is waiting for its operator ("waiting"); nothing is charged anywhere.
    SiteFailed
        A site was silent or failed; started steps stay charged.
    JobFailed
        The job ended at all sites for a reason that is no site's fault.
    """
    study = _study_of(submission)
    decisions = network.offer(submission, within=offer_within)
    problem: SynthemaError | None = None
    for site in study.sites:
        decision = decisions.get(site)
        if decision is None:
            problem = SiteFailed(site=site, step="offer", error=f"it said nothing within {offer_within:g} s")
        elif decision.state != "accepted":
            reason = decision.reason or decision.state
            problem = SiteRefused(site=site, reason=reason, explanation=decision.explanation or "it has to be approved")
        if problem is not None:
            network.cancel(submission.job_id, site=site, error="the job was not accepted by all sites")
            raise problem
    outcome = network.run(submission.job_id, within=within)
    raise_failure(study.sites, outcome.endings)
    return outcome.result


def raise_failure(sites: Iterable[str], endings: Mapping[str, Ending]) -> None:
    """Raise what explains best why a job failed; nothing if it ended well at every site."""
    failed = [ending for ending in endings.values() if ending.state == "failed"]
    # A site that says of itself that it failed knows better than those who waited for it.
    for name, ending in endings.items():
        if ending.state == "failed" and ending.site == name:
            raise SiteFailed(site=name, step=ending.step, error=ending.error)
    for ending in failed:
        if ending.site:
            raise SiteFailed(site=ending.site, step=ending.step, error=ending.error)
        raise JobFailed(ending.step, ending.error)
    for site in sites:
        if site not in endings:
            raise SiteFailed(site=site, step="run", error="it did not say how the job ended")


def _study_of(submission: Submission) -> Study:
    from synthema.study import Study

    return Study.from_document(submission.document.body)
