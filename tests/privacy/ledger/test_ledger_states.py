"""Any order of operations, on two open ledgers of one file, against a model of a few dictionaries."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from privacy import BudgetExceeded, KeyReused, SpentWithoutAnswer, ZeroConcentratedDP, epsilon_to_rho, rho_of
from privacy._units import LOSS, round_down, round_up
from privacy.ledger import LedgerRefused, open_ledger, verify

KEYS = [f"key-{i}" for i in range(6)]
ACCOUNTS = {"wide": 3.0, "narrow": 0.5}
DELTA = 1e-6
# Around the caps (0.185 and 0.0060): some fit often, some once, some never.
RHOS = [1e-20, 0.0015, 0.003, 0.02, 0.06, 0.2]

keys, accounts, rhos, sides = (
    st.sampled_from(KEYS),
    st.sampled_from(sorted(ACCOUNTS)),
    st.sampled_from(RHOS),
    st.booleans(),
)


def cost(rho: float) -> int:
    return round_up(rho_of(ZeroConcentratedDP(rho)), LOSS)


class LedgerMachine(RuleBasedStateMachine):
    """The model: key -> [account, rho, status, answer]; statuses reserved, started, posted, answered, void."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{self.folder.name}/site.db"
        self.ledgers = [open_ledger(self.url), open_ledger(self.url)]
        self.keys: dict[str, list] = {}
        self.held: dict[str, object] = {}
        self.entries = 1
        self.heads: list[str] = []

    @initialize()
    def open_accounts(self):
        self.caps = {}
        for name, epsilon in ACCOUNTS.items():
            self.ledgers[0].open_account(name, epsilon=epsilon, delta=DELTA, neighbours="add_remove_one")
            self.caps[name] = round_down(epsilon_to_rho(epsilon, DELTA), LOSS)
            self.entries += 1

    def used(self, account: str) -> int:
        return sum(cost(rho) for name, rho, status, _ in self.keys.values() if name == account and status != "void")

    def expected_refusal(self, key, account, rho):
        known = self.keys.get(key)
        if known is not None and known[:2] != [account, rho]:
            return KeyReused
        if known is not None and known[2] in ("started", "posted"):
            return SpentWithoutAnswer
        fresh = known is None or known[2] == "void"
        if fresh and self.used(account) + cost(rho) > self.caps[account]:
            return BudgetExceeded
        return None

    def reserve_as(self, key, account, rho):
        if self.keys.get(key, [0, 0, "void", None])[2] == "void":
            self.keys[key] = [account, rho, "reserved", None]
            self.entries += 1

    @rule(key=keys, account=accounts, rho=rhos, side=sides)
    def reserve(self, key, account, rho, side):
        refusal = self.expected_refusal(key, account, rho)
        ask = {"account": account, "event": ZeroConcentratedDP(rho), "key": key, "purpose": "p"}
        if refusal is not None:
            with pytest.raises(refusal):
                self.ledgers[side].reserve(**ask)
            return
        reservation = self.ledgers[side].reserve(**ask)
        if self.keys.get(key, [0, 0, 0, None])[2] == "answered":
            assert reservation.stored == self.keys[key][3]
            return
        self.reserve_as(key, account, rho)
        self.held[key] = reservation

    @rule(key=keys, account=accounts, rho=rhos, side=sides, answer=st.none() | st.integers())
    def spend(self, key, account, rho, side, answer):
        refusal = self.expected_refusal(key, account, rho)
        block = self.ledgers[side].spend(account, ZeroConcentratedDP(rho), key=key, purpose="p")
        if refusal is not None:
            with pytest.raises(refusal), block:
                pytest.fail("the block must not run")
            return
        stored = self.keys[key][3] if self.keys.get(key, [0, 0, 0, None])[2] == "answered" else None
        with block:
            if stored is not None:
                assert block.stored == stored
            if answer is not None:
                assert block.release(answer) == (answer if stored is None else stored)
        if stored is None:
            self.reserve_as(key, account, rho)
            self.keys[key][2:] = ["posted", None] if answer is None else ["answered", answer]
            self.entries += 2

    @rule(key=keys)
    def start(self, key):
        if key in self.held:
            reservation, status = self.held[key], self.keys[key][2]
            mine = "reserved" in repr(reservation)
            if mine and status == "reserved":
                reservation.start()
                self.keys[key][2] = "started"
                self.entries += 1
            else:
                with pytest.raises((LedgerRefused, SpentWithoutAnswer)):
                    reservation.start()

    @rule(key=keys, answer=st.none() | st.integers())
    def finish(self, key, answer):
        if key in self.held and self.keys[key][2] == "started":
            if answer is None:
                self.held[key].post()
                self.keys[key][2] = "posted"
            else:
                assert self.held[key].release(answer) == answer
                self.keys[key][2:] = ["answered", answer]
            self.entries += 1

    @rule(key=keys, side=sides)
    def void(self, key, side):
        if self.keys.get(key, [0, 0, 0])[2] == "reserved":
            self.ledgers[side].void(key)
            self.keys[key][2] = "void"
            self.entries += 1
        else:
            with pytest.raises(LedgerRefused):
                self.ledgers[side].void(key)

    @rule(account=accounts, epsilon=st.sampled_from([0.1, 0.4, 2.0]), side=sides)
    def set_cap(self, account, epsilon, side):
        cap = round_down(epsilon_to_rho(epsilon, DELTA), LOSS)
        if cap > self.caps[account]:
            with pytest.raises(LedgerRefused):
                self.ledgers[side].set_cap(account, epsilon=epsilon, delta=DELTA, reason="r")
        else:
            self.ledgers[side].set_cap(account, epsilon=epsilon, delta=DELTA, reason="r")
            self.entries += cap != self.caps[account]
            self.caps[account] = cap

    @rule(side=sides)
    def reopen(self, side):
        self.ledgers[side].close()
        self.ledgers[side] = open_ledger(self.url)
        # A crash: what was started by its holder stays started, for ever.
        self.held.clear()

    @invariant()
    def both_ledgers_agree_with_the_model(self):
        for ledger in self.ledgers:
            assert ledger.head[0] == self.entries
            for name, cap in getattr(self, "caps", {}).items():
                left = ledger.remaining(name)
                assert left.rho_left == pytest.approx(max(0, cap - self.used(name)) / 10**18, rel=1e-11, abs=1e-18)
                charged = [rho for a, rho, s, _ in self.keys.values() if a == name and s not in ("void", "reserved")]
                assert sorted(event.rho for event in ledger.events(name)) == sorted(charged)
        self.heads.append(self.ledgers[0].head[1])

    def teardown(self):
        for head in [*self.heads[::7], None]:
            result = verify(self.url, head=head)
            assert result.ok, result.problems
            assert result.entries == self.entries
        for ledger in self.ledgers:
            ledger.close()
        assert not Path(self.folder.name, "site.db-wal").exists()
        self.folder.cleanup()


TestLedgerStates = LedgerMachine.TestCase
TestLedgerStates.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
