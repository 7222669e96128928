"""The law of a sum of discrete Gaussian losses at one tilt: its lattice points that matter, and their probabilities.

n, s      number of releases, scale of the noise;  c  tilt
Y         sum of n integers with weights exp(-(y - c)^2 / (2 s^2)) each; the loss is (n + 2 Y) / (2 s^2)

Tilting moves the centre of a discrete Gaussian. As sum of (y_i - c)^2 = sum of (y_i - m / n)^2 + n (m / n - c)^2 if the
y_i add up to m,

    P(Y = m) is proportional to exp(-(m - n c)^2 / (2 n s^2)) A(m),
    A(m) = sum over integers y_1 + ... + y_n = m of exp(-sum of (y_i - m / n)^2 / (2 s^2)).

A is a theta function of a lattice of n - 1 dimensions; by Poisson's formula it differs from a constant by a share of

    sum over k != 0 of exp(-2 pi^2 s^2 |k - mean of k|^2) <= (1 + 2 / (exp(pi^2 s^2) - 1))^n - 1

at most, k running through the vectors of n integers of median 0: pairing each entry with one of the other sign shows
|k - mean|^2 >= (sum of |k_i|) / 2. From s = 2 on that is nothing, for every m, and Y is a discrete Gaussian of scale
sqrt(n) s. Below 2 the law is convolved.
"""

from __future__ import annotations

import math

import numpy as np

from privacy.numerical._binomial import Window
from privacy.numerical._terms import UNIT, DiscreteGaussianTerm, FloatArray

# From this scale on sums are discrete Gaussians.
_LEAST_SMOOTH = 2.0

# Points of a law that is convolved: the last convolution takes the square of that.
_MOST_CONVOLVED = 4_000

# Up to here the distance of an integer from a centre is known to a fraction of 1.
_MOST_CENTRE = 2.0**50


def reach(term: DiscreteGaussianTerm, log_lost: float) -> float:
    """Return about how far from n c the outcomes matter: beyond lies less than exp(log_lost), each side."""
    return math.sqrt(-2 * log_lost * term.count) * term.scale


def points(term: DiscreteGaussianTerm, c: float, log_lost: float) -> float:
    """Return about how many outcomes matter; infinity if they cannot be listed."""
    found = 2 * reach(term, log_lost) + 2
    most = math.inf if term.scale >= _LEAST_SMOOTH else _MOST_CONVOLVED
    return found if found <= most and term.count * abs(c) + found < _MOST_CENTRE else math.inf


def sum_window(term: DiscreteGaussianTerm, c: float, log_lost: float) -> Window:
    """Return the tilted probabilities of Y; each side leaves out about exp(log_lost).

    The weights are those of a measure below the law, relatively wrong by `error` at most: a convolution of what was
    kept lacks a little everywhere. `log_lost` counts all that it lacks.
    """
    return (_smooth if term.scale >= _LEAST_SMOOTH else _convolved)(term, c, log_lost)


def _smooth(term: DiscreteGaussianTerm, c: float, log_lost: float) -> Window:
    n, s2 = term.count, term.scale * term.scale
    variance, centre, far = n * s2, n * c, reach(term, log_lost)
    first, last = math.floor(centre - far), math.ceil(centre + far)
    gap = np.arange(first, last + 1, dtype=np.float64) - centre
    weight = np.exp(-(gap * gap) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    # A / constant is known to a share twice: for the point and for the sum of all.
    uneven = math.expm1(2.01 * n * math.exp(-(math.pi**2) * s2)) if n > 1 else 0.0
    normaliser = 2.1 * math.exp(-2 * math.pi**2 * s2)
    # One rounding of the centre acts on the distance from it.
    moved = 2 * (far + 1) / variance * (abs(centre) + far)
    error = UNIT * (8 * (far + 1) ** 2 / (2 * variance) + moved + 32) + 2.5 * uneven + normaliser
    # Each side: the first point left out and the integral from there are below exp(-far^2 / (2 n s^2)), as n s^2 >= 4.
    return Window(first, weight, error, log_lost + math.log(2) + error)


def _convolved(term: DiscreteGaussianTerm, c: float, log_lost: float) -> Window:
    n, s2 = term.count, term.scale * term.scale
    share = math.exp(log_lost) / n
    # With the nearest integer at distance f, a point j further out has (y - c)^2 >= f^2 + j^2.
    around = math.ceil(math.sqrt(2 * s2 * -math.log(share))) + 1
    first = math.floor(c) - around
    gap = np.arange(first, math.ceil(c) + around + 1, dtype=np.float64) - c
    exponent = gap * gap / (2 * s2)
    least = float(exponent.min())
    weight = np.exp(least - exponent)
    weight /= weight.sum()
    # The differences are rounded once; the weights that stay are above share / len.
    error = UNIT * (4 * (2 * least - math.log(share) + math.log(len(weight))) + len(weight) + 32)
    one = _trimmed(first, weight, error + share, 2 * share, share)
    # By the binary digits of n, the first of which is `one` itself.
    total, taken = one, 1
    for digit in f"{n:b}"[1:]:
        taken *= 2
        total = _product(total, total, share * taken)
        if digit == "1":
            taken += 1
            total = _product(total, one, share * taken)
    return total


def _product(a: Window, b: Window, allowed: float) -> Window:
    weight = np.convolve(a.weight, b.weight)
    # Positive summands: every product and every addition is one relative rounding.
    error = a.error + b.error + UNIT * (min(len(a.weight), len(b.weight)) + 4)
    return _trimmed(a.first + b.first, weight, error, math.exp(a.log_lost) + math.exp(b.log_lost), allowed)


def _trimmed(first: int, weight: FloatArray, error: float, lost: float, allowed: float) -> Window:
    """Return the window without the ends that have `allowed` at most, each side."""
    begin = int(np.searchsorted(np.cumsum(weight), allowed, side="right"))
    end = len(weight) - int(np.searchsorted(np.cumsum(weight[::-1]), allowed, side="right"))
    return Window(first + begin, weight[begin:end], error, math.log(lost + 2.001 * allowed))
