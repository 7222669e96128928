"""The hub's connections: members' lines, relay seats, and invitations, on one socket, in one thread.

What a connection is for is its first record. A member's line carries messages: those to the hub go to the desk
(`synthema.hub.desk`), those to other members are forwarded record by record, unread. A receiver that does not read
holds its senders back for a time, and is cut off then. Seats of runs are given as the desk says (`grants`).
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from smpc.transport.certificates import TlsFiles
from smpc.transport.relay import RelayConnection, RelayLimits, RunServer
from smpc.transport.relay_wire import JOIN_MAGIC, NOT_YOUR_SEAT, RELAY, record
from smpc.transport.streams import TlsStream
from synthema.messages import (
    FIRST_MAGIC,
    HUB,
    MEMBER_LIST,
    Assembler,
    Enrol,
    Head,
    MemberInfo,
    Members,
    Message,
    MessageLimits,
    MessageRejected,
    Role,
    Welcome,
    encode,
)
from synthema.networks.line_wire import (
    ABSENT,
    BEAT,
    CLOSED,
    HANDLED,
    LINE_HELLO,
    LINE_MAGIC,
    LINE_NOTICE,
    MALFORMED,
    MOST_HANDLED,
    NO_CERTIFICATE,
    NOT_A_MEMBER,
    REPLACED,
    REVOKED,
    SILENT,
    TAKEN,
    TOO_LATE,
    line_notice,
)

# Comings and goings are told together, at most this often.
_PRESENCE_SECONDS = 0.1
_MESSAGE_ID = struct.Struct("<4xQ")


@dataclass(frozen=True, slots=True)
class HubLimits(RelayLimits):
    """What a hub keeps and how long it waits, beside what a relay does.

    heartbeat_seconds   between signs of life, both ways
    drop_seconds        of silence after which a line is ended
    drain_seconds       that somebody may hold its senders back by not reading
    at_desk             messages of one member that wait for the desk; more are not read
    messages            to the hub, that are not complete
    """

    max_connections: int = 4096
    max_pending: int = 256
    heartbeat_seconds: float = 5.0
    drop_seconds: float = 20.0
    drain_seconds: float = 30.0
    at_desk: int = 4
    messages: MessageLimits = field(
        default_factory=lambda: MessageLimits(message_bytes=1 << 26, open_messages=4, sender_bytes=1 << 27)
    )

    def __post_init__(self) -> None:
        # Not every field is a number.
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, int | float) and value <= 0:
                raise ValueError(f"{name} must be > 0, got {value!r}")
        if self.drop_seconds <= self.heartbeat_seconds:
            raise ValueError("drop_seconds must be longer than heartbeat_seconds")


@dataclass(frozen=True, slots=True)
class ListedMember:
    """A member as the server knows it; `fingerprint` of its certificate."""

    number: int
    name: str
    role: Role
    identity: bytes
    fingerprint: bytes


@dataclass(eq=False, slots=True, repr=False)
class HubConnection(RelayConnection):
    """A connection to the hub."""

    fingerprint: bytes = b""
    member: ListedMember | None = None
    is_line: bool = False
    at_desk: int = 0
    last_beat: float = 0.0


class Desk(Protocol):
    """Who reads what is meant for the hub. All calls come from the server's thread and return at once."""

    def arrived(self, number: int, handled: int) -> None:
        """Take note of a member's line, and of the last message that it has handled."""

    def left(self, number: int) -> None:
        """Take note that a line ended."""

    def handled(self, number: int, sequence: int) -> None:
        """Take note that a member has handled a message and all before."""

    def received(self, number: int, message_id: int, message: Message) -> None:
        """Take a member's message."""

    def asked_to_enrol(self, connection: HubConnection, head: Enrol, request: bytes) -> None:
        """Take an invitation that somebody shows."""


class HubServer(RunServer[HubConnection]):
    """The hub's server on a listening socket.

    Parameters
    ----------
    listener
        Listens already.
    tls
        The hub's certificate; trusted is its own issuer.
    desk
        Gets what is meant for the hub.
    limits
        See `HubLimits`.
    """

    def __init__(self, listener: socket.socket, *, tls: TlsFiles, desk: Desk, limits: HubLimits | None = None) -> None:
        limits = limits or HubLimits()
        context = tls.context(server_side=True)
        # Who has an invitation has no certificate yet; everything else is refused without one.
        context.verify_mode = ssl.CERT_OPTIONAL
        super().__init__(listener, context=context, limits=limits)
        self._hub_limits = limits
        self._desk = desk
        self._members: dict[int, ListedMember] = {}
        self._by_fingerprint: dict[bytes, ListedMember] = {}
        self._grants: Mapping[bytes, tuple[bytes, ...]] = {}
        self._lines: dict[int, HubConnection] = {}
        self._assembler = Assembler(limits.messages)
        self._next_id = 0
        # What members were told last about each other.
        self._told: dict[int, MemberInfo] = {}
        self._presence_due = False
        self._presence_told = 0.0

    # What the desk says; in the server's thread (`post`).

    def set_members(self, members: list[ListedMember]) -> None:
        """Replace the list of members; who is not on it any more is cut off."""
        self._members = {member.number: member for member in members}
        self._by_fingerprint = {member.fingerprint: member for member in members}
        for connection in list(self._connections):
            if connection.member is not None and connection.member.number not in self._members:
                self._close(connection, REVOKED)
        self._presence_due = True

    def set_grants(self, grants: Mapping[bytes, tuple[bytes, ...]]) -> None:
        """Replace the runs that members may join: by digest, their certificates' fingerprints, seat by seat."""
        self._grants = grants

    def deliver(self, number: int, head: Head, payload: bytes = b"") -> None:
        """Send a message of the hub to a member that is connected."""
        line = self._lines.get(number)
        if line is not None:
            self._say(line, head, payload)
            # Who asks much and reads little is not read.
            self._hold(line, line)

    def taken(self, number: int, message_id: int) -> None:
        """Tell a member that its message is on disk, and read more of it."""
        line = self._lines.get(number)
        if line is not None:
            self._send(line, record(RELAY, line_notice(TAKEN, message_id)))
            line.at_desk = max(0, line.at_desk - 1)
            if line.is_paused and line.at_desk < self._hub_limits.at_desk:
                line.is_paused = False
                self._resume(line)

    def answer(self, connection: HubConnection, head: Head, payload: bytes = b"") -> None:
        """Answer who showed an invitation, and close."""
        if connection.is_open and not connection.is_ending:
            connection.is_paused = False
            self._end(connection, self._encoded(head, payload))

    def cut_off(self, number: int) -> None:
        """End a line whose messages break the rules."""
        line = self._lines.get(number)
        if line is not None:
            self._close(line, MALFORMED)

    # What connections do.

    def _new_connection(self, stream: TlsStream, since: float) -> HubConnection:
        return HubConnection(stream, since)

    def _admit(self, connection: HubConnection) -> None:
        der, _ = connection.stream.peer_certificate()
        if der:
            connection.fingerprint = hashlib.sha256(der).digest()
            connection.member = self._by_fingerprint.get(connection.fingerprint)

    def _may_take(self, connection: HubConnection, key: bytes, party: int, n_parties: int) -> bool:
        seats = self._grants.get(key, ())
        return len(seats) == n_parties and seats[party] == connection.fingerprint

    def _handle(self, connection: HubConnection, address: int, body: memoryview) -> None:
        if connection.is_line:
            self._from_line(connection, address, body)
        elif connection.is_settled:
            super()._handle(connection, address, body)
        else:
            self._first(connection, address, body)

    def _first(self, connection: HubConnection, address: int, body: memoryview) -> None:
        magic = bytes(body[:4])
        if address != RELAY:
            self._close(connection, MALFORMED)
        elif not connection.fingerprint:
            if magic == FIRST_MAGIC:
                self._invited(connection, body)
            else:
                self._close(connection, NO_CERTIFICATE)
        elif magic == JOIN_MAGIC:
            super()._handle(connection, address, body)
        elif connection.member is None:
            self._close(connection, NOT_A_MEMBER)
        elif magic == LINE_MAGIC and len(body) == LINE_HELLO.size:
            handled = LINE_HELLO.unpack(body)[1]
            if handled < MOST_HANDLED:
                self._arrive(connection, connection.member, handled)
            else:
                self._close(connection, MALFORMED)
        else:
            self._close(connection, MALFORMED)

    def _invited(self, connection: HubConnection, body: memoryview) -> None:
        try:
            # An assembler of its own: nothing of a stranger is kept beyond its one record.
            message = Assembler().add(HUB, body)
        except MessageRejected:
            message = None
        if message is None or not isinstance(message.head, Enrol):
            self._close(connection, MALFORMED)
            return
        connection.is_paused = True
        self._desk.asked_to_enrol(connection, message.head, message.payload)

    def _arrive(self, connection: HubConnection, member: ListedMember, handled: int) -> None:
        before = self._lines.pop(member.number, None)
        if before is not None:
            # The old one may hang half open: the newest is the one that lives.
            self._assembler.forget(member.name)
            self._close(before, REPLACED)
        if self._is_told(member.number):
            # Others must hear that the old line ended before anything of the new one reaches them.
            self._tell_presence()
        connection.is_line = connection.is_settled = True
        now = time.monotonic()
        connection.last_received = connection.last_beat = now
        self._lines[member.number] = connection
        welcome = Welcome(
            name=member.name,
            number=member.number,
            role=member.role,
            heartbeat_seconds=self._hub_limits.heartbeat_seconds,
            drop_seconds=self._hub_limits.drop_seconds,
        )
        self._say(connection, welcome, MEMBER_LIST.dump_json(tuple(self._told.values())))
        self._presence_due = True
        self._desk.arrived(member.number, handled)

    def _from_line(self, connection: HubConnection, address: int, body: memoryview) -> None:
        member = connection.member
        if member is None:
            self._close(connection, NOT_A_MEMBER)
        elif address == RELAY:
            if len(body) == LINE_NOTICE.size:
                self._notice(connection, member, *LINE_NOTICE.unpack(body))
            else:
                self._to_hub(connection, member, body)
        else:
            self._forward(connection, member, address, body)

    def _notice(self, connection: HubConnection, member: ListedMember, kind: bytes, number: int) -> None:
        if kind == HANDLED:
            self._desk.handled(member.number, number)
        elif kind != BEAT:
            self._close(connection, MALFORMED)

    def _to_hub(self, connection: HubConnection, member: ListedMember, body: memoryview) -> None:
        try:
            message = self._assembler.add(member.name, body)
        except MessageRejected:
            self._close(connection, MALFORMED)
            return
        if message is None:
            return
        connection.at_desk += 1
        connection.is_paused = connection.at_desk >= self._hub_limits.at_desk
        self._desk.received(member.number, _MESSAGE_ID.unpack_from(body)[0], message)

    def _forward(self, connection: HubConnection, member: ListedMember, address: int, body: memoryview) -> None:
        receiver = self._lines.get(address)
        listed = self._members.get(address)
        if "researcher" in {member.role, listed.role if listed else ""} or address == member.number:
            self._close(connection, MALFORMED)
        elif receiver is None or receiver.is_ending:
            self._send(connection, record(RELAY, line_notice(ABSENT, address)))
            self._hold(connection, connection)
        else:
            if not self._is_told(member.number):
                self._tell_presence()
            self._send(receiver, record(member.number, body))
            self._hold(connection, receiver)

    # Who is there.

    def _is_told(self, number: int) -> bool:
        told = self._told.get(number)
        return told is not None and told.is_connected

    def _tell_presence(self) -> None:
        """Tell all members who came, went, or is new."""
        self._presence_due = False
        self._presence_told = time.monotonic()
        now = {
            number: MemberInfo(
                name=member.name,
                number=number,
                role=member.role,
                identity=member.identity.hex(),
                is_connected=number in self._lines,
            )
            for number, member in self._members.items()
            if member.role != "researcher"
        }
        gone = [info for number, info in self._told.items() if number not in now and info.is_connected]
        changed = [info.model_copy(update={"is_connected": False}) for info in gone]
        changed += [info for number, info in now.items() if self._told.get(number) != info]
        self._told = now
        if changed:
            data = self._encoded(Members(), MEMBER_LIST.dump_json(tuple(changed)))
            for line in list(self._lines.values()):
                self._send(line, data)

    def _turn(self) -> None:
        super()._turn()
        if self._presence_due and time.monotonic() - self._presence_told >= _PRESENCE_SECONDS:
            self._tell_presence()
        # Wake up in time for what is due.
        self._sweep_seconds = _PRESENCE_SECONDS if self._presence_due else HubServer._sweep_seconds

    # Ends.

    def _malformed(self, connection: HubConnection) -> None:
        if connection.run is not None:
            super()._malformed(connection)
        else:
            self._close(connection, MALFORMED)

    def _close(self, connection: HubConnection, reason: int) -> None:
        if not connection.is_open or connection.is_ending:
            return
        connection.is_paused = False
        if connection.run is not None:
            self._refuse(connection, NOT_YOUR_SEAT)
        else:
            self._end(connection, record(RELAY, line_notice(CLOSED, reason)))

    def _forget(self, connection: HubConnection) -> None:
        super()._forget(connection)
        member = connection.member
        if connection.is_line and member is not None and self._lines.get(member.number) is connection:
            del self._lines[member.number]
            self._assembler.forget(member.name)
            self._presence_due = True
            self._desk.left(member.number)

    def _sweep(self, now: float) -> None:
        limits = self._hub_limits
        for connection in list(self._connections):
            if connection.holds and now - connection.held_since > limits.drain_seconds:
                # It would not read a reason, either.
                self._drop(connection)
            elif connection.is_line and not connection.is_ending:
                if connection.is_read and now - connection.last_received > limits.drop_seconds:
                    self._close(connection, SILENT)
                elif now - connection.last_beat >= limits.heartbeat_seconds and not connection.queued_bytes:
                    connection.last_beat = now
                    self._send(connection, record(RELAY, line_notice(BEAT)))
            elif self._is_late(connection, now) and connection.run is None and connection.reader is not None:
                # One that is ending already is dropped below.
                self._close(connection, TOO_LATE)
        super()._sweep(now)

    def _say(self, connection: HubConnection, head: Head, payload: bytes) -> None:
        self._send(connection, self._encoded(head, payload))

    def _encoded(self, head: Head, payload: bytes) -> bytes:
        self._next_id += 1
        return b"".join(record(RELAY, piece) for piece in encode(self._next_id, head, payload))
