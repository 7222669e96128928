"""A journal as one file that leaves the house: every entry, no answer, verified offline with public keys alone.

    {"format":"synthema-ledger-export-1","hash":...,"ledger_id":...,"note":...,"size":...}    the header
    {"body":"{...}","hash":...,"seq":1}                                                       one line an entry
    {"sha256":...}                                                                            of all bytes before

Each line is canonical JSON. `note` is the latest checkpoint that witnesses cosigned, or null; `body` is the entry's
canonical text, the very bytes that are hashed. The last line finds accidents; what finds an adversary is what `verify`
recomputes: the chain, every rule and cost, and the signatures of checkpoints.
"""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from privacy.errors import LedgerCorrupt
from privacy.ledger import canonical, verification
from privacy.ledger._files import new_file
from privacy.ledger._snapshot import Snapshot, from_snapshot, head_of
from privacy.ledger.ledger import Ledger
from privacy.ledger.merkle import Tree, leaf_hash
from privacy.ledger.notes import Checkpoint, Note
from privacy.ledger.rules import BrokenRule
from privacy.ledger.verification import Audit, Row, Verification

FORMAT = "synthema-ledger-export-1"

# A stranger's file must not make us hold more than this of it; an entry of ours has some ten thousand bytes at most.
_LONGEST_LINE = 16_000_000
# Where every so-manieth entry begins is remembered, to find earlier ones again: one byte for each eight entries.
_STRIDE = 64
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LAST = b'{"sha256":'


def export(ledger: Ledger | str, path: str | os.PathLike[str]) -> int:
    """Write all entries into a new file, and return how many. No answer is read.

    Parameters
    ----------
    ledger
        Open, or by its URL; others may write meanwhile.
    path
        The file to make, of mode 0600: appears whole or not at all.

    Raises
    ------
    LedgerRefused
        The file exists.
    LedgerCorrupt
        The ledger's entries are not what an export can hold: see `verify`.
    LedgerUnavailable
        Something cannot be read or written.
    """

    def take(snapshot: Snapshot) -> int:
        with new_file(path) as new, new.open("wb") as file:
            return _write(snapshot, file)

    return from_snapshot(ledger, take)


def _write(snapshot: Snapshot, file: BinaryIO) -> int:
    head, cosigned = head_of(snapshot), snapshot.state("cosigned")
    hasher = hashlib.sha256()

    def put(document: dict[str, Any]) -> None:
        line = canonical.encode(document) + b"\n"
        hasher.update(line)
        file.write(line)

    seq = 0
    try:
        header = {"format": FORMAT, "ledger_id": head.ledger_id, "size": head.size, "hash": head.hash.hex()}
        put({**header, "note": None if cosigned is None else cosigned.decode()})
        for seq, body, digest in snapshot.rows():
            put({"seq": seq, "body": body.decode(), "hash": digest.hex()})
    except ValueError as error:
        raise LedgerCorrupt(
            f"{snapshot.name}: entry {seq} or the one after it is no text: {error}; see verify"
        ) from None
    if seq != head.size:
        raise LedgerCorrupt(f"{snapshot.name}: it has {seq} entries and says {head.size}: see verify")
    file.write(canonical.encode({"sha256": hasher.hexdigest()}) + b"\n")
    return seq


def verify_export(
    path: str | os.PathLike[str],
    *,
    head: str | None = None,
    site_key: str | None = None,
    witness_keys: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Verification:
    """Recompute what `verify` recomputes, of an exported file: all but answers and the balances kept beside entries.

    Works without network and without the ledger. The file is read as a stream; what is held are the balances that the
    entries imply, one small record for each key. Parameters as for `verify`.

    Raises
    ------
    ValueError
        A key or a note that the auditor brought is none. Whatever is wrong with the file is in the result.
    """
    audit = Audit(head=head, site_key=site_key, witness_keys=witness_keys, notes=notes)
    try:
        with Path(path).open("rb") as file, Path(path).open("rb") as again:
            _check(_Lines(file, again), audit)
    except OSError as error:
        audit.found.add(f"the file cannot be read: {error.strerror or error}")
    return audit.result()


def verify_file(
    path: str | os.PathLike[str],
    *,
    head: str | None = None,
    site_key: str | None = None,
    witness_keys: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Verification:
    """Verify a file, whichever it is: `verify_export` of an export, `verify` of a ledger."""
    place = Path(path).absolute()
    check = verify_export if is_export(place) else _verify_ledger
    return check(place, head=head, site_key=site_key, witness_keys=witness_keys, notes=notes)


def _verify_ledger(path: Path, **brought: Any) -> Verification:
    return verification.verify(f"sqlite:///{path}", **brought)


def is_export(path: str | os.PathLike[str]) -> bool:
    """Return whether the file begins as an export does."""
    try:
        with Path(path).open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False


def tree_of(path: str | os.PathLike[str]) -> tuple[Tree, Note | None]:
    """Return the tree over an export's entries, and its furthest checkpoint, an entry or a cosigned one; or None.

    For witnesses, who need a proof. Nothing is verified here: `verify_export` comes first.

    Raises
    ------
    ValueError
        A line is none of an export.
    OSError
        The file cannot be read.
    """
    tree = Tree()
    with Path(path).open("rb") as file:
        lines = _Lines(file, file)
        header = lines.header()
        if header is None:
            raise ValueError("the first line is not the header of an export of this version")
        notes = [] if header["note"] is None else [Note.parse(header["note"])]
        for _, body, _ in lines.rows():
            if not isinstance(body, bytes):
                raise ValueError(f"line {lines.size + 1} is not an entry of an export")
            tree.extend([leaf_hash(body)])
            if (document := canonical.decode(body))["kind"] == "checkpoint":
                notes.append(Note.parse(document["note"]))
    return tree, max(notes, key=lambda note: Checkpoint.parse(note.text).size, default=None)


class _Lines:
    """The lines of an exported file, read as a stream; `again` is a second handle, to look up earlier entries.

    size     how many entries were read
    ended    whether the last line was read, its hash is right, and nothing follows
    """

    def __init__(self, file: BinaryIO, again: BinaryIO) -> None:
        self._file, self._again = file, again
        self._hasher = hashlib.sha256()
        self._starts = array("q")
        self._place = self.size = 0
        self.ended = False

    def header(self) -> dict[str, Any] | None:
        """Read the first line; None if it is no header."""
        line = self._line()
        self._hasher.update(line)
        header = _document(line)
        types = {"format": str, "hash": str, "ledger_id": str, "size": int}
        if header is None or header.keys() != {*types, "note"} or header["format"] != FORMAT:
            return None
        right = all(type(header[name]) is kind for name, kind in types.items())
        return header if right and (header["note"] is None or type(header["note"]) is str) else None

    def rows(self) -> Iterator[Row]:
        """Yield seq, body and hash of each entry; three times None for a line that is no entry."""
        while line := self._line():
            if line.startswith(_LAST):
                last = _document(line) == {"sha256": self._hasher.hexdigest()}
                self.ended = last and not self._file.read(1)
                return
            if self.size % _STRIDE == 0:
                self._starts.append(self._place - len(line))
            self.size += 1
            self._hasher.update(line)
            yield _entry(line)

    def body(self, seq: int) -> bytes:
        """Return the body of an entry that was read before. Raises BrokenRule if it is none."""
        if not 0 < seq <= self.size:
            raise BrokenRule(f"entry {seq} is missing")
        self._again.seek(self._starts[(seq - 1) // _STRIDE])
        for _ in range((seq - 1) % _STRIDE):
            self._again.readline(_LONGEST_LINE)
        body = _entry(self._again.readline(_LONGEST_LINE))[1]
        if not isinstance(body, bytes):
            raise BrokenRule(f"entry {seq} is missing")
        return body

    def _line(self) -> bytes:
        line = self._file.readline(_LONGEST_LINE)
        self._place += len(line)
        return line


def _check(lines: _Lines, audit: Audit) -> None:
    found = audit.found
    header = lines.header()
    if header is None:
        found.add("the first line is not the header of an export of this version")
        return
    if header["note"] is not None:
        audit.add_note(header["note"])
    audit.replay(lines.rows(), lines.body)
    head = audit.books.head
    if header["ledger_id"] != head.ledger_id:
        found.add("the header names another ledger than the first entry")
    if (header["size"], header["hash"]) != (lines.size, head.hash.hex()):
        found.add(f"the header says {header['size']} entries, or another last hash: lines are missing or changed")
    if not lines.ended:
        found.add("the last line is missing, is not the last, or its hash is not that of the file")


def _document(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        value = canonical.decode(line[:-1])
    except ValueError:
        return None
    return value if type(value) is dict else None


def _entry(line: bytes) -> Row:
    document = _document(line)
    if document is None or document.keys() != {"body", "hash", "seq"}:
        return None, None, None
    body, digest = document["body"], document["hash"]
    if type(body) is not str or type(digest) is not str or not _HEX.fullmatch(digest):
        return None, None, None
    return document["seq"], body.encode(), bytes.fromhex(digest)
