"""Releases of which only Renyi divergences are known: one moment bounds delta, nothing bounds it from below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from privacy.numerical._contour import joint, log_chernoff_factor
from privacy.numerical._terms import Term

# Distance of the logarithms of the points c that a curve keeps.
_SPACING = 1 / 20
_GOLDEN = 0.5 * (math.sqrt(5) - 1)


@dataclass(frozen=True, slots=True)
class MomentTerm:
    """A rho-zCDP release: K(c) <= rho c (1 + c) for c > 0; at most the moment of `dominated_by`, where there is one."""

    rho: float
    dominated_by: Term | None = None

    def log_moment(self, c: float) -> float:
        """Return an upper bound on K(c), c > 0."""
        bound = self.rho * c * (1 + c)
        if self.dominated_by is not None:
            at = self.dominated_by.at(c)
            bound = min(bound, at.log_moment + at.error)
        return bound * (1 + 1e-14)


def _log_moment(terms: Sequence[Term], moments: Sequence[MomentTerm], c: float) -> float:
    known = joint(terms, c)
    return known.log_moment + known.error + math.fsum(term.log_moment(c) for term in moments)


def chernoff_log_delta(terms: Sequence[Term], moments: Sequence[MomentTerm], epsilon: float) -> float:
    """Return an upper bound on log delta(epsilon): the least over c of K(c) - c epsilon + log C(c)."""

    def bound(c: float) -> float:
        return _log_moment(terms, moments, c) - c * epsilon + log_chernoff_factor(c)

    return min(0.0, _least(bound) + 1e-11)


def chernoff_curve(terms: Sequence[Term], moments: Sequence[MomentTerm]) -> Callable[[float], float]:
    """Return epsilon -> an upper bound on delta: each moment is computed once, at points c that are kept."""
    known: dict[int, float] = {}

    def bound(place: int, epsilon: float) -> float:
        c = math.exp(place * _SPACING)
        if place not in known:
            known[place] = _log_moment(terms, moments, c) + log_chernoff_factor(c)
        value = known[place] - c * epsilon
        return value if math.isfinite(value) else math.inf

    def delta(epsilon: float) -> float:
        # The bound has one valley in c: coarse steps over it, then ever finer ones.
        step = 64
        at = min(range(-5 * step, 9 * step, step), key=lambda place: bound(place, epsilon))
        while step > 1:
            step //= 2
            at = min((at, at - step, at + step), key=lambda place: bound(place, epsilon))
        return min(1.0, math.exp(min(bound(at, epsilon) + 1e-11, 0.0)))

    return delta


def chernoff_epsilon(terms: Sequence[Term], moments: Sequence[MomentTerm], log_delta: float) -> float:
    """Return an upper bound on epsilon at delta: the least over c of (K(c) + log C(c) - log delta) / c."""

    def bound(c: float) -> float:
        return (_log_moment(terms, moments, c) + log_chernoff_factor(c) - log_delta) / c

    found = _least(bound)
    return max(0.0, found * (1 + 1e-12) + 1e-15)


def _least(bound: Callable[[float], float]) -> float:
    # Any c is valid: a coarse search over its logarithm, then a golden section.
    grid = [math.exp(x) for x in range(-16, 28, 2)]
    values = [value if math.isfinite(value := bound(c)) else math.inf for c in grid]
    at = min(range(len(grid)), key=values.__getitem__)
    low, high = math.log(grid[max(at - 1, 0)]), math.log(grid[min(at + 1, len(grid) - 1)])
    best = values[at]
    x1, x2 = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    f1, f2 = bound(math.exp(x1)), bound(math.exp(x2))
    for _ in range(16):
        best = min(best, f1, f2)
        if f1 < f2:
            high, x2, f2 = x2, x1, f1
            x1 = high - _GOLDEN * (high - low)
            f1 = bound(math.exp(x1))
        else:
            low, x1, f1 = x1, x2, f2
            x2 = low + _GOLDEN * (high - low)
            f2 = bound(math.exp(x2))
    return min(best, f1, f2)
