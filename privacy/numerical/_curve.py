"""An upper bound on the privacy curve of one direction, for many epsilons: what is dear is built once.

`log_delta_bounds` seeks, for one epsilon, the line that gives delta to nine digits, however small it is. A whole curve
needs less: delta at any epsilon >= 0 to some 1e-12 in absolute value. One line does that, the best one for epsilon = 0:
aliasing, truncation and rounding are all relative to exp(K(c) - c epsilon), which only falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from privacy.numerical._certified import single_sampled, splits, summable
from privacy.numerical._contour import build
from privacy.numerical._grid import grid_curve
from privacy.numerical._moments import chernoff_curve
from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._solve import saddle
from privacy.numerical._split import Splitter
from privacy.numerical._sums import summed
from privacy.numerical._terms import GaussianTerm, Term
from privacy.numerical._translate import Composition

Curve = Callable[[float], float]

# A line is good enough if its bounds are so close at epsilon = 0.
_CLOSE = 1e-10
_FEW_ULPS = 2e-15
# The log of a delta against which parts are measured: what is dropped beside it is nothing on a trade-off curve.
_LOG_LEAST = -3.0
# Exponents beyond this are not exponentiated.
_LARGE = 680.0


def upper_curve(made: Composition) -> Curve:
    """Return epsilon -> certified upper bound on delta, for epsilon >= 0."""
    finite = _finite(made)
    if made.log_finite == 0 and not made.lost:
        return finite
    # With probability exp(log_finite) all losses are finite.
    lost = -math.expm1(made.log_finite) if made.lost is None else made.lost
    share = math.exp(made.log_finite)
    return lambda epsilon: min(1.0, (lost + share * finite(epsilon)) * (1 + _FEW_ULPS))


def _finite(made: Composition) -> Curve:
    if not made.terms and not made.moments:
        return lambda _epsilon: 0.0
    first = chernoff_curve(made.terms, made.moments) if made.moments else _exact(made.terms)
    if made.instead is None:
        return first
    second = chernoff_curve(made.instead[0], (*made.moments, *made.instead[1]))
    return lambda epsilon: min(first(epsilon), second(epsilon))


def _exact(terms: tuple[Term, ...]) -> Curve:
    single = single_sampled(terms)
    if single is not None:
        return _sampled_once(single)
    found = _summed(terms) if summable(terms) else None
    found = found or _line(terms) or (_parts(terms) if splits(terms) else None)
    if found is not None:
        return found
    grid = grid_curve(terms)
    if grid is None or grid(0.0) >= 0:
        return chernoff_curve(terms, ())
    return lambda epsilon: _exp_up(grid(epsilon))


def _line(terms: Sequence[Term]) -> Curve | None:
    at = saddle(terms, 0.0)
    contour = None if at is None else build(terms, at, 0.0, log_target=0.0)
    if contour is None:
        return None
    bounds, _ = contour.evaluate(0.0)
    if not _exp_up(bounds.high) - math.exp(bounds.low) < _CLOSE:
        return None
    return lambda epsilon: _exp_up(contour.evaluate(epsilon)[0].high)


def _summed(terms: Sequence[Term]) -> Curve | None:
    at = saddle(terms, 0.0)
    curve = None if at is None else summed(terms, at.c)
    if curve is None:
        return None
    return lambda epsilon: _exp_up(curve.high(epsilon)) if epsilon <= curve.top + curve.slip else 0.0


def _parts(terms: Sequence[Term]) -> Curve | None:
    curve = Splitter(terms).curve(0.0, _LOG_LEAST)
    if curve is None:
        return None
    return lambda epsilon: _exp_up(curve.evaluate(epsilon)[0].high)


def _sampled_once(term: SampledGaussianTerm) -> Curve:
    # As in `_certified`: a Gaussian at another epsilon, which is rounded down. Delta of the Gaussian falls with it.
    q = term.sampling_rate
    gaussian = _line((GaussianTerm(0.5 / term.noise_multiplier**2),))
    if gaussian is None:
        return lambda _epsilon: min(1.0, q * (1 + _FEW_ULPS))

    def delta(epsilon: float) -> float:
        excess = math.expm1(epsilon) if epsilon < _LARGE else math.inf
        share, doubt = q, 0.0
        if term.direction == "add":
            if excess * (1 - q) > 2:
                return 0.0  # the loss never exceeds -log(1 - q)
            share, doubt = q - (1 - q) * excess, 8e-16 * (q + (1 - q) * excess)
            if share <= 2 * doubt:
                return 0.0 if share < -doubt else 4 * doubt
        at = math.log1p(excess / share) if excess / share < math.inf else epsilon - math.log(q)
        at = max(0.0, at * (1 - 2e-15) - 2 * doubt / share)
        return (share + doubt) * gaussian(at) * (1 + _FEW_ULPS)

    return delta


def _exp_up(log_value: float) -> float:
    return min(1.0, math.exp(min(log_value, 0.0)) * (1 + _FEW_ULPS)) if log_value > -math.inf else 0.0
