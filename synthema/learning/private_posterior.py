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

Source for the idea of making inference aware of the noise: Bernstein, Sheldon 2019, arXiv:1910.09227.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthema.learning.design import Floats

_FIXED_POINT_STEPS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A score, shape (p,), and an information, shape (p, p), with their noise."""

    score: Floats
    information: Floats
    score_noise: float
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


def posterior(opened: Opened, beta: Floats, prior_precision: Floats, dispersion: float) -> Posterior:
    """Return the posterior mean of the step, and its covariance.

    Parameters
    ----------
    beta
        beta_0, shape (p,).
    prior_precision
        Of the coefficients themselves, shape (p,).

    Examples
    --------
    >>> exact = Opened(np.array([2.0]), np.array([[4.0]]), score_noise=0.0, information_noise=0.0)
    >>> found = posterior(exact, np.zeros(1), np.zeros(1), 1.0)
    >>> found.step.tolist(), found.covariance.tolist()
    ([0.5], [[0.25]])
    """
    information, p = opened.psd, len(opened.score)
    prior = np.diag(prior_precision)
    # An intercept without prior, and without information, must not be singular either.
    tiny = 1e-9 * max(float(np.trace(information)) / p, 1e-9)
    step, precision = np.zeros(p), prior
    for _ in range(_FIXED_POINT_STEPS):
        along = 0.5 * opened.information_noise**2 * (step @ step * np.eye(p) + np.outer(step, step))
        spread = dispersion * information + opened.score_noise**2 * np.eye(p) + along + tiny * np.eye(p)
        gain = np.linalg.solve(spread, information).T
        precision = gain @ information + prior + tiny * np.eye(p)
        step = np.linalg.solve(precision, gain @ opened.score - prior_precision * beta)
    return Posterior(step=step, covariance=np.linalg.inv(precision))
