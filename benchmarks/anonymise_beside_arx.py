"""The optimal search beside ARX on Adult: the same configurations, one after the other, on one machine.

    python benchmarks/anonymise_beside_arx.py --arx "java -Xmx2G -XX:+UseSerialGC -cp CLASSES ArxRun"

CLASSES: see benchmarks/arx/README.md. ARX runs warm in one JVM, without reading the table and without writing the
output; here the encoding of the table is included (strings to codes), writing the output is not. Both: median of 5 runs
after warm-up. Processor time is that of the whole process, for ARX with compiler and garbage collector.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from anonymise import KAnonymity, LDiversity, Model, Schema, TCloseness, build_hierarchy, encode_table
from anonymise.lattice import search
from anonymise.loss import Loss

DATA = Path(__file__).parents[1] / "tests" / "anonymise" / "data"
REPEATS = 5
CASES: list[tuple[str, bool, float, list[Model], str]] = [
    ("k=5, no suppression", False, 0.0, [KAnonymity(5)], "k:5"),
    ("k=5, 2 %", False, 0.02, [KAnonymity(5)], "k:5"),
    ("k=5, 100 %", False, 1.0, [KAnonymity(5)], "k:5"),
    *(
        (f"k=5 + {name}, 2 % (8 qi)", True, 0.02, [KAnonymity(5), model], f"k:5|{text}")
        for name, model, text in (
            ("distinct 5-diversity", LDiversity(5, attribute="occupation"), "distinct:occupation:5"),
            ("t-closeness .2", TCloseness(0.2, attribute="occupation"), "t_equal:occupation:0.2"),
        )
    ),
]


def columns_of(schema: Schema, *, sensitive: bool) -> list[str]:
    return [name for name in schema.quasi_identifiers if not (sensitive and name == "occupation")]


def ours(frame: pd.DataFrame, schema: Schema, case: tuple[str, bool, float, list[Model], str]) -> dict[str, float]:
    _, sensitive, limit, models, _ = case
    names = columns_of(schema, sensitive=sensitive)
    hierarchies = [build_hierarchy(schema.column(name)) for name in names]
    attributes = (
        {"occupation": [(frame["occupation"], build_hierarchy(schema.column("occupation")))]} if sensitive else {}
    )
    walls, processor = [], []
    for run in range(REPEATS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        table = encode_table([frame[name] for name in names], hierarchies, sensitive=attributes)
        found = search(table, Loss.of(hierarchies), models, max_suppressed=int(limit * table.n_rows))
        if run:
            walls.append(1e3 * (time.perf_counter() - wall))
            processor.append(1e3 * (time.process_time() - cpu))
    if found is None:
        raise SystemExit("no optimum")
    return {
        "ms": statistics.median(walls),
        "cpu": statistics.median(processor),
        "score": found.score,
        "suppressed": found.n_suppressed,
        "checked": found.n_checked,
    }


def arx(command: str, schema: Schema, case: tuple[str, bool, float, list[Model], str], data: Path) -> dict[str, float]:
    _, sensitive, limit, _, text = case
    quasi = ",".join(columns_of(schema, sensitive=sensitive))
    line = (
        f"id=a table={data / 'adult.csv'} hierarchies={DATA / 'hierarchies'} qi={quasi} models={text} limit={limit:g} "
    )
    # As many runs are made to warm up as are timed.
    done = subprocess.run(
        shlex.split(command), input=f"{line} repeats={REPEATS}\n", capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "ms": found["search_ms"],
        "cpu": found["cpu_ms"],
        "score": found["score"],
        "suppressed": found["suppressed"],
        "checked": found["n_checked"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arx", required=True, help="the command that runs ArxRun")
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)))
    arguments = parser.parse_args()
    schema = Schema.load(DATA / "adult.toml")
    frame = pd.read_csv(DATA / "adult.csv.gz", sep=";")
    print("| configuration | ARX ms | ARX processor ms | ms | processor ms | ratio | nodes checked: ARX, here |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "adult.csv").write_bytes(gzip.decompress((DATA / "adult.csv.gz").read_bytes()))
        for number in arguments.cases:
            case = CASES[number]
            theirs = arx(arguments.arx, schema, case, Path(folder))
            here = ours(frame, schema, case)
            same = np.isclose(theirs["score"], here["score"], atol=1e-9, rtol=0)
            note = "" if same and theirs["suppressed"] == here["suppressed"] else " (scores differ)"
            print(
                f"| {case[0]}{note} | {theirs['ms']:.0f} | {theirs['cpu']:.0f} | {here['ms']:.0f} | {here['cpu']:.0f} "
                f"| {theirs['cpu'] / here['cpu']:.1f} | {theirs['checked']} / {here['checked']} |",
                flush=True,
            )
    print(f"\nload average at the end: {os.getloadavg()[0]:.1f}; {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
