"""Ed25519 keys and signatures, with what RFC 8032 leaves to the verifier decided: one strict answer.

`cryptography` refuses a signature whose S is not below the group's order, but loads any 32 bytes as a public key. Under
the fourteen encodings of points of small order (eight points, with six second spellings) it accepts S = 0 with some R
of small order for about every message, so signatures can be made without a private key. All of them are refused here,
with every other encoding that is not canonical. Under an encoding of no point at all nothing verifies.

Source: RFC 8032, sections 5.1.3 and 5.1.7; Cremers and others 2020, "Taming the many EdDSAs", table 1 (small orders).
"""

from __future__ import annotations

import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
STATEMENT_HEADER = "synthema/"
_PURPOSE = re.compile(r"[a-z0-9-]+")
_P = 2**255 - 19
_ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
# The y coordinates of the points of order 1, 2, 4, 8 and 8. Points of opposite x share their y, and differ in the sign
# bit; so this covers eight points.
_SMALL_ORDER_Y = frozenset({1, _P - 1, 0, int.from_bytes(_ORDER_8, "little"), _P - int.from_bytes(_ORDER_8, "little")})


def check_public(public: bytes) -> None:
    """Raise ValueError unless `public` is 32 bytes that can be an honest signer's key."""
    if type(public) is not bytes or len(public) != PUBLIC_BYTES:
        raise ValueError("an Ed25519 public key must be 32 bytes")
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if y >= _P:
        raise ValueError("the public key is not in canonical form")
    if y in _SMALL_ORDER_Y:
        raise ValueError("the public key is a point of small order: anybody can sign under it")


def public_bytes(private: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public key."""
    return private.public_key().public_bytes_raw()


def is_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether `signature` is one of `message` under `public`. False for a malformed key or signature."""
    try:
        check_public(public)
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def sign_statement(private: Ed25519PrivateKey, purpose: str, body: bytes) -> bytes:
    """Return a detached signature (64 bytes) that is good for this purpose only.

    purpose   what the body is, in lower-case letters, digits and hyphens
    body      the exact bytes that are kept or sent; never written again to verify them

    Raises ValueError for another purpose or body.
    """
    return private.sign(_statement_message(purpose, body))


def verify_statement(public: bytes, purpose: str, body: bytes, signature: bytes) -> bool:
    """Return whether the signature is one of the body, for this purpose, under the 32 bytes of a public key.

    False for malformed keys, keys of small order and malformed signatures. Raises ValueError for a purpose or body that
    `sign_statement` would not sign.
    """
    return is_signature(public, _statement_message(purpose, body), signature)


def _statement_message(purpose: object, body: object) -> bytes:
    if not isinstance(purpose, str) or not _PURPOSE.fullmatch(purpose):
        raise ValueError(f"purpose must be lower-case letters, digits and hyphens, got {purpose!r}")
    if type(body) is not bytes:
        raise ValueError("body must be bytes")
    return f"{STATEMENT_HEADER}{purpose}\n".encode() + body
