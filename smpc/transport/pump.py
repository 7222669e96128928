"""What network lines have in common: an exchange that sends and receives at the same time, and waits by itself.

A port is one byte stream to poll, and carries the frames of one or several peers. `exchange` blocks its thread: a party
runs its protocol in a thread or process of its own, and a short round then costs one write, one poll and one read, not
a turn of an event loop. While something is left to send, everything that arrives is read, up to a bound, so parties
that send each other more than the buffers between them hold do not wait for each other for ever.
"""

from __future__ import annotations

import math
import select
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from privacy.randomness import Rng
from smpc.errors import FrameRejected, PeerUnavailable, ProtocolAbort, SmpcError
from smpc.transport.frames import MAX_PAYLOAD_BYTES, OPERATION_BYTES, SESSION_ID_BYTES, Frame, payload_length
from smpc.transport.handshake import HELLO_BYTES, Agreement, Handshake
from smpc.transport.roster import Identity, Roster
from smpc.transport.streams import Stream, StreamEnded, StreamViolated

DEFAULT_PAYLOAD_BYTES = 2**30
# Reading and writing take turns of this size.
TURN_BYTES = 1 << 18
# How often a party that waits looks whether it is to stop.
_LOOK_SECONDS = 0.5

_HELLO_OPERATION = b"hello".ljust(OPERATION_BYTES, b"\0")
_CONFIRM_OPERATION = b"confirm".ljust(OPERATION_BYTES, b"\0")
_NO_SESSION = bytes(SESSION_ID_BYTES)


class Port(ABC):
    """One stream and the peers whose frames it carries.

    Parameters
    ----------
    stream
        Connected, its own handshake done.
    peers
        Numbers of the parties at the other end.
    """

    def __init__(self, stream: Stream, peers: Iterable[int]) -> None:
        self.stream = stream
        self.peers = frozenset(peers)
        self.inbox: dict[int, deque[Frame]] = {peer: deque() for peer in self.peers}
        # Why a peer can send nothing more.
        self.gone: dict[int, str] = {}
        # Whether the stream ended with something left to send.
        self.is_cut = False
        # Before a peer has proved who it is, no more than a hello is taken from it.
        self.most_payload = dict.fromkeys(self.peers, HELLO_BYTES)
        # Looks at what a peer sent as proof, if it is here, and raises its limit. One peer may have heard from all, and
        # send its first frame, while this party still waits for another's proof.
        self.prove: Callable[[int], None] = lambda _peer: None
        self._outgoing: deque[Iterator[bytes | memoryview]] = deque()
        self._current = memoryview(b"")

    @property
    def unsent(self) -> bool:
        """Whether something is left to send."""
        return bool(self._current) or bool(self._outgoing)

    def queue(self, receiver: int, frame: Frame) -> None:
        """Take a frame to send. Its payload is not copied."""
        if receiver in self.gone:
            raise self.parted(receiver)
        if frame.payload.nbytes > self.most_payload[receiver]:
            raise ValueError(
                f"the payload has {frame.payload.nbytes} bytes, this line carries {self.most_payload[receiver]}: raise "
                "max_payload_bytes at all parties, or send parts"
            )
        self._outgoing.append(self._encoded(receiver, frame))

    def flush(self) -> None:
        """Send what the stream takes, one turn at most."""
        left = TURN_BYTES
        try:
            while left > 0:
                if not self._current and not self._next():
                    return
                sent = self.stream.send(self._current)
                if sent == 0:
                    return
                self._current = self._current[sent:]
                left -= sent
            if not self._current:
                # A frame whose last byte ended this turn is sent: a peer that goes now has all it needs.
                self._next()
        except (StreamEnded, StreamViolated) as error:
            self.lost(str(error))

    def _next(self) -> bool:
        while self._outgoing:
            piece = next(self._outgoing[0], None)
            if piece is not None:
                self._current = memoryview(piece)
                return True
            self._outgoing.popleft()
        return False

    def lost(self, reason: str) -> None:
        """Note that the stream ended: none of its peers is heard again, and nothing more can be sent."""
        for peer in self.peers:
            self.gone.setdefault(peer, reason)
        self.is_cut = self.is_cut or self.unsent
        self._outgoing.clear()
        self._current = memoryview(b"")

    def parted(self, peer: int) -> PeerUnavailable:
        """Return what to raise about a peer that is gone."""
        return PeerUnavailable(peer, reason=self.gone[peer])

    def pull(self) -> None:
        """Read what is there, one turn at most, into the inbox.

        Raises
        ------
        FrameRejected
            If it is not what a peer sent.
        """
        try:
            self._read()
        except StreamEnded as error:
            self.lost(str(error))

    def is_ahead(self) -> bool:
        """Whether so much came before it was asked for that no more is read."""
        return any(self.bytes_ahead(peer) >= 2 * self.most_payload[peer] for peer in self.peers)

    def bytes_ahead(self, peer: int) -> int:
        """Return how many bytes of a peer's frames wait to be asked for."""
        return sum(frame.n_bytes for frame in self.inbox[peer])

    def checked_length(self, header: bytes, sender: int) -> int:
        """Return the length of the payload that a header announces, before memory is asked for.

        Raises
        ------
        FrameRejected
            If it is no header, or announces more than this line carries.
        """
        try:
            length = payload_length(header)
        except FrameRejected as error:
            raise FrameRejected(error.rule, sender=sender) from None
        if length > self.most_payload[sender]:
            self.prove(sender)
        if length > self.most_payload[sender]:
            raise FrameRejected("the payload is larger than this line carries", sender=sender)
        return length

    @abstractmethod
    def _encoded(self, receiver: int, frame: Frame) -> Iterator[bytes | memoryview]:
        """Yield the bytes that stand for a frame."""

    @abstractmethod
    def _read(self) -> None:
        """Read one turn; put complete frames into the inbox."""

    @abstractmethod
    def protect(self, agreement: Agreement) -> None:
        """Use the keys that the parties agreed on, where the stream itself does not reach from party to party."""


class NetworkTransport:
    """One party's lines over the network. Made by the `connect` of a kind of line.

    Parameters
    ----------
    party
        This party's number.
    ports
        Their peers together are all other parties.

    Raises
    ------
    ValueError
        If `max_payload_bytes` is not in 1..2^34.
    """

    def __init__(self, party: int, ports: Sequence[Port], *, max_payload_bytes: int = DEFAULT_PAYLOAD_BYTES) -> None:
        if not 1 <= max_payload_bytes <= MAX_PAYLOAD_BYTES:
            raise ValueError(f"max_payload_bytes must be in 1..{MAX_PAYLOAD_BYTES}, got {max_payload_bytes!r}")
        self.party = party
        self._max_payload_bytes = max_payload_bytes
        self._ports = list(ports)
        self._port_of = {peer: port for port in ports for peer in port.peers}
        self._session_id = b""
        self._closed = False
        self._failure: SmpcError | None = None
        self._stopped: Callable[[], bool] = lambda: False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(party={self.party}, session_id={self._session_id.hex()})"

    @property
    def n_parties(self) -> int:
        """Number of parties, this one included."""
        return len(self._port_of) + 1

    @property
    def session_id(self) -> bytes:
        """16 bytes that all parties agreed on when they connected, fresh for this run."""
        return self._session_id

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """End whatever exchange goes on once `stopped` returns True: it raises ProtocolAbort, and the lines are closed.

        Parameters
        ----------
        stopped
            Asked at every exchange, and about twice a second while one waits.
        """
        self._stopped = stopped

    async def exchange(
        self, outgoing: Mapping[int, Frame], senders: frozenset[int], *, within: float
    ) -> dict[int, Frame]:
        """Send frame i to party i, and return the next frame from each of `senders`. Blocks its thread.

        After an error the lines are closed, so that the others learn of it at once.

        Raises
        ------
        FrameRejected, PeerUnavailable
            As every transport. ProtocolAbort, if this party closed its lines before.
        """
        return self.exchange_blocking(outgoing, senders, within=within)

    def exchange_blocking(
        self, outgoing: Mapping[int, Frame], senders: frozenset[int], *, within: float
    ) -> dict[int, Frame]:
        """As `exchange`, for a caller without an event loop."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        if self._closed:
            raise ProtocolAbort("this party closed its lines")
        if not (outgoing.keys() | senders) <= self._port_of.keys():
            raise ValueError("frames go to and come from the other parties of the run only")
        try:
            for receiver, frame in outgoing.items():
                self._port_of[receiver].queue(receiver, frame)
            self._pump(senders, time.monotonic() + within, within)
        except SmpcError as error:
            self._failure = error
            self.close()
            raise
        return {sender: self._port_of[sender].inbox[sender].popleft() for sender in senders}

    def arrived(self, sender: int) -> Frame | None:
        """Return the next frame from a party if it is here, None if it is not: nothing is waited for.

        For one who serves many lines: after None, nothing comes before one of `descriptors` can be read.

        Raises
        ------
        FrameRejected, PeerUnavailable, ProtocolAbort
            As `exchange`.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        if self._closed:
            raise ProtocolAbort("this party closed its lines")
        port = self._port_of[sender]
        try:
            while not port.inbox[sender] and sender not in port.gone:
                port.pull()
                if not port.stream.has_buffered:
                    break
            if not port.inbox[sender] and sender in port.gone:
                raise port.parted(sender)
        except SmpcError as error:
            self._failure = error
            self.close()
            raise
        return port.inbox[sender].popleft() if port.inbox[sender] else None

    @property
    def descriptors(self) -> list[int]:
        """What to poll for `arrived`."""
        return [port.stream.fileno() for port in self._ports]

    @property
    def max_payload_bytes(self) -> int:
        """Longest payload that is sent or taken."""
        return self._max_payload_bytes

    def _pump(self, senders: frozenset[int], deadline: float, within: float) -> None:
        """Send and read until nothing is left to send and each sender's next frame is here."""
        while True:
            if self._stopped():
                raise ProtocolAbort("this party was told to stop")
            unsent = False
            for port in self._ports:
                if port.unsent:
                    port.flush()
                    unsent = unsent or port.unsent
            missing = self._missing(senders)
            for port in self._ports:
                if port.stream.has_buffered and self._reads(port, missing, unsent=unsent):
                    port.pull()
                    missing = self._missing(senders)
            for port in self._ports:
                for peer in port.gone:
                    # A peer that has all it needs, and from whom nothing is missing, may go.
                    if peer in missing or port.is_cut:
                        raise port.parted(peer)
            if not missing and not unsent:
                return
            self.wait(missing, deadline, within, unsent=unsent)

    def _missing(self, senders: frozenset[int]) -> set[int]:
        return {sender for sender in senders if not self._port_of[sender].inbox[sender]}

    @staticmethod
    def _reads(port: Port, missing: set[int], *, unsent: bool) -> bool:
        if len(port.gone) == len(port.peers):
            return False
        return not port.peers.isdisjoint(missing) or (unsent and not port.is_ahead())

    def wait(self, missing: set[int], deadline: float, within: float, *, unsent: bool) -> None:
        """Sleep until a port can go on, and read from those that can.

        Raises
        ------
        PeerUnavailable
            If the deadline passes; names the first of the missing.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            # Also if something came: one who sends a byte now and then must not keep us for ever.
            raise self._timed_out(missing, within)
        poll = select.poll()
        by_descriptor = {}
        for port in self._ports:
            reads = self._reads(port, missing, unsent=unsent)
            if reads and port.stream.has_buffered:
                return
            events = (select.POLLIN if reads else 0) | (select.POLLOUT if port.unsent else 0)
            if events:
                by_descriptor[port.stream.fileno()] = port
                poll.register(port.stream.fileno(), events)
        for descriptor, events in poll.poll(math.ceil(min(left, _LOOK_SECONDS) * 1000)):
            if events & ~select.POLLOUT:
                by_descriptor[descriptor].pull()

    def _timed_out(self, missing: set[int], within: float) -> PeerUnavailable:
        if missing:
            return PeerUnavailable(min(missing), reason=f"nothing arrived within {within:g} s")
        stuck = min(peer for port in self._ports if port.unsent for peer in port.peers)
        return PeerUnavailable(stuck, reason=f"it did not read what was sent within {within:g} s")

    def close(self) -> None:
        """Tell the others that nothing more will come."""
        if not self._closed:
            self._closed = True
            for port in self._ports:
                port.stream.close()

    def finish(self, *, within: float = 5.0) -> None:
        """Close after a run that went well: what was sent reaches the others, if they end, too, within some seconds.

        A socket that is closed while something unread comes in would throw away what is still on its way out.
        """
        for port in self._ports:
            port.stream.end()
        deadline = time.monotonic() + within
        open_ports = [port for port in self._ports if not port.stream.drain()]
        while open_ports and (left := deadline - time.monotonic()) > 0:
            poll = select.poll()
            for port in open_ports:
                poll.register(port.stream.fileno(), select.POLLIN)
            poll.poll(math.ceil(min(left, _LOOK_SECONDS) * 1000))
            open_ports = [port for port in open_ports if not port.stream.drain()]
        self.close()

    def agree(self, roster: Roster, identity: Identity, *, run: str, within: float, rng: Rng | None = None) -> None:
        """Agree on a session with all others, each proving who it is.

        Raises
        ------
        FrameRejected
            If a party is not who the roster lists, or has another roster or run, or was told other hellos.
        PeerUnavailable
            If a party closed its line or kept silent.
        """
        peers = frozenset(self._port_of)
        try:
            handshake = Handshake(roster, identity, run=run, rng=rng)
            hello = self._words(_NO_SESSION, _HELLO_OPERATION, handshake.hello)
            heard = self.exchange_blocking(dict.fromkeys(peers, hello), peers, within=within)
            agreement = handshake.agree({peer: frame.payload.tobytes() for peer, frame in heard.items()})
            for port in self._ports:
                port.protect(agreement)
            signed = {
                peer: self._words(agreement.session_id, _CONFIRM_OPERATION, agreement.confirmation(peer))
                for peer in peers
            }

            def prove(peer: int) -> None:
                port = self._port_of[peer]
                if port.inbox[peer] and port.most_payload[peer] < self._max_payload_bytes:
                    agreement.check_confirmation(peer, port.inbox[peer][0].payload.tobytes())
                    port.most_payload[peer] = self._max_payload_bytes

            for port in self._ports:
                port.prove = prove
            for peer, frame in self.exchange_blocking(signed, peers, within=within).items():
                agreement.check_confirmation(peer, frame.payload.tobytes())
        except BaseException:
            self.close()
            raise
        for port in self._ports:
            port.prove = lambda _peer: None
            port.most_payload = dict.fromkeys(port.peers, self._max_payload_bytes)
        self._session_id = agreement.session_id

    def _words(self, session_id: bytes, operation: bytes, payload: bytes) -> Frame:
        return Frame(session_id, operation, 0, self.party, np.frombuffer(payload, dtype=np.uint8))
