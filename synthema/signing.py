"""Canonical bytes, content hashes and Ed25519 signatures of documents.

A document's identity is the SHA-256 of its canonical JSON; the signature covers a label as well, so that a signature
made for one purpose cannot be used for another. The exact signed bytes travel with the signature and are never re-made
to verify.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from smpc.transport.roster import Identity
from synthema.errors import SignatureInvalid

_LABEL = b"synthema/study/v1\n"


def canonical_json(value: Any) -> bytes:
    """Return JSON with sorted keys and no blanks; NaN and infinities are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """Bytes of a document, who signed them (raw Ed25519 public key, hex) and the signature."""

    body: bytes
    public_key: str
    signature: bytes

    @property
    def document_id(self) -> str:
        """SHA-256 of the body, hex: the job's identity. The signature is no part of it."""
        return hashlib.sha256(self.body).hexdigest()

    def verify(self) -> None:
        """Raise SignatureInvalid unless the signature was made over this body by this key."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public_key))
            key.verify(self.signature, _LABEL + self.body)
        except (InvalidSignature, ValueError):
            raise SignatureInvalid("the study's signature does not fit its text and key; ask for it again") from None


class Signer:
    """A researcher's signing key. Its repr shows the public half only."""

    def __init__(self, key: Ed25519PrivateKey | Identity | None = None) -> None:
        self._identity = key if isinstance(key, Identity) else Identity(0, key or Ed25519PrivateKey.generate())

    def __repr__(self) -> str:
        return f"Signer(public_key={self.public_key!r})"

    @property
    def public_key(self) -> str:
        """Raw public key, hex."""
        return self._identity.public.hex()

    def sign(self, body: bytes) -> SignedDocument:
        """Return the body with its signature."""
        return SignedDocument(body=body, public_key=self.public_key, signature=self._identity.sign(_LABEL + body))
