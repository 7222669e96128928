"""Private regressions: logistic, linear and Poisson, by a few Newton steps on clipped sums that are opened with noise.

The rounds and what they ask are in `private_rounds`, a patient's part in `private_parts`, the coefficients and their
standard errors in `private_posterior`. Here: what it costs, and the fit over a network.

    neighbours   tables that differ by one patient, at up to m sites (`max_sites_per_patient`)
    price        one `DistributedDiscreteGaussian` a round, of the sensitivity of the integers that are summed; what a
                 round asks depends on noisy numbers only, so the prices add up
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from privacy import Composed, Event
from synthema.errors import StudyError
from synthema.learning.design import design_of
from synthema.learning.exact_glm import described
from synthema.learning.model import Contribution, Rounds, SiteHalf, Table
from synthema.learning.noisy_sums import noise_of_rounds, noise_stds, open_noisy_sum, sum_event
from synthema.learning.private_parts import FRAC_BITS, Ints, length_bound, part_of_round
from synthema.learning.private_questions import Shape
from synthema.learning.private_rounds import ROUND_SHARES, PrivateNewton
from synthema.learning.responses import Patients, patients_of, response_of

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from synthema.learning.regression import RegressionSpec
    from synthema.study import Study

# Left to the upward rounding of the rounds' prices.
_PRICE_GUARD = 1 - 4e-12


def shape_of(spec: RegressionSpec, schema: Schema) -> Shape:
    """Return what is public of the model in advance."""
    return Shape(kind=spec.kind, design=design_of(schema, spec.covariates), response=response_of(spec, schema))  # type: ignore[arg-type]


def event(spec: RegressionSpec, study: Study, rho: float) -> Event:
    """See `ModelSpec.event`."""
    shape = shape_of(spec, study.data_schema)
    events = []
    for index, share in enumerate(ROUND_SHARES):
        dimension = shape.dimension(index)
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


def newton_of(spec: RegressionSpec, study: Study, priced: Event) -> PrivateNewton:
    """Return the method at its start: the same wherever the study is known."""
    stds = tuple(std / 2**FRAC_BITS for std in noise_stds(study, priced, len(ROUND_SHARES)))
    return PrivateNewton(shape_of(spec, study.data_schema), stds)


def fit(spec: RegressionSpec, rounds: Rounds) -> dict[str, Any]:
    """See `ModelSpec.fit`."""
    newton, opened = newton_of(spec, rounds.study, rounds.event), None
    noise = noise_of_rounds(rounds.event, len(ROUND_SHARES))
    while not newton.done:
        opened = open_noisy_sum(rounds, f"round/{newton.index}", event=noise[newton.index], opened=opened)
        newton.update(_in_units(opened))
    return _answer(spec, rounds.study, newton)


def site_half(spec: RegressionSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
    """See `ModelSpec.site_half`."""
    return _RegressionAtSite(spec, study, schema, rows)


class _RegressionAtSite:
    """See `SiteHalf`. The coefficients are moved here, from what was opened: nobody can ask for others."""

    def __init__(self, spec: RegressionSpec, study: Study, schema: Schema, rows: pd.DataFrame) -> None:
        from synthema.steps import private_rho

        if spec.budget_share is None:
            raise StudyError("a private regression needs its budget_share")
        self._spec, self._study, self._schema, self._rows = spec, study, schema, rows
        self._newton = newton_of(spec, study, event(spec, study, private_rho(study) * spec.budget_share))
        self._given = 0
        self._known: Patients | None = None

    @property
    def _patients(self) -> Patients:
        if self._known is None:
            if len(self._rows) > self._study.largest_cohort:
                raise StudyError(f"the study allows at most {self._study.largest_cohort} patients at a site")
            self._known = patients_of(self._spec, self._schema, self._rows)
        return self._known

    def contribute(self, what: str, opened: Any) -> Contribution:
        if what != f"round/{self._given}" or self._given >= len(ROUND_SHARES):
            raise StudyError(f"step of a private {self._spec.kind} model: {what!r} is not due")
        if self._given:
            self._newton.update(_in_units(np.asarray(opened)))
        self._given += 1
        return Contribution(part_of_round(self._newton.shape, self._newton.question, self._patients))


def _in_units(opened: Ints) -> Any:
    return opened.astype(np.float64) / 2**FRAC_BITS


def _answer(spec: RegressionSpec, study: Study, newton: PrivateNewton) -> dict[str, Any]:
    """Return the answer in the columns' own units. Raises ModelFailed."""
    shape = newton.shape
    beta, covariance = newton.on_bounds_scale()
    sampling = newton.sampling_on_bounds_scale()
    response, back = shape.response, shape.design.back
    # y = centre + scale eta for numbers; otherwise the offset is log(exposure / longest).
    estimate = response.scale * (back @ beta)
    estimate[0] += response.centre - math.log(response.longest_exposure)
    std_error = response.scale * np.sqrt(np.diag(back @ covariance @ back.T))
    sampling_error = response.scale * np.sqrt(np.diag(back @ sampling @ back.T))
    answer: dict[str, Any] = described(spec, study.data_schema) | {
        "iterations": len(ROUND_SHARES) - 1,
        "coefficients": [
            [name, _text(b), _text(error)]
            for name, b, error in zip(shape.design.names, estimate.tolist(), std_error.tolist(), strict=True)
        ],
        "sampling_errors": [_text(error) for error in np.minimum(sampling_error, std_error).tolist()],
        "noisy_patients": round(newton.n_patients),
        "noisy_patients_std": _text(newton.n_error),
        "untold": list(newton.untold),
    }
    if shape.kind == "linear":
        answer["residual_variance"] = _text(newton.dispersion * response.scale**2)
    return answer


def _text(value: float) -> str:
    # Members' arithmetic may differ in the last bits.
    return repr(float(f"{value:.9g}"))


def tables(spec: RegressionSpec, answer: dict[str, Any]) -> tuple[Table, ...]:
    """Return the answer as tables for people."""
    rows: list[tuple[str | float | int | None, ...]] = []
    for (name, estimate, std_error), sampling in zip(answer["coefficients"], answer["sampling_errors"], strict=True):
        b, error, own = float(estimate), float(std_error), float(sampling)
        low, high = b - 1.96 * error, b + 1.96 * error
        share = 1 - (own / error) ** 2
        factor = () if spec.kind == "linear" else (math.exp(min(b, 700.0)),)
        rows.append((name, b, *factor, error, low, high, f"{share:.0%}"))
    names = ("term", "coefficient", "std error", "95 % from", "to", "due to noise")
    columns = names if spec.kind == "linear" else (*names[:2], spec.effect, *names[2:])
    return (Table(f"{spec.title} of {answer['outcome']}", columns, tuple(rows), note=note_of(answer)),)


def note_of(answer: Mapping[str, Any]) -> str:
    """Return what is to be said below a private regression's coefficients."""
    note = (
        f"About {answer['noisy_patients']} patients, give or take {2 * float(answer['noisy_patients_std']):.2g}. "
        "Standard errors and intervals reckon with sampling and with the noise that protects patients; the last column "
        "is the noise's part of the variance."
    )
    if answer["untold"]:
        note += (
            f" The spread of {', '.join(answer['untold'])} within the schema's bounds is too small to be told from the "
            "noise: such coefficients are drawn towards 0. Narrower bounds or a larger budget help."
        )
    return note
