"""Attacks on every mechanism: bounds stay below the claim, what is broken is caught, and only oracles see rows."""

from __future__ import annotations

import math
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import (
    AIM,
    MST,
    Adaptive,
    BudgetInvalid,
    ChowLiu,
    Domain,
    Independent,
    LocalTableOracle,
    Measurement,
    PrivBayes,
    binning,
    private_edges,
)
from generators.auditing import Selection, audit_mechanism, transcript
from generators.grouping import merge_codes
from generators.marginals import count_marginal
from generators.selection import exponential_mechanism
from privacy import ExponentialMechanism, InsecureSeededRng, NumericalAccountant, Schema, SchemaError
from privacy.auditing import audit

MECHANISMS = [Independent, ChowLiu, MST, PrivBayes]
# These fit a model in each round, so a run takes fifty times as long.
ROUND_BY_ROUND = [AIM, Adaptive]
CONFIDENCE = 0.99
# SYNTHEMA_AUDIT_RUNS=10000 attacks those as long as the others: 25 to 35 minutes of processor time each.
N_RUNS_ROUNDS = int(os.environ.get("SYNTHEMA_AUDIT_RUNS", "300"))
# From 258 on, rules are thresholds: fewer different scores would be taken as a set of values.
N_RUNS = 300
# Half noise is worth least in MST, where a third of the budget is for selections.
N_RUNS_BROKEN = {Independent: 400, ChowLiu: 400, MST: 1000, PrivBayes: 300}
N_RUNS_SLOW = dict.fromkeys(MECHANISMS, 10_000) | {PrivBayes: int(os.environ.get("SYNTHEMA_AUDIT_RUNS", "5000"))}
# Gaussian noise at this budget is mu-Gaussian-DP with mu = sqrt(2 rho) = 1.
RHO, MU = 0.5, 1.0

SCHEMA = Schema.from_dict({"columns": {name: {"categories": ["0", "1"]} for name in "abcd"}})
DOMAIN = Domain.from_schema(SCHEMA)


def worst_case() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two neighbours: a patient with code 0 everywhere, or not.

    a and b go together as much as c and d go apart, so that this patient moves the scores of two pairs, which are as
    good as each other, in opposite directions.
    """
    half = np.repeat([0, 1], 60)
    rng = np.random.default_rng(7)
    noisy = np.where(rng.random(120) < 0.2, 1 - half, half)
    order = rng.permutation(120)
    rows = np.stack([half, noisy, half[order], 1 - noisy[order]], axis=1)
    table = pd.DataFrame(rows.astype(str), columns=list("abcd"))
    patient = pd.DataFrame([["0"] * 4], columns=list("abcd"))
    return pd.concat([table, patient], ignore_index=True), table


def claimed(mechanism):
    """The curve, delta at each epsilon, that the events of a run add up to."""
    accountant = NumericalAccountant(neighbours=mechanism.neighbours)
    for event in mechanism.fit(worst_case()[1], SCHEMA).events:
        accountant.compose(event)
    return lambda epsilon: accountant.delta(epsilon=epsilon)


@pytest.mark.parametrize(
    ("kind", "n_runs", "least"),
    [
        *(pytest.param(kind, N_RUNS, 0.0, id=f"few-{kind.__name__}") for kind in (Independent, ChowLiu)),
        *(
            pytest.param(kind, N_RUNS_SLOW[kind], 0.75, id=f"many-{kind.__name__}", marks=pytest.mark.slow)
            for kind in MECHANISMS
        ),
    ],
)
def test_no_attack_on_worst_case_neighbours_beats_the_claim(kind, n_runs, least):
    mechanism = kind(rho=RHO)
    result = audit_mechanism(
        mechanism, SCHEMA, *worst_case(), n_runs=n_runs, confidence=CONFIDENCE, rng=InsecureSeededRng(11)
    )
    # The curve is a theorem. So is MU for Gaussian noise alone; the exponential mechanisms' part of the budget can be
    # worth a little more than its Gaussian equivalent, not so much that these runs would show it.
    assert not result.contradicts(claimed(mechanism))
    assert least < result.gaussian_dp_lower < MU


@pytest.mark.slow
@pytest.mark.parametrize("kind", ROUND_BY_ROUND, ids=lambda kind: kind.__name__)
def test_no_attack_on_a_mechanism_of_many_rounds_beats_the_claim(kind):
    mechanism = kind(rho=RHO)
    result = audit_mechanism(
        mechanism, SCHEMA, *worst_case(), n_runs=N_RUNS_ROUNDS, confidence=CONFIDENCE, rng=InsecureSeededRng(11)
    )
    assert not result.contradicts(claimed(mechanism))
    assert 0 < result.gaussian_dp_lower < MU


class HalfNoise(LocalTableOracle):
    """Draws half of the noise that it claims and charges for."""

    def measure(self, cliques, *, rho, groups=None):
        half = super().measure(cliques, rho=4 * rho, groups=groups)
        self.events.pop()
        honest = LocalTableOracle.measure(self, [self.domain.columns[:1]] * len(cliques), rho=rho)
        return [Measurement(part.columns, part.values, honest[0].noise_std, part.groups) for part in half]


@pytest.mark.parametrize(
    "kind",
    [Independent, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (ChowLiu, MST, PrivBayes))],
    ids=lambda kind: kind.__name__,
)
def test_half_of_the_noise_is_caught(kind):
    mechanism = kind(rho=RHO)
    result = audit_mechanism(
        mechanism,
        SCHEMA,
        *worst_case(),
        n_runs=N_RUNS_BROKEN[kind],
        confidence=CONFIDENCE,
        oracle=lambda frame, schema, neighbours, rng: HalfNoise(frame, schema, neighbours=neighbours, rng=rng),
        rng=InsecureSeededRng(12),
    )
    assert result.gaussian_dp_lower > MU
    if kind in {Independent, ChowLiu}:
        assert result.contradicts(claimed(mechanism))


@pytest.mark.parametrize(
    "kind", [Independent, pytest.param(MST, marks=pytest.mark.slow)], ids=lambda kind: kind.__name__
)
def test_half_of_the_sensitivity_is_caught_and_the_whole_is_enough(kind):
    more, fewer = worst_case()
    twice = pd.concat([more, more.tail(1)], ignore_index=True)

    def records(most):
        return lambda frame, schema, neighbours, rng: LocalTableOracle(
            frame, schema, neighbours=neighbours, max_records_per_patient=most, rng=rng
        )

    honest, broken = (
        audit_mechanism(
            kind(rho=RHO), SCHEMA, twice, fewer, n_runs=400, oracle=records(most), rng=InsecureSeededRng(13)
        )
        for most in (2, 1)
    )
    assert honest.gaussian_dp_lower < MU < broken.gaussian_dp_lower


@pytest.mark.slow
def test_replacing_a_patient_costs_what_replace_one_says():
    more, fewer = worst_case()
    other = pd.concat([fewer, pd.DataFrame([["1"] * 4], columns=list("abcd"))], ignore_index=True)
    for kind in (Independent, MST):
        result = audit_mechanism(
            kind(rho=RHO, neighbours="replace_one"), SCHEMA, more, other, n_runs=N_RUNS, rng=InsecureSeededRng(14)
        )
        assert 0.0 < result.gaussian_dp_lower < MU


def bounded_range_delta(epsilon, at):
    """The worst delta of any mechanism of bounded range `epsilon`: losses t and t - epsilon (Dong, Durfee, Rogers)."""
    t = np.linspace(1e-6, epsilon - 1e-6, 2000)
    p = (math.exp(epsilon) - np.exp(t)) / math.expm1(epsilon)
    return float((p * np.maximum(0.0, 1 - np.exp(at - t))).max())


@pytest.mark.parametrize("factor", [1, 2])
def test_selection_keeps_its_range_and_half_of_its_sensitivity_is_caught(factor):
    schema = Schema.from_dict({"columns": {"a": {"categories": ["0", "1"]}}})
    table_in, table_out = (pd.DataFrame({"a": ["0"] * n + ["1"] * 9}) for n in (6, 5))
    # The patient brings the first candidate nearer to its estimate and the second one away from it: 0.5 to -0.5.
    estimates = [np.array([5.5 + 4, 9.0]), np.array([5.5 - 4, 9.0])]
    epsilon = 2.0
    oracles = {}

    def choose(table, rng):
        oracle = oracles.setdefault(id(table), LocalTableOracle(table, schema, rng=rng))
        chosen = oracle.select([("a",), ("a",)], estimates, epsilon=factor * epsilon)
        assert oracle.events.pop() == ExponentialMechanism(factor * epsilon)
        return chosen

    result = audit(choose, table_in, table_out, n_runs=1500, confidence=CONFIDENCE, rng=InsecureSeededRng(15))
    assert result.contradicts(lambda at: bounded_range_delta(epsilon, at) if at < epsilon else 0.0) == (factor == 2)


@pytest.mark.parametrize("factor", [1, 2])
def test_private_bins_keep_their_range_and_half_of_their_sensitivity_is_caught(factor, monkeypatch):
    schema = Schema.from_dict({"columns": {"age": {"kind": "integer", "bounds": [0, 110]}}})
    # Two possible edges that split equally badly; a patient below both makes one better and the other worse.
    fewer = pd.DataFrame({"age": [10] * 5 + [50] * 10 + [90] * 5})
    more = pd.concat([fewer, pd.DataFrame({"age": [10]})], ignore_index=True)
    epsilon = 1.0
    if factor == 2:
        monkeypatch.setattr(
            binning,
            "exponential_mechanism",
            lambda found, *, epsilon, sensitivity, rng: exponential_mechanism(
                found, epsilon=2 * epsilon, sensitivity=sensitivity, rng=rng
            ),
        )

    def edge(table, rng):
        binned, events = private_edges(
            table, schema, bins={"age": 2}, rho=epsilon**2 / 8, grids={"age": [30.0, 70.0]}, rng=rng
        )
        assert len(events) == 1
        return binned.column("age").edges[0]

    result = audit(edge, more, fewer, n_runs=1000, confidence=CONFIDENCE, rng=InsecureSeededRng(18))
    assert result.contradicts(lambda at: bounded_range_delta(epsilon, at) if at < epsilon else 0.0) == (factor == 2)


@pytest.mark.parametrize("most", [2, 1])
def test_capping_a_patients_rows_keeps_the_claim_and_a_cap_above_what_is_claimed_is_caught(most):
    schema = Schema.from_dict(
        {"table": {"patient_id": "pid"}, "columns": {"pid": {"role": "identifier"}, "a": {"categories": ["0", "1"]}}}
    )
    fewer = pd.DataFrame({"pid": [f"p{i}" for i in range(20)], "a": ["0", "1"] * 10})
    more = pd.concat([fewer, pd.DataFrame({"pid": ["q"] * 5, "a": ["0"] * 5})], ignore_index=True)

    def count(table, rng):
        oracle = LocalTableOracle(table, schema, max_records_per_patient=2, keep="random", rng=rng)
        oracle._max_records = most  # what the noise is made for
        return oracle.measure([("a",)], rho=RHO)[0].values[0]

    result = audit(count, more, fewer, n_runs=N_RUNS, confidence=CONFIDENCE, rng=InsecureSeededRng(19))
    assert (result.gaussian_dp_lower > MU) == (most == 1)


def test_a_domain_that_comes_from_the_rows_is_caught():
    more, fewer = worst_case()
    more = pd.concat([more, pd.DataFrame([["7", "0", "0", "0"]], columns=list("abcd"))], ignore_index=True)

    def leaky(table, rng):
        columns = {name: {"categories": sorted(table[name].unique())} for name in table}
        schema = Schema.from_dict({"columns": columns})
        oracle = LocalTableOracle(table, schema, rng=rng)
        return sum(
            part.values.size
            for part in transcript(Independent(rho=RHO), schema, oracle)
            if isinstance(part, Measurement)
        )

    result = audit(leaky, more, fewer, n_runs=400, confidence=CONFIDENCE, rng=InsecureSeededRng(16))
    assert result.epsilon_lower > 3
    # The schema decides instead, and refuses; what it says names no value.
    for kind in [*MECHANISMS, *ROUND_BY_ROUND]:
        with pytest.raises(SchemaError) as caught:
            kind(rho=RHO).fit(more, SCHEMA)
        assert "7" not in str(caught.value).replace("column 'a'", "")


def test_an_extreme_value_is_refused_not_learned():
    schema = Schema.from_dict(
        {"columns": {"age": {"kind": "integer", "bounds": [0, 110], "edges": [40]}, "sex": {"categories": ["F", "M"]}}}
    )
    frame = pd.DataFrame({"age": [30, 50] * 50, "sex": ["F", "M"] * 50})
    extreme = pd.concat([frame, pd.DataFrame({"age": [987], "sex": ["F"]})], ignore_index=True)
    for kind in [*MECHANISMS, *ROUND_BY_ROUND]:
        kind(rho=RHO).fit(frame, schema)
        with pytest.raises(SchemaError) as caught:
            kind(rho=RHO).fit(extreme, schema)
        assert "987" not in str(caught.value)


class Replay:
    """Gives a recorded transcript again, whatever it is asked; it holds no rows."""

    def __init__(self, answers):
        self.domain, self.neighbours, self.events = DOMAIN, "add_remove_one", []
        self.answers = list(answers)

    def measure(self, cliques, *, rho, groups=None):
        assert rho > 0
        assert groups is None or set(groups) <= set(self.domain)
        out = [self.answers.pop(0) for _ in cliques]
        assert [part.columns for part in out] == [tuple(clique) for clique in cliques]
        return out

    def select(self, candidates, estimates, *, epsilon, weights=None, penalties=None, groups=None):
        known = self.answers.pop(0)
        assert tuple(candidates) == known.candidates
        assert all(np.array_equal(one, two) for one, two in zip(estimates, known.estimates, strict=True))
        assert (epsilon, tuple(weights or [1] * len(candidates))) == (known.epsilon, known.weights)
        assert penalties is None or tuple(penalties) == known.penalties
        assert set(groups or ()) == set(known.groups)
        return known.chosen


@pytest.mark.parametrize("kind", [*MECHANISMS, *ROUND_BY_ROUND], ids=lambda kind: kind.__name__)
def test_candidates_shapes_and_model_follow_from_public_answers_alone(kind):
    mechanism = kind(rho=RHO)
    answers = transcript(mechanism, SCHEMA, LocalTableOracle(worst_case()[0], SCHEMA))
    replay = Replay(answers)
    model = mechanism.fit(None, SCHEMA, oracle=replay)
    assert replay.answers == []
    again = mechanism.fit(None, SCHEMA, oracle=Replay(answers))
    for one, two in zip(model.marginals.cliques, again.marginals.cliques, strict=True):
        assert np.array_equal(one, two)


def test_a_mechanism_that_spends_too_much_is_refused():
    class Greedy(Independent):
        def _explore(self, oracle, known):
            oracle.measure([("a",)], rho=0.01 * self.rho)
            return super()._explore(oracle, known)

    with pytest.raises(BudgetInvalid, match="more than its budget"):
        audit_mechanism(Greedy(rho=RHO), SCHEMA, *worst_case(), n_runs=20)


# ---- scores ----------------------------------------------------------------------------------------------------------


def scores(selection: Selection, codes: np.ndarray) -> np.ndarray:
    """What the selection would score on a table: written down again, from its definition."""
    return np.array(
        [
            weight * (np.abs(merge_codes(count_marginal(codes, DOMAIN, c), c, selection.groups) - estimate).sum() - pen)
            for c, estimate, weight, pen in zip(
                selection.candidates, selection.estimates, selection.weights, selection.penalties, strict=True
            )
        ]
    )


@pytest.fixture(scope="module")
def selections():
    found = []
    for kind in (MST, PrivBayes, AIM, Adaptive):
        for rho in (0.05, 5.0):
            oracle = LocalTableOracle(worst_case()[0], SCHEMA, rng=InsecureSeededRng(17))
            found += [a for a in transcript(kind(rho=rho), SCHEMA, oracle) if isinstance(a, Selection)]
    return found


ROW = st.tuples(*[st.integers(0, 1)] * 4)


@given(st.lists(ROW, min_size=1, max_size=30), ROW, st.integers(0, 200))
def test_no_score_of_a_mechanism_changes_by_more_than_its_sensitivity(selections, rows, row, copies):
    table = np.array(rows + rows[:1] * copies, dtype=np.uint8)
    more = np.concatenate([table, np.array([row], dtype=np.uint8)])
    other = more[1:]
    for selection in selections:
        before = scores(selection, table)
        most = max(selection.weights)
        assert np.abs(scores(selection, more) - before).max() <= most + 1e-9
        assert np.abs(scores(selection, other) - before).max() <= 2 * most + 1e-9


def test_mutual_information_over_entropies_breaks_the_sensitivity_that_is_claimed_for_it():
    """Negative control: the check above would find a score whose sensitivity is wrong."""

    def normalised_information(codes):
        pair = count_marginal(codes, DOMAIN, ("a", "b")) / len(codes)
        a, b = pair.sum(axis=1), pair.sum(axis=0)
        entropy = [-sum(p * math.log(p) for p in side if p > 0) for side in (a, b)]
        terms = [pair[i, j] * math.log(pair[i, j] / a[i] / b[j]) for i in (0, 1) for j in (0, 1) if pair[i, j] > 0]
        return sum(terms) / math.sqrt(entropy[0] * entropy[1]) if min(entropy) > 0 else 0.0

    n = 1000
    constant = np.zeros((n, 4), dtype=np.uint8)
    more = np.concatenate([constant, np.ones((1, 4), dtype=np.uint8)])
    # Zhang et al. 2017, for plain mutual information in nats.
    claim = 2 / n * math.log((n + 1) / 2) + (n - 1) / n * math.log((n + 1) / (n - 1))
    change = abs(normalised_information(more) - normalised_information(constant))
    assert claim < 0.0145
    assert change == pytest.approx(1.0)
    assert change > 60 * claim
