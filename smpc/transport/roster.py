"""Who takes part: the parties' public keys, which all parties hold alike, and one's own secret key.

A roster lists for each party a name, an Ed25519 public key that signs handshakes, and (for direct lines) its address
and certificate. Its digest enters every handshake, so parties with different rosters do not come together.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from smpc.sharing import check_parties

KEY_BYTES = 32
FINGERPRINT_BYTES = 32
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Member:
    """One party as all others know it.

    name         public, up to 200 bytes; where a certificate is not pinned, the DNS name that it must carry
    identity     Ed25519 public key, 32 bytes
    fingerprint  SHA-256 of its certificate (DER), or empty: then a trusted issuer and the name count
    host, port   where it listens, for direct lines; no part of the digest, for networks may see it elsewhere
    """

    name: str
    identity: bytes
    fingerprint: bytes = b""
    host: str = ""
    port: int = 0

    def __post_init__(self) -> None:
        if not 0 < len(self.name.encode()) <= _LONGEST_NAME:
            raise ValueError(f"a party's name has 1..{_LONGEST_NAME} bytes, got {self.name!r}")
        if len(self.identity) != KEY_BYTES:
            raise ValueError(f"identity must be an Ed25519 public key of {KEY_BYTES} bytes, got {len(self.identity)}")
        if len(self.fingerprint) not in {0, FINGERPRINT_BYTES}:
            raise ValueError(f"fingerprint must be a SHA-256 of {FINGERPRINT_BYTES} bytes, got {len(self.fingerprint)}")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port must be in 0..65535, got {self.port!r}")


@dataclass(frozen=True, slots=True)
class Roster:
    """All parties, in the order of their numbers.

    Raises
    ------
    ValueError
        Unless there are 2..5, with names and keys all different.
    """

    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        check_parties(len(self.members))
        for what in ("name", "identity"):
            if len({getattr(member, what) for member in self.members}) < len(self.members):
                raise ValueError(f"two parties of the roster have one {what}: each needs its own")
        pinned = [member.fingerprint for member in self.members if member.fingerprint]
        if len(set(pinned)) < len(pinned):
            raise ValueError("two parties of the roster have one certificate: each needs its own")

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, party: int) -> Member:
        return self.members[party]

    @property
    def digest(self) -> bytes:
        """SHA-256 of names, keys and certificates, 32 bytes."""
        state = hashlib.sha256(b"smpc roster v1")
        state.update(struct.pack("<H", len(self.members)))
        for member in self.members:
            name = member.name.encode()
            state.update(struct.pack("<HB", len(name), len(member.fingerprint)))
            state.update(name + member.identity + member.fingerprint)
        return state.digest()


class Identity:
    """A party's own secret key. Its repr shows the public half only."""

    def __init__(self, party: int, key: Ed25519PrivateKey) -> None:
        self.party = party
        self._key = key

    def __repr__(self) -> str:
        return f"Identity(party={self.party}, public={self.public.hex()!r})"

    @property
    def public(self) -> bytes:
        """Ed25519 public key, 32 bytes: what the roster lists."""
        return self._key.public_key().public_bytes_raw()

    def at(self, party: int) -> Identity:
        """Return the same key under the number that its party has in another roster."""
        return Identity(party, self._key)

    def sign(self, message: bytes) -> bytes:
        """Return a signature, 64 bytes."""
        return self._key.sign(message)

    def check_listed(self, roster: Roster) -> None:
        """Raise ValueError unless the roster lists this key under this number."""
        if not 0 <= self.party < len(roster):
            raise ValueError(f"party must be in 0..{len(roster) - 1}, got {self.party!r}")
        if roster[self.party].identity != self.public:
            raise ValueError(
                f"the roster lists another key for party {self.party}: is this the right key file and number?"
            )

    @classmethod
    def load(cls, party: int, path: Path) -> Identity:
        """Read a key file that only its owner can read.

        Raises
        ------
        ValueError
            If others may read it, or it holds no Ed25519 key.
        """
        check_private_file(path)
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError):
            raise ValueError(f"{path.name} is no unencrypted PEM key file") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path.name} holds no Ed25519 key: make one with `synthema party keys`")
        return cls(party, key)


def verify_signature(identity: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether the holder of a listed key signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def new_identity_file(path: Path) -> bytes:
    """Write a new Ed25519 key to a new file of mode 0600; return the public key, 32 bytes.

    Raises
    ------
    FileExistsError
        No key is ever overwritten.
    """
    return write_key(path, Ed25519PrivateKey.generate())


def write_key(path: Path, key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    """Write a key to a new file of mode 0600; return the public key, 32 bytes. Nothing is overwritten."""
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key.public_key().public_bytes_raw()


def check_private_file(path: Path) -> None:
    """Raise ValueError if anybody but the owner may read or write a key file."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ValueError(f"{path.name} can be read by others (mode {mode:04o}): chmod 600 it, or make a new key")


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, from the first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        # Also under an odd umask.
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
