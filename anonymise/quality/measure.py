"""The quality of a finished release, whatever made it, measured from its texts: every metric, with its meaning.

Cells of a column may differ in how far they were generalised (Mondrian, local recoding, suppressed cells). What a text
stands for is read from it (`anonymise.quality.texts`). Rows of the release are not matched with raw rows: nobody needs
to know which is whose. On a full-domain release every figure is the score that the search would give (factor 0.5, equal
weights); where texts of a column overlap, these definitions are extended:

precision             a text's level is the lowest of which one group holds all its values
non_uniform_entropy   a released cell costs the entropy of the raw column within what it stands for, a suppressed row
                      that of the raw columns
kl_divergence         a raw tuple's share is the sum over all classes that it may belong to

ncp is the normalised certainty penalty (Xu et al. 2006, KDD): of whole numbers and bins the same as a cell's loss,
(values - 1)/(n - 1); of categories values/n, and 0 for a single value; a suppressed row costs 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise._age_columns import with_ages
from anonymise.classes import BoolArray, FloatArray, IntArray
from anonymise.encoded import Encoded, dense_key, distinct, encode_table
from anonymise.hierarchies import Hierarchy, build_hierarchies
from anonymise.quality.prediction import leave_one_out_accuracy, majority_accuracy
from anonymise.quality.texts import Texts
from privacy.schema import Schema


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a release's quality.

    unit      "share" (0 nothing lost, 1 everything), "bits", "rows", "pairs of rows" or "accuracy" (higher is better)
    meaning   in plain words
    """

    name: str
    value: float
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """One released column: what its texts stand for.

    codes     text of each class, shape (n_classes,)
    members   leaves of each text, shape (n_texts, n_leaves)
    levels    level of each text, shape (n_texts,)
    raw       rows of the raw table with each leaf, shape (n_leaves,)
    """

    hierarchy: Hierarchy
    codes: IntArray
    members: BoolArray
    levels: IntArray
    raw: FloatArray

    @property
    def sizes(self) -> FloatArray:
        """Values that each text stands for, shape (n_texts,)."""
        return np.asarray(self.members.sum(axis=1), dtype=np.float64)

    @property
    def is_partition(self) -> bool:
        """Whether no two texts stand for a common value."""
        return bool((self.members.sum(axis=0) <= 1).all())


def measure_quality(
    raw: pd.DataFrame, released: pd.DataFrame, schema: Schema, *, targets: Sequence[str] | None = None
) -> dict[str, Measure]:
    """Return every quality metric of a release, by name. INTERNAL: the figures depend on exact counts.

    Parameters
    ----------
    raw
        The table that was anonymised: all its rows, those that were suppressed included.
    released
        What was released of it, in any order.
    schema
        The schema that it was released with.
    targets
        Columns whose prediction from the quasi-identifiers is compared; by default the sensitive ones that the schema
        gives categories or bins. For each, `accuracy:NAME` (released), `raw_accuracy:NAME` and
        `majority_accuracy:NAME` (naive Bayes, `anonymise.quality.prediction`), and `classification:NAME`.

    Raises
    ------
    ValueError
        The release has more rows than the raw table or none, lacks a column, or holds a text that stands for nothing.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {
    ...     "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [10]}},
    ... }})
    >>> raw = pd.DataFrame({"age": [31, 34, 38, 62]})
    >>> quality = measure_quality(raw, pd.DataFrame({"age": ["[30, 40)"] * 3}), schema)
    >>> round(quality["loss"].value, 4), quality["discernibility"].value
    (0.3182, 13.0)
    """
    names = schema.quasi_identifiers
    if not 0 < len(released) <= len(raw):
        raise ValueError("the release must have at least one row, and no more rows than the raw table")
    lacking = [name for name in names if name not in released.columns or name not in raw.columns]
    if lacking:
        raise ValueError(f"column {lacking[0]!r} is a quasi-identifier, but not in both tables")
    hierarchies = build_hierarchies(schema.column(name) for name in names)
    raw = with_ages(raw, schema)
    encoded = encode_table([raw[name] for name in names], hierarchies)
    coded = [distinct(released[name].astype(object)) for name in names]
    per_row = [codes for codes, _ in coded]
    class_of_row, some_row, sizes = _classes(per_row, [len(found) for _, found in coded])
    columns = [
        _read(hierarchy, codes[some_row], found, np.bincount(codes), leaves, encoded.counts)
        for hierarchy, (codes, found), leaves in zip(hierarchies, coded, encoded.leaves, strict=True)
    ]
    n_lost = len(raw) - len(released)
    out = [*_cell_measures(columns, sizes, n_lost), *_class_measures(sizes, n_lost, len(raw))]
    out.append(_kl_divergence(encoded, columns, sizes, n_lost))
    for target in _targets(schema, released) if targets is None else targets:
        out.extend(_predicted(raw, released, schema, target, encoded, per_row, class_of_row, n_lost))
    return {measure.name: measure for measure in out}


def _classes(per_row: list[IntArray], n_texts: list[int]) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the class of each released row, a row of each class, and the classes' sizes."""
    key, _ = dense_key([codes.astype(np.int32) for codes in per_row], n_texts)
    found, first, class_of_row = np.unique(key, return_index=True, return_inverse=True)
    sizes = np.bincount(class_of_row, minlength=found.size).astype(np.float64)
    return class_of_row.astype(np.int64), first.astype(np.int64), sizes


def _read(
    hierarchy: Hierarchy,
    codes: IntArray,
    found: npt.NDArray[Any],
    rows: IntArray,
    leaves: npt.NDArray[np.integer],
    counts: IntArray,
) -> _Column:
    """Return what the texts of a column stand for: groups of one level if there is one that fits all of them."""
    raw = np.bincount(leaves, weights=counts, minlength=hierarchy.n_leaves).astype(np.float64)
    labels = [str(text) for text in found]
    for level, names in enumerate(hierarchy.labels):
        if not set(labels) <= set(names):
            continue
        members = np.stack([hierarchy.codes[level] == names.index(label) for label in labels])
        # A label may mean more at a higher level: nobody's value can be released more often than it occurs.
        if (members @ raw >= rows).all():
            return _Column(hierarchy, codes, members, np.full(len(labels), level), raw)
    texts = Texts(hierarchy)
    members = np.stack([texts.leaves(label) for label in labels])
    return _Column(hierarchy, codes, members, np.array([texts.level(chosen) for chosen in members]), raw)


# ---------------------------------------------------------------- sums over cells


def _cell_measures(columns: list[_Column], sizes: FloatArray, n_lost: int) -> list[Measure]:
    n_rows = float(sizes.sum()) + n_lost
    losses: list[float] = []
    penalties: list[float] = []
    heights: list[float] = []
    logs, wholes, bits = 0.0, 0.0, 0.0
    for column in columns:
        n = column.hierarchy.n_leaves
        size = column.sizes
        loss = (size - 1.0) / max(1, n - 1)
        ordered = column.hierarchy.column.is_numeric or column.hierarchy.column.kind == "date"
        penalty = loss if ordered and not column.hierarchy.column.categories else np.where(size > 1.0, size / n, 0.0)
        height = column.levels / max(1, column.hierarchy.n_levels - 1)
        for values, cells in ((losses, loss), (penalties, penalty), (heights, height)):
            values.append((float(sizes @ cells[column.codes]) + n_lost) / n_rows)
        logs += float(sizes @ np.log2(size)[column.codes])
        wholes += math.log2(n)
        bits += _non_uniform_bits(column, sizes, n_lost)
    entropy = (logs / wholes + n_lost) / n_rows if wholes else 0.0
    return [
        Measure(
            "loss",
            float(np.mean(losses)),
            "share",
            "how many of its column's values a released value stands for, averaged over all cells",
        ),
        Measure(
            "loss_geometric",
            math.expm1(float(np.mean(np.log1p(losses)))),
            "share",
            "the same, averaged over columns so that a column that is lost entirely weighs less",
        ),
        Measure(
            "ncp",
            float(np.mean(penalties)),
            "share",
            "normalised certainty penalty: as loss, but a group of categories counts with its size",
        ),
        Measure(
            "precision", float(np.mean(heights)), "share", "how far up its hierarchy a value was moved, on average"
        ),
        Measure("entropy", entropy, "share", "bits that releasing leaves open, if all values were equally frequent"),
        Measure(
            "non_uniform_entropy",
            bits,
            "bits",
            "what the release leaves open about all raw values together, given how frequent each value is",
        ),
    ]


def _non_uniform_bits(column: _Column, sizes: FloatArray, n_lost: int) -> float:
    inside = np.array([_code_length(column.raw[chosen]) for chosen in column.members])
    raw = column.members @ column.raw
    if not column.is_partition:
        per_row = np.divide(inside, raw, out=np.zeros_like(inside), where=raw > 0)
        return float(sizes @ per_row[column.codes]) + n_lost * _code_length(column.raw) / float(column.raw.sum())
    # Texts that are not released at all: what is left of the raw column belongs to suppressed rows.
    released = np.bincount(column.codes, weights=sizes, minlength=len(raw))
    groups = _rest(column)
    suppressed = np.concatenate([raw - released, [column.raw[group].sum() for group in groups]])
    return float(inside.sum()) + sum(_code_length(column.raw[group]) for group in groups) + _code_length(suppressed)


def _rest(column: _Column) -> list[BoolArray]:
    """Return the groups, at the column's level, of the raw values that no released text stands for."""
    open_ = (column.raw > 0) & ~column.members.any(axis=0)
    codes = column.hierarchy.codes[int(column.levels.max())]
    return [open_ & (codes == group) for group in np.unique(codes[open_])]


def _code_length(counts: FloatArray) -> float:
    """Return rows * entropy, in bits."""
    some = counts[counts > 0]
    total = float(some.sum())
    return total * math.log2(total) - float(some @ np.log2(some)) if total else 0.0


# ---------------------------------------------------------------- sums over classes


def _class_measures(sizes: FloatArray, n_lost: int, n_rows: int) -> list[Measure]:
    return [
        Measure(
            "discernibility",
            float(sizes @ sizes) + float(n_rows) * n_lost,
            "pairs of rows",
            "how many rows each row cannot be told from, summed; a suppressed row cannot be told from any",
        ),
        Measure(
            "average_class_size",
            n_rows / (sizes.size + (1 if n_lost else 0)),
            "rows",
            "rows that share all their quasi-identifiers, on average; suppressed rows are one class",
        ),
    ]


def _kl_divergence(encoded: Encoded, columns: list[_Column], sizes: FloatArray, n_lost: int) -> Measure:
    n_rows = float(sizes.sum()) + n_lost
    volumes = sum(np.log2(column.sizes)[column.codes] for column in columns)
    density = sizes / n_rows / np.exp2(volumes)
    share = _shares(encoded, columns, density)
    lost = share == 0.0
    whole = math.fsum(math.log2(column.hierarchy.n_leaves) for column in columns)
    if lost.any():
        share[lost] = n_lost / n_rows / 2.0**whole if n_lost else np.nan
    true = encoded.counts / n_rows
    return Measure(
        "kl_divergence",
        float(true @ (np.log2(true) - np.log2(share))),
        "bits",
        "how far the table that a reader would guess, spreading each class evenly, is from the raw one",
    )


def _shares(encoded: Encoded, columns: list[_Column], density: FloatArray) -> FloatArray:
    """Return, for each distinct raw tuple, the sum of the densities of the classes that it may belong to."""
    if all(column.is_partition for column in columns):
        # At most one class each: classes and tuples with the same texts have the same key.
        n_texts = [len(column.members) for column in columns]
        texts = [
            np.append(column.codes, np.where(column.members.any(axis=0), column.members.argmax(axis=0), n)[leaves])
            for column, n, leaves in zip(columns, n_texts, encoded.leaves, strict=True)
        ]
        key, size = dense_key([codes.astype(np.int32) for codes in texts], [n + 1 for n in n_texts])
        of_key = np.zeros(size)
        of_key[key[: density.size]] = density
        return of_key[key[density.size :]]
    share = np.zeros(encoded.n_tuples)
    by_leaf = [_tuples_of_leaf(column, leaves) for column, leaves in zip(columns, encoded.leaves, strict=True)]
    for at in range(density.size):
        members = [column.members[column.codes[at]] for column in columns]
        # The column that leaves the fewest rows is asked first.
        rows = [column.raw[chosen].sum() for column, chosen in zip(columns, members, strict=True)]
        first = int(np.argmin(rows))
        starts, order = by_leaf[first]
        found = np.concatenate([order[starts[leaf] : starts[leaf + 1]] for leaf in np.flatnonzero(members[first])])
        for chosen, leaves in zip(members, encoded.leaves, strict=True):
            found = found[chosen[leaves[found]]]
        share[found] += density[at]
    return share


def _tuples_of_leaf(column: _Column, leaves: npt.NDArray[np.integer]) -> tuple[IntArray, IntArray]:
    """Return where each leaf's tuples start in the order of leaves, and that order."""
    order = np.argsort(leaves, kind="stable")
    starts = np.searchsorted(leaves[order], np.arange(column.hierarchy.n_leaves + 1))
    return starts.astype(np.int64), order.astype(np.int64)


# ---------------------------------------------------------------- prediction


def _targets(schema: Schema, released: pd.DataFrame) -> list[str]:
    return [c.name for c in schema.columns if c.role == "sensitive" and c.is_coded and c.name in released.columns]


def _predicted(
    raw: pd.DataFrame,
    released: pd.DataFrame,
    schema: Schema,
    target: str,
    encoded: Encoded,
    per_row: list[IntArray],
    class_of_row: IntArray,
    n_lost: int,
) -> list[Measure]:
    if target in schema.quasi_identifiers or target not in released.columns or target not in raw.columns:
        raise ValueError(f"target {target!r} must be a released column that is no quasi-identifier")
    column = schema.column(target)
    before = column.encode(raw[target].to_numpy()).astype(np.int64)
    after = column.encode(released[target].to_numpy()).astype(np.int64)
    leaves = [codes[encoded.row_tuple].astype(np.int64) for codes in encoded.leaves]
    counts = np.bincount(
        class_of_row * column.n_codes + after, minlength=(int(class_of_row.max()) + 1) * column.n_codes
    )
    counts = counts.reshape(-1, column.n_codes)
    sizes, most = counts.sum(axis=1), counts.max(axis=1)
    tied = (counts == most[:, None]).sum(axis=1) > 1
    missed = float(np.where(tied, sizes, sizes - most).sum()) + 0.5 * n_lost
    return [
        Measure(
            f"classification:{target}",
            missed / len(raw),
            "share",
            f"rows whose {target} is not the most frequent of their class; a suppressed row counts half",
        ),
        Measure(
            f"accuracy:{target}",
            leave_one_out_accuracy(per_row, after),
            "accuracy",
            f"released rows whose {target} is predicted from the released quasi-identifiers of the others",
        ),
        Measure(
            f"raw_accuracy:{target}",
            leave_one_out_accuracy(leaves, before),
            "accuracy",
            "the same in the raw table: what could be reached",
        ),
        Measure(
            f"majority_accuracy:{target}",
            majority_accuracy(before),
            "accuracy",
            f"rows with the most frequent {target}: what is reached without any quasi-identifier",
        ),
    ]
