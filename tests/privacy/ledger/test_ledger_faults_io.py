"""Every I/O call fails once, and every one from there on: nothing acknowledged is lost, nothing is half there.

A run makes a ledger, spends, reserves, starts and releases; call number n fails, for n = 1, 2, ... until a run is over
before its failure comes. The suite takes a sample of the calls, the slow variant all of them.
"""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from privacy import PrivacyError, SpentWithoutAnswer, ZeroConcentratedDP
from privacy.ledger import LedgerUnavailable, _sqlite, _sqlite_library, open_ledger, verify

pytest.importorskip("apsw")
from failing_disk import Disk

# Errors that SQLite has no place for, on closing.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

EVENT = ZeroConcentratedDP(1e-6)
# A run makes more calls than this, or the disk is not below the ledger.
LEAST_CALLS = 150
# The suite fails every so-manieth call, beginning with another one in each way of failing.
STRIDE = 41
WAYS = {
    "once": {},
    "from there on": {"sticky": True},
    "once, after the work": {"after": True},
    "from there on, no room": {"sticky": True, "full": True},
}


@pytest.fixture(params=["files", "system"])
def disk(request):
    made = Disk(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sqlite, "connect", made.connect)
        library = _sqlite_library.Library("apsw", (3, 51, 3))
        patch.setattr(_sqlite_library, "sqlite_of", lambda: library)
        yield made
    made.remove()


class Run:
    """What a site does, step by step. `entries`: what each step that returned has put into the journal."""

    def __init__(self, path):
        self.url = f"sqlite:///{path}"
        self.ledger = None
        self.spend = self.reservation = None
        self.done = []
        # In this order; a failed step is tried again.
        self.steps = [
            (self.open, ["note"]),
            (self.open_account, ["open_account aml"]),
            (self.enter, ["reserve a", "start a"]),
            (self.release, ["post a"]),
            (self.reserve, ["reserve b"]),
            (self.look, []),
            (self.start, ["start b"]),
            (self.release_later, ["post b"]),
            (self.note, ["note"]),
        ]

    def open(self):
        self.ledger = open_ledger(self.url, site="vienna")

    def open_account(self):
        if self.ledger.accounts():
            return  # tried again after an error that came too late
        self.ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")

    def enter(self):
        spend = self.ledger.spend("aml", EVENT, key="a", purpose="a count")
        with contextlib.suppress(SpentWithoutAnswer):
            self.spend = spend.__enter__()

    def release(self):
        # Without a spend in hand, the key was spent without an answer, and stays so.
        assert self.spend is None or self.spend.release("the answer to a") == "the answer to a"

    def reserve(self):
        self.reservation = self.ledger.reserve("aml", EVENT, key="b", purpose="a count")

    def look(self):
        left = self.ledger.remaining("aml")
        assert (left.rho_spent > 1e-6) == (left.rho_reserved > 1e-6) == True  # noqa: E712
        assert len(self.ledger.entries()) == self.ledger.head[0]

    def start(self):
        try:
            if self.reservation is None:  # the ledger was opened again
                self.reserve()
            if not self.reservation.answered:
                self.reservation.start()
        except SpentWithoutAnswer:
            self.reservation = None

    def release_later(self):
        assert self.reservation is None or self.reservation.release([2]) == [2]

    def note(self):
        self.ledger.note("the end")

    def until_error(self):
        """Go on with the steps; return the error, or None at the end."""
        for step, entries in self.steps[len(self.done) :]:
            try:
                step()
            except PrivacyError as error:
                return error
            self.done.append(entries)
        return None

    def close(self):
        if self.ledger is not None:
            self.ledger.close()
        # Whoever opens it again has nothing in hand.
        self.ledger = self.spend = self.reservation = None


def history(url):
    with open_ledger(url) as ledger:
        return [name_of(entry) for entry in ledger.entries()]


def name_of(entry):
    name = entry.body.get("key") or entry.body.get("account")
    return f"{entry.kind} {name}" if name else entry.kind


def flat(lists):
    return [item for each in lists for item in each]


def check_prefix(run, path):
    """What is on the disk is what was acknowledged, and at most the step that was not."""
    acknowledged = flat(run.done)
    if not path.exists():
        assert not acknowledged
        return
    result = verify(run.url)
    assert result.ok, result.problems
    possible = [acknowledged]
    if len(run.done) < len(run.steps):
        possible.append(acknowledged + run.steps[len(run.done)][1])
    assert history(run.url) in possible


def one_failure(disk, path, number, way):
    """Run with a failure; return whether its turn came."""
    run = Run(path)
    disk.arm(number, **way)
    error = run.until_error()
    failed = disk.failed
    if way.get("sticky"):
        run.close()  # on the broken disk: never raises
    disk.healthy()
    if error is not None:
        assert failed
        assert isinstance(error, LedgerUnavailable), (failed, error)
    check_prefix(run, path)
    if run.ledger is None:
        run.open()
    for _ in range(2):
        # A start that was not acknowledged costs all the same: its holder has to give up the answer.
        error = run.until_error()
    assert error is None, (failed, error)
    # Whatever was tried again, every key is reserved, started and posted once at most.
    names = history(run.url)
    keys = [name for name in names if name[-2:] in (" a", " b")]
    assert len(keys) == len(set(keys))
    assert {"reserve a", "start a", "reserve b", "start b"} <= set(keys)
    run.close()
    result = verify(run.url)
    assert result.ok, result.problems
    return bool(failed)


def calls_of_a_run(disk, folder):
    disk.arm(-1)
    run = Run(folder / "counted.db")
    assert run.until_error() is None
    calls = disk.calls
    disk.healthy()
    run.close()
    assert calls > LEAST_CALLS
    return calls


def all_failures(disk, folder, way, first, stride):
    number, tried = first, 0
    while one_failure(disk, folder / f"{number}.db", number, WAYS[way]):
        for file in folder.glob(f"{number}.db*"):
            file.unlink()
        number, tried = number + stride, tried + 1
    return tried


@pytest.mark.parametrize("way", WAYS)
def test_a_sample_of_failing_calls_leaves_an_exact_prefix(disk, tmp_path, way):
    calls = calls_of_a_run(disk, tmp_path)
    first = 1 + list(WAYS).index(way) * STRIDE // len(WAYS)
    assert all_failures(disk, tmp_path, way, first, STRIDE) >= calls // STRIDE - 1


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_failing_call_leaves_an_exact_prefix(disk, tmp_path, way):
    calls = calls_of_a_run(disk, tmp_path)
    assert all_failures(disk, tmp_path, way, 1, 1) >= calls - 2  # a run may take a call less


def test_a_store_that_takes_a_failed_commit_for_done_is_found(disk, tmp_path, monkeypatch):
    """The negative control: swallow one error of a commit, and the check of prefixes fails."""
    original = _sqlite.SqliteStore._transaction

    @contextlib.contextmanager
    def careless(self, begin):
        inner = original(self, begin)
        inner.__enter__()
        yield
        with contextlib.suppress(sqlite3.OperationalError):
            inner.__exit__(None, None, None)

    monkeypatch.setattr(_sqlite.SqliteStore, "_transaction", careless)
    with pytest.raises(AssertionError):
        all_failures(disk, tmp_path, "from there on", 100, 5)
