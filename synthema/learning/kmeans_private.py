"""k-means, differentially private: Lloyd's algorithm on noisy sums, a fixed number of rounds (Blum et al. 2005).

The first round opens mean and covariance of all patients, with a fifth of the price, for where to start; each of the
others opens size and sums of every cluster at the centres before. A patient adds 1 and p numbers in [-1, 1] to one
cluster, in units of 1 / K. A cluster whose noisy size is below five deviations of its noise keeps its centre.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from privacy import Composed
from synthema.errors import ModelFailed, StudyError
from synthema.learning.kmeans_exact import answer_of, first_centres, matrix, moments, nearest
from synthema.learning.model import Contribution
from synthema.learning.noisy_sums import noise_std, open_noisy_sum, sum_event

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Event, Schema
    from synthema.learning.kmeans import KMeansSpec
    from synthema.learning.model import Rounds
    from synthema.study import Study

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

UNIT = 1024
_START_SHARE = 0.2
MOST_ROUNDS = 6
_CLEAR = 5.0


def n_rounds(spec: KMeansSpec) -> int:
    """Return how often the centres move: each round takes a part of the budget, so few."""
    return min(spec.max_iterations, MOST_ROUNDS)


def event(spec: KMeansSpec, study: Study, rho: float) -> Event:
    """See `ModelSpec.event`: the start, and then the rounds."""
    p, k = len(spec.columns), spec.n_clusters
    width = p + p * (p + 1) // 2
    start = sum_event(
        study,
        rho * _START_SHARE,
        dimension=1 + width,
        l1_sensitivity=UNIT * (1 + width),
        l2_sensitivity_squared=UNIT * UNIT * (1 + width),
    )
    moves = sum_event(
        study,
        rho * (1 - _START_SHARE),
        dimension=k * (1 + p),
        l1_sensitivity=UNIT * (1 + p),
        l2_sensitivity_squared=UNIT * UNIT * (1 + p),
        n_rounds=n_rounds(spec),
    )
    return Composed((start, moves))


class AtSite:
    """See `synthema.learning.model.SiteHalf`."""

    def __init__(self, spec: KMeansSpec, schema: Schema, rows: pd.DataFrame) -> None:
        self._k = spec.n_clusters
        self._x = matrix(schema, spec.columns, rows)
        self._rounds, self._most = 0, n_rounds(spec)

    def contribute(self, what: str, opened: Any) -> Contribution:
        """Return "moments", or "clusters/T" at these centres: sizes and sums in units of 1 / K."""
        if what == "moments":
            return Contribution(_sums(moments(self._x), np.zeros(len(self._x), dtype=np.int64), 1))
        if what != f"clusters/{self._rounds}" or self._rounds >= self._most:
            raise StudyError(f"k-means: {what!r} is not due")
        self._rounds += 1
        centres = np.array([[float(value) for value in row] for row in opened])
        return Contribution(_sums(self._x, nearest(self._x, centres), self._k))


def _sums(values: Floats, label: Ints, k: int) -> Ints:
    out = np.zeros((k, 1 + values.shape[1]), dtype=np.int64)
    out[:, 0] = UNIT * np.bincount(label, minlength=k)
    for j in range(values.shape[1]):
        # Rounded for each patient, so that nobody's part is larger than the unit.
        np.add.at(out[:, 1 + j], label, np.rint(values[:, j] * UNIT).astype(np.int64))
    return out


def fit(spec: KMeansSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`."""
    if not isinstance(rounds.event, Composed):
        raise TypeError("this is no event of a private k-means")
    start, moves = rounds.event.events
    p, k = len(spec.columns), spec.n_clusters
    [found] = open_noisy_sum(rounds, "moments", event=start) / UNIT
    n, std = float(found[0]), noise_std(rounds, start) / UNIT
    if n < _CLEAR * std * math.sqrt(p + p * (p + 1) // 2):
        raise ModelFailed("the noise is larger than the patients are many: give the model more epsilon")
    mean, second = found[1 : 1 + p] / n, found[1 + p :] / n
    covariance = np.zeros((p, p))
    covariance[np.triu_indices(p)] = second
    covariance = covariance + np.triu(covariance, 1).T - np.outer(mean, mean)
    centres = first_centres(np.clip(mean, -1, 1), np.clip(covariance, -1, 1), k)
    std = noise_std(rounds, moves) / UNIT
    sizes = np.zeros(k)
    for number in range(n_rounds(spec)):
        told = [[repr(float(value)) for value in row] for row in centres]
        noisy = open_noisy_sum(rounds, f"clusters/{number}", event=moves, opened=told) / UNIT
        sizes = noisy[:, 0]
        clear = sizes > _CLEAR * std
        centres[clear] = np.clip(noisy[clear, 1:] / sizes[clear, None], -1, 1)
    shown = [float(f"{max(size, 0.0):.2f}") for size in sizes]
    return answer_of(spec, rounds.schema, centres, shown, iterations=n_rounds(spec), converged=False)
