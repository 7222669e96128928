"""MST: a tree of the strongest 2-way marginals, chosen privately.

d      number of columns
rho    the budget, in thirds: 1-way marginals; selection of edges; the edges' 2-way marginals

Source: McKenna, Miklau, Sheldon 2021, arXiv:2108.04978, Algorithm 1 and section 3. The selection is a private
Kruskal algorithm: d - 1 exponential mechanisms over the pairs that would not close a cycle, each scored by the L1
distance of the pair's marginal to what independence predicts.

Rare codes are merged before edges are chosen and measured (`compression`), except in columns of pairs that public
knowledge joins: there, rules and survival times speak of single codes. The measured edges are then shrunk towards
independence as far as their noise would explain them (`shrinkage`), which is post-processing. What the two are worth,
measured: docs/generators/mst.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

from generators.compression import merge_evidence, rare_groups
from generators.domain import Domain, one_way_cliques, two_way_cliques
from generators.factor import FloatArray
from generators.forest import Components, Edge
from generators.grouping import coarse_domain
from generators.inference import Evidence, estimate_total, merge, on_simplex
from generators.mechanism import Findings, ForestMechanism
from generators.oracle import MarginalOracle
from generators.shrinkage import shrink_edges

# Prices are sums of floats that accountants round upwards; so much of the budget is left to them.
_GUARD = 1 - 1e-10


class MST(ForestMechanism):
    """Maximum spanning tree, as in its paper, for an oracle that can select.

    Pairs that the schema knows to belong together are edges from the start, without selection.

    Examples
    --------
    >>> import pandas as pd
    >>> from privacy import Schema
    >>> schema = Schema.from_dict({
    ...     "columns": {"sex": {"categories": ["F", "M"]}, "event": {"categories": ["0", "1"]}}})
    >>> frame = pd.DataFrame({"sex": ["F", "M"] * 500, "event": ["0", "1"] * 500})
    >>> model = MST(epsilon=10.0, delta=1e-9).fit(frame, schema)
    >>> model.edges, [type(event).__name__ for event in model.events]
    ((('sex', 'event'),), ['DiscreteGaussian', 'ExponentialMechanism', 'DiscreteGaussian'])
    """

    name: ClassVar[str] = "mst"

    def _explore(self, oracle: MarginalOracle, known: Sequence[Edge]) -> Findings:
        domain = oracle.domain
        n_selections = len(domain) - 1 - len(known)
        n_parts = 1 + (n_selections > 0) + (len(domain) > 1)
        part = self.rho * _GUARD / n_parts
        measured = oracle.measure(one_way_cliques(domain), rho=part)
        whole = merge(measured, domain)
        groups = rare_groups(whole.values(), domain, spared={name for edge in known for name in edge})
        coarse = coarse_domain(domain, groups)
        evidence = [merge_evidence(single, groups) for single in whole.values()]
        edges = list(known)
        if n_selections:
            estimates = independent_pairs(evidence, coarse)
            components = Components(domain.columns)
            for first, second in known:
                components.join(first, second)
            # arXiv:2004.07223: one exponential mechanism costs epsilon^2 / 8.
            epsilon = math.sqrt(8 * part / n_selections) * _GUARD
            for _ in range(n_selections):
                candidates = [pair for pair in estimates if not components.together(*pair)]
                predicted = [estimates[pair] for pair in candidates]
                chosen = candidates[oracle.select(candidates, predicted, epsilon=epsilon, groups=groups)]
                edges.append(chosen)
                components.join(*chosen)
        if edges:
            pairs = oracle.measure(edges, rho=part, groups=groups)
            measured = [*measured, *pairs]
            evidence += merge(pairs, coarse).values()
        return Findings(
            edges=tuple(edges),
            measurements=tuple(measured),
            evidence=shrink_edges(evidence, coarse),
            groups=groups,
            whole=tuple(whole[(name,)] for name in groups),
        )


def independent_pairs(singles: Iterable[Evidence], domain: Domain) -> dict[Edge, FloatArray]:
    """Return for each pair the counts that independence of its columns predicts."""
    evidence = {part.columns: part for part in singles}
    total = estimate_total(evidence.values())
    counts = {name: on_simplex(evidence[(name,)].values, total) for name in domain}
    return {(pair[0], pair[1]): np.outer(counts[pair[0]], counts[pair[1]]) / total for pair in two_way_cliques(domain)}
