"""Vectors of shares, frames, inputs and requests: the valid ones mean what they say, the others are refused by name."""

import asyncio
import collections
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import smpc
from privacy.randomness import SecureRng
from smpc import Dealer, Session
from smpc._rounds import Layout, _split
from smpc.binary import BITS, narrow
from smpc.kinds import Digits, Gate, Product
from smpc.ring import DOMAINS, RING64
from smpc.session import _encode, _expand_input
from smpc.transport import Frame, decode_frame

PATH = Path(__file__).parents[1] / "vectors" / "smpc_shares.json"
DOCUMENT = json.loads(PATH.read_text(encoding="utf-8"))
DOMAIN = {**DOMAINS, "BITS": BITS, **{f"RING{width}": narrow(width) for width in (8, 16, 32)}}


class Canned:
    """A transport whose peers have sent already: a function of the frame that goes out to each."""

    def __init__(self, answer):
        self.answer = answer

    async def exchange(self, outgoing, _expected, *, within):
        assert within > 0
        return {peer: self.answer(peer, frame) for peer, frame in outgoing.items()}

    def close(self):
        pass


def session(n_parties, answer, session_id=bytes(16)):
    return Session(
        party=0,
        n_parties=n_parties,
        transport=Canned(answer),
        material=Dealer(n_parties).store(0),
        session_id=session_id,
        rng=SecureRng(),
    )


def answered(payloads):
    """A transport that answers every frame with these payloads, all else being right."""

    def answer(peer, frame):
        payload = np.frombuffer(payloads[peer], dtype=np.uint8)
        return Frame(frame.session_id, frame.operation, frame.step, peer, payload)

    return answer


def check_input(test):
    share = _expand_input(bytes.fromhex(test["payload"]), DOMAIN[test["domain"]], 1)
    return share.shape == tuple(test["shape"]) and share.ravel().tolist() == test["share"]


def check_opening(test):
    payloads = [bytes.fromhex(share) for share in test["shares"]]
    layout = Layout([(DOMAIN[name], tuple(shape)) for name, shape in test["parts"]])
    mine = np.frombuffer(payloads[0], dtype=np.uint8).copy()
    s = session(len(payloads), answered(payloads))
    opened = asyncio.run(s.reveal("open", layout, mine))
    return [part.tolist() for part in opened] == test["opened"]


def check_joined(test):
    # As a peer's payload in a round of so many protocols side by side.
    payload = bytes.fromhex(test["payload"])

    async def one(s):
        return (await s._exchange("x", [np.zeros(8, np.uint8)] * 2))[1]

    async def run():
        s = session(2, answered({1: payload}))
        return await s.together(*(one(s) for _ in range(test["count"])))

    return [part.tobytes().hex() for part in asyncio.run(run())] == test["parts"]


def check_frame(test):
    frame = decode_frame(bytes.fromhex(test["header"]), bytes.fromhex(test["payload"]))
    s = session(2, lambda *_: frame, bytes.fromhex(DOCUMENT["session"]))
    s._step = 3
    received = asyncio.run(s._exchange("open", [np.zeros(16, np.uint8)] * 2))
    return received[1].tobytes().hex() == test["payload"]


def check_value(test):
    domain = DOMAIN[test["domain"]]
    elements, bound = _encode([test["value"]], domain, test["bound"], 0)
    return bound == test["bound"] and elements.tolist() == [test["value"] % domain.modulus]


def check_material(test):
    for kind in (Product(RING64), Digits(64), Gate()):
        dealer = Dealer(2)
        errors = []
        for source in (dealer.store(0).take_at, dealer.store(1).take_at, Dealer(2).correction):
            for start, count in test["requests"][:-1]:
                source(kind, start, count)
            try:
                source(kind, *test["requests"][-1])
            except smpc.SmpcError as error:
                errors.append(error)
        if errors:
            # All three refuse alike, or none.
            assert len({str(error) for error in errors}) == 1
            assert len(errors) == 3
            raise errors[0]
    return True


CHECKS = {
    "input": check_input,
    "opening": check_opening,
    "joined": check_joined,
    "frame": check_frame,
    "value": check_value,
    "material": check_material,
}


@pytest.mark.parametrize("test", DOCUMENT["tests"], ids=lambda test: f"{test['what']}, {test['comment']}")
def test_a_vector_is_taken_for_what_it_is(test):
    check = CHECKS[test["what"]]
    if test["result"] == "valid":
        assert check(test)
        return
    with pytest.raises(getattr(smpc, test["error"]), match=test["rule"]) as caught:
        check(test)
    if test["error"] == "FrameRejected" and test["what"] in ("input", "opening", "joined"):
        # The line it came on, which is all that is known of it.
        assert caught.value.sender == len(test.get("shares", "ab")) - 1


def test_there_are_vectors_of_each_kind_and_of_each_way_to_be_wrong():
    counts = collections.Counter((test["what"], test["result"]) for test in DOCUMENT["tests"])
    assert all(counts[what, result] >= 2 for what in CHECKS for result in ("valid", "invalid"))
    flags = {flag for test in DOCUMENT["tests"] for flag in test["flags"]}
    assert flags == {"length", "memory", "domain", "header", "replay", "range", "reuse", "order"}
    assert all(bool(test["flags"]) == (test["result"] == "invalid") for test in DOCUMENT["tests"])


def test_the_vectors_are_those_that_the_script_writes(tmp_path):
    script = tmp_path / "make_smpc_shares.py"
    script.write_text((PATH.parent / "make_smpc_shares.py").read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, script], check=True)
    assert json.loads((tmp_path / "smpc_shares.json").read_text(encoding="utf-8")) == DOCUMENT


def test_what_the_session_sends_is_what_the_vectors_hold():
    # The other direction: a payload made by hand above equals the one that goes out.
    test = next(test for test in DOCUMENT["tests"] if test.get("comment") == "several domains")
    sent = []

    def answer(peer, frame):
        sent.append(frame.payload.tobytes())
        return answered([b"", bytes.fromhex(test["shares"][1])])(peer, frame)

    layout = Layout([(DOMAIN[name], tuple(shape)) for name, shape in test["parts"]])
    buffer = layout.buffer()
    for view, words in zip(layout.views(buffer), ([200], [2**63], [2**61 - 2], [1, 2]), strict=True):
        view[...] = words
    asyncio.run(session(2, answer).reveal("open", layout, buffer))
    assert sent == [bytes.fromhex(test["shares"][0])]


def test_a_step_is_not_used_again_after_a_rejected_frame():
    async def run():
        s = session(2, lambda _, frame: Frame(bytes(16), bytes(8), frame.step, 1, frame.payload))
        for step in range(3):
            with pytest.raises(smpc.FrameRejected):
                await s.exchange(b"x")
            assert s._step == step + 1

    asyncio.run(run())


def test_ten_thousand_random_payloads_are_rejected_or_mean_what_they_say():
    # Random bytes and random cuts of good ones: never another error, never parts that do not add up to the payload.
    rng = np.random.default_rng(8)
    good = [bytes.fromhex(test["payload"]) for test in DOCUMENT["tests"] if test["what"] == "joined"]
    n_taken = 0
    for _ in range(10_000):
        raw = bytearray(good[rng.integers(len(good))] if rng.random() < 0.7 else rng.bytes(rng.integers(0, 64)))
        for _ in range(rng.integers(0, 3)):
            if raw:
                raw[rng.integers(len(raw))] = rng.integers(256)
        raw = raw[: rng.integers(len(raw) + 1)] if rng.random() < 0.3 else raw
        parts = _split(np.frombuffer(bytes(raw), dtype=np.uint8), 2)
        if parts is not None:
            n_taken += 1
            assert sum(8 + -(-len(part) // 8) * 8 for part in parts) == len(raw)
    assert 0 < n_taken < 10_000


def test_operations_that_differ_have_other_digests():
    # Eight bytes of BLAKE2b of the operation and its layout, as frames carry them.
    seen = []

    def answer(peer, frame):
        seen.append(frame.operation)
        return answered({peer: frame.payload.tobytes()})(peer, frame)

    async def run():
        s = session(2, answer)
        for layout in (Layout([(RING64, (2,))]), Layout([(BITS, (2,))]), Layout([(RING64, (1, 2))])):
            for operation in ("open", "mul"):
                await s.reveal(operation, layout, layout.buffer())

    asyncio.run(run())
    assert len(set(seen)) == 6
    assert seen[0] == hashlib.blake2b(b"open RING64(2,)", digest_size=8).digest()
