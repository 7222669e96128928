"""What a private regression takes from a patient's outcome: residuals whose size is bounded by public numbers.

eta    linear predictor x'beta + offset
mu     mean of the outcome at eta; V its variance, which is also the derivative of mu (canonical links)
B      public bound of |residual|: exact for events; for numbers and counts, larger residuals are pulled in to it

Pulling in moves the mean of a residual. For numbers it does not if their errors are symmetric. For counts the mean of
what is left is taken off again, as a Poisson law has it (`_clipped_mean`), so that the equations stay unbiased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from synthema.learning.design import Floats

Kind = Literal["logistic", "linear", "poisson"]

# Means of counts below exp of this are not told apart.
_LEAST_LOG_MEAN = -12.0
_GRID = 512


@dataclass(frozen=True, slots=True)
class Residuals:
    """The outcome's side of a round: which family, and how far residuals may go.

    kind       the family
    most       greatest count, for counts
    sd         standard deviation of the residuals, for numbers; 1 otherwise
    reach      B in standard deviations, for numbers and counts
    of_times   whether the outcome is an event and the exposure the time until it, or until loss
    """

    kind: Kind
    most: float
    sd: float
    reach: float
    of_times: bool = False

    def moments(self, eta: Floats) -> tuple[Floats, Floats]:
        """Return (mu, V) at each linear predictor. V is that of unit dispersion for numbers."""
        match self.kind:
            case "logistic":
                mu = 0.5 * (1 + np.tanh(0.5 * eta))
                return mu, mu * (1 - mu)
            case "poisson":
                mu = np.exp(self._within(eta))
                return mu, mu
            case "linear":
                return eta, np.ones_like(eta)

    def bound(self, eta: Floats) -> Floats:
        """Return B at each linear predictor, > 0."""
        mu, _ = self.moments(eta)
        match self.kind:
            case "logistic":
                return np.maximum(mu, 1 - mu)
            case "poisson":
                exact, clipped = np.maximum(mu, self.most - mu), self.reach * np.sqrt(mu) + 1
                taken_off = np.abs(_clipped_mean(self.reach, self._highest)[1])
                return np.where(exact <= clipped, exact, clipped + self._on_grid(eta, taken_off))
            case "linear":
                return np.full_like(eta, self.reach * self.sd)

    def weighing_bound(self, eta: Floats) -> Floats:
        """Return B at each linear predictor where weights may depend on it; shape as `eta`."""
        if self.of_times:
            mu, _ = self.moments(eta)
            # What an event adds is at most 1; what time adds passes this after three times the mean time.
            return np.maximum(1.0, 3 * mu)
        return self.bound(eta)

    def of(self, y: Floats, eta: Floats) -> Floats:
        """Return each patient's residual, shape (n,), at most `bound(eta)` in size."""
        mu, _ = self.moments(eta)
        bound = self.bound(eta)
        residual = y - mu
        if self.kind == "poisson":
            exact, clipped = np.maximum(mu, self.most - mu), self.reach * np.sqrt(mu) + 1
            off = self._on_grid(eta, _clipped_mean(self.reach, self._highest)[1])
            residual = np.where(exact <= clipped, residual, np.clip(residual, -clipped, clipped) - off)
        out: Floats = np.clip(residual, -bound, bound)
        return out

    @property
    def _highest(self) -> float:
        # Rates of events may exceed one for each patient; nothing sensible is far above the greatest count.
        return math.log(4 * self.most + 4)

    def _within(self, eta: Floats) -> Floats:
        out: Floats = np.clip(eta, _LEAST_LOG_MEAN, self._highest)
        return out

    def _on_grid(self, eta: Floats, values: Floats) -> Floats:
        grid = _clipped_mean(self.reach, self._highest)[0]
        out: Floats = np.interp(self._within(eta), grid, values)
        return out


def clipped_normal(reach: float) -> tuple[float, float]:
    """Return (probability within, second moment) of a standard normal pulled in to [-reach, reach].

    Examples
    --------
    >>> [round(each, 4) for each in clipped_normal(2.0)]
    [0.9545, 0.9205]
    """
    inside = math.erf(reach / math.sqrt(2))
    density = math.exp(-reach * reach / 2) / math.sqrt(2 * math.pi)
    return inside, inside - 2 * reach * density + reach * reach * (1 - inside)


@lru_cache(maxsize=32)
def _clipped_mean(reach: float, highest: float) -> tuple[Floats, Floats]:
    """Return a grid of log means, and the mean of a Poisson count's residual pulled in to `reach` sd + 1, at each."""
    grid = np.linspace(_LEAST_LOG_MEAN, highest, _GRID)
    out = np.empty(_GRID)
    for i, log_mean in enumerate(grid.tolist()):
        mean = math.exp(log_mean)
        bound = reach * math.sqrt(mean) + 1
        # Beyond 14 standard deviations and 30 there is less than 1e-16 of the law.
        low, high = max(0, int(mean - 14 * math.sqrt(mean) - 30)), int(mean + 14 * math.sqrt(mean) + 30)
        counts = np.arange(low, high + 1, dtype=np.float64)
        log_law = np.cumsum(np.concatenate([[0.0], log_mean - np.log(counts[1:])]))
        law = np.exp(log_law - log_law.max())
        out[i] = (law * np.clip(counts - mean, -bound, bound)).sum() / law.sum()
    return grid, out
