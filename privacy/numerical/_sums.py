"""Compositions whose outcomes can be summed one by one: which law, at which tilt."""

from __future__ import annotations

from collections.abc import Sequence

from privacy.numerical._atoms import AtomSum
from privacy.numerical._contour import Joint
from privacy.numerical._explicit import Curve, SummedCurve, epsilon_between, log_delta_between
from privacy.numerical._laplace import LaplaceSum
from privacy.numerical._solve import log_saddle_estimate, saddle, tilt_for
from privacy.numerical._terms import Term

Interval = tuple[float, float]


def _curve(terms: Sequence[Term], at: Joint | None) -> Curve | None:
    if at is None:
        return None
    law = AtomSum.of(terms, at.c) or LaplaceSum.of(terms, at.c)
    return None if law is None else SummedCurve(law)


def sum_log_delta(terms: Sequence[Term], epsilon: float) -> Interval | None:
    """Return bounds on log delta(epsilon), or None if too many outcomes matter."""
    curve = _curve(terms, saddle(terms, epsilon))
    return None if curve is None else log_delta_between(curve, epsilon)


def sum_epsilon(terms: Sequence[Term], log_delta: float) -> Interval | None:
    """Return bounds on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta), or None."""
    at = tilt_for(terms, log_delta)
    curve = _curve(terms, at)
    if at is None or curve is None:
        return None
    guess = at.mean - 1 / at.c - 1 / (1 + at.c)
    return epsilon_between(curve, log_delta, guess + (log_saddle_estimate(at, guess) - log_delta) / at.c)
