"""Exact boosted trees: a site's half, and the fit over a network. See `boosting_exact`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthema.errors import DisclosureRefused, StudyError
from synthema.learning.boosting_exact import Course, Rules, SiteCourse, start_of
from synthema.learning.boosting_shares import open_level, open_rate, split_matrix
from synthema.learning.covariates import PARAMETER_RATIO
from synthema.learning.ensemble import compacted
from synthema.learning.model import Contribution, pooled
from synthema.learning.responses import outcome_within
from synthema.learning.rows import survival_of
from synthema.steps import total_coefficients

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from smpc import Session, SharePackage
    from synthema.learning.boosting import BoostedTreesSpec
    from synthema.learning.model import Rounds
    from synthema.study import Study


def known_rows(
    spec: BoostedTreesSpec, schema: Schema, rows: pd.DataFrame
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return codes, shape (covariates, n), and outcome, shape (n,), of the patients whose outcome is known."""
    codes = spec.features(schema).encode(rows)
    if spec.horizon_days is not None:
        known, died = outcome_within(*survival_of(schema, rows), spec.horizon_days)
        return np.ascontiguousarray(codes[:, known]), died[known]
    column = schema.column(str(spec.outcome))
    wanted = column.categories.index(str(spec.event_category))
    return codes, column.encode(rows[column.name].to_numpy()) == wanted


def rules_of(spec: BoostedTreesSpec, study: Study) -> Rules:
    """Return what a fit asks of splits."""
    return Rules(
        l2=spec.l2,
        min_leaf=spec.min_leaf,
        min_cell=spec.min_cell,
        min_gain=spec.min_gain,
        most_patients=study.largest_cohort * len(study.sites),
    )


class AtSite:
    """See `SiteHalf`."""

    def __init__(self, spec: BoostedTreesSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> None:
        if len(rows) > study.largest_cohort:
            raise StudyError(f"a site may hold at most {study.largest_cohort} patients (federation.most_patients)")
        codes, outcome = known_rows(spec, schema, rows)
        features = spec.features(schema)
        self._rows = SiteCourse(
            codes,
            outcome,
            course=Course(rounds=spec.rounds, depth=spec.depth),
            splits=features.splits(),
            sizes=features.sizes,
            learning_rate=spec.learning_rate,
        )
        self._started = False

    def contribute(self, what: str, opened: Any) -> Contribution:
        """See `SiteHalf`."""
        if self._started:
            self._rows.take(opened)
        self._started = True
        if self._rows.course.finished or what != self._rows.course.due:
            raise StudyError(f"boosted trees: no {what!r} is due")
        return Contribution(self._rows.counts() if what == "counts" else self._rows.histograms())


def fit(spec: BoostedTreesSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`. Without a split that is allowed and better than none, there is no tree: only the start."""
    study = rounds.study
    features, rules = spec.features(rounds.schema), rules_of(spec, study)
    splits = features.splits()
    matrix = split_matrix(splits, features.sizes)
    course = Course(rounds=spec.rounds, depth=spec.depth)
    least = math.ceil(total_coefficients(study) / PARAMETER_RATIO)

    async def count(session: Session, packages: Sequence[SharePackage]) -> list[int]:
        counts = pooled(session, packages, bound=rules.most_patients)
        rate = await open_rate(session, counts, least=least, most_patients=rules.most_patients)
        return [] if rate is None else [rate]

    async def level(session: Session, packages: Sequence[SharePackage]) -> list[list[int]]:
        histograms = pooled(session, packages, bound=rules.largest_sum)
        return await open_level(
            session, histograms, matrix, rules, first_size=features.sizes[0], last=course.is_last_level
        )

    found = rounds.run(course.due, count)
    if not found:
        raise DisclosureRefused(
            f"the trees were not grown: {total_coefficients(study)} leaves and coefficients need at least {least} "
            "patients with and without the event: ask for fewer rounds or less depth"
        )
    opened = int(found[0])
    course.take(opened)
    while not course.finished:
        opened = rounds.run(course.due, level, opened=opened)
        course.take(opened)
    ensemble = compacted(
        features, splits, course.trees, start=start_of(course.rate or 0), learning_rate=spec.learning_rate
    )
    return ensemble.to_json()
