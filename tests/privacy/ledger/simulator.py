"""Play a ledger's life from a seed: several processes, faults at every step, and a second set of books to compare.

    python tests/privacy/ledger/simulator.py --seed 7 --operations 100000

runs episodes (a fresh disk, other accounts, keys, witnesses and processes each) and prints operations per second and
the first violation. The same seed plays the same operations. Randomness decides the play, never what is protected.
Epsilons in quotes and errors are left out here: they cost milliseconds and decide nothing. Signatures that were checked
once are not checked again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))

from simulator_disk import Crash, FakeStore, Image
from simulator_doors import Doors
from simulator_model import ERASURE, Violation, demand, filter_for
from simulator_play import Process, Refused

from privacy import (
    LedgerCorrupt,
)
from privacy.ledger import (
    LedgerRestored,
    account_doors,
    notes,
    quotes,
    requests,
    signatures,
)
from privacy.ledger.books import Books
from privacy.ledger.chain import key_digest
from privacy.ledger.journal import replay_problems

EPISODE = 1000


class Episode(Doors):
    """An episode in which the world acts, too: crashes, old copies, lost answers, witnesses that are away."""

    def do_close(self) -> None:
        process = self.rng.choice(self.processes)
        if process.ledger is not None:
            process.ledger.close()
            process.ledger = None
            process.held.clear()

    def do_crash(self) -> None:
        raise Crash

    def do_witness(self) -> None:
        for witness in self.witnesses:
            witness.reachable = self.rng.random() < 0.7
            witness.loses = self.rng.random() < 0.1

    def do_snapshot(self) -> None:
        self.snapshot = self.disk.image.copy()

    def do_rollback(self) -> None:
        """Put an old copy back: who has seen more must refuse; then the latest copy returns."""
        old, latest = self.snapshot, self.disk.image
        if old is None or len(old.rows) == len(latest.rows):
            return
        self.disk.image = old
        written = len(old.rows)
        self.depth += 1  # nobody else acts on the old copy
        try:
            for process in self.processes:
                self._refuses(process, written)
            demand(len(old.rows) == written, "something was written into a restored copy")
        finally:
            self.disk.image = latest
            self.depth -= 1

    def _refuses(self, process: Process, written: int) -> None:
        if process.ledger is not None and process.ledger._journal._seen[0] > written:
            ledger = process.ledger
            with contextlib.suppress(Refused):
                self.expecting(LedgerCorrupt, lambda: ledger.note("too much"))
        fresh = Process(anchor=process.anchor, witnessed=process.witnessed, signer=process.signer)
        far = [one.last.size for one in self.witnesses if one.reachable and not one.loses and one.last is not None]
        warned = process.anchor is not None and process.anchor.mark is not None and process.anchor.mark.size > written
        seen = process.witnessed and any(size > written for size in far)
        # Witnesses are asked in the name of the site's key of the old copy, which may be another by now.
        if warned or (
            seen and self._key_in(self.disk.image) == self.model.signers["site"] == process.signer.verifier.vkey
        ):
            with contextlib.suppress(Refused):
                self.expecting(LedgerRestored, lambda: self.ledger_of(fresh))

    @staticmethod
    def _key_in(image: Image) -> str | None:
        return Books(image.states.get).head.keys.get("site")

    def do_stale(self) -> None:
        """A reader that sees an old copy says what was true then, or refuses."""
        process = self.rng.choice(self.processes)
        if self.snapshot is None or process.ledger is None or process.store is None:
            return
        process.store.stale = self.snapshot
        try:
            size, digest = process.ledger.head
        except LedgerCorrupt:
            demand(process.ledger._journal._seen[0] > len(self.snapshot.rows), "a reader refused what it had not left")
        else:
            demand(self.model.hashes[size].hex() == digest, "a reader saw what was never there")
        finally:
            process.store.stale = None

    def do_answers(self) -> None:
        """Lose an answer, or put another key's in its place: no fresh answer is given, then it is put back."""
        answers = self.disk.image.answers
        names = [name for name in self.used_keys if key_digest(name) in answers]
        if not names:
            return
        name = self.rng.choice(names)
        ask, digest = self.asks[name], key_digest(name)
        ledger = self.opened(self.rng.choice(self.processes))
        kept = answers.pop(digest)
        other = self.rng.choice([None, *[key_digest(one) for one in names if one != name]])
        if other is not None:
            answers[digest] = answers[other]
        try:
            self.expecting(LedgerCorrupt, lambda: ledger.reserve(ask.account, ask.event, **self.words(ask)))
        finally:
            answers[digest] = kept

    def do_replay(self) -> None:
        """Replay the journal: it must imply what is kept beside it, and what the model holds."""
        self.check_whole(full=self.model.size < 400)

    def check_whole(self, *, full: bool = True) -> None:
        """Compare everything with the model. Raises Violation."""
        if full:
            store = FakeStore(self.disk)
            for problem in replay_problems(store, len(self.disk.image.rows)):
                raise Violation(f"the journal does not replay: {problem}")
        demand(len(self.disk.image.rows) == self.model.size, "entries were lost")
        books = Books(self.disk.image.states.get)
        for name, account in self.model.accounts.items():
            state = books.account(name)
            demand(state is not None, f"account {name} is not kept")
            units = () if account.terms.rule == "exact" else filter_for(account.terms).units
            for block in account.charged:
                for what in ("charged", "reserved"):
                    kept = tuple(map(Fraction, getattr(state, what)[block], units))
                    demand(kept == tuple(getattr(account, what)[block]), f"{what} of {name} is not what the model has")
        answered = {key_digest(name) for name, key in self.model.keys.items() if key.answer is not None}
        gone = {
            key_digest(name) for name, key in self.model.keys.items() if self.model.data.get(key.version) == ERASURE
        }
        demand(set(self.disk.image.answers) == answered - gone, "the stored answers are not those of the journal")


@contextlib.contextmanager
def lightened() -> Iterator[None]:
    """Leave out the epsilons that are only for people to read, and remember which signatures fit."""
    light = {(module, "epsilon_spent"): lambda *_: 0.0 for module in (account_doors, quotes, requests)}
    light[notes, "is_signature"] = lru_cache(1 << 16)(notes.is_signature)
    light[signatures, "verify_statement"] = lru_cache(1 << 16)(signatures.verify_statement)
    kept = {place: getattr(*place) for place in light}
    try:
        for place, function in light.items():
            setattr(*place, function)
        yield
    finally:
        for place, function in kept.items():
            setattr(*place, function)


def play(seed: int, operations: int, folder: str) -> Iterator[Episode]:
    """Play episodes of a seed and yield each when it ended well. Raises Violation, with the operation's number."""
    done, number = 0, 0
    while done < operations:
        episode = Episode(Random(f"{seed} {number}"), folder)
        try:
            for _ in range(min(EPISODE, operations - done)):
                episode.step()
            episode.check_whole()
        except Violation as violation:
            place = f"seed {seed}, episode {number}, operation {done + episode.operations}"
            raise Violation(f"{place}: {violation}") from violation
        done += episode.operations
        number += 1
        yield episode


def main() -> int:
    """Play a seed and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--counts", action="store_true", help="print how often each operation ended how")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    done = faults = 0
    trace = hashlib.sha256()
    begin, begin_busy = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, lightened():
        try:
            for episode in play(options.seed, options.operations, folder):
                done += episode.operations
                faults += episode.disk.faults
                counts += episode.counts
                trace.update(episode.trace.digest())
        except Violation as violation:
            print(f"violation: {violation}")
            return 1
    seconds, busy = time.perf_counter() - begin, time.process_time() - begin_busy
    rates = f"{done / seconds:.0f} operations/s, {done / busy:.0f} a second of processor time"
    print(f"{done} operations, {faults} disk faults, {rates}, no violation")
    print(f"trace {trace.hexdigest()[:16]}")
    if options.counts:
        for name, count in sorted(counts.items()):
            print(f"  {count:7} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
