"""The report's charts except survival: paired bars, a budget bar, an odds-ratio forest and a map of pairs.

Each is drawn about as wide as a telephone's screen, so that its labels stay readable there; the page puts several
beside each other where there is room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from markupsafe import Markup

from privacy._formats import count, decimal, percent, power_of_ten, ratio
from privacy._svg import Drawing, linear_ticks, log_ticks, text_width
from synthema.released import ColumnComparison, LogisticModel, PairComparison

PANEL_WIDTH = 340.0
# Two standard deviations cover a noise value 95 % of the time.
WHISKER_SDS = 2.0
# More labels than this are a table, not a picture.
MAX_BARS = 40
# Excess over what noise alone gives, as a ratio, at which a pair's colour changes.
PAIR_LEVELS = (1.15, 1.5, 2.0)
_LONGEST_LABEL_BESIDE = 130.0
_Z_95 = 1.959963984540054
_WIDEST_LOG_RATIO = math.log(1000)


@dataclass(frozen=True, slots=True)
class PairedShares:
    """The two counts of each label on one scale: shares of the table, or counts where noise exceeds the table.

    noisy, whisker, synthetic    one value a label; `whisker` is half the whisker's length
    """

    labels: tuple[str, ...]
    noisy: tuple[float, ...]
    whisker: float
    synthetic: tuple[float, ...]
    are_shares: bool

    def write(self, value: float) -> str:
        """Write a value in the unit of the scale."""
        return percent(value) if self.are_shares else count(round(value))


def paired_shares(column: ColumnComparison) -> PairedShares:
    """Return both counts of a column in shares of their own totals.

    A noisy total that is not clearly above zero cannot be divided by: then the counts stand as they are.
    """
    total = sum(column.noisy_counts)
    rows = sum(column.synthetic_counts)
    whisker = WHISKER_SDS * column.noise_std
    if total > whisker * math.sqrt(len(column.labels)) and rows > 0:
        return PairedShares(
            labels=column.labels,
            noisy=tuple(value / total for value in column.noisy_counts),
            whisker=whisker / total,
            synthetic=tuple(value / rows for value in column.synthetic_counts),
            are_shares=True,
        )
    return PairedShares(
        labels=column.labels,
        noisy=tuple(float(value) for value in column.noisy_counts),
        whisker=whisker,
        synthetic=tuple(float(value) for value in column.synthetic_counts),
        are_shares=False,
    )


def paired_bars(
    shares: PairedShares, *, key: str, title: str, first: str = "noisy", second: str = "synthetic"
) -> Markup:
    """Draw one pair of horizontal bars for each label; whiskers where the first value is noisy."""
    rows = sorted(range(len(shares.labels)), key=lambda i: -shares.noisy[i])[:MAX_BARS]
    rows.sort()
    row_height, top, bottom = 34.0, 4.0, 22.0
    label_width = min(max((text_width(shares.labels[i]) for i in rows), default=0) + 10, 122.0)
    number_width = 54.0
    low = min(
        [0.0, *(shares.noisy[i] - shares.whisker for i in rows if shares.whisker), *(shares.noisy[i] for i in rows)]
    )
    high = max([1e-9, *(max(shares.noisy[i] + shares.whisker, shares.synthetic[i]) for i in rows)])
    # The whiskers of a scale that starts at zero are cut there unless a count itself is negative.
    low = low if any(shares.noisy[i] < 0 for i in rows) else 0.0
    left, right = label_width, PANEL_WIDTH - number_width

    def x(value: float) -> float:
        return left + (right - left) * (max(value, low) - low) / (high - low)

    pairs = "; ".join(
        f"{shares.labels[i]}: {shares.write(shares.noisy[i])} {first}, {shares.write(shares.synthetic[i])} {second}"
        for i in rows
    )
    height = top + row_height * len(rows) + bottom
    drawing = Drawing(PANEL_WIDTH, height, key=key, title=title, description=pairs + ".")
    floor = top + row_height * len(rows)
    ticks = linear_ticks(low, high, about=3)
    for tick in ticks:
        drawing.line(x(tick), top, x(tick), floor, css="zero" if tick == 0 else "grid")
        whole = all(abs(100 * t - round(100 * t)) < 1e-9 for t in ticks)
        name = percent(tick, 0 if whole else 1) if shares.are_shares else count(round(tick))
        drawing.text(x(tick), floor + 15, name, css="tick", anchor="middle")
    for row, i in enumerate(rows):
        y = top + row_height * row
        noisy, synthetic = shares.noisy[i], shares.synthetic[i]
        drawing.text(0, y + 20, shares.labels[i], fit=label_width - 6)
        drawing.rect(min(x(noisy), x(0)), y + 5, abs(x(noisy) - x(0)), 11, css="first")
        drawing.rect(x(0), y + 17, x(synthetic) - x(0), 11, css="second")
        if shares.whisker:
            begin, end = x(noisy - shares.whisker), x(noisy + shares.whisker)
            drawing.path(_whisker(begin, end, y + 10.5, cut_left=noisy - shares.whisker < low), css="whisker")
        drawing.text(PANEL_WIDTH, y + 15, shares.write(noisy), css="value", anchor="end")
        drawing.text(PANEL_WIDTH, y + 28, shares.write(synthetic), css="value", anchor="end")
    return drawing.markup()


def _whisker(begin: float, end: float, y: float, *, cut_left: bool) -> str:
    left = "" if cut_left else f"M{begin:.1f} {y - 3:.1f}v6"
    return f"{left}M{begin:.1f} {y:.1f}H{end:.1f}M{end:.1f} {y - 3:.1f}v6"


def budget_bar(*, spent: float, cap: float, key: str, site: str) -> Markup:
    """Draw how much of a site's cap is spent, both in epsilon."""
    share = min(spent / cap, 1.0) if cap > 0 and math.isfinite(cap) else 0.0
    width, height = 160.0, 14.0
    drawing = Drawing(
        width,
        height,
        key=key,
        title=f"Budget of {site}",
        description=f"{decimal(spent)} of {decimal(cap)} spent, {percent(share, 0)}.",
    )
    drawing.rect(0.5, 1.5, width - 1, height - 3, css="bar-cap", radius=2)
    drawing.rect(0.5, 1.5, (width - 1) * share, height - 3, css="bar-spent", radius=2)
    return drawing.markup()


@dataclass(frozen=True, slots=True)
class OddsRatio:
    """One term of a logistic model: odds ratio, 95 % interval and p value by the normal approximation."""

    term: str
    value: float
    low: float
    high: float
    p: float

    @property
    def is_intercept(self) -> bool:
        """Whether this is the baseline odds rather than a ratio."""
        return self.term == "intercept"


def odds_ratios(model: LogisticModel) -> tuple[OddsRatio, ...]:
    """Return the odds ratio of each term; an estimate of log 1 with standard error 0 has p = 1.

    Examples
    --------
    >>> from synthema.released import Coefficient
    >>> model = LogisticModel("death", (Coefficient("age", 0.0, 0.5),), 5)
    >>> odds_ratios(model)[0].p
    1.0
    """
    out = []
    for term in model.coefficients:
        reach = _Z_95 * term.std_error
        deviate = abs(term.estimate) / term.std_error if term.std_error > 0 else (math.inf if term.estimate else 0.0)
        out.append(
            OddsRatio(
                term=term.term,
                value=_exp(term.estimate),
                low=_exp(term.estimate - reach),
                high=_exp(term.estimate + reach),
                p=math.erfc(deviate / math.sqrt(2)),
            )
        )
    return tuple(out)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


class Bar(Protocol):
    """A row of a forest: what it is of, and the value with its interval."""

    @property
    def term(self) -> str:
        """Name of what it is of."""
        ...

    @property
    def value(self) -> float:
        """Estimate."""
        ...

    @property
    def low(self) -> float:
        """Lower end of its interval."""
        ...

    @property
    def high(self) -> float:
        """Upper end of its interval."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its interval, for a forest."""

    term: str
    value: float
    low: float
    high: float


def forest(
    bars: Sequence[Bar], *, key: str, title: str, of: str = "odds", scale: Literal["log", "linear"] = "log"
) -> Markup:
    """Draw values with their intervals; an arrow marks an interval that leaves the picture.

    Parameters
    ----------
    of
        What is lower to the left of the line of no effect, and higher to the right.
    scale
        "log" for ratios, whose line of no effect is 1; "linear" for differences, whose line is 0.
    """
    longest = max((text_width(bar.term) for bar in bars), default=0) + 10
    # A term that would be cut beside its interval stands above it instead.
    above = longest > _LONGEST_LABEL_BESIDE
    row_height, top, bottom = (44.0 if above else 30.0), 22.0, 24.0
    label_width = 12.0 if above else longest
    at = _log_ratio if scale == "log" else float
    write = ratio if scale == "log" else (lambda value: f"{value:.4g}")
    widest = _WIDEST_LOG_RATIO if scale == "log" else math.inf
    ends = [min(max(at(v), -widest), widest) for bar in bars for v in (bar.low, bar.high)]
    # The line of no effect is always in the picture.
    least = 0.1 if scale == "log" else 0.1 * max([1e-12, *map(abs, ends)])
    low, high = min([-least, *ends]), max([least, *ends])
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    left, right = label_width, PANEL_WIDTH - 12

    def x(value: float) -> float:
        return left + (right - left) * (min(max(at(value), low), high) - low) / (high - low)

    described = "; ".join(f"{bar.term}: {write(bar.value)} ({write(bar.low)} to {write(bar.high)})" for bar in bars)
    floor = top + row_height * len(bars)
    drawing = Drawing(PANEL_WIDTH, floor + bottom, key=key, title=title, description=described + ".")
    shown = -math.inf
    ticks = log_ticks(math.exp(low), math.exp(high)) if scale == "log" else linear_ticks(low, high, about=4)
    for tick in ticks:
        drawing.line(x(tick), top, x(tick), floor, css="grid")
        if x(tick) - shown > 30:
            drawing.text(x(tick), floor + 16, f"{tick:g}", css="tick", anchor="middle")
            shown = x(tick)
    none = x(1.0 if scale == "log" else 0.0)
    drawing.line(none, top - 4, none, floor, css="zero")
    drawing.text(none - 8, 12, f"◂ lower {of}", css="tick", anchor="end", fit=none - 8)
    drawing.text(none + 8, 12, f"higher {of} ▸", css="tick", fit=PANEL_WIDTH - none - 8)
    for row, bar in enumerate(bars):
        y = top + row_height * (row + (0.75 if above else 0.5))
        if above:
            drawing.text(0, y - 14, bar.term, css="halo", fit=PANEL_WIDTH)
        else:
            drawing.text(0, y + 4, bar.term)
        drawing.line(x(bar.low), y, x(bar.high), y, css="interval")
        if at(bar.low) < low:
            drawing.path(f"M{left + 5:.1f} {y - 4:.1f}l-5 4l5 4", css="interval")
        if at(bar.high) > high:
            drawing.path(f"M{right - 5:.1f} {y - 4:.1f}l5 4l-5 4", css="interval")
        drawing.rect(x(bar.value) - 4.5, y - 4.5, 9, 9, css="estimate")
    return drawing.markup()


def _log_ratio(value: float) -> float:
    return math.log(max(value, 1e-300))


def pair_level(pair: PairComparison) -> int:
    """Return 0 (no further apart than noise alone explains) to 3 (more than twice as far)."""
    if pair.distance <= 0:
        return 0
    excess = pair.distance / pair.noise_only if pair.noise_only > 0 else math.inf
    return sum(excess > level for level in PAIR_LEVELS)


def pair_map(pairs: tuple[PairComparison, ...], *, key: str, title: str) -> Markup:
    """Draw the distance of each pair of columns; framed cells are pairs that the model joins."""
    names: list[str] = []
    for pair in pairs:
        names.extend(name for name in pair.columns if name not in names)
    found = {frozenset(pair.columns): pair for pair in pairs}
    side = max(len(names) - 1, 1)
    label_width = min(max((text_width(name) for name in names), default=0) + 10, 110.0)
    cell = min(max((PANEL_WIDTH - label_width) / side, 22.0), 46.0)
    width = max(PANEL_WIDTH, label_width + cell * side)
    top, bottom = 2.0, 24.0
    described = "; ".join(
        f"{a} and {b}: {decimal(pair.distance)}{' (joined)' if pair.joined else ''}"
        for pair in pairs
        for a, b in [pair.columns]
    )
    drawing = Drawing(width, top + cell * side + bottom, key=key, title=title, description=described + ".")
    # Lower triangle: rows are columns 2..d, columns are 1..d-1.
    for row, first in enumerate(names[1:]):
        y = top + cell * row
        drawing.text(0, y + cell / 2 + 4, first, fit=label_width - 8)
        for at, second in enumerate(names[: row + 1]):
            joint = found.get(frozenset((first, second)))
            if joint is None:
                continue
            x = label_width + cell * at
            level = pair_level(joint)
            hint = f"{second} × {first}: {decimal(joint.distance, 3)}; noise alone {decimal(joint.noise_only, 3)}"
            css = f"heat{level}" + (" joined" if joint.joined else "")
            drawing.rect(x + 2, y + 2, cell - 4, cell - 4, css=css, radius=3, hint=hint)
            if cell >= 34:
                name = f"{joint.distance:.2f}" if joint.distance < 10 else power_of_ten(joint.distance)
                drawing.text(x + cell / 2, y + cell / 2 + 4, name, css=f"on-heat{level}", anchor="middle")
    for at, second in enumerate(names[:-1]):
        x = label_width + cell * (at + 0.5)
        drawing.text(x, top + cell * side + 15, second, css="tick", anchor="middle", fit=cell)
    return drawing.markup()
