"""A full-domain generalisation, applied: the table that leaves.

Identifiers and suppressed rows stay. Rows leave in a random order under a fresh index, because the input's order or
index would lead back to the patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.checking import failing_tuples
from anonymise.encoded import Keys, Node
from anonymise.hierarchies import Hierarchy
from anonymise.longitudinal import released_order
from anonymise.models import AnyModel
from anonymise.preparing import Prepared, column_of
from privacy.randomness import Rng
from privacy.schema import Schema


def recoded(prepared: Prepared, schema: Schema, models: Sequence[AnyModel], node: Node, rng: Rng) -> pd.DataFrame:
    """Return the release of a node: labels of its levels as categoricals, in random order, without suppressed rows."""
    encoded, patients = prepared.encoded, prepared.patients
    kept = np.flatnonzero(~failing_tuples(encoded, models, node)[encoded.row_entry])
    if patients is None:
        order = kept[rng.permutation(kept.size)]
    else:
        order, fresh_ids = released_order(kept, patients, rng)
    tuples = encoded.row_tuple[order]
    labels = {}
    for hierarchy, leaves, level in zip(encoded.hierarchies, encoded.leaves, node, strict=True):
        group_of_leaf = hierarchy.codes[level].astype(np.min_scalar_type(-hierarchy.n_groups(level)))
        labels[hierarchy.name] = labelled(hierarchy, level, group_of_leaf[leaves][tuples])
    released: dict[str, Any] = {}
    for column in schema.columns:
        if column.role == "quasi-identifier":
            released[column.name] = labels[column.name]
        elif patients is not None and column.name == schema.patient_id:
            released[column.name] = fresh_ids
        elif column.role != "identifier":
            released[column.name] = passed_on(column_of(prepared.frame, column.name), order)
    return pd.DataFrame(released, index=pd.RangeIndex(order.size))


def labelled(hierarchy: Hierarchy, level: int, groups: Keys) -> Any:
    """Return the labels of some groups of a level."""
    # The labels of a level are public, so a categorical tells no more than its text, in an eighth of the memory.
    return pd.Categorical.from_codes(groups, dtype=pd.CategoricalDtype(list(hierarchy.labels[level])))


def passed_on(values: pd.Series, order: npt.NDArray[np.int64]) -> Any:
    """Return the values of some rows unchanged, in a given order, as an array that says nothing of the others."""
    # A categorical carries the list of its categories, in an order that may come from the input and with values that
    # only suppressed rows have; a new array of plain values carries neither.
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    return values.array.take(order)
