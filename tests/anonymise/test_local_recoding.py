from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise import KAnonymity, NotAnonymisable, Schema, build_hierarchy, encode_table
from anonymise.lattice import search
from anonymise.local_recoding import cell_suppression, local_recoding, rest_of
from anonymise.loss import METRICS, Loss
from privacy.schema import Column, HierarchySpec

DATA = Path(__file__).parent / "data"
COLUMNS = [
    Column("age", kind="integer", bounds=(0, 15), hierarchy=HierarchySpec("interval", steps=(2, 4, 8))),
    Column("code", categories=("a1", "a2", "b1", "b2", "b3"), hierarchy=HierarchySpec("prefix", steps=(1,))),
    Column("sex", categories=("F", "M")),
]
HIERARCHIES = [build_hierarchy(column) for column in COLUMNS]
ROWS = st.lists(
    st.tuples(st.integers(0, 15), st.sampled_from(["a1", "a2", "b1", "b2", "b3"]), st.sampled_from("FM")),
    min_size=1,
    max_size=50,
)
REFINE = pytest.mark.parametrize("refine", [local_recoding, cell_suppression])


def encoded(rows):
    frame = pd.DataFrame(rows, columns=["age", "code", "sex"])
    return encode_table([frame[column.name] for column in COLUMNS], HIERARCHIES)


def texts(data, steps):
    """Return the released text of each row, None where it is suppressed."""
    out = [None] * data.n_tuples
    for step in steps.steps:
        for t in step.tuples.tolist():
            assert out[t] is None
            out[t] = tuple(
                h.labels[level][h.codes[level][leaf]]
                for h, level, leaf in zip(step.hierarchies, step.node, data.leaves[:, t], strict=True)
            )
    return [out[t] for t in data.row_tuple.tolist()]


@REFINE
@given(ROWS, st.integers(2, 4), st.sampled_from([0, 1, 3, 100]))
def test_every_class_of_equal_text_has_k_rows_and_no_more_are_lost_than_the_limit(refine, rows, k, limit):
    data = encoded(rows)
    limit = min(limit, len(rows) - 1)
    best = search(data, Loss.of(HIERARCHIES), [KAnonymity(k)], max_suppressed=limit)
    if best is None:
        with pytest.raises(NotAnonymisable):
            refine(data, METRICS["loss"], [KAnonymity(k)], max_suppressed=limit)
        return
    steps = refine(data, METRICS["loss"], [KAnonymity(k)], max_suppressed=limit)
    released = texts(data, steps)
    counts = Counter(text for text in released if text is not None)
    assert min(counts.values()) >= k
    assert released.count(None) <= limit
    # It succeeds whenever one generalisation for all does, and never loses more.
    assert steps.score <= best.score + 1e-12


@REFINE
@given(ROWS.filter(lambda rows: len(rows) >= 3), st.randoms(use_true_random=False))
def test_scores_are_the_mean_loss_of_the_texts_and_rows_may_stand_in_any_order(refine, rows, random):
    data = encoded(rows)
    steps = refine(data, METRICS["loss"], [KAnonymity(3)], max_suppressed=0)
    released = texts(data, steps)
    lost = sum(
        (leaves_of(h, text) - 1) / (h.n_leaves - 1)
        for texts_of_row in released
        for h, text in zip(HIERARCHIES, texts_of_row, strict=True)
    )
    assert steps.score == pytest.approx(lost / (len(HIERARCHIES) * len(rows)), abs=1e-12)
    turned = list(zip(rows, released, strict=True))
    random.shuffle(turned)
    again = encoded([row for row, _ in turned])
    found = texts(again, refine(again, METRICS["loss"], [KAnonymity(3)], max_suppressed=0))
    assert found == [text for _, text in turned]


def leaves_of(hierarchy, text):
    return max(
        int((codes == labels.index(text)).sum())
        for labels, codes in zip(hierarchy.labels, hierarchy.codes, strict=True)
        if text in labels
    )


def test_a_failing_row_keeps_its_text_but_for_some_cells():
    rows = [(0, "a1", "F")] * 50 + [(1, "a1", "F"), (2, "a1", "F"), (0, "b1", "F"), (0, "b2", "F")]
    data = encoded(rows)
    steps = cell_suppression(data, METRICS["loss"], [KAnonymity(2)], max_suppressed=0)
    released = texts(data, steps)
    first = steps.steps[0].node
    for row, text in zip(rows, released, strict=True):
        for h, value, level, cell in zip(HIERARCHIES, row, first, text, strict=True):
            leaf = int(h.encode(np.array([value]))[0])
            assert cell in (h.labels[level][h.codes[level][leaf]], "*")
    assert Counter(released) == {("0", "a1", "F"): 50, ("*", "a1", "F"): 2, ("0", "*", "F"): 2}


def test_no_step_is_taken_that_leaves_too_few_who_may_not_be_lost():
    # Five alike and one alone: to release five first would leave one, which can be neither released nor lost.
    rows = [(0, "a1", "F")] * 5 + [(15, "b1", "F")]
    released = texts(data := encoded(rows), local_recoding(data, METRICS["loss"], [KAnonymity(2)], max_suppressed=0))
    assert len(set(released)) == 1
    released = texts(data, local_recoding(data, METRICS["loss"], [KAnonymity(2)], max_suppressed=1))
    assert released == [("0", "a1", "F")] * 5 + [None]


def test_the_rest_keeps_the_size_and_the_distribution_of_the_whole():
    rows = [(0, "a1", "F")] * 3 + [(1, "a1", "M")] * 2
    frame = pd.DataFrame(rows, columns=["age", "code", "sex"])
    risk = build_hierarchy(Column("risk", categories=("low", "high")))
    sensitive = {"risk": [(np.array(["low", "high", "low", "high", "high"]), risk)]}
    data = encode_table([frame[c.name] for c in COLUMNS], HIERARCHIES, sensitive=sensitive)
    chosen = np.flatnonzero(data.counts == 2)
    part = rest_of(data, data.hierarchies, chosen)
    assert (part.n_rows, part.counts.tolist()) == (5, [2])
    attribute = part.attributes["risk"]
    assert attribute.overall.tolist() == [2.0, 3.0]
    assert (attribute.tuples.tolist(), attribute.values.tolist(), attribute.counts.tolist()) == ([0], [1], [2.0])


@REFINE
def test_adult_loses_less_than_with_one_generalisation_for_all(refine):
    schema = Schema.load(DATA / "adult.toml")
    adult = pd.read_csv(DATA / "adult.csv.gz", sep=";", dtype=str)
    names = ["sex", "age", "race", "marital-status", "education"]
    hierarchies = [build_hierarchy(schema.column(name)) for name in names]
    data = encode_table([adult[name] for name in names], hierarchies)
    steps = refine(data, METRICS["loss"], [KAnonymity(5)], max_suppressed=0)
    counts = Counter(texts(data, steps))
    assert None not in counts
    assert min(counts.values()) >= 5
    unlimited = search(data, Loss.of(hierarchies), [KAnonymity(5)], max_suppressed=data.n_rows - 1)
    assert steps.steps[0].node == unlimited.node
    assert steps.score < unlimited.score
