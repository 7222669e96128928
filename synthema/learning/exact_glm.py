"""Exact regressions on secret-shared sums, equal to the fit on the pooled rows.

In each step every site computes score, information and value at the current coefficients (`glm_sums`) and shares them
in fixed point; only their sums over all sites are opened, after the dominance rule was tested on shares. A linear model
takes one step, and its sums are the products of covariates and outcome. A Poisson model opens the total of events and
of exposure first: its intercept starts there.

What is opened are sums of known functions of the covariates. The first coefficients are not zero (`newton.start`), so
that no sum of a logistic or Poisson model is a count as it stands; but whoever sees the sums of several steps can
combine them into good estimates of counts by category, and round. So these counts are treated as known to the compute
parties, and are 0 or at least `min_cell`. Sums are rounded to 2^-28 or coarser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smpc import FIELD61, RING64, Session, SharePackage, concatenate
from synthema.errors import DisclosureRefused, StudyError
from synthema.learning import dominance
from synthema.learning.covariates import categorical
from synthema.learning.design import Column, Floats, design_of, encoded
from synthema.learning.families import FAMILIES
from synthema.learning.glm_sums import Encoding, SiteSums, distances, site_sums
from synthema.learning.model import Contribution, Rounds, SiteHalf, number_text, pooled
from synthema.learning.newton import Newton
from synthema.learning.responses import Patients, outcome_of, patients_from, response_of
from synthema.learning.tested_counts import cells_of, count_table, repeated_cells, why_not

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from synthema.learning.regression import RegressionSpec
    from synthema.study import Study

Ints = npt.NDArray[np.int64]


def fit(spec: RegressionSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`."""
    from synthema.steps import total_coefficients

    n_coefficients = total_coefficients(rounds.study)

    async def check(session: Session, packages: Sequence[SharePackage]) -> str:
        counts = pooled(session, packages, FIELD61)
        return await why_not(
            session,
            counts,
            family=FAMILIES[spec.kind],
            n_coefficients=n_coefficients,
            min_cell=spec.min_cell,
        )

    reason = rounds.run("counts", check)
    if reason:
        raise DisclosureRefused(f"the {spec.kind} model was not opened: {reason}")
    totals = None
    if spec.kind == "poisson":
        totals = _run_sums(spec, rounds, "totals", None, n_tested=0)
    newton, opened = newton_of(spec, rounds.study, totals), totals
    while not newton.converged:
        opened = _run_sums(spec, rounds, f"sums/{newton.iterations}", opened, n_tested=n_tested_of(newton))
        newton.update(newton.encoding.decode(opened))
    found = newton.fit()
    answer: dict[str, Any] = {
        **described(spec, rounds.schema),
        "iterations": found.iterations,
        "coefficients": [
            [name, number_text(estimate), number_text(std_error)]
            for name, estimate, std_error in zip(
                found.names, found.estimate.tolist(), found.std_error.tolist(), strict=True
            )
        ],
    }
    if found.log_likelihood is not None:
        answer["log_likelihood"] = number_text(found.log_likelihood)
    if found.residual_variance is not None and found.r_squared is not None:
        answer |= {
            "patients": found.n_patients,
            "residual_variance": number_text(found.residual_variance),
            "r_squared": number_text(found.r_squared),
        }
    return answer


def described(spec: RegressionSpec, schema: Schema) -> dict[str, Any]:
    """Return what an answer says of its terms: public, and enough to predict from rows."""
    return {
        "outcome": spec.of,
        "terms": [list(term) for term in design_of(schema, spec.covariates).terms],
        "levels": {column.name: list(column.categories) for column in categorical(schema, spec.covariates)},
    }


def lost_are_tested(spec: RegressionSpec, study: Study) -> bool:
    """Return whether patients who were lost before the horizon are counted too, as a third outcome.

    Another exact model of the study has them: its counts less this one's are theirs.
    """
    exact = [model for model in study.models.values() if model.mode == "exact"]
    return spec.has_horizon and not all(model.has_horizon for model in exact)


def site_half(spec: RegressionSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
    """See `ModelSpec.site_half`."""
    return _RegressionAtSite(spec, study, schema, rows)


def newton_of(spec: RegressionSpec, study: Study, totals: Ints | None) -> Newton:
    """Return the method at its start. `totals`: what a Poisson model opened first."""
    schema = study.data_schema
    log_rate = None
    if totals is not None:
        events, exposure = _of_totals(spec, study).decode(totals).tolist()
        log_rate = math.log(events / exposure)
    return Newton(
        FAMILIES[spec.kind],
        design_of(schema, spec.covariates),
        response_of(spec, schema),
        n_sites=len(study.sites),
        most_rows=study.largest_cohort * len(study.sites),
        log_rate=log_rate,
    )


def _of_totals(spec: RegressionSpec, study: Study) -> Encoding:
    largest = max(response_of(spec, study.data_schema).high, 1.0)
    return Encoding.of(largest, n_sites=len(study.sites), most_rows=study.largest_cohort * len(study.sites))


def _run_sums(spec: RegressionSpec, rounds: Rounds, what: str, opened: Ints | None, *, n_tested: int) -> Ints:
    async def protocol(session: Session, packages: Sequence[SharePackage]) -> Ints:
        return await open_undominated(session, packages, n_tested=n_tested)

    found: Ints = rounds.run(what, protocol, opened=opened)
    if not found.size:
        raise DisclosureRefused(
            f"the {spec.kind} model was not opened: {dominance.RULE}; narrow the bounds of a covariate, or leave it out"
        )
    return found


def n_tested_of(newton: Newton) -> int:
    """Return how many sums of distances are tested in the step that is due."""
    p = newton.design.n_coefficients
    return 2 * (p if newton.score_alone else p + p * (p + 1) // 2)


def step_here(newton: Newton, patients: Patients, *, with_value: bool = True) -> Ints:
    """Return what a site shares in the step that is due, as `open_undominated` takes it.

    `with_value`: also the value that tells whether a step was an improvement.
    """
    alone = newton.score_alone
    sums = site_sums(newton.family, patients, newton.beta, score_alone=alone)
    tested = distances(newton.family, patients, newton.beta, newton.design.numbers, score_alone=alone)
    opened = sums if alone or with_value else sums.without_value()
    return np.concatenate([newton.encoding.encode(opened), newton.encoding.encode_tested(*tested)])


async def open_undominated(session: Session, packages: Sequence[SharePackage], *, n_tested: int) -> Ints:
    """Open the sums of all sites if no patient dominates one of them, else nothing.

    Packages: `Encoding.encode`, and `n_tested` more sums that are tested and not opened, `Encoding.encode_tested`.
    """
    flat = [session.shared(package.expand(), RING64) for package in packages]
    parts = [each[: each.size - 2 * n_tested].reshape(3, -1) for each in flat]
    totals, largest = [part[1] for part in parts], [part[2] for part in parts]
    if n_tested:
        totals = [concatenate(s, each[-2 * n_tested : -n_tested]) for s, each in zip(totals, flat, strict=True)]
        largest = [concatenate(a, each[-n_tested:]) for a, each in zip(largest, flat, strict=True)]
    if await dominance.any_dominated(session, totals, largest):
        return np.zeros(0, dtype=np.int64)
    total = parts[0][0]
    for part in parts[1:]:
        total = total + part[0]
    opened: Ints = await session.open(total)
    return opened


class _RegressionAtSite:
    """See `SiteHalf`. The coefficients are moved here, from what was opened: nobody can ask for others."""

    def __init__(self, spec: RegressionSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> None:
        if len(rows) > study.largest_cohort:
            raise StudyError(f"the study allows at most {study.largest_cohort} patients at a site")
        self._spec, self._study, self._schema = spec, study, schema
        self._newton: Newton | None = None
        # Read once, as each of many rounds needs them.
        known, y = outcome_of(spec, schema, rows)
        columns = encoded(schema, rows, spec.covariates)
        self._patients = patients_from(spec, schema, rows, known=known, y=y, columns=columns)
        self._counts = _counts(spec, study, schema, known=known, y=y, columns=columns)

    def contribute(self, what: str, opened: Any) -> Contribution:
        if what == "counts":
            return Contribution.counts(self._counts)
        if what == "totals":
            y, offset = self._patients.y, self._patients.offset
            exposure = np.ones_like(y) if offset is None else np.exp(offset)
            sums = np.array([y.sum(), exposure.sum()])
            largest = np.array([y.max(initial=0.0), exposure.max(initial=0.0)])
            return Contribution(_of_totals(self._spec, self._study).encode(SiteSums(sums, sums, largest)))
        if self._newton is None:
            self._newton = newton_of(self._spec, self._study, opened)
        elif not self._newton.converged and what == f"sums/{self._newton.iterations + 1}":
            self._newton.update(self._newton.encoding.decode(opened))
        if self._newton.converged or what != f"sums/{self._newton.iterations}":
            raise StudyError(f"step of a {self._spec.kind} model: {what!r} is not due")
        return Contribution(step_here(self._newton, self._patients))


def _counts(
    spec: RegressionSpec,
    study: Study,
    schema: Schema,
    *,
    known: npt.NDArray[np.bool_],
    y: Floats,
    columns: Mapping[str, Column],
) -> Ints:
    here = {name: values[known] for name, values in columns.items()}
    counts = count_table(FAMILIES[spec.kind], here, schema, spec.covariates, y[known] > 0)
    if spec.kind == "poisson" and response_of(spec, schema).high > 1:
        counts = np.concatenate([counts, repeated_cells(here, schema, spec.covariates, y[known])])
    if not lost_are_tested(spec, study):
        return counts
    lost = {name: values[~known] for name, values in columns.items()}
    nothing = np.zeros(np.count_nonzero(~known), dtype=np.int64)
    return np.concatenate([counts, cells_of(lost, schema, spec.covariates, nothing)])
