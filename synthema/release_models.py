"""Privacy models as plain data: how a policy file and a command name them.

A model is a map: `model` is its name, the rest are the parameters of its class in `anonymise.models`, which checks
them. Columns that are taken together are a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final

from anonymise.models import (
    AlphaKAnonymity,
    AnyModel,
    AverageRisk,
    BetaLikeness,
    DeltaDisclosure,
    DeltaPresence,
    KAnonymity,
    KMap,
    LDiversity,
    PopulationUniqueness,
    SampleUniqueness,
    TCloseness,
)
from synthema.errors import PolicyError

MODELS: Final[Mapping[str, type[Any]]] = {
    "k-anonymity": KAnonymity,
    "k-map": KMap,
    "l-diversity": LDiversity,
    "t-closeness": TCloseness,
    "beta-likeness": BetaLikeness,
    "delta-disclosure": DeltaDisclosure,
    "delta-presence": DeltaPresence,
    "alpha-k-anonymity": AlphaKAnonymity,
    "average-risk": AverageRisk,
    "sample-uniqueness": SampleUniqueness,
    "population-uniqueness": PopulationUniqueness,
}


def model_of(terms: Mapping[str, Any]) -> AnyModel:
    """Return the model that a map describes. Raises PolicyError, naming the parameter and the rule.

    Examples
    --------
    >>> model_of({"model": "l-diversity", "l": 3, "attribute": "diagnosis"})
    LDiversity(l=3, attribute='diagnosis', kind='distinct', c=None)
    """
    given = dict(terms)
    name = given.pop("model", None)
    if name not in MODELS:
        raise PolicyError(f"model must be one of {', '.join(MODELS)}, got {name!r}")
    made = MODELS[name]
    known = {field.name: field for field in fields(made)}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise PolicyError(f"{name} has no parameter {unknown[0]!r}; it has {', '.join(known)}")
    lacking = [key for key, field in known.items() if field.default is MISSING and key not in given]
    if lacking:
        raise PolicyError(f"{name} needs {', '.join(lacking)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    try:
        model: AnyModel = made(**values)
    except (ValueError, TypeError) as error:
        raise PolicyError(f"{name}: {error}") from None
    return model


def terms_of(model: AnyModel) -> dict[str, Any]:
    """Return the map that `model_of` reads back to an equal model; what is not said has its default."""
    (name,) = [name for name, made in MODELS.items() if type(model) is made]
    out: dict[str, Any] = {"model": name}
    for field in fields(MODELS[name]):
        value = getattr(model, field.name)
        if value != field.default:
            out[field.name] = list(value) if isinstance(value, tuple) else value
    return out


def described(model: AnyModel) -> str:
    """Return a model in words: its name and what it was given.

    Examples
    --------
    >>> described(LDiversity(3, attribute=("diagnosis", "stage")))
    'l-diversity (l 3, attribute diagnosis + stage)'
    """
    terms = terms_of(model)
    name = terms.pop("model")
    said = [f"{key} {' + '.join(value) if isinstance(value, list) else value}" for key, value in terms.items()]
    return f"{name} ({', '.join(said)})"
