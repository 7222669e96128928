"""What a ledger must do, in plain dictionaries and fractions: an independent reading of its rules.

Costs and caps come from `privacy.filters` (the mathematics); which entry may follow which, sums, blocks, parents, keys
and refusals are written here a second time. Each entry takes a time that does not depend on the history's length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

from privacy import BudgetExceeded, KeyReused, SpentWithoutAnswer, UnknownAccount, UnsupportedEvent
from privacy.events import Event, NonPrivate, event_to_json
from privacy.filters import Filter, PureFilter, RdpFilter, ZcdpFilter, check_whole
from privacy.ledger.errors import LedgerRefused

Cost = tuple[Fraction, ...]
REFRESH, ERASURE = "refresh", "erasure"


class Violation(AssertionError):
    """The ledger did what it must never do, or did not do what it must."""


def demand(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as assert
    if not holds:
        raise Violation(what)


@dataclass(frozen=True)
class Terms:
    """An account's terms, as arguments of `open_account`."""

    name: str
    rule: str
    relation: str
    epsilon: float = 1.0
    delta: float = 1e-6
    part: float = 0.0
    order: float | None = None
    curve: tuple[tuple[float, float], ...] = ()
    parent: str | None = None
    blocks: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def filter_for(terms: Terms) -> Filter:
    rest = {"neighbours": terms.relation}
    if terms.rule == "pure":
        return PureFilter(terms.epsilon, delta=terms.delta, **rest)
    if terms.rule == "zcdp":
        return ZcdpFilter(terms.epsilon, terms.delta, approximate_delta=terms.part, **rest)
    if terms.curve:
        return RdpFilter.under_curve(dict(terms.curve), delta=terms.delta, approximate_delta=terms.part, **rest)
    return RdpFilter(terms.epsilon, terms.delta, order=terms.order, approximate_delta=terms.part, **rest)


@lru_cache(maxsize=4096)
def caps_for(terms: Terms) -> Cost:
    """Return the caps; of a Renyi account of one order, what the journal's decimal of it says."""
    found = filter_for(terms)
    if terms.rule == "renyi" and not terms.curve:
        cap = Fraction(found.caps[0], found.units[0])
        # The ledger keeps the cap as the largest double that is not above it, and reads that by its decimal.
        value = float(cap)
        value = value if Fraction(value) <= cap else math.nextafter(value, 0)
        cap_units = math.floor(Fraction(repr(value)) * found.units[0])
        return (Fraction(cap_units, found.units[0]), Fraction(found.caps[1], found.units[1]))
    return tuple(Fraction(cap, unit) for cap, unit in zip(found.caps, found.units, strict=True))


@lru_cache(maxsize=4096)
def cost_of(event: Event, terms: Terms) -> Cost | None:
    """Return what the event costs the account, or None if it has no price there."""
    if terms.rule == "exact":
        return () if isinstance(event, NonPrivate) else None
    found = filter_for(terms)
    try:
        return tuple(Fraction(value, unit) for value, unit in zip(found.price(event), found.units, strict=True))
    except UnsupportedEvent:
        return None


@lru_cache(maxsize=4096)
def needs_all_blocks(event: Event, relation: str) -> bool:
    try:
        check_whole(event, relation, all_blocks=False)
    except UnsupportedEvent:
        return True
    return False


@dataclass
class Account:
    terms: Terms
    caps: Cost
    capped_at: int
    charged: dict[str, list[Fraction]] = field(default_factory=dict)
    reserved: dict[str, list[Fraction]] = field(default_factory=dict)

    def used(self, block: str, i: int) -> Fraction:
        return self.charged[block][i] + self.reserved[block][i]


@dataclass
class Key:
    account: str
    event: str
    purpose: str
    version: str
    blocks: tuple[str, ...]
    cost: Cost = ()
    status: str = "void"
    answer: Any = None

    def asked_for(self) -> tuple[Any, ...]:
        return self.account, self.event, self.purpose, self.version, self.blocks


@dataclass(frozen=True)
class Ask:
    """What a spend asks for."""

    key: str
    account: str
    event: Event
    purpose: str = "p"
    version: str = ""
    blocks: tuple[str, ...] = ()

    def terms(self) -> tuple[Any, ...]:
        return self.account, text_of(self.event), self.purpose, self.version, tuple(sorted(self.blocks))


@lru_cache(maxsize=4096)
def text_of(event: Event) -> str:
    return json.dumps(event_to_json(event), sort_keys=True)


class Model:
    """The books, kept a second time. `intended`: what is being released under a key, by key.

    planned    accounts that may be opened, by name
    events     of the journal's texts, so that costs are those of the events that were asked for
    """

    def __init__(self, planned: Sequence[Terms], events: Sequence[Event]) -> None:
        self.planned = {terms.name: terms for terms in planned}
        self._events = {text_of(event): event for event in events}
        self.accounts: dict[str, Account] = {}
        self.keys: dict[str, Key] = {}
        self.data: dict[str, str] = {}
        self.signers: dict[str, str] = {}
        self.intended: dict[str, Any] = {}
        self.size = 0
        self.checkpoint = 0
        self.cosigned = 0
        self.hashes: list[bytes] = [bytes(32)]

    # What was written

    def committed(self, commit: Any) -> None:
        """Take what a transaction wrote, once it cannot be lost. Raises Violation."""
        for seq, body, digest in commit.rows:
            document = json.loads(body.decode())
            demand(seq == self.size + 1 == document["seq"], f"entry {seq} is out of place")
            self.size = seq
            self.hashes.append(digest)
            getattr(self, f"_{document['kind']}")(document)
        if "cosigned" in commit.states:
            size = int(commit.states["cosigned"].decode().split("\n")[1])
            demand(self.cosigned <= size <= self.size, "the cosigned checkpoint went back, or ahead of the journal")
            self.cosigned = size

    def _note(self, _document: dict[str, Any]) -> None:
        """A line of text changes nothing."""

    def _checkpoint(self, document: dict[str, Any]) -> None:
        size = int(document["note"].split("\n")[1])
        demand(size == self.size - 1, "a checkpoint is not of all entries before it")
        self.checkpoint = size

    def _data(self, document: dict[str, Any]) -> None:
        version, change = document["version"], document["change"]
        known = self.data.get(version)
        demand(known is None or (known != ERASURE == change), f"data version {version} was recorded twice")
        self.data[version] = change

    def _rotate_key(self, document: dict[str, Any]) -> None:
        role, key = document["role"], document["key"]
        signed = {name for name, _ in document["signatures"]}
        demand("site" not in self.signers or self.signers["site"] in signed, "a key without the site's signature")
        demand(key not in [other for name, other in self.signers.items() if name != role], "a key with two roles")
        if key:
            self.signers[role] = key
        else:
            self.signers.pop(role, None)

    def _open_account(self, document: dict[str, Any]) -> None:
        terms = self.planned[document["account"]]
        demand(terms.name not in self.accounts, f"account {terms.name} was opened twice")
        caps = () if terms.rule == "exact" else caps_for(terms)
        demand(tuple(map(Fraction, document.get("caps", []))) == caps, f"the caps of {terms.name} are not its terms'")
        account = Account(terms, caps, self.size)
        for block in terms.blocks or ("",):
            account.charged[block] = [Fraction(0)] * len(caps)
            account.reserved[block] = [Fraction(0)] * len(caps)
        self.accounts[terms.name] = account

    def _set_cap(self, document: dict[str, Any]) -> None:
        account = self.accounts[document["account"]]
        terms = self.capped(account, float(document["epsilon"]), float(document["delta"]))
        caps = caps_for(terms)
        demand(tuple(map(Fraction, document["caps"])) == caps, "the caps are not what epsilon and delta imply")
        demand(document["replaces"] == account.capped_at, "a cap replaces another than the one in force")
        signed = sorted(name for name, _ in document["signatures"])
        wanted = [self.signers["site"]] if "site" in self.signers else []
        if self.raises(account, terms):
            demand("officer" in self.signers and bool(wanted), "a cap was raised without two keys")
            wanted.append(self.signers["officer"])
        demand(signed == sorted(wanted), "a cap is not signed by the keys that it needs")
        account.terms, account.caps, account.capped_at = terms, caps, self.size

    def _reserve(self, document: dict[str, Any]) -> None:
        name, version, blocks = document["key"], document["data_version"], tuple(document["blocks"])
        text = json.dumps(document["event"], sort_keys=True)
        account = self.accounts[document["account"]]
        cost = cost_of(self._events[text], account.terms)
        key = Key(document["account"], text, document["purpose"], version, blocks, cost or ())
        before = self.keys.get(name)
        demand(before is None or before.status == "void", f"key {name} was reserved twice")
        demand(before is None or before.asked_for() == key.asked_for(), f"key {name} was reserved for something else")
        demand(cost is not None, "what has no price was reserved")
        demand(self.data.get(version) != ERASURE, "something is released from an erased version of the data")
        written = () if document["amounts"] is None else tuple(map(Fraction, document["amounts"]))
        demand(written == key.cost, "the cost is not the event's")
        demand(not self.exceeds(account, key.cost, blocks), f"the cap of {account.terms.name} is exceeded")
        self._move(key, "reserved", 1)
        key.status = "reserved"
        self.keys[name] = key

    def _start(self, document: dict[str, Any]) -> None:
        key = self._in_status(document, "reserved")
        demand(self.data.get(key.version) != ERASURE, "something is released from an erased version of the data")
        self._move(key, "reserved", -1)
        self._move(key, "charged", 1)
        key.status = "started"

    def _post(self, document: dict[str, Any]) -> None:
        key = self._in_status(document, "started")
        key.status = "posted"
        if document["answer"] is not None:
            demand(self.data.get(key.version) != ERASURE, "an answer is stored of an erased version of the data")
            key.answer = self.intended[document["key"]]

    def _void(self, document: dict[str, Any]) -> None:
        key = self._in_status(document, "reserved")
        self._move(key, "reserved", -1)
        key.status = "void"

    def _in_status(self, document: dict[str, Any], status: str) -> Key:
        key = self.keys.get(document["key"])
        if key is None or key.status != status:
            raise Violation(f"{document['kind']} of key {document['key']}, which is not {status}")
        return key

    def _move(self, key: Key, what: str, sign: int) -> None:
        if not key.cost:
            return
        for account in self.chain(self.accounts[key.account]):
            sums = getattr(account, what)
            for block in key.blocks or sums:
                for i, cost in enumerate(key.cost):
                    sums[block][i] += sign * cost

    # What follows from it

    def chain(self, account: Account) -> list[Account]:
        found = [account]
        while found[-1].terms.parent is not None:
            found.append(self.accounts[found[-1].terms.parent])
        return found

    def counts(self, account: Account, i: int, blocks: Sequence[str]) -> list[tuple[Fraction, int]]:
        """Return what every neighbour sees of amount i, and how often it would see a release on these blocks.

        A neighbour differs in one block, or, where patients are replaced, in two.
        """
        touched = set(blocks or account.charged)
        single = [(account.used(block, i), int(block in touched)) for block in account.charged]
        if account.terms.relation != "replace_one" or len(single) == 1:
            return single
        return [
            (single[a][0] + single[b][0], single[a][1] + single[b][1])
            for a in range(len(single))
            for b in range(a + 1, len(single))
        ]

    def exceeds(self, account: Account, cost: Cost, blocks: Sequence[str]) -> bool:
        return any(
            used + times * cost[i] > each.caps[i]
            for each in self.chain(account)
            for i in range(len(cost))
            for used, times in self.counts(each, i, blocks)
        )

    def largest_count(self, account: Account, cost: Cost, blocks: Sequence[str]) -> int:
        least: int | None = None
        for each in self.chain(account):
            for i, price in enumerate(cost):
                for used, times in self.counts(each, i, blocks):
                    if used > each.caps[i]:
                        return 0
                    if times * price > 0:
                        fits = int((each.caps[i] - used) // (times * price))
                        least = fits if least is None else min(least, fits)
        return least or 0

    @staticmethod
    def capped(account: Account, epsilon: float, delta: float) -> Terms:
        return Terms(**{**vars(account.terms), "epsilon": epsilon, "delta": delta})

    @staticmethod
    def raises(account: Account, terms: Terms) -> bool:
        more = any(new > old for new, old in zip(caps_for(terms), account.caps, strict=True))
        return more or terms.epsilon > account.terms.epsilon or terms.delta > account.terms.delta

    # What must be answered

    def refusal(self, ask: Ask) -> type[Exception] | None:
        """Return the error that a reservation must meet; None: it is made, or its stored answer is given."""
        account = self.accounts.get(ask.account)
        if account is None:
            return UnknownAccount
        key = self.keys.get(ask.key)
        if key is not None:
            if key.asked_for() != ask.terms():
                return KeyReused
            if key.answer is not None:
                return LedgerRefused if self.data.get(ask.version) == ERASURE else None
            if key.status in ("started", "posted"):
                return SpentWithoutAnswer
            if key.status == "reserved":
                return LedgerRefused if self.data.get(ask.version) == ERASURE else None
        return self._admission(account, ask)

    def _admission(self, account: Account, ask: Ask) -> type[Exception] | None:
        if not set(ask.blocks) <= set(account.terms.blocks) or len(set(ask.blocks)) != len(ask.blocks):
            return LedgerRefused
        if self.data.get(ask.version) == ERASURE:
            return LedgerRefused
        cost = cost_of(ask.event, account.terms)
        if cost is None:
            return UnsupportedEvent
        part = bool(ask.blocks) and len(ask.blocks) < len(account.charged)
        if cost and part and needs_all_blocks(ask.event, account.terms.relation):
            return UnsupportedEvent
        return BudgetExceeded if self.exceeds(account, cost, ask.blocks) else None

    def batch_refusal(self, asks: Sequence[Ask]) -> type[Exception] | None:
        """Return the error that a batch must meet, as each reservation finds those before it."""
        made: list[tuple[str, Key | None]] = []
        try:
            for ask in asks:
                error = self.refusal(ask)
                if error is not None:
                    return error
                before = self.keys.get(ask.key)
                if before is None or before.status == "void":
                    key = Key(*ask.terms(), cost_of(ask.event, self.accounts[ask.account].terms) or (), "reserved")
                    made.append((ask.key, before))
                    self._move(key, "reserved", 1)
                    self.keys[ask.key] = key
            return None
        finally:
            for name, before in reversed(made):
                self._move(self.keys[name], "reserved", -1)
                if before is None:
                    del self.keys[name]
                else:
                    self.keys[name] = before

    def started(self, name: str) -> type[Exception] | None:
        """Return the error that starting a reservation must meet."""
        key = self.keys.get(name)
        if key is None or key.status == "void":
            return LedgerRefused
        if key.status != "reserved":
            return SpentWithoutAnswer
        return LedgerRefused if self.data.get(key.version) == ERASURE else None
