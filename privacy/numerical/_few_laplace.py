"""Laplace releases of any scales among losses that `_atoms` lists, when few Laplace losses fall between their ends.

N        number of Laplace releases; c > 0 tilt; a = c + 1/2
alpha    tilted probability that all N are at an end
s        for an outcome of which all N are at an end: upper ends less lower ends
e_k(s)   elementary symmetric polynomial of degree k of N signs with sum s
T_k(x)   sum over m > k, m - k odd, of x^m / m!

A loss between the ends -e and e is, up to exp(l / 2), spread evenly with density 1/2 relative to the masses of the
ends: its part of the law is half the running integral of the difference of the ends. So what exactly k losses between
their ends contribute to S (see `_explicit`) is a sum over the outcomes with all at an end, with w = l - epsilon,

    S_k = alpha E_c[exp(-a w) 2 e_k(s) T_k(w / 2); w > 0],

as 2 T_0(w / 2) = 2 sinh(w / 2), and k running integrals of it are 2^k 2 T_k(w / 2). The sum over the other losses
is taken once, from each of their outcomes upwards (`_tails`). The signs of e_k alternate, so this is done for k <= K,
small, and rounding is counted in absolute value. More than K losses between: `_many_between`; none if N <= K.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy.numerical._atoms import ListedTerm, highest, largest, listable, loss_error, losses, tilted_window
from privacy.numerical._binomial import Window, window
from privacy.numerical._contour import Contour, build, joint, log_chernoff_factor
from privacy.numerical._discrete_gaussian import points
from privacy.numerical._explicit import LOG_UNDERFLOW, SLIP
from privacy.numerical._laplace_law import tilted_laplace
from privacy.numerical._many_between import ManyBetween
from privacy.numerical._tails import moved, suffix_sums
from privacy.numerical._terms import UNIT, DiscreteGaussianTerm, FloatArray, LaplaceTerm, Term

_MOST_OUTER = 300_000
_MOST_INNER = 60_000
_LOG_LOST = -42.0

# If all losses are at an end with less than this probability, in logs, the line through the whole converges.
_LOG_ENDS = -37.0


class FewLaplaceCurve:
    """The curve of Laplace releases and other losses, near one epsilon.

    Outer outcomes: losses of the Laplace releases at their ends, and of some other kinds; inner ones: of the rest.
    """

    def __init__(self, deal: _Deal, c: float, order: int, rest: Contour | float) -> None:
        # rest: the line of what has more than `order` losses between, or the log of its tilted probability.
        self._c, self._order = c, order
        self._contour = None if isinstance(rest, float) else rest
        self._neglected = math.exp(rest + log_chernoff_factor(c) + 1e-12) if isinstance(rest, float) else 0.0
        terms: tuple[LaplaceTerm | ListedTerm, ...] = (*deal.laplaces, *deal.outer, *deal.inner)
        whole = joint(terms, c)
        self._log_moment = whole.log_moment
        self._count = total = sum(term.count for term in deal.laplaces)
        inner, outer = _listed(deal.inner, c), _listed((*deal.laplaces, *deal.outer), c)
        self._inner, self._outer = inner.loss, outer.loss
        self._sums = suffix_sums(inner.loss, inner.weight, c, order)
        symmetric = [np.ones(len(outer.loss)), outer.sign]
        for k in range(2, order + 1):
            symmetric.append((outer.sign * symmetric[k - 1] - (total - k + 2) * symmetric[k - 2]) / k)
        log_ends = math.fsum(
            term.count * math.log1p(-tilted_laplace(term.epsilon, c).between) for term in deal.laplaces
        )
        self._weighted = np.stack(symmetric[: order + 1]) * (outer.weight * math.exp(log_ends))
        # Roundings of the runs, each of order + 3 products, and of the sum.
        runs = 8 * (order + 4) * (math.log2(len(inner.loss)) + 2)
        self._error = whole.error + inner.error + outer.error + UNIT * (64 + 8 * total + runs)
        self.slip = inner.slip + outer.slip
        self.top = math.fsum(
            term.count * term.epsilon if isinstance(term, LaplaceTerm) else highest(term) for term in terms
        )
        # 2 exp(-a w) T_k(w / 2) <= 2 (2 c)^-(k + 1), and |e_k| <= C(N, k).
        reach = sum(math.comb(total, k) * 2 * (2 * c) ** -(k + 1.0) for k in range(order + 1))
        self._lost = 1.001 * math.exp(log_ends) * (inner.lost + outer.lost) * reach

    def _few(self, epsilon: float) -> tuple[float, float, float]:
        """Return S_0 + ... + S_K, a bound on its error, and minus its part of the slope of delta, approximate."""
        at = epsilon - self._outer
        first = np.searchsorted(self._inner, at, side="right")
        held = first < len(self._inner)
        if not held.any():
            return 0.0, self._lost, 0.0
        first = first[held]
        sums = moved(self._sums[:, first], self._inner[first] - at[held], self._c)
        weighted = self._weighted[:, held]
        absolute = np.abs(weighted)
        value, size = 2 * float(np.sum(weighted * sums[1:])), 2 * float(np.sum(absolute * sums[1:]))
        # T_k' = T_(k - 1); order 0 is monotone in the losses, so there the slip is enough.
        steep = float(np.sum(absolute[1:] * sums[1:-1]))
        slope = float(np.sum(weighted * (sums[:-1] - sums[1:])))
        wrong = self._error * size + 2 * self.slip * (steep + (self._c + 1) * size + 4 * self._count * self.slip)
        return value, wrong + self._lost, slope

    def _parts(self, epsilon: float) -> tuple[float, float, float, float]:
        """Return the logs of a lower bound, the value and an upper bound, and the slope, without the slip."""
        scale = self._log_moment - self._c * epsilon
        value, wrong, slope = self._few(epsilon)
        low, high = value - wrong, value + wrong + math.exp(LOG_UNDERFLOW) + self._neglected
        if self._contour is not None:
            more, more_slope = self._contour.evaluate(epsilon)
            part = math.exp(min(more.value - scale, 600.0))
            value, slope = value + part, slope - part * more_slope
            low, high = low + math.exp(min(more.low - scale, 600.0)), high + math.exp(min(more.high - scale, 600.0))
        doubt = UNIT * (16 + 2 * abs(self._log_moment) + 2 * abs(self._c * epsilon))
        return (
            scale + math.log(low) - doubt if low > 0 else -math.inf,
            scale + math.log(value) if value > 0 else -math.inf,
            scale + math.log(high) + doubt if high > 0 else -math.inf,
            -slope / value if value > 0 else math.nan,
        )

    def value(self, epsilon: float) -> tuple[float, float]:
        """Return log delta(epsilon) and its slope."""
        _, value, _, slope = self._parts(epsilon)
        return value, slope

    def low(self, epsilon: float) -> float:
        """Return a lower bound on log delta(epsilon)."""
        return self._parts(epsilon + self.slip)[0]

    def high(self, epsilon: float) -> float:
        """Return an upper bound on log delta(epsilon)."""
        return min(0.0, self._parts(epsilon - self.slip)[2])


def _slip(term: LaplaceTerm | ListedTerm, one: Window) -> float:
    if isinstance(term, LaplaceTerm):
        return term.count * term.epsilon * SLIP
    return largest(term, one) * (loss_error(term) + 4 * UNIT)


@dataclass(frozen=True, slots=True)
class _Listed:
    """Outcomes in order of their losses.

    sign     upper less lower ends of Laplace losses
    weight   tilted probability, relatively wrong by `error` at most; all others together have `lost`
    slip     absolute error bound of the losses
    """

    loss: FloatArray
    sign: FloatArray
    weight: FloatArray
    error: float
    lost: float
    slip: float


def _ends(term: LaplaceTerm | ListedTerm, c: float) -> Window:
    """Return how often the larger of two values is taken, for Laplace losses given that all are at an end."""
    if not isinstance(term, LaplaceTerm):
        return tilted_window(term, c, _LOG_LOST)
    logit = (2 * c + 1) * term.epsilon
    return window(term.count, logit, _LOG_LOST, logit_error=4 * UNIT * logit)


def _listed(terms: Sequence[LaplaceTerm | ListedTerm], c: float) -> _Listed:
    loss, sign, weight, error, lost, slip = np.zeros(1), np.zeros(1), np.ones(1), 0.0, 0.0, 0.0
    for term in terms:
        one = _ends(term, c)
        if isinstance(term, LaplaceTerm):
            excess = 2 * np.arange(one.first, one.last + 1, dtype=np.float64) - term.count
            own = excess * term.epsilon
        else:
            own = losses(term, one)
            excess = np.zeros_like(own)
        loss = np.add.outer(loss, own).ravel()
        sign = np.add.outer(sign, excess).ravel()
        weight = np.multiply.outer(weight, one.weight).ravel()
        keep = weight > math.exp(_LOG_LOST) / len(weight)
        lost += math.exp(one.log_lost) + float(np.sum(weight[~keep])) * 1.001
        error += one.error
        slip += _slip(term, one)
        loss, sign, weight = loss[keep], sign[keep], weight[keep]
    order = np.argsort(loss, kind="stable")
    return _Listed(loss[order], sign[order], weight[order], error, lost, slip)


@dataclass(frozen=True, slots=True)
class _Deal:
    """The Laplace terms, and which of the others are listed with them and which apart."""

    laplaces: tuple[LaplaceTerm, ...]
    outer: tuple[ListedTerm, ...]
    inner: tuple[ListedTerm, ...]


def _dealt(laplaces: Sequence[LaplaceTerm], others: Sequence[ListedTerm], c: float) -> _Deal | None:
    outer, inner = math.prod(len(_ends(term, c).weight) for term in laplaces), 1
    with_laplaces: list[ListedTerm] = []
    apart: list[ListedTerm] = []
    sizes = {id(term): len(_ends(term, c).weight) for term in others}
    for term in sorted(others, key=lambda term: -sizes[id(term)]):
        if inner <= outer:
            inner *= sizes[id(term)]
            apart.append(term)
        else:
            outer *= sizes[id(term)]
            with_laplaces.append(term)
    if outer > _MOST_OUTER or inner > _MOST_INNER:
        return None
    return _Deal(tuple(laplaces), tuple(with_laplaces), tuple(apart))


def few_laplace_curve(
    terms: Sequence[Term], c: float, epsilon: float, log_delta: float, order: int
) -> FewLaplaceCurve | None:
    """Return the curve near this epsilon, where log delta is about so much; None if it does not apply."""
    laplaces = tuple(term for term in terms if isinstance(term, LaplaceTerm))
    rest = [term for term in terms if not isinstance(term, LaplaceTerm)]
    others = listable(rest) if rest else []
    if not laplaces or others is None:
        return None
    noises = [term for term in others if isinstance(term, DiscreteGaussianTerm)]
    if any(points(term, c, _LOG_LOST) > _MOST_INNER for term in noises):
        return None
    # A finer look at the largest loss than rounding allows has no use.
    c = min(c, 0.01 / sum(_slip(term, _ends(term, c)) for term in (*laplaces, *others)))
    shares = [tilted_laplace(term.epsilon, c).between for term in laplaces]
    log_ends = math.fsum(term.count * math.log1p(-share) for term, share in zip(laplaces, shares, strict=True))
    if log_ends < _LOG_ENDS:
        return None
    deal = _dealt(laplaces, others, c)
    if deal is None:
        return None
    total = sum(term.count for term in laplaces)
    if total <= order:
        return FewLaplaceCurve(deal, c, total, -math.inf)
    # P(more than K between) <= e_(K+1) of the shares <= C(N, K + 1) (their mean)^(K + 1), by Maclaurin's inequality.
    between = math.fsum(term.count * share for term, share in zip(laplaces, shares, strict=True))
    log_more = (order + 1) * math.log(between / total) + math.log(math.comb(total, order + 1)) + 1e-9
    if log_more < _LOG_LOST:
        return FewLaplaceCurve(deal, c, order, log_more)
    many = ManyBetween(laplaces, tuple(others), order)
    contour = build([many], joint([many], c), epsilon, log_target=min(0.0, log_delta))
    return None if contour is None else FewLaplaceCurve(deal, c, order, contour)
