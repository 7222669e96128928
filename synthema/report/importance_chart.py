"""How much a model goes by each covariate: one bar each."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from privacy._formats import percent
from privacy._svg import Drawing, text_width
from synthema.report.charts import PANEL_WIDTH

_ROW = 22.0
_WIDEST_LABEL = 150.0


def importance_chart(weights: Sequence[tuple[str, float]], *, key: str, title: str) -> Markup:
    """Draw parts of a whole, in the order given.

    Examples
    --------
    >>> print(importance_chart([("age", 0.75), ("sex", 0.25)], key="demo", title="Covariates"))
    <svg role="img" ...age: 75 %; sex: 25 %...
    """
    label_width = min(max((text_width(name) for name, _ in weights), default=0.0) + 10, _WIDEST_LABEL)
    left, right = label_width, PANEL_WIDTH - 46
    most = max((weight for _, weight in weights), default=0.0)
    described = "; ".join(f"{name}: {percent(weight, 0)}" for name, weight in weights)
    drawing = Drawing(PANEL_WIDTH, _ROW * len(weights) + 6, key=key, title=title, description=f"{described}.")
    for row, (name, weight) in enumerate(weights):
        y = 3 + _ROW * row
        drawing.text(0, y + 15, name, fit=label_width - 6)
        width = (right - left) * weight / most if most else 0.0
        drawing.rect(left, y + 3, width, _ROW - 6, css="bar-spent", radius=2)
        drawing.text(left + width + 6, y + 15, percent(weight, 0), css="tick")
    return drawing.markup()
