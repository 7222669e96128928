"""Many writers, killed writers, ended sessions: what was acknowledged stays, and the cap holds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from privacy import LedgerCorrupt, ZeroConcentratedDP
from privacy.ledger import LedgerUnavailable, _postgres_link, open_ledger, verify

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.postgres

WRITER = Path(__file__).with_name("postgres_writer.py")
KILL_ROUNDS = 12
KILLED_AT_ONCE = 2
LEAST_ACKNOWLEDGED = 20
# Where a session ends: after which of the steps of a commit.
STEPS = ["append", "put_states", "guard"]
ONE = ZeroConcentratedDP(1e-7)


@pytest.fixture
def answer_key(tmp_path):
    return tmp_path / "answers.key"


@pytest.fixture
def url(database, answer_key):
    with open_ledger(database, answer_key=answer_key) as ledger:
        ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
    return database


@pytest.fixture
def ledger(url, answer_key):
    with open_ledger(url, answer_key=answer_key) as opened:
        yield opened


def writer(url, *arguments, timeout=1800):
    done = subprocess.run(
        [sys.executable, WRITER, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "LEDGER_URL": url},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def units(text):
    return int(text.replace(".", ""))


@pytest.mark.parametrize(
    ("writers", "each"), [(16, 63), pytest.param(32, 313, marks=pytest.mark.slow)], ids=["1,000", "10,000"]
)
def test_concurrent_reservations_get_exactly_what_the_cap_holds(url, answer_key, writers, each):
    tries = writers * each
    with open_ledger(url) as ledger:
        rho = ledger.remaining("aml").rho_left / (tries * 0.7)
    out = writer(url, "reserve", answer_key, writers, each, rho)
    assert out["codes"] == [0] * writers
    granted = {line.split()[1] for line in out["said"] if line.startswith("granted")}
    assert len(out["said"]) == len(set(out["said"])) == tries
    with open_ledger(url, check="head") as ledger:
        entries = ledger.entries()
        pending = set(ledger.pending())
    cap = next(units(e.body["caps"][0]) for e in entries if e.kind == "open_account")
    costs = {e.body["key"]: units(e.body["amounts"][0]) for e in entries if e.kind == "reserve"}
    (cost,) = set(costs.values())
    # Overspent: none. Lost: none. Exactly as many as fit.
    assert len(granted) == cap // cost < tries
    assert granted == set(costs) == pending
    result = verify(url)
    assert result.ok, result.problems


def test_the_same_race_by_reading_first_and_writing_without_a_lock_overspends(url, server):
    """The negative control: the harness does bring two writers to the same moment."""
    from postgres_server import database_of

    name, writers, each = database_of(url), 16, 63
    fits = round(0.7 * writers * each)
    server.execute("CREATE TABLE naive (x text)", database=name)
    out = writer(url, "naive", ".", writers, each, fits)
    granted = [line for line in out["said"] if line.startswith("granted")]
    assert server.execute("SELECT count(*) FROM naive", database=name) == [(len(granted),)]
    assert len(granted) > fits


def test_killed_writers_lose_nothing_that_was_acknowledged(url, answer_key):
    out = writer(url, "crash", answer_key, KILL_ROUNDS, KILLED_AT_ONCE, 20261126)
    assert out["problems"] == []
    assert len([line for line in out["said"] if line.startswith("entered")]) > LEAST_ACKNOWLEDGED
    assert {"answered", "spent"} <= set(out["retried"].values()), "some were killed late, and some in between"
    result = verify(url)
    assert result.ok, result.problems
    with open_ledger(url, answer_key=answer_key) as ledger:
        assert ledger.remaining("aml").rho_reserved == 0


def end_sessions(server, url):
    from postgres_server import database_of

    server.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = '{database_of(url)}' AND application_name = 'synthema-ledger'"
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_session_that_is_ended_in_mid_transaction_leaves_nothing_half_written(ledger, url, server, step, after):
    with ledger.spend("aml", ONE, key="k", purpose="p") as spend:
        before = ledger.entries()
        store = ledger._journal.store
        original = getattr(store, step)

        def ended(*arguments):
            if after:
                original(*arguments)
            end_sessions(server, url)
            if not after:
                original(*arguments)

        setattr(store, step, ended)
        with pytest.raises(LedgerUnavailable, match="same key"):
            spend.release(1)
        delattr(store, step)
        # The next use connects again.
        assert ledger.entries() == before
        assert spend.release(2) == 2
    assert verify(url).ok


def test_a_session_that_is_ended_between_two_uses_is_an_error_once(ledger, url, server):
    end_sessions(server, url)
    with pytest.raises(LedgerUnavailable, match="same key"), ledger.spend("aml", ONE, key="k", purpose="p"):
        pytest.fail("the block must not run")
    with ledger.spend("aml", ONE, key="k", purpose="p") as spend:
        spend.release(1)
    assert verify(url).ok


@pytest.mark.parametrize("error", [psycopg.OperationalError("gone"), OSError(5, "I/O"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", [*STEPS, "put_answer"])
def test_a_failure_at_any_step_rolls_back_as_a_whole(ledger, url, step, error):
    with ledger.spend("aml", ONE, key="k", purpose="p") as spend:
        before = ledger.entries()
        original = getattr(ledger._journal.store, step)

        def failing(*arguments):
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


def test_a_commit_whose_confirmation_was_lost_is_not_done_twice(ledger, url, monkeypatch):
    with ledger.spend("aml", ONE, key="k", purpose="p") as spend:
        original = ledger._journal.store._transaction

        @contextlib.contextmanager
        def late(begin):
            with original(begin) as found:
                yield found
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(ledger._journal.store, "_transaction", late)
        with pytest.raises(LedgerUnavailable):
            spend.release("first")
        monkeypatch.undo()
        assert spend.release("second") == "first"
    assert [entry.kind for entry in ledger.entries()].count("post") == 1
    assert verify(url).ok


def test_an_error_that_was_swallowed_inside_a_transaction_does_not_pass_for_a_commit(ledger):
    store = ledger._journal.store
    with pytest.raises(LedgerUnavailable, match="had failed"), store.writing(), contextlib.suppress(psycopg.Error):
        store._open().execute("SELECT 1 / 0")
    ledger.note("goes on")


def test_a_dead_client_blocks_the_others_for_a_while_and_not_for_ever(ledger, url, answer_key, monkeypatch):
    monkeypatch.setattr(_postgres_link, "IDLE_SECONDS", 3.0)
    with open_ledger(url, answer_key=answer_key) as dead:
        monkeypatch.setattr(_postgres_link, "LOCK_SECONDS", 0.2)
        with open_ledger(url, answer_key=answer_key) as hasty:
            monkeypatch.setattr(_postgres_link, "LOCK_SECONDS", 60.0)
            silent = contextlib.ExitStack()
            silent.enter_context(dead._journal.store.writing())
            with pytest.raises(LedgerUnavailable, match="pg_terminate_backend"):
                hasty.note("cannot wait")
            with open_ledger(url, answer_key=answer_key) as patient:
                patient.note("waited until the server ended the silent session")
            with pytest.raises(LedgerUnavailable, match="same key"):
                silent.close()
            hasty.note("nobody holds it")
    assert [entry.body["text"] for entry in ledger.entries()[-2:]] == [
        "waited until the server ended the silent session",
        "nobody holds it",
    ]


def test_an_entry_that_somebody_writes_without_waiting_in_the_queue_is_not_written_twice(ledger, url, server):
    """Another program, or a defect of ours: the primary key is the last line."""
    from postgres_server import database_of

    store = ledger._journal.store
    original = store.append

    def overtaken(rows):
        with contextlib.closing(server.connect(database_of(url))) as other:
            other.execute("INSERT INTO synthema_ledger.entry VALUES (%s, %s, %s)", rows[0])
        original(rows)

    store.append = overtaken
    with pytest.raises(LedgerUnavailable, match="without waiting"):
        ledger.note("x")
    del store.append
    with pytest.raises(LedgerCorrupt, match="not where the journal stands"):
        ledger.note("x")
    assert not verify(url).ok
