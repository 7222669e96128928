"""Running integrals of the hyperbolic sine, summed over the outcomes above a point: all in positive numbers.

T_k(x)   sum over m > k, m - k odd, of x^m / m!: T_-1 = cosh, T_0 = sinh, T_k' = T_(k - 1) and T_k(0) = 0 for k >= 0
V_k(J)   sum over outcomes i >= J, in order of their losses, of b_i exp(-a d) T_k(d / 2), d = l_i - l_J

Taylor's series moves all of them by any x > 0:

    T_k(x + y) = sum over 0 <= m <= k of x^m / m! T_(k - m)(y) + T_k(x) cosh y + T_(k + 1)(x) sinh y.
"""

from __future__ import annotations

import math

import numpy as np

from privacy.numerical._terms import FloatArray


def tails(x: FloatArray, c: float, order: int) -> FloatArray:
    """Return exp(-(2 c + 1) x) T_k(x) for k = -1 .. order (rows), x >= 0.

    Up to 2 from the power series, where its summands fall quickly; beyond from cosh or sinh, where little cancels.
    """
    out = np.empty((order + 2, len(x)))
    small = x < 2.0
    if small.any():
        out[:, small] = _near(x[small], order) * np.exp(-(2 * c + 1) * x[small])
    if not small.all():
        out[:, ~small] = _far(x[~small], c, order)
    return out


def _near(x: FloatArray, order: int) -> FloatArray:
    out = np.empty((order + 2, len(x)))
    square = x * x
    powers = _powers(x, order + 1)
    most = float(square.max())
    for k in range(order, -2, -1):
        if k <= order - 2:
            out[k + 1] = out[k + 3] + powers[k + 1]
            continue
        # As many summands as the largest x needs for the last to be below 1e-18 of the first.
        last, size = k + 2, 1.0
        while size > 1e-18:
            size *= most / (last * (last + 1))
            last += 2
        total = np.zeros_like(x)
        for m in range(last, k, -2):
            total = (1 + total) * square / (m * (m + 1))
        out[k + 1] = (1 + total) * powers[k + 1]
    return out


def _far(x: FloatArray, c: float, order: int) -> FloatArray:
    slow, fast, damped = 0.5 * np.exp(-2 * c * x), np.exp(-2 * x), np.exp(-(2 * c + 1) * x)
    out = np.empty((order + 2, len(x)))
    for k in range(-1, order + 1):
        summands = (x**m / math.factorial(m) for m in range((k + 1) % 2, k + 1, 2))
        out[k + 1] = slow * (1 + fast if k % 2 else 1 - fast) - damped * sum(summands, np.zeros_like(x))
    return out


def _powers(x: FloatArray, most: int) -> list[FloatArray]:
    powers = [np.ones_like(x)]
    for m in range(1, most + 1):
        powers.append(powers[-1] * x / m)
    return powers


def moved(sums: FloatArray, gap: FloatArray, c: float) -> FloatArray:
    """Return V_-1 .. V_K (rows) seen from `gap` below: with d + gap for d."""
    order = len(sums) - 2
    x = 0.5 * gap
    by = tails(x, c, order + 1)
    powers = [
        power * one for power, one in zip(_powers(x, order), [np.exp(-(2 * c + 1) * x)] * (order + 1), strict=True)
    ]
    out = np.empty_like(sums)
    for k in range(-1, order + 1):
        total = by[k + 1] * sums[0] + by[k + 2] * sums[1]
        for m in range(k + 1):
            total += powers[m] * sums[k - m + 1]
        out[k + 1] = total
    return out


def suffix_sums(loss: FloatArray, weight: FloatArray, c: float, order: int) -> FloatArray:
    """Return V_k(J) for k = -1 .. order (rows) and all J, from increasing losses: runs of 1, 2, 4 ... outcomes."""
    sums = np.zeros((order + 2, len(loss)))
    sums[0] = weight
    run = 1
    while run < len(loss):
        sums[:, :-run] += moved(sums[:, run:], loss[run:] - loss[:-run], c)
        run *= 2
    return sums
