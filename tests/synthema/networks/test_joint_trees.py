"""Boosted trees where each site is a process of its own behind a hub: the same as where all rows lie together."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from network_members import DEALER, SITES, LocalFederation, small_study

from synthema.learning import GradientBoosting
from synthema.learning.ensemble import Ensemble

sys.path.append(str(Path(__file__).parents[1] / "learning"))
import boosting_oracle as oracle


def test_trees_of_agents_with_a_dealer_are_those_of_the_pooled_rows(tmp_path: Path) -> None:
    federation = LocalFederation(tmp_path)
    federation.policies = {site: {"allow_exact": True} for site in SITES}
    federation.begin()
    try:
        asked = {"outcome": "sex", "event_category": "M", "covariates": ["age", "grade"], "rounds": 2, "depth": 2}
        model = GradientBoosting(**asked, learning_rate=0.5)
        job = small_study(federation={"dealer": DEALER, "most_patients": 1000}, synthesis=None, models={}).with_model(
            "trees", model.spec_
        )
        released = federation.run(job)["released"]
        [found] = released["models"]
        rows = pd.concat(list(federation.frames.values()), ignore_index=True)
        ensemble = Ensemble.from_json(found["answer"])
        codes = ensemble.features.encode(rows).T.astype(np.int64)
        y = (rows["sex"] == "M").to_numpy().astype(np.int64)
        start, trees = oracle.fit(codes, y, ensemble.features.columns, rounds=2, depth=2, learning_rate=0.5)
        assert ensemble.start == start
        assert len(trees) == 2
        assert all(oracle.same(a, b) for a, b in zip(oracle.plain(ensemble), trees, strict=True))
    finally:
        federation.close()
