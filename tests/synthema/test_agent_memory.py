"""What an agent remembers over a kill, and what its ledger looks like after the next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from privacy import Gaussian
from privacy.ledger import LedgerRefused, open_ledger
from synthema.agent.memory import Memory

JOB, OTHER = "a" * 64, "b" * 64


def _phases(memory: Memory) -> dict[str, str]:
    return {job.job_id: job.phase for job in memory.unfinished()}


def test_a_cancelled_job_is_not_considered_again_and_is_over_when_its_reservations_are_back(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    memory = Memory(path)
    memory.keep_offer(JOB, 1, b"study", sequence=1)
    memory.decide(JOB, "accepted")
    memory.cancel(JOB, sequence=2)
    memory.close()
    # Killed before the ledger was told: the next start finds it.
    memory = Memory(path)
    assert _phases(memory) == {JOB: "cancelled"}
    assert memory.handled == 2
    # A decision that was under way does not bring it back.
    memory.decide(JOB, "accepted")
    assert _phases(memory) == {JOB: "cancelled"}
    memory.drop(JOB)
    assert _phases(memory) == {}
    memory.close()


def test_a_cancellation_leaves_what_runs_and_what_was_offered_again(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "jobs.db")
    memory.keep_offer(JOB, 1, b"study", sequence=1)
    memory.enter(JOB, "running", attempt=1, sequence=2)
    memory.cancel(JOB, sequence=3)
    assert _phases(memory) == {JOB: "running"}
    # The next attempt is offered while the first is still at its end.
    memory.keep_offer(JOB, 2, b"study", sequence=4)
    memory.end(JOB, 1)
    memory.drop(JOB)
    assert _phases(memory) == {JOB: "offered"}
    memory.end(JOB, 2)
    assert _phases(memory) == {}
    memory.close()


def test_charges_of_a_holder_that_is_gone_are_closed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    event = Gaussian(noise_multiplier=5.0)
    with open_ledger(url, site="vienna") as ledger:
        ledger.open_account("private", epsilon=5.0, delta=1e-6, neighbours="add_remove_one")

        def reserve(key: str) -> object:
            return ledger.reserve("private", event, key=key, purpose="a test", data_version="1")

        started, kept = reserve(f"{JOB}/one"), reserve(f"{OTHER}/one")
        reserve(f"{JOB}/two")
        started.start()  # type: ignore[attr-defined]
        kept.start()  # type: ignore[attr-defined]
        before = ledger.remaining("private").rho_spent
    # The process is gone; what it held is closed by the next.
    with open_ledger(url, site="vienna") as ledger:
        assert ledger.open_charges() == (f"{JOB}/one", f"{OTHER}/one", f"{JOB}/two")
        for key in (f"{JOB}/one", f"{JOB}/two", "never there"):
            ledger.settle(key)
        assert ledger.open_charges() == (f"{OTHER}/one",)
        # What was started stays charged, as often as one says so; what was not is given back.
        assert ledger.remaining("private").rho_spent == before
        ledger.settle(f"{JOB}/one")
        assert ledger.remaining("private").rho_spent == before
        with pytest.raises(LedgerRefused):
            ledger.void(f"{JOB}/two")
