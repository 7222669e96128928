"""What a site job needs of a table, wherever it is: counts, a lower bound on its rows, a keyed version; rows at times.

A frame answers everything. A table that was counted where it is answers from its distinct tuples, and says so when a
step needs rows.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import pandas as pd

from generators.domain import Clique, Domain
from generators.encoding import encode
from generators.marginals import Counts, count_marginals
from generators.tuples import CodedTuples
from privacy import Schema
from synthema.errors import RowsNeeded, SynthemaError


@runtime_checkable
class SiteData(Protocol):
    """A site's table. All that it returns is private, but for `has_rows`."""

    schema: Schema

    @property
    def has_rows(self) -> bool:
        """Whether `frame` can answer: public, as it is decided by the site's configuration."""
        ...

    def frame(self) -> pd.DataFrame:
        """Return the rows, one per patient, columns as in the schema. Raises RowsNeeded."""
        ...

    @property
    def n_rows(self) -> int:
        """Number of patients: private."""
        ...

    def forget(self) -> None:
        """Drop rows and counts: what follows is rendered from released values only."""
        ...

    def marginals(self, schema: Schema, cliques: Sequence[Clique]) -> list[Counts]:
        """Return exact counts of each clique; `schema`: a subset of the table's."""
        ...

    def n_rows_at_least(self, least: int) -> bool:
        """Whether the table has at least so many patients."""
        ...

    def fingerprint(self, secret: bytes) -> str:
        """Return a keyed hash of the table, whatever the order of its rows: its version in the ledger."""
        ...


class FrameData:
    """A table in memory; `forget` drops it."""

    def __init__(self, frame: pd.DataFrame, schema: Schema) -> None:
        self.schema = schema
        self._frame: pd.DataFrame | None = frame.reset_index(drop=True)

    def __repr__(self) -> str:
        return "FrameData()"

    @property
    def has_rows(self) -> bool:
        """Whether `frame` can answer."""
        return True

    def frame(self) -> pd.DataFrame:
        """Return the rows."""
        if self._frame is None:
            raise SynthemaError("the table was closed")
        return self._frame

    @property
    def n_rows(self) -> int:
        """Number of patients: private."""
        return len(self.frame())

    def forget(self) -> None:
        """Drop the rows."""
        self._frame = None

    def marginals(self, schema: Schema, cliques: Sequence[Clique]) -> list[Counts]:
        """Return exact counts of each clique."""
        return count_marginals(encode(self.frame(), schema), Domain.from_schema(schema), cliques)

    def n_rows_at_least(self, least: int) -> bool:
        """Whether the table has at least so many patients."""
        return self.n_rows >= least

    def fingerprint(self, secret: bytes) -> str:
        """Return a keyed hash of the rows, whatever their order.

        Ledgers are shown to auditors. Without a key that they do not have, a hash of a small table could be compared
        with guesses of it, and would tell the last patient of somebody who knows all others.
        """
        frame = self.frame()
        columns = [[repr(value) for value in frame[name].tolist()] for name in self.schema.names]
        rows = sorted("\x1f".join(row) for row in zip(*columns, strict=True))
        return hmac.new(secret, "\x1e".join(rows).encode(), hashlib.sha256).hexdigest()


class CountedData:
    """A table that was counted in place, once: its distinct tuples of codes."""

    def __init__(self, tuples: CodedTuples) -> None:
        self.schema = tuples.schema
        self._tuples: CodedTuples | None = tuples

    def __repr__(self) -> str:
        return "CountedData()"

    @property
    def tuples(self) -> CodedTuples:
        """The distinct tuples."""
        if self._tuples is None:
            raise SynthemaError("the table was closed")
        return self._tuples

    @property
    def has_rows(self) -> bool:
        """Whether `frame` can answer: no."""
        return False

    def frame(self) -> pd.DataFrame:
        """Raise RowsNeeded."""
        raise RowsNeeded

    @property
    def n_rows(self) -> int:
        """Number of patients: private."""
        return self.tuples.n_rows

    def forget(self) -> None:
        """Drop the counts."""
        self._tuples = None

    def marginals(self, schema: Schema, cliques: Sequence[Clique]) -> list[Counts]:
        """Return exact counts of each clique, summed from the tuples."""
        return self.tuples.marginals(schema, cliques)

    def n_rows_at_least(self, least: int) -> bool:
        """Whether the table has at least so many patients."""
        return self.n_rows >= least

    def fingerprint(self, secret: bytes) -> str:
        """Return a keyed hash of the tuples and their counts."""
        return self.tuples.fingerprint(secret)
