"""The finished table, counted anew from its text: a release that fails its own check is withheld.

Nothing here uses the codes that the table was built from: classes are groups of equal text, sensitive values are read
again from the released columns, and the population is generalised to text as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from anonymise.classes import Attribute, AttributeName, Classes, IntArray
from anonymise.encoded import Keys, Node, dense_key, distinct, encode_attribute, squeeze
from anonymise.errors import GuaranteeBroken
from anonymise.hierarchies import Hierarchy
from anonymise.missing import released_crowds, wildcard_k
from anonymise.models import AnyModel, Model
from privacy.schema import Schema


def released_classes(
    table: pd.DataFrame, names: Sequence[str], *, n_rows: int, attributes: Mapping[AttributeName, Attribute]
) -> tuple[Classes, Keys]:
    """Return the classes of equal text of a released table, and the class of each row.

    attributes   of the raw table: their public values and how often each occurs there
    """
    texts = [distinct(table[name]) for name in names]
    key, size = dense_key([codes for codes, _ in texts], [max(found.size, 1) for _, found in texts])
    class_of_row, n_classes = squeeze(key, size)
    sizes = np.bincount(class_of_row, minlength=n_classes).astype(np.int64)
    again = {}
    for name, attribute in attributes.items():
        parts = [(table[hierarchy.name], hierarchy) for hierarchy in attribute.hierarchies]
        again[name] = encode_attribute(name, parts, class_of_row, attribute.overall)
    places = np.arange(sizes.size, dtype=np.int64)
    return Classes(sizes=sizes, n_rows=n_rows, attributes=again, places=places), class_of_row


def released_histories(
    table: pd.DataFrame,
    names: Sequence[str],
    patient: str,
    *,
    n_patients: int,
    attributes: Mapping[AttributeName, Attribute],
) -> Classes:
    """Return the classes of a released table, found anew from its text: patients by a dictionary of their sorted rows.

    patient      column of the released number of each row's patient
    n_patients   of the raw table
    attributes   of the raw table: their public values and how often each occurs there
    """
    numbers = table[patient].to_numpy(dtype=np.int64)
    row_class = table.groupby(list(names), dropna=False, sort=False, observed=True).ngroup().to_numpy(dtype=np.int64)
    if row_class.size and row_class.min() < 0:
        raise GuaranteeBroken(model="that every row has a class")
    order = np.lexsort((row_class, numbers))
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    known: dict[bytes, int] = {}
    of_patient = np.array(
        [known.setdefault(rows.tobytes(), len(known)) for rows in np.split(row_class[order], starts[1:]) if rows.size],
        dtype=np.int64,
    )
    again = {
        name: encode_attribute(
            name,
            [(table[hierarchy.name].iloc[order[starts]], hierarchy) for hierarchy in attribute.hierarchies],
            of_patient,
            attribute.overall,
        )
        for name, attribute in attributes.items()
    }
    sizes = np.bincount(of_patient).astype(np.int64)
    return Classes(sizes=sizes, n_rows=n_patients, attributes=again, places=np.arange(sizes.size, dtype=np.int64))


def check_release(
    table: pd.DataFrame,
    hierarchies: Sequence[Hierarchy],
    node: Node,
    models: Sequence[AnyModel],
    *,
    n_rows: int,
    attributes: Mapping[AttributeName, Attribute],
    population: pd.DataFrame | None = None,
    patient: str | None = None,
) -> None:
    """Raise GuaranteeBroken if a full-domain release is not generalised as the node says or fails a model.

    n_rows       patients of the raw table
    population   the population table, raw
    patient      the column of released numbers, where patients have several rows
    """
    names = [hierarchy.name for hierarchy in hierarchies]
    for hierarchy, level in zip(hierarchies, node, strict=True):
        if not set(table[hierarchy.name].unique()) <= set(hierarchy.labels[level]):
            raise GuaranteeBroken(model="the hierarchy of " + repr(hierarchy.name))
    if patient is not None:
        check_classes(released_histories(table, names, patient, n_patients=n_rows, attributes=attributes), models)
        return
    k = wildcard_k(hierarchies, models)
    if k is not None:
        if (released_crowds(table, hierarchies) < k).any():
            raise GuaranteeBroken(model=repr(models[0]))
        return
    classes, class_of_row = released_classes(table, names, n_rows=n_rows, attributes=attributes)
    if population is not None:
        classes.people = _people(table, class_of_row, hierarchies, node, population)
    check_classes(classes, models)


def check_contents(table: pd.DataFrame, schema: Schema, *, n_patients: int, patient: str | None = None) -> None:
    """Raise GuaranteeBroken unless a release has the schema's columns but identifiers, a fresh index, and each patient
    once: who came twice would make a class look larger than it is.

    n_patients   patients who are not suppressed
    patient      the column of released numbers, where patients have several rows
    """
    columns = [column.name for column in schema.columns if column.role != "identifier" or column.name == patient]
    if list(table.columns) != columns or table.attrs or not table.index.equals(pd.RangeIndex(len(table))):
        raise GuaranteeBroken(model="that nothing but the schema's columns leaves")
    n_released = len(table) if patient is None else int(table[patient].nunique())
    if n_released != n_patients:
        raise GuaranteeBroken(model="that every patient who is not suppressed leaves once")


def check_classes(classes: Classes, models: Sequence[AnyModel]) -> None:
    """Raise GuaranteeBroken if some class, or the release as a whole, fails a model."""
    for model in models:
        holds = not model.class_fails(classes).any() if isinstance(model, Model) else model.satisfied(classes.sizes)
        if not holds:
            raise GuaranteeBroken(model=repr(model))


def _people(
    table: pd.DataFrame, class_of_row: Keys, hierarchies: Sequence[Hierarchy], node: Node, population: pd.DataFrame
) -> IntArray:
    """Return how many people of the population have the text of each class."""
    names = [hierarchy.name for hierarchy in hierarchies]
    text = {
        hierarchy.name: np.array(hierarchy.labels[level], dtype=object)[
            hierarchy.codes[level][hierarchy.encode(population[hierarchy.name].to_numpy())]
        ]
        for hierarchy, level in zip(hierarchies, node, strict=True)
    }
    counts = pd.DataFrame(text).groupby(names, sort=False).size()
    first = np.unique(class_of_row, return_index=True)[1]
    keys = table[names].iloc[first].itertuples(index=False, name=None)
    known = dict(zip((key if isinstance(key, tuple) else (key,) for key in counts.index), counts, strict=True))
    return np.array([known.get(key, 0) for key in keys], dtype=np.int64)
