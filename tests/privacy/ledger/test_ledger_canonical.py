"""One value has one byte string, and no other byte string is read."""

from __future__ import annotations

import json
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.ledger import canonical

texts = st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: unicodedata.normalize("NFC", text))
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(documents)
def test_documents_read_back_and_are_what_a_plain_json_reader_reads(value):
    data = canonical.encode(value)
    assert canonical.decode(data) == value
    assert json.loads(data) == value


@given(documents, st.sampled_from([b" ", b"\n", b"\xef\xbb\xbf"]), st.booleans())
def test_whitespace_around_a_document_is_refused(value, extra, before):
    data = canonical.encode(value)
    with pytest.raises(ValueError):
        canonical.decode(extra + data if before else data + extra)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"1.0",
        b"1e3",
        b"-0",
        b"01",
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'"\\u0061"',
        b'"\\/"',
        b'"\\ud800"',
        b'"\xff"',
        '"e\u0301"'.encode(),
        b"",
        b"{",
        b"[" * 200 + b"]" * 200,
        b"[" * 200_000 + b"]" * 200_000,
        b"1" * 5000,
    ],
)
def test_anything_but_the_canonical_bytes_is_refused(data):
    with pytest.raises(ValueError):
        canonical.decode(data)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        math.nan,
        math.inf,
        [0.5],
        {"a": 1.5},
        {1: "a"},
        {None: 1},
        (1, 2),
        b"a",
        {1, 2},
        "e\u0301",
        "\ud800",
        object(),
    ],
)
def test_what_the_profile_does_not_hold_cannot_be_written(value):
    with pytest.raises(ValueError):
        canonical.encode(value)


def test_a_duplicate_name_is_refused_at_parse():
    for data in (b'{"a":1,"a":2}', b'[{"b":{"a":1,"a":1}}]'):
        with pytest.raises(ValueError, match="twice"):
            canonical.decode(data)


def test_a_subclass_that_writes_itself_differently_is_refused():
    class Sly(int):
        def __repr__(self):
            return "7"

    with pytest.raises(ValueError, match="Sly"):
        canonical.encode({"cost": Sly(3)})


@given(st.text())
def test_two_spellings_of_a_text_become_one(text):
    once = canonical.normalised({text: [text, 1]})
    assert once == canonical.normalised({unicodedata.normalize("NFD", text): [unicodedata.normalize("NFD", text), 1]})


# RFC 8785: the vectors of its reference suite that need no floats, with the bytes that it states.
JCS = [
    ('[56,{"d":true,"10":null,"1":[]}]', '[56,{"1":[],"10":null,"d":true}]'),
    (
        (
            '{"peach":"This sorting order","péché":"is wrong according to French",'
            '"pêche":"but canonicalization MUST","sin":"ignore locale"}'
        ),
        (
            '{"peach":"This sorting order","péché":"is wrong according to French",'
            '"pêche":"but canonicalization MUST","sin":"ignore locale"}'
        ),
    ),
    (
        '{"1":{"f":{"f":"hi","F":5},"\\n":"56.0"},"10":{},"":"empty","a":{},"111":[{"e":"yes","E":"no"}],"A":{}}',
        '{"":"empty","1":{"\\n":"56.0","f":{"F":5,"f":"hi"}},"10":{},"111":[{"E":"no","e":"yes"}],"A":{},"a":{}}',
    ),
    (
        (
            '{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\uff5e":"Basic Plane","1":"One",'
            '"\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control","\\u00f6":"Latin Small Letter O"}'
        ),
        (
            '{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin Small Letter O",'
            '"€":"Euro Sign","😀":"Emoji: Grinning Face","\uff5e":"Basic Plane"}'
        ),
    ),
    ('"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/"', '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),
]


@pytest.mark.parametrize(("given", "stated"), JCS)
def test_documents_are_written_as_rfc_8785_says(given, stated):
    value = json.loads(given)
    assert canonical.encode(value) == stated.encode()
    assert canonical.decode(stated.encode()) == value


def test_names_in_the_order_of_code_points_are_refused():
    # U+1F600 is two code units, the first of which is below U+FF5E.
    with pytest.raises(ValueError, match="canonical"):
        canonical.decode('{"\uff5e":1,"😀":2}'.encode())
