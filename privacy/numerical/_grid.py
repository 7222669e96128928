"""Composition on a grid of losses: a dominating and a dominated lattice law, raised to powers by a tilted FFT.

For compositions whose losses neither sit on one lattice nor have a characteristic function that falls quickly. The
bounds are rigorous, but as wide as the grid is coarse.

Upper: the mass of each cell of losses is split between the ends of the cell so that both its P mass and its Q mass stay
(a mean-preserving spread of exp(-L) under P, and delta is convex in it). Doroshenko et al. 2022, arXiv:2207.04380.
Lower: each cell around a grid point is merged into one outcome (a post-processing) with the loss log(P / Q) of the
cell, which is then lowered to the grid point less a common shift; delta increases in every loss.
Tilting by exp(c L) before the FFT keeps the relative accuracy where it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._sampled_laplace import SampledLaplaceTerm
from privacy.numerical._single import tails
from privacy.numerical._solve import doubt_of
from privacy.numerical._terms import (
    UNIT,
    AtomsTerm,
    DiscreteGaussianTerm,
    FloatArray,
    GaussianTerm,
    LaplaceTerm,
    Term,
)

_LOG2_SIZE = 14

# A discrete Gaussian beyond this scale has more values than are worth listing.
_MOST_SCALE = 2e4

# What may be lost at the ends, relative to delta, in logs; and the relative error granted to each tail probability.
_LOG_LOST = -14.0
_TAIL_ERROR = 1e-11

# Masses below this may have lost digits, or all of them, to underflow; and a bound on all that a law may have lost so.
_LEAST_MASS = 1e-290
_HIDDEN = 1e-300


@dataclass(frozen=True, slots=True)
class _Law:
    """`count` losses of a lattice law under P: `mass[k]` at (first + k) * spacing + shift, `infinite` at infinity."""

    first: int
    mass: FloatArray
    shift: float
    infinite: float
    count: int


@dataclass(frozen=True, slots=True)
class _Sum:
    """The composition of lattice laws within a window of losses, tilted by c."""

    loss: FloatArray
    tilted: FloatArray
    log_moment: float
    c: float
    noise: float
    log_above: float
    infinite: float

    def log_delta(self, epsilon: float, *, upper: bool) -> float:
        """Return a bound on log delta(epsilon)."""
        if upper and epsilon < self.loss[0]:
            return 0.0  # what lies between epsilon and the window is not counted
        above = self.loss > epsilon
        distance = self.loss[above] - epsilon
        scale = self.log_moment - self.c * epsilon
        if upper:
            # Cells that hold nothing but rounding noise have been set to it: nothing is dropped. In logarithms, because
            # the tilt may be steeper than doubles can hold.
            with np.errstate(divide="ignore"):
                logs = np.log(self.tilted[above] + self.noise) - self.c * distance + np.log(-np.expm1(-distance))
            parts = [_log_sum(logs) + 1e-11 + scale, self.log_above, _log(self.infinite)]
            return _log_sum(np.array(parts))
        kernel = np.exp(-self.c * distance) * -np.expm1(-distance)
        inside = float(np.sum((self.tilted[above] - self.noise) * kernel)) * (1 - 1e-11)
        return (math.log(inside) + scale) if inside > 0 else -math.inf


def _log_sum(logs: FloatArray) -> float:
    top = float(logs.max()) if len(logs) else -math.inf
    return top + math.log(float(np.sum(np.exp(logs - top)))) if math.isfinite(top) else top


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def grid_log_delta(terms: Sequence[Term], epsilon: float) -> tuple[float, float]:
    """Return bounds (low, high) on log delta(epsilon)."""
    plan = _plan(terms, epsilon=epsilon, log_delta=None)
    if plan is None:
        return -math.inf, 0.0
    upper, lower = (_compose(terms, plan, upper=side) for side in (True, False))
    low, high = lower.log_delta(epsilon, upper=False), min(0.0, upper.log_delta(epsilon, upper=True))
    # Bounds that contradict each other prove nothing: that would be a defect, and is not passed on.
    return (low, high) if low <= high else (-math.inf, 0.0)


def grid_curve(terms: Sequence[Term]) -> Callable[[float], float] | None:
    """Return epsilon -> an upper bound on log delta, for epsilon >= 0, from one dominating law; None without a grid."""
    plan = _plan(terms, epsilon=0.0, log_delta=None)
    if plan is None:
        return None
    total = _compose(terms, plan, upper=True)
    return lambda epsilon: min(0.0, total.log_delta(epsilon, upper=True))


def grid_epsilon(terms: Sequence[Term], log_delta: float) -> tuple[float, float]:
    """Return bounds (low, high) on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta)."""
    plan = _plan(terms, epsilon=None, log_delta=log_delta)
    if plan is None:
        return 0.0, math.inf
    total = _compose(terms, plan, upper=True)
    doubt = doubt_of(log_delta)
    low, high = max(0.0, float(total.loss[0])), float(total.loss[-1])
    if total.log_delta(low, upper=True) <= log_delta - doubt:
        high = low
    elif high <= low or total.log_delta(high, upper=True) > log_delta - doubt:
        return 0.0, math.inf
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if total.log_delta(middle, upper=True) > log_delta - doubt else (low, middle)
    # The lower side lies just below: far from it the noise of the dominated sum hides it.
    lower, step = _compose(terms, plan, upper=False), 1e-9 * high
    if lower.log_delta(high, upper=False) >= log_delta + doubt:
        return 0.0, math.inf  # as in `grid_log_delta`
    while step < high and lower.log_delta(high - step, upper=False) < log_delta + doubt:
        step *= 2
    if step >= high:
        return 0.0, high
    near, far = high - 0.5 * step, high - step
    for _ in range(12):
        middle = 0.5 * (near + far)
        near, far = (near, middle) if lower.log_delta(middle, upper=False) >= log_delta + doubt else (middle, far)
    return far, high


@dataclass(frozen=True, slots=True)
class _Plan:
    spacing: float
    size: int
    start: float
    c: float
    ends: tuple[tuple[float, float], ...]


def _count(term: Term) -> int:
    return getattr(term, "count", 1)


def _range(term: Term, log_lost: float) -> tuple[float, float]:
    """Return the losses of one release between which all but about exp(log_lost) of P lies."""
    reach = math.sqrt(-2 * log_lost)
    match term:
        case GaussianTerm(mu=mu):
            sd = math.sqrt(2 * mu)
            return mu - reach * sd, mu + reach * sd
        case SampledGaussianTerm(noise_multiplier=s, sampling_rate=q, direction=direction):
            # The patient's own part is entered with probability q only.
            own = math.sqrt(max(-2 * (log_lost - math.log(q)), 0.0)) + 1 / s
            ends = np.array([-reach, max(reach, own) if direction == "remove" else reach])
            low, high = (float(x) for x in term.law.logs(ends)[0])
            low = max(low, math.log1p(-q))
            return (low, high) if direction == "remove" else (-high, -low)
        case LaplaceTerm(epsilon=e):
            return -e, e
        case SampledLaplaceTerm():
            return term.ends
        case AtomsTerm(losses=losses):
            return losses[0], losses[-1]
        case DiscreteGaussianTerm(scale=scale):
            return (0.5 - reach * scale) / scale**2, (0.5 + reach * scale) / scale**2
        case _:
            raise TypeError(f"no range for {type(term).__name__}")


def _plan(terms: Sequence[Term], *, epsilon: float | None, log_delta: float | None) -> _Plan | None:
    """Choose tilt, window and spacing from a coarse copy of the losses."""
    if any(isinstance(term, DiscreteGaussianTerm) and term.scale > _MOST_SCALE for term in terms):
        return None
    log_goal = -60.0 if log_delta is None else log_delta
    counts = sum(_count(term) for term in terms)
    ends = tuple(_range(term, max(log_goal + _LOG_LOST - math.log(counts), -720.0)) for term in terms)
    coarse = []
    for term, (low, high) in zip(terms, ends, strict=True):
        edges = np.linspace(low, high, 400)
        p_low, p_high, _, _ = tails(term, edges)
        mass = np.maximum(_differences(p_low, p_high), 0)
        middle = 0.5 * (edges[1:] + edges[:-1])
        mass = np.concatenate(([p_low[0]], mass, [p_high[-1]]))
        held = mass > 0
        coarse.append((np.concatenate(([low], middle, [high]))[held], np.log(mass[held]), _count(term)))

    def moments(c: float) -> tuple[float, float, float]:
        total = [0.0, 0.0, 0.0]
        for loss, log_mass, count in coarse:
            exponent = log_mass + c * loss
            peak = float(exponent.max())
            weight = np.exp(exponent - peak)
            whole = float(weight.sum())
            mean = float(weight @ loss) / whole
            total[0] += count * (peak + math.log(whole))
            total[1] += count * mean
            total[2] += count * float(weight @ (loss - mean) ** 2) / whole
        return total[0], total[1], total[2]

    low, high = math.log(1e-6), math.log(1e12)
    for _ in range(45):
        x = 0.5 * (low + high)
        c = math.exp(x)
        moment, mean, variance = moments(c)
        barrier = 1 / c + 1 / (1 + c)
        if epsilon is not None:
            up = mean - epsilon - barrier > 0
        else:
            at = mean - barrier
            estimate = (
                moment
                - c * at
                - math.log(c * (1 + c))
                - 0.5 * math.log(2 * math.pi * (variance + 1 / c**2 + 1 / (1 + c) ** 2))
            )
            up = estimate < log_goal
        low, high = (low, x) if up else (x, high)
        if high - low < 0.05:
            break
    c = math.exp(0.5 * (low + high))
    moment, mean, variance = moments(c)
    at = max(0.0, mean - 1 / c - 1 / (1 + c)) if epsilon is None else epsilon
    goal = moment - c * at - math.log(c * (1 + c)) - 0.5 * math.log(2 * math.pi * (variance + 1 / c**2)) - 32
    goal = min(goal, -32.0)
    # Where the tilted sum ends on either side, by Chernoff's bound from other tilts.
    right = min((moments(a)[0] - a * at - goal) / a for a in (c * 1.3, c * 1.8, c * 3, c * 6))
    right = max(
        right,
        min((moments(a)[0] - moment - (a - c) * at + 32) / (a - c) for a in (c * 1.3, c * 1.8, c * 3, c * 6)),
    )
    left = min([-goal / c] + [(moments(b)[0] - b * at - goal) / (c - b) for b in (0.4 * c, 0.7 * c)])
    right = max(right, 1e-3 / c)
    left = max(left, 1e-3 / c)
    size = 1 << _LOG2_SIZE
    width = left + right
    # Atoms fall on grid points if a loss of the most frequent two-valued term is a multiple of the spacing.
    spacing = width / (size - 8)
    # A law of one release stays within a few times the period.
    spacing = max(spacing, max(high - low for low, high in ends) / (2 * size))
    fixed = [(term.count, term.losses[-1]) for term in terms if isinstance(term, AtomsTerm)]
    fixed += [(term.count, term.epsilon) for term in terms if isinstance(term, LaplaceTerm)]
    if fixed:
        loss = max(fixed)[1]
        if loss > 8 * spacing:
            spacing = loss / math.floor(loss / spacing)
    # A steeper tilt takes the kernel below the doubles within a cell, where nothing would be left of an upper bound.
    return _Plan(spacing, size, at - left, min(c, 30 / spacing), ends)


def _is_short(term: Term) -> bool:
    """Return whether no part of the law is too small for doubles."""
    match term:
        case AtomsTerm():
            return True
        case LaplaceTerm(epsilon=epsilon) | SampledLaplaceTerm(epsilon=epsilon):
            return epsilon < 600
        case _:
            return False


def _differences(low: FloatArray, high: FloatArray) -> FloatArray:
    # From the smaller tail, where the difference is accurate.
    return np.where(low[1:] < 0.5, low[1:] - low[:-1], high[:-1] - high[1:])


def _upper_law(term: Term, spacing: float, ends: tuple[float, float]) -> _Law:
    first, last = math.floor(ends[0] / spacing), math.ceil(ends[1] / spacing)
    loss: FloatArray = np.arange(first, last + 1, dtype=np.float64) * np.float64(spacing)
    p_low, p_high, q_low, q_high = tails(term, loss)
    p, q = _differences(p_low, p_high), _differences(q_low, q_high)
    slip_p = _TAIL_ERROR * np.minimum(p_low[1:], p_high[:-1])
    slip_q = _TAIL_ERROR * np.minimum(q_low[1:], q_high[:-1])
    p = np.maximum(p, 0) + slip_p
    with np.errstate(over="ignore", invalid="ignore"):
        up = (p - (np.maximum(q - slip_q, 0)) * np.exp(loss[:-1])) / -math.expm1(-spacing) + 1e-13 * p / spacing
    up = np.clip(np.where(np.isfinite(up), up, p), 0, p)
    mass = np.zeros(len(loss))
    mass[1:] += up
    mass[:-1] += p - up
    mass[0] += p_low[0]
    # Losses at which the tails were taken are known to a few roundings.
    slack = 32 * UNIT * (1 + float(np.max(np.abs(loss))))
    # Of 1e5 cells with masses below 1e-307 each.
    hidden = 0.0 if _is_short(term) else _HIDDEN
    return _Law(first, mass, slack, float(p_high[-1]) * (1 + _TAIL_ERROR) + hidden, _count(term))


def _lower_law(term: Term, spacing: float, ends: tuple[float, float]) -> _Law:
    first, last = math.ceil(ends[0] / spacing), math.floor(ends[1] / spacing)
    last = max(first, last)
    edges: FloatArray = (np.arange(first, last + 2, dtype=np.float64) - 0.5) * np.float64(spacing)
    p_low, p_high, q_low, q_high = tails(term, edges)
    p, q = _differences(p_low, p_high), _differences(q_low, q_high)
    p = np.maximum(p - _TAIL_ERROR * np.minimum(p_low[1:], p_high[:-1]), 0)
    q = np.maximum(q, 0) + _TAIL_ERROR * np.minimum(q_low[1:], q_high[:-1])
    # What lies beyond the last cell is at least as bad as the last cell.
    grid = np.arange(first, last + 1) * spacing
    # The loss of a cell is never below its lower end, which is all that is known where Q's mass is below the doubles.
    half = 0.5 * spacing * (1 + 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.where(q > _LEAST_MASS, np.minimum(grid - (np.log(p) - np.log(q)) + 1e-12, half), half)
    gap = np.where(p > 0, gap, 0.0)
    # The common shift serves all cells but the thin ones, which move down by as many whole steps as they need.
    order = np.argsort(gap)
    kept = np.cumsum(p[order])
    shift = float(max(0.0, gap[order[min(int(np.searchsorted(kept, kept[-1] * (1 - 1e-9))), len(gap) - 1)]]))
    shift = min(shift, spacing)
    steps = np.ceil(np.maximum(gap - shift, 0) / spacing)
    steps = steps.astype(np.int64)
    target = np.arange(len(p)) - steps
    mass = np.zeros(len(p))
    good = target >= 0
    np.add.at(mass, target[good], p[good])
    mass[-1] += float(p_high[-1]) * (1 - _TAIL_ERROR) * (1.0 if steps[-1] == 0 else 0.0)
    slack = 32 * UNIT * (1 + float(np.max(np.abs(edges))))
    return _Law(first, mass, -shift - slack, 0.0, _count(term))


def _compose(terms: Sequence[Term], plan: _Plan, *, upper: bool) -> _Sum:
    make = _upper_law if upper else _lower_law
    laws = [make(term, plan.spacing, ends) for term, ends in zip(terms, plan.ends, strict=True)]
    c, size, spacing = plan.c, plan.size, plan.spacing
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
    log_moment, offset, shift, log_finite = 0.0, 0, 0.0, 0.0
    # Of the tilted masses, in logarithms: each is known as well as the exponents from which it comes.
    rounding = 4 * UNIT * c * size * spacing
    heights, sensitivity = np.zeros(size // 2 + 1), np.zeros(size // 2 + 1)
    others = {c * f: 0.0 for f in (1.3, 1.8, 3.0, 6.0)} | {c * f: 0.0 for f in (0.4, 0.7)}
    if not all(law.mass.any() for law in laws):
        # Nothing is left of a law that is dominated: nothing is known from below.
        return _Sum(np.zeros(1), np.zeros(1), 0.0, c, 0.0, 0.0, 0.0)
    for law in laws:
        loss = np.arange(len(law.mass)) * spacing
        with np.errstate(divide="ignore"):
            log_mass = np.log(law.mass)
        exponent = log_mass + c * loss
        peak = float(exponent.max())
        weight = np.exp(exponent - peak)
        whole = float(weight.sum())
        folded = np.bincount(np.arange(len(weight)) % size, weights=weight / whole, minlength=size)
        value = np.fft.rfft(folded)
        with np.errstate(divide="ignore"):
            heights += law.count * np.log(np.abs(value) + 64 * UNIT)
            sensitivity += law.count * 64 * UNIT / (np.abs(value) + 64 * UNIT)
            spectrum += law.count * np.log(np.where(value == 0, 1e-300, value))
        log_moment += law.count * (peak + math.log(whole))
        sizes = np.abs(log_mass[law.mass > 0]) + c * loss[law.mass > 0]
        rounding += law.count * 4 * UNIT * (float(sizes.max()) + abs(peak) + len(loss))
        for a in others:
            e = log_mass + a * loss
            top = float(e.max())
            others[a] += law.count * (top + math.log(float(np.exp(e - top).sum())))
        offset += law.count * law.first
        shift += law.count * law.shift
        if law.infinite > 0:
            log_finite += law.count * math.log1p(-min(law.infinite, 1 - 1e-16))
    # The window [start, start + period) in whole steps, seen from the offset of the sum.
    base = offset * spacing + shift
    begin = math.floor((plan.start - base) / spacing)
    density = np.fft.irfft(np.exp(spectrum), n=size)
    density = np.roll(density, -(begin % size))
    window: FloatArray = base + (begin + np.arange(size, dtype=np.float64)) * np.float64(spacing)
    # Rounding of FFTs and powers: |x^n - y^n| <= n max^(n - 1) |x - y|, averaged over frequencies.
    gain = float(np.mean(np.exp(np.minimum(heights, 0.0)) * (sensitivity + 1e-13)))
    error = 2 * gain + 64 * UNIT * float(np.max(np.abs(density)))
    end = float(window[-1]) + spacing
    moment_at = {
        a: value + a * base + 1e-13 * (abs(value) + abs(a * base) + abs(a * end)) + rounding * max(1.0, a / c)
        for a, value in others.items()
    }
    moment = log_moment + c * base
    slip = 1e-12 * (1 + abs(log_moment) + abs(c * base)) + rounding
    if upper:
        above = min(moment - c * end, *(moment_at[a] - a * end for a in moment_at))
        return _Sum(
            window,
            np.maximum(density, 0.0),
            moment + slip,
            c,
            error,
            above + 1e-9,
            -math.expm1(log_finite) * (1 + 1e-12),
        )
    # What the window has wrapped in: sums beyond either end, tilted.
    wrapped = 0.0
    for sign, edge in ((1, end), (-1, float(window[0]))):
        choices = [moment_at[a] - moment + (c - a) * edge for a in moment_at if (a - c) * sign > 0]
        if sign < 0:
            choices.append(c * edge - moment)
        wrapped += math.exp(min(0.0, *choices)) * 4
    return _Sum(window, density, moment - slip, c, error + wrapped, -math.inf, 0.0)
