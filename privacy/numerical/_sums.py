"""Compositions whose outcomes can be summed one by one: which law, at which tilt."""

from __future__ import annotations

from collections.abc import Sequence

from privacy.numerical._atoms import AtomSum
from privacy.numerical._explicit import Curve, SummedCurve, epsilon_between, log_delta_between
from privacy.numerical._few_laplace import few_laplace_curve
from privacy.numerical._laplace import LaplaceSum
from privacy.numerical._laplace_top import LaplaceTop
from privacy.numerical._solve import log_saddle_estimate, saddle, tilt_for
from privacy.numerical._terms import Term

Interval = tuple[float, float]

# How many Laplace losses between their ends are summed, not integrated: few cost nodes, many cost digits.
_ORDERS = (4, 3, 6, 2)
_GOOD = 8e-10


def summed(terms: Sequence[Term], c: float) -> Curve | None:
    """Return the curve of losses that can be summed outright, at this tilt; or None."""
    law = AtomSum.of(terms, c) or LaplaceTop.of(terms, c) or LaplaceSum.of(terms, c)
    return None if law is None else SummedCurve(law)


def sum_log_delta(terms: Sequence[Term], epsilon: float) -> Interval | None:
    """Return bounds on log delta(epsilon), or None if too many outcomes matter."""
    at = saddle(terms, epsilon)
    if at is None:
        return None
    curve = summed(terms, at.c)
    if curve is not None:
        return log_delta_between(curve, epsilon)
    best: Interval | None = None
    for order in _ORDERS:
        curve = few_laplace_curve(terms, at.c, epsilon, log_saddle_estimate(at, epsilon), order)
        if curve is None:
            continue
        low, high = log_delta_between(curve, epsilon)
        best = (low, high) if best is None else (max(low, best[0]), min(high, best[1]))
        if best[0] == best[1] or best[1] - best[0] <= _GOOD:
            break
    return best


def sum_epsilon(terms: Sequence[Term], log_delta: float) -> Interval | None:
    """Return bounds on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta), or None."""
    at = tilt_for(terms, log_delta)
    if at is None:
        return None
    guess = at.mean - 1 / at.c - 1 / (1 + at.c)
    guess += (log_saddle_estimate(at, guess) - log_delta) / at.c
    curve = summed(terms, at.c)
    if curve is not None:
        return epsilon_between(curve, log_delta, guess)
    best: Interval | None = None
    for order in _ORDERS:
        curve = few_laplace_curve(terms, at.c, max(guess, 0.0), log_delta, order)
        if curve is None:
            continue
        low, high = epsilon_between(curve, log_delta, guess)
        best = (low, high) if best is None else (max(low, best[0]), min(high, best[1]))
        if best[1] - best[0] <= _GOOD * best[1] + 1e-13:
            break
    return best
