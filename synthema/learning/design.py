"""The design of a regression: what its covariates and its outcome are, from the public schema alone.

Every term of the design is scaled by public bounds, so that each entry is in [-1, 1] whatever the rows hold:

    a number       (value - centre) / scale, with the middle and half the length of its column's bounds
    categories     one term a category but the first: 1 for its patients, 0 for others

What is fitted on this scale is given back in the columns' own units (`Design.back`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema

Floats = npt.NDArray[np.float64]
Column = npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Design:
    """Public shape of the model: one term per numeric covariate, one per category but the first.

    terms     (column, category or "") of each coefficient after the intercept
    centre    subtracted from each term's raw value, shape (p,), 0 for the intercept
    scale     divides it, shape (p,), 1 for the intercept
    """

    terms: tuple[tuple[str, str], ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients, the intercept included."""
        return len(self.terms) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each coefficient, the intercept first."""
        return ("intercept", *(f"{name} = {category}" if category else name for name, category in self.terms))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Indices of the coefficients whose terms are numbers, as the intercept's is 0."""
        return tuple(j for j, (_, category) in enumerate(self.terms, start=1) if not category)

    @property
    def back(self) -> Floats:
        """Matrix that takes coefficients of scaled terms to those of raw ones, shape (p, p)."""
        # beta' x_scaled = (beta / scale)' x + intercept - sum(beta centre / scale)
        out = np.diag(1 / np.array(self.scale))
        out[0, 1:] = -np.array(self.centre[1:]) / np.array(self.scale[1:])
        return out

    def reach(self, beta: Floats) -> tuple[float, float]:
        """Return the least and the greatest value of beta'x for any patient that the schema allows.

        Examples
        --------
        >>> design = Design((("age", ""), ("arm", "B"), ("arm", "C")), (0, 55, 0, 0), (1, 55, 1, 1))
        >>> design.reach(np.array([1.0, -0.5, 2.0, 3.0]))
        (0.5, 4.5)
        """
        low = high = float(beta[0])
        of_column: dict[str, list[float]] = {}
        for (name, category), each in zip(self.terms, beta[1:].tolist(), strict=True):
            if category:
                of_column.setdefault(name, [0.0]).append(each)
            else:
                low, high = low - abs(each), high + abs(each)
        for values in of_column.values():
            low, high = low + min(values), high + max(values)
        return low, high


def design_of(schema: Schema, covariates: Sequence[str]) -> Design:
    """Return the model's public shape from the schema alone."""
    terms: list[tuple[str, str]] = []
    centre, scale = [0.0], [1.0]
    for name in covariates:
        column = schema.column(name)
        if column.categories:
            terms.extend((name, category) for category in column.categories[1:])
            centre.extend(0.0 for _ in column.categories[1:])
            scale.extend(1.0 for _ in column.categories[1:])
        else:
            low, high = column.bin_edges[[0, -1]]
            terms.append((name, ""))
            centre.append(float(low + high) / 2)
            scale.append(float(high - low) / 2)
    return Design(terms=tuple(terms), centre=tuple(centre), scale=tuple(scale))


def encoded(schema: Schema, rows: pd.DataFrame, names: Sequence[str]) -> dict[str, Column]:
    """Return the columns of these names as a model reads them: codes of categories, numbers of others, shape (n,) each.

    Raises SchemaError if a value is none of the column's.
    """
    return {name: _codes(schema, rows[name]) for name in names}


def matrix(columns: Mapping[str, Column], schema: Schema, design: Design) -> Floats:
    """Return the scaled design matrix of `encoded` columns, shape (n, p), entries in [-1, 1], columns contiguous."""
    n = len(next(iter(columns.values())))
    out = np.ones((design.n_coefficients, n))
    for j, (name, category) in enumerate(design.terms, start=1):
        if category:
            np.equal(columns[name], schema.column(name).categories.index(category), out=out[j])
        else:
            np.subtract(columns[name], design.centre[j], out=out[j])
            out[j] /= design.scale[j]
    return out.T


def design_matrix(columns: Mapping[str, npt.NDArray[Any]], schema: Schema, design: Design) -> Floats:
    """Return the scaled design matrix of raw columns, shape (n, p), every entry in [-1, 1]."""
    read = {
        name: schema.column(name).encode(values) if schema.column(name).categories else values.astype(np.float64)
        for name, values in columns.items()
    }
    return matrix(read, schema, design)


def _codes(schema: Schema, values: pd.Series[Any]) -> Column:
    column = schema.column(str(values.name))
    if not column.categories:
        return column.numbers(values.to_numpy())
    codes, distinct = values.factorize()
    if (codes < 0).any():
        # Missing values: the column says whether it has a code for them.
        return column.encode(values.to_numpy())
    # Each distinct value is read once: equal values have the same code.
    found: npt.NDArray[np.int64] = column.encode(np.asarray(distinct, dtype=object))[codes]
    return found
