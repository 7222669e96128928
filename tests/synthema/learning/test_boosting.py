"""Joint boosted trees: the pooled algorithm integer by integer; what is opened, and what it tells of a patient."""

from __future__ import annotations

import json
import math

import boosting_oracle as oracle
import numpy as np
import pandas as pd
import pytest
from clinics import job, leukaemia, pooled

from privacy import Schema
from privacy.errors import SchemaError
from synthema.errors import DisclosureRefused, SiteRefused, StudyError
from synthema.learning import GradientBoosting, boosting_exact
from synthema.learning.boosting import BoostedTreesSpec
from synthema.learning.boosting_exact import Course, gradients, largest_part
from synthema.learning.boosting_fit import AtSite
from synthema.learning.estimator import NotFitted
from synthema.learning.tree_splits import Features
from synthema.policy import SitePolicy
from synthema.submitters import SimulatedNetwork

SITES = ("vienna", "madrid", "milan")
SCHEMA = {
    "columns": {
        "age": {"kind": "integer", "bounds": [0, 100], "edges": list(range(10, 100, 10))},
        "marker": {"kind": "continuous", "bounds": [0, 10], "nullable": True},
        "grade": {"categories": ["low", "mid", "high"], "nullable": True},
        "sex": {"categories": ["F", "M"]},
        "relapse": {"categories": ["no", "yes"]},
    }
}
COVARIATES = ("age", "marker", "grade", "sex")
ASKED = {
    "outcome": "relapse",
    "event_category": "yes",
    "covariates": list(COVARIATES),
    "rounds": 3,
    "depth": 2,
    "max_bins": 6,
}


def simulated(n: int, seed: int) -> pd.DataFrame:
    """Patients whose risk has an interaction, missing values that matter, and a category that does."""
    random = np.random.default_rng(seed)
    age, marker = random.integers(0, 101, n), random.uniform(0, 10, n)
    grade = random.choice(["low", "mid", "high"], n)
    sex = random.choice(["F", "M"], n)
    missing = random.random(n) < 0.2
    logit = 0.04 * (age - 50) + (marker > 6) * (sex == "M") * 2 + (grade == "mid") * 1.2 + missing * 1.0 - 1
    happened = random.random(n) < 1 / (1 + np.exp(-logit))
    return pd.DataFrame(
        {
            "age": age,
            "marker": np.where(missing, np.nan, marker),
            "grade": np.where(random.random(n) < 0.1, None, grade),
            "sex": sex,
            "relapse": np.where(happened, "yes", "no"),
        }
    )


def clinic_frames(n: int = 150, seed: int = 0) -> dict[str, pd.DataFrame]:
    return {site: simulated(n, 100 * seed + i) for i, site in enumerate(SITES)}


def small_job(**changes):
    return job(SCHEMA, SITES, federation={"most_patients": 10_000}, **changes)


def pooled_codes(frames, model):
    rows = pooled(frames)
    codes = model.ensemble_.features.encode(rows).T.astype(np.int64)
    return codes, (rows["relapse"] == "yes").to_numpy().astype(np.int64)


def check_equal(model, frames, **rules):
    codes, y = pooled_codes(frames, model)
    start, trees = oracle.fit(codes, y, model.ensemble_.features.columns, **rules)
    assert model.ensemble_.start == start
    found = oracle.plain(model.ensemble_)
    assert len(found) == len(trees) > 0
    assert all(oracle.same(a, b) for a, b in zip(found, trees, strict=True))


@pytest.fixture(scope="module")
def fitted():
    frames = clinic_frames()
    return frames, GradientBoosting(**ASKED).fit(SimulatedNetwork(frames), small_job())


class TestExact:
    def test_it_is_the_pooled_algorithm_integer_by_integer(self, fitted) -> None:
        frames, model = fitted
        check_equal(model, frames, rounds=3, depth=2)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [1, 2])
    def test_deeper_trees_with_other_rules_are_too(self, seed: int) -> None:
        frames = clinic_frames(400, seed)
        asked = ASKED | {"rounds": 5, "depth": 3, "l2": 0.5, "min_leaf": 25, "min_gain": 2.0, "learning_rate": 0.7}
        model = GradientBoosting(**asked, min_cell=9).fit(SimulatedNetwork(frames), small_job())
        check_equal(model, frames, rounds=5, depth=3, l2=0.5, min_leaf=25, min_gain=2.0, learning_rate=0.7, min_cell=9)
        # Some nodes stay leaves before the last level.
        assert model.ensemble_.n_leaves < 8 * len(model.ensemble_.trees)

    def test_scores_are_those_of_the_trees_walked_one_patient_at_a_time(self, fitted) -> None:
        frames, model = fitted
        codes, _ = pooled_codes(frames, model)

        def walked(node, row):
            while not isinstance(node, int):
                (j, mask), left, right = node
                node = left if mask[row[j]] else right
            return node

        trees = oracle.plain(model.ensemble_)
        expected = [model.ensemble_.start + 0.1 * sum(walked(tree, row) for tree in trees) / 4096 for row in codes[:50]]
        found = model.decision_function(pooled(frames).head(50))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        proba = model.predict_proba(pooled(frames).head(50))
        np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-found)), atol=1e-12)
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        assert (model.predict(pooled(frames).head(50)) == (proba[:, 1] > 0.5)).all()

    def test_it_separates_patients_whom_it_has_not_seen(self, fitted) -> None:
        _, model = fitted
        new = simulated(2000, 77)
        y = (new["relapse"] == "yes").to_numpy().astype(int)
        # Three trees of two levels; an age-only ranking is below.
        assert oracle.area_under_curve(y, model.decision_function(new)) > 0.65

    def test_what_is_written_is_read_back(self, fitted) -> None:
        frames, model = fitted
        text = model.to_json()
        again = GradientBoosting.from_json(text)
        assert (again.decision_function(pooled(frames)) == model.decision_function(pooled(frames))).all()
        assert again.to_json() == text
        assert len(text) < 4000
        broken = json.loads(text)
        broken["answer"]["trees"][0][0] = 999
        with pytest.raises(StudyError, match="no ensemble"):
            GradientBoosting.from_json(json.dumps(broken))

    def test_importances_are_parts_of_the_splits(self, fitted) -> None:
        _, model = fitted
        counts = model.ensemble_.split_counts()
        np.testing.assert_allclose(model.feature_importances_, np.array(counts) / sum(counts))
        assert "Covariates" in str(model.summary())
        assert model.plot().startswith("<svg")

    def test_nothing_but_splits_values_and_the_rate_is_in_the_answer(self, fitted) -> None:
        _, model = fitted
        assert set(model.answer_) == {"covariates", "start", "learning_rate", "splits", "trees"}

    def test_a_site_where_all_have_one_outcome_is_a_site_like_others(self) -> None:
        frames = clinic_frames()
        frames["milan"] = frames["milan"].assign(relapse="no")
        asked = ASKED | {"rounds": 1}
        model = GradientBoosting(**asked).fit(SimulatedNetwork(frames), small_job())
        check_equal(model, frames, rounds=1, depth=2)

    def test_without_an_allowed_split_the_model_is_the_rate(self) -> None:
        frames = clinic_frames(60)
        asked = ASKED | {"rounds": 2, "min_leaf": 120}
        model = GradientBoosting(**asked).fit(SimulatedNetwork(frames), small_job())
        assert model.ensemble_.trees == ()
        assert model.feature_importances_.tolist() == [0, 0, 0, 0]
        rows = pooled(frames)
        share = (rows["relapse"] == "yes").mean()
        np.testing.assert_allclose(model.predict_proba(rows)[:, 1], share, atol=2**-12)
        assert "trees" in str(model.summary())
        assert model.plot().startswith("<svg")

    @pytest.mark.parametrize("outcome", ["no", "yes"])
    def test_one_outcome_for_all_is_refused(self, outcome: str) -> None:
        frames = {site: frame.assign(relapse=outcome) for site, frame in clinic_frames(50).items()}
        with pytest.raises(DisclosureRefused, match="at least 40 patients with and without"):
            GradientBoosting(**ASKED).fit(SimulatedNetwork(frames), small_job())

    def test_deaths_by_a_horizon_leave_out_whose_state_is_not_known(self) -> None:
        frames, study = leukaemia(federation={"most_patients": 1000})
        model = GradientBoosting(horizon_days=365, covariates=["age", "wbc"], rounds=2, depth=2)
        model.fit(SimulatedNetwork(frames), study)
        rows = pooled(frames)
        died = (rows["event"] == "1") & (np.ceil(rows["time"]) <= 365)
        known = died | (np.ceil(rows["time"]) >= 365)
        codes = model.ensemble_.features.encode(rows[known]).T.astype(int)
        start, trees = oracle.fit(
            codes, died[known].to_numpy().astype(int), model.ensemble_.features.columns, rounds=2, depth=2
        )
        assert start == model.ensemble_.start
        assert all(oracle.same(a, b) for a, b in zip(oracle.plain(model.ensemble_), trees, strict=True))


class TestWhatCannotBeAsked:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"covariates": ["age", "age"]}, "once"),
            ({"covariates": ["age", "relapse"]}, "is the outcome"),
            ({"event_category": "maybe"}, "no category"),
            ({"event_category": None}, "name outcome and event_category"),
            ({"horizon_days": 100}, "not both"),
            ({"covariates": ["sex"]}, "2 combinations of bins, fewer than the 12 leaves"),
            ({"outcome": "grade", "event_category": "low", "covariates": ["age", "marker"]}, "must not be nullable"),
            ({"min_leaf": 5}, "min_leaf"),
        ],
    )
    def test_it_is_refused_by_field_and_rule(self, changes, message) -> None:
        with pytest.raises(StudyError, match=message):
            small_job().with_model("trees", GradientBoosting(**(ASKED | changes)).spec_)

    def test_values_that_the_schema_does_not_know_are_refused_and_never_said(self, fitted) -> None:
        _, model = fitted
        row = simulated(1, 0)
        for column, value in (("sex", "diverse-17"), ("age", 117)):
            with pytest.raises(SchemaError, match=column) as caught:
                model.predict_proba(row.assign(**{column: value}))
            assert "17" not in str(caught.value)

    def test_an_estimator_that_is_not_fitted_says_so(self) -> None:
        with pytest.raises(NotFitted):
            GradientBoosting(**ASKED).predict(simulated(1, 0))

    @pytest.mark.parametrize(
        ("policy", "message"),
        [
            ({"min_leaf": 30}, "min_leaf must be at least 30"),
            ({"max_parameter_ratio": 0.1}, "leaves per patient"),
            ({"dominance": 0.5}, "raise min_leaf"),
            ({"max_levels": 2}, "grade has more categories"),
            ({"max_level_density": 0.04}, "0.04 categories per patient: raise min_leaf"),
        ],
    )
    def test_a_site_may_be_stricter(self, policy, message) -> None:
        spec, common = GradientBoosting(**ASKED).spec_, {"epsilon_cap": 1.0, "delta_cap": 1e-6}
        assert not list(spec.exact_rules(SitePolicy(**common), small_job()))
        [(_, rule)] = spec.exact_rules(SitePolicy(**common, **policy), small_job())
        assert message in rule

    def test_a_site_refuses_a_leaf_smaller_than_its_own(self) -> None:
        strict = {"epsilon_cap": 1.0, "delta_cap": 1e-6, "allow_exact": True, "min_leaf": 30}
        with pytest.raises(SiteRefused, match="min_leaf must be at least 30"):
            GradientBoosting(**ASKED).fit(SimulatedNetwork(clinic_frames(20)), small_job(policy=strict))

    def test_a_site_gives_what_is_due_and_nothing_else(self) -> None:
        spec = BoostedTreesSpec(**(ASKED | {"covariates": COVARIATES}))
        study = small_job()
        schema = Schema.from_dict(SCHEMA)
        with pytest.raises(StudyError, match="is due"):
            AtSite(spec, study, schema, simulated(50, 0)).contribute("tree-0/level-0", None)
        half = AtSite(spec, study, schema, simulated(50, 0))
        half.contribute("counts", None)
        with pytest.raises(StudyError, match="is due"):
            half.contribute("tree-1/level-0", 2000)
        with pytest.raises(StudyError, match="most_patients"):
            AtSite(spec, study, schema, simulated(10_001, 0))


class TestBounds:
    def test_of_values_and_dominance_hold_for_every_score(self) -> None:
        scores = np.concatenate([np.linspace(-9, 9, 20_001), [-40.0, 40.0]])
        for outcome in (False, True):
            g, h = gradients(scores, np.full(len(scores), outcome))
            # A leaf's |G| / H is at most that of its worst patient.
            assert (np.abs(g) < boosting_exact.LARGEST_VALUE * h).all()
            assert np.abs(g).max() <= 4096
            assert h.max() <= 1024
            part = np.abs(g).max() / (np.abs(g).max() + 19 * np.abs(g).min())
            assert part <= largest_part(20) <= 0.9
        # Without the cut, one patient could be nearly all of a leaf's sum.
        p = 1 / (1 + math.exp(9))
        assert (1 - p) / ((1 - p) + 19 * p) > 0.99

    def test_the_largest_cohorts_fit_the_words_of_the_protocol(self) -> None:
        from smpc import forecast
        from synthema.learning.boosting_exact import Rules
        from synthema.learning.boosting_shares import open_level, split_matrix
        from synthema.study import MOST_ROWS

        features = Features.of(Schema.from_dict(SCHEMA), COVARIATES, max_bins=6)
        splits = features.splits()
        matrix = split_matrix(splits, features.sizes)
        for l2 in (0.5, 1000.0):
            rules = Rules(l2=l2, min_leaf=1000, min_cell=20, min_gain=1000.0, most_patients=MOST_ROWS)

            async def protocol(session, histograms, rules=rules):
                [shared, *_] = await session.input(histograms, max_abs=rules.largest_sum)
                return await open_level(session, shared, matrix, rules, first_size=features.sizes[0], last=True)

            shape = (4, 4, sum(features.sizes))
            cost = forecast(protocol, inputs=[np.zeros(shape, dtype=np.int64)] * 3)
            assert cost.rounds < 60


class TestCourse:
    def test_levels_are_put_together_to_a_tree(self) -> None:
        course = Course(rounds=1, depth=2)
        assert course.due == "counts"
        course.take(2048)
        assert course.due == "tree-0/level-0"
        course.take([[3]])
        assert (course.due, course.active) == ("tree-0/level-1", (1, 2))
        course.take([[0, 7], [5, -1, 4]])
        assert course.finished
        assert course.trees == [[2, 7, [4, -1, 4]]]


def test_splits_follow_from_the_schema_and_say_what_they_do() -> None:
    features = Features.of(Schema.from_dict(SCHEMA), COVARIATES, max_bins=3)
    said = [" ".join(features.label(split)) for split in features.splits()]
    assert said == [
        "age below 30",
        "age below 70",
        "marker below 3.33333333333",
        "marker below 3.33333333333 or missing",
        "marker below 6.66666666667",
        "marker below 6.66666666667 or missing",
        "marker not missing",
        "grade low",
        "grade mid",
        "grade high",
        "grade not missing",
        "sex F",
    ]
    for column, mine in zip(features.columns, (2, 5, 4, 1), strict=True):
        assert len(oracle.side_masks(column)) == mine
    assert Features.from_dict(features.to_dict()) == features
