"""From a composition to certified numbers: where to put the line, and how a bound on delta becomes one on epsilon."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from privacy.numerical._contour import (
    Bounds,
    Contour,
    Joint,
    build,
    joint,
    log_chernoff_bound,
    log_chernoff_factor,
    outline,
    sketch,
)
from privacy.numerical._terms import FloatArray, Term

_LEAST_C, _MOST_C = 1e-7, 1e16
# By how much, as a log, a tilt may miss the least bound; and how near to it the search ends.
_FLAT = 2.0
_NEAR_LEAST = 0.3
# A tilt is only made larger by at least so much, as a log.
_WORTH = 0.5
# A moment with this error is hard to come by, and so are those of tilts not this far apart, as a log.
_HARD, _APART = 1e-7, 0.7
_FINER = np.array([0.25, 0.5, 0.75])


class Evaluable(Protocol):
    """A privacy curve with certified bounds near the epsilon that it was made for."""

    def evaluate(self, epsilon: float) -> tuple[Bounds, float]:
        """Return bounds on log delta(epsilon) and the slope of the logarithm."""


def _barrier(c: float) -> tuple[float, float]:
    return -1 / c - 1 / (1 + c), 1 / c**2 + 1 / (1 + c) ** 2


def saddle(terms: Sequence[Term], epsilon: float, start: float = 1.0, *, log_enough: float = -math.inf) -> Joint | None:
    """Return the composition tilted close to the minimum over c > 0 of K(c) - c epsilon - log(c (1 + c)).

    The search ends early where one moment already shows that delta is below exp(log_enough).
    """

    def slope(at: Joint) -> float:
        return at.mean - epsilon + _barrier(at.c)[0] if math.isfinite(at.log_moment) else math.inf

    def curvature(at: Joint) -> float:
        return at.variance + _barrier(at.c)[1]

    # Within a third of the width of the hump of the integrand.
    def near(at: Joint) -> float:
        if at.log_moment + at.error - at.c * epsilon < log_enough:
            return math.inf
        return 0.3 * math.sqrt(curvature(at))

    return _root(terms, slope, curvature, near, start)


def least(terms: Sequence[Term], epsilon: float, start: float, *, log_enough: float = -math.inf) -> Joint | None:
    """Return the composition near the least bound that one moment gives, as `sketch` has it, from a start nearby.

    The bound is convex in c. The search ends early where it is below exp(log_enough).
    """
    known: dict[float, tuple[float, Joint]] = {}

    def ask(x: FloatArray) -> None:
        x = np.array([each for each in x.tolist() if each not in known])
        c = np.exp(x)
        found = outline(terms, c)
        for place, each, moment, error, mean, variance in zip(
            x.tolist(),
            c.tolist(),
            found.log_moment.tolist(),
            found.error.tolist(),
            found.mean.tolist(),
            found.variance.tolist(),
            strict=True,
        ):
            at = Joint(each, moment, error, mean, variance, ())
            bound = at.log_moment + at.error - each * epsilon + log_chernoff_factor(each)
            known[place] = (bound if math.isfinite(bound) else math.inf), at

    x, step = math.log(start), 0.25
    ask(x + step * np.arange(-2.0, 4.0))
    for _ in range(16):
        places = sorted(known)
        values = [known[place][0] for place in places]
        best = int(np.argmin(values))
        if values[best] < log_enough:
            return known[places[best]][1]
        if best == 0 or best == len(places) - 1 or math.isinf(values[best]):
            # Smaller tilts where nothing is finite.
            up = best > 0 and math.isfinite(values[best])
            step = min(1.6 * step, 1.0)
            ask(places[-1] + step * np.arange(1.0, 6.0) if up else places[0] - step * np.arange(1.0, 6.0))
            continue
        # How much lower a parabola through three points may be, at most.
        below, above = values[best - 1] - values[best], values[best + 1] - values[best]
        if 0.125 * (below - above) ** 2 < _NEAR_LEAST * (below + above) or places[best + 1] - places[best - 1] < 0.02:
            break
        gaps = places[best] - places[best - 1], places[best + 1] - places[best]
        ask(np.concatenate((places[best] - gaps[0] * _FINER, places[best] + gaps[1] * _FINER)))
    places = sorted(known)
    values = [known[place][0] for place in places]
    best = int(np.argmin(values))
    value = values[best]
    if math.isinf(value):
        return None
    # Where the bound is flat, a larger tilt costs a few digits and saves many nodes.
    step = 0.7
    for _ in range(8):
        if values[-1] > value + _FLAT:
            break
        ask(places[-1] + step * np.arange(1.0, 4.0))
        step *= 2
        places = sorted(known)
        values = [known[place][0] for place in places]
    # Rules become long a little before there are none.
    hard = min((place for place in places[best:] if not known[place][1].error < _HARD), default=math.inf) - _APART
    flat = [p for p, each in zip(places, values, strict=True) if each <= value + _FLAT and p <= hard]
    return known[max(flat) if flat and max(flat) > places[best] + _WORTH else places[best]][1]


def _root(
    terms: Sequence[Term],
    slope: Callable[[Joint], float],
    curvature: Callable[[Joint], float],
    near: Callable[[Joint], float],
    start: float,
) -> Joint | None:
    # What is found by sketches is looked at closely; what they do not reach is searched for with all there is.
    for evaluate in (sketch, joint):
        found = _root_by(partial(evaluate, terms), slope, curvature, near, start)
        if found is not None:
            at = found if evaluate is joint else joint(terms, found.c)
            if math.isfinite(at.log_moment):
                return at
    return None


def _root_by(
    evaluate: Callable[[float], Joint],
    slope: Callable[[Joint], float],
    curvature: Callable[[Joint], float],
    near: Callable[[Joint], float],
    start: float,
) -> Joint | None:
    # Newton in log c between brackets until |slope| <= near; any c is valid, a poor one is only expensive.
    low, high = math.log(_LEAST_C), math.log(_MOST_C)
    x = math.log(min(max(start, _LEAST_C), _MOST_C))
    best: Joint | None = None
    for _ in range(40):
        at = evaluate(math.exp(x))
        value = slope(at)
        if value > 0:
            high = x
        else:
            low = x
        if not math.isfinite(value):
            x = max(x - 1.5, 0.5 * (low + high)) if best is None else 0.5 * (low + high)
            if high - low < 1e-3:
                return best
            continue
        best = at
        step = -value / (at.c * curvature(at))
        close = near(at)
        if (abs(step) < 0.03 and abs(value) <= close) or math.isinf(close) or high - low < 1e-6:
            return at
        step = max(-2.0, min(2.0, step))
        x = x + step if low < x + step < high else 0.5 * (low + high)
    return best


def saddle_between(terms: Sequence[Term], epsilon: float) -> Joint | None:
    """Return the composition tilted close to the minimum over -1 < c < 0 of K(c) - c epsilon - log(-c (1 + c))."""
    low, high, best = -1.0, 0.0, None
    c = -0.47
    for _ in range(25):
        at = sketch(terms, c)
        if not math.isfinite(at.log_moment):
            c = 0.5 * (c + (high if c > -0.5 else low)) if best is None else 0.5 * (c + best.c)
            continue
        best = at
        first, second = _barrier(c)
        value = at.mean - epsilon + first
        low, high = (low, c) if value > 0 else (c, high)
        step = -value / (at.variance + second)
        if abs(step) < 0.05 * min(-c, 1 + c):
            break
        c = c + step if low < c + step < high else 0.5 * (low + high)
    return None if best is None else joint(terms, best.c)


def calmer(terms: Sequence[Term], at: Joint, epsilon: float, log_target: float) -> Joint:
    """Return a tilt whose line needs fewer nodes, if moments grow so fast beyond `at` that aliasing is hard to bound.

    Any c is valid; a smaller one cancels more, and a few digits can be spared.
    """
    c = at.c * np.array([0.3, 0.45, 0.6, 0.75, 0.9, 1.0, 1.25])
    found = outline(terms, c)
    log_moments = (found.log_moment + found.error).tolist()
    others = [pair for pair in zip(c.tolist(), log_moments, strict=True) if math.isfinite(pair[1])]

    def period(c: float, others: Sequence[tuple[float, float]]) -> float:
        goal = log_target - 33
        above = [(log_chernoff_factor(a) + k - a * epsilon - goal) / (a - c) for a, k in others if a > c]
        return max(min(above, default=math.inf), -goal / c)

    if period(at.c, others[-1:]) * at.c < 8 * (33 - log_target):
        return at
    fit = [a for a, k in others if a <= at.c and k - a * epsilon - log_target < 16]
    best = min(fit, key=lambda a: period(a, others), default=at.c)
    return at if best == at.c else joint(terms, best)


def log_saddle_estimate(at: Joint, epsilon: float) -> float:
    """Return the saddle-point estimate of the log of the integral: it steers, nothing rests on it."""
    c = at.c
    curvature = at.variance + _barrier(c)[1]
    height = at.log_moment - c * epsilon - math.log(abs(c)) - math.log1p(c)
    return height - 0.5 * math.log(2 * math.pi * max(curvature, 1e-300))


def curve_at(terms: Sequence[Term], epsilon: float, *, complement: bool = True) -> tuple[Bounds, Bounds] | None:
    """Return bounds on log delta and on log(1 - delta) at epsilon >= 0, or None if no line is affordable.

    complement   whether a large delta may be taken as 1 less its complement: not for laws of mass below 1
    """
    at = saddle(terms, epsilon)
    if at is None:
        return None
    estimate = log_saddle_estimate(at, epsilon)
    if complement and estimate > math.log(0.6):
        other = saddle_between(terms, epsilon)
        contour = None
        if other is not None:
            contour = build(terms, other, epsilon, log_target=min(0.0, log_saddle_estimate(other, epsilon)))
        if contour is not None:
            kept = contour.evaluate(epsilon)[0]
            return _complement(kept), kept
    at = calmer(terms, at, epsilon, min(0.0, estimate))
    contour = build(terms, at, epsilon, log_target=min(0.0, estimate))
    if contour is None:
        return None
    spent = contour.evaluate(epsilon)[0]
    if spent.high - spent.low > 1e-9 and math.isfinite(spent.value) and spent.value < estimate - 1:
        # The estimate promised more than there is: aliasing is to stay below what there is.
        again = build(terms, at, epsilon, log_target=spent.value - 1)
        spent = spent if again is None else again.evaluate(epsilon)[0]
    return spent, _complement(spent)


def _complement(bounds: Bounds) -> Bounds:
    def one_minus(x: float) -> float:
        return math.log(-math.expm1(x)) if x < 0 else -math.inf

    # One rounding of the difference, to the safe sides.
    low, high = one_minus(bounds.high), one_minus(bounds.low)
    if low > -math.inf:
        low -= 1e-15 + 4e-16 * abs(low)
    if high > -math.inf:
        high = min(0.0, high + 1e-15 + 4e-16 * abs(high))
    return Bounds(low, one_minus(bounds.value), high)


def chernoff_log_delta(terms: Sequence[Term], epsilon: float, start: float = 1.0) -> float:
    """Return an upper bound on log delta(epsilon) from one moment: the last resort."""
    at = saddle(terms, epsilon, start)
    if at is None:
        return 0.0
    return min(0.0, log_chernoff_bound(at.c, at.log_moment + at.error, epsilon))


def doubt_of(log_delta: float) -> float:
    """Return how far the logarithm of the delta that the caller named may be from the one in doubles."""
    return 4e-16 * (1 + abs(log_delta))


def epsilon_at(terms: Sequence[Term], log_delta: float) -> tuple[float, float] | None:
    """Return (lower, upper) on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta), or None.

    None: no line is affordable, and a coarser method has to answer.
    """
    at = tilt_for(terms, log_delta)
    if at is None:
        return None
    guess = at.mean + _barrier(at.c)[0]
    guess += (log_saddle_estimate(at, guess) - log_delta) / at.c
    lower, upper = 0.0, math.inf
    for _ in range(4):
        if guess <= 0:
            found = curve_at(terms, 0.0, complement=False)
            if found is None:
                return None
            if found[0].high <= log_delta - doubt_of(log_delta):
                return 0.0, 0.0
            start = saddle(terms, 0.0, at.c)
            if start is None:
                return None
            at, guess = start, 0.0
        at = calmer(terms, at, guess, log_delta)
        contour = build(terms, at, guess, log_target=log_delta)
        if contour is None:
            return None
        epsilon = newton(contour, guess, log_delta)
        if epsilon is None:
            return None
        if epsilon <= 0:
            # As good as zero, which delta at zero did not certify.
            return (0.0, enclose(contour, 0.0, log_delta)[1]) if guess == 0 else _retry(terms, contour, log_delta)
        low, high = enclose(contour, epsilon, log_delta)
        lower, upper = max(lower, low), min(upper, high)
        if upper - lower <= 2e-10 * upper + 1e-13:
            return lower, upper
        better = saddle(terms, epsilon, at.c)
        if better is None or abs(epsilon - guess) * better.c < 0.05 > abs(math.log(better.c / at.c)):
            break
        at, guess = better, epsilon
    return lower, upper


def _retry(terms: Sequence[Term], contour: Contour, log_delta: float) -> tuple[float, float] | None:
    found = curve_at(terms, 0.0, complement=False)
    if found is not None and found[0].high <= log_delta - doubt_of(log_delta):
        return 0.0, 0.0
    return 0.0, enclose(contour, 0.0, log_delta)[1]


def tilt_for(terms: Sequence[Term], log_delta: float) -> Joint | None:
    """Return the composition tilted where the saddle-point estimate of delta is the wanted one."""

    # As c grows, the saddle-point estimate of delta at its own epsilon falls: find the c of the wanted delta.
    def slope(at: Joint) -> float:
        if not math.isfinite(at.log_moment):
            return math.inf
        epsilon = at.mean + _barrier(at.c)[0]
        return log_delta - log_saddle_estimate(at, epsilon)

    def curvature(at: Joint) -> float:
        # d/dc of the estimate is -c K'' to first order.
        return max(at.c * (at.variance + _barrier(at.c)[1]), 1e-300)

    # A normal tail of this height, for a loss of the spread that it has at c = 1.
    first = sketch(terms, 1.0)
    spread = math.sqrt(max(first.variance, 1e-300)) if math.isfinite(first.log_moment) else 1.0
    return _root(terms, slope, curvature, lambda _at: 1.0, math.sqrt(-2 * log_delta) / spread)


def newton(contour: Evaluable, guess: float, log_delta: float) -> float | None:
    """Return the epsilon at which the value is exp(log_delta), or None if the way there is lost."""
    epsilon = guess
    for _ in range(25):
        bounds, slope = contour.evaluate(epsilon)
        if not math.isfinite(bounds.value) or slope >= 0:
            return None
        step = (log_delta - bounds.value) / slope
        if abs(step) <= 2e-16 * abs(epsilon) + 1e-18:
            return epsilon
        if abs(step) > 0.5 * epsilon + 1:
            step = math.copysign(0.5 * epsilon + 1, step)
        epsilon += step
        if epsilon <= 0:
            return 0.0
        if abs(step) <= 1e-14 * epsilon:
            return epsilon
    return epsilon


def enclose(contour: Evaluable, epsilon: float, log_delta: float) -> tuple[float, float]:
    """Return certified bounds on the epsilon of this delta, near the given one; (0, inf) where there are none."""
    # The certificate: delta is decreasing, so one bound at one point decides each side.
    bounds, slope = contour.evaluate(epsilon)
    lower, upper = 0.0, math.inf
    doubt = doubt_of(log_delta)
    if math.isfinite(bounds.high):
        step = max(0.0, (bounds.high - log_delta + doubt) / -slope) * 1.01 + 2e-16 * epsilon + 1e-300
        for _ in range(12):
            if contour.evaluate(epsilon + step)[0].high <= log_delta - doubt:
                upper = epsilon + step
                break
            step *= 3
    if math.isfinite(bounds.low):
        step = max(0.0, (log_delta + doubt - bounds.low) / -slope) * 1.01 + 2e-16 * epsilon
        for _ in range(12):
            if step >= epsilon:
                break
            if contour.evaluate(epsilon - step)[0].low >= log_delta + doubt:
                lower = epsilon - step
                break
            step *= 3
    return lower, upper
