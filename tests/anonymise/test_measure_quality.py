import itertools
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise import KAnonymity, Schema, anonymise, build_hierarchy, encode_table
from anonymise.checking import failing_tuples
from anonymise.class_search import NodeView, problem_of
from anonymise.quality import QUALITIES, measure_quality
from anonymise.quality.prediction import leave_one_out_accuracy, majority_accuracy
from anonymise.quality.texts import Texts
from privacy.schema import Column

ANSWERS = ["yes", "no", "maybe"]


@st.composite
def raw_tables(draw):
    """A schema of one to three columns with random trees, and some rows."""
    columns = {"answer": {"role": "sensitive", "categories": ANSWERS}}
    for name in "abc"[: draw(st.integers(1, 3))]:
        n_leaves = draw(st.integers(2, 5))
        levels = [list(range(n_leaves))]
        for _ in range(draw(st.integers(1, 2))):
            merged = draw(st.lists(st.integers(0, 2), min_size=5, max_size=5))
            levels.append([merged[group] for group in levels[-1]])
        rows = [[f"{at}:{level[leaf]}" for at, level in enumerate(levels)] + ["*"] for leaf in range(n_leaves)]
        columns[name] = {
            "role": "quasi-identifier",
            "categories": [row[0] for row in rows],
            "hierarchy": {"rows": rows},
        }
    schema = Schema.from_dict({"columns": columns})
    row = st.tuples(*(st.sampled_from(schema.column(name).categories) for name in schema.names))
    rows = draw(st.lists(row, min_size=2, max_size=14))
    return schema, pd.DataFrame(rows, columns=list(schema.names))


def released_at(schema, raw, hierarchies, data, node, k):
    kept = ~failing_tuples(data, [KAnonymity(k)], node)[data.row_tuple]
    table = {
        h.name: np.array(h.labels[level], dtype=object)[h.codes[level][leaves[data.row_tuple[kept]]]]
        for h, level, leaves in zip(hierarchies, node, data.leaves, strict=True)
    }
    return pd.DataFrame({**table, "answer": raw["answer"].to_numpy()[kept]})[list(schema.names)]


@given(raw_tables(), st.integers(2, 3), st.randoms(use_true_random=False))
def test_a_full_domain_release_measures_what_the_search_scores(table, k, random):
    schema, raw = table
    hierarchies = [build_hierarchy(schema.column(name)) for name in schema.quasi_identifiers]
    answer = build_hierarchy(schema.column("answer"))
    data = encode_table(
        [raw[name] for name in schema.quasi_identifiers], hierarchies, sensitive={"answer": [(raw["answer"], answer)]}
    )
    problem = problem_of(data, [KAnonymity(k)], max_suppressed=len(raw), target=data.attributes["answer"])
    view = NodeView(data, [KAnonymity(k)], len(raw))
    nodes = list(itertools.product(*(range(h.n_levels) for h in hierarchies)))
    for node in random.sample(nodes, min(4, len(nodes))):
        released = released_at(schema, raw, hierarchies, data, node, k)
        if released.empty:
            continue
        measured = measure_quality(raw, released.sample(frac=1.0, random_state=1), schema)
        for name, entry in QUALITIES.items():
            score = entry.build(problem).score(view.classes(node)[0])
            key = "classification:answer" if name == "classification" else name
            if name == "precision" and any(len(set(h.labels)) < h.n_levels for h in hierarchies):
                continue  # A level that is written like the one below it cannot be told from it.
            assert measured[key].value == pytest.approx(score, rel=1e-9, abs=1e-9), (name, node)


def numbers(n_leaves):
    return build_hierarchy(Column("age", kind="integer", bounds=(0, n_leaves - 1)))


def test_texts_that_overlap_are_measured_by_what_they_stand_for():
    # Two classes of ages, [0, 4) with 3 rows and [2, 6) with 2 rows, and one suppressed row; 8 ages.
    schema = Schema.from_dict({"columns": {"age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 7]}}})
    raw = pd.DataFrame({"age": [0, 1, 3, 2, 5, 7]})
    released = pd.DataFrame({"age": ["[0, 4)"] * 3 + ["[2, 6)"] * 2})
    measured = {name: measure.value for name, measure in measure_quality(raw, released, schema).items()}
    assert measured["loss"] == pytest.approx((5 * 3 / 7 + 1) / 6)
    assert measured["ncp"] == pytest.approx(measured["loss"])
    assert measured["precision"] == 1.0
    assert measured["entropy"] == pytest.approx((5 * 2 / 3 + 1) / 6)
    # Within [0, 4) four raw ages occur, within [2, 6) three, overall six; each once.
    assert measured["non_uniform_entropy"] == pytest.approx(3 * 2 + 2 * math.log2(3) + math.log2(6))
    assert measured["discernibility"] == 9 + 4 + 6
    assert measured["average_class_size"] == 2.0
    a, b, lost = 3 / 6 / 4, 2 / 6 / 4, 1 / 6 / 8
    shares = [a, a, a + b, a + b, b, lost]
    assert measured["kl_divergence"] == pytest.approx(sum(math.log2(1 / 6 / share) / 6 for share in shares))


def test_suppressed_cells_and_mixed_levels_are_measured():
    rows = [["a", "AB", "*"], ["b", "AB", "*"], ["c", "C", "*"], ["d", "D", "*"]]
    schema = Schema.from_dict(
        {"columns": {"x": {"role": "quasi-identifier", "categories": list("abcd"), "hierarchy": {"rows": rows}}}}
    )
    raw = pd.DataFrame({"x": ["a", "b", "c", "d", "d"]})
    measured = measure_quality(raw, pd.DataFrame({"x": ["AB", "AB", "*", "d", "d"]}), schema)
    assert measured["loss"].value == pytest.approx((1 / 3 + 1 / 3 + 1 + 0 + 0) / 5)
    assert measured["ncp"].value == pytest.approx((2 / 4 + 2 / 4 + 1) / 5)
    assert measured["precision"].value == pytest.approx((0.5 + 0.5 + 1) / 5)
    assert all(measure.meaning and measure.unit for measure in measured.values())


@pytest.mark.parametrize(
    ("text", "ages"),
    [
        ("3", [3]),
        ("[2, 5)", [2, 3, 4]),
        ("[2, 5]", [2, 3, 4, 5]),
        ("8+", [8, 9]),
        ("<= 1", [0, 1]),
        ("{2, 7}", [2, 7]),
        ("*", list(range(10))),
    ],
)
def test_texts_of_whole_numbers(text, ages):
    assert np.flatnonzero(Texts(numbers(10)).leaves(text)).tolist() == ages


def test_texts_of_bins_days_and_labels_with_commas():
    bins = Texts(build_hierarchy(Column("wbc", kind="continuous", bounds=(0, 500), edges=(10, 50, 100.5))))
    assert bins.leaves("10 to 100.5").tolist() == [False, True, True, False]
    assert bins.leaves("50+").tolist() == [False, False, True, True]
    days = Texts(build_hierarchy(Column("day", kind="date", categories=("2001-03-04", "2001-03-09", "2002-01-01"))))
    assert days.leaves("2001-03-04 to 2001-12-31").tolist() == [True, True, False]
    assert days.leaves("2001").tolist() == [True, True, False]
    spoken = Texts(build_hierarchy(Column("x", categories=("b", "a", "a, b", "c"))))
    assert spoken.leaves("{a, b, c}").tolist() == [False, False, True, True]
    assert spoken.level(spoken.leaves("{a, b, c}")) == 1
    nullable = Texts(build_hierarchy(Column("age", kind="integer", bounds=(0, 3), nullable=True)))
    assert nullable.leaves("[0, 9)").tolist() == [True] * 4 + [False]
    assert nullable.leaves("missing").tolist() == [False] * 4 + [True]


@pytest.mark.parametrize("text", ["secret", "[200, 300)", "{1, secret}", "secret+", ""])
def test_a_text_that_stands_for_nothing_is_refused_without_being_named(text):
    with pytest.raises(ValueError, match=r"'age'.*no level of its hierarchy") as caught:
        Texts(numbers(10)).leaves(text)
    assert not text or text not in str(caught.value)


def test_a_label_that_means_more_at_a_higher_level_is_read_at_the_level_that_fits():
    rows = [["a", "a", "*"], ["b", "a", "*"], ["c", "c", "*"], ["d", "c", "*"]]
    schema = Schema.from_dict(
        {"columns": {"x": {"role": "quasi-identifier", "categories": list("abcd"), "hierarchy": {"rows": rows}}}}
    )
    raw = pd.DataFrame({"x": list("abcd")})
    assert measure_quality(raw, pd.DataFrame({"x": list("aacc")}), schema)["loss"].value == pytest.approx(1 / 3)


def plain_naive_bayes(rows, targets):
    """Leave one row out, count the others, predict it; the first of equally likely values."""
    values = [sorted({row[j] for row in rows}) for j in range(len(rows[0]))]
    right = 0
    for at, (row, target) in enumerate(zip(rows, targets, strict=True)):
        others = [i for i in range(len(rows)) if i != at]
        scores = []
        for y in range(max(targets) + 1):
            of_y = [i for i in others if targets[i] == y]
            score = math.log(len(of_y) + 1)
            for j, value in enumerate(row):
                score += math.log(sum(rows[i][j] == value for i in of_y) + 1) - math.log(len(of_y) + len(values[j]))
            scores.append(score)
        best = max(scores)
        right += next(y for y, score in enumerate(scores) if score > best - 1e-9) == target
    return right / len(rows)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2)), min_size=2, max_size=20))
def test_leave_one_out_in_closed_form_is_leaving_one_out(rows):
    # Codes without gaps, as those of a table's distinct values are.
    table = [np.unique(column, return_inverse=True)[1] for column in zip(*rows, strict=True)]
    *columns, target = table
    plain = plain_naive_bayes(list(zip(*columns, strict=True)), target.tolist())
    assert leave_one_out_accuracy(columns, target) == pytest.approx(plain, abs=1e-12)


def test_utility_lies_between_majority_and_raw_and_falls_with_generalisation():
    rng = np.random.default_rng(7)
    age = rng.integers(0, 80, 4000)
    ill = np.where(rng.random(4000) < np.where(age >= 40, 0.9, 0.1), "yes", "no")
    schema = Schema.from_dict(
        {
            "columns": {
                "age": {
                    "role": "quasi-identifier",
                    "kind": "integer",
                    "bounds": [0, 79],
                    "hierarchy": {"interval": [20]},
                },
                "ill": {"role": "sensitive", "categories": ["no", "yes"]},
            }
        }
    )
    raw = pd.DataFrame({"age": age, "ill": ill})
    twenty = raw.assign(age=[f"[{a // 20 * 20}, {a // 20 * 20 + 20})" for a in age])
    nothing = raw.assign(age="*")
    fine, none = measure_quality(raw, twenty, schema), measure_quality(raw, nothing, schema)
    assert fine["accuracy:ill"].value > 0.88
    assert fine["raw_accuracy:ill"].value > 0.88
    # Negative control: without the age, nothing better than the majority.
    assert none["accuracy:ill"].value == pytest.approx(none["majority_accuracy:ill"].value, abs=1e-12)
    assert none["majority_accuracy:ill"].value == max(Counter(ill).values()) / 4000 == majority_accuracy(ill == "yes")
    again = measure_quality(raw.sample(frac=1, random_state=2), twenty.sample(frac=1, random_state=3), schema)
    assert {name: measure.value for name, measure in again.items()} == pytest.approx(
        {name: measure.value for name, measure in fine.items()}, rel=1e-12
    )


def test_what_cannot_be_measured_is_refused():
    schema = Schema.from_dict(
        {"columns": {"x": {"role": "quasi-identifier", "categories": ["a", "b"]}, "y": {"categories": ["0", "1"]}}}
    )
    raw = pd.DataFrame({"x": ["a", "b"], "y": ["0", "1"]})
    for released, rule in [
        (raw.iloc[:0], "at least one row"),
        (pd.concat([raw, raw]), "no more rows"),
        (raw[["y"]], "'x' is a quasi-identifier, but not in both"),
    ]:
        with pytest.raises(ValueError, match=rule):
            measure_quality(raw, released, schema)
    for target in ("x", "z"):
        with pytest.raises(ValueError, match="must be a released column"):
            measure_quality(raw, raw, schema, targets=[target])


@pytest.mark.parametrize("algorithm", ["mondrian", "local", "cell_suppression"])
@pytest.mark.filterwarnings("ignore::anonymise.errors.AttackableRelease")
def test_releases_that_are_recoded_by_class_measure_the_loss_that_they_report(algorithm):
    rng = np.random.default_rng(8)
    rows = [[c, f"{c[0]}*", "*"] for c in ("a1", "a2", "b1", "b2", "b3")]
    schema = Schema.from_dict(
        {
            "columns": {
                "age": {
                    "role": "quasi-identifier",
                    "kind": "integer",
                    "bounds": [0, 59],
                    "hierarchy": {"interval": [10, 30]},
                },
                "zip": {
                    "role": "quasi-identifier",
                    "categories": [row[0] for row in rows],
                    "hierarchy": {"rows": rows},
                },
                "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
            }
        }
    )
    raw = pd.DataFrame(
        {
            "age": rng.integers(0, 60, 200),
            "zip": rng.choice([row[0] for row in rows], 200),
            "sex": rng.choice(["F", "M"], 200),
        }
    )
    result = anonymise(raw, schema, models=[KAnonymity(5)], suppression_limit=0.1, algorithm=algorithm)
    measured = measure_quality(raw, result.table, schema)
    assert measured["loss"].value == pytest.approx(result.score, abs=1e-12)
    sizes = Counter(result.table.itertuples(index=False, name=None)).values()
    assert measured["discernibility"].value == sum(size**2 for size in sizes) + 200 * result.suppressed
    assert 0.0 < measured["kl_divergence"].value < math.log2(60 * 5 * 2)
