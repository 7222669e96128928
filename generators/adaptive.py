"""Adaptive: single columns first, then as many small marginals as the table can carry, each believed as far as it may.

d, n       number of columns, and of rows (estimated from noisy counts)
rho        the budget
h          expected L1 error of a single column if the whole budget went to single columns: public before anything else
           is spent (`one_way_noise`)
f          part of the budget for single columns: 6 h, at least a tenth, at most all
T          number of rounds, 1.5 d

1. A twentieth of the budget on the single columns tells n, so h and f; they are measured again with what f leaves.
2. In each round, the exponential mechanism selects the pair or triple that the model gets most wrong beyond what its
   measurement would add in noise; half of the round's measuring budget goes to it, and the model is fitted again. Two
   rounds in a row whose measurement shows nothing but noise end the search.
3. All that is left goes to what was found: the cliques that showed more than noise, and the single columns.

What makes this work at few rows is `empirical_bayes`: each measured marginal is moved towards what the model expected
of it, cell by cell, as far as its noise would explain the difference. So a measurement never does much harm, larger
cliques are affordable, and noise that AIM and MST take at its word is left out. Repeated measurements, and the sums
that larger marginals give of single columns, are averaged by inverse variance. In a release of several marginals, a
marginal's part of the budget grows with the square root of its cells.

The constants were found on two small clinical tables and Adult, and are the same everywhere; measured results
and what was tried instead are in docs/generators/adaptive.md. The loop is that of McKenna, Mullins, Sheldon, Miklau
2022, arXiv:2201.12677 (AIM), with other rules for budget, candidates and evidence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import ClassVar, Unpack

import numpy as np

from generators.aim import SizeFilter
from generators.domain import Clique, Domain, one_way_cliques
from generators.empirical_bayes import Shrunk, even, shrink, shrink_non_negative
from generators.estimation import GraphFit, Zeros, fit_graph
from generators.factor import FloatArray
from generators.inference import Evidence, estimate_total, merge, on_simplex, pool
from generators.mechanism import Learned, Mechanism, Options
from generators.oracle import LazyEstimates, MarginalOracle, Measurement
from generators.rules import known_cliques, known_edges, structural_zeros
from privacy import Schema
from privacy._checks import check_count

# Prices are sums of floats that accountants round upwards; so much of the budget is left to them.
_GUARD = 1 - 1e-10

# Expected absolute value of a normal variable of standard deviation one.
_MEAN_NOISE = math.sqrt(2 / math.pi)

_FIRST_LOOK = 0.05
_CELLS_POWER = 0.5
_LEAST_ONE_WAY_PART = 0.1
_ONE_WAY_PART = 6.0
_ROUNDS_PER_COLUMN = 1.5
_SELECTION_PART = 0.1
_ROUND_PART = 0.5
_MISSES = 2

# Shrinking keeps most of the noise out, so a candidate pays for less than all of it.
_PENALTY = 0.6

# What was shrunk is less noisy; the floor keeps the fit's weights within a factor of twenty.
_LEAST_VARIANCE_PART = 0.05

# Rounds are fitted roughly, the model that is returned more finely; see `fit_graph`.
_ROUND_TOLERANCE, _LAST_TOLERANCE = 1e-3, 1e-4
_ROUND_CALLS, _LAST_CALLS = 60, 600


class Adaptive(Mechanism):
    """The mechanism to take if you don't know which: as good as the best of the others or better, where measured.

    Pairs that the schema knows to belong together are measured with the single columns, without selection.

    Parameters
    ----------
    max_model_bytes
        Limit of the junction tree's tables, 8 bytes a cell. A larger model fits better, and takes longer.
    epsilon, delta, rho, neighbours, max_records_per_patient, keep
        As for every mechanism.

    Raises
    ------
    BudgetInvalid
        If the budget is not given exactly once, or is no finite number > 0.

    Examples
    --------
    >>> import pandas as pd
    >>> from privacy import Schema
    >>> schema = Schema.from_dict({
    ...     "columns": {"sex": {"categories": ["F", "M"]}, "event": {"categories": ["0", "1"]}}})
    >>> frame = pd.DataFrame({"sex": ["F", "M"] * 500, "event": ["0", "1"] * 500})
    >>> model = Adaptive(epsilon=10.0, delta=1e-9).fit(frame, schema)
    >>> model.edges, abs(round(model.marginal(["sex", "event"]).estimate[0, 1] / model.total, 1))
    ((('sex', 'event'),), np.float64(0.0))
    """

    name: ClassVar[str] = "adaptive"

    def __init__(
        self,
        *,
        max_model_bytes: int = 1 << 20,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        check_count("max_model_bytes", max_model_bytes)
        self.max_model_bytes = max_model_bytes

    def _learn(self, oracle: MarginalOracle, schema: Schema) -> Learned:
        domain, known = oracle.domain, known_edges(schema)
        ones = one_way_cliques(domain)
        state = _State(oracle, self.rho * _GUARD, structural_zeros(schema), (*known_cliques(schema), *known))
        noise_unit = state.measure(ones, rho=_FIRST_LOOK * state.left)
        noise = one_way_noise(domain, n=state.total(), rho=self.rho, noise_unit=noise_unit)
        part = one_way_part(noise)
        state.fit()
        state.measure((*ones, *known), rho=(part - _FIRST_LOOK) / (1 - _FIRST_LOOK) * state.left)
        if part < 1:
            state.fit()
            self._search(state, noise_unit)
            chosen = [clique for clique in state.found if state.spread(clique) > 0]
            if chosen:
                state.measure(chosen, rho=(1 - part) * state.left)
            state.measure(ones, rho=state.left)
        state.fit(last=True)
        return state.learned()

    def _search(self, state: _State, noise_unit: float) -> None:
        domain = state.domain
        n_rounds = rounds(domain)
        selection = state.left * _SELECTION_PART / n_rounds
        measuring = state.left * (1 - _SELECTION_PART) / n_rounds
        # A clique gets its round's budget and about as much again at the end.
        penalty = _PENALTY * _MEAN_NOISE * noise_unit / math.sqrt(2 * measuring)
        sizes = SizeFilter(domain, state.known)
        # The L1 distance of two tables of n rows is at most 2 n, so measuring more cells than that cannot pay.
        most = 2 * state.total() / penalty
        everything = [
            clique
            for size in (2, 3)
            for clique in itertools.combinations(domain.columns, size)
            if domain.cells(clique) <= most
        ]
        misses = 0
        for _ in range(n_rounds):
            candidates = [clique for clique in everything if sizes.fits(clique, self.max_model_bytes / 8)]
            if not candidates:
                break
            chosen = candidates[state.select(candidates, penalty, rho=selection)]
            state.measure([chosen], rho=_ROUND_PART * measuring)
            sizes.join(chosen)
            state.fit()
            misses = 0 if state.spread(chosen) > 0 else misses + 1
            if misses == _MISSES:
                break


def one_way_noise(domain: Domain, *, n: float, rho: float, noise_unit: float = 1.0) -> float:
    """Return h: the expected L1 error of a column's shares if all of rho were spent on single columns, mean of columns.

    Parameters
    ----------
    domain
        Columns and sizes.
    n
        Number of rows, exact or not.
    rho
        The budget.
    noise_unit
        Noise standard deviation of one marginal at rho = 1/2.

    Examples
    --------
    >>> round(one_way_noise(Domain(("sex", "age"), (2, 8)), n=1000, rho=0.01), 4)
    0.0399
    """
    noise_std = noise_unit * math.sqrt(len(domain) / (2 * rho))
    return _MEAN_NOISE * noise_std * sum(domain.n_codes) / len(domain) / n


def one_way_part(noise: float) -> float:
    """Return f, the part of the budget for single columns, given h.

    Examples
    --------
    >>> one_way_part(0.0001), round(one_way_part(0.0625), 6), one_way_part(1.0)
    (0.1, 0.375, 1.0)
    """
    return min(1.0, max(_LEAST_ONE_WAY_PART, _ONE_WAY_PART * noise))


def rounds(domain: Domain) -> int:
    """Return T."""
    return math.ceil(_ROUNDS_PER_COLUMN * len(domain))


class _State:
    """What is public so far, what is left of the budget, and the model fitted to what is believed."""

    def __init__(self, oracle: MarginalOracle, rho: float, zeros: Zeros, known: Sequence[Clique]) -> None:
        self.domain, self.known, self.left = oracle.domain, tuple(known), rho
        self._oracle, self._zeros = oracle, zeros
        self._measurements: list[Measurement] = []
        # Of each measured clique of several columns: what the model expected of it when it was first measured, in
        # shares, and what is believed of it, until it is measured again.
        self._expected: dict[Clique, FloatArray] = {}
        self._believed: dict[Clique, Shrunk] = {}
        self._model: GraphFit | None = None

    @property
    def found(self) -> tuple[Clique, ...]:
        """Cliques of several columns that were measured."""
        return tuple(self._expected)

    def total(self) -> float:
        return estimate_total(merge(self._measurements, self.domain).values())

    def measure(self, cliques: Iterable[Clique], *, rho: float) -> float:
        """Spend rho on the cliques, more of it on the larger ones; return the noise of one marginal at rho = 1/2."""
        parts = {clique: self.domain.cells(clique) ** _CELLS_POWER for clique in cliques}
        whole = math.fsum(parts.values())
        noise_unit = 0.0
        for clique, part in parts.items():
            if len(clique) > 1:
                if clique not in self._expected:
                    self._expected[clique] = self._fitted.marginals.project(clique)
                self._believed.pop(clique, None)
            [measured] = self._oracle.measure([clique], rho=rho * part / whole)
            self._measurements.append(measured)
            noise_unit = measured.noise_std * math.sqrt(2 * rho * part / whole)
        self.left -= rho
        return noise_unit

    def select(self, candidates: Sequence[Clique], penalty: float, *, rho: float) -> int:
        self.left -= rho
        model = self._fitted
        estimates = LazyEstimates(len(candidates), lambda i: model.estimate(candidates[i]), total=model.total)
        return self._oracle.select(
            candidates,
            estimates,
            # arXiv:2004.07223: one exponential mechanism costs epsilon^2 / 8.
            epsilon=math.sqrt(8 * rho),
            penalties=[penalty * self.domain.cells(clique) for clique in candidates],
        )

    def spread(self, clique: Clique) -> float:
        """Return by how much the clique's counts differ from what was expected, noise aside; 0 if noise may be all."""
        return self._believed[clique].spread

    def fit(self, *, last: bool = False) -> None:
        self._model = fit_graph(
            self.domain,
            self._evidence(),
            total=self.total(),
            zeros=self._zeros,
            cliques=self.known,
            warm=None if self._model is None else self._model.potentials,
            tolerance=_LAST_TOLERANCE if last else _ROUND_TOLERANCE,
            max_iterations=_LAST_CALLS if last else _ROUND_CALLS,
        )

    @property
    def _fitted(self) -> GraphFit:
        if self._model is None:  # pragma: no cover - the single columns are fitted before anything is asked
            raise AssertionError("nothing is fitted yet")
        return self._model

    def _evidence(self) -> list[Evidence]:
        merged = merge(self._measurements, self.domain)
        total = estimate_total(merged.values())
        out = []
        sums = pool(side for part in merged.values() for side in _sides(part))
        for (name,), part in sums.items():
            variance = float(np.mean(part.variance))
            shrunk = shrink_non_negative(part.values, even(self.domain, name, total), variance)
            out.append(Evidence((name,), on_simplex(shrunk.values, total), variance))
        for clique, part in merged.items():
            if len(clique) == 1:
                continue
            variance = float(np.mean(part.variance))
            if clique not in self._believed:
                self._believed[clique] = shrink(part.values, total * self._expected[clique], variance)
            shrunk = self._believed[clique]
            # One variance for all cells: with each cell's own, errors were measured to be 0 to 1 % larger.
            believed = max(float(shrunk.variance.mean()), _LEAST_VARIANCE_PART * variance)
            out.append(Evidence(clique, shrunk.values, believed))
        return out

    def learned(self) -> Learned:
        fit = self._fitted
        return Learned(fit.marginals, fit.total, tuple(self._measurements), fit.gap_per_cell)


def _sides(part: Evidence) -> list[Evidence]:
    """Return what a marginal's counts tell about each of its columns."""
    axes = range(part.values.ndim)
    sides = [np.asarray(part.values.sum(axis=tuple(j for j in axes if j != i))) for i in axes]
    return [
        Evidence((name,), side, part.variance * part.values.size / side.size)
        for name, side in zip(part.columns, sides, strict=True)
    ]
