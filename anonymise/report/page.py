"""The report as one HTML page: three questions first, then the clauses of ISO/IEC 27559 in their order."""

from __future__ import annotations

from markupsafe import Markup

from anonymise.report import opinion, words
from anonymise.report.document import NOTICE, RiskDocument
from anonymise.risk import RiskReport, SensitiveRisk, SizeShare
from anonymise.risk.figures import least_class
from privacy import _formats as formats
from privacy._charts import paired_shares
from privacy._pages import Pages, shared_css


def render(document: RiskDocument) -> str:
    """Return the page; every string that is no finished drawing is escaped."""
    before, after = document.before, document.after
    return _PAGES.render(
        "anonymisation.html.j2",
        d=document,
        notice=NOTICE,
        shown=document.shown,
        who=words.people(document.shown),
        answers=words.answers(document),
        rows=list(words.rows(document)),
        needed=least_class(before.threshold),
        sizes=distribution(before, after, key="sizes"),
        sensitive=_sensitive(document),
        techniques=opinion.techniques(document),
        measured=opinion.measured(document),
        notes=opinion.notes(document),
        not_attacked=opinion.columns_not_attacked(document.wp29),
        left=[column for column in document.columns if column.values_after is None],
    )


def distribution(before: RiskReport, after: RiskReport | None, *, key: str) -> Markup:
    """Draw the share of people by the size of their group, before and after."""
    return paired_shares(
        [_sizes(group) for group in before.distribution],
        [group.share for group in before.distribution],
        None if after is None else [group.share for group in after.distribution],
        key=key,
        title="People by the size of their group",
    )


def standalone_distribution(report: RiskReport) -> str:
    """Return the drawing as a file of its own: with its name space, its style and the mark that it is internal."""
    drawing = distribution(report, None, key="sizes")
    style = (
        "<style>text{font:12px sans-serif;fill:#1b2226}.first{fill:#1f6f8b}.grid{stroke:#dde0dc}.zero{stroke:#7f898f}"
        "</style><!-- INTERNAL -->"
    )
    return (
        str(drawing)
        .replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        .replace("</desc>", f"</desc>{style}", 1)
    )


def _sizes(group: SizeShare) -> str:
    if group.most == group.least:
        return "alone" if group.least == 1 else f"{group.least} people"
    return f"{group.least} or more" if group.most is None else f"{group.least} to {group.most}"


def _sensitive(document: RiskDocument) -> list[tuple[str, SensitiveRisk | None, SensitiveRisk | None]]:
    before = {row.name: row for row in document.before.sensitive}
    after = {} if document.after is None else {row.name: row for row in document.after.sensitive}
    return [(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]


_PAGES = Pages(
    "anonymise.report",
    shared_css,
    {
        "count": formats.count,
        "decimal": formats.decimal,
        "percent": formats.percent,
        "verdict": words.VERDICTS.__getitem__,
    },
)
