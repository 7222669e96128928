"""The internal page: marked as such, and its numbers equal what other tools count."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from anonymise import assess_risk
from privacy import Schema, SchemaError
from synthema.errors import TableError
from synthema.report import measure_fidelity, render_internal, render_shared
from synthema.report.internal import BANNER

SEED = 31
N_SITE = 120
N_SYNTHETIC = 400


def make_table(n, seed):
    rng = np.random.default_rng(seed)
    wbc = rng.gamma(0.7, 40, n).clip(0, 500).round(1)
    wbc[rng.random(n) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "pid": [f"p{i}" for i in range(n)],
            "age": rng.integers(18, 95, n),
            "sex": rng.choice(["F", "M"], n),
            "wbc": wbc,
            "time": rng.exponential(500, n).clip(0, 3600).astype(int),
            "event": rng.choice(["0", "1"], n, p=[0.2, 0.8]),
        }
    )


@pytest.fixture(scope="module")
def frame():
    return make_table(N_SITE, SEED)


@pytest.fixture(scope="module")
def synthetic():
    return make_table(N_SYNTHETIC, SEED + 1).drop(columns="pid")


@pytest.fixture(scope="module")
def fidelity(frame, synthetic, schema):
    return measure_fidelity(frame, synthetic, schema, site="vienna")


@pytest.fixture(scope="module")
def page(fidelity, read_page):
    return read_page(render_internal(fidelity))


def test_the_banner_stands_first_last_and_in_the_title(page):
    assert BANNER == "INTERNAL: computed from this site's patient rows. Do not share."
    assert page.text.count(BANNER) == 2
    body = page.text[page.text.index("Skip to the content") :]
    assert body.index(BANNER) < body.index("vienna")
    assert page.text.strip().startswith("INTERNAL")
    assert any(a.get("class") == "alarm" for a in page.all("div"))


def test_the_shared_page_has_no_such_banner(released):
    assert "INTERNAL" not in render_shared(released)


def test_the_page_loads_nothing_runs_nothing_and_is_well_formed(page):
    assert page.problems == []
    assert page.external == []
    assert page.runs_something == []


def test_the_distance_is_the_sum_of_absolute_differences_of_shares(frame, synthetic, fidelity):
    for column in fidelity.columns:
        if column.column == "sex":
            shares = [t["sex"].value_counts(normalize=True) for t in (frame, synthetic)]
            assert column.distance == pytest.approx((shares[0] - shares[1]).abs().sum(), abs=1e-12)
        assert sum(column.site_counts) == N_SITE
        assert sum(column.synthetic_counts) == N_SYNTHETIC


def test_missing_values_are_a_value_of_their_own(frame, fidelity):
    wbc = next(column for column in fidelity.columns if column.column == "wbc")
    assert wbc.labels[-1] == "missing"
    assert wbc.site_counts[-1] == frame["wbc"].isna().sum() > 0


def test_a_table_against_itself_has_no_distance_and_no_gap(frame, schema):
    same = measure_fidelity(frame, frame, schema, site="vienna")
    assert {column.distance for column in same.columns} == {0.0}
    assert same.survival_gap == 0.0


def test_a_table_of_other_patients_is_noticed(frame, synthetic, schema):
    other = synthetic.assign(time=3600, event="0")
    far = measure_fidelity(frame, other, schema, site="vienna")
    assert far.survival_gap > 0.5
    assert max(column.distance for column in far.columns) > 1.5


@pytest.mark.slow
def test_survival_on_the_grid_is_lifelines_kaplan_meier(frame, fidelity):
    # Imported here: seconds that every worker would wait for before its first test.
    from lifelines import KaplanMeierFitter

    fitted = KaplanMeierFitter().fit(frame["time"], frame["event"] == "1")
    known = [step for step in fidelity.site_curve.steps if step.survival_low is not None]
    expected = [float(fitted.predict(step.end_day)) for step in known]
    assert [step.survival_low for step in known] == pytest.approx(expected, abs=1e-12)
    assert known[-1].start_day < frame["time"].max() or known[-1].survival_low == 0


def test_patients_without_an_outcome_say_nothing_about_survival(frame, synthetic, schema):
    body = schema.to_dict()
    body["columns"]["event"]["nullable"] = True
    body["columns"]["time"]["nullable"] = True
    nullable = Schema.from_dict(body)
    gaps = pd.DataFrame({**frame.iloc[:5], "event": [None] * 5, "time": [np.nan] * 5})
    more = pd.concat([frame.astype({"time": float}), gaps.astype({"time": float})], ignore_index=True)
    with_gaps = measure_fidelity(more, synthetic, nullable, site="vienna")
    assert with_gaps.site_curve == measure_fidelity(frame, synthetic, schema, site="vienna").site_curve
    nobody = measure_fidelity(gaps.astype({"time": float}), synthetic, nullable, site="vienna")
    assert nobody.survival_gap is None
    render_internal(nobody)


def test_columns_that_cannot_be_compared_are_named(fidelity, frame, synthetic, schema, page):
    assert fidelity.not_compared == ("pid",)
    assert "Not compared: pid." in page.text
    fewer = measure_fidelity(frame, synthetic[["sex"]], schema, site="vienna")
    assert [column.column for column in fewer.columns] == ["sex"]
    assert fewer.site_curve is None
    assert "no follow-up to compare" in render_internal(fewer)


def test_a_study_without_synthetic_patients_leaves_the_risk(frame, schema, read_page):
    risk = json.loads(assess_risk(frame, schema).to_json())
    fidelity = measure_fidelity(frame, None, schema, site="vienna", risk_before=risk)
    page = read_page(render_internal(fidelity))
    assert fidelity.synthetic_rows == 0
    assert page.problems == []
    assert "Largest risk" in page.text


def test_the_tables_given_stay_as_they_were(schema):
    frame, synthetic = make_table(30, 1), make_table(30, 2)
    copies = frame.copy(deep=True), synthetic.copy(deep=True)
    measure_fidelity(frame, synthetic, schema, site="vienna")
    pd.testing.assert_frame_equal(frame, copies[0])
    pd.testing.assert_frame_equal(synthetic, copies[1])


def test_risk_before_and_after_is_shown_number_by_number(frame, synthetic, schema, read_page):
    before = json.loads(assess_risk(frame, schema).to_json())
    after = {"max_prosecutor_risk": 0.2, "n_classes": 17, "own_measure": 0.125, "hint": "text", "sizes": [1, 2]}
    fidelity = measure_fidelity(frame, synthetic, schema, site="vienna", risk_before=before, risk_after=after)
    text = read_page(render_internal(fidelity)).text
    for shown in ("Largest risk 100.0 % 20.0 %", "own measure – 12.5 %", "quasi-identifiers"):
        assert shown in text
    assert "hint" not in fidelity.risk_after


def test_no_count_stands_in_the_repr(fidelity):
    assert repr(fidelity) == "InternalFidelity(INTERNAL, site='vienna')"


def test_a_hostile_site_name_stays_a_name(fidelity, read_page):
    page = read_page(render_internal(replace(fidelity, site="</h1><script>alert(1)</script>")))
    assert page.problems == []
    assert page.runs_something == []


def test_a_table_without_rows_is_refused(frame, synthetic, schema):
    with pytest.raises(TableError, match="synthetic table has no rows"):
        measure_fidelity(frame, synthetic.iloc[:0], schema, site="vienna")


def test_a_value_outside_the_schema_is_refused(frame, synthetic, schema):
    with pytest.raises(SchemaError):
        measure_fidelity(frame.assign(sex="X"), synthetic, schema, site="vienna")


def test_a_grid_without_width_is_refused(frame, synthetic, schema):
    with pytest.raises(ValueError, match="grid_days must be >= 1"):
        measure_fidelity(frame, synthetic, schema, site="vienna", grid_days=0)
