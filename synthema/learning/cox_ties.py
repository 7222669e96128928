"""Tied deaths on shares: the number of deaths at each time stays secret, and so does how many terms a time has.

Efron's likelihood has, for d deaths at a time, d terms: functions of the rank's fraction l / d, l = 0..d - 1, that are
analytic up to 1 / u, u the deaths' part of the weights at risk,

    g(l / d),   g(phi) = (S1 - phi D1) / (S0 - phi D0)  and the like,   u = D0 / S0.

Padding to the largest d would take hundreds of divisions a time on a coarse grid. Instead the sum over ranks is taken
at M = 16 nodes phi_j with weights omega_j that a public table gives for each d:

    d <= M    the ranks themselves, weight 1; the rest have weight 0
    d > M     Gauss's rule of M nodes for the uniform measure on 0..d - 1 (Gram polynomials; nodes and weights from the
              recurrence by Golub and Welsch 1969). It is exact up to degree 31, and for u <= 0.85 wrong by less than
              1e-9 of the sum

Where more than M die at once and hold more than 0.85 of the weight at risk, the sums are not opened.
Breslow's likelihood is one node, phi = 0, of weight d.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

NODES = 16
# Most of the weight at risk that deaths at one time may hold where there are more of them than nodes.
HEAVIEST = 0.85

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Nodes and weights for each number of deaths from 0 to the most that are allowed; shape (most + 1, nodes) each."""

    nodes: Floats
    weights: Floats


@lru_cache(maxsize=8)
def efron_rule(max_ties: int) -> Rule:
    """Return the rule for up to `max_ties` deaths at one time.

    Examples
    --------
    >>> rule = efron_rule(300)
    >>> bool(abs((rule.weights[300] / (1 - 0.85 * rule.nodes[300])).sum()
    ...          / (1 / (1 - 0.85 * np.arange(300) / 300)).sum() - 1) < 1e-9)
    True
    """
    n = min(NODES, max_ties)
    nodes, weights = np.zeros((2, max_ties + 1, n))
    for d in range(1, n + 1):
        nodes[d, :d], weights[d, :d] = np.arange(d) / d, 1.0
    many = np.arange(n + 1, max_ties + 1, dtype=np.float64)
    if len(many):
        k = np.arange(1, n, dtype=np.float64)
        beside = np.sqrt(k * k * (many[:, None] ** 2 - k * k) / (4 * (4 * k * k - 1)))
        jacobi = np.zeros((len(many), n, n))
        at = np.arange(n - 1)
        jacobi[:, at, at + 1] = jacobi[:, at + 1, at] = beside
        values, vectors = np.linalg.eigh(jacobi)
        nodes[n + 1 :] = ((many[:, None] - 1) / 2 + values) / many[:, None]
        weights[n + 1 :] = many[:, None] * vectors[:, 0, :] ** 2
    return Rule(nodes, weights)
