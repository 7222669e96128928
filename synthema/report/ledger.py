"""A page about one ledger: what was spent of each account's cap, over time. Holds no answer and no row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from privacy._formats import bound_above
from privacy._svg import Drawing, linear_ticks, number
from synthema.report.page import render

_WIDTH, _PLOT_HEIGHT, _TOP, _LEFT, _RIGHT = 480.0, 220.0, 34.0, 46.0, 14.0
_SHOWN_ROWS = 12
_STEPS = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400)
_DAY = 86400.0
_LONG = 90 * _DAY


def ledger_page(summary: dict[str, Any]) -> str:
    """Return the page of what `synthema ledger show` says of a ledger."""
    private = [_account(i, each) for i, each in enumerate(summary["accounts"]) if each["kind"] == "private"]
    exact = [each for each in summary["accounts"] if each["kind"] == "exact"]
    sections = [("accounts", "Accounts"), *((each["key"], each["name"]) for each in private)]
    if exact:
        sections.append(("exact", "Exact releases"))
    if summary["pending"]:
        sections.append(("pending", "Reserved"))
    times = [point[1] for each in summary["accounts"] for point in each.get("over_time", [])]
    return render(
        "ledger.html.j2",
        sections=sections,
        site=summary["site"] or "(unnamed)",
        entries=summary["entries"],
        head=summary["head"],
        ledger_id=summary["ledger_id"],
        accounts=private,
        exact=exact,
        pending=summary["pending"],
        last=max(times, default=None),
    )


def _account(place: int, account: dict[str, Any]) -> dict[str, Any]:
    points = account["over_time"]
    step = max(1, math.ceil(len(points) / _SHOWN_ROWS))
    rows = points[::-step][::-1]
    share = min(account["epsilon_spent"] / account["epsilon_cap"], 1.0)
    return {
        **account,
        "key": f"account-{place}",
        "share": share,
        "chart": None if len(points) < 2 else budget_chart(points, key=f"chart-{place}", name=account["name"]),
        "rows": [(seq, _clock(at), spent, cap) for seq, at, spent, cap in rows],
    }


def budget_chart(points: Sequence[Sequence[Any]], *, key: str, name: str) -> Markup:
    """Draw epsilon spent and the cap as steps over time, from (seq, at, epsilon spent, epsilon cap)."""
    places = [datetime.fromisoformat(point[1]).timestamp() for point in points]
    by_time = places[-1] - places[0] >= 2 and places == sorted(places)
    if not by_time:
        places = [float(point[0]) for point in points]
    start, end = places[0], max(places[-1], places[0] + 1)
    spent, cap = points[-1][2], points[-1][3]
    top_value: float = max(float(value) for point in points for value in point[2:4] if math.isfinite(value)) * 1.06
    floor = _TOP + _PLOT_HEIGHT
    drawing = Drawing(
        _WIDTH,
        floor + 42,
        key=key,
        title=f"Budget of {name} over time",
        description=f"Epsilon {bound_above(spent, 3)} of {bound_above(cap, 3)} is spent after entry {points[-1][0]}.",
    )

    def x(place: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place - start) / (end - start)

    def y(value: float) -> float:
        return floor - _PLOT_HEIGHT * min(float(value), top_value) / top_value

    for tick in linear_ticks(0.0, top_value, about=5):
        drawing.line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), css="zero" if tick == 0 else "grid")
        drawing.text(_LEFT - 8, y(tick) + 4, f"{tick:g}", css="tick", anchor="end")
    for place, label in _ticks(start, end, by_time=by_time):
        drawing.line(x(place), floor, x(place), floor + 4, css="zero")
        # A label at the end of the axis would stick out.
        near = x(place) > _WIDTH - _RIGHT - 24
        drawing.text(x(place), floor + 18, label, css="tick", anchor="end" if near else "middle")
    drawing.text(
        _WIDTH - _RIGHT,
        floor + 38,
        f"UTC, to {_clock(points[-1][1])[:16]}" if by_time else "entry",
        css="tick",
        anchor="end",
    )
    for left, style, words in (
        (_LEFT, "curve line0", f"spent: {bound_above(spent, 3)}"),
        (_LEFT + 180, "curve line1 dash0", f"cap: {bound_above(cap, 3)}"),
    ):
        drawing.line(left, 10, left + 26, 10, css=style)
        drawing.text(left + 33, 14, words)
    used = _steps([(x(place), y(point[2])) for place, point in zip(places, points, strict=True)], x(end))
    drawing.path(f"{used}V{number(floor)}H{number(x(start))}Z", css="band band0")
    drawing.path(
        _steps([(x(place), y(point[3])) for place, point in zip(places, points, strict=True)], x(end)),
        css="curve line1 dash0",
    )
    drawing.path(used, css="curve line0")
    return drawing.markup()


def _steps(points: Sequence[tuple[float, float]], end: float) -> str:
    first, *rest = points
    parts = [f"M{number(first[0])} {number(first[1])}"]
    parts += [f"H{number(px)}V{number(py)}" for px, py in rest]
    return "".join(parts) + f"H{number(end)}"


def _ticks(start: float, end: float, *, by_time: bool) -> list[tuple[float, str]]:
    if not by_time:
        return [(tick, f"{tick:.0f}") for tick in sorted({float(round(t)) for t in linear_ticks(start, end, about=6)})]
    span = end - start
    if span > _LONG:
        return _months(start, end)
    step = next((each for each in _STEPS if span / each <= 6), 0.0) or _DAY * math.ceil(span / _DAY / 5)
    first = math.ceil(start / step) * step
    style = "%m-%d" if step >= _DAY else "%H:%M" if step >= 60 else "%H:%M:%S"
    ticks = [first + i * step for i in range(math.floor((end - first) / step) + 1)]
    return [(tick, datetime.fromtimestamp(tick, UTC).strftime(style)) for tick in ticks]


def _months(start: float, end: float) -> list[tuple[float, str]]:
    """Return the beginnings of some six months."""
    first, last = (12 * at.year + at.month - 1 for at in (datetime.fromtimestamp(t, UTC) for t in (start, end)))
    step = next((each for each in (1, 2, 3, 6, 12) if (last - first) / each <= 6), 12 * math.ceil((last - first) / 72))
    months = range(math.ceil((first + 1) / step) * step, last + 1, step)
    dates = [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in months]
    return [(date.timestamp(), date.strftime("%Y-%m")) for date in dates]


def _clock(at: str) -> str:
    return at.replace("T", " ").removesuffix("Z")
