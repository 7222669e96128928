"""Who stands with whom: the classes of a table, and the people in them.

Rows are people, unless a patient id says otherwise. A patient with rows in several classes can be found through any of
them, so the smallest class counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.classes import IntArray
from anonymise.encoded import Codes
from anonymise.risk.coded import CodedColumn, code_column, key_of
from anonymise.risk.wildcards import crowds
from privacy.schema import Schema


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Crowd:
    """The classes of a table; with wildcards: its distinct tuples, each with a crowd of its own.

    row_class      class of each row, shape (n_rows,)
    sizes          people whose quasi-identifiers agree with the class's, shape (n_classes,)
    people         people of the class itself, shape (n_classes,): equal to `sizes` without wildcards
    patients       (class, patient) of each distinct pair, where patients are counted; None where rows are
    columns        the quasi-identifiers
    """

    row_class: IntArray
    sizes: IntArray
    people: IntArray
    patients: tuple[IntArray, IntArray] | None
    columns: tuple[CodedColumn, ...]
    wildcard: bool

    @classmethod
    def of(
        cls,
        columns: Mapping[str, CodedColumn],
        quasi_identifiers: Sequence[str],
        schema: Schema | None,
        missing: Literal["own_value", "wildcard"],
    ) -> Crowd:
        """Return the classes of a coded table."""
        chosen = tuple(columns[name] for name in quasi_identifiers)
        row_class = key_of(chosen)
        people = np.bincount(row_class).astype(np.int64)
        patients = None
        patient_id = None if schema is None else schema.patient_id
        if patient_id is not None and patient_id in columns:
            patients = _patients(row_class, columns[patient_id])
            people = np.bincount(patients[0], minlength=people.size).astype(np.int64)
        if missing == "own_value":
            return cls(row_class, people, people, patients, chosen, wildcard=False)
        if patients is not None and patients[0].size > int(patients[1].max()) + 1:
            raise ValueError(
                "missing='wildcard' needs each patient in one class: a patient here has rows that differ in their "
                "quasi-identifiers"
            )
        alone = cls(row_class, people, people, patients, chosen, wildcard=True)
        codes, wild = alone._tuples()
        sizes = crowds(codes, wild, codes, wild, people, [column.n_values for column in chosen])
        return cls(row_class, sizes, people, patients, chosen, wildcard=True)

    @property
    def is_partition(self) -> bool:
        """Whether every person stands in exactly one class."""
        return not self.wildcard and (self.patients is None or self.patients[0].size == int(self.patients[1].max()) + 1)

    def worst(self, of_class: IntArray) -> tuple[IntArray, IntArray]:
        """Return each person's smallest value over the classes, as groups: the value, and how many people have it."""
        if self.patients is None or self.wildcard:
            return of_class, self.people
        classes, patient = self.patients
        smallest = np.full(int(patient.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(smallest, patient, of_class[classes])
        return smallest, np.ones(smallest.size, dtype=np.int64)

    def counted_in(self, population: pd.DataFrame) -> IntArray:
        """Return how many people of a population agree with each class, shape (n_classes,).

        Raises ValueError if a quasi-identifier is missing from the population table.
        """
        names = [str(name) for name in population.columns]
        codes, wild = self._tuples()
        mine, others, others_wild, sizes = [], [], [], []
        for column, own in zip(self.columns, codes, strict=True):
            if names.count(column.name) != 1:
                raise ValueError(f"column {column.name!r} must appear exactly once in the population table")
            other = code_column(column.name, population.iloc[:, names.index(column.name)])
            # One numbering for both tables: values that read alike are one.
            code_of: dict[str, int] = {}
            mine.append(_renumbered(column, code_of)[own])
            others.append(_renumbered(other, code_of)[other.codes])
            others_wild.append(other.wildcards()[other.codes] & self.wildcard)
            sizes.append(len(code_of))
        ones = np.ones(len(population), dtype=np.int64)
        return crowds(np.stack(mine), wild & self.wildcard, np.stack(others), np.stack(others_wild), ones, sizes)

    def _tuples(self) -> tuple[Codes, npt.NDArray[np.bool_]]:
        """Return the codes of each class, and which of them say nothing, shape (n_columns, n_classes)."""
        some_row = np.empty(self.people.size, dtype=np.int64)
        some_row[self.row_class] = np.arange(self.row_class.size)
        codes = np.stack([column.codes[some_row] for column in self.columns])
        wild = np.stack([column.wildcards()[of] for column, of in zip(self.columns, codes, strict=True)])
        return codes, wild


def _patients(row_class: IntArray, column: CodedColumn) -> tuple[IntArray, IntArray]:
    if column.missing >= 0:
        raise ValueError(f"column {column.name!r} is the patient's id and must not have missing values")
    pairs = np.unique(row_class * column.n_values + column.codes)
    return pairs // column.n_values, pairs % column.n_values


def _renumbered(column: CodedColumn, code_of: dict[str, int]) -> Codes:
    return np.array([code_of.setdefault(text, len(code_of)) for text in column.texts()], dtype=np.int32)
