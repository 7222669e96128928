"""Missing values as wildcards and as own values: Adult with 5 % of three columns blanked at random, k = 5, 2 %.

Run: pytest benchmarks/test_bench_missing.py --benchmark-enable
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anonymise import KAnonymity, Schema, anonymise

DATA = Path(__file__).parents[1] / "tests" / "anonymise" / "data"
BLANKED = ("age", "education", "occupation")
SHARE = 0.05
LOSSES = {"own_value": 0.362, "wildcard": 0.289}


@pytest.mark.parametrize("choice", LOSSES)
def test_adult_k_5_with_missing_values(benchmark, choice):
    body = Schema.load(DATA / "adult.toml").to_dict()
    frame = pd.read_csv(DATA / "adult.csv.gz", sep=";").astype(object)
    rng = np.random.default_rng(1)
    for name in BLANKED:
        body["columns"][name] |= {"nullable": True, "missing": choice}
        frame.loc[rng.random(len(frame)) < SHARE, name] = None
    schema = Schema.from_dict(body)
    result = benchmark(anonymise, frame, schema, models=[KAnonymity(5)], suppression_limit=0.02)
    assert result.optimal
    assert result.score == pytest.approx(LOSSES[choice], abs=5e-3)
