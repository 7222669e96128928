"""Tables with several rows a patient: the patient is counted and protected, not the row.

The attacker is assumed to know all rows of a patient. What identifies a patient is then the *multiset* of the
generalised rows, the number of visits and their pattern included (`anonymise.histories`):

class       patients whose multisets of generalised rows are equal
sizes       k, the suppression limit and every other model count patients
suppressed  a patient, with all rows
loss        mean over rows, as for any table: patients with more visits weigh more

Classes only merge towards more general nodes, so the search and its bounds hold as they are, with histories in the
place of distinct tuples. A sensitive attribute must have one value a patient: whoever sees several values of a patient
learns from their combination, and no count of single values in a class bounds that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise._checks import is_whole
from anonymise._ids import distinct_ids
from anonymise.classes import AttributeName, FloatArray, IntArray
from anonymise.date_shift import days_of
from anonymise.encoded import Encoded, Keys, RawColumn, distinct, encode_attribute, encode_table
from anonymise.errors import NotAnonymisable
from anonymise.hierarchies import Hierarchy
from anonymise.histories import Histories, histories_of
from privacy.errors import SchemaError, SchemaProblem
from privacy.randomness import Rng

Sensitive = Mapping[AttributeName, Sequence[tuple[pd.Series, Hierarchy]]]


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class LongitudinalEncoded(Encoded):
    """A table whose entries are distinct histories: `counts` and the attributes' `tuples` speak of these.

    leaves          of the distinct rows, shape (n_columns, n_tuples)
    counts          patients of each history, shape (n_histories,)
    histories       the distinct ones; their items are tuples
    row_history     history of each row's patient, shape (n_rows,)
    """

    histories: Histories
    row_history: IntArray

    @property
    def n_rows(self) -> int:
        """Number of patients: what the suppression limit is a share of."""
        return int(self.counts.sum())

    @property
    def row_entry(self) -> IntArray:
        """History of each row's patient, shape (n_rows,)."""
        return self.row_history

    def fold(self, key: Keys, size: int) -> tuple[Keys, int]:
        """Return one integer per history, equal exactly where the multisets of its tuples' integers are."""
        return self.histories.classes(key, size)

    def rows_of(self, entries: npt.NDArray[Any], patients: npt.NDArray[Any]) -> tuple[IntArray, FloatArray]:
        """Return the tuples of all rows of some patients of some histories, and how many rows each stands for."""
        rows, place = self.histories.rows_of(entries)
        return self.histories.items[rows], patients.astype(np.float64)[place]


def patient_codes(ids: pd.Series) -> IntArray:
    """Return the number of each row's patient, 0 to n_patients - 1. Ids are read as by `pseudonymise`."""
    codes, texts = distinct_ids(ids, str(ids.name))
    # " A1" and "A1" are one patient.
    return pd.factorize(np.array(texts, dtype=object))[0].astype(np.int64)[codes]


def encode_histories(
    columns: Sequence[RawColumn],
    hierarchies: Sequence[Hierarchy],
    patients: IntArray,
    *,
    sensitive: Sensitive | None = None,
) -> LongitudinalEncoded:
    """Return the encoded table of some columns, with one hierarchy each, and the patient of each row.

    Raises what `encode_table` raises, and NotAnonymisable for a sensitive attribute with several values in a patient.
    """
    n_patients = int(patients.max()) + 1
    rows = encode_table(columns, hierarchies)
    everybody, place = histories_of(rows.row_tuple, patients, n_patients)
    same, size = everybody.classes(np.arange(rows.n_tuples), rows.n_tuples)
    # One patient of each distinct history; the longest histories stay first.
    some = np.full(size, n_patients, dtype=np.int64)
    np.minimum.at(some, same, np.arange(n_patients))
    chosen = np.sort(some[some < n_patients])
    renumbered = np.empty(size, dtype=np.int64)
    renumbered[same[chosen]] = np.arange(chosen.size)
    history_of_patient = renumbered[same][place]
    positions, owners = everybody.rows_of(chosen)
    lengths = everybody.lengths[chosen]
    return LongitudinalEncoded(
        hierarchies=rows.hierarchies,
        leaves=rows.leaves,
        counts=np.bincount(history_of_patient, minlength=chosen.size).astype(np.int64),
        row_tuple=rows.row_tuple,
        attributes={
            name: encode_attribute(
                name,
                [(_one_value(column, hierarchy, patients, name), hierarchy) for column, hierarchy in parts],
                history_of_patient,
            )
            for name, parts in (sensitive or {}).items()
        },
        histories=Histories(
            items=everybody.items[positions], owners=owners, starts=np.cumsum(lengths) - lengths, lengths=lengths
        ),
        row_history=history_of_patient[patients],
    )


def check_static(frame: pd.DataFrame, names: Sequence[str], patients: IntArray) -> None:
    """Raise SchemaError if a column that is said to have one value a patient has several, naming all such columns."""
    problems = []
    for name in names:
        if [str(column) for column in frame.columns].count(name) != 1:
            problems.append(SchemaProblem(name, "is said to be static, but is not in the table", "check the name"))
        elif _varies(distinct(_column(frame, name))[0], patients):
            problems.append(
                SchemaProblem(
                    name,
                    "is said to be static, but a patient has several values",
                    "correct the rows (a patient's number may stand for two people), or do not call it static",
                )
            )
    if problems:
        raise SchemaError(problems)


def first_visits(frame: pd.DataFrame, n: int, *, patient: str, by: str) -> pd.DataFrame:
    """Return each patient's first n rows by a column of dates, in the order and with the index of the table.

    Fewer visits are fewer quasi-identifiers: a cap makes patients with many visits alike in their number ("n or more"),
    which often decides whether a table can be released at all. Of rows on one day, those that stand first are kept;
    a missing date comes last.

    Examples
    --------
    >>> visits = pd.DataFrame({"mrn": [1, 2, 1, 1], "day": ["2024-05-01", "2024-01-01", "2024-03-01", "2024-04-01"]})
    >>> first_visits(visits, 2, patient="mrn", by="day")["day"].tolist()
    ['2024-01-01', '2024-03-01', '2024-04-01']
    """
    if not is_whole(n, least=1):
        raise ValueError(f"n must be a whole number >= 1, got {n!r}")
    for name in (patient, by):
        if [str(column) for column in frame.columns].count(name) != 1:
            raise SchemaError([SchemaProblem(name, "must appear exactly once in the table", "check the names")])
    days = days_of(_column(frame, by), by)
    late = np.where(np.isnat(days), np.iinfo(np.int64).max, days.astype(np.int64))
    patients = patient_codes(_column(frame, patient))
    order = np.lexsort((late, patients))
    ordered = patients[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    within = np.arange(ordered.size) - np.repeat(first, np.diff(first, append=ordered.size))
    return frame.iloc[np.sort(order[within < n])]


def released_order(rows: IntArray, patients: IntArray, rng: Rng) -> tuple[IntArray, IntArray]:
    """Return some rows in the order of their release, and the released number of each one's patient, from 1.

    Patients come in a random order and are numbered in it, so a number says nothing. A patient's rows stand together,
    in a random order: their order in the table may be the order of visits, which the classes do not protect.
    """
    shuffled = rows[rng.permutation(rows.size)]
    drawn = rng.permutation(int(patients.max()) + 1)[patients[shuffled]]
    by_patient = np.argsort(drawn, kind="stable")
    return shuffled[by_patient], np.unique(drawn[by_patient], return_inverse=True)[1] + 1


def _first_row(patients: IntArray) -> IntArray:
    return np.unique(patients, return_index=True)[1].astype(np.int64)


def _varies(codes: IntArray, patients: IntArray) -> bool:
    return bool((codes != codes[_first_row(patients)][patients]).any())


def _one_value(column: pd.Series, hierarchy: Hierarchy, patients: IntArray, name: AttributeName) -> pd.Series:
    """Return the one value that each patient has."""
    codes, found = distinct(column)
    if _varies(hierarchy.encode(found)[codes], patients):
        raise NotAnonymisable(
            rule=f"column {hierarchy.name!r}: a patient has several values, and the model on {name!r} needs one each",
            way_out="give each patient one value (the first, the worst, the last), or leave the model out: several "
            "values of a patient tell more together than any count of single values bounds",
        )
    return column.iloc[_first_row(patients)]


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame.iloc[:, [str(column) for column in frame.columns].index(name)]
