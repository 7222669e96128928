"""The domain: how many codes each column has. Comes from the public schema, never from rows.

clique     names of one or more columns, in the domain's order; its marginal is an array of shape `domain.sizes(clique)`
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from generators.errors import DomainMismatch, UnknownColumn
from privacy import Schema

Clique = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Domain(Mapping[str, int]):
    """An ordered mapping from column to number of codes.

    Examples
    --------
    >>> domain = Domain(columns=("sex", "age"), n_codes=(2, 9))
    >>> domain["age"], domain.sizes(("age", "sex")), domain.cells(("sex", "age"))
    (9, (9, 2), 18)
    """

    columns: tuple[str, ...]
    n_codes: tuple[int, ...]
    _places: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "n_codes", tuple(int(size) for size in self.n_codes))
        if len(self.columns) != len(self.n_codes):
            raise DomainMismatch("columns and n_codes must have the same length: give one number for each column")
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise DomainMismatch("a domain needs at least one column, each named once")
        if min(self.n_codes) < 1:
            raise DomainMismatch("each column needs at least one code: give n_codes >= 1")
        # Looked up a million times for the pairs of a hundred columns, where a search through the tuple adds up.
        object.__setattr__(self, "_places", {name: place for place, name in enumerate(self.columns)})

    @classmethod
    def from_schema(cls, schema: Schema) -> Domain:
        """Return the domain of the schema's modelled columns; identifiers and free texts are left out.

        Columns with a model level have a code for each group; patterns of missing values come last.
        """
        if not schema.coded:
            raise DomainMismatch("the schema has no column with categories or bounds, so nothing can be generated")
        columns = schema.modelled
        return cls(tuple(column.name for column in columns), tuple(column.n_codes for column in columns))

    def __getitem__(self, name: str) -> int:
        return self.n_codes[self.position(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def position(self, name: str) -> int:
        """Return the column's place in the order. Raises UnknownColumn."""
        try:
            return self._places[name]
        except KeyError:
            raise UnknownColumn(name, self.columns) from None

    def sizes(self, clique: Iterable[str]) -> tuple[int, ...]:
        """Return the shape of the clique's marginal."""
        return tuple(self[name] for name in clique)

    def cells(self, clique: Iterable[str]) -> int:
        """Return the number of cells of the clique's marginal (a Python integer: it may exceed 64 bits)."""
        return math.prod(self.sizes(clique))


def one_way_cliques(domain: Domain) -> tuple[Clique, ...]:
    """Return the cliques of all 1-way marginals."""
    return tuple((name,) for name in domain.columns)


def two_way_cliques(domain: Domain) -> tuple[Clique, ...]:
    """Return the cliques of all 2-way marginals."""
    return tuple(itertools.combinations(domain.columns, 2))
