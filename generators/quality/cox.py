"""Cox's proportional hazards model by Newton's method, Efron's treatment of ties, and Harrell's concordance.

beta       log hazard ratios, one for each column of X;  r_i = exp(x_i beta)
at an event time t with d events D: sum over l = 0..d-1 of  log(S0 - l/d T0),  S0 = sum of r over patients followed
until t, T0 = sum of r over D
Sources: Cox 1972, J. R. Stat. Soc. B 34:187; Efron 1977, JASA 72:557; Harrell, Lee, Mark 1996, Stat. Med. 15:361.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.errors import DomainMismatch, NotConverged

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_MOST_STEPS = 50
# In standard deviations of a column: a larger effect means that the column separates who dies first (exp(10) = 22,026).
_SEPARATED = 10.0
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class CoxFit:
    """Log hazard ratios and their standard errors, shape (n_columns,); NaN where a column has no finite estimate."""

    coefficients: FloatArray
    std_errors: FloatArray

    def risk(self, X: FloatArray) -> FloatArray:
        """Return X beta, a column without estimate left out."""
        scores: FloatArray = X @ np.nan_to_num(self.coefficients)
        return scores


def fit_cox(X: FloatArray, time: FloatArray, event: BoolArray) -> CoxFit:
    """Maximise the partial likelihood.

    Parameters
    ----------
    X
        Covariates, shape (n, k), no missing values.
    time, event
        Follow-up and whether it ended with the event, shape (n,).

    Raises
    ------
    DomainMismatch
        If there is no event, or no column.
    NotConverged
        If Newton's method fails although no single column separates the patients.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [0.0], [1.0]])
    >>> fit = fit_cox(X, np.array([4.0, 1.0, 2.0, 3.0]), np.array([True, True, True, True]))
    >>> fit.coefficients.round(3)
    array([0.941])
    """
    if X.shape[1] == 0 or not event.any():
        raise DomainMismatch("a Cox model needs at least one covariate and one event")
    centre, scale = X.mean(axis=0), X.std(axis=0)
    usable = np.flatnonzero(scale > 1e-12)
    coefficients, std_errors = np.full((2, X.shape[1]), np.nan)
    while usable.size:
        Z = (X[:, usable] - centre[usable]) / scale[usable]
        beta, information = _newton(_Ties.of(Z, time, event))
        wild = np.abs(beta) > _SEPARATED
        values, vectors = np.linalg.eigh(information)
        if not wild.any() and values[0] > 1e-9 * values[-1]:
            covariance = (vectors / values) @ vectors.T
            coefficients[usable] = beta / scale[usable]
            std_errors[usable] = np.sqrt(np.diag(covariance)) / scale[usable]
            break
        # A column that separates, or that the others determine, is left out, and the rest is fitted again.
        drop = int(np.argmax(np.abs(beta))) if wild.any() else int(np.argmax(np.abs(vectors[:, 0])))
        usable = np.delete(usable, drop)
    return CoxFit(coefficients, std_errors)


def concordance(time: FloatArray, event: BoolArray, risk: FloatArray) -> float:
    """Return the share of comparable pairs in which the patient with the greater risk has the event first.

    Equal risks count half. A pair is comparable if the earlier time is an event, and the other's is later or, at the
    same time, a loss. NaN without such a pair.

    Examples
    --------
    >>> concordance(np.array([1.0, 2.0, 3.0]), np.array([True, True, False]), np.array([3.0, 1.0, 2.0]))
    0.6666666666666666
    """
    agree = pairs = 0.0
    rows = np.flatnonzero(event)
    for start in range(0, rows.size, _CHUNK):
        i = rows[start : start + _CHUNK, None]
        later = (time > time[i]) | ((time == time[i]) & ~event)
        pairs += later.sum()
        agree += (later & (risk < risk[i])).sum() + 0.5 * (later & (risk == risk[i])).sum()
        # A patient is not compared with itself: at its own time it is an event, no loss.
    return float(agree / pairs) if pairs else float("nan")


@dataclass(frozen=True, slots=True)
class _Ties:
    """Patients in descending order of time, and where each distinct event time's risk set and events lie in it.

    last       position of the last patient at risk, one for each distinct event time
    of_event   which distinct event time each event belongs to
    fraction   l / d for each event
    """

    X: FloatArray
    event: BoolArray
    last: npt.NDArray[np.intp]
    rank: npt.NDArray[np.intp]
    of_event: npt.NDArray[np.intp]
    fraction: FloatArray

    @classmethod
    def of(cls, X: FloatArray, time: FloatArray, event: BoolArray) -> _Ties:
        order = np.lexsort((~event, -time))
        X, time, event = X[order], time[order], event[order]
        event_times, of_event = np.unique(-time[event], return_inverse=True)
        deaths = np.bincount(of_event)
        first = np.concatenate(([0], np.cumsum(deaths)[:-1]))
        fraction = (np.arange(of_event.size) - first[of_event]) / deaths[of_event]
        last = np.searchsorted(-time, event_times, side="right") - 1
        # The first event time (they descend) at which each patient is at risk.
        rank = np.searchsorted(event_times, -time, side="left")
        return cls(X, event, last, rank, of_event, fraction)

    def value(self, beta: FloatArray) -> float:
        eta = self.X @ beta
        top = float(eta.max())
        at_risk, tied = self._sums(np.exp(eta - top))
        terms = np.log(at_risk[self.of_event] - self.fraction * tied[self.of_event]) + top
        return float(eta[self.event].sum() - terms.sum())

    def derivatives(self, beta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return gradient and information."""
        X, n_times = self.X, self.last.size
        eta = X @ beta
        r = np.exp(eta - eta.max())
        at_risk, tied = self._sums(r)
        denominator = at_risk[self.of_event] - self.fraction * tied[self.of_event]
        inverse = np.bincount(self.of_event, weights=1 / denominator, minlength=n_times)
        shifted = np.bincount(self.of_event, weights=self.fraction / denominator, minlength=n_times)
        # Summed over events instead of over risk sets: what each patient's x x' is multiplied by in the end.
        later = np.append(np.cumsum(inverse[::-1])[::-1], 0.0)
        weight = r * later[self.rank]
        weight[self.event] -= r[self.event] * shifted[self.of_event]
        sums = np.cumsum(r[:, None] * X, axis=0)[self.last]
        tied_sums = np.zeros((n_times, X.shape[1]))
        np.add.at(tied_sums, self.of_event, r[self.event, None] * X[self.event])
        mean = (sums[self.of_event] - self.fraction[:, None] * tied_sums[self.of_event]) / denominator[:, None]
        gradient = X[self.event].sum(axis=0) - mean.sum(axis=0)
        return gradient, X.T @ (X * weight[:, None]) - mean.T @ mean

    def _sums(self, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        tied = np.bincount(self.of_event, weights=r[self.event], minlength=self.last.size)
        return np.cumsum(r)[self.last], tied.astype(np.float64)


def _newton(ties: _Ties) -> tuple[FloatArray, FloatArray]:
    beta: FloatArray = np.zeros(ties.X.shape[1])
    value = ties.value(beta)
    for _ in range(_MOST_STEPS):
        gradient, information = ties.derivatives(beta)
        step: npt.NDArray[Any] = np.linalg.lstsq(information, gradient, rcond=1e-12)[0]
        if float(gradient @ step) < 1e-14 * max(1.0, abs(value)) or np.abs(beta).max() > 2 * _SEPARATED:
            return beta, information
        size = 1.0
        while (new := ties.value(beta + size * step)) < value - 1e-12 * abs(value) and size > 1e-6:
            size /= 2
        beta, value = beta + size * step, new
    raise NotConverged("the Cox model did not converge; use fewer covariates")
