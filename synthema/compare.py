"""Comparing the synthetic table with what was released: noisy marginals and opened survival counts. No rows needed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators import Measurement, encode
from privacy import Schema
from synthema.learning.kaplan_meier import Grid, OpenedGroup, count_table, survival_curve
from synthema.released import ColumnComparison, PairComparison, SurvivalCurve
from synthema.study import Study


def compare_columns(table: pd.DataFrame, schema: Schema, noisy: Sequence[Measurement]) -> tuple[ColumnComparison, ...]:
    """Return each column's noisy counts beside the synthetic ones."""
    measured = _best(noisy)
    out = []
    for column, codes in zip(schema.modelled, encode(table, schema).T, strict=True):
        item = measured[(column.name,)]
        out.append(
            ColumnComparison(
                column=column.name,
                labels=column.labels(),
                noisy_counts=tuple(int(value) for value in item.values),
                noise_std=item.noise_std,
                synthetic_counts=tuple(np.bincount(codes, minlength=column.n_codes).tolist()),
            )
        )
    return tuple(out)


def compare_pairs(
    table: pd.DataFrame, schema: Schema, noisy: Sequence[Measurement], edges: Collection[frozenset[str]]
) -> tuple[PairComparison, ...]:
    """Return the L1 distance of each measured pair's noisy and synthetic frequencies, and what noise alone would give.

    Where a pair was measured with rare codes merged, they are merged in the synthetic table as well.
    """
    measured = _best(noisy)
    columns = {column.name: column for column in schema.modelled}
    codes = dict(zip(columns, encode(table, schema).T.astype(np.int64), strict=True))
    n_noisy = noisy_total(noisy)
    out = []
    for a, b in itertools.combinations(columns, 2):
        item = measured.get((a, b))
        if item is None:
            continue
        groups = dict(zip(item.columns, item.groups, strict=False))
        left, right = (_merged(codes[name], groups.get(name)) for name in (a, b))
        flat = left * item.values.shape[1] + right
        synthetic = np.bincount(flat, minlength=item.values.size) / len(table)
        # Of a Gaussian with standard deviation s, the mean absolute value is s sqrt(2 / pi).
        noise_only = item.values.size * item.noise_std * math.sqrt(2 / math.pi) / n_noisy
        out.append(
            PairComparison(
                columns=(a, b),
                distance=float(np.abs(item.values.ravel() / n_noisy - synthetic).sum()),
                noise_only=noise_only,
                joined=frozenset((a, b)) in edges,
            )
        )
    return tuple(out)


def _merged(codes: npt.NDArray[np.int64], group: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    return codes if group is None else group[codes]


def _best(noisy: Sequence[Measurement]) -> dict[tuple[str, ...], Measurement]:
    """Return of each set of columns the measurement of least noise, of equal ones the first."""
    out: dict[tuple[str, ...], Measurement] = {}
    for item in noisy:
        if item.columns not in out or item.noise_std < out[item.columns].noise_std:
            out[item.columns] = item
    return out


def noisy_total(noisy: Sequence[Measurement]) -> float:
    """Return the number of patients as the noisy marginals tell it: means of all tables' sums, weighted by noise."""
    weights = np.array([1 / item.values.size / item.noise_std**2 for item in noisy])
    sums = np.array([item.values.sum() for item in noisy], dtype=np.float64)
    return float(max((weights * sums).sum() / weights.sum(), 1.0))


def synthetic_survival(table: pd.DataFrame, study: Study) -> tuple[SurvivalCurve, ...]:
    """Return the synthetic patients' Kaplan-Meier curves on the study's grid and groups."""
    schema = study.data_schema
    if study.exact is None or study.exact.kaplan_meier is None or schema.survival is None:
        return ()
    wanted, survival = study.exact.kaplan_meier, schema.survival
    if not {wanted.group, survival.time, survival.event} <= set(table.columns):
        return ()
    column = schema.column(wanted.group)
    time = np.ceil(table[survival.time].to_numpy(dtype=np.float64)).astype(np.int64)
    grid = -(-int(schema.column(survival.time).bin_edges[-1]) // wanted.grid_days)
    counts = count_table(
        column.encode(table[wanted.group].to_numpy()),
        time,
        table[survival.event].astype(str).to_numpy() == "1",
        n_groups=column.n_codes,
        grid=Grid(wanted.grid_days, grid),
    )
    return tuple(
        survival_curve(
            f"{wanted.group} = {label}",
            fully_opened(counts[:, g]),
            grid_days=wanted.grid_days,
            min_cell=study.exact.min_cell,
        )
        for g, label in enumerate(column.labels())
    )


def fully_opened(counts: npt.NDArray[np.int64]) -> OpenedGroup:
    """Return a group's counts, shape (2, T) of deaths and losses, with every cell opened."""
    leaving = counts.sum(axis=0)
    at_risk = leaving.sum() - np.concatenate([[0], np.cumsum(leaving)])
    return OpenedGroup(at_risk=at_risk.astype(np.int64), events=counts[0])


def plain_note(noisy: Sequence[Measurement], epsilon: float, table_rows: int) -> str:
    """Return what this many patients at this epsilon can and cannot show, in plain words and from released numbers."""
    total = noisy_total(noisy)
    std = float(np.mean([item.noise_std for item in noisy]))
    pairs: Mapping[tuple[str, ...], int] = {item.columns: item.values.size for item in noisy if len(item.columns) == 2}
    hard = [" x ".join(columns) for columns, cells in pairs.items() if total / cells < 2 * std]
    stds = sorted({f"{item.noise_std:.0f}" for item in noisy}, key=int)
    carried = stds[0] if len(stds) == 1 else f"{stds[0]} to {stds[-1]}"
    most = max(len(item.columns) for item in noisy)
    at_once = {1: "two columns", 2: "three columns"}.get(most, "more columns")
    made_from = {1: "single columns", 2: "pairs of columns"}.get(most, f"sets of up to {most} columns")
    relations = "and strong relations between two columns are" if most > 1 else "is"
    note = (
        f"About {round(total, -1):.0f} patients took part. Each count behind the synthetic table carries noise of "
        f"about {carried} patients (one standard deviation), so a group is seen only if it is larger than about "
        f"{2 * std:.0f} patients ({2 * std / total:.1%} of them), and two groups differ only if their counts differ "
        f"by more than about {3 * std:.0f}. Each column by itself {relations} shown "
        f"well. Rare subgroups, weak relations and anything that takes {at_once} at once are not: the table is "
        f"made from {made_from}. More synthetic rows ({table_rows} here) show nothing more."
    )
    if hard:
        note += f" Pairs with fewer patients per cell than noise: {', '.join(hard)}."
    return note + f" At epsilon = {epsilon:g} this is the price of hiding each single patient."
