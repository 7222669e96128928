"""Private regressions over networks: what they find, what they cost, and what they say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clinics import job, pooled
from private_clinics import SCHEMA, clinics

from privacy import epsilon_to_rho
from privacy.samplers import sample_discrete_gaussian
from synthema.errors import ModelFailed, StudyError
from synthema.learning import LinearRegression, LogisticRegression, PoissonRegression
from synthema.learning.noisy_sums import noise_of_rounds
from synthema.learning.private_glm import newton_of, site_half
from synthema.learning.private_parts import FRAC_BITS, part_of_round
from synthema.learning.private_rounds import ROUND_SHARES as SHARES
from synthema.learning.responses import patients_of
from synthema.steps import plan, private_rho
from synthema.submitters import SimulatedNetwork

SITES = ("vienna", "madrid", "milan")
PRIVATE = {"mode": "private", "budget_share": 1.0}
MODELS: dict[str, Any] = {
    "logistic": LogisticRegression(
        outcome="relapse", event_category="yes", covariates=["age", "marker", "sex"], **PRIVATE
    ),
    "linear": LinearRegression(outcome="platelets", covariates=["age", "marker", "sex"], **PRIVATE),
    "poisson": PoissonRegression(
        outcome="transfusions", exposure="months", covariates=["age", "marker", "sex"], **PRIVATE
    ),
}
# What the clinics' outcomes were drawn from; the Poisson rate is a month's.
TRUTH = {
    "logistic": (-2.6, 0.03, 0.05, 0.3),
    "linear": (180.0, -0.8, -2.0, 10.0),
    "poisson": (-2.2, 0.01, 0.02, -0.2),
}


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_fit_finds_the_truth_in_the_columns_own_units_and_charges_every_site(kind: str, tmp_path: Path) -> None:
    frames = clinics(4000, SITES)
    study = job(SCHEMA, SITES, epsilon=5.0)
    model = MODELS[kind].fit(SimulatedNetwork(frames, out=tmp_path), study)
    for (name, estimate, std_error), truth in zip(model.answer_["coefficients"], TRUTH[kind], strict=True):
        # 8 standard errors: a healthy fit fails once in 10^14 or so, and a wrong unit always.
        assert abs(float(estimate) - truth) < 8 * float(std_error), name
    assert abs(model.answer_["noisy_patients"] - 4000) < 8 * float(model.answer_["noisy_patients_std"])
    charged = {account["site"]: account for account in model.released_["accounts"]}
    assert set(charged) == set(SITES)
    for account in charged.values():
        assert 0.999 * epsilon_to_rho(5.0, 1e-6) < account["rho_spent"] <= epsilon_to_rho(5.0, 1e-6)
    if isinstance(model, LinearRegression):
        assert model.residual_variance_ == pytest.approx(900, rel=0.25)
    text = str(model.summary())
    assert "Differentially private" in text
    assert "sex = M" in text
    again = type(model).from_json(model.to_json())
    assert str(again.summary()) == text
    assert "<svg" in model.plot()
    assert model.predict(frames["milan"]).shape == (len(frames["milan"]),)
    # The same job again is the stored answer, at no charge.
    once_more = type(model)(**model.spec_.model_dump(exclude={"kind"})).fit(
        SimulatedNetwork(frames, out=tmp_path), study
    )
    assert once_more.answer_ == model.answer_
    assert {a["rho_spent"] for a in once_more.released_["accounts"]} == {a["rho_spent"] for a in charged.values()}


def test_real_leukaemia_patients_give_what_the_fit_of_all_rows_gives() -> None:
    from clinics import leukaemia

    frames, study = leukaemia(epsilon=8.0)
    model = LogisticRegression(horizon_days=365, covariates=["age", "sex", "wbc", "tpi"], **PRIVATE)
    model.fit(SimulatedNetwork(frames), study)
    rows = pooled(frames)
    x = np.column_stack([np.ones(len(rows)), rows["age"], rows["sex"] == "M", rows["wbc"], rows["tpi"]]).astype(float)
    y = ((rows["event"] == "1") & (rows["time"] <= 365)).to_numpy(dtype=float)
    known = (y == 1) | (rows["time"] >= 365).to_numpy()
    x, y, beta = x[known], y[known], np.zeros(5)
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ beta))
        beta = beta + np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x, x.T @ (y - p))
    for (name, estimate, std_error), plain in zip(model.answer_["coefficients"], beta, strict=True):
        assert abs(float(estimate) - plain) < 6 * float(std_error), name


def test_models_share_the_budget_and_together_cost_no_more_than_it() -> None:
    from synthema.joint_noise import rho_and_delta
    from synthema.study import Study

    fields = {"covariates": ["age", "sex"], "mode": "private"}
    study = Study.from_dict(
        {
            "study": {"name": "two", "purpose": "a test", "schema": SCHEMA},
            "budget": {"epsilon": 2.0, "delta": 1e-6},
            "sites": {site: {} for site in SITES},
            "models": {
                "a": {"kind": "logistic", "outcome": "relapse", "event_category": "yes", "budget_share": 0.6, **fields},
                "b": {"kind": "linear", "outcome": "platelets", "budget_share": 0.4, **fields},
            },
        }
    )
    prices = [rho_and_delta(step.event)[0] for step in plan(study)]
    assert len(prices) == 2
    assert sum(prices) <= private_rho(study)
    assert prices[0] == pytest.approx(0.6 * private_rho(study), rel=1e-3)


def test_agents_of_three_sites_fit_without_a_dealer_and_their_ledgers_show_it(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent / "networks"))
    from network_members import SITES as MEMBERS
    from network_members import LocalFederation, small_frames, small_study

    federation = LocalFederation(tmp_path)
    federation.frames = small_frames(400, MEMBERS)
    federation.begin()
    try:
        fields = {
            "kind": "logistic",
            "outcome": "sex",
            "event_category": "M",
            "covariates": ["age", "grade"],
            **PRIVATE,
        }
        bundle = federation.run(small_study("private", epsilon=8.0, models={"sex": fields}, synthesis=None))
        [model] = bundle["released"]["models"]
        # Sex is drawn without regard to the others.
        for name, estimate, std_error in model["answer"]["coefficients"]:
            assert abs(float(estimate)) < 8 * float(std_error), name
        spent = federation.spent()
        assert len(set(spent.values())) == 1
        assert 0.99 * epsilon_to_rho(8.0, 1e-6) < spent["milan"] <= epsilon_to_rho(8.0, 1e-6)
    finally:
        federation.close()


def test_what_is_not_due_is_not_given() -> None:
    frames = clinics(60, SITES)
    study = job(SCHEMA, SITES).with_model("m", MODELS["linear"].spec_)
    half = site_half(MODELS["linear"].spec_, study, study.data_schema, frames["milan"])
    with pytest.raises(StudyError, match="not due"):
        half.contribute("round/1", np.zeros(20, dtype=np.int64))
    assert half.contribute("round/0", None).values.shape == (8,)
    with pytest.raises(StudyError, match="not due"):
        half.contribute("round/0", None)


def test_a_failed_fit_is_charged_once_and_says_why(tmp_path: Path) -> None:
    frames = clinics(75, SITES)
    model = LogisticRegression(outcome="relapse", event_category="yes", covariates=["age", "sex"], **PRIVATE)
    with pytest.raises(ModelFailed, match="the noise is larger than the signal") as failed:
        model.fit(SimulatedNetwork(frames, out=tmp_path), job(SCHEMA, SITES, epsilon=0.3))
    # No number in it: what was opened is not told.
    assert not any(character.isdigit() for character in str(failed.value))


# --- beside one curator -----------------------------------------------------------------------------------------------

FITS = 200
# Standard deviation of the logarithm of a ratio of two root mean squares of so many fits of 4 coefficients, whose
# errors are correlated: at most that of one coefficient alone.
SPREAD = (1 / FITS) ** 0.5


def _errors(noise: str, study: Any, frames: dict[str, pd.DataFrame], *, more: float = 1.0) -> Any:
    """Errors against the fit without noise: what parties add in shares, or one curator's noise of the same variance."""
    spec = MODELS["logistic"].spec_
    priced = plan(study)[0].event
    random, rounds = np.random.default_rng(9), noise_of_rounds(priced, len(SHARES))
    everybody = patients_of(spec, study.data_schema, pooled(frames))
    exact = newton_of(spec, study, priced)
    while not exact.done:
        exact.update(part_of_round(exact.shape, exact.question, everybody) / 2**FRAC_BITS)
    centre, covariance = exact.on_bounds_scale()
    out = []
    for _ in range(FITS):
        newton = newton_of(spec, study, priced)
        for one in rounds:
            total = part_of_round(newton.shape, newton.question, everybody)
            if noise == "shares":
                for _ in study.compute_parties:
                    total = total + sample_discrete_gaussian(more * one.per_party_scale, len(total))
                newton.update(total / 2**FRAC_BITS)
            else:
                std = one.per_party_scale * len(study.compute_parties) ** 0.5
                newton.update((total + random.normal(0, std, len(total))) / 2**FRAC_BITS)
        out.append((newton.on_bounds_scale()[0] - centre) / np.sqrt(np.diag(covariance)))
    return np.array(out)


@pytest.mark.slow
def test_errors_are_those_of_one_curator_who_adds_as_much_noise() -> None:
    frames = clinics(600, SITES)
    study = job(SCHEMA, SITES, epsilon=4.0).with_model("m", MODELS["logistic"].spec_)
    joint, curator = (np.sqrt((_errors(kind, study, frames) ** 2).mean()) for kind in ("shares", "curator"))
    assert joint / curator < 1.02 * np.exp(3 * SPREAD)
    assert curator / joint < 1.02 * np.exp(3 * SPREAD)
    # Negative control: half as much noise again is seen.
    louder = np.sqrt((_errors("shares", study, frames, more=1.5) ** 2).mean())
    assert louder / curator > 1.02 * np.exp(3 * SPREAD)
