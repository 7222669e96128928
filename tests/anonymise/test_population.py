import math
from fractions import Fraction
from itertools import product

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from anonymise import population_uniqueness
from anonymise._roots import digamma_difference, root_between
from anonymise.population import _pitman_fit, _Sample, _shlosser

# Class sizes of Adult (30,162 rows) over all nine quasi-identifiers: (size, classes).
ADULT = {1: 15512, 2: 2098, 3: 754, 4: 375, 5: 189, 6: 155, 7: 97, 8: 73, 9: 39, 10: 37, 11: 29, 12: 18, 13: 23}
ADULT |= {14: 14, 15: 15, 16: 9, 17: 11, 18: 10, 19: 10, 20: 5, 21: 3, 22: 4, 23: 3, 24: 2, 25: 1, 26: 3, 27: 5}
ADULT |= {29: 1, 30: 2, 32: 1, 34: 1, 35: 1, 36: 1, 45: 1}


def adult():
    return np.repeat(list(ADULT), list(ADULT.values()))


def test_the_histogram_is_that_of_adult():
    assert (adult().sum(), adult().size) == (30162, 19502)


# ARX 3.9.2, TestRiskMetrics, written there as fractions of the population in the table.
@pytest.mark.parametrize(
    ("fraction", "estimator", "chosen", "expected"),
    [
        (0.01, "dankar", "pitman", 0.1446083531167384),
        (0.1, "dankar", "pitman", 0.27684993883653597),
        (0.1, "zayatz", "zayatz", 0.3207402393466189),
        (0.2, "dankar", "zayatz", 0.3577099234829125),
        (1.0, "dankar", "dankar", 0.5142895033485844),
    ],
)
def test_adult_has_the_figures_of_arx(fraction, estimator, chosen, expected):
    got = population_uniqueness(adult(), population_size=30162 / fraction, estimator=estimator)
    assert (got.converged, got.estimator) == (True, chosen)
    assert got.value == pytest.approx(expected, rel=1e-9)


def test_seven_rows_that_are_all_alone_are_alone_in_any_population():
    assert population_uniqueness([1] * 7, population_size=35).value == 1.0


# ---------------------------------------------------------------- the numerical parts


@pytest.mark.parametrize("x", [1e-9, 1e-3, 0.1, 0.5, 1.0, 1.4616321449683623, 9.99, 10.0, 33.3, 1e4, 1e9, 1e12])
@pytest.mark.parametrize("m", [1.0, 2.0, 3.5, 90.0, 30_161.0, 1e9])
def test_differences_of_digamma_are_those_of_mpmath(x, m):
    with mpmath.workdps(60):
        exact = mpmath.digamma(mpmath.mpf(x) + mpmath.mpf(m)) - mpmath.digamma(mpmath.mpf(x))
        assert abs(digamma_difference(x, m) - exact) <= 1e-14 * exact


SHAPES = {
    "line": lambda d: d,
    "cube": lambda d: d**3,
    "step": lambda d: math.atan(1e6 * d),
    "exponential": lambda d: math.expm1(-9 * d),
}


@given(st.floats(-5, 5), st.sampled_from(sorted(SHAPES)))
def test_a_root_is_found_between_two_signs(root, shape):
    calls = []

    def f(x):
        calls.append(x)
        return SHAPES[shape](x - root)

    found = root_between(f, -7.3, 9.1)
    assert found == pytest.approx(root, abs=1e-13)
    assert len(calls) < 80


def test_without_a_change_of_sign_there_is_no_root():
    assert root_between(lambda x: x * x + 1, -1.0, 1.0) is None
    assert root_between(lambda _: math.nan, -1.0, 1.0) is None


# ---------------------------------------------------------------- each model against its definition


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(0, 60))
def test_zayatz_is_bayes_rule_in_exact_fractions(sizes, others):
    n, population = sum(sizes), sum(sizes) + others
    uniques = sizes.count(1)

    def drawn_alone(size):
        return Fraction(size * math.comb(population - size, n - 1), math.comb(population, n))

    evidence = sum(drawn_alone(size) for size in sizes)
    expected = Fraction(uniques**2, n) * drawn_alone(1) / evidence if uniques else 0
    got = population_uniqueness(sizes, population_size=population, estimator="zayatz")
    assert got.value == pytest.approx(float(expected), rel=1e-12)


def test_zayatz_has_no_limit_to_the_size_of_the_population():
    # ARX cuts the population off at 2^31 - 1 people; as N grows P(alone) tends to the harmonic limit with f -> 0.
    values = [population_uniqueness([1, 1, 2, 3], population_size=2.0**k, estimator="zayatz").value for k in (31, 40)]
    limit = 2 * 2 / (2 * 1 + 2 + 3) / 7
    assert abs(values[1] - limit) < abs(values[0] - limit) < 1e-8


@pytest.mark.parametrize("sizes", [list(adult()), [1] * 40 + [2] * 9 + [3] * 4 + [9, 12], [1] * 40 + [2] * 3 + [5]])
def test_pitman_is_where_the_likelihood_has_no_slope(sizes):
    sample = _Sample.of(np.array(sizes), 1e9)
    theta, alpha = _pitman_fit(sample)
    i, j = np.arange(1, sample.n_classes), np.arange(1, sample.n)
    to_theta = (1 / (theta + i * alpha)).sum() - (1 / (theta + j)).sum()
    within = sum(
        times * (1 / (np.arange(1, size) - alpha)).sum()
        for size, times in zip(*np.unique(sizes, return_counts=True), strict=True)
    )
    to_alpha = (i / (theta + i * alpha)).sum() - within
    assert abs(to_theta) <= 1e-9 * (1 / (theta + j)).sum()
    assert abs(to_alpha) <= 1e-9 * within


def test_snb_solves_the_moments_of_its_distribution():
    fraction = 0.3
    sample = _Sample.of(adult(), 30162 / fraction)
    size = np.arange(1, 4000)

    def moments(a, b):
        of_class = stats.nbinom.pmf(size - 1, a, b) * _shlosser(sample)
        return [(of_class * stats.binom.pmf(i, size, fraction)).sum() for i in (1, 2)]

    def gap(z):
        return np.log(moments(math.exp(z[0]), 1 / (1 + math.exp(-z[1])))) - np.log([15512, 2098])

    solution = optimize.root(gap, [-2.0, -2.0], tol=1e-12)
    assert solution.success
    a, b = math.exp(solution.x[0]), 1 / (1 + math.exp(-solution.x[1]))
    got = population_uniqueness(adult(), population_size=30162 / fraction, estimator="snb")
    assert got.value == pytest.approx(_shlosser(sample) * b**a * fraction / 30162, rel=1e-6)


# ---------------------------------------------------------------- populations whose uniques are known

SEED, N_POPULATION, TOLERANCE = 20261126, 120_000, 0.06


def chinese_restaurant(theta, alpha, rng):
    """Return the class of each of N people of Pitman's partition: person i joins a class of size s with weight
    s - alpha, and opens a new one with weight theta + classes * alpha.
    """
    first, n_classes = [0], 1
    labels = np.zeros(N_POPULATION, dtype=np.int64)
    uniform, other = rng.random(N_POPULATION), rng.random(N_POPULATION)
    for i in range(1, N_POPULATION):
        if uniform[i] * (theta + i) < theta + n_classes * alpha:
            labels[i] = n_classes
            first.append(i)
            n_classes += 1
            continue
        # Weight size - alpha: a person before, uniformly, who if first of the class counts 1 - alpha only.
        while True:
            friend = int(other[i] * i)
            if first[labels[friend]] != friend or rng.random() >= alpha:
                break
            other[i] = rng.random()
        labels[i] = labels[friend]
    return labels


def shifted_negative_binomial(a, b, rng):
    sizes = 1 + rng.negative_binomial(a, b, 40_000)
    return np.repeat(np.arange(sizes.size), sizes)


def sampled(labels, fraction, rng):
    n = int(labels.size * fraction)
    sizes = np.bincount(rng.permutation(labels)[:n])
    return sizes[sizes > 0]


@pytest.mark.parametrize(("theta", "alpha", "fraction"), [(300.0, 0.5, 0.05), (2000.0, 0.7, 0.1), (500.0, 0.8, 0.1)])
def test_pitman_finds_the_uniques_of_a_population_of_its_kind(theta, alpha, fraction):
    rng = np.random.default_rng(SEED)
    labels = chinese_restaurant(theta, alpha, rng)
    true = (np.bincount(labels) == 1).sum() / labels.size
    sizes = sampled(labels, fraction, rng)
    got = population_uniqueness(sizes, population_size=labels.size, estimator="pitman")
    assert got.value == pytest.approx(true, rel=TOLERANCE)
    # The control: the table's own share of uniques, and the share that Zayatz' prior gives, are no such estimates.
    assert (sizes == 1).mean() * sizes.size / sizes.sum() > true * (1 + TOLERANCE)
    zayatz = population_uniqueness(sizes, population_size=labels.size, estimator="zayatz")
    assert zayatz.value > true * (1 + TOLERANCE)


@pytest.mark.parametrize(("a", "b", "fraction"), [(0.2, 0.1, 0.5), (1.0, 0.3, 0.5), (0.5, 0.2, 0.8)])
def test_snb_finds_the_uniques_of_a_population_of_its_kind(a, b, fraction):
    rng = np.random.default_rng(SEED)
    labels = shifted_negative_binomial(a, b, rng)
    true = (np.bincount(labels) == 1).sum() / labels.size
    sizes = sampled(labels, fraction, rng)
    got = population_uniqueness(sizes, population_size=labels.size, estimator="snb")
    assert got.value == pytest.approx(true, rel=TOLERANCE)
    assert (sizes == 1).sum() / sizes.sum() > true * (1 + TOLERANCE)


@pytest.mark.parametrize("fraction", [0.8, 0.9])
def test_zayatz_finds_the_uniques_where_most_of_the_population_is_in_the_table(fraction):
    rng = np.random.default_rng(SEED)
    labels = shifted_negative_binomial(0.3, 0.2, rng)
    true = (np.bincount(labels) == 1).sum() / labels.size
    sizes = sampled(labels, fraction, rng)
    got = population_uniqueness(sizes, population_size=labels.size, estimator="zayatz")
    assert got.value == pytest.approx(true, rel=TOLERANCE)
    assert (sizes == 1).sum() / sizes.sum() > true * (1 + TOLERANCE / 2)


# ---------------------------------------------------------------- rules and limits


def test_the_published_rule_takes_the_smaller_and_is_never_above_arx():
    for fraction in (0.11, 0.2, 0.5, 0.9):
        as_arx, zayatz, snb, published = (
            population_uniqueness(adult(), population_size=30162 / fraction, estimator=name).value
            for name in ("dankar", "zayatz", "snb", "dankar_snb")
        )
        assert published == min(zayatz, snb)
        assert published <= as_arx == zayatz


@pytest.mark.parametrize(
    ("sizes", "estimator"),
    [
        ([1, 1, 2, 3], "pitman"),  # The maximum lies at alpha = 0.
        ([1, 1, 1], "pitman"),
        ([1] * 5 + [3] * 4, "snb"),  # No class of two.
    ],
)
def test_what_does_not_converge_has_no_value_and_says_why(sizes, estimator):
    got = population_uniqueness(sizes, population_size=1000, estimator=estimator)
    assert (got.value, got.converged) == (None, False)
    assert got.reason
    # The rules fall back to the closed form, and say so.
    rule = population_uniqueness(sizes, population_size=1000)
    if estimator == "pitman":
        assert (rule.estimator, rule.converged) == ("zayatz", True)
        assert "Pitman" in rule.reason


@pytest.mark.parametrize("estimator", ["dankar", "dankar_snb", "pitman", "zayatz", "snb"])
def test_nobody_alone_in_the_table_is_nobody_alone_in_the_population(estimator):
    assert population_uniqueness([2, 5, 9], population_size=1e6, estimator=estimator).value == 0.0


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=60),
    st.floats(1.0, 1e6),
    st.sampled_from(["dankar", "dankar_snb", "pitman", "zayatz", "snb"]),
)
def test_an_estimate_is_a_share_or_absent(sizes, factor, estimator):
    got = population_uniqueness(sizes, population_size=sum(sizes) * factor, estimator=estimator)
    assert (got.value is None) != got.converged
    assert got.value is None or 0.0 <= got.value <= 1.0
    if estimator == "zayatz":
        assert got.value <= sizes.count(1) / sum(sizes) + 1e-15


@pytest.mark.parametrize(
    ("sizes", "population", "estimator", "rule"),
    [
        ([], 10, "dankar", "sizes must"),
        ([1, 0], 10, "dankar", "sizes must"),
        ([1.5], 10, "dankar", "sizes must"),
        ([[1, 2]], 10, "dankar", "sizes must"),
        ([1, 2], 2, "dankar", "population_size must"),
        ([1, 2], math.inf, "dankar", "population_size must"),
        ([1, 2], math.nan, "dankar", "population_size must"),
        ([1, 2], True, "dankar", "population_size must"),
        ([1, 2], 10, "pittman", "estimator must be one of dankar"),
    ],
)
def test_bad_arguments_are_refused(sizes, population, estimator, rule):
    with pytest.raises(ValueError, match=rule):
        population_uniqueness(np.array(sizes), population_size=population, estimator=estimator)


def test_order_of_classes_does_not_matter():
    rng = np.random.default_rng(SEED)
    for estimator, fraction in product(("pitman", "zayatz", "snb"), (0.05, 0.4)):
        first, second = (
            population_uniqueness(sizes, population_size=30162 / fraction, estimator=estimator)
            for sizes in (adult(), rng.permutation(adult()))
        )
        assert first == second
