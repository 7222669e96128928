"""What waits on a member's line to be sent, filled by any thread and emptied by the line's.

Notices go first. Then each receiver has its own queue, and one record of each is sent in turn, so a short message does
not wait behind a long one to somebody else; messages to one receiver keep their order. Messages to the hub are kept
until the hub has confirmed them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from smpc.transport.relay_wire import RELAY, record
from synthema.errors import SynthemaError
from synthema.messages import Head, encode


class LineBusy(SynthemaError):
    """More waits to be sent than the line keeps: the network is slower than what is asked of it."""


@dataclass(slots=True, eq=False, repr=False)
class _Outgoing:
    pieces: Iterator[bytes]
    n_bytes: int


class Outbox:
    """Queues of one line.

    Parameters
    ----------
    most_bytes
        Of payloads that wait, and of those that the hub has not confirmed.
    first_id
        Of the first message.
    """

    def __init__(self, most_bytes: int, first_id: int) -> None:
        self._most_bytes = most_bytes
        self._next_id = first_id
        self._lock = threading.Lock()
        self._urgent: deque[bytes] = deque()
        self._queues: dict[int, deque[_Outgoing]] = {}
        self._queued_bytes = 0
        # By id, in the order in which they were sent.
        self._unconfirmed: dict[int, tuple[Head, bytes]] = {}
        self._unconfirmed_bytes = 0

    def put(self, number: int, head: Head, payload: bytes) -> None:
        """Queue a message to a member or, `RELAY`, to the hub. Raises LineBusy, or ValueError for too long a head."""
        with self._lock:
            if self._queued_bytes + self._unconfirmed_bytes + len(payload) > self._most_bytes:
                raise LineBusy(f"more than {self._most_bytes} bytes wait to be sent")
            message_id = self._next_id
            self._queue(number, message_id, head, payload)
            self._next_id += 1
            if number == RELAY:
                self._unconfirmed[message_id] = (head, payload)
                self._unconfirmed_bytes += len(payload)

    def _queue(self, number: int, message_id: int, head: Head, payload: bytes) -> None:
        outgoing = _Outgoing(encode(message_id, head, payload), len(payload))
        self._queues.setdefault(number, deque()).append(outgoing)
        self._queued_bytes += len(payload)

    @property
    def is_confirmed(self) -> bool:
        """Whether the hub has confirmed all that it was sent."""
        return not self._unconfirmed

    def put_notice(self, body: bytes) -> None:
        """Queue a notice to the hub, before all else."""
        with self._lock:
            self._urgent.append(record(RELAY, body))

    def confirm(self, message_id: int) -> None:
        """Forget a message that the hub has."""
        with self._lock:
            _, payload = self._unconfirmed.pop(message_id, (None, b""))
            self._unconfirmed_bytes -= len(payload)

    def drop(self, number: int) -> None:
        """Throw away what waits for a member that is gone."""
        with self._lock:
            for outgoing in self._queues.pop(number, ()):
                self._queued_bytes -= outgoing.n_bytes

    def restart(self) -> None:
        """Throw away what belonged to the connection before, and queue again what the hub has not confirmed."""
        with self._lock:
            self._urgent.clear()
            self._queues.clear()
            self._queued_bytes = 0
            for message_id, (head, payload) in self._unconfirmed.items():
                self._queue(RELAY, message_id, head, payload)

    def next_record(self) -> bytes | None:
        """Return the record to send next, or None."""
        with self._lock:
            if self._urgent:
                return self._urgent.popleft()
            while self._queues:
                number, queue = next(iter(self._queues.items()))
                piece = next(queue[0].pieces, None)
                # To the end of the order, if it has more.
                del self._queues[number]
                if piece is None:
                    self._queued_bytes -= queue.popleft().n_bytes
                if queue:
                    self._queues[number] = queue
                if piece is not None:
                    return record(number, piece)
            return None
