"""What a Cox model found, as tables, as a picture and as predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from synthema.learning import private_glm, regression_answer
from synthema.learning.design import Floats
from synthema.learning.model import Table
from synthema.learning.regression_answer import estimates

if TYPE_CHECKING:
    import pandas as pd

    from synthema.learning.cox import CoxSpec

_TIES = {"efron": "Efron", "breslow": "Breslow"}


def wald(answer: Mapping[str, Any]) -> float:
    """Return b' V^-1 b, chi-square with p degrees of freedom where no covariate matters."""
    b = np.array([float(text) for _, text, _ in answer["coefficients"]])
    covariance = np.array([[float(each) for each in row] for row in answer["covariance"]])
    return float(b @ np.linalg.solve(covariance, b))


def tables(spec: CoxSpec, answer: Mapping[str, Any]) -> tuple[Table, ...]:
    """See `ModelSpec.summary`."""
    if spec.mode == "private":
        return _private_tables(spec, answer)
    columns = ("term", "log hazard ratio", "std. error", "z", "p", "hazard ratio", "95 % from", "to")
    rows = tuple(
        (each.term, each.estimate, each.std_error, each.deviate, each.p, *_ratios(each)) for each in estimates(answer)
    )
    days = "days as they are" if spec.grid_days == 1 else f"days rounded up to multiples of {spec.grid_days}"
    note = f"{days[0].upper()}{days[1:]}; ties by {_TIES[spec.ties]}"
    if spec.strata:
        note += f"; stratified by {', '.join(spec.strata)}"
    fit: tuple[tuple[str | float | int | None, ...], ...] = (
        ("log partial likelihood", float(answer["log_likelihood"])),
        (f"Wald test, chi-square of {len(rows)} df", wald(answer)),
        ("Newton steps", answer["iterations"]),
    )
    return (Table(spec.title, columns, rows, note=f"{note}."), Table("Fit", ("", "value"), fit))


def _private_tables(spec: CoxSpec, answer: Mapping[str, Any]) -> tuple[Table, ...]:
    rows: list[tuple[str | float | int | None, ...]] = []
    for each, sampling in zip(estimates(answer), answer["sampling_errors"], strict=True):
        share = 1 - (float(sampling) / each.std_error) ** 2
        rows.append((each.term, each.estimate, each.std_error, *_ratios(each), f"{share:.0%}"))
    columns = ("term", "log hazard ratio", "std. error", "hazard ratio", "95 % from", "to", "due to noise")
    return (Table(spec.title, columns, tuple(rows), note=private_glm.note_of(answer)),)


def chart(answer: Mapping[str, Any], *, key: str) -> str:
    """See `ModelSpec.chart`: a forest of hazard ratios."""
    from synthema.report.charts import Interval, forest

    bars = tuple(Interval(each.term, *_ratios(each)) for each in estimates(answer))
    return str(forest(bars, key=key, title="Hazard ratios with 95 % intervals", of="hazard"))


def _ratios(each: regression_answer.Estimate) -> tuple[float, float, float]:
    ratios = np.exp(np.clip([each.estimate, each.low, each.high], -700, 700))
    return float(ratios[0]), float(ratios[1]), float(ratios[2])


def predictor(answer: Mapping[str, Any], rows: pd.DataFrame) -> Floats:
    """Return x'b of each row, shape (n,). Raises as `regression_answer.predictor`."""
    with_intercept = {**answer, "coefficients": [["intercept", "0", "0"], *answer["coefficients"]]}
    return regression_answer.predictor(with_intercept, rows)
