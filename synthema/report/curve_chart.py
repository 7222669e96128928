"""Step curves of joint models with their 95 % intervals: survival, cumulative hazard, cumulative incidence.

A curve holds its value up to a grid point and changes there. Where cells were not opened, the estimate is known within
a bracket: both ends are drawn thin, and the space between is shaded more than the interval around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from privacy._formats import decimal, percent
from privacy._svg import Drawing, linear_ticks, number
from synthema.report.survival_chart import DAYS_PER_YEAR, N_COLOURS, bracket, time_axis

if TYPE_CHECKING:
    from synthema.learning.curve_estimates import FLOATS, Curve

_WIDTH, _PLOT_HEIGHT = 640.0, 320.0
_LEFT, _RIGHT, _LEGEND_ROW = 46.0, 14.0, 20.0
_LEAST_TOP = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """A curve, its name, the number of its colour, and that of its dashes: 0 is a line without."""

    name: str
    curve: Curve
    colour: int
    dash: int = 0

    @property
    def css(self) -> str:
        """Classes of the page's style sheet."""
        dash = f" dash{(self.dash - 1) % N_COLOURS}" if self.dash else ""
        return f"line{self.colour % N_COLOURS}{dash}"


def curve_chart(lines: Sequence[Line], *, key: str, title: str, falls: bool, is_share: bool = True) -> Markup:
    """Draw curves over time.

    Parameters
    ----------
    falls
        Whether the curves fall from 1, or rise from 0.
    is_share
        Whether values are shares of patients, or plain numbers.
    """
    top = _LEGEND_ROW * len(lines) + 14
    floor = top + _PLOT_HEIGHT
    last_day = max([1.0, *(float(line.curve.days[_known(line.curve)].max(initial=0)) for line in lines)])
    highest = 1.0 if falls else _highest(lines, is_share=is_share)
    drawing = Drawing(_WIDTH, floor + 48, key=key, title=title, description=_description(lines, is_share=is_share))

    def x(day: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * day / last_day

    def y(value: float) -> float:
        return floor - _PLOT_HEIGHT * min(max(value / highest, 0.0), 1.0)

    for tick in linear_ticks(0.0, highest, about=5):
        drawing.line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), css="grid" if tick else "zero")
        shown = f"{100 * tick:g} %" if is_share else f"{tick:g}"
        drawing.text(_LEFT - 8, y(tick) + 4, shown, css="tick", anchor="end")
    time_axis(drawing, last_day=last_day, x=x, floor=floor, at_most=8)
    for row, line in enumerate(lines):
        at = row * _LEGEND_ROW + 14
        drawing.line(0, at - 4, 26, at - 4, css=f"curve {line.css}")
        name = line.name if _known(line.curve).any() else f"{line.name}: nothing to show"
        drawing.text(33, at, name, fit=_WIDTH - 40)
    start = 1.0 if falls else 0.0
    for line in lines:
        for inner, outer in ((line.curve.lower, line.curve.upper), (line.curve.low, line.curve.high)):
            for run in _runs(line.curve, inner, outer, start):
                if any(high - low > 1e-6 for _, low, high in run):
                    drawing.path(_band(run, x, y), css=f"band band{line.colour % N_COLOURS}")
    for line in lines:
        for run in _runs(line.curve, line.curve.low, line.curve.high, start):
            _draw(drawing, line, run, x, y)
    return drawing.markup()


_Knot = tuple[float, float, float]


def _draw(
    drawing: Drawing, line: Line, run: list[_Knot], x: Callable[[float], float], y: Callable[[float], float]
) -> None:
    """Draw the curve where it is known, and both ends of the bracket where it is not."""
    sure = [high - low < 1e-6 for _, low, high in run]
    for begin, end in _stretches(sure):
        if sure[end - 1]:
            drawing.path(_steps([(x(day), y(low)) for day, low, _ in run[begin:end]]), css=f"curve {line.css}")
        else:
            for edge in (1, 2):
                ends = [(x(knot[0]), y(knot[edge])) for knot in run[max(begin - 1, 0) : end]]
                drawing.path(_steps(ends), css=f"curve edge {line.css}")


def _stretches(marks: list[bool]) -> list[tuple[int, int]]:
    """Return the stretches of equal marks."""
    ends = [i for i in range(1, len(marks)) if marks[i] != marks[i - 1]]
    return list(zip([0, *ends], [*ends, len(marks)], strict=True))


def _known(curve: Curve) -> npt.NDArray[np.bool_]:
    return np.isfinite(curve.low)


def _runs(curve: Curve, low: FLOATS, high: FLOATS, start: float) -> list[list[_Knot]]:
    """Return the stretches in which both are known: knots of a day and both values, from where it starts."""
    runs: list[list[_Knot]] = []
    known = np.isfinite(low) & np.isfinite(high)
    for begin, end in _stretches(known.tolist()):
        if known[begin]:
            first = (
                (0.0, start, start)
                if begin == 0
                else (float(curve.days[begin - 1]), float(low[begin]), float(high[begin]))
            )
            runs.append([first, *((float(curve.days[t]), float(low[t]), float(high[t])) for t in range(begin, end))])
    return runs


def _steps(points: list[tuple[float, float]]) -> str:
    (x, y), *rest = points
    return f"M{number(x)} {number(y)}" + "".join(f"H{number(x)}V{number(y)}" for x, y in rest)


def _band(run: list[_Knot], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    forth = _steps([(x(day), y(high)) for day, _, high in run])
    back = [f"V{number(y(run[-1][1]))}"]
    # Back along the lower edge: first across to the earlier grid point at the level before the step, then up.
    for (day, _, _), (_, low, _) in zip(reversed(run), list(reversed(run))[1:], strict=False):
        back.append(f"H{number(x(day))}V{number(y(low))}")
    return forth + "".join(back) + f"H{number(x(run[0][0]))}Z"


def _highest(lines: Sequence[Line], *, is_share: bool) -> float:
    """Return the top of the scale: above brackets and intervals, but at most twice the highest curve's lower end."""
    lowest = max([_LEAST_TOP, *(float(line.curve.low[_known(line.curve)].max(initial=0)) for line in lines)])
    ends = [end[np.isfinite(end)].max(initial=0) for line in lines for end in (line.curve.high, line.curve.upper)]
    wanted = max(lowest, min(float(max(ends, default=0)), 2 * lowest))
    return min(wanted, 1.0) if is_share else wanted


def _description(lines: Sequence[Line], *, is_share: bool) -> str:
    """Say where each curve stands after a year, or at its end."""
    parts = []
    for line in lines:
        curve = line.curve
        known = np.flatnonzero(_known(curve))
        if not len(known):
            parts.append(f"{line.name}: not opened.")
            continue
        t = int(next((t for t in known if curve.days[t] >= DAYS_PER_YEAR - 5), known[-1]))
        low, high = float(curve.low[t]), float(curve.high[t])
        value = bracket(low, high) if is_share else f"{decimal(low)} to {decimal(high)}"
        limits = ""
        if is_share and np.isfinite([curve.lower[t], curve.upper[t]]).all():
            limits = f" (95 % interval {percent(float(curve.lower[t]))} to {percent(float(curve.upper[t]))})"
        parts.append(f"{line.name}: {value} after {curve.days[t]:.0f} days{limits}.")
    return " ".join(parts)
