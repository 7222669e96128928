"""Re-identification risk of a table, as figures: what an attacker who knows a patient's quasi-identifiers can achieve.

class        the people who agree on all quasi-identifiers; or, where missing values are wildcards, a person's crowd
prosecutor   knows that the patient is in the table: risk 1 / class size
marketer     wants to re-identify as many as possible: expected share of the table. It equals the average prosecutor
             risk as long as the table is its own population
unique       alone in the class

Source: Dankar, El Emam 2010; El Emam, Arbuckle 2013 (definitions); EMA Policy 0070 (threshold 0.09).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from anonymise.classes import IntArray
from anonymise.population import Estimate
from anonymise.risk.journalist import JournalistRisk
from anonymise.risk.levels import SensitiveRisk

Unit = Literal["row", "patient"]
Missing = Literal["own_value", "wildcard"]

# (threshold, k): guidance writes 0.09 and means classes of at least 11 (EMA Policy 0070), and likewise 0.33 and 3.
RISK_THRESHOLDS: Final = ((0.05, 20), (0.09, 11), (0.2, 5), (0.33, 3))
# Class sizes are shown in these groups: the first size of each, the last one open.
SIZE_GROUPS: Final = (1, 2, 3, 5, 11, 20, 50, 100)


def least_class(threshold: float) -> int:
    """Return the smallest class whose risk is not above a threshold: 11 for 0.09, as guidance means it.

    Examples
    --------
    >>> least_class(0.09), least_class(0.1), least_class(0.25), least_class(0.3)
    (11, 10, 4, 4)
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold must be in (0, 1], got {threshold!r}")
    return dict(RISK_THRESHOLDS).get(threshold, math.ceil(1.0 / threshold - 1e-9))


@dataclass(frozen=True, slots=True)
class ColumnRisk:
    """One column by itself: how many distinct values it has, and the share of rows whose value nobody else has."""

    name: str
    quasi_identifier: bool
    n_distinct: int
    uniqueness: float


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """Whether a privacy model holds on the table, and the share of people in classes that fail it.

    share_failing   0.0 or 1.0 for a statement on the table as a whole
    """

    model: str
    holds: bool
    share_failing: float


@dataclass(frozen=True, slots=True)
class SizeShare:
    """Share of the people who stand in classes of `least` to `most` people (None: no limit)."""

    least: int
    most: int | None
    share: float


@dataclass(frozen=True, slots=True, repr=False)
class RiskReport:
    """Re-identification risks of a table. INTERNAL to the site: it holds exact counts of patients.

    n_records                 rows
    n_people, unit            people: rows, or patients where the schema names their id and the table has it. Patients
                              with several rows are in one class if all their rows are equal, in any order
    missing                   "own_value": missing is a value like others; "wildcard": in some column it agrees with all
    n_classes                 distinct combinations of the quasi-identifiers (of patients with several rows: of
                              these rows)
    smallest_class            people in the smallest class: the k that the table reaches
    sample_uniqueness         share of people alone in their class
    average_prosecutor_risk   mean of 1 / class size over people
    max_prosecutor_risk       1 / smallest class size
    marketer_risk             expected share of people an attacker re-identifies who matches everybody
    share_above               (threshold, share of people in classes smaller than the k that the threshold stands for:
                              20 for 0.05, 11 for 0.09, 5 for 0.2, 3 for 0.33)
    threshold, share_at_risk  the chosen threshold, and the share of people in classes smaller than its k
    class_sizes               (size, number of classes of that size), ascending; with wildcards: of crowds
    distribution              share of people by size of their class
    columns                   each column of the table by itself, in the table's order
    journalist                against a population table or size, if one was given
    population_uniqueness     estimated share of the population that is alone in its class, if a size was given
    sensitive                 levels of diversity and closeness that each sensitive column reaches
    not_counted               sensitive columns of which a patient has several values: no count of single values bounds
                              what their combination tells
    models                    whether each given model holds
    """

    quasi_identifiers: tuple[str, ...]
    n_records: int
    n_classes: int
    sample_uniqueness: float
    average_prosecutor_risk: float
    max_prosecutor_risk: float
    marketer_risk: float
    share_above: tuple[tuple[float, float], ...]
    class_sizes: tuple[tuple[int, int], ...]
    columns: tuple[ColumnRisk, ...]
    n_people: int
    smallest_class: int
    threshold: float
    share_at_risk: float
    distribution: tuple[SizeShare, ...]
    unit: Unit = "row"
    missing: Missing = "own_value"
    journalist: JournalistRisk | None = None
    population_uniqueness: Estimate | None = None
    sensitive: tuple[SensitiveRisk, ...] = ()
    not_counted: tuple[str, ...] = ()
    models: tuple[ModelCheck, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, marked internal; what is infinite becomes None."""
        plain = _plain({"audience": "INTERNAL", **asdict(self)})
        return dict(plain)

    def to_json(self) -> str:
        """Return the report as JSON, marked internal."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_html(self) -> str:
        """Return the report as one HTML page that loads nothing, marked internal."""
        # The pages need the figures defined here, so they are imported when one is made.
        from anonymise.report import RiskDocument

        return RiskDocument.of(self).to_html()

    def plot(self) -> str:
        """Return the share of people by the size of their class as an SVG drawing, marked internal."""
        from anonymise.report.page import standalone_distribution

        return standalone_distribution(self)

    def __repr__(self) -> str:
        """Name the quasi-identifiers only: a repr ends up in logs, exact counts must not."""
        return f"RiskReport(INTERNAL, quasi_identifiers={self.quasi_identifiers!r})"

    def __str__(self) -> str:
        """Return the report as text for the site's own staff."""
        return "\n".join(_lines(self))


def size_shares(sizes: IntArray, people: IntArray) -> tuple[SizeShare, ...]:
    """Return the share of the people in each group of class sizes."""
    n = int(people.sum())
    at = np.searchsorted(np.array(SIZE_GROUPS), sizes, side="right") - 1
    sums = np.bincount(at, weights=people, minlength=len(SIZE_GROUPS))
    ends = [*(first - 1 for first in SIZE_GROUPS[1:]), None]
    return tuple(SizeShare(least, most, int(s) / n) for least, most, s in zip(SIZE_GROUPS, ends, sums, strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(report: RiskReport) -> Iterator[str]:
    yield "Re-identification risk - INTERNAL: exact counts, do not pass on"
    yield f"quasi-identifiers        {', '.join(report.quasi_identifiers)}"
    yield f"records, classes         {report.n_records}, {report.n_classes}"
    if report.unit == "patient":
        yield f"patients                 {report.n_people}"
    if report.missing == "wildcard":
        yield "missing values           agree with any value"
    yield f"smallest class           {report.smallest_class}"
    yield f"unique {'patients' if report.unit == 'patient' else 'records':<18}{report.sample_uniqueness:.2%}"
    yield f"average prosecutor risk  {report.average_prosecutor_risk:.2%}"
    yield f"highest prosecutor risk  {report.max_prosecutor_risk:.2%}"
    yield f"marketer risk            {report.marketer_risk:.2%}"
    for level, share in report.share_above:
        yield f"records with risk > {level:<4g} {share:.2%}"
    yield from _population_lines(report)
    for check in report.models:
        yield f"{check.model:<40} {'holds' if check.holds else f'fails for {check.share_failing:.2%}'}"
    if report.sensitive:
        yield "sensitive column         distinct l  entropy l  recursive c (l=2)  t (equal)  t (ordered)"
        for row in report.sensitive:
            ordered = "-" if row.t_ordered is None else f"{row.t_ordered:.3f}"
            yield (
                f"  {row.name:<22} {row.distinct_l:>10} {row.entropy_l:>10.2f} {row.recursive_c:>18.2f} "
                f"{row.t_equal:>10.3f} {ordered:>12}"
            )
    if report.not_counted:
        yield f"several values a patient, not counted: {', '.join(report.not_counted)}"
    yield "column by itself         distinct   unique"
    for column in report.columns:
        mark = "  (quasi-identifier)" if column.quasi_identifier else ""
        yield f"  {column.name:<22} {column.n_distinct:>8} {column.uniqueness:>8.2%}{mark}"


def _population_lines(report: RiskReport) -> Iterator[str]:
    journalist, uniqueness = report.journalist, report.population_uniqueness
    if journalist is not None:
        kind = "" if journalist.source == "population table" else " (estimate)"
        yield f"average journalist risk  {journalist.average:.2%}{kind}"
        yield f"highest journalist risk  {journalist.highest:.2%}{kind}"
        if journalist.share_not_covered:
            yield f"not in the population    {journalist.share_not_covered:.2%} of the records"
    if uniqueness is not None:
        found = "not converged" if uniqueness.value is None else f"{uniqueness.value:.2%}"
        yield f"unique in the population {found} ({uniqueness.estimator}: {uniqueness.reason})"
