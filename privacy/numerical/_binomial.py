"""Binomial probabilities with small relative errors: what the explicit sums over outcomes are made of.

n, x       trials, successes;  logit   log(p / (1 - p)), p the probability of a success
D(x, m)    x log(x / m) + m - x, the deviance of a count x from its mean m
P(x)       sqrt(n / (2 pi x (n - x))) exp(s(n) - s(x) - s(n - x) - D(x, n p) - D(n - x, n (1 - p)))

with s the remainder of Stirling's formula (Loader 2000, "Fast and accurate computation of binomial probabilities").
Unlike differences of log factorials, none of these terms grows with n near the mean; and as the two deviances are
stationary there, rounding of p acts only on the distance from the mean.
P(X >= x) <= exp(-D(x, n p) - D(n - x, n (1 - p))) for x >= n p, and likewise below (Chernoff).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from privacy.numerical._terms import UNIT, FloatArray

_STIRLING_TABLE = np.array(
    [0.0]
    + [math.log(math.factorial(n)) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2 * math.pi) for n in range(1, 16)]
)


def stirling_rest(n: FloatArray) -> FloatArray:
    """Return log n! - log(sqrt(2 pi n) (n / e)^n) at integers, 0 at 0; wrong by less than 8e-15."""
    wide = np.maximum(n, 16.0)
    square = 1 / (wide * wide)
    # Alternating: the error is below the first omitted summand, 691 / 360360 / 16^11 < 2e-16.
    series = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - square / 1188) * square) * square) * square) / wide
    return np.where(n < 16, _STIRLING_TABLE[np.minimum(n, 15).astype(np.int64)], series)


def deviance(x: FloatArray, mean: FloatArray) -> FloatArray:
    """Return x log(x / mean) + mean - x for x >= 0, mean > 0, relatively wrong by at most 50 UNIT."""
    gap = x - mean
    v = gap / (x + mean)
    square = np.minimum(v * v, 0.01)
    # log(x / mean) = 2 artanh v; the omitted summands are below 0.01^9.
    odd = np.zeros_like(square)
    for power in range(17, 1, -2):
        odd = (odd + 1 / power) * square
    near = gap * v + 2 * x * v * odd
    with np.errstate(divide="ignore", invalid="ignore"):
        # Beyond a tenth D exceeds a tenth of |gap|, and no part of the difference exceeds D + 2 |gap|.
        far = np.where(x > 0, x * np.log(np.maximum(x, 1e-300) / mean), 0.0) - gap
    return np.where(np.abs(v) < 0.1, near, far)


def expit(logit: float) -> float:
    """Return 1 / (1 + exp(-logit))."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    odds = math.exp(max(logit, -745.0))
    return odds / (1 + odds)


def binomial(n: FloatArray, x: FloatArray, logit: float) -> FloatArray:
    """Return the probability of x successes in n trials, 0 for x outside [0, n]; arrays of integers of one shape.

    Relatively wrong by at most `binomial_error`.
    """
    p, q = expit(logit), expit(-logit)
    inside = (x >= 0) & (x <= n)
    good = np.where(inside, x, 0.0)
    rest = n - good
    tiny = 1e-300
    log_p = -deviance(good, np.maximum(n * p, tiny)) - deviance(rest, np.maximum(n * q, tiny))
    log_p += stirling_rest(n) - stirling_rest(good) - stirling_rest(rest)
    both = (good > 0) & (rest > 0)
    log_p -= np.where(both, 0.5 * np.log(2 * math.pi * np.where(both, good / np.maximum(n, 1.0) * rest, 1.0)), 0.0)
    return np.where(inside, np.exp(np.maximum(log_p, -745.0)), 0.0)


def binomial_error(deviation: float, exponent: float, logit_error: float) -> float:
    """Return a relative error bound of probabilities at most `deviation` from the mean and above exp(-exponent).

    logit_error   absolute error of the logit
    """
    return UNIT * (50 * exponent + 120) + (logit_error + 8 * UNIT) * (deviation + 1)


@dataclass(frozen=True, slots=True)
class Window:
    """The successes that matter: `weight[i]` is the probability of first + i, relatively wrong by `error` at most.

    log_lost   log of a bound on the probability of all others
    """

    first: int
    weight: FloatArray
    error: float
    log_lost: float

    @property
    def last(self) -> int:
        """The largest number of successes that is kept."""
        return self.first + len(self.weight) - 1


def edges(n: int, logit: float, log_lost: float) -> tuple[int, int]:
    """Return (first, last) so that fewer or more successes have probability exp(log_lost) at most, each side."""
    p, q = expit(logit), expit(-logit)

    def exponent(x: int) -> float:
        out = n * (p + q) - n
        for count, mean in ((x, n * p), (n - x, n * q)):
            if count > 0:
                out += count * math.log(count / mean) if mean > 0 else math.inf
        # Less what rounding may have added.
        return out - 8 * UNIT * n

    def beyond(inside: int, outside: int) -> int:
        # The last x from the mean outwards whose exponent is not yet enough; `outside` is past the support.
        while abs(outside - inside) > 1:
            middle = (inside + outside) // 2
            inside, outside = (middle, outside) if exponent(middle) < -log_lost else (inside, middle)
        return inside

    mean = min(max(n * p, 0.0), float(n))
    return beyond(math.floor(mean), -1), beyond(math.ceil(mean), n + 1)


def window(n: int, logit: float, log_lost: float, *, logit_error: float = 0.0) -> Window:
    """Return the probabilities of all numbers of successes but those that together have 2 exp(log_lost) at most."""
    first, last = edges(n, logit, log_lost)
    x = np.arange(first, last + 1, dtype=np.float64)
    weight = binomial(np.full_like(x, n), x, logit)
    mean = n * expit(logit)
    reach = max(abs(first - mean), abs(last - mean))
    lost = log_lost + math.log(2) if first > 0 or last < n else -math.inf
    return Window(first, weight, binomial_error(reach, 2 - log_lost + math.log(n + 1), logit_error), lost)
