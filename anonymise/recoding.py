"""A generalisation, applied: the table that leaves.

Identifiers and suppressed rows stay. Rows leave in a random order under a fresh index, because the input's order or
index would lead back to the patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.checking import failing_tuples
from anonymise.classes import BoolArray, IntArray
from anonymise.encoded import Encoded, Keys, Node
from anonymise.longitudinal import released_order
from anonymise.models import AnyModel
from anonymise.preparing import Prepared, column_of
from privacy.randomness import Rng
from privacy.schema import Schema


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Texts:
    """What every tuple is released as, and who is released.

    texts   per column, the texts in use, or all of a level
    codes   per column, which of them each tuple has, shape (n_tuples,)
    kept    entries (tuples, or histories) that are released, shape (n_entries,)
    """

    texts: tuple[tuple[str, ...], ...]
    codes: tuple[IntArray, ...]
    kept: BoolArray


def full_domain(encoded: Encoded, models: Sequence[AnyModel], node: Node) -> Texts:
    """Return the texts of one node for all tuples."""
    levels = list(zip(encoded.hierarchies, encoded.leaves, node, strict=True))
    return Texts(
        texts=tuple(hierarchy.labels[level] for hierarchy, _, level in levels),
        codes=tuple(hierarchy.codes[level][leaves] for hierarchy, leaves, level in levels),
        kept=~failing_tuples(encoded, models, node),
    )


def recoded(prepared: Prepared, schema: Schema, texts: Texts, rng: Rng) -> pd.DataFrame:
    """Return the release: texts as categoricals, in random order, without suppressed rows."""
    encoded, patients = prepared.encoded, prepared.patients
    kept = np.flatnonzero(texts.kept[encoded.row_entry])
    if patients is None:
        order = kept[rng.permutation(kept.size)]
    else:
        order, fresh_ids = released_order(kept, patients, rng)
    tuples = encoded.row_tuple[order]
    labels = {
        hierarchy.name: labelled(names, codes.astype(np.min_scalar_type(-len(names)))[tuples])
        for hierarchy, names, codes in zip(encoded.hierarchies, texts.texts, texts.codes, strict=True)
    }
    released: dict[str, Any] = {}
    for column in schema.columns:
        if column.role == "quasi-identifier":
            released[column.name] = labels[column.name]
        elif patients is not None and column.name == schema.patient_id:
            released[column.name] = fresh_ids
        elif column.role != "identifier":
            released[column.name] = passed_on(column_of(prepared.frame, column.name), order)
    return pd.DataFrame(released, index=pd.RangeIndex(order.size))


def labelled(names: Sequence[str], codes: Keys) -> Any:
    """Return texts by their codes, as a categorical: an eighth of the memory."""
    # The labels of a level are public, and those of other algorithms are sorted: it tells no more than its text.
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(names)))


def passed_on(values: pd.Series, order: npt.NDArray[np.int64]) -> Any:
    """Return the values of some rows unchanged, in a given order, as an array that says nothing of the others."""
    # A categorical carries the list of its categories, in an order that may come from the input and with values that
    # only suppressed rows have; a new array of plain values carries neither.
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    released = values.array.take(order)
    if isinstance(released, pd.arrays.IntegerArray | pd.arrays.FloatingArray | pd.arrays.BooleanArray):
        # Under the mask of a missing value its old one may still stand.
        missing = released.isna()
        released = released.fillna(released.dtype.type(0))
        released[missing] = pd.NA
    if isinstance(released.dtype, pd.ArrowDtype) and hasattr(released.dtype.pyarrow_dtype, "index_type"):
        # A dictionary of Arrow is such a list of categories as well; no other type has an index type.
        released = released.astype(pd.ArrowDtype(released.dtype.pyarrow_dtype.value_type))
    return released
