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
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).parent))

from simulator_disk import FAULTS, Clock, Commit, Crash, Disk, FakeStore, Image, MemoryAnchor, MemoryWitness
from simulator_model import ERASURE, Ask, Model, Terms, Violation, cost_of, demand, filter_for

from privacy import (
    ApproximateDP,
    DiscreteGaussian,
    LedgerCorrupt,
    NonPrivate,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    SpentWithoutAnswer,
    UnsupportedEvent,
    ZeroConcentratedDP,
)
from privacy.ledger import (
    Ledger,
    LedgerRefused,
    LedgerRestored,
    LedgerUnavailable,
    Signer,
    WitnessPolicy,
    WitnessUnavailable,
    account_doors,
    canonical,
    notes,
    quotes,
    requests,
    signatures,
)
from privacy.ledger.books import Books
from privacy.ledger.chain import START, entry_hash, key_digest
from privacy.ledger.journal import Journal, replay_problems
from privacy.ledger.rules import FORMAT, Replay

EPISODE = 1000
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


class Episode:
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

    # Doors

    def do_reserve(self, process: Process) -> None:
        ask = self.an_ask()
        error = self.model.refusal(ask)
        ledger = self.opened(process)
        try:
            one = self.expecting(error, lambda: ledger.reserve(ask.account, ask.event, **self.words(ask)))
        finally:
            self.noted(ask)
        key = self.model.keys[ask.key]
        if one.answered:
            demand(key.answer is not None and one.stored == key.answer, "another answer than the stored one")
            process.held[ask.key] = [one, "answered"]
        else:
            demand(key.status == "reserved", "an acknowledged reservation is not there")
            process.held[ask.key] = [one, "reserved"]

    def do_spend(self, process: Process) -> None:
        ask, model = self.an_ask(), self.model
        ledger = self.opened(process)
        error = model.refusal(ask)
        before = model.keys.get(ask.key)
        fresh = before is None or before.status == "void"
        answered = error is None and before is not None and before.answer is not None
        if error is None and not answered:
            error = self.witness_error(process, int(fresh))
        block = ledger.spend(ask.account, ask.event, **self.words(ask))
        try:
            self.expecting(error, block.__enter__)
        finally:
            self.noted(ask)
        key = model.keys[ask.key]
        if block.answered:
            demand(block.stored == key.answer is not None, "another answer than the stored one")
            demand(block.release("again") == key.answer, "a second draw under one key")
            block.__exit__(None, None, None)
            return
        demand(key.status == "started", "the block runs and its start is not there")
        self._inside(ask, block)

    def _inside(self, ask: Ask, block: Any) -> None:
        model, rng = self.model, self.rng
        way = rng.random()
        try:
            with contextlib.ExitStack() as stack:
                stack.push(block.__exit__)
                self.meanwhile()
                if way < 0.15:
                    return
                if way < 0.25:
                    raise ZeroDivisionError  # noqa: TRY301 - the error of whoever wrote the block
                if way < 0.3:
                    # An answer of a type that cannot be stored may be released in another form.
                    with contextlib.suppress(ValueError):
                        block.release(object())
                value = rng.randrange(10**6)
                if model.keys[ask.key].answer is None:
                    model.intended[ask.key] = value
                erased = model.data.get(ask.version) == ERASURE
                found = self.expecting(LedgerRefused if erased else None, lambda: block.release(value))
                demand(model.keys[ask.key].answer == found == block.stored, "an acknowledged answer is not there")
        except ZeroDivisionError:
            pass
        if self.disk.fired is None:
            demand(model.keys[ask.key].status == "posted", "a block was left and its key is not posted")

    def do_start(self, process: Process) -> None:
        if not process.held:
            self.do_reserve(process)
            return
        name = self.rng.choice(list(process.held))
        held = process.held[name]
        error = LedgerRefused if held[1] != "reserved" else None
        error = error or self.witness_error(process, 0) or self.model.started(name)
        self.expecting(error, held[0].start)
        demand(self.model.keys[name].status == "started", "an acknowledged start is not there")
        held[1] = "started"

    def do_finish(self, process: Process) -> None:
        if not process.held:
            self.do_reserve(process)
            return
        names = [name for name, held in process.held.items() if held[1] == "started"]
        name = self.rng.choice(names if names and self.rng.random() < 0.8 else list(process.held))
        held, key = process.held[name], self.model.keys[name]
        way = self.rng.random()
        if way < 0.7:
            self._release(name, held)
        elif way < 0.9:
            self.expecting(None if held[1] == "started" else LedgerRefused, held[0].post)
            held[1] = "posted" if key.answer is None else "answered"
            demand(key.status == "posted", "an acknowledged post is not there")
        else:
            with contextlib.suppress(Refused):
                self.expecting(None, held[0].abandon)
            held[1] = {"started": "posted", "reserved": "void"}.get(held[1], held[1])
            del process.held[name]

    def _release(self, name: str, held: list[Any]) -> None:
        key = self.model.keys[name]
        value = self.rng.randrange(10**6)
        erased = self.model.data.get(key.version) == ERASURE
        if held[1] == "answered":
            error = None
        elif held[1] != "started" or erased or (key.status == "posted" and key.answer is None):
            error = LedgerRefused
        else:
            error = None
            if key.answer is None:
                self.model.intended[name] = value
        try:
            found = self.expecting(error, lambda: held[0].release(value))
        except Refused:
            if held[1] == "started" and key.status == "posted" and not erased:
                held[1] = "posted"
            raise
        demand(found == key.answer is not None, "another answer than the stored one")
        held[1] = "answered"

    def do_void(self, process: Process) -> None:
        if self.rng.random() < 0.5 and process.held:
            name = self.rng.choice(list(process.held))
            held = process.held[name]
            right = held[1] == "reserved" and self.model.keys[name].status == "reserved"
            self.expecting(None if right else LedgerRefused, held[0].void)
            held[1] = "void"
        else:
            name = self.rng.choice(self.used_keys[-60:] or ["none"])
            key = self.model.keys.get(name)
            right = key is not None and key.status == "reserved"
            ledger = self.opened(process)
            self.expecting(None if right else LedgerRefused, lambda: ledger.void(name))
        demand(self.model.keys[name].status == "void", "an acknowledged void is not there")

    def do_batch(self, process: Process) -> None:
        """Reserve, start and release several, each in one commit."""
        ledger, rng, model = self.opened(process), self.rng, self.model
        account = rng.choice(list(model.accounts))
        rule = model.planned[account].rule
        asks = []
        for _ in range(rng.randint(1, 4)):
            self.serial += 1
            asks.append(Ask(f"key-{self.serial}", account, rng.choice(EVENTS[rule]), "b"))
        if rng.random() < 0.1:
            asks.append(asks[0])
        before = model.size
        error = model.batch_refusal(asks)
        try:
            made = self.expecting(
                error, lambda: ledger.reserve_many(account, [(ask.key, ask.event) for ask in asks], purpose="b")
            )
        finally:
            for ask in asks:
                self.noted(ask)
            wrote = model.size - before
            demand(wrote in (0, len({ask.key for ask in asks})), "a batch was reserved in part")
        twice = len({ask.key for ask in asks}) < len(asks)
        error = self.witness_error(process, 0) or (SpentWithoutAnswer if twice else None)
        before = model.size
        try:
            self.expecting(error, lambda: ledger.start_many(made))
        finally:
            demand(self.interleaved or model.size - before in (0, len(asks)), "a batch was started in part")
        for ask in asks:
            model.intended[ask.key] = ask.key
        if any(model.keys[ask.key].status != "started" for ask in asks):
            raise Violation("an acknowledged start is not there")
        found = self.expecting(None, lambda: ledger.release_many([(one, one.key) for one in made]))
        for ask, value in zip(asks, found, strict=True):
            demand(model.keys[ask.key].answer == value == ask.key, "an acknowledged answer is not there")

    def do_dry_run(self, process: Process) -> None:
        ask = self.an_ask()
        account = self.model.accounts.get(ask.account)
        if account is None:
            return
        cost = cost_of(ask.event, account.terms)
        ledger = self.opened(process)
        if account.terms.rule == "exact":
            self.expecting(LedgerRefused, lambda: ledger.dry_run(ask.account, ask.event, blocks=ask.blocks))
        if not set(ask.blocks) <= set(account.terms.blocks):
            self.expecting(LedgerRefused, lambda: ledger.dry_run(ask.account, ask.event, blocks=ask.blocks))
        if cost is None:
            self.expecting(UnsupportedEvent, lambda: ledger.dry_run(ask.account, ask.event, blocks=ask.blocks))
            return
        with contextlib.suppress(UnsupportedEvent):
            quote = ledger.dry_run(ask.account, ask.event, blocks=ask.blocks)
            demand(quote.fits is not self.model.exceeds(account, cost, ask.blocks), "dry_run is wrong about what fits")
            count = self.model.largest_count(account, cost, ask.blocks)
            demand(quote.largest_count == count, f"dry_run says {quote.largest_count} fit, and {count} do")

    def do_remaining(self, process: Process) -> None:
        account = self.model.accounts[self.rng.choice(list(self.model.accounts))]
        ledger, name = self.opened(process), account.terms.name
        if account.terms.rule == "exact":
            self.expecting(LedgerRefused, lambda: ledger.remaining(name))
        found = ledger.remaining(name)
        rule = filter_for(account.terms)
        for i, (amount, unit) in enumerate(zip(rule.amounts, rule.units, strict=True)):
            lefts = []
            for each in self.model.chain(account):
                worst = max(self.model.counts(each, i, ()), key=lambda pair: pair[0])
                lefts.append((each.caps[i] - worst[0]) / worst[1])
            exact = max(Fraction(0), min(lefts))
            left = Fraction(found.left[amount])
            demand(left <= exact, f"remaining says {amount} is left that is not")
            demand(exact - left <= exact * Fraction(1, 10**11) + Fraction(1, unit), f"remaining hides {amount}")

    def do_set_cap(self, process: Process) -> None:
        names = [name for name, each in self.model.accounts.items() if each.terms.rule != "exact" and name != "curve"]
        account = self.model.accounts[self.rng.choice(names)]
        ledger, now = self.opened(process), account.terms
        epsilon = self.rng.choice(CAPS)
        terms = self.model.capped(account, epsilon, now.delta)
        with_officer = self.rng.choice([None, self.holder("officer"), self.holder("site"), self.holder("officer")])
        officer_key = self.model.signers.get("officer")
        if terms == now:
            error = None
        elif self.model.raises(account, terms):
            held = with_officer is not None and with_officer.verifier.vkey == officer_key
            error = None if held and "site" in self.model.signers else LedgerRefused
            error = error or self._stale_error(process)
        else:
            error = self._stale_error(process)
        self.expecting(
            error,
            lambda: ledger.set_cap(now.name, epsilon=epsilon, delta=now.delta, reason="r", officer=with_officer),
        )
        demand(account.terms.epsilon == epsilon, "an acknowledged cap is not there")

    def do_open(self, terms: Terms) -> None:
        ledger = self.ledger_of(self.processes[0])
        if terms.rule == "exact":
            ledger.open_exact_account(terms.name)
        else:
            ledger.open_account(terms.name, **arguments_of(terms))

    def do_open_account(self, process: Process) -> None:
        ledger = self.opened(process)
        terms = self.rng.choice(list(self.model.planned.values()))
        if terms.rule == "exact":
            error = None if terms.name in self.model.accounts else self._stale_error(process)
            self.expecting(error, lambda: ledger.open_exact_account(terms.name))
        elif self.rng.random() < 0.2:
            other = {**arguments_of(terms), "epsilon": 2.75} | ({"curve": None} if terms.curve else {})
            self.expecting(
                LedgerRefused if terms.name in self.model.accounts else ValueError,
                lambda: ledger.open_account(
                    terms.name, **(other if terms.name in self.model.accounts else {**other, "epsilon": -1.0})
                ),
            )
        else:
            error = None if terms.name in self.model.accounts else self._stale_error(process)
            self.expecting(error, lambda: ledger.open_account(terms.name, **arguments_of(terms)))
        demand(terms.name in self.model.accounts, "an acknowledged account is not there")

    def do_data(self, process: Process) -> None:
        version = self.rng.choice(VERSIONS[3:])
        if self.rng.random() < 0.8:
            version = f"{version}-{self.serial // 60}"
        change = self.rng.choice(["refresh", "opt_out", "erasure"])
        known = self.model.data.get(version)
        error = LedgerRefused if known is not None and (known == ERASURE or change != ERASURE) else None
        ledger = self.opened(process)
        self.expecting(error, lambda: ledger.record_data(version, change=change, reason="r"))
        demand(self.model.data[version] == change, "an acknowledged change of the data is not there")
        if change == ERASURE:
            for name, key in self.model.keys.items():
                if key.version == version:
                    demand(key_digest(name) not in self.disk.image.answers, "an erased answer is there")

    def do_set_key(self, process: Process) -> None:
        if "site" not in self.model.signers:
            return
        ledger, stale = self.opened(process), self._stale_error(process)
        role = self.rng.choice(["site", "officer", "officer"])
        new = self.new_signer(f"{role}-{self.model.size}")
        way = self.rng.random()
        if way < 0.3:
            # A key that has another role, or whose holder did not sign.
            taken = self.model.signers["officer" if role == "site" else "site"]
            self.expecting(LedgerRefused, lambda: ledger.set_key(role, taken, reason="r", holder=None))
        process.knows.add(new.verifier.vkey)
        self.expecting(stale, lambda: ledger.set_key(role, new.verifier.vkey, reason="r", holder=new))
        demand(self.model.signers[role] == new.verifier.vkey, "an acknowledged key is not there")

    def do_checkpoint(self, process: Process) -> None:
        ledger = self.opened(process)
        error = LedgerRefused if "site" not in self.model.signers else self._stale_error(process)
        if error is None and process.witnessed and not any(o.reachable and not o.loses for o in self.witnesses):
            error = WitnessUnavailable
        note = self.expecting(error, ledger.checkpoint)
        demand(self.interleaved or self.model.checkpoint == self.model.size - 1, "a checkpoint is not there")
        demand(note.startswith("synthema-ledger/"), "a checkpoint is no checkpoint")

    def do_note(self, process: Process) -> None:
        ledger, before = self.opened(process), self.model.size
        ledger.note("a line")
        demand(self.model.size == before + 1, "an acknowledged note is not there")

    def do_look(self, process: Process) -> None:
        """Read what has to agree with the books: the head, what is pending, what was charged."""
        ledger, model = self.opened(process), self.model
        demand(ledger.head == (model.size, model.hashes[model.size].hex()), "the head is not the last entry")
        if self.rng.random() < 0.1:
            pending = {name for name, key in model.keys.items() if key.status == "reserved"}
            demand(set(ledger.pending()) == pending, "pending() is not what is reserved")

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

    # The world

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
