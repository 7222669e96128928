"""Plausible models: what could have been fitted, had other patients been drawn and other noise been added.

p       the distribution that fits the measurements best, on the structure of the model
N       its estimated number of rows
y       the measurements: marginals of the private table, plus noise of a stated standard deviation

A model is one point; two things keep it from the truth. The private table is a sample of patients, and noise was added
to its marginals. The parametric bootstrap repeats both: N rows are drawn from p, their counts in the measured marginals
get fresh noise of the same standard deviation, and the distribution is fitted again. The spread of what these models
answer is, to first order, the spread of what the model answers around the truth, both causes included. Nothing private
is touched.

The structure is taken as given: what a mechanism could not see because it chose other pairs of columns is in no copy.
Shrinkage is left out, in p and in the copies: it lowers the error of one table by moving weak dependences towards
zero, and intervals around what was moved would miss the truth.

Sources: Efron, Tibshirani 1993, An Introduction to the Bootstrap, section 6.5. The aim is that of NAPSU-MQ, Räisä,
Jälkö, Kaski, Honkela 2023, arXiv:2205.14485, which draws from a posterior by Markov chains; a refit takes
milliseconds, needs no tuning, and has no prior that puts mass into empty cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from generators.domain import Clique
from generators.factor import FloatArray, spread, sum_onto
from generators.forest import Forest
from generators.inference import Evidence, Fit, Zeros, estimate_total, fit_forest, pool
from generators.junction_tree import JunctionTree, in_domain_order
from generators.oracle import Measurement
from generators.propagation import CliqueMarginals
from generators.rules import forest_zeros


def plausible_fits(
    tree: JunctionTree,
    measurements: Sequence[Measurement],
    n_fits: int,
    *,
    zeros: Zeros | None = None,
    rng: np.random.Generator,
) -> Iterator[Fit]:
    """Yield fits on the tree's cliques to measurements that could have been made.

    Parameters
    ----------
    tree
        The structure, the same in each.
    measurements
        What was released.
    n_fits
        How many.
    zeros
        Clique, in domain order -> True where a combination is impossible; those within a clique get probability zero.
    rng
        Any generator: everything here is released already.
    """
    centre = _fit(tree, evidence_on(tree, measurements, [part.values for part in measurements]), zeros or {})
    n_rows = max(1, round(centre.total))
    for _ in range(n_fits):
        values = simulate(centre.marginals, n_rows, measurements, rng=rng)
        yield _fit(tree, evidence_on(tree, measurements, values), zeros or {})


def evidence_on(
    tree: JunctionTree, measurements: Iterable[Measurement], values: Iterable[npt.NDArray[np.number]]
) -> tuple[Evidence, ...]:
    """Return what these values of the measurements tell about the tree's cliques: at most one piece for each clique.

    A measurement of columns that no clique holds together tells about each of them alone.

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
        counts = table.astype(np.float64)
        for columns, _ in _held_together(tree, measurement.columns):
            told = sum_onto(counts, measurement.columns, columns)
            parts.append(Evidence(columns, told, measurement.noise_std**2 * (counts.size / told.size)))
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
        out.append(table + rng.normal(0.0, measurement.noise_std, measurement.values.shape))
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


def _fit(tree: JunctionTree, evidence: Sequence[Evidence], zeros: Zeros) -> Fit:
    forest = Forest(tree.domain, tree.edges)
    return fit_forest(forest, evidence, total=estimate_total(evidence), zeros=forest_zeros(zeros, forest))
