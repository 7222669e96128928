"""Piecewise polynomials: that their public side is as good as claimed, and that the shared side evaluates them."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plaintext import opened

from smpc import RING64, RangeExceeded, Shared, SharedBits, run_local
from smpc.approximation import EXP, INVERSE_SQRT, LOG, RECIPROCAL, SIGMOID, SQRT, _nodes, pieces
from smpc.comparison import at_least
from smpc.conversion import gates
from smpc.errors import FrameRejected, PartyFailed
from smpc.pieces import evaluate, kind_of

TRUTH = {
    SIGMOID: lambda x: 1 / (1 + mpmath.exp(-x)),
    EXP: mpmath.exp,
    LOG: mpmath.log,
    RECIPROCAL: lambda x: 1 / x,
    SQRT: mpmath.sqrt,
    INVERSE_SQRT: lambda x: 1 / mpmath.sqrt(x),
}


def plan_of(function, precision, frac_bits=20):
    low, high = (1, 2) if function not in (SIGMOID, EXP) else (-8, 3)
    unit = 2**frac_bits
    return pieces(function, low=low * unit, high=high * unit, frac_bits=frac_bits, precision=precision, largest=32.0), (
        low,
        high,
    )


@pytest.mark.parametrize("function", TRUTH, ids=lambda function: function.name)
def test_derivatives_are_below_their_bounds_and_not_far_below(function):
    with mpmath.workdps(40):
        for a in (0.9, 1.0, 1.7):
            for n, true in list(enumerate(mpmath.taylor(TRUTH[function], a, 10)))[1:]:
                # On an interval around a, and at a itself.
                assert abs(true) <= function.derivative(n, a - 0.1, a + 0.1)
                if function is not SIGMOID:
                    assert abs(true) >= 0.999 * function.derivative(n, a, a)
        # The sigmoid's bound is for all real numbers; odd derivatives at zero come close to it.
        if function is SIGMOID:
            for n in (3, 5, 7, 9):
                assert function.derivative(n, 0, 0) >= abs(mpmath.taylor(TRUTH[SIGMOID], 0, n)[n])
                assert abs(mpmath.taylor(TRUTH[SIGMOID], 0, n)[n]) > 0.75 * function.derivative(n, 0, 0)


@pytest.mark.parametrize("precision", [10, 26])
@pytest.mark.parametrize("function", TRUTH, ids=lambda function: function.name)
def test_polynomials_are_within_half_of_the_allowed_error_on_both_sides_of_their_centres(function, precision):
    plan, (low, high) = plan_of(function, precision)
    h = 2.0 ** (plan.width - plan.log_pieces) / plan.multiplier / 2**20
    t = np.linspace(-1, 1, 41)
    for j in range(plan.n_pieces):
        centre = low + j * h
        inside = t[(centre + t * h >= low) & (centre + t * h <= high)]
        mine = np.polynomial.polynomial.polyval(inside, plan.coefficients[:, j])
        for value, x in zip(mine, centre + inside * h, strict=True):
            true = float(TRUTH[function](mpmath.mpf(x)))
            allowed = 2.0**-precision * (1 + math.exp(centre - h) if function.relative else 1) / 2
            assert abs(value - true) <= allowed


def test_a_degree_too_low_would_be_noticed_by_the_test_above():
    plan, _ = plan_of(SIGMOID, 18)
    h = 2.0 ** (plan.width - plan.log_pieces) / plan.multiplier / 2**20
    t = np.linspace(-1, 1, 41)
    shorter = plan.coefficients[:-2]
    wrong = [
        np.abs(np.polynomial.polynomial.polyval(t, shorter[:, j]) - 1 / (1 + np.exp(8 - (j + t) * h))).max()
        for j in range(plan.n_pieces - 2)
    ]
    assert max(wrong) > 2.0**-19


def test_the_nodes_do_not_depend_on_the_last_bits_of_a_cosine():
    with mpmath.workdps(40):
        for degree in range(1, 13):
            n = degree + 1
            for i, node in enumerate(_nodes(degree)[0]):
                scaled = mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n)) * 2**40
                assert node * 2**40 == int(mpmath.nint(scaled))
                # A double's error there is 2^-12 at most.
                assert abs(abs(scaled - mpmath.floor(scaled)) - 0.5) > 2.0**-10


def test_a_plan_is_the_same_whenever_it_is_made_and_its_digest_tells_others_apart():
    digests = {plan_of(function, precision)[0].digest for function in TRUTH for precision in (10, 18)}
    assert len(digests) == 12
    first = plan_of(SQRT, 18)[0]
    pieces.cache_clear()
    again = plan_of(SQRT, 18)[0]
    assert again.digest == first.digest
    np.testing.assert_array_equal(again.coefficients, first.coefficients)


def test_a_range_or_precision_that_does_not_fit_is_refused():
    with pytest.raises(RangeExceeded, match="64 bits"):
        plan_of(SIGMOID, 34)
    with pytest.raises(RangeExceeded, match="64 bits"):
        pieces(LOG, low=1, high=2**20, frac_bits=20, precision=10, largest=1.0)


@given(
    st.sampled_from([SIGMOID, EXP]),
    st.integers(-40, 10),
    st.integers(1, 300),
    st.integers(2, 40),
    st.integers(2, 3),
)
def test_any_range_is_evaluated_at_its_ends_and_at_every_border_of_pieces(function, low, span, frac_bits, n_parties):
    # In units of a sixteenth.
    low, high = low * 2**frac_bits // 16, (low + span) * 2**frac_bits // 16
    if function is EXP and high > 3 * 2**frac_bits:
        return
    plan = pieces(function, low=low, high=high, frac_bits=frac_bits, precision=14, largest=32.0)
    h = (1 << (plan.width - plan.log_pieces)) / plan.multiplier
    borders = low + np.arange(plan.n_pieces) * h
    x = np.concatenate([[low, high], np.floor(borders), np.ceil(borders)]).astype(np.int64).clip(low, high)

    async def protocol(s, mine):
        a = (await s.input(mine))[0]
        return await s.open(Shared(s, RING64, await evaluate(s, a._share, plan)))

    (result,) = opened(protocol, [x, *[0 * x] * (n_parties - 1)])
    true = np.array([float(TRUTH[function](mpmath.mpf(int(v)) / 2**frac_bits)) for v in x])
    allowed = 2.0**-14 * (1 + true if function.relative else 1)
    assert (np.abs(np.ldexp(result.astype(float), -plan.scale_bits) - true) <= allowed).all()


def test_parties_with_different_coefficients_notice_at_once():
    async def protocol(s, mine):
        a = (await s.input(mine))[0]
        plan = plan_of(SQRT, 18)[0]
        other = type(plan)(
            plan.width,
            plan.log_pieces,
            plan.low,
            plan.multiplier,
            plan.mask_bits,
            plan.scale_bits,
            plan.degree,
            plan.coefficients,
            plan.digest if s.party == 0 else "0" * 16,
        )
        await evaluate(s, a._share, other)

    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, [[2**20], [0]])
    assert isinstance(caught.value.__cause__, FrameRejected)


def test_the_dealt_powers_add_up_to_those_of_the_mask():
    plan = plan_of(SIGMOID, 18)[0]
    n = 50

    async def protocol(s, _):
        return s.take(kind_of(plan), n)

    (r0, powers0), (r1, powers1) = run_local(protocol, [0, 0]).results
    r = (r0 + r1).astype(np.uint64)
    powers = (powers0 + powers1).reshape(plan.degree + 1, n, plan.n_pieces)
    place_bits = plan.width - plan.log_pieces
    for item in range(n):
        rho = (int(r[item]) % 2**place_bits) / 2**place_bits
        expected = np.zeros((plan.degree + 1, plan.n_pieces))
        expected[:, int(r[item]) >> place_bits] = [1] + [rho**i * 2**plan.mask_bits for i in range(1, plan.degree + 1)]
        assert np.abs(powers[:, item].astype(np.int64) - expected).max() <= 0.5 + 1e-6


# What normalisation stands on.


@given(st.data(), st.sampled_from([8, 16, 32, 64]), st.integers(1, 70), st.integers(2, 4))
def test_at_least_compares_with_every_threshold_from_one_opening(data, width, n, n_parties):
    most = 2 ** (width - 2) - 1
    numbers = st.sampled_from([-most, -1, 0, 1, most]) | st.integers(-most, most)
    x = np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)))
    thresholds = data.draw(st.lists(numbers | st.sampled_from([int(v) for v in x]), min_size=1, max_size=5))

    async def protocol(s, mine):
        a = (await s.input(mine))[0]
        words = await at_least(s, a._share, thresholds, width)
        bits = await s.open(*[as_bits(s, row, n) for row in words], as_bits(s, words[0], n))
        return bits[:-1]

    for bits, threshold in zip(opened(protocol, [x, *[0 * x] * (n_parties - 1)]), thresholds, strict=True):
        assert bits.tolist() == (x >= threshold).tolist()


def as_bits(session, words, length):
    return SharedBits(session, words, length)


@pytest.mark.parametrize("n_parties", [2, 3])
@pytest.mark.parametrize("n", [1, 64, 131])
def test_gates_multiply_every_number_by_every_bit(n, n_parties):
    rng = np.random.default_rng(n)
    values = rng.integers(-(2**63), 2**63, (2, n))

    async def protocol(s, mine):
        a = (await s.input(mine))[0]
        bits = s.random_bits(n, 3)
        numbers, products = await gates(s, bits._words, a._share)
        known, opened_bits = await s.open(bits, Shared(s, RING64, numbers))
        return known, opened_bits, await s.open(Shared(s, RING64, products))

    known, numbers, products = opened(protocol, [values, *[0 * values] * (n_parties - 1)])
    np.testing.assert_array_equal(numbers, known)
    np.testing.assert_array_equal(products, known[:, None] * values)
