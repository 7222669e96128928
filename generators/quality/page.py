"""The evaluation as one HTML page: plain words first, then figures, tables and charts.

One file that holds all it needs (`privacy._pages`).
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from generators.quality import charts, words
from generators.quality.rulers import Figure
from privacy import _formats as formats
from privacy._pages import Pages, shared_css

if TYPE_CHECKING:
    from generators.quality.report import Report

_WORST_COLUMNS = 6
_WORST_PAIRS = 8


def render(report: Report) -> str:
    """Return the page; every string that is no finished drawing is escaped."""
    return _PAGES.render(
        "evaluation.html.j2",
        r=report,
        verdicts=report.verdicts,
        sections=words.sections(report),
        columns=_columns(report),
        pairs=sorted(report.fidelity.pairs, key=lambda pair: -pair.distance)[:_WORST_PAIRS],
        heat=charts.heat_map(report.fidelity.pairs, key="pairs") if report.fidelity.pairs else None,
        heat_limits=charts.HEAT_LIMITS,
        columns_shown=charts.MOST_COLUMNS,
        columns_left_out=len(report.fidelity.columns) > charts.MOST_COLUMNS,
        scores=charts.histogram(report.fidelity.propensity, key="scores"),
        curves=_curves(report),
        forest=_forest(report),
        attacks=_attacks(report),
    )


def _columns(report: Report) -> list[tuple[Any, Markup]]:
    worst = sorted(report.fidelity.columns, key=lambda column: -column.distance)
    return [(column, charts.paired_bars(column, key=f"column{i}")) for i, column in enumerate(worst[:_WORST_COLUMNS])]


def _curves(report: Report) -> list[tuple[Any, Markup]]:
    if report.survival is None:
        return []
    return [(curves, charts.survival(curves, key=f"curves{i}")) for i, curves in enumerate(report.survival.curves)]


def _forest(report: Report) -> Markup | None:
    if report.survival is None or not report.survival.terms:
        return None
    return charts.forest(report.survival.terms, key="hazards")


def _attacks(report: Report) -> Markup | None:
    return None if report.privacy is None else charts.attacks(report.privacy.attacks, key="attacks")


def _ruler(figure: Figure) -> Markup:
    # A name may hold a column's, which may hold anything.
    return charts.ruler(figure, key="ruler-" + hashlib.sha256(figure.name.encode()).hexdigest()[:12])


def _value(value: float | None) -> str:
    """Write a figure's number with three decimals at most, fewer where it is large."""
    if value is None or math.isnan(value):
        return formats.NO_VALUE
    digits = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    # Adding zero takes the sign from a value that rounds to nothing.
    return formats.decimal(round(value, digits) + 0.0, digits)


_PAGES = Pages(
    "generators.quality",
    shared_css,
    {
        "count": formats.count,
        "decimal": formats.decimal,
        "percent": formats.percent,
        "ratio": formats.ratio,
        "value": _value,
        "ruler": _ruler,
        "verdict": words.VERDICTS.__getitem__,
        "leak": words.LEAKS.__getitem__,
        "limits": words.limits,
        "hazard": words.hazard,
        "one": lambda value: formats.count(round(value)),
    },
)
