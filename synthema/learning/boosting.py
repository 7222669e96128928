"""Gradient boosted trees for an outcome of yes or no: `kind = "boosted-trees"`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from synthema.errors import StudyError
from synthema.learning.covariates import check_death
from synthema.learning.estimator import JointModel
from synthema.learning.model import ModelSpec, Rounds, SiteHalf, Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from privacy import Event, Schema
    from privacy.schema import Frame
    from synthema.governance.refusals import Reason
    from synthema.learning.ensemble import Ensemble
    from synthema.learning.tree_splits import Features, Rows
    from synthema.policy import SitePolicy
    from synthema.study import Study

# Bars of a chart, and rows of the table of covariates.
_MOST_SHOWN = 20


class BoostedTreesSpec(ModelSpec):
    """Log odds of an event by boosted trees over bins of the covariates.

    outcome          a column with categories, not nullable; with `event_category`
    event_category   which of them is the event
    horizon_days     instead of both: death within so many days, by the schema's [survival] section; patients who were
                     lost before are left out
    covariates       columns with bins or categories; missing values are a bin of their own
    rounds           trees: 50. Private: sums that are opened, one covariate after the other; ten for each covariate
    depth            levels of splits: 3. Private: a covariate's bins are put together to 2^depth leaves; 2
    learning_rate    part of its value by which a leaf moves scores: .1; private: .4
    l2               added to the curvature of each leaf
    max_bins         most bins of a number: of the schema's edges, so many are taken evenly
    min_leaf         fewest patients of a leaf (exact)
    min_gain         least gain of a split, in twice the log-likelihood (exact)

    `min_cell`: fewest patients of a leaf with the event, and fewest without; the sum that makes up a leaf's value is
    rounded to so many patients (the next power of two).
    """

    kind: Literal["boosted-trees"] = "boosted-trees"
    outcome: str | None = None
    event_category: str | None = None
    horizon_days: int | None = Field(default=None, gt=0)
    covariates: tuple[str, ...] = Field(min_length=1, max_length=100)
    rounds: int = Field(ge=1, le=1000)
    depth: int = Field(ge=1, le=6)
    learning_rate: float = Field(gt=0, le=1)
    l2: float = Field(default=1.0, ge=0.5, le=1000)
    max_bins: int = Field(default=32, ge=2, le=128)
    min_leaf: int = Field(default=20, ge=20, le=1000)
    min_gain: float = Field(default=0.0, ge=0, le=1000)

    title: ClassVar[str] = "Boosted trees"

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """Fill in what is best for the mode, so that the study's document says it."""
        if not isinstance(data, Mapping):
            return data
        fields = dict(data)
        if isinstance(fields.get("covariates"), list):
            # What JSON calls a list is a value here, also after this look at it.
            fields["covariates"] = tuple(fields["covariates"])
        n_covariates = len(fields["covariates"]) if isinstance(fields.get("covariates"), tuple) else 1
        if fields.get("mode") == "private":
            return {"rounds": 10 * max(n_covariates, 1), "depth": 2, "learning_rate": 0.4} | fields
        return {"rounds": 50, "depth": 3, "learning_rate": 0.1} | fields

    @model_validator(mode="after")
    def _one_outcome(self) -> Self:
        named = (self.outcome is not None) + (self.event_category is not None)
        if named != (2 if self.horizon_days is None else 0):
            raise ValueError("name outcome and event_category, or horizon_days, and not both")
        return self

    def check(self, schema: Schema) -> None:
        """See `ModelSpec.check`."""
        used = {self.outcome}
        if self.outcome is not None:
            column = schema.column(self.outcome)
            if self.event_category not in column.categories:
                raise ValueError(f"event_category: {self.event_category!r} is no category of {self.outcome!r}")
            if column.nullable:
                raise ValueError(f"outcome: {self.outcome!r} must not be nullable")
        elif schema.survival is None:
            raise ValueError("horizon_days needs a [survival] section in the schema")
        if self.has_horizon and schema.survival is not None:
            used |= {schema.survival.time, schema.survival.event}
            if any(schema.column(name).nullable for name in (schema.survival.time, schema.survival.event)):
                raise ValueError("horizon_days needs follow-up time and event without missing values")
            check_death(schema, horizon_days=self.horizon_days)
        if len(set(self.covariates)) < len(self.covariates):
            raise ValueError("covariates: name each once")
        for name in self.covariates:
            if name in used:
                raise ValueError(f"covariates: {name!r} is the outcome or belongs to it")
        features = self.features(schema)
        # With fewer combinations than opened values, the values could be solved for the patients of each.
        if self.mode == "exact" and features.n_patterns < self._most_leaves:
            raise ValueError(
                f"the covariates have {features.n_patterns} combinations of bins, fewer than the {self._most_leaves} "
                "leaves that are opened: ask for fewer rounds, or for covariates with more values"
            )

    @property
    def _most_leaves(self) -> int:
        return int(self.rounds * 2**self.depth)

    @property
    def what(self) -> str:
        """See `ModelSpec.what`."""
        if self.mode == "private":
            return f"sums over bins of {len(self.covariates)} covariates, for trees of {self.of}"
        return f"{self.rounds} trees of {self.of}: splits, and the values of leaves"

    @property
    def of(self) -> str:
        """The outcome in words."""
        if self.horizon_days is not None:
            return f"death within {self.horizon_days} days"
        return f"{self.outcome} = {self.event_category}"

    @property
    def has_horizon(self) -> bool:
        """See `ModelSpec.has_horizon`."""
        return self.horizon_days is not None

    def tells_deaths(self, schema: Schema) -> str:
        """See `ModelSpec.tells_deaths`."""
        survival = schema.survival
        if survival is not None and survival.event in (self.outcome, *self.covariates):
            return "at any time"
        return super().tells_deaths(schema)

    def n_coefficients(self, schema: Schema) -> int:
        """See `ModelSpec.n_coefficients`: every value of a leaf is an equation about the patients, as a coefficient is.

        The rate that the trees start with is one more.
        """
        del schema
        return self._most_leaves + 1

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """See `ModelSpec.exact_rules`."""
        from synthema.governance.rules import level_rules
        from synthema.learning.boosting_exact import largest_part
        from synthema.learning.covariates import PARAMETER_RATIO

        if self.min_leaf < policy.min_leaf:
            yield "exact", f"min_leaf must be at least {policy.min_leaf}"
        if policy.max_parameter_ratio < PARAMETER_RATIO:
            yield "filters", f"the site allows {policy.max_parameter_ratio:g} leaves per patient: drop the model"
        if policy.dominance < largest_part(self.min_leaf):
            yield "filters", f"the site allows one patient {policy.dominance:g} of a sum: raise min_leaf"
        # A split on a category leaves so many patients or more in it.
        if 1 / self.min_leaf > policy.max_level_density:
            yield "filters", f"the site allows {policy.max_level_density:g} categories per patient: raise min_leaf"
        yield from level_rules(policy, study, self.covariates)

    def event(self, study: Study, rho: float) -> Event:
        """See `ModelSpec.event`."""
        from synthema.learning.boosting_private import event

        return event(self, study, rho)

    def features(self, schema: Schema) -> Features:
        """Return the covariates as bins. Raises ValueError for one that has none."""
        from synthema.learning.tree_splits import Features

        return Features.of(schema, self.covariates, max_bins=self.max_bins)

    def site_half(self, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
        """See `ModelSpec.site_half`."""
        from synthema.learning import boosting_fit, boosting_private

        if self.mode == "private":
            return boosting_private.AtSite(self, schema, rows)
        return boosting_fit.AtSite(self, study, schema, rows)

    def fit(self, rounds: Rounds) -> dict[str, Any]:
        """See `ModelSpec.fit`."""
        from synthema.learning import boosting_fit, boosting_private

        return boosting_private.fit(self, rounds) if self.mode == "private" else boosting_fit.fit(self, rounds)

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """See `ModelSpec.summary`."""
        from synthema.learning.ensemble import Ensemble

        ensemble = Ensemble.from_json(answer)
        counts, weights = ensemble.split_counts(), ensemble.importances()
        order = sorted(range(len(counts)), key=lambda i: -weights[i])[:_MOST_SHOWN]
        shown = tuple((self.covariates[i], float(weights[i]), counts[i]) for i in order)
        if self.mode == "private":
            note = "The range of log odds over the bins of a covariate, as a part of the sum of all ranges."
        else:
            note = "The part of all splits. Gains are not opened."
        size = (("outcome", self.of), ("trees", len(ensemble.trees)), ("leaves", ensemble.n_leaves))
        return (
            Table("Ensemble", ("", "value"), size),
            Table("Covariates", ("covariate", "importance", "splits"), shown, note),
        )

    def chart(self, answer: dict[str, Any], *, key: str) -> str:
        """See `ModelSpec.chart`."""
        from synthema.learning.ensemble import Ensemble
        from synthema.report.importance_chart import importance_chart

        weights = Ensemble.from_json(answer).importances()
        order = sorted(range(len(weights)), key=lambda i: -weights[i])[:_MOST_SHOWN]
        bars = tuple((self.covariates[i], float(weights[i])) for i in order)
        return str(importance_chart(bars, key=key, title=f"What the trees of {self.of} go by"))


class GradientBoosting(JointModel):
    """Joint boosted trees. Fields: see `BoostedTreesSpec`.

    Attributes
    ----------
    ensemble_
        The trees.
    feature_importances_
        Of each covariate, in order; they add up to 1 (or are all 0 if there is no split). Exact: its part of all
        splits. Private: its range of log odds as a part of all ranges.
    classes_
        Outcomes as `predict_proba` counts them: without, with.
    """

    spec_class = BoostedTreesSpec
    ensemble_: Ensemble
    feature_importances_: npt.NDArray[np.float64]
    classes_: tuple[int, int]

    def _read(self, answer: dict[str, Any]) -> None:
        from synthema.learning.ensemble import Ensemble

        try:
            self.ensemble_ = Ensemble.from_json(answer)
        except (KeyError, TypeError, ValueError, RecursionError):
            raise StudyError("this is no ensemble of trees") from None
        self.feature_importances_ = self.ensemble_.importances()
        self.classes_ = (0, 1)

    def decision_function(self, frame: Rows | Frame) -> npt.NDArray[np.float64]:
        """Return the log odds of each row, shape (n,).

        Raises
        ------
        NotFitted
            Before `fit`.
        SchemaError
            For a category or a number that the schema of the fit does not know, naming the column and never the value.
        """
        # Says that there is none.
        self.answer_  # noqa: B018
        return self.ensemble_.scores(frame)

    def predict_proba(self, frame: Rows | Frame) -> npt.NDArray[np.float64]:
        """Return the probabilities of no event and of the event, shape (n, 2). Raises as `decision_function`."""
        import numpy as np

        p = 0.5 * (1 + np.tanh(0.5 * self.decision_function(frame)))
        return np.column_stack([1 - p, p])

    def predict(self, frame: Rows | Frame) -> npt.NDArray[np.int64]:
        """Return 1 where the event is more probable than not, shape (n,). Raises as `decision_function`."""
        import numpy as np

        return (self.decision_function(frame) > 0).astype(np.int64)
