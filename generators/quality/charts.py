"""The evaluation page's charts, real patients always in the first colour, synthetic ones in the second.

Each is about as wide as a telephone's screen, so that its labels stay readable there; the page puts several beside
each other where there is room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from generators.quality.fidelity import ColumnShares, Pair
from generators.quality.follow_up import Curves
from generators.quality.hazards import Term
from generators.quality.privacy_section import Attacked
from generators.quality.propensity import Propensity
from generators.quality.rulers import Figure
from privacy._charts import WIDTH, paired_shares
from privacy._formats import decimal, percent
from privacy._svg import Drawing, linear_ticks, log_ticks, number, text_width

MOST_BARS = 12
# A map of more columns than this is a carpet; those in the pairs that differ most are shown.
MOST_COLUMNS = 24
HEAT_LIMITS = (0.1, 0.2, 0.4)
_Z = 1.959963984540054
_WIDEST_LOG_RATIO = math.log(50)


def ruler(figure: Figure, *, key: str) -> Markup:
    """Draw a figure on one axis with its rulers: chance as a bar, other patients as a diamond, the copy as a cross."""
    known: list[float] = [figure.value, figure.best, *(figure.floor or ())]
    known += [value for value in (figure.copy, figure.holdout) if value is not None and not math.isnan(value)]
    low, high = min(known), max(known)
    high = high if high > low else low + max(abs(low), 0.01)
    pad = 0.06 * (high - low)
    left, right, line = 8.0, WIDTH - 8, 17.0

    def x(value: float) -> float:
        return left + (right - left) * (value - low + pad) / (high - low + 2 * pad)

    drawing = Drawing(WIDTH, 42, key=key, title=figure.label, description=f"Synthetic: {figure.value:.3g}.")
    drawing.line(left, line, right, line, css="zero")
    ticks = linear_ticks(low, high, about=4)
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) if len(ticks) > 1 else 2
    for tick in ticks:
        drawing.line(x(tick), line, x(tick), line + 4, css="zero")
        drawing.text(x(tick), line + 19, decimal(tick, digits), css="tick", anchor="middle")
    if figure.floor is not None:
        begin, end = x(figure.floor[0]), x(figure.floor[2])
        drawing.rect(min(begin, end - 4), line - 7, max(end - begin, 4), 14, css="chance", radius=2)
    if figure.copy is not None and not math.isnan(figure.copy):
        at = x(figure.copy)
        drawing.path(f"M{at - 5:.1f} {line - 5}l10 10m0 -10l-10 10", css="copy")
    if figure.holdout is not None and not math.isnan(figure.holdout):
        at = x(figure.holdout)
        drawing.path(f"M{at:.1f} {line - 7}l7 7l-7 7l-7 -7Z", css="others")
    drawing.path(f"M{x(figure.value) - 6:.1f} {line}a6 6 0 1 0 12 0a6 6 0 1 0 -12 0", css="mark")
    return drawing.markup()


def paired_bars(column: ColumnShares, *, key: str) -> Markup:
    """Draw the shares of a column's values; where there are many, those that differ most."""
    totals = sum(column.real), sum(column.synthetic)
    shares = [(r / totals[0], s / totals[1]) for r, s in zip(column.real, column.synthetic, strict=True)]
    rows = sorted(sorted(range(len(shares)), key=lambda i: -abs(shares[i][0] - shares[i][1]))[:MOST_BARS])
    return paired_shares(
        [column.labels[i] for i in rows],
        [shares[i][0] for i in rows],
        [shares[i][1] for i in rows],
        key=key,
        title=f"{column.name}: real, synthetic",
    )


def heat_map(pairs: Sequence[Pair], *, key: str) -> Markup:
    """Draw the distance of each pair of columns, darker where the two tables are further apart."""
    order = list(dict.fromkeys(name for pair in pairs for name in pair.columns))
    farthest = sorted(pairs, key=lambda pair: -pair.distance)
    kept = list(dict.fromkeys(name for pair in farthest for name in pair.columns))[:MOST_COLUMNS]
    names = [name for name in order if name in kept]
    found = {frozenset(pair.columns): pair for pair in pairs}
    label = min(max(text_width(name) for name in names) + 10, 122.0)
    cell = min(max((620.0 - label) / max(len(names) - 1, 1), 26.0), 46.0)
    side = cell * (len(names) - 1)
    foot = 0.72 * label + 14
    drawing = Drawing(
        label + side + 0.72 * label,
        side + foot,
        key=key,
        title="Distance of each pair of columns",
        description="; ".join(f"{' and '.join(pair.columns)}: {pair.distance:.2f}" for pair in pairs[:100]),
    )
    for row, first in enumerate(names[1:]):
        y = cell * row
        drawing.text(label - 8, y + cell / 2 + 4, first, anchor="end", fit=label - 8)
        for at, second in enumerate(names[: row + 1]):
            pair = found.get(frozenset((first, second)))
            if pair is None:
                continue
            level = sum(pair.distance > limit for limit in HEAT_LIMITS)
            x = label + cell * at
            hint = f"{second} × {first}: {pair.distance:.3f}; chance alone {pair.floor:.3f}"
            drawing.rect(x + 1, y + 1, cell - 2, cell - 2, css=f"heat{level}", radius=2, hint=hint)
            if cell >= 30:
                text = f"{pair.distance:.2f}".lstrip("0") or "0"
                drawing.text(x + cell / 2, y + cell / 2 + 4, text, css=f"on-heat{level}", anchor="middle")
    for at, name in enumerate(names[:-1]):
        drawing.slanted(label + cell * (at + 0.5) - 4, side + 14, name, css="tick", fit=label)
    return drawing.markup()


def survival(curves: Curves, *, key: str) -> Markup:
    """Draw both Kaplan-Meier curves of a group with their pointwise 95 % bands."""
    left, right, top, height = 44.0, WIDTH - 10, 8.0, 190.0
    floor, end = top + height, curves.grid[-1]

    def x(t: float) -> float:
        return left + (right - left) * t / end

    def y(survival: float) -> float:
        return floor - height * min(max(survival, 0.0), 1.0)

    # Survival starts with everybody, the incidence of an event with nobody.
    start = 1.0 if curves.real[0][0] >= curves.real[0][-1] else 0.0
    middle = len(curves.grid) // 2
    described = f"Half-way, real {percent(curves.real[0][middle])}"
    if curves.synthetic:
        described += f", synthetic {percent(curves.synthetic[0][middle])}"
    drawing = Drawing(WIDTH, floor + 38, key=key, title=f"Survival, {curves.group}", description=described)
    for quarter in range(5):
        drawing.line(left, y(quarter / 4), right, y(quarter / 4), css="grid" if quarter else "zero")
        drawing.text(left - 6, y(quarter / 4) + 4, f"{25 * quarter} %", css="tick", anchor="end")
    for tick in linear_ticks(0, end, about=4):
        drawing.line(x(tick), floor, x(tick), floor + 4, css="zero")
        drawing.text(x(tick), floor + 18, f"{tick:,g}", css="tick", anchor="middle")
    drawing.text((left + right) / 2, floor + 34, "follow-up time", css="tick", anchor="middle")
    both = [("first", curves.real), ("second", curves.synthetic)]
    for css, lines in both:
        if lines:
            forth = [(x(t), y(value)) for t, value in zip(curves.grid, lines[2], strict=True)]
            back = [(x(t), y(value)) for t, value in zip(curves.grid, lines[1], strict=True)]
            points = [(x(0), y(start)), *forth, *reversed(back)]
            drawing.path("M" + "L".join(f"{number(a)} {number(b)}" for a, b in points) + "Z", css=f"band {css}")
    for css, lines in both:
        if lines:
            steps = "".join(f"H{number(x(t))}V{number(y(v))}" for t, v in zip(curves.grid, lines[0], strict=True))
            drawing.path(f"M{number(x(0))} {number(y(start))}{steps}", css=f"curve {css}-line")
    return drawing.markup()


def histogram(scores: Propensity, *, key: str) -> Markup:
    """Draw how many rows of either table got which propensity score."""
    shares = [[count / max(sum(counts), 1) for count in counts] for counts in (scores.real, scores.synthetic)]
    left, right, top, height = 44.0, WIDTH - 10, 8.0, 170.0
    floor, high = top + height, max(map(max, shares))
    bins = len(scores.real)
    step = (right - left) / bins
    drawing = Drawing(
        WIDTH,
        floor + 38,
        key=key,
        title="Scores of real and synthetic rows",
        description=f"A random synthetic row scores above a random real one in {percent(scores.auc)} of pairs.",
    )
    for tick in linear_ticks(0, high, about=4):
        y = floor - height * tick / high
        drawing.line(left, y, right, y, css="grid" if tick else "zero")
        drawing.text(left - 6, y + 4, percent(tick, 0), css="tick", anchor="end")
    for i in range(bins):
        for at, css in enumerate(("first", "second")):
            tall = height * shares[at][i] / high
            drawing.rect(left + step * i + 1 + at * (step - 2) / 2, floor - tall, (step - 2) / 2, tall, css=css)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.text(left + (right - left) * tick, floor + 16, f"{tick:g}", css="tick", anchor="middle")
    drawing.text((left + right) / 2, floor + 33, "looks real ◂  score  ▸ looks synthetic", css="tick", anchor="middle")
    return drawing.markup()


def forest(terms: Sequence[Term], *, key: str) -> Markup:
    """Draw hazard ratios with 95 % intervals, real above synthetic, on a log scale."""
    shown = [term for term in terms if not math.isnan(term.real[0])]
    ends = [
        max(-_WIDEST_LOG_RATIO, min(_WIDEST_LOG_RATIO, estimate + sign * _Z * error))
        for term in shown
        for estimate, error in (term.real, term.synthetic)
        for sign in (-1, 1)
        if not math.isnan(estimate)
    ]
    low, high = min([-0.1, *ends]), max([0.1, *ends])
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    row_height, top, left, right = 50.0, 22.0, 12.0, WIDTH - 12
    floor = top + row_height * len(shown)

    def x(value: float) -> float:
        return left + (right - left) * (min(max(value, low), high) - low) / (high - low)

    described = "; ".join(f"{t.name}: {math.exp(t.real[0]):.2f}, {_exp(t.synthetic[0])}" for t in shown)
    drawing = Drawing(WIDTH, floor + 22, key=key, title="Hazard ratios: real, synthetic", description=described)
    last = -math.inf
    for tick in log_ticks(math.exp(low), math.exp(high)):
        at = x(math.log(tick))
        drawing.line(at, top, at, floor, css="grid")
        if at - last > 30:
            drawing.text(at, floor + 16, f"{tick:g}", css="tick", anchor="middle")
            last = at
    drawing.line(x(0), top - 4, x(0), floor, css="zero")
    drawing.text(x(0) - 8, 12, "◂ better", css="tick", anchor="end", fit=max(x(0) - 8, 1))
    drawing.text(x(0) + 8, 12, "worse ▸", css="tick", fit=max(WIDTH - x(0) - 8, 1))
    for row, term in enumerate(shown):
        y = top + row_height * row
        drawing.text(0, y + 16, term.name, css="halo", fit=WIDTH)
        for (estimate, error), css, dy in ((term.real, "first", 27.0), (term.synthetic, "second", 39.0)):
            if not math.isnan(estimate):
                drawing.line(x(estimate - _Z * error), y + dy, x(estimate + _Z * error), y + dy, css=f"{css}-line")
                drawing.rect(x(estimate) - 4, y + dy - 4, 8, 8, css=css)
    return drawing.markup()


def attacks(attacked: Sequence[Attacked], *, key: str) -> Markup:
    """Draw each attack's success on the patients used and on others, with the total leak as a cross."""
    row_height, top, left, right = 58.0, 4.0, 4.0, WIDTH - 50
    shown = [each for each in attacked if not math.isnan(each.success[0])]
    floor = top + row_height * len(shown)

    def x(rate: float) -> float:
        return left + (right - left) * min(max(rate, 0.0), 1.0)

    described = "; ".join(f"{a.label}: {percent(a.success[0])}, reference {percent(a.reference[0])}" for a in shown)
    drawing = Drawing(WIDTH, floor + 20, key=key, title="Success of the attacks", description=described)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line(x(tick), top, x(tick), floor, css="grid" if tick else "zero")
        drawing.text(x(tick), floor + 15, percent(tick, 0), css="tick", anchor="middle")
    for row, each in enumerate(shown):
        y = top + row_height * row
        drawing.text(left, y + 16, each.label, css="halo", fit=WIDTH)
        for css, (value, low, high), dy in (("second", each.success, 22.0), ("others-bar", each.reference, 36.0)):
            if math.isnan(value):
                continue
            drawing.rect(x(0), y + dy, x(value) - x(0), 12, css=css)
            middle = y + dy + 6
            ends = f"M{x(low):.1f} {middle - 3:.1f}v6m0 -3H{x(high):.1f}m0 -3v6"
            drawing.path(ends, css="whisker")
            drawing.text(WIDTH, middle + 4, percent(value), css="value", anchor="end")
        if not math.isnan(each.leak):
            drawing.path(f"M{x(each.leak) - 5:.1f} {y + 23}l10 10m0 -10l-10 10", css="copy")
        if not math.isnan(each.harmless):
            drawing.line(x(each.harmless), y + 20, x(each.harmless), y + 50, css="harmless")
    return drawing.markup()


def _exp(value: float) -> str:
    return "none" if math.isnan(value) else f"{math.exp(value):.2f}"
