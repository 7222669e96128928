"""Rounds, bytes, correlated randomness and the dealer's bytes of every method, in closed form.

n  numbers;  W = ceil(n / 64) words of bits;  w width in bits;  P parties

A round sends to each peer a header of 72 bytes and a payload, each array of it filled up to a multiple of 8. A protocol
here is the list of its rounds' payloads, in bytes, and what it takes from the dealer, in the dealer's bytes.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from smpc import FIELD61, RING64, run_local
from smpc.kinds import Bit, Conjunctions, Digits, Gate, Product, Truncation
from smpc.transport import HEADER_BYTES

SIZES = [1, 65, 1000]


@dataclass(frozen=True)
class Plan:
    """Payloads of rounds, and bytes of corrections."""

    payloads: tuple[int, ...] = ()
    dealer: int = 0

    def __add__(self, other):
        return Plan(self.payloads + other.payloads, self.dealer + other.dealer)


def words(n):
    return math.ceil(n / 64)


def up8(n_bytes):
    return 8 * math.ceil(n_bytes / 8)


def node(radix, *, whole):
    """Masked bits, and products of masks, of a node of a comparison tree: e_0 .. e_{q-1} and g_1 .. g_{r-1}."""
    n_equal = radix if whole else radix - 1
    # Subsets of at least two e's, and each g_i with a choice of e's above it that is not empty.
    products = (2**n_equal - n_equal - 1) + sum(2**i - 1 for i in range(1, radix))
    return n_equal + radix - 1, products


def all_of(count):
    return count, 2**count - count - 1


def conjunctions(kind, n_words):
    masked, products = kind
    return Plan((8 * masked * n_words,), 8 * products * n_words)


def tree(digits, n, *, kind):
    plan = Plan()
    while digits > 1:
        radix = min(digits, 4)
        nodes = digits // radix
        plan += conjunctions(kind(radix, digits > 4), nodes * words(n))
        digits = nodes + digits % radix
    return plan


def greater_tree(digits, n):
    return tree(digits, n, kind=lambda radix, whole: node(radix, whole=whole))


def all_tree(digits, n):
    return tree(digits, n, kind=lambda radix, _: all_of(radix))


def masked(width, n):
    return Plan((up8(width // 8 * n),), 2 * (width // 4) * n)


def negative(width, n):
    return masked(width, n) + greater_tree(width // 4, n)


def is_zero(width, n):
    return masked(width, n) + all_tree(width // 4, n)


def less_anywhere(n):
    return negative(64, 3 * 64 * words(n)) + conjunctions(all_of(2), words(n))


def to_numbers(n_words):
    return Plan((8 * n_words,), 64 * 8 * n_words)


def gate(n_words, n):
    return Plan((8 * n_words + 8 * n,), 2 * 64 * 8 * n_words)


def truncation(n_bits, n):
    digits = math.ceil(n_bits / 4)
    return Plan((8 * n,), (16 + 2 * digits) * n) + greater_tree(digits, n) + to_numbers(words(n))


def tournament(compare, rows, n):
    plan = Plan()
    while n > 1:
        radix = min(n, 4)
        groups = n // radix
        n_words = words(rows * groups)
        plan += compare(radix * (radix - 1) // 2 * 64 * n_words)
        if radix > 2:
            plan += conjunctions(all_of(radix - 1), (radix - 1) * n_words)
        plan += gate(2 * (radix - 1) * n_words, 2 * (radix - 1) * rows * groups)
        n = groups + n % radix
    return plan


def ranking(compare, k, n, rank_width):
    pairs = n * (n - 1) // 2
    rank = compare(pairs) + to_numbers(words(pairs))
    return rank + is_zero(rank_width, k * 64 * words(n)) + gate(2 * k * words(n), 2 * k * n)


def measured(ask, n, bound, n_parties, *, frac_bits=0):
    async def protocol(s, _):
        a = s.shared(np.zeros(n, np.uint64), bound=bound, frac_bits=frac_bits)
        b = s.shared(np.zeros(n, np.uint64), bound=bound, frac_bits=frac_bits)
        await ask(s, a, b)
        # Every party counts the same.
        return s.usage.rounds, s.usage.bytes_sent, s.usage.material

    run = run_local(protocol, [0] * n_parties)
    assert all(result == run.results[0] for result in run.results)
    return run.cost


def check(cost, plan, n_parties):
    assert cost.rounds == len(plan.payloads)
    sent = (n_parties - 1) * sum(HEADER_BYTES + payload for payload in plan.payloads)
    assert cost.bytes_sent_by_party == (sent,) * n_parties
    assert cost.bytes_sent == n_parties * sent
    assert cost.dealer_bytes == 32 * n_parties + plan.dealer


# Bounds of a number for which a difference of two, and the number itself, has this width.
WIDTHS = {8: 2**5, 16: 2**12, 32: 2**25, 64: 2**40}


@pytest.mark.slow
@pytest.mark.parametrize("n_parties", [2, 5])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("n", SIZES)
def test_comparisons_cost_what_their_trees_say(n_parties, width, n):
    bound = WIDTHS[width]
    for ask, plan in (
        (lambda s, a, b: s.less_bits(a, b), negative(width, n)),
        (lambda s, a, b: s.less(a, b), negative(width, n) + to_numbers(words(n))),
        (lambda s, a, b: s.less_equal(a, b), negative(width, n) + to_numbers(words(n))),
        (lambda s, a, _: s.negative(a), negative(width, n) + to_numbers(words(n))),
        (lambda s, a, b: s.equal_bits(a, b), is_zero(width, n)),
        (lambda s, a, b: s.equal(a, b), is_zero(width, n) + to_numbers(words(n))),
        (lambda s, a, _: s.abs(a), negative(width, n) + gate(words(n), n)),
        (lambda s, a, _: s.relu(a), negative(width, n) + gate(words(n), n)),
    ):
        check(measured(ask, n, bound, n_parties), plan, n_parties)


@pytest.mark.parametrize(("width", "rounds"), [(8, 2), (16, 2), (32, 3), (64, 3)])
def test_a_comparison_takes_two_or_three_rounds_to_bits_and_one_more_to_numbers(width, rounds):
    # The tree of single bits needs 1 + log2(64) = 7 rounds, and 8 to numbers.
    for n in SIZES:
        bits = measured(lambda s, a, b: s.less_bits(a, b), n, WIDTHS[width], 2)
        numbers = measured(lambda s, a, b: s.less(a, b), n, WIDTHS[width], 2)
        assert (bits.rounds, numbers.rounds) == (rounds, rounds + 1)


def test_a_comparison_of_64_bits_sends_and_is_dealt_so_many_bytes_a_number():
    # To a peer: the masked number, 8 bytes; 4 nodes of 7 bits and one of 6, 34/8 bytes; to numbers, a bit.
    n = 64 * 100
    cost = measured(lambda s, a, b: s.less(a, b), n, WIDTHS[64], 2)
    assert cost.bytes_sent_by_party[0] - 4 * HEADER_BYTES == n * 8 + n * (4 * 7 + 6) // 8 + n // 8
    # From the dealer: 16 thermometers of 2 bytes; 4 x 22 and 15 products of masks, in bits; the bit as a number.
    assert cost.dealer_bytes - 64 == n * 32 + n * (4 * 22 + 15) // 8 + n * 8


@pytest.mark.parametrize("n_parties", [3])
@pytest.mark.parametrize("n", SIZES)
def test_undeclared_numbers_cost_three_signs_and_a_round_more(n_parties, n):
    for ask, plan in (
        (lambda s, a, b: s.less_bits(a, b), less_anywhere(n)),
        (lambda s, a, b: s.less(a, b), less_anywhere(n) + to_numbers(words(n))),
        (lambda s, a, b: s.equal_bits(a, b), is_zero(64, n)),
        (lambda s, a, _: s.negative_bits(a), negative(64, n)),
    ):
        check(measured(ask, n, None, n_parties), plan, n_parties)
    assert len(less_anywhere(n).payloads) == 4


@pytest.mark.parametrize("n_parties", [2, 4])
@pytest.mark.parametrize("n", SIZES)
def test_products_gates_and_conversions_cost_one_round(n_parties, n):
    async def where_bits(s, a, b):
        await s.where(s.random_bits(n), a, b)

    for ask, plan in (
        (lambda s, a, b: s.mul(a, b), Plan((16 * n,), 8 * n)),
        (lambda s, a, b: s.mul_many([(a, b), (b, b)]), Plan((32 * n,), 16 * n)),
        (lambda s, a, _: s.square(a), Plan((8 * n,), 8 * n)),
        (lambda s, a, b: s.where(a, a, b), Plan((16 * n,), 8 * n)),
        (where_bits, gate(words(n), n)),
        (lambda s, *_: s.to_numbers(s.random_bits(n)), to_numbers(words(n))),
        (lambda s, *_: s.to_numbers(s.random_bits(n), FIELD61), to_numbers(words(n))),
        (lambda s, *_: s.to_numbers(s.random_bits(n, 3)), to_numbers(3 * words(n))),
        (lambda s, *_: s.both(s.random_bits(n), s.random_bits(n)), conjunctions(all_of(2), words(n))),
        (lambda s, *_: s.conjunction([s.random_bits(n)] * 8), conjunctions(all_of(8), words(n))),
        (lambda s, a, _: s.open(a), Plan((8 * n,))),
        (lambda s, a, b: s.open(a, b, s.random_bits(n)), Plan((16 * n + 8 * words(n),))),
        (lambda s, a, _: s.mul(a, 7), Plan()),
    ):
        check(measured(ask, n, 1000, n_parties), plan, n_parties)


@pytest.mark.parametrize("n_parties", [2, 3])
@pytest.mark.parametrize("n_bits", [1, 4, 5, 16, 17, 61])
@pytest.mark.parametrize("n", [1, 65])
def test_truncation_costs_what_its_tree_says(n_parties, n_bits, n):
    exact = truncation(n_bits, n)
    stochastic = Plan(exact.payloads[:1], (16 + 2 * math.ceil(n_bits / 4)) * n)
    for how, plan in (("exact", exact), ("stochastic", stochastic), *((("local", Plan()),) if n_parties == 2 else ())):
        cost = measured(lambda s, a, _, how=how: s.truncate(a, n_bits, how=how), n, 1000, n_parties)
        check(cost, plan, n_parties)
    # Two, three or four: one more for each level of a tree over digits, four at a time.
    assert len(exact.payloads) == 2 + (n_bits > 4) + (n_bits > 16)


@pytest.mark.parametrize("n_parties", [2, 3])
def test_products_of_real_numbers_cost_the_product_and_a_truncation(n_parties):
    n, f = 36, 16
    cut = truncation(f, n)
    for ask, plan in (
        (lambda s, a, b: s.mul(a, b), Plan((16 * n,), 8 * n) + cut),
        (lambda s, a, _: s.square(a), Plan((8 * n,), 8 * n) + cut),
        (lambda s, a, b: s.matmul(a.reshape(6, 6), b.reshape(6, 6)), Plan((16 * n,), 8 * n) + cut),
        (lambda s, a, _: s.mul(a, 0.3), cut),
    ):
        check(measured(ask, n, 2**20, n_parties, frac_bits=f), plan, n_parties)


@pytest.mark.slow
@pytest.mark.parametrize("n_parties", [3])
@pytest.mark.parametrize(("width", "rounds"), [(8, 4), (16, 4), (32, 5), (64, 5), (None, 6)])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 100])
def test_a_tournament_costs_a_comparison_and_two_rounds_a_level(n_parties, width, rounds, n):
    def compare(count):
        return less_anywhere(count) if width is None else negative(width, count)

    bound = None if width is None else WIDTHS[width]
    for rows in (1, 3):
        plan = tournament(compare, rows, n)
        cost = measured(lambda s, a, _, rows=rows: s.argmax(a.reshape(rows, n)), rows * n, bound, n_parties)
        check(cost, plan, n_parties)
    # The last level of two has no conjunction. At most ceil(log4(n)) levels, and one more if groups left some over.
    levels = math.ceil(math.log(n, 4))
    assert len(plan.payloads) <= rounds * (levels + 1)
    if n in (4, 16):
        assert len(plan.payloads) == rounds * levels


def test_the_largest_of_a_thousand_takes_as_many_rounds_as_stated():
    cost = measured(lambda s, a, _: s.argmax(a), 1000, 2**40, 2)
    check(cost, tournament(lambda count: negative(64, count), 1, 1000), 2)
    assert cost.rounds <= 80


@pytest.mark.parametrize("n_parties", [3])
@pytest.mark.parametrize(("width", "rounds"), [(8, 6), (64, 7), (None, 8)])
@pytest.mark.parametrize(("k", "n"), [(1, 2), (3, 20), (5, 65), (2, 127), (2, 128)])
def test_a_ranking_takes_as_many_rounds_whatever_it_ranks(n_parties, width, rounds, k, n):
    def compare(count):
        return less_anywhere(count) if width is None else negative(width, count)

    bound = None if width is None else WIDTHS[width]
    plan = ranking(compare, k, n, 8 if n <= 127 else 16)
    check(measured(lambda s, a, _: s.top_k(a, k), n, bound, n_parties), plan, n_parties)
    assert len(plan.payloads) == rounds


@pytest.mark.parametrize("n_parties", [2, 4])
def test_side_by_side_protocols_cost_the_longest_and_eight_bytes_for_each_part(n_parties):
    n = 65
    less, product, cut = (
        negative(64, n) + to_numbers(words(n)),
        Plan((16 * n,), 8 * n),
        truncation(16, n),
    )
    cost = measured(lambda s, a, b: s.together(s.less(a, b), s.mul(a, b), s.truncate(a, 16)), n, 2**31, n_parties)
    payloads = []
    for i in range(4):
        parts = [plan.payloads[i] for plan in (less, product, cut) if i < len(plan.payloads)]
        # Alone, a part needs no length.
        payloads.append(sum(parts) + (8 * len(parts) if len(parts) > 1 else 0))
    check(cost, Plan(tuple(payloads), less.dealer + product.dealer + cut.dealer), n_parties)
    assert cost.rounds == 4


def test_items_of_each_kind_are_counted():
    n = 100
    cost = measured(lambda s, a, b: s.less(a, b), n, WIDTHS[64], 2)
    assert {kind: count for kind, count in cost.material.items() if not isinstance(kind, Conjunctions)} == {
        Digits(64): n,
        Bit(RING64): 2,
    }
    assert [count for kind, count in cost.material.items() if isinstance(kind, Conjunctions)] == [4 * 2, 2]
    cost = measured(lambda s, a, _: s.together(s.abs(a), s.truncate(a, 3, how="stochastic"), s.mul(a, a)), n, 99, 2)
    assert {kind: cost.material[kind] for kind in (Digits(8), Gate(), Truncation(3), Product(RING64))} == {
        Digits(8): n,
        Gate(): 2,
        Truncation(3): n,
        Product(RING64): n,
    }
    assert cost.triples == n


def test_cost_depends_on_nothing_but_what_is_public():
    async def protocol(s, x):
        a = await s.input(x, max_abs=10**6)
        await s.together(s.less(a[0], a[1]), s.max(a[0]), s.top_k(a[1], 2), s.truncate(a[0], 3))

    costs = [run_local(protocol, [np.full(20, x), np.full(20, y)]).cost for x, y in ((0, 0), (10**6, -(10**6)), (3, 4))]
    assert costs[0] == costs[1] == costs[2]
