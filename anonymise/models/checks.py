"""Models that contradict what is public: refused before anything is searched, with the way out.

A model that can be satisfied may still leave no release (too little suppression allowed): that the search finds out.
"""

from __future__ import annotations

from collections.abc import Sequence

from anonymise.classes import Attribute
from anonymise.encoded import Encoded
from anonymise.models._exact import ratio
from anonymise.models.base import AnyModel, Model, TableModel
from anonymise.models.k_map import KMap
from anonymise.models.l_diversity import LDiversity
from anonymise.models.likeness import AlphaKAnonymity
from anonymise.models.t_closeness import TCloseness
from anonymise.models.uniqueness import PopulationUniqueness


def check_kinds(models: object) -> None:
    """Raise ValueError unless these are privacy models, at least one."""
    if not isinstance(models, Sequence) or not models:
        raise ValueError(
            f"models must name at least one privacy model in a list, such as [KAnonymity(5)], got {models!r}"
        )
    for model in models:
        if isinstance(model, type) or not isinstance(model, Model | TableModel):
            raise ValueError(f"models must be privacy models such as KAnonymity(5), got {model!r}")


def check_models(models: Sequence[AnyModel], encoded: Encoded) -> None:
    """Raise ValueError for a model that no table of these columns can satisfy, or that lacks what it compares with."""
    n_people = None if encoded.people is None else int(encoded.people.sum())
    for model in models:
        if isinstance(model, Model) and model.attribute is not None:
            _check_values(model, encoded.attributes[model.attribute])
        if isinstance(model, Model) and model.needs_population:
            _check_people(model, n_people)
        if (
            isinstance(model, KMap | PopulationUniqueness)
            and (model.population_size or encoded.n_rows) < encoded.n_rows
        ):
            raise ValueError(
                f"population_size must be at least the rows of the table, got {model.population_size!r}; "
                "the table is a part of the population"
            )


def _check_values(model: Model, attribute: Attribute) -> None:
    n_values = attribute.n_values
    values = f"the attribute {model.attribute!r} has {n_values} public value(s)"
    if isinstance(model, LDiversity):
        if model.l > n_values:
            raise ValueError(f"l must be at most the number of public values, got {model.l!r}; {values}")
        if model.kind == "recursive":
            # r_1 < c (r_l + ... + r_n) <= c (n - l + 1) r_1
            top, bottom = ratio(model.c or 0.0)
            if top * (n_values - int(model.l) + 1) <= bottom:
                raise ValueError(
                    f"recursive ({model.c}, {model.l})-diversity cannot hold: {values}, so c must exceed "
                    f"1 / {n_values - int(model.l) + 1}"
                )
    if isinstance(model, AlphaKAnonymity):
        top, bottom = ratio(model.alpha)
        if top * n_values < bottom:
            raise ValueError(f"alpha must be at least 1 / {n_values}, got {model.alpha!r}; {values}")
    if isinstance(model, TCloseness) and model.distance == "ordered":
        column = attribute.hierarchies[0].column
        if column.kind == "categorical":
            raise ValueError(
                f"column {column.name!r} is categorical, its values have no order; "
                "give it kind = 'ordinal' in the schema, or take distance='equal' or 'hierarchical'"
            )


def _check_people(model: Model, n_people: int | None) -> None:
    if n_people is None:
        other = " or population_size=..." if isinstance(model, KMap) else ""
        raise ValueError(
            f"{model!r} counts people of a population: give anonymise(..., population=...), a table with the "
            f"quasi-identifiers of everybody the patients come from{other}"
        )
    if isinstance(model, KMap) and n_people < model.k:
        raise ValueError(f"k must be at most the people of the population table, got {model.k!r}")
