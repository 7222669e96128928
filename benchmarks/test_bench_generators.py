"""Speed of the generators on a made-up table of the shape of UCI Adult: 48,842 rows, 14 columns.

Run with `pytest benchmarks/test_bench_generators.py --benchmark-enable`.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from generators import MST, ChowLiu, Domain, GraphicalModel, LocalTableOracle, Schema, count_marginal
from generators.encoding import decode
from generators.junction_tree import JunctionTree
from generators.propagation import propagate
from generators.sampling import sample_codes

SIZES = (74, 9, 100, 16, 16, 7, 15, 6, 5, 2, 100, 100, 99, 42)
N_ROWS = 48_842


@pytest.fixture(scope="module")
def schema() -> Schema:
    columns = {f"c{i}": {"categories": [str(k) for k in range(size)]} for i, size in enumerate(SIZES)}
    return Schema.from_dict({"columns": columns})


@pytest.fixture(scope="module")
def codes():
    """A chain of skewed columns, each a noisy copy of a function of the one before."""
    rng = np.random.default_rng(1)
    table = np.empty((N_ROWS, len(SIZES)), dtype=np.uint8, order="F")
    before = rng.integers(0, 100, N_ROWS)
    for i, size in enumerate(SIZES):
        own = (size * rng.beta(1, 3, N_ROWS)).astype(int)
        before = np.where(rng.random(N_ROWS) < 0.5, before % size, own)
        table[:, i] = before
    return table


@pytest.fixture(scope="module")
def oracle(schema, codes):
    return LocalTableOracle(decode(codes, schema, rng=np.random.default_rng(1)), schema)


@pytest.fixture(scope="module")
def model(schema, oracle) -> GraphicalModel:
    return ChowLiu(epsilon=1.0, delta=1e-9).fit(None, schema, oracle=oracle)


def test_bench_count_all_pairs(benchmark, schema, codes):
    domain = Domain.from_schema(schema)
    benchmark(lambda: [count_marginal(codes, domain, pair) for pair in itertools.combinations(domain.columns, 2)])


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_bench_mst_fit(benchmark, schema, oracle, epsilon):
    benchmark.pedantic(
        lambda: MST(epsilon=epsilon, delta=1e-9).fit(None, schema, oracle=oracle), rounds=3, warmup_rounds=1
    )


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_bench_chow_liu_fit(benchmark, schema, oracle, epsilon):
    benchmark.pedantic(
        lambda: ChowLiu(epsilon=epsilon, delta=1e-9).fit(None, schema, oracle=oracle), rounds=3, warmup_rounds=1
    )


def test_bench_sample_a_million_rows_of_codes(benchmark, model):
    n = 1_000_000
    benchmark.pedantic(lambda: model.sample_codes(n, rng=np.random.default_rng(1)), rounds=3)
    if benchmark.stats:
        benchmark.extra_info["rows_per_second_per_10_columns"] = n * len(SIZES) / 10 / benchmark.stats.stats.median


def test_bench_sample_a_million_rows_of_codes_from_overlapping_triples(benchmark, codes):
    """Cliques (c0, c1, c2), (c1, c2, c3), ... as far as they have at most 20,000 cells, pairs elsewhere."""
    domain = Domain(tuple(f"c{i}" for i in range(len(SIZES))), SIZES)
    cliques = list(itertools.pairwise(domain.columns))
    cliques += [c for c in zip(*(domain.columns[k:] for k in range(3)), strict=False) if domain.cells(c) <= 20_000]
    tree = JunctionTree.build(domain, cliques)
    potentials = [np.log(count_marginal(codes, domain, clique) + 0.1) for clique in tree.cliques]
    marginals = propagate(tree, potentials)
    n = 1_000_000
    benchmark.pedantic(lambda: sample_codes(marginals, n, rng=np.random.default_rng(1)), rounds=3)
    if benchmark.stats:
        benchmark.extra_info["cells"] = tree.cells
        benchmark.extra_info["rows_per_second_per_10_columns"] = n * len(SIZES) / 10 / benchmark.stats.stats.median


def test_bench_ten_plausible_models(benchmark, model):
    benchmark.pedantic(lambda: model.plausible(10, rng=np.random.default_rng(1)), rounds=3)


def test_bench_sample_a_hundred_thousand_rows_as_a_table(benchmark, model):
    benchmark.pedantic(lambda: model.sample(100_000, rng=np.random.default_rng(1)), rounds=3)
