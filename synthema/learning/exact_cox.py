"""Cox's model, exact: equal to the fit on the pooled rows; only total score and information are opened.

First, on shares: there are enough deaths for all coefficients of the study's exact models, every cell of the table of
death and categories holds 0 or at least `min_cell` patients, and every stratum has deaths. Then, in each Newton step,
the sums at risk (`cox_sums`, `cox_shares`); at the end, the log-likelihood.

Sums at risk are what would publish patients: two of them at neighbouring times differ by those who left in between, on
a grid of days often by one patient. They stay on shares, and so do the numbers of deaths at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smpc import FIELD61, FixedPoint, Session, Shared, SharePackage, small_cells
from synthema.errors import DisclosureRefused, StudyError
from synthema.learning import cox_shares, dominance
from synthema.learning.covariates import PARAMETER_RATIO, categorical
from synthema.learning.cox import LEAST_TIMES
from synthema.learning.cox_newton import CoxNewton
from synthema.learning.cox_sums import (
    FRAC_BITS,
    Patients,
    cells_of,
    contribution,
    patients_of,
    value_contribution,
)
from synthema.learning.design import design_of, encoded
from synthema.learning.model import Contribution, Rounds, SiteHalf, number_text, pooled
from synthema.learning.tested_counts import cells_of as counts_of_cells

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from synthema.learning.cox import CoxSpec
    from synthema.study import Study

Ints = npt.NDArray[np.int64]

_REFUSED = "Cox's model was not opened: "


def fit(spec: CoxSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`."""
    from synthema.steps import total_coefficients

    study, schema = rounds.study, rounds.schema
    n_strata, n_coefficients = cells_of(spec, schema).n_strata, total_coefficients(study)

    async def check(session: Session, packages: Sequence[SharePackage]) -> str:
        counts = pooled(session, packages, FIELD61)
        return await why_not(session, counts, n_strata=n_strata, n_coefficients=n_coefficients, min_cell=spec.min_cell)

    reason = rounds.run("counts", check)
    if reason:
        raise DisclosureRefused(_REFUSED + reason)
    newton, opened = newton_of(spec, study), None
    while not newton.converged:
        plan = plan_of(spec, study, newton)

        async def step(session: Session, packages: Sequence[SharePackage], plan: cox_shares.Plan = plan) -> Ints:
            return await cox_shares.open_step(session, packages, plan)

        opened = _not_refused(spec, rounds.run(f"sums/{newton.iterations}", step, opened=opened))
        newton.update(_decoded(opened, newton.frac_bits))
    plan = plan_of(spec, study, newton)

    async def value(session: Session, packages: Sequence[SharePackage]) -> Ints:
        return await cox_shares.open_value(session, packages, plan)

    log_likelihood = _decoded(_not_refused(spec, rounds.run("value", value, opened=opened)), FRAC_BITS)[0]
    found = newton.fit()
    return described(spec, schema) | {
        "coefficients": [
            [name, number_text(estimate), number_text(std_error)]
            for name, estimate, std_error in zip(
                found.names, found.estimate.tolist(), np.sqrt(np.diag(found.covariance)).tolist(), strict=True
            )
        ],
        "covariance": [[number_text(each) for each in row] for row in found.covariance.tolist()],
        "log_likelihood": number_text(float(log_likelihood)),
        "iterations": found.iterations,
    }


def described(spec: CoxSpec, schema: Schema) -> dict[str, Any]:
    """Return what an answer says of its terms: public, and enough to predict from rows."""
    return {
        "terms": [list(term) for term in design_of(schema, spec.covariates).terms],
        "levels": {column.name: list(column.categories) for column in categorical(schema, spec.covariates)},
    }


def newton_of(spec: CoxSpec, study: Study) -> CoxNewton:
    """Return the method at its start."""
    design = design_of(study.data_schema, spec.covariates)
    return CoxNewton(design, most_rows=study.largest_cohort * len(study.sites))


def plan_of(spec: CoxSpec, study: Study, newton: CoxNewton) -> cox_shares.Plan:
    """Return what is public of the next step."""
    most_rows = study.largest_cohort * len(study.sites)
    return cox_shares.Plan(
        cells=cells_of(spec, study.data_schema),
        p=spec.n_coefficients(study.data_schema),
        ties=spec.ties,
        max_ties=min(spec.max_ties, most_rows),
        encoding=newton.encoding,
        frac_bits=newton.frac_bits,
        score_alone=newton.score_alone,
        n_sites=len(study.sites),
        most_rows=most_rows,
    )


async def why_not(session: Session, counts: Shared, *, n_strata: int, n_coefficients: int, min_cell: int) -> str:
    """Return why the model may not be opened, or "" if it may. Opens one yes/no per tested count.

    Parameters
    ----------
    counts
        Shares in FIELD61: deaths, deaths in each stratum, and the table of death, categories and strata.
    """
    least = math.ceil(n_coefficients / PARAMETER_RATIO)
    # +1 makes an outcome that nobody had count as too rare as well.
    if (await small_cells(session, counts[:1] + 1, threshold=least + 1)).any():
        return f"{n_coefficients} coefficients need at least {least} deaths: leave covariates out"
    if n_strata > 1 and (await small_cells(session, counts[1 : 1 + n_strata] + 1, threshold=2)).any():
        return (
            "an empty stratum: in one of them nobody dies; merge it with another one, or take its column as covariate"
        )
    if (await small_cells(session, counts[1 + n_strata :], threshold=min_cell)).any():
        return f"a cell of death and categories holds 1 to {min_cell - 1} patients: merge rare categories"
    return ""


def site_half(spec: CoxSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
    """See `ModelSpec.site_half`."""
    return _CoxAtSite(spec, study, schema, rows)


def _not_refused(spec: CoxSpec, opened: Ints) -> Ints:
    if len(opened) > 1:
        return opened
    match int(opened[0]):
        case cox_shares.TOO_MANY_TIES:
            raise DisclosureRefused(
                f"{_REFUSED}at some time of the grid more than {spec.max_ties} patients die; raise max_ties, take a "
                "finer grid, or ties 'breslow'"
            )
        case cox_shares.HEAVY_TIES:
            raise DisclosureRefused(
                f"{_REFUSED}at some time of the grid nearly all patients at risk die; take a finer grid, or ties "
                "'breslow'"
            )
        case cox_shares.TOO_FEW_TIMES:
            raise DisclosureRefused(
                f"{_REFUSED}deaths fall on fewer than {LEAST_TIMES} times of the grid; take a finer grid"
            )
        case _:
            raise DisclosureRefused(f"{_REFUSED}{dominance.RULE}; narrow the bounds of a covariate, or leave it out")


def _decoded(opened: Ints, frac_bits: int) -> npt.NDArray[np.float64]:
    return FixedPoint(frac_bits).decode(np.asarray(opened)[:-1])


class _CoxAtSite:
    """See `SiteHalf`. The coefficients are moved here, from what was opened: nobody can ask for others."""

    def __init__(self, spec: CoxSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> None:
        self._spec, self._study, self._schema, self._rows = spec, study, schema, rows
        self._newton = newton_of(spec, study)
        self._cells = cells_of(spec, schema)
        self._given = 0
        self._finished = False
        self._known: Patients | None = None

    @property
    def _patients(self) -> Patients:
        if self._known is None:
            if len(self._rows) > self._study.largest_cohort:
                raise StudyError(f"the study allows at most {self._study.largest_cohort} patients at a site")
            self._known = patients_of(self._spec, self._schema, self._rows)
        return self._known

    def contribute(self, what: str, opened: Any) -> Contribution:
        if what == "counts":
            return Contribution.counts(self._counts())
        newton = self._newton
        if self._finished or what not in (f"sums/{self._given}", "value"):
            raise StudyError(f"step of a Cox model: {what!r} is not due")
        if self._given > newton.iterations:
            newton.update(_decoded(opened, newton.frac_bits))
        if (what == "value") != newton.converged:
            raise StudyError(f"step of a Cox model: {what!r} is not due")
        if newton.converged:
            self._finished = True
            return Contribution(value_contribution(self._patients, self._cells, newton.beta, newton.encoding))
        self._given += 1
        return Contribution(
            contribution(self._patients, self._cells, newton.beta, newton.encoding, score_alone=newton.score_alone)
        )

    def _counts(self) -> Ints:
        patients = self._patients
        died = patients.died
        named = (*self._spec.covariates, *self._spec.strata)
        categories = [column.name for column in categorical(self._schema, named)]
        by_stratum = np.bincount(patients.stratum[died], minlength=self._cells.n_strata)
        table = counts_of_cells(
            encoded(self._schema, self._rows, categories),
            self._schema,
            named,
            died.astype(np.int64),
            n_outcomes=2,
        )
        return np.concatenate([[np.count_nonzero(died)], by_stratum, table]).astype(np.int64)
