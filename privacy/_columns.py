"""One column's public description: its values, their codes, and the level at which a generator models them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from privacy._dates import Resolution, iso_texts, to_units
from privacy._hierarchy_spec import HierarchySpec
from privacy._values import is_missing, text_of
from privacy.errors import SchemaError, SchemaProblem

Role = Literal["identifier", "quasi-identifier", "sensitive", "insensitive"]
Kind = Literal["categorical", "ordinal", "integer", "continuous", "date", "set", "text"]
MissingChoice = Literal["own_value", "wildcard", "suppress"]
DateType = Literal["datetime64", "text"]

# Whole numbers within such a range are coded by a table.
_SHORT_RANGE = 1 << 12

MISSING = "missing"

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Column:
    """One column's public description.

    categories   the values; of a set-valued column, the values that a cell's set may hold
    edges        interior bin edges, ascending; the bins are [bounds[0], e1), [e1, e2), ..., [ek, bounds[1]]
    decimals     digits after the point of a continuous column's values (for synthetic output); None: as they come
    resolution   of a date with ISO bounds: the unit in which values are kept, and in which bounds and edges are
                 counted from 1970-01-01; None for a date whose bounds are years, which has no codes
    dtype        how synthetic dates are written: "datetime64", or "text" (ISO)
    model_level  level of the hierarchy at which generators model the categories; 0: each by itself
    refined      categories that are modelled by themselves although `model_level` would group them
    weights      of the categories: how a synthetic value is drawn within its group; equal if there are none
    missing_of   of a derived column: the columns whose pattern of missing values it tells
    missing      what a missing quasi-identifier means for anonymising: a value like another, one that matches every
                 value, or a row that is left out
    separator    of a set-valued column: what stands between the members of a cell
    max_members  of a set-valued column: the most members of a cell
    allow_text   whether a release may hold the column although it is, or reads like, free text

    Examples
    --------
    >>> age = Column("age", kind="integer", bounds=(0, 110), edges=(20, 40, 60))
    >>> age.labels()
    ('0-19', '20-39', '40-59', '60-110')
    >>> age.encode(np.array([3, 20, 110])).tolist()
    [0, 1, 3]
    """

    name: str
    role: Role = "insensitive"
    kind: Kind = "categorical"
    categories: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None
    edges: tuple[float, ...] = ()
    nullable: bool = False
    hierarchy: HierarchySpec | None = None
    decimals: int | None = None
    resolution: Resolution | None = None
    dtype: DateType = "datetime64"
    model_level: int = 0
    refined: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    missing_of: tuple[str, ...] = ()
    missing: MissingChoice = "own_value"
    separator: str = ";"
    max_members: int = 3
    allow_text: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether values are numbers with bounds."""
        return self.kind in ("integer", "continuous")

    @property
    def is_binned(self) -> bool:
        """Whether codes are bins between public bounds: numbers, and dates with ISO bounds."""
        known = self.is_numeric or (self.kind == "date" and self.resolution is not None)
        return known and not self.categories and self.bounds is not None

    @property
    def is_coded(self) -> bool:
        """Whether the column has a finite public list of codes (identifiers, sets and free dates have none)."""
        if self.role == "identifier" or self.kind == "set":
            return False
        return bool(self.categories) or self.is_binned

    @property
    def bin_edges(self) -> FloatArray:
        """Bounds and interior edges, shape (n_bins + 1,)."""
        if self.bounds is None:
            raise SchemaError([SchemaProblem(self.name, "has no bounds", "give bounds = [low, high] in the schema")])
        return np.array([self.bounds[0], *self.edges, self.bounds[1]], dtype=np.float64)

    @property
    def n_codes(self) -> int:
        """Number of codes: categories or bins, and one more for a missing value where it is allowed."""
        base = len(self.categories) if self.categories else len(self.edges) + 1
        return base + int(self.nullable)

    def labels(self) -> tuple[str, ...]:
        """Return the public label of each code; the last is "missing" where the column is nullable."""
        base = self.categories or self._bin_labels()
        return (*base, MISSING) if self.nullable else base

    def codes_of(self, label: str) -> BoolArray:
        """Return which codes a label means, shape (n_codes,): one code, or those of a group of the model's level.

        Raises KeyError if there is no such label.
        """
        labels = self.labels()
        if label in labels:
            return np.asarray(np.arange(self.n_codes) == labels.index(label))
        modelled = self.modelled().labels()
        if label not in modelled:
            raise KeyError(label)
        return np.asarray(self.model_codes() == modelled.index(label))

    def group_labels(self) -> tuple[str, ...]:
        """Return the label under which each category is modelled, shape of `categories`."""
        spec, level = self.hierarchy, self.model_level
        if not level or spec is None:
            return self.categories
        if spec.kind == "prefix":
            longest = max(len(category) for category in self.categories)
            # The schema's reader has checked that a prefix's steps are numbers.
            kept = int(cast("float", spec.steps[level - 1]))
            groups = [category[:kept].ljust(longest, "*") for category in self.categories]
        else:
            row_of = {row[0]: row for row in spec.rows}
            groups = [row_of[category][level] for category in self.categories]
        alone = set(self.refined)
        return tuple(
            category if category in alone else group for category, group in zip(self.categories, groups, strict=True)
        )

    def modelled(self) -> Column:
        """Return the column as generators model it: its groups are the categories. Itself where there are none."""
        if not self.model_level:
            return self
        return replace(
            self,
            categories=tuple(dict.fromkeys(self.group_labels())),
            hierarchy=None,
            model_level=0,
            refined=(),
            weights=(),
        )

    def model_codes(self) -> IntArray:
        """Return the code in `modelled()` of each of the column's codes, shape (n_codes,)."""
        if not self.model_level:
            return np.arange(self.n_codes)
        groups = self.group_labels()
        index = {label: code for code, label in enumerate(dict.fromkeys(groups))}
        codes = [index[label] for label in groups]
        return np.array([*codes, len(index)] if self.nullable else codes, dtype=np.int64)

    def encode(self, values: npt.NDArray[Any]) -> IntArray:
        """Return the code of each value, shape of `values`. Raises SchemaError naming every broken rule."""
        codes, problems = self._codes(values)
        if problems:
            raise SchemaError(problems)
        return codes

    def numbers(self, values: npt.NDArray[Any]) -> FloatArray:
        """Return each value of a binned column as a number (a date: its units), NaN where missing.

        Raises SchemaError naming every broken rule.
        """
        missing = is_missing(values)
        numbers, problems = self._numbers(values[~missing])
        if missing.any() and not self.nullable:
            problems.append(self._problem_missing())
        if problems:
            raise SchemaError(problems)
        out = np.full(values.shape, np.nan)
        out[~missing] = numbers
        return out

    def problems(self, values: npt.NDArray[Any]) -> list[SchemaProblem]:
        """Return what is wrong with the values, without ever naming one."""
        if self.is_coded:
            return self._codes(values)[1]
        missing = is_missing(values)
        problems = [self._problem_missing()] if missing.any() and not self.nullable else []
        if self.kind == "set" and self.role != "identifier":
            problems.extend(self.members(values[~missing])[1])
        return problems

    def members(self, values: npt.NDArray[Any]) -> tuple[list[tuple[int, ...]], list[SchemaProblem]]:
        """Return the codes of each cell's members, ascending and each once, and what is wrong; sets without missing.

        Examples
        --------
        >>> codes = Column("codes", kind="set", categories=("C92", "D46", "E11"))
        >>> codes.members(np.array(["E11;D46", "D46; D46"], dtype=object))
        ([(1, 2), (1,)], [])
        """
        index = {category: code for code, category in enumerate(self.categories)}
        cells = [
            tuple(sorted({index.get(part.strip(), -1) for part in text.split(self.separator) if part.strip()}))
            for text in text_of(values)
        ]
        problems = []
        if any(not cell or cell[0] < 0 for cell in cells):
            rule = f"holds a member that is none of its {len(self.categories)} categories"
            problems.append(self._problem(rule, "recode it, or add the category to the schema (a public decision)"))
        if any(len(cell) > self.max_members for cell in cells):
            rule = f"holds a set of more than {self.max_members} members (max_members)"
            problems.append(self._problem(rule, "keep the leading ones, or raise max_members in the schema"))
        return cells, problems

    def text(self, numbers: Sequence[float] | FloatArray) -> list[str]:
        """Return public numbers of this column as they are written in a schema: ISO texts for a date."""
        if self.kind == "date" and self.resolution is not None:
            return iso_texts(np.asarray(numbers), self.resolution)
        return [f"{number:.12g}" for number in numbers]

    def _bin_labels(self) -> tuple[str, ...]:
        edges = self.bin_edges
        if self.kind == "continuous" or not (self.kind == "integer" or self.resolution is not None):
            return tuple(f"{low:.12g} to {high:.12g}" for low, high in pairwise(edges))
        # The last bin is closed: the upper bound belongs to it.
        ends = [*(int(high) - 1 for high in edges[1:-1]), int(edges[-1])]
        starts = [int(low) for low in edges[:-1]]
        if self.kind == "integer":
            return tuple(_integer_label(low, high) for low, high in zip(starts, ends, strict=True))
        return tuple(
            low if low == high else f"{low} to {high}"
            for low, high in zip(self.text(starts), self.text(ends), strict=True)
        )

    def _codes(self, values: npt.NDArray[Any]) -> tuple[IntArray, list[SchemaProblem]]:
        problems: list[SchemaProblem] = []
        missing = is_missing(values)
        if missing.any() and not self.nullable:
            problems.append(self._problem_missing())
        codes = np.full(values.shape, self.n_codes - 1, dtype=np.int64)
        present = values[~missing]
        if self.categories:
            found = self._category_codes(present)
            if (found < 0).any():
                allowed = ", ".join(self.categories[:12]) + (", ..." if len(self.categories) > 12 else "")
                problems.append(
                    self._problem(
                        f"holds a value that is none of its {len(self.categories)} categories ({allowed})",
                        "recode it, or add the category to the schema (a public decision, not read from the data)",
                    )
                )
            codes[~missing] = found
            return codes, problems
        numbers, problem = self._numbers(present)
        problems.extend(problem)
        if not problem:
            # The last bin is closed: the upper bound belongs to it.
            codes[~missing] = np.searchsorted(self.bin_edges[1:-1], numbers, side="right")
        return codes, problems

    def _category_codes(self, present: npt.NDArray[Any]) -> IntArray:
        """Return the code of each value, -1 where it is no category."""
        index = {category: code for code, category in enumerate(self.categories)}
        if present.dtype.kind in "iu" and present.size:
            low, high = int(present.min()), int(present.max())
            if high - low < _SHORT_RANGE and -(1 << 62) < low < 1 << 62:
                # One look-up for each number of the range instead of one for each row.
                codes = self._category_codes(np.array(range(low, high + 1), dtype=object))
                return codes[present.astype(np.int64) - low]
        return np.array([index.get(text, -1) for text in text_of(present)], dtype=np.int64)

    def _numbers(self, present: npt.NDArray[Any]) -> tuple[FloatArray, list[SchemaProblem]]:
        low, high = self.bin_edges[[0, -1]]
        try:
            numbers = self._as_float(present)
        except (TypeError, ValueError, OverflowError):
            rule, way_out = (
                ("must hold days or times without a time zone", "write dates as YYYY-MM-DD")
                if self.kind == "date"
                else (f"must hold numbers (kind {self.kind})", "check the decimal sign (a point), separators and units")
            )
            return np.empty(0), [self._problem(rule, way_out)]
        out: list[SchemaProblem] = []
        # NaN was taken as missing; infinities fail the bounds.
        if not ((numbers >= low) & (numbers <= high)).all():
            span = ", ".join(self.text([low, high]) if self.kind == "date" else (f"{low:g}", f"{high:g}"))
            out.append(
                self._problem(
                    f"holds a value outside its bounds [{span}]",
                    "correct or cap it before loading, or widen the bounds in the schema (a public decision)",
                )
            )
        elif self.kind == "integer" and (numbers != np.floor(numbers)).any():
            out.append(self._problem("must hold whole numbers", "round it, or make its kind continuous"))
        return numbers, out

    def _as_float(self, present: npt.NDArray[Any]) -> FloatArray:
        if self.kind == "date" and self.resolution is not None:
            return to_units(present, self.resolution).astype(np.float64)
        return present.astype(np.float64)

    def _problem(self, rule: str, way_out: str) -> SchemaProblem:
        return SchemaProblem(self.name, rule, way_out)

    def _problem_missing(self) -> SchemaProblem:
        return self._problem("holds a missing value, but is not nullable", "fill it in, or set nullable = true")


def _integer_label(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def column_dict(column: Column) -> dict[str, Any]:
    """Return the column as plain data; what has its default and is newer than the first schemas is left out."""
    out: dict[str, Any] = {"role": column.role, "kind": column.kind}
    if column.categories:
        out["categories"] = list(column.categories)
    dated = column.kind == "date" and column.resolution is not None
    if column.bounds is not None:
        out["bounds"] = column.text(column.bounds) if dated else [_plain(value) for value in column.bounds]
    if column.edges:
        out["edges"] = column.text(column.edges) if dated else [_plain(value) for value in column.edges]
    out["nullable"] = column.nullable
    if column.decimals is not None:
        out["decimals"] = column.decimals
    if dated:
        out["resolution"] = column.resolution
    if column.dtype != "datetime64":
        out["dtype"] = column.dtype
    if column.model_level:
        out["model_level"] = column.model_level
    if column.refined:
        out["refined"] = list(column.refined)
    if column.weights:
        out["weights"] = [_plain(value) for value in column.weights]
    if column.missing != "own_value":
        out["missing"] = column.missing
    if column.kind == "set":
        out["separator"] = column.separator
        out["max_members"] = column.max_members
    if column.allow_text:
        out["allow_text"] = True
    if column.hierarchy is not None:
        out["hierarchy"] = column.hierarchy.to_dict()
    return out


def _plain(value: float | str) -> float | int | str:
    return int(value) if isinstance(value, float) and value.is_integer() else value
