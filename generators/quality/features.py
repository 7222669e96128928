"""Codes as a few numbers for a regression: each column in a handful of groups, one indicator each, and products.

group      consecutive codes of about equal share for an ordered column; each frequent category, and the rest, for one
           without order; a missing value is its own group where at least one row in a hundred has it
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.domain import Domain
from generators.marginals import Codes, count_marginal
from privacy.schema import Column

FloatArray = npt.NDArray[np.float64]
_RARE = 0.01


@dataclass(frozen=True, slots=True)
class Groups:
    """For each column the group of every code, and how many groups there are; group 0 is the most frequent one."""

    of_code: tuple[npt.NDArray[np.uint8], ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, codes: Codes, domain: Domain, columns: Mapping[str, Column], *, at_most: int) -> Groups:
        """Choose groups by the frequencies of these rows, at most so many per column (and one for missing)."""
        maps = []
        for name in domain:
            counts = count_marginal(codes, domain, (name,))
            column = columns[name]
            maps.append(_group(counts, ordered=is_ordered(column), nullable=column.nullable, most=at_most))
        return cls(tuple(maps), tuple(int(each.max()) + 1 for each in maps))

    def apply(self, codes: Codes) -> npt.NDArray[np.uint8]:
        """Return the groups, shape of `codes`, column by column in memory."""
        out = np.empty(codes.shape, dtype=np.uint8, order="F")
        for position, of_code in enumerate(self.of_code):
            out[:, position] = of_code[codes[:, position]]
        return out


def is_ordered(column: Column) -> bool:
    """Whether the column's codes have an order (a missing value aside)."""
    return column.kind != "categorical"


def indicators(groups: npt.NDArray[np.uint8], sizes: Sequence[int], columns: Sequence[int]) -> FloatArray:
    """Return a 1 and, for each column, one indicator for each group but 0; shape (n_rows, 1 + number of indicators)."""
    out = np.empty((len(groups), 1 + sum(sizes[j] - 1 for j in columns)), order="F")
    out[:, 0] = 1
    at = 1
    for j in columns:
        for group in range(1, sizes[j]):
            out[:, at] = groups[:, j] == group
            at += 1
    return out


def products(groups: npt.NDArray[np.uint8], sizes: Sequence[int], pairs: Sequence[tuple[int, int]]) -> FloatArray:
    """Return for each pair of columns the products of their indicators, shape (n_rows, number of products)."""
    out = np.empty((len(groups), sum((sizes[i] - 1) * (sizes[j] - 1) for i, j in pairs)), order="F")
    at = 0
    for i, j in pairs:
        for first, second in itertools.product(range(1, sizes[i]), range(1, sizes[j])):
            out[:, at] = (groups[:, i] == first) & (groups[:, j] == second)
            at += 1
    return out


def _group(counts: npt.NDArray[np.int64], *, ordered: bool, nullable: bool, most: int) -> npt.NDArray[np.uint8]:
    total = max(int(counts.sum()), 1)
    present = counts[:-1] if nullable else counts
    if ordered:
        middle = (np.cumsum(present) - present / 2) / max(int(present.sum()), 1)
        group = np.minimum((middle * most).astype(np.int64), most - 1)
    else:
        frequent = np.argsort(-present, kind="stable")[: most - 1]
        group = np.full(present.size, most - 1, dtype=np.int64)
        group[frequent] = np.arange(frequent.size)
    if nullable:
        alone = counts[-1] >= _RARE * total
        group = np.append(group, most if alone else group[np.argmax(present)] if present.size else 0)
    # Numbered anew by frequency, so that the reference of every comparison is a large group.
    sizes = np.bincount(group, weights=counts, minlength=most + 1)
    order: npt.NDArray[Any] = np.argsort(-sizes, kind="stable")
    rank = np.empty(order.size, dtype=np.uint8)
    rank[order] = np.arange(order.size)
    numbered = rank[group]
    # Groups that no row has come last; they share the number of the last one that some row has.
    used = max(int((sizes > 0).sum()), 1)
    shared: npt.NDArray[np.uint8] = np.minimum(numbered, used - 1).astype(np.uint8)
    return shared
