"""Table one and k-means over hub, five agents and a dealer in processes of their own: from submit to result.

The floor is a private study of one small sum on the same federation: what every study costs before it computes.
"""

import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from _learning_federation import learning_desk, learning_job

from synthema.learning import KMeans, TableOne

pytestmark = pytest.mark.slow


def _seconds(desk, model, name):
    start = time.perf_counter()
    model.fit(desk, learning_job(name))
    return time.perf_counter() - start


@pytest.mark.benchmark(group="learning: tables, over the relay")
@pytest.mark.parametrize("kind", ["table-one", "k-means"])
def test_exact_beside_a_private_one(benchmark, tmp_path, kind):
    columns = ["age", "wbc", "tpi"]
    exact = (
        TableOne(columns=[*columns, "event"], by="sex")
        if kind == "table-one"
        else KMeans(columns=columns, n_clusters=3)
    )
    with learning_desk(tmp_path) as desk:
        small = [TableOne(columns=["sex"], mode="private", budget_share=1.0) for _ in range(4)]
        # The first one also loads what every agent needs.
        _seconds(desk, small[0], "warm")
        benchmark.extra_info["floor_seconds"] = min(
            _seconds(desk, each, f"floor-{i}") for i, each in enumerate(small[1:])
        )
        benchmark.pedantic(lambda: exact.fit(desk, learning_job("exact")), rounds=1)
        benchmark.extra_info["rounds"] = exact.released_["steps"][-1]["rounds"]
