"""The proven optimum of every quality metric on Adult (30,162 rows, 9 quasi-identifiers, 12,960 nodes), k = 5.

Classification predicts the occupation from the 8 others (4,320 nodes). Encoding, about 20 ms, is not included.
Run: pytest benchmarks/test_bench_quality.py --benchmark-enable
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from anonymise import KAnonymity, Schema, anonymise, build_hierarchy, encode_table
from anonymise.optimising import find_optimum
from anonymise.quality import QUALITIES, measure_quality

DATA = Path(__file__).parents[1] / "tests" / "anonymise" / "data"


@pytest.fixture(scope="module")
def schema():
    return Schema.load(DATA / "adult.toml")


@pytest.fixture(scope="module")
def adult():
    return pd.read_csv(DATA / "adult.csv.gz", sep=";")


@pytest.mark.parametrize("suppression_limit", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("quality", QUALITIES)
def test_adult_k_5(benchmark, schema, adult, quality, suppression_limit):
    target = "occupation" if QUALITIES[quality].target else None
    names = [name for name in schema.names if name != target]
    trees = {name: build_hierarchy(schema.column(name)) for name in schema.names}
    sensitive = {} if target is None else {target: [(adult[target], trees[target])]}
    data = encode_table([adult[name] for name in names], [trees[name] for name in names], sensitive=sensitive)
    optimum = benchmark(
        find_optimum,
        data,
        [KAnonymity(5)],
        quality=quality,
        max_suppressed=min(int(suppression_limit * len(adult)), len(adult) - 1),
        target=target,
    )
    benchmark.extra_info["n_checked"] = optimum.n_checked
    assert optimum.n_checked > 0


def test_adult_measured(benchmark, schema, adult):
    columns = tuple(replace(c, role="sensitive") if c.name == "occupation" else c for c in schema.columns)
    with_target = replace(schema, columns=columns)
    released = anonymise(adult, with_target, models=[KAnonymity(5)], suppression_limit=0.02)
    measured = benchmark(measure_quality, adult, released.table, with_target)
    assert measured["loss"].value == pytest.approx(released.score, abs=1e-12)
