"""From a table of patients to a released table: the best generalisation, applied, shuffled and checked again.

What leaves: generalised quasi-identifiers as text, and sensitive and insensitive columns *unchanged*. k-anonymity
speaks of the quasi-identifiers alone, so the schema's roles are the decision that protects: a column that can tell
patients apart (a free text, a laboratory value to three digits, a rare diagnosis) must be a quasi-identifier or go.
Identifiers and suppressed rows do not leave. Rows leave in a random order under a fresh index, because the input's
order or index would lead back to the patients.

Everybody is recoded alike (full-domain, global recoding): schemes that choose per class leak through their choices
(Cohen 2022, "Attacks on deidentification's defenses"). Two releases of the same patients can be intersected; for
repeated releases use differential privacy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise._ages import with_ages
from anonymise._free_text import free_text_problems
from anonymise.checking import failing_tuples
from anonymise.classes import AttributeName
from anonymise.encoded import Encoded, Factor, distinct, encode_table
from anonymise.errors import NotAnonymisable
from anonymise.hierarchies import Hierarchy, build_hierarchies, build_hierarchy
from anonymise.lattice import Optimum, search
from anonymise.loss import METRICS
from anonymise.missing import without_missing
from anonymise.models import AnyModel, Model
from anonymise.models.checks import check_kinds, check_models
from anonymise.verifying import check_release
from privacy.errors import SchemaError, SchemaProblem
from privacy.randomness import Rng, SecureRng
from privacy.schema import Schema

Quality = Literal["loss"]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A released table and how it came about. Only `table` and `node` are meant to leave the site.

    node        level of each quasi-identifier, in the schema's order
    table       the release: fresh index, random order, labels as text
    score       loss of the release in [0, 1]; it and `suppressed` depend on exact counts and stay inside
    suppressed  number of rows left out
    optimal     whether no other combination of levels has a lower score (proven)
    gap         score minus the proven lower bound of every score; 0.0 where optimal
    n_checked   combinations of levels whose classes were counted
    """

    node: Mapping[str, int]
    table: pd.DataFrame = field(repr=False)
    score: float = field(repr=False)
    suppressed: int = field(repr=False)
    optimal: bool
    gap: float
    n_checked: int = field(repr=False)


def anonymise(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    models: Sequence[AnyModel],
    suppression_limit: float = 0.0,
    quality: Quality = "loss",
    population: pd.DataFrame | None = None,
    rng: Rng | None = None,
) -> Result:
    """Return the release of least loss that satisfies all models, among all full-domain generalisations.

    Parameters
    ----------
    frame
        One row a patient; exactly the schema's columns.
    schema
        Roles, public domains and hierarchies of the columns.
    models
        What each equivalence class must satisfy; at least one.
    suppression_limit
        Largest share of rows that may be left out, in [0, 1]; floor(limit * rows), inclusive, and never all of them.
    quality
        "loss": ARX's Loss with arithmetic mean (`anonymise.loss`).
    population
        The quasi-identifiers of everybody the patients come from, for models that compare with it; raw values.
    rng
        Source of the released order; the operating system's by default.

    Raises
    ------
    SchemaError
        The table does not fit the schema.
    HierarchyError
        A hierarchy is not one.
    NotAnonymisable
        Too few rows, several rows of one patient, or no generalisation that satisfies the models.
    LatticeTooLarge
        More than 5e7 combinations of levels.

    Examples
    --------
    >>> from anonymise import KAnonymity
    >>> schema = Schema.from_dict({"columns": {
    ...     "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [10]}},
    ...     "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
    ... }})
    >>> frame = pd.DataFrame({"age": [31, 34, 38, 62, 65], "sex": ["F", "F", "F", "M", "M"]})
    >>> result = anonymise(frame, schema, models=[KAnonymity(2)])
    >>> dict(result.node)
    {'age': 1, 'sex': 0}
    >>> sorted(result.table["age"].unique())
    ['[30, 40)', '[60, 70)']
    """
    if not 0.0 <= suppression_limit <= 1.0:
        raise ValueError(f"suppression_limit must be in [0, 1], got {suppression_limit!r}")
    if quality not in METRICS:
        raise ValueError(f"quality must be one of {', '.join(sorted(METRICS))}, got {quality!r}")
    check_kinds(models)
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    columns = _distinct(frame, schema)
    _check_table(frame, schema, columns)
    _check_releasable(frame, schema, models)
    hierarchies = build_hierarchies(schema.column(name) for name in schema.quasi_identifiers)
    n_rows = len(frame)
    prepared = without_missing(with_ages(frame, schema), schema)
    n_lacking = n_rows - len(prepared)
    columns = columns if prepared is frame else _distinct(prepared, schema)
    frame = prepared
    # The limit is read as the decimal it was written as: 0.29 of 100 rows are 29, not 28.999... And a table without
    # rows is no release, whatever the limit.
    max_suppressed = min(int(Fraction(repr(float(suppression_limit))) * n_rows), n_rows - 1) - n_lacking
    if max_suppressed < 0 or len(frame) < max(model.least_rows for model in models):
        raise NotAnonymisable(
            rule="too many rows lack a value in a column with missing = 'suppress'",
            way_out="raise suppression_limit, or set missing = 'own_value'",
        )
    population = None if population is None else with_ages(population, schema)
    encoded = encode_table(
        [columns[name] for name in schema.quasi_identifiers],
        hierarchies,
        sensitive=_sensitive(frame, schema, models),
        population=None if population is None else _population(population, schema),
    )
    check_models(models, encoded)
    optimum = search(
        encoded,
        METRICS[quality](hierarchies),
        models,
        max_suppressed=max_suppressed,
    )
    if optimum is None:
        raise NotAnonymisable(
            rule="no combination of levels satisfies the models within the suppression limit",
            way_out="let the hierarchies end in one group (*), raise suppression_limit, or relax the models",
        )
    table = _recoded(frame, schema, encoded, models, optimum, SecureRng() if rng is None else rng)
    check_release(
        table,
        hierarchies,
        optimum.node,
        models,
        n_rows=encoded.n_rows,
        attributes=encoded.attributes,
        population=population,
    )
    return Result(
        node=MappingProxyType(dict(zip(schema.quasi_identifiers, optimum.node, strict=True))),
        table=table,
        # A row that was left out beforehand has loss 1, as every suppressed one.
        score=(optimum.score * len(frame) + n_lacking) / n_rows if n_lacking else optimum.score,
        suppressed=optimum.n_suppressed + n_lacking,
        optimal=True,
        gap=0.0,
        n_checked=optimum.n_checked,
    )


# ---------------------------------------------------------------- before: may this table be anonymised at all


class _DistinctValues:
    """A frame as the schema's check sees it, each column cut to its distinct values: no rule but a forbidden
    combination looks at rows, and reading each value once is what makes checking large tables cheap.
    """

    def __init__(self, frame: pd.DataFrame, known: Mapping[str, Factor]) -> None:
        self._frame = frame
        self._known = known
        self.columns = frame.columns

    def __len__(self) -> int:
        return len(self._frame)

    def __getitem__(self, name: str, /) -> pd.Series:
        values = self._known[name] if name in self._known else _factor(self._frame, name)
        return pd.Series(values.values)


def _distinct(frame: pd.DataFrame, schema: Schema) -> dict[str, Factor]:
    """Return the quasi-identifiers that the table has once: what is checked is what is searched."""
    names = [name for name in schema.quasi_identifiers if list(frame.columns).count(name) == 1]
    return {name: _factor(frame, name) for name in names}


def _factor(frame: pd.DataFrame, name: str) -> Factor:
    try:
        return distinct(_values(frame, name))
    except TypeError:  # What cannot be hashed is no single value.
        problem = SchemaProblem(name, "holds a list, a map or another collection", "write one value a cell")
        raise SchemaError([problem]) from None


def _check_table(frame: pd.DataFrame, schema: Schema, known: Mapping[str, Factor]) -> None:
    # A day is read by its hierarchy; the schema itself knows bounds of numbers only.
    dates = tuple(c.name for c in schema.columns if c.kind == "date" and c.role == "quasi-identifier")
    columns = tuple(replace(c, bounds=None, categories=()) if c.name in dates else c for c in schema.columns)
    replace(schema, columns=columns, rules=()).validate(_DistinctValues(frame, known))
    if schema.rules:
        ruled = {name for rule in schema.rules for name in rule.columns}
        schema.subset(ruled).validate(frame[[name for name in schema.names if name in ruled]])


def _check_releasable(frame: pd.DataFrame, schema: Schema, models: Sequence[AnyModel]) -> None:
    if not schema.quasi_identifiers:
        raise SchemaError(
            [
                SchemaProblem(
                    "-",
                    "no column is a quasi-identifier",
                    'give the columns that an outsider may know the role "quasi-identifier"',
                )
            ]
        )
    if len(frame) < max(model.least_rows for model in models):
        raise NotAnonymisable(
            rule="the table has fewer rows than the models' smallest class",
            way_out="pool it with other sites, or do not release it",
        )
    if schema.patient_id is not None:
        if schema.column(schema.patient_id).role != "identifier":
            raise SchemaError(
                [SchemaProblem(schema.patient_id, "is the patient's id and would be released", "make it an identifier")]
            )
        if frame[schema.patient_id].duplicated().any():
            raise NotAnonymisable(
                rule=f"column {schema.patient_id!r}: a patient has several rows, and models count patients",
                way_out="bring the table to one row a patient",
            )
    text = free_text_problems(frame, schema)
    if text:
        raise SchemaError(text)


def _sensitive(
    frame: pd.DataFrame, schema: Schema, models: Sequence[AnyModel]
) -> dict[AttributeName, list[tuple[pd.Series, Hierarchy]]]:
    """Return the columns and hierarchies of the attributes that models name."""
    out: dict[AttributeName, list[tuple[pd.Series, Hierarchy]]] = {}
    for model in models:
        if not isinstance(model, Model) or model.attribute is None:
            continue
        names = (model.attribute,) if isinstance(model.attribute, str) else model.attribute
        for name in names:
            if name not in schema.names:
                raise ValueError(f"a model names the attribute {name!r}, which is not a column of the schema")
            if schema.column(name).role in ("identifier", "quasi-identifier"):
                raise ValueError(
                    f"a model names the attribute {name!r}, which is {schema.column(name).role} in the schema; "
                    "a sensitive attribute is what an outsider does not know"
                )
        out[model.attribute] = [(_values(frame, name), build_hierarchy(schema.column(name))) for name in names]
    return out


def _population(population: pd.DataFrame, schema: Schema) -> list[pd.Series]:
    lacking = [name for name in schema.quasi_identifiers if name not in population.columns]
    if lacking:
        raise SchemaError(
            [SchemaProblem(name, "is not in the population table", "give all quasi-identifiers") for name in lacking]
        )
    return [_values(population, name) for name in schema.quasi_identifiers]


def _values(frame: pd.DataFrame, name: str) -> pd.Series:
    values = frame[name]
    if not isinstance(values, pd.Series):  # Ruled out by the schema's check of repeated names.
        raise TypeError(f"column {name!r} is not one column")
    return values


# ---------------------------------------------------------------- the release


def _recoded(
    frame: pd.DataFrame, schema: Schema, encoded: Encoded, models: Sequence[AnyModel], optimum: Optimum, rng: Rng
) -> pd.DataFrame:
    kept = np.flatnonzero(~failing_tuples(encoded, models, optimum.node)[encoded.row_tuple])
    order = kept[rng.permutation(kept.size)]
    tuples = encoded.row_tuple[order]
    recoded = {
        # The labels of a level are public, so a categorical tells no more than its text, in an eighth of the memory.
        hierarchy.name: pd.Categorical.from_codes(
            hierarchy.codes[level].astype(np.min_scalar_type(-hierarchy.n_groups(level)))[leaves][tuples],
            dtype=pd.CategoricalDtype(list(hierarchy.labels[level])),
        )
        for hierarchy, leaves, level in zip(encoded.hierarchies, encoded.leaves, optimum.node, strict=True)
    }
    released: dict[str, Any] = {}
    for column in schema.columns:
        if column.role == "quasi-identifier":
            released[column.name] = recoded[column.name]
        elif column.role != "identifier":
            released[column.name] = _passed(_values(frame, column.name), order)
    return pd.DataFrame(released, index=pd.RangeIndex(order.size))


def _passed(values: pd.Series, order: npt.NDArray[np.int64]) -> Any:
    # A categorical carries the list of its categories, in an order that may come from the input and with values that
    # only suppressed rows have; a new array of plain values carries neither.
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    return values.array.take(order)
