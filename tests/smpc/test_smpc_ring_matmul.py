import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.randomness import InsecureSeededRng
from smpc import RING64
from smpc._ring_matmul import (
    MAX_TERMS,
    SplitMatrix,
    _add_tile,
    _small_matmul,
    add_split_products,
    limbs_pay,
    matmul,
    matmul_sum,
)

M = 2**64
# Limbs of the largest magnitude; x_0 + x_1 is odd, so that a sum of an odd number of its squares is odd as well.
LARGEST = (-(2**21), -(2**21) + 1, -(2**19))


def word(limbs):
    return sum(limb << 22 * i for i, limb in enumerate(limbs)) % M


def random_words(*shape, seed=1):
    return InsecureSeededRng(seed).uint64(int(np.prod(shape))).reshape(shape)


def by_limbs(a, b, **options):
    out = np.zeros((a.shape[0], b.shape[1]), dtype=np.uint64)
    add_split_products(out, a, b, _add_tile, **options)
    return out


def python_product(a, b):
    return ((a.astype(object) @ b.astype(object)) % M).astype(np.uint64)


entries = st.sampled_from([0, 1, 2**21 - 1, 2**21, 2**43, 2**63 - 1, 2**63, M - 1, word(LARGEST)]) | st.integers(
    0, M - 1
)


@given(st.data())
def test_limbs_and_loops_equal_python_integers(data):
    m, k, n = (data.draw(st.integers(1, 5)) for _ in range(3))
    a = np.array(data.draw(st.lists(entries, min_size=m * k, max_size=m * k)), dtype=np.uint64).reshape(m, k)
    b = np.array(data.draw(st.lists(entries, min_size=k * n, max_size=k * n)), dtype=np.uint64).reshape(k, n)
    expected = python_product(a, b)
    np.testing.assert_array_equal(by_limbs(a, b), expected)
    np.testing.assert_array_equal(by_limbs(a, b, max_terms=2), expected)
    np.testing.assert_array_equal(matmul(a, b), expected)
    np.testing.assert_array_equal(matmul(SplitMatrix(a), SplitMatrix(b)), expected)


@given(entries)
def test_limbs_are_within_their_bounds_and_make_up_the_word(value):
    low, middle, both, top = SplitMatrix(np.array([[value]], dtype=np.uint64)).limbs[:, 0, 0].tolist()
    assert word([int(low), int(middle), int(top)]) == value
    assert both == low + middle
    assert -(2**21) <= low < 2**21
    assert -(2**21) <= middle < 2**21
    assert -(2**19) <= top < 2**19


@pytest.mark.parametrize("limbs", [LARGEST, (2**21 - 1, 2**21 - 1, 2**19 - 1), (-(2**21), 2**21 - 1, -(2**19))])
@pytest.mark.parametrize("k", [MAX_TERMS - 1, MAX_TERMS, MAX_TERMS + 1, 2 * MAX_TERMS + 1, 5001])
def test_products_of_the_largest_limbs_are_exact_at_any_length(limbs, k):
    # Random entries cannot find a rounded sum: their limbs cancel.
    a, b = np.full((3, k), word(limbs), dtype=np.uint64), np.full((k, 5), word(limbs), dtype=np.uint64)
    assert set(by_limbs(a, b).ravel().tolist()) == {word(limbs) ** 2 * k % M}
    np.testing.assert_array_equal(by_limbs(SplitMatrix(a), b), by_limbs(a, b))


@pytest.mark.parametrize("k", [MAX_TERMS + 1, 4097])
def test_one_term_above_the_bound_is_wrong_without_parts(k):
    # Negative control of the test above: its entries do reach the bound, and the bound is sharp.
    a, b = np.full((3, k), word(LARGEST), dtype=np.uint64), np.full((k, 5), word(LARGEST), dtype=np.uint64)
    assert word(LARGEST) ** 2 * k % M not in set(by_limbs(a, b, max_terms=k).ravel().tolist())


def test_random_entries_do_not_notice_that_parts_are_missing():
    # Why the two tests above are there: a test with random entries passes far above the bound.
    a, b = random_words(4, 4097), random_words(4097, 4, seed=2)
    np.testing.assert_array_equal(by_limbs(a, b, max_terms=4097), _small_matmul(a, b))


def test_extreme_limbs_of_mixed_signs_equal_the_integer_loops():
    rng = np.random.default_rng(1)
    extremes = np.array(
        [word((x, y, z)) for x in (-(2**21), 2**21 - 1) for y in (-(2**21), 2**21 - 1) for z in (-(2**19), 2**19 - 1)],
        dtype=np.uint64,
    )
    a, b = rng.choice(extremes, (30, 1300)), rng.choice(extremes, (1300, 30))
    np.testing.assert_array_equal(by_limbs(a, b), a @ b)


# Around tiles of 512 and the borders between the loops; thin shapes of regressions.
@pytest.mark.parametrize(
    "shape",
    [
        (513, 150, 515),
        (150, 1025, 150),
        (144, 144, 144),
        (143, 144, 144),
        (99, 400, 400),
        (512, 512, 100),
        (10_000, 50, 1),
        (100, 50, 1),
        (50, 100, 1),
        (1, 50, 3000),
        (1, 3000, 50),
        (20, 2, 300),
        (5, 300, 40),
        (0, 3, 4),
        (3, 0, 4),
        (3, 4, 0),
        (0, 0, 0),
        (1, 1, 1),
    ],
)
def test_every_shape_equals_the_product_of_numpy(shape):
    m, k, n = shape
    a, b = random_words(m, k), random_words(k, n, seed=2)
    expected = a @ b
    np.testing.assert_array_equal(RING64.matmul(a, b), expected)
    np.testing.assert_array_equal(matmul(a, SplitMatrix(b)), expected)
    # Any strides: transposed, reversed, every second column.
    np.testing.assert_array_equal(matmul(np.asfortranarray(a), b.T.copy().T), expected)
    np.testing.assert_array_equal(matmul(a[::-1, ::-1], b[::-1]), expected[::-1])
    wide = np.repeat(a, 2, axis=1)
    np.testing.assert_array_equal(matmul(wide[:, ::2], b), expected)


def test_a_beaver_product_from_parts_made_beforehand():
    size = 150
    assert limbs_pay(size, size, size)
    x, y, a, b = (random_words(size, size, seed=seed) for seed in range(4))
    d, e = x - a, y - b
    expected = x @ y
    parts = matmul_sum([(d, SplitMatrix(b)), (SplitMatrix(a), e)])
    np.testing.assert_array_equal(parts + a @ b + d @ e, expected)
    np.testing.assert_array_equal(matmul_sum([(d, b), (a, e), (a, b), (d, e)]), expected)


def test_a_sum_mixes_small_and_large_products():
    a, b, c, d = random_words(150, 160), random_words(160, 150), random_words(150, 2), random_words(2, 150)
    for pairs in ([(a, b), (c, d)], [(c, d), (a, b)]):
        np.testing.assert_array_equal(matmul_sum(pairs), a @ b + c @ d)


@pytest.mark.parametrize("shapes", [((7, 3, 4), (7, 4, 5)), ((4, 20, 30), (4, 30, 40)), ((2, 3, 9, 40), (40, 30)),
                                    ((9, 40), (6, 40, 20)), ((3, 9, 3), (3, 3, 200))])  # fmt: skip
def test_stacks_of_matrices_broadcast_like_numpy(shapes):
    a, b = (random_words(*shape, seed=seed) for seed, shape in enumerate(shapes))
    np.testing.assert_array_equal(RING64.matmul(a, b), a @ b)


def test_factors_are_left_as_they_were():
    a, b = random_words(150, 150), random_words(150, 150, seed=2)
    before = a.copy(), b.copy()
    split = SplitMatrix(b)
    first, second = matmul(a, split), matmul(a, split)
    np.testing.assert_array_equal(first, second)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_a_split_matrix_shows_its_shape_only():
    assert repr(SplitMatrix(np.full((2, 3), 77, dtype=np.uint64))) == "SplitMatrix(shape=(2, 3))"


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: SplitMatrix(np.zeros(3, dtype=np.uint64)), "matrix of uint64"),
        (lambda: SplitMatrix(np.zeros((3, 3))), "float64"),
        (lambda: matmul(np.zeros((200, 200), dtype=np.uint64), np.zeros((201, 200), dtype=np.uint64)), "201"),
        (lambda: matmul(np.zeros((2, 2), dtype=np.uint64), np.zeros((3, 2), dtype=np.uint64)), "3"),
        (lambda: matmul(np.zeros((2, 2), dtype=np.int64), np.zeros((2, 2), dtype=np.uint64)), "int64"),
        (lambda: matmul_sum([]), "at least one"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, rule):
    with pytest.raises(ValueError, match=rule):
        call()


def test_two_threads_do_not_share_buffers():
    from concurrent.futures import ThreadPoolExecutor

    a, b = random_words(200, 200), random_words(200, 200, seed=2)
    expected = [(a + np.uint64(i)) @ b for i in range(8)]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda i: matmul(a + np.uint64(i), b), range(8)))
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_array_equal(x, y)
