"""Many writers, killed writers, full disks: what was acknowledged stays, the cap holds, nothing is half-written."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from privacy import BudgetExceeded, ZeroConcentratedDP
from privacy.ledger import LedgerUnavailable, open_ledger, verify

WRITER = Path(__file__).with_name("ledger_writer.py")
RACERS = 8
FITS = 30
KILL_ROUNDS = 10
KILLED_AT_ONCE = 2
# Writers that were killed before they acknowledged more than this in all tested nothing.
LEAST_ACKNOWLEDGED = 20


def writer(*arguments):
    done = subprocess.run(
        [sys.executable, WRITER, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=120
    )
    assert not done.stderr
    return json.loads(done.stdout)


def test_racing_processes_get_exactly_what_the_cap_holds(tmp_path):
    path = tmp_path / "site.db"
    with open_ledger(f"sqlite:///{path}") as ledger:
        ledger.open_account("aml", epsilon=1.0, delta=1e-6, neighbours="add_remove_one")
        rho = ledger.remaining("aml").rho_left / (FITS + 0.5)
        out = writer("race", path, RACERS, rho)
        assert out["codes"] == [0] * RACERS
        said = [key for keys in out["said"] for key in keys]
        assert len(said) == len(set(said)) == FITS
        assert len(ledger.events("aml")) == FITS
        assert ledger.remaining("aml").rho_left == pytest.approx(rho / 2)
    assert verify(f"sqlite:///{path}").ok


def test_racing_threads_on_one_ledger_get_exactly_what_the_cap_holds(tmp_path):
    url = f"sqlite:///{tmp_path}/site.db"
    granted = []
    with open_ledger(url) as ledger:
        ledger.open_account("aml", epsilon=1.0, delta=1e-6, neighbours="add_remove_one")
        rho = ledger.remaining("aml").rho_left / (FITS + 0.5)

        def work(name):
            for i in range(FITS):
                try:
                    with ledger.spend("aml", ZeroConcentratedDP(rho), key=f"{name}-{i}", purpose="race") as spend:
                        granted.append(spend.release(i))
                except BudgetExceeded:
                    return

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(granted) == len(ledger.events("aml")) == FITS
    assert verify(url).ok


def test_a_race_without_the_lock_would_overspend(tmp_path):
    """The negative control: reading first and writing in a transaction of its own lets two pass where one fits."""
    path = tmp_path / "naive.db"
    with sqlite3.connect(path) as first:
        first.execute("CREATE TABLE spent (x)")
    second = sqlite3.connect(path)
    seen = [db.execute("SELECT count(*) FROM spent").fetchone()[0] for db in (first, second)]
    for db, before in zip((first, second), seen, strict=True):
        if before < 1:
            db.execute("INSERT INTO spent VALUES (1)")
            db.commit()
    assert first.execute("SELECT count(*) FROM spent").fetchone()[0] == 2
    first.close()
    second.close()


def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path):
    path = tmp_path / "site.db"
    url = f"sqlite:///{path}"
    with open_ledger(url) as ledger:
        ledger.open_account("aml", epsilon=30.0, delta=1e-6, neighbours="add_remove_one")
    said = writer("crash", path, KILL_ROUNDS, KILLED_AT_ONCE, 20261124)["said"]
    entered = {line.split()[1] for line in said if line.startswith("entered")}
    released = {line.split()[1] for line in said if line.startswith("released")}
    assert len(entered) > LEAST_ACKNOWLEDGED
    result = verify(url)
    assert result.ok, result.problems
    with open_ledger(url) as ledger:
        started = {entry.body["key"] for entry in ledger.entries() if entry.kind == "start"}
        posted = {entry.body["key"] for entry in ledger.entries() if entry.kind == "post"}
        assert entered <= started
        assert released <= posted <= started
        # What was started and not posted counts all the same: at most one spend a killed writer.
        assert len(started - posted) <= KILL_ROUNDS * KILLED_AT_ONCE
        assert len(ledger.events("aml")) == len(started)
        left = ledger.remaining("aml")
        assert left.rho_spent >= len(started) * 1e-6
        assert left.rho_reserved == 0
        for key in released:
            assert ledger.reserve("aml", ZeroConcentratedDP(1e-6), key=key, purpose="crash").stored == key


class Full:
    """A disk that is full: SQLite may not add a page."""

    def __init__(self, ledger):
        self.connection = ledger._journal.store._open()

    def __enter__(self):
        pages = self.connection.execute("PRAGMA page_count").fetchone()[0]
        self.connection.execute(f"PRAGMA max_page_count = {pages}")

    def __exit__(self, *_):
        self.connection = None


def fill(ledger, prefix):
    """Spend until the disk is full; return the acknowledged keys and the error."""
    acknowledged = []
    try:
        for i in range(1000):
            with ledger.spend("aml", ZeroConcentratedDP(1e-7), key=f"{prefix}{i}", purpose="x" * 2000) as spend:
                spend.release("y" * 2000)
            acknowledged.append(f"{prefix}{i}")
    except LedgerUnavailable as error:
        return acknowledged, error
    pytest.fail("the disk did not fill up")


def test_a_full_disk_refuses_cleanly_and_the_ledger_goes_on_when_there_is_room(ledger, url):
    with Full(ledger):
        acknowledged, error = fill(ledger, "a")
    assert "full" in str(error)
    assert verify(url).ok
    # The connection was dropped with the error: the next use starts from what is on disk.
    with ledger.spend("aml", ZeroConcentratedDP(1e-7), key="after", purpose="p") as spend:
        spend.release(1)
    with open_ledger(url) as other:
        posted = {entry.body["key"] for entry in other.entries() if entry.kind == "post" and entry.body["answer"]}
        assert posted == {*acknowledged, "after"}
        assert other.head == ledger.head
        assert other.remaining("aml") == ledger.remaining("aml")
    assert verify(url).ok


def test_an_answer_that_did_not_fit_can_be_released_again_in_the_same_block(ledger, url):
    with ledger.spend("aml", ZeroConcentratedDP(1e-7), key="k", purpose="p") as spend:
        with Full(ledger), pytest.raises(LedgerUnavailable):
            spend.release("z" * 100_000)
        assert ledger.entries()[-1].kind == "start"
        assert spend.release("z" * 100_000) == "z" * 100_000
    assert verify(url).ok


def test_a_block_left_on_a_full_disk_raises_its_own_error_and_counts(ledger, url):
    def work():
        with ledger.spend("aml", ZeroConcentratedDP(1e-7), key="k", purpose="p"):
            ledger._journal.store.append = fail
            raise ZeroDivisionError

    def fail(*_):
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(ZeroDivisionError):
        work()
    del ledger._journal.store.append
    assert ledger.events("aml") == (ZeroConcentratedDP(1e-7),)
    assert [entry.kind for entry in ledger.entries()][-1] == "start"
    assert verify(url).ok


@pytest.mark.parametrize("step", ["append", "put_answer", "put_states"])
@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), OSError(5, "I/O"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [False, True])
def test_a_failure_at_any_step_rolls_back_as_a_whole(ledger, url, step, error, after):
    with ledger.spend("aml", ZeroConcentratedDP(1e-7), key="k", purpose="p") as spend:
        before = ledger.entries()
        original = getattr(ledger._journal.store, step)

        def failing(*arguments):
            if after:
                original(*arguments)
            raise error

        setattr(ledger._journal.store, step, failing)
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else LedgerUnavailable):
            spend.release(1)
        delattr(ledger._journal.store, step)
        with open_ledger(url) as other:
            assert other.entries() == before
        assert ledger.entries() == before
        assert spend.release(2) == 2
    assert verify(url).ok


def test_a_commit_that_failed_after_reaching_the_disk_is_not_done_twice(ledger, url, monkeypatch):
    import contextlib

    with ledger.spend("aml", ZeroConcentratedDP(1e-7), key="k", purpose="p") as spend:
        original = ledger._journal.store._transaction

        @contextlib.contextmanager
        def late(begin):
            with original(begin):
                yield
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(ledger._journal.store, "_transaction", late)
        with pytest.raises(LedgerUnavailable):
            spend.release("first")
        monkeypatch.undo()
        assert spend.release("second") == "first"
    assert [entry.kind for entry in ledger.entries()].count("post") == 1
    assert verify(url).ok


def test_a_file_size_limit_is_met_like_a_full_disk(tmp_path):
    """The operating system itself refuses the write, in a process of its own."""
    path = tmp_path / "site.db"
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_ledger_crashes import fill
from privacy.ledger import open_ledger
with open_ledger("sqlite:///{path}") as ledger:
    ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    acknowledged, error = fill(ledger, "a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ledger.note("there is room again")
    print(len(acknowledged))
"""
    assert resource.RLIMIT_FSIZE
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    acknowledged = int(done.stdout)
    assert acknowledged > 2
    result = verify(f"sqlite:///{path}")
    assert result.ok, result.problems
    with open_ledger(f"sqlite:///{path}") as ledger:
        answered = [entry for entry in ledger.entries() if entry.kind == "post" and entry.body["answer"]]
        assert len(answered) >= acknowledged
        assert ledger.entries()[-1].body["text"] == "there is room again"


def test_a_log_without_its_ledger_is_not_mixed_into_a_new_one(tmp_path):
    (tmp_path / "site.db-wal").write_bytes(b"frames of a ledger that is gone")
    from privacy import LedgerCorrupt

    with pytest.raises(LedgerCorrupt, match="log"):
        open_ledger(f"sqlite:///{tmp_path}/site.db")
    assert not (tmp_path / "site.db").exists()
