"""What a regression found, as tables, as a picture and as predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthema.errors import StudyError
from synthema.learning.model import Table
from synthema.learning.student import reach_of_95_percent, two_sided

if TYPE_CHECKING:
    import pandas as pd

    from synthema.learning.regression import RegressionSpec

Floats = npt.NDArray[np.float64]

_FACTOR = {"logistic": "odds ratio", "poisson": "rate ratio"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """One coefficient.

    deviate     estimate over standard error: z, or t of a linear model
    p           of the hypothesis that it is 0, two-sided
    low, high   95 % interval
    """

    term: str
    estimate: float
    std_error: float
    deviate: float
    p: float
    low: float
    high: float


def estimates(answer: Mapping[str, Any]) -> tuple[Estimate, ...]:
    """Return the coefficients of an answer, the intercept first.

    By the normal approximation; by Student's t where the answer says how many degrees of freedom are left.
    """
    degrees = degrees_of_freedom(answer)
    reach = reach_of_95_percent(degrees)
    out = []
    for term, estimate_text, error_text in answer["coefficients"]:
        estimate, error = float(estimate_text), float(error_text)
        deviate = estimate / error if error > 0 else math.copysign(math.inf, estimate)
        out.append(
            Estimate(
                term,
                estimate,
                error,
                deviate,
                two_sided(deviate, degrees),
                estimate - reach * error,
                estimate + reach * error,
            )
        )
    return tuple(out)


def degrees_of_freedom(answer: Mapping[str, Any]) -> float | None:
    """Return the residual degrees of freedom of a linear model; None for the others."""
    return answer["patients"] - len(answer["coefficients"]) if "patients" in answer else None


def tables(spec: RegressionSpec, answer: Mapping[str, Any]) -> tuple[Table, ...]:
    """See `ModelSpec.summary`."""
    factor = _FACTOR.get(spec.kind)
    deviate = "t" if "patients" in answer else "z"
    columns = ["term", "estimate", "std. error", deviate, "p"]
    columns += ["95 % from", "to"] if factor is None else [factor, "95 % from", "to"]
    rows = []
    for each in estimates(answer):
        ends = (each.low, each.high) if factor is None else tuple(map(_exp, (each.estimate, each.low, each.high)))
        rows.append((each.term, each.estimate, each.std_error, each.deviate, each.p, *ends))
    fit: list[tuple[str | float | int | None, ...]] = []
    if answer.get("log_likelihood") is not None:
        value = float(answer["log_likelihood"])
        # Of a linear model, the variance is an estimate as well; it is not counted here, as statistical packages do.
        fit += [("log-likelihood", value), ("AIC", 2 * len(rows) - 2 * value)]
    if "patients" in answer:
        fit += [
            ("patients", answer["patients"]),
            ("residual standard deviation", math.sqrt(float(answer["residual_variance"]))),
            ("R squared", float(answer["r_squared"])),
        ]
    if "iterations" in answer:
        fit.append(("Newton steps", answer["iterations"]))
    out = [Table(f"{spec.title}: {answer['outcome']}", tuple(columns), tuple(rows))]
    if fit:
        out.append(Table("Fit", ("", "value"), tuple(fit)))
    return tuple(out)


def chart(spec: RegressionSpec, answer: Mapping[str, Any], *, key: str) -> str:
    """See `ModelSpec.chart`: a forest of all coefficients but the intercept."""
    from synthema.report.charts import Interval, forest

    factor = _FACTOR.get(spec.kind)
    shown = [each for each in estimates(answer) if each.term != "intercept"]
    if not shown:
        return ""
    bars = tuple(
        Interval(each.term, each.estimate, each.low, each.high)
        if factor is None
        else Interval(each.term, *map(_exp, (each.estimate, each.low, each.high)))
        for each in shown
    )
    words = {"odds ratio": "odds", "rate ratio": "rate"}.get(factor or "", "mean")
    named = f"{(factor or 'coefficient').capitalize()}s with 95 % intervals"
    return str(forest(bars, key=key, title=named, of=words, scale="linear" if factor is None else "log"))


def predictor(answer: Mapping[str, Any], rows: pd.DataFrame) -> Floats:
    """Return the linear predictor of each row, without offset, shape (n,).

    Raises StudyError, naming the column, if one is missing or holds what the model does not know.
    """
    from privacy._values import text_of

    out = np.full(len(rows), float(answer["coefficients"][0][1]))
    texts: dict[str, npt.NDArray[Any]] = {}
    for (column, category), (_, estimate, _) in zip(answer["terms"], answer["coefficients"][1:], strict=True):
        if column not in rows:
            raise StudyError(f"{column!r} is missing: the model has it as a covariate")
        values = rows[column].to_numpy()
        if not category:
            try:
                numbers = values.astype(np.float64)
            except (TypeError, ValueError):
                raise StudyError(f"{column!r} must hold numbers") from None
            if not np.isfinite(numbers).all():
                raise StudyError(f"{column!r} must hold numbers, none of them missing")
            out += float(estimate) * numbers
            continue
        if column not in texts:
            texts[column] = np.array(text_of(values), dtype=object)
            if not set(texts[column].tolist()) <= set(answer["levels"][column]):
                raise StudyError(f"{column!r} holds a value that is none of the model's categories")
        out += float(estimate) * (texts[column] == category)
    return out


def _exp(value: float) -> float:
    return math.exp(max(min(value, 700.0), -700.0))
