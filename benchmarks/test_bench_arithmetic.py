"""Speed of the arithmetic below the protocols, one thread, each beside a floor of the machine in the same run.

Run: OPENBLAS_NUM_THREADS=1 pytest benchmarks/test_bench_arithmetic.py --benchmark-enable
"""

from __future__ import annotations

import numpy as np
import pytest

from privacy.randomness import InsecureSeededRng
from smpc._ring_matmul import SplitMatrix, _add_tile, _small_matmul, add_split_products, matmul, matmul_sum
from smpc.bitplanes import compare_digits, from_planes, pack_bits, thermometer, to_planes
from smpc.ring128 import RING128

MILLION = 1_000_000
COMPARISONS = 100_000
SIDES = [64, 96, 128, 160, 256, 512, 1024]
THIN = [(10_000, 50, 1), (100, 50, 1), (50, 100, 1), (50, 10_000, 1), (10_000, 50, 8), (1000, 16, 1000)]


def _words(*shape, seed=1):
    return InsecureSeededRng(seed).uint64(int(np.prod(shape))).reshape(shape)


def _run(benchmark, function, *args, rounds=11):
    return benchmark.pedantic(function, args=args, rounds=rounds, iterations=1, warmup_rounds=2)


def _limbs(a, b):
    out = np.zeros((a.shape[0], b.shape[1]), dtype=np.uint64)
    add_split_products(out, a, b, _add_tile)
    return out


WAYS = {"ours": matmul, "limbs": _limbs, "loops": _small_matmul, "@": np.matmul}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("side", SIDES)
def test_square_matrices(benchmark, side, way):
    if way == "@" and side > 512:
        pytest.skip("seconds")
    benchmark.group = f"uint64 matrices {side:4} x {side}"
    a, b = _words(side, side), _words(side, side, seed=2)
    got = _run(benchmark, WAYS[way], a, b, rounds=5)
    assert got[0, 0] == (a[0] * b[:, 0]).sum()


@pytest.mark.parametrize("side", SIDES)
def test_floor_of_square_matrices_is_one_product_of_doubles(benchmark, side):
    benchmark.group = f"uint64 matrices {side:4} x {side}"
    a, b, out = np.full((side, side), 2.0), np.full((side, side), 3.0), np.empty((side, side))
    _run(benchmark, lambda: np.matmul(a, b, out=out))
    assert out[0, 0] == 6 * side


@pytest.mark.parametrize("way", ["ours", "@", "limbs"])
@pytest.mark.parametrize("shape", THIN, ids=str)
def test_thin_matrices(benchmark, shape, way):
    m, k, n = shape
    benchmark.group = f"uint64 matrices {m} x {k} @ {k} x {n}"
    a, b = _words(m, k), _words(k, n, seed=2)
    got = _run(benchmark, WAYS[way], a, b)
    assert got[0, 0] == (a[0] * b[:, 0]).sum()


@pytest.mark.parametrize("shape", THIN[:4], ids=str)
def test_floor_of_thin_matrices_is_one_pass_over_the_words(benchmark, shape):
    m, k, n = shape
    benchmark.group = f"uint64 matrices {m} x {k} @ {k} x {n}"
    a = np.ones((m, k), dtype=np.uint64)
    assert _run(benchmark, a.sum) == m * k


@pytest.mark.parametrize("prepared", ["split beforehand", "split online"])
def test_one_party_of_a_beaver_product_of_512(benchmark, prepared):
    benchmark.group = "d @ b + a @ e, 512 x 512"
    a, b, d, e = (_words(512, 512, seed=seed) for seed in range(4))
    pairs = [(d, SplitMatrix(b)), (SplitMatrix(a), e)] if prepared == "split beforehand" else [(d, b), (a, e)]
    got = _run(benchmark, matmul_sum, pairs)
    assert got[0, 0] == (d[0] * b[:, 0] + a[0] * e[:, 0]).sum()


def test_floor_of_a_beaver_product_is_ten_products_of_doubles(benchmark):
    benchmark.group = "d @ b + a @ e, 512 x 512"
    a, out = np.full((512, 512), 2.0), np.empty((512, 512))
    _run(benchmark, lambda: [np.matmul(a, a, out=out) for _ in range(10)])
    assert out[0, 0] == 2048


@pytest.mark.parametrize("operation", ["mul", "mul_word", "add"])
def test_a_million_in_the_ring_of_128_bits(benchmark, operation):
    benchmark.group = "1e6 elements of Z_2^128"
    a, b = _words(2, MILLION), _words(2, MILLION, seed=2)
    second = b[0] if operation == "mul_word" else b
    got = _run(benchmark, getattr(RING128, operation), a, second)
    # Arrays of one element: NumPy's scalars warn where its arrays wrap.
    low = a[0, :1] + b[0, :1] if operation == "add" else a[0, :1] * b[0, :1]
    assert got[0, :1] == low


def test_floor_of_a_million_is_one_product_of_words(benchmark):
    benchmark.group = "1e6 elements of Z_2^128"
    a, b = _words(MILLION), _words(MILLION, seed=2)
    out = np.empty_like(a)
    _run(benchmark, lambda: np.multiply(a, b, out=out))
    assert out[:1] == a[:1] * b[:1]


@pytest.mark.parametrize("side", [128, 512])
def test_matrices_of_128_bits(benchmark, side):
    benchmark.group = f"Z_2^128 matrices {side} x {side}"
    a, b = _words(2, side, side), _words(2, side, side, seed=2)
    got = _run(benchmark, RING128.matmul, a, b, rounds=5)
    assert got[0, 0, 0] == (a[0, 0] * b[0, :, 0]).sum()


@pytest.mark.parametrize("size", [1, 100, 500, COMPARISONS])
@pytest.mark.parametrize("step", ["compare_digits", "thermometer", "to_planes", "from_planes", "one pass"])
def test_bit_sliced_words(benchmark, step, size):
    benchmark.group = f"bit-sliced words, {size} elements"
    c = _words(size)
    tables, planes, out = thermometer(_words(size, seed=2)), to_planes(c), np.empty_like(c)
    calls = {
        "compare_digits": lambda: compare_digits(c, tables),
        "thermometer": lambda: thermometer(c),
        "to_planes": lambda: to_planes(c),
        "from_planes": lambda: from_planes(planes, size),
        "one pass": lambda: np.copyto(out, c),
    }
    result = _run(benchmark, calls[step], rounds=31)
    assert step == "one pass" or len(result) in {3, 16, 64, size}


@pytest.mark.parametrize("pack", [pack_bits, np.copy], ids=["pack_bits", "one pass"])
def test_packing_of_a_million_bits(benchmark, pack):
    benchmark.group = "packing of 1e6 bits"
    bits = (_words(MILLION) & np.uint64(1)).astype(np.uint8)
    assert _run(benchmark, pack, bits).nbytes in {MILLION, MILLION // 8}
