"""Small analyses against statsmodels, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from generators import DomainMismatch
from generators.analyses import linear_regression, logistic_regression, mean, survival_at


@pytest.fixture(scope="module")
def sm():
    # Imported here: a second that every worker would wait for before its first test.
    import statsmodels.api

    return statsmodels.api


@pytest.fixture
def table():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 2))
    return {
        "x": x,
        "y": 1 + x @ [0.5, -2] + rng.normal(size=400),
        "success": rng.random(400) < 1 / (1 + np.exp(-(0.3 + x @ [1.0, -0.5]))),
        # Whole days, so that several events and losses share one.
        "time": np.ceil(rng.exponential(20, 400)),
        "event": rng.random(400) < 0.6,
    }


@pytest.mark.slow
def test_linear_regression_equals_statsmodels(table, sm):
    found = linear_regression(table["x"], table["y"])
    other = sm.OLS(table["y"], sm.add_constant(table["x"])).fit()
    assert np.allclose(found.estimate, other.params, rtol=1e-9)
    assert np.allclose(found.variance, other.bse**2, rtol=1e-9)


@pytest.mark.slow
def test_logistic_regression_equals_statsmodels(table, sm):
    found = logistic_regression(table["x"], table["success"])
    other = sm.Logit(table["success"].astype(float), sm.add_constant(table["x"])).fit(disp=False, tol=1e-12)
    assert np.allclose(found.estimate, other.params, rtol=1e-6)
    assert np.allclose(found.variance, other.bse**2, rtol=1e-5)


@pytest.mark.slow
def test_kaplan_meier_with_greenwood_equals_statsmodels(table, sm):
    other = sm.SurvfuncRight(table["time"], table["event"].astype(int))
    found = survival_at(table["time"], table["event"], other.surv_times)
    assert np.allclose(found.estimate, other.surv_prob, rtol=1e-12)
    # Where survival is zero, statsmodels has no standard error; the limit is zero.
    assert np.allclose(found.variance, np.nan_to_num(other.surv_prob_se**2), rtol=1e-9)
    before = survival_at(table["time"], table["event"], 0.5)
    assert (before.estimate, before.variance) == (1.0, 0.0)


def test_nobody_left_means_survival_zero_without_variance():
    assert tuple(float(x) for x in survival_at([1, 2], [True, True], 2)) == (0.0, 0.0)


def test_the_mean_has_the_textbook_variance(table):
    found = mean(table["y"])
    assert found.estimate == pytest.approx(np.mean(table["y"]))
    assert found.variance == pytest.approx(np.var(table["y"], ddof=1) / 400)


def test_outcomes_that_a_column_tells_apart_are_refused_and_not_given_a_huge_number():
    with pytest.raises(DomainMismatch, match="no finite maximum"):
        logistic_regression([0.0, 1.0, 2.0, 3.0], [False, False, True, True])
    with pytest.raises(DomainMismatch, match="no finite maximum"):
        logistic_regression([0.0, 1.0, 2.0, 3.0], [True] * 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean([1.0]),
        lambda: mean([1.0, np.nan]),
        lambda: mean([[1.0, 2.0]]),
        lambda: survival_at([], [], 1.0),
        lambda: survival_at([1.0, 2.0], [True], 1.0),
        lambda: linear_regression([[1, 2], [2, 4], [3, 6], [4, 8]], [1, 2, 3, 5]),
        lambda: linear_regression([1.0, 2.0], [1.0, 2.0]),
        lambda: linear_regression([1.0, np.inf, 2.0], [1.0, 2.0, 3.0]),
        lambda: linear_regression([1.0, 3.0, 2.0], [1.0, 2.0]),
    ],
    ids=range(9),
)
def test_what_has_no_answer_is_refused(call):
    with pytest.raises(DomainMismatch):
        call()
