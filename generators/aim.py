"""AIM: an adaptive and iterative mechanism for a workload of marginals.

W          the workload: cliques whose marginals shall be right, each with an importance c_s
W+         the downward closure: every non-empty subset of a clique of W; the candidates
w_r        weight of candidate r: sum over s in W of c_s |r intersected with s|
rho        the budget;  sigma, epsilon  noise and selection of one round, spent as rho = 1 / (2 sigma^2) + epsilon^2 / 8
alpha      part of a round's budget that goes to the measurement, 0.9
n_r        number of cells of candidate r

Each round selects, by the exponential mechanism, the candidate whose marginal the current model gets most wrong beyond
what measuring it would cost in noise, w_r (||M_r(D) - M_r(p)||_1 - sqrt(2 / pi) sigma n_r); measures it; and fits the
model to all measurements. Rounds are small at first (there would be 16 for each column); when a round teaches less
than its noise, sigma is halved and epsilon doubled, and what is left goes into a last round. A candidate is left out
while the junction tree that it would need exceeds its share of the size limit, the share being that of the budget
spent.

One departure: in the paper's first release, of all single columns, each has as much as a round's measurement, 6 % of
the budget in all. Here it has 30 %, since every marginal inherits the errors of its columns, and rounds that select a
single column are dear. Measured on Adult at epsilon 1, error over all 3-way marginals: 0.180 (5 seeds) instead of 0.185
(3 seeds).

Source: McKenna, Mullins, Sheldon, Miklau 2022, arXiv:2201.12677, Algorithms 1 (AIM), 2 (initialisation) and 3
(annealing).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Unpack

import numpy as np

from generators.domain import Clique, Domain, one_way_cliques
from generators.errors import DomainMismatch
from generators.estimation import GraphFit, Zeros, fit_graph
from generators.factor import FloatArray
from generators.inference import estimate_total, merge
from generators.junction_tree import CliqueGraph, in_domain_order
from generators.mechanism import Learned, Mechanism, Options
from generators.oracle import LazyEstimates, MarginalOracle, Measurement
from generators.rules import known_cliques, known_edges, structural_zeros
from privacy import Schema
from privacy._checks import check_count, check_positive

# Prices are sums of floats that accountants round upwards; so much of the budget is left to them.
_GUARD = 1 - 1e-10

_ROUNDS_PER_COLUMN = 16
_ALPHA = 0.9

# Part of the budget for single columns; see above.
_FIRST_SHARE = 0.3

# Expected absolute value of a normal variable of standard deviation one.
_MEAN_NOISE = math.sqrt(2 / math.pi)

# Rounds are fitted roughly, the model that is returned more finely; see `fit_graph`.
_ROUND_TOLERANCE, _LAST_TOLERANCE = 1e-2, 1e-3
_ROUND_CALLS, _LAST_CALLS = 300, 1000

# Fractional weights become integers of so many bits, so that scores are exact.
_WEIGHT_BITS = 10


class AIM(Mechanism):
    """Adaptive and iterative mechanism, as in its paper, for an oracle that can select.

    Cliques that the schema knows to belong together are in the model from the start, and its pairs are measured with
    the single columns, in the first release.

    Parameters
    ----------
    workload
        The cliques whose marginals shall be right; all of three columns by default (all columns if there are fewer).
    weights
        Importance of each clique of the workload, > 0; equal by default.
    max_model_bytes
        Limit of the junction tree's tables, 8 bytes a cell. A larger model fits better, and takes longer.
    epsilon, delta, rho, neighbours, max_records_per_patient, keep
        As for every mechanism.

    Raises
    ------
    BudgetInvalid
        If the budget is not given exactly once, or is no finite number > 0.
    DomainMismatch
        If the workload is empty, or weights do not fit it.

    Examples
    --------
    >>> import pandas as pd
    >>> from privacy import Schema
    >>> schema = Schema.from_dict({
    ...     "columns": {"sex": {"categories": ["F", "M"]}, "event": {"categories": ["0", "1"]}}})
    >>> frame = pd.DataFrame({"sex": ["F", "M"] * 500, "event": ["0", "1"] * 500})
    >>> model = AIM(epsilon=10.0, delta=1e-9).fit(frame, schema)
    >>> model.edges, round(model.marginal(["sex", "event"]).estimate[0, 1] / model.total, 1)
    ((('sex', 'event'),), np.float64(0.0))
    """

    name: ClassVar[str] = "aim"

    def __init__(
        self,
        *,
        workload: Iterable[Sequence[str]] | None = None,
        weights: Sequence[float] | None = None,
        max_model_bytes: int = 1 << 20,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        check_count("max_model_bytes", max_model_bytes)
        self.max_model_bytes = max_model_bytes
        self.workload = None if workload is None else tuple(tuple(clique) for clique in workload)
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)
        if self.workload is not None and not self.workload:
            raise DomainMismatch("the workload is empty: name at least one clique, or leave it out")
        if self.weights is not None:
            if self.workload is None or len(self.weights) != len(self.workload):
                raise DomainMismatch("weights belong to a workload: give one for each of its cliques")
            for weight in self.weights:
                check_positive("weight", weight)

    def _learn(self, oracle: MarginalOracle, schema: Schema) -> Learned:
        domain, rho = oracle.domain, self.rho * _GUARD
        known = (*known_cliques(schema), *known_edges(schema))
        state = _State(domain, known, structural_zeros(schema))
        weight_of = candidate_weights(domain, self._workload(domain), self.weights)
        filter_ = SizeFilter(domain, known)

        first = (*one_way_cliques(domain), *known_edges(schema))
        left = (1 - _FIRST_SHARE) * rho
        state.add(oracle.measure(first, rho=rho - left))
        # Noise of one measurement is this over sqrt(2 rho); larger than one where one patient can move a cell by more.
        noise_unit = state.measurements[0].noise_std * math.sqrt(2 * (rho - left) / len(first))
        round_rho = rho / (_ROUNDS_PER_COLUMN * len(domain))
        state.fit()

        last = False
        while not last:
            if left <= 2 * round_rho:
                last, round_rho = True, left
            left -= round_rho
            cells = self.max_model_bytes / 8 * (rho - left) / rho
            candidates = [clique for clique in weight_of if filter_.fits(clique, cells)]
            noise_std = noise_unit / math.sqrt(2 * _ALPHA * round_rho)
            # arXiv:2004.07223: one exponential mechanism costs epsilon^2 / 8.
            chosen = candidates[
                oracle.select(
                    candidates,
                    state.estimates(candidates),
                    epsilon=math.sqrt(8 * (1 - _ALPHA) * round_rho),
                    weights=[weight_of[clique] for clique in candidates],
                    penalties=[_MEAN_NOISE * noise_std * domain.cells(clique) for clique in candidates],
                )
            ]
            before = state.estimate(chosen)
            state.add(oracle.measure([chosen], rho=_ALPHA * round_rho))
            filter_.join(chosen)
            state.fit(last=last)
            learned = float(np.abs(state.estimate(chosen) - before).sum())
            # Algorithm 3: a round that changed the model by no more than noise would was too small.
            if learned <= _MEAN_NOISE * noise_std * domain.cells(chosen):
                round_rho *= 4
        return state.learned()

    def _workload(self, domain: Domain) -> tuple[Clique, ...]:
        if self.workload is None:
            return tuple(itertools.combinations(domain.columns, min(3, len(domain))))
        return tuple(in_domain_order(clique, domain) for clique in self.workload)


@dataclass(slots=True)
class _State:
    """What is public so far: measurements, and the model fitted to them."""

    domain: Domain
    known: tuple[Clique, ...]
    zeros: Zeros
    measurements: list[Measurement] = field(default_factory=list)
    model: GraphFit | None = None

    def add(self, measured: Iterable[Measurement]) -> None:
        self.measurements += measured

    def fit(self, *, last: bool = False) -> None:
        evidence = merge(self.measurements, self.domain).values()
        self.model = fit_graph(
            self.domain,
            evidence,
            total=estimate_total(evidence),
            zeros=self.zeros,
            cliques=self.known,
            warm=None if self.model is None else self.model.potentials,
            tolerance=_LAST_TOLERANCE if last else _ROUND_TOLERANCE,
            max_iterations=_LAST_CALLS if last else _ROUND_CALLS,
        )

    @property
    def fitted(self) -> GraphFit:
        if self.model is None:  # pragma: no cover - the first fit comes before everything else
            raise DomainMismatch("nothing is fitted yet")
        return self.model

    @property
    def total(self) -> float:
        return self.fitted.total

    def estimate(self, clique: Clique) -> FloatArray:
        return self.fitted.estimate(clique)

    def estimates(self, cliques: Sequence[Clique]) -> LazyEstimates:
        return LazyEstimates(len(cliques), lambda i: self.estimate(cliques[i]), total=self.total)

    def learned(self) -> Learned:
        fit = self.fitted
        return Learned(fit.marginals, fit.total, tuple(self.measurements), fit.gap_per_cell)


class SizeFilter:
    """Whether a candidate's junction tree is small enough; sizes are kept until the tree changes.

    Candidates that would add the same edges to the clique graph need the same tree.
    """

    def __init__(self, domain: Domain, cliques: Iterable[Clique]) -> None:
        self._domain = domain
        self._graph = CliqueGraph(domain, cliques)
        self._edges = {pair for clique in cliques for pair in itertools.combinations(clique, 2)}
        self._sizes: dict[frozenset[tuple[str, str]], int] = {}

    def fits(self, clique: Clique, cells: float) -> bool:
        """Return whether the junction tree with this clique has at most so many cells."""
        missing = frozenset(pair for pair in itertools.combinations(clique, 2) if pair not in self._edges)
        if not missing:
            return True
        if self._domain.cells(clique) > cells:
            return False
        if missing not in self._sizes:
            self._sizes[missing] = self._graph.cells_with(clique)
        return self._sizes[missing] <= cells

    def join(self, clique: Clique) -> None:
        """Add the clique to the graph."""
        pairs = set(itertools.combinations(clique, 2))
        if pairs - self._edges:
            self._edges |= pairs
            self._graph.join(clique)
            self._sizes.clear()


def candidate_weights(
    domain: Domain, workload: Sequence[Clique], weights: Sequence[float] | None = None
) -> dict[Clique, int]:
    """Return W+ with the weight of each candidate, as integers >= 1.

    Weights are exact if the importances are whole numbers; otherwise the largest becomes 1,024 and the others are
    rounded.

    Examples
    --------
    >>> candidate_weights(Domain(("a", "b", "c"), (2, 2, 2)), [("a", "b"), ("b", "c")])
    {('a',): 1, ('b',): 2, ('a', 'b'): 3, ('c',): 1, ('b', 'c'): 3}
    """
    importance = [1.0] * len(workload) if weights is None else list(weights)
    candidates: dict[Clique, float] = {}
    for clique in workload:
        for size in range(1, len(clique) + 1):
            for subset in itertools.combinations(clique, size):
                candidates.setdefault(in_domain_order(subset, domain), 0.0)
    for candidate in candidates:
        columns = set(candidate)
        candidates[candidate] = math.fsum(
            part * len(columns.intersection(clique)) for part, clique in zip(importance, workload, strict=True)
        )
    if all(weight.is_integer() for weight in candidates.values()):
        return {clique: int(weight) for clique, weight in candidates.items()}
    unit = max(candidates.values()) / (1 << _WEIGHT_BITS)
    return {clique: max(1, round(weight / unit)) for clique, weight in candidates.items()}
