"""Logistic, linear and Poisson regression as models of a study: `kind = "logistic"`, `"linear"`, `"poisson"`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthema.errors import StudyError
from synthema.learning.covariates import check_covariates, check_death
from synthema.learning.estimator import JointModel
from synthema.learning.model import ModelSpec, Rounds, SiteHalf, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from privacy import Event, Schema
    from privacy.schema import Column
    from synthema.governance.refusals import Reason
    from synthema.policy import SitePolicy
    from synthema.study import Study

Floats = npt.NDArray[np.float64]

_FEWEST_VALUES = 20
_MOST_COEFFICIENTS = 100


class RegressionSpec(ModelSpec):
    """What the three regressions have in common.

    outcome      a column without missing values
    covariates   columns without missing values: numbers are scaled by their bounds, categories become dummies against
                 the first
    """

    outcome: str | None = None
    covariates: tuple[str, ...] = Field(min_length=1)

    # Named so in answers and tables.
    effect: ClassVar[str]
    # See `exact_glm.lost_are_tested`.
    tests_losses: ClassVar[bool] = True

    def check(self, schema: Schema) -> None:
        """See `ModelSpec.check`."""
        self._check_outcome(schema)
        survival = schema.survival
        used = {self.outcome, getattr(self, "exposure", None)}
        if self.has_horizon and survival is not None:
            used |= {survival.time, survival.event}
        for name in self.covariates:
            if name in used:
                raise ValueError(f"covariates: {name!r} is the outcome or belongs to it")
            column = schema.column(name)
            if not column.is_coded or column.nullable or (column.kind == "date" and not column.categories):
                raise ValueError(f"covariates: {name!r} must have categories or be a number, and not be nullable")
        if len(set(self.covariates)) < len(self.covariates):
            raise ValueError("covariates: name each once")
        if self.n_coefficients(schema) > _MOST_COEFFICIENTS:
            raise ValueError(f"covariates: at most {_MOST_COEFFICIENTS} coefficients; merge categories or drop some")
        if self.mode == "exact":
            check_covariates(schema, self.covariates, where="covariates")

    @property
    def of(self) -> str:
        """The outcome in words."""
        raise NotImplementedError

    def _check_outcome(self, schema: Schema) -> None:
        raise NotImplementedError

    @property
    def _opened_exactly(self) -> str:
        raise NotImplementedError

    @property
    def what(self) -> str:
        """See `ModelSpec.what`."""
        if self.mode == "private":
            return f"{self.title.lower()} of {self.of}: noisy sizes, and noisy score and information of each step"
        return self._opened_exactly

    def n_coefficients(self, schema: Schema) -> int:
        """See `ModelSpec.n_coefficients`."""
        return 1 + sum(max(len(schema.column(name).categories) - 1, 1) for name in self.covariates)

    def tells_deaths(self, schema: Schema) -> str:
        """See `ModelSpec.tells_deaths`."""
        survival = schema.survival
        if survival is not None and survival.event in (self.outcome, *self.covariates):
            return "at any time"
        return super().tells_deaths(schema)

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """See `ModelSpec.exact_rules`."""
        from synthema.governance.rules import regression_rules
        from synthema.learning.tested_counts import MOST_COEFFICIENTS
        from synthema.steps import total_coefficients

        if total_coefficients(study) > MOST_COEFFICIENTS:
            yield "exact", f"all exact models together may have at most {MOST_COEFFICIENTS} coefficients"
        yield from regression_rules(policy, study, self.covariates)

    def event(self, study: Study, rho: float) -> Event:
        """See `ModelSpec.event`."""
        from synthema.learning import private_glm

        return private_glm.event(self, study, rho)

    def site_half(self, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
        """See `ModelSpec.site_half`."""
        if self.mode == "private":
            from synthema.learning import private_glm

            return private_glm.site_half(self, study, schema, rows)
        from synthema.learning import exact_glm

        return exact_glm.site_half(self, study, schema, rows)

    def fit(self, rounds: Rounds) -> dict[str, Any]:
        """See `ModelSpec.fit`."""
        if self.mode == "private":
            from synthema.learning import private_glm

            return private_glm.fit(self, rounds)
        from synthema.learning import exact_glm

        return exact_glm.fit(self, rounds)

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """See `ModelSpec.summary`."""
        if self.mode == "private":
            from synthema.learning import private_glm

            return private_glm.tables(self, answer)
        from synthema.learning import regression_answer

        return regression_answer.tables(self, answer)

    def chart(self, answer: dict[str, Any], *, key: str) -> str:
        """See `ModelSpec.chart`."""
        from synthema.learning import regression_answer

        return regression_answer.chart(self, answer, key=key)


class LogisticSpec(RegressionSpec):
    """Log odds of an event: a category of a column, or death by a horizon.

    outcome          a column of two categories; with `event_category`
    event_category   which of the two is the event
    horizon_days     instead of both: death within so many days, by the schema's [survival] section; patients who were
                     lost before are left out
    """

    kind: Literal["logistic"] = "logistic"
    event_category: str | None = None
    horizon_days: int | None = Field(default=None, gt=0)

    title: ClassVar[str] = "Logistic regression"
    effect: ClassVar[str] = "odds ratio"

    @property
    def has_horizon(self) -> bool:
        """See `ModelSpec.has_horizon`."""
        return self.horizon_days is not None

    @property
    def _opened_exactly(self) -> str:
        return f"logistic regression of {self.of}: score, information and log-likelihood of each Newton step"

    @property
    def of(self) -> str:
        """The outcome in words."""
        if self.horizon_days is not None:
            return f"death within {self.horizon_days} days"
        return f"{self.outcome} = {self.event_category}"

    def _check_outcome(self, schema: Schema) -> None:
        if (self.outcome is None) == (self.horizon_days is None):
            raise ValueError("outcome: name a column of two categories, or give horizon_days")
        if self.outcome is None:
            if self.event_category is not None:
                raise ValueError("event_category: goes with outcome, not with horizon_days")
            if schema.survival is None:
                raise ValueError("horizon_days: survival results need a [survival] section in the schema")
            for name in (schema.survival.time, schema.survival.event):
                if schema.column(name).nullable:
                    raise ValueError(f"horizon_days: survival results need {name!r} without missing values")
            check_death(schema, horizon_days=self.horizon_days)
            return
        _check_two(_outcome(schema, self.outcome), self.event_category)


class LinearSpec(RegressionSpec):
    """Mean of a number, by least squares.

    outcome   a number with many values
    """

    kind: Literal["linear"] = "linear"
    outcome: str

    title: ClassVar[str] = "Linear regression"
    effect: ClassVar[str] = "coefficient"

    @property
    def _opened_exactly(self) -> str:
        return f"linear regression of {self.outcome}: sums of squares and products of covariates and outcome"

    @property
    def of(self) -> str:
        """The outcome in words."""
        return self.outcome

    def _check_outcome(self, schema: Schema) -> None:
        column = _outcome(schema, self.outcome)
        if column.categories:
            raise ValueError(f"outcome: {self.outcome!r} must be a number; for two categories take kind 'logistic'")
        low, high = column.bin_edges[[0, -1]]
        if column.kind == "integer" and high - low + 1 < _FEWEST_VALUES:
            raise ValueError(f"outcome: {self.outcome!r} has few values; take kind 'poisson' or 'logistic'")


class PoissonSpec(RegressionSpec):
    """Log rate of events: counts, or events in one column and time at risk in another.

    outcome          whole numbers from 0 on, or a column of two categories with `event_category`
    event_category   which of the two is the event
    exposure         time at risk or size, a number of positive bounds; without one, everybody counts the same
    """

    kind: Literal["poisson"] = "poisson"
    outcome: str
    event_category: str | None = None
    exposure: str | None = None

    title: ClassVar[str] = "Poisson regression"
    effect: ClassVar[str] = "rate ratio"

    @property
    def _opened_exactly(self) -> str:
        of = f"{self.of}: total, and score, information and log-likelihood of each Newton step"
        return f"Poisson regression of {of}"

    @property
    def of(self) -> str:
        """The outcome in words."""
        event = self.outcome if self.event_category is None else f"{self.outcome} = {self.event_category}"
        return event if self.exposure is None else f"{event} by {self.exposure}"

    def _check_outcome(self, schema: Schema) -> None:
        column = _outcome(schema, self.outcome)
        if column.categories:
            _check_two(column, self.event_category)
        elif self.event_category is not None:
            raise ValueError("event_category: goes with an outcome of two categories")
        elif column.kind != "integer" or column.bin_edges[0] < 0:
            raise ValueError(f"outcome: {self.outcome!r} must hold counts: whole numbers with bounds from 0 on")
        if self.exposure is None:
            return
        exposure = schema.column(self.exposure)
        if self.exposure == self.outcome:
            raise ValueError("exposure: must be another column than the outcome")
        if not exposure.is_binned or not exposure.is_numeric or exposure.nullable:
            raise ValueError(f"exposure: {self.exposure!r} must be a number without missing values")
        if exposure.bin_edges[0] <= 0:
            raise ValueError(f"exposure: {self.exposure!r} must have a lower bound above 0 in the schema")


def _outcome(schema: Schema, name: str) -> Column:
    column = schema.column(name)
    if not column.is_coded or column.nullable or column.kind == "date":
        raise ValueError(f"outcome: {name!r} must have categories or be a number, and not be nullable")
    return column


def _check_two(column: Column, event: str | None) -> None:
    if len(column.categories) != 2:
        raise ValueError(f"outcome: {column.name!r} must have two categories")
    if event not in column.categories:
        raise ValueError(f"event_category: must be one of {', '.join(column.categories)}")


class _Regression(JointModel):
    """Attributes after `fit`, of p covariates' terms.

    terms_        names of the coefficients without the intercept
    coef_         their estimates, in the columns' own units, shape (p,)
    intercept_    the intercept
    std_error_, z_, p_values_
                  of intercept and coefficients, shape (p + 1,); z is Student's t of a linear model
    conf_int_     95 % intervals, shape (p + 1, 2)
    log_likelihood_
                  of the fit; None where it is not known
    """

    spec_: RegressionSpec
    terms_: tuple[str, ...]
    coef_: Floats
    intercept_: float
    std_error_: Floats
    z_: Floats
    p_values_: Floats
    conf_int_: Floats
    log_likelihood_: float | None

    def _read(self, answer: dict[str, Any]) -> None:
        from synthema.learning.regression_answer import estimates

        found = estimates(answer)
        self.terms_ = tuple(each.term for each in found[1:])
        self.intercept_ = found[0].estimate
        self.coef_ = np.array([each.estimate for each in found[1:]])
        self.std_error_ = np.array([each.std_error for each in found])
        self.z_ = np.array([each.deviate for each in found])
        self.p_values_ = np.array([each.p for each in found])
        self.conf_int_ = np.array([(each.low, each.high) for each in found])
        text = answer.get("log_likelihood")
        self.log_likelihood_ = None if text is None else float(text)

    def _predictor(self, rows: pd.DataFrame) -> Floats:
        from synthema.learning.regression_answer import predictor

        return predictor(self.answer_, rows)


class LogisticRegression(_Regression):
    """Joint logistic regression. Fields: see `LogisticSpec`."""

    spec_class = LogisticSpec

    def predict_proba(self, rows: pd.DataFrame) -> Floats:
        """Return the probabilities of no event and of the event, shape (n, 2).

        Raises NotFitted, and StudyError, naming the column, if a covariate is missing or has an unknown value.
        """
        p = 0.5 * (1 + np.tanh(0.5 * self._predictor(rows)))
        return np.column_stack([1 - p, p])

    def predict(self, rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return for whom the event is more likely than not, shape (n,). Raises as `predict_proba`."""
        return np.asarray(self._predictor(rows) > 0)


class LinearRegression(_Regression):
    """Joint linear regression. Fields: see `LinearSpec`. Of its own: `residual_variance_`, `r_squared_`."""

    spec_class = LinearSpec
    residual_variance_: float | None
    r_squared_: float | None

    def _read(self, answer: dict[str, Any]) -> None:
        super()._read(answer)
        self.residual_variance_ = float(answer["residual_variance"]) if "residual_variance" in answer else None
        self.r_squared_ = float(answer["r_squared"]) if "r_squared" in answer else None

    def predict(self, rows: pd.DataFrame) -> Floats:
        """Return the mean of the outcome, shape (n,).

        Raises NotFitted, and StudyError, naming the column, if a covariate is missing or has an unknown value.
        """
        return self._predictor(rows)


class PoissonRegression(_Regression):
    """Joint Poisson regression. Fields: see `PoissonSpec`."""

    spec_class = PoissonSpec

    def predict(self, rows: pd.DataFrame) -> Floats:
        """Return the expected count, by each row's exposure if the model has one, shape (n,).

        Raises NotFitted, and StudyError, naming the column, if one is missing or has an unknown value.
        """
        rate = np.exp(self._predictor(rows))
        exposure = self.spec_.exposure if isinstance(self.spec_, PoissonSpec) else None
        if exposure is None:
            return np.asarray(rate)
        if exposure not in rows:
            raise StudyError(f"{exposure!r} is missing: the model has it as exposure")
        return np.asarray(rate * rows[exposure].to_numpy(dtype=np.float64))
