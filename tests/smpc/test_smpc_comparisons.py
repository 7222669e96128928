"""Order, equality, selection by a bit: every method against Python's integers, over ranges, shapes and parties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plaintext import BOUNDS, arrays, cause, opened, pairs, refused_silently, shared, spread_over, wrapped

from smpc import FIELD61, RING64, SessionMismatch, run_local
from smpc.bits import SharedBits
from smpc.kinds import all_of

PARTIES = st.integers(2, 5)


@given(drawn=pairs(), n_parties=PARTIES)
def test_order_and_equality_are_those_of_integers(drawn, n_parties):
    bound, x, y = drawn

    async def protocol(s, mine):
        a, b = await shared(s, mine, max_abs=bound)
        return await s.open(
            *await s.together(s.less(a, b), s.less_equal(a, b), s.equal(a, b), s.negative(a), s.negative(b))
        )

    expected = [x < y, x <= y, x == y, x < 0, y < 0]
    for result, wanted in zip(opened(protocol, spread_over(n_parties, x, y)), expected, strict=True):
        assert result.shape == np.shape(wanted)
        assert (result == wanted).all()


@given(drawn=pairs())
def test_public_operands_on_either_side_count_like_shared_ones(drawn):
    bound, x, y = drawn
    if bound == 2**63 - 1:
        # A public -2^63 does not fit what was declared; it is refused, elsewhere.
        y = np.maximum(y, -(2**63 - 1))

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=bound)
        return await s.open(
            *await s.together(
                s.less(a, y),
                s.less(y, a),
                s.less_equal(a, y),
                s.less_equal(y, a),
                s.equal(a, y),
                s.equal(y, a),
                s.less(a, int(y.flat[0]) if y.size else 0),
            )
        )

    first = int(y.flat[0]) if y.size else 0
    expected = [x < y, y < x, x <= y, y <= x, x == y, x == y, x < first]
    for result, wanted in zip(opened(protocol, spread_over(2, x)), expected, strict=True):
        assert result.shape == np.shape(wanted)
        assert (result == wanted).all()


@pytest.mark.parametrize("n_parties", [2, 3])
@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_every_place_of_a_borrow_counts(n_parties, width):
    # Differences of one at every power of two: each digit of the mask decides some of them.
    top = 2 ** (width - 2) - 1
    powers = [2**k for k in range(width - 2)]
    numbers = np.array(
        sorted({0, 1, -1, top, -top, *(s * (p + d) for p in powers for s in (1, -1) for d in (-1, 0, 1))})
    )
    x, y = (part.ravel() for part in np.meshgrid(numbers, numbers))

    async def protocol(s, mine):
        a, b = await shared(s, mine, max_abs=top)
        return await s.open(*await s.together(s.less_bits(a, b), s.equal_bits(a, b)))

    less, equal = opened(protocol, spread_over(n_parties, x, y))
    assert (less == (x < y)).all()
    assert (equal == (x == y)).all()


def test_all_numbers_of_eight_bits_have_their_sign_whatever_the_mask():
    # Every x with every mask, several times over.
    numbers = np.tile(np.arange(-127, 128), 2000)

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=127)
        return await s.open(*await s.together(s.negative_bits(a), s.equal_bits(a, 0)))

    negative, zero = opened(protocol, spread_over(2, numbers))
    assert (negative == (numbers < 0)).all()
    assert (zero == (numbers == 0)).all()


@pytest.mark.parametrize("n_parties", [2, 5])
def test_undeclared_numbers_at_the_edges_of_the_ring_compare_as_integers(n_parties):
    edges = np.array([-(2**63), -(2**63) + 1, -(2**62) - 1, -1, 0, 1, 2**62, 2**63 - 2, 2**63 - 1])
    x, y = (part.ravel() for part in np.meshgrid(edges, edges))

    async def protocol(s, mine):
        a, b = await shared(s, mine)
        return await s.open(*await s.together(s.less(a, b), s.less_equal(a, b), s.equal(a, b), s.negative(a)))

    for result, wanted in zip(
        opened(protocol, spread_over(n_parties, x, y)), [x < y, x <= y, x == y, x < 0], strict=True
    ):
        assert (result == wanted).all()


@given(drawn=pairs(), n_parties=PARTIES, data=st.data())
def test_where_takes_one_or_the_other_whatever_says_so(drawn, n_parties, data):
    bound, x, y = drawn
    shape = np.broadcast_shapes(x.shape, y.shape)
    condition = data.draw(arrays(1, shape)) > 0
    low, high = (0, 0) if bound == 0 else (-1, 1)

    async def protocol(s, mine):
        a, b = await shared(s, mine[:2], max_abs=bound)
        number = (await s.input(mine[2], max_abs=1))[0]
        bits = await s.equal_bits(number, 1)
        return await s.open(
            *await s.together(
                s.where(bits, a, b),
                s.where(number, a, b),
                s.where(bits, a, np.full(shape, high)),
                s.where(number, low, b),
                s.where(~bits, a, b),
            )
        )

    results = opened(protocol, spread_over(n_parties, x, y, condition.astype(int)))
    expected = [
        np.where(condition, x, y),
        np.where(condition, x, y),
        np.where(condition, x, high),
        np.where(condition, low, y),
        np.where(condition, y, x),
    ]
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == shape
        assert (result == wanted).all()


def test_a_selected_number_keeps_the_wider_of_two_ranges():
    async def protocol(s, mine):
        a = (await s.input(mine, max_abs=2**62 + 5))[0]
        b = (await s.input(mine, max_abs=2**62 + 7))[0]
        c = await s.where(await s.negative_bits(a), a, b)
        return c.bound, (await s.where(await s.negative(a), a, 3)).bound

    # The difference would not fit the ring; the selected number does.
    assert run_local(protocol, [[1], [2]]).results[0] == (2**62 + 7, 2**62 + 5)


@pytest.mark.parametrize("n_parties", [2, 3])
def test_where_in_the_field_stays_in_the_field(n_parties):
    x, y, condition = np.array([2**59, -5, 7]), np.array([-(2**60) + 1, 3, 2**60 - 1]), np.array([1, 0, 1])

    async def protocol(s, mine):
        a, b, c = await shared(s, mine, domain=FIELD61)
        chosen = await s.where(c, a, b)
        assert chosen.domain is FIELD61
        return await s.open(chosen)

    assert opened(protocol, spread_over(n_parties, x, y, condition))[0].tolist() == [2**59, 3, 7]


@given(data=st.data(), bound=st.sampled_from(BOUNDS), n_parties=PARTIES)
def test_absolute_value_and_positive_part_are_those_of_integers(data, bound, n_parties):
    x = data.draw(arrays(bound, data.draw(st.sampled_from([(), (0,), (1,), (65,), (3, 4)]))))

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=bound)
        results = await s.together(s.abs(a), s.relu(a))
        assert all(result.bound == bound for result in results)
        return await s.open(*results)

    absolute, positive = opened(protocol, spread_over(n_parties, x))
    # Only -2^63 has no absolute value in the ring.
    assert absolute.ravel().tolist() == [wrapped(abs(int(v))) for v in x.ravel()]
    assert positive.ravel().tolist() == [max(int(v), 0) for v in x.ravel()]
    assert absolute.shape == positive.shape == x.shape


# Bits.


@given(data=st.data(), n_parties=PARTIES, length=st.sampled_from([0, 1, 63, 64, 65, 130]), count=st.integers(2, 8))
def test_operators_and_conjunctions_of_bits_are_those_of_booleans(data, n_parties, length, count):
    table = data.draw(arrays(1, (count, length))) > 0
    public = np.arange(length) % 3 == 0

    async def protocol(s, mine):
        rows = await shared(s, mine, max_abs=1)
        bits = await s.together(*(s.equal_bits(row, 1) for row in rows))
        a, b = bits[:2]
        conjunction, both, numbers, elements = await s.together(
            s.conjunction(bits), s.both(a, ~b), s.to_numbers(a), s.to_numbers(b, FIELD61)
        )
        assert (numbers.domain, elements.domain) == (RING64, FIELD61)
        return await s.open(
            conjunction, both, a ^ b, ~a, ~~a, a ^ public, public ^ a, a ^ True, a ^ False, numbers, elements
        )

    a, b = table[:2]
    expected = [table.all(axis=0), a & ~b, a ^ b, ~a, a, a ^ public, a ^ public, ~a, a, a, b]
    results = opened(protocol, spread_over(n_parties, *table.astype(int)))
    for result, wanted in zip(results, expected, strict=True):
        assert (result == wanted).all()
    assert [result.dtype for result in results] == [np.dtype(bool)] * 9 + [np.dtype(np.int64)] * 2


@pytest.mark.parametrize("n_parties", [2, 4])
def test_random_bits_are_bits_of_any_shape_and_their_rows_can_be_indexed(n_parties):
    async def protocol(s, _):
        bits = s.random_bits(100, 4, 2)
        assert bits.shape == (4, 2, 100)
        picked = [bits[1], bits[1, 0], bits[::2], bits[..., 1], bits[np.array([3, 0])], bits[None], bits[2:2]]
        numbers = await s.to_numbers(bits)
        return await s.open(bits, numbers, *picked)

    everything, numbers, *picked = opened(protocol, [0] * n_parties)
    assert (everything == numbers).all()
    expected = [
        everything[1],
        everything[1, 0],
        everything[::2],
        everything[:, 1],
        everything[[3, 0]],
        everything[None],
        everything[2:2],
    ]
    for part, wanted in zip(picked, expected, strict=True):
        assert part.shape == wanted.shape
        assert (part == wanted).all()


def test_the_packed_axis_of_bits_cannot_be_reached_by_an_index():
    # Two rows of two words: an index of the words could be taken for an index of rows.
    async def protocol(s, _):
        bits = s.random_bits(100, 2)
        for index in ((slice(None), 1), (..., slice(None, None, -1)), (0, 0), (slice(None), [1, 0])):
            if index[0] is ...:
                # Rows in reverse, words as they were.
                opened_bits, reverse = await s.open(bits, bits[index])
                assert (reverse == opened_bits[::-1]).all()
                continue
            with pytest.raises(IndexError):
                bits[index]
        with pytest.raises(IndexError):
            s.random_bits(5)[0]

    run_local(protocol, [0, 0])


def test_bits_show_nothing_and_refuse_what_they_cannot_do():
    async def protocol(s, _):
        bits = s.random_bits(70)
        assert repr(bits) == "SharedBits(shape=(70,))"
        for forbidden in (
            lambda: bool(bits),
            lambda: bits == bits,  # noqa: PLR0124
            lambda: bits != bits,  # noqa: PLR0124
            lambda: hash(bits),
            lambda: np.asarray([1]) + bits,
            bits.__reduce__,
        ):
            with pytest.raises(TypeError):
                forbidden()
        for other in (s.random_bits(71), np.ones(69, dtype=bool)):
            with pytest.raises(ValueError):
                bits ^ other

    run_local(protocol, [0, 0])


# What is refused.


def test_numbers_of_the_field_have_no_order_and_no_digits():
    async def refused(s, ask):
        a = (await s.input([1, 2], domain=FIELD61))[0]
        await refused_silently(s, ValueError, lambda: ask(s, a, s.random_bits(2)), match="RING64")

    for ask in (
        lambda s, a, _: s.less(a, a),
        lambda s, a, _: s.less(a, 1),
        lambda s, a, _: s.less_equal(1, a),
        lambda s, a, _: s.equal(a, a),
        lambda s, a, _: s.equal(a, 1),
        lambda s, a, _: s.negative(a),
        lambda s, a, _: s.abs(a),
        lambda s, a, _: s.relu(a),
        lambda s, a, bits: s.where(bits, a, a),
        lambda s, a, _: s.max(a),
        lambda s, a, _: s.argmin(a),
        lambda s, a, _: s.top_k(a, 1),
        lambda s, a, _: s.truncate(a, 1),
    ):
        run_local(refused, [ask] * 2)


def test_operands_that_do_not_belong_together_are_refused():
    kept = []

    async def keep(s, x):
        a = (await s.input(x))[0]
        kept.append((a, await s.negative_bits(a)))

    run_local(keep, [[1, 2], [3, 4]])

    def foreign(ask):
        async def protocol(s, x):
            a = (await s.input(x))[0]
            await ask(s, a, await s.negative_bits(a), *kept[s.party])

        return cause(protocol, [[1, 2], [3, 4]])

    for ask in (
        lambda s, a, _, other, __: s.less(a, other),
        lambda s, a, _, other, __: s.equal(other, a),
        lambda s, _, __, other, ___: s.negative(other),
        lambda s, a, bits, other, __: s.where(bits, a, other),
        lambda s, a, _, other, __: s.where(other, a, 0),
        lambda s, a, _, __, other: s.where(other, a, 0),
        lambda s, _, bits, __, other: s.both(bits, other),
        lambda s, _, __, ___, other: s.to_numbers(other),
        lambda s, _, bits, __, other: s.conjunctions(all_of(2), [bits, other]),
        lambda s, _, __, ___, other: s.open(other),
    ):
        assert isinstance(foreign(ask), SessionMismatch)


def test_arguments_that_make_no_sense_are_refused():
    def error(ask):
        async def protocol(s, x):
            a = (await s.input(x, max_abs=9))[0]
            f = (await s.input([0.5], max_abs=1, frac_bits=8))[0]
            await ask(s, a, f, await s.negative_bits(a))

        return cause(protocol, [[1, 2], [3, 4]])

    for kind, ask in (
        (TypeError, lambda s, *_: s.less(1, 2)),
        (TypeError, lambda s, *_: s.equal(1, 2)),
        (TypeError, lambda s, a, *_: s.where(True, a, 0)),
        (ValueError, lambda s, a, f, _: s.less(a[:1], f)),
        (ValueError, lambda s, a, f, _: s.where(f, a[:1], 0)),
        (ValueError, lambda s, a, _, bits: s.where(bits, a[:1], 0)),
        (ValueError, lambda s, _, __, bits: s.conjunction([bits])),
        (ValueError, lambda s, _, __, bits: s.conjunction([bits] * 9)),
        (ValueError, lambda s, _, __, bits: s.conjunction([bits, s.random_bits(3)])),
        (ValueError, lambda s, _, __, bits: s.conjunctions(all_of(3), [bits, bits])),
    ):
        assert isinstance(error(ask), kind)


def test_bits_that_are_wrapped_by_hand_open_to_themselves():
    async def protocol(s, words):
        return await s.open(SharedBits(s, words, 3))

    assert opened(protocol, [np.array([5], np.uint64), np.array([3], np.uint64)])[0].tolist() == [False, True, True]
