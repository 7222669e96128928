"""Which columns, alone or together, single people out: candidates for the role of a quasi-identifier.

class        rows that agree on a set of columns
distinction  classes / rows: the share of rows that could stay if no two were to agree
separation   share of the pairs of rows that differ in some column of the set
singled out  share of people who are alone in their class (of patients, where the table has their id: the share of
             those with some row that no other patient's row agrees with)

All three only grow with more columns, so a set that singles out more than the limit makes its supersets uninteresting:
the search goes level by level and reports the minimal sets. A set whose columns have, multiplied, no more values than
the limit allows people is dropped without looking at the rows.

Source: Motwani, Xu 2007, "Efficient algorithms for masking and finding quasi-identifiers", VLDB; ARX 3.9.2 reports the
first two under the same names.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from anonymise._checks import is_whole
from anonymise.classes import IntArray
from anonymise.encoded import dense_key
from anonymise.risk.coded import CodedColumn, close_up, code_table
from privacy.schema import Schema

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ColumnSet:
    """A set of columns and what it tells of people."""

    columns: Names
    distinction: float
    separation: float
    singled_out: float


@dataclass(frozen=True, slots=True, repr=False)
class QuasiIdentifiers:
    """What the finder found. INTERNAL: shares of a small table are counts.

    limit      share of people above which a set counts as singling out
    sets       every set that was counted, smaller ones first
    minimal    sets that single out more than the limit while none of their parts does, the strongest first
    greedy     columns in the order in which each adds most to what is singled out, figures of all up to there
    complete   whether all sets of up to `max_columns` were decided; False if `max_sets` ended the search
    """

    limit: float
    sets: tuple[ColumnSet, ...]
    minimal: tuple[ColumnSet, ...]
    greedy: tuple[ColumnSet, ...]
    complete: bool

    def to_json(self) -> str:
        """Return everything as JSON, marked internal."""
        return json.dumps({"audience": "INTERNAL", **asdict(self)}, indent=2)

    def __repr__(self) -> str:
        """Name columns only."""
        return f"QuasiIdentifiers(INTERNAL, minimal={tuple(found.columns for found in self.minimal)!r})"

    def __str__(self) -> str:
        """Return the minimal and the greedy sets as text for the site's own staff."""
        return "\n".join(_lines(self))


def find_quasi_identifiers(
    frame: pd.DataFrame,
    schema: Schema | None = None,
    *,
    columns: Sequence[str] | None = None,
    limit: float = 0.05,
    max_columns: int = 3,
    max_sets: int = 2000,
) -> QuasiIdentifiers:
    """Return which columns single people out, alone or together.

    Parameters
    ----------
    schema
        Its identifiers are left out, and its patient id says whose rows belong together.
    columns
        Columns to look at; all by default.
    limit
        Share of people in [0, 1) that a set may single out before it counts as a quasi-identifier.
    max_columns
        Largest set of the search for minimal sets.
    max_sets
        How many sets are counted at most (each reads all rows once); the greedy order comes in addition.

    Raises
    ------
    ValueError
        A column that is not in the table, a table without rows, an argument out of its range.

    Examples
    --------
    >>> frame = pd.DataFrame({"age": [20, 30, 40, 20, 40], "sex": ["F", "F", "F", "M", "M"],
    ...                       "state": ["CA", "CA", "TX", "NY", "CA"]})
    >>> found = find_quasi_identifiers(frame, limit=0.5)
    >>> found.minimal[0]
    ColumnSet(columns=('age', 'sex'), distinction=1.0, separation=1.0, singled_out=1.0)
    """
    if not 0.0 <= limit < 1.0:
        raise ValueError(f"limit must be in [0, 1), got {limit!r}")
    for name, value in (("max_columns", max_columns), ("max_sets", max_sets)):
        if not is_whole(value, least=1):
            raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
    coded = code_table(frame)
    patient_id = None if schema is None else schema.patient_id
    hidden = () if schema is None else tuple(c.name for c in schema.columns if c.role == "identifier")
    chosen = tuple(name for name in coded if name not in hidden) if columns is None else tuple(columns)
    if isinstance(columns, str) or not chosen or len(set(chosen)) < len(chosen):
        raise ValueError("columns must list at least one column, each once")
    for name in chosen:
        if name not in coded:
            raise ValueError(f"column {name!r} must appear exactly once in the table")
    patient = coded.get(patient_id) if patient_id is not None else None
    counter = _Counter({name: coded[name] for name in chosen}, patient)
    sets, complete = _by_levels(counter, limit, max_columns, max_sets)
    known = {found.columns: found for found in sets}
    singling = [found for found in sets if found.singled_out > limit]
    minimal = [found for found in singling if not any(set(other.columns) < set(found.columns) for other in singling)]
    minimal.sort(key=lambda found: (len(found.columns), -found.singled_out, -found.separation))
    return QuasiIdentifiers(
        limit=limit,
        sets=tuple(sets),
        minimal=tuple(minimal),
        greedy=tuple(_greedy(counter, known)),
        complete=complete,
    )


class _Counter:
    """Counts classes of sets of columns; keeps the keys of the last prefix, from which longer sets are made."""

    def __init__(self, columns: dict[str, CodedColumn], patient: CodedColumn | None) -> None:
        self.columns = columns
        self.names = tuple(columns)
        self.n_rows = next(iter(columns.values())).codes.size
        self._patient = patient
        self.n_people = self.n_rows if patient is None else patient.n_values
        self._prefix: tuple[Names, IntArray] = ((), np.empty(0, dtype=np.int64))

    def measure(self, names: Names) -> ColumnSet:
        """Return the figures of a set."""
        key = self._key(names)
        sizes = np.bincount(key).astype(np.int64)
        # Pairs of rows in Python's whole numbers: they pass 2^63 beyond 4e9 rows only, but floats lose digits earlier.
        pairs = self.n_rows * (self.n_rows - 1) // 2
        together = int((sizes * (sizes - 1) // 2).sum())
        return ColumnSet(
            columns=names,
            distinction=sizes.size / self.n_rows,
            separation=(pairs - together) / pairs if pairs else 0.0,
            singled_out=self._alone(key, sizes) / self.n_people,
        )

    def most_alone(self, names: Iterable[str]) -> int:
        """Return how many people a set can single out at most, from the numbers of values alone."""
        return math.prod(self.columns[name].n_values for name in names)

    def _alone(self, key: IntArray, sizes: IntArray) -> int:
        if self._patient is None:
            return int((sizes == 1).sum())
        pairs = np.unique(key * self._patient.n_values + self._patient.codes)
        classes, patients = pairs // self._patient.n_values, pairs % self._patient.n_values
        of_one = np.bincount(classes)[classes] == 1
        return int(np.unique(patients[of_one]).size)

    def _key(self, names: Names) -> IntArray:
        prefix, last = names[:-1], self.columns[names[-1]]
        if not prefix:
            return last.codes.astype(np.int64)
        if self._prefix[0] != prefix:
            self._prefix = (prefix, self._key(prefix))
        before = self._prefix[1]
        key, size = dense_key([before.astype(np.int32), last.codes], [int(before.max()) + 1, last.n_values])
        return close_up(key.astype(np.int64), size)


def _by_levels(counter: _Counter, limit: float, max_columns: int, max_sets: int) -> tuple[list[ColumnSet], bool]:
    """Count sets level by level: those of which no part singles out, and which can."""
    out: list[ColumnSet] = []
    # Sets of the last level that single out no more than the limit, in the columns' order.
    quiet: set[Names] = {()}
    for width in range(1, min(max_columns, len(counter.names)) + 1):
        level: set[Names] = set()
        for names in _candidates(counter.names, quiet, width):
            # Singles are always counted: they are what the report shows of each column.
            if width > 1 and counter.most_alone(names) <= limit * counter.n_people:
                level.add(names)
                continue
            if len(out) >= max_sets:
                return out, False
            found = counter.measure(names)
            out.append(found)
            if found.singled_out <= limit:
                level.add(names)
        quiet = level
    return out, True


def _candidates(names: Names, quiet: set[Names], width: int) -> Iterator[Names]:
    """Yield the sets of `width` columns all of whose parts are quiet, grouped by common prefix."""
    place = {name: i for i, name in enumerate(names)}
    for prefix in sorted(quiet, key=lambda part: [place[name] for name in part]):
        for name in names[place[prefix[-1]] + 1 if prefix else 0 :]:
            candidate = (*prefix, name)
            if all(part in quiet for part in itertools.combinations(candidate, width - 1)):
                yield candidate


def _greedy(counter: _Counter, known: dict[Names, ColumnSet]) -> Iterator[ColumnSet]:
    """Yield the growing set of columns, each time with the one that singles out (then separates) most."""
    taken: Names = ()
    best: ColumnSet | None = None
    while len(taken) < len(counter.names):
        options = []
        for name in counter.names:
            if name not in taken:
                names = (*taken, name)
                options.append(known.get(names) or counter.measure(names))
        found = max(options, key=lambda option: (option.singled_out, option.separation))
        gain = best is None or (found.singled_out, found.separation) > (best.singled_out, best.separation)
        if not gain:
            return
        yield found
        best, taken = found, found.columns
        if found.singled_out == 1.0:
            return


def _lines(found: QuasiIdentifiers) -> Iterator[str]:
    yield "Columns that single people out - INTERNAL: do not pass on"
    yield f"smallest sets that single out more than {found.limit:.0%}" + (
        "" if found.complete else " (the search ended before all sets were counted)"
    )
    yield from (_line(found) for found in found.minimal) if found.minimal else ("  none",)
    yield "column by column, the strongest first, each with those above it"
    yield from (_line(step, last=True) for step in found.greedy)


def _line(found: ColumnSet, *, last: bool = False) -> str:
    names = f"+ {found.columns[-1]}" if last else ", ".join(found.columns)
    return (
        f"  {names:<40} singled out {found.singled_out:>7.2%}  distinction {found.distinction:>7.2%}  "
        f"separation {found.separation:>7.2%}"
    )
