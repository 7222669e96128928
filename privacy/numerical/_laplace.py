"""Compositions of equal Laplace releases with few losses strictly between -epsilon and epsilon: an explicit sum.

e, n    epsilon of one release, their number;  c > 0  tilt;  a = c + 1/2
nu      P(dl) = exp(l / 2) nu(dl), nu = exp(-e / 2) / 2 (atoms of mass 1 at e and at -e, mass e spread evenly between)

If k releases fall between and j of the others have loss e, the sum of the losses is 2 e (j + X - n / 2), X the sum of k
uniform numbers on [0, 1]. With y = epsilon / (2 e) + n / 2, J the first integer above y and r = 1 / (1 + exp(-2 a e)),

    S = sum over k of b_k sum over j of b_(n-k)(j) E_k[exp(-2 e c w) (1 - exp(-2 e w))+],   w = j + X - y,

where b_k are binomial probabilities of the tilted share tanh(a e) / (2 a + tanh(a e)), b_m(j) those of r, and E_k
weighs X by exp(2 a e X). Every y - j has the same fractional part, so the partial expectations (j < J) need one table
for all k and j (`_splines`). For j >= J all of X counts, and the sum over j passes from m = n - k to m + 1 by Pascal's
rule. Every summand is positive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from privacy.numerical._binomial import Window, binomial, binomial_error, edges, expit, window
from privacy.numerical._explicit import LOG_LOST, SLIP, Accuracy
from privacy.numerical._laplace_law import laplace_moment, log_growth
from privacy.numerical._splines import partial_integrals, relative_error
from privacy.numerical._terms import UNIT, FloatArray, LaplaceTerm, Term

# Beyond so many releases between the atoms the characteristic function has decayed to less than 1e-15: the contour's.
_MOST_BETWEEN = 96
# Above, the quadrature needs too many nodes (and `_laplace_top` none).
_MOST_EPSILON = 110.0
_MOST_ATOMS = 400_000


class LaplaceSum:
    """The law of a sum of equal Laplace losses at one tilt; see `_explicit` for how it becomes bounds."""

    def __init__(self, epsilon: float, count: int, c: float, between: Window) -> None:
        e, n, a = epsilon, count, c + 0.5
        self.c, self._e, self._n = c, e, n
        self._between = between
        self._most = most = between.last
        self._logit = logit = 2 * a * e
        first, last = edges(n - most, logit, LOG_LOST)
        self._first = first
        self._j: FloatArray = np.arange(first, last + 1, dtype=np.float64)
        self._b = binomial(np.full_like(self._j, n - most), self._j, logit)
        lost = math.exp(between.log_lost) + (2 * math.exp(LOG_LOST) if first > 0 or last < n - most else 0.0)
        log_moment, wrong = laplace_moment(e, c)
        mean = n * expit(logit)
        # Probabilities further out than this are nothing to S, see LOG_UNDERFLOW.
        far = edges(n - most, logit, -745.0)
        reach = max(abs(far[0] - mean), abs(far[1] - mean)) + most + 1
        self.accuracy = Accuracy(
            log_moment=n * log_moment,
            error=n * wrong * UNIT
            + between.error
            + binomial_error(reach, 745.0, 4 * UNIT * logit)
            + relative_error(most, e)
            # The recursion over m, pairwise sums, logarithms of the powers, and e = 1 / scale itself.
            + UNIT * (12 * most + 64 + 8 * most * (2 + abs(math.log(2 * a * e)) + e) + 2 * n * e),
            slip=SLIP * n * e,
            log_lost=math.log(lost) + 1e-9 if lost > 0 else -math.inf,
            top=n * e,
        )

    @staticmethod
    def of(terms: Sequence[Term], c: float) -> LaplaceSum | None:
        """Return the sum, or None if the terms are of another kind or too many outcomes matter."""
        if len(terms) != 1 or not isinstance(terms[0], LaplaceTerm):
            return None
        e, n = terms[0].epsilon, terms[0].count
        if e > _MOST_EPSILON:
            return None
        # A finer look at the largest loss than rounding allows has no use.
        c = min(c, 0.01 / (SLIP * n * e))
        a = c + 0.5
        logit = math.log(math.tanh(a * e) / (2 * a))
        if edges(n, logit, LOG_LOST)[1] > _MOST_BETWEEN:
            return None
        first, last = edges(n, 2 * a * e, LOG_LOST)
        if last - first > _MOST_ATOMS:
            return None
        between = window(n, logit, LOG_LOST, logit_error=16 * UNIT)
        return LaplaceSum(e, n, c, between)

    def log_sum(self, epsilon: float) -> tuple[float, float]:
        """Return log S(epsilon) and the slope of log delta."""
        e, n = self._e, self._n
        y = epsilon / (2 * e) + 0.5 * n
        above = math.floor(y) + 1
        rest = above - y
        ks = np.arange(self._between.first, self._most + 1)
        whole = self._whole(above, rest)
        part = self._partial(above, 1 - rest, rest)
        weight = self._between.weight
        sinh, decaying = (float(weight @ (one[ks] + other[ks])) for one, other in zip(whole, part, strict=True))
        if not sinh > 0:
            return -math.inf, math.nan
        return math.log(sinh), -decaying / sinh

    def _whole(self, above: int, rest: float) -> tuple[FloatArray, FloatArray]:
        """Return, for k = 0 .. most, what the j >= J contribute: to S, and to -d/d epsilon of delta."""
        e, c, n, most = self._e, self.c, self._n, self._most
        r, s = expit(self._logit), expit(-self._logit)
        start = min(max(above - self._first, 0), len(self._j))
        w = self._j[start:] - above + rest
        damped = self._b[start:] * np.exp(-2 * e * c * w)
        rising, falling = float(damped @ -np.expm1(-2 * e * w)), float(damped @ np.exp(-2 * e * w))
        # Adding one to w, of 2 sinh(e w) and exp(-e w) both times exp(-2 a e w).
        stay, decay, mix = math.exp(-2 * e * c), math.exp(-2 * e), -math.expm1(-2 * e)
        size = math.exp(-2 * e * c * rest)
        new_rising, new_falling = size * -math.expm1(-2 * e * rest), size * math.exp(-2 * e * rest)
        trials = np.arange(n - most, n, dtype=np.float64)
        fresh = binomial(trials, np.full_like(trials, above - 1), self._logit).tolist()
        ups, downs = [rising], [falling]
        for b in fresh:
            rising = s * rising + r * (stay * (rising + mix * falling) + b * new_rising)
            falling = s * falling + r * (stay * decay * falling + b * new_falling)
            ups.append(rising)
            downs.append(falling)
        # Of k uniform numbers: mean of exp(e (X - k / 2)) over that of exp(2 a e (X - k / 2)), and k / 2 added to w.
        k = np.arange(most + 1)
        power = np.exp(k * (log_growth(e) - log_growth(2 * (c + 0.5) * e)))
        up, down = np.array(ups[::-1]), np.array(downs[::-1])
        return power * (up - np.expm1(-e * k) * down), power * np.exp(-e * k) * down

    def _partial(self, above: int, f: float, rest: float) -> tuple[FloatArray, FloatArray]:
        """Return, for k = 0 .. most, what the j < J contribute: to S, and to -d/d epsilon of delta."""
        e, c, n, most = self._e, self.c, self._n, self._most
        if most == 0:
            return np.zeros(1), np.zeros(1)
        parts = partial_integrals(most, f, rest, e)
        k = np.arange(most + 1, dtype=np.float64)[:, None]
        i = np.arange(most, dtype=np.float64)
        trials, successes = np.broadcast_arrays(n - k, above - 1 - i)
        wanted = i < k
        chance = np.where(wanted, binomial(trials, np.where(wanted, successes, -1.0), self._logit), 0.0)
        left = k - 1 - i + rest
        twice = 2 * (c + 0.5) * e
        with np.errstate(divide="ignore"):
            factor = np.where(wanted, k * (twice - log_growth(twice)) - 2 * c * e * left, -np.inf)
            sums = [np.sum(chance * np.exp(factor + np.log(part)), axis=1) for part in parts]
        return sums[0], sums[1]
