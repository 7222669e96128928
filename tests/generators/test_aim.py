"""AIM: it stays within its budget and its size, finds what is there, and speaks only through the oracle."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from generators import AIM, Domain, DomainMismatch, Independent, LocalTableOracle
from generators.aim import SizeFilter, candidate_weights
from generators.encoding import encode
from generators.errors import BudgetInvalid
from generators.junction_tree import JunctionTree
from generators.marginals import count_marginal
from privacy import DiscreteGaussian, ExponentialMechanism, InsecureSeededRng, Schema, ZcdpAccountant, rho_of

N_ROWS = 3000


@pytest.fixture(scope="module")
def schema() -> Schema:
    sizes = {"a": 3, "b": 4, "c": 2, "d": 5, "e": 3}
    return Schema.from_dict({"columns": {name: {"categories": list(map(str, range(n)))} for name, n in sizes.items()}})


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """c is the parity of a and b, pairwise nearly independent of each; d follows b; e is alone."""
    rng = np.random.default_rng(8)
    a, b, e = rng.integers(0, 3, N_ROWS), rng.integers(0, 4, N_ROWS), rng.integers(0, 3, N_ROWS)
    c = np.where(rng.random(N_ROWS) < 0.95, (a + b) % 2, rng.integers(0, 2, N_ROWS))
    d = np.where(rng.random(N_ROWS) < 0.8, b, rng.integers(0, 5, N_ROWS))
    return pd.DataFrame({"a": a, "b": b, "c": c, "d": d, "e": e}).astype(str)


def error(model, frame, schema, columns):
    counts = count_marginal(encode(frame, schema), Domain.from_schema(schema), columns)
    return float(np.abs(model.marginals.project(columns) - counts / counts.sum()).sum())


def test_aim_finds_interactions_of_three_columns_that_no_pair_shows(frame, schema):
    aim = AIM(epsilon=5.0, delta=1e-9).fit(frame, schema, rng=InsecureSeededRng(1))
    independent = Independent(epsilon=5.0, delta=1e-9).fit(frame, schema, rng=InsecureSeededRng(1))
    assert error(aim, frame, schema, ("a", "b", "c")) < 0.2
    assert error(independent, frame, schema, ("a", "b", "c")) > 0.8
    assert error(aim, frame, schema, ("b", "d")) < 0.1
    assert aim.marginals.tree.find(("a", "b", "c")) is not None


@pytest.mark.parametrize(
    ("neighbours", "rho"),
    [
        *(("add_remove_one", rho) for rho in [1e-5, 0.01, 3.0]),
        ("replace_one", 3.0),
        *(pytest.param("replace_one", rho, marks=pytest.mark.slow) for rho in (1e-05, 0.01)),
    ],
)
def test_the_events_cost_at_most_the_budget_and_nearly_all_of_it(frame, schema, neighbours, rho):
    model = AIM(rho=rho, neighbours=neighbours).fit(frame, schema, rng=InsecureSeededRng(2))
    accountant = ZcdpAccountant(neighbours=neighbours)
    for event in model.events:
        accountant.compose(event)
    assert rho * (1 - 1e-6) < accountant.rho <= rho
    kinds = [type(event) for event in model.events]
    assert kinds == [DiscreteGaussian] + [ExponentialMechanism, DiscreteGaussian] * (len(kinds) // 2)
    assert model.neighbours == neighbours


def test_rounds_split_their_budget_nine_to_one_and_never_shrink(frame, schema):
    model = AIM(rho=0.1).fit(frame, schema, rng=InsecureSeededRng(3))
    prices = [rho_of(event) for event in model.events[1:]]
    rounds = (
        list(itertools.batched(prices, 2))
        if hasattr(itertools, "batched")
        else list(zip(prices[::2], prices[1::2], strict=True))
    )
    totals = [sum(pair) for pair in rounds]
    assert all(pair[0] / total == pytest.approx(0.1, rel=1e-6) for pair, total in zip(rounds, totals, strict=True))
    assert all(later >= before * (1 - 1e-6) for before, later in itertools.pairwise(totals[:-1]))
    assert totals[0] == pytest.approx(0.1 / (16 * 5), rel=1e-6)


@pytest.mark.parametrize("cells", [17, 40, 100])
def test_the_model_stays_within_its_size(frame, schema, cells):
    model = AIM(epsilon=5.0, delta=1e-9, max_model_bytes=8 * cells).fit(frame, schema, rng=InsecureSeededRng(4))
    assert model.marginals.tree.cells <= cells
    assert model.sample(50).shape == (50, 5)


def test_a_workload_decides_what_is_good(frame, schema):
    model = AIM(epsilon=1.0, delta=1e-9, workload=[("d", "b")]).fit(frame, schema, rng=InsecureSeededRng(5))
    measured = {measurement.columns for measurement in model.measurements}
    assert measured <= {("a",), ("b",), ("c",), ("d",), ("e",), ("b", "d")}
    assert error(model, frame, schema, ("b", "d")) < 0.15


def test_any_oracle_that_selects_will_do_and_only_it_is_asked(frame, schema):
    oracle = LocalTableOracle(frame, schema, rng=InsecureSeededRng(6))
    model = AIM(epsilon=1.0, delta=1e-9).fit(None, schema, oracle=oracle)
    assert list(model.events) == oracle.events


def test_the_same_noise_gives_the_same_model(frame, schema):
    one, other = (AIM(epsilon=1.0, delta=1e-9).fit(frame, schema, rng=InsecureSeededRng(7)) for _ in range(2))
    assert one.marginals.tree == other.marginals.tree
    assert all(np.array_equal(p, q) for p, q in zip(one.marginals.cliques, other.marginals.cliques, strict=True))


def test_rules_and_known_pairs_are_kept(clinic_frame, clinic_schema):
    model = AIM(epsilon=2.0, delta=1e-9).fit(clinic_frame, clinic_schema, rng=InsecureSeededRng(8))
    assert {("sex", "pregnant"), ("time", "event")} <= set(model.edges)
    sex_pregnant = model.marginals.project(("sex", "pregnant"))
    assert sex_pregnant[1, 1] == 0.0
    rows = model.sample(500, rng=np.random.default_rng(1))
    assert not ((rows["sex"] == "M") & (rows["pregnant"] == "yes")).any()


def test_weights_of_candidates_are_the_papers():
    domain = Domain(("a", "b", "c", "d"), (2, 2, 2, 2))
    workload = list(itertools.combinations(domain.columns, 3))
    weights = candidate_weights(domain, workload)
    assert set(weights) == {c for k in (1, 2, 3) for c in itertools.combinations(domain.columns, k)}
    for candidate, weight in weights.items():
        assert weight == sum(len(set(candidate) & set(clique)) for clique in workload)
    # Fractional importances keep their ratios to one part in a thousand, and the largest weight is 1,024.
    fractional = candidate_weights(domain, workload, [0.5, 0.25, 0.125, 1 / 3])
    exact = {
        c: sum(w * len(set(c) & set(s)) for w, s in zip([0.5, 0.25, 0.125, 1 / 3], workload, strict=True))
        for c in weights
    }
    assert max(fractional.values()) == 1024
    for candidate, weight in fractional.items():
        assert weight / 1024 == pytest.approx(exact[candidate] / max(exact.values()), abs=1e-3)


def test_the_size_filter_says_what_the_junction_tree_would_have():
    domain = Domain(("a", "b", "c", "d", "e"), (3, 4, 2, 5, 3))
    joined = [("a", "b"), ("b", "c"), ("c", "d")]
    sizes = SizeFilter(domain, joined[:1])
    for clique in joined[1:]:
        sizes.join(clique)
    for k in (1, 2, 3):
        for clique in itertools.combinations(domain.columns, k):
            cells = JunctionTree.build(domain, [*joined, clique]).cells
            inside = JunctionTree.build(domain, joined).find(clique) is not None
            assert sizes.fits(clique, cells)
            assert sizes.fits(clique, cells - 1) == inside


@pytest.mark.parametrize(
    "options",
    [
        {"workload": []},
        {"weights": [1.0]},
        {"workload": [("a",)], "weights": [1.0, 2.0]},
        {"workload": [("a", "a")]},
    ],
)
def test_a_workload_that_makes_no_sense_is_refused(frame, schema, options):
    with pytest.raises(DomainMismatch):
        AIM(epsilon=1.0, delta=1e-9, **options).fit(frame, schema)


def test_weights_sizes_and_budgets_must_be_positive():
    with pytest.raises(ValueError, match="weight"):
        AIM(rho=1.0, workload=[("a",)], weights=[0.0])
    with pytest.raises(ValueError, match="max_model_bytes"):
        AIM(rho=1.0, max_model_bytes=0)
    with pytest.raises(BudgetInvalid):
        AIM(rho=math.inf)
