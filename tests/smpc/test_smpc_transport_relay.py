"""A relay that reads, drops, doubles, swaps, reflects and falsifies; and one that parties try to exhaust."""

import asyncio
import random
import socket
import threading
import time

import numpy as np
import pytest
from networks import outcomes, together

from smpc import FrameRejected, PeerUnavailable, ProtocolAbort
from smpc.transport import Frame, Relay, RelayLimits, RelayTransport, TlsFiles, certificate_fingerprint
from smpc.transport.handshake import run_digest
from smpc.transport.relay_wire import HEAD, JOIN, JOIN_MAGIC, RELAY, RecordReader, record
from smpc.transport.sealing import LONGEST_RECORD_BYTES
from smpc.transport.streams import StreamEnded, TlsStream


class BadRelay(Relay):
    """A relay whose records pass through `change(number, sender, receiver, body)`, which returns what is sent on."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.number = 0
        self.seen = []
        self.change = lambda _number, sender, receiver, body: [(sender, receiver, body)]

    def _handle(self, connection, address, body):
        run = connection.run
        if run is None or not run.was_complete:
            super()._handle(connection, address, body)
            return
        data = bytes(body)
        self.seen.append((connection.party, address, data))
        self.number += 1
        for sender, receiver, changed in self.change(self.number - 1, connection.party, address, data):
            seat = run.seats.get(receiver)
            if seat is not None:
                self._send(seat, record(sender, changed))


@pytest.fixture
def bad(network):
    keys = network.relay_keys
    tls = TlsFiles(keys.certificate, keys.tls_key, tuple(each.certificate for each in network.keys))
    seats = {certificate_fingerprint(each.certificate): frozenset({i}) for i, each in enumerate(network.keys)}
    from networks import RunningRelay

    with RunningRelay(BadRelay(socket.create_server(("127.0.0.1", 0)), tls=tls, seats=seats), network) as running:
        yield running


def swap(transport, n, payload, within=5.0):
    peers = frozenset(range(n)) - {transport.party}
    mine = Frame(transport.session_id, b"o" * 8, 0, transport.party, payload)
    return asyncio.run(transport.exchange(dict.fromkeys(peers, mine), peers, within=within))


def close(transports):
    for each in transports:
        each.close()


def join(relay, n, **options):
    return together([lambda i=i: relay.join(i, n, **options) for i in range(n)])


def test_a_relay_that_reads_everything_finds_nothing(bad):
    transports = join(bad, 2)
    secret = np.frombuffer(random.Random(1).randbytes(200_000), np.uint64)
    together([lambda i=i: swap(transports[i], 2, secret) for i in range(2)])
    close(transports)
    carried = b"".join(data for _, _, data in bad.relay.seen)
    assert len(carried) > 2 * secret.nbytes
    raw = secret.tobytes()
    assert not any(raw[at : at + 8] in carried for at in range(0, len(raw), 1000))
    # Nor the frames' own marks: operation, step and session stand inside.
    for mark in (b"SYF1", b"o" * 8):
        assert mark not in b"".join(data for _, _, data in bad.relay.seen[2:])
    # The control: the first records are hellos, and these are public.
    assert all(data.startswith(b"SYF1") for _, _, data in bad.relay.seen[:2])


def _first_after_handshake(change):
    """A relay that is honest for the handshake of two parties: two hellos, two confirmations."""
    return lambda number, sender, receiver, body: (
        [(sender, receiver, body)] if number < 4 else change(number, sender, receiver, body)
    )


def _flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


HELD = {}


def _hold_one_back(_number, sender, receiver, body):
    """Swap two records of one direction: the first is sent after the second."""
    if (sender, receiver) not in HELD:
        HELD[sender, receiver] = body
        return []
    return [(sender, receiver, body), (sender, receiver, HELD[sender, receiver])]


CHANGES = {
    "flips a bit": lambda number, s, r, body: [(s, r, _flipped(body, 1000 + number))],
    "cuts": lambda _number, s, r, body: [(s, r, body[:-1])],
    "sends nothing but a head": lambda _number, s, r, _body: [(s, r, b"")],
    "doubles": lambda _number, s, r, body: [(s, r, body), (s, r, body)],
    "drops one": lambda number, s, r, body: [] if number in {4, 5} else [(s, r, body)],
    "swaps": _hold_one_back,
    "reflects": lambda _number, s, r, body: [(r, s, body)],
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_relay_that_changes_the_stream_stops_the_run_and_nothing_wrong_is_delivered(bad, what):
    HELD.clear()
    bad.relay.change = _first_after_handshake(CHANGES[what])
    transports = join(bad, 2)
    # Several records each, so that there is something to swap and to lose.
    data = [np.arange(30_000, dtype=np.uint64) + i for i in range(2)]

    def play(i):
        try:
            for _ in range(2):
                got = swap(transports[i], 2, data[i], within=2)
                assert np.array_equal(got[1 - i].payload, data[1 - i])
        finally:
            transports[i].close()

    results = outcomes([lambda i=i: play(i) for i in range(2)])
    rejected = [each for each in results if isinstance(each, FrameRejected)]
    assert rejected
    assert all(isinstance(each, FrameRejected | PeerUnavailable) for each in results)
    assert {each.sender for each in rejected} <= {0, 1}
    assert all("sealed record" in str(each) for each in rejected)


def test_the_relay_of_the_tests_above_can_be_honest(bad):
    transports = join(bad, 2)
    data = [np.arange(30_000, dtype=np.uint64) + i for i in range(2)]
    first, second = together([lambda i=i: swap(transports[i], 2, data[i]) for i in range(2)])
    assert np.array_equal(first[1].payload, data[1])
    assert np.array_equal(second[0].payload, data[0])
    close(transports)


def test_records_given_to_another_party_or_in_another_name_are_rejected(bad):
    for run, move in (
        ("receiver", lambda s, r, body: [(s, 3 - s - r, body)] if {s, r} == {0, 1} else [(s, r, body)]),
        ("sender", lambda s, r, body: [(3 - s - r, r, body)]),
    ):
        bad.relay.change = lambda number, s, r, body, base=bad.relay.number, move=move: (
            [(s, r, body)] if number < base + 12 else move(s, r, body)
        )
        transports = join(bad, 3, run=run)
        results = outcomes([lambda i=i, t=transports: swap(t[i], 3, np.zeros(1, np.uint64), 2) for i in range(3)])
        close(transports)
        assert any(isinstance(each, FrameRejected) for each in results)
        assert all(isinstance(each, FrameRejected | PeerUnavailable) for each in results)


def test_records_of_another_session_of_the_same_parties_are_rejected(bad):
    """A relay that recorded one run plays it into the next one."""
    first = join(bad, 2, run="first")
    together([lambda i=i: swap(first[i], 2, np.zeros(1, np.uint64)) for i in range(2)])
    close(first)
    recorded = [entry for entry in bad.relay.seen if entry[:2] == (1, 0)]
    start = bad.relay.number
    bad.relay.change = lambda number, s, r, body: (
        [(s, r, recorded[2][2])] if number >= start + 4 and s == 1 else [(s, r, body)]
    )
    second = join(bad, 2, run="second")
    results = outcomes([lambda i=i: swap(second[i], 2, np.zeros(1, np.uint64), 2) for i in range(2)])
    close(second)
    assert isinstance(results[0], FrameRejected)
    assert results[0].sender == 1


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_a_relay_that_changes_the_handshake_gets_no_session(bad, which):
    rng = random.Random(which)
    for attempt in range(3):
        bad.relay.number, bit = 0, rng.randrange(10**6)
        # Anywhere but in the frame's own header, which the parser is tested for elsewhere.
        bad.relay.change = lambda number, s, r, body, bit=bit: (
            [(s, r, body[:80] + _flipped(body[80:], bit))] if number == which else [(s, r, body)]
        )
        results = outcomes([lambda i=i, k=attempt: bad.join(i, 2, run=f"attempt {k}", within=3) for i in range(2)])
        assert any(isinstance(each, FrameRejected) for each in results)
        # At most the one who sent the changed confirmation believes in the session, until the other closes.
        for each in results:
            if isinstance(each, RelayTransport):
                with pytest.raises(PeerUnavailable):
                    swap(each, 2, np.zeros(1, np.uint64))


def test_a_relay_that_drops_everything_is_a_silent_party(bad):
    bad.relay.change = _first_after_handshake(lambda *_: [])
    transports = join(bad, 2)
    with pytest.raises(PeerUnavailable, match=r"nothing arrived within 0\.2 s"):
        swap(transports[0], 2, np.zeros(1, np.uint64), within=0.2)
    close(transports)


def test_a_relay_that_goes_away_is_known_at_once(network):
    with network.start_relay() as relay:
        transports = join(relay, 2)
    began = time.monotonic()
    for transport in transports:
        with pytest.raises(PeerUnavailable, match="the line to the relay ended"):
            swap(transport, 2, np.zeros(1, np.uint64), within=60)
    assert time.monotonic() - began < 5


# Who may take which seat.


def raw_stream(relay, network, party):
    """A TLS stream to the relay with a party's certificate, its handshake done."""
    sock = socket.create_connection(relay.address)
    context = network.tls(party, network.relay_keys.certificate).context(server_side=False)
    stream = TlsStream(sock, context, server_side=False)
    while not stream.handshake():
        time.sleep(0.001)
    return stream


def ended(stream, within=5.0):
    """Whether the other end closes the stream in time."""
    until = time.monotonic() + within
    space = memoryview(bytearray(1 << 16))
    while time.monotonic() < until:
        try:
            stream.receive_into(space)
        except StreamEnded:
            return True
        time.sleep(0.002)
    return False


def test_two_connections_cannot_take_one_seat(network):
    with network.start_relay() as relay:
        first = raw_stream(relay, network, 0)
        first.send(memoryview(record(RELAY, JOIN.pack(JOIN_MAGIC, run_digest("test"), 0, 2))))
        time.sleep(0.1)
        with pytest.raises(ProtocolAbort, match="its seat in this run is taken"):
            relay.join(0, 2)
        first.close()


def test_a_seat_needs_the_certificate_that_is_listed_for_it(network):
    with network.start_relay() as relay:
        stream = raw_stream(relay, network, 2)
        stream.send(memoryview(record(RELAY, JOIN.pack(JOIN_MAGIC, run_digest("test"), 0, 2))))
        space = memoryview(bytearray(100))
        while not (n := stream.receive_into(space)):
            time.sleep(0.001)
        assert bytes(space[:n]) == record(RELAY, b"R\x02\x00")
        assert ended(stream)
        stream.close()


def test_a_certificate_that_is_not_listed_is_refused(network, tmp_path):
    from networks import Keys, make_keys

    stranger = make_keys(tmp_path, "stranger")
    assert isinstance(stranger, Keys)
    with network.start_relay() as relay:
        sock = socket.create_connection(relay.address)
        files = TlsFiles(stranger.certificate, stranger.tls_key, (network.relay_keys.certificate,))
        stream = TlsStream(sock, files.context(server_side=False), server_side=False)
        while not stream.handshake():
            time.sleep(0.001)
        assert ended(stream)
        stream.close()


def test_another_relay_than_the_expected_one_is_refused(network):
    with network.start_relay() as relay:
        for trusted, pinned, rule in (
            (network.keys[0].certificate, network.relay_keys.certificate, "not accepted"),
            (network.relay_keys.certificate, network.keys[0].certificate, "another certificate"),
        ):
            with pytest.raises(ProtocolAbort, match=rule):
                RelayTransport.connect(
                    network.roster,
                    network.identities[0],
                    run="test",
                    relay=relay.address,
                    relay_fingerprint=certificate_fingerprint(pinned),
                    tls=network.tls(0, trusted),
                    within=2,
                )


def test_who_comes_after_a_run_is_over_is_told_so(network):
    with network.start_relay() as relay:
        transports = join(relay, 3)
        transports[0].close()
        time.sleep(0.1)
        with pytest.raises(ProtocolAbort, match="choose another name"):
            relay.join(0, 3)
        close(transports)
        time.sleep(0.1)
        close(join(relay, 3))


def test_a_party_that_does_not_come_is_named(network):
    with network.start_relay() as relay:
        results = outcomes([lambda i=i: relay.join(i, 3, within=0.5) for i in (0, 2)])
        assert [each.party for each in results] == [1, 1] or {each.party for each in results} <= {0, 1, 2}
        assert all(isinstance(each, PeerUnavailable) for each in results)


# What it costs.


def test_a_flood_of_half_open_connections_is_bounded_and_keeps_nobody_out(network):
    limits = RelayLimits(max_connections=20, max_pending=8)
    with network.start_relay(limits=limits) as relay:
        flood = [socket.create_connection(relay.address) for _ in range(200)]
        transports = join(relay, 2)
        assert relay.relay.n_connections <= 20
        together([lambda i=i: swap(transports[i], 2, np.zeros(1, np.uint64)) for i in range(2)])
        close([*transports, *flood])


def test_who_does_not_join_in_time_is_closed(network):
    limits = RelayLimits(greeting_seconds=0.2)
    with network.start_relay(limits=limits) as relay:
        silent_tcp = socket.create_connection(relay.address)
        silent_tls = raw_stream(relay, network, 0)
        assert ended(silent_tls)
        silent_tcp.settimeout(5)
        assert silent_tcp.recv(1) == b""
        close([silent_tcp, silent_tls])
        assert relay.relay.n_connections == 0


@pytest.mark.parametrize("limits", [{"gather_seconds": 0.2}, {"idle_seconds": 0.2}])
def test_runs_that_stand_still_are_ended(network, limits):
    with network.start_relay(limits=RelayLimits(**limits)) as relay:
        if "gather_seconds" in limits:
            with pytest.raises(ProtocolAbort, match="silent for too long"):
                relay.join(0, 2)
        else:
            transports = join(relay, 2)
            with pytest.raises((ProtocolAbort, PeerUnavailable)):
                asyncio.run(transports[0].exchange({}, frozenset({1}), within=10))
            close(transports)


def test_what_waits_for_a_party_that_does_not_read_is_bounded_and_nothing_of_it_is_lost(network):
    limits = RelayLimits(queue_bytes=1 << 18)
    with network.start_relay(limits=limits) as relay:
        transports = join(relay, 2)
        data = np.arange(4_000_000, dtype=np.uint64)
        sender = threading.Thread(
            target=lambda: asyncio.run(
                transports[0].exchange(
                    {1: Frame(transports[0].session_id, b"o" * 8, 0, 0, data)}, frozenset(), within=30
                )
            )
        )
        sender.start()
        most = 0
        for _ in range(50):
            most = max(most, relay.relay.bytes_kept)
            time.sleep(0.01)
        # 32 MB were sent; the queue holds its bound and one record more.
        assert (1 << 18) < most <= (1 << 18) + HEAD.size + LONGEST_RECORD_BYTES
        assert sender.is_alive()
        got = asyncio.run(transports[1].exchange({}, frozenset({0}), within=30))
        sender.join(10)
        assert np.array_equal(got[0].payload, data)
        close(transports)


@pytest.mark.parametrize(
    "data",
    [
        record(RELAY, b"nonsense"),
        record(0, JOIN.pack(JOIN_MAGIC, bytes(32), 0, 2)),
        record(RELAY, JOIN.pack(JOIN_MAGIC, bytes(32), 0, 6)),
        record(RELAY, JOIN.pack(JOIN_MAGIC, bytes(32), 3, 2)),
        HEAD.pack(2**32 - 1, RELAY),
        record(RELAY, JOIN.pack(JOIN_MAGIC, bytes(32), 0, 2)) + record(1, b"before the others are there"),
    ],
)
def test_what_a_relay_does_not_understand_ends_the_connection(network, data):
    with network.start_relay() as relay:
        stream = raw_stream(relay, network, 0)
        stream.send(memoryview(data))
        assert ended(stream)
        stream.close()


def test_a_sender_far_ahead_is_refused_by_who_would_have_to_keep_it(network):
    with network.start_relay() as relay:
        transports = join(relay, 3, max_payload_bytes=100_000)
        payload = np.zeros(12_000, np.uint64)

        def flood():
            try:
                for step in range(40):
                    frame = Frame(transports[1].session_id, b"o" * 8, step, 1, payload)
                    asyncio.run(transports[1].exchange({0: frame}, frozenset(), within=10))
            except PeerUnavailable:
                return

        def wait():
            return asyncio.run(transports[0].exchange({}, frozenset({2}), within=10))

        error, _ = outcomes([wait, flood])
        assert isinstance(error, FrameRejected)
        assert error.sender == 1
        assert "further ahead" in str(error)
        close(transports)


def test_records_are_cut_from_a_stream_however_it_arrives():
    class Slow:
        def __init__(self, data, rng):
            self.data, self.rng = data, rng

        def receive_into(self, space):
            n = min(len(space), len(self.data), self.rng.choice([1, 5, 6, 7, 100, 70_000]))
            space[:n] = self.data[:n]
            self.data = self.data[n:]
            return n

    for seed in range(20):
        rng = random.Random(seed)
        bodies = [rng.randbytes(rng.choice([0, 1, 50, LONGEST_RECORD_BYTES])) for _ in range(8)]
        stream = Slow(b"".join(record(i, body) for i, body in enumerate(bodies)), rng)
        reader, got = RecordReader(), []
        while stream.data:
            reader.fill(stream)
            while (taken := reader.take()) is not None:
                got.append((taken[0], bytes(taken[1])))
        assert got == list(enumerate(bodies))
        assert reader.is_empty


@pytest.mark.parametrize("n_words", [10, 100_000])
def test_a_party_may_begin_while_another_still_waits_for_a_third_ones_proof(bad, n_words):
    held, released = [], []

    def late(_number, sender, receiver, body):
        """What party 0 sends to party 2 after its hello comes only after party 1's first frame of the protocol."""
        records.setdefault((sender, receiver), []).append(body)
        if (sender, receiver) == (0, 2) and len(records[0, 2]) >= 2 and not released:
            held.append(body)
            return []
        if (sender, receiver) == (1, 2) and ends(records[1, 2]) and not released:
            released.append(True)
            return [(sender, receiver, body), *((0, 2, each) for each in held)]
        return [(sender, receiver, body)]

    def ends(sent):
        # Behind the hello and the proof.
        return sum(map(len, sent[2:])) > 8 * n_words

    records = {}
    bad.relay.change = late

    transports = []

    def side(i):
        transports.append(transport := bad.join(i, 3))
        return swap(transport, 3, np.full(n_words, i, np.uint64))

    sides = together([lambda i=i: side(i) for i in range(3)])
    close(transports)
    # Party 0's proof was held back, or came later by itself.
    assert released
    for i, heard in enumerate(sides):
        assert {peer: int(frame.payload.view(np.uint64)[0]) for peer, frame in heard.items()} == {
            peer: peer for peer in range(3) if peer != i
        }
