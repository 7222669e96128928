"""Boosted trees of death within ten years: 50 trees of three levels over five hospitals, and what noise leaves of them.

flchain, coded (`benchmarks/data`): follow-up in steps of a hundred days, numbers as positions among public edges. Four
fifths of the patients are at made-up hospitals of unequal size, the others are predicted. `extra_info` holds the area
under the curve of those, and that of scikit-learn's HistGradientBoostingClassifier with the same depth, rate and number
of trees on the pooled rows where scikit-learn is installed.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "synthema" / "learning"))

from _generator_tables import load
from boosting_oracle import area_under_curve

from synthema.learning import GradientBoosting
from synthema.local_federation import make_federation, running
from synthema.researcher import ResearchDesk, ResearcherConfig
from synthema.study import Study
from synthema.submitters import SimulatedNetwork

pytestmark = pytest.mark.slow

SITES = {"alder": 0.4, "birch": 0.25, "cedar": 0.15, "dogwood": 0.12, "elm": 0.08}
COVARIATES = ("age", "sex", "year", "kappa", "lambda", "group", "creatinine", "mgus")
# Ten years of 365.25 days, in steps of 5215 / 53 days.
HORIZON = 37
NAMES = {"sample.yr": "year", "flc.grp": "group", "futime": "time"}
NOT_MEASURED = 32
SPLITS = 4


def _table():
    codes, sizes = load("flchain")
    frame = pd.DataFrame(codes.astype(np.int64), columns=list(sizes)).rename(columns=NAMES).drop(columns="chapter")
    sizes = {NAMES.get(name, name): size for name, size in sizes.items() if name != "chapter"}
    frame["creatinine"] = frame["creatinine"].astype(float).where(frame["creatinine"] != NOT_MEASURED)
    for name in ("sex", "mgus", "death"):
        frame[name] = frame[name].astype(str)
    return frame, sizes


def _schema(sizes):
    columns = {
        name: {"categories": [str(i) for i in range(size)]}
        if size == 2
        else {"kind": "integer", "bounds": [0, size - 1], "edges": list(range(1, size - 1)), "nullable": False}
        for name, size in sizes.items()
    }
    columns["creatinine"] |= {"bounds": [0, NOT_MEASURED - 1], "edges": list(range(1, NOT_MEASURED - 1))}
    columns["creatinine"]["nullable"] = True
    return {"columns": columns, "survival": {"time": "time", "event": "death"}}


def _parted(seed):
    """Return each site's rows, and those that are predicted with their outcome."""
    frame, sizes = _table()
    random = np.random.default_rng(seed)
    where = random.choice(len(SITES), len(frame), p=list(SITES.values()))
    kept = random.random(len(frame)) < 0.8
    frames = {site: frame[kept & (where == i)].reset_index(drop=True) for i, site in enumerate(SITES)}
    died = (frame["death"] == "1") & (frame["time"] <= HORIZON)
    known = died | (frame["time"] >= HORIZON)
    return frames, frame[~kept & known], died[~kept & known].to_numpy().astype(int), _schema(sizes)


def _job(schema, name, epsilon=1.0, policy=None):
    return Study.from_dict(
        {
            "study": {"name": name, "purpose": "light chains and death", "schema": schema},
            "budget": {"epsilon": epsilon, "delta": 1e-6},
            "federation": {"compute_parties": list(SITES)[:3], "dealer": "dealer", "most_patients": 13_000},
            "sites": {site: {"policy": policy} if policy else {} for site in SITES},
            "models": {},
        }
    )


def _model(**asked):
    return GradientBoosting(horizon_days=HORIZON, covariates=list(COVARIATES), **asked)


def _peer(frames, new, y):
    """Return the area of scikit-learn's trees on the pooled rows, or None without it."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError:
        return None
    rows = pd.concat(list(frames.values()))
    died = (rows["death"] == "1") & (rows["time"] <= HORIZON)
    rows, died = rows[died | (rows["time"] >= HORIZON)], died[died | (rows["time"] >= HORIZON)]
    trees = HistGradientBoostingClassifier(
        max_iter=50, max_depth=3, max_leaf_nodes=None, learning_rate=0.1, l2_regularization=1.0, early_stopping=False
    )
    trees.fit(rows[list(COVARIATES)].astype(float), died)
    return float(area_under_curve(y, trees.decision_function(new[list(COVARIATES)].astype(float))))


OPEN = {"epsilon_cap": 100.0, "delta_cap": 1e-5, "allow_exact": True}


@pytest.mark.benchmark(group="learning: 50 trees of three levels")
def test_exact_in_one_process(benchmark):
    frames, new, y, schema = _parted(0)
    model = _model()
    benchmark.pedantic(lambda: model.fit(SimulatedNetwork(frames), _job(schema, "trees", policy=OPEN)), rounds=1)
    [step] = model.released_["steps"]
    benchmark.extra_info |= {name: step[name] for name in ("rounds", "bytes_sent", "dealer_bytes")}
    benchmark.extra_info["area"] = area_under_curve(y, model.decision_function(new))


@pytest.mark.benchmark(group="learning: 50 trees of three levels")
def test_exact_over_the_relay(benchmark, tmp_path):
    frames, new, y, schema = _parted(0)
    job = _job(schema, "trees")
    made = make_federation(tmp_path / "all", job, frames, policy="allow_exact = true", automatic=["model"], studies=9)
    with running(made), ResearchDesk(ResearcherConfig.load(made.researcher)) as desk:
        # The first study also loads what every agent needs.
        _model(mode="private", budget_share=1.0).fit(desk, _job(schema, "warm"))
        model = _model()
        benchmark.pedantic(lambda: model.fit(desk, job), rounds=1)
    benchmark.extra_info["area"] = area_under_curve(y, model.decision_function(new))


@pytest.mark.benchmark(group="learning: areas under the curve of trees")
def test_areas(benchmark):
    """Means over several draws of hospitals and of who is predicted."""
    areas = {}

    def measure():
        for seed in range(SPLITS):
            frames, new, y, schema = _parted(seed)
            for epsilon in (1.0, 3.0, 10.0):
                model = _model(mode="private", budget_share=1.0)
                model.fit(SimulatedNetwork(frames), _job(schema, "trees", epsilon, OPEN))
                areas.setdefault(f"epsilon {epsilon:g}", []).append(area_under_curve(y, model.decision_function(new)))
            model = _model().fit(SimulatedNetwork(frames), _job(schema, "trees", policy=OPEN))
            areas.setdefault("exact", []).append(area_under_curve(y, model.decision_function(new)))
            areas.setdefault("scikit-learn, pooled", []).append(_peer(frames, new, y))

    benchmark.pedantic(measure, rounds=1)
    for name, found in areas.items():
        if None not in found:
            benchmark.extra_info[name] = f"{np.mean(found):.4f} +- {np.std(found, ddof=1):.4f}"
