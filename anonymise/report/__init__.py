"""The report of an anonymisation, before and after, as JSON and as one self-contained HTML page. INTERNAL."""

from anonymise.report.build import report_risk
from anonymise.report.document import (
    AttackFigure,
    ColumnFacts,
    ReleaseContext,
    ReleaseFacts,
    RiskDocument,
)
from anonymise.wp29.results import Criterion, Verdict

__all__ = [
    "AttackFigure",
    "ColumnFacts",
    "Criterion",
    "ReleaseContext",
    "ReleaseFacts",
    "RiskDocument",
    "Verdict",
    "report_risk",
]
