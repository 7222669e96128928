"""What an answer of counts says of each group: curves, and tables for people."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np

from synthema.errors import ModelFailed
from synthema.learning import curve_estimates as estimates
from synthema.learning import kaplan_meier, noisy_counts
from synthema.learning.curve_estimates import FLOATS, Counts, Curve, RestrictedMean
from synthema.learning.kaplan_meier import OpenedGroup
from synthema.learning.log_rank import Statistic, from_counts, statistic
from synthema.learning.model import Table
from synthema.learning.noisy_counts import Noise


class Group(ABC):
    """One group's counts, and the curves that follow from them."""

    def __init__(self, label: str, counts: Counts, days: FLOATS) -> None:
        self.label, self.counts, self.days = label, counts, days

    @property
    @abstractmethod
    def survival(self) -> Curve:
        """S."""

    @abstractmethod
    def hazard(self, cause: int | None = None) -> Curve:
        """H of one cause, or of all."""

    @abstractmethod
    def incidence(self, cause: int) -> Curve:
        """F of one cause."""

    @abstractmethod
    def restricted_mean(self, n_intervals: int) -> RestrictedMean:
        """Mean days alive over the first intervals. Raises ValueError if S is not known so far."""

    def _check_length(self, n_intervals: int) -> None:
        if n_intervals > estimates.n_known(self.survival):
            raise ValueError("survival is not known up to that day: choose an earlier one")


class ExactGroup(Group):
    """What was opened of a group."""

    def __init__(self, label: str, opened: OpenedGroup, *, grid_days: int, min_cell: int) -> None:
        super().__init__(label, estimates.counts_of(opened, min_cell=min_cell), _days(len(opened.events), grid_days))
        self.opened = opened
        self._bracket = kaplan_meier.survival_curve(label, opened, grid_days=grid_days, min_cell=min_cell)

    @cached_property
    def survival(self) -> Curve:
        """See `Group.survival`."""
        return estimates.survival(self.counts, self._bracket, self.days)

    def hazard(self, cause: int | None = None) -> Curve:
        """See `Group.hazard`."""
        return estimates.hazard(self.counts, self.days, cause=cause)

    def incidence(self, cause: int) -> Curve:
        """See `Group.incidence`."""
        return estimates.incidence(self.counts, self.survival, cause)

    def restricted_mean(self, n_intervals: int) -> RestrictedMean:
        """See `Group.restricted_mean`."""
        self._check_length(n_intervals)
        return estimates.restricted_mean(self.survival, self.counts, n_intervals=n_intervals)


class PrivateGroup(Group):
    """A group of noisy counts. `cells`: fitted deaths of each cause, then losses, shape (K + 1, T)."""

    def __init__(self, label: str, cells: FLOATS, noise: Noise, *, grid_days: int) -> None:
        self._cells, self._noise = cells, noise
        self._shown = n = noise.n_worth_showing(cells)
        at_risk = np.real(noisy_counts.at_risk(cells.sum(axis=0)))
        known = np.where(np.arange(cells.shape[1]) < n, 1.0, np.nan)
        super().__init__(
            label, estimates.exact_counts(at_risk * known, cells[:-1] * known), _days(len(known), grid_days)
        )

    def _with_noise(self, function: Any) -> tuple[FLOATS, FLOATS]:
        """Return a function of the cells, and the covariance that noise adds; NaN beyond what is worth showing."""
        n, size = self._shown, self._cells.shape[1]
        value, covariance = np.full(size, np.nan), np.full((size, size), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            value[:n] = function(self._cells[None])[0][:n]
            covariance[:n, :n] = self._noise.covariance(lambda cells: function(cells)[:, :n], self._cells)
        return value, covariance

    @cached_property
    def survival(self) -> Curve:
        """See `Group.survival`."""
        value, covariance = self._with_noise(noisy_counts.log_survival)
        return estimates.survival(self.counts, np.exp(value), self.days, np.diag(covariance))

    def hazard(self, cause: int | None = None) -> Curve:
        """See `Group.hazard`."""
        _, covariance = self._with_noise(lambda cells: noisy_counts.hazards(cells, cause))
        return estimates.hazard(self.counts, self.days, cause=cause, extra=np.diag(covariance))

    def incidence(self, cause: int) -> Curve:
        """See `Group.incidence`."""
        _, covariance = self._with_noise(lambda cells: noisy_counts.incidences(cells, cause))
        return estimates.incidence(self.counts, self.survival, cause, extra=np.diag(covariance))

    def restricted_mean(self, n_intervals: int) -> RestrictedMean:
        """See `Group.restricted_mean`."""
        self._check_length(n_intervals)
        survival = self.survival
        _, covariance = self._with_noise(noisy_counts.log_survival)
        # The area moves by S d(log S) times the width of each later interval.
        weights = float(self.days[0]) * survival.low[: n_intervals - 1]
        extra = float(weights @ covariance[: n_intervals - 1, : n_intervals - 1] @ weights)
        return estimates.restricted_mean(survival, self.counts, n_intervals=n_intervals, extra=extra)


def groups_of(answer: dict[str, Any], *, grid_days: int, min_cell: int) -> list[Group]:
    """Return the groups of an answer of `CurveSpec.fit`."""
    if "groups" in answer:
        opened = kaplan_meier.opened_from_json(answer["groups"])
        return [
            ExactGroup(label, group, grid_days=grid_days, min_cell=min_cell)
            for label, group in zip(answer["labels"], opened, strict=True)
        ]
    measured = np.array(answer["measured"], dtype=np.float64)
    a = noisy_counts.strategy(measured.shape[-1])
    noise = Noise(a, float(answer["noise_std"]))
    cells = noisy_counts.fit(measured, a)
    return [
        PrivateGroup(label, group, noise, grid_days=grid_days)
        for label, group in zip(answer["labels"], cells, strict=True)
    ]


def log_rank_of(groups: list[Group]) -> tuple[int, Statistic]:
    """Return over how many intervals every count of every group was opened, and the log-rank test up to there.

    Raises ModelFailed if there is nothing to compare, or the counts are noisy.
    """
    opened = [group.opened for group in groups if isinstance(group, ExactGroup)]
    if len(opened) < len(groups):
        raise ModelFailed("noisy curves give no log-rank test: ask for a private log-rank model")
    known = np.array([(group.at_risk[:-1] >= 0) & (group.events >= 0) for group in opened]).all(axis=0)
    n = int(np.logical_and.accumulate(known).sum())
    at_risk, deaths = (
        np.array([cells[:n] for cells in each], dtype=np.float64)
        for each in ([group.at_risk for group in opened], [group.events for group in opened])
    )
    return n, statistic(*from_counts(at_risk, deaths))


def curve_table(name: str, curve: Curve, columns: tuple[str, ...], *, note: str) -> Table:
    """Return a curve as a table, one row an interval, up to where it is known."""
    rows = tuple(
        (int(curve.days[t]), *(_plain(each[t]) for each in (curve.low, curve.high, curve.lower, curve.upper)))
        for t in range(_n_rows(curve))
    )
    return Table(name, ("until day", *columns, "95 % from", "to"), rows, note=note)


def group_table(group: Group, *, note: str) -> Table:
    """Return a group's counts and survival as a table."""
    curve, counts = group.survival, group.counts
    rows = tuple(
        (
            int(curve.days[t]),
            _known(counts.at_risk, t),
            _known(counts.deaths, t),
            *(_plain(each[t]) for each in (curve.low, curve.high, curve.lower, curve.upper)),
        )
        for t in range(_n_rows(curve))
    )
    return Table(
        group.label, ("until day", "at risk", "deaths", "survival from", "to", "95 % from", "to"), rows, note=note
    )


def survival_tables(groups: list[Group]) -> tuple[Table, ...]:
    """Return medians, restricted means up to where all curves are known, and the log-rank test of what was opened."""
    n = min((estimates.n_known(group.survival) for group in groups if _n_rows(group.survival)), default=0)
    rows = []
    for group in groups:
        found = estimates.median(group.survival)
        mean = group.restricted_mean(n) if n and _n_rows(group.survival) else None
        rows.append(
            (
                group.label,
                *found.days,
                *found.interval,
                *((None,) * 3 if mean is None else (mean.low, mean.high, mean.std_error)),
            )
        )
    until = float(groups[0].days[n - 1]) if n else 0.0
    columns = ("group", "median from", "to", "95 % from", "to", f"mean to day {until:g} from", "to", "std. error")
    tables = [
        Table(
            "Median and restricted mean survival, in days",
            columns,
            tuple(rows),
            note="Empty: not reached, or not known.",
        )
    ]
    try:
        until_interval, test = log_rank_of(groups)
    except ModelFailed:
        return tuple(tables)
    day = int(groups[0].days[until_interval - 1])
    tables.append(
        Table(
            f"Log-rank test up to day {day}, where every count was opened",
            ("chi-square", "degrees of freedom", "p"),
            ((test.chi_square, test.degrees, test.p),),
        )
    )
    return tuple(tables)


def _n_rows(curve: Curve) -> int:
    """Return the number of intervals up to the last one of which something is known."""
    return int(np.flatnonzero(np.isfinite(curve.low))[-1]) + 1 if np.isfinite(curve.low).any() else 0


def _known(counts: estimates.Range, t: int) -> float | int | None:
    low, high = counts.low[t], counts.high[t]
    # Neither where nothing is known.
    if low != high:
        return None
    return int(low) if float(low).is_integer() else float(low)


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _days(n_intervals: int, grid_days: int) -> FLOATS:
    return grid_days * np.arange(1.0, n_intervals + 1)
