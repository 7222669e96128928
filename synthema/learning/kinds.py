"""All kinds of joint models: what may stand in a study's `[models.NAME]`, told apart by `kind`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from synthema.learning.boosting import BoostedTreesSpec
from synthema.learning.cox import CoxSpec
from synthema.learning.curves import AalenJohansenSpec, KaplanMeierSpec, NelsonAalenSpec
from synthema.learning.kmeans import KMeansSpec
from synthema.learning.log_rank_model import LogRankSpec
from synthema.learning.model import ModelSpec
from synthema.learning.regression import LinearSpec, LogisticSpec, PoissonSpec
from synthema.learning.table_one import TableOneSpec

# Specs are values of public things and cheap to import; what fits them is imported when a step runs.
AnyModel = Annotated[
    AalenJohansenSpec
    | BoostedTreesSpec
    | CoxSpec
    | KaplanMeierSpec
    | KMeansSpec
    | LinearSpec
    | LogisticSpec
    | LogRankSpec
    | NelsonAalenSpec
    | PoissonSpec
    | TableOneSpec,
    Field(discriminator="kind"),
]

_ADAPTER: TypeAdapter[ModelSpec] = TypeAdapter(AnyModel)


def read_spec(fields: Mapping[str, Any]) -> ModelSpec:
    """Return a spec from plain data, as TOML and JSON hold it. Raises pydantic.ValidationError."""
    return _ADAPTER.validate_json(json.dumps(fields))
