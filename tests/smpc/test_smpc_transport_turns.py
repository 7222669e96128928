"""A frame whose last byte ends a turn is sent: nothing of it counts as left to send."""

import numpy as np
import pytest

from smpc.transport.direct import FramePort
from smpc.transport.frames import HEADER_BYTES, Frame
from smpc.transport.pump import TURN_BYTES


class _Wire:
    """Takes all that it is given."""

    def __init__(self):
        self.taken = 0

    def send(self, data):
        self.taken += len(data)
        return len(data)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_frame_that_fills_its_turn_leaves_nothing_to_send(extra):
    wire = _Wire()
    port = FramePort(wire, 1)
    port.most_payload[1] = 2 * TURN_BYTES
    length = TURN_BYTES - HEADER_BYTES + extra
    port.queue(1, Frame(bytes(16), bytes(8), 0, 0, np.zeros(length, dtype=np.uint8)))
    port.flush()
    assert wire.taken == HEADER_BYTES + length
    assert not port.unsent
    port.lost("it closed its connection")
    assert not port.is_cut


def test_what_does_not_fit_into_a_turn_is_left_to_send():
    wire = _Wire()
    port = FramePort(wire, 1)
    port.most_payload[1] = 4 * TURN_BYTES
    for _ in range(2):
        port.queue(1, Frame(bytes(16), bytes(8), 0, 0, np.zeros(TURN_BYTES, dtype=np.uint8)))
    port.flush()
    assert port.unsent
    port.lost("it closed its connection")
    assert port.is_cut
