"""Our attacks against anonymeter's on the same rows of UCI Adult (recorded by tests/vectors/make_anonymeter.py).

What is deterministic is equal; what depends on draws or on the order of equally near rows is equal within its error.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generators.attacks.inference import inference
from generators.attacks.linkability import linkability
from generators.attacks.singling_out import singling_out
from generators.attacks.table import Rows
from privacy import Schema

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
RECORDED = json.loads((TESTS / "vectors" / "anonymeter_adult.json").read_text())
N_ROWS = RECORDED["n_rows"]
CASES = {case["comment"]: case for case in RECORDED["tests"]}
# About 80 rates are compared: one of them misses 4 standard errors by chance with probability 0.5 %.
STANDARD_ERRORS = 4.0


@pytest.fixture(scope="module")
def adult() -> Rows:
    frame = pd.read_csv(TESTS / "anonymise" / "data" / "adult.csv.gz", sep=";").drop_duplicates()[: 3 * N_ROWS]
    schema = Schema.load(TESTS / "anonymise" / "data" / "adult.toml")
    rows = Rows.of(frame, schema)
    return rows.take(np.arange(len(rows)))


@pytest.fixture(scope="module", params=CASES)
def case(request, adult):
    """The recorded figures, and the real, synthetic and control rows they belong to."""
    recorded = CASES[request.param]
    n = int(N_ROWS * recorded["leak"])
    part = lambda start, stop: adult.take(np.arange(start, stop))  # noqa: E731
    synthetic = part(0, n).joined(part(2 * N_ROWS + n, 3 * N_ROWS))
    return recorded, (part(0, N_ROWS), synthetic, part(N_ROWS, 2 * N_ROWS))


def agree(ours, recorded: int, attempts: int) -> bool:
    """Whether two rates differ by no more than chance, with one success and one failure added to each."""
    pooled = (ours.successes + recorded + 2) / (ours.attempts + attempts + 4)
    error = math.sqrt(pooled * (1 - pooled) * (1 / ours.attempts + 1 / attempts))
    return abs(ours.value - recorded / attempts) <= STANDARD_ERRORS * error


def test_univariate_predicates_and_their_successes_are_the_same(case):
    recorded, tables = case
    found = singling_out(*tables, mode="univariate", n_attacks=10**6, rng=np.random.default_rng(1))
    ours = {"made": found.success.attempts, "success": found.success.successes, "control": found.control.successes}
    assert ours == recorded["univariate"]


def test_multivariate_rates_agree(case):
    recorded, tables = case
    found = singling_out(*tables, n_attacks=1000, n_columns=3, rng=np.random.default_rng(2))
    made, success, control, baseline = (
        sum(run[what] for run in recorded["multivariate"]) for what in ("made", "success", "control", "baseline")
    )
    assert found.success.attempts == 1000
    assert agree(found.success, success, made)
    assert agree(found.control, control, made)
    assert agree(found.baseline, baseline, made)


@pytest.mark.parametrize("k", [1, 5])
def test_linkability_rates_agree(case, k):
    recorded, tables = case
    halves = (RECORDED["columns"][::2], RECORDED["columns"][1::2])
    found = linkability(*tables, halves=halves, n_attacks=N_ROWS, n_neighbours=k, rng=np.random.default_rng(3))
    theirs = recorded[f"linkability_{k}"]
    assert agree(found.success, theirs["success"], theirs["made"])
    assert agree(found.control, theirs["control"], theirs["made"])


def test_inference_rates_agree(case):
    recorded, tables = case
    found = inference(*tables, n_attacks=N_ROWS, rng=np.random.default_rng(4))
    assert {result.secret for result in found} == set(recorded["inference"])
    for result in found:
        theirs = recorded["inference"][result.secret]
        assert agree(result.success, theirs["success"], theirs["made"]), result.secret
        assert agree(result.control, theirs["control"], theirs["made"]), result.secret


def test_the_comparison_tells_a_leak_of_half_the_rows_from_a_whole_one(adult):
    # Negative control: with the figures of another leak the comparison fails.
    case = CASES["leak 50%"]
    real, control = adult.take(np.arange(N_ROWS)), adult.take(np.arange(N_ROWS, 2 * N_ROWS))
    found = inference(real, real, control, secrets=["education"], n_attacks=N_ROWS, rng=np.random.default_rng(4))[0]
    theirs = case["inference"]["education"]
    assert not agree(found.success, theirs["success"], theirs["made"])
    assert agree(found.control, CASES["leak 100%"]["inference"]["education"]["control"], N_ROWS)
