"""Lines through a relay: one outbound connection, frames sealed from party to party.

Hospitals need no open port: each opens one mutual TLS 1.3 connection to the relay, which forwards records. The parties
agree on keys among themselves (`smpc.transport.handshake`) in the first record of each line; everything after that is
sealed (`smpc.transport.sealing`). The relay learns who takes part, when, and how much is sent; what it changes, drops,
doubles or sends back is rejected.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from privacy.randomness import Rng
from smpc.errors import FrameRejected, PeerUnavailable, ProtocolAbort, RelayUnavailable
from smpc.transport.certificates import TlsFiles
from smpc.transport.dial import dial
from smpc.transport.frames import HEADER_BYTES, Frame, decode_frame, encode_frame
from smpc.transport.handshake import HELLO_BYTES, Agreement, run_digest
from smpc.transport.pump import DEFAULT_PAYLOAD_BYTES, TURN_BYTES, NetworkTransport, Port
from smpc.transport.relay_wire import (
    JOIN,
    JOIN_MAGIC,
    LEFT,
    NOTICE,
    PRESENT,
    REASONS,
    REFUSED,
    RELAY,
    RecordReader,
    record,
)
from smpc.transport.roster import Identity, Roster
from smpc.transport.sealing import PIECE_BYTES, Opener, Sealer
from smpc.transport.streams import Stream, StreamEnded, StreamViolated, TlsStream

_TLS_RECORD_BYTES = 1 << 14
# Records of a peer that has the keys already, while we still wait for somebody's hello: its confirmation, and no more.
_MOST_EARLY_BYTES = 1 << 12
_LOOK_SECONDS = 0.5


class _Assembly:
    """Puts the pieces of one sender's frames together. Pieces are cut in one way only, so other cuts are refused."""

    def __init__(self, port: RelayPort, sender: int) -> None:
        self._port = port
        self._sender = sender
        self._header = b""
        self._payload: memoryview | None = None
        self._filled = 0

    @property
    def is_inside(self) -> bool:
        return self._payload is not None

    @property
    def promised(self) -> int:
        return 0 if self._payload is None else len(self._payload)

    def add(self, piece: bytes) -> None:
        if self._payload is None:
            header = piece[:HEADER_BYTES]
            length = self._port.checked_length(header, self._sender)
            self._check(len(piece) - HEADER_BYTES == min(length, PIECE_BYTES - HEADER_BYTES))
            if len(piece) - HEADER_BYTES == length:
                self._port.deliver(self._sender, header, memoryview(piece)[HEADER_BYTES:])
                return
            # Pages are backed by memory as they are written, so a promise alone costs none.
            self._header, self._payload, self._filled = header, np.empty(length, dtype=np.uint8).data, 0
            piece = piece[HEADER_BYTES:]
        else:
            self._check(len(piece) == min(len(self._payload) - self._filled, PIECE_BYTES))
        self._payload[self._filled : self._filled + len(piece)] = piece
        self._filled += len(piece)
        if self._filled == len(self._payload):
            payload, self._payload = self._payload, None
            self._port.deliver(self._sender, self._header, payload)

    def _check(self, fits: bool) -> None:  # noqa: FBT001 - one condition
        if not fits:
            raise FrameRejected("a frame is cut into other pieces than it should be", sender=self._sender)


class RelayPort(Port):
    """The connection to a relay, which carries the frames of all peers."""

    def __init__(self, stream: Stream, party: int, n_parties: int) -> None:
        super().__init__(stream, set(range(n_parties)) - {party})
        self._party = party
        self._reader = RecordReader()
        self._agreed = False
        self._early: dict[int, deque[bytes]] = {peer: deque() for peer in self.peers}
        self._greeted: set[int] = set()
        self._sealers: dict[int, Sealer] = {}
        self._openers: dict[int, Opener] = {}
        self._assemblies = {peer: _Assembly(self, peer) for peer in self.peers}
        self.present: set[int] = set()
        self._is_lost = False

    def join(self, run: str) -> None:
        """Ask for this party's seat in a run."""
        body = JOIN.pack(JOIN_MAGIC, run_digest(run), self._party, len(self.peers) + 1)
        self._outgoing.append(iter((record(RELAY, body),)))

    def protect(self, agreement: Agreement) -> None:
        """Seal and open everything from now on."""
        for peer in self.peers:
            sending, receiving = agreement.keys(peer)
            session_id = agreement.session_id
            self._sealers[peer] = Sealer(sending, session_id, sender=self._party, receiver=peer)
            self._openers[peer] = Opener(receiving, session_id, sender=peer, receiver=self._party)
        self._agreed = True
        for peer, early in self._early.items():
            while early:
                self._assemblies[peer].add(self._openers[peer].open(early.popleft()))

    def is_ahead(self) -> bool:
        """Return False: one sender cannot be kept waiting without the others. One too far ahead is refused instead."""
        return False

    def _encoded(self, receiver: int, frame: Frame) -> Iterator[bytes | memoryview]:
        header, payload = encode_frame(frame)
        if self._agreed:
            for sealed in self._sealers[receiver].seal_frame(header, payload):
                yield record(receiver, sealed)
        else:
            yield record(receiver, b"".join((header, payload)))

    def _read(self) -> None:
        left = TURN_BYTES
        while left > 0:
            try:
                n = self._reader.fill(self.stream)
                taken = self._reader.take() if n else None
                while taken is not None:
                    self._dispatch(*taken)
                    taken = self._reader.take()
            except StreamViolated as error:
                raise ProtocolAbort(f"the line to the relay was tampered with ({error})") from None
            except ValueError:
                raise ProtocolAbort("the relay sent a record that is too long") from None
            # A TLS record that is not full is the last one that came, as a rule; polling tells of any other.
            if n < _TLS_RECORD_BYTES and not self.stream.has_buffered:
                return
            left -= n

    def _dispatch(self, sender: int, body: memoryview) -> None:
        if sender == RELAY:
            self._notice(body)
        elif sender not in self.peers:
            raise ProtocolAbort("the relay sent a record of a party that does not take part")
        elif self._agreed:
            self._assemblies[sender].add(self._openers[sender].open(body))
            if (
                self.bytes_ahead(sender) + self._assemblies[sender].promised
                > 4 * self.most_payload[sender] + TURN_BYTES
            ):
                raise FrameRejected("it sends further ahead than any protocol needs", sender=sender)
        elif sender not in self._greeted:
            self._greeted.add(sender)
            if len(body) != HEADER_BYTES + HELLO_BYTES:
                raise FrameRejected("its first record is no hello", sender=sender)
            self.deliver(sender, bytes(body[:HEADER_BYTES]), bytes(body[HEADER_BYTES:]))
        else:
            early = self._early[sender]
            early.append(bytes(body))
            if sum(map(len, early)) > _MOST_EARLY_BYTES:
                raise FrameRejected("it sends more than a confirmation before all have said hello", sender=sender)

    def _notice(self, body: memoryview) -> None:
        if len(body) != NOTICE.size:
            raise ProtocolAbort("the relay sent a notice that is none")
        kind, number = NOTICE.unpack(body)
        if kind == REFUSED:
            raise ProtocolAbort(f"the relay refused this party: {REASONS.get(number, 'for no reason that is known')}")
        if number not in self.peers:
            raise ProtocolAbort("the relay sent a notice of a party that does not take part")
        if kind == PRESENT:
            self.present.add(number)
        elif kind == LEFT:
            inside = " in the middle of a frame" if self._assemblies[number].is_inside else ""
            self.gone.setdefault(number, f"it closed its connection{inside}")
        else:
            raise ProtocolAbort("the relay sent a notice that is none")

    def deliver(self, sender: int, header: bytes, payload: bytes | memoryview) -> None:
        """Put a frame into its sender's inbox."""
        try:
            self.inbox[sender].append(decode_frame(header, payload))
        except FrameRejected as error:
            raise FrameRejected(error.rule, sender=sender) from None

    def lost(self, reason: str) -> None:
        """Note that the relay is gone."""
        self._is_lost = True
        super().lost(f"the line to the relay ended ({reason})")

    def parted(self, peer: int) -> PeerUnavailable:
        """Return what to raise about a peer that is gone: it, or the relay, left."""
        reason = self.gone[peer]
        return RelayUnavailable(peer, reason=reason) if self._is_lost else PeerUnavailable(peer, reason=reason)


class RelayTransport(NetworkTransport):
    """Lines through a relay, sealed from party to party."""

    @classmethod
    def connect(
        cls,
        roster: Roster,
        identity: Identity,
        *,
        run: str,
        relay: tuple[str, int],
        relay_fingerprint: bytes,
        tls: TlsFiles,
        within: float = 60.0,
        max_payload_bytes: int = DEFAULT_PAYLOAD_BYTES,
        rng: Rng | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> RelayTransport:
        """Take one's seat at the relay, wait for all others, and agree on a session with them. Blocks.

        Parameters
        ----------
        relay
            Its host and port.
        relay_fingerprint
            SHA-256 of its certificate (DER), 32 bytes.
        tls
            This party's certificate, which the relay knows, and as trusted the relay's (or its issuer's).
        stopped
            Asked about twice a second while others are waited for; nothing is waited for any more when it returns True.

        The others as in `DirectTransport.connect`.

        Raises
        ------
        PeerUnavailable
            If the relay cannot be reached or a party does not come in time; the relay's failure is laid at the door of
            a party that cannot be reached without it.
        ProtocolAbort
            If the relay refuses this party, or shows another certificate; or if it was stopped.
        FrameRejected
            If a party is not who the roster lists, or has another roster or run.
        """
        identity.check_listed(roster)
        context = tls.context(server_side=False)
        began = time.monotonic()
        first = min(set(range(len(roster))) - {identity.party})

        def wrap(sock: socket.socket) -> Stream:
            return TlsStream(sock, context, server_side=False)

        try:
            stream = dial(*relay, wrap, within=within)
        except StreamEnded as error:
            raise RelayUnavailable(first, reason=f"the relay cannot be reached: {error}") from None
        except StreamViolated as error:
            raise ProtocolAbort(f"the relay is not the one that was expected ({error})") from None
        shown, _ = stream.peer_certificate()
        if not hmac.compare_digest(hashlib.sha256(shown).digest(), relay_fingerprint):
            stream.close()
            raise ProtocolAbort("the relay is not the one that was expected (another certificate)")
        port = RelayPort(stream, identity.party, len(roster))
        transport = cls(identity.party, (port,), max_payload_bytes=max_payload_bytes)
        try:
            port.join(run)
            deadline = began + within
            while port.unsent or port.present < port.peers:
                port.flush()
                for peer in sorted(port.gone):
                    raise port.parted(peer)  # noqa: TRY301 - closed below, as all are
                if stopped():
                    raise ProtocolAbort("this party does not wait for the others any more")  # noqa: TRY301 - as above
                soon = min(deadline, time.monotonic() + _LOOK_SECONDS)
                transport.wait(set(port.peers - port.present), soon, within, unsent=port.unsent)
        except BaseException:
            transport.close()
            raise
        transport.agree(roster, identity, run=run, within=max(0.0, deadline - time.monotonic()), rng=rng)
        return transport
