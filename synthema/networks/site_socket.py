"""One order to the agent of this machine, and its answer, over a Unix socket. The standard library alone.

Each is its length (8 bytes, little-endian) and so many bytes; one order for each connection. Who closes the connection
before the answer came has gone, and the agent ends what it was asked.
"""

from __future__ import annotations

import math
import select
import socket
import struct
import time
from collections.abc import Callable

MOST_ORDER_BYTES = 1 << 23
MOST_ANSWER_BYTES = 1 << 30
# Linux: a socket's name has 108 bytes, with the zero at its end.
MOST_PATH_BYTES = 107

_LENGTH = struct.Struct("<Q")
_PIECE = 1 << 20
_LOOK_MILLISECONDS = 200
# Between two pieces of what is moving.
_MOVE_SECONDS = 60.0


def ask(path: str, order: bytes, *, within: float = math.inf, is_wanted: Callable[[], bool] = lambda: True) -> bytes:
    """Return the answer of the agent that listens at a path.

    `is_wanted`: asked several times a second; when it says no, the agent is left alone.

    Raises
    ------
    OSError
        If there is no answer: TimeoutError after `within` seconds, or if it is not wanted any more.
    """
    deadline = time.monotonic() + within
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_MOVE_SECONDS)
        connection.connect(path)
        send(connection, order)
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        while not poll.poll(_LOOK_MILLISECONDS):
            if time.monotonic() > deadline or not is_wanted():
                raise TimeoutError("no answer came while it was waited for")
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
