"""The messages of a sum: fixed layouts, one encoding for each content, every length known before it is read.

A message is a header of 42 bytes, a body and, from a site, an Ed25519 signature of 64 bytes:

    "SSUM" | version 1 | kind | tag of the plan, 32 bytes | sender u16 | recipient u16 | body | signature

Integers are little-endian; the server is number 65535. The signature covers the SHA-256 digest of header and body, so
that a site's vector is read once to be signed. The server's messages carry none: what matters in them is signed or
sealed by sites, or is what the sites confirm to each other.

    step       a site sends                              the server answers
    advertise  two X25519 keys, a commitment             the advertisements of the site's peers, as they were signed
    share      a sealed pair of shares for each peer     what the peers sealed for this site
    mask       a bit for each peer it masks with, and    a bit for each site whose vector arrived
               the masked vector
    confirm    the digest of those bits, and a tag of    the tags that its peers made for this site
               it for each surviving peer
    unmask     one share for each peer and itself        -
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum, StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from smpc.errors import FrameRejected
from smpc.secure_sum.plan import SumPlan
from smpc.secure_sum.shamir import SHARE_BYTES, is_share

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SERVER = 0xFFFF

_HEADER = struct.Struct("<4sBB32sHH")
_MAGIC = b"SSUM"
_VERSION = 1
_SIGNATURE_BYTES = 64
_SIGNED = b"synthema/smpc/secure_sum/message/1\x00"

KEY_BYTES = 32
COMMITMENT_BYTES = 32
DIGEST_BYTES = 32
CONFIRMATION_BYTES = 16
SEALED_BYTES = 2 * SHARE_BYTES + 16

_SEALED = struct.Struct(f"<H{SEALED_BYTES}s")
_CONFIRMED = struct.Struct(f"<H{CONFIRMATION_BYTES}s")
_OPENED = struct.Struct(f"<HB{SHARE_BYTES}s")


class Step(StrEnum):
    """Steps of a run, in order, and the two ways in which it ends."""

    ADVERTISE = "advertise"
    SHARE = "share"
    MASK = "mask"
    CONFIRM = "confirm"
    UNMASK = "unmask"
    DONE = "done"
    FAILED = "failed"

    @property
    def following(self) -> Step:
        """The step after this one."""
        return _ORDER[_ORDER.index(self) + 1]


_ORDER = tuple(Step)


class Kind(IntEnum):
    """Kinds of messages: from a site odd, from the server even."""

    ADVERTISEMENT = 1
    PEERS = 2
    SHARES = 3
    DELIVERY = 4
    MASKED = 5
    SURVIVORS = 6
    CONFIRMATION = 7
    CONFIRMATIONS = 8
    UNMASKING = 9


class Secret(IntEnum):
    """Which of a site's two secrets a share belongs to. Nobody reveals both for one site."""

    SELF_MASK = 1
    MASK_KEY = 2


class Advertisement(NamedTuple):
    """Public keys of a site for one run, and what its self-mask's seed must agree with."""

    mask_key: bytes
    seal_key: bytes
    commitment: bytes


class Opened(NamedTuple):
    """A share that a holder reveals."""

    subject: int
    secret: Secret
    share: bytes


_ADVERTISEMENT_BYTES = 2 * KEY_BYTES + COMMITMENT_BYTES
SIGNED_ADVERTISEMENT_BYTES = _HEADER.size + _ADVERTISEMENT_BYTES + _SIGNATURE_BYTES


# Envelopes.


def from_site(plan: SumPlan, kind: Kind, site: int, body: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return a site's signed message to the server."""
    header = _HEADER.pack(_MAGIC, _VERSION, kind, plan.tag, site, SERVER)
    return b"".join((header, body, key.sign(_to_sign(header, body))))


def from_server(plan: SumPlan, kind: Kind, recipient: int, body: bytes) -> bytes:
    """Return the server's message to a site."""
    return _HEADER.pack(_MAGIC, _VERSION, kind, plan.tag, SERVER, recipient) + body


def body_from_site(plan: SumPlan, kind: Kind, site: int, message: bytes, *, n_bytes: int) -> memoryview:
    """Return the body of a site's message: of this kind and length, for this plan, signed with the roster's key.

    Raises
    ------
    FrameRejected
        With the site and the rule.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(message) != _HEADER.size + n_bytes + _SIGNATURE_BYTES:
        raise FrameRejected(f"a message of kind {kind.name} does not have this length here", sender=site)
    _check_header(plan, kind, message, sender=site, recipient=SERVER, line=site)
    view = memoryview(message)
    body = view[_HEADER.size : -_SIGNATURE_BYTES]
    try:
        key = Ed25519PublicKey.from_public_bytes(plan.roster[site])
        key.verify(message[-_SIGNATURE_BYTES:], _to_sign(message[: _HEADER.size], body))
    except InvalidSignature:
        raise FrameRejected("it is not signed with the key that the roster names", sender=site) from None
    return body


def body_from_server(plan: SumPlan, kind: Kind, recipient: int, message: bytes, *, most_bytes: int) -> bytes:
    """Return the body, at most so long, of a message from the server to this site.

    Raises
    ------
    FrameRejected
        With the rule; the sender is None, as for every message of the server.
    """
    if not _HEADER.size <= len(message) <= _HEADER.size + most_bytes:
        raise FrameRejected(f"a message of kind {kind.name} does not have this length here")
    _check_header(plan, kind, message, sender=SERVER, recipient=recipient, line=None)
    return message[_HEADER.size :]


def _to_sign(header: bytes, body: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(header)
    digest.update(body)
    return _SIGNED + digest.digest()


def _check_header(plan: SumPlan, kind: Kind, message: bytes, *, sender: int, recipient: int, line: int | None) -> None:
    magic, version, its_kind, tag, its_sender, its_recipient = _HEADER.unpack_from(message)
    if magic != _MAGIC or version != _VERSION:
        raise FrameRejected("it is not a message of secure_sum, version 1", sender=line)
    if its_kind != kind:
        raise FrameRejected(f"it is not of kind {kind.name}, which is due", sender=line)
    if tag != plan.tag:
        raise FrameRejected("it belongs to another session or another plan", sender=line)
    if its_sender != sender:
        raise FrameRejected("it names another sender", sender=line)
    if its_recipient != recipient:
        raise FrameRejected("it is for another recipient", sender=line)


# Bodies.


def decode_advertisement(body: memoryview) -> Advertisement:
    """Return what a verified body holds."""
    return Advertisement(bytes(body[:KEY_BYTES]), bytes(body[KEY_BYTES : 2 * KEY_BYTES]), bytes(body[2 * KEY_BYTES :]))


def read_advertisement(plan: SumPlan, site: int, message: bytes) -> Advertisement:
    """Return the content of a site's signed advertisement, or raise FrameRejected."""
    body = body_from_site(plan, Kind.ADVERTISEMENT, site, message, n_bytes=_ADVERTISEMENT_BYTES)
    return decode_advertisement(body)


def split_advertisements(body: bytes, allowed: Sequence[int]) -> dict[int, bytes]:
    """Return the peers' messages that the server passes on, by sender; the signatures are not yet verified."""
    items = _items(body, SIGNED_ADVERTISEMENT_BYTES, line=None)
    senders = [_HEADER.unpack_from(item)[4] for item in items]
    _check_ascending(senders, allowed, line=None)
    return dict(zip(senders, items, strict=True))


def encode_sealed(sealed: Mapping[int, bytes]) -> bytes:
    """Return sealed pairs of shares, by the other site, in ascending order."""
    return b"".join(_SEALED.pack(site, sealed[site]) for site in sorted(sealed))


def decode_sealed(body: bytes | memoryview, allowed: Sequence[int], *, line: int | None) -> dict[int, bytes]:
    """Return sealed pairs of shares by the other site, each of which must be an allowed one."""
    return _by_site(_SEALED, body, allowed, line=line)


def sealed_bytes(n_peers: int) -> int:
    """Return the length of the body that holds sealed shares for, or from, so many peers."""
    return _SEALED.size * n_peers


def encode_confirmations(confirmations: Mapping[int, bytes]) -> bytes:
    """Return tags of the survivors' digest, by the other site, in ascending order."""
    return b"".join(_CONFIRMED.pack(site, confirmations[site]) for site in sorted(confirmations))


def decode_confirmations(body: bytes | memoryview, allowed: Sequence[int], *, line: int | None) -> dict[int, bytes]:
    """Return tags by the other site, each of which must be an allowed one."""
    return _by_site(_CONFIRMED, body, allowed, line=line)


def confirmations_bytes(n_peers: int) -> int:
    """Return the length of a body that holds tags for, or from, so many peers."""
    return _CONFIRMED.size * n_peers


def encode_sites(plan: SumPlan, sites: Collection[int]) -> bytes:
    """Return a bit for each site, the lowest first."""
    return sum(1 << site for site in sites).to_bytes(sites_bytes(plan), "little")


def decode_sites(plan: SumPlan, body: bytes) -> frozenset[int]:
    """Return the sites whose bit is set."""
    bits = int.from_bytes(body, "little")
    if len(body) != sites_bytes(plan) or bits >> plan.n_sites:
        raise FrameRejected("it does not hold one bit for each site")
    return frozenset(site for site in range(plan.n_sites) if bits >> site & 1)


def sites_bytes(plan: SumPlan) -> int:
    """Return the length of a body that holds a bit for each site."""
    return (plan.n_sites + 7) // 8


def survivors_digest(plan: SumPlan, survivors: Collection[int]) -> bytes:
    """Return what the sites confirm to each other."""
    said = b"synthema/smpc/secure_sum/survivors/1\x00" + plan.tag + encode_sites(plan, survivors)
    return hashlib.sha256(said).digest()


def encode_opened(opened: Iterable[Opened]) -> bytes:
    """Return revealed shares in ascending order of their subjects."""
    return b"".join(_OPENED.pack(*item) for item in sorted(opened))


def decode_opened(body: memoryview, expected: Sequence[tuple[int, Secret]], *, line: int) -> list[Opened]:
    """Return the revealed shares, which must be exactly the expected ones."""
    items = [_OPENED.unpack(item) for item in _items(body, _OPENED.size, line=line)]
    if [(subject, secret) for subject, secret, _ in items] != list(expected):
        raise FrameRejected("it does not reveal the one secret of each site that is due", sender=line)
    if not all(is_share(share) for _, _, share in items):
        raise FrameRejected("it holds a share that is no field element", sender=line)
    return [Opened(subject, Secret(secret), share) for subject, secret, share in items]


def opened_bytes(n_shares: int) -> int:
    """Return the length of a body that reveals so many shares."""
    return _OPENED.size * n_shares


def _by_site(
    layout: struct.Struct, body: bytes | memoryview, allowed: Sequence[int], *, line: int | None
) -> dict[int, bytes]:
    items = [layout.unpack(item) for item in _items(body, layout.size, line=line)]
    _check_ascending([site for site, _ in items], allowed, line=line)
    return dict(items)


def _items(body: bytes | memoryview, item_bytes: int, *, line: int | None) -> list[bytes]:
    if len(body) % item_bytes:
        raise FrameRejected("its body is cut short", sender=line)
    return [bytes(body[start : start + item_bytes]) for start in range(0, len(body), item_bytes)]


def _check_ascending(sites: Sequence[int], allowed: Sequence[int], *, line: int | None) -> None:
    if any(a >= b for a, b in pairwise(sites)):
        raise FrameRejected("its items are not in ascending order, or one occurs twice", sender=line)
    if not set(allowed).issuperset(sites):
        raise FrameRejected("it holds an item of a site that has no part in it", sender=line)
