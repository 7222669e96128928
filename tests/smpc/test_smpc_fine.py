"""Tables at shared places, leading powers, products and reciprocals to the last bit: against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smpc import run_local
from smpc.fine import RECIPROCAL_BITS, Product, fine_products, fine_reciprocal
from smpc.tables import leading_power, lookup


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40), columns=st.integers(1, 4), parties=st.integers(2, 3))
def test_a_table_at_shared_places(seed, rows, columns, parties) -> None:
    random = np.random.default_rng(seed)
    table = random.integers(-(2**62), 2**62, (rows, columns))
    place = random.integers(0, rows, 30)

    async def protocol(s, x):
        shared = await s.input(x, max_abs=2 * rows)
        return await s.open(await lookup(s, sum(shared[1:], shared[0]).declare(2 * rows), table))

    first = random.integers(0, rows, 30)
    inputs = [first, place - first] + [np.zeros(30, dtype=int)] * (parties - 2)
    np.testing.assert_array_equal(run_local(protocol, inputs=inputs).results[0], table[place])


def test_a_table_of_one_row_and_no_places() -> None:
    async def protocol(s, x):
        a, _ = await s.input(x)
        return await s.open(await lookup(s, a, np.array([[5, 6]])), await lookup(s, a[:0], np.array([[5, 6]])))

    found, nothing = run_local(protocol, inputs=[[0, 0], [0, 0]]).results[0]
    assert found.tolist() == [[5, 6], [5, 6]]
    assert nothing.shape == (0, 2)


@settings(max_examples=15, deadline=None)
@given(numbers=st.lists(st.integers(1, 2**60), min_size=1, max_size=20), least=st.integers(0, 3))
def test_the_power_that_brings_a_number_to_the_top(numbers, least) -> None:
    lowest = 1 << least
    kept = [max(number, lowest) for number in numbers]

    async def protocol(s, x):
        a, _ = await s.input(x)
        logs = list(range(least, 61))
        power, k = await leading_power(s, a, least=lowest, most=2**60, also=logs)
        return await s.open(power, k, await s.mul(power, a))

    power, k, product = run_local(protocol, inputs=[kept, [0] * len(kept)]).results[0]
    for number, by, exponent, result in zip(kept, power.tolist(), k.tolist(), product.tolist(), strict=True):
        assert exponent == number.bit_length() - 1
        assert by == 1 << (60 - exponent)
        assert result == number * by
        assert 2**60 <= result < 2**61


def test_least_and_most_must_make_sense() -> None:
    async def protocol(s, x):
        a, _ = await s.input(x)
        return await leading_power(s, a, least=0, most=8)

    with pytest.raises(Exception, match="ValueError"):
        run_local(protocol, inputs=[[1], [0]])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 40))
def test_products_of_ranges_wider_than_a_word(seed, cut) -> None:
    random = np.random.default_rng(seed)
    # Each below 2^50, the products below 2^60.
    x = random.integers(-(2**50), 2**50, 64)
    y = random.integers(-1, 2, 64) * (2**60 // np.maximum(np.abs(x), 2**11))
    exact = [a * b for a, b in zip(x.tolist(), y.tolist(), strict=True)]

    async def protocol(s, given_):
        a, b = await s.input(given_)
        whole, part = await fine_products(s, Product(a, b, 2**61), Product(a, b, 2**61, cut=cut))
        return await s.open(whole, part)

    whole, part = run_local(protocol, inputs=[x, y]).results[0]
    assert whole.tolist() == exact
    assert all(each >> cut <= found <= (each >> cut) + 1 for each, found in zip(exact, part.tolist(), strict=True))


@pytest.mark.parametrize("frac_bits", [24, 30])
def test_reciprocals_are_right_to_25_bits(frac_bits) -> None:
    y = np.concatenate([np.linspace(0.06, 2.1, 400), 2.0 ** np.arange(-4, 2)])
    whole = np.rint(np.ldexp(y, frac_bits)).astype(np.int64)

    async def protocol(s, x):
        a, _ = await s.input(x, max_abs=2.2 * 2**frac_bits)
        return await s.open(await fine_reciprocal(s, a, frac_bits=frac_bits, least=0.05))

    found = np.ldexp(run_local(protocol, inputs=[whole, 0 * whole]).results[0].astype(float), -RECIPROCAL_BITS)
    exact = np.ldexp(1.0, frac_bits) / whole
    # Newton's step squares 1.5 2^-16 y, and three roundings are of 2^-28.
    assert np.max(np.abs(found - exact) / (exact * (exact * 1.5 * y * 2.0**-16) ** 2 + 4 * 2.0**-28)) < 2
    assert np.max(np.abs(found / exact - 1)) < 2**-25
