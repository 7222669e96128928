"""One site dies at every step of a job: a right result or a typed failure, in time, and no charge lost.

A death is complete: from the k-th event of the victim on (a letter that it posts, a round that it takes part in, an
entry in its ledger) nothing of it is carried any more and its connections are closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from network_members import SITES, LocalFederation, small_study

from smpc.transport import NetworkTransport
from synthema.errors import SiteFailed, SiteRefused, SynthemaError
from synthema.job import SiteJob
from synthema.networks.base import Patience
from synthema.networks.in_process import Desk

# All that a healthy site may need on a busy machine; what a test waits for a dead one.
GATHER = 3.0
PATIENCE = Patience(gather=GATHER, round=1.0, away=0.3)


class _Dead(BaseException):
    """Ends the victim's thread, past every handler of errors."""


class _Executioner:
    """Counts the victim's events; at the k-th it dies."""

    def __init__(self, federation: LocalFederation, victim: str, at: int) -> None:
        self.federation, self.victim, self.at = federation, victim, at
        self.events = 0
        self.is_dead = False
        self._lock = threading.Lock()

    def event(self, site: str) -> None:
        if site != self.victim:
            return
        with self._lock:
            self.events += 1
            if self.events == self.at:
                self.is_dead = True
                self.federation.network.pass_on(lambda: self.federation.network.remove(self.victim))
        # The carrier of letters is no part of the victim.
        if self.is_dead and threading.current_thread().name != "letters":
            raise _Dead

    @contextmanager
    def at_work(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        post, exchange, decide, end = Desk.post, NetworkTransport.exchange_blocking, Desk.decision, Desk.ending
        start, settle = SiteJob.start, SiteJob.settle

        def watched_post(desk: Desk, to: str, letter: Any) -> None:
            self.event(desk._site)
            if not (self.is_dead and desk._site == self.victim):
                post(desk, to, letter)

        def watched_exchange(transport: NetworkTransport, *arguments: Any, **options: Any) -> Any:
            name = threading.current_thread().name.removesuffix("-jobs")
            if name == self.victim:
                try:
                    self.event(name)
                except _Dead:
                    transport.close()
                    raise
            return exchange(transport, *arguments, **options)

        def watched_start(job: SiteJob, step: str) -> None:
            self.event(job.site.name)
            start(job, step)
            self.event(job.site.name)

        def watched_settle(job: SiteJob, step: str, answer: Any) -> None:
            self.event(job.site.name)
            settle(job, step, answer)
            self.event(job.site.name)

        def unless_dead(call: Any) -> Any:
            def watched(desk: Desk, *arguments: Any) -> None:
                self.event(desk._site)
                call(desk, *arguments)

            return watched

        with monkeypatch.context() as patch:
            patch.setattr(Desk, "post", watched_post)
            patch.setattr(NetworkTransport, "exchange_blocking", watched_exchange)
            patch.setattr(SiteJob, "start", watched_start)
            patch.setattr(SiteJob, "settle", watched_settle)
            patch.setattr(Desk, "decision", unless_dead(decide))
            patch.setattr(Desk, "ending", unless_dead(end))
            # A dead process abandons nothing.
            patch.setattr(SiteJob, "abandon", self._unless_dead_abandon(SiteJob.abandon))
            patch.setattr(threading, "excepthook", lambda _: None)
            yield

    def _unless_dead_abandon(self, abandon: Any) -> Any:
        def watched(job: SiteJob) -> None:
            if not (self.is_dead and job.site.name == self.victim):
                abandon(job)

        return watched


def _die(federation: LocalFederation, victim: str, at: int, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """Run one job in which the victim dies; return how it ended, and how many events there were."""
    executioner = _Executioner(federation, victim, at)
    study = small_study(f"death-{victim}-{at}", epsilon=0.5)
    with executioner.at_work(monkeypatch):
        began = time.monotonic()
        blamed = victim
        try:
            federation.run(study, offer_within=GATHER, within=4 * GATHER)
            how = "done"
        except SiteFailed as failed:
            how, blamed = "failed", failed.site
        except SiteRefused as refused:
            how = f"refused {refused.site}"
        assert blamed == victim
        took = time.monotonic() - began
    assert not executioner.is_dead or took < 4 * GATHER + 1
    return how, executioner.events


def _tries(tmp_path: Path, victim: str, at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let the victim die at one event, and look at all ledgers; return whether it came to that event."""
    folder = tmp_path / f"{victim}-{at}"
    folder.mkdir()
    federation = LocalFederation(folder, patience=PATIENCE)
    federation.begin()
    try:
        how, events = _die(federation, victim, at, monkeypatch)
    finally:
        federation.network.close()
    federation.agents.clear()
    spent = federation.spent()
    pending = {site: _reserved(folder, site) for site in SITES}
    if how == "done":
        # All that was opened is paid for, also by a site that died after it had given its shares.
        assert min(spent[site] + pending[site] for site in SITES) > 0
    # The others have no charge open: it was posted, or voided.
    assert all(pending[site] == 0 for site in SITES if site != victim), (how, pending)
    return events >= at


def _reserved(folder: Path, site: str) -> float:
    from privacy.ledger import open_ledger

    if not (folder / f"{site}.db").exists():
        return 0.0
    with open_ledger(f"sqlite:///{folder / site}.db", site=site) as ledger:
        return float(len(ledger.pending()))


@pytest.mark.parametrize("victim", ["vienna", "milan"])
def test_a_site_dies_at_some_steps(tmp_path: Path, victim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (1, 3, 7):
        _tries(tmp_path, victim, at, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("victim", SITES)
def test_a_site_dies_at_every_step(tmp_path: Path, victim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = 1
    while _tries(tmp_path, victim, at, monkeypatch):
        at += 1
        assert at < 200
    # Offer, hello, shares, rounds, settling and ending were all reached.
    assert at > 12


def test_what_ended_a_job_is_always_one_of_the_typed_errors() -> None:
    assert issubclass(SiteFailed, SynthemaError)
    assert issubclass(SiteRefused, SynthemaError)
