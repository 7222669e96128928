"""The journal in one place of keeping: transactions, appending, and the checks before anything is believed.

Every change is one transaction: wait in the queue, look where the journal stands, check the rules, append, write what
it implies, commit with a sync. What memory holds is only ever what the store holds.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from privacy.errors import LedgerCorrupt
from privacy.ledger import canonical
from privacy.ledger.anchor import Anchor, Mark
from privacy.ledger.books import AccountState, Books
from privacy.ledger.chain import START, entry_hash
from privacy.ledger.errors import LedgerRefused, LedgerRestored
from privacy.ledger.rules import FORMAT, BrokenRule, Replay, chain_of
from privacy.ledger.store import Move, Store


def utc_now() -> str:
    """Return the site's clock, as entries write it."""
    return _text_of_second(int(time.time()))


@lru_cache(maxsize=2)
def _text_of_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Journal:
    """An open journal. Threads may share it; a forked process opens its own.

    clock       what `at` says, replaceable for simulations
    ledger_id   the ledger's random identity
    """

    def __init__(self, store: Store, anchor: Anchor | None = None, clock: Callable[[], str] = utc_now) -> None:
        self.store = store
        self._anchor = anchor
        self._clock = clock
        self._pid = os.getpid()
        self._lock = threading.RLock()
        # The books at the last look and the head they were read with, or None: to be read anew.
        self._books: Books | None = None
        self._head = b""
        self._rules: Replay | None = None
        # The furthest head that was ever seen: the journal may grow, but never leave it.
        self._seen = (0, START)
        self._rows: list[tuple[int, bytes, bytes]] = []
        self._applied = False
        self._moves: list[Move] = []
        self._closer = weakref.finalize(self, _close_in, self._pid, store)
        # First the anchor: another process may append, and advance it, before the journal is looked at.
        mark = None if anchor is None else anchor.read()
        with self.reading() as books:
            self.ledger_id = books.head.ledger_id
            self._check_anchor(books, mark)

    def close(self) -> None:
        """Close the store; closing twice is fine."""
        if os.getpid() == self._pid:
            with self._lock:
                self._closer()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Books]:
        """Be the only writer: what is appended in the block is durable when it is left, or not there at all."""
        with self._in_this_process():
            self._rows, self._moves, self._applied = [], [], False
            try:
                with self.store.writing():
                    books = self._caught_up()
                    yield books
                    if self._rows:
                        states = list(books.changes())
                        self.store.append(self._rows)
                        self.store.put_states(states)
                        self.store.guard(self._moves)
                        self._head = states[-1][1]
            except BaseException:
                if self._applied:
                    # Memory may be ahead of the store, by half an entry if a signal struck; or the store may have kept
                    # what it could not confirm.
                    self._books = None
                raise
            finally:
                written, self._rows = self._rows, []
            self._seen = (books.head.size, books.head.hash)
            if written and self._anchor is not None:
                self._anchor.advance(Mark(books.head.ledger_id, books.head.size, books.head.hash.hex()))

    @contextlib.contextmanager
    def reading(self) -> Iterator[Books]:
        """See one state of the journal for the whole block."""
        with self._in_this_process(), self.store.reading():
            yield self._caught_up()

    def append(self, books: Books, kind: str, **fields: Any) -> int:
        """Append an entry inside `writing` and return its seq. Raises BrokenRule, and nothing is appended."""
        seq = books.head.size + 1
        document = {"seq": seq, "kind": kind, "at": self._clock(), **fields}
        body = canonical.encode(document)
        digest = entry_hash(books.head.hash, body)
        self._applied = True
        self._replay(books).apply(document, body, digest)
        self._rows.append((seq, body, digest))
        if self.store.guards:
            self._moves += _moves(books, kind, fields)
        return seq

    def _replay(self, books: Books) -> Replay:
        if self._rules is None or self._rules.books is not books:
            self._rules = Replay(books, self.body)
        return self._rules

    def body(self, seq: int) -> bytes:
        """Return the body of an entry, inside a block. Raises LedgerCorrupt if it is missing."""
        for place, body, _ in self._rows:
            if place == seq:
                return body
        row = self.store.row(seq)
        if row is None:
            raise LedgerCorrupt(f"{self.store.name}: entry {seq} is missing")
        return row[0]

    def document(self, seq: int) -> dict[str, Any]:
        """Return the document of an entry, inside a block."""
        return dict(canonical.decode(self.body(seq)))

    @contextlib.contextmanager
    def _in_this_process(self) -> Iterator[None]:
        if os.getpid() != self._pid:
            # A database's locks do not survive a fork, and another thread may have held ours.
            raise LedgerRefused("this ledger was opened by another process: call open_ledger in this one")
        with self._lock:
            if not self._closer.alive:
                raise LedgerRefused("this ledger is closed: open it again")
            yield

    def _caught_up(self) -> Books:
        name = self.store.name
        data = self.store.state("head")
        if data is None:
            raise LedgerCorrupt(f"{name}: it does not say where its journal stands; see verify")
        if self._books is None or data != self._head:
            try:
                self._books, self._head = Books(self._state), data
            except (ValueError, TypeError) as error:
                raise LedgerCorrupt(f"{name}: where its journal stands cannot be read: {error}; see verify") from None
        books, seen = self._books, self._seen
        head = books.head
        if head.format != FORMAT:
            raise LedgerCorrupt(f"{name}: the format is not {FORMAT}: another version wrote this ledger")
        if self.store.last() != (head.size, head.hash):
            self._books = None
            raise LedgerCorrupt(f"{name}: the last entry is not where the journal stands; see verify")
        # Where it was seen last, the last entry has just been compared.
        moved = seen[0] and seen != (head.size, head.hash)
        if moved and (head.size < seen[0] or (row := self.store.row(seen[0])) is None or row[1] != seen[1]):
            self._books = None
            raise LedgerCorrupt(f"{name}: entries that were there before are missing or changed")
        self._seen = (head.size, head.hash)
        return books

    def _state(self, name: str) -> bytes | None:
        return self.store.state(name)

    def check_whole(self) -> None:
        """Replay all entries. Raises LedgerCorrupt if they break a rule, or do not imply what is kept beside them."""
        with self.reading() as books:
            for problem in replay_problems(self.store, books.head.size):
                raise LedgerCorrupt(f"{self.store.name} does not verify: {problem}; nothing is spent from it")

    def _check_anchor(self, books: Books, mark: Mark | None) -> None:
        if mark is None:
            return
        if mark.ledger_id != books.head.ledger_id:
            raise LedgerRefused("the anchor belongs to another ledger: give that of this one")
        row = self.store.row(mark.size)
        if row is None or row[1].hex() != mark.hash:
            raise LedgerRestored(self.store.name, books.head.size, mark.size)


def replay_problems(store: Store, size: int) -> Iterator[str]:
    """Yield what is wrong with the entries up to `size` and with the documents kept beside them: the first of each."""
    books = Books()
    replay = Replay(books, lambda seq: (store.row(seq) or (b"", b""))[0])
    for seq, body, digest in store.rows():
        try:
            replay.extend(seq, body, digest)
        except BrokenRule as error:
            yield f"entry {seq}: {error}"
            return
    if books.head.size != size:
        yield "entries are missing"
    kept = dict(store.states(""))
    kept.pop("cosigned", None)
    for name, document in books.documents():
        if kept.pop(name, None) != document:
            yield f"what is kept of {name.split(' ')[0]} is not what the entries imply"
            return
    if kept:
        yield "something is kept that no entry implies"


def _moves(books: Books, kind: str, fields: dict[str, Any]) -> Iterator[Move]:
    """Yield what the entry, which the books hold already, does to each amount."""
    if kind in ("open_account", "set_cap"):
        state = books.account(fields["account"])
        if state is not None:
            for block in state.charged:
                for i, cap in enumerate(state.caps):
                    yield Move((state.now.name, block, i), cap, 0, 0, _after(state, block, i), sets_cap=True)
        return
    signs = {"reserve": (0, 1), "start": (1, -1), "void": (0, -1)}.get(kind)
    key = books.key(fields["key"]) if signs is not None else None
    if signs is None or key is None or not key.amounts:
        return
    account = books.account(key.account)
    for state in [] if account is None else chain_of(books, account):
        for block in key.blocks:
            for i, (cap, cost) in enumerate(zip(state.caps, key.amounts, strict=True)):
                yield Move((state.now.name, block, i), cap, signs[0] * cost, signs[1] * cost, _after(state, block, i))


def _after(state: AccountState, block: str, amount: int) -> tuple[int, int]:
    return state.charged[block][amount], state.reserved[block][amount]


def _close_in(pid: int, store: Store) -> None:
    # A forked child must leave its parent's connection alone, even when it is collected as garbage.
    if os.getpid() == pid:
        store.close()
