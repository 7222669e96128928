"""Charts and numbers: coordinates against hand calculation, p values against SciPy, epsilon against its worst case."""

from __future__ import annotations

import math
import re
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy._formats import bound_above, bound_below
from privacy._svg import Drawing, linear_ticks, log_ticks
from synthema.released import (
    Coefficient,
    ColumnComparison,
    LogisticModel,
    PairComparison,
    SurvivalCurve,
    SurvivalStep,
)
from synthema.report.charts import budget_bar, forest, odds_ratios, pair_level, pair_map, paired_bars, paired_shares
from synthema.report.meaning import posterior_bound
from synthema.report.survival_chart import survival_chart


def curve(*knots, group="F"):
    """A curve of 100-day intervals; each knot is (low, high), or None where nothing was opened."""
    return SurvivalCurve(
        group,
        tuple(
            SurvivalStep(100 * i, 100 * (i + 1), None, None, *(knot or (None, None))) for i, knot in enumerate(knots)
        ),
    )


def paths(markup, css):
    return [d for d, found in re.findall(r'<path d="([^"]*)" class="([^"]*)"', markup) if found == css]


def corners(d):
    """The points that a path of M, H and V passes."""
    points, x, y = [], 0.0, 0.0
    for letter, numbers in re.findall(r"([MHV])([-\d. ]+)", d):
        values = [float(v) for v in numbers.split()]
        x = values[0] if letter in "MH" else x
        y = values[-1] if letter in "MV" else y
        points.append((x, y))
    return points


def test_a_survival_curve_holds_its_value_up_to_the_grid_point_and_falls_there():
    chart = survival_chart([(0, curve((0.5, 0.5), (0.25, 0.25)), None)], size="narrow", key="k", title="t")
    points = corners(paths(chart, "curve line0")[0])
    # Narrow: 340 wide, margins 46 and 14, 240 high, and one legend row of 20 + 14 above.
    left, right, top, floor = 46, 326, 34, 274
    middle = (left + right) / 2
    half, quarter = floor - 120, floor - 60
    assert points == [(left, top), (middle, top), (middle, half), (right, half), (right, quarter)]


def test_a_bracket_is_drawn_by_both_of_its_ends_and_shaded_between():
    chart = survival_chart([(1, curve((0.8, 0.8), (0.4, 0.6)), None)], size="narrow", key="k", title="t")
    assert len(paths(chart, "curve edge line1")) == 2
    ends = {corners(d)[-1][1] for d in paths(chart, "curve edge line1")}
    assert ends == {274 - 0.4 * 240, 274 - 0.6 * 240}
    band = paths(chart, "band band1")[0]
    assert band.endswith("Z")
    assert {round(y, 6) for _, y in corners(band)} >= {274 - 0.4 * 240, 274 - 0.6 * 240}


def test_a_curve_known_to_the_point_has_no_band():
    chart = survival_chart([(0, curve((0.8, 0.8 + 1e-12)), None)], size="wide", key="k", title="t")
    assert "band" not in chart
    assert "edge" not in chart


def test_a_curve_ends_where_nothing_more_was_opened_and_its_synthetic_twin_goes_on():
    chart = survival_chart(
        [(0, curve((0.8, 0.8), None, None), curve((0.9, 0.9), (0.7, 0.7), (0.6, 0.6)))],
        size="narrow", key="k", title="t",
    )  # fmt: skip
    assert corners(paths(chart, "curve line0")[0])[-1][0] == pytest.approx(46 + 280 / 3, abs=0.01)
    assert corners(paths(chart, "curve line0 dash0")[0])[-1][0] == 326


@pytest.mark.parametrize("knots", [(), (None,), (None, (0.5, 0.5)), ((0.0, 0.0),)])
def test_curves_without_a_beginning_or_without_patients_can_be_drawn(knots, read_page):
    chart = survival_chart([(0, curve(*knots), None)], size="wide", key="k", title="t")
    assert read_page(chart).problems == []
    assert "nan" not in chart


def test_bars_are_as_long_as_their_shares():
    shares = paired_shares(ColumnComparison("sex", ("F", "M"), (300, 100), 5.0, (20, 60)))
    assert shares.noisy == (0.75, 0.25)
    assert shares.synthetic == (0.25, 0.75)
    assert shares.whisker == 2 * 5.0 / 400
    chart = paired_bars(shares, key="k", title="t")
    drawn = re.findall(r'width="([\d.]+)" height="11" class="(\w+)"', chart)
    widths = {css: [float(width) for width, found in drawn if found == css] for css in ("first", "second")}
    assert widths["first"][0] == pytest.approx(3 * widths["first"][1], rel=1e-3)
    assert widths["second"][1] == pytest.approx(widths["first"][0], rel=1e-3)


def test_a_negative_count_grows_to_the_left_of_zero():
    chart = paired_bars(paired_shares(ColumnComparison("x", ("a", "b"), (500, -100), 5.0, (9, 1))), key="k", title="t")
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="11" class="first"', chart)
    zero = float(bars[0][0])
    assert float(bars[1][0]) + float(bars[1][1]) == pytest.approx(zero, abs=0.02)
    assert float(bars[1][0]) < zero


def test_a_long_list_of_values_is_drawn_up_to_a_limit_by_size():
    labels = tuple(f"v{i}" for i in range(60))
    chart = paired_bars(
        paired_shares(ColumnComparison("x", labels, tuple(range(60)), 0.1, tuple(range(60)))), key="k", title="t"
    )
    assert ">v59<" in chart
    assert ">v19<" not in chart
    assert chart.count('class="first"') == 40


def test_the_budget_bar_is_full_at_the_cap_and_never_overflows():
    def spent(value):
        bar = budget_bar(spent=value, cap=4.0, key="k", site="s")
        return float(re.search(r'width="([\d.]+)" height="11" class="bar-spent"', bar)[1])

    assert spent(0.0) == 0
    assert spent(1.0) == pytest.approx(spent(4.0) / 4, abs=0.01)
    assert spent(9.0) == spent(4.0)


@given(st.floats(-5, 5), st.floats(0.01, 3))
def test_odds_ratios_agree_with_scipy(estimate, std_error):
    ratio = odds_ratios(LogisticModel("death", (Coefficient("age", estimate, std_error),), 5))[0]
    low, high = stats.norm.interval(0.95, loc=estimate, scale=std_error)
    assert ratio.value == pytest.approx(math.exp(estimate))
    assert (ratio.low, ratio.high) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))
    assert ratio.p == pytest.approx(2 * stats.norm.sf(abs(estimate) / std_error), abs=1e-12)


@pytest.mark.parametrize(("estimate", "std_error"), [(900.0, 1.0), (-900.0, 1.0), (0.0, 400.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_forest_stays_inside_its_picture_whatever_was_estimated(estimate, std_error, read_page):
    ratios = odds_ratios(LogisticModel("death", (Coefficient("age", estimate, std_error),), 5))
    chart = forest(ratios, key="k", title="t")
    page = read_page(chart)
    assert page.problems == []
    assert all(-1 <= float(a[x]) <= 341 for a in page.all("line") for x in ("x1", "x2"))


def test_a_long_term_of_a_forest_is_not_cut():
    long = "cytogenetics = adverse risk group"
    ratios = odds_ratios(LogisticModel("death", (Coefficient("age", 0.1, 0.1), Coefficient(long, 0.1, 0.1)), 5))
    assert f">{long}</text>" in forest(ratios, key="k", title="t")


def test_pairs_are_coloured_by_what_noise_does_not_explain():
    def level(distance, noise_only):
        return pair_level(PairComparison(("a", "b"), distance, noise_only, joined=False))

    assert [level(d, 0.1) for d in (0.05, 0.11, 0.14, 0.19, 0.21)] == [0, 0, 1, 2, 3]
    assert level(0.1, 0.0) == 3
    assert level(0.0, 0.0) == 0


def test_the_map_has_one_cell_a_pair():
    pairs = tuple(PairComparison(p, 0.1, 0.1, joined=p == ("a", "b")) for p in combinations("abcd", 2))
    chart = pair_map(pairs, key="k", title="t")
    assert chart.count("<rect") == 6
    assert chart.count("joined") - chart.count("(joined)") == 1


def test_a_drawing_escapes_every_word():
    drawing = Drawing(10, 10, key="k", title="</title><script>", description='"&')
    drawing.text(0, 0, "</svg><script>")
    drawing.rect(0, 0, 1, 1, css='x" onload="y', hint="<b>")
    markup = drawing.markup()
    assert "<script" not in markup
    assert "<b>" not in markup
    assert 'onload="' not in markup


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_linear_ticks_lie_inside_and_are_few(low, span):
    ticks = linear_ticks(low, low + span, about=4)
    assert len(ticks) <= 8
    slack = 1e-6 * (abs(low) + span)
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


@given(st.floats(-6.0, 0.0), st.floats(0.05, 7.0))
def test_log_ticks_lie_inside_and_there_is_always_one(log_low, log_span):
    low, high = math.exp(log_low), math.exp(log_low + log_span)
    ticks = log_ticks(low, high)
    assert ticks
    assert all(low * (1 - 1e-9) <= tick <= high * (1 + 1e-9) for tick in ticks)


@given(st.floats(0, 1e6), st.integers(0, 4))
def test_bounds_are_rounded_to_their_safe_side(value, digits):
    above = float(bound_above(value, digits).replace(",", ""))
    below = float(bound_below(value, digits).replace(",", ""))
    # The slack that forgives the last bits of a double, in units of the last digit.
    slack = 2e-7 * 10.0**-digits + 1e-9 * value
    assert below - slack <= value <= above + slack
    assert above - below <= 1.001 * 10.0**-digits + slack


def worst_case(epsilon, delta):
    """The pair of outcome distributions that every (epsilon, delta) mechanism is a blur of (arXiv:1311.0776)."""
    likely = (1 - delta) * math.exp(epsilon) / (1 + math.exp(epsilon))
    here = np.array([delta, likely, 1 - delta - likely, 0.0])
    return here, here[::-1]


def best_rule(prior, epsilon, delta, power):
    """The largest share of right answers over all rules of at least that power, by trying every set of outcomes."""
    here, away = worst_case(epsilon, delta)
    best = 0.0
    for chosen in chain.from_iterable(combinations(range(4), k) for k in range(1, 5)):
        true_rate, false_rate = here[list(chosen)].sum(), away[list(chosen)].sum()
        if true_rate >= power:
            best = max(best, prior * true_rate / (prior * true_rate + (1 - prior) * false_rate))
    return best


@pytest.mark.parametrize("prior", [0.001, 0.01, 0.1, 0.5])
@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 0.0), (1.0, 1e-6), (3.0, 1e-6), (3.0, 0.01), (8.0, 1e-4)])
def test_no_rule_against_the_worst_mechanism_beats_the_bound(prior, epsilon, delta):
    power = 0.05
    best = best_rule(prior, epsilon, delta, power)
    bound = posterior_bound(prior, epsilon=epsilon, delta=delta, power=power)
    assert best <= bound * (1 + 1e-12)
    assert bound <= posterior_bound(prior, epsilon=epsilon + 0.01, delta=delta, power=power)


def test_the_bound_is_reached_without_delta():
    assert best_rule(0.01, 2.0, 0.0, 0.05) == pytest.approx(posterior_bound(0.01, epsilon=2.0, delta=0.0), rel=1e-12)


def test_a_bound_that_ignored_delta_would_be_broken():
    assert best_rule(0.01, 1.0, 0.2, 0.3) > posterior_bound(0.01, epsilon=1.0, delta=0.0)


def test_a_delta_as_large_as_the_attack_s_power_bounds_nothing():
    assert posterior_bound(0.01, epsilon=0.0, delta=0.001) == 1.0


@pytest.mark.parametrize(
    "bad", [{"prior": 0.0}, {"prior": 1.0}, {"epsilon": -1.0}, {"epsilon": math.nan}, {"delta": 2.0}, {"power": 0.0}]
)
def test_arguments_out_of_range_are_refused(bad):
    given_values = {"prior": 0.1, "epsilon": 1.0, "delta": 0.0, "power": 0.1} | bad
    with pytest.raises(ValueError, match="must be"):
        posterior_bound(given_values.pop("prior"), **given_values)
