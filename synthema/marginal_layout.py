"""Which marginals the sites share for a synthesis, and where each lies in their vector: public, from the study alone.

A mechanism may ask for many marginals, but one that lies within another is a sum of it, and sums of shares are local.
So the largest ones are shared, once, and everything that the mechanism may ask for is read from them:

chow-liu, mst   all pairs                                  independent   columns, and pairs that the schema joins
privbayes       all triples (or pairs), and known cliques  adaptive      all triples
aim             the workload (by default all triples, or pairs), and pairs that the schema joins
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from synthema.errors import StudyError
from synthema.study import Study

Clique = tuple[str, ...]

# All triples are shared, and compared in each selection, up to so many cells.
TRIPLE_CELLS = 100_000

# 32 MB of shares from each site to the party that gets no seed.
LARGEST_LAYOUT = 1 << 22


class SynthesisLayout:
    """The vector of counts that every site shares.

    Parameters
    ----------
    sizes
        Number of codes of each column.
    cliques
        What is shared; those within another are left out.

    Raises
    ------
    StudyError
        If the vector would be longer than `LARGEST_LAYOUT`.

    Examples
    --------
    >>> import numpy as np
    >>> layout = SynthesisLayout({"sex": 2, "age": 3, "event": 2}, [("sex",), ("sex", "age"), ("age", "event")])
    >>> layout.cliques, layout.offsets, layout.size
    ((('sex', 'age'), ('age', 'event')), (0, 6), 12)
    >>> layout.read(np.arange(12), ("age",)), layout.read(np.arange(12), ("age", "sex")).shape
    (array([3, 5, 7]), (3, 2))
    """

    def __init__(self, sizes: Mapping[str, int], cliques: Iterable[Sequence[str]]) -> None:
        self.sizes = dict(sizes)
        wanted = dict.fromkeys(tuple(clique) for clique in cliques)
        total = sum(map(self.cells, wanted))
        lengths = {len(clique) for clique in wanted}
        covered = {
            frozenset(part)
            for clique in (wanted if total <= 2 * LARGEST_LAYOUT else ())
            for length in lengths
            if length < len(clique)
            for part in itertools.combinations(clique, length)
        }
        self.cliques = tuple(clique for clique in wanted if frozenset(clique) not in covered)
        cells = [self.cells(clique) for clique in self.cliques]
        self.size = sum(cells)
        if self.size > LARGEST_LAYOUT:
            raise StudyError(
                f"the synthesis would share {self.size} counts of each site, more than {LARGEST_LAYOUT}: take fewer "
                "columns, coarser bins, or a smaller workload"
            )
        self.offsets = tuple(itertools.accumulate(cells, initial=0))[:-1]
        self._with: dict[str, list[int]] = {name: [] for name in self.sizes}
        for i, clique in enumerate(self.cliques):
            for name in clique:
                self._with[name].append(i)
        # What is shared is held by itself, for a larger one has no fewer cells; others are found when asked for.
        self._holders: dict[Clique, int | None] = {clique: i for i, clique in enumerate(self.cliques)}

    def __repr__(self) -> str:
        return f"SynthesisLayout({len(self.cliques)} marginals, {self.size} cells)"

    def cells(self, clique: Sequence[str]) -> int:
        """Return the number of cells of a marginal."""
        return math.prod(self.sizes[name] for name in clique)

    def holds(self, clique: Sequence[str]) -> bool:
        """Return whether the marginal can be read: its columns, each once, lie in one that is shared."""
        return self._holder(tuple(clique)) is not None

    def read(self, vector: npt.NDArray[Any], clique: Sequence[str]) -> npt.NDArray[Any]:
        """Return a marginal, axes in the order of the clique's columns: counts of a vector of counts, shares of shares.

        Raises
        ------
        KeyError
            If it is not held.
        """
        wanted = tuple(clique)
        holder = self._holder(wanted)
        if holder is None:
            raise KeyError(wanted)
        columns = self.cliques[holder]
        shape = tuple(self.sizes[name] for name in columns)
        start = self.offsets[holder]
        table = vector[start : start + math.prod(shape)].reshape(shape)
        rest = tuple(axis for axis, name in enumerate(columns) if name not in wanted)
        # In the vector's own type: sums of shares wrap round as shares do.
        summed = table.sum(axis=rest, dtype=vector.dtype) if rest else table
        left = [name for name in columns if name in wanted]
        return summed.transpose([left.index(name) for name in wanted])

    def _holder(self, clique: Clique) -> int | None:
        """Return the smallest shared marginal that holds the columns, or None."""
        if clique not in self._holders:
            wanted = set(clique)
            found: list[int] = []
            if clique and len(wanted) == len(clique) and wanted <= set(self.sizes):
                rarest = min(clique, key=lambda name: len(self._with[name]))
                found = [i for i in self._with[rarest] if wanted <= set(self.cliques[i])]
            self._holders[clique] = min(found, key=lambda i: self.cells(self.cliques[i]), default=None)
        return self._holders[clique]


def synthesis_layout(study: Study) -> SynthesisLayout:
    """Return what the sites share for the study's synthesis.

    Raises
    ------
    StudyError
        If the study asks for no synthesis, or for one of too many counts.
    """
    if study.synthesis is None:
        raise StudyError("this study asks for no synthetic table")
    sizes = column_sizes(study)
    return _layout(tuple(sizes.items()), tuple(map(tuple, _shared(study, sizes))))


@functools.lru_cache(maxsize=16)
def _layout(sizes: tuple[tuple[str, int], ...], cliques: tuple[Clique, ...]) -> SynthesisLayout:
    # Asked for at every step by every site and party of a process; ten thousand pairs take 30 ms to lay out.
    return SynthesisLayout(dict(sizes), cliques)


def column_sizes(study: Study) -> dict[str, int]:
    """Return the number of codes of each column of the synthetic table."""
    return {column.name: column.n_codes for column in study.modelled_columns}


def takes_triples(sizes: Mapping[str, int]) -> bool:
    """Return whether all triples of columns have at most `TRIPLE_CELLS` cells together.

    Examples
    --------
    >>> takes_triples({"a": 2, "b": 3, "c": 4}), takes_triples({name: 99 for name in "abc"})
    (True, False)
    """
    # Elementary symmetric polynomials of the sizes: their third is the number of cells.
    first, second, third = 0, 0, 0
    for size in sizes.values():
        first, second, third = first + size, second + first * size, third + second * size
    return third <= TRIPLE_CELLS


def _shared(study: Study, sizes: Mapping[str, int]) -> Iterable[Clique]:
    wanted = study.synthesis
    mechanism = "chow-liu" if wanted is None else wanted.mechanism
    columns = tuple(sizes)
    singles = [(name,) for name in columns]
    subsets = [*singles, *itertools.combinations(columns, 2)]
    if takes_triples(sizes):
        triples = [*subsets, *itertools.combinations(columns, 3)]
    elif mechanism == "adaptive":
        raise StudyError(
            f"mechanism 'adaptive' asks for all triples of columns, more than {TRIPLE_CELLS} cells here: take "
            "'mst' or 'aim', fewer columns, or coarser bins"
        )
    else:
        triples = subsets
    if mechanism in ("chow-liu", "mst"):
        return subsets
    # What follows needs the rules of the schema, which are read by the generators: not loaded for pairs.
    from generators.domain import Domain
    from generators.junction_tree import JunctionTree
    from generators.rules import known_cliques, known_edges

    schema = study.data_schema.subset(study.synthesis_columns)
    edges = known_edges(schema)
    match mechanism:
        case "independent":
            return [*singles, *edges]
        case "aim":
            return [*singles, *edges, *(wanted.workload if wanted is not None and wanted.workload else triples)]
        case "privbayes":
            return [*triples, *JunctionTree.build(Domain.from_schema(schema), known_cliques(schema)).cliques]
        case _:
            return [*triples, *edges]
