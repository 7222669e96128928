"""Exact composition: the privacy curve as an integral along a vertical line in the complex plane, with its error bound.

L          sum of independent privacy losses, K(z) = log E_P[exp(z L)]
delta(e)   E_P[(1 - exp(e - L))+] = (1 / 2 pi i) int over Re z = c > 0 of exp(K(z) - z e) / (z (1 + z)) dz
1 - delta  the same integral, negated, for -1 < c < 0 (the residue at 0 is 1)

The trapezoidal rule with step h = 2 pi / period has an error with a meaning (Poisson summation): it yields

    sum over integers m of exp(c m period) delta(e + m period),

so it never falls below the value, and delta(e + y) <= C(a) exp(K(a) - a (e + y)) for every a bounds the excess, with
C(a) = a^a / (1 + a)^(1 + a) for a > 0 and 1 for a in [-1, 0]. Losses on a lattice need finitely many nodes; their
kernel is a geometric sum. docs/accounting.md has the proofs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy.numerical._terms import UNIT, ComplexArray, FloatArray, Outline, Outlined, Term, Tilted

# What aliasing and truncation may add, relative to the value: below the rounding of what is summed.
_LOG_TOLERANCE = math.log(3e-15)
_MOST_NODES = 60_000
_MOST_SINES = 1_000_000
# Below it 1 / c is too large for doubles, and 0 bounds the logarithm of Chernoff's factor well enough.
_LEAST_TILT = 1e-300

# Where the upper and the lower side of the aliasing are bounded: multiples of c.
_ABOVE = (1.08, 1.25, 1.6, 2.2, 4.0)
_BELOW = (0.85, 0.65, 0.4)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Logarithms of a lower and an upper bound, and of the value between them."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Joint:
    """All terms tilted by one c."""

    c: float
    log_moment: float
    error: float
    mean: float
    variance: float
    parts: tuple[Tilted, ...]

    def log_decay(self, t: float) -> float:
        """Return the log of a bound on the characteristic function beyond t."""
        # A bound that holds within one period only says nothing about what comes after it.
        return math.fsum(part.log_decay(t) for part in self.parts if not part.periodic)

    def log_decay_in_period(self, t: float) -> float:
        """Return the same from t up to half a period of the only part."""
        return self.parts[0].log_decay(t)


def joint(terms: Sequence[Term], c: float) -> Joint:
    """Return the sum of the terms, tilted by c."""
    parts = tuple(term.at(c) for term in terms)
    moments = [part.log_moment for part in parts]
    moment = math.fsum(moments) if all(map(math.isfinite, moments)) else math.inf
    return Joint(
        c,
        moment,
        math.fsum(part.error for part in parts) + 2 * UNIT * abs(moment),
        math.fsum(part.mean for part in parts) if math.isfinite(moment) else math.inf,
        math.fsum(part.variance for part in parts) if math.isfinite(moment) else math.inf,
        parts,
    )


def outline(terms: Sequence[Term], c: FloatArray) -> Outline:
    """Return the moments of the sum of the terms at many tilts: upper bounds, and what steers, without the lines."""
    total = np.zeros((4, len(c)))
    for term in terms:
        if isinstance(term, Outlined):
            one = term.outline(c)
            total += (one.log_moment, one.error, one.mean, one.variance)
        else:
            parts = [term.at(float(each)) for each in c]
            total += np.array([(at.log_moment, at.error, at.mean, at.variance) for at in parts]).T
    total = np.where(np.isfinite(total[0]) & np.isfinite(total).all(axis=0), total, math.inf)
    total[1] += 2 * (1 + len(terms)) * UNIT * np.abs(total[0])
    return Outline(*total)


def sketch(terms: Sequence[Term], c: float) -> Joint:
    """Return what steers at one tilt: `joint` without the parts, and with an error that is small, not least."""
    found = outline(terms, np.array([c]))
    moment, error = float(found.log_moment[0]), float(found.error[0])
    return Joint(c, moment, error, float(found.mean[0]), float(found.variance[0]), ())


def log_chernoff_factor(a: float) -> float:
    """Return log sup over x of exp(-a x) (1 - exp(-x))+ for a > 0; 0 for a in [-1, 0], where it bounds min(1, e^-x).

    Rounded up: a^a / (1 + a)^(1 + a), written so that nothing cancels.
    """
    return 0.0 if a <= _LEAST_TILT else (1 - 4 * UNIT) * (-math.log1p(a) - a * math.log1p(1 / a))


def log_chernoff_bound(c: float, log_moment: float, epsilon: float) -> float:
    """Return the upper bound log C(c) + K(c) - c epsilon on log delta from an upper bound on K(c); rounded up."""
    factor, product = log_chernoff_factor(c), c * epsilon
    bound = factor + log_moment - product
    return bound + 4 * UNIT * (abs(factor) + abs(log_moment) + abs(product)) if math.isfinite(bound) else math.inf


@dataclass(frozen=True, slots=True)
class Contour:
    """The integrand on one line, for every epsilon: build once, evaluate often.

    Raises nothing: a line that does not fit an epsilon gives wide bounds.

    period, step   2 pi / step = period
    t              nodes, from 0
    log_phi        log of the centred characteristic function there; `growth` bounds its relative error
    log_tail       log of a bound on what lies beyond the last node, without the factor exp(K(c) - c epsilon)
    above, below   (a, upper bound on K(a)) for the two sides of the aliasing
    """

    at: Joint
    period: float
    step: float
    t: FloatArray
    log_phi: ComplexArray
    growth: FloatArray
    log_tail: float
    above: tuple[tuple[float, float], ...]
    below: tuple[tuple[float, float], ...]
    lattice: tuple[float, float] | None

    @property
    def complement(self) -> bool:
        """Whether the line yields 1 - delta instead of delta."""
        return self.at.c < 0

    def _log_kernel(self, epsilon: float) -> tuple[ComplexArray, FloatArray, ComplexArray, float, float]:
        """Return the kernel's log at the nodes, its error, the log's slope in epsilon with that of exp(-z epsilon),
        the log of the kernel's bound at the tail, and the log of the factor that the first of these lacks.
        """
        z: ComplexArray = np.asarray(self.at.c + 1j * self.t, dtype=np.complex128)
        if self.lattice is None:
            minus = -1 if self.complement else 1
            kernel: ComplexArray = -np.log(minus * z * (1 + z))
            return kernel, np.full(len(self.t), 8 * UNIT), np.negative(z), 0.0, math.log(self.step / math.pi)
        offset, spacing = self.lattice
        # The first value of the lattice at or above epsilon; the formula is continuous across it.
        gap = (offset - epsilon) % spacing
        slip = 4 * UNIT * (abs(offset) + abs(epsilon) + spacing)
        first, second = -_expm1(-z * spacing), -_expm1(-(1 + z) * spacing)
        # Without exp(-c gap), which may be too small for doubles: it joins the constant factor.
        turn = np.exp(-1j * (self.t * gap))
        one, two = turn / first, turn * math.exp(-gap) / second
        value = one - two
        size = np.abs(value)
        wrong = (np.abs(one) + np.abs(two)) * (16 * UNIT + 4 * UNIT * np.abs(z * gap)) + (
            np.abs(z * one) + np.abs((1 + z) * two)
        ) * slip
        c = self.at.c
        bound = 1 / -math.expm1(-c * spacing) + 1 / -math.expm1(-(1 + c) * spacing)
        # A value of nothing is wrong by `wrong`, which stands in for it.
        log_value = np.log(np.where(size > 0, value, wrong))
        error = np.log1p(np.where(size > 0, wrong / np.where(size > 0, size, 1.0), 2.0))
        slope = -two / np.where(size > 0, value, 1.0)
        log_factor = math.log(self.step * spacing / math.pi) - c * gap
        return log_value, error, slope, math.log(bound) - c * gap, log_factor

    def evaluate(self, epsilon: float) -> tuple[Bounds, float]:
        """Return bounds on log delta(epsilon), or on log(1 - delta), and the slope of the logarithm in epsilon."""
        at = self.at
        kernel, kernel_error, log_slope, log_kernel_bound, log_factor = self._log_kernel(epsilon)
        scale = at.log_moment - at.c * epsilon
        shift = at.mean - epsilon
        log_integrand = self.log_phi + 1j * (self.t * shift) + kernel
        weight = np.exp(log_integrand)
        weight[0] *= 0.5
        values = weight.real
        total = float(values.sum())
        growth = self.growth + kernel_error + self.t * (4 * UNIT * (abs(at.mean) + abs(epsilon))) + 8 * UNIT
        # |integrand| (exp(growth) - 1), without overflow where the integrand is nothing.
        size = np.abs(weight)
        small = growth < 1
        wrong = float(np.sum(size * np.where(small, np.expm1(np.minimum(growth, 1.0)), 0.0)))
        if not small.all():
            wrong += float(np.sum(np.exp(np.minimum(log_integrand.real + growth, 700.0))[~small]))
        wrong += UNIT * 40 * float(size.sum())
        slope = float((weight * log_slope).real.sum()) / total if total > 0 else -at.c
        log_scale = scale + log_factor
        tail = math.exp(min(self.log_tail + log_kernel_bound - log_factor, 700.0))
        rounding = 8 * UNIT * (1 + abs(at.log_moment) + abs(at.c * epsilon) + abs(log_factor))
        slip = math.expm1(min(at.error + rounding, 1.0))
        if not (slip < 1 and total > 0 and math.isfinite(total) and math.isfinite(wrong)):
            return Bounds(-math.inf, -math.inf, math.inf), slope
        high = (total + wrong + tail) * (1 + 1.01 * slip)
        low = (total - wrong - tail) / (1 + 1.01 * slip) - self._aliasing(epsilon, log_scale)
        return (
            Bounds(
                log_scale + math.log(low) if low > 0 else -math.inf,
                log_scale + math.log(total),
                log_scale + math.log(high),
            ),
            slope,
        )

    def _aliasing(self, epsilon: float, log_scale: float) -> float:
        # Bounds on the two sides of the sum over m != 0, relative to exp(log_scale).
        c = self.at.c
        total = 0.0
        for side in (self.above, self.below):
            best = math.inf
            for a, log_moment in side:
                log_x = -abs(a - c) * self.period
                if log_x < -1e-3:
                    exponent = log_chernoff_bound(a, log_moment, epsilon) + log_x - log_scale
                    exponent += self.at.error + 4 * UNIT * (abs(log_x) + abs(log_scale))
                    best = min(best, exponent - math.log(-math.expm1(log_x)))
            total += math.exp(min(best, 700.0))
        return total * (1 + 1e-6)


def _expm1(z: ComplexArray) -> ComplexArray:
    half = np.sin(0.5 * z.imag)
    growth = np.expm1(z.real)
    return np.asarray(growth * np.cos(z.imag) - 2 * half * half + 1j * (growth + 1) * np.sin(z.imag))


def build(
    terms: Sequence[Term],
    at: Joint,
    epsilon: float,
    *,
    log_target: float,
    most_nodes: int = _MOST_NODES,
    most_cost: float = _MOST_SINES,
    log_tolerance: float = _LOG_TOLERANCE,
) -> Contour | None:
    """Return the contour through c with as many nodes as the bounds ask for at epsilon, or None if that is too many.

    log_target   log of the value that is expected: aliasing and truncation stay below it times the tolerance
    """
    c = at.c
    lattice = common_lattice(terms)
    if lattice is not None and c < 0:
        return None
    if c < 0:
        above = [c * (1 - f) for f in (0.3, 0.6, 1.0)]
        below = [c + (-1 - c) * f for f in (0.3, 0.6, 1.0)]
    else:
        above = [c * f for f in _ABOVE]
        below = [c * f for f in _BELOW]
    goal = log_target + log_tolerance
    sides: list[tuple[tuple[float, float], ...]] = []
    period = 0.0
    points_of_both = np.array([*above, *below])
    upper = outline(terms, points_of_both)
    log_upper = dict(zip(points_of_both.tolist(), (upper.log_moment + upper.error).tolist(), strict=True))
    for points in (above, below):
        known: list[tuple[float, float]] = []
        best = math.inf
        if points is below and c > 0:
            # delta never exceeds the mass of the law, which for a part is less than 1.
            whole = sketch(terms, 0.0)
            log_mass = min(0.0, whole.log_moment + whole.error) if math.isfinite(whole.log_moment) else 0.0
            known.append((0.0, log_mass))
            best = (log_mass - goal + math.log(2)) / c
        for a in points:
            log_moment = log_upper[float(a)]
            if not math.isfinite(log_moment):
                continue
            known.append((a, log_moment))
            best = min(best, (log_chernoff_factor(a) + log_moment - a * epsilon - goal + math.log(2)) / abs(a - c))
        if not math.isfinite(best):
            return None
        period = max(period, best)
        sides.append(tuple(known))
    period = max(period, 1e-3 / max(abs(c), 1.0))
    if lattice is not None:
        # An odd number of values in a period: no node falls on half a period.
        spacing = lattice[1]
        count = 2 * math.ceil(0.5 * period / spacing) + 1
        period, last = count * spacing, count // 2
    else:
        last = most_nodes
    step = 2 * math.pi / period
    log_scale = at.log_moment - c * epsilon
    end, log_tail = _truncate(at, step, last, lattice, log_scale, goal)
    if end > most_nodes:
        return None
    t: FloatArray = np.arange(end + 1, dtype=np.float64) * np.float64(step)
    if math.fsum(term.cost(c, t) for term in terms) > most_cost:
        return None
    log_phi = np.zeros(len(t), dtype=np.complex128)
    growth = np.zeros(len(t))
    for part in at.parts:
        logs, errors = part.nodes(t)
        log_phi += logs
        growth += errors
    return Contour(at, period, step, t, log_phi, growth, log_tail, sides[0], sides[1], lattice)


def _truncate(
    at: Joint, step: float, last: int, lattice: tuple[float, float] | None, log_scale: float, goal: float
) -> tuple[int, float]:
    """Return the last node and the log of a bound on what lies beyond, divided by exp(log_scale) and the kernel."""
    if lattice is None:

        def log_rest(k: int) -> float:
            # |1 / (z (1 + z))| <= 1 / t^2, and the sum beyond T is at most h / T^2 + 1 / T.
            t = k * step
            return at.log_decay(t + step) + math.log((1 + step / t) / (math.pi * t))

        bound = 0.0
    else:
        c, spacing = at.c, lattice[1]
        bound = math.log(1 / -math.expm1(-c * spacing) + 1 / -math.expm1(-(1 + c) * spacing))

        def log_rest(k: int) -> float:
            if k >= last:
                return -math.inf
            return at.log_decay_in_period((k + 1) * step) + math.log((last - k) * step * spacing / math.pi)

    # A bound that does not fall is not asked for often: double, then halve.
    high = 16
    while high < last and log_scale + log_rest(high) + bound > goal:
        high *= 2
    if high >= last:
        if lattice is None:
            return last + 1, math.inf
        return last, log_rest(last)
    low = high // 2
    while high - low > max(1, low // 32):
        middle = (low + high) // 2
        low, high = (middle, high) if log_scale + log_rest(middle) + bound > goal else (low, middle)
    return high, log_rest(high)


def common_lattice(terms: Sequence[Term]) -> tuple[float, float] | None:
    """Return (offset, spacing) of the sum if it lies on a lattice: only for a single term, which is exact."""
    return terms[0].lattice if len(terms) == 1 else None
