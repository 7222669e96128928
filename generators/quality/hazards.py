"""Do hazard ratios and their intervals agree? Cox models from real and from synthetic patients.

overlap   of two 95 % intervals: the mean of the shares of either that lies in the other; 1 = equal, 0 = they touch,
          below 0 = apart; two samples of the same patients have about 0.7 to 0.8
Source: Karr, Kohnen, Oganian, Reiter, Sanil 2006, Am. Stat. 60:224.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from generators.errors import DomainMismatch, NotConverged
from generators.quality.cox import BoolArray, CoxFit, concordance, fit_cox
from generators.quality.features import FloatArray
from generators.quality.rulers import Bench, Figure, Table, by_limits, figure
from privacy import Schema

COX_ROWS = 50_000
_CONCORDANCE_ROWS = 5_000
_MOST_TERMS = 12
_MOST_CATEGORIES = 6
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Term:
    """One log hazard ratio, (estimate, standard error) from each table; NaN where a table gives none. INTERNAL."""

    name: str
    real: tuple[float, float]
    synthetic: tuple[float, float]
    overlap: float


def follow_up_columns(schema: Schema) -> set[str]:
    """Return the names of follow-up time and event, which are no covariates."""
    return set() if schema.survival is None else {schema.survival.time, schema.survival.event}


def times_and_events(bench: Bench, table: Table) -> tuple[FloatArray, npt.NDArray[np.int64], BoolArray]:
    """Return follow-up times, which event ended them (0: none), and which rows have both.

    Follow-up ends at the schema's horizon, as it does in the codes.
    """
    survival = bench.schema.survival
    assert survival is not None  # noqa: S101 - the caller has looked
    time, known = column_values(bench, table, survival.time)
    if survival.horizon is not None:
        time = np.minimum(time, survival.horizon)
    event = bench.columns[survival.event]
    codes = table.codes[:, bench.domain.position(survival.event)]
    order = ["0", *(category for category, _ in survival.competing or (("1", ""),))]
    cause = np.array([order.index(label) if label in order else 0 for label in event.labels()])
    return time, cause[codes], known & (codes < bench.domain[survival.event] - event.nullable)


@dataclass(frozen=True, slots=True)
class _Design:
    """Columns of the Cox model: (column, code or None, centre, scale); a code's column is its indicator."""

    terms: tuple[tuple[str, int | None, float, float], ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, bench: Bench, covariates: Sequence[str] | None) -> _Design:
        follow = follow_up_columns(bench.schema)
        chosen = [name for name in bench.domain if name not in follow] if covariates is None else list(covariates)
        chosen = [name for name in chosen if not bench.columns[name].missing_of]
        terms: list[tuple[str, int | None, float, float]] = []
        names: list[str] = []
        left_out = []
        for name in chosen:
            more = _terms(bench, name)
            if not more or (covariates is None and len(terms) + len(more) > _MOST_TERMS):
                left_out.append(name)
                continue
            terms.extend(term for term, _ in more)
            names.extend(label for _, label in more)
        notes = []
        if left_out:
            notes.append(
                "Not in the Cox model, because they have many categories or the model would have more than "
                f"{_MOST_TERMS} terms: {', '.join(left_out)}."
            )
        return cls(tuple(terms), tuple(names), tuple(notes))

    def matrix(self, bench: Bench, table: Table) -> tuple[FloatArray, FloatArray, BoolArray, float]:
        """Return covariates, times and events of the rows that have all of them, and the share of such rows."""
        time, cause, known = times_and_events(bench, table)
        X = np.empty((len(table), len(self.terms)))
        for i, (name, code, centre, scale) in enumerate(self.terms):
            values, there = column_values(bench, table, name)
            X[:, i] = (values - centre) / scale if code is None else values == code
            known = known & there
        return X[known], time[known], cause[known] > 0, float(known.mean())


def column_values(bench: Bench, table: Table, name: str) -> tuple[FloatArray, BoolArray]:
    """Return a column as numbers (codes where it has categories), and where it has a value."""
    column = bench.columns[name]
    if column.is_binned:
        values = column.numbers(np.asarray(table.frame[name].to_numpy()))
        return np.nan_to_num(values), ~np.isnan(values)
    codes = table.codes[:, bench.domain.position(name)]
    return codes.astype(np.float64), codes < bench.domain[name] - column.nullable


def _terms(bench: Bench, name: str) -> list[tuple[tuple[str, int | None, float, float], str]]:
    column = bench.columns[name]
    values, there = column_values(bench, bench.real, name)
    if column.kind != "categorical":
        centre, scale = float(values[there].mean()), float(values[there].std())
        return [((name, None, centre, scale), f"{name}, per SD")] if scale > 0 else []
    if not 2 <= len(column.categories) <= _MOST_CATEGORIES:
        return []
    counts = np.bincount(values[there].astype(np.int64), minlength=len(column.categories))
    reference = int(np.argmax(counts))
    return [
        ((name, code, 0.0, 1.0), f"{name}: {label} vs {column.categories[reference]}")
        for code, label in enumerate(column.categories)
        if code != reference and counts[code] > 0
    ]


def compare_cox(
    bench: Bench, covariates: Sequence[str] | None, *, rng: np.random.Generator
) -> tuple[tuple[Term, ...], tuple[float, float], list[Figure], tuple[str, ...]]:
    """Fit the same model to every table. Returns terms, shares of complete rows, figures, and notes. INTERNAL.

    Raises DomainMismatch or NotConverged if the real rows give no model.
    """
    design = _Design.of(bench, covariates)
    X, time, event, complete = design.matrix(bench, bench.real)
    real = fit_cox(X, time, event)
    fits: list[CoxFit | None] = []
    shares = []
    for table in bench.others():
        Z, others_time, others_event, share = design.matrix(bench, table)
        shares.append(share)
        fits.append(_fit_or_none(Z, others_time, others_event))
    synthetic = fits[0]
    overlaps = np.array([np.full(len(design.names), np.nan) if fit is None else _overlap(real, fit) for fit in fits])
    terms = tuple(
        Term(
            name=name,
            real=(float(real.coefficients[i]), float(real.std_errors[i])),
            synthetic=(math.nan, math.nan)
            if synthetic is None
            else (float(synthetic.coefficients[i]), float(synthetic.std_errors[i])),
            overlap=float(overlaps[0, i]),
        )
        for i, name in enumerate(design.names)
    )
    if bench.holdout is not None:
        X, time, event, _ = design.matrix(bench, bench.holdout)
    rows = rng.permutation(len(X))[:_CONCORDANCE_ROWS]
    X, time, event = X[rows], time[rows], event[rows]
    best = concordance(time, event, real.risk(X))
    losses = [math.nan if fit is None else best - concordance(time, event, fit.risk(X)) for fit in fits]
    if bench.holdout is not None:
        losses[-1] = math.nan
    figures = [
        figure(
            "cox_interval_overlap",
            "Overlap of the Cox model's intervals",
            "Mean over the hazard ratios: 1 = the same 95 % intervals from both tables, 0 = they touch, negative = "
            "apart. Two samples of the same patients have about 0.7 to 0.8.",
            [_mean(row) for row in overlaps],
            bench,
            best=1.0,
            judge=lambda value, _floor: "good" if value >= 0.5 else "fair" if value >= 0.2 else "poor",
        ),
        figure(
            "concordance_loss",
            "Ranking patients by risk",
            f"Loss of concordance (from {best:.2f} with the model from real patients) by learning the Cox model from "
            "synthetic ones; tested on the same real patients.",
            losses,
            bench,
            judge=by_limits(0.02, 0.05, times_floor=(2.0, 3.0)),
        ),
    ]
    return terms, (complete, shares[0]), figures, design.notes


def _fit_or_none(X: FloatArray, time: FloatArray, event: BoolArray) -> CoxFit | None:
    try:
        return fit_cox(X, time, event)
    except (DomainMismatch, NotConverged):
        return None


def _overlap(one: CoxFit, two: CoxFit) -> FloatArray:
    low = np.maximum(one.coefficients - _Z * one.std_errors, two.coefficients - _Z * two.std_errors)
    high = np.minimum(one.coefficients + _Z * one.std_errors, two.coefficients + _Z * two.std_errors)
    shared: npt.NDArray[np.float64] = (high - low) / (4 * _Z) * (1 / one.std_errors + 1 / two.std_errors)
    return shared


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
