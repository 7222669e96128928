"""Categories within groups: weights from one noisy histogram, refinement, and columns of many codes that stay small."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from generators import ChowLiu, Domain, DomainMismatch, LocalTableOracle, decode, leaf_schema, private_leaves
from privacy import Schema, rho_of
from privacy.randomness import InsecureSeededRng

N = 20_000
CODES = [f"{letter}{number:02d}.{digit}" for letter in "CDEIJK" for number in range(20) for digit in range(8)]


def icd_schema(**more):
    return Schema.from_dict(
        {
            "columns": {
                "icd": {"categories": CODES, "hierarchy": {"prefix": [3, 1]}, "model_level": 2, **more},
                "sex": {"categories": ["F", "M"]},
            }
        }
    )


@pytest.fixture(scope="module")
def diagnoses():
    """960 codes, few of them frequent (Zipf), sex depending on the chapter."""
    rng = np.random.default_rng(1)
    order = rng.permutation(len(CODES))
    share = 1 / (np.arange(len(CODES)) + 1) ** 1.1
    icd = np.array(CODES)[order[rng.choice(len(CODES), N, p=share / share.sum())]]
    chapter = np.array([ord(code[0]) for code in icd])
    return pd.DataFrame({"icd": icd, "sex": np.where(rng.random(N) < (chapter - 66) / 12, "F", "M")})


def distance(one, two):
    p, q = (t.value_counts(normalize=True) for t in (one, two))
    return float(p.sub(q, fill_value=0).abs().sum())


def test_the_model_has_a_code_for_each_group_only():
    schema = icd_schema()
    assert len(CODES) == 960
    assert Domain.from_schema(schema)["icd"] == 6


def test_weights_bring_the_categories_back_and_the_groups_stay_the_models(diagnoses):
    schema = icd_schema()
    weighted, events = private_leaves(diagnoses, schema, rho=0.02, rng=InsecureSeededRng(1))
    assert sum(rho_of(event) for event in events) <= 0.02
    tables = {
        name: ChowLiu(rho=0.02).fit(diagnoses, s, rng=InsecureSeededRng(2)).sample(N, rng=np.random.default_rng(3))
        for name, s in (("equal", schema), ("weighted", weighted))
    }
    for table in tables.values():
        assert distance(diagnoses["icd"].str[0], table["icd"].str[0]) < 0.02
        schema.validate(table)
    assert distance(diagnoses["icd"], tables["weighted"]["icd"]) < 0.35
    # The negative control: without weights a category is anything in its group.
    assert distance(diagnoses["icd"], tables["equal"]["icd"]) > 0.8
    men = [t.loc[t["icd"].str[0] == "C", "sex"].eq("F").mean() for t in (diagnoses, tables["weighted"])]
    assert men[0] == pytest.approx(men[1], abs=0.05)


def test_frequent_categories_are_refined_by_noisy_counts(diagnoses):
    refined, _ = private_leaves(diagnoses, icd_schema(), rho=0.02, refine_above=700, rng=InsecureSeededRng(4))
    column = refined.column("icd")
    counts = diagnoses["icd"].value_counts()
    assert set(counts.index[counts > 850]) <= set(column.refined) <= set(counts.index[counts > 550])
    assert Domain.from_schema(refined)["icd"] == 6 + len(column.refined)
    table = ChowLiu(rho=0.5).fit(diagnoses, refined).sample(N)
    for code in column.refined:
        assert (table["icd"] == code).mean() == pytest.approx((diagnoses["icd"] == code).mean(), abs=0.01)


def test_noise_alone_refines_nothing_and_gives_equal_weights():
    schema = icd_schema()
    empty = pd.DataFrame({"icd": [CODES[0]], "sex": ["F"]})
    weighted, _ = private_leaves(empty, schema, rho=1e-4, refine_above=0, rng=InsecureSeededRng(5))
    column = weighted.column("icd")
    assert column.refined == ()
    for chapter in "CDEIJK":
        weights = np.array([w for w, code in zip(column.weights, CODES, strict=True) if code[0] == chapter])
        assert weights.max() < 6 * max(weights.mean(), 1e-9)


def test_a_category_is_drawn_in_proportion_to_its_weight():
    n = 30_000
    rows = [["a", "g"], ["b", "g"], ["c", "g"], ["d", "h"]]
    schema = Schema.from_dict(
        {
            "columns": {
                "x": {
                    "categories": ["a", "b", "c", "d"],
                    "hierarchy": {"rows": rows},
                    "model_level": 1,
                    "weights": [1, 0, 3, 0],
                    "nullable": True,
                }
            }
        }
    )
    codes = np.array(list(itertools.islice(itertools.cycle([[0], [0], [1], [2]]), n)), dtype=np.uint8)
    drawn = decode(codes, schema, rng=np.random.default_rng(6))["x"]
    counts = drawn.value_counts(dropna=False)
    assert counts["d"] == n // 4  # without any weight in the group, equal weights
    assert drawn.isna().sum() == n // 4
    assert "b" not in counts
    # Binomial with n / 2 draws of 1/4: four standard deviations.
    assert abs(counts["a"] - n / 8) < 4 * np.sqrt(n / 2 * 3 / 16)


def test_any_oracle_on_the_leaves_will_do(diagnoses):
    schema = icd_schema()
    leaves = leaf_schema(schema)
    assert leaves.names == ("icd",)
    oracle = LocalTableOracle(diagnoses[["icd"]], leaves)
    weighted, events = private_leaves(None, schema, rho=0.1, oracle=oracle)
    assert events == tuple(oracle.events)
    assert len(weighted.column("icd").weights) == len(CODES)


def test_what_has_no_level_is_refused(diagnoses):
    flat = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}, "icd": {"categories": CODES}}})
    with pytest.raises(DomainMismatch, match="no model_level"):
        private_leaves(diagnoses, flat, rho=1.0)
    with pytest.raises(DomainMismatch, match="either a frame or an oracle"):
        private_leaves(None, icd_schema(), rho=1.0)
    with pytest.raises(DomainMismatch, match="leaf_schema"):
        private_leaves(None, icd_schema(), rho=1.0, oracle=LocalTableOracle(diagnoses, icd_schema()))
