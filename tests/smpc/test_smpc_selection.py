"""Largest and smallest numbers against Python's own: ties, one candidate, ranges, both ways of taking several."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plaintext import BOUNDS, arrays, opened, refused_silently, shared, spread_over

from smpc import run_local, selection

PARTIES = st.integers(2, 5)
# Fills groups of four, leaves some over, takes one level, two, three.
LENGTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 16, 17, 21]


def largest_first(row):
    """Positions by falling value, of equal ones the first: by Python's stable sort."""
    numbers = [int(v) for v in row]
    return sorted(range(len(numbers)), key=lambda i: -numbers[i])


@given(data=st.data(), bound=st.sampled_from(BOUNDS), n_parties=PARTIES, n=st.sampled_from(LENGTHS))
def test_the_extremes_of_rows_are_those_of_integers_and_ties_go_to_the_first(data, bound, n_parties, n):
    lead = data.draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
    x = data.draw(arrays(bound, (*lead, n)))
    if n > 2 and x.size:
        x[..., -1] = x[..., 1]

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=bound)
        index, value = await s.argmax_and_max(a)
        return await s.open(
            index, value, *await s.together(s.argmax(a), s.max(a), s.argmin(a), s.min(a)), a.reshape(*lead, n)
        )

    rows = x.reshape(-1, n)
    first_largest = np.array([largest_first(row)[0] for row in rows], dtype=np.int64).reshape(lead)
    first_smallest = np.array([min(range(n), key=row.tolist().__getitem__) for row in rows], dtype=np.int64)
    expected = [first_largest, x.max(axis=-1)] * 2 + [first_smallest.reshape(lead), x.min(axis=-1), x]
    for result, wanted in zip(opened(protocol, spread_over(n_parties, x)), expected, strict=True):
        assert result.shape == np.shape(wanted)
        assert (result == wanted).all()


@pytest.mark.parametrize("n", [1, 2, 5, 64, 100])
def test_among_equal_numbers_the_first_is_taken(n):
    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=5)
        k = min(n, 5)
        return await s.open(*await s.together(s.argmax(a), s.argmin(a)), *await s.top_k(a, k))

    largest, smallest, indices, values = opened(protocol, spread_over(3, np.full(n, 3)))
    assert (int(largest), int(smallest)) == (0, 0)
    assert indices.tolist() == list(range(min(n, 5)))
    assert set(values.tolist()) == {3}


@pytest.mark.parametrize("place", range(21))
def test_the_winner_is_found_wherever_it_stands(place):
    x = np.zeros(21, dtype=int)
    x[place] = 1

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=1)
        index, value = await s.argmax_and_max(a)
        return await s.open(index, value, await s.argmin(-a))

    assert [int(v) for v in opened(protocol, spread_over(2, x))] == [place, 1, place]


@given(data=st.data(), bound=st.sampled_from(BOUNDS), n_parties=PARTIES, n=st.sampled_from([1, 2, 3, 9, 20, 65]))
def test_the_largest_few_are_those_of_a_stable_sort(data, bound, n_parties, n):
    x = data.draw(arrays(bound, n))
    k = data.draw(st.integers(1, min(n, 6)))

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=bound)
        return await s.open(*await s.top_k(a, k))

    indices, values = opened(protocol, spread_over(n_parties, x))
    assert indices.tolist() == largest_first(x)[:k]
    assert values.tolist() == x[indices].tolist()


@pytest.mark.slow
@given(
    data=st.data(),
    bound=st.sampled_from([bound for bound in BOUNDS if bound is not None and bound < 2**61] + [2**61 - 1]),
    n_parties=PARTIES,
    n=st.sampled_from([1, 2, 3, 9, 20]),
)
def test_one_tournament_after_the_other_finds_the_same(data, bound, n_parties, n):
    x = data.draw(arrays(bound, n))
    k = data.draw(st.integers(1, min(n, 4)))

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=bound)
        indices, values = await selection.top_k_one_by_one(s, a._share, k, bound)
        return await s.open(s.shared(indices), s.shared(values))

    indices, values = opened(protocol, spread_over(n_parties, x))
    assert indices.tolist() == largest_first(x)[:k]
    assert values.tolist() == x[indices].tolist()


@pytest.mark.parametrize("bound", [0, 1, 2**31, 2**61 - 1])
def test_what_was_taken_is_never_taken_again_whatever_the_others_are(bound):
    # The largest, pushed below the smallest, stands before it: a tie would go to it.
    x = np.array([bound, -bound, -bound])

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=bound)
        indices, values = await selection.top_k_one_by_one(s, a._share, 3, bound)
        return await s.open(s.shared(indices), s.shared(values))

    indices, values = opened(protocol, spread_over(2, x))
    assert indices.tolist() == [0, 1, 2]
    assert values.tolist() == x.tolist()


@pytest.mark.parametrize("n", [selection.MOST_RANKED, selection.MOST_RANKED + 1])
def test_more_numbers_than_can_be_ranked_at_once_are_taken_one_by_one(n):
    x = np.random.default_rng(n).integers(-1000, 1000, n)
    x[7] = x[n - 1] = 1000

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=1000)
        return await s.open(*await s.top_k(a, 3))

    indices, values = opened(protocol, spread_over(2, x))
    assert indices.tolist() == largest_first(x)[:3] == [7, n - 1, largest_first(x)[2]]
    assert values.tolist() == x[indices].tolist()


def test_fixed_point_numbers_stay_fixed_point_numbers():
    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=8, frac_bits=10)
        _, top = await s.top_k(a, 2)
        results = await s.together(s.max(a), s.min(a), s.abs(a), s.relu(a), s.where(await s.negative_bits(a), 0.25, a))
        assert all(result.frac_bits == 10 for result in (top, *results))
        return await s.open(top, *results, await s.less(a, 1.5), await s.argmax(a))

    x = np.array([1.5, -7.25, 2.0009765625, 0.0])
    top, largest, smallest, absolute, positive, chosen, less, index = opened(protocol, spread_over(2, x))
    assert top.tolist() == [2.0009765625, 1.5]
    assert (float(largest), float(smallest), int(index)) == (2.0009765625, -7.25, 2)
    assert absolute.tolist() == np.abs(x).tolist()
    assert positive.tolist() == np.maximum(x, 0).tolist()
    assert chosen.tolist() == [1.5, 0.25, 2.0009765625, 0.0]
    assert less.tolist() == [0, 1, 0, 1]


def test_what_has_no_largest_number_is_refused():
    async def protocol(s, _):
        nothing = (await s.input(np.zeros((2, 0), dtype=int)))[0]
        scalar = (await s.input(0))[0]
        for x in (nothing, scalar):
            for ask in (s.argmax, s.argmin, s.max, s.min):
                await refused_silently(s, ValueError, lambda ask=ask, x=x: ask(x), match="no numbers")

    run_local(protocol, [0, 0])


def test_a_number_of_numbers_that_there_are_not_is_refused():
    async def protocol(s, _):
        row = (await s.input([1, 2, 3], max_abs=3))[0]
        for k in (0, 4, True, 1.0, -1):
            await refused_silently(s, ValueError, lambda k=k: s.top_k(row, k), match="k must be")
        await refused_silently(s, ValueError, lambda: s.top_k(row.reshape(1, 3), 1), match="one row")

    run_local(protocol, [0, 0])


def test_many_undeclared_numbers_are_refused_before_anything_is_sent():
    async def protocol(s, x):
        for bound in (None, 2**61):
            a = (await s.input(x, max_abs=bound))[0]
            await refused_silently(s, ValueError, lambda a=a: s.top_k(a, 2), match="declared range below")

    run_local(protocol, [np.zeros(selection.MOST_RANKED + 1, dtype=int)] * 2)
