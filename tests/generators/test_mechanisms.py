"""MST, ChowLiu and Independent: one contract, then what is particular to each, and their error on real patients."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from generators import (
    MST,
    Adaptive,
    BudgetInvalid,
    ChowLiu,
    Domain,
    DomainMismatch,
    GraphicalModel,
    Independent,
    LocalTableOracle,
    Measurement,
    NoLikelyRow,
    PrivBayes,
    UnknownColumn,
    count_marginal,
    encode,
    kaplan_meier,
    workload_error,
)
from generators.chowliu import choose_edges
from generators.inference import Evidence
from generators.rules import forbidden_codes, known_edges
from generators.shrinkage import shrink_edges
from privacy import (
    DistributedDiscreteGaussian,
    InsecureSeededRng,
    Schema,
    SchemaError,
    ZcdpAccountant,
    epsilon_to_rho,
    rho_of,
)

MECHANISMS = [MST, ChowLiu, Independent, PrivBayes, Adaptive]
DELTA = 1e-9
N_SEEDS = 4


@pytest.fixture(params=MECHANISMS, ids=lambda mechanism: mechanism.__name__)
def mechanism(request):
    return request.param


def test_what_was_spent_stays_within_the_budget_and_close_to_it(mechanism, clinic_schema, clinic_frame):
    # Large budgets of the mechanism that takes a second for one: tests/generators/test_budgets.py.
    for epsilon in (0.05, 1.0) if mechanism is Adaptive else (0.05, 1.0, 20.0):
        model = mechanism(epsilon=epsilon, delta=DELTA).fit(clinic_frame, clinic_schema)
        accountant = ZcdpAccountant(neighbours=model.neighbours)
        for event in model.events:
            accountant.compose(event)
        budget = epsilon_to_rho(epsilon, DELTA)
        assert 0.999999 * budget < accountant.rho <= budget
        assert accountant.epsilon(delta=DELTA) <= epsilon * (1 + 1e-9)
        # With loops, the certificate lags far behind the fit, and what was shrunk has little noise left.
        assert model.fit_gap <= (1 if mechanism is Adaptive else 1e-4)


def test_synthetic_rows_fit_the_schema_and_keep_its_rules(mechanism, clinic_schema, clinic_frame):
    for epsilon in (0.05, 5.0):
        model = mechanism(epsilon=epsilon, delta=DELTA).fit(clinic_frame, clinic_schema)
        table = model.sample(1500, log_scale=["wbc"])
        clinic_schema.validate(table.assign(pid=[f"s{i}" for i in range(len(table))]))
        assert len(table) == 1500
        assert "pid" not in table
        assert not ((table["sex"] == "M") & (table["pregnant"] == "yes")).any()
        assert table["time"].min() >= 1


def test_pairs_of_public_knowledge_are_always_joined(mechanism, clinic_schema, clinic_frame):
    model = mechanism(rho=1e-6).fit(clinic_frame, clinic_schema)
    assert {("time", "event"), ("sex", "pregnant")} <= set(model.edges)
    assert known_edges(clinic_schema) == (("time", "event"), ("sex", "pregnant"))


def test_one_column_is_enough(mechanism):
    schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
    model = mechanism(epsilon=1.0, delta=DELTA).fit(pd.DataFrame({"sex": ["F"] * 900 + ["M"] * 2100}), schema)
    assert model.edges == ()
    assert model.sample(100)["sex"].eq("F").mean() == pytest.approx(0.3, abs=0.06)
    assert model.total == pytest.approx(3000, abs=150)


@pytest.mark.parametrize(
    ("budget", "rule"),
    [
        ({}, "budget is missing"),
        ({"epsilon": 1.0}, "budget is missing"),
        ({"epsilon": 1.0, "delta": 1e-9, "rho": 0.1}, "given twice"),
        ({"epsilon": 0.0, "delta": 1e-9}, "epsilon must be a finite number > 0"),
        ({"epsilon": -1.0, "delta": 1e-9}, "epsilon must be"),
        ({"epsilon": math.nan, "delta": 1e-9}, "epsilon must be"),
        ({"epsilon": math.inf, "delta": 1e-9}, "epsilon must be"),
        ({"epsilon": 1.0, "delta": 0.0}, "delta must lie strictly between"),
        ({"epsilon": 1.0, "delta": 1.0}, "delta must lie"),
        ({"epsilon": 1.0, "delta": math.nan}, "delta must lie"),
        ({"rho": 0.0}, "rho must be"),
        ({"rho": math.nan}, "rho must be"),
    ],
)
def test_a_budget_that_is_none_is_refused(mechanism, budget, rule):
    with pytest.raises(BudgetInvalid, match=rule):
        mechanism(**budget)


def test_a_table_that_does_not_fit_is_refused(mechanism, clinic_schema, clinic_frame):
    fitter = mechanism(epsilon=1.0, delta=DELTA)
    with pytest.raises(SchemaError, match="no rows"):
        fitter.fit(clinic_frame.head(0), clinic_schema)
    with pytest.raises(SchemaError, match="'hair': is not in the schema"):
        fitter.fit(clinic_frame.assign(hair="red"), clinic_schema)
    with pytest.raises(SchemaError, match="missing from the table"):
        fitter.fit(clinic_frame.drop(columns="age"), clinic_schema)
    with pytest.raises(DomainMismatch, match="either a frame or an oracle"):
        fitter.fit(None, clinic_schema)


@pytest.mark.slow
def test_the_noise_has_no_seed_at_the_public_doors(mechanism, clinic_schema, clinic_frame):
    assert not {"seed", "rng", "random_state"} & set(inspect.signature(mechanism).parameters)
    with pytest.raises(TypeError, match=r"never comes from numpy\.random"):
        mechanism(epsilon=1.0, delta=DELTA).fit(clinic_frame, clinic_schema, rng=np.random.default_rng(1))
    first, second = (mechanism(epsilon=1.0, delta=DELTA).fit(clinic_frame, clinic_schema) for _ in range(2))
    assert not np.array_equal(first.measurements[0].values, second.measurements[0].values) or not np.array_equal(
        first.measurements[2].values, second.measurements[2].values
    )
    # Only a source that says in its name that it protects nobody repeats itself.
    same = [
        mechanism(epsilon=1.0, delta=DELTA).fit(clinic_frame, clinic_schema, rng=InsecureSeededRng(3)) for _ in range(2)
    ]
    for one, two in zip(same[0].measurements, same[1].measurements, strict=True):
        assert np.array_equal(one.values, two.values)


def test_a_seeded_sampler_repeats_itself_and_an_unseeded_one_does_not(mechanism, clinic_schema, clinic_frame):
    model = mechanism(epsilon=1.0, delta=DELTA).fit(clinic_frame, clinic_schema)
    first, second = (model.sample(200, rng=np.random.default_rng(5)) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert not model.sample(200).equals(model.sample(200))
    with pytest.raises(TypeError, match=r"numpy\.random\.Generator"):
        model.sample(10, rng=InsecureSeededRng(1))
    with pytest.raises(ValueError, match="n must be"):
        model.sample(0)


def test_an_oracle_stands_in_for_the_rows(mechanism, clinic_schema, clinic_frame):
    oracle = LocalTableOracle(clinic_frame, clinic_schema)
    oracle.measure([("age",)], rho=0.01)
    model = mechanism(epsilon=1.0, delta=DELTA).fit(None, clinic_schema, oracle=oracle)
    # Earlier spends at the same oracle are not this model's.
    assert list(model.events) == oracle.events[1:]
    with pytest.raises(DomainMismatch, match="leave rng out"):
        mechanism(epsilon=1.0, delta=DELTA).fit(None, clinic_schema, oracle=oracle, rng=InsecureSeededRng(1))
    with pytest.raises(DomainMismatch, match="either a frame or an oracle"):
        mechanism(epsilon=1.0, delta=DELTA).fit(clinic_frame, clinic_schema, oracle=oracle)


def test_an_oracle_of_fewer_columns_gives_a_model_of_those(mechanism, clinic_schema, clinic_frame):
    wanted = ("age", "time", "event")
    part = clinic_schema.subset(wanted)
    oracle = LocalTableOracle(clinic_frame[list(wanted)], part)
    model = mechanism(epsilon=1.0, delta=DELTA).fit(None, clinic_schema, oracle=oracle)
    assert list(model.sample(5).columns) == list(wanted)
    other = Schema.from_dict({"columns": {"age": {"kind": "integer", "bounds": [0, 110]}}})
    with pytest.raises(DomainMismatch, match="the oracle's domain is not the schema's"):
        mechanism(epsilon=1.0, delta=DELTA).fit(None, other, oracle=oracle)


def test_any_oracle_that_adds_noise_to_sums_will_do_for_chow_liu(leuk_frame, leuk_schema):
    class Sites:
        """Five sites' sums with the noise of three parties, two of them honest; offers no selection."""

        def __init__(self):
            self.domain = Domain.from_schema(leuk_schema)
            self.neighbours = "add_remove_one"
            self.events = []

        def measure(self, cliques, *, rho):
            codes = encode(leuk_frame, leuk_schema)
            rng = np.random.default_rng(1)
            event = DistributedDiscreteGaussian(
                per_party_scale=4.0,
                n_honest=2,
                dimension=sum(self.domain.cells(clique) for clique in cliques),
                l1_sensitivity=len(cliques),
                l2_sensitivity_squared=len(cliques),
            )
            assert rho_of(event) <= rho
            self.events.append(event)
            std = 4.0 * math.sqrt(3)
            return [
                Measurement(
                    clique,
                    sum(
                        count_marginal(codes[site::5], self.domain, clique)
                        + np.rint(rng.normal(0, std / math.sqrt(5), self.domain.sizes(clique))).astype(np.int64)
                        for site in range(5)
                    ),
                    std,
                )
                for clique in cliques
            ]

    model = ChowLiu(rho=1.0).fit(None, leuk_schema, oracle=Sites())
    assert [event.kind for event in model.events] == ["distributed_discrete_gaussian"]
    assert model.total == pytest.approx(len(leuk_frame), rel=0.05)
    assert len(model.edges) >= 1


@pytest.mark.slow
def test_patients_with_several_rows_cost_more_noise(mechanism, clinic_schema, clinic_frame):
    one = mechanism(rho=0.5).fit(clinic_frame, clinic_schema)
    three = mechanism(rho=0.5, max_records_per_patient=3).fit(clinic_frame, clinic_schema)
    assert three.measurements[0].noise_std == pytest.approx(3 * one.measurements[0].noise_std)
    replaced = mechanism(rho=0.5, neighbours="replace_one").fit(clinic_frame, clinic_schema)
    assert replaced.neighbours == "replace_one"
    assert replaced.measurements[0].noise_std == pytest.approx(math.sqrt(2) * one.measurements[0].noise_std)


# ---- the model -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rich_model(leuk_frame, leuk_schema) -> GraphicalModel:
    return ChowLiu(rho=1000.0).fit(leuk_frame, leuk_schema, rng=InsecureSeededRng(1))


def test_conditional_rows_have_the_exact_conditional_distribution(rich_model):
    n = 2000
    table = rich_model.sample(n, given={"event": "1", "sex": "0"}, rng=np.random.default_rng(1))
    assert table["event"].eq("1").all()
    assert table["sex"].eq("0").all()
    joint = rich_model.marginal(["time", "event", "sex"]).estimate[:, 1, 0]
    found = table["time"].astype(int).value_counts().reindex(range(len(joint)), fill_value=0).to_numpy() / n
    assert np.abs(found - joint / joint.sum()).max() <= 1 / n + 1e-9


def test_conditions_may_be_labels_numbers_or_missing(clinic_schema, clinic_frame):
    model = ChowLiu(epsilon=10.0, delta=DELTA).fit(clinic_frame, clinic_schema)
    assert model.sample(50, given={"age": "20-39"})["age"].between(20, 39).all()
    assert model.sample(50, given={"age": 63})["age"].between(60, 79).all()
    assert model.sample(50, given={"wbc": None})["wbc"].isna().all()
    with pytest.raises(DomainMismatch, match="none of its values; labels: F, M") as caught:
        model.sample(5, given={"sex": "unknown"})
    assert "unknown" not in str(caught.value)
    with pytest.raises(UnknownColumn, match="'hair'"):
        model.sample(5, given={"hair": "red"})
    with pytest.raises(NoLikelyRow, match="sex, pregnant"):
        model.sample(5, given={"sex": "M", "pregnant": "yes"})


def test_rules_that_no_edge_carries_are_kept_by_drawing_again():
    columns = {name: {"categories": ["0", "1"]} for name in "abcd"}
    schema = Schema.from_dict(
        {
            "columns": columns,
            "rules": [
                {"forbid": {"a": "1", "b": "1", "c": "1"}},
                # These three close a triangle, so one of them is on no edge.
                {"forbid": {"a": "0", "d": "1"}},
                {"forbid": {"b": "0", "d": "0"}},
                {"forbid": {"a": "1", "b": "0"}},
            ],
        }
    )
    frame = pd.DataFrame({"a": ["0", "1"], "b": ["1", "1"], "c": ["1", "0"], "d": ["0", "1"]})
    table = Independent(epsilon=5.0, delta=DELTA).fit(pd.concat([frame] * 200), schema).sample(500)
    schema.validate(table)
    assert len(forbidden_codes(schema)) == 4
    assert len(table) == 500


def test_a_rule_on_a_joined_pair_has_probability_zero_in_the_model(mechanism, clinic_schema, clinic_frame):
    model = mechanism(epsilon=0.1, delta=DELTA).fit(clinic_frame, clinic_schema)
    assert model.marginal(["sex", "pregnant"]).estimate[1, 1] == 0
    assert model.marginal(["pregnant", "age", "sex"]).estimate[1, :, 1].max() == 0


def test_rules_that_leave_nothing_end_in_an_error_not_in_a_loop():
    columns = {name: {"categories": ["0", "1"]} for name in "abc"}
    rules = [{"forbid": dict(zip("abc", f"{i:03b}", strict=True))} for i in range(8)]
    schema = Schema.from_dict({"columns": columns})
    model = Independent(rho=10.0).fit(pd.DataFrame({name: ["0", "1"] for name in "abc"}), schema)
    from dataclasses import replace

    impossible = replace(model, schema=Schema.from_dict({"columns": columns, "rules": rules}))
    with pytest.raises(NoLikelyRow, match="forbid nearly every row"):
        impossible.sample(5)


def test_marginals_come_with_the_error_of_their_measurements(rich_model):
    estimate, std_error = rich_model.marginal(["sex"])
    assert estimate.shape == std_error.shape == (2,)
    noise = rich_model.measurements[0].noise_std
    # sex was counted alone, and in six pairs that sum over the other column's codes.
    sizes = [rich_model.domain[name] for name in rich_model.domain if name != "sex"]
    expected = noise / math.sqrt(1 + sum(1 / size for size in sizes))
    assert std_error[0] == pytest.approx(expected)
    assert rich_model.marginal(["sex", "age"]).std_error[0, 0] == pytest.approx(noise)
    assert np.isnan(rich_model.marginal(["sex", "age", "time"]).std_error).all()
    assert rich_model.marginal(["age", "sex"]).estimate.sum() == pytest.approx(rich_model.total)


def test_stated_standard_errors_hold(leuk_frame, leuk_schema):
    exact = leuk_frame["sex"].value_counts().sort_index().to_numpy()
    scores = []
    for seed in range(60):
        model = Independent(rho=0.02).fit(leuk_frame, leuk_schema, rng=InsecureSeededRng(seed))
        estimate, std_error = model.marginal(["sex"])
        scores.append((estimate - exact) / std_error)
    # The fit uses the total as well, so it is a little better than stated, never worse: chi-square, 120 terms.
    assert 0.4 < np.square(scores).mean() < 1 + 4.9 * math.sqrt(2 / 120)


# ---- error on real patients ----------------------------------------------------------------------------------------


def mean_error(mechanism, frame, schema, *, epsilon, order=3):
    domain, codes = Domain.from_schema(schema), encode(frame, schema)
    errors = []
    for seed in range(N_SEEDS):
        model = mechanism(epsilon=epsilon, delta=DELTA).fit(frame, schema, rng=InsecureSeededRng(seed))
        rows = model.sample_codes(round(model.total), rng=np.random.default_rng(seed))
        errors.append(workload_error(codes, rows, domain, order=order))
    return float(np.mean(errors))


# Ranges around the values measured with other seeds; the reference code gave .646 (MST, 10), .950 (MST, 1), .783
# (independent, 1) and .749 (independent, 10), and a bootstrap of the real table .395.
@pytest.mark.parametrize(
    ("mechanism", "epsilon", "low", "high"),
    [
        (MST, 10.0, 0.63, 0.68),
        (MST, 1.0, 0.74, 0.86),
        (ChowLiu, 10.0, 0.645, 0.685),
        (ChowLiu, 1.0, 0.74, 0.85),
        (Independent, 10.0, 0.72, 0.76),
        (Independent, 1.0, 0.74, 0.82),
    ],
)
def test_three_way_error_on_leukaemia_patients_is_in_the_measured_range(
    mechanism, epsilon, low, high, leuk_frame, leuk_schema
):
    assert low < mean_error(mechanism, leuk_frame, leuk_schema, epsilon=epsilon) < high


def test_chow_liu_is_not_worse_than_independence_where_there_is_budget(leuk_frame, leuk_schema):
    chow_liu, independent = (mean_error(kind, leuk_frame, leuk_schema, epsilon=10.0) for kind in (ChowLiu, Independent))
    assert chow_liu <= 1.02 * independent


def test_the_published_order_of_patients_is_unrelated_to_their_survival(leuk_frame, leuk_schema):
    model = ChowLiu(epsilon=10.0, delta=DELTA).fit(leuk_frame, leuk_schema)
    n = 4000
    time = model.sample(n)["time"].astype(int)
    assert abs(spearmanr(np.arange(n), time).statistic) * math.sqrt(n - 1) < 4.9
    # Negative control: the source table itself is sorted by survival time.
    assert spearmanr(np.arange(len(leuk_frame)), leuk_frame["time"]).statistic > 0.9


def test_survival_of_the_synthetic_patients_follows_the_real(leuk_frame, leuk_schema):
    model = ChowLiu(epsilon=10.0, delta=DELTA).fit(leuk_frame, leuk_schema, rng=InsecureSeededRng(1))
    table = model.sample(5000, rng=np.random.default_rng(1)).astype(int)
    grid = np.arange(13)
    real, synthetic = (
        kaplan_meier(t["time"].to_numpy(dtype=float), t["event"].to_numpy() == 1, grid) for t in (leuk_frame, table)
    )
    assert np.abs(real - synthetic).mean() < 0.03


# ---- choosing edges ------------------------------------------------------------------------------------------------


def test_a_planted_tree_is_found_and_pure_noise_is_rarely_joined():
    rng = np.random.default_rng(1)
    domain = Domain(("a", "b", "c", "d", "e"), (4, 4, 4, 4, 4))
    n = 20_000
    a = rng.integers(0, 4, n)
    noisy_copy = lambda x, keep: np.where(rng.random(n) < keep, x, rng.integers(0, 4, n))  # noqa: E731
    b = noisy_copy(a, 0.6)
    c = noisy_copy(b, 0.6)
    d = noisy_copy(b, 0.5)
    e = rng.integers(0, 4, n)
    table = dict(zip(domain.columns, (a, b, c, d, e), strict=True))

    def evidence(std, *, shuffled):
        from itertools import combinations

        codes = {name: rng.permutation(x) if shuffled else x for name, x in table.items()}
        out = {}
        for clique in [*((name,) for name in domain), *combinations(domain.columns, 2)]:
            index = np.ravel_multi_index([codes[name] for name in clique], domain.sizes(clique))
            counts = np.bincount(index, minlength=domain.cells(clique)).reshape(domain.sizes(clique))
            out[clique] = Evidence(clique, counts + rng.normal(0, std, counts.shape), std**2)
        return out

    assert set(choose_edges(evidence(100.0, shuffled=False), domain)) == {("a", "b"), ("b", "c"), ("b", "d")}
    joined = [len(choose_edges(evidence(100.0, shuffled=True), domain)) for _ in range(40)]
    # One pair in ten is the stated rate, and there are ten pairs; forty trees may be off by a third.
    assert np.mean(joined) < 1.3
    # Known pairs are joined without evidence, and never closed to a cycle.
    assert choose_edges(evidence(100.0, shuffled=True), domain, [("d", "e")])[0] == ("d", "e")


def test_chow_liu_at_a_tiny_budget_joins_few_pairs(leuk_frame, leuk_schema):
    joined = [
        len(ChowLiu(rho=1e-6).fit(leuk_frame, leuk_schema, rng=InsecureSeededRng(seed)).edges) for seed in range(20)
    ]
    # 21 pairs, one in ten.
    assert np.mean(joined) < 2.6


def test_chow_liu_needs_one_release_of_all_singles_and_pairs(leuk_frame, leuk_schema):
    class Counting(LocalTableOracle):
        asked: list = []  # noqa: RUF012 - one test, one list

        def measure(self, cliques, *, rho):
            self.asked.append((tuple(cliques), rho))
            return super().measure(cliques, rho=rho)

        def select(self, candidates, estimates, *, epsilon):
            raise AssertionError(f"ChowLiu asked for a selection of {len(candidates)}, {len(estimates)} at {epsilon}")

    oracle = Counting(leuk_frame, leuk_schema)
    model = ChowLiu(rho=0.7).fit(None, leuk_schema, oracle=oracle)
    [(cliques, rho)] = oracle.asked
    names = leuk_schema.names
    assert cliques[:7] == tuple((name,) for name in names)
    assert cliques[7:] == tuple((names[i], names[j]) for i in range(7) for j in range(i + 1, 7))
    assert rho == 0.7
    assert len(model.events) == 1


def test_mst_finds_the_strongest_pairs_with_a_large_budget(leuk_frame, leuk_schema):
    model = MST(rho=1000.0).fit(leuk_frame, leuk_schema)
    assert len(model.edges) == 6
    domain, codes = Domain.from_schema(leuk_schema), encode(leuk_frame, leuk_schema).astype(int)
    distance = {}
    for i in range(7):
        for j in range(i + 1, 7):
            pair = np.zeros((domain.n_codes[i], domain.n_codes[j]))
            np.add.at(pair, (codes[:, i], codes[:, j]), 1)
            pair /= pair.sum()
            distance[domain.columns[i], domain.columns[j]] = np.abs(pair - np.outer(pair.sum(1), pair.sum(0))).sum()
    assert max(distance, key=distance.get) in model.edges


def test_shrinking_leaves_strong_dependence_and_removes_noise():
    domain = Domain(("a", "b"), (8, 8))
    rng = np.random.default_rng(4)
    ones = [Evidence((name,), np.full(8, 1000.0), 1.0) for name in "ab"]
    strong = np.diag(np.full(8, 1000.0)) + rng.normal(0, 5, (8, 8))
    *_, kept = shrink_edges([*ones, Evidence(("a", "b"), strong, 25.0)], domain)
    assert np.abs(kept.values - strong).max() < 0.01 * 1000
    weak = np.full((8, 8), 125.0) + rng.normal(0, 50, (8, 8))
    *_, shrunk = shrink_edges([*ones, Evidence(("a", "b"), weak, 2500.0)], domain)
    assert np.abs(shrunk.values - 125).mean() < 0.5 * np.abs(weak - 125).mean()
