"""The plan is what happens: closed forms against sums, against the sampler, and against fits of a made-up table."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from generators import ChowLiu, Domain, DomainMismatch, Independent, count_marginal, encode, plan
from generators.errors import BudgetInvalid
from generators.planning import mean_absolute_noise, noise_error
from privacy import InsecureSeededRng, Schema, epsilon_to_rho, sample_discrete_gaussian

N_PATIENTS, N_RUNS = 4000, 40
EPSILON, DELTA = 0.5, 1e-9

# Mean of N_RUNS errors against the closed form: more than four standard errors of what was seen, and far less than
# what noise of 30 % more or less would do.
TOLERANCE = 0.06


@pytest.fixture(scope="module")
def schema() -> Schema:
    sizes = {"a": 2, "b": 6, "c": 10, "d": 4}
    return Schema.from_dict({"columns": {name: {"categories": list(map(str, range(k)))} for name, k in sizes.items()}})


@pytest.fixture(scope="module")
def frame(schema) -> pd.DataFrame:
    """Every code is frequent, so that noise shows fully."""
    rng = np.random.default_rng(1)
    sizes = Domain.from_schema(schema)
    return pd.DataFrame({name: rng.integers(0, sizes[name], N_PATIENTS).astype(str) for name in sizes})


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.5, 29.9, 30.1, 200.0])
def test_mean_absolute_noise_is_the_sum_over_all_integers(scale):
    steps = np.arange(-4000, 4001)
    mass = np.exp(-0.5 * np.square(steps / scale))
    assert mean_absolute_noise(scale) == pytest.approx(float((np.abs(steps) * mass).sum() / mass.sum()), rel=1e-7)


def test_mean_absolute_noise_is_that_of_the_sampler():
    n = 20_000
    drawn = np.abs(sample_discrete_gaussian(3.0, n, rng=InsecureSeededRng(4)))
    assert abs(drawn.mean() - mean_absolute_noise(3.0)) < 4.5 * drawn.std() / math.sqrt(n)
    # Negative control: a scale 5 % too small.
    assert abs(drawn.mean() - mean_absolute_noise(2.85)) > 4.5 * drawn.std() / math.sqrt(n)


def fitted_errors(mechanism, frame, schema):
    """Return the mean L1 error of each column's shares over N_RUNS fits."""
    domain, codes = Domain.from_schema(schema), encode(frame, schema)
    out = dict.fromkeys(domain, 0.0)
    for seed in range(N_RUNS):
        model = mechanism(epsilon=EPSILON, delta=DELTA).fit(frame, schema, rng=InsecureSeededRng(seed))
        for name in domain:
            truth = count_marginal(codes, domain, (name,)) / N_PATIENTS
            out[name] += float(np.abs(model.marginals.project((name,)) - truth).sum()) / N_RUNS
    return np.array(list(out.values()))


@pytest.mark.parametrize("mechanism", [Independent, pytest.param(ChowLiu, marks=pytest.mark.slow)])
def test_planned_errors_of_columns_are_those_of_the_fitted_models(mechanism, frame, schema):
    planned = plan(schema, n=N_PATIENTS, epsilon=EPSILON, delta=DELTA, mechanism=mechanism.name)
    ratio = fitted_errors(mechanism, frame, schema).sum() / sum(planned.columns.values())
    assert abs(ratio - 1) < TOLERANCE
    # Negative control: a plan for noise 30 % smaller.
    assert abs(ratio / 0.7 - 1) > TOLERANCE


def test_planned_errors_of_pairs_are_those_of_the_released_counts(frame, schema):
    planned = plan(schema, n=N_PATIENTS, epsilon=EPSILON, delta=DELTA, mechanism="chow-liu")
    domain, codes = Domain.from_schema(schema), encode(frame, schema)
    total = 0.0
    for seed in range(N_RUNS // 2):
        model = ChowLiu(epsilon=EPSILON, delta=DELTA).fit(frame, schema, rng=InsecureSeededRng(seed))
        for measured in model.measurements:
            if len(measured.columns) == 2:
                truth = count_marginal(codes, domain, measured.columns) / N_PATIENTS
                total += float(np.abs(measured.values / measured.values.sum() - truth).sum()) / (N_RUNS // 2)
                assert measured.noise_std == pytest.approx(planned.noise_std[measured.columns])
    assert abs(total / sum(planned.pairs.values()) - 1) < TOLERANCE


@pytest.mark.parametrize("mechanism", ["independent", "chow-liu", "mst", "adaptive"])
def test_more_patients_and_more_epsilon_never_plan_more_error(mechanism, schema):
    def mean(n, epsilon):
        return plan(schema, n=n, epsilon=epsilon, delta=DELTA, mechanism=mechanism).mean_column_error

    for few, many in ((50, 500), (500, 5000), (5000, 50_000)):
        assert mean(many, 1.0) < mean(few, 1.0)
    assert mean(5000, 2.0) < mean(5000, 1.0) < mean(5000, 0.3)


def test_a_table_that_will_be_mostly_noise_is_called_so_and_the_way_out_is_named(schema):
    small = plan(schema, n=100, epsilon=0.1, delta=DELTA)
    assert small.verdict == "mostly noise"
    assert "WARNING: the table will be mostly noise" in str(small)
    assert any("c has 10 codes" in sentence for sentence in small.advice)
    # What the advice says is what another plan finds.
    patients = int(small.advice[0].split("about ")[1].split()[0])
    assert plan(schema, n=patients, epsilon=0.1, delta=DELTA, mechanism="independent").verdict != "mostly noise"
    large = plan(schema, n=1_000_000, epsilon=1.0, delta=DELTA)
    assert (large.verdict, large.advice, len(large.affordable_pairs)) == ("good", (), 6)
    assert large.affordable_pairs[0] == ("a", "d")


def test_a_plan_is_public_text_and_json(schema):
    planned = plan(schema, n=1000, epsilon=1.0, delta=DELTA, mechanism="mst")
    again = json.loads(json.dumps(planned.to_dict()))
    assert again["columns"]["c"] == planned.columns["c"]
    assert len(again["pairs"]) == 6
    assert planned.noise_std[("a",)] == pytest.approx(math.sqrt(4 / (2 * epsilon_to_rho(1.0, DELTA) / 3)))
    with pytest.raises(AttributeError):
        planned.verdict = "good"


def test_replacing_a_patient_and_several_rows_cost_more_noise(schema):
    base = plan(schema, n=1000, epsilon=1.0, delta=DELTA, mechanism="independent").noise_std[("a",)]
    replaced = plan(schema, n=1000, epsilon=1.0, delta=DELTA, mechanism="independent", neighbours="replace_one")
    visits = plan(schema, n=1000, epsilon=1.0, delta=DELTA, mechanism="independent", max_records_per_patient=3)
    assert replaced.noise_std[("a",)] == pytest.approx(math.sqrt(2) * base)
    assert visits.noise_std[("a",)] == pytest.approx(3 * base)


def test_what_cannot_be_planned_is_refused(schema):
    with pytest.raises(DomainMismatch, match="known: independent"):
        plan(schema, n=100, epsilon=1.0, delta=DELTA, mechanism="gan")
    with pytest.raises(ValueError, match="n must be an integer >= 1"):
        plan(schema, n=0, epsilon=1.0, delta=DELTA)
    with pytest.raises(BudgetInvalid):
        plan(schema, n=10, epsilon=0.0, delta=DELTA)
    assert noise_error(1, 5.0, 100) == 0
    assert noise_error(50, 1e6, 100) == 2
