import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import FIELD61, RING64, RangeExceeded
from smpc.ring import P61

DOMAINS = [RING64, FIELD61]

RING_EDGES = [0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**61 - 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
FIELD_EDGES = [0, 1, 2, 2**29 - 1, 2**29, 2**32 - 1, 2**32, 2**60 - 1, 2**60, P61 - 2, P61 - 1]


def elements(domain):
    edges = RING_EDGES if domain is RING64 else FIELD_EDGES
    return st.sampled_from(edges) | st.integers(0, domain.modulus - 1)


def words(values):
    return np.array(values, dtype=np.uint64)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_operation_equals_python_integers_at_the_edges(domain):
    edges = RING_EDGES if domain is RING64 else FIELD_EDGES
    a, b = np.meshgrid(words(edges), words(edges))
    pairs = [(x, y) for y in edges for x in edges]
    q = domain.modulus
    assert domain.add(a, b).ravel().tolist() == [(x + y) % q for x, y in pairs]
    assert domain.sub(a, b).ravel().tolist() == [(x - y) % q for x, y in pairs]
    assert domain.mul(a, b).ravel().tolist() == [x * y % q for x, y in pairs]
    assert domain.neg(words(edges)).tolist() == [-x % q for x in edges]


@pytest.mark.parametrize("domain", DOMAINS)
@given(data=st.data())
def test_every_operation_equals_python_integers(domain, data):
    pairs = data.draw(st.lists(st.tuples(elements(domain), elements(domain)), min_size=1, max_size=12))
    a, b = words([x for x, _ in pairs]), words([y for _, y in pairs])
    q = domain.modulus
    assert domain.add(a, b).tolist() == [(x + y) % q for x, y in pairs]
    assert domain.sub(a, b).tolist() == [(x - y) % q for x, y in pairs]
    assert domain.mul(a, b).tolist() == [x * y % q for x, y in pairs]
    assert domain.neg(a).tolist() == [-x % q for x, _ in pairs]
    assert int(domain.sum(a)) == sum(x for x, _ in pairs) % q


@pytest.mark.parametrize("domain", DOMAINS)
@given(data=st.data())
def test_matrix_product_equals_python_integers(domain, data):
    m, k, n = (data.draw(st.integers(1, 5)) for _ in range(3))
    a = np.array(data.draw(st.lists(elements(domain), min_size=m * k, max_size=m * k)), dtype=object).reshape(m, k)
    b = np.array(data.draw(st.lists(elements(domain), min_size=k * n, max_size=k * n)), dtype=object).reshape(k, n)
    got = domain.matmul(a.astype(np.uint64), b.astype(np.uint64))
    assert got.tolist() == ((a @ b) % domain.modulus).tolist()


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("shape", [(2, 2047, 2), (2, 2048, 2), (1, 2049, 3), (1, 5001, 1), (2, 5, 20), (3, 4097, 17)])
def test_matrix_product_is_exact_when_every_limb_of_every_entry_is_full(domain, shape):
    # Random entries cannot find an overflowing accumulator; entries with all bits set can.
    m, k, n = shape
    for top in (domain.modulus - 1, 2**61 - 2):
        got = domain.matmul(np.full((m, k), top, dtype=np.uint64), np.full((k, n), top, dtype=np.uint64))
        assert got.shape == (m, n)
        assert set(got.ravel().tolist()) == {top * top * k % domain.modulus}


@pytest.mark.parametrize("domain", DOMAINS)
def test_long_products_and_sums_equal_python_integers_across_chunk_borders(domain):
    rng = InsecureSeededRng(1)
    a, b = domain.random((2, 20_000), rng), domain.random((2, 20_000), rng)
    q = domain.modulus
    assert domain.mul(a, b).ravel().tolist() == [
        x * y % q for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    ]
    assert domain.sum(a, axis=1).tolist() == [sum(row) % q for row in a.tolist()]
    assert domain.sum(a, axis=0).shape == (20_000,)
    top = np.full(1000, q - 1, dtype=np.uint64)
    assert int(domain.sum(top)) == 1000 * (q - 1) % q


@pytest.mark.parametrize("domain", DOMAINS)
def test_operations_take_arrays_without_axes_and_without_elements(domain):
    one, top = np.uint64(1), np.uint64(domain.modulus - 1)
    scalar = np.array(top)
    assert int(domain.add(scalar, np.array(one))) == 0
    assert int(domain.sub(np.array(np.uint64(0)), np.array(one))) == int(top)
    assert int(domain.neg(np.array(one))) == int(top)
    assert int(domain.mul(scalar, scalar)) == 1
    assert int(domain.sum(scalar)) == int(top)
    assert int(domain.from_signed(-1)) == int(top)
    assert int(domain.to_signed(scalar)) == -1
    empty = np.zeros(0, dtype=np.uint64)
    assert domain.mul(empty, empty).shape == (0,)
    assert int(domain.sum(empty)) == 0


@pytest.mark.parametrize("domain", DOMAINS)
@given(data=st.data())
def test_signed_integers_come_back(domain, data):
    bound = domain.largest
    values = data.draw(st.lists(st.integers(-bound, bound) | st.sampled_from([-bound, bound]), min_size=1, max_size=8))
    encoded = domain.from_signed(np.array(values, dtype=np.int64))
    assert encoded.tolist() == [value % domain.modulus for value in values]
    assert domain.to_signed(encoded).tolist() == values


def test_integers_outside_the_domain_are_refused_instead_of_wrapping():
    for value in (FIELD61.largest + 1, -FIELD61.largest - 1):
        with pytest.raises(RangeExceeded):
            FIELD61.from_signed(np.array([value], dtype=np.int64))
    for value in (2**64, -(2**63) - 1):
        with pytest.raises(RangeExceeded):
            RING64.from_signed(value)
    with pytest.raises(RangeExceeded):
        FIELD61.from_signed(np.array([P61], dtype=np.uint64))
    assert RING64.from_signed(np.array([2**64 - 1, -1], dtype=object)).tolist() == [2**64 - 1] * 2
    # NumPy makes a list of both kinds a list of floats, which are refused before they lose their last bits.
    with pytest.raises(ValueError, match="float64"):
        RING64.from_signed([2**64 - 1, -1])


@pytest.mark.parametrize("values", [1.0, [0.5], ["1"], [None], [2**70, 1.5]])
def test_what_is_not_an_integer_is_refused(values):
    with pytest.raises(ValueError, match="integers"):
        RING64.from_signed(values)


def test_booleans_and_small_integer_types_are_integers():
    assert RING64.from_signed(np.array([True, False])).tolist() == [1, 0]
    assert FIELD61.from_signed(np.array([-1], dtype=np.int8)).tolist() == [P61 - 1]
    assert FIELD61.from_signed(np.array([255], dtype=np.uint8)).tolist() == [255]


class _Words:
    """A source that says which words it will give."""

    def __init__(self, *batches):
        self.batches = list(batches)

    def uint64(self, size):
        batch = self.batches.pop(0)
        assert len(batch) == size
        return words(batch)


def test_the_word_that_is_no_field_element_is_drawn_again():
    source = _Words([P61, 5, 2**64 - 1], [P61, 7], [2**61 + 9])
    assert FIELD61.random((3,), source).tolist() == [9, 5, 7]


@pytest.mark.parametrize("domain", DOMAINS)
def test_random_elements_are_uniform(domain):
    sample_size, alpha = 20_000, 1e-4
    draws = domain.random((sample_size,), InsecureSeededRng(7)) / domain.modulus
    assert stats.kstest(draws, "uniform").pvalue > alpha
    # Negative control: a stream that never reaches the top eighth of the domain.
    assert stats.kstest(draws * 7 / 8, "uniform").pvalue < alpha
