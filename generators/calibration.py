"""From potentials of measured cliques to their marginals, many times over: the inner loop of a fit.

A junction tree's cliques are larger than what was measured: on a table of 14 columns, 14,000 measured cells may lie in
cliques of 130,000. So potentials are added up, and marginals summed out, in small steps. For each clique of the tree

leaves      what is added to its potential: the potentials of the measured cliques it holds, a message from each child,
            and one for the separator to its parent
merges      a binary tree over the leaves, made by joining the two nodes whose union has the fewest cells, until the
            clique itself is the union. Up, a node is the broadcast sum of its two children; down, each child is a sum
            over what the other adds. Only the last merge touches as many cells as the clique has

A union of nodes X and Y has the columns L (only in X), C (in both) and R (only in Y). It is held with R innermost, or
C where that is longer, so that the inner loops of NumPy are long.

Messages are as in `propagation`: conditionals given the separator are multiplied with the parent's marginal, and
structural zeros need no 0 / 0. Instead of the largest potential of each separator code, the message of the call before
is taken out before the exponential, at the separator's leaf; should the potentials have moved so far that a sum leaves
the range of doubles, the clique is done again with the largest.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from generators.domain import Clique, Domain
from generators.errors import DomainMismatch
from generators.factor import FloatArray
from generators.junction_tree import JunctionTree, bits, columns_of, mask_of

# Sums outside these are near the ends of the doubles' range, where terms may have been lost.
_LEAST_SUM, _LARGEST_SUM = 1e-200, 1e200


class Calibrator:
    """Marginals of measured cliques as a function of their potentials, on one junction tree.

    Parameters
    ----------
    tree
        The junction tree; each measured clique lies in one of its cliques.
    measured
        The cliques that have potentials, in domain order. Vectors of potentials and of marginals hold one after the
        other, flat.
    total
        What marginals sum to.
    zeros
        Clique, in domain order -> True where a combination is impossible; each lies in a clique of the tree.

    Examples
    --------
    >>> domain = Domain(("a", "b", "c"), (2, 2, 2))
    >>> cliques = [("a", "b"), ("b", "c")]
    >>> calibrator = Calibrator(JunctionTree.build(domain, cliques), cliques, total=8.0)
    >>> calibrator.marginals(np.log([1.0, 1.0, 1.0, 1.0, 3.0, 1.0, 3.0, 1.0])).tolist()
    [2.0, 2.0, 2.0, 2.0, 3.0, 1.0, 3.0, 1.0]
    """

    def __init__(
        self,
        tree: JunctionTree,
        measured: Sequence[Clique],
        *,
        total: float,
        zeros: Mapping[Clique, npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        self.log_z = -math.inf
        self._tree, self._total = tree, total
        domain = tree.domain
        ends = list(itertools.accumulate((domain.cells(clique) for clique in measured), initial=0))
        self.slices = tuple(slice(start, stop) for start, stop in itertools.pairwise(ends))
        self.size = ends[-1]
        self._flat = np.zeros(self.size)
        leaves: list[list[tuple[int, FloatArray, FloatArray | None]]] = [[] for _ in tree.cliques]
        for clique, part in zip(measured, self.slices, strict=True):
            leaves[_holder(tree, clique)].append((mask_of(clique, domain), self._flat[part], None))
        for clique, impossible in (zeros or {}).items():
            constant = np.where(impossible, -np.inf, 0.0).ravel()
            leaves[_holder(tree, clique)].append((mask_of(clique, domain), np.zeros(constant.size), constant))
        inbox: dict[int, FloatArray] = {}
        for i in tree.children:
            inbox[i] = np.zeros(domain.cells(tree.separators[i]))
            leaves[tree.parent[i]].append((mask_of(tree.separators[i], domain), inbox[i], None))
        self._cliques = [
            _Clique(domain, mask, mask_of(separator, domain), parts, inbox.get(i))
            for i, (mask, separator, parts) in enumerate(zip(tree.masks, tree.separators, leaves, strict=True))
        ]

    def marginals(self, potentials: FloatArray) -> FloatArray:
        """Return the marginals of all measured cliques, shape (size,); `log_z` is then that of these potentials.

        Raises DomainMismatch if the zeros leave no possible row.
        """
        self._flat[:] = potentials
        log_z = 0.0
        for i in reversed(self._tree.order):
            log_z += self._cliques[i].collect()
        if not math.isfinite(log_z):
            raise DomainMismatch("the structural zeros leave no possible row: check the schema's rules")
        for i in self._tree.order:
            self._cliques[i].distribute(self._total)
        self.log_z = log_z
        return self._flat.copy()


class _Node:
    """A set of columns with a table: log potentials on the way up, marginals on the way down."""

    __slots__ = ("mask", "order", "table")

    def __init__(self, mask: int, order: tuple[int, ...], table: FloatArray) -> None:
        self.mask, self.order, self.table = mask, order, table


class _Merge:
    """The union of two nodes, with all views made beforehand."""

    __slots__ = ("_flat", "_inner_c", "_ones", "_table", "_x", "_x_sum", "_y", "_y_sum", "node", "sides", "x", "y")

    def __init__(self, domain: Domain, x: _Node, y: _Node) -> None:
        if _cells(x.mask & ~y.mask, domain) > _cells(y.mask & ~x.mask, domain):
            x, y = y, x
        self.x, self.y = x, y
        parts = [tuple(bits(mask)) for mask in (x.mask & ~y.mask, x.mask & y.mask, y.mask & ~x.mask)]
        only_x, both, only_y = parts
        n_x, n_both, n_y = (math.prod(domain.n_codes[i] for i in part) for part in parts)
        self._inner_c = n_both > n_y
        order = (*only_y, *only_x, *both) if self._inner_c else (*only_x, *both, *only_y)
        self.node = _Node(x.mask | y.mask, order, np.empty(n_x * n_both * n_y))
        side_x = _Side(domain, x, (*only_x, *both))
        side_y = _Side(domain, y, (*only_y, *both) if self._inner_c else (*both, *only_y))
        self.sides = (side_x, side_y)
        self._ones = np.ones(n_y)
        if self._inner_c:
            self._table = self.node.table.reshape(n_y, n_x, n_both)
            self._flat = self.node.table
            self._x, self._y = side_x.table.reshape(1, n_x, n_both), side_y.table.reshape(n_y, 1, n_both)
            self._x_sum, self._y_sum = side_x.table.reshape(n_x, n_both), side_y.table.reshape(n_y, n_both)
        else:
            self._table = self.node.table.reshape(n_x, n_both, n_y)
            self._flat = self.node.table.reshape(n_x * n_both, n_y)
            self._x, self._y = side_x.table.reshape(n_x, n_both, 1), side_y.table.reshape(1, n_both, n_y)
            self._x_sum, self._y_sum = side_x.table, side_y.table.reshape(n_both, n_y)

    def up(self) -> None:
        """Add the two tables."""
        self.sides[0].fetch()
        self.sides[1].fetch()
        np.add(self._x, self._y, out=self._table)

    def down(self, side: int) -> None:
        """Sum the table onto the columns of X (0) or Y (1)."""
        if side:
            np.add.reduce(self._table, axis=1 if self._inner_c else 0, out=self._y_sum)
        elif self._inner_c:
            np.add.reduce(self._table, axis=0, out=self._x_sum)
        else:
            np.dot(self._flat, self._ones, out=self._x_sum)
        self.sides[side].store()

    def scale_by(self, side: int) -> None:
        """Multiply the table with that of X (0) or Y (1)."""
        np.multiply(self._table, self._y if side else self._x, out=self._table)


class _Side:
    """One child of a merge, its columns in the order that the merge wants: no copy if the child has that order."""

    __slots__ = ("_own", "_same", "order", "table", "wanted")

    def __init__(self, domain: Domain, child: _Node, order: tuple[int, ...]) -> None:
        self.order = order
        self._same = order == child.order
        self.table = child.table if self._same else np.empty_like(child.table)
        self._own = child.table.reshape([domain.n_codes[i] for i in child.order]).transpose(
            [child.order.index(i) for i in order]
        )
        self.wanted = self.table.reshape([domain.n_codes[i] for i in order])

    def fetch(self) -> None:
        if not self._same:
            np.copyto(self.wanted, self._own)

    def store(self) -> None:
        if not self._same:
            np.copyto(self._own, self.wanted)


class _Clique:
    """One clique of the junction tree: collects from its children, then distributes to them."""

    def __init__(
        self,
        domain: Domain,
        mask: int,
        separator: int,
        leaves: Sequence[tuple[int, FloatArray, FloatArray | None]],
        outbox: FloatArray | None,
    ) -> None:
        self._outbox = outbox
        self._constants = [(table, constant) for _, table, constant in leaves if constant is not None]
        self._separator = np.zeros(_cells(separator, domain))
        own = _Node(separator, tuple(bits(separator)), self._separator)
        nodes = [own, *(_Node(part, tuple(bits(part)), table) for part, table, _ in leaves)]
        # A column that nothing speaks of has a potential of zero; and a merge needs two nodes.
        missing = [1 << i for i in bits(mask & ~functools.reduce(operator.or_, (node.mask for node in nodes)))]
        for part in missing if len(nodes) + len(missing) > 1 else [mask]:
            nodes.append(_Node(part, tuple(bits(part)), np.zeros(_cells(part, domain))))
            self._constants.append((nodes[-1].table, np.zeros(nodes[-1].table.size)))
        self._merges = _merge_tree(domain, nodes)
        # The merges on the way from the clique down to its separator, and the side that each step takes.
        self._path: list[tuple[_Merge, int]] = []
        node = own
        for merge in self._merges:
            if node in (merge.x, merge.y):
                self._path.insert(0, (merge, 0 if node is merge.x else 1))
                node = merge.node
        self._root, self._side = self._path[0]
        self._table = node.table.reshape([domain.n_codes[i] for i in node.order])
        self._rest = tuple(axis for axis, i in enumerate(node.order) if not separator >> i & 1)
        kept = [i for i in node.order if separator >> i & 1]
        self._top_axes = [kept.index(i) for i in own.order]
        side = self._root.sides[self._side]
        self._spread = side.wanted
        self._spread_axes = [own.order.index(i) for i in side.order if separator >> i & 1]
        self._spread_shape = [domain.n_codes[i] if separator >> i & 1 else 1 for i in side.order]
        self._shape = [domain.n_codes[i] for i in own.order]
        self._shift = self._sums = np.zeros_like(self._separator)
        self._alive: npt.NDArray[np.bool_] | None = None

    def collect(self) -> float:
        """Send the message to the parent, or return it if there is none."""
        for table, constant in self._constants:
            table[:] = constant
        if self._alive is not None:
            self._exponentiate()
        inside = (self._sums > _LEAST_SUM) & (self._sums < _LARGEST_SUM)
        if self._alive is None or not np.array_equal(inside, self._alive):
            self._find_shift()
            self._exponentiate()
        with np.errstate(divide="ignore"):
            message = np.log(self._sums) + self._shift
        self._shift = np.where(self._sums > 0, message, 0.0)
        if self._outbox is None:
            return float(message[0])
        self._outbox[:] = message
        return 0.0

    def distribute(self, total: float) -> None:
        """Turn the table into the marginal, and sum it out for every leaf."""
        above: FloatArray = np.array([total]) if self._outbox is None else self._outbox
        ratio = np.divide(above, self._sums, out=np.zeros_like(self._sums), where=self._sums > 0)
        spread = ratio.reshape(self._shape).transpose(self._spread_axes).reshape(self._spread_shape)
        np.copyto(self._spread, spread)
        self._root.scale_by(self._side)
        for merge in reversed(self._merges):
            merge.down(0)
            merge.down(1)

    def _exponentiate(self) -> None:
        """Turn potentials less `_shift` into weights, and sum them onto the separator. Leaves keep their potentials."""
        np.negative(self._shift, out=self._separator)
        for merge in self._merges:
            merge.up()
        with np.errstate(over="ignore"):
            np.exp(self._root.node.table, out=self._root.node.table)
            for merge, side in self._path:
                merge.down(side)
        self._sums = self._separator.copy()

    def _find_shift(self) -> None:
        """Take as shift the largest potential of each separator code; codes without any are impossible."""
        self._separator[:] = 0.0
        for merge in self._merges:
            merge.up()
        top = self._table.max(axis=self._rest).transpose(self._top_axes).ravel()
        self._alive = np.isfinite(top)
        self._shift = np.where(self._alive, top, 0.0)


def _merge_tree(domain: Domain, nodes: Sequence[_Node]) -> list[_Merge]:
    """Return merges, children before their parents, until one node is left."""
    left = list(nodes)
    merges = []
    sizes: dict[int, int] = {}
    while len(left) > 1:
        best: tuple[int, int, int] | None = None
        for j, second in enumerate(left):
            for i, first in enumerate(left[:j]):
                union = first.mask | second.mask
                if union not in sizes:
                    sizes[union] = _cells(union, domain)
                if best is None or sizes[union] < best[0]:
                    best = sizes[union], i, j
        if best is None:  # pragma: no cover - there are two nodes
            break
        merges.append(_Merge(domain, left[best[1]], left[best[2]]))
        left = [node for k, node in enumerate(left) if k not in best[1:]] + [merges[-1].node]
    return merges


def _cells(mask: int, domain: Domain) -> int:
    return math.prod(domain.n_codes[i] for i in bits(mask))


def _holder(tree: JunctionTree, clique: Clique) -> int:
    holder = tree.find(clique)
    if holder is None or clique != columns_of(mask_of(clique, tree.domain), tree.domain):
        raise DomainMismatch(f"{', '.join(clique)} lies in no clique of the junction tree, or is not in domain order")
    return holder
