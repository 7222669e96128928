"""How an account was spent over time: epsilon against its cap after each charge, from the entries alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from privacy.errors import LedgerCorrupt
from privacy.filters import Amounts
from privacy.ledger._snapshot import Snapshot, from_snapshot
from privacy.ledger.accounts import Account, epsilon_spent
from privacy.ledger.books import AccountState, Books
from privacy.ledger.ledger import Ledger
from privacy.ledger.rules import BrokenRule, Replay, chain_of

# More points than this nobody sees in a picture; of a long history every so-manieth charge is kept, and the last.
MOST_POINTS = 256


@dataclass(frozen=True, slots=True)
class Point:
    """An account after an entry.

    seq, at         of the entry that charged it, opened it, or set its cap; `at` is the site's clock in UTC
    epsilon_spent   what everything charged so far implies at the account's delta, rounded up
    epsilon_cap     the cap then
    """

    seq: int
    at: str
    epsilon_spent: float
    epsilon_cap: float


@dataclass(frozen=True, slots=True)
class AccountHistory:
    """An account over time. `points` begins where it was opened and ends where it stands; delta is that of its cap."""

    account: str
    neighbours: str
    delta: float
    points: tuple[Point, ...]


@dataclass(slots=True)
class _Track:
    # (seq, at, terms, charged) of every `stride`-th charge and of every cap; the latest charge apart.
    kept: list[tuple[int, str, Account, Amounts]] = field(default_factory=list)
    latest: tuple[int, str, Account, Amounts] | None = None
    stride: int = 1
    charges: int = 0

    def add(self, seq: int, at: str, state: AccountState, *, charge: bool) -> None:
        point = (seq, at, state.now, state.worst(lambda block: state.charged[block]))
        self.latest = point
        self.charges += charge
        if charge and self.charges % self.stride:
            return
        self.kept.append(point)
        if len(self.kept) > 2 * MOST_POINTS:
            # Where caps change they stay: a jump of the cap is what readers look for.
            caps = [a for a, b in zip(self.kept[1:], self.kept, strict=False) if a[2] is not b[2]]
            self.kept = sorted({*self.kept[::2], *caps, self.kept[0]}, key=lambda each: each[0])
            self.stride *= 2


def history(ledger: Ledger | str) -> tuple[AccountHistory, ...]:
    """Return every private account over time, in the order in which they were opened.

    Parameters
    ----------
    ledger
        Open, or by its URL; read at one moment, without writing to it.

    Raises
    ------
    LedgerCorrupt
        The entries break a rule: see `verify`.
    LedgerUnavailable
        It cannot be read.
    """
    return from_snapshot(ledger, _history)


def _history(snapshot: Snapshot) -> tuple[AccountHistory, ...]:
    books, tracks = Books(), dict[str, _Track]()
    replay = Replay(books, lambda seq: (snapshot.row(seq) or (b"",))[0])
    for seq, body, digest in snapshot.rows():
        try:
            document = replay.extend(seq, body, digest)
        except BrokenRule as error:
            raise LedgerCorrupt(f"{snapshot.name}: entry {seq}: {error}; see verify") from None
        kind, name = document["kind"], ""
        if kind in ("open_account", "set_cap"):
            name = document["account"]
        elif kind == "start" and (key := books.key(document["key"])) is not None and key.amounts:
            name = key.account
        state = books.account(name) if name else None
        if state is None or state.now.filter == "exact":
            continue
        for each in chain_of(books, state) if kind == "start" else [state]:
            tracks.setdefault(each.now.name, _Track()).add(seq, document["at"], each, charge=kind == "start")
    return tuple(_account(name, track) for name, track in tracks.items())


def _account(name: str, track: _Track) -> AccountHistory:
    kept = list(track.kept)
    if track.latest is not None and kept[-1] != track.latest:
        kept.append(track.latest)
    now = kept[-1][2]
    points = tuple(Point(seq, at, epsilon_spent(a, spent), a.epsilon or math.inf) for seq, at, a, spent in kept)
    return AccountHistory(name, now.neighbours or "", now.delta or 0.0, points)
