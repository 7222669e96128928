"""What a site adds to the sums of a Newton step, and by how much one patient may make them up.

With p coefficients there are P = p + p (p + 1) / 2 + 1 sums: the score, the upper triangle of the information, and the
value that tells whether a step was an improvement; or the score alone. Beside each stand S, the sum of the absolute
values of what patients add, and a, a bound on the largest of them (`dominance`).

Rows are taken in blocks that stay in the processor's cache, and all sums are matrix products. The largest of all
|x_j x_k| w would take a pass for each of p (p + 1) / 2 pairs; but it is at most the geometric mean of the largest
x_j^2 w and the largest x_k^2 w. Where that bound alone shows that nobody dominates the sum at this site, it is what the
site states: the decision is the same. The other pairs are looked at one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smpc import FixedPoint
from synthema.errors import ModelFailed
from synthema.learning import dominance
from synthema.learning.design import Floats
from synthema.learning.families import Family
from synthema.learning.responses import Patients

FRAC_BITS = 28
_DOMINANCE_BITS = 24
# Fewer bits than this say nothing of what a patient adds.
_LEAST_BITS = 8
_BLOCK = 4096

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Fixed point of a round's sums, chosen from public bounds alone, so that nothing can wrap.

    frac_bits        of the sums
    dominance_bits   of S and a
    most             greatest absolute value that one site's sum may have
    """

    frac_bits: int
    dominance_bits: int
    most: float
    n_sites: int

    @classmethod
    def of(cls, largest: float, *, n_sites: int, most_rows: int, frac_bits: int = FRAC_BITS) -> Encoding:
        """Return the encoding of sums over at most `most_rows` patients, each of whom adds at most `largest`.

        `frac_bits`: as many, or fewer where there is no room.

        Raises ModelFailed if the schema's bounds allow numbers for which there is no room.

        Examples
        --------
        >>> Encoding.of(1.0, n_sites=3, most_rows=1 << 24).frac_bits, Encoding.of(1e6, n_sites=3, most_rows=1 << 24)
        (28, Encoding(frac_bits=17, dominance_bits=14, most=17592186044416.0, n_sites=3))
        """
        if not largest <= 2.0**40:
            raise ModelFailed(TOO_WIDE)
        # A patient's largest and the number of rows, as powers of two.
        size, rows = max(math.ceil(math.log2(largest)), 0), math.ceil(math.log2(most_rows))
        frac_bits = min(frac_bits, 61 - rows - size)
        # The test on shares takes ten times a number from nine times a sum.
        dominance_bits = min(_DOMINANCE_BITS, 58 - rows - size)
        if dominance_bits < _LEAST_BITS:
            raise ModelFailed(TOO_WIDE)
        return cls(frac_bits, dominance_bits, math.ldexp(1.0, size + rows), n_sites)

    @property
    def error(self) -> float:
        """Greatest error of an opened sum: each site rounds its own."""
        return self.n_sites * math.ldexp(1.0, -self.frac_bits - 1)

    def encode(self, sums: SiteSums) -> Ints:
        """Return what a site shares, flattened from shape (3, P): sums, S rounded down, a rounded up."""
        encoded = FixedPoint(self.frac_bits).encode(sums.values, max_abs=self.most)
        return np.concatenate(
            [
                encoded,
                np.floor(np.ldexp(sums.totals, self.dominance_bits)).astype(np.int64),
                np.ceil(np.ldexp(sums.largest, self.dominance_bits)).astype(np.int64),
            ]
        )

    def encode_tested(self, totals: Floats, largest: Floats) -> Ints:
        """Return S rounded down and a rounded up of what is tested and not opened, shape (2 E,)."""
        return np.concatenate(
            [
                np.floor(np.ldexp(totals, self.dominance_bits)).astype(np.int64),
                np.ceil(np.ldexp(largest, self.dominance_bits)).astype(np.int64),
            ]
        )

    def decode(self, opened: Ints) -> Floats:
        """Return opened sums as numbers."""
        return FixedPoint(self.frac_bits).decode(opened)


TOO_WIDE = (
    "a patient at the ends of the schema's bounds would have a predicted value beyond what sums can hold: narrow the "
    "bounds of the covariates or of the outcome, or leave a covariate out"
)


@dataclass(frozen=True, slots=True, eq=False)
class SiteSums:
    """One site's sums, shape (P,) each; shape (p,) if only the score was asked for.

    values    score, upper triangle of the information, value
    totals    S of each: the sum of what patients add, in absolute value
    largest   a of each: not below the largest that a patient adds, in absolute value
    """

    values: Floats
    totals: Floats
    largest: Floats

    def without_value(self) -> SiteSums:
        """Return score and information alone."""
        return SiteSums(self.values[:-1], self.totals[:-1], self.largest[:-1])


def site_sums(family: Family, patients: Patients, beta: Floats, *, score_alone: bool = False) -> SiteSums:
    """Return a site's sums at coefficients `beta` of the scaled covariates."""
    p = len(beta)
    score, size_of_score, largest_score = np.zeros((3, p))
    information, size_of_information = np.zeros((2, p, p))
    largest_square = np.zeros(p)
    value, size_of_value, largest_value = 0.0, 0.0, 0.0
    for x, r, w, v in _blocks(family, patients, beta):
        size, residual = np.abs(x), np.abs(r)
        score += x @ r
        size_of_score += size @ residual
        largest_score = np.maximum(largest_score, (size * residual).max(axis=1, initial=0.0))
        if score_alone:
            continue
        weighted = x * w
        information += weighted @ x.T
        np.abs(weighted, out=weighted)
        size_of_information += weighted @ size.T
        largest_square = np.maximum(largest_square, np.multiply(weighted, size, out=size).max(axis=1, initial=0.0))
        size_of_v = np.abs(v)
        value, size_of_value = value + float(v.sum()), size_of_value + float(size_of_v.sum())
        largest_value = max(largest_value, float(size_of_v.max(initial=0.0)))
    if score_alone:
        return SiteSums(score, size_of_score, largest_score)
    upper = np.triu_indices(p)
    totals = size_of_information[upper]
    largest = _largest_products(family, patients, beta, totals=totals, largest_square=largest_square)
    return SiteSums(
        values=np.concatenate([score, information[upper], [value]]),
        totals=np.concatenate([size_of_score, totals, [size_of_value]]),
        largest=np.concatenate([largest_score, largest, [largest_value]]),
    )


def distances(
    family: Family, patients: Patients, beta: Floats, numbers: Sequence[int], *, score_alone: bool = False
) -> tuple[Floats, Floats]:
    """Return S and a of the sums of distances from the bounds, shape (E,) each.

    Sums of x_j and sums of 1 are both opened, so that sums of 1 + x_j and of 1 - x_j are known as well, times anything
    else; where all patients but one lie at a bound, these are that patient's. So each sum is tested three times: as
    opened, and with every number's distance from its lower, and from its upper bound, in its place (halved, as bounds
    are 2 apart). A linear model's outcome is a number too.

    Parameters
    ----------
    numbers
        Indices of the terms that are numbers.
    """
    j, k = np.triu_indices(len(beta))
    totals, largest = [], []
    for sign in (1.0, -1.0):
        size_of_score, largest_score, largest_square = np.zeros((3, len(beta)))
        size_of_information = np.zeros((len(beta), len(beta)))
        for size, residual, w in _distance_blocks(family, patients, beta, numbers, sign):
            size_of_score += size @ residual
            largest_score = np.maximum(largest_score, (size * residual).max(axis=1, initial=0.0))
            if not score_alone:
                weighted = size * w
                size_of_information += weighted @ size.T
                largest_square = np.maximum(largest_square, (weighted * size).max(axis=1, initial=0.0))
        totals.append(size_of_score)
        largest.append(largest_score)
        if score_alone:
            continue
        totals.append(size_of_information[j, k])
        # As in `_largest_products`: a bound where it is clear that nobody dominates, the others one by one.
        bound = np.sqrt(largest_square[j] * largest_square[k]) * (1 + 1e-12)
        bound[j == k] = largest_square
        [unclear] = np.nonzero((bound > dominance.LARGEST_PART * (1 - 1e-9) * totals[-1]) & (j != k))
        if len(unclear):
            bound[unclear] = 0.0
            for size, _, w in _distance_blocks(family, patients, beta, numbers, sign):
                weighted = size * w
                for at in unclear:
                    here = float((weighted[j[at]] * size[k[at]]).max(initial=0.0))
                    bound[at] = max(bound[at], here)
        largest.append(bound)
    return np.concatenate(totals), np.concatenate(largest)


def _distance_blocks(
    family: Family, patients: Patients, beta: Floats, numbers: Sequence[int], sign: float
) -> Iterator[tuple[Floats, Floats, Floats]]:
    columns, which = patients.x.T, list(numbers)
    for start in range(0, columns.shape[1], _BLOCK):
        rows = slice(start, start + _BLOCK)
        x, y = columns[:, rows], patients.y[rows]
        size = np.abs(x)
        size[which] = np.maximum(1 + sign * x[which], 0.0) / 2
        eta = beta @ x
        if patients.offset is not None:
            eta += patients.offset[rows]
        r, w, _ = family.parts(eta, y)
        yield size, np.maximum(1 + sign * y, 0.0) / 2 if family.one_step else np.abs(r), w


def _largest_products(
    family: Family, patients: Patients, beta: Floats, *, totals: Floats, largest_square: Floats
) -> Floats:
    j, k = np.triu_indices(len(beta))
    # Rounded up, as roots and products are not exact.
    bound = np.sqrt(largest_square[j] * largest_square[k]) * (1 + 1e-12)
    bound[j == k] = largest_square
    bound[totals == 0] = 0.0
    [unclear] = np.nonzero((bound > dominance.LARGEST_PART * (1 - 1e-9) * totals) & (j != k))
    if len(unclear):
        exact = np.zeros(len(unclear))
        for x, _, w, _ in _blocks(family, patients, beta):
            size = np.abs(x)
            weighted = size * w
            for at, (first, second) in enumerate(zip(j[unclear], k[unclear], strict=True)):
                exact[at] = max(exact[at], float((weighted[first] * size[second]).max(initial=0.0)))
        bound[unclear] = exact
    return bound


def _blocks(family: Family, patients: Patients, beta: Floats) -> Iterator[tuple[Floats, Floats, Floats, Floats]]:
    columns = patients.x.T
    for start in range(0, columns.shape[1], _BLOCK):
        rows = slice(start, start + _BLOCK)
        x = columns[:, rows]
        eta = beta @ x
        if patients.offset is not None:
            eta += patients.offset[rows]
        yield x, *family.parts(eta, patients.y[rows])
