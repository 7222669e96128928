"""Rounds of messages: what every protocol stands on, whatever it computes.

A round is a full exchange: each party sends one frame to every other and waits for theirs. All parties run the same
coroutine, so round k of one is round k of all, and a frame names the operation that it belongs to, so that parties
which got out of step notice.

Protocols that do not depend on each other run side by side in `together`, and share their rounds: the coroutines are
driven by hand until each of them asks for a round or is done, and what they ask for travels in one frame.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy.randomness import Rng
from smpc.agreement import agree
from smpc.errors import FrameRejected, MaterialMismatch, ProtocolAbort, RangeExceeded, SessionBusy, SmpcError
from smpc.material import Elements, Kind, MaterialStore
from smpc.public_coins import coin
from smpc.ring import Domain
from smpc.sharing import check_parties
from smpc.store import StoredMaterial
from smpc.transport import OPERATION_BYTES, SESSION_ID_BYTES, Frame, Transport

Octets = npt.NDArray[np.uint8]

_LENGTH = struct.Struct("<Q")


@dataclass(slots=True)
class Usage:
    """What one party used so far.

    rounds      exchanges with all other parties
    bytes_sent  headers included, to all other parties together
    material    items of correlated randomness, by kind
    """

    rounds: int = 0
    bytes_sent: int = 0
    material: dict[Kind, int] = field(default_factory=dict)


@dataclass(slots=True, repr=False)
class Record:
    """What one party received, for tests that play the adversary."""

    frames: list[Frame] = field(default_factory=list)
    material: list[tuple[Kind, list[Elements]]] = field(default_factory=list)
    opened: list[tuple[str, Elements]] = field(default_factory=list)


class Layout:
    """Where several arrays of elements lie in one buffer of bytes, each at a multiple of eight."""

    def __init__(self, parts: Sequence[tuple[Domain, tuple[int, ...]]]) -> None:
        self.domains = [domain for domain, _ in parts]
        self._shapes = [shape for _, shape in parts]
        self._sizes = [domain.dtype.itemsize * math.prod(shape) for domain, shape in parts]
        self._starts = [0] * len(parts)
        end = 0
        for i, size in enumerate(self._sizes):
            self._starts[i] = end
            end += -(-size // 8) * 8
        self._end = end

    def __repr__(self) -> str:
        return " ".join(f"{domain}{shape}" for domain, shape in zip(self.domains, self._shapes, strict=True))

    @property
    def n_bytes(self) -> int:
        """Length of the buffer."""
        return self._end

    def buffer(self) -> Octets:
        """Return a new buffer; the gaps between arrays are zero, the rest is not initialised."""
        out = np.empty(self._end // 8, dtype="<u8")
        for start, size in zip(self._starts, self._sizes, strict=True):
            if size % 8:
                out[(start + size) // 8] = 0
        return out.view(np.uint8)

    def views(self, buffer: Octets) -> list[Elements]:
        """Return the arrays that lie in a buffer."""
        return [
            buffer[start : start + size].view(domain.dtype).reshape(shape)
            for domain, shape, start, size in zip(self.domains, self._shapes, self._starts, self._sizes, strict=True)
        ]


class _Ask:
    """What a coroutine in `together` waits for: a round, of which it knows its own part only."""

    def __init__(self, operation: str, payloads: Sequence[Octets]) -> None:
        self.operation = operation
        self.payloads = payloads

    def __await__(self) -> Generator[_Ask, list[Octets], list[Octets]]:
        return (yield self)


class Rounds:
    """One party's side of a run, as far as it consists of messages and of material."""

    def __init__(
        self,
        *,
        party: int,
        n_parties: int,
        transport: Transport,
        material: MaterialStore,
        session_id: bytes,
        timeout: float,
        record: Record | None,
        rng: Rng,
    ) -> None:
        check_parties(n_parties)
        if not 0 <= party < n_parties:
            raise ValueError(f"party must be in 0..{n_parties - 1}, got {party!r}")
        if len(session_id) != SESSION_ID_BYTES:
            raise ValueError(f"session_id must have {SESSION_ID_BYTES} bytes, got {len(session_id)}")
        self.party = party
        self.n_parties = n_parties
        self.rng = rng
        self.usage = Usage()
        self._transport = transport
        self._material = material
        self._session_id = session_id
        self._timeout = timeout
        self._record = record
        self._step = 0
        self._busy = False
        self._driving = 0
        self._peers = frozenset(range(n_parties)) - {party}
        self._transcript = hashlib.sha256(session_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(party={self.party}, n_parties={self.n_parties}, step={self._step})"

    @property
    def session_id(self) -> bytes:
        """16 bytes, the same at all parties; public."""
        return self._session_id

    async def together(self, *protocols: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run coroutines of this party side by side; as many rounds as the longest of them needs.

        Nothing but rounds may be awaited inside. If one raises, the others are closed and the error goes on.

        Returns
        -------
        Their results, in order.

        Examples
        --------
        >>> from smpc import run_local
        >>> async def protocol(s, x):
        ...     a = await s.input(x)
        ...     product, smaller = await s.together(s.mul(a[0], a[1]), s.less(a[0], a[1]))
        ...     return await s.open(product, smaller)
        >>> run = run_local(protocol, inputs=[[2, 3], [10, -10]])
        >>> run.results[0]
        (array([ 20, -30]), array([1, 0]))
        """
        results: list[Any] = [None] * len(protocols)
        waiting: list[tuple[int, list[Octets] | None]] = [(i, None) for i in range(len(protocols))]
        try:
            while waiting:
                asks = []
                for i, answer in waiting:
                    self._driving += 1
                    try:
                        ask = protocols[i].send(answer)
                    except StopIteration as done:
                        results[i] = done.value
                        continue
                    finally:
                        self._driving -= 1
                    if not isinstance(ask, _Ask):
                        raise SmpcError("only rounds of this party can be awaited inside together")
                    asks.append((i, ask))
                answers = await self._ask_all([ask for _, ask in asks])
                waiting = [(i, answer) for (i, _), answer in zip(asks, answers, strict=True)]
        finally:
            for protocol in protocols:
                protocol.close()
        return results

    async def _ask_all(self, asks: Sequence[_Ask]) -> list[list[Octets]]:
        """Make one round of several, and give each its part of what came."""
        if not asks:
            return []
        if len(asks) == 1:
            return [await self._exchange(asks[0].operation, asks[0].payloads)]
        merged = [_join([ask.payloads[peer] for ask in asks]) for peer in range(self.n_parties)]
        received = await self._exchange(" | ".join(ask.operation for ask in asks), merged)
        parts = []
        for peer, payload in enumerate(received):
            split = _split(payload, len(asks))
            if split is None:
                raise FrameRejected("it does not hold as many parts as this round has", sender=peer)
            parts.append(split)
        return [[parts[peer][i] for peer in range(self.n_parties)] for i in range(len(asks))]

    async def exchange(self, payload: bytes) -> list[bytes]:
        """Send the same bytes to every other party, in the clear, and return what each party sent (its own included).

        For public words such as confirmations. Nothing that depends on a secret belongs here.
        """
        data = np.frombuffer(payload, dtype=np.uint8)
        received = await self._exchange("exchange", [data] * self.n_parties)
        return [part.tobytes() for part in received]

    async def check_transcripts(self) -> None:
        """Make sure that all parties ran the same operations so far, in the same order. One round.

        Raises
        ------
        ProtocolAbort
            If they did not.
        """
        mine = self._transcript.digest()
        for party, theirs in enumerate(await self.exchange(mine)):
            if theirs != mine:
                raise ProtocolAbort(f"party {party} ran other operations", party=party)

    async def agree_on_material(self, expected: Mapping[Kind, int] | None = None) -> None:
        """Agree with the others where the run begins in the stores on disk (two rounds), or on the dealing (one).

        Material of a dealer in this process takes none.

        Parameters
        ----------
        expected
            What the run will need (`forecast(...).material`): reserved at once, at all parties.

        Raises
        ------
        MaterialError
            If the stores do not fit together, one of them is a restored or second copy, or too little is left.
        """
        if isinstance(self._material, StoredMaterial):
            await agree(self, self._material, {} if expected is None else expected)
        elif (dealing := self._material.dealing) is not None:
            for party, theirs in enumerate(await self.exchange(dealing)):
                if theirs != dealing:
                    raise MaterialMismatch(party, rule="its seed is of another dealing")

    async def coin(self, n_bytes: int) -> bytes:
        """Return bytes that all parties know and none chose: committed to before they are shown. Two rounds.

        Raises
        ------
        ProtocolAbort
            If a party shows something else than it committed to.
        """
        return await coin(self, n_bytes)

    # For protocols.

    def take(self, kind: Kind, count: int) -> list[Elements]:
        """Return this party's shares of the next `count` items of correlated randomness; not to be written to."""
        arrays = self._material.take(kind, count)
        self.usage.material[kind] = self.usage.material.get(kind, 0) + count
        if self._record is not None:
            self._record.material.append((kind, arrays))
        return arrays

    async def reveal(self, operation: str, layout: Layout, buffer: Octets) -> list[Elements]:
        """Open what the parties' buffers add up to. The only way by which a share leaves this party.

        The buffer must not be written to afterwards: receivers in this process may still read it.
        """
        received = await self._exchange(f"{operation} {layout}", [buffer] * self.n_parties)
        mine = layout.views(buffer)
        into = mine
        for peer in sorted(self._peers):
            if len(received[peer]) != layout.n_bytes:
                raise FrameRejected("it does not hold the shares of this opening", sender=peer)
            theirs = layout.views(received[peer])
            for domain, words in zip(layout.domains, theirs, strict=True):
                try:
                    domain.checked(words)
                except RangeExceeded:
                    raise FrameRejected("it holds words that are no elements of the domain", sender=peer) from None
            if into is mine:
                into = [domain.add(a, b) for domain, a, b in zip(layout.domains, mine, theirs, strict=True)]
            else:
                for domain, total, words in zip(layout.domains, into, theirs, strict=True):
                    domain.add(total, words, out=total)
        if self._record is not None:
            self._record.opened.extend((operation, part) for part in into)
        return into

    async def _exchange(self, operation: str, payloads: Sequence[Octets]) -> list[Octets]:
        """One round: send payload i to party i, return what each sent here (at this party's place, its own payload)."""
        if self._driving:
            return await _Ask(operation, payloads)
        with self._one_round() as step:
            digest = hashlib.blake2b(operation.encode(), digest_size=OPERATION_BYTES).digest()
            self._transcript.update(digest)
            outgoing = {peer: Frame(self._session_id, digest, step, self.party, payloads[peer]) for peer in self._peers}
            self.usage.bytes_sent += sum(frame.n_bytes for frame in outgoing.values())
            incoming = await self._transport.exchange(outgoing, self._peers, within=self._timeout)
            received = list(payloads)
            for peer, frame in incoming.items():
                self._check_frame(frame, digest, step, peer)
                received[peer] = frame.payload
                if self._record is not None:
                    self._record.frames.append(frame)
            self.usage.rounds += 1
            return received

    @contextmanager
    def _one_round(self) -> Iterator[int]:
        if self._busy:
            raise SessionBusy
        self._busy = True
        step = self._step
        # Counted up even if the round fails: no step number is ever used for two messages.
        self._step += 1
        try:
            yield step
        finally:
            self._busy = False

    def _check_frame(self, frame: Frame, digest: bytes, step: int, peer: int) -> None:
        if frame.session_id != self._session_id:
            raise FrameRejected("it belongs to another session", sender=peer)
        if frame.sender != peer:
            raise FrameRejected("it names another sender", sender=peer)
        if frame.step != step:
            raise FrameRejected(f"it is numbered {frame.step}, step {step} is due", sender=peer)
        if frame.operation != digest:
            raise FrameRejected(f"at step {step} the party does something else, or with other shapes", sender=peer)
        if frame.payload.dtype != np.uint8 or frame.payload.ndim != 1:
            raise FrameRejected("it does not hold bytes", sender=peer)


def _join(payloads: Sequence[Octets]) -> Octets:
    """Return payloads one after the other, each behind its length and filled up to a multiple of eight."""
    sizes = [8 + -(-len(payload) // 8) * 8 for payload in payloads]
    out = np.zeros(sum(sizes) // 8, dtype="<u8").view(np.uint8)
    start = 0
    for payload, size in zip(payloads, sizes, strict=True):
        out[start : start + 8] = np.frombuffer(_LENGTH.pack(len(payload)), dtype=np.uint8)
        out[start + 8 : start + 8 + len(payload)] = payload
        start += size
    return out


def _split(joined: Octets, count: int) -> list[Octets] | None:
    """Return what `_join` joined, or None if it is not `count` payloads."""
    parts, start = [], 0
    for _ in range(count):
        if start + 8 > len(joined):
            return None
        (length,) = _LENGTH.unpack(joined[start : start + 8].tobytes())
        end = start + 8 + length
        if end > len(joined):
            return None
        parts.append(joined[start + 8 : end])
        start = -(-end // 8) * 8
    return parts if start == len(joined) else None
