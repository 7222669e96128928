"""Noise that no party knows: all parties and the dealer on one core, and two parties in processes of their own.

Beside the noise stand what it cannot be faster than: the sampler of one party, noise that one party could subtract, and
the arg max without noise. Runs on one core count the work of all parties and of the dealer; between two processes
(mutual TLS 1.3, loopback) material is expanded before the time is taken and opening is included.

Run: pytest benchmarks/test_bench_joint_noise.py --benchmark-enable
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from _smpc_pair import Pair

from privacy.samplers import sample_discrete_gaussian
from smpc import run_local
from smpc.noise import (
    exponential_choice,
    gaussian_table,
    joint_discrete_gaussian,
    joint_discrete_laplace,
    joint_table_gaussian,
    noisy_argmax,
    uniform_below,
)
from smpc.prg import Prg

N_SHARES = 100_000
N_CANDIDATES = 1_000
SCALE = 10.0


def timed(benchmark, group, protocol, inputs, rounds=7):
    benchmark.group = group
    run = benchmark.pedantic(run_local, args=(protocol, inputs), rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["rounds"] = run.cost.rounds
    benchmark.extra_info["bytes_sent_per_party"] = run.cost.bytes_sent_by_party[0]
    benchmark.extra_info["dealer_bytes"] = run.cost.dealer_bytes
    return run.results[0]


# 1e5 discrete Gaussian noise shares, h = 2 of 3.


def test_shares_of_discrete_gaussian_noise(benchmark):
    async def protocol(s, x):
        noisy = await joint_discrete_gaussian(s, s.shared(x), SCALE, collusion_threshold=1)
        return noisy.size

    zeros = np.zeros(N_SHARES, dtype=np.uint64)
    assert timed(benchmark, "1e5 noise shares, 3 parties, h = 2", protocol, [zeros] * 3) == N_SHARES


def test_the_sampler_of_one_party(benchmark):
    benchmark.group = "1e5 noise shares, 3 parties, h = 2"
    rng = Prg(bytes(32), b"bench")
    values = benchmark.pedantic(lambda: sample_discrete_gaussian(SCALE, N_SHARES, rng=rng), rounds=15, warmup_rounds=2)
    assert len(values) == N_SHARES


def test_numpy_normal_as_a_floor_that_protects_nobody(benchmark):
    benchmark.group = "1e5 noise shares, 3 parties, h = 2"
    generator = np.random.default_rng(1)
    values = benchmark.pedantic(
        lambda: np.rint(generator.normal(0, SCALE, N_SHARES)).astype(np.int64), rounds=15, warmup_rounds=2
    )
    assert len(values) == N_SHARES


# Noise from shared coins, 1,000 numbers.


@pytest.mark.parametrize("n_parties", [2, 3])
@pytest.mark.parametrize("scale", [2.0, 10.0])
def test_discrete_gaussian_by_table(benchmark, scale, n_parties):
    table = gaussian_table(scale)

    async def protocol(s, x):
        noisy, _ = await joint_table_gaussian(s, s.shared(x), table, l2_sensitivity_squared=1)
        return noisy.size

    zeros = np.zeros(1000, dtype=np.uint64)
    assert timed(benchmark, "1,000 noisy numbers", protocol, [zeros] * n_parties) == 1000


@pytest.mark.parametrize("n_parties", [2, 3])
@pytest.mark.parametrize("epsilon", [1.0, 0.1])
def test_discrete_laplace(benchmark, epsilon, n_parties):
    async def protocol(s, x):
        noisy, _ = await joint_discrete_laplace(s, s.shared(x), epsilon=epsilon, l1_sensitivity=1)
        return noisy.size

    zeros = np.zeros(1000, dtype=np.uint64)
    assert timed(benchmark, "1,000 noisy numbers", protocol, [zeros] * n_parties) == 1000


@pytest.mark.parametrize("bound", [1024, 1000])
def test_uniform_integers(benchmark, bound):
    async def protocol(s, _):
        return (await uniform_below(s, bound, 10_000)).size

    assert timed(benchmark, "1e4 uniform integers, 2 parties", protocol, [None] * 2) == 10_000


# Arg max of 1,000 candidates.


@pytest.mark.parametrize("n_parties", [2, 3])
@pytest.mark.parametrize("epsilon", [1.0, 0.01, None])
def test_arg_max(benchmark, epsilon, n_parties):
    async def protocol(s, x):
        scores = s.shared(x, bound=N_CANDIDATES)
        if epsilon is None:
            return await s.open(await s.argmax(scores))
        index, _ = await noisy_argmax(s, scores, sensitivity=1, epsilon=epsilon)
        return await s.open(index)

    scores = np.arange(N_CANDIDATES, dtype=np.uint64)
    others = [0 * scores] * (n_parties - 1)
    assert 0 <= timed(benchmark, "arg max of 1,000; None: without noise", protocol, [scores, *others]) < N_CANDIDATES


# A choice at the epsilon and weights of AIM on LeukSurv: noisy max at half the epsilon costs the same rho.


@pytest.mark.parametrize("n_candidates", [41, 1_000, 10_300])
@pytest.mark.parametrize("by", ["exponential mechanism", "noisy max"])
def test_choice(benchmark, by, n_candidates):
    epsilon, sensitivity = 0.01, 60 << 4

    async def protocol(s, x):
        scores = s.shared(x, bound=1 << 22)
        if by == "noisy max":
            index, _ = await noisy_argmax(s, scores, sensitivity=sensitivity, epsilon=epsilon / 2)
        else:
            index, _ = await exponential_choice(s, scores, sensitivity=sensitivity, epsilon=epsilon)
        return await s.open(index)

    scores = np.arange(n_candidates, dtype=np.uint64) * 100
    chosen = timed(benchmark, f"choice of {n_candidates:,}, 3 parties", protocol, [scores, 0 * scores, 0 * scores])
    assert 0 <= chosen < n_candidates


@pytest.fixture(scope="module")
def pair():
    with Pair("tls") as parties:
        yield parties


@pytest.mark.parametrize("task", ["arg max of 1,000", "noisy arg max of 1,000", "choice of 1,000"])
def test_arg_max_between_two_processes(benchmark, pair, task):
    benchmark.group = "arg max of 1,000, two processes, mutual TLS"
    answers = []
    benchmark.pedantic(
        lambda: answers.append(pair.ask(f"run {task}")),
        setup=lambda: pair.ask(f"prepare {task}") and None,
        rounds=9,
        warmup_rounds=2,
    )
    benchmark.extra_info["milliseconds"] = 1e3 * statistics.median(each["seconds"] for each in answers[-9:])
    benchmark.extra_info["rounds"] = answers[0]["rounds"]
    benchmark.extra_info["bytes_sent"] = answers[0]["bytes_sent"]
