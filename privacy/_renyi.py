"""Renyi divergence of one release at every real order > 1: upper bounds, the larger of both directions.

a      order minus 1, so that orders near 1 keep their digits;  alpha  order = 1 + a
K      a * divergence = log E[(P / Q)^alpha under Q]: convex in alpha, 0 at alpha = 1
A bound that is known at integer orders holds in between on the chord of K, because K is convex.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from privacy._sampled_gaussian import sampled_gaussian_rdp, sampled_pure_rdp
from privacy.errors import UnsupportedEvent
from privacy.events import (
    ApproximateDP,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    DistributedDiscreteGaussian,
    DistributedSkellam,
    Event,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    NonPrivate,
    PermuteAndFlip,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    Repeated,
    SampledWithoutReplacement,
    ZeroConcentratedDP,
)
from privacy.neighbours import Neighbours
from privacy.zcdp import rho_of

Floats = npt.NDArray[np.float64]

# Every result is pushed this far up: it covers the rounding of the closed forms.
_GUARD = 1e-12
_ULP = 2.0**-53
# Smaller sampling rates count as this one.
_LEAST_RATE = 1e-300
# Largest order of the bound for samples of a fixed size, a sum of as many terms.
_LARGEST_SUM = 1024


def pure_part(event: Event) -> float:
    """Return the epsilon of a single release that is epsilon-DP but for its own delta; infinity if it is not.

    Examples
    --------
    >>> pure_part(Laplace(2.0)) >= 0.5, pure_part(ApproximateDP(0.1, 1e-9)), pure_part(Gaussian(2.0))
    (True, 0.1, inf)
    """
    match event:
        case (
            PureDP(epsilon=epsilon)
            | RandomizedResponse(epsilon=epsilon)
            | PermuteAndFlip(epsilon=epsilon)
            | ExponentialMechanism(epsilon=epsilon)
            | ApproximateDP(epsilon=epsilon)
        ):
            return epsilon
        case Laplace(noise_multiplier=noise_multiplier) | DiscreteLaplace(noise_multiplier=noise_multiplier):
            return _inverse_up(noise_multiplier)
        case PoissonSampled(event=part, sampling_rate=rate):
            return _amplified(pure_part(part), rate)
        case SampledWithoutReplacement(event=part, sample_size=size, population_size=population):
            return _amplified(pure_part(part), size / population)
        case _:
            return math.inf


def _inverse_up(value: float) -> float:
    """Return the least double that is not below 1 / value."""
    inverse = 1 / value
    exact = math.isinf(inverse) or Fraction(inverse) * Fraction(value) >= 1
    return inverse if exact else math.nextafter(inverse, math.inf)


def _amplified(epsilon: float, rate: float) -> float:
    # Balle, Barthe, Gaboardi 2018, arXiv:1807.01647, Theorems 8 and 9: log(1 + q (e^epsilon - 1)), rounded up.
    if math.isinf(epsilon) or rate == 1:
        return epsilon
    grown = math.log1p(rate * math.expm1(epsilon)) if epsilon < 700 else epsilon
    return min(epsilon, grown * (1 + 4 * _GUARD))


def failure_of(event: Event) -> float:
    """Return the delta that a single release adds by itself: 0 for all but approximate DP."""
    match event:
        case ApproximateDP(delta=delta):
            return delta
        case PoissonSampled(event=ApproximateDP(delta=delta), sampling_rate=rate):
            # arXiv:1807.01647, Theorem 8: sampling scales delta as well.
            return delta * rate * (1 + _GUARD)
        case SampledWithoutReplacement(event=ApproximateDP(delta=delta), sample_size=size, population_size=population):
            return delta * (size / population) * (1 + _GUARD)
        case _:
            return 0.0


def divergence(event: Event, a: Floats, *, neighbours: Neighbours, accountant: str) -> Floats:
    """Return the Renyi divergence of a single release at each order 1 + a, shape of a.

    Of approximate DP it is the divergence of the part that is pure; `failure_of` is the rest.

    Raises
    ------
    UnsupportedEvent
        For an event that has no such bound under the relation.
    """
    with np.errstate(over="ignore", under="ignore"):
        value = _divergence(event, a, neighbours, accountant)
        # Where the arithmetic leaves the doubles, the cost is infinite.
        value = np.where(np.isnan(value), np.inf, value)
        # No release is free: what would underflow counts as the least double of full precision.
        return np.maximum(value * (1 + _GUARD), np.finfo(np.float64).tiny if pure_part(event) > 0 else 0.0)


def _divergence(event: Event, a: Floats, neighbours: Neighbours, accountant: str) -> Floats:
    match event:
        case Gaussian(noise_multiplier=noise_multiplier):
            return (1 + a) * (0.5 / noise_multiplier / noise_multiplier)
        case DiscreteGaussian() | DistributedDiscreteGaussian() | ZeroConcentratedDP():
            return (1 + a) * rho_of(event)
        case DistributedSkellam():
            return chord(a, lambda order: _skellam(event, order))
        case Laplace(noise_multiplier=noise_multiplier):
            return laplace(_inverse_up(noise_multiplier), a)
        case RandomizedResponse() if neighbours != "replace_one":
            raise UnsupportedEvent(event, accountant=accountant, reason="it holds under replace_one only")
        case PureDP() | RandomizedResponse() | PermuteAndFlip() | DiscreteLaplace():
            # Discrete Laplace noise on an integer of sensitivity 1 is as bad as randomised response, and no better.
            return pure(pure_part(event), a)
        case ExponentialMechanism(epsilon=epsilon):
            return bounded_range(epsilon, a)
        case ApproximateDP(epsilon=epsilon):
            # (epsilon, delta)-DP is epsilon-DP but for probability delta: Kairouz, Oh, Viswanath 2015, Theorem 3.1.
            return pure(epsilon, a)
        case PoissonSampled():
            return _poisson_sampled(event, a, neighbours, accountant)
        case SampledWithoutReplacement():
            return _fixed_size_sampled(event, a, neighbours, accountant)
        case NonPrivate():
            raise UnsupportedEvent(event, accountant=accountant, reason="an exact release has no finite cost")
        case Composed() | Repeated():
            raise UnsupportedEvent(
                event, accountant=accountant, reason="no bound is known for several releases on one sample"
            )
        case _:
            raise UnsupportedEvent(event, accountant=accountant, reason="this kind of event is unknown here")


def pure(epsilon: float, a: Floats) -> Floats:
    """Return the divergence of randomised response, the worst case of epsilon-DP.

    exp(K) = (e^(alpha epsilon) + e^(-a epsilon)) / (1 + e^epsilon), so exp(K) - 1 is a product of positive factors:
    (1 - e^(-a epsilon)) (e^(alpha epsilon) - 1) / (1 + e^epsilon).
    """
    if epsilon == 0 or math.isinf(epsilon):
        return np.full_like(a, epsilon)
    alpha = 1 + a
    with np.errstate(divide="ignore"):
        log_excess = (
            np.log(-np.expm1(-a * epsilon))
            + alpha * epsilon
            + np.log(-np.expm1(-alpha * epsilon))
            - np.logaddexp(0.0, epsilon)
        )
    return np.minimum(_from_excess(log_excess, a, alpha * epsilon), epsilon)


def laplace(epsilon: float, a: Floats) -> Floats:
    """Return the divergence of Laplace noise of scale 1 / epsilon times the L1 sensitivity.

    exp(K) = (alpha e^(a epsilon) + a e^(-alpha epsilon)) / (2 alpha - 1): Mironov 2017, arXiv:1702.07476,
    Proposition 6. K is convex in epsilon and 0 at 0, hence superadditive: a vector costs no more than one number of
    the same L1 sensitivity.
    """
    alpha = 1 + a
    with np.errstate(over="ignore", invalid="ignore"):
        # exp(K) - 1 as two positive terms, with f(x) = e^x - 1 - x; the linear parts cancel.
        excess = (alpha * _exp_beyond_linear(a * epsilon) + a * _exp_beyond_linear(-alpha * epsilon)) / (2 * alpha - 1)
        large = a * epsilon + np.log(alpha / (2 * alpha - 1))
    log_excess = np.where(a * epsilon < 600, np.log(np.maximum(excess, 1e-320)), large)
    return np.minimum(_from_excess(log_excess, a, alpha * epsilon), epsilon)


def _exp_beyond_linear(x: Floats) -> Floats:
    """Return e^x - 1 - x without cancellation."""
    series = np.zeros_like(x)
    for k in range(14, 1, -1):
        series = (series + 1) * x / k if k > 2 else (series + 1) * x * x / 2
    return np.where(np.abs(x) < 0.25, series, np.expm1(x) - x)


def _from_excess(log_excess: Floats, a: Floats, exponent: Floats) -> Floats:
    # The logarithm of the excess carries the rounding of its largest exponent.
    return np.asarray(np.logaddexp(0.0, log_excess + 16 * _ULP * (1 + exponent)) / a)


def bounded_range(epsilon: float, a: Floats) -> Floats:
    """Return the divergence of the worst release whose log likelihood ratios span at most epsilon.

    The ratios lie in [x^-1 e^-epsilon, x^-1] for some x in [e^-epsilon, 1] and have mean 1; the mean of a convex
    function is largest on the two ends, which gives exp(K) = x^-alpha (c x + d) with c = (1 - e^(-alpha epsilon)) /
    (1 - e^-epsilon), d = e^(-alpha epsilon) - e^-epsilon c; its maximum over x is at x = -alpha d / (a c).
    Never more than epsilon^2 / 8 times alpha (arXiv:2004.07223, Lemma 3.4), which is used where that is less.
    """
    alpha = 1 + a
    simple = alpha * (epsilon * epsilon / 8)
    with np.errstate(all="ignore"):
        log_c = np.log(-np.expm1(-alpha * epsilon)) - math.log(-math.expm1(-epsilon))
        # -d / c = (e^-epsilon - e^(-alpha epsilon)) / (1 - e^(-alpha epsilon)).
        log_x = np.log(alpha / a) - epsilon + np.log(-np.expm1(-a * epsilon)) - np.log(-np.expm1(-alpha * epsilon))
        k = log_c - np.log(alpha) - a * log_x
        k += 32 * _ULP * (4 + np.abs(log_c) + np.log(alpha) + a * (epsilon + np.abs(np.log(a)) + 4))
        value = np.where(np.isfinite(k), k / a, np.inf)
    return np.minimum(np.minimum(value, simple), np.minimum(pure(epsilon, a), epsilon))


def chord(a: Floats, log_moment: Callable[[Floats], Floats]) -> Floats:
    """Return the divergence at real orders of a bound on K at integer orders >= 2 (given as an array of them)."""
    below = np.floor(a)
    wanted, place = np.unique(np.concatenate((below, below + 1)), return_inverse=True)
    known = np.zeros_like(wanted)
    positive = wanted > 0
    known[positive] = log_moment(wanted[positive] + 1)
    low, high = known[place[: len(a)]], known[place[len(a) :]]
    part = a - below
    # Where the order is an integer, the upper end must not matter, even if it is infinite.
    with np.errstate(invalid="ignore"):
        value = np.where(part > 0, low * (1 - part) + high * part, low)
    return np.asarray(value * (1 + 4 * _ULP) / a)


def _skellam(event: DistributedSkellam, order: Floats) -> Floats:
    # arXiv:2110.04995, Theorem 3.5, for integer orders, with the total variance m:
    #   alpha l2^2 / 2m + min(((2 alpha - 1) l2^2 + 6 l1) / 4m^2, 3 l1 / 2m)
    variance = event.n_honest * event.per_party_variance
    l1, l2_squared = float(event.l1_sensitivity), float(event.l2_sensitivity_squared)
    beyond = np.minimum(((2 * order - 1) * l2_squared + 6 * l1) / 4 / variance / variance, 1.5 * l1 / variance)
    return (order - 1) * (order * (l2_squared / 2 / variance) + beyond) * (1 + 16 * _ULP)


def _poisson_sampled(event: PoissonSampled, a: Floats, neighbours: Neighbours, accountant: str) -> Floats:
    if neighbours != "add_remove_one":
        raise UnsupportedEvent(event, accountant=accountant, reason="Poisson sampling holds under add_remove_one only")
    # Rates near the end of the doubles lose digits on the way, down to nothing; a larger one costs no less.
    inner, rate = event.event, max(event.sampling_rate, _LEAST_RATE)
    if rate == 1:
        return _divergence(inner, a, neighbours, accountant)
    match inner:
        case Gaussian(noise_multiplier=noise_multiplier):
            return sampled_gaussian_rdp(noise_multiplier, rate, a)
        case DiscreteGaussian(scale=scale, l2_sensitivity_squared=l2_squared):
            # At integer orders the moment is a sum over k of binomial terms times exp((k - 1) divergence of order k),
            # and the divergence is at most the Gaussian's. The pair of laws is its own mirror image.
            multiplier = scale / math.sqrt(l2_squared) * (1 - 4 * _ULP)
            sampled = chord(a, lambda order: (order - 1) * sampled_gaussian_rdp(multiplier, rate, order - 1))
            return np.minimum(sampled, (1 + a) * rho_of(inner))
        case PureDP() | Laplace() | DiscreteLaplace() | PermuteAndFlip() | ExponentialMechanism():
            epsilon = pure_part(inner)
            return sampled_pure_rdp(epsilon, rate, a) if math.isfinite(epsilon) else np.full_like(a, np.inf)
        case ApproximateDP(epsilon=epsilon):
            return sampled_pure_rdp(epsilon, rate, a) if epsilon > 0 else np.zeros_like(a)
        case _:
            # Names the inner event if that is what has no price; otherwise the sampling of it.
            _divergence(inner, a[:1], neighbours, accountant)
            raise UnsupportedEvent(event, accountant=accountant, reason="no bound is known for a sample of this event")


def _fixed_size_sampled(event: SampledWithoutReplacement, a: Floats, neighbours: Neighbours, accountant: str) -> Floats:
    if neighbours != "replace_one":
        raise UnsupportedEvent(
            event, accountant=accountant, reason="samples of a fixed size are priced under replace_one only"
        )
    inner, rate = event.event, event.sample_size / event.population_size
    # The neighbours' samples differ in one patient at most, and the divergence is quasi-convex.
    unsampled = _divergence(inner, a, neighbours, accountant)
    if event.sample_size == event.population_size:
        return unsampled
    match inner:
        case Gaussian() | DiscreteGaussian() | ZeroConcentratedDP():
            rho = rho_of(inner)
            summed = a + 1 <= _LARGEST_SUM
            sampled = np.full_like(a, np.inf)
            if not summed.any():
                return unsampled
            sampled[summed] = chord(a[summed], lambda order: _fixed_size_moment(rho, rate, order))
            return np.minimum(unsampled, sampled)
        case (
            PureDP() | Laplace() | DiscreteLaplace() | RandomizedResponse() | PermuteAndFlip() | ExponentialMechanism()
        ):
            return np.minimum(unsampled, pure(pure_part(event), a))
        case ApproximateDP(epsilon=epsilon):
            return pure(_amplified(epsilon, rate), a)
        case _:
            raise UnsupportedEvent(event, accountant=accountant, reason="no bound is known for a sample of this event")


def _fixed_size_moment(rho: float, rate: float, order: Floats) -> Floats:
    """Return K at integer orders of a rho-zCDP release on a sample of a fixed size.

    Source: Wang, Balle, Kasiviswanathan 2019, arXiv:1808.00087, Theorem 9, with an infinite epsilon(infinity):
    exp(K) = 1 + q^2 binomial(alpha, 2) min(4 (e^epsilon(2) - 1), 2 e^epsilon(2))
               + sum over j >= 3 of 2 q^j binomial(alpha, j) e^((j - 1) epsilon(j)),  epsilon(j) = rho j.
    """
    j = np.arange(2, int(order.max()) + 1, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        # log of binomial(alpha, j), one row an order; minus infinity beyond j = alpha.
        steps = np.log(np.maximum(order[:, None] - j + 1, 0.0)) - np.log(j)
        log_binomial = np.log(order)[:, None] + np.cumsum(steps, axis=1)
    terms = log_binomial + j * math.log(rate) + (j - 1) * j * rho + math.log(2)
    second = 2 * rho
    least = min(math.log(4 * math.expm1(second)), math.log(2) + second) if second < 700 else math.log(2) + second
    terms[:, 0] += least - second - math.log(2)
    terms += 1e-10  # the rounding of up to a thousand logarithms
    top = terms.max(axis=1)
    finite = np.isfinite(top)
    out = np.full_like(order, np.inf)
    shifted = np.exp(terms[finite] - top[finite, None])
    out[finite] = np.logaddexp(0.0, top[finite] + np.log(shifted.sum(axis=1)))
    return out
