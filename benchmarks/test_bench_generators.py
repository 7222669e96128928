"""Speed of the generators on UCI Adult (48,842 rows, 14 columns), and of counting a hundred columns by a million rows.

Run with `pytest benchmarks/test_bench_generators.py --benchmark-enable`. Errors, memory and the peer are measured by
`compare_generators.py`, tables of ten million rows by `measure_large_tables.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generators import MST, ChowLiu, Domain, GraphicalModel, PrivBayes, SqlOracle, TableOracle
from generators.junction_tree import JunctionTree
from generators.marginals import count_marginal, count_marginals
from generators.propagation import propagate
from generators.sampling import sample_codes

sys.path.append(str(Path(__file__).parent))
import _generator_tables as tables

# Where nothing is timed, a smaller table runs the same code.
WIDE_ROWS, WIDE_ROWS_UNTIMED = 1_000_000, 20_000


@pytest.fixture(scope="module")
def adult():
    codes, sizes = tables.load("adult")
    return codes, tables.schema_of(sizes)


@pytest.fixture(scope="module")
def model(adult) -> GraphicalModel:
    codes, schema = adult
    return ChowLiu(epsilon=1.0, delta=1e-9).fit(None, schema, oracle=TableOracle.from_codes(codes, schema))


@pytest.mark.parametrize("k", [2, 3])
def test_bench_count_all_marginals_of_adult(benchmark, adult, k):
    codes, schema = adult
    domain = Domain.from_schema(schema)
    cliques = list(itertools.combinations(domain.columns, k))
    benchmark(count_marginals, codes, domain, cliques)


@pytest.mark.parametrize("engine", ["sqlite3", "duckdb"])
def test_bench_count_all_pairs_of_adult_in_a_database(benchmark, adult, engine):
    module = pytest.importorskip(engine)
    codes, schema = adult
    frame = pd.DataFrame(codes.astype(np.int64), columns=list(schema.names))
    with contextlib.closing(module.connect(":memory:")) as connection:
        if engine == "duckdb":
            connection.register("frame", frame)
            connection.execute("SET threads = 1")
            connection.execute("CREATE TABLE adult AS SELECT * FROM frame")
        else:
            frame.to_sql("adult", connection, index=False)
        oracle = SqlOracle(connection, "adult", schema)
        pairs = list(itertools.combinations(oracle.domain.columns, 2))
        counts = benchmark.pedantic(oracle._count, (pairs,), rounds=3)  # noqa: SLF001 - noise is not what is timed
    expected = count_marginals(codes, oracle.domain, pairs)
    assert all(np.array_equal(a, b) for a, b in zip(counts, expected, strict=True))


@pytest.mark.parametrize("levels", [5, 20])
def test_bench_count_all_pairs_of_a_hundred_columns(benchmark, levels):
    rng = np.random.default_rng(1)
    n_rows = WIDE_ROWS if benchmark.enabled else WIDE_ROWS_UNTIMED
    codes = np.empty((n_rows, 100), dtype=np.uint8, order="F")
    for i in range(100):
        codes[:, i] = levels * rng.beta(1, 3, n_rows)
    domain = Domain(tuple(f"c{i:02}" for i in range(100)), (levels,) * 100)
    cliques = list(itertools.combinations(domain.columns, 2))
    benchmark.pedantic(count_marginals, (codes, domain, cliques), rounds=1)


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
@pytest.mark.parametrize("mechanism", [MST, ChowLiu, PrivBayes])
def test_bench_fit_to_adult(benchmark, adult, mechanism, epsilon):
    codes, schema = adult

    def fit():
        mechanism(epsilon=epsilon, delta=1e-9).fit(None, schema, oracle=TableOracle.from_codes(codes, schema))

    benchmark.pedantic(fit, rounds=3, warmup_rounds=1)


def test_bench_sample_a_million_rows_of_codes(benchmark, model):
    n = 1_000_000
    benchmark.pedantic(lambda: model.sample_codes(n, rng=np.random.default_rng(1)), rounds=3)
    if benchmark.stats:
        benchmark.extra_info["rows_per_second_per_10_columns"] = n * 14 / 10 / benchmark.stats.stats.median


def test_bench_sample_a_million_rows_of_codes_from_overlapping_triples(benchmark, adult):
    """Cliques of columns one after another as far as three have at most 20,000 cells, pairs elsewhere."""
    codes, schema = adult
    domain = Domain.from_schema(schema)
    cliques = list(itertools.pairwise(domain.columns))
    cliques += [c for c in zip(*(domain.columns[k:] for k in range(3)), strict=False) if domain.cells(c) <= 20_000]
    tree = JunctionTree.build(domain, cliques)
    potentials = [np.log(count_marginal(codes, domain, clique) + 0.1) for clique in tree.cliques]
    marginals = propagate(tree, potentials)
    n = 1_000_000
    benchmark.pedantic(lambda: sample_codes(marginals, n, rng=np.random.default_rng(1)), rounds=3)
    if benchmark.stats:
        benchmark.extra_info["cells"] = tree.cells
        benchmark.extra_info["rows_per_second_per_10_columns"] = n * 14 / 10 / benchmark.stats.stats.median


def test_bench_ten_plausible_models(benchmark, model):
    benchmark.pedantic(lambda: model.plausible(10, rng=np.random.default_rng(1)), rounds=3)


def test_bench_sample_a_hundred_thousand_rows_as_a_table(benchmark, model):
    benchmark.pedantic(lambda: model.sample(100_000, rng=np.random.default_rng(1)), rounds=3)
