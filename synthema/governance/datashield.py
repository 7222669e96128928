"""DataSHIELD's disclosure filters as a ready policy, and which of our rules enforces each.

A site that has used DataSHIELD knows its eight filters by name and value. `preset = "datashield"` sets the rules of
ours that keep them. Some of ours are stricter; those of DataSHIELD that guard results which no study can ask for have
no counterpart, and say so.

Source: dsBase, the options `nfilter.*` and their defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field


class Filters(BaseModel):
    """The filters, by DataSHIELD's names without `nfilter.`, with DataSHIELD's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tab: int = Field(default=3, ge=1)
    subset: int = Field(default=3, ge=1)
    glm: float = Field(default=0.33, gt=0, le=1)
    string: int = Field(default=80, ge=1)
    string_short: int = Field(default=20, ge=1)
    knn: int = Field(default=3, ge=1)
    noise: float = Field(default=0.25, ge=0)
    levels_density: float = Field(default=0.33, gt=0, le=1)
    levels_max: int = Field(default=40, ge=1)


@dataclass(frozen=True, slots=True)
class Mapping:
    """One filter and what keeps it here.

    rules      fields of `SitePolicy` that it sets; empty: no counterpart, `where` says why
    where      where it is decided
    """

    filter: str
    default: float
    rules: tuple[str, ...]
    where: str


TABLE: Final = (
    Mapping(
        "nfilter.tab",
        3,
        ("min_cell", "min_k"),
        "on shares: every count of an exact result is 0 or at least so many, and so is what can be subtracted from it; "
        "counts with noise have no least cell",
    ),
    Mapping(
        "nfilter.subset",
        3,
        ("min_patients", "min_cell"),
        "no study chooses a subset: a site takes part with its whole table of at least min_patients, and a group of a "
        "survival curve is opened with 4 x min_cell patients or more, on shares",
    ),
    Mapping(
        "nfilter.glm",
        0.33,
        ("max_parameter_ratio",),
        "on shares: 3 patients per coefficient with the outcome, and 3 without; opens one yes or no for each",
    ),
    Mapping(
        "nfilter.string",
        80,
        ("max_text",),
        "in the study's document: no text is longer, but for its purpose; none is ever evaluated",
    ),
    Mapping(
        "nfilter.stringShort",
        20,
        (),
        "no free short text exists: methods and options are chosen from fixed lists, and anything else is no study",
    ),
    Mapping("nfilter.kNN", 3, (), "no study asks for a scatter plot; no value of a patient or a neighbour is opened"),
    Mapping(
        "nfilter.noise",
        0.25,
        (),
        "no study asks for noisy values of patients; noise on counts follows from the budget, which the ledger pays",
    ),
    Mapping(
        "nfilter.levels.density",
        0.33,
        ("max_level_density",),
        "on shares: groups of curves by 4 x min_cell, categories of a model by the coefficients per patient",
    ),
    Mapping(
        "nfilter.levels.max",
        40,
        ("max_levels",),
        "in the public schema: columns that an exact result is broken down by have no more categories",
    ),
)


def policy_fields(filters: Filters) -> dict[str, Any]:
    """Return the fields of a policy that keep the filters: exact releases are allowed, as in DataSHIELD.

    Never below our own floors: a study states a least cell of 3 or more, and a cohort has 10 patients or more.

    Examples
    --------
    >>> policy_fields(Filters())["min_cell"], policy_fields(Filters(tab=1))["min_cell"]
    (3, 3)
    """
    return {
        "allow_exact": True,
        "min_cell": max(filters.tab, filters.subset, 3),
        "min_k": max(filters.tab, filters.knn, 3),
        "min_patients": max(filters.subset, 10),
        "max_parameter_ratio": filters.glm,
        "max_text": filters.string,
        "max_level_density": filters.levels_density,
        "max_levels": filters.levels_max,
    }
