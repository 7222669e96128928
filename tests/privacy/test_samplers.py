"""The samplers have exactly the stated law: thresholds against mpmath, refinement forced, chi-square with controls.

No statistical test shows exactness. What carries it are the first tests (enclosures, thresholds, decisions at every
depth); the chi-squares then show that the pieces are put together as the paper says.
"""

from __future__ import annotations

import inspect
import math
import os
from decimal import localcontext
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy import InsecureSeededRng, _bernoulli, samplers
from privacy._bernoulli import LazyUniform, bernoulli_exp, enclose_exp, geometric_with_sign
from privacy.samplers import sample_discrete_gaussian, sample_discrete_laplace

N = 300_000
ALPHA = 1e-4  # with fixed seeds: a test that passes once always passes
REJECTED = 1e-12  # what a negative control must fall below
LEAST_CELL = 1e-3  # probability of a chi-square cell; expected count >= 300
STANDARD_ERRORS = 4.0
SCALES = [0.5, 1.0, 2.0, 10.0, 100.0, 1000.0]
# Between two others that are drawn the same way.
REPEATED = {2.0, 100.0}
TOO_SMALL = 0.7


class ScriptedRng(InsecureSeededRng):
    """Plays given words, then refining words, and fails when it is asked for more than it was given."""

    def __init__(self, words, refinements=()):
        self.words = list(words)
        self.refinements = list(refinements)

    def uint64(self, size):
        taken, self.words = self.words[:size], self.words[size:]
        assert len(taken) == size
        return np.array(taken, dtype=np.uint64)

    def bytes(self, n):
        assert n == 8
        return self.refinements.pop(0).to_bytes(8, "little")


class SplitRng(InsecureSeededRng):
    """First words from one stream, refining bits from another: refinement leaves the first words as they are."""

    def __init__(self, seed):
        super().__init__(seed)
        self._more = InsecureSeededRng(seed + 1)
        self.refined = 0

    def uint64(self, size):
        return np.frombuffer(super().bytes(8 * size), dtype="<u8").astype(np.uint64)

    def bytes(self, n):
        self.refined += 1
        return self._more.bytes(n)


def scaled_exp(gamma, bits):
    """Return floor(2^bits exp(-gamma)) from mpmath, with 30 digits to spare."""
    with mpmath.workdps(bits // 3 + 40):
        return int(mpmath.floor(mpmath.exp(-mpmath.mpf(gamma.numerator) / gamma.denominator) * mpmath.mpf(2) ** bits))


# ---------------------------------------------------------------- enclosures and decisions


@given(
    gamma=st.fractions(min_value=Fraction(1, 10**12), max_value=300, max_denominator=10**12),
    bits=st.sampled_from([8, 63, 64, 127, 128, 192, 256]),
)
def test_the_enclosure_holds_the_exponential_and_is_narrow(gamma, bits):
    low, high = enclose_exp(gamma, bits)
    inside = scaled_exp(gamma, bits)
    assert 0 <= low <= inside < inside + 1 <= high
    assert high - low <= 2


def test_the_enclosure_does_not_depend_on_the_callers_decimal_context():
    gamma = Fraction(10**40 + 1, 3 * 10**40)
    outside = enclose_exp(gamma, 192)
    with localcontext() as context:
        context.prec = 3
        assert enclose_exp(gamma, 192) == outside


GAMMAS = [Fraction(1, 3), Fraction(1, 10**9), Fraction(2**53 - 1, 2**50), Fraction(17, 5), Fraction(30), Fraction(40)]


@pytest.mark.parametrize("gamma", GAMMAS)
def test_a_coin_is_decided_at_the_exact_threshold_by_as_many_words_as_it_takes(gamma):
    def toss(first, *refinements):
        rng = ScriptedRng([first], refinements)
        result = bernoulli_exp(np.array([float(gamma)]), np.array([7]), lambda value: gamma * value / 7, rng=rng)
        assert rng.refinements == []
        return bool(result[0])

    word = 2**64
    first = scaled_exp(gamma, 64)
    second = scaled_exp(gamma, 128) % word
    third = scaled_exp(gamma, 192) % word
    assert first == 0 or toss(first - 1)
    assert not toss(first + 1)
    # The first word alone does not decide; the second does unless it, too, is the threshold's.
    assert toss(first, second - 1)
    assert not toss(first, second + 1)
    assert toss(first, second, third - 1)
    assert not toss(first, second, third + 1)


@pytest.mark.parametrize("scale", [Fraction(1, 256), Fraction(1, 3), Fraction(1), Fraction(21, 2), Fraction(1000)])
@pytest.mark.parametrize("k", [1, 2, 7])
def test_a_geometric_variable_changes_exactly_at_the_exponential(scale, k):
    def draw(prefix, *refinements):
        rng = ScriptedRng([2 * prefix + 1], refinements)
        values, negative = geometric_with_sign(scale, 1, rng=rng)
        assert negative[0]
        assert rng.refinements == []
        return int(values[0])

    word = 2**64
    first = scaled_exp(k / scale, 63)
    second = scaled_exp(k / scale, 127) % word
    third = scaled_exp(k / scale, 191) % word
    if k / scale < 40:
        assert draw(first - 1) == k
        assert draw(first + 1) == k - 1
        assert draw(first, second - 1) == k
        assert draw(first, second + 1) == k - 1
        assert draw(first, second, third - 1) == k
        assert draw(first, second, third + 1) == k - 1
    else:
        # The threshold lies below the first word's last bit: the prefix is 0 and further words decide.
        deep = scaled_exp(k / scale, 63 + 64 * 50)
        words = [deep >> (64 * (49 - i)) & (word - 1) for i in range(50)]
        leading = next(i for i, value in enumerate(words) if value)
        assert first == 0
        assert draw(0, *words[:leading], words[leading] - 1) in (k, k + 1)
        assert draw(0, *words[:leading], words[leading] + 1) == k - 1


def test_exactly_one_prefix_needs_more_bits_and_the_surely_true_ones_are_counted_right():
    gamma = Fraction(2, 3)
    truths, asked = 0, 0
    for prefix in range(256):
        rng = ScriptedRng([], [0])  # a zero word: below the threshold
        outcome = LazyUniform(prefix, 8, rng=rng).below_exp(gamma)
        if rng.refinements:
            truths += outcome
        else:
            asked += 1
            assert outcome
    assert truths == scaled_exp(gamma, 8)
    assert asked == 1


def test_one_uniform_gives_consistent_answers_however_often_it_is_asked():
    rng = InsecureSeededRng(5)
    gamma = Fraction(1, 2)
    for _ in range(50):
        uniform = LazyUniform(scaled_exp(gamma, 63), 63, rng=rng)
        answer = uniform.below_exp(gamma)
        assert uniform.below_exp(gamma) == answer
        assert uniform.below_exp(gamma - Fraction(1, 10**15)) >= answer
        assert uniform.below_exp(gamma + Fraction(1, 10**15)) <= answer


# ---------------------------------------------------------------- what the fast path trusts


def test_numpy_exp_and_log_are_closer_than_the_margin_takes_for_granted():
    generator = np.random.default_rng(1)
    exponents = np.concatenate([generator.uniform(0, 1, 500), generator.uniform(0, 45, 500)])
    uniforms = np.concatenate([generator.uniform(2.0**-18, 1, 500), 1 - generator.uniform(0, 2.0**-20, 500)])
    exps, logs = np.exp(-exponents), np.log(uniforms)
    with mpmath.workdps(40):
        for exponent, got in zip(exponents.tolist(), exps.tolist(), strict=True):
            exact = mpmath.exp(-mpmath.mpf(exponent))
            assert abs(got / exact - 1) < 2.0**-48
        for uniform, got in zip(uniforms.tolist(), logs.tolist(), strict=True):
            assert abs(got / mpmath.log(mpmath.mpf(uniform)) - 1) < 2.0**-48


@given(
    scale=st.one_of(
        st.floats(min_value=2.0**-8, max_value=2.0**40),
        st.fractions(min_value=Fraction(1, 256), max_value=2**40, max_denominator=10**30),
    ),
    steps=st.floats(min_value=0, max_value=40),
)
def test_the_rounded_exponent_is_within_the_stated_error_of_the_exact_one(scale, steps):
    seen = []

    def record(approximate, values, gamma, *, rng):
        del rng
        seen.append((approximate.copy(), values.copy(), gamma))
        return np.ones(len(values), dtype=bool)

    magnitude = int(steps * float(scale))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "bernoulli_exp", record)
        patch.setattr(samplers, "_laplace_candidates", lambda *_, **__: np.array([-magnitude, magnitude]))
        sample_discrete_gaussian(scale, 1)
    ((approximate, values, gamma),) = seen
    exact_scale = Fraction(scale)
    laplace_scale = math.floor(exact_scale) + 1
    with mpmath.workdps(40):
        for rounded, value in zip(approximate.tolist(), values.tolist(), strict=True):
            expected = (value - exact_scale**2 / laplace_scale) ** 2 / (2 * exact_scale**2)
            assert gamma(value) == expected
            exact = mpmath.exp(-mpmath.mpf(expected.numerator) / expected.denominator)
            assert abs(mpmath.exp(-mpmath.mpf(rounded)) - exact) < 2.0**-46


# ---------------------------------------------------------------- refinement, forced


@pytest.mark.slow
@pytest.mark.parametrize("sample", [sample_discrete_gaussian, sample_discrete_laplace])
@pytest.mark.parametrize("scale", [2.0**-8, 0.5, 10.0, Fraction(10**20 + 7, 3 * 10**17), 2.0**40])
def test_refining_every_decision_changes_no_draw(sample, scale, monkeypatch):
    size = 1500
    fast_rng, slow_rng = SplitRng(11), SplitRng(11)
    fast = sample(scale, size, rng=fast_rng)
    calls = []
    below = LazyUniform.below_exp
    monkeypatch.setattr(_bernoulli, "MARGIN", 2.0)
    monkeypatch.setattr(LazyUniform, "below_exp", lambda self, gamma: calls.append(1) or below(self, gamma))
    slow = sample(scale, size, rng=slow_rng)
    assert len(calls) >= size
    np.testing.assert_array_equal(fast, slow)


def test_that_comparison_would_notice_a_refinement_of_the_wrong_law(monkeypatch):
    fast = sample_discrete_gaussian(10.0, 1500, rng=SplitRng(11))
    monkeypatch.setattr(_bernoulli, "MARGIN", 2.0)
    monkeypatch.setattr(_bernoulli, "enclose_exp", lambda gamma, bits: enclose_exp(gamma * Fraction(13, 10), bits))
    assert (sample_discrete_gaussian(10.0, 1500, rng=SplitRng(11)) != fast).any()


def test_ordinary_runs_refine_now_and_then():
    rng = SplitRng(3)
    calls = []
    below = LazyUniform.below_exp
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LazyUniform, "below_exp", lambda self, gamma: calls.append(1) or below(self, gamma))
        sample_discrete_laplace(10.0, 4_000_000, rng=rng)
    # Two comparisons for about one prefix in 2^18: some 30 of them, never thousands.
    assert 2 <= len(calls) < 300


# ---------------------------------------------------------------- laws


@cache
def gaussian_pmf(scale):
    """Return (least integer, probabilities) of N_Z(0, scale^2) out to 12 scales, from mpmath."""
    reach = math.ceil(12 * scale) + 2
    with mpmath.workdps(30):
        half = [mpmath.exp(-mpmath.mpf(x * x) / (2 * mpmath.mpf(scale) ** 2)) for x in range(reach + 1)]
        total = half[0] + 2 * mpmath.fsum(half[1:])
        probabilities = [float(weight / total) for weight in half]
    return -reach, np.array(probabilities[:0:-1] + probabilities)


@cache
def laplace_pmf(scale):
    """Return (least integer, probabilities) of the discrete Laplace law out to 40 scales, from mpmath."""
    reach = math.ceil(40 * scale) + 2
    with mpmath.workdps(30):
        ratio = mpmath.exp(-1 / mpmath.mpf(scale))
        probabilities = [float((1 - ratio) / (1 + ratio) * ratio**x) for x in range(reach + 1)]
    return -reach, np.array(probabilities[:0:-1] + probabilities)


LAWS = {"gaussian": (sample_discrete_gaussian, gaussian_pmf), "laplace": (sample_discrete_laplace, laplace_pmf)}


def chi_square_p(values, least, probabilities, *, least_cell=LEAST_CELL):
    """Return the p-value of the values against the law, on runs of integers of at least that probability each."""
    edges, expected, weight = [], [], 0.0
    for at, probability in enumerate(probabilities):
        weight += probability
        if weight >= least_cell:
            edges.append(at + 1)
            expected.append(weight)
            weight = 0.0
    # What is left of the right tail joins the last cell, the truncated tails (< 1e-17) likewise.
    expected[-1] = 1 - sum(expected[:-1])
    cell = np.searchsorted(np.array(edges[:-1]), values - least, side="right")
    observed = np.bincount(cell, minlength=len(expected))
    return float(stats.chisquare(observed, np.array(expected) * len(values)).pvalue)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("scale", [pytest.param(s, marks=[pytest.mark.slow] * (s in REPEATED)) for s in SCALES])
def test_draws_fit_the_law_and_a_scale_30_percent_too_small_is_rejected(law, scale):
    sample, pmf = LAWS[law]
    least, probabilities = pmf(scale)
    assert chi_square_p(sample(scale, N, rng=InsecureSeededRng(21)), least, probabilities) > ALPHA
    assert chi_square_p(sample(TOO_SMALL * scale, N, rng=InsecureSeededRng(21)), least, probabilities) < REJECTED


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("scale", [0.5, 10.0])
def test_draws_fit_the_law_when_every_decision_is_refined(law, scale, monkeypatch):
    size, cell = 4_000, 0.01
    sample, pmf = LAWS[law]
    monkeypatch.setattr(_bernoulli, "MARGIN", 2.0)
    least, probabilities = pmf(scale)

    def p_value(used_scale):
        values = sample(used_scale, size, rng=InsecureSeededRng(22))
        return chi_square_p(values, least, probabilities, least_cell=cell)

    assert p_value(scale) > ALPHA
    assert p_value(TOO_SMALL * scale) < REJECTED


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("scale", SCALES)
def test_mean_and_variance_are_those_of_the_law(law, scale):
    sample, pmf = LAWS[law]
    least, probabilities = pmf(scale)
    support = least + np.arange(len(probabilities), dtype=np.float64)
    variance, fourth = (math.fsum(probabilities * support**power) for power in (2, 4))

    def deviations(values):
        squares = values.astype(np.float64) ** 2
        mean = values.mean() / math.sqrt(variance / N)
        return abs(mean), abs(squares.mean() - variance) / math.sqrt((fourth - variance**2) / N)

    assert max(deviations(sample(scale, N, rng=InsecureSeededRng(23)))) < STANDARD_ERRORS
    assert deviations(sample(TOO_SMALL * scale, N, rng=InsecureSeededRng(23)))[1] > 10 * STANDARD_ERRORS


def test_the_variance_at_small_scales_is_the_published_one():
    # Discrete Gaussian of scale 1 and 1/2, from the theta function with 25 digits.
    for scale, variance in [(1.0, 0.999999788767728083), (0.5, 0.215012675088138848)]:
        least, probabilities = gaussian_pmf(scale)
        support = least + np.arange(len(probabilities))
        assert math.fsum(probabilities * support**2) == pytest.approx(variance, abs=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_the_far_tail_has_the_right_weight(law):
    sample, pmf = LAWS[law]
    scale, size = 3.0, 4_000_000
    least, probabilities = pmf(scale)
    support = least + np.arange(len(probabilities))
    cut = 12 if law == "gaussian" else 30  # a tail of about 3e-5
    weight = math.fsum(probabilities[np.abs(support) > cut])
    count = int((np.abs(sample(scale, size, rng=InsecureSeededRng(24))) > cut).sum())
    assert stats.binomtest(count, size, weight).pvalue > ALPHA
    short = int((np.abs(sample(TOO_SMALL * scale, size, rng=InsecureSeededRng(24))) > cut).sum())
    assert stats.binomtest(short, size, weight).pvalue < REJECTED


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("scale", [1023.0, 1024.0])
def test_the_law_holds_on_both_sides_of_the_first_split_into_blocks(law, scale):
    sample, pmf = LAWS[law]
    least, probabilities = pmf(scale)
    assert chi_square_p(sample(scale, N, rng=InsecureSeededRng(30)), least, probabilities) > ALPHA
    parity = np.bincount(sample(scale, N, rng=InsecureSeededRng(30)) % 4, minlength=4)
    assert stats.chisquare(parity).pvalue > ALPHA


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_the_law_does_not_depend_on_how_large_the_blocks_are(law, scale, monkeypatch):
    # Blocks of nearly the scale's size, where positions inside a block are far from uniform.
    monkeypatch.setattr(samplers, "_INVERSION_BITS", 1)
    sample, pmf = LAWS[law]
    least, probabilities = pmf(scale)
    assert chi_square_p(sample(scale, N, rng=InsecureSeededRng(31)), least, probabilities) > ALPHA
    # Negative control: uniform positions.
    monkeypatch.setattr(samplers, "_remainders", lambda _scale, block, size, *, rng: rng.below(block, size))
    assert chi_square_p(sample(scale, N, rng=InsecureSeededRng(31)), least, probabilities) < REJECTED


@pytest.mark.parametrize("scale", [2.0**20, 2.0**40])
def test_large_scales_fit_through_the_split_into_blocks(scale):
    # At these scales the discrete Gaussian's distribution function at x is the normal one at x + 1/2, to 1e-12.
    def p_value(values):
        uniform = stats.norm.cdf((values + 0.5) / scale)
        return float(stats.chisquare(np.histogram(uniform, bins=200, range=(0, 1))[0]).pvalue)

    size = 200_000
    values = sample_discrete_gaussian(scale, size, rng=InsecureSeededRng(25))
    assert p_value(values) > ALPHA
    assert p_value(sample_discrete_gaussian(TOO_SMALL * scale, size, rng=InsecureSeededRng(25))) < REJECTED
    # Low digits are uniform: no block boundary, no rounding of doubles shows in them.
    assert stats.chisquare(np.bincount(values % 128, minlength=128)).pvalue > ALPHA
    assert stats.chisquare(np.bincount((values & ~1) % 128, minlength=128)).pvalue < REJECTED


@pytest.mark.parametrize("scale", [2.0**20, 2.0**40])
def test_large_laplace_scales_fit_the_closed_form(scale):
    def p_value(values):
        magnitudes = np.abs(values)
        # P(|x| <= m) = 1 - 2 r^(m+1) / (1 + r), r = exp(-1/scale)
        uniform = 1 - 2 * np.exp(-(magnitudes + 1) / scale) / (1 + math.exp(-1 / scale))
        return float(stats.chisquare(np.histogram(uniform, bins=200, range=(0, 1))[0]).pvalue)

    size = 200_000
    assert p_value(sample_discrete_laplace(scale, size, rng=InsecureSeededRng(26))) > ALPHA
    assert p_value(sample_discrete_laplace(TOO_SMALL * scale, size, rng=InsecureSeededRng(26))) < REJECTED


def test_a_fraction_is_not_taken_for_the_float_beside_it():
    # P(V >= 1) = exp(-1/scale): a word between the two thresholds tells the scales apart.
    scale = Fraction(10) + Fraction(1, 10**18)
    between = (scaled_exp(1 / Fraction(10), 127) + scaled_exp(1 / scale, 127)) // 2
    word = 2**64

    def draw(value):
        rng = ScriptedRng([2 * (between >> 64)], [between & (word - 1)])
        return int(geometric_with_sign(value, 1, rng=rng)[0][0])

    assert draw(scale) == 1
    assert draw(Fraction(10)) == 0


# ---------------------------------------------------------------- independence


def independence_p(values):
    """Return the p-value of no association between one draw's quarter of the law and the next one's."""
    quarters = np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values)
    pairs = len(values) // 2 * 2
    table = np.zeros((4, 4))
    np.add.at(table, (quarters[:pairs:2], quarters[1:pairs:2]), 1)
    return float(stats.chi2_contingency(table).pvalue)


@pytest.mark.parametrize("law", LAWS)
def test_successive_draws_are_independent(law):
    values = LAWS[law][0](10.0, N, rng=InsecureSeededRng(27))
    assert independence_p(values) > ALPHA
    # Negative control: neighbours that share a part of their noise.
    assert independence_p(values[:-1] + values[1:]) < REJECTED


@pytest.mark.parametrize("law", LAWS)
def test_chunks_do_not_repeat_each_other(law):
    values = LAWS[law][0](1000.0, 4 * samplers._CHUNK, rng=InsecureSeededRng(28)).astype(np.float64)
    for lag in (1, samplers._CHUNK // 2, samplers._CHUNK, 2 * samplers._CHUNK):
        head, tail = values[:-lag], values[lag:]
        assert abs(np.corrcoef(head, tail)[0, 1]) * math.sqrt(len(head)) < STANDARD_ERRORS


def test_the_sign_is_independent_of_the_magnitude():
    values = sample_discrete_gaussian(5.0, N, rng=InsecureSeededRng(29))
    values = values[values != 0]
    table = np.array([[((np.abs(values) == m) & (np.sign(values) == s)).sum() for m in range(1, 12)] for s in (-1, 1)])
    assert stats.chi2_contingency(table).pvalue > ALPHA


# ---------------------------------------------------------------- the source of randomness, the arguments


@pytest.mark.parametrize("sample", [sample_discrete_gaussian, sample_discrete_laplace])
def test_the_operating_systems_generator_is_the_default(sample, monkeypatch):
    asked = []
    urandom = os.urandom

    def recording(n):
        asked.append(n)
        return urandom(n)

    monkeypatch.setattr("privacy.randomness.os.urandom", recording)
    sample(10.0, 1000)
    assert sum(asked) >= 8 * 1000
    asked.clear()
    sample(10.0, 1000, rng=InsecureSeededRng(1))
    assert asked == []


@pytest.mark.parametrize("sample", [sample_discrete_gaussian, sample_discrete_laplace])
def test_numpy_random_is_never_called(sample, monkeypatch):
    def forbidden(*_args, **_kwargs):
        raise AssertionError("numpy.random was called")

    before = np.random.get_state()[1].copy()
    for name in ("Generator", "PCG64", "RandomState", "default_rng", "normal", "laplace", "geometric", "random"):
        monkeypatch.setattr(np.random, name, forbidden)
    assert len(sample(10.0, 1000)) == 1000
    assert len(sample(2.0**40, 1000)) == 1000
    monkeypatch.undo()
    assert (np.random.get_state()[1] == before).all()
    for module in (samplers, _bernoulli):
        assert "random." not in inspect.getsource(module).replace("privacy.randomness", "")


@pytest.mark.parametrize("sample", [sample_discrete_gaussian, sample_discrete_laplace])
def test_a_seed_reproduces_the_draws_and_two_secure_runs_differ(sample):
    first, again = (sample(1000.0, 500, rng=InsecureSeededRng(4)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (sample(1000.0, 500) != sample(1000.0, 500)).any()


@pytest.mark.parametrize("sample", [sample_discrete_gaussian, sample_discrete_laplace])
@pytest.mark.parametrize(
    "scale",
    [0, -1.0, math.nan, math.inf, -math.inf, 2.0**-8 * (1 - 2**-53), 2.0**41, Fraction(2**40) + Fraction(1, 2), True],
)
def test_a_scale_out_of_range_is_refused(sample, scale):
    with pytest.raises(ValueError, match="scale must be"):
        sample(scale, 1)


@pytest.mark.parametrize("sample", [sample_discrete_gaussian, sample_discrete_laplace])
@pytest.mark.parametrize("scale", ["10", None, 1j])
def test_a_scale_that_is_no_number_is_refused(sample, scale):
    with pytest.raises(ValueError, match="scale must be a float or a Fraction"):
        sample(scale, 1)


@pytest.mark.parametrize("sample", [sample_discrete_gaussian, sample_discrete_laplace])
@pytest.mark.parametrize("size", [-1, 2.0, True, "3", (2, 2)])
def test_a_size_that_is_no_count_is_refused(sample, size):
    with pytest.raises(ValueError, match="size must be an integer >= 0"):
        sample(1.0, size)


@pytest.mark.parametrize("sample", [sample_discrete_gaussian, sample_discrete_laplace])
@pytest.mark.parametrize("scale", [2.0**-8, Fraction(1, 256), 1, 2.0**40, 2**40])
@pytest.mark.parametrize("size", [0, 1, 7, 3 * samplers._CHUNK + 1])
def test_every_size_at_the_ends_of_the_range_gives_int64(sample, scale, size):
    values = sample(scale, size, rng=InsecureSeededRng(6))
    assert values.dtype == np.int64
    assert values.shape == (size,)
