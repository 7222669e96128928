"""Sealed records: what a relay carries from one party to another without reading or changing it unnoticed.

A frame (header and payload as one string of bytes) is cut into pieces of `PIECE_BYTES`, the last one shorter; each
piece is sealed by AES-256-GCM under the key of its session and direction:

    record     sequence number (8 bytes, little-endian), ciphertext, tag (16)
    nonce      4 zero bytes, sequence number (8 bytes, big-endian): never repeats, for a key lives for one session
    AAD        "SYS1", session id, sender, receiver, sequence number, length of the piece

Sequence numbers are counted at both ends, so a record that is dropped, doubled, moved to another place, session,
direction or receiver, cut or altered fails, and nothing of it is delivered. The step of the protocol stands in the
frame's header, inside.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from smpc.errors import FrameRejected, ProtocolAbort
from smpc.transport.frames import SESSION_ID_BYTES

PIECE_BYTES = 1 << 16
TAG_BYTES = 16
_SEQUENCE = struct.Struct("<Q")
RECORD_OVERHEAD_BYTES = _SEQUENCE.size + TAG_BYTES
LONGEST_RECORD_BYTES = PIECE_BYTES + RECORD_OVERHEAD_BYTES

# Blocks of 16 bytes under one key: at 2^36 (1 TiB) the chance to tell AES-GCM from random, q^2 / 2^129, is 2^-57.
MOST_BLOCKS = 2**36

_NONCE = struct.Struct(">4xQ")
_BOUND = struct.Struct(f"<4s{SESSION_ID_BYTES}sHHQI")


class _Direction:
    def __init__(self, key: bytes, session_id: bytes, *, sender: int, receiver: int) -> None:
        self._aead = AESGCM(key)
        self._session_id = session_id
        self._sender = sender
        self._receiver = receiver
        self._sequence = 0
        self._blocks = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sender={self._sender}, receiver={self._receiver}, sequence={self._sequence})"

    def _bound(self, length: int) -> bytes:
        return _BOUND.pack(b"SYS1", self._session_id, self._sender, self._receiver, self._sequence, length)

    def _count(self, length: int) -> None:
        # One more block for the tag's mask, one for the associated data's share.
        self._blocks += math.ceil(length / 16) + 2
        if self._blocks > MOST_BLOCKS:
            raise ProtocolAbort("this line's key has sealed as much as it may")


class Sealer(_Direction):
    """The sending end of one direction."""

    def seal(self, piece: bytes | memoryview) -> bytes:
        """Return the next record, which holds this piece."""
        self._count(len(piece))
        sealed = self._aead.encrypt(_NONCE.pack(self._sequence), piece, self._bound(len(piece)))
        record = _SEQUENCE.pack(self._sequence) + sealed
        self._sequence += 1
        return record

    def seal_frame(self, header: bytes, payload: memoryview) -> Iterator[bytes]:
        """Yield the records that hold a frame, one at a time: a long frame need not be sealed as a whole."""
        first = PIECE_BYTES - len(header)
        yield self.seal(b"".join((header, payload[:first])))
        for start in range(first, len(payload), PIECE_BYTES):
            yield self.seal(payload[start : start + PIECE_BYTES])


class Opener(_Direction):
    """The receiving end of one direction. After a record was refused, it refuses all others."""

    def __init__(self, key: bytes, session_id: bytes, *, sender: int, receiver: int) -> None:
        super().__init__(key, session_id, sender=sender, receiver=receiver)
        self._broken: str | None = None

    def open(self, record: bytes | memoryview) -> bytes:
        """Return the piece that the next record holds.

        Raises
        ------
        FrameRejected
            Unless it is the record that the sender sealed next, for this receiver, in this session.
        """
        if self._broken is None:
            length = len(record) - RECORD_OVERHEAD_BYTES
            if not 0 <= length <= PIECE_BYTES:
                self._broken = "a sealed record has an impossible length"
            else:
                (claimed,) = _SEQUENCE.unpack_from(record)
                if claimed != self._sequence:
                    self._broken = (
                        f"sealed record {claimed} came, {self._sequence} is due: one was replayed, moved or lost"
                    )
        if self._broken is None:
            self._count(length)
            try:
                piece = self._aead.decrypt(_NONCE.pack(self._sequence), record[_SEQUENCE.size :], self._bound(length))
            except InvalidTag:
                self._broken = f"sealed record {self._sequence} is not what the sender sealed for us in this session"
            else:
                self._sequence += 1
                return piece
        raise FrameRejected(self._broken, sender=self._sender)
