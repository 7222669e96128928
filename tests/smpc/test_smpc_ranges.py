"""Declared ranges: what could wrap is refused before a word of it is sent; what is declared never wraps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plaintext import arrays, cause, opened, refused_silently, shared, spread_over

from smpc import FIELD61, RING64, RangeExceeded, run_local
from smpc.truncation import LIMIT

DOMAINS = [RING64, FIELD61]


# At the input.


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("bound", [0, 1, 2**40, "largest"])
def test_a_number_beyond_its_declared_range_is_not_shared(domain, bound):
    bound = domain.largest if bound == "largest" else bound

    async def protocol(s, _):
        for number in (bound + 1, -bound - 1):
            if abs(number) < 2**63:
                await refused_silently(
                    s, RangeExceeded, lambda number=number: s.input([0, number], domain=domain, max_abs=bound)
                )
        inside = (await s.input([bound, -bound, 0], domain=domain, max_abs=bound))[0]
        assert inside.bound == bound
        return await s.open(inside)

    assert opened(protocol, [0, 0])[0].tolist() == [bound, -bound, 0]


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_range_that_the_domain_does_not_hold_is_refused_before_anything_is_sent(domain):
    async def protocol(s, _):
        for most in (domain.largest + 1, float(domain.modulus), 1e300):
            await refused_silently(s, RangeExceeded, lambda most=most: s.input([0], domain=domain, max_abs=most))
            await refused_silently(
                s, RangeExceeded, lambda most=most: s.input([0.0], domain=domain, max_abs=most, frac_bits=1)
            )
        for most in (-1, float("nan"), float("inf")):
            await refused_silently(s, ValueError, lambda most=most: s.input([0], domain=domain, max_abs=most))
            await refused_silently(
                s, ValueError, lambda most=most: s.input([0.0], domain=domain, max_abs=most, frac_bits=4)
            )

    run_local(protocol, [0, 0])


def test_real_numbers_beyond_their_range_or_none_at_all_are_not_shared():
    async def protocol(s, _):
        for number in (1.0000001, float("nan"), float("inf"), -2):
            await refused_silently(
                s, RangeExceeded, lambda number=number: s.input([0, number], max_abs=1.0, frac_bits=16)
            )
        await refused_silently(s, ValueError, lambda: s.input([0.5], frac_bits=16), match="max_abs")
        await refused_silently(s, RangeExceeded, lambda: s.input([0.5], max_abs=2.0**48, frac_bits=16))

    run_local(protocol, [0, 0])


@pytest.mark.parametrize("bound", [-1, float("nan"), float("inf")])
def test_a_range_that_is_none_cannot_be_declared(bound):
    async def protocol(s, x):
        (await s.input(x))[0].declare(bound)

    assert isinstance(cause(protocol, [[1], [2]]), ValueError)


# Locally.


@pytest.mark.parametrize("domain", DOMAINS)
def test_local_operations_up_to_the_edge_are_done_and_beyond_it_are_refused(domain):
    most = domain.largest

    async def protocol(s, _):
        a = (await s.input([most - 1, 1 - most], domain=domain, max_abs=most - 1))[0]
        half = (await s.input([most // 2, -(most // 2)], domain=domain, max_abs=most // 2))[0]
        kept = [a + 1, a - 1, 1 - a, -a, half + half, half - half, 2 * half, half.sum(), half @ np.array([1, 1])]
        for beyond in (
            lambda: a + 2,
            lambda: a - 2,
            lambda: 2 - a,
            lambda: a + a,
            lambda: a - a,
            lambda: 2 * a,
            lambda: a * np.array([1, -2]),
            a.sum,
            lambda: a @ np.array([1, 1]),
            lambda: np.array([[1, -1]]) @ a,
            lambda: half + half + half,
            lambda: 3 * half,
            lambda: half.declare(most + 1),
        ):
            before = s.usage.rounds
            with pytest.raises(RangeExceeded):
                beyond()
            assert s.usage.rounds == before
        return await s.open(*kept)

    x, h = np.array([most - 1, 1 - most], dtype=object), np.array([most // 2, -(most // 2)], dtype=object)
    expected = [x + 1, x - 1, 1 - x, -x, 2 * h, 0 * h, 2 * h, sum(h), sum(h)]
    for result, wanted in zip(opened(protocol, [0, 0]), expected, strict=True):
        assert np.ravel(result).tolist() == np.ravel(wanted).tolist()


# Over the network.


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_product_that_could_wrap_is_refused_before_anything_is_sent(domain):
    root = int(domain.largest**0.5) - 1
    assert root * root <= domain.largest < (root + 3) ** 2

    async def protocol(s, _):
        small = (await s.input(np.full((2, 2), root), domain=domain, max_abs=root))[0]
        large = (await s.input(np.full((2, 2), -root - 3), domain=domain, max_abs=root + 3))[0]
        for ask in (
            lambda: s.mul(large, large),
            lambda: s.square(large),
            lambda: s.matmul(small, small),
            lambda: s.mul_many([(small, small), (large, large)]),
            lambda: s.together(s.mul(large, large)),
            lambda: s.mul(large, 2**40),
        ):
            await refused_silently(s, RangeExceeded, ask)
        product, square = await s.together(s.mul(small, small), s.square(small))
        assert product.bound == square.bound == root * root
        return await s.open(product, square)

    for result in opened(protocol, [0, 0]):
        assert (result == root * root).all()


def test_a_product_of_real_numbers_that_could_not_be_cut_is_refused_before_anything_is_sent():
    async def protocol(s, _):
        # 2^15 in units of 2^-16 squared is 2^62.
        wide = (await s.input([1.0, -1.0], max_abs=2.0**15, frac_bits=16))[0]
        undeclared = s.shared(np.zeros(2, np.uint64), frac_bits=16)
        element = (await s.input([1.0, 2.0], domain=FIELD61, max_abs=4.0, frac_bits=16))[0]
        rows = wide.declare(2.0**14.5)
        for x in (wide, undeclared):
            for ask in (
                lambda x=x: s.mul(x, x),
                lambda x=x: s.square(x),
                lambda x=x: s.matmul(x.reshape(1, 2), x.reshape(2, 1)),
                lambda x=x: s.mul(x, 2.0**15),
                lambda x=x: s.mul_many([(x, x)]),
            ):
                await refused_silently(s, RangeExceeded, ask)
        await refused_silently(s, RangeExceeded, lambda: s.matmul(rows.reshape(1, 2), rows.reshape(2, 1)))
        await refused_silently(s, ValueError, lambda: s.mul(element, element), match="RING64")
        await refused_silently(s, ValueError, lambda: s.square(element), match="RING64")
        await refused_silently(s, RangeExceeded, lambda: s.truncate(undeclared, 3))
        narrow = wide.declare(2.0**14.9)
        return await s.open(await s.mul(narrow, narrow), await s.mul(rows, -3.5))

    assert [part.tolist() for part in opened(protocol, [0, 0])] == [[1.0, 1.0], [-3.5, 3.5]]


@pytest.mark.parametrize("n_bits", [1, 16, 61])
def test_truncation_takes_what_fits_and_not_one_more(n_bits):
    most = LIMIT - 2 ** (n_bits - 1) - 1

    async def protocol(s, _):
        fits = (await s.input([most, -most], max_abs=most))[0]
        beyond = fits.declare(most + 1)
        for how in ("exact", "stochastic"):
            await refused_silently(s, RangeExceeded, lambda how=how: s.truncate(beyond, n_bits, how=how))
        return await s.open(await s.truncate(fits, n_bits))

    expected = [(v + 2 ** (n_bits - 1)) >> n_bits for v in (most, -most)]
    assert opened(protocol, [0, 0])[0].tolist() == expected


def test_wide_numbers_are_compared_without_a_difference_that_could_wrap():
    # The same protocol as for undeclared numbers, chosen by what is public.
    async def protocol(s, x):
        rounds = []
        for bound in (2**62 - 1, 2**62, None):
            a = await s.input(x, max_abs=bound)
            before = s.usage.rounds
            less = await s.less_bits(a[0], a[1])
            rounds.append(s.usage.rounds - before)
            assert (await s.open(less)).tolist() == [True, False]
        return rounds

    most = 2**62 - 1
    assert run_local(protocol, [[-most, most], [most, -most]]).results[0] == [3, 4, 4]


@given(data=st.data())
def test_declared_numbers_never_wrap_whatever_is_done_with_them(data):
    # Any sequence of operations: each either gives what integers give, within the bound, or is refused.
    bound = data.draw(st.sampled_from([1, 2**20, 2**31, 2**61, 2**62, 2**63 - 1]))
    x, y = data.draw(arrays(bound, 3)), data.draw(arrays(bound, 3))
    names = st.sampled_from(["add", "sub", "neg", "scale", "mul", "square", "sum", "where", "abs", "max"])
    steps = data.draw(st.lists(names, min_size=1, max_size=5))
    factor = data.draw(st.integers(-5, 5) | st.sampled_from([2**31, -(2**62)]))

    def plain():
        v, other = ([int(e) for e in array] for array in (x, y))
        for step in steps:
            v = {
                "add": lambda v: [p + q for p, q in zip(v, other, strict=True)],
                "sub": lambda v: [p - q for p, q in zip(v, other, strict=True)],
                "neg": lambda v: [-p for p in v],
                "scale": lambda v: [factor * p for p in v],
                "mul": lambda v: [p * q for p, q in zip(v, other, strict=True)],
                "square": lambda v: [p * p for p in v],
                "sum": lambda v: [sum(v)] * 3,
                "where": lambda v: [min(q, p) for p, q in zip(v, other, strict=True)],
                "abs": lambda v: [abs(p) for p in v],
                "max": lambda v: [max(v)] * 3,
            }[step](v)
            yield v

    async def protocol(s, mine):
        a, other = await shared(s, mine, max_abs=bound)
        wide = np.array([1, 1, 1])
        for step, wanted in zip(steps, plain(), strict=True):
            before = s.usage.bytes_sent
            try:
                if step == "where":
                    a = await s.where(await s.less_bits(a, other), a, other)
                else:
                    a = await {
                        "add": lambda a=a: _now(a + other),
                        "sub": lambda a=a: _now(a - other),
                        "neg": lambda a=a: _now(-a),
                        "scale": lambda a=a: _now(factor * a),
                        "mul": lambda a=a: s.mul(a, other),
                        "square": lambda a=a: s.square(a),
                        "sum": lambda a=a: _now(a.sum() * wide),
                        "abs": lambda a=a: s.abs(a),
                        "max": lambda a=a: _times(s.max(a), wide),
                    }[step]()
            except RangeExceeded:
                assert s.usage.bytes_sent == before
                return
            result = await s.open(a)
            assert result.tolist() == wanted
            assert max(abs(v) for v in wanted) <= a.bound <= 2**63 - 1

    run_local(protocol, spread_over(2, x, y))


async def _now(value):
    return value


async def _times(awaitable, factor):
    return await awaitable * factor
