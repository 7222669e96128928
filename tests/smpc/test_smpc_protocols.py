import itertools
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import (
    FIELD61,
    RING64,
    DomainMismatch,
    PartyFailed,
    any_small,
    count_more_than,
    inner_product,
    run_local,
    share,
    small_cells,
)
from smpc.ring import P61


def split(counts, n_parties):
    """Inputs that add up to the counts."""
    first = np.asarray(counts) // 2
    return [first, counts - first, *[np.zeros_like(first)] * (n_parties - 2)]


@pytest.mark.parametrize("n_parties", [2, 3])
@pytest.mark.parametrize("threshold", [1, 2, 3, 5, 6, 10])
def test_small_cells_finds_exactly_the_counts_from_one_to_below_the_threshold(n_parties, threshold):
    counts = np.array([*range(15), 100, 2**20, 2**40 - 1, 2**40 + 3])

    async def protocol(s, x):
        return await small_cells(s, sum_of(await s.input(x, domain=FIELD61)), threshold=threshold)

    run = run_local(protocol, split(counts, n_parties))
    for result in run.results:
        assert result.tolist() == ((counts >= 1) & (counts < threshold)).tolist()


def sum_of(shared):
    total = shared[0]
    for x in shared[1:]:
        total = total + x
    return total


def test_small_cells_keeps_the_shape_and_takes_no_cells():
    async def protocol(s, x):
        a = (await s.input(x, domain=FIELD61))[0]
        return await small_cells(s, a), await small_cells(s, a[:0])

    square, none = run_local(protocol, [np.array([[1, 5], [0, 4]]), np.zeros((2, 2), dtype=int)]).results[0]
    assert square.tolist() == [[True, False], [False, True]]
    assert none.shape == (0, 2)


@pytest.mark.parametrize(("threshold", "tree_rounds"), [(2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4)])
def test_small_cells_costs_a_tree_of_products_and_one_opening(threshold, tree_rounds):
    cells = 50

    async def protocol(s, x):
        return await small_cells(s, s.shared(x, FIELD61), threshold=threshold)

    cost = run_local(protocol, [np.full(cells, 9, dtype=np.uint64)] * 2).cost
    assert cost.rounds == tree_rounds + 1
    assert cost.triples == (threshold - 1) * cells


SAMPLE_SIZE = 20_000
ALPHA = 1e-6


def opened_values(counts, *, masked=True):
    async def unmasked(s, x):
        product = s.shared(np.full(x.size, s.party == 0, dtype=np.uint64), FIELD61)
        for i in range(1, 5):
            product = await s.mul(product, x - i)
        return await s.open(product)

    async def protocol(s, x):
        a = sum_of(await s.input(x, domain=FIELD61))
        await (small_cells(s, a) if masked else unmasked(s, a))

    run = run_local(protocol, split(counts, 2), record_views=True, rng=InsecureSeededRng(23))
    operation, opened = run.views[0].record.opened[-1]
    assert operation == "open"
    return opened


@pytest.mark.parametrize("count", [0, 5, 6, 1000, 2**40 - 1])
def test_what_is_opened_of_a_count_that_is_not_small_is_uniform(count):
    opened = opened_values(np.full(SAMPLE_SIZE, count))
    assert int(opened.min()) > 0
    assert stats.kstest(opened / P61, "uniform").pvalue > ALPHA
    low_bits = np.bincount((opened & np.uint64(15)).astype(int), minlength=16)
    assert stats.chisquare(low_bits).pvalue > ALPHA
    # Negative control: the same product without the mask.
    bare = opened_values(np.full(SAMPLE_SIZE, count), masked=False)
    assert stats.kstest(bare / P61, "uniform").pvalue < ALPHA


def test_what_is_opened_does_not_tell_one_large_count_from_another():
    values = opened_values(np.repeat([5, 17], SAMPLE_SIZE))
    five, seventeen = values[:SAMPLE_SIZE], values[SAMPLE_SIZE:]
    assert stats.ks_2samp(five, seventeen).pvalue > ALPHA


def test_the_same_mask_in_the_ring_would_tell_counts_apart():
    # Why small_cells insists on the field: powers of two survive multiplication by a uniform r.
    r = RING64.random((SAMPLE_SIZE,), InsecureSeededRng(2))

    def zeros(count):
        product = np.uint64(np.prod([count - i for i in range(1, 5)]))
        return (RING64.mul(r, np.full(SAMPLE_SIZE, product)) & np.uint64(15)) == 0

    # 6 - i: 5, 4, 3, 2 hold three factors of two; 17 - i: 16, 15, 14, 13 hold five.
    # r times an odd number times 2^3 ends in four zero bits for every second r; times 2^5, always.
    assert abs(zeros(6).mean() - 0.5) < 0.02
    assert zeros(17).all()


def test_small_cells_refuses_the_ring_and_impossible_thresholds():
    async def ring(s, x):
        await small_cells(s, (await s.input(x))[0])

    async def none(s, x):
        await small_cells(s, (await s.input(x, domain=FIELD61))[0], threshold=0)

    async def huge(s, x):
        await small_cells(s, (await s.input(x, domain=FIELD61))[0], threshold=2**20)

    for protocol, error in ((ring, DomainMismatch), (none, ValueError), (huge, ValueError)):
        with pytest.raises(PartyFailed) as caught:
            run_local(protocol, [[1], [2]])
        assert isinstance(caught.value.__cause__, error)


@given(tests=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), max_size=6))
def test_any_small_equals_the_plaintext(tests):
    counts = np.array([count for count, _ in tests], dtype=np.int64)

    async def protocol(s, x):
        total = sum_of(await s.input(x, domain=FIELD61))
        return await any_small(s, [(total[i], threshold) for i, (_, threshold) in enumerate(tests)])

    run = run_local(protocol, split(counts, 3))
    assert run.results == [any(1 <= count < threshold for count, threshold in tests)] * 3


def test_any_small_opens_one_number_after_a_tree_of_products():
    async def protocol(s, x):
        a = (await s.input(x, domain=FIELD61))[0]
        return await any_small(s, [(a[0], 5), (a[1], 3), (a[2], 2)])

    cost = run_local(protocol, [[9, 9, 9], [0, 0, 0]]).cost
    # Seven factors and the mask: three rounds of products between input and opening.
    assert (cost.rounds, cost.triples) == (5, 7)


@pytest.mark.slow
def test_what_any_small_opens_if_none_is_small_is_uniform():
    n_runs, alpha = 300, 1e-6

    async def protocol(s, x):
        a = (await s.input(x, domain=FIELD61))[0]
        return await any_small(s, [(a[0], 3), (a[1], 2)])

    def opened(rng):
        run = run_local(protocol, [[7, 9], [0, 0]], record_views=True, rng=rng)
        assert run.results == [False, False]
        return int(run.views[0].record.opened[-1][1][0])

    values = np.array([opened(InsecureSeededRng(seed)) for seed in range(n_runs)]) / P61
    assert stats.kstest(values, "uniform").pvalue > alpha
    # Negative control: the bare product of the factors is the same each time.
    assert stats.kstest(np.full(n_runs, 6 * 5 * 8 / P61), "uniform").pvalue < alpha


def test_any_small_refuses_the_ring_and_more_than_one_element():
    async def ring(s, x):
        await any_small(s, [((await s.input(x))[0][0], 5)])

    async def several(s, x):
        await any_small(s, [((await s.input(x, domain=FIELD61))[0], 5)])

    for protocol, error in ((ring, DomainMismatch), (several, ValueError)):
        with pytest.raises(PartyFailed) as caught:
            run_local(protocol, [[1, 2], [2, 3]])
        assert isinstance(caught.value.__cause__, error)


# Patients at several sites.


def overlap(vectors, m, *, n_parties=2, domain=RING64):
    packages = [share(vector, n_parties, domain=domain) for vector in vectors]

    async def protocol(s, mine):
        indicators = [s.shared(package.expand(), domain) for package in mine]
        return await s.open(await count_more_than(s, indicators, m))

    return run_local(protocol, [[p[i] for p in packages] for i in range(n_parties)])


@pytest.mark.parametrize("domain", [RING64, FIELD61])
@pytest.mark.parametrize("n_sites", range(1, 7))
def test_count_more_than_is_right_for_every_pattern_of_sites(domain, n_sites):
    # All 2^k patterns at once, each as often as its number says, so that a miscounted one changes the sum.
    patterns = np.array(list(itertools.product([0, 1], repeat=n_sites)))
    vectors = np.repeat(patterns, np.arange(1, len(patterns) + 1), axis=0).T
    for m in range(n_sites + 2):
        run = overlap(vectors, m, domain=domain)
        assert run.results[0].shape == ()
        assert int(run.results[0]) == int((vectors.sum(axis=0) > m).sum())


@given(data=st.data())
def test_count_more_than_equals_the_plaintext(data):
    n_sites, m, length = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 4)), data.draw(st.integers(0, 20))
    bits = st.lists(st.integers(0, 1), min_size=length, max_size=length)
    vectors = np.array([data.draw(bits) for _ in range(n_sites)], dtype=np.int64).reshape(n_sites, length)
    run = overlap(vectors, m, n_parties=data.draw(st.integers(2, 3)))
    assert int(run.results[0]) == int((vectors.sum(axis=0) > m).sum())


def test_positions_are_taken_in_chunks_that_add_up(monkeypatch):
    monkeypatch.setattr("smpc.protocols._POSITIONS", 7)
    vectors = (np.random.default_rng(3).random((4, 30)) < 0.5).astype(np.int64)
    run = overlap(vectors, 1)
    assert int(run.results[0]) == int((vectors.sum(axis=0) > 1).sum())
    # 5 chunks of 3 rounds, and the opening.
    assert run.cost.rounds == 5 * 3 + 1


def test_count_more_than_one_of_five_sites_needs_five_products_and_an_inner_product():
    run = overlap(np.ones((5, 1000), dtype=np.int64), 1)
    assert (run.cost.triples, run.cost.matrix_products, run.cost.rounds) == (5 * 1000, 1, 5)


@pytest.mark.slow
def test_a_million_buckets_of_five_sites_take_seconds_and_less_than_200_mb():
    n_buckets, most_seconds, most_bytes = 1 << 20, 3.0, 200e6
    vectors = (np.random.default_rng(4).random((5, n_buckets)) < 0.01).astype(np.int64)
    expected = int((vectors.sum(axis=0) > 1).sum())
    packages = [share(vector, 3) for vector in vectors]

    async def protocol(s, mine):
        indicators = [s.shared(package.expand()) for package in mine]
        return await s.open(await count_more_than(s, indicators, 1))

    inputs = [[p[i] for p in packages] for i in range(3)]
    # All parties compute in this process and nobody waits: its own time, whatever else the machine does.
    began = time.process_time()
    run = run_local(protocol, inputs)
    assert time.process_time() - began < most_seconds
    assert int(run.results[2]) == expected
    tracemalloc.start()
    run_local(protocol, inputs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most_bytes


def test_vectors_that_do_not_belong_together_are_refused():
    async def lengths(s, x):
        a = (await s.input(x))[0]
        await count_more_than(s, [a, a[:1]], 1)

    async def domains(s, x):
        await count_more_than(s, [(await s.input(x))[0], (await s.input(x, domain=FIELD61))[0]], 1)

    async def none(s, _):
        await count_more_than(s, [], 1)

    async def negative(s, x):
        await count_more_than(s, await s.input(x), -1)

    async def two_axes(s, x):
        a = (await s.input(x))[0].reshape(1, 2)
        await inner_product(s, a, a)

    for protocol, error in (
        (lengths, ValueError),
        (domains, DomainMismatch),
        (none, ValueError),
        (negative, ValueError),
        (two_axes, ValueError),
    ):
        with pytest.raises(PartyFailed) as caught:
            run_local(protocol, [[1, 0], [0, 1]])
        assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize("domain", [RING64, FIELD61])
def test_inner_product_equals_the_plaintext(domain):
    rng = np.random.default_rng(5)
    x, y = rng.integers(-(2**59), 2**59, (2, 3000))

    async def protocol(s, mine):
        a, b = await s.input(mine, domain=domain)
        return await s.open(await inner_product(s, a, b))

    run = run_local(protocol, [x, y])
    exact = sum(int(p) * int(q) for p, q in zip(x, y, strict=True))
    assert (int(run.results[0]) - exact) % domain.modulus == 0
    assert (run.cost.rounds, run.cost.dealer_bytes) == (3, 2 * 32 + 8)
