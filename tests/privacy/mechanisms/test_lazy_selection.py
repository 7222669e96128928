"""Lazy selection: the exponential mechanism's law, few scores asked for, comparisons that rounding cannot decide."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy import InsecureSeededRng, SecureRng
from privacy.mechanisms import exponential_mechanism, lazy_exponential_mechanism
from privacy.mechanisms.lazy_selection import _Bits, _gumbels, _Key

N_DRAWS, N_DRAWS_SLOW = 5_000, 100_000
ALPHA, REJECTED = 1e-5, 1e-8
SCORES = [5, 3, 3, 0, -20, 4]
# Tight, loose, and one that is far above its score: none of it may show in the law.
BOUNDS = [5, 3, 40, 2, 0, 7]
EPSILON, SENSITIVITY = 1.0, 2


def law(scores, rate):
    weights = np.exp(rate * (np.array(scores) - max(scores)))
    return weights / weights.sum()


def p_value(draws, probabilities):
    seen = np.bincount(draws, minlength=len(probabilities))
    return stats.chisquare(seen, probabilities * len(draws)).pvalue


def draw(n, *, bounds=BOUNDS, seed=3, score=SCORES.__getitem__, **options):
    rng = InsecureSeededRng(seed)
    return [
        lazy_exponential_mechanism(bounds, score, epsilon=EPSILON, sensitivity=SENSITIVITY, rng=rng, **options)
        for _ in range(n)
    ]


def check_law(n):
    rate = EPSILON / (2 * SENSITIVITY)
    drawn = draw(n)
    assert p_value(drawn, law(SCORES, rate)) > ALPHA
    assert p_value(draw(n, monotone=True), law(SCORES, 2 * rate)) > ALPHA
    # Negative controls: 30 % less epsilon; bounds taken for scores.
    assert p_value(drawn, law(SCORES, 0.7 * rate)) < REJECTED
    assert p_value(draw(n, score=BOUNDS.__getitem__), law(SCORES, rate)) < REJECTED
    return drawn


def test_a_lazy_choice_has_the_mechanisms_law():
    check_law(N_DRAWS)


@pytest.mark.slow
def test_a_lazy_choice_has_the_law_of_the_full_mechanism_over_many_draws():
    lazy = np.bincount(check_law(N_DRAWS_SLOW), minlength=len(SCORES))
    rng = InsecureSeededRng(4)
    full = np.bincount(
        [exponential_mechanism(SCORES, epsilon=EPSILON, sensitivity=SENSITIVITY, rng=rng) for _ in range(N_DRAWS_SLOW)],
        minlength=len(SCORES),
    )
    assert stats.chi2_contingency([lazy, full]).pvalue > ALPHA
    # Negative control: one in fifty choices moved from the first to the second candidate.
    moved = lazy + np.array([-1, 1, 0, 0, 0, 0]) * (N_DRAWS_SLOW // 50)
    assert stats.chi2_contingency([moved, full]).pvalue < REJECTED


def test_only_candidates_that_could_win_are_scored_and_none_twice():
    scores = [1000 - 10 * i for i in range(100)]
    asked: list[int] = []

    def score(i):
        asked.append(i)
        return scores[i]

    chosen = lazy_exponential_mechanism(
        [value + 5 for value in scores], score, epsilon=8.0, sensitivity=1, rng=InsecureSeededRng(1)
    )
    assert chosen in asked
    assert len(asked) == len(set(asked)) < 15


def test_a_score_above_its_bound_is_an_error():
    with pytest.raises(ValueError, match="exceeds its bound"):
        lazy_exponential_mechanism([5, 5], lambda _: 6, epsilon=1.0, sensitivity=1, rng=SecureRng())


@pytest.mark.parametrize(
    ("bounds", "options"),
    [([], {}), ([1 << 62], {}), ([1], {"epsilon": 0.0}), ([1], {"sensitivity": 0}), ([1], {"epsilon": math.nan})],
)
def test_senseless_arguments_are_refused(bounds, options):
    with pytest.raises(ValueError, match=r"candidate|2\^62|epsilon|sensitivity"):
        lazy_exponential_mechanism(
            bounds, lambda _: 0, **{"epsilon": 1.0, "sensitivity": 1, "rng": SecureRng()} | options
        )


@given(st.integers(0, 2**64 - 1))
def test_gumbel_doubles_are_within_their_stated_error(word):
    import mpmath

    gumbels = _gumbels(np.array([word], dtype=np.uint64), rng=InsecureSeededRng(2))
    bits = gumbels.bits(0)
    with mpmath.workprec(400):
        low, high = (
            float(-mpmath.log(-mpmath.log(mpmath.mpf(bits.prefix + k) / 2**bits.n_bits)))
            if 0 < bits.prefix + k < 2**bits.n_bits
            else (-math.inf if k == 0 else math.inf)
            for k in (0, 1)
        )
    assert low - 2.0**-42 < gumbels.values[0] < high + 2.0**-42


@pytest.mark.parametrize("word", [0, 1, 2**20, 2**63, 2**64 - 1, 2**64 - 2**20])
def test_decimal_enclosures_enclose_and_shrink_as_bits_come_in(word):
    import mpmath

    bits = _Bits(word, rng=InsecureSeededRng(7))
    widths = []
    for _ in range(3):
        low, high = bits.gumbel()
        with mpmath.workprec(2000):
            middle = -mpmath.log(-mpmath.log((mpmath.mpf(bits.prefix) + 0.5) / 2**bits.n_bits))
        assert low < Decimal(mpmath.nstr(middle, 200)) < high
        widths.append(high - low)
        bits.extend()
    assert widths[2] < widths[1] < Decimal(2) ** -40


def test_ties_in_doubles_are_decided_by_the_bits_and_not_by_the_order_of_the_candidates():
    # The same first word and equal scores: only later bits differ, and whoever has more of them wins.
    first, second = 0, 0
    for seed in range(40):
        rng = InsecureSeededRng(seed)
        pair = [_Key(i, Fraction(0), 0.3, _Bits(1 << 62, rng=rng)) for i in (0, 1)]
        wins = pair[0].beats(pair[1])
        assert wins == (pair[0]._bits.prefix > pair[1]._bits.prefix)
        assert pair[1].beats(pair[0]) != wins
        first, second = first + wins, second + (not wins)
    assert min(first, second) > 5


def test_a_shift_below_double_precision_decides_between_equal_noises():
    # 2^-60 is far below the doubles' margin; the two noises start alike and are then told apart by 2^-64 or less.
    for seed in range(10):
        rng = InsecureSeededRng(seed)
        low = _Key(0, Fraction(0), 0.3, _Bits(1 << 62, rng=rng))
        high = _Key(1, Fraction(1, 2**50), 0.3, _Bits(1 << 62, rng=rng))
        assert high.beats(low)
        assert not low.beats(high)


def test_every_choice_is_possible_whatever_the_order_of_visits():
    for bounds in itertools.permutations([9, 5, 2]):
        assert set(draw(300, bounds=list(bounds), score=lambda _: 1)) == {0, 1, 2}


def test_decimals_decide_as_doubles_do_where_doubles_suffice(monkeypatch):
    chosen = [draw(1, seed=seed) for seed in range(100)]
    assert len({choice for [choice] in chosen}) > 2
    # With a margin as wide as this no comparison is left to doubles, and every candidate is visited.
    monkeypatch.setattr("privacy.mechanisms.lazy_selection._GUMBEL_ERROR", 1e6)
    assert [draw(1, seed=seed) for seed in range(100)] == chosen
