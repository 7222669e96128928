"""Hospitals for tests of joint models: jobs without models, and the pooled rows that an answer is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from synthema.demo import demo_frames, demo_study
from synthema.study import Study

# A policy that allows what these tests ask for; sites' own rules are tested in tests/synthema/governance.
OPEN_POLICY = {"epsilon_cap": 10.0, "delta_cap": 1e-5, "allow_exact": True, "min_grid_days": 30}


def job(
    schema: Any,
    sites: tuple[str, ...],
    *,
    name: str = "job",
    epsilon: float = 5.0,
    delta: float = 1e-6,
    policy: Mapping[str, Any] = OPEN_POLICY,
    **sections: Any,
) -> Study:
    """A study without models: what an estimator's `fit` takes."""
    return Study.from_dict(
        {
            "study": {"name": name, "purpose": "a test of joint models", "schema": schema},
            "budget": {"epsilon": epsilon, "delta": delta},
            "sites": {site: {"policy": dict(policy)} for site in sites},
            "models": {},
            **sections,
        }
    )


def leukaemia(**changes: Any) -> tuple[dict[str, pd.DataFrame], Study]:
    """The packaged patients at their five hospitals, and a job about them."""
    frames = demo_frames()
    return frames, job(demo_study().data_schema, tuple(frames), **changes)


def pooled(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All rows together: what no site and no party ever has."""
    return pd.concat(list(frames.values()), ignore_index=True)
