"""Curves of survival as models of a study: `kind = "kaplan-meier"`, `"nelson-aalen"`, `"aalen-johansen"`.

All three are read from the same counts, of deaths by cause and of losses, per group and interval of a public grid.
Exact: what `synthema.learning.kaplan_meier` lets be opened. Private: all of it, with joint noise
(`synthema.learning.noisy_counts`). The log-rank test is in `synthema.learning.log_rank_model`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from synthema.learning.estimator import JointModel
from synthema.learning.model import Contribution, ModelSpec, Rounds, SiteHalf, Table, pooled

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Event, Schema
    from smpc import Session, SharePackage
    from synthema.governance.refusals import Reason
    from synthema.learning.curve_estimates import Curve, Median, RestrictedMean
    from synthema.learning.curve_results import Group
    from synthema.learning.kaplan_meier import Grid
    from synthema.learning.log_rank import Statistic
    from synthema.policy import SitePolicy
    from synthema.study import Study

# More intervals say no more about a curve, and each is tested.
MOST_INTERVALS = 400
_NOT_OPENED = "Empty cells would show too few patients."
_NOISY = "Numbers at risk and deaths are estimates; intervals reckon with the noise. Rows end where noise prevails."


def check_survival(schema: Schema, columns: Iterable[str]) -> None:
    """Raise ValueError unless the schema has survival without missing values, and these columns have categories."""
    if schema.survival is None:
        raise ValueError("survival results need a [survival] section in the schema")
    for name in columns:
        if not schema.column(name).categories:
            raise ValueError(f"group: {name!r} must be a column with categories")
        if name in (schema.survival.time, schema.survival.event):
            raise ValueError(f"group: {name!r} is the outcome")
    for name in (schema.survival.time, schema.survival.event):
        if schema.column(name).nullable:
            raise ValueError(f"survival results need {name!r} without missing values")


def causes_of(schema: Schema) -> dict[str, str]:
    """Return the event category and name of each cause, in the schema's order."""
    if schema.survival is None:
        raise ValueError("survival results need a [survival] section in the schema")
    return dict(schema.survival.competing) or {"1": "death"}


def longest_of(schema: Schema) -> float:
    """Return when follow-up ends: at the schema's horizon, or its longest time."""
    if schema.survival is None:
        raise ValueError("survival results need a [survival] section in the schema")
    horizon = schema.survival.horizon
    return float(schema.column(schema.survival.time).bin_edges[-1]) if horizon is None else horizon


def grid_of(schema: Schema, grid_days: int) -> Grid:
    """Return the public grid that covers follow-up."""
    from synthema.learning.kaplan_meier import Grid

    return Grid(grid_days=grid_days, n_intervals=int(-(-longest_of(schema) // grid_days)))


def check_together(models: Mapping[str, ModelSpec]) -> None:
    """Raise ValueError if what a study's exact curve models open could be subtracted from each other.

    Curves of the same group on the same grid, with the same least cell, are read from the same opened counts: the
    second opens nothing new. Another group or grid would be a difference of few patients. The numbers of a log-rank
    test could be solved for the few cells that curves leave closed, and those of two tests for each other's. The first
    score of Cox's model is that of a log-rank test of each of its categories.
    """
    exact = {name: model for name, model in models.items() if model.mode == "exact"}
    curves = {name: model for name, model in exact.items() if isinstance(model, CurveSpec)}
    seen = {(model.group, model.grid_days, model.min_cell) for model in curves.values()}
    if len(seen) > 1:
        raise ValueError(
            f"models {', '.join(curves)}: exact curves of one study share group, grid_days and min_cell, for two that "
            "differ can be subtracted: make the others private"
        )
    both = {name: model for name, model in exact.items() if model.stands_beside_no_curves}
    tests = [name for name, model in both.items() if model.one_in_a_study]
    if (tests and curves) or len(tests) > 1:
        raise ValueError(
            f"models {', '.join([*curves, *tests])}: an exact log-rank test is the only one of its study, and stands "
            "beside no exact curves, whose closed cells its numbers would tell: make one of them private, or read the "
            "test off the curves as far as they were opened (KaplanMeier.log_rank)"
        )
    if both and curves:
        raise ValueError(
            f"models {', '.join([*curves, *both])}: an exact Cox model stands beside no exact curves, whose closed "
            "cells its first score would tell, as a log-rank test's would: make one of them private"
        )
    if len({getattr(model, "grid_days", None) for model in both.values()}) > 1:
        raise ValueError(
            f"models {', '.join(both)}: exact Cox models and log-rank tests of one study share grid_days, for two that "
            "differ can be subtracted: make the others private"
        )


class CurveSpec(ModelSpec):
    """Curves per group on a public grid; the schema's [survival] section says time, event and competing causes.

    group       a column with categories
    grid_days   length of an interval, in days
    """

    group: str
    grid_days: int = Field(ge=30)

    opens_survival_counts: ClassVar[bool] = True

    def check(self, schema: Schema) -> None:
        """See `ModelSpec.check`."""
        check_survival(schema, (self.group,))
        longest = longest_of(schema)
        if self.grid_days > longest:
            raise ValueError(f"grid_days: follow-up ends after {longest:g} days by the schema, within one interval")
        if grid_of(schema, self.grid_days).n_intervals > MOST_INTERVALS:
            raise ValueError(
                f"grid_days: at most {MOST_INTERVALS} intervals, so at least {-(-longest // MOST_INTERVALS):g}"
            )

    @property
    def needs_material(self) -> bool:  # type: ignore[override]
        """Opening noisy sums needs none."""
        return self.mode == "exact"

    @property
    def what(self) -> str:
        """See `ModelSpec.what`."""
        return f"{self.title} by {self.group}, events and patients at risk"

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """See `ModelSpec.exact_rules`."""
        from synthema.governance.rules import level_rules
        from synthema.learning.kaplan_meier import GROUP_FACTOR

        if self.grid_days < policy.min_grid_days:
            yield "exact", f"grid_days must be at least {policy.min_grid_days}"
        # A group is opened with so many patients or more, so there are at most so many groups per patient.
        if 1 / (GROUP_FACTOR * self.min_cell) > policy.max_level_density:
            yield "filters", f"the site allows {policy.max_level_density:g} groups per patient: raise min_cell"
        yield from level_rules(policy, study, (self.group,))

    def event(self, study: Study, rho: float) -> Event:
        """See `ModelSpec.event`."""
        from synthema.learning.noisy_counts import noisy_series

        schema = study.data_schema
        n_series = schema.column(self.group).n_codes * (len(causes_of(schema)) + 1)
        return noisy_series(study, rho, n_series=n_series, n_intervals=grid_of(schema, self.grid_days).n_intervals)

    def site_half(self, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
        """See `ModelSpec.site_half`."""
        del study
        return _CurvesAtSite(self, schema, rows)

    def fit(self, rounds: Rounds) -> dict[str, Any]:
        """See `ModelSpec.fit`."""
        column = rounds.schema.column(self.group)
        answer = {
            "labels": [f"{self.group} = {label}" for label in column.labels()],
            "causes": list(causes_of(rounds.schema).values()),
        }
        if self.mode == "private":
            from synthema.learning.noisy_sums import noise_std, open_noisy_sum

            return answer | {
                "noise_std": repr(noise_std(rounds)),
                "measured": open_noisy_sum(rounds, "counts").tolist(),
            }
        from smpc import FIELD61
        from synthema.learning import kaplan_meier

        grid = grid_of(rounds.schema, self.grid_days)

        async def protocol(session: Session, packages: Sequence[SharePackage]) -> Any:
            counts = pooled(session, packages, FIELD61)
            return kaplan_meier.opened_to_json(
                await kaplan_meier.open_counts(session, counts, grid, min_cell=self.min_cell)
            )

        return answer | {"groups": rounds.run("counts", protocol)}

    def groups(self, answer: dict[str, Any]) -> list[Group]:
        """Return what an answer says of each group."""
        from synthema.learning.curve_results import groups_of

        return groups_of(answer, grid_days=self.grid_days, min_cell=self.min_cell)

    def curves(self, answer: dict[str, Any]) -> dict[str, Curve]:
        """Return the curves of an answer by name."""
        raise NotImplementedError

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """See `ModelSpec.summary`."""
        from synthema.learning.curve_results import curve_table

        columns, note = self.columns, _NOISY if self.mode == "private" else _NOT_OPENED
        return tuple(curve_table(name, curve, columns, note=note) for name, curve in self.curves(answer).items())

    columns: ClassVar[tuple[str, ...]]


class KaplanMeierSpec(CurveSpec):
    """Survival; of several causes, survival free of any of them. Fields: see `CurveSpec`."""

    kind: Literal["kaplan-meier"] = "kaplan-meier"
    title: ClassVar[str] = "Kaplan-Meier curves"
    columns: ClassVar[tuple[str, ...]] = ("survival from", "to")

    def curves(self, answer: dict[str, Any]) -> dict[str, Curve]:
        """See `CurveSpec.curves`."""
        return {group.label: group.survival for group in self.groups(answer)}

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """See `ModelSpec.summary`."""
        from synthema.learning.curve_results import group_table, survival_tables

        groups = self.groups(answer)
        note = _NOISY if self.mode == "private" else _NOT_OPENED
        return (*survival_tables(groups), *(group_table(group, note=note) for group in groups))

    def chart(self, answer: dict[str, Any], *, key: str) -> str:
        """See `ModelSpec.chart`."""
        from synthema.report.curve_chart import Line, curve_chart

        lines = [Line(name, curve, colour=i) for i, (name, curve) in enumerate(self.curves(answer).items())]
        return str(curve_chart(lines, key=key, title=self.title, falls=True))


class NelsonAalenSpec(CurveSpec):
    """Cumulative hazard; of several causes, of each. Fields: see `CurveSpec`."""

    kind: Literal["nelson-aalen"] = "nelson-aalen"
    title: ClassVar[str] = "Nelson-Aalen curves"
    columns: ClassVar[tuple[str, ...]] = ("cumulative hazard from", "to")

    def curves(self, answer: dict[str, Any]) -> dict[str, Curve]:
        """See `CurveSpec.curves`."""
        causes = answer["causes"]
        return {
            group.label if len(causes) == 1 else f"{group.label}, {name}": group.hazard(k)
            for group in self.groups(answer)
            for k, name in enumerate(causes)
        }

    def chart(self, answer: dict[str, Any], *, key: str) -> str:
        """See `ModelSpec.chart`."""
        return _by_cause(self, answer, key, is_share=False)


class AalenJohansenSpec(CurveSpec):
    """Cumulative incidence of each competing cause. Fields: see `CurveSpec`."""

    kind: Literal["aalen-johansen"] = "aalen-johansen"
    title: ClassVar[str] = "Cumulative incidence (Aalen-Johansen)"
    columns: ClassVar[tuple[str, ...]] = ("incidence from", "to")

    def check(self, schema: Schema) -> None:
        """See `ModelSpec.check`."""
        super().check(schema)
        if schema.survival is not None and not schema.survival.competing:
            raise ValueError(
                "aalen-johansen: give the schema's [survival] section competing = { ... }, or ask for kaplan-meier"
            )

    def curves(self, answer: dict[str, Any]) -> dict[str, Curve]:
        """See `CurveSpec.curves`."""
        return {
            f"{group.label}, {name}": group.incidence(k)
            for group in self.groups(answer)
            for k, name in enumerate(answer["causes"])
        }

    def chart(self, answer: dict[str, Any], *, key: str) -> str:
        """See `ModelSpec.chart`."""
        return _by_cause(self, answer, key, is_share=True)


def _by_cause(spec: CurveSpec, answer: dict[str, Any], key: str, *, is_share: bool) -> str:
    """Draw one line for each group and cause: a group's has its colour, a cause's its dashes."""
    from synthema.report.curve_chart import Line, curve_chart

    n = len(answer["causes"])
    lines = [
        Line(name, curve, colour=i // n, dash=i % n) for i, (name, curve) in enumerate(spec.curves(answer).items())
    ]
    return str(curve_chart(lines, key=key, title=spec.title, falls=False, is_share=is_share))


class _CurvesAtSite:
    """See `SiteHalf`."""

    def __init__(self, spec: CurveSpec, schema: Schema, rows: pd.DataFrame) -> None:
        self._spec, self._schema, self._rows = spec, schema, rows

    def contribute(self, what: str, opened: Any) -> Contribution:
        from synthema.learning import kaplan_meier, noisy_counts
        from synthema.learning.rows import causes_of_rows

        del what, opened
        time, cause = causes_of_rows(self._schema, self._rows, causes_of(self._schema))
        column = self._schema.column(self._spec.group)
        table = kaplan_meier.count_table(
            column.encode(self._rows[self._spec.group].to_numpy()),
            time,
            cause,
            n_groups=column.n_codes,
            grid=grid_of(self._schema, self._spec.grid_days),
            n_causes=len(causes_of(self._schema)),
        )
        if self._spec.mode == "private":
            # Groups first: (G, K + 1, T).
            return Contribution(noisy_counts.encoded(table.transpose(1, 0, 2)))
        return Contribution.counts(table)


class JointCurves(JointModel):
    """Base of the estimators of curves.

    Attributes
    ----------
    curves_
        Each curve by name (`curve_estimates.Curve`): arrays over the grid, after `fit`.
    """

    spec_class: ClassVar[type[CurveSpec]]
    spec_: CurveSpec

    @property
    def curves_(self) -> dict[str, Curve]:
        """The curves. Raises NotFitted."""
        return self.spec_.curves(self.answer_)

    def predict(self, day: float) -> dict[str, tuple[float, float]]:
        """Return the bracket of every curve on a day of the grid, or at the grid point before; NaN where unknown.

        Raises NotFitted.
        """
        found = {}
        for name, curve in self.curves_.items():
            passed = int((curve.days <= day).sum())
            start = 1.0 if isinstance(self, KaplanMeier) else 0.0
            found[name] = (float(curve.low[passed - 1]), float(curve.high[passed - 1])) if passed else (start, start)
        return found


class KaplanMeier(JointCurves):
    """Joint Kaplan-Meier curves. Fields: see `KaplanMeierSpec`."""

    spec_class = KaplanMeierSpec

    @property
    def median_(self) -> dict[str, Median]:
        """Median survival of each group. Raises NotFitted."""
        from synthema.learning.curve_estimates import median

        return {name: median(curve) for name, curve in self.curves_.items()}

    def restricted_mean(self, until_day: int) -> dict[str, RestrictedMean]:
        """Return the mean days alive up to a day of the grid.

        Raises
        ------
        NotFitted, StudyError
            If the day is none of the grid, or a curve is not known so far.
        """
        from synthema.errors import StudyError

        n, rest = divmod(until_day, self.spec_.grid_days)
        if rest or n < 1:
            raise StudyError(f"until_day must be a multiple of grid_days ({self.spec_.grid_days}), got {until_day!r}")
        try:
            return {group.label: group.restricted_mean(n) for group in self.spec_.groups(self.answer_)}
        except ValueError as error:
            raise StudyError(f"until_day: {error}") from None

    def log_rank(self) -> tuple[int, Statistic]:
        """Return the log-rank test of all groups up to the day to which every count was opened, and that day.

        It is computed from the opened counts and opens nothing. Raises NotFitted, and ModelFailed if there is nothing
        to compare.
        """
        from synthema.learning.curve_results import log_rank_of

        n, found = log_rank_of(self.spec_.groups(self.answer_))
        return n * self.spec_.grid_days, found


class NelsonAalen(JointCurves):
    """Joint Nelson-Aalen curves. Fields: see `NelsonAalenSpec`."""

    spec_class = NelsonAalenSpec


class AalenJohansen(JointCurves):
    """Joint cumulative incidence of competing causes. Fields: see `AalenJohansenSpec`."""

    spec_class = AalenJohansenSpec
