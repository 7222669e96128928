"""Counts by time with joint noise: what private curves are made of.

x    deaths of one cause, or losses, of one group by interval, shape (T,): the cells of a series
A    public matrix of integers, shape (T, T): A x is shared, and opened with noise of the same scale in each entry

Every patient adds 1 to one cell of one series, and so one column of A to what is opened: the sensitivity is that of the
longest column, and l2_sensitivity^2 its squared length in integers, exactly. A is a rounded multiple of the square root
of the matrix that adds up all later cells, an upper triangle with

    f[0] = 1,  f[j] = f[j - 1] (2 j - 1) / (2 j)

on its diagonals (Henzinger, Upadhyay and Upadhyay 2023, arXiv:2202.11205, by time reversed). Numbers at risk are sums
of later cells. From noisy cells their variance would grow with T; from these it grows with (1 + log(T) / pi)^2, and is
least at late times, where few are at risk.

What was opened is read as the least-squares fit with cells that are not negative: then numbers at risk fall, and no
interval has more deaths than patients at risk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from privacy import Event
    from synthema.study import Study

FLOATS = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Entries of A are rounded to this part of its largest one.
SCALE = 64
# A number at risk is worth dividing by where it is so many standard deviations of its noise.
_LEAST_DEVIATIONS = 2.0
# Exchanges of whole blocks that may fail to bring the fit nearer.
_TRIES = 3


def strategy(n_intervals: int) -> Ints:
    """Return A.

    Examples
    --------
    >>> strategy(3)
    array([[64, 32, 24],
           [ 0, 64, 32],
           [ 0,  0, 64]])
    """
    j = np.arange(1, n_intervals)
    f = np.concatenate([[1.0], np.cumprod((2 * j - 1) / (2 * j))])
    lag = np.arange(n_intervals)[None, :] - np.arange(n_intervals)[:, None]
    return np.where(lag >= 0, np.rint(SCALE * f[np.abs(lag)]), 0).astype(np.int64)


def sensitivities(a: Ints) -> tuple[int, int]:
    """Return the L1 sensitivity and the squared L2 sensitivity of A x for one patient at one site."""
    return int(np.abs(a).sum(axis=0).max()), int((a * a).sum(axis=0).max())


def encoded(counts: Ints) -> Ints:
    """Return A x of each series, as sites share it. `counts`: shape (..., T)."""
    return counts @ strategy(counts.shape[-1]).T


def noisy_series(study: Study, rho: float, *, n_series: int, n_intervals: int) -> Event:
    """Return the event of opening so many series for at most `rho`: see `noisy_sums.sum_event`."""
    from synthema.learning.noisy_sums import sum_event

    l1, l2_squared = sensitivities(strategy(n_intervals))
    return sum_event(study, rho, dimension=n_series * n_intervals, l1_sensitivity=l1, l2_sensitivity_squared=l2_squared)


def fit(measured: FLOATS, a: Ints) -> FLOATS:
    """Return the cells, not negative, of each series. `measured`: shape (..., T)."""
    matrix = a / SCALE
    rows = np.asarray(measured, dtype=np.float64).reshape(-1, len(a)) / SCALE
    return np.array([not_negative(matrix, row) for row in rows]).reshape(np.shape(measured))


def not_negative(a: FLOATS, y: FLOATS) -> FLOATS:
    """Return the x >= 0 that minimises |A x - y|, for a matrix of full column rank.

    Block principal pivoting (Portugal, Judice and Vicente 1994; Kim and Park 2011): of the conditions of the optimum, x
    and the gradient are made to hold those of equality, and indices that break the others change sides; all of them as
    long as they become fewer, and one at a time where they do not, which ends.

    Examples
    --------
    >>> not_negative(np.eye(2), np.array([1.0, -1.0])).tolist()
    [1.0, 0.0]
    """
    gram, target = a.T @ a, a.T @ y
    size = len(target)
    free = np.zeros(size, dtype=bool)
    x, gradient = np.zeros(size), -target
    slack = 1e-12 * max(1.0, float(np.abs(target).max(initial=0.0)))
    fewest, tries = size + 1, _TRIES
    while True:
        wrong = np.where(free, x < -slack, gradient < -slack)
        n_wrong = int(wrong.sum())
        if not n_wrong:
            return np.maximum(x, 0.0)
        if n_wrong < fewest:
            fewest, tries = n_wrong, _TRIES
        elif tries:
            tries -= 1
        else:
            wrong = np.arange(size) == np.flatnonzero(wrong)[-1]
        free ^= wrong
        x = np.zeros(size)
        x[free] = np.linalg.solve(gram[np.ix_(free, free)], target[free])
        gradient = np.where(free, 0.0, gram @ x - target)


def at_risk(leaving: npt.NDArray[np.inexact]) -> npt.NDArray[np.inexact]:
    """Return how many leave at each time or later, shape (..., T)."""
    return np.asarray(np.cumsum(leaving[..., ::-1], axis=-1)[..., ::-1])


class Noise:
    """What the noise does to numbers that are computed from cells: first-order, by their derivatives.

    Parameters
    ----------
    a
        The matrix A.
    std
        Standard deviation of the noise in each opened integer.
    """

    def __init__(self, a: Ints, std: float) -> None:
        # Cells without the constraint have the covariance root root'.
        self._root = np.linalg.inv(a.astype(np.float64)) * std

    def covariance(
        self, function: Callable[[npt.NDArray[np.inexact]], npt.NDArray[np.inexact]], cells: FLOATS
    ) -> FLOATS:
        """Return the covariance that noise adds to a function of cells, shape (k, k).

        Parameters
        ----------
        function
            Takes cells, shape (m, series, T), and returns shape (m, k). Analytic: derivatives are taken by a step into
            the complex plane (Squire and Trapp 1998), which loses no digits.
        cells
            Shape (series, T).
        """
        step = 1e-30
        n_series, n_times = cells.shape
        roots = []
        for series in range(n_series):
            moved = np.repeat(cells[None].astype(np.complex128), n_times, axis=0)
            moved[np.arange(n_times), series, np.arange(n_times)] += 1j * step
            slope = np.imag(function(moved)) / step
            roots.append(slope.T @ self._root)
        return np.asarray(sum(root @ root.T for root in roots), dtype=np.float64)

    def n_worth_showing(self, cells: FLOATS) -> int:
        """Return over how many intervals the number at risk stands out from its noise."""
        suffix = np.triu(np.ones((cells.shape[1], cells.shape[1])))
        std = np.sqrt(len(cells) * ((suffix @ self._root) ** 2).sum(axis=1))
        clear = at_risk(cells.sum(axis=0)) >= _LEAST_DEVIATIONS * std
        return int(np.logical_and.accumulate(clear).sum())


def log_survival(cells: npt.NDArray[np.inexact]) -> npt.NDArray[np.inexact]:
    """Return log S. `cells`: deaths of each cause, then losses, shape (..., K + 1, T)."""
    n, d = at_risk(cells.sum(axis=-2)), cells[..., :-1, :].sum(axis=-2)
    return np.asarray(np.cumsum(np.log(1 - d / n), axis=-1))


def hazards(cells: npt.NDArray[np.inexact], cause: int | None) -> npt.NDArray[np.inexact]:
    """Return the cumulative hazard of one cause, or of all."""
    d = cells[..., :-1, :].sum(axis=-2) if cause is None else cells[..., cause, :]
    return np.asarray(np.cumsum(d / at_risk(cells.sum(axis=-2)), axis=-1))


def incidences(cells: npt.NDArray[np.inexact], cause: int) -> npt.NDArray[np.inexact]:
    """Return the cumulative incidence of one cause."""
    s = np.exp(log_survival(cells))
    before = np.concatenate([np.ones_like(s[..., :1]), s[..., :-1]], axis=-1)
    return np.asarray(np.cumsum(before * cells[..., cause, :] / at_risk(cells.sum(axis=-2)), axis=-1))
