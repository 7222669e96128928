"""How the gap of the optimal search falls with time on lattices too large to list: Adult with 14 to 20 columns, k = 5.

The table is the one of the AIM and MST papers' code (48,842 rows, 14 columns, codes), with intervals as hierarchies.
Columns 15 to 20 are derived from others as a site would: overtime, age at the end of school, net capital, ...
Run: python benchmarks/measure_wide_lattices.py [n_columns ...] [--seconds 60]; it prints a line whenever a tenth of the
gap that was left is closed. All times, the limit included, are processor time, so that a busy machine can measure.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from anonymise import KAnonymity, build_hierarchy, encode_table, lattice
from anonymise.lattice import Progress, search
from anonymise.loss import Loss
from privacy.schema import Column, HierarchySpec

DATA = Path(__file__).parent / "data"
WIDTHS = {
    "age": (5, 10, 20, 40),
    "workclass": (3,),
    "fnlwgt": (5, 10, 50),
    "education-num": (2, 4, 8),
    "marital-status": (2,),
    "occupation": (4,),
    "relationship": (2,),
    "capital-gain": (10, 50),
    "capital-loss": (10, 50),
    "hours-per-week": (5, 10, 50),
    "native-country": (7, 21),
}
DERIVED = {
    "overtime": (lambda t: (t["hours-per-week"] - 40).clip(0) // 5, 12, (3, 6)),
    "age-at-entry": (lambda t: (t["age"] - t["education-num"]).clip(0), 85, (5, 10, 20, 40)),
    "net-capital": (lambda t: (t["capital-gain"] - t["capital-loss"] + 100) // 2, 100, (10, 50)),
    "birth-decade": (lambda t: t["age"] // 10, 9, (3,)),
    "continent": (lambda t: t["native-country"] // 7, 6, (2,)),
    "weight-class": (lambda t: t["fnlwgt"] // 10, 10, (5,)),
}


def wide_adult(n_columns):
    table = pd.read_csv(DATA / "adult_coded.csv.gz")
    sizes = json.loads((DATA / "adult_coded.domain.json").read_text())
    widths = dict(WIDTHS)
    for name, (values, size, of_column) in DERIVED.items():
        table[name], sizes[name], widths[name] = values(table), size, of_column
    names = list(sizes)[:n_columns]
    hierarchies = [
        build_hierarchy(
            Column(
                name,
                kind="integer",
                bounds=(0, sizes[name] - 1),
                hierarchy=HierarchySpec("interval", steps=widths[name]) if name in widths else None,
            )
        )
        for name in names
    ]
    return encode_table([table[name] for name in names], hierarchies)


def measure(encoded, limit, seconds):
    started = time.process_time()
    last = math.inf

    def show(now: Progress):
        nonlocal last
        gap = now.score - now.bound
        if gap < 0.9 * last:
            last = gap
            print(
                f"    {time.process_time() - started:6.1f} s  loss {now.score:.5f}  gap {gap:.5f}"
                f"  checks {now.n_checked}  open {now.n_open}",
                flush=True,
            )

    found = search(
        encoded,
        Loss.of(encoded.hierarchies),
        [KAnonymity(5)],
        max_suppressed=min(int(limit * encoded.n_rows), encoded.n_rows - 1),
        time_limit=seconds,
        progress=show,
    )
    print(
        f"  suppression {limit:4.0%}: {time.process_time() - started:6.1f} s  loss {found.score:.7f}"
        f"  gap {found.gap:.5f}  proven {found.proven}  checks {found.n_checked}  suppressed {found.n_suppressed}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("columns", nargs="*", type=int, default=[14, 15, 20])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--limits", nargs="*", type=float, default=[0.0, 0.02, 1.0])
    chosen = parser.parse_args()
    lattice.time = SimpleNamespace(monotonic=time.process_time)
    for n_columns in chosen.columns:
        encoded = wide_adult(n_columns)
        print(
            f"{n_columns} columns, {math.prod(encoded.shape):.3g} nodes, {encoded.n_tuples} distinct tuples", flush=True
        )
        for limit in chosen.limits:
            measure(encoded, limit, chosen.seconds)


if __name__ == "__main__":
    main()
