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
_SHARES = np.geomspace(0.1, 1.0, 6)
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
# What an edge still keeps at its end, 12 widths out.
_LOG_END = math.log(0.5 * math.erfc(12 / math.sqrt(2)))


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
        return Edge(u, min(0.5, max(0.02, 0.09 / growth)))


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
        2 * u * u + 10 + window.error(u),
    )
    for array in (u, log_ratio, sigmoid, error, found.base, found.envelope, found.weight_error):
        array.flags.writeable = False
    return found


class Moment:
    """m(alpha + i t) of one release in a window, around one real exponent alpha, for a composition of `count`.

    A window with edges needs alpha >= 0.
    """

    def __init__(self, law: SampledLaw, window: Window, c: float, count: float) -> None:
        self.law, self.window, self.c = law, window, c
        self.alpha = law.power(c)
        self.goal = _GOAL + math.log(count)
        self._heights = _SHARES * (1.3 * math.sqrt(2 * self.goal / window.bend))
        self._first: _Grid | None = None
        self._rules: dict[float, Rule | None] = {}
        self._damped: tuple[FloatArray, ...] | None = None
        self.rule: Rule | None = self._make_first()

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

    def _make_first(self) -> Rule | None:
        low, high = self._ends()
        step = _short(min(0.5, float(np.max(2 * math.pi * self._heights / (self.goal + 5 + 0.5 * self.window.bend * self._heights**2)))))
        if not self._lay(low, high, min(step, 0.3)):
            return None
        found = self.rule_for(0.0)
        return found

    def _lay(self, low: float, high: float, step: float) -> bool:
        if step <= 0 or not (high - low) / step <= _MOST_NODES:
            return False
        first = _grid(self.law, self.window, low, high, step)
        weight = first.base + self.alpha * first.log_ratio + math.log(first.step)
        top = float(weight.max())
        if not math.isfinite(top):
            return False
        # Nodes that weigh nothing are counted with what lies outside.
        inside = np.flatnonzero(weight > top - self.goal - 12)
        begin, end = max(int(inside[0]) - 1, 0), min(int(inside[-1]) + 2, len(weight))
        self._first, self._range = first, (float(first.u[begin]), float(first.u[end - 1]))
        self._log_total = top + math.log(float(np.exp(weight[begin:end] - top).sum()))
        # The cells of the bounds: as many as are worth it.
        stride = max(1, len(weight) // _CELLS)
        chosen = np.unique(np.append(np.arange(0, len(weight), stride), len(weight) - 1))
        self._cell = stride * first.step
        self._place, self._sigmoid = first.u[chosen], first.sigmoid[chosen]
        self._height = (first.envelope + self.alpha * first.log_ratio)[chosen] + math.log(self._cell)
        self._first_ratio = float(first.log_ratio[0])
        self._path = self._paths()
        self._stops = self._ends_of_paths()
        slack = (self.window.bend + abs(self.alpha) * np.minimum(self._sigmoid[1:], 0.25) / self.law.noise_multiplier**2)
        cells = np.maximum(self._height[1:], self._height[:-1]) + slack * (self._cell**2 / 8)
        outer = cells[(self._place[:-1] < self._range[0]) | (self._place[1:] > self._range[1])]
        rest = float(np.logaddexp.reduce(outer)) if len(outer) else -math.inf
        self._log_outside = float(np.logaddexp(rest, self._beyond())) + math.log(2.0) - self._log_total
        return True

    def _paths(self) -> FloatArray:
        """Return the height of each path at the cells' ends, shape (paths, nodes)."""
        s, q = self.law.noise_multiplier, self.law.sampling_rate
        zero = s * (math.log1p(-q) - math.log(q)) + 0.5 / s
        # The least distance over each cell on either side, so that a straight piece stays below.
        away = np.abs(self._place - zero)
        away = np.maximum(away - self._cell, 0.0)
        allowed = _PASS_ANGLE * s + np.maximum(away - _PASS_WIDTH * s, 0.0)
        return np.asarray(np.minimum(self._heights[:, None], allowed[None, :]))

    def _along(self, path: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log |D / D(real part)|, arg D and a bound on |d^2 log D| per cell, along paths."""
        s, share = self.law.noise_multiplier, self._sigmoid[None, :]
        angle = path / s
        lift = np.sin(0.5 * angle) ** 2
        modulus = 0.5 * np.log1p(-np.minimum(4 * share * (1 - share) * lift, 1 - 1e-15))
        wave = np.sin(angle)
        argument = np.where(
            share < 0.5,
            np.arctan2(share * wave, 1 - 2 * share * lift),
            angle - np.arctan2((1 - share) * wave, 1 - 2 * (1 - share) * lift),
        )
        # A B / |D|^2, at its largest over the cell: the angle matters near the zero only, where the path is level.
        least = np.where(
            (angle <= _PASS_ANGLE + 1e-9),
            np.cos(0.5 * np.minimum(angle, _PASS_ANGLE)) ** 2,
            (1 - 2 * np.minimum(share, 1 - share)) ** 2,
        )
        product = np.minimum(np.minimum(share[:, 1:], 1 - share[:, :-1]), 0.25)
        bend = product / (np.minimum(least[:, 1:], least[:, :-1]) * s * s)
        slope = np.diff(path, axis=1) / self._cell
        return modulus, argument, bend * (1 + slope * slope)

    def _beyond(self) -> float:
        """Return the log of a bound on what lies beyond the first grid, as an integral and as a sum: each at most this."""
        alpha, step = self.alpha, self._cell
        low, high = float(self._place[0]), float(self._place[-1])
        floor = self.window.floor
        # Left: D^alpha (alpha >= 0) only falls towards the left; D >= 1 - q.
        head = float(self._height[0]) - math.log(step)
        if alpha < 0:
            head += alpha * (math.log1p(-self.law.sampling_rate) - self._first_ratio)
        if floor is None:
            # A normal tail is at most its density over the distance.
            slope = -low
        else:
            # The complement of the floor falls like a normal density of its width; the sum of two of them is less
            # than twice the larger.
            slope = (floor.middle - low) / floor.width**2 - low
            head += math.log(2.0)
        left = head + math.log(1 / slope + 2 * step) if slope > 0 else math.inf
        if self.window.ceiling is not None:
            return left
        # Right: the exponent falls at least with this slope, and ever faster.
        slope = high - max(alpha, 0.0) / self.law.noise_multiplier
        if slope <= 0:
            return math.inf
        right = float(self._height[-1]) - math.log(step) + math.log(1 / slope + 2 * step)
        return float(np.logaddexp(left, right))

    def _raised(self, frequency: float) -> FloatArray:
        """Return the log of the integral of |f| over each cell of each path, relative to the moment."""
        path, bend = self._path, self.window.bend
        if frequency == 0 and self.alpha >= 0:
            # |D(u + i h)| <= D(u).
            height = self._height + 0.5 * bend * path * path
            curved: FloatArray = abs(self.alpha) * np.minimum(self._sigmoid[1:], 0.25) / self.law.noise_multiplier**2
        else:
            modulus, argument, curved = self._along(path)
            height = self._height + 0.5 * bend * path * path + self.alpha * modulus + frequency * argument
            curved = (abs(self.alpha) + frequency) * curved
        cells = np.maximum(height[:, 1:], height[:, :-1]) + (bend + curved) * (self._cell**2 / 8)
        slope = np.diff(path, axis=1) / self._cell
        return np.asarray(cells + 0.5 * np.log1p(slope * slope) - self._log_total)

    def _ends_of_paths(self) -> list[tuple[float, float, int]]:
        """Return where paths come down to the real line: real part, log of |f| there, index of the cell's end."""
        found = []
        for edge in self.window.edges:
            log_ratio, _ = _at(self.law, edge.end)
            at = _LOG_END - _LOG_ROOT - 0.5 * edge.end**2 + self.alpha * log_ratio
            found.append((edge.end, at, int(np.argmin(np.abs(self._place - edge.end)))))
        log_cell = math.log(self._cell)
        # The last nodes of finer grids lie within a cell of the ends; |f| rises towards the inside.
        inner = float(np.max(self._height[:2])) - log_cell
        found.append((float(self._place[1]), inner, 1))
        if self.window.ceiling is None:
            found.append((float(self._place[-1]), float(np.max(self._height[-2:])) - log_cell, len(self._place) - 1))
        return found

    def _on_ends(self, frequency: float, step: float) -> FloatArray:
        """Return, for each path, the log of the integrals from the real line up to it, relative to the moment.

        With a step the integrand of the rule's error; with step 0 that of the moved path, damped.
        """
        total = np.full(len(self._heights), -math.inf)
        s, bend = self.law.noise_multiplier, self.window.bend
        for end, log_f, index in self._stops:
            _, share = _at(self.law, end)
            limit = self._path[:, index : index + 1]
            if share < 0.5 and step == 0:
                limit = np.minimum(limit, _PASS_ANGLE * s)
            h = limit * _RUNGS
            lift, wave = np.sin(0.5 * h / s) ** 2, np.sin(h / s)
            if share < 0.5:
                argument = np.arctan2(share * wave, 1 - 2 * share * lift)
            else:
                argument = h / s - np.arctan2((1 - share) * wave, 1 - 2 * (1 - share) * lift)
            grown = 0.5 * bend * h[:, 1:] ** 2
            if self.alpha < 0:
                low = np.maximum.accumulate(np.minimum(4 * share * (1 - share) * lift, 1 - 1e-15), axis=1)[:, 1:]
                grown = grown + 0.5 * self.alpha * np.log1p(-low)
            if step > 0:
                highest = np.maximum.accumulate(argument, axis=1)[:, 1:]
                grown = grown + frequency * highest - 2 * math.pi * h[:, :-1] / step
            width = np.maximum(np.diff(h, axis=1), 1e-300)
            total = np.logaddexp(total, _log_sum_rows(grown + np.log(width)) + (log_f - self._log_total))
        return total + math.log(2.0)

    def _aliasing(self, cells: FloatArray, step: float, frequency: float) -> float:
        fold = 2 * math.pi / step
        lowest = np.minimum(self._path[:, 1:], self._path[:, :-1])
        folded = cells - fold * lowest - np.log(-np.expm1(-fold * lowest))
        total = _log_sum_rows(folded) + math.log(2.0)
        return float(np.min(np.logaddexp(total, self._on_ends(frequency, step))))

    def rule_for(self, frequency: float) -> Rule | None:
        """Return a rule that serves all frequencies up to this one, or None if it were too large."""
        if frequency not in self._rules:
            self._rules[frequency] = self._find_rule(frequency)
        return self._rules[frequency]

    def _find_rule(self, frequency: float) -> Rule | None:
        assert self._first is not None
        low, high = self._ends()
        cells = self._raised(frequency)
        step = self._first.step
        wrong = math.inf
        for _ in range(40):
            wrong = self._aliasing(cells, step, frequency)
            if wrong <= -self.goal or not math.isfinite(wrong):
                break
            step *= 0.85 if wrong < -0.5 * self.goal else 0.65
            if not (high - low) / step <= _MOST_NODES:
                return None
        if not wrong <= -0.3 * self.goal:
            return None
        grid = self._first if step == self._first.step else _grid(self.law, self.window, low, high, _short(step))
        return self._kept_rule(grid, wrong)

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
            grid.weight_error[part] + 2 * np.abs(exponent) + abs(self.alpha) * grid.ratio_error[part],
            top + math.log(float(np.exp(log_weight - top).sum())),
            float(np.logaddexp(wrong, self._log_outside)),
        )

    def size(self, frequency: float) -> float:
        """Return how many nodes the rule for this frequency has."""
        rule = self.rule_for(frequency)
        return math.inf if rule is None else len(rule.u)

    def log_bound(self, frequency: float) -> float:
        """Return the log of a bound on |m(alpha + i t) / m(alpha)| for every t >= frequency."""
        if self._damped is None:
            # Where B < A the argument is positive up to an angle of pi only.
            left = self._sigmoid < 0.5
            path = np.where(left, np.minimum(self._path, _PASS_ANGLE * self.law.noise_multiplier), self._path)
            modulus, argument, curved = self._along(path)
            slope = np.diff(path, axis=1) / self._cell
            height = self._height + 0.5 * self.window.bend * path * path + self.alpha * modulus - self._log_total
            rest = np.logaddexp(self._on_ends(0.0, 0.0), self._beyond() - self._log_total)
            self._damped = height, np.maximum(argument, 0.0), curved, 0.5 * np.log1p(slope * slope), rest
        height, argument, curved, longer, rest = self._damped
        at = height - frequency * argument
        bend = self.window.bend + (abs(self.alpha) + frequency) * curved
        cells = np.maximum(at[:, 1:], at[:, :-1]) + bend * (self._cell**2 / 8) + longer
        return float(np.min(np.logaddexp(_log_sum_rows(cells), rest)))

    def base_wrong(self) -> float:
        """Return a bound on the error of the first grid's rule for P itself, relative to 1."""
        assert self._first is not None
        # D and 1 have no powers that zeros of D could disturb, and |D(u + i r)| <= D(u).
        r = self._heights
        folded = 4.1 * np.exp(0.5 * self.window.bend * r * r - 2 * math.pi * r / self._first.step)
        # The ends of edges and of the grid carry less than 1e-30 of P.
        return float(folded.min()) + 1e-30

    def log_weights_at(self, alpha: float) -> tuple[_Grid, FloatArray]:
        """Return the first grid and the logs of its weights at another exponent."""
        first = self._first
        assert first is not None
        return first, first.base + alpha * first.log_ratio + math.log(first.step)


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
    rounding = rule.weight_error + 120 + 0.25 * len(x)
    reach = float(weight @ (np.abs(x) * rounding + rule.loss_error + 2 * np.abs(rule.loss) + abs(centre)))
    return value.ravel()[: len(t)], UNIT * np.abs(t) * reach + 2 * math.exp(min(rule.log_wrong, 300.0))


def _turn(angle: FloatArray) -> ComplexArray:
    """Return exp(i angle) - 1."""
    half = 0.5 * angle
    sine = np.sin(half)
    out = np.empty(angle.shape, dtype=np.complex128)
    out.real = -2 * sine * sine
    out.imag = 2 * sine * np.cos(half)
    return out
