"""Attacks in the words of WP29 on releases whose answer is known, against brute force, and under the null."""

from __future__ import annotations

import doctest
import json
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anonymise import (
    AttackableRelease,
    AttackFigure,
    KAnonymity,
    Schema,
    anonymise,
    assess_risk,
    measure_wp29,
    report_risk,
)
from anonymise.hierarchies import build_hierarchy
from anonymise.report import opinion, words
from anonymise.wp29.cells import Cells
from anonymise.wp29.matching import count_fitting, guess_right
from anonymise.wp29.regions import regions
from anonymise.wp29.results import judge, judge_isolation
from privacy import SchemaError
from privacy._rates import Rate, excess_risk
from privacy.schema import Column, HierarchySpec

DATA = Path(__file__).parent / "data"
PAGE = Path(__file__).parents[2] / "docs" / "anonymise" / "wp29.md"
N = 400
# Under the null an attack may be called an excess in 2.5 % of the runs; more than this many are refused at p = 1e-6.
N_RUNS, P = 200, 1e-6
MOST_FALSE_ALARMS = stats.binom.isf(P, N_RUNS, 0.025)
# A 95 % interval that covers in fewer runs than this is refused at p = 1e-6.
LEAST_COVERAGE = stats.binom.ppf(P, N_RUNS, 0.95)

SCHEMA = Schema.from_dict(
    {
        "columns": {
            "age": {
                "role": "quasi-identifier",
                "kind": "integer",
                "bounds": [0, 999],
                "hierarchy": {"interval": [10, 100]},
            },
            "code": {
                "role": "quasi-identifier",
                "kind": "integer",
                "bounds": [0, 999],
                "hierarchy": {"interval": [10]},
            },
            "secret": {"role": "sensitive", "categories": ["a", "b", "c", "d"]},
        }
    }
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def people(seed: int, n: int = N) -> pd.DataFrame:
    """Everybody has an age and a code of their own; secrets are independent of both."""
    draw = rng(seed)
    return pd.DataFrame(
        {
            "age": draw.permutation(999)[:n],
            "code": draw.permutation(999)[:n],
            "secret": draw.choice(list("abcd"), n),
        }
    )


def measured(raw, released, **options):
    found = measure_wp29(raw, released, SCHEMA, rng=rng(1), **options)
    return found, {attack.name: attack for attack in found.attacks}


# ---------------------------------------------------------------- closed forms


def test_a_release_of_the_raw_table_leaks_everything():
    raw = people(0)
    found, by_name = measured(raw, raw.sample(frac=1, random_state=1).reset_index(drop=True), holdout=people(1))
    for name in ("known columns", "two halves", "register", "secret"):
        assert by_name[name].success.value == 1.0
        assert by_name[name].excess.low > 0.9
        assert by_name[name].verdict == "poor"
    assert [found.verdict(c) for c in ("singling out", "linkability", "inference")] == ["poor"] * 3
    # Nobody else has both the age and the code of a released row.
    assert by_name["known columns"].control.value == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("holdout", [None, people(1)])
def test_a_release_of_nothing_leaves_guessing(holdout):
    raw = people(0)
    released = raw.assign(age="*", code="*")
    found, by_name = measured(raw, released, holdout=holdout)
    assert by_name["known columns"].success.successes == 0
    assert by_name["two halves"].success.value == pytest.approx(1 / N, abs=1e-12)
    assert by_name["register"].success.value == pytest.approx(1 / N, abs=1e-12)
    assert by_name["secret"].success.value == by_name["secret"].guess.value
    assert all(by_name[name].verdict == "good" for name in ("known columns", "two halves", "register"))
    # The guess is the commonest secret, for people of the table and for others.
    commonest = raw["secret"].value_counts()
    assert by_name["secret"].success.value == pytest.approx(commonest.iloc[0] / N)
    assert found.verdict("inference") != "poor"


def test_classes_of_one_secret_give_it_away_though_nobody_is_singled_out():
    raw = people(0).assign(age=np.arange(N) // 10 * 10, code=5, secret=np.array(list("abcd"))[np.arange(N) // 10 % 4])
    released = raw.assign(age=[f"[{a}, {a + 10})" for a in raw["age"]], code="*")
    found, by_name = measured(raw, released, holdout=people(1))
    assert by_name["known columns"].success.value == 0.0
    assert by_name["all columns"].success.value == 0.0
    assert by_name["secret"].success.value == 1.0
    assert by_name["secret"].excess.low > 0.9
    assert (found.verdict("singling out"), found.verdict("inference")) == ("good", "poor")
    # Ten in a class: a name leads to a row with probability 0.1, to the class always.
    assert by_name["register"].success.value == pytest.approx(0.1, abs=1e-12)
    assert found.verdict("linkability") == "fair"
    assert any("at most 10 released rows" in note for note in by_name["register"].notes)


@pytest.mark.parametrize("diversity", [2, 4])
def test_balanced_classes_of_l_secrets_give_one_in_l(diversity):
    raw = people(0).assign(age=np.arange(N) // 20 * 20, code=5, secret=np.array(list("abcd"))[np.arange(N) % diversity])
    released = raw.assign(age=[f"[{a}, {a + 20})" for a in raw["age"]], code="*")
    _, by_name = measured(raw, released)
    assert by_name["secret"].success.value == pytest.approx(1 / diversity, abs=1e-12)
    assert by_name["secret"].guess.value == pytest.approx(1 / diversity, abs=1e-12)


def test_two_halves_meet_with_the_probability_of_their_classes():
    raw = people(0).assign(age=np.arange(N) % 8 * 100, code=np.arange(N) // 200)
    _, by_name = measured(raw, raw)
    # 50 of each age, 200 of each code, 25 of both.
    assert by_name["two halves"].success.value == pytest.approx(25 / (50 * 200), abs=1e-12)
    assert by_name["two halves"].guess.value == pytest.approx(1 / N, abs=1e-12)


def test_adult_agrees_with_a_plain_count():
    schema = Schema.load(DATA / "adult.toml")
    schema = replace(
        schema, columns=tuple(replace(c, role="sensitive") if c.name == "occupation" else c for c in schema.columns)
    )
    raw = pd.read_csv(DATA / "adult.csv.gz", sep=";")
    qi = list(schema.quasi_identifiers)
    release = anonymise(raw, schema, models=[KAnonymity(5)], suppression_limit=0.02)
    found = measure_wp29(raw, release, schema, n_attacks=10**6, rng=rng())
    by_name = {attack.name: attack for attack in found.attacks}
    classes = Counter(release.table[qi].itertuples(index=False, name=None))
    # All of a released class give 1 together, and suppressed people nothing.
    assert by_name["register"].success.successes == pytest.approx(len(classes), rel=1e-9)
    assert by_name["known columns"].success.successes == 0
    secrets = Counter(release.table[[*qi, "occupation"]].itertuples(index=False, name=None))
    right = Counter()
    for (*of, _), count in secrets.items():
        right[tuple(of)] = max(right[tuple(of)], count)
    commonest = release.table["occupation"].value_counts()
    suppressed = raw["occupation"].value_counts().sub(commonest)
    # A guess takes each of equal modes with the same probability, so a class gives the count of one of them.
    expected = sum(right.values()) + suppressed[commonest.index[0]]
    assert by_name["occupation"].success.successes == pytest.approx(expected, rel=1e-9)
    unique = measure_wp29(raw, raw, schema, n_attacks=10**6, rng=rng()).of("singling out")[0]
    assert unique.success.value == pytest.approx(assess_risk(raw, schema).sample_uniqueness, rel=1e-12)


# ---------------------------------------------------------------- brute force


@st.composite
def tables(draw):
    """Cells of up to three columns, with labels that overlap, or not, or are values."""
    n_raw, n_released = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    seed = rng(draw(st.integers(0, 2**32)))
    cells = []
    for at in range(draw(st.integers(1, 3))):
        n_values, n_labels = int(seed.integers(1, 5)), int(seed.integers(1, 5))
        kind = draw(st.sampled_from(["overlapping", "groups", "values"]))
        covers = seed.random((n_labels, n_values)) < 0.6
        if kind == "groups":
            group = seed.integers(0, n_labels + 1, n_values)
            covers = np.arange(n_labels)[:, None] == group[None, :]
            label_of_value = group
        elif kind == "values":
            n_labels, covers, label_of_value = n_values, None, np.arange(n_values)
        else:
            label_of_value = None
        cells.append(
            Cells(
                name=str(at),
                labels=seed.integers(0, n_labels, n_released),
                values=seed.integers(0, n_values, n_raw),
                control=None,
                n_labels=n_labels,
                n_values=n_values,
                covers=covers,
                label_of_value=label_of_value,
            )
        )
    secret = Cells("s", seed.integers(0, 3, n_released), seed.integers(0, 3, n_raw), None, 3, 3, None, np.arange(3))
    return cells, secret


def fits(cells, row, person):
    return all(
        cell.labels[row] == cell.values[person]
        if cell.covers is None
        else cell.covers[cell.labels[row], cell.values[person]]
        for cell in cells
    )


@settings(max_examples=4 * settings.default.max_examples)
@given(tables())
def test_who_fits_whom_is_what_brute_force_finds(drawn):
    cells, secret = drawn
    labels, values = [cell.labels for cell in cells], [cell.values for cell in cells]
    fit = np.array([[fits(cells, r, p) for p in range(values[0].size)] for r in range(labels[0].size)])
    expected = []
    for person, truth in enumerate(secret.values):
        rows = fit[:, person] if fit[:, person].any() else np.ones(len(fit), dtype=bool)
        counts = np.bincount(secret.labels[rows], minlength=3)
        expected.append((counts[truth] == counts.max()) / (counts == counts.max()).sum())
    # The slow path, and the fast one where there is one.
    for some in (cells, [replace(cell, label_of_value=None) for cell in cells]):
        assert count_fitting(some, labels, values, labels_asked=True).tolist() == fit.sum(axis=1).tolist()
        assert count_fitting(some, values, labels, labels_asked=False).tolist() == fit.sum(axis=0).tolist()
        right, _ = guess_right(some, values, labels, secret, secret.values)
        assert right == pytest.approx(np.array(expected))


@pytest.mark.parametrize("algorithm", ["optimal", "local", "cell_suppression", "mondrian"])
def test_every_text_that_a_recoding_writes_stands_for_its_people(algorithm):
    schema = Schema.from_dict(
        {
            "columns": {
                "age": {
                    "role": "quasi-identifier",
                    "kind": "integer",
                    "bounds": [0, 110],
                    "hierarchy": {"interval": [5, 20], "bottom": 20, "top": 70},
                },
                "icd": {
                    "role": "quasi-identifier",
                    "categories": ["D57.0", "D57.1", "C92.0", "C92.1"],
                    "hierarchy": {"prefix": [3]},
                },
                "weight": {
                    "role": "quasi-identifier",
                    "kind": "continuous",
                    "bounds": [0, 120],
                    "hierarchy": {"interval": [10, 40]},
                    "nullable": True,
                },
                "day": {"role": "quasi-identifier", "kind": "date", "bounds": [2001, 2002]},
                "blood": {"role": "quasi-identifier", "categories": ["A", "B", "AB", "0"]},
            }
        }
    )
    draw, n = rng(4), 300
    raw = pd.DataFrame(
        {
            "age": draw.integers(0, 111, n),
            "icd": draw.choice(["D57.0", "D57.1", "C92.0", "C92.1"], n),
            "weight": np.where(draw.random(n) < 0.1, np.nan, draw.uniform(0, 120, n)),
            "day": pd.Timestamp("2001-01-01") + pd.to_timedelta(draw.integers(0, 365, n), "D"),
            "blood": draw.choice(["A", "B", "AB", "0"], n),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackableRelease)
        release = anonymise(raw, schema, models=[KAnonymity(4)], suppression_limit=0.1, algorithm=algorithm)
    found = measure_wp29(raw, release, schema, rng=rng())
    isolating = found.of("singling out")[0]
    # Whoever was in a class fits its text, so no row fits fewer than four people, and none fits nobody.
    assert (isolating.success.successes, isolating.verdict, isolating.notes) == (0, "good", ())
    cells = [Cells.generalised(schema.column(c), release.table[c], raw[c], None) for c in schema.names]
    labels, values = [cell.labels for cell in cells], [cell.values for cell in cells]
    assert count_fitting(cells, labels, values, labels_asked=True).min() >= 4
    kept = count_fitting(cells, values, labels, labels_asked=False) >= 4
    assert kept.sum() >= len(release.table)


def test_a_star_in_one_row_fits_everybody():
    raw = pd.DataFrame({"age": [1, 2, 3, 4], "code": [1, 1, 2, 2], "secret": list("abab")})
    released = pd.DataFrame({"age": ["1", "*", "3", "*"], "code": ["1", "1", "2", "*"], "secret": list("abab")})
    _, by_name = measured(raw, released)
    # Rows 1 and 3 describe one person each; row 2 two, row 4 all.
    assert by_name["known columns"].success.value == 0.5
    # Fitting rows of the four people: 1, 2, 4; 2, 4; 3, 4; 4.
    assert by_name["register"].success.value == pytest.approx((1 / 3 + 1 / 2 + 1 / 2 + 1) / 4)


# ---------------------------------------------------------------- statistics


@pytest.mark.slow
def test_a_release_of_other_people_is_no_excess_and_one_of_these_is():
    false_alarms, alarms = Counter(), Counter()
    for run in range(N_RUNS):
        pool = people(run, 900)
        pool["age"], pool["code"] = pool["age"] // 50 * 50, pool["code"] // 100 * 100
        raw, others, released = (pool.iloc[i * 300 : (i + 1) * 300].reset_index(drop=True) for i in range(3))
        for table, count in ((released, false_alarms), (raw, alarms)):
            found = measure_wp29(raw, table, SCHEMA, holdout=others, rng=rng(run))
            count.update(attack.name for attack in found.attacks if attack.control and attack.excess.low > 0)
    assert max(false_alarms.values(), default=0) <= MOST_FALSE_ALARMS
    # The negative control: the same runs on a release of these very people.
    assert alarms["secret"] > MOST_FALSE_ALARMS
    assert alarms["all columns"] > MOST_FALSE_ALARMS


@pytest.mark.slow
def test_a_sample_of_attacks_covers_what_all_of_them_find():
    raw = people(3, 900)
    raw["age"], raw["code"] = raw["age"] // 30 * 30, raw["code"] // 40 * 40
    truth = assess_risk(raw, SCHEMA).sample_uniqueness
    assert 0.2 < truth < 0.8
    rates = [
        measure_wp29(raw, raw, SCHEMA, n_attacks=150, secrets=[], rng=rng(run)).attacks[0].success
        for run in range(N_RUNS)
    ]
    assert sum(rate.low <= truth <= rate.high for rate in rates) >= LEAST_COVERAGE
    # The negative control: a rate that is off by 0.1.
    assert sum(rate.low <= truth + 0.1 <= rate.high for rate in rates) < LEAST_COVERAGE


# ---------------------------------------------------------------- words


def test_verdicts_follow_the_interval_and_nobody_isolated_is_a_low_risk():
    reference = Rate.of(0, 2000)
    for successes, verdict in [(0, "good"), (5, "good"), (120, "fair"), (190, "fair"), (300, "poor")]:
        rate = Rate.of(successes, 2000)
        assert judge(rate, excess_risk(rate, reference)) == verdict
    verdicts = [judge_isolation(Rate.of(n, 2000)) for n in (0, 1, 190, 300)]
    assert verdicts == ["good", "fair", "fair", "poor"]
    assert judge_isolation(Rate.of(0, 20)) == "fair"
    # Too few tries to exclude anything.
    rate = Rate.of(0, 20)
    assert judge(rate, excess_risk(rate, Rate.of(0, 20))) == "fair"
    assert judge(Rate.of(0, 0), excess_risk(Rate.of(0, 0), reference)) is None


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("*", 0, 9),
        ("[2, 5)", 2, 4),
        ("[2, 5]", 2, 5),
        ("3", 3, 3),
        ("3.0", 3, 3),
        ("2-4", 2, 4),
        ("<3", 0, 2),
        ("7+", 7, 9),
    ],
)
def test_runs_are_read_as_they_are_written(text, first, last):
    hierarchy = build_hierarchy(Column("age", kind="integer", bounds=(0, 9)))
    assert np.flatnonzero(regions([text], hierarchy)[0]).tolist() == list(range(first, last + 1))


def test_texts_are_read_by_the_hierarchy_first():
    weight = Column("w", kind="continuous", bounds=(0.0, 1.0), hierarchy=HierarchySpec("interval", steps=(0.25, 0.5)))
    read = regions(["[0, 0.25)", "[0.5, 1]", "0 to 0.5", "0.3"], build_hierarchy(weight))
    assert read.astype(int).tolist() == [[1, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 0]]
    day = Column("d", kind="date", bounds=(2001, 2001))
    read = regions(["2001-01-30 to 2001-02-02", "2001-02", ""], build_hierarchy(replace(day, nullable=True)))
    assert read.sum(axis=1).tolist() == [4, 28, 1]
    comma = build_hierarchy(Column("c", categories=("a", "a, b", "b")))
    assert regions(["{a, b, b}", "{a}"], comma).astype(int).tolist() == [[0, 1, 1], [1, 0, 0]]


def test_a_text_that_means_nothing_is_refused_without_being_shown():
    raw = people(0, 20)
    with pytest.raises(ValueError, match="column 'age'") as caught:
        measure_wp29(raw, raw.assign(age=["about 77"] * 20), SCHEMA)
    assert "77" not in str(caught.value)


def test_people_who_are_alone_are_isolated_even_if_others_would_be_by_chance():
    raw, others = (people(seed).assign(code=5) for seed in (0, 1))
    for frame in (raw, others):
        frame["age"] = frame["age"] * 2 // 5
    attack = measured(raw, raw, holdout=others)[0].of("singling out")[0]
    # About one person of each of 400 ages: the excess is small, the success is not.
    assert attack.success.value > 0.2
    assert attack.control.value > 0.2
    assert attack.excess.low < 0.1
    assert attack.verdict == "poor"


def test_values_that_were_changed_are_not_called_safe():
    raw = people(0)
    noisy = raw.assign(age=raw["age"].to_numpy()[::-1].copy())
    attack = measured(raw, noisy)[0].of("singling out")[0]
    assert attack.success.value < 0.05
    assert attack.verdict is None
    assert any("fit nobody" in note for note in attack.notes)


def test_bad_input_is_named():
    raw = people(0, 20)
    with pytest.raises(ValueError, match="n_attacks"):
        measure_wp29(raw, raw, SCHEMA, n_attacks=0)
    with pytest.raises(ValueError, match="the release has no rows"):
        measure_wp29(raw, raw.iloc[:0], SCHEMA)
    with pytest.raises(ValueError, match="holdout lacks column 'code'"):
        measure_wp29(raw, raw, SCHEMA, holdout=raw.drop(columns="code"))
    with pytest.raises(ValueError, match="known: column 'height'"):
        measure_wp29(raw, raw, SCHEMA, known=["height"])
    with pytest.raises(ValueError, match="secrets must not repeat 'age'"):
        measure_wp29(raw, raw, SCHEMA, secrets=["age"])
    with pytest.raises(ValueError, match="halves must not repeat 'age'"):
        measure_wp29(raw, raw, SCHEMA, halves=(["age"], ["age"]))
    with pytest.raises(ValueError, match="known must list at least one"):
        measure_wp29(raw, raw, SCHEMA, known=[])
    with pytest.raises(SchemaError, match="age"):
        measure_wp29(raw.assign(age=-1), raw.assign(age="*"), SCHEMA)
    visits = Schema.from_dict(
        {"table": {"patient_id": "pid"}, "columns": {"pid": {"role": "identifier"}, **SCHEMA.to_dict()["columns"]}}
    )
    twice = raw.assign(pid=np.arange(20) // 2)
    with pytest.raises(ValueError, match="several rows"):
        measure_wp29(twice, raw, visits)


def test_results_are_marked_internal_and_name_columns_only():
    raw = people(0)
    found, _ = measured(raw, raw.assign(age="*"), holdout=people(1))
    assert repr(found) == "Wp29Result(INTERNAL, known=('age', 'code'))"
    data = json.loads(found.to_json())
    assert data["audience"] == "INTERNAL"
    assert set(data["verdicts"]) == {"singling out", "linkability", "inference"}
    assert found.summary().count("\n") == 2
    assert "anonymous" not in found.to_json() + found.summary()


# ---------------------------------------------------------------- report


def test_the_report_shows_what_was_measured_beside_the_opinion():
    raw = people(0)
    release = anonymise(raw, SCHEMA, models=[KAnonymity(11)])
    found = measure_wp29(raw, release, SCHEMA, holdout=people(1), rng=rng())
    document = report_risk(raw, SCHEMA, released=release, models=[KAnonymity(11)], wp29=found)
    page = document.to_html()
    for text in (
        "Isolating by known",
        "Joining two",
        "Matching a register",
        "Guessing secret",
        "people not in the table",
        "table 6",
    ):
        assert text in page
    assert json.loads(document.to_json())["wp29"]["verdicts"] == {
        criterion: found.verdict(criterion) for criterion in ("singling out", "linkability", "inference")
    }
    rows = {row.name: row for row in opinion.techniques(document)}
    assert rows["Aggregation or k-anonymity"].still_a_risk == ("no", "yes", "yes")
    assert rows["Aggregation or k-anonymity"].models == ("KAnonymity(k=11)",)
    assert rows["l-diversity (and t-closeness)"].models == ()
    assert [answer.verdict for answer in words.answers(document)] == [
        str(found.verdict(criterion)) for criterion in ("singling out", "linkability", "inference")
    ]
    assert len(document.tried) == len(found.attacks)


def test_an_attack_that_failed_takes_nothing_back_of_a_count():
    raw = people(0, 30)
    failed = AttackFigure("singling out", "one that failed", 0.0, verdict="good")
    assert words.answers(report_risk(raw, SCHEMA, attacks=[failed]))[0].verdict == "poor"


def test_the_examples_of_the_page_run_and_its_table_is_the_reports():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted >= 14
    assert result.failed == 0
    text = PAGE.read_text(encoding="utf-8").lower()
    for row in opinion.techniques(report_risk(people(0, 30), SCHEMA)):
        assert f"| {row.name.partition(' (')[0].lower()} | {' | '.join(row.still_a_risk)} |" in text
