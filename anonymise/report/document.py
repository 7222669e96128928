"""What an anonymisation did to the risk, as a value: for scripts as JSON, for people as one HTML page. INTERNAL.

before, after   figures of risk of the raw and of the released table
context         what the figures cannot know: who receives the table, for what, under which safeguards
attacks, wp29   attacks that were tried on the table, after the three criteria of WP29 Opinion 05/2014

The order follows ISO/IEC 27559:2022: context (clause 6), data and attackers (7), identifiability and mitigation (8),
governance (9).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from anonymise.risk import Finding, RiskReport, check_policy_0070
from anonymise.wp29.results import Criterion, Verdict, Wp29Result

FORMAT: Final = "synthema-anonymisation"
VERSION: Final = 1
NOTICE: Final = (
    "INTERNAL. The figures are exact counts of patients, without noise and without being paid for in a ledger. Do not "
    "share them outside the house that holds the rows."
)


@dataclass(frozen=True, slots=True)
class ReleaseContext:
    """What a person has to say; empty answers are shown as missing.

    recipient    who gets the table, and whether they could have other data on the same patients
    purpose      what it is for, and whether less would do
    access       public, on request, or in a closed environment
    safeguards   contract, technical controls, deletion
    approved_by  who decided, and when
    review       when, or after what event, the risk is assessed again
    """

    recipient: str = ""
    purpose: str = ""
    access: str = ""
    safeguards: str = ""
    approved_by: str = ""
    review: str = ""


@dataclass(frozen=True, slots=True)
class AttackFigure:
    """One attack that was tried: the share of tries that succeeded, and of tries that cannot know better.

    low, high   95 % interval of the success, if it is known
    reference   success without the table, or on people who are not in it; None if it was not measured
    meaning     one plain sentence: what the attacker tried
    excess      (success - reference) / (1 - reference) with its 95 % interval, if it is known
    compared    what the reference is
    guess       success of guessing, where the reference is something else
    notes       what limits the figure
    """

    criterion: Criterion
    name: str
    success: float
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    meaning: str = ""
    verdict: Verdict | None = None
    excess: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None
    compared: str = ""
    guess: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column before and after; None where it did not leave, or nothing left yet."""

    name: str
    role: str
    values_before: int
    unique_before: float
    values_after: int | None
    unique_after: float | None
    level: int | None
    n_levels: int | None


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """How the released table came about.

    models       the privacy models that it satisfies, of those that were asked about
    suppressed   share of rows left out
    score        loss in [0, 1], None if the table did not come from this package
    optimal      whether no other generalisation loses less; None if unknown
    """

    models: tuple[str, ...]
    suppressed: float
    score: float | None
    optimal: bool | None


@dataclass(frozen=True, slots=True, repr=False)
class RiskDocument:
    """The report. `after` and `release` are None for a table that was only assessed, `wp29` if it was not attacked.

    provenance   name and text of what made the release: hashes, versions, an entry in a ledger
    """

    title: str
    before: RiskReport
    after: RiskReport | None = None
    release: ReleaseFacts | None = None
    columns: tuple[ColumnFacts, ...] = ()
    findings: tuple[Finding, ...] = ()
    attacks: tuple[AttackFigure, ...] = ()
    context: ReleaseContext = ReleaseContext()
    provenance: tuple[tuple[str, str], ...] = ()
    wp29: Wp29Result | None = None

    @classmethod
    def of(cls, report: RiskReport, *, title: str = "Table") -> RiskDocument:
        """Return the report of a table that was only assessed, with what its figures alone tell."""
        columns = tuple(
            ColumnFacts(
                column.name,
                "quasi-identifier" if column.quasi_identifier else "other",
                column.n_distinct,
                column.uniqueness,
                None,
                None,
                None,
                None,
            )
            for column in report.columns
        )
        return cls(title, report, columns=columns, findings=check_policy_0070(report))

    @property
    def shown(self) -> RiskReport:
        """The figures that count: those of the released table, if there is one."""
        return self.before if self.after is None else self.after

    @property
    def tried(self) -> tuple[AttackFigure, ...]:
        """All attacks: those measured here, and those that were given."""
        # The conversion needs the values defined here.
        from anonymise.report.opinion import figures

        return (*(() if self.wp29 is None else figures(self.wp29)), *self.attacks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, marked internal; what is infinite or undefined becomes None."""
        body = {field.name: getattr(self, field.name) for field in fields(self)}
        body["before"], body["after"] = self.before.to_dict(), None if self.after is None else self.after.to_dict()
        for name in ("columns", "findings", "attacks"):
            body[name] = [asdict(item) for item in body[name]]
        body["context"] = asdict(self.context)
        body["release"] = None if self.release is None else asdict(self.release)
        body["wp29"] = None if self.wp29 is None else self.wp29.to_dict()
        head = {"format": FORMAT, "version": VERSION, "audience": "INTERNAL", "notice": NOTICE}
        return {**head, **{name: _finite(value) for name, value in body.items()}}

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_html(self) -> str:
        """Return the report as one HTML page that loads nothing."""
        # The page needs the values defined here, so it is imported when it is made.
        from anonymise.report.page import render

        return render(self)

    def __repr__(self) -> str:
        """Name the table only: a repr ends up in logs, exact counts must not."""
        return f"RiskDocument(INTERNAL, title={self.title!r})"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
