"""Independent columns: the whole budget on 1-way marginals. At very small budgets nothing does better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from generators.domain import one_way_cliques
from generators.forest import Edge
from generators.inference import merge
from generators.mechanism import Findings, ForestMechanism
from generators.oracle import MarginalOracle


class Independent(ForestMechanism):
    """Measures all 1-way marginals together and joins nothing, except pairs that the schema knows to belong together.

    Those pairs (survival time and event, rules on two columns) are measured in the same release.

    Examples
    --------
    >>> import pandas as pd
    >>> from privacy import Schema
    >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
    >>> model = Independent(epsilon=1.0, delta=1e-9).fit(pd.DataFrame({"sex": ["F", "M"] * 500}), schema)
    >>> model.sample(10)["sex"].isin(["F", "M"]).all()
    np.True_
    """

    name: ClassVar[str] = "independent"

    def _explore(self, oracle: MarginalOracle, known: Sequence[Edge]) -> Findings:
        cliques = (*one_way_cliques(oracle.domain), *known)
        measurements = oracle.measure(cliques, rho=self.rho)
        return Findings(tuple(known), tuple(measurements), tuple(merge(measurements, oracle.domain).values()))
