import itertools
import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unshuffled import Unshuffled

from anonymise import (
    GuaranteeBroken,
    KAnonymity,
    NotAnonymisable,
    Schema,
    anonymise,
    assess_risk,
    lattice,
    recoding,
)
from privacy.errors import SchemaError

N_ROWS = 4000
# Spearman's rho of a random order has standard deviation 1 / sqrt(n - 1) = 0.0158; five of them.
RHO_THRESHOLD = 0.08
# P(a uniform permutation of 4000 keeps more than 10 neighbours in order) < 1e-6; the number is about Poisson(1).
NEIGHBOURS_KEPT_THRESHOLD = 10


def clinic(**more):
    columns = {
        "mrn": {"role": "identifier"},
        "age": {
            "role": "quasi-identifier",
            "kind": "integer",
            "bounds": [0, 99],
            "hierarchy": {"interval": [5, 10, 50]},
            "nullable": True,
        },
        "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
        "genotype": {"role": "sensitive", "categories": ["HbSS", "HbSC", "HbSb"]},
        "arrival": {"role": "insensitive", "kind": "integer", "bounds": [0, 10**6]},
    }
    return Schema.from_dict({"table": {"name": "clinic", "patient_id": "mrn"}, "columns": columns | more})


def patients(n=60, seed=1, missing=0.1):
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 100, n).astype(float)
    age[rng.random(n) < missing] = np.nan
    return pd.DataFrame(
        {
            "mrn": [f"MRN-{i:06d}" for i in range(n)],
            "age": age,
            "sex": rng.choice(["F", "M"], n),
            "genotype": rng.choice(["HbSS", "HbSC", "HbSb"], n),
            "arrival": np.arange(n),
        },
        index=[f"row {i}" for i in range(n)],
    )


def test_identifiers_go_and_the_columns_stand_in_the_schemas_order_as_text():
    frame = patients()[["arrival", "sex", "genotype", "mrn", "age"]]
    table = anonymise(frame, clinic(), models=[KAnonymity(3)]).table
    assert list(table.columns) == ["age", "sex", "genotype", "arrival"]
    assert all(isinstance(value, str) for name in ("age", "sex") for value in table[name])
    assert table["arrival"].dtype == np.int64


def test_no_index_of_the_input_survives():
    table = anonymise(patients(), clinic(), models=[KAnonymity(3)], suppression_limit=0.2).table
    assert table.index.equals(pd.RangeIndex(len(table)))
    assert table.index.name is None
    assert table.attrs == {}


def spearman(table):
    # The released positions and the ranks are both permutations, so Spearman's rho is Pearson's of the ranks.
    return np.corrcoef(np.arange(len(table)), table["arrival"].rank())[0, 1]


def neighbours_kept(table):
    return int((np.diff(table["arrival"].to_numpy()) == 1).sum())


def test_the_released_order_tells_nothing_about_the_order_of_the_input():
    table = anonymise(patients(N_ROWS), clinic(), models=[KAnonymity(5)]).table
    assert abs(spearman(table)) < RHO_THRESHOLD
    assert neighbours_kept(table) < NEIGHBOURS_KEPT_THRESHOLD


def test_a_table_that_is_not_shuffled_would_be_noticed():
    table = anonymise(patients(N_ROWS), clinic(), models=[KAnonymity(5)], rng=Unshuffled()).table
    assert abs(spearman(table)) > RHO_THRESHOLD
    assert neighbours_kept(table) > NEIGHBOURS_KEPT_THRESHOLD


def test_two_releases_stand_in_different_orders():
    first, second = (anonymise(patients(200), clinic(), models=[KAnonymity(3)]).table for _ in range(2))
    assert first["arrival"].tolist() != second["arrival"].tolist()
    assert Counter(first["arrival"]) == Counter(second["arrival"])


@settings(max_examples=2 * settings.default.max_examples)
@given(st.integers(2, 8), st.sampled_from([0.0, 0.05, 0.3, 1.0]), st.integers(8, 60), st.integers(0, 1000))
def test_every_released_class_has_k_rows_and_rows_keep_their_own_values(k, limit, n, seed):
    frame = patients(n, seed)
    result = anonymise(frame, clinic(), models=[KAnonymity(k)], suppression_limit=limit)
    table = result.table
    assert min(Counter(zip(table["age"], table["sex"], strict=True)).values()) >= k
    assert result.suppressed == n - len(table) <= limit * n
    source = frame.iloc[table["arrival"]]
    assert source["genotype"].tolist() == table["genotype"].tolist()
    for age, label in zip(source["age"], table["age"], strict=True):
        if label.startswith("["):
            low, high = label[1:-1].split(",")
            assert float(low) <= age < float(high)
        elif label == "missing":
            assert np.isnan(age)
        else:
            assert label in {"*", f"{age:g}"}
    again = anonymise(frame, clinic(), models=[KAnonymity(k)], suppression_limit=limit)
    assert (again.node, again.score, again.suppressed) == (result.node, result.score, result.suppressed)


def test_rows_with_a_missing_value_are_counted_and_not_dropped():
    frame = patients(40, missing=0.0)
    frame["age"] = 30.0
    frame["sex"] = "F"
    frame.iloc[0, frame.columns.get_loc("age")] = np.nan
    kept = anonymise(frame, clinic(), models=[KAnonymity(2)])
    assert len(kept.table) == 40
    assert set(kept.table["age"]) == {"*"}  # One missing age among 40 stands out until everything is generalised.
    cut = anonymise(frame, clinic(), models=[KAnonymity(2)], suppression_limit=0.05)
    assert (len(cut.table), set(cut.table["age"])) == (39, {"30"})


def test_categories_that_only_suppressed_rows_have_do_not_travel_in_the_dtype():
    frame = patients(60, missing=0.0)
    frame["age"], frame["sex"] = 30.0, "F"
    frame.iloc[0, frame.columns.get_loc("age")] = 99.0
    frame["genotype"] = "HbSS"
    frame.iloc[0, frame.columns.get_loc("genotype")] = "HbSb"
    for name in ("genotype", "sex"):
        frame[name] = frame[name].astype("category")
    table = anonymise(frame, clinic(), models=[KAnonymity(5)], suppression_limit=0.05).table
    assert set(table["genotype"]) == {"HbSS"}
    assert not isinstance(table["genotype"].dtype, pd.CategoricalDtype)
    assert b"HbSb" not in pickle.dumps(table)
    assert b"MRN-" not in pickle.dumps(table)


def test_the_suppression_limit_is_read_as_the_decimal_it_is_written_as():
    frame = patients(100, missing=0.0)
    frame["sex"] = "F"
    frame["age"] = [10.0] * 71 + [float(70 + i) for i in range(29)]
    # 0.29 * 100 is 28.999... in floating point; 29 rows are allowed, 28 are not enough for level 0.
    allowed = anonymise(frame, clinic(), models=[KAnonymity(30)], suppression_limit=0.29)
    assert (dict(allowed.node), allowed.suppressed) == ({"age": 0, "sex": 0}, 29)
    assert anonymise(frame, clinic(), models=[KAnonymity(30)], suppression_limit=0.28).suppressed <= 28


def test_a_table_that_would_break_its_guarantee_is_withheld(monkeypatch):
    monkeypatch.setattr(recoding, "failing_tuples", lambda encoded, *_: np.zeros(encoded.n_tuples, dtype=bool))
    with pytest.raises(GuaranteeBroken, match=r"KAnonymity\(k=5\)"):
        anonymise_some(suppression_limit=0.3)


def anonymise_some(frame=None, schema=None, *, k=5, **more):
    return anonymise(patients() if frame is None else frame, schema or clinic(), models=[KAnonymity(k)], **more)


def test_fewer_rows_than_k_are_never_released():
    with pytest.raises(NotAnonymisable, match="fewer patients"):
        anonymise_some(patients(4), suppression_limit=1.0)


def test_hierarchies_that_end_too_early_cannot_be_anonymised():
    schema = clinic(
        sex={"role": "quasi-identifier", "categories": ["F", "M"], "hierarchy": {"rows": [["F", "f"], ["M", "m"]]}}
    )
    frame = patients(30)
    frame["sex"] = ["F"] + ["M"] * 29
    with pytest.raises(NotAnonymisable, match="no combination of levels"):
        anonymise_some(frame, schema)
    assert set(anonymise_some(frame, schema, suppression_limit=0.1).table["sex"]) == {"M"}
    with pytest.raises(NotAnonymisable, match="no combination of levels"):
        anonymise_some(frame, schema, k=30, suppression_limit=1.0)  # An empty table is no release.


def test_a_patient_id_that_would_be_released_is_refused():
    with pytest.raises(SchemaError, match="would be released"):
        anonymise_some(schema=clinic(mrn={"role": "insensitive", "kind": "date"}))


def test_a_schema_without_quasi_identifiers_is_refused():
    schema = Schema.from_dict({"columns": {"g": {"role": "sensitive", "categories": ["x"]}}})
    with pytest.raises(SchemaError, match="no column is a quasi-identifier"):
        anonymise_some(pd.DataFrame({"g": ["x"] * 9}), schema)


def test_columns_the_schema_does_not_describe_are_refused():
    with pytest.raises(SchemaError, match=r"'notes'.*not in the schema"):
        anonymise_some(patients().assign(notes="met in Vienna"))
    with pytest.raises(SchemaError, match=r"'sex'.*missing from the table"):
        anonymise_some(patients().drop(columns="sex"))


def test_columns_may_be_named_by_numbers():
    schema = Schema.from_dict({"columns": {"0": {"role": "quasi-identifier", "categories": ["a", "b"]}}})
    assert anonymise_some(pd.DataFrame({0: ["a", "b"] * 5}), schema).table["0"].tolist().count("a") == 5


def test_rules_of_the_schema_are_checked_on_rows():
    schema = clinic()
    ruled = Schema.from_dict(schema.to_dict() | {"rules": [{"forbid": {"sex": "F", "genotype": "HbSC"}}]})
    with pytest.raises(SchemaError, match="forbidden by a rule"):
        anonymise_some(schema=ruled)


@pytest.mark.parametrize("column", ["age", "sex", "genotype"])
def test_no_error_names_a_patients_value(column):
    frame = patients()
    frame[column] = frame[column].astype(object)
    frame.iloc[7, frame.columns.get_loc(column)] = "Jane Doe 1234"
    with pytest.raises(SchemaError) as caught:
        anonymise_some(frame)
    assert caught.value.problems[0].column == column
    assert "Jane" not in str(caught.value)


def test_neither_rows_nor_counts_show_in_the_repr():
    result = anonymise_some(suppression_limit=0.2)
    text = repr(result)
    assert "HbS" not in text
    assert "suppressed" not in text
    assert "score" not in text


@pytest.mark.parametrize("limit", [-0.1, 1.1, float("nan"), True, "0.1", None])
def test_the_suppression_limit_is_a_share(limit):
    with pytest.raises(ValueError, match=r"suppression_limit must be in \[0, 1\]"):
        anonymise_some(suppression_limit=limit)


def test_unknown_qualities_and_empty_lists_of_models_are_refused():
    with pytest.raises(ValueError, match=r"quality must be one of average_class_size.*, got 'beauty'"):
        anonymise_some(quality="beauty")
    with pytest.raises(ValueError, match="models must name at least one"):
        anonymise(patients(), clinic(), models=[])


def test_a_lattice_of_any_size_is_searched_to_the_proof():
    # 7^10 = 282,475,249 combinations of levels.
    wide = {
        f"q{i}": {
            "role": "quasi-identifier",
            "kind": "integer",
            "bounds": [0, 63],
            "hierarchy": {"interval": [2, 4, 8, 16, 32]},
        }
        for i in range(10)
    }
    frame = pd.DataFrame(dict.fromkeys(wide, range(20)))
    result = anonymise_some(frame, Schema.from_dict({"columns": wide}))
    # Any two columns of a row tell the same: all must be as coarse, or "*".
    assert result.optimal
    assert result.gap == 0.0


def test_a_search_that_is_stopped_says_so_and_its_release_is_checked_as_any_other(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(lattice.time, "monotonic", lambda: float(next(ticks)))
    stopped = anonymise(patients(), clinic(), models=[KAnonymity(2)], time_limit=1.5, progress=None)
    monkeypatch.undo()
    whole = anonymise(patients(), clinic(), models=[KAnonymity(2)])
    assert whole.optimal
    assert not stopped.optimal
    assert stopped.gap > 0.0
    assert stopped.score - stopped.gap <= whole.score <= stopped.score
    assert assess_risk(stopped.table, clinic()).max_prosecutor_risk <= 0.5


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_time_limit_is_positive(seconds):
    with pytest.raises(ValueError, match="time_limit must be a number of seconds > 0"):
        anonymise(patients(), clinic(), models=[KAnonymity(2)], time_limit=seconds)


def test_days_and_continuous_values_are_released_as_periods_and_bins():
    schema = Schema.from_dict(
        {
            "columns": {
                "seen": {"role": "quasi-identifier", "kind": "date", "bounds": [2000, 2020], "nullable": True},
                "wbc": {"role": "quasi-identifier", "kind": "continuous", "bounds": [0, 500], "edges": [10, 50, 100]},
            }
        }
    )
    rng = np.random.default_rng(3)
    days = np.datetime64("2000-01-01") + rng.integers(0, 7000, 300)
    frame = pd.DataFrame({"seen": pd.to_datetime(days), "wbc": rng.gamma(0.5, 60.0, 300).clip(0, 500)})
    frame.loc[0, "seen"] = pd.NaT
    table = anonymise_some(frame, schema, suppression_limit=0.05).table
    assert set(table["wbc"]) <= {"0 to 10", "10 to 50", "50 to 100", "100 to 500", "*"}
    assert table["seen"].str.fullmatch(r"\d{4}(-\d{4}|-\d{2})?|\*").all()


def test_what_is_no_frame_is_refused():
    with pytest.raises(TypeError, match="must be a pandas DataFrame, got dict"):
        anonymise({"sex": ["F", "M"]}, clinic(), models=[KAnonymity(2)])
