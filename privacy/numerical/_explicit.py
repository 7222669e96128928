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
from privacy.numerical._terms import UNIT

# What numbers too small for doubles may hide in S, far from where the tilt belongs.
_LOG_UNDERFLOW = -660.0

# Newton's last step times what log delta was wrong before it, relative to epsilon: about what is wrong after it.
_LAST_STEP = 1e-13


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What is known of a tilted sum.

    log_moment   K(c)
    error        absolute error bound of log S and K(c) together
    slip         absolute error bound of the losses
    log_lost     log of a bound on the tilted probability of what is left out
    top          the largest loss
    """

    log_moment: float
    error: float
    slip: float
    log_lost: float
    top: float


class TiltedSum(Protocol):
    """A law tilted by c."""

    c: float
    accuracy: Accuracy

    def log_sum(self, epsilon: float) -> tuple[float, float]:
        """Return log S(epsilon) and the slope of log delta, which is approximate: it steers."""


def log_delta_between(law: TiltedSum, epsilon: float) -> tuple[float, float]:
    """Return bounds on log delta(epsilon)."""
    if epsilon > law.accuracy.top + law.accuracy.slip:
        return -math.inf, -math.inf
    return _low(law, epsilon), _high(law, epsilon)


def _doubt(law: TiltedSum, epsilon: float) -> float:
    known = law.accuracy
    # The tilt took the losses at their exact places, the kernel at the rounded ones.
    return known.error + law.c * known.slip + UNIT * (8 + 2 * abs(known.log_moment) + 2 * abs(law.c * epsilon))


def _low(law: TiltedSum, epsilon: float) -> float:
    at = epsilon + law.accuracy.slip
    return law.accuracy.log_moment - law.c * at + law.log_sum(at)[0] - _doubt(law, at)


def _high(law: TiltedSum, epsilon: float) -> float:
    at = epsilon - law.accuracy.slip
    scale = law.accuracy.log_moment - law.c * at + _doubt(law, at)
    kept, lost = law.log_sum(at)[0], max(law.accuracy.log_lost + log_chernoff_factor(law.c), _LOG_UNDERFLOW)
    top = max(kept, lost)
    return min(0.0, scale + top + math.log1p(math.exp(min(kept, lost) - top)) + UNIT)


def epsilon_between(law: TiltedSum, log_delta: float, guess: float) -> tuple[float, float]:
    """Return bounds on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta), starting from a guess."""
    known = law.accuracy
    left, right = 0.0, max(known.top, 0.0) + known.slip
    x = min(max(guess, 0.0), right)
    slope = -1.0
    for _ in range(60):
        log_sum, slope = law.log_sum(x)
        excess = known.log_moment - law.c * x + log_sum - log_delta
        # Nothing below the largest loss: nothing that doubles can hold.
        if excess > 0 or (log_sum == -math.inf and x < known.top - known.slip):
            left = x
        else:
            right = x
        step = _step(excess, slope)
        if x == 0.0 and excess <= 0:
            break
        if right - left <= 4 * known.slip:
            break
        if abs(step * excess) <= _LAST_STEP * x and left <= x + step <= right:
            x += step
            break
        if left < x + step < right:
            x += step
        elif x + step <= 0 == left:
            x = 0.0
        elif right > known.top > left + 4 * known.slip:
            x = known.top - 2 * known.slip
        else:
            x = 0.5 * (left + right)
    if x <= known.slip and _high(law, 0.0) <= log_delta:
        return 0.0, 0.0
    return _enclose(law, x, slope, log_delta)


def _step(excess: float, slope: float) -> float:
    # Of log delta, which is nearly straight; far away, or close to the end of the support, delta itself is straighter.
    if not (math.isfinite(excess) and slope < 0):
        return math.nan
    return excess / -slope if abs(excess) < 3 else -math.expm1(min(-excess, 600.0)) / -slope


def _enclose(law: TiltedSum, x: float, slope: float, log_delta: float) -> tuple[float, float]:
    # The certificate: delta is decreasing, so one bound at one point decides each side.
    known = law.accuracy
    doubt = 4e-16 * (1 + abs(log_delta))  # of the logarithm of what the caller named
    wide = (_doubt(law, x) + doubt) / max(-slope, 1e-300) if slope < 0 else 0.0
    first = min(wide, 0.1 * x) + 2 * known.slip + 2e-15 * x + 1e-300
    lower, upper = 0.0, max(known.top, 0.0) + known.slip
    step = first
    for _ in range(40):
        if x + step >= upper:
            break
        if _high(law, x + step) <= log_delta - doubt:
            upper = x + step
            break
        step *= 3
    step = first
    for _ in range(40):
        if step >= x:
            break
        if _low(law, x - step) >= log_delta + doubt:
            lower = x - step
            break
        step *= 3
    return lower, upper
