"""What parties and relay say to each other inside TLS: short heads, opaque bodies.

    head, 6 bytes, little-endian:  length of the body (4), address (2)

A party's address is its number: to the relay it says who is to get the body, from the relay who sent it. `RELAY` is the
relay itself. To it goes one record, first of all:

    join       "SYR1", digest of the run's name (32), the party's number (2), how many take part (2)

and from it come notices, one byte and a number (2): `PRESENT` a party is there; `LEFT` it went, all it sent came before
this; `REFUSED` the connection is closed, for the reason of this number.
"""

from __future__ import annotations

import struct

import numpy as np

from smpc.transport.sealing import LONGEST_RECORD_BYTES
from smpc.transport.streams import Stream

HEAD = struct.Struct("<IH")
JOIN = struct.Struct("<4s32sHH")
NOTICE = struct.Struct("<cH")
JOIN_MAGIC = b"SYR1"
RELAY = 0xFFFF

PRESENT, LEFT, REFUSED = b"P", b"L", b"R"

SEAT_TAKEN, NOT_YOUR_SEAT, OTHER_NUMBER, RUN_OVER, MALFORMED, TOO_LATE = range(1, 7)
REASONS = {
    SEAT_TAKEN: "its seat in this run is taken",
    NOT_YOUR_SEAT: "its certificate is not listed for this seat",
    OTHER_NUMBER: "the others of this run say that another number of parties takes part",
    RUN_OVER: "a party of this run left already: choose another name for the next run",
    MALFORMED: "what it sent is not what the relay understands",
    TOO_LATE: "it, or another party, was silent for too long",
}

_BUFFER_BYTES = 2 * (HEAD.size + LONGEST_RECORD_BYTES)


class RecordReader:
    """Cuts what comes on a stream into records, in one buffer that never grows."""

    def __init__(self) -> None:
        # Not zeroed: pages that no record reaches cost no memory, and of a thousand connections most are idle.
        self._buffer = np.empty(_BUFFER_BYTES, dtype=np.uint8).data
        self._start = self._end = 0

    def fill(self, stream: Stream) -> int:
        """Read once; return the number of bytes. All complete records must have been taken before."""
        rest = self._end - self._start
        if self._start:
            if rest:
                self._buffer[:rest] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, rest
        n = stream.receive_into(self._buffer[self._end :])
        self._end += n
        return n

    def take(self) -> tuple[int, memoryview] | None:
        """Return address and body of the next complete record, a view that is valid until the next `fill`, or None.

        Raises
        ------
        ValueError
            If a head announces more than the longest record.
        """
        if self._end - self._start < HEAD.size:
            return None
        length, address = HEAD.unpack_from(self._buffer, self._start)
        if length > LONGEST_RECORD_BYTES:
            raise ValueError("a record is too long")
        body = self._start + HEAD.size
        if self._end - body < length:
            return None
        self._start = body + length
        return address, self._buffer[body : body + length]

    @property
    def is_empty(self) -> bool:
        """Whether no byte is left."""
        return self._end == self._start


def record(address: int, body: bytes | memoryview) -> bytes:
    """Return a record's bytes."""
    return b"".join((HEAD.pack(len(body), address), body))
