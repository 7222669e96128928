"""Newton on pooled sums against statsmodels, and the rules that decide whether a model may be opened."""

import numpy as np
import pytest

from privacy import InsecureSeededRng, Schema
from smpc import FIELD61, run_local, share
from synthema.errors import ModelFailed
from synthema.learning import logistic
from synthema.learning.covariates import check_covariates, n_cells
from synthema.learning.design import design_matrix, design_of
from synthema.learning.glm_sums import site_sums
from synthema.learning.newton import Newton, start
from synthema.learning.responses import Patients, Response, outcome_within
from synthema.learning.tested_counts import count_table, why_not

SCHEMA = Schema.from_dict(
    {
        "columns": {
            "age": {"kind": "integer", "bounds": [0, 110]},
            "arm": {"categories": ["A", "B", "C"]},
            "wbc": {"kind": "continuous", "bounds": [0, 500]},
        }
    }
)
COVARIATES = ("age", "arm", "wbc")


def patients(n: int, seed: int):
    rng = np.random.default_rng(seed)
    columns = {
        "age": rng.integers(18, 95, n),
        "arm": rng.choice(["A", "B", "C"], n),
        "wbc": np.minimum(rng.exponential(40, n), 500).round(1),
    }
    logit = -3 + 0.05 * columns["age"] + 0.4 * (columns["arm"] == "C") + 0.004 * columns["wbc"]
    return columns, rng.random(n) < 1 / (1 + np.exp(-logit))


def fit(columns, died):
    design = design_of(SCHEMA, COVARIATES)
    x = design_matrix(columns, SCHEMA, design)
    newton = Newton(logistic.FAMILY, design, Response(), n_sites=1, most_rows=1 << 20)
    while not newton.converged:
        sums = score_and_information(x, died, newton.beta)
        newton.update(sums[: design.n_coefficients] if newton.score_alone else sums)
    return logistic.model_of(newton, outcome="death")


def score_and_information(x, died, beta):
    patients = Patients(x, died.astype(float), None)
    return site_sums(logistic.FAMILY, patients, beta).without_value().values


@pytest.mark.slow
def test_the_fit_equals_statsmodels_in_the_columns_own_units():
    columns, died = patients(400, seed=5)
    model = fit(columns, died)
    raw = np.column_stack([columns["age"], columns["arm"] == "B", columns["arm"] == "C", columns["wbc"]]).astype(float)
    # Imported here: seconds that every worker would wait for before its first test.
    import statsmodels.api as sm

    expected = sm.Logit(died.astype(float), sm.add_constant(raw)).fit(disp=0, tol=1e-12)
    assert [c.term for c in model.coefficients] == ["intercept", "age", "arm = B", "arm = C", "wbc"]
    np.testing.assert_allclose([c.estimate for c in model.coefficients], expected.params, rtol=1e-8)
    np.testing.assert_allclose([c.std_error for c in model.coefficients], expected.bse, rtol=1e-6)


def test_the_model_survives_the_ledgers_plain_data_exactly():
    model = fit(*patients(200, seed=2))
    assert logistic.model_from_json(logistic.model_to_json(model)) == model


def test_separation_and_collinearity_are_typed_failures():
    columns, _ = patients(300, seed=1)
    with pytest.raises(ModelFailed, match="separated"):
        fit(columns, columns["age"] > 50)
    columns["wbc"] = columns["age"].astype(float)
    with pytest.raises(ModelFailed, match="collinear"):
        fit(columns, np.random.default_rng(0).random(300) < 0.5)


def test_what_is_known_at_the_horizon():
    time = np.array([100, 100, 365, 365, 366, 400])
    event = np.array([True, False, True, False, True, False])
    known, died = outcome_within(time, event, 365)
    assert known.tolist() == [True, False, True, True, True, True]
    assert died.tolist() == [True, False, True, False, False, False]


def why_refused(counts) -> str:
    packages = share(np.array(counts), 3, domain=FIELD61, rng=InsecureSeededRng(1))

    async def protocol(session, package):
        shared = session.shared(package.expand(), FIELD61)
        return await why_not(session, shared, family=logistic.FAMILY, n_coefficients=4, min_cell=5)

    return run_local(protocol, packages).results[0]


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([100, 50, 50, 50, 50, 0], ""),
        ([100, 13, 0, 5, 6, 7], ""),
        ([100, 12, 50, 50, 50, 0], "at least 13 patients"),
        ([0, 150, 50, 50, 50, 0], "at least 13 patients"),
        ([100, 50, 50, 50, 50, 1], "1 to 4 patients"),
        ([100, 50, 50, 4, 50, 0], "1 to 4 patients"),
    ],
)
def test_a_model_over_too_few_patients_is_not_opened(counts, reason):
    assert reason in why_refused(counts)
    assert bool(reason) == bool(why_refused(counts))


def test_what_is_tested_is_the_whole_table_of_outcome_and_categories():
    columns, died = patients(90, seed=3)
    codes = {"arm": SCHEMA.column("arm").encode(columns["arm"])}
    counts = count_table(logistic.FAMILY, codes, SCHEMA, COVARIATES, died)
    assert len(counts) == 2 + n_cells(SCHEMA, COVARIATES) == 2 + 2 * 3
    assert counts[:2].tolist() == [(~died).sum(), died.sum()]
    arms = [((columns["arm"] == arm) & (died == outcome)).sum() for outcome in (False, True) for arm in "ABC"]
    assert counts[2:].tolist() == arms


def test_no_opened_number_is_a_count_and_at_zero_it_would_be():
    columns, died = patients(300, seed=4)
    design = design_of(SCHEMA, COVARIATES)
    x = design_matrix(columns, SCHEMA, design)
    in_arm = [(columns["arm"] == arm).sum() for arm in "BC"]
    diagonal = [k for k, (i, j) in enumerate(zip(*np.triu_indices(5), strict=True)) if i == j and i in (2, 3)]

    def information(beta):
        return score_and_information(x, died, beta)[5:][diagonal]

    # The control: with all weights equal to 1/4, four times the information of a category is its number of patients.
    np.testing.assert_allclose(4 * information(np.zeros(5)), in_arm, atol=1e-9)
    first = start(design)
    p = 0.5 * (1 + np.tanh(0.5 * x @ first))
    weights = p * (1 - p)
    assert weights.max() / weights.min() > 1.05
    assert (np.abs(information(first) / weights.mean() - in_arm) > 0.05).all()


@pytest.mark.parametrize(
    ("covariates", "rule"),
    [
        (["arm"], "at least one must be a number"),
        (["arm", "flag"], "few values"),
        (["age", "age"], "once"),
        (["age", "maybe"], "not nullable"),
        (["age", "wide1", "wide2"], "too large a table"),
    ],
)
def test_covariates_that_would_make_the_model_a_table_are_refused(covariates, rule):
    many = [str(i) for i in range(40)]
    schema = Schema.from_dict(
        {
            "columns": {
                "age": {"kind": "integer", "bounds": [0, 110]},
                "arm": {"categories": ["A", "B"]},
                "flag": {"kind": "integer", "bounds": [0, 1]},
                "maybe": {"kind": "integer", "bounds": [0, 99], "nullable": True},
                "wide1": {"categories": many},
                "wide2": {"categories": many},
            }
        }
    )
    with pytest.raises(ValueError, match=rule):
        check_covariates(schema, covariates)
