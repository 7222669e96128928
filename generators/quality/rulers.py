"""A number about a synthetic table means something only beside the same number about tables that are understood.

resample   rows of the real table drawn with replacement, so many as the smaller table has: what chance alone does to a
           perfect generator; the floor
copy       rows of the real table given out as they are: the total leak. It scores perfectly wherever nearness to the
           real table is measured, which is why nearness says nothing about privacy
holdout    real patients whom the generator never saw, if there are any
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from generators.domain import Domain
from generators.encoding import encode
from generators.errors import DomainMismatch
from generators.marginals import Codes
from privacy import Schema
from privacy.schema import Column

Verdict = Literal["good", "fair", "poor"]


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """A table as it came, and its codes, shape (n_rows, n_columns)."""

    frame: pd.DataFrame
    codes: Codes

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: Any) -> Table:
        """Return some of the rows."""
        return Table(self.frame.iloc[rows], np.asfortranarray(self.codes[rows]))


@dataclass(frozen=True, slots=True, repr=False)
class Bench:
    """The tables that one number is computed on: the synthetic one and its rulers, each against `real`.

    columns   the domain's columns as generators model them, by name
    """

    schema: Schema
    domain: Domain
    columns: Mapping[str, Column]
    real: Table
    synthetic: Table
    resamples: tuple[Table, ...]
    copy: Table
    holdout: Table | None

    @classmethod
    def of(
        cls,
        real: pd.DataFrame,
        synthetic: pd.DataFrame,
        holdout: pd.DataFrame | None,
        schema: Schema,
        *,
        n_resamples: int,
        rng: np.random.Generator,
    ) -> Bench:
        """Encode the tables and draw the rulers. Raises SchemaError; DomainMismatch for a table of under two rows."""
        tables = []
        for name, frame in (("real", real), ("synthetic", synthetic), ("holdout", holdout)):
            if frame is not None and len(frame) < 2:
                raise DomainMismatch(f"the {name} table needs at least two rows")
            tables.append(None if frame is None else Table(frame.reset_index(drop=True), encode(frame, schema)))
        first, second, third = tables
        if first is None or second is None:  # pragma: no cover - the types forbid it
            raise DomainMismatch("there must be a real and a synthetic table")
        return cls(
            schema=schema,
            domain=Domain.from_schema(schema),
            columns={column.name: column for column in schema.modelled},
            real=first,
            synthetic=second,
            resamples=_resamples(first, min(len(first), len(second)), n_resamples, rng),
            copy=_copy(first, len(second), rng),
            holdout=third,
        )

    def limited(self, n_rows: int, *, rng: np.random.Generator) -> Bench:
        """Return a bench whose tables have at most `n_rows` random rows; the rulers are drawn anew from those."""
        if max(map(len, (self.real, *self.others()))) <= n_rows:
            return self
        real, synthetic = (_at_most(table, n_rows, rng) for table in (self.real, self.synthetic))
        return Bench(
            schema=self.schema,
            domain=self.domain,
            columns=self.columns,
            real=real,
            synthetic=synthetic,
            resamples=_resamples(real, min(len(real), len(synthetic)), len(self.resamples), rng),
            copy=_copy(real, len(synthetic), rng),
            holdout=None if self.holdout is None else _at_most(self.holdout, n_rows, rng),
        )

    def others(self) -> tuple[Table, ...]:
        """Return the synthetic table, the copy, the resamples, and the holdout if there is one, in this order."""
        return (self.synthetic, self.copy, *self.resamples, *(() if self.holdout is None else (self.holdout,)))


@dataclass(frozen=True, slots=True)
class Figure:
    """One number about the synthetic table, with its rulers. INTERNAL.

    name       stable, for scripts; `label` and `meaning` are for people
    value      of the synthetic table
    floor      least, mean and greatest over the resamples; None where resampling makes no sense
    copy       of the total leak; None where it makes no sense
    holdout    of patients whom the generator never saw; None without them
    best       what a perfect table scores
    verdict    by the rule that the report states; None for numbers that are shown without one
    """

    name: str
    label: str
    meaning: str
    value: float
    floor: tuple[float, float, float] | None
    copy: float | None
    holdout: float | None
    best: float
    verdict: Verdict | None


def figure(
    name: str,
    label: str,
    meaning: str,
    values: Sequence[float],
    bench: Bench,
    *,
    best: float = 0.0,
    judge: Callable[[float, float], Verdict] | None = None,
) -> Figure:
    """Return the figure of values in the order of `bench.others()`; `judge(value, floor)` gives the verdict."""
    value, copy, *rest = (float(v) for v in values)
    holdout = rest.pop() if bench.holdout is not None else None
    floor = None
    if rest and not any(math.isnan(v) for v in rest):
        floor = (min(rest), math.fsum(rest) / len(rest), max(rest))
    known = not math.isnan(value)
    verdict = judge(value, floor[1] if floor else best) if judge is not None and known else None
    return Figure(name, label, meaning, value, floor, copy, holdout, best, verdict)


def by_limits(good: float, fair: float, *, times_floor: tuple[float, float] = (2.0, 5.0)) -> Callable[..., Verdict]:
    """Return the rule for numbers where less is better: good up to a limit or a multiple of the floor, fair likewise.

    The limit says what is too small to matter in practice; the multiple, what chance explains.

    Examples
    --------
    >>> rule = by_limits(0.05, 0.15)
    >>> rule(0.04, 0.001), rule(0.08, 0.05), rule(0.3, 0.05)
    ('good', 'good', 'poor')
    """

    def judge(value: float, floor: float) -> Verdict:
        if value <= max(good, times_floor[0] * floor):
            return "good"
        return "fair" if value <= max(fair, times_floor[1] * floor) else "poor"

    return judge


def worst(figures: Sequence[Figure]) -> Verdict | None:
    """Return the worst verdict among the figures that have one."""
    given = {each.verdict for each in figures}
    order: tuple[Verdict, ...] = ("poor", "fair", "good")
    return next((verdict for verdict in order if verdict in given), None)


def _resamples(real: Table, n_rows: int, how_many: int, rng: np.random.Generator) -> tuple[Table, ...]:
    return tuple(real.take(rng.integers(0, len(real), n_rows)) for _ in range(how_many))


def _copy(real: Table, n_rows: int, rng: np.random.Generator) -> Table:
    whole, part = divmod(n_rows, len(real))
    rows = [np.tile(np.arange(len(real)), whole), rng.permutation(len(real))[:part]]
    return real.take(np.concatenate(rows))


def _at_most(table: Table, n_rows: int, rng: np.random.Generator) -> Table:
    return table if len(table) <= n_rows else table.take(rng.permutation(len(table))[:n_rows])
