"""Which covariates a joint logistic model may have: decided from the public schema alone.

The sums that a model opens are sums over patients of functions of their covariates. With few distinct patterns of
covariates they can be solved for the number of patients in each pattern, so a model must have a covariate with many
values, and the patterns of its categories are tested as a table before anything is opened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from privacy import Schema
from privacy.schema import Column

# Most coefficients per patient with, and per patient without, the outcome: tested on shares, never against a count
# that anybody sees.
PARAMETER_RATIO = 0.33
FEWEST_VALUES = 20
_MOST_CELLS = 1024


def categorical(schema: Schema, covariates: Sequence[str]) -> list[Column]:
    """Return the covariates with categories, in the order given."""
    return [schema.column(name) for name in covariates if schema.column(name).categories]


def n_cells(schema: Schema, covariates: Sequence[str]) -> int:
    """Return the number of cells of the table of the outcome and all categorical covariates."""
    return 2 * math.prod(len(column.categories) for column in categorical(schema, covariates))


def check_death(schema: Schema, *, horizon_days: int | None = None, where: str = "horizon_days") -> None:
    """Raise ValueError unless the schema's event is one, "1", and is seen by the horizon.

    Of several causes, those who died of another are no losses: whoever is lost may still die, and who died may not.

    where   name of the field that gave `horizon_days`
    """
    survival = schema.survival
    if survival is not None and set(schema.column(survival.event).categories) - {"0"} != {"1"}:
        raise ValueError(
            f"{survival.event!r} needs a category '1' and no other causes, as this model would take those for losses: "
            "name a cause in a log-rank test, take curves of each cause, or recode the event"
        )
    if survival is not None and survival.horizon is not None and horizon_days is not None:
        last = math.ceil(survival.horizon)
        if horizon_days > last:
            raise ValueError(f"{where}: follow-up ends after {last} days by the schema's horizon, so at most {last}")


def check_covariates(schema: Schema, covariates: Sequence[str], *, where: str = "exact.logistic.covariates") -> None:
    """Raise ValueError, naming the covariate and the rule, unless the model may be fitted."""
    if len(set(covariates)) < len(covariates):
        raise ValueError(f"{where}: name each covariate once")
    numeric = 0
    for name in covariates:
        column = schema.column(name)
        if not column.is_coded or column.nullable:
            raise ValueError(f"{where}: {name!r} must be coded and not nullable")
        if column.categories:
            continue
        low, high = column.bin_edges[[0, -1]]
        if column.kind == "integer" and high - low + 1 < FEWEST_VALUES:
            raise ValueError(f"{where}: {name!r} has few values; make it categorical")
        numeric += 1
    if not numeric:
        raise ValueError(f"{where}: at least one must be a number with many values")
    if n_cells(schema, covariates) > _MOST_CELLS:
        raise ValueError(f"{where}: the categories make too large a table; merge or drop some")
