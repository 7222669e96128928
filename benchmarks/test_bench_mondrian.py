"""Mondrian and the other algorithms that choose by class, on Adult (8 quasi-identifiers, occupation sensitive), k = 5.

"classes" is the algorithm alone, on the encoded table; "release" is everything from the frame to the checked table.
For scale: anonypy 0.2.1 takes 35 s and anonypyx 0.2.11 45 s for the same k on Adult (2 cores, one run each).
The table of a million rows mixes pairs of Adult's rows column by column: 114,789 distinct tuples. "distinct" has a
million rows and as many tuples: the worst case.
Run: pytest benchmarks/test_bench_mondrian.py --benchmark-enable
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anonymise import KAnonymity, LDiversity, Schema, TCloseness, anonymise, build_hierarchy, encode_table
from anonymise.mondrian import mondrian_classes
from anonymise.spans import Spans
from privacy.schema import Column

DATA = Path(__file__).parents[1] / "tests" / "anonymise" / "data"
N_LARGE = 1_000_000
pytestmark = pytest.mark.filterwarnings("ignore::anonymise.AttackableRelease")


@pytest.fixture(scope="module")
def schema():
    read = Schema.load(DATA / "adult.toml")
    columns = tuple(dataclasses.replace(c, role="sensitive") if c.name == "occupation" else c for c in read.columns)
    return dataclasses.replace(read, columns=columns)


@pytest.fixture(scope="module")
def adult():
    return pd.read_csv(DATA / "adult.csv.gz", sep=";", dtype=str).astype("category")


@pytest.fixture(scope="module")
def large(adult):
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, len(adult), (2, N_LARGE))
    return pd.DataFrame(
        {
            name: pd.Categorical.from_codes(
                np.where(
                    rng.random(N_LARGE) < 0.8, values.cat.codes.to_numpy()[one], values.cat.codes.to_numpy()[other]
                ),
                values.cat.categories,
            )
            for name, values in adult.items()
        }
    )


def encoded(frame, schema):
    hierarchies = [build_hierarchy(schema.column(name)) for name in schema.quasi_identifiers]
    return encode_table([frame[name] for name in schema.quasi_identifiers], hierarchies)


def classes(data):
    return mondrian_classes(data, [KAnonymity(5)], [Spans.of(hierarchy) for hierarchy in data.hierarchies])


def test_adult_mondrian_classes(benchmark, schema, adult):
    data = encoded(adult, schema)
    assert benchmark(classes, data).max() + 1 == 3181


MODELS = {
    "k": [KAnonymity(5)],
    "k and l": [KAnonymity(5), LDiversity(5, attribute="occupation")],
    "k and t": [KAnonymity(5), TCloseness(0.2, attribute="occupation")],
}


@pytest.mark.parametrize("models", MODELS)
@pytest.mark.parametrize("algorithm", ["mondrian", "local", "cell_suppression"])
def test_adult_release(benchmark, schema, adult, algorithm, models):
    result = benchmark(anonymise, adult, schema, models=MODELS[models], algorithm=algorithm)
    assert len(result.table) == len(adult)


def test_a_million_rows_mondrian_classes(benchmark, schema, large):
    data = encoded(large, schema)
    benchmark.pedantic(classes, (data,), rounds=3)


def test_a_million_rows_mondrian_release(benchmark, schema, large):
    run = {"models": [KAnonymity(5)], "algorithm": "mondrian"}
    result = benchmark.pedantic(anonymise, (large, schema), run, rounds=3)
    assert len(result.table) == N_LARGE


def test_a_million_distinct_tuples_mondrian_classes(benchmark):
    rng = np.random.default_rng(2)
    columns = [Column(f"q{i}", role="quasi-identifier", kind="integer", bounds=(0, 999)) for i in range(8)]
    hierarchies = [build_hierarchy(column) for column in columns]
    data = encode_table([rng.integers(0, 1000, N_LARGE) for _ in columns], hierarchies)
    benchmark.pedantic(classes, (data,), rounds=1)
