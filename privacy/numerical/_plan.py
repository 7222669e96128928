"""Where to take a composition apart: estimates that steer `_split`, and on which no bound rests.

A table of log E[exp(c L)] over tilts c and ceilings answers for every part at once what one moment says of it: least
over c of K(c) - c epsilon + log C(c), C as in `_contour`. The sum over many thin parts is close to delta; a thicker part is good if
its own moment says about the same, for then its line cancels few digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from privacy.numerical._contour import joint
from privacy.numerical._sampled_gaussian import SampledGaussianTerm
from privacy.numerical._terms import FloatArray, Term

# Thin parts, the ratio of neighbouring tilts, and nodes of the table.
_LEVELS = 28
_RATIO = 1.3
_MOST_ENTRIES = 60_000


class Plan:
    """The table of one composition below given ceilings of its sampled Gaussians.

    leader   index of the term whose outcomes name the levels; `levels` increasing, the last one is its ceiling
    """

    def __init__(
        self,
        sampled: Sequence[SampledGaussianTerm],
        others: Sequence[Term],
        leader: int,
        ceilings: Sequence[float],
    ) -> None:
        lead = sampled[leader]
        top = ceilings[leader]
        # Levels at equal steps of the log of what they drop, down to the bulk.
        lowest = min(1.0, 0.5 * top)
        at = np.linspace(lowest, top, 400)
        drop = np.array([lead.law.log_dropped_at(float(u)) for u in at])
        wanted = np.linspace(drop[0], drop[-1], _LEVELS)
        chosen = np.interp(-wanted, -np.minimum.accumulate(drop), at)
        even = np.linspace(lowest, top, _LEVELS)
        self.levels: FloatArray = np.unique(np.concatenate((chosen[::2], even[::2], [top])))
        losses = lead.law.logs(self.levels)[0]
        low, high = self._range(sampled, losses)
        count = max(24, int(math.log(high / low) / math.log(_RATIO)))
        self.c: FloatArray = np.geomspace(low, high, count)
        table = np.zeros((count, len(self.levels)))
        for i, term in enumerate(sampled):
            own = self.levels if i == leader else np.minimum(term.law.outcomes(losses), ceilings[i])
            table += self._moments(term, own)
        if others:
            known = np.array([joint(others, float(c)).log_moment for c in self.c])
            table += np.where(np.isfinite(known), known, math.inf)[:, None]
        self.table = table
        # Each level's part: what its ceiling holds less what the one before holds.
        before = np.concatenate((np.full((count, 1), -np.inf), table[:, :-1]), axis=1)
        self._parts = _less(table, before)
        self._barrier = (1 + self.c) * np.log1p(self.c) - self.c * np.log(self.c)

    @staticmethod
    def _range(sampled: Sequence[SampledGaussianTerm], losses: FloatArray) -> tuple[float, float]:
        """Return the least and the largest tilt that can matter."""
        largest = max(float(losses[-1]), 1e-300)
        spread = 0.0
        for term in sampled:
            u = np.linspace(-5.0, 5.0, 41)
            loss = term.law.logs(u)[0]
            weight = np.exp(-0.5 * u * u)
            spread += term.count * float(weight @ (loss * loss)) / float(weight.sum())
        scale = min(largest, math.sqrt(spread)) if spread > 0 else largest
        return 1e-2 / max(math.sqrt(spread), largest), 3e3 / max(scale, 1e-300)

    def _moments(self, term: SampledGaussianTerm, ceilings: FloatArray) -> FloatArray:
        """Return count * log of the moment below each ceiling, shape (tilts, levels)."""
        law = term.law
        step = max(min(0.2, 0.5 * term.noise_multiplier), (float(ceilings[-1]) + 9) * len(self.c) / 4e5)
        u = np.arange(-9.0, float(ceilings[-1]) + step, step)
        loss = law.logs(u)[0]
        log_p = -0.5 * u * u + loss + math.log(step) - 0.5 * math.log(2 * math.pi)
        index = np.searchsorted(u, ceilings, side="right") - 1
        exponent = self.c[:, None] * loss[None, :]
        found = np.empty((len(self.c), len(ceilings)))
        small = exponent.max(axis=1) < 30
        p = np.exp(log_p)
        total = float(p.sum())
        if small.any():
            held = np.cumsum(p * np.expm1(exponent[small]), axis=1)[:, index]
            lost = np.maximum(total - np.cumsum(p)[index], 0.0)
            found[small] = np.log1p(np.maximum(held - lost[None, :], -1 + 1e-15))
        if not small.all():
            # Sums from the left, rescaled at every level so that nothing is lost below a far larger end.
            logs = log_p[None, :] + exponent[~small]
            running = np.full(len(logs), -np.inf)
            begin = 0
            for k, end in enumerate(index + 1):
                if end > begin:
                    block = logs[:, begin:end]
                    peak = block.max(axis=1)
                    running = np.logaddexp(running, peak + np.log(np.exp(block - peak[:, None]).sum(axis=1)))
                begin = max(begin, int(end))
                found[~small, k] = running
        return term.count * found

    def _least(self, moments: FloatArray, epsilon: float) -> tuple[FloatArray, FloatArray]:
        """Return, for each column, the least over c of the bound, and that c."""
        value = moments - (self.c * epsilon + self._barrier)[:, None]
        best = np.argmin(value, axis=0)
        return value[best, np.arange(value.shape[1])], self.c[best]

    def log_delta(self, epsilon: float) -> float:
        """Return an estimate of log delta(epsilon): the thin parts' bounds, summed."""
        bounds = self._least(self._parts, epsilon)[0]
        top = float(bounds.max())
        return top + math.log(float(np.exp(bounds - top).sum())) - 1.5 if math.isfinite(top) else top

    def epsilon(self, log_delta: float) -> float:
        """Return about the epsilon of this delta."""
        low, high = math.log(1e-2 / self.c[-1]), math.log(3e3 / self.c[0])
        for _ in range(22):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.log_delta(math.exp(middle)) > log_delta else (low, middle)
        return math.exp(0.5 * (low + high))

    def cuts(self, epsilon: float, log_skipped: float, cancelled: float) -> list[tuple[float | None, float, float]]:
        """Return parts (floor, ceiling, tilt) from the bulk up, in which no line cancels more than this.

        Parts below exp(log_skipped) are returned as well, as thick as they come: a bound will skip them.
        """
        thin = self._least(self._parts, epsilon)[0]
        found: list[tuple[float | None, float, float]] = []
        begin = 0
        while begin < len(self.levels):
            below = self.table[:, begin - 1 : begin] if begin else np.full((len(self.c), 1), -np.inf)
            bounds, tilts = self._least(_less(self.table[:, begin:], below), epsilon)
            held = np.logaddexp.accumulate(thin[begin:])
            good = (bounds - np.maximum(held, log_skipped + 8) < cancelled) | (bounds < log_skipped)
            bad = np.flatnonzero(~good)
            end = len(good) - 1 if not len(bad) else max(int(bad[0]) - 1, 0)
            found.append(
                (
                    float(self.levels[begin - 1]) if begin else None,
                    float(self.levels[begin + end]),
                    float(tilts[end]),
                )
            )
            begin += end + 1
        return found


def _less(more: FloatArray, less: FloatArray) -> FloatArray:
    """Return log(exp(more) - exp(less))."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gap = np.minimum(less - more, -1e-300)
        out = more + np.log(-np.expm1(gap))
    return np.where(np.isnan(out), np.inf, out)
