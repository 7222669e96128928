"""Charts that several reports draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from privacy._formats import percent
from privacy._svg import Drawing, linear_ticks, text_width

# About as wide as a telephone's screen, so that labels stay readable there.
WIDTH: Final = 340.0
_LONGEST_LABEL: Final = 122.0


def paired_shares(
    labels: Sequence[str], first: Sequence[float], second: Sequence[float] | None, *, key: str, title: str
) -> Markup:
    """Draw one pair of horizontal bars of shares for each label; single bars where there is no second series.

    key    a name that is unique on the page, from the program and never from data
    """
    series = [("first", first)] if second is None else [("first", first), ("second", second)]
    left = min(max(text_width(label) for label in labels) + 10, _LONGEST_LABEL)
    right, row_height, top = WIDTH - 54, 8.0 + 12.0 * len(series), 4.0
    high = max(1e-9, *(value for _, values in series for value in values))

    def x(value: float) -> float:
        return left + (right - left) * value / high

    described = "; ".join(
        f"{label}: {', '.join(percent(values[i]) for _, values in series)}" for i, label in enumerate(labels)
    )
    floor = top + row_height * len(labels)
    drawing = Drawing(WIDTH, floor + 20, key=key, title=title, description=described)
    ticks = linear_ticks(0, high, about=3)
    digits = 0 if all(abs(100 * tick - round(100 * tick)) < 1e-9 for tick in ticks) else 1
    for tick in ticks:
        drawing.line(x(tick), top, x(tick), floor, css="zero" if tick == 0 else "grid")
        drawing.text(x(tick), floor + 15, percent(tick, digits), css="tick", anchor="middle")
    for row, label in enumerate(labels):
        y = top + row_height * row
        drawing.text(0, y + row_height / 2 + 4, label, fit=left - 6)
        for at, (css, values) in enumerate(series):
            dy = 4.0 + 12.0 * at
            drawing.rect(x(0), y + dy, x(values[row]) - x(0), 11, css=css)
            drawing.text(WIDTH, y + dy + 9.5, percent(values[row]), css="value", anchor="end")
    return drawing.markup()
