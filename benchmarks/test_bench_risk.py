"""Figures of risk on a million rows of 9 quasi-identifiers, 148,379 combinations of values.

The table is drawn from Adult's rows, with three columns drawn anew in 15 % of them.
Run: pytest benchmarks/test_bench_risk.py --benchmark-enable
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anonymise import assess_risk, find_quasi_identifiers, population_uniqueness

DATA = Path(__file__).parents[1] / "tests" / "anonymise" / "data"
N_ROWS, SEED = 1_000_000, 7


@pytest.fixture(scope="module")
def adult():
    return pd.read_csv(DATA / "adult.csv.gz", sep=";")


@pytest.fixture(scope="module")
def million(adult):
    rng = np.random.default_rng(SEED)
    out = adult.iloc[rng.integers(0, len(adult), N_ROWS)].reset_index(drop=True)
    for name in ("age", "occupation", "education"):
        anew = rng.random(N_ROWS) < 0.15
        out.loc[anew, name] = adult[name].to_numpy()[rng.integers(0, len(adult), anew.sum())]
    return out


@pytest.mark.parametrize("kind", ["category", "text"])
@pytest.mark.parametrize("missing", ["own_value", "wildcard"])
def test_risk_of_a_million_rows(benchmark, million, kind, missing):
    frame = million.astype("category") if kind == "category" else million.astype(str).astype(object)
    names = list(frame.columns)
    report = benchmark.pedantic(
        assess_risk,
        args=(frame,),
        kwargs={"quasi_identifiers": names, "population_size": 10 * N_ROWS, "missing": missing},
        rounds=3,
    )
    assert report.n_classes == 148_379


def test_levels_of_a_sensitive_column_of_a_million_rows(benchmark, million):
    frame = million.astype("category")
    names = [name for name in frame.columns if name != "occupation"]
    kwargs = {"quasi_identifiers": names, "sensitive": ["occupation"]}
    assert benchmark.pedantic(assess_risk, args=(frame,), kwargs=kwargs, rounds=3).sensitive[0].distinct_l == 1


def test_the_finder_on_a_million_rows(benchmark, million):
    frame = million.astype("category")
    assert benchmark.pedantic(find_quasi_identifiers, args=(frame,), rounds=1).complete


@pytest.mark.parametrize("estimator", ["pitman", "zayatz", "snb"])
def test_uniques_of_the_population(benchmark, adult, estimator):
    sizes = adult.groupby(list(adult.columns)).size().to_numpy()
    got = benchmark(population_uniqueness, sizes, population_size=301_620, estimator=estimator)
    assert got.converged
