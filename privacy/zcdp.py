"""Zero-concentrated differential privacy (zCDP): one number per release, added under full adaptivity.

rho        a mechanism is rho-zCDP if its Renyi divergence of every order alpha > 1 between neighbours is <= rho alpha
Sources: Bun, Steinke 2016, arXiv:1605.02065 (definition, composition, pure DP); Canonne, Kamath, Steinke 2020,
arXiv:2004.00010, Proposition 12 (conversion); Kairouz, Liu, Steinke 2021, arXiv:2102.06387, Proposition 14
(sums of discrete Gaussians); Cesar, Rogers 2021, arXiv:2004.07223 (bounded range).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count, check_non_negative, check_positive, check_probability
from privacy.accountant import Accountant
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

# Results are pushed this far to the safe side: it covers the rounding of some hundred double operations.
_GUARD = 1e-12

# No release is free: what would underflow counts as the least double of full precision.
_LEAST_RHO = sys.float_info.min


def rho_of(event: Event, *, neighbours: Neighbours | None = None) -> float:
    """Return the rho that the event costs, an upper bound.

    Parameters
    ----------
    event
        What was released.
    neighbours
        The relation of the account, if it is known. Without it, an event that holds under one relation only is
        refused.

    Raises
    ------
    UnsupportedEvent
        For an event that no rho covers (an exact release, approximate DP, a sampled release) or an unknown one.

    Examples
    --------
    >>> round(rho_of(DiscreteGaussian(scale=10.0, l2_sensitivity_squared=21)), 6)
    0.105
    """
    return _or_infinite(lambda: _rho(event, neighbours)) * (1 + _GUARD)


def _or_infinite(compute: Callable[[], float]) -> float:
    # Python raises where a sum or an integer leaves the doubles; as a cost, that is infinite.
    try:
        return compute()
    except OverflowError:
        return math.inf


def _rho(event: Event, neighbours: Neighbours | None) -> float:
    match event:
        case Composed(events=events):
            return math.fsum(_rho(part, neighbours) for part in events)
        case Repeated(event=part, count=count):
            return _rho(part, neighbours) * count
        case _:
            return max(_rho_of_one(event, neighbours), _LEAST_RHO)


def _rho_of_one(event: Event, neighbours: Neighbours | None) -> float:
    match event:
        case Gaussian(noise_multiplier=noise_multiplier):
            return 0.5 / noise_multiplier / noise_multiplier
        case DiscreteGaussian(scale=scale, l2_sensitivity_squared=l2_squared):
            return 0.5 * l2_squared / scale / scale
        case DistributedDiscreteGaussian():
            return _distributed_rho(event)
        case Laplace(noise_multiplier=noise_multiplier) | DiscreteLaplace(noise_multiplier=noise_multiplier):
            return _pure_rho(1 / noise_multiplier)
        case PureDP(epsilon=epsilon) | PermuteAndFlip(epsilon=epsilon):
            return _pure_rho(epsilon)
        case RandomizedResponse(epsilon=epsilon):
            if neighbours != "replace_one":
                raise UnsupportedEvent(event, accountant="zCDP", reason="it holds under replace_one only")
            return _pure_rho(epsilon)
        case DistributedSkellam():
            return _skellam_rho(event)
        case ExponentialMechanism(epsilon=epsilon):
            return min(epsilon * epsilon / 8, _pure_rho(epsilon))
        case ZeroConcentratedDP(rho=rho):
            return rho
        case ApproximateDP():
            raise UnsupportedEvent(event, accountant="zCDP", reason="its delta is no rho; an RDP accountant adds it")
        case PoissonSampled() | SampledWithoutReplacement():
            raise UnsupportedEvent(
                event, accountant="zCDP", reason="what sampling saves is no rho; an RDP accountant knows it"
            )
        case NonPrivate():
            raise UnsupportedEvent(event, accountant="zCDP", reason="an exact release has no finite cost")
        case _:
            raise UnsupportedEvent(event, accountant="zCDP", reason="this kind of event is unknown here")


def _pure_rho(epsilon: float) -> float:
    # arXiv:1605.02065, Proposition 3.3: epsilon-DP is (epsilon^2 / 2)-zCDP; the divergence also never exceeds
    # epsilon at any order, which is at most epsilon * alpha.
    return min(epsilon * epsilon / 2, epsilon)


def _distributed_rho(event: DistributedDiscreteGaussian) -> float:
    # arXiv:2102.06387, Proposition 14, second branch (never worse than the third), divided by alpha:
    #   tau = 10 sum_{k=1}^{n-1} exp(-2 pi^2 s^2 k / (k + 1))
    #   rho = (l2^2 / (n s^2) + 2 l1 tau / (sqrt(n) s) + tau^2 d) / 2
    scale, n = event.per_party_scale, event.n_honest
    tau = 10 * math.fsum(math.exp(-2 * math.pi**2 * scale * scale * k / (k + 1)) for k in range(1, n))
    return 0.5 * math.fsum(
        (
            event.l2_sensitivity_squared / (n * scale * scale),
            2 * event.l1_sensitivity * tau / (math.sqrt(n) * scale),
            tau * tau * event.dimension,
        )
    )


def _skellam_rho(event: DistributedSkellam) -> float:
    # arXiv:2110.04995, Theorem 3.5, bounds the divergence D(alpha) at integer orders alpha >= 2:
    #   alpha l2^2 / 2m + min(((2 alpha - 1) l2^2 + 6 l1) / 4m^2, 3 l1 / 2m),  m the total variance.
    # Divergences grow with the order, so between the integers D(alpha) / alpha <= D(n + 1) / n, which is largest for
    # n = 1: rho = D(2), up to twice what the rate of large orders would be. RDP accountants and filters are tighter.
    variance = event.n_honest * event.per_party_variance
    l1, l2_squared = event.l1_sensitivity, event.l2_sensitivity_squared
    beyond = min((3 * l2_squared + 6 * l1) / 4 / variance / variance, 3 * l1 / 2 / variance)
    return l2_squared / variance + beyond


def rho_to_delta(rho: float, epsilon: float) -> float:
    """Return a delta such that every rho-zCDP mechanism is (epsilon, delta)-DP: an upper bound, minimised over orders.

    Examples
    --------
    >>> f"{rho_to_delta(0.5, 4.0):.3g}"
    '0.000196'
    """
    check_non_negative("rho", rho)
    check_non_negative("epsilon", epsilon)
    if rho == 0:
        return 0.0
    # arXiv:2004.00010, Proposition 12: for every order alpha > 1,
    #   delta = exp((alpha - 1)(alpha rho - epsilon)) / (alpha - 1) * (1 - 1/alpha)^alpha.
    # Any order is valid, so an inexact minimum is only loose. The exponent is convex in alpha - 1 on a log grid
    # narrowed thrice around its minimum.
    # The minimum lies near the order epsilon / (2 rho), and near 1 / sqrt(2 rho) if epsilon is small.
    low, high = -20.0, min(700.0, 5 + max(0.0, math.log1p(epsilon) - math.log(rho), -0.5 * math.log(rho)))
    best = math.inf
    for _ in range(4):
        grid = np.linspace(low, high, 129)
        value = _log_delta(rho, epsilon, np.exp(grid))
        at = int(np.argmin(value))
        best = min(best, float(value[at]))
        low, high = float(grid[max(at - 1, 0)]), float(grid[min(at + 1, 128)])
    # The next double upwards: a delta that underflows is tiny, not zero.
    return min(1.0, math.nextafter(math.exp(min(best, 0.0)) * (1 + 1e-9), math.inf))


def _log_delta(rho: float, epsilon: float, order_minus_one: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    a = order_minus_one
    order = 1 + a
    # (1 - 1/alpha)^alpha = exp(alpha (log a - log(1 + a))), stable for small and large a.
    log_ratio = -np.log1p(1 / a)
    with np.errstate(over="ignore"):  # an infinite exponent at some orders is no minimum
        result: npt.NDArray[np.float64] = a * (order * rho - epsilon) + order * log_ratio - np.log(a)
    return result


def rho_to_epsilon(rho: float, delta: float) -> float:
    """Return an epsilon such that every rho-zCDP mechanism is (epsilon, delta)-DP: the smallest, rounded up.

    Examples
    --------
    >>> round(rho_to_epsilon(0.0149731, 1e-9), 4)
    1.0
    """
    check_non_negative("rho", rho)
    check_probability("delta", delta)
    if rho == 0:
        return 0.0
    # The search starts from the simple bound of arXiv:1605.02065, Proposition 1.3, which is enough.
    low, high = 0.0, rho + 2 * math.sqrt(-rho * math.log(delta))
    if rho_to_delta(rho, low) <= delta:
        return 0.0
    while math.isfinite(high) and rho_to_delta(rho, high) > delta:
        high *= 2
    if math.isinf(high):
        return math.inf
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if rho_to_delta(rho, middle) > delta else (low, middle)
    return high * (1 + _GUARD)


# Every step of a study is priced from the same few budgets, and a price takes some 80 evaluations.
@lru_cache(maxsize=1024)
def epsilon_to_rho(epsilon: float, delta: float) -> float:
    """Return the largest rho, rounded down, such that every rho-zCDP mechanism is (epsilon, delta)-DP.

    Examples
    --------
    >>> round(epsilon_to_rho(1.0, 1e-9), 8)
    0.01497306
    """
    check_positive("epsilon", epsilon)
    check_probability("delta", delta)
    low, high = 0.0, 1.0
    while rho_to_delta(high, epsilon) <= delta:
        low, high = high, high * 2
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if rho_to_delta(middle, epsilon) <= delta else (low, middle)
    # Far enough down that an accountant's upward guards do not carry the account over its own epsilon.
    return low * (1 - 8 * _GUARD)


class ZcdpAccountant(Accountant):
    """Adds up rho. Enforce a budget with `privacy.filters.ZcdpFilter`; this one reports.

    Parameters
    ----------
    neighbours
        The relation under which the events' sensitivities hold.

    Examples
    --------
    >>> accountant = ZcdpAccountant(neighbours="add_remove_one")
    >>> accountant.compose(DiscreteGaussian(noise_multiplier=20.0), count=10)
    >>> round(accountant.epsilon(delta=1e-6), 3)
    0.7
    """

    def __init__(self, *, neighbours: Neighbours) -> None:
        super().__init__(neighbours=neighbours)
        self._rhos: list[float] = []

    def supports(self, event: Event) -> bool:
        """Return whether `compose` would accept the event."""
        try:
            rho_of(event, neighbours=self.neighbours)
        except UnsupportedEvent:
            return False
        return True

    def compose(self, event: Event, *, count: int = 1) -> None:
        """Add `count` releases of the event. Raises UnsupportedEvent and leaves the accountant unchanged."""
        check_count("count", count)
        self._rhos.append(rho_of(Repeated(event, count), neighbours=self.neighbours))

    @property
    def rho(self) -> float:
        """What was composed so far, rounded up."""
        return _or_infinite(lambda: math.fsum(self._rhos)) * (1 + _GUARD)

    def epsilon(self, *, delta: float) -> float:
        """Return an upper bound on epsilon at this delta."""
        check_probability("delta", delta)
        return math.inf if math.isinf(self.rho) else rho_to_epsilon(self.rho, delta)

    def delta(self, *, epsilon: float) -> float:
        """Return an upper bound on delta at this epsilon."""
        check_non_negative("epsilon", epsilon)
        return 1.0 if math.isinf(self.rho) else rho_to_delta(self.rho, epsilon)
