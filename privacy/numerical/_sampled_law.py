"""One Poisson-sampled Gaussian release, seen through a window: its moments at complex exponents, with error bounds.

q, s     sampling rate and noise multiplier; x a value of the noise, u = x / s
A, B     1 - q and q exp(u / s - 1 / 2 s^2); D = A + B, the ratio of (1 - q) N(0, 1) + q N(1/s, 1) to N(0, 1)
sigmoid  B / D
remove   P the mixture, Q = N(0, 1), L = log D:   E_P[exp(z L)] = E_Q[D^(1 + z)]
add      P = N(0, 1), Q the mixture, L = -log D:  E_P[exp(z L)] = E_P[D^(-z)]

All moments are m(a) = E[chi D^a], chi a window (`_window`), a = alpha + i t, with an integrand f that is analytic but
for the zeros of D, at the real part where A = B and at heights pi s, 3 pi s ... A path u + i h(u), h > 0 piecewise
linear, passes below the first of them. The trapezoidal rule with step eta, half a step away from the ends of the
window's edges, is wrong by at most

    2 int |f(path)| / (exp(2 pi h / eta) - 1) |d path|
    + 2 sum over edges of int_0^h(end) |f(end + i y)| / (exp(2 pi y / eta) + 1) dy

(residues of 1 / (exp(2 pi i u / eta) - 1), shifted by half a step). With angle = h / s,

    |D(u + i h)|^2 = D^2 (1 - 4 sigmoid (1 - sigmoid) sin^2(angle / 2)),
    arg D(u + i h) = arg(A + B exp(i angle)), continued from 0 at h = 0.

The integral along the path is bounded by a sum over cells: within a cell of width d a function whose second derivative
is at least -k lies at most k d^2 / 8 above its larger end. d^2 log D / du^2 = A B exp(i angle) / (s D(u + i h))^2.

Moving the integral itself to the path, on the side where |D^(i t)| = exp(-t arg D), bounds |m(alpha + i t)|, and since
arg D >= 0 there (angle <= pi where B < A) the bound holds for every larger t as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from privacy.numerical._terms import UNIT, ComplexArray, FloatArray
from privacy.numerical._window import Edge, Window

# Heights of the paths that are tried, as shares of the farthest, and cells along them.
_SHARES = np.geomspace(0.05, 1.0, 7)
_CELLS = 200
# The angle at which paths pass the zero of D, and how many s to either side they keep it before they rise.
_PASS_ANGLE = 0.85 * math.pi
_PASS_WIDTH = 6.0

# Heights at which the way up to a path is cut, as shares.
_RUNGS = np.concatenate(([0.0], np.geomspace(1e-3, 1.0, 24)))[None, :]

# Logarithm of what aliasing and truncation may be, relative to the moment and per release.
_GOAL = 38.0
_MOST_NODES = 12_000
_BLOCK = 32
_LOG_ROOT = 0.5 * math.log(2 * math.pi)
# What an edge still keeps at its end, 16 widths out.
_LOG_END = math.log(0.5 * math.erfc(16 / math.sqrt(2)))


def log_normal_tail(x: float) -> float:
    """Return log P(N(0, 1) > x), for large x an upper bound that is close."""
    if x < 25:
        return math.log(0.5 * math.erfc(x * math.sqrt(0.5)))
    return -0.5 * x * x - math.log(x) - _LOG_ROOT


@dataclass(frozen=True, slots=True)
class SampledLaw:
    """One Poisson-sampled Gaussian release in one direction."""

    noise_multiplier: float
    sampling_rate: float
    direction: Literal["remove", "add"]

    @property
    def sign(self) -> float:
        """The sign of L / log D."""
        return 1.0 if self.direction == "remove" else -1.0

    def power(self, c: float) -> float:
        """Return the exponent of D that tilts the loss by c."""
        return 1 + c if self.direction == "remove" else -c

    def logs(self, u: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log D, the sigmoid (s times the derivative of log D), and the error of log D in units."""
        s, q = self.noise_multiplier, self.sampling_rate
        shift = 0.5 / s / s
        w = u / s - shift
        large = w > 30
        excess = q * np.expm1(np.where(large, 0.0, w))
        with np.errstate(over="ignore"):
            far = (1 - q) / q * np.exp(-np.maximum(w, 30.0))
        log_ratio = np.where(large, w + math.log(q) + np.log1p(far), np.log1p(excess))
        sigmoid = np.where(large, 1 / (1 + far), (excess + q) / (1 + excess))
        error = (
            3 * (np.abs(u / s) + shift) * sigmoid
            + np.where(large, 2 + abs(math.log(q)), 4 * np.abs(excess) / (1 + excess))
            + 2 * np.abs(log_ratio)
        )
        return log_ratio, sigmoid, error

    def log_dropped(self, edge: Edge | None) -> float:
        """Return the log of the probability, under P, that one outcome is not kept below the edge."""
        if edge is None:
            return -math.inf
        # 1 - E is a normal distribution function: averaged over a normal law it is one again. Beyond the end of the
        # edge less than 1e-32 of the lost is kept.
        scale = 1 / math.hypot(1, edge.width)
        near = log_normal_tail(edge.middle * scale)
        if self.direction == "add":
            return near
        q = self.sampling_rate
        far = math.log(q) + log_normal_tail((edge.middle - 1 / self.noise_multiplier) * scale)
        near += math.log1p(-q)
        top = max(near, far)
        return top + math.log(math.exp(near - top) + math.exp(far - top))

    def log_dropped_at(self, u: float) -> float:
        """Return about the log of the probability, under P, that one outcome lies beyond u."""
        return self.log_dropped(Edge(u, 1e-3))

    def outcomes(self, losses: FloatArray) -> FloatArray:
        """Return the outcomes at which log D takes these positive values."""
        s, q = self.noise_multiplier, self.sampling_rate
        with np.errstate(over="ignore"):
            w = np.where(
                losses > 500,
                losses - math.log(q),
                np.log1p(np.maximum(np.expm1(np.minimum(losses, 500.0)) / q, 1e-12 - 1)),
            )
        return np.asarray(s * w + 0.5 / s)

    def edge_for(self, log_probability: float) -> Edge:
        """Return an edge beyond which an outcome falls with about this probability.

        Its width is such that the loss grows little within it: beyond, what the edge keeps falls faster than any tilt
        that is used makes it grow.
        """
        low, high = -4.0, 10 + 1 / self.noise_multiplier + math.sqrt(max(-3 * log_probability, 0.0))
        while high - low > 1e-3:
            middle = 0.5 * (low + high)
            dropped = self.log_dropped(self.edge_at(middle))
            low, high = (middle, high) if dropped > log_probability else (low, middle)
        return self.edge_at(high)

    def edge_at(self, u: float) -> Edge:
        """Return an edge at u."""
        log_ratio, sigmoid, _ = self.logs(np.array([u]))
        growth = float(sigmoid[0]) / (self.noise_multiplier * max(abs(float(log_ratio[0])), 1e-300))
        return Edge(u, min(0.5, 3 / max(u, 1.0), max(0.02, 0.09 / growth)))


@dataclass(frozen=True, slots=True)
class Rule:
    """Nodes of the trapezoidal rule, one entry per node.

    loss           sign * log D; `loss_error` its absolute error in units
    log_weight     log of the weight of chi D^alpha dN(0, 1); `weight_error` its error in units
    sigmoid        at the node
    log_total      log of the sum of the weights
    log_wrong      log of the truncation and aliasing, relative to the total
    """

    u: FloatArray
    loss: FloatArray
    log_weight: FloatArray
    sigmoid: FloatArray
    loss_error: FloatArray
    weight_error: FloatArray
    log_total: float
    log_wrong: float


@dataclass(frozen=True, slots=True)
class _Grid:
    """A law and a window on equally spaced outcomes; `base` is the log of chi dN(0, 1), `envelope` bounds it on lines."""

    u: FloatArray
    step: float
    log_ratio: FloatArray
    sigmoid: FloatArray
    ratio_error: FloatArray
    base: FloatArray
    envelope: FloatArray
    weight_error: FloatArray


@lru_cache(maxsize=64)
def _grid(law: SampledLaw, window: Window, low: float, high: float, step: float) -> _Grid:
    """Return nodes half a step off the ends of the edges; without edges, multiples of the step."""
    if window.ceiling is None:
        u = np.arange(math.floor(low / step), math.ceil(high / step) + 1, dtype=np.float64) * np.float64(step)
    else:
        end = window.ceiling.end
        if window.floor is not None:
            apart = end - window.floor.end
            step = apart / math.ceil(apart / step)
        u = end - (np.arange(math.ceil((end - low) / step), dtype=np.float64)[::-1] + 0.5) * np.float64(step)
        u = u[u <= high]
    log_ratio, sigmoid, error = law.logs(u)
    normal = -0.5 * u * u - _LOG_ROOT
    found = _Grid(
        u,
        step,
        log_ratio,
        sigmoid,
        error,
        normal + window.log(u),
        normal + window.log_envelope(u),
        # Two roundings of u^2 / 2 and two of every partial sum of the logarithm.
        u * u + 6 + window.error(u),
    )
    for array in (u, log_ratio, sigmoid, error, found.base, found.envelope, found.weight_error):
        array.flags.writeable = False
    return found


class _Stage:
    """What moments of one law in one window share, whatever the exponent: a first grid, cells and paths over them.

    low, high, step   of the first grid
    heights           of the paths, shape (paths,)
    """

    def __init__(
        self, law: SampledLaw, window: Window, low: float, high: float, step: float, heights: tuple[float, ...]
    ) -> None:
        self.grid = grid = _grid(law, window, low, high, step)
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
        self.normal = -0.5 * self.place**2 - _LOG_ROOT
        # A straight piece of a path stays below the zero if both its ends do for the nearer of them.
        wide = np.maximum(np.append(self.cell, 0.0), np.append(0.0, self.cell))
        away = np.maximum(np.abs(self.place - zero) - wide, 0.0)
        allowed = _PASS_ANGLE * s + np.maximum(away - _PASS_WIDTH * s, 0.0)
        allowed = np.minimum(allowed, window.allowed_height(self.place))
        self.paths = tuple(
            _Paths(law, window, self, np.minimum(np.array(heights)[:, None], limit[None, :]), damped=damped)
            for damped, limit in (
                (False, allowed),
                # Where B < A the argument is positive up to an angle of pi only.
                (True, np.where(self.share < 0.5, np.minimum(allowed, _PASS_ANGLE * s), allowed)),
                (False, window.allowed_height(self.place)),
            )
        )
        self.base_wrong: float | None = None
        self.share_slope = np.minimum(self.share[1:], 0.25) / (s * s)


class _Paths:
    """Paths over the cells of a stage: what |f| gains along them, shape (paths, cells or nodes)."""

    def __init__(self, law: SampledLaw, window: Window, stage: _Stage, height: FloatArray, *, damped: bool) -> None:
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
            _, at = _at(law, end)
            y = height[:, index : index + 1] * _RUNGS
            modulus, argument = _polar(np.array([[at]]), y / s)
            # The least modulus and the largest argument up to each rung.
            modulus = np.minimum.accumulate(modulus, axis=1)[:, 1:]
            argument = np.maximum.accumulate(argument, axis=1)[:, 1:]
            step = np.maximum(np.diff(y, axis=1), 1e-300)
            gain = 0.5 * (1 + 1 / width**2) * y[:, 1:] ** 2 + np.log(2 * step)
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


@lru_cache(maxsize=64)
def _stage(law: SampledLaw, window: Window, low: float, high: float, step: float, heights: tuple[float, ...]) -> _Stage:
    return _Stage(law, window, low, high, step, heights)


class Moment:
    """m(alpha + i t) of one release in a window, around one real exponent alpha, for a composition of `count`.

    A window with edges needs alpha >= 0. `rule` is None where no rule of affordable size is good enough.
    """

    def __init__(self, law: SampledLaw, window: Window, c: float, count: float) -> None:
        self.law, self.window, self.c = law, window, c
        self.alpha = law.power(c)
        self.goal = _GOAL + math.log(count)
        farthest = 1.3 * math.sqrt(2 * self.goal)
        self._rules: dict[float, Rule | None] = {}
        self._damped: tuple[FloatArray, FloatArray] | None = None
        low, high = self._ends()
        r = _SHARES * farthest
        # Beside an edge paths are low; the zero of D is far from what matters, or the step is refined later.
        lowest = min((edge.width for edge in window.edges), default=1.0)
        step = min(0.3, 0.6 * lowest)
        self.rule: Rule | None = None
        if not (high - low) / step <= _MOST_NODES:
            return
        self._stage = stage = _stage(law, window, low, high, _short(step), tuple(r.tolist()))
        grid = stage.grid
        weight = grid.base + self.alpha * grid.log_ratio + math.log(grid.step)
        top = float(weight.max())
        if not math.isfinite(top):
            return
        # Nodes that weigh nothing are counted with what lies outside.
        inside = np.flatnonzero(weight > top - self.goal - 12)
        begin, end = max(int(inside[0]) - 1, 0), min(int(inside[-1]) + 2, len(weight))
        self._range = float(grid.u[begin]), float(grid.u[end - 1])
        self._log_total = top + math.log(float(np.exp(weight[begin:end] - top).sum()))
        tilt = self.alpha * stage.log_ratio - self._log_total
        self._real, self._height = stage.envelope + tilt, stage.normal + tilt
        narrow = max((1 / edge.width**2 for edge in window.edges), default=0.0)
        cells = np.maximum(self._real[1:], self._real[:-1])
        cells = cells + (1 + narrow + abs(self.alpha) * stage.share_slope) * (stage.cell**2 / 8) + stage.log_cell
        outer = cells[(stage.place[:-1] < self._range[0]) | (stage.place[1:] > self._range[1])]
        rest = _log_sum_rows(outer[None, :])[0] if len(outer) else -math.inf
        self._log_outside = float(np.logaddexp(rest, self._beyond())) + math.log(2.0)
        self.rule = self.rule_for(0.0)

    def _ends(self) -> tuple[float, float]:
        # What lies outside is bounded in `_beyond`, whatever the ends are.
        s, reach = self.law.noise_multiplier, math.sqrt(4.4 * self.goal)
        ceiling, floor = self.window.ceiling, self.window.floor
        low = -reach
        if self.alpha < 0:
            low += max(self.alpha * self.law.sampling_rate / s, -4 * reach)
        if floor is not None:
            low = max(low, floor.middle - max(13 * floor.width, 1.5 * floor.middle * floor.width**2))
        high = max(self.alpha, 1.0) / s + reach if self.alpha > 0 else reach
        # Few different grids, so that each is made once.
        low, high = 4 * math.floor(low / 4) if floor is None else low, 4 * math.ceil(high / 4)
        return low, ceiling.end if ceiling is not None else high

    def _beyond(self) -> float:
        """Return the log of a bound on what lies beyond the first grid, as an integral and as a sum: each at most this."""
        stage, alpha = self._stage, self.alpha
        low, high = float(stage.place[0]), float(stage.place[-1])
        floor = self.window.floor
        # Left: D^alpha (alpha >= 0) only falls towards the left.
        head = float(self._real[0])
        if floor is None:
            # A normal tail is at most its density over the distance; D^alpha (alpha < 0) takes from the slope what it
            # takes at the end, and less beyond.
            slope = -low + min(alpha, 0.0) * float(stage.share[0]) / self.law.noise_multiplier
        else:
            # The complement of the floor falls like a normal density of its width; the sum of two of them is less
            # than twice the larger.
            slope = (floor.middle - low) / floor.width**2 - low
            head += math.log(2.0)
        wide = 2 * float(stage.grid.step)
        left = head + math.log(1 / slope + wide) if slope > 0 else math.inf
        if self.window.ceiling is not None:
            return left
        # Right: the exponent falls at least with this slope, and ever faster.
        slope = high - max(alpha, 0.0) / self.law.noise_multiplier
        if slope <= 0:
            return math.inf
        right = float(self._real[-1]) + math.log(1 / slope + wide)
        return float(np.logaddexp(left, right))

    def _log_f_at_ends(self) -> list[float]:
        # At the ends of edges, and of the grid: the last nodes of finer grids lie within a cell of those, and |f| rises
        # towards the inside. An edge's end stands for the right end.
        found = []
        for edge in self.window.edges:
            log_ratio, _ = _at(self.law, edge.end)
            found.append(_LOG_END - _LOG_ROOT - 0.5 * edge.end**2 + self.alpha * log_ratio - self._log_total)
        found.append(float(np.max(self._real[:2])))
        found.append(float(np.max(self._height[-2:])) if self.window.ceiling is None else -math.inf)
        return found

    def _find_rule(self, frequency: float) -> Rule | None:
        stage = self._stage
        paths, alpha = stage.paths[0], self.alpha
        height = self._height + paths.gain
        curved = (abs(alpha) + frequency) * paths.curved
        if frequency > 0:
            height = height + frequency * paths.argument
        # For alpha >= 0 |D(u + i h)| <= D(u).
        if alpha < 0:
            height = height + alpha * paths.modulus
        cells = np.maximum(height[:, 1:], height[:, :-1]) + curved + paths.longer
        ways = [
            (gain + frequency * argument + (alpha * modulus if alpha < 0 else 0.0) + log_f, y)
            for (gain, modulus, argument, y), log_f in zip(paths.ways, self._log_f_at_ends(), strict=True)
            if log_f > -math.inf
        ]
        step = stage.grid.step
        wrong = math.inf
        for _ in range(10):
            fold = 2 * math.pi / step
            folded = cells - fold * paths.lowest
            folded -= np.log(-np.expm1(-fold * paths.lowest))
            top = folded.max(axis=1)
            weight = np.exp(folded - top[:, None])
            size = weight.sum(axis=1)
            along = top + np.log(size) + math.log(2.0)
            total = along
            for grown, y in ways:
                total = np.logaddexp(total, _log_sum_rows(grown - fold * y))
            best = int(np.argmin(total))
            wrong = float(total[best])
            if wrong <= -self.goal or not math.isfinite(wrong):
                break
            # Newton's step in 1 / eta for each path; the best of them.
            reach = (weight * paths.lowest).sum(axis=1) / size
            needed = 1 / step + (np.maximum(along + self.goal + 1, 1.0)) / (2 * math.pi * reach)
            needed = np.where(np.isfinite(needed), needed, math.inf)
            # Where the way up dominates, its start sets the pace.
            least = 1.03 if along[best] > total[best] - 1 else 1.3
            step = 1 / max(float(needed.min()), least / step)
            if not (stage.high - stage.low) / step <= _MOST_NODES:
                return None
        if not wrong <= -0.3 * self.goal:
            return None
        step = _short(step) if step != stage.grid.step else step
        grid = stage.grid if step == stage.grid.step else _grid(self.law, self.window, stage.low, stage.high, step)
        return self._kept_rule(grid, wrong)

    def rule_for(self, frequency: float) -> Rule | None:
        """Return a rule that serves all frequencies up to this one, or None if it were too large."""
        if frequency not in self._rules:
            self._rules[frequency] = self._find_rule(frequency)
        return self._rules[frequency]

    def _kept_rule(self, grid: _Grid, wrong: float) -> Rule:
        begin, end = np.searchsorted(grid.u, self._range[0]), np.searchsorted(grid.u, self._range[1], side="right")
        part = slice(max(int(begin) - 1, 0), int(end) + 1)
        exponent = self.alpha * grid.log_ratio[part]
        log_weight = grid.base[part] + exponent + math.log(grid.step)
        top = float(log_weight.max())
        return Rule(
            grid.u[part],
            self.law.sign * grid.log_ratio[part],
            log_weight,
            grid.sigmoid[part],
            grid.ratio_error[part],
            grid.weight_error[part]
            + 1.5 * np.abs(exponent)
            + abs(self.alpha) * grid.ratio_error[part]
            + 0.5 * (top - log_weight),
            top + math.log(float(np.exp(log_weight - top).sum())),
            float(np.logaddexp(wrong, self._log_outside)),
        )

    def size(self, frequency: float) -> float:
        """Return how many nodes the rule for this frequency has."""
        rule = self.rule_for(frequency)
        return math.inf if rule is None else len(rule.u)

    def log_bound(self, frequency: float) -> float:
        """Return the log of a bound on |m(alpha + i t) / m(alpha)| for every t >= frequency."""
        paths = self._stage.paths[1]
        if self._damped is None:
            height = self._height + paths.gain + self.alpha * paths.modulus
            rest = np.full(len(height), self._beyond())
            for (gain, modulus, _, _), log_f in zip(paths.ways, self._log_f_at_ends(), strict=True):
                if log_f > -math.inf:
                    rest = np.logaddexp(rest, _log_sum_rows(gain + min(self.alpha, 0.0) * modulus + log_f))
            self._damped = height, rest
        height, rest = self._damped
        at = height - frequency * paths.argument
        cells = np.maximum(at[:, 1:], at[:, :-1]) + (abs(self.alpha) + frequency) * paths.curved + paths.longer
        return float(np.min(np.logaddexp(_log_sum_rows(cells), rest)))

    def base_wrong(self) -> float:
        """Return a bound on the error of the first grid's rule for P itself, relative to 1."""
        # D and 1 have no powers that zeros of D could disturb, and |D(u + i h)| <= D(u).
        stage = self._stage
        if stage.base_wrong is None:
            paths, height = stage.paths[2], stage.normal + self.law.power(0.0) * stage.log_ratio
            cells = height + paths.gain
            cells = np.maximum(cells[:, 1:], cells[:, :-1]) + paths.curved + paths.longer
            fold = 2 * math.pi / stage.grid.step
            folded = _log_sum_rows(cells - fold * paths.lowest - np.log(-np.expm1(-fold * paths.lowest)))
            # The ends of edges and of the grid carry less than 1e-30 of P.
            stage.base_wrong = 2 * math.exp(min(float(folded.min()), 0.0)) + 1e-30
        return stage.base_wrong

    def log_weights_at(self, alpha: float) -> tuple[_Grid, FloatArray]:
        """Return the first grid and the logs of its weights at another exponent."""
        grid = self._stage.grid
        return grid, grid.base + alpha * grid.log_ratio + math.log(grid.step)


@lru_cache(maxsize=256)
def moment(law: SampledLaw, window: Window, c: float, count: float) -> Moment:
    """Return the moment, the same one for the same arguments: tilts are asked for again and again."""
    return Moment(law, window, c, count)


@lru_cache(maxsize=512)
def _at(law: SampledLaw, u: float) -> tuple[float, float]:
    log_ratio, sigmoid, _ = law.logs(np.array([u]))
    return float(log_ratio[0]), float(sigmoid[0])


def _log_sum_rows(logs: FloatArray) -> FloatArray:
    top = logs.max(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = top + np.log(np.exp(logs - top[:, None]).sum(axis=1))
    return np.where(np.isfinite(found), found, np.where(top == -math.inf, -math.inf, math.inf))


def _short(step: float) -> float:
    # A step of few bits makes every node exact.
    return math.ldexp(math.floor(math.ldexp(step, 20)), -20)


def characteristic(rule: Rule, centre: float, t: FloatArray) -> tuple[ComplexArray, FloatArray]:
    """Return E[exp(i t (L - centre))] - 1 under the rule's weights, t in equal steps, and its absolute error.

    exp(i (x + y)) - 1 = A + B + A B with A = exp(i x) - 1 and B = exp(i y) - 1: sines of every 32nd argument and of 32
    small ones, and a product of matrices, in which every part keeps the accuracy that its smallness allows.
    """
    weight = np.exp(rule.log_weight - rule.log_weight.max())
    weight /= weight.sum()
    x = rule.loss - centre
    coarse = _turn(np.outer(t[::_BLOCK], x))
    value: ComplexArray = (coarse @ weight)[:, None]
    if len(t) > 1:
        small = _turn(np.outer(np.arange(min(_BLOCK, len(t))) * float(t[1] - t[0]), x))
        value = value + (small @ weight)[None, :] + coarse @ (small * weight).T
    rounding = rule.weight_error + 24 + 0.25 * len(x)
    # |exp(i x t) - 1| <= min(|x t|, 2); the products of the two factors are at most twice as large.
    reach = float(weight @ (np.abs(x) * rounding))
    most = 4 * float(weight @ rounding)
    slip = float(weight @ (rule.loss_error + 2 * np.abs(rule.loss) + abs(centre)))
    wrong = UNIT * (np.minimum(2 * np.abs(t) * reach, most) + np.abs(t) * slip)
    return value.ravel()[: len(t)], wrong + 2 * math.exp(min(rule.log_wrong, 300.0))


def _turn(angle: FloatArray) -> ComplexArray:
    """Return exp(i angle) - 1."""
    half = 0.5 * angle
    sine = np.sin(half)
    out = np.empty(angle.shape, dtype=np.complex128)
    out.real = -2 * sine * sine
    out.imag = 2 * sine * np.cos(half)
    return out
