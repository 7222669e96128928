"""The texts of signed notes: what is written, read and signed, without keys. `notes` says what they are for.

Every reader accepts exactly what its writer writes.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from privacy._checks import check_count
from privacy.ledger._ed25519 import STATEMENT_HEADER
from privacy.ledger.merkle import EMPTY_ROOT, MAX_SIZE

_COSIGNATURE_HEADER = "cosignature/v1\n"
_MAX_TIME = 2**63 - 1
_CONTROL = re.compile(r"[\x00-\x1f]")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    r"""A journal's tree at one size.

    origin   which journal, one line
    size     number of leaves
    root     32 bytes; the empty tree has but one

    Raises ValueError for anything else. The extension lines that the format allows are refused: nobody audits them.

    Examples
    --------
    >>> checkpoint = Checkpoint("vienna.example/ledger", 0, EMPTY_ROOT)
    >>> checkpoint.text
    'vienna.example/ledger\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n'
    >>> Checkpoint.parse(checkpoint.text) == checkpoint
    True
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        _check_origin(self.origin)
        check_count("size", self.size, least=0)
        if self.size > MAX_SIZE:
            raise ValueError(f"size must be at most {MAX_SIZE}, got {self.size}")
        if type(self.root) is not bytes or len(self.root) != len(EMPTY_ROOT):
            raise ValueError(f"root must be {len(EMPTY_ROOT)} bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise ValueError("a tree of size 0 has the root of the empty tree")
        note_message(self.text)  # a checkpoint is there to be signed

    @property
    def text(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Return the checkpoint that a text is. Raises ValueError unless it is exactly what `text` gives."""
        check_text(text)
        lines = text.split("\n")
        if len(lines) != 4 or not _SIZE.fullmatch(lines[1]):
            raise ValueError("a checkpoint must be three lines: origin, size, root")
        return cls(lines[0], int(lines[1]), from_base64(lines[2]))


def _check_origin(origin: object) -> None:
    if not isinstance(origin, str) or not origin or _CONTROL.search(origin):
        raise ValueError(f"origin must be one line of text, got {origin!r}")


def check_name(name: object) -> None:
    """Raise ValueError unless `name` can be a key's name: some characters, no spaces, no plus sign."""
    if not isinstance(name, str) or not name or any(c.isspace() or c == "+" or c < " " for c in name):
        raise ValueError(f"a key's name must be text without spaces and plus signs, got {name!r}")
    name.encode()  # a ValueError, if it cannot be written


def note_message(text: str) -> bytes:
    """Return the bytes that are signed for a note. Raises ValueError for a text that no note of ours can have."""
    check_text(text)
    if text.startswith((_COSIGNATURE_HEADER, STATEMENT_HEADER)):
        raise ValueError(
            f"a note may not begin with {_COSIGNATURE_HEADER!r} or {STATEMENT_HEADER!r}: its signature would be one "
            "of a cosignature or a statement"
        )
    return text.encode()


def cosignature_message(checkpoint: str, time: int) -> bytes:
    """Return the bytes that are signed for a cosignature. Raises ValueError if the text is no checkpoint."""
    Checkpoint.parse(checkpoint)
    check_count("time", time, least=0)
    if time > _MAX_TIME:
        raise ValueError(f"time must be at most {_MAX_TIME}, got {time}")
    return f"{_COSIGNATURE_HEADER}time {time}\n{checkpoint}".encode()


def check_text(text: object) -> None:
    """Raise ValueError unless `text` can be a note's text."""
    if not isinstance(text, str) or not text.endswith("\n") or _CONTROL.search(text.replace("\n", "")):
        raise ValueError("a note's text must end in a newline and hold no other control characters")
    text.encode()  # a ValueError, if it cannot be written


def signature_line(name: str, key_id: int, signature: bytes) -> str:
    """Return a signature line, with its newline."""
    return f"— {name} {to_base64(key_id.to_bytes(4, 'big') + signature)}\n"


def signature_parts(line: object) -> tuple[str, int, bytes]:
    """Return the name, key id and signature of a signature line. Raises ValueError."""
    if not isinstance(line, str) or not line.startswith("— ") or not line.endswith("\n"):
        raise ValueError("a signature line must be an em dash, a name and base64, and end in a newline")
    name, _, encoded = line[2:-1].partition(" ")
    check_name(name)
    data = from_base64(encoded)
    if len(data) < 5:
        raise ValueError("a signature line must hold a key id and a signature")
    return name, int.from_bytes(data[:4], "big"), data[4:]


def to_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """Return the bytes. Raises ValueError unless the text is what `to_base64` gives."""
    data = base64.b64decode(text, validate=True)
    # One spelling for each value: the decoder ignores the unused bits of the last character.
    if to_base64(data) != text:
        raise ValueError("the base64 is not in canonical form")
    return data
