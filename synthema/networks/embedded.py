"""The embedded network: every site and compute party in this process, each seeing only its own half of the work.

The coordinator (the code below) holds no rows and no plaintext shares by design of the calls: sites hand out share
packages addressed to one party each, parties run the protocols of `smpc`, and what comes back was opened. The dealer of
Beaver triples is simulated in this process as well, which is why this network is for demonstrations, tests and
simulations.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from smpc import PartyFailed, SharePackage, run_local
from synthema.errors import SiteFailed, StudyError, SynthemaError
from synthema.job import SiteJob
from synthema.networks.base import Traffic
from synthema.study import Study

T = TypeVar("T")


class EmbeddedNetwork:
    """Runs the steps of one accepted study over jobs in this process."""

    def __init__(self, study: Study, jobs: Mapping[str, SiteJob]) -> None:
        if set(jobs) != set(study.sites):
            raise StudyError(f"exactly the study's sites must take part: {', '.join(sorted(study.sites))}")
        self.study = study
        self.jobs = dict(jobs)
        self.traffic: dict[str, Traffic] = {}

    def run_step(
        self, step: str, work: Callable[[], T], *, encode: Callable[[T], Any], decode: Callable[[Any], T]
    ) -> T:
        """Start the step at every site, do the work, settle it with the answer; or return the answer it had before.

        Raises
        ------
        SiteFailed
            A site failed. The step stays charged at every site, later steps are voided.
        """
        self.traffic.setdefault(step, Traffic())
        stored = [job.stored(step) for job in self.jobs.values()]
        if all(answer is not None for answer in stored):
            if any(not _same(answer, stored[0]) for answer in stored[1:]):
                raise SynthemaError(f"the sites stored different answers to step {step!r}: verify their ledgers")
            return decode(stored[0])
        with self._charged():
            self.gather(step, lambda job: job.start(step))
            result = work()
            answer = encode(result)
            self.gather(step, lambda job: job.settle(step, answer))
        return result

    def run_site_step(self, step: str, work: Callable[[SiteJob], Any]) -> dict[str, Any]:
        """As `run_step` for a step where each site releases an answer of its own. Returns the answers by site."""
        self.traffic.setdefault(step, Traffic())

        def one(job: SiteJob) -> Any:
            stored = job.stored(step)
            if stored is not None:
                return stored
            job.start(step)
            answer = work(job)
            job.settle(step, answer)
            return answer

        with self._charged():
            return self.gather(step, one)

    def common_key(self, step: str) -> bytes:
        """Return 32 random bytes, drawn here for all sites of this process: nobody else is there to keep them from."""
        del step
        return secrets.token_bytes(32)

    @contextmanager
    def _charged(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # Whatever went wrong, no site is left with an open charge: started steps are posted, others voided.
            for job in self.jobs.values():
                job.abandon()
            raise

    def gather(self, step: str, ask: Callable[[SiteJob], T]) -> dict[str, T]:
        """Ask every site. An unexpected error becomes SiteFailed with the error's type, never its text."""
        replies: dict[str, T] = {}
        for name, job in self.jobs.items():
            try:
                replies[name] = ask(job)
            except SynthemaError:
                raise
            except Exception as error:  # noqa: BLE001 - the text could hold a patient's value
                raise SiteFailed(site=name, step=step, error=type(error).__name__) from None
        return replies

    def compute(
        self, step: str, protocol: Callable[..., Any], contributions: Mapping[str, Sequence[SharePackage]]
    ) -> Any:
        """Run a protocol over all sites' shares and return what party 0 opened (all parties open the same).

        `protocol(session, packages)` runs at each compute party with the packages addressed to it, one per site
        in the order of the study's sites.
        """
        if set(contributions) != set(self.study.sites):
            raise StudyError("a sum over some of the study's sites is never opened")
        n_parties = len(self.study.compute_parties)
        inputs = [[contributions[site][party] for site in self.study.sites] for party in range(n_parties)]
        try:
            run = run_local(protocol, inputs)
        except PartyFailed as failure:
            # What a party says in the words of this package is the reason; that a party failed follows from it.
            if isinstance(failure.__cause__, SynthemaError):
                raise failure.__cause__ from None
            raise
        traffic = self.traffic.setdefault(step, Traffic())
        traffic.bytes_input += sum(package.n_bytes for packages in contributions.values() for package in packages)
        traffic.rounds += run.cost.rounds
        traffic.bytes_sent += run.cost.bytes_sent
        traffic.dealer_bytes += run.cost.dealer_bytes
        traffic.triples += run.cost.triples
        return run.results[0]


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)
