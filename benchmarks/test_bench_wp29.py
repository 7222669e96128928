"""Attacks in the words of WP29 on Adult and on a million rows made of it (as in test_bench_risk.py), 8 known columns.

Run: pytest benchmarks/test_bench_wp29.py --benchmark-enable
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anonymise import KAnonymity, Schema, anonymise, measure_wp29

DATA = Path(__file__).parents[1] / "tests" / "anonymise" / "data"
N_ROWS, SEED = 1_000_000, 7


@pytest.fixture(scope="module")
def schema():
    adult = Schema.load(DATA / "adult.toml")
    columns = (replace(c, role="sensitive") if c.name == "occupation" else c for c in adult.columns)
    return replace(adult, columns=tuple(columns))


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
    return out.astype("category")


@pytest.mark.parametrize("table", ["adult", "million"])
@pytest.mark.parametrize("case", ["alone", "holdout", "cells"])
def test_attacks(benchmark, request, schema, table, case):
    raw = request.getfixturevalue(table)
    released = anonymise(raw, schema, models=[KAnonymity(5)], suppression_limit=0.02).table
    if case == "cells":  # Some cells suppressed: values then have two labels, and rows are searched by bit sets.
        age = released["age"].astype(object)
        age[::50] = "*"
        released = released.assign(age=age)
    holdout = raw.iloc[: len(raw) // 3] if case == "holdout" else None
    kwargs = {"holdout": holdout, "rng": np.random.default_rng(SEED)}
    found = benchmark.pedantic(measure_wp29, args=(raw, released, schema), kwargs=kwargs, rounds=3)
    assert found.of("singling out")[0].success.successes == 0
