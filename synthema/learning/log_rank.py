"""The log-rank test: observed minus expected deaths of each group, and the covariance of the differences.

At each time t of each stratum: n[g] at risk in group g, n in all; d[g] deaths, d in all. Mantel 1966, Peto 1972:

    U[g]    = sum d[g] - d p[g],                     p[g] = n[g] / n
    V[g, h] = sum d a p[g] (1{g = h} - p[h]),        a = (n - d) / (n - 1), or 0 with one patient at risk

and U' V^- U is chi-square with one degree of freedom less than there are groups of patients.

On shares, the quotients of all times are computed at once and stay on shares; U and V of all groups but the last are
opened, to 2^-20. Before, it is tested on shares that every group holds 0 or at least `GROUP_FACTOR` x `min_cell`
patients and 0 or at least `min_cell` deaths, that deaths are at least three for each coefficient of all exact models of
the study, and that there are deaths in at least `LEAST_TIMES` intervals: numbers about a table of few cells could be
solved for it, as those of a model of few values can (`synthema.learning.covariates`). One yes or no is learnt of all
tests together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smpc import concatenate
from synthema.errors import ModelFailed
from synthema.learning import noisy_counts
from synthema.learning.covariates import PARAMETER_RATIO
from synthema.learning.kaplan_meier import GROUP_FACTOR

if TYPE_CHECKING:
    from smpc import Session, Shared

# Deaths must fall into so many different intervals, as a covariate must have so many values.
LEAST_TIMES = 20
# Fractional bits of quotients while they are added up, and of what is opened.
_QUOTIENT_BITS, _OPENED_BITS = 25, 20
RULE = (
    f"every group must hold at least {GROUP_FACTOR} x min_cell patients and 0 or at least min_cell deaths, and deaths "
    f"must fall into at least {LEAST_TIMES} intervals and be 3 for every coefficient of the study's exact models"
)

FLOATS = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Statistic:
    """Observed minus expected, shape (k,), their covariance, shape (k, k), and chi-square."""

    difference: FLOATS
    covariance: FLOATS
    chi_square: float
    degrees: int

    @property
    def p(self) -> float:
        """Probability of a greater chi-square under the hypothesis of equal hazards."""
        return upper_tail(self.chi_square, self.degrees)


def upper_tail(x: float, degrees: int) -> float:
    """Return the probability that chi-square with so many degrees of freedom, >= 1, is above x >= 0.

    Q(k / 2, x / 2) by its recurrence in k (Abramowitz and Stegun, 6.5.21), from erfc or exp on.

    Examples
    --------
    >>> round(upper_tail(3.841458820694124, 1), 12), round(upper_tail(5.991464547107979, 2), 12)
    (0.05, 0.05)
    """
    half, order = x / 2, (2 - degrees % 2) / 2
    found = math.erfc(math.sqrt(half)) if degrees % 2 else math.exp(-half)
    while order < degrees / 2:
        found += math.exp(order * math.log(half) - half - math.lgamma(order + 1)) if half > 0 else 0.0
        order += 1
    return min(found, 1.0)


async def open_statistic(
    session: Session, table: Shared, *, n_strata: int, n_coefficients: int, most_patients: int, min_cell: int
) -> Ints | None:
    """Return U, then the upper triangle of V, of all groups but the last, in units of 2^-20; None if they stay closed.

    Parameters
    ----------
    table
        Deaths, then losses: shape (2, G, strata x T), in RING64.
    n_coefficients
        Of all exact models of the study.
    most_patients
        Public bound on all patients together.
    """
    deaths, leaving = table[0].declare(most_patients), (table[0] + table[1]).declare(most_patients)
    n_times = table.shape[2]
    at_risk = (leaving @ later(n_strata, n_times // n_strata)).declare(most_patients)
    d, n = deaths.sum(axis=0).declare(most_patients), at_risk.sum(axis=0).declare(most_patients)
    sizes, died = leaving.sum(axis=1).declare(most_patients), deaths.sum(axis=1).declare(most_patients)
    least = math.ceil(n_coefficients / PARAMETER_RATIO)
    parts = [n - 1, n - 2, d - 1, sizes - 1, died - 1, sizes - GROUP_FACTOR * min_cell, died - min_cell]
    below = await session.negative(concatenate(*parts, d.sum().reshape(1).declare(most_patients) - least))
    nobody, at_most_one, quiet = (below[i * n_times : (i + 1) * n_times] for i in range(3))
    # A cell is small if it is below its least and not 0; of all that must not be, there must be none.
    cells = below[3 * n_times : -1].reshape(2, -1)
    empty, few = cells[0], cells[1]
    too_few_times = await session.negative((n_times - LEAST_TIMES) - quiet.sum().reshape(1))
    passed = await session.equal_bits((few - empty).sum() + below[-1] + too_few_times, 0)
    if not (await session.open(passed)).all():
        return None
    p = await session.together(
        session.divide(at_risk[:-1], n + nobody, least=1, most=most_patients + 1, frac_bits=_QUOTIENT_BITS, largest=1),
        session.divide(
            n - d, n - 1 + nobody + at_most_one, least=1, most=most_patients + 1, frac_bits=_QUOTIENT_BITS, largest=2
        ),
    )
    return await _sums(session, deaths[:-1], d, *p, most_patients=most_patients)


async def _sums(session: Session, deaths: Shared, d: Shared, p: Shared, a: Shared, *, most_patients: int) -> Ints:
    """Open U and V of the groups of `deaths` and `p`, shape (G - 1, times)."""
    rows, columns = np.triu_indices(len(p))
    own = np.flatnonzero(rows == columns)
    products = await session.mul(p[rows], p[columns])
    # p (1{g = h} - p): the first part only where both are the same group.
    pick = np.zeros((len(rows), len(p)), dtype=np.int64)
    pick[own, rows[own]] = 1
    # The transposes have the shared matrix stand on the left.
    weights = await session.mul(((p.T @ pick.T).T - products).declare(1), a)
    # At least 2 at risk, a p (1 - p) is at most a half where nobody dies, and a quarter elsewhere.
    expected, covariance = await session.mul_many([(p.declare(1), d), (weights.declare(1), d)])
    # Counts as fixed-point numbers.
    died = (deaths.sum(axis=1).declare(most_patients) * 2**_QUOTIENT_BITS).ldexp(-_QUOTIENT_BITS)
    u = died - expected.sum(axis=1).declare(most_patients)
    opened = concatenate(u.declare(most_patients), covariance.sum(axis=1).declare(most_patients))
    found: Ints = await session.open(await session.truncate(opened, _QUOTIENT_BITS - _OPENED_BITS))
    return np.rint(np.ldexp(found, _OPENED_BITS)).astype(np.int64)


def later(n_strata: int, n_times: int) -> Ints:
    """Return the matrix that adds up who leaves from each time on, by stratum: shape (strata x T, strata x T)."""
    return np.kron(np.eye(n_strata, dtype=np.int64), np.tril(np.ones((n_times, n_times), dtype=np.int64)))


def read(opened: Ints, n_groups: int) -> Statistic:
    """Return the statistic of what `open_statistic` opened. Raises ModelFailed if there is nothing to compare."""
    k = n_groups - 1
    values = np.ldexp(np.asarray(opened, dtype=np.float64), -_OPENED_BITS)
    covariance = np.zeros((k, k))
    covariance[np.triu_indices(k)] = values[k:]
    covariance += np.triu(covariance, 1).T
    # Differences of all groups add up to 0.
    every = np.concatenate([np.eye(k), -np.ones((1, k))])
    return statistic(every @ values[:k], every @ covariance @ every.T)


def statistic(difference: FLOATS, covariance: FLOATS) -> Statistic:
    """Return chi-square of the groups that were at risk when somebody died. Raises ModelFailed if they are not two."""
    compared = np.flatnonzero(np.diag(covariance) > 2.0 ** (3 - _OPENED_BITS))
    if len(compared) < 2:
        raise ModelFailed("the log-rank test needs patients at risk in two groups at least while deaths occur")
    kept = compared[:-1]
    u, v = difference[kept], covariance[np.ix_(kept, kept)]
    if np.linalg.cond(v) > 1e10:
        raise ModelFailed("groups are not at risk at the same times, so their hazards cannot be compared")
    return Statistic(difference, covariance, float(u @ np.linalg.solve(v, u)), len(kept))


def from_counts(
    at_risk: npt.NDArray[np.inexact], deaths: npt.NDArray[np.inexact]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return U and V of counts, shapes (..., G, times) each."""
    n, d = at_risk.sum(axis=-2, keepdims=True), deaths.sum(axis=-2, keepdims=True)
    some = np.real(n) > 0
    p = np.where(some, at_risk, 0) / np.where(some, n, 1)
    u = (deaths - d * p).sum(axis=-1)
    several = np.real(n) > 1
    weight = np.where(several, d * (n - d), 0) / np.where(several, n - 1, 1)
    own = (weight * p).sum(axis=-1)[..., None] * np.eye(at_risk.shape[-2])
    return u, own - (weight * p) @ np.swapaxes(p, -1, -2)


def of_noisy_counts(measured: npt.ArrayLike, noise_std: float) -> Statistic:
    """Return the statistic of noisy series of deaths and losses, shape (G, strata, 2, T); V is enlarged by the noise.

    Times at which the number at risk of a group does not stand out from its noise are left out.
    """
    values = np.asarray(measured, dtype=np.float64)
    a = noisy_counts.strategy(values.shape[-1])
    noise, cells = noisy_counts.Noise(a, noise_std), noisy_counts.fit(values, a)
    n_groups, n_strata, _, n_times = cells.shape
    # In a stratum of several groups, up to where all of them are seen; one that is never seen is not compared.
    seen = np.array([[noise.n_worth_showing(cells[g, s]) for s in range(n_strata)] for g in range(n_groups)])
    used = np.array(
        [seen[seen[:, s] > 0, s].min(initial=n_times) if (seen[:, s] > 0).any() else 0 for s in range(n_strata)]
    )
    shown = (np.arange(n_times) < used[:, None]) & (seen > 0)[..., None]

    def compare(cells: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        series = cells.reshape(-1, n_groups, n_strata, 2, n_times)
        at_risk = noisy_counts.at_risk(series.sum(axis=-2)) * shown
        deaths = series[..., 0, :] * shown
        shape = (len(series), n_groups, -1)
        return from_counts(at_risk.reshape(shape), deaths.reshape(shape))

    flat = cells.reshape(-1, n_times)
    u, v = compare(flat[None])
    added = noise.covariance(lambda moved: compare(moved)[0], flat)
    # A group that is never seen has no variance of its own, and is not compared.
    return statistic(u[0], v[0] + added)
