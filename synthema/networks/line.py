"""A member's line to the hub: one outbound TLS 1.3 connection that comes back by itself and carries messages.

A thread owns the connection. `send` may be called from any thread; what comes is handed to `on_message` in the line's
thread, which must return soon. What is promised:

- messages *of the hub* that carry a sequence number arrive exactly once, in order, over reconnects as well; over
  restarts of this process if whoever makes the line stores the number together with what the message made it do, and
  gives it back as `handled`;
- messages *to the hub* are sent again after a reconnect until the hub has them on disk, for as long as the line lives;
  the hub may see one twice, and takes it once;
- messages *between members* may be lost when one of the two connections ends. Both ends are told (`LineState`,
  `Presence`), and what is above ends with an error that names who went.

The hub is known by its certificate's fingerprint. What a member sends is checked by the rules of `synthema.messages`;
who breaks them is not heard again until it connects anew, and is named to `on_message` (`Garbled`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from privacy.randomness import Rng, SecureRng
from smpc.transport.relay_wire import RELAY
from synthema.errors import SynthemaError
from synthema.messages import (
    HUB,
    MEMBER_LIST,
    Assembler,
    Garbled,
    Head,
    Mail,
    MemberInfo,
    Members,
    Message,
    MessageLimits,
    MessageRejected,
    Numbered,
    Presence,
    Welcome,
)
from synthema.networks.line_connection import Connection, ConnectionOver, HubAddress, MemberFiles, Waker, connect
from synthema.networks.line_outbox import LineBusy, Outbox
from synthema.networks.line_wire import (
    ABSENT,
    BEAT,
    CLOSED,
    CLOSING_REASONS,
    HANDLED,
    LASTING_REASONS,
    LINE_HELLO,
    LINE_MAGIC,
    LINE_NOTICE,
    TAKEN,
    line_notice,
)

__all__ = ["HubAddress", "Line", "LineBusy", "LineDown", "LineLimits", "LineState", "MemberAbsent", "MemberFiles"]

_log = logging.getLogger(__name__)


class LineDown(SynthemaError):
    """There is no connection to the hub at the moment; the line goes on trying."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"there is no line to the hub: {reason}")


class MemberAbsent(SynthemaError):
    """The member is not connected to the hub, or no member of this name exists."""

    def __init__(self, name: str) -> None:
        self.site = name
        super().__init__(f"member {name!r} is not connected to the hub")


@dataclass(frozen=True, slots=True)
class LineState:
    """How the line stands.

    kind     "up": messages can be sent; "connecting"; "down": no connection, tried again; "refused": the hub is another
             or does not want this member, so an operator must act; tried again all the same; "closed": for good
    reason   why it is down or refused
    """

    kind: Literal["connecting", "up", "down", "refused", "closed"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LineLimits:
    """How long the line waits, and what it keeps.

    first_pause_seconds     after the first failure; doubled at each further one; half of each pause is random
    longest_pause_seconds   at most
    connect_seconds         for the name and TCP, for TLS, and for the hub's welcome, each
    queued_bytes            that wait to be sent
    messages                that are not complete
    """

    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 30.0
    connect_seconds: float = 10.0
    queued_bytes: int = 1 << 30
    messages: MessageLimits = field(default_factory=MessageLimits)


class Line:
    """A member's line to the hub.

    Parameters
    ----------
    address, keys
        Of the hub, and of this member.
    on_message
        Called in the line's thread for every message. If it raises, the connection is made anew, and a numbered message
        is handed over once more.
    on_change
        Called in the line's thread when the line comes up or goes down; must not raise.
    handled
        Sequence number of the last message of the hub that was handled before this process started.
    limits
        See `LineLimits`.
    """

    def __init__(
        self,
        address: HubAddress,
        keys: MemberFiles,
        *,
        on_message: Callable[[Message], None],
        on_change: Callable[[LineState], None] | None = None,
        handled: int = 0,
        limits: LineLimits | None = None,
        rng: Rng | None = None,
    ) -> None:
        self._address = address
        self._keys = keys
        self._on_message = on_message
        self._on_change = on_change
        self._limits = limits or LineLimits()
        self._rng = rng or SecureRng()
        self._changed = threading.Condition()
        self._state = LineState("down", "it was not started")
        self._members: dict[str, MemberInfo] = {}
        self._name_of: dict[int, str] = {}
        self._welcome: Welcome | None = None
        self._handled = handled
        self._waker = Waker()
        self._outbox = Outbox(self._limits.queued_bytes, first_id=int(self._rng.below(2**48, 1)[0]))
        self._thread: threading.Thread | None = None
        # Of the present connection.
        self._connection: Connection | None = None
        self._assembler = Assembler(self._limits.messages)
        self._garbled: set[str] = set()

    def __repr__(self) -> str:
        return f"Line({self._address.host}:{self._address.port}, {self._state.kind})"

    @property
    def state(self) -> LineState:
        """How the line stands."""
        return self._state

    @property
    def members(self) -> dict[str, MemberInfo]:
        """All members by name, as the hub listed them last; while the line is down nobody counts as connected."""
        with self._changed:
            return dict(self._members)

    @property
    def name(self) -> str:
        """The member's own name, as the hub knows it; empty before the first welcome."""
        return "" if self._welcome is None else self._welcome.name

    @property
    def handled(self) -> int:
        """Sequence number of the hub's last message that was handled."""
        return self._handled

    @property
    def is_confirmed(self) -> bool:
        """Whether the hub has written down all that it was sent: it is not lost if either process dies."""
        return self._outbox.is_confirmed

    def start(self) -> None:
        """Connect, and keep connected, in a thread of its own."""
        if self._thread is not None:
            raise RuntimeError("a line is started once")
        self._thread = threading.Thread(target=self._run, name="line to the hub", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the line. What waits to be sent is not sent."""
        with self._changed:
            self._waker.stop()
            self._changed.notify_all()
        thread = self._thread
        if thread is None:
            self._waker.close()
        elif thread is not threading.current_thread():
            thread.join(self._limits.connect_seconds + 1)

    def wait_until_up(self, within: float) -> None:
        """Wait for the connection.

        Raises
        ------
        LineDown
            If it does not come in time; with the reason of the last failure.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._state.kind in {"up", "closed"}, within)
            if self._state.kind != "up":
                raise LineDown(self._state.reason or f"none came within {within:g} s")

    def send(self, to: str | None, head: Head, payload: bytes = b"") -> None:
        """Take a message to send; returns at once. Messages to one receiver keep their order.

        Parameters
        ----------
        to
            A member's name, or None for the hub.

        Raises
        ------
        LineDown
            If the line is not up.
        MemberAbsent
            If the hub said that the member is not there.
        LineBusy
            If too much waits already.
        """
        with self._changed:
            if self._state.kind != "up":
                raise LineDown(self._state.reason or self._state.kind)
            number = RELAY if to is None else self._number(to)
            self._outbox.put(number, head, payload)
        self._waker.wake()

    def _number(self, name: str) -> int:
        info = self._members.get(name)
        # One that is not heard any more could not answer either.
        if info is None or not info.is_connected or name in self._garbled:
            raise MemberAbsent(name)
        return info.number

    def _run(self) -> None:
        limits = self._limits
        pause = limits.first_pause_seconds
        while True:
            began = time.monotonic()
            self._set_state(LineState("connecting", self._state.reason))
            over = self._serve()
            self._lose()
            if self._waker.is_closing:
                break
            self._set_state(LineState("refused" if over.is_lasting else "down", over.reason))
            # Only a connection that lasted shows that all is well.
            if self._welcome is not None and time.monotonic() - began > self._welcome.drop_seconds:
                pause = limits.first_pause_seconds
            elif over.is_lasting:
                pause = limits.longest_pause_seconds
            # Half of it by chance, so that the members of a hub that comes back do not all come at once.
            part = 0.5 + int(self._rng.below(2**20, 1)[0]) / 2**21
            with self._changed:
                if self._changed.wait_for(lambda: self._waker.is_closing, pause * part):
                    break
            pause = min(2 * pause, limits.longest_pause_seconds)
        self._set_state(LineState("closed", "it was closed"))
        self._waker.close()

    def _serve(self) -> ConnectionOver:
        """Connect and go on until it is over; return why."""
        limits = self._limits
        try:
            stream = connect(self._address, self._keys.tls(), self._waker, within=limits.connect_seconds)
        except ConnectionOver as over:
            return over
        self._outbox.restart()
        # The first record; everything else waits for the hub's welcome.
        first = Outbox(1, 0)
        first.put_notice(LINE_HELLO.pack(LINE_MAGIC, self._handled))
        self._connection = Connection(stream, first, self._waker, self._take, drop_seconds=limits.connect_seconds)
        try:
            self._connection.serve()
        except ConnectionOver as over:
            return over
        finally:
            self._connection = None
            stream.close()

    def _set_state(self, state: LineState) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
        if self._on_change is not None:
            try:
                self._on_change(state)
            except Exception as error:  # noqa: BLE001 - the line outlives its user's mistakes
                # No traceback: it may show values.
                _log.error("on_change failed: %s", type(error).__name__)

    def _lose(self) -> None:
        """Forget what belonged to a connection."""
        with self._changed:
            self._garbled.clear()
            self._assembler = Assembler(self._limits.messages)
            for name, info in self._members.items():
                if info.is_connected:
                    self._members[name] = info.model_copy(update={"is_connected": False})

    def _take(self, number: int, body: memoryview) -> None:
        """Take one record."""
        if number == RELAY and len(body) == LINE_NOTICE.size:
            self._notice(*LINE_NOTICE.unpack(body))
            return
        sender = HUB if number == RELAY else self._name_of.get(number)
        if sender is None:
            raise ConnectionOver("the hub sent a record of a member that it does not list")
        if sender in self._garbled:
            return
        try:
            message = self._assembler.add(sender, body)
            if message is not None and isinstance(message.head, Mail) != (sender != HUB):
                raise MessageRejected("its kind is not for this sender", sender=sender)  # noqa: TRY301 - one place
        except MessageRejected as error:
            if sender == HUB:
                raise ConnectionOver(str(error)) from None
            self._assembler.forget(sender)
            self._garbled.add(sender)
            self._hand_over(Message(Garbled(name=sender, rule=error.rule), b"", HUB))
            return
        if message is None:
            return
        if sender == HUB:
            self._of_the_hub(message)
        else:
            self._hand_over(message)

    def _of_the_hub(self, message: Message) -> None:
        head = message.head
        if isinstance(head, Welcome):
            self._greet(head, message.payload)
        elif self._state.kind != "up":
            raise ConnectionOver("the hub sent something else before its welcome")
        elif isinstance(head, Members):
            self._list(message.payload)
        elif isinstance(head, Numbered):
            # A number that was handled comes again if the connection ended before the hub heard of it.
            if head.sequence > self._handled:
                self._hand_over(Message(head.head, message.payload, HUB, head.sequence))
                self._handled = head.sequence
            self._outbox.put_notice(line_notice(HANDLED, self._handled))
        else:
            self._hand_over(message)

    def _greet(self, head: Welcome, payload: bytes) -> None:
        connection = self._connection
        if connection is None or self._state.kind == "up":
            raise ConnectionOver("the hub sent a second welcome")
        self._welcome = head
        connection.heartbeat_seconds, connection.drop_seconds = head.heartbeat_seconds, head.drop_seconds
        connection.outbox = self._outbox
        came = self._listed(payload)
        self._set_state(LineState("up"))
        self._tell(came)

    def _list(self, payload: bytes) -> None:
        self._tell(self._listed(payload))

    def _listed(self, payload: bytes) -> list[MemberInfo]:
        """Note what the hub says about members; return those who came or went."""
        try:
            infos = MEMBER_LIST.validate_json(payload, strict=True)
        except ValidationError:
            raise ConnectionOver("the hub's list of members is none") from None
        changed = []
        with self._changed:
            for info in infos:
                before = self._members.get(info.name)
                if before is not None and before.number != info.number:
                    # Enrolled anew: what the old number sends is nobody's.
                    self._name_of.pop(before.number, None)
                self._members[info.name] = info
                self._name_of[info.number] = info.name
                if info.is_connected != (before is not None and before.is_connected):
                    changed.append(info)
        return changed

    def _tell(self, changed: list[MemberInfo]) -> None:
        for info in changed:
            # A connection that comes after another begins anew.
            self._assembler.forget(info.name)
            self._garbled.discard(info.name)
            if not info.is_connected:
                self._outbox.drop(info.number)
            self._hand_over(Message(Presence(name=info.name, is_connected=info.is_connected), b"", HUB))

    def _notice(self, kind: bytes, number: int) -> None:
        if kind == BEAT:
            return
        if kind == CLOSED:
            reason = CLOSING_REASONS.get(number, "the hub ended the connection for no reason that is known")
            raise ConnectionOver(reason, is_lasting=number in LASTING_REASONS)
        if kind == TAKEN:
            self._outbox.confirm(number)
        elif kind == ABSENT:
            name = self._name_of.get(number)
            if name is not None:
                self._absent(name)
        else:
            raise ConnectionOver("the hub sent a notice that is none")

    def _absent(self, name: str) -> None:
        with self._changed:
            info = self._members[name]
            if not info.is_connected:
                return
            self._members[name] = gone = info.model_copy(update={"is_connected": False})
        self._tell([gone])

    def _hand_over(self, message: Message) -> None:
        try:
            self._on_message(message)
        except ConnectionOver:
            raise
        except Exception as error:  # noqa: BLE001 - the line outlives its user's mistakes
            # No traceback: it may show values.
            _log.error("on_message failed: %s", type(error).__name__)
            raise ConnectionOver(f"what was received could not be handled ({type(error).__name__})") from None
