"""Whether privacy models hold on a table as it is: raw, released here, or released by somebody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from anonymise.classes import Attribute, AttributeName, Classes, IntArray
from anonymise.encoded import encode_attribute
from anonymise.hierarchies import build_hierarchy
from anonymise.models import AnyModel, Model
from anonymise.risk.coded import CodedColumn
from anonymise.risk.crowd import Crowd
from anonymise.risk.figures import ModelCheck
from privacy.schema import Schema

# Distributions are counted for so many (class, value) cells at a time.
_CELLS: Final = 4_000_000


def check_models(
    models: Sequence[AnyModel],
    frame: pd.DataFrame,
    schema: Schema | None,
    *,
    columns: Mapping[str, CodedColumn],
    crowd: Crowd,
    population: IntArray | None,
) -> tuple[ModelCheck, ...]:
    """Return what each model says of the table. Distributions of sensitive values refer to the table's own.

    Raises ValueError if a model needs a sensitive column and there is no schema that describes it or a patient has
    several values of it, or a population and none was given.
    """
    attributes: dict[AttributeName, Attribute] = {}
    out = []
    for model in models:
        if not isinstance(model, Model):
            holds = bool(model.satisfied(crowd.sizes))
            out.append(ModelCheck(repr(model), holds, 0.0 if holds else 1.0))
            continue
        if model.needs_population and population is None:
            raise ValueError(f"{model!r} compares with a population: give population=...")
        if model.attribute is not None and model.attribute not in attributes:
            attributes[model.attribute] = _attribute(model.attribute, frame, schema, columns, crowd)
        sizes = crowd.sizes if model.attribute is None else crowd.people
        places = np.arange(sizes.size)
        everything = Classes(sizes, int(sizes.sum()), attributes, places=places, people=population)
        n_values = 1 if model.attribute is None else attributes[model.attribute].n_values
        fails = np.zeros(sizes.size, dtype=bool)
        for block in np.array_split(places, max(1, sizes.size * n_values // _CELLS)):
            fails[block] = model.class_fails(everything.subset(block))
        out.append(ModelCheck(repr(model), not fails.any(), int(crowd.people[fails].sum()) / int(crowd.people.sum())))
    return tuple(out)


def _attribute(
    name: AttributeName, frame: pd.DataFrame, schema: Schema | None, columns: Mapping[str, CodedColumn], crowd: Crowd
) -> Attribute:
    names = (name,) if isinstance(name, str) else name
    if schema is None:
        raise ValueError(f"a model of column {', '.join(map(repr, names))} needs a schema that describes it")
    parts = []
    for part in names:
        if part not in columns:
            raise ValueError(f"column {part!r} must appear exactly once in the table")
        if crowd.of_people(columns[part]) is None:
            raise ValueError(f"a model of column {part!r} needs one value a patient, and a patient here has several")
        values = frame.iloc[:, list(columns).index(part)].iloc[crowd.rows]
        parts.append((values, build_hierarchy(schema.column(part))))
    return encode_attribute(name, parts, crowd.classes)
