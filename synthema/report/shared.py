"""The shared report: one self-contained page about what a study released, drawn from released values only.

Its only input is `Released`; no table, frame or ledger can reach it. It is written for a doctor or a data protection
officer: what epsilon covers comes before any result, and what it does not cover is said as loudly.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from markupsafe import Markup

from privacy._formats import percent
from privacy.zcdp import rho_to_epsilon
from synthema.learning.kinds import read_spec
from synthema.learning.summaries import shown
from synthema.released import ColumnComparison, ModelResult, Released, SiteAccount, StepCost, SurvivalCurve
from synthema.report.charts import (
    MAX_BARS,
    PAIR_LEVELS,
    budget_bar,
    forest,
    odds_ratios,
    pair_level,
    pair_map,
    paired_bars,
    paired_shares,
)
from synthema.report.meaning import MIN_POWER, posterior_bound
from synthema.report.page import render
from synthema.report.survival_chart import N_COLOURS, bracket, survival_chart

_SECTIONS = (
    ("summary", "Summary"),
    ("epsilon", "What epsilon covers"),
    ("sites", "Cost per site"),
    ("steps", "Cost per step"),
    ("overlap", "Overlap check"),
    ("anonymised", "Anonymised tables"),
    ("logistic", "Logistic model"),
    ("survival", "Survival"),
    ("models", "Joint models"),
    ("synthetic", "Synthetic patients"),
    ("trust", "Who was trusted"),
    ("verify", "How to verify"),
)
# What an attacker may think beforehand: a hunch, a suspicion, a good guess, a coin toss.
PRIORS = (0.001, 0.01, 0.1, 0.5)
# More curves than this in one picture cannot be told apart where they cross: then each group has its own small one.
_MOST_CURVES_TOGETHER = 3
# Up to this many intervals the table of the grid is open when the page is.
_SHORT_GRID = 12


def render_shared(released: Released) -> str:
    """Return the shared report as one HTML page; equal input gives equal bytes."""
    private = tuple(step for step in released.steps if step.kind == "private")
    model = released.logistic
    ratios = odds_ratios(model) if model is not None else ()
    charted = tuple(ratio for ratio in ratios if not ratio.is_intercept)
    synthetic = released.synthetic
    return render(
        "shared.html.j2",
        r=released,
        sections=tuple(each for each in _SECTIONS if each[0] != "models" or released.models),
        models=tuple(_shown_model(model, key=f"model-{i}") for i, model in enumerate(released.models)),
        private=private,
        exact=tuple(step for step in released.steps if step.kind == "exact"),
        together=_together(private, released.delta),
        beliefs=tuple(
            (prior, posterior_bound(prior, epsilon=released.epsilon, delta=released.delta)) for prior in PRIORS
        ),
        factor=math.exp(min(released.epsilon, 50.0)),
        min_power=MIN_POWER,
        bars=tuple(
            budget_bar(spent=account.epsilon_spent, cap=account.epsilon_cap, key=f"budget-{i}", site=account.site)
            for i, account in enumerate(released.accounts)
        ),
        lefts=tuple(_buys(account) for account in released.accounts),
        ratios=ratios,
        forest=forest(charted, key="forest", title="Odds ratios with 95 % intervals, log scale") if charted else None,
        together_in_one_picture=len(released.survival) <= _MOST_CURVES_TOGETHER,
        survival_charts=_survival_charts(released.survival, synthetic.survival if synthetic is not None else ()),
        grid=grid_rows(released.survival),
        grid_is_short=len(grid_rows(released.survival)) <= _SHORT_GRID,
        panels=column_panels(synthetic.columns) if synthetic is not None else (),
        pairs=tuple((pair, pair_level(pair)) for pair in synthetic.pairs) if synthetic is not None else (),
        pair_map=pair_map(synthetic.pairs, key="pairs", title="Distance of each pair of columns")
        if synthetic is not None and synthetic.pairs
        else None,
        pair_levels=PAIR_LEVELS,
        max_bars=MAX_BARS,
        commands="\n".join(
            f"synthema ledger verify {shlex.quote(f'ledgers/{account.site}.db')} --head {shlex.quote(account.head)}"
            for account in released.accounts
        ),
    )


@dataclass(frozen=True, slots=True)
class _ShownTable:
    """A table of a model's summary, every cell as text."""

    title: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    note: str


@dataclass(frozen=True, slots=True)
class _ShownModel:
    """A joint model as the page shows it."""

    name: str
    title: str
    mode: str
    what: str
    tables: tuple[_ShownTable, ...]
    chart: Markup | None


def _shown_model(model: ModelResult, *, key: str) -> _ShownModel:
    spec = read_spec(model.spec)
    tables = tuple(
        _ShownTable(table.title, table.columns, tuple(tuple(map(shown, row)) for row in table.rows), table.note)
        for table in spec.summary(model.answer)
    )
    # A chart is drawn by the model's own kind, with every text of it escaped there.
    chart = spec.chart(model.answer, key=key)
    return _ShownModel(
        name=model.name,
        title=spec.title,
        mode=model.mode,
        what=model.what,
        tables=tables,
        chart=Markup(chart) if chart else None,  # noqa: S704
    )


@dataclass(frozen=True, slots=True)
class _Together:
    """What the private steps cost together: rho adds up, epsilons by themselves do not."""

    rho: float
    epsilon: float


def _together(private: tuple[StepCost, ...], delta: float) -> _Together | None:
    rhos = [step.rho for step in private if step.rho is not None]
    if not rhos or len(rhos) < len(private) or not 0 < delta < 1:
        return None
    rho = math.fsum(rhos)
    return _Together(rho=rho, epsilon=rho_to_epsilon(rho, delta))


def _buys(account: SiteAccount) -> float | None:
    """Return the epsilon of a single further release that the rest of a site's budget would pay for."""
    if not 0 < account.delta_cap < 1 or not account.rho_left >= 0:
        return None
    return rho_to_epsilon(account.rho_left, account.delta_cap)


@dataclass(frozen=True, slots=True)
class PanelRow:
    """One label of a column: two counts and their shares as text."""

    label: str
    first_count: int
    first_share: str
    second_count: int
    second_share: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One column's chart and the numbers behind it."""

    name: str
    chart: Markup
    noise_std: float
    rows: tuple[PanelRow, ...]


def column_panels(
    columns: tuple[ColumnComparison, ...], *, first: str = "noisy", second: str = "synthetic"
) -> tuple[Panel, ...]:
    """Return a panel for each column that has labels."""
    out = []
    for i, column in enumerate(columns):
        if not column.labels:
            continue
        shares = paired_shares(column)
        chart = paired_bars(
            shares, key=f"column-{i}", title=f"{column.column}: {first} and {second}", first=first, second=second
        )
        rows = tuple(
            PanelRow(
                label=label,
                first_count=column.noisy_counts[j],
                first_share=percent(shares.noisy[j]) if shares.are_shares else "",
                second_count=column.synthetic_counts[j],
                second_share=percent(shares.synthetic[j]) if shares.are_shares else "",
            )
            for j, label in enumerate(column.labels)
        )
        out.append(Panel(name=column.column, chart=chart, noise_std=column.noise_std, rows=rows))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class SurvivalPicture:
    """The same curves drawn for a wide and for a narrow page."""

    wide: Markup
    narrow: Markup


def _survival_charts(
    released: tuple[SurvivalCurve, ...], synthetic: tuple[SurvivalCurve, ...]
) -> tuple[SurvivalPicture, ...]:
    found = {curve.group: curve for curve in synthetic}
    groups = [(i % N_COLOURS, curve, found.get(curve.group)) for i, curve in enumerate(released)]
    if not groups:
        return ()
    together = len(groups) <= _MOST_CURVES_TOGETHER
    title = "Survival: released and synthetic"
    parts = [(title, groups)] if together else [(f"{title}, {group[1].group}", [group]) for group in groups]
    return tuple(
        SurvivalPicture(
            wide=survival_chart(part, size="wide", key=f"survival-wide-{i}", title=name),
            narrow=survival_chart(part, size="narrow", key=f"survival-narrow-{i}", title=name),
        )
        for i, (name, part) in enumerate(parts)
    )


@dataclass(frozen=True, slots=True)
class GridCell:
    """One group in one interval; None stands for a count that was not opened."""

    at_risk: int | None
    events: int | None
    survival: str


@dataclass(frozen=True, slots=True)
class GridRow:
    """One interval of the grid, or the rest of it where nothing was opened (no cells)."""

    start_day: int
    end_day: int
    cells: tuple[GridCell, ...]


def grid_rows(curves: tuple[SurvivalCurve, ...]) -> tuple[GridRow, ...]:
    """Return the grid as a table, one cell a group; a closed end of the grid becomes one row."""
    if not curves:
        return ()
    longest = max(curves, key=lambda curve: len(curve.steps)).steps
    opened = [
        any(
            i < len(curve.steps)
            and (curve.steps[i].at_risk, curve.steps[i].events, curve.steps[i].survival_low) != (None, None, None)
            for curve in curves
        )
        for i in range(len(longest))
    ]
    n_open = max((i + 1 for i, is_open in enumerate(opened) if is_open), default=0)
    rows = [
        GridRow(
            start_day=longest[i].start_day,
            end_day=longest[i].end_day,
            cells=tuple(_cell(curve, i) for curve in curves),
        )
        for i in range(n_open)
    ]
    if n_open < len(longest):
        rows.append(GridRow(start_day=longest[n_open].start_day, end_day=longest[-1].end_day, cells=()))
    return tuple(rows)


def _cell(curve: SurvivalCurve, i: int) -> GridCell:
    if i >= len(curve.steps):
        return GridCell(at_risk=None, events=None, survival=bracket(None, None))
    step = curve.steps[i]
    return GridCell(at_risk=step.at_risk, events=step.events, survival=bracket(step.survival_low, step.survival_high))
