"""Lines through memory, for parties that run in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from smpc.errors import FrameRejected, PeerUnavailable
from smpc.transport.frames import Frame, decode_frame, encode_frame

# None is the end of the line.
_Line = asyncio.Queue[tuple[bytes, memoryview] | None]


class InProcessTransport:
    """Lines through memory. Frames are encoded and parsed as on any line, so what one refuses the other refuses."""

    def __init__(self, party: int, lines: dict[tuple[int, int], _Line]) -> None:
        self._party = party
        self._lines = lines

    @classmethod
    def connect(cls, n_parties: int) -> list[InProcessTransport]:
        """Return one transport for each of `n_parties`, all connected with each other."""
        pairs = [(i, j) for i in range(n_parties) for j in range(n_parties) if i != j]
        lines: dict[tuple[int, int], _Line] = {pair: asyncio.Queue() for pair in pairs}
        return [cls(party, lines) for party in range(n_parties)]

    async def exchange(
        self, outgoing: Mapping[int, Frame], senders: frozenset[int], *, within: float
    ) -> dict[int, Frame]:
        """Send frame i to party i, and return the next frame from each of `senders`."""
        for receiver, frame in outgoing.items():
            self._send(receiver, frame)
        deadline = asyncio.get_running_loop().time() + within
        received = {}
        for sender in sorted(senders):
            try:
                async with asyncio.timeout_at(deadline):
                    received[sender] = await self._receive(sender)
            except TimeoutError:
                raise PeerUnavailable(sender, reason=f"nothing arrived within {within:g} s") from None
        return received

    def _send(self, receiver: int, frame: Frame) -> None:
        self._lines[self._party, receiver].put_nowait(encode_frame(frame))

    async def _receive(self, sender: int) -> Frame:
        line = self._lines[sender, self._party]
        buffers = await line.get()
        if buffers is None:
            line.put_nowait(None)
            raise PeerUnavailable(sender, reason="it closed its connection")
        try:
            return decode_frame(*buffers)
        except FrameRejected as error:
            raise FrameRejected(error.rule, sender=sender) from None

    def close(self) -> None:
        """Tell the others that nothing more will come."""
        for (sender, _), line in self._lines.items():
            if sender == self._party:
                line.put_nowait(None)
