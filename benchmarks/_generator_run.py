"""One run of one mechanism in a process of its own: `python _generator_run.py MECHANISM TABLE EPSILON SEED`.

Prints one line of JSON: seconds of fitting and sampling (wall and processor), peak memory before errors are computed,
and the errors. `mbi-mst` runs the peer; `floor` is a bootstrap of the real rows, without privacy.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import _generator_tables as tables
import numpy as np

DELTA = 1e-9


def synthesise(mechanism, codes, sizes, epsilon, seed):
    """Return synthetic codes, as many rows as the real table."""
    rng = np.random.default_rng(seed)
    if mechanism == "floor":
        return codes[rng.integers(0, len(codes), len(codes))]
    if mechanism == "mbi-mst":
        from _mbi_mst import mst

        return mst(codes, sizes, epsilon=epsilon, delta=DELTA, rng=rng)
    import generators
    from generators import TableOracle
    from privacy import InsecureSeededRng

    schema = tables.schema_of(sizes)
    # A seed makes the run repeatable; noise that protects people comes from the operating system.
    oracle = TableOracle.from_codes(codes, schema, rng=InsecureSeededRng(seed))
    model = getattr(generators, mechanism)(epsilon=epsilon, delta=DELTA).fit(None, schema, oracle=oracle)
    return model.sample_codes(len(codes), rng=rng)


def main(mechanism, table, epsilon, seed):
    codes, sizes = tables.load(table)
    wall, cpu = time.perf_counter(), time.process_time()
    synthetic = synthesise(mechanism, codes, sizes, epsilon, seed)
    out = {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    out["l1_1"], out["l1_2"], out["l1_3"] = tables.errors(codes, synthetic, sizes)
    sys.stdout.write(json.dumps(out) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
