"""Plausible models: what could have been fitted, had other patients been drawn and other noise been added.

p       the distribution that fits the measurements best, on the structure of the model
N       its estimated number of rows
y       the measurements: marginals of the private table, plus noise of a stated standard deviation

A model is one point; two things keep it from the truth. The private table is a sample of patients, and noise was added
to its marginals. The parametric bootstrap repeats both: N rows are drawn from p, their counts in the measured marginals
get fresh noise of the same standard deviation, and the distribution is fitted again. The spread of what these models
answer is, to first order, the spread of what the model answers around the truth, both causes included. Nothing private
is touched.

Counts are kept non-negative in the fit, which moves nearly empty cells up; copies move them up once more. Where answers
rest on cells with fewer patients than noise, their mean is off in the same direction (docs/generators/model.md).

The structure is taken as given: what a mechanism could not see because it chose other pairs of columns is in no copy.
Shrinkage is left out, in p and in the copies: it lowers the error of one table by moving weak dependences towards
zero, and intervals around what was moved would miss the truth.

Sources: Efron, Tibshirani 1993, An Introduction to the Bootstrap, section 6.5. The aim is that of NAPSU-MQ, Räisä,
Jälkö, Kaski, Honkela 2023, arXiv:2205.14485, which draws from a posterior by Markov chains; a refit takes
milliseconds, needs no tuning, and has no prior that puts mass into empty cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.compression import merge_evidence, merge_zeros, told_apart
from generators.domain import Clique
from generators.errors import DomainMismatch
from generators.estimation import GraphFit, fit_graph
from generators.factor import FloatArray, spread, sum_onto
from generators.forest import Forest
from generators.grouping import Group, Groups, coarse_domain, merge_codes
from generators.inference import Evidence, Fit, Zeros, estimate_total, fit_forest, pool
from generators.junction_tree import JunctionTree, in_domain_order
from generators.oracle import Measurement
from generators.propagation import CliqueMarginals


@dataclass(frozen=True, slots=True)
class Plausible:
    """A model that could have been fitted; the fields are those of `GraphicalModel`."""

    marginals: CliqueMarginals
    total: float
    fit_gap: float


def plausible_models(
    tree: JunctionTree,
    measurements: Sequence[Measurement],
    n_models: int,
    *,
    zeros: Zeros | None = None,
    rng: np.random.Generator,
) -> Iterator[Plausible]:
    """Yield models on the tree's cliques, fitted to measurements that could have been made.

    Parameters
    ----------
    tree
        The structure, the same in each.
    measurements
        What was released.
    n_models
        How many.
    zeros
        Clique, in domain order -> True where a combination is impossible; those within a clique get probability zero.
    rng
        Any generator: everything here is released already.
    """
    refit = _Refit(tree, measurements, zeros or {})
    centre = refit.fit([part.values for part in measurements])
    n_rows = max(1, round(centre.total))
    for _ in range(n_models):
        yield refit.fit(simulate(centre.marginals, n_rows, measurements, rng=rng))


def evidence_on(
    tree: JunctionTree,
    measurements: Iterable[Measurement],
    values: Iterable[npt.NDArray[Any]],
    groups: Groups | None = None,
) -> tuple[Evidence, ...]:
    """Return what these values of the measurements tell about the tree's cliques: at most one piece for each clique.

    A measurement of columns that no clique holds together tells about each of them alone. Columns in `groups` are
    counted by group.

    Examples
    --------
    >>> from generators.domain import Domain
    >>> tree = JunctionTree.build(Domain(("a", "b"), (2, 2)), [])
    >>> pair = Measurement(("a", "b"), np.array([[1, 2], [3, 4]]), 1.0)
    >>> [(part.columns, part.values.tolist(), part.variance) for part in evidence_on(tree, [pair], [pair.values])]
    [(('a',), [3.0, 7.0], 2.0), (('b',), [4.0, 6.0], 2.0)]
    """
    parts = []
    for measurement, table in zip(measurements, values, strict=True):
        merged = _groups_in(measurement)
        unmerged = {name: group for name, group in (groups or {}).items() if name not in merged}
        for columns, _ in _held_together(tree, measurement.columns):
            parts.append(merge_evidence(_sum(measurement, table, columns), unmerged))
    return tuple(pool(parts).values())


def simulate(
    marginals: CliqueMarginals, n_rows: int, measurements: Sequence[Measurement], *, rng: np.random.Generator
) -> list[FloatArray]:
    """Return the values that the measurements of `n_rows` independent rows could have had.

    Where no clique holds the columns together, only sums over all columns but one are as they would be. Noise is drawn
    from the normal distribution: of the discrete one, only mean and variance matter here.
    """
    tree = marginals.tree
    counts = draw_counts(marginals, n_rows, rng=rng)
    out = []
    for measurement in measurements:
        # Counts that are taken to be independent have the right sums.
        table: FloatArray = np.full((1,) * len(measurement.columns), float(n_rows))
        for columns, holder in _held_together(tree, measurement.columns):
            part = sum_onto(counts[holder], tree.cliques[holder], columns)
            table = table * spread(part / n_rows, columns, measurement.columns)
        table = merge_codes(table, measurement.columns, _groups_in(measurement))
        out.append(table + rng.normal(0.0, measurement.noise_std, table.shape))
    return out


def draw_counts(marginals: CliqueMarginals, n_rows: int, *, rng: np.random.Generator) -> list[FloatArray]:
    """Return each clique's counts in a table of `n_rows` independent rows: time and memory do not grow with the rows.

    Given the rows' codes in a separator, a clique's other columns are drawn row by row, independently of everything
    above: so its counts are one multinomial draw for each code of the separator.
    """
    tree = marginals.tree
    counts: dict[int, FloatArray] = {}
    for i in tree.order:
        clique, separator = tree.cliques[i], tree.separators[i]
        rest = [name for name in clique if name not in separator]
        order = [clique.index(name) for name in (*separator, *rest)]
        table = marginals.conditional(i).transpose(order)
        shares = table.reshape(tree.domain.cells(separator), -1)
        sums = shares.sum(axis=1, keepdims=True)
        shares = np.divide(shares, sums, out=np.zeros_like(shares), where=sums > 0)
        above = tree.parent[i]
        groups = np.array([n_rows]) if above < 0 else sum_onto(counts[above], tree.cliques[above], separator).ravel()
        drawn = rng.multinomial(groups.astype(np.int64), shares).astype(np.float64)
        counts[i] = drawn.reshape(table.shape).transpose(np.argsort(order))
    return [counts[i] for i in range(len(tree.cliques))]


def _held_together(tree: JunctionTree, columns: Sequence[str]) -> list[tuple[Clique, int]]:
    """Return the columns as one clique if the tree holds them together, else one by one; with the holder's position."""
    ordered = in_domain_order(columns, tree.domain)
    holder = tree.find(ordered)
    if holder is not None:
        return [(ordered, holder)]
    return [found for name in ordered for found in _held_together(tree, (name,))]


class _Refit:
    """The way from values of measurements to a model: least squares on the tree's cliques, codes merged as measured."""

    def __init__(self, tree: JunctionTree, measurements: Sequence[Measurement], zeros: Zeros) -> None:
        self._tree, self._measurements = tree, measurements
        self._groups: dict[str, Group] = {}
        for measurement in measurements:
            for name, group in _groups_in(measurement).items():
                if not np.array_equal(self._groups.setdefault(name, group), group):
                    raise DomainMismatch(f"the codes of {name!r} were merged in two ways, so no copy can be fitted")
        self._coarse = replace(tree, domain=coarse_domain(tree.domain, self._groups))
        self._zeros = {clique: cells for clique, cells in zeros.items() if tree.find(clique) is not None}
        self._warm: Mapping[Clique, FloatArray] | None = None

    def fit(self, values: Sequence[npt.NDArray[Any]]) -> Plausible:
        tree, zeros = self._coarse, merge_zeros(self._zeros, self._groups)
        evidence = evidence_on(tree, self._measurements, values, self._groups)
        total = estimate_total(evidence)
        found: Fit | GraphFit
        if max(map(len, tree.cliques)) <= 2:
            forest = Forest(tree.domain, tree.edges)
            found = fit_forest(forest, evidence, total=total, zeros=zeros)
        else:
            found = fit_graph(tree.domain, evidence, total=total, zeros=zeros, cliques=tree.cliques, warm=self._warm)
            self._warm = found.potentials if self._warm is None else self._warm
        whole = [self._whole(name, values) for name in self._groups]
        marginals = told_apart(found.marginals, total, self._tree.domain, self._groups, whole, self._zeros)
        return Plausible(marginals, total, found.gap_per_cell)

    def _whole(self, name: str, values: Sequence[npt.NDArray[Any]]) -> Evidence:
        """Return what is known of a merged column's single codes, as if without noise: so shares are not shrunk."""
        parts = [
            _sum(measurement, table, (name,))
            for measurement, table in zip(self._measurements, values, strict=True)
            if name in measurement.columns and name not in _groups_in(measurement)
        ]
        # Without any count of single codes, the codes of a group share alike.
        if not parts:
            return Evidence((name,), np.zeros(self._tree.domain[name]), np.inf)
        return replace(pool(parts)[(name,)], variance=0.0)


def _sum(measurement: Measurement, table: npt.NDArray[Any], columns: Clique) -> Evidence:
    told = sum_onto(table.astype(np.float64), measurement.columns, columns)
    return Evidence(columns, told, measurement.noise_std**2 * (table.size / told.size))


def _groups_in(measurement: Measurement) -> dict[str, Group]:
    pairs = zip(measurement.columns, measurement.groups, strict=False)
    return {name: group for name, group in pairs if group is not None}
