"""Compositions whose outcomes can be summed one by one: which law, at which tilt."""

from __future__ import annotations

from collections.abc import Sequence

from privacy.numerical._atoms import AtomSum
from privacy.numerical._explicit import TiltedSum, epsilon_between, log_delta_between
from privacy.numerical._laplace import LaplaceSum
from privacy.numerical._solve import log_saddle_estimate, saddle, tilt_for
from privacy.numerical._terms import Term

Interval = tuple[float, float]


def _law(terms: Sequence[Term], c: float) -> TiltedSum | None:
    return AtomSum.of(terms, c) or LaplaceSum.of(terms, c)


def sum_log_delta(terms: Sequence[Term], epsilon: float) -> Interval | None:
    """Return bounds on log delta(epsilon), or None if too many outcomes matter."""
    at = saddle(terms, epsilon)
    law = None if at is None else _law(terms, at.c)
    return None if law is None else log_delta_between(law, epsilon)


def sum_epsilon(terms: Sequence[Term], log_delta: float) -> Interval | None:
    """Return bounds on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta), or None."""
    at = tilt_for(terms, log_delta)
    law = None if at is None else _law(terms, at.c)
    if at is None or law is None:
        return None
    guess = at.mean - 1 / at.c - 1 / (1 + at.c)
    return epsilon_between(law, log_delta, guess + (log_saddle_estimate(at, guess) - log_delta) / at.c)
