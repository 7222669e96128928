"""What trees split by: covariates as bins, and the public list of all ways to part a node in two.

A covariate has the schema's bins or categories, and a bin of its own for missing values. Splits of a covariate are

    numbers      below an edge, or not; where values may be missing, these go to either side: two splits an edge
    categories   one category, or any other; with two categories a single split
    missing      missing, or not

so that the list of all splits, and their numbers, follow from the schema. `goes_left` of a split says of each code of
its covariate to which side it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from privacy import Schema
from privacy.schema import Column

if TYPE_CHECKING:
    from privacy.schema import Frame

Bools = npt.NDArray[np.bool_]
# One byte a code is what a site keeps of its rows.
MOST_CODES = 256


class Rows(Protocol):
    """What codes are read from."""

    def __getitem__(self, name: str, /) -> Any:
        """Return the column of that name: something with `.to_numpy()`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A way to part a node.

    feature     position among the covariates
    goes_left   of each code of that covariate, shape (n_codes,)
    """

    feature: int
    goes_left: Bools


@dataclass(frozen=True, slots=True)
class Features:
    """The covariates of an ensemble, as public columns of codes, in order."""

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, schema: Schema, names: Sequence[str], *, max_bins: int) -> Features:
        """Return the covariates of a schema, numbers with at most `max_bins` bins: evenly chosen of the schema's.

        A number for which the schema has bounds and no edges gets bins of equal length. Raises ValueError, naming the
        covariate, if it has no codes, or only one.

        Examples
        --------
        >>> schema = Schema.from_dict({"columns": {
        ...     "age": {"kind": "integer", "bounds": [0, 100], "edges": [20, 40, 60, 80]},
        ...     "sex": {"categories": ["F", "M"]}}})
        >>> features = Features.of(schema, ("age", "sex"), max_bins=3)
        >>> [column.edges for column in features.columns], len(features.splits())
        ([(40.0, 60.0), ()], 3)
        """
        return cls(tuple(_binned(schema.column(name), max_bins) for name in names))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of codes of each covariate."""
        return tuple(column.n_codes for column in self.columns)

    @property
    def n_patterns(self) -> int:
        """Number of combinations of codes that a patient may have."""
        out = 1
        for size in self.sizes:
            out *= size
        return out

    def splits(self) -> tuple[Split, ...]:
        """Return all splits, in order: of two that are equally good, the first is taken."""
        return tuple(split for i, column in enumerate(self.columns) for split in _splits_of(i, column))

    def encode(self, rows: Rows | Frame) -> npt.NDArray[np.uint8]:
        """Return the codes of rows, shape (covariates, n). Raises SchemaError for what is none of a column's values."""
        return np.stack([column.encode(rows[column.name].to_numpy()).astype(np.uint8) for column in self.columns])

    def label(self, split: Split) -> tuple[str, str]:
        """Return covariate and condition of the left side, in words."""
        column = self.columns[split.feature]
        known = split.goes_left[: len(split.goes_left) - int(column.nullable)]
        missing = bool(split.goes_left[-1]) if column.nullable else False
        if known.all():
            return column.name, "not missing"
        if column.categories:
            return column.name, " or ".join(
                name for name, left in zip(column.categories, known.tolist(), strict=True) if left
            )
        edge = column.text([column.edges[int(known.sum()) - 1]])[0]
        return column.name, f"below {edge}{' or missing' if missing else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Return the columns as a schema holds them, without what no encoding needs."""
        whole = Schema(name="model", columns=tuple(_bare(column) for column in self.columns)).to_dict()
        return dict(whole["columns"])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Features:
        """Return what `to_dict` wrote. Raises SchemaError on anything else."""
        return cls(Schema.from_dict({"table": {"name": "model"}, "columns": dict(data)}).columns)


def _bare(column: Column) -> Column:
    return Column(
        name=column.name,
        kind=column.kind,
        categories=column.categories,
        bounds=column.bounds,
        edges=column.edges,
        nullable=column.nullable,
        resolution=column.resolution,
    )


def _binned(column: Column, max_bins: int) -> Column:
    if not column.is_coded:
        raise ValueError(f"covariates: {column.name!r} has no public bins or categories")
    if column.categories:
        if column.n_codes > MOST_CODES:
            raise ValueError(f"covariates: {column.name!r} has more than {MOST_CODES} categories: merge rare ones")
        out = column
    else:
        edges = np.array(column.edges or _equal_edges(column, max_bins))
        if len(edges) >= max_bins:
            chosen = np.linspace(0, len(edges) + 1, max_bins + 1)[1:-1] - 1
            edges = edges[np.unique(np.floor(chosen + 0.5).astype(np.int64))]
        out = replace(column, edges=tuple(float(edge) for edge in edges))
    if out.n_codes < 2:
        raise ValueError(f"covariates: {column.name!r} has one value only")
    return _bare(out)


def _equal_edges(column: Column, max_bins: int) -> tuple[float, ...]:
    low, high = column.bin_edges[[0, -1]]
    edges = np.linspace(low, high, max_bins + 1)[1:-1]
    if column.kind != "continuous":
        edges = np.unique(np.ceil(edges))
    return tuple(float(edge) for edge in edges if low < edge < high)


def _splits_of(feature: int, column: Column) -> Iterator[Split]:
    n_known = column.n_codes - int(column.nullable)
    codes = np.arange(column.n_codes)
    if column.categories and n_known > 2:
        for code in range(n_known):
            yield Split(feature, codes == code)
    else:
        for code in range(1, n_known):
            yield Split(feature, codes < code)
            if column.nullable:
                yield Split(feature, (codes < code) | (codes == n_known))
    if column.nullable:
        yield Split(feature, codes < n_known)
