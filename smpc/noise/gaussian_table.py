"""A discrete Gaussian law with a finite table, and what it costs to use it in place of the ideal one.

P      discrete Gaussian of scale s: P(h) proportional to exp(-h^2 / 2 s^2)
R      largest absolute value of the table;  k  bits of the uniform number that is compared with it
T_m    2^k P(|h| >= m | |h| <= R), rounded, m = 1..R: the number of thresholds above U < 2^k is the magnitude
Q      the law that comes out, signs being fair coins: Q(h) = (T_|h| - T_|h|+1) / 2^(k+1), Q(0) = 1 - T_1 / 2^k

Q is known exactly, and so are

kappa  with |log Q(h) - log P(h)| <= kappa for |h| <= R,
eta    Q(h > R - linf), the probability of noise that a neighbour could not have had.

Take integers f and f + d, 0 < d <= linf, with noise of law Q. Leave out, at the first, noise below -R + d, and at the
second, noise above R - d: events of probability at most eta each, after which both can give the same answers, and

    D_alpha <= (log sum_h Q(h)^alpha Q(h-d)^(1-alpha) - log(1-eta)) / (alpha-1)
            <= alpha d^2 / 2 s^2 + 2 kappa + e / (alpha-1),      e = kappa - log(1-eta),

for P has alpha d^2 / 2 s^2 (Canonne, Kamath, Steinke 2020, arXiv:2004.00010, Theorem 4), and the same the other way
round. For alpha >= 1 + a that is at most alpha (d^2 / 2 s^2 + 2 kappa + e / a). Divergences grow with the order, so for
smaller alpha it is at most the value at 1 + a. Of a vector at most m = min(l2^2, dimension) integers change. Hence the
release is delta-approximately rho-zCDP (Bun, Steinke 2016, arXiv:1605.02065, Definition 8.1), for any a > 0, with

    rho = (1 + a) l2^2 / 2 s^2 + m (2 kappa + e / a),      delta = m eta.

The least rho is at a^2 = m e / (l2^2 / 2 s^2). With k = 128 and eta = 2^-60 it lies some 2^-28 / sqrt(rho) above the
ideal one, relatively.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from privacy import ApproximateDP, Composed, ZeroConcentratedDP
from privacy._bernoulli import enclose_exp
from privacy._checks import check_count, check_positive, check_probability
from smpc.noise.geometric_law import exact_down, float_up

TABLE_BITS = 128

# Thresholds cost as many comparisons for each sample: larger noise is cheaper by shares (`smpc.noise.shares`).
MOST_THRESHOLDS = 1024
MAX_DELTA = 2.0**-60

LEAST_SCALE = 0.25

# Weights are enclosed to this many bits, far beyond the k of the table.
_ENCLOSURE_BITS = 320


@dataclass(frozen=True, slots=True)
class GaussianTable:
    """Thresholds, and the bounds that the price follows from. Made by `gaussian_table`.

    scale            s, exactly the float
    linf_sensitivity  the most that one integer changes
    thresholds       T_1 >= ... >= T_R
    n_bits           k
    kappa, eta       see above, upper bounds
    """

    scale: float
    linf_sensitivity: int
    thresholds: tuple[int, ...]
    n_bits: int
    kappa: Fraction
    eta: Fraction

    @property
    def largest(self) -> int:
        """R."""
        return len(self.thresholds)

    def pmf(self) -> list[Fraction]:
        """Return Q(0), ..., Q(R), exactly."""
        steps = [*self.thresholds, 0]
        half = 2 ** (self.n_bits + 1)
        return [Fraction(2**self.n_bits - steps[0], 2**self.n_bits)] + [
            Fraction(more - less, half) for more, less in itertools.pairwise(steps)
        ]

    def event(self, *, l2_sensitivity_squared: int, dimension: int) -> Composed:
        """Return the event of a vector of this many integers with this noise.

        Examples
        --------
        >>> rho, failure = gaussian_table(2.0).event(l2_sensitivity_squared=1, dimension=1).events
        >>> 0.125 < rho.rho < 0.125 * (1 + 1e-7), failure.delta < 2.0**-60
        (True, True)
        """
        check_count("l2_sensitivity_squared", l2_sensitivity_squared, least=self.linf_sensitivity**2)
        check_count("dimension", dimension)
        ideal = Fraction(l2_sensitivity_squared) / (2 * Fraction(self.scale) ** 2)
        n_changed = min(l2_sensitivity_squared, dimension)
        excess = self.kappa + self.eta / (1 - self.eta)  # -log(1 - eta) <= eta / (1 - eta)
        a = Fraction(math.sqrt(n_changed * excess / ideal))  # any value is valid
        rho = (1 + a) * ideal + n_changed * (2 * self.kappa + excess / a)
        failure = n_changed * self.eta
        if failure >= 1:
            raise ValueError("dimension is too large for the table: take a smaller max_delta")
        return Composed((ZeroConcentratedDP(float_up(rho)), ApproximateDP(0.0, float_up(failure))))


@lru_cache(maxsize=64)
def gaussian_table(
    scale: float, *, linf_sensitivity: int = 1, max_delta: float = MAX_DELTA, n_bits: int = TABLE_BITS
) -> GaussianTable:
    """Return the least table such that P(h > R - linf) and eta, the delta of one integer, are at most `max_delta`.

    Parameters
    ----------
    scale
        s, >= 1/4; as large as the number of thresholds allows: about 110 for a sensitivity of 1.
    linf_sensitivity
        The most that one patient changes any single integer.
    n_bits
        k, a multiple of 8; must exceed -log2(max_delta) by some 20 bits at least.

    Raises
    ------
    ValueError
        If that takes more than 1,024 thresholds, or the bits are too few for the smallest probabilities.

    Examples
    --------
    >>> table = gaussian_table(2.0)
    >>> table.largest, round(float(table.pmf()[1] / table.pmf()[0]), 12) == round(math.exp(-1 / 8), 12)
    (18, True)
    """
    check_positive("scale", scale)
    check_count("linf_sensitivity", linf_sensitivity)
    check_probability("max_delta", max_delta)
    if n_bits < 8 or n_bits % 8:
        raise ValueError(f"n_bits must be a multiple of 8, got {n_bits!r}")
    if not LEAST_SCALE <= scale <= MOST_THRESHOLDS:
        raise ValueError(f"scale must be in [{LEAST_SCALE}, {MOST_THRESHOLDS}], got {scale!r}")
    twice_variance = 2 * Fraction(scale) ** 2
    low, high = [1 << _ENCLOSURE_BITS], [1 << _ENCLOSURE_BITS]
    for h in range(1, 2 * MOST_THRESHOLDS):
        below, above = enclose_exp(h * h / twice_variance, _ENCLOSURE_BITS)
        if not below:
            break
        low.append(below)
        high.append(above)
    # Beyond the last weight w, successive weights fall by more than a factor, so their sum is at most w r / (1 - r).
    ratio = Fraction(enclose_exp((2 * len(low) - 1) / twice_variance, _ENCLOSURE_BITS)[1], 1 << _ENCLOSURE_BITS)
    beyond = high[-1] * ratio / (1 - ratio)
    total_low, total_high = 2 * sum(low) - low[0], 2 * (sum(high) + beyond) - high[0]
    limit = exact_down(max_delta)
    largest = _least_radius(low, total_high, linf_sensitivity, limit)
    while largest <= min(MOST_THRESHOLDS, len(low) - 1):
        table = _table(scale, linf_sensitivity, n_bits, low, largest)
        pmf = table.pmf()
        eta = sum(pmf[max(largest - linf_sensitivity + 1, 0) :], Fraction(0))
        if eta > limit:
            largest += 1
            continue
        if not all(pmf):
            raise ValueError(f"{n_bits} bits are too few for the smallest probabilities of the table: take more n_bits")
        # log x <= x - 1, with the enclosures of P(h) on the side that makes each quotient larger.
        kappa = max(max(q * total_high / low[h], Fraction(high[h]) / (total_low * q)) - 1 for h, q in enumerate(pmf))
        return GaussianTable(scale, linf_sensitivity, table.thresholds, n_bits, kappa, eta)
    raise ValueError(
        f"noise of scale {scale!r} takes more than {MOST_THRESHOLDS} thresholds: add it by shares "
        "(joint_discrete_gaussian), or take a coarser unit"
    )


def _least_radius(weights: list[int], total: Fraction, linf: int, limit: Fraction) -> int:
    """Return where the ideal tail falls below the limit, or one beyond the weights if it does not."""
    tail = 0
    for h in range(len(weights) - 1, 0, -1):
        tail += weights[h]
        if tail > limit * total:
            return h + linf
    return linf


def _table(scale: float, linf: int, n_bits: int, weights: list[int], largest: int) -> GaussianTable:
    inside = 2 * sum(weights[: largest + 1]) - weights[0]
    thresholds, tail = [], 0
    for weight in reversed(weights[1 : largest + 1]):
        tail += 2 * weight
        thresholds.append(round(Fraction(tail << n_bits, inside)))
    return GaussianTable(scale, linf, tuple(reversed(thresholds)), n_bits, Fraction(0), Fraction(0))
