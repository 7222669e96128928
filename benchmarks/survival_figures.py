"""Survival by sex in synthetic patients, against the real curves: prints the table of docs/generators/clinical-data.md.

    python benchmarks/survival_figures.py [--flchain flchain.csv] [--epsilon 10] [--seeds 20] [--mechanisms mst ...]

LeukSurv is shipped; flchain is the data set of that name in R's package survival, written with write.csv. Noise comes
from seeded sources here, so that a run can be repeated: it protects nobody, and the tables are public.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from generators import AIM, MST, ChowLiu, Independent, PrivBayes, compare_survival
from privacy import Schema
from privacy.randomness import InsecureSeededRng

LEUKSURV = Path(__file__).parents[1] / "synthema" / "data" / "leuksurv.csv"
MECHANISMS = {kind.name: kind for kind in (Independent, ChowLiu, MST, PrivBayes, AIM)}
DELTA = 1e-9
TEN_YEARS = 3650


def number(low, high, *edges, kind="continuous", **more):
    return {"kind": kind, "bounds": [low, high], "edges": list(edges), **more}


def leuksurv():
    """1,043 patients, 7 columns: age, sex, white cells, deprivation, district, time, event."""
    raw = pd.read_csv(LEUKSURV, dtype={"event": str, "fac_sex": str, "fac_district": str})
    columns = {
        "age": number(0, 110, 30, 40, 50, 60, 70, 80, kind="integer"),
        "sex": {"categories": ["0", "1"]},
        "wbc": number(0, 500, 3, 10, 50, 150, decimals=1),
        "tpi": number(-10, 12, -3, -1, 1, 3, decimals=2),
        "district": {"categories": [str(i) for i in range(1, 25)]},
    }
    return raw.rename(columns=lambda name: name.removeprefix("fac_").removeprefix("num_")), columns


def flchain(path):
    """7,874 residents, 11 columns."""
    raw = pd.read_csv(path)
    raw = raw.rename(columns={"sample.yr": "year", "flc.grp": "flc", "futime": "time", "death": "event"})
    for name in ("flc", "mgus", "event"):
        raw[name] = raw[name].astype(int).astype(str)
    light_chains = number(0, 30, 0.5, 1, 1.5, 2, 3, 5)
    chapters = [
        *("Blood", "Circulatory", "Congenital", "Digestive", "Endocrine", "External Causes", "Genitourinary"),
        *("Ill Defined", "Infectious", "Injury and Poisoning", "Mental", "Musculoskeletal", "Neoplasms", "Nervous"),
        *("Respiratory", "Skin"),
    ]
    columns = {
        "age": number(50, 110, 55, 60, 65, 70, 75, 80, 85, 90, kind="integer"),
        "sex": {"categories": ["F", "M"]},
        "year": number(1995, 2003, *range(1996, 2003), kind="integer"),
        "kappa": light_chains,
        "lambda": light_chains,
        "flc": {"categories": [str(i) for i in range(1, 11)]},
        "creatinine": number(0, 15, 0.8, 1, 1.2, 1.5, 2, nullable=True),
        "mgus": {"categories": ["0", "1"]},
        "chapter": {"categories": chapters, "nullable": True},
    }
    return raw, columns


def schema_of(columns, step, *, strata):
    horizon = TEN_YEARS // step * step
    survival = {"time": "time", "event": "event", "horizon": horizon, "strata": ["sex"] if strata else []}
    time_column = number(0, 6000, *range(step, horizon + 1, step), kind="integer")
    return Schema.from_dict(
        {"columns": {**columns, "time": time_column, "event": {"categories": ["0", "1"]}}, "survival": survival}
    )


def figures(frame, schema, mechanism, seed, step):
    """Return (KM divergence, optimism, short-sightedness) for each sex."""
    frame = frame[list(schema.names)]
    model = mechanism.fit(frame, schema, rng=InsecureSeededRng(seed))
    sampled = model.sample(len(frame), rng=np.random.default_rng(seed))
    grid = np.arange(step, TEN_YEARS + 1, step)
    out = []
    for sex in schema.column("sex").categories:
        real, ours = (t[t["sex"] == sex] for t in (frame, sampled))
        found = compare_survival(
            (real["time"], real["event"].astype(int)), (ours["time"], ours["event"].astype(int)), grid
        )
        out.append((found.km_divergence, found.optimism, found.short_sightedness))
    return out


def write(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flchain", type=Path)
    parser.add_argument("--epsilon", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--mechanisms", nargs="+", choices=MECHANISMS, default=list(MECHANISMS))
    args = parser.parse_args()
    tables = {"LeukSurv": leuksurv()}
    if args.flchain is not None:
        tables["flchain"] = flchain(args.flchain)
    write(f"epsilon {args.epsilon}, delta {DELTA}, {args.seeds} seeds; worse of the two sexes")
    write(
        "| table | grid | mechanism | strata | KM divergence | \\|optimism\\| | \\|short-sightedness\\| | CPU s a fit |"
    )
    write("|---|---|---|---|---|---|---|---|")
    for name, (frame, columns) in tables.items():
        for step in (180, 365):
            for kind in (MECHANISMS[choice] for choice in args.mechanisms):
                for strata in (False, True):
                    schema = schema_of(columns, step, strata=strata)
                    mechanism = kind(epsilon=args.epsilon, delta=DELTA)
                    start = time.process_time()
                    found = [figures(frame, schema, mechanism, seed, step) for seed in range(args.seeds)]
                    seconds = (time.process_time() - start) / args.seeds
                    # The size of each run's optimism, not its mean, in which errors of two signs would cancel.
                    worst = np.abs(found).mean(axis=0).max(axis=0)
                    cells = (*(f"{value:.3f}" for value in worst), f"{seconds:.2f}")
                    write(f"| {name} | {step} d | {kind.name} | {'sex' if strata else '-'} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
