"""The door to private rows: the noise is there and of the right size, selection has its law, prices are right."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import Domain, DomainMismatch, LocalTableOracle, Measurement, TooManyRecords
from generators.errors import BudgetInvalid
from generators.marginals import count_marginal
from generators.oracle import LazyEstimates, _score, discrete_gaussian_for
from generators.selection import exponential_mechanism
from privacy import (
    DiscreteGaussian,
    ExponentialMechanism,
    InsecureSeededRng,
    Schema,
    SchemaError,
    SecureRng,
    ZcdpAccountant,
    rho_of,
)

# A normal variable leaves this interval once in 10^6 tests.
Z_THRESHOLD = 4.9
N_NOISE_CELLS = 20_000
N_SELECTIONS = 20_000
N_ORACLE_SELECTIONS = 5_000
N_LAZY_SELECTIONS = 3_000
# Chi-square with 3 degrees of freedom exceeds this once in 10^5.
CHI_SQUARE_3 = 25.9


@pytest.fixture
def pair_schema() -> Schema:
    return Schema.from_dict({"columns": {"a": {"categories": ["x", "y", "z"]}, "b": {"categories": ["0", "1"]}}})


@pytest.fixture
def pair_frame() -> pd.DataFrame:
    return pd.DataFrame({"a": ["x"] * 30 + ["y"] * 50 + ["z"] * 20, "b": ["0", "1"] * 50})


def noise_z_score(noise: np.ndarray, std: float) -> float:
    """Standardised excess of the sample variance over std^2: about normal if the noise is discrete Gaussian."""
    return float((np.square(noise).mean() / std**2 - 1) * math.sqrt(noise.size / 2))


def test_measured_noise_has_the_stated_deviation_and_absent_or_small_noise_is_noticed():
    columns = {"a": {"categories": [str(i) for i in range(200)]}, "b": {"categories": [str(i) for i in range(100)]}}
    schema = Schema.from_dict({"columns": columns})
    frame = pd.DataFrame({"a": [3] * 500, "b": [7] * 500})
    oracle = LocalTableOracle(frame, schema)
    [part] = oracle.measure([("a", "b")], rho=0.005)
    assert part.values.size == N_NOISE_CELLS
    exact = np.zeros((200, 100), dtype=np.int64)
    exact[3, 7] = 500
    noise = part.values - exact
    assert part.noise_std == pytest.approx(10.0)
    assert abs(noise_z_score(noise, part.noise_std)) < Z_THRESHOLD
    assert abs(noise.mean()) / part.noise_std * math.sqrt(noise.size) < Z_THRESHOLD
    # Negative controls: no noise, and noise 30 % too small.
    assert abs(noise_z_score(np.zeros_like(noise), part.noise_std)) > Z_THRESHOLD
    assert abs(noise_z_score(np.rint(0.7 * noise), part.noise_std)) > Z_THRESHOLD


def test_two_oracles_of_one_table_answer_differently(pair_schema, pair_frame):
    answers = [LocalTableOracle(pair_frame, pair_schema).measure([("a", "b")], rho=1e-6)[0] for _ in range(2)]
    assert not np.array_equal(answers[0].values, answers[1].values)


def test_each_measurement_of_a_clique_has_fresh_noise(pair_schema, pair_frame):
    oracle = LocalTableOracle(pair_frame, pair_schema)
    first, second = oracle.measure([("a",), ("a",)], rho=1e-6)
    [third] = oracle.measure([("a",)], rho=1e-6)
    assert not np.array_equal(first.values, second.values)
    assert not np.array_equal(first.values, third.values)


@pytest.mark.parametrize("neighbours", ["add_remove_one", "replace_one"])
@pytest.mark.parametrize("most_records", [1, 3])
def test_the_price_covers_the_sensitivity_and_never_exceeds_what_was_granted(
    pair_schema, pair_frame, neighbours, most_records
):
    oracle = LocalTableOracle(pair_frame, pair_schema, neighbours=neighbours, max_records_per_patient=most_records)
    rho = 0.01
    oracle.measure([("a",), ("b",), ("a", "b")], rho=rho)
    [event] = oracle.events
    assert event.l2_sensitivity_squared == 3 * most_records**2 * (2 if neighbours == "replace_one" else 1)
    assert event.linf_sensitivity == most_records
    assert rho * (1 - 1e-9) < rho_of(event) <= rho
    accountant = ZcdpAccountant(neighbours=neighbours)
    accountant.compose(event)
    assert accountant.rho <= rho


@given(st.floats(1e-9, 1e4), st.integers(1, 5000))
def test_noise_for_any_budget_costs_at_most_the_budget(rho, l2_sensitivity_squared):
    event = discrete_gaussian_for(rho, l2_sensitivity_squared, linf_sensitivity=1)
    accountant = ZcdpAccountant(neighbours="add_remove_one")
    accountant.compose(event)
    assert accountant.rho <= rho


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan, math.inf, 1e-30])
def test_a_budget_that_buys_no_finite_noise_is_refused_and_nothing_is_charged(pair_schema, pair_frame, rho):
    oracle = LocalTableOracle(pair_frame, pair_schema)
    with pytest.raises(BudgetInvalid, match="rho"):
        oracle.measure([("a",)], rho=rho)
    assert oracle.events == []


def test_the_price_is_noted_even_if_the_noise_source_breaks(pair_schema, pair_frame):
    class Broken(SecureRng):
        def bytes(self, n: int) -> bytes:
            raise OSError(f"no entropy for {n} bytes")

    oracle = LocalTableOracle(pair_frame, pair_schema, rng=Broken())
    with pytest.raises(OSError, match="no entropy"):
        oracle.measure([("a",)], rho=0.1)
    assert oracle.events == [discrete_gaussian_for(0.1, 1, linf_sensitivity=1)]
    assert isinstance(oracle.events[0], DiscreteGaussian)


@pytest.mark.parametrize(
    "source", [np.random.default_rng(1), np.random.RandomState(1), 7], ids=lambda s: type(s).__name__
)
def test_noise_never_comes_from_numpy(pair_schema, pair_frame, source):
    with pytest.raises(TypeError, match=r"never comes from numpy\.random"):
        LocalTableOracle(pair_frame, pair_schema, rng=source)


def test_a_patient_with_more_rows_than_allowed_is_refused_without_being_named():
    schema = Schema.from_dict(
        {"table": {"patient_id": "pid"}, "columns": {"pid": {"role": "identifier"}, "b": {"categories": ["0", "1"]}}}
    )
    frame = pd.DataFrame({"pid": ["anna", "anna", "bert"], "b": ["0", "1", "0"]})
    with pytest.raises(TooManyRecords, match="max_records_per_patient = 1") as caught:
        LocalTableOracle(frame, schema)
    assert "anna" not in str(caught.value)
    assert LocalTableOracle(frame, schema, max_records_per_patient=2).domain.columns == ("b",)


def test_a_table_that_does_not_fit_is_refused(pair_schema, pair_frame):
    for bad in (pair_frame.head(0), pair_frame.drop(columns="a"), pair_frame.assign(c=1), pair_frame.assign(a="w")):
        with pytest.raises(SchemaError):
            LocalTableOracle(bad, pair_schema)


def test_the_oracle_shows_no_rows(pair_schema, pair_frame):
    oracle = LocalTableOracle(pair_frame, pair_schema)
    assert repr(oracle) == "LocalTableOracle(2 columns, neighbours='add_remove_one')"


def test_a_measurement_checks_itself():
    with pytest.raises(DomainMismatch):
        Measurement(("a",), np.zeros((2, 2), dtype=np.int64), 1.0)
    with pytest.raises(ValueError, match="noise_std"):
        Measurement(("a",), np.zeros(2, dtype=np.int64), 0.0)


def chi_square_of_selection(scores, *, epsilon, claimed_epsilon):
    rng = InsecureSeededRng(5)
    drawn = [exponential_mechanism(scores, epsilon=epsilon, sensitivity=1 << 20, rng=rng) for _ in range(N_SELECTIONS)]
    weights = np.exp(claimed_epsilon * (np.array(scores) - max(scores)) / 2 / (1 << 20))
    expected = N_SELECTIONS * weights / weights.sum()
    return float((np.square(np.bincount(drawn, minlength=len(scores)) - expected) / expected).sum())


@pytest.mark.slow
def test_selection_has_the_softmax_law_and_a_wrong_epsilon_is_noticed():
    scores = [0, 1 << 20, 3 << 19, 5 << 20]
    assert chi_square_of_selection(scores, epsilon=0.8, claimed_epsilon=0.8) < CHI_SQUARE_3
    # Negative control: 30 % more epsilon than claimed.
    assert chi_square_of_selection(scores, epsilon=1.04, claimed_epsilon=0.8) > CHI_SQUARE_3


@pytest.mark.parametrize(("neighbours", "most_records", "change"), [("add_remove_one", 1, 1), ("replace_one", 2, 4)])
def test_the_oracles_selection_has_the_law_that_its_sensitivity_demands(
    pair_schema, pair_frame, neighbours, most_records, change
):
    oracle = LocalTableOracle(
        pair_frame,
        pair_schema,
        neighbours=neighbours,
        max_records_per_patient=most_records,
        rng=InsecureSeededRng(6),
    )
    # Exact counts are (30, 50, 20): L1 distances 0, 4, 6 and 10 rows.
    estimates = [np.array([30.0 - far, 50.0, 20.0]) for far in (0, 4, 6, 10)]
    epsilon = 0.5 * change
    drawn = [oracle.select([("a",)] * 4, estimates, epsilon=epsilon) for _ in range(N_ORACLE_SELECTIONS)]

    def chi_square(sensitivity):
        weights = np.exp(epsilon * np.array([0, 4, 6, 10]) / 2 / sensitivity)
        expected = N_ORACLE_SELECTIONS * weights / weights.sum()
        return float((np.square(np.bincount(drawn, minlength=4) - expected) / expected).sum())

    assert chi_square(change) < CHI_SQUARE_3
    # Negative controls: half and twice the sensitivity.
    assert chi_square(change / 2) > CHI_SQUARE_3
    assert chi_square(change * 2) > CHI_SQUARE_3


def test_selection_of_hopeless_candidates_still_ends():
    scores = [0] * 999 + [1 << 50]
    assert exponential_mechanism(scores, epsilon=100.0, sensitivity=1, rng=InsecureSeededRng(1)) == 999


def test_select_takes_the_marginal_farthest_from_its_estimate_and_is_priced(pair_schema, pair_frame):
    oracle = LocalTableOracle(pd.concat([pair_frame] * 50), pair_schema)
    near, far = np.array([1500.0, 2500.0, 1000.0]), np.array([0.0, 5000.0])
    assert oracle.select([("a",), ("b",)], [near, far], epsilon=1.0) == 1
    assert oracle.events == [ExponentialMechanism(1.0)]


def test_a_score_is_computed_once_for_each_clique_and_estimate(pair_schema, pair_frame, monkeypatch):
    oracle = LocalTableOracle(pair_frame, pair_schema, rng=InsecureSeededRng(1))
    scored = []
    monkeypatch.setattr("generators.oracle._score", lambda *given: scored.append(given) or _score(*given))
    near, far = np.array([30.0, 50.0, 20.0]), np.array([0.0, 100.0, 0.0])
    for _ in range(3):
        oracle.select([("a",), ("a",), ("b",)], [near, far, np.array([1.0, 99.0])], epsilon=1.0)
    assert len(scored) == 3
    # An estimate that was changed in place is another estimate.
    near[0] = 31.0
    oracle.select([("a",)], [near], epsilon=1.0)
    assert len(scored) == 4
    # The same bytes in another shape are no estimate of this clique.
    with pytest.raises(DomainMismatch, match="shape"):
        oracle.select([("a",)], [near.reshape(3, 1)], epsilon=1.0)


def test_an_estimate_of_the_wrong_shape_or_size_is_refused_and_nothing_is_charged(pair_schema, pair_frame):
    oracle = LocalTableOracle(pair_frame, pair_schema)
    for bad in (np.zeros(2), np.full(3, np.nan), np.full(3, 2.0**41)):
        with pytest.raises(DomainMismatch, match="estimate"):
            oracle.select([("a",)], [bad], epsilon=1.0)
    with pytest.raises(DomainMismatch, match="one candidate"):
        oracle.select([], [], epsilon=1.0)
    assert oracle.events == []


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=12),
    st.tuples(st.integers(0, 2), st.integers(0, 1)),
    st.lists(st.floats(-20, 20), min_size=6, max_size=6),
)
def test_a_score_changes_by_at_most_one_row_for_one_more_patient_and_two_for_another(rows, row, estimate):
    domain = Domain(("a", "b"), (3, 2))
    public = np.array(estimate).reshape(3, 2)

    def score(table):
        return _score(count_marginal(np.array(table, dtype=np.uint8).reshape(-1, 2), domain, ("a", "b")), public)

    assert abs(score([*rows, row]) - score(rows)) <= 1 << 20
    assert abs(score([*rows[1:], row]) - score(rows)) <= 2 << 20


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=12),
    st.tuples(st.integers(0, 2), st.integers(0, 1)),
    st.lists(st.floats(0, 20), min_size=6, max_size=6),
    st.integers(1, 7),
    st.integers(1, 7),
    st.floats(-5, 50),
)
def test_no_weighted_score_changes_by_more_than_the_sensitivity_that_selection_uses(
    rows, row, estimate, weight, other_weight, penalty
):
    pair = np.array(estimate).reshape(3, 2)
    schema = Schema.from_dict({"columns": {"a": {"categories": ["x", "y", "z"]}, "b": {"categories": ["0", "1"]}}})
    candidates, estimates = [("a", "b"), ("a",)], [pair, pair.sum(axis=1)]
    for neighbours, table in (("add_remove_one", [*rows, row]), ("replace_one", [*rows[1:], row])):
        seen = [
            captured_scores(
                schema, each, neighbours, candidates, estimates, [weight, other_weight], [penalty, 2 * penalty]
            )
            for each in (rows, table)
        ]
        (before, sensitivity, lazy_before, bounds), (after, same_sensitivity, lazy_after, _) = seen
        assert sensitivity == same_sensitivity == max(weight, other_weight) * (1 + (neighbours == "replace_one")) << 20
        assert max(abs(a - b) for a, b in zip(before, after, strict=True)) <= sensitivity
        # What is scored lazily is the same, and within its bounds.
        assert (lazy_before, lazy_after) == (before, after)
        assert all(bound >= score for bound, score in zip(bounds, lazy_before, strict=True))


def captured_scores(schema, rows, neighbours, candidates, estimates, weights, penalties):
    """Return scores and sensitivity as the oracle hands them to the mechanism, and lazy scores with their bounds."""
    frame = pd.DataFrame([("xyz"[a], str(b)) for a, b in rows], columns=["a", "b"])
    oracle = LocalTableOracle(frame, schema, neighbours=neighbours)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "generators.oracle.exponential_mechanism",
            lambda scores, *, sensitivity, **_: seen.extend([list(scores), sensitivity]) or 0,
        )
        patch.setattr(
            "generators.oracle.lazy_exponential_mechanism",
            lambda bounds, score, **_: seen.extend([[score(i) for i in range(len(bounds))], bounds]) or 0,
        )
        lazy = LazyEstimates(len(estimates), estimates.__getitem__, total=float(estimates[0].sum()))
        for given_estimates in (estimates, lazy):
            oracle.select(candidates, given_estimates, epsilon=1.0, weights=weights, penalties=penalties)
    return seen


def test_lazy_selection_has_the_same_law(pair_schema, pair_frame):
    # Exact counts are (30, 50, 20): L1 distances 0, 4, 6 and 10 rows; times weights, less penalties: 0, 8, 0 and 8.
    estimates = [np.array([30.0 - far, 50.0, 20.0]) for far in (0, 4, 6, 10)]
    oracle = LocalTableOracle(pair_frame, pair_schema, rng=InsecureSeededRng(6))
    lazy = LazyEstimates(4, estimates.__getitem__, total=100.0)
    drawn = [
        oracle.select([("a",)] * 4, lazy, epsilon=1.0, weights=[1, 2, 3, 1], penalties=[0.0, 0.0, 6.0, 2.0])
        for _ in range(N_LAZY_SELECTIONS)
    ]

    def chi_square(scores):
        weights = np.exp(np.array(scores) / (2 * 3))
        expected = N_LAZY_SELECTIONS * weights / weights.sum()
        return float((np.square(np.bincount(drawn, minlength=4) - expected) / expected).sum())

    assert chi_square([0, 8, 0, 8]) < CHI_SQUARE_3
    # Negative control: the weights left out.
    assert chi_square([0, 4, 0, 8]) > CHI_SQUARE_3
    assert oracle.events == [ExponentialMechanism(1.0)] * N_LAZY_SELECTIONS


def test_lazy_selection_computes_no_estimate_that_cannot_win(pair_schema, pair_frame):
    oracle = LocalTableOracle(pair_frame, pair_schema, rng=InsecureSeededRng(6))
    asked: list[int] = []
    lazy = LazyEstimates(9, lambda i: asked.append(i) or np.array([0.0, 50.0, 50.0]), total=100.0)
    # The first has distance 60 and weight 9; no other can have more than (100 + 100) * 2.
    assert oracle.select([("a",)] * 9, lazy, epsilon=20.0, weights=[9] + [2] * 8) == 0
    assert asked == [0]


def test_lazy_estimates_that_break_their_word_are_refused():
    with pytest.raises(DomainMismatch, match="exceeds the total"):
        LazyEstimates(1, lambda _: np.array([3.0, 4.0]), total=6.0)[0]
    with pytest.raises(DomainMismatch, match="negative"):
        LazyEstimates(1, lambda _: np.array([3.0, -1.0]), total=6.0)[0]
    with pytest.raises(ValueError, match="total"):
        LazyEstimates(1, lambda _: np.zeros(1), total=math.inf)
    estimates = LazyEstimates(3, lambda i: np.array([float(i)]), total=6.0)
    assert [part.item() for part in estimates[1:]] == [1.0, 2.0]
    assert [part.item() for part in estimates] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "options",
    [{"weights": [0]}, {"weights": [1.5]}, {"weights": [1, 1]}, {"penalties": [math.nan]}, {"penalties": []}],
)
def test_senseless_weights_and_penalties_are_refused_and_nothing_is_charged(pair_schema, pair_frame, options):
    oracle = LocalTableOracle(pair_frame, pair_schema)
    with pytest.raises(DomainMismatch, match=r"weights|penalties"):
        oracle.select([("a",)], [np.zeros(3)], epsilon=1.0, **options)
    assert oracle.events == []


def test_scores_are_exact_l1_distances_in_units_of_two_to_the_minus_twenty():
    counts = np.array([[5, 0], [2, 9]], dtype=np.int64)
    estimate = np.array([[4.25, 0.5], [2.0, 10.0 + 2.0**-21]])
    expected = sum(
        abs(int(c) * 2**20 - round(float(e) * 2**20)) for c, e in zip(counts.ravel(), estimate.ravel(), strict=True)
    )
    assert _score(counts, estimate) == expected


def test_one_patient_more_moves_the_whole_vector_of_marginals_by_the_squared_length_that_is_paid_for():
    domain = Domain(("a", "b", "c"), (3, 2, 4))
    rng = np.random.default_rng(2)
    codes = np.stack([rng.integers(0, size, 50) for size in domain.n_codes], axis=1).astype(np.uint8)
    cliques = [c for k in (1, 2, 3) for c in itertools.combinations(domain.columns, k)]
    change = sum(
        int(np.square(count_marginal(codes, domain, c) - count_marginal(codes[1:], domain, c)).sum()) for c in cliques
    )
    assert change == len(cliques)


@pytest.mark.parametrize("kind", ["all", "lazy"])
def test_no_error_tells_on_which_side_of_a_threshold_a_private_number_lies(kind):
    # Weights and penalties are the asker's. These bring scores, or their bounds, to the largest that the mechanism
    # takes, where one row more or less must not make the difference between an answer and an error.
    schema = Schema.from_dict({"columns": {"b": {"categories": ["0", "1"]}}})
    answers = []
    for n_rows in (4, 5, 6):
        oracle = LocalTableOracle(pd.DataFrame({"b": ["0"] * n_rows}), schema)
        for sign in (1, -1):
            estimates = [np.array([5.0, 0.0])] if kind == "all" else LazyEstimates(1, lambda _: np.zeros(2), total=0.0)
            penalty = sign * (2.0**40 - (5.0 if kind == "lazy" else 0.0))
            answers.append(oracle.select([("b",)], estimates, epsilon=1e-6, weights=[4], penalties=[penalty]))
        assert oracle.events == [ExponentialMechanism(1e-6)] * 2
    assert answers == [0] * 6
