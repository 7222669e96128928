import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.randomness import InsecureSeededRng
from smpc.bitplanes import (
    compare_digits,
    digits4,
    from_planes,
    pack_bits,
    thermometer,
    to_planes,
    unpack_bits,
)

EDGES = [0, 1, 15, 16, 2**32 - 1, 2**63 - 1, 2**63, 0x0123456789ABCDEF, 0xFEDCBA9876543210, 2**64 - 1]
# One element, both sides of a word, both sides of a pass of 2^14.
LENGTHS = [0, 1, 7, 8, 63, 64, 65, 500, 2**14 - 1, 2**14, 2**14 + 1, 2**15 + 70]

elements = st.sampled_from(EDGES) | st.integers(0, 2**64 - 1)


def random_words(*shape, seed=1):
    return InsecureSeededRng(seed).uint64(int(np.prod(shape))).reshape(shape)


def bits_of(planes, n):
    """One Python integer for each row: bit j of it is element j's."""
    return [int.from_bytes(row.tobytes(), "little") & ((1 << n) - 1) for row in planes]


@given(st.lists(st.booleans(), max_size=200))
def test_packed_bits_are_the_binary_digits_of_a_little_endian_integer(bits):
    words = pack_bits(np.array(bits, dtype=bool))
    assert words.shape == ((len(bits) + 63) // 64,)
    assert int.from_bytes(words.tobytes(), "little") == sum(bit << j for j, bit in enumerate(bits))
    assert unpack_bits(words, len(bits)).tolist() == bits


@pytest.mark.parametrize("shape", [(3, 65), (2, 5, 128), (4, 1), (1, 64), (0, 9), (3, 0)])
def test_bits_of_any_shape_come_back(shape):
    bits = (random_words(*shape) & np.uint64(1)).astype(np.uint8)
    words = pack_bits(bits)
    assert words.shape == (*shape[:-1], (shape[-1] + 63) // 64)
    np.testing.assert_array_equal(unpack_bits(words, shape[-1]), bits)
    np.testing.assert_array_equal(unpack_bits(words.T.copy().T, shape[-1]), bits)


@pytest.mark.parametrize("n", LENGTHS)
def test_planes_hold_the_bits_of_all_elements_and_come_back(n):
    words = random_words(n)
    planes = to_planes(words)
    assert planes.shape == (64, (n + 63) // 64)
    for k in (0, 1, 7, 8, 31, 32, 62, 63):
        expected = pack_bits((words >> np.uint64(k) & np.uint64(1)).astype(np.uint8))
        np.testing.assert_array_equal(planes[k], expected)
    np.testing.assert_array_equal(from_planes(planes, n), words)


@given(st.lists(elements, min_size=1, max_size=130))
def test_planes_equal_python_integers(values):
    planes = to_planes(np.array(values, dtype=np.uint64))
    assert bits_of(planes, len(values)) == [sum((v >> k & 1) << j for j, v in enumerate(values)) for k in range(64)]
    assert from_planes(planes, len(values)).tolist() == values


@given(st.lists(elements, min_size=1, max_size=40), st.integers(1, 16))
def test_digits_and_thermometers_equal_python_integers(values, n_digits):
    words = np.array(values, dtype=np.uint64)
    digits = [[v >> 4 * i & 15 for v in values] for i in range(n_digits)]
    assert digits4(words, n_digits).tolist() == digits
    tables = [[sum((r >= v) << v for v in range(16)) for r in row] for row in digits]
    assert thermometer(words, n_digits).tolist() == tables


def test_every_pair_of_digits_is_compared():
    r, c = (pair.ravel().astype(np.uint64) for pair in np.meshgrid(np.arange(16), np.arange(16)))
    for shift in (0, 4, 60):
        place = np.uint64(shift)
        greater, at_least, equal = compare_digits(c << place, thermometer(r << place))
        row = shift // 4
        np.testing.assert_array_equal(unpack_bits(greater, 256)[row], r > c)
        np.testing.assert_array_equal(unpack_bits(at_least, 256)[row], r >= c)
        np.testing.assert_array_equal(unpack_bits(equal, 256)[row], r == c)


@given(st.lists(st.tuples(elements, elements), min_size=1, max_size=70), st.integers(1, 16))
def test_compared_digits_equal_python_integers(pairs, n_digits):
    r, c = ([pair[k] for pair in pairs] for k in (0, 1))
    n = len(pairs)
    found = compare_digits(np.array(c, dtype=np.uint64), thermometer(np.array(r, dtype=np.uint64), n_digits))
    digits = [[(x >> 4 * i & 15, y >> 4 * i & 15) for x, y in pairs] for i in range(n_digits)]
    for bits, holds in zip(found, (int.__gt__, int.__ge__, int.__eq__), strict=True):
        assert bits_of(bits, n) == [sum(holds(x, y) << j for j, (x, y) in enumerate(row)) for row in digits]


@pytest.mark.parametrize("n", LENGTHS)
def test_digits_of_a_word_decide_the_comparison_of_the_words(n):
    r, c = random_words(n, seed=2), random_words(n, seed=3)
    c[::3] = r[::3]  # ties, and pairs that differ in their lowest digit only
    c[1::3] = r[1::3] ^ np.uint64(1)
    greater, _, equal = (unpack_bits(bits, n).astype(bool) for bits in compare_digits(c, thermometer(r)))
    decided = np.zeros(n, dtype=bool)
    for i in range(16):  # from the lowest digit: a higher one overrules
        decided = greater[i] | (equal[i] & decided)
    np.testing.assert_array_equal(decided, r > c)
    np.testing.assert_array_equal(equal.all(axis=0), r == c)


@pytest.mark.parametrize("n_parties", [2, 3, 5])
def test_each_party_looks_into_its_own_share_and_the_answers_add_up(n_parties):
    n = 1000
    r, c = random_words(n, seed=4), random_words(n, seed=5)
    tables = thermometer(r)
    shares = [random_words(16, n, seed=10 + party).astype(np.uint16) for party in range(n_parties - 1)]
    shares.append(np.bitwise_xor.reduce([tables, *shares]))
    answers = [compare_digits(c, share) for share in shares]
    for k, expected in enumerate(compare_digits(c, tables)):
        opened = np.bitwise_xor.reduce([unpack_bits(answer[k], n) for answer in answers])
        np.testing.assert_array_equal(opened, unpack_bits(expected, n))
        assert (unpack_bits(answers[0][k], n) != unpack_bits(expected, n)).any()


def test_places_behind_the_last_element_are_zero():
    for bits in compare_digits(random_words(70), thermometer(random_words(70, seed=2))):
        assert not (bits[:, -1] >> np.uint64(6)).any()


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: pack_bits(np.zeros(3, dtype=np.int64)), "uint8 or bool"),
        (lambda: unpack_bits(np.zeros(2, dtype=np.uint64), 64), "64 bits need 1 words"),
        (lambda: unpack_bits(np.zeros(1, dtype=np.uint64), 65), "65 bits need 2 words"),
        (lambda: unpack_bits(np.zeros(0, dtype=np.uint64), -1), "-1 bits"),
        (lambda: unpack_bits(np.zeros(1, dtype=np.int64), 3), "int64"),
        (lambda: to_planes(np.zeros((2, 2), dtype=np.uint64)), "one row"),
        (lambda: to_planes(np.zeros(2, dtype=">u8")), "little-endian"),
        (lambda: from_planes(np.zeros((63, 1), dtype=np.uint64), 3), "(64, words)"),
        (lambda: from_planes(np.zeros((64, 1), dtype=np.uint64), 65), "65 bits"),
        (lambda: digits4(np.zeros(2, dtype=np.uint64), 0), "1..16"),
        (lambda: digits4(np.zeros(2, dtype=np.uint64), 17), "1..16"),
        (lambda: compare_digits(np.zeros(2, dtype=np.uint64), np.zeros((16, 3), dtype=np.uint16)), "(n_digits, 2)"),
        (lambda: compare_digits(np.zeros(2, dtype=np.uint64), np.zeros((16, 2), dtype=np.uint8)), "16-bit"),
        (lambda: compare_digits(np.zeros(2, dtype=np.uint64), np.zeros((17, 2), dtype=np.uint16)), "1..16"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, rule):
    with pytest.raises(ValueError, match=re.escape(rule)):
        call()
