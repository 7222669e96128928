"""The log-rank test as a model of a study: `kind = "log-rank"`.

What it computes and opens in exact mode is in `synthema.learning.log_rank`. Private: deaths and losses per group,
stratum and interval are opened with joint noise (`noisy_counts`); U is that of the fitted counts, and its covariance is
V plus what the noise adds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from synthema.learning.curves import causes_of, check_survival, grid_of, longest_of
from synthema.learning.estimator import JointModel
from synthema.learning.model import Contribution, ModelSpec, Rounds, SiteHalf, Table, pooled

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from privacy import Event, Schema
    from smpc import Session, SharePackage
    from synthema.governance.refusals import Reason
    from synthema.learning.log_rank import Statistic
    from synthema.policy import SitePolicy
    from synthema.study import Study

# Strata times intervals: each is two quotients on shares.
MOST_TIMES = 8192


class LogRankSpec(ModelSpec):
    """Test of equal hazards in all groups; the schema's [survival] section says time and event.

    group       a column with categories
    grid_days   length of an interval, in days; counts of single intervals are never opened in exact mode, and there
                a fine grid is the safer one
    strata      columns with categories: groups are compared within each combination of them
    cause       an event category, whose hazard is compared; of several causes any, if none is named
    """

    kind: Literal["log-rank"] = "log-rank"
    group: str
    grid_days: int = Field(ge=1)
    strata: tuple[str, ...] = Field(default=(), max_length=5)
    cause: str | None = None

    title: ClassVar[str] = "Log-rank test"
    stands_beside_no_curves: ClassVar[bool] = True
    one_in_a_study: ClassVar[bool] = True

    def check(self, schema: Schema) -> None:
        """See `ModelSpec.check`."""
        from synthema.learning.log_rank import LEAST_TIMES

        check_survival(schema, (self.group, *self.strata))
        if len({self.group, *self.strata}) < 1 + len(self.strata):
            raise ValueError("strata: name columns other than the group, each once")
        if schema.column(self.group).n_codes < 2:
            raise ValueError(f"group: {self.group!r} has one category, and a test compares two at least")
        if self.cause is not None and self.cause not in causes_of(schema):
            raise ValueError(f"cause: {self.cause!r} is none of {', '.join(causes_of(schema))}")
        if self.grid_days > longest_of(schema):
            raise ValueError(
                f"grid_days: follow-up ends after {longest_of(schema):g} days by the schema, within one interval"
            )
        n_intervals = grid_of(schema, self.grid_days).n_intervals
        if self.mode == "exact" and n_intervals < LEAST_TIMES:
            most = math.floor(longest_of(schema) / LEAST_TIMES)
            raise ValueError(f"grid_days: an exact test needs {LEAST_TIMES} intervals at least, so at most {most} days")
        if n_intervals * self._n_strata(schema) > MOST_TIMES:
            raise ValueError(f"grid_days: strata x intervals may be {MOST_TIMES} at most: take longer intervals")

    def _n_strata(self, schema: Schema) -> int:
        return math.prod(schema.column(name).n_codes for name in self.strata)

    @property
    def needs_material(self) -> bool:  # type: ignore[override]
        """Opening noisy sums needs none."""
        return self.mode == "exact"

    @property
    def what(self) -> str:
        """See `ModelSpec.what`."""
        by = f" within {', '.join(self.strata)}" if self.strata else ""
        noisy = "deaths and losses" if self.mode == "private" else "observed minus expected deaths and their covariance"
        return f"log-rank test of {self.group}{by}, {noisy}"

    def n_coefficients(self, schema: Schema) -> int:
        """See `ModelSpec.n_coefficients`."""
        return schema.column(self.group).n_codes - 1

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """See `ModelSpec.exact_rules`."""
        from synthema.governance.rules import level_rules
        from synthema.learning.covariates import PARAMETER_RATIO
        from synthema.learning.kaplan_meier import GROUP_FACTOR

        if policy.max_parameter_ratio < PARAMETER_RATIO:
            yield "filters", f"the site allows {policy.max_parameter_ratio:g} coefficients per patient: drop the test"
        if 1 / (GROUP_FACTOR * self.min_cell) > policy.max_level_density:
            yield "filters", f"the site allows {policy.max_level_density:g} groups per patient: raise min_cell"
        yield from level_rules(policy, study, (self.group, *self.strata))

    def event(self, study: Study, rho: float) -> Event:
        """See `ModelSpec.event`."""
        from synthema.learning.noisy_counts import noisy_series

        schema = study.data_schema
        n_series = 2 * schema.column(self.group).n_codes * self._n_strata(schema)
        return noisy_series(study, rho, n_series=n_series, n_intervals=grid_of(schema, self.grid_days).n_intervals)

    def site_half(self, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
        """See `ModelSpec.site_half`."""
        return _TableAtSite(self, study, schema, rows)

    def fit(self, rounds: Rounds) -> dict[str, Any]:
        """See `ModelSpec.fit`."""
        from synthema.errors import DisclosureRefused
        from synthema.learning import log_rank
        from synthema.steps import total_coefficients

        labels = list(rounds.schema.column(self.group).labels())
        if self.mode == "private":
            from synthema.learning.noisy_sums import noise_std, open_noisy_sum

            measured = open_noisy_sum(rounds, "table").tolist()
            answer = {"labels": labels, "noise_std": repr(noise_std(rounds)), "measured": measured}
        else:
            study, n_strata = rounds.study, self._n_strata(rounds.schema)
            n_coefficients = total_coefficients(study)

            async def protocol(session: Session, packages: Sequence[SharePackage]) -> list[int]:
                opened = await log_rank.open_statistic(
                    session,
                    pooled(session, packages),
                    n_strata=n_strata,
                    n_coefficients=n_coefficients,
                    most_patients=study.largest_cohort * len(study.sites),
                    min_cell=self.min_cell,
                )
                return [] if opened is None else [int(value) for value in opened]

            opened = rounds.run("table", protocol)
            if not opened:
                raise DisclosureRefused(f"the log-rank test was not opened: {log_rank.RULE}")
            answer = {"labels": labels, "opened": list(opened)}
        # What cannot be tested is said now.
        self.statistic(answer)
        return answer

    def statistic(self, answer: dict[str, Any]) -> Statistic:
        """Return the test of an answer. Raises ModelFailed if there is nothing to compare."""
        from synthema.learning import log_rank

        if "opened" in answer:
            return log_rank.read(answer["opened"], len(answer["labels"]))
        return log_rank.of_noisy_counts(answer["measured"], float(answer["noise_std"]))

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """See `ModelSpec.summary`."""
        found = self.statistic(answer)
        return (
            Table(
                self.title,
                ("chi-square", "degrees of freedom", "p"),
                ((found.chi_square, found.degrees, found.p),),
                note="The variance reckons with the noise." if self.mode == "private" else "",
            ),
            Table(
                f"Deaths by {self.group}",
                ("group", "observed - expected", "std. deviation"),
                tuple(
                    (label, float(found.difference[g]), float(max(found.covariance[g, g], 0) ** 0.5))
                    for g, label in enumerate(answer["labels"])
                ),
            ),
        )


class _TableAtSite:
    """See `SiteHalf`."""

    def __init__(self, spec: LogRankSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> None:
        self._spec, self._study, self._schema, self._rows = spec, study, schema, rows

    def contribute(self, what: str, opened: Any) -> Contribution:
        from synthema.errors import StudyError
        from synthema.learning import noisy_counts

        del what, opened
        if len(self._rows) > self._study.largest_cohort:
            raise StudyError(f"a site may hold at most {self._study.largest_cohort} patients in this study")
        table = self._table()
        if self._spec.mode == "private":
            # Groups first, then strata: (G, S, 2, T).
            return Contribution(noisy_counts.encoded(table.transpose(1, 2, 0, 3)))
        return Contribution(table.reshape(2, table.shape[1], -1))

    def _table(self) -> npt.NDArray[np.int64]:
        """Return deaths and losses, shape (2, G, strata, T)."""
        import numpy as np

        from synthema.learning import kaplan_meier
        from synthema.learning.rows import causes_of_rows

        spec, schema = self._spec, self._schema
        time, cause = causes_of_rows(schema, self._rows, [spec.cause] if spec.cause else causes_of(schema))
        place, sizes = np.zeros(len(self._rows), dtype=np.int64), []
        for name in itertools.chain([spec.group], spec.strata):
            column = schema.column(name)
            place = place * column.n_codes + column.encode(self._rows[name].to_numpy())
            sizes.append(column.n_codes)
        grid = grid_of(schema, spec.grid_days)
        table = kaplan_meier.count_table(place, time, cause > 0, n_groups=math.prod(sizes), grid=grid)
        return table.reshape(2, sizes[0], math.prod(sizes[1:]), grid.n_intervals)


class LogRank(JointModel):
    """Joint log-rank test. Fields: see `LogRankSpec`.

    Attributes
    ----------
    statistic_
        Observed minus expected deaths, their covariance, chi-square, degrees of freedom and p, after `fit`.
    """

    spec_class = LogRankSpec
    spec_: LogRankSpec

    @property
    def statistic_(self) -> Statistic:
        """The test. Raises NotFitted."""
        return self.spec_.statistic(self.answer_)
