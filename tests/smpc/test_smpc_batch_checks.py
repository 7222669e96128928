"""One bit for a whole row: are all its words zero, do all lie within bounds, whoever put them in."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import RING64, forecast, run_local
from smpc.batch_checks import N_TESTS, each_within, each_zero, joined, random_parities, random_sums
from smpc.kinds import Digits
from smpc.transport import HEADER_BYTES

words = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1])


# Soundness.


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_in_a_small_ring_at_most_half_of_the_subsets_of_anything_but_zeros_sum_to_zero(bits):
    ring, terms = 2**bits, 3
    coins = np.array(list(itertools.product((0, 1), repeat=terms)))
    worst = 0
    for difference in itertools.product(range(ring), repeat=terms):
        survivors = int((coins @ np.array(difference) % ring == 0).sum())
        assert any(difference) or survivors == len(coins)
        if any(difference):
            worst = max(worst, survivors)
    assert worst == len(coins) // 2


def test_uniform_factors_would_miss_half_of_the_ring_and_hardly_anything_else():
    # Why coins and not words: the bound of a product with a uniform word depends on the factors of two.
    ring = 16
    missed = {d: sum(a * d % ring == 0 for a in range(ring)) for d in range(1, ring)}
    assert missed[8] == ring // 2
    assert missed[1] == 1


@pytest.mark.parametrize("difference", [1, 2**63, 2**64 - 1])
def test_each_single_test_misses_one_wrong_word_half_of_the_time_and_no_more(difference):
    # 64 tests of 256 coin vectors; a two-sided test, and as negative controls coins that are one too seldom or often.
    x = np.zeros((1, 5), dtype=np.uint64)
    x[0, 3] = difference

    def p_value(coins):
        zeros = sum(int((random_sums(x, row) == 0).sum()) for row in coins)
        return stats.binomtest(zeros, 256 * N_TESTS, 0.5).pvalue

    coins = InsecureSeededRng(1).uint64(256 * 5).reshape(256, 5)
    more = InsecureSeededRng(2).uint64(256 * 5).reshape(256, 5)
    assert p_value(coins) > 1e-3
    assert p_value(coins & more) < 1e-9
    assert p_value(coins | more) < 1e-9


# Linear parts, against plain integers.


@pytest.mark.parametrize("n", [1, 3, 8192, 8193, 20_000])
def test_random_sums_are_the_sums_of_the_subsets_that_the_coins_name(n):
    rng = InsecureSeededRng(n)
    x, coins = rng.uint64(2 * n).reshape(2, n), rng.uint64(n)
    x[:, 0] = 2**64 - 1
    sums = random_sums(x, coins)
    for k in (0, 1, 33, 63):
        chosen = (coins >> np.uint64(k) & np.uint64(1)).astype(bool)
        assert sums[:, k].tolist() == [sum(row[chosen].tolist()) % 2**64 for row in x]


def test_the_largest_sums_are_exact():
    x = np.full((1, 8192), 2**64 - 1, dtype=np.uint64)
    assert random_sums(x, x[0]).tolist() == [[8192 * (2**64 - 1) % 2**64] * N_TESTS]


def test_random_parities_are_the_parities_of_the_subsets_that_the_coins_name():
    rng = InsecureSeededRng(3)
    bits, coins = rng.uint64(3 * 5).reshape(3, 5), rng.uint64(N_TESTS * 5)
    found = random_parities(bits, coins)
    for k, row in itertools.product((0, 17, 63), range(3)):
        both = bits[row] & coins[5 * k : 5 * k + 5]
        assert found[k, row] == sum(int(word).bit_count() for word in both) % 2


# The answers.


def ask(check, x, n_parties=2):
    """Share an array of words as a site would, and open what the check says of its rows."""
    x = np.asarray(x, dtype=np.uint64)
    rng = InsecureSeededRng(7)
    parts = [rng.uint64(x.size).reshape(x.shape) for _ in range(n_parties - 1)]
    parts.append(x - np.sum(parts, axis=0, dtype=np.uint64))

    async def protocol(s, part):
        return await s.open(await check(s, s.shared(part, RING64), await s.coin(32)))

    results = run_local(protocol, parts).results
    assert all((other == results[0]).all() for other in results)
    return results[0].tolist()


@pytest.mark.parametrize("n_parties", [2, 3, 5])
def test_a_row_is_zero_if_each_word_is(n_parties):
    rows = np.zeros((70, 9), dtype=np.uint64)
    wrong = {3: 1, 10: 2**63, 66: 2**64 - 1, 69: 2**62}
    for row, word in wrong.items():
        rows[row, row % 9] = word
    rows[50, :2] = [5, 2**64 - 5]
    assert ask(each_zero, rows, n_parties) == [row not in {*wrong, 50} for row in range(70)]


def test_rows_of_nothing_are_zero_and_within():
    assert ask(each_zero, np.zeros((2, 0))) == [True, True]
    assert ask(lambda s, x, seed: each_within(s, x, 0, 1, seed), np.zeros((2, 0))) == [True, True]


@given(
    rows=st.lists(st.lists(words, min_size=2, max_size=2), min_size=1, max_size=4),
    bounds=st.tuples(st.integers(0, 2**62 - 1), st.integers(0, 2**62 - 1)).map(sorted),
    inside=st.data(),
)
@settings(max_examples=25, deadline=None)
def test_bounds_are_right_for_every_word(rows, bounds, inside):
    low, high = bounds
    edges = [low, high, (low - 1) % 2**64, high + 1, (low + 2**63) % 2**64, (high + 2**63) % 2**64]
    rows = [[inside.draw(st.sampled_from(edges)) if inside.draw(st.booleans()) else x for x in row] for row in rows]
    found = ask(lambda s, x, seed: each_within(s, x, low, high, seed), rows)
    assert found == [all(low <= x <= high for x in row) for row in rows]


def test_every_row_may_have_bounds_of_its_own(monkeypatch):
    rows = np.array([[3, 5], [3, 5], [3, 5], [0, 2**64 - 1]], dtype=np.uint64)
    low, high = np.array([3, 4, 0, 0]), np.array([5, 5, 4, 2**62 - 1])

    def check(s, x, seed):
        return each_within(s, x, low, high, seed)

    assert ask(check, rows) == [True, False, False, False]
    # In batches, borders of which lie inside rows.
    monkeypatch.setattr("smpc.batch_checks._BATCH_COMPARISONS", 3)
    assert ask(check, rows) == [True, False, False, False]


def test_a_single_bad_element_of_many_is_found():
    rows = np.full((2, 3000), 9)
    rows[1, 2222] = 10
    assert ask(lambda s, x, seed: each_within(s, x, 0, 9, seed), rows) == [True, False]


def test_what_is_no_row_or_no_bound_is_refused():
    async def protocol(s, x):
        a = (await s.input(x))[0]
        with pytest.raises(ValueError, match="rows"):
            await each_zero(s, a, bytes(32))
        for low, high in ((1, 0), (-1, 0), (0, 2**62)):
            with pytest.raises(ValueError, match="bounds"):
                await each_within(s, a.reshape(1, 2), low, high, bytes(32))

    run_local(protocol, [[1, 2], [3, 4]])


# Costs, in closed form. A comparison tree over 16 digits: four nodes of e_0..e_3, g_1..g_3, one of e_0..e_2, g_1..g_3.


def tree_bytes(rows, n_words):
    """Masked bits of a tree that joins rows four at a time, by round."""
    out = []
    while rows > 1:
        nodes, radix = rows // min(rows, 4), min(rows, 4)
        out.append(8 * radix * nodes * n_words)
        rows = nodes + rows % radix
    return out


@pytest.mark.parametrize(("rows", "n"), [(1, 1), (5, 386), (70, 3)])
def test_each_zero_costs_what_it_says(rows, n):
    async def protocol(s, x):
        await each_zero(s, s.shared(x), bytes(32))

    cost = forecast(protocol, [np.zeros((rows, n), dtype=np.uint64)] * 3)
    payloads = [8 * 64 * rows, *tree_bytes(16, rows), *tree_bytes(64, math.ceil(rows / 64))]
    assert cost.rounds == len(payloads) == 6
    assert cost.bytes_sent_by_party == (2 * (6 * HEADER_BYTES + sum(payloads)),) * 3
    assert cost.material[Digits(64)] == 64 * rows


@pytest.mark.parametrize(("rows", "n"), [(1, 1), (5, 386), (70, 3)])
def test_each_within_costs_what_it_says(rows, n):
    async def protocol(s, x):
        await each_within(s, s.shared(x), 0, 1, bytes(32))

    cost = forecast(protocol, [np.zeros((rows, n), dtype=np.uint64)] * 3)
    n_words = 2 * math.ceil(rows * n / 64)
    payloads = [8 * rows * n, 8 * 7 * 4 * n_words, 8 * 6 * n_words, *tree_bytes(64, math.ceil(rows / 64))]
    assert cost.rounds == len(payloads) == 6
    assert cost.bytes_sent_by_party == (2 * (6 * HEADER_BYTES + sum(payloads)),) * 3
    assert cost.material[Digits(64)] == rows * n


def test_answers_are_opened_together():
    async def protocol(s, x):
        a = (await s.input(x))[0]
        seed = await s.coin(32)
        answers = await s.together(each_zero(s, a, seed), each_within(s, a, 0, 7, seed))
        before = s.usage.rounds
        opened = await s.open(joined(*answers))
        return opened.tolist(), s.usage.rounds - before

    assert run_local(protocol, [[[0, 0], [0, 7], [0, 8]], [[0, 0]] * 3]).results[0] == (
        [[True, False, False], [True, True, False]],
        1,
    )
