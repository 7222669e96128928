"""How direct lines come about: each pair of parties gets one connection, opened by the one with the higher number.

    dialler -> listener   "SYP1", its number (2 bytes), once TLS stands
    listener -> dialler   "W": the seat was free and the certificate is the roster's for it

Diallers try again until the time is over, for parties are not started at one moment. Strangers may connect as well: at
most `MOST_PENDING` connections without a proven party are kept, the oldest gives way, and each has
`GREETING_SECONDS`.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from smpc.errors import PeerUnavailable
from smpc.transport.roster import Roster
from smpc.transport.streams import Stream, StreamEnded, StreamViolated

MOST_PENDING = 16
GREETING_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_GREETING = struct.Struct("<4sH")
_WELCOME = b"W"

# Yields what to poll for; returns the party at the other end and the stream to it.
_Steps = Generator[int, None, tuple[int, Stream]]


class Wrap(Protocol):
    """Make a stream of a connected socket."""

    def __call__(self, sock: socket.socket, *, server_side: bool) -> Stream:
        """Return the stream; its handshake is still to come."""
        ...


@dataclass(eq=False, slots=True)
class _Pending:
    """A connection on its way: where it stands, what it waits for, until when."""

    sock: socket.socket
    streams: list[Stream]
    steps: _Steps
    until: float
    dialled: int | None
    descriptor: int
    events: int = 0

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.sock.close()


def connect_all(
    roster: Roster,
    party: int,
    *,
    wrap: Wrap,
    is_peer: Callable[[Stream, int], bool],
    listener: socket.socket | None = None,
    within: float,
) -> dict[int, Stream]:
    """Return a stream to each other party, its greeting done.

    Parameters
    ----------
    wrap
        Makes a stream of a socket.
    is_peer
        Whether a stream's other end is this party, by its certificate.
    listener
        Listens already; closed at the end. By default one is made at the roster's address.
    within
        Seconds.

    Raises
    ------
    PeerUnavailable
        If a party cannot be reached in time, or another one answers at its address.
    """
    mesh = _Mesh(roster, party, wrap, is_peer)
    return mesh.run(listener, within)


class _Mesh:
    def __init__(self, roster: Roster, party: int, wrap: Wrap, is_peer: Callable[[Stream, int], bool]) -> None:
        self._roster = roster
        self._party = party
        self._wrap = wrap
        self._is_peer = is_peer
        self._settled: dict[int, Stream] = {}
        self._pending: list[_Pending] = []
        # When a party is called next, and how long to wait after a failure.
        self._due = dict.fromkeys(range(party), 0.0)
        self._pause = dict.fromkeys(range(party), _FIRST_PAUSE)
        self._last_reason: dict[int | None, str] = {}

    def run(self, listener: socket.socket | None, within: float) -> dict[int, Stream]:
        deadline = time.monotonic() + within
        awaited = len(self._roster) - 1
        try:
            if listener is None and self._party < awaited:
                me = self._roster[self._party]
                listener = socket.create_server((me.host, me.port), backlog=64)
            if listener is not None:
                listener.setblocking(False)
            while len(self._settled) < awaited:
                self._turn(listener, deadline, within)
        except BaseException:
            for stream in self._settled.values():
                stream.close()
            raise
        finally:
            for each in self._pending:
                each.close()
            if listener is not None:
                listener.close()
        return dict(sorted(self._settled.items()))

    def _turn(self, listener: socket.socket | None, deadline: float, within: float) -> None:
        now = time.monotonic()
        if now >= deadline:
            raise self._late(within)
        self._dial_due(now)
        for each in [each for each in self._pending if each.until <= now]:
            self._drop(each, "it did not finish its greeting in time")
        poll = select.poll()
        if listener is not None:
            poll.register(listener, select.POLLIN)
        by_descriptor = {each.descriptor: each for each in self._pending}
        for each in self._pending:
            poll.register(each.descriptor, each.events)
        wake = min([deadline, *(each.until for each in self._pending), *self._due.values()])
        for descriptor, _ in poll.poll(max(1, math.ceil((wake - now) * 1000))):
            if listener is not None and descriptor == listener.fileno():
                self._accept(listener)
            elif by_descriptor[descriptor] in self._pending:
                self._advance(by_descriptor[descriptor])

    def _dial_due(self, now: float) -> None:
        for peer in [peer for peer, at in self._due.items() if at <= now]:
            # Out of the list until this attempt has failed.
            del self._due[peer]
            member = self._roster[peer]
            try:
                family, kind, protocol, _, address = socket.getaddrinfo(
                    member.host, member.port, type=socket.SOCK_STREAM
                )[0]
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                self._retry(peer, f"its address is not found: {error.strerror or type(error).__name__}")
                continue
            sock.setblocking(False)
            began = sock.connect_ex(address)
            if began not in {0, errno.EINPROGRESS}:
                sock.close()
                self._retry(peer, f"it cannot be reached: {os.strerror(began)}")
                continue
            self._add(sock, peer)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            # The caller went away before it was answered.
            return
        strangers = [each for each in self._pending if each.dialled is None]
        if len(strangers) >= MOST_PENDING:
            self._drop(strangers[0], "it gave way to a newer connection")
        self._add(sock, None)

    def _add(self, sock: socket.socket, dialled: int | None) -> None:
        streams: list[Stream] = []
        steps = self._answer(sock, streams) if dialled is None else self._call(sock, dialled, streams)
        each = _Pending(sock, streams, steps, time.monotonic() + GREETING_SECONDS, dialled, sock.fileno())
        self._pending.append(each)
        self._advance(each)

    def _advance(self, each: _Pending) -> None:
        try:
            each.events = next(each.steps)
        except StopIteration as done:
            peer, stream = done.value
            self._pending.remove(each)
            self._settled[peer] = stream
        except (StreamEnded, OSError) as error:
            self._drop(each, str(error))
        except StreamViolated as error:
            self._drop(each, str(error))
            if each.dialled is not None:
                # Calling again would find the same stranger.
                raise PeerUnavailable(each.dialled, reason=str(error)) from None

    def _drop(self, each: _Pending, reason: str) -> None:
        self._pending.remove(each)
        each.close()
        if each.dialled is None:
            self._last_reason[None] = reason
        else:
            self._retry(each.dialled, reason)

    def _retry(self, peer: int, reason: str) -> None:
        self._last_reason[peer] = reason
        self._due[peer] = time.monotonic() + self._pause[peer]
        self._pause[peer] = min(2 * self._pause[peer], _LONGEST_PAUSE)

    def _late(self, within: float) -> PeerUnavailable:
        missing = min(set(range(len(self._roster))) - {self._party} - self._settled.keys())
        if missing < self._party:
            why = self._last_reason.get(missing, "no answer")
        else:
            refused = self._last_reason.get(None)
            why = "it did not call" + ("" if refused is None else f"; a connection was refused: {refused}")
        return PeerUnavailable(missing, reason=f"no line within {within:g} s: {why}")

    # The two ends of a greeting.

    def _call(self, sock: socket.socket, peer: int, streams: list[Stream]) -> _Steps:
        yield select.POLLOUT
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise StreamEnded(f"it cannot be reached: {os.strerror(failed)}")
        stream = self._wrap(sock, server_side=False)
        streams.append(stream)
        while not stream.handshake():
            yield stream.waits_for
        if not self._is_peer(stream, peer):
            raise StreamViolated("its certificate is not the one that the roster lists for this party")
        yield from _write(stream, _GREETING.pack(b"SYP1", self._party))
        yield from _read(stream, len(_WELCOME))
        return peer, stream

    def _answer(self, sock: socket.socket, streams: list[Stream]) -> _Steps:
        stream = self._wrap(sock, server_side=True)
        streams.append(stream)
        while not stream.handshake():
            yield stream.waits_for
        magic, peer = _GREETING.unpack((yield from _read(stream, _GREETING.size)))
        if magic != b"SYP1" or not self._party < peer < len(self._roster):
            raise StreamViolated("it did not greet as a party that is to call here")
        if not self._is_peer(stream, peer):
            raise StreamViolated(f"its certificate is not the one that the roster lists for party {peer}")
        if peer in self._settled:
            raise StreamViolated(f"party {peer} has a line already")
        yield from _write(stream, _WELCOME)
        return peer, stream


def _write(stream: Stream, data: bytes) -> Generator[int, None, None]:
    rest = memoryview(data)
    while rest:
        sent = stream.send(rest)
        if sent == 0:
            yield select.POLLOUT
        rest = rest[sent:]


def _read(stream: Stream, n: int) -> Generator[int, None, bytes]:
    space = memoryview(bytearray(n))
    rest = space
    while rest:
        got = stream.receive_into(rest)
        if got == 0:
            yield select.POLLIN
        rest = rest[got:]
    return bytes(space)


def dial(host: str, port: int, wrap: Callable[[socket.socket], Stream], *, within: float) -> Stream:
    """Return a stream to one address, its own handshake done, trying again until the time is over.

    Raises
    ------
    StreamEnded
        If it cannot be reached in time.
    StreamViolated
        If it shows a certificate that is not trusted.
    """
    deadline = time.monotonic() + within
    pause, reason = _FIRST_PAUSE, "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            return _dialled(socket.create_connection((host, port), timeout=left), wrap, deadline)
        except (StreamEnded, OSError) as error:
            reason = str(error)
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE)
    raise StreamEnded(f"no line within {within:g} s: {reason}")


def _dialled(sock: socket.socket, wrap: Callable[[socket.socket], Stream], deadline: float) -> Stream:
    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        stream = wrap(sock)
        undo.callback(stream.close)
        while not stream.handshake():
            poll = select.poll()
            poll.register(stream.fileno(), stream.waits_for)
            if not poll.poll(max(0, math.ceil((deadline - time.monotonic()) * 1000))):
                raise StreamEnded("its TLS handshake did not end in time")
        undo.pop_all()
        return stream
