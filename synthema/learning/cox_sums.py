"""What a site adds to the sums of a Newton step of Cox's model: sums over its patients at risk at each time.

    w      exp(x'b - top), top the greatest predictor that the schema allows: between 0 and 1 for every patient
    S      sums of w, w x and w x x' over patients at risk at a time: q = 1 + p + p (p + 1) / 2 numbers for each time
    D      the same over those who die at it;  d  how many these are

Times are those of a public grid: day t counts as the grid's first time not before t; a patient is at risk up to the
own time, that time included. Cells are times within strata. None of these sums is opened (`cox_shares`).

For the dominance rule a site states, beside sums over patients, the largest that one of them adds: of |x| over deaths,
and of |x| and |x x'| over patients weighted by w and by the grid's times that they were at risk. These would be the
patients' parts in the expected score and in the information if the hazard were constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from smpc import FixedPoint
from synthema.errors import ModelFailed
from synthema.learning.design import Floats, design_of, encoded, matrix
from synthema.learning.dominance import LARGEST_PART
from synthema.learning.rows import survival_of

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from synthema.learning.cox import CoxSpec

Ints = npt.NDArray[np.int64]

# Of what is opened at the end; on the way it is less.
FRAC_BITS = 28
# Sums of weights of all sites stay below 2^60.
MOST_WEIGHT = 2**60
# The least weight that a patient may have, in units of the sums.
_LEAST_WEIGHT = 2**16
_DOMINANCE_BITS = 24
_BLOCK = 1 << 12

TOO_WIDE = (
    "patients at the two ends of the schema's bounds would differ in their hazard by more than sums can hold: narrow "
    "the bounds of the covariates, or leave one out"
)


@dataclass(frozen=True, slots=True)
class Cells:
    """Times of the grid in each stratum: all public."""

    n_strata: int
    n_times: int

    @property
    def n(self) -> int:
        """Number of cells."""
        return self.n_strata * self.n_times


@dataclass(frozen=True, slots=True, eq=False)
class Patients:
    """A site's rows as the model sees them.

    x        scaled design matrix without intercept, shape (n, p), entries in [-1, 1]
    place    index of the time on the grid, shape (n,)
    stratum  shape (n,)
    died     shape (n,)
    numbers  indices of the columns that are numbers
    """

    x: Floats
    place: Ints
    stratum: Ints
    died: npt.NDArray[np.bool_]
    numbers: tuple[int, ...] = ()


def cells_of(spec: CoxSpec, schema: Schema) -> Cells:
    """Return the public cells: the grid covers the schema's largest survival time, from day 0 on."""
    if schema.survival is None:
        raise ValueError("Cox's model needs a [survival] section in the schema")
    longest = float(schema.column(schema.survival.time).bin_edges[-1])
    return Cells(
        n_strata=math.prod(len(schema.column(name).categories) for name in spec.strata),
        n_times=math.ceil(math.ceil(longest) / spec.grid_days) + 1,
    )


def patients_of(spec: CoxSpec, schema: Schema, rows: pd.DataFrame) -> Patients:
    """Return a site's rows as the model sees them. `rows`: valid for the schema."""
    time, died = survival_of(schema, rows)
    stratum: Ints = np.zeros(len(rows), dtype=np.int64)
    for name in spec.strata:
        column = schema.column(name)
        stratum = stratum * len(column.categories) + encoded(schema, rows, [name])[name].astype(np.int64)
    design = design_of(schema, spec.covariates)
    x = matrix(encoded(schema, rows, spec.covariates), schema, design)[:, 1:]
    numbers = tuple(j - 1 for j in design.numbers)
    return sorted_by_cell(Patients(x, -(-time // spec.grid_days), stratum, died, numbers))


def sorted_by_cell(patients: Patients) -> Patients:
    """Return the same patients in the order of strata, times, and whether they died: what sums of blocks need."""
    order = np.lexsort((patients.died, patients.place, patients.stratum))
    return Patients(
        np.ascontiguousarray(patients.x[order]),
        patients.place[order],
        patients.stratum[order],
        patients.died[order],
        patients.numbers,
    )


@dataclass(frozen=True, slots=True)
class Encoding:
    """Fixed point of the weights' sums, from public bounds alone, so that nothing can wrap.

    weight_bits  fractional bits of S and D
    low, top     least and greatest predictor x'b that the schema allows
    """

    weight_bits: int
    low: float
    top: float

    @classmethod
    def of(cls, reach: tuple[float, float], *, most_rows: int) -> Encoding:
        """Return the encoding. Raises ModelFailed if weights may differ by more than there is room for.

        Examples
        --------
        >>> encoding = Encoding.of((-3.0, 3.0), most_rows=1 << 20)
        >>> encoding.weight_bits, encoding.least(n_sites=3).bit_length()
        (40, 32)
        """
        encoding = cls(60 - math.ceil(math.log2(most_rows)), *reach)
        if encoding.least(n_sites=0) < _LEAST_WEIGHT:
            raise ModelFailed(TOO_WIDE)
        return encoding

    def least(self, *, n_sites: int) -> int:
        """Return the least weight that a risk set of somebody can have; every site rounds its own sum."""
        return math.floor(math.ldexp(math.exp(self.low - self.top), self.weight_bits)) - n_sites


def n_statements(p: int, *, score_alone: bool) -> int:
    """Return how many sums are tested for dominance."""
    return 3 * (2 * p + (0 if score_alone else p * (p + 1) // 2))


def contribution(
    patients: Patients, cells: Cells, beta: Floats, encoding: Encoding, *, score_alone: bool = False
) -> Ints:
    """Return what a site shares for a step: S and D (cell by cell), d, the deaths' sum of x; then S and a of dominance.

    Shape (2 cells q + cells + p + 2 statements,); q = 1 + p if the score is all that is asked for.
    """
    s, d = sums_by_cell(patients, cells, beta, encoding.top, score_alone=score_alone)
    died = patients.died
    deaths = np.bincount(_cell(patients, cells)[died], minlength=cells.n).astype(np.int64)
    x_of_deaths = FixedPoint(FRAC_BITS).encode(patients.x[died].sum(axis=0), max_abs=2.0**25)
    totals, largest = statements(patients, cells, beta, encoding.top, score_alone=score_alone)
    return np.concatenate(
        [
            np.rint(np.ldexp(np.concatenate([s.ravel(), d.ravel()]), encoding.weight_bits)).astype(np.int64),
            deaths,
            x_of_deaths,
            np.floor(np.ldexp(totals, _DOMINANCE_BITS)).astype(np.int64),
            np.ceil(np.ldexp(largest, _DOMINANCE_BITS)).astype(np.int64),
        ]
    )


def value_contribution(patients: Patients, cells: Cells, beta: Floats, encoding: Encoding) -> Ints:
    """Return what a site shares for the log-likelihood: sums of w at risk and dying, d, and the deaths' predictors."""
    died = patients.died
    alone = Patients(patients.x[:, :0], patients.place, patients.stratum, died)
    eta = patients.x @ beta - encoding.top
    s, d = _by_cell(alone, cells, np.exp(eta))
    deaths = np.bincount(_cell(patients, cells)[died], minlength=cells.n).astype(np.int64)
    return np.concatenate(
        [
            np.rint(np.ldexp(np.concatenate([s.ravel(), d.ravel()]), encoding.weight_bits)).astype(np.int64),
            deaths,
            FixedPoint(FRAC_BITS).encode([eta[died].sum()], max_abs=2.0**33),
        ]
    )


def sums_by_cell(
    patients: Patients, cells: Cells, beta: Floats, top: float, *, score_alone: bool = False
) -> tuple[Floats, Floats]:
    """Return S and D, shape (cells, q) each."""
    return _by_cell(patients, cells, np.exp(patients.x @ beta - top), score_alone=score_alone)


def _cell(patients: Patients, cells: Cells) -> Ints:
    return patients.stratum * cells.n_times + patients.place


def _by_cell(patients: Patients, cells: Cells, w: Floats, *, score_alone: bool = False) -> tuple[Floats, Floats]:
    """Return S and D; `patients`: sorted by cell."""
    p = patients.x.shape[1]
    upper = np.triu_indices(0 if score_alone else p)
    block = 2 * _cell(patients, cells) + patients.died
    here, starts = np.unique(block, return_index=True)
    ends = np.append(starts[1:], len(block))[: len(here)]
    out = np.zeros((2 * cells.n, 1 + p + len(upper[0])))
    for at, start, end in zip(here.tolist(), starts.tolist(), ends.tolist(), strict=True):
        x, weight = patients.x[start:end], w[start:end]
        out[at, 0] = weight.sum()
        out[at, 1 : 1 + p] = weight @ x
        if not score_alone:
            out[at, 1 + p :] = ((x * weight[:, None]).T @ x)[upper]
    dying = out[1::2]
    # Who leaves at a time was at risk at every earlier one of the stratum.
    leaving = (out[0::2] + dying).reshape(cells.n_strata, cells.n_times, -1)
    risk = np.cumsum(leaving[:, ::-1], axis=1)[:, ::-1].reshape(cells.n, -1)
    return risk, dying


def statements(
    patients: Patients, cells: Cells, beta: Floats, top: float, *, score_alone: bool = False
) -> tuple[Floats, Floats]:
    """Return S and a of each tested sum, shape (statements,) each.

    Three times: of the covariates as they are scaled, and with every number's distance from its lower, and from its
    upper bound in its place (`glm_sums.distances` says why).
    """
    found = [_statements(patients, cells, beta, top, sign, score_alone=score_alone) for sign in (0, 1, -1)]
    return np.concatenate([each[0] for each in found]), np.concatenate([each[1] for each in found])


def _statements(
    patients: Patients, cells: Cells, beta: Floats, top: float, sign: int, *, score_alone: bool
) -> tuple[Floats, Floats]:
    """Return S and a: over deaths, then over weighted time at risk.

    The largest |x_j x_k| is at most the geometric mean of the largest squares: where this bound shows that nobody
    dominates the sum at this site, it is what the site states; the other pairs are looked at one by one.
    """
    p = patients.x.shape[1]
    j, k = np.triu_indices(0 if score_alone else p)
    squares, largest_square = np.zeros((p, p)), np.zeros(p)
    singles, largest_single = np.zeros((2, 2, p))
    for rows in _blocks(patients):
        size, at_risk = _sizes(patients, rows, cells, beta, top, sign)
        weighted = size * at_risk[:, None]
        for row, part in enumerate((size[patients.died[rows]], weighted)):
            singles[row] += part.sum(axis=0)
            largest_single[row] = np.maximum(largest_single[row], part.max(axis=0, initial=0.0))
        if not score_alone:
            squares += weighted.T @ size
            largest_square = np.maximum(largest_square, (weighted * size).max(axis=0, initial=0.0))
    totals = squares[j, k]
    # Rounded up, as roots and products are not exact.
    pairs = np.sqrt(largest_square[j] * largest_square[k]) * (1 + 1e-12)
    pairs[totals == 0] = 0.0
    [unclear] = np.nonzero((pairs > LARGEST_PART * (1 - 1e-9) * totals) & (j != k))
    if len(unclear):
        pairs[unclear] = 0.0
        for rows in _blocks(patients):
            size, at_risk = _sizes(patients, rows, cells, beta, top, sign)
            weighted = size * at_risk[:, None]
            for at in unclear:
                here = (weighted[:, j[at]] * size[:, k[at]]).max(initial=0.0)
                pairs[at] = max(pairs[at], float(here))
    return np.concatenate([*singles, totals]), np.concatenate([*largest_single, pairs])


def _blocks(patients: Patients) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, len(patients.x), _BLOCK))


def _sizes(patients: Patients, rows: slice, cells: Cells, beta: Floats, top: float, sign: int) -> tuple[Floats, Floats]:
    x = patients.x[rows]
    size = np.abs(x)
    if sign:
        which = list(patients.numbers)
        size[:, which] = np.maximum(1 + sign * x[:, which], 0.0) / 2
    return size, np.exp(x @ beta - top) * (patients.place[rows] + 1) / cells.n_times
