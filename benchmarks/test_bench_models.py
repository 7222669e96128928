"""Encoding and search on Adult with each privacy model: 8 quasi-identifiers, occupation sensitive, 2 % suppressed.

For scale: ARX 3.9.2, warm, one search thread, without encoding, on a 2-core machine: 390 ms (k = 5 and distinct
5-diversity) and 720 ms (k = 5 and t-closeness 0.2). `tests/vectors/arx_anonymise.json` has its times for other models,
on a shared machine.
Run: pytest benchmarks/test_bench_models.py --benchmark-enable
By hand, in processor time: python benchmarks/test_bench_models.py
"""

import statistics
import time
from pathlib import Path

import pandas as pd
import pytest

from anonymise import (
    AlphaKAnonymity,
    AverageRisk,
    BetaLikeness,
    DeltaDisclosure,
    KAnonymity,
    KMap,
    LDiversity,
    SampleUniqueness,
    Schema,
    TCloseness,
    build_hierarchy,
    encode_table,
)
from anonymise.lattice import search
from anonymise.loss import Loss

DATA = Path(__file__).parents[1] / "tests" / "anonymise" / "data"
A = {"attribute": "occupation"}
MODELS = [
    LDiversity(5, **A),
    LDiversity(4, kind="entropy", **A),
    LDiversity(3, kind="recursive", c=4, **A),
    TCloseness(0.2, **A),
    TCloseness(0.2, distance="ordered", **A),
    TCloseness(0.2, distance="hierarchical", **A),
    BetaLikeness(3, **A),
    BetaLikeness(3, kind="enhanced", **A),
    DeltaDisclosure(2.5, **A),
    AlphaKAnonymity(0.5, 5, **A),
    KMap(11, population_size=300_000),
    AverageRisk(0.02),
    SampleUniqueness(0.0),
]


def read():
    return Schema.load(DATA / "adult.toml"), pd.read_csv(DATA / "adult.csv.gz", sep=";")


def encode_and_search(schema, frame, model):
    names = [name for name in schema.quasi_identifiers if name != "occupation"]
    hierarchies = [build_hierarchy(schema.column(name)) for name in names]
    occupation = build_hierarchy(schema.column("occupation"))
    encoded = encode_table(
        [frame[name] for name in names], hierarchies, sensitive={"occupation": [(frame["occupation"], occupation)]}
    )
    return search(encoded, Loss.of(hierarchies), [KAnonymity(5), model], max_suppressed=int(0.02 * len(frame)))


@pytest.fixture(scope="module")
def adult():
    return read()


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_adult_k_5_and(benchmark, adult, model):
    assert benchmark(encode_and_search, *adult, model).score < 1


if __name__ == "__main__":
    table = read()
    for model in MODELS:
        seconds = []
        for _ in range(5):
            start = time.process_time()
            found = encode_and_search(*table, model)
            seconds.append(time.process_time() - start)
        print(f"{statistics.median(seconds) * 1000:6.0f} ms  {found.n_checked:5d} checked  {model}")
