"""Curves from counts on a grid: survival, cumulative hazard and cumulative incidence, each with 95 % intervals.

n[t], d[t], d[k, t]   at risk at the start of interval t, deaths in it, deaths of cause k in it
S(t)     survival, prod (1 - d / n) (Kaplan and Meier 1958); its variance is S^2 sum d / (n (n - d)) (Greenwood 1926)
H(t)     cumulative hazard, sum d / n (Nelson 1969, Aalen 1978); variance sum d (n - d) / n^3
F[k](t)  cumulative incidence, sum S(t-) d[k] / n (Aalen and Johansen 1978); variance by the delta method, after
         Marubini and Valsecchi 1995, section 10.4

Intervals are symmetric on the scale of log H, log(-log S) and log(-log F). The curves are those of the grid: everything
in an interval happens at its end, and who is lost in it was at risk in it.

Where counts were not opened, they are known within bounds, and a curve is known within a bracket: `low` and `high` hold
what the pooled counts would give, and the limits of the interval hold the limits that they would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from synthema.learning.kaplan_meier import OpenedGroup
    from synthema.released import SurvivalCurve

FLOATS = npt.NDArray[np.float64]
Z_95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Range:
    """Least and greatest value of each count, shape (T,) or (K, T); equal where it was opened, NaN where unknown."""

    low: FLOATS
    high: FLOATS


@dataclass(frozen=True, slots=True)
class Counts:
    """What is known of a group's counts: bounds that hold one by one, and with every other."""

    at_risk: Range
    deaths: Range
    causes: Range


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve at the end of each interval, shape (T,) each; NaN where nothing is known.

    days          end of each interval
    low, high     the bracket that holds the estimate; equal where it is known
    lower, upper  95 % limits
    """

    days: FLOATS
    low: FLOATS
    high: FLOATS
    lower: FLOATS
    upper: FLOATS


def counts_of(opened: OpenedGroup, *, min_cell: int) -> Counts:
    """Return bounds of every count between the first and the last number at risk that was opened."""
    n_intervals = len(opened.events)
    n_low, n_high, d_low, d_high = np.full((4, n_intervals), np.nan)
    points = np.flatnonzero(opened.at_risk >= 0)
    for start, end in pairwise(points):
        block = opened.events[start:end].astype(np.float64)
        hidden = block < 0
        first, last = opened.at_risk[start], opened.at_risk[end]
        # A hidden count is at least 1, and at most what the others leave of those who left.
        spare = first - last - block[~hidden].sum() - hidden.sum()
        d_low[start:end] = np.where(hidden, 1, block)
        d_high[start:end] = np.where(hidden, min(min_cell - 1, 1 + spare), block)
        before = np.cumsum(d_low[start:end]) - d_low[start:end]
        n_high[start:end] = first - before
        n_low[start:end] = last + d_low[start:end].sum() - before
        n_low[start] = first
    # A curve ends where nobody is left.
    over = ~(n_high > 0)
    for bound in (n_low, n_high, d_low, d_high):
        bound[over] = np.nan
    deaths = Range(d_low, d_high)
    return Counts(Range(n_low, n_high), deaths, _by_cause(opened, deaths))


def _by_cause(opened: OpenedGroup, deaths: Range) -> Range:
    if opened.causes is None:
        return Range(deaths.low[None], deaths.high[None])
    known = (opened.causes >= 0) | np.isnan(deaths.low)
    # Where deaths were opened and their causes were not, one cause at least has a small cell: no cause has them all,
    # and of two causes both have one.
    some = (opened.events > 0) & ~known.all(axis=0)
    least = np.where(some & (len(known) == 2), 1.0, 0.0)
    most = deaths.high - some
    causes = np.where(np.isnan(deaths.low), np.nan, opened.causes)
    return Range(np.where(known, causes, least), np.where(known, causes, most))


def exact_counts(at_risk: FLOATS, causes: FLOATS) -> Counts:
    """Return counts that are known, or taken as such. `causes`: shape (K, T)."""
    deaths = causes.sum(axis=0)
    return Counts(Range(at_risk, at_risk), Range(deaths, deaths), Range(causes, causes))


def survival(counts: Counts, bracket: SurvivalCurve | FLOATS, days: FLOATS, extra: FLOATS | float = 0.0) -> Curve:
    """Return S. `bracket`: what the opened counts leave of it, or S; `extra`: variance of log S that noise adds."""
    if isinstance(bracket, np.ndarray):
        low = high = bracket
    else:
        low = np.array([np.nan if step.survival_low is None else step.survival_low for step in bracket.steps])
        high = np.array([np.nan if step.survival_high is None else step.survival_high for step in bracket.steps])
        low, high = (np.where(np.isnan(counts.at_risk.high), np.nan, end) for end in (low, high))
    n, d = counts.at_risk.low, counts.deaths.high
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(d > 0, d / (n * (n - d)), 0 * d)
        least, most = -np.log(high), -np.log(low)
        # -log(1 - x) >= x: the sum of Greenwood is at most -log S over the fewest who survived an interval.
        alive = np.fmin.accumulate(np.where(d > 0, n - d, np.inf))
    variance = np.cumsum(terms) + extra
    lower, upper = _limits(least, most, variance, None if np.any(extra) else alive)
    return Curve(days, low, high, np.exp(-upper), np.exp(-lower))


def hazard(counts: Counts, days: FLOATS, *, cause: int | None = None, extra: FLOATS | float = 0.0) -> Curve:
    """Return H, of one cause or of all."""
    deaths = counts.deaths if cause is None else Range(counts.causes.low[cause], counts.causes.high[cause])
    n_low, n_high = counts.at_risk.low, counts.at_risk.high
    low, high = (np.cumsum(_ratio(d, n)) for d, n in ((deaths.low, n_high), (deaths.high, n_low)))
    # d (n - d) / n^3 is at most d / n^2, and is that formula where both are known.
    known = (n_low == n_high) & (deaths.low == deaths.high)
    terms = _ratio(deaths.high * np.where(known, n_low - deaths.high, n_low), n_low**3)
    lower, upper = _limits(low, high, np.cumsum(terms) + extra, None)
    return Curve(days, low, high, lower, upper)


def incidence(counts: Counts, of_survival: Curve, cause: int, *, extra: FLOATS | float = 0.0) -> Curve:
    """Return F of one cause; intervals up to where everything is known."""
    n_low, n_high, causes = counts.at_risk.low, counts.at_risk.high, counts.causes
    before_low = np.concatenate([[1.0], of_survival.low[:-1]])
    before_high = np.concatenate([[1.0], of_survival.high[:-1]])
    low = np.cumsum(before_low * _ratio(causes.low[cause], n_high))
    high = np.cumsum(before_high * _ratio(causes.high[cause], n_low))
    # All causes and survival make up the whole.
    others = np.cumsum(before_low * _ratio(causes.low.sum(axis=0) - causes.low[cause], n_high))
    high = np.minimum(high, 1 - of_survival.low - others)
    d, d_k = counts.deaths.high, causes.high[cause]
    known = np.logical_and.accumulate(
        (n_low == n_high)
        & (counts.deaths.low == d)
        & (causes.low[cause] == d_k)
        & (of_survival.high - of_survival.low < 1e-9)
    )
    # Both ends are the same sum there.
    high = np.where(known, low, high)
    variance = _incidence_variance(low, before_low, n_low, d, d_k) + extra
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = Z_95 * np.sqrt(variance) / (low * np.abs(np.log(low)))
        lower, upper = low ** np.exp(reach), low ** np.exp(-reach)
    nothing = known & (low == 0)
    lower, upper = (np.where(nothing, 0.0, np.where(known, limit, np.nan)) for limit in (lower, upper))
    return Curve(of_survival.days, low, high, lower, upper)


def _incidence_variance(f: FLOATS, before: FLOATS, n: FLOATS, d: FLOATS, d_k: FLOATS) -> FLOATS:
    gap = f[:, None] - f[None, :]
    past = np.tril(np.ones_like(gap))
    first = past * gap**2 * np.where(gap > 0, _ratio(d, n * (n - d)), 0)
    second = past * _ratio(before**2 * d_k * (n - d_k), n**3)
    third = past * gap * _ratio(before * d_k, n**2)
    return np.asarray((first + second - 2 * third).sum(axis=1), dtype=np.float64)


def _ratio(x: FLOATS, y: FLOATS) -> FLOATS:
    """Return x / y, and 0 where nothing happened: nobody need be at risk there."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x == 0, 0.0, x / y)


def _limits(least: FLOATS, most: FLOATS, variance: FLOATS, alive: FLOATS | None) -> tuple[FLOATS, FLOATS]:
    """Return bounds of L exp(-z s / L) and L exp(z s / L) for L between `least` and `most`, s^2 at most `variance`.

    The first grows with L and falls with s. The second falls and then grows in L, so that an end of the range is its
    greatest; the same holds with s^2 = L / alive, a second bound where L is small.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        std = np.sqrt(variance)
        lower = least * np.exp(-Z_95 * std / least)
        upper = np.fmax(*(end * np.exp(Z_95 * std / end) for end in (least, most)))
        if alive is not None:
            inexact = most - least > 1e-9
            other = np.fmax(*(end * np.exp(Z_95 / np.sqrt(end * alive)) for end in (least, most)))
            upper = np.where(inexact, np.fmin(upper, other), upper)
    nothing = most == 0
    # Where nobody is left, the logarithms have no variance.
    ended = np.isinf(least) | (np.isinf(variance) & ~nothing)
    lower, upper = np.where(nothing, 0.0, lower), np.where(nothing, 0.0, upper)
    return np.where(ended, np.nan, lower), np.where(ended | np.isinf(most), np.nan, upper)


@dataclass(frozen=True, slots=True)
class Median:
    """First grid day at which survival is at most a half; None where it is not reached, or not known.

    days      earliest and latest day that the bracket allows
    interval  where the 95 % limits of survival cross a half (Brookmeyer and Crowley 1982, on the log-log scale)
    """

    days: tuple[float | None, float | None]
    interval: tuple[float | None, float | None]


def median(curve: Curve) -> Median:
    """Return the median survival time on the grid."""
    return Median(
        days=(_first(curve, curve.low), _first(curve, curve.high)),
        interval=(_first(curve, curve.lower), _first(curve, curve.upper)),
    )


def _first(curve: Curve, level: FLOATS) -> float | None:
    # What is not known is no crossing: a NaN compares as false.
    below = np.flatnonzero(level <= 0.5 + 1e-12)
    return float(curve.days[below[0]]) if len(below) else None


@dataclass(frozen=True, slots=True)
class RestrictedMean:
    """Mean days alive up to a day, within a bracket; standard error where the counts are known, else None."""

    until_day: float
    low: float
    high: float
    std_error: float | None


def restricted_mean(curve: Curve, counts: Counts, *, n_intervals: int, extra: float = 0.0) -> RestrictedMean:
    """Return the area under S over the first intervals, of equal length.

    Variance: sum of A(t)^2 d / (n (n - d)), A the area from t on. Raises ValueError if S is not known so far.
    """
    width = float(curve.days[0])
    before = [np.concatenate([[1.0], end[: n_intervals - 1]]) for end in (curve.low, curve.high)]
    low, high = (float(width * each.sum()) for each in before)
    if not np.isfinite([low, high]).all():
        raise ValueError("survival is not known up to that day: choose an earlier one")
    std_error = None
    if high - low < 1e-6 * width:
        after = width * (np.cumsum(before[0][::-1])[::-1] - before[0])
        # Nothing is left after a survival of 0, and Greenwood's term has no value there.
        some = after > 0
        n, d = counts.at_risk.low[:n_intervals][some], counts.deaths.low[:n_intervals][some]
        std_error = float(np.sqrt((after[some] ** 2 * _ratio(d, n * (n - d))).sum() + extra))
    return RestrictedMean(float(curve.days[n_intervals - 1]), low, high, std_error)


def n_known(curve: Curve) -> int:
    """Return over how many intervals from the start a curve is known, exactly or within a bracket."""
    return int(np.logical_and.accumulate(np.isfinite(curve.low)).sum())
