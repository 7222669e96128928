"""One answer with an interval from the answers of several synthetic tables.

m      number of tables, each drawn from another plausible model (`copies`)
q_i    the answer of table i;  q  their mean;  b  their variance, with divisor m - 1
T      (1 + 1 / m) b: the variance of q around the truth
level  coverage of the interval q +- t sqrt(T), with t the quantile of Student's distribution, m - 1 degrees of freedom

Let U be the variance of what models answer, over patients that could have been drawn and noise that could have been
added, and S the variance that drawing rows adds to the answer of one table. Then b estimates U + S, the error of q has
variance U (1 + 1 / m) + S / m, up to the bias of the fit, and T exceeds it by S on average: intervals are valid for any
number of rows, and as narrow as they can be once S is small against U, with several times as many rows as patients.
Rows are drawn stratified, so for the counts of single columns S is nearly zero from the start.

Other rules do not fit here. With Rubin's rule for missing data, T = mean(v_i) + (1 + 1 / m) b, the variance v_i that
table i states for itself is counted although b holds it already. Raghunathan's for synthetic data,
T = (1 + 1 / m) b - mean(v_i), takes S to be v_i, which is true of independent rows only: stratified ones vary less, and
the intervals would be too narrow. And v_i alone, as if the table were real, ignores the noise.

Sources: Raghunathan, Reiter, Rubin 2003, J. Off. Stat. 19:1 (the argument); Räisä, Jälkö, Kaski, Honkela 2023,
arXiv:2205.14485 (that it extends to noise added for privacy).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from generators.errors import DomainMismatch
from generators.factor import FloatArray
from privacy._checks import check_probability
from privacy.auditing.intervals import incomplete_beta


class Combined(NamedTuple):
    """What several synthetic tables say together; arrays of the shape of one table's answer.

    estimate             mean of the answers
    std_error            its standard error around the truth: sampling of patients and noise for privacy together
    degrees_of_freedom   of Student's distribution, from which the interval is made
    low, high            the interval
    """

    estimate: FloatArray
    std_error: FloatArray
    degrees_of_freedom: int
    low: FloatArray
    high: FloatArray


def combine(estimates: npt.ArrayLike, *, level: float = 0.95) -> Combined:
    """Return point, standard error and interval from the answers of the copies of `GraphicalModel.sample`.

    Parameters
    ----------
    estimates
        Shape (m,) or (m, ...): one answer, or array of answers, for each table; m >= 2, twenty or more are better.
        Answers should be on a scale on which they are about normal: a log hazard ratio, not a hazard ratio.
    level
        Coverage wanted, strictly between 0 and 1.

    Examples
    --------
    >>> result = combine([0.52, 0.48, 0.55, 0.45, 0.50])
    >>> [round(float(x), 3) for x in (result.estimate, result.std_error, result.low, result.high)]
    [0.5, 0.042, 0.384, 0.616]
    """
    check_probability("level", level)
    answers = np.asarray(estimates, dtype=np.float64)
    if answers.ndim < 1 or len(answers) < 2 or not np.isfinite(answers).all():
        raise DomainMismatch("estimates must be finite, one for each of at least two tables")
    m = len(answers)
    estimate = answers.mean(axis=0)
    std_error = np.sqrt((1 + 1 / m) * answers.var(axis=0, ddof=1))
    half = student_quantile(0.5 + level / 2, m - 1) * std_error
    return Combined(estimate, std_error, m - 1, estimate - half, estimate + half)


def student_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Return the quantile of Student's distribution, for a probability above one half.

    Examples
    --------
    >>> round(student_quantile(0.975, 19), 6)
    2.093024
    """
    if not 0.5 < probability < 1:
        raise ValueError(f"probability must lie strictly between 0.5 and 1, got {probability!r}")
    # P(|T| > t) = I_x(df / 2, 1 / 2) with x = df / (df + t^2): solved for x, in which it increases.
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in {low, high}:
            break
        above = incomplete_beta(degrees_of_freedom / 2, 0.5, middle) > 2 * (1 - probability)
        low, high = (low, middle) if above else (middle, high)
    return math.sqrt(degrees_of_freedom * (1 - low) / low)
