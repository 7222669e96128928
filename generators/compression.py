"""Compression: rare codes are counted as one group, which costs one noise instead of many, and are told apart again.

group      code -> number of its group (`grouping`)
share      code -> the part that it has in its group; sums to one in each group

Codes whose 1-way count is below three standard deviations of its noise become one group (the paper's threshold). What
is fitted is the table of groups. Then the codes of a group are taken to differ from each other in nothing but their
share: each marginal P(A, B) over groups becomes P(group of a, group of b) share(a) share(b) over codes. Marginals that
agreed over groups still agree over codes, so this is one distribution, of the same tree; no rare code vanishes from it.

Source: McKenna, Miklau, Sheldon 2021, arXiv:2108.04978, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.domain import Clique, Domain
from generators.factor import FloatArray
from generators.grouping import Group, Groups, check_groups, merge_codes
from generators.inference import Evidence, on_simplex
from generators.propagation import CliqueMarginals

BoolArray = npt.NDArray[np.bool_]


def merge_rare(values: npt.NDArray[Any], threshold: float) -> Group:
    """Return a group of all codes whose count lies below the threshold, and one for each of the others.

    Examples
    --------
    >>> merge_rare(np.array([40, 2, 30, -1]), 10.0)
    array([0, 2, 1, 2])
    """
    rare = np.asarray(values) < threshold
    group = np.where(rare, 0, np.cumsum(~rare) - 1)
    group[rare] = int((~rare).sum())
    return group


def rare_groups(singles: Iterable[Evidence], domain: Domain, *, spared: Container[str]) -> dict[str, Group]:
    """Return the groups that merge each column's rare codes: those below three standard deviations of their noise.

    Columns in `spared` are left alone: rules and survival times speak of their single codes.
    """
    return check_groups(
        {
            name: merge_rare(part.values, 3 * math.sqrt(float(np.max(part.variance))))
            for part in singles
            for name in part.columns
            if name not in spared
        },
        domain,
    )


def shares_of(
    values: FloatArray, variance: float, group: Group, counts: FloatArray, possible: npt.NDArray[np.bool_]
) -> FloatArray:
    """Return the part that each code has in its group, from noisy counts of the codes.

    Within a group, counts are moved towards equal shares as far as their noise would explain the differences (James,
    Stein 1961, positive part), then to the nearest non-negative ones with the group's sum.

    Parameters
    ----------
    values, variance
        Noisy counts of the codes, shape (n_codes,), and the variance of their noise.
    group
        Group of each code.
    counts
        What the groups' counts are taken to be, shape (n_groups,).
    possible
        False at codes that cannot occur: their share is zero, unless that of the whole group is.
    """
    share = np.ones(len(values))
    for k, count in enumerate(counts):
        members = np.flatnonzero((group == k) & possible)
        others = np.flatnonzero((group == k) & ~possible)
        if not members.size:
            members, others = others, members
        share[others] = 0.0
        mean = max(float(count), 1e-9) / members.size
        distance = values[members] - mean
        squared = float(np.square(distance).sum())
        kept = max(0.0, 1 - variance * (members.size - 1) / squared) if squared > 0 else 0.0
        share[members] = on_simplex(mean + kept * distance, mean * members.size) / (mean * members.size)
    return share


def merge_evidence(part: Evidence, groups: Groups) -> Evidence:
    """Return what the evidence tells about groups: a group of k codes has k times the variance of one.

    Examples
    --------
    >>> merge_evidence(Evidence(("age",), np.array([5.0, 1.0, 2.0]), 4.0), {"age": np.array([0, 1, 1])})
    Evidence(columns=('age',), values=array([5., 3.]), variance=array([4., 8.]))
    """
    if not any(name in groups for name in part.columns):
        return part
    variance = merge_codes(part.cell_variance, part.columns, groups)
    return Evidence(part.columns, merge_codes(part.values, part.columns, groups), variance)


def merge_zeros(zeros: Mapping[Clique, BoolArray], groups: Groups) -> dict[Clique, BoolArray]:
    """Return the structural zeros of groups: a combination of groups is impossible if all of its codes are."""
    return {
        clique: merge_codes((~impossible).astype(np.int64), clique, groups) == 0 for clique, impossible in zeros.items()
    }


def told_apart(
    marginals: CliqueMarginals,
    total: float,
    domain: Domain,
    groups: Groups,
    whole: Sequence[Evidence],
    zeros: Mapping[Clique, BoolArray],
) -> CliqueMarginals:
    """Return a distribution of groups as one of codes.

    Parameters
    ----------
    marginals, total
        The distribution over the domain of groups, and the number of rows.
    domain
        The domain of codes.
    groups
        Columns whose codes are merged. No column of a larger clique that has structural zeros may be among them.
    whole
        1-way evidence over all codes, for each of those columns.
    zeros
        Structural zeros over codes.
    """
    if not groups:
        return marginals
    shares = {}
    for part in whole:
        (name,) = part.columns
        counts = total * marginals.project(part.columns)
        possible = ~zeros[part.columns] if part.columns in zeros else np.ones(domain[name], dtype=bool)
        shares[name] = shares_of(part.values, float(np.mean(part.variance)), groups[name], counts, possible)
    tree = replace(marginals.tree, domain=domain)
    tables = tuple(
        tell_apart(table, clique, groups, shares) for table, clique in zip(marginals.cliques, tree.cliques, strict=True)
    )
    return CliqueMarginals(tree, tables, marginals.log_z)


def tell_apart(
    marginal: FloatArray, columns: Sequence[str], groups: Groups, shares: Mapping[str, FloatArray]
) -> FloatArray:
    """Return a marginal over groups as one over codes.

    Examples
    --------
    >>> group, share = {"age": np.array([0, 1, 1])}, {"age": np.array([1.0, 0.25, 0.75])}
    >>> tell_apart(np.array([[0.4, 0.2], [0.0, 0.4]]), ("sex", "age"), group, share)
    array([[0.4 , 0.05, 0.15],
           [0.  , 0.1 , 0.3 ]])
    """
    for axis, name in enumerate(columns):
        if name in groups:
            along = [1] * marginal.ndim
            along[axis] = -1
            marginal = np.take(marginal, groups[name], axis=axis) * shares[name].reshape(along)
    return marginal
