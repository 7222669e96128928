"""Which patients cannot be told apart by all of their rows: histories compared as multisets.

history     the rows of one patient, in no order
key         what one row shows at some generalisation; equal keys are equal rows
h ~ g       histories with equal multisets of keys: the same number of rows, and the same rows as often

Generalising maps equal keys to equal keys, so h ~ g stays true at every more general node: classes only merge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anonymise.classes import IntArray
from anonymise.encoded import Keys, dense_key, squeeze


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Histories:
    """Some histories, the longest first, one after the other.

    items     number of each row's item (such as its distinct tuple), shape (n_rows,)
    owners    history of each row, ascending, shape (n_rows,)
    starts    first row of each history, shape (n_histories,)
    lengths   rows of each history, each >= 1, descending, shape (n_histories,)
    """

    items: IntArray
    owners: IntArray
    starts: IntArray
    lengths: IntArray

    def __repr__(self) -> str:
        """Say nothing: histories are the patients'."""
        return "Histories()"

    def __len__(self) -> int:
        """Return the number of histories."""
        return int(self.lengths.size)

    def rows_of(self, chosen: npt.NDArray[Any]) -> tuple[IntArray, IntArray]:
        """Return the positions of the rows of some histories, and for each the place of its history in `chosen`."""
        lengths = self.lengths[chosen]
        place = np.repeat(np.arange(chosen.size), lengths)
        within = np.arange(place.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.starts[chosen][place] + within, place

    def classes(self, key: Keys, size: int) -> tuple[Keys, int]:
        """Return one integer per history, equal exactly where h ~ g, and a bound above every integer.

        key    key of each item, each below `size`, shape (n_items,)

        Rows are sorted within their histories, and histories are then told apart position by position: the class so
        far and the next key make the next class. Whoever is alone, or has no more rows, is done.
        """
        # One sort for all: owners ascend, so each history stays in its place.
        ordered = self.owners * size + key[self.items]
        ordered.sort()
        ordered -= self.owners * size
        final = np.empty(len(self), dtype=np.int64)
        n_final = 0
        going = np.arange(len(self))
        # Histories of different lengths are told apart before any row is looked at.
        current, n_current = squeeze(self.lengths.astype(np.int32), int(self.lengths[0]) + 1)
        position = 0
        while going.size:
            times = np.bincount(current, minlength=n_current)
            done = (times[current] == 1) | (self.lengths[going] == position)
            if done.any():
                # Equal classes have equal lengths, so a class is done as a whole and its number is free of others'.
                final[going[done]] = current[done] + n_final
                n_final += n_current
                going, current = going[~done], current[~done]
                if not going.size:
                    break
            following = ordered[self.starts[going] + position]
            current, n_current = dense_key([current, following.astype(np.int32)], [n_current, size])
            position += 1
        return squeeze(final, n_final)


def histories_of(items: IntArray, owners: IntArray, n_owners: int) -> tuple[Histories, IntArray]:
    """Return the histories of rows with an item and an owner each, and the place of each owner among them.

    owners   below `n_owners`, each of which has a row
    """
    lengths = np.bincount(owners, minlength=n_owners)
    by_length = np.argsort(-lengths, kind="stable")
    place = np.empty(n_owners, dtype=np.int64)
    place[by_length] = np.arange(n_owners)
    order = np.argsort(place[owners], kind="stable")
    ordered = lengths[by_length].astype(np.int64)
    found = Histories(
        items=items[order].astype(np.int64),
        owners=place[owners][order],
        starts=np.cumsum(ordered) - ordered,
        lengths=ordered,
    )
    return found, place


def patient_classes(columns: Sequence[IntArray], patients: IntArray) -> IntArray:
    """Return the class of each patient: equal where the multisets of rows are equal, from 0 without gaps.

    columns    codes of the quasi-identifiers, from 0, each of shape (n_rows,)
    patients   patient of each row, 0 to n_patients - 1, each of whom has a row, shape (n_rows,)

    Examples
    --------
    >>> hospital = np.array([0, 1, 1, 0, 1])
    >>> first, second, third = patient_classes([hospital], np.array([0, 0, 1, 1, 2])).tolist()
    >>> first == second, first == third
    (True, False)
    """
    n_patients = int(patients.max()) + 1 if patients.size else 0
    if n_patients == 0:
        return np.empty(0, dtype=np.int64)
    key, size = dense_key([column.astype(np.int32) for column in columns], [int(c.max()) + 1 for c in columns])
    histories, place = histories_of(np.arange(patients.size), patients, n_patients)
    return squeeze(*histories.classes(key, size))[0].astype(np.int64)[place]


def patient_class_sizes(columns: Sequence[IntArray], patients: IntArray) -> IntArray:
    """Return the number of patients in each class of equal histories, shape (n_classes,), each >= 1.

    For the risk of tables with several rows a patient: 1 / size is the chance of an attacker who knows all rows of
    somebody. Arguments as for `patient_classes`.

    Examples
    --------
    >>> hospital = np.array([0, 1, 1, 0, 1])
    >>> sorted(patient_class_sizes([hospital], np.array([0, 0, 1, 1, 2])).tolist())
    [1, 2]
    """
    return np.bincount(patient_classes(columns, patients)).astype(np.int64)
