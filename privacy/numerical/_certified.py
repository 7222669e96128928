"""Certified bounds for one direction: the contour where it is affordable, the grid where not, one moment at last."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from privacy.numerical._grid import grid_epsilon, grid_log_delta
from privacy.numerical._moments import chernoff_epsilon, chernoff_log_delta, largest_loss
from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._solve import curve_at, doubt_of, epsilon_at
from privacy.numerical._split import split_epsilon, split_log_delta, upper_log_delta
from privacy.numerical._sums import sum_epsilon, sum_log_delta
from privacy.numerical._terms import UNIT, AtomsTerm, DiscreteGaussianTerm, GaussianTerm, LaplaceTerm, Term
from privacy.numerical._translate import Composition

Interval = tuple[float, float]

# A contour's answer is kept if it is at least this good; else the grid is asked as well.
_GOOD = 1e-9
# Each loss alone, and then the grid, are asked where nothing finer is known: relative to epsilon, or for log delta.
_FINER_THAN_GRID = 1e-6
# Sampled Gaussians of at least this noise and so many participations, at a delta not below this, need no parts.
_COMMON_NOISE, _COMMON_HITS, _COMMON_LOG_DELTA = 0.8, 3.0, -40.0
_FEW_ULPS = 2e-15
_LEAST_DELTA = 5e-324
# The log of a delta beyond which 1 - delta is asked for.
_LARGE = math.log(0.6)
# Releases of one two-valued loss, or the variance of discrete Gaussian noise, summed rather than integrated.
_MOST_SUMMED = 100_000


def log_delta_bounds(made: Composition, epsilon: float) -> tuple[Interval, Interval]:
    """Return bounds on log delta(epsilon) and on log(1 - delta(epsilon)), epsilon >= 0."""
    if made.below is not None:
        (low, _), (_, kept_high) = log_delta_bounds(made.below, epsilon)
        (_, high), (kept_low, _) = log_delta_bounds(replace(made, below=None), epsilon)
        return (low, high), (kept_low, kept_high)
    if made.log_finite == -math.inf:
        return (-math.inf, 0.0), (-math.inf, 0.0)
    low, high, kept_low, kept_high = _finite_log_delta(made, epsilon)
    if not low <= high:
        # Bounds that contradict each other prove nothing: that would be a defect, and is not passed on.
        low, high, kept_low, kept_high = -math.inf, 0.0, -math.inf, 0.0
    if made.log_finite == 0 and not made.lost:
        return (low, min(high, 0.0)), (kept_low, min(kept_high, 0.0))
    # With probability exp(log_finite) all losses are finite: 1 - delta = exp(log_finite) (1 - delta_finite).
    log_lost = math.log(made.lost) if made.lost is not None else math.log(-math.expm1(made.log_finite))
    slack = _FEW_ULPS * (1 + abs(made.log_finite) + abs(log_lost))
    return (
        (
            _log_add(log_lost, made.log_finite + low) - slack - _rounding(low),
            min(0.0, _log_add(log_lost, made.log_finite + high) + slack + _rounding(high)),
        ),
        (
            kept_low + made.log_finite - slack - _rounding(kept_low),
            min(0.0, kept_high + made.log_finite + slack + _rounding(kept_high)),
        ),
    )


def _rounding(log_value: float) -> float:
    """Return what sums with this logarithm may be off; 0 for -inf, which is not rounded."""
    return 4 * UNIT * abs(log_value) if math.isfinite(log_value) else 0.0


def _log_add(first: float, second: float) -> float:
    top = max(first, second)
    return top + math.log1p(math.exp(min(first, second) - top)) if math.isfinite(top) else top


def _kept(low: float, high: float) -> tuple[float, float]:
    """Return bounds on log(1 - delta) from those on log delta."""
    kept_low, kept_high = _one_minus(high), _one_minus(low)
    return (
        kept_low - _FEW_ULPS - _rounding(kept_low),
        min(0.0, kept_high + _FEW_ULPS + _rounding(kept_high)),
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
        # Two valid upper bounds; of the exact value for bounded range nothing more is known.
        high = min(high, chernoff_log_delta(made.instead[0], (*made.moments, *made.instead[1]), epsilon))
        low, kept = -math.inf, (kept[0], 0.0)
    kept_low, kept_high = _kept(low, high)
    return low, high, max(kept[0], kept_low), min(kept[1], kept_high)


def _exact_log_delta(terms: tuple[Term, ...], epsilon: float) -> tuple[float, float, float, float]:
    if epsilon >= largest_loss(terms, ()):
        return -math.inf, -math.inf, 0.0, 0.0
    single = single_sampled(terms)
    if single is not None:
        return _sampled_once(single, epsilon)
    if summable(terms) and (summed := sum_log_delta(terms, epsilon)) is not None:
        return *summed, *_kept(*summed)
    parts = split_log_delta(terms, epsilon) if splits(terms) else None
    if parts is not None and parts.high - parts.low <= _GOOD and parts.value < _LARGE:
        return parts.low, parts.high, *_kept(parts.low, parts.high)
    low, high, kept_low, kept_high = -math.inf, 0.0, -math.inf, 0.0
    found = curve_at(terms, epsilon)
    if found is not None:
        low, high, kept_low, kept_high = found[0].low, found[0].high, found[1].low, found[1].high
    if parts is not None:
        low, high = max(low, parts.low), min(high, parts.high)
    high = min(high, 0.0)
    if high - low > _FINER_THAN_GRID and len(terms) > 1:
        apart = _apart_log_delta(terms, epsilon)
        low, high = max(low, apart[0]), min(high, apart[1])
    if high - low > _FINER_THAN_GRID:
        # Delta at 0 is the largest.
        high = min(high, _log_total_variation(terms))
    if high - low > _FINER_THAN_GRID and low < -1e-13:
        coarse = grid_log_delta(terms, epsilon)
        low, high = max(low, coarse[0]), min(high, coarse[1], chernoff_log_delta(terms, (), epsilon))
    return low, high, kept_low, kept_high


def splits(terms: tuple[Term, ...]) -> bool:
    """Whether sampled Gaussians are among the terms, in the direction in which losses have long tails."""
    return any(isinstance(term, SampledGaussianTerm) and term.direction == "remove" for term in terms)


def _common(terms: tuple[Term, ...], log_delta: float) -> bool:
    """Whether one line for the whole composition is likely to do: it steers, and costs less than a plan for parts."""
    sampled = [term for term in terms if isinstance(term, SampledGaussianTerm)]
    return log_delta > _COMMON_LOG_DELTA and all(
        term.noise_multiplier >= _COMMON_NOISE and term.count * term.sampling_rate >= _COMMON_HITS for term in sampled
    )


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
            return all(isinstance(term, AtomsTerm | DiscreteGaussianTerm | LaplaceTerm) for term in terms)


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
    rest = 1 - q
    gaussian = (GaussianTerm(0.5 / term.noise_multiplier**2),)
    share, doubt = q, 0.0
    if term.direction == "add":
        if excess * rest > 2:
            return -math.inf, -math.inf, 0.0, 0.0  # the loss never exceeds -log(1 - q)
        share, doubt = q - rest * excess, 4 * UNIT * (q + rest * excess)
        if share <= 2 * doubt:
            # Delta is below share, which is nothing, or not much more than its rounding.
            if share < -doubt:
                return -math.inf, -math.inf, 0.0, 0.0
            return -math.inf, _log(3 * doubt) + UNIT, -4 * doubt, 0.0
    at = math.log1p(excess / share) if excess / share < math.inf else epsilon - math.log(q)
    # Relative rounding of the share, and what it and other roundings do to the new epsilon and to the value.
    wrong = doubt / share
    nudge = 4 * UNIT * at + 2 * wrong * min(1.0, at)
    lower, higher = curve_at(gaussian, at + nudge), curve_at(gaussian, max(0.0, at - nudge))
    low = lower[0].low if lower is not None else -math.inf
    high = higher[0].high if higher is not None else 0.0
    slack = 2 * wrong + _FEW_ULPS * (1 + abs(math.log(share)))
    low = low + math.log(share) - slack - _rounding(low)
    high = min(0.0, high + math.log(share) + slack + _rounding(high))
    return low, high, *_kept(low, high)


def _expm1_or_inf(x: float) -> float:
    return math.expm1(x) if x < 700 else math.inf


def epsilon_bounds(made: Composition, delta: float) -> Interval:
    """Return bounds on the smallest epsilon >= 0 with delta(epsilon) <= delta."""
    if made.below is not None:
        return epsilon_bounds(made.below, delta)[0], epsilon_bounds(replace(made, below=None), delta)[1]
    if made.log_finite == -math.inf:
        return 0.0, math.inf
    if made.log_finite == 0 and not made.lost:
        return _ordered(*_finite_epsilon(made, math.log(delta)))
    lost, slack = made.lost, 0.0
    if lost is None:
        lost = -math.expm1(made.log_finite)
        slack = _FEW_ULPS * (4 + abs(made.log_finite)) * lost
    if delta < lost - slack:
        return math.inf, math.inf
    # 1 - delta = exp(log_finite) (1 - delta_finite).
    share = math.exp(made.log_finite)
    most, least = (delta - lost + slack) / share, (delta - lost - slack) / share
    wrong = _FEW_ULPS * (1 + abs(made.log_finite))
    low = _finite_epsilon(made, math.log(max(most, _LEAST_DELTA)) + wrong)[0] if most < 1 else 0.0
    if least > 0:
        high = _finite_epsilon(made, math.log(least) - wrong)[1]
    else:
        # Nothing may be left of the finite losses.
        high = largest_loss(made.terms, made.moments) if least == 0 else math.inf
    return _ordered(low, high)


def _ordered(low: float, high: float) -> Interval:
    # As in `log_delta_bounds`.
    return (low, high) if low <= high else (0.0, math.inf)


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
        # As in `_finite_log_delta`.
        high = min(high, chernoff_epsilon(made.instead[0], (*made.moments, *made.instead[1]), log_delta))
        low = 0.0
    return low, high


def _exact_epsilon(terms: tuple[Term, ...], log_delta: float) -> Interval:
    single = single_sampled(terms)
    if single is not None:
        if single.direction == "remove":
            return _sampled_once_epsilon(single, log_delta)
        return _bisect(lambda epsilon: _sampled_once(single, epsilon)[:2], log_delta, single)
    if summable(terms) and (summed := sum_epsilon(terms, log_delta)) is not None:
        return summed
    if _log_total_variation(terms) <= log_delta - doubt_of(log_delta):
        return 0.0, 0.0
    low, high = 0.0, math.inf
    methods = [epsilon_at]
    if splits(terms):
        methods.insert(len(methods) if _common(terms, log_delta) else 0, split_epsilon)
    for method in methods:
        found = method(terms, log_delta)
        if found is not None:
            low, high = max(low, found[0]), min(high, found[1])
        if high < math.inf and high - low <= _GOOD * high + 1e-12:
            return low, high
    if not high - low <= _FINER_THAN_GRID * high < math.inf and len(terms) > 1:
        apart = _apart_epsilon(terms, log_delta)
        low, high = max(low, apart[0]), min(high, apart[1])
    if not high - low <= _FINER_THAN_GRID * high < math.inf:
        coarse = grid_epsilon(terms, log_delta)
        low, high = max(low, coarse[0]), min(high, coarse[1])
    if high > 1.001 * low:
        high = min(high, chernoff_epsilon(terms, (), log_delta))
    return low, high


def _apart_log_delta(terms: tuple[Term, ...], epsilon: float) -> Interval:
    """Return bounds on log delta from each loss alone, for what no line reaches.

    Of P P' and Q Q': more losses only disclose more, and H_a(P P' || Q Q') <= H_a(P || Q) + TV(P', Q').
    """
    log_distance = [_exact_log_delta((term,), 0.0)[1] for term in terms]
    low, high = -math.inf, 0.0
    for i, term in enumerate(terms):
        alone = _exact_log_delta((term,), epsilon)
        low = max(low, alone[0])
        high = min(high, math.log(_total([alone[1], *log_distance[:i], *log_distance[i + 1 :]])))
    return low, high


def _apart_epsilon(terms: tuple[Term, ...], log_delta: float) -> Interval:
    """Return bounds on epsilon from each loss alone, as in `_apart_log_delta`."""
    low, high = 0.0, math.inf
    log_distance = [_exact_log_delta((term,), 0.0)[1] for term in terms]
    for i, term in enumerate(terms):
        low = max(low, _exact_epsilon((term,), log_delta)[0])
        share = _total([*log_distance[:i], *log_distance[i + 1 :]]) / math.exp(log_delta)
        if share < 0.5:
            left = log_delta + math.log1p(-share) - 4 * UNIT * (1 + abs(log_delta))
            high = min(high, _exact_epsilon((term,), left)[1])
    return low, high


def _total(logs: list[float]) -> float:
    """Return the sum, rounded up, at least the smallest double."""
    return max(math.fsum(math.exp(x) for x in logs) * (1 + 1e-12), _LEAST_DELTA)


def meets(made: Composition, epsilon: float, delta: float) -> bool:
    """Return whether delta(epsilon) is certainly at most delta: one moment first, a line, then all there is."""
    if epsilon == math.inf:
        return True
    log_delta = math.log(delta)
    log_delta -= doubt_of(log_delta)
    known = made.log_finite == 0 and not made.lost and not made.moments and made.instead is None
    if known and epsilon > 0:
        if epsilon >= _most_loss(made.terms):
            return True
        if upper_log_delta(made.terms, epsilon, log_delta) <= log_delta:
            return True
    return log_delta_bounds(replace(made, below=None), epsilon)[0][1] <= log_delta


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
    log_q = math.log(q)
    wanted, slack = log_delta - log_q, _FEW_ULPS * (1 + abs(log_delta) + abs(log_q))
    gaussian = (GaussianTerm(0.5 / term.noise_multiplier**2),)

    def found(wanted: float) -> Interval | None:
        return (0.0, 0.0) if wanted >= 0 else epsilon_at(gaussian, wanted)

    lower, upper = found(wanted + slack), found(wanted - slack)
    if lower is None or upper is None:
        return 0.0, math.inf

    def back(x: float) -> tuple[float, float]:
        # Relatively accurate but where e^x is not in doubles.
        if x < 700:
            value = math.log1p(q * math.expm1(x))
            return value, 8 * UNIT * value
        value = x + log_q + math.log1p((1 - q) / q * math.exp(-x))
        return value, 4 * UNIT * (x + abs(log_q) + 1)

    (low, low_error), (high, high_error) = back(lower[0]), back(upper[1])
    return max(0.0, low - low_error), high + high_error if math.isfinite(high) else math.inf


def _bisect(curve: Callable[[float], Interval], log_delta: float, term: SampledGaussianTerm) -> Interval:
    # The loss of the added direction never exceeds -log(1 - q).
    low, high = 0.0, -math.log1p(-term.sampling_rate) * (1 + 4 * UNIT)
    doubt = doubt_of(log_delta)
    if curve(0.0)[1] <= log_delta - doubt:
        return 0.0, 0.0
    lower = 0.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if high - low <= 1e-14 + 1e-11 * high:
            break
        at = curve(middle)
        if at[1] <= log_delta - doubt:
            high = middle
        else:
            low = middle
            if at[0] >= log_delta + doubt:
                lower = middle
    return lower, high


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _one_minus(log_x: float) -> float:
    return math.log(-math.expm1(log_x)) if log_x < 0 else -math.inf
