"""Paths above the real line of outcomes, and what the integrand of a sampled moment gains along them.

The integrand f of m(a) = E[chi D^a], a = alpha + i t, is analytic but for the zeros of D, at the real part where A = B
and at heights pi s, 3 pi s ... (letters as in `_sampled_law`). A path u + i h(u), h > 0 piecewise linear, passes below
the first of them, and low beside the edges of the window. With angle = h / s,

    |D(u + i h)|^2 = D^2 (1 - 4 sigmoid (1 - sigmoid) sin^2(angle / 2)),
    arg D(u + i h) = arg(A + B exp(i angle)), continued from 0 at h = 0.

An integral along a path is bounded by a sum over cells: within a cell of width d a function whose second derivative is
at least -k lies at most k d^2 / 8 above its larger end. d^2 log D / du^2 = A B exp(i angle) / (s D(u + i h))^2.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache

import numpy as np

from privacy.numerical._sampled_law import LOG_ROOT, Grid, SampledLaw, grid_of, loss_at
from privacy.numerical._terms import FloatArray
from privacy.numerical._window import Window

# Sizes of grids.
FEWEST_NODES, MOST_NODES = 8, 12_000
# Finer grids have steps at equal ratios, so many to a halving: few different ones, so that each is made once.
_STEPS = 4
# What an edge still keeps at its end, 16 widths out.
_LOG_END = math.log(0.5 * math.erfc(16 / math.sqrt(2)))
# Cells along the paths.
_CELLS = 200
# The angle at which paths pass the zero of D, and how many s to either side they keep it before they rise.
_PASS_ANGLE = 0.85 * math.pi
_PASS_WIDTH = 6.0

# Heights at which the way up to a path is cut, as shares.
_RUNGS = np.concatenate(([0.0], np.geomspace(1e-3, 1.0, 24)))[None, :]


class Stage:
    """What moments of one law in one window share, whatever the exponent: a first grid, cells and paths over them.

    low, high, step   of the first grid
    heights           of the paths, shape (paths,)
    """

    def __init__(
        self, law: SampledLaw, window: Window, low: float, high: float, step: float, heights: tuple[float, ...]
    ) -> None:
        self.grid = grid = grid_of(law, window, low, high, step)
        self.law, self.window = law, window
        self.low, self.high = low, high
        s, q = law.noise_multiplier, law.sampling_rate
        # The cells of the bounds: as many as are worth it, narrow where D has its zero.
        zero = s * (math.log1p(-q) - math.log(q)) + 0.5 / s
        stride = max(1, len(grid.u) // _CELLS)
        near = np.flatnonzero(np.abs(grid.u - zero) < 2 * _PASS_WIDTH * s)
        near = near[:: max(1, len(near) // _CELLS)]
        chosen = np.unique(np.concatenate((np.arange(0, len(grid.u), stride), near, [len(grid.u) - 1])))
        self.place, self.share = grid.u[chosen], grid.sigmoid[chosen]
        self.cell = np.diff(self.place)
        self.log_cell = np.log(self.cell)
        self.log_ratio = grid.log_ratio[chosen]
        self.envelope = grid.envelope[chosen]
        self.normal = -0.5 * self.place**2 - LOG_ROOT
        # A straight piece of a path stays below the zero if both its ends do for the nearer of them.
        wide = np.maximum(np.append(self.cell, 0.0), np.append(0.0, self.cell))
        away = np.maximum(np.abs(self.place - zero) - wide, 0.0)
        allowed = _PASS_ANGLE * s + np.maximum(away - _PASS_WIDTH * s, 0.0)
        self._heights = np.array(heights)[:, None]
        self._allowed = np.minimum(allowed, window.allowed_height(self.place))
        self.base_wrong: float | None = None
        self.share_slope = np.minimum(self.share[1:], 0.25) / (s * s)

    @cached_property
    def paths(self) -> Paths:
        """Below the zeros of D."""
        return Paths(self, np.minimum(self._heights, self._allowed), damped=False)

    @cached_property
    def damped_paths(self) -> Paths:
        """Where arg D >= 0: for B < A up to an angle of pi only."""
        low = np.minimum(self._allowed, _PASS_ANGLE * self.law.noise_multiplier)
        limit = np.where(self.share < 0.5, low, self._allowed)
        return Paths(self, np.minimum(self._heights, limit), damped=True)

    @cached_property
    def free_paths(self) -> Paths:
        """For powers of D that its zeros do not disturb."""
        return Paths(self, np.minimum(self._heights, self.window.allowed_height(self.place)), damped=False)

    def finer(self, step: float) -> Grid:
        """Return the law and the window on nodes with at most this step."""
        coarse = self.grid.step
        if step >= coarse:
            return self.grid
        chosen = coarse * 2.0 ** (-math.ceil(_STEPS * math.log2(coarse / step)) / _STEPS)
        return grid_of(self.law, self.window, self.low, self.high, _short(chosen))


class Paths:
    """Paths over the cells of a stage: what |f| gains along them, shape (paths, cells or nodes)."""

    def __init__(self, stage: Stage, height: FloatArray, *, damped: bool) -> None:
        law, window = stage.law, stage.window
        s, share = law.noise_multiplier, stage.share[None, :]
        angle = height / s
        self.modulus, self.argument = _polar(share, angle)
        if damped:
            self.argument = np.maximum(self.argument, 0.0)
        slope = np.diff(height, axis=1) / stage.cell
        # A B / |D|^2, at its largest over the cell: the angle matters near the zero only, where the path is level.
        least = np.where(
            angle <= _PASS_ANGLE + 1e-9,
            np.cos(0.5 * np.minimum(angle, _PASS_ANGLE)) ** 2,
            (1 - 2 * np.minimum(share, 1 - share)) ** 2,
        )
        product = np.minimum(np.minimum(share[:, 1:], 1 - share[:, :-1]), 0.25)
        eighth = stage.cell**2 / 8
        self.curved = product / np.minimum(least[:, 1:], least[:, :-1]) * ((1 + slope * slope) * eighth / (s * s))
        self.gain = 0.5 * height * height
        self.longer = (1 + slope * slope) * eighth + 0.5 * np.log1p(slope * slope) + stage.log_cell
        self.longer = self.longer + window.log_over_cells(stage.place, height)
        self.lowest = np.minimum(height[:, 1:], height[:, :-1])
        # Vertical ways from the real line up to the path: at the ends of edges, and of the grid.
        self.ways = []
        floor = window.floor
        for end, index, width in [
            *((edge.end, int(np.argmin(np.abs(stage.place - edge.end))), edge.width) for edge in window.edges),
            (float(stage.place[1]), 1, math.inf if floor is None else floor.width),
            (float(stage.place[-1]), len(stage.place) - 1, math.inf),
        ]:
            _, at = loss_at(law, end)
            y = height[:, index : index + 1] * _RUNGS
            modulus, argument = _polar(np.array([[at]]), y / s)
            # The least modulus and the largest argument up to each rung.
            modulus = np.minimum.accumulate(modulus, axis=1)[:, 1:]
            argument = np.maximum.accumulate(np.abs(argument), axis=1)[:, 1:]
            step = np.maximum(np.diff(y, axis=1), 1e-300)
            gain = 0.5 * (1 + 1 / width**2) * y[:, 1:] ** 2 + np.log(4 * step)
            self.ways.append((gain, modulus, argument, y[:, :-1]))


def _polar(share: FloatArray, angle: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return log |D / D(real part)| and arg D, continued from 0, at these shares and angles."""
    lift, wave = np.sin(0.5 * angle) ** 2, np.sin(angle)
    modulus = 0.5 * np.log1p(-np.minimum(4 * share * (1 - share) * lift, 1 - 1e-15))
    argument = np.where(
        share < 0.5,
        np.arctan2(share * wave, 1 - 2 * share * lift),
        angle - np.arctan2((1 - share) * wave, 1 - 2 * (1 - share) * lift),
    )
    return np.asarray(modulus), np.asarray(argument)


def first_step(window: Window) -> float:
    """Return the step of the first grid."""
    # Beside an edge paths are low; the zero of D is far from what matters, or the step is refined later.
    return _short(min(0.3, 0.6 * min((edge.width for edge in window.edges), default=1.0)))


def _short(step: float) -> float:
    # A step of few bits makes every node exact. What is too small for that is too small for any grid.
    return math.ldexp(math.floor(math.ldexp(step, 20)), -20) or step


def ends_of(law: SampledLaw, window: Window, alpha: float, goal: float) -> tuple[float, float]:
    """Return where the first grid for D^alpha may end: what lies outside is bounded whatever the ends are."""
    s, reach = law.noise_multiplier, math.sqrt(4.4 * goal)
    ceiling, floor = window.ceiling, window.floor
    low = -reach
    if alpha < 0:
        low += max(alpha * law.sampling_rate / s, -4 * reach)
    if floor is not None:
        low = max(low, floor.middle - max(13 * floor.width, 1.5 * floor.middle * floor.width**2))
    high = max(alpha, 1.0) / s + reach if alpha > 0 else reach
    # Few different grids, so that each is made once.
    low, high = 4 * math.floor(low / 4) if floor is None else low, 4 * math.ceil(high / 4)
    return low, ceiling.end if ceiling is not None else high


def log_beyond_grid(stage: Stage, alpha: FloatArray, log_total: FloatArray) -> FloatArray:
    """Return the log of a bound on what lies beyond the first grid: as an integral and as a sum, relative to the total.

    alpha, log_total   exponents, and the logs of their moments, shape (k,)
    """
    law, floor = stage.law, stage.window.floor
    low, high = float(stage.place[0]), float(stage.place[-1])
    wide = 2 * float(stage.grid.step)
    # Left: D^alpha (alpha >= 0) only falls towards the left.
    head = stage.envelope[0] + alpha * stage.log_ratio[0] - log_total
    if floor is None:
        # A normal tail is at most its density over the distance; D^alpha (alpha < 0) takes from the slope what it
        # takes at the end, and less beyond.
        slope = -low + np.minimum(alpha, 0.0) * stage.share[0] / law.noise_multiplier
    else:
        # The complement of the floor falls like a normal density of its width; the sum of two of them is less than
        # twice the larger.
        slope = np.full(len(alpha), (floor.middle - low) / floor.width**2 - low)
        head = head + math.log(2.0)

    def tail(start: FloatArray, slope: FloatArray) -> FloatArray:
        return np.where(slope > 0, start + np.log(1 / np.where(slope > 0, slope, 1.0) + wide), np.inf)

    left = tail(head, slope)
    if stage.window.ceiling is not None:
        return left
    # Right: the exponent falls at least with this slope, and ever faster.
    last = stage.envelope[-1] + alpha * stage.log_ratio[-1] - log_total
    right = tail(last, high - np.maximum(alpha, 0.0) / law.noise_multiplier)
    return np.asarray(np.logaddexp(left, right))


def log_f_at_ends(stage: Stage, alpha: FloatArray, log_total: FloatArray) -> list[FloatArray]:
    """Return log |f| at the ends of edges, and of the grid, relative to the total; arguments as in `log_beyond_grid`.

    The last nodes of finer grids lie within a cell of the grid's ends, and |f| rises towards the inside. An edge's end
    stands for the right end.
    """
    found = []
    for edge in stage.window.edges:
        log_ratio, _ = loss_at(stage.law, edge.end)
        found.append(_LOG_END - LOG_ROOT - 0.5 * edge.end**2 + alpha * log_ratio - log_total)
    first = stage.envelope[:2, None] + stage.log_ratio[:2, None] * alpha - log_total
    found.append(first.max(axis=0))
    if stage.window.ceiling is None:
        last = stage.normal[-2:, None] + stage.log_ratio[-2:, None] * alpha - log_total
        found.append(last.max(axis=0))
    else:
        found.append(np.full(len(alpha), -np.inf))
    return found


@lru_cache(maxsize=64)
def stage_of(
    law: SampledLaw, window: Window, low: float, high: float, step: float, heights: tuple[float, ...]
) -> Stage:
    """Return the stage, the same one for the same arguments."""
    return Stage(law, window, low, high, step, heights)


def log_sum_rows(logs: FloatArray) -> FloatArray:
    """Return the log of the sum of the exponentials in each row."""
    top = logs.max(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = top + np.log(np.exp(logs - top[:, None]).sum(axis=1))
    return np.where(np.isfinite(found), found, np.where(top == -math.inf, -math.inf, math.inf))
