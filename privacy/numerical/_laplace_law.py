"""The loss of one Laplace release, tilted: moments to a few roundings, for tiny and for huge epsilon.

e    epsilon of the release: under P the loss is e with probability 1/2 and -e with exp(-e) / 2, and has the density
     exp((l - e) / 2) / 4 between
c    tilt >= 0;  a = c + 1/2
The tilted law is symmetric up to the factor exp(a l): atoms at +-e, and between them exp(a l) on a uniform law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def log_growth(x: float) -> float:
    """Return log((exp(x) - 1) / x), x > 0: the log of the mean of exp(x U), U uniform on [0, 1]."""
    if x > 1:
        return x + math.log1p(-math.exp(-x)) - math.log(x)
    # x / 2 + log(sinh(x / 2) / (x / 2)), relatively accurate down to 0.
    square, term, total = 0.25 * x * x, 1.0, 0.0
    for m in range(1, 12):
        term *= square / (2 * m * (2 * m + 1))
        total += term
    return 0.5 * x + math.log1p(total)


def laplace_moment(e: float, c: float) -> tuple[float, float]:
    """Return K(c), c >= 0, and a bound on its error in units of 2^-52.

    exp(K(c)) - 1 = exp(-e / 2) (2 sinh((1 + c) e / 2) sinh(c e / 2) + (e / 2) (s(a e) - s(e / 2))), s(x) = sinh(x) / x:
    positive numbers, the last difference as a power series. For larger e
    exp(K(c)) = exp(c e) ((1 + c) + c exp(-(1 + 2 c) e)) / (1 + 2 c) loses nothing.
    """
    if e >= 2 or c * e >= 2:
        value = c * e + math.log1p((c * math.exp(-min((1 + 2 * c) * e, 745.0)) - c) / (1 + 2 * c))
        return value, 8 * c * e + 8
    x, y = ((c + 0.5) * e) ** 2, (0.5 * e) ** 2
    gap = c * (1 + c) * e * e
    difference, power, factorial, total = 0.0, 1.0, 1.0, 0.0
    for m in range(1, 24):
        # x^m - y^m from x^(m-1) - y^(m-1).
        difference, power = x * difference + power * gap, power * y
        factorial *= 2 * m * (2 * m + 1)
        total += difference / factorial
    grown = math.exp(-0.5 * e) * (2 * math.sinh(0.5 * (1 + c) * e) * math.sinh(0.5 * c * e) + 0.5 * e * total)
    value = math.log1p(grown)
    return value, 24 * value


@dataclass(frozen=True, slots=True)
class TiltedLaplace:
    """Shares of the three parts of the tilted loss, relatively accurate, and its mean and variance, approximate."""

    down: float
    between: float
    up: float
    mean: float
    variance: float


def tilted_laplace(e: float, c: float) -> TiltedLaplace:
    """Return the tilted loss, c >= 0."""
    a = c + 0.5
    x = a * e
    tanh = math.tanh(x)
    between = tanh / (2 * a + tanh)
    ends = 2 * a / (2 * a + tanh)
    odds = math.exp(-min(2 * x, 745.0))
    up, down = ends / (1 + odds), ends * odds / (1 + odds)
    if x > 20:
        mean, variance = e - between / a, (2 * between - between * between) / (a * a)
    else:
        langevin = 1 / tanh - 1 / x if x > 0.01 else x / 3 - x**3 / 45
        relative = ends * tanh + between * langevin
        spread = ends + between * (1 - 2 * (langevin / x)) - relative * relative
        mean, variance = e * relative, e * e * spread
    return TiltedLaplace(down, between, up, mean, variance)
