"""Releases of which only Renyi divergences are known: one moment bounds delta, nothing bounds it from below.

K(c) = log E_P[exp(c L)] is c times the Renyi divergence of order 1 + c. The larger of both directions bounds the moment
of each; moments of independent releases add, also to those of known losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from privacy._renyi import divergence, laplace
from privacy._sampled_gaussian import sampled_gaussian_rdp, sampled_pure_rdp
from privacy.events import Event, SampledWithoutReplacement
from privacy.neighbours import Neighbours
from privacy.numerical._contour import log_chernoff_bound, log_chernoff_factor
from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._sampled_laplace import SampledLaplaceTerm
from privacy.numerical._solve import doubt_of
from privacy.numerical._terms import UNIT, AtomsTerm, LaplaceTerm, Term

# Distance of the logarithms of the points c that a curve keeps.
_SPACING = 1 / 20
# Orders beyond this are as good as real.
_LAST_CORNER = 10_000
# Where the relative entropy is read from a moment.
_SMALL_C = (1e-7, 1e-5, 1e-3, 0.1)
_GOLDEN = 0.5 * (math.sqrt(5) - 1)


@dataclass(frozen=True, slots=True)
class MomentTerm:
    """`count` releases of an event: K(c) <= count c D(1 + c), D its Renyi divergence, the larger of both directions."""

    event: Event
    count: int

    def log_moment(self, c: float) -> float:
        """Return an upper bound on K(c), c > 0."""
        # Samples without replacement have a bound under replace_one only; of other events the relation was checked.
        neighbours: Neighbours = (
            "replace_one" if isinstance(self.event, SampledWithoutReplacement) else "add_remove_one"
        )
        order = divergence(self.event, np.array([c]), neighbours=neighbours, accountant="numerical")
        return c * float(order[0]) * self.count * (1 + 1e-14)


def _log_moment(terms: Sequence[Term], moments: Sequence[MomentTerm], c: float) -> float:
    known = math.fsum(_known_moment(term, c) for term in terms)
    return known + 4 * UNIT * abs(known) + math.fsum(term.log_moment(c) for term in moments)


def _known_moment(term: Term, c: float) -> float:
    at = term.at(c)
    value = at.log_moment + at.error
    if math.isfinite(value):
        return value
    # Too far out for the term's own arithmetic: the Renyi accountant's closed forms reach there.
    match term:
        case SampledGaussianTerm(noise_multiplier=noise, sampling_rate=rate, edge=None):
            return c * _sampled_divergence(noise, rate, c) * term.count * (1 + 1e-12)
        case LaplaceTerm(epsilon=epsilon):
            return c * float(laplace(epsilon, np.array([c]))[0]) * term.count * (1 + 1e-12)
        case SampledLaplaceTerm(epsilon=epsilon, sampling_rate=rate):
            # As any sampled pure DP.
            return c * float(sampled_pure_rdp(epsilon, rate, np.array([c]))[0]) * term.count * (1 + 1e-12)
        case _:
            return math.inf


@lru_cache(maxsize=4096)
def _sampled_divergence(noise_multiplier: float, sampling_rate: float, c: float) -> float:
    order = float(sampled_gaussian_rdp(noise_multiplier, sampling_rate, np.array([c]))[0])
    return order if not math.isnan(order) else math.inf


def largest_loss(terms: Sequence[Term], moments: Sequence[MomentTerm]) -> float:
    """Return a bound on the sum of the losses: the epsilon of pure DP."""
    largest = 0.0
    for term in terms:
        if isinstance(term, AtomsTerm):
            largest += term.count * term.losses[-1]
        elif isinstance(term, LaplaceTerm):
            largest += term.count * term.epsilon
        elif isinstance(term, SampledLaplaceTerm):
            largest += term.count * term.ends[1] * (1 + 1e-12)
        else:
            return math.inf
    return math.inf if moments else largest * (1 + 1e-14)


def _log_distance(terms: Sequence[Term], moments: Sequence[MomentTerm]) -> float:
    """Return the log of a bound on the total variation distance, which no delta exceeds.

    The relative entropy is at most K(c) / c: Pinsker; Bretagnolle and Huber.
    """
    # The smaller c, the less it is above the relative entropy, but for the rounding of K.
    entropy = min(_log_moment(terms, moments, c) / c for c in _SMALL_C)
    if not 0 < entropy < math.inf:
        return 0.0
    return 0.5 * math.log(max(min(entropy / 2, -math.expm1(-entropy)), 1e-300)) + 1e-12


def chernoff_log_delta(terms: Sequence[Term], moments: Sequence[MomentTerm], epsilon: float) -> float:
    """Return an upper bound on log delta(epsilon): the least over c of K(c) - c epsilon + log C(c)."""

    def bound(c: float) -> float:
        return log_chernoff_bound(c, _log_moment(terms, moments, c), epsilon)

    return min(0.0, _least(bound), _log_distance(terms, moments))


def chernoff_curve(terms: Sequence[Term], moments: Sequence[MomentTerm]) -> Callable[[float], float]:
    """Return epsilon -> an upper bound on delta: each moment is computed once, at points c that are kept."""
    known: dict[int, float] = {}
    most = _log_distance(terms, moments)

    def bound(place: int, epsilon: float) -> float:
        c = math.exp(place * _SPACING)
        if place not in known:
            known[place] = _log_moment(terms, moments, c)
        return log_chernoff_bound(c, known[place], epsilon)

    def delta(epsilon: float) -> float:
        # The bound has one valley in c: coarse steps over it, then ever finer ones.
        step = 64
        at = min(range(-5 * step, 9 * step, step), key=lambda place: bound(place, epsilon))
        while step > 1:
            step //= 2
            at = min((at, at - step, at + step), key=lambda place: bound(place, epsilon))
        return min(1.0, math.exp(min(bound(at, epsilon), most) + 1e-12))

    return delta


def chernoff_epsilon(terms: Sequence[Term], moments: Sequence[MomentTerm], log_delta: float) -> float:
    """Return an upper bound on epsilon at delta: the least over c of (K(c) + log C(c) - log delta) / c."""

    def bound(c: float) -> float:
        moment, factor = _log_moment(terms, moments, c), log_chernoff_factor(c)
        return (moment + factor - log_delta + 4 * UNIT * (abs(moment) + abs(factor) + abs(log_delta))) / c

    if _log_distance(terms, moments) <= log_delta - doubt_of(log_delta):
        return 0.0
    found = max(0.0, _least(bound) * (1 + 1e-12) + 1e-15)
    return min(found, largest_loss(terms, moments))


def _least(bound: Callable[[float], float]) -> float:
    # Any c is valid: a coarse search over its logarithm, then a golden section.
    grid = [math.exp(x) for x in range(-16, 28, 2)]
    values: list[float] = []
    for c in grid:
        value = bound(c)
        values.append(value if math.isfinite(value) else math.inf)
        # There is one valley: what comes after a rise need not be computed.
        if len(values) > 2 and values[-1] > values[-2] > values[-3]:
            break
    at = min(range(len(values)), key=values.__getitem__)
    low, high = math.log(grid[max(at - 1, 0)]), math.log(grid[min(at + 1, len(values) - 1)])
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
    # A bound that is known at integer orders has corners there.
    corner = math.floor(math.exp(x1))
    return min(best, f1, f2, *(bound(float(c)) for c in (corner, corner + 1) if 0 < c < _LAST_CORNER))
