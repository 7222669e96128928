"""The tasks of `_smpc_tasks` for MPyC, three parties on loopback without TLS, smaller where it would take minutes.

Run as a script with -M3: party 0 prints a line of JSON, task to seconds and size.
"""

from __future__ import annotations

import json
import os
import time

import numpy as np
from mpyc.runtime import mpc

# The smaller sizes show only that the script works.
FULL = os.environ.get("FULL_SIZE") == "1"
N_SUMMANDS = 100_000 if FULL else 1_000
N_PRODUCTS = N_SUMMANDS
N_COMPARISONS = 1_000 if FULL else 20
N_CANDIDATES = 1_000 if FULL else 20
MATRIX = 64 if FULL else 8
REPEATS = 3 if FULL else 1


async def _sum(secint, rng):
    x = mpc.input(secint.array(rng.integers(-(2**40), 2**40, N_SUMMANDS).astype(object)), senders=0)
    return await mpc.output(x + x)


async def _product(x, y):
    return await mpc.output(mpc.np_multiply(x, y))


async def _less(x, y):
    return await mpc.output(mpc.np_less(x, y))


async def main():
    secint, secfxp = mpc.SecInt(64), mpc.SecFxp(64, 16)
    rng = np.random.default_rng(1)

    def ints(n: int, bits: int):
        return mpc.input(secint.array(rng.integers(-(2**bits), 2**bits, n).astype(object)), senders=0)

    results = {}
    async with mpc:
        factors = ints(N_PRODUCTS, 31), ints(N_PRODUCTS, 31)
        words = ints(N_COMPARISONS, 61), ints(N_COMPARISONS, 61)
        candidates = ints(N_CANDIDATES, 30)
        matrices = [mpc.input(secfxp.array(rng.uniform(-1, 1, (MATRIX, MATRIX))), senders=0) for _ in range(2)]
        for name, size, run in (
            ("sum", N_SUMMANDS, lambda: _sum(secint, rng)),
            ("product", N_PRODUCTS, lambda: _product(*factors)),
            ("comparisons", N_COMPARISONS, lambda: _less(*words)),
            ("arg max", N_CANDIDATES, lambda: mpc.output(mpc.np_argmax(candidates))),
            ("matrix product", MATRIX, lambda: mpc.output(mpc.np_matmul(*matrices))),
        ):
            seconds = []
            for _ in range(REPEATS):
                await mpc.barrier()
                began = time.perf_counter()
                await run()
                seconds.append(time.perf_counter() - began)
            results[name] = {"size": size, "seconds": sorted(seconds)[REPEATS // 2]}
    if mpc.pid == 0:
        print(json.dumps(results), flush=True)


if __name__ == "__main__":
    mpc.run(main())
