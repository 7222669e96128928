"""Byte streams that never block: a TCP socket as it is, or inside TLS. Waiting is left to whoever polls them.

`send` and `receive_into` say how many bytes they moved, 0 if the socket is not ready. A stream that ended raises
`StreamEnded`, one whose bytes were falsified `StreamViolated`; both say why, and no more.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl

# Two parties that answer each other at once must not wait for acknowledgements; a megabyte keeps both ends busy.
SOCKET_BUFFER_BYTES = 1 << 20
# One call of TLS takes this much at most: between calls, what came in is read. A TLS record holds 16 KiB.
WRITE_BYTES = 1 << 18


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
    """A TCP socket inside TLS. A write that could not be finished is taken up with the same bytes."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        tune(sock)
        self._sock = context.wrap_socket(sock, server_side=server_side, do_handshake_on_connect=False)
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
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._waits_for = select.POLLIN
            return False
        except ssl.SSLWantWriteError:
            self._waits_for = select.POLLOUT
            return False
        except (OSError, ValueError) as error:
            raise _translated(error) from None
        return True

    @property
    def waits_for(self) -> int:
        """What to poll for while `handshake` is not done."""
        return self._waits_for

    @property
    def has_buffered(self) -> bool:
        """Whether bytes can be had that polling does not show: the rest of a TLS record."""
        return self._sock.pending() > 0

    def peer_certificate(self) -> tuple[bytes, frozenset[str]]:
        """Return the peer's certificate (DER) and its DNS names."""
        der = self._sock.getpeercert(binary_form=True) or b""
        fields = self._sock.getpeercert() or {}
        alternatives = fields.get("subjectAltName", ())
        return der, frozenset(str(entry[1]) for entry in alternatives if entry[0] == "DNS")

    def send(self, data: memoryview) -> int:
        """Write some bytes; return how many. If 0, the next call must begin with the same bytes."""
        try:
            return self._sock.send(data[:WRITE_BYTES])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except (OSError, ValueError) as error:
            raise _translated(error) from None

    def receive_into(self, space: memoryview) -> int:
        """Read some bytes; return how many."""
        try:
            n = self._sock.recv_into(space)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except (OSError, ValueError) as error:
            raise _translated(error) from None
        if n == 0:
            raise StreamEnded("it closed its connection")
        return n

    def end(self) -> None:
        """Say that nothing more will come. What the other end still sends can be drained."""
        if not self._ended:
            self._ended = True
            # Sends the notice of closure; the peer's own is not waited for.
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()
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
