"""How many people would be alone in their class if the whole population were in the table: superpopulation models.

n, N        people in the table, people in the population it was drawn from; f = n / N
u, c_i      classes of the table, classes of size i; c_1 are the sample uniques
value       estimated share of the population that is alone in its class

zayatz      Bayes' rule with the table's class sizes as prior: P(alone in N | alone in n). Never above c_1 / n
pitman      Pitman's random partition with parameters (theta, alpha), fitted by maximum likelihood; uniques among N
            people: Gamma(theta + 1) / Gamma(theta + alpha) * N^alpha, which is from above
snb         class sizes are 1 + a negative binomial (a, b), their number K by Shlosser's estimator; a, b from c_1, c_2
dankar      which of them, by f, as ARX decides: pitman up to f = 0.1 (zayatz where it does not converge), zayatz above
dankar_snb  the rule as published: above f = 0.1 the smaller of zayatz and snb

In ARX 3.9.2 the second equation of the SNB model has a product where its derivation (below, and ARX's own derivative)
has a quotient. It converges near f = 1 only, where the two are nearly equal, and the rule mostly ends with zayatz.
"dankar" gives these figures; near f = 1 it is above ARX's (by up to 4 % on Adult), and never below the published
rule's. An estimate that did not converge has no value: it is never a number.

Source: Zayatz 1991 (US Census, RR-91/08); Hoshino 2001, J. Official Statistics 17(4); Chen, Keller-McNulty 1998,
J. Official Statistics 14(1); Haas, Stokes 1998, JASA 93:1475 (Shlosser); Dankar et al. 2012, BMC Med Inform Decis Mak
12:66.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from anonymise._roots import digamma_difference, root_between

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Estimator = Literal["dankar", "dankar_snb", "pitman", "zayatz", "snb"]

# Up to this sampling fraction Dankar's rule takes Pitman's model.
_SMALL_FRACTION: Final = 0.1 * (1 + 1e-12)  # n / (n / 0.1) may round up.


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated share of the population that is unique, or why there is none.

    value        share of the population; None if the model did not converge
    estimator    the model that gave it: what a decision rule chose
    reason       why this one, or why there is no value
    """

    value: float | None
    converged: bool
    estimator: str
    reason: str

    def __post_init__(self) -> None:
        if self.converged != (self.value is not None):
            raise ValueError("an estimate has a value exactly if it converged")


def population_uniqueness(sizes: npt.ArrayLike, *, population_size: float, estimator: Estimator = "dankar") -> Estimate:
    """Estimate which share of a population is alone in its class, from the class sizes of a sample.

    Parameters
    ----------
    sizes
        People in each class of the table, shape (n_classes,), each >= 1.
    population_size
        People in the population that the table is a random sample of; at least as many as the table has.
    estimator
        See the module's head. The rule "dankar" is what ARX reports.

    Examples
    --------
    >>> population_uniqueness([1, 1, 1, 1, 2, 3, 3], population_size=24)
    Estimate(value=0.2017..., converged=True, estimator='zayatz', reason='more than a tenth of the population ...')
    >>> population_uniqueness([2, 3, 5], population_size=1000).value
    0.0
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"estimator must be one of {', '.join(get_args(Estimator))}, got {estimator!r}")
    sample = _Sample.of(np.asarray(sizes), population_size)
    if sample.uniques == 0:
        return Estimate(0.0, converged=True, estimator=estimator, reason="nobody is alone in the table")
    if sample.fraction == 1.0:
        share = sample.uniques / sample.n
        return Estimate(share, converged=True, estimator=estimator, reason="the table is the whole population")
    return _ESTIMATORS[estimator](sample)


@dataclass(frozen=True, slots=True)
class _Sample:
    """Class sizes as a histogram: `times[i]` classes of size `sizes[i]`, ascending."""

    sizes: IntArray
    times: IntArray
    n: int
    population: float

    @classmethod
    def of(cls, sizes: npt.NDArray[Any], population: float) -> _Sample:
        if sizes.ndim != 1 or sizes.size == 0 or sizes.dtype.kind not in "iu" or int(sizes.min()) < 1:
            raise ValueError("sizes must be a list of at least one whole number, each >= 1")
        n = int(sizes.sum(dtype=np.int64))
        if isinstance(population, bool) or not math.isfinite(population) or population < n:
            raise ValueError("population_size must be a number at least as large as the number of people in the table")
        times = np.bincount(sizes)
        found = np.flatnonzero(times)
        return cls(found.astype(np.int64), times[found].astype(np.int64), n, float(population))

    @property
    def n_classes(self) -> int:
        return int(self.times.sum())

    @property
    def fraction(self) -> float:
        return self.n / self.population

    @property
    def uniques(self) -> int:
        return self.of_size(1)

    def of_size(self, size: int) -> int:
        """Return how many classes have that size."""
        return int(self.times[self.sizes == size].sum())


def _zayatz(sample: _Sample) -> Estimate:
    # P(j of i people of a class are drawn | n of N drawn) is hypergeometric. For j = 1 it is, without any factorial,
    # i * (n / N) * prod_{j=1}^{i-1} (N - n - j + 1) / (N - j): exact for populations of any size.
    j = np.arange(1, int(sample.sizes[-1]), dtype=np.float64)
    left = np.maximum(sample.population - sample.n - j + 1, 0.0)
    with np.errstate(divide="ignore"):
        steps = np.log(left) - np.log(sample.population - j)
    none_else = np.exp(np.concatenate([[0.0], np.cumsum(steps)]))[sample.sizes - 1]
    drawn_alone = sample.sizes * sample.fraction * none_else
    still_alone = sample.uniques * sample.fraction / float(sample.times @ drawn_alone)
    return Estimate(
        sample.uniques * still_alone / sample.n, converged=True, estimator="zayatz", reason="closed form, no solver"
    )


def _pitman(sample: _Sample) -> Estimate:
    fit = _pitman_fit(sample)
    if isinstance(fit, str):
        return Estimate(None, converged=False, estimator="pitman", reason=fit)
    theta, alpha = fit
    uniques = math.exp(math.lgamma(theta + 1) - math.lgamma(theta + alpha) + alpha * math.log(sample.population))
    if not uniques <= sample.population:
        reason = "the fitted model has more uniques than the population has people"
        return Estimate(None, converged=False, estimator="pitman", reason=reason)
    return Estimate(
        uniques / sample.population, converged=True, estimator="pitman", reason="maximum of the likelihood found"
    )


def _pitman_fit(sample: _Sample) -> tuple[float, float] | str:
    """Return (theta, alpha) with 0 < alpha < 1 and theta > -alpha that maximise the likelihood, or why there are none.

    log L = sum_{i=1}^{u-1} log(theta + i alpha) - sum_{i=1}^{n-1} log(theta + i)
            + sum_classes sum_{j=1}^{size-1} log(j - alpha)                                (Hoshino 2001, eq. 9)
    For a given alpha theta solves d log L / d theta = 0; alpha is where the derivative along these changes its sign.
    """
    u, n = sample.n_classes, sample.n
    if u in (1, n):
        return "all people are alone, or all in one class: the likelihood has no maximum inside the model"
    above = [(int(size), int(times)) for size, times in zip(sample.sizes, sample.times, strict=True) if size > 1]

    def theta_of(alpha: float) -> float | None:
        def slope(log_shift: float) -> float:
            theta = math.exp(log_shift) - alpha
            ratio = math.exp(log_shift) / alpha  # theta / alpha + 1, without cancellation near theta = -alpha.
            return digamma_difference(ratio, u - 1) / alpha - digamma_difference(1 + theta, n - 1)

        # With alpha = 0, where theta is largest, it is about n^2 / 2(n - u).
        return _exp(root_between(slope, -60.0, 2 * math.log(n) + 1), shift=-alpha)

    def profile_slope(alpha: float) -> float:
        theta = theta_of(alpha)
        if theta is None:
            return math.nan
        ratio = (theta + alpha) / alpha
        # sum_{i=1}^{u-1} i / (theta + i alpha)
        from_classes = (u - 1 - theta / alpha * digamma_difference(ratio, u - 1)) / alpha
        return from_classes - sum(times * digamma_difference(1 - alpha, size - 1) for size, times in above)

    alpha = root_between(profile_slope, 1e-6, 1 - 1e-9)
    theta = None if alpha is None else theta_of(alpha)
    if alpha is None or theta is None:
        return "the likelihood has no maximum with 0 < alpha < 1"
    return theta, alpha


def _exp(logarithm: float | None, *, shift: float) -> float | None:
    return None if logarithm is None else math.exp(logarithm) + shift


def _snb(sample: _Sample) -> Estimate:
    """Solve E[c_1] = c_1 and E[c_2] = c_2 for a and b, given K.

    With x = (1 - b)(1 - f) and sampling of each person with probability f:
    E[c_1] = K f (b / (1 - x))^a (1 - x + a x) / (1 - x)
    E[c_2] = K f^2 (1 - b) a (b / (1 - x))^a (2 - (1 - a) x) / (2 (1 - x)^2)
    Their quotient is quadratic in a with one positive root, which leaves one equation in b.
    """
    f, c1, c2 = sample.fraction, sample.uniques, sample.of_size(2)
    if c2 == 0:
        return _no_snb("no class has two people")
    n_classes = _shlosser(sample)
    if not n_classes < sample.population:
        return _no_snb("the estimated number of classes in the population is larger than the population")
    quotient = 2 * c2 / (f * c1)

    def a_of(b: float) -> float:
        x = (1 - b) * (1 - f)
        square, linear, constant = (1 - b) * x, (1 - b) * (2 - x) - quotient * (1 - x) * x, -quotient * (1 - x) ** 2
        half = math.sqrt(linear * linear - 4 * square * constant)
        # The form without cancellation.
        return -2 * constant / (linear + half) if linear > 0 else (half - linear) / (2 * square)

    def excess(log_odds: float) -> float:
        b = 1 / (1 + math.exp(-log_odds))
        a, x = a_of(b), (1 - b) * (1 - f)
        log_expected = math.log(n_classes * f) + a * (math.log(b) - math.log1p(-x)) + math.log1p(a * x / (1 - x))
        return log_expected - math.log(c1)

    grid = np.linspace(-16.0, 16.0, 129)
    values = [excess(float(log_odds)) for log_odds in grid]
    crossings = [i for i in range(grid.size - 1) if (values[i] > 0) != (values[i + 1] > 0)]
    if len(crossings) != 1:
        return _no_snb("its equations have no solution" if not crossings else "its equations have several solutions")
    log_odds = root_between(excess, float(grid[crossings[0]]), float(grid[crossings[0] + 1]))
    if log_odds is None:
        return _no_snb("its equations have no solution")
    b = 1 / (1 + math.exp(-log_odds))
    share = n_classes * b ** a_of(b) / sample.population
    if not 0.0 <= share <= 1.0:
        return _no_snb("the fitted model has more uniques than the population has people")
    return Estimate(share, converged=True, estimator="snb", reason="equations solved")


def _no_snb(reason: str) -> Estimate:
    return Estimate(None, converged=False, estimator="snb", reason=reason)


def _shlosser(sample: _Sample) -> float:
    """Return the estimated number of classes of the population (Haas, Stokes 1998, Shlosser's modified estimator)."""
    f, sizes, times = sample.fraction, sample.sizes.astype(np.float64), sample.times
    first = (times * sizes * f**2 * (1 - f**2) ** (sizes - 1)).sum()
    second = (times * (1 - f) ** sizes * np.expm1(sizes * np.log1p(f))).sum()
    third = (times * (1 - f) ** sizes).sum()
    fourth = (times * sizes * f * (1 - f) ** (sizes - 1)).sum()
    return float(sample.n_classes + sample.uniques * (first / second) * (third / fourth) ** 2)


def _dankar(sample: _Sample) -> Estimate:
    if sample.fraction > _SMALL_FRACTION:
        return _because(_zayatz(sample), "more than a tenth of the population is in the table")
    pitman = _pitman(sample)
    if pitman.converged:
        return _because(pitman, "at most a tenth of the population is in the table")
    return _because(_zayatz(sample), f"Pitman's model does not apply ({pitman.reason})")


def _dankar_snb(sample: _Sample) -> Estimate:
    if sample.fraction <= _SMALL_FRACTION:
        return _dankar(sample)
    zayatz, snb = _zayatz(sample), _snb(sample)
    if snb.value is None or zayatz.value is None:
        return _because(zayatz, f"the SNB model does not apply ({snb.reason})")
    smaller = snb if snb.value <= zayatz.value else zayatz
    return _because(smaller, "more than a tenth of the population is in the table: the smaller of zayatz and snb")


def _because(estimate: Estimate, reason: str) -> Estimate:
    return Estimate(estimate.value, converged=estimate.converged, estimator=estimate.estimator, reason=reason)


_ESTIMATORS: Final[dict[str, Callable[[_Sample], Estimate]]] = {
    "dankar": _dankar,
    "dankar_snb": _dankar_snb,
    "pitman": _pitman,
    "snb": _snb,
    "zayatz": _zayatz,
}
