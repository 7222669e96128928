"""A session of three parties that live as long as the test: any sequence of operations, beside plaintext integers.

The machine keeps one event loop and three sessions. Each rule does the same at all parties, opens the result and
compares it with Python's integers; results go back into the pool. Undeclared numbers wrap, declared ones are refused
where they could; at the end the parties' transcripts agree and no item of material was served twice.
"""

import asyncio

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from plaintext import integers, wrapped

from privacy.randomness import SecureRng
from smpc import Dealer, RangeExceeded, Session
from smpc.transport import InProcessTransport

N_PARTIES = 3
LENGTH = 3
BOUNDS = st.sampled_from([None, 100, 2**20, 2**40, 2**61])


class SessionMachine(RuleBasedStateMachine):
    """Pool entries: the parties' shared values, and the integers that they stand for."""

    numbers = Bundle("numbers")
    bits = Bundle("bits")

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        dealer = Dealer(N_PARTIES)
        self.sessions = [
            Session(
                party=party,
                n_parties=N_PARTIES,
                transport=transport,
                material=dealer.store(party),
                session_id=bytes(16),
                timeout=20,
                rng=SecureRng(),
            )
            for party, transport in enumerate(InProcessTransport.connect(N_PARTIES))
        ]

    def teardown(self):
        self.at_all(lambda s: s.check_transcripts())
        self.loop.close()

    def at_all(self, ask, *entries):
        """Run a coroutine at each party, on its own shares of the entries."""

        async def run():
            calls = (ask(s, *(entry[0][i] for entry in entries)) for i, s in enumerate(self.sessions))
            return await asyncio.gather(*calls)

        return self.loop.run_until_complete(run())

    def opened(self, values):
        results = self.at_all(lambda s, value: s.open(value), (values,))
        assert all(np.array_equal(results[0], other) for other in results[1:])
        return np.asarray(results[0]).tolist()

    def kept(self, ask, *entries, expected):
        """Do it, compare, and keep it; or see it refused with nothing sent, if the ranges say so."""
        before = [(s.usage.rounds, s.usage.bytes_sent) for s in self.sessions]
        try:
            values = self.at_all(ask, *entries)
        except RangeExceeded:
            assert before == [(s.usage.rounds, s.usage.bytes_sent) for s in self.sessions]
            # Only declared numbers are refused.
            assert all(getattr(value, "bound", 0) is not None for entry in entries for value in entry[0])
            return multiple()
        bound = values[0].bound
        assert all(value.bound == bound for value in values)
        if bound is None:
            expected = [wrapped(number) for number in expected]
        else:
            assert all(abs(number) <= bound for number in expected)
        assert self.opened(values) == expected
        return values, expected

    # Numbers in.

    @initialize(target=numbers, numbers=st.lists(integers(100), min_size=LENGTH, max_size=LENGTH))
    def first(self, numbers):
        return self.kept(lambda s: _input(s, numbers, 100), expected=numbers)

    @rule(target=numbers, data=st.data(), bound=BOUNDS, party=st.integers(0, N_PARTIES - 1))
    def put_in(self, data, bound, party):
        numbers = data.draw(st.lists(integers(bound), min_size=LENGTH, max_size=LENGTH))
        return self.kept(lambda s: _input(s, numbers, bound, party), expected=numbers)

    # Numbers to numbers.

    @rule(target=numbers, a=numbers, b=numbers)
    def add(self, a, b):
        return self.kept(lambda _, x, y: _now(lambda: x + y), a, b, expected=_each(lambda p, q: p + q, a, b))

    @rule(target=numbers, a=numbers, b=numbers)
    def subtract(self, a, b):
        return self.kept(lambda _, x, y: _now(lambda: x - y), a, b, expected=_each(lambda p, q: p - q, a, b))

    @rule(target=numbers, a=numbers, factor=st.integers(-1000, 1000))
    def scale(self, a, factor):
        return self.kept(lambda _, x: _now(lambda: 3 - factor * x), a, expected=_each(lambda p: 3 - factor * p, a))

    @rule(target=numbers, a=numbers, b=numbers)
    def multiply(self, a, b):
        return self.kept(lambda s, x, y: s.mul(x, y), a, b, expected=_each(lambda p, q: p * q, a, b))

    @rule(target=numbers, a=numbers)
    def square(self, a):
        return self.kept(lambda s, x: s.square(x), a, expected=_each(lambda p: p * p, a))

    @rule(target=numbers, a=numbers, b=numbers)
    def multiply_as_matrices(self, a, b):
        async def outer(s, x, y):
            return (await s.matmul(x.reshape(LENGTH, 1), y.reshape(1, LENGTH)))[0]

        return self.kept(outer, a, b, expected=[a[1][0] * q for q in b[1]])

    @rule(target=numbers, a=numbers)
    def absolute(self, a):
        return self.kept(lambda s, x: s.abs(x), a, expected=_each(abs, a))

    @rule(target=numbers, a=numbers)
    def positive_part(self, a):
        return self.kept(lambda s, x: s.relu(x), a, expected=_each(lambda p: max(p, 0), a))

    @rule(target=numbers, a=numbers, b=numbers)
    def less(self, a, b):
        return self.kept(lambda s, x, y: s.less(x, y), a, b, expected=_each(lambda p, q: int(p < q), a, b))

    @rule(target=numbers, a=numbers, b=numbers)
    def equal(self, a, b):
        return self.kept(lambda s, x, y: s.equal(x, y), a, b, expected=_each(lambda p, q: int(p == q), a, b))

    @rule(target=numbers, a=numbers, n_bits=st.integers(1, 20))
    def truncate(self, a, n_bits):
        if a[0][0].bound is None:
            return multiple()
        return self.kept(
            lambda s, x: s.truncate(x, n_bits), a, expected=_each(lambda p: (p + 2 ** (n_bits - 1)) >> n_bits, a)
        )

    @rule(target=numbers, a=numbers)
    def largest_twice_and_its_place(self, a):
        async def ask(s, x):
            index, value = await s.argmax_and_max(x)
            return _row(value, value, index)

        return self.kept(ask, a, expected=[max(a[1])] * 2 + [a[1].index(max(a[1]))])

    @rule(target=numbers, a=numbers)
    def smallest(self, a):
        async def ask(s, x):
            return _row(*[await s.min(x)] * 3)

        return self.kept(ask, a, expected=[min(a[1])] * 3)

    @rule(target=numbers, a=numbers)
    def sort(self, a):
        async def ask(s, x):
            return (await s.top_k(x, LENGTH))[1]

        return self.kept(ask, a, expected=sorted(a[1], reverse=True))

    @rule(target=numbers, condition=bits, a=numbers, b=numbers)
    def choose(self, condition, a, b):
        chosen = [p if c else q for c, p, q in zip(condition[1], a[1], b[1], strict=True)]
        return self.kept(lambda s, c, x, y: s.where(c, x, y), condition, a, b, expected=chosen)

    @rule(target=numbers, a=numbers, b=numbers)
    def side_by_side(self, a, b):
        async def ask(s, x, y):
            less, equal = await s.together(s.less(x, y), s.equal(x, y))
            return less + 2 * equal

        return self.kept(ask, a, b, expected=_each(lambda p, q: int(p < q) + 2 * (p == q), a, b))

    # Bits.

    @rule(target=bits, a=numbers, b=numbers)
    def less_bits(self, a, b):
        return self.kept_bits(lambda s, x, y: s.less_bits(x, y), a, b, expected=_each(lambda p, q: p < q, a, b))

    @rule(target=bits, a=numbers)
    def is_seven(self, a):
        return self.kept_bits(lambda s, x: s.equal_bits(x, 7), a, expected=_each(lambda p: p == 7, a))

    @rule(target=bits, a=bits, b=bits)
    def combine(self, a, b):
        async def ask(s, x, y):
            return ~(await s.both(x ^ y, x))

        return self.kept_bits(ask, a, b, expected=[not (p and not q) for p, q in zip(a[1], b[1], strict=True)])

    @rule(target=numbers, a=bits)
    def to_numbers(self, a):
        return self.kept(lambda s, x: s.to_numbers(x), a, expected=[int(p) for p in a[1]])

    def kept_bits(self, ask, *entries, expected):
        values = self.at_all(ask, *entries)
        assert self.opened(values) == expected
        return values, expected

    @invariant()
    def the_parties_keep_step(self):
        usages = [s.usage for s in self.sessions]
        assert all(usage == usages[0] for usage in usages)
        assert len({s._step for s in self.sessions}) == 1
        for s in self.sessions:
            assert s._material.used == s.usage.material


async def _input(session, numbers, bound, party=0):
    return (await session.input(np.array(numbers, dtype=np.int64), max_abs=bound))[party]


async def _now(value):
    return value()


def _row(*scalars):
    """Several shared numbers as one row, under the widest bound."""
    session = scalars[0].session
    bounds = [each.bound for each in scalars]
    words = np.array([each._share for each in scalars], dtype=np.uint64)
    return session.shared(words, bound=None if None in bounds else max(bounds))


def _each(function, *entries):
    return [function(*numbers) for numbers in zip(*(entry[1] for entry in entries), strict=True)]


SessionMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestSession = SessionMachine.TestCase
