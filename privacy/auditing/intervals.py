"""Binomial probabilities and exact confidence bounds, without SciPy.

n    independent trials;  x  successes among them;  p  their unknown probability
I    the regularised incomplete beta function: P[Binomial(n, p) >= x] = I_p(x, n - x + 1)
Sources: Clopper, Pearson 1934 (bounds); Lentz 1976 (continued fraction of I); DLMF 8.17.22.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count, check_probability

FloatArray = npt.NDArray[np.float64]

# Tail probabilities are computed to a relative 1e-8 or better for a million trials (lgamma loses digits); bounds are
# solved for an error probability this much smaller, so that the rounding is on the safe side.
_LEVEL_GUARD = 1e-6
_TINY = 1e-300


def binomial_tail(n: int, x: int, p: float) -> float:
    """Return P[Binomial(n, p) >= x].

    Examples
    --------
    >>> round(binomial_tail(10, 9, 0.5), 10)  # 11 / 1024
    0.0107421875
    """
    check_count("n", n)
    if x <= 0:
        return 1.0
    if x > n or p <= 0:
        return 0.0
    if p >= 1:
        return 1.0
    return incomplete_beta(float(x), float(n - x + 1), p)


def clopper_pearson_lower(n: int, x: int, *, error: float) -> float:
    """Return a lower bound on the success probability that is wrong with probability at most `error`.

    Examples
    --------
    >>> round(clopper_pearson_lower(100, 90, error=0.025), 4)
    0.8238
    """
    check_count("n", n)
    check_probability("error", error)
    if not 0 <= x <= n:
        raise ValueError(f"x must be in [0, n], got x = {x!r} and n = {n!r}")
    if x == 0:
        return 0.0
    # The tail grows with p: the largest p at which it is still below the level.
    level = error * (1 - _LEVEL_GUARD)
    low, high = 0.0, x / n
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if binomial_tail(n, x, middle) <= level else (low, middle)
    return low


def clopper_pearson_upper(n: int, x: int, *, error: float) -> float:
    """Return an upper bound on the success probability that is wrong with probability at most `error`.

    Examples
    --------
    >>> round(clopper_pearson_upper(100, 0, error=0.05), 4)  # 1 - 0.05^(1/100)
    0.0295
    """
    # Failures are the successes of 1 - p; one unit upwards covers the subtraction.
    return min(1.0, math.nextafter(1.0 - clopper_pearson_lower(n, n - x, error=error), 2.0))


def incomplete_beta(a: float, b: float, p: float) -> float:
    """Return the regularised incomplete beta function I_p(a, b) for 0 < p < 1.

    Examples
    --------
    >>> round(incomplete_beta(2.0, 3.0, 0.5), 6)  # 11 / 16
    0.6875
    """
    # The fraction converges fast below the mean; above it the mirror image does.
    if p > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta_below(b, a, 1.0 - p)
    return _incomplete_beta_below(a, b, p)


def binomial_log_coefficients(n: int) -> FloatArray:
    """Return log(n over k) for k = 0..n; shape (n + 1,)."""
    logs = np.array([math.lgamma(k + 1) for k in range(n + 1)])
    return np.asarray(logs[n] - logs - logs[::-1])


def binomial_masses(log_coefficients: FloatArray, log_p: float, log_q: float) -> FloatArray:
    """Return P[Binomial = k], k = 0..n, for log p and log (1 - p); shape (n + 1,)."""
    k = np.arange(len(log_coefficients), dtype=np.float64)
    return np.asarray(np.exp(log_coefficients + k * log_p + k[::-1] * log_q))


def _incomplete_beta_below(a: float, b: float, p: float) -> float:
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(p) + b * math.log1p(-p)
    if log_front < -740:
        return 0.0
    # DLMF 8.17.22 by the modified Lentz recurrence.
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * p / (a + 1))
    fraction = d
    for m in range(1, 100_000):
        even = m * (b - m) * p / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * p / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for numerator in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + numerator * d)
            c = _away_from_zero(1.0 + numerator / c)
            change *= c * d
        fraction *= change
        if abs(change - 1.0) < 1e-15:
            return min(1.0, math.exp(log_front) * fraction / a)
    raise ArithmeticError(f"the incomplete beta function's continued fraction did not converge at {a!r}, {b!r}")


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
