"""Division, roots, exponential, logarithm and sigmoid of shared numbers: the proved errors, met on dense grids.

u  one unit of the result, 2^-f;  witness: mpmath with 30 digits
"""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plaintext import cause, opened

from smpc import FIELD61, RangeExceeded, Shared, run_local
from smpc.errors import SessionMismatch
from smpc.kinds import Digits, Gates, Product, Truncation
from smpc.pieces import MaskedPieces

N = 301
# Units, by the truncation; see `smpc.functions`.
ALLOWED = {"exact": 1.0, "stochastic": 1.5, "local": 1.5}


def errors(compute, values, truth, frac_bits, *, how="exact", max_abs=None, out_bits=None, n_parties=2):
    """Errors of a function in units of its result, and the true values; `values` are put in as they are encoded."""
    encoded = np.rint(np.ldexp(np.asarray(values, dtype=float), frac_bits))
    values = np.ldexp(encoded, -frac_bits)
    max_abs = float(np.abs(values).max()) if max_abs is None else max_abs

    async def protocol(s, x):
        s.truncation = how
        a = (await s.input(x, max_abs=max_abs, frac_bits=frac_bits))[0]
        result = await compute(s, a)
        assert result.frac_bits == (frac_bits if out_bits is None else out_bits)
        assert result.shape == a.shape
        opened = await s.open(result)
        # What the result declares of itself is true.
        assert np.abs(opened).max() * 2**result.frac_bits <= result.bound
        return opened

    (result,) = opened(protocol, [values, *[np.zeros_like(values)] * (n_parties - 1)])
    with mpmath.workdps(30):
        exact = [truth(mpmath.mpf(float(value))) for value in values]
        unit = mpmath.mpf(2) ** -(frac_bits if out_bits is None else out_bits)
        wrong = [float((mpmath.mpf(float(mine)) - true) / unit) for mine, true in zip(result, exact, strict=True)]
    return np.array(wrong), np.array([float(true) for true in exact])


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def around(*points, unit):
    """The points, and their neighbours on the grid."""
    return [point + step * unit for point in points for step in (-1, 0, 1)]


def geometric(least, most, unit):
    """From least to most on the grid, with the powers of two between them and their neighbours."""
    powers = 2.0 ** np.arange(math.floor(math.log2(least)), math.ceil(math.log2(most)) + 1)
    grid = np.concatenate([np.geomspace(least, most, N), around(*powers, unit=unit), [least, most]])
    return np.clip(grid, least, most)


def dyadic(value, frac_bits):
    return math.ceil(value * 2**frac_bits) / 2**frac_bits


@pytest.mark.parametrize("how", ["exact", "stochastic"])
@pytest.mark.parametrize("frac_bits", [8, 16, 24])
class TestErrorsAreWithinTheProvedBounds:
    def test_sigmoid_that_stays_inside_the_cut(self, frac_bits, how):
        grid = np.linspace(-5, 5, N)
        wrong, _ = errors(lambda s, a: s.sigmoid(a), grid, sigmoid, frac_bits, how=how)
        assert np.abs(wrong).max() <= ALLOWED[how]

    def test_sigmoid_far_beyond_the_cut(self, frac_bits, how):
        cut = (frac_bits + 2) * math.log(2)
        grid = [*np.linspace(-2 * cut, 2 * cut, N), *around(-cut, cut, 0, unit=2.0**-frac_bits), -1000, 1000]
        wrong, true = errors(lambda s, a: s.sigmoid(a), grid, sigmoid, frac_bits, how=how)
        assert np.abs(wrong).max() <= ALLOWED[how]
        assert true.min() == 0 or true.min() < 1e-100

    def test_exp(self, frac_bits, how):
        most = {8: 15.0, 16: 10.0, 24: 3.0}[frac_bits]
        cut = (frac_bits + 2) * math.log(2)
        grid = [*np.linspace(-cut - 3, most, N), *around(-cut, 0, unit=2.0**-frac_bits), -1000, most]
        wrong, true = errors(lambda s, a: s.exp(a, most=most), grid, mpmath.exp, frac_bits, how=how)
        assert (np.abs(wrong) - true / 4).max() <= ALLOWED[how]

    def test_log(self, frac_bits, how):
        least, most = 2.0**-frac_bits, 5000.0
        grid = geometric(least, most, least)
        wrong, _ = errors(lambda s, a: s.log(a, least=least), grid, mpmath.log, frac_bits, how=how)
        assert np.abs(wrong).max() <= ALLOWED[how]

    def test_reciprocal(self, frac_bits, how):
        # The largest quotient that is promised: 2^(27 - f).
        least = dyadic({8: 2.0**-8, 16: 2.0**-11, 24: 0.125}[frac_bits], frac_bits)
        grid = geometric(least, 900.0, 2.0**-frac_bits)
        wrong, _ = errors(lambda s, a: s.reciprocal(a, least=least), grid, lambda x: 1 / x, frac_bits, how=how)
        assert np.abs(wrong).max() <= ALLOWED[how]

    def test_sqrt(self, frac_bits, how):
        most = {8: 10_000.0, 16: 10_000.0, 24: 60.0}[frac_bits]
        grid = [0.0, *geometric(2.0**-frac_bits, most, 2.0**-frac_bits)]
        wrong, _ = errors(lambda s, a: s.sqrt(a), grid, mpmath.sqrt, frac_bits, how=how)
        assert np.abs(wrong).max() <= ALLOWED[how]

    def test_inverse_sqrt(self, frac_bits, how):
        least = {8: 2.0**-8, 16: 2.0**-16, 24: 2.0**-5}[frac_bits]
        grid = geometric(least, 900.0, 2.0**-frac_bits)
        wrong, _ = errors(
            lambda s, a: s.inverse_sqrt(a, least=least), grid, lambda x: 1 / mpmath.sqrt(x), frac_bits, how=how
        )
        assert np.abs(wrong).max() <= ALLOWED[how]

    @pytest.mark.parametrize("divisor", [3, -7.3, 0.37, 1000.0])
    def test_division_by_a_public_number(self, frac_bits, how, divisor):
        grid = [*np.linspace(-9, 9, 301), 0.0]
        wrong, _ = errors(lambda s, a: s.divide(a, divisor), grid, lambda x: x / divisor, frac_bits, how=how)
        assert np.abs(wrong).max() <= ALLOWED[how]


@pytest.mark.parametrize("how", ALLOWED)
@pytest.mark.parametrize(
    ("frac_bits", "most", "least"), [(8, 100.0, 1.0), (16, 500.0, 0.5), (16, 0.01, 0.001), (24, 4.0, 0.7)]
)
def test_quotients_of_two_shared_numbers_are_within_the_proved_bound(how, frac_bits, most, least):
    rng = np.random.default_rng(frac_bits)
    least, most = dyadic(least, frac_bits), dyadic(most, frac_bits)
    numerators = np.rint(rng.uniform(-most, most, N) * 2**frac_bits)
    denominators = np.rint(np.clip(geometric(least, 64.0, 2.0**-frac_bits)[:N], least, 64.0) * 2**frac_bits)
    numerators[:2], denominators[:2] = most * 2**frac_bits, least * 2**frac_bits

    async def protocol(s, mine):
        s.truncation = how
        a = (await s.input(mine[0], max_abs=most, frac_bits=frac_bits))[0]
        b = (await s.input(mine[1], max_abs=64.0, frac_bits=frac_bits))[1]
        return await s.open(await s.divide(a, b, least=least))

    quotients, zeros = numerators / denominators, np.zeros(N)
    inputs = [(np.ldexp(numerators, -frac_bits), zeros), (zeros, np.ldexp(denominators, -frac_bits))]
    (result,) = opened(protocol, inputs)
    assert np.abs(result - quotients).max() * 2**frac_bits <= ALLOWED[how] + 1e-6


def test_a_part_over_the_whole_keeps_more_digits_than_the_declared_range_would_allow():
    parts, wholes = np.array([1, 0, 12_345, 2**24 - 1, 7]), np.array([2**24, 1, 54_321, 2**24, 7])

    def protocol(**bound):
        async def run(s, x):
            a, b = await s.input(x, max_abs=2**24)
            return await s.open(await s.divide(a, b, least=1, frac_bits=25, **bound))

        return run

    (quotients,) = [opened(protocol(largest=1), [parts, wholes])]
    assert np.abs(quotients - parts / wholes).max() <= 2.0**-25
    assert isinstance(cause(protocol(), [parts, wholes]), RangeExceeded)
    assert isinstance(cause(protocol(largest=0), [parts, wholes]), ValueError)


def test_integers_are_divided_and_rooted_to_any_number_of_fractional_bits():
    async def protocol(s, x):
        a = (await s.input(x, max_abs=10**6))[0]
        quotient = await s.divide(a[:2], a[2:], least=1, most=1000, frac_bits=6)
        assert quotient.frac_bits == 6
        half = await s.divide(a, 2, frac_bits=1)
        root = await s.sqrt(a, frac_bits=10)
        return await s.open(quotient, half, root, await s.log(a, least=1, frac_bits=20))

    values = np.array([999, 1000, 3, 999])
    quotient, half, root, log = opened(protocol, [values, 0 * values])
    assert np.abs(quotient - [333, 1000 / 999]).max() <= 2**-6
    np.testing.assert_array_equal(half, values / 2)
    assert np.abs(root - np.sqrt(values)).max() <= 2**-10
    assert np.abs(log - np.log(values)).max() <= 2**-20


def test_shapes_are_kept_and_those_of_quotients_broadcast():
    async def protocol(s, x):
        a = (await s.input(x, max_abs=8.0, frac_bits=12))[0]
        empty = await s.sigmoid(a[:0])
        assert empty.shape == (0, 3)
        return await s.open(
            await s.exp(a),
            await s.divide(a, a[0], least=0.5),
            await s.divide(a, np.array([[2.0], [4.0]])),
            await s.sqrt(a[1, 2]),
        )

    x = np.array([[1.0, 2.0, 0.5], [3.0, 4.0, 6.25]])
    for result, true in zip(
        opened(protocol, [x, 0 * x]), [np.exp(x), x / x[0], x / [[2.0], [4.0]], np.sqrt(6.25)], strict=True
    ):
        assert result.shape == np.shape(true)
        assert (np.abs(result - true) * 2**12 <= 1 + (np.abs(true) / 4)).all()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exact", "stochastic"])
def test_every_16_bit_number_of_a_range_is_within_the_proved_bound(how):
    frac_bits = 12
    every = np.arange(-(2**15), 2**15) / 2**frac_bits
    positive = np.arange(1, 2**16) / 2**frac_bits
    wrong, _ = errors(lambda s, a: s.sigmoid(a), every, sigmoid, frac_bits, how=how)
    assert np.abs(wrong).max() <= ALLOWED[how]
    wrong, true = errors(lambda s, a: s.exp(a), every, mpmath.exp, frac_bits, how=how)
    assert (np.abs(wrong) - true / 4).max() <= ALLOWED[how]
    for name, truth in {
        "log": mpmath.log,
        "sqrt": mpmath.sqrt,
        "inverse_sqrt": lambda x: 1 / mpmath.sqrt(x),
        "reciprocal": lambda x: 1 / x,
    }.items():
        wrong, _ = errors(
            lambda s, a, name=name: getattr(s, name)(a, least=2.0**-frac_bits), positive, truth, frac_bits, how=how
        )
        assert np.abs(wrong).max() <= ALLOWED[how]


# Any declared range, any number of fractional bits.

FRACTIONS = st.integers(8, 24)
HOW = st.sampled_from(["exact", "stochastic"])
PARTIES = st.integers(2, 3)


def sample(data, low, high, frac_bits):
    """Numbers of the grid in low..high, its ends among them."""
    first, last = math.ceil(low * 2**frac_bits), math.floor(high * 2**frac_bits)
    inside = data.draw(st.lists(st.integers(first, last), min_size=1, max_size=12))
    return np.ldexp(np.array([first, *inside, last], dtype=float), -frac_bits)


@settings(max_examples=12)
@given(st.data(), FRACTIONS, HOW, PARTIES, st.floats(0.01, 2000.0))
def test_sigmoid_of_any_declared_range(data, frac_bits, how, n_parties, reach):
    values = sample(data, -reach, reach, frac_bits)
    wrong, _ = errors(
        lambda s, a: s.sigmoid(a), values, sigmoid, frac_bits, how=how, max_abs=reach, n_parties=n_parties
    )
    assert np.abs(wrong).max() <= ALLOWED[how]


@settings(max_examples=12)
@given(st.data(), FRACTIONS, HOW, st.floats(0.0, 1.0), st.floats(1.0, 200.0))
def test_exp_of_any_declared_range(data, frac_bits, how, part, reach):
    # 2 f + 2 log2(e^most) takes less than 61 bits, with what is needed for rounding.
    most = min(part * (54 - 2 * frac_bits) / 2.9, reach)
    values = sample(data, -reach, most, frac_bits)
    wrong, true = errors(lambda s, a: s.exp(a, most=most), values, mpmath.exp, frac_bits, how=how, max_abs=reach)
    assert (np.abs(wrong) - true / 4).max() <= ALLOWED[how]


@given(st.data(), FRACTIONS, HOW, st.floats(-20.0, 5.0), st.floats(0.0, 12.0))
def test_positive_numbers_of_any_declared_range(data, frac_bits, how, log_least, octaves):
    least = max(2.0**log_least, 2.0**-frac_bits)
    # At least one number of the grid lies between.
    most = max(least * 2**octaves, least + 2.0**-frac_bits)
    values = sample(data, least, most, frac_bits)
    name, truth = data.draw(
        st.sampled_from(
            [
                ("log", mpmath.log),
                ("sqrt", mpmath.sqrt),
                ("inverse_sqrt", lambda x: 1 / mpmath.sqrt(x)),
                ("reciprocal", lambda x: 1 / x),
            ]
        )
    )
    # The promise: f + log2 of the largest power of two below or above the result, at most 27.
    largest = {
        "log": 0,
        "sqrt": math.log2(most) / 2,
        "inverse_sqrt": 0.5 - math.log2(least) / 2,
        "reciprocal": 1 - math.log2(least),
    }[name]
    if frac_bits + max(math.ceil(largest), 0) > 27:
        return
    wrong, _ = errors(lambda s, a: getattr(s, name)(a, least=least), values, truth, frac_bits, how=how, max_abs=most)
    assert np.abs(wrong).max() <= ALLOWED[how]


# Monotone.


def test_results_rise_with_the_argument_wherever_the_function_rises_by_more_than_the_errors():
    x = np.linspace(-8, 8, 4097)
    (rising,) = opened(_sigmoids, [x, 0 * x])
    steps = np.diff(rising) * 2**16
    slopes = np.diff(1 / (1 + np.exp(-x))) * 2**16
    # Two errors of at most a unit.
    assert (steps >= slopes - 2).all()
    assert (steps[slopes > 2] > 0).all()
    assert steps.min() >= -2


async def _sigmoids(s, x):
    return await s.open(await s.sigmoid((await s.input(x, max_abs=8.0, frac_bits=16))[0]))


# Refused before anything is sent.


@pytest.mark.parametrize(
    ("ask", "way_out"),
    [
        (lambda s, a: s.sigmoid(s.shared(a._share, frac_bits=16)), "max_abs"),
        (lambda s, a: s.exp(a), "declare a smaller range"),
        (lambda s, a: s.exp(a, most=20.0), "declare a smaller range"),
        (lambda s, a: s.exp(a, most=1e9), "declare a smaller range"),
        (lambda s, a: s.reciprocal(a, least=2.0**-13), "declare a smaller range"),
        (lambda s, a: s.reciprocal(a, least=2.0**-6, frac_bits=24), "declare a smaller range"),
        (lambda s, a: s.inverse_sqrt(a, least=2.0**-12, frac_bits=24), "declare a smaller range"),
        (lambda s, a: s.sqrt(s.shared(a._share, bound=2**60, frac_bits=16)), "declare a smaller range"),
        (lambda s, a: s.divide(a, a, least=0.01), "declare a smaller range"),
        (lambda s, a: s.divide(s.shared(a._share, bound=2**40, frac_bits=16), 2.0**-30), "declare a smaller range"),
        (lambda s, a: s.log(s.shared(a._share, bound=2**62, frac_bits=16), least=1.0), "declare a smaller range"),
        (lambda s, a: s.sigmoid(s.shared(a._share, bound=2**63 - 1, frac_bits=16)), "declare a smaller range"),
    ],
)
def test_a_range_that_cannot_be_computed_is_refused_and_nothing_is_sent(ask, way_out):
    async def protocol(s, x):
        a = (await s.input(x, max_abs=100.0, frac_bits=16))[0]
        before = s.usage.rounds, s.usage.bytes_sent, dict(s.usage.material)
        try:
            await ask(s, a)
        finally:
            assert (s.usage.rounds, s.usage.bytes_sent, s.usage.material) == before

    error = cause(protocol, [[1.0], [1.0]])
    assert isinstance(error, RangeExceeded)
    assert way_out in str(error)


@pytest.mark.parametrize(
    "ask",
    [
        lambda s, a: s.reciprocal(a, least=0.0),
        lambda s, a: s.reciprocal(a, least=-1.0),
        lambda s, a: s.reciprocal(a, least=math.nan),
        lambda s, a: s.reciprocal(a, least=101.0),
        lambda s, a: s.log(a, least=2.0, most=1.0),
        lambda s, a: s.sqrt(a, least=-1.0),
        lambda s, a: s.divide(a, a),
        lambda s, a: s.divide(a, 0),
        lambda s, a: s.divide(a, [1.0, math.nan]),
        lambda s, a: s.divide(a, math.inf),
        lambda s, a: s.sigmoid(s.shared(a._share, bound=5)),
        lambda s, a: s.exp(a, most=1.0, frac_bits=0),
        lambda s, a: s.sigmoid(s.shared(0 * a._share, FIELD61, bound=5, frac_bits=3)),
    ],
)
def test_arguments_that_mean_nothing_are_refused(ask):
    async def protocol(s, x):
        await ask(s, (await s.input(x, max_abs=100.0, frac_bits=16))[0])

    assert type(cause(protocol, [[1.0], [1.0]])) is ValueError


def test_numbers_of_another_session_and_public_ones_are_refused():
    async def leave(s, x):
        return (await s.input(x, max_abs=1.0, frac_bits=8))[0]

    stranger = run_local(leave, [[1.0], [1.0]]).results[0]
    assert isinstance(stranger, Shared)

    async def protocol(s, _):
        await s.sigmoid(stranger)

    async def of_public(s, _):
        await s.log(1.0, least=1.0)

    assert isinstance(cause(protocol, [0, 0]), SessionMismatch)
    assert isinstance(cause(of_public, [0, 0]), TypeError)


def test_the_promised_largest_quotients_are_computed():
    async def protocol(s, x):
        a = (await s.input(x, max_abs=1.0, frac_bits=16))[0]
        b = (await s.input(x, max_abs=1.0, frac_bits=24))[0]
        return await s.open(await s.reciprocal(a, least=2.0**-11), await s.reciprocal(b, least=2.0**-3))

    sixteen, twenty_four = opened(protocol, [[0.5], [0.0]])
    assert abs(sixteen[0] - 2) <= 2**-16
    assert abs(twenty_four[0] - 2) <= 2**-24


# Costs: n numbers, in rounds and in items.


def cost(ask, n, *, max_abs, frac_bits=16, how="exact"):
    async def protocol(s, _):
        s.truncation = how
        a = s.shared(np.zeros(n, np.uint64), bound=math.ceil(Fraction(max_abs) * 2**frac_bits), frac_bits=frac_bits)
        await ask(s, a)

    return run_local(protocol, [0, 0]).cost


@pytest.mark.parametrize(
    ("ask", "max_abs", "stochastic", "exact"),
    [
        (lambda s, a: s.sigmoid(a), 8.0, 2, 5),
        (lambda s, a: s.sigmoid(a), 100.0, 4, 6),
        (lambda s, a: s.exp(a, most=5.0), 5.0, 2, 5),
        (lambda s, a: s.exp(a, most=5.0), 100.0, 4, 6),
        (lambda s, a: s.log(a, least=0.01), 100.0, 6, 9),
        (lambda s, a: s.reciprocal(a, least=0.01), 100.0, 8, 11),
        (lambda s, a: s.sqrt(a), 100.0, 8, 11),
        (lambda s, a: s.inverse_sqrt(a, least=0.01), 100.0, 8, 11),
        (lambda s, a: s.divide(a, a, least=1.0), 100.0, 8, 11),
        (lambda s, a: s.divide(a, 3.0), 100.0, 1, 4),
        # Below 2^15 units a comparison takes a round less; at one power of two there is none.
        (lambda s, a: s.reciprocal(a, least=0.01), 0.25, 7, 10),
        (lambda s, a: s.reciprocal(a, least=64.0), 100.0, 4, 7),
    ],
)
def test_rounds_are_those_that_the_documentation_states(ask, max_abs, stochastic, exact):
    for n in (1, 130):
        assert cost(ask, n, max_abs=max_abs, how="stochastic").rounds == stochastic
        assert cost(ask, n, max_abs=max_abs, how="exact").rounds == exact


def test_material_is_one_item_for_each_number_and_one_for_64_gates():
    material = cost(lambda s, a: s.reciprocal(a, least=1.0), 100, max_abs=127.0, how="stochastic").material
    counts = {type(kind): count for kind, count in material.items() if not isinstance(kind, Truncation)}
    assert counts[MaskedPieces] == 100
    assert counts[Digits] == 100
    assert counts[Product] == 100
    # Seven possible highest bits: six thresholds, for two words of 64 numbers.
    assert {kind.n_bits: count for kind, count in material.items() if isinstance(kind, Gates)} == {6: 2}
    # Two roundings.
    assert sum(count for kind, count in material.items() if isinstance(kind, Truncation)) == 200


@pytest.mark.parametrize(("n_patients", "n_bits"), [(2**8, 1), (2**16, 12), (2**24, 12)])
@pytest.mark.parametrize("n_parties", [2, 3])
def test_rounded_quotients_are_exact_ties_included_and_the_same_in_every_run(n_patients, n_bits, n_parties):
    rng = np.random.default_rng(n_patients)
    y = np.rint(np.exp(rng.uniform(math.log(2048), math.log(n_patients * 1024), N))).astype(np.int64)
    x = np.rint(rng.uniform(-1, 1, N) ** 3 * np.minimum(n_patients * 4096, 200 * y)).astype(np.int64)
    # Ties: 2^n x / y ends in a half.
    y[:60], x[:60] = 2**13, (2 * rng.integers(-99, 99, 60) + 1) << 12 - n_bits
    x[60:63], y[60:63] = [0, 200 * 2048, -200 * 2048], 2048

    async def protocol(s, mine):
        a, b, *_ = await s.input(mine, max_abs=n_patients * 4096)
        divisor = b.declare(n_patients * 1024 + 2048)
        quotients = await s.rounded_quotient(a, divisor, n_bits=n_bits, least=2048, largest=256)
        assert quotients.frac_bits == 0
        found = await s.open(quotients)
        assert np.abs(found).max() <= quotients.bound
        return found

    inputs = [x, y, np.zeros_like(x)][:n_parties]
    expected = [(2 * (int(a) << n_bits) + int(b)) // (2 * int(b)) for a, b in zip(x, y, strict=True)]
    for _ in range(2):
        (result,) = opened(protocol, inputs)
        assert result.tolist() == expected


def test_a_rounded_quotient_is_one_of_integers_and_of_a_range_that_fits():
    async def fractions(s, x):
        a = (await s.input(x, max_abs=8, frac_bits=4))[0]
        return await s.rounded_quotient(a, a, n_bits=4, least=1)

    assert isinstance(cause(fractions, [[1.0], [1.0]]), ValueError)

    async def wide(s, x):
        a = (await s.input(x, max_abs=2**36))[0]
        return await s.rounded_quotient(a, a, n_bits=12, least=1)

    assert isinstance(cause(wide, [[1], [1]]), RangeExceeded)


def test_a_declared_largest_quotient_makes_room_for_more_bits():
    async def protocol(s, x, **vouched):
        a, b = await s.input(x, max_abs=1000.0, frac_bits=16)
        return await s.open(await s.divide(a, b, least=0.25, **vouched))

    (found,) = opened(lambda s, x: protocol(s, x, largest=3.0), [[1.5, -0.75], [0.5, 0.25]])
    assert np.abs(found - [3.0, -3.0]).max() <= 2.0**-16
    assert isinstance(cause(protocol, [[1.5], [0.5]]), RangeExceeded)
