"""The privacy loss of Poisson-sampled Gaussians: whole, below an edge, or with at least one outcome beyond a floor.

Outcomes far in the tail make the moments of the loss huge and decide nothing; and rare large losses beside many small
ones keep the characteristic function from falling. Both are met by edges (`_window`). Let M_X be the measure of one
release's losses below the edge X, and n releases. Then

    law of the sum  =  M_1^n  +  (M_2^n - M_1^n)  +  ...  +  (M_J^n - M_(J-1)^n)  +  (what the last edge drops)

for edges X_1 < ... < X_J, powers being convolutions. Every bracket is a positive measure, the sums with at least one
outcome between two edges: it has a line of its own, and its characteristic function falls as fast as that of the
outcomes between the edges, since |x^n - y^n| <= n |x - y| max(|x|, |y|)^(n - 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from privacy.numerical._decay import layers_of_density
from privacy.numerical._moment import Moment, Rule, characteristic, moment
from privacy.numerical._moment_outline import moments
from privacy.numerical._sampled_law import SampledLaw
from privacy.numerical._terms import UNIT, ComplexArray, FloatArray, Outline, Tilted, not_evaluable, powered
from privacy.numerical._window import Edge, Window

# Releases up to which the moved line is asked how fast the characteristic function falls.
_FEW = 100
# Multiplications of a matrix product that cost as much as a sine.
_CHEAP = 16


def _blocks(t: FloatArray) -> list[FloatArray]:
    # High frequencies need more nodes: each block of arguments has its own rule.
    return [block for block in np.split(t, [len(t) // 4, len(t) // 2]) if len(block)]


@dataclass(frozen=True, slots=True)
class _At:
    """One release, tilted: log m, its error, and mean and variance of the loss."""

    log_moment: float
    error: float
    mean: float
    variance: float


def tilted(moment: Moment, edge: Edge | None) -> _At:
    """Return one release below an edge, tilted."""
    rule = moment.made
    c, law = moment.c, moment.law
    peak = float(rule.log_weight.max())
    weight = np.exp(rule.log_weight - peak)
    total = float(weight.sum())
    weight /= total
    direct = peak + math.log(total)
    mean = float(weight @ rule.loss)
    variance = float(weight @ (rule.loss - mean) ** 2)
    relative = 2 * math.exp(min(rule.log_wrong, 300.0))
    alpha = moment.alpha
    grid, log_p = moment.log_weights_at(law.power(0.0))
    loss = law.sign * grid.log_ratio
    if direct < 1 and float(np.max(c * loss)) < 600:
        # E_P[exp(c L) - 1] with the trapezoidal weights of P: what is summed vanishes with c.
        under_p = np.exp(log_p)
        parts = under_p * np.expm1(c * loss)
        lost = math.exp(law.log_dropped(edge))
        held = float(parts.sum()) - lost
    else:
        held = -1.0
    # Far from 1 the sum of the weights is as good, and this one may have lost all it had.
    if held > -0.5:
        value = math.log1p(held)
        # Those of the weight, of expm1, of the product, and of a pairwise sum.
        rounding = grid.weight_error + 1.5 * np.abs(grid.log_ratio) + 0.25 * math.log2(len(loss) + 1) + 12
        wrong = float(
            np.sum(
                np.abs(parts) * rounding
                + under_p * np.exp(np.maximum(c * loss, 0)) * abs(c) * (grid.ratio_error + np.abs(loss))
            )
        )
        relative += moment.base_wrong() + 1e-13 * lost
        error = (UNIT * wrong + relative * (1 + math.exp(value))) / math.exp(value) + UNIT * abs(value)
        return _At(value, error, mean, variance)
    error = UNIT * (float(weight @ (rule.weight_error + abs(alpha) * rule.loss_error)) + 60 + 4 * abs(peak)) + relative
    return _At(direct, error, mean, variance)


@dataclass(frozen=True, slots=True)
class SampledGaussianTerm:
    """`count` Poisson-sampled Gaussian releases, in one direction; with an `edge`, only outcomes that it keeps."""

    noise_multiplier: float
    sampling_rate: float
    count: int
    direction: Literal["remove", "add"]
    edge: Edge | None = None

    @property
    def law(self) -> SampledLaw:
        """One of the releases."""
        return SampledLaw(self.noise_multiplier, self.sampling_rate, self.direction)

    @property
    def lattice(self) -> tuple[float, float] | None:
        """None: a density."""
        return None

    @property
    def log_dropped(self) -> float:
        """The log of a bound on the probability, under P, that any of the outcomes is not kept."""
        return math.log(self.count) + self.law.log_dropped(self.edge) + 1e-9

    def at(self, c: float) -> Tilted:
        """Return the term tilted by c."""
        whole = moment(self.law, Window(self.edge), c, self.count)
        if whole.rule is None:
            return not_evaluable()
        n, one = self.count, tilted(whole, self.edge)
        layers: list[Callable[[float], float]] = []

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            value, wrong = _deviations(whole, one.mean, t)
            return powered(value, wrong, n)

        def log_decay(t: float) -> float:
            if not layers:
                layers.append(_layers(whole))
            found = layers[0](t)
            return n * (min(found, whole.log_bound(t)) if n <= _FEW and n * found > -60 else found)

        return Tilted(n * one.log_moment, n * one.error, n * one.mean, n * one.variance, nodes, log_decay)

    def outline(self, c: FloatArray) -> Outline:
        """Return the moments at these tilts; infinite where they cannot be evaluated."""
        n, one = self.count, moments(self.law, Window(self.edge), c, self.count)
        return Outline(n * one.log_moment, n * one.error, n * one.mean, n * one.variance)

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes at these arguments, increasing."""
        whole = moment(self.law, Window(self.edge), c, self.count)
        return math.inf if whole.rule is None else _cost(whole, t)


@dataclass(frozen=True, slots=True)
class SampledPart:
    """Sums of sampled Gaussians in which every outcome is below its term's edge, and some are beyond its floor.

    All in the direction "remove"; each floor is below its edge.

    exactly   how many outcomes are beyond the floor, for a single term; None: at least one
    """

    terms: tuple[SampledGaussianTerm, ...]
    floors: tuple[Edge, ...]
    exactly: int | None = None

    @property
    def lattice(self) -> tuple[float, float] | None:
        """None: a density."""
        return None

    def _moments(self, c: float) -> list[tuple[int, Moment, Moment]]:
        return [
            (
                term.count,
                moment(term.law, Window(floor), c, term.count),
                moment(term.law, Window(term.edge, floor), c, 1),
            )
            for term, floor in zip(self.terms, self.floors, strict=True)
        ]

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes at these arguments, increasing."""
        return math.fsum(
            math.inf if one.rule is None else _cost(one, t) for _, *moments in self._moments(c) for one in moments
        )

    def outline(self, c: FloatArray) -> Outline:
        """Return the moments at these tilts; infinite where they cannot be evaluated."""
        # The part grows with the moments below the floors and with those beyond: upper bounds of both bound it.
        values, bounds = [], []
        for term, floor in zip(self.terms, self.floors, strict=True):
            below = moments(term.law, Window(floor), c, term.count)
            beyond = moments(term.law, Window(term.edge, floor), c, term.count)
            values.append((term.count, below.log_moment, beyond.log_moment))
            bounds.append((term.count, below.log_moment + below.error, beyond.log_moment + beyond.error))
        value, bound = self._log_part(values), self._log_part(bounds)
        with np.errstate(invalid="ignore"):
            error = bound - value + 1e-12 * (1 + np.abs(bound))
        known = np.isfinite(value) & np.isfinite(error)
        steers = np.zeros(len(c))
        return Outline(np.where(known, value, math.inf), np.where(known, error, math.inf), steers, steers)

    def _log_part(self, parts: list[tuple[int, FloatArray, FloatArray]]) -> FloatArray:
        # From (releases, log moment below the floor, log moment beyond it) of each term.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if self.exactly is not None:
                ((n, below, beyond),) = parts
                k = self.exactly
                return log_choose(n, k) + k * beyond + (n - k) * below if k <= n else np.full(len(below), math.inf)
            floor = sum(n * below for n, below, _ in parts)
            grown = sum(n * np.logaddexp(0.0, beyond - below) for n, below, beyond in parts)
            return np.asarray(floor + np.where(grown < 600, np.log(np.expm1(np.minimum(grown, 600.0))), grown))

    def at(self, c: float) -> Tilted:
        """Return the part tilted by c."""
        pairs = self._moments(c)
        if any(below.rule is None or beyond.rule is None for _, below, beyond in pairs):
            return not_evaluable()
        counts = [n for n, _, _ in pairs]
        ones = [tilted(below, floor) for (_, below, _), floor in zip(pairs, self.floors, strict=True)]
        upper = [above(beyond) for _, _, beyond in pairs]
        # Outcomes beyond the floor for each one below it, and those as shares of both.
        gaps = [a.log_moment - one.log_moment for a, one in zip(upper, ones, strict=True)]
        if max(gaps) > 600:
            return not_evaluable()
        odds = [math.exp(gap) for gap in gaps]
        shares = [each / (1 + each) for each in odds]
        log_below = math.fsum(n * one.log_moment for n, one in zip(counts, ones, strict=True))
        if self.exactly is not None:
            return self._at_exactly(self.exactly, pairs[0], ones[0], upper[0])
        # log of (law below the edges / law below the floors), and of that less 1.
        grown = math.fsum(n * math.log1p(each) for n, each in zip(counts, odds, strict=True))
        if grown == 0:
            return not_evaluable()
        log_grown = math.log(math.expm1(grown)) if grown < 600 else grown
        error = math.fsum(n * one.error for n, one in zip(counts, ones, strict=True)) + math.fsum(
            n * share * (a.error + one.error + 20 * UNIT)
            for n, a, one, share in zip(counts, upper, ones, shares, strict=True)
        ) / -math.expm1(-grown)
        mean, variance = _blend(counts, ones, upper, shares, grown)
        below_mean = math.fsum(n * one.mean for n, one in zip(counts, ones, strict=True))

        # What overflows is not finite, and no line is made of it.
        @np.errstate(over="ignore", invalid="ignore", divide="ignore")
        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            total = np.zeros(len(t), dtype=np.complex128)
            growth = np.zeros(len(t))
            log_ratio = np.zeros(len(t), dtype=np.complex128)
            doubt = np.zeros(len(t))
            for (n, below, beyond), one, a, each in zip(pairs, ones, upper, odds, strict=True):
                value, wrong = _deviations(below, one.mean, t)
                logs, errors = powered(value, wrong, n)
                total += logs
                growth += errors
                value_above, wrong_above = _deviations(beyond, a.mean, t)
                wrong_above = wrong_above + 4 * UNIT * t * (abs(a.mean) + abs(one.mean))
                size = np.maximum(np.abs(1 + value), 1e-290)
                part = each * (1 + value_above) * np.exp(1j * t * (a.mean - one.mean)) / (1 + value)
                log_ratio += n * _log1p(part)
                unsure = each * (wrong_above + 1e-15) / size + np.abs(part) * (
                    wrong / size + 4e-15 + a.error + one.error
                )
                doubt += n * np.log1p(unsure / np.maximum(np.abs(1 + part), 1e-290))
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                kept = _expm1(log_ratio)
                # |(x + e)^n - x^n| <= |x|^n ((1 + |e / x|)^n - 1).
                off = np.exp(np.minimum(log_ratio.real, 600.0)) * np.expm1(np.minimum(doubt, 600.0))
                size = np.maximum(np.abs(kept), 1e-290)
                growth += np.log1p(off / size + 1e-15)
                total += np.log(np.where(np.abs(kept) > 1e-290, kept, 1e-290)) - log_grown
            total += 1j * (t * (below_mean - mean))
            growth += 4 * UNIT * t * (abs(below_mean) + abs(mean))
            return total, np.where(np.isfinite(total) & np.isfinite(growth), growth, math.inf)

        def log_decay(t: float) -> float:
            bounds = [
                n * share * math.exp(min(beyond.log_bound(t), 0.0))
                for (n, _, beyond), share in zip(pairs, shares, strict=True)
            ]
            return math.log(math.fsum(bounds) + 1e-300) + grown - log_grown + 1e-9

        return Tilted(log_below + log_grown, error, mean, variance, nodes, log_decay)

    def _at_exactly(self, k: int, pair: tuple[int, Moment, Moment], one: _At, above: _At) -> Tilted:
        """Return the part with k outcomes beyond the floor: binomial(n, k) T^k M^(n - k)."""
        n, below, beyond = pair
        if k > n:
            return not_evaluable()
        ways = log_choose(n, k)
        log_moment = ways + k * above.log_moment + (n - k) * one.log_moment
        error = (
            k * (above.error + 4 * UNIT)
            + (n - k) * one.error
            + 8 * UNIT * (abs(ways) + abs(log_moment))
            + 2 * UNIT * k * (math.log(n) + 2)
        )

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            total, growth = powered(*_deviations(below, one.mean, t), n - k)
            more, errors = powered(*_deviations(beyond, above.mean, t), k)
            return total + more, growth + errors

        def log_decay(t: float) -> float:
            return k * min(beyond.log_bound(t), 0.0)

        return Tilted(
            log_moment,
            error,
            (n - k) * one.mean + k * above.mean,
            (n - k) * one.variance + k * above.variance,
            nodes,
            log_decay,
        )


def log_choose(n: int, k: int) -> float:
    """Return log binomial(n, k) for a small k."""
    return math.fsum(math.log((n - i) / (i + 1)) for i in range(k))


def log_beyond(count: int, odds: float, k: int) -> float:
    """Return an upper bound on the log of sum over j > k of binomial(count, j) odds^j: what is left out after k.

    At most sum over j > k of mean^j / j! with mean = count * odds <= mean^(k + 1) / (k + 1)! * exp(mean).
    """
    mean = count * odds
    return (k + 1) * math.log(mean) - math.lgamma(k + 2) + mean + 1e-12 if mean > 0 else -math.inf


def _log1p(z: ComplexArray) -> ComplexArray:
    """Return log(1 + z), accurate relative to z near 0."""
    return np.asarray(
        0.5 * np.log1p(np.maximum(z.real * (2 + z.real) + z.imag * z.imag, -1 + 1e-300))
        + 1j * np.arctan2(z.imag, 1 + z.real)
    )


def _expm1(z: ComplexArray) -> ComplexArray:
    """Return exp(z) - 1, accurate relative to z near 0."""
    half = np.sin(0.5 * z.imag)
    growth = np.expm1(z.real)
    return np.asarray(growth * np.cos(z.imag) - 2 * half * half + 1j * (growth + 1) * np.sin(z.imag))


def above(beyond: Moment) -> _At:
    """Return what lies between two edges, tilted."""
    rule = beyond.made
    weight = np.exp(rule.log_weight - rule.log_total)
    mean = float(weight @ rule.loss)
    error = UNIT * (float(weight @ (rule.weight_error + abs(beyond.alpha) * rule.loss_error)) + 60)
    error += UNIT * 4 * abs(rule.log_total) + 2 * math.exp(min(rule.log_wrong, 300.0))
    return _At(rule.log_total, error, mean, float(weight @ (rule.loss - mean) ** 2))


def _blend(
    counts: list[int], ones: list[_At], above: list[_At], shares: list[float], grown: float
) -> tuple[float, float]:
    """Return mean and variance of the part: they steer, nothing rests on them."""
    mean = math.fsum(n * one.mean for n, one in zip(counts, ones, strict=True))
    variance = math.fsum(n * one.variance for n, one in zip(counts, ones, strict=True))
    shift = spread = 0.0
    for n, one, a, share in zip(counts, ones, above, shares, strict=True):
        gap = a.mean - one.mean
        shift += n * share * gap
        spread += n * share * (a.variance - one.variance + (1 - share) * gap * gap)
    # The law below the edges has mean `mean + shift` and variance `variance + spread`; that below the floors, which is
    # taken away, weighs exp(-grown) of it.
    odds = 1 / math.expm1(grown) if grown < 600 else 0.0
    found = variance + spread + odds * spread - odds * (1 + odds) * shift * shift
    return mean + shift * (1 + odds), max(found, 1e-2 * variance, 1e-300)


def _deviations(moment: Moment, centre: float, t: FloatArray) -> tuple[ComplexArray, FloatArray]:
    value = np.zeros(len(t), dtype=np.complex128)
    wrong = np.full(len(t), math.inf)
    end = 0
    for block in _blocks(t):
        begin, end = end, end + len(block)
        rule: Rule | None = moment.rule_for(float(block[-1]))
        if rule is not None:
            value[begin:end], wrong[begin:end] = characteristic(rule, centre, block)
    return value, wrong


def _cost(moment: Moment, t: FloatArray) -> float:
    return math.fsum(len(block) * moment.size(float(block[-1])) for block in _blocks(t)) / _CHEAP


def _layers(moment: Moment) -> Callable[[float], float]:
    """Return t -> log of a bound on the characteristic function beyond t, from the density of log D."""
    law, alpha, rule = moment.law, moment.alpha, moment.made
    s = law.noise_multiplier
    low, high = float(rule.u[0]), float(rule.u[-1])
    step = min(0.06, 0.5 * float(rule.u[1] - rule.u[0]))
    u = np.linspace(low, high, min(4000, max(64, int((high - low) / step))))
    log_ratio, sigmoid, error = law.logs(u)
    # log of the density of log D: exponent - log(d log D / du). Its second derivative in u is
    # ((1 + alpha) sigmoid (1 - sigmoid) / s^2 - 1), less for a window, so within a cell it lies above the lower end
    # minus this slack.
    cell = float(u[1] - u[0])
    bend = np.maximum(0.0, (1 + alpha) * np.minimum(sigmoid[1:], 0.25) / (s * s) - 1) * cell**2 / 8
    with np.errstate(divide="ignore"):
        log_density = -0.5 * u * u + alpha * log_ratio + moment.window.log(u) - np.log(sigmoid / s)
        log_density -= 0.5 * math.log(2 * math.pi) + rule.log_total
    lower = np.minimum(log_density[1:], log_density[:-1]) - bend - 1e-9
    lower -= UNIT * abs(alpha) * np.maximum(error[1:], error[:-1])
    # Cells so narrow in log D that rounding could reorder their ends carry nothing.
    narrow = np.diff(log_ratio) <= 1e3 * UNIT * (error[1:] + error[:-1])
    lower = np.where(narrow | ~np.isfinite(lower), -np.inf, lower)
    return layers_of_density(np.maximum.accumulate(log_ratio), lower, 2 * UNIT * error)
