"""Sealed mail between the members of one attempt at a job, through a hub that can neither read nor change it unnoticed.

H_i   hello of member i: nonce (32 bytes), ephemeral X25519 key E_i, and i's Ed25519 signature over context, name, nonce
      and key
K_ij  HKDF-SHA256(secret e_i E_j, salt SHA-256(both hellos), info (context, i, j)): one for each direction

    context  label, job, attempt, SHA-256 of the request: study, researcher, key of the result
    sealed   ChaCha20-Poly1305 under K_ij, nonce = number of the letter, counted from 0 at both ends;
             associated data = context, sender, receiver, number, what it is

A letter that was changed, dropped, doubled, sent to another member, or taken from another attempt does not open.
Members that were handed different requests for one study (another researcher, another key) get no further than hello.
The ephemeral keys are forgotten with the attempt: whoever takes a site's identity key later reads no earlier mail.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.randomness import Rng, SecureRng
from smpc.transport.roster import Identity, verify_signature
from synthema.errors import MailRejected

_LABEL = b"synthema mail v2"
_MAGIC = b"SYM1"
_NONCE_BYTES, _KEY_BYTES, _SIGNATURE_BYTES = 32, 32, 64
HELLO_BYTES = len(_MAGIC) + _NONCE_BYTES + _KEY_BYTES + _SIGNATURE_BYTES

_COUNTER = struct.Struct("<4xQ")


@dataclass(slots=True)
class _Direction:
    aead: ChaCha20Poly1305
    number: int = 0


class Mailroom:
    """One member's keys for one attempt at a job.

    Parameters
    ----------
    name
        This member.
    identity
        Its own Ed25519 key; the number in it does not matter here.
    partners
        The others' Ed25519 public keys by name, as this site has pinned them.
    job_id, attempt
        Which job, and the how manieth attempt at it.
    request
        What this member was handed in: a submission's bytes; the same for all members.
    rng
        Where the nonce comes from; by default the operating system.
    """

    def __init__(
        self,
        name: str,
        identity: Identity,
        partners: Mapping[str, bytes],
        *,
        job_id: str,
        attempt: int,
        request: bytes = b"",
        rng: Rng | None = None,
    ) -> None:
        self.name = name
        self._partners = dict(partners)
        about = hashlib.sha256(request).digest()
        self._context = _joined(_LABEL, job_id.encode(), struct.pack("<Q", attempt), about)
        self._ephemeral = X25519PrivateKey.generate()
        body = (rng or SecureRng()).bytes(_NONCE_BYTES) + self._ephemeral.public_key().public_bytes_raw()
        self.hello = _MAGIC + body + identity.sign(self._statement(name, body))
        self._salts: dict[str, bytes] = {}
        self._sending: dict[str, _Direction] = {}
        self._receiving: dict[str, _Direction] = {}

    def __repr__(self) -> str:
        return f"Mailroom({self.name!r}, partners={sorted(self._partners)})"

    def knows(self, partner: str) -> bool:
        """Whether the partner's hello was taken, so that mail can be sealed for it."""
        return partner in self._sending

    def greet(self, partner: str, hello: bytes) -> None:
        """Take a partner's hello. The same one may come again; a second, different one may not.

        Raises
        ------
        MailRejected
            If it is malformed, not signed by the partner's pinned key, for another job or attempt, or the second one.
        """
        key = self._partners.get(partner)
        if key is None:
            raise MailRejected(partner, "it is no partner of this site")
        body, signature = hello[len(_MAGIC) : -_SIGNATURE_BYTES], hello[-_SIGNATURE_BYTES:]
        if len(hello) != HELLO_BYTES or hello[: len(_MAGIC)] != _MAGIC:
            raise MailRejected(partner, "its hello is malformed")
        if not verify_signature(key, signature, self._statement(partner, body)):
            rule = "its hello is not signed by the key that this site has pinned for it, or is about another request"
            raise MailRejected(partner, rule)
        salt = hashlib.sha256(b"".join(sorted((self.hello, hello)))).digest()
        try:
            secret = self._ephemeral.exchange(X25519PublicKey.from_public_bytes(body[_NONCE_BYTES:]))
        except ValueError:
            raise MailRejected(partner, "its ephemeral key is none") from None
        if partner in self._sending:
            if salt != self._salts[partner]:
                raise MailRejected(partner, "it said hello a second time in this attempt: it was restarted")
            return
        self._salts[partner] = salt
        self._sending[partner] = self._direction(secret, salt, self.name, partner)
        self._receiving[partner] = self._direction(secret, salt, partner, self.name)

    def seal(self, to: str, what: str, payload: bytes) -> tuple[int, bytes]:
        """Return the number of the next letter to a partner, and the letter."""
        direction = self._sending[to]
        number = direction.number
        direction.number += 1
        bound = self._bound(self.name, to, number, what)
        return number, direction.aead.encrypt(_COUNTER.pack(number), payload, bound)

    def expects(self, sender: str) -> int:
        """Return the number of the letter that is due from a partner."""
        return self._receiving[sender].number

    def open(self, sender: str, what: str, number: int, sealed: bytes) -> bytes:
        """Return what the letter that is due from a partner holds.

        Raises
        ------
        MailRejected
            If it is another letter than the one that is due, or not what the partner sealed for this site.
        """
        direction = self._receiving.get(sender)
        if direction is None:
            raise MailRejected(sender, "it sent mail before its hello")
        if number != direction.number:
            raise MailRejected(sender, f"letter {number} came, {direction.number} is due")
        try:
            payload = direction.aead.decrypt(
                _COUNTER.pack(number), sealed, self._bound(sender, self.name, number, what)
            )
        except InvalidTag:
            raise MailRejected(sender, f"letter {number} is not what it sealed for this site in this attempt") from None
        direction.number += 1
        return payload

    def forget(self) -> None:
        """Forget all keys: the attempt is over."""
        self._sending.clear()
        self._receiving.clear()

    def _direction(self, secret: bytes, salt: bytes, sender: str, receiver: str) -> _Direction:
        info = _joined(self._context, sender.encode(), receiver.encode())
        key = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=info).derive(secret)
        return _Direction(ChaCha20Poly1305(key))

    def _statement(self, name: str, body: bytes) -> bytes:
        return _joined(self._context, b"hello", name.encode(), body)

    def _bound(self, sender: str, receiver: str, number: int, what: str) -> bytes:
        return _joined(self._context, sender.encode(), receiver.encode(), struct.pack("<Q", number), what.encode())


def _joined(*parts: bytes) -> bytes:
    """Return parts one after the other, each behind its length: no two lists of parts give the same bytes."""
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)
