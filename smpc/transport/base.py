"""What a protocol asks of the lines between the parties: one exchange of frames at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from smpc.transport.frames import Frame


class Transport(Protocol):
    """One party's lines to all the others.

    A protocol is a sequence of rounds, the same at every party. In each, a party sends one frame to some or all others
    and waits for one frame from some or all of them, so a transport need not know how a stream of messages is to be
    understood, and one that sends and receives at the same time never blocks on a full buffer.
    """

    async def exchange(
        self, outgoing: Mapping[int, Frame], senders: frozenset[int], *, within: float
    ) -> dict[int, Frame]:
        """Send frame i to party i, and return the next frame from each of `senders`.

        Parameters
        ----------
        outgoing
            By receiver. Buffers are not copied: they must not change until all receivers are known to be done.
        senders
            Parties that are waited for.
        within
            Seconds after which a silent party is given up.

        Raises
        ------
        FrameRejected
            If a frame is malformed, or not what its sender sent.
        PeerUnavailable
            If a party closed its line, or sent nothing in time.
        """
        ...

    def close(self) -> None:
        """Tell the others that nothing more will come."""
        ...
