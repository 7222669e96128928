"""Tables that come in pieces: any data frame library, lazy frames, chunks of a file, or codes; held as small codes.

chunk      some rows of the table, as a frame
block      codes of up to 2^17 rows, shape (n_rows, n_columns), each column contiguous, in the smallest unsigned type

Every chunk is validated as a whole table would be, encoded, and let go, so memory holds the codes and one chunk: a
million rows of a hundred columns with at most 256 codes are 100 MB. Larger tables are spilled to disk, or counted
where they are (`generators.sql`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.capping import patient_names
from generators.domain import Clique, Domain
from generators.encoding import encode
from generators.errors import DomainMismatch, MissingLibrary, TooManyRecords
from generators.marginals import Codes, Counts, count_marginals, smallest_dtype
from generators.oracle import CountingOracle
from privacy import Rng, Schema, SchemaError, SchemaProblem
from privacy.neighbours import Neighbours

_BLOCK_ROWS = 1 << 17

# A chunk of texts or doubles has up to so many cells (16 MB as doubles).
_CHUNK_CELLS = 1 << 21


class TableOracle(CountingOracle):
    """Answers from a table of any size and library, encoded chunk by chunk; noise and selection as `LocalTableOracle`.

    Parameters
    ----------
    table
        The private table: a frame of pandas, or of any library that narwhals reads (Polars, PyArrow, DuckDB relations,
        lazy frames: `pip install synthema[frames]`), or an iterable of such frames, read once.
    schema
        The public description. With `patient_id`, a patient may have several rows; without, a row is a patient.
    neighbours
        Relation under which sensitivities are computed.
    max_records_per_patient
        Most rows of one patient, m. Noise grows by m. A table in which a patient has more is refused.
    spill_folder
        Where codes that do not fit into memory are written, to files without a name that vanish with the oracle. The
        codes are private: choose an encrypted volume. None: memory holds them.
    rng
        Source of noise; the operating system's by default. Anything else protects nobody.

    Raises
    ------
    SchemaError
        If a chunk does not fit the schema.
    TooManyRecords
        If a patient has more rows than `max_records_per_patient`, in one chunk or several.
    MissingLibrary
        If the table is no pandas frame and narwhals is not installed.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
    >>> chunks = (pd.DataFrame({"sex": ["F"] * 30 + ["M"] * 70}) for _ in range(10))
    >>> [sex] = TableOracle(chunks, schema).measure([("sex",)], rho=0.5)
    >>> bool(abs(sex.values - [300, 700]).max() < 20)
    True
    """

    def __init__(
        self,
        table: Any,
        schema: Schema,
        *,
        neighbours: Neighbours = "add_remove_one",
        max_records_per_patient: int = 1,
        spill_folder: str | Path | None = None,
        rng: Rng | None = None,
    ) -> None:
        domain = Domain.from_schema(schema)
        super().__init__(domain, neighbours=neighbours, max_records_per_patient=max_records_per_patient, rng=rng)
        patients = _Patients(max_records_per_patient, schema.patient_id)
        if isinstance(table, _Coded):
            self._blocks = table.checked(schema, domain)
            if table.patients is not None:
                patients.append(table.patients)
        else:
            self._blocks = _encoded(table, schema, _Blocks(domain, spill_folder), patients)
        patients.check()

    @classmethod
    def from_codes(
        cls,
        codes: Codes | Sequence[Codes],
        schema: Schema,
        *,
        patients: npt.NDArray[Any] | None = None,
        neighbours: Neighbours = "add_remove_one",
        max_records_per_patient: int = 1,
        rng: Rng | None = None,
    ) -> TableOracle:
        """Answer from a table that is encoded already (`generators.encode`), without copying it.

        Parameters
        ----------
        codes
            Shape (n_rows, n_columns), as `generators.encode` returns them; or a sequence of such blocks. Fast if each
            column is contiguous (`order="F"`).
        schema
            The public description.
        patients
            Who each row belongs to, shape (n_rows,); required if the schema has a `patient_id`.
        neighbours, max_records_per_patient, rng
            As for a table.

        Raises
        ------
        DomainMismatch
            If the codes have another shape, type or range than the schema's columns.
        TooManyRecords
            If a patient has more rows than `max_records_per_patient`.

        Examples
        --------
        >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
        >>> TableOracle.from_codes(np.array([[0], [1], [1]], dtype=np.uint8), schema)
        TableOracle(1 columns, neighbours='add_remove_one')
        """
        blocks = (codes,) if isinstance(codes, np.ndarray) else tuple(codes)
        return cls(
            _Coded(blocks, patients),
            schema,
            neighbours=neighbours,
            max_records_per_patient=max_records_per_patient,
            rng=rng,
        )

    def _count(self, cliques: Sequence[Clique]) -> list[Counts]:
        return count_marginals(self._blocks, self.domain, cliques)


def chunks_of(table: Any, *, n_rows: int) -> Iterator[Any]:
    """Yield the table's rows as frames of at most so many rows, in one reading of it.

    Parameters
    ----------
    table
        A frame, a lazy frame, or an iterable of frames, whose own sizes are kept if they are smaller.
    n_rows
        Most rows of a chunk.
    """
    if isinstance(table, pd.DataFrame):
        yield from (table.iloc[start : start + n_rows] for start in range(0, max(len(table), 1), n_rows))
        return
    # Only other libraries' tables need the extra.
    from privacy._frames import frames_of

    frames = frames_of(table, n_rows=n_rows, missing=MissingLibrary)
    if frames is not None:
        yield from frames
        return
    for frame in table:
        yield from chunks_of(frame, n_rows=n_rows)


class _Blocks:
    """Codes as they come in, packed into blocks of equal size, in memory or in unnamed files."""

    def __init__(self, domain: Domain, folder: str | Path | None) -> None:
        self._domain, self._folder = domain, folder
        self._full: list[Codes] = []
        self._open = self._new()
        self._filled = 0
        self.n_rows = 0

    def append(self, codes: Codes) -> None:
        start = 0
        while start < len(codes):
            some = codes[start : start + _BLOCK_ROWS - self._filled]
            self._open[self._filled : self._filled + len(some)] = some
            self._filled += len(some)
            start += len(some)
            if self._filled == _BLOCK_ROWS:
                self._full.append(self._kept(self._open))
                self._open, self._filled = self._new(), 0
        self.n_rows += len(codes)

    def finished(self) -> list[Codes]:
        if self._filled:
            self._full.append(self._kept(np.asfortranarray(self._open[: self._filled])))
        return self._full

    def _new(self) -> Codes:
        return np.empty((_BLOCK_ROWS, len(self._domain)), dtype=smallest_dtype(self._domain), order="F")

    def _kept(self, block: Codes) -> Codes:
        if self._folder is None:
            return block
        # The file has no name, so nothing is left behind when the process ends, however it ends.
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(block.tobytes(order="F"))
            file.flush()
            return np.memmap(file, dtype=block.dtype, mode="r", shape=block.shape, order="F")


class _Patients:
    """How many rows each patient has, over all chunks: eight bytes a row.

    Names are kept as 64-bit hashes. Two patients with one hash are taken for one (at ten million patients, once in
    400,000 tables), which can refuse a table but never let one pass.
    """

    def __init__(self, most: int, patient_id: str | None) -> None:
        self._most, self._patient_id = most, patient_id
        self._hashes: list[npt.NDArray[np.uint64]] = []

    def append(self, patients: npt.NDArray[Any]) -> None:
        # The same name in every chunk, whatever type a chunk's column has.
        names = np.array(patient_names(patients, self._patient_id or "patients"), dtype=object)
        self._hashes.append(pd.util.hash_array(names, categorize=False))

    def check(self) -> None:
        if not self._hashes:
            return
        hashes = np.concatenate(self._hashes)
        self._hashes.clear()
        hashes.sort()
        # Some patient has more than m rows exactly if two equal hashes stand m places apart.
        if (hashes[self._most :] == hashes[: -self._most]).any():
            raise TooManyRecords.of(self._most)


@dataclass(frozen=True, slots=True)
class _Coded:
    """A table that is encoded already, and who each row belongs to."""

    blocks: tuple[Codes, ...]
    patients: npt.NDArray[Any] | None

    def checked(self, schema: Schema, domain: Domain) -> Sequence[Codes]:
        for block in self.blocks:
            _check_codes(block, domain)
        n_rows = sum(map(len, self.blocks))
        if not n_rows:
            raise DomainMismatch("codes must have at least one row")
        if (self.patients is None) != (schema.patient_id is None):
            raise DomainMismatch("give patients exactly if the schema has a patient_id")
        if self.patients is not None and self.patients.shape != (n_rows,):
            raise DomainMismatch("patients must have one entry for each row")
        return self.blocks


def _encoded(table: Any, schema: Schema, blocks: _Blocks, patients: _Patients) -> list[Codes]:
    """Return the codes of all chunks, each validated; note who their rows belong to."""
    for chunk in chunks_of(table, n_rows=min(_BLOCK_ROWS, max(1, _CHUNK_CELLS // len(schema.names)))):
        # The schema refuses a table without rows; a chunk may well have none.
        if not len(chunk):
            continue
        schema.validate(chunk)
        blocks.append(encode(chunk, schema))
        if schema.patient_id is not None:
            patients.append(np.asarray(chunk[schema.patient_id].to_numpy()))
    if not blocks.n_rows:
        raise SchemaError([SchemaProblem("-", "the table has no rows", "check the file and the delimiter")])
    return blocks.finished()


def _check_codes(block: Codes, domain: Domain) -> None:
    if block.ndim != 2 or block.shape[1] != len(domain) or block.dtype.kind not in "ui":
        raise DomainMismatch(
            f"codes must be integers of shape (n_rows, {len(domain)}), one column for each modelled column"
        )
    for position, name in enumerate(domain.columns):
        column = block[:, position]
        if len(column) and (column.max() >= domain[name] or column.min() < 0):
            raise DomainMismatch(f"column {name!r} holds a code outside [0, {domain[name]})")
