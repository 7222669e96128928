"""The door to the figures of risk: from a table, raw or released, to a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from anonymise.classes import IntArray
from anonymise.encoded import Codes
from anonymise.errors import HierarchyError
from anonymise.hierarchies import build_hierarchy
from anonymise.models import AnyModel
from anonymise.population import Estimate, Estimator, population_uniqueness
from anonymise.risk.coded import CodedColumn, WildcardRule, code_table
from anonymise.risk.crowd import Crowd
from anonymise.risk.figures import (
    RISK_THRESHOLDS,
    ColumnRisk,
    Missing,
    RiskReport,
    least_class,
    size_shares,
)
from anonymise.risk.journalist import JournalistRisk, counted, estimated
from anonymise.risk.levels import SensitiveRisk, sensitive_risk
from anonymise.risk.model_checks import check_models
from privacy.errors import SchemaError
from privacy.schema import Column, Schema


def assess_risk(
    frame: pd.DataFrame,
    schema: Schema | None = None,
    *,
    quasi_identifiers: Sequence[str] | None = None,
    sensitive: Sequence[str] | None = None,
    population: pd.DataFrame | None = None,
    population_size: float | None = None,
    estimator: Estimator = "dankar",
    missing: Missing | None = None,
    models: Sequence[AnyModel] = (),
    threshold: float = 0.09,
) -> RiskReport:
    """Return the risks of a raw or a released table, over the given or the schema's quasi-identifiers.

    Every column is reported by itself as well: a column nobody listed (a laboratory value, a free text) can be unique.
    The report is INTERNAL to the site, because it holds exact counts.

    Parameters
    ----------
    frame
        The table. If the schema names a patient id and the table has it, patients are counted instead of rows, and
        an attacker is assumed to know all rows of a patient.
    quasi_identifiers, sensitive
        Columns of that role; the schema's by default.
    population
        The quasi-identifiers of everybody the patients come from, one row a person, written as in the table (for a
        released table: generalised in the same way). Gives the journalist's risk.
    population_size, estimator
        How many people the table is a random sample of, and the model that estimates how many of them are unique
        (`anonymise.population`). Without a population table the journalist's risk is estimated from it as well.
    missing
        "own_value": a missing value agrees with missing values. "wildcard": a missing or "*" cell agrees with anything.
        By default as the schema says of each column, and "own_value" without one.
    models
        Privacy models to check on this table; its own distribution of sensitive values is what closeness refers to.
    threshold
        The risk that is still acceptable: 0.09 means classes of at least 11.

    Raises
    ------
    ValueError
        No quasi-identifiers, a column that is not in the table, a table without rows, an argument out of its range; a
        population, wildcards, or a model of a column that varies, where patients have several rows.

    Examples
    --------
    >>> toy = pd.DataFrame({"age": ["30-39"] * 3 + ["40-49"] * 4, "sex": ["F", "F", "F", "M", "M", None, None]})
    >>> report = assess_risk(toy, quasi_identifiers=["age", "sex"])
    >>> report.class_sizes
    ((2, 2), (3, 1))
    >>> round(report.average_prosecutor_risk, 6)
    0.428571
    >>> assess_risk(toy, quasi_identifiers=["age", "sex"], missing="wildcard").smallest_class
    3
    """
    if missing not in ("own_value", "wildcard", None):
        raise ValueError(f"missing must be 'own_value' or 'wildcard', got {missing!r}")
    k = least_class(threshold)
    names = tuple(str(name) for name in frame.columns)
    known = () if schema is None else schema.quasi_identifiers
    chosen = _chosen("quasi_identifiers", known if quasi_identifiers is None else quasi_identifiers, names)
    if not chosen:
        raise ValueError("quasi_identifiers must list at least one column (or give a schema that names them)")
    by_role = () if schema is None else tuple(name for name in schema.sensitive if name in names)
    secret = _chosen("sensitive", by_role if sensitive is None else sensitive, names)
    columns = code_table(frame)
    wild = WildcardRule.of(schema, chosen, missing)
    crowd = Crowd.of(columns, chosen, schema, wild)
    in_population = None if population is None else crowd.counted_in(population)
    sizes, people, n = crowd.sizes, crowd.people, crowd.classes.size
    values = {name: crowd.of_people(columns[name]) for name in secret}
    average = float((people / sizes).sum()) / n
    found, times = np.unique(crowd.sizes, return_counts=True)
    return RiskReport(
        quasi_identifiers=chosen,
        n_records=len(frame),
        n_classes=int(crowd.sizes.size),
        sample_uniqueness=int(people[sizes == 1].sum()) / n,
        average_prosecutor_risk=average,
        max_prosecutor_risk=1.0 / int(sizes.min()),
        marketer_risk=average,
        share_above=tuple((level, int(people[sizes < least].sum()) / n) for level, least in RISK_THRESHOLDS),
        class_sizes=tuple((int(size), int(count)) for size, count in zip(found, times, strict=True)),
        columns=tuple(_column_risk(column, quasi_identifier=name in chosen) for name, column in columns.items()),
        n_people=n,
        smallest_class=int(sizes.min()),
        threshold=threshold,
        share_at_risk=int(people[sizes < k].sum()) / n,
        distribution=size_shares(sizes, people),
        unit="row" if crowd.patients is None else "patient",
        missing="wildcard" if wild.columns else "own_value",
        journalist=_journalist(crowd, in_population, population_size, k),
        population_uniqueness=None if population_size is None else _uniqueness(crowd, population_size, estimator),
        sensitive=tuple(
            _sensitive_risk(columns[name], codes, crowd.classes, schema)
            for name, codes in values.items()
            if codes is not None
        ),
        not_counted=tuple(name for name, codes in values.items() if codes is None),
        models=check_models(models, frame, schema, columns=columns, crowd=crowd, population=in_population),
    )


def _chosen(argument: str, wanted: Sequence[str], names: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(wanted, str):
        raise ValueError(f"{argument} must list at least one column (or give a schema that names them)")
    for name in wanted:
        if name not in names:
            raise ValueError(f"column {name!r} must appear exactly once in the table")
    if len(set(wanted)) < len(tuple(wanted)):
        raise ValueError(f"{argument} must list each column once")
    return tuple(wanted)


def _column_risk(column: CodedColumn, *, quasi_identifier: bool) -> ColumnRisk:
    times = column.counts()
    return ColumnRisk(column.name, quasi_identifier, column.n_values, int((times == 1).sum()) / column.codes.size)


def _journalist(
    crowd: Crowd, in_population: IntArray | None, population_size: float | None, k: int
) -> JournalistRisk | None:
    if in_population is not None:
        return counted(
            np.maximum(in_population, crowd.sizes), crowd.people, k=k, not_covered=in_population < crowd.sizes
        )
    if population_size is None:
        return None
    return estimated(crowd.sizes, crowd.people, population_size=population_size, k=k)


def _uniqueness(crowd: Crowd, population_size: float, estimator: Estimator) -> Estimate:
    if crowd.wild.columns:
        reason = "the models count people in classes, and where missing values agree with all there are none"
        return Estimate(None, converged=False, estimator=estimator, reason=reason)
    return population_uniqueness(crowd.sizes, population_size=population_size, estimator=estimator)


def _sensitive_risk(column: CodedColumn, codes: Codes, classes: IntArray, schema: Schema | None) -> SensitiveRisk:
    listed = None if schema is None or column.name not in schema.names else schema.column(column.name)
    found = None if listed is None else _leaves(column, listed)
    rank, ordered = _numbers(column) if found is None else found
    return sensitive_risk(column.name, classes, rank[codes], n_values=int(rank.max()) + 1, ordered=ordered)


def _leaves(column: CodedColumn, listed: Column) -> tuple[IntArray, bool] | None:
    """Return the rank of each value among those that occur, and whether they have an order, as the schema says.

    Values are those that models see: the bins of a continuous column. None where the schema does not describe them: a
    column without a list, one bin for everything, or a table that was generalised.
    """
    try:
        hierarchy = build_hierarchy(listed)
        leaves = hierarchy.encode(column.values)
    except (SchemaError, HierarchyError):
        return None
    if hierarchy.n_leaves <= 1 + int(listed.nullable):
        return None
    rank = np.unique(leaves, return_inverse=True)[1].astype(np.int64)
    return rank, listed.kind != "categorical"


def _numbers(column: CodedColumn) -> tuple[IntArray, bool]:
    """Return the rank of each value if all are numbers or days, a missing value last; else any numbering."""
    present = np.arange(column.n_values) != column.missing
    if column.values.dtype.kind == "M":
        numbers = column.values[present].astype("datetime64[us]").astype(np.float64)
    else:
        numbers = pd.to_numeric(pd.Series(column.values[present], dtype=object), errors="coerce").to_numpy(np.float64)
    if np.isnan(numbers).any() or not numbers.size:
        return np.arange(column.n_values), False
    keys = np.full(column.n_values, np.inf)
    keys[present] = numbers
    return np.unique(keys, return_inverse=True)[1].astype(np.int64), True
