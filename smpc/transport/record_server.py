"""A server of many TLS connections that carry records: one thread polls all, and what it keeps is bounded.

For each connection there is one read buffer and one queue; from who sends to somebody whose queue is full nothing more
is read until it drains. Connections that do not finish their TLS or do not settle (say what they are for) give way to
newer ones. What records mean is a subclass's business.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from smpc.transport.pump import TURN_BYTES
from smpc.transport.relay_wire import RecordReader
from smpc.transport.streams import StreamEnded, StreamViolated, TlsStream

_TLS_RECORD_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a server keeps and how long it waits.

    max_connections    of all kinds
    max_pending        that have not settled
    queue_bytes        kept for one connection that does not read, plus one record for each that sends to it
    greeting_seconds   for TLS and settling
    """

    max_connections: int = 64
    max_pending: int = 16
    queue_bytes: int = 1 << 22
    greeting_seconds: float = 10.0

    def __post_init__(self) -> None:
        # Not __slots__: a subclass has its own only.
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)!r}")


@dataclass(eq=False, slots=True, repr=False)
class Connection:
    """One connection as the server sees it."""

    stream: TlsStream
    since: float
    # None until TLS stands and the certificate was looked at.
    reader: RecordReader | None = None
    is_settled: bool = False
    queue: deque[bytes] = field(default_factory=deque)
    queued_bytes: int = 0
    current: memoryview = field(default_factory=lambda: memoryview(b""))
    # Not read from until the queue of this one drains.
    held_by: Connection | None = None
    holds: list[Connection] = field(default_factory=list)
    held_since: float = 0.0
    # Not read from until the subclass says so.
    is_paused: bool = False
    last_received: float = 0.0
    events: int = 0
    is_open: bool = True
    # Closed as soon as its queue is empty.
    is_ending: bool = False
    ending_since: float = 0.0

    @property
    def is_read(self) -> bool:
        """Whether what it sends is taken at the moment."""
        return self.held_by is None and not self.is_paused and not self.is_ending


C = TypeVar("C", bound=Connection)


class RecordServer(ABC, Generic[C]):
    """A server on a listening socket.

    Parameters
    ----------
    listener
        Listens already.
    context
        For TLS.
    limits
        See `ServerLimits`.
    """

    # How often what is late is looked for, in seconds.
    _sweep_seconds = 0.5

    def __init__(self, listener: socket.socket, *, context: ssl.SSLContext, limits: ServerLimits) -> None:
        self._server_limits = limits
        self._context = context
        self._listener = listener
        self._listener.setblocking(False)
        self._connections: set[C] = set()
        # Have unread bytes that polling does not show.
        self._again: set[C] = set()
        self._stopping = False
        self._posted: deque[Callable[[], None]] = deque()
        self._waker, self._wake = socket.socketpair()
        self._waker.setblocking(False)
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._swept = time.monotonic()

    @abstractmethod
    def _new_connection(self, stream: TlsStream, since: float) -> C:
        """Return what the server notes of a new connection."""

    @abstractmethod
    def _admit(self, connection: C) -> None:
        """Look at the certificate. Raises StreamViolated to close the connection."""

    @abstractmethod
    def _handle(self, connection: C, address: int, body: memoryview) -> None:
        """Take one record. The body is valid during the call only."""

    @abstractmethod
    def _malformed(self, connection: C) -> None:
        """End a connection that sent what is no record."""

    @abstractmethod
    def _forget(self, connection: C) -> None:
        """Note that a connection is closed."""

    @abstractmethod
    def _sweep(self, now: float) -> None:
        """End what is late. Called every `_sweep_seconds` or so."""

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
        self._poke()

    def post(self, action: Callable[[], None]) -> None:
        """Have the server's thread do something soon; from any thread."""
        self._posted.append(action)
        self._poke()

    def _poke(self) -> None:
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def serve(self) -> None:
        """Go on until `stop` is called; then close everything."""
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
        ready = self._selector.select(0 if self._again or self._posted else self._sweep_seconds)
        again, self._again = self._again, set()
        for key, events in ready:
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._waker:
                with contextlib.suppress(OSError):
                    self._waker.recv(1 << 12)
            else:
                again.discard(key.data)
                self._serve_one(key.data, events)
        for connection in again:
            self._serve_one(connection, selectors.EVENT_READ)
        # What these post comes next turn, so that connections have theirs.
        for _ in range(len(self._posted)):
            self._posted.popleft()()
        now = time.monotonic()
        if now - self._swept >= self._sweep_seconds:
            self._swept = now
            self._sweep(now)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            # The caller went away before it was answered.
            return
        limits = self._server_limits
        pending = sorted((each for each in self._connections if not each.is_settled), key=lambda each: each.since)
        full = len(self._connections) >= limits.max_connections
        if pending and (full or len(pending) >= limits.max_pending):
            self._drop(pending[0])
        elif full:
            sock.close()
            return
        try:
            connection = self._new_connection(TlsStream(sock, self._context, server_side=True), time.monotonic())
        except OSError:
            sock.close()
            return
        self._connections.add(connection)
        self._serve_one(connection, selectors.EVENT_READ)

    def _serve_one(self, connection: C, events: int) -> None:
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

    def _shake_hands(self, connection: C) -> bool:
        if not connection.stream.handshake():
            self._register(connection)
            return False
        connection.reader = RecordReader()
        self._admit(connection)
        return True

    def _read(self, connection: C) -> None:
        """Take records for one turn, or until a receiver's queue is full."""
        if connection.reader is None:
            return
        reader = connection.reader
        left = TURN_BYTES
        last = _TLS_RECORD_BYTES
        while connection.is_open and connection.is_read:
            try:
                taken = reader.take()
            except ValueError:
                self._malformed(connection)
                return
            if taken is not None:
                self._handle(connection, *taken)
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
            connection.last_received = time.monotonic()
            self._moved(connection)

    def _moved(self, connection: C) -> None:
        """Note that bytes came from, or went to, a connection."""

    def _hold(self, sender: C, receiver: C) -> None:
        """Read nothing more of a sender if the receiver's queue is full."""
        if receiver.is_open and receiver.queued_bytes > self._server_limits.queue_bytes:
            if not receiver.holds:
                receiver.held_since = time.monotonic()
            sender.held_by = receiver
            receiver.holds.append(sender)

    def _send(self, connection: C, data: bytes) -> None:
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

    def _flush(self, connection: C) -> None:
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
            self._moved(connection)
        if connection.holds and connection.queued_bytes <= self._server_limits.queue_bytes // 4:
            self._release(connection)
        if connection.is_ending and not connection.queued_bytes:
            self._drop(connection)

    def _release(self, connection: C) -> None:
        for sender in connection.holds:
            sender.held_by = None
            self._resume(sender)  # type: ignore[arg-type]  # of this server, as all connections here
        connection.holds.clear()

    def _resume(self, connection: C) -> None:
        """Read a connection again, what is in its buffer first."""
        if connection.is_open:
            connection.last_received = time.monotonic()
            self._again.add(connection)
            self._register(connection)

    def _end(self, connection: C, data: bytes) -> None:
        """Send a last record, and close once it is sent."""
        connection.is_ending = True
        connection.ending_since = time.monotonic()
        self._send(connection, data)

    def _register(self, connection: C) -> None:
        """Poll for what this connection waits for."""
        if not connection.is_open:
            return
        if connection.reader is None:
            events = connection.stream.waits_for
        else:
            events = selectors.EVENT_READ if connection.is_read else 0
            events |= selectors.EVENT_WRITE if connection.queued_bytes else 0
        if events != connection.events:
            if not connection.events:
                self._selector.register(connection.stream, events, connection)
            elif not events:
                self._selector.unregister(connection.stream)
            else:
                self._selector.modify(connection.stream, events, connection)
            connection.events = events

    def _drop(self, connection: C) -> None:
        """Close a connection."""
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
            connection.held_by = None
        self._forget(connection)
