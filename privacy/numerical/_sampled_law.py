"""One Poisson-sampled Gaussian release and its outcomes.

q, s     sampling rate and noise multiplier; x a value of the noise, u = x / s
A, B     1 - q and q exp(u / s - 1 / 2 s^2); D = A + B, the ratio of (1 - q) N(0, 1) + q N(1/s, 1) to N(0, 1)
sigmoid  B / D
remove   P the mixture, Q = N(0, 1), L = log D:   E_P[exp(z L)] = E_Q[D^(1 + z)]
add      P = N(0, 1), Q the mixture, L = -log D:  E_P[exp(z L)] = E_P[D^(-z)]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from privacy.numerical._terms import FloatArray
from privacy.numerical._window import Edge, Window

LOG_ROOT = 0.5 * math.log(2 * math.pi)


def log_normal_tail(x: float) -> float:
    """Return log P(N(0, 1) > x), for large x an upper bound that is close."""
    if x < 25:
        return math.log(0.5 * math.erfc(x * math.sqrt(0.5)))
    return -0.5 * x * x - math.log(x) - LOG_ROOT


def _log_tails(x: FloatArray) -> FloatArray:
    """Return about log P(N(0, 1) > x) for each x."""
    near = np.minimum(x, 25.0) * math.sqrt(0.5)
    tail = np.log(0.5 * np.fromiter(map(math.erfc, near.tolist()), dtype=np.float64, count=len(x)))
    far = np.maximum(x, 25.0)
    return np.where(x < 25, tail, -0.5 * far * far - np.log(far) - LOG_ROOT)


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
        sigmoid = np.where(large, 1 / (1 + far), q * np.exp(np.minimum(w, 30.0)) / (1 + excess))
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

    def log_dropped_at(self, u: FloatArray) -> FloatArray:
        """Return about the log of the probability, under P, that one outcome lies beyond each u."""
        return np.asarray(
            np.logaddexp(
                math.log1p(-self.sampling_rate) + _log_tails(u),
                math.log(self.sampling_rate) + _log_tails(u - 1 / self.noise_multiplier),
            )
        )

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
        growth = max(float(sigmoid[0]) / (self.noise_multiplier * max(abs(float(log_ratio[0])), 1e-300)), 1e-3)
        # A tilt that matters makes the loss grow about as fast as the density falls.
        steep = max(u - float(sigmoid[0]) / self.noise_multiplier, 1.0)
        return Edge(u, min(0.5, 3 / steep, max(0.02, 0.09 / growth)))


@lru_cache(maxsize=512)
def loss_at(law: SampledLaw, u: float) -> tuple[float, float]:
    """Return log D and the sigmoid at one outcome."""
    log_ratio, sigmoid, _ = law.logs(np.array([u]))
    return float(log_ratio[0]), float(sigmoid[0])


@dataclass(frozen=True, slots=True)
class Grid:
    """A law and a window on equally spaced outcomes.

    base, envelope   log of chi dN(0, 1), and of a bound on it
    """

    u: FloatArray
    step: float
    log_ratio: FloatArray
    sigmoid: FloatArray
    ratio_error: FloatArray
    base: FloatArray
    envelope: FloatArray
    weight_error: FloatArray


@lru_cache(maxsize=64)
def grid_of(law: SampledLaw, window: Window, low: float, high: float, step: float) -> Grid:
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
    normal = -0.5 * u * u - LOG_ROOT
    found = Grid(
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
