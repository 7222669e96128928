"""The internal page that shows a model trained in several ways, beside that of the pooled patients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from synthema.learning.summaries import shown
from synthema.report.charts import Interval, forest
from synthema.report.page import render

if TYPE_CHECKING:
    from synthema.learning.training import Trained, TrainingComparison

BANNER = "INTERNAL: the pooled model is computed from patient rows. Do not share."
_Z95 = 1.959963984540054


def render_training(comparison: TrainingComparison) -> str:
    """Return one self-contained page; equal input gives equal bytes."""
    every = (comparison.pooled, *(way for way in comparison.ways if way.coefficients))
    terms = [term for term in comparison.terms if term != "intercept"]
    rows = [(term, [_cell(way, term) for way in every]) for term in comparison.terms]
    return render(
        "training.html.j2",
        banner=BANNER,
        c=comparison,
        every=every,
        rows=rows,
        sections=(("ways", "Ways"), ("terms", "Coefficients")),
        distances=[shown(way.distance) for way in comparison.ways],
        forests=[(term, _forest(every, term, key=f"term-{i}")) for i, term in enumerate(terms)],
    )


def _cell(way: Trained, term: str) -> str:
    if term not in way.coefficients:
        return ""
    value, error = way.coefficients[term]
    return f"{shown(value)} ({shown(error)})"


def _forest(every: tuple[Trained, ...], term: str, *, key: str) -> str:
    bars = []
    for way in every:
        if term in way.coefficients:
            value, error = way.coefficients[term]
            if math.isfinite(error):
                bars.append(Interval(way.name, value, value - _Z95 * error, value + _Z95 * error))
    return forest(tuple(bars), key=key, title=f"{term}: coefficient with 95 % interval", of="outcome", scale="linear")
