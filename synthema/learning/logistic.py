"""The logistic model of `[exact]`: death within a horizon, by the same sums and steps as `exact_glm`.

Opened of each Newton step are score and information, nothing else. Counts up to the horizon are treated as known to the
compute parties, beside the curves (`kaplan_meier.horizon_may_be_known`), and only coefficients and standard errors go
to readers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synthema.learning.design import Design, design_of
from synthema.learning.families import Logistic
from synthema.learning.newton import Newton
from synthema.learning.responses import Response
from synthema.released import Coefficient, LogisticModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synthema.study import Study

FAMILY = Logistic()


def newton_of(study: Study, covariates: Sequence[str]) -> Newton:
    """Return Newton's method at its start."""
    design: Design = design_of(study.data_schema, covariates)
    most_rows = study.largest_cohort * len(study.sites)
    return Newton(FAMILY, design, Response(), n_sites=len(study.sites), most_rows=most_rows)


def model_of(newton: Newton, *, outcome: str) -> LogisticModel:
    """Return coefficients and standard errors in the columns' own units."""
    found = newton.fit()
    terms = zip(found.names, found.estimate.tolist(), found.std_error.tolist(), strict=True)
    return LogisticModel(
        outcome=outcome,
        coefficients=tuple(Coefficient(name, estimate, std_error) for name, estimate, std_error in terms),
        iterations=found.iterations,
    )


def model_to_json(model: LogisticModel) -> dict[str, Any]:
    """Return the model as plain data for the ledger; numbers are exact decimal strings."""
    return {
        "outcome": model.outcome,
        "iterations": model.iterations,
        "coefficients": [[c.term, repr(c.estimate), repr(c.std_error)] for c in model.coefficients],
    }


def model_from_json(data: dict[str, Any]) -> LogisticModel:
    """Return what `model_to_json` wrote."""
    return LogisticModel(
        outcome=data["outcome"],
        iterations=data["iterations"],
        coefficients=tuple(Coefficient(term, float(est), float(se)) for term, est, se in data["coefficients"]),
    )
