"""Division by powers of two and fixed-point numbers: exact results, error bounds that are met and nearly attained, and
the rate at which the local kind fails, seen.

f  fractional bits (bits to drop);  u = 2^-f, one unit
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plaintext import arrays, cause, opened, shared, spread_over
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import run_local
from smpc.truncation import LIMIT

PARTIES = st.integers(2, 5)


def nearest(number, n_bits):
    """floor(number / 2^n_bits + 1/2), in Python's integers."""
    return (int(number) + 2 ** (n_bits - 1)) >> n_bits


def truncating(n_bits, how, bound):
    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=bound)
        result = await s.truncate(a, n_bits, how=how)
        assert result.bound == (bound >> n_bits) + 1
        return await s.open(result)

    return protocol


# Exactly.


@given(data=st.data(), n_bits=st.integers(1, 62), n_parties=PARTIES)
def test_exact_truncation_is_the_nearest_integer_ties_up(data, n_bits, n_parties):
    most = LIMIT - 2 ** (n_bits - 1) - 1
    bound = data.draw(st.sampled_from(sorted({min(b, most) for b in (0, 1, 2**n_bits, 2**40, most)})))
    x = data.draw(arrays(bound, data.draw(st.sampled_from([(), (0,), (5,), (65,), (2, 3)]))))
    if x.size and 2 ** (n_bits - 1) <= bound:
        # A tie, and its neighbours.
        x.flat[:3] = np.array([2 ** (n_bits - 1) + d for d in (0, -1, 1)])[: x.size].clip(-bound, bound)

    result = opened(truncating(n_bits, "exact", bound), spread_over(n_parties, x))[0]
    assert result.shape == x.shape
    assert result.ravel().tolist() == [nearest(v, n_bits) for v in x.ravel()]


@pytest.mark.parametrize("n_bits", [1, 3, 4, 5, 16, 31, 61])
def test_every_place_of_a_borrow_counts_in_truncation(n_bits):
    bound = LIMIT - 2 ** (n_bits - 1) - 1
    powers = {s * (2**k + d) for k in range(62) for s in (1, -1) for d in (-1, 0, 1)}
    x = np.array(sorted(v for v in powers | {bound, -bound} if abs(v) <= bound))
    x = np.tile(x, 20)
    for n_parties in (2, 3):
        result = opened(truncating(n_bits, "exact", bound), spread_over(n_parties, x))[0]
        assert result.tolist() == [nearest(v, n_bits) for v in x]


@given(data=st.data(), n_bits=st.integers(1, 62), n_parties=PARTIES)
def test_stochastic_truncation_is_one_of_the_two_neighbours(data, n_bits, n_parties):
    bound = LIMIT - 2 ** (n_bits - 1) - 1
    x = data.draw(arrays(bound, 20))
    result = opened(truncating(n_bits, "stochastic", bound), spread_over(n_parties, x))[0]
    for number, rounded in zip(x.tolist(), result.tolist(), strict=True):
        # Multiples stay what they are.
        assert rounded - (number >> n_bits) in ((0,) if number % 2**n_bits == 0 else (0, 1))


@given(data=st.data(), n_bits=st.integers(1, 30))
def test_local_truncation_of_small_numbers_is_one_of_the_two_neighbours(data, n_bits):
    # Wrong with probability 2^-34 or less for each of 40 x 20 numbers.
    x = data.draw(arrays(2**30, 20))
    result = opened(truncating(n_bits, "local", 2**30), spread_over(2, x))[0]
    for number, rounded in zip(x.tolist(), result.tolist(), strict=True):
        assert rounded - (number >> n_bits) in (0, 1)


# At random.

SAMPLE_SIZE = 1 << 16
# Two-sided, for each comparison of a count with what it should be.
ALPHA = 1e-6


def is_binomial(count, n, probability):
    return stats.binomtest(int(count), n, probability).pvalue > ALPHA


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_stochastic_truncation_is_right_on_average(quarters, sign):
    # x = (7 + quarters / 4) 2^16: one more than the floor with probability quarters / 4.
    n_bits = 16
    x = np.full(SAMPLE_SIZE, sign * (7 * 2**n_bits + quarters * 2 ** (n_bits - 2)))
    run = run_local(truncating(n_bits, "stochastic", 2**40), spread_over(3, x), rng=InsecureSeededRng(quarters))
    up = (run.results[0] - (x >> n_bits)).sum()
    remainder = quarters / 4 if sign > 0 else 1 - quarters / 4
    assert is_binomial(up, SAMPLE_SIZE, remainder)
    # Negative control: rounding that is 2 % off is seen, ten standard deviations away.
    assert not is_binomial(up, SAMPLE_SIZE, remainder - 0.02)


def test_exact_truncation_has_no_chance_in_it():
    x = np.full(SAMPLE_SIZE, 7 * 2**16 + 2**14)
    result = run_local(truncating(16, "exact", 2**40), spread_over(3, x)).results[0]
    # Negative control of the test above: it is biased towards the nearest integer, always.
    assert (result == 7).all()
    assert not is_binomial((result - 7).sum(), SAMPLE_SIZE, 0.25)


@pytest.mark.parametrize("log_size", [56, 57, 58, 59, 60, 61])
@pytest.mark.parametrize("sign", [1, -1])
def test_local_truncation_fails_as_often_as_it_says(log_size, sign):
    # |x| = 2^l - 1: a party's share wraps with probability |x| / 2^64, and the result is then off by 2^(64 - f).
    n_bits, size = 16, 2**log_size - 1
    x = np.full(SAMPLE_SIZE, sign * size)
    protocol = truncating(n_bits, "local", size)
    result = run_local(protocol, spread_over(2, x), rng=InsecureSeededRng(log_size)).results[0]
    error = [int(r) - (int(v) >> n_bits) for r, v in zip(result.tolist(), x.tolist(), strict=True)]
    failures = sum(e not in (0, 1) for e in error)
    assert {e for e in error if e not in (0, 1)} <= {s * 2 ** (64 - n_bits) + d for s in (1, -1) for d in (0, 1)}
    rate = size / 2**64
    assert failures > 0
    assert is_binomial(failures, SAMPLE_SIZE, rate)
    # Both sides: half the rate and the stated bound, twice the rate, are told apart from it.
    assert not is_binomial(failures, SAMPLE_SIZE, rate / 2)
    assert not is_binomial(failures, SAMPLE_SIZE, 2 ** (log_size + 1 - 64))
    assert failures / SAMPLE_SIZE < 2 ** (log_size + 1 - 64)


@pytest.mark.parametrize("log_size", [56, 60, 61])
@pytest.mark.parametrize("how", ["exact", "stochastic"])
def test_the_other_kinds_do_not_fail_where_the_local_one_does(log_size, how):
    for sign in (1, -1):
        x = np.full(SAMPLE_SIZE, sign * (2**log_size - 1))
        result = opened(truncating(16, how, 2**log_size - 1), spread_over(2, x))[0]
        assert (np.abs(result - (x >> 16) - 0.5) <= 0.5).all()


# Fixed-point numbers: the bounds.
#
# Inputs are rounded to the grid: |x' - x| <= u / 2. On the grid everything is exact up to the one truncation, which is
# off by u / 2 at most if it is exact ("nearest"), and by less than u if it is stochastic. Hence for |x| <= X, |y| <= Y:
#
#     mul      |x' y' - x y| <= (X + Y) u / 2 + u^2 / 4,   and the truncation
#     square   the same with Y = X
#     matmul   k times that, and one truncation


def input_error(x, y, unit):
    return (x + y) * unit / 2 + unit * unit / 4


@given(data=st.data(), n_parties=PARTIES, frac_bits=st.sampled_from([1, 8, 16, 20]))
def test_products_of_real_numbers_stay_within_the_bound(data, n_parties, frac_bits):
    most = 100
    reals = st.floats(-most, most, allow_nan=False, width=32)
    x, y = (np.array(data.draw(st.lists(reals, min_size=6, max_size=6))) for _ in range(2))

    async def protocol(s, mine):
        a, b = await shared(s, mine, max_abs=most, frac_bits=frac_bits)
        products = await s.together(
            s.mul(a, b), s.square(a), s.matmul(a.reshape(2, 3), b.reshape(3, 2)), s.mul(a, y), s.mul(a, 3)
        )
        assert [product.frac_bits for product in products] == [frac_bits] * 5
        return await s.open(*products)

    unit = Fraction(1, 2**frac_bits)
    product, square, matrix, public, triple = opened(protocol, spread_over(n_parties, x, y))
    xs, ys = ([Fraction(v) for v in array.tolist()] for array in (x, y))
    bound = input_error(most, most, unit) + unit / 2
    for i in range(6):
        assert abs(Fraction(product[i]) - xs[i] * ys[i]) <= bound
        assert abs(Fraction(square[i]) - xs[i] ** 2) <= bound
        assert abs(Fraction(public[i]) - xs[i] * ys[i]) <= bound
        assert abs(Fraction(triple[i]) - 3 * xs[i]) <= 3 * unit / 2
    for i in range(2):
        for j in range(2):
            exact = sum(xs[3 * i + m] * ys[2 * m + j] for m in range(3))
            assert abs(Fraction(matrix[i, j]) - exact) <= 3 * input_error(most, most, unit) + unit / 2


def errors_on_the_grid(how, ask, exact):
    """Errors of a product of many numbers that lie on the grid, in units: what the truncation alone does."""
    frac_bits, n = 12, 4096
    rng = np.random.default_rng(1)
    x, y = (rng.integers(-(2**18), 2**18, n) * 2.0**-frac_bits for _ in range(2))

    async def protocol(s, mine):
        a, b = await shared(s, mine, max_abs=64, frac_bits=frac_bits)
        s.truncation = how
        return await s.open(await ask(s, a, b))

    result = opened(protocol, spread_over(2, x, y))[0].reshape(-1)
    # Below 2^53 units of u^2: exact in double precision.
    return (result - exact(x, y).reshape(-1)) * 2**frac_bits


PRODUCTS = {
    "mul": (lambda s, a, b: s.mul(a, b), lambda x, y: x * y),
    "square": (lambda s, a, _: s.square(a), lambda x, _: x * x),
    "matmul": (
        lambda s, a, b: s.matmul(a.reshape(64, 64), b.reshape(64, 64)),
        lambda x, y: x.reshape(64, 64) @ y.reshape(64, 64),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize(("how", "least", "most"), [("exact", -0.5, 0.5), ("stochastic", -1, 1), ("local", -1, 1)])
def test_the_error_of_a_truncation_is_bounded_and_the_bound_is_nearly_attained(name, how, least, most):
    error = errors_on_the_grid(how, *PRODUCTS[name])
    assert least <= error.min()
    assert error.max() <= most
    # Both ends. Of 4096 products 200 have a remainder in any twentieth of a unit; one within .15 of a whole unit that
    # is rounded the wrong way has probability .15^2 / 2, so that 46 are expected.
    near = 0.95 if how == "exact" else 0.85
    assert error.min() < near * least
    assert error.max() > near * most
    if how == "exact":
        # Ties go up: plus a half occurs, minus a half does not.
        assert error.min() > -0.5


def test_the_bound_with_the_rounding_of_inputs_is_nearly_attained():
    # Inputs half a unit beside the grid, as large as declared: the first two terms add up.
    frac_bits, most = 8, 100
    unit = 2.0**-frac_bits
    x = np.full(100, most - 1.5 * unit + 2.0**-40)
    y = x + np.arange(100) * 2.0**-40

    async def protocol(s, mine):
        a, b = await shared(s, mine, max_abs=most, frac_bits=frac_bits)
        return await s.open(await s.mul(a, b))

    result = opened(protocol, spread_over(2, x, y))[0]
    bound = float(input_error(most, most, unit) + unit / 2)
    error = np.abs(result - x * y)
    assert error.max() <= bound
    assert error.max() > 0.95 * bound


@pytest.mark.parametrize(("left_bits", "right_bits"), [(16, 16), (16, 8), (8, 16), (16, 0), (0, 16)])
def test_a_product_keeps_the_finer_of_two_grids(left_bits, right_bits):
    x, y = np.array([3.0, -2.0, 5.0]), np.array([2.0, 7.0, -1.0])

    async def protocol(s, mine):
        a = (await s.input(mine[0] if left_bits else mine[0].astype(int), max_abs=10, frac_bits=left_bits))[0]
        b = (await s.input(mine[1] if right_bits else mine[1].astype(int), max_abs=10, frac_bits=right_bits))[0]
        product = await s.mul(a, b)
        assert product.frac_bits == max(left_bits, right_bits)
        return await s.open(product)

    assert opened(protocol, spread_over(2, x, y))[0].tolist() == (x * y).tolist()


def test_products_in_one_call_are_truncated_each_in_its_own_way():
    async def protocol(s, mine):
        a, b = await shared(s, mine, max_abs=10, frac_bits=16)
        c = (await s.input(mine[0].astype(int), max_abs=10))[0]
        products = await s.mul_many([(a, b), (c, c), (a, c), (b, b[:1])])
        assert [product.frac_bits for product in products] == [16, 0, 16, 16]
        return await s.open(*products)

    x, y = np.array([3.0, -2.0]), np.array([2.5, 7.0])
    expected = [x * y, x * x, x * x, y * y[0]]
    for result, wanted in zip(opened(protocol, spread_over(3, x, y)), expected, strict=True):
        assert result.tolist() == wanted.tolist()


def test_truncating_a_fixed_point_number_keeps_its_value_to_half_a_coarser_unit():
    x = np.linspace(-9, 9, 1000)

    async def protocol(s, mine):
        (a,) = await shared(s, mine, max_abs=9, frac_bits=16)
        coarse = await s.truncate(a, 10)
        assert coarse.frac_bits == 6
        return await s.open(coarse)

    error = np.abs(opened(protocol, spread_over(2, x))[0] - x)
    bound = 2.0**-7 + 2.0**-17
    assert error.max() <= bound
    assert error.max() > 0.95 * bound


def test_a_session_truncates_as_it_was_told():
    async def protocol(s, x, how=None):
        a = (await s.input(x, max_abs=2**40))[0]
        before = s.usage.rounds
        await s.truncate(a, 16, how=how)
        return s.truncation, s.usage.rounds - before

    assert run_local(protocol, [[1]] * 3).results[0] == ("exact", 3)
    for how, rounds in (("exact", 3), ("stochastic", 1), ("local", 0)):

        async def asked(s, x, how=how):
            return await protocol(s, x, how)

        assert run_local(asked, [[1]] * 2).results[0] == ("exact", rounds)


def test_local_truncation_is_refused_for_more_than_two_parties_before_anything_is_sent():
    async def direct(s, x):
        a = (await s.input(x, max_abs=9))[0]
        await s.truncate(a, 1, how="local")

    async def product(s, x):
        a = (await s.input(np.array(x, dtype=float), max_abs=9, frac_bits=4))[0]
        s.truncation = "local"
        sent = s.usage.bytes_sent
        try:
            await s.mul(a, a)
        finally:
            assert s.usage.bytes_sent == sent

    for protocol in (direct, product):
        assert "two parties" in str(cause(protocol, [[1]] * 3))


def test_arguments_of_truncate_are_checked():
    def error(**options):
        async def protocol(s, x):
            a = (await s.input(x, max_abs=9))[0]
            await s.truncate(a, **{"n_bits": 1, **options})

        return cause(protocol, [[1], [2]])

    for options in ({"n_bits": 0}, {"n_bits": 63}, {"n_bits": True}, {"n_bits": 1.0}, {"how": "probabilistic"}):
        assert isinstance(error(**options), ValueError)


def test_the_plain_rounding_of_this_file_is_that_of_halves():
    # The witness has a witness.
    for number in range(-40, 41):
        assert nearest(number, 3) == math.floor(Fraction(number, 8) + Fraction(1, 2))
