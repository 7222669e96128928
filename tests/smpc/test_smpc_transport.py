import asyncio
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpc import FrameRejected, PartyFailed, PeerUnavailable, run_local
from smpc.ring import P61
from smpc.transport import HEADER_BYTES, Frame, InProcessTransport, decode_frame, encode_frame, payload_length

SESSION, OPERATION = b"s" * 16, b"o" * 8


def frame(payload, step=0, sender=1):
    return Frame(SESSION, OPERATION, step, sender, payload)


@given(
    shape=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    dtype=st.sampled_from(["<u8", "u1"]),
    step=st.integers(0, 2**64 - 1),
    sender=st.integers(0, 2**16 - 1),
)
def test_a_frame_comes_back_as_it_was(shape, dtype, step, sender):
    payload = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)
    header, raw = encode_frame(frame(payload, step, sender))
    assert payload_length(header) == len(raw)
    back = decode_frame(header, raw)
    assert (back.session_id, back.operation, back.step, back.sender) == (SESSION, OPERATION, step, sender)
    assert back.payload.dtype == payload.dtype
    assert back.payload.shape == payload.shape
    assert back.payload.tolist() == payload.tolist()
    assert back.n_bytes == len(header) + len(raw)
    # Also where the bytes were read into a buffer that could be overwritten.
    assert not back.payload.flags.writeable
    assert not decode_frame(header, memoryview(bytearray(raw))).payload.flags.writeable


@given(data=st.data())
def test_mutated_frames_are_rejected_or_mean_exactly_what_they_say(data):
    header, raw = encode_frame(frame(np.arange(6, dtype=np.uint64).reshape(2, 3)))
    whole = bytearray(header + bytes(raw))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)) | st.just(len(whole)))
    _check_strict(bytes(whole[:cut]) + data.draw(st.binary(max_size=2)))


@given(data=st.binary(max_size=HEADER_BYTES + 20) | st.binary(max_size=80).map(lambda rest: b"SYF1" + rest))
def test_arbitrary_bytes_are_rejected_or_mean_exactly_what_they_say(data):
    _check_strict(data)


def _check_strict(data):
    """A parser is strict if what it accepts is what the encoder writes."""
    try:
        decoded = decode_frame(data[:HEADER_BYTES], data[HEADER_BYTES:])
    except FrameRejected:
        return
    header, raw = encode_frame(decoded)
    assert header + bytes(raw) == data


def _patched(at, value):
    header, raw = encode_frame(frame(np.arange(6, dtype=np.uint64).reshape(2, 3)))
    return header[:at] + value + header[at + len(value) :], raw


@pytest.mark.parametrize(
    ("at", "value", "rule"),
    [
        (0, b"SYF2", "mark"),
        (38, b"\x00", "type"),
        (38, b"\x03", "type"),
        (38, b"\x02", "long"),
        (39, b"\x00", "axes"),
        (39, b"\x05", "axes"),
        (39, b"\x01", "axes"),
        (40, b"\x03", "long"),
        (40, b"\xff" * 8, "large"),
        (40, b"\x00\x00\x00\x00\x00\x00\x00\x80", "large"),
        (56, b"\x01", "axes"),
    ],
)
def test_each_wrong_field_is_rejected_with_its_rule(at, value, rule):
    with pytest.raises(FrameRejected, match=rule):
        decode_frame(*_patched(at, value))


def test_a_promise_of_more_than_fits_in_memory_is_rejected_from_the_header_alone():
    header, _ = _patched(40, b"\x00" * 6 + b"\x01\x00")
    with pytest.raises(FrameRejected, match="large"):
        payload_length(header)


def test_lengths_that_wrap_to_a_small_product_are_rejected():
    # 2^63 * 2 is 0 in 64-bit arithmetic, and 0 axes elsewhere must not hide a large one.
    for lengths in ((2**63, 2), (2**63, 0)):
        header, _ = _patched(40, b"".join(n.to_bytes(8, "little") for n in lengths))
        with pytest.raises(FrameRejected, match="large"):
            decode_frame(header, b"")


@pytest.mark.parametrize(
    "payload", [np.zeros(3), np.array(1, dtype=np.uint64), np.zeros((1,) * 5, np.uint64), object()]
)
def test_payloads_of_other_kinds_are_not_sent(payload):
    with pytest.raises(ValueError, match="payload"):
        encode_frame(frame(np.asarray(payload)))


def test_a_frame_shows_no_payload():
    assert repr(frame(np.array([7777], np.uint64))) == "Frame(step=0, sender=1, shape=(1,), dtype=uint64)"


# On the line between two parties.


class Tampering(InProcessTransport):
    """A line whose frames from party 1 to party 0 pass through `change(frames so far)`."""

    change = None

    def __init__(self, party, lines):
        super().__init__(party, lines)
        self.sent = []

    def _send(self, receiver, frame):
        if self._party == 1 and receiver == 0:
            self.sent.append(frame)
            for changed in type(self).change(self.sent):
                self._lines[1, 0].put_nowait(changed)
        else:
            super()._send(receiver, frame)


def _remade(frame, **changes):
    fields = {name: getattr(frame, name) for name in ("session_id", "operation", "step", "sender", "payload")}
    return encode_frame(Frame(**{**fields, **changes}))


def _seed_of(*shape):
    """What asks the receiver to expand a seed to an array of that shape."""
    return np.frombuffer(bytes(32) + struct.pack(f"<{len(shape)}Q", *shape), dtype=np.uint8)


CHANGES = {
    "replayed": (lambda sent: [encode_frame(sent[max(len(sent) - 2, 0)])], "numbered 0, step 1"),
    "doubled": (lambda sent: [encode_frame(sent[-1])] * 2, "numbered 0, step 1"),
    "early": (lambda sent: [_remade(sent[-1], step=sent[-1].step + 1)], "numbered 1, step 0"),
    "of another session": (lambda sent: [_remade(sent[-1], session_id=b"x" * 16)], "another session"),
    "of another sender": (lambda sent: [_remade(sent[-1], sender=2)], "another sender"),
    "for another operation": (lambda sent: [_remade(sent[-1], operation=b"x" * 8)], "something else"),
    "with another length": (
        lambda sent: [_remade(sent[-1], payload=sent[-1].payload[:-1])] if len(sent) == 2 else [encode_frame(sent[-1])],
        "does not hold the shares",
    ),
    "with words that are no elements": (
        lambda sent: (
            [_remade(sent[-1], payload=np.full(2, P61, np.uint64).view(np.uint8))]
            if len(sent) == 2
            else [encode_frame(sent[-1])]
        ),
        "no elements",
    ),
    "with a seed cut short": (lambda sent: [_remade(sent[-1], payload=sent[-1].payload[:31])], "seed"),
    "with an impossible shape": (
        lambda sent: [_remade(sent[-1], payload=np.full(40, 255, np.uint8))],
        "too large",
    ),
    "with a shape of more than a gigabyte": (
        lambda sent: [_remade(sent[-1], payload=_seed_of(2**14, 2**13 + 1))],
        "too large",
    ),
    "cut": (lambda sent: [(encode_frame(sent[-1])[0], memoryview(b""))], "long"),
    "of garbage": (lambda _: [(b"garbage", memoryview(b""))], "header"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_frame_that_does_not_fit_stops_the_run(what, monkeypatch):
    from smpc import FIELD61

    async def protocol(s, x):
        a, b, _ = await s.input(x, domain=FIELD61)
        return await s.open(a + b)

    change, rule = CHANGES[what]
    monkeypatch.setattr(Tampering, "change", staticmethod(change))
    monkeypatch.setattr("smpc.local.InProcessTransport", Tampering)
    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, [[1, 2]] * 3, timeout=5)
    assert isinstance(caught.value.__cause__, FrameRejected)
    assert caught.value.__cause__.sender == 1
    assert rule in str(caught.value.__cause__)


def test_an_untampered_line_works(monkeypatch):
    async def protocol(s, x):
        a, b = await s.input(x)
        return await s.open(a + b)

    monkeypatch.setattr(Tampering, "change", staticmethod(lambda sent: [encode_frame(sent[-1])]))
    monkeypatch.setattr("smpc.local.InProcessTransport", Tampering)
    assert run_local(protocol, [[1], [2]]).results[0].tolist() == [3]


def test_a_closed_line_says_so_every_time():
    async def main():
        zero, one = InProcessTransport.connect(2)
        await one.exchange({0: frame(np.zeros(1, np.uint64))}, frozenset(), within=1.0)
        one.close()
        received = await zero.exchange({}, frozenset({1}), within=1.0)
        assert received[1].payload.tolist() == [0]
        for _ in range(2):
            with pytest.raises(PeerUnavailable, match="party 1 failed: it closed"):
                await zero.exchange({}, frozenset({1}), within=1.0)


def test_a_silent_party_is_named():
    async def main():
        zero, _ = InProcessTransport.connect(2)
        with pytest.raises(PeerUnavailable, match=r"party 1 failed: nothing arrived within 0\.05 s"):
            await zero.exchange({}, frozenset({1}), within=0.05)

    asyncio.run(main())
