"""What it takes to check sites' vectors on shares, beside adding them up with noise and opening the sum.

Three parties, their dealer and the expansion of packages on one core: a third of the time is what one party needs.
LeukSurv: 5 sites, all pairs of its 6 columns, 356 cells. AML: 20 sites, all 10,296 pairs of 144 columns, 106,797 cells.

Run: pytest benchmarks/test_bench_validity.py --benchmark-enable --benchmark-warmup=off
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import numpy as np
import pytest

from smpc import run_local, share
from smpc.kinds import Digits
from smpc.noise import joint_discrete_gaussian
from synthema.validity import check_contributions, n_cells


@dataclass(frozen=True)
class Layout:
    sizes: dict
    cliques: tuple


def pairs_of(*codes):
    sizes = {f"c{i}": size for i, size in enumerate(codes)}
    return Layout(sizes, tuple(itertools.combinations(sizes, 2)))


# The numbers of codes of the two schemas.
AML = [2] * 112 + [7] * 7 + [3] * 5 + [6] * 4 + [13, 12, 14, 5, 11, 8, 4] * 2 + [9, 10]
CASES = {"leuksurv": (pairs_of(7, 2, 5, 5, 9, 2), 5, 400), "aml": (pairs_of(*AML), 20, 250)}


def vectors_of(layout, n_sites, n_rows):
    rng = np.random.default_rng(1)
    for _ in range(n_sites):
        codes = {name: rng.integers(0, size, n_rows) for name, size in layout.sizes.items()}
        yield np.concatenate(
            [
                np.bincount(codes[a] * layout.sizes[b] + codes[b], minlength=layout.sizes[a] * layout.sizes[b])
                for a, b in layout.cliques
            ]
        )


@pytest.fixture(scope="module", params=["leuksurv", "aml"])
def case(request, pytestconfig):
    layout, n_sites, n_rows = CASES[request.param]
    if request.param == "aml" and not pytestconfig.getoption("benchmark_enable"):
        layout, n_sites = pairs_of(*AML[-10:]), 3
    packages = [share(vector, 3) for vector in vectors_of(layout, n_sites, n_rows)]
    return request.param, layout, [list(mine) for mine in zip(*packages, strict=True)]


def timed(benchmark, case, what, protocol):
    name, layout, packages = case
    seconds = []

    def run():
        start = time.process_time()
        out = run_local(protocol, packages, timeout=600)
        seconds.append(time.process_time() - start)
        return out

    benchmark.group = f"{name}, {len(packages[0])} sites x {n_cells(layout)} cells"
    cost = benchmark.pedantic(run, rounds=3, warmup_rounds=0).cost
    benchmark.extra_info |= {
        "what": what,
        "processor_seconds": round(min(seconds), 2),
        "rounds": cost.rounds,
        "bytes_sent_per_party": cost.bytes_sent_by_party[0],
        "dealer_bytes": cost.dealer_bytes,
        "masked_openings": cost.material.get(Digits(64), 0),
    }
    print(f"{benchmark.group}: {benchmark.extra_info}")
    return cost


@pytest.mark.parametrize("level", ["totals", "full"])
def test_bench_check(benchmark, case, level):
    _, layout, packages = case
    sites = [f"site{i}" for i in range(len(packages[0]))]

    async def protocol(session, mine):
        await check_contributions(session, layout, mine, sites=sites, cap=1000, level=level)

    cost = timed(benchmark, case, level, protocol)
    cells = n_cells(layout) if level == "full" else 0
    assert cost.material[Digits(64)] == len(sites) * (64 + 1 + cells)


def test_bench_sum_with_noise_alone(benchmark, case):
    async def protocol(session, mine):
        total = session.shared(mine[0].expand())
        for package in mine[1:]:
            total = total + session.shared(package.expand())
        await session.open(await joint_discrete_gaussian(session, total, 20.0, collusion_threshold=1))

    timed(benchmark, case, "sum", protocol)
