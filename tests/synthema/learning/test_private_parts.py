"""What a patient adds to a private regression's sums is bounded, whoever it is, and the price is that bound's."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from private_clinics import SCHEMA, made_up, stds_of

from privacy import Composed, DistributedDiscreteGaussian, InsecureSeededRng, epsilon_to_rho, rho_of
from privacy.auditing import audit_scores
from privacy.samplers import sample_discrete_gaussian
from synthema.learning.noisy_sums import noise_of_rounds
from synthema.learning.private_glm import event
from synthema.learning.private_parts import FRAC_BITS, length_bound, part_of_round, quantised, vectors
from synthema.learning.private_questions import Shape, Sizes, Step
from synthema.learning.private_rounds import ROUND_SHARES as SHARES
from synthema.learning.private_rounds import PrivateNewton
from synthema.learning.regression import LinearSpec, LogisticSpec, PoissonSpec
from synthema.learning.responses import Patients
from synthema.study import Study

KINDS = ("logistic", "linear", "poisson")


def _extreme(shape: Shape) -> Patients:
    """Every corner of what the schema allows, with the least and the greatest outcome."""
    p = shape.p
    corners = np.array([(1.0, *each) for each in itertools.product((-1.0, 0.0, 1.0), repeat=p - 1)])
    categories = [j for j in range(1, p) if j not in shape.numbers]
    corners = corners[(corners[:, categories] >= 0).all(axis=1)]
    outcomes = (-1.0, 1.0) if shape.kind == "linear" else (0.0, shape.response.high)
    y = np.repeat(outcomes, len(corners))
    return Patients(np.tile(corners, (2, 1)), y, None)


def _questions(shape: Shape, patients: Patients, seed: int) -> list[Sizes | Step]:
    """The questions of a fit with a lot of noise: what is public may come out in any way."""
    random = np.random.default_rng(seed)
    newton, out = PrivateNewton(shape, stds_of(1.0)), []
    while not newton.done:
        out.append(newton.question)
        total = vectors(shape, newton.question, patients).sum(axis=0)
        newton.update(total + random.normal(0, 30.0, len(total)))
    return out


@settings(max_examples=12, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32 - 1))
def test_no_patient_adds_more_than_length_one_whatever_was_opened_before(kind: Any, seed: int) -> None:
    shape, patients, _ = made_up(kind, 2000, np.random.default_rng(seed))
    everybody = _extreme(shape)
    for question in _questions(shape, patients, seed):
        rows = vectors(shape, question, everybody)
        assert rows.shape[1] == shape.dimension(0 if isinstance(question, Sizes) else 1)
        assert (np.linalg.norm(rows, axis=1) <= 1 + 1e-12).all()
        # The bound is used: somebody comes near it, so that noise is not paid for nothing.
        assert np.linalg.norm(rows, axis=1).max() > 0.5
        l1, l2_squared = length_bound(rows.shape[1])
        for i in range(0, len(everybody.y), 7):
            # Neighbours: the table with one patient more. As Python integers: exact.
            more = Patients(
                np.vstack([patients.x[:50], everybody.x[i]]), np.append(patients.y[:50], everybody.y[i]), None
            )
            fewer = Patients(patients.x[:50], patients.y[:50], None)
            change = (part_of_round(shape, question, more) - part_of_round(shape, question, fewer)).tolist()
            assert sum(each * each for each in change) <= l2_squared
            assert sum(map(abs, change)) <= l1


def test_a_row_that_is_too_long_counts_for_nothing() -> None:
    rows = np.array([[0.6, 0.8], [0.61, 0.8], [np.nan, 0.0], [np.inf, 0.0], [-1.0, 0.0]])
    assert quantised(rows).tolist() == [round(-0.4 * 2**FRAC_BITS), round(0.8 * 2**FRAC_BITS)]
    # Rounding by half of one in every entry is within the bound.
    assert quantised(np.full((1, 4), 0.5)).tolist() == [2 ** (FRAC_BITS - 1)] * 4


def test_sums_do_not_depend_on_how_many_rows_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from synthema.learning import private_parts

    shape, patients, _ = made_up("poisson", 1000, np.random.default_rng(0))
    offset = np.log(np.linspace(0.1, 1, 1000))
    question = _questions(shape, patients, 1)[1]
    whole = part_of_round(shape, question, Patients(patients.x, patients.y, offset))
    monkeypatch.setattr(private_parts, "_AT_ONCE", 700)
    assert np.array_equal(part_of_round(shape, question, Patients(patients.x, patients.y, offset)), whole)


def _study(m: int = 1, **changes: Any) -> Study:
    return Study.from_dict(
        {
            "study": {"name": "job", "purpose": "a test", "schema": SCHEMA, "max_sites_per_patient": m},
            "budget": {"epsilon": 2.0, "delta": 1e-6},
            "sites": {"a": {}, "b": {}, "c": {}},
            "models": {},
            **changes,
        }
    )


@pytest.mark.parametrize(
    "spec",
    [
        LogisticSpec(
            outcome="relapse", event_category="yes", covariates=("age", "sex"), mode="private", budget_share=1.0
        ),
        LinearSpec(outcome="platelets", covariates=("age", "marker"), mode="private", budget_share=1.0),
        PoissonSpec(outcome="transfusions", exposure="months", covariates=("sex",), mode="private", budget_share=1.0),
    ],
)
def test_the_event_costs_what_the_model_may_spend_and_is_of_the_integers_sensitivity(spec: Any) -> None:
    for m in (1, 2):
        priced = event(spec, _study(m), 0.05)
        assert isinstance(priced, Composed)
        assert 0.05 * (1 - 1e-3) < rho_of(priced) <= 0.05
        for one in noise_of_rounds(priced, len(SHARES)):
            assert isinstance(one, DistributedDiscreteGaussian)
            assert one.l2_sensitivity_squared == m * m * length_bound(one.dimension)[1]
            assert one.l1_sensitivity == m * length_bound(one.dimension)[0]


# --- the adversary ----------------------------------------------------------------------------------------------------

RUNS = 3000
EPSILON = 1.0
# A larger budget for the sharper question, what Gaussian law the noise has: halved noise shows there.
GENEROUS = 10.0


def _audit(epsilon: float, *, noise: float = 1.0, clipped: bool = True) -> Any:
    """The worst patient against all others, before parties of which one colludes: it knows all but two parties' noise.

    The coalition sees all rounds, and knows every patient but the one: its score is the likelihood ratio's.
    """
    shape, patients, _ = made_up("linear", 400, np.random.default_rng(3))
    worst = _extreme(shape)
    questions = _questions(shape, patients, 5)
    spec = LinearSpec(
        outcome="platelets", covariates=("age", "marker", "sex", "relapse"), mode="private", budget_share=1
    )
    priced = noise_of_rounds(event(spec, _study(), epsilon_to_rho(epsilon, 1e-6)), len(SHARES))
    rng = InsecureSeededRng(11)
    scores = np.zeros((2, RUNS))
    for question, one in zip(questions, priced, strict=True):
        rows = vectors(shape, question, worst)
        i = int(np.linalg.norm(rows, axis=1).argmax())
        one_patient = Patients(worst.x[i : i + 1], worst.y[i : i + 1], None)
        added = part_of_round(shape, question, one_patient)
        if not clipped and isinstance(question, Step):
            added = np.rint(_unclipped(shape, question, one_patient) * 2**FRAC_BITS)
        others = part_of_round(shape, question, patients)
        assert one.dimension == len(others)
        for inside in (0, 1):
            drawn = sum(
                sample_discrete_gaussian(one.per_party_scale * noise, RUNS * one.dimension, rng=rng)
                for _ in range(one.n_honest)
            )
            seen = others + inside * added + np.reshape(drawn, (RUNS, one.dimension))
            scores[inside] += (seen - others) @ (added / one.per_party_scale**2)
    return audit_scores(scores[1], scores[0], delta=1e-6)


def _unclipped(shape: Shape, step: Step, patient: Patients) -> Any:
    """The patient's vector in the round's units, as it would be if every weight were one."""
    far = replace(step, score_clip=1e9 * step.score_clip, information_clip=1e9 * step.information_clip)
    return 1e9 * vectors(shape, far, patient)[0]


def test_an_adversary_learns_no_more_of_the_worst_patient_than_was_paid_for() -> None:
    assert _audit(EPSILON).epsilon_lower <= EPSILON
    claimed = np.sqrt(2 * epsilon_to_rho(GENEROUS, 1e-6))
    found = _audit(GENEROUS)
    # The audit is near the claim, so it would see a mistake.
    assert 0.8 * claimed < found.gaussian_dp_lower <= claimed
    # Negative controls.
    assert _audit(GENEROUS, noise=0.5).gaussian_dp_lower > claimed
    assert _audit(EPSILON, clipped=False).epsilon_lower > EPSILON
