"""What the journal implies: accounts, keys, signers and data versions, as the entries so far leave them.

The journal is the only truth; these are its projections. They are kept beside it, one small document each, so that a
spend touches a few of them however long the history is; `verify` makes them anew from the entries and compares.

A document's name is a kind and a name (`account aml`, `key job-17/step-1`, `data 2026-11`), or `head`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import add
from typing import Any, Literal, Protocol, Self, TypeVar

from privacy.filters import Amounts, Filter
from privacy.ledger.accounts import Account, filter_of
from privacy.ledger.canonical import plain
from privacy.ledger.chain import START
from privacy.ledger.merkle import Frontier

Status = Literal["reserved", "started", "posted", "void"]
Loader = Callable[[str], bytes | None]

# A block without a name: the whole table.
WHOLE = ""


class Record(Protocol):
    """A projection that is kept as a document."""

    def document(self) -> bytes:
        """Return its bytes: equal states have equal bytes."""


@dataclass(slots=True)
class AccountState:
    """An account: its terms as opened and now, its caps, and per block what was charged and what is reserved.

    capped_at   seq of the entry that set the present cap
    """

    opened: Account
    now: Account
    caps: Amounts
    capped_at: int
    charged: dict[str, Amounts] = field(default_factory=dict)
    reserved: dict[str, Amounts] = field(default_factory=dict)
    # The document's beginning, which no spend changes.
    _terms: bytes = field(default=b"", init=False, repr=False, compare=False)
    _rule: Filter | None = field(default=None, repr=False, compare=False)

    @property
    def rule(self) -> Filter:
        """The filter that prices its events, for another account than an exact one."""
        if self._rule is None:
            self._rule = filter_of(self.now)
        return self._rule

    def used(self, block: str) -> Amounts:
        """What is charged or reserved in a block."""
        return tuple(map(add, self.charged[block], self.reserved[block]))

    def worst(self, amounts: Callable[[str], Amounts]) -> Amounts:
        """Return, of every amount, what the worst neighbour sees: one block, or two where a patient may be replaced."""
        if len(self.charged) == 1:
            return amounts(next(iter(self.charged)))
        columns = list(zip(*(amounts(block) for block in self.charged), strict=True))
        if self.now.neighbours == "replace_one":
            return tuple([sum(sorted(column)[-2:]) for column in columns])
        return tuple([max(column) for column in columns])

    @property
    def left(self) -> Amounts:
        """What the caps still allow a release that touches all blocks; negative after a cap was lowered below it."""
        twice = 2 if self.now.neighbours == "replace_one" and len(self.charged) > 1 else 1
        return tuple([(cap - used) // twice for cap, used in zip(self.caps, self.worst(self.used), strict=True)])

    def document(self) -> bytes:
        """Return its bytes."""
        if not self._terms:
            self._terms = b"%b,%b" % (plain(_terms(self.opened)), plain(_terms(self.now)))
        amounts = [
            {name: list(map(str, value)) for name, value in part.items()} for part in (self.charged, self.reserved)
        ]
        rest = plain([list(map(str, self.caps)), self.capped_at, *amounts])
        return b"[%b,%b" % (self._terms, rest[1:])

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the state of these bytes."""
        opened, now, caps, capped_at, *parts = json.loads(data)
        charged, reserved = ({name: tuple(map(int, value)) for name, value in part.items()} for part in parts)
        return cls(_account(opened), _account(now), tuple(map(int, caps)), capped_at, charged, reserved)


def _terms(account: Account) -> list[Any]:
    return [
        account.name,
        account.filter,
        account.unit,
        account.neighbours,
        account.epsilon,
        account.delta,
        account.approximate_delta,
        account.curve,
        account.parent,
        account.blocks,
        account.block_rule,
    ]


def _account(values: list[Any]) -> Account:
    name, rule, unit, neighbours, epsilon, delta, part, curve, parent, blocks, block_rule = values
    orders = tuple((order, cap) for order, cap in curve)
    return Account(name, rule, unit, neighbours, epsilon, delta, part, orders, parent, tuple(blocks), block_rule)


@dataclass(slots=True)
class KeyState:
    """What became of a key.

    seq      of its latest reservation: the entry says what for
    blocks   that the release touches
    answer   hex digest of the stored answer, or None
    """

    account: str
    seq: int
    amounts: Amounts
    blocks: tuple[str, ...]
    data_version: str
    status: Status = "reserved"
    answer: str | None = None

    def document(self) -> bytes:
        """Return its bytes."""
        amounts = list(map(str, self.amounts))
        return plain([self.account, self.seq, amounts, self.blocks, self.data_version, self.status, self.answer])

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the state of these bytes."""
        account, seq, amounts, blocks, version, status, answer = json.loads(data)
        return cls(account, seq, tuple(map(int, amounts)), tuple(blocks), version, status, answer)


@dataclass(slots=True)
class DataState:
    """A version of the data: the entry that named it, and whether its stored answers were erased."""

    seq: int
    change: str
    erased: bool = False

    def document(self) -> bytes:
        """Return its bytes."""
        return plain([self.seq, self.change, self.erased])

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the state of these bytes."""
        return cls(*json.loads(data))


@dataclass(slots=True)
class Head:
    """Where the journal stands.

    size, hash     the number of entries, and the last one's hash in the chain
    frontier       of the Merkle tree over the entries
    keys           verifier keys in force: role ("site", "officer", or "witness NAME") to text
    checkpointed   the size that the last checkpoint entry covers
    keyed_at       seq of the entry that last changed the keys; 0: none
    """

    size: int = 0
    hash: bytes = START
    frontier: Frontier = field(default_factory=Frontier)
    format: str = ""
    schema: str = ""
    ledger_id: str = ""
    site: str = ""
    neighbours: str | None = None
    keys: dict[str, str] = field(default_factory=dict)
    checkpointed: int = 0
    keyed_at: int = 0

    def document(self) -> bytes:
        """Return its bytes."""
        hashes = [each.hex() for each in self.frontier.hashes]
        who = [self.format, self.schema, self.ledger_id, self.site, self.neighbours, self.keys]
        return plain([self.size, self.hash.hex(), hashes, *who, self.checkpointed, self.keyed_at])

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the state of these bytes."""
        size, digest, hashes, *who = json.loads(data)
        return cls(size, bytes.fromhex(digest), Frontier(size, [bytes.fromhex(each) for each in hashes]), *who)


_Kind = TypeVar("_Kind", AccountState, KeyState, DataState)


class Books:
    """The projections: all of them in memory, or those that were looked at, from where they are kept.

    load   returns the document of a name, or None; without it, everything starts empty
    """

    def __init__(self, load: Loader | None = None) -> None:
        self._load = load
        self._records: dict[str, Record | None] = {}
        self.head = Head()
        self._changed: dict[str, Record] = {}
        if load is not None and (data := load("head")) is not None:
            self.head = Head.of(data)

    def account(self, name: str) -> AccountState | None:
        """Return the account, or None."""
        return self._get(f"account {name}", AccountState)

    def key(self, name: str) -> KeyState | None:
        """Return the key, or None if it was never used."""
        return self._get(f"key {name}", KeyState)

    def data(self, version: str) -> DataState | None:
        """Return the version of the data, or None if no entry names it."""
        return self._get(f"data {version}", DataState)

    def put(self, kind: Literal["account", "key", "data"], name: str, record: Record) -> None:
        """Keep a new or changed record."""
        name = f"{kind} {name}"
        self._records[name] = self._changed[name] = record

    def changes(self) -> Iterator[tuple[str, bytes]]:
        """Yield names and documents of what changed since the last time, the head last."""
        changed, self._changed = self._changed, {}
        for name, record in changed.items():
            yield name, record.document()
        yield "head", self.head.document()

    def all_keys(self) -> Iterator[tuple[str, KeyState]]:
        """Yield all keys that are in memory, with their names."""
        for name, record in self._records.items():
            if isinstance(record, KeyState):
                yield name.removeprefix("key "), record

    def all_accounts(self) -> Iterator[AccountState]:
        """Yield all accounts that are in memory."""
        for record in self._records.values():
            if isinstance(record, AccountState):
                yield record

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Yield all names and documents that are in memory."""
        for name, record in self._records.items():
            if record is not None:
                yield name, record.document()
        yield "head", self.head.document()

    def _get(self, name: str, kind: type[_Kind]) -> _Kind | None:
        if name not in self._records and self._load is not None:
            data = self._load(name)
            self._records[name] = None if data is None else kind.of(data)
        found = self._records.get(name)
        return found if isinstance(found, kind) else None
