import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import FIELD61, RING64, Dealer, TripleOutOfOrder, TripleReused
from smpc.binary import BITS, BITS16, narrow
from smpc.kinds import (
    Bit,
    Conjunctions,
    Digits,
    Gate,
    MatrixProduct,
    OneHot,
    Product,
    Square,
    Subsets,
    Truncation,
    all_of,
    node,
)
from smpc.material import MaterialStore

# One of each kind, and of each variant that a protocol asks for.
KINDS = [
    Product(RING64),
    Product(FIELD61),
    Square(RING64),
    Square(FIELD61),
    MatrixProduct(RING64, 3, 2, 2),
    MatrixProduct(FIELD61, 16, 3, 16),
    all_of(2),
    all_of(6),
    node(3, whole=False),
    node(4, whole=True),
    Conjunctions(((0, 2), (1,), (0, 1, 3))),
    Subsets(2),
    Subsets(5),
    OneHot(1),
    OneHot(6),
    Digits(8),
    Digits(16),
    Digits(32),
    Digits(64),
    Truncation(1),
    Truncation(16),
    Truncation(62),
    Bit(),
    Bit(FIELD61),
    Gate(),
]


def take_all(stores, kind, count):
    """Every party's shares of the next items, and what each field adds up to, in Python integers."""
    shares = [store.take(kind, count) for store in stores]
    fields = (*kind.free, *kind.tied)
    assert all(len(mine) == len(fields) for mine in shares)
    totals = []
    for i, field in enumerate(fields):
        for mine in shares:
            assert mine[i].shape == field.shape(count)
            assert mine[i].dtype == field.domain.dtype
        totals.append(added_up(field.domain, [mine[i] for mine in shares]))
    return shares, totals


def added_up(domain, arrays):
    """Sum of shares, from Python's integers alone."""
    xor = domain in (BITS, BITS16)
    columns = zip(*(array.ravel().tolist() for array in arrays), strict=True)
    total = [xored(column) if xor else sum(column) % domain.modulus for column in columns]
    return np.array(total, dtype=object).reshape(arrays[0].shape)


def xored(words):
    total = 0
    for word in words:
        total ^= word
    return total


def bits_of(words):
    return [word >> j & 1 for word in words for j in range(64)]


def thermometer_of(number, n_digits):
    return [sum(1 << v for v in range(16) if v <= (number >> 4 * i & 15)) for i in range(n_digits)]


def check_product(kind, count, a, b, c):
    assert a.size == count
    assert (c == a * b % kind.domain.modulus).all()


def check_square(kind, count, a, c):
    assert a.size == count
    assert (c == a * a % kind.domain.modulus).all()


def check_matrix(kind, count, a, b, c):
    matrices = zip(
        a.reshape(count, kind.m, kind.k),
        b.reshape(count, kind.k, kind.n),
        c.reshape(count, kind.m, kind.n),
        strict=True,
    )
    for left, right, product in matrices:
        assert (left @ right % kind.domain.modulus == product).all()


def check_conjunctions(kind, count, masks, products):
    assert masks.shape == (kind.n_variables, count)
    # Every subset of at least two variables of a monomial is there, once.
    needed = {s for m in kind.monomials for size in range(2, len(m) + 1) for s in itertools.combinations(m, size)}
    assert len(kind.subsets) == len(needed)
    assert set(kind.subsets) == needed
    for subset, row in zip(kind.subsets, products, strict=True):
        expected = masks[subset[0]]
        for j in subset[1:]:
            expected = expected & masks[j]
        assert (expected == row).all()


def check_subsets(kind, count, masks, products):
    assert masks.shape == (kind.n_bits, count)
    subsets = [s for size in range(2, kind.n_bits + 1) for s in itertools.combinations(range(kind.n_bits), size)]
    assert sorted(kind.sets) == sorted(sum(1 << j for j in s) for s in subsets)
    for chosen, column in zip(kind.sets, products.reshape(count, len(subsets)).T, strict=True):
        expected = 2**64 - 1
        for j in range(kind.n_bits):
            expected = expected & masks[j] if chosen >> j & 1 else expected
        assert (expected == column).all()


def check_one_hot(kind, count, r, numbers):
    assert r.shape == (count,)
    rows = numbers.reshape(count, 2**kind.n_bits)
    assert set(np.unique(rows)) <= {0, 1}
    assert (rows.sum(axis=1) == 1).all()
    assert (rows.argmax(axis=1) == r % 2**kind.n_bits).all()


def check_digits(kind, count, r, tables):
    assert r.shape == (count,)
    expected = [thermometer_of(number, kind.width // 4) for number in r]
    assert tables.T.tolist() == expected


def check_truncation(kind, _count, r, high, top, tables):
    assert high.tolist() == [number >> kind.n_bits for number in r]
    assert top.tolist() == [number >> 63 for number in r]
    n_digits = -(-kind.n_bits // 4)
    assert tables.T.tolist() == [thermometer_of(number % 2**kind.n_bits, n_digits) for number in r]


def check_bit(_kind, _count, word, numbers):
    assert numbers.tolist() == bits_of(word)


def check_gate(_kind, count, word, a, numbers, products):
    assert a.size == 64 * count
    assert numbers.tolist() == bits_of(word)
    assert (products == a * numbers).all()


CHECKS = {
    Product: check_product,
    Square: check_square,
    MatrixProduct: check_matrix,
    Conjunctions: check_conjunctions,
    Subsets: check_subsets,
    OneHot: check_one_hot,
    Digits: check_digits,
    Truncation: check_truncation,
    Bit: check_bit,
    Gate: check_gate,
}


def joined(kind, pieces):
    """Arrays of several takes, one after the other."""
    fields = (*kind.free, *kind.tied)
    return [np.concatenate([piece[i] for piece in pieces], axis=-1) for i in range(len(fields))]


@pytest.mark.parametrize("n_parties", [2, 3, 5])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_the_shares_of_a_kind_satisfy_its_relation(n_parties, kind):
    dealer = Dealer(n_parties)
    stores = [dealer.store(party) for party in range(n_parties)]
    seen = []
    for count in (3, 1, 0, 2):
        _, totals = take_all(stores, kind, count)
        CHECKS[type(kind)](kind, count, *totals)
        seen.append(totals[0])
    # Other items each time. Masks of 8 bits may agree by chance.
    if kind != Digits(8) and not isinstance(kind, OneHot):
        assert not (seen[0][..., :1] == seen[1][..., :1]).any()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n_parties=st.integers(2, 4),
    cuts=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    prepared=st.lists(st.integers(0, 14), min_size=4, max_size=4),
    later=st.integers(0, 5),
)
def test_items_do_not_depend_on_how_they_are_cut_or_expanded_ahead(kind, seed, n_parties, cuts, prepared, later):
    total = sum(cuts)
    whole = Dealer(n_parties, rng=InsecureSeededRng(seed))
    expected = [whole.store(party).take(kind, total) for party in range(n_parties)]

    dealer = Dealer(n_parties, rng=InsecureSeededRng(seed))
    for party in range(n_parties):
        store = dealer.store(party)
        # Every party may expand ahead as far as it likes, also in between.
        store.prepare({kind: prepared[party % 4]})
        pieces = []
        for i, count in enumerate(cuts):
            if i == 1:
                store.prepare({kind: later})
            pieces.append(store.take(kind, count))
        assert store.used == {kind: total}
        for mine, wanted in zip(joined(kind, pieces), expected[party], strict=True):
            np.testing.assert_array_equal(mine, wanted)


def test_the_streams_of_a_kind_depend_on_everything_public_about_it():
    assert len({kind.label for kind in KINDS}) == len(set(KINDS)) == len(KINDS)
    # Same fields, other kind: one seed must not give the same masks twice.
    first = [MaterialStore(bytes(32), corrections=None).take(kind, 8) for kind in KINDS]
    words = [set(np.ravel(arrays[0]).tolist()) for kind, arrays in zip(KINDS, first, strict=True) if kind != Digits(8)]
    for a, b in itertools.combinations(words, 2):
        assert len(a & b) <= 1  # masks of 16 bits may meet by chance
    # And no field is a copy of another.
    for kind, arrays in zip(KINDS, first, strict=True):
        rows = [tuple(row) for array in arrays for row in np.atleast_2d(array).tolist()]
        assert len(set(rows)) == len(rows), kind.label


# Uniformity of what the dealer sends.

SAMPLE_SIZE = 1 << 14
ALPHA = 1e-5


def chi_square(numbers, n_classes):
    return stats.chisquare(np.bincount(numbers.astype(np.int64).ravel(), minlength=n_classes)).pvalue


def items_for_a_sample(fields):
    return -(-SAMPLE_SIZE // min(field.length for field in fields))


def top_and_bottom(words, domain):
    """Four highest and four lowest bits of words."""
    width = 61 if domain is FIELD61 else 8 * domain.dtype.itemsize
    return (words >> domain.dtype.type(width - 4)) & domain.dtype.type(15), words & domain.dtype.type(15)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_every_share_of_every_field_is_uniform(kind):
    # 2 parties: the last one's shares of tied fields are corrections, all the others expanded seeds.
    dealer = Dealer(2, rng=InsecureSeededRng(7))
    for party in range(2):
        arrays = dealer.store(party).take(kind, items_for_a_sample((*kind.free, *kind.tied)))
        for field, words in zip((*kind.free, *kind.tied), arrays, strict=True):
            for row in np.atleast_2d(words):
                for part in top_and_bottom(row[:SAMPLE_SIZE], field.domain):
                    assert chi_square(part, 16) > ALPHA


# In a field a product of two uniform numbers is as good as uniform by itself, and so is a sum of products.
BETRAYED = [kind for kind in KINDS if not isinstance(kind, Product | Square | MatrixProduct) or kind.domain is RING64]


@pytest.mark.parametrize("kind", BETRAYED, ids=lambda kind: kind.label)
def test_tied_values_themselves_would_not_pass_for_uniform(kind):
    # Negative control: what the dealer would send without the shares of the others, by the same test.
    dealer = Dealer(2, rng=InsecureSeededRng(7))
    count = items_for_a_sample(kind.tied)
    _, totals = take_all([dealer.store(party) for party in range(2)], kind, count)
    pvalues = [
        chi_square(part, 16)
        for field, words in zip(kind.tied, totals[len(kind.free) :], strict=True)
        for row in np.atleast_2d(words.astype(field.domain.dtype))
        for part in top_and_bottom(row[:SAMPLE_SIZE], field.domain)
    ]
    assert min(pvalues) < ALPHA / 1000


# What the dealer does, and what it refuses.


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_the_dealer_sends_seeds_and_the_last_partys_tied_shares(kind):
    dealer = Dealer(3)
    stores = [dealer.store(party) for party in range(3)]
    assert dealer.bytes_sent == 3 * 32
    sent = [store.take(kind, 5) for store in stores][-1][len(kind.free) :]
    assert dealer.bytes_sent == 3 * 32 + sum(array.nbytes for array in sent) == 3 * 32 + kind.dealer_bytes(5)


def test_what_an_item_costs_the_dealer_in_closed_form():
    # Bytes for one item: a word each, except that thermometers are 16 bits a digit and a bit's numbers 64 words.
    assert [kind.dealer_bytes(1) for kind in (Product(RING64), Square(RING64), MatrixProduct(RING64, 3, 5, 2))] == [
        8,
        8,
        48,
    ]
    assert [Digits(width).dealer_bytes(1) for width in (8, 16, 32, 64)] == [2 * width // 4 for width in (8, 16, 32, 64)]
    assert [Truncation(f).dealer_bytes(1) for f in (1, 4, 5, 16, 62)] == [
        16 + 2 * -(-f // 4) for f in (1, 4, 5, 16, 62)
    ]
    assert [kind.dealer_bytes(1) for kind in (Bit(), Bit(FIELD61), Gate())] == [512, 512, 1024]
    # All subsets of at least two of v variables.
    assert [all_of(v).dealer_bytes(1) for v in (2, 4, 8)] == [8 * (2**v - v - 1) for v in (2, 4, 8)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_an_item_is_never_served_twice(kind):
    dealer = Dealer(2)
    stores = [dealer.store(party) for party in range(2)]
    for store in stores:
        store.take(kind, 3)
    for source in (stores[0].take_at, stores[1].take_at, dealer.correction):
        for start in range(3):
            with pytest.raises(TripleReused) as caught:
                source(kind, start, 1)
            assert caught.value.index == start
        with pytest.raises(TripleOutOfOrder) as skipped:
            source(kind, 4, 1)
        assert (skipped.value.index, skipped.value.expected) == (4, 3)
    for party in range(2):
        with pytest.raises(TripleReused):
            dealer.seed(party)
        with pytest.raises(TripleReused):
            dealer.store(party)
    # What was refused changed nothing.
    _, totals = take_all(stores, kind, 2)
    CHECKS[type(kind)](kind, 2, *totals)


def test_items_that_failed_on_their_way_are_burnt():
    class Broken:
        def correction(self, _kind, _start, _count):
            raise ConnectionError

    for prepared in (0, 2):
        store = MaterialStore(bytes(32), corrections=None)
        store.prepare({Product(RING64): prepared})
        store._corrections = Broken()
        with pytest.raises(ConnectionError):
            store.take(Product(RING64), 4)
        assert store.used == {Product(RING64): 4}
        with pytest.raises(TripleReused):
            store.take_at(Product(RING64), 0, 1)


def test_a_taken_item_is_not_in_the_pool_any_more():
    dealer = Dealer(2)
    store = dealer.store(0)
    store.prepare({Product(RING64): 10})
    seen = np.concatenate([store.take(Product(RING64), count)[0] for count in (3, 0, 5, 4)])
    assert len(set(seen.tolist())) == 12


def test_what_cannot_be_expanded_ahead_is_refused():
    store = Dealer(2).store(0)
    for count in (-1, 1.5, True):
        with pytest.raises(ValueError, match="count"):
            store.prepare({Product(RING64): count})


def test_dealers_and_stores_show_no_seed():
    dealer = Dealer(2, rng=InsecureSeededRng(1))
    assert repr(dealer) == "Dealer(n_parties=2, kinds=0)"
    store = dealer.store(1)
    store.take(Product(RING64), 3)
    assert repr(store) == "MaterialStore(kinds=1, items=3)"
    assert repr(dealer) == "Dealer(n_parties=2, kinds=1)"


@pytest.mark.parametrize("n_parties", [0, 1, 6, True, 2.0])
def test_a_dealer_serves_two_to_five_parties(n_parties):
    with pytest.raises(ValueError, match="n_parties"):
        Dealer(n_parties)


def test_narrow_rings_are_those_of_the_masks():
    # A sum of shares wraps where the opening does.
    for width in (8, 16, 32, 64):
        assert Digits(width).free[0].domain == narrow(width)
        assert narrow(width).modulus == 2**width
