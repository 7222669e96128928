"""What MST, ChowLiu and Independent share: the budget, the door to the rows, the way from measurements to a model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypedDict

import pandas as pd

from generators.capping import Keep, check_keep
from generators.compression import merge_zeros, told_apart
from generators.domain import Domain
from generators.encoding import check_decodable
from generators.errors import BudgetInvalid, DomainMismatch
from generators.estimation import GraphFit, fit_graph
from generators.forest import Edge, Forest
from generators.grouping import Groups, coarse_domain
from generators.inference import Evidence, Fit, estimate_total, fit_forest
from generators.model import GraphicalModel
from generators.oracle import LocalTableOracle, MarginalOracle, Measurement, check_rng
from generators.propagation import CliqueMarginals
from generators.rules import forest_zeros, known_edges, structural_zeros
from privacy import Event, Rng, Schema, epsilon_to_rho
from privacy._checks import check_count
from privacy.neighbours import Neighbours, check_neighbours


@dataclass(frozen=True, slots=True)
class Findings:
    """What a mechanism found out: its tree, all that was released, and the evidence to fit, one for each clique.

    groups   of columns whose codes were merged: the evidence counts groups
    whole    evidence over all codes of those columns, by which the codes of a group are told apart
    """

    edges: tuple[Edge, ...]
    measurements: tuple[Measurement, ...]
    evidence: tuple[Evidence, ...]
    groups: Groups = field(default_factory=dict)
    whole: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Learned:
    """What a mechanism made of its budget: the fields of `GraphicalModel` that it decides."""

    marginals: CliqueMarginals
    total: float
    measurements: tuple[Measurement, ...]
    fit_gap: float


class Options(TypedDict, total=False):
    """What every mechanism takes: the budget, and how patients are protected. See `Mechanism`."""

    epsilon: float | None
    delta: float | None
    rho: float | None
    neighbours: Neighbours
    max_records_per_patient: int
    keep: Keep


class Mechanism(ABC):
    """A way to spend a budget on marginals and to model them.

    Parameters
    ----------
    epsilon, delta
        The budget as (epsilon, delta)-DP; spent as zCDP.
    rho
        The budget as zCDP, instead of epsilon and delta.
    neighbours, max_records_per_patient, keep
        Passed to the `LocalTableOracle` that `fit` makes of a frame; an oracle has its own.

    Raises
    ------
    BudgetInvalid
        If the budget is not given exactly once, or is no finite number > 0 (delta: strictly between 0 and 1).
    """

    name: ClassVar[str]

    def __init__(
        self,
        *,
        epsilon: float | None = None,
        delta: float | None = None,
        rho: float | None = None,
        neighbours: Neighbours = "add_remove_one",
        max_records_per_patient: int = 1,
        keep: Keep = "all",
    ) -> None:
        check_neighbours(neighbours)
        check_keep(keep)
        check_count("max_records_per_patient", max_records_per_patient)
        self.rho = resolve_rho(epsilon, delta, rho)
        self.neighbours: Neighbours = neighbours
        self.max_records_per_patient = max_records_per_patient
        self.keep: Keep = keep

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rho={self.rho!r}, neighbours={self.neighbours!r})"

    def fit(
        self,
        frame: pd.DataFrame | None,
        schema: Schema,
        *,
        oracle: MarginalOracle | None = None,
        prior_events: Iterable[Event] = (),
        rng: Rng | None = None,
    ) -> GraphicalModel:
        """Spend the budget and return the model.

        Parameters
        ----------
        frame
            The private table; None if an oracle answers for it.
        schema
            The public description. With an oracle of fewer columns, the model has those.
        oracle
            Whoever answers noisy marginals, instead of the frame.
        prior_events
            What the schema cost already, if it was learned from these rows (`private_edges`, `private_leaves`): beside
            the mechanism's budget, and first among the model's events. Priced under the same neighbour relation.
        rng
            Source of the noise, for a frame; the operating system's by default. Anything else protects nobody.

        Raises
        ------
        SchemaError
            If the table does not fit the schema (an empty one does not), or a bin holds no value to decode to.
        DomainMismatch
            If the oracle speaks of other columns or sizes, or both or neither of frame and oracle are given.
        """
        paid = tuple(prior_events)
        if not all(isinstance(event, Event) for event in paid):
            raise TypeError("prior_events must be events of `privacy`, as private_edges and private_leaves return them")
        if (frame is None) == (oracle is None):
            raise DomainMismatch("give either a frame or an oracle (frame=None, oracle=...)")
        if frame is not None:
            check_decodable(schema)
            oracle = LocalTableOracle(
                frame,
                schema,
                neighbours=self.neighbours,
                max_records_per_patient=self.max_records_per_patient,
                keep=self.keep,
                rng=check_rng(rng),
            )
        elif rng is not None:
            raise DomainMismatch("an oracle draws its own noise: leave rng out")
        return self._fit_oracle(oracle, schema, paid)

    @staticmethod
    def load(path: str | Path) -> GraphicalModel:
        """Read a saved model (`GraphicalModel.load`)."""
        return GraphicalModel.load(path)

    def _fit_oracle(self, oracle: MarginalOracle | None, schema: Schema, paid: tuple[Event, ...]) -> GraphicalModel:
        if oracle is None:  # pragma: no cover - `fit` made one
            raise DomainMismatch("there is nobody to ask")
        schema = schema.subset(oracle.domain) if set(oracle.domain) < set(Domain.from_schema(schema)) else schema
        if Domain.from_schema(schema) != oracle.domain:
            raise DomainMismatch("the oracle's domain is not the schema's: use the same schema on both sides")
        check_decodable(schema)
        spent_before = len(oracle.events)
        learned = self._learn(oracle, schema)
        return GraphicalModel(
            schema=schema,
            mechanism=self.name,
            marginals=learned.marginals,
            total=learned.total,
            measurements=learned.measurements,
            events=(*paid, *oracle.events[spent_before:]),
            neighbours=oracle.neighbours,
            fit_gap=learned.fit_gap,
        )

    @abstractmethod
    def _learn(self, oracle: MarginalOracle, schema: Schema) -> Learned:
        """Spend `self.rho` at the oracle, whose domain is the schema's, and fit a distribution to the answers."""


class ForestMechanism(Mechanism):
    """A mechanism whose model is a forest of pairs, fitted by `fit_forest`.

    Where the schema's rules join more than a forest can hold, they are joined to it, and `fit_graph` fits what results.
    """

    def _learn(self, oracle: MarginalOracle, schema: Schema) -> Learned:
        found = self._explore(oracle, known_edges(schema))
        everywhere = structural_zeros(schema)
        zeros = forest_zeros(everywhere, Forest(oracle.domain, found.edges))
        coarse, total = coarse_domain(oracle.domain, found.groups), estimate_total(found.evidence)
        # Rules that would close a cycle, or join three columns. (Groups have no codes that a rule could speak of.)
        beyond = {
            clique: cells
            for clique, cells in everywhere.items()
            if clique not in zeros and not set(clique) & set(found.groups)
        }
        merged = merge_zeros(zeros, found.groups) | beyond
        fit: Fit | GraphFit
        if beyond:
            fit = fit_graph(coarse, found.evidence, total=total, zeros=merged)
        else:
            fit = fit_forest(Forest(coarse, found.edges), found.evidence, total=total, zeros=merged)
        marginals = told_apart(fit.marginals, fit.total, oracle.domain, found.groups, found.whole, zeros)
        return Learned(marginals, fit.total, found.measurements, fit.gap_per_cell)

    @abstractmethod
    def _explore(self, oracle: MarginalOracle, known: Sequence[Edge]) -> Findings:
        """Spend `self.rho` at the oracle; every edge in `known` must be among the edges found."""


def resolve_rho(epsilon: float | None, delta: float | None, rho: float | None) -> float:
    """Return the budget as rho. Raises BudgetInvalid.

    Examples
    --------
    >>> round(resolve_rho(1.0, 1e-9, None), 8), resolve_rho(None, None, 0.5)
    (0.01497306, 0.5)
    """
    if rho is not None:
        if epsilon is not None or delta is not None:
            raise BudgetInvalid("the budget is given twice: give rho, or epsilon and delta")
        return _positive("rho", rho)
    if epsilon is None or delta is None:
        raise BudgetInvalid("the budget is missing: give epsilon and delta, or rho")
    if not 0 < delta < 1:
        raise BudgetInvalid(f"delta must lie strictly between 0 and 1 (1e-9, say), got {delta!r}")
    return epsilon_to_rho(_positive("epsilon", epsilon), delta)


def _positive(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise BudgetInvalid(f"{name} must be a finite number > 0 (a usual epsilon is 0.1 to 10), got {value!r}")
    return float(value)
