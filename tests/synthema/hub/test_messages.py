"""Messages cut and put together; any bytes at all give messages or one typed error, and little memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthema.messages import (
    FIRST,
    FIRST_MAGIC,
    LATER,
    LATER_MAGIC,
    PIECE_BYTES,
    AskJob,
    Assembler,
    Decision,
    Mail,
    MessageLimits,
    MessageRejected,
    encode,
    encode_head,
)

JOB = "ab" * 32
LIMITS = MessageLimits(message_bytes=1 << 20, open_messages=3, sender_bytes=1 << 19, total_bytes=1 << 20)


def mail(number=0, what="shares"):
    return Mail(job=JOB, attempt=1, what=what, number=number)


@pytest.mark.parametrize("n", [0, 1, PIECE_BYTES - 200, PIECE_BYTES, 5 * PIECE_BYTES + 17])
def test_a_message_comes_out_as_it_went_in(n):
    payload = bytes(i % 251 for i in range(n))
    pieces = list(encode(7, mail(), payload))
    assembler = Assembler()
    got = [assembler.add("a", piece) for piece in pieces]
    assert got[:-1] == [None] * (len(pieces) - 1)
    assert (got[-1].head, got[-1].payload, got[-1].sender) == (mail(), payload, "a")
    assert max(map(len, pieces)) <= PIECE_BYTES + FIRST.size
    assert assembler.bytes_kept == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 200_000)), max_size=5), st.randoms())
def test_messages_of_several_senders_and_of_one_may_interleave(sizes, random):
    streams = [(sender, [*encode(i, mail(i), bytes([i]) * n)]) for i, (sender, n) in enumerate(sizes)]
    assembler, got = Assembler(), []
    while streams:
        sender, pieces = random.choice(streams)
        message = assembler.add(sender, pieces.pop(0))
        if message is not None:
            got.append((message.head.number, message.sender, message.payload))
        streams = [each for each in streams if each[1]]
    assert sorted(got) == [(i, sender, bytes([i]) * n) for i, (sender, n) in enumerate(sizes)]
    assert assembler.bytes_kept == 0


def _first(message_id, total, head_bytes, body):
    return FIRST.pack(FIRST_MAGIC, message_id, total, head_bytes) + body


def _later(message_id, number, body):
    return LATER.pack(LATER_MAGIC, message_id, number) + body


_IDS = st.integers(0, 2)
_BODIES = st.one_of(
    st.binary(max_size=40),
    st.integers(0, PIECE_BYTES + 1).map(bytes),
    st.just(encode_head(mail())),
    st.just(encode_head(mail()) + bytes(PIECE_BYTES - len(encode_head(mail())))),
    st.just(bytes(PIECE_BYTES)),
)
_PIECES = st.one_of(
    st.binary(max_size=80),
    st.builds(
        _first,
        _IDS,
        st.one_of(st.integers(0, 1 << 21), st.just(2**64 - 1)),
        st.one_of(st.just(len(encode_head(mail()))), st.integers(0, 2**32 - 1)),
        _BODIES,
    ),
    st.builds(_later, _IDS, st.integers(0, 4), _BODIES),
)


@given(st.lists(st.tuples(st.sampled_from("abc"), _PIECES), max_size=30))
def test_any_bytes_are_messages_or_are_rejected_and_what_is_kept_is_bounded(stream):
    assembler = Assembler(LIMITS)
    for sender, piece in stream:
        rejected = sender
        try:
            assembler.add(sender, piece)
        except MessageRejected as error:
            rejected = error.sender
        assert rejected == sender
        assert assembler.bytes_kept <= LIMITS.total_bytes


@given(st.integers(0, 2), st.data())
def test_a_flipped_bit_never_changes_where_a_message_goes_on(which, data):
    """A changed piece is rejected, or yields one message of the announced length."""
    payload = bytes(2 * PIECE_BYTES)
    pieces = list(encode(3, mail(), payload))
    changed = bytearray(pieces[which])
    bit = data.draw(st.integers(0, 8 * min(len(changed), 200) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    pieces[which] = bytes(changed)
    assembler, got = Assembler(), []
    try:
        got = [message for piece in pieces if (message := assembler.add("a", piece)) is not None]
    except MessageRejected:
        return
    assert [len(each.payload) for each in got] == [len(payload)]


def test_an_announced_length_is_no_allocation():
    body = encode_head(mail()) + bytes(PIECE_BYTES - len(encode_head(mail())))
    head_bytes = len(encode_head(mail()))
    assembler = Assembler(MessageLimits(message_bytes=1 << 40))
    tracemalloc.start()
    try:
        for message_id in range(8):
            assembler.add("a", _first(message_id, 1 << 40, head_bytes, body))
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 9 * PIECE_BYTES
    assert peak < 12 * PIECE_BYTES


@pytest.mark.parametrize(
    ("what", "pieces", "rule"),
    [
        ("too large", lambda: [_first(1, LIMITS.message_bytes + 1, 10, bytes(PIECE_BYTES))], "may have"),
        ("no head", lambda: [_first(1, 5, 0, bytes(5))], "cut"),
        ("unknown kind", lambda: [_first(1, 14, 14, b'{"kind":"run"}')], "kinds"),
        ("a field too many", lambda: [_first(1, 24, 24, b'{"kind":"members","x":1}')], "kinds"),
        ("not JSON", lambda: [_first(1, 3, 3, b"{{{")], "kinds"),
        ("deep JSON", lambda: [_first(1, 30_000, 30_000, b"[" * 30_000)], "kinds"),
        ("begun twice", lambda: [next(encode(1, mail(), bytes(PIECE_BYTES)))] * 2, "twice"),
        ("never begun", lambda: [_later(1, 1, b"x")], "no message"),
        ("too many open", lambda: [next(encode(i, mail(), bytes(PIECE_BYTES))) for i in range(4)], "under way"),
        ("replayed piece", lambda: (p := list(encode(1, mail(), bytes(4 * PIECE_BYTES))))[:2] + p[1:2], "cut"),
        ("too many bytes", lambda: encode(1, mail(), bytes((1 << 20) - 500)), "more bytes"),
    ],
)
def test_what_breaks_a_rule_is_rejected_and_its_sender_forgotten(what, pieces, rule):
    assembler = Assembler(LIMITS)
    cut = list(pieces())
    taken = 0
    while taken < len(cut) - 1 and assembler.bytes_kept + PIECE_BYTES <= LIMITS.sender_bytes:
        assembler.add("bad", cut[taken])
        taken += 1
    with pytest.raises(MessageRejected, match=rule):
        assembler.add("bad", cut[taken])
    assert assembler.bytes_kept == 0, what


def test_one_bad_sender_does_not_touch_another():
    assembler = Assembler(LIMITS)
    pieces = list(encode(1, mail(), bytes(100_000)))
    assert assembler.add("good", pieces[0]) is None
    with pytest.raises(MessageRejected):
        assembler.add("bad", b"nonsense")
    assert assembler.add("good", pieces[1]).payload == bytes(100_000)


def test_a_rejection_repeats_nothing_that_was_sent():
    secret = b'{"kind":"mail","job":"Mr Smith has AML"}'
    with pytest.raises(MessageRejected) as caught:
        Assembler().add("a", _first(1, len(secret), len(secret), secret))
    assert "Smith" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_heads_are_strict_and_frozen():
    decision = Decision(job=JOB, attempt=1, decision="accepted")
    with pytest.raises(ValueError, match="frozen"):
        decision.decision = "refused"
    for wrong in ({"job": "x"}, {"attempt": "1"}, {"decision": "maybe"}, {"explanation": "x" * 3000}):
        with pytest.raises(ValueError, match="validation error"):
            Decision(**{"job": JOB, "attempt": 1, "decision": "accepted", **wrong})
    assert AskJob(job=JOB).kind == "job"
