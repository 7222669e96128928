"""A site's part of a private regression's rounds: each patient's vector, clipped to length 1 and made integers.

FRAC_BITS   a vector of length at most 1 is rounded to multiples of 2^-FRAC_BITS: every entry moves by at most half of
            one, so in these units its length is at most 2^FRAC_BITS + sqrt(d) / 2 (`length_bound`)

The bound is checked on the integers themselves. A patient whose vector is longer, which only a fault could bring about,
is not added at all: the price holds whatever the arithmetic did.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from synthema.learning.design import Floats
from synthema.learning.private_questions import Shape, Sizes, Step
from synthema.learning.responses import Patients

FRAC_BITS = 20
# Numbers that are worked on at once.
_AT_ONCE = 1 << 21
# A variance that vanishes, where noise drove coefficients far out, clips nothing.
_TINY = 1e-200

Ints = npt.NDArray[np.int64]


def length_bound(dimension: int) -> tuple[int, int]:
    """Return (L1, L2 squared) of any patient's integers, in a vector of `dimension`.

    Examples
    --------
    >>> length_bound(4)
    (2097155, 1099513724930)
    """
    squared = math.ceil((2**FRAC_BITS + math.sqrt(dimension) / 2) ** 2 * (1 + 1e-15))
    return math.isqrt(dimension * squared) + 1, squared


def part_of_round(shape: Shape, question: Sizes | Step, patients: Patients) -> Ints:
    """Return the sum of a site's patients' integers, shape (dimension of the round,)."""
    n = len(patients.y)
    dimension = shape.dimension(0 if isinstance(question, Sizes) else 1)
    total = np.zeros(dimension, dtype=np.int64)
    size = max(_AT_ONCE // dimension, 1)
    for start in range(0, n, size):
        some = slice(start, start + size)
        offset = None if patients.offset is None else patients.offset[some]
        total += quantised(vectors(shape, question, Patients(patients.x[some], patients.y[some], offset)))
    return total


def quantised(rows: Floats) -> Ints:
    """Return the sum of the rows as integers; rows that are longer than `length_bound` count for nothing."""
    dimension = rows.shape[1]
    clean = np.nan_to_num(rows, nan=4.0, posinf=4.0, neginf=-4.0)
    whole = np.rint(np.clip(clean, -4.0, 4.0) * 2**FRAC_BITS).astype(np.int64)
    # At most d 2^44: no overflow below a million numbers.
    kept = (whole * whole).sum(axis=1) <= length_bound(dimension)[1]
    total: Ints = whole[kept].sum(axis=0)
    return total


def vectors(shape: Shape, question: Sizes | Step, patients: Patients) -> Floats:
    """Return each patient's vector of the round, shape (n, dimension), of length at most 1."""
    if isinstance(question, Sizes):
        return _sizes(shape, patients)
    return _step(shape, question, patients)


def _sizes(shape: Shape, patients: Patients) -> Floats:
    x, y = patients.x, patients.y
    match shape.kind:
        case "logistic":
            outcome = [2 * y - 1]
        case "linear":
            outcome = [y, y * y]
        case "poisson":
            exposure = np.ones_like(y) if patients.offset is None else np.exp(patients.offset)
            outcome = [np.log1p(y) / math.log1p(shape.response.high), exposure]
    numbers = list(shape.numbers)
    out: Floats = np.column_stack([np.ones(len(y)), x[:, 1:], x[:, numbers] ** 2, *outcome])
    # Entries of valid rows are at most 1 in size; what is not is not added (`quantised`).
    out /= shape.sizes_norm * (1 + 1e-12)
    return out


def _step(shape: Shape, step: Step, patients: Patients) -> Floats:
    p = shape.p
    z = (patients.x - step.mean) / step.sd
    z[:, 0] = 1.0
    own = z @ step.beta
    eta = own if patients.offset is None else own + patients.offset
    _, variance = step.residuals.moments(eta)
    # Mallows weights: of covariates alone.
    alike = own + step.offset if step.residuals.of_times else eta
    bound, weighing = step.residuals.weighing_bound(alike), step.residuals.moments(alike)[1]
    residual = np.clip(step.residuals.of(patients.y, eta), -bound, bound)
    length = np.sqrt((z * z).sum(axis=1)) * (1 + 1e-12)
    weight = np.minimum(1, step.score_clip / (bound * length))
    weight = np.minimum(weight, step.information_clip / np.maximum(weighing * length * length, _TINY))
    # The score alone decides where the fit ends; its slope may lose a little of those with long times.
    of_slope = np.minimum(weight, step.information_clip / np.maximum(variance * length * length, _TINY))
    of_score, of_information, of_spread = np.sqrt(step.shares) * (1 - 1e-12)
    upper = np.triu_indices(p)
    out = np.empty((len(z), shape.dimension(1)))
    out[:, :p] = z * (weight * residual * (of_score / step.score_clip))[:, None]
    if shape.kind == "linear":
        far = replace(step.residuals, reach=step.residuals.reach * step.intercept_reach).of(patients.y, eta)
        out[:, 0] = weight * far * (of_score / step.score_clip / step.intercept_reach)
    factor = np.where(upper[0] == upper[1], 1.0, math.sqrt(2)) * (of_information / step.information_clip)
    end = p + len(factor)
    out[:, p:end] = z[:, upper[0]] * z[:, upper[1]]
    out[:, p:end] *= factor
    out[:, p:end] *= (of_slope * variance)[:, None]
    if shape.kind == "linear":
        out[:, -1] = weight * residual * residual * (of_spread / step.unit**2)
    return out
