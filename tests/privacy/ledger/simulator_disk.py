"""The world around a simulated ledger: a disk that fails, an anchor, witnesses that cannot be reached, and a clock.

A commit is what one transaction wrote. It is there for everybody, and for ever, once it was synced. A commit whose sync
failed is in limbo: a crash decides whether it was written, unless another commit took its place before.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from privacy.errors import LedgerCorrupt
from privacy.ledger.anchor import Anchor, Mark
from privacy.ledger.errors import LedgerUnavailable
from privacy.ledger.merkle import verify_consistency
from privacy.ledger.notes import Checkpoint, Note, Signer, Verifier
from privacy.ledger.store import Move
from privacy.ledger.witness import WitnessConflict, WitnessRefused, WitnessUnavailable

Row = tuple[int, bytes, bytes]
# What can happen to a commit. "limbo": written, and the sync failed.
FAULTS = ("before", "after", "limbo", "crash before", "crash after", "crash in limbo")


class Crash(BaseException):
    """The power is gone: nothing runs until the next boot, not even clean-up."""


@dataclass(slots=True)
class Commit:
    """What one transaction wrote."""

    rows: list[Row] = field(default_factory=list)
    states: dict[str, bytes] = field(default_factory=dict)
    answers: dict[bytes, bytes] = field(default_factory=dict)
    erased: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Image:
    """All that the disk holds."""

    rows: list[Row] = field(default_factory=list)
    states: dict[str, bytes] = field(default_factory=dict)
    answers: dict[bytes, bytes] = field(default_factory=dict)
    erased: set[bytes] = field(default_factory=set)

    def copy(self) -> Image:
        return Image(list(self.rows), dict(self.states), dict(self.answers), set(self.erased))

    def take(self, commit: Commit) -> None:
        self.rows += commit.rows
        self.states |= commit.states
        self.answers |= commit.answers
        self.erased.update(commit.erased)
        for digest in commit.erased:
            self.answers.pop(digest, None)


class Disk:
    """One ledger's disk.

    observe    is told of every commit when it can no longer be lost
    planned    how many uses of the disk from now something fails, and what
    fired      the fault that came true since it was last set to None
    """

    def __init__(self, observe: Callable[[Commit], None]) -> None:
        self.image = Image()
        self.planned: tuple[int, str] | None = None
        self.fired: str | None = None
        self.faults = 0
        self.lying = False
        self._observe = observe
        self._limbo: Commit | None = None
        self._dead = False
        self._busy = False

    def step(self) -> None:
        """Count one use of the disk. Raises LedgerUnavailable or Crash if it is the planned one."""
        if self._dead:
            raise Crash
        if self.planned is not None:
            left, fault = self.planned
            self.planned = (left - 1, fault)
            if left <= 0:
                self._fail(fault, None)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Commit]:
        """Let one writer in; commit when it leaves without an error."""
        self.step()
        if self._busy:
            raise AssertionError("two writers at once")
        self._busy = True
        try:
            commit = Commit()
            yield commit
            self._commit(commit)
        finally:
            self._busy = False

    def boot(self, rng: Random) -> None:
        """Start again after a crash: what was in limbo is there, or never was."""
        limbo, self._limbo = self._limbo, None
        self._dead, self.planned = False, None
        if limbo is not None and rng.random() < 0.5:
            self._sync(limbo)

    def _commit(self, commit: Commit) -> None:
        if self._dead:
            raise Crash
        if self.planned is not None:
            left, fault = self.planned
            self.planned = (left - 1, fault)
            if left <= 0:
                self._fail(fault, commit)
        self._sync(commit)

    def _sync(self, commit: Commit) -> None:
        if not (commit.rows or commit.states or commit.answers or commit.erased):
            return
        self._limbo = None
        if not self.lying:
            self.image.take(commit)
            self._observe(commit)

    def _fail(self, fault: str, commit: Commit | None) -> None:
        self.planned, self.fired = None, fault
        self.faults += 1
        if commit is not None and fault.endswith("after"):
            self._sync(commit)
        if commit is not None and commit.rows and fault.endswith("limbo"):
            self._limbo = commit
        if fault.startswith("crash"):
            self._dead = True
            raise Crash
        raise LedgerUnavailable("site.db could not be read or written (simulated)")


class FakeStore:
    """A `privacy.ledger.store.Store` on a simulated disk. `stale`: an old image that readers see, or None."""

    name = "site.db"

    guards = False

    def __init__(self, disk: Disk) -> None:
        self.stale: Image | None = None
        self._disk = disk
        self._commit: Commit | None = None
        self._image = disk.image

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        try:
            with self._disk.transaction() as self._commit:
                self._image = self._disk.image
                yield
        finally:
            self._commit = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        self._disk.step()
        self._image = self._disk.image if self.stale is None else self.stale
        yield

    def rows(self, first: int = 1) -> Iterator[Row]:
        yield from self._image.rows[first - 1 :]

    def row(self, seq: int) -> tuple[bytes, bytes] | None:
        rows = self._image.rows
        return rows[seq - 1][1:] if 0 < seq <= len(rows) else None

    def last(self) -> tuple[int, bytes] | None:
        rows = self._image.rows
        return (rows[-1][0], rows[-1][2]) if rows else None

    def append(self, rows: Sequence[Row]) -> None:
        self._disk.step()
        for place, row in enumerate(rows, start=len(self._image.rows) + 1):
            if row[0] != place:
                raise AssertionError("entries have no gaps")
        self._written.rows += rows

    def state(self, name: str) -> bytes | None:
        written = None if self._commit is None else self._commit.states.get(name)
        return self._image.states.get(name) if written is None else written

    def states(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        for name in sorted(self._image.states):
            if name.startswith(prefix):
                yield name, self._image.states[name]

    def put_states(self, states: Sequence[tuple[str, bytes]]) -> None:
        self._disk.step()
        self._written.states.update(states)

    def guard(self, moves: Sequence[Move]) -> None:
        """Nothing, as in SQLite."""

    def answer(self, digest: bytes) -> bytes | None:
        written = None if self._commit is None else self._commit.answers.get(digest)
        return self._image.answers.get(digest) if written is None else written

    def put_answer(self, digest: bytes, body: bytes) -> None:
        self._disk.step()
        if self.answer(digest) is not None:
            raise LedgerCorrupt("an answer is there already")
        self._written.answers[digest] = body

    def erase_answers(self, digests: Sequence[bytes]) -> None:
        self._disk.step()
        self._written.erased += digests

    def close(self) -> None:
        """Nothing: what was acknowledged is synced."""

    @property
    def _written(self) -> Commit:
        if self._commit is None:
            raise AssertionError("written outside a transaction")
        return self._commit


class MemoryAnchor(Anchor):
    """An anchor that is not on a disk."""

    def __init__(self) -> None:
        self.mark: Mark | None = None

    def read(self) -> Mark | None:
        return self.mark

    def advance(self, mark: Mark) -> None:
        if self.mark is None or mark.size > self.mark.size:
            self.mark = mark


class MemoryWitness:
    """A `privacy.ledger.witness.Witness` in memory.

    site_key    returns the key that checkpoints have to be signed with
    between     is called before it answers: others act meanwhile
    reachable   whether it answers at all; `loses`: it accepts, and its answer is lost once
    """

    def __init__(self, signer: Signer, site_key: Callable[[], str], between: Callable[[], None]) -> None:
        self._signer = signer
        self._site_key = site_key
        self._between = between
        self.vkey = signer.cosignature_verifier.vkey
        self.name = signer.name
        self.last: Checkpoint | None = None
        self.reachable = True
        self.loses = False

    def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: str) -> str:
        self._between()
        if not self.reachable:
            raise WitnessUnavailable("no answer (simulated)")
        found = Note.parse(note)
        checkpoint, last = Checkpoint.parse(found.text), self.last
        if not found.signed_by(Verifier.parse(self._site_key())):
            raise WitnessRefused("bad_signature", "not signed by the site's key")
        size = 0 if last is None else last.size
        if checkpoint.size < size:
            raise WitnessRefused("smaller", "smaller than the last", size=size)
        if last is not None and checkpoint.size == size and checkpoint.root != last.root:
            raise WitnessRefused("fork", "another root", size=size)
        if old_size != size:
            raise WitnessConflict(size)
        if (
            last is not None
            and checkpoint.size > size
            and not verify_consistency(size, last.root, checkpoint.size, checkpoint.root, list(proof))
        ):
            raise WitnessRefused("inconsistent", "not a prefix", size=size)
        self.last = checkpoint
        if self.loses:
            self.loses = False
            raise WitnessUnavailable("the answer was lost (simulated)")
        return self._signer.cosign(checkpoint.text, time=0)


class Clock:
    """Virtual time: it goes on by itself, jumps, and sometimes steps back."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._now = 1_800_000_000

    def __call__(self) -> str:
        roll = self._rng.random()
        self._now += 1 if roll < 0.9 else self._rng.randrange(100_000) if roll < 0.98 else -self._rng.randrange(5000)
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now))
