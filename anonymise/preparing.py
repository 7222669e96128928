"""Before the search: may this table be anonymised at all, and as what does it enter the search.

Everything that can be wrong with a table is found here, before anything is counted; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import pandas as pd

from anonymise._age_columns import with_ages
from anonymise._free_text import free_text_problems
from anonymise.classes import AttributeName, IntArray
from anonymise.encoded import Encoded, Factor, distinct, encode_table
from anonymise.errors import NotAnonymisable
from anonymise.hierarchies import Hierarchy, build_hierarchies, build_hierarchy
from anonymise.longitudinal import check_static, encode_histories, patient_codes
from anonymise.missing import wildcard_columns, without_missing
from anonymise.models import AnyModel, Model
from anonymise.models.checks import check_models
from privacy.errors import SchemaError, SchemaProblem
from privacy.schema import Schema


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prepared:
    """A table that may be anonymised, as the search sees it.

    frame            the rows that enter the search; ages in place of the dates they are computed from
    encoded          their tuples, and the hierarchies of the quasi-identifiers
    patients         number of each row's patient; None if every patient has one row
    population       the population table, likewise; None if there is none
    n_records        rows of the table
    n_patients       patients of the table
    n_lacking        patients left out beforehand, because a value is missing that may not be
    max_suppressed   patients of `encoded` that may be left out besides
    """

    frame: pd.DataFrame
    encoded: Encoded
    patients: IntArray | None
    population: pd.DataFrame | None
    n_records: int
    n_patients: int
    n_lacking: int
    max_suppressed: int

    def __repr__(self) -> str:
        """Name the columns only."""
        return f"Prepared({self.encoded!r})"

    @property
    def hierarchies(self) -> tuple[Hierarchy, ...]:
        """Hierarchies of the quasi-identifiers, in the schema's order."""
        return self.encoded.hierarchies


def prepare(
    frame: pd.DataFrame,
    schema: Schema,
    models: Sequence[AnyModel],
    *,
    suppression_limit: float,
    population: pd.DataFrame | None = None,
    static: Sequence[str] = (),
    target: str | None = None,
) -> Prepared:
    """Return a table as the search sees it. Raises what `anonymise` raises, but for what only the search finds."""
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    columns = _distinct(frame, schema)
    check_columns(frame, schema, columns)
    patients = _patients(frame, schema, static)
    n_patients = len(frame) if patients is None else int(patients.max()) + 1
    _check_releasable(frame, n_patients, schema, models)
    n_records = len(frame)
    hierarchies = build_hierarchies(schema.column(name) for name in schema.quasi_identifiers)
    standing = without_missing(with_ages(frame, schema), schema, patients)
    if standing is not frame:
        frame, columns = standing, _distinct(standing, schema)
        patients = _patients(frame, schema, ())
    n_left = len(frame) if patients is None else int(patients.max()) + 1
    n_lacking = n_patients - n_left
    # The limit is read as the decimal it was written as: 0.29 of 100 rows are 29, not 28.999... And a table without
    # rows is no release, whatever the limit.
    max_suppressed = min(int(Fraction(repr(float(suppression_limit))) * n_patients), n_patients - 1) - n_lacking
    if max_suppressed < 0 or n_left < max(model.least_rows for model in models):
        raise NotAnonymisable(
            rule="too many patients lack a value in a column with missing = 'suppress'",
            way_out="raise suppression_limit, or set missing = 'own_value'",
        )
    population = None if population is None else with_ages(population, schema)
    sensitive = _sensitive(frame, schema, models, target)
    encoded = _encoded(schema, hierarchies, columns, patients, population, sensitive)
    check_models(models, encoded)
    return Prepared(frame, encoded, patients, population, n_records, n_patients, n_lacking, max_suppressed)


def _encoded(
    schema: Schema,
    hierarchies: Sequence[Hierarchy],
    columns: Mapping[str, Factor],
    patients: IntArray | None,
    population: pd.DataFrame | None,
    sensitive: Mapping[AttributeName, Sequence[tuple[pd.Series, Hierarchy]]],
) -> Encoded:
    known = [columns[name] for name in schema.quasi_identifiers]
    if patients is None:
        people = None if population is None else _population(population, schema)
        return encode_table(known, hierarchies, sensitive=sensitive, population=people)
    if wildcard_columns(hierarchies):
        raise NotAnonymisable(
            rule="missing = 'wildcard' has no meaning for patients of several rows",
            way_out="set missing = 'own_value' or 'suppress'",
        )
    if population is not None:
        raise ValueError("a population table has one row a person, this table several a patient: leave population out")
    return encode_histories(known, hierarchies, patients, sensitive=sensitive)


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
        return distinct(column_of(frame, name))
    except TypeError:  # What cannot be hashed is no single value.
        problem = SchemaProblem(name, "holds a list, a map or another collection", "write one value a cell")
        raise SchemaError([problem]) from None


def check_columns(frame: pd.DataFrame, schema: Schema, known: Mapping[str, Factor] | None = None) -> None:
    """Raise SchemaError if a table does not fit its schema.

    known   columns whose distinct values are known already
    """
    # A day is read by its hierarchy; the schema itself knows bounds of numbers only.
    dates = tuple(c.name for c in schema.columns if c.kind == "date" and c.role == "quasi-identifier")
    columns = tuple(replace(c, bounds=None, categories=()) if c.name in dates else c for c in schema.columns)
    replace(schema, columns=columns, rules=()).validate(_DistinctValues(frame, {} if known is None else known))
    if schema.rules:
        ruled = {name for rule in schema.rules for name in rule.columns}
        schema.subset(ruled).validate(frame[[name for name in schema.names if name in ruled]])


def _patients(frame: pd.DataFrame, schema: Schema, static: Sequence[str]) -> IntArray | None:
    """Return the number of each row's patient, or None if every patient has one row."""
    if schema.patient_id is None:
        if static:
            raise ValueError("static names columns with one value a patient, but the schema names no patient_id")
        return None
    if schema.column(schema.patient_id).role != "identifier":
        raise SchemaError(
            [SchemaProblem(schema.patient_id, "is the patient's id and would be released", "make it an identifier")]
        )
    patients = patient_codes(column_of(frame, schema.patient_id))
    check_static(frame, static, patients)
    return None if int(patients.max()) + 1 == patients.size else patients


def _check_releasable(frame: pd.DataFrame, n_patients: int, schema: Schema, models: Sequence[AnyModel]) -> None:
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
    if n_patients < max(model.least_rows for model in models):
        raise NotAnonymisable(
            rule="the table has fewer patients than the models' smallest class",
            way_out="pool it with other sites, or do not release it",
        )
    text = free_text_problems(frame, schema)
    if text:
        raise SchemaError(text)


def _sensitive(
    frame: pd.DataFrame, schema: Schema, models: Sequence[AnyModel], target: str | None
) -> dict[AttributeName, list[tuple[pd.Series, Hierarchy]]]:
    """Return the columns and hierarchies of the attributes that models name, and of the column to be predicted."""
    wanted = sensitive_columns(schema, models)
    if target is not None:
        if target not in schema.names or schema.column(target).role in ("identifier", "quasi-identifier"):
            raise ValueError(f"target {target!r} must be a column of the schema that is released unchanged")
        wanted[target] = (target,)
    return {
        attribute: [(column_of(frame, name), build_hierarchy(schema.column(name))) for name in names]
        for attribute, names in wanted.items()
    }


def sensitive_columns(schema: Schema, models: Sequence[AnyModel]) -> dict[AttributeName, tuple[str, ...]]:
    """Return the columns of each attribute that models name. Raises ValueError if one is no sensitive column."""
    out: dict[AttributeName, tuple[str, ...]] = {}
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
        out[model.attribute] = names
    return out


def _population(population: pd.DataFrame, schema: Schema) -> list[pd.Series]:
    lacking = [name for name in schema.quasi_identifiers if name not in population.columns]
    if lacking:
        raise SchemaError(
            [SchemaProblem(name, "is not in the population table", "give all quasi-identifiers") for name in lacking]
        )
    return [column_of(population, name) for name in schema.quasi_identifiers]


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column that the table has once."""
    values = frame[name]
    if not isinstance(values, pd.Series):  # Ruled out by the schema's check of repeated names.
        raise TypeError(f"column {name!r} is not one column")
    return values
