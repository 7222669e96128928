"""Processes that are killed, stopped, or too many; a disk that fills up: what the ledger owes to each of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_writer import await_lines, fork

from privacy import ZeroConcentratedDP
from privacy.ledger import LedgerUnavailable, _sqlite, _sqlite_library, open_ledger, verify

WRITER = Path(__file__).with_name("ledger_writer.py")
KILL_ROUNDS, KILLED_AT_ONCE = 67, 3
# Writers that were killed before they acknowledged more than this in all tested nothing.
LEAST_ACKNOWLEDGED = 200
# What fits, of what is asked for: neither everything nor nothing.
SHARE_THAT_FITS = 0.6137
FAIR_WRITERS, FAIR_SECONDS = 8, 10
# Sample size: with fewer spends in all, shares say nothing.
LEAST_FAIR_SPENDS = 400
LEAST_SHARE = 0.5


def writer(*arguments, seconds=900):
    done = subprocess.run(
        [sys.executable, WRITER, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=seconds
    )
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def open_account(path, epsilon=30.0):
    with open_ledger(f"sqlite:///{path}") as ledger:
        ledger.open_account("aml", epsilon=epsilon, delta=1e-6, neighbours="add_remove_one")


@pytest.mark.parametrize("name", ["sqlite3", "apsw"])
def test_a_ledger_is_kept_by_either_library(tmp_path, monkeypatch, name):
    if name == "apsw":
        pytest.importorskip("apsw")
    monkeypatch.setenv("SYNTHEMA_SQLITE", name)
    _sqlite_library.sqlite_of.cache_clear()
    try:
        assert _sqlite_library.sqlite_of().name == name
        url = f"sqlite:///{tmp_path}/site.db"
        open_account(tmp_path / "site.db")
        with open_ledger(url) as ledger, open_ledger(url) as other:
            with ledger.spend("aml", ZeroConcentratedDP(1e-6), key="a", purpose="p") as spend:
                spend.release("answer")
            assert other.reserve("aml", ZeroConcentratedDP(1e-6), key="a", purpose="p").stored == "answer"
            with pytest.raises(LedgerUnavailable, match=r"no such table|nowhere"), ledger._journal.store.reading():
                ledger._journal.store._open().execute("SELECT * FROM nowhere")
        assert verify(url).ok
        (tmp_path / "none.db").write_bytes(b"no database at all, by far" * 400)
        assert "not a database" in verify(f"sqlite:///{tmp_path}/none.db").problems[0]
    finally:
        _sqlite_library.sqlite_of.cache_clear()


def test_another_library_than_these_two_is_refused(monkeypatch):
    monkeypatch.setenv("SYNTHEMA_SQLITE", "oracle")
    _sqlite_library.sqlite_of.cache_clear()
    with pytest.raises(ValueError, match="SYNTHEMA_SQLITE"):
        _sqlite_library.sqlite_of()


def test_versions_with_the_known_bug_are_known():
    known = _sqlite_library.known_bug
    assert known((3, 7, 0))
    assert known((3, 51, 2))
    assert not known((3, 51, 3))
    assert not known((3, 6, 23))


@pytest.mark.slow
def test_two_hundred_killed_writers_lose_nothing_and_charge_nothing_twice(tmp_path):
    out = writer("crash", tmp_path / "site.db", KILL_ROUNDS, KILLED_AT_ONCE, 20261126)
    assert out["problems"] == []
    released = [line for line in out["said"] if line.startswith("released")]
    assert len(released) > LEAST_ACKNOWLEDGED
    assert "closing" in out["said"]
    # All three ends occurred: the kills were where they hurt.
    assert set(out["retried"].values()) == {"answered", "spent", "anew"}


def test_an_acknowledged_entry_that_vanished_would_be_found(tmp_path):
    """The negative control of the crash test: an old copy of the file is put back under it."""
    from ledger_writer import wrongs

    path = tmp_path / "site.db"
    open_account(path)
    said = ["trying k", "entered k", "released k"]
    assert wrongs(said, {"k": "answered"}, f"sqlite:///{path}") == ["a charge is missing"]
    assert wrongs(said, {"k": "anew"}, f"sqlite:///{path}")[:2] == [
        "entered k, and was then anew",
        "released k, and was then anew",
    ]


def check_crowd(path, workers, requests, sync):
    open_account(path, epsilon=1.0)
    url = f"sqlite:///{path}"
    with open_ledger(url) as ledger:
        rho = ledger.remaining("aml").rho_left / (requests * SHARE_THAT_FITS)
    out = writer("reserve", path, workers, requests, rho, int(sync))
    assert out["codes"] == [0] * workers
    granted = {line.split()[1] for line in out["said"] if line.startswith("granted")}
    assert len(out["said"]) == requests
    with open_ledger(url) as ledger, ledger._journal.reading() as books:
        state = books.account("aml")
        (cost,) = {books.key(key).amounts[0] for key in granted}
        fits, rest = divmod(state.caps[0], cost)
        assert rest > 0
        assert len(granted) == fits
        assert state.reserved[""][0] == fits * cost <= state.caps[0]
        pending = {name.removeprefix("key ") for name, _ in ledger._journal.store.states("key ")}
        assert pending == granted
    assert verify(url).ok


def test_a_crowd_gets_exactly_what_the_cap_holds(tmp_path):
    check_crowd(tmp_path / "site.db", 8, 200, sync=False)


@pytest.mark.slow
def test_ten_thousand_reservations_of_32_workers_get_exactly_what_the_cap_holds(tmp_path):
    check_crowd(tmp_path / "site.db", 32, 10_000, sync=True)


@pytest.mark.slow
def test_writers_are_served_fairly(tmp_path):
    """Statistical: the worst writer gets at least half of the best one's share, over 400 spends or more."""
    path = tmp_path / "site.db"
    open_account(path)
    out = writer("fair", path, FAIR_WRITERS, FAIR_SECONDS)
    assert out["codes"] == [0] * FAIR_WRITERS
    assert sum(out["spends"]) >= LEAST_FAIR_SPENDS, out
    assert min(out["spends"]) >= LEAST_SHARE * max(out["spends"]), out


def test_a_stopped_writer_is_named_and_delays_others_for_a_limited_time(tmp_path):
    path = tmp_path / "site.db"
    open_account(path)
    go_on, let_go = os.pipe()

    def stopped_inside(say):
        with open_ledger(f"sqlite:///{path}") as ledger, ledger._journal.writing() as books:
            ledger._journal.append(books, "note", text="of the stopped one")
            say("inside")
            os.read(go_on, 1)

    pid, pipe = fork(stopped_inside)
    await_lines(pipe, 1)
    os.close(pipe)
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    with open_ledger(f"sqlite:///{path}") as ledger:
        ledger._journal.store.wait_seconds = 0.2
        named = rf"process {pid} .*kill -CONT {pid}" if Path("/proc/locks").exists() else "another process"
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match=named):
                ledger.reserve("aml", ZeroConcentratedDP(1e-6), key="k", purpose="p")
        assert ledger.remaining("aml").rho_reserved == 0  # reading goes on
        os.kill(pid, signal.SIGCONT)
        os.write(let_go, b".")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        # Whoever gave up has left the queue: it is free for the next one, many times.
        ledger._journal.store.wait_seconds = 30.0
        for i in range(3):
            assert ledger.reserve("aml", ZeroConcentratedDP(1e-6), key=f"k{i}", purpose="p").stored is None
        assert "of the stopped one" in [entry.body.get("text") for entry in ledger.entries()]
    os.close(go_on)
    os.close(let_go)
    assert verify(f"sqlite:///{path}").ok


def test_a_ledger_that_is_collected_as_garbage_inside_anothers_commit_does_not_wait_for_it(tmp_path):
    """In a process of its own: waiting, it would wait for itself."""
    path = tmp_path / "site.db"
    open_account(path)
    script = f"""
import gc
from privacy.ledger import open_ledger
left = open_ledger("sqlite:///{path}")
left.itself = left
with open_ledger("sqlite:///{path}") as ledger, ledger._journal.writing() as books:
    ledger._journal.append(books, "note", text="in between")
    del left
    gc.collect()
print("through")
"""
    limit = _sqlite._WAIT_SECONDS / 2
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=limit)
    assert done.stdout == "through\n"


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_acknowledged_and_goes_on_when_there_is_room(tmp_path):
    from test_ledger_crashes import fill

    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this system mounts no small disk")
    try:
        url = f"sqlite:///{tmp_path}/site.db"
        open_account(tmp_path / "site.db")
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(600_000))
        with open_ledger(url) as ledger:
            acknowledged, _ = fill(ledger, "a")
            assert len(acknowledged) > 10
            assert verify(url).ok
            ballast.unlink()
            for key in acknowledged:
                again = ledger.reserve("aml", ZeroConcentratedDP(1e-7), key=key, purpose="x" * 2000)
                assert again.stored == "y" * 2000
            with ledger.spend("aml", ZeroConcentratedDP(1e-7), key="after", purpose="p") as spend:
                spend.release("there is room")
        result = verify(url)
        assert result.ok, result.problems
    finally:
        subprocess.run(["umount", tmp_path], check=True)
