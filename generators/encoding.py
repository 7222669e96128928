"""Between tables and codes, by the public schema alone.

A code is a category or a group of categories, a bin, or "missing". Decoding draws a category inside the group and a
value inside the bin: the synthetic value is as fine as the schema says, but carries no more than its code and public
laws (`within_bins`, the schema's weights of categories). Rules that codes only approximate are kept here: values in
order (`ordering`), leaves of groups that a rule tells apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from generators.decoding import Decoder
from generators.domain import Domain
from generators.errors import DomainMismatch
from generators.marginals import Codes, smallest_dtype
from generators.within_bins import FloatArray, IntArray, bin_limits, grid_of
from privacy import Schema, SchemaError, SchemaProblem


def encode(frame: pd.DataFrame, schema: Schema) -> Codes:
    """Return the codes of the schema's modelled columns, each row by itself.

    Survival beyond the schema's horizon is coded as followed to the horizon without event. Patterns of missing values
    are columns of their own, derived from the table.

    Returns
    -------
    Shape (n_rows, n_columns), columns in the order of `Domain.from_schema`, in the smallest unsigned type.

    Raises
    ------
    SchemaError
        If the table lacks a coded column or holds a value outside the schema: every problem, by column.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"age": {"kind": "integer", "bounds": [0, 110], "edges": [20, 60]}}})
    >>> encode(pd.DataFrame({"age": [19, 60, 110]}), schema).ravel().tolist()
    [0, 2, 2]
    """
    domain = Domain.from_schema(schema)
    codes = np.empty((len(frame), len(domain)), dtype=smallest_dtype(domain), order="F")
    problems: list[SchemaProblem] = []
    for name in schema.coded:
        if name not in frame.columns:
            problems.append(SchemaProblem(name, "is missing from the table", "add it, or take it out of the schema"))
            continue
        column = schema.column(name)
        try:
            values = column.encode(np.asarray(frame[name].to_numpy()))
        except SchemaError as error:
            problems.extend(error.problems)
            continue
        codes[:, domain.position(name)] = column.model_codes()[values] if column.model_level else values
    if problems:
        raise SchemaError(problems)
    stop_at_horizon(codes, schema, domain)
    for pattern in schema.derived:
        bits = [
            (codes[:, domain.position(name)] == domain[name] - 1).astype(np.int64) << bit
            for bit, name in enumerate(pattern.missing_of)
        ]
        codes[:, domain.position(pattern.name)] = np.sum(bits, axis=0)
    return codes


def check_decodable(schema: Schema) -> None:
    """Raise SchemaError unless every bin of every coded column holds at least one value that decoding could draw."""
    problems = []
    for name in schema.coded:
        column = schema.column(name)
        if not column.is_binned or grid_of(column) is None:
            continue
        limits: IntArray = bin_limits(column)
        if (limits[:, 0] >= limits[:, 1]).any():
            what = "whole number" if column.kind == "integer" else f"number of {column.decimals} decimals"
            what = f"whole {column.resolution}" if column.kind == "date" else what
            problems.append(
                SchemaProblem(name, f"has a bin that holds no {what}", "merge it with its neighbour: drop one edge")
            )
    if problems:
        raise SchemaError(problems)


def decode(
    codes: Codes,
    schema: Schema,
    *,
    log_scale: Iterable[str] = (),
    survival_counts: FloatArray | None = None,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return a table with the schema's types: texts for categories, int64 or float64 for numbers, missing as None/NaN.

    Dates are datetime64, missing as NaT, or ISO texts where the schema says so.

    Parameters
    ----------
    codes
        Shape (n_rows, n_columns), columns in the order of `Domain.from_schema`.
    schema
        The public description; columns without codes are not generated.
    log_scale
        Numeric columns whose values are drawn uniformly in log(1 + x - lower bound) within a bin, which suits skewed
        laboratory values; the others are drawn uniformly in x, but for the survival time (`within_bins`).
    survival_counts
        Released counts of (time, event) that the follow-up times' law is taken from, shape (time codes, event codes);
        by default those of `codes` themselves, which are as good where rows are many.
    rng
        Any generator: the codes are private already, and positions inside a bin tell nothing.

    Raises
    ------
    NoLikelyRow
        If codes of groups leave no categories that obey the schema's rules.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"age": {"kind": "integer", "bounds": [0, 110], "edges": [20, 60]}}})
    >>> age = decode(np.array([[0], [2]]), schema, rng=np.random.default_rng(1))["age"]
    >>> bool(0 <= age[0] < 20), bool(60 <= age[1] <= 110), str(age.dtype)
    (True, True, 'int64')
    """
    logarithmic = frozenset(log_scale)
    domain = Domain.from_schema(schema)
    for name in logarithmic:
        if domain[name] and not schema.column(name).is_numeric:
            raise DomainMismatch(f"log_scale names {name!r}, which is no number; name integer or continuous columns")
    decoder = Decoder(codes, schema, logarithmic=logarithmic, survival_counts=survival_counts, rng=rng)
    return pd.DataFrame(decoder.columns())


def stop_at_horizon(codes: Codes, schema: Schema, domain: Domain) -> None:
    """Turn events beyond the schema's horizon into the end of follow-up, in place."""
    survival = schema.survival
    if survival is None or survival.horizon is None or not {survival.time, survival.event} <= set(domain):
        return
    event = schema.column(survival.event)
    at_end = codes[:, domain.position(survival.time)] == len(schema.column(survival.time).edges)
    column = codes[:, domain.position(survival.event)]
    if event.nullable:
        at_end = at_end & (column != event.n_codes - 1)
    column[at_end] = event.categories.index("0")
