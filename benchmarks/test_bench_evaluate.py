"""Speed of an evaluation of 50,000 synthetic rows against a made-up table of the shape of UCI Adult, 14 columns.

Run with `pytest benchmarks/test_bench_evaluate.py --benchmark-enable`;
without the option each runs once, on fewer rows.
"""

from __future__ import annotations

import numpy as np
import pytest

from generators import Schema, evaluate
from generators.encoding import decode

SIZES = (74, 9, 100, 16, 16, 7, 15, 6, 5, 2, 100, 100, 99, 42)
# Real, synthetic and held back.
FULL = 48_842, 50_000, 10_000
FEW = 1500, 1500, 500


@pytest.fixture(scope="module")
def schema() -> Schema:
    columns = {f"c{i}": {"categories": [str(k) for k in range(size)]} for i, size in enumerate(SIZES)}
    return Schema.from_dict({"columns": columns})


def table(schema, n_rows, seed):
    """A chain of skewed columns, each a noisy copy of a function of the one before."""
    rng = np.random.default_rng(seed)
    codes = np.empty((n_rows, len(SIZES)), dtype=np.uint8, order="F")
    before = rng.integers(0, 100, n_rows)
    for i, size in enumerate(SIZES):
        own = (size * rng.beta(1, 3, n_rows)).astype(int)
        before = np.where(rng.random(n_rows) < 0.5, before % size, own)
        codes[:, i] = before
    return decode(codes, schema, rng=rng)


@pytest.mark.parametrize("attacks", [False, True])
def test_bench_evaluate(benchmark, schema, attacks):
    sizes = FULL if benchmark.enabled else FEW
    real, synthetic, holdout = (table(schema, n, seed) for seed, n in enumerate(sizes))
    report = benchmark.pedantic(
        lambda: evaluate(real, synthetic, holdout=holdout, schema=schema, attacks=attacks), rounds=1
    )
    # With few rows, chance alone may make it fair.
    assert report.verdicts["fidelity"] in (("good",) if benchmark.enabled else ("good", "fair"))
