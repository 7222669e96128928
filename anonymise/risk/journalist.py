"""Risk where the attacker does not know that the patient is in the table: the crowd is the population's.

f_j, F_j   people of the table, and of the population, with the quasi-identifiers of class j
journalist wants to re-identify somebody, no matter whom, and looks people up in the population: risk 1 / F_j
marketer   matches everybody: expected share of the table sum_j f_j / F_j / n

With a population table F_j is counted. With its size alone it is estimated: each person is in the table with the same
probability p, and F | f = f + NegativeBinomial(f, p), so E[1 / F | f] = integral_0^1 s^(f-1) p / (p + (1-p) s) ds.
Source: Dankar, El Emam 2010 (marketer), El Emam 2013 ch. 16; Benedetti, Franconi 1998 (the estimate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from anonymise.classes import IntArray

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Recurrence below, series above: either loses no digits on its side.
_SERIES_FROM: Final = 0.2
_STEPS: Final = 30


@dataclass(frozen=True, slots=True)
class JournalistRisk:
    """Risks against a population.

    source             "population table" (counted) or "population size" (estimated)
    highest, average   of 1 / F over the people of the table; the average is the marketer's expected share as well
    smallest_crowd     fewest people of the population with somebody's quasi-identifiers; None if not counted
    share_above        share of people whose risk is above the threshold
    share_not_covered  share of people with fewer in the population table than in this table: it is not their
                       population, or not coded alike. They count with their number in this table.
    """

    source: Literal["population table", "population size"]
    highest: float
    average: float
    smallest_crowd: int | None
    share_above: float
    share_not_covered: float


def counted(crowds: IntArray, people: IntArray, *, k: int, not_covered: BoolArray) -> JournalistRisk:
    """Return the risks against a population table.

    Parameters
    ----------
    crowds
        People of the population with the quasi-identifiers of each group of the table, shape (n_groups,).
    people
        People of the table in each group, shape (n_groups,).
    k
        The threshold as a number of people: a risk of more than 1 / k.
    not_covered
        Which groups have fewer people in the population table than in the table, shape (n_groups,).
    """
    n = int(people.sum())
    return JournalistRisk(
        source="population table",
        highest=1.0 / int(crowds.min()),
        average=float((people / crowds).sum()) / n,
        smallest_crowd=int(crowds.min()),
        share_above=int(people[crowds < k].sum()) / n,
        share_not_covered=int(people[not_covered].sum()) / n,
    )


def estimated(sizes: IntArray, people: IntArray, *, population_size: float, k: int) -> JournalistRisk:
    """Return the estimated risks in a population of that size, of which the table is a random sample."""
    n = int(people.sum())
    if not population_size >= n:
        raise ValueError("population_size must be a number at least as large as the number of people in the table")
    risks = expected_risk(sizes, n / population_size)
    return JournalistRisk(
        source="population size",
        highest=float(risks.max()),
        average=float((people * risks).sum()) / n,
        smallest_crowd=None,
        # The exact tie 1/k belongs to the safe side, as a class of k people does.
        share_above=int(people[risks > (1 + 1e-12) / k].sum()) / n,
        share_not_covered=0.0,
    )


def expected_risk(sizes: IntArray, sampling_fraction: float) -> FloatArray:
    """Return E[1 / F | f] for classes of f people in the table, shape of `sizes`.

    Examples
    --------
    >>> expected_risk(np.array([1, 2]), 0.5)
    array([0.6931..., 0.3068...])
    >>> expected_risk(np.array([4]), 1.0)
    array([0.25])
    """
    p, f = sampling_fraction, sizes.astype(np.float64)
    if p >= _SERIES_FROM:
        # p / (p + q s) = p sum_k q^k (1 - s)^k, and the integral of s^(f-1) (1-s)^k is the beta function B(f, k + 1).
        term = p / f
        total = term.copy()
        for k in range(1, 2 + int(np.log(1e-18) / np.log(max(1 - p, 1e-18)))):
            term = term * (1 - p) * k / (f + k)
            total += term
        return total
    # I_1 = (p / q) log(1 / p); q I_{f+1} + p I_f = p / f. A step multiplies an error by -p / q, so a sure start for
    # large f is any guess some steps below.
    odds = p / (1 - p)
    at = np.maximum(f - _STEPS, 1.0)
    value = np.where(at == 1.0, -odds * np.log(p), p / at)
    for _ in range(_STEPS):
        going = at < f
        value = np.where(going, odds * (1.0 / at - value), value)
        at = np.where(going, at + 1.0, at)
    return value
