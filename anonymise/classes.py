"""Equivalence classes as the models see them: their sizes, and how sensitive values are spread over them.

class       the patients who agree on every quasi-identifier of a generalised table
attribute   a sensitive column (or several taken together), as codes
overall     how often each of its values occurs in the whole raw table: what a class is compared with
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from anonymise.errors import NotAnonymisable
from anonymise.hierarchies import Hierarchy

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
AttributeName = str | tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Attribute:
    """A sensitive attribute: its public values, and the patients of each distinct tuple who have each value.

    labels       text of each value, in the schema's order, a missing value last, shape (n_values,)
    overall      patients of the whole raw table with each value, shape (n_values,)
    hierarchies  the hierarchy of each of its columns; of a single column, the leaves are the values
    tuples       tuple of each entry, shape (n_entries,): entries are the (tuple, value) pairs that occur
    values       value of each entry, shape (n_entries,)
    counts       patients of each entry, shape (n_entries,)
    """

    name: AttributeName
    labels: tuple[str, ...]
    overall: FloatArray
    hierarchies: tuple[Hierarchy, ...]
    tuples: IntArray
    values: IntArray
    counts: FloatArray

    def __repr__(self) -> str:
        """Name the column only: counts are the patients'."""
        return f"Attribute({self.name!r})"

    @property
    def n_values(self) -> int:
        """Number of values."""
        return len(self.labels)

    @property
    def hierarchy(self) -> Hierarchy | None:
        """The column's hierarchy, whose leaves are the values; None for several columns taken together."""
        return self.hierarchies[0] if len(self.hierarchies) == 1 else None


def attribute_of(
    name: AttributeName,
    codes: npt.NDArray[Any],
    tuple_of_row: npt.NDArray[Any],
    *,
    labels: Sequence[str],
    hierarchies: Sequence[Hierarchy] = (),
    overall: FloatArray | None = None,
) -> Attribute:
    """Return an attribute from one code and one tuple per patient; `overall` is counted unless it is given."""
    n_values = len(labels)
    pairs, counts = np.unique(tuple_of_row.astype(np.int64) * n_values + codes, return_counts=True)
    if overall is None:
        overall = np.bincount(codes, minlength=n_values).astype(np.float64)
    return Attribute(
        name=name,
        labels=tuple(labels),
        overall=overall,
        hierarchies=tuple(hierarchies),
        tuples=pairs // n_values,
        values=pairs % n_values,
        counts=counts.astype(np.float64),
    )


@dataclass(slots=True, eq=False, repr=False)
class Classes:
    """Some equivalence classes of a node: those that a model is asked about.

    sizes        patients in each class, each >= 1, shape (n_classes,)
    n_rows       patients of the whole raw table
    attributes   the sensitive attributes that models name
    places       class of each distinct tuple, -1 for a tuple of no class here, shape (n_tuples,)
    people       people of the population table in each class, shape (n_classes,); None if there is no such table
    """

    sizes: IntArray
    n_rows: int
    attributes: Mapping[AttributeName, Attribute] = field(default_factory=dict)
    places: IntArray | None = None
    people: IntArray | None = None
    _counts: dict[AttributeName, IntArray] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say nothing of sizes: they are the patients'."""
        return "Classes()"

    def __len__(self) -> int:
        """Return the number of classes."""
        return int(self.sizes.size)

    def attribute(self, name: AttributeName) -> Attribute:
        """Return a sensitive attribute by its name."""
        return self.attributes[name]

    def counts(self, name: AttributeName) -> IntArray:
        """Return the patients of each class with each value of an attribute, shape (n_classes, n_values)."""
        if name not in self._counts:
            attribute = self.attributes[name]
            if self.places is None:
                raise TypeError("these classes do not know their tuples")
            place = self.places[attribute.tuples]
            key = place * attribute.n_values + attribute.values
            weights = attribute.counts
            if (place < 0).any():
                stands = place >= 0
                key, weights = key[stands], weights[stands]
            flat = np.bincount(key, weights=weights, minlength=len(self) * attribute.n_values)
            self._counts[name] = flat.astype(np.int64).reshape(len(self), attribute.n_values)
        return self._counts[name]

    def population(self) -> IntArray:
        """Return the people of the population table in each class, shape (n_classes,)."""
        if self.people is None:
            raise NotAnonymisable(
                rule="the model compares with a population, but no population table was given",
                way_out="give population=..., with the quasi-identifiers of everybody the patients come from",
            )
        return self.people

    def subset(self, chosen: npt.NDArray[Any]) -> Classes:
        """Return the chosen classes, given as a mask or as ascending positions."""
        positions = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        places = None
        if self.places is not None:
            renumbered = np.full(len(self) + 1, -1, dtype=np.int64)
            renumbered[positions] = np.arange(positions.size)
            places = renumbered[self.places]
        return Classes(
            sizes=self.sizes[positions],
            n_rows=self.n_rows,
            attributes=self.attributes,
            places=places,
            people=None if self.people is None else self.people[positions],
            _counts={name: counts[positions] for name, counts in self._counts.items()},
        )
