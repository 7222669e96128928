import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpc import FIELD61, RING64, FixedPoint, RangeExceeded


@given(
    frac_bits=st.integers(0, 40),
    values=st.lists(st.floats(-1000, 1000, allow_nan=False), min_size=1, max_size=6),
)
def test_encoding_rounds_to_the_nearest_multiple(frac_bits, values):
    encoding = FixedPoint(frac_bits)
    integers = encoding.encode(values, max_abs=1000.0, n_summands=3)
    for value, integer in zip(values, integers.tolist(), strict=True):
        assert abs(Fraction(value) * 2**frac_bits - integer) <= Fraction(1, 2)
    decoded = encoding.decode(integers)
    assert np.abs(decoded - np.array(values)).max() <= 2.0 ** -(frac_bits + 1)


def test_sums_decode_to_the_sum():
    encoding = FixedPoint(36)
    parts = [np.array([1.25, -3.5]), np.array([-0.75, 10.0]), np.array([0.125, 0.0])]
    total = sum(encoding.encode(part, max_abs=2.0**20, n_summands=3) for part in parts)
    assert encoding.decode(total).tolist() == sum(parts).tolist()


@pytest.mark.parametrize("domain", [RING64, FIELD61])
def test_a_sum_that_could_wrap_is_refused_and_the_largest_that_cannot_is_not(domain):
    encoding = FixedPoint(0, domain)
    # Largest is 2^63 - 1 or 2^60 - 1, so the power of two is the least float too many.
    too_large = float(domain.largest + 1)
    safe = math.nextafter(too_large, 0.0)
    assert encoding.encode([safe], max_abs=safe).tolist() == [int(safe)]
    with pytest.raises(RangeExceeded, match="overflow"):
        encoding.encode([0.0], max_abs=too_large)
    with pytest.raises(RangeExceeded, match="overflow"):
        encoding.encode([0.0], max_abs=too_large / 2, n_summands=2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 10.000001, -11.0])
def test_values_that_are_no_numbers_or_beyond_the_bound_are_refused_without_being_named(bad):
    with pytest.raises(RangeExceeded) as caught:
        FixedPoint(8).encode([1.0, bad], max_abs=10.0)
    assert repr(bad) not in str(caught.value)


@pytest.mark.parametrize("frac_bits", [-1, 63, 1.5, True])
def test_impossible_numbers_of_bits_are_refused(frac_bits):
    with pytest.raises(ValueError, match="frac_bits"):
        FixedPoint(frac_bits)


def test_decoding_a_product_takes_twice_the_bits():
    encoding = FixedPoint(20)
    x = encoding.encode([1.5], max_abs=4.0)
    assert FixedPoint(40).decode(x * x).tolist() == [2.25]
