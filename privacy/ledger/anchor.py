"""A small file outside the backup set that remembers how far the ledger was: what exposes a restored backup.

Two slots are written in turn, each with a checksum: a torn write leaves the other one. It is written after each commit
and without a sync: it may lag behind the ledger, never be ahead of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from privacy.ledger.errors import LedgerUnavailable

_SLOT = 256
_MARK = "synthema-anchor-1"


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a ledger was: its identity, the number of its entries, and the last one's hash."""

    ledger_id: str
    size: int
    hash: str


class Anchor:
    """The file. Made when it is first written; raises LedgerUnavailable where it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Mark | None:
        """Return the furthest mark, or None if there is none."""
        if not self.path.exists():
            return None
        with self._file() as file:
            known = [mark for mark in self._slots(file) if mark is not None]
        return max(known, key=lambda mark: mark.size, default=None)

    def advance(self, mark: Mark) -> None:
        """Write a mark, unless a further one is there."""
        with self._file() as file:
            marks = self._marks(file)
            if mark.size > max(marks):
                text = f"{_MARK} {mark.ledger_id} {mark.size} {mark.hash}"
                line = f"{text} {_checksum(text)}".ljust(_SLOT - 1) + "\n"
                # Over the older one: if this write is torn, the newer one is still there.
                os.pwrite(file, line.encode(), _SLOT * marks.index(min(marks)))

    def _marks(self, file: int) -> list[int]:
        return [0 if mark is None else mark.size for mark in self._slots(file)]

    def _slots(self, file: int) -> list[Mark | None]:
        return [self._mark(os.pread(file, _SLOT, start)) for start in (0, _SLOT)]

    @staticmethod
    def _mark(slot: bytes) -> Mark | None:
        parts = slot.decode("ascii", errors="replace").split()
        if len(parts) != 5 or parts[0] != _MARK or parts[4] != _checksum(" ".join(parts[:4])):
            return None
        return Mark(parts[1], int(parts[2]), parts[3])

    @contextmanager
    def _file(self) -> Iterator[int]:
        try:
            file = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise LedgerUnavailable(f"the anchor {self.path.name} cannot be read or written: {error}") from error


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
