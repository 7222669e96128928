r"""Files that travel sealed: for one party's X25519 key, signed by the dealer's Ed25519 key. A courier reads nothing.

P  the recipient's public key;  D  the dealer's;  e  drawn for this file, E = e G
k  HKDF-SHA-256 of the Diffie-Hellman secret e P, bound to E, P and D

    "SYSEAL1\n", E, P, D, the dealer's signature over these, then pieces of 64 KiB under AES-256-GCM with key k,
    nonce = number of the piece (11 bytes, big-endian) and a byte that is 1 at the last piece, AAD = all before

Only who drew e and the recipient know k, and the signature says that the dealer drew e: so the dealer's signature over
E covers what is sealed. Pieces that are dropped, doubled, moved or cut off are noticed, the last one by its byte. An
old file is accepted again: that a batch is not used twice is not the business of the seal but of `smpc.agreement`.

Source: ECIES in the form of RFC 9180 (DHKEM and AEAD); the chunked AEAD is STREAM, Hoang, Reyhanitabar, Rogaway,
Vizar 2015, eprint 2015/189.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
)

from smpc.errors import PackageRefused
from smpc.transport.roster import Identity, check_private_file, verify_signature, write_key

KEY_BYTES = 32
PIECE_BYTES = 1 << 16

_MAGIC = b"SYSEAL1\n"
_PURPOSE = b"synthema/smpc/sealed-file/1\x00"
_SIGNATURE_BYTES = 64
_TAG_BYTES = 16
_HEADER_BYTES = len(_MAGIC) + 3 * KEY_BYTES + _SIGNATURE_BYTES


def sealed(pieces: Iterable[bytes], recipient: bytes, dealer: Identity) -> Iterator[bytes]:
    """Yield the bytes of a sealed file.

    Parameters
    ----------
    pieces
        What is to be sealed, in pieces of any length.
    recipient
        X25519 public key, 32 bytes.

    Raises
    ------
    ValueError
        If the recipient's key is none.
    """
    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    named = _MAGIC + public + recipient + dealer.public
    header = named + dealer.sign(_PURPOSE + named)
    aead = AESGCM(_key(ephemeral, recipient, named))
    yield header
    waiting = bytearray()
    number = 0
    for piece in pieces:
        waiting += piece
        # The last piece is kept back: which one it is, is known at the end only.
        while len(waiting) > PIECE_BYTES:
            yield aead.encrypt(_nonce(number, last=False), bytes(waiting[:PIECE_BYTES]), header)
            del waiting[:PIECE_BYTES]
            number += 1
    yield aead.encrypt(_nonce(number, last=True), bytes(waiting), header)


def opened(file: IO[bytes], key: X25519PrivateKey, dealer: bytes) -> Iterator[bytes]:
    """Yield what was sealed, in pieces. Nothing is whole before the end was reached.

    Parameters
    ----------
    file
        Open for reading.
    key
        The recipient's.
    dealer
        Ed25519 public key of the dealer that we trust, 32 bytes.

    Raises
    ------
    PackageRefused
        If it is sealed for somebody else, by somebody else, or not as it was sealed.
    """
    header = file.read(_HEADER_BYTES)
    named, signature = header[:-_SIGNATURE_BYTES], header[-_SIGNATURE_BYTES:]
    if len(header) != _HEADER_BYTES or named[: len(_MAGIC)] != _MAGIC:
        raise PackageRefused("it does not begin like a sealed file of this version")
    public, recipient, sender = (
        named[len(_MAGIC) + KEY_BYTES * i : len(_MAGIC) + KEY_BYTES * (i + 1)] for i in range(3)
    )
    if recipient != key.public_key().public_bytes_raw():
        raise PackageRefused("it is sealed for another key")
    if sender != dealer or not verify_signature(dealer, signature, _PURPOSE + named):
        raise PackageRefused("it is not signed by the dealer that is configured")
    aead = AESGCM(_key(key, public, named))
    piece = file.read(PIECE_BYTES + _TAG_BYTES)
    for number in itertools.count():
        following = file.read(PIECE_BYTES + _TAG_BYTES)
        try:
            yield aead.decrypt(_nonce(number, last=not following), piece, header)
        except InvalidTag:
            raise PackageRefused(f"piece {number} is not what was sealed, or it is cut off there") from None
        if not following:
            return
        piece = following


def _key(mine: X25519PrivateKey, theirs: bytes, named: bytes) -> bytes:
    try:
        secret = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError:
        raise PackageRefused("a key in it is no X25519 public key") from None
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_PURPOSE + named).derive(secret)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def new_sealing_key(path: Path) -> bytes:
    """Write a new X25519 key to a new file of mode 0600; return the public key, 32 bytes.

    Raises
    ------
    FileExistsError
        No key is ever overwritten.
    """
    return write_key(path, X25519PrivateKey.generate())


def load_sealing_key(path: Path) -> X25519PrivateKey:
    """Return the key of a file that only its owner can read.

    Raises
    ------
    ValueError
        If others may read it, or it holds no X25519 key.
    """
    check_private_file(path)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise ValueError(f"{path.name} is no unencrypted PEM key file") from None
    if not isinstance(key, X25519PrivateKey):
        raise ValueError(f"{path.name} holds no X25519 key: make one with `synthema material new-key`")
    return key
