import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anonymise import KAnonymity, LDiversity, Schema, TCloseness, assess_risk
from anonymise.classes import Classes

# Li, Li, Venkatasubramanian 2007, tables 3 and 5: salaries of three classes of three.
SALARIES = pd.DataFrame(
    {"class": list("aaabbbccc"), "salary": [3, 4, 5, 6, 11, 8, 7, 9, 10], "disease": list("xyzuvwuvw")}
)


def level_of(frame, name="s", **kwargs):
    (row,) = assess_risk(frame, quasi_identifiers=["class"], sensitive=[name], **kwargs).sensitive
    return row


def test_salaries_have_the_distances_of_the_paper():
    assert level_of(SALARIES, "salary").t_ordered == pytest.approx(0.375, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=40))
def test_levels_are_those_of_counting_class_by_class(rows):
    frame = pd.DataFrame(rows, columns=["class", "s"])
    values = sorted(frame["s"].unique())
    q = np.array([(frame["s"] == v).mean() for v in values])
    distinct, entropy, ratio, equal, ordered = [], [], [], [], []
    for _, group in frame.groupby("class"):
        p = np.array([(group["s"] == v).mean() for v in values])
        count = sorted(group["s"].value_counts(), reverse=True)
        distinct.append(len(count))
        entropy.append(math.exp(-sum(x * math.log(x) for x in p if x)))
        ratio.append(count[0] / sum(count[1:]) if len(count) > 1 else math.inf)
        equal.append(np.abs(p - q).sum() / 2)
        ordered.append(np.abs(np.cumsum(p - q)).sum() / max(len(values) - 1, 1))
    got = level_of(frame)
    assert got.distinct_l == min(distinct)
    assert got.entropy_l == pytest.approx(min(entropy), rel=1e-12)
    assert got.recursive_c == pytest.approx(max(ratio), rel=1e-12)
    assert got.worst_guess == max(group["s"].value_counts(normalize=True).max() for _, group in frame.groupby("class"))
    assert got.overall_guess == q.max()
    assert got.t_equal == pytest.approx(max(equal), abs=1e-12)
    assert got.t_ordered == pytest.approx(max(ordered), abs=1e-12)


def test_a_thousand_values_are_counted_alike():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"class": rng.integers(0, 40, 3000), "s": rng.integers(0, 100_000, 3000)})
    got = level_of(frame)
    q = frame["s"].rank(method="dense").to_numpy(dtype=int) - 1
    m = q.max() + 1
    overall = np.cumsum(np.bincount(q, minlength=m) / 3000)
    worst = max(
        np.abs(
            np.cumsum(np.bincount(q[frame["class"] == c], minlength=m) / (frame["class"] == c).sum()) - overall
        ).sum()
        / (m - 1)
        for c in range(40)
    )
    assert got.t_ordered == pytest.approx(worst, abs=1e-12)


def test_the_schema_gives_the_order_and_says_where_there_is_none():
    frame = pd.DataFrame({"class": ["a", "a", "b", "b"], "s": ["low", "high", "mid", "low"], "n": [1, 2, 3, 4]})
    base = {"class": {"role": "quasi-identifier", "categories": ["a", "b"]}, "n": {"kind": "integer", "bounds": [0, 9]}}
    grades = {"role": "sensitive", "kind": "ordinal", "categories": ["low", "mid", "high"]}
    schema = Schema.from_dict({"columns": base | {"s": grades}})
    # P of "a" is 1/2, 1/2, 1; Q is 1/2, 3/4, 1.
    assert assess_risk(frame, schema).sensitive[0].t_ordered == pytest.approx(0.25 / 2)
    nominal = Schema.from_dict({"columns": base | {"s": grades | {"kind": "categorical"}}})
    assert assess_risk(frame, nominal).sensitive[0].t_ordered is None
    assert level_of(frame, "s").t_ordered is None
    assert level_of(frame.assign(s=["a", None, "b", "c"]), "s").distinct_l == 2


def test_the_text_names_what_holds_and_what_fails():
    report = assess_risk(
        SALARIES, quasi_identifiers=["class"], sensitive=["disease"], models=[KAnonymity(3), KAnonymity(4)]
    )
    assert [(check.model, check.holds, check.share_failing) for check in report.models] == [
        ("KAnonymity(k=3)", True, 0.0),
        ("KAnonymity(k=4)", False, 1.0),
    ]
    assert "KAnonymity(k=4)" in str(report)
    assert "fails for 100.00%" in str(report)
    assert "disease" in str(report)


class TwoOf:
    """A model of a sensitive column for these tests: every class has two different values."""

    attribute = "s"
    needs_population = False
    downward_closed = True
    monotone = True
    least_rows = 2

    def class_fails(self, classes: Classes):
        return (classes.counts("s") > 0).sum(axis=1) < 2

    def least_lost(self, classes: Classes):
        return classes.sizes

    def __repr__(self):
        return "TwoOf('s')"


def test_models_of_a_sensitive_column_are_asked_in_blocks(monkeypatch):
    frame = pd.DataFrame({"class": list("aabbccc"), "s": list("xyxxxyx")})
    columns = {
        "class": {"role": "quasi-identifier", "categories": list("abc")},
        "s": {"role": "sensitive", "categories": list("xy")},
    }
    schema = Schema.from_dict({"columns": columns})
    for cells in (4_000_000, 2):
        monkeypatch.setattr("anonymise.risk.model_checks._CELLS", cells)
        (check,) = assess_risk(frame, schema, models=[TwoOf()]).models
        assert (check.holds, check.share_failing) == (False, 2 / 7)
    with pytest.raises(ValueError, match="needs a schema"):
        assess_risk(frame, quasi_identifiers=["class"], models=[TwoOf()])


class TwoPeople(TwoOf):
    attribute = None
    needs_population = True

    def class_fails(self, classes: Classes):
        return classes.population() < 2


def test_models_of_a_population_see_its_counts():
    frame = pd.DataFrame({"class": list("aab")})
    ask = {"quasi_identifiers": ["class"], "models": [TwoPeople()]}
    got = assess_risk(frame, **ask, population=pd.DataFrame({"class": list("aabbbc")}))
    assert got.models[0].holds
    got = assess_risk(frame, **ask, population=pd.DataFrame({"class": list("aab")}))
    assert got.models[0].share_failing == 1 / 3
    with pytest.raises(ValueError, match="give population"):
        assess_risk(frame, **ask)


def test_numbers_are_counted_in_the_bins_of_the_schema():
    frame = pd.DataFrame({"class": list("aaab"), "s": [1.25, 1.5, 7.0, 60.0]})
    lab = {"role": "sensitive", "kind": "continuous", "bounds": [0, 100], "edges": [5, 50]}
    base = {"class": {"role": "quasi-identifier", "categories": ["a", "b"]}}
    (got,) = assess_risk(frame, Schema.from_dict({"columns": base | {"s": lab}})).sensitive
    assert (got.distinct_l, got.worst_guess, got.overall_guess) == (1, 1.0, 0.5)
    assert assess_risk(frame[:3], Schema.from_dict({"columns": base | {"s": lab}})).sensitive[0].distinct_l == 2
    # Without edges there is one bin, which would tell nothing: then each number counts.
    one = {key: value for key, value in lab.items() if key != "edges"}
    assert assess_risk(frame[:3], Schema.from_dict({"columns": base | {"s": one}})).sensitive[0].distinct_l == 3
    # A table whose column was generalised has other values than the schema lists.
    text = frame.assign(s=["low", "low", "high", "low"])
    assert assess_risk(text[:3], Schema.from_dict({"columns": base | {"s": lab}})).sensitive[0].distinct_l == 2


@pytest.mark.parametrize("values", [pd.to_datetime(["2001-01-01", "2003-01-01", "2002-01-01"]), ["10", "9.5", "100"]])
def test_days_and_numbers_as_text_have_an_order(values):
    frame = pd.DataFrame({"class": list("abc"), "s": values})
    assert level_of(frame).t_ordered == pytest.approx(
        0.5
    )  # The middle one: (1/3 + 1/3) / 2; an outer one: (2/3 + 1/3) / 2.


LEVELS_SCHEMA = Schema.from_dict(
    {
        "columns": {
            "class": {"role": "quasi-identifier", "categories": list("abc")},
            "s": {"role": "sensitive", "kind": "ordinal", "categories": list("uvwxyz")},
        }
    }
)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxz")), min_size=2, max_size=30),
    st.integers(2, 4),
    st.floats(0.05, 0.95),
)
def test_a_model_holds_exactly_where_its_level_is_reached(rows, l_wanted, t):
    frame = pd.DataFrame(rows, columns=["class", "s"])
    models = [
        KAnonymity(l_wanted),
        LDiversity(l_wanted, attribute="s"),
        LDiversity(l_wanted - 0.5, attribute="s", kind="entropy"),
        LDiversity(2, attribute="s", kind="recursive", c=1.17),
        TCloseness(t, attribute="s"),
        TCloseness(t, attribute="s", distance="ordered"),
    ]
    report = assess_risk(frame, LEVELS_SCHEMA, models=models)
    (got,) = report.sensitive
    # A model compares in whole numbers; the level is a float, which may miss a t that is reached exactly by one digit.
    assume(min(abs(got.t_equal - t), abs(got.t_ordered - t)) > 1e-12)
    assert [check.holds for check in report.models] == [
        report.smallest_class >= l_wanted,
        got.distinct_l >= l_wanted,
        got.entropy_l >= l_wanted - 0.5,
        got.recursive_c < 1.17,
        got.t_equal <= t,
        got.t_ordered <= t,
    ]
