"""How parties agree on a fresh session, each sure of the others: signed Diffie-Hellman among all of them.

N_i  nonce of party i, 32 bytes;  E_i = e_i G  its ephemeral X25519 key;  R  digest of the roster;  Q  of the run's name

    hello     i -> all   i, n, N_i, E_i, R, Q
    T         SHA-256 of all hellos in the order of the parties;  session id: the first 16 bytes of SHA-256(label, T)
    confirm   i -> j     Sig_i(label, T, i, j), with i's listed Ed25519 key
    keys      HKDF-SHA256(secret e_i E_j, salt T, info (label, sender, receiver)): one for each direction

A signature covers everybody's nonces and keys and names its receiver, so a hello of an earlier run cannot be confirmed,
one meant for j is of no use with k, and parties who were told different hellos disagree on T. Names are bound because R
covers them with their keys (Krawczyk 2003, "SIGMA", section 3.1 is the attack that this excludes). The ephemeral key
is forgotten with the handshake: whoever takes the listed keys later reads no earlier run.

The same messages run inside mutual TLS, where the keys are not used, and through a relay, where they seal each frame.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.randomness import Rng, SecureRng
from smpc.errors import FrameRejected
from smpc.transport.frames import SESSION_ID_BYTES
from smpc.transport.roster import Identity, Roster, verify_signature

MAGIC = b"SYH1"
NONCE_BYTES = 32
SIGNATURE_BYTES = 64

_HELLO = struct.Struct("<4sHH32s32s32s32s")
HELLO_BYTES = _HELLO.size

_TRANSCRIPT_LABEL = b"smpc handshake v1 transcript"
_SESSION_LABEL = b"smpc handshake v1 session id"
_CONFIRM_LABEL = b"smpc handshake v1 confirm"
_KEY_LABEL = b"smpc handshake v1 key"


@dataclass(frozen=True, slots=True)
class Hello:
    """What a party says first, to all others alike: public."""

    party: int
    n_parties: int
    nonce: bytes
    ephemeral: bytes
    roster_digest: bytes
    run_digest: bytes

    def encode(self) -> bytes:
        """Return the hello's 136 bytes."""
        return _HELLO.pack(
            MAGIC, self.party, self.n_parties, self.nonce, self.ephemeral, self.roster_digest, self.run_digest
        )

    @classmethod
    def decode(cls, data: bytes, *, sender: int) -> Hello:
        """Return the hello that bytes on the line from `sender` are.

        Raises
        ------
        FrameRejected
        """
        if len(data) != HELLO_BYTES:
            raise FrameRejected(f"a hello has {HELLO_BYTES} bytes", sender=sender)
        magic, *fields = _HELLO.unpack(data)
        if magic != MAGIC:
            raise FrameRejected("it is no hello of this version", sender=sender)
        return cls(*fields)


def run_digest(run: str) -> bytes:
    """Return the digest of a run's public name, 32 bytes."""
    return hashlib.sha256(b"smpc run v1" + run.encode()).digest()


class Handshake:
    """One party's side of one handshake. Serves once.

    Parameters
    ----------
    roster, identity
        All parties, and this party's own key, which the roster lists.
    run
        Public name of the run, the same at all parties.
    rng
        Where the nonce comes from.

    Raises
    ------
    ValueError
        If the roster lists another key for this party.
    """

    def __init__(self, roster: Roster, identity: Identity, *, run: str, rng: Rng | None = None) -> None:
        identity.check_listed(roster)
        self._roster = roster
        self._identity = identity
        self._ephemeral: X25519PrivateKey | None = X25519PrivateKey.generate()
        self._mine = Hello(
            party=identity.party,
            n_parties=len(roster),
            nonce=(rng or SecureRng()).bytes(NONCE_BYTES),
            ephemeral=self._ephemeral.public_key().public_bytes_raw(),
            roster_digest=roster.digest,
            run_digest=run_digest(run),
        )

    @property
    def hello(self) -> bytes:
        """What all others are to be sent."""
        return self._mine.encode()

    def agree(self, hellos: Mapping[int, bytes]) -> Agreement:
        """Return what follows from the hellos of all others, by the line on which each came.

        Raises
        ------
        FrameRejected
            If a hello is malformed, names another party, or has another roster or run.
        ValueError
            If a party is missing, or this handshake was already used.
        """
        ephemeral, self._ephemeral = self._ephemeral, None
        if ephemeral is None:
            raise ValueError("a handshake serves once: begin a new one")
        me = self._identity.party
        if set(hellos) != set(range(len(self._roster))) - {me}:
            raise ValueError("agree needs one hello from each other party")
        every = {me: self._mine}
        for sender, data in hellos.items():
            every[sender] = self._checked(Hello.decode(data, sender=sender), sender)
        state = hashlib.sha256(_TRANSCRIPT_LABEL)
        for party in range(len(self._roster)):
            state.update(every[party].encode())
        transcript = state.digest()
        keys = {peer: _keys(ephemeral, every[peer].ephemeral, transcript, me, peer) for peer in hellos}
        return Agreement(self._roster, self._identity, transcript, keys)

    def _checked(self, hello: Hello, sender: int) -> Hello:
        if hello.party != sender:
            raise FrameRejected("its hello names another party", sender=sender)
        if hello.n_parties != len(self._roster) or not hmac.compare_digest(
            hello.roster_digest, self._mine.roster_digest
        ):
            raise FrameRejected("it has another roster: compare names, keys and certificates", sender=sender)
        if hello.run_digest != self._mine.run_digest:
            raise FrameRejected("it takes part in a run of another name", sender=sender)
        if hello.nonce == self._mine.nonce or hello.ephemeral == self._mine.ephemeral:
            raise FrameRejected("its hello repeats ours", sender=sender)
        return hello


class Agreement:
    """What one handshake led to: a session id that all parties share, and this party's keys. Shows nothing secret."""

    def __init__(
        self, roster: Roster, identity: Identity, transcript: bytes, keys: Mapping[int, tuple[bytes, bytes]]
    ) -> None:
        self._roster = roster
        self._identity = identity
        self._transcript = transcript
        self._keys = dict(keys)

    def __repr__(self) -> str:
        return f"Agreement(party={self._identity.party}, session_id={self.session_id.hex()})"

    @property
    def session_id(self) -> bytes:
        """16 bytes, the same at all parties, never seen before: public."""
        return hashlib.sha256(_SESSION_LABEL + self._transcript).digest()[:SESSION_ID_BYTES]

    def confirmation(self, receiver: int) -> bytes:
        """Return what proves to `receiver` that this party saw the same hellos, 64 bytes."""
        return self._identity.sign(self._statement(self._identity.party, receiver))

    def check_confirmation(self, sender: int, signature: bytes) -> None:
        """Raise FrameRejected unless `sender` confirmed to this party what this party saw."""
        statement = self._statement(sender, self._identity.party)
        if len(signature) != SIGNATURE_BYTES or not verify_signature(
            self._roster[sender].identity, signature, statement
        ):
            raise FrameRejected("its signature does not fit what this party heard from all", sender=sender)

    def keys(self, peer: int) -> tuple[bytes, bytes]:
        """Return the keys of 32 bytes for what goes to `peer` and for what comes from it."""
        return self._keys[peer]

    def _statement(self, sender: int, receiver: int) -> bytes:
        return _CONFIRM_LABEL + self._transcript + struct.pack("<HH", sender, receiver)


def _keys(ephemeral: X25519PrivateKey, public: bytes, transcript: bytes, me: int, peer: int) -> tuple[bytes, bytes]:
    try:
        secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        # A point of small order would make the secret known to everybody (RFC 7748, section 6.1).
        raise FrameRejected("its ephemeral key is a point of small order", sender=peer) from None

    def derive(sender: int, receiver: int) -> bytes:
        info = _KEY_LABEL + struct.pack("<HH", sender, receiver)
        return HKDF(algorithm=SHA256(), length=32, salt=transcript, info=info).derive(secret)

    return derive(me, peer), derive(peer, me)
