"""Kaplan-Meier curves on shares: which counts may be opened, and what they still tell about the curve.

Each site counts, per group g and interval t of a public grid, deaths D[g, t] and losses to follow-up C[g, t]; of
several causes, deaths D[k, g, t] of each, and D[g, t] is their sum. The sums stay on shares. Opening every death count
and every number at risk would publish small cells by subtraction (at risk before, minus deaths, minus at risk after, is
the number lost). So:

0. the size of a group counts as known to everybody (other releases may show it); nothing of a group is opened unless
   it has 0 or at least 4 x `min_cell` patients, of whom enough in the sense of 2 are not explained by opened deaths;
1. a death count is opened when it is 0 or at least `min_cell`;
2. the number at risk at a grid point is opened when it is 0 or at least `min_cell`, and when the patients who left
   since the last known point, and those who leave from here to the next one, other than by opened deaths, are none or
   so many that at least `min_cell` of them stay unaccounted for even if every unopened death count were its least, 1.

A joint model with a horizon opens sums from which its compute parties can tell deaths and losses up to the horizon
(`synthema.learning.logistic`). Then the horizon is a known point too: the interval that holds it is counted in two
parts, and `horizon_may_be_known` decides, before the model opens anything, whether the cells around it are large
enough.

All is decided on shares (`smpc.small_cells`, and products of factors that are zero for small counts). What is learnt
besides the opened counts is one yes/no answer per death count, per group and per grid point, and with several causes
one more per opened death count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from smpc import FIELD61, Session, Shared, any_small, product, small_cells
from smpc.shared import concatenate
from synthema.released import SurvivalCurve, SurvivalStep

# A group of fewer than so many times the least cell is not opened at all.
GROUP_FACTOR = 4
# Grid points whose questions are prepared at once, for every last known point that there may be.
_WINDOW = 32
_CARRIED = -1

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class OpenedGroup:
    """What was opened of one group; -1 marks a cell that was not.

    at_risk   shape (T + 1,): patients under observation at the start of each interval, and after the last
    events    shape (T,): deaths in each interval
    causes    shape (K, T): deaths of each cause; None if there is one cause
    """

    at_risk: npt.NDArray[np.int64]
    events: npt.NDArray[np.int64]
    causes: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """Intervals (start, end] of equal length, the one with the horizon cut in two.

    official   interval of each counted part, shape (R,); R is the number of intervals, plus one with a horizon
    cut        index of the first part after the horizon; None without one
    """

    grid_days: int
    n_intervals: int
    horizon_days: int | None = None

    @property
    def cut(self) -> int | None:
        """Index of the first part after the horizon; None without one."""
        if self.horizon_days is None:
            return None
        return int(interval_index(np.array([self.horizon_days]), self.grid_days)[0]) + 1

    @property
    def official(self) -> npt.NDArray[np.int64]:
        """Interval of each counted part, shape (R,)."""
        parts = np.arange(self.n_intervals, dtype=np.int64)
        cut = self.cut
        if cut is None:
            return parts
        return np.asarray(np.concatenate([parts[:cut], parts[cut - 1 :]]), dtype=np.int64)

    @property
    def n_parts(self) -> int:
        """R."""
        return self.n_intervals + (self.horizon_days is not None)

    @property
    def starts(self) -> list[int]:
        """First part of each interval."""
        found: list[int] = np.searchsorted(self.official, np.arange(self.n_intervals)).tolist()
        return found

    @property
    def segments(self) -> list[tuple[int, int]]:
        """Parts between points at which everybody may know how many left: all, and with a model on each side of it."""
        cut = self.cut
        return [(0, self.n_parts)] if cut is None else [(0, cut), (cut, self.n_parts)]

    @property
    def merge(self) -> npt.NDArray[np.int64]:
        """Matrix that adds up the parts of each interval, shape (R, T)."""
        found: npt.NDArray[np.int64] = (self.official[:, None] == np.arange(self.n_intervals)).astype(np.int64)
        return found

    def remaining(self, leaving: Shared) -> Shared:
        """Return who leaves in each interval or later, shape (A, T). `leaving`: by part, shape (A, R)."""
        return leaving @ (np.arange(self.n_parts)[:, None] >= np.array(self.starts)).astype(np.int64)

    def part_of(self, time: npt.NDArray[np.int64], event: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the counted part in which each patient left.

        As in the model, who dies on the day of the horizon died by it, and who is lost on that day was known until it.
        """
        interval = interval_index(time, self.grid_days)
        cut, horizon = self.cut, self.horizon_days
        if cut is None or horizon is None:
            return interval
        before = np.where(event, time <= horizon, time < horizon)
        after = (interval >= cut) | ((interval == cut - 1) & ~before)
        return np.asarray(interval + after, dtype=np.int64)


def interval_index(time: npt.NDArray[np.int64], grid_days: int) -> npt.NDArray[np.int64]:
    """Return the interval (start, end] of each day; day 0 belongs to the first.

    Examples
    --------
    >>> interval_index(np.array([0, 1, 180, 181]), 180).tolist()
    [0, 0, 0, 1]
    """
    return np.asarray(np.maximum((time - 1) // grid_days, 0), dtype=np.int64)


def count_table(
    group: npt.NDArray[np.int64],
    time: npt.NDArray[np.int64],
    event: npt.NDArray[np.bool_ | np.int64],
    *,
    n_groups: int,
    grid: Grid,
    n_causes: int = 1,
) -> npt.NDArray[np.int64]:
    """Return deaths of each cause, then losses, per group and counted part, shape (n_causes + 1, n_groups, R).

    event    whether each patient died; or of what: 0 for none, 1 .. n_causes
    """
    died = event != 0
    # Losses come last.
    row = np.where(died, event.astype(np.int64) - 1, n_causes)
    cell = (row * n_groups + group) * grid.n_parts + grid.part_of(time, died)
    shape = (n_causes + 1, n_groups, grid.n_parts)
    return np.bincount(cell, minlength=math.prod(shape)).reshape(shape).astype(np.int64)


async def horizon_may_be_known(session: Session, counts: Shared, grid: Grid, *, min_cell: int) -> bool:
    """Return whether deaths and losses up to the horizon may be known beside the curves. `counts`: (2, G, R), FIELD61.

    For every group: its losses before the horizon, each death count up to the horizon and the two parts of the interval
    that holds it must be 0 or at least `min_cell`; its size and its survivors at the horizon 0 or at least
    `GROUP_FACTOR` times that.
    """
    cut = grid.cut
    if cut is None:
        return True
    for g in range(counts.shape[1]):
        deaths, losses = counts[0, g], counts[1, g]
        groups = [deaths.sum() + losses.sum(), deaths[cut:].sum() + losses[cut:].sum()]
        cells = [losses[:cut].sum(), deaths[cut - 1] + deaths[cut], *(deaths[part] for part in range(cut + 1))]
        tests = [(cell, GROUP_FACTOR * min_cell) for cell in groups] + [(cell, min_cell) for cell in cells]
        if await any_small(session, tests):
            return False
    return True


async def open_counts(session: Session, counts: Shared, grid: Grid, *, min_cell: int) -> list[OpenedGroup]:
    """Open what may be opened. `counts`: shares in FIELD61 of the pooled table, shape (K + 1, G, R).

    All groups go through the same rounds. Answers that decide what is asked next are opened one after the other; what
    they are made of is computed for a window of grid points at once, and the counts are opened at the end, together.
    """
    n_causes, n_groups = counts.shape[0] - 1, counts.shape[1]
    opened = [_closed(n_causes, grid.n_intervals)] * n_groups
    losses, deaths = counts[n_causes], counts[:n_causes].sum(axis=0)
    # Asked before any death count is looked at: in a small group of known size even the answers give cells away.
    sizes = [(deaths + losses)[:, start:].sum(axis=1) for start, _ in grid.segments]
    small = await _any_zero(session, [size - i for size in sizes for i in range(1, GROUP_FACTOR * min_cell)])
    groups = np.flatnonzero(~small)
    if not len(groups):
        return opened
    deaths, losses = deaths[groups], losses[groups]
    hidden = await small_cells(session, deaths @ grid.merge, threshold=min_cell)
    left = _Left(deaths, losses, hidden, grid)
    segments = np.array(grid.segments)
    inside = left.excess(np.repeat(segments[:, :1], len(groups), axis=1), segments[:, 1], min_cell)
    factors = [factor.reshape(len(segments), -1)[i] for factor in inside for i in range(len(segments))]
    kept = np.flatnonzero(~await _any_zero(session, factors))
    if not len(kept):
        return opened
    groups, hidden, deaths, losses = groups[kept], hidden[kept], deaths[kept], losses[kept]
    known = await _known_points(
        session, deaths + losses, _Left(deaths, losses, hidden, grid), grid, n_groups=len(groups), min_cell=min_cell
    )
    # Per cause, of all intervals whose deaths are opened: shape (K, A, T).
    causes = (counts[:n_causes, groups].reshape(-1, grid.n_parts) @ grid.merge).reshape(n_causes, len(groups), -1)
    split = ~hidden
    if n_causes > 1:
        cells = causes[:, split]
        split[split] = ~await _any_zero(session, [cells[k] - i for k in range(n_causes) for i in range(1, min_cell)])
    found = await _open_cells(session, deaths + losses, causes, grid, known=known, visible=~hidden, split=split)
    for g, group in zip(groups.tolist(), found, strict=True):
        opened[g] = group
    return opened


class _Left:
    """Who left between two points other than by an opened death: what tells a cell by subtraction. Shape (A, R)."""

    def __init__(self, deaths: Shared, losses: Shared, hidden: Bools, grid: Grid) -> None:
        unopened = losses + deaths * hidden[:, grid.official].astype(np.int64)
        self._before = unopened @ np.triu(np.ones((grid.n_parts, grid.n_parts + 1), dtype=np.int64), k=1)
        self._hidden, self._grid = hidden, grid

    def excess(self, since: Ints, ends: Ints, min_cell: int) -> list[Shared]:
        """Return factors, shape (P A,) each, one of which is 0 where too few left in the parts `since` .. `ends` - 1.

        Every unopened death count is at least 1. With hidden ones, an excess of 0 over their number would fix them all,
        so it is treated as small too: one of 0 .. min_cell - 1. Without any, one of 1 .. min_cell - 1.

        Parameters
        ----------
        since, ends
            Shapes (P, A) and (P,).
        """
        groups = np.arange(since.shape[1])
        # An interval counts where one of its parts does: those of one interval lie side by side.
        first, last = self._grid.official[since], self._grid.official[ends - 1]
        before: Ints = np.pad(np.cumsum(self._hidden, axis=1), ((0, 0), (1, 0)))
        n_hidden: Ints = (before[groups, last[:, None] + 1] - before[groups, first]).reshape(-1)
        amount = (self._before[groups, ends[:, None]] - self._before[groups, since]).reshape(-1)
        some = n_hidden > 0
        return [
            amount * np.where(some | (i > 0), 1, 0) - np.where(some, n_hidden + i, i or -1) for i in range(min_cell)
        ]


async def _known_points(
    session: Session, leaving: Shared, left: _Left, grid: Grid, *, n_groups: int, min_cell: int
) -> Bools:
    """Return at which grid points the number at risk may be opened, shape (A, T + 1). `leaving`: shape (A, R)."""
    starts, cut, n_intervals = np.array(grid.starts), grid.cut, grid.n_intervals
    known = np.zeros((n_groups, n_intervals + 1), dtype=bool)
    known[:, [0, n_intervals]] = True
    last = np.zeros(n_groups, dtype=np.int64)
    remaining = grid.remaining(leaving).T
    for first in range(1, n_intervals, _WINDOW):
        window = np.arange(first, min(first + _WINDOW, n_intervals))
        here = starts[window]
        # What is asked whatever was opened before: who remains, and who leaves until the next known point.
        following = np.where(here < cut, cut, grid.n_parts) if cut is not None else np.full(len(window), grid.n_parts)
        factors = [remaining[window].reshape(-1) - i for i in range(1, min_cell)]
        factors.extend(left.excess(np.repeat(here[:, None], n_groups, axis=1), following, min_cell))
        always = (await product(session, factors)).reshape(len(window), n_groups)
        # What depends on the last known point, for each that it may be: as the window found it, one of it, or the cut.
        carried = last
        pairs = [
            (t, since)
            for t in window.tolist()
            for since in (_CARRIED, *starts[first:t].tolist(), *([] if cut is None else [cut]))
            if since < starts[t]
        ]
        since = np.array([carried if point == _CARRIED else np.full(n_groups, point) for _, point in pairs])
        at = np.array([t for t, _ in pairs])
        between = (await product(session, left.excess(since, starts[at], min_cell))).reshape(len(pairs), n_groups)
        # One answer for all of them: separate answers can add up to a cell's exact value.
        both = await session.mul(between, always[at - first])
        masked = await session.mul(both, session.random(both.shape, FIELD61))
        places = {pair: i for i, pair in enumerate(pairs)}
        for t in window.tolist():
            if cut is not None and cut <= starts[t]:
                last = np.maximum(last, cut)
            points = np.where(last == carried, _CARRIED, last).tolist()
            answers = masked[[places[t, point] for point in points], np.arange(n_groups)]
            known[:, t] = await session.open(answers) != 0
            last = np.where(known[:, t], starts[t], last)
    return known


async def _open_cells(
    session: Session, leaving: Shared, causes: Shared, grid: Grid, *, known: Bools, visible: Bools, split: Bools
) -> list[OpenedGroup]:
    """Open numbers at risk, deaths, and deaths per cause (shape (K, A, T)), in one round."""
    n_causes, n_intervals = causes.shape[0], grid.n_intervals
    remaining = grid.remaining(leaving)
    inner = known[:, :n_intervals]
    values = await session.open(
        concatenate(remaining[inner], causes.sum(axis=0)[visible], causes[:, split].reshape(-1))
    )
    at_risk, events, by_cause = np.split(values, [inner.sum(), inner.sum() + visible.sum()])
    found = []
    for g in range(len(known)):
        group = _closed(n_causes, n_intervals)
        group.at_risk[np.flatnonzero(inner[g])] = at_risk[inner[:g].sum() :][: inner[g].sum()]
        group.at_risk[n_intervals] = 0
        group.events[visible[g]] = events[visible[:g].sum() :][: visible[g].sum()]
        if group.causes is not None:
            group.causes[:, split[g]] = by_cause.reshape(n_causes, -1)[:, split[:g].sum() :][:, : split[g].sum()]
        found.append(group)
    return found


async def _any_zero(session: Session, factors: list[Shared]) -> Bools:
    """Make known, position by position, whether one of the factors is zero, and not which (`smpc.any_small`)."""
    masked = await product(session, [session.random(factors[0].shape, FIELD61), *factors])
    return np.asarray(await session.open(masked) == 0)


def _closed(n_causes: int, n_intervals: int) -> OpenedGroup:
    """Return a group of which nothing is opened."""
    return OpenedGroup(
        at_risk=np.full(n_intervals + 1, -1, dtype=np.int64),
        events=np.full(n_intervals, -1, dtype=np.int64),
        causes=None if n_causes == 1 else np.full((n_causes, n_intervals), -1, dtype=np.int64),
    )


def survival_curve(group: str, opened: OpenedGroup, *, grid_days: int, min_cell: int) -> SurvivalCurve:
    """Return the curve with the narrowest bracket that the opened counts allow.

    The curve is the grid's: S = prod (1 - deaths in the interval / at risk at its start). Between two opened numbers at
    risk the unopened death counts are each between 1 and min_cell - 1, and nobody knows when the losses happened.
    Survival is highest if the unopened counts are least and all losses come last; lowest if they are largest (as far
    as the number who left allows) and all losses come first. Where both numbers at risk of an interval and its deaths
    were opened, the bracket is a point.
    """
    at_risk, events = opened.at_risk, opened.events
    steps: list[SurvivalStep] = []
    low = high = 1.0
    points: list[int] = np.flatnonzero(at_risk >= 0).tolist()
    next_open = dict(pairwise(points))
    last = 0
    for t in range(len(events)):
        if at_risk[t] >= 0:
            last = t
        # Without the number at the start there is no curve, and without a later number no end of the block.
        known = at_risk[0] >= 0 and last in next_open
        if known:
            low, high = _bracket(steps, t, last, next_open[last], opened, min_cell)
        steps.append(
            SurvivalStep(
                start_day=t * grid_days,
                end_day=(t + 1) * grid_days,
                at_risk=int(at_risk[t]) if at_risk[t] >= 0 else None,
                events=int(events[t]) if events[t] >= 0 else None,
                survival_low=low if known else None,
                survival_high=high if known else None,
            )
        )
    return SurvivalCurve(group=group, steps=tuple(steps))


def _bracket(
    steps: list[SurvivalStep], t: int, start: int, end: int, opened: OpenedGroup, min_cell: int
) -> tuple[float, float]:
    """Return the lowest and highest survival at the end of interval t of the block start..end-1."""
    n, n_next = int(opened.at_risk[start]), int(opened.at_risk[end])
    before_low, before_high = _previous(steps, start)
    if n == 0:
        return before_low, before_high
    block = opened.events[start:end]
    spare = n - n_next - int(block[block >= 0].sum()) - int((block < 0).sum())
    first, rest = opened.events[start : start + 1], opened.events[start + 1 : t + 1]
    d_first, cap_first = _least_and_room(first, min_cell)
    d_rest, cap_rest = _least_and_room(rest, min_cell)
    # Highest: each hidden count is 1 and nobody is lost before t. The product of (1 - d/n) telescopes.
    high = before_high * (n - d_first - d_rest) / n
    # Lowest: x more deaths in the first interval, y in the others (x + y <= spare), the other leavers lost in the first
    # interval. Then survival is (1 - (d_first + x)/n) * K / (K + d_rest + y) with K fixed: it falls in x and in y, and
    # along x + y = const it is monotone, so one of the two ends is the lowest.
    kept = n - d_first - spare - d_rest
    candidates = []
    for x in {min(cap_first, spare), min(cap_first, max(spare - cap_rest, 0))}:
        y = min(cap_rest, spare - x)
        exposed = kept + d_rest + y
        later = kept / exposed if len(rest) and exposed > 0 else 1.0
        candidates.append((1 - (d_first + x) / n) * later)
    return before_low * min(candidates), high


def _least_and_room(events: npt.NDArray[np.int64], min_cell: int) -> tuple[int, int]:
    """Return the least number of deaths that the cells stand for, and how many more the hidden ones may hold."""
    hidden = int((events < 0).sum())
    return int(events[events >= 0].sum()) + hidden, hidden * (min_cell - 2)


def _previous(steps: list[SurvivalStep], start: int) -> tuple[float, float]:
    if start == 0:
        return 1.0, 1.0
    step = steps[start - 1]
    if step.survival_low is None or step.survival_high is None:  # pragma: no cover - a block starts at an opened point
        return 0.0, 1.0
    return step.survival_low, step.survival_high


def opened_to_json(opened: list[OpenedGroup]) -> list[dict[str, Any]]:
    """Return plain integers for the ledger."""
    return [
        {"at_risk": group.at_risk.tolist(), "events": group.events.tolist()}
        | ({} if group.causes is None else {"causes": group.causes.tolist()})
        for group in opened
    ]


def opened_from_json(data: list[dict[str, Any]]) -> list[OpenedGroup]:
    """Return what `opened_to_json` wrote."""
    return [OpenedGroup(**{name: np.array(cells, dtype=np.int64) for name, cells in group.items()}) for group in data]
