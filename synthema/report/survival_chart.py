"""Kaplan-Meier step curves on a public grid: released (solid, with its bracket) against synthetic (dashed).

Between two grid points nobody outside the sites knows when patients died, so each curve holds its value up to the
grid point and falls there. Where the opened cells leave a bracket, both of its ends are drawn and the space between
is shaded: no middle line is made up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from markupsafe import Markup

from privacy._formats import bound_above, bound_below, count, percent
from privacy._svg import Drawing, number
from synthema.released import SurvivalCurve

DAYS_PER_YEAR = 365.25
# As many colours, and dash patterns, as the page's style sheet names.
N_COLOURS = 6
Size = Literal["wide", "narrow"]

_WIDTH = {"wide": 940.0, "narrow": 340.0}
_PLOT_HEIGHT = {"wide": 340.0, "narrow": 240.0}
# One knot of a curve: the end of an interval, and the least and greatest survival there.
_Knot = tuple[float, float, float]


def survival_chart(
    groups: Sequence[tuple[int, SurvivalCurve, SurvivalCurve | None]],
    *,
    size: Size,
    key: str,
    title: str,
    first: str = "released",
    second: str = "synthetic",
) -> Markup:
    """Draw the curves. Each group: (colour number, first curve, second curve or None)."""
    width, plot_height = _WIDTH[size], _PLOT_HEIGHT[size]
    left, right, legend_row = 46.0, 14.0, 20.0
    top = legend_row * len(groups) + 14
    floor = top + plot_height
    last_day = _last_day([curve for _, a, b in groups for curve in (a, b) if curve is not None])
    drawing = Drawing(
        width, floor + 48, key=key, title=title, description=_description(groups, first=first, second=second)
    )

    def x(day: float) -> float:
        return left + (width - left - right) * day / last_day

    def y(survival: float) -> float:
        return floor - plot_height * min(max(survival, 0.0), 1.0)

    for quarter in range(5):
        drawing.line(left, y(quarter / 4), width - right, y(quarter / 4), css="zero" if quarter == 0 else "grid")
        drawing.text(left - 8, y(quarter / 4) + 4, f"{25 * quarter} %", css="tick", anchor="end")
    time_axis(drawing, last_day=last_day, x=x, floor=floor, at_most=10 if size == "wide" else 5)
    for row, (colour, curve, _) in enumerate(groups):
        _legend_row(drawing, row * legend_row + 14, colour, curve.group, first=first, second=second)
    for colour, curve, _ in groups:
        for run in _runs(curve):
            if any(not _is_point(low, high) for _, low, high in run):
                drawing.path(_band([(x(d), y(low), y(high)) for d, low, high in run]), css=f"band band{colour}")
    for colour, curve, other in groups:
        if other is not None:
            for run in _runs(other):
                drawing.path(_steps([(x(d), y(low)) for d, low, _ in run]), css=f"curve line{colour} dash{colour}")
        for run in _runs(curve):
            sure = max((i for i, (_, low, high) in enumerate(run) if _is_point(low, high)), default=0)
            drawing.path(_steps([(x(d), y(low)) for d, low, _ in run[: sure + 1]]), css=f"curve line{colour}")
            if sure + 1 < len(run):
                for edge in (1, 2):
                    ends = [(x(knot[0]), y(knot[edge])) for knot in run[sure:]]
                    drawing.path(_steps(ends), css=f"curve edge line{colour}")
            end_day, low, high = run[-1]
            # A cap says: opened up to here.
            drawing.line(x(end_day), y(low) + 5, x(end_day), y(high) - 5, css=f"curve line{colour}")
    return drawing.markup()


def _legend_row(drawing: Drawing, y: float, colour: int, group: str, *, first: str, second: str) -> None:
    split = min(0.64 * drawing.width, 320.0)
    entries = (
        (0.0, split, f"line{colour}", f"{group}, {first}"),
        (split, drawing.width, f"line{colour} dash{colour}", second),
    )
    for x, end, css, name in entries:
        drawing.line(x, y - 4, x + 26, y - 4, css=f"curve {css}")
        drawing.text(x + 33, y, name, fit=end - x - 38)


def time_axis(drawing: Drawing, *, last_day: float, x: Callable[[float], float], floor: float, at_most: int) -> None:
    """Draw the axis in years and days, with at most so many ticks beside the first."""
    years = last_day / DAYS_PER_YEAR
    step = next((s for s in (0.25, 0.5, 1, 2, 5, 10, 20) if years / s <= at_most), 50)
    drawing.text(0, floor + 18, "years", css="tick")
    drawing.text(0, floor + 36, "days", css="tick")
    for i in range(int(years / step + 1e-9) + 1):
        day = i * step * DAYS_PER_YEAR
        drawing.line(x(day), floor, x(day), floor + 4, css="zero")
        drawing.text(x(day), floor + 18, f"{i * step:g}", css="tick", anchor="middle")
        drawing.text(x(day), floor + 36, count(round(day)), css="tick", anchor="middle")


def _runs(curve: SurvivalCurve) -> list[list[_Knot]]:
    """Return the stretches of the curve that are known, each with the value that it starts from."""
    runs: list[list[_Knot]] = []
    unbroken = True
    for i, step in enumerate(curve.steps):
        if step.survival_low is None or step.survival_high is None:
            unbroken = False
            continue
        if i == 0:
            runs.append([(step.start_day, 1.0, 1.0)])
        elif not unbroken or not runs:
            runs.append([(step.start_day, step.survival_low, step.survival_high)])
        unbroken = True
        runs[-1].append((step.end_day, step.survival_low, step.survival_high))
    return runs


def _steps(points: list[tuple[float, float]]) -> str:
    start, *rest = points
    return f"M{number(start[0])} {number(start[1])}" + "".join(f"H{number(x)}V{number(y)}" for x, y in rest)


def _band(points: list[tuple[float, float, float]]) -> str:
    forth = _steps([(x, high) for x, _, high in points])
    # Back along the lower edge: first across to the earlier grid point at the level before the fall, then up.
    back = [f"V{number(points[-1][1])}"]
    for (x, _, _), (_, low, _) in zip(reversed(points), list(reversed(points))[1:], strict=False):
        back.append(f"H{number(x)}V{number(low)}")
    return forth + "".join(back) + f"H{number(points[0][0])}Z"


def _last_day(curves: list[SurvivalCurve]) -> float:
    known = [step.end_day for curve in curves for step in curve.steps if step.survival_low is not None]
    return float(max([*known, 1]))


def _description(groups: Sequence[tuple[int, SurvivalCurve, SurvivalCurve | None]], *, first: str, second: str) -> str:
    sentences = []
    for _, curve, other in groups:
        parts = [f"{name} {_at_one_year(c)}" for name, c in ((first, curve), (second, other)) if c is not None]
        sentences.append(f"{curve.group}: {', '.join(parts)}.")
    return " ".join(sentences)


def _at_one_year(curve: SurvivalCurve) -> str:
    for step in curve.steps:
        if step.end_day >= math.floor(DAYS_PER_YEAR) - 5:
            return f"{bracket(step.survival_low, step.survival_high)} alive after {step.end_day} days"
    return "shorter than a year"


def bracket(low: float | None, high: float | None) -> str:
    """Write survival, or the bracket that was left of it.

    Examples
    --------
    >>> bracket(0.5, 0.5), bracket(0.41, 0.523), bracket(None, None)
    ('50.0 %', '41.0–52.3 %', 'not opened')
    """
    if low is None or high is None:
        return "not opened"
    if _is_point(low, high):
        return percent(low)
    return f"{bound_below(100 * low, 1)}–{bound_above(100 * high, 1)} %"


def _is_point(low: float, high: float) -> bool:
    # Both ends come from different formulas; less than this is neither seen nor written.
    return abs(high - low) < 1e-6
