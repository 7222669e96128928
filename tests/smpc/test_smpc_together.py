"""Protocols side by side: results as one after the other, rounds as the longest, errors that reach everyone."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plaintext import cause, opened, shared, spread_over

from smpc import FIELD61, FrameRejected, PartyFailed, ProtocolAbort, SessionBusy, SmpcError, run_local

# A tree of protocols: a leaf is a number of rounds, a node runs its children side by side or one after the other.
TREES = st.recursive(
    st.integers(0, 3),
    lambda children: st.tuples(st.sampled_from(["together", "in turn"]), st.lists(children, max_size=3)),
    max_leaves=8,
)


def longest(tree):
    if isinstance(tree, int):
        return tree
    how, children = tree
    rounds = [longest(child) for child in children]
    return max(rounds, default=0) if how == "together" else sum(rounds)


def answers(tree, x):
    if isinstance(tree, int):
        return [x ** (2**tree)]
    return [answer for child in tree[1] for answer in answers(child, x)]


@given(tree=TREES, n_parties=st.integers(2, 4))
def test_any_nesting_gives_the_same_results_in_the_rounds_of_its_longest_branch(tree, n_parties):
    async def walk(s, a, tree):
        if isinstance(tree, int):
            for _ in range(tree):
                a = await s.square(a)
            return [a]
        how, children = tree
        if how == "together":
            parts = await s.together(*(walk(s, a, child) for child in children))
        else:
            parts = [await walk(s, a, child) for child in children]
        return [each for part in parts for each in part]

    async def protocol(s, mine):
        (a,) = await shared(s, mine)
        before = s.usage.rounds
        results = await walk(s, a, tree)
        assert s.usage.rounds - before == longest(tree)
        await s.check_transcripts()
        return tuple([await s.open(result) for result in results]) or (0,)

    results = opened(protocol, spread_over(n_parties, np.array([3, -2, 0])))
    expected = [answers(tree, x) for x in (3, -2, 0)]
    for i, result in enumerate(results if expected[0] else ()):
        assert result.tolist() == [column[i] for column in expected]


def test_parts_of_all_domains_and_widths_share_their_rounds():
    async def protocol(s, x):
        a = await s.input(x, max_abs=100)
        f = await s.input(x, domain=FIELD61)
        less, product, everything, index = await s.together(
            s.less(a[0], a[1]), s.mul(f[0], f[1]), s.open(a[0], f[1], s.random_bits(3)), s.argmax(a[0])
        )
        return (*await s.together(s.open(less), s.open(product)), *everything[:2], int(await s.open(index)))

    less, product, first, second, index = run_local(protocol, [[3, 9, -4], [10, 2, -4], [0, 0, 0]]).results[2]
    assert (less.tolist(), product.tolist()) == ([1, 0, 0], [30, 18, 16])
    assert (first.tolist(), second.tolist(), index) == ([3, 9, -4], [10, 2, -4], 1)


def test_nothing_to_run_costs_nothing():
    async def idle():
        return 7

    async def protocol(s, _):
        return await s.together(), await s.together(idle(), idle()), s.usage.rounds

    assert run_local(protocol, [0, 0]).results == [([], [7, 7], 0)] * 2


def test_an_error_inside_closes_the_others_and_goes_on():
    class Boom(Exception):
        pass

    closed = []

    async def failing(s, a):
        await s.square(a)
        raise Boom

    async def waiting(s, a, name):
        try:
            for _ in range(5):
                a = await s.square(a)
        finally:
            closed.append((s.party, name))

    async def protocol(s, x):
        a = (await s.input(x))[0]
        before = s.usage.rounds
        with pytest.raises(Boom):
            await s.together(
                waiting(s, a, "first"), s.together(failing(s, a), waiting(s, a, "inner")), waiting(s, a, 1)
            )
        assert s.usage.rounds - before == 1
        # All parties failed alike: the session goes on.
        await s.check_transcripts()
        return await s.open(a)

    assert opened(protocol, [[1, 2], [3, 4]])[0].tolist() == [1, 2]
    assert sorted(closed, key=str) == sorted([(p, n) for p in (0, 1) for n in ("first", "inner", 1)], key=str)


def test_an_error_in_the_first_step_of_one_leaves_none_of_the_others_open():
    closed = []

    async def waiting(s, a):
        try:
            await s.square(a)
        finally:
            closed.append(s.party)

    async def failing():
        raise KeyError

    async def protocol(s, x):
        a = (await s.input(x))[0]
        with pytest.raises(KeyError):
            # The last one is never started.
            await s.together(waiting(s, a), failing(), waiting(s, a))
        return s.usage.rounds

    assert run_local(protocol, [[1], [2]]).results == [1, 1]
    assert sorted(closed) == [0, 1]


@pytest.mark.parametrize("awaited", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(0.001)])
def test_nothing_but_rounds_can_be_awaited_inside(awaited):
    async def outside():
        await awaited()

    async def protocol(s, x):
        a = (await s.input(x))[0]
        await s.together(s.square(a), outside())

    error = cause(protocol, [[1], [2]])
    assert type(error) is SmpcError
    assert "only rounds" in str(error)


def test_another_round_at_the_same_time_is_still_refused():
    async def protocol(s, x):
        a, b = await s.input(x)
        await asyncio.gather(s.together(s.square(a), s.square(b)), s.open(a))

    assert isinstance(cause(protocol, [[1], [2]]), SessionBusy)


def test_parties_that_run_the_parts_in_another_order_notice():
    async def protocol(s, x):
        a, b = await s.input(x)
        parts = [s.square(a), s.open(b)]
        await s.together(*(parts if s.party == 0 else parts[::-1]))

    assert isinstance(cause(protocol, [[1], [2]]), FrameRejected)


def test_transcripts_of_parties_that_differ_in_silence_are_told_apart():
    # Same frames, other operations: only the digests differ, which a dishonest line could have replaced.
    async def protocol(s, x):
        a, _ = await s.input(x)
        await s.open(a)
        if s.party == 1:
            s._transcript.update(b"something else")
        await s.check_transcripts()

    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, [[1], [2]])
    assert isinstance(caught.value.__cause__, ProtocolAbort)
