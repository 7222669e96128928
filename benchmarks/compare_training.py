"""A joint model with noise, and the same model of synthetic patients, beside the pooled one: distances over many seeds.

    python benchmarks/compare_training.py --seeds 20

Run by hand: minutes. LeukSurv, five hospitals; death within a year, on age, sex, white cell count and deprivation.
Distance: root mean square difference of coefficients, in standard errors of the pooled model; 1 is the chance of
sampling. Prints a row for each epsilon and way: median distance, and the part of intervals that hold the pooled value.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from synthema.demo import demo_frames, demo_study
from synthema.learning import LogisticRegression
from synthema.learning.training import compare_training
from synthema.study import Study, Synthesis
from synthema.submitters import SimulatedNetwork


def _job(epsilon: float, sites: tuple[str, ...]) -> Study:
    policy = {"epsilon_cap": 20.0, "delta_cap": 1e-5, "allow_exact": True, "approximate_delta": 1e-8}
    demo = demo_study()
    return Study.from_dict(
        {
            "study": {"name": "training", "purpose": demo.purpose, "schema": demo.data_schema},
            "budget": {"epsilon": epsilon, "delta": 1e-6},
            "models": {},
            "sites": {site: {"policy": policy} for site in sites},
        }
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    parser.add_argument("--mechanisms", nargs="+", default=["mst", "aim"])
    given = parser.parse_args()
    frames = demo_frames()
    model = LogisticRegression(horizon_days=365, covariates=["age", "sex", "wbc", "tpi"])
    for epsilon in given.epsilons:
        for mechanism in given.mechanisms:
            found: dict[str, list[tuple[float, float]]] = {}
            for _ in range(given.seeds):
                job, wanted = _job(epsilon, tuple(frames)), Synthesis(rows=1043, mechanism=mechanism)
                result = compare_training(model, SimulatedNetwork(frames), job, frames, synthesis=wanted)
                for way in result.ways:
                    if way.distance is not None and way.covered is not None:
                        found.setdefault(way.name, []).append((way.distance, way.covered))
            for name, values in found.items():
                distance = statistics.median(each for each, _ in values)
                covered = statistics.fmean(each for _, each in values)
                what = f"epsilon {epsilon:g}, {name}" + (f" ({mechanism})" if name == "synthetic" else "")
                sys.stdout.write(f"{what}: distance {distance:.2f}, covered {covered:.0%} ({len(values)} runs)\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
