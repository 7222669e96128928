"""The downcoding attack on releases of every algorithm; only the verification looks at the raw table."""

import dataclasses
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise import AttackableRelease, KAnonymity, Schema, anonymise, build_hierarchy, encode_table
from anonymise.attacks import attained, downcode
from anonymise.by_class import choose
from anonymise.lattice import search
from anonymise.loss import METRICS
from anonymise.preparing import Prepared
from anonymise.recoding import full_domain

DATA = Path(__file__).parent / "data"
STEPWISE = pytest.mark.parametrize("algorithm", ["local", "cell_suppression"])
# The place of a row in the raw table travels along as a sensitive value, so that claims can be verified.
SCHEMA = Schema.from_dict(
    {
        "columns": {
            "age": {
                "role": "quasi-identifier",
                "kind": "integer",
                "bounds": [0, 63],
                "hierarchy": {"interval": [4, 16, 32]},
            },
            "icd": {
                "role": "quasi-identifier",
                "categories": ["D571", "D572", "D578", "C920", "C921", "C910", "C911"],
                "hierarchy": {"prefix": [3, 1]},
            },
            "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
            "row": {"role": "insensitive", "kind": "integer", "bounds": [0, 10**6]},
        }
    }
)


def clustered(n=400, seed=3):
    """Patients in clusters, each with its own spread: what clinics look like, and what minimal schemes give away."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 6, n)
    age = np.rint(rng.normal(np.array([5, 18, 25, 40, 50, 60])[cluster], np.array([1, 4, 2, 8, 1, 3])[cluster]))
    icd = np.array(SCHEMA.column("icd").categories)[(cluster + (rng.random(n) < 0.15) * rng.integers(0, 7, n)) % 7]
    sex = np.where(rng.random(n) < np.array([0.1, 0.9, 0.5, 0.5, 0.95, 0.3])[cluster], "F", "M")
    return pd.DataFrame({"age": age.clip(0, 63).astype(int), "icd": icd, "sex": sex, "row": np.arange(n)})


def release(frame, algorithm, k, schema=SCHEMA, **more):
    if algorithm == "optimal":
        return anonymise(frame, schema, models=[KAnonymity(k)], **more).table
    with pytest.warns(AttackableRelease):
        return anonymise(frame, schema, models=[KAnonymity(k)], algorithm=algorithm, **more).table


def verified(refinements, table, frame):
    """Return the numbers of downcoded cells and of those that hold in the raw table."""
    claimed = held = 0
    for refinement in refinements:
        rows = table["row"].to_numpy()[list(refinement.rows)]
        for column, text, values in refinement.columns:
            assert set(table[column].to_numpy()[list(refinement.rows)]) == {text}
            claimed += rows.size
            held += sum(str(value) in values for value in frame[column].to_numpy()[rows])
    assert claimed == sum(refinement.n_cells for refinement in refinements)
    return claimed, held


@STEPWISE
def test_stepwise_releases_are_downcoded_with_certainty(algorithm):
    cells = []
    for seed in range(4):
        frame = clustered(400, seed)
        table = release(frame, algorithm, 3)
        claimed, held = verified(downcode(table, SCHEMA), table, frame)
        assert claimed == held
        cells.append(claimed)
    assert sum(cells) > 30


@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from(["local", "cell_suppression"]))
def test_every_claim_holds(seed, k, algorithm):
    frame = clustered(150, seed)
    table = release(frame, algorithm, k, suppression_limit=0.1)
    claimed, held = verified(downcode(table, SCHEMA), table, frame)
    assert claimed == held


@STEPWISE
def test_raw_tuples_that_are_called_impossible_do_not_occur(algorithm):
    frame = clustered()
    table = release(frame, algorithm, 4)
    refinements = downcode(table, SCHEMA)
    assert min(refinement.share for refinement in refinements) < 0.7
    # Counted by hand for each class: tuples of its region that are in no released class of an earlier step.
    hierarchies = [build_hierarchy(SCHEMA.column(name)) for name in SCHEMA.quasi_identifiers]
    for refinement in refinements[:10]:
        texts = table[list(SCHEMA.quasi_identifiers)].iloc[refinement.rows[0]]
        tuples = set(itertools.product(*(members(h, text) for h, text in zip(hierarchies, texts, strict=True))))
        raw = frame[list(SCHEMA.quasi_identifiers)].iloc[table["row"].to_numpy()[list(refinement.rows)]]
        assert {tuple(map(str, row)) for row in raw.itertuples(index=False)} <= tuples
        others = table[list(SCHEMA.quasi_identifiers)].drop_duplicates().itertuples(index=False, name=None)
        nested = [
            set(itertools.product(*(members(h, text) for h, text in zip(hierarchies, other, strict=True))))
            for other in others
            if other != tuple(texts)
        ]
        open_ = tuples.difference(*(region for region in nested if region <= tuples))
        # Nested regions are one way to know an order; the attack may know more.
        assert refinement.share <= len(open_) / len(tuples) + 1e-12


def members(hierarchy, text):
    for labels, codes in zip(hierarchy.labels, hierarchy.codes, strict=True):
        if text in labels:
            return [hierarchy.labels[0][leaf] for leaf in np.flatnonzero(codes == labels.index(text))]
    raise AssertionError(text)


@pytest.mark.parametrize("limit", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("k", [2, 5])
def test_the_default_shows_no_downcoded_cell(k, limit):
    for seed in range(5):
        table = release(clustered(400, seed), "optimal", k, suppression_limit=limit)
        assert downcode(table, SCHEMA) == []


@pytest.fixture(scope="module")
def adult():
    schema = Schema.load(DATA / "adult.toml")
    columns = tuple(dataclasses.replace(c, role="sensitive") if c.name == "occupation" else c for c in schema.columns)
    row = dataclasses.replace(SCHEMA.column("row"))
    frame = pd.read_csv(DATA / "adult.csv.gz", sep=";", dtype=str)
    return dataclasses.replace(schema, columns=(*columns, row)), frame.assign(row=np.arange(len(frame)))


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "n_cells"), [("optimal", 0), ("local", 7), ("cell_suppression", 161)])
def test_downcoded_cells_of_adult(adult, algorithm, n_cells):
    schema, frame = adult
    table = release(frame, algorithm, 5, schema, suppression_limit=0.02)
    assert verified(downcode(table, schema), table, frame) == (n_cells, n_cells)


# ---------------------------------------------------------------- Mondrian


def attained_and_true(table, frame, schema):
    claims = attained(table, schema)
    rows = table["row"].to_numpy()
    true = sum(
        value in set(frame[claim.column].astype(str).to_numpy()[rows[list(claim.rows)]])
        for claim in claims
        for value in claim.values
    )
    return sum(len(claim.values) for claim in claims), true


def test_mondrian_names_values_that_somebody_in_the_class_has(adult):
    schema, frame = adult
    table = release(frame, "mondrian", 5, schema)
    claimed, true = attained_and_true(table, frame, schema)
    assert claimed == true > 4000


def test_a_class_of_two_is_known_entirely():
    frame = pd.DataFrame({"age": [3, 9, 40, 47], "icd": ["D571"] * 4, "sex": list("FFMM"), "row": range(4)})
    table = release(frame, "mondrian", 2)
    assert sorted((claim.text, claim.values) for claim in attained(table, SCHEMA)) == [
        ("[3, 10)", ("3", "9")),
        ("[40, 48)", ("40", "47")),
    ]


def test_the_intervals_of_the_default_name_nobodys_value():
    # The same reading of a full-domain release is wrong about as often as a guess: its ends are the schema's.
    frame = clustered(200)
    claimed, true = attained_and_true(release(frame, "optimal", 5, suppression_limit=0.1), frame, SCHEMA)
    assert claimed > 0
    assert true < claimed


# ---------------------------------------------------------------- an attacker without limits


SMALL = Schema.from_dict(
    {
        "columns": {
            "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 3], "hierarchy": {"interval": [2]}},
            "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
        }
    }
)


def fully_known(n_rows, texts_of):
    """Return how many of all raw tables are told entirely by their release under k = 2, though it is generalised.

    The attacker runs the algorithm on every possible table (multisets of rows) and keeps those with the same release.
    """
    hierarchies = [build_hierarchy(column) for column in SMALL.columns]
    raws = list(itertools.product(range(4), "FM"))
    by_release = defaultdict(list)
    for rows in itertools.combinations_with_replacement(raws, n_rows):
        ages, sexes = zip(*rows, strict=True)
        data = encode_table([np.array(ages), np.array(sexes, dtype=object)], hierarchies)
        columns = [
            [texts[code] for code in codes[data.row_tuple].tolist()]
            for texts, codes in zip(*texts_of(data), strict=True)
        ]
        by_release[tuple(sorted(zip(*columns, strict=True)))].append(rows)
    return sum(
        len(found) == 1 and texts != tuple(sorted((str(age), sex) for age, sex in found[0]))
        for texts, found in by_release.items()
    )


def by_node(data):
    models = [KAnonymity(2)]
    node = search(data, METRICS["loss"](data.hierarchies), models, max_suppressed=0).node
    found = full_domain(data, models, node)
    return found.texts, found.codes


def by_class(algorithm):
    def texts_of(data):
        prepared = Prepared(None, data, None, None, data.n_records, data.n_rows, 0, max_suppressed=0)
        found = choose(algorithm, prepared, [KAnonymity(2)], metric_of=METRICS["loss"]).texts
        return found.texts, found.codes

    return texts_of


def test_an_attacker_without_limits_knows_no_table_of_the_default():
    assert fully_known(4, by_node) == 0


@pytest.mark.filterwarnings("ignore::anonymise.AttackableRelease")
@pytest.mark.parametrize(
    ("algorithm", "least"),
    [("local", 20), pytest.param("cell_suppression", 15, marks=pytest.mark.slow), ("mondrian", 100)],
)
def test_an_attacker_without_limits_knows_whole_tables_of_the_others(algorithm, least):
    assert fully_known(4, by_class(algorithm)) >= least


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::anonymise.AttackableRelease")
def test_one_more_patient_changes_little():
    assert fully_known(5, by_node) == 0
    for algorithm in ("local", "cell_suppression", "mondrian"):
        assert fully_known(5, by_class(algorithm)) > 10
