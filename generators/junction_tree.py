"""Junction trees: which columns must be held together so that inference is exact.

clique graph     columns are nodes; two are joined if some measured clique holds both
triangulation    columns are eliminated one by one, each joining its remaining neighbours; a column and those neighbours
                 form a clique of the tree. A column whose neighbours are joined already goes first (then triangulating
                 a triangulated graph changes nothing), else the one with the fewest cells
junction tree    the maximal cliques, joined so that the cliques that hold a column are connected (running
                 intersection): a maximum spanning tree over the sizes of intersections

Sets of columns are bits of Python integers, bit i for the domain's column i.
Sources: Lauritzen, Spiegelhalter 1988, J. R. Stat. Soc. B 50:157; Jensen, Jensen 1994, UAI (the spanning tree);
Kjaerulff 1990, report R 90-09, Aalborg (minimum weight).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from generators.domain import Clique, Domain
from generators.errors import DomainMismatch


class CliqueGraph:
    """A growing clique graph that knows how large its junction tree is, or would be.

    Examples
    --------
    >>> graph = CliqueGraph(Domain(("a", "b", "c"), (2, 3, 5)), [("a", "b")])
    >>> graph.cells, graph.cells_with(("b", "c")), graph.cells_with(("a", "b", "c"))
    (11, 21, 30)
    """

    def __init__(self, domain: Domain, cliques: Iterable[Clique] = ()) -> None:
        self.domain = domain
        self._neighbours = [0] * len(domain)
        self._cells_of: dict[int, int] = {}
        for clique in cliques:
            self.join(clique)

    def join(self, clique: Clique) -> None:
        """Join the clique's columns with each other."""
        _join(self._neighbours, mask_of(clique, self.domain))

    @property
    def cells(self) -> int:
        """Number of cells of all cliques of the junction tree (a Python integer: it may exceed 64 bits)."""
        return sum(self._cells(clique) for clique in self.triangulate())

    def cells_with(self, clique: Clique) -> int:
        """Return what `cells` would be if the clique were joined."""
        neighbours = self._neighbours.copy()
        _join(neighbours, mask_of(clique, self.domain))
        return sum(self._cells(clique) for clique in self._eliminate(neighbours))

    def triangulate(self) -> list[int]:
        """Return the maximal cliques of the triangulated graph, as bits, in order of elimination."""
        return self._eliminate(self._neighbours.copy())

    def _eliminate(self, neighbours: list[int]) -> list[int]:
        left = list(range(len(neighbours)))
        weights = [self._cells(beside | 1 << node) for node, beside in enumerate(neighbours)]
        cliques: list[int] = []
        while left:
            node = next((node for node in left if _is_simplicial(node, neighbours)), None)
            if node is None:
                node = min(left, key=weights.__getitem__)
            left.remove(node)
            beside = neighbours[node]
            clique = beside | 1 << node
            # A clique that comes later is never larger than one that holds it.
            if not any(clique | known == known for known in cliques):
                cliques.append(clique)
            for other in bits(beside):
                neighbours[other] = (neighbours[other] | beside) & ~(1 << other | 1 << node)
                weights[other] = self._cells(neighbours[other] | 1 << other)
        return cliques

    def _cells(self, mask: int) -> int:
        known = self._cells_of.get(mask)
        if known is None:
            known = 1
            for node in bits(mask):
                known *= self.domain.n_codes[node]
            self._cells_of[mask] = known
        return known


@dataclass(frozen=True, slots=True)
class JunctionTree:
    """A junction tree, or one for each connected component, rooted.

    domain       the columns; each is in at least one clique
    cliques      maximal cliques, columns of each in the domain's order
    parent       position of each clique's parent, -1 at the root of a component
    order        positions of cliques, parents before their children
    separators   the columns that each clique shares with its parent, in the domain's order; () at a root

    Examples
    --------
    >>> tree = JunctionTree.build(Domain(("a", "b", "c"), (2, 3, 5)), [("a", "b"), ("b", "c")])
    >>> tree.cliques, tree.parent, tree.separators, tree.cells
    ((('a', 'b'), ('b', 'c')), (-1, 0), ((), ('b',)), 21)
    >>> tree.find(("c",)), tree.find(("a", "c"))
    (1, None)
    """

    domain: Domain
    cliques: tuple[Clique, ...]
    parent: tuple[int, ...]
    order: tuple[int, ...]
    separators: tuple[Clique, ...]
    masks: tuple[int, ...]

    @classmethod
    def build(cls, domain: Domain, cliques: Iterable[Clique]) -> JunctionTree:
        """Return the junction tree of the graph that the cliques make. The same cliques give the same tree."""
        masks = sorted(CliqueGraph(domain, cliques).triangulate(), key=lambda mask: tuple(bits(mask)))
        parent, order = _spanning_tree(masks)
        return cls(
            domain=domain,
            cliques=tuple(columns_of(mask, domain) for mask in masks),
            parent=parent,
            order=order,
            separators=tuple(
                columns_of(mask & masks[above], domain) if above >= 0 else ()
                for mask, above in zip(masks, parent, strict=True)
            ),
            masks=tuple(masks),
        )

    @property
    def cells(self) -> int:
        """Number of cells of all cliques (a Python integer: it may exceed 64 bits)."""
        return sum(self.domain.cells(clique) for clique in self.cliques)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Pairs of columns that share a clique, in the domain's order."""
        together = [0] * len(self.domain)
        for mask in self.masks:
            _join(together, mask)
        return tuple(
            (first, self.domain.columns[j])
            for i, first in enumerate(self.domain.columns)
            for j in bits(together[i] >> (i + 1) << (i + 1))
        )

    @property
    def children(self) -> tuple[int, ...]:
        """Positions of the cliques that have a parent, parents before their children."""
        return tuple(i for i in self.order if self.parent[i] >= 0)

    def find(self, columns: Iterable[str]) -> int | None:
        """Return the position of the smallest clique that holds all the columns, or None. Raises UnknownColumn."""
        wanted = mask_of(columns, self.domain)
        holding = [i for i, mask in enumerate(self.masks) if wanted | mask == mask]
        return min(holding, key=lambda i: self.domain.cells(self.cliques[i]), default=None)

    def shape(self, i: int) -> tuple[int, ...]:
        """Return the shape of a clique's table."""
        return self.domain.sizes(self.cliques[i])

    def rest_axes(self, i: int) -> tuple[int, ...]:
        """Return the axes of a clique's table that its parent does not have."""
        shared = set(self.separators[i])
        return tuple(axis for axis, name in enumerate(self.cliques[i]) if name not in shared)


def bits(mask: int) -> Iterator[int]:
    """Yield the positions of the bits that are set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def mask_of(columns: Iterable[str], domain: Domain) -> int:
    """Return the columns as bits. Raises UnknownColumn."""
    mask = 0
    for name in columns:
        mask |= 1 << domain.position(name)
    return mask


def columns_of(mask: int, domain: Domain) -> Clique:
    """Return the columns of the bits, in the domain's order."""
    return tuple(domain.columns[node] for node in bits(mask))


def in_domain_order(columns: Sequence[str], domain: Domain) -> Clique:
    """Return the columns as a clique. Raises DomainMismatch if one is named twice, or none."""
    if not columns or len(set(columns)) < len(columns):
        raise DomainMismatch("name at least one column, each once")
    return tuple(sorted(columns, key=domain.position))


def _join(neighbours: list[int], mask: int) -> None:
    for node in bits(mask):
        neighbours[node] |= mask & ~(1 << node)


def _is_simplicial(node: int, neighbours: list[int]) -> bool:
    beside = neighbours[node]
    # Whether all neighbours are joined with each other.
    return all(beside & ~(neighbours[other] | 1 << other) == 0 for other in bits(beside))


def _spanning_tree(masks: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return parents and an order, parents first, of a maximum spanning forest over sizes of intersections (Prim)."""
    parent = [-1] * len(masks)
    order: list[int] = []
    link = [(0, -1)] * len(masks)
    outside = list(range(len(masks)))
    while outside:
        # Ties go to the clique that comes first, so that the tree depends on nothing but the cliques.
        node = max(outside, key=lambda i: (link[i][0], -i))
        outside.remove(node)
        parent[node] = link[node][1]
        order.append(node)
        for other in outside:
            shared = (masks[node] & masks[other]).bit_count()
            if shared > link[other][0]:
                link[other] = (shared, node)
    return tuple(parent), tuple(order)
