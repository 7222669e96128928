"""One release: P(L <= l) and its companions at given losses, for the grid."""

from __future__ import annotations

import math

import numpy as np

from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._sampled_laplace import SampledLaplaceTerm
from privacy.numerical._terms import AtomsTerm, DiscreteGaussianTerm, FloatArray, GaussianTerm, LaplaceTerm, Term

_ROOT_HALF = math.sqrt(0.5)

# P(L <= l), P(L > l), Q(L <= l), Q(L > l).
Tails = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


def normal_low(x: FloatArray) -> FloatArray:
    """Return the standard normal distribution function, with relative accuracy in the lower tail."""
    return 0.5 * np.fromiter(map(math.erfc, (-_ROOT_HALF * x).tolist()), dtype=np.float64, count=len(x))


def tails(term: Term, losses: FloatArray) -> Tails:
    """Return the four tails of a single release (whatever the term's count) at increasing losses."""
    match term:
        case GaussianTerm(mu=mu):
            # L ~ N(mu, 2 mu) under P and N(-mu, 2 mu) under Q.
            sd = math.sqrt(2 * mu)
            p, q = (losses - mu) / sd, (losses + mu) / sd
            return normal_low(p), normal_low(-p), normal_low(q), normal_low(-q)
        case SampledGaussianTerm():
            return _sampled(term, losses)
        case LaplaceTerm(epsilon=e):
            return _laplace(e, losses)
        case SampledLaplaceTerm():
            return _sampled_laplace(term, losses)
        case AtomsTerm(losses=values, probabilities=p):
            return _atoms(np.array(values), np.array(p), np.array(p) * np.exp(-np.array(values)), losses)
        case DiscreteGaussianTerm(scale=scale):
            # Beyond 40 scales lies less than exp(-800): less than any delta that the grid is asked for.
            reach = math.ceil(40 * scale) + 2
            x = np.arange(reach, -reach - 1, -1, dtype=np.float64)
            p, q = (np.exp(-y * y / (2 * scale * scale)) for y in (x, x - 1))
            whole = p.sum()
            return _atoms((1 - 2 * x) / (2 * scale * scale), p / whole, q / whole, losses)
        case _:
            raise TypeError(f"no tails for {type(term).__name__}")


def _inner(ratio: FloatArray, q: float) -> FloatArray:
    """Return log(1 + expm1(ratio) / q), -inf at and below ratio = log(1 - q).

    Well below 0 it is log((1 - q) / q expm1(ratio - log(1 - q))): what is rounded there is a few units of the loss, and
    all losses may be wrong by as much.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        near = np.log1p(np.maximum(np.expm1(ratio) / q, -1))
        far = np.log((1 - q) / q * np.maximum(np.expm1(ratio - math.log1p(-q)), 0))
    return np.where(ratio < -0.5, far, near)


def _sampled(term: SampledGaussianTerm, losses: FloatArray) -> Tails:
    s, q = term.noise_multiplier, term.sampling_rate
    remove = term.direction == "remove"
    ratio = losses if remove else -losses
    # D(x) = exp(ratio): x = s^2 w + 1/2 with expm1(w) = expm1(ratio) / q; below log(1 - q) there is nothing.
    w = np.where(ratio > 500, ratio - math.log(q), _inner(ratio, q))
    u = s * w + 0.5 / s
    low, high = normal_low(u), normal_low(-u)
    shifted_low, shifted_high = normal_low(u - 1 / s), normal_low(1 / s - u)
    mixed_low, mixed_high = (1 - q) * low + q * shifted_low, (1 - q) * high + q * shifted_high
    if remove:
        return mixed_low, mixed_high, low, high
    return high, low, mixed_high, mixed_low


def _laplace(e: float, losses: FloatArray) -> Tails:
    inside = np.clip(losses, -e, e)
    # P(L <= l) = exp((l - e) / 2) / 2 inside, with atoms 1/2 at e and exp(-e) / 2 at -e.
    p_low = np.where(losses >= e, 1.0, np.where(losses < -e, 0.0, 0.5 * np.exp(0.5 * (inside - e))))
    q_high = np.where(losses >= e, 0.0, np.where(losses < -e, 1.0, 0.5 * np.exp(-0.5 * (inside + e))))
    return p_low, 1 - p_low, 1 - q_high, q_high


def _sampled_laplace(term: SampledLaplaceTerm, losses: FloatArray) -> Tails:
    q, e = term.sampling_rate, term.epsilon
    remove = term.direction == "remove"
    # D(l) = exp(ratio); below log(1 - q) there is nothing.
    l = _inner(losses if remove else -losses, q)
    own_low, own_high, low, high = _laplace(e, np.clip(l, -2 * e, 2 * e))
    mixed_low, mixed_high = (1 - q) * low + q * own_low, (1 - q) * high + q * own_high
    if remove:
        return mixed_low, mixed_high, low, high
    return high, low, mixed_high, mixed_low


def _atoms(values: FloatArray, p: FloatArray, q: FloatArray, losses: FloatArray) -> Tails:
    at = np.searchsorted(values, losses, side="right")
    p_sum, q_sum = _running(p), _running(q)
    p_rest, q_rest = _running(p[::-1])[::-1], _running(q[::-1])[::-1]
    return p_sum[at], p_rest[at], q_sum[at], q_rest[at]


def _running(x: FloatArray) -> FloatArray:
    """Return the sums of the first 0, 1, ... numbers: within blocks and of blocks, so that few roundings add up."""
    width = math.isqrt(len(x)) + 1
    blocks = np.pad(x, (0, -len(x) % width)).reshape(-1, width)
    within = np.cumsum(blocks, axis=1)
    before = np.concatenate(([0.0], np.cumsum(within[:-1, -1])))
    return np.concatenate(([0.0], (within + before[:, None]).ravel()[: len(x)]))
