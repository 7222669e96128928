"""The ledger's doors in the simulator: every operation a process can ask for, and what the model expects of it."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import Any

from simulator_model import ERASURE, Ask, Terms, Violation, cost_of, demand, filter_for
from simulator_play import CAPS, EVENTS, VERSIONS, Play, Process, Refused, arguments_of

from privacy import (
    SpentWithoutAnswer,
    UnsupportedEvent,
)
from privacy.ledger import (
    LedgerRefused,
    WitnessUnavailable,
)
from privacy.ledger.chain import key_digest


class Doors(Play):
    """An episode in which processes use the ledger."""

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
        with contextlib.suppress(ZeroDivisionError), contextlib.ExitStack() as stack:
            stack.push(block.__exit__)
            self.meanwhile()
            if way < 0.15:
                return
            if way < 0.25:
                raise ZeroDivisionError  # the error of whoever wrote the block
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
