"""Any order of operations, on two open ledgers of one file, against books that are kept a second time."""

from __future__ import annotations

import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

sys.path.insert(0, str(Path(__file__).parent))

from simulator_model import ERASURE, Ask, Model, Terms, Violation, cost_of

from privacy import ApproximateDP, NonPrivate, PureDP, SpentWithoutAnswer, ZeroConcentratedDP
from privacy.ledger import LedgerRefused, Signer, account_doors, open_ledger, quotes, requests, verify
from privacy.ledger.books import AccountState

DELTA, RELATION = 1e-6, "replace_one"
BLOCKS = ("2024", "2025", "2026")
ACCOUNTS = [
    Terms("wide", "zcdp", RELATION, 3.0, part=2e-7),
    Terms("child", "zcdp", RELATION, 1.0, part=1e-7, parent="wide"),
    Terms("blocks", "pure", RELATION, 1.0, blocks=BLOCKS),
    Terms("part", "pure", RELATION, 0.7, blocks=BLOCKS, parent="blocks"),
    Terms("exact", "exact", RELATION),
]
# Around the caps: some fit often, some once, some never.
EVENTS = {
    "zcdp": [*map(ZeroConcentratedDP, (1e-20, 0.003, 0.02, 0.06, 0.2)), ApproximateDP(0.1, 8e-8), PureDP(0.1)],
    "pure": [*map(PureDP, (1e-18, 0.1, 0.3, 0.6)), ApproximateDP(0.1, 5e-7), ZeroConcentratedDP(0.1)],
    "exact": [NonPrivate("a curve"), PureDP(0.1)],
}
CAPS = {"wide": (0.5, 1.5, 3.0), "child": (0.4, 1.0, 2.0), "blocks": (0.5, 1.0, 1.4), "part": (0.3, 0.7)}
KEYS = [f"key-{i}" for i in range(8)]
VERSIONS = ["", "v1", "v2"]

keys, sides, answers = st.sampled_from(KEYS), st.booleans(), st.none() | st.integers()


@st.composite
def asks(draw):
    terms = draw(st.sampled_from(ACCOUNTS))
    blocks = tuple(draw(st.sets(st.sampled_from(terms.blocks)))) if terms.blocks else ()
    event = draw(st.sampled_from(EVENTS[terms.rule]))
    return Ask(draw(keys), terms.name, event, "p", draw(st.sampled_from(VERSIONS)), blocks)


@pytest.fixture(autouse=True, scope="module")
def no_epsilons():
    """Leave out the epsilons that are only for people to read: they cost milliseconds and decide nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (account_doors, quotes, requests):
            patch.setattr(module, "epsilon_spent", lambda *_: 0.0)
        yield


class LedgerMachine(RuleBasedStateMachine):
    """`model`: the second books, fed with each new entry. `held`: reservations, and what their holder knows."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.url = self.place()
        self.site, self.officer = (Signer(name, Ed25519PrivateKey.generate()) for name in ("site", "officer"))
        self.model = Model(ACCOUNTS, [event for events in EVENTS.values() for event in events])
        self.held: dict[str, list] = {}
        self.ledgers = [self.opened() for _ in range(2)]
        self.heads: list[str] = []

    def place(self):
        return f"sqlite:///{self.folder.name}/site.db"

    def opened(self):
        return open_ledger(self.url, signer=self.site, answer_key=Path(self.folder.name, "answers.key"))

    @initialize()
    def open_accounts(self):
        ledger = self.ledgers[0]
        for role, one in (("site", self.site), ("officer", self.officer)):
            ledger.set_key(role, one.verifier.vkey, reason="r", holder=one)
        for terms in ACCOUNTS:
            if terms.rule == "exact":
                ledger.open_exact_account(terms.name)
                continue
            part = {"approximate_delta": terms.part} if terms.rule == "zcdp" else {}
            ledger.open_account(
                terms.name,
                epsilon=terms.epsilon,
                delta=DELTA,
                neighbours=RELATION,
                filter=terms.rule,
                parent=terms.parent,
                blocks=terms.blocks,
                block_rule="year" if terms.blocks else "",
                **part,
            )
        self.catch_up()

    def catch_up(self):
        """Take the new entries into the second books, which object to what must not be."""
        journal = self.ledgers[0]._journal
        with journal.reading():
            rows = list(journal.store.rows(self.model.size + 1))
        self.model.committed(SimpleNamespace(rows=rows, states={}))
        return len(rows)

    def do(self, error, act, entries):
        """Do it: it ends with the error and no entry, or with this many."""
        if error is not None:
            with pytest.raises(error) as caught:
                act()
            assert caught.type is error
            assert self.catch_up() == 0
            return None
        found = act()
        assert self.catch_up() == entries
        return found

    def status(self, key):
        return self.model.keys[key].status if key in self.model.keys else "void"

    def words(self, ask):
        return {"key": ask.key, "purpose": ask.purpose, "data_version": ask.version, "blocks": ask.blocks}

    @rule(ask=asks(), side=sides)
    def reserve(self, ask, side):
        error, fresh = self.model.refusal(ask), self.status(ask.key) == "void"
        act = lambda: self.ledgers[side].reserve(ask.account, ask.event, **self.words(ask))  # noqa: E731
        one = self.do(error, act, int(fresh))
        if error is None:
            assert one.stored == self.model.keys[ask.key].answer
            self.held[ask.key] = [one, "answered" if one.answered else "reserved"]

    @rule(ask=asks(), side=sides, answer=answers)
    def spend(self, ask, side, answer):
        error, fresh = self.model.refusal(ask), self.status(ask.key) == "void"
        stored = None if error else getattr(self.model.keys.get(ask.key), "answer", None)
        block = self.ledgers[side].spend(ask.account, ask.event, **self.words(ask))
        self.do(error, block.__enter__, 0 if stored is not None else 1 + fresh)
        if error is not None:
            return
        assert block.stored == stored
        if stored is None:
            self.model.intended[ask.key] = answer
        if answer is not None:
            assert block.release(answer) == (answer if stored is None else stored)
        block.__exit__(None, None, None)
        assert self.catch_up() == (stored is None)
        assert self.model.keys[ask.key].answer == (answer if stored is None else stored)

    @rule(key=keys)
    def start(self, key):
        if key in self.held:
            one, local = self.held[key]
            error = LedgerRefused if local != "reserved" else self.model.started(key)
            self.do(error, one.start, 1)
            if error is None:
                self.held[key][1] = "started"

    @rule(key=keys, answer=answers)
    def finish(self, key, answer):
        if key not in self.held or self.held[key][1] != "started" or self.status(key) != "started":
            return
        one, erased = self.held[key][0], self.model.data.get(self.model.keys[key].version) == ERASURE
        if answer is None:
            self.do(None, one.post, 1)
            self.held[key][1] = "posted"
        else:
            self.model.intended[key] = answer
            error = LedgerRefused if erased else None
            found = self.do(error, lambda: one.release(answer), 1)
            if error is None:
                assert found == answer
                self.held[key][1] = "answered"

    @rule(key=keys, side=sides)
    def void(self, key, side):
        error = None if self.status(key) == "reserved" else LedgerRefused
        self.do(error, lambda: self.ledgers[side].void(key), 1)

    @rule(chosen=st.lists(asks(), min_size=1, max_size=4), side=sides)
    def batch(self, chosen, side):
        account = chosen[0].account
        batch = [Ask(ask.key, account, ask.event, "p") for ask in chosen if ask.account == account]
        fresh = {ask.key for ask in batch if self.status(ask.key) == "void"}
        error = self.model.batch_refusal(batch)
        pairs = [(ask.key, ask.event) for ask in batch]
        made = self.do(error, lambda: self.ledgers[side].reserve_many(account, pairs, purpose="p"), len(fresh))
        if error is not None:
            return
        waiting = [one for one in made if not one.answered]
        twice = len({one.key for one in waiting}) < len(waiting)
        error = SpentWithoutAnswer if twice else None
        self.do(error, lambda: self.ledgers[side].start_many(waiting), len(waiting))
        if error is None:
            self.model.intended |= {one.key: one.key for one in waiting}
            answered = [(one, one.key) for one in waiting]
            found = self.do(None, lambda: self.ledgers[side].release_many(answered), len(waiting))
            assert found == [one.key for one in waiting]

    @rule(ask=asks(), side=sides)
    def dry_run(self, ask, side):
        account = self.model.accounts[ask.account]
        cost = cost_of(ask.event, account.terms)
        if cost:
            found = self.ledgers[side].dry_run(ask.account, ask.event, blocks=ask.blocks)
            assert found.fits is not self.model.exceeds(account, cost, ask.blocks)
            assert found.largest_count == self.model.largest_count(account, cost, ask.blocks)
            assert self.catch_up() == 0

    @rule(name=st.sampled_from(sorted(CAPS)), place=st.integers(0, 2), holder=st.sampled_from("nso"), side=sides)
    def set_cap(self, name, place, holder, side):
        account = self.model.accounts[name]
        epsilon = CAPS[name][place % len(CAPS[name])]
        terms = self.model.capped(account, epsilon, DELTA)
        officer = {"n": None, "s": self.site, "o": self.officer}[holder]
        wrong = terms != account.terms and self.model.raises(account, terms) and holder != "o"
        change = lambda: self.ledgers[side].set_cap(  # noqa: E731
            name, epsilon=epsilon, delta=DELTA, reason="r", officer=officer
        )
        self.do(LedgerRefused if wrong else None, change, int(terms != account.terms))
        assert wrong or account.terms.epsilon == epsilon

    @rule(version=st.sampled_from(VERSIONS[1:]), change=st.sampled_from(["refresh", "opt_out", "erasure"]), side=sides)
    def record_data(self, version, change, side):
        known = self.model.data.get(version)
        error = LedgerRefused if known is not None and (known == ERASURE or change != ERASURE) else None
        self.do(error, lambda: self.ledgers[side].record_data(version, change=change, reason="r"), 1)

    @rule(side=sides)
    def checkpoint(self, side):
        self.do(None, self.ledgers[side].checkpoint, 1)

    @rule(side=sides, role=st.sampled_from(["officer", "site"]))
    def rotate(self, side, role):
        new = Signer(role, Ed25519PrivateKey.generate())
        self.do(None, lambda: self.ledgers[side].set_key(role, new.verifier.vkey, reason="r", holder=new), 1)
        if role == "officer":
            self.officer = new
        else:
            self.site = new
            self.reopen(not side)

    @rule(side=sides)
    def reopen(self, side):
        self.ledgers[side].close()
        self.ledgers[side] = self.opened()
        # A crash: what was started by its holder stays started, for ever.
        self.held.clear()

    @invariant()
    def both_ledgers_agree_with_the_model(self):
        for ledger in self.ledgers:
            assert ledger.head[0] == max(1, self.model.size)
            if self.model.accounts:
                pending = {name for name, key in self.model.keys.items() if key.status == "reserved"}
                assert set(ledger.pending()) == pending
                account = self.model.accounts["wide"]
                left = max(0, account.caps[0] - max(self.model.counts(account, 0, ()))[0])
                assert (
                    left * (1 - Fraction(1, 10**11)) - Fraction(1, 10**17) <= ledger.remaining("wide").rho_left <= left
                )
        self.heads.append(self.ledgers[0].head[1])

    def teardown(self):
        for head in [*self.heads[::20], None]:
            result = verify(self.url, head=head)
            assert result.ok, result.problems
        for ledger in self.ledgers:
            ledger.close()
        assert not Path(self.folder.name, "site.db-wal").exists()
        self.folder.cleanup()


TestLedgerStates = LedgerMachine.TestCase
TestLedgerStates.settings = settings(
    max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
class TestLedgerStatesForLong(LedgerMachine.TestCase):
    settings = settings(TestLedgerStates.settings, max_examples=150, stateful_step_count=60)


def test_a_ledger_that_forgets_the_second_block_is_found_out(monkeypatch):
    """The negative control."""

    def worst_of_one(state, amounts):
        return tuple(max(column) for column in zip(*(amounts(block) for block in state.charged), strict=True))

    monkeypatch.setattr(AccountState, "worst", worst_of_one)
    machine = LedgerMachine()
    machine.open_accounts()
    machine.reserve(Ask("1", "blocks", PureDP(0.6), "p", "", BLOCKS[:1]), False)
    with pytest.raises((Violation, pytest.fail.Exception)):
        machine.reserve(Ask("2", "blocks", PureDP(0.6), "p", "", BLOCKS[1:2]), False)
    machine.teardown()
