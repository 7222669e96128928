"""What all mechanisms share: the budget, the door to the rows, the way from what was learned to a model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from generators.domain import Domain
from generators.encoding import check_decodable
from generators.errors import BudgetInvalid, DomainMismatch
from generators.forest import Edge, Forest
from generators.inference import Evidence, estimate_total, fit_forest
from generators.model import GraphicalModel
from generators.oracle import LocalTableOracle, MarginalOracle, Measurement, check_rng
from generators.propagation import CliqueMarginals
from generators.rules import forbidden_codes, known_edges, structural_zeros
from privacy import Rng, Schema, epsilon_to_rho
from privacy._checks import check_count
from privacy.neighbours import Neighbours, check_neighbours


@dataclass(frozen=True, slots=True)
class Learned:
    """What a mechanism learned: a distribution, and all that was released of the private rows.

    fit_gap   certified bound on how far the fit's loss is from the least, for each measured cell
    """

    marginals: CliqueMarginals
    total: float
    measurements: tuple[Measurement, ...]
    fit_gap: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What a forest mechanism found: its edges, all that was released, and the evidence to fit, one for each clique."""

    edges: tuple[Edge, ...]
    measurements: tuple[Measurement, ...]
    evidence: tuple[Evidence, ...]


class Mechanism(ABC):
    """A way to spend a budget on marginals and to model them.

    Parameters
    ----------
    epsilon, delta
        The budget as (epsilon, delta)-DP; spent as zCDP.
    rho
        The budget as zCDP, instead of epsilon and delta.
    neighbours, max_records_per_patient
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
    ) -> None:
        check_neighbours(neighbours)
        check_count("max_records_per_patient", max_records_per_patient)
        self.rho = resolve_rho(epsilon, delta, rho)
        self.neighbours: Neighbours = neighbours
        self.max_records_per_patient = max_records_per_patient

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rho={self.rho!r}, neighbours={self.neighbours!r})"

    def fit(
        self,
        frame: pd.DataFrame | None,
        schema: Schema,
        *,
        oracle: MarginalOracle | None = None,
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
        rng
            Source of the noise, for a frame; the operating system's by default. Anything else protects nobody.

        Raises
        ------
        SchemaError
            If the table does not fit the schema (an empty one does not), or a bin holds no value to decode to.
        DomainMismatch
            If the oracle speaks of other columns or sizes, or both or neither of frame and oracle are given.
        """
        if (frame is None) == (oracle is None):
            raise DomainMismatch("give either a frame or an oracle (frame=None, oracle=...)")
        if frame is not None:
            check_decodable(schema)
            oracle = LocalTableOracle(
                frame,
                schema,
                neighbours=self.neighbours,
                max_records_per_patient=self.max_records_per_patient,
                rng=check_rng(rng),
            )
        elif rng is not None:
            raise DomainMismatch("an oracle draws its own noise: leave rng out")
        return self._fit_oracle(oracle, schema)

    @staticmethod
    def load(path: str | Path) -> GraphicalModel:
        """Read a saved model (`GraphicalModel.load`)."""
        return GraphicalModel.load(path)

    def _fit_oracle(self, oracle: MarginalOracle | None, schema: Schema) -> GraphicalModel:
        if oracle is None:  # pragma: no cover - `fit` made one
            raise DomainMismatch("there is nobody to ask")
        schema = schema.subset(oracle.domain) if set(oracle.domain) < set(schema.coded) else schema
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
            events=tuple(oracle.events[spent_before:]),
            neighbours=oracle.neighbours,
            fit_gap=learned.fit_gap,
        )

    @abstractmethod
    def _learn(self, oracle: MarginalOracle, schema: Schema) -> Learned:
        """Spend `self.rho` at the oracle, whose domain is the schema's, and fit a distribution to what it answered.

        Structural zeros and pairs that the schema knows to belong together are the mechanism's to keep.
        """


class ForestMechanism(Mechanism):
    """A mechanism that finds a forest of pairs; its distribution is fitted by `fit_forest`."""

    def _learn(self, oracle: MarginalOracle, schema: Schema) -> Learned:
        found = self._explore(oracle, known_edges(schema))
        forest = Forest(oracle.domain, found.edges)
        fit = fit_forest(
            forest,
            found.evidence,
            total=estimate_total(found.evidence),
            zeros=structural_zeros(forbidden_codes(schema), forest),
        )
        return Learned(fit.marginals, fit.total, found.measurements, fit.gap_per_cell)

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
