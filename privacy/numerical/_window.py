"""Windows over the outcomes of a release: which outcomes are kept, smoothly, so that what is kept stays analytic.

An edge at X keeps the outcome u with probability E(u) = erfc((u - X) / (sqrt 2 w)) / 2, and nothing beyond X + 16 w. A
window is what one edge keeps (the ceiling), less what a lower one keeps (the floor).

E is the integral of a normal density of standard deviation w, so |E(u + i r)| <= exp(r^2 / 2 w^2) E(u), and the same
holds of 1 - E. Away from the edge the better bound is |E(u + i r)| <= 1 + exp(r^2 / 2 w^2) (1 - E(u)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from privacy.numerical._terms import FloatArray

# An edge is cut off so many of its widths beyond its middle.
_REACH = 16.0

# A path may pass so many widths above the middle of an edge, and rises so much per unit to either side.
_LIFT = 3.0
_RISE = 0.5


@dataclass(frozen=True, slots=True)
class Edge:
    """A smooth edge at `middle`, of this `width`, in units of the noise."""

    middle: float
    width: float

    @property
    def end(self) -> float:
        """Beyond this nothing is kept."""
        return self.middle + _REACH * self.width

    def between(self, floor: Edge | None, ceiling: Edge) -> Edge | None:
        """Return this edge with the nearest width at which it keeps at most what the ceiling keeps, and at least what
        the floor does, but for less than exp(-128); None if there is none.
        """
        # Edges of unlike widths cross: beyond 16 widths of either nobody sees it.
        least, most = 0.0, math.inf
        for other, apart in ((ceiling, ceiling.middle - self.middle), (floor, self.middle - (floor or self).middle)):
            if other is not None:
                if apart <= 0:
                    return None
                room = 0.99 * apart / _REACH
                least, most = max(least, other.width - room), min(most, other.width + room)
        width = min(max(self.width, least), most)
        return Edge(self.middle, width) if least <= width and width > 0 else None

    def log(self, u: FloatArray) -> FloatArray:
        """Return log E."""
        out = _log_half_erfc((u - self.middle) * (1 / (self.width * math.sqrt(2))))
        out[u > self.end] = -np.inf
        return out

    def log_rest(self, u: FloatArray) -> FloatArray:
        """Return log(1 - E), before the end."""
        return _log_half_erfc((self.middle - u) * (1 / (self.width * math.sqrt(2))))

    def error(self, u: FloatArray, *, rest: bool = False) -> FloatArray:
        """Return the relative error of E, or of 1 - E, in units: a few roundings where it is large."""
        # erfc(z) falls like exp(-z^2): a relative error of z counts 2 z^2 times.
        distance = np.clip((self.middle - u if rest else u - self.middle) / self.width, 0, 2 * _REACH)
        return np.asarray(8 + 2 * distance * distance + 2 * distance * abs(self.middle) / self.width)


@dataclass(frozen=True, slots=True)
class Window:
    """What the `ceiling` keeps (all, if there is none), less what the `floor` keeps."""

    ceiling: Edge | None = None
    floor: Edge | None = None

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges, the ceiling first."""
        return tuple(edge for edge in (self.ceiling, self.floor) if edge is not None)

    def allowed_height(self, u: FloatArray) -> FloatArray:
        """Return how high a path should pass over u: beside an edge, not above what the edge's modulus bears."""
        height = np.full(len(u), math.inf)
        for edge in self.edges:
            height = np.minimum(height, _LIFT * edge.width + _RISE * np.abs(u - edge.middle))
        return height

    def log_over_cells(self, u: FloatArray, height: FloatArray) -> FloatArray:
        """Return the log of a bound on the modulus over each cell of paths.

        u        ends of the cells, shape (k,)
        height   of the paths there, shape (paths, k)
        """
        if self.ceiling is None:
            return np.zeros((len(height), len(u) - 1))
        # Every factor at the end of the cell where it is largest.
        high = np.maximum(height[:, 1:], height[:, :-1])

        def bounds(edge: Edge) -> tuple[FloatArray, FloatArray]:
            turned = high * high / (2 * edge.width**2)
            kept, rest = edge.log(u)[:-1] + turned, edge.log_rest(u)[1:] + turned
            return np.minimum(kept, np.logaddexp(0.0, rest)), rest

        upper, upper_rest = bounds(self.ceiling)
        if self.floor is None:
            return np.asarray(upper)
        turned = high * high / (2 * self.floor.width**2)
        lower, lower_rest = self.floor.log(u)[:-1] + turned, self.floor.log_rest(u)[1:] + turned
        return np.asarray(np.minimum(np.logaddexp(upper, lower), np.logaddexp(upper_rest, lower_rest)))

    def log(self, u: FloatArray) -> FloatArray:
        """Return the log of what is kept at u."""
        return self._logs(u)[0]

    def log_envelope(self, u: FloatArray) -> FloatArray:
        """Return the log of the smaller of the sum of both edges and the sum of their complements."""
        return self._logs(u)[1]

    def _logs(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self.ceiling is None:
            return np.zeros(len(u)), np.zeros(len(u))
        upper = self.ceiling.log(u)
        if self.floor is None:
            return upper, upper
        lower = self.floor.log(u)
        # From the side on which both numbers are small; the second is the smaller one.
        right = u >= self.floor.middle
        rest, rest_lower = self.ceiling.log_rest(u), self.floor.log_rest(u)
        large, small = np.where(right, upper, rest_lower), np.where(right, lower, rest)
        with np.errstate(invalid="ignore"):
            ratio = np.where(np.isfinite(large), np.exp(np.minimum(small - large, 0.0)), 0.0)
        return large + np.log1p(-np.minimum(ratio, 1 - 1e-9)), large + np.log1p(ratio)

    def error(self, u: FloatArray) -> FloatArray | float:
        """Return the relative error of what is kept at u, in units."""
        if self.ceiling is None:
            return 0.0
        if self.floor is None:
            return self.ceiling.error(u)
        kept, envelope = self._logs(u)
        with np.errstate(invalid="ignore", over="ignore"):
            lost = np.where(np.isfinite(kept), np.exp(np.minimum(envelope - kept, 30.0)), 1.0)
        upper, lower = self.ceiling, self.floor
        right = u >= lower.middle
        large = np.where(right, upper.error(u), lower.error(u, rest=True))
        small = np.where(right, np.where(u > lower.end, 0.0, lower.error(u)), upper.error(u, rest=True))
        return np.asarray((large + small) * lost)


def _log_half_erfc(z: FloatArray) -> FloatArray:
    # Below z = -6 erfc is 2 to the last digit; above 26 its square is beyond the doubles.
    out = np.where(z > 26, -np.inf, 0.0)
    near = np.flatnonzero(np.abs(z - 10) <= 16)
    kept = np.fromiter(map(math.erfc, z[near].tolist()), dtype=np.float64, count=len(near))
    out[near] = np.log(0.5 * kept)
    return out
