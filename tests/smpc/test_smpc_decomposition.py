import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpc import run_local

EDGES = [0, 1, -1, 15, 16, 17, 2**63 - 1, -(2**63), 2**31, -(2**31) - 1, 0x0123456789ABCDEF]


def plain_bits(values, width):
    return np.array([[value >> j & 1 for value in values] for j in range(width)], dtype=bool)


@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EDGES), min_size=1, max_size=70),
    width=st.sampled_from([8, 16, 32, 64]),
    n_parties=st.integers(2, 5),
)
def test_the_bits_are_those_of_the_number_and_lead_back_to_it(values, width, n_parties):
    async def protocol(s, x):
        a = (await s.input(np.array(x, dtype=np.int64)))[0]
        bits = await s.to_bits(a, width=width)
        return await s.open(bits, await s.from_bits(bits))

    bits, numbers = run_local(protocol, [values] * n_parties).results[-1]
    assert (bits == plain_bits(values, width)).all()
    half = 2 ** (width - 1)
    assert numbers.tolist() == [(value + half) % 2**width - half for value in values]


@pytest.mark.parametrize(("width", "rounds"), [(8, 2), (16, 3), (32, 4), (64, 5)])
def test_rounds(width, rounds):
    async def protocol(s, x):
        a = s.shared(np.array(x, dtype=np.uint64))
        await s.to_bits(a, width=width)

    assert run_local(protocol, [[1, 2]] * 2).cost.rounds == rounds


def test_an_impossible_width_is_refused_before_anything_is_sent():
    async def protocol(s, x):
        a = s.shared(np.array(x, dtype=np.uint64))
        with pytest.raises(ValueError, match="width must be 8, 16, 32 or 64"):
            await s.to_bits(a, width=12)
        with pytest.raises(ValueError, match="from_bits takes bits of shape"):
            await s.from_bits(s.random_bits(5))
        return s.usage.rounds

    assert run_local(protocol, [[1]] * 2).results == [0, 0]
