"""Adaptive: within its budget, never much worse than the best of the others, and what its shrinking rests on."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

from generators import AIM, MST, Adaptive, Domain, Independent, LocalTableOracle, encode, workload_error
from generators.adaptive import one_way_noise, one_way_part, rounds
from generators.empirical_bayes import overdispersion, shrink, shrink_non_negative
from generators.errors import DomainMismatch
from privacy import InsecureSeededRng, Schema, ZcdpAccountant

DELTA = 1e-9

# "Not worse" means: at most so many times the other's error, by a one-sided t test of paired seeds at this level.
ALLOWED = 1.05
P_THRESHOLD = 0.05
N_SEEDS, N_SEEDS_SLOW = 8, 20


def errors(mechanism, frame, schema, *, epsilon, n_seeds, order=3):
    domain, codes = Domain.from_schema(schema), encode(frame, schema)
    out = []
    for seed in range(n_seeds):
        model = mechanism(epsilon=epsilon, delta=DELTA).fit(frame, schema, rng=InsecureSeededRng(seed))
        rows = model.sample_codes(round(model.total), rng=np.random.default_rng(seed))
        out.append(workload_error(codes, rows, domain, order=order))
    return np.array(out)


def is_not_worse(ours, others):
    """Whether it is shown that the mean of ours is at most ALLOWED times that of the others."""
    excess = ours - ALLOWED * others
    return stats.ttest_1samp(excess, 0.0, alternative="less").pvalue < P_THRESHOLD


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_adaptive_is_not_worse_than_independent_columns_on_few_patients(epsilon, leuk_frame, leuk_schema):
    ours, independent = (
        errors(kind, leuk_frame, leuk_schema, epsilon=epsilon, n_seeds=N_SEEDS) for kind in (Adaptive, Independent)
    )
    assert is_not_worse(ours, independent)


@pytest.mark.slow
def test_negative_control_aim_is_worse_than_independent_columns_on_few_patients(leuk_frame, leuk_schema):
    aim, independent = (
        errors(kind, leuk_frame, leuk_schema, epsilon=0.1, n_seeds=N_SEEDS) for kind in (AIM, Independent)
    )
    assert not is_not_worse(aim, independent)


@pytest.mark.slow
def test_adaptive_is_better_than_independent_columns_where_there_is_budget(leuk_frame, leuk_schema):
    ours, independent = (
        errors(kind, leuk_frame, leuk_schema, epsilon=10.0, n_seeds=2) for kind in (Adaptive, Independent)
    )
    assert ours.mean() < 0.9 * independent.mean()


@pytest.fixture(scope="module")
def many_errors(leuk_frame, leuk_schema):
    """Errors of N_SEEDS_SLOW runs, computed once for each mechanism and epsilon."""
    return cache(lambda kind, epsilon: errors(kind, leuk_frame, leuk_schema, epsilon=epsilon, n_seeds=N_SEEDS_SLOW))


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("other", [Independent, MST, AIM], ids=lambda kind: kind.__name__)
def test_adaptive_is_not_worse_than_any_other_on_few_patients(other, epsilon, many_errors):
    assert is_not_worse(many_errors(Adaptive, epsilon), many_errors(other, epsilon))


@pytest.mark.parametrize(
    ("neighbours", "rho"),
    [
        *(("add_remove_one", rho) for rho in [1e-5, 0.02, 0.3]),
        ("replace_one", 0.3),
        *(pytest.param("replace_one", rho, marks=pytest.mark.slow) for rho in (1e-05, 0.02)),
    ],
)
def test_the_events_cost_at_most_the_budget_and_nearly_all_of_it(neighbours, rho, leuk_frame, leuk_schema):
    model = Adaptive(rho=rho, neighbours=neighbours).fit(leuk_frame, leuk_schema, rng=InsecureSeededRng(1))
    accountant = ZcdpAccountant(neighbours=neighbours)
    for event in model.events:
        accountant.compose(event)
    assert rho * (1 - 1e-8) < accountant.rho <= rho


def test_it_speaks_through_the_oracle_only_and_names_what_it_measured(leuk_frame, leuk_schema):
    oracle = LocalTableOracle(leuk_frame, leuk_schema)
    model = Adaptive(epsilon=3.0, delta=DELTA).fit(None, leuk_schema, oracle=oracle)
    assert list(model.events) == oracle.events
    names = [event for event in model.events if type(event).__name__ == "DiscreteGaussian"]
    assert len(names) == len(model.measurements)
    assert {len(measured.columns) for measured in model.measurements} <= {1, 2, 3}


def test_an_interaction_of_three_columns_that_no_pair_shows_is_found():
    rng = np.random.default_rng(3)
    n = 4000
    a, b = rng.integers(0, 3, n), rng.integers(0, 4, n)
    c = np.where(rng.random(n) < 0.95, (a + b) % 2, rng.integers(0, 2, n))
    frame = pd.DataFrame({"a": a, "b": b, "c": c}).astype(str)
    schema = Schema.from_dict(
        {
            "columns": {
                name: {"categories": list(map(str, range(size)))} for name, size in zip("abc", (3, 4, 2), strict=True)
            }
        }
    )
    model = Adaptive(epsilon=3.0, delta=DELTA).fit(frame, schema, rng=InsecureSeededRng(5))
    truth = np.zeros((3, 4, 2))
    np.add.at(truth, (a, b, c), 1 / n)
    assert np.abs(model.marginals.project(("a", "b", "c")) - truth).sum() < 0.1


@pytest.mark.parametrize("sizes", [(3,), (2, 3), (1, 4), (1,)])
def test_small_domains_work(sizes):
    columns = {f"x{i}": {"categories": [str(k) for k in range(size)]} for i, size in enumerate(sizes)}
    frame = pd.DataFrame({name: ["0"] * 50 for name in columns})
    model = Adaptive(rho=0.5).fit(frame, Schema.from_dict({"columns": columns}))
    assert len(model.sample(20)) == 20


def test_without_room_for_any_pair_the_columns_are_independent(leuk_frame, leuk_schema):
    model = Adaptive(rho=1.0, max_model_bytes=8).fit(leuk_frame, leuk_schema)
    assert model.edges == ()
    with pytest.raises(ValueError, match="max_model_bytes"):
        Adaptive(rho=1.0, max_model_bytes=0)


def test_the_part_of_single_columns_follows_the_noise():
    domain = Domain(("a", "b"), (4, 6))
    noise = one_way_noise(domain, n=500, rho=0.02, noise_unit=math.sqrt(2))
    assert noise == pytest.approx(math.sqrt(2 / math.pi) * math.sqrt(2) * math.sqrt(2 / 0.04) * 5 / 500)
    parts = [one_way_part(h) for h in (0.0, 0.01, 0.1, 0.5, 5.0)]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0.1, 1.0)
    assert rounds(domain) == 3


# ---- empirical Bayes -----------------------------------------------------------------------------------------------


def test_the_overdispersion_of_simulated_counts_is_found():
    rng = np.random.default_rng(10)
    expected = rng.gamma(0.5, 100, 4000)
    truth = rng.gamma(expected / 30, 30.0)
    found = overdispersion(truth + rng.normal(0, 20, 4000), expected, 400.0)
    # The grid's steps are a factor of 1.47; a gamma's tails are not a normal's.
    assert 15 < found < 60
    # Negative control: noise alone.
    assert overdispersion(expected + rng.normal(0, 20, 4000), expected, 400.0, least_gain=3.0) == 0
    with pytest.raises(DomainMismatch, match="same shape"):
        overdispersion(expected, expected[1:], 1.0)


@pytest.mark.parametrize("method", [shrink, shrink_non_negative])
def test_shrunk_counts_are_nearer_to_the_truth_than_noisy_and_than_expected_ones(method):
    rng = np.random.default_rng(11)
    expected = rng.gamma(0.3, 100, 2000)
    truth = rng.gamma(expected / 50 + 1e-9, 50.0)
    noisy = truth + rng.normal(0, 40, 2000)
    distance = lambda values: float(np.abs(values - truth).sum())  # noqa: E731
    assert distance(method(noisy, expected, 1600.0).values) < 0.9 * min(distance(noisy), distance(expected))


def test_without_noise_counts_stay_and_without_signal_they_become_what_was_expected():
    rng = np.random.default_rng(12)
    expected = np.full((5, 8), 25.0)
    truth = rng.gamma(1.0, 25.0, (5, 8))
    assert np.abs(shrink(truth, expected, 1e-4).values - truth).max() < 0.01
    scaled = truth * (expected.sum() / truth.sum())
    assert np.abs(shrink_non_negative(scaled, expected, 0.01).values - scaled).max() < 0.1
    assert (shrink(expected + rng.normal(0, 100, (5, 8)), expected, 1e5).values == expected).all()


def test_the_posterior_median_is_that_of_numerical_integration():
    expected, variance = np.array([40.0, 40.0, 4.0, 0.4]), 36.0
    values = np.array([70.0, 12.0, 5.0, -2.0])
    shrunk = shrink_non_negative(values, expected, variance)
    medians = []
    for y, e in zip(values, expected, strict=True):
        shape = e / shrunk.spread

        # With u = x^shape the singularity at zero is gone.
        def mass(u, y=y, shape=shape):
            density = lambda v: math.exp(-(v ** (1 / shape)) / shrunk.spread - (v ** (1 / shape) - y) ** 2 / 72)  # noqa: E731
            return integrate.quad(density, 0, u, limit=400, points=[max(y, 1.0) ** shape])[0]

        top = 130.0**shape
        half = mass(top) / 2
        medians.append(optimize.brentq(lambda u, m=mass, h=half: m(u) - h, 0, top) ** (1 / shape))
    medians = np.array(medians) * expected.sum() / np.sum(medians)
    assert np.abs(shrunk.values - medians).max() < 0.05 * math.sqrt(variance)
