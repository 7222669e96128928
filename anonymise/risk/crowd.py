"""Who stands with whom: the classes of a table, and the people in them.

Rows are people, unless a patient id says otherwise. Of a patient with several rows the attacker is assumed to know all
of them: two such patients are in one class if their rows are equal as multisets (`anonymise.histories`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise.classes import IntArray
from anonymise.encoded import Codes
from anonymise.histories import patient_classes
from anonymise.risk.coded import CodedColumn, WildcardRule, code_column, key_of
from anonymise.risk.wildcards import crowds
from privacy.schema import Schema


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Crowd:
    """The classes of a table; with wildcards: its distinct tuples, each with a crowd of its own.

    classes      class of each person, shape (n_people,)
    people       people of each class, shape (n_classes,)
    sizes        people who agree with the class, shape (n_classes,): `people`, unless there are wildcards
    rows         a row of each person, shape (n_people,)
    patients     person of each row, shape (n_rows,); None if rows are people
    columns      the quasi-identifiers
    wild         which cells agree with any value
    """

    classes: IntArray
    people: IntArray
    sizes: IntArray
    rows: IntArray
    patients: IntArray | None
    columns: tuple[CodedColumn, ...]
    wild: WildcardRule

    @classmethod
    def of(
        cls,
        columns: Mapping[str, CodedColumn],
        quasi_identifiers: Sequence[str],
        schema: Schema | None,
        wild: WildcardRule,
    ) -> Crowd:
        """Return the classes of a coded table.

        Raises ValueError if the patient's id is missing somewhere, or wildcards are asked for over several rows a
        patient.
        """
        chosen = tuple(columns[name] for name in quasi_identifiers)
        n_rows = chosen[0].codes.size
        patient_id = None if schema is None else schema.patient_id
        patients: IntArray | None = None
        rows = np.arange(n_rows, dtype=np.int64)
        if patient_id is not None and patient_id in columns:
            patients = _patients(columns[patient_id])
            rows = np.zeros(int(patients.max()) + 1, dtype=np.int64)
            rows[patients[::-1]] = np.arange(n_rows)[::-1]
        if rows.size == n_rows:
            classes = key_of(chosen)[rows]
        else:
            classes = patient_classes([column.codes.astype(np.int64) for column in chosen], _known(patients))
        people = np.bincount(classes).astype(np.int64)
        plain = cls(classes, people, people, rows, patients, chosen, wild)
        if not wild.columns:
            return plain
        codes, cells = plain._tuples("missing='wildcard'")
        sizes = crowds(codes, cells, codes, cells, people, [column.n_values for column in chosen])
        return cls(classes, people, sizes, rows, patients, chosen, wild)

    @property
    def several_rows(self) -> bool:
        """Whether some patient has several rows."""
        return self.patients is not None and self.patients.size > self.rows.size

    def of_people(self, column: CodedColumn) -> Codes | None:
        """Return the value of each person in a column, shape (n_people,); None if a patient has several."""
        codes = column.codes[self.rows]
        if self.several_rows and (codes[_known(self.patients)] != column.codes).any():
            return None
        return codes

    def counted_in(self, population: pd.DataFrame) -> IntArray:
        """Return how many people of a population agree with each class, shape (n_classes,).

        Raises ValueError if a quasi-identifier is missing from the population table, or patients have several rows.
        """
        names = [str(name) for name in population.columns]
        codes, wild = self._tuples("population")
        mine, others, others_wild, sizes = [], [], [], []
        for column, own in zip(self.columns, codes, strict=True):
            if names.count(column.name) != 1:
                raise ValueError(f"column {column.name!r} must appear exactly once in the population table")
            other = code_column(column.name, population.iloc[:, names.index(column.name)])
            # One numbering for both tables: values that read alike are one.
            code_of: dict[str, int] = {}
            mine.append(_renumbered(column, code_of)[own])
            others.append(_renumbered(other, code_of)[other.codes])
            others_wild.append(self.wild.values(other)[other.codes])
            sizes.append(len(code_of))
        ones = np.ones(len(population), dtype=np.int64)
        return crowds(np.stack(mine), wild, np.stack(others), np.stack(others_wild), ones, sizes)

    def _tuples(self, asked_by: str) -> tuple[Codes, npt.NDArray[np.bool_]]:
        """Return the codes of each class, and which of them say nothing, shape (n_columns, n_classes)."""
        if self.several_rows:
            raise ValueError(f"{asked_by} needs one row a patient, and a patient here has several")
        some_row = np.empty(self.people.size, dtype=np.int64)
        some_row[self.classes] = self.rows
        codes = np.stack([column.codes[some_row] for column in self.columns])
        wild = np.stack([self.wild.values(column)[of] for column, of in zip(self.columns, codes, strict=True)])
        return codes, wild


def _patients(column: CodedColumn) -> IntArray:
    if column.missing >= 0:
        raise ValueError(f"column {column.name!r} is the patient's id and must not have missing values")
    return column.codes.astype(np.int64)


def _known(patients: IntArray | None) -> IntArray:
    if patients is None:
        raise TypeError("rows are people here")
    return patients


def _renumbered(column: CodedColumn, code_of: dict[str, int]) -> Codes:
    return np.array([code_of.setdefault(text, len(code_of)) for text in column.texts()], dtype=np.int32)
