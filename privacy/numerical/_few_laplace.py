"""Laplace releases of any scales among two-valued losses, when few of the Laplace losses fall between their ends.

N        number of Laplace releases; c > 0 tilt; a = c + 1/2; alpha  tilted probability that all N are at an end
s        for an outcome of which all N are at an end: upper ends less lower ends
e_k(s)   elementary symmetric polynomial of degree k of N signs with sum s
Tail     T_k(x) = sum over m > k, m - k odd, of x^m / m!

A loss between the ends -e and e is, up to exp(l / 2), spread evenly with density 1/2 relative to the masses of the ends:
its part of the law is half the running integral of the difference of the ends. So what exactly k losses between the ends
contribute to S (see `_explicit`) is a sum over the outcomes with all losses at an end, with w = l - epsilon,

    S_k = alpha E_c[exp(-a w) 2 e_k(s) T_k(w / 2); w > 0],

as 2 T_0(w / 2) = 2 sinh(w / 2), and k running integrals of it are 2^k 2 T_k(w / 2). The sum over the two-valued losses
is taken once, from each of their outcomes upwards (`_tails`). The signs of e_k alternate, so this is done for k <= K,
small, and rounding is counted in absolute value. The law of more than K losses between the ends is a
positive measure whose transform, the whole less the orders <= K, is below

    alpha sum over k > K of C(N, k) (2 t)^-k

at all arguments >= t, since a loss between the ends has |sinh((a + it) e) / (a + it)| <= cosh(a e) / t: the contour
converges like t^-(K + 3), and neglects nothing that delta of the whole does not bound. For N <= K nothing is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy.numerical._atoms import tilted_window
from privacy.numerical._binomial import Window, window
from privacy.numerical._contour import Contour, build, joint, log_chernoff_factor
from privacy.numerical._explicit import LOG_UNDERFLOW
from privacy.numerical._laplace_law import TiltedLaplace, tilted_laplace
from privacy.numerical._tails import moved, suffix_sums
from privacy.numerical._terms import UNIT, AtomsTerm, ComplexArray, FloatArray, LaplaceTerm, Term, Tilted, not_evaluable

_MOST_OUTER = 100_000
_MOST_INNER = 60_000
_LOG_LOST = -42.0

# If all losses are at an end with less than this probability, in logs, the line through the whole converges.
_LOG_ENDS = -37.0


@dataclass(frozen=True, slots=True)
class ManyBetween:
    """The law of the whole where more than `order` Laplace losses fall between their ends, as a term of a contour.

    Its moments are those of the whole law, which is above it.
    """

    laplaces: tuple[LaplaceTerm, ...]
    atoms: tuple[AtomsTerm, ...]
    order: int

    @property
    def lattice(self) -> tuple[float, float] | None:
        """None: a density."""
        return None

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes."""
        del c
        return (12.0 * len(self.laplaces) + len(self.atoms)) * len(t)

    def at(self, c: float) -> Tilted:
        """Return the law tilted by c."""
        whole = joint((*self.laplaces, *self.atoms), c)
        if c < 0 or not math.isfinite(whole.log_moment):
            return not_evaluable()
        shares = [tilted_laplace(term.epsilon, c) for term in self.laplaces]

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            log_phi, growth = np.zeros(len(t), dtype=np.complex128), np.zeros(len(t))
            for part in whole.parts:
                logs, errors = part.nodes(t)
                log_phi, growth = log_phi + logs, growth + errors
            rest, wrong = np.exp(log_phi), np.expm1(np.minimum(growth + 8 * UNIT, 600.0)) * np.exp(log_phi.real)
            others, other_wrong = np.ones(len(t), dtype=np.complex128), np.zeros(len(t))
            for part in whole.parts[len(self.laplaces) :]:
                logs, errors = part.nodes(t)
                others, other_wrong = others * np.exp(logs), other_wrong + errors
            few, size = self._orders(shares, c, t)
            # Relative roundings of powers and phases, then of the factors that are two-valued.
            trials = sum(term.count * (24 + 8 * t * term.epsilon) for term in self.laplaces)
            slack = UNIT * (trials + 64) + np.expm1(np.minimum(other_wrong, 600.0))
            rest -= few * others
            wrong += size * np.abs(others) * slack
            size = np.maximum(np.abs(rest), 1e-290)
            return np.log(np.where(np.abs(rest) > 1e-290, rest, 1e-290)), np.log1p(wrong / size)

        log_ends = math.fsum(
            term.count * math.log1p(-one.between) for term, one in zip(self.laplaces, shares, strict=True)
        )
        total = sum(term.count for term in self.laplaces)

        def log_decay(t: float) -> float:
            # Taylor's remainder of (1 + 1 / (2 t))^N.
            k = self.order + 1
            ways = math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
            return min(
                0.0, log_ends + ways - k * math.log(2 * t) + (total - k) * math.log1p(0.5 / t) + 1e-12 * total
            )

        return Tilted(whole.log_moment, whole.error, whole.mean, whole.variance, nodes, log_decay)

    def _orders(self, shares: Sequence[TiltedLaplace], c: float, t: FloatArray) -> tuple[ComplexArray, FloatArray]:
        """Return the centred transform of at most `order` losses between the ends, and the sum of absolute values."""
        kept: list[ComplexArray] = [np.ones(len(t), dtype=np.complex128)]
        for term, one in zip(self.laplaces, shares, strict=True):
            n, e = term.count, term.epsilon
            above = one.up * np.exp(1j * ((e - one.mean) * t))
            below = one.down * np.exp(-1j * ((e + one.mean) * t))
            ends, between = above + below, 0.5 * (above - below) / (c + 0.5 + 1j * t)
            top = min(self.order, n)
            power = np.power(ends, n - top)
            series = [math.comb(n, top) * between**top * power]
            for k in range(top - 1, -1, -1):
                power = power * ends
                series.append(math.comb(n, k) * between**k * power)
            series.reverse()
            kept = [
                sum((kept[i] * series[k - i] for i in range(k + 1) if i < len(kept) and k - i < len(series)), 0j * t)
                for k in range(min(self.order, len(kept) + len(series) - 2) + 1)
            ]
        total = np.zeros(len(t), dtype=np.complex128)
        size = np.zeros(len(t))
        for part in kept:
            total += part
            size += np.abs(part)
        # The factors of a sum over kinds may cancel: what they are made of is at most the sizes of both ends.
        return total, size + self._sizes(shares, c, t)

    def _sizes(self, shares: Sequence[TiltedLaplace], c: float, t: FloatArray) -> FloatArray:
        # sum over k of C(N, k) alpha (2 |a + it|)^-k bounds the absolute values of all products.
        log_ends = sum(term.count * math.log1p(-one.between) for term, one in zip(self.laplaces, shares, strict=True))
        total = sum(term.count for term in self.laplaces)
        x = 0.5 / np.hypot(c + 0.5, t)
        return math.exp(log_ends) * np.asarray(sum(math.comb(total, k) * x**k for k in range(self.order + 1)))


class FewLaplaceCurve:
    """The curve of Laplace releases and two-valued losses, near one epsilon.

    Outer outcomes: losses of the Laplace releases at their ends, and of some two-valued kinds; inner ones: of the rest.
    """

    def __init__(self, deal: _Deal, c: float, order: int, rest: Contour | float) -> None:
        # rest: the line of what has more than `order` losses between, or the log of its tilted probability.
        self._c, self._order = c, order
        self._contour = None if isinstance(rest, float) else rest
        self._neglected = math.exp(rest + log_chernoff_factor(c)) if isinstance(rest, float) else 0.0
        terms = (*deal.laplaces, *deal.outer, *deal.inner)
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
        self.slip = _slip(terms)
        self.top = math.fsum(term.count * _highest(term) for term in terms)
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


def _widest(term: LaplaceTerm | AtomsTerm) -> float:
    return term.epsilon if isinstance(term, LaplaceTerm) else max(map(abs, term.losses))


def _highest(term: LaplaceTerm | AtomsTerm) -> float:
    return term.epsilon if isinstance(term, LaplaceTerm) else term.losses[1]


def _slip(terms: Sequence[LaplaceTerm | AtomsTerm]) -> float:
    errors = (term.error if isinstance(term, AtomsTerm) else 2 * UNIT for term in terms)
    return sum(term.count * _widest(term) * (wrong + 4 * UNIT) for term, wrong in zip(terms, errors, strict=True))


@dataclass(frozen=True, slots=True)
class _Listed:
    """Outcomes in order of their losses: how many more upper than lower ends, tilted probability; bounds as a Window's."""

    loss: FloatArray
    sign: FloatArray
    weight: FloatArray
    error: float
    lost: float


def _ends(term: LaplaceTerm | AtomsTerm, c: float) -> Window:
    """Return how often the larger of two values is taken, for Laplace losses given that all are at an end."""
    if isinstance(term, AtomsTerm):
        return tilted_window(term, c)
    logit = (2 * c + 1) * term.epsilon
    return window(term.count, logit, _LOG_LOST, logit_error=4 * UNIT * logit)


def _listed(terms: Sequence[LaplaceTerm | AtomsTerm], c: float) -> _Listed:
    loss, sign, weight, error, lost = np.zeros(1), np.zeros(1), np.ones(1), 0.0, 0.0
    for term in terms:
        one, n = _ends(term, c), term.count
        low, high = (-term.epsilon, term.epsilon) if isinstance(term, LaplaceTerm) else term.losses
        k = np.arange(one.first, one.last + 1, dtype=np.float64)
        loss = np.add.outer(loss, (n - k) * low + k * high).ravel()
        sign = np.add.outer(sign, 2 * k - n if isinstance(term, LaplaceTerm) else 0 * k).ravel()
        weight = np.multiply.outer(weight, one.weight).ravel()
        keep = weight > math.exp(_LOG_LOST) / len(weight)
        lost += math.exp(one.log_lost) + float(np.sum(weight[~keep])) * 1.001
        error += one.error
        loss, sign, weight = loss[keep], sign[keep], weight[keep]
    order = np.argsort(loss, kind="stable")
    return _Listed(loss[order], sign[order], weight[order], error, lost)


@dataclass(frozen=True, slots=True)
class _Deal:
    """The Laplace terms, and which two-valued ones are listed with them and which apart."""

    laplaces: tuple[LaplaceTerm, ...]
    outer: tuple[AtomsTerm, ...]
    inner: tuple[AtomsTerm, ...]


def _dealt(laplaces: Sequence[LaplaceTerm], atoms: Sequence[AtomsTerm], c: float) -> _Deal | None:
    outer, inner = math.prod(len(_ends(term, c).weight) for term in laplaces), 1
    with_laplaces: list[AtomsTerm] = []
    apart: list[AtomsTerm] = []
    sizes = {id(term): len(_ends(term, c).weight) for term in atoms}
    for term in sorted(atoms, key=lambda term: -sizes[id(term)]):
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
    atoms = tuple(term for term in terms if isinstance(term, AtomsTerm) and len(term.losses) == 2)
    if not laplaces or len(laplaces) + len(atoms) != len(terms):
        return None
    # A finer look at the largest loss than rounding allows has no use.
    c = min(c, 0.01 / _slip((*laplaces, *atoms)))
    shares = [tilted_laplace(term.epsilon, c).between for term in laplaces]
    log_ends = math.fsum(term.count * math.log1p(-share) for term, share in zip(laplaces, shares, strict=True))
    if log_ends < _LOG_ENDS:
        return None
    deal = _dealt(laplaces, atoms, c)
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
    many = ManyBetween(laplaces, atoms, order)
    contour = build([many], joint([many], c), epsilon, log_target=min(0.0, log_delta))
    return None if contour is None else FewLaplaceCurve(deal, c, order, contour)
