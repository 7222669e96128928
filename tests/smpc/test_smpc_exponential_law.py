"""The law of a choice on shares, against exponentials of many digits and against all that its integers can do."""

import dataclasses
import itertools
import math
from fractions import Fraction
from functools import lru_cache

import mpmath
import numpy as np
import pytest
from exponential_reference import LIMB, point, probabilities, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import ExponentialMechanism, PureDP, rho_of
from smpc.noise import exponential_law
from smpc.noise.exponential_law import _with_rate, pairs
from smpc.noise.geometric_law import exact_down


@pytest.fixture(autouse=True, scope="module")
def _many_digits():
    with mpmath.workprec(300):
        yield


# Epsilon, sensitivity, candidates, monotone.
ARGUMENTS = st.tuples(
    st.sampled_from([1e-3, 0.0137, 0.1, 1.0, 7.3, 500.0]),
    st.sampled_from([1, 16, 960, 1 << 16]),
    st.sampled_from([1, 2, 3, 41, 1000, 10_300]),
    st.booleans(),
)


def law_of(epsilon, sensitivity, m, monotone):
    return exponential_law(epsilon, sensitivity, m, monotone=monotone)


def exact_weight(law, below):
    return mpmath.exp(-mpmath.mpf(law.rate.numerator) / law.rate.denominator * min(below, law.cut))


def real(value):
    return mpmath.mpf(Fraction(value).numerator) / Fraction(value).denominator


@given(ARGUMENTS, st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_computed_for_a_weight_lies_in_its_bracket(arguments, data):
    law, _ = law_of(*arguments)
    edges = st.sampled_from([0, 1, law.cut - 1, law.cut, law.cut + 1])
    below = data.draw(st.one_of(edges, st.integers(0, law.cut)))
    modulus = 64**law.n_digits
    mask = data.draw(st.one_of(st.sampled_from([0, modulus - 1]), st.integers(0, modulus - 1)))
    for value in weights(law, below, mask):
        ideal = 2**law.weight_bits * exact_weight(law, below)
        assert real(law.lowest) * ideal <= value <= real(law.highest) * ideal
        assert 0 < value <= law.largest_weight


def test_one_table_entry_that_is_off_leaves_the_bracket():
    law, _ = exponential_law(0.1, 16, 41)
    below, outside = 5, 0
    table = list(law.tables[0])
    table[63 + (below << law.stretch) % 64] += 40
    wrong = dataclasses.replace(law, tables=(tuple(table), *law.tables[1:]))
    for mask in range(64):
        ideal = 2**law.weight_bits * exact_weight(law, below)
        outside += any(
            not real(law.lowest) * ideal <= value <= real(law.highest) * ideal for value in weights(wrong, below, mask)
        )
    assert outside


@given(ARGUMENTS, st.data())
@settings(max_examples=60, deadline=None)
def test_the_point_is_off_by_less_than_a_sixteenth_a_limb_and_nothing_leaves_a_word(arguments, data):
    law, _ = law_of(*arguments)
    largest = arguments[2] * law.largest_weight
    total = data.draw(st.one_of(st.just(largest), st.integers(1, largest)))
    bits = LIMB * law.n_limbs
    r = data.draw(st.one_of(st.sampled_from([0, 2**bits - 1]), st.integers(0, 2**bits - 1)))
    ups = data.draw(st.lists(st.integers(0, 1), min_size=law.n_limbs - 1, max_size=law.n_limbs - 1))
    off = point(law, total, r, ups) - Fraction(r * total << LIMB, 2**bits)
    assert abs(off) <= law.n_limbs - 1
    # Truncation takes numbers below 2^62, and lets at most 62 bits go.
    assert largest << LIMB < 2**61
    assert LIMB * (law.n_limbs - 1) <= 62
    # As if the largest entries of all tables met.
    nodes = [max(table) for table in law.tables]
    while len(nodes) > 1:
        products = [x * y for x, y in zip(*pairs(nodes), strict=True)]
        assert max(products) < 2**61
        nodes = nodes[: len(nodes) % 2] + [(x >> law.factor_bits) + 1 for x in products]


def range_of(law, m, shift):
    """An upper bound on the range by (1) and (2), from the law's own numbers; real numbers of many digits."""
    least = real(law.lowest) * 2**law.weight_bits * exact_weight(law, law.cut)
    theta = (
        real(Fraction(law.n_limbs - 1, 8)) + real(Fraction(m * law.largest_weight, 2 ** (LIMB * law.n_limbs)))
    ) / least
    assert 0 < theta < 1
    h = mpmath.log(real(law.highest) / real(law.lowest)) + mpmath.log((1 + theta) / (1 - theta))
    return real(law.rate) * shift + 2 * h


@given(ARGUMENTS)
@settings(max_examples=60, deadline=None)
def test_range_and_rounding_together_cost_at_most_the_epsilon_of_the_event(arguments):
    epsilon, sensitivity, m, monotone = arguments
    law, event = law_of(*arguments)
    assert event == ExponentialMechanism(epsilon)
    assert range_of(law, m, sensitivity if monotone else 2 * sensitivity) <= real(exact_down(epsilon))
    assert rho_of(event) == pytest.approx(min(epsilon**2 / 8, rho_of(PureDP(epsilon))), rel=1e-11)


def test_a_law_for_scores_that_move_one_way_is_too_dear_for_others():
    law, event = exponential_law(0.1, 16, 41, monotone=True)
    assert range_of(law, 41, 32) > real(exact_down(event.epsilon))


@pytest.mark.parametrize("monotone", [False, True])
@pytest.mark.parametrize(
    ("epsilon", "sensitivity", "m"), [(0.01, 960, 41), (0.1, 16, 15), (1.0, 1, 3), (0.01, 1, 9999)]
)
def test_the_rate_is_what_epsilon_leaves_after_rounding(epsilon, sensitivity, m, monotone):
    law, event = exponential_law(epsilon, sensitivity, m, monotone=monotone)
    shift = sensitivity if monotone else 2 * sensitivity
    assert event == ExponentialMechanism(epsilon)
    assert law.rate * shift + law.excess <= exact_down(epsilon)
    # And no less than it must be: within two in a hundred, or a thousand for few candidates.
    assert law.rate * shift >= exact_down(epsilon) * (1 - Fraction(1, 50 if m > 100 else 1000))
    # Candidates that are far behind are hardly ever taken.
    assert m * math.exp(-float(law.rate * law.cut)) <= math.exp(-3)


# Bounded range, by enumeration of laws of few bits: every r, every mask, every way to cut.

# Rate, nats below all, bits: of one digit, which is looked up as it is; and of two, whose product is cut.
TOYS = {1: (Fraction(1, 5), 1, 7), 2: (Fraction(1, 40), 1, 7)}


def toy(n_digits):
    law = _with_rate(TOYS[n_digits][0], 3, *TOYS[n_digits][1:])
    assert law is not None
    assert (law.n_digits, law.n_limbs) == (n_digits, 3)
    return law


@lru_cache
def extremes(n_digits, below):
    law = toy(n_digits)
    every = set().union(*(weights(law, below, mask) for mask in range(64**n_digits)))
    return sorted({min(every), max(every)})


# What is opened when the two parts of the point are cut by 8 and by 4 bits: both ends, and something between.
OPENED = list(itertools.product((0, 100, 255), (0, 7, 15)))


def log_laws(n_digits, scores, opened):
    """Logarithms of the laws given what was opened for the point, over what may stand for the weights."""
    law = toy(n_digits)
    values = itertools.product(*(extremes(n_digits, min(max(scores) - s, law.cut)) for s in scores))
    return np.log([probabilities(law, each, opened) for each in values])


def largest_range(n_digits, here, there):
    """The largest difference of log-odds between neighbours, over what may be opened on the way."""
    pairs_of_laws = ((log_laws(n_digits, here, each), log_laws(n_digits, there, each)) for each in OPENED)
    return max(float(np.ptp(p[:, None] - q, axis=-1).max()) for p, q in pairs_of_laws)


def paid(n_digits):
    return float(2 * toy(n_digits).rate + toy(n_digits).excess)


@pytest.mark.parametrize("n_digits", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("here", "move"),
    [
        ((0, 0, 0), (1, -1, 0)),
        ((4, 3, 3), (-1, 1, 1)),
        ((0, 9, 10), (1, 1, -1)),
        # Far beyond the cut, and on both sides of it.
        ((0, 1000, 1000), (1, -1, 1)),
        ((20, 10, 11), (1, 1, -1)),
        ((100, 18, 17), (1, -1, 1)),
        ((0, 1, 2), (-1, 1, -1)),
    ],
)
def test_neighbours_have_bounded_range_whatever_is_opened_on_the_way(n_digits, here, move):
    there = tuple(s + d for s, d in zip(here, move, strict=True))
    assert largest_range(n_digits, here, there) <= paid(n_digits)


@given(st.lists(st.integers(-20, 20), min_size=3, max_size=3), st.lists(st.integers(-1, 1), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_neighbours_have_bounded_range_by_enumeration(scores, moves):
    there = tuple(s + d for s, d in zip(scores, moves, strict=True))
    assert largest_range(1, tuple(scores), there) <= paid(1)


@pytest.mark.parametrize("n_digits", [1, 2])
def test_scores_that_move_by_more_have_a_larger_range(n_digits):
    far = math.ceil(paid(n_digits) / float(toy(n_digits).rate) / 2) + 1
    assert largest_range(n_digits, (4, 4, 4), (4 + far, 4 - far, 4)) > paid(n_digits)


def test_rounding_alone_can_move_the_odds():
    # What the excess is for: nobody's score changes, and the odds still differ by what was opened.
    assert largest_range(2, (0, 9, 50), (0, 9, 50)) > 0


@given(
    st.lists(st.integers(-60, 60), min_size=2, max_size=5),
    st.integers(1, 3),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_the_ideal_law_has_bounded_range(scores, sensitivity, monotone, random):
    law, event = exponential_law(2.0, sensitivity, len(scores), monotone=monotone)
    low, high = (random.choice([(0, 1), (-1, 0)])) if monotone else (-1, 1)
    moved = [s + random.randint(low * sensitivity, high * sensitivity) for s in scores]
    logs = np.log(law.ideal(scores)) - np.log(law.ideal(moved))
    assert np.ptp(logs) <= event.epsilon * (1 + 1e-9)


def test_the_bound_on_the_range_is_attained():
    law, event = exponential_law(2.0, 1, 3)
    logs = np.log(law.ideal([0, 0, 0])) - np.log(law.ideal([1, -1, 0]))
    assert np.ptp(logs) == pytest.approx(event.epsilon, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((0.0, 1, 2), "epsilon"),
        ((math.inf, 1, 2), "epsilon"),
        ((1.0, 0, 2), "sensitivity"),
        ((1.0, 1.5, 2), "sensitivity"),
        ((1.0, 1, 0), "n_candidates"),
        ((1e-7, 1, 50), "larger epsilon"),
        ((1.0, 1 << 60, 50), "coarser unit"),
    ],
)
def test_what_cannot_be_is_refused(arguments, what):
    with pytest.raises((ValueError, TypeError), match=what):
        exponential_law(*arguments)
