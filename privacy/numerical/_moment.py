"""Moments of one sampled Gaussian in a window, at complex exponents, with error bounds.

All moments are m(a) = E[chi D^a], chi a window (`_window`), a = alpha + i t, letters and laws as in `_sampled_law`.
The trapezoidal rule with step eta, half a step away from the ends of the window's edges, is wrong by at most

    2 int |f(path)| / (exp(2 pi h / eta) - 1) |d path|
    + 2 sum over ends of int_0^h(end) |f(end + i y)| / (exp(2 pi y / eta) + 1) dy

for any path (`_paths`): residues of 1 / (exp(2 pi i u / eta) - 1), shifted by half a step; ends are those of edges and
of the grid.

Moving the integral itself to the path, on the side where |D^(i t)| = exp(-t arg D), bounds |m(alpha + i t)|, and since
arg D >= 0 there (angle <= pi where B < A) the bound holds for every larger t as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from privacy.numerical._paths import (
    FEWEST_NODES,
    MOST_NODES,
    ends_of,
    first_step,
    log_beyond_grid,
    log_f_at_ends,
    log_sum_rows,
    stage_of,
)
from privacy.numerical._sampled_law import Grid, SampledLaw
from privacy.numerical._terms import UNIT, ComplexArray, FloatArray
from privacy.numerical._window import Window

# Heights of the paths that are tried, as shares of the farthest.
_SHARES = np.geomspace(0.05, 1.0, 7)

# Logarithm of what aliasing and truncation may be, relative to the moment and per release.
_GOAL = 38.0
_BLOCK = 32


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
        low, high = ends_of(law, window, self.alpha, self.goal)
        r = _SHARES * farthest
        step = first_step(window)
        self.rule: Rule | None = None
        # A window that ends left of what this exponent weighs has nothing to sum.
        if not FEWEST_NODES <= (high - low) / step <= MOST_NODES:
            return
        self._stage = stage = stage_of(law, window, low, high, step, tuple(r.tolist()))
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
        rest = log_sum_rows(outer[None, :])[0] if len(outer) else -math.inf
        exponent, total = np.array([self.alpha]), np.array([self._log_total])
        self._log_beyond = float(log_beyond_grid(stage, exponent, total)[0])
        self._log_outside = float(np.logaddexp(rest, self._log_beyond)) + math.log(4.0)
        self._log_f = [float(each[0]) for each in log_f_at_ends(stage, exponent, total)]
        self.rule = self.rule_for(0.0)

    @property
    def made(self) -> Rule:
        """The rule for frequency 0. Raises ArithmeticError where there is none."""
        if self.rule is None:
            raise ArithmeticError("no rule of affordable size is good enough here")
        return self.rule

    def _find_rule(self, frequency: float) -> Rule | None:
        stage = self._stage
        paths, alpha = stage.paths, self.alpha
        height = self._height + paths.gain
        curved = (abs(alpha) + frequency) * paths.curved
        if frequency > 0:
            height = height + frequency * np.abs(paths.argument)
        # For alpha >= 0 |D(u + i h)| <= D(u).
        if alpha < 0:
            height = height + alpha * paths.modulus
        cells = np.maximum(height[:, 1:], height[:, :-1]) + curved + paths.longer
        ways = [
            (gain + frequency * argument + (alpha * modulus if alpha < 0 else 0.0) + log_f, y)
            for (gain, modulus, argument, y), log_f in zip(paths.ways, self._log_f, strict=True)
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
                total = np.logaddexp(total, log_sum_rows(grown - fold * y))
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
            if not (stage.high - stage.low) / step <= MOST_NODES:
                return None
        if not wrong <= -0.3 * self.goal:
            return None
        grid = stage.finer(step)
        if frequency == 0:
            self._plain = grid
        return self._kept_rule(grid, wrong)

    def rule_for(self, frequency: float) -> Rule | None:
        """Return a rule that serves all frequencies up to this one, or None if it were too large."""
        if frequency not in self._rules:
            self._rules[frequency] = self._find_rule(frequency)
        return self._rules[frequency]

    def _kept_rule(self, grid: Grid, wrong: float) -> Rule:
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
        paths = self._stage.damped_paths
        if self._damped is None:
            height = self._height + paths.gain + self.alpha * paths.modulus
            rest = np.full(len(height), self._log_beyond)
            for (gain, modulus, _, _), log_f in zip(paths.ways, self._log_f, strict=True):
                if log_f > -math.inf:
                    rest = np.logaddexp(rest, log_sum_rows(gain + min(self.alpha, 0.0) * modulus + log_f))
            self._damped = height, rest
        height, rest = self._damped
        at = height - frequency * paths.argument
        cells = np.maximum(at[:, 1:], at[:, :-1]) + (abs(self.alpha) + frequency) * paths.curved + paths.longer
        return float(np.min(np.logaddexp(log_sum_rows(cells), rest)))

    def base_wrong(self) -> float:
        """Return a bound on the error of the first grid's rule for P itself, relative to 1."""
        # D and 1 have no powers that zeros of D could disturb, and |D(u + i h)| <= D(u).
        stage = self._stage
        if stage.base_wrong is None:
            paths, height = stage.free_paths, stage.normal + self.law.power(0.0) * stage.log_ratio
            cells = height + paths.gain
            cells = np.maximum(cells[:, 1:], cells[:, :-1]) + paths.curved + paths.longer
            fold = 2 * math.pi / stage.grid.step
            folded = log_sum_rows(cells - fold * paths.lowest - np.log(-np.expm1(-fold * paths.lowest)))
            # The ends of edges and of the grid carry less than 1e-30 of P.
            stage.base_wrong = 2 * math.exp(min(float(folded.min()), 0.0)) + 1e-30
        return stage.base_wrong

    def log_weights_at(self, alpha: float) -> tuple[Grid, FloatArray]:
        """Return the grid of the rule for frequency 0, and the logs of its weights at another exponent."""
        grid = self._plain
        return grid, grid.base + alpha * grid.log_ratio + math.log(grid.step)


@lru_cache(maxsize=256)
def moment(law: SampledLaw, window: Window, c: float, count: float) -> Moment:
    """Return the moment, the same one for the same arguments: tilts are asked for again and again."""
    return Moment(law, window, c, count)


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
