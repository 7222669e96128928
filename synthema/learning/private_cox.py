"""Cox's model, private: a Poisson regression of deaths on the cumulative hazard that each patient lived through.

Given the baseline's cumulative hazard H, the likelihood of a proportional hazards model is that of deaths as Poisson
counts of mean H(t) exp(x'b) (Holford 1980; Laird and Olivier 1981). So the work is that of `private_rounds`, with H(t)
as exposure, and H is opened with noise before: once with all patients weighing the same, and again at the coefficients
of the first step, without which they would be too small.

    baseline/0   deaths and patients who leave in each of the schema's bins of time, and how much of it they saw
    round/0      sizes;  round/1  a first step
    baseline/1   who leaves, and how much of the interval they saw, weighted by exp(x'b)
    round/2, 3   steps, at the new baseline

w         weight: 1, then exp(min(z'b - c, 0)), z standardised by round/0, b without intercept and c = 2 |b|, so that
          hardly a patient's weight is pulled in to 1
vector    of one patient, for the interval that they leave in: [died] / sqrt(3), w / sqrt(3), w (part seen) / sqrt(3);
          on the second pass w / sqrt(2) and w (part seen) / sqrt(2). Of length at most 1
h_k       hazard of the whole interval k: deaths over (sum of w of who leaves later + sum of w (part seen))

What the baseline's own noise and sampling add to the coefficients' errors is not in the standard errors; it is small
beside them as long as there are many more deaths than intervals (measured: docs/learning/cox.md). Where hazards change
within an interval, coefficients are those of a hazard that is constant there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from privacy import Composed, Event
from synthema.errors import ModelFailed, StudyError
from synthema.learning.design import Floats, design_of, encoded, matrix
from synthema.learning.exact_cox import described
from synthema.learning.model import Contribution, Rounds, SiteHalf
from synthema.learning.noisy_sums import noise_of_rounds, noise_stds, open_noisy_sum, sum_event
from synthema.learning.private_parts import FRAC_BITS, Ints, length_bound, part_of_round, quantised
from synthema.learning.private_questions import Shape, Step
from synthema.learning.private_rounds import ROUND_SHARES, PrivateNewton
from synthema.learning.responses import Patients, Response
from synthema.learning.rows import survival_of

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from synthema.learning.cox import CoxSpec
    from synthema.study import Study

# Of rho: the two passes for the baseline; the rest is for the regression.
_BASELINE_SHARES = (0.08, 0.08)
_PRICE_GUARD = 1 - 4e-12
# In the order in which they are opened.
ROUNDS = ("baseline/0", "round/0", "round/1", "baseline/1", "round/2", "round/3")
# Cumulative hazards are taken for at least this part of the whole.
LEAST_EXPOSURE = 1e-3
_MOST_INTERVALS = 32
# Standard deviations of the predictor up to which a weight is not pulled in.
_REACH = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Each patient's time on the public intervals; shape (n,).

    interval  index of the one they leave in
    part      how much of it they saw, 0 to 1
    """

    interval: npt.NDArray[np.int64]
    part: Floats

    def cumulative(self, hazard: Floats) -> Floats:
        """Return the cumulative hazard; `hazard`: of each whole interval."""
        before = np.concatenate([[0.0], np.cumsum(hazard)])
        out: Floats = before[self.interval] + self.part * hazard[self.interval]
        return out


def edges_of(schema: Schema) -> Floats:
    """Return the public ends of the intervals: the schema's bins of time, or every second of them if there are many."""
    if schema.survival is None:
        raise StudyError("the schema has no [survival] section")
    edges = np.asarray(schema.column(schema.survival.time).bin_edges, dtype=np.float64)
    step = math.ceil((len(edges) - 1) / _MOST_INTERVALS)
    return np.concatenate([edges[:-1:step], edges[-1:]])


def times_of(time: npt.NDArray[np.int64], edges: Floats) -> Times:
    """Return where each time lies on the intervals; a time at an edge ends the interval before it."""
    interval = np.clip(np.searchsorted(edges, time, side="left") - 1, 0, len(edges) - 2)
    part = np.clip((time - edges[interval]) / np.diff(edges)[interval], 0.0, 1.0)
    return Times(interval, part)


def baseline_vector(times: Times, weight: Floats, died: npt.NDArray[np.bool_] | None, n_intervals: int) -> Ints:
    """Return the sum of patients' integers, shape (2 or 3 intervals,); each patient's vector has length at most 1."""
    parts = [weight, weight * times.part] if died is None else [died.astype(np.float64), weight, weight * times.part]
    out = np.zeros((len(parts), n_intervals), dtype=np.int64)
    # A patient's vector is nothing but these numbers, at the interval's places.
    rows = np.column_stack(parts) / (math.sqrt(len(parts)) * (1 + 1e-12))
    for k in range(n_intervals):
        out[:, k] = quantised(rows[times.interval == k])
    return out.ravel()


class PrivateCox:
    """The public side of a fit: give it each opening, ask it for the next question.

    Parameters
    ----------
    noise_stds
        Standard deviation of the noise in each number of each of `ROUNDS`, where a patient's part has length at most 1.
    """

    def __init__(self, shape: Shape, n_intervals: int, noise_stds: tuple[float, ...]) -> None:
        self.shape, self.n_intervals = shape, n_intervals
        self._noise = noise_stds
        rounds = [std for name, std in zip(ROUNDS, noise_stds, strict=True) if name.startswith("round/")]
        self.newton = PrivateNewton(shape, tuple(rounds))
        self.index = 0
        self.deaths: Floats = np.zeros(n_intervals)
        self.hazard: Floats = np.full(n_intervals, 1.0 / n_intervals)

    def __repr__(self) -> str:
        return f"PrivateCox(round {self.index})"

    @property
    def due(self) -> str:
        """Name of the next round; "" after the last."""
        return ROUNDS[self.index] if self.index < len(ROUNDS) else ""

    def weight(self, x: Floats) -> Floats:
        """Return what patients weigh in the next pass for the baseline, at most 1. `x`: with intercept, scaled."""
        step = self.newton.question
        if not isinstance(step, Step):
            return np.ones(len(x))
        z = (x[:, 1:] - step.mean[1:]) / step.sd[1:]
        return np.exp(np.minimum(z @ step.beta[1:] - self._centre(step), 0.0))

    @staticmethod
    def _centre(step: Step) -> float:
        return _REACH * float(np.linalg.norm(step.beta[1:]))

    def offset(self, times: Times) -> Floats:
        """Return the logarithm of each patient's cumulative hazard, relative to the whole."""
        whole = float(self.hazard.sum())
        return np.log(np.clip(times.cumulative(self.hazard) / whole, LEAST_EXPOSURE, 1.0))

    def update(self, opened: Floats) -> None:
        """Take what the round opened, in units of the greatest length of a patient's part. Raises ModelFailed."""
        if self.due.startswith("round/"):
            self.newton.update(opened)
        else:
            self._take_baseline(opened)
        self.index += 1

    def _take_baseline(self, opened: Floats) -> None:
        k, first = self.n_intervals, self.index == 0
        size = math.sqrt(3.0 if first else 2.0)
        values = (opened * size).reshape(-1, k)
        noise = self._noise[self.index] * size
        if first:
            self.deaths = np.maximum(values[0], 0.5)
            if values[0].sum() < 2 * noise * math.sqrt(k):
                raise ModelFailed("the noise is larger than the number of deaths: give the model more of the budget")
        leaving, seen = values[-2], values[-1]
        # Whoever leaves later saw the whole interval.
        later = np.concatenate([np.cumsum(leaving[::-1])[::-1][1:], [0.0]])
        at_risk = np.maximum(later + seen, 0.5 * self.deaths)
        step = self.newton.question
        # Where nearly nothing but noise is left, the hazard stays that of the last interval that can be told.
        hazard = self.deaths / at_risk
        clear = later + leaving > 2 * noise * np.sqrt(np.arange(k, 0, -1))
        for place in range(1, k):
            if not clear[place]:
                hazard[place] = hazard[place - 1]
        self.hazard = hazard
        if isinstance(step, Step):
            # With weights exp(z'b - c), the hazard of a patient with z = 0 is exp(-c) times this.
            beta = step.beta.copy()
            beta[0] = math.log(float(hazard.sum())) - self._centre(step)
            self.newton.question = replace(step, beta=beta)


def shape_of(spec: CoxSpec, schema: Schema) -> Shape:
    """Return what is public of the regression in advance."""
    response = Response(low=0.0, high=1.0, least_exposure=LEAST_EXPOSURE)
    return Shape(kind="poisson", design=design_of(schema, spec.covariates), response=response)


def event(spec: CoxSpec, study: Study, rho: float) -> Event:
    """See `ModelSpec.event`: one price for each of `ROUNDS`."""
    shape, k = shape_of(spec, study.data_schema), len(edges_of(study.data_schema)) - 1
    rest = 1 - sum(_BASELINE_SHARES)
    events = []
    for name in ROUNDS:
        kind, index = name.split("/")
        if kind == "baseline":
            share, dimension = _BASELINE_SHARES[int(index)], (3 - int(index)) * k
            # All but two or three of a patient's numbers are zeros.
            l1, l2_squared = length_bound(3 - int(index))
        else:
            share, dimension = rest * ROUND_SHARES[int(index)], shape.dimension(int(index))
            l1, l2_squared = length_bound(dimension)
        events.append(
            sum_event(
                study,
                rho * share * _PRICE_GUARD,
                dimension=dimension,
                l1_sensitivity=l1,
                l2_sensitivity_squared=l2_squared,
            )
        )
    return Composed(tuple(events))


def start_of(spec: CoxSpec, study: Study, priced: Event) -> PrivateCox:
    """Return the method at its start: the same wherever the study is known."""
    stds = tuple(std / 2**FRAC_BITS for std in noise_stds(study, priced, len(ROUNDS)))
    return PrivateCox(shape_of(spec, study.data_schema), len(edges_of(study.data_schema)) - 1, stds)


def fit(spec: CoxSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`."""
    cox, opened = start_of(spec, rounds.study, rounds.event), None
    noise = noise_of_rounds(rounds.event, len(ROUNDS))
    while cox.due:
        opened = open_noisy_sum(rounds, cox.due, event=noise[cox.index], opened=opened)
        cox.update(_in_units(opened))
    return answer_of(spec, rounds.schema, cox)


def site_half(spec: CoxSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
    """See `ModelSpec.site_half`."""
    return _CoxAtSite(spec, study, schema, rows)


class _CoxAtSite:
    """See `SiteHalf`. The coefficients are moved here, from what was opened: nobody can ask for others."""

    def __init__(self, spec: CoxSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> None:
        from synthema.steps import private_rho

        if spec.budget_share is None:
            raise StudyError("a private regression needs its budget_share")
        if len(rows) > study.largest_cohort:
            raise StudyError(f"the study allows at most {study.largest_cohort} patients at a site")
        self._cox = start_of(spec, study, event(spec, study, private_rho(study) * spec.budget_share))
        self._x = matrix(encoded(schema, rows, spec.covariates), schema, design_of(schema, spec.covariates))
        time, self._died = survival_of(schema, rows)
        self._times = times_of(time, edges_of(schema))
        self._given = 0

    def contribute(self, what: str, opened: Any) -> Contribution:
        if self._given >= len(ROUNDS) or what != ROUNDS[self._given]:
            raise StudyError(f"step of a private Cox model: {what!r} is not due")
        if self._given:
            self._cox.update(_in_units(np.asarray(opened)))
        self._given += 1
        return Contribution(part_of(self._cox, self._x, self._times, self._died))


def part_of(cox: PrivateCox, x: Floats, times: Times, died: npt.NDArray[np.bool_]) -> Ints:
    """Return a site's sum for the round that is due. `x`: with intercept, scaled."""
    if cox.due.startswith("baseline/"):
        return baseline_vector(times, cox.weight(x), died if cox.index == 0 else None, cox.n_intervals)
    patients = Patients(x=x, y=died.astype(np.float64), offset=cox.offset(times))
    return part_of_round(cox.shape, cox.newton.question, patients)


def _in_units(opened: Ints) -> Floats:
    out: Floats = np.ldexp(opened.astype(np.float64), -FRAC_BITS)
    return out


def answer_of(spec: CoxSpec, schema: Schema, cox: PrivateCox) -> dict[str, Any]:
    """Return the answer in the columns' own units. Raises ModelFailed."""
    beta, covariance = cox.newton.on_bounds_scale()
    sampling = np.diag(cox.newton.sampling_on_bounds_scale())[1:]
    scale = np.array(cox.shape.design.scale[1:])
    std_error = np.sqrt(np.diag(covariance)[1:]) / scale
    names = cox.shape.design.names[1:]
    own = np.minimum(np.sqrt(sampling) / scale, std_error)
    return described(spec, schema) | {
        "coefficients": [
            [name, _text(b), _text(error)]
            for name, b, error in zip(names, (beta[1:] / scale).tolist(), std_error.tolist(), strict=True)
        ],
        "covariance": [[_text(each) for each in row] for row in (covariance[1:, 1:] / scale[:, None] / scale).tolist()],
        "sampling_errors": [_text(error) for error in own.tolist()],
        "noisy_patients": round(cox.newton.n_patients),
        "noisy_patients_std": _text(cox.newton.n_error),
        "untold": list(cox.newton.untold),
        "iterations": len(ROUND_SHARES) - 1,
    }


def _text(value: float) -> str:
    # Members' arithmetic may differ in the last bits.
    return repr(float(f"{value:.9g}"))
