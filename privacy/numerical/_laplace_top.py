"""Compositions of equal Laplace releases of huge epsilon: what a loss lacks of its top is exponential.

e, n    epsilon of one release, their number;  c > 0  tilt;  a = c + 1/2;  D = n e - epsilon
W_k     sum over m > k, m - k odd, of (2 a)^-(m - k) Poisson(m; a D)

If exp(-2 a e) is nothing, a tilted loss is e, or e less an exponential number of rate a. With k of the latter, and b_k
their binomial probabilities, the k-fold running integral of 2 sinh(w / 2) gives

    S = sum over k of b_k (2 a)^k 2 exp(-a D) sum over m > k, m - k odd, of (D / 2)^m / m! = sum over k of 2 b_k W_k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from privacy.numerical._binomial import Window, deviance, stirling_rest, window
from privacy.numerical._explicit import LOG_LOST, SLIP, Accuracy
from privacy.numerical._laplace_law import laplace_moment
from privacy.numerical._terms import UNIT, FloatArray, LaplaceTerm, Term

# exp(-2 a e) times the number of releases stays below exp(-80).
_LOG_NOTHING = 80.0
_MOST_BELOW = 5_000


class LaplaceTop:
    """The law of a sum of equal Laplace losses close to its top, at one tilt; see `_explicit`."""

    def __init__(self, epsilon: float, count: int, c: float, below: Window) -> None:
        self.c, self._a, self._top, self._below = c, c + 0.5, count * epsilon, below
        log_moment, roundings = laplace_moment(epsilon, c)
        self.accuracy = Accuracy(
            log_moment=count * log_moment,
            # Deviances of Poisson probabilities up to 745, at most 40 square roots from their mean; the recursion.
            error=count * roundings * UNIT
            + below.error
            + UNIT * (50 * 745 + 400 * math.sqrt(below.last + 1000) + 8 * (below.last + 1000) + 2 * count),
            slip=SLIP * self._top,
            log_lost=max(below.log_lost, -70.0) + math.log(2),
            top=self._top,
            log_floor=-40.0,
        )

    @staticmethod
    def of(terms: Sequence[Term], c: float) -> LaplaceTop | None:
        """Return the sum, or None for terms of another kind, a small epsilon, or too many outcomes that matter."""
        if len(terms) != 1 or not isinstance(terms[0], LaplaceTerm):
            return None
        e, n = terms[0].epsilon, terms[0].count
        if e < _LOG_NOTHING + math.log(n):
            return None
        # A finer look at the largest loss than rounding allows has no use.
        c = min(c, 0.01 / (SLIP * n * e))
        below = window(n, -math.log(2 * c + 1), LOG_LOST, logit_error=4 * UNIT)
        return None if below.last > _MOST_BELOW else LaplaceTop(e, n, c, below)

    def log_sum(self, epsilon: float) -> tuple[float, float]:
        """Return log S(epsilon) and the slope of log delta."""
        missing = self._top - epsilon
        if missing <= 0:
            return -math.inf, math.nan
        first, last = self._below.first, self._below.last
        mean = self._a * missing
        most = math.ceil(max(last, mean) + 14 * math.sqrt(max(last, mean)) + 200)
        if most > 40 * _MOST_BELOW:
            # Far from where the tilt belongs: nothing is known from below.
            return -math.inf, math.nan
        m = np.arange(first, most + 1, dtype=np.float64)
        poisson = _poisson(m, mean)
        ratio = 0.5 / self._a
        sums = [0.0, 0.0]
        for chance in poisson[:0:-1].tolist():
            sums.append(ratio * (chance + ratio * sums[-2]))
        tails = np.array(sums[:1:-1])
        odd, next_odd = tails[: last - first + 1], tails[1 : last - first + 2]
        value = float(self._below.weight @ odd)
        if not value > 0:
            return -math.inf, math.nan
        # The same with cosh for sinh, where m - k is even: their difference is 2 exp(-w / 2), the slope's kernel.
        even = poisson[: last - first + 1] + ratio * next_odd
        slope = 0.5 * (float(self._below.weight @ even) / value - 1)
        return math.log(2 * value), -max(slope, 1e-300)


def _poisson(m: FloatArray, mean: float) -> FloatArray:
    log_p = -deviance(m, np.full_like(m, mean)) - stirling_rest(m)
    log_p -= np.where(m > 0, 0.5 * np.log(2 * math.pi * np.maximum(m, 1.0)), 0.0)
    return np.exp(np.maximum(log_p, -745.0))
