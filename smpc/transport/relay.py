"""The relay: forwards sealed records between the parties of a run, and can neither read nor change them unnoticed.

Every party connects by mutual TLS 1.3 with a certificate that the relay's operator listed for its number, and joins a
run by the digest of its name. The relay learns who takes part, when, and how many bytes are sent.

One thread polls all connections, within bounds (`smpc.transport.record_server`); a run whose parties are silent, or do
not all come, is ended.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from smpc.sharing import LEAST_PARTIES, MOST_PARTIES
from smpc.transport.certificates import TlsFiles
from smpc.transport.record_server import Connection, RecordServer, ServerLimits
from smpc.transport.relay_wire import (
    JOIN,
    JOIN_MAGIC,
    LEFT,
    MALFORMED,
    NOT_YOUR_SEAT,
    NOTICE,
    OTHER_NUMBER,
    PRESENT,
    REFUSED,
    RELAY,
    RUN_OVER,
    SEAT_TAKEN,
    TOO_LATE,
    record,
)
from smpc.transport.streams import StreamViolated, TlsStream


@dataclass(frozen=True, slots=True)
class RelayLimits(ServerLimits):
    """What a relay keeps and how long it waits, beside what every server does.

    gather_seconds     until all parties of a run are there
    idle_seconds       without a byte in a run
    """

    gather_seconds: float = 600.0
    idle_seconds: float = 900.0


@dataclass(eq=False, slots=True, repr=False)
class _Run:
    n_parties: int
    seats: dict[int, RelayConnection]
    was_complete: bool
    last_byte: float


@dataclass(eq=False, slots=True, repr=False)
class RelayConnection(Connection):
    """A connection that has a seat in a run, or may take one."""

    allowed: frozenset[int] = frozenset()
    run_key: bytes = b""
    run: _Run | None = None
    party: int = -1


R = TypeVar("R", bound=RelayConnection)


class RunServer(RecordServer[R], Generic[R]):
    """What forwards the records of runs. Who may take which seat is a subclass's business."""

    def __init__(self, listener: socket.socket, *, context: ssl.SSLContext, limits: RelayLimits) -> None:
        super().__init__(listener, context=context, limits=limits)
        self._limits = limits
        self._runs: dict[bytes, _Run] = {}

    def _may_take(self, connection: R, key: bytes, party: int, n_parties: int) -> bool:
        """Return whether a connection may take this seat in the run of this digest."""
        del key, n_parties
        return party in connection.allowed

    def _handle(self, connection: R, address: int, body: memoryview) -> None:
        run = connection.run
        if run is None:
            self._join(connection, address, body)
        elif address == connection.party or not 0 <= address < run.n_parties or not run.was_complete:
            self._refuse(connection, MALFORMED)
        else:
            receiver = run.seats.get(address)
            if receiver is None or receiver.is_ending:
                # It left; the sender has been told, or will be.
                return
            self._send(receiver, record(connection.party, body))  # type: ignore[arg-type]  # seats are of this server
            self._hold(connection, receiver)  # type: ignore[arg-type]

    def _join(self, connection: R, address: int, body: memoryview) -> None:
        if address != RELAY or len(body) != JOIN.size:
            self._refuse(connection, MALFORMED)
            return
        magic, key, party, n_parties = JOIN.unpack(body)
        if magic != JOIN_MAGIC or not LEAST_PARTIES <= n_parties <= MOST_PARTIES or party >= n_parties:
            self._refuse(connection, MALFORMED)
            return
        if not self._may_take(connection, key, party, n_parties):
            self._refuse(connection, NOT_YOUR_SEAT)
            return
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = _Run(n_parties, {}, was_complete=False, last_byte=time.monotonic())
        problem = OTHER_NUMBER if run.n_parties != n_parties else RUN_OVER if run.was_complete else SEAT_TAKEN
        if run.n_parties != n_parties or party in run.seats or run.was_complete:
            # A seat that is taken in a complete run is the more telling reason.
            self._refuse(connection, SEAT_TAKEN if party in run.seats and run.n_parties == n_parties else problem)
            return
        for other in run.seats.values():
            self._send(other, _notice(PRESENT, party))  # type: ignore[arg-type]
            self._send(connection, _notice(PRESENT, other.party))
        connection.run, connection.run_key, connection.party = run, key, party
        connection.is_settled = True
        run.seats[party] = connection
        run.was_complete = len(run.seats) == n_parties

    def _moved(self, connection: R) -> None:
        if connection.run is not None:
            connection.run.last_byte = time.monotonic()

    def _malformed(self, connection: R) -> None:
        self._refuse(connection, MALFORMED)

    def _refuse(self, connection: R, reason: int) -> None:
        self._end(connection, _notice(REFUSED, reason))

    def _forget(self, connection: R) -> None:
        """Tell the others of its run."""
        run, connection.run = connection.run, None
        if run is None:
            return
        del run.seats[connection.party]
        if not run.seats:
            del self._runs[connection.run_key]
        for other in list(run.seats.values()):
            self._send(other, _notice(LEFT, connection.party))  # type: ignore[arg-type]

    def _sweep(self, now: float) -> None:
        for connection in list(self._connections):
            late = self._is_late(connection, now)
            if late and connection.reader is not None and not connection.is_ending:
                self._refuse(connection, TOO_LATE)
            elif late and (connection.is_ending or connection.reader is None):
                self._drop(connection)

    def _is_late(self, connection: R, now: float) -> bool:
        limits, run = self._limits, connection.run
        if connection.is_ending:
            return now - connection.ending_since > limits.greeting_seconds
        if run is None:
            return not connection.is_settled and now - connection.since > limits.greeting_seconds
        return now - run.last_byte > (limits.idle_seconds if run.was_complete else limits.gather_seconds)


class Relay(RunServer[RelayConnection]):
    """A relay on a listening socket.

    Parameters
    ----------
    listener
        Listens already.
    tls
        The relay's own certificate; trusted are the parties' (or their issuer's).
    seats
        By SHA-256 of a certificate (DER): the numbers that its holder may take.
    limits
        See `RelayLimits`.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        tls: TlsFiles,
        seats: Mapping[bytes, frozenset[int]],
        limits: RelayLimits | None = None,
    ) -> None:
        super().__init__(listener, context=tls.context(server_side=True), limits=limits or RelayLimits())
        self._seats = dict(seats)

    def _new_connection(self, stream: TlsStream, since: float) -> RelayConnection:
        return RelayConnection(stream, since)

    def _admit(self, connection: RelayConnection) -> None:
        der, _ = connection.stream.peer_certificate()
        connection.allowed = self._seats.get(hashlib.sha256(der).digest(), frozenset())
        if not connection.allowed:
            raise StreamViolated("its certificate is not listed")


def _notice(kind: bytes, number: int) -> bytes:
    return record(RELAY, NOTICE.pack(kind, number))
