"""Moments of one sampled Gaussian at many real exponents at once: what a search for a tilt asks for.

The rule and its error bound are those of `_moment` at frequency 0, on one grid for all exponents and over one path.
A composition of n releases bears an error of exp(-goal) / n in each: enough to bound aliasing, and to steer.
"""

from __future__ import annotations

import math

import numpy as np

from privacy.numerical._paths import (
    FEWEST_NODES,
    MOST_NODES,
    Stage,
    ends_of,
    first_step,
    log_beyond_grid,
    log_f_at_ends,
    log_sum_rows,
    stage_of,
)
from privacy.numerical._sampled_law import Grid, SampledLaw
from privacy.numerical._terms import UNIT, FloatArray, Outline
from privacy.numerical._window import Window

# Logarithm of what aliasing and truncation may be, relative to the moment and for all releases.
_GOAL = 6.0
# Ends are those of the exact rule for few releases, so that the two share their grids.
_REACH = 38.0
# Heights of the paths, as in `_moment`, and which of them is asked: nearly always it is good enough.
_SHARES = np.geomspace(0.05, 1.0, 7)
_TRIED = 3
_ROUNDS = 4
# Numbers in an array at a time.
_MOST_AT_ONCE = 400_000


def moments(law: SampledLaw, window: Window, c: FloatArray, count: float) -> Outline:
    """Return log E[chi exp(c L)] of one release at these tilts with their errors, and mean and variance of the loss.

    Infinite where no rule of affordable size is good enough. A window with edges needs exponents that are not negative.
    """
    out = np.full((4, len(c)), math.inf)
    alpha = np.array([law.power(float(each)) for each in c])
    reach, step = _REACH + math.log(count), first_step(window)
    ends = np.array([ends_of(law, window, float(each), reach) for each in alpha]).reshape(-1, 2)
    size = (ends[:, 1] - ends[:, 0]) / step
    order = np.flatnonzero((size >= FEWEST_NODES) & (size <= MOST_NODES))
    # Exponents on one grid, as long as it stays affordable and no exponent makes the others dear.
    while len(order):
        low, high = np.minimum.accumulate(ends[order, 0]), np.maximum.accumulate(ends[order, 1])
        fits = (high - low) / step <= np.minimum(MOST_NODES, 4 * size[order[0]] + 400)
        taken = len(order) if fits.all() else int(np.argmin(fits))
        chosen, order = order[:taken], order[taken:]
        heights = tuple((_SHARES * (1.3 * math.sqrt(2 * reach))).tolist())
        stage = stage_of(law, window, float(low[taken - 1]), float(high[taken - 1]), step, heights)
        out[:, chosen] = _on_stage(stage, alpha[chosen], _GOAL + math.log(count))
    out[2] *= law.sign
    return Outline(*out)


def _on_stage(stage: Stage, alpha: FloatArray, goal: float) -> FloatArray:
    """Return log of the moment, its error, and mean and variance of log D, for each exponent: shape (4, exponents)."""
    sums = _sums(stage.grid, alpha)
    log_total = sums[0]
    known = np.isfinite(log_total)
    if not known.all():
        found = np.full((4, len(alpha)), math.inf)
        if known.any():
            found[:, known] = _on_stage(stage, alpha[known], goal)
        return found
    step, log_wrong = _step(stage, alpha, log_total, goal)
    grid = stage.finer(step)
    total, mean, variance, rounding = sums if grid is stage.grid else _sums(grid, alpha)
    log_wrong = np.logaddexp(log_wrong, log_beyond_grid(stage, alpha, log_total) + math.log(4.0))
    error = UNIT * rounding + 2 * np.exp(np.minimum(log_wrong, 300.0))
    good = error < 1
    return np.where(good, np.stack((total, error, mean, variance)), math.inf)


def _sums(grid: Grid, alpha: FloatArray) -> FloatArray:
    """Return log of the sum, mean and variance of log D, and the relative rounding in units: shape (4, exponents)."""
    found = np.empty((4, len(alpha)))
    rows = max(1, _MOST_AT_ONCE // len(grid.u))
    loss = grid.log_ratio
    slack = grid.ratio_error + 1.5 * np.abs(loss)
    for begin in range(0, len(alpha), rows):
        a = alpha[begin : begin + rows]
        weight = grid.base + a[:, None] * loss
        top = weight.max(axis=1)
        with np.errstate(invalid="ignore"):
            weight -= top[:, None]
        # A shift by the top, in doubles, and the sum itself.
        lost = 0.5 * np.abs(np.where(np.isfinite(weight), weight, 0.0))
        np.exp(weight, out=weight)
        size = weight.sum(axis=1)
        weight /= size[:, None]
        mean = weight @ loss
        rounding = weight @ grid.weight_error + np.abs(a) * (weight @ slack) * 2 + (weight * lost).sum(axis=1)
        weight *= (loss - mean[:, None]) ** 2
        variance = weight.sum(axis=1)
        log_total = top + np.log(size) + math.log(grid.step)
        rounding += 100 + 4 * np.abs(top) + 4 * np.abs(log_total)
        found[:, begin : begin + rows] = log_total, mean, variance, rounding
    return found


def _step(stage: Stage, alpha: FloatArray, log_total: FloatArray, goal: float) -> tuple[float, FloatArray]:
    """Return a step with which aliasing is below the goal, and the logs of bounds on it; as near as is affordable."""
    paths = stage.paths
    # |D(u + i h)| <= D(u) for alpha >= 0.
    below = np.minimum(alpha, 0.0)[:, None]
    height = stage.normal + paths.gain[_TRIED] + alpha[:, None] * stage.log_ratio - log_total[:, None]
    if below.any():
        height += below * paths.modulus[_TRIED]
    cells = np.maximum(height[:, 1:], height[:, :-1])
    cells += np.abs(alpha)[:, None] * paths.curved[_TRIED] + paths.longer[_TRIED]
    ways = [
        (gain[_TRIED] + below * modulus[_TRIED] + log_f[:, None], y[_TRIED])
        for (gain, modulus, _, y), log_f in zip(paths.ways, log_f_at_ends(stage, alpha, log_total), strict=True)
        if (log_f > -math.inf).any()
    ]
    lowest = paths.lowest[_TRIED]
    step, found = float(stage.grid.step), np.full(len(alpha), math.inf)
    for _ in range(_ROUNDS):
        fold = 2 * math.pi / step
        folded = cells - (fold * lowest + np.log(-np.expm1(-fold * lowest)))
        top = folded.max(axis=1)
        with np.errstate(invalid="ignore"):
            weight = np.exp(folded - top[:, None])
        size = weight.sum(axis=1)
        along = top + np.log(size) + math.log(2.0)
        found = along
        for grown, y in ways:
            found = np.logaddexp(found, log_sum_rows(grown - fold * y))
        found = np.where(np.isnan(found), math.inf, found)
        worst = int(np.argmax(found))
        if found[worst] <= -goal:
            break
        # Newton's step in 1 / eta for the worst exponent.
        reach = float(weight[worst] @ lowest) / float(size[worst])
        needed = 1 / step + max(float(along[worst]) + goal + 1, 1.0) / (2 * math.pi * reach)
        finer = 1 / max(needed, 1.3 / step)
        if not (stage.high - stage.low) / finer <= MOST_NODES:
            break
        step = finer
    return step, found
