"""The numerical parts of the population models: differences of the digamma function, and a root between two signs.

Source: Abramowitz, Stegun 1964, 6.3.5 (recurrence) and 6.3.18 (asymptotic series).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_LARGE: Final = 10.0
# B_2k / 2k for k = 1..7: the series' error at 10 is below its next term, 5e-17.
_SERIES: Final = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def digamma_difference(x: float, m: float) -> float:
    """Return digamma(x + m) - digamma(x) for x > 0, m >= 0, to about 1e-14 relative.

    For a whole number m it is sum_{i=0}^{m-1} 1 / (x + i). The difference is taken term by term: where x is much larger
    than m, the two digammas agree in nearly all their digits.

    Examples
    --------
    >>> round(digamma_difference(1.0, 3.0), 12)  # 1 + 1/2 + 1/3
    1.833333333333
    """
    out = 0.0
    while x < _LARGE:
        out += m / (x * (x + m))
        x += 1.0
    y = x + m
    out += math.log1p(m / x) + 0.5 * m / (x * y)
    return out + _tail(x) - _tail(y)


def _tail(x: float) -> float:
    square = 1.0 / (x * x)
    tail = 0.0
    for coefficient in reversed(_SERIES):
        tail = (tail + coefficient) * square
    return tail


def root_between(f: Callable[[float], float], low: float, high: float, *, tolerance: float = 1e-14) -> float | None:
    """Return where f crosses zero between two points of different sign, to `tolerance` times max(1, |x|).

    None where the signs are equal or f is not finite. The interval always holds the root; a step is inverse quadratic
    interpolation where three points promise that it is safe, and the middle where they do not.
    Source: Chandrupatla 1997, Advances in Engineering Software 28:145.

    Examples
    --------
    >>> round(root_between(lambda x: x * x - 2, 0.0, 2.0), 12)
    1.414213562373
    """
    # x: the last point; [x, other] holds the root; before: the point that was given up for x.
    other, x = low, high
    at_other, at_x = f(other), f(x)
    if at_other == 0.0 or at_x == 0.0:
        return other if at_other == 0.0 else x
    if not (math.isfinite(at_other) and math.isfinite(at_x)) or (at_other > 0) == (at_x > 0):
        return None
    part = 0.5
    while True:
        new = x + part * (other - x)
        at_new = f(new)
        if not math.isfinite(at_new):
            return None
        if (at_new > 0) == (at_x > 0):
            before, at_before = x, at_x
        else:
            before, at_before, other, at_other = other, at_other, x, at_x
        x, at_x = new, at_new
        best = x if abs(at_x) <= abs(at_other) else other
        least_part = 0.5 * tolerance * max(1.0, abs(best)) / abs(other - x)
        if at_x == 0.0 or least_part >= 0.5:
            return best
        part = _next_part((x, at_x), (other, at_other), (before, at_before))
        part = min(max(part, least_part), 1 - least_part)


def _next_part(last: tuple[float, float], other: tuple[float, float], before: tuple[float, float]) -> float:
    """Return how far to go from the last point towards the other end of the interval, in parts of it."""
    (x, at_x), (y, at_y), (z, at_z) = last, other, before
    along, rise = (x - y) / (z - y), (at_x - at_y) / (at_z - at_y)
    if not (rise**2 < along and (1 - rise) ** 2 < 1 - along):
        return 0.5
    return at_x / (at_y - at_x) * at_z / (at_y - at_z) + (z - x) / (y - x) * at_x / (at_z - at_x) * at_y / (at_z - at_y)
