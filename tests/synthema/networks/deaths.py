"""Sites of this process that die at one event of a job, all at once, and what their ledgers say afterwards.

An event is a letter that is posted, a round of a protocol or a word with the dealer, a decision, an ending, and the
moments before and after a charge is started or settled. A death is complete: nothing of a dead site is carried any
more, its connections are closed, and nothing more comes into its ledger.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from network_members import LocalFederation

from privacy.ledger import open_ledger
from smpc.transport import NetworkTransport
from synthema.job import SiteJob
from synthema.networks.in_process import Desk, InsecureLocalHub


class Dead(BaseException):
    """Ends a victim's thread, past every handler of errors."""


class Executioner:
    """Counts the victims' events, all together; at the k-th they die."""

    def __init__(self, federation: LocalFederation, victims: Collection[str], at: int) -> None:
        self.federation, self.victims, self.at = federation, frozenset(victims), at
        self.events = 0
        self.is_over = False
        self._lock = threading.Lock()
        self._lines: dict[str, list[NetworkTransport]] = {}

    def is_dead(self, site: str) -> bool:
        return self.is_over and site in self.victims

    def event(self, site: str) -> None:
        if site not in self.victims:
            return
        with self._lock:
            self.events += 1
            if self.events == self.at:
                self.is_over = True
                self.federation.network.pass_on(self._bury)
        # The carrier of letters is no part of a victim.
        if self.is_over and threading.current_thread().name != "letters":
            for transport in self._lines.get(site, []):
                transport.close()
            raise Dead

    def _bury(self) -> None:
        for site in sorted(self.victims):
            self.federation.network.remove(site)

    @contextmanager
    def at_work(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        post, exchange, connect = Desk.post, NetworkTransport.exchange_blocking, InsecureLocalHub.connect
        start, settle, abandon = SiteJob.start, SiteJob.settle, SiteJob.abandon

        def watched_post(desk: Desk, to: str, letter: Any) -> None:
            self.event(desk._site)
            if not self.is_dead(desk._site):
                post(desk, to, letter)

        def watched_exchange(transport: NetworkTransport, *arguments: Any, **options: Any) -> Any:
            self.event(threading.current_thread().name.removesuffix("-jobs"))
            return exchange(transport, *arguments, **options)

        def watched_connect(hub: InsecureLocalHub, roster: Any, identity: Any, *arguments: Any) -> NetworkTransport:
            site = roster[identity.party].name
            self.event(site)
            transport = connect(hub, roster, identity, *arguments)
            self._lines.setdefault(site, []).append(transport)
            return transport

        def watched_start(job: SiteJob, step: str) -> None:
            self.event(job.site.name)
            start(job, step)
            self.event(job.site.name)

        def watched_settle(job: SiteJob, step: str, answer: Any) -> None:
            self.event(job.site.name)
            settle(job, step, answer)
            self.event(job.site.name)

        def watched_abandon(job: SiteJob) -> None:
            # A dead process abandons nothing.
            if not self.is_dead(job.site.name):
                abandon(job)

        def watched(call: Any) -> Any:
            def counting(desk: Desk, *arguments: Any) -> None:
                self.event(desk._site)
                call(desk, *arguments)

            return counting

        with monkeypatch.context() as patch:
            patch.setattr(Desk, "post", watched_post)
            patch.setattr(NetworkTransport, "exchange_blocking", watched_exchange)
            patch.setattr(InsecureLocalHub, "connect", watched_connect)
            patch.setattr(SiteJob, "start", watched_start)
            patch.setattr(SiteJob, "settle", watched_settle)
            patch.setattr(SiteJob, "abandon", watched_abandon)
            patch.setattr(Desk, "decision", watched(Desk.decision))
            patch.setattr(Desk, "ending", watched(Desk.ending))
            patch.setattr(threading, "excepthook", lambda _: None)
            yield


def open_charges(folder: Path, sites: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Charges that are neither voided nor posted, by site."""
    found = {}
    for site in sites:
        found[site] = ()
        if (folder / f"{site}.db").exists():
            with open_ledger(f"sqlite:///{folder / site}.db", site=site) as ledger:
                found[site] = ledger.open_charges()
    return found


def settle_as_a_restart_does(folder: Path, sites: Collection[str]) -> None:
    """Close what dead agents left open."""
    for site, keys in open_charges(folder, sites).items():
        if keys:
            with open_ledger(f"sqlite:///{folder / site}.db", site=site) as ledger:
                for key in keys:
                    ledger.settle(key)


def draws(folder: Path, sites: Collection[str]) -> Counter[tuple[str, str]]:
    """How often each charge was started, by site and key: each start is a draw of noise."""
    found: Counter[tuple[str, str]] = Counter()
    for site in sites:
        if (folder / f"{site}.db").exists():
            with open_ledger(f"sqlite:///{folder / site}.db", site=site) as ledger:
                found.update((site, entry.body["key"]) for entry in ledger.entries() if entry.kind == "start")
    return found
