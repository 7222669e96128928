"""A page about a list of releases before it happens: epsilon over the steps, and what any attacker errs at least.

Made of public text alone (the events); no table and no ledger can reach it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from privacy._formats import bound_above, count
from privacy._svg import Drawing, linear_ticks, number
from synthema.report.page import render

NAMES = {"zcdp": "zCDP", "rdp": "Rényi (RDP)", "numerical": "numerical"}
_VALID = {"zcdp": "also if later releases depend on earlier answers"}
_FIXED = "for a list that is fixed in advance"
_SECTIONS = (("steps", "Epsilon over the steps"), ("attack", "What an attacker can do"), ("events", "The releases"))
_WIDTH, _PLOT_HEIGHT = 480.0, 300.0
_LEFT, _RIGHT, _LEGEND_ROW = 46.0, 14.0, 20.0
_SHOWN_RATES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
_SHOWN_STEPS = 9


def account_page(
    releases: Sequence[tuple[str, int]],
    *,
    neighbours: str,
    delta: float,
    steps: Sequence[int],
    epsilons: Mapping[str, Sequence[float]],
    rates: Sequence[float],
    misses: Sequence[float],
    advantage: float,
    reasons: Mapping[str, str],
) -> str:
    """Return the page.

    Parameters
    ----------
    releases
        What is released, in words, and how often.
    steps, epsilons
        Numbers of releases, and after so many epsilon at `delta`, by accountant.
    rates, misses
        False positive rates and the least false negative rate at each.
    advantage
        Most by which an attacker's true positive rate exceeds the false positive rate.
    reasons
        Why an accountant gives no price.
    """
    best = min(epsilons, key=lambda name: epsilons[name][-1])
    shown = sorted({round(i * (len(steps) - 1) / (_SHOWN_STEPS - 1)) for i in range(_SHOWN_STEPS)})
    table = [(steps[i], [epsilons[name][i] for name in epsilons]) for i in shown]
    attacks = [
        (rate, 1 - miss)
        for rate, miss in zip(rates, misses, strict=True)
        if any(math.isclose(rate, wanted) for wanted in _SHOWN_RATES)
    ]
    return render(
        "account.html.j2",
        sections=_SECTIONS,
        releases=releases,
        total=sum(times for _, times in releases),
        neighbours=neighbours,
        delta=delta,
        epsilon=epsilons[best][-1],
        best=NAMES[best],
        prices=[(NAMES[name], epsilons[name][-1], _VALID.get(name, _FIXED)) for name in epsilons],
        reasons=[(NAMES[name], reason) for name, reason in reasons.items()],
        right=min(100, math.ceil(50 * (1 + advantage) - 1e-9)),
        steps_chart=steps_chart(steps, epsilons),
        attack_chart=trade_off_chart(rates, misses),
        names=[NAMES[name] for name in epsilons],
        table=table,
        attacks=attacks,
    )


def steps_chart(steps: Sequence[int], epsilons: Mapping[str, Sequence[float]]) -> Markup:
    """Draw epsilon after so many releases: one line for each accountant."""
    top_value = max((value for values in epsilons.values() for value in values if math.isfinite(value)), default=1.0)
    top_value = max(top_value, 1e-12)
    lines = list(epsilons)
    top = _LEGEND_ROW * len(lines) + 14
    floor = top + _PLOT_HEIGHT
    ends = ", ".join(f"{NAMES[name]} {bound_above(values[-1])}" for name, values in epsilons.items())
    drawing = Drawing(
        _WIDTH,
        floor + 44,
        key="steps-chart",
        title="Epsilon over the steps",
        description=f"After {count(steps[-1])} releases epsilon is at most: {ends}.",
    )
    last = steps[-1]

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last

    def y(value: float) -> float:
        return floor - _PLOT_HEIGHT * value / (1.04 * top_value)

    for tick in linear_ticks(0.0, 1.04 * top_value, about=5):
        drawing.line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), css="zero" if tick == 0 else "grid")
        drawing.text(_LEFT - 8, y(tick) + 4, f"{tick:g}", css="tick", anchor="end")
    for tick in _whole_ticks(last):
        drawing.line(x(tick), floor, x(tick), floor + 4, css="zero")
        drawing.text(x(tick), floor + 18, _short(tick), css="tick", anchor="middle")
    drawing.text(_WIDTH - _RIGHT, floor + 38, "releases", css="tick", anchor="end")
    for row, name in enumerate(lines):
        at = row * _LEGEND_ROW + 14
        style = f"curve line{row}" + (f" dash{row}" if row else "")
        drawing.line(_LEFT, at - 4, _LEFT + 26, at - 4, css=style)
        drawing.text(_LEFT + 33, at, f"{NAMES[name]}: {bound_above(epsilons[name][-1])} at the end")
        points = [
            (x(step), y(value)) for step, value in zip(steps, epsilons[name], strict=True) if math.isfinite(value)
        ]
        if len(points) == 1:
            drawing.line(points[0][0] - 12, points[0][1], points[0][0], points[0][1], css=style)
        elif points:
            drawing.path(_polyline(points), css=style)
    return drawing.markup()


def trade_off_chart(rates: Sequence[float], misses: Sequence[float]) -> Markup:
    """Draw the least false negative rate at each false positive rate; what lies below no attack can reach."""
    top = 2 * _LEGEND_ROW + 14
    floor = top + _PLOT_HEIGHT
    drawing = Drawing(
        _WIDTH,
        floor + 44,
        key="attack-chart",
        title="Errors of any attack",
        description="The curve is a lower bound on the share of patients that an attack misses, against the share of "
        "others that it accuses wrongly. The straight line is blind guessing.",
    )

    def x(rate: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * rate

    def y(rate: float) -> float:
        return floor - _PLOT_HEIGHT * rate

    for quarter in range(5):
        share = quarter / 4
        drawing.line(_LEFT, y(share), _WIDTH - _RIGHT, y(share), css="zero" if quarter == 0 else "grid")
        drawing.text(_LEFT - 8, y(share) + 4, f"{25 * quarter} %", css="tick", anchor="end")
        drawing.line(x(share), floor, x(share), floor + 4, css="zero")
        drawing.text(x(share), floor + 18, f"{25 * quarter} %", css="tick", anchor="middle")
    drawing.text(_WIDTH - _RIGHT, floor + 38, "accused wrongly", css="tick", anchor="end")
    for row, (style, text) in enumerate(
        (("curve line0", "missed at least, by any attack"), ("curve line5 dash1", "missed by blind guessing"))
    ):
        drawing.line(_LEFT, row * _LEGEND_ROW + 10, _LEFT + 26, row * _LEGEND_ROW + 10, css=style)
        drawing.text(_LEFT + 33, row * _LEGEND_ROW + 14, text)
    points = [(x(rate), y(miss)) for rate, miss in zip(rates, misses, strict=True)]
    drawing.path(_polyline([*points, (x(1), y(0)), (x(0), y(0))]) + "Z", css="band band0")
    drawing.line(x(0), y(1), x(1), y(0), css="curve line5 dash1")
    drawing.path(_polyline(points), css="curve line0")
    return drawing.markup()


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def _whole_ticks(last: int) -> list[int]:
    return sorted({round(tick) for tick in linear_ticks(0.0, float(last), about=5)})


def _short(value: int) -> str:
    for size, suffix in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if value >= size:
            return f"{value / (1000 if suffix == 'k' else size):g}{suffix}"
    return count(value)
