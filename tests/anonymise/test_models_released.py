"""The privacy models in the search and at the door: brute force over small lattices, and what is refused."""

import itertools
import re
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_models import passes

from anonymise import NotAnonymisable, Schema, anonymise, build_hierarchy, encode_table
from anonymise.lattice import search
from anonymise.loss import Loss
from anonymise.models import (
    AlphaKAnonymity,
    AverageRisk,
    BetaLikeness,
    DeltaDisclosure,
    DeltaPresence,
    KAnonymity,
    KMap,
    LDiversity,
    Model,
    PopulationUniqueness,
    SampleUniqueness,
    TCloseness,
)
from privacy.schema import Column, HierarchySpec

DATA = Path(__file__).parent / "data"
A = {"attribute": "genotype"}


def column(name, *rows):
    return Column(name, categories=tuple(row[0] for row in rows), hierarchy=HierarchySpec("rows", rows=rows))


QUASI = [
    build_hierarchy(column("district", *((f"{i}", f"{i // 2}x", f"{i // 4}y", "*") for i in range(6)))),
    build_hierarchy(column("decade", *((f"{i}", f"{i // 2}x", "*") for i in range(4)))),
]
GENOTYPE = build_hierarchy(column("genotype", ("SS", "S", "*"), ("S0", "S", "*"), ("SC", "C", "*"), ("CC", "C", "*")))
MODELS = [
    [LDiversity(2, **A)],
    [KAnonymity(3), LDiversity(2, **A)],
    [LDiversity(2, kind="entropy", **A)],
    [KAnonymity(2), LDiversity(1.7, kind="entropy", **A)],
    [LDiversity(2, kind="recursive", c=1.5, **A)],
    [TCloseness(0.35, **A)],
    [KAnonymity(3), TCloseness(0.3, **A)],
    [TCloseness(0.2, distance="ordered", **A)],
    [TCloseness(0.3, distance="hierarchical", **A)],
    [BetaLikeness(1, **A)],
    [BetaLikeness(1.5, kind="enhanced", **A)],
    [DeltaDisclosure(1.5, **A)],
    [KAnonymity(2), DeltaDisclosure(2.5, **A)],
    [AlphaKAnonymity(0.5, 2, **A)],
    [LDiversity(2, **A), TCloseness(0.4, **A), BetaLikeness(2, **A)],
    [AverageRisk(0.3)],
    [KAnonymity(2), AverageRisk(0.2)],
    [TCloseness(0.4, **A), AverageRisk(0.3)],
    [SampleUniqueness(0.1)],
    [LDiversity(2, **A), SampleUniqueness(0.04)],
]


@st.composite
def tables(draw):
    seed, n_rows = draw(st.integers(0, 2**32 - 1)), draw(st.integers(4, 30))
    rng = np.random.default_rng(seed)
    shape = [hierarchy.n_leaves for hierarchy in (*QUASI, GENOTYPE)]
    # Some values are frequent: uniform tables have no classes that fail for their distribution.
    return [tuple(int(n * rng.random() ** 2) for n in shape) for _ in range(n_rows)]


def encoded(rows):
    columns = [
        np.array(hierarchy.labels[0], dtype=object)[list(codes)]
        for hierarchy, codes in zip((*QUASI, GENOTYPE), zip(*rows, strict=True), strict=True)
    ]
    return encode_table(columns[:2], QUASI, sensitive={"genotype": [(columns[2], GENOTYPE)]})


def brute_force(rows, choices, max_suppressed):
    """For each choice of models, every node, by dictionaries and fractions; the lexicographically first of the best."""
    overall = tuple(sum(row[2] == value for row in rows) for value in range(GENOTYPE.n_leaves))
    best = [None] * len(choices)
    for node in itertools.product(*(range(hierarchy.n_levels) for hierarchy in QUASI)):
        classes = defaultdict(list)
        for row in rows:
            classes[tuple(int(h.codes[l][code]) for h, l, code in zip(QUASI, node, row[:2], strict=True))].append(row)
        found = [
            (
                tuple(sum(row[2] == value for row in members) for value in range(GENOTYPE.n_leaves)),
                sum((LOSS[0, node[0], row[0]] + LOSS[1, node[1], row[1]] for row in members), Fraction(0)),
            )
            # The smallest first, of one size those of lower codes.
            for _, members in sorted(classes.items(), key=lambda item: (len(item[1]), item[0]))
        ]
        for at, models in enumerate(choices):
            kept = [
                (sum(counts), loss)
                for counts, loss in found
                if all(passes(m, counts, overall, GENOTYPE) for m in models if isinstance(m, Model))
            ]
            while not all(plainly_satisfied(m, [size for size, _ in kept]) for m in models if not isinstance(m, Model)):
                kept = kept[1:]
            suppressed = len(rows) - sum(size for size, _ in kept)
            score = (sum((loss for _, loss in kept), Fraction(0)) + suppressed) / len(rows)
            if suppressed <= max_suppressed and (best[at] is None or score < best[at][1]):
                best[at] = node, score, suppressed
    return best


def plainly_satisfied(model, sizes):
    bad = len(sizes) if isinstance(model, AverageRisk) else sizes.count(1)
    return bad <= Fraction(str(model.threshold)) * sum(sizes)


def losses():
    for at, hierarchy in enumerate(QUASI):
        for level, codes in enumerate(hierarchy.codes):
            for code, group in enumerate(codes):
                share, least = Fraction(list(codes).count(group), len(codes)), Fraction(1, len(codes))
                yield (at, level, code), (share - least) / (1 - least) / len(QUASI)


LOSS = dict(losses())


@given(tables(), st.integers(0, 12), st.lists(st.sampled_from(MODELS), min_size=4, max_size=4))
def test_the_search_finds_what_brute_force_finds(rows, max_suppressed, choices):
    data = encoded(rows)
    for models, expected in zip(choices, brute_force(rows, choices, max_suppressed), strict=True):
        found = search(data, Loss.of(QUASI), models, max_suppressed=max_suppressed)
        if expected is None:
            assert found is None, models
        else:
            assert found is not None, models
            assert (found.node, found.n_suppressed) == (expected[0], expected[2]), models
            assert found.score == pytest.approx(float(expected[1]), abs=1e-13)


class Greedy(TCloseness):
    def least_lost(self, classes):
        return classes.sizes


def test_brute_force_would_notice_a_bound_that_claims_too_much():
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(30):
        rows = [tuple(int(n * rng.random() ** 2) for n in (6, 4, 4)) for _ in range(25)]
        found = search(encoded(rows), Loss.of(QUASI), [Greedy(0.3, **A)], max_suppressed=6)
        expected = brute_force(rows, [[TCloseness(0.3, **A)]], 6)[0]
        wrong += (found and found.node) != (expected and expected[0])
    assert wrong > 0


# ---------------------------------------------------------------- Adult


@pytest.fixture(scope="module")
def adult():
    schema = Schema.load(DATA / "adult.toml")
    frame = pd.read_csv(DATA / "adult.csv.gz", sep=";")
    names = [name for name in schema.quasi_identifiers if name != "occupation"]
    hierarchies = [build_hierarchy(schema.column(name)) for name in names]
    sensitive = {"occupation": [(frame["occupation"], build_hierarchy(schema.column("occupation")))]}
    return encode_table([frame[name] for name in names], hierarchies, sensitive=sensitive), Loss.of(hierarchies)


@pytest.mark.parametrize(
    ("model", "score", "suppressed"),
    [
        (LDiversity(5, attribute="occupation"), 0.3079877984, 556),
        (TCloseness(0.2, attribute="occupation"), 0.8396944347, 235),
    ],
    ids=repr,
)
def test_adult_with_occupation_sensitive_is_as_in_arx(adult, model, score, suppressed):
    table, metric = adult
    # ARX cuts each column's loss to ten decimals.
    found = search(table, metric, [KAnonymity(5), model], max_suppressed=int(0.02 * table.n_rows))
    assert found.score == pytest.approx(score, abs=1e-9)
    assert found.n_suppressed == suppressed


# ---------------------------------------------------------------- the door

SCHEMA = Schema.from_dict(
    {
        "columns": {
            "age": {
                "role": "quasi-identifier",
                "kind": "integer",
                "bounds": [0, 99],
                "hierarchy": {"interval": [10, 50]},
            },
            "genotype": {"role": "sensitive", "categories": ["SS", "SC", "S0"], "nullable": True},
            "severity": {"role": "sensitive", "kind": "ordinal", "categories": ["mild", "severe"]},
        }
    }
)


def patients(n=200):
    rng = np.random.default_rng(11)
    return pd.DataFrame(
        {
            "age": rng.integers(0, 100, n),
            "genotype": rng.choice(np.array(["SS", "SC", "S0", None], dtype=object), n, p=[0.6, 0.2, 0.15, 0.05]),
            "severity": rng.choice(["mild", "severe"], n),
        }
    )


POPULATION = pd.DataFrame({"age": np.repeat(np.arange(100), 8)})


@pytest.mark.parametrize(
    "model",
    [
        LDiversity(3, **A),
        LDiversity(2.2, kind="entropy", **A),
        LDiversity(2, kind="recursive", c=4, **A),
        LDiversity(4, attribute=("genotype", "severity")),
        TCloseness(0.2, **A),
        TCloseness(0.2, attribute=("genotype", "severity")),
        TCloseness(0.15, attribute="severity", distance="ordered"),
        TCloseness(0.2, distance="hierarchical", **A),
        BetaLikeness(1, **A),
        BetaLikeness(1, kind="enhanced", **A),
        DeltaDisclosure(1.5, **A),
        AlphaKAnonymity(0.75, 4, **A),
        KMap(9),
        KMap(5, population_size=2_000),
        DeltaPresence(0.1, 0.4),
        AverageRisk(0.1),
        SampleUniqueness(0.0),
        PopulationUniqueness(0.01, population_size=2_000),
    ],
    ids=repr,
)
def test_every_model_reaches_the_release(model):
    frame = patients()
    result = anonymise(frame, SCHEMA, models=[model], suppression_limit=0.1, population=POPULATION)
    assert result.optimal
    assert len(result.table) + result.suppressed == len(frame)
    assert len(result.table) >= 180


def test_two_columns_together_are_one_value():
    # Each column alone has two values in each class; together they have two, not four.
    frame = pd.DataFrame({"age": [1, 2, 3, 4], "genotype": ["SS", "SS", "SC", "SC"], "severity": ["mild"] * 4})
    frame.loc[frame["genotype"] == "SC", "severity"] = "severe"
    for l, n_rows in ((2, 4), (3, None)):
        models = [LDiversity(l, attribute=("genotype", "severity"))]
        if n_rows is None:
            with pytest.raises(NotAnonymisable):
                anonymise(frame, SCHEMA, models=models)
        else:
            assert len(anonymise(frame, SCHEMA, models=models).table) == n_rows


def test_people_in_a_class_without_patients_cannot_be_suppressed():
    # 10 people below 50, all patients; 10 above, none of whom is: low > 0 is met by nobody but the whole table.
    people = pd.DataFrame({"age": [*range(20, 30), *range(60, 70)]})
    frame = patients(10).assign(age=range(20, 30))
    free = anonymise(frame, SCHEMA, models=[DeltaPresence(0.0, 1.0)], population=people)
    assert dict(free.node) == {"age": 0}
    bound = anonymise(frame, SCHEMA, models=[DeltaPresence(0.3, 1.0)], population=people, suppression_limit=0.9)
    assert dict(bound.node) == {"age": 3}


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "must name at least one privacy model"),
        (KAnonymity(5), "at least one privacy model in a list"),
        ([5], r"privacy models such as KAnonymity\(5\), got 5"),
        ([KAnonymity], "privacy models such as KAnonymity"),
        ("k=5", "privacy models such as KAnonymity"),
        ([LDiversity(5, **A)], "l must be at most the number of public values, got 5; .*'genotype' has 4 public"),
        ([LDiversity(4.5, kind="entropy", **A)], "l must be at most the number of public values"),
        ([LDiversity(9, attribute=("genotype", "severity"))], "has 8 public"),
        ([LDiversity(4, kind="recursive", c=1, **A)], "cannot hold: .* so c must exceed 1 / 1"),
        ([AlphaKAnonymity(0.2, 5, **A)], "alpha must be at least 1 / 4"),
        ([TCloseness(0.2, distance="ordered", **A)], "'genotype' is categorical, its values have no order; give it"),
        ([KMap(5)], r"KMap.* give anonymise\(..., population=...\).*or population_size"),
        ([DeltaPresence(0.1, 0.5)], r"DeltaPresence.* give anonymise\(..., population=...\)"),
        ([KMap(5, population_size=100)], "population_size must be at least the rows of the table, got 100"),
        ([PopulationUniqueness(0.1, population_size=100)], "population_size must be at least the rows of the table"),
        ([LDiversity(2, attribute="age")], "'age', which is quasi-identifier in the schema"),
        ([LDiversity(2, attribute="blood")], "'blood', which is not a column"),
    ],
)
def test_models_that_contradict_the_schema_are_refused(models, message):
    with pytest.raises(ValueError, match=message):
        anonymise(patients(), SCHEMA, models=models)


def test_k_map_of_more_people_than_the_population_has_is_refused():
    with pytest.raises(ValueError, match="k must be at most the people of the population table, got 900"):
        anonymise(patients(), SCHEMA, models=[KMap(900)], population=POPULATION)


@pytest.mark.parametrize(
    "model",
    [KAnonymity(201), AlphaKAnonymity(0.5, 201, **A), AverageRisk(0.004)],
    ids=repr,
)
def test_a_table_with_fewer_rows_than_the_smallest_class_is_refused(model):
    with pytest.raises(NotAnonymisable, match="fewer"):
        anonymise(patients(), SCHEMA, models=[model])


def test_messages_name_no_value_of_a_patient():
    frame = patients().replace({"genotype": {"S0": None}})
    with pytest.raises(NotAnonymisable) as caught:
        anonymise(frame, SCHEMA, models=[LDiversity(4, **A)])
    assert not re.search(r"S0|SS|SC|\d", str(caught.value))
