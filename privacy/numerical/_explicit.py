"""From a law that can be summed to certified bounds: what the sums over outcomes have in common.

At a tilt c > 0 of the loss L, with K(c) = log E[exp(c L)],

    delta(e) = exp(K(c) - c e) S(e),   S(e) = E_c[exp(-c (L - e)) (1 - exp(e - L))+],

E_c under the tilted law. S is a sum of positive numbers, so rounding is relative. An event of tilted probability w that
is left out of S costs at most C(c) w, because exp(-c x) (1 - exp(-x))+ <= C(c).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from privacy.numerical._contour import log_chernoff_factor
from privacy.numerical._solve import doubt_of
from privacy.numerical._terms import UNIT

# What numbers too small for doubles may hide in S, far from where the tilt belongs.
LOG_UNDERFLOW = -660.0
# The log of the tilted probability that a window of outcomes may leave out.
LOG_LOST = -38.0
# Rounding of a multiple of epsilon, relative to the largest.
SLIP = 6 * UNIT

# Newton's last step times what log delta was wrong before it, relative to epsilon: about what is wrong after it.
_LAST_STEP = 1e-13


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What is known of a tilted sum.

    log_moment   K(c)
    error        absolute error bound of log S and K(c) together
    slip         absolute error bound of the losses
    log_lost     log of a bound on the tilted probability of what is left out
    top          the largest loss, or infinity
    log_floor    log S below which S is not known from below
    """

    log_moment: float
    error: float
    slip: float
    log_lost: float
    top: float
    log_floor: float = LOG_UNDERFLOW


class TiltedSum(Protocol):
    """A law tilted by c."""

    c: float
    accuracy: Accuracy

    def log_sum(self, epsilon: float) -> tuple[float, float]:
        """Return log S(epsilon) and the slope of log delta, which is approximate: it steers."""


class Curve(Protocol):
    """A privacy curve near one epsilon.

    top    no loss exceeds it; it may be infinite
    slip   how finely epsilon can be told
    """

    top: float
    slip: float

    def value(self, epsilon: float) -> tuple[float, float]:
        """Return log delta(epsilon), -inf also where doubles cannot hold it, and its slope: they steer."""

    def low(self, epsilon: float) -> float:
        """Return a lower bound on log delta(epsilon)."""

    def high(self, epsilon: float) -> float:
        """Return an upper bound on log delta(epsilon)."""


class SummedCurve:
    """The curve of a tilted sum."""

    def __init__(self, law: TiltedSum) -> None:
        self._law = law
        self.top, self.slip = law.accuracy.top, law.accuracy.slip

    def value(self, epsilon: float) -> tuple[float, float]:
        """Return log delta(epsilon) and its slope."""
        log_sum, slope = self._law.log_sum(epsilon)
        return self._law.accuracy.log_moment - self._law.c * epsilon + log_sum, slope

    def low(self, epsilon: float) -> float:
        """Return a lower bound on log delta(epsilon)."""
        law, at = self._law, epsilon + self.slip
        log_sum = law.log_sum(at)[0]
        if log_sum < law.accuracy.log_floor:
            return -math.inf
        return law.accuracy.log_moment - law.c * at + log_sum - self._doubt(at)

    def high(self, epsilon: float) -> float:
        """Return an upper bound on log delta(epsilon)."""
        law, at = self._law, epsilon - self.slip
        scale = law.accuracy.log_moment - law.c * at + self._doubt(at)
        kept, lost = law.log_sum(at)[0], max(law.accuracy.log_lost + log_chernoff_factor(law.c) + UNIT, LOG_UNDERFLOW)
        top = max(kept, lost)
        return min(0.0, scale + top + math.log1p(math.exp(min(kept, lost) - top)) + UNIT)

    def _doubt(self, epsilon: float) -> float:
        law, known = self._law, self._law.accuracy
        # The tilt took the losses at their exact places, the kernel at the rounded ones.
        return known.error + law.c * known.slip + UNIT * (8 + 2 * abs(known.log_moment) + 2 * abs(law.c * epsilon))


def log_delta_between(curve: Curve, epsilon: float) -> tuple[float, float]:
    """Return bounds on log delta(epsilon)."""
    if epsilon > curve.top + curve.slip:
        return -math.inf, -math.inf
    return curve.low(epsilon), curve.high(epsilon)


def epsilon_between(curve: Curve, log_delta: float, guess: float) -> tuple[float, float]:
    """Return bounds on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta), starting from a guess."""
    top, slip = curve.top, curve.slip
    left, right = 0.0, max(top, 0.0) + slip
    x = min(max(guess, 0.0), right)
    slope = -1.0
    for _ in range(60):
        value, slope = curve.value(x)
        excess = value - log_delta
        # Nothing below the largest loss: nothing that doubles can hold.
        if excess > 0 or (value == -math.inf and x < top - slip < math.inf):
            left = x
        else:
            right = x
        step = _step(excess, slope)
        if (x == 0.0 and excess <= 0) or right - left <= 4 * slip:
            break
        if abs(step * excess) <= _LAST_STEP * x and left <= x + step <= right:
            x += step
            break
        if left < x + step < right:
            x += step
        elif x + step <= 0 == left:
            x = 0.0
        elif right > top > left + 4 * slip:
            x = top - 2 * slip
        elif right < math.inf:
            x = 0.5 * (left + right)
        else:
            x = 2 * x + slip
    if x <= slip and curve.high(0.0) <= log_delta - doubt_of(log_delta):
        return 0.0, 0.0
    return _enclose(curve, x, slope, log_delta)


def _step(excess: float, slope: float) -> float:
    # Of log delta, which is nearly straight; far away, or close to the end of the support, delta itself is straighter.
    if not (math.isfinite(excess) and slope < 0):
        return math.nan
    return excess / -slope if abs(excess) < 3 else -math.expm1(min(-excess, 600.0)) / -slope


def _enclose(curve: Curve, x: float, slope: float, log_delta: float) -> tuple[float, float]:
    # The certificate: delta is decreasing, so one bound at one point decides each side.
    doubt = doubt_of(log_delta)
    lower, upper = 0.0, max(curve.top, 0.0) + curve.slip
    least = 2 * curve.slip + 2e-15 * x + 1e-300
    step = _first_step(curve.high(x) - log_delta + doubt, slope, x) + least
    for _ in range(40):
        if x + step >= upper:
            break
        if curve.high(x + step) <= log_delta - doubt:
            upper = x + step
            break
        step *= 3
    step = _first_step(log_delta + doubt - curve.low(x), slope, x) + least
    for _ in range(40):
        if step >= x:
            break
        if curve.low(x - step) >= log_delta + doubt:
            lower = x - step
            break
        step *= 3
    return lower, upper


def _first_step(excess: float, slope: float, x: float) -> float:
    # A little more than what the bound at x is off, at the slope there.
    return min(1.05 * max(excess, 0.0) / -slope, 0.1 * x) if slope < 0 and math.isfinite(excess) else 0.0
