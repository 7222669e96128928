"""The rule that decides what is opened, the adversary who subtracts, and the bracket around the curve."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from survival_in_plain import MIN_CELL, opened_in_plain, small, split_in_plain

from privacy import InsecureSeededRng
from smpc import FIELD61, run_local, share
from synthema.learning.kaplan_meier import (
    Grid,
    OpenedGroup,
    count_table,
    horizon_may_be_known,
    interval_index,
    open_counts,
    survival_curve,
)
from synthema.learning.responses import outcome_within


def tables_of(size: int, n_cells: int):
    """Yield every table of non-negative cells that holds exactly so many patients."""
    if n_cells == 1:
        yield (size,)
        return
    for first in range(size + 1):
        for rest in tables_of(size - first, n_cells - 1):
            yield (first, *rest)


def views_that_give_a_small_cell_away(n_parts: int, size: int, *, cut=None, protected=True) -> int:
    """Count views from which some cell of 1..4 follows with certainty, over all tables of so many patients.

    The adversary knows the group's size from elsewhere, and, where a model with a horizon was opened, the deaths and
    losses up to it. Cells are deaths and losses of each counted part, and deaths of the interval that is cut.
    """
    worlds = defaultdict(list)
    for cells in tables_of(size, 2 * n_parts):
        deaths, losses = cells[:n_parts], cells[n_parts:]
        view = opened_in_plain(deaths, losses, cut=cut, protected=protected)
        known = (sum(deaths[:cut]), sum(losses[:cut])) if cut is not None and view[0] else ()
        whole = () if cut is None else (deaths[cut - 1] + deaths[cut],)
        worlds[known, view].append(cells + whole)
    return sum(
        any(len(set(cell)) == 1 and small(cell[0]) for cell in zip(*members, strict=True))
        for members in worlds.values()
    )


@pytest.mark.slow
@pytest.mark.parametrize(("n_parts", "sizes"), [(1, range(5, 80)), (2, (*range(5, 28), 45)), (3, (12, 19, 20, 21, 23))])
def test_no_cell_of_one_to_four_follows_from_everything_that_was_opened(n_parts, sizes):
    assert [size for size in sizes if views_that_give_a_small_cell_away(n_parts, size)] == []


@pytest.mark.slow
@pytest.mark.parametrize(("n_parts", "cut", "sizes"), [(2, 1, (*range(5, 30), 45)), (3, 1, (19, 25)), (3, 2, (19, 25))])
def test_none_follows_beside_a_model_that_shows_deaths_and_losses_up_to_its_horizon(n_parts, cut, sizes):
    assert [size for size in sizes if views_that_give_a_small_cell_away(n_parts, size, cut=cut)] == []


def test_opening_every_number_at_risk_is_caught_by_the_same_adversary():
    assert views_that_give_a_small_cell_away(2, 22, protected=False) > 100
    assert views_that_give_a_small_cell_away(3, 14, cut=2, protected=False) > 50


def views_of_causes(size: int, n_parts: int, *, together: bool = True) -> int:
    """As above with two causes; cells are losses, and deaths by cause and in all. The adversary sees the splits too.

    `together=False` opens each cause by itself.
    """
    worlds = defaultdict(list)
    for cells in tables_of(size, 3 * n_parts):
        first, second, losses = (cells[i * n_parts : (i + 1) * n_parts] for i in range(3))
        deaths = [a + b for a, b in zip(first, second, strict=True)]
        view = opened_in_plain(deaths, losses)
        if together:
            split = split_in_plain([first, second], view[1])
        else:
            split = [
                tuple(-1 if d < 0 or small(c) else c for c, d in zip(row, view[1], strict=True))
                for row in (first, second)
            ]
        worlds[view, tuple(split)].append((*cells, *deaths))
    return sum(
        any(len(set(cell)) == 1 and small(cell[0]) for cell in zip(*members, strict=True))
        for members in worlds.values()
    )


def test_no_cell_of_a_cause_follows_from_the_splits_that_are_opened():
    assert [size for size in range(18, 40, 3) if views_of_causes(size, 1)] == []


@pytest.mark.slow
def test_none_follows_over_two_intervals():
    assert views_of_causes(21, 2) == 0


def test_opening_each_cause_by_itself_is_caught_by_the_same_adversary():
    assert views_of_causes(24, 1, together=False) > 0


def run_on_shares(counts: np.ndarray, grid: Grid):
    packages = share(counts, 3, domain=FIELD61, rng=InsecureSeededRng(7))

    async def protocol(session, package):
        shared = session.shared(package.expand(), FIELD61)
        one_cause = len(counts) == 2
        may = not one_cause or await horizon_may_be_known(session, shared, grid, min_cell=MIN_CELL)
        return may, await open_counts(session, shared, grid, min_cell=MIN_CELL)

    results = run_local(protocol, packages).results
    for may, other in results[1:]:
        assert may == results[0][0]
        for mine, theirs in zip(results[0][1], other, strict=True):
            np.testing.assert_array_equal(mine.events, theirs.events)
            np.testing.assert_array_equal(mine.at_risk, theirs.at_risk)
    return results[0]


@pytest.mark.parametrize(
    ("horizon", "n_tables"),
    [(None, 3), (45, 4), *(pytest.param(horizon, 8, marks=pytest.mark.slow) for horizon in (20, 45, 60))],
)
def test_the_protocol_on_shares_opens_exactly_what_the_rule_says(horizon, n_tables):
    grid = Grid(grid_days=30, n_intervals=4, horizon_days=horizon)
    rng = np.random.default_rng(3)
    answers = set()
    for _ in range(n_tables):
        counts = rng.choice([0, 5, 6, 20, 150, 3], p=[0.2, 0.2, 0.2, 0.2, 0.15, 0.05], size=(2, 2, len(grid.official)))
        may, groups = run_on_shares(counts, grid)
        plain = [opened_in_plain(counts[0, g].tolist(), counts[1, g].tolist(), cut=grid.cut) for g in range(2)]
        assert may == all(group[0] for group in plain)
        answers.add(may)
        for opened, (known, events, at_risk, _) in zip(groups, plain, strict=True):
            if known:
                assert opened.events.tolist() == list(events)
                assert opened.at_risk.tolist() == list(at_risk)
    assert horizon is None or answers == {True, False}


@pytest.mark.parametrize(
    ("n_causes", "n_intervals"),
    [(2, 4), pytest.param(3, 5, marks=pytest.mark.slow), pytest.param(1, 70, marks=pytest.mark.slow)],
)
def test_the_protocol_opens_what_the_rule_says_of_several_causes_and_long_grids(n_causes, n_intervals):
    grid = Grid(grid_days=30, n_intervals=n_intervals)
    rng = np.random.default_rng(5)
    n_split = 0
    for _ in range(3):
        cells = [0, 5, 6, 20, 3] if n_intervals < 9 else [0, 0, 0, 5, 1, 2]
        counts = rng.choice(cells, size=(n_causes + 1, 3, n_intervals))
        # A group that nobody is in, and one that is too small.
        counts[:, 2] = 0
        _, groups = run_on_shares(counts, grid)
        for g, opened in enumerate(groups):
            deaths = counts[:-1, g].sum(axis=0).tolist()
            _, events, at_risk, _ = opened_in_plain(deaths, counts[-1, g].tolist())
            assert opened.events.tolist() == list(events)
            assert opened.at_risk.tolist() == list(at_risk)
            if n_causes > 1:
                split = split_in_plain(counts[:-1, g].tolist(), events)
                assert opened.causes.tolist() == [list(row) for row in split]
                n_split += (opened.causes >= 0).sum()
    assert n_causes == 1 or n_split > 10


def test_all_groups_and_grid_points_share_their_rounds():
    def rounds(n_groups, n_intervals):
        counts = np.full((2, n_groups, n_intervals), 6)
        packages = share(counts, 3, domain=FIELD61, rng=InsecureSeededRng(7))

        async def protocol(session, package):
            shared = session.shared(package.expand(), FIELD61)
            return await open_counts(session, shared, Grid(30, n_intervals), min_cell=MIN_CELL)

        return run_local(protocol, packages).cost.rounds

    # One answer after the other, and a dozen rounds each for the tests before and for a window of 32.
    assert rounds(1, 10) == rounds(6, 10) <= 9 + 24
    assert rounds(1, 36) - rounds(1, 10) <= 26 + 12


def grid_survival(deaths, losses):
    at_risk = sum(deaths) + sum(losses)
    out, s = [], 1.0
    for d, c in zip(deaths, losses, strict=True):
        s *= 1 - d / at_risk if at_risk else 1.0
        out.append(s)
        at_risk -= d + c
    return out


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=8))
def test_the_bracket_always_holds_the_pooled_curve(cells):
    deaths, losses = [d for d, _ in cells], [c for _, c in cells]
    _, events, at_risk, _ = opened_in_plain(deaths, losses)
    curve = survival_curve("g", OpenedGroup(np.array(at_risk), np.array(events)), grid_days=180, min_cell=MIN_CELL)
    for step, exact in zip(curve.steps, grid_survival(deaths, losses), strict=True):
        if step.survival_low is not None:
            assert step.survival_low <= exact + 1e-12
            assert step.survival_high >= exact - 1e-12


def test_the_bracket_is_a_point_where_everything_was_opened():
    opened = OpenedGroup(np.array([100, 80, 50, 20, 0]), np.array([10, 20, 15, 20]))
    curve = survival_curve("g", opened, grid_days=30, min_cell=MIN_CELL)
    exact = np.cumprod([1 - 10 / 100, 1 - 20 / 80, 1 - 15 / 50, 0])
    assert [step.survival_low for step in curve.steps] == pytest.approx(exact)
    assert [step.survival_high for step in curve.steps] == pytest.approx(exact)


def test_unopened_numbers_at_risk_give_the_widest_curve_that_fits():
    # 100 at the start, 30 die and 10 leave in two intervals, the number in between is not known.
    opened = OpenedGroup(np.array([100, -1, 60]), np.array([20, 10]))
    curve = survival_curve("g", opened, grid_days=30, min_cell=MIN_CELL)
    last = curve.steps[-1]
    assert last.survival_high == pytest.approx(0.8 * (1 - 10 / 80))
    assert last.survival_low == pytest.approx(0.8 * (1 - 10 / 70))


def test_days_fall_into_the_interval_that_ends_on_or_after_them():
    counts = count_table(
        np.array([0, 0, 1, 1]),
        np.array([180, 181, 0, 360]),
        np.array([True, False, True, True]),
        n_groups=2,
        grid=Grid(180, 2),
    )
    assert counts.tolist() == [[[1, 0], [1, 1]], [[0, 1], [0, 0]]]


@pytest.mark.parametrize(("horizon", "cut"), [(1, 1), (180, 1), (181, 2), (365, 3)])
def test_the_horizon_cuts_its_interval_as_the_model_sees_it(horizon, cut):
    grid = Grid(180, 4, horizon)
    assert grid.cut == cut
    assert len(grid.official) == 5
    days = np.repeat(np.arange(0, 700), 2)
    event = np.tile([True, False], 700)
    part = grid.part_of(days, event)
    known, died = outcome_within(days, event, horizon)
    np.testing.assert_array_equal((part < cut) & event, died)
    np.testing.assert_array_equal((part < cut) & ~event, ~known)
    np.testing.assert_array_equal(grid.official[part], interval_index(days, 180))
