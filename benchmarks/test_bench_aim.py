"""Speed of AIM, of the fit of junction trees, and of exact lazy selection.

Run with `pytest benchmarks/test_bench_aim.py --benchmark-enable`; error, time and memory on the three tables with
`python benchmarks/compare_generators.py --mechanisms AIM`. Without `--benchmark-enable` the sizes are small.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generators import AIM, Domain, Schema, TableOracle, count_marginal
from generators.calibration import Calibrator
from generators.estimation import fit_graph
from generators.inference import Evidence
from generators.junction_tree import JunctionTree
from privacy import InsecureSeededRng, SecureRng
from privacy.mechanisms import exponential_mechanism, lazy_exponential_mechanism

DATA = Path(__file__).parent / "data"

# Cliques like those that AIM measures on Adult: their junction tree has 66,606 cells, with loops.
CLIQUES = [
    ("workclass", "occupation", "income>50K"),
    ("education-num", "occupation", "income>50K"),
    ("marital-status", "relationship", "sex"),
    ("occupation", "relationship", "sex"),
    ("age", "marital-status", "income>50K"),
    ("age", "relationship", "income>50K"),
    ("education-num", "relationship"),
    ("workclass", "relationship"),
    ("race", "native-country"),
    ("occupation", "race", "sex"),
    ("sex", "hours-per-week", "income>50K"),
    ("capital-gain", "income>50K"),
    ("workclass", "marital-status"),
    ("occupation", "marital-status", "sex"),
    ("education-num", "marital-status", "sex"),
    ("fnlwgt", "relationship"),
    ("fnlwgt", "race", "sex"),
]


@pytest.fixture(scope="module")
def adult():
    sizes = json.loads((DATA / "adult_coded.domain.json").read_text())
    codes = pd.read_csv(DATA / "adult_coded.csv.gz")[list(sizes)].to_numpy(dtype=np.uint8)
    return np.asfortranarray(codes), sizes, Domain(tuple(sizes), tuple(sizes.values()))


@pytest.fixture(scope="module")
def evidence(adult):
    codes, _, domain = adult
    rng = np.random.default_rng(1)
    cliques = [*((name,) for name in domain), *CLIQUES]
    std = 20.0
    return [
        Evidence(clique, count_marginal(codes, domain, clique) + std * rng.normal(size=domain.sizes(clique)), std**2)
        for clique in (tuple(sorted(clique, key=domain.position)) for clique in cliques)
    ]


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0])
def test_bench_aim_fit(benchmark, adult, epsilon):
    codes, sizes, _ = adult
    if not benchmark.enabled:
        codes, sizes = codes[:2000, :4], dict(itertools.islice(sizes.items(), 4))
    schema = Schema.from_dict(
        {"columns": {name: {"categories": [str(i) for i in range(size)]} for name, size in sizes.items()}}
    )

    def run():
        oracle = TableOracle.from_codes(codes, schema, rng=InsecureSeededRng(1))
        return AIM(epsilon=epsilon, delta=1e-9).fit(None, schema, oracle=oracle)

    benchmark.pedantic(run, rounds=2)


def test_bench_fit_graph(benchmark, adult, evidence):
    codes, _, domain = adult
    iterations = 1000 if benchmark.enabled else 5
    benchmark.pedantic(
        lambda: fit_graph(domain, evidence, total=float(len(codes)), tolerance=1e-3, max_iterations=iterations),
        rounds=2,
    )


def test_bench_one_call_of_the_marginal_oracle(benchmark, adult, evidence):
    codes, _, domain = adult
    cliques = [part.columns for part in evidence]
    tree = JunctionTree.build(domain, cliques)
    calibrator = Calibrator(tree, cliques, total=float(len(codes)))
    potentials = np.random.default_rng(2).normal(size=calibrator.size)
    benchmark(lambda: calibrator.marginals(potentials))
    benchmark.extra_info["cells"] = tree.cells


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "all scores"])
def test_bench_selection_among_469_candidates_of_known_score(benchmark, lazy):
    scores = [int(score) for score in np.random.default_rng(3).integers(0, 10**6, 469)]
    rng = SecureRng()
    if lazy:
        bounds = [2 * score for score in scores]
        benchmark(
            lambda: lazy_exponential_mechanism(bounds, scores.__getitem__, epsilon=1.0, sensitivity=3000, rng=rng)
        )
    else:
        benchmark(lambda: exponential_mechanism(scores, epsilon=1.0, sensitivity=3000, rng=rng))
