"""Tails of the normal and of Student's t distribution, for tests and intervals of coefficients.

The incomplete beta function is a continued fraction, evaluated by Lentz's method (Press et al. 2007, Numerical Recipes,
section 6.4): relative error below 1e-12 wherever a p-value is not tiny.
"""

from __future__ import annotations

import math

_SMALLEST = 1e-300
_ENOUGH = 1e-15


def two_sided(deviate: float, degrees: float | None = None) -> float:
    """Return the probability of a deviate at least so far from 0: normal, or Student's t with these degrees of freedom.

    Examples
    --------
    >>> round(two_sided(1.959963984540054), 12), round(two_sided(2.0, 10), 6)
    (0.05, 0.073388)
    """
    if degrees is None:
        return math.erfc(abs(deviate) / math.sqrt(2))
    if math.isinf(deviate):
        return 0.0
    return _incomplete_beta(degrees / (degrees + deviate * deviate), degrees / 2, 0.5)


def reach_of_95_percent(degrees: float | None = None) -> float:
    """Return the deviate that is exceeded, on either side, with probability 5 %.

    Examples
    --------
    >>> round(reach_of_95_percent(), 6), round(reach_of_95_percent(10), 6)
    (1.959964, 2.228139)
    """
    low, high = 1.9, 13.0
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if two_sided(middle, degrees) > 0.05:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(log_front)
    # The fraction converges fast on this side of the mean, and the other side is its complement.
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    out = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / _away(1 + term * d), _away(1 + term / c)
            change = d * c
            out *= change
        if abs(change - 1) < _ENOUGH:
            break
    return out


def _away(value: float) -> float:
    return value if abs(value) > _SMALLEST else _SMALLEST
