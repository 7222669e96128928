"""One connection of a member to the hub: TLS 1.3 to the pinned certificate, records in and out, heartbeats.

It ends by `ConnectionOver`, always: the hub went or was silent, sent what it may not, or the line is closed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import math
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from smpc.transport.certificates import TlsFiles
from smpc.transport.pump import TURN_BYTES
from smpc.transport.relay_wire import RecordReader
from smpc.transport.streams import StreamEnded, StreamViolated, TlsStream
from synthema.networks.line_outbox import Outbox
from synthema.networks.line_wire import BEAT, line_notice

_TLS_RECORD_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where the hub is, and the SHA-256 of its certificate (DER), 32 bytes."""

    host: str
    port: int
    fingerprint: bytes

    def __post_init__(self) -> None:
        if not self.host or not 0 < self.port < 2**16:
            raise ValueError(f"a hub's address is host:port, got {self.host!r}:{self.port!r}")
        if len(self.fingerprint) != hashlib.sha256().digest_size:
            raise ValueError(f"a hub's fingerprint is a SHA-256 of 32 bytes, got {len(self.fingerprint)}")


@dataclass(frozen=True, slots=True)
class MemberFiles:
    """A member's own secret keys (identity, TLS), its certificate, and the certificate of the hub's issuer."""

    identity: Path
    tls_key: Path
    certificate: Path
    hub_ca: Path

    def tls(self) -> TlsFiles:
        """Return what a connection to the hub shows and trusts."""
        return TlsFiles(self.certificate, self.tls_key, (self.hub_ca,))


class ConnectionOver(Exception):
    """The connection is over, and why; `is_lasting` if trying again soon is no use."""

    def __init__(self, reason: str, *, is_lasting: bool = False) -> None:
        self.reason = reason
        self.is_lasting = is_lasting
        super().__init__(reason)


class Waker:
    """Wakes a thread that polls, from any other."""

    def __init__(self) -> None:
        self._out, self._in = socket.socketpair()
        self._out.setblocking(False)
        self._in.setblocking(False)
        self._is_closing = False

    @property
    def is_closing(self) -> bool:
        """Whether `stop` was called."""
        return self._is_closing

    def stop(self) -> None:
        """End whatever polls here."""
        self._is_closing = True
        self.wake()

    def wake(self) -> None:
        """Wake the thread. A full pipe wakes as well."""
        with contextlib.suppress(OSError):
            self._in.send(b"x")

    def poll(self, stream: TlsStream, events: int, seconds: float) -> bool:
        """Sleep until the stream is ready, somebody wakes us or time is over; return whether the stream can be read.

        Raises
        ------
        ConnectionOver
            If the line is closing.
        """
        poll = select.poll()
        own = self._out.fileno()
        poll.register(own, select.POLLIN)
        poll.register(stream.fileno(), events)
        is_readable = False
        for descriptor, happened in poll.poll(max(0, math.ceil(seconds * 1000))):
            if descriptor == own:
                with contextlib.suppress(OSError):
                    self._out.recv(4096)
            else:
                is_readable = bool(happened & ~select.POLLOUT)
        if self.is_closing:
            raise ConnectionOver("it was closed")
        return is_readable

    def close(self) -> None:
        """Close both ends."""
        self._out.close()
        self._in.close()


def connect(address: HubAddress, tls: TlsFiles, waker: Waker, *, within: float) -> TlsStream:
    """Return a connection to the hub, known by its certificate.

    Raises
    ------
    ConnectionOver
    """
    try:
        context = tls.context(server_side=False)
        sock = socket.create_connection((address.host, address.port), timeout=within)
    except (OSError, ValueError) as error:
        raise ConnectionOver(f"the hub cannot be reached: {error}") from None
    try:
        stream = TlsStream(sock, context, server_side=False)
    except OSError as error:
        sock.close()
        raise ConnectionOver(f"the hub cannot be reached: {error}") from None
    with contextlib.ExitStack() as undo:
        undo.callback(stream.close)
        deadline = time.monotonic() + within
        try:
            while not stream.handshake():
                if time.monotonic() > deadline:
                    raise ConnectionOver("the hub's TLS handshake did not end in time")
                waker.poll(stream, stream.waits_for, deadline - time.monotonic())
        except StreamEnded as error:
            raise ConnectionOver(str(error)) from None
        except StreamViolated as error:
            raise ConnectionOver(f"the hub is not the one that was expected ({error})", is_lasting=True) from None
        check_hub(stream, address)
        undo.pop_all()
        return stream


def check_hub(stream: TlsStream, address: HubAddress) -> None:
    """Raise ConnectionOver unless the other end showed the hub's certificate."""
    shown, _ = stream.peer_certificate()
    if not hmac.compare_digest(hashlib.sha256(shown).digest(), address.fingerprint):
        raise ConnectionOver("the hub shows another certificate than the one that is pinned", is_lasting=True)


class Connection:
    """Moves records between a stream, an outbox and whoever takes what comes.

    Parameters
    ----------
    on_record
        Gets address and body of each record; the body is valid during the call only.
    drop_seconds
        How long the hub may be silent.
    """

    def __init__(
        self,
        stream: TlsStream,
        outbox: Outbox,
        waker: Waker,
        on_record: Callable[[int, memoryview], None],
        *,
        drop_seconds: float,
    ) -> None:
        self._stream = stream
        # May be changed between records.
        self.outbox = outbox
        self._waker = waker
        self._on_record = on_record
        self._reader = RecordReader()
        self._current = memoryview(b"")
        self.drop_seconds = drop_seconds
        # None until the hub said how often.
        self.heartbeat_seconds: float | None = None

    def serve(self) -> NoReturn:
        """Go on until the connection is over.

        Raises
        ------
        ConnectionOver
        """
        heard = beaten = time.monotonic()
        is_readable = False
        try:
            while True:
                if is_readable or self._stream.has_buffered:
                    n_bytes = self._read()
                    heard = time.monotonic() if n_bytes else heard
                now = time.monotonic()
                if now - heard > self.drop_seconds:
                    raise ConnectionOver(f"the hub was silent for {self.drop_seconds:g} s")
                due = heard + self.drop_seconds
                if self.heartbeat_seconds is not None:
                    if now - beaten >= self.heartbeat_seconds:
                        beaten = now
                        self.outbox.put_notice(line_notice(BEAT))
                    due = min(due, beaten + self.heartbeat_seconds)
                all_sent = self._flush()
                events = select.POLLIN if all_sent else select.POLLIN | select.POLLOUT
                seconds = 0.0 if self._stream.has_buffered else due - time.monotonic()
                is_readable = self._waker.poll(self._stream, events, seconds)
        except StreamEnded as error:
            raise ConnectionOver(str(error)) from None
        except StreamViolated as error:
            raise ConnectionOver(f"the line was tampered with ({error})") from None

    def _read(self) -> int:
        """Take what is there, one turn at most; return the number of bytes."""
        total = 0
        while total < TURN_BYTES:
            n_bytes = self._reader.fill(self._stream)
            total += n_bytes
            while (taken := self._next_record()) is not None:
                self._on_record(*taken)
            if n_bytes < _TLS_RECORD_BYTES and not self._stream.has_buffered:
                break
        return total

    def _next_record(self) -> tuple[int, memoryview] | None:
        try:
            return self._reader.take()
        except ValueError:
            raise ConnectionOver("the hub sent a record that is too long") from None

    def _flush(self) -> bool:
        """Send what the socket takes, one turn at most; return whether all is sent."""
        left = TURN_BYTES
        while left > 0:
            if not self._current:
                piece = self.outbox.next_record()
                if piece is None:
                    return True
                self._current = memoryview(piece)
            sent = self._stream.send(self._current)
            if sent == 0:
                return False
            self._current = self._current[sent:]
            left -= sent
        return False
