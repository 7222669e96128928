"""The privacy loss of Poisson-sampled Laplace noise: two atoms and an analytic density between, by Gauss-Legendre.

q, e     sampling rate, and 1 / noise multiplier
l        the loss of the Laplace pair (P0, Q0), in [-e, e]; under Q0 it has atoms 1/2 at -e and exp(-e) / 2 at e, and
         the density exp(-(l + e) / 2) / 4 between
D(l)     1 - q + q exp(l), the ratio of the mixture (1 - q) Q0 + q P0 to Q0
remove   P the mixture, Q = Q0, L = log D:   E_P[exp(z L)] = E_Q0[D^(1 + z)]
add      P = Q0, Q the mixture, L = -log D:  E_P[exp(z L)] = E_Q0[D^(-z)]

A rule of N nodes integrates polynomials of degree 2 N - 1 exactly. Of a function that is at most M within the Bernstein
ellipse of parameter rho, |coefficient k of Chebyshev| <= 2 M rho^-k, and the rule errs by 4 at most on each even
Chebyshev polynomial beyond: together 8 M rho^-2N / (1 - rho^-2), times half the width of the panel. Within the ellipse
|Im l| <= r < pi, where |D^(a + it)| <= D(Re l)^a exp(|t| r), times cos(r / 2)^a for a < 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from privacy.numerical._decay import layers_of_density
from privacy.numerical._terms import UNIT, ComplexArray, FloatArray, Tilted, not_evaluable, powered

# Losses beyond this are not integrated: sampled pure DP stands in for so little noise.
MOST_EPSILON = 50.0

_NODES = 32
_MOST_PANELS = 512
_HEIGHTS = np.geomspace(0.02, 0.95 * math.pi, 24)


@lru_cache(maxsize=1)
def _legendre() -> tuple[FloatArray, FloatArray]:
    x, weight = np.polynomial.legendre.leggauss(_NODES)
    return np.asarray(x), np.asarray(weight)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Nodes of E_Q0: l, log D, the derivative of log D, and the log of the weights under Q0."""

    l: FloatArray
    log_ratio: FloatArray
    sigmoid: FloatArray
    log_weight: FloatArray


@dataclass(frozen=True, slots=True)
class SampledLaplaceTerm:
    """`count` Poisson-sampled Laplace releases that are `epsilon`-DP each without sampling, in one direction."""

    epsilon: float
    sampling_rate: float
    count: int
    direction: Literal["remove", "add"]

    @property
    def lattice(self) -> tuple[float, float] | None:
        """None: partly a density."""
        return None

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest loss of one release."""
        low, high = (float(x) for x in self._log_ratio(np.array([-self.epsilon, self.epsilon])))
        return (low, high) if self.direction == "remove" else (-high, -low)

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes at these arguments, increasing."""
        panels = self._panels(self._power(c), float(t[-1]))
        return math.inf if panels is None else float(len(t) * panels * _NODES)

    def at(self, c: float) -> Tilted:
        """Return the term tilted by c."""
        remove = self.direction == "remove"
        n, a, sign = self.count, self._power(c), (1.0, -1.0)[not remove]
        mass = 1.0 if remove else 0.0  # the power whose mean is the mass of P, which is 1
        found, base = self._panels(a, 0.0), self._panels(mass, 0.0)
        if found is None or base is None:
            return not_evaluable()
        panels = max(found, base)
        rule = self._rule(panels)
        loss = sign * rule.log_ratio
        log_tilted = rule.log_weight + a * rule.log_ratio
        peak = float(log_tilted.max())
        tilted = np.exp(log_tilted - peak)
        total = float(tilted.sum())
        moment = peak + math.log(total)
        rounding = self._rounding(rule, a)
        quadrature = math.exp(self._log_error(a, 0.0, panels)) + math.exp(
            self._log_error(mass, 0.0, panels) - min(moment, 0.0)
        )
        if moment < 1 and float(np.max(c * loss)) < 600:
            # E_P[exp(c L) - 1] by the nodes of P: what is summed vanishes with c.
            under_p = np.exp(rule.log_weight + (rule.log_ratio if remove else 0.0))
            parts = under_p * np.expm1(c * loss)
            moment = math.log1p(float(parts.sum()))
            wrong = float(
                np.sum(np.abs(parts) * rounding + under_p * np.exp(np.maximum(c * loss, 0)) * self._slip(rule, c))
            )
            error = (UNIT * wrong / math.exp(moment) + 2 * quadrature) + UNIT * abs(moment)
        else:
            error = (
                UNIT * (float(tilted @ (rounding + self._slip(rule, a))) / total + 60 + 4 * abs(peak)) + 2 * quadrature
            )
        tilted /= total
        mean = float(tilted @ loss)
        variance = float(tilted @ (loss - mean) ** 2)
        layers: list[Callable[[float], float]] = []

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            return self._characteristic(a, sign, mean, t)

        def log_decay(t: float) -> float:
            if not layers:
                layers.append(self._layers(a, peak + math.log(total)))
            return n * layers[0](t)

        return Tilted(n * moment, n * error, n * mean, n * variance, nodes, log_decay)

    def _power(self, c: float) -> float:
        return 1 + c if self.direction == "remove" else -c

    def _log_ratio(self, l: FloatArray) -> FloatArray:
        return np.asarray(np.log1p(self.sampling_rate * np.expm1(l)))

    def _rule(self, panels: int) -> _Rule:
        e = self.epsilon
        x, weight = _legendre()
        half = e / panels
        middle = half * (2 * np.arange(panels) + 1) - e
        inside = (middle[:, None] + half * x).ravel()
        l = np.concatenate(([-e], inside, [e]))
        log_ratio = self._log_ratio(l)
        log_density = -0.5 * (inside + e) + np.log(0.25 * half * np.tile(weight, panels))
        log_weight = np.concatenate(([math.log(0.5)], log_density, [-e - math.log(2)]))
        sigmoid = np.exp(math.log(self.sampling_rate) + l - log_ratio)
        return _Rule(l, log_ratio, sigmoid, log_weight)

    def _rounding(self, rule: _Rule, a: float) -> FloatArray:
        # Relative error of a weight, in units: of exponents, of the rule's own weights (1e-14 at worst), of the place.
        return np.asarray(60 + 2 * np.abs(rule.log_weight) + 2 * np.abs(a * rule.log_ratio) + 2 * np.abs(rule.l))

    def _slip(self, rule: _Rule, a: float) -> FloatArray:
        # Error of a log D, in units: of l and of the parameters, seen through the derivative, and of the logarithm.
        return np.asarray(abs(a) * (4 * np.abs(rule.l) * rule.sigmoid + 4 * np.abs(rule.log_ratio)))

    def _panels(self, a: float, frequency: float) -> int | None:
        """Return how many panels suffice for frequencies up to this one; None if they are too many."""
        panels = max(1, math.ceil(self.epsilon / 2))
        while panels <= _MOST_PANELS:
            if self._log_error(a, frequency, panels) <= -37.0 - math.log(self.count):
                return panels
            panels *= 2
        return None

    def _log_error(self, a: float, frequency: float, panels: int) -> float:
        """Return the log of a bound on the error of the rule relative to m(a), of which one atom is a lower bound."""
        low, high = (float(x) for x in self._log_ratio(np.array([-self.epsilon, self.epsilon])))
        least = max(a * low - math.log(2), a * high - self.epsilon - math.log(2))
        return self._log_quadrature(a, frequency, panels) - least

    def _log_quadrature(self, a: float, frequency: float, panels: int) -> float:
        """Return the log of a bound on the error of the rule for the integral of exp(-(l + e) / 2) D^(a + it) / 4."""
        e, r = self.epsilon, _HEIGHTS
        half = e / panels
        rho = r / half + np.sqrt((r / half) ** 2 + 1)
        reach = 0.5 * half * (rho + 1 / rho)
        middle = (half * (2 * np.arange(panels) + 1) - e)[:, None]
        with np.errstate(over="ignore"):
            left = -0.5 * (middle - reach) + a * self._log_ratio(middle - reach)
            # Convex in l for a > 0: largest at an end; for a <= 0 it falls.
            right = -0.5 * (middle + reach) + a * self._log_ratio(middle + reach) if a > 0 else left
        size = np.maximum(left, right) - 0.5 * e - math.log(4) + frequency * r + min(a, 0.0) * np.log(np.cos(0.5 * r))
        bound = np.min(size - 2 * _NODES * np.log(rho) - np.log1p(-(rho**-2.0)), axis=1) + math.log(8 * half)
        return float(np.logaddexp.reduce(bound)) + 1e-9

    def _characteristic(self, a: float, sign: float, mean: float, t: FloatArray) -> tuple[ComplexArray, FloatArray]:
        value = np.zeros(len(t), dtype=np.complex128)
        wrong = np.full(len(t), math.inf)
        end = 0
        # High frequencies need more panels: each block of arguments has its own rule.
        for block in np.split(t, [len(t) // 4, len(t) // 2]):
            begin, end = end, end + len(block)
            panels = self._panels(a, float(block[-1])) if len(block) else None
            if panels is None:
                continue
            rule = self._rule(panels)
            error = math.exp(self._log_error(a, float(block[-1]), panels))
            log_tilted = rule.log_weight + a * rule.log_ratio
            weight = np.exp(log_tilted - log_tilted.max())
            weight /= weight.sum()
            centred = sign * rule.log_ratio - mean
            half = 0.5 * np.outer(block, centred)
            sine = np.sin(half)
            deviation = -2 * (sine * sine) @ weight + 2j * ((sine * np.cos(half)) @ weight)
            rounding = self._rounding(rule, a) + self._slip(rule, a)
            size = float(weight @ (np.abs(centred) * (60 + rounding) + self._slip(rule, 1.0)))
            value[begin:end], wrong[begin:end] = powered(deviation, UNIT * block * size + 2 * error, self.count)
        return value, wrong

    def _layers(self, a: float, log_total: float) -> Callable[[float], float]:
        l = np.linspace(-self.epsilon, self.epsilon, 513)
        edges = self._log_ratio(l)
        # The density of log D: that of l over the derivative, q exp(l) / D.
        log_density = -0.5 * (l + self.epsilon) - math.log(4) + (1 + a) * edges - math.log(self.sampling_rate) - l
        # Its second derivative in l is at most (1 + a) / 4: so far it may sag between two points.
        sag = max(0.0, 1 + a) * 0.25 * float(l[1] - l[0]) ** 2 / 8
        lower = np.minimum(log_density[1:], log_density[:-1]) - sag - log_total - 1e-9
        narrow = np.diff(edges) <= 1e-9 * np.abs(edges[1:])
        return layers_of_density(np.maximum.accumulate(edges), np.where(narrow, -np.inf, lower))
