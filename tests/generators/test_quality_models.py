"""Regressions of the evaluation against statsmodels, lifelines and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.errors import DomainMismatch
from generators.quality.cox import concordance, fit_cox
from generators.quality.logistic import auc, expit, fit_logistic, weighted_auc


def _patients(n: int, *, seed: int, steps: int):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.normal(size=n), rng.integers(0, 2, n), rng.gamma(2, 3, n)])
    time = np.ceil(steps * rng.exponential(np.exp(-0.5 * X[:, 0] + 0.3 * X[:, 1])))
    return X, time, rng.random(n) < 0.7


@pytest.mark.slow
def test_the_logistic_fit_is_that_of_statsmodels_with_the_same_penalty():
    import statsmodels.api as sm

    X, _, y = _patients(400, seed=1, steps=10)
    X = np.column_stack([np.ones(len(X)), X])
    y = (expit(X[:, 1] - 0.4 * X[:, 3] + 1) > np.random.default_rng(2).random(len(X))) ^ (y & (X[:, 2] > 2))
    found = fit_logistic(X, y, ridge=1e-9, tolerance=1e-12)
    assert np.allclose(found, sm.Logit(y, X).fit(disp=0).params, atol=1e-6)


def test_the_logistic_fit_is_a_minimum_even_if_the_outcome_can_be_separated():
    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(80), rng.normal(size=(80, 4))])
    y = X[:, 1] > 0
    ridge = 0.5
    beta = fit_logistic(X, y, ridge=ridge, tolerance=1e-12)
    gradient = X.T @ (y - expit(X @ beta)) - ridge * np.where(np.arange(5) > 0, beta, 0)
    assert np.abs(gradient).max() < 1e-5
    assert np.isfinite(beta).all()


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_auc_counts_pairs(rows):
    score = np.array([float(s) for s, _, _ in rows])
    y = np.array([b for _, b, _ in rows])
    times = np.array([w for _, _, w in rows])
    s, b = np.repeat(score, times), np.repeat(y, times)
    pairs = [(p > q) + 0.5 * (p == q) for p in s[b] for q in s[~b]]
    brute = np.mean(pairs) if pairs else np.nan
    weighted = weighted_auc(np.unique(score, return_inverse=True)[1], y, times.astype(float))
    assert weighted == pytest.approx(brute, nan_ok=True)
    if s.size:
        assert auc(s, b) == pytest.approx(brute, nan_ok=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Starting with pandas version 4.0")
@pytest.mark.parametrize("steps", [3, 10_000])
def test_the_cox_fit_is_that_of_lifelines_with_many_ties_and_with_few(steps):
    import pandas as pd
    from lifelines import CoxPHFitter

    X, time, event = _patients(300, seed=4, steps=steps)
    fit = fit_cox(X, time, event)
    frame = pd.DataFrame(X, columns=list("abc")).assign(t=time, e=event)
    oracle = CoxPHFitter().fit(frame, "t", "e")
    assert np.allclose(fit.coefficients, oracle.params_, atol=1e-6)
    assert np.allclose(fit.std_errors, oracle.standard_errors_, atol=1e-6)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 3)), min_size=2, max_size=25).filter(
        lambda rows: any(e and any(u > t or (u == t and not d) for u, d, _ in rows) for t, e, _ in rows)
    )
)
def test_the_concordance_is_that_of_lifelines(rows):
    from lifelines.utils import concordance_index

    time, event, risk = (np.array(column) for column in zip(*rows, strict=True))
    expected = concordance_index(time, -risk, event)
    assert concordance(time.astype(float), event.astype(bool), risk.astype(float)) == pytest.approx(expected)


def test_a_covariate_that_separates_the_patients_has_no_estimate_and_spoils_no_other():
    X, time, event = _patients(200, seed=5, steps=10_000)
    dies_at_once = np.arange(200) < 20
    time = np.where(dies_at_once, 0.5, time)
    event = event | dies_at_once
    both = fit_cox(np.column_stack([X, dies_at_once, np.ones(200)]), time, event)
    assert np.isnan(both.coefficients[3:]).all()
    assert np.isnan(both.std_errors[3:]).all()
    assert np.allclose(both.coefficients[:3], fit_cox(X, time, event).coefficients)


def test_one_of_two_equal_covariates_is_left_out():
    X, time, event = _patients(200, seed=6, steps=100)
    doubled = fit_cox(np.column_stack([X, 2 * X[:, 0]]), time, event)
    assert np.isnan(doubled.coefficients).sum() == 1
    with pytest.raises(DomainMismatch):
        fit_cox(X, time, np.zeros(200, dtype=bool))
