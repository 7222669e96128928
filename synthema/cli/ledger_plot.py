"""Budget over time in the letters of a terminal: what was spent as columns, the cap as a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

_WIDTH, _HEIGHT = 60, 6
_PARTS = " ▁▂▃▄▅▆▇█"
_MARGIN = 9


def budget_plot(points: Sequence[Sequence[Any]], *, unicode: bool = True) -> list[str]:
    """Return the lines of a plot of (seq, at, epsilon spent, epsilon cap); none if nothing was spent.

    Time goes to the right; within one second, the entries' numbers do.
    """
    if not points or not points[-1][2]:
        return []
    places = [datetime.fromisoformat(point[1]).timestamp() for point in points]
    by_time = places[-1] - places[0] >= 2 and places == sorted(places)
    if not by_time:
        places = [float(point[0]) for point in points]
    start, span = places[0], max(places[-1] - places[0], 1.0)
    columns = []
    at = 0
    for column in range(_WIDTH):
        while at + 1 < len(points) and places[at + 1] <= start + span * (column + 1) / _WIDTH + 1e-9 * span:
            at += 1
        columns.append((points[at][2], points[at][3]))
    finite = [value for pair in columns for value in pair if math.isfinite(value)]
    top = max(finite, default=1.0)
    lines = []
    for row in range(_HEIGHT, -1, -1):
        cells = "".join(_cell(row, spent / top, cap / top, unicode=unicode) for spent, cap in columns)
        label = f"{top * row / _HEIGHT:.3g}" if row in (0, _HEIGHT // 2, _HEIGHT) else ""
        edge = "┤" if label and unicode else "│" if unicode else "|"
        lines.append(f"{label:>{_MARGIN - 2}} {edge}{cells.rstrip()}")
    first, last = (str(points[i][1 if by_time else 0]) for i in (0, -1))
    if not by_time:
        first, last = f"entry {first}", f"entry {last}"
    lines.append(f"{'':>{_MARGIN}}{first}{last:>{_WIDTH - len(first)}}")
    return lines


def _cell(row: int, spent: float, cap: float, *, unicode: bool) -> str:
    """Return the letter of row 0 (below the axis) to _HEIGHT (whose upper edge is the top) of a column."""
    if not math.isfinite(spent):
        spent = 1.0
    filled = min(max(spent * _HEIGHT - (row - 1), 0.0), 1.0) if row else 0.0
    line = math.isfinite(cap) and row == max(1, math.ceil(cap * _HEIGHT - 1e-9))
    if row == 0:
        return "─" if unicode else "-"
    if filled > 0:
        # A little is still something.
        return _PARTS[max(1, math.floor(filled * 8))] if unicode else "#"
    return ("╌" if unicode else "=") if line else " "
