"""A Bayesian network that grows family by family and stays a junction tree.

family     a clique: columns and their parents, measured together
placed     columns that the network holds; the others stand alone, or in a known clique
table      fitted counts of a family, >= 0, sum about n; those of parents are the network's own

Parents are always columns of one family, so the families are the cliques of a triangulated graph, and P(X | parents)
of each, multiplied, is one distribution whose marginals on families are the tables. Everything here is
post-processing of released values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from generators.domain import Clique, Domain
from generators.factor import FloatArray, spread, sum_onto
from generators.forest import Components, Forest
from generators.inference import Evidence, estimate_total, fit_forest, on_simplex, pool
from generators.junction_tree import JunctionTree, in_domain_order
from generators.propagation import CliqueMarginals, compose, propagate
from generators.shrinkage import kept_part

BoolArray = npt.NDArray[np.bool_]
Family = tuple[str, Clique]

# So much of one row in every possible cell keeps the probability of each possible condition positive.
_FLOOR = 1e-9

# Parents' counts are the network's own; a family's fit takes them as so much surer than what it measured.
_SURE = 1e-3

_LEAST_VARIANCE_PART = 0.05


class Network:
    """The network, from 1-way evidence onwards.

    Parameters
    ----------
    domain
        Columns and sizes.
    singles
        Evidence of each column.
    known
        Junction tree of the cliques that are in the network whatever is measured.
    zeros
        Structural zeros, each within a clique of `known`.
    """

    def __init__(
        self, domain: Domain, singles: Iterable[Evidence], known: JunctionTree, zeros: Mapping[Clique, BoolArray]
    ) -> None:
        self.domain = domain
        self.singles = {part.columns[0]: part for part in singles}
        self.total = estimate_total(self.singles.values())
        self.gap = 0.0
        self._tables: dict[Clique, FloatArray] = {}
        self._placed: set[str] = set()
        self._known: dict[Clique, FloatArray] = {}
        self._components = Components(domain.columns)
        for clique in known.cliques:
            for name in clique[1:]:
                self._components.join(clique[0], name)
        # Propagating zeros alone tells which combinations can be completed to a whole row.
        possible = propagate(known, [_log_possible(clique, domain, zeros) for clique in known.cliques])
        self._possible = dict(zip(known.cliques, (table > 0 for table in possible.cliques), strict=True))

    def candidates(self, degree: int, *, most_cells: float) -> list[Family]:
        """Return the families (X, parents) that may come next: X outside, parents in one family of the network.

        Families of one parent are always among them; those of more parents have at most `most_cells` cells.
        """
        if not self._placed:
            pairs = itertools.combinations(self.domain.columns, 2)
            return [(second, (first,)) for first, second in pairs if not self._components.together(first, second)]
        parents = dict.fromkeys(
            subset
            for clique in self._tables
            if self._placed.issuperset(clique)
            for size in range(1, degree + 1)
            for subset in itertools.combinations(clique, size)
        )
        outside = [name for name in self.domain if name not in self._placed]
        return [
            (child, chosen)
            for chosen in parents
            for child in outside
            if len(chosen) == 1 or self.domain.cells((child, *chosen)) <= most_cells
        ]

    def clique(self, family: Family) -> Clique:
        """Return the family's columns in the domain's order."""
        child, parents = family
        return in_domain_order((child, *parents), self.domain)

    def independent(self, family: Family) -> FloatArray:
        """Return the counts that the network predicts if the column does not depend on its parents."""
        child, parents = family
        return self._predict(self.clique(family), parents, self._counts_of(parents), (child,))

    def add(self, measured: Evidence, parents: Clique) -> None:
        """Join a family, given its counts. With no parents, it is the first of a known component."""
        columns = measured.columns
        shape = self.domain.sizes(columns)
        for axis, name in enumerate(columns):
            # What the parents' sums tell is in the network already, unless it is the root's.
            if name not in parents:
                rest = tuple(i for i in range(len(columns)) if i != axis)
                side = Evidence((name,), measured.values.sum(axis=rest), measured.cell_variance.sum(axis=rest))
                self.singles[name] = pool([self.singles[name], side])[(name,)]
        self._known.clear()
        above = parents or columns[:1]
        below = tuple(name for name in columns if name not in above)
        counts = self._counts_of(above)
        possible = self._possible_of(columns)
        expected = self._predict(columns, above, counts, below) * possible
        variance = float(np.mean(measured.variance))
        kept = kept_part((measured.values - expected)[possible], expected[possible], variance)
        values = expected.copy()
        values[possible] += kept * (measured.values - expected)[possible]
        variance *= max(float(kept.mean()), _LEAST_VARIANCE_PART)

        # Parents and children, each as one column of a pair: exact least squares.
        order = [columns.index(name) for name in (*above, *below)]
        flat = Domain(("above", "below"), (self.domain.cells(above), self.domain.cells(below)))
        evidence = [
            Evidence(("above", "below"), values.transpose(order).reshape(flat.n_codes), variance),
            Evidence(("above",), counts.ravel(), variance * flat["below"] * _SURE),
        ]
        if len(below) == 1:
            single = self.singles[below[0]]
            evidence.append(Evidence(("below",), single.values, single.variance))
        allowed = possible.transpose(order).reshape(flat.n_codes)
        fit = fit_forest(
            Forest(flat, (("above", "below"),)), evidence, total=self.total, zeros={("above", "below"): ~allowed}
        )
        self.gap = max(self.gap, fit.gap_per_cell)
        joint = fit.marginals.project(("above", "below")) + _FLOOR / self.total * allowed
        rows = joint.sum(axis=1, keepdims=True)
        joint = counts.reshape(-1, 1) * np.divide(joint, rows, out=np.zeros_like(joint), where=rows > 0)
        self._known.clear()
        self._tables[columns] = joint.reshape([shape[i] for i in order]).transpose(np.argsort(order))
        for name in columns[1:]:
            self._components.join(columns[0], name)

    def grow(self, measured: Evidence, family: Family) -> None:
        """Join a family that was chosen among the candidates."""
        self.add(measured, family[1])
        self._placed.update(name for name in self.domain if self._components.together(family[0], name))

    def marginals(self) -> CliqueMarginals:
        """Return the distribution."""
        tree = JunctionTree.build(self.domain, self._tables)
        conditionals = []
        for i, clique in enumerate(tree.cliques):
            table = self._tables[clique] if clique in self._tables else self._counts_of(clique)
            table = (table + _FLOOR) * self._possible_of(clique)
            shared = table.sum(axis=tree.rest_axes(i), keepdims=True)
            conditionals.append(np.divide(table, shared, out=np.zeros_like(table), where=shared > 0))
        return compose(tree, conditionals)

    def _counts_of(self, columns: Clique) -> FloatArray:
        """Return the network's counts of columns that one family holds, or of one column alone."""
        known = self._known.get(columns)
        if known is None:
            known = self._known[columns] = self._find_counts(columns)
        return known

    def _find_counts(self, columns: Clique) -> FloatArray:
        holders = [clique for clique in self._tables if set(columns) <= set(clique)]
        if holders:
            smallest = min(holders, key=self.domain.cells)
            return sum_onto(self._tables[smallest], smallest, columns)
        (name,) = columns
        possible = self._possible_of(columns)
        counts = np.zeros(self.domain[name])
        counts[possible] = on_simplex(self.singles[name].values[possible], self.total)
        return counts

    def _possible_of(self, columns: Clique) -> BoolArray:
        """Return which combinations of codes the structural zeros leave possible, shape `domain.sizes(columns)`."""
        out = np.ones(self.domain.sizes(columns), dtype=bool)
        for clique, possible in self._possible.items():
            shared = [name for name in columns if name in clique]
            if shared and not possible.all():
                part = sum_onto(possible.astype(np.float64), clique, shared) > 0
                out &= spread(part.astype(np.float64), shared, columns) > 0
        return out

    def _predict(self, columns: Clique, parents: Clique, counts: FloatArray, below: Clique) -> FloatArray:
        table = spread(counts, parents, columns)
        for name in below:
            table = table * spread(self._counts_of((name,)) / self.total, (name,), columns)
        return table


def _log_possible(clique: Clique, domain: Domain, zeros: Mapping[Clique, BoolArray]) -> FloatArray:
    table = np.zeros(domain.sizes(clique))
    for columns, impossible in zeros.items():
        if set(columns) <= set(clique):
            table = table + spread(np.where(impossible, -np.inf, 0.0), columns, clique)
    return table
