"""Speed of sums over many sites: masks beside raw AES and beside seeded Mersenne Twister masks; whole runs on one core.

Run: pytest benchmarks/test_bench_secure_sum.py --benchmark-enable

"masks" are what a site with 99 peers adds to 100,000 counters: 99 streams and its own, from agreed secrets. The floor
encrypts as many zeros into one buffer and adds nothing. The generator that federated learning frameworks use for the
same purpose, NumPy's RandomState from a 32-bit seed for each peer, is written here from its description; it is no
secure choice, and it yields 32 bits for each counter.
"""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from privacy import SecureRng
from smpc import secure_sum_local
from smpc.secure_sum import masks, shamir

N_PEERS = 99
N_COUNTERS = 100_000
SECRETS = [SecureRng().bytes(32) for _ in range(N_PEERS + 1)]
FITS_32_BITS, NEEDS_64_BITS = 1000, 10**12


@pytest.mark.parametrize("word", ["<u8", "<u4"], ids=["Z_2^64", "Z_2^32"])
def test_masks_of_a_site_with_99_peers(benchmark, word):
    benchmark.group = "masks, 99 peers, 1e5 counters"
    total = np.zeros(N_COUNTERS, dtype=word)

    def add():
        streams = [(masks.pair_stream(secret, 0, peer + 1), -1) for peer, secret in enumerate(SECRETS[:-1])]
        masks.add_streams(total, [*streams, (masks.self_stream(SECRETS[-1]), 1)])

    benchmark.pedantic(add, rounds=20, warmup_rounds=2)


@pytest.mark.parametrize("n_bytes", [8, 4], ids=["as Z_2^64", "as Z_2^32"])
def test_floor_raw_aes_256_of_the_same_bytes(benchmark, n_bytes):
    benchmark.group = "masks, 99 peers, 1e5 counters"
    zeros = bytes(1 << 18)
    buffer = bytearray(1 << 18)
    stream = Cipher(AES(SECRETS[0]), CTR(bytes(16))).encryptor()
    n_blocks, rest = divmod((N_PEERS + 1) * N_COUNTERS * n_bytes, len(zeros))

    def encrypt():
        for _ in range(n_blocks):
            stream.update_into(zeros, buffer)
        stream.update_into(zeros[:rest], buffer)

    benchmark.pedantic(encrypt, rounds=20, warmup_rounds=2)


def test_peer_random_state_for_each_peer_not_secure(benchmark):
    benchmark.group = "masks, 99 peers, 1e5 counters"
    total = np.zeros(N_COUNTERS, dtype=np.int64)
    seeds = [int.from_bytes(secret[:4], "little") for secret in SECRETS]

    def add():
        for seed in seeds:
            total[...] += np.random.RandomState(seed).randint(0, 2**32 - 1, N_COUNTERS, dtype=np.int64)

    benchmark.pedantic(add, rounds=5, warmup_rounds=1)


def test_a_hundred_shares_of_two_secrets(benchmark):
    benchmark.group = "Shamir, 67 of 100"

    def share():
        for secret in SECRETS[:2]:
            shamir.split(secret, range(1, 101), 67, rng=SecureRng())

    benchmark.pedantic(share, rounds=20, warmup_rounds=2)


def whole_run(benchmark, n_sites, max_abs, **options):
    vectors = np.random.default_rng(1).integers(-1000, 1000, (n_sites, N_COUNTERS))
    run = benchmark.pedantic(
        secure_sum_local, args=(list(vectors),), kwargs={"max_abs": max_abs, **options}, rounds=1, warmup_rounds=0
    )
    assert (run.total == vectors[list(run.contributors)].sum(axis=0)).all()
    benchmark.extra_info |= {
        "seconds_of_all_roles": run.cost.seconds,
        "server_seconds": run.cost.server_seconds,
        "median_site_ms": 1000 * statistics.median(run.cost.client_seconds),
        "site_ms_by_step": {step: 1000 * seconds / n_sites for step, seconds in run.cost.step_seconds.items()},
        "bytes_sent_by_a_site": max(run.cost.bytes_sent),
        "bytes_received_by_a_site": max(run.cost.bytes_received),
    }
    print(f"\n{n_sites} sites, max_abs {max_abs}: {dict(benchmark.extra_info)}")
    return run


@pytest.mark.parametrize("max_abs", [NEEDS_64_BITS, FITS_32_BITS], ids=["Z_2^64", "Z_2^32"])
def test_a_hundred_sites_key_agreement_sharing_and_signatures_included(benchmark, max_abs):
    benchmark.group = "whole run, 100 sites, 1e5 counters, 5 dropouts"
    run = whole_run(benchmark, 100, max_abs, dropouts={"mask": range(5)})
    assert len(run.contributors) == 95


@pytest.mark.slow
@pytest.mark.parametrize("max_abs", [NEEDS_64_BITS, FITS_32_BITS], ids=["Z_2^64", "Z_2^32"])
def test_a_thousand_sites(benchmark, max_abs):
    benchmark.group = "whole run, 1000 sites, 1e5 counters"
    whole_run(benchmark, 1000, max_abs)
