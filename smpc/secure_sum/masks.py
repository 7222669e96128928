"""Masks that cancel: a stream for each pair of peers, which one adds and the other subtracts, and one of one's own.

x_u + self_u + sum_{v > u} pair_uv - sum_{v < u} pair_uv    what site u sends, in Z_2^32 or Z_2^64

The pair's secret is X25519 of the keys that both advertised, passed through HKDF-Extract (RFC 5869) with the plan's tag
and both public keys as the salt, as RFC 7748 (section 6.1) advises: it depends on who talks, in which run. Streams and
sealing keys are HMAC-SHA256 of that secret under different labels, the streams AES-256 in counter mode (`smpc.prg`).

Source: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017, 4 and 6.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from smpc.errors import FrameRejected
from smpc.prg import Prg

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

# Sum and stream, 256 kB each, stay in the second-level cache.
_CHUNK_BYTES = 1 << 18

# Elements of Z_2^32 or Z_2^64.
RingArray = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]

_PAIR = struct.Struct("<HH")
_NONCE = bytes(12)


class KeyPair:
    """An X25519 key for one run, from 32 bytes."""

    def __init__(self, private_bytes: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self.private_bytes = private_bytes
        self._private: X25519PrivateKey = X25519PrivateKey.from_private_bytes(private_bytes)
        self.public_bytes = self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return "KeyPair(<hidden>)"

    def agree(self, peer_public: bytes, tag: bytes, *, peer: int) -> bytes:
        """Return the 32 bytes that only the two owners of these keys know.

        Raises
        ------
        FrameRejected
            If the peer's key is one of the few points that give every partner the same secret.
        """
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError:
            raise FrameRejected("it advertises a key of small order", sender=peer) from None
        salt = tag + b"".join(sorted((self.public_bytes, peer_public)))
        return hmac.digest(salt, shared, "sha256")


def pair_stream(secret: bytes, one: int, other: int) -> Prg:
    """Return the stream that two sites share."""
    return Prg(secret, b"secure_sum/pair" + _PAIR.pack(min(one, other), max(one, other)))


def pair_sign(site: int, peer: int) -> int:
    """Return +1 if the site adds the stream that it shares with the peer, -1 if it subtracts it."""
    return 1 if site < peer else -1


def self_stream(seed: bytes) -> Prg:
    """Return the stream that only the owner of the seed knows."""
    return Prg(seed, b"secure_sum/self")


def commitment(seed: bytes, tag: bytes, site: int) -> bytes:
    """Return 32 bytes that no other seed has, and that say nothing about a uniform one."""
    return hmac.digest(seed, b"secure_sum/commitment" + tag + _PAIR.pack(site, site), "sha256")


def add_streams(total: RingArray, streams: Sequence[tuple[Prg, int]]) -> None:
    """Add each stream, times its sign, to `total` (one dimension, little-endian words) in place.

    All streams go over one chunk before the next is touched: the memory is one chunk, however many peers there are.

    Examples
    --------
    >>> total = np.arange(3, dtype=np.uint64)
    >>> add_streams(total, [(self_stream(bytes(32)), 1), (self_stream(bytes(32)), -1)])
    >>> total
    array([0, 1, 2], dtype=uint64)
    """
    chunk = _CHUNK_BYTES // total.itemsize
    # Streams come in words of 64 bits; a last half is thrown away.
    buffer = np.empty((min(chunk, len(total)) * total.itemsize + 7) // 8, dtype="<u8")
    for start in range(0, len(total), chunk):
        part = total[start : start + chunk]
        whole = buffer[: (part.nbytes + 7) // 8]
        words = whole.view(total.dtype)[: len(part)]
        for stream, sign in streams:
            stream.fill(whole)
            if sign > 0:
                np.add(part, words, out=part)
            else:
                np.subtract(part, words, out=part)


def seal(secret: bytes, tag: bytes, sender: int, recipient: int, text: bytes) -> bytes:
    """Encrypt and authenticate one text from sender to recipient, 16 bytes longer. One call for each secret and pair.

    Run, sender and recipient are in the key, and once more in what is authenticated.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    # The key serves one text, so the nonce need not vary.
    line = _PAIR.pack(sender, recipient)
    return AESGCM(_seal_key(secret, line)).encrypt(_NONCE, text, tag + line)


def unseal(secret: bytes, tag: bytes, sender: int, recipient: int, sealed: bytes) -> bytes:
    """Return the text, or raise FrameRejected."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    line = _PAIR.pack(sender, recipient)
    try:
        return AESGCM(_seal_key(secret, line)).decrypt(_NONCE, sealed, tag + line)
    except InvalidTag:
        raise FrameRejected("its sealed shares fail their authentication", sender=sender) from None


def confirmation(secret: bytes, sender: int, recipient: int, digest: bytes) -> bytes:
    """Return the 16-byte tag by which the sender confirms a digest to the recipient.

    It proves to the recipient alone what a signature would prove to everybody, through keys that both signed, at a
    thirtieth of the time to verify.
    """
    return hmac.digest(secret, b"secure_sum/confirm" + _PAIR.pack(sender, recipient) + digest, "sha256")[:16]


def _seal_key(secret: bytes, line: bytes) -> bytes:
    return hmac.digest(secret, b"secure_sum/seal" + line, "sha256")
