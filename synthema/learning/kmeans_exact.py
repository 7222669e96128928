"""k-means, exact: Lloyd's algorithm of which only rounded centres are opened.

Sites assign their patients to the nearest centre; sums and sizes of the clusters stay on shares. Were they opened, the
difference of two rounds would be the sum over the patients who moved, often one. Opened of each centre is only the
point of a grid of 1 / 64 of half a column's range that it lies next to, and only if every cluster holds at least 64
patients: then one patient, wherever they lie, moves no centre by more than two steps, and an equation in two opened
centres knows a patient's value no better than to plus or minus half of the half range. The sizes are opened once.

The grid point is found without a division: with n patients and sum s, centre s / n lies above (b - 1/2) / 64 if
128 s >= (2 b - 1) n, one comparison of shared integers for each point of the grid. So centres are those of the pooled
integers, not almost. Where Lloyd's algorithm starts comes from mean and covariance of all patients, opened likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smpc import Session, Shared, SharePackage
from synthema.errors import DisclosureRefused, StudyError
from synthema.learning.kmeans import STEPS
from synthema.learning.model import Contribution, Rounds, pooled
from synthema.learning.table_one_exact import scaled

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from synthema.learning.kmeans import KMeansSpec
    from synthema.study import Study

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Values are rounded to so many bits at the sites; sums of 2^24 patients, times 128, stay below 2^63.
FRAC_BITS = 24
# Rows at a time: distances to all centres of a million rows would be a gigabyte of doubles.
_BLOCK = 1 << 16
_FEW = f"k-means was not opened: a cluster holds fewer than {STEPS} patients; ask for fewer clusters"
_GOLDEN = 0.6180339887498949


def matrix(schema: Schema, columns: Sequence[str], rows: pd.DataFrame) -> Floats:
    """Return the scaled columns, shape (n, p), every entry in [-1, 1]."""
    out = np.empty((len(rows), len(columns)))
    for j, name in enumerate(columns):
        out[:, j] = scaled(schema.column(name), rows[name].to_numpy())
    return out


def nearest(x: Floats, centres: Floats) -> Ints:
    """Return the nearest centre of each row, the first of equals; shape (n,)."""
    out = np.empty(len(x), dtype=np.int64)
    squares = (centres**2).sum(axis=1)
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK]
        out[start : start + _BLOCK] = np.argmin(squares - 2 * (block @ centres.T), axis=1)
    return out


def moments(x: Floats) -> Floats:
    """Return the columns and their products in pairs (upper triangle), shape (n, p + p (p + 1) / 2)."""
    first, second = np.triu_indices(x.shape[1])
    return np.concatenate([x, x[:, first] * x[:, second]], axis=1)


def first_centres(mean: Floats, covariance: Floats, n_clusters: int) -> Floats:
    """Return where to start, shape (k, p): spread over the two directions in which patients differ most.

    Along the first at the mid-quantiles of a normal law, along the second at those in the order of the golden ratio.
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    # The sign of an eigenvector is arbitrary, and every member has to start at the same place.
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))] < 0, -1.0, 1.0)
    spread = np.sqrt(np.maximum(values, 1 / STEPS**2))
    law = NormalDist()
    along = np.array([law.inv_cdf((j + 0.5) / n_clusters) for j in range(n_clusters)])
    across = np.array([law.inv_cdf((0.5 + (j + 1) * _GOLDEN) % 1 * 0.98 + 0.01) for j in range(n_clusters)])
    out = mean + along[:, None] * spread[-1] * vectors[:, -1]
    if len(mean) > 1:
        out = out + across[:, None] * spread[-2] * vectors[:, -2]
    # On the grid, as every later centre is: then no member's last bits make another assignment.
    return np.asarray(np.rint(np.clip(out, -1, 1) * STEPS) / STEPS)


class AtSite:
    """See `synthema.learning.model.SiteHalf`. The site takes up opened centres, and gives each round's sums once."""

    def __init__(self, spec: KMeansSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> None:
        if len(rows) > study.largest_cohort:
            raise StudyError(f"a site may hold at most {study.largest_cohort} patients")
        self._k = spec.n_clusters
        self._x = matrix(schema, spec.columns, rows)
        self._rounds = 0
        self._most = spec.max_iterations

    def contribute(self, what: str, opened: Any) -> Contribution:
        """Return "moments"; "clusters/T" at the centres that were opened: sizes and sums, (k, 1 + width); "sizes"."""
        if what == "moments":
            return Contribution(_sums(moments(self._x), np.zeros(len(self._x), dtype=np.int64), 1))
        if what == "sizes":
            label = nearest(self._x, np.array(opened, dtype=np.int64) / STEPS)
            return Contribution(np.bincount(label, minlength=self._k).astype(np.int64))
        if what != f"clusters/{self._rounds}" or self._rounds >= self._most:
            raise StudyError(f"k-means: {what!r} is not due")
        self._rounds += 1
        centres = np.array(opened, dtype=np.int64) / STEPS
        return Contribution(_sums(self._x, nearest(self._x, centres), self._k))


def _sums(values: Floats, label: Ints, k: int) -> Ints:
    """Return size and sums (fixed point) of each cluster, shape (k, 1 + width)."""
    out = np.zeros((k, 1 + values.shape[1]), dtype=np.int64)
    out[:, 0] = np.bincount(label, minlength=k)
    for j in range(values.shape[1]):
        np.add.at(out[:, 1 + j], label, np.rint(np.ldexp(values[:, j], FRAC_BITS)).astype(np.int64))
    return out


async def open_rounded_means(session: Session, sums: Shared, most_rows: int) -> Ints | None:
    """Return each row's means in steps of 1 / 64, shape (k, width); None if a row holds fewer than 64 patients.

    Parameters
    ----------
    sums
        Sizes and sums in fixed point, of values in [-1, 1]; shape (k, 1 + width).
    """
    n = sums[:, 0].declare(most_rows)
    few = await session.negative_bits(n - STEPS)
    if (await session.open(await session.to_numbers(few))).any():
        return None
    total = sums[:, 1:].declare(most_rows << FRAC_BITS)
    k, width = total.shape
    grid = np.arange(1 - STEPS, STEPS + 1, dtype=np.int64)
    row = np.repeat(np.arange(k), width * len(grid))
    # 2 * 64 * s against (2 b - 1) * n, in fixed point: below means that the centre is left of the half-step.
    left = (total * (2 * STEPS)).reshape(-1)[np.repeat(np.arange(k * width), len(grid))]
    right = n[row] * np.tile((2 * grid - 1) << FRAC_BITS, k * width)
    below = await session.to_numbers(await session.negative_bits(left - right))
    opened: Ints = await session.open(STEPS - below.reshape(k * width, len(grid)).sum(axis=1))
    return opened.reshape(k, width)


async def _open_sizes(session: Session, packages: Sequence[SharePackage], *, most_rows: int) -> list[int]:
    n = pooled(session, packages, bound=most_rows)
    if (await session.open(await session.to_numbers(await session.negative_bits(n - STEPS)))).any():
        return []
    found: list[int] = (await session.open(n)).tolist()
    return found


def fit(spec: KMeansSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`."""
    schema, k, p = rounds.schema, spec.n_clusters, len(spec.columns)
    most_rows = rounds.study.largest_cohort * len(rounds.study.sites)

    async def means(session: Session, packages: Sequence[SharePackage]) -> Any:
        found = await open_rounded_means(session, pooled(session, packages), most_rows)
        return [] if found is None else found.tolist()

    opened = rounds.run("moments", means)
    if not opened:
        raise DisclosureRefused(f"k-means was not opened: there are fewer than {STEPS} patients")
    found = np.array(opened[0]) / STEPS
    covariance = np.zeros((p, p))
    covariance[np.triu_indices(p)] = found[p:]
    covariance = covariance + np.triu(covariance, 1).T - np.outer(found[:p], found[:p])
    centres = np.rint(first_centres(found[:p], covariance, k) * STEPS).astype(np.int64)
    converged, iterations = False, 0
    while not converged and iterations < spec.max_iterations:
        opened = rounds.run(f"clusters/{iterations}", means, opened=centres.tolist())
        iterations += 1
        if not opened:
            raise DisclosureRefused(_FEW)
        moved = np.array(opened, dtype=np.int64)
        converged = bool((moved == centres).all())
        centres = moved
    sizes = rounds.run("sizes", partial(_open_sizes, most_rows=most_rows), opened=centres.tolist())
    if not sizes:
        raise DisclosureRefused(_FEW)
    return answer_of(spec, schema, centres / STEPS, sizes, iterations=iterations, converged=converged)


def answer_of(
    spec: KMeansSpec,
    schema: Schema,
    centres: Floats,
    sizes: Sequence[float | None],
    *,
    iterations: int,
    converged: bool,
) -> dict[str, Any]:
    """Return the answer: centres in the columns' units, sorted by the first column."""
    ends = np.array([schema.column(name).bin_edges[[0, -1]] for name in spec.columns])
    middle, half = ends.mean(axis=1), (ends[:, 1] - ends[:, 0]) / 2
    order = np.lexsort(centres.T[::-1])
    return {
        "centres": [[repr(float(value)) for value in row] for row in (middle + half * centres)[order]],
        "sizes": [sizes[j] for j in order],
        "half_ranges": [repr(float(value)) for value in half],
        "iterations": iterations,
        "converged": converged,
    }
