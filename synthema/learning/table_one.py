"""Table one: the descriptive table of a clinical paper, over all sites, by groups. `kind = "table-one"`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from synthema.learning.covariates import FEWEST_VALUES
from synthema.learning.estimator import JointModel
from synthema.learning.model import ModelSpec, Rounds, SiteHalf, Table

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Event, Schema
    from privacy.schema import Column
    from synthema.governance.refusals import Reason
    from synthema.policy import SitePolicy
    from synthema.study import Study

_MOST_COLUMNS = 50


class TableOneSpec(ModelSpec):
    """Counts of categories; mean, standard deviation and quartiles of numbers.

    columns   what is described: columns with categories, and numbers with public bounds
    by        a column with categories, for a table with one group for each; none: all patients together
    """

    kind: Literal["table-one"] = "table-one"
    columns: tuple[str, ...] = Field(min_length=1, max_length=_MOST_COLUMNS)
    by: str | None = None

    title: ClassVar[str] = "Table one"
    opens_column_counts: ClassVar[bool] = True

    def check(self, schema: Schema) -> None:
        """See `ModelSpec.check`."""
        names = [*self.columns, *([self.by] if self.by is not None else [])]
        if len(set(names)) < len(names):
            raise ValueError("columns: name each column once, and the groups' column not among them")
        for name in self.columns:
            column = schema.column(name)
            if not (column.is_coded and (column.categories or column.is_numeric)):
                raise ValueError(f"columns: {name!r} must have categories, or be a number with bounds")
            if self.mode == "private" or column.categories or column.kind != "integer":
                continue
            # A sum of few values is a count of patients, and nobody would test it.
            low, high = column.bin_edges[[0, -1]]
            if high - low + 1 < FEWEST_VALUES:
                raise ValueError(f"columns: {name!r} has few values; make it categorical, or the table private")
        if self.by is not None and not schema.column(self.by).categories:
            raise ValueError(f"by: {self.by!r} must be a column with categories")

    @property
    def what(self) -> str:
        """See `ModelSpec.what`."""
        by = f" by {self.by}" if self.by is not None else ""
        return f"counts, means and quartiles of {', '.join(self.columns)}{by}"

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """See `ModelSpec.exact_rules`."""
        from synthema.governance.rules import level_rules
        from synthema.learning import dominance

        broken_down = [name for name in self.columns if study.data_schema.column(name).categories]
        yield from level_rules(policy, study, [*broken_down, *([self.by] if self.by is not None else [])])
        # Every category that is shown has so many patients in each group, or none.
        if 1 / self.min_cell > policy.max_level_density:
            yield "filters", f"the site allows {policy.max_level_density:g} categories per patient: raise min_cell"
        if policy.dominance < dominance.LARGEST_PART:
            yield "filters", f"the site allows one patient {policy.dominance:g} of a sum: leave it out"

    def event(self, study: Study, rho: float) -> Event:
        """See `ModelSpec.event`."""
        from synthema.learning import table_one_private

        return table_one_private.event(self, study, rho)

    def site_half(self, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
        """See `ModelSpec.site_half`."""
        from synthema.learning import table_one_exact, table_one_private

        if self.mode == "private":
            return table_one_private.AtSite(self, schema, rows)
        return table_one_exact.AtSite(self, study, schema, rows)

    def fit(self, rounds: Rounds) -> dict[str, Any]:
        """See `ModelSpec.fit`."""
        from synthema.learning import table_one_exact, table_one_private

        return table_one_private.fit(self, rounds) if self.mode == "private" else table_one_exact.fit(self, rounds)

    def groups(self, schema: Schema) -> tuple[str, ...]:
        """Return the labels of the groups; "all" where there is one."""
        return ("all",) if self.by is None else tuple(f"{self.by} = {each}" for each in schema.column(self.by).labels())

    def categorical(self, schema: Schema) -> tuple[Column, ...]:
        """Return the described columns with categories."""
        return tuple(schema.column(name) for name in self.columns if schema.column(name).categories)

    def numeric(self, schema: Schema) -> tuple[Column, ...]:
        """Return the described columns of numbers."""
        return tuple(schema.column(name) for name in self.columns if not schema.column(name).categories)

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """See `ModelSpec.summary`."""
        groups, sizes = answer["groups"], answer["sizes"]
        rows: list[tuple[str | None, ...]] = [("patients", *(_text(size) for size in sizes))]
        for column in answer["columns"]:
            if column["kind"] == "categorical":
                rows.extend(_counts(column, sizes))
            else:
                rows.extend(_numbers(column, len(groups)))
        note = "Empty cells would show too few patients." if self.mode == "exact" else _NOISE_NOTE
        return (Table("Patients at all sites", ("", *groups), tuple(rows), note),)


_NOISE_NOTE = (
    "Counts and means with noise: +- is the standard error, of a mean that of sampling and noise, of a count that of "
    "noise. Quartiles: the range in which the noise leaves them (95 %)."
)


class TableOne(JointModel):
    """The joint descriptive table. Fields: see `TableOneSpec`.

    Examples
    --------
    >>> TableOne(columns=["age", "wbc"], by="sex")
    TableOne(columns=('age', 'wbc'), by='sex')
    """

    spec_class = TableOneSpec

    def mean(self, column: str, group: str = "all") -> float | None:
        """Return a column's mean in a group; None if it was not opened. Raises KeyError if it is not in the table."""
        found = next((each for each in self.answer_["columns"] if each["name"] == column), None)
        if found is None or found["kind"] != "numeric" or group not in self.answer_["groups"]:
            raise KeyError(f"{column} of {group}")
        value = found["mean"][self.answer_["groups"].index(group)] if found["mean"] is not None else None
        return None if value is None else float(value)


def _text(count: float | None) -> str | None:
    return None if count is None else f"{count:.0f}"


def _counts(column: dict[str, Any], sizes: list[float | None]) -> Iterator[tuple[str | None, ...]]:
    error = column.get("std_error")
    for j, label in enumerate(column["labels"]):
        cells: list[str | None] = []
        for g, size in enumerate(sizes):
            if column["counts"] is None or size is None or column["counts"][g] is None:
                cells.append(None)
                continue
            count = column["counts"][g][j]
            share = f" ({100 * count / size:.1f} %)" if size else ""
            noise = "" if error is None else f" +- {float(error):.1f}"
            cells.append(f"{count:.0f}{noise}{share}")
        yield (f"{column['name']} = {label}", *cells)


def _numbers(column: dict[str, Any], n_groups: int) -> Iterator[tuple[str | None, ...]]:
    means: list[str | None] = []
    quartiles: list[list[str | None]] = [[], [], []]
    for g in range(n_groups):
        mean, sd = (column[key][g] if column[key] is not None else None for key in ("mean", "sd"))
        error = column["std_error"][g] if column.get("std_error") else None
        noise = "" if error is None else f" +- {float(error):.3g}"
        means.append(None if mean is None or sd is None else f"{float(mean):.4g}{noise} ({float(sd):.4g})")
        found = column["quartiles"][g] if column["quartiles"] is not None else None
        for q in range(3):
            quartiles[q].append(None if found is None or found[q] is None else _interval(*found[q]))
    yield (f"{column['name']}: mean (SD)", *means)
    for name, cells in zip(("lower quartile", "median", "upper quartile"), quartiles, strict=True):
        yield (f"{column['name']}: {name}", *cells)


def _interval(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:.6g} to {high:.6g}"
