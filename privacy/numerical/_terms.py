"""Privacy losses with a moment generating function in closed form, and what a certificate needs to know of each.

L        privacy loss log dP/dQ of one release, under P; a term is the sum of `count` independent copies
K(z)     log E_P[exp(z L)] of the whole term
c, t     real and imaginary part of z
tilt     the law proportional to exp(c L) dP; its characteristic function is exp(K(c + it) - K(c))

Every number comes with a bound on its error: rounding is counted in units of 2^-53 per operation and summed in
absolute value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from privacy.numerical._decay import layers_of_density
from privacy.numerical._laplace_law import TiltedLaplace, laplace_moment, tilted_laplace

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

# One rounding, with room for the last digit of exp, log, sin and cos.
UNIT = 2.0**-52

# Exponents beyond this are not exponentiated.
_LARGE = 600.0

# A tilted Laplace loss beyond this leaves its top with a probability that is nothing in doubles.
_MOST_TILT = 1e8


@dataclass(frozen=True, slots=True)
class Tilted:
    """A term at one real point c.

    log_moment     K(c); with `error`, an absolute bound on what is wrong with it
    mean, variance K'(c) and K''(c), approximate: they steer the search and centre the phase, nothing rests on them
    nodes          t -> (log of the centred characteristic function, relative error bounds), t increasing
    log_decay      t -> log of a bound on |characteristic function| over all arguments >= t; if `periodic`, only over
                   those up to half a period
    """

    log_moment: float
    error: float
    mean: float
    variance: float
    nodes: Callable[[FloatArray], tuple[ComplexArray, FloatArray]]
    log_decay: Callable[[float], float]
    periodic: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    """Moments at many real points, shape (points,), named as in `Tilted`: only log_moment + error is certified."""

    log_moment: FloatArray
    error: FloatArray
    mean: FloatArray
    variance: FloatArray


@runtime_checkable
class Outlined(Protocol):
    """A term that knows its moments at many points for less than one by one."""

    def outline(self, c: FloatArray) -> Outline:
        """Return the moments at these tilts; infinite where they cannot be evaluated."""


class Term(Protocol):
    """The sum of `count` independent privacy losses of one kind."""

    @property
    def lattice(self) -> tuple[float, float] | None:
        """(offset, spacing) if all values of the sum lie on offset + spacing * integers."""

    def at(self, c: float) -> Tilted:
        """Return the term tilted by c; `log_moment` is infinite where it cannot be evaluated."""

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes at these arguments, increasing."""


def not_evaluable() -> Tilted:
    """Return the tilt of a term at a point where nothing can be said."""

    def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
        return np.zeros(len(t), dtype=np.complex128), np.full(len(t), math.inf)

    return Tilted(math.inf, math.inf, math.inf, math.inf, nodes, lambda _t: 0.0)


def powered(deviation: ComplexArray, error: FloatArray, count: int) -> tuple[ComplexArray, FloatArray]:
    """Return log((1 + deviation)^count) and its relative error, if `deviation` is wrong by `error` at most.

    |(x + e)^n / x^n - 1| <= (1 + |e / x|)^n - 1.
    """
    re, im = deviation.real, deviation.imag
    square = re * (2 + re) + im * im
    with np.errstate(divide="ignore"):
        log_size = np.where(square > -0.5, 0.5 * np.log1p(np.maximum(square, -0.5)), np.log(np.hypot(1 + re, im)))
    log_size = np.maximum(log_size, -690.0)
    size = np.exp(log_size)
    phase = np.arctan2(im, 1 + re)
    # Near 1 every rounding is relative to the deviation.
    rounding = np.where(square > -0.5, 4 * (np.abs(re) + im * im), 4.0) + 4 * np.abs(log_size) + 2 * np.abs(phase)
    growth = count * (np.log1p(error / size) + UNIT * rounding)
    return count * log_size + 1j * (count * phase), growth


@dataclass(frozen=True, slots=True)
class GaussianTerm:
    """Gaussian losses of total mean `mu` = sum 1 / (2 sigma^2): L ~ N(mu, 2 mu), K(z) = mu z (1 + z)."""

    mu: float
    relative_error: float = 4 * UNIT

    @property
    def lattice(self) -> tuple[float, float] | None:
        """None: a density."""
        return None

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes."""
        del c
        return 1.0 * len(t)

    def at(self, c: float) -> Tilted:
        """Return the term tilted by c."""
        mu = self.mu
        moment = mu * c * (1 + c)

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            exponent = mu * t * t
            return -exponent.astype(np.complex128), (self.relative_error + 4 * UNIT) * (exponent + mu * t)

        return Tilted(
            moment,
            (self.relative_error + 4 * UNIT) * abs(moment),
            mu * (1 + 2 * c),
            2 * mu,
            nodes,
            lambda t: -mu * t * t * (1 - 1e-9),
        )


@dataclass(frozen=True, slots=True)
class AtomsTerm:
    """`count` losses, each with finitely many values.

    losses          increasing values, shape (k,)
    probabilities   under P; they may sum to less than 1 (the rest is an infinite loss, counted elsewhere)
    error           relative error bound of the probabilities and absolute one, per unit of size, of the losses
    """

    losses: tuple[float, ...]
    probabilities: tuple[float, ...]
    count: int
    error: float = 8 * UNIT

    @property
    def lattice(self) -> tuple[float, float] | None:
        """The lattice of two values; more values are not looked at."""
        if len(self.losses) != 2:
            return None
        low, high = self.losses
        return self.count * low, high - low

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes."""
        del c
        return 1.0 * len(t)

    def at(self, c: float) -> Tilted:
        """Return the term tilted by c."""
        n = self.count
        loss, p = np.array(self.losses), np.array(self.probabilities)
        exponent = c * loss
        peak = float(exponent.max())
        weight = p * np.exp(exponent - peak)
        total = float(weight.sum())
        terms = p * np.expm1(exponent) if peak < _LARGE else p
        if peak < _LARGE and abs(float(p.sum()) - 1) < 1e-9 and float(terms.sum()) > -0.5:
            # The probabilities sum to 1, so only the deviation from 1 is computed.
            moment = math.log1p(float(terms.sum()))
            size = float(np.sum(np.abs(terms) + p * np.abs(exponent) * np.exp(np.minimum(exponent, _LARGE))))
            error = (self.error + 8 * UNIT) * size / math.exp(moment) + UNIT * abs(moment)
        else:
            moment = peak + math.log(total)
            error = (self.error + 8 * UNIT) * (2 + float(np.abs(exponent).max()) + abs(moment))
        weight /= total
        mean = float(weight @ loss)
        centred = loss - mean
        variance = float(weight @ (centred * centred))
        reach = float(weight @ (np.abs(centred) + np.abs(loss))) + float(np.abs(loss).max()) * UNIT
        drift = float(weight @ np.abs(centred)) * (2 * abs(c) * float(np.abs(loss).max()) + 4)

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            half = 0.5 * np.outer(t, centred)
            sine = np.sin(half)
            deviation = -2 * (sine * sine) @ weight + 2j * ((sine * np.cos(half)) @ weight)
            return powered(deviation, (self.error + 8 * UNIT) * t * (reach + drift), n)

        def log_decay(t: float) -> float:
            if len(loss) != 2:
                return 0.0
            # |a + b e^{i x}|^2 = 1 - 4 a b sin^2(x / 2), decreasing up to half a period.
            angle = min(0.5 * t * float(loss[1] - loss[0]), 0.5 * math.pi)
            product = 4 * float(weight[0] * weight[1]) * (1 - 1e-12)
            return 0.5 * n * math.log1p(-min(product * math.sin(angle) ** 2 * (1 - 1e-12), 1 - 1e-15))

        return Tilted(n * moment, n * error, n * mean, n * variance, nodes, log_decay, periodic=True)


@dataclass(frozen=True, slots=True)
class LaplaceTerm:
    """`count` Laplace releases that are `epsilon`-DP each: atoms at +-epsilon, a density between.

    E_P[exp(z L)] - 1 = ((1 + z) expm1(z epsilon) + z expm1(-(1 + z) epsilon)) / (1 + 2 z).
    """

    epsilon: float
    count: int

    @property
    def lattice(self) -> tuple[float, float] | None:
        """None: partly a density."""
        return None

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes."""
        del c
        return 8.0 * len(t)

    def at(self, c: float) -> Tilted:
        """Return the term tilted by c."""
        return self._below(c) if c < 0 else self._above(c)

    def _above(self, c: float) -> Tilted:
        n, e = self.count, self.epsilon
        if (1 + 2 * c) * e > _MOST_TILT:
            return not_evaluable()
        moment, roundings = laplace_moment(e, c)
        tilted = tilted_laplace(e, c)
        mean = tilted.mean

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            if (c + 0.5) * e > 2:
                return powered(*self._large(c, mean, t), n)
            near = int(np.searchsorted(t, 1 / e))
            deviation, wrong = self._small(tilted, c, t[:near])
            far, far_wrong = self._large(c, mean, t[near:])
            return powered(np.concatenate((deviation, far)), np.concatenate((wrong, far_wrong)), n)

        return Tilted(
            n * moment,
            # The losses themselves carry one rounding, of epsilon = 1 / scale.
            n * UNIT * (roundings + abs(c * mean)),
            n * mean,
            n * tilted.variance,
            nodes,
            self._decay(c, moment),
        )

    def _small(self, tilted: TiltedLaplace, c: float, t: FloatArray) -> tuple[ComplexArray, FloatArray]:
        # For t e <= 1: a mean of expm1, relatively accurate; 20 nodes integrate exp((a + it) u), |a + it| e < 3,
        # with a relative error below 3^40 / 40!, far below a rounding.
        x, weight = np.polynomial.legendre.leggauss(20)
        density = weight * np.exp((c + 0.5) * self.epsilon * x)
        density *= tilted.between / density.sum()
        loss = self.epsilon * np.concatenate(([-1.0], x, [1.0]))
        weight = np.concatenate(([tilted.down], density, [tilted.up]))
        centred = loss - tilted.mean
        half = 0.5 * np.outer(t, centred)
        sine = np.sin(half)
        deviation = -2 * (sine * sine) @ weight + 2j * ((sine * np.cos(half)) @ weight)
        # Roundings of weights and losses act on the distance from the mean; that of epsilon on all losses.
        size = float(weight @ (np.abs(centred) * (64 + 8 * (c + 0.5) * self.epsilon))) + 4 * abs(tilted.mean)
        return deviation, UNIT * t * (size + 4 * float(weight @ np.abs(loss)))

    def _large(self, c: float, mean: float, t: FloatArray) -> tuple[ComplexArray, FloatArray]:
        # E[exp(zL)] = exp(z e) (1 + z) / (1 + 2z) (1 + z / (1 + z) exp(-(1 + 2z) e)), relative to its value at c.
        e = self.epsilon
        z = np.asarray(c + 1j * t, dtype=np.complex128)
        damping = math.exp(-min((1 + 2 * c) * e, 745.0))
        last = z / (1 + z) * np.exp(-2j * e * t) * damping
        scale = (1 + c) / (1 + 2 * c) * (1 + c / (1 + c) * damping)
        value = (1 + z) / (1 + 2 * z) * (1 + last) / scale * np.exp(1j * (e - mean) * t)
        phase = np.abs(e - mean) * t + 2 * e * t * damping + UNIT * e * t
        return value - 1, UNIT * (40 + 4 * phase) + 2 * UNIT * (e + abs(mean)) * t

    def _below(self, c: float) -> Tilted:
        n, e = self.count, self.epsilon
        if abs(1 + 2 * c) < 1e-3 or e > _LARGE:
            return not_evaluable()
        up, down = (1 + c) * math.expm1(c * e), c * math.expm1(-(1 + c) * e)
        base = 1 + (up + down) / (1 + 2 * c)
        if not base > 0:
            return not_evaluable()
        moment = math.log1p((up + down) / (1 + 2 * c))
        # The losses themselves carry one rounding, of epsilon = 1 / scale.
        sizes = abs(up) + abs(down) + abs(c * (1 + c)) * e * (math.exp(max(c * e, 0)) + math.exp(max(-(1 + c) * e, 0)))
        error = 12 * UNIT * sizes / abs(1 + 2 * c) / base + UNIT * abs(moment)
        step = 1e-4 * min(1.0, 1 / e)
        low, high = (self._moment(c + s) for s in (-step, step))
        mean = (high - low) / (2 * step)
        variance = max((high - 2 * moment + low) / step**2, 1e-6 * e * e)

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            z = np.asarray(c + 1j * t, dtype=np.complex128)
            first, second = np.abs(1 + z) * np.abs(_expm1(z * e)), np.abs(z) * np.abs(_expm1(-(1 + z) * e))
            value = ((1 + z) * _expm1(z * e) + z * _expm1(-(1 + z) * e)) / (1 + 2 * z)
            # Relative to K(c), and without the phase of the mean.
            ratio = (1 + value) / base * np.exp(-1j * mean * t)
            slack = np.abs(z * (1 + z)) * e * (math.exp(max(c * e, 0)) + math.exp(max(-(1 + c) * e, 0)))
            wrong = 16 * UNIT * ((first + second + slack) / np.abs(1 + 2 * z) / base + 2 + np.abs(mean) * t)
            return powered(ratio - 1, wrong, n)

        return Tilted(n * moment, n * error, n * mean, n * variance, nodes, self._decay(c, moment))

    def _moment(self, c: float) -> float:
        e = self.epsilon
        return math.log1p(((1 + c) * math.expm1(c * e) + c * math.expm1(-(1 + c) * e)) / (1 + 2 * c))

    def _decay(self, c: float, moment: float) -> Callable[[float], float]:
        e, n = self.epsilon, self.count
        edges = np.linspace(-e, e, 65)
        # The density of the loss is exp((loss - epsilon) / 2) / 4 under P; monotone, so its least value in a cell is
        # at an end.
        log_density = (c + 0.5) * edges - 0.5 * e - math.log(4) - moment
        layers = layers_of_density(edges, np.minimum(log_density[1:], log_density[:-1]))
        # The atoms may come back in phase; between them |E exp(i t l)| <= coth(a e) a / |a + it|, which falls in t.
        a = abs(c + 0.5)
        tanh = math.tanh(a * e)
        between = tanh / (2 * a + tanh)

        def bound(t: float) -> float:
            left = min(1.0, a / tanh / math.hypot(a, t) * (1 + 1e-12))
            return n * min(layers(t), math.log1p(-between * (1 - 1e-12) * (1 - left)))

        return bound


@dataclass(frozen=True, slots=True)
class DiscreteGaussianTerm:
    """`count` releases of one integer of sensitivity 1 plus discrete Gaussian noise of this scale.

    L = (1 - 2 X) / (2 scale^2) with X ~ N_Z(0, scale^2); spacing 1 / scale^2. With theta(z) = sum_x
    exp(-(x + z)^2 / (2 scale^2)), E_P[exp(z L)] = exp(z (1 + z) / (2 scale^2)) theta(z) / theta(0); for scale >= 2
    theta is summed in the frequency domain (Poisson summation), where three summands suffice within a period,
    2 pi scale^2 for t.
    """

    scale: float
    count: int

    @property
    def lattice(self) -> tuple[float, float] | None:
        """Odd multiples of half the spacing for an odd count, even ones for an even count."""
        spacing = 1 / (self.scale * self.scale)
        return 0.5 * self.count * spacing, spacing

    def cost(self, c: float, t: FloatArray) -> float:
        """Return about how many sines the characteristic function takes."""
        del c
        return (26 * self.scale if self.scale < 2 else 4.0) * len(t)

    def at(self, c: float) -> Tilted:
        """Return the term tilted by c."""
        return self._direct(c) if self.scale < 2 else self._dual(c)

    def _direct(self, c: float) -> Tilted:
        n, s2 = self.count, self.scale * self.scale
        if abs(c) > 1e6:
            return not_evaluable()
        reach = math.ceil(13 * self.scale) + 2
        x = np.arange(math.floor(-c) - reach, math.ceil(-c) + reach + 1, dtype=np.float64)
        log_weight = -((x + c) ** 2) / (2 * s2)
        x0 = np.arange(-reach, reach + 1, dtype=np.float64)
        # Of small noise even the largest weight may be below the doubles.
        peak = float(log_weight.max())
        weight = np.exp(log_weight - peak)
        total = float(weight.sum())
        zero = float(np.exp(-(x0**2) / (2 * s2)).sum())
        quadratic = c * (1 + c) / (2 * s2)
        moment = quadratic + peak + math.log(total / zero)
        # Beyond 13 scales lies less than exp(-84), relative to the largest weight.
        error = UNIT * (8 * abs(quadratic) + 8 * abs(peak) + 300)
        loss = (1 - 2 * x) / (2 * s2)
        weight /= total
        mean = float(weight @ loss)
        centred = loss - mean
        variance = float(weight @ (centred * centred))
        rounding = 300 + 4 * np.abs(log_weight)
        rounding += float(weight @ rounding)
        size = float(weight @ (rounding * np.abs(centred) + 4 * np.abs(loss)))

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            half = 0.5 * np.outer(t, centred)
            sine = np.sin(half)
            deviation = -2 * (sine * sine) @ weight + 2j * ((sine * np.cos(half)) @ weight)
            return powered(deviation, UNIT * (t * size + 1e-15), n)

        return Tilted(n * moment, n * error, n * mean, n * variance, nodes, self._log_decay, periodic=True)

    def _dual(self, c: float) -> Tilted:
        n, s2 = self.count, self.scale * self.scale
        damp = math.exp(-2 * math.pi**2 * s2)  # < 1e-34: the real axis is that of a Gaussian
        quadratic = c * (1 + c) / (2 * s2)
        mean = (1 + 2 * c) / (2 * s2)

        def nodes(t: FloatArray) -> tuple[ComplexArray, FloatArray]:
            # sum over j of exp(-(t - j period)^2 / (2 s^2) - 2 pi i j c), the centred transform but for its norm: at
            # t = k period + x, |x| <= period / 2, that is exp(-2 pi i k c) times the same at x, conjugate for -x.
            turns = np.rint(t / (2 * math.pi * s2))
            x = t - turns * (2 * math.pi * s2)
            size = np.abs(x)
            exponent = x * x / (2 * s2)
            turn = c - math.floor(c)
            # The mirror summand j = 1 reaches the size of the first at half a period, pi scale^2.
            mirror = np.exp(
                np.minimum(2 * math.pi * (size - math.pi * s2), 0.0) - 2j * math.pi * turn * np.where(x < 0, -1.0, 1.0)
            )
            # x is wrong by a few roundings of t, the turn by one.
            slip = 4 * UNIT * (t + s2 * math.pi)
            unsure = (UNIT * (32 + 8 * math.pi * abs(c)) + 2 * math.pi * slip) * np.abs(mirror) + 4 * damp
            log_value, wrong = powered(mirror, unsure, n)
            phase = 2 * math.pi * n * np.mod(turns * turn, 1.0)
            wrong += n * (8 * UNIT * (exponent + mean * t + 2 * math.pi * turns) + size * slip / s2 + 8 * damp)
            return log_value - n * exponent - 1j * phase, wrong + 4 * UNIT * phase

        return Tilted(
            n * quadratic,
            n * (8 * UNIT * abs(quadratic) + 8 * damp),
            n * mean,
            n / s2,
            nodes,
            self._log_decay,
            periodic=True,
        )

    def _log_decay(self, t: float) -> float:
        # exp(-t^2 / 2 s^2) (1 + exp(2 pi (t - pi s^2))) falls up to half a period pi s^2: with v = 1 - t / (pi s^2) its
        # logarithm has slope <= 0 iff 2 pi^2 s^2 v >= 2 artanh v, which fails for 1 - v < 1e-30 only.
        s2 = self.scale * self.scale
        if self.scale < 2:
            return 0.0
        t = min(t, math.pi * s2)
        mirror = math.exp(2 * math.pi * (t - math.pi * s2))
        return self.count * min(0.0, -t * t / (2 * s2) * (1 - 1e-12) + math.log1p(mirror) + 1e-15)


def _expm1(z: ComplexArray) -> ComplexArray:
    # exp(x + iy) - 1 without cancellation near 0.
    half = np.sin(0.5 * z.imag)
    growth = np.expm1(z.real)
    return np.asarray(growth * np.cos(z.imag) - 2 * half * half + 1j * (growth + 1) * np.sin(z.imag))
