import dataclasses
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise import (
    AttackableRelease,
    KAnonymity,
    LDiversity,
    NotAnonymisable,
    Schema,
    anonymise,
    build_hierarchy,
    encode_table,
)
from anonymise.encoded import encode_attribute
from anonymise.mondrian import mondrian_classes
from anonymise.spans import Spans
from privacy.schema import Column, HierarchySpec

DATA = Path(__file__).parent / "data"
# A throwaway implementation, sorting rows part by part: k, classes, mean span as a share of the observed span.
ADULT = [(2, 6909, 0.00769), (5, 3181, 0.02461), (10, 1776, 0.04390)]
RISK = Column("risk", role="sensitive", categories=("low", "mid", "high"))


def columns():
    tree = HierarchySpec(
        "rows", rows=tuple((f"v{i}", f"g{i % 3}", "even" if i % 3 == 0 else "odd", "*") for i in range(7))
    )
    return [
        Column("age", role="quasi-identifier", kind="integer", bounds=(0, 19)),
        Column("code", role="quasi-identifier", categories=tuple(f"v{i}" for i in range(7)), hierarchy=tree),
        Column("sex", role="quasi-identifier", categories=("F", "M", "X")),
        Column("lab", role="quasi-identifier", kind="continuous", bounds=(0, 4), edges=(1, 2, 3), nullable=True),
    ]


HIERARCHIES = [build_hierarchy(column) for column in columns()]


def encoded(rows):
    frame = pd.DataFrame(rows, columns=["age", "code", "sex", "lab", "risk"])
    names = [column.name for column in columns()]
    risk = {"risk": [(frame["risk"], build_hierarchy(RISK))]}
    return encode_table([frame[name] for name in names], HIERARCHIES, sensitive=risk)


def slow_mondrian(ranks, full, passes):
    """Return the parts, row by row and part by part: lists of rows."""

    def cut(rows):
        width = {
            j: (max(ranks[j][r] for r in rows) - min(ranks[j][r] for r in rows)) / full[j] for j in range(len(full))
        }
        for j in sorted(width, key=lambda j: (-width[j], j)):
            if width[j] == 0:
                break
            median = sorted(ranks[j][r] for r in rows)[len(rows) // 2]
            options = []
            for first_right in (median, median + 1):
                left = [r for r in rows if ranks[j][r] < first_right]
                right = [r for r in rows if ranks[j][r] >= first_right]
                options.append((abs(len(left) - len(right)), left, right))
            for _, left, right in sorted(options, key=lambda option: option[0]):
                if left and right and passes(left) and passes(right):
                    return [*cut(left), *cut(right)]
        return [rows]

    return cut(list(range(len(ranks[0]))))


ROWS = st.lists(
    st.tuples(
        st.integers(0, 19),
        st.sampled_from([f"v{i}" for i in range(7)]),
        st.sampled_from("FMX"),
        st.sampled_from([0.5, 1.5, 2.5, 3.5, np.nan]),
        st.sampled_from(["low", "mid", "high"]),
    ),
    min_size=2,
    max_size=60,
)


@settings(max_examples=2 * settings.default.max_examples)
@given(ROWS, st.integers(2, 4), st.booleans())
def test_all_parts_at_once_give_the_classes_of_the_plain_recursion(rows, k, two_values):
    data = encoded(rows)
    spans = [Spans.of(hierarchy) for hierarchy in HIERARCHIES]
    models = [KAnonymity(k), *([LDiversity(2, attribute="risk")] if two_values else [])]
    risk = [row[4] for row in rows]

    def passes(part):
        return len(part) >= k and (not two_values or len({risk[r] for r in part}) >= 2)

    if not passes(range(len(rows))):
        with pytest.raises(NotAnonymisable):
            mondrian_classes(data, models, spans)
        return
    ranks = [span.rank[leaves][data.row_tuple].tolist() for span, leaves in zip(spans, data.leaves, strict=True)]
    slow = slow_mondrian(ranks, [span.full_width for span in spans], passes)
    fast = defaultdict(list)
    for row, number in enumerate(mondrian_classes(data, models, spans)[data.row_tuple].tolist()):
        fast[number].append(row)
    assert sorted(fast) == list(range(len(fast)))
    assert sorted(map(sorted, fast.values())) == sorted(map(sorted, slow))


@given(ROWS.filter(lambda rows: len(rows) >= 3), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_move_a_patient_to_another_class(rows, random):
    turned = list(rows)
    random.shuffle(turned)
    spans = [Spans.of(hierarchy) for hierarchy in HIERARCHIES]
    found = []
    for some in (rows, turned):
        data = encoded(some)
        classes = mondrian_classes(data, [KAnonymity(2)], spans)
        found.append({tuple(data.leaves[:, t]): int(classes[t]) for t in range(data.n_tuples)})
    assert found[0] == found[1]


def test_values_far_apart_in_a_large_domain_are_cut_as_well():
    # 10^5 possible values and few rows: counting per value would need a table far larger than the rows.
    column = Column("id", role="quasi-identifier", kind="integer", bounds=(0, 99_999))
    hierarchy = build_hierarchy(column)
    values = np.array([0, 1, 2, 50_000, 50_001, 99_997, 99_998, 99_999])
    data = encode_table([values], [hierarchy])
    classes = mondrian_classes(data, [KAnonymity(2)], [Spans.of(hierarchy)])[data.row_tuple]
    assert classes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.fixture(scope="module")
def adult():
    schema = Schema.load(DATA / "adult.toml")
    columns = tuple(dataclasses.replace(c, role="sensitive") if c.name == "occupation" else c for c in schema.columns)
    return dataclasses.replace(schema, columns=columns), pd.read_csv(DATA / "adult.csv.gz", sep=";", dtype=str)


@pytest.mark.parametrize(("k", "n_classes", "mean_span"), ADULT)
def test_classes_of_adult_are_as_many_and_as_narrow_as_a_plain_implementations(adult, k, n_classes, mean_span):
    schema, frame = adult
    hierarchies = [build_hierarchy(schema.column(name)) for name in schema.quasi_identifiers]
    data = encode_table([frame[name] for name in schema.quasi_identifiers], hierarchies)
    spans = [Spans.of(hierarchy) for hierarchy in hierarchies]
    classes = mondrian_classes(data, [KAnonymity(k)], spans)
    sizes = np.bincount(classes, weights=data.counts)
    assert (sizes.size, sizes.min()) == (n_classes, k)
    widths = []
    for span, leaves in zip(spans, data.leaves, strict=True):
        rank = pd.Series(span.rank[leaves])
        by_class = rank.groupby(classes)
        widths.append((by_class.max() - by_class.min()).to_numpy() / (rank.max() - rank.min()))
    assert (np.array(widths) * sizes).sum() / (len(spans) * data.n_rows) == pytest.approx(mean_span, abs=6e-6)


def test_adult_is_released_in_classes_of_equal_text_with_two_occupations_each(adult):
    schema, frame = adult
    with pytest.warns(AttackableRelease, match=r"downcoding: Cohen 2022.*minimality: Wong"):
        result = anonymise(
            frame, schema, models=[KAnonymity(5), LDiversity(2, attribute="occupation")], algorithm="mondrian"
        )
    names = list(schema.quasi_identifiers)
    sizes, occupations = Counter(), defaultdict(set)
    for *texts, occupation in result.table[[*names, "occupation"]].itertuples(index=False, name=None):
        sizes[tuple(texts)] += 1
        occupations[tuple(texts)].add(occupation)
    assert min(sizes.values()) >= 5
    assert min(map(len, occupations.values())) >= 2
    assert sum(sizes.values()) == len(frame)
    assert Counter(result.table["occupation"]) == Counter(frame["occupation"])
    best = anonymise(frame, schema, models=[KAnonymity(5)], suppression_limit=0.02)
    assert result.score < best.score / 4


def test_an_attribute_counted_for_some_tuples_is_the_attribute_of_these():
    from anonymise.mondrian import _Entries

    rng = np.random.default_rng(5)
    rows, values = rng.integers(0, 9, 200), rng.integers(0, 3, 200)
    attribute = encode_attribute("risk", [(np.array(RISK.categories)[values], build_hierarchy(RISK))], rows)
    some = np.array([7, 2, 5])
    taken, own = _Entries(attribute, 9).of(some)
    counts = np.zeros((3, 3))
    np.add.at(counts, (own, taken.values), taken.counts)
    assert counts.tolist() == [[int(((rows == t) & (values == v)).sum()) for v in range(3)] for t in some]
