"""A dealer that serves while the run goes on: items per second to the last party, and what it adds to a selection.

The dealer is a process of its own, on a line inside TLS over loopback. Beside it: what AES-CTR alone takes for the
bytes that the dealer has to expand (both parties' shares), and the same arg max with material of a dealer in the
process. Loopback has no latency worth the name: `round_trips` times the network's is what a real line adds.

Run: pytest benchmarks/test_bench_online_dealer.py --benchmark-enable
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from _online_dealer import N_PARTIES, DealerProcess

from privacy.randomness import SecureRng
from smpc import Dealer, Session
from smpc.kinds import Bit, Digits, Gate, Product, node
from smpc.prg import Prg
from smpc.remote_material import DEFAULT_AHEAD_BYTES, remote_material
from smpc.ring import RING64
from smpc.transport import InProcessTransport

ITEM_COUNTS = {
    Product(RING64): 1_000_000,
    Digits(64): 300_000,
    node(4, whole=True): 60_000,
    Bit(RING64): 16_000,
    Gate(): 8_000,
}
NUMBERS = 100
WARM_UP, CHOICES = 10, 20


@pytest.fixture(scope="module")
def dealer():
    with DealerProcess() as process:
        yield process


def materials(dealer, **options):
    return [remote_material(line, party=i, n_parties=N_PARTIES, **options) for i, line in enumerate(dealer.lines())]


@pytest.mark.parametrize("kind", ITEM_COUNTS, ids=lambda kind: kind.label)
def test_serving_the_last_party(benchmark, dealer, kind):
    benchmark.group = "online dealer: corrections to the last party"
    count = ITEM_COUNTS[kind] if benchmark.enabled else 100
    last = materials(dealer, ahead_bytes=0)[1]
    starts = itertools.count(0, count)

    def fetch():
        last.corrections.correction(kind, next(starts), count)

    benchmark.pedantic(fetch, rounds=7, warmup_rounds=1)
    last.close()
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        words = np.empty(1 << 20, dtype=np.uint64)
        floor = Prg(bytes(32), b"bench")
        floor.fill(words)
        began = time.perf_counter()
        floor.fill(words)
        stream = (time.perf_counter() - began) / words.nbytes
        # The last party's tied fields are not drawn: they are what is sent.
        expanded = N_PARTIES * kind.n_bytes(count) - kind.dealer_bytes(count)
        benchmark.extra_info["items_per_second"] = count / seconds
        benchmark.extra_info["megabytes_per_second"] = kind.dealer_bytes(count) / seconds / 1e6
        benchmark.extra_info["times_aes_ctr"] = seconds / (expanded * stream)


@pytest.mark.parametrize("source", ["in the process", "fetched ahead", "not fetched ahead"])
def test_an_arg_max(benchmark, dealer, source):
    benchmark.group = f"online dealer: arg max of {NUMBERS} numbers, two parties in one process"
    choices, warm_up = (CHOICES, WARM_UP) if benchmark.enabled else (1, 1)
    here = Dealer(N_PARTIES)
    stores = (
        [here.store(i) for i in range(N_PARTIES)]
        if source == "in the process"
        else materials(dealer, ahead_bytes=DEFAULT_AHEAD_BYTES if source == "fetched ahead" else 0)
    )
    lines = InProcessTransport.connect(N_PARTIES)
    sessions = [
        Session(
            party=i,
            n_parties=N_PARTIES,
            transport=lines[i],
            material=stores[i],
            session_id=bytes(16),
            rng=SecureRng(),
        )
        for i in range(N_PARTIES)
    ]
    numbers = np.arange(NUMBERS)

    async def choose(session):
        shares = await session.input(numbers, max_abs=2**30)
        return await session.open(await session.argmax(shares[0] + shares[1]))

    async def all_parties():
        return await asyncio.gather(*(choose(session) for session in sessions))

    with asyncio.Runner() as runner:
        waits = [0]

        def run():
            assert runner.run(all_parties())[0] == NUMBERS - 1
            waits.append(getattr(stores[-1], "round_trips", 0))

        benchmark.pedantic(run, rounds=choices, warmup_rounds=warm_up)
    for store in stores:
        store.close()
    benchmark.extra_info["round_trips_of_the_first"] = waits[1]
    benchmark.extra_info["round_trips_of_all"] = waits[-1]
    benchmark.extra_info["choices"] = choices + warm_up
