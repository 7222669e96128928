"""Rounds of a model's step in this process: the sites' halves and the parties' protocols as they are, no agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from privacy import Schema
from smpc import run_local, share
from synthema.learning.model import ModelSpec, Rounds
from synthema.study import Study


class LocalRounds(Rounds):
    """`fit` over this; `answers` holds what every round opened, by name, and `costs` what it took."""

    def __init__(self, study: Study, frames: Mapping[str, pd.DataFrame], event: Any = None) -> None:
        [(_, spec)] = study.models.items()
        self.study, self.spec, self.event = study, spec, event
        self._halves = [spec.site_half(study, self.schema, rows) for rows in frames.values()]
        self.answers: dict[str, Any] = {}
        self.costs: dict[str, Any] = {}

    @property
    def schema(self) -> Schema:
        return self.study.data_schema

    def run(self, what: str, protocol: Any, *, opened: Any = None) -> Any:
        given = [half.contribute(what, opened) for half in self._halves]
        n_parties = len(self.study.compute_parties)
        packages = [share(each.values, n_parties, domain=each.domain) for each in given]
        done = run_local(protocol, inputs=list(zip(*packages, strict=True)))
        for other in done.results[1:]:
            np.testing.assert_array_equal(other, done.results[0])
        self.answers[what], self.costs[what] = done.results[0], done.cost
        return done.results[0]


def fitted(job: Study, spec: ModelSpec, frames: Mapping[str, pd.DataFrame]) -> tuple[dict[str, Any], LocalRounds]:
    """Fit a model of pooled rows that no party has; return the answer, and the rounds."""
    rounds = LocalRounds(job.with_model("model", spec), frames)
    return spec.fit(rounds), rounds
