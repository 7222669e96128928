"""How near a synthetic table is to a real one: distances of their marginals.

Computed on real rows, these numbers are INTERNAL: no noise hides a patient in them, and similarity scores have been
used to reconstruct records (Ganev, De Cristofaro 2023, arXiv:2312.05114). They stay at the site that holds the rows.

L1_k       mean over all k-way marginals of sum |p - q|, in [0, 2] (not halved): the workload error of the AIM paper,
           McKenna, Mullins, Sheldon, Miklau 2022, arXiv:2201.12677
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.domain import Clique, Domain, one_way_cliques, two_way_cliques
from generators.encoding import encode
from generators.errors import DomainMismatch
from generators.marginals import MAX_CELLS, Codes, count_marginal
from privacy import Schema
from privacy._checks import check_count

# Up to so many cells a dense table is counted faster than a sparse one, however few rows there are.
_SMALL_TABLE = 1 << 20


@dataclass(frozen=True, slots=True)
class MarginalComparison:
    """L1 distances between two tables' marginals, each in [0, 2]. Internal if either table is real."""

    one_way: dict[str, float]
    two_way: dict[tuple[str, str], float]

    @property
    def mean_one_way(self) -> float:
        """Mean over columns."""
        return float(np.mean(list(self.one_way.values())))

    @property
    def mean_two_way(self) -> float:
        """Mean over pairs of columns; 0 if there is none."""
        return float(np.mean(list(self.two_way.values()))) if self.two_way else 0.0


def compare_marginals(a: pd.DataFrame, b: pd.DataFrame, schema: Schema) -> MarginalComparison:
    """Return the L1 distance of every 1-way and 2-way marginal, in the schema's codes. INTERNAL on real rows.

    Raises SchemaError if a table does not fit the schema.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
    >>> a, b = pd.DataFrame({"sex": ["F", "M"]}), pd.DataFrame({"sex": ["F", "F"]})
    >>> compare_marginals(a, b, schema).one_way
    {'sex': 1.0}
    """
    domain = Domain.from_schema(schema)
    first, second = encode(a, schema), encode(b, schema)
    pairs = two_way_cliques(domain)
    return MarginalComparison(
        one_way=dict(zip(domain, distances(first, [second], domain, one_way_cliques(domain))[0].tolist(), strict=True)),
        two_way={
            (pair[0], pair[1]): value
            for pair, value in zip(pairs, distances(first, [second], domain, pairs)[0].tolist(), strict=True)
        },
    )


def workload_error(a: Codes, b: Codes, domain: Domain, *, order: int = 3) -> float:
    """Return L1_k for k = `order`: the mean over all marginals of that many columns. INTERNAL on real rows.

    Parameters
    ----------
    a, b
        Codes, shape (n_rows, n_columns) each; the numbers of rows may differ.
    domain
        Columns and sizes.
    order
        Columns of each marginal, 1 <= order <= number of columns.
    """
    check_count("order", order)
    if order > len(domain):
        raise DomainMismatch(f"order must be at most the number of columns ({len(domain)})")
    return float(distances(a, [b], domain, tuple(itertools.combinations(domain.columns, order))).mean())


def distances(
    real: Codes, others: Sequence[Codes], domain: Domain, cliques: Sequence[Clique]
) -> npt.NDArray[np.float64]:
    """Return the L1 distance of each clique's marginal from the real one's, shape (n_others, n_cliques)."""
    if not len(real) or not all(len(other) for other in others):
        raise DomainMismatch("every table needs at least one row")
    out = np.empty((len(others), len(cliques)))
    for i, clique in enumerate(cliques):
        out[:, i] = _distances(real, others, domain, clique)
    return out


def some_cliques(domain: Domain, order: int, *, at_most: int, rng: np.random.Generator) -> tuple[Clique, ...]:
    """Return all cliques of that many columns, or a simple random sample of them if there are more than `at_most`."""
    n_cliques = math.comb(len(domain), order)
    if n_cliques <= at_most:
        return tuple(itertools.combinations(domain.columns, order))
    chosen: set[tuple[int, ...]] = set()
    while len(chosen) < at_most:
        chosen.add(tuple(sorted(rng.choice(len(domain), order, replace=False).tolist())))
    return tuple(tuple(domain.columns[i] for i in positions) for positions in sorted(chosen))


def _distances(real: Codes, others: Sequence[Codes], domain: Domain, clique: Clique) -> list[float]:
    if domain.cells(clique) > min(max(_SMALL_TABLE, 4 * len(real)), MAX_CELLS):
        return _sparse_distances(real, others, domain, clique)
    p = count_marginal(real, domain, clique) / len(real)
    return [float(np.abs(p - count_marginal(other, domain, clique) / len(other)).sum()) for other in others]


def _sparse_distances(real: Codes, others: Sequence[Codes], domain: Domain, clique: Clique) -> list[float]:
    """Return the same from the cells that hold rows: most of a large marginal's cells are empty."""
    out = []
    cells, counts = cells_of(real, domain, clique)
    for other in others:
        there, there_counts = cells_of(other, domain, clique)
        everywhere, position = np.unique(np.concatenate([cells, there]), return_inverse=True)
        shares = np.concatenate([counts / len(real), -there_counts / len(other)])
        out.append(float(np.abs(np.bincount(position, weights=shares, minlength=everywhere.size)).sum()))
    return out


def cells_of(codes: Codes, domain: Domain, clique: Clique) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the cells of a marginal that hold rows, as ascending numbers, and their counts: for large marginals."""
    if domain.cells(clique) > np.iinfo(np.int64).max:
        raise DomainMismatch(f"the marginal of {', '.join(clique)} has more cells than can be numbered")
    index = np.zeros(len(codes), dtype=np.int64)
    for name in clique:
        index = index * domain[name] + codes[:, domain.position(name)]
    cells, counts = np.unique(index, return_counts=True)
    return cells, counts
