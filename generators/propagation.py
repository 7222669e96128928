"""Exact inference on a junction tree: belief propagation.

With a log potential psi_C for each clique C of the tree, the distribution is p(x) = exp(sum_C psi_C(x_C) - log_z). A
potential of -inf is a structural zero.

One pass from the leaves up adds to each clique what its children send, and turns it into the conditional
P(rest of the clique | separator) by a softmax over the rest; one pass down multiplies conditionals with the parent's
marginal on the separator. So no message is ever divided by another one (as in Shafer, Shenoy 1990, and unlike Hugin
propagation, zeros need no 0 / 0), and each cell costs one exponential.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from generators.domain import Clique
from generators.errors import DomainMismatch
from generators.factor import FloatArray, contract, spread, sum_onto
from generators.junction_tree import JunctionTree, mask_of


@dataclass(frozen=True, slots=True)
class CliqueMarginals:
    """A distribution that factorises over a junction tree, as marginals of its cliques.

    cliques   one array for each clique of the tree, shape `tree.shape(i)`; each sums to one and neighbours agree on
              their separators
    log_z     logarithm of the normaliser of the potentials that the marginals came from

    Examples
    --------
    >>> from generators.domain import Domain
    >>> tree = JunctionTree.build(Domain(("a", "b", "c"), (2, 2, 2)), [("a", "b"), ("b", "c")])
    >>> equal = np.log([[0.9, 0.1], [0.1, 0.9]])
    >>> marginals = propagate(tree, [equal, equal])
    >>> marginals.project(("a", "c")).round(2).tolist()
    [[0.41, 0.09], [0.09, 0.41]]
    >>> marginals.given({"a": np.array([True, False])}).project(("c",)).round(2).tolist()
    [0.82, 0.18]
    """

    tree: JunctionTree
    cliques: tuple[FloatArray, ...]
    log_z: float
    _conditionals: dict[int, FloatArray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def conditional(self, i: int) -> FloatArray:
        """Return P(rest of clique i | its separator), shape `tree.shape(i)`; zero where the separator is impossible.

        At a root, whose separator is empty, this is the clique's marginal.
        """
        known = self._conditionals.get(i)
        if known is None:
            joint = self.cliques[i]
            shared = joint.sum(axis=self.tree.rest_axes(i), keepdims=True)
            known = np.divide(joint, shared, out=np.zeros_like(joint), where=shared > 0)
            self._conditionals[i] = known
        return known

    def project(self, columns: Sequence[str]) -> FloatArray:
        """Return the marginal on any columns, axes in the order given.

        Columns of one clique are read off it. Otherwise the cliques between them are multiplied and summed out one by
        one: time and memory grow with the cells asked for, times the separators on the way.

        Raises
        ------
        DomainMismatch, UnknownColumn
            If no column is named, one is named twice, or one is not in the domain.
        """
        if not columns or len(set(columns)) < len(columns):
            raise DomainMismatch("name at least one column, each once")
        holder = self.tree.find(columns)
        if holder is not None:
            return sum_onto(self.cliques[holder], self.tree.cliques[holder], columns)
        tables: dict[int, tuple[FloatArray, Clique]] = {}
        result: FloatArray = np.ones(())
        result_columns: Clique = ()
        wanted = set(columns)
        kept = self._between(mask_of(columns, self.tree.domain))
        for i in reversed([i for i in self.tree.order if i in kept]):
            top = self.tree.parent[i] not in kept
            table: FloatArray = self.cliques[i] if top else self.conditional(i)
            names = self.tree.cliques[i]
            children = [child for child in kept if self.tree.parent[child] == i]
            keep = wanted | (set() if top else set(self.tree.separators[i]))
            for child in children:
                other, other_names = tables.pop(child)
                later = keep.union(*(self.tree.separators[sibling] for sibling in children if sibling in tables))
                table, names = contract(table, names, other, other_names, later)
            if top:
                part_names = tuple(name for name in names if name in wanted)
                result = np.multiply.outer(result, sum_onto(table, names, part_names))
                result_columns = (*result_columns, *part_names)
            else:
                names_kept = tuple(name for name in names if name in keep)
                tables[i] = (sum_onto(table, names, names_kept), names_kept)
        return sum_onto(result, result_columns, columns)

    def given(self, allowed: Mapping[str, npt.NDArray[np.bool_]]) -> CliqueMarginals:
        """Return the distribution conditioned on each of these columns having one of its allowed codes.

        log_z is the logarithm of the condition's probability; it is -inf, and all marginals are zero, if the condition
        is impossible.
        """
        with np.errstate(divide="ignore"):
            potentials = [np.log(self.conditional(i)) for i in range(len(self.tree.cliques))]
            for name, codes in allowed.items():
                holder = self.tree.find((name,))
                if holder is None:  # pragma: no cover - every column is in a clique
                    raise DomainMismatch(f"column {name!r} is in no clique")
                mask = np.log(np.asarray(codes, dtype=np.float64))
                potentials[holder] = potentials[holder] + spread(mask, (name,), self.tree.cliques[holder])
        return propagate(self.tree, potentials)

    def _between(self, wanted: int) -> set[int]:
        """Return the cliques of the smallest subtrees whose union holds the columns.

        Leaves, and roots with one child, are cut off as long as what is wanted of them is in their only neighbour.
        """
        tree = self.tree
        kept = set(range(len(tree.cliques)))
        beside: list[set[int]] = [set() for _ in tree.cliques]
        for i in tree.children:
            beside[i].add(tree.parent[i])
            beside[tree.parent[i]].add(i)
        ends = [i for i in kept if len(beside[i]) <= 1]
        while ends:
            i = ends.pop()
            if i not in kept:
                continue
            if not beside[i]:
                if not tree.masks[i] & wanted:
                    kept.remove(i)
                continue
            other = next(iter(beside[i]))
            if not tree.masks[i] & wanted & ~tree.masks[other]:
                kept.remove(i)
                beside[other].remove(i)
                if len(beside[other]) <= 1:
                    ends.append(other)
        return kept


def propagate(tree: JunctionTree, potentials: Sequence[FloatArray]) -> CliqueMarginals:
    """Return the exact marginals of the distribution with these log potentials, one for each clique of the tree.

    log_z is -inf, and all marginals are zero, if no combination of codes is possible.

    Examples
    --------
    >>> from generators.domain import Domain
    >>> tree = JunctionTree.build(Domain(("a", "b"), (2, 2)), [("a", "b")])
    >>> propagate(tree, [np.log([[1.0, 1.0], [2.0, 0.5]]) ]).project(("a",)).round(3).tolist()
    [0.444, 0.556]
    """
    log_z = 0.0
    messages: dict[int, list[FloatArray]] = {}
    conditionals: list[FloatArray] = list(potentials)
    for i in reversed(tree.order):
        belief = potentials[i]
        for message in messages.pop(i, ()):
            belief = belief + message
        conditionals[i], log_sum = _softmax(belief, tree.rest_axes(i))
        above = tree.parent[i]
        if above < 0:
            log_z += log_sum.item()
        else:
            names = tree.separators[i]
            message = spread(log_sum.reshape(tree.domain.sizes(names)), names, tree.cliques[above])
            messages.setdefault(above, []).append(message)
    if log_z == -np.inf:
        # One impossible component makes the whole row impossible.
        conditionals = [np.zeros_like(table) for table in conditionals]
    return compose(tree, conditionals, log_z=log_z)


def compose(tree: JunctionTree, conditionals: Sequence[FloatArray], *, log_z: float = 0.0) -> CliqueMarginals:
    """Return the distribution with P(rest of clique | separator) for each clique; at roots, the clique's marginal."""
    tables = list(conditionals)
    for i in tree.children:
        names, above = tree.separators[i], tree.parent[i]
        tables[i] = tables[i] * spread(sum_onto(tables[above], tree.cliques[above], names), names, tree.cliques[i])
    out = CliqueMarginals(tree, tuple(tables), log_z)
    # Kept, because a separator so unlikely that its marginal is zero in doubles still has its conditional.
    out._conditionals.update(enumerate(conditionals))  # noqa: SLF001 - the class's own module
    return out


def least_energy(tree: JunctionTree, energies: Sequence[FloatArray]) -> float:
    """Return the minimum over all rows x of the sum over cliques C of energies_C(x_C) (min-sum, exact).

    An energy of +inf is a structural zero. Used to bound from below what any distribution could reach.

    Examples
    --------
    >>> from generators.domain import Domain
    >>> tree = JunctionTree.build(Domain(("a", "b", "c"), (2, 2, 2)), [("a", "b"), ("b", "c")])
    >>> least_energy(tree, [np.array([[3.0, 1.0], [2.0, 5.0]]), np.array([[4.0, 4.0], [9.0, 0.5]])])
    1.5
    """
    least = 0.0
    held = list(energies)
    for i in reversed(tree.order):
        lowest: FloatArray = held[i].min(axis=tree.rest_axes(i))
        above = tree.parent[i]
        if above < 0:
            least += float(lowest)
        else:
            held[above] = held[above] + spread(lowest, tree.separators[i], tree.cliques[above])
    return least


def uniform(tree: JunctionTree) -> CliqueMarginals:
    """Return the uniform distribution."""
    return propagate(tree, [np.zeros(tree.shape(i)) for i in range(len(tree.cliques))])


def _softmax(values: FloatArray, axes: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Return exp(values) normalised over the axes, and the log of the sum (axes kept); zeros where all are -inf."""
    top = values.max(axis=axes, keepdims=True)
    if not np.isfinite(top).all():
        top = np.where(np.isfinite(top), top, 0.0)
    weights = np.exp(values - top)
    total = weights.sum(axis=axes, keepdims=True)
    with np.errstate(divide="ignore"):
        log_sum = top + np.log(total)
    weights /= np.where(total > 0, total, 1.0)
    return weights, log_sum
