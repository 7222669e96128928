"""Survival curves and how near a synthetic curve is to a real one.

t_1 < t_2 < ...   distinct follow-up times;  d_j  events at t_j;  n_j  patients still followed just before t_j
S(t)              Kaplan-Meier: product over t_j <= t of (1 - d_j / n_j)
H(t)              Nelson-Aalen: sum over t_j <= t of d_j / n_j
F_k(t)            Aalen-Johansen cumulative incidence of cause k: sum over t_j <= t of S(t_(j-1)) d_jk / n_j, where S is
                  that of any event; with one cause, F = 1 - S

At equal times events come before losses, as usual. Computed on real rows, all of this is INTERNAL: each step of an
exact curve is a patient.

Sources: Kaplan, Meier 1958, JASA 53:457; Aalen, Johansen 1978, Scand. J. Statist. 5:141; the distances: Norcliffe,
Cebere, Imrie, Lio, van der Schaar 2023 (SurvivalGAN), AISTATS, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.errors import DomainMismatch

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SurvivalDistance:
    """How a synthetic curve S' differs from the real S on a grid of public times.

    km_divergence       mean |S - S'|, in [0, 1]
    optimism            mean (S' - S), in [-1, 1]: above zero, synthetic patients live longer
    short_sightedness   (T - T') / T, where T is the longest follow-up up to the grid's end: above zero, the synthetic
                        curve ends earlier
    """

    km_divergence: float
    optimism: float
    short_sightedness: float


def kaplan_meier(time: npt.ArrayLike, event: npt.ArrayLike, grid: npt.ArrayLike) -> FloatArray:
    """Return the Kaplan-Meier estimate of survival beyond each time of the grid. INTERNAL on real rows.

    Parameters
    ----------
    time
        Follow-up times, shape (n,), n >= 1; no NaN.
    event
        True where the event happened at that time, False where follow-up ended, shape (n,).
    grid
        Public times, shape (k,).

    Returns
    -------
    Shape (k,), in [0, 1]; beyond the longest follow-up, the curve's last value.

    Examples
    --------
    >>> kaplan_meier(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False]), np.array([0.5, 1.0, 3.5]))
    array([1.   , 0.75 , 0.375])
    """
    followed = _Followed.of(time, event, 1)
    survival = np.concatenate(([1.0], np.cumprod(1 - followed.events[0] / followed.at_risk)))
    return survival[followed.steps_until(grid)]


def kaplan_meier_variance(time: npt.ArrayLike, event: npt.ArrayLike, grid: npt.ArrayLike) -> FloatArray:
    """Return Greenwood's variance of the Kaplan-Meier estimate; parameters as there. INTERNAL on real rows.

    Examples
    --------
    >>> kaplan_meier_variance([1, 2, 3, 4], [True, False, True, False], [0.5, 1, 3.5]).round(5)
    array([0.     , 0.04688, 0.08203])
    """
    followed = _Followed.of(time, event, 1)
    survival = np.cumprod(1 - followed.events[0] / followed.at_risk)
    variance: FloatArray = np.concatenate(([0.0], np.square(survival) * followed.greenwood()))
    return variance[followed.steps_until(grid)]


def kaplan_meier_band(
    time: npt.ArrayLike, event: npt.ArrayLike, grid: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return the pointwise confidence limits of the Kaplan-Meier estimate; other parameters as there. INTERNAL.

    Greenwood's variance on the scale of log(-log S), so that the limits stay within [0, 1]; both are the estimate
    itself where it is 0 or 1.

    Examples
    --------
    >>> low, high = kaplan_meier_band([1, 2, 3, 4], [True, False, True, False], [0.5, 1, 3.5])
    >>> low.round(3), high.round(3)
    (array([1.   , 0.128, 0.011]), array([1.   , 0.961, 0.808]))
    """
    followed = _Followed.of(time, event, 1)
    survival = np.cumprod(1 - followed.events[0] / followed.at_risk)
    inside = (survival > 0) & (survival < 1)
    variance = followed.greenwood()
    log_survival = np.log(survival, out=np.full_like(survival, -1.0), where=inside)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * np.sqrt(variance) / -log_survival
    steps = followed.steps_until(grid)
    limits = []
    for sign in (1, -1):
        limit = np.where(inside, np.exp(log_survival * np.exp(sign * reach)), survival)
        limits.append(np.concatenate(([1.0], limit))[steps])
    return limits[0], limits[1]


def nelson_aalen(time: npt.ArrayLike, event: npt.ArrayLike, grid: npt.ArrayLike) -> FloatArray:
    """Return the Nelson-Aalen cumulative hazard at each time of the grid; parameters as `kaplan_meier`. INTERNAL.

    Examples
    --------
    >>> nelson_aalen([1, 2, 3, 4], [True, False, True, False], [0.5, 1, 3.5])
    array([0.  , 0.25, 0.75])
    """
    followed = _Followed.of(time, event, 1)
    hazard = np.concatenate(([0.0], np.cumsum(followed.events[0] / followed.at_risk)))
    return hazard[followed.steps_until(grid)]


def cumulative_incidence(
    time: npt.ArrayLike, event: npt.ArrayLike, grid: npt.ArrayLike, *, n_causes: int
) -> FloatArray:
    """Return the Aalen-Johansen cumulative incidence of each of several competing events. INTERNAL on real rows.

    Parameters
    ----------
    time, grid
        As for `kaplan_meier`.
    event
        0 where follow-up ended, k where event k = 1, ..., n_causes came first, shape (n,).
    n_causes
        Number of competing events, >= 1: public, so a cause that never happened has its row.

    Returns
    -------
    Shape (n_causes, k). Their sum is one less the Kaplan-Meier estimate of any event.

    Examples
    --------
    >>> cumulative_incidence([1, 2, 3, 4], [1, 0, 2, 0], [1.0, 3.5], n_causes=2)
    array([[0.25 , 0.25 ],
           [0.   , 0.375]])
    """
    followed = _Followed.of(time, event, n_causes)
    before = np.concatenate(([1.0], np.cumprod(1 - followed.events.sum(axis=0) / followed.at_risk)))[:-1]
    steps = np.cumsum(before * followed.events / followed.at_risk, axis=1)
    grown: FloatArray = np.concatenate((np.zeros((n_causes, 1)), steps), axis=1)[:, followed.steps_until(grid)]
    return grown


def compare_survival(
    real: tuple[npt.ArrayLike, npt.ArrayLike],
    synthetic: tuple[npt.ArrayLike, npt.ArrayLike],
    grid: npt.ArrayLike,
) -> SurvivalDistance:
    """Return the three distances between two tables' Kaplan-Meier curves. INTERNAL on real rows.

    Parameters
    ----------
    real, synthetic
        (times, events) as for `kaplan_meier`.
    grid
        Public times > 0, shape (k,), k >= 1. Follow-up is compared up to the last of them.

    Examples
    --------
    >>> real = ([10, 20, 30, 40], [True, True, True, False])
    >>> compare_survival(real, ([10, 20, 20, 20], [True, True, False, False]), [10, 20, 30, 40])
    SurvivalDistance(km_divergence=0.125, optimism=0.125, short_sightedness=0.5)
    """
    points = np.asarray(grid, dtype=np.float64)
    if points.ndim != 1 or not points.size or not (points > 0).all():
        raise DomainMismatch("grid must be public times > 0, at least one of them")
    difference = kaplan_meier(*synthetic, points) - kaplan_meier(*real, points)
    end = float(points.max())
    longest, synthetic_longest = (min(float(np.max(np.asarray(part[0]))), end) for part in (real, synthetic))
    if longest <= 0:
        raise DomainMismatch("no real follow-up time is above zero, so its length cannot be compared")
    return SurvivalDistance(
        km_divergence=float(np.abs(difference).mean()),
        optimism=float(difference.mean()),
        short_sightedness=(longest - synthetic_longest) / longest,
    )


@dataclass(frozen=True, slots=True)
class _Followed:
    """Distinct times, events of each cause at them, shape (n_causes, n_times), and patients followed until then."""

    times: FloatArray
    events: FloatArray
    at_risk: FloatArray

    @classmethod
    def of(cls, time: npt.ArrayLike, event: npt.ArrayLike, n_causes: int) -> _Followed:
        times = np.asarray(time, dtype=np.float64)
        causes = np.asarray(event)
        if times.ndim != 1 or times.shape != causes.shape or not times.size or np.isnan(times).any():
            raise DomainMismatch("time and event must be two arrays of the same length >= 1, without missing values")
        causes = _whole(causes, n_causes)
        distinct, position = np.unique(times, return_inverse=True)
        events = [
            np.bincount(position, weights=causes == cause, minlength=distinct.size) for cause in range(1, n_causes + 1)
        ]
        leaving = np.bincount(position, minlength=distinct.size)
        at_risk = times.size - np.concatenate(([0], np.cumsum(leaving)[:-1]))
        return cls(distinct, np.array(events), at_risk.astype(np.float64))

    def greenwood(self) -> FloatArray:
        """Return Greenwood's sum of d / (n (n - d)) at each time, for the first cause.

        Where everybody has died it is infinite; that term is left out, because survival is zero then.
        """
        d, n = self.events[0], self.at_risk
        terms: FloatArray = np.cumsum(np.divide(d, n * (n - d), out=np.zeros_like(n), where=n > d))
        return terms

    def steps_until(self, grid: npt.ArrayLike) -> npt.NDArray[np.intp]:
        return np.searchsorted(self.times, np.asarray(grid, dtype=np.float64), side="right")


def _whole(causes: npt.NDArray[Any], n_causes: int) -> npt.NDArray[np.int64]:
    try:
        numbers = causes.astype(np.float64)
    except (TypeError, ValueError):
        raise DomainMismatch("events must be numbers or booleans: 0 where follow-up ended") from None
    if not np.isin(numbers, np.arange(n_causes + 1)).all():
        raise DomainMismatch(f"events must be whole numbers from 0 (follow-up ended) to {n_causes}")
    return numbers.astype(np.int64)
