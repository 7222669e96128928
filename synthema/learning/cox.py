"""Cox's proportional hazards model as a model of a study: `kind = "cox"`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthema.learning.covariates import check_covariates, check_death
from synthema.learning.estimator import JointModel
from synthema.learning.model import ModelSpec, Rounds, SiteHalf, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from privacy import Event, Schema
    from synthema.governance.refusals import Reason
    from synthema.policy import SitePolicy
    from synthema.study import Study

Floats = npt.NDArray[np.float64]

_MOST_COEFFICIENTS = 100
# Times of the grid of an exact model, as of an exact log-rank test.
LEAST_TIMES = 20
# What products of shares have room for.
MOST_TIES = 4096
# Numbers at a time on shares: cells, nodes of each, covariates.
_MOST_WORK = 1 << 22


class CoxSpec(ModelSpec):
    """Log hazard ratios of covariates; the schema's [survival] section says time and event.

    covariates  columns without missing values: numbers, or categories as dummies against the first
    grid_days   a day counts as the first time of the grid not before it; 1 for days as they are
    ties        deaths at one time of the grid: "efron" or "breslow"
    max_ties    "efron": most deaths at one time in one stratum; if there are more, nothing is opened, and the table is
                closed to other exact releases. So as many as there can be by default, the rows that the study allows;
                4,096 where it allows more, with "breslow" for larger tables on coarse grids
    strata      columns with categories: each combination has a baseline hazard of its own

    With noise, the hazard is constant within each of the schema's bins of time (`private_cox`), whatever the grid, and
    there are no strata.
    """

    kind: Literal["cox"] = "cox"
    covariates: tuple[str, ...] = Field(min_length=1)
    grid_days: int = Field(ge=1)
    ties: Literal["efron", "breslow"] = "efron"
    max_ties: int = Field(default=MOST_TIES, ge=1, le=MOST_TIES)
    strata: tuple[str, ...] = ()

    title: ClassVar[str] = "Cox regression"
    # At coefficients of zero, the score of a category is observed minus expected deaths of a log-rank test.
    stands_beside_no_curves: ClassVar[bool] = True

    def check(self, schema: Schema) -> None:
        """See `ModelSpec.check`."""
        survival = schema.survival
        if survival is None:
            raise ValueError("survival results need a [survival] section in the schema")
        for name in (survival.time, survival.event):
            if schema.column(name).nullable:
                raise ValueError(f"survival results need {name!r} without missing values")
        check_death(schema)
        for name in (*self.covariates, *self.strata):
            if name in (survival.time, survival.event):
                raise ValueError(f"covariates: {name!r} is the outcome or belongs to it")
        if len({*self.covariates, *self.strata}) < len(self.covariates) + len(self.strata):
            raise ValueError("covariates, strata: name each column once")
        for name in self.strata:
            if not schema.column(name).categories or schema.column(name).nullable:
                raise ValueError(f"strata: {name!r} must have categories, and not be nullable")
        for name in self.covariates:
            column = schema.column(name)
            if not column.is_coded or column.nullable or (column.kind == "date" and not column.categories):
                raise ValueError(f"covariates: {name!r} must have categories or be a number, and not be nullable")
        longest = float(schema.column(survival.time).bin_edges[-1])
        if self.grid_days > longest:
            raise ValueError(f"grid_days: follow-up ends after {longest:g} days by the schema, within one interval")
        if self.n_coefficients(schema) > _MOST_COEFFICIENTS:
            raise ValueError(f"covariates: at most {_MOST_COEFFICIENTS} coefficients; merge categories or drop some")
        if self.mode == "private" and self.strata:
            raise ValueError("strata: a private model has none; take the columns as covariates")
        if self.mode == "exact":
            check_covariates(schema, (*self.covariates, *self.strata), where="covariates")
            if not any(not schema.column(name).categories for name in self.covariates):
                raise ValueError("covariates: at least one must be a number with many values")
            self._check_times(schema)
            self._check_size(schema)

    def _check_times(self, schema: Schema) -> None:
        """Refuse a grid of few times: what is opened of few cells could be solved for what is in them."""
        from synthema.learning.curves import longest_of

        longest = float(longest_of(schema))
        if math.ceil(longest / self.grid_days) < LEAST_TIMES:
            most = math.floor(longest / LEAST_TIMES)
            raise ValueError(
                f"grid_days: an exact model needs a grid of {LEAST_TIMES} times at least, so at most {most} days"
            )

    def _check_size(self, schema: Schema) -> None:
        from synthema.learning.cox_sums import cells_of
        from synthema.learning.cox_ties import NODES

        nodes = min(NODES, self.max_ties) if self.ties == "efron" else 1
        if cells_of(self, schema).n * nodes * self.n_coefficients(schema) > _MOST_WORK:
            raise ValueError(
                "grid_days: too many times, strata and covariates to be worked on together; take a coarser grid, a "
                "smaller max_ties, or fewer strata"
            )

    def tells_deaths(self, schema: Schema) -> str:
        """See `ModelSpec.tells_deaths`."""
        del schema
        return "at any time"

    def n_coefficients(self, schema: Schema) -> int:
        """See `ModelSpec.n_coefficients`."""
        return sum(max(len(schema.column(name).categories) - 1, 1) for name in self.covariates)

    @property
    def what(self) -> str:
        """See `ModelSpec.what`."""
        opened = "score and information of each Newton step, log-likelihood"
        if self.mode == "private":
            opened = "deaths and time at risk by bins of time, moments, score and information of three Newton steps"
        return f"Cox regression on {', '.join(self.covariates)}: {opened}"

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """See `ModelSpec.exact_rules`."""
        from synthema.governance.rules import regression_rules
        from synthema.learning.tested_counts import MOST_COEFFICIENTS
        from synthema.steps import total_coefficients

        # A site's narrowest grid is for curves: sums by time are not opened here, and a coarse grid protects nobody.
        if total_coefficients(study) > MOST_COEFFICIENTS:
            yield "exact", f"all exact models together may have at most {MOST_COEFFICIENTS} coefficients"
        yield from regression_rules(policy, study, (*self.covariates, *self.strata))

    def event(self, study: Study, rho: float) -> Event:
        """See `ModelSpec.event`."""
        from synthema.learning import private_cox

        return private_cox.event(self, study, rho)

    def site_half(self, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
        """See `ModelSpec.site_half`."""
        if self.mode == "private":
            from synthema.learning import private_cox

            return private_cox.site_half(self, study, schema, rows)
        from synthema.learning import exact_cox

        return exact_cox.site_half(self, study, schema, rows)

    def fit(self, rounds: Rounds) -> dict[str, Any]:
        """See `ModelSpec.fit`."""
        if self.mode == "private":
            from synthema.learning import private_cox

            return private_cox.fit(self, rounds)
        from synthema.learning import exact_cox

        return exact_cox.fit(self, rounds)

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """See `ModelSpec.summary`."""
        from synthema.learning import cox_answer

        return cox_answer.tables(self, answer)

    def chart(self, answer: dict[str, Any], *, key: str) -> str:
        """See `ModelSpec.chart`."""
        from synthema.learning import cox_answer

        return cox_answer.chart(answer, key=key)


class CoxRegression(JointModel):
    """Joint Cox regression. Fields: see `CoxSpec`.

    Attributes
    ----------
    terms_
        Names of the coefficients.
    coef_, hazard_ratios_, std_error_, z_, p_values_
        Log hazard ratios in the columns' own units and what goes with them, shape (p,).
    conf_int_
        95 % intervals of the coefficients, shape (p, 2).
    covariance_
        Of the coefficients, shape (p, p).
    log_likelihood_
        Logarithm of the partial likelihood; None where it is not known.
    """

    spec_class = CoxSpec
    terms_: tuple[str, ...]
    coef_: Floats
    hazard_ratios_: Floats
    std_error_: Floats
    z_: Floats
    p_values_: Floats
    conf_int_: Floats
    covariance_: Floats
    log_likelihood_: float | None

    def _read(self, answer: dict[str, Any]) -> None:
        from synthema.learning.regression_answer import estimates

        found = estimates(answer)
        self.terms_ = tuple(each.term for each in found)
        self.coef_ = np.array([each.estimate for each in found])
        self.hazard_ratios_ = np.exp(self.coef_)
        self.std_error_ = np.array([each.std_error for each in found])
        self.z_ = np.array([each.deviate for each in found])
        self.p_values_ = np.array([each.p for each in found])
        self.conf_int_ = np.array([(each.low, each.high) for each in found])
        self.covariance_ = np.array([[float(each) for each in row] for row in answer["covariance"]])
        text = answer.get("log_likelihood")
        self.log_likelihood_ = None if text is None else float(text)

    def predict(self, rows: pd.DataFrame) -> Floats:
        """Return each row's hazard relative to a patient with 0 in every number and the first of all categories.

        Survival cannot be predicted: the baseline hazard is not opened.

        Raises NotFitted, and StudyError, naming the column, if a covariate is missing or has an unknown value.
        """
        from synthema.learning.cox_answer import predictor

        return np.exp(predictor(self.answer_, rows))
