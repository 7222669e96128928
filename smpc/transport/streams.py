"""Byte streams that never block: a TCP socket as it is, or inside TLS. Waiting is left to whoever polls them.

`send` and `receive_into` say how many bytes they moved, 0 if the socket is not ready. A stream that ended raises
`StreamEnded`, one whose bytes were falsified `StreamViolated`; both say why, and no more.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl

import numpy as np

# Two parties that answer each other at once must not wait for acknowledgements; a megabyte keeps both ends busy.
SOCKET_BUFFER_BYTES = 1 << 20
# One call of TLS takes this much at most: between calls, what came in is read. A TLS record holds 16 KiB.
WRITE_BYTES = 1 << 17
# What is read from a socket at a time: as many records as come at once.
READ_BYTES = 1 << 18


class StreamEnded(Exception):
    """The other end closed the stream, or the network did."""


class StreamViolated(Exception):
    """What came is not what the other end wrote, or not by the rules of TLS."""


def tune(sock: socket.socket) -> None:
    """Set the options of a socket on which short and long messages are exchanged."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)


class PlainStream:
    """A TCP socket: neither secret nor protected."""

    def __init__(self, sock: socket.socket) -> None:
        tune(sock)
        self._sock = sock

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._sock.fileno()

    def handshake(self) -> bool:
        """Return True: there is nothing to agree on."""
        return True

    @property
    def waits_for(self) -> int:
        """What to poll for while `handshake` is not done."""
        return select.POLLIN

    @property
    def has_buffered(self) -> bool:
        """Whether bytes can be had that polling does not show."""
        return False

    def peer_certificate(self) -> tuple[bytes, frozenset[str]]:
        """Return the peer's certificate (DER) and DNS names: none."""
        return b"", frozenset()

    def send(self, data: memoryview) -> int:
        """Write some bytes; return how many."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise StreamEnded(_sentence(error)) from None

    def receive_into(self, space: memoryview) -> int:
        """Read some bytes; return how many."""
        try:
            n = self._sock.recv_into(space)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise StreamEnded(_sentence(error)) from None
        if n == 0:
            raise StreamEnded("it closed its connection")
        return n

    def end(self) -> None:
        """Say that nothing more will come. What the other end still sends can be drained."""
        _end(self._sock)

    def drain(self) -> bool:
        """Throw away what came; return whether the other end has ended, too."""
        return _drain(self._sock)

    def close(self) -> None:
        """Say that nothing more will come, and close."""
        self.end()
        self._sock.close()


class TlsStream:
    """A TCP socket inside TLS. A write that could not be finished is taken up with the same bytes.

    The TLS library works in memory, and the socket moves many of its records of 16 KiB at a time: asked to do both, it
    makes one call to the system for each record that it writes, and two for each that it reads.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        tune(sock)
        self._sock = sock
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=server_side)
        # Not zeroed: pages that nothing reaches cost no memory.
        self._buffer = np.empty(READ_BYTES, dtype=np.uint8).data
        # Records on their way out, and how many bytes of the caller's they hold.
        self._records = memoryview(b"")
        self._held = 0
        self._has_buffered = False
        self._waits_for = select.POLLOUT
        self._ended = False

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._sock.fileno()

    def handshake(self) -> bool:
        """Go on with the TLS handshake; return whether it is done.

        Raises
        ------
        StreamEnded, StreamViolated
        """
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    done = True
                except ssl.SSLWantReadError:
                    done = False
                self._collect()
                if not self._send_records():
                    self._waits_for = select.POLLOUT
                    return False
                if done:
                    return True
                if not self._fill():
                    self._waits_for = select.POLLIN
                    return False
        except (OSError, ValueError) as error:
            self._send_alert()
            raise _translated(error) from None

    @property
    def waits_for(self) -> int:
        """What to poll for while `handshake` is not done."""
        return self._waits_for

    @property
    def has_buffered(self) -> bool:
        """Whether bytes can be had that polling does not show: records that were read and not yet decrypted."""
        return self._has_buffered

    def peer_certificate(self) -> tuple[bytes, frozenset[str]]:
        """Return the peer's certificate (DER) and its DNS names."""
        der = self._tls.getpeercert(binary_form=True) or b""
        fields = self._tls.getpeercert() or {}
        alternatives = fields.get("subjectAltName", ())
        return der, frozenset(str(entry[1]) for entry in alternatives if entry[0] == "DNS")

    def send(self, data: memoryview) -> int:
        """Write some bytes; return how many. If 0, the next call must begin with the same bytes."""
        try:
            if not self._records:
                self._held = self._tls.write(data[:WRITE_BYTES])
                self._collect()
            return self._held if self._send_records() else 0
        except (OSError, ValueError) as error:
            raise _translated(error) from None

    def receive_into(self, space: memoryview) -> int:
        """Read some bytes; return how many."""
        try:
            n = self._decrypt(space)
            if n == 0 and self._fill():
                n = self._decrypt(space)
        except (OSError, ValueError) as error:
            self._send_alert()
            raise _translated(error) from None
        return n

    def _decrypt(self, space: memoryview) -> int:
        """Fill `space` from the records that are here; return how many bytes they held."""
        n = 0
        try:
            while n < len(space):
                # The stub says bytes; with a buffer to read into, it is their number.
                got = int(self._tls.read(len(space) - n, space[n:]))
                if got == 0:
                    break
                n += got
        except ssl.SSLWantReadError:
            self._has_buffered = False
            return n
        except OSError:
            # What came before the failure is handed over first.
            if n == 0:
                raise
        if n == 0 < len(space):
            raise StreamEnded("it closed its connection")
        self._has_buffered = n < len(space) or self._tls.pending() > 0 or self._received.pending > 0
        return n

    def _fill(self) -> bool:
        """Read what the socket holds, up to a bound; return whether it was anything. The end counts."""
        try:
            n = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return False
        if n:
            self._received.write(self._buffer[:n])
        else:
            self._received.write_eof()
        return True

    def _collect(self) -> None:
        """Take the records that the TLS library wrote, behind those that still wait."""
        if self._to_send.pending:
            written = self._to_send.read()
            self._records = memoryview(bytes(self._records) + written if self._records else written)

    def _send_records(self) -> bool:
        """Send records; return whether none is left."""
        while self._records:
            try:
                sent = self._sock.send(self._records)
            except (BlockingIOError, InterruptedError):
                return False
            self._records = self._records[sent:]
        return True

    def _send_alert(self) -> None:
        """Tell the other end why, if the TLS library has something to say, as far as the socket takes it."""
        with contextlib.suppress(OSError, ValueError):
            self._collect()
            self._send_records()

    def end(self) -> None:
        """Say that nothing more will come. What the other end still sends can be drained."""
        if not self._ended:
            self._ended = True
            # Writes the notice of closure; the peer's own is not waited for.
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
            self._send_alert()
            _end(self._sock)

    def drain(self) -> bool:
        """Throw away what came; return whether the other end has ended, too."""
        return _drain(self._sock)

    def close(self) -> None:
        """Say that nothing more will come, and close."""
        self.end()
        self._sock.close()


Stream = PlainStream | TlsStream


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def _drain(sock: socket.socket) -> bool:
    try:
        while sock.recv(1 << 16):
            pass
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
    return True


def _translated(error: Exception) -> StreamEnded | StreamViolated:
    """Tell an end from a violation. A peer that refuses us (an alert) ended the stream; so did a cut connection."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return StreamEnded("it closed its connection")
    if isinstance(error, ssl.SSLCertVerificationError):
        return StreamViolated(f"its certificate was not accepted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        said = (error.reason or "TLS failed").replace("_", " ").lower()
        return StreamEnded(f"it ended the connection: {said}") if "alert" in said else StreamViolated(f"TLS: {said}")
    if isinstance(error, OSError):
        return StreamEnded(_sentence(error))
    return StreamEnded("its connection is closed")


def _sentence(error: OSError) -> str:
    if isinstance(error, ConnectionError):
        return "it closed its connection"
    return f"its connection failed: {error.strerror or type(error).__name__}"
