"""Write smpc_shares.json: shares, frames and inputs as parties send them, each also with one rule broken.

Bytes are put together here by hand, from the descriptions in the docstrings of smpc, so that they are a witness of the
format and not a copy of what the code writes. Run: python tests/vectors/make_smpc_shares.py
"""

import hashlib
import hmac
import json
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

P61 = 2**61 - 1
SESSION = bytes(range(16))
SEED = bytes(range(32))
TESTS = []


def add(what, comment, rule="", flags=(), error="FrameRejected", **fields):
    entry = {"what": what, "comment": comment, **fields, "flags": list(flags), "result": "invalid" if rule else "valid"}
    TESTS.append(entry | ({"rule": rule, "error": error} if rule else {}))


def words(*numbers):
    return b"".join(struct.pack("<Q", number % 2**64) for number in numbers)


def narrow(width, *numbers):
    raw = b"".join((number % 2**width).to_bytes(width // 8, "little") for number in numbers)
    return raw + bytes(-len(raw) % 8)


def key_stream(seed, label, n_bytes):
    key = hmac.digest(seed, b"synthema/smpc/prg/1\0" + label, "sha256")
    return Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(n_bytes))


def inputs():
    """What a party sends of its input: a seed and a shape. The peer expands it."""
    stream = struct.unpack("<6Q", key_stream(SEED, b"share", 48))
    for shape in ((6,), (2, 3), (1, 2, 3)):
        add(
            "input",
            f"seed and shape {shape}",
            domain="RING64",
            payload=(SEED + words(*shape)).hex(),
            shape=list(shape),
            share=list(stream),
        )
    add("input", "seed and no shape: one number", domain="RING64", payload=SEED.hex(), shape=[], share=[stream[0]])
    add("input", "no numbers", domain="RING64", payload=(SEED + words(0, 4)).hex(), shape=[0, 4], share=[])
    # 61 bits of each word; none of these is the one that is drawn again.
    elements = [word & P61 for word in stream]
    assert P61 not in elements
    add(
        "input",
        "in the field",
        domain="FIELD61",
        payload=(SEED + words(6)).hex(),
        shape=[6],
        share=elements,
    )
    rule = "not a seed and a shape"
    for comment, payload in (
        ("empty", b""),
        ("a seed cut short", SEED[:-1]),
        ("a shape cut short", SEED + words(6)[:-1]),
        ("a trailing byte", SEED + words(6) + b"\0"),
        ("33 axes", SEED + words(*[1] * 33)),
    ):
        add("input", comment, rule, ["length"], domain="RING64", payload=payload.hex())
    for comment, shape in (
        ("more numbers than are taken", (2**31 + 1,)),
        ("an axis of 2^64 - 1", (2**64 - 1,)),
        ("axes whose product wraps to nothing", (2**32, 2**32)),
        ("a large axis hidden by an empty one", (2**63, 0)),
    ):
        add("input", comment, "too large", ["memory"], domain="RING64", payload=(SEED + words(*shape)).hex())


def openings():
    """Shares of one opening: arrays one after the other, each filled up to a multiple of eight bytes."""

    def opening(comment, parts, shares, rule="", flags=(), opened=None):
        fields = {"parts": parts, "shares": [share.hex() for share in shares]}
        add("opening", comment, rule, flags, **fields, **({} if rule else {"opened": opened}))

    ring, field = [["RING64", [2]]], [["FIELD61", [2]]]
    opening("ring", ring, [words(5, -7), words(2**64 - 4, 8)], opened=[[1, 1]])
    opening("ring, three parties", ring, [words(1, 2), words(3, 4), words(-4, 2**63)], opened=[[0, 2**63 + 6]])
    opening("field", field, [words(P61 - 1, 5), words(2, P61 - 5)], opened=[[1, 0]])
    opening("bits", [["BITS", [1]]], [words(0b1100), words(0b1010)], opened=[[0b0110]])
    opening("numbers of 8 bits", [["RING8", [3]]], [narrow(8, 1, 2, 255), narrow(8, 1, 254, 2)], opened=[[2, 0, 1]])
    opening("numbers of 16 bits", [["RING16", [1]]], [narrow(16, 65535), narrow(16, 3)], opened=[[2]])
    opening("numbers of 32 bits", [["RING32", [1]]], [narrow(32, 2**32 - 1), narrow(32, 1)], opened=[[0]])
    opening(
        "several domains",
        [["RING8", [1]], ["RING64", [1]], ["FIELD61", [1]], ["BITS", [2]]],
        [
            narrow(8, 200) + words(2**63, P61 - 1, 1, 2),
            narrow(8, 100) + words(2**63, P61 - 1, 3, 4),
        ],
        opened=[[44], [0], [P61 - 2], [2, 6]],
    )
    opening("no numbers", [["RING64", [0]]], [b"", b""], opened=[[]])
    rule, flags = "does not hold the shares", ["length"]
    good = words(5, -7)
    for comment, share in (
        ("empty", b""),
        ("one byte short", good[:-1]),
        ("one word short", good[:-8]),
        ("a trailing byte", good + b"\0"),
        ("a trailing word", good + words(0)),
        ("twice as much", good + good),
    ):
        opening(f"ring, {comment}", ring, [good, share], rule, flags)
        opening(f"ring, third party, {comment}", ring, [good, good, share], rule, flags)
    opening("numbers of 8 bits that are not filled up", [["RING8", [3]]], [narrow(8, 1, 2, 3), bytes(3)], rule, flags)
    opening("numbers of 8 bits as words", [["RING8", [3]]], [narrow(8, 1, 2, 3), words(1, 2, 3)], rule, flags)
    opening("no numbers, one byte", [["RING64", [0]]], [b"", b"\0"], rule, flags)
    rule, flags = "no elements", ["domain"]
    for comment, word in (("p", P61), ("p + 1", P61 + 1), ("2^64 - 1", 2**64 - 1), ("2^61", 2**61)):
        for place in range(2):
            pair = [0, 0]
            pair[place] = word
            opening(f"field, {comment} at place {place}", field, [words(1, 2), words(*pair)], rule, flags)
    opening(
        "field behind a ring", [["RING64", [1]], ["FIELD61", [1]]], [words(0, 0), words(2**64 - 1, P61)], rule, flags
    )


def joined():
    """Payloads of protocols side by side: each behind its length, filled up to a multiple of eight bytes."""

    def part(payload, length=None):
        return words(len(payload) if length is None else length) + payload + bytes(-len(payload) % 8)

    def vector(comment, payload, count, rule="", flags=(), parts=None):
        fields = {"payload": payload.hex(), "count": count}
        add("joined", comment, rule, flags, **fields, **({} if rule else {"parts": [p.hex() for p in parts]}))

    one, two = b"\1" * 16, b"\2" * 3
    vector("two", part(one) + part(two), 2, parts=[one, two])
    vector("two, the second empty", part(one) + part(b""), 2, parts=[one, b""])
    vector("three empty ones", part(b"") * 3, 3, parts=[b""] * 3)
    rule = "as many parts"
    for comment, payload in (
        ("empty", b""),
        ("one part only", part(one)),
        ("three parts", part(one) + part(two) + part(b"")),
        ("a trailing byte", part(one) + part(two) + b"\0"),
        ("a trailing word", part(one) + part(two) + words(0)),
        ("the last part not filled up", (part(one) + part(two))[:-1]),
        ("the last part one word short", (part(one) + part(one))[:-8]),
        ("a length cut short", part(one) + words(8)[:5]),
        ("a first length beyond the end", part(one, 2**20) + part(two)),
        ("a first length that takes the second part in", part(one, 32) + part(two)),
        ("a last length beyond the end", part(one) + part(two, 9)),
        ("a length of 2^64 - 1", part(one) + part(two, 2**64 - 1)),
        ("a length of 2^63", part(one, 2**63) + part(two)),
        ("lengths too short for what follows", part(one, 1) + part(two)),
        ("a last length too short", part(one) + part(one, 8)),
    ):
        vector(comment, payload, 2, rule, ["length"])


def frames():
    """Headers, and whether a session takes the frame at step 3 from party 1, for operation "open"."""
    operation = hashlib.blake2b(b"open", digest_size=8).digest()
    good = {
        "magic": b"SYF1",
        "session": SESSION,
        "operation": operation,
        "step": 3,
        "sender": 1,
        "code": 2,
        "shape": [16],
        "payload": bytes(16),
    }

    def vector(comment, rule="", flags=(), cut=None, **changes):
        f = {**good, **changes}
        lengths = [*f["shape"], *[0] * (4 - len(f["shape"]))][:4]
        ndim = f.get("ndim", len(f["shape"]))
        header = (
            f["magic"] + f["session"] + f["operation"] + struct.pack("<QHBB", f["step"], f["sender"], f["code"], ndim)
        )
        header += words(*lengths)
        add("frame", comment, rule, flags, header=header[:cut].hex(), payload=f["payload"].hex())

    vector("as it is sent")
    vector("empty payload", shape=[0], payload=b"")
    vector("header one byte short", "must have 72 bytes", ["length"], cut=71)
    vector("other format", "mark", ["header"], magic=b"SYF2")
    vector("type 0", "type", ["header"], code=0)
    vector("type 3", "type", ["header"], code=3)
    vector("no axes", "axes", ["header"], shape=[])
    vector("five axes", "axes", ["header"], ndim=5)
    vector("a length beyond the last axis", "axes", ["header"], shape=[16, 1], ndim=1)
    vector("payload shorter than its shape", "long", ["length"], payload=bytes(15))
    vector("payload longer than its shape", "long", ["length"], payload=bytes(17))
    vector("more than fits in memory", "large", ["memory"], shape=[2**34 + 1], payload=b"")
    vector("lengths that wrap", "large", ["memory"], code=1, shape=[2**32, 2**32], payload=b"")
    vector("another session", "another session", ["replay"], session=SESSION[::-1])
    vector("another sender", "another sender", ["replay"], sender=2)
    vector("itself as sender", "another sender", ["replay"], sender=0)
    vector("an earlier step", "numbered 2, step 3", ["replay"], step=2)
    vector("a later step", "numbered 4, step 3", ["replay"], step=4)
    vector("another operation", "something else", ["replay"], operation=operation[::-1])
    vector("words in place of bytes", "hold bytes", ["header"], code=1, shape=[2])
    vector("bytes with two axes", "hold bytes", ["header"], shape=[4, 4])


def values():
    """Numbers that a party wants to put in, with their declared range."""
    for domain, largest in (("RING64", 2**63 - 1), ("FIELD61", (P61 - 1) // 2)):
        for number in (0, 1, -1, largest, -largest):
            add("value", f"{number} in {domain}", domain=domain, value=number, bound=None)
        for bound in (0, 1000, largest):
            for number in (bound, -bound):
                add("value", f"{number} within {bound} in {domain}", domain=domain, value=number, bound=bound)
        for bound, number in ((0, 1), (1000, 1001), (1000, -1001), (1000, largest)):
            add(
                "value",
                f"{number} beyond {bound} in {domain}",
                "declared bound",
                ["range"],
                "RangeExceeded",
                domain=domain,
                value=number,
                bound=bound,
            )
        add(
            "value",
            f"a range that {domain} does not hold",
            "do not fit",
            ["range"],
            "RangeExceeded",
            domain=domain,
            value=0,
            bound=largest + 1,
        )
    for number in ((P61 + 1) // 2, -(P61 + 1) // 2, 2**63 - 1):
        add(
            "value",
            f"{number} in the field",
            "outside the range",
            ["range"],
            "RangeExceeded",
            domain="FIELD61",
            value=number,
            bound=None,
        )


def material():
    """Requests for items start..start + count - 1, in order; the last one is the one in question."""
    for comment, requests in (
        ("one after the other", [[0, 3], [3, 1], [4, 10]]),
        ("nothing, twice", [[0, 0], [0, 0], [0, 2]]),
    ):
        add("material", comment, requests=requests)
    for comment, requests in (
        ("the same again", [[0, 3], [0, 3]]),
        ("one of them again", [[0, 3], [2, 1]]),
        ("the first again, much later", [[0, 3], [3, 3], [6, 3], [0, 1]]),
        ("nothing, from the past", [[0, 3], [1, 0]]),
        ("overlapping what comes", [[0, 3], [2, 5]]),
    ):
        add("material", comment, "already handed out", ["reuse"], "TripleReused", requests=requests)
    for comment, requests in (
        ("not from the first", [[1, 1]]),
        ("one left out", [[0, 3], [4, 1]]),
        ("nothing, from the future", [[0, 3], [5, 0]]),
        ("far ahead", [[0, 3], [2**40, 1]]),
    ):
        add("material", comment, "next one is", ["order"], "TripleOutOfOrder", requests=requests)


def main():
    for make in (inputs, openings, joined, frames, values, material):
        make()
    document = {
        "source": "tests/vectors/make_smpc_shares.py",
        "comment": "Bytes between parties of smpc in hexadecimal, numbers that are put in, and requests for material. "
        "`what` says what an entry is; tests/smpc/test_smpc_vectors.py gives it to the code that receives it. An "
        "invalid one must be refused with the error `error`, whose text matches `rule`.",
        "session": SESSION.hex(),
        "tests": TESTS,
    }
    path = Path(__file__).with_name("smpc_shares.json")
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
