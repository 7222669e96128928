"""The law of more than K Laplace losses between their ends: what is left to the contour of `_few_laplace`.

alpha, N, K   as there;  t  a real argument, in units of 1 / loss

The transform is the whole less its orders <= K. As a loss between the ends has |sinh((a + it) e) / (a + it)| <=
cosh(a e) / t, half of what the two ends have divided by t, it is at most

    alpha sum over k > K of C(N, k) (2 t)^-k

in modulus at all arguments >= t, and the integral converges like t^-(K + 3). The law is a positive measure below the
whole, whose moments therefore bound aliasing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy.numerical._contour import joint
from privacy.numerical._laplace_law import TiltedLaplace, tilted_laplace
from privacy.numerical._terms import (
    UNIT,
    AtomsTerm,
    ComplexArray,
    DiscreteGaussianTerm,
    FloatArray,
    LaplaceTerm,
    Tilted,
    not_evaluable,
)


@dataclass(frozen=True, slots=True)
class ManyBetween:
    """The law of the whole where more than `order` Laplace losses fall between their ends, as a term of a contour.

    Its moments are those of the whole law, which is above it.
    """

    laplaces: tuple[LaplaceTerm, ...]
    others: tuple[AtomsTerm | DiscreteGaussianTerm, ...]
    order: int

    @property
    def lattice(self) -> tuple[float, float] | None:
        """None: a density."""
        return None

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes."""
        del c
        return (12.0 * len(self.laplaces) + len(self.others)) * len(t)

    def at(self, c: float) -> Tilted:
        """Return the law tilted by c."""
        whole = joint((*self.laplaces, *self.others), c)
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
            # Relative roundings of powers and phases, then of the other factors.
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
            return min(0.0, log_ends + ways - k * math.log(2 * t) + (total - k) * math.log1p(0.5 / t) + 1e-12 * total)

        return Tilted(whole.log_moment, whole.error, whole.mean, whole.variance, nodes, log_decay)

    def _orders(self, shares: Sequence[TiltedLaplace], c: float, t: FloatArray) -> tuple[ComplexArray, FloatArray]:
        """Return the centred transform of at most `order` losses between the ends, and the sum of absolute values."""
        zero = np.zeros(len(t), dtype=np.complex128)
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
            most = min(self.order, len(kept) + len(series) - 2)
            mixed = [zero.copy() for _ in range(most + 1)]
            for i, one_part in enumerate(kept):
                for k, other in enumerate(series[: most + 1 - i]):
                    mixed[i + k] += one_part * other
            kept = mixed
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
