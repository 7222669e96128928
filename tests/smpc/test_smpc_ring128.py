import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import RING64, RangeExceeded
from smpc.ring128 import RING128

Q = 2**128
EDGES = [0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 2**96 - 1, 2**127 - 1, 2**127, Q - 2**64, Q - 2, Q - 1]
# Both sides of the words whose signed limbs are negative, and limbs of the largest magnitude.
LIMB_EDGES = [2**63 - 2**43 - 2**21 - 1, 2**63 - 2**43 - 2**21, 2**64 - 2**63 - 2**43 - 2**21 + 2**22]

elements = st.sampled_from(EDGES + LIMB_EDGES) | st.integers(0, Q - 1)


def ints(array):
    return [value % Q for value in RING128.to_ints(array).ravel().tolist()]


def test_every_operation_equals_python_integers_at_the_edges():
    pairs = [(x, y) for x in EDGES for y in EDGES]
    a, b = RING128.from_ints([x for x, _ in pairs]), RING128.from_ints([y for _, y in pairs])
    assert ints(RING128.add(a, b)) == [(x + y) % Q for x, y in pairs]
    assert ints(RING128.sub(a, b)) == [(x - y) % Q for x, y in pairs]
    assert ints(RING128.mul(a, b)) == [x * y % Q for x, y in pairs]
    assert ints(RING128.mul_word(a, b[0])) == [x * (y % 2**64) % Q for x, y in pairs]
    assert ints(RING128.neg(a)) == [-x % Q for x, _ in pairs]


@given(st.lists(st.tuples(elements, elements), min_size=1, max_size=12))
def test_every_operation_equals_python_integers(pairs):
    a, b = RING128.from_ints([x for x, _ in pairs]), RING128.from_ints([y for _, y in pairs])
    assert ints(a) == [x for x, _ in pairs]
    assert ints(RING128.add(a, b)) == [(x + y) % Q for x, y in pairs]
    assert ints(RING128.sub(a, b)) == [(x - y) % Q for x, y in pairs]
    assert ints(RING128.mul(a, b)) == [x * y % Q for x, y in pairs]
    assert ints(RING128.mul_word(a, b[0])) == [x * (y % 2**64) % Q for x, y in pairs]
    assert ints(RING128.neg(a)) == [-x % Q for x, _ in pairs]
    assert ints(RING128.sum(a)) == [sum(x for x, _ in pairs) % Q]


@given(st.data())
def test_matrix_product_equals_python_integers(data):
    m, k, n = (data.draw(st.integers(1, 4)) for _ in range(3))
    a = np.array(data.draw(st.lists(elements, min_size=m * k, max_size=m * k)), dtype=object).reshape(m, k)
    b = np.array(data.draw(st.lists(elements, min_size=k * n, max_size=k * n)), dtype=object).reshape(k, n)
    got = RING128.matmul(RING128.from_ints(a), RING128.from_ints(b))
    assert ints(got) == ((a @ b) % Q).ravel().tolist()


# Signed limbs of the largest magnitude, all of one sign, below a high word without a zero bit.
LARGEST = (2**64 - 1 << 64) + (-(2**21) - (2**21 - 1) * 2**22 - 2**63) % 2**64


@pytest.mark.parametrize("value", [LARGEST, Q - 1, (2**21 - 1) * (1 + 2**22) + (2**19 - 1) * 2**44])
@pytest.mark.parametrize("k", [511, 512, 513, 1025])
def test_matrix_product_of_the_largest_limbs_is_exact_at_any_length(value, k):
    a, b = (RING128.from_ints(np.full(shape, value, dtype=object)) for shape in ((3, k), (k, 2)))
    assert set(ints(RING128.matmul(a, b))) == {value * value * k % Q}


def test_a_large_matrix_product_equals_python_integers():
    rng = InsecureSeededRng(1)
    a, b = RING128.random((3, 600), rng), RING128.random((600, 520), rng)
    expected = (RING128.to_ints(a) @ RING128.to_ints(b)) % Q
    assert ints(RING128.matmul(a, b)) == expected.ravel().tolist()


def test_long_arrays_equal_python_integers_across_chunk_borders():
    rng = InsecureSeededRng(2)
    a, b = RING128.random((2, 9000), rng), RING128.random((2, 9000), rng)
    pairs = list(zip(ints(a), ints(b), strict=True))
    assert ints(RING128.mul(a, b)) == [x * y % Q for x, y in pairs]
    assert ints(RING128.add(a, b)) == [(x + y) % Q for x, y in pairs]
    assert ints(RING128.sub(a, b)) == [(x - y) % Q for x, y in pairs]
    rows = np.array(ints(a), dtype=object).reshape(2, 9000)
    assert ints(RING128.sum(a, axis=1)) == (rows.sum(axis=1) % Q).tolist()
    assert ints(RING128.sum(a, axis=0)) == (rows.sum(axis=0) % Q).tolist()


def test_carries_of_a_sum_of_largest_elements():
    top = RING128.from_ints(np.full(1000, Q - 1, dtype=object))
    assert ints(RING128.sum(top)) == [1000 * (Q - 1) % Q]


def test_the_low_words_are_the_ring_of_64_bits():
    rng = InsecureSeededRng(3)
    a, b = RING128.random((30, 40), rng), RING128.random((40, 20), rng)
    np.testing.assert_array_equal(RING128.matmul(a, b)[0], RING64.matmul(a[0], b[0]))
    np.testing.assert_array_equal(RING128.mul(a, a)[0], RING64.mul(a[0], a[0]))


def test_operands_broadcast_behind_the_limbs():
    a, b = RING128.random((3, 1, 5), InsecureSeededRng(4)), RING128.random((4, 1), InsecureSeededRng(5))
    got = RING128.mul(a, b)
    assert got.shape == (2, 3, 4, 5)
    expected = (RING128.to_ints(a) * RING128.to_ints(b)) % Q
    assert ints(got) == expected.ravel().tolist()
    assert ints(RING128.mul(RING128.from_ints(Q - 1), RING128.from_ints(7))) == [Q - 7]
    assert RING128.mul(RING128.from_ints([]), RING128.from_ints([])).shape == (2, 0)


def test_a_result_may_overwrite_an_argument():
    rng = InsecureSeededRng(6)
    a, b = RING128.random((20_000,), rng), RING128.random((20_000,), rng)
    total, difference = RING128.add(a, b), RING128.sub(a, b)
    for x, y in ((a.copy(), b), (a, b.copy())):
        target = x if y is b else y
        assert RING128.add(x, y, out=target) is target
        np.testing.assert_array_equal(target, total)
    np.testing.assert_array_equal(RING128.sub(a, b, out=b), difference)
    for target in (np.zeros((2, 40_000), dtype=np.uint64)[:, ::2], np.zeros((2, 19_999), dtype=np.uint64)):
        with pytest.raises(ValueError, match="C-contiguous and of shape"):
            RING128.add(a, b, out=target)


def test_signed_and_unsigned_words_enter():
    values = np.array([-(2**63), -1, 0, 2**63 - 1])
    assert RING128.to_ints(RING128.from_signed(values)).tolist() == values.tolist()
    assert RING128.to_ints(RING128.from_words(values.view(np.uint64))).tolist() == [2**63, 2**64 - 1, 0, 2**63 - 1]
    with pytest.raises(ValueError, match="int64"):
        RING128.from_signed(values.view(np.uint64))
    with pytest.raises(ValueError, match="uint64"):
        RING128.from_words(values)


def test_what_is_no_element_is_refused():
    for value in (Q, -(2**127) - 1):
        with pytest.raises(RangeExceeded):
            RING128.from_ints([value])
    with pytest.raises(ValueError, match="integers"):
        RING128.from_ints([0.5])
    with pytest.raises(ValueError, match="limbs first"):
        RING128.matmul(np.zeros((2, 3, 4), dtype=np.uint64), np.zeros((2, 3, 4), dtype=np.uint64))
    assert repr(RING128) == "RING128"
    assert RING128.largest == 2**127 - 1


def test_random_elements_are_uniform_in_both_words():
    sample_size, alpha = 20_000, 1e-4
    draws = RING128.random((sample_size,), InsecureSeededRng(7))
    for words in draws:
        assert stats.kstest(words / 2**64, "uniform").pvalue > alpha
        # Negative control: words that never reach the top eighth.
        assert stats.kstest(words / 2**64 * 7 / 8, "uniform").pvalue < alpha
