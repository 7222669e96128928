"""Training jointly, or on a joint synthetic table? Both beside the model of the pooled patients.

INTERNAL: the pooled model is made of rows, so the comparison is for whoever may see all of them: an evaluation on
public or simulated patients, before hospitals choose between asking for a model and asking for a table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import pandas as pd

from synthema.errors import StudyError, SynthemaError
from synthema.learning.here import fit_here
from synthema.learning.summaries import Summary

if TYPE_CHECKING:
    from synthema.learning.estimator import JointModel, Submitter
    from synthema.learning.model import ModelSpec
    from synthema.study import Study, Synthesis

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Trained:
    """One way to a model: its coefficients and standard errors by term, or why there is none.

    distance  root mean square of (coefficient - pooled one) / (pooled standard error), without intercept
    covered   part of the terms whose 95 % interval holds the pooled coefficient
    """

    name: str
    what: str
    coefficients: Mapping[str, tuple[float, float]]
    distance: float | None
    covered: float | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class TrainingComparison:
    """The pooled model, and each way to come near it without pooling. INTERNAL.

    epsilon, delta   what each private way may spend, one by one
    """

    title: str
    terms: tuple[str, ...]
    pooled: Trained
    ways: tuple[Trained, ...]
    epsilon: float
    delta: float

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(asdict(self), indent=2)

    def to_html(self) -> str:
        """Return one self-contained page, marked INTERNAL."""
        from synthema.report.training import render_training

        return render_training(self)

    def __str__(self) -> str:
        """Return a table of the ways."""
        from synthema.learning.model import Table

        rows = tuple((way.name, way.distance, way.covered, way.failure) for way in self.ways)
        columns = ("trained", "distance", "covered", "")
        note = "Distance: in standard errors of the pooled model. INTERNAL."
        return str(Summary(self.title, None, (Table("Beside the pooled model", columns, rows, note),)))


def compare_training(
    model: JointModel,
    network: Submitter,
    job: Study,
    frames: Mapping[str, pd.DataFrame],
    *,
    synthesis: Synthesis,
    budget_share: float = 1.0,
) -> TrainingComparison:
    """Train the model jointly with noise, on a joint synthetic table, and on all rows together.

    Parameters
    ----------
    model
        An exact regression that is not fitted: its fields say what is asked.
    network
        Where the private model and the synthetic table are asked for, in two studies: each spends the job's budget.
    frames
        All sites' rows. INTERNAL.
    synthesis
        How the synthetic table is made.
    budget_share
        Part of the budget that the private model takes of its study.

    Raises
    ------
    StudyError
        If the model is private or fitted by something else than coefficients.
    SiteRefused, SiteFailed, JobFailed
        As the network does.
    """
    spec = model.spec_
    pooled = fit_here(spec, job, frames)
    if "coefficients" not in pooled:
        raise StudyError(f"{spec.title} has no coefficients to compare")
    truth = _coefficients(pooled)
    private = type(spec).model_validate_json(
        json.dumps(spec.model_dump(mode="json") | {"mode": "private", "budget_share": budget_share})
    )
    found = network.submit(job.with_model(model.name, private))["released"]["models"][0]["answer"]
    ways = [_beside(truth, "joint", f"Joint model with noise; it takes {budget_share:.0%} of the budget", found)]
    ways.append(_on_synthetic(spec, network, job, synthesis, truth))
    return TrainingComparison(
        title=f"{spec.title}: trained jointly and on synthetic patients",
        terms=tuple(truth),
        pooled=Trained("pooled", "All rows together, without noise", truth, 0.0, 1.0),
        ways=tuple(ways),
        epsilon=job.budget.epsilon,
        delta=job.budget.delta,
    )


def _on_synthetic(
    spec: ModelSpec, network: Submitter, job: Study, synthesis: Synthesis, truth: Mapping[str, tuple[float, float]]
) -> Trained:
    what = (
        f"The same model of {synthesis.rows} synthetic patients by {synthesis.mechanism}; intervals without the noise"
    )
    table = network.submit(job.with_synthesis(synthesis))["synthetic"]
    text = {column.name: str for column in job.data_schema.columns if column.categories}
    rows = pd.read_csv(StringIO(table), dtype=text, keep_default_na=False, na_values=[""])
    try:
        return _beside(truth, "synthetic", what, fit_here(spec, job, {"synthetic": rows}))
    except SynthemaError as error:
        return Trained("synthetic", what, {}, None, None, str(error))


def _coefficients(answer: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    return {row[0]: (float(row[1]), float(row[2])) for row in answer["coefficients"]}


def _beside(truth: Mapping[str, tuple[float, float]], name: str, what: str, answer: Mapping[str, Any]) -> Trained:
    found = _coefficients(answer)
    terms = [term for term in truth if term != "intercept" and term in found]
    apart = [found[term][0] - truth[term][0] for term in terms]
    distance = math.sqrt(math.fsum((d / truth[t][1]) ** 2 for d, t in zip(apart, terms, strict=True)) / len(terms))
    covered = sum(abs(d) <= _Z95 * found[t][1] for d, t in zip(apart, terms, strict=True)) / len(terms)
    return Trained(name, what, found, distance, covered)
