"""A dealer that serves while the run goes on: seeds at the start, then corrections to the last party as it asks.

For protocols whose need is not known before, for they choose what to do next by what was opened. The dealer has a line
of its own to each party (`smpc.dealer_wire`); all of a run are served by one thread. It keeps nothing beyond the run:
the seeds are drawn from the operating system when the run begins, sent once, and forgotten with it.

What the dealer sees: which kinds of material are used, how much, and when. A protocol here takes the same kinds and
counts whatever the inputs are, or decides by what was opened, so a request says no more than what the parties opened.
What it could do: with any one party, reconstruct what the run multiplies or compares. It is another legal entity than
the parties and the relay's operator (`smpc.dealing.check_separate`). And it is to follow the protocol, as the parties
are: a dealer who sends corrections that do not fit falsifies products, which is not noticed.

A party that sends what is none of the messages, asks twice for an item or for too much, is cut off, and with it the
run: material of which one party got less than it needs is of no use to the others.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from privacy.randomness import Rng, SecureRng
from smpc.dealer_wire import (
    ASK,
    CORRECTIONS,
    DEALING_BYTES,
    DONE,
    HELLO,
    MALFORMED,
    OUT_OF_ORDER,
    REFUSED,
    STOPPED,
    TOO_LATE,
    TOO_MUCH,
    WELCOME,
    WELCOME_BODY,
    Ask,
    DealerLimits,
    DealerLine,
    Octets,
    decode_asks,
    encode_hello,
    layout_of,
)
from smpc.errors import (
    DealerLimitReached,
    FrameRejected,
    PackageRefused,
    PeerUnavailable,
    ProtocolAbort,
    SmpcError,
    TripleOutOfOrder,
    TripleReused,
)
from smpc.material import Dealer, Kind
from smpc.sharing import check_parties
from smpc.transport import NetworkTransport

# What is dealt at a time stays in cache; memory does not grow with the answer.
_CHUNK_BYTES = 1 << 19
_FAREWELL_SECONDS = 1.0
_CODES: tuple[tuple[type[SmpcError] | tuple[type[SmpcError], ...], int], ...] = (
    (DealerLimitReached, TOO_MUCH),
    ((TripleReused, TripleOutOfOrder), OUT_OF_ORDER),
    (PeerUnavailable, TOO_LATE),
    (ProtocolAbort, STOPPED),
)
# How often a dealer that waits looks whether it is to stop.
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class DealtSummary:
    """What a dealer served in one run. All of it is public to whoever knows the protocol.

    dealing     random number of the dealing
    n_parties
    items       of each kind that corrections were made for
    requests
    n_bytes     of seeds and corrections
    seconds     from the first wait to the end
    finished    by party: whether it said that it needs nothing more
    """

    dealing: bytes
    n_parties: int
    items: Mapping[Kind, int]
    requests: int
    n_bytes: int
    seconds: float
    finished: tuple[bool, ...]


def serve_run(
    transports: Sequence[NetworkTransport],
    *,
    n_parties: int,
    limits: DealerLimits | None = None,
    rng: Rng | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> DealtSummary:
    """Serve one run, to its end. Blocks; closes the lines.

    Parameters
    ----------
    transports
        Connected lines, in the order of the parties' numbers. In each the dealer is member 0 and the party member 1.
    n_parties
        2..5.
    limits
        See `DealerLimits`.
    rng
        Source of the seeds; the operating system's by default. Anything else protects nobody.
    stopped
        Asked about twice a second; the run is ended when it returns True.

    Raises
    ------
    PeerUnavailable
        If a party left before it had its seed, or was silent for longer than the limits say.
    FrameRejected, TripleReused, TripleOutOfOrder, DealerLimitReached
        If a party sent what it should not, asked twice, or for too much.
    ProtocolAbort
        If the run was stopped.
    """
    check_parties(n_parties)
    if len(transports) != n_parties:
        raise ValueError(f"there must be a line to each of {n_parties} parties, got {len(transports)}")
    try:
        lines = [DealerLine(transport, end=0) for transport in transports]
        return _Run(lines, limits or DealerLimits(), SecureRng() if rng is None else rng).serve(stopped)
    finally:
        for transport in transports:
            transport.close()


class _Run:
    def __init__(self, lines: Sequence[DealerLine], limits: DealerLimits, rng: Rng) -> None:
        self._limits = limits
        self._dealer = Dealer(len(lines), rng=rng)
        self._dealing = rng.bytes(DEALING_BYTES)
        self._n_parties = len(lines)
        self._last = len(lines) - 1
        self._open = dict(enumerate(lines))
        self._most_answer = min(limits.answer_bytes, lines[self._last].transport.max_payload_bytes)
        self._greeted: set[int] = set()
        self._finished: set[int] = set()
        self._items: dict[Kind, int] = {}
        self._streams = 0
        self._answered_bytes = 0
        self._requests = 0

    def serve(self, stopped: Callable[[], bool]) -> DealtSummary:
        began = self._heard_at = time.monotonic()
        try:
            # The others hold their lines no longer than it takes to get a seed.
            while self._last in self._open or len(self._greeted) < self._n_parties:
                if stopped():
                    raise ProtocolAbort("the dealer was stopped")
                self._check_time(began, time.monotonic())
                if not self._turn():
                    self._wait()
        except SmpcError as error:
            self._tell(error)
            raise
        self._part()
        return DealtSummary(
            dealing=self._dealing,
            n_parties=self._n_parties,
            items=dict(self._items),
            requests=self._requests,
            n_bytes=self._dealer.bytes_sent,
            seconds=time.monotonic() - began,
            finished=tuple(party in self._finished for party in range(self._n_parties)),
        )

    def _turn(self) -> bool:
        """Answer what is here, one message of each party; return whether there was any."""
        moved = False
        for party, line in list(self._open.items()):
            try:
                heard = line.arrived()
                if heard is not None:
                    moved = True
                    self._heard_at = time.monotonic()
                    self._handle(party, line, *heard)
            except PeerUnavailable as error:
                # One who has its seed may go; whether that was as planned is for the parties to find out.
                moved = True
                del self._open[party]
                if party not in self._greeted:
                    raise PeerUnavailable(party, reason=error.reason) from None
            except FrameRejected as error:
                raise FrameRejected(error.rule, sender=party) from None
        return moved

    def _handle(self, party: int, line: DealerLine, what: str, payload: Octets) -> None:
        if what == HELLO and party not in self._greeted:
            if payload.tobytes() != encode_hello(party, self._n_parties):
                raise FrameRejected("it says hello as another party, or for another number of parties")
            body = WELCOME_BODY.pack(
                self._dealing, self._dealer.seed(party), self._most_answer, self._limits.work_bytes
            )
            line.send(WELCOME, body, within=self._limits.send_seconds)
            self._greeted.add(party)
        elif what == ASK and party in self._greeted and party == self._last:
            try:
                asks = decode_asks(payload.tobytes())
            except PackageRefused as error:
                raise FrameRejected(error.rule) from None
            self._check_amount(asks)
            answer = self._answer(asks)
            self._requests += 1
            line.send(CORRECTIONS, answer, within=self._limits.send_seconds)
        elif what == DONE and party in self._greeted and not len(payload):
            self._finished.add(party)
            del self._open[party]
            line.transport.finish(within=_FAREWELL_SECONDS)
        else:
            raise FrameRejected(f"a message {what!r} is not what is due")

    def _check_amount(self, asks: Sequence[Ask]) -> None:
        """Raise DealerLimitReached before anything is drawn for a request that is too large."""
        limits = self._limits
        self._answered_bytes += sum(ask.answer_bytes for ask in asks)
        self._streams += sum(ask.kind.n_rows * self._n_parties for ask in asks if ask.kind not in self._items)
        for limit, asked, most in (
            ("answer_bytes", sum(ask.answer_bytes for ask in asks), self._most_answer),
            ("work_bytes", sum(ask.work_bytes for ask in asks), limits.work_bytes),
            ("run_bytes", self._answered_bytes, limits.run_bytes),
            ("run_items", max(ask.start + ask.count for ask in asks), limits.run_items),
            ("run_streams", self._streams, limits.run_streams),
        ):
            if asked > most:
                raise DealerLimitReached(self._last, limit=limit, most=most)

    def _answer(self, asks: Sequence[Ask]) -> Octets:
        layout = layout_of(asks)
        buffer = layout.buffer()
        fields = iter(layout.views(buffer))
        for ask in asks:
            out = [(field, next(fields)) for field in ask.kind.tied]
            step = max(1, _CHUNK_BYTES // ask.kind.n_bytes(1))
            for low in range(0, ask.count, step):
                high = min(low + step, ask.count)
                parts = self._dealer.correction(ask.kind, ask.start + low, high - low)
                for (field, array), part in zip(out, parts, strict=True):
                    array[..., low * field.length : high * field.length] = part
            self._items[ask.kind] = ask.start + ask.count
        return buffer

    def _check_time(self, began: float, now: float) -> None:
        limits = self._limits
        silent = min(self._open.keys() - self._greeted, default=None)
        for limit, since, party in (
            ("greeting_seconds", began, silent),
            ("idle_seconds", self._heard_at, min(self._open)),
            ("run_seconds", began, min(self._open)),
        ):
            if party is not None and now - since > getattr(limits, limit):
                raise PeerUnavailable(party, reason=f"the dealer's limit {limit} = {getattr(limits, limit):g} passed")

    def _wait(self) -> None:
        poll = select.poll()
        for line in self._open.values():
            for descriptor in line.transport.descriptors:
                poll.register(descriptor, select.POLLIN)
        limits = self._limits
        shortest = min(_LOOK_SECONDS, limits.greeting_seconds, limits.idle_seconds, limits.run_seconds)
        poll.poll(max(1, int(1000 * shortest)))

    def _tell(self, error: SmpcError) -> None:
        """Tell all who are left why it ends."""
        reason = next((code for kinds, code in _CODES if isinstance(error, kinds)), MALFORMED)
        for line in self._open.values():
            with suppress(SmpcError):
                line.send(REFUSED, bytes([reason]), within=_FAREWELL_SECONDS)
        self._part()

    def _part(self) -> None:
        """Close the lines that are left, when what was sent has been read or a short time is over."""
        deadline = time.monotonic() + _FAREWELL_SECONDS
        for line in self._open.values():
            line.transport.finish(within=max(0.0, deadline - time.monotonic()))
