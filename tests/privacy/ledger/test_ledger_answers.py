"""Answers come back as they were stored, or not at all; nothing read is ever executed."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privacy.ledger.answers import decode_answer, encode_answer

arrays = st.sampled_from([np.int64, np.uint64, np.float64, np.bool_]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner | st.none(), max_size=4) | st.dictionaries(texts, inner | st.none(), max_size=4),
    max_leaves=10,
)


@given(arrays)
def test_arrays_come_back_bit_for_bit_and_writable(array):
    back = decode_answer(encode_answer(array))
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert back.flags.writeable


@given(plain)
def test_plain_values_come_back_with_their_types(value):
    back = decode_answer(encode_answer(value))
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value), "order of maps, signs of zeros"


def test_layout_and_byte_order_of_the_array_do_not_matter():
    array = np.arange(12, dtype=np.int64).reshape(3, 4)
    for same in (np.asfortranarray(array), array.astype(">i8"), array[::1]):
        assert encode_answer(same) == encode_answer(array)
    np.testing.assert_array_equal(decode_answer(encode_answer(array[::2, ::-1])), array[::2, ::-1])


def test_scalars_of_numpy_become_plain_numbers():
    assert decode_answer(encode_answer(np.int64(3))) == 3
    assert decode_answer(encode_answer({"a": np.float64(0.1), "b": np.bool_(1)})) == {"a": 0.1, "b": True}


@pytest.mark.parametrize(
    "value",
    [
        None,
        math.nan,
        [math.inf],
        [1, None, math.nan, "a"],
        {"a": ["b", "\ud83d", "\ude00"]},
        [np.float64(math.nan), 1],
        {1: 2},
        b"bytes",
        {1, 2},
        object(),
        1 + 2j,
        np.complex128(1),
        np.array([1], dtype=np.int32),
        np.array([1], dtype=np.float32),
        np.array(["a"]),
        np.array([object()]),
        np.array(["2026-01-01"], dtype="M8[D]"),
        np.datetime64("2026-01-01"),
        [np.array([1])],
        "\ud800",
    ],
)
def test_what_cannot_be_stored_is_refused_without_naming_the_value(value):
    with pytest.raises(ValueError) as caught:
        encode_answer(value)
    assert "2026-01-01" not in str(caught.value)


def test_an_endless_nesting_is_refused():
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="nested"):
        encode_answer(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"{}\n",
        pickle.dumps([1]),
        b'{"kind":"json"}\n{',
        b'{"kind":"json"}\n' + b"[" * 200_000,
        b'{"kind":"pickle"}\n' + pickle.dumps(1),
        b'{"dtype":"<i8","kind":"array","shape":[2]}\n' + bytes(8),
        b'{"dtype":"<i8","kind":"array","shape":[-1]}\n' + bytes(8),
        b'{"dtype":"<i8","kind":"array","shape":[true]}\n' + bytes(8),
        b'{"dtype":"|O","kind":"array","shape":[1]}\n' + bytes(8),
        b'{"dtype":"|b1","kind":"array","shape":[1]}\n\x02',
        b'{"dtype":"<i8","kind":"array","more":1,"shape":[1]}\n' + bytes(8),
        b'{"dtype": "<i8","kind":"array","shape":[1]}\n' + bytes(8),
    ],
)
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError):
        decode_answer(data)
