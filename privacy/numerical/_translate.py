"""From events to privacy losses: the pair of laws that dominates each release, in each direction.

A pair (P, Q) dominates a release if its privacy curve is nowhere below; curves of independent pairs compose (Zhu, Dong,
Wang 2022, arXiv:2106.08567, Theorems 10 and 11, also for Poisson sampling). Worst cases of pure and approximate DP:
Kairouz, Oh, Viswanath 2015, arXiv:1311.0776.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from privacy._renyi import divergence, failure_of, pure_part
from privacy.accountant import leaves
from privacy.errors import UnsupportedEvent
from privacy.events import (
    ApproximateDP,
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
    SampledWithoutReplacement,
    ZeroConcentratedDP,
)
from privacy.neighbours import Neighbours
from privacy.numerical._moments import MomentTerm
from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._sampled_laplace import MOST_EPSILON, SampledLaplaceTerm
from privacy.numerical._terms import UNIT, AtomsTerm, DiscreteGaussianTerm, GaussianTerm, LaplaceTerm, Term

Direction = Literal["remove", "add"]

# Beyond these a loss leaves what doubles can carry, and is taken for infinite; from below, for nothing.
_MOST_EPSILON = 1e5
_MOST_MEAN = 1e12
# A sum of losses smaller than this is raised to it; from below, it is nothing.
_LEAST_MEAN = 1e-28
# Of a two-valued loss beyond this, the other value has a probability that doubles cannot hold.
_MOST_FINITE = 660.0
_NAME = "the numerical accountant"

_SAMPLED_PURE = Laplace | DiscreteLaplace | PureDP | PermuteAndFlip | ExponentialMechanism


@dataclass(frozen=True, slots=True)
class Composition:
    """What a direction composes to.

    terms          losses with known laws
    moments        releases of which only Renyi divergences are known
    instead        a second valid description: (others, moments) instead of the exponential mechanisms among the terms
    log_finite     log of the probability that no release has an infinite loss (approximate DP); -inf: nothing is known
    lost           the probability that some release has one, if it is known without any rounding; else None
    below          a composition that costs no more, where this one costs more than the releases do: lower bounds are
                   its; None where this one is exact
    """

    terms: tuple[Term, ...]
    moments: tuple[MomentTerm, ...]
    instead: tuple[tuple[Term, ...], tuple[MomentTerm, ...]] | None
    log_finite: float
    lost: float | None = None
    below: Composition | None = None


def check_supported(event: Event, neighbours: Neighbours) -> None:
    """Raise UnsupportedEvent, naming the part of the event that cannot be priced under this relation."""
    for leaf, _ in leaves(event):
        _check_leaf(leaf, neighbours)


def _check_leaf(event: Event, neighbours: Neighbours) -> None:
    reason = ""
    match event:
        case NonPrivate():
            reason = "an exact release has no finite cost"
        case RandomizedResponse() if neighbours != "replace_one":
            reason = "randomised response holds under replace_one only"
        case PoissonSampled() if neighbours != "add_remove_one":
            reason = "Poisson sampling holds under add_remove_one only"
        case PoissonSampled(event=inner):
            if sampled_gaussian(event) is None and not isinstance(inner, _SAMPLED_PURE | ApproximateDP):
                reason = "of sampled releases it knows Gaussians, pure and approximate DP"
        case SampledWithoutReplacement():
            # Names the part that has no bound.
            divergence(event, np.ones(1), neighbours=neighbours, accountant=_NAME)
        case (
            Gaussian()
            | DiscreteGaussian()
            | Laplace()
            | DiscreteLaplace()
            | RandomizedResponse()
            | PureDP()
            | PermuteAndFlip()
            | ExponentialMechanism()
            | ApproximateDP()
            | ZeroConcentratedDP()
            | DistributedDiscreteGaussian()
            | DistributedSkellam()
        ):
            pass
        case _:
            reason = "this kind of event is unknown here"
    if reason:
        raise UnsupportedEvent(event, accountant=_NAME, reason=reason)


def sampled_gaussian(event: PoissonSampled) -> float | None:
    """Return the noise multiplier of a sampled release made of Gaussians alone, rounded down; else None."""
    between = _sampled_noise(event)
    return None if between is None else between[0]


def _sampled_noise(event: PoissonSampled) -> tuple[float, float] | None:
    """Return bounds on the noise multiplier of a sampled release made of Gaussians alone; else None.

    Gaussians on the same sample add up to one: 1 / s^2 = sum 1 / s_i^2.
    """
    parts = list(leaves(event.event))
    if not all(isinstance(part, Gaussian) for part, _ in parts):
        return None
    if len(parts) == 1 and parts[0][1] == 1 and isinstance(parts[0][0], Gaussian):
        return parts[0][0].noise_multiplier, parts[0][0].noise_multiplier
    precision = math.fsum(count / part.noise_multiplier**2 for part, count in parts if isinstance(part, Gaussian))
    noise = 1 / math.sqrt(precision)
    return (1 - 4 * UNIT) * noise, (1 + 4 * UNIT) * noise


def is_tight(event: Event) -> bool:
    """Return whether the pair of each part is attained, so that the answer is exact and not only an upper bound."""
    return all(_is_tight(leaf) for leaf, _ in leaves(event))


def _is_tight(event: Event) -> bool:
    match event:
        case DiscreteGaussian():
            return _on_a_lattice(event)
        case PoissonSampled(event=inner):
            if isinstance(inner, Laplace):
                return 1 / inner.noise_multiplier <= MOST_EPSILON
            return not isinstance(inner, ExponentialMechanism | PermuteAndFlip | ApproximateDP)
        case (
            ExponentialMechanism()
            | PermuteAndFlip()
            | ZeroConcentratedDP()
            | DistributedDiscreteGaussian()
            | DistributedSkellam()
            | SampledWithoutReplacement()
        ):
            return False
        case _:
            return True


def _on_a_lattice(event: DiscreteGaussian) -> bool:
    # Integers of modulus <= 1: as many coordinates of sensitivity 1 as the squared length.
    return event.linf_sensitivity == 1 or event.l2_sensitivity_squared == 1


def is_sampled(event: Event) -> bool:
    """Return whether the two directions of the event differ."""
    return isinstance(event, PoissonSampled)


def compose(counts: Mapping[Event, int], direction: Direction) -> Composition:
    """Return what the counted single releases compose to; every event has been checked."""
    made, exact = _compose(counts, direction, lower=False)
    return made if exact else replace(made, below=_compose(counts, direction, lower=True)[0])


def _compose(counts: Mapping[Event, int], direction: Direction, *, lower: bool) -> tuple[Composition, bool]:
    """Return a composition that costs at least as much, or at most as much if `lower`; and whether it is exact."""
    mu: list[float] = []
    atoms: dict[tuple[float, float], int] = {}
    laplaces: dict[float, int] = {}
    others: list[Term] = []
    moments: list[MomentTerm] = []
    either: list[tuple[float, MomentTerm]] = []
    failures: list[tuple[float, int]] = []
    exact, beyond = True, False

    def failing(event: Event, count: int) -> None:
        if failure_of(event) > 0:
            failures.append((failure_of(event), count))

    def too_large() -> None:
        nonlocal exact, beyond
        exact, beyond = False, not lower

    def pure(epsilon: float, count: int, rate: float = 1.0) -> None:
        if epsilon > _MOST_EPSILON:
            too_large()
        elif epsilon > 0:
            atoms[epsilon, rate] = atoms.get((epsilon, rate), 0) + count

    def normal(noise_multiplier: float, count: int) -> None:
        mean = 0.5 * count / noise_multiplier / noise_multiplier
        if mean > _MOST_MEAN:
            too_large()
        else:
            mu.append(mean)

    for event, count in counts.items():
        match event:
            case Gaussian(noise_multiplier=s):
                normal(s, count)
            case Laplace(noise_multiplier=s):
                if 1 / s > _MOST_EPSILON:
                    too_large()
                else:
                    laplaces[1 / s] = laplaces.get(1 / s, 0) + count
            case DiscreteLaplace(noise_multiplier=s):
                pure(1 / s, count)
            case ExponentialMechanism() | SampledWithoutReplacement(event=ExponentialMechanism()):
                either.append((pure_part(event), MomentTerm(event, count)))
            case RandomizedResponse(epsilon=epsilon) | PureDP(epsilon=epsilon) | PermuteAndFlip(epsilon=epsilon):
                pure(epsilon, count)
            case ApproximateDP(epsilon=epsilon):
                failing(event, count)
                pure(epsilon, count)
            case PoissonSampled(event=ApproximateDP(epsilon=epsilon), sampling_rate=rate):
                # What fails is sampled, too: of probability delta, only delta * rate has an infinite loss.
                failing(event, count)
                pure(epsilon, count, rate)
            case DiscreteGaussian(scale=scale, l2_sensitivity_squared=l2) if _on_a_lattice(event):
                others.append(DiscreteGaussianTerm(scale, count * l2))
            case PoissonSampled(event=inner, sampling_rate=rate):
                between = _sampled_noise(event)
                inner_noise = None if between is None else between[lower]
                exact = exact and (between is None or between[0] == between[1])
                if isinstance(inner, Laplace) and _is_tight(event):
                    epsilon = 1 / inner.noise_multiplier
                    if rate < 1:
                        others.append(SampledLaplaceTerm(epsilon, rate, count, direction))
                    else:
                        laplaces[epsilon] = laplaces.get(epsilon, 0) + count
                elif inner_noise is not None and rate < 1:
                    others.append(SampledGaussianTerm(inner_noise, rate, count, direction))
                elif inner_noise is not None:
                    normal(inner_noise, count)
                else:
                    pure(_pure_epsilon(inner), count, rate)
            case SampledWithoutReplacement() if math.isfinite(pure_part(event)):
                failing(event, count)
                pure(pure_part(event), count)
            case (
                DiscreteGaussian()
                | ZeroConcentratedDP()
                | DistributedDiscreteGaussian()
                | DistributedSkellam()
                | SampledWithoutReplacement()
            ):
                moments.append(MomentTerm(event, count))
            case _:
                raise UnsupportedEvent(event, accountant=_NAME, reason="this kind of event is unknown here")
    terms: list[Term] = [*_merge(others)]
    total = math.fsum(mu)
    if mu and total < _LEAST_MEAN:
        exact = False
    if mu and (total >= _LEAST_MEAN or not lower):
        terms.append(GaussianTerm(max(total, _LEAST_MEAN)))
    terms.extend(LaplaceTerm(epsilon, count) for epsilon, count in laplaces.items())
    plain = [_two_point(epsilon, rate, count, direction) for (epsilon, rate), count in atoms.items()]
    instead = None
    if either:
        instead = ((*terms, *plain), tuple(moment for _, moment in either))
        for epsilon, moment in either:
            pure(epsilon, moment.count)
        plain = [_two_point(epsilon, rate, count, direction) for (epsilon, rate), count in atoms.items()]
    finite = -math.inf if beyond else math.fsum(count * math.log1p(-failure) for failure, count in failures)
    lost = failures[0][0] if len(failures) == 1 and failures[0][1] == 1 and not beyond else None
    return Composition((*terms, *plain), tuple(moments), instead, finite, lost), exact


def _pure_epsilon(event: Event) -> float:
    match event:
        case Laplace(noise_multiplier=s) | DiscreteLaplace(noise_multiplier=s):
            return 1 / s
        case PureDP(epsilon=epsilon) | PermuteAndFlip(epsilon=epsilon) | ExponentialMechanism(epsilon=epsilon):
            return epsilon
        case _:
            raise UnsupportedEvent(event, accountant=_NAME, reason="of sampled releases it knows Gaussians and pure DP")


def _merge(terms: list[Term]) -> list[Term]:
    # Equal laws that came from different events become one.
    merged: dict[Term, int] = {}
    for term in terms:
        if isinstance(term, DiscreteGaussianTerm | SampledGaussianTerm | SampledLaplaceTerm):
            key: Term = replace(term, count=1)
            merged[key] = merged.get(key, 0) + term.count
    return [replace(key, count=count) for key, count in merged.items()]  # type: ignore[type-var]


def _two_point(epsilon: float, rate: float, count: int, direction: Direction) -> Term:
    """Return the randomised-response pair, (e^eps, 1) / (1 + e^eps) against its mirror image, sampled at `rate`.

    Where e^-eps is nothing in doubles, the smaller value is given the probability e^-660 at a loss of -660: that adds
    less than count e^-660 to delta, relative to delta.
    """
    high = 1 / (1 + math.exp(-epsilon))
    low = math.exp(-min(epsilon, _MOST_FINITE)) * high
    if rate == 1:
        return AtomsTerm((-min(epsilon, _MOST_FINITE), epsilon), (low, high), count)
    # remove: P = (1 - r) Q + r P0 against Q; add: P = Q0 = mirror image of the base against (1 - r) P + r Q.
    rest = 1 - rate
    up, down = _log_mean(rate, epsilon), _log_mean(rate, -epsilon)
    # Where the sum within the logarithm is not in doubles, its rounding counts relative to its summands.
    error = 8 * UNIT * (max(1.0, (epsilon - math.log(rate)) / up) if epsilon > _MOST_FINITE else 1.0)
    if direction == "remove":
        # Neither probability is small but with the rate.
        low = math.exp(-epsilon) * high
        return AtomsTerm((down, up), (rest * high + rate * low, rest * low + rate * high), count, error)
    return AtomsTerm((-min(up, _MOST_FINITE), -down), (low, high), count, error)


def _log_mean(rate: float, x: float) -> float:
    """Return log(1 - rate + rate e^x), relatively accurate."""
    rest = 1 - rate
    if x > _MOST_FINITE:
        log_last = x + math.log(rate)
        return log_last + math.log1p(rest * math.exp(-log_last)) if log_last > 0 else math.log1p(math.exp(log_last))
    change = rate * math.expm1(x)
    return math.log1p(change) if change > -0.5 else math.log(rest + rate * math.exp(x))
