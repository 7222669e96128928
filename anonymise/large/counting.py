"""Distinct tuples with their counts, added up over parts of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.classes import Attribute, AttributeName, FloatArray, IntArray
from anonymise.encoded import Codes, Encoded, Keys, dense_key, joined_labels, leaf_codes, squeeze
from anonymise.hierarchies import Hierarchy


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CountedTuples(Encoded):
    """Distinct tuples with their counts, without the rows: `row_tuple` is empty."""

    @property
    def n_rows(self) -> int:
        """Number of patients of the table."""
        return int(self.counts.sum())

    @property
    def n_records(self) -> int:
        """Number of rows of the table: one a patient."""
        return self.n_rows


class TupleCounter:
    """Adds up the distinct combinations of codes of parts of a table.

    sizes   number of codes of each column
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)
        self._codes = np.empty((len(self._sizes), 0), dtype=np.int32)
        self._counts = np.empty(0, dtype=np.int64)

    def add(self, codes: Sequence[Keys], counts: IntArray) -> None:
        """Add the combinations of a part, one code a column of shape (n,), each counted as often as `counts` says."""
        # Within the part first: then little is copied.
        part, times = _merged([column.astype(np.int32) for column in codes], counts, self._sizes)
        both = np.concatenate([self._codes, part], axis=1)
        self._codes, self._counts = _merged(list(both), np.concatenate([self._counts, times]), self._sizes)

    @property
    def codes(self) -> Codes:
        """The distinct combinations, shape (n_columns, n_distinct)."""
        return self._codes

    @property
    def counts(self) -> IntArray:
        """How often each occurs, shape (n_distinct,)."""
        return self._counts


def _merged(codes: Sequence[Codes], counts: IntArray, sizes: Sequence[int]) -> tuple[Codes, IntArray]:
    if not counts.size:
        return np.empty((len(sizes), 0), dtype=np.int32), counts
    place, n = squeeze(*dense_key(codes, sizes))
    some = np.empty(n, dtype=np.int64)
    some[place] = np.arange(place.size)
    summed = np.zeros(n, dtype=np.int64)
    np.add.at(summed, place, counts)
    return np.stack([column[some] for column in codes]), summed


def column_codes(frame: pd.DataFrame, hierarchies: Sequence[Hierarchy]) -> list[Keys]:
    """Return the leaves of some columns of a part. Raises SchemaError for a value outside a public domain."""
    return [leaf_codes(frame[hierarchy.name], hierarchy) for hierarchy in hierarchies]


def counted_tuples(
    counter: TupleCounter,
    hierarchies: Sequence[Hierarchy],
    sensitive: Mapping[AttributeName, Sequence[Hierarchy]],
    columns: Sequence[str],
) -> CountedTuples:
    """Return what the search needs from counts of the quasi-identifiers, followed by the sensitive columns.

    columns   name of each column of the counter
    """
    n_quasi = len(hierarchies)
    place, n_tuples = squeeze(*dense_key(list(counter.codes[:n_quasi]), [h.n_leaves for h in hierarchies]))
    some = np.empty(n_tuples, dtype=np.int64)
    some[place] = np.arange(place.size)
    counts = np.zeros(n_tuples, dtype=np.int64)
    np.add.at(counts, place, counter.counts)
    return CountedTuples(
        hierarchies=tuple(hierarchies),
        leaves=np.ascontiguousarray(counter.codes[:n_quasi, some]),
        counts=counts,
        row_tuple=np.empty(0, dtype=np.int32),
        attributes={
            name: counted_attribute(
                name, parts, place, [counter.codes[columns.index(part.name)] for part in parts], counter.counts
            )
            for name, parts in sensitive.items()
        },
    )


def counted_attribute(
    name: AttributeName,
    hierarchies: Sequence[Hierarchy],
    tuples: npt.NDArray[np.integer],
    codes: Sequence[Codes],
    counts: IntArray,
    *,
    overall: FloatArray | None = None,
) -> Attribute:
    """Return a sensitive attribute from combinations of a tuple and one code a column, each with its count.

    `overall` is added up from them unless it is given.
    """
    value = np.zeros(counts.size, dtype=np.int64)
    for column, hierarchy in zip(codes, hierarchies, strict=True):
        value = value * hierarchy.n_leaves + column
    labels = joined_labels(hierarchies)
    n_values = len(labels)
    pairs, place = np.unique(tuples.astype(np.int64) * n_values + value, return_inverse=True)
    times = np.zeros(pairs.size, dtype=np.int64)
    np.add.at(times, place, counts)
    if overall is None:
        overall = np.zeros(n_values)
        np.add.at(overall, value, counts)
    return Attribute(
        name=name,
        labels=labels,
        overall=overall,
        hierarchies=tuple(hierarchies),
        tuples=pairs // n_values,
        values=pairs % n_values,
        counts=times.astype(np.float64),
    )
