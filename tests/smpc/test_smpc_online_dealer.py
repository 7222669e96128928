"""A dealer that serves while the run goes on: same material, few round trips, and nobody gets more than they may."""

import asyncio
import contextlib
import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import outcomes
from test_smpc_material import KINDS

from privacy.randomness import InsecureSeededRng, SecureRng
from smpc import FIELD61, RING64, Dealer, FrameRejected, PeerUnavailable, Session, TripleOutOfOrder, TripleReused
from smpc.dealer_wire import (
    ASK,
    CORRECTIONS,
    DONE,
    HELLO,
    MOST_REQUEST_BYTES,
    WELCOME,
    WELCOME_BODY,
    Ask,
    DealerLimits,
    DealerLine,
    decode_asks,
    encode_asks,
    encode_hello,
    layout_of,
)
from smpc.errors import (
    DealerLimitReached,
    DealerUnavailable,
    MaterialMismatch,
    MaterialUnavailable,
    PackageRefused,
    PartyFailed,
    ProtocolAbort,
)
from smpc.kinds import Bit, Conjunctions, Digits, Gates, MatrixProduct, Product, Square, all_of
from smpc.local import run_sessions
from smpc.online_dealer import serve_run
from smpc.party import run_party
from smpc.pieces import MaskedPieces
from smpc.remote_material import remote_material
from smpc.transport import InProcessTransport

LINES = pytest.mark.parametrize("line", ["plain", "direct", "relay"])
SEED = 20_260_101


class Tapped:
    """A dealer's lines, with all that the dealer is sent written down."""

    def __init__(self, transport):
        self.transport, self.heard = transport, []
        inner = transport.arrived

        def arrived(sender):
            frame = inner(sender)
            if frame is not None:
                self.heard.append((frame.operation, frame.step, frame.payload.tobytes()))
            return frame

        transport.arrived = arrived


def dealer_lines(network, n, stack, *, line="plain"):
    """Return the dealer's and the parties' ends of n lines of two members."""
    ends = []
    for i in range(n):
        if line == "relay":
            relay = stack.enter_context(network.start_relay())
            ends.append(network.connect("relay", 2, relay=relay, run=f"job/1/deal/{i}"))
        else:
            ends.append(network.connect(line, 2, run=f"job/1/deal/{i}"))
        for end in ends[-1]:
            stack.callback(end.close)
    return [pair[0] for pair in ends], [pair[1] for pair in ends]


@contextlib.contextmanager
def served(network, n, *, line="plain", limits=None, rng=None, expected=None, **options):
    """Serve a run in a thread; yield the parties' ends. Its summary, or error, is `done.result`."""
    with contextlib.ExitStack() as stack:
        mine, theirs = dealer_lines(network, n, stack, line=line)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        done = pool.submit(serve_run, mine, n_parties=n, limits=limits, rng=rng, **options)
        try:
            yield theirs, done
        finally:
            for end in theirs:
                end.close()
            if expected is None:
                done.exception(10)
            else:
                with pytest.raises(expected):
                    done.result(10)


def stores(theirs, **options):
    n = len(theirs)
    return [remote_material(end, party=i, n_parties=n, **options) for i, end in enumerate(theirs)]


def play(protocol, inputs, materials):
    """Run a protocol with one store for each party, in this process."""
    n = len(inputs)
    transports = InProcessTransport.connect(n)
    sessions = [
        Session(
            party=i,
            n_parties=n,
            transport=transports[i],
            material=materials[i],
            session_id=b"s" * 16,
            timeout=10,
            rng=SecureRng(),
        )
        for i in range(n)
    ]

    async def agreed(session, data):
        await session.agree_on_material()
        return await protocol(session, data)

    try:
        return asyncio.run(run_sessions(agreed, inputs, sessions, transports))
    finally:
        for each in materials:
            each.close()


async def largest(session, numbers):
    shares = await session.input(numbers, max_abs=2**30)
    total = sum(shares[1:], start=shares[0])
    return int(await session.open(await session.argmax(total)))


# Parties get what they would get from a dealer in their process.


@pytest.mark.parametrize(("line", "n"), [("plain", 2), ("plain", 5), ("direct", 3), ("relay", 3)])
def test_parties_get_the_shares_that_a_dealer_in_the_process_gives(network, n, line):
    here = Dealer(n, rng=InsecureSeededRng(SEED))
    local = [here.store(i) for i in range(n)]
    with served(network, n, line=line, rng=InsecureSeededRng(SEED)) as (theirs, done):
        remote = stores(theirs)
        for counts in ([1, 7, 3], [40, 2, 90], [0, 1, 500]):
            for kind, count in zip(KINDS, itertools.cycle(counts)):
                for mine, expected in zip(remote, local, strict=True):
                    for a, b in zip(mine.take(kind, count), expected.take(kind, count), strict=True):
                        np.testing.assert_array_equal(a, b)
        remote[-1].close()
        summary = done.result(10)
    assert summary.finished[-1]
    assert summary.n_parties == n


def test_other_seeds_give_other_shares(network):
    local = Dealer(2, rng=InsecureSeededRng(SEED + 1)).store(0)
    with served(network, 2, rng=InsecureSeededRng(SEED)) as (theirs, _):
        remote = stores(theirs)[0]
        assert (remote.take(Product(RING64), 8)[0] != local.take(Product(RING64), 8)[0]).all()


@LINES
def test_a_run_of_processes_lines_and_a_dealer_ends_in_the_right_answer(network, line):
    n = 3
    inputs = [[3, 9, -4, 100], [0, 5, 80, -7], [1, 1, 1, 1]]

    def party(i, end, transport):
        return run_party(
            largest, inputs[i], transport=transport, material=remote_material(end, party=i, n_parties=n), timeout=10
        ).result

    with served(network, n, line=line) as (theirs, done), contextlib.ExitStack() as stack:
        relay = stack.enter_context(network.start_relay()) if line == "relay" else None
        transports = network.connect(line, n, relay=relay, run="job/1/mpc")
        results = outcomes([lambda i=i: party(i, theirs[i], transports[i]) for i in range(n)])
        summary = done.result(10)
    assert results == [3, 3, 3]
    assert summary.finished == (True, True, True)
    assert summary.requests > 0


@pytest.mark.parametrize("n", [2, 4, 5])
def test_any_number_of_parties_computes_with_it(network, n):
    with served(network, n) as (theirs, _):
        inputs = [[i, 2 * i, 50 - i] for i in range(n)]
        assert play(largest, inputs, stores(theirs)) == [int(np.argmax(np.sum(inputs, axis=0)))] * n


# Few round trips.


async def many_choices(session, numbers):
    for _ in range(20):
        place = await largest(session, numbers)
    return place


def test_waiting_for_the_dealer_becomes_rare(network):
    inputs = [list(range(40)), list(range(40))]
    waits, asked = {}, {}
    for ahead in (0, 1 << 22):
        with served(network, 2) as (theirs, done):
            materials = stores(theirs, ahead_bytes=ahead)
            play(many_choices, inputs, materials)
            waits[ahead] = materials[1].round_trips
            used = {kind: count for kind, count in materials[1].used.items() if count}
            asked[ahead] = done.result(10).items
    # Twice as much at each wait: 20 choices wait as often as 3 would; the negative control is that without
    # fetching ahead they wait at least twice a choice.
    assert waits[0] >= 40
    assert waits[1 << 22] <= waits[0] / 6
    assert asked[0] == used
    assert all(used[kind] <= asked[1 << 22][kind] <= 2 * used[kind] for kind in used)


def test_a_need_that_is_known_is_fetched_in_one_round_trip(network):
    amounts = {Product(RING64): 1000, Digits(16): 64, Bit(): 5, Square(FIELD61): 3}
    with served(network, 2) as (theirs, done):
        last = stores(theirs)[1]
        last.prepare(amounts)
        assert last.round_trips == 1
        for kind, count in amounts.items():
            last.take(kind, count)
        assert last.round_trips == 1
        last.close()
        assert done.result(10).items == amounts


def test_what_one_answer_does_not_hold_comes_in_several(network):
    limits = DealerLimits(answer_bytes=1024, work_bytes=3000)
    expected = Dealer(2, rng=InsecureSeededRng(SEED))
    expected.seed(0)
    with served(network, 2, limits=limits, rng=InsecureSeededRng(SEED)) as (theirs, _):
        last = stores(theirs)[1]
        got = last.take(Product(RING64), 1000)
        for a, b in zip(got, expected.store(1).take(Product(RING64), 1000), strict=True):
            np.testing.assert_array_equal(a, b)
        assert last.round_trips >= 8
        with pytest.raises(DealerUnavailable, match="one item"):
            last.take(MatrixProduct(RING64, 40, 1, 40), 1)


# What the dealer sees does not depend on data.


def test_the_dealers_view_is_the_same_whatever_the_inputs_are(network):
    def view(inputs):
        with contextlib.ExitStack() as stack:
            mine, theirs = dealer_lines(network, 3, stack)
            taps = [Tapped(transport) for transport in mine]
            pool = stack.enter_context(ThreadPoolExecutor(1))
            done = pool.submit(serve_run, mine, n_parties=3)
            play(largest, inputs, stores(theirs))
            done.result(10)
            return [tap.heard for tap in taps]

    quiet = view([[0] * 40] * 3)
    loud = view([list(range(40)), list(range(40, 0, -1)), [2**29, *[-(2**29)] * 39]])
    assert quiet == loud
    # The view is not empty: the last party asked, the others said hello and goodbye.
    assert [len(heard) for heard in quiet][:2] == [2, 2]
    assert len(quiet[2]) > 3
    # Control: another shape is seen.
    assert view([[0] * 400] * 3) != quiet


# No seed serves twice.


def test_each_run_has_fresh_seeds(network):
    seen = set()
    for _ in range(3):
        with served(network, 2) as (theirs, _):
            for i, end in enumerate(theirs):
                seen.add(welcome(end, i, 2)[1])
    assert len(seen) == 6


def welcome(end, party, n_parties):
    line = DealerLine(end, end=1)
    line.send(HELLO, encode_hello(party, n_parties), within=5)
    what, payload = line.receive(within=5)
    assert what == WELCOME
    return line, WELCOME_BODY.unpack(payload.tobytes())[1]


def test_a_party_that_says_hello_twice_is_cut_off_without_a_second_seed(network):
    with served(network, 2, expected=FrameRejected) as (theirs, _):
        line, _ = welcome(theirs[0], 0, 2)
        line.send(HELLO, encode_hello(0, 2), within=5)
        assert line.receive(within=5)[0] == "refused"


def test_one_party_cannot_take_anothers_seed(network):
    with served(network, 3, expected=FrameRejected) as (theirs, _), pytest.raises(DealerUnavailable):
        remote_material(theirs[0], party=1, n_parties=3)


def test_seeds_of_two_dealings_are_found_before_an_item_is_used(network):
    with served(network, 2) as (first, _), served(network, 2) as (second, _):
        materials = [
            remote_material(first[0], party=0, n_parties=2),
            remote_material(second[1], party=1, n_parties=2),
        ]
        with pytest.raises(PartyFailed) as failure:
            play(largest, [[1, 2], [3, 4]], materials)
    assert isinstance(failure.value.__cause__, MaterialMismatch)
    assert materials[1].used == {}


# A party that asks for what it should not have is cut off, and its run ends typed.

P = Product(RING64)
WRONG = {
    "again": ([Ask(P, 0, 4)], TripleReused),
    "ahead": ([Ask(P, 9, 4)], TripleOutOfOrder),
    "too much": ([Ask(P, 8, 10_000)], DealerLimitReached),
    "too much work": ([Ask(MatrixProduct(RING64, 1, 5000, 1), 0, 1)], DealerLimitReached),
    "too many streams": ([Ask(Gates(30, 30), 0, 1)], DealerLimitReached),
    "too far": ([Ask(P, 8, 9000)], DealerLimitReached),
}
SMALL = DealerLimits(answer_bytes=80_000, work_bytes=60_000, run_bytes=100_000, run_streams=1000)


@pytest.mark.parametrize("case", WRONG)
def test_a_request_that_is_not_granted_ends_the_run(network, case):
    asks, error = WRONG[case]
    with served(network, 2, limits=SMALL, expected=error) as (theirs, _):
        welcome(theirs[0], 0, 2)
        line, _ = welcome(theirs[1], 1, 2)
        line.send(ASK, encode_asks([Ask(P, 0, 8)]), within=5)
        assert line.receive(within=5)[0] == CORRECTIONS
        line.send(ASK, encode_asks(asks), within=5)
        assert line.receive(within=5)[0] == "refused"


GARBAGE = {
    "nothing": b"",
    "no JSON": b"\x80{",
    "no list": b"{}",
    "empty": b"[]",
    "unknown kind": b'[{"kind":"Nothing","start":0,"count":1}]',
    "no count": b'[{"kind":"Digits","width":8,"start":0}]',
    "none": b'[{"kind":"Digits","width":8,"start":0,"count":0}]',
    "negative": b'[{"kind":"Digits","width":8,"start":-1,"count":1}]',
    "a flag": b'[{"kind":"Digits","width":8,"start":0,"count":true}]',
    "a float": b'[{"kind":"Digits","width":8,"start":0,"count":1.0}]',
    "huge": b'[{"kind":"Digits","width":8,"start":0,"count":1000000000000000000}]',
    "twice": b'[{"kind":"Digits","width":8,"start":0,"count":1},{"kind":"Digits","width":8,"start":1,"count":1}]',
    "blank": b'[{"kind":"Digits","width":8,"start":0, "count":1}]',
    "long": b"[" + b" " * MOST_REQUEST_BYTES + b"]",
    "deep": b"[" * 50_000,
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused(case):
    with pytest.raises(PackageRefused):
        decode_asks(GARBAGE[case])


@pytest.mark.parametrize(
    ("what", "payload"),
    [(ASK, GARBAGE["no JSON"]), (WELCOME, b""), (CORRECTIONS, b"x" * 8), (DONE, b"and more"), (HELLO, b"{}")],
)
def test_garbage_cuts_the_party_off_and_the_run_ends_typed(network, what, payload):
    with served(network, 2, expected=FrameRejected) as (theirs, _):
        welcome(theirs[0], 0, 2)
        last = remote_material(theirs[1], party=1, n_parties=2)
        last._remote._line.send(what, payload, within=5)
        with pytest.raises(MaterialUnavailable, match="does not understand"):
            last.take(P, 1)
        # And again: nothing is asked of a line that is closed.
        with pytest.raises(MaterialUnavailable):
            last.take(Square(RING64), 1)


def test_only_the_last_party_is_given_corrections(network):
    with served(network, 2, expected=FrameRejected) as (theirs, _):
        line, _ = welcome(theirs[0], 0, 2)
        line.send(ASK, encode_asks([Ask(P, 0, 8)]), within=5)
        assert line.receive(within=5)[0] == "refused"


def test_a_request_before_the_hello_is_refused(network):
    with served(network, 2, expected=FrameRejected) as (theirs, _):
        line = DealerLine(theirs[1], end=1)
        line.send(ASK, encode_asks([Ask(P, 0, 8)]), within=5)
        assert line.receive(within=5)[0] == "refused"


def test_the_parties_of_a_run_fail_typed_when_the_dealer_stops(network):
    flags = []
    with served(network, 2, stopped=lambda: bool(flags), expected=ProtocolAbort) as (theirs, done):
        materials = stores(theirs)

        async def protocol(session, numbers):
            place = await largest(session, numbers)
            flags.append("stop")
            done.exception(10)
            return await many_choices(session, numbers), place

        with pytest.raises(PartyFailed) as failure:
            play(protocol, [[1, 2], [3, 4]], materials)
    assert isinstance(failure.value.__cause__, DealerUnavailable)
    assert failure.value.party == 1


@pytest.mark.parametrize("limit", ["greeting_seconds", "idle_seconds", "run_seconds"])
def test_a_party_that_keeps_silent_is_given_up(network, limit, monkeypatch):
    monkeypatch.setattr("smpc.online_dealer._FAREWELL_SECONDS", 0.05)
    limits = replace(DealerLimits(), **{limit: 0.05})
    with served(network, 2, limits=limits, expected=PeerUnavailable) as (theirs, done):
        if limit != "greeting_seconds":
            welcome(theirs[0], 0, 2)
            welcome(theirs[1], 1, 2)
        with pytest.raises(PeerUnavailable, match=limit):
            done.result(10)


def test_a_party_that_leaves_before_it_has_its_seed_ends_the_run(network):
    with served(network, 2, expected=PeerUnavailable) as (theirs, _):
        welcome(theirs[1], 1, 2)
        theirs[0].close()


def test_a_party_that_dies_is_no_error_of_the_dealer(network):
    with served(network, 2) as (theirs, done):
        welcome(theirs[0], 0, 2)
        line, _ = welcome(theirs[1], 1, 2)
        line.send(ASK, encode_asks([Ask(P, 0, 8)]), within=5)
        line.receive(within=5)
        theirs[1].close()
        summary = done.result(10)
    assert summary.finished == (False, False)
    assert summary.items == {P: 8}


def test_a_silent_dealer_is_given_up(network):
    with contextlib.ExitStack() as stack:
        _, theirs = dealer_lines(network, 1, stack)
        with pytest.raises(DealerUnavailable, match="nothing arrived"):
            remote_material(theirs[0], party=1, n_parties=2, within=0.05)


def test_a_dealer_that_sends_something_else_is_given_up(network):
    for what, payload, rule in (
        (CORRECTIONS, bytes(7), "another length"),
        (CORRECTIONS, np.full(8, 255, dtype=np.uint8).tobytes(), "no elements"),
        (WELCOME, bytes(64), "due"),
    ):
        with contextlib.ExitStack() as stack:
            mine, theirs = dealer_lines(network, 1, stack)
            dealer = DealerLine(mine[0], end=0)
            dealer.send(WELCOME, WELCOME_BODY.pack(b"d" * 16, b"s" * 32, 1 << 20, 1 << 20), within=5)
            dealer.send(what, payload, within=5)
            last = remote_material(theirs[0], party=1, n_parties=2, ahead_bytes=0)
            with pytest.raises(DealerUnavailable, match=rule):
                last.take(Product(FIELD61), 1)


def test_a_flipped_bit_on_the_way_is_caught_by_the_line(network):
    with contextlib.ExitStack() as stack:
        mine, theirs = dealer_lines(network, 1, stack, line="relay")
        port = mine[0]._ports[0]
        seal = port._sealers[1].seal_frame
        dealer = DealerLine(mine[0], end=0)
        dealer.send(WELCOME, WELCOME_BODY.pack(b"d" * 16, b"s" * 32, 1 << 20, 1 << 20), within=5)
        last = remote_material(theirs[0], party=1, n_parties=2)
        # From here on the relay flips the last bit of what it forwards.
        port._sealers[1].seal_frame = lambda *frame: (each[:-1] + bytes([each[-1] ^ 1]) for each in seal(*frame))
        dealer.send(CORRECTIONS, bytes(8), within=5)
        with pytest.raises(DealerUnavailable, match="is not what the sender sealed"):
            last.take(P, 1)


def test_lines_of_other_shapes_are_refused_at_the_door(network):
    three = network.connect("plain", 3)
    try:
        with pytest.raises(ValueError, match="a line to each"):
            serve_run(three[:1], n_parties=2)
        with pytest.raises(ValueError, match="party"):
            remote_material(three[1], party=2, n_parties=2)
        with pytest.raises(ValueError, match="two members"):
            remote_material(three[1], party=1, n_parties=2)
        with pytest.raises(ValueError, match="two members"):
            serve_run(three[:2], n_parties=2)
    finally:
        for each in three:
            each.close()


# Bytes from another member.


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_request_is_more_than_refused(data):
    with contextlib.suppress(PackageRefused):
        decode_asks(data)


@pytest.mark.parametrize(
    "description",
    [
        '{"kind":"MaskedPieces","width":60,"log_pieces":0,"degree":16777215,"mask_bits":20,"start":0,"count":1}',
        '{"kind":"MaskedPieces","width":60,"log_pieces":16777215,"degree":1,"mask_bits":20,"start":0,"count":1}',
        '{"kind":"Gates","n_bits":16777215,"n_numbers":16777215,"start":0,"count":1}',
        '{"kind":"Truncation","n_bits":16777215,"start":0,"count":1}',
        '{"kind":"Digits","width":16777215,"start":0,"count":1}',
        '{"kind":"Conjunctions","monomials":[[0,16777215]],"start":0,"count":1}',
        '{"kind":"Conjunctions","monomials":['
        + ",".join(str(list(range(i, i + 12))).replace(" ", "") for i in range(1000))
        + '],"start":0,"count":1}',
    ],
)
def test_a_kind_without_end_costs_nothing_before_it_is_refused(description):
    tracemalloc.start()
    try:
        with pytest.raises(PackageRefused):
            decode_asks(f"[{description}]".encode())
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_requests_that_protocols_make_are_read_back():
    kinds = [*KINDS, Conjunctions(((0, 1), (2, 3))), all_of(4), MaskedPieces(16, 3, 2, 20), Gates(4, 2)]
    asks = [Ask(kind, i, 7 + i) for i, kind in enumerate(dict.fromkeys(kinds))]
    assert decode_asks(encode_asks(asks)) == asks
    assert layout_of(asks).n_bytes == sum(ask.answer_bytes for ask in asks)
