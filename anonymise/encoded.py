"""A table's quasi-identifiers as small integers: distinct tuples of leaves and how many patients share each.

Every check of the lattice works on the distinct tuples, never on rows: they are fewer, and they are enough, because
generalisation maps equal tuples to equal classes. Sensitive attributes are kept as counts of (tuple, value) pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.classes import Attribute, AttributeName, FloatArray, IntArray, attribute_of
from anonymise.errors import NotAnonymisable
from anonymise.hierarchies import Hierarchy

Codes = npt.NDArray[np.int32]
Keys = npt.NDArray[Any]
Node = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Encoded:
    """Leaf codes of the distinct tuples, their multiplicities, and the tuple of each row.

    hierarchies   one per quasi-identifier
    leaves        shape (n_columns, n_tuples)
    counts        patients of each tuple, shape (n_tuples,), each >= 1 (0: only the population has it)
    row_tuple     tuple of each row, shape (n_rows,), any integer type
    attributes    the sensitive attributes that models name
    people        people of the population table with each tuple, shape (n_tuples,); None if there is no such table
    """

    hierarchies: tuple[Hierarchy, ...]
    leaves: Codes
    counts: IntArray
    row_tuple: Keys
    attributes: Mapping[AttributeName, Attribute] = field(default_factory=dict)
    people: IntArray | None = None

    def __repr__(self) -> str:
        """Name the columns only: tuples and counts are the patients'."""
        return f"Encoded(columns={tuple(hierarchy.name for hierarchy in self.hierarchies)!r})"

    @property
    def n_rows(self) -> int:
        """Number of patients of the table: what the suppression limit is a share of."""
        return int(self.row_tuple.size)

    @property
    def n_records(self) -> int:
        """Number of rows of the table: what the loss is a mean over."""
        return int(self.row_tuple.size)

    @property
    def row_entry(self) -> IntArray:
        """Entry of `counts` that each row belongs to, shape (n_rows,): its tuple."""
        return self.row_tuple

    @property
    def n_tuples(self) -> int:
        """Number of distinct tuples of leaves."""
        return int(self.leaves.shape[1])

    @property
    def n_entries(self) -> int:
        """Number of entries of `counts`: what the models' classes consist of. Tuples, or histories of these."""
        return int(self.counts.size)

    @property
    def shape(self) -> Node:
        """Number of levels of each column: the shape of the lattice."""
        return tuple(hierarchy.n_levels for hierarchy in self.hierarchies)

    def gathered(self) -> tuple[tuple[Codes, ...], ...]:
        """Return the group of every tuple at every level: [column][level] -> shape (n_tuples,)."""
        return tuple(
            tuple(level_codes.astype(np.int32)[leaves] for level_codes in hierarchy.codes)
            for hierarchy, leaves in zip(self.hierarchies, self.leaves, strict=True)
        )

    def classes_at_nodes(self) -> Callable[[Node], tuple[Keys, int]]:
        """Return the function from a node to one integer per entry, equal exactly where entries are in one class there,
        and a bound above every integer.
        """
        gathered = self.gathered()
        sizes = [[h.n_groups(level) for level in range(h.n_levels)] for h in self.hierarchies]

        def classes_at(node: Node) -> tuple[Keys, int]:
            columns = [groups[level] for groups, level in zip(gathered, node, strict=True)]
            return self.fold(
                *dense_key(columns, [of_level[level] for of_level, level in zip(sizes, node, strict=True)])
            )

        return classes_at

    def fold(self, key: Keys, size: int) -> tuple[Keys, int]:
        """Return one integer per entry from one per tuple, both with a bound above them: here they are the same."""
        return key, size

    def rows_of(self, entries: npt.NDArray[Any], patients: npt.NDArray[Any]) -> tuple[IntArray, FloatArray]:
        """Return the tuples of the rows of some patients of some entries, and how many rows each stands for.

        entries    entries of `counts`, shape (n_some,)
        patients   patients of each entry, shape (n_some,)
        """
        return entries.astype(np.int64), patients.astype(np.float64)


def encode_table(
    columns: Sequence[RawColumn],
    hierarchies: Sequence[Hierarchy],
    *,
    sensitive: Mapping[AttributeName, Sequence[tuple[RawColumn, Hierarchy]]] | None = None,
    population: Sequence[RawColumn] | None = None,
) -> Encoded:
    """Return the encoded table of some columns, each of shape (n_rows,), with one hierarchy each.

    sensitive    for each attribute, its columns and their hierarchies: several columns are taken together
    population   the same quasi-identifiers of everybody the patients come from, each of shape (n_people,)

    Raises SchemaError or HierarchyError for a value outside a column's public domain, without naming the value, and
    NotAnonymisable if some patient is missing from the population.
    """
    per_row = _leaf_columns(columns, hierarchies)
    n_rows = per_row[0].size
    if population is not None:
        everybody = _leaf_columns(population, hierarchies)
        per_row = [np.concatenate(pair) for pair in zip(per_row, everybody, strict=True)]
    key, size = dense_key(per_row, [hierarchy.n_leaves for hierarchy in hierarchies])
    tuple_of_row, n_tuples = squeeze(key, size)
    some_row = np.empty(n_tuples, dtype=np.int64)
    some_row[tuple_of_row] = np.arange(tuple_of_row.size)
    leaves = np.stack([codes[some_row] for codes in per_row]).astype(np.int32)
    of_patients = tuple_of_row[:n_rows]
    counts = np.bincount(of_patients, minlength=n_tuples).astype(np.int64)
    people = None
    if population is not None:
        people = np.bincount(tuple_of_row[n_rows:], minlength=n_tuples).astype(np.int64)
        if (people < counts).any():
            raise NotAnonymisable(
                rule="the population table does not hold every patient of the table",
                way_out="give the quasi-identifiers of everybody the patients come from, the patients included",
            )
    return Encoded(
        hierarchies=tuple(hierarchies),
        leaves=leaves,
        counts=counts,
        row_tuple=of_patients,
        attributes={name: encode_attribute(name, parts, of_patients) for name, parts in (sensitive or {}).items()},
        people=people,
    )


def encode_attribute(
    name: AttributeName,
    parts: Sequence[tuple[RawColumn, Hierarchy]],
    tuple_of_row: Keys,
    overall: FloatArray | None = None,
) -> Attribute:
    """Return a sensitive attribute of some patients; `overall` is counted over them unless it is given."""
    codes = [leaf_codes(values, hierarchy) for values, hierarchy in parts]
    hierarchies = [hierarchy for _, hierarchy in parts]
    labels = joined_labels(hierarchies)
    combined = np.zeros(tuple_of_row.size, dtype=np.int64)
    for part, hierarchy in zip(codes, hierarchies, strict=True):
        combined = combined * hierarchy.n_leaves + part
    return attribute_of(name, combined, tuple_of_row, labels=labels, hierarchies=hierarchies, overall=overall)


def joined_labels(hierarchies: Sequence[Hierarchy]) -> tuple[str, ...]:
    """Return the values of one or several columns taken together: every combination of public values is one."""
    return tuple(" & ".join(texts) for texts in itertools.product(*(hierarchy.labels[0] for hierarchy in hierarchies)))


def _leaf_columns(columns: Sequence[RawColumn], hierarchies: Sequence[Hierarchy]) -> list[Keys]:
    return [leaf_codes(values, hierarchy) for values, hierarchy in zip(columns, hierarchies, strict=True)]


class Factor(NamedTuple):
    """A column as the position of each row's value among the distinct ones, and the distinct ones."""

    codes: Keys
    values: npt.NDArray[Any]


RawColumn = npt.NDArray[Any] | pd.Series | Factor


def distinct(values: RawColumn) -> Factor:
    """Return a column as its distinct values and their positions; missing is one of the values."""
    if isinstance(values, Factor):
        return values
    if not isinstance(values, pd.Series) or not isinstance(values.dtype, pd.CategoricalDtype):
        positions, uniques = pd.factorize(values, use_na_sentinel=False)
        return Factor(positions, np.asarray(uniques))
    # A categorical knows its distinct values; those that no row has are left out. Missing, -1, comes last.
    codes = values.cat.codes.to_numpy()
    n_known = len(values.cat.categories)
    codes = np.where(codes < 0, n_known, codes) if codes.itemsize > 2 else codes.view(f"u{codes.itemsize}")
    times = np.bincount(codes, minlength=n_known)
    missing = times.size > n_known
    used = np.flatnonzero(times[:n_known])
    found: npt.NDArray[Any] = np.asarray(values.cat.categories[used])
    if missing:
        found = np.append(found.astype(object), np.array([None], dtype=object))
    elif used.size == n_known:
        return Factor(codes, found)
    position = np.full(times.size, used.size, dtype=np.min_scalar_type(n_known + 1))
    position[used] = np.arange(used.size)
    return Factor(position[codes], found)


def leaf_codes(values: RawColumn, hierarchy: Hierarchy) -> Keys:
    """Return the leaf of each value, in the smallest integer type that holds them all."""
    # Reading text is slow and columns repeat themselves: each distinct value is read once.
    codes, found = distinct(values)
    return hierarchy.encode(found).astype(np.min_scalar_type(hierarchy.n_leaves))[codes]


def dense_key(columns: Sequence[Keys], sizes: Sequence[int]) -> tuple[Keys, int]:
    """Return one integer per entry, equal exactly where all columns are equal, and a bound above every key.

    Mixed radix; whenever the product of the sizes outgrows a few times the number of entries, the keys in use are
    renumbered. The product can therefore never overflow, and the bound stays small enough for a table of counts.
    """
    n = columns[0].size
    limit = 4 * n + 4096
    # A key is below the limit, or was renumbered below n before its last radix.
    narrow = max(limit, n * max(sizes)) < 2**31
    key: Keys = np.zeros(n, dtype=np.int32 if narrow else np.int64)
    size = 1
    for codes, radix in zip(columns, sizes, strict=True):
        if radix == 1:
            continue
        if size * radix > limit:
            key, size = squeeze(key, size)
        if size == 1:
            key = codes.astype(key.dtype)
        else:
            key = key * key.dtype.type(radix)
            key += codes
        size *= radix
    return squeeze(key, size) if size > limit else (key, size)


def squeeze(key: Keys, size: int) -> tuple[Keys, int]:
    """Renumber the keys in use from 0, keeping their order."""
    if size > 16 * key.size + 4096:
        found, renumbered = np.unique(key, return_inverse=True)
        return renumbered.astype(key.dtype), int(found.size)
    # A flag per possible key: several times faster than sorting.
    flags = np.zeros(size, dtype=np.bool_)
    flags[key] = True
    used = np.flatnonzero(flags)
    rank = np.empty(size, dtype=key.dtype)
    rank[used] = np.arange(used.size)
    return rank.take(key), int(used.size)
