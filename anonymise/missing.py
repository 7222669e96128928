"""Missing quasi-identifiers: what the schema's choice means for class sizes.

own_value   a missing value is a value like another (as in ARX): rows that lack it form classes of their own
suppress    a row that lacks it is left out before the search, and counts as suppressed
wildcard    a missing value matches every value (as in sdcMicro): a row's crowd are the released rows compatible with it

Two rows are compatible at node n if they agree there on every column in which neither has a wildcard. K_n is the
largest set of rows in which each has k compatible ones, itself included; the others are suppressed. It is found by
taking out rows with too few until none is left: rows that are taken out no longer count for the others, and since a
smaller set gives nobody more compatible rows, every set that satisfies the condition survives each step.

Monotone: rows compatible at p are compatible at every n >= p, so K_p satisfies the condition at n and is part of K_n.
What is suppressed at n is suppressed at every p <= n, as the search's bound needs (`anonymise.lattice`).

Compatibility is not an equivalence: a row without any value is in everybody's crowd. Whoever knows that a patient's
value is missing sees less of a crowd than k. Only k-anonymity has a meaning over such crowds; other models are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.classes import BoolArray, FloatArray, IntArray
from anonymise.encoded import Codes, Encoded, Node, dense_key
from anonymise.errors import NotAnonymisable
from anonymise.hierarchies import Hierarchy
from anonymise.models import AnyModel, KAnonymity
from privacy._values import is_missing
from privacy.schema import MISSING, Schema


def wildcard_columns(hierarchies: Sequence[Hierarchy]) -> list[int]:
    """Return the places of the columns whose missing values match every value."""
    columns = [hierarchy.column for hierarchy in hierarchies]
    return [at for at, column in enumerate(columns) if column.missing == "wildcard" and column.nullable]


def wildcard_k(hierarchies: Sequence[Hierarchy], models: Sequence[AnyModel]) -> int | None:
    """Return the k that crowds of compatible rows need; None where no column has wildcards.

    Raises NotAnonymisable if some model is not k-anonymity.
    """
    columns = wildcard_columns(hierarchies)
    if not columns:
        return None
    others = [model for model in models if not isinstance(model, KAnonymity)]
    if others:
        raise NotAnonymisable(
            rule=f"column {hierarchies[columns[0]].name!r}: missing = 'wildcard' has a meaning for k-anonymity alone, "
            f"not for {others[0]!r}",
            way_out="set missing = 'own_value' or 'suppress'",
        )
    return max(model.k for model in models if isinstance(model, KAnonymity))


class Wildcards:
    """Which tuples have too few compatible rows at a node; holds what all nodes share."""

    def __init__(self, encoded: Encoded, k: int) -> None:
        self._k = k
        self._groups = encoded.gathered()
        self._sizes = [[h.n_groups(level) for level in range(h.n_levels)] for h in encoded.hierarchies]
        self._weights = encoded.counts.astype(np.float64)
        pattern = np.zeros(encoded.n_tuples, dtype=np.int64)
        for bit, at in enumerate(wildcard_columns(encoded.hierarchies)):
            hierarchy = encoded.hierarchies[at]
            # The missing value is the last of the public domain.
            pattern |= (encoded.leaves[at] == hierarchy.leaf_of_domain[-1]).astype(np.int64) << bit
        bits, self._pattern = np.unique(pattern, return_inverse=True)
        wild = wildcard_columns(encoded.hierarchies)
        # Columns in which the rows of a pattern have wildcards.
        self._wild = [frozenset(at for bit, at in enumerate(wild) if bits_of >> bit & 1) for bits_of in bits.tolist()]

    def failing(self, node: Node, *, max_suppressed: int) -> BoolArray:
        """Return which tuples are suppressed at a node, shape (n_tuples,).

        Where they are more than `max_suppressed` patients, only some of them, but more than that many.
        """
        columns = [groups[level] for groups, level in zip(self._groups, node, strict=True)]
        sizes = [of_level[level] for of_level, level in zip(self._sizes, node, strict=True)]
        class_of_tuple, n_classes = _key(columns, sizes)
        weights = np.bincount(class_of_tuple, weights=self._weights, minlength=n_classes)
        used = np.flatnonzero(weights)
        some_tuple = np.zeros(n_classes, dtype=np.int64)
        some_tuple[class_of_tuple] = np.arange(class_of_tuple.size)
        some_tuple, weights = some_tuple[used], weights[used]
        pairs = self._pairs([codes[some_tuple] for codes in columns], sizes, self._pattern[some_tuple])
        crowd = weights.copy()
        for of, key_of, others, key_others, size in pairs:
            crowd[of] += np.bincount(key_others, weights=weights[others], minlength=size)[key_of]
        gone = np.zeros(used.size, dtype=np.bool_)
        n_gone = 0.0
        while True:
            short = (crowd < self._k) & ~gone
            n_gone += float(weights[short].sum())
            gone |= short
            if not short.any() or n_gone > max_suppressed:
                fails = np.zeros(n_classes, dtype=np.bool_)
                fails[used] = gone
                return np.asarray(fails[class_of_tuple])
            # Who is taken out leaves the crowds of all that are compatible.
            crowd[short] -= weights[short]
            for of, key_of, others, key_others, size in pairs:
                leaving = short[others]
                if leaving.any():
                    lost = np.bincount(key_others[leaving], weights=weights[others[leaving]], minlength=size)
                    crowd[of] -= lost[key_of]

    def _pairs(
        self, columns: Sequence[Codes], sizes: Sequence[int], pattern: npt.NDArray[Any]
    ) -> list[tuple[npt.NDArray[np.intp], Codes, npt.NDArray[np.intp], Codes, int]]:
        """Return, for each ordered pair of patterns, their classes and keys that are equal where these are compatible.

        Classes of one pattern are compatible only with themselves.
        """
        out = []
        places = [np.flatnonzero(pattern == code) for code in range(len(self._wild))]
        for first in range(len(self._wild)):
            for second in range(first):
                both = np.concatenate([places[first], places[second]])
                seen = [at for at in range(len(columns)) if at not in self._wild[first] | self._wild[second]]
                key, size = _key([columns[at][both] for at in seen], [sizes[at] for at in seen], n=both.size)
                cut = places[first].size
                out.append((places[first], key[:cut], places[second], key[cut:], size))
                out.append((places[second], key[cut:], places[first], key[:cut], size))
        return out


def _key(columns: Sequence[Codes], sizes: Sequence[int], n: int = 0) -> tuple[npt.NDArray[Any], int]:
    """Return one integer per entry, equal exactly where all columns are, and a bound above it; all equal of none."""
    return dense_key(columns, sizes) if columns else (np.zeros(n, dtype=np.int64), 1)


def released_crowds(table: pd.DataFrame, hierarchies: Sequence[Hierarchy]) -> FloatArray:
    """Return how many rows of a released table are compatible with each distinct row, from the text alone."""
    names = [hierarchy.name for hierarchy in hierarchies]
    wild = {names[at] for at in wildcard_columns(hierarchies)}
    counts = table.groupby(names, dropna=False, sort=False, observed=True).size()
    rows = [key if isinstance(key, tuple) else (key,) for key in counts.index]
    open_in = [
        frozenset(n for n, text in zip(names, row, strict=True) if n in wild and text == MISSING) for row in rows
    ]
    crowds = np.zeros(len(rows))
    for first in set(open_in):
        for second in set(open_in):
            seen = [at for at, name in enumerate(names) if name not in first | second]
            found: dict[tuple[Any, ...], float] = {}
            for row, columns, count in zip(rows, open_in, counts, strict=True):
                if columns == second:
                    shown = tuple(row[at] for at in seen)
                    found[shown] = found.get(shown, 0) + count
            for at, (row, columns) in enumerate(zip(rows, open_in, strict=True)):
                if columns == first:
                    crowds[at] += found.get(tuple(row[place] for place in seen), 0)
    return crowds


def without_missing(frame: pd.DataFrame, schema: Schema, patients: IntArray | None = None) -> pd.DataFrame:
    """Return the rows that lack no value in a column whose missing values are suppressed.

    patients   number of each row's patient: who lacks a value in one row is left out with all rows
    """
    names = [column.name for column in schema.columns if column.missing == "suppress"]
    lacking = np.zeros(len(frame), dtype=np.bool_)
    for name in names:
        lacking |= is_missing(frame[name].to_numpy())
    if patients is not None:
        lacking = np.isin(patients, patients[lacking])
    return frame[~lacking] if lacking.any() else frame
