"""Direct lines: one TCP connection for each pair of parties, inside mutual TLS 1.3 or (insecure) as it is.

On the stream, frames follow each other, header and payload. A short frame is one write and, as a rule, one read; a
long payload is read straight into the array that the protocol gets.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import numpy as np

from privacy.randomness import Rng
from smpc.errors import FrameRejected
from smpc.transport.certificates import TlsFiles, belongs_to
from smpc.transport.dial import connect_all
from smpc.transport.frames import HEADER_BYTES, Frame, decode_frame, encode_frame
from smpc.transport.handshake import Agreement
from smpc.transport.pump import DEFAULT_PAYLOAD_BYTES, TURN_BYTES, NetworkTransport, Port
from smpc.transport.roster import Identity, Roster
from smpc.transport.streams import PlainStream, Stream, StreamViolated, TlsStream

_BUFFER_BYTES = 1 << 16
# What goes out together with the header: a TLS record holds 16 KiB.
_FIRST_BYTES = (1 << 14) - HEADER_BYTES


class FramePort(Port):
    """A stream to one peer on which frames follow each other."""

    def __init__(self, stream: Stream, peer: int) -> None:
        super().__init__(stream, (peer,))
        self._peer = peer
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0
        # A payload that is too long for the buffer goes to its own place.
        self._header = b""
        self._payload: memoryview | None = None
        self._filled = 0

    def _encoded(self, receiver: int, frame: Frame) -> Iterator[bytes | memoryview]:
        del receiver
        header, payload = encode_frame(frame)
        yield b"".join((header, payload[:_FIRST_BYTES]))
        if len(payload) > _FIRST_BYTES:
            yield payload[_FIRST_BYTES:]

    def _read(self) -> None:
        left = TURN_BYTES
        had = len(self.inbox[self._peer])
        # A frame is enough: what follows belongs to a later round, and asking for it would cost a call.
        while left > 0 and len(self.inbox[self._peer]) == had:
            space = self._buffer[self._end :] if self._payload is None else self._payload[self._filled :]
            try:
                n = self.stream.receive_into(space)
            except StreamViolated as error:
                raise FrameRejected(str(error), sender=self._peer) from None
            if n == 0:
                return
            left -= n
            if self._payload is None:
                self._end += n
                self._parse()
            else:
                self._filled += n
                if self._filled == len(self._payload):
                    self._deliver(self._header, self._payload)
                    self._payload = None

    def _parse(self) -> None:
        while self._end - self._start >= HEADER_BYTES:
            body = self._start + HEADER_BYTES
            header = bytes(self._buffer[self._start : body])
            length = self.checked_length(header, self._peer)
            if self._end - body >= length:
                self._deliver(header, bytes(self._buffer[body : body + length]))
                self._start = body + length
            elif HEADER_BYTES + length <= _BUFFER_BYTES:
                break
            else:
                self._filled = self._end - body
                # Pages are backed by memory as they are written, so a promise alone costs none.
                self._header, self._payload = header, np.empty(length, dtype=np.uint8).data
                self._payload[: self._filled] = self._buffer[body : self._end]
                self._start = self._end
        rest = self._end - self._start
        if self._start and rest:
            self._buffer[:rest] = bytes(self._buffer[self._start : self._end])
        self._start, self._end = 0, rest

    def _deliver(self, header: bytes, payload: bytes | memoryview) -> None:
        try:
            self.inbox[self._peer].append(decode_frame(header, payload))
        except FrameRejected as error:
            raise FrameRejected(error.rule, sender=self._peer) from None

    def protect(self, agreement: Agreement) -> None:
        """Do nothing: the stream reaches from party to party, and TLS protects it (or, by its name, nothing does)."""

    def lost(self, reason: str) -> None:
        """Note that the stream ended, perhaps in the middle of a frame."""
        cut = self._payload is not None or self._end > self._start
        super().lost(f"{reason} in the middle of a frame" if cut else reason)


class DirectTransport(NetworkTransport):
    """Lines inside mutual TLS 1.3, each peer's certificate checked against the roster."""

    @classmethod
    def connect(
        cls,
        roster: Roster,
        identity: Identity,
        *,
        run: str,
        tls: TlsFiles,
        listener: socket.socket | None = None,
        within: float = 60.0,
        max_payload_bytes: int = DEFAULT_PAYLOAD_BYTES,
        rng: Rng | None = None,
    ) -> DirectTransport:
        """Connect with all parties of a roster and agree on a session. Blocks.

        Parameters
        ----------
        roster, identity
            All parties, and this party's own key.
        run
            Public name of the run, the same at all parties.
        tls
            This party's certificate, and those that it trusts.
        listener
            Socket that listens already; by default one is made at this party's address in the roster.
        within
            Seconds for everything.
        max_payload_bytes
            Longest payload that is sent or taken; announced longer ones are refused before memory is asked for.
        rng
            Where the nonce comes from; by default the operating system.

        Raises
        ------
        PeerUnavailable
            If a party cannot be reached, or shows another certificate than the roster's.
        FrameRejected
            If a party is not who the roster lists, or has another roster or run.
        ValueError
            If the files or the roster do not fit this party.
        """
        identity.check_listed(roster)
        contexts = {side: tls.context(server_side=side) for side in (False, True)}

        def wrap(sock: socket.socket, *, server_side: bool) -> Stream:
            return TlsStream(sock, contexts[server_side], server_side=server_side)

        def is_peer(stream: Stream, party: int) -> bool:
            return belongs_to(roster[party], *stream.peer_certificate())

        began = time.monotonic()
        streams = connect_all(roster, identity.party, wrap=wrap, is_peer=is_peer, listener=listener, within=within)
        ports = [FramePort(stream, peer) for peer, stream in streams.items()]
        transport = cls(identity.party, ports, max_payload_bytes=max_payload_bytes)
        transport.agree(roster, identity, run=run, within=max(0.0, began + within - time.monotonic()), rng=rng)
        return transport


class InsecurePlainTransport(NetworkTransport):
    """Lines over TCP as it is: whoever is on the way reads and changes everything. For benchmarks and tests.

    The signed handshake still runs, so parties agree on a session; it protects nothing that comes after it.
    """

    @classmethod
    def connect(
        cls,
        roster: Roster,
        identity: Identity,
        *,
        run: str,
        listener: socket.socket | None = None,
        within: float = 60.0,
        max_payload_bytes: int = DEFAULT_PAYLOAD_BYTES,
        rng: Rng | None = None,
    ) -> InsecurePlainTransport:
        """Connect with all parties of a roster and agree on a session. Parameters and errors as `DirectTransport`."""
        identity.check_listed(roster)

        def wrap(sock: socket.socket, *, server_side: bool) -> Stream:
            del server_side
            return PlainStream(sock)

        began = time.monotonic()
        streams = connect_all(
            roster, identity.party, wrap=wrap, is_peer=lambda _stream, _party: True, listener=listener, within=within
        )
        ports = [FramePort(stream, peer) for peer, stream in streams.items()]
        transport = cls(identity.party, ports, max_payload_bytes=max_payload_bytes)
        transport.agree(roster, identity, run=run, within=max(0.0, began + within - time.monotonic()), rng=rng)
        return transport
