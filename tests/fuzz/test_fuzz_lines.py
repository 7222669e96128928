"""What comes on a line from another member is parsed or refused: no crash, no memory for a promise."""

import io
import os

import numpy as np
import pytest
from mutations import RUNS, fuzz, mutated, mutated_json
from networks import Network, make_keys

from privacy.randomness import SecureRng
from smpc import FIELD61, RING64, FrameRejected, ProtocolAbort
from smpc.agreement import Statement
from smpc.dealer_wire import ASK, DONE, HELLO, Ask, DealerLimits, decode_asks, encode_asks, encode_hello, layout_of
from smpc.dealing import deal
from smpc.errors import DealerUnavailable, MaterialDamaged, PackageRefused, SmpcError
from smpc.kinds import Bit, Conjunctions, Digits, Gates, MatrixProduct, Product, Subsets, node
from smpc.online_dealer import _Run
from smpc.package import PackageFile
from smpc.pieces import MaskedPieces
from smpc.plans import plan_text, read_plan
from smpc.remote_material import _fields
from smpc.sealed_files import load_sealing_key, new_sealing_key, opened, sealed
from smpc.transport import HEADER_BYTES, Frame, decode_frame, encode_frame, payload_length
from smpc.transport.direct import FramePort
from smpc.transport.handshake import Handshake, Hello
from smpc.transport.relay_wire import JOIN, JOIN_MAGIC, LEFT, NOTICE, PRESENT, RELAY, RecordReader, record
from smpc.transport.relayed import RelayPort
from smpc.transport.sealing import Opener, Sealer
from smpc.transport.streams import StreamEnded

SESSION, KEY = b"s" * 16, b"k" * 32


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return Network([make_keys(folder, name) for name in ("a", "b", "c")], make_keys(folder, "relay"))


class Wire:
    """A stream from which given bytes come, in pieces of some length, and which then ends."""

    has_buffered = False

    def __init__(self, data, piece=1000):
        self.data, self.piece = memoryview(data), piece

    def receive_into(self, space):
        if not self.data:
            raise StreamEnded("it closed its connection")
        n = min(len(space), len(self.data), self.piece)
        space[:n] = self.data[:n]
        self.data = self.data[n:]
        return n


def frame(payload, step=0):
    return b"".join(encode_frame(Frame(SESSION, b"o" * 8, step, 1, payload)))


FRAMES = [
    frame(np.arange(5, dtype=np.uint64)),
    frame(np.zeros((2, 3, 4), dtype=np.uint64)),
    frame(np.frombuffer(b"abc", dtype=np.uint8)),
    frame(np.zeros(0, dtype=np.uint8)),
]


def test_frames():
    def parse(data):
        if payload_length(data[:HEADER_BYTES]) == len(data) - HEADER_BYTES:
            decode_frame(data[:HEADER_BYTES], data[HEADER_BYTES:])
        else:
            raise FrameRejected("another length")

    fuzz("frames", parse, FrameRejected, FRAMES)


@pytest.mark.parametrize(("piece", "more"), [(1, b""), (1 << 20, frame(np.zeros(8000, np.uint64)))])
def test_streams_of_frames(piece, more):
    def parse(data):
        port = FramePort(Wire(data, piece), 1)
        port.most_payload[1] = 1 << 16
        while not port.gone:
            port.pull()

    fuzz("streams of frames", parse, FrameRejected, [b"".join(FRAMES) + more], times=2)


def test_records():
    def parse(data):
        reader, wire = RecordReader(), Wire(data)
        try:
            while True:
                reader.fill(wire)
                while reader.take() is not None:
                    pass
        except StreamEnded:
            pass

    # Who reads them turns the one ValueError there is into the end of the connection.
    fuzz("records", parse, ValueError, [record(RELAY, b"x" * 40) + record(3, b"") + record(1, b"y" * 3000)])


class _Agreed:
    session_id = SESSION

    def keys(self, _peer):
        return KEY, KEY


@pytest.mark.parametrize("agreed", [False, True], ids=["before the keys", "after"])
def test_what_a_relay_may_send(agreed):
    def parse(data):
        port = RelayPort(Wire(data), 0, 3)
        if agreed:
            port.protect(_Agreed())
            port.most_payload = dict.fromkeys(port.peers, 1 << 16)
        while port.peers - port.gone.keys():
            port.pull()

    sealers = {i: Sealer(KEY, SESSION, sender=i, receiver=0) for i in (1, 2)}
    big = encode_frame(Frame(SESSION, b"o" * 8, 0, 1, np.zeros(8000, dtype=np.uint64)))
    talk = b"".join(record(1, each) for each in sealers[1].seal_frame(*big))
    talk += b"".join(
        record(2, each)
        for each in sealers[2].seal_frame(FRAMES[0][:HEADER_BYTES], memoryview(FRAMES[0])[HEADER_BYTES:])
    )
    hello = frame(np.zeros(136, dtype=np.uint8))
    notices = record(RELAY, NOTICE.pack(PRESENT, 1)) + record(RELAY, NOTICE.pack(LEFT, 2))
    seeds = [notices + talk] if agreed else [notices + record(1, hello) + record(2, hello) + record(1, b"c" * 100)]
    fuzz("a relay", parse, (FrameRejected, ProtocolAbort), seeds, times=2)


def test_sealed_records():
    sealer = Sealer(KEY, SESSION, sender=1, receiver=0)
    seeds = [sealer.seal(b"x" * 50)]

    def parse(data):
        Opener(KEY, SESSION, sender=1, receiver=0).open(data)

    assert fuzz("sealed records", parse, FrameRejected, seeds)["parsed"] <= RUNS / 10


def test_hellos_and_confirmations(keys):
    roster = keys.roster
    theirs = [Handshake(roster, keys.identities[i], run="run").hello for i in (1, 2)]

    def parse(data):
        Hello.decode(data, sender=1)
        mine = Handshake(roster, keys.identities[0], run="run")
        agreement = mine.agree({1: data, 2: theirs[1]})
        with pytest.raises(FrameRejected):
            agreement.check_confirmation(1, data[:64])

    fuzz("hellos", parse, FrameRejected, [theirs[0]], times=2)


def test_joins_are_of_one_length():
    assert JOIN.size == len(JOIN.pack(JOIN_MAGIC, bytes(32), 0, 2))


def test_statements_about_material():
    said = Statement(b"f" * 32, 1, 3, b"t" * 16, (1, 2, 3), ((0, bytes(16)), (1, bytes(16))))
    fuzz("statements", lambda data: Statement.decode(data, sender=1), FrameRejected, [said.encode()])


ASKS = [
    encode_asks([Ask(Product(RING64), 0, 100), Ask(Digits(16), 0, 7)]),
    encode_asks([Ask(node(4, whole=True), 0, 3), Ask(Bit(FIELD61), 0, 1), Ask(Gates(2, 3), 0, 1)]),
    encode_asks([Ask(MatrixProduct(RING64, 3, 4, 5), 0, 2), Ask(Conjunctions(((0, 1), (1, 2, 3))), 0, 1)]),
    encode_asks([Ask(MaskedPieces(16, 3, 2, 20), 0, 2), Ask(Subsets(4), 0, 1)]),
]


def test_requests_to_a_dealer():
    # A kind of 65,536 rows is as large as one gets, and is made of as many small objects.
    fuzz("requests", decode_asks, PackageRefused, ASKS, mutate=mutated_json, fixed=64 << 20)


class _Quiet:
    max_payload_bytes = 1 << 20

    def finish(self, **_within): ...


class _Line:
    def __init__(self):
        self.transport, self.sent = _Quiet(), 0

    def send(self, _what, payload, **_within):
        self.sent += len(payload)


def test_an_online_dealer_gives_no_more_than_its_limits():
    limits = DealerLimits(answer_bytes=1 << 16, work_bytes=1 << 17, run_bytes=1 << 20, run_streams=5000)
    seeds = [encode_hello(1, 2), *ASKS, b""]

    def parse(data):
        line = _Line()
        run = _Run([_Line(), line], limits, SecureRng())
        run._handle(1, line, HELLO, np.frombuffer(encode_hello(1, 2), dtype=np.uint8))
        payload = np.frombuffer(data, dtype=np.uint8)
        what = (HELLO if data.startswith(b'{"format') else ASK) if data else DONE
        if what == HELLO and data == encode_hello(1, 2):
            return
        run._handle(1, line, what, payload)
        assert line.sent <= limits.answer_bytes + 64

    fuzz("an online dealer", parse, SmpcError, seeds, mutate=_request, fixed=64 << 20)


def _request(source, data):
    return mutated_json(source, data) if data else mutated(source, data)


def test_answers_of_a_dealer():
    asks = [Ask(Product(FIELD61), 0, 10), Ask(Digits(16), 0, 3)]
    layout = layout_of(asks)
    right = np.zeros(layout.n_bytes, dtype=np.uint8).tobytes()
    fuzz("answers", lambda data: _fields(asks, np.frombuffer(data, np.uint8)), DealerUnavailable, [right])


def test_plans_and_packages(tmp_path):
    amounts = {Product(RING64): 100, Digits(16): 10, node(3, whole=False): 4}
    fuzz("plans", read_plan, PackageRefused, [plan_text(amounts, 3).encode()], mutate=mutated_json, fixed=64 << 20)
    package = deal(amounts, 2, tmp_path).files[1].read_bytes()

    def parse(data):
        descriptor = os.memfd_create("package")
        try:
            os.write(descriptor, data)
            PackageFile(descriptor, "package").check()
        finally:
            os.close(descriptor)

    assert fuzz("packages", parse, MaterialDamaged, [package])["parsed"] <= RUNS / 10


def test_sealed_files(keys, tmp_path):
    public = new_sealing_key(tmp_path / "key")
    key = load_sealing_key(tmp_path / "key")
    dealer = keys.identities[0]
    whole = b"".join(sealed([b"x" * 1000], public, dealer))

    def parse(data):
        b"".join(opened(io.BytesIO(data), key, dealer.public))

    assert fuzz("sealed files", parse, PackageRefused, [whole])["parsed"] <= RUNS / 10


def test_a_mutator_that_breaks_nothing_is_noticed():
    with pytest.raises(AssertionError):
        fuzz("control", lambda _data: None, PackageRefused, [b"x"])


def test_a_parser_that_believes_an_announced_length_is_noticed():
    def parse(data):
        if data == b"seed":
            return
        bytearray(int.from_bytes(data[:4], "little") % 2**28)
        raise PackageRefused("whatever it holds")

    with pytest.raises(AssertionError, match="bytes for an input"):
        fuzz("control", parse, PackageRefused, [b"seed"])


def test_a_parser_that_crashes_is_noticed():
    with pytest.raises(AssertionError, match="IndexError"):
        fuzz("control", lambda data: data[3], PackageRefused, [b"seed"])
