"""The log-rank test on shares: against peers, what keeps it closed, and what its numbers would tell beside curves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from clinics import job, leukaemia, pooled

from privacy import InsecureSeededRng
from smpc import RING64, run_local, share
from synthema.errors import DisclosureRefused, ModelFailed, StudyError
from synthema.learning import LogRank, log_rank
from synthema.submitters import SimulatedNetwork

MIN_CELL = 5


def table(group, time, event, *, stratum=0, n_groups=2, n_strata=1, n_times=60):
    """Deaths and losses, shape (2, G, strata x T)."""
    out = np.zeros((2, n_groups, n_strata * n_times), dtype=np.int64)
    np.add.at(out, (1 - event, group, stratum * n_times + time), 1)
    return out


def on_shares(counts, *, n_strata=1, n_coefficients=1, most_patients=1 << 24):
    async def protocol(session, package):
        return await log_rank.open_statistic(
            session,
            session.shared(package.expand(), RING64),
            n_strata=n_strata,
            n_coefficients=n_coefficients,
            most_patients=most_patients,
            min_cell=MIN_CELL,
        )

    return run_local(protocol, share(counts, 3, domain=RING64, rng=InsecureSeededRng(3)))


def patients(n, n_groups, seed=0, n_times=60):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n)
    time = np.minimum((rng.exponential(25, n) * (1 + 0.3 * group)).astype(int), n_times - 1)
    return group, time, rng.integers(0, 2, n), rng.integers(0, 3, n)


@pytest.mark.slow
def test_two_strata_and_three_groups_agree_with_statsmodels():
    from statsmodels.duration.survfunc import survdiff

    group, time, event, stratum = patients(500, 3)
    expected, p = survdiff(time, event, group)
    run = on_shares(table(group, time, event, n_groups=3), n_coefficients=2)
    found = log_rank.read(run.results[0], 3)
    assert found.degrees == 2
    assert found.chi_square == pytest.approx(expected, rel=1e-6)
    assert found.p == pytest.approx(p, rel=1e-5)
    assert run.cost.rounds <= 40
    expected, _ = survdiff(time, event, group, strata=stratum)
    counts = table(group, time, event, stratum=stratum, n_groups=3, n_strata=3)
    found = log_rank.read(on_shares(counts, n_strata=3, n_coefficients=2).results[0], 3)
    assert found.chi_square == pytest.approx(expected, rel=1e-6)
    # The test can tell: without strata it is another number.
    assert abs(survdiff(time, event, group)[0] - expected) > 1e-3 * expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Starting with pandas version 4.0")
def test_convicts_on_parole_agree_with_lifelines():
    from lifelines.datasets import load_rossi
    from lifelines.statistics import logrank_test

    rossi = load_rossi()
    counts = table(rossi["fin"].to_numpy(), rossi["week"].to_numpy(), rossi["arrest"].to_numpy())
    found = log_rank.read(on_shares(counts).results[0], 2)
    fin = rossi["fin"] == 1
    expected = logrank_test(rossi["week"][fin], rossi["week"][~fin], rossi["arrest"][fin], rossi["arrest"][~fin])
    assert found.chi_square == pytest.approx(expected.test_statistic, rel=1e-6)
    assert found.p == pytest.approx(expected.p_value, rel=1e-6)


def spread(deaths_of_second=12, size_of_second=40, n_deaths=24):
    """Two groups whose deaths fall on different times; losses come last."""
    deaths = np.zeros((2, 60), dtype=np.int64)
    deaths[0, np.arange(n_deaths) * 2] = 1
    deaths[1, 1 + 2 * np.arange(deaths_of_second)] = 1
    losses = np.zeros((2, 60), dtype=np.int64)
    losses[0, -1] = 40
    losses[1, -1] = size_of_second - deaths_of_second
    return np.stack([deaths, losses])


@pytest.mark.parametrize(
    ("counts", "n_coefficients", "why"),
    [
        (spread(size_of_second=19), 1, "a group below 20 patients"),
        (spread(deaths_of_second=4), 1, "a group of 1 to 4 deaths"),
        (spread(), 13, "fewer than 3 deaths a coefficient"),
        (spread(deaths_of_second=0, n_deaths=19), 1, "deaths in fewer than 20 intervals"),
        (np.zeros((2, 2, 60), dtype=np.int64), 1, "no patients"),
    ],
)
def test_it_stays_closed(counts, n_coefficients, why):
    run = on_shares(counts, n_coefficients=n_coefficients)
    assert run.results == [None] * 3, why


@pytest.mark.parametrize(
    ("counts", "n_coefficients"),
    [
        (spread(size_of_second=20), 1),
        (spread(deaths_of_second=5), 1),
        (spread(deaths_of_second=0), 1),
        (spread(), 11),
        (spread(deaths_of_second=0, n_deaths=20), 1),
    ],
)
def test_it_is_opened_at_the_very_bounds(counts, n_coefficients):
    assert on_shares(counts, n_coefficients=n_coefficients).results[0] is not None


def test_the_tail_of_chi_square_is_that_of_scipy():
    from scipy.stats import chi2

    for degrees in range(1, 12):
        for x in (0.0, 0.01, 1.0, 30.0, 300.0):
            assert log_rank.upper_tail(x, degrees) == pytest.approx(chi2.sf(x, degrees), rel=1e-12)


def test_an_empty_group_takes_no_degree_of_freedom_and_one_group_is_no_comparison():
    group, time, event, _ = patients(300, 2)
    two = log_rank.read(on_shares(table(group, time, event)).results[0], 2)
    for place in (0, 2):
        three = np.insert(table(group, time, event), place, 0, axis=1)
        found = log_rank.read(on_shares(three).results[0], 3)
        assert found.degrees == 1
        assert found.chi_square == pytest.approx(two.chi_square, rel=1e-6)
    alone = np.insert(table(group * 0, time, event, n_groups=1), 1, 0, axis=1)
    with pytest.raises(ModelFailed, match="two groups"):
        log_rank.read(on_shares(alone).results[0], 2)


def test_of_a_large_cohort_the_quotients_keep_their_digits():
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4000, (2, 2, 60))
    at_risk = np.cumsum(counts.sum(axis=0)[:, ::-1], axis=1)[:, ::-1].astype(float)
    exact = log_rank.statistic(*log_rank.from_counts(at_risk, counts[0].astype(float)))
    found = log_rank.read(on_shares(counts).results[0], 2)
    assert found.chi_square == pytest.approx(exact.chi_square, rel=1e-6)


@pytest.mark.slow
def test_at_hospitals_it_is_the_test_of_the_pooled_rows():
    from statsmodels.duration.survfunc import survdiff

    frames, plain = leukaemia()
    model = LogRank(group="sex", grid_days=30).fit(SimulatedNetwork(frames), plain)
    rows = pooled(frames)
    interval = np.maximum((rows["time"] - 1) // 30, 0)
    expected, _ = survdiff(interval, (rows["event"] == "1").astype(int), rows["sex"])
    assert model.statistic_.chi_square == pytest.approx(expected, rel=1e-6)
    assert set(model.answer_) == {"labels", "opened"}
    # U of one group and its variance: no number by time.
    assert len(model.answer_["opened"]) == 2
    again = LogRank.from_json(model.to_json())
    assert str(again.summary()) == str(model.summary())
    assert again.plot() == ""


@pytest.mark.slow
def test_too_few_deaths_are_refused_by_name():
    frames, plain = leukaemia()
    alive = {site: rows.assign(event="0") for site, rows in frames.items()}
    with pytest.raises(DisclosureRefused, match="deaths must fall into at least 20 intervals"):
        LogRank(group="sex", grid_days=30).fit(SimulatedNetwork(alive), plain)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"group": "age", "grid_days": 30}, "must be a column with categories"),
        ({"group": "sex", "grid_days": 400}, "so at most 300 days"),
        ({"group": "sex", "grid_days": 30, "strata": ["sex"]}, "other than the group"),
        ({"group": "sex", "grid_days": 30, "cause": "2"}, "cause: '2' is none of 1"),
    ],
)
def test_what_the_schema_does_not_allow_is_refused_by_field(fields, rule):
    frames, plain = leukaemia()
    with pytest.raises(StudyError, match=rule):
        LogRank(**fields).fit(SimulatedNetwork(frames), plain)


CURVES = {"kind": "kaplan-meier", "group": "sex", "grid_days": 360}
TEST = {"kind": "log-rank", "group": "sex", "grid_days": 30}


@pytest.mark.parametrize(
    ("models", "rule"),
    [
        ({"a": CURVES, "b": CURVES | {"grid_days": 180}}, "share group, grid_days and min_cell"),
        ({"a": CURVES, "b": CURVES | {"kind": "nelson-aalen", "min_cell": 6}}, "share group, grid_days and min_cell"),
        ({"a": CURVES, "b": TEST}, "stands beside no exact curves"),
        ({"a": TEST, "b": TEST | {"grid_days": 60}}, "the only one of its study"),
    ],
)
def test_exact_curves_and_tests_that_could_be_subtracted_are_refused(models, rule):
    _, plain = leukaemia()
    schema, sites = plain.data_schema, tuple(plain.sites)
    with pytest.raises(StudyError, match=rule):
        job(schema, sites, models=models)
    # Private ones are paid for and free to vary.
    private = {"mode": "private", "budget_share": 0.5}
    name = list(models)[-1]
    assert job(schema, sites, models=models | {name: models[name] | private}).models
    assert job(schema, sites, models={"a": CURVES, "b": CURVES | {"kind": "nelson-aalen"}}).models


def test_beside_curves_its_numbers_would_tell_their_closed_cells():
    """The attack that the rule prevents: one closed death count of each group, and U and V as they would be opened."""
    at_risk = np.array([[100.0, 80, 55, 20], [120.0, 90, 60, 25]])
    deaths = np.array([[12.0, 3, 15, 10], [20.0, 2, 11, 9]])
    u, v = log_rank.from_counts(at_risk, deaths)
    opened = np.rint(np.array([u[0], v[0, 0]]) * 2**20)
    fitting = []
    for guess in itertools.product(range(1, MIN_CELL), repeat=2):
        deaths[:, 1] = guess
        other_u, other_v = log_rank.from_counts(at_risk, deaths)
        if (np.rint(np.array([other_u[0], other_v[0, 0]]) * 2**20) == opened).all():
            fitting.append(guess)
    assert fitting == [(3, 2)]
