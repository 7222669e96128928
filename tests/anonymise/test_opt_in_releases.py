"""Releases of the algorithms that choose by class, looked at as a recipient does: text, order, dtypes, nothing else."""

import dataclasses
import json
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_models import passes
from unshuffled import Unshuffled

from anonymise import (
    AlphaKAnonymity,
    AttackableRelease,
    AverageRisk,
    BetaLikeness,
    DeltaDisclosure,
    DeltaPresence,
    GuaranteeBroken,
    KAnonymity,
    KMap,
    LDiversity,
    NotAnonymisable,
    Schema,
    TCloseness,
    anonymise,
    build_hierarchy,
    by_class,
)

N_ROWS = 4000
# Spearman's rho of a random order has standard deviation 1 / sqrt(n - 1) = 0.0158; five of them.
RHO_THRESHOLD = 0.08
# P(a uniform permutation of 4000 keeps more than 10 neighbours in order) < 1e-6; the number is about Poisson(1).
NEIGHBOURS_KEPT_THRESHOLD = 10

ALGORITHMS = pytest.mark.parametrize("algorithm", ["mondrian", "local", "cell_suppression"])
ALL = pytest.mark.parametrize("algorithm", ["optimal", "mondrian", "local", "cell_suppression"])
SCHEMA = Schema.from_dict(
    {
        "table": {"name": "clinic", "patient_id": "mrn"},
        "columns": {
            "mrn": {"role": "identifier"},
            "age": {
                "role": "quasi-identifier",
                "kind": "integer",
                "bounds": [0, 99],
                "hierarchy": {"interval": [5, 10, 50]},
                "nullable": True,
            },
            "wbc": {"role": "quasi-identifier", "kind": "continuous", "bounds": [0, 500], "edges": [10, 50, 100]},
            "icd": {
                "role": "quasi-identifier",
                "categories": ["D57.0", "D57.1", "D57.2", "C92.0", "C92.1", "C91.0"],
                "hierarchy": {"prefix": [3, 1]},
            },
            "sex": {"role": "quasi-identifier", "categories": ["F", "M", "X"]},
            "genotype": {"role": "sensitive", "categories": ["HbSS", "HbSC", "HbSb"]},
            "arrival": {"role": "insensitive", "kind": "integer", "bounds": [0, 10**6]},
        },
    }
)
VECTORS = json.loads((Path(__file__).parent / "vectors" / "pycanon_opt_in.json").read_text())["cases"]
NAMES = list(SCHEMA.quasi_identifiers)


def patients(n=80, seed=1, missing=0.1):
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 100, n).astype(float)
    age[rng.random(n) < missing] = np.nan
    return pd.DataFrame(
        {
            "mrn": [f"MRN-{i:06d}" for i in range(n)],
            "age": age,
            "wbc": rng.gamma(0.5, 60.0, n).clip(0, 500),
            "icd": rng.choice(["D57.0", "D57.1", "D57.2", "C92.0", "C92.1", "C91.0"], n),
            "sex": rng.choice(["F", "M", "X"], n, p=[0.5, 0.45, 0.05]),
            "genotype": rng.choice(["HbSS", "HbSC", "HbSb"], n),
            "arrival": np.arange(n),
        },
        index=[f"row {i}" for i in range(n)],
    )


def released(frame, algorithm, k=3, **more):
    if algorithm == "optimal":
        return anonymise(frame, SCHEMA, models=[KAnonymity(k)], **more)
    with pytest.warns(AttackableRelease):
        return anonymise(frame, SCHEMA, models=[KAnonymity(k)], algorithm=algorithm, **more)


def covers(name, text, raw):
    """Return whether a released text stands for a raw value: read as a person would, without the package."""
    missing = isinstance(raw, float) and math.isnan(raw)
    if text == "*" or missing:
        return text in ("*", "missing")
    if name == "age":
        if text.startswith("["):
            low, high = text.strip("[)").split(", ")
            return float(low) <= raw < float(high)
        return float(text) == raw
    if name == "wbc":
        low, high = text.split(" to ")
        return float(low) <= raw < float(high) or (raw == 500 == float(high))
    if name == "icd":
        return len(text) == 5 and raw.startswith(text.rstrip("*"))
    return raw in text.strip("{}").split(", ")


@ALL
@given(st.integers(2, 6), st.integers(8, 90), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5]))
def test_every_class_has_k_rows_and_every_text_covers_what_it_stands_for(algorithm, k, n, seed, limit):
    frame = patients(n, seed)
    result = released(frame, algorithm, k, suppression_limit=limit)
    table = result.table
    assert list(table.columns) == [*NAMES, "genotype", "arrival"]
    counts = Counter(table[NAMES].itertuples(index=False, name=None))
    assert min(counts.values()) >= k
    assert n - len(table) == result.suppressed <= limit * n
    raw = frame.iloc[table["arrival"].to_numpy()].reset_index(drop=True)
    assert (raw["genotype"] == table["genotype"]).all()
    assert table["arrival"].is_unique
    for name in NAMES:
        assert all(covers(name, text, value) for text, value in zip(table[name], raw[name], strict=True))


@pytest.mark.slow
@ALGORITHMS
@given(st.integers(0, 10**6))
def test_the_order_of_rows_changes_no_class(algorithm, seed):
    frame = patients(60, seed)
    here = released(frame, algorithm)
    there = released(frame.sample(frac=1.0, random_state=seed % 1000), algorithm)
    assert here.score == pytest.approx(there.score, abs=1e-13)
    columns = [*NAMES, "arrival"]
    assert set(here.table[columns].itertuples(index=False, name=None)) == set(
        there.table[columns].itertuples(index=False, name=None)
    )


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"{case['algorithm']}-{case['k']}-{case['result']}")
def test_pycanon_finds_the_same_k_in_the_same_classes(case):
    table = released(patients(120, 0), case["algorithm"], case["k"], suppression_limit=0.05).table
    classes = Counter(table[NAMES].itertuples(index=False, name=None))
    recorded = {tuple(texts): n for *texts, n in case["classes"]}
    assert min(recorded.values()) == case["pycanon_k"]
    assert (recorded == classes and case["pycanon_k"] >= case["k"]) == (case["result"] == "valid")


@ALGORITHMS
def test_the_result_says_that_it_is_no_node_and_not_optimal(algorithm):
    result = released(patients(), algorithm)
    assert result.node is None
    assert result.optimal is False
    assert math.isnan(result.gap)
    assert 0.0 < result.score < released(patients(), "optimal").score
    assert "HbS" not in repr(result)
    assert "score" not in repr(result)


@ALGORITHMS
def test_the_warning_names_the_attacks_and_points_at_the_call(algorithm):
    with pytest.warns(AttackableRelease, match="Cohen 2022") as caught:
        anonymise(patients(), SCHEMA, models=[KAnonymity(3)], algorithm=algorithm)
    assert caught[0].filename == __file__
    assert ("arXiv 2509.03350" in str(caught[0].message)) == (algorithm != "mondrian")


def test_the_default_does_not_warn(recwarn):
    anonymise(patients(), SCHEMA, models=[KAnonymity(3)])
    assert not recwarn.list


# ---------------------------------------------------------------- order, index, dtypes


def spearman_and_neighbours(table):
    arrival = table["arrival"].to_numpy()
    ranks = np.argsort(np.argsort(arrival))
    rho = float(np.corrcoef(ranks, np.arange(ranks.size))[0, 1])
    return rho, int((np.diff(ranks) == 1).sum())


@ALL
def test_released_rows_bear_no_trace_of_where_they_stood(algorithm):
    frame = patients(N_ROWS)
    for name in ("icd", "sex", "genotype"):
        # The order of the categories is that of the first rows.
        frame[name] = pd.Categorical(frame[name], categories=frame[name].unique())
    table = released(frame, algorithm, k=5, suppression_limit=0.05).table
    rho, neighbours = spearman_and_neighbours(table)
    assert abs(rho) < RHO_THRESHOLD
    assert neighbours <= NEIGHBOURS_KEPT_THRESHOLD
    assert isinstance(table.index, pd.RangeIndex)
    assert (table.index.start, table.index.step, table.index.name) == (0, 1, None)
    assert not isinstance(table["genotype"].dtype, pd.CategoricalDtype)
    for name in NAMES:
        # A categorical's list of texts is sorted, or the public list of a level.
        categories = list(table[name].cat.categories)
        levels = build_hierarchy(SCHEMA.column(name)).labels
        assert tuple(categories) in levels if algorithm == "optimal" else categories == sorted(categories)
    assert not table.attrs
    # Rows of a class stand apart, too: their places are a random sample.
    largest = table.groupby(NAMES, sort=False).indices
    places = max(largest.values(), key=len)
    centre = (len(table) - 1) / 2
    deviation = len(table) / math.sqrt(12 * len(places))
    assert abs(places.mean() - centre) < 5 * deviation


@ALL
def test_a_table_that_is_not_shuffled_would_be_noticed(algorithm):
    rho, neighbours = spearman_and_neighbours(
        released(patients(N_ROWS), algorithm, k=5, suppression_limit=0.05, rng=Unshuffled()).table
    )
    assert rho > RHO_THRESHOLD
    assert neighbours > NEIGHBOURS_KEPT_THRESHOLD


# ---------------------------------------------------------------- what is refused


@ALGORITHMS
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (AverageRisk(0.2), "it speaks of the release as a whole"),
        (KMap(3), "it compares with the population at one node"),
        (DeltaPresence(0.0, 0.9), "it compares with the population at one node"),
        (DeltaDisclosure(2.0, attribute="genotype"), "a union of classes that satisfy it may fail it"),
    ],
)
def test_models_that_cannot_be_held_class_by_class_are_refused(algorithm, model, reason):
    run = {"models": [KAnonymity(3), model], "algorithm": algorithm, "population": pd.concat([patients()] * 2)}
    with pytest.raises(ValueError, match=f"algorithm='{algorithm}' cannot hold .*{reason}; use algorithm='optimal'"):
        anonymise(patients(), SCHEMA, **run)


@ALGORITHMS
@pytest.mark.parametrize(
    "model",
    [
        LDiversity(2, attribute="genotype"),
        LDiversity(2, attribute="genotype", kind="entropy"),
        LDiversity(2, attribute="genotype", kind="recursive", c=3.0),
        TCloseness(0.3, attribute="genotype"),
        BetaLikeness(1.5, attribute="genotype"),
        AlphaKAnonymity(0.7, 3, attribute="genotype"),
    ],
    ids=repr,
)
def test_models_of_sensitive_values_hold_in_every_class_of_equal_text(algorithm, model):
    frame = patients(400, missing=0.02)
    with pytest.warns(AttackableRelease, match="minimality: Wong"):
        table = anonymise(frame, SCHEMA, models=[KAnonymity(3), model], algorithm=algorithm).table
    overall = Counter(frame["genotype"])
    found = defaultdict(Counter)
    for *texts, genotype in table[[*NAMES, "genotype"]].itertuples(index=False, name=None):
        found[tuple(texts)][genotype] += 1
    order = list(overall)
    counts = [[counter[value] for value in order] for counter in found.values()]
    assert len(counts) > 3
    assert all(passes(model, some, [overall[value] for value in order]) for some in counts)


@ALGORITHMS
def test_patients_of_several_rows_and_wildcards_need_the_default(algorithm):
    frame = patients()
    frame["mrn"] = frame["mrn"].to_numpy()[np.arange(len(frame)) // 2]
    with pytest.raises(NotAnonymisable, match="recodes rows, and a patient has several; use algorithm='optimal'"):
        anonymise(frame, SCHEMA, models=[KAnonymity(3)], algorithm=algorithm)
    ages = dataclasses.replace(SCHEMA.column("age"), missing="wildcard")
    schema = dataclasses.replace(SCHEMA, columns=tuple(ages if c.name == "age" else c for c in SCHEMA.columns))
    with pytest.raises(NotAnonymisable, match="missing = 'wildcard' has no meaning for algorithm="):
        anonymise(patients(), schema, models=[KAnonymity(3)], algorithm=algorithm)


@ALGORITHMS
def test_rows_that_lack_a_value_and_are_left_out_count_as_suppressed(algorithm):
    ages = dataclasses.replace(SCHEMA.column("age"), missing="suppress")
    schema = dataclasses.replace(SCHEMA, columns=tuple(ages if c.name == "age" else c for c in SCHEMA.columns))
    frame = patients()
    n_lacking = int(frame["age"].isna().sum())
    with pytest.warns(AttackableRelease):
        result = anonymise(frame, schema, models=[KAnonymity(3)], algorithm=algorithm, suppression_limit=0.5)
    assert len(frame) - len(result.table) == result.suppressed >= n_lacking > 0
    assert result.score > n_lacking / len(frame)


def test_unknown_algorithms_are_refused():
    with pytest.raises(ValueError, match="algorithm must be one of optimal, mondrian, local, cell_suppression"):
        anonymise(patients(), SCHEMA, models=[KAnonymity(3)], algorithm="datafly")


def test_a_table_that_would_break_its_guarantee_is_withheld(monkeypatch):
    monkeypatch.setattr(by_class, "mondrian_classes", lambda encoded, *_: np.arange(encoded.n_tuples))
    with pytest.warns(AttackableRelease), pytest.raises(GuaranteeBroken):
        anonymise(patients(), SCHEMA, models=[KAnonymity(3)], algorithm="mondrian")
