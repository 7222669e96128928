"""Hub, agents and dealer in processes of their own, and SIGKILL: a right result or a typed failure, no charge lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network_members import SITES, small_frames, small_study

from privacy.ledger import load_key, open_ledger, verify
from synthema.agent.config import SiteConfig
from synthema.errors import SiteFailed, SiteRefused
from synthema.local_federation import LocalFederation, Running, make_federation, running
from synthema.researcher import ResearchDesk, ResearcherConfig

pytestmark = pytest.mark.slow

KILLED_AT = Path(__file__).with_name("killed_at.py")
# Seconds: for a contribution, a round, a site that left.
PATIENCE = (20.0, 10.0, 2.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> LocalFederation:
    folder = tmp_path_factory.mktemp("federation") / "all"
    found = make_federation(
        folder, _study("first"), small_frames(), policy="approximate_delta = 1e-9", witnesses=1, patience=PATIENCE
    )
    for site in SITES:
        file = found.site(site) / "site.toml"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("epsilon_cap = ", "epsilon_cap = 9", 1), encoding="utf-8")
    return found


@pytest.fixture
def processes(made: LocalFederation) -> Iterator[Running]:
    with running(made) as found:
        yield found


def _study(name: str, mechanism: str = "mst") -> Any:
    return small_study(
        name, epsilon=0.5, federation={"dealer": "trust-office"}, synthesis={"rows": 20, "mechanism": mechanism}
    )


def _submit(made: LocalFederation, name: str, **options: float) -> dict[str, Any]:
    with ResearchDesk(ResearcherConfig.load(made.researcher)) as desk:
        return desk.submit(_study(name), **({"decide_seconds": 60.0, "run_seconds": 90.0} | options))


def _charges(made: LocalFederation) -> dict[str, tuple[float, int]]:
    """What each ledger has spent, and how many charges are open, read from its file; each verifies."""
    found = {}
    for site in SITES:
        config = SiteConfig.load(made.site(site))
        assert verify(config.ledger_url).ok
        with open_ledger(config.ledger_url, site=site, signer=load_key(config.place(config.keys.ledger))) as ledger:
            opened = "private" in [account.name for account in ledger.accounts()]
            found[site] = (ledger.remaining("private").rho_spent if opened else 0.0, len(ledger.pending()))
    return found


def _restart(processes: Running, member: str, at: int | None = None) -> subprocess.Popen[bytes]:
    process = processes.processes[member]
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(15)
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


@pytest.mark.usefixtures("processes")
def test_a_study_over_processes_with_a_witness_for_every_spend(made: LocalFederation) -> None:
    result = _submit(made, "plain")
    assert len(result["synthetic"].splitlines()) == 21
    charges = _charges(made)
    assert len(set(charges.values())) == 1
    for site in SITES:
        config = SiteConfig.load(made.site(site))
        with open_ledger(config.ledger_url, site=site, signer=load_key(config.place(config.keys.ledger))) as ledger:
            note = ledger.cosigned
        assert note is not None
        assert "/witness" in note


@pytest.mark.parametrize("victim", ["vienna", "milan"])
def test_sigkill_at_every_step_of_a_site(made: LocalFederation, processes: Running, victim: str) -> None:
    at, deaths = 1, 0
    while True:
        doomed = _restart(processes, victim, at)
        before = _charges(made)
        how = "done"
        blamed = victim
        began = time.monotonic()
        try:
            _submit(made, f"{victim}-{at}", decide_seconds=8.0)
        except SiteFailed as failed:
            how, blamed = "failed", failed.site
        except SiteRefused as refused:
            how, blamed = "refused", refused.site
        took = time.monotonic() - began
        assert blamed == victim, (at, how, blamed)
        died = doomed.poll() == -signal.SIGKILL
        if not died:
            # It came to the end: there were fewer events.
            assert how == "done"
            break
        deaths += 1
        assert took < sum(PATIENCE) + 30
        # The victim comes back and settles what it left open; the others have nothing open.
        _restart(processes, victim)
        time.sleep(0.5)
        after = _charges(made)
        paid = {site for site in SITES if after[site][0] + after[site][1] > before[site][0] + before[site][1]}
        if how == "done":
            assert paid == set(SITES)
        assert all(after[site][1] == 0 for site in SITES if site != victim), (at, how, after)
        at += 3
    assert deaths >= 8


def test_a_hub_that_is_killed_in_the_middle_of_a_job(made: LocalFederation, processes: Running) -> None:
    import threading

    for delay in (0.3, 0.8, 1.5):
        before = _charges(made)
        how: list[str] = []

        def submit(name: str = f"hub-{delay}", how: list[str] = how) -> None:
            try:
                _submit(made, name)
                how.append("done")
            except SiteFailed as failed:
                how.append(f"failed {failed.site}")

        submitting = threading.Thread(target=submit)
        submitting.start()
        time.sleep(delay)
        hub = processes.processes["hub"]
        os.kill(hub.pid, signal.SIGKILL)
        hub.wait(5)
        time.sleep(0.3)
        processes.start("hub")
        submitting.join(120)
        assert how, "the job neither ended nor failed"
        time.sleep(1.0)
        after = _charges(made)
        assert all(open_charges == 0 for _, open_charges in after.values()), (delay, how, after)
        if how == ["done"]:
            assert all(after[site][0] > before[site][0] for site in SITES)
    # The federation is as good as before.
    assert _submit(made, "after-all")["synthetic"]
