"""Training jointly and on synthetic patients, beside the pooled model; and models of tables in one pair of hands."""

from __future__ import annotations

import json

import pytest
from clinics import leukaemia, pooled

from synthema.errors import ModelFailed, StudyError
from synthema.learning import LogisticRegression, TableOne
from synthema.learning.here import fit_here
from synthema.learning.training import compare_training
from synthema.study import Synthesis
from synthema.submitters import SimulatedNetwork

POLICY = {"epsilon_cap": 10.0, "delta_cap": 1e-5, "allow_exact": True}


def _model() -> LogisticRegression:
    return LogisticRegression(horizon_days=365, covariates=["age", "sex", "wbc", "tpi"])


def test_each_way_is_shown_beside_the_pooled_model_and_the_page_is_internal() -> None:
    frames, job = leukaemia(epsilon=8.0, policy=POLICY)
    network = SimulatedNetwork(frames)
    found = compare_training(_model(), network, job, frames, synthesis=Synthesis(rows=1000, mechanism="chow-liu"))
    joint, synthetic = found.ways
    # At epsilon 8 the noise is small beside the chance of sampling; a wrong sign or scale would be many errors off.
    assert joint.distance is not None
    assert joint.distance < 2
    assert synthetic.distance is not None or synthetic.failure
    page = found.to_html()
    assert "INTERNAL" in page
    assert "Trained on synthetic patients" in page
    assert json.loads(found.to_json())["terms"][0] == "intercept"
    assert "synthetic" in str(found)


def test_a_model_here_is_that_of_a_federation() -> None:
    frames, job = leukaemia()
    federated = _model().fit(SimulatedNetwork(frames), job).answer_
    here = fit_here(_model().spec_, job, {"all": pooled(frames)})
    for (term, *one), (other, *two) in zip(federated["coefficients"], here["coefficients"], strict=True):
        assert term == other
        assert [float(each) for each in one] == pytest.approx([float(each) for each in two], rel=1e-6)


def test_what_cannot_be_compared_is_refused() -> None:
    frames, job = leukaemia(policy=POLICY)
    private = LogisticRegression(horizon_days=365, covariates=["age"], mode="private", budget_share=1.0)
    wanted = Synthesis(rows=100)
    with pytest.raises(StudyError, match="only exact"):
        compare_training(private, SimulatedNetwork(frames), job, frames, synthesis=wanted)
    with pytest.raises(StudyError, match="no coefficients"):
        compare_training(TableOne(columns=["age"]), SimulatedNetwork(frames), job, frames, synthesis=wanted)


def test_a_synthetic_table_that_no_model_fits_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from synthema.learning import training

    frames, job = leukaemia(policy=POLICY)
    fit = training.fit_here

    def fails_on_synthetic(spec, job, tables):
        if "synthetic" in tables:
            raise ModelFailed("the outcome is separated")
        return fit(spec, job, tables)

    monkeypatch.setattr(training, "fit_here", fails_on_synthetic)
    found = compare_training(_model(), SimulatedNetwork(frames), job, frames, synthesis=Synthesis(rows=100))
    assert found.ways[1].failure == "the outcome is separated"
    assert "the outcome is separated" in found.to_html()
