"""Compositions of losses with few values: a sum over the outcomes of each kind, met in the middle.

A kind is a loss with two values, of which the outcome is how often it took the larger one, or a discrete Gaussian
(`_discrete_gaussian`). The kinds are dealt into two halves. The outcomes of the inner half are listed and sorted by
their losses l_J, with, at a tilt c and with tilted probabilities b_k,

    B_J = sum over k >= J of b_k exp(-(c + 1) (l_k - l_J)),
    D_J = sum over k >= J of b_k exp(-c (l_k - l_J)) (1 - exp(-(l_k - l_J)));

for each outcome of the outer half, the rest of the sum beyond a loss x, l_J the first above x and g = l_J - x, is
exp(-c g) (D_J + (1 - exp(-g)) B_J): positive numbers throughout. Outcomes without weight at this tilt are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy.numerical._binomial import Window, edges, window
from privacy.numerical._discrete_gaussian import points, sum_window
from privacy.numerical._explicit import LOG_LOST, Accuracy
from privacy.numerical._terms import UNIT, AtomsTerm, DiscreteGaussianTerm, FloatArray, Term

ListedTerm = AtomsTerm | DiscreteGaussianTerm

# Outcomes of the half that is listed once, and of the half that is gone through for each epsilon.
_MOST_INNER = 600_000
_MOST_OUTER = 150_000

# The log of the tilted probability that each side of each kind may leave out.

# Within a block of the sorted half exp(-(c + 1) l) stays far inside the doubles.
_BLOCK = 500.0


@dataclass(frozen=True, slots=True)
class Listed:
    """Outcomes: losses and tilted probabilities."""

    loss: FloatArray
    weight: FloatArray


def listable(terms: Sequence[Term]) -> list[ListedTerm] | None:
    """Return the terms if all are losses with two values or discrete Gaussians, else None."""
    kept: list[ListedTerm] = [
        term
        for term in terms
        if isinstance(term, DiscreteGaussianTerm) or (isinstance(term, AtomsTerm) and len(term.losses) == 2)
    ]
    return kept if terms and len(kept) == len(terms) else None


class AtomSum:
    """The law of a sum of such losses at one tilt; see `_explicit` for how it becomes bounds."""

    def __init__(self, terms: Sequence[ListedTerm], c: float, inner: set[int]) -> None:
        self.c = c
        windows = [tilted_window(term, c) for term in terms]
        parts = [term.at(c) for term in terms]
        self._inner, lost_inner = _combine(terms, windows, [i for i in range(len(terms)) if i in inner])
        self._outer, lost_outer = _combine(terms, windows, [i for i in range(len(terms)) if i not in inner])
        self._inner_b, self._inner_d = _suffix_sums(self._inner, c)
        # Its own roundings and those of the sums it takes part in.
        size = sum(
            largest(term, one) * (loss_error(term) + (4 + len(terms)) * UNIT)
            for term, one in zip(terms, windows, strict=True)
        )
        lost = sum(math.exp(one.log_lost) for one in windows) + lost_inner + lost_outer
        self.accuracy = Accuracy(
            log_moment=math.fsum(part.log_moment for part in parts),
            error=math.fsum(part.error for part in parts)
            + sum(one.error for one in windows)
            # Running sums one way, pairwise ones the other, arguments of exponentials within a block.
            + UNIT * (len(self._inner.loss) + 4 * len(terms) + 4 * _BLOCK + 64),
            slip=size + 4 * UNIT * len(terms),
            log_lost=math.log(lost) + 1e-9 if lost > 0 else -math.inf,
            top=math.fsum(highest(term) for term in terms),
        )

    @staticmethod
    def of(terms: Sequence[Term], c: float) -> AtomSum | None:
        """Return the sum, or None if the terms are of another kind or too many outcomes matter."""
        kept = listable(terms)
        if kept is None:
            return None
        c = min(c, most_tilt(kept))
        inner = _deal(kept, c)
        return None if inner is None else AtomSum(kept, c, inner)

    def log_sum(self, epsilon: float) -> tuple[float, float]:
        """Return log S(epsilon) and the slope of log delta."""
        at = epsilon - self._outer.loss
        first = np.searchsorted(self._inner.loss, at, side="right")
        # The outer losses increase: those that leave nothing above come first.
        start = int(np.searchsorted(-first, -len(self._inner.loss), side="right"))
        first = first[start:]
        if not len(first):
            return -math.inf, math.nan
        gap = self._inner.loss[first] - at[start:]
        nearest = float(gap.min())
        weight = self._outer.weight[start:] * np.exp(-self.c * (gap - nearest))
        b, missing = self._inner_b[first], -np.expm1(-gap)
        total = float(np.sum(weight * (self._inner_d[first] + missing * b)))
        if not total > 0:
            return -math.inf, math.nan
        return math.log(total) - self.c * nearest, -float(np.sum(weight * (1 - missing) * b)) / total


def most_tilt(terms: Sequence[ListedTerm]) -> float:
    """Return a tilt at which every loss takes its larger value but with probability e^-60: more has no use."""
    return max(
        (60 + _logit_shift(term)) / (term.losses[1] - term.losses[0]) if isinstance(term, AtomsTerm) else math.inf
        for term in terms
    )


def _logit_shift(term: AtomsTerm) -> float:
    low, high = term.probabilities
    return max(0.0, math.log(low / high)) + math.log(term.count)


def _logit(term: AtomsTerm, c: float) -> tuple[float, float]:
    """Return the tilted log odds of the larger value and a bound on its error."""
    (low, high), (p_low, p_high) = term.losses, term.probabilities
    logit = c * (high - low) + math.log(p_high / p_low)
    return logit, 2 * term.error * (1 + c * (abs(high) + abs(low))) + 4 * UNIT * (1 + abs(logit))


def tilted_window(term: ListedTerm, c: float, log_lost: float = LOG_LOST) -> Window:
    """Return the tilted probabilities of the outcomes: how often the larger value was taken, or the noise's sum."""
    if isinstance(term, DiscreteGaussianTerm):
        return sum_window(term, c, log_lost)
    logit, wrong = _logit(term, c)
    return window(term.count, logit, log_lost, logit_error=wrong)


def losses(term: ListedTerm, one: Window) -> FloatArray:
    """Return the losses of the outcomes of a window."""
    k = np.arange(one.first, one.last + 1, dtype=np.float64)
    if isinstance(term, DiscreteGaussianTerm):
        return (term.count + 2 * k) / (2 * term.scale * term.scale)
    low, high = term.losses
    return (term.count - k) * low + k * high


def loss_error(term: ListedTerm) -> float:
    """Return the error of a loss, relative to the largest one."""
    return term.error if isinstance(term, AtomsTerm) else 4 * UNIT


def largest(term: ListedTerm, one: Window) -> float:
    """Return a bound on the absolute values of what is added up for the losses of a window."""
    if isinstance(term, DiscreteGaussianTerm):
        return (term.count + 2 * max(abs(one.first), abs(one.last))) / (2 * term.scale * term.scale)
    return term.count * max(map(abs, term.losses))


def highest(term: ListedTerm) -> float:
    """Return the largest loss."""
    return term.count * term.losses[1] if isinstance(term, AtomsTerm) else math.inf


def _deal(terms: Sequence[ListedTerm], c: float) -> set[int] | None:
    """Return which kinds are listed in the inner half, or None if the halves are too large."""
    sizes = [_size(term, c) for term in terms]
    order = sorted(range(len(terms)), key=lambda i: -sizes[i])
    inner, outer, chosen = 1.0, 1.0, set()
    for i in order:
        if inner <= outer:
            inner *= sizes[i]
            chosen.add(i)
        else:
            outer *= sizes[i]
    # The inner half is gone through once, so it may be the larger one.
    if outer > inner:
        inner, outer, chosen = outer, inner, set(range(len(terms))) - chosen
    return chosen if inner <= _MOST_INNER and outer <= _MOST_OUTER else None


def _size(term: ListedTerm, c: float) -> float:
    if isinstance(term, DiscreteGaussianTerm):
        return points(term, c, LOG_LOST)
    first, last = edges(term.count, _logit(term, c)[0], LOG_LOST)
    return last - first + 1.0


def _combine(terms: Sequence[ListedTerm], windows: Sequence[Window], chosen: Sequence[int]) -> tuple[Listed, float]:
    """Return the outcomes of the chosen kinds, sorted, and the probability of those without weight."""
    loss, weight, lost = np.zeros(1), np.ones(1), 0.0
    for i in chosen:
        loss = np.add.outer(loss, losses(terms[i], windows[i])).ravel()
        weight = np.multiply.outer(weight, windows[i].weight).ravel()
        keep = weight > math.exp(LOG_LOST) / len(weight)
        lost += float(np.sum(weight[~keep])) * 1.001
        loss, weight = loss[keep], weight[keep]
    order = np.argsort(loss, kind="stable")
    return Listed(loss[order], weight[order]), lost


def _suffix_sums(listed: Listed, c: float) -> tuple[FloatArray, FloatArray]:
    """Return B and D of the module's docstring, of the same shape as the losses."""
    loss, weight = listed.loss, listed.weight
    b, d = np.empty_like(loss), np.empty_like(loss)
    block = np.floor((c + 1) * (loss - loss[0]) / _BLOCK)
    starts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(loss)]
    next_b, next_d, next_loss = 0.0, 0.0, math.inf
    for start, stop in zip(starts[-2::-1], starts[:0:-1], strict=True):
        part = slice(start, stop)
        shift = loss[part] - loss[start]
        step = next_loss - loss[start]
        carried = next_b * math.exp(-(c + 1) * step) if next_b > 0 else 0.0
        rising = np.cumsum((weight[part] * np.exp(-(c + 1) * shift))[::-1])[::-1] + carried
        b[part] = rising * np.exp((c + 1) * shift)
        # D_J exp(-c l_J) = D_(J+1) exp(-c l_(J+1)) + (1 - exp(-(l_(J+1) - l_J))) exp(-c l_(J+1)) B_(J+1).
        last = 0.0
        if next_b > 0:
            last = math.exp(-c * step) * (next_d - math.expm1(loss[stop - 1] - next_loss) * next_b)
        fresh = -np.expm1(shift[:-1] - shift[1:]) * np.exp(-c * shift[1:]) * b[start + 1 : stop]
        falling = np.cumsum(np.concatenate(([last], fresh[::-1])))[::-1]
        d[part] = falling * np.exp(c * shift)
        next_b, next_d, next_loss = float(b[start]), float(d[start]), float(loss[start])
    return b, d
