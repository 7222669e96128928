"""Messages between members and hub: typed heads, how a message is cut into records, how it is put together again.

A message is a head (a small JSON object of one of the kinds below) and a payload (bytes that the head explains). It
travels as the bodies of the records of `smpc.transport.relay_wire`, cut in one way only:

    first piece    "SYM1", message id (8), length of head and payload together (8), length of the head (4), up to 64 KiB
    later pieces   "SYM2", message id (8), number of the piece from 1 (4), the next 64 KiB (the last one: what is left)

All numbers are little-endian. An announced length is a promise only: memory is taken as bytes come. What breaks these
rules, or the limits, raises `MessageRejected` and nothing else; then nothing more of its sender can be understood.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from synthema.errors import SynthemaError

PIECE_BYTES = 1 << 16
FIRST = struct.Struct("<4sQQI")
LATER = struct.Struct("<4sQI")
FIRST_MAGIC, LATER_MAGIC = b"SYM1", b"SYM2"
LONGEST_HEAD_BYTES = 1 << 15
# What the hub is called as the sender of a message; no member has this name.
HUB = ""

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MOST_ATTEMPTS = 10_000
Attempt = Annotated[int, Field(ge=1, le=MOST_ATTEMPTS)]
Role = Literal["site", "dealer", "researcher"]
JobPhase = Literal["offered", "running", "done", "failed", "refused", "cancelled"]
Code = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,80}$")]
Text = Annotated[str, Field(max_length=2000)]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
UnixSeconds = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
Names = Annotated[tuple[Name, ...], Field(max_length=1000)]
# Two to five compute parties, or none: then no protocol on shares runs.
Parties = Annotated[tuple[Name, ...], Field(max_length=5)]


class MessageRejected(SynthemaError):
    """What came is no message by the rules, or larger than the limits allow. `sender` is who sent it."""

    def __init__(self, rule: str, *, sender: str) -> None:
        self.rule = rule
        self.sender = sender
        who = f"member {sender!r}" if sender else "the hub"
        super().__init__(f"what {who} sent was rejected: {rule}")


class Head(BaseModel):
    """What a message is about. `kind` tells the class; `job` is empty where no job is meant."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: str
    job: str = ""


class Submit(Head):
    """Researcher to hub: run this study. Payload: a `synthema.submission`; `job` is the SHA-256 of its document.

    The hub checks the form only. What it needs of the study stands here as well; sites go by the document alone, so
    where the two differ the job fails before anything is charged.

    Site to hub: a study that came to it by another way, and in which it takes part.
    """

    kind: Literal["submit"] = "submit"
    job: JobId
    public_key: Hex32
    signature: Hex64
    sites: Annotated[Names, Field(min_length=1)]
    parties: Parties
    dealer: Name | None = None
    decide_seconds: Annotated[float, Field(gt=0, le=90 * 86400.0)]
    run_seconds: Annotated[float, Field(gt=0, le=90 * 86400.0)]


class Offer(Head):
    """Hub to site: a researcher's study. Payload: as submitted. Nothing here replaces the site's own reading of it."""

    kind: Literal["offer"] = "offer"
    job: JobId
    attempt: Attempt
    researcher: Name
    public_key: Hex32
    signature: Hex64
    sites: Names
    parties: Parties
    dealer: Name | None = None
    decide_by: UnixSeconds
    run_seconds: float


class Decision(Head):
    """Site to hub: whether it takes part. `waiting`: somebody at the site will decide, before the job's deadline."""

    kind: Literal["decision"] = "decision"
    job: JobId
    attempt: Attempt
    decision: Literal["accepted", "refused", "waiting"]
    reason: Code = ""
    explanation: Text = ""


class Start(Head):
    """Hub to sites and dealer: all sites accepted, the job runs."""

    kind: Literal["start"] = "start"
    job: JobId
    attempt: Attempt
    sites: Names
    parties: Parties
    dealer: Name | None = None
    run_by: UnixSeconds


class Cancel(Head):
    """Hub to sites and dealer: the job does not go on. What was not started is void.

    From the researcher to the hub: give up this job. `explanation`: of a failure, in the words of who reported it.
    """

    kind: Literal["cancel"] = "cancel"
    job: JobId
    attempt: Attempt
    reason: Code = ""
    explanation: Text = ""
    site: Name | None = None


class Outcome(Head):
    """Lead or failing site to hub: how the job ended. Payload, from the lead and if done: the result.

    From the hub to the other sites: the same, without payload.
    """

    kind: Literal["outcome"] = "outcome"
    job: JobId
    attempt: Attempt
    state: Literal["done", "failed"]
    error: Code = ""
    explanation: Text = ""
    site: Name | None = None
    step: Annotated[str, Field(max_length=80)] = ""


class Status(Head):
    """Site to hub: where it is in a running job, for the researcher to see."""

    kind: Literal["status"] = "status"
    job: JobId
    attempt: Attempt
    step: Annotated[str, Field(max_length=80)] = ""


class AskJob(Head):
    """Researcher to hub: how is this job? Answered by `JobState`."""

    kind: Literal["job"] = "job"
    job: JobId
    with_result: bool = False


class Publish(Head):
    """Site to hub: what it says of its data set. Payload: a signed entry of the catalogue; empty: nothing any more."""

    kind: Literal["publish"] = "publish"


class AskCatalogue(Head):
    """Researcher to hub: what data sets are there? Answered by `Catalogue`."""

    kind: Literal["ask-catalogue"] = "ask-catalogue"


class Catalogue(Head):
    """Hub to researcher. Payload: JSON, for each site the entry that it published, as it signed it."""

    kind: Literal["catalogue"] = "catalogue"


class SiteDecision(BaseModel):
    """What one site said to an offer, as the researcher sees it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    site: Name
    decision: Literal["asked", "accepted", "refused", "waiting"]
    reason: Code = ""
    explanation: Text = ""
    step: Annotated[str, Field(max_length=80)] = ""


class JobState(Head):
    """Hub to researcher: the state of a job. Payload: who said what, or the result if it was asked for and is there.

    `content` tells which: `decisions` is a JSON list of `SiteDecision`.
    """

    kind: Literal["state"] = "state"
    job: JobId
    attempt: Attempt
    state: JobPhase
    content: Literal["decisions", "result"] = "decisions"
    error: Code = ""
    explanation: Text = ""
    site: Name | None = None
    step: Annotated[str, Field(max_length=80)] = ""


class Refused(Head):
    """Hub to member: what was asked is not possible, for a reason of a fixed list."""

    kind: Literal["refused"] = "refused"
    reason: Code
    explanation: Text = ""


class Mail(Head):
    """Member to member: sealed bytes that only the receiver can open."""

    kind: Literal["mail"] = "mail"
    job: JobId
    attempt: Attempt
    step: Annotated[str, Field(max_length=80)] = ""
    what: Annotated[str, Field(max_length=80)]
    number: Annotated[int, Field(ge=0, lt=2**53)]


class Welcome(Head):
    """Hub to member: the line stands. Payload: the members, a JSON list of `MemberInfo`."""

    kind: Literal["welcome"] = "welcome"
    name: Name
    number: Annotated[int, Field(ge=0, lt=0xFFFF)]
    role: Role
    heartbeat_seconds: Annotated[float, Field(gt=0, le=600)]
    drop_seconds: Annotated[float, Field(gt=0, le=3600)]


class Members(Head):
    """Hub to member: who came, went, or is new. Payload: a JSON list of `MemberInfo`."""

    kind: Literal["members"] = "members"


class Presence(Head):
    """Made by the line itself, never on the wire: a member came or went."""

    kind: Literal["presence"] = "presence"
    name: Name
    is_connected: bool


class Garbled(Head):
    """Made by the line itself, never on the wire: what a member sent broke this rule, and it is not heard any more."""

    kind: Literal["garbled"] = "garbled"
    name: Name
    rule: Text


class Numbered(Head):
    """Hub to member: wraps a head that must arrive exactly once with its number in the member's own sequence."""

    kind: Literal["numbered"] = "numbered"
    sequence: Annotated[int, Field(ge=1, lt=2**53)]
    head: Annotated[
        Offer | Start | Cancel | Outcome,
        Field(discriminator="kind"),
    ]


class Enrol(Head):
    """Somebody without a certificate to the hub: a one-time token for a place. Payload: certificate request (PEM).

    `proof` is the signature of the identity key: see `synthema.enrolling`.
    """

    kind: Literal["enrol"] = "enrol"
    name: Name
    secret: Hex32
    identity: Hex32
    proof: Hex64


class Enrolled(Head):
    """Hub to a new member. Payload: its certificate and the hub's issuer, two PEM certificates."""

    kind: Literal["enrolled"] = "enrolled"
    name: Name
    number: Annotated[int, Field(ge=0, lt=0xFFFF)]
    role: Role


class MemberInfo(BaseModel):
    """One member as the hub lists it. Keys that matter are pinned at the site; this says who is there."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    number: Annotated[int, Field(ge=0, lt=0xFFFF)]
    role: Role
    identity: Hex32
    is_connected: bool


AnyHead = Annotated[
    Submit
    | Offer
    | Decision
    | Start
    | Cancel
    | Outcome
    | Status
    | AskJob
    | Publish
    | AskCatalogue
    | Catalogue
    | JobState
    | Refused
    | Mail
    | Welcome
    | Members
    | Numbered
    | Enrol
    | Enrolled,
    Field(discriminator="kind"),
]
_HEADS: TypeAdapter[AnyHead] = TypeAdapter(AnyHead)
MEMBER_LIST: TypeAdapter[tuple[MemberInfo, ...]] = TypeAdapter(tuple[MemberInfo, ...])
DECISION_LIST: TypeAdapter[tuple[SiteDecision, ...]] = TypeAdapter(tuple[SiteDecision, ...])


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `sender` is the member's name as the line tells it, `HUB` for the hub; never a word of the text.

    sequence   number of a hub's message that arrives exactly once, 0 for all others
    """

    head: Head
    payload: bytes = field(repr=False)
    sender: str
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What is kept of messages that are not complete.

    message_bytes   of one message, head and payload
    open_messages   of one sender
    sender_bytes    of all open messages of one sender, as far as they came
    total_bytes     of all senders together, as far as they came
    """

    message_bytes: int = 1 << 28
    open_messages: int = 8
    sender_bytes: int = 1 << 29
    total_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)!r}")


def encode_head(head: Head) -> bytes:
    """Return a head's JSON.

    Raises
    ------
    ValueError
        If it is longer than the longest head.
    """
    text = head.model_dump_json().encode()
    if len(text) > LONGEST_HEAD_BYTES:
        raise ValueError(f"a head has at most {LONGEST_HEAD_BYTES} bytes, this {head.kind!r} has {len(text)}")
    return text


def encode(message_id: int, head: Head, payload: bytes = b"") -> Iterator[bytes]:
    """Return an iterator over the pieces of a message, each the body of one record. The payload is not copied at once.

    Examples
    --------
    >>> ask = AskJob(job="0" * 64)
    >>> Assembler().add("anna", *encode(1, ask)).head == ask
    True
    """
    text = encode_head(head)
    first = FIRST.pack(FIRST_MAGIC, message_id, len(text) + len(payload), len(text)) + text
    room = PIECE_BYTES - len(text)
    return _pieces(message_id, first, memoryview(payload), room)


def _pieces(message_id: int, first: bytes, payload: memoryview, room: int) -> Iterator[bytes]:
    yield b"".join((first, payload[:room]))
    for number, start in enumerate(range(room, len(payload), PIECE_BYTES), 1):
        yield b"".join((LATER.pack(LATER_MAGIC, message_id, number), payload[start : start + PIECE_BYTES]))


@dataclass(slots=True, repr=False)
class _Open:
    total: int
    head_bytes: int
    head: Head
    parts: list[bytes]
    received: int


class Assembler:
    """Puts the pieces of messages together, of several senders side by side. What it keeps is bounded.

    Parameters
    ----------
    limits
        See `MessageLimits`.
    """

    def __init__(self, limits: MessageLimits | None = None) -> None:
        self._limits = limits or MessageLimits()
        self._open: dict[str, dict[int, _Open]] = {}
        self._bytes_of: dict[str, int] = {}
        self._bytes_kept = 0

    @property
    def bytes_kept(self) -> int:
        """Bytes of messages that are not complete."""
        return self._bytes_kept

    def add(self, sender: str, piece: bytes | memoryview) -> Message | None:
        """Take the body of one record; return the message that it completes, if it does.

        Raises
        ------
        MessageRejected
            What is open of this sender is thrown away.
        """
        try:
            return self._add(sender, piece)
        except MessageRejected:
            self.forget(sender)
            raise

    def forget(self, sender: str) -> None:
        """Throw away what is open of a sender."""
        self._open.pop(sender, None)
        self._bytes_kept -= self._bytes_of.pop(sender, 0)

    def _add(self, sender: str, piece: bytes | memoryview) -> Message | None:
        magic = bytes(piece[:4])
        if magic == FIRST_MAGIC and len(piece) >= FIRST.size:
            return self._first(sender, piece)
        if magic == LATER_MAGIC and len(piece) > LATER.size:
            return self._later(sender, piece)
        raise MessageRejected("a record is no piece of a message", sender=sender)

    def _first(self, sender: str, piece: bytes | memoryview) -> Message | None:
        _, message_id, total, head_bytes = FIRST.unpack_from(piece)
        body = memoryview(piece)[FIRST.size :]
        if total > self._limits.message_bytes:
            raise MessageRejected(f"a message may have {self._limits.message_bytes} bytes", sender=sender)
        if not 0 < head_bytes <= min(total, LONGEST_HEAD_BYTES) or len(body) != min(total, PIECE_BYTES):
            raise MessageRejected("a message is cut into other pieces than it should be", sender=sender)
        head = _parsed(bytes(body[:head_bytes]), sender)
        if len(body) == total:
            return Message(head, bytes(body[head_bytes:]), sender)
        opened = self._open.setdefault(sender, {})
        if message_id in opened:
            raise MessageRejected("a message is begun twice", sender=sender)
        if len(opened) >= self._limits.open_messages:
            raise MessageRejected(f"it has more than {self._limits.open_messages} messages under way", sender=sender)
        opened[message_id] = _Open(total, head_bytes, head, [bytes(body[head_bytes:])], len(body))
        self._count(sender, len(body))
        return None

    def _later(self, sender: str, piece: bytes | memoryview) -> Message | None:
        _, message_id, number = LATER.unpack_from(piece)
        opened = self._open.get(sender, {})
        message = opened.get(message_id)
        if message is None:
            raise MessageRejected("a piece belongs to no message that was begun", sender=sender)
        body = memoryview(piece)[LATER.size :]
        if number != len(message.parts) or len(body) != min(message.total - message.received, PIECE_BYTES):
            raise MessageRejected("a message is cut into other pieces than it should be", sender=sender)
        message.parts.append(bytes(body))
        message.received += len(body)
        self._count(sender, len(body))
        if message.received < message.total:
            return None
        del opened[message_id]
        self._count(sender, -message.total)
        return Message(message.head, b"".join(message.parts), sender)

    def _count(self, sender: str, n_bytes: int) -> None:
        self._bytes_of[sender] = self._bytes_of.get(sender, 0) + n_bytes
        self._bytes_kept += n_bytes
        if self._bytes_of[sender] > self._limits.sender_bytes or self._bytes_kept > self._limits.total_bytes:
            raise MessageRejected("more bytes of unfinished messages than are kept", sender=sender)


def _parsed(text: bytes, sender: str) -> Head:
    try:
        return _HEADS.validate_json(text, strict=True)
    except (ValidationError, ValueError):
        # The reason would repeat what the sender wrote.
        raise MessageRejected("the head is none of the kinds that are known", sender=sender) from None
