"""Speed of the attacks on a made-up table of the shape of UCI Adult: 50,000 rows, 14 columns, 2,000 attacks each.

Run with `pytest benchmarks/test_bench_attacks.py --benchmark-enable`; without the option each runs once, on fewer rows.
`python benchmarks/attacks_beside_anonymeter.py PEER_PYTHON` prints anonymeter's times beside ours.
"""

from __future__ import annotations

import numpy as np
import pytest

from generators.attacks.closest import closest_records
from generators.attacks.inference import inference
from generators.attacks.linkability import linkability
from generators.attacks.membership import membership
from generators.attacks.singling_out import singling_out
from generators.attacks.table import Rows

CODES = {"workclass": 9, "marital": 7, "occupation": 15, "relation": 6, "race": 5, "sex": 2, "country": 42, "income": 2}
NUMBERS = ("age", "weight", "education", "gain", "loss", "hours")


def made_up(n: int, *, rng: np.random.Generator) -> Rows:
    """Columns that depend on one hidden number, so that neighbours mean something."""
    hidden = rng.random(n)
    codes = [((hidden + rng.beta(1, 3, n)) / 2 * size).astype(np.uint8) for size in CODES.values()]
    numbers = [np.round(100 * (hidden + rng.beta(1, 5, n)) / 2) for _ in NUMBERS]
    return Rows((*CODES, *NUMBERS), (False,) * len(CODES) + (True,) * len(NUMBERS), (*codes, *numbers))


@pytest.fixture(scope="module")
def scale(request) -> tuple[int, int]:
    return (50_000, 2000) if request.config.getoption("--benchmark-enable") else (3000, 50)


@pytest.fixture(scope="module")
def tables(scale) -> tuple[Rows, Rows, Rows]:
    rng = np.random.default_rng(1)
    n, _ = scale
    return made_up(n, rng=rng), made_up(n, rng=rng), made_up(n // 2, rng=rng)


ATTACKS = {
    "univariate": lambda *tables, **options: singling_out(*tables, mode="univariate", **options),
    "multivariate": singling_out,
    "linkability": linkability,
    "inference": inference,
    "membership": membership,
    "closest": closest_records,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_bench_attack(benchmark, scale, tables, attack):
    run = ATTACKS[attack]
    benchmark.pedantic(lambda: run(*tables, n_attacks=scale[1], rng=np.random.default_rng(1)), rounds=2)


def test_bench_all_attacks(benchmark, scale, tables):
    def everything() -> None:
        for run in ATTACKS.values():
            run(*tables, n_attacks=scale[1], rng=np.random.default_rng(1))

    benchmark.pedantic(everything, rounds=2)
