"""A site's internal report: its own patient rows against the synthetic table, and re-identification risk.

INTERNAL: everything here is computed from patients and none of it was paid for. It stays at the site; only the shared
report may leave. The site sees how well the joint synthetic table describes its own patients.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.survival import kaplan_meier
from privacy._formats import count, decimal, percent
from privacy._values import is_missing
from privacy.schema import Schema
from synthema.errors import TableError
from synthema.released import ColumnComparison, SurvivalCurve, SurvivalStep
from synthema.report.page import render
from synthema.report.shared import SurvivalPicture, column_panels
from synthema.report.survival_chart import survival_chart

BANNER = "INTERNAL: computed from this site's patient rows. Do not share."
GRID_DAYS = 180

_SECTIONS = (("columns", "Columns"), ("survival", "Survival"), ("risk", "Risk"))
_RISK_NAMES = {
    "n_records": "Rows",
    "n_classes": "Groups that agree on all quasi-identifiers",
    "sample_uniqueness": "Share of patients alone in their group",
    "average_prosecutor_risk": "Average risk",
    "max_prosecutor_risk": "Largest risk",
    "marketer_risk": "Share an attacker would re-identify",
}


@dataclass(frozen=True, slots=True)
class ColumnFidelity:
    """One column: counts of the site's rows and of the synthetic table, and their L1 distance in shares (0 to 2)."""

    column: str
    labels: tuple[str, ...]
    site_counts: tuple[int, ...]
    synthetic_counts: tuple[int, ...]
    distance: float


@dataclass(frozen=True, slots=True, repr=False)
class InternalFidelity:
    """How well the synthetic table describes one site's patients. INTERNAL: holds exact counts.

    columns                   every coded column that both tables have
    not_compared              columns of the schema that are free values, or missing from the synthetic table
    site_curve, synthetic_curve   Kaplan-Meier on the grid; None without follow-up columns in both tables
    risk_before, risk_after   numbers of a risk report before and after anonymising; empty if not given
    """

    site: str
    site_rows: int
    synthetic_rows: int
    columns: tuple[ColumnFidelity, ...]
    not_compared: tuple[str, ...]
    site_curve: SurvivalCurve | None
    synthetic_curve: SurvivalCurve | None
    risk_before: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    risk_after: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __repr__(self) -> str:
        """Name the site only: a repr ends up in logs, exact counts must not."""
        return f"InternalFidelity(INTERNAL, site={self.site!r})"

    @property
    def survival_gap(self) -> float | None:
        """Largest difference of the two curves over the grid points that both know."""
        if self.site_curve is None or self.synthetic_curve is None:
            return None
        gaps = [
            abs(a.survival_low - b.survival_low)
            for a, b in zip(self.site_curve.steps, self.synthetic_curve.steps, strict=True)
            if a.survival_low is not None and b.survival_low is not None
        ]
        return max(gaps, default=None)


def measure_fidelity(
    frame: pd.DataFrame,
    synthetic: pd.DataFrame | None,
    schema: Schema,
    *,
    site: str,
    grid_days: int = GRID_DAYS,
    risk_before: Mapping[str, Any] | None = None,
    risk_after: Mapping[str, Any] | None = None,
) -> InternalFidelity:
    """Compare a site's rows with the synthetic table, column by column and in survival.

    Parameters
    ----------
    frame, synthetic
        The site's table and the synthetic one, None if the study made none; values as the schema says.
    grid_days
        Width of the survival grid; it runs over the public bounds of the follow-up time.
    risk_before, risk_after
        Parsed `anonymise.RiskReport.to_json()`; its single numbers are shown, lists and texts are not.

    Raises
    ------
    TableError
        A table has no rows.
    privacy.SchemaError
        A value breaks the schema.
    ValueError
        grid_days is not positive.
    """
    if grid_days < 1:
        raise ValueError(f"grid_days must be >= 1, got {grid_days!r}")
    for name, table in (("the site's table", frame), ("the synthetic table", synthetic)):
        if table is not None and len(table) == 0:
            raise TableError(f"{name} has no rows; check that the export is complete")
    if synthetic is None:
        synthetic = pd.DataFrame()
    shared = [name for name in schema.coded if name in frame.columns and name in synthetic.columns]
    curves = _curves(frame, synthetic, schema, grid_days=grid_days, site=site)
    return InternalFidelity(
        site=site,
        site_rows=len(frame),
        synthetic_rows=len(synthetic),
        columns=tuple(_column(frame, synthetic, schema, name) for name in shared),
        not_compared=tuple(name for name in schema.names if name not in shared),
        site_curve=curves[0],
        synthetic_curve=curves[1],
        risk_before=_numbers(risk_before),
        risk_after=_numbers(risk_after),
    )


def render_internal(fidelity: InternalFidelity) -> str:
    """Return the internal report as one HTML page, marked on top, in its title and in print."""
    comparisons = tuple(
        ColumnComparison(
            column=f"{column.column} ({decimal(column.distance)})",
            labels=column.labels,
            noisy_counts=column.site_counts,
            noise_std=0.0,
            synthetic_counts=column.synthetic_counts,
        )
        for column in fidelity.columns
    )
    return render(
        "internal.html.j2",
        f=fidelity,
        banner=BANNER,
        sections=_SECTIONS,
        panels=column_panels(comparisons, first="this site"),
        worst=sorted(fidelity.columns, key=lambda column: (-column.distance, column.column)),
        survival=_picture(fidelity),
        risks=_risk_rows(fidelity.risk_before, fidelity.risk_after),
    )


def _column(frame: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema, name: str) -> ColumnFidelity:
    column = schema.column(name)
    counts = [
        np.bincount(column.encode(np.asarray(table[name].to_numpy())), minlength=column.n_codes)
        for table in (frame, synthetic)
    ]
    distance = float(np.abs(counts[0] / counts[0].sum() - counts[1] / counts[1].sum()).sum())
    return ColumnFidelity(
        column=name,
        labels=column.labels(),
        site_counts=tuple(int(value) for value in counts[0]),
        synthetic_counts=tuple(int(value) for value in counts[1]),
        distance=distance,
    )


def _curves(
    frame: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema, *, grid_days: int, site: str
) -> tuple[SurvivalCurve | None, SurvivalCurve | None]:
    survival = schema.survival
    if survival is None or any(
        name not in table.columns for table in (frame, synthetic) for name in (survival.time, survival.event)
    ):
        return None, None
    last_day = int(schema.column(survival.time).bin_edges[-1])
    grid = np.arange(grid_days, last_day + grid_days, grid_days, dtype=np.int64)
    event = schema.column(survival.event)
    happened = event.labels().index("1")
    out = []
    for name, table in ((site, frame), ("synthetic", synthetic)):
        time = np.asarray(table[survival.time].to_numpy())
        codes = event.encode(np.asarray(table[survival.event].to_numpy()))
        # A patient without follow-up time or outcome says nothing about survival.
        known = ~(is_missing(time) | (codes == len(event.categories)))
        out.append(_curve(name, time[known].astype(np.float64), codes[known] == happened, grid, grid_days))
    return out[0], out[1]


def _curve(
    group: str, time: npt.NDArray[np.float64], event: npt.NDArray[np.bool_], grid: npt.NDArray[np.int64], grid_days: int
) -> SurvivalCurve:
    values = kaplan_meier(time, event, grid.astype(np.float64)) if time.size else np.ones(len(grid))
    last = time.max() if time.size else -1.0
    steps = []
    for day, value in zip(grid.tolist(), values.tolist(), strict=True):
        # Beyond the last patient the curve is unknown; a curve that fell to zero stays there.
        alive = value if day - grid_days < last or value == 0 else None
        steps.append(SurvivalStep(day - grid_days, day, None, None, alive, alive))
    return SurvivalCurve(group=group, steps=tuple(steps))


def _picture(fidelity: InternalFidelity) -> SurvivalPicture | None:
    if fidelity.site_curve is None or fidelity.synthetic_curve is None:
        return None
    groups = [(0, fidelity.site_curve, fidelity.synthetic_curve)]
    title = "Survival: this site and synthetic"
    return SurvivalPicture(
        wide=survival_chart(groups, size="wide", key="survival-wide", title=title, first="real"),
        narrow=survival_chart(groups, size="narrow", key="survival-narrow", title=title, first="real"),
    )


def _numbers(report: Mapping[str, Any] | None) -> Mapping[str, float]:
    if report is None:
        return MappingProxyType({})
    given = json.loads(json.dumps(dict(report)))
    return MappingProxyType(
        {
            str(name): value
            for name, value in given.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
    )


def _risk_rows(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[tuple[str, str, str], ...]:
    names = [name for name in _RISK_NAMES if name in before or name in after]
    names += sorted((set(before) | set(after)) - set(names))
    return tuple(
        (_RISK_NAMES.get(name, name.replace("_", " ")), _risk(before.get(name)), _risk(after.get(name)))
        for name in names
    )


def _risk(value: float | None) -> str:
    return count(value) if value is None or isinstance(value, int) else percent(value)
