"""How fast a characteristic function must fall: a bound that holds beyond a point, from a minorant of the density.

A density that lies above a sum of uniform pieces (mass m_i, width w_i) has a characteristic function of modulus at
most 1 - sum m_i (1 - |sin(x_i) / x_i|), x_i = t w_i / 2, whatever the rest of the law looks like. A unimodal step
function is such a sum: its layers, cut horizontally, are intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# The largest |sin x / x| beyond the first zero, rounded up.
_SIDE_LOBE = 0.21724

# Room for the rounding of masses and widths: what is claimed is this much less.
_ROOM = 1 - 1e-9


def sinc_envelope(x: FloatArray) -> FloatArray:
    """Return sup over y >= x of |sin y / y|, rounded up, for x >= 0."""
    # sin x / x falls up to its first zero.
    inner = np.clip(x, 1e-9, math.pi)
    falling = np.minimum(np.sin(inner) / inner * (1 + 1e-15), 1.0)
    return np.where(x < math.pi, np.maximum(falling, _SIDE_LOBE), np.minimum(_SIDE_LOBE, 1 / np.maximum(x, 1.0)))


def layers_of_density(
    edges: FloatArray, log_density: FloatArray, error: FloatArray | None = None
) -> Callable[[float], float]:
    """Return t -> log of a bound on |characteristic function| beyond t, from a step function below the density.

    edges         increasing, shape (k + 1,)
    log_density   shape (k,), at most the log of the density anywhere in the cell
    error         absolute error bounds of the edges, shape (k + 1,); None: a few roundings of their distances
    """
    unsure = np.zeros(len(edges)) if error is None else error

    @cache
    def layers() -> tuple[FloatArray, FloatArray]:
        # Cut when first asked: most tilts are only asked for their moment.
        height = np.exp(log_density)
        masses: list[FloatArray] = []
        widths: list[FloatArray] = []
        for low, high in _humps(height, int(np.argmax(height))):
            _cut(edges[low : high + 1], unsure[low : high + 1], height[low:high], masses, widths)
        mass, span = np.concatenate(masses), np.concatenate(widths)
        keep = mass > 0
        return mass[keep] * _ROOM, 0.5 * span[keep] * _ROOM

    def log_bound(t: float) -> float:
        mass, half = layers()
        lost = float(mass @ (1 - sinc_envelope(t * half)))
        return math.log1p(-min(lost, 1 - 1e-15))

    return log_bound


def _humps(height: FloatArray, peak: int) -> list[tuple[int, int]]:
    # Two humps at most: the parts on either side of the lowest point between the highest point and each end. Each end
    # is given to its own hump if enough mass climbs again beyond a valley.
    n = len(height)
    pieces = []
    left = _valley(height[: peak + 1][::-1])
    right = _valley(height[peak:])
    low = peak + 1 - left if left else 0
    high = peak + right if right else n
    if low > 0:
        pieces.append((0, low))
    pieces.append((low, high))
    if high < n:
        pieces.append((high, n))
    return pieces


def _valley(falling: FloatArray) -> int:
    # The start (from the peak outwards) of the part that climbs back most above the running minimum; 0 if none does.
    if len(falling) < 3:
        return 0
    gain = falling - np.minimum.accumulate(falling)
    top = int(np.argmax(gain))
    if gain[top] <= 0:
        return 0
    return max(1, int(np.argmin(falling[: top + 1])))


def _cut(
    edges: FloatArray, unsure: FloatArray, height: FloatArray, masses: list[FloatArray], widths: list[FloatArray]
) -> None:
    # The largest unimodal function below the steps: running minima outwards from the peak. Then its layers.
    peak = int(np.argmax(height))
    below = height.copy()
    below[peak:] = np.minimum.accumulate(height[peak:])
    below[: peak + 1] = np.minimum.accumulate(height[: peak + 1][::-1])[::-1]
    levels = np.unique(below)
    left = np.searchsorted(below[: peak + 1], levels, side="left")
    right = peak + np.searchsorted(-below[peak:], -levels, side="right")
    span = np.maximum(edges[right] - edges[left] - unsure[right] - unsure[left], 0.0)
    masses.append(np.diff(levels, prepend=0.0) * span)
    widths.append(span)
