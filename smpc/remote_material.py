"""Material of a dealer elsewhere, that is asked while the run goes on: a party's end of `smpc.online_dealer`.

Every party gets its seed at the start. Only the last one asks again: its shares of the tied fields are the dealer's
corrections. A round trip to the dealer would cost as much as a round of the protocol, so it fetches ahead: of each kind
as much again as was used so far, up to a bound, and whenever it has to wait for one kind it fills up all that run low.
A long run so waits a number of times that grows with the logarithm of what it takes, and leaves at most as much unused
as it used. A run whose need is known waits once: `prepare(forecast(...).material)`.

What is fetched depends on what was taken, and that is the same whatever the inputs are: see `smpc.online_dealer` for
what the dealer learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

import numpy as np

from privacy._checks import check_count, check_positive
from smpc.dealer_wire import (
    ASK,
    CORRECTIONS,
    DONE,
    HELLO,
    MOST_ASKS,
    MOST_REQUEST_BYTES,
    REASONS,
    REFUSED,
    WELCOME,
    WELCOME_BODY,
    Ask,
    DealerLine,
    Octets,
    encode_asks,
    encode_hello,
    layout_of,
)
from smpc.errors import DealerUnavailable, RangeExceeded, SmpcError
from smpc.material import Elements, Kind, MaterialStore, Pool, check_start
from smpc.sharing import check_parties
from smpc.transport import NetworkTransport

DEFAULT_AHEAD_BYTES = 1 << 22


class RemoteCorrections:
    """The last party's shares of tied fields, from a dealer at the other end of a line.

    Parameters
    ----------
    line
        On which the dealer has said welcome.
    most_answer, most_work
        Bytes, as the dealer said.
    ahead_bytes
        Of one kind that are fetched before they are asked for; 0 for none.
    within
        Seconds that the dealer may take to answer.
    """

    def __init__(self, line: DealerLine, *, most_answer: int, most_work: int, ahead_bytes: int, within: float) -> None:
        self._line = line
        self._most_answer = most_answer
        self._most_work = most_work
        self._ahead_bytes = ahead_bytes
        self._within = within
        self._pools: dict[Kind, Pool] = {}
        # Items fetched, and items handed out.
        self._fetched: dict[Kind, int] = {}
        self._given: dict[Kind, int] = {}
        self._failure: DealerUnavailable | None = None
        self.round_trips = 0

    def __repr__(self) -> str:
        return f"RemoteCorrections(kinds={len(self._fetched)}, round_trips={self.round_trips})"

    def correction(self, kind: Kind, start: int, count: int) -> list[Elements]:
        """Return the last party's shares for items start..start + count - 1; once. Waits for the dealer if it must.

        Raises
        ------
        TripleReused, TripleOutOfOrder
            If they are not the next ones.
        DealerUnavailable
            If the dealer left, refused, kept silent, or sent something else.
        """
        check_start(start, self._given.get(kind, 0))
        self._have({kind: count}, ahead=True)
        self._given[kind] = start + count
        return self._pools[kind].get(count)

    def fetch(self, amounts: Mapping[Kind, int]) -> None:
        """Have so many items of each kind here, and no more: as few round trips as the dealer's limits allow."""
        self._have(amounts, ahead=False)

    def close(self) -> None:
        """Say that no more is needed, and close the line."""
        if self._failure is None:
            self._failure = DealerUnavailable(reason="this party closed its line")
            _say_done(self._line)

    def _have(self, amounts: Mapping[Kind, int], *, ahead: bool) -> None:
        for kind in amounts:
            if kind not in self._pools:
                self._pools[kind] = Pool(kind.tied)
        while missing := {kind: n for kind, n in amounts.items() if n > self._pools[kind].left}:
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            self._ask(self._request(self._with_ahead(missing) if ahead else missing))

    def _with_ahead(self, missing: Mapping[Kind, int]) -> dict[Kind, int]:
        """Return how many items of each kind are to be here: what is missing, and that of which little is left."""
        wanted = {}
        for kind, pool in self._pools.items():
            due = missing.get(kind, 0)
            ahead = min(self._given.get(kind, 0) + due, self._ahead_bytes // max(kind.dealer_bytes(1), 1))
            if due or 2 * pool.left < ahead:
                wanted[kind] = due + ahead
        # What is waited for comes first: an answer may not hold everything.
        return {kind: wanted[kind] for kind in sorted(wanted, key=lambda kind: kind not in missing)}

    def _ask(self, asks: Sequence[Ask]) -> None:
        self.round_trips += 1
        try:
            self._line.send(ASK, encode_asks(asks), within=self._within)
            payload = _received(self._line, CORRECTIONS, within=self._within)
            arrays = iter(_fields(asks, payload))
        except SmpcError as error:
            self._fail(error)
        for ask in asks:
            self._pools[ask.kind].put([next(arrays) for _ in ask.kind.tied], ask.count)
            self._fetched[ask.kind] = ask.start + ask.count

    def _request(self, wanted: Mapping[Kind, int]) -> list[Ask]:
        """Return what to ask for, as much of it as one request and one answer hold."""
        asks: list[Ask] = []
        answer, work, text = self._most_answer, self._most_work, MOST_REQUEST_BYTES - 2
        for kind, total in wanted.items():
            count = total - self._pools[kind].left
            # Each field of an answer is filled up to a multiple of eight bytes.
            fits = min(
                (answer - 7 * len(kind.tied)) // kind.dealer_bytes(1) if kind.dealer_bytes(1) else count,
                work // kind.n_bytes(1),
                count,
            )
            ask = Ask(kind, self._fetched.get(kind, 0), max(fits, 1))
            length = len(encode_asks([ask]))
            if fits >= 1 and length <= text:
                asks.append(ask)
                answer, work, text = answer - ask.answer_bytes, work - ask.work_bytes, text - length
            elif not asks:
                self._fail(DealerUnavailable(reason="one item of this kind is more than it gives away at a time"))
            if len(asks) == MOST_ASKS:
                break
        return asks

    def _fail(self, error: SmpcError) -> NoReturn:
        self._failure = error if isinstance(error, DealerUnavailable) else DealerUnavailable(reason=str(error))
        self._line.transport.close()
        raise self._failure from None


class RemoteMaterial(MaterialStore):
    """A party's material whose dealer is asked while the run goes on. Made by `remote_material`."""

    def __init__(self, seed: bytes, *, dealing: bytes, corrections: RemoteCorrections | None) -> None:
        super().__init__(seed, corrections=corrections)
        self._dealing = dealing
        self._remote = corrections

    @property
    def dealing(self) -> bytes:
        """Random number of the dealing: parties whose seeds are of two dealings must find out before they begin."""
        return self._dealing

    @property
    def corrections(self) -> RemoteCorrections | None:
        """Where the last party's shares of tied fields come from; None at the others."""
        return self._remote

    @property
    def round_trips(self) -> int:
        """How often this party waited for the dealer after it had its seed."""
        return 0 if self._remote is None else self._remote.round_trips

    def prepare(self, amounts: Mapping[Kind, int]) -> None:
        """Fetch and expand items ahead of their use: one round trip for all, if the dealer's limits allow it."""
        for count in amounts.values():
            check_count("count", count, least=0)
        if self._remote is not None:
            self._remote.fetch({kind: count for kind, count in amounts.items() if count})
        super().prepare(amounts)

    def close(self) -> None:
        """Tell the dealer that no more is needed."""
        if self._remote is not None:
            self._remote.close()


def remote_material(
    transport: NetworkTransport,
    *,
    party: int,
    n_parties: int,
    ahead_bytes: int = DEFAULT_AHEAD_BYTES,
    within: float = 30.0,
) -> RemoteMaterial:
    """Get this party's seed from a dealer, and, at the last party, a store that asks for more as it needs. Blocks.

    Parameters
    ----------
    transport
        Connected line to the dealer: member 0 of two, this party is member 1. At all parties but the last one it is
        closed when the seed is here; the store closes it at the last one.
    party, n_parties
        In the computation: 0..n_parties - 1, and 2..5.
    ahead_bytes
        Of each kind that may be fetched ahead of its use; 0 for none.
    within
        Seconds that the dealer may take for an answer: fewer than a round of the run waits, so that the party that
        misses material is the one that says so.

    Raises
    ------
    DealerUnavailable
        If the dealer left, refused, kept silent, or sent something else.
    """
    check_parties(n_parties)
    check_count("party", party, least=0)
    check_count("ahead_bytes", ahead_bytes, least=0)
    check_positive("within", within)
    if party >= n_parties:
        raise ValueError(f"party must be in 0..{n_parties - 1}, got {party!r}")
    line = DealerLine(transport, end=1)
    try:
        line.send(HELLO, encode_hello(party, n_parties), within=within)
        body = _received(line, WELCOME, within=within).tobytes()
        if len(body) != WELCOME_BODY.size:
            raise DealerUnavailable(reason="its welcome has another length")
    except SmpcError as error:
        transport.close()
        if isinstance(error, DealerUnavailable):
            raise
        raise DealerUnavailable(reason=str(error)) from None
    dealing, seed, most_answer, most_work = WELCOME_BODY.unpack(body)
    if party < n_parties - 1:
        _say_done(line)
        return RemoteMaterial(seed, dealing=dealing, corrections=None)
    most_answer = min(most_answer, transport.max_payload_bytes)
    corrections = RemoteCorrections(
        line, most_answer=most_answer, most_work=most_work, ahead_bytes=ahead_bytes, within=within
    )
    return RemoteMaterial(seed, dealing=dealing, corrections=corrections)


def _say_done(line: DealerLine) -> None:
    """Say goodbye to a dealer, who may be gone."""
    with suppress(SmpcError):
        line.send(DONE, b"", within=1.0)
        line.transport.finish(within=1.0)
    line.transport.close()


def _received(line: DealerLine, what: str, *, within: float) -> Octets:
    heard, payload = line.receive(within=within)
    if heard == REFUSED:
        reason = REASONS.get(int(payload[0]) if len(payload) == 1 else 0, "for no reason that is known")
        raise DealerUnavailable(reason=reason)
    if heard != what:
        raise DealerUnavailable(reason=f"it sent {heard!r} where {what!r} is due")
    return payload


def _fields(asks: Sequence[Ask], payload: Octets) -> list[Elements]:
    """Return the fields of an answer, one array after the other."""
    layout = layout_of(asks)
    if len(payload) != layout.n_bytes:
        raise DealerUnavailable(reason="its answer has another length than what was asked for")
    arrays = layout.views(np.ascontiguousarray(payload))
    try:
        return [domain.checked(words) for domain, words in zip(layout.domains, arrays, strict=True)]
    except RangeExceeded:
        raise DealerUnavailable(reason="its answer holds words that are no elements of the domain") from None
