"""Joint syntheses of the leukaemia patients of five hospitals, at three compute parties in this process.

Beside them: the same mechanism on one table of all patients, which is the floor. Of all parties and the dealer
together; rounds and bytes are in `extra_info`. Loopback and memory have no latency worth the name: a network adds
its round-trip time for each round.

Run: pytest benchmarks/test_bench_synthesis.py --benchmark-enable --benchmark-timer=time.process_time
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from generators import LocalTableOracle, encode
from smpc import Session, SharePackage, run_local, share
from synthema.conducting import conduct, synthesis_vector
from synthema.demo import demo_frames, demo_study
from synthema.study import Study
from synthema.study_mechanism import study_mechanism

RUNS = [("mst", "shares"), ("mst", "joint"), ("aim", "shares"), ("aim", "joint"), ("privbayes", "shares")]
RUNS += [("adaptive", "shares"), ("chow-liu", "shares")]


def study_of(mechanism: str, noise: str, epsilon: float) -> Study:
    demo = demo_study()
    return Study.from_dict(
        {
            "study": {"name": "leukaemia", "purpose": "cost of a joint synthesis", "schema": demo.data_schema},
            "budget": {"epsilon": epsilon, "delta": 1e-6},
            "federation": {"most_patients": 400},
            "sites": {site: {} for site in demo.sites},
            "synthesis": {"mechanism": mechanism, "noise": noise, "rows": 1000},
        }
    )


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
@pytest.mark.parametrize(("mechanism", "noise"), RUNS)
def test_on_shares(benchmark: Any, mechanism: str, noise: str, epsilon: float) -> None:
    study = study_of(mechanism, noise, epsilon)
    benchmark.group = f"{mechanism}, epsilon {epsilon:g}"
    by_site = [share(synthesis_vector(study, encode(frame, study.data_schema)), 3) for frame in demo_frames().values()]
    inputs = [[packages[party] for packages in by_site] for party in range(3)]

    async def protocol(session: Session, packages: list[SharePackage]) -> dict[str, Any]:
        return await conduct(session, packages, study)

    run = benchmark.pedantic(lambda: run_local(protocol, inputs), rounds=3, warmup_rounds=1)
    benchmark.extra_info |= {
        "rounds": run.cost.rounds,
        "bytes_sent": run.cost.bytes_sent,
        "dealer_bytes": run.cost.dealer_bytes,
        "choices": run.results[0]["cost"]["choices"],
        "seconds_at_40_ms": run.cost.rounds * 0.04,
    }
    assert len(run.results[0]["table"][0]["values"]) == 1000


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
@pytest.mark.parametrize("mechanism", list(dict.fromkeys(name for name, _ in RUNS)))
def test_on_one_table(benchmark: Any, mechanism: str, epsilon: float) -> None:
    study = study_of(mechanism, "shares", epsilon)
    benchmark.group = f"{mechanism}, epsilon {epsilon:g}"
    frame, schema = pd.concat(demo_frames().values(), ignore_index=True), study.data_schema

    def fit() -> int:
        oracle = LocalTableOracle(frame[list(schema.names)], schema)
        return len(study_mechanism(study).fit(None, schema, oracle=oracle).sample(1000))

    assert benchmark.pedantic(fit, rounds=3, warmup_rounds=1) == 1000
