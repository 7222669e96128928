"""A study's mechanism, whoever answers its questions: from budget and oracle to model and synthetic patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators import (
    AIM,
    MST,
    Adaptive,
    ChowLiu,
    Domain,
    GraphicalModel,
    Independent,
    MarginalOracle,
    Measurement,
    PrivBayes,
)
from generators.domain import Clique
from generators.grouping import Groups
from generators.mechanism import Mechanism
from privacy import Event
from privacy.neighbours import Neighbours
from synthema.errors import StudyError
from synthema.joint_noise import event_of
from synthema.marginal_layout import column_sizes, synthesis_layout, takes_triples
from synthema.steps import fixed_noise, mechanism_of, mechanism_rho, synthesis_cliques, terms_of
from synthema.study import Study
from synthema.synthesis_answer import make_answer


def study_mechanism(study: Study) -> Mechanism:
    """Return the study's mechanism with its budget."""
    rho, triples = mechanism_rho(study), takes_triples(column_sizes(study))
    match mechanism_of(study):
        case "chow-liu":
            return ChowLiu(rho=rho)
        case "independent":
            return Independent(rho=rho)
        case "mst":
            return MST(rho=rho)
        case "aim":
            workload = study.synthesis.workload if study.synthesis is not None else ()
            columns = tuple(column_sizes(study))
            if workload or triples or len(columns) == 1:
                return AIM(rho=rho, workload=workload or None)
            return AIM(rho=rho, workload=synthesis_layout(study).cliques)
        case "privbayes":
            return PrivBayes(rho=rho, degree=2 if triples else 1)
        case "adaptive":
            return Adaptive(rho=rho)


def generate(study: Study, oracle: MarginalOracle) -> tuple[GraphicalModel, pd.DataFrame]:
    """Run the study's mechanism against an oracle; return its model and the synthetic patients."""
    schema = study.data_schema.subset(study.synthesis_columns)
    model = study_mechanism(study).fit(None, schema, oracle=oracle)
    return model, model.sample(study.synthesis.rows if study.synthesis is not None else 1)


def answer_of_counts(study: Study, vector: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the answer that noisy counts alone give: of a mechanism that opens the same marginals whatever they show.

    Parameters
    ----------
    vector
        The marginals of `synthesis_cliques`, one after the other.
    """
    oracle = _Opened(study, vector)
    model, table = generate(study, oracle)
    return make_answer(
        study,
        oracle.measured,
        edges=model.edges,
        cliques=model.marginals.tree.cliques,
        table=table,
        n_choices=0,
        spent=oracle.events,
    )


class _Opened:
    """An oracle of what was opened before."""

    neighbours: Neighbours = "add_remove_one"

    def __init__(self, study: Study, vector: npt.NDArray[np.int64]) -> None:
        noise = fixed_noise(study)
        if noise is None:
            raise StudyError("this study's mechanism chooses what it measures: counts alone are no answer to it")
        self.domain = Domain.from_schema(study.data_schema.subset(study.synthesis_columns))
        self.events: list[Event] = [event_of(noise)]
        shapes = [self.domain.sizes(clique) for clique in synthesis_cliques(study)]
        parts = np.split(vector, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
        std = terms_of(study).noise_std(noise)
        self.measured = [
            Measurement(clique, part.reshape(shape), std)
            for clique, part, shape in zip(synthesis_cliques(study), parts, shapes, strict=True)
        ]

    def measure(self, cliques: Sequence[Clique], *, rho: float, groups: Groups | None = None) -> list[Measurement]:
        if list(cliques) != [item.columns for item in self.measured] or groups or rho <= 0:
            raise StudyError("something else was opened than the mechanism asks for")
        return self.measured

    def select(self, candidates: Sequence[Clique], estimates: Sequence[Any], *, epsilon: float, **_: Any) -> int:
        raise StudyError(
            f"nothing was chosen ({len(candidates)} candidates, {len(estimates)} estimates, epsilon {epsilon})"
        )
