"""The exact laws of the noise and their prices, checked in rational numbers."""

import itertools
import math
from fractions import Fraction

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import (
    ApproximateDP,
    PureFilter,
    RdpAccountant,
    ZcdpFilter,
    ZeroConcentratedDP,
    event_from_json,
    event_to_json,
)
from privacy._bernoulli import enclose_exp
from smpc.errors import RangeExceeded
from smpc.noise import (
    GeometricLaw,
    discrete_laplace_law,
    gaussian_table,
    geometric_law,
    noisy_argmax_law,
    rounded_scores,
)
from smpc.noise.geometric_law import exact_down, float_up

BITS = 300


def exp_down(exponent):
    """A rational number at most e^exponent, by less than 2^-200: what is bounded with it is bounded."""
    return 1 / Fraction(enclose_exp(exponent, BITS)[1], 2**BITS)


def difference(pmf):
    """The law of the difference of two independent variables with this law."""
    n = len(pmf)
    return {x: sum((pmf[g] * pmf[g + abs(x)] for g in range(n - abs(x))), Fraction(0)) for x in range(-n + 1, n)}


def excess(first, second, factor):
    """The least delta with P(S) <= factor Q(S) + delta for every S."""
    return sum((max(Fraction(0), p - factor * second.get(x, Fraction(0))) for x, p in first.items()), Fraction(0))


def shifted(law, d):
    return {x + d: p for x, p in law.items()}


# Geometric and discrete Laplace.


def test_digits_of_an_ideal_geometric_variable_are_independent():
    q, n_digits = Fraction(3, 5), 4
    odds = [q ** (2**j) for j in range(n_digits)]
    coins = [r / (1 + r) for r in odds]
    for g in range(2**n_digits):
        product = math.prod((p if g >> j & 1 else 1 - p for j, p in enumerate(coins)), start=Fraction(1))
        assert product == (1 - q) * q**g / (1 - q ** (2**n_digits))


def test_the_difference_of_two_geometric_variables_is_discrete_laplace():
    q, n = Fraction(3, 5), 16
    bounded = difference([(1 - q) * q**g / (1 - q**n) for g in range(n)])
    for x, p in bounded.items():
        laplace = (1 - q) / (1 + q) * q ** abs(x)
        # What the bound n changes, exactly.
        assert p == laplace * (1 - q ** (2 * (n - abs(x)))) / (1 - q**n) ** 2


@pytest.mark.parametrize("thresholds", [(1 << 62, 1 << 60), (3, 5, 2**64 - 1, 17)])
def test_tail_and_pmf_agree(thresholds):
    law = GeometricLaw(thresholds)
    pmf = law.pmf()
    assert sum(pmf) == 1
    for d in range(law.largest + 3):
        assert law.tail(d) == sum(pmf[max(law.largest + 1 - d, 0) :]) if d else law.tail(d) == 0


@given(rate=st.fractions(Fraction(1, 40), 5), shift=st.integers(1, 6), coin_bits=st.sampled_from([4, 8, 16, 64]))
def test_no_step_of_a_law_falls_by_more_than_the_rate(rate, shift, coin_bits):
    law = geometric_law(rate, shift, Fraction(1, 100), coin_bits)
    pmf = law.pmf()
    assert all(p > 0 for p in pmf)
    assert all(high <= exp_down(rate) * low for high, low in itertools.pairwise(pmf))
    assert law.tail(shift) <= Fraction(1, 100)
    fewer = GeometricLaw(law.thresholds[:-1], coin_bits) if law.n_digits > 1 else None
    assert fewer is None or fewer.tail(shift) > Fraction(1, 100)


def test_a_law_of_64_bit_coins_is_the_geometric_one_to_2_to_the_minus_60():
    rate = Fraction(1, 7)
    law = geometric_law(rate, 1, Fraction(1, 2**64))
    q = math.exp(-rate)
    for g, p in enumerate(law.pmf()[:100]):
        assert float(p) == pytest.approx((1 - q) * q**g, rel=1e-12)


@pytest.mark.parametrize(("epsilon", "sensitivity"), [(1.0, 1), (0.3, 1), (2.0, 3), (0.7, 2)])
@pytest.mark.parametrize("coin_bits", [8, 64])
def test_discrete_laplace_noise_costs_what_its_event_says(epsilon, sensitivity, coin_bits):
    law = geometric_law(exact_down(epsilon) / sensitivity, sensitivity, Fraction(1, 1000), coin_bits)
    noise = difference(law.pmf())
    delta = law.tail(sensitivity)
    for d in range(-sensitivity, sensitivity + 1):
        assert excess(noise, shifted(noise, d), exp_down(exact_down(epsilon))) <= delta
    # Negative control: the same noise, 30 % too small.
    small = difference(geometric_law(exact_down(epsilon) / sensitivity / Fraction(7, 10), 1, delta, coin_bits).pmf())
    assert excess(small, shifted(small, sensitivity), exp_down(exact_down(epsilon))) > delta


def test_a_vector_of_discrete_laplace_noise_costs_what_its_event_says():
    law = geometric_law(Fraction(1, 2), 2, Fraction(1, 50), 8)
    noise = difference(law.pmf())
    pair = {(x, y): p * q for (x, p), (y, q) in itertools.product(noise.items(), repeat=2)}
    moved = {(x + 1, y - 1): p for (x, y), p in pair.items()}
    assert excess(pair, moved, exp_down(Fraction(1))) <= 2 * law.tail(2)
    _, event = discrete_laplace_law(1.0, 2, dimension=10, max_delta=0.04)
    assert event.delta == float_up(2 * geometric_law(Fraction(1, 2), 2, Fraction(0.04) / 2).tail(2))


def test_the_events_are_the_closed_forms():
    for epsilon, sensitivity in [(1.0, 1), (0.1, 5), (3.0, 2)]:
        law, event = discrete_laplace_law(epsilon, sensitivity)
        assert event.epsilon == epsilon
        q, n = math.exp(-epsilon / sensitivity), law.largest + 1
        assert event.delta == pytest.approx(q ** (n - sensitivity) * (1 - q**sensitivity), rel=1e-6)
        assert event.delta <= 2.0**-64
        law, event = noisy_argmax_law(epsilon, sensitivity, 1000)
        q, n, shift = math.exp(-epsilon / sensitivity / 2), law.largest + 1, 2 * sensitivity
        assert event.epsilon == epsilon
        assert event.delta == pytest.approx(1000 * q ** (n - shift) * (1 - q**shift), rel=1e-6)
        monotone, _ = noisy_argmax_law(epsilon, sensitivity, 1000, monotone=True)
        assert monotone == noisy_argmax_law(2 * epsilon, 2 * sensitivity, 1000, monotone=True)[0]


def test_filters_and_accountants_take_the_events():
    _, event = noisy_argmax_law(0.1, 1, 50)
    assert event_from_json(event_to_json(event)) == event
    pure = PureFilter(neighbours="add_remove_one", epsilon=1.0, delta=1e-9)
    for _ in range(10):
        pure.spend(event)  # ten times a decimal 0.1
    zcdp = ZcdpFilter(neighbours="add_remove_one", epsilon=1.0, delta=1e-6, approximate_delta=1e-9)
    zcdp.spend(event)
    assert zcdp.price(event)[0] == pytest.approx(0.1**2 / 2 * 10**18, rel=1e-9)
    table_event = gaussian_table(8.0).event(l2_sensitivity_squared=1, dimension=1)
    assert event_from_json(event_to_json(table_event)) == table_event
    zcdp.spend(table_event)
    accountant = RdpAccountant(neighbours="add_remove_one")
    accountant.compose(table_event)
    assert 0 < accountant.epsilon(delta=1e-6) < 2


@given(st.fractions(Fraction(1, 10**30), 1))
def test_prices_are_rounded_up_as_doubles_and_as_decimals(value):
    rounded = float_up(value)
    assert Fraction(rounded) >= value
    assert Fraction(repr(rounded)) >= value
    assert float(value) <= rounded <= math.nextafter(math.nextafter(float(value), 2), 2)
    assert exact_down(rounded) <= Fraction(rounded)


# The best of several.


def selection(scores, pmf):
    """Exact probabilities of each winner: the largest noisy score, the lowest index among equal ones."""
    wins = dict.fromkeys(range(len(scores)), Fraction(0))
    for noise in itertools.product(range(len(pmf)), repeat=len(scores)):
        noisy = [s + g for s, g in zip(scores, noise, strict=True)]
        wins[noisy.index(max(noisy))] += math.prod((pmf[g] for g in noise), start=Fraction(1))
    return wins


@pytest.mark.parametrize("monotone", [False, True])
@pytest.mark.parametrize("scores", [(0, 0, 0), (2, 1, 2), (0, 3, 1)])
def test_noisy_arg_max_costs_what_its_event_says(scores, monotone):
    epsilon, sensitivity = 2.0, 1
    law, event = noisy_argmax_law(epsilon, sensitivity, len(scores), monotone=monotone, max_delta=0.2)
    pmf, factor = law.pmf(), exp_down(exact_down(epsilon))
    here = selection(scores, pmf)
    moves = itertools.product([-1, 0, 1], repeat=len(scores))
    if monotone:
        moves = [m for signs in ([0, 1], [0, -1]) for m in itertools.product(signs, repeat=len(scores))]
    for move in moves:
        there = selection([s + d for s, d in zip(scores, move, strict=True)], pmf)
        assert excess(here, there, factor) <= event.delta
        assert excess(there, here, factor) <= event.delta


def test_noisy_arg_max_with_noise_30_percent_too_small_costs_more():
    law, _ = noisy_argmax_law(2.0 / 0.7, 1, 3, max_delta=1e-6)
    here, there = (selection(scores, law.pmf()) for scores in [(-3, 0, 0), (-4, 1, 1)])
    assert excess(here, there, exp_down(Fraction(2))) > Fraction(1, 10**6)


@given(
    st.lists(st.floats(-1000, 1000), min_size=1, max_size=5),
    st.floats(1e-3, 10),
    st.integers(0, 12),
    st.randoms(use_true_random=False),
)
def test_rounded_scores_move_by_no_more_than_the_rounded_sensitivity(scores, sensitivity, frac_bits, random):
    rounded, whole = rounded_scores(scores, sensitivity, frac_bits=frac_bits)
    assert [int(r) for r in rounded] == [math.floor(Fraction(s) * 2**frac_bits + Fraction(1, 2)) for s in scores]
    moved = []
    for score in scores:
        other = score + random.uniform(-sensitivity, sensitivity)
        # The sum is itself rounded: stay inside.
        moved.append(other if abs(Fraction(other) - Fraction(score)) <= Fraction(sensitivity) else score)
    there, _ = rounded_scores(moved, sensitivity, frac_bits=frac_bits)
    assert abs(rounded - there).max() <= whole
    assert whole == math.ceil(Fraction(sensitivity) * 2**frac_bits)


def test_halves_to_even_would_move_by_more():
    rounded, sensitivity = rounded_scores([0.5, 1.5], 1.0, frac_bits=0)
    assert rounded[1] - rounded[0] == sensitivity == 1
    assert round(1.5) - round(0.5) == 2


# Discrete Gaussian by table.


def ideal(scale, reach=400):
    weights = {h: math.exp(-h * h / (2 * scale * scale)) for h in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {h: w / total for h, w in weights.items()}


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.3, 20.0])
@pytest.mark.parametrize("n_bits", [64, 128])
def test_a_table_is_the_discrete_gaussian_law_within_kappa(scale, n_bits):
    table = gaussian_table(scale, max_delta=2.0**-40, n_bits=n_bits)
    pmf, exact = table.pmf(), ideal(scale)
    assert pmf[0] + 2 * sum(pmf[1:]) == 1
    for h, q in enumerate(pmf):
        assert float(q) == pytest.approx(exact[h], rel=float(table.kappa) + 1e-12)
    assert table.eta == pmf[-1] <= Fraction(2) ** -40
    # The table is no longer than it has to be.
    tails = [math.fsum(p for h, p in exact.items() if h > table.largest - cut) for cut in (1, 2)]
    assert tails[0] <= 2.0**-40 < tails[1]


def test_kappa_is_found_with_an_independent_logarithm():
    with mpmath.workprec(400):
        scale = 3.3
        table = gaussian_table(scale, max_delta=2.0**-40, n_bits=96)
        s = mpmath.mpf(scale)
        total = mpmath.nsum(lambda h: mpmath.exp(-h * h / (2 * s * s)), [-mpmath.inf, mpmath.inf])
        worst = max(
            abs(
                mpmath.log(mpmath.mpf(q.numerator) / q.denominator)
                - (-mpmath.mpf(h * h) / (2 * s * s) - mpmath.log(total))
            )
            for h, q in enumerate(table.pmf())
        )
        kappa = mpmath.mpf(table.kappa.numerator) / table.kappa.denominator
        assert worst <= kappa <= worst * (1 + mpmath.mpf(2) ** -30)


def renyi(first, second, order):
    """Renyi divergence of two laws on the same values."""
    terms = [order * math.log(p) + (1 - order) * math.log(second[x]) for x, p in first.items()]
    largest = max(terms)
    return (largest + math.log(math.fsum(math.exp(t - largest) for t in terms))) / (order - 1)


@pytest.mark.parametrize(
    ("scale", "linf", "n_bits", "max_delta"), [(2.0, 1, 32, 1e-3), (1.0, 2, 24, 1e-2), (3.0, 1, 64, 1e-9)]
)
def test_noise_by_table_is_approximately_zcdp_as_its_event_says(scale, linf, n_bits, max_delta):
    table = gaussian_table(scale, linf_sensitivity=linf, n_bits=n_bits, max_delta=max_delta)
    zcdp, failure = table.event(l2_sensitivity_squared=linf**2, dimension=1).events
    assert isinstance(zcdp, ZeroConcentratedDP)
    assert isinstance(failure, ApproximateDP)
    assert failure.epsilon == 0
    assert failure.delta >= table.eta
    half = table.pmf()
    law = {h: half[abs(h)] for h in range(-table.largest, table.largest + 1)}
    for d in range(1, linf + 1):
        moved = shifted(law, d)
        common = law.keys() & moved.keys()
        first, second = ({x: each[x] for x in common} for each in (law, moved))
        kept = sum(first.values()), sum(second.values())
        assert min(kept) >= 1 - Fraction(failure.delta)
        first, second = (
            {x: float(p / k) for x, p in each.items()} for each, k in zip((first, second), kept, strict=True)
        )
        for order in (1.0001, 1.01, 1.1, 2.0, 5.0, 20.0, 100.0):
            for a, b in ((first, second), (second, first)):
                assert renyi(a, b, order) <= zcdp.rho * order * (1 + 1e-9) + 1e-11


def test_the_price_of_a_table_is_the_ideal_one_but_for_2_to_the_minus_24():
    for l2_squared, dimension in [(1, 1), (9, 4), (25, 1000)]:
        table = gaussian_table(5.0, linf_sensitivity=1)
        zcdp, failure = table.event(l2_sensitivity_squared=l2_squared, dimension=dimension).events
        assert 1 < zcdp.rho / (l2_squared / 50) < 1 + 2.0**-24
        changed = min(l2_squared, dimension)
        assert failure.delta == float_up(changed * table.eta)


def test_a_table_of_noise_30_percent_too_small_would_cost_more():
    rho = gaussian_table(2.0).event(l2_sensitivity_squared=1, dimension=1).events[0].rho
    table = gaussian_table(1.4)
    half = table.pmf()
    first = {h: float(half[abs(h)]) for h in range(-10, 12)}
    second = {h: float(half[abs(h - 1)]) for h in range(-10, 12)}
    assert renyi(first, second, 2.0) > 2 * rho


# What is refused.


@pytest.mark.parametrize(
    "call",
    [
        lambda: geometric_law(Fraction(0), 1, Fraction(1, 2)),
        lambda: geometric_law(Fraction(1, 2**60), 1, Fraction(1, 2**64)),
        lambda: geometric_law(Fraction(1), 0, Fraction(1, 2)),
        lambda: geometric_law(Fraction(1), 1, Fraction(1)),
        lambda: geometric_law(Fraction(1), 1, Fraction(1, 2), 10),
        lambda: GeometricLaw(()),
        lambda: GeometricLaw((0,)),
        lambda: GeometricLaw((2**64,)),
        lambda: discrete_laplace_law(0.0, 1),
        lambda: discrete_laplace_law(1.0, 0),
        lambda: discrete_laplace_law(1.0, 1, max_delta=0.0),
        lambda: discrete_laplace_law(math.nan, 1),
        lambda: noisy_argmax_law(1.0, 1, 0),
        lambda: noisy_argmax_law(math.inf, 1, 2),
        lambda: noisy_argmax_law(1.0, 1.5, 2),
        lambda: gaussian_table(0.2),
        lambda: gaussian_table(1000.0),
        lambda: gaussian_table(1e300),
        lambda: gaussian_table(math.nan),
        lambda: gaussian_table(1.0, n_bits=63),
        lambda: gaussian_table(1.0, n_bits=32),
        lambda: gaussian_table(1.0, linf_sensitivity=2).event(l2_sensitivity_squared=3, dimension=1),
        lambda: gaussian_table(1.0, max_delta=0.1).event(l2_sensitivity_squared=1000, dimension=1000),
        lambda: rounded_scores([1.0], 0.0, frac_bits=1),
        lambda: rounded_scores([1.0], 1.0, frac_bits=-1),
    ],
)
def test_laws_that_cannot_be_are_refused(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.parametrize("score", [2.0**53, math.nan, math.inf])
def test_scores_that_no_integer_stands_for_are_refused(score):
    with pytest.raises(RangeExceeded):
        rounded_scores([score], 1.0, frac_bits=0)
