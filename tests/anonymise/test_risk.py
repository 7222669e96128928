import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise import Schema, assess_risk
from anonymise.risk import RISK_THRESHOLDS


def seven():
    """Seven rows in three classes, of 3, 2 and 2: risk 3/7 in the mean."""
    return pd.DataFrame({"age": [30, 30, 30, 40, 40, 40, 40], "sex": list("FFFFFMM"), "lab": np.arange(7) / 10})


def test_seven_rows_in_three_classes():
    report = assess_risk(seven(), quasi_identifiers=["age", "sex"])
    assert report.average_prosecutor_risk == report.marketer_risk == 3 / 7
    assert report.max_prosecutor_risk == 1 / 2
    assert report.sample_uniqueness == 0.0
    assert report.class_sizes == ((2, 2), (3, 1))
    assert dict(report.share_above) == {0.05: 1.0, 0.09: 1.0, 0.2: 1.0, 0.33: 4 / 7}


def test_columns_nobody_listed_are_reported_by_themselves():
    lab = assess_risk(seven(), quasi_identifiers=["age"]).columns[2]
    assert (lab.name, lab.quasi_identifier, lab.n_distinct, lab.uniqueness) == ("lab", False, 7, 1.0)


def test_the_schema_names_the_quasi_identifiers():
    schema = Schema.from_dict(
        {
            "columns": {
                "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99]},
                "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
                "lab": {"kind": "continuous", "bounds": [0, 1]},
            }
        }
    )
    assert assess_risk(seven(), schema) == assess_risk(seven(), quasi_identifiers=["age", "sex"])


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, "", "  "])
def test_missing_values_are_a_value_of_their_own_and_rows_never_vanish(missing):
    frame = pd.DataFrame({"a": pd.Series(["x", "x", missing, missing, "x"], dtype=object)})
    report = assess_risk(frame, quasi_identifiers=["a"])
    assert (report.n_records, report.class_sizes) == (5, ((2, 1), (3, 1)))
    # The trap: pandas drops these rows by default, and the smallest class seems to have 3.
    if pd.isna(missing):
        assert frame.groupby("a").size().sum() == 3


def test_different_kinds_of_missing_are_one_value():
    frame = pd.DataFrame({"a": pd.Series([None, float("nan"), pd.NA, pd.NaT, "", "x"], dtype=object)})
    assert assess_risk(frame, quasi_identifiers=["a"]).class_sizes == ((1, 1), (5, 1))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["F", "M", None])), min_size=1, max_size=60))
def test_risks_are_those_of_pandas_group_sizes(rows):
    frame = pd.DataFrame(rows, columns=["n", "sex"])
    report = assess_risk(frame, quasi_identifiers=["n", "sex"])
    size = frame.fillna({"sex": "?"}).groupby(["n", "sex"])["n"].transform("size")
    assert report.average_prosecutor_risk == pytest.approx((1 / size).mean(), rel=1e-12)
    assert report.max_prosecutor_risk == pytest.approx((1 / size).max(), rel=1e-12)
    assert report.sample_uniqueness == pytest.approx((size == 1).mean(), rel=1e-12)
    assert dict(report.share_above) == {level: pytest.approx((size < k).mean()) for level, k in RISK_THRESHOLDS}


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=40))
def test_knowing_more_columns_never_lowers_a_risk(rows):
    frame = pd.DataFrame(rows, columns=list("abc"))
    fewer, more = (assess_risk(frame, quasi_identifiers=names) for names in (["a", "b"], ["a", "b", "c"]))
    assert fewer.average_prosecutor_risk <= more.average_prosecutor_risk
    assert fewer.max_prosecutor_risk <= more.max_prosecutor_risk
    assert fewer.sample_uniqueness <= more.sample_uniqueness


def test_the_json_is_marked_internal_and_complete():
    report = assess_risk(seven(), quasi_identifiers=["age", "sex"])
    data = json.loads(report.to_json())
    assert data["audience"] == "INTERNAL"
    assert data["n_classes"] == 3
    assert data["columns"][0] == {"name": "age", "quasi_identifier": True, "n_distinct": 2, "uniqueness": 0.0}


def test_the_text_is_for_the_site_and_the_repr_for_logs():
    report = assess_risk(seven(), quasi_identifiers=["age", "sex"])
    assert "INTERNAL" in str(report).splitlines()[0]
    assert "records, classes         7, 3" in str(report)
    assert repr(report) == "RiskReport(INTERNAL, quasi_identifiers=('age', 'sex'))"


@pytest.mark.parametrize(
    ("frame", "names", "rule"),
    [
        (seven(), [], "at least one"),
        (seven(), None, "at least one"),
        (seven(), "age", "at least one"),
        (seven(), ["age", "age"], "each column once"),
        (seven(), ["weight"], "exactly once"),
        (seven().iloc[:0], ["age"], "no rows"),
        (pd.concat([seven(), seven()[["age"]]], axis=1), ["age"], "exactly once"),
    ],
)
def test_what_cannot_be_assessed_is_refused(frame, names, rule):
    with pytest.raises(ValueError, match=rule):
        assess_risk(frame, quasi_identifiers=names)


@given(st.lists(st.integers(1, 130), min_size=1, max_size=8), st.floats(0.005, 1.0))
def test_the_distribution_counts_people_by_the_size_of_their_class(sizes, threshold):
    frame = pd.DataFrame({"a": np.repeat(np.arange(len(sizes)), sizes)})
    report = assess_risk(frame, quasi_identifiers=["a"], threshold=threshold)
    n = sum(sizes)
    assert sum(group.share for group in report.distribution) == pytest.approx(1.0)
    for group in report.distribution:
        inside = [size for size in sizes if group.least <= size and (group.most is None or size <= group.most)]
        assert group.share == sum(inside) / n
    assert report.smallest_class == min(sizes)
    assert report.share_at_risk == sum(size for size in sizes if 1 / size > threshold * (1 + 1e-9)) / n


def test_009_means_eleven():
    frame = pd.DataFrame({"a": [0] * 11})
    assert assess_risk(frame, quasi_identifiers=["a"]).share_at_risk == 0.0
    assert assess_risk(frame[:10], quasi_identifiers=["a"]).share_at_risk == 1.0


@pytest.mark.parametrize(
    ("argument", "value"), [("threshold", 0.0), ("threshold", 1.5), ("missing", "drop"), ("sensitive", "lab")]
)
def test_arguments_out_of_range_are_refused(argument, value):
    with pytest.raises(ValueError, match=argument):
        assess_risk(seven(), quasi_identifiers=["age"], **{argument: value})


def test_json_has_no_infinity():
    frame = pd.DataFrame({"a": [1, 1, 2], "s": ["x", "x", "y"]})
    report = assess_risk(frame, quasi_identifiers=["a"], sensitive=["s"], population_size=9)
    data = json.loads(report.to_json())
    assert data["sensitive"][0]["recursive_c"] is None
    assert data["population_uniqueness"]["estimator"] == "zayatz"
