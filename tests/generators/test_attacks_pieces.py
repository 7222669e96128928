"""The parts that attacks are made of, against brute force, closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from generators.attacks import neighbours, predicates
from generators.attacks.neighbours import NeighbourSearch
from generators.attacks.predicates import Conjunctions, Matcher, Relation
from generators.attacks.table import Rows
from generators.errors import DomainMismatch
from privacy import Schema, SchemaError
from privacy._rates import Rate, auc, auc_interval, excess_risk
from privacy._table_size import rate_at_size, singled_out_in_sample

N_SIMULATIONS = 4000
# A 95 % interval that covers in fewer of 4,000 simulations than this is refused at p = 1e-6.
LEAST_COVERAGE = stats.binom.ppf(1e-6, N_SIMULATIONS, 0.95) / N_SIMULATIONS


def mixed_rows(n: int, *, rng: np.random.Generator) -> Rows:
    number = np.round(rng.normal(50, 20, n), 1)
    number[rng.random(n) < 0.1] = np.nan
    return Rows(
        ("a", "b", "x", "y"),
        (False, False, True, True),
        (rng.integers(0, 3, n).astype(np.uint8), rng.integers(0, 40, n).astype(np.uint8), number, rng.gamma(1, 5, n)),
    )


@pytest.mark.parametrize(("successes", "attempts"), [(0, 10), (3, 10), (10, 10), (17, 2000), (1, 1)])
def test_rates_have_the_wilson_interval(successes, attempts):
    rate = Rate.of(successes, attempts)
    low, high = stats.binomtest(successes, attempts).proportion_ci(method="wilson")
    assert rate.value == successes / attempts
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=1e-12)


def test_a_rate_of_nothing_says_so_and_impossible_counts_are_refused():
    assert Rate.of(0, 0).value is None
    with pytest.raises(ValueError, match="between 0 and attempts"):
        Rate.of(3, 2)


def test_risk_is_the_excess_over_what_succeeds_anyway():
    assert excess_risk(Rate.of(600, 1000), Rate.of(200, 1000)).value == pytest.approx(0.5)
    assert excess_risk(Rate.of(1000, 1000), Rate.of(200, 1000)).value == 1.0
    assert excess_risk(Rate.of(100, 1000), Rate.of(280, 1000)).value == pytest.approx(-0.25)


def test_risk_is_unmeasured_where_the_control_always_succeeds_or_nothing_was_tried():
    assert excess_risk(Rate.of(10, 10), Rate.of(10, 10)).value is None
    assert excess_risk(Rate.of(0, 0), Rate.of(1, 10)).value is None


@pytest.mark.parametrize(
    ("success", "control", "n_success", "n_control"),
    [(0.02, 0.02, 2000, 500), (0.5, 0.2, 300, 200), (0.95, 0.9, 500, 500), (0.99, 0.02, 400, 400), (0.1, 0.1, 60, 60)],
)
def test_risk_intervals_cover(success, control, n_success, n_control):
    rng = np.random.default_rng(20262)
    truth = (success - control) / (1 - control)

    def coverage(confidence: float) -> float:
        pairs = zip(
            rng.binomial(n_success, success, N_SIMULATIONS),
            rng.binomial(n_control, control, N_SIMULATIONS),
            strict=True,
        )
        risks = [
            excess_risk(
                Rate.of(int(s), n_success, confidence=confidence), Rate.of(int(c), n_control, confidence=confidence)
            )
            for s, c in pairs
        ]
        return float(np.mean([r.low is None or r.low - 1e-12 <= truth <= r.high + 1e-12 for r in risks]))

    # Wilson's own coverage dips by one to two per cent where few attempts fail.
    assert coverage(0.95) >= LEAST_COVERAGE - 0.015
    # Negative control: intervals of 85 % are told from intervals of 95 %.
    assert coverage(0.85) < LEAST_COVERAGE - 0.015


def test_auc_equals_counting_pairs():
    rng = np.random.default_rng(1)
    members, others = rng.integers(0, 6, 40).astype(float), rng.integers(0, 5, 30).astype(float)
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    assert auc(members, others) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_auc_intervals_cover(shift):
    rng = np.random.default_rng(20263)
    truth = stats.norm.cdf(shift / np.sqrt(2))

    def coverage(confidence: float) -> float:
        hits = 0
        for _ in range(N_SIMULATIONS // 4):
            value = auc(rng.normal(shift, 1, 80), rng.normal(0, 1, 60))
            low, high = auc_interval(value, 80, 60, confidence=confidence)
            hits += low <= truth <= high
        return hits / (N_SIMULATIONS // 4)

    least = stats.binom.ppf(1e-6, N_SIMULATIONS // 4, 0.95) / (N_SIMULATIONS // 4)
    assert coverage(0.95) >= least
    assert coverage(0.75) < least


def test_auc_intervals_do_not_collapse_where_all_are_told_apart():
    low, high = auc_interval(1.0, 50, 50)
    assert 0.9 < low < 1.0
    assert high == 1.0


@pytest.mark.parametrize("words", [predicates._WORDS, 1])
def test_matcher_equals_going_through_the_rows(monkeypatch, words):
    # With room for few bit sets, those of earlier blocks are thrown away between blocks.
    monkeypatch.setattr(predicates, "_WORDS", words)
    rng = np.random.default_rng(2)
    rows = mixed_rows(133, rng=rng)
    n = 300
    columns = np.sort(rng.random((n, 4)).argsort(axis=1)[:, :2], axis=1)
    numeric = columns >= 2
    relations = np.where(numeric, rng.integers(0, 7, (n, 2)), rng.choice([0, 4], (n, 2)))
    source = rng.integers(0, 133, (n, 2))
    values = np.nan_to_num(np.choose(columns, [c[source].astype(float) for c in rows.columns]))
    matcher = Matcher(rows)
    asked = Conjunctions(columns, relations, values)

    def meets(row: int, column: int, relation: int, value: float) -> bool:
        x = float(rows.columns[column][row])
        if relation == Relation.MISSING:
            return bool(np.isnan(x))
        return (
            not np.isnan(x)
            and {
                Relation.EQUAL: x == value,
                Relation.UNEQUAL: x != value,
                Relation.AT_LEAST: x >= value,
                Relation.AT_MOST: x <= value,
                Relation.ABOVE: x > value,
                Relation.BELOW: x < value,
            }[Relation(relation)]
        )

    expected = [
        sum(all(meets(row, *part) for part in zip(*conjunction, strict=True)) for row in range(133))
        for conjunction in zip(columns.tolist(), relations.tolist(), values.tolist(), strict=True)
    ]
    assert max(expected) > 5
    assert matcher.count(asked).tolist() == expected
    assert matcher.count(asked).tolist() == expected


def test_repeated_conjunctions_are_kept_once():
    one = Conjunctions(np.array([[0, 1]]), np.array([[0, 0]]), np.array([[1.0, 2.0]]))
    other = Conjunctions(np.array([[0, 1]]), np.array([[0, 0]]), np.array([[1.0, 3.0]]))
    assert one.joined(other).joined(one).first_occurrences().tolist() == [0, 1]


def gower(a: Rows, i: int, b: Rows, j: int, view) -> float:
    """Written out for one pair; ranges are those of `b`."""
    total = 0.0
    for c in view:
        x, y = a.columns[c][i], b.columns[c][j]
        if not a.numeric[c]:
            total += float(x != y)
        elif np.isnan(x) or np.isnan(y):
            total += float(np.isnan(x) != np.isnan(y))
        else:
            total += abs(x - y) / (np.nanmax(b.columns[c]) - np.nanmin(b.columns[c]))
    return total


@pytest.mark.parametrize("kept", [(0, 1, 2, 3), (0, 1), (2, 3), (3,)])
def test_nearest_rows_equal_brute_force(kept):
    rng = np.random.default_rng(3)

    def some(n: int) -> Rows:
        rows = mixed_rows(n, rng=rng)
        return Rows(*(tuple(part[i] for i in kept) for part in (rows.names, rows.numeric, rows.columns)))

    table = some(90)
    # Within the table's range, outside of which distances are capped.
    targets = table.take(rng.integers(0, 90, 25)).shuffled(rng=rng)
    every = tuple(range(len(kept)))
    views = [every, *(tuple(c for c in every if c != left) for left in every if len(every) > 1), *((c,) for c in every)]
    found, distances = NeighbourSearch(table, rng=rng).nearest(targets, views, n_neighbours=3)
    for v, view in enumerate(views):
        for t in range(25):
            all_of_them = np.array([gower(targets, t, table, j, view) for j in range(90)])
            assert distances[v, t] == pytest.approx(np.sort(all_of_them)[:3], abs=1e-5)
            assert all_of_them[found[v, t]] == pytest.approx(distances[v, t], abs=1e-5)
            assert len(set(found[v, t].tolist())) == 3


def test_targets_outside_the_range_find_the_nearest_end():
    table = Rows(("x", "y"), (True, True), (np.array([0.0, 5.0, 10.0]), np.zeros(3)))
    target = Rows(("x", "y"), (True, True), (np.array([1e9, -1e9]), np.zeros(2)))
    found, _ = NeighbourSearch(table, rng=np.random.default_rng(1)).nearest(target, [(0, 1)], n_neighbours=1)
    assert found[0, :, 0].tolist() == [2, 0]


def test_ties_go_to_a_random_row():
    table = Rows(("a", "b"), (False, False), (np.zeros(50, np.uint8), np.zeros(50, np.uint8)))
    rng = np.random.default_rng(1)
    winners = {
        int(NeighbourSearch(table, rng=rng).nearest(table.take(np.array([0])), [(0,)], n_neighbours=1)[0][0, 0, 0])
        for _ in range(40)
    }
    assert len(winners) > 10


def test_the_size_correction_is_the_hypergeometric_probability():
    matches = np.array([0, 1, 2, 5, 90, 91, 100])
    expected = stats.hypergeom.pmf(1, 100, matches, 10)
    assert singled_out_in_sample(matches, 100, 10) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("m", [*(pytest.param(m, marks=pytest.mark.slow) for m in (250, 500)), 1000, 4000])
def test_rates_are_taken_to_another_size_without_bias(m):
    """Predicates of known weights: the rate at 1,000 rows from their matches among m."""
    n, made, rng = 1000, 2000, np.random.default_rng(20264)
    w = np.concatenate((np.zeros(made // 4), rng.gamma(0.7, 1e-3, made - made // 4)))
    truth = float(np.mean(n * w * (1 - w) ** (n - 1)))
    rates = [rate_at_size(rng.binomial(m, w), m, n, rng=rng) for _ in range(25)]
    assert np.mean([rate.value for rate in rates]) == pytest.approx(truth, rel=0.08)
    assert sum(rate.low <= truth <= rate.high for rate in rates) >= stats.binom.ppf(1e-4, 25, 0.95)
    # Negative control: the rate at the control's own size is another one.
    as_it_is = np.mean([np.mean(rng.binomial(m, w) == 1) for _ in range(25)])
    assert m == n or abs(as_it_is - truth) > 0.08 * truth


def test_rows_are_read_by_the_schema(clinic_frame, clinic_schema):
    rows = Rows.of(clinic_frame, clinic_schema)
    assert "pid" not in rows.names
    assert dict(zip(rows.names, rows.numeric, strict=True)) == {
        "sex": False, "pregnant": False, "age": True, "wbc": True, "blasts": True, "visits": True, "time": True,
        "event": False,
    }  # fmt: skip
    pregnant = rows.columns[rows.names.index("pregnant")]
    assert np.array_equal(pregnant == 2, clinic_frame["pregnant"].isna())
    assert np.array_equal(np.isnan(rows.columns[rows.names.index("wbc")]), clinic_frame["wbc"].isna())


def test_dates_are_compared_in_days():
    schema = Schema.from_dict(
        {"columns": {"day": {"kind": "date", "nullable": True}, "sex": {"categories": ["F", "M"]}}}
    )
    frame = pd.DataFrame({"day": ["2020-01-01", None, "2020-03-01"], "sex": ["F", "M", "M"]})
    for column in (frame["day"], pd.to_datetime(frame["day"])):
        days = Rows.of(frame.assign(day=column), schema).columns[0]
        assert days[2] - days[0] == 60
        assert np.isnan(days[1])
    bounded = Schema.from_dict(
        {
            "columns": {
                "day": {"kind": "date", "bounds": ["2020-01-01", "2020-12-31"], "nullable": True},
                "sex": {"categories": ["F", "M"]},
            }
        }
    )
    days = Rows.of(frame, bounded).columns[0]
    assert days[2] - days[0] == 60


def test_infinite_numbers_and_texts_for_dates_are_refused():
    schema = Schema.from_dict({"columns": {"x": {"kind": "continuous", "bounds": [0, 9]}, "day": {"kind": "date"}}})
    with pytest.raises(SchemaError) as caught:
        Rows.of(pd.DataFrame({"x": [1.0, np.inf], "day": ["tomorrow", "2020-01-01"]}), schema)
    assert [problem.column for problem in caught.value.problems] == ["x", "day"]
    assert "tomorrow" not in str(caught.value)


def test_tables_that_do_not_fit_are_refused_without_naming_a_value():
    schema = Schema.from_dict(
        {"columns": {"sex": {"categories": ["F", "M"]}, "wbc": {"kind": "continuous", "bounds": [0, 9]}}}
    )
    with pytest.raises(SchemaError) as caught:
        Rows.of(pd.DataFrame({"sex": ["secret"], "wbc": ["4711x"]}), schema)
    assert len(caught.value.problems) == 2
    assert "secret" not in str(caught.value)
    assert "4711" not in str(caught.value)
    with pytest.raises(SchemaError, match="not nullable"):
        Rows.of(pd.DataFrame({"sex": ["F"], "wbc": [np.nan]}), schema)
    with pytest.raises(SchemaError, match="missing from the table"):
        Rows.of(pd.DataFrame({"sex": ["F"]}), schema)
    with pytest.raises(SchemaError, match="no rows"):
        Rows.of(pd.DataFrame({"sex": [], "wbc": []}), schema)
    with pytest.raises(DomainMismatch, match="two columns"):
        Rows.of(pd.DataFrame({"sex": ["F"]}), schema.subset(["sex"]))


def test_copies_are_found_also_with_missing_values():
    rows = mixed_rows(200, rng=np.random.default_rng(5))
    half = rows.take(np.arange(100))
    assert rows.found_in(half).tolist() == [True] * 100 + [False] * 100
    assert len(half.joined(half).distinct()) == 100
    assert neighbours._STEPS > 1
