"""An exact regression where each site is an agent of its own, and rows stay there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from regression_cases import irls

sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))
from network_members import DEALER, LocalFederation, small_study

from synthema.errors import StudyError
from synthema.learning.exact_glm import site_half
from synthema.learning.regression import LogisticSpec, PoissonSpec


@pytest.mark.parametrize("kind", ["logistic", "poisson"])
def test_a_model_over_the_network_is_that_of_the_pooled_rows(tmp_path: Path, kind: str) -> None:
    spec_class = {"logistic": LogisticSpec, "poisson": PoissonSpec}[kind]
    spec = spec_class(outcome="sex", event_category="M", covariates=("age", "grade"))
    federation = LocalFederation(tmp_path)
    federation.policies = {site: {"allow_exact": True} for site in federation.sites}
    federation.begin()
    try:
        study = small_study(synthesis=None, federation={"dealer": DEALER}, models={"sex": spec.model_dump()})
        [model] = federation.run(study)["released"]["models"]
    finally:
        federation.close()
    rows = [federation.frames[site] for site in federation.sites]
    x = np.concatenate(
        [
            np.column_stack([np.ones(len(table)), table["age"], table["grade"] == "mid", table["grade"] == "high"])
            for table in rows
        ]
    ).astype(float)
    y = np.concatenate([(table["sex"] == "M").to_numpy(dtype=float) for table in rows])
    beta, std_error = irls(kind, x, y)
    found = np.array([[float(number) for number in row[1:]] for row in model["answer"]["coefficients"]])
    np.testing.assert_allclose(found[:, 0], beta, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[:, 1], std_error, rtol=1e-6)


def test_a_site_gives_no_sums_that_are_not_due() -> None:
    spec = LogisticSpec(outcome="sex", event_category="M", covariates=("age",))
    study = small_study(synthesis=None, models={"sex": spec.model_dump()})
    federation = LocalFederation(Path())
    half = site_half(spec, study, study.data_schema, federation.frames["vienna"])
    for early in ("sums/1", "sums/2", "anything"):
        with pytest.raises(StudyError, match="is not due"):
            half.contribute(early, None)
    half.contribute("sums/0", None)
    with pytest.raises(StudyError, match="is not due"):
        half.contribute("sums/2", np.zeros(6, dtype=np.int64))
