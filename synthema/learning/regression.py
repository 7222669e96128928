"""Logistic, linear and Poisson regression as models of a study: `kind = "logistic"`, `"linear"`, `"poisson"`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from synthema.learning.covariates import check_covariates
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
    # In private mode sums alone are opened, with noise by shares.
    needs_material: ClassVar[bool] = False

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
            if not column.is_coded or column.nullable:
                raise ValueError(f"covariates: {name!r} must be coded and not nullable")
        if len(set(self.covariates)) < len(self.covariates):
            raise ValueError("covariates: name each once")
        if self.n_coefficients(schema) > _MOST_COEFFICIENTS:
            raise ValueError(f"covariates: at most {_MOST_COEFFICIENTS} coefficients; merge categories or drop some")
        if self.mode == "exact":
            check_covariates(schema, self.covariates, where="covariates")

    def _check_outcome(self, schema: Schema) -> None:
        raise NotImplementedError

    @property
    def of(self) -> str:
        """The outcome in words."""
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

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """See `ModelSpec.exact_rules`."""
        from synthema.governance.rules import regression_rules

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
        if self.mode == "private":
            return ""
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


class LogisticRegression(JointModel):
    """Joint logistic regression. Fields: see `LogisticSpec`."""

    spec_class = LogisticSpec


class LinearRegression(JointModel):
    """Joint linear regression. Fields: see `LinearSpec`."""

    spec_class = LinearSpec


class PoissonRegression(JointModel):
    """Joint Poisson regression. Fields: see `PoissonSpec`."""

    spec_class = PoissonSpec
