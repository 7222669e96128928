"""Private Cox regression: what a patient adds is bounded, the price is that of the noise, intervals cover the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clinics import job, leukaemia, pooled
from cox_cases import COLUMNS, SITES, frames, small_job
from hypothesis import given, settings
from hypothesis import strategies as st
from local_rounds import LocalRounds

from privacy import Composed
from synthema.errors import ModelFailed, StudyError
from synthema.learning import CoxRegression
from synthema.learning.cox import CoxSpec
from synthema.learning.design import Design, design_of, encoded, matrix
from synthema.learning.noisy_sums import noise_of, open_noisy_sum
from synthema.learning.private_cox import (
    LEAST_EXPOSURE,
    ROUNDS,
    PrivateCox,
    Times,
    baseline_vector,
    edges_of,
    event,
    part_of,
    start_of,
    times_of,
)
from synthema.learning.private_parts import FRAC_BITS, length_bound
from synthema.learning.private_questions import Shape, Step
from synthema.learning.responses import Response
from synthema.learning.rows import survival_of
from synthema.steps import plan, private_rho
from synthema.submitters import SimulatedNetwork

COVARIATES = ("age", "sex", "wbc", "tpi")
# Coefficients of the four covariates scaled by their bounds, by statsmodels 0.15.0 (PHReg, Efron) on all rows and
# days as they are; and their standard errors.
LEUKAEMIA = np.array([1.62893764, 0.05217588, 0.76811041, 0.32212505])
LEUKAEMIA_ERROR = np.array([0.11605599, 0.06778251, 0.11153759, 0.09945401])
QUIET = 1e-3
NOISY_SUMS = 50


def _private(**fields: Any) -> CoxSpec:
    return CoxSpec(**({"covariates": COVARIATES, "grid_days": 30, "mode": "private", "budget_share": 1.0} | fields))


def _read(spec: CoxSpec, schema: Any, rows: pd.DataFrame) -> tuple[Any, Times, Any]:
    time, died = survival_of(schema, rows)
    x = matrix(encoded(schema, rows, spec.covariates), schema, design_of(schema, spec.covariates))
    return x, times_of(time, edges_of(schema)), died


def _run(cox: PrivateCox, x: Any, times: Times, died: Any, random: Any, stds: tuple[float, ...]) -> PrivateCox:
    """All rounds on rows in one place, with normal noise."""
    while cox.due:
        part = part_of(cox, x, times, died)
        cox.update((part + np.rint(random.normal(0, stds[cox.index], part.shape) * 2**FRAC_BITS)) / 2**FRAC_BITS)
    return cox


@settings(max_examples=60, deadline=None)
@given(
    time=st.integers(0, 10**9),
    died=st.booleans(),
    weight=st.floats(0, 1),
    first=st.booleans(),
)
def test_a_patient_adds_a_vector_of_bounded_length_to_the_baseline(time, died, weight, first) -> None:
    edges = np.array([0.0, 31.0, 91.0, 6000.0])
    times = times_of(np.array([time]), edges)
    part = baseline_vector(times, np.array([weight]), np.array([died]) if first else None, 3)
    l1, l2_squared = length_bound(3 if first else 2)
    assert (part.astype(object) ** 2).sum() <= l2_squared
    assert np.abs(part).sum() <= l1
    assert np.count_nonzero(part.reshape(-1, 3).any(axis=0)) <= 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(0.01, 1000))
def test_no_weight_is_above_one_whatever_the_coefficients(seed, size) -> None:
    random = np.random.default_rng(seed)
    design = Design(tuple((f"x{j}", "") for j in range(1, 5)), (0.0,) * 5, (1.0,) * 5)
    cox = PrivateCox(Shape("poisson", design, Response(least_exposure=LEAST_EXPOSURE)), 9, (QUIET,) * len(ROUNDS))
    x = np.column_stack([np.ones(50), random.uniform(-1, 1, (50, 4))])
    times = Times(random.integers(0, 9, 50), random.uniform(0, 1, 50))
    died = random.random(50) < 0.5
    while cox.due != "baseline/1":
        cox.update(part_of(cox, x, times, died) / 2**FRAC_BITS)
    assert isinstance(cox.newton.question, Step)
    cox.newton.question = replace(cox.newton.question, beta=random.normal(0, size, 5))
    weight = cox.weight(x)
    assert weight.min() >= 0
    assert weight.max() <= 1
    part = part_of(cox, x[:1], Times(times.interval[:1], times.part[:1]), died[:1])
    assert (part.astype(object) ** 2).sum() <= length_bound(2)[1]
    cox.update(part_of(cox, x, times, died) / 2**FRAC_BITS)
    assert np.isfinite(cox.hazard).all()
    assert np.isfinite(cox.offset(times)).all()
    assert cox.offset(times).max() <= 0


def test_the_price_is_that_of_the_noise_and_within_the_share() -> None:
    spec, (_, study) = _private(budget_share=0.5), leukaemia()
    study = study.with_model("model", spec)
    [step] = [each for each in plan(study) if each.name == "model-model"]
    assert isinstance(step.event, Composed)
    assert len(step.event.events) == len(ROUNDS)
    rho = 0.5 * private_rho(study)
    from synthema.joint_noise import rho_and_delta

    spent, delta = rho_and_delta(step.event)
    assert 0.999 * rho < spent <= rho
    assert delta == 0
    # Of two parties who do not collude, the noise suffices; all three add some.
    cox = start_of(spec, study, step.event)
    for std, each in zip(cox._noise, step.event.events, strict=True):
        assert std == pytest.approx(noise_of(each).per_party_scale * np.sqrt(3) / 2**FRAC_BITS)
    # A patient at two sites costs four times as much: the noise is twice as large.
    twice = leukaemia(
        study={"name": "two", "purpose": "a test", "schema": study.data_schema, "max_sites_per_patient": 2}
    )
    wide = twice[1].with_model("model", spec)
    other = start_of(spec, wide, event(spec, wide, rho))
    np.testing.assert_allclose(np.array(other._noise) / cox._noise, 2, rtol=1e-3)


def test_with_little_noise_it_is_the_pooled_fit_and_without_the_second_baseline_it_is_not() -> None:
    table, study = leukaemia()
    spec, rows = _private(), pooled(table)
    x, times, died = _read(spec, study.data_schema, rows)
    study = study.with_model("model", spec)
    stds = (QUIET,) * len(ROUNDS)
    shape = start_of(spec, study, event(spec, study, private_rho(study))).shape
    random = np.random.default_rng(0)

    def estimate(cox: PrivateCox) -> Any:
        beta, covariance = _run(cox, x, times, died, random, stds).newton.on_bounds_scale()
        return beta[1:], np.sqrt(np.diag(covariance))[1:]

    beta, error = estimate(PrivateCox(shape, len(edges_of(study.data_schema)) - 1, stds))
    assert np.abs((beta - LEUKAEMIA) / LEUKAEMIA_ERROR).max() < 0.5
    np.testing.assert_allclose(error, LEUKAEMIA_ERROR, rtol=0.5)

    class Once(PrivateCox):
        """The baseline of all patients alike, to the end."""

        def weight(self, x: Any) -> Any:
            return np.ones(len(x))

        @staticmethod
        def _centre(_step: Any) -> float:
            return 0.0

    attenuated, _ = estimate(Once(shape, len(edges_of(study.data_schema)) - 1, stds))
    assert (attenuated - beta)[0] < -0.3 * LEUKAEMIA_ERROR[0]


def test_sites_and_parties_make_of_it_what_one_place_would() -> None:
    spec = _private(covariates=("dose", "age"), grid_days=1)
    columns = {**COLUMNS, "days": {"kind": "integer", "bounds": [0, 40], "edges": [5, 10, 20]}}
    schema = {"columns": columns, "survival": {"time": "days", "event": "died"}}
    study = job(schema, SITES, epsilon=50.0, policy={"epsilon_cap": 60.0, "delta_cap": 1e-5}).with_model("model", spec)
    table = frames(400)
    priced = spec.event(study, private_rho(study))
    rounds = LocalRounds(study, table, priced)
    answer = spec.fit(rounds)
    assert list(rounds.answers) == list(ROUNDS)
    x, times, died = _read(spec, study.data_schema, pooled(table))
    quiet = _run(start_of(spec, study, priced), x, times, died, np.random.default_rng(0), (0.0,) * len(ROUNDS))
    beta, _ = quiet.newton.on_bounds_scale()
    scale = np.array(quiet.shape.design.scale[1:])
    found = np.array([[float(text) for text in row[1:]] for row in answer["coefficients"]])
    # Without noise the same, with it within a few errors of the noise's part.
    own = np.array([float(text) for text in answer["sampling_errors"]])
    noise = np.sqrt(np.maximum(found[:, 1] ** 2 - own**2, (0.3 * found[:, 1]) ** 2))
    assert np.all(np.abs(found[:, 0] - beta[1:] / scale) < 6 * noise)
    assert not np.array_equal(found[:, 0], beta[1:] / scale)
    # First round: the sum of the sites' integers, and noise as large as the fit reckons with.
    start = start_of(spec, study, priced)
    clean, deviations = part_of(start, x, times, died), []
    for _ in range(NOISY_SUMS):
        again = LocalRounds(study, table, priced)
        opened = open_noisy_sum(again, "baseline/0", event=noise_of(priced.events[0]))
        deviations.append((opened - clean) / 2**FRAC_BITS / start._noise[0])
    spread = float(np.std(deviations))
    # 600 numbers: three standard errors are 0.09. One party's noise alone would be 0.58.
    assert 0.9 < spread < 1.1
    assert abs(np.mean(deviations)) < 0.15
    model = CoxRegression(covariates=["dose", "age"], grid_days=1, mode="private", budget_share=1.0)
    model._answer = answer
    model._read(answer)
    assert "due to noise" in str(model.summary())
    assert model.predict(table["vienna"]).shape == (400,)


def test_what_is_refused() -> None:
    with pytest.raises(StudyError, match="strata: a private model has none"):
        CoxRegression(covariates=["dose"], grid_days=1, mode="private", budget_share=0.5, strata=["ward"]).fit(
            SimulatedNetwork({}), small_job()
        )
    spec, (table, study) = _private(), leukaemia()
    study = study.with_model("model", spec)
    half = spec.site_half(study, study.data_schema, table["alder"])
    with pytest.raises(StudyError, match="'round/0' is not due"):
        half.contribute("round/0", None)
    half.contribute("baseline/0", None)
    with pytest.raises(StudyError, match="'baseline/0' is not due"):
        half.contribute("baseline/0", None)
    few = {site: rows.iloc[:20] for site, rows in table.items()}
    tight = leukaemia(epsilon=0.3)[1].with_model("model", spec)
    with pytest.raises(ModelFailed, match="more of"):
        spec.fit(LocalRounds(tight, few, spec.event(tight, private_rho(tight))))


SIMULATIONS, PATIENTS = 150, 1000


@pytest.mark.slow
def test_intervals_cover_the_truth_and_those_that_forget_the_noise_do_not() -> None:
    columns = {**COLUMNS, "days": {"kind": "integer", "bounds": [0, 2000], "edges": [31, 91, 181, 361, 721, 1081]}}
    schema = {"columns": columns, "survival": {"time": "days", "event": "died"}}
    spec = _private(covariates=("dose", "age", "grade"))
    study = job(schema, SITES, epsilon=1.5, policy={"epsilon_cap": 5.0, "delta_cap": 1e-5}).with_model("model", spec)
    priced = event(spec, study, private_rho(study))
    # Of the scaled covariates: dose, age, grade = mid, grade = high.
    truth = np.array([0.8, 1.0, 0.0, 0.5])
    random, within, own_within = np.random.default_rng(11), [], []
    for _ in range(SIMULATIONS):
        dose, age = random.uniform(-1, 1, PATIENTS), random.integers(20, 90, PATIENTS)
        grade = random.choice(["low", "mid", "high"], PATIENTS)
        hazard = np.exp(0.8 * dose + 0.02 * (age - 55) + 0.5 * (grade == "high"))
        # Hazards that fall with time.
        time = 500 * (random.exponential(1, PATIENTS) / hazard) ** (1 / 0.8)
        lost = random.uniform(200, 2000, PATIENTS)
        rows = pd.DataFrame(
            {
                "days": np.ceil(np.minimum(time, lost)).astype(np.int64),
                "died": np.where(time <= lost, "1", "0"),
                "dose": dose,
                "age": age,
                "grade": grade,
            }
        )
        cox = start_of(spec, study, priced)
        cox = _run(cox, *_read(spec, study.data_schema, rows), random, cox._noise)
        beta, covariance = cox.newton.on_bounds_scale()
        own = np.minimum(np.diag(cox.newton.sampling_on_bounds_scale()), np.diag(covariance))
        within.append(np.abs(beta[1:] - truth) < 1.96 * np.sqrt(np.diag(covariance))[1:])
        own_within.append(np.abs(beta[1:] - truth) < 1.96 * np.sqrt(own)[1:])
    # 600 intervals: three standard errors of a frequency of 0.95 are 0.027.
    assert 0.92 < np.mean(within) < 0.99
    assert np.mean(own_within) < 0.9
