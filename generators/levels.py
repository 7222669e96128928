"""Columns of many categories: a model of groups, and what is paid to know the categories within them.

y_i, s     noisy count of category i and its noise standard deviation

ICD-10 has thousands of codes; pairs of such a column with others would be mostly noise. With `model_level` in the
schema, generators model the groups of a public hierarchy (an ICD chapter, an ELN risk group), and decoding draws the
category within the group by the schema's public weights. Those may come from a public statistic, or from here: one
noisy histogram of the categories, which costs no more than one column of one code each.

Within a group let z be the nearest counts >= 0 of the same sum as y_1, ..., y_L, with a of them positive. They are
moved towards their mean, z = mean + c (z - mean), c = max(0, 1 - a s^2 / ||z - mean||^2), as pairs are in `shrinkage`:
what noise alone explains becomes equal weights. The same histogram tells which categories are frequent enough to be
modelled by themselves. Both decisions look at noisy counts only, so they cost nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from generators.errors import DomainMismatch
from generators.inference import on_simplex
from generators.oracle import LocalTableOracle, MarginalOracle, Measurement
from generators.within_bins import FloatArray
from privacy import Event, Rng, Schema
from privacy.neighbours import Neighbours
from privacy.schema import Column

# Of a thousand categories without patients, fewer than one in a hundred tables shows one above so many times
# sqrt(2 log n) standard deviations.
_ABOVE_NOISE = 1.3


def leaf_schema(schema: Schema, columns: Iterable[str] | None = None) -> Schema:
    """Return the schema of the leaves: some columns with a model level (all of them by default), each at level 0.

    Whoever answers for the rows is asked with it: `LocalTableOracle(frame[...], leaf_schema(schema))`, or remote sites.
    """
    wanted = [column.name for column in schema.columns if column.model_level] if columns is None else list(columns)
    flat = [name for name in wanted if not schema.column(name).model_level]
    if flat or not wanted:
        raise DomainMismatch(f"no model_level is set for {', '.join(flat) or 'any column'}; set it in the schema")
    id_column = [] if schema.patient_id is None else [schema.patient_id]
    subset = schema.subset([*wanted, *id_column])
    return replace(
        subset,
        columns=tuple(replace(column, model_level=0, refined=(), weights=()) for column in subset.columns),
        rules=(),
        survival=None,
        missing_patterns=(),
    )


def private_leaves(
    frame: pd.DataFrame | None,
    schema: Schema,
    *,
    rho: float,
    columns: Iterable[str] | None = None,
    refine_above: float | None = None,
    oracle: MarginalOracle | None = None,
    neighbours: Neighbours = "add_remove_one",
    max_records_per_patient: int = 1,
    rng: Rng | None = None,
) -> tuple[Schema, tuple[Event, ...]]:
    """Return the schema with weights of categories within their groups, and what that cost.

    Parameters
    ----------
    frame
        The private table; None if an oracle on `leaf_schema(schema)` answers for it.
    schema
        The public description; its columns with a model level are asked about.
    rho
        Budget: one vector release of all their histograms.
    columns
        Which of these columns; all by default.
    refine_above
        Categories with more patients than this (a public number, compared with noisy counts) are modelled by
        themselves. Never below what noise alone would reach. None: the groups stay as they are.
    oracle, neighbours, max_records_per_patient, rng
        As for `Mechanism`.

    Returns
    -------
    The schema, and events for any accountant: give them to `fit(..., prior_events=)`.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"icd": {
    ...     "categories": ["C91.0", "C92.0", "C92.1"], "hierarchy": {"prefix": [3]}, "model_level": 1}}})
    >>> frame = pd.DataFrame({"icd": ["C91.0"] * 100 + ["C92.0"] * 600 + ["C92.1"] * 300})
    >>> weighted, events = private_leaves(frame, schema, rho=0.5)
    >>> weighted.column("icd").modelled().categories, [type(event).__name__ for event in events]
    (('C91**', 'C92**'), ['DiscreteGaussian'])
    >>> bool(1.6 < weighted.column("icd").weights[1] / weighted.column("icd").weights[2] < 2.4)
    True
    """
    if (frame is None) == (oracle is None):
        raise DomainMismatch("give either a frame or an oracle (frame=None, oracle=...)")
    leaves = leaf_schema(schema, columns)
    if frame is not None:
        schema.validate(frame)
        oracle = LocalTableOracle(
            frame[list(leaves.names)],
            leaves,
            neighbours=neighbours,
            max_records_per_patient=max_records_per_patient,
            rng=rng,
        )
    if oracle is None or set(oracle.domain) != set(leaves.coded):
        raise DomainMismatch("the oracle must answer for the columns of leaf_schema(schema)")
    spent_before = len(oracle.events)
    measured = oracle.measure([(name,) for name in leaves.coded], rho=rho)
    weighted = {part.columns[0]: _weighted(schema.column(part.columns[0]), part, refine_above) for part in measured}
    grown = replace(schema, columns=tuple(weighted.get(column.name, column) for column in schema.columns))
    # Read back, so that what was chosen from noise is checked like what a person wrote.
    return Schema.from_dict(grown.to_dict()), tuple(oracle.events[spent_before:])


def _weighted(column: Column, part: Measurement, refine_above: float | None) -> Column:
    counts = part.values[: len(column.categories)].astype(np.float64)
    if refine_above is not None:
        least = max(refine_above, _ABOVE_NOISE * part.noise_std * math.sqrt(2 * math.log(max(len(counts), 2))))
        names = set(column.group_labels())
        frequent = [
            category
            for category, count in zip(column.categories, counts, strict=True)
            # A category that bears a group's name stays in its group, or the two could not be told apart.
            if count > least and (category not in names or category in column.refined)
        ]
        column = replace(column, refined=tuple(frequent))
    groups = column.model_codes()[: len(counts)]
    weights = np.zeros(len(counts))
    for group in np.unique(groups):
        members = groups == group
        weights[members] = _shrunk(counts[members], part.noise_std)
    return replace(column, weights=tuple(round(float(weight), 3) for weight in weights))


def _shrunk(counts: FloatArray, noise_std: float) -> FloatArray:
    """Return counts >= 0 of the same sum, as far from equal as noise does not explain; equal if the sum is not > 0."""
    total = float(counts.sum())
    if total <= 0:
        return np.ones(len(counts))
    nearest = on_simplex(counts, total)
    equal = total / len(counts)
    distance = float(np.square(nearest - equal).sum())
    alive = int((nearest > 0).sum())
    kept = max(0.0, 1 - alive * noise_std**2 / distance) if distance > 0 else 0.0
    return equal + kept * (nearest - equal)
