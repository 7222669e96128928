"""What an online dealer and a party say to each other, on a line with two members: the dealer is 0, the party is 1.

hello        party -> dealer   JSON: format, n_parties, party (its number in the computation)
welcome      dealer -> party   random number of the dealing (16), the party's seed (32), most bytes of an answer (8) and
                               of the shares that one answer takes to make (8)
ask          party -> dealer   JSON: a list of kinds (`smpc.plans`), each with start and count; from the last party only
corrections  dealer -> party   the tied fields of all that was asked for, in order, each at a multiple of eight bytes
done         party -> dealer   empty: the party needs nothing more
refused      dealer -> party   one byte, the reason; the dealer closes

Each is one frame, numbered by its sender. A request is written in one way only, so what is read is written again and
compared. Nothing in a request depends on data: kinds and counts are what the protocol's public text asks for.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count, check_positive
from smpc._rounds import Layout
from smpc.errors import FrameRejected, PackageRefused
from smpc.material import Kind
from smpc.plans import MOST_ITEMS, describe, kind_of, read_json
from smpc.transport import OPERATION_BYTES, Frame, NetworkTransport

FORMAT = "synthema-online-dealer-1"
DEALING_BYTES = 16
MOST_REQUEST_BYTES = 1 << 16
MOST_ASKS = 64

HELLO, WELCOME, ASK, CORRECTIONS, DONE, REFUSED = "hello", "welcome", "ask", "corrections", "done", "refused"
_OPERATIONS = {
    hashlib.blake2b(f"online dealer {name}".encode(), digest_size=OPERATION_BYTES).digest(): name
    for name in (HELLO, WELCOME, ASK, CORRECTIONS, DONE, REFUSED)
}
_DIGESTS = {name: digest for digest, name in _OPERATIONS.items()}

WELCOME_BODY = struct.Struct("<16s32sQQ")

MALFORMED, TOO_MUCH, OUT_OF_ORDER, TOO_LATE, STOPPED = range(1, 6)
REASONS = {
    MALFORMED: "it does not understand what this party sent",
    TOO_MUCH: "this party asked for more than the dealer gives away in one run",
    OUT_OF_ORDER: "this party asked for items a second time, or for others than the next ones",
    TOO_LATE: "a party was silent for too long",
    STOPPED: "it was stopped",
}

Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DealerLimits:
    """What a dealer gives away in one run, and how long it waits.

    answer_bytes      in one answer; lines whose payloads are shorter lower it
    work_bytes        of one party's shares (free fields, too) that one answer takes to make
    run_bytes         in all answers of a run
    run_items         of one kind
    run_streams       of all kinds and parties: each is a cipher with a state of its own
    greeting_seconds  until all parties said hello
    idle_seconds      without a request
    send_seconds      until a party has read an answer
    run_seconds       for everything
    """

    answer_bytes: int = 1 << 23
    work_bytes: int = 1 << 25
    run_bytes: int = 1 << 36
    run_items: int = MOST_ITEMS
    run_streams: int = 1 << 17
    greeting_seconds: float = 120.0
    idle_seconds: float = 900.0
    send_seconds: float = 60.0
    run_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        for name in ("answer_bytes", "work_bytes", "run_bytes", "run_items", "run_streams"):
            check_count(name, getattr(self, name), least=1)
        for name in ("greeting_seconds", "idle_seconds", "send_seconds", "run_seconds"):
            check_positive(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class Ask:
    """The next items of a kind that are asked for: start..start + count - 1."""

    kind: Kind
    start: int
    count: int

    @property
    def answer_bytes(self) -> int:
        """How much of an answer they take."""
        return sum(-(-field.n_bytes(self.count) // 8) * 8 for field in self.kind.tied)

    @property
    def work_bytes(self) -> int:
        """Size of one party's shares of them."""
        return self.kind.n_bytes(self.count)


def encode_asks(asks: Sequence[Ask]) -> bytes:
    """Return a request.

    Examples
    --------
    >>> from smpc.kinds import Digits
    >>> encode_asks([Ask(Digits(8), 0, 100)])
    b'[{"kind":"Digits","width":8,"start":0,"count":100}]'
    """
    body = [{**describe(ask.kind), "start": ask.start, "count": ask.count} for ask in asks]
    return json.dumps(body, separators=(",", ":")).encode()


def decode_asks(request: bytes) -> list[Ask]:
    """Return what a request asks for.

    Raises
    ------
    PackageRefused
        If it is not what `encode_asks` writes.
    """
    if len(request) > MOST_REQUEST_BYTES:
        raise PackageRefused(f"a request has up to {MOST_REQUEST_BYTES} bytes")
    body = read_json(request)
    if (
        not isinstance(body, list)
        or not 1 <= len(body) <= MOST_ASKS
        or not all(isinstance(each, dict) for each in body)
    ):
        raise PackageRefused(f"a request lists 1..{MOST_ASKS} kinds of material")
    asks = []
    for entry in body:
        start, count = entry.pop("start", None), entry.pop("count", None)
        if type(start) is not int or type(count) is not int or not 0 <= start < start + count <= MOST_ITEMS:
            raise PackageRefused(f"start and count are integers, and an item's number is below {MOST_ITEMS}")
        asks.append(Ask(kind_of(entry), start, count))
    if len({ask.kind for ask in asks}) < len(asks):
        raise PackageRefused("a request lists each kind once")
    if encode_asks(asks) != request:
        raise PackageRefused("a request is written in one way only")
    return asks


def layout_of(asks: Sequence[Ask]) -> Layout:
    """Return where the fields lie in the answer."""
    return Layout([(field.domain, field.shape(ask.count)) for ask in asks for field in ask.kind.tied])


def encode_hello(party: int, n_parties: int) -> bytes:
    """Return what a party says first."""
    return json.dumps({"format": FORMAT, "n_parties": n_parties, "party": party}, separators=(",", ":")).encode()


class DealerLine:
    """One end of a line between a dealer and a party: frames that are numbered, and say what they are.

    Raises
    ------
    ValueError
        If the line has other members than these two.
    """

    def __init__(self, transport: NetworkTransport, *, end: int) -> None:
        if transport.n_parties != 2 or transport.party != end:
            raise ValueError("a line to a dealer has two members: the dealer is 0, the party is 1")
        self.transport = transport
        self._peer = 1 - end
        self._sent = 0
        self._received = 0

    def __repr__(self) -> str:
        return f"DealerLine(sent={self._sent}, received={self._received})"

    def send(self, what: str, payload: bytes | Octets, *, within: float) -> None:
        """Send a message; errors as `NetworkTransport.exchange`."""
        data = np.frombuffer(payload, dtype=np.uint8) if isinstance(payload, bytes) else payload
        frame = Frame(self.transport.session_id, _DIGESTS[what], self._sent, self.transport.party, data)
        self._sent += 1
        self.transport.exchange_blocking({self._peer: frame}, frozenset(), within=within)

    def receive(self, *, within: float) -> tuple[str, Octets]:
        """Wait for the next message; errors as `NetworkTransport.exchange`."""
        frames = self.transport.exchange_blocking({}, frozenset({self._peer}), within=within)
        return self._read(frames[self._peer])

    def arrived(self) -> tuple[str, Octets] | None:
        """Return the next message if it is here; errors as `NetworkTransport.exchange`."""
        frame = self.transport.arrived(self._peer)
        return None if frame is None else self._read(frame)

    def _read(self, frame: Frame) -> tuple[str, Octets]:
        step, self._received = self._received, self._received + 1
        what = _OPERATIONS.get(frame.operation)
        if (
            what is None
            or frame.session_id != self.transport.session_id
            or (frame.sender, frame.step) != (self._peer, step)
            or frame.payload.dtype != np.uint8
            or frame.payload.ndim != 1
        ):
            raise FrameRejected(f"it is not message {step} between a dealer and a party", sender=self._peer)
        return what, frame.payload
