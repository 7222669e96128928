"""One order to the agent of this machine, and its answer, over a Unix socket. The standard library alone.

Each is its length (8 bytes, little-endian) and so many bytes; one order for each connection. Who closes the connection
before the answer came has gone, and the agent ends what it was asked.
"""

from __future__ import annotations

import socket
import struct

MOST_ORDER_BYTES = 1 << 23
MOST_ANSWER_BYTES = 1 << 30
# Linux: a socket's name has 108 bytes, with the zero at its end.
MOST_PATH_BYTES = 107

_LENGTH = struct.Struct("<Q")
_PIECE = 1 << 20


def ask(path: str, order: bytes, *, within: float | None = None) -> bytes:
    """Return the answer of the agent that listens at a path. Raises OSError (TimeoutError) if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(within)
        connection.connect(path)
        send(connection, order)
        return receive(connection, MOST_ANSWER_BYTES)


def send(connection: socket.socket, data: bytes) -> None:
    """Send bytes behind their length."""
    connection.sendall(_LENGTH.pack(len(data)))
    connection.sendall(data)


def receive(connection: socket.socket, most_bytes: int) -> bytes:
    """Return what was sent. Raises OSError if it is longer than allowed, or the connection ends before."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > most_bytes:
        raise OSError(f"what comes is longer than {most_bytes} bytes")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, n_bytes: int) -> bytes:
    found = bytearray()
    while len(found) < n_bytes:
        piece = connection.recv(min(_PIECE, n_bytes - len(found)))
        if not piece:
            raise ConnectionError("the connection ended before all was sent")
        found += piece
    return bytes(found)
