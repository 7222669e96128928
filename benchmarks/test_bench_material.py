"""Offline cost: how fast material expands, by kind, beside the stream it is made of; and what a take from disk costs.

Run: pytest benchmarks/test_bench_material.py --benchmark-enable
"""

from __future__ import annotations

import numpy as np
import pytest

from smpc.dealing import deal
from smpc.kinds import Bit, Digits, Gate, MatrixProduct, Product, Square, Truncation, all_of, node
from smpc.material import MaterialStore
from smpc.prg import Prg
from smpc.ring import FIELD61, RING64
from smpc.store import install_package, open_store

ITEM_COUNTS = {
    Product(RING64): 300_000,
    Product(FIELD61): 300_000,
    Square(RING64): 500_000,
    MatrixProduct(RING64, 128, 128, 128): 20,
    all_of(4): 60_000,
    node(4, whole=True): 20_000,
    Digits(64): 200_000,
    Truncation(16): 250_000,
    Bit(RING64): 16_000,
    Gate(): 5_000,
}
STREAM_BYTES = 8 << 20
KINDS = pytest.mark.parametrize("kind", ITEM_COUNTS, ids=lambda kind: kind.label)


def _rates(benchmark, items, n_bytes):
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["items_per_second"] = items / seconds
        benchmark.extra_info["gigabytes_per_second"] = n_bytes / seconds / 1e9


def test_the_floor_is_the_stream(benchmark):
    benchmark.group = "offline: expanding, first parties (seed only)"
    out = np.empty(STREAM_BYTES // 8, dtype=np.uint64)
    benchmark.pedantic(lambda: Prg(bytes(32), b"bench").fill(out), rounds=20, warmup_rounds=2)
    _rates(benchmark, len(out), STREAM_BYTES)


@KINDS
def test_expanding_a_seed(benchmark, kind):
    benchmark.group = "offline: expanding, first parties (seed only)"
    count = ITEM_COUNTS[kind]

    def expand():
        MaterialStore(bytes(32), corrections=None).prepare({kind: count})

    benchmark.pedantic(expand, rounds=7, warmup_rounds=1)
    _rates(benchmark, count, kind.n_bytes(count))


@KINDS
def test_expanding_a_seed_and_reading_corrections(benchmark, kind, tmp_path):
    benchmark.group = "offline: expanding and reading, last party (from disk, checked)"
    count = ITEM_COUNTS[kind]
    install_package(deal({kind: count}, 2, tmp_path).files[1], tmp_path / "store")

    def expand():
        with open_store(tmp_path / "store") as store:
            store.prepare({kind: count})

    benchmark.pedantic(expand, rounds=5, warmup_rounds=1)
    _rates(benchmark, count, kind.n_bytes(count))


@KINDS
def test_dealing(benchmark, kind, tmp_path):
    benchmark.group = "offline: the dealer, two packages on disk"
    count = ITEM_COUNTS[kind]
    numbers = iter(range(100))

    def make():
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        deal({kind: count}, 2, folder)

    benchmark.pedantic(make, rounds=3, warmup_rounds=1)
    _rates(benchmark, count, kind.n_bytes(count))


@pytest.mark.parametrize("synced", ["in a block that is reserved", "each reserving a block"])
def test_a_take_from_disk(benchmark, tmp_path, monkeypatch, synced):
    benchmark.group = "online: a take of 64 items that were prepared, first party"
    kind, takes = Product(RING64), 200
    install_package(deal({kind: 2_000_000}, 2, tmp_path).files[0], tmp_path / "store")
    if synced == "each reserving a block":
        # A block of one item: every take waits for the disk.
        monkeypatch.setattr("smpc.store.StoredMaterial._block", lambda *_: 1)

    def opened():
        store = open_store(tmp_path / "store")
        store.new_statement()
        store.reserve_from(store.marks, {}, {})
        store.begin()
        store.prepare({kind: 64 * takes})
        return (store,), {}

    def take(store):
        for _ in range(takes):
            store.take(kind, 64)
        store.close()

    benchmark.pedantic(take, setup=opened, rounds=7, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["microseconds_per_take"] = benchmark.stats.stats.median / takes * 1e6


def test_a_take_from_memory(benchmark):
    benchmark.group = "online: a take of 64 items that were prepared, first party"
    kind, takes = Product(RING64), 200

    def opened():
        store = MaterialStore(bytes(32), corrections=None)
        store.prepare({kind: 64 * takes})
        return (store,), {}

    def take(store):
        for _ in range(takes):
            store.take(kind, 64)

    benchmark.pedantic(take, setup=opened, rounds=7, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["microseconds_per_take"] = benchmark.stats.stats.median / takes * 1e6
