"""Time and memory of a hundred columns by millions of rows: encoding in chunks, all pairs, a whole MST fit.

By hand; made-up rows, a chain of skewed columns of 20 codes, each half the time a copy of the one before:

    python benchmarks/measure_large_tables.py 1e6
    python benchmarks/measure_large_tables.py 1e7 --codes

With `--codes` the table is made encoded, and validation and encoding are left out.

Memory is the process's peak above what it had before the table came, as a multiple of the encoded table. Processor
seconds tell what an idle machine would need on one thread; wall time is that of the machine as it was.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time

import numpy as np
import pandas as pd

from generators import MST, Schema, TableOracle
from generators.marginals import count_marginals

N_COLUMNS, N_CODES = 100, 20
CHUNK_ROWS, BLOCK_ROWS = 1 << 14, 1 << 17


def columns(n_rows, dtype, rng):
    """Yield the columns of some rows, one after the other."""
    before = rng.integers(0, N_CODES, n_rows).astype(dtype)
    for _ in range(N_COLUMNS):
        own = (N_CODES * rng.beta(1, 3, n_rows)).astype(dtype)
        before = np.where(rng.random(n_rows) < 0.5, before, own)
        yield before


def chunks(n_rows, names):
    """Yield frames of whole numbers, as a file read in chunks would."""
    rng = np.random.default_rng(1)
    for start in range(0, n_rows, CHUNK_ROWS):
        n = min(CHUNK_ROWS, n_rows - start)
        yield pd.DataFrame(dict(zip(names, columns(n, np.int64, rng), strict=True)))


def blocks(n_rows):
    """Yield the same table as codes."""
    rng = np.random.default_rng(1)
    for start in range(0, n_rows, BLOCK_ROWS):
        block = np.empty((min(BLOCK_ROWS, n_rows - start), N_COLUMNS), dtype=np.uint8, order="F")
        for i, column in enumerate(columns(len(block), np.uint8, rng)):
            block[:, i] = column
        yield block


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Clock:
    """Prints what a stage took, and the peak of memory so far."""

    def __init__(self, n_rows):
        self.table_mb = n_rows * N_COLUMNS / 1e6
        self.base_mb = peak_mb()
        self.start()

    def start(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self, stage):
        out = {
            "stage": stage,
            "seconds": round(time.perf_counter() - self.wall, 1),
            "processor_seconds": round(time.process_time() - self.cpu, 1),
            "memory_over_table": round((peak_mb() - self.base_mb) * 1.048576 / self.table_mb, 2),
        }
        sys.stdout.write(json.dumps(out) + "\n")
        sys.stdout.flush()
        self.start()


def main(n_rows, *, encoded):
    names = [f"c{i:03}" for i in range(N_COLUMNS)]
    categories = [str(code) for code in range(N_CODES)]
    schema = Schema.from_dict({"columns": {name: {"categories": categories} for name in names}})
    # One chunk before the clock starts: making rows is not what is measured.
    for _ in chunks(CHUNK_ROWS, names):
        pass
    clock = Clock(n_rows)
    if encoded:
        oracle = TableOracle.from_codes(list(blocks(n_rows)), schema)
        clock.stop("making the codes")
    else:
        for _ in chunks(n_rows, names):
            pass
        clock.stop("making the rows alone")
        oracle = TableOracle(chunks(n_rows, names), schema)
        clock.stop("making, validating and encoding")
    count_marginals(oracle._blocks, oracle.domain, list(itertools.combinations(names, 2)))  # noqa: SLF001 - a benchmark
    clock.stop("all 4,950 pairs")
    MST(epsilon=1.0, delta=1e-9).fit(None, schema, oracle=oracle)
    clock.stop("MST fit")


if __name__ == "__main__":
    main(int(float(sys.argv[1])), encoded="--codes" in sys.argv)
