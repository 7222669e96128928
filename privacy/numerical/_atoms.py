"""Compositions of losses with two values each: a finite sum over how often each kind took its larger value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from privacy.numerical._terms import UNIT, AtomsTerm, FloatArray, Term

_MOST_ATOMS = 200_000


class AtomSum:
    """The exact law of a sum of two-valued losses: at most 200,000 atoms."""

    def __init__(self, terms: Sequence[AtomsTerm]) -> None:
        loss, log_mass, error = np.zeros(1), np.zeros(1), 0.0
        for term in terms:
            n, k = term.count, np.arange(term.count + 1)
            ways = _log_factorials(n)
            chosen = ways[n] - ways - ways[::-1]
            (low, high), (p_low, p_high) = term.losses, term.probabilities
            one = chosen + k * math.log(p_high) + (n - k) * math.log(p_low)
            loss = np.add.outer(loss, n * low + k * (high - low)).ravel()
            log_mass = np.add.outer(log_mass, one).ravel()
            # Roundings of the factorials' logs, of the probabilities and of their logs.
            error += UNIT * (4 * float(ways[n]) + n * (16 + 4 * abs(math.log(p_low))) + 16)
        order = np.argsort(loss)
        self._loss, self._log_mass, self.error = loss[order], log_mass[order], error
        self._slip = 16 * UNIT * (1 + float(np.max(np.abs(loss))))

    @staticmethod
    def of(terms: Sequence[Term]) -> AtomSum | None:
        """Return the sum, or None if the terms are of another kind or too many atoms would result."""
        kept = [term for term in terms if isinstance(term, AtomsTerm) and len(term.losses) == 2]
        if not terms or len(kept) != len(terms):
            return None
        if math.prod(term.count + 1 for term in kept) > _MOST_ATOMS:
            return None
        return AtomSum(kept)

    def log_delta(self, epsilon: float) -> tuple[float, float]:
        """Return bounds on log delta(epsilon)."""
        return self._value(epsilon + self._slip) - self.error - 1e-13, min(
            0.0, self._value(epsilon - self._slip) + self.error + 1e-13
        )

    def _value(self, epsilon: float) -> float:
        above = self._loss > epsilon
        if not above.any():
            return -math.inf
        log_mass = self._log_mass[above]
        peak = float(log_mass.max())
        total = float(np.sum(np.exp(log_mass - peak) * -np.expm1(epsilon - self._loss[above])))
        return peak + math.log(total) if total > 0 else -math.inf

    def curve(self) -> Callable[[float], float]:
        """Return epsilon -> upper bound on delta, for epsilon >= 0, each at the price of a binary search."""
        first = int(np.searchsorted(self._loss, -self._slip))
        loss = self._loss[first:]
        p = np.exp(self._log_mass[first:])
        # delta = P(L > epsilon) - exp(epsilon) Q(L > epsilon): sums of positive numbers, from the far end.
        p_above = np.append(np.cumsum(p[::-1])[::-1], 0.0)
        q_above = np.append(np.cumsum((p * np.exp(-loss))[::-1])[::-1], 0.0)
        error = self.error + 1e-13 + 2 * UNIT * (len(loss) + 8)

        def delta(epsilon: float) -> float:
            at = epsilon - self._slip
            k = int(np.searchsorted(loss, at, side="right"))
            if k == len(loss):
                return 0.0
            above, log_q = float(p_above[k]), math.log(max(float(q_above[k]), 1e-300))
            less = math.exp(at + log_q) if q_above[k] > 0 else 0.0
            return min(1.0, max(above - less, 0.0) + 2 * (error + UNIT * (abs(at) + abs(log_q))) * above)

        return delta

    def epsilon(self, log_delta: float) -> tuple[float, float]:
        """Return bounds on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta)."""
        out = []
        for side in (0, 1):
            low, high = 0.0, max(0.0, float(self._loss[-1]) + self._slip)
            if self.log_delta(0.0)[side] <= log_delta:
                out.append(0.0)
                continue
            for _ in range(60):
                middle = 0.5 * (low + high)
                if high - low <= 1e-15 + 1e-14 * high:
                    break
                low, high = (middle, high) if self.log_delta(middle)[side] > log_delta else (low, middle)
            out.append((low, high)[side])
        return out[0], out[1]


def _log_factorials(n: int) -> FloatArray:
    return np.fromiter(map(math.lgamma, range(1, n + 2)), dtype=np.float64, count=n + 1)
