"""Where to take a composition apart: estimates that steer `_split`, and on which no bound rests.

A table of log E[exp(c L)] over tilts c and ceilings answers for every part at once what one moment says of it: least
over c of K(c) - c epsilon + log C(c), C as in `_contour`. The sum over many thin parts is close to delta; a thicker
part is good if its own moment says about the same, for then its line cancels few digits.
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
# The share of D from which on the loss counts as linear in the outcome.
_LINEAR = 0.8
# How much faster the loss may change at the ceiling of a part than at its floor.
_TURNS = 20.0


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
        drop = lead.law.log_dropped_at(at)
        wanted = np.linspace(drop[0], drop[-1], _LEVELS)
        chosen = np.interp(-wanted, -np.minimum.accumulate(drop), at)
        even = np.linspace(lowest, top, _LEVELS)
        self.levels: FloatArray = np.unique(np.concatenate((chosen[::2], even[::2], [top])))
        losses, self._share, _ = lead.law.logs(self.levels)
        low, high = self._range(sampled, losses)
        count = max(24, int(math.log(high / low) / math.log(_RATIO)))
        self.c: FloatArray = np.geomspace(low, high, count)
        # For every term: how often, log of the moment below each level, and log of what each level adds.
        self._terms: list[tuple[int, FloatArray, FloatArray]] = []
        for i, term in enumerate(sampled):
            own = self.levels if i == leader else np.minimum(term.law.outcomes(losses), ceilings[i])
            own = np.append(own[:-1], ceilings[i])
            self._terms.append((term.count, *self._moments(term, own)))
        self._known = np.zeros(count)
        if others:
            self._known = np.array([joint(others, float(c)).log_moment for c in self.c])
            self._known = np.where(np.isfinite(self._known), self._known, math.inf)
        self._barrier = (1 + self.c) * np.log1p(self.c) - self.c * np.log(self.c)
        thin = [self._parts(k)[:, :1] for k in range(len(self.levels))]
        self._thin = np.concatenate(thin, axis=1)

    def _parts(self, begin: int) -> FloatArray:
        """Return log moments of the parts from the level before `begin` up to each level from there on."""
        if begin == 0:
            with np.errstate(invalid="ignore"):
                whole = self._known[:, None] + sum(n * below for n, below, _ in self._terms)
            return np.where(np.isnan(whole), math.inf, whole)
        grown = np.zeros((len(self.c), len(self.levels) - begin))
        base = self._known.copy()
        for n, below, added in self._terms:
            floor = below[:, begin - 1]
            base = base + n * floor
            with np.errstate(invalid="ignore"):
                share = np.logaddexp.accumulate(added[:, begin:], axis=1) - floor[:, None]
            share = np.where(np.isnan(share), -math.inf, share)
            # log(1 + exp(share)), n times.
            grown = grown + n * np.logaddexp(0.0, share)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            found = base[:, None] + np.where(grown < 30, np.log(np.expm1(np.minimum(grown, 30.0))), grown)
        return np.where(np.isnan(found), math.inf, found)

    @staticmethod
    def _range(sampled: Sequence[SampledGaussianTerm], losses: FloatArray) -> tuple[float, float]:
        """Return the least and the largest tilt that can matter."""
        largest = max(float(losses[-1]), 1e-300)
        spread = 0.0
        for term in sampled:
            u = np.linspace(-5.0, 5.0 + 1 / term.noise_multiplier, 200)
            loss = term.law.logs(u)[0]
            weight = np.exp(-0.5 * u * u + loss)
            spread += term.count * float(weight @ (loss * loss)) / float(weight.sum())
        scale = min(largest, math.sqrt(spread)) if spread > 0 else largest
        return 1e-2 / max(math.sqrt(spread), largest), 3e3 / max(scale, 1e-300)

    def _moments(self, term: SampledGaussianTerm, ceilings: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the log of the moment below each ceiling, and of what each adds, shapes (tilts, levels)."""
        law = term.law
        step = max(min(0.2, 0.5 * term.noise_multiplier), (float(ceilings[-1]) + 9) * len(self.c) / 4e5)
        u = np.arange(-9.0, float(ceilings[-1]) + step, step)
        loss = law.logs(u)[0]
        log_p = -0.5 * u * u + loss + math.log(step) - 0.5 * math.log(2 * math.pi)
        ends = np.searchsorted(u, ceilings, side="right")
        exponent = self.c[:, None] * loss[None, :]
        logs = log_p[None, :] + exponent
        added = np.full((len(self.c), len(ceilings)), -np.inf)
        begin = 0
        for k, end in enumerate(ends):
            if end > begin:
                block = logs[:, begin:end]
                peak = block.max(axis=1)
                added[:, k] = peak + np.log(np.exp(block - peak[:, None]).sum(axis=1))
            begin = max(begin, int(end))
        below = np.logaddexp.accumulate(added, axis=1)
        small = exponent.max(axis=1) < 30
        if small.any():
            # What the moment has more than 1, where that is little.
            p = np.exp(log_p)
            held = np.cumsum(p * np.expm1(exponent[small]), axis=1)[:, ends - 1]
            lost = np.maximum(float(p.sum()) - np.cumsum(p)[ends - 1], 0.0)
            below[small] = np.log1p(np.maximum(held - lost[None, :], -1 + 1e-15))
        return below, added

    def _least(self, moments: FloatArray, epsilon: float) -> tuple[FloatArray, FloatArray]:
        """Return, for each column, the least over c of the bound, and that c."""
        value = moments - (self.c * epsilon + self._barrier)[:, None]
        best = np.argmin(value, axis=0)
        return value[best, np.arange(value.shape[1])], self.c[best]

    def log_delta(self, epsilon: float) -> float:
        """Return an estimate of log delta(epsilon): the thin parts' bounds, summed."""
        bounds = self._least(self._thin, epsilon)[0]
        top = float(bounds.max())
        if not math.isfinite(top):
            return top
        found = min(0.0, top + math.log(float(np.exp(bounds - top).sum())))
        # A bound of this kind is about so much above delta.
        return found - min(1.5, -0.3 * found)

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
        thin = self._least(self._thin, epsilon)[0]
        found: list[tuple[float | None, float, float]] = []
        begin = 0
        while begin < len(self.levels):
            bounds, tilts = self._least(self._parts(begin), epsilon)
            held = np.logaddexp.accumulate(thin[begin:])
            good = bounds - np.maximum(held, log_skipped + 8) < cancelled
            # A line long enough for the slowly changing losses has to follow the fast ones.
            if begin:
                good &= self._share[begin:] < _TURNS * self._share[begin - 1]
            good |= bounds < log_skipped
            bad = np.flatnonzero(~good)
            end = len(good) - 1 if not len(bad) else max(int(bad[0]) - 1, 0)
            if self._share[begin + end] > _LINEAR:
                # Where the loss is linear its tail is a normal one: no edge there, at most one where it begins.
                linear = int(np.searchsorted(self._share, _LINEAR))
                end = linear - begin if end < len(good) - 1 and linear > begin + 1 else len(good) - 1
            found.append(
                (
                    float(self.levels[begin - 1]) if begin else None,
                    float(self.levels[begin + end]),
                    float(tilts[end]),
                )
            )
            begin += end + 1
        return found
