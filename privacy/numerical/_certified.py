"""Certified bounds for one direction: the contour where it is affordable, the grid where not, one moment at last."""

from __future__ import annotations

import math
from collections.abc import Callable

from privacy.numerical._contour import build
from privacy.numerical._grid import grid_epsilon, grid_log_delta
from privacy.numerical._moments import chernoff_epsilon, chernoff_log_delta
from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._solve import curve_at, epsilon_at, least
from privacy.numerical._split import split_epsilon, split_log_delta
from privacy.numerical._sums import sum_epsilon, sum_log_delta
from privacy.numerical._terms import AtomsTerm, DiscreteGaussianTerm, GaussianTerm, Term
from privacy.numerical._translate import Composition

Interval = tuple[float, float]

# A contour's answer is kept if it is at least this good; else the grid is asked as well.
_GOOD = 1e-9
# The grid is asked where nothing finer is known: relative to epsilon, or for log delta.
_FINER_THAN_GRID = 1e-6
_FEW_ULPS = 2e-15
# The log of a delta beyond which 1 - delta is asked for.
_LARGE = math.log(0.6)
# Releases of one two-valued loss, or the variance of discrete Gaussian noise, summed rather than integrated.
_MOST_SUMMED = 100_000


def log_delta_bounds(made: Composition, epsilon: float) -> tuple[Interval, Interval]:
    """Return bounds on log delta(epsilon) and on log(1 - delta(epsilon)), epsilon >= 0."""
    if made.log_finite == -math.inf:
        return (0.0, 0.0), (-math.inf, -math.inf)
    low, high, kept_low, kept_high = _finite_log_delta(made, epsilon)
    if made.log_finite == 0:
        return (low, high), (kept_low, kept_high)
    # With probability exp(log_finite) all losses are finite: 1 - delta = exp(log_finite) (1 - delta_finite).
    lost = -math.expm1(made.log_finite)
    share = math.exp(made.log_finite)
    slack = _FEW_ULPS * (1 + abs(made.log_finite))
    return (
        (_log(lost + share * math.exp(low)) - 4 * slack, min(0.0, _log(lost + share * math.exp(high)) + 4 * slack)),
        (kept_low + made.log_finite - slack, min(0.0, kept_high + made.log_finite + slack)),
    )


def _finite_log_delta(made: Composition, epsilon: float) -> tuple[float, float, float, float]:
    terms = made.terms
    low, high, kept = -math.inf, 0.0, (-math.inf, 0.0)
    if not terms and not made.moments:
        return -math.inf, -math.inf, 0.0, 0.0
    if made.moments:
        # The known losses alone bound the whole from below, a moment of everything from above.
        high = chernoff_log_delta(terms, made.moments, epsilon)
        if terms:
            low = _exact_log_delta(terms, epsilon)[0]
    else:
        low, high, *kept_pair = _exact_log_delta(terms, epsilon)
        kept = (kept_pair[0], kept_pair[1])
    if made.instead is not None:
        high = min(high, chernoff_log_delta(made.instead[0], (*made.moments, *made.instead[1]), epsilon))
    return low, high, max(kept[0], _one_minus(high) - _FEW_ULPS), min(kept[1], _one_minus(low) + _FEW_ULPS, 0.0)


def _exact_log_delta(terms: tuple[Term, ...], epsilon: float) -> tuple[float, float, float, float]:
    single = single_sampled(terms)
    if single is not None:
        return _sampled_once(single, epsilon)
    if summable(terms) and (summed := sum_log_delta(terms, epsilon)) is not None:
        low, high = summed
        return low, high, _one_minus(high) - _FEW_ULPS, min(0.0, _one_minus(low) + _FEW_ULPS)
    parts = split_log_delta(terms, epsilon) if splits(terms) else None
    if parts is not None and parts.high - parts.low <= _GOOD and parts.value < _LARGE:
        return parts.low, parts.high, _one_minus(parts.high) - _FEW_ULPS, min(0.0, _one_minus(parts.low) + _FEW_ULPS)
    low, high, kept_low, kept_high = -math.inf, 0.0, -math.inf, 0.0
    found = curve_at(terms, epsilon)
    if found is not None:
        low, high, kept_low, kept_high = found[0].low, found[0].high, found[1].low, found[1].high
    if parts is not None:
        low, high = max(low, parts.low), min(high, parts.high)
    if high - low > _FINER_THAN_GRID:
        coarse = grid_log_delta(terms, epsilon)
        low, high = max(low, coarse[0]), min(high, coarse[1], chernoff_log_delta(terms, (), epsilon))
    return low, high, kept_low, kept_high


def splits(terms: tuple[Term, ...]) -> bool:
    """Whether sampled Gaussians are among the terms, in the direction in which losses have long tails."""
    return any(isinstance(term, SampledGaussianTerm) and term.direction == "remove" for term in terms)


def _log_total_variation(terms: tuple[Term, ...]) -> float:
    """Return a bound on log delta(0) by adding up those of single sampled Gaussians; 0 if there are others."""
    total = 0.0
    for term in terms:
        if not isinstance(term, SampledGaussianTerm):
            return 0.0
        total += term.count * term.sampling_rate * math.erf(math.sqrt(0.125) / term.noise_multiplier) * (1 + 1e-12)
    return _log(total)


def summable(terms: tuple[Term, ...]) -> bool:
    # One loss alone may lie on a lattice: with many outcomes the line's one period is the shorter way.
    match terms:
        case (AtomsTerm(count=count),):
            return count <= _MOST_SUMMED
        case (DiscreteGaussianTerm(scale=scale, count=count),):
            return count * scale * scale <= _MOST_SUMMED
        case _:
            return True


def single_sampled(terms: tuple[Term, ...]) -> SampledGaussianTerm | None:
    if len(terms) == 1 and isinstance(terms[0], SampledGaussianTerm) and terms[0].count == 1:
        return terms[0]
    return None


def _sampled_once(term: SampledGaussianTerm, epsilon: float) -> tuple[float, float, float, float]:
    """One sampled Gaussian is a Gaussian at another epsilon, exactly.

    H_a((1 - q) Q + q P || Q) = q H_b(P || Q) with b - 1 = (a - 1) / q, and for 1 - a (1 - q) = d > 0
    H_a(P || (1 - q) P + q Q) = d H_b(P || Q) with b - 1 = (a - 1) / d.
    """
    q, excess = term.sampling_rate, _expm1_or_inf(epsilon)
    gaussian = (GaussianTerm(0.5 / term.noise_multiplier**2),)
    share = q if term.direction == "remove" else q - (1 - q) * excess
    doubt = 8e-16 * (q + excess) if term.direction == "add" else 0.0
    if share <= doubt:
        # Delta is below share, which is nothing, or not more than its rounding.
        return -math.inf, -math.inf if share < -doubt else _log(2 * doubt), -2 * doubt, 0.0
    at = math.log1p(excess / share) if excess < 1e300 else epsilon - math.log(q)
    # Rounding of share and of the new epsilon, as errors of the value.
    wobble = 4e-16 + doubt / share
    found = curve_at(gaussian, at)
    if found is None:
        return -math.inf, math.log(q), -math.inf, 0.0
    nudge = 4e-16 * at + wobble
    lower, higher = curve_at(gaussian, at + nudge), curve_at(gaussian, max(0.0, at - nudge))
    low = (lower[0].low if lower is not None else -math.inf) + math.log(share) - wobble
    high = (higher[0].high if higher is not None else 0.0) + math.log(share) + wobble
    return low, min(high, 0.0), _one_minus(high) - _FEW_ULPS, min(0.0, _one_minus(low) + _FEW_ULPS)


def _expm1_or_inf(x: float) -> float:
    return math.expm1(x) if x < 700 else math.inf


def epsilon_bounds(made: Composition, log_delta: float) -> Interval:
    """Return bounds on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta)."""
    if made.log_finite < 0:
        lost = -math.expm1(made.log_finite)
        delta = math.exp(log_delta)
        slack = 4e-15 * lost
        if delta <= lost - slack:
            return math.inf, math.inf
        rest = [(delta - lost + side) / math.exp(made.log_finite) for side in (slack, -slack)]
        low = _finite_epsilon(made, math.log(rest[0]) + _FEW_ULPS)[0] if rest[0] < 1 else 0.0
        high = _finite_epsilon(made, math.log(rest[1]) - _FEW_ULPS)[1] if rest[1] > 0 else math.inf
        return low, high
    return _finite_epsilon(made, log_delta)


def _finite_epsilon(made: Composition, log_delta: float) -> Interval:
    terms = made.terms
    if log_delta >= 0 or not (terms or made.moments):
        return 0.0, 0.0
    low, high = 0.0, math.inf
    if made.moments:
        high = chernoff_epsilon(terms, made.moments, log_delta)
        if terms:
            low = _exact_epsilon(terms, log_delta)[0]
    else:
        low, high = _exact_epsilon(terms, log_delta)
    if made.instead is not None:
        # Two valid upper bounds; of the exact value for bounded range nothing more is known.
        high = min(high, chernoff_epsilon(made.instead[0], (*made.moments, *made.instead[1]), log_delta))
        low = 0.0
    return min(low, high), high


def _exact_epsilon(terms: tuple[Term, ...], log_delta: float) -> Interval:
    single = single_sampled(terms)
    if single is not None:
        if single.direction == "remove":
            return _sampled_once_epsilon(single, log_delta)
        return _bisect(lambda epsilon: _sampled_once(single, epsilon)[:2], log_delta, single)
    if summable(terms) and (summed := sum_epsilon(terms, log_delta)) is not None:
        return summed
    if _log_total_variation(terms) <= log_delta:
        return 0.0, 0.0
    low, high = 0.0, math.inf
    for method in (split_epsilon, epsilon_at) if splits(terms) else (epsilon_at,):
        found = method(terms, log_delta)
        if found is not None:
            low, high = max(low, found[0]), min(high, found[1])
        if high < math.inf and high - low <= _GOOD * high + 1e-12:
            return low, high
    if not high - low <= _FINER_THAN_GRID * high < math.inf:
        coarse = grid_epsilon(terms, log_delta)
        low, high = max(low, coarse[0]), min(high, coarse[1])
    if high > 1.05 * low:
        high = min(high, chernoff_epsilon(terms, (), log_delta))
    return min(low, high), high


def meets(made: Composition, epsilon: float, log_delta: float) -> bool:
    """Return whether delta(epsilon) is certainly at most exp(log_delta): one moment first, a line, then all there is."""
    if epsilon == math.inf:
        return True
    if made.log_finite == 0 and not made.moments and made.instead is None and epsilon > 0:
        if epsilon >= _most_loss(made.terms):
            return True
        at = least(made.terms, epsilon, (3 - log_delta) / epsilon, log_enough=log_delta - 1e-9)
        if at is not None:
            if at.log_moment + at.error - at.c * epsilon * (1 - 1e-15) + 1e-12 <= log_delta:
                return True
            contour = build(made.terms, at, epsilon, log_target=log_delta)
            if contour is not None and contour.evaluate(epsilon)[0].high <= log_delta:
                return True
    return log_delta_bounds(made, epsilon)[0][1] <= log_delta


def _most_loss(terms: tuple[Term, ...]) -> float:
    """Return a bound on the sum of the losses, for sampled Gaussians in the direction "add"; else infinity."""
    total = 0.0
    for term in terms:
        if not (isinstance(term, SampledGaussianTerm) and term.direction == "add"):
            return math.inf
        total -= term.count * math.log1p(-term.sampling_rate)
    return total * (1 + 1e-15)


def _sampled_once_epsilon(term: SampledGaussianTerm, log_delta: float) -> Interval:
    q = term.sampling_rate
    wanted = log_delta - math.log(q)
    if wanted >= 0:
        return 0.0, 0.0
    slack = _FEW_ULPS * (1 + abs(log_delta))
    gaussian = (GaussianTerm(0.5 / term.noise_multiplier**2),)
    found = [epsilon_at(gaussian, wanted + side) for side in (slack, -slack)]
    if found[0] is None or found[1] is None:
        return 0.0, math.inf
    low, high = (
        x + math.log(q) + math.log1p((1 - q) / q * math.exp(-x)) if x > 30 else math.log1p(q * math.expm1(x))
        for x in (found[0][0], found[1][1])
    )
    return max(0.0, low * (1 - 4e-16) - 4e-16 * q), high * (1 + 8e-16)


def _bisect(curve: Callable[[float], Interval], log_delta: float, term: SampledGaussianTerm) -> Interval:
    # The loss of the added direction never exceeds -log(1 - q).
    low, high = 0.0, -math.log1p(-term.sampling_rate) * (1 + 4e-16)
    if curve(0.0)[1] <= log_delta:
        return 0.0, 0.0
    lower = 0.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if high - low <= 1e-14 + 1e-11 * high:
            break
        at = curve(middle)
        if at[1] <= log_delta:
            high = middle
        else:
            low = middle
            if at[0] > log_delta:
                lower = middle
    return lower, high


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _one_minus(log_x: float) -> float:
    return math.log(-math.expm1(log_x)) if log_x < 0 else -math.inf
