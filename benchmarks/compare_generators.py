"""Error, time and memory of every mechanism on real tables, ours beside `mbi` 2.0, each run in a fresh process.

By hand, because the peer alone takes minutes:

    python benchmarks/compare_generators.py --record
    python benchmarks/compare_generators.py --tables leuksurv --epsilons 1 --mechanisms Independent MST --seeds 5

Needs the extra `bench-generators` for the peer, or `--mbi-python` with an interpreter that has it. L1_k is the mean
over all k-way marginals of the L1 distance between the real and the synthetic distribution (not halved). The floor is
a bootstrap of the real rows: what another sample of the same patients would show, without any privacy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import _generator_tables as tables

HERE = Path(__file__).parent
MECHANISMS = ("floor", "Independent", "ChowLiu", "MST", "AIM", "PrivBayes", "Adaptive", "mbi-mst")
TIME_LIMIT_SECONDS = 3_600


def known_mechanisms():
    sys.path.insert(0, str(HERE.parent))
    import generators

    return [name for name in MECHANISMS if not name[0].isupper() or hasattr(generators, name)]


def run(python, mechanism, table, epsilon, seed):
    """Return what the run printed, or None if it failed or took too long."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    command = [python, "-W", "ignore", str(HERE / "_generator_run.py"), mechanism, table, str(epsilon), str(seed)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=TIME_LIMIT_SECONDS, env=environment
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        reason = (error.stderr or "").strip().splitlines()[-1:] or [type(error).__name__]
        sys.stdout.write(f"  {mechanism} on {table} at epsilon {epsilon}, seed {seed}: {reason[0]}\n")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def row_of(mechanism, table, epsilon, runs):
    """Return one row of the result: means and ranges over seeds."""
    row = {"table": table, "epsilon": epsilon, "mechanism": mechanism, "seeds": len(runs)}
    row |= {"date": datetime.now(UTC).date().isoformat(), "load": os.getloadavg()[1]}
    for name in ("l1_1", "l1_2", "l1_3"):
        values = [each[name] for each in runs]
        row[name] = {"mean": sum(values) / len(values), "least": min(values), "most": max(values)}
    for name in ("seconds", "processor_seconds", "peak_mb"):
        row[name] = sorted(each[name] for each in runs)[len(runs) // 2]
    return row


def line_of(row):
    errors = []
    for name in ("l1_3", "l1_2", "l1_1"):
        value = row[name]
        errors.append(f"{value['mean']:.3f} [{value['least']:.3f}-{value['most']:.3f}]")
    cells = [
        row["table"],
        "-" if row["epsilon"] is None else f"{row['epsilon']:g}",
        row["mechanism"],
        str(row["seeds"]),
        *errors,
        f"{row['seconds']:.2f}",
        f"{row['processor_seconds']:.2f}",
        f"{row['peak_mb']:.0f}",
        "-" if row["load"] is None else f"{row['load']:.0f}",
        row["date"],
    ]
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| table | epsilon | mechanism | seeds | L1_3 | L1_2 | L1_1 | seconds | processor seconds | peak MB | load | date "
    "|\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def record(rows):
    """Write the rows as JSON and as a table; rows of an earlier record stay unless they were measured again."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    path = results / "generators.json"
    earlier = json.loads(path.read_text()) if path.exists() else []
    kept = {key_of(row): row for row in [*earlier, *rows]}
    ordered = sorted(kept.values(), key=key_of)
    path.write_text(json.dumps(ordered, indent=1) + "\n")
    text = f"""# Generators: error, time, memory

`python benchmarks/compare_generators.py --record`, some tables, mechanisms and epsilons at a time; delta 1e-9, add or
remove one patient; {os.cpu_count()} processors, Python {platform.python_version()}.

L1_k: mean over all k-way marginals of the L1 distance of real and synthetic frequencies, mean over seeds [range]. Time
of fitting and sampling and peak memory of the process: median over seeds, each run in a fresh process. The machine may
be shared (load: its load average at the end of the row), so processor seconds are the fair ones. `floor`: bootstrap of
the real rows, not private. `mbi-mst`: MST on `mbi` 2.0 (`_mbi_mst.py`).

{HEADER}
"""
    (results / "generators.md").write_text(text + "\n".join(map(line_of, ordered)) + "\n")


def key_of(row):
    return tables.TABLES.index(row["table"]), row["epsilon"] or 0.0, MECHANISMS.index(row["mechanism"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(tables.TABLES), choices=tables.TABLES)
    parser.add_argument("--epsilons", nargs="+", type=float, default=[0.1, 1.0, 10.0])
    parser.add_argument("--mechanisms", nargs="+", default=known_mechanisms(), choices=MECHANISMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mbi-python", default=sys.executable, help="interpreter that has mbi 2.0")
    parser.add_argument(
        "--mbi-runs", nargs="*", default=["adult:1"], help="table:epsilon where the peer runs, one seed"
    )
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/generators.{md,json}")
    chosen = parser.parse_args()
    rows = []
    sys.stdout.write(HEADER + "\n")
    for table in chosen.tables:
        for mechanism in chosen.mechanisms:
            for epsilon in [None] if mechanism == "floor" else chosen.epsilons:
                peer = mechanism == "mbi-mst"
                if peer and f"{table}:{epsilon:g}" not in chosen.mbi_runs:
                    continue
                python = chosen.mbi_python if peer else sys.executable
                seeds = range(1 if peer else chosen.seeds)
                runs = [run(python, mechanism, table, epsilon or 0.0, seed) for seed in seeds]
                if runs := [each for each in runs if each is not None]:
                    rows.append(row_of(mechanism, table, epsilon, runs))
                    sys.stdout.write(line_of(rows[-1]) + "\n")
                    sys.stdout.flush()
    if chosen.record:
        record(rows)


if __name__ == "__main__":
    main()
