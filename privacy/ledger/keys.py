"""Key files: the key that signs a ledger's notes and statements, and the key that encrypts its stored answers.

A signing key is a line "# synthema key NAME" and a PKCS#8 block in PEM, which other tools read too: they skip the line.
An answer key is a line of 64 hex digits. Files are made with mode 0600, appear whole or not at all, are never
overwritten, and are read only if nobody but their owner can. The name is not authenticated, and whoever can write the
folder can exchange the file: others must learn the public key from us, not from it.

A passphrase is stretched by 2,048 rounds of PBKDF2-HMAC-SHA-256, which is all that the library offers for PKCS#8: take
one that cannot be guessed (six random words or more), not one that is remembered easily.

Source: RFC 5958 (PKCS#8), RFC 7468 (PEM, section 2: text before the block).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy._secret_files import read_secret
from privacy.ledger.errors import LedgerRefused, LedgerUnavailable
from privacy.ledger.notes import Signer

_HEADER = "# synthema key "
_ANSWER_KEY_BYTES = 32
_ANSWER_KEY = re.compile(rb"[0-9a-f]{64}\n")
_MOST_BYTES = 65_536


def generate_key(path: str | os.PathLike[str], *, name: str, passphrase: bytes | None = None) -> Signer:
    """Make a new signing key in a new file, and return it.

    Parameters
    ----------
    path
        The file to make; its folder must exist.
    name
        The key's name in notes: no spaces, no plus sign; a URL without scheme, such as `vienna.example/ledger`.
    passphrase
        Encrypts the file; without it, the file's mode and the disk protect the key.

    Raises
    ------
    ValueError
        For a bad name or an empty passphrase.
    LedgerRefused
        If the file exists.
    LedgerUnavailable
        If it cannot be written.
    """
    # A quarter of what this package takes to import, for those who never touch a key.
    from cryptography.hazmat.primitives import serialization as form

    _check_passphrase(passphrase)
    private = Ed25519PrivateKey.generate()
    signer = Signer(name, private)
    encryption: form.KeySerializationEncryption = form.NoEncryption()
    if passphrase is not None:
        encryption = form.BestAvailableEncryption(passphrase)
    block = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption)
    place = Path(path)
    if not _create(place, f"{_HEADER}{name}\n".encode() + block):
        raise LedgerRefused(f"{place.name} exists, and a key is never overwritten: choose another file")
    return signer


def load_key(path: str | os.PathLike[str], passphrase: bytes | None = None) -> Signer:
    """Return the signing key of a file that `generate_key` made.

    Raises
    ------
    ValueError
        For an empty passphrase.
    LedgerRefused
        If others can read or write the file, if it holds no Ed25519 key with a name, or if the passphrase is wrong,
        missing or not needed. No message holds any of the file's bytes.
    LedgerUnavailable
        If it cannot be read.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    _check_passphrase(passphrase)
    place = Path(path)
    data = _read(place)
    first, _, block = data.partition(b"\n")
    # Everything is raised `from None`: what a parser says about a key may quote it.
    try:
        header = first.decode()
    except UnicodeDecodeError:
        header = ""
    if not header.startswith(_HEADER):
        raise LedgerRefused(f"{place.name} is not a signing key: its first line must be '{_HEADER}NAME'")
    try:
        private = load_pem_private_key(block, passphrase)
    except TypeError:
        problem = "is encrypted: give its passphrase" if passphrase is None else "is not encrypted: give no passphrase"
        raise LedgerRefused(f"{place.name} {problem}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise LedgerRefused(f"{place.name} holds no readable key, or the passphrase is wrong") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise LedgerRefused(f"{place.name} holds a key of another type: a signing key is an Ed25519 key")
    try:
        return Signer(header.removeprefix(_HEADER), private)
    except ValueError:
        raise LedgerRefused(f"{place.name} has a first line that names no key: '{_HEADER}NAME'") from None


def answer_key(path: str | os.PathLike[str]) -> bytes:
    """Return the 32 bytes of the file's key for stored answers; makes a new file with a random key if there is none.

    Several processes may call it at once: all get the same key. A file that was lost is not noticed here: answers that
    were encrypted with it can no longer be read.

    Raises
    ------
    LedgerRefused
        If others can read or write the file, or if it does not hold a key.
    LedgerUnavailable
        If it cannot be read or written.
    """
    place = Path(path)
    # A link that leads nowhere is there, too: making a file in its stead would hide that its target is missing.
    if not os.path.lexists(place):
        _create(place, secrets.token_hex(_ANSWER_KEY_BYTES).encode() + b"\n")
    data = _read(place)
    if not _ANSWER_KEY.fullmatch(data):
        raise LedgerRefused(f"{place.name} is not a key for answers: it must hold 64 hex digits and a newline")
    return bytes.fromhex(data.decode())


def _check_passphrase(passphrase: object) -> None:
    if passphrase is not None and not (isinstance(passphrase, bytes) and passphrase):
        raise ValueError("a passphrase must be bytes, and not empty; None for no passphrase")


def _create(path: Path, data: bytes) -> bool:
    """Write a new file with mode 0600, on the disk when this returns; return False if there is one already."""
    new = path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
    try:
        place = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(place, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            # Whole or not at all, and never over another file: a rename would replace it.
            os.link(new, path)
        except FileExistsError:
            return False
        finally:
            new.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise LedgerUnavailable(f"{path.name} cannot be made: {error.strerror}") from error
    return True


def _read(path: Path) -> bytes:
    """Return the bytes of a regular file that only its owner (we, or root) can touch."""
    try:
        return read_secret(path, most_bytes=_MOST_BYTES)
    except ValueError as error:
        raise LedgerRefused(str(error)) from None
    except OSError as error:
        raise LedgerUnavailable(f"{path.name} cannot be read: {error.strerror}") from error
