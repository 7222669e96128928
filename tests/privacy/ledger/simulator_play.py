"""What an episode of the simulator is made of: accounts, events, processes; how one operation is done and judged."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from simulator_disk import FAULTS, Clock, Commit, Crash, Disk, FakeStore, Image, MemoryAnchor, MemoryWitness
from simulator_model import Ask, Model, Terms, Violation, demand

from privacy import (
    ApproximateDP,
    DiscreteGaussian,
    NonPrivate,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    SpentWithoutAnswer,
    ZeroConcentratedDP,
)
from privacy.ledger import (
    Ledger,
    LedgerRefused,
    LedgerUnavailable,
    Signer,
    WitnessPolicy,
    WitnessUnavailable,
    canonical,
)
from privacy.ledger.books import Books
from privacy.ledger.chain import START, entry_hash
from privacy.ledger.journal import Journal
from privacy.ledger.rules import FORMAT, Replay

BLOCKS = ("2023", "2024", "2025")
CURVE = ((4.0, 0.4), (16.0, 1.6))
ZCDP = [*map(ZeroConcentratedDP, (1e-20, 0.0003, 0.002, 0.01, 0.06, 0.2)), DiscreteGaussian(noise_multiplier=20.0)]
EVENTS = {
    "zcdp": [*ZCDP, ApproximateDP(0.01, 1e-9), ApproximateDP(0.05, 3e-7), PureDP(0.05), NonPrivate("a table")],
    "renyi": [*ZCDP, PoissonSampled(DiscreteGaussian(noise_multiplier=5.0), 0.01), ApproximateDP(0.01, 1e-9)],
    "pure": [*map(PureDP, (1e-19, 0.001, 0.01, 0.1, 0.6)), ApproximateDP(0.01, 2e-8), ZeroConcentratedDP(0.1)],
    "exact": [NonPrivate("a curve"), NonPrivate("a table"), PureDP(0.1)],
}
EVENTS["zcdp"].append(RandomizedResponse(0.01))
EVENTS["pure"].append(RandomizedResponse(0.01))
VERSIONS = ("", "", "", "v1", "v2", "v3")
CAPS = (0.3, 0.7, 1.0, 1.5, 3.0)


class Refused(Exception):
    """The right refusal."""


LOST_RACES = (LedgerRefused, SpentWithoutAnswer, WitnessUnavailable)
# What the world does to the processes, without a process of its own.
WORLD = ("close", "crash", "witness", "snapshot", "rollback", "stale", "answers", "replay")
WEIGHTS = {
    "spend": 30,
    "reserve": 16,
    "start": 12,
    "finish": 14,
    "void": 6,
    "batch": 5,
    "dry_run": 5,
    "remaining": 4,
    "set_cap": 2,
    "open_account": 2,
    "data": 2,
    "set_key": 1,
    "checkpoint": 1,
    "note": 1,
    "look": 5,
    "close": 1,
    "crash": 1,
    "witness": 2,
    "snapshot": 1,
    "rollback": 1,
    "stale": 1,
    "answers": 1,
    "replay": 0.05,
}
NAMES, CUMULATIVE = list(WEIGHTS), list(accumulate(WEIGHTS.values()))


def accounts_of(relation: str) -> list[Terms]:
    """Return the accounts of a ledger; parents before children."""
    return [
        Terms("plain", "zcdp", relation, 3.0, part=5e-7),
        Terms("child", "zcdp", relation, 1.0, part=2e-7, parent="plain"),
        Terms("grandchild", "zcdp", relation, 1.0, parent="child"),
        Terms("blocks", "zcdp", relation, 1.5, blocks=BLOCKS),
        Terms("part", "zcdp", relation, 1.0, blocks=BLOCKS, parent="blocks"),
        Terms("order", "renyi", relation, 2.0, order=64.0, part=1e-7),
        Terms("curve", "renyi", relation, 3.0, curve=CURVE),
        Terms("pure", "pure", relation, 2.0, delta=1e-7, blocks=BLOCKS[:2]),
        Terms("exact", "exact", relation),
    ]


def arguments_of(terms: Terms) -> dict[str, Any]:
    """Return what opens the account."""
    out = {
        "epsilon": terms.epsilon,
        "delta": terms.delta,
        "neighbours": terms.relation,
        "filter": terms.rule,
        "parent": terms.parent,
        "blocks": terms.blocks,
        "block_rule": "year of diagnosis" if terms.blocks else "",
    }
    if terms.rule != "pure":
        out["approximate_delta"] = terms.part
    if terms.rule == "renyi":
        out |= {"curve": dict(terms.curve)} if terms.curve else {"order": terms.order}
    return out


class Process:
    """One program that holds the ledger open.

    signer   it was opened with, and `knows`: the site's keys that it can sign with
    held     reservations, and the status that this holder knows of
    """

    def __init__(self, *, anchor: MemoryAnchor | None, witnessed: bool, signer: Signer | None) -> None:
        self.anchor = anchor
        self.witnessed = witnessed
        self.signer = signer
        self.knows = set() if signer is None else {signer.verifier.vkey}
        self.store: FakeStore | None = None
        self.ledger: Ledger | None = None
        self.held: dict[str, list[Any]] = {}


class Play:
    """One ledger from its first entry on. `trace`: a digest of all that was done and how it ended."""

    def __init__(self, rng: Random, folder: str) -> None:
        self.rng = rng
        self.counts: Counter[str] = Counter()
        self.operations = 0
        self.trace = hashlib.sha256()
        self.answer_key = Path(folder, "answers.key")
        relation = rng.choice(["add_remove_one", "replace_one"])
        self.model = Model(accounts_of(relation), [event for events in EVENTS.values() for event in events])
        self.disk = Disk(self.model.committed)
        self.clock = Clock(rng)
        self.serial = 0
        self.used_keys: list[str] = []
        self.asks: dict[str, Ask] = {}
        self.snapshot: Image | None = None
        self.depth = 0
        self.interleaved = False
        # Half of the ledgers have keys, half of these have witnesses.
        keyed = rng.random() < 0.5
        self.made: dict[str, Signer] = {}
        site, officer = (self.new_signer(role) if keyed else None for role in ("site", "officer"))
        self.window = rng.choice([0, 6])
        count = rng.choice([0, 2]) if keyed else 0
        self.witnesses = [
            MemoryWitness(self.new_signer(f"witness{i}"), lambda: self.model.signers["site"], self.meanwhile)
            for i in range(count)
        ]
        anchor = MemoryAnchor()
        self.processes = [
            Process(anchor=anchor if rng.random() < 0.7 else None, witnessed=count > 0 and i > 0, signer=site)
            for i in range(3)
        ]
        self.found_ledger(site, officer)

    def new_signer(self, name: str) -> Signer:
        signer = Signer(name, Ed25519PrivateKey.from_private_bytes(self.rng.randbytes(32)))
        self.made[signer.verifier.vkey] = signer
        return signer

    def holder(self, role: str) -> Signer | None:
        """Return the signer of the key in force: what was not acknowledged may be."""
        return self.made.get(self.model.signers.get(role, ""))

    def found_ledger(self, site: Signer | None, officer: Signer | None) -> None:
        """Write the first entry, and open what has to be there."""
        document = {"seq": 1, "kind": "note", "at": self.clock(), "text": "a new ledger", "format": FORMAT}
        document |= {"ledger_id": self.rng.randbytes(32).hex(), "site": "vienna", "schema": "simulated"}
        body = canonical.encode(document)
        books = Books()
        Replay(books, lambda _seq: b"").apply(document, body, entry_hash(START, body))
        first = Commit([(1, body, books.head.hash)], dict(books.changes()))
        self.disk.image.take(first)
        self.model.committed(first)
        ledger = self.ledger_of(self.processes[0])
        if site is not None and officer is not None:
            ledger.set_key("site", site.verifier.vkey, reason="first", holder=site)
            ledger.set_key("officer", officer.verifier.vkey, reason="first", holder=officer)
        for terms in list(self.model.planned.values())[:6]:
            self.do_open(terms)

    def ledger_of(self, process: Process) -> Ledger:
        """Return the process's open ledger; open it if need be. Raises what opening raises."""
        if process.ledger is None:
            process.store = FakeStore(self.disk)
            journal = Journal(process.store, process.anchor, self.clock)
            policy = WitnessPolicy(self.witnesses, window=self.window) if process.witnessed else None
            whole = self.rng.random() < 0.01
            process.ledger = Ledger(
                journal,
                signer=process.signer,
                answer_key=self.answer_key,
                witnesses=policy,
                check="whole" if whole else "head",
            )
        return process.ledger

    # One operation

    def step(self) -> None:
        """Do one operation by one process, perhaps with a fault, and compare. Raises Violation."""
        (name,) = self.rng.choices(NAMES, cum_weights=CUMULATIVE)
        process = self.rng.choice(self.processes)
        if self.rng.random() < 0.3 and name not in WORLD:
            self.disk.planned = (self.rng.randrange(6), self.rng.choice(FAULTS))
        self.disk.fired = None
        self.interleaved = False
        self._run(name, process)
        self.disk.planned = None

    def _run(self, name: str, process: Process) -> None:
        self.operations += 1
        outcome = "done"
        try:
            getattr(self, f"do_{name}")(*(() if name in WORLD else (process,)))
        except Crash:
            if self.depth:
                raise
            outcome = "crash"
            self.reboot()
        except LedgerUnavailable:
            demand(self.disk.fired is not None, f"{name}: unavailable, and no disk failed")
            outcome = "unavailable"
        except Refused as refused:
            outcome = refused.args[0]
        self.counts[f"{name}: {outcome}"] += 1
        self.trace.update(f"{name} {outcome} {self.model.size}\n".encode())

    def meanwhile(self) -> None:
        """Let another process act inside an operation."""
        if self.depth == 0 and self.rng.random() < 0.1:
            self.depth += 1
            self.interleaved = True
            try:
                name = self.rng.choice(["spend", "reserve", "start", "finish", "void", "note"])
                self._run(name, self.rng.choice(self.processes))
            finally:
                self.depth -= 1

    def reboot(self) -> None:
        """After a crash: no process is left, nothing is held, and the disk says what was written."""
        for process in self.processes:
            process.ledger = None
            process.held.clear()
        self.disk.boot(self.rng)

    def expecting(self, error: type[Exception] | None, act: Callable[[], Any]) -> Any:
        """Do it; it must end with the error, or without one. Raises Refused after the right refusal."""
        try:
            found = act()
        except (LedgerUnavailable, Violation, Refused):
            raise
        except Exception as raised:
            right = error is not None and type(raised) is error
            if not right and self.interleaved and isinstance(raised, LOST_RACES):
                right = True
            if not right:
                wanted = "nothing" if error is None else error.__name__
                raise Violation(f"{type(raised).__name__} instead of {wanted}: {raised}") from raised
            raise Refused(type(raised).__name__) from None
        if error is not None and not self.interleaved:
            raise Violation(f"{error.__name__} was due, and it was done")
        return found

    # What is asked for

    def an_ask(self) -> Ask:
        """Return something to ask for: new, asked for before, or a known key for something else."""
        roll = self.rng.random()
        if roll < 0.35 and self.used_keys:
            return self.asks[self.rng.choice(self.used_keys[-40:])]
        if roll < 0.45 and self.used_keys:
            return self._fresh(self.rng.choice(self.used_keys[-40:]))
        self.serial += 1
        return self._fresh(f"key-{self.serial}")

    def _fresh(self, key: str) -> Ask:
        rng, names = self.rng, list(self.model.accounts)
        account = rng.choice(names) if rng.random() < 0.995 else "nobody's"
        terms = self.model.planned.get(account)
        rule = "zcdp" if terms is None else terms.rule
        blocks: tuple[str, ...] = ()
        if terms is not None and terms.blocks and rng.random() < 0.8:
            blocks = tuple(rng.sample(terms.blocks, rng.randint(1, len(terms.blocks))))
        elif rng.random() < 0.01:
            blocks = ("1900",)
        version = rng.choice(VERSIONS)
        if version and rng.random() < 0.5:
            version = f"{version}-{self.serial // 60}"
        return Ask(key, account, rng.choice(EVENTS[rule]), rng.choice("pppq"), version, blocks)

    def noted(self, ask: Ask) -> None:
        if ask.key in self.model.keys and ask.key not in self.asks:
            self.asks[ask.key] = ask
            self.used_keys.append(ask.key)

    def words(self, ask: Ask) -> dict[str, Any]:
        return {"key": ask.key, "purpose": ask.purpose, "data_version": ask.version, "blocks": ask.blocks}

    def witness_error(self, process: Process, more: int) -> type[Exception] | None:
        """Return the error if witnesses stand in the way of a start, `more` entries from now."""
        if not process.witnessed or any(one.reachable and not one.loses for one in self.witnesses):
            return self._stale_error(process) if process.witnessed else None
        stale = self._stale_error(process)
        return stale or (WitnessUnavailable if self.model.size + more - self.model.cosigned > self.window else None)

    def _stale_error(self, process: Process) -> type[Exception] | None:
        # A process that was opened with the site's earlier key cannot sign.
        wanted = self.model.signers.get("site")
        return None if wanted is None or wanted in process.knows else LedgerRefused

    def opened(self, process: Process) -> Ledger:
        """Return the open ledger; opening must succeed, or fail with the disk or for a replaced key."""
        if process.ledger is None:
            process.knows = set() if process.signer is None else {process.signer.verifier.vkey}
            if process.signer is not None and self._stale_error(process) is not None:
                with contextlib.suppress(Refused):
                    self.expecting(LedgerRefused, lambda: self.ledger_of(process))
            process.signer = self.holder("site")
            process.knows = set() if process.signer is None else {process.signer.verifier.vkey}
            before, self.interleaved = self.interleaved, False
            self.expecting(None, lambda: self.ledger_of(process))
            self.interleaved = before
        return self.ledger_of(process)
