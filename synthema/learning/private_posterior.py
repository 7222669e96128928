"""Coefficients and their uncertainty from a score and an information that were opened with known noise.

S, A     opened score and information at beta_0; A made positive semidefinite
s, h     standard deviations of the noise: of S in every entry; of A on its diagonal, h / sqrt(2) beside it
phi      dispersion: the score's sampling covariance is phi A
prior    independent normals, mean 0, given as precisions; 0 for none

At the true coefficients beta_0 + b,

    S - A b  has mean about 0 and covariance  W = phi A + s^2 I + h^2 (|b|^2 I + b b') / 2

which is sampling, noise of the score, and noise of the information along the step. So b has precision A W^-1 A plus
the prior's. Where noise drowns the information, the prior is what is left: intervals get wide, and nothing is singular.
Without noise, W = phi A and the precision is A / phi: the usual one.

The information changes along the step, most of all with the intercept. `Curve` says by how much for the average
patient: the mean of S is reckoned with the secant, W and the covariance with the tangent at the end. With an intercept
alone, one step is then the exact solution.

Source for the idea of making inference aware of the noise: Bernstein, Sheldon 2019, arXiv:1910.09227.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthema.learning.design import Floats

_FIXED_POINT_STEPS = 40
_SETTLED = 1e-9
# An intercept's step beyond this is not followed along its curve.
_FAR = 3.0

# Takes a step of the intercept to (secant, tangent at its end) of the mean, each over the tangent at its beginning.
Curve = Callable[[float], tuple[float, float]]


def straight(step: float) -> tuple[float, float]:
    """Return what a linear model's curve is: no change."""
    del step
    return 1.0, 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A score, shape (p,), and an information, shape (p, p), with their noise; the score's by entry, shape (p,)."""

    score: Floats
    information: Floats
    score_noise: Floats
    information_noise: float

    @property
    def psd(self) -> Floats:
        """The nearest positive semidefinite information, in Frobenius norm."""
        values, vectors = np.linalg.eigh(self.information)
        out: Floats = (vectors * np.maximum(values, 0.0)) @ vectors.T
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """The step from beta_0 to the estimate, and its covariance."""

    step: Floats
    covariance: Floats


def posterior(
    opened: Opened, beta: Floats, prior_precision: Floats, dispersion: float, curve: Curve = straight
) -> Posterior:
    """Return the posterior mean of the step, and its covariance.

    Parameters
    ----------
    beta
        beta_0, shape (p,).
    prior_precision
        Of the coefficients themselves, shape (p,).

    Examples
    --------
    >>> exact = Opened(np.array([2.0]), np.array([[4.0]]), score_noise=np.zeros(1), information_noise=0.0)
    >>> found = posterior(exact, np.zeros(1), np.zeros(1), 1.0)
    >>> found.step.round(6).tolist(), found.covariance.round(6).tolist()
    ([0.5], [[0.25]])
    """
    information, p = opened.psd, len(opened.score)
    prior = np.diag(prior_precision)
    # An intercept without prior, and without information, must not be singular either.
    tiny = np.eye(p) * 1e-9 * max(float(np.trace(information)) / p, 1e-9)
    step: Floats = np.zeros(p)
    covariance: Floats = np.eye(p)
    for _ in range(_FIXED_POINT_STEPS):
        secant, tangent = curve(min(max(float(step[0]), -_FAR), _FAR))
        along = 0.5 * (secant * opened.information_noise) ** 2 * (step @ step * np.eye(p) + np.outer(step, step))
        spread = dispersion * tangent * information + np.diag(opened.score_noise**2) + along + tiny
        gain = np.linalg.solve(spread, information).T
        curvature = gain @ information
        wanted = secant * (gain @ opened.score) - prior_precision * beta
        new = np.linalg.solve(secant**2 * curvature + prior + tiny, wanted)
        covariance = np.asarray(np.linalg.inv(tangent**2 * curvature + prior + tiny), dtype=np.float64)
        # Half way: secants from one side only would make the steps go to and fro.
        before, step = step, np.asarray(new if curve is straight else (step + new) / 2, dtype=np.float64)
        if np.abs(step - before).max() < _SETTLED:
            break
    return Posterior(step=step, covariance=covariance)
