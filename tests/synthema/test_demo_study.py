"""The packaged study, run once: every joint result against the pooled rows, which only a test may look at."""

import gc
import json
import re
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from privacy import ZcdpAccountant, epsilon_to_rho
from privacy.ledger import open_ledger, verify
from synthema.demo import demo_frames, demo_study
from synthema.pipeline import simulate, write_outcome

# Rank correlation of 1,000 rows in random order exceeds this in absolute value once in about 10,000.
LARGEST_CORRELATION = 0.125
GRID = 180


@pytest.fixture(scope="module")
def pooled(demo_tables):
    return pd.concat(demo_tables.values(), ignore_index=True)


@pytest.mark.slow
def test_the_logistic_model_equals_statsmodels_on_the_pooled_rows(demo_outcome, pooled):
    # Imported here: seconds that every worker would wait for before its first test.
    import statsmodels.api as sm

    died = (pooled["event"] == "1") & (pooled["time"] <= 365)
    known = died | (pooled["time"] >= 365)
    x = pooled.loc[known, ["age", "sex", "wbc", "tpi"]].assign(sex=lambda frame: frame["sex"] == "M").astype(float)
    expected = sm.Logit(died[known].astype(float), sm.add_constant(x)).fit(disp=0, tol=1e-12)
    model = demo_outcome.released.logistic
    assert [c.term for c in model.coefficients] == ["intercept", "age", "sex = M", "wbc", "tpi"]
    np.testing.assert_allclose([c.estimate for c in model.coefficients], expected.params, rtol=1e-6)
    np.testing.assert_allclose([c.std_error for c in model.coefficients], expected.bse, rtol=1e-6)


def pooled_counts(pooled, sex):
    group = pooled[pooled["sex"] == sex]
    interval = (group["time"] - 1).clip(lower=0) // GRID
    deaths = np.bincount(interval[group["event"] == "1"], minlength=34)
    left = np.bincount(interval, minlength=34)
    return deaths, len(group) - np.concatenate([[0], np.cumsum(left)])[:-1]


def test_opened_survival_counts_equal_the_pooled_ones_and_small_cells_stay_closed(demo_outcome, pooled):
    curves = {curve.group: curve for curve in demo_outcome.released.survival}
    assert set(curves) == {"sex = F", "sex = M"}
    for sex in "FM":
        deaths, at_risk = pooled_counts(pooled, sex)
        steps = curves[f"sex = {sex}"].steps
        assert [step.end_day - step.start_day for step in steps] == [GRID] * 34
        for step, d, n in zip(steps, deaths, at_risk, strict=True):
            assert step.events == (None if 1 <= d <= 4 else d)
            assert step.at_risk in (None, n)
            assert step.at_risk not in (1, 2, 3, 4)
        opened = [step.at_risk for step in steps if step.at_risk is not None]
        assert opened[0] == at_risk[0]
        assert len(opened) >= 5


@pytest.mark.slow
def test_the_released_curve_brackets_the_pooled_grid_curve_and_follows_lifelines(demo_outcome, pooled):
    from lifelines import KaplanMeierFitter

    for curve in demo_outcome.released.survival:
        sex = curve.group[-1]
        deaths, at_risk = pooled_counts(pooled, sex)
        exact = np.cumprod(1 - deaths / np.maximum(at_risk, 1))
        group = pooled[pooled["sex"] == sex]
        fitter = KaplanMeierFitter().fit(group["time"], group["event"] == "1")
        shown = [step for step in curve.steps if step.survival_low is not None]
        assert len(shown) >= 10
        for step, s in zip(shown, exact, strict=False):
            assert step.survival_low - 1e-12 <= s <= step.survival_high + 1e-12
            if step.end_day <= 720:
                # Nearly a point in the first two years, in which four of five patients leave the cohort.
                assert step.survival_high - step.survival_low < 0.01
            # The grid treats losses as if they came at an interval's end: close to, not equal to, the fine curve.
            assert abs(float(fitter.predict(step.end_day)) - s) < 0.02


def test_nobody_is_at_two_hospitals_and_the_check_says_so(demo_outcome):
    check = demo_outcome.released.overlap
    assert check.below_threshold
    assert abs(check.noisy_count) < 6 * check.noise_std


def test_each_anonymised_class_has_five_patients_and_no_identifier_leaves(demo_outcome, pooled):
    table = demo_outcome.anonymised
    assert list(table.columns) == ["site", "age", "sex", "tpi", "wbc"]
    assert table.groupby(["site", "age", "sex", "tpi"]).size().min() >= 5
    assert len(table) >= 0.9 * len(pooled)
    assert set(table["wbc"]) <= set(demo_study().data_schema.column("wbc").labels())


def test_the_synthetic_table_fits_the_schema_and_is_close_to_the_rows(demo_outcome, pooled):
    table = demo_outcome.table
    schema = demo_study().data_schema.subset(table.columns)
    schema.validate(table)
    assert len(table) == 1000
    for column in schema.columns:
        real = np.bincount(column.encode(pooled[column.name].to_numpy()), minlength=column.n_codes) / len(pooled)
        made = np.bincount(column.encode(table[column.name].to_numpy()), minlength=column.n_codes) / len(table)
        # Seven codes with a standard error of about 0.01 each: 0.15 is far beyond chance.
        assert np.abs(real - made).sum() < 0.15, column.name


def test_the_published_order_says_nothing_about_survival(demo_outcome):
    time = demo_outcome.table["time"].to_numpy()
    assert abs(spearmanr(np.arange(len(time)), time).statistic) < LARGEST_CORRELATION
    bins = demo_outcome.anonymised["wbc"].map(lambda label: int(label.split(" ")[0]))
    for _, site in bins.groupby(demo_outcome.anonymised["site"]):
        # A site has as few as 90 rows: 4.2 standard errors.
        assert abs(spearmanr(np.arange(len(site)), site).statistic) < 4.2 / np.sqrt(len(site) - 1)
    # A table in order of survival is caught by the same test.
    assert spearmanr(np.arange(len(time)), np.sort(time)).statistic > 0.9


def test_every_site_paid_for_every_step_and_the_ledgers_verify(demo_outcome):
    study = demo_study()
    rho = epsilon_to_rho(study.budget.epsilon, study.budget.delta)
    for site, path in demo_outcome.ledgers.items():
        result = verify(f"sqlite:///{path}")
        assert result.ok, result.problems
        with open_ledger(f"sqlite:///{path}") as ledger:
            accountant = ZcdpAccountant(neighbours="add_remove_one")
            for event in ledger.events("private"):
                accountant.compose(event)
            assert 0.99 * rho < accountant.rho <= rho
            assert accountant.epsilon(delta=study.budget.delta) <= study.budget.epsilon
            assert len(ledger.events("exact")) == 3, site


def test_the_reports_numbers_are_released_ones_and_costs_hold_no_count(demo_outcome, pooled):
    costs = json.dumps(demo_outcome.costs)
    assert not re.search(rf"\b{len(pooled)}\b", costs)
    for size in (326, 235, 224, 159, 99):
        assert not re.search(rf"\b{size}\b", costs)
    assert {step["step"] for step in demo_outcome.costs["steps"]} == {
        "overlap",
        "anonymised",
        "logistic",
        "kaplan-meier",
        "marginals",
    }
    assert demo_outcome.costs["steps"][0]["triples"] > 0


def test_the_shared_report_is_self_contained_and_the_internal_ones_are_marked(demo_outcome):
    report = demo_outcome.report
    assert len(report.encode()) < 500_000
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", report)
    assert "INTERNAL" not in report
    for page in demo_outcome.internal.values():
        assert "INTERNAL" in page


def test_the_shared_report_is_rendered_after_the_rows_are_gone(demo_tables, tmp_path, monkeypatch):
    from synthema import pipeline

    frames = {name: frame.copy() for name, frame in demo_tables.items()}
    alive = {name: weakref.ref(frame) for name, frame in frames.items()}
    sites = []
    original_site, original_render = pipeline.Site, pipeline.render_shared

    def remember(*args, **kwargs):
        sites.append(original_site(*args, **kwargs))
        return sites[-1]

    def render(released):
        frames.clear()
        gc.collect()
        assert all(site.data._frame is None for site in sites)
        rendered.append({name: ref() is None for name, ref in alive.items()})
        return original_render(released)

    rendered: list[dict[str, bool]] = []
    monkeypatch.setattr(pipeline, "Site", remember)
    monkeypatch.setattr(pipeline, "render_shared", render)
    # Every step of the demo, with curves of a few intervals: what a step holds on to does not depend on how many.
    study = demo_study()
    curves = study.exact.kaplan_meier.model_copy(update={"grid_days": 1500})
    study = study.model_copy(update={"exact": study.exact.model_copy(update={"kaplan_meier": curves})})
    outcome = simulate(study, frames, out=tmp_path)
    assert rendered == [dict.fromkeys(alive, True)]
    assert "aml-north-west" in outcome.report


def test_the_same_study_again_gives_the_stored_answers_at_no_cost(demo_outcome, demo_tables):
    again = simulate(demo_study(), demo_tables, out=demo_outcome.folder)
    assert again.released.overlap == demo_outcome.released.overlap
    assert again.released.logistic == demo_outcome.released.logistic
    assert again.released.survival == demo_outcome.released.survival
    assert [c.noisy_counts for c in again.released.synthetic.columns] == [
        c.noisy_counts for c in demo_outcome.released.synthetic.columns
    ]
    assert sum(step.rounds for step in again.released.steps) == 0
    before = {account.site: account.rho_spent for account in demo_outcome.released.accounts}
    assert {account.site: account.rho_spent for account in again.released.accounts} == before


def test_everything_is_written_where_the_readme_says(demo_outcome, tmp_path):
    files = {path.relative_to(tmp_path).as_posix() for path in write_outcome(demo_outcome, tmp_path)}
    assert files == {
        "synthetic.csv",
        "anonymised.csv",
        "costs.json",
        "report.html",
        *(f"sites/{site}/internal.html" for site in demo_frames()),
    }
    assert all(Path(path).exists() for path in demo_outcome.ledgers.values())
    assert len(pd.read_csv(tmp_path / "synthetic.csv")) == 1000
