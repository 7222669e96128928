"""Exact logistic, linear and Poisson regression: equal to the fit of all rows, and what is refused on the way."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from clinics import job, leukaemia, pooled
from regression_cases import COLUMNS, COVARIATES, irls, plain_newton, rossi, sums_at, three_sites

from privacy.ledger import open_ledger
from synthema.errors import DisclosureRefused, ModelFailed, SiteRefused, StudyError
from synthema.learning import LinearRegression, LogisticRegression, PoissonRegression
from synthema.learning.estimator import NotFitted
from synthema.submitters import SimulatedNetwork

# statsmodels 0.14, Logit of all 432 rows.
ESTIMATES = (
    0.34288878,
    -0.43728283,
    -0.06742163,
    0.3538561,
    -0.15236413,
    -0.49015214,
    -0.08814597,
    0.10136256,
)
ARREST = {"outcome": "arrest", "event_category": "1"}


@pytest.fixture(scope="module")
def arrests() -> LogisticRegression:
    frames, job = three_sites()
    return LogisticRegression(**ARREST, covariates=COVARIATES).fit(SimulatedNetwork(frames), job)


def raw(table: pd.DataFrame, names: tuple[str, ...] = COVARIATES) -> np.ndarray:
    return np.column_stack([np.ones(len(table)), *(table[name].to_numpy(dtype=float) for name in names)])


def test_the_logistic_model_of_three_sites_is_that_of_the_pooled_rows(arrests) -> None:
    found = [arrests.intercept_, *arrests.coef_]
    np.testing.assert_allclose(found, ESTIMATES, atol=5e-9)
    assert arrests.terms_ == COVARIATES
    assert arrests.std_error_[1] == pytest.approx(0.22853362, rel=1e-6)
    assert arrests.log_likelihood_ == pytest.approx(-233.684517, abs=1e-6)
    table = rossi()
    beta, std_error = irls("logistic", raw(table), (table["arrest"] == "1").to_numpy(dtype=float))
    np.testing.assert_allclose(found, beta, rtol=1e-6)
    np.testing.assert_allclose(arrests.std_error_, std_error, rtol=1e-6)


def test_a_weighted_mean_of_the_sites_own_fits_would_be_another_model(arrests) -> None:
    """The negative control of equality: what is easily computed without sums is far off."""
    frames, _ = three_sites()
    fits = [
        irls("logistic", raw(table), (table["arrest"] == "1").to_numpy(dtype=float))[0] for table in frames.values()
    ]
    mean = np.average(fits, axis=0, weights=[len(table) for table in frames.values()])
    assert np.abs(mean - [arrests.intercept_, *arrests.coef_]).max() > 0.2


def test_a_model_is_read_back_and_predicts_as_its_formula_says(arrests) -> None:
    again = LogisticRegression.from_json(arrests.to_json())
    table = rossi()
    probabilities = again.predict_proba(table)
    eta = raw(table) @ [arrests.intercept_, *arrests.coef_]
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp(-eta)), rtol=1e-12)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (again.predict(table) == (probabilities[:, 1] > 0.5)).all()
    # The normal equation of the intercept: predicted and seen arrests are as many.
    assert probabilities[:, 1].sum() == pytest.approx((table["arrest"] == "1").sum(), rel=1e-6)
    with pytest.raises(StudyError, match="'age' is missing"):
        again.predict(table.drop(columns="age"))
    with pytest.raises(StudyError, match="'prio' must hold numbers"):
        again.predict(table.assign(prio=np.nan))
    with pytest.raises(NotFitted):
        LogisticRegression(**ARREST, covariates=COVARIATES).predict(table)


def test_a_poisson_model_with_exposure_is_that_of_the_pooled_rows() -> None:
    frames, job = three_sites()
    model = PoissonRegression(**ARREST, exposure="week", covariates=COVARIATES)
    model.fit(SimulatedNetwork(frames), job)
    table = rossi()
    y = (table["arrest"] == "1").to_numpy(dtype=float)
    beta, std_error = irls("poisson", raw(table), y, np.log(table["week"].to_numpy()))
    np.testing.assert_allclose([model.intercept_, *model.coef_], beta, rtol=1e-6)
    np.testing.assert_allclose(model.std_error_, std_error, rtol=1e-6)
    assert model.predict(table).sum() == pytest.approx(y.sum(), rel=1e-6)
    assert "rate ratio" in str(model.summary())


def test_a_linear_model_is_that_of_the_pooled_rows() -> None:
    frames, job = three_sites()
    names = tuple(name for name in COVARIATES if name != "prio")
    model = LinearRegression(outcome="prio", covariates=names).fit(SimulatedNetwork(frames), job)
    table = rossi()
    x, y = raw(table, names), table["prio"].to_numpy(dtype=float)
    beta, [squares], *_ = np.linalg.lstsq(x, y, rcond=None)
    variance = squares / (len(y) - x.shape[1])
    np.testing.assert_allclose([model.intercept_, *model.coef_], beta, rtol=1e-6)
    np.testing.assert_allclose(model.std_error_, np.sqrt(variance * np.diag(np.linalg.inv(x.T @ x))), rtol=1e-6)
    assert model.residual_variance_ == pytest.approx(variance, rel=1e-6)
    assert model.r_squared_ == pytest.approx(1 - squares / ((y - y.mean()) ** 2).sum(), rel=1e-6)
    assert model.answer_["patients"] == 432
    np.testing.assert_allclose(model.predict(table), x @ beta, rtol=1e-6)


@pytest.mark.slow
def test_all_that_is_reported_is_what_statsmodels_reports(arrests) -> None:
    import statsmodels.api as sm

    frames, job = three_sites()
    network, table = SimulatedNetwork(frames), rossi()
    y, names = (table["arrest"] == "1").to_numpy(dtype=float), tuple(name for name in COVARIATES if name != "prio")
    fitted = {
        arrests: sm.Logit(y, raw(table)).fit(disp=0, tol=1e-13),
        PoissonRegression(**ARREST, exposure="week", covariates=COVARIATES).fit(network, job): sm.GLM(
            y, raw(table), family=sm.families.Poisson(), offset=np.log(table["week"])
        ).fit(tol=1e-14),
        LinearRegression(outcome="prio", covariates=names).fit(network, job): sm.OLS(
            table["prio"].to_numpy(dtype=float), raw(table, names)
        ).fit(),
    }
    for model, expected in fitted.items():
        np.testing.assert_allclose([model.intercept_, *model.coef_], expected.params, rtol=1e-6)
        np.testing.assert_allclose(model.std_error_, expected.bse, rtol=1e-6)
        np.testing.assert_allclose(model.z_, expected.tvalues, rtol=1e-6)
        np.testing.assert_allclose(model.p_values_, expected.pvalues, rtol=1e-5)
        np.testing.assert_allclose(model.conf_int_, expected.conf_int(), rtol=1e-5, atol=1e-8)
        assert model.log_likelihood_ == pytest.approx(expected.llf, rel=1e-7)
        aic = dict(model.summary().tables[1].rows)["AIC"]
        assert aic == pytest.approx(expected.aic, rel=1e-7)


@pytest.mark.parametrize("kind", ["logistic", "poisson"])
def test_without_rounding_of_sums_the_method_is_exact_to_ten_digits(kind) -> None:
    rng = np.random.default_rng(11)
    x = np.column_stack([np.ones(400), rng.uniform(-1, 1, (400, 4))])
    eta = x @ np.array([-0.5, 1.0, -0.7, 0.2, 0.0])
    y = (rng.random(400) < 1 / (1 + np.exp(-eta))) if kind == "logistic" else rng.poisson(np.exp(eta))
    newton = plain_newton(kind, x, y)
    while not newton.converged:
        newton.update(sums_at(newton, x, y, rounded=False))
    beta, std_error = irls(kind, x, y.astype(float))
    np.testing.assert_allclose(newton.beta, beta, atol=1e-10)
    np.testing.assert_allclose(newton.fit().std_error, std_error, rtol=1e-6)


def test_death_within_a_horizon_leaves_out_who_was_lost_before() -> None:
    frames, job = leukaemia()
    model = LogisticRegression(horizon_days=365, covariates=["age", "sex"]).fit(SimulatedNetwork(frames), job)
    rows = pooled(frames)
    time, died = np.ceil(rows["time"]), (rows["event"].astype(str) == "1").to_numpy()
    known = (died & (time <= 365)) | (time >= 365)
    x = np.column_stack([np.ones(len(rows)), rows["age"], rows["sex"] == "M"]).astype(float)[known]
    beta, std_error = irls("logistic", x, (died & (time <= 365)).to_numpy(dtype=float)[known])
    np.testing.assert_allclose([model.intercept_, *model.coef_], beta, rtol=1e-6)
    np.testing.assert_allclose(model.std_error_, std_error, rtol=1e-6)
    assert model.terms_ == ("age", "sex = M")
    assert "death within 365 days" in str(model.summary())
    with pytest.raises(StudyError, match="none of the model's categories"):
        model.predict(rows.assign(sex="X"))


def test_the_same_model_again_is_the_stored_answer_and_is_not_charged_again(tmp_path) -> None:
    frames, job = three_sites()
    network = SimulatedNetwork(frames, out=tmp_path)
    names = ("age", "prio")
    first = LogisticRegression(**ARREST, covariates=names).fit(network, job)
    again = LogisticRegression(**ARREST, covariates=names).fit(network, job)
    assert again.answer_ == first.answer_
    with open_ledger(f"sqlite:///{tmp_path}/ledgers/north.db") as ledger:
        [event] = ledger.events("exact")
    assert "logistic regression of arrest = 1" in str(event)


# Simulated patients at two hospitals, one change each that no model can be made of.
def simulated(seed: int = 3, n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 90, n)
    return pd.DataFrame(
        {
            "age": age,
            "dose": rng.uniform(0, 10, n),
            "arm": rng.choice(["A", "B"], n),
            "ill": np.where(rng.random(n) < 1 / (1 + np.exp(3 - 0.05 * age)), "yes", "no"),
            "visits": rng.poisson(0.02 * age),
        }
    )


CLINIC = {
    "age": {"kind": "integer", "bounds": [0, 110]},
    "dose": {"kind": "continuous", "bounds": [0, 10]},
    "arm": {"categories": ["A", "B", "C"]},
    "ill": {"categories": ["no", "yes"]},
    "visits": {"kind": "integer", "bounds": [0, 99]},
}
ILL = {"outcome": "ill", "event_category": "yes"}


def thirds(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {site: table.iloc[k::3].reset_index(drop=True) for k, site in enumerate(("north", "south", "west"))}


def fit_changed(model, tmp_path, change) -> None:
    table = change(simulated())
    frames = thirds(table)
    asked = job({"columns": CLINIC}, tuple(frames))
    model.fit(SimulatedNetwork(frames, out=tmp_path), asked)


@pytest.mark.parametrize(
    ("model", "change", "error", "says"),
    [
        (
            LogisticRegression(**ILL, covariates=["age", "dose"]),
            lambda t: t.assign(ill=np.where(t["age"] > 55, "yes", "no")),
            ModelFailed,
            "separated by age",
        ),
        (
            LogisticRegression(**ILL, covariates=["age", "dose"]),
            lambda t: t.assign(dose=t["age"] / 10),
            ModelFailed,
            r"collinear \(.*age, dose\): leave one out",
        ),
        (
            LogisticRegression(**ILL, covariates=["age", "dose"]),
            lambda t: t.assign(dose=5.0),
            ModelFailed,
            "dose: no patient differs",
        ),
        (
            LogisticRegression(**ILL, covariates=["age", "dose"]),
            lambda t: t.assign(dose=7.0),
            ModelFailed,
            "dose does not vary",
        ),
        (
            LogisticRegression(**ILL, covariates=["age", "arm"]),
            lambda t: t,
            ModelFailed,
            "arm = C: no patient differs in it from the others; merge the category",
        ),
        (
            LogisticRegression(**ILL, covariates=["age"]),
            lambda t: t.assign(ill="no"),
            DisclosureRefused,
            "at least 7 patients with and without the outcome: leave covariates out",
        ),
        (
            PoissonRegression(outcome="visits", covariates=["age"]),
            lambda t: t.assign(visits=0),
            DisclosureRefused,
            "at least 7 patients with the outcome",
        ),
        (
            PoissonRegression(**ILL, covariates=["age", "arm"]),
            lambda t: t.assign(
                arm=np.where(np.arange(200) % 4 == 0, "C", t["arm"]),
                ill=np.where(np.arange(200) % 4 == 0, "no", t["ill"]),
            ),
            ModelFailed,
            "separated by arm = C",
        ),
        (
            PoissonRegression(outcome="visits", covariates=["age"]),
            lambda t: t.assign(visits=np.array([99, 2, 2, 2, 2, 1, 1] + 193 * [0])[np.arange(200) * 77 % 200]),
            DisclosureRefused,
            "one patient would make up more than 0.9",
        ),
        (
            LinearRegression(outcome="dose", covariates=["age"]),
            lambda t: t.assign(dose=t["age"] / 10),
            ModelFailed,
            "the covariates determine the outcome",
        ),
        (
            LinearRegression(outcome="age", covariates=["dose", "arm"]),
            lambda t: t.assign(arm=np.where(np.arange(200) < 3, "C", t["arm"])),
            DisclosureRefused,
            "a cell of categories holds 1 to 4 patients",
        ),
    ],
)
def test_what_no_model_can_be_made_of_is_a_typed_failure_with_a_way_out(tmp_path, model, change, error, says) -> None:
    with pytest.raises(error, match=says):
        fit_changed(model, tmp_path, change)
    # What started is charged once and has no answer; asked again, the name is used up and nothing is charged.
    with open_ledger(f"sqlite:///{tmp_path}/ledgers/south.db") as ledger:
        assert len(ledger.events("exact")) == 1
        assert not ledger.events("private")
    with pytest.raises(SiteRefused):
        fit_changed(model, tmp_path, change)
    with open_ledger(f"sqlite:///{tmp_path}/ledgers/south.db") as ledger:
        assert len(ledger.events("exact")) == 1


def test_a_site_with_one_outcome_only_takes_part_like_the_others() -> None:
    table = simulated()
    ill = (table["ill"] == "yes").to_numpy()
    frames = {
        "north": table[~ill][:40].reset_index(drop=True),
        "south": pd.concat([table[~ill][40:80], table[ill]]).reset_index(drop=True),
        "west": table[~ill][80:].reset_index(drop=True),
    }
    asked = job({"columns": CLINIC}, tuple(frames))
    model = LogisticRegression(**ILL, covariates=["age", "dose"]).fit(SimulatedNetwork(frames), asked)
    beta, _ = irls("logistic", raw(table, ("age", "dose")), ill.astype(float))
    np.testing.assert_allclose([model.intercept_, *model.coef_], beta, rtol=1e-6)


def feed(sums) -> None:
    newton = plain_newton("logistic", np.ones((30, 2)), np.zeros(30))
    for number in range(100):
        newton.update(sums(number)[: 2 if newton.score_alone else 6])


def test_sums_that_are_no_numbers_and_ways_without_an_end_are_typed_failures() -> None:
    with pytest.raises(ModelFailed, match="no finite numbers: check"):
        feed(lambda _: np.full(6, np.nan))
    # The score points the same way whatever the coefficients are.
    with pytest.raises(ModelFailed, match="grows without bound"):
        feed(lambda _: np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0]))
    with pytest.raises(ModelFailed, match="no convergence in 28 steps"):
        feed(lambda number: np.array([0.0, 0.02 * (-1) ** number, 1.0, 0.0, 1.0, 0.0]))


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (LogisticRegression(**ILL, covariates=["arm"]), "at least one must be a number with many values"),
        (LogisticRegression(**ILL, covariates=["age", "age"]), "name each once"),
        (LogisticRegression(**ILL, covariates=["age", "ill"]), "'ill' is the outcome"),
        (LogisticRegression(**ILL, covariates=["age", "height"]), "height"),
        (LogisticRegression(outcome="ill", event_category="maybe", covariates=["age"]), "must be one of no, yes"),
        (LogisticRegression(outcome="arm", event_category="A", covariates=["age"]), "must have two categories"),
        (LogisticRegression(covariates=["age"]), "name a column of two categories, or give horizon_days"),
        (LogisticRegression(horizon_days=10, covariates=["age"]), r"need a \[survival\] section"),
        (LinearRegression(outcome="ill", covariates=["age"]), "take kind 'logistic'"),
        (PoissonRegression(outcome="dose", covariates=["age"]), "must hold counts"),
        (PoissonRegression(outcome="visits", exposure="age", covariates=["dose"]), "lower bound above 0"),
        (PoissonRegression(outcome="visits", exposure="arm", covariates=["dose"]), "must be a number"),
        (PoissonRegression(outcome="visits", event_category="1", covariates=["age"]), "goes with an outcome of two"),
    ],
)
def test_what_a_table_does_not_allow_is_said_before_any_site_is_asked(model, rule) -> None:
    with pytest.raises(StudyError, match=rule):
        model.fit(SimulatedNetwork({}), job({"columns": CLINIC}, ("north", "south")))


def test_coefficients_of_all_exact_models_of_a_study_count_together() -> None:
    from synthema.learning.regression import LogisticSpec
    from synthema.pipeline import simulate

    table = simulated()
    table["ill"] = np.where(np.arange(200) < 12, "yes", "no")
    frames = thirds(table)
    asked = job({"columns": CLINIC}, tuple(frames))
    alone = asked.with_model("one", LogisticSpec(**ILL, covariates=("age", "dose")))
    assert simulate(alone, frames).released.models[0].answer["coefficients"]
    fields = {name: getattr(alone, name) for name in type(alone).model_fields}
    two = {"one": alone.models["one"], "two": LogisticSpec(**ILL, covariates=("age",))}
    both = type(alone)(**fields | {"models": two})
    # 12 events are enough for 3 coefficients, and not for 5.
    with pytest.raises(DisclosureRefused, match="5 coefficients need at least 16 patients"):
        simulate(both, frames)


def test_models_whose_counts_could_be_subtracted_stand_in_no_study_together() -> None:
    from synthema.learning.regression import LogisticSpec, PoissonSpec

    _, job = leukaemia()
    first = job.with_model("one", LogisticSpec(horizon_days=180, covariates=("age",)))
    fields = {name: getattr(first, name) for name in type(first).model_fields}
    for other in (
        LogisticSpec(horizon_days=365, covariates=("age",)),
        PoissonSpec(outcome="event", event_category="1", covariates=("age",)),
    ):
        with pytest.raises(ValueError, match="their counts could be subtracted"):
            type(first)(**fields | {"models": {"one": first.models["one"], "two": other}})


def test_beside_a_model_of_all_patients_those_lost_before_the_horizon_are_tested_too() -> None:
    from synthema.learning.exact_glm import site_half
    from synthema.learning.regression import LinearSpec, LogisticSpec

    frames, job = leukaemia()
    rows = pooled(frames)
    alone = job.with_model("one", LogisticSpec(horizon_days=365, covariates=("age", "sex")))
    fields = {name: getattr(alone, name) for name in type(alone).model_fields}
    other = LinearSpec(outcome="age", covariates=("wbc", "sex"))
    beside = type(alone)(**fields | {"models": {**alone.models, "two": other}})
    counts = [
        site_half(alone.models["one"], study, study.data_schema, rows).contribute("counts", None).values
        for study in (alone, beside)
    ]
    assert counts[1][: len(counts[0])].tolist() == counts[0].tolist()
    lost = (np.ceil(rows["time"]) < 365) & (rows["event"].astype(str) == "0")
    assert counts[1][len(counts[0]) :].tolist() == [(lost & (rows["sex"] == sex)).sum() for sex in ("F", "M")]


def test_a_picture_shows_every_effect_on_the_scale_of_its_model(arrests) -> None:
    chart = arrests.plot()
    assert chart.startswith("<svg")
    assert all(f">{name}</text>" in chart for name in COVARIATES)
    assert "age: 0.935 (0.891 to 0.981)" in chart
    assert "higher odds" in chart
    answer = json.loads(json.dumps(arrests.answer_)) | {"patients": 432, "residual_variance": "1.0", "r_squared": "0.5"}
    spec = LinearRegression(outcome="prio", covariates=["age"]).spec_
    linear = spec.chart(answer, key="k")
    assert "fin: -0.4373 (" in linear
    assert "higher mean" in linear


def test_columns_of_the_reference_are_those_of_the_schema() -> None:
    assert set(COLUMNS) == set(rossi().columns)
