"""A Cox regression where each site is an agent of its own: what is opened comes to all."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from clinics import pooled
from cox_cases import EXACT_TIMES, SCHEMA, SITES, frames, maximum, raw_design

sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))
import network_members
from network_members import DEALER, LocalFederation

from synthema.study import Study


@pytest.mark.slow
def test_a_model_over_the_network_is_that_of_the_pooled_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_members, "SCHEMA", SCHEMA)
    federation = LocalFederation(tmp_path, sites=SITES)
    federation.frames = frames()
    federation.policies = {site: dict(EXACT_TIMES) for site in SITES}
    model = {"kind": "cox", "covariates": ["dose", "age"], "grid_days": 1, "max_ties": 64}

    study = Study.from_dict(
        {
            "study": {"name": "hazard", "purpose": "a test of networks", "schema": SCHEMA},
            "budget": {"epsilon": 5.0, "delta": 1e-6},
            "sites": {site: {} for site in SITES},
            "federation": {"dealer": DEALER},
            "models": {"hazard": model},
        }
    )
    federation.begin()
    try:
        [released] = federation.run(study)["released"]["models"]
    finally:
        federation.close()
    rows = pooled(federation.frames)
    died, stratum = (rows["died"] == "1").to_numpy(), np.zeros(len(rows), dtype=int)
    x = raw_design(rows, ("dose", "age"))
    estimate, error, value = maximum(x, rows["days"].to_numpy(), died, stratum, "efron")
    found = np.array([[float(number) for number in row[1:]] for row in released["answer"]["coefficients"]])
    np.testing.assert_allclose(found[:, 0], estimate, rtol=0, atol=1e-7)
    np.testing.assert_allclose(found[:, 1], error, rtol=1e-6)
    assert float(released["answer"]["log_likelihood"]) == pytest.approx(value, abs=1e-5)
