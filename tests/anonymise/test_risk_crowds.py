import math
from fractions import Fraction

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise import KAnonymity, LDiversity, Schema, anonymise, assess_risk
from anonymise.risk import wildcards
from anonymise.risk.journalist import expected_risk

CELL = st.sampled_from(["a", "b", "c", "*", None, " "])
ROWS = st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[CELL] * width), min_size=1, max_size=30))


def frame_of(rows):
    return pd.DataFrame(rows, columns=list("wxyz")[: len(rows[0])], dtype=object)


def says_nothing(cell):
    return cell is None or not cell.strip() or cell == "*"


def agree(row, other):
    return all(a == b or says_nothing(a) or says_nothing(b) for a, b in zip(row, other, strict=True))


# ---------------------------------------------------------------- wildcards


@given(ROWS, st.booleans())
def test_wildcard_crowds_are_those_of_comparing_each_row_with_each(rows, by_joins):
    crowd = [sum(agree(row, other) for other in rows) for row in rows]
    cost = wildcards._JOIN
    wildcards._JOIN = 0 if by_joins else 1 << 40
    try:
        report = assess_risk(frame_of(rows), quasi_identifiers=list("wxyz")[: len(rows[0])], missing="wildcard")
    finally:
        wildcards._JOIN = cost
    assert report.smallest_class == min(crowd)
    assert report.max_prosecutor_risk == 1 / min(crowd)
    assert report.average_prosecutor_risk == pytest.approx(sum(Fraction(1, c) for c in crowd) / len(crowd), rel=1e-12)
    assert report.sample_uniqueness == crowd.count(1) / len(crowd)
    assert dict(report.share_above)[0.33] == sum(c < 3 for c in crowd) / len(crowd)


@given(ROWS)
def test_a_wildcard_never_makes_a_crowd_smaller(rows):
    names = list("wxyz")[: len(rows[0])]
    own, wild = (assess_risk(frame_of(rows), quasi_identifiers=names, missing=m) for m in ("own_value", "wildcard"))
    assert wild.average_prosecutor_risk <= own.average_prosecutor_risk
    assert wild.smallest_class >= own.smallest_class


def test_crowds_compared_in_blocks_are_the_same(monkeypatch):
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 4, (3, 200)).astype(np.int32)
    wild = rng.random((3, 200)) < 0.3
    counts = rng.integers(1, 9, 200)
    by_joins = wildcards.crowds(codes, wild, codes, wild, counts, [4, 4, 4])
    monkeypatch.setattr(wildcards, "_JOIN", 1 << 40)
    monkeypatch.setattr(wildcards, "_CELLS", 700)
    np.testing.assert_array_equal(by_joins, wildcards.crowds(codes, wild, codes, wild, counts, [4, 4, 4]))


def test_a_star_is_a_value_like_others_unless_wildcards_are_asked_for():
    frame = pd.DataFrame({"age": ["30", "30", "*"]})
    assert assess_risk(frame, quasi_identifiers=["age"]).class_sizes == ((1, 1), (2, 1))
    assert assess_risk(frame, quasi_identifiers=["age"], missing="wildcard").smallest_class == 3


def test_a_schema_says_which_columns_have_wildcards_and_a_release_is_counted_as_it_was_made():
    columns = {
        "age": {
            "role": "quasi-identifier",
            "kind": "integer",
            "bounds": [0, 99],
            "nullable": True,
            "missing": "wildcard",
            "hierarchy": {"interval": [10]},
        },
        "sex": {"role": "quasi-identifier", "categories": ["F", "M"], "nullable": True},
    }
    schema = Schema.from_dict({"columns": columns})
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.integers(20, 50, 60).astype(float), "sex": rng.choice(["F", "M"], 60)})
    frame.loc[::9, "age"] = np.nan
    released = anonymise(frame, schema, models=[KAnonymity(4)], suppression_limit=0.2).table
    assert "missing" in set(released["age"])
    rows = [tuple(row) for row in released.astype(object).to_numpy()]

    def alike(row, other):
        return row[1] == other[1] and (row[0] == other[0] or "missing" in (row[0], other[0]))

    report = assess_risk(released, schema, models=[KAnonymity(4)])
    assert report.missing == "wildcard"
    assert report.smallest_class == min(sum(alike(row, other) for other in rows) for row in rows)
    assert report.models[0].holds
    # Its sex is no wildcard, whatever its age.
    one = pd.DataFrame({"age": [30, None, 30], "sex": ["F", "F", None]})
    assert assess_risk(one, schema).class_sizes == ((1, 1), (2, 2))
    assert assess_risk(one, schema, missing="own_value").smallest_class == 1
    assert assess_risk(one, schema, missing="wildcard").smallest_class == 3


# ---------------------------------------------------------------- a population table


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("FM")), min_size=1, max_size=40), st.data())
def test_journalist_and_marketer_risks_count_the_population(people, data):
    chosen = data.draw(st.lists(st.integers(0, len(people) - 1), min_size=1, unique=True))
    rows = [people[i] for i in chosen]
    report = assess_risk(
        pd.DataFrame(rows, columns=["n", "sex"]),
        quasi_identifiers=["n", "sex"],
        # The population's numbers come as text: what reads alike is alike.
        population=pd.DataFrame([(str(n), sex) for n, sex in people], columns=["n", "sex"]),
    )
    crowd = [people.count(row) for row in rows]
    got = report.journalist
    assert got.source == "population table"
    assert (got.smallest_crowd, got.highest) == (min(crowd), 1 / min(crowd))
    assert got.average == pytest.approx(sum(1 / c for c in crowd) / len(crowd), rel=1e-12)
    assert got.share_above == sum(c < 11 for c in crowd) / len(crowd)
    assert got.share_not_covered == 0.0
    assert got.average <= report.average_prosecutor_risk + 1e-12


@given(ROWS, st.data())
def test_wildcards_agree_with_the_population_too(rows, data):
    people = data.draw(st.lists(st.tuples(*[CELL] * len(rows[0])), min_size=1, max_size=20)) + rows
    names = list("wxyz")[: len(rows[0])]
    report = assess_risk(frame_of(rows), quasi_identifiers=names, population=frame_of(people), missing="wildcard")
    assert report.journalist.smallest_crowd == min(sum(agree(row, other) for other in people) for row in rows)


def test_a_population_that_lacks_somebody_lowers_no_risk_and_is_reported():
    frame = pd.DataFrame({"a": ["x", "x", "y"]})
    got = assess_risk(frame, quasi_identifiers=["a"], population=pd.DataFrame({"a": ["x", "y", "y", "z"]})).journalist
    assert (got.smallest_crowd, got.share_not_covered) == (2, 2 / 3)
    with pytest.raises(ValueError, match="column 'a' must appear exactly once in the population"):
        assess_risk(frame, quasi_identifiers=["a"], population=pd.DataFrame({"b": ["x"]}))


# ---------------------------------------------------------------- the size of the population


@pytest.mark.parametrize("fraction", [1e-6, 0.03, 0.19, 0.2, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("size", [1, 2, 7, 29, 31, 32, 500])
def test_the_estimated_risk_is_the_integral(fraction, size):
    p = mpmath.mpf(fraction)
    exact = mpmath.quad(lambda s: s ** (size - 1) * p / (p + (1 - p) * s), [0, min(fraction, 0.5), 0.9, 1])
    assert expected_risk(np.array([size]), fraction)[0] == pytest.approx(float(exact), rel=1e-9)


def test_the_estimated_risk_is_the_mean_over_samples_of_a_population():
    # A class of F people whose sizes spread as the estimate assumes (flat in log F), each in the table with p = 0.3.
    rng, p, n_classes, tolerance = np.random.default_rng(3), 0.3, 400_000, 0.02
    population = np.round(np.exp(rng.uniform(np.log(0.5), np.log(3000.5), n_classes))).astype(int)
    sample = rng.binomial(population, p)
    for size in (5, 8):
        true = (1 / population[sample == size]).mean()
        assert expected_risk(np.array([size]), p)[0] == pytest.approx(true, rel=tolerance)
        # The controls: 1 / f, and p / f, which a reader might take instead.
        assert abs(1 / size - true) > 10 * tolerance * true
        assert abs(p / size - true) > 2 * tolerance * true


def test_a_size_alone_gives_estimates_and_says_so():
    frame = pd.DataFrame({"a": list("wwwwxxyz")})
    report = assess_risk(frame, quasi_identifiers=["a"], population_size=80)
    assert report.journalist.source == "population size"
    assert report.journalist.highest == pytest.approx(0.1 / 0.9 * math.log(10))
    assert report.population_uniqueness.estimator == "zayatz"
    everybody = assess_risk(frame, quasi_identifiers=["a"], population_size=8)
    assert everybody.journalist.average == pytest.approx(everybody.average_prosecutor_risk)
    assert everybody.population_uniqueness.value == everybody.sample_uniqueness
    with pytest.raises(ValueError, match="population_size must"):
        assess_risk(frame, quasi_identifiers=["a"], population_size=7)


def test_where_one_can_stand_in_several_classes_there_is_no_estimate():
    frame = pd.DataFrame({"a": ["x", None, "y"]})
    got = assess_risk(frame, quasi_identifiers=["a"], population_size=80, missing="wildcard").population_uniqueness
    assert (got.value, got.converged) == (None, False)


# ---------------------------------------------------------------- patients, not rows

VISITS = Schema.from_dict(
    {
        "table": {"name": "visits", "patient_id": "pid"},
        "columns": {
            "pid": {"role": "identifier"},
            "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99]},
            "ward": {"role": "quasi-identifier", "categories": ["A", "B", "C"]},
        },
    }
)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(30, 31), st.sampled_from("AB")), min_size=1, max_size=30))
def test_patients_are_in_one_class_if_all_their_rows_are_equal(rows):
    frame = pd.DataFrame(rows, columns=["pid", "age", "ward"])
    report = assess_risk(frame, VISITS, models=[KAnonymity(2)], population_size=1000)
    history = {}
    for pid, *rest in rows:
        history.setdefault(pid, []).append(tuple(rest))
    known = [tuple(sorted(visits)) for visits in history.values()]
    crowd = [known.count(visits) for visits in known]
    assert (report.unit, report.n_people, report.n_records) == ("patient", len(known), len(rows))
    assert (report.smallest_class, report.n_classes) == (min(crowd), len(set(known)))
    assert report.average_prosecutor_risk == pytest.approx(np.mean([1 / size for size in crowd]), rel=1e-12)
    assert report.sample_uniqueness == crowd.count(1) / len(crowd)
    assert report.models[0].share_failing == crowd.count(1) / len(crowd)
    assert report.population_uniqueness.value is not None
    # Whoever knows all rows of a patient finds at most as many candidates as whoever knows one.
    single = {visit: len({pid for pid, visits in history.items() if visit in visits}) for v in known for visit in v}
    assert report.smallest_class <= min(single.values())


def test_many_visits_of_one_patient_are_no_crowd():
    frame = pd.DataFrame({"pid": [7] * 20, "age": 40, "ward": "A"})
    assert assess_risk(frame, VISITS).smallest_class == 1
    # The negative control: counting rows would have seen twenty people.
    assert assess_risk(frame, quasi_identifiers=["age", "ward"]).smallest_class == 20


def test_a_table_without_the_id_is_counted_by_rows():
    frame = pd.DataFrame({"age": [40, 40], "ward": ["A", "A"]})
    assert (assess_risk(frame, VISITS).unit, assess_risk(frame, VISITS).smallest_class) == ("row", 2)


def test_what_has_no_meaning_over_several_rows_is_refused():
    frame = pd.DataFrame({"pid": [1, 1, 2], "age": [40, 41, 40], "ward": ["A", "A", "A"]})
    with pytest.raises(ValueError, match="missing='wildcard' needs one row a patient"):
        assess_risk(frame, VISITS, missing="wildcard")
    with pytest.raises(ValueError, match="population needs one row a patient"):
        assess_risk(frame, VISITS, population=frame)
    with pytest.raises(ValueError, match="'pid' is the patient's id"):
        assess_risk(frame.assign(pid=[1, None, 2]), VISITS)
    one = frame.assign(pid=[1, 3, 2], age=[40, None, 41])
    assert assess_risk(one, VISITS, missing="wildcard").smallest_class == 2
    assert assess_risk(one, VISITS, population=one).journalist.smallest_crowd == 1


def test_a_sensitive_column_needs_one_value_a_patient():
    columns = {
        "pid": {"role": "identifier"},
        "ward": {"role": "quasi-identifier", "categories": ["A", "B"]},
        "genotype": {"role": "sensitive", "categories": ["HbSS", "HbSC"]},
        "pain": {"role": "sensitive", "categories": ["yes", "no"]},
    }
    schema = Schema.from_dict({"table": {"patient_id": "pid"}, "columns": columns})
    frame = pd.DataFrame(
        {
            "pid": [1, 1, 1, 2, 2, 2],
            "ward": ["A"] * 6,
            "genotype": ["HbSS"] * 3 + ["HbSC"] * 3,
            "pain": ["yes", "no"] * 3,
        }
    )
    report = assess_risk(frame, schema, models=[LDiversity(2, attribute="genotype")])
    assert [(row.name, row.distinct_l, row.worst_guess) for row in report.sensitive] == [("genotype", 2, 0.5)]
    assert report.not_counted == ("pain",)
    assert "not counted: pain" in str(report)
    assert report.models[0].holds
    with pytest.raises(ValueError, match="'pain' needs one value a patient"):
        assess_risk(frame, schema, models=[LDiversity(2, attribute="pain")])
