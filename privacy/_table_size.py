"""How often predicates would match exactly one row of a table of another size, from their matches in the one at hand.

n, m       rows of the table that is attacked, and of the control
c          matches of a predicate among the m rows
w          probability that a random person meets the predicate
The chance of matching exactly one row depends on the number of rows, so a control's rate counts only at the real
table's size. A larger control is sampled down, exactly: n of its m rows hold one match with the hypergeometric
probability c C(m-c, n-1) / C(m, n). A smaller one is carried up: c is Binomial(m, w), the law of w over predicates is
estimated by maximum likelihood on a grid (Kiefer, Wolfowitz 1956; by expectation maximisation), and a predicate of
weight w matches one of n rows with probability n w (1-w)^(n-1). The error of that is found by resampling predicates,
and told as the number of attempts that would have the same error.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from privacy._rates import Rate

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_GRID = 48
_STEPS = 300
_RESAMPLES = 60


def rate_at_size(matches: IntArray, m: int, n: int, *, rng: np.random.Generator) -> Rate:
    """Return the share of predicates that match exactly one of n rows, from their matches among m rows.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> rate_at_size(np.array([0, 1, 1, 3]), 100, 100, rng=rng).value
    0.5
    """
    made = len(matches)
    if not made or m == n:
        return Rate.of(int((matches == 1).sum()), made)
    if m > n:
        return Rate.of(min(float(singled_out_in_sample(matches, m, n).sum()), made), made)
    seen, counts = np.unique(matches, return_counts=True)
    likelihood, reached = _model(seen, m, n)
    value = float(reached @ _weights(likelihood, counts / made))
    again = rng.multinomial(made, counts / made, size=_RESAMPLES)
    spread = np.var([reached @ _weights(likelihood, some / made) for some in again], ddof=1)
    worth = made if spread == 0 else min(made, max(1, int(value * (1 - value) / spread)))
    return Rate.of(value * worth, worth)


def singled_out_in_sample(matches: IntArray, n_rows: int, k: int) -> FloatArray:
    """Return the probability that a random sample of k of the rows holds exactly one match."""
    log_factorial = np.array([math.lgamma(i + 1) for i in range(n_rows + 1)])
    possible = (matches >= 1) & (n_rows - matches >= k - 1)
    c = np.where(possible, matches, 1)
    # c C(n - c, k - 1) / C(n, k)
    log_p: FloatArray = (
        np.log(c)
        + log_factorial[n_rows - c]
        - log_factorial[k - 1]
        - log_factorial[np.maximum(n_rows - c - k + 1, 0)]
        - (log_factorial[n_rows] - log_factorial[k] - log_factorial[n_rows - k])
    )
    probabilities: FloatArray = np.where(possible, np.exp(np.minimum(log_p, 0.0)), 0.0)
    return probabilities


def _model(seen: IntArray, m: int, n: int) -> tuple[FloatArray, FloatArray]:
    """Return P(c | w) for each number of matches and grid weight, and P(exactly one of n | w).

    The grid goes from a hundredth of a match expected among n rows to all rows, and has w = 0.
    """
    w = np.concatenate(([0.0], np.geomspace(0.01 / n, 1 - 1e-9, _GRID)))
    log_w, log_rest = np.log(np.maximum(w, 1e-300)), np.log1p(-w)
    choose = np.array([math.lgamma(m + 1) - math.lgamma(c + 1) - math.lgamma(m - c + 1) for c in seen.tolist()])
    likelihood = np.exp(choose[:, None] + seen[:, None] * log_w + (m - seen)[:, None] * log_rest)
    return likelihood, np.exp(math.log(n) + log_w + (n - 1) * log_rest)


def _weights(likelihood: FloatArray, shares: FloatArray) -> FloatArray:
    """Return the law of w on the grid after so many steps of expectation maximisation, from the uniform one."""
    weights: FloatArray = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(_STEPS):
        weights = weights * (likelihood.T @ (shares / np.maximum(likelihood @ weights, 1e-300)))
    return weights
