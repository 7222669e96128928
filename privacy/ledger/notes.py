r"""Signed notes, checkpoints and cosignatures: how a journal's root is signed, carried and countersigned as text.

note          text, a blank line, signature lines; a signature line is "— name base64(key id || signature)\n"
key id        first 4 bytes of SHA-256(name || "\n" || type || public key), a number; with the name it picks the key
type          0x01: Ed25519 over the text; 0x04: Ed25519 over "cosignature/v1\ntime ...\n" and a checkpoint's text
vkey          a public key as text: name+hex(key id)+base64(type || public key)
checkpoint    a text of three lines: origin (which journal), size of its tree, base64 of the root
statement     anything else that a ledger's key signs: a detached signature over "synthema/purpose\n" and bytes

One key may sign all three kinds: a note's text may begin like neither of the others, so no signature is good for two.
Every parser accepts exactly what its writer writes.

Sources: C2SP signed-note, tlog-checkpoint and tlog-cosignature (https://c2sp.org); RFC 8032.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.ledger._ed25519 import (
    SIGNATURE_BYTES,
    check_public,
    is_signature,
    public_bytes,
    sign_statement,
    verify_statement,
)
from privacy.ledger._note_format import (
    Checkpoint,
    check_name,
    check_text,
    cosignature_message,
    from_base64,
    note_message,
    signature_line,
    signature_parts,
    to_base64,
)

__all__ = [
    "COSIGNATURE_TYPE",
    "MAX_SIGNATURES",
    "NOTE_TYPE",
    "Checkpoint",
    "Note",
    "Signer",
    "Verifier",
    "cosignature_time",
    "sign_statement",
    "verify_statement",
]

NOTE_TYPE = 0x01
COSIGNATURE_TYPE = 0x04
# Limits on what a stranger can make us read; the format asks for 16 signatures at least.
MAX_SIGNATURES = 100
_MAX_NOTE_CHARACTERS = 1_000_000
_TIME_BYTES = 8


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with its name and its one type of signature.

    name     not empty, without spaces and plus signs; a URL without scheme is recommended
    public   32 bytes
    kind     NOTE_TYPE for a journal's key, COSIGNATURE_TYPE for a witness's

    Raises ValueError for anything else, and for keys under which everybody can sign.

    Examples
    --------
    >>> verifier = Verifier.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    >>> verifier.name, hex(verifier.key_id), verifier.kind
    ('PeterNeumann', '0xc74f20a3', 1)
    """

    name: str
    public: bytes
    kind: int = NOTE_TYPE

    def __post_init__(self) -> None:
        check_name(self.name)
        check_public(self.public)
        if type(self.kind) is not int or self.kind not in (NOTE_TYPE, COSIGNATURE_TYPE):
            raise ValueError(f"kind must be {NOTE_TYPE:#04x} or {COSIGNATURE_TYPE:#04x}, got {self.kind!r}")

    @property
    def key_id(self) -> int:
        """The number that, with the name, says which key signed."""
        digest = hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()
        return int.from_bytes(digest[:4], "big")

    @property
    def vkey(self) -> str:
        """The key as text."""
        return f"{self.name}+{self.key_id:08x}+{to_base64(bytes([self.kind]) + self.public)}"

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Return the key that a text names. Raises ValueError unless it is exactly what `vkey` gives."""
        parts = f"{vkey}".split("+", 2)
        if len(parts) != 3 or not (data := from_base64(parts[2])):
            raise ValueError("a verifier key must be name+id+base64")
        verifier = cls(parts[0], data[1:], data[0])
        if verifier.vkey != vkey:
            raise ValueError("the verifier key's id does not fit its name and key")
        return verifier

    def verify(self, text: str, line: str) -> bool:
        """Return whether the signature line is this key's, over this text. False for anything malformed."""
        try:
            name, key_id, signature = signature_parts(line)
            if (name, key_id) != (self.name, self.key_id):
                return False
            if self.kind == NOTE_TYPE:
                return is_signature(self.public, note_message(text), signature)
            if len(signature) != _TIME_BYTES + SIGNATURE_BYTES:
                return False
            time = int.from_bytes(signature[:_TIME_BYTES], "big")
            return is_signature(self.public, cosignature_message(text, time), signature[_TIME_BYTES:])
        except ValueError:
            return False


class Signer:
    r"""A named private key. It never shows the key.

    name     as for `Verifier`

    Raises ValueError for a bad name.

    Examples
    --------
    >>> signer = Signer("vienna.example/ledger", Ed25519PrivateKey.generate())
    >>> signer.verifier.verify("a text\n", signer.sign_note("a text\n"))
    True
    """

    __slots__ = ("_private", "cosignature_verifier", "name", "verifier")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.name = name
        self.verifier = Verifier(name, public_bytes(private), NOTE_TYPE)
        self.cosignature_verifier = Verifier(name, public_bytes(private), COSIGNATURE_TYPE)

    def __repr__(self) -> str:
        return f"Signer({self.name!r})"

    @property
    def key_id(self) -> int:
        """The id of the key that signs notes; `cosignature_verifier` has another."""
        return self.verifier.key_id

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self.verifier.public

    def sign_note(self, text: str) -> str:
        """Return the signature line for a text. Raises ValueError for a text that no note can have."""
        return signature_line(self.name, self.key_id, self._private.sign(note_message(text)))

    def cosign(self, checkpoint: str, *, time: int) -> str:
        """Return the cosignature line for a checkpoint's text.

        It states that at `time` (Unix seconds) this was the largest tree of its origin that we saw, and that it is
        consistent with all that we saw before. Raises ValueError if the text is no checkpoint.
        """
        signature = self._private.sign(cosignature_message(checkpoint, time))
        stamped = time.to_bytes(_TIME_BYTES, "big") + signature
        return signature_line(self.name, self.cosignature_verifier.key_id, stamped)

    def sign_statement(self, purpose: str, body: bytes) -> bytes:
        """Return `sign_statement` with this key."""
        return sign_statement(self._private, purpose, body)


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signature lines, each with its newline. Nothing in it is verified: ask `signed_by`.

    text         ends in a newline; no control characters but newlines
    signatures   1 to MAX_SIGNATURES lines

    Raises ValueError for anything else.
    """

    text: str
    signatures: tuple[str, ...]

    def __post_init__(self) -> None:
        check_text(self.text)
        if type(self.signatures) is not tuple or not 0 < len(self.signatures) <= MAX_SIGNATURES:
            raise ValueError(f"signatures must be a tuple of 1 to {MAX_SIGNATURES} lines")
        for line in self.signatures:
            signature_parts(line)

    def render(self) -> str:
        """Return the note as it is sent and kept."""
        return f"{self.text}\n{''.join(self.signatures)}"

    @classmethod
    def parse(cls, rendered: str) -> Note:
        """Return the note that a text is. Raises ValueError unless it is exactly what `render` gives."""
        check_text(rendered)
        if len(rendered) > _MAX_NOTE_CHARACTERS:
            raise ValueError(f"a note has at most {_MAX_NOTE_CHARACTERS} characters")
        # The last blank line: the text may hold some itself.
        text, blank, signatures = rendered.rpartition("\n\n")
        # Only newlines end a line here; str.splitlines knows ten other characters.
        lines = signatures.split("\n")[:-1]
        if not blank:
            raise ValueError("a note must be a text, a blank line, and signature lines")
        return cls(text + "\n", tuple(line + "\n" for line in lines))

    def with_signatures(self, lines: Iterable[str]) -> Note:
        """Return the note with more signature lines. Raises ValueError."""
        return Note(self.text, (*self.signatures, *lines))

    def signed_by(self, verifier: Verifier) -> bool:
        """Return whether the key signed the text, and no line in its name is wrong. Other keys' lines do not count."""
        own = [line for line in self.signatures if signature_parts(line)[:2] == (verifier.name, verifier.key_id)]
        return bool(own) and all(verifier.verify(self.text, line) for line in own)


def cosignature_time(line: str) -> int:
    """Return the Unix seconds of a cosignature line; a claim of the witness, which `Verifier.verify` checks.

    Raises ValueError if it is none.
    """
    _name, _key_id, signature = signature_parts(line)
    if len(signature) != _TIME_BYTES + SIGNATURE_BYTES:
        raise ValueError("the line holds no cosignature")
    return int.from_bytes(signature[:_TIME_BYTES], "big")
