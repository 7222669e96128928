"""Kaplan-Meier curves as a model of a study: `kind = "kaplan-meier"`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from synthema.learning.estimator import JointModel
from synthema.learning.model import Contribution, ModelSpec, Rounds, SiteHalf, Table, pooled

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from smpc import Session, SharePackage
    from synthema.governance.refusals import Reason
    from synthema.learning.kaplan_meier import Grid
    from synthema.policy import SitePolicy
    from synthema.study import Study


class KaplanMeierSpec(ModelSpec):
    """Survival curves per group on a public grid; the schema's [survival] section says time and event.

    group       a column with categories
    grid_days   length of an interval, in days
    """

    kind: Literal["kaplan-meier"] = "kaplan-meier"
    group: str
    grid_days: int = Field(ge=30)

    title: ClassVar[str] = "Kaplan-Meier curves"
    opens_survival_counts: ClassVar[bool] = True

    def check(self, schema: Schema) -> None:
        """See `ModelSpec.check`."""
        if schema.survival is None:
            raise ValueError("survival results need a [survival] section in the schema")
        if not schema.column(self.group).categories:
            raise ValueError(f"group: {self.group!r} must be a column with categories")
        for name in (schema.survival.time, schema.survival.event):
            if schema.column(name).nullable:
                raise ValueError(f"survival results need {name!r} without missing values")

    @property
    def what(self) -> str:
        """See `ModelSpec.what`."""
        return f"Kaplan-Meier by {self.group}, events and patients at risk"

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """See `ModelSpec.exact_rules`."""
        from synthema.governance.rules import level_rules

        if self.grid_days < policy.min_grid_days:
            yield "exact", f"grid_days must be at least {policy.min_grid_days}"
        yield from level_rules(policy, study, (self.group,))

    def grid(self, schema: Schema) -> Grid:
        """Return the public grid: it covers the schema's largest survival time."""
        from synthema.learning.kaplan_meier import Grid

        if schema.survival is None:
            raise ValueError("survival results need a [survival] section in the schema")
        longest = schema.column(schema.survival.time).bin_edges[-1]
        return Grid(grid_days=self.grid_days, n_intervals=int(-(-longest // self.grid_days)))

    def site_half(self, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
        """See `ModelSpec.site_half`."""
        del study
        return _CurvesAtSite(self, schema, rows)

    def fit(self, rounds: Rounds) -> dict[str, Any]:
        """See `ModelSpec.fit`."""
        from smpc import FIELD61
        from synthema.learning import kaplan_meier

        grid = self.grid(rounds.schema)

        async def protocol(session: Session, packages: Sequence[SharePackage]) -> Any:
            counts = pooled(session, packages, FIELD61)
            return kaplan_meier.opened_to_json(
                await kaplan_meier.open_counts(session, counts, grid, min_cell=self.min_cell)
            )

        labels = [f"{self.group} = {label}" for label in rounds.schema.column(self.group).labels()]
        return {"labels": labels, "groups": rounds.run("counts", protocol)}

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """See `ModelSpec.summary`."""
        from synthema.learning import kaplan_meier

        tables = []
        for label, group in zip(answer["labels"], kaplan_meier.opened_from_json(answer["groups"]), strict=True):
            curve = kaplan_meier.survival_curve(label, group, grid_days=self.grid_days, min_cell=self.min_cell)
            rows = tuple(
                (each.end_day, each.at_risk, each.events, each.survival_low, each.survival_high) for each in curve.steps
            )
            columns = ("until day", "at risk", "deaths", "survival from", "to")
            tables.append(Table(label, columns, rows, note="Empty cells would show too few patients."))
        return tuple(tables)


class _CurvesAtSite:
    """See `SiteHalf`."""

    def __init__(self, spec: KaplanMeierSpec, schema: Schema, rows: pd.DataFrame) -> None:
        self._spec, self._schema, self._rows = spec, schema, rows

    def contribute(self, what: str, opened: Any) -> Contribution:
        from synthema.learning import kaplan_meier
        from synthema.learning.rows import survival_of

        del what, opened
        time, event = survival_of(self._schema, self._rows)
        column = self._schema.column(self._spec.group)
        group = column.encode(self._rows[self._spec.group].to_numpy())
        table = kaplan_meier.count_table(
            group, time, event, n_groups=column.n_codes, grid=self._spec.grid(self._schema)
        )
        return Contribution.counts(table)


class KaplanMeier(JointModel):
    """Joint Kaplan-Meier curves. Fields: see `KaplanMeierSpec`."""

    spec_class = KaplanMeierSpec
