"""Runs of a protocol beside the same computation on Python's integers, for tests."""

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from smpc import PartyFailed, run_local

# Bounds at which something changes: widths of 8, 16, 32 and 64 bits for a number and for a difference, truncation, the
# ring itself. None: undeclared.
BOUNDS = [None, 0, 1, 63, 64, 127, 128, 2**14 - 1, 2**14, 2**15, 2**30, 2**31, 2**40, 2**61, 2**62, 2**63 - 1]


def opened(protocol, inputs, **options):
    """What the parties' run opens, the same at all of them, as a list of arrays."""
    run = run_local(protocol, inputs, **options)
    results = [list(result) if isinstance(result, tuple) else [result] for result in run.results]
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    return results[0]


def cause(protocol, inputs):
    """The error of the party that failed."""
    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, inputs)
    return caught.value.__cause__


def wrapped(number):
    """The signed 64-bit integer that an element of the ring stands for."""
    return (int(number) + 2**63) % 2**64 - 2**63


def integers(bound):
    """Integers within a bound, with its edges drawn often; all of int64 without one."""
    low, high = (-(2**63), 2**63 - 1) if bound is None else (-bound, bound)
    edges = sorted({low, min(low + 1, high), max(-1, low), 0, min(1, high), max(high - 1, low), high})
    return st.sampled_from(edges) | st.integers(low, high)


def arrays(bound, shape):
    return hnp.arrays(np.int64, shape, elements=integers(bound))


@st.composite
def pairs(draw, *, max_dims=3, max_side=5):
    """A bound, and two arrays within it whose shapes broadcast; some elements equal."""
    bound = draw(st.sampled_from(BOUNDS))
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=max_dims, max_side=max_side))
    x, y = (draw(arrays(bound, shape)) for shape in shapes.input_shapes)
    if x.shape == y.shape and x.size:
        y.flat[0] = x.flat[0]
    return bound, x, y


def spread_over(n_parties, *arrays):
    """Inputs of n parties: those of the first are the arrays, the others put in nothing."""
    return [arrays, *([tuple(np.zeros_like(a) for a in arrays)] * (n_parties - 1))]


async def shared(session, arrays, **options):
    """Share one array after the other from party 0."""
    return [(await session.input(array, **options))[0] for array in arrays]


async def refused_silently(session, error, ask, match=None):
    """Make sure that `ask` raises, and that nothing was sent and no material taken before it did."""
    before = session.usage.rounds, session.usage.bytes_sent, dict(session.usage.material)
    with pytest.raises(error, match=match):
        await ask()
    assert (session.usage.rounds, session.usage.bytes_sent, session.usage.material) == before
