"""One compute party's side of a protocol: what costs a message is awaited here.

All parties run the same coroutine, so step k of one is step k of all. Rounds are full exchanges: each party sends one
frame to every other and waits for theirs.

Security is semi-honest with a dishonest majority: up to n - 1 parties that follow the protocol learn, from everything
they see together, nothing beyond their inputs and what was opened (given a dealer that colludes with none of them).
Masked values and openings all pass through `_reveal`.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from privacy.randomness import Rng
from smpc.errors import FrameRejected, RangeExceeded, SessionBusy, SessionMismatch, UnsupportedSecurity
from smpc.prg import SEED_BYTES
from smpc.ring import RING64, Domain, Words
from smpc.shared import Shared, check_together
from smpc.sharing import check_parties, expand_seed
from smpc.transport import OPERATION_BYTES, SESSION_ID_BYTES, Frame, Transport
from smpc.triples import Triple, TripleShape, TripleStore

Security = Literal["semi_honest", "malicious"]
SECURITY_LEVELS: tuple[Security, ...] = ("semi_honest",)

# An input that claims more elements is refused before memory is asked for.
_MOST_ELEMENTS = 2**31

Signed = npt.NDArray[np.int64]


def check_security(security: str) -> None:
    """Raise UnsupportedSecurity unless the protocols here reach this level."""
    if security not in SECURITY_LEVELS:
        raise UnsupportedSecurity(security, available=SECURITY_LEVELS)


@dataclass(slots=True)
class Usage:
    """What one party used so far.

    rounds           exchanges with all other parties
    bytes_sent       headers included, to all other parties together
    triples          elements of elementwise products
    matrix_products  elements of matrix products, each of which stands for a whole inner product
    """

    rounds: int = 0
    bytes_sent: int = 0
    triples: int = 0
    matrix_products: int = 0


@dataclass(slots=True, repr=False)
class Record:
    """What one party received, for tests that play the adversary."""

    frames: list[Frame] = field(default_factory=list)
    triples: list[tuple[TripleShape, Triple]] = field(default_factory=list)
    opened: list[tuple[str, Words]] = field(default_factory=list)


class Session:
    """One party's side of a run.

    Parameters
    ----------
    party, n_parties
        0..n_parties - 1, and 2..5.
    transport
        Lines to the others.
    triples
        This party's triples.
    session_id
        16 bytes, the same at all parties and fresh for each run.
    security
        "semi_honest".
    timeout
        Seconds that a round waits for the others' messages.
    record
        If given, everything received is appended to it. For tests.
    rng
        This party's own randomness.
    """

    def __init__(
        self,
        *,
        party: int,
        n_parties: int,
        transport: Transport,
        triples: TripleStore,
        session_id: bytes,
        security: Security = "semi_honest",
        timeout: float = 60.0,
        record: Record | None = None,
        rng: Rng,
    ) -> None:
        check_security(security)
        check_parties(n_parties)
        if not 0 <= party < n_parties:
            raise ValueError(f"party must be in 0..{n_parties - 1}, got {party!r}")
        if len(session_id) != SESSION_ID_BYTES:
            raise ValueError(f"session_id must have {SESSION_ID_BYTES} bytes, got {len(session_id)}")
        self.party = party
        self.n_parties = n_parties
        self.security = security
        self.rng = rng
        self.usage = Usage()
        self._transport = transport
        self._triples = triples
        self._session_id = session_id
        self._timeout = timeout
        self._record = record
        self._step = 0
        self._busy = False
        self._peers = frozenset(range(n_parties)) - {party}

    def __repr__(self) -> str:
        return f"Session(party={self.party}, n_parties={self.n_parties}, step={self._step})"

    # Where shared values come from.

    def shared(self, share: Words, domain: Domain = RING64) -> Shared:
        """Wrap a share that came from outside, for example from a hospital that is not a compute party.

        Raises
        ------
        ValueError, RangeExceeded
            If the array does not hold elements of the domain.
        """
        if share.dtype != np.uint64:
            raise ValueError(f"a share is an array of uint64 words, got dtype {share.dtype}")
        return Shared(self, domain, domain.checked(share))

    async def input(self, x: npt.ArrayLike, *, domain: Domain = RING64) -> list[Shared]:
        """Share one array of integers from each party. One round, 32 bytes and the shape to each other party.

        Shapes may differ between parties; they are public.

        Returns
        -------
        Item i: what party i put in.
        """
        elements = domain.from_signed(x)
        seeds = [b"" if peer == self.party else self.rng.bytes(SEED_BYTES) for peer in range(self.n_parties)]
        shape = struct.pack(f"<{elements.ndim}Q", *elements.shape)
        payloads = [np.frombuffer(seed + shape, dtype=np.uint8) for seed in seeds]
        received = await self._exchange(f"input {domain}", payloads)
        shares = []
        for sender, payload in enumerate(received):
            if sender == self.party:
                # The one who knows the value keeps the difference; the others hold streams of fresh seeds.
                rest = elements
                for seed in seeds:
                    if seed:
                        rest = domain.sub(rest, expand_seed(seed, domain, elements.shape))
                shares.append(rest)
            else:
                shares.append(_expand_input(payload.tobytes(), domain, sender))
        return [Shared(self, domain, words) for words in shares]

    def random(self, shape: int | tuple[int, ...], domain: Domain = RING64) -> Shared:
        """Return uniform elements that no coalition of n - 1 parties knows. Local: each draws its share."""
        lengths = (shape,) if isinstance(shape, int) else shape
        return Shared(self, domain, domain.random(lengths, self.rng))

    # What costs a round.

    @overload
    async def open(self, x: Shared, /) -> Signed: ...

    @overload
    async def open(self, x: Shared, y: Shared, /, *more: Shared) -> tuple[Signed, ...]: ...

    async def open(self, *xs: Shared) -> Signed | tuple[Signed, ...]:
        """Make shared arrays known to all parties, in one round, whatever their domains.

        Returns
        -------
        Signed integers, shape of each array: one array, or a tuple if several were given.
        """
        self._check_mine(*xs)
        layout = _Layout([(x.domain, x.shape) for x in xs])
        buffer = layout.buffer()
        for x, view in zip(xs, layout.views(buffer), strict=True):
            view[...] = _words(x)
        words = await self._reveal("open", layout, buffer)
        opened = tuple(x.domain.to_signed(part) for x, part in zip(xs, words, strict=True))
        return opened[0] if len(opened) == 1 else opened

    async def mul(self, x: Shared, y: Shared) -> Shared:
        """Return the elementwise product; shapes broadcast. One round, one triple and 16 bytes per element and peer."""
        return (await self.mul_many([(x, y)]))[0]

    async def mul_many(self, pairs: Sequence[tuple[Shared, Shared]]) -> list[Shared]:
        """Return the elementwise products of independent pairs, all in one round."""
        operands = []
        for x, y in pairs:
            self._check_mine(x, y)
            check_together(x, y)
            left, right = np.broadcast_arrays(_words(x), _words(y))
            operands.append((TripleShape(x.domain, "mul", left.shape, right.shape), left, right))
        return await self._multiply(operands)

    async def matmul(self, x: Shared, y: Shared) -> Shared:
        """Return the product of matrices of shapes (m, k) and (k, n). One round, 8 k (m + n) bytes to each peer."""
        self._check_mine(x, y)
        check_together(x, y)
        if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[0]:
            raise ValueError(f"matmul needs matrices of shapes (m, k) and (k, n), got {x.shape} and {y.shape}")
        shape = TripleShape(x.domain, "matmul", x.shape, y.shape)
        return (await self._multiply([(shape, _words(x), _words(y))]))[0]

    async def exchange(self, payload: bytes) -> list[bytes]:
        """Send the same bytes to every other party, in the clear, and return what each party sent (its own included).

        For public words such as confirmations. Nothing that depends on a secret belongs here.
        """
        data = np.frombuffer(payload, dtype=np.uint8)
        received = await self._exchange("exchange", [data] * self.n_parties)
        return [part.tobytes() for part in received]

    async def _multiply(self, operands: Sequence[tuple[TripleShape, Words, Words]]) -> list[Shared]:
        """Beaver's products. With d = x - a and e = y - b opened: x y = c + d b + a e + d e."""
        if not operands:
            return []
        layout = _Layout([part for shape, _, _ in operands for part in _masked(shape)])
        buffer = layout.buffer()
        views = layout.views(buffer)
        triples = []
        for i, (shape, x, y) in enumerate(operands):
            triple = await self._take(shape)
            triples.append(triple)
            shape.domain.sub(x, triple.a, out=views[2 * i])
            shape.domain.sub(y, triple.b, out=views[2 * i + 1])
        opened = await self._reveal("mul", layout, buffer)
        products = []
        for i, (shape, _, _) in enumerate(operands):
            d, e, triple, domain = opened[2 * i], opened[2 * i + 1], triples[i], shape.domain
            # d e is public: party 0 alone adds it, folded into d (b + e).
            b = domain.add(triple.b, e) if self.party == 0 else triple.b
            z = domain.add(shape.multiply(d, b), triple.c)
            products.append(Shared(self, domain, domain.add(z, shape.multiply(triple.a, e), out=z)))
        return products

    async def _take(self, shape: TripleShape) -> Triple:
        triple = await self._triples.take(shape)
        if shape.kind == "mul":
            self.usage.triples += triple.c.size
        else:
            self.usage.matrix_products += triple.c.size
        if self._record is not None:
            self._record.triples.append((shape, triple))
        return triple

    async def _reveal(self, operation: str, layout: _Layout, buffer: Words) -> list[Words]:
        """Open what the parties' buffers add up to. The only way by which a share leaves this party."""
        received = await self._exchange(f"{operation} {layout}", [buffer] * self.n_parties)
        # A fresh array: the buffer itself may still be read by its receivers.
        total = layout.buffer()
        into = layout.views(total)
        mine = layout.views(buffer)
        peers = [peer for peer in range(self.n_parties) if peer != self.party]
        for k, peer in enumerate(peers):
            if received[peer].shape != buffer.shape or received[peer].dtype != buffer.dtype:
                raise FrameRejected("it does not hold the shares of this opening", sender=peer)
            theirs = layout.views(received[peer])
            for i, domain in enumerate(layout.domains):
                try:
                    domain.checked(theirs[i])
                except RangeExceeded:
                    raise FrameRejected("it holds words that are no elements of the domain", sender=peer) from None
                domain.add(mine[i] if k == 0 else into[i], theirs[i], out=into[i])
        if self._record is not None:
            self._record.opened.extend((operation, part) for part in into)
        return into

    async def _exchange(self, operation: str, payloads: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """One round: send payload i to party i, return what each sent here (at this party's place, its own payload)."""
        with self._one_round() as step:
            digest = hashlib.blake2b(operation.encode(), digest_size=OPERATION_BYTES).digest()
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

    def _check_mine(self, *xs: Shared) -> None:
        for x in xs:
            if not isinstance(x, Shared):
                raise TypeError(f"expected Shared values, got {type(x).__name__}; public operands need no round")
            if x.session is not self:
                raise SessionMismatch


class _Layout:
    """Where several arrays lie in one buffer of words."""

    def __init__(self, parts: Sequence[tuple[Domain, tuple[int, ...]]]) -> None:
        self.domains = [domain for domain, _ in parts]
        self._shapes = [shape for _, shape in parts]
        sizes = [math.prod(shape) for shape in self._shapes]
        self._ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]

    def __repr__(self) -> str:
        return " ".join(f"{domain}{shape}" for domain, shape in zip(self.domains, self._shapes, strict=True))

    def buffer(self) -> Words:
        return np.empty(self._ends[-1] if self._ends else 0, dtype=np.uint64)

    def views(self, buffer: Words) -> list[Words]:
        starts = [0, *self._ends[:-1]]
        return [
            buffer[start:end].reshape(shape) for start, end, shape in zip(starts, self._ends, self._shapes, strict=True)
        ]


def _masked(shape: TripleShape) -> list[tuple[Domain, tuple[int, ...]]]:
    return [(shape.domain, shape.left), (shape.domain, shape.right)]


def _words(x: Shared) -> Words:
    return x._share  # noqa: SLF001 - the session is the one friend of the shared value


def _expand_input(payload: bytes, domain: Domain, sender: int) -> Words:
    """Return this party's share of a peer's input from its seed and shape."""
    seed, lengths = payload[:SEED_BYTES], payload[SEED_BYTES:]
    if len(seed) != SEED_BYTES or len(lengths) % 8 or len(lengths) > 8 * 32:
        raise FrameRejected("it is not a seed and a shape", sender=sender)
    shape = struct.unpack(f"<{len(lengths) // 8}Q", lengths)
    if math.prod(max(length, 1) for length in shape) > _MOST_ELEMENTS:
        raise FrameRejected("the input is too large", sender=sender)
    return expand_seed(seed, domain, shape)
