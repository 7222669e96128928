"""Hub, agents and dealer in processes of their own, and SIGKILL: a right result or a typed failure, no charge lost.

Every step is enumerated with threads (`test_kills`); here are real processes, and some steps.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network_members import SITES, small_frames, small_study

from privacy.ledger import Ledger, load_key, open_ledger, verify
from synthema.agent.config import SiteConfig
from synthema.errors import JobFailed, SiteFailed, SiteRefused
from synthema.local_federation import LocalFederation, Running, make_federation, running
from synthema.researcher import ResearchDesk, ResearcherConfig

pytestmark = pytest.mark.slow

KILLED_AT = Path(__file__).with_name("killed_at.py")
# Seconds: for a contribution, a round, a site that left.
PATIENCE = (20.0, 10.0, 2.0)
DECIDE = 10.0
# The longest wait there is, the second to ask who it was, and what a busy machine may add.
DEADLINE, BUSY = PATIENCE[0] + PATIENCE[1] + 1.0, 20.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> LocalFederation:
    folder = tmp_path_factory.mktemp("federation") / "all"
    found = make_federation(
        folder,
        _study("first"),
        small_frames(),
        policy="approximate_delta = 1e-9",
        studies=60,
        witnesses=1,
        patience=PATIENCE,
    )
    for site in SITES:
        # Many studies, each of which sets a part of delta aside.
        file = found.site(site) / "site.toml"
        file.write_text(
            file.read_text(encoding="utf-8").replace("delta_cap = 1e-06", "delta_cap = 1e-4"), encoding="utf-8"
        )
    return found


@pytest.fixture(scope="module")
def processes(made: LocalFederation) -> Iterator[Running]:
    with running(made) as found:
        yield found


def _study(name: str) -> Any:
    return small_study(
        name, epsilon=0.5, federation={"dealer": "trust-office"}, synthesis={"rows": 20, "mechanism": "mst"}
    )


def _outcome(made: LocalFederation, name: str, *, decide_seconds: float = DECIDE) -> tuple[str, str]:
    """Submit a study; return how it ended, and who is named."""
    with ResearchDesk(ResearcherConfig.load(made.researcher)) as desk:
        try:
            desk.submit(_study(name), decide_seconds=decide_seconds, run_seconds=60.0)
        except SiteFailed as failed:
            return f"failed: {failed.error}", failed.site
        except SiteRefused as refused:
            return f"refused {refused.reason}", refused.site
        except JobFailed as failed:
            return f"failed: {failed}", failed.rule
        return "done", ""


def _ledger(made: LocalFederation, site: str) -> Ledger:
    config = SiteConfig.load(made.site(site))
    return open_ledger(config.ledger_url, site=site, signer=load_key(config.place(config.keys.ledger)))


def _spent(made: LocalFederation) -> dict[str, float]:
    """What each ledger has spent, read from its file; each verifies, and no charge was started twice."""
    found = {}
    for site in SITES:
        assert verify(SiteConfig.load(made.site(site)).ledger_url).ok
        with _ledger(made, site) as ledger:
            starts = [entry.body["key"] for entry in ledger.entries() if entry.kind == "start"]
            assert len(set(starts)) == len(starts)
            opened = "private" in [account.name for account in ledger.accounts()]
            found[site] = ledger.remaining("private").rho_spent if opened else 0.0
    return found


def _open_charges(made: LocalFederation, site: str, *, within: float = 10.0) -> tuple[str, ...]:
    """Charges that are still open after a while; those who live close theirs when they hear that a job is over."""
    deadline = time.monotonic() + within
    while True:
        with _ledger(made, site) as ledger:
            found = ledger.open_charges()
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _restart(processes: Running, member: str, at: int | None = None) -> subprocess.Popen[bytes]:
    process = processes.processes[member]
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    log = processes.made.folder / f"{member}.log"
    log.write_bytes(b"")
    if at is None:
        started = processes.start(member)
    else:
        command = [sys.executable, str(KILLED_AT), str(at), *processes.made.commands[member]]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with log.open("ab") as file:
            started = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        processes.processes[member] = started
    processes.wait_until_ready()
    return started


def test_a_study_over_processes_with_a_witness_for_every_spend(made: LocalFederation, processes: Running) -> None:
    assert processes.processes.keys() == {"hub", *SITES, "dealer"}
    assert _outcome(made, "plain") == ("done", "")
    assert len(set(_spent(made).values())) == 1
    for site in SITES:
        assert not _open_charges(made, site)
        with _ledger(made, site) as ledger:
            note = ledger.cosigned
        assert note is not None
        assert "/witness" in note


# A lead that is a compute party; and a party that is not the lead: at a decision, hellos, the dealer, rounds, the end.
@pytest.mark.parametrize(("victim", "steps"), [("vienna", (40,)), ("milan", (12,))])
def test_sigkill_of_a_site(made: LocalFederation, processes: Running, victim: str, steps: tuple[int, ...]) -> None:
    for at in steps:
        name = f"{victim}-{at}"
        doomed = _restart(processes, victim, at)
        # What the process before left open is closed: at the start, or when the hub says that the job is over.
        assert not _open_charges(made, victim), at
        before = _spent(made)
        began = time.monotonic()
        how, named = _outcome(made, name)
        took = time.monotonic() - began
        assert doomed.wait(10) == -signal.SIGKILL, (at, how)
        assert how == "done" or named == victim, (at, how, named)
        assert took < DEADLINE + BUSY, (at, how, took)
        for site in SITES:
            if site != victim:
                assert not _open_charges(made, site), (at, how, site)
        _restart(processes, victim)
        assert not _open_charges(made, victim), (at, how)
        after = _spent(made)
        if how == "done":
            assert all(after[site] > before[site] for site in SITES), (at, before, after)
        # The same again: the stored answer, or "spent", at no cost; a new charge only if nothing was charged.
        again, _ = _outcome(made, name)
        if after != before:
            assert again == ("done" if how == "done" else "refused spent"), (at, how, again)
            assert _spent(made) == after, (at, how, again)
        else:
            assert again == "done", (at, how, again)


def test_a_hub_that_is_killed_in_the_middle_of_a_job(made: LocalFederation, processes: Running) -> None:
    for delay in (0.5,):
        before = _spent(made)
        how: list[tuple[str, str]] = []

        def submit(name: str = f"hub-{int(10 * delay)}", how: list[tuple[str, str]] = how) -> None:
            how.append(_outcome(made, name, decide_seconds=60.0))

        submitting = threading.Thread(target=submit)
        submitting.start()
        # From the time when the researcher is connected.
        time.sleep(0.5 + delay)
        hub = processes.processes["hub"]
        os.kill(hub.pid, signal.SIGKILL)
        hub.wait(5)
        processes.start("hub")
        submitting.join(DEADLINE + BUSY + 60.0)
        assert how, "the job neither ended nor failed"
        for site in SITES:
            assert not _open_charges(made, site), (delay, how, site)
        after = _spent(made)
        if how[0][0] == "done":
            assert all(after[site] > before[site] for site in SITES)
        else:
            # No site is blamed for a hub that died.
            assert how[0][1] not in SITES, (delay, how)
    # The federation is as good as before.
    assert _outcome(made, "after-all") == ("done", "")
