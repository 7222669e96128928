"""The limits that pyCANON finds for classes of Adult are the limits at which the models begin to refuse them."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from anonymise import Schema, build_hierarchy, encode_table
from anonymise.checking import Checker
from anonymise.models import (
    AlphaKAnonymity,
    BetaLikeness,
    DeltaDisclosure,
    KAnonymity,
    LDiversity,
    TCloseness,
)

ROOT = Path(__file__).parents[1]
VECTORS = json.loads((ROOT / "vectors" / "pycanon_models.json").read_text(encoding="utf-8"))
# Its figures are floats that were added up value by value.
SLACK = 1e-9


@pytest.fixture(scope="module")
def adult():
    schema = Schema.load(ROOT / "anonymise" / "data" / "adult.toml")
    return schema, pd.read_csv(ROOT / "anonymise" / "data" / "adult.csv.gz", sep=";").iloc[:2000]


@pytest.mark.parametrize(
    "case", VECTORS["results"], ids=lambda case: f"{case['quasi_identifiers']}-{case['sensitive']}"
)
def test_limits_are_those_of_pycanon(adult, case):
    schema, frame = adult
    quasi, name = case["quasi_identifiers"], case["sensitive"]
    hierarchies = [build_hierarchy(schema.column(column)) for column in quasi]
    sensitive = {name: [(frame[name], build_hierarchy(schema.column(name)))]}
    encoded = encode_table([frame[column] for column in quasi], hierarchies, sensitive=sensitive)

    def holds(model):
        return not Checker(encoded, [model]).failing((0,) * len(quasi)).any()

    attribute = {"attribute": name}
    t, distance, beta, bits = case["t"], case["t_distance"], case["basic_beta"], case["delta_in_nats"] / math.log(2)
    pairs = [
        (
            TCloseness(t + SLACK, distance=distance, **attribute),
            TCloseness(t - SLACK, distance=distance, **attribute),
        ),
        (BetaLikeness(beta * (1 + SLACK), **attribute), BetaLikeness(beta * (1 - SLACK), **attribute)),
        (DeltaDisclosure(bits + SLACK, **attribute), DeltaDisclosure(bits - SLACK, **attribute)),
    ]
    if case["distinct_l"] > 1:
        l = case["distinct_l"]
        pairs.append((LDiversity(l, **attribute), LDiversity(l + 1, **attribute)))
    if case["k"] > 1:
        pairs.append((KAnonymity(case["k"]), KAnonymity(case["k"] + 1)))
    if case["k"] > 1 and case["alpha"] < 1:
        alpha = case["alpha"]
        pairs.append((AlphaKAnonymity(alpha + SLACK, 2, **attribute), AlphaKAnonymity(alpha - SLACK, 2, **attribute)))
    l = case["entropy_l_rounded_down"]
    if l > 1:
        # It cuts exp(entropy) to a whole number, after rounding: three equal counts are 2.999...
        above = LDiversity(l + 1 + SLACK, kind="entropy", **attribute)
        pairs.append((LDiversity(l, kind="entropy", **attribute), above))
    assert len(pairs) >= 3
    for allowed, refused in pairs:
        assert holds(allowed), allowed
        assert not holds(refused), refused
