import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise import Schema, find_quasi_identifiers

# ARX 3.9.2, TestRiskQuasiIdentifiers: distinction and separation of every set, calculated there by hand.
PEOPLE = pd.DataFrame(
    {"age": [20, 30, 40, 20, 40], "sex": ["F", "F", "F", "M", "M"], "state": ["CA", "CA", "TX", "NY", "CA"]}
)
BY_HAND = {
    ("sex",): (0.4, 0.6),
    ("state",): (0.6, 0.7),
    ("age",): (0.6, 0.8),
    ("sex", "state"): (0.8, 0.9),
    ("age", "sex"): (1.0, 1.0),
    ("age", "state"): (1.0, 1.0),
    ("age", "sex", "state"): (1.0, 1.0),
}


def test_figures_are_those_that_arx_calculated_by_hand():
    for names, (distinction, separation) in BY_HAND.items():
        for found in find_quasi_identifiers(PEOPLE, columns=names, limit=0.99, max_columns=3).sets:
            if found.columns == names:
                assert (found.distinction, found.separation) == (distinction, separation)
                break
        else:
            # A part of it singled out everybody: then nothing larger is counted.
            assert names == ("age", "sex", "state")


TABLES = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.tuples(*[st.integers(0, 3)] * width), min_size=1, max_size=30)
)


def brute(frame, names):
    sizes = frame.groupby(list(names)).size()
    n = len(frame)
    rows = [tuple(row) for row in frame[list(names)].to_numpy()]
    apart = sum(a != b for a, b in combinations(rows, 2))
    return len(sizes) / n, apart / max(n * (n - 1) / 2, 1), (sizes == 1).sum() / n


@given(TABLES, st.sampled_from([0.0, 0.1, 0.3, 0.7]), st.integers(1, 5))
def test_the_minimal_sets_are_those_of_trying_all(rows, limit, max_columns):
    frame = pd.DataFrame(rows, columns=list("abcde")[: len(rows[0])])
    found = find_quasi_identifiers(frame, limit=limit, max_columns=max_columns)
    assert found.complete
    subsets = [names for width in range(1, max_columns + 1) for names in combinations(frame.columns, width)]
    singling = {names for names in subsets if brute(frame, names)[2] > limit}
    minimal = {names for names in singling if not any(set(other) < set(names) for other in singling)}
    assert {one.columns for one in found.minimal} == minimal
    for one in found.sets:
        assert (one.distinction, one.separation, one.singled_out) == pytest.approx(brute(frame, one.columns))


@given(TABLES)
def test_the_greedy_order_takes_the_best_column_each_time(rows):
    frame = pd.DataFrame(rows, columns=list("abcde")[: len(rows[0])])
    taken = ()
    for step in find_quasi_identifiers(frame).greedy:
        options = {name: brute(frame, (*taken, name)) for name in frame.columns if name not in taken}
        best = max((alone, apart) for _, apart, alone in options.values())
        assert step.columns[:-1] == taken
        assert (step.singled_out, step.separation) == pytest.approx(best)
        taken = step.columns
    whole = brute(frame, tuple(frame.columns))
    assert brute(frame, taken)[1:] == pytest.approx(whole[1:]) or brute(frame, taken)[2] == 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=25))
def test_patients_with_several_rows_are_singled_out_by_any_of_them(rows):
    columns = {"pid": {"role": "identifier"}, "a": {"kind": "integer", "bounds": [0, 2]}}
    columns["b"] = columns["a"]
    schema = Schema.from_dict({"table": {"patient_id": "pid"}, "columns": columns})
    found = find_quasi_identifiers(pd.DataFrame(rows, columns=["pid", "a", "b"]), schema, limit=0.99)
    who = {}
    for pid, *rest in rows:
        who.setdefault(tuple(rest), set()).add(pid)
    alone = {next(iter(ids)) for ids in who.values() if len(ids) == 1}
    for one in found.sets:
        assert "pid" not in one.columns
        if one.columns == ("a", "b"):
            assert one.singled_out == len(alone) / len({pid for pid, _, _ in rows})


def test_a_search_that_was_ended_says_so():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 5, (200, 8))).add_prefix("c")
    found = find_quasi_identifiers(frame, max_sets=10)
    assert (found.complete, len(found.sets)) == (False, 10)
    assert "ended before" in str(found)


def test_sets_with_too_few_values_are_not_counted():
    frame = pd.DataFrame({"a": [0, 1] * 500, "b": [0] * 500 + [1] * 500, "c": range(1000)})
    found = find_quasi_identifiers(frame)
    assert [one.columns for one in found.minimal] == [("c",)]
    assert ("a", "b") not in {one.columns for one in found.sets}
    assert found.complete


def test_output_names_columns_only_and_json_is_internal():
    found = find_quasi_identifiers(PEOPLE)
    assert repr(found) == "QuasiIdentifiers(INTERNAL, minimal=(('state',), ('age',)))"
    assert json.loads(found.to_json())["audience"] == "INTERNAL"
    assert "INTERNAL" in str(found)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"limit": 1.0}, "limit must"),
        ({"max_columns": 0}, "max_columns must"),
        ({"max_sets": True}, "max_sets must"),
        ({"columns": ["age", "age"]}, "columns must"),
        ({"columns": "age"}, "columns must"),
        ({"columns": ["ages"]}, "'ages' must appear"),
    ],
)
def test_bad_arguments_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        find_quasi_identifiers(PEOPLE, **arguments)
