"""Forests over columns, and distributions that factorise over one: marginals of columns and of joined pairs.

Each connected component is rooted; a column's parent is the neighbour on the way to the root. A forest is the junction
tree whose cliques are pairs. It has a class of its own because pairs have an exact solver (`inference.fit_forest`),
which works on columns and edges; `clique_marginals` leads from there to everything that junction trees can do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from generators.domain import Domain
from generators.errors import DomainMismatch
from generators.factor import FloatArray
from generators.junction_tree import JunctionTree
from generators.propagation import CliqueMarginals

Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Forest:
    """A rooted forest over a domain's columns.

    edges     pairs of columns, as given
    parent    position of each column's parent, -1 for a root; shape (n_columns,)
    order     positions, parents before their children

    Raises DomainMismatch if the edges form a cycle or join a column to itself.

    Examples
    --------
    >>> forest = Forest(Domain(("a", "b", "c"), (2, 2, 2)), (("b", "a"), ("b", "c")))
    >>> forest.parent, forest.order
    ((-1, 0, 1), (0, 1, 2))
    """

    domain: Domain
    edges: tuple[Edge, ...]
    parent: tuple[int, ...]
    order: tuple[int, ...]

    def __init__(self, domain: Domain, edges: Iterable[Edge]) -> None:
        chosen = tuple((first, second) for first, second in edges)
        neighbours: list[list[int]] = [[] for _ in domain.columns]
        union = Components(domain.columns)
        for first, second in chosen:
            i, j = domain.position(first), domain.position(second)
            if not union.join(first, second):
                raise DomainMismatch(f"the edge {first}-{second} closes a cycle: leave it out")
            neighbours[i].append(j)
            neighbours[j].append(i)
        parent = [-1] * len(domain)
        order: list[int] = []
        seen: set[int] = set()
        for root in range(len(domain)):
            if root in seen:
                continue
            seen.add(root)
            queue = [root]
            for node in queue:
                for child in neighbours[node]:
                    if child not in seen:
                        seen.add(child)
                        parent[child] = node
                        queue.append(child)
            order.extend(queue)
        object.__setattr__(self, "domain", domain)
        object.__setattr__(self, "edges", chosen)
        object.__setattr__(self, "parent", tuple(parent))
        object.__setattr__(self, "order", tuple(order))

    @property
    def roots(self) -> tuple[int, ...]:
        """Positions of the columns that have no parent."""
        return tuple(node for node in self.order if self.parent[node] < 0)

    @property
    def children(self) -> tuple[int, ...]:
        """Positions of the columns that have a parent, parents before their children."""
        return tuple(node for node in self.order if self.parent[node] >= 0)

    def edge_shape(self, child: int) -> tuple[int, int]:
        """Return the shape of the child's edge: codes of the parent, codes of the child."""
        sizes = self.domain.n_codes
        return sizes[self.parent[child]], sizes[child]


class Components:
    """Connected components under growing sets of edges (union-find).

    Examples
    --------
    >>> components = Components("abc")
    >>> components.join("a", "b"), components.join("b", "a"), components.together("a", "c")
    (True, False, False)
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._root = {name: name for name in names}

    def _find(self, name: str) -> str:
        while self._root[name] != name:
            self._root[name] = self._root[self._root[name]]
            name = self._root[name]
        return name

    def together(self, first: str, second: str) -> bool:
        """Return whether a path joins the two."""
        return self._find(first) == self._find(second)

    def join(self, first: str, second: str) -> bool:
        """Add an edge; return False, and change nothing, if a path joined the two already."""
        if self.together(first, second):
            return False
        self._root[self._find(second)] = self._find(first)
        return True


@dataclass(frozen=True, slots=True)
class ForestMarginals:
    """Marginals of a distribution over a forest: each sums to one, and edges agree with nodes.

    nodes     shape (n_codes_i,) for each column
    edges     by child, shape `edge_shape`: the parent on axis 0
    """

    forest: Forest
    nodes: tuple[FloatArray, ...]
    edges: Mapping[int, FloatArray]


def compose(forest: Forest, roots: Mapping[int, FloatArray], conditionals: Mapping[int, FloatArray]) -> ForestMarginals:
    """Return the marginals of the distribution with these root marginals and P(child | parent), by position."""
    nodes: list[FloatArray] = [roots.get(i, np.zeros(0)) for i in range(len(forest.domain))]
    edges = {}
    for child in forest.children:
        edges[child] = nodes[forest.parent[child]][:, None] * conditionals[child]
        nodes[child] = edges[child].sum(axis=0)
    return ForestMarginals(forest, tuple(nodes), edges)


def clique_marginals(marginals: ForestMarginals) -> CliqueMarginals:
    """Return the same distribution over the forest's junction tree: one clique for each edge and each lonely column.

    Examples
    --------
    >>> forest = Forest(Domain(("a", "b"), (2, 2)), (("a", "b"),))
    >>> made = clique_marginals(compose(forest, {0: np.array([0.5, 0.5])}, {1: np.array([[0.9, 0.1], [0.2, 0.8]])}))
    >>> made.tree.cliques, made.project(("b",)).round(2).tolist()
    ((('a', 'b'),), [0.55, 0.45])
    """
    forest = marginals.forest
    tree = JunctionTree.build(forest.domain, forest.edges)
    tables = []
    for clique in tree.cliques:
        positions = [forest.domain.position(name) for name in clique]
        if len(positions) == 1:
            tables.append(marginals.nodes[positions[0]])
        else:
            first, second = positions
            child_last = forest.parent[second] == first
            tables.append(marginals.edges[second] if child_last else marginals.edges[first].T)
    return CliqueMarginals(tree, tuple(tables), 0.0)
