"""Survival by sex and joint missingness at a budget of epsilon 10, on real tables that the project ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generators import MST, ChowLiu, Domain, compare_survival, encode
from generators.rules import any_broken, forbidden_codes
from generators.sampling import sample_codes
from privacy import Schema
from privacy.randomness import InsecureSeededRng

DATA = Path(__file__).parent / "data"
N_SEEDS = 5

LEUKSURV = {
    "age": {"kind": "integer", "bounds": [0, 110], "edges": [30, 40, 50, 60, 70, 80]},
    "sex": {"categories": ["F", "M"]},
    "wbc": {"kind": "continuous", "bounds": [0, 500], "edges": [3, 10, 50, 150], "decimals": 1},
}


def leuksurv():
    shipped = Path(__file__).parents[2] / "synthema" / "data" / "leuksurv.csv"
    frame = pd.read_csv(shipped, dtype={"event": str, "fac_sex": str})
    names = {"num_age": "age", "num_wbc": "wbc", "fac_sex": "sex"}
    return frame.rename(columns=names).assign(sex=lambda t: t["sex"].map({"0": "F", "1": "M"}))


def flchain():
    frame = pd.read_csv(DATA / "flchain_survival.csv", dtype={"death": str})
    return frame.rename(columns={"futime": "time", "death": "event"})


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", [ChowLiu, MST])
@pytest.mark.parametrize("step", [180, 365])
@pytest.mark.parametrize(("table", "others"), [(leuksurv, LEUKSURV), (flchain, {"sex": {"categories": ["F", "M"]}})])
def test_survival_by_sex_is_kept(table, others, step, mechanism):
    horizon = 3650 // step * step
    grid = np.arange(step, horizon + 1, step)
    schema = Schema.from_dict(
        {
            "columns": {
                **others,
                "time": {"kind": "integer", "bounds": [0, 6000], "edges": grid.tolist()},
                "event": {"categories": ["0", "1"]},
            },
            "survival": {"time": "time", "event": "event", "horizon": horizon, "strata": ["sex"]},
        }
    )
    frame = table()[list(schema.names)]
    distances = []
    for seed in range(N_SEEDS):
        model = mechanism(epsilon=10.0, delta=1e-9).fit(frame, schema, rng=InsecureSeededRng(seed))
        sampled = model.sample(len(frame), rng=np.random.default_rng(seed))
        for sex in ("F", "M"):
            real, ours = (t[t["sex"] == sex] for t in (frame, sampled))
            distances.append(
                compare_survival(
                    (real["time"], real["event"].astype(int)), (ours["time"], ours["event"].astype(int)), grid
                )
            )
    assert np.mean([d.km_divergence for d in distances]) <= 0.03
    assert abs(np.mean([d.optimism for d in distances])) <= 0.02
    assert abs(np.mean([d.short_sightedness for d in distances])) <= 0.02


def myeloid_schema(*, patterns):
    times = {"kind": "integer", "bounds": [0, 2500], "nullable": True}
    return Schema.from_dict(
        {
            "columns": {
                "trt": {"categories": ["A", "B"]},
                "sex": {"categories": ["f", "m"]},
                "futime": {"kind": "integer", "bounds": [0, 2500], "edges": [180, 365, 730, 1095, 1460, 1825, 2190]},
                "death": {"categories": ["0", "1"]},
                "txtime": times | {"edges": [90, 150, 240, 365]},
                "crtime": times | {"edges": [30, 45, 60, 100]},
                "rltime": times | {"edges": [180, 365, 730]},
            },
            "survival": {"time": "futime", "event": "death"},
            "rules": [{"order": ["crtime", "rltime", "futime"]}, {"order": ["txtime", "futime"]}],
            **({"missing": {"patterns": [["txtime", "crtime", "rltime"]]}} if patterns else {}),
        }
    )


def pattern_distance(one, two):
    """L1 distance of the joint distributions of what is missing."""
    p, q = (t[["txtime", "crtime", "rltime"]].isna().value_counts(normalize=True).rename("share") for t in (one, two))
    return float(p.sub(q, fill_value=0).abs().sum())


@pytest.mark.slow
def test_the_joint_pattern_of_missing_values_and_the_order_of_dates_are_kept():
    frame = pd.read_csv(DATA / "myeloid.csv", dtype={"trt": str, "sex": str}).drop(columns="id")
    found = {}
    for patterns in (True, False):
        schema = myeloid_schema(patterns=patterns)
        distances = []
        for seed in range(N_SEEDS):
            model = ChowLiu(epsilon=10.0, delta=1e-9).fit(frame, schema, rng=InsecureSeededRng(seed))
            codes = sample_codes(model.marginals, 2000, rng=np.random.default_rng(seed))
            # Rules are kept by the model itself, cycles of them too: no row has to be drawn again.
            assert not any_broken(forbidden_codes(schema), codes, model.domain).any()
            sampled = model.sample(2000, rng=np.random.default_rng(seed))
            schema.validate(sampled)
            distances.append(pattern_distance(frame, sampled))
        found[patterns] = float(np.mean(distances))
    assert found[True] < 0.03
    # The negative control: pairs of columns do not hold the pattern of three.
    assert found[False] > 0.08


def test_the_pattern_is_a_code_of_the_domain_and_not_a_column_of_the_table():
    frame = pd.read_csv(DATA / "myeloid.csv", dtype={"trt": str, "sex": str}).drop(columns="id")
    schema = myeloid_schema(patterns=True)
    domain = Domain.from_schema(schema)
    assert domain.columns[-1] == "missing(txtime,crtime,rltime)"
    codes = encode(frame, schema)[:, -1]
    by_hand = sum(frame[name].isna().to_numpy() << bit for bit, name in enumerate(["txtime", "crtime", "rltime"]))
    assert np.array_equal(codes, by_hand)
    model = ChowLiu(epsilon=10.0, delta=1e-9).fit(frame, schema)
    assert list(model.sample(10).columns) == list(frame.columns[:2]) + list(schema.names[2:])
    none = model.sample(200, given={"missing(txtime,crtime,rltime)": "none"})
    assert not none[["txtime", "crtime", "rltime"]].isna().any(axis=None)
