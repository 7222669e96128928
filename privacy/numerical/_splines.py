"""Integrals of exponentials over sums of uniform numbers, from a point upwards: sums of positive numbers only.

N_k        density of the sum of k uniform numbers on [0, 1]: a polynomial of degree k - 1 between integers
f          in [0, 1), the fractional part of all points z = i + f
sinh part  int over x > z of 2 sinh(e (x - z)) N_k(x) dx, the decaying part with exp(-e (x - z)); both are given times
           exp(-e (k - z))

N_k(x) = (x N_(k-1)(x) + (k - x) N_(k-1)(x - 1)) / (k - 1) adds no negative numbers within [0, k]. The interval [z, k]
is cut at the integers and at z + integers. On a piece of length u <= 1 a Gauss-Legendre rule of q nodes integrates N_k
times any polynomial of degree 2 q - k exactly, and exp(-e u) and sinh(e u) / u are close to such polynomials: relative
to their least values their Chebyshev series end with at most 2 exp(e / 2) sum over m > d of I_m(e / 2). As N_k, the
weights and the kernels are positive, that is a relative error of the integral.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from privacy.numerical._terms import UNIT, FloatArray

# Relative error bounds of the nodes' distances from both ends, and of the weights: twice what tests allow.
_NODE_ERROR, _WEIGHT_ERROR = 4 * UNIT, 1.6e-14


@functools.lru_cache(maxsize=16)
def _rule(size: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the nodes of a Gauss-Legendre rule on [0, 1], their distances from 1, and the weights.

    Newton's method in the angle, x = cos(angle): with y = 1 - x = 2 sin(angle / 2)^2 the steps of the recursion
    (k + 1) (P_(k+1) - P_k) = k (P_k - P_(k-1)) - (2 k + 1) y P_k keep their digits close to x = 1.
    """
    half = (size + 1) // 2
    angle = (np.arange(1, half + 1) - 0.25) * math.pi / (size + 0.5)
    for _ in range(6):
        y, sine = 2 * np.sin(0.5 * angle) ** 2, np.sin(angle)
        value, step = np.ones_like(y), np.zeros_like(y)
        for k in range(size):
            step = (k * step - (2 * k + 1) * y * value) / (k + 1)
            value = value + step
        # dP/d angle = -size (P_(size-1) - x P_size) / sin(angle).
        slope = -size * (y * value - step) / sine
        angle = angle - value / slope
    near, far, weight = np.sin(0.5 * angle) ** 2, np.cos(0.5 * angle) ** 2, 1 / slope**2
    mirrored = slice(size - half - 1, None, -1) if size > half else slice(0, 0)
    left = np.concatenate((near, far[mirrored]))
    return left, np.concatenate((far, near[mirrored])), np.concatenate((weight, weight[mirrored]))


def degree(e: float) -> int:
    """Return d so that exp(-e u) and sinh(e u) / u on [0, 1] are within 1e-17 of polynomials of degree d."""
    # I_m(x) <= (x / 2)^m / m! exp(x^2 / (4 (m + 1))), falling by a factor of two at least once m > x.
    m = max(4, math.ceil(0.5 * e) + 2)
    while 0.5 * e + m * math.log(max(0.25 * e, 1e-30)) - math.lgamma(m + 1) + e * e / (16 * (m + 1)) > -41.0:
        m += 1
    return m


def relative_error(most: int, e: float) -> float:
    """Return a relative error bound of the integrals for up to `most` uniform numbers."""
    # Per step of the recursion ten roundings, and twice that of a node and of its place; kernel, shifts; weights.
    return UNIT * (20 * most + 8 * e + 64) + 2 * most * (_NODE_ERROR + 2 * UNIT) + _WEIGHT_ERROR


def partial_integrals(most: int, f: float, rest: float, e: float) -> tuple[FloatArray, FloatArray]:
    """Return the sinh and the decaying part for k = 0 .. most (rows) at z = i + f, i = 0 .. most - 1 (columns).

    rest   1 - f, given apart: both may be small. Row k is 0 from column k on.
    """
    size = 8 * math.ceil((most + degree(e) + 2) / 16)
    left, right, weight = _rule(size)
    # Positions within a unit interval and their distances from its end: nodes on [0, f], then on [f, 1].
    position = np.concatenate((f * left, f + rest * left))
    distance = np.concatenate((rest + f * right, rest * right))
    # How far above z: the nodes above f in the same unit interval, those below f in the next.
    above = np.concatenate((rest + f * left, rest * left))
    below_one = np.concatenate((f * right, f + rest * right))
    measure = np.concatenate((f * weight, rest * weight)) * np.exp(-e * below_one)
    kernels = np.stack((measure * -np.expm1(-2 * e * above), measure * np.exp(-2 * e * above)), axis=1)
    index = np.arange(most, dtype=np.float64)[:, None]
    x, y = index + position, index + distance
    density = np.zeros((most, 2 * size))
    lower, upper = np.zeros((most + 1, most, 2)), np.zeros((most + 1, most, 2))
    for k in range(1, most + 1):
        if k == 1:
            density[0] = 1.0
        else:
            grown = x[:k] * density[:k]
            # k - x at row i is (k - 1 - i) + distance.
            grown[1:] += y[: k - 1][::-1] * density[: k - 1]
            density[:k] = grown / (k - 1)
        lower[k, :k] = density[:k, :size] @ kernels[:size]
        upper[k, :k] = density[:k, size:] @ kernels[size:]
    # One unit interval above z, times exp(-e).
    near = upper
    near[:, :-1] += lower[:, 1:]
    # What lies beyond it, from the top down; the scale of row k, column i is exp(-e (k - i - f)).
    rows = np.arange(most + 1, dtype=np.float64)[:, None]
    scale = np.exp(-e * np.maximum(rows - 1 - np.arange(most) - f, -1.0))
    decay, mix = math.exp(-2 * e), -math.expm1(-2 * e)
    rising, falling = near[:, :, 0] * scale, near[:, :, 1] * scale
    for i in range(most - 2, -1, -1):
        # sinh(x + e) = exp(e) sinh x + exp(-x) sinh e.
        rising[:, i] += rising[:, i + 1] + mix * falling[:, i + 1]
        falling[:, i] += decay * falling[:, i + 1]
    return rising, falling
