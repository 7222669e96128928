"""The relay: forwards sealed records between the parties of a run, and can neither read nor change them unnoticed.

Every party connects by mutual TLS 1.3 with a certificate that the relay's operator listed for its number, and joins a
run by the digest of its name. The relay learns who takes part, when, and how many bytes are sent.

One thread polls all connections. What is kept is bounded: for each connection one read buffer and one queue; from who
sends to a party whose queue is full nothing more is read until it drains. Connections that do not finish their TLS or
do not join give way to newer ones and have a deadline; a run whose parties are silent, or do not all come, is ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import selectors
import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from smpc.sharing import LEAST_PARTIES, MOST_PARTIES
from smpc.transport.certificates import TlsFiles
from smpc.transport.pump import TURN_BYTES
from smpc.transport.relay_wire import (
    JOIN,
    JOIN_MAGIC,
    LEFT,
    MALFORMED,
    NOT_YOUR_SEAT,
    NOTICE,
    OTHER_NUMBER,
    PRESENT,
    REFUSED,
    RELAY,
    RUN_OVER,
    SEAT_TAKEN,
    TOO_LATE,
    RecordReader,
    record,
)
from smpc.transport.streams import StreamEnded, StreamViolated, TlsStream

_SWEEP_SECONDS = 0.5
_TLS_RECORD_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What a relay keeps and how long it waits.

    max_connections    of all kinds
    max_pending        that have not joined a run
    queue_bytes        kept for one party that does not read, plus one record for each of the others
    greeting_seconds   for TLS and joining
    gather_seconds     until all parties of a run are there
    idle_seconds       without a byte in a run
    """

    max_connections: int = 64
    max_pending: int = 16
    queue_bytes: int = 1 << 22
    greeting_seconds: float = 10.0
    gather_seconds: float = 600.0
    idle_seconds: float = 900.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)!r}")


@dataclass(eq=False, slots=True, repr=False)
class _Run:
    n_parties: int
    seats: dict[int, _Connection]
    was_complete: bool
    last_byte: float


@dataclass(eq=False, slots=True, repr=False)
class _Connection:
    stream: TlsStream
    since: float
    allowed: frozenset[int] = frozenset()
    reader: RecordReader | None = None
    run_key: bytes = b""
    run: _Run | None = None
    party: int = -1
    queue: deque[bytes] = field(default_factory=deque)
    queued_bytes: int = 0
    current: memoryview = field(default_factory=lambda: memoryview(b""))
    # Not read from until the queue of this party drains.
    held_by: _Connection | None = None
    holds: list[_Connection] = field(default_factory=list)
    events: int = 0
    is_open: bool = True
    # Closed as soon as its queue is empty.
    is_ending: bool = False


class Relay:
    """A relay on a listening socket.

    Parameters
    ----------
    listener
        Listens already.
    tls
        The relay's own certificate; trusted are the parties' (or their issuer's).
    seats
        By SHA-256 of a certificate (DER): the numbers that its holder may take.
    limits
        See `RelayLimits`.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        tls: TlsFiles,
        seats: Mapping[bytes, frozenset[int]],
        limits: RelayLimits | None = None,
    ) -> None:
        self._limits = limits or RelayLimits()
        self._seats = dict(seats)
        self._context = tls.context(server_side=True)
        self._listener = listener
        self._listener.setblocking(False)
        self._connections: set[_Connection] = set()
        self._runs: dict[bytes, _Run] = {}
        # Have unread bytes that polling does not show.
        self._again: set[_Connection] = set()
        self._stopping = False
        self._waker, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._swept = time.monotonic()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which it listens."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def bytes_kept(self) -> int:
        """Bytes that wait in all queues together."""
        return sum(connection.queued_bytes for connection in self._connections)

    @property
    def n_connections(self) -> int:
        """Number of open connections, of all kinds."""
        return len(self._connections)

    def stop(self) -> None:
        """End `serve` soon; from any thread."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def serve(self) -> None:
        """Forward until `stop` is called; then close everything."""
        try:
            while not self._stopping:
                self._turn()
        finally:
            for connection in list(self._connections):
                connection.is_open = False
                connection.stream.close()
            self._connections.clear()
            self._selector.close()
            self._listener.close()
            self._waker.close()
            self._wake.close()

    def _turn(self) -> None:
        ready = self._selector.select(0 if self._again else _SWEEP_SECONDS)
        again, self._again = self._again, set()
        for key, events in ready:
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, _Connection):
                again.discard(key.data)
                self._serve_one(key.data, events)
        for connection in again:
            self._serve_one(connection, selectors.EVENT_READ)
        now = time.monotonic()
        if now - self._swept >= _SWEEP_SECONDS:
            self._swept = now
            self._sweep(now)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            # The caller went away before it was answered.
            return
        pending = sorted((each for each in self._connections if each.run is None), key=lambda each: each.since)
        full = len(self._connections) >= self._limits.max_connections
        if pending and (full or len(pending) >= self._limits.max_pending):
            self._drop(pending[0])
        elif full:
            sock.close()
            return
        try:
            connection = _Connection(TlsStream(sock, self._context, server_side=True), time.monotonic())
        except OSError:
            sock.close()
            return
        self._connections.add(connection)
        self._serve_one(connection, selectors.EVENT_READ)

    def _serve_one(self, connection: _Connection, events: int) -> None:
        if not connection.is_open:
            return
        try:
            if connection.reader is None and not self._shake_hands(connection):
                return
            if events & selectors.EVENT_WRITE:
                self._flush(connection)
            if events & selectors.EVENT_READ:
                self._read(connection)
        except (StreamEnded, StreamViolated):
            self._drop(connection)
        else:
            self._register(connection)

    def _shake_hands(self, connection: _Connection) -> bool:
        if not connection.stream.handshake():
            self._register(connection)
            return False
        der, _ = connection.stream.peer_certificate()
        connection.allowed = self._seats.get(hashlib.sha256(der).digest(), frozenset())
        if not connection.allowed:
            raise StreamViolated("its certificate is not listed")
        connection.reader = RecordReader()
        return True

    def _read(self, connection: _Connection) -> None:
        """Take and forward records for one turn, or until a receiver's queue is full."""
        if connection.reader is None:
            return
        reader = connection.reader
        left = TURN_BYTES
        last = _TLS_RECORD_BYTES
        while connection.is_open and not connection.is_ending:
            try:
                taken = reader.take()
            except ValueError:
                self._refuse(connection, MALFORMED)
                return
            if taken is not None:
                self._handle(connection, *taken)
                if connection.held_by is not None:
                    return
                continue
            if left <= 0:
                self._again.add(connection)
                return
            # A TLS record that was not full is the last one that came, as a rule; polling tells of any other.
            if last < _TLS_RECORD_BYTES and not connection.stream.has_buffered:
                return
            last = reader.fill(connection.stream)
            if last == 0:
                return
            left -= last
            if connection.run is not None:
                connection.run.last_byte = time.monotonic()

    def _handle(self, connection: _Connection, address: int, body: memoryview) -> None:
        run = connection.run
        if run is None:
            self._join(connection, address, body)
        elif address == connection.party or not 0 <= address < run.n_parties or not run.was_complete:
            self._refuse(connection, MALFORMED)
        else:
            receiver = run.seats.get(address)
            if receiver is None or receiver.is_ending:
                # It left; the sender has been told, or will be.
                return
            self._send(receiver, record(connection.party, body))
            if receiver.is_open and receiver.queued_bytes > self._limits.queue_bytes:
                connection.held_by = receiver
                receiver.holds.append(connection)

    def _join(self, connection: _Connection, address: int, body: memoryview) -> None:
        if address != RELAY or len(body) != JOIN.size:
            self._refuse(connection, MALFORMED)
            return
        magic, key, party, n_parties = JOIN.unpack(body)
        if magic != JOIN_MAGIC or not LEAST_PARTIES <= n_parties <= MOST_PARTIES or party >= n_parties:
            self._refuse(connection, MALFORMED)
            return
        if party not in connection.allowed:
            self._refuse(connection, NOT_YOUR_SEAT)
            return
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = _Run(n_parties, {}, was_complete=False, last_byte=time.monotonic())
        problem = OTHER_NUMBER if run.n_parties != n_parties else RUN_OVER if run.was_complete else SEAT_TAKEN
        if run.n_parties != n_parties or party in run.seats or run.was_complete:
            # A seat that is taken in a complete run is the more telling reason.
            self._refuse(connection, SEAT_TAKEN if party in run.seats and run.n_parties == n_parties else problem)
            return
        for other in run.seats.values():
            self._send(other, _notice(PRESENT, party))
            self._send(connection, _notice(PRESENT, other.party))
        connection.run, connection.run_key, connection.party = run, key, party
        run.seats[party] = connection
        run.was_complete = len(run.seats) == n_parties

    def _send(self, connection: _Connection, data: bytes) -> None:
        """Queue, and write at once what the socket takes: a turn of the loop would cost more than the write."""
        if not connection.is_open:
            return
        connection.queue.append(data)
        connection.queued_bytes += len(data)
        if len(connection.queue) == 1 and not connection.current:
            try:
                self._flush(connection)
            except (StreamEnded, StreamViolated):
                self._drop(connection)
                return
        self._register(connection)

    def _flush(self, connection: _Connection) -> None:
        left = TURN_BYTES
        while left > 0 and (connection.current or connection.queue):
            if not connection.current:
                connection.current = memoryview(connection.queue.popleft())
            sent = connection.stream.send(connection.current)
            if sent == 0:
                break
            connection.current = connection.current[sent:]
            connection.queued_bytes -= sent
            left -= sent
            if connection.run is not None:
                connection.run.last_byte = time.monotonic()
        if connection.holds and connection.queued_bytes <= self._limits.queue_bytes // 4:
            self._release(connection)
        if connection.is_ending and not connection.queued_bytes:
            self._drop(connection)

    def _release(self, connection: _Connection) -> None:
        for sender in connection.holds:
            sender.held_by = None
            if sender.is_open:
                self._again.add(sender)
                self._register(sender)
        connection.holds.clear()

    def _refuse(self, connection: _Connection, reason: int) -> None:
        connection.is_ending = True
        self._send(connection, _notice(REFUSED, reason))

    def _register(self, connection: _Connection) -> None:
        """Poll for what this connection waits for."""
        if not connection.is_open:
            return
        if connection.reader is None:
            events = connection.stream.waits_for
        else:
            reads = connection.held_by is None and not connection.is_ending
            events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if connection.queued_bytes else 0)
        if events != connection.events:
            if not connection.events:
                self._selector.register(connection.stream, events, connection)
            elif not events:
                self._selector.unregister(connection.stream)
            else:
                self._selector.modify(connection.stream, events, connection)
            connection.events = events

    def _drop(self, connection: _Connection) -> None:
        """Close a connection; tell the others of its run."""
        if not connection.is_open:
            return
        connection.is_open = False
        if connection.events:
            self._selector.unregister(connection.stream)
        connection.stream.close()
        connection.queue.clear()
        connection.queued_bytes = 0
        self._connections.discard(connection)
        self._again.discard(connection)
        self._release(connection)
        if connection.held_by is not None:
            connection.held_by.holds.remove(connection)
        run, connection.run = connection.run, None
        if run is None:
            return
        del run.seats[connection.party]
        if not run.seats:
            del self._runs[connection.run_key]
        for other in list(run.seats.values()):
            self._send(other, _notice(LEFT, connection.party))

    def _sweep(self, now: float) -> None:
        limits = self._limits
        for connection in list(self._connections):
            run = connection.run
            if run is None:
                late = now - connection.since > limits.greeting_seconds
            elif run.was_complete:
                late = now - run.last_byte > limits.idle_seconds
            else:
                late = now - run.last_byte > limits.gather_seconds
            if late and connection.reader is not None and not connection.is_ending:
                self._refuse(connection, TOO_LATE)
            elif late and (connection.is_ending or connection.reader is None):
                self._drop(connection)


def _notice(kind: bytes, number: int) -> bytes:
    return record(RELAY, NOTICE.pack(kind, number))
