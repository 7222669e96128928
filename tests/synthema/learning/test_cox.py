"""Joint Cox regression: the pooled fit, from score and information alone; what may not be opened stays shut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clinics import OPEN_POLICY, leukaemia, pooled
from clinics import job as study_of
from cox_cases import (
    COLUMNS,
    EXACT_TIMES,
    SCHEMA,
    SITES,
    frames,
    maximum,
    opened_next,
    plain_newton,
    raw_design,
    small_job,
    terms,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from local_rounds import LocalRounds, fitted
from regression_cases import COLUMNS as MEN
from regression_cases import COVARIATES, three_sites

from privacy import Schema
from privacy.ledger import open_ledger
from smpc import FIELD61, RING64, Session
from synthema.errors import DisclosureRefused, ModelFailed, StudyError
from synthema.learning import CoxRegression
from synthema.learning.cox import CoxSpec
from synthema.learning.cox_sums import TOO_WIDE, Encoding
from synthema.learning.cox_ties import HEAVIEST, NODES, efron_rule
from synthema.learning.exact_cox import newton_of, plan_of
from synthema.submitters import SimulatedNetwork

# lifelines 0.30.3 on all rows together.
ROSSI = [-0.37942217, -0.05743774, 0.31389979, -0.1497957, -0.43370388, -0.08487108, 0.09149708]
ROSSI_LOG_LIKELIHOOD = -658.747659


def _rossi() -> tuple[dict[str, pd.DataFrame], Any]:
    table, _ = three_sites()
    return table, study_of(
        {"columns": MEN, "survival": {"time": "week", "event": "arrest"}}, tuple(table), policy=EXACT_TIMES
    )


def test_the_published_fit_of_432_men_at_three_sites() -> None:
    table, job = _rossi()
    answer, rounds = fitted(job, CoxSpec(covariates=COVARIATES, grid_days=1, max_ties=16), table)
    model = CoxRegression.from_json(
        json.dumps(
            {
                "format": "synthema-model-v1",
                "spec": rounds.spec.model_dump(),
                "answer": answer,
            }
        )
    )
    np.testing.assert_allclose(model.coef_, ROSSI, rtol=0, atol=2e-8)
    assert model.log_likelihood_ == pytest.approx(ROSSI_LOG_LIKELIHOOD, abs=1e-6)
    assert model.terms_ == COVARIATES
    # Few openings; the information twice or thrice coarsely, once finely.
    assert answer["iterations"] <= 8


@pytest.mark.parametrize(("ties", "strata", "max_ties"), [("breslow", ("ward",), 256), ("efron", ("ward",), 60)])
def test_it_is_the_maximum_of_the_pooled_likelihood(ties, strata, max_ties) -> None:
    table, names = frames(), ("dose", "age", "grade")
    spec = CoxSpec(covariates=names, grid_days=2, ties=ties, strata=strata, max_ties=max_ties)
    answer, _ = fitted(small_job(), spec, table)
    rows = pooled(table)
    stratum = (rows["ward"] == "b").to_numpy().astype(int) if strata else np.zeros(len(rows), dtype=int)
    time = np.ceil(rows["days"].to_numpy() / 2)
    estimate, error, value = maximum(raw_design(rows, names), time, (rows["died"] == "1").to_numpy(), stratum, ties)
    model = CoxRegression(**spec.model_dump(exclude={"kind"}))
    model._read(answer)
    np.testing.assert_allclose(model.coef_, estimate, rtol=0, atol=1e-7)
    np.testing.assert_allclose(model.std_error_, error, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(model.covariance_)), model.std_error_, rtol=1e-11)
    assert model.log_likelihood_ == pytest.approx(value, abs=1e-5)


@pytest.mark.slow
# Of the peer's own calls.
@pytest.mark.filterwarnings("ignore:Starting with pandas version")
def test_lifelines_agrees_on_leukaemia_patients_over_a_simulated_network() -> None:
    from lifelines import CoxPHFitter

    table, job = leukaemia()
    model = CoxRegression(covariates=["age", "sex", "wbc", "tpi"], grid_days=30).fit(SimulatedNetwork(table), job)
    rows = pooled(table)
    peer = CoxPHFitter().fit(
        pd.DataFrame(
            {
                **{name: rows[name] for name in ("age", "wbc", "tpi")},
                "sex": (rows["sex"] == "M").astype(float),
                "time": np.ceil(rows["time"] / 30),
                "event": rows["event"].astype(int),
            }
        ),
        "time",
        "event",
        fit_options={"precision": 1e-12},
    )
    order = ["age", "sex", "wbc", "tpi"]
    np.testing.assert_allclose(model.coef_, peer.params_[order], rtol=0, atol=1e-7)
    np.testing.assert_allclose(model.std_error_, peer.standard_errors_[order], rtol=1e-6)
    assert model.log_likelihood_ == pytest.approx(peer.log_likelihood_, abs=1e-5)
    assert model.terms_ == ("age", "sex = M", "wbc", "tpi")
    relative = model.predict(rows)
    centred = peer.predict_partial_hazard(rows.assign(sex=(rows["sex"] == "M").astype(float)))
    np.testing.assert_allclose(relative / relative[0], centred / centred.iloc[0], rtol=1e-5)
    text = str(model.summary())
    assert "hazard ratio" in text
    assert "Days rounded up to multiples of 30; ties by Efron." in text
    assert "Hazard ratios with 95 % intervals" in model.plot()
    again = CoxRegression.from_json(model.to_json())
    np.testing.assert_array_equal(again.coef_, model.coef_)


def test_a_site_where_nobody_dies_and_one_without_patients_do_no_harm() -> None:
    table = frames()
    table["madrid"]["died"] = "0"
    table["milan"] = table["milan"].iloc[:0]
    answer, _ = fitted(small_job(), CoxSpec(covariates=("dose", "age"), grid_days=1), table)
    rows = pooled(table)
    died = (rows["died"] == "1").to_numpy()
    x = raw_design(rows, ("dose", "age"))
    estimate, _, _ = maximum(x, rows["days"].to_numpy(), died, np.zeros(len(rows), dtype=int), "efron")
    np.testing.assert_allclose([float(text) for _, text, _ in answer["coefficients"]], estimate, rtol=0, atol=1e-7)


def _all_that_opens(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Every array that party 0 opens, with the name of its domain."""
    seen = []
    real = Session.open

    async def watched(self: Session, *xs: Any) -> Any:
        found = await real(self, *xs)
        if self.party == 0:
            seen.extend(
                (str(x.domain), values) for x, values in zip(xs, found if len(xs) > 1 else (found,), strict=True)
            )
        return found

    monkeypatch.setattr(Session, "open", watched)
    return seen


def test_nothing_is_opened_but_scores_informations_and_masked_tests(monkeypatch) -> None:
    seen = _all_that_opens(monkeypatch)
    answer, rounds = fitted(small_job(), CoxSpec(covariates=("dose", "age"), grid_days=1), frames())
    numbers = [values for domain, values in seen if domain == str(RING64)]
    # Score and information of two coefficients, or the score alone; at the end, the log-likelihood.
    assert [len(values) for values in numbers] == [len(rounds.answers[name]) - 1 for name in rounds.answers][1:]
    assert {len(values) for values in numbers} == {5, 2, 1}
    assert sum(len(values) == 1 for values in numbers) == 1
    # On the way in units of 2^-8, so that 450 patients' sums are no larger than this; once in units of 2^-28.
    steps = [values for values in numbers if len(values) == 5]
    assert all(np.abs(values).max() < 450 * 2**8 for values in steps[:-1])
    assert np.abs(steps[-1]).max() > 2**28
    tests = [values for domain, values in seen if domain == str(FIELD61)]
    # Of a test, all is opened as its product with a random number: zero, or uniform.
    assert len(tests) == 2 + 4 * answer["iterations"] + 3
    assert all(values.size in (1, 2) for values in tests)


@pytest.mark.parametrize(
    ("columns", "fields", "why"),
    [
        ({"died": lambda t: np.where(t.index < 2, "1", "0")}, {}, "2 coefficients need at least 7 deaths"),
        ({"died": lambda t: np.full(len(t), "0")}, {}, "need at least 7 deaths"),
        (
            {"grade": lambda t: np.where(t.index == 0, "high", "low")},
            {"covariates": ("dose", "grade")},
            "a cell of death and categories holds 1 to 4 patients",
        ),
        (
            {"died": lambda t: np.where(t["ward"] == "a", t["died"], "0")},
            {"strata": ("ward",)},
            "an empty stratum",
        ),
        ({}, {"grid_days": 2, "max_ties": 12}, "more than 12 patients die; raise max_ties"),
        (
            {
                "died": lambda t: np.where(t.index < 42, "1", "0"),
                "days": lambda t: np.where(
                    t.index < 22, 1 + t.index, np.where(t.index < 42, 40, np.minimum(t["days"], 39))
                ),
            },
            {},
            "nearly all patients at risk die; take a finer grid",
        ),
        (
            {"dose": lambda t: np.where((t.index == 0) & (t["dose"] == t["dose"].iloc[0]), 1.0, 0.0)},
            {},
            None,
        ),
    ],
)
def test_what_may_not_be_opened(columns, fields, why) -> None:
    table = frames(**columns)
    if why is None:
        # One patient alone is not in the middle of the range.
        for site in SITES[1:]:
            table[site]["dose"] = 0.0
        why = "one patient would make up more than 0.9 of a sum"
    spec = CoxSpec(**({"covariates": ("dose", "age"), "grid_days": 1} | fields))
    rounds = LocalRounds(small_job().with_model("model", spec), table)
    with pytest.raises(DisclosureRefused, match=f"Cox's model was not opened: .*{why}"):
        spec.fit(rounds)
    # No sum came out.
    assert all(isinstance(answer, str) or len(answer) == 1 for answer in rounds.answers.values())


def test_total_coefficients_of_the_study_count() -> None:
    table = frames(died=lambda t: np.where(t.index < 2, "1", "0"))
    spec = CoxSpec(covariates=("dose",), grid_days=1)
    rounds = LocalRounds(small_job().with_model("model", spec), table)
    # One of them alone has deaths enough.
    assert spec.n_coefficients(rounds.schema) == 1
    both = {name: {"kind": "cox", "covariates": [name], "grid_days": 1} for name in ("dose", "age")}
    rounds.study = small_job(models=both)
    with pytest.raises(DisclosureRefused, match="2 coefficients need at least 7 deaths"):
        spec.fit(rounds)


def _run(x: Any, time: Any, died: Any) -> Any:
    newton = plain_newton(x.shape[1])
    while not newton.converged:
        newton.update(opened_next(newton, x, time, died))
    return newton


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    p=st.integers(1, 3),
    n=st.integers(40, 90),
    size=st.floats(0.1, 2),
    tied=st.booleans(),
)
def test_newton_finds_the_maximum_from_rounded_sums(seed, p, n, size, tied) -> None:
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, (n, p))
    time = random.exponential(1 / np.exp(x @ random.normal(0, size, p)))
    time = np.ceil(time * 4) if tied else time
    newton = _run(x, time, np.ones(n, dtype=bool))
    score, information, _ = terms(x, time, np.ones(n, dtype=bool), np.zeros(n, dtype=int), newton.beta, "efron")
    # Within a millionth of a standard error.
    assert np.sqrt(score @ np.linalg.solve(information, score)) < 1e-5
    np.testing.assert_allclose(newton.fit().covariance, np.linalg.inv(information), rtol=1e-4, atol=1e-8)


def test_failures_name_the_reason_and_the_covariate() -> None:
    random = np.random.default_rng(5)
    n = 80
    x = random.uniform(-1, 1, (n, 2))
    died = np.ones(n, dtype=bool)
    monotone = np.column_stack([x[:, 0], x[:, 1] > 0])
    time = np.where(monotone[:, 1] == 1, random.uniform(0, 1, n), random.uniform(2, 3, n))
    with pytest.raises(ModelFailed, match=r"monotone in x1: .* leave the covariate out"):
        _run(monotone, time, died)
    time = random.exponential(1, n)
    with pytest.raises(ModelFailed, match=r"collinear \(x0, x1\): leave one of them out"):
        _run(np.column_stack([x[:, 0], -0.5 * x[:, 0]]), time, died)
    with pytest.raises(ModelFailed, match="x1: no patient at risk differs in it"):
        _run(np.column_stack([x[:, 0], np.full(n, 0.3)]), time, died)
    # Sorted by a number, the likelihood grows for ever.
    with pytest.raises(ModelFailed, match="monotone in x0"):
        _run(x, -x[:, 0], died)


def test_too_wide_bounds_are_refused_before_anything_is_shared() -> None:
    assert Encoding.of((-6.0, 6.0), most_rows=1 << 24).least(n_sites=5) > 2**16
    with pytest.raises(ModelFailed, match=TOO_WIDE[:60]):
        Encoding.of((-9.0, 9.0), most_rows=1 << 24)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("d", [1, 5, 16, 17, 40, 218, 1000])
def test_the_rule_for_ties_sums_over_ranks(power, d) -> None:
    rule = efron_rule(1000)
    parts = [0.0, 0.3, HEAVIEST, *((1.0,) if d <= NODES else ())]
    for part in parts:
        exact = (1 / (1 - part * np.arange(d) / d) ** power).sum()
        found = (rule.weights[d] / (1 - part * rule.nodes[d]) ** power).sum()
        assert found == pytest.approx(exact, rel=1e-9)
    assert rule.weights[0].sum() == 0
    # The negative control: what is refused would be wrong.
    if d >= 218:
        exact = (1 / (1 - np.arange(d) / d) ** power).sum()
        assert (rule.weights[d] / (1 - rule.nodes[d]) ** power).sum() != pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"covariates": ["days"]}, "'days' is the outcome"),
        ({"covariates": ["dose", "dose"]}, "name each column once"),
        ({"covariates": ["dose", "ward"], "strata": ["ward"]}, "name each column once"),
        ({"covariates": ["grade"]}, "at least one must be a number"),
        ({"strata": ["age"]}, "'age' must have categories"),
        ({"max_ties": 0}, "max_ties"),
        ({"ties": "exact"}, "ties"),
        ({"covariates": []}, "covariates"),
    ],
)
def test_specs_that_make_no_sense_are_refused_by_field(fields, why) -> None:
    with pytest.raises(StudyError, match=why):
        CoxRegression(**({"covariates": ["dose"], "grid_days": 1} | fields)).fit(SimulatedNetwork({}), small_job())


def test_a_sites_narrowest_grid_is_for_curves() -> None:
    policy = OPEN_POLICY | {"min_grid_days": 90}
    assert CoxRegression(covariates=["dose"], grid_days=1).fit(SimulatedNetwork(frames()), small_job(policy=policy))


def test_deaths_on_few_times_are_not_worked_on() -> None:
    with pytest.raises(StudyError, match="20 times at least, so at most 2 days"):
        small_job().with_model("model", CoxSpec(covariates=("dose",), grid_days=3))
    early = frames(days=lambda t: np.where(t["died"] == "1", 1 + t.index % 19, 40))
    for ties in ("efron", "breslow"):
        spec = CoxSpec(covariates=("dose", "age"), grid_days=1, ties=ties)
        with pytest.raises(DisclosureRefused, match="fewer than 20 times"):
            fitted(small_job(), spec, early)
    later = frames(days=lambda t: np.where(t["died"] == "1", 1 + t.index % 20, 40))
    assert fitted(small_job(), CoxSpec(covariates=("dose", "age"), grid_days=1), later)


def test_by_default_no_number_of_ties_is_too_many() -> None:
    # 300 patients die on one day, more than a rule for 256 reckons with.
    died = frames(
        died=lambda t: np.where((t.index >= 50) | (t["died"] == "1"), "1", "0"),
        days=lambda t: np.where(t.index < 50, t["days"], 5),
    )
    rows, names = pooled(died), ("dose", "age")
    parties = {"compute_parties": SITES[:2]}
    for federation in (parties, parties | {"most_patients": 150}):
        answer, _ = fitted(small_job(federation=federation), CoxSpec(covariates=names, grid_days=1), died)
        estimate, error, _ = maximum(
            raw_design(rows, names),
            rows["days"].to_numpy(),
            (rows["died"] == "1").to_numpy(),
            np.zeros(len(rows), dtype=int),
            "efron",
        )
        np.testing.assert_allclose([float(each[1]) for each in answer["coefficients"]], estimate, rtol=0, atol=1e-7)
        np.testing.assert_allclose([float(each[2]) for each in answer["coefficients"]], error, rtol=1e-6)
    study = small_job(federation=parties | {"most_patients": 150})
    newton = newton_of(CoxSpec(covariates=names, grid_days=1), study)
    assert plan_of(CoxSpec(covariates=names, grid_days=1), study, newton).max_ties == 450
    with pytest.raises(DisclosureRefused, match="more than 256 patients die"):
        fitted(small_job(), CoxSpec(covariates=names, grid_days=1, max_ties=256), died)


def test_beside_a_model_by_a_horizon_its_deaths_could_be_subtracted() -> None:
    by = {"kind": "logistic", "horizon_days": 20, "covariates": ["dose"]}
    with pytest.raises(StudyError, match="stand in studies of their own"):
        small_job(models={"a": {"kind": "cox", "covariates": ["dose"], "grid_days": 1}, "b": by})


def test_too_much_to_work_on_is_refused() -> None:
    long = {**COLUMNS, "days": {"kind": "integer", "bounds": [0, 400_000]}}
    with pytest.raises(ValueError, match="take a coarser grid"):
        CoxSpec(covariates=("dose",), grid_days=1).check(Schema.from_dict({**SCHEMA, "columns": long}))


def test_a_site_gives_each_step_once_and_in_order() -> None:
    spec = CoxSpec(covariates=("dose", "age"), grid_days=1)
    study = small_job().with_model("model", spec)
    half = spec.site_half(study, study.data_schema, frames()["vienna"])
    with pytest.raises(StudyError, match="'sums/1' is not due"):
        half.contribute("sums/1", None)
    with pytest.raises(StudyError, match="'value' is not due"):
        half.contribute("value", None)
    half.contribute("sums/0", None)
    with pytest.raises(StudyError, match="'sums/0' is not due"):
        half.contribute("sums/0", None)


@pytest.mark.slow
def test_the_same_model_again_is_the_stored_answer_and_a_failed_one_is_charged_once(tmp_path: Path) -> None:
    network, model = SimulatedNetwork(frames(), out=tmp_path / "fits"), CoxRegression(covariates=["dose"], grid_days=1)
    first = model.fit(network, small_job())
    again = CoxRegression(covariates=["dose"], grid_days=1).fit(network, small_job())
    assert again.answer_ == first.answer_
    with open_ledger(f"sqlite:///{tmp_path}/fits/ledgers/madrid.db") as ledger:
        [event] = ledger.events("exact")
    assert "Cox regression on dose: score and information of each Newton step, log-likelihood" in str(event)
    # Nobody differs in age.
    alike = SimulatedNetwork(frames(age=lambda t: np.full(len(t), 50)), out=tmp_path / "fails")
    with pytest.raises(ModelFailed, match="age: no patient at risk differs in it") as failed:
        CoxRegression(covariates=["dose", "age"], grid_days=1).fit(alike, small_job())
    assert not any(character.isdigit() for character in str(failed.value))
    with open_ledger(f"sqlite:///{tmp_path}/fails/ledgers/madrid.db") as ledger:
        assert len(ledger.events("exact")) == 1


def test_follow_up_ends_at_the_schemas_horizon_as_it_does_for_curves() -> None:
    columns = COLUMNS | {"days": {"kind": "integer", "bounds": [0, 40], "edges": [10, 21]}}
    ends = {"columns": columns, "survival": {"time": "days", "event": "died", "horizon": 21}}
    table = frames()
    stopped = {
        site: rows.assign(days=rows["days"].clip(upper=21), died=rows["died"].where(rows["days"] < 21, "0"))
        for site, rows in table.items()
    }
    spec = CoxSpec(covariates=("dose", "age"), grid_days=1)
    answers = [
        fitted(study_of(schema, SITES, policy=EXACT_TIMES), spec, rows)[0]
        for schema, rows in ((ends, table), (SCHEMA, stopped), (SCHEMA, table))
    ]
    found = [[float(b) for _, b, _ in answer["coefficients"]] for answer in answers]
    np.testing.assert_allclose(found[0], found[1], atol=1e-7)
    assert np.abs(np.subtract(found[0], found[2])).max() > 1e-3


def test_a_number_that_one_patient_has_does_not_give_away_that_patients_death() -> None:
    columns = COLUMNS | {"grafts": {"kind": "integer", "bounds": [0, 20]}}
    schema = {"columns": columns, "survival": SCHEMA["survival"]}
    table = frames(grafts=lambda rows: pd.Series(0, index=rows.index))
    table["vienna"].loc[3, "grafts"] = 20
    spec = CoxSpec(covariates=("dose", "grafts"), grid_days=1)
    study = study_of(schema, SITES, policy=EXACT_TIMES)
    with pytest.raises(DisclosureRefused, match="one patient would make up"):
        fitted(study, spec, table)
    for rows in table.values():
        rows.loc[:20, "grafts"] = 20
    assert fitted(study, spec, table)[0]["coefficients"]
