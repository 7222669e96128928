"""The families of generalised linear models with their canonical links, and what one patient adds to each sum.

eta   linear predictor of a patient, the offset included
r     residual: the score is X'r
w     weight: the information is X' diag(w) X
v     the patient's part of a value that Newton's method improves: log-likelihood, or square of the residual

    logistic   mean 1 / (1 + exp(-eta)), outcome 0 or 1
    linear     mean eta, dispersion estimated; v is the squared residual
    poisson    mean exp(eta), outcome a count

McCullagh and Nelder 1989, Generalized Linear Models, chapter 2.
"""

from __future__ import annotations

import math
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from synthema.learning.responses import Response

Floats = npt.NDArray[np.float64]


class Family(Protocol):
    """A distribution of the exponential family, with its canonical link."""

    # Whether one Newton step is the fit: then v is to become small. Else it is to become large.
    one_step: ClassVar[bool]
    # Which patients must be many: those without (False) and with (True) an event; all, if it has no events.
    tested: ClassVar[tuple[bool, ...]]

    def parts(self, eta: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
        """Return r, w and v of each patient, shape (n,) each."""
        ...

    def largest(self, low: float, high: float, response: Response) -> float:
        """Return a bound on |r|, w and |v| of any patient with eta in [low, high] and an outcome in its range."""
        ...


class Logistic:
    """Outcome 0 or 1, logit link."""

    one_step: ClassVar[bool] = False
    tested: ClassVar[tuple[bool, ...]] = (False, True)

    def parts(self, eta: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
        """See `Family.parts`.

        Examples
        --------
        >>> r, w, v = Logistic().parts(np.zeros(1), np.ones(1))
        >>> float(r[0]), float(w[0]), round(float(v[0]), 6)
        (0.5, 0.25, -0.693147)
        """
        p = 0.5 * (1 + np.tanh(0.5 * eta))
        return y - p, p * (1 - p), y * eta - np.logaddexp(0, eta)

    def largest(self, low: float, high: float, response: Response) -> float:
        """See `Family.largest`."""
        del response
        return max(1.0, math.log(2) + max(-low, high))


class Linear:
    """A number on the scale [-1, 1], identity link."""

    one_step: ClassVar[bool] = True
    tested: ClassVar[tuple[bool, ...]] = ()

    def parts(self, eta: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
        """See `Family.parts`."""
        r = y - eta
        return r, np.ones_like(r), r * r

    def largest(self, low: float, high: float, response: Response) -> float:
        """See `Family.largest`."""
        del response
        return (1 + max(-low, high)) ** 2


class Poisson:
    """A count, log link."""

    one_step: ClassVar[bool] = False
    tested: ClassVar[tuple[bool, ...]] = (True,)

    def parts(self, eta: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
        """See `Family.parts`.

        Examples
        --------
        >>> r, w, v = Poisson().parts(np.zeros(1), np.array([2.0]))
        >>> float(r[0]), float(w[0]), round(float(v[0]), 6)
        (1.0, 1.0, -1.693147)
        """
        mean = np.exp(eta)
        counts, which = np.unique(y, return_inverse=True)
        log_factorials = np.array([math.lgamma(count + 1) for count in counts.tolist()])
        return y - mean, mean, y * eta - mean - log_factorials[which]

    def largest(self, low: float, high: float, response: Response) -> float:
        """See `Family.largest`."""
        mean = math.exp(min(high, 700.0))
        most = response.high
        return max(1.0, most, mean, most * max(-low, high, 0.0) + mean + math.lgamma(most + 1))


FAMILIES: dict[str, Family] = {"logistic": Logistic(), "linear": Linear(), "poisson": Poisson()}
