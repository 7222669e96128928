"""A network of sites that are sent orders and answer: whatever carries one message to a site and brings one back.

One message to each site offers a job, one runs it; a third takes an offer back. Inside the run the sites meet over a
data plane of their own, of which the carrier knows nothing (`synthema.agent.orders`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from synthema.networks.base import Decision, JobResult
from synthema.networks.orders import Answer, Order, OrderRejected

if TYPE_CHECKING:
    from synthema.submission import Submission

# A site answers somewhat before its answer is given up, so that the reason arrives.
_LEAD_SECONDS = 2.0
_CANCEL_SECONDS = 20.0
# How long an offer stands after the time to decide: if nobody starts it or takes it back, who offered it is gone.
_STANDS_SECONDS = 300.0
# After one site said that it failed: the others say so, too, and one of them may know better whose fault it is.
_AFTER_FAILURE_SECONDS, _AFTER_SILENCE_SECONDS = 3.0, 15.0

Enough = Callable[[Mapping[str, bytes]], float | None]


class Carrier(Protocol):
    """Takes one message to each of some sites, and brings their answers."""

    def exchange(self, orders: Mapping[str, bytes], *, within: float, enough: Enough) -> Mapping[str, bytes]:
        """Return the answers that came within so many seconds, by site; one that has no node, or fails, is missing.

        `enough(answers)`: for how many seconds more the others are worth waiting for, once it is known; else None.
        """
        ...


class OrderedNetwork:
    """See the module, and `synthema.networks.base.Network`."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._sites: dict[str, tuple[str, ...]] = {}
        self._decisions: dict[str, dict[str, Decision]] = {}

    def __repr__(self) -> str:
        return f"OrderedNetwork({self._carrier!r})"

    def offer(self, submission: Submission, *, within: float) -> Mapping[str, Decision]:
        """Offer a job to every site of its study; return what each said."""
        from synthema.study import Study

        job = submission.job_id
        sites = tuple(Study.from_document(submission.document.body).sites)
        self._sites[job] = sites
        order = Order(what="offer", job=job, within=_earlier(within), run_seconds=_STANDS_SECONDS)
        answers = self._exchange(sites, order.encode(submission.encode()), within, lambda _answers: None)
        self._decisions[job] = {site: answer.decision() for site, (answer, _) in answers.items()}
        return dict(self._decisions[job])

    def run(self, job_id: str, *, within: float) -> JobResult:
        """Start a job that every site accepted, and return how it ended."""
        order = Order(what="run", job=job_id, within=_earlier(within), run_seconds=_earlier(within))
        answers = self._exchange(self._sites[job_id], order.encode(), within, _one_failed)
        endings = {site: answer.ending() for site, (answer, _) in answers.items()}
        # What the others say of a site says more than that its node brought no answer.
        down = {site for site, (answer, _) in answers.items() if answer.state == "down"}
        blamed = {ending.site for site, ending in endings.items() if site not in down and ending.state == "failed"}
        endings = {site: ending for site, ending in endings.items() if site not in down & blamed}
        result = next((payload for _, payload in answers.values() if payload), b"")
        return JobResult(self._decisions.get(job_id, {}), endings, result)

    def cancel(self, job_id: str, *, site: str, error: str) -> None:
        """Take an offer back at every site that can be reached."""
        order = Order(what="cancel", job=job_id, within=_CANCEL_SECONDS, site=site, error=error[:2000])
        # A refusal has nothing reserved.
        said = self._decisions.get(job_id, {})
        sites = [each for each in self._sites.get(job_id, ()) if each not in said or said[each].state != "refused"]
        self._exchange(sites, order.encode(), _CANCEL_SECONDS, lambda _answers: None)

    def _exchange(
        self, sites: tuple[str, ...] | list[str], order: bytes, within: float, enough: Enough
    ) -> dict[str, tuple[Answer, bytes]]:
        if not sites:
            return {}
        came = self._carrier.exchange(dict.fromkeys(sites, order), within=within, enough=enough)
        return {site: _answer_of(site, data) for site, data in came.items()}


def _earlier(within: float) -> float:
    return max(within - _LEAD_SECONDS, within / 2)


def _answer_of(site: str, data: bytes) -> tuple[Answer, bytes]:
    """Return what a site answered. Its node may be another's, or send nonsense: then that is its answer."""
    try:
        answer, payload = Answer.decode(data)
    except OrderRejected:
        return Answer(site=site, state="down", explanation="what its node sent is no answer"), b""
    if answer.state == "down":
        return answer.model_copy(update={"site": site}), b""
    if answer.site != site:
        text = f"the node called {site!r} answers for {answer.site!r}: its operator has to name it anew"
        return Answer(site=site, state="down", explanation=text), b""
    return answer, payload


def _one_failed(answers: Mapping[str, bytes]) -> float | None:
    said = [_answer_of(site, data)[0] for site, data in answers.items()]
    failed = {answer.state for answer in said if answer.ending().state == "failed"}
    if not failed:
        return None
    # A node that brings no answer says nothing of its site; the others will.
    return _AFTER_SILENCE_SECONDS if failed == {"down"} else _AFTER_FAILURE_SECONDS
