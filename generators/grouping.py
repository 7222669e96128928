"""Codes of a column counted together, as groups.

group      array of shape (n_codes,): code -> number of its group, 0 .. n_groups - 1, each group holding some code
groups     column -> group, for the columns whose codes are merged; public, from the schema or from released counts

Merging is a linear map of counts in which one row stays one row, so no sensitivity changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.domain import Domain
from generators.errors import DomainMismatch

Group = npt.NDArray[np.int64]
Groups = Mapping[str, Group]


def check_groups(groups: Mapping[str, Any] | None, domain: Domain) -> dict[str, Group]:
    """Return the groups as integer arrays, columns that merge nothing left out. Raises DomainMismatch, UnknownColumn.

    Examples
    --------
    >>> check_groups({"age": [0, 0, 1], "sex": [0, 1]}, Domain(("sex", "age"), (2, 3)))
    {'age': array([0, 0, 1])}
    """
    out: dict[str, Group] = {}
    for name, given in (groups or {}).items():
        group = np.asarray(given)
        if group.shape != (domain[name],) or not np.issubdtype(group.dtype, np.integer):
            raise DomainMismatch(f"the group of {name!r} must give an integer for each of its codes")
        n_groups = int(group.max()) + 1
        # Sizes before arrays: numbers may come from a file.
        if int(group.min()) < 0 or n_groups > len(group) or len(np.unique(group)) < n_groups:
            raise DomainMismatch(f"the groups of {name!r} must be numbered 0, 1, ..., each holding some code")
        if n_groups < len(group) or (group != np.arange(n_groups)).any():
            out[name] = group.astype(np.int64)
    return out


def coarse_domain(domain: Domain, groups: Groups) -> Domain:
    """Return the domain with groups in place of codes.

    Examples
    --------
    >>> coarse_domain(Domain(("sex", "age"), (2, 3)), {"age": np.array([0, 0, 1])}).n_codes
    (2, 2)
    """
    sizes = (int(groups[name].max()) + 1 if name in groups else size for name, size in domain.items())
    return Domain(domain.columns, tuple(sizes))


def merge_codes(values: npt.NDArray[Any], columns: Sequence[str], groups: Groups) -> npt.NDArray[Any]:
    """Return the sums over the codes of each group, along every axis whose column has groups.

    Parameters
    ----------
    values
        One axis for each column.
    columns
        Names of the axes.
    groups
        As `check_groups` returns them.

    Examples
    --------
    >>> merge_codes(np.array([[1, 2, 3], [4, 5, 6]]), ("sex", "age"), {"age": np.array([1, 0, 1])})
    array([[ 2,  4],
           [ 5, 10]])
    """
    for axis, name in enumerate(columns):
        if name in groups:
            order = np.argsort(groups[name], kind="stable")
            starts = np.searchsorted(groups[name][order], np.arange(int(groups[name].max()) + 1))
            values = np.add.reduceat(np.take(values, order, axis=axis), starts, axis=axis)
    return values
