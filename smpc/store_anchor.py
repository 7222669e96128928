"""A small file outside the backups of a store that remembers its last statement: what exposes a restored store alone.

The other parties remember each statement too (`smpc.agreement`), unless their stores were restored as well. The anchor
holds the batch, the party, number and tag of the last statement, and a checksum, as one line. It is replaced as a whole
after the record was written and before the statement is sent, so it may lag behind the record and is never ahead of it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from smpc.errors import MaterialDamaged, MaterialMismatch, MaterialRolledBack, MaterialUnavailable
from smpc.package import Manifest

_MARK = "synthema-material-anchor-1"
_MOST_BYTES = 4096


class StoreAnchor:
    """The file. A file that is not there yet knows nothing."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest

    def check(self, statements: Sequence[bytes]) -> None:
        """Compare with the tags of the store's own statements.

        Raises
        ------
        MaterialRolledBack
            If the store does not know the statement that is remembered here.
        MaterialMismatch
            If the anchor is another store's.
        MaterialDamaged, MaterialUnavailable
            If it cannot be read.
        """
        try:
            text = self._path.read_bytes()[:_MOST_BYTES].decode("ascii", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise MaterialUnavailable(self._path.name, reason=f"it cannot be read ({error.strerror})") from error
        parts = text.split()
        if len(parts) != 6 or parts[0] != _MARK or text != self._line(parts[1], *parts[2:5]) or not parts[3].isdigit():
            raise MaterialDamaged(self._path.name, rule="it is no anchor of this version")
        if parts[1:3] != [self._manifest.batch.hex(), str(self._manifest.party)]:
            raise MaterialMismatch(self._manifest.party, rule="its anchor belongs to another store")
        number = int(parts[3])
        if number > len(statements) or statements[number - 1].hex() != parts[4]:
            raise MaterialRolledBack(self._manifest.party)

    def advance(self, number: int, tag: bytes) -> None:
        """Remember a statement; on the disk when this returns. Raises MaterialUnavailable if that fails."""
        line = self._line(self._manifest.batch.hex(), str(self._manifest.party), str(number), tag.hex())
        new = self._path.with_name(f"{self._path.name}.new-{secrets.token_hex(8)}")
        try:
            descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.replace(self._path)
        except OSError as error:
            raise MaterialUnavailable(self._path.name, reason=f"it cannot be written ({error.strerror})") from error

    @staticmethod
    def _line(batch: str, party: str, number: str, tag: str) -> str:
        text = f"{_MARK} {batch} {party} {number} {tag}"
        return f"{text} {hashlib.sha256(text.encode()).hexdigest()[:16]}\n"
