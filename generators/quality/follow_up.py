"""Does survival come out right? Kaplan-Meier curves of real and synthetic patients by group; Cox models beside them.

Distances of curves are those of `generators.survival.compare_survival`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from generators.errors import DomainMismatch, NotConverged
from generators.quality.cox import BoolArray
from generators.quality.features import FloatArray
from generators.quality.hazards import COX_ROWS, Term, compare_cox, follow_up_columns, times_and_events
from generators.quality.rulers import Bench, Figure, Table, Verdict, by_limits, figure
from generators.survival import compare_survival, cumulative_incidence, kaplan_meier, kaplan_meier_band

IntArray = npt.NDArray[np.int64]

_MOST_GROUPS = 4
_FEWEST = 10
_GRID_POINTS = 120


@dataclass(frozen=True, slots=True)
class Curves:
    """Kaplan-Meier estimates of one group on a grid, with 95 % limits: (estimate, low, high). INTERNAL.

    For a competing event: its cumulative incidence (Aalen-Johansen), the limits being the estimate itself.

    divergence, optimism, short_sightedness   of the two curves; NaN if the synthetic table lacks the group
    floor                                     divergence of a resample of the real rows, mean
    """

    group: str
    grid: tuple[float, ...]
    real: tuple[tuple[float, ...], ...]
    synthetic: tuple[tuple[float, ...], ...]
    divergence: float
    optimism: float
    short_sightedness: float
    floor: float


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Curves and Cox models. `complete` is the share of rows without missing values in (real, synthetic) table."""

    figures: tuple[Figure, ...]
    curves: tuple[Curves, ...]
    group_column: str | None
    terms: tuple[Term, ...]
    complete: tuple[float, float]
    notes: tuple[str, ...]


def follow_up(
    bench: Bench, *, group: str | None, covariates: Sequence[str] | None, rng: np.random.Generator
) -> FollowUp:
    """Compare survival; the schema must declare it. INTERNAL on real rows."""
    if bench.schema.survival is None:
        raise DomainMismatch("the schema declares no survival: add [survival] with time and event")
    column = group or _default_group(bench)
    curves, figures = _curves(bench, column)
    notes: list[str] = []
    terms: tuple[Term, ...] = ()
    complete = (math.nan, math.nan)
    try:
        terms, complete, more, left_out = compare_cox(bench.limited(COX_ROWS, rng=rng), covariates, rng=rng)
        figures.extend(more)
        notes.extend(left_out)
    except (DomainMismatch, NotConverged) as error:
        notes.append(f"No Cox model: {error}.")
    return FollowUp(tuple(figures), curves, column, terms, complete, tuple(notes))


def _curves(bench: Bench, column: str | None) -> tuple[tuple[Curves, ...], list[Figure]]:
    followed = {id(table): times_and_events(bench, table) for table in (bench.real, *bench.others())}

    def part(table: Table, code: int | None) -> tuple[FloatArray, BoolArray]:
        time, cause, known = followed[id(table)]
        if code is not None and column is not None:
            known = known & (table.codes[:, bench.domain.position(column)] == code)
        return time[known], cause[known] > 0

    out = []
    figures: list[Figure] = []
    for code, label in [(None, "all patients"), *_groups(bench, column)]:
        real = part(bench.real, code)
        if real[0].size < _FEWEST:
            continue
        # Beyond the last few patients a curve is noise, in any table.
        end = float(np.sort(real[0])[-_FEWEST])
        if end <= 0:
            continue
        grid = np.linspace(0, end, _GRID_POINTS + 1)[1:]
        distances = np.full((3, len(bench.others())), np.nan)
        for i, table in enumerate(bench.others()):
            other = part(table, code)
            if other[0].size:
                found = compare_survival(real, other, grid)
                distances[:, i] = found.km_divergence, found.optimism, found.short_sightedness
        if code is None:
            figures = _curve_figures(bench, distances)
        resampled = distances[0, 2 : 2 + len(bench.resamples)]
        synthetic = part(bench.synthetic, code)
        out.append(
            Curves(
                group=label,
                grid=tuple(grid.tolist()),
                real=_estimate(*real, grid),
                synthetic=_estimate(*synthetic, grid) if synthetic[0].size else (),
                divergence=float(distances[0, 0]),
                optimism=float(distances[1, 0]),
                short_sightedness=float(distances[2, 0]),
                floor=float(resampled.mean()) if resampled.size else math.nan,
            )
        )
    if out:
        out.extend(_incidences(bench, followed, np.array(out[0].grid)))
    return tuple(out), figures


def _incidences(
    bench: Bench, followed: Mapping[int, tuple[FloatArray, IntArray, BoolArray]], grid: FloatArray
) -> list[Curves]:
    """Return the cumulative incidence of each competing event, of all patients; without limits."""
    competing = () if bench.schema.survival is None else bench.schema.survival.competing
    if len(competing) < 2:
        return []
    curves = []
    for table in (bench.real, *bench.others()):
        time, cause, known = followed[id(table)]
        if not known.any():
            return []
        curves.append(cumulative_incidence(time[known], cause[known], grid, n_causes=len(competing)))
    out = []
    for k, (_, what) in enumerate(competing):
        real, synthetic, _, *rest = (each[k] for each in curves)
        resampled = [float(np.abs(each - real).mean()) for each in rest[: len(bench.resamples)]]
        out.append(
            Curves(
                group=f"{what}: cumulative incidence",
                grid=tuple(grid.tolist()),
                real=(tuple(real.tolist()),) * 3,
                synthetic=(tuple(synthetic.tolist()),) * 3,
                divergence=float(np.abs(synthetic - real).mean()),
                optimism=math.nan,
                short_sightedness=math.nan,
                floor=float(np.mean(resampled)),
            )
        )
    return out


def _estimate(time: FloatArray, event: BoolArray, grid: FloatArray) -> tuple[tuple[float, ...], ...]:
    low, high = kaplan_meier_band(time, event, grid)
    return tuple(tuple(values.tolist()) for values in (kaplan_meier(time, event, grid), low, high))


def _curve_figures(bench: Bench, distances: FloatArray) -> list[Figure]:
    rows = [
        (
            "km_divergence",
            "Distance of the survival curves",
            "Mean difference of the two curves, in survival probability: 0.03 = three patients in a hundred.",
            by_limits(0.03, 0.06),
        ),
        (
            "optimism",
            "Optimism",
            "Mean of synthetic less real survival: above zero, synthetic patients live too long; below, too short.",
            _either_side(0.02, 0.05),
        ),
        (
            "short_sightedness",
            "Short-sightedness",
            "By what share the longest synthetic follow-up falls short of the real one.",
            _either_side(0.02, 0.10),
        ),
    ]
    return [
        figure(name, label, meaning, distances[i].tolist(), bench, judge=judge)
        for i, (name, label, meaning, judge) in enumerate(rows)
    ]


def _either_side(good: float, fair: float) -> Callable[[float, float], Verdict]:
    rule = by_limits(good, fair)

    def judge(value: float, floor: float) -> Verdict:
        return rule(abs(value), abs(floor))

    return judge


def _default_group(bench: Bench) -> str | None:
    """Return the first quasi-identifier with few categories, or any such column; None without one."""
    follow = follow_up_columns(bench.schema)
    if bench.schema.survival is not None and bench.schema.survival.strata:
        return bench.schema.survival.strata[0]
    for name in (*bench.schema.quasi_identifiers, *bench.domain.columns):
        if name in bench.domain and name not in follow and 2 <= bench.domain[name] <= _MOST_GROUPS:
            return name
    return None


def _groups(bench: Bench, column: str | None) -> list[tuple[int, str]]:
    if column is None:
        return []
    counts = np.bincount(bench.real.codes[:, bench.domain.position(column)], minlength=bench.domain[column])
    largest = np.sort(np.argsort(-counts, kind="stable")[:_MOST_GROUPS])
    labels = bench.columns[column].labels()
    return [(int(code), f"{column} {labels[code]}") for code in largest if counts[code] >= _FEWEST]
