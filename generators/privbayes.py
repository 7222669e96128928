"""PrivBayes: a Bayesian network of few parents, chosen privately, one noisy marginal for each family.

X, P       a column and its parents, columns of the network so far; k most parents
c(X, P)    private counts of their joint marginal, s noise standard deviation of a family's counts
e(X, P)    what the released values predict if X does not depend on P: the network's own counts of P times the 1-way
           frequencies of X; public
n          noisy number of rows

Source: Zhang, Cormode, Procopiuc, Srivastava, Xiao 2017, ACM TODS 42:25: grow a network column by column, each time
choosing (X, P) by the exponential mechanism; then measure the families; a family is useful if its n / cells is at
least `usefulness` times the noise (their theta). Three things differ, and each keeps the guarantee easy to see.

1. Score. The paper's R(X, P) = || p(X, P) - p(X) p(P) ||_1 / 2 has both sides private: normalised by n its sensitivity
   is 3 / n + 2 / n^2, and n itself must be known; in counts, its change by one row is n / (n + 1) times
   (d_x - p(X)) (d_P - p(P)), of L1 norm up to 4. Here the product is taken from released values, the score is

       || c(X, P) - e(X, P) ||_1 - sqrt(2 / pi) s cells(X, P),

   and e, s and cells are public. Proof of its sensitivity: adding or removing one row changes one cell of c by one,
   so by the triangle inequality the score changes by at most 1 (a patient of at most m rows: m). Replacing a row
   changes two cells by one, or none: at most 2 (2 m). No logarithm, no n, no denominator that a row could make small.
   (Mutual information over entropies, which implementations use, has sensitivity 1: on a table of constant columns one
   row takes it from 0 to 1.) What the noise alone would add is subtracted, so a large family must show more.
2. Order. A family is measured as soon as it is chosen, and e is computed from the families measured before, so the
   score asks what the network does not know yet.
3. Parents are columns of one family of the network so far. The moral graph is then triangulated already: the network
   is a junction tree, so marginals and conditions are exact, at the cost of some parent sets.

Rare codes are merged (`compression`), families shrunk towards independence of X and P (`shrinkage`), then fitted to
the parents' counts and the pooled 1-way counts of X: all post-processing. Measured: docs/generators/privbayes.md.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Unpack

import numpy as np

from generators.compression import merge_evidence, merge_zeros, rare_groups, told_apart
from generators.domain import one_way_cliques
from generators.grouping import coarse_domain
from generators.inference import Evidence, merge
from generators.junction_tree import JunctionTree
from generators.mechanism import Learned, Mechanism, Options
from generators.network import Network
from generators.oracle import MarginalOracle, Measurement
from generators.rules import known_cliques, structural_zeros
from privacy import Schema
from privacy._checks import check_count

_GUARD = 1 - 1e-10

# Parts of the budget: 1-way marginals, selections; the rest is for the families. Measured on Adult, flchain and
# LeukSurv: selections need little, because their scores differ by thousands of rows where it matters.
_SINGLES, _SELECTION = 1 / 3, 0.1


class PrivBayes(Mechanism):
    """Bayesian network of bounded degree, for an oracle that can select.

    Parameters
    ----------
    degree
        Most parents of a column, >= 1.
    usefulness
        A family is considered if its rows per cell are at least this many noise standard deviations, >= 0.
    epsilon, delta, rho, neighbours, max_records_per_patient, keep
        As for `Mechanism`.

    Examples
    --------
    >>> import pandas as pd
    >>> schema = Schema.from_dict({"columns": {name: {"categories": ["0", "1"]} for name in "abc"}})
    >>> frame = pd.DataFrame({"a": ["0", "1"] * 500, "b": ["0", "1"] * 500, "c": ["0", "0", "1", "1"] * 250})
    >>> model = PrivBayes(epsilon=10.0, delta=1e-9).fit(frame, schema)
    >>> ("a", "b") in model.edges
    True
    """

    name: ClassVar[str] = "privbayes"

    def __init__(
        self,
        *,
        degree: int = 2,
        usefulness: float = 1.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        check_count("degree", degree)
        if not usefulness >= 0:
            raise ValueError(f"usefulness must be >= 0, got {usefulness!r}")
        self.degree = degree
        self.usefulness = usefulness

    def _learn(self, oracle: MarginalOracle, schema: Schema) -> Learned:
        domain = oracle.domain
        known = JunctionTree.build(domain, known_cliques(schema))
        joined = [i for i in known.order if len(known.cliques[i]) > 1]
        n_selections = known.parent.count(-1) - 1
        n_families = len(joined) + n_selections
        # What is not needed for selections or families goes to the rest.
        parts = (_SINGLES, _SELECTION * (n_selections > 0), (1 - _SINGLES - _SELECTION) * (n_families > 0))
        singles_rho, selections_rho, families_rho = (self.rho * _GUARD * part / sum(parts) for part in parts)

        measured = oracle.measure(one_way_cliques(domain), rho=singles_rho)
        whole = merge(measured, domain)
        groups = rare_groups(whole.values(), domain, spared={name for i in joined for name in known.cliques[i]})
        coarse = coarse_domain(domain, groups)
        zeros = structural_zeros(schema)
        network = Network(
            coarse,
            [merge_evidence(part, groups) for part in whole.values()],
            replace(known, domain=coarse),
            merge_zeros(zeros, groups),
        )
        if joined:
            cliques = [known.cliques[i] for i in joined]
            answers = oracle.measure(cliques, rho=families_rho * len(joined) / n_families, groups=groups)
            measured = [*measured, *answers]
            for i, answer in zip(joined, answers, strict=True):
                network.add(_evidence(answer), known.separators[i])
        if n_selections:
            # arXiv:2004.07223: one exponential mechanism costs epsilon^2 / 8.
            epsilon = math.sqrt(8 * selections_rho / n_selections) * _GUARD
            # Known before a family is measured: the noise of the 1-way marginals, by the ratio of the budgets.
            noise_std = measured[0].noise_std * math.sqrt(singles_rho / len(domain) / (families_rho / n_families))
            most_cells = network.total / max(self.usefulness * noise_std, 1e-9)
            for _ in range(n_selections):
                candidates = network.candidates(self.degree, most_cells=most_cells)
                cliques = [network.clique(family) for family in candidates]
                chosen = oracle.select(
                    cliques,
                    [network.independent(family) for family in candidates],
                    epsilon=epsilon,
                    penalties=[math.sqrt(2 / math.pi) * noise_std * coarse.cells(clique) for clique in cliques],
                    groups=groups,
                )
                [answer] = oracle.measure([cliques[chosen]], rho=families_rho / n_families, groups=groups)
                measured = [*measured, answer]
                network.grow(_evidence(answer), candidates[chosen])
        marginals = told_apart(
            network.marginals(), network.total, domain, groups, [whole[(name,)] for name in groups], zeros
        )
        return Learned(marginals, network.total, tuple(measured), network.gap)


def _evidence(answer: Measurement) -> Evidence:
    return Evidence(answer.columns, answer.values.astype(np.float64), answer.noise_std**2)
