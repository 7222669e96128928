"""How near a synthetic table is to a real one: distances of marginals.

Computed on real rows, these numbers are INTERNAL: no noise hides a patient in them, and similarity scores have been
used to reconstruct records (Ganev, De Cristofaro 2023, arXiv:2312.05114). They stay at the site that holds the rows.

L1_k       mean over all k-way marginals of sum |p - q|, in [0, 2] (not halved): the workload error of the AIM paper,
           McKenna, Mullins, Sheldon, Miklau 2022, arXiv:2201.12677
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from generators.domain import Clique, Domain
from generators.encoding import encode
from generators.errors import DomainMismatch
from generators.marginals import Codes, count_marginal
from privacy import Schema
from privacy._checks import check_count


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
    return MarginalComparison(
        one_way={name: _distance(first, second, domain, (name,)) for name in domain},
        two_way={
            (one, two): _distance(first, second, domain, (one, two))
            for one, two in itertools.combinations(domain.columns, 2)
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
    return float(np.mean([_distance(a, b, domain, clique) for clique in itertools.combinations(domain.columns, order)]))


def _distance(a: Codes, b: Codes, domain: Domain, clique: Clique) -> float:
    if not len(a) or not len(b):
        raise DomainMismatch("both tables need at least one row")
    p = count_marginal(a, domain, clique) / len(a)
    q = count_marginal(b, domain, clique) / len(b)
    return float(np.abs(p - q).sum())
