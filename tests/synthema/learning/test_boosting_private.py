"""Boosted trees with noise: sensitivity, price, the pooled algorithm without noise, and what noise does."""

from __future__ import annotations

import boosting_oracle as oracle
import numpy as np
import pytest
from clinics import job, pooled
from test_boosting import COVARIATES, SCHEMA, SITES, clinic_frames, simulated

from privacy import Schema
from privacy.events import Repeated
from synthema.errors import StudyError
from synthema.joint_noise import rho_and_delta
from synthema.learning import GradientBoosting
from synthema.learning.boosting import BoostedTreesSpec
from synthema.learning.boosting_private import LARGEST_PART, AtSite, NoisyCourse, leaves_of
from synthema.learning.noisy_sums import noise_of
from synthema.learning.tree_splits import Features
from synthema.submitters import SimulatedNetwork

PRIVATE = {
    "outcome": "relapse",
    "event_category": "yes",
    "covariates": list(COVARIATES),
    "mode": "private",
    "budget_share": 1.0,
}


def spec_of(**changes) -> BoostedTreesSpec:
    return GradientBoosting(**(PRIVATE | changes)).spec_


def test_one_patient_moves_every_sum_by_the_length_that_is_paid_for_at_most() -> None:
    spec, schema, random = spec_of(rounds=16), Schema.from_dict(SCHEMA), np.random.default_rng(0)
    rows = simulated(80, 3)
    with_all, without = AtSite(spec, schema, rows), AtSite(spec, schema, rows.iloc[:-1])
    course = NoisyCourse(spec, spec.features(schema))
    opened, moved = None, []
    while not course.finished:
        what = course.due
        difference = with_all.contribute(what, opened).values - without.contribute(what, opened).values
        assert np.count_nonzero(difference) == 1
        moved.append(int(np.abs(difference).sum()))
        # Whatever was opened before: noise of the size of the sums, so that scores go to where g is largest.
        opened = (100.0, random.integers(-300_000, 300_000, len(difference)).tolist())
        course.take(opened)
    assert max(moved) <= LARGEST_PART
    # The bound is met by counts, and nearly by sums of g.
    assert moved[: len(COVARIATES)] == [LARGEST_PART] * len(COVARIATES)
    assert max(moved[len(COVARIATES) :]) > 0.8 * LARGEST_PART
    with pytest.raises(StudyError, match="is due"):
        with_all.contribute("sums/3", opened)


def test_all_rounds_together_cost_what_the_study_gives() -> None:
    study, spec = job(SCHEMA, SITES), spec_of(rounds=30)
    event = spec.event(study, 0.02)
    assert isinstance(event, Repeated)
    assert event.count == len(COVARIATES) + 30
    assert rho_and_delta(event)[0] <= 0.02
    noise = noise_of(event)
    assert noise.l2_sensitivity_squared == LARGEST_PART**2
    assert noise.dimension >= max(spec.features(study.data_schema).sizes)
    half = spec.event(study, 0.01)
    assert noise_of(half).per_party_scale > noise.per_party_scale


def test_with_hardly_any_noise_it_is_the_pooled_algorithm() -> None:
    frames = clinic_frames(300)
    study = job(SCHEMA, SITES, epsilon=100.0, policy={"epsilon_cap": 100.0, "delta_cap": 1e-5})
    model = GradientBoosting(**PRIVATE, rounds=12, max_bins=5).fit(SimulatedNetwork(frames), study)
    # The noise in a sum is half a patient.
    std = float(model.answer_["noise_std"])
    assert std < 0.7
    rows = pooled(frames)
    features = model.ensemble_.features
    codes, y = features.encode(rows).astype(int), (rows["relapse"] == "yes").to_numpy().astype(int)
    values = [np.zeros(size) for size in features.sizes]
    for number in range(4, 16):
        j = number % 4
        score = 0.4 * sum(value[code] for value, code in zip(values, codes, strict=True))
        p = 1 / (1 + np.exp(-np.clip(score, -5, 5)))
        leaf = leaves_of(features.columns[j], round_number=number, most=4)
        for k in range(leaf.max() + 1):
            inside = leaf[codes[j]] == k
            step = np.clip((y - p)[inside].sum() / (inside.sum() / 4 + std + 1), -2, 2)
            values[j][leaf == k] += step
    score = 0.4 * sum(value[code] for value, code in zip(values, codes, strict=True))
    np.testing.assert_allclose(model.decision_function(rows), score, atol=0.1)
    # Scores differ by much more than that.
    assert score.std() > 0.7


def test_noise_is_what_the_budget_says_and_takes_the_model_away_when_there_is_none() -> None:
    frames, new = clinic_frames(1500), simulated(3000, 99)
    y = (new["relapse"] == "yes").to_numpy().astype(int)
    areas = {}
    for epsilon in (3.0, 0.002):
        study = job(SCHEMA, SITES, epsilon=epsilon, policy={"epsilon_cap": 3.0, "delta_cap": 1e-5})
        model = GradientBoosting(**PRIVATE).fit(SimulatedNetwork(frames), study)
        areas[epsilon] = oracle.area_under_curve(y, model.decision_function(new))
        [step] = model.released_["steps"]
        assert step["kind"] == "private"
        noise = noise_of(spec_of().event(study, step["rho"] * (1 + 1e-9)))
        assert float(model.answer_["noise_std"]) == pytest.approx(
            noise.per_party_scale * np.sqrt(3) / LARGEST_PART, rel=1e-3
        )
    assert areas[3.0] > 0.72
    assert areas[0.002] < areas[3.0] - 0.02
    assert len(model.ensemble_.trees) == 4
    np.testing.assert_allclose(model.feature_importances_.sum(), 1)
    again = GradientBoosting.from_json(model.to_json())
    assert (again.decision_function(new) == model.decision_function(new)).all()


def test_leaves_are_public_cover_all_codes_and_change_from_round_to_round() -> None:
    features = Features.of(Schema.from_dict(SCHEMA), COVARIATES, max_bins=10)
    for column in features.columns:
        drawn = [leaves_of(column, round_number=number, most=4) for number in range(20)]
        n_known = column.n_codes - column.nullable
        for leaves in drawn:
            assert sorted(set(leaves.tolist())) == list(range(min(4, n_known) + column.nullable))
            if not column.categories:
                assert (np.diff(leaves) >= 0).all()
            if column.nullable:
                assert (leaves == leaves[-1]).sum() == 1
        assert (len({tuple(leaves) for leaves in drawn}) > 10) == (n_known > 4)
    # Every edge is a cut now and then.
    cuts = np.sum([np.diff(leaves_of(features.columns[0], round_number=r, most=4)) for r in range(60)], axis=0)
    assert cuts.min() > 0
