"""What the lead may say, as bytes: everything else is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.ledger.answers import encode_answer
from synthema.errors import QuestionRefused
from synthema.questions import (
    LARGEST_NUMBER,
    Failed,
    Measure,
    Select,
    Wait,
    decode_estimates,
    decode_question,
    encode_question,
)

names = st.text('ab"\\é\n\u2028', min_size=1, max_size=4)
cliques = st.lists(st.lists(names, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4).map(tuple)
rates = st.floats(min_value=1e-300, max_value=1e300)
groups = st.dictionaries(names, st.lists(st.integers(0, 9), max_size=4).map(tuple), max_size=2)


@st.composite
def selects(draw):
    candidates = draw(cliques)
    numbers = st.integers(-LARGEST_NUMBER, LARGEST_NUMBER)
    return Select(
        candidates=candidates,
        known=tuple(draw(st.lists(st.integers(-1, 50), max_size=4))),
        epsilon=draw(rates),
        weights=tuple(draw(st.lists(st.integers(1, 1 << 20), max_size=4))),
        penalties=tuple(draw(st.lists(numbers, max_size=4))),
        groups=draw(groups),
    )


questions = st.one_of(
    st.builds(Measure, cliques=cliques, rho=rates, groups=groups),
    selects(),
    st.just(Wait()),
    st.just(Failed(error="ValueError")),
)


@given(questions)
@settings(max_examples=60, deadline=None)
def test_a_question_reads_back_as_it_was_written(question):
    read, rest = decode_question(encode_question(question))
    assert read == question
    assert rest == b""


@given(st.lists(st.integers(-LARGEST_NUMBER, LARGEST_NUMBER), max_size=20))
@settings(max_examples=50, deadline=None)
def test_estimates_travel_behind_a_choice(values):
    question = Select(candidates=(("a",),), known=(-1,), epsilon=1.0)
    array = np.array(values, dtype=np.int64)
    read, rest = decode_question(encode_question(question, array))
    assert read == question
    assert decode_estimates(rest).tolist() == values


@given(questions, st.data())
@settings(max_examples=60, deadline=None)
def test_bytes_that_were_changed_are_refused_or_another_question(question, data):
    message = bytearray(encode_question(question))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    try:
        read, rest = decode_question(bytes(message))
    except QuestionRefused:
        return
    assert encode_question(read) + rest == bytes(message)


@given(st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_other_bytes_are_refused(data):
    with pytest.raises(QuestionRefused):
        decode_question(data)


def changed(**fields) -> bytes:
    good = json.loads(encode_question(Measure(cliques=(("a", "b"),), rho=0.5)))
    return json.dumps(good | fields, separators=(",", ":"), sort_keys=True).encode() + b"\n"


@pytest.mark.parametrize(
    "message",
    [
        changed(rho=float("nan")),
        changed(rho=float("inf")),
        changed(rho=0.0),
        changed(rho=-1.0),
        changed(rho="0.5"),
        changed(rho=True),
        changed(rho=1),
        changed(cliques=[]),
        changed(cliques=[[]]),
        changed(cliques=[["a", 1]]),
        changed(surprise=1),
        changed(kind="run"),
        changed(groups={"a": [-1]}),
        changed(groups={"a": [0.5]}),
        b" " + changed(),
        changed()[:-1],
        changed() + b"x",
        changed().replace(b'"rho":0.5', b'"rho":0.5,"rho":9.5'),
        b"[" * 100_000 + b"\n",
        encode_question(Wait()) + b"x",
    ],
)
def test_a_question_that_nobody_writes_is_refused(message):
    assert decode_question(changed())[0].kind == "measure"
    with pytest.raises(QuestionRefused):
        decode_question(message)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        encode_answer([1, 2]),
        encode_answer(np.array([1.0])),
        encode_answer(np.array([[1]])),
        encode_answer(np.array([LARGEST_NUMBER + 1])),
        encode_answer(np.array([-(2**63)])),
    ],
)
def test_estimates_of_another_kind_are_refused(data):
    with pytest.raises(QuestionRefused):
        decode_estimates(data)
