"""Structural zeros against brute force over values: a combination of codes is impossible if all it could mean is."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from generators import ChowLiu, Domain, decode, encode
from generators.encoding import check_decodable
from generators.rules import (
    KNOWN_CELLS,
    RULE_CELLS,
    any_broken,
    forbidden_codes,
    known_cliques,
    known_edges,
    structural_zeros,
)
from privacy import Schema
from privacy.randomness import InsecureSeededRng


def cuts(draw, top):
    return sorted(draw(st.sets(st.integers(1, top), max_size=3)))


@st.composite
def ordered_schemas(draw):
    """Two or three whole numbers of different bounds and bins, some of them nullable, in order."""
    columns = {}
    for name in "abc"[: draw(st.integers(2, 3))]:
        low, width = draw(st.integers(0, 4)), draw(st.integers(1, 6))
        edges = [low + cut for cut in cuts(draw, width) if cut < width]
        columns[name] = {"kind": "integer", "bounds": [low, low + width], "edges": edges}
        columns[name]["nullable"] = draw(st.booleans())
    names = list(columns)
    pairs = [list(pair) for pair in itertools.pairwise(names)]
    rules = draw(
        st.sampled_from(
            [
                [{"order": names}],
                [{"order": pair} for pair in pairs],
                [{"order": pair, "strict": True} for pair in pairs],
            ]
        )
    )
    # The order of columns in the schema is not that of the rules.
    shuffled = draw(st.permutations(names))
    return Schema.from_dict({"columns": {name: columns[name] for name in shuffled}, "rules": rules})


def values_of(schema, name):
    column = schema.column(name)
    low, high = column.bounds
    return [*range(int(low), int(high) + 1), *([None] if column.nullable else [])]


def in_order(row, schema):
    """Whether a row of values obeys every order of the schema, by its definition."""
    of = dict(zip(schema.names, row, strict=True))
    for rule in schema.rules:
        present = [of[name] for name in rule.columns if of[name] is not None]
        pairs = list(itertools.combinations(present, 2))
        if any(one > two or (rule.strict and one == two) for one, two in pairs):
            return False
    return True


def obeying_rows(schema):
    rows = [
        row for row in itertools.product(*(values_of(schema, name) for name in schema.names)) if in_order(row, schema)
    ]
    return pd.DataFrame(rows, columns=list(schema.names), dtype=object)


@given(ordered_schemas(), st.integers(0, 2**32 - 1))
def test_codes_are_broken_if_and_only_if_no_values_in_them_are_in_order(schema, seed):
    domain = Domain.from_schema(schema)
    good = obeying_rows(schema)
    assume(len(good))
    schema.validate(good)
    possible = {tuple(row) for row in encode(good, schema).tolist()}
    everything = np.array(list(itertools.product(*(range(size) for size in domain.n_codes))))
    broken = any_broken(forbidden_codes(schema), everything, domain)
    assert {tuple(row) for row in everything[~broken].tolist()} == possible
    # What is possible is decoded to values in order, in the same bins.
    check_decodable(schema)
    codes = np.repeat(everything[~broken], 20, axis=0)
    table = decode(codes, schema, rng=np.random.default_rng(seed))
    schema.validate(table)
    assert np.array_equal(encode(table, schema), codes)
    for clique, mask in structural_zeros(schema).items():
        pairs = {tuple(row) for row in encode(good, schema)[:, [domain.position(name) for name in clique]].tolist()}
        for cell in np.argwhere(mask):
            assert tuple(cell.tolist()) not in pairs


def test_values_in_order_follow_the_law_of_independent_values_given_their_order():
    n = 40_000
    wide = {"kind": "integer", "bounds": [0, 3]}
    schema = Schema.from_dict({"columns": {"a": wide, "b": wide}, "rules": [{"order": ["a", "b"]}]})
    table = decode(np.zeros((n, 2), dtype=np.uint8), schema, rng=np.random.default_rng(5))
    counts = pd.crosstab(table["a"], table["b"]).to_numpy()
    assert counts[np.tril_indices(4, -1)].sum() == 0
    allowed = counts[np.triu_indices(4)]
    # Ten equal cells; chi-square with 9 degrees of freedom exceeds 33.7 once in 10^4.
    assert np.square(allowed - n / 10).sum() / (n / 10) < 33.7
    # The test can fail: drawing b uniformly above a would give (0, 0) and (3, 3) the weights 1/16 and 1/4.
    unequal = n * np.array([1 / 16] * 4 + [1 / 12] * 3 + [1 / 8] * 2 + [1 / 4])
    assert np.square(unequal - n / 10).sum() / (n / 10) > 33.7


def test_dates_in_order_stay_in_their_bins():
    schema = Schema.from_dict(
        {
            "columns": {
                "diagnosis": {"kind": "date", "bounds": ["2000-01-01", "2009-12-31"], "step": "year"},
                "transplant": {
                    "kind": "date",
                    "bounds": ["2000-01-01", "2010-12-31"],
                    "step": "quarter",
                    "nullable": True,
                    "dtype": "text",
                },
            },
            "rules": [{"order": ["diagnosis", "transplant"], "strict": True}],
        }
    )
    domain = Domain.from_schema(schema)
    everything = np.array(list(itertools.product(*(range(size) for size in domain.n_codes))))
    codes = np.repeat(everything[~any_broken(forbidden_codes(schema), everything, domain)], 5, axis=0)
    table = decode(codes, schema, rng=np.random.default_rng(6))
    assert table["diagnosis"].dtype == np.dtype("datetime64[s]")
    schema.validate(table)
    assert np.array_equal(encode(table, schema), codes)


def test_zeros_of_groups_are_those_whose_leaves_are_all_impossible():
    schema = Schema.from_dict(
        {
            "columns": {
                "sex": {"categories": ["F", "M"]},
                "icd": {
                    "categories": ["C50", "C51", "C61", "C91", "C92"],
                    "hierarchy": {
                        "rows": [
                            ["C50", "solid"],
                            ["C51", "gyn"],
                            ["C61", "solid"],
                            ["C91", "leukaemia"],
                            ["C92", "leukaemia"],
                        ]
                    },
                    "model_level": 1,
                },
            },
            "rules": [
                {"forbid": {"sex": "M", "icd": "gyn"}},
                {"forbid": {"sex": "F", "icd": "C61"}},
            ],
        }
    )
    groups = schema.column("icd").modelled().categories
    assert groups == ("solid", "gyn", "leukaemia")
    [(clique, mask)] = structural_zeros(schema).items()
    assert clique == ("sex", "icd")
    assert mask.tolist() == [[False, False, False], [False, True, False]]
    # A woman's solid tumour is possible, but never the one that the rule takes out of the group.
    table = decode(np.tile([[0, 0], [1, 0]], (200, 1)), schema, rng=np.random.default_rng(7))
    schema.validate(table)
    assert set(table.loc[table["sex"] == "M", "icd"]) == {"C50", "C61"}
    assert set(table.loc[table["sex"] == "F", "icd"]) == {"C50"}


def test_what_a_group_determines_is_what_some_leaf_determines():
    rows = [["H1", "city", "N"], ["H2", "city", "S"], ["H3", "land", "S"]]
    schema = Schema.from_dict(
        {
            "columns": {
                "hospital": {"categories": ["H1", "H2", "H3"], "hierarchy": {"rows": rows}, "model_level": 1},
                "region": {"categories": ["N", "S", "W"]},
            },
            "rules": [{"determines": ["hospital", "region"], "level": 2}],
        }
    )
    [(_, mask)] = structural_zeros(schema).items()
    assert mask.tolist() == [[False, False, True], [True, False, True]]
    table = decode(np.tile([[0, 0], [0, 1], [1, 1]], (50, 1)), schema, rng=np.random.default_rng(8))
    schema.validate(table)


def test_rules_on_missing_values_and_on_three_columns_become_zeros():
    schema = Schema.from_dict(
        {
            "columns": {
                "relapsed": {"categories": ["0", "1"]},
                "treated": {"categories": ["0", "1"]},
                "relapse": {"kind": "integer", "bounds": [0, 9], "edges": [5], "nullable": True},
            },
            "rules": [{"column": "relapse", "only_if": {"relapsed": "1", "treated": "1"}, "always": True}],
        }
    )
    zeros = structural_zeros(schema)
    assert set(zeros) == {("relapsed", "relapse"), ("treated", "relapse"), ("relapsed", "treated", "relapse")}
    assert known_cliques(schema) == (("relapsed", "treated", "relapse"),)
    domain = Domain.from_schema(schema)
    everything = np.array(list(itertools.product(*(range(size) for size in domain.n_codes))))
    kept = everything[~any_broken(forbidden_codes(schema), everything, domain)]
    assert kept.tolist() == [[0, 0, 2], [0, 1, 2], [1, 0, 2], [1, 1, 0], [1, 1, 1]]


def test_survival_and_strata_are_one_clique_and_in_a_forest_a_path():
    schema = Schema.from_dict(
        {
            "columns": {
                "sex": {"categories": ["F", "M"]},
                "arm": {"categories": ["A", "B"]},
                "time": {"kind": "integer", "bounds": [0, 9999], "edges": [365, 3650]},
                "event": {"categories": ["0", "1"]},
            },
            "survival": {"time": "time", "event": "event", "horizon": 3650, "strata": ["sex", "arm"]},
        }
    )
    assert known_cliques(schema) == (("sex", "arm", "time", "event"),)
    assert known_edges(schema) == (("time", "event"), ("sex", "time"), ("arm", "time"))
    assert structural_zeros(schema)["time", "event"].tolist() == [[False, False], [False, False], [False, True]]


def test_what_would_make_the_model_too_large_is_kept_by_drawing_again():
    wide = {"kind": "integer", "bounds": [0, 400], "bins": 400}
    body = {"columns": {name: dict(wide) for name in "abcd"}, "rules": [{"order": ["a", "b"]}]}
    assert RULE_CELLS < 400**2
    schema = Schema.from_dict(body)
    assert known_cliques(schema) == ()
    assert structural_zeros(schema) == {}
    codes = np.array([[300, 3, 0, 0], [3, 300, 0, 0]])
    assert any_broken(forbidden_codes(schema), codes, Domain.from_schema(schema)).tolist() == [True, False]
    # Each pair fits, but all six make one clique of 120^4 cells.
    narrow = {"kind": "integer", "bounds": [0, 120], "bins": 120}
    body = {"columns": {name: dict(narrow) for name in "abcd"}, "rules": [{"order": ["a", "b", "c", "d"]}]}
    kept = known_cliques(Schema.from_dict(body))
    assert 0 < len(kept) < 6
    assert KNOWN_CELLS < 120**3


def test_a_fitted_forest_obeys_every_rule():
    rng = np.random.default_rng(9)
    n = 3000
    hospital = rng.choice(["H1", "H2", "H3", "H4"], n)
    diagnosis = rng.integers(0, 3000, n)
    relapsed = rng.random(n) < 0.4
    transplant = np.where(rng.random(n) < 0.6, diagnosis + rng.integers(0, 900, n), np.nan)
    frame = pd.DataFrame(
        {
            "hospital": hospital,
            "region": np.where(np.isin(hospital, ["H1", "H2"]), "N", "S"),
            "diagnosis": diagnosis,
            "transplant": transplant,
            "relapsed": relapsed.astype(int).astype(str),
            "relapse": np.where(relapsed, rng.integers(0, 10, n), np.nan),
        }
    )
    schema = Schema.from_dict(
        {
            "columns": {
                "hospital": {"categories": ["H1", "H2", "H3", "H4"]},
                "region": {"categories": ["N", "S"]},
                "diagnosis": {"kind": "integer", "bounds": [0, 4000], "edges": [500, 1000, 1500, 2000, 2500]},
                "transplant": {"kind": "integer", "bounds": [0, 4000], "edges": [700, 1500, 2200], "nullable": True},
                "relapsed": {"categories": ["0", "1"]},
                "relapse": {"kind": "integer", "bounds": [0, 9], "edges": [5], "nullable": True},
            },
            "rules": [
                {"determines": ["hospital", "region"], "map": {"H1": "N", "H2": "N", "H3": "S", "H4": "S"}},
                {"order": ["diagnosis", "transplant"]},
                {"column": "relapse", "only_if": {"relapsed": "1"}, "always": True},
            ],
        }
    )
    model = ChowLiu(epsilon=1.0, delta=1e-9).fit(frame, schema, rng=InsecureSeededRng(1))
    assert {("hospital", "region"), ("diagnosis", "transplant"), ("relapsed", "relapse")} <= set(model.edges)
    for clique, mask in structural_zeros(schema).items():
        assert model.marginal(clique).estimate[mask].max() == 0
    table = model.sample(3000, rng=np.random.default_rng(10))
    schema.validate(table)
    assert table["transplant"].isna().mean() == pytest.approx(frame["transplant"].isna().mean(), abs=0.1)


def test_times_in_order_are_above_zero_where_they_can_be():
    schema = Schema.from_dict(
        {
            "columns": {
                "time": {"kind": "integer", "bounds": [0, 9], "edges": [3]},
                "event": {"categories": ["0", "1"]},
                "later": {"kind": "integer", "bounds": [0, 9], "edges": [1, 2]},
            },
            "survival": {"time": "time", "event": "event"},
            "rules": [{"order": ["time", "later"]}],
        }
    )
    table = decode(np.tile([[0, 1, 0], [0, 1, 1]], (500, 1)), schema, rng=np.random.default_rng(11))
    schema.validate(table)
    assert table.loc[table["later"] == 1, "time"].eq(1).all()
    assert table.loc[table["later"] == 0, "time"].eq(0).all()
