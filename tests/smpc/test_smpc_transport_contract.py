"""What every kind of line promises to a protocol: in memory, plain TCP, mutual TLS, and through a relay."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod

import numpy as np
import pytest
from networks import outcomes

from privacy.randomness import SecureRng
from smpc import FrameRejected, PeerUnavailable, ProtocolAbort, Session
from smpc.material import Dealer
from smpc.transport import HEADER_BYTES, Frame, InProcessTransport
from smpc.transport.streams import StreamEnded

# More than all buffers between two parties hold, so that it cannot be sent before the other reads.
BIG_WORDS = 1_500_000


def words(*values):
    return np.array(values, dtype=np.uint64)


def frame(sender, payload, step=0):
    return Frame(b"s" * 16, b"o" * 8, step, sender, payload)


def party_of(transport):
    return transport._party if isinstance(transport, InProcessTransport) else transport.party


async def send(transport, receiver, *frames, within=10.0):
    for each in frames:
        await transport.exchange({receiver: each}, frozenset(), within=within)


async def receive(transport, sender, within=10.0):
    return (await transport.exchange({}, frozenset({sender}), within=within))[sender]


async def swap(transport, n, payload, within=10.0):
    """One full exchange: the same payload to all."""
    peers = frozenset(range(n)) - {party_of(transport)}
    return await transport.exchange(dict.fromkeys(peers, frame(party_of(transport), payload)), peers, within=within)


class TransportContract(ABC):
    """Each kind of line makes connected transports and says what it does with bytes that are no frame."""

    @pytest.fixture
    def connect(self, network):
        """A function that connects n parties."""
        with contextlib.ExitStack() as stack:
            made = []

            def connect(n, **options):
                transports = self.connected(network, n, stack, **options)
                made.extend(transports)
                return transports

            yield connect
            for transport in made:
                transport.close()

    def play(self, *sides):
        """Run coroutines of parties at the same time, each in its thread; return results and errors."""
        return outcomes([lambda side=side: asyncio.run(side) for side in sides])

    def one(self, side):
        """Run one coroutine."""
        return asyncio.run(side)

    @abstractmethod
    def connected(self, network, n, stack, **options): ...

    @abstractmethod
    def inject(self, transport, receiver, data):
        """Send bytes to a receiver as if they were a frame."""

    @pytest.mark.parametrize("n", [2, 3])
    def test_everybody_gets_what_was_sent_to_them(self, connect, n):
        transports = connect(n)

        async def side(me):
            outgoing = {peer: frame(me, words(10 * me + peer)) for peer in range(n) if peer != me}
            return await transports[me].exchange(outgoing, frozenset(outgoing), within=10)

        for me, received in enumerate(self.play(*map(side, range(n)))):
            assert {peer: got.payload.tolist() for peer, got in received.items()} == {
                peer: [10 * peer + me] for peer in range(n) if peer != me
            }
            assert all(got.sender == peer and got.session_id == b"s" * 16 for peer, got in received.items())

    def test_frames_come_in_the_order_in_which_they_were_sent(self, connect):
        zero, one = connect(2)
        arrays = [np.full(n, i, dtype=np.uint64) for i, n in enumerate([1, 0, 20_000, 3, 8192, 100_000, 2])]

        async def reader():
            return [await receive(one, 0) for _ in arrays]

        sent, came = self.play(send(zero, 1, *(frame(0, array, i) for i, array in enumerate(arrays))), reader())
        assert sent is None
        for step, (array, got) in enumerate(zip(arrays, came, strict=True)):
            assert (got.step, got.sender, got.operation) == (step, 0, b"o" * 8)
            assert np.array_equal(got.payload, array)
            assert not got.payload.flags.writeable

    def test_long_frames_both_ways_at_the_same_time_do_not_block(self, connect):
        transports = connect(2)
        data = [np.arange(BIG_WORDS, dtype=np.uint64) + i for i in range(2)]
        first, second = self.play(*(swap(transports[i], 2, data[i], within=30) for i in range(2)))
        assert np.array_equal(first[1].payload, data[1])
        assert np.array_equal(second[0].payload, data[0])

    def test_bytes_shapes_and_empty_payloads_arrive_as_they_are(self, connect):
        zero, one = connect(2)
        for payload in (np.arange(7, dtype=np.uint8), np.zeros((2, 3, 1, 2), np.uint64), np.zeros((0, 5), np.uint64)):
            _, got = self.play(send(zero, 1, frame(0, payload)), receive(one, 0))
            assert (got.payload.dtype, got.payload.shape) == (payload.dtype, payload.shape)
            assert got.payload.tolist() == payload.tolist()

    def test_a_silent_party_is_named_after_the_time_that_was_given(self, connect):
        transports = connect(3)
        began = time.monotonic()
        self.one(send(transports[0], 1, frame(0, words(1))))
        assert self.one(receive(transports[1], 0)).payload.tolist() == [1]
        with pytest.raises(PeerUnavailable, match=r"party 2 failed: nothing arrived within 0\.1 s") as caught:
            self.one(receive(transports[1], 2, within=0.1))
        assert caught.value.party == 2
        assert time.monotonic() - began < 5

    def test_a_party_that_closed_is_known_at_once_and_what_it_sent_before_still_counts(self, connect):
        zero, one = connect(2)
        self.one(send(one, 0, frame(1, words(5))))
        one.close()
        assert self.one(receive(zero, 1)).payload.tolist() == [5]
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(PeerUnavailable, match="party 1 failed: it closed"):
                self.one(receive(zero, 1, within=60))
        assert time.monotonic() - began < 5

    def test_a_party_that_closes_while_others_wait_is_known_at_once(self, connect):
        transports = connect(3)

        async def leave():
            await asyncio.sleep(0.1)
            transports[2].close()

        began = time.monotonic()
        *failed, _ = self.play(*(swap(transports[i], 3, words(1), within=60) for i in range(2)), leave())
        assert all(isinstance(error, PeerUnavailable) for error in failed)
        assert 2 in {error.party for error in failed}
        assert time.monotonic() - began < 5

    @pytest.mark.parametrize(
        ("data", "rule"),
        [
            (b"\0" * HEADER_BYTES, "mark"),
            (b"SYF1" + b"\xff" * (HEADER_BYTES - 4), "type"),
            (b"SYF1" + bytes(34) + b"\x01\x01" + b"\xff" * 8 + bytes(24), "large"),
        ],
    )
    def test_what_is_no_frame_is_rejected_with_its_sender(self, connect, data, rule):
        zero, one = connect(2)
        self.inject(one, 0, data)
        with pytest.raises(FrameRejected, match=rule) as caught:
            self.one(receive(zero, 1))
        assert caught.value.sender == 1

    def test_several_sessions_at_once_do_not_mix(self, connect):
        groups = [connect(2) for _ in range(3)]

        async def side(i, me):
            return [(await swap(groups[i][me], 2, words(i, k, me)))[1 - me].payload.tolist() for k in range(20)]

        sides = [(i, me) for i in range(3) for me in range(2)]
        for (i, me), got in zip(sides, self.play(*(side(*each) for each in sides)), strict=True):
            assert got == [[i, k, 1 - me] for k in range(20)]

    def test_a_protocol_gives_what_the_plain_numbers_give(self, connect):
        transports, dealer = connect(3), Dealer(3)
        stores = [dealer.store(i) for i in range(3)]
        session_id = getattr(transports[0], "session_id", b"s" * 16)

        async def side(i):
            options = {"material": stores[i], "session_id": session_id, "timeout": 10, "rng": SecureRng()}
            s = Session(party=i, n_parties=3, transport=transports[i], **options)
            a, b, c = await s.input([i + 2, -i])
            return await s.open(a + b + 2 * c)

        for result in self.play(*map(side, range(3))):
            assert result.tolist() == [2 + 3 + 2 * 4, 0 - 1 - 2 * 2]


class TestInProcess(TransportContract):
    @pytest.fixture(autouse=True)
    def loop(self):
        with asyncio.Runner() as self.runner:
            yield

    def play(self, *sides):
        async def gather():
            return await asyncio.gather(*sides, return_exceptions=True)

        return self.runner.run(gather())

    def one(self, side):
        return self.runner.run(side)

    def connected(self, network, n, stack):  # noqa: ARG002 - needs neither
        return InProcessTransport.connect(n)

    def inject(self, transport, receiver, data):
        transport._lines[transport._party, receiver].put_nowait((data, memoryview(b"")))


class NetworkContract(TransportContract):
    """What holds on the network in addition."""

    def test_all_parties_agree_on_a_session_that_is_new_each_time(self, connect):
        first, second = ([transport.session_id for transport in connect(3)] for _ in range(2))
        assert len(set(first)) == len(set(second)) == 1
        assert len(first[0]) == 16
        assert first[0] != second[0]

    def test_a_payload_over_the_limit_is_not_sent(self, connect):
        zero, _ = connect(2, max_payload_bytes=1000)
        with pytest.raises(ValueError, match="1008 bytes, this line carries 1000"):
            self.one(send(zero, 1, frame(0, np.zeros(126, np.uint64))))

    def test_after_an_error_the_lines_are_closed_and_the_others_know(self, connect):
        zero, one = connect(2)
        with pytest.raises(PeerUnavailable):
            self.one(receive(zero, 1, within=0.05))
        began = time.monotonic()
        with pytest.raises(PeerUnavailable, match="party 0 failed: it closed"):
            self.one(receive(one, 0, within=60))
        assert time.monotonic() - began < 5

    def test_a_closed_transport_says_that_it_was_closed_here(self, connect):
        zero, _ = connect(2)
        zero.close()
        zero.close()
        with pytest.raises(ProtocolAbort, match="this party closed its lines"):
            self.one(receive(zero, 1))

    def test_a_frame_to_nobody_is_a_wrong_argument(self, connect):
        zero, _ = connect(2)
        for other in (0, 2):
            with pytest.raises(ValueError, match="other parties"):
                self.one(send(zero, other, frame(0, words(1))))

    def test_a_receiver_that_does_not_read_is_given_up(self, connect):
        zero, one = connect(2)
        with pytest.raises(PeerUnavailable, match="did not read"):
            self.one(send(zero, 1, frame(0, np.zeros(4 * BIG_WORDS, np.uint64)), within=0.3))
        del one

    def test_one_who_finished_may_go_while_others_still_send_to_each_other(self, connect):
        transports = connect(3)

        async def side(me):
            got = [await swap(transports[me], 3, np.full(200_000, me, np.uint64), within=20) for _ in range(2)]
            transports[me].finish()
            return [int(got[-1][peer].payload[-1]) for peer in sorted(got[-1])]

        assert self.play(*map(side, range(3))) == [[1, 2], [0, 2], [0, 1]]

    def test_a_transport_shows_its_session_and_nothing_else(self, connect):
        zero, _ = connect(2)
        assert repr(zero) == f"{type(zero).__name__}(party=0, session_id={zero.session_id.hex()})"


class DirectContract(NetworkContract):
    kind = ""

    def connected(self, network, n, stack, **options):  # noqa: ARG002 - nothing to close but the lines
        return network.connect(self.kind, n, **options)

    def inject(self, transport, receiver, data):
        port = transport._port_of[receiver]
        assert port.stream.send(memoryview(data)) == len(data)

    def test_a_stream_that_ends_inside_a_frame_says_so(self, connect):
        zero, one = connect(2)
        header, payload = frame_bytes(frame(1, np.zeros(50_000, np.uint64)))
        self.inject(one, 0, header + payload[:100_000])
        one.close()
        with pytest.raises(PeerUnavailable, match="closed its connection in the middle of a frame"):
            self.one(receive(zero, 1))

    def test_a_byte_now_and_then_does_not_extend_the_time(self, connect):
        zero, one = connect(2)
        header, payload = frame_bytes(frame(1, np.zeros(1000, np.uint64)))
        self.inject(one, 0, header)
        stop = threading.Event()

        def drip():
            with contextlib.suppress(OSError, StreamEnded):
                while not stop.wait(0.01):
                    self.inject(one, 0, payload[:1])

        dripping = threading.Thread(target=drip)
        dripping.start()
        began = time.monotonic()
        with pytest.raises(PeerUnavailable, match="nothing arrived"):
            self.one(receive(zero, 1, within=0.3))
        assert time.monotonic() - began < 3
        stop.set()
        dripping.join()

    def test_a_promise_of_sixteen_gigabytes_costs_nothing(self, connect):
        zero, one = connect(2)
        header, _ = frame_bytes(frame(1, np.zeros(1, np.uint64)))
        before = peak_kilobytes()
        # 2^31 words are 16 GiB: the most that the format allows, more than this line does.
        self.inject(one, 0, header[:40] + (2**31).to_bytes(8, "little") + header[48:])
        with pytest.raises(FrameRejected, match="larger than this line carries"):
            self.one(receive(zero, 1))
        assert peak_kilobytes() - before < 50_000

    def test_a_promise_that_the_line_allows_costs_what_is_really_sent(self, connect):
        zero, one = connect(2)
        header, _ = frame_bytes(frame(1, np.zeros(1, np.uint64)))
        before = peak_kilobytes()
        self.inject(one, 0, header[:40] + (2**27).to_bytes(8, "little") + header[48:] + bytes(1000))
        with pytest.raises(PeerUnavailable, match="nothing arrived"):
            self.one(receive(zero, 1, within=0.1))
        assert peak_kilobytes() - before < 50_000


class TestInsecurePlain(DirectContract):
    kind = "plain"


class TestDirectTls(DirectContract):
    kind = "direct"

    def test_lines_speak_tls_1_3_with_certificates_on_both_sides(self, connect):
        for transport in connect(2):
            (port,) = transport._ports
            assert port.stream._tls.version() == "TLSv1.3"
            assert port.stream._tls.getpeercert(binary_form=True)
            assert port.stream._tls.context.verify_mode is ssl.CERT_REQUIRED
            assert port.stream._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class TestRelay(NetworkContract):
    runs = iter(range(10**6))

    def connected(self, network, n, stack, **options):
        relay = stack.enter_context(network.start_relay())
        return network.connect("relay", n, relay=relay, run=f"run {next(self.runs)}", **options)

    def inject(self, transport, receiver, data):
        from smpc.transport.relay_wire import record

        port = transport._ports[0]
        sealed = record(receiver, port._sealers[receiver].seal(data))
        assert port.stream.send(memoryview(sealed)) == len(sealed)


def frame_bytes(each):
    from smpc.transport import encode_frame

    header, payload = encode_frame(each)
    return header, bytes(payload)


def peak_kilobytes():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
