"""What a store remembers of its use: a file of entries that is only added to, each on the disk before it counts.

mark       items of a kind before this one are used, or may be. Written before the first of them is handed out
closed     the same, from a store that was closed in order: here the mark may go back, to what was really handed out
statement  number and random tag of what this party said at the start of a run. Written before it is said
memory     number and tag of what another party said
discarded  the store serves nothing any more

    entry, 64 bytes, little-endian: type (1), 0, number of the kind or party (2), place in the file (4),
    value: mark or number of the statement (8), tag (16), check (32)
    check = BLAKE2b over the other 32 bytes, keyed by the check before it; the first one by the package's fingerprint

Each entry fits its sector, and a chain of checks runs through all of them: an entry that is altered, moved or taken out
is an error. Bytes at the end that are no whole entry were never acknowledged and are cut off. Whole entries that
are missing at the end are a rollback, which no file can tell of itself: see `smpc.agreement`.
"""

from __future__ import annotations

import enum
import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from smpc.errors import MaterialDamaged, MaterialUnavailable

TAG_BYTES = 16
ENTRY_BYTES = 64

_BODY = struct.Struct("<BxHIQ16s")
_CHECK_BYTES = ENTRY_BYTES - _BODY.size
_NO_TAG = bytes(TAG_BYTES)
_MOST_BYTES = 2**32


class Type(enum.IntEnum):
    """What an entry says."""

    MARK = 1
    CLOSED = 2
    STATEMENT = 3
    MEMORY = 4
    DISCARDED = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `subject` is the number of a kind (marks) or of a party (memories), else 0."""

    type: Type
    subject: int = 0
    value: int = 0
    tag: bytes = _NO_TAG


class Record:
    """The file, open for reading and adding. Its lock is the business of the store.

    marks       by number of the kind
    statements  tags of what this party said, the first one has number 1
    memories    by party: number and tag of its last statement that is known here
    discarded   whether the store was given up
    broken      whether an entry could not be written: what is on the disk is not known

    Raises
    ------
    MaterialDamaged
        If an entry is not as it was written.
    MaterialUnavailable
        If the disk fails. After a failure to add, nothing can be added any more.
    """

    def __init__(self, descriptor: int, name: str, *, fingerprint: bytes) -> None:
        self._descriptor = descriptor
        self._name = name
        self._check = fingerprint
        self._size = 0
        self.broken = False
        self.marks: dict[int, int] = {}
        self.statements: list[bytes] = []
        self.memories: dict[int, tuple[int, bytes]] = {}
        self.discarded = False
        for entry in self._read():
            self._apply(entry)

    def __repr__(self) -> str:
        return f"Record(entries={self._size // ENTRY_BYTES})"

    def add(self, entries: Sequence[Entry]) -> None:
        """Add entries; when this returns, they are on the disk."""
        if self.broken:
            raise MaterialUnavailable(self._name, reason="an earlier entry could not be written")
        # Until the disk has answered, nothing is known of what it holds: an error leaves this so.
        self.broken = True
        data = bytearray()
        check = self._check
        for i, entry in enumerate(entries):
            body = self._body(entry, self._size // ENTRY_BYTES + i)
            check = _chained(check, body)
            data += body + check
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self._size + written)
            os.fsync(self._descriptor)
        except OSError as error:
            raise MaterialUnavailable(self._name, reason=f"it cannot be written ({error.strerror})") from error
        self._check = check
        self._size += len(data)
        for entry in entries:
            self._apply(entry)
        self.broken = False

    def _apply(self, entry: Entry) -> None:
        if entry.type is Type.MARK:
            if entry.value < self.marks.get(entry.subject, 0):
                raise MaterialDamaged(self._name, rule="a mark goes back")
            self.marks[entry.subject] = entry.value
        elif entry.type is Type.CLOSED:
            if entry.value > self.marks.get(entry.subject, 0):
                raise MaterialDamaged(self._name, rule="a closing mark lies beyond what was reserved")
            self.marks[entry.subject] = entry.value
        elif entry.type is Type.STATEMENT:
            if entry.value != len(self.statements) + 1:
                raise MaterialDamaged(self._name, rule="statements are not numbered one after the other")
            self.statements.append(entry.tag)
        elif entry.type is Type.MEMORY:
            self.memories[entry.subject] = entry.value, entry.tag
        else:
            self.discarded = True

    def _read(self) -> list[Entry]:
        try:
            length = os.fstat(self._descriptor).st_size
            if length > _MOST_BYTES:
                raise MaterialDamaged(self._name, rule="it is too long")
            data = b""
            while len(data) < length and (piece := os.pread(self._descriptor, length - len(data), len(data))):
                data += piece
            whole = len(data) - len(data) % ENTRY_BYTES
            if whole != length:
                os.ftruncate(self._descriptor, whole)
            # What a killed process wrote may be in memory only: before it counts, it is on the disk.
            os.fsync(self._descriptor)
        except OSError as error:
            raise MaterialUnavailable(self._name, reason=f"it cannot be read ({error.strerror})") from error
        return [self._entry(data[start : start + ENTRY_BYTES]) for start in range(0, whole, ENTRY_BYTES)]

    def _entry(self, data: bytes) -> Entry:
        body = data[: _BODY.size]
        code, subject, _, value, tag = _BODY.unpack(body)
        check = _chained(self._check, body)
        if check != data[_BODY.size :] or code not in Type.__members__.values():
            raise MaterialDamaged(self._name, rule=f"entry {self._size // ENTRY_BYTES} is not as it was written")
        entry = Entry(Type(code), subject, value, tag)
        if self._body(entry, self._size // ENTRY_BYTES) != body:
            raise MaterialDamaged(self._name, rule=f"entry {self._size // ENTRY_BYTES} is not as it was written")
        self._check = check
        self._size += ENTRY_BYTES
        return entry

    @staticmethod
    def _body(entry: Entry, place: int) -> bytes:
        return _BODY.pack(entry.type, entry.subject, place, entry.value, entry.tag)


def _chained(check: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_BYTES, key=check).digest()
