"""From a privacy curve to a trade-off curve: the tangents that matter for the rates that are asked for.

delta(e)   upper bound on the privacy curve of both directions, decreasing, 0 <= e
f(x)       lower bound on the false negative rate of any attack with false positive rate x
t, s       log of a slope and the slope: every line g(t) - e^t x lies below f, with g(t) = 1 - delta(t) for t >= 0 and
           g(t) = e^t (1 - delta(-t)) for t < 0

Source: Dong, Roth, Su 2022, arXiv:1905.02383, Proposition 2.5: f is the supremum of these lines, and the mirror image
of each is another, so that one delta gives two. Any line is valid: the search decides only how tight f is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Slopes beyond exp(700) leave the doubles: they matter for rates below 1e-304.
_STEEPEST = 700.0
# How many epsilons are asked first, between 0 and the one where delta is as good as least.
_FIRST = 16
# What another tangent must promise: relative to the attacker's rate of success, and to a rate of error, or a hundredth
# if that is larger. How often they are asked.
_WORTH, _SMALL = 1e-5, 0.01
_ROUNDS = 16
# Nor is it worth a delta to gain less than deltas are known to.
_NOISE = 1e-14
# A line is computed from numbers below 1 with a handful of roundings.
_SAFE = 1e-14


class TradeOff:
    """A lower bound on a trade-off curve. It keeps the tangents that it has found: each costs a delta.

    delta   epsilon -> upper bound on delta, the larger of both directions

    Examples
    --------
    Of pure DP with epsilon 1 two tangents are all there is:

    >>> curve = TradeOff(lambda epsilon: max(0.0, 1 - np.exp(epsilon - 1)) * np.e / (1 + np.e))
    >>> curve.at(np.array([0.0, 0.1, 0.9])).round(4)
    array([1.    , 0.7282, 0.0368])
    """

    def __init__(self, delta: Callable[[float], float]) -> None:
        self._delta = delta
        self._s: Floats = np.zeros(0)
        self._g: Floats = np.zeros(0)
        self._crossings: Floats = np.zeros(0)

    def at(self, false_positive_rate: npt.ArrayLike) -> Floats:
        """Return the bound at each rate, same shape."""
        x = np.asarray(false_positive_rate, dtype=np.float64)
        if not np.all((x >= 0) & (x <= 1)):
            raise ValueError("false_positive_rate must lie in [0, 1]")
        if not len(self._s):
            self._start()
        wanted = np.unique(x)
        wanted = wanted[(wanted > 0) & (wanted < 1)]
        for k in range(_ROUNDS):
            worth = self._worth(wanted, smooth=k % 2 == 0)
            if not len(worth):
                break
            self._ask(worth)
        return np.asarray(np.maximum(self._best(x.ravel()) - _SAFE, 0.0).reshape(x.shape))

    def _start(self) -> None:
        # The last epsilon that matters, within a fifth.
        least = self._delta(_STEEPEST) + 3e-14
        low, high = -34.0, np.log(_STEEPEST)
        while high - low > 0.2:
            middle = 0.5 * (low + high)
            low, high = (low, middle) if self._delta(float(np.exp(middle))) <= least else (middle, high)
        self._ask(np.linspace(0.0, np.exp(high), _FIRST + 1))

    def _ask(self, epsilons: Floats) -> None:
        """Add the two lines of each epsilon, and forget lines that lie below the others everywhere."""
        kept = np.array([1 - min(1.0, self._delta(float(epsilon))) for epsilon in epsilons])
        s = np.concatenate((self._s, np.exp(epsilons), np.exp(-epsilons)))
        g = np.concatenate((self._g, kept, np.exp(-epsilons) * kept))
        order = np.lexsort((-g, s))
        hull: list[tuple[float, float]] = []
        for slope, height in zip(s[order].tolist(), g[order].tolist(), strict=True):
            if hull and slope == hull[-1][0]:
                continue
            while len(hull) > 1 and _below(hull[-2], hull[-1], (slope, height)):
                hull.pop()
            hull.append((slope, height))
        self._s, self._g = (np.array(column) for column in zip(*hull, strict=True))
        # The rates at which each line is overtaken by the next steeper one: decreasing.
        self._crossings = np.diff(self._g) / np.diff(self._s)

    def _worth(self, wanted: Floats, *, smooth: bool) -> Floats:
        """Return the epsilons of new tangents that may lift the bound at the wanted rates, increasing.

        smooth   guess them as if f were smooth; otherwise as if it had corners
        """
        s, k = self._s, self._active(wanted)
        # Concave in s, g lies below the continuation of each of its chords: so far above line k, at most, on its right
        # and on its left, where the continued chords meet.
        x = np.concatenate(([np.inf, np.inf], self._crossings, [0.0, 0.0]))  # x[k + 2]: crossing of k and k + 1
        before, left, right, after = (x[k + i] for i in range(4))
        with np.errstate(invalid="ignore", divide="ignore"):
            up = np.where(right > after, (right - after) / (left - after), 0.0) * (
                s[np.minimum(k + 1, len(s) - 1)] - s[k]
            )
            down = np.where(before > left, (before - left) / (before - right), 0.0) * (s[k] - s[np.maximum(k - 1, 0)])
            gain_up, gain_down = (left - wanted) * up, (wanted - right) * down
        enough = _WORTH * np.minimum(1 - self._best(wanted), np.maximum(s[k] * (1 - wanted), _SMALL)) + _NOISE
        if smooth:
            at = self._smooth_guess(wanted[(gain_up > enough) | (gain_down > enough)])
        else:
            at = np.log(np.concatenate(((s[k] + up)[gain_up > enough], (s[k] - down)[gain_down > enough])))
        new = np.unique(np.abs(at))
        # No more than are known: the next round knows better where to ask.
        most = len(s)
        return new if len(new) <= most else new[np.linspace(0, len(new) - 1, most).astype(np.intp)]

    def _smooth_guess(self, wanted: Floats) -> Floats:
        # A slope is best at the rate where the lines around it cross: in log odds that rate is about linear in t.
        t = np.log(self._s)
        x = np.clip(self._crossings, 1e-300, 1 - 2.0**-53)
        return np.asarray(
            np.interp(np.log1p(-wanted) - np.log(wanted), np.log1p(-x) - np.log(x), 0.5 * (t[1:] + t[:-1]))
        )

    def _active(self, x: Floats) -> npt.NDArray[np.intp]:
        """Return the place of the highest line at each rate."""
        return np.searchsorted(-self._crossings, -x)

    def _best(self, x: Floats) -> Floats:
        k = self._active(x)
        return np.asarray(self._g[k] - self._s[k] * x)


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Return whether b lies on or below the chord from a to c."""
    return (b[1] - a[1]) * (c[0] - b[0]) <= (c[1] - b[1]) * (b[0] - a[0])
