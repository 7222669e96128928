"""Missing quasi-identifiers as values, as wildcards, or as a reason to leave a row out."""

import itertools
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymise import GuaranteeBroken, KAnonymity, NotAnonymisable, Schema, anonymise, build_hierarchy, encode_table
from anonymise.checking import failing_tuples
from anonymise.lattice import search
from anonymise.loss import Loss
from anonymise.missing import Wildcards, released_crowds
from privacy.errors import SchemaError

CHOICES = ["own_value", "wildcard"]


def quasi(choice, **more):
    body = {"role": "quasi-identifier", "categories": list("abcd"), "nullable": True, "missing": choice}
    return body | {"hierarchy": {"rows": [["a", "x", "*"], ["b", "x", "*"], ["c", "y", "*"], ["d", "y", "*"]]}} | more


def schema_of(choices):
    return Schema.from_dict({"columns": {f"q{i}": quasi(choice) for i, choice in enumerate(choices)}})


@st.composite
def cases(draw):
    choices = ["wildcard", *draw(st.lists(st.sampled_from(CHOICES), max_size=2))]
    cell = st.sampled_from(["a", "b", "c", "d", None, None])
    rows = draw(st.lists(st.tuples(*[cell] * len(choices)), min_size=2, max_size=8))
    return choices, rows, draw(st.integers(2, 4))


def frame_of(rows):
    return pd.DataFrame({f"q{i}": list(column) for i, column in enumerate(zip(*rows, strict=True))}, dtype=object)


def text_at(schema, rows, node):
    hierarchies = [build_hierarchy(column) for column in schema.columns]
    return [
        tuple(
            h.labels[level][h.codes[level][h.encode(np.array([value], dtype=object))[0]]]
            for h, level, value in zip(hierarchies, node, row, strict=True)
        )
        for row in rows
    ]


def compatible(first, second, choices):
    return all(
        a == b or (choice == "wildcard" and "missing" in (a, b))
        for a, b, choice in zip(first, second, choices, strict=True)
    )


def largest_set(text, choices, k):
    """The union of all sets of rows in which each has k compatible ones: every subset is looked at."""
    n = len(text)
    masks = [sum(1 << j for j in range(n) if compatible(text[i], text[j], choices)) for i in range(n)]
    union = 0
    for chosen in range(1 << n):
        if all((masks[i] & chosen).bit_count() >= k for i in range(n) if chosen >> i & 1):
            union |= chosen
    return [bool(union >> i & 1) for i in range(n)]


def nodes_of(choices):
    return itertools.product(range(3), repeat=len(choices))


@given(cases())
def test_the_kept_rows_are_the_largest_set_in_which_each_has_k_compatible_rows(case):
    choices, rows, k = case
    schema = schema_of(choices)
    encoded = encode_table(
        [column for _, column in frame_of(rows).items()], [build_hierarchy(c) for c in schema.columns]
    )
    for node in nodes_of(choices):
        failing = failing_tuples(encoded, [KAnonymity(k)], node)[encoded.row_tuple]
        assert (~failing).tolist() == largest_set(text_at(schema, rows, node), choices, k)


@given(cases(), st.lists(st.integers(1, 5), min_size=8, max_size=8), st.integers(3, 12), st.data())
def test_rows_that_occur_often_count_as_often(case, times, k, data):
    choices, rows, _ = case
    schema = schema_of(choices)
    repeated = np.repeat(np.arange(len(rows)), times[: len(rows)])
    columns = [column.to_numpy()[repeated] for _, column in frame_of(rows).items()]
    encoded = encode_table(columns, [build_hierarchy(c) for c in schema.columns])
    node = data.draw(st.sampled_from(list(nodes_of(choices))))
    text = text_at(schema, rows, node)
    kept = dict(enumerate(text))
    # One at a time, in whatever order.
    while short := [i for i in kept if sum(times[j] * compatible(kept[i], kept[j], choices) for j in kept) < k]:
        del kept[short[0]]
    failing = failing_tuples(encoded, [KAnonymity(k)], node)[encoded.row_tuple]
    assert set(repeated[~failing].tolist()) == set(kept)
    assert set(repeated[failing].tolist()) == set(range(len(rows))) - set(kept)


def test_three_rows_that_are_taken_out_leave_a_crowd_by_three():
    # (missing, b) stands among 6 until the 3 of (a, b), who stand among 4, are gone; k = 5.
    rows = [("a", "b")] * 3 + [(None, "b")] + [("c", None)] * 2 + [("c", "d")] * 5
    schema = schema_of(["wildcard"] * 2)
    encoded = encode_table(
        [column for _, column in frame_of(rows).items()], [build_hierarchy(c) for c in schema.columns]
    )
    failing = failing_tuples(encoded, [KAnonymity(5)], (0, 0))[encoded.row_tuple]
    assert failing.tolist() == [True] * 4 + [False] * 7


@given(cases())
def test_what_is_suppressed_at_a_node_is_suppressed_at_every_more_specific_one(case):
    choices, rows, k = case
    schema = schema_of(choices)
    encoded = encode_table(
        [column for _, column in frame_of(rows).items()], [build_hierarchy(c) for c in schema.columns]
    )
    failing = {node: failing_tuples(encoded, [KAnonymity(k)], node) for node in nodes_of(choices)}
    for low, high in itertools.product(failing, repeat=2):
        if all(a <= b for a, b in zip(low, high, strict=True)):
            assert (failing[low] >= failing[high]).all()


@given(cases(), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_search_finds_the_optimum_of_all_nodes(case, limit):
    choices, rows, k = case
    schema = schema_of(choices)
    hierarchies = [build_hierarchy(c) for c in schema.columns]
    encoded = encode_table([column for _, column in frame_of(rows).items()], hierarchies)
    most = min(int(limit * len(rows)), len(rows) - 1)
    best = None
    for node in nodes_of(choices):
        kept = largest_set(text_at(schema, rows, node), choices, k)
        if kept.count(False) > most:
            continue
        score = Fraction(kept.count(False))
        for row in itertools.compress(rows, kept):
            for h, level, value in zip(hierarchies, node, row, strict=True):
                leaf = h.encode(np.array([value], dtype=object))[0]
                share = Fraction(int((h.codes[level] == h.codes[level][leaf]).sum()), h.n_leaves)
                score += (share - Fraction(1, 5)) / Fraction(4, 5) / len(choices)
        if best is None or score < best[0]:
            best = (score, node, kept.count(False))
    found = search(encoded, Loss.of(hierarchies), [KAnonymity(k)], max_suppressed=most)
    if best is None:
        assert found is None
    else:
        assert found.node == best[1]
        assert found.n_suppressed == best[2]
        assert found.score == pytest.approx(float(best[0] / len(rows)), abs=1e-12)


@given(cases())
def test_crowds_counted_from_the_released_text_are_those_of_pairs(case):
    choices, rows, _ = case
    schema = schema_of(choices)
    text = text_at(schema, rows, [0] * len(choices))
    table = pd.DataFrame(text, columns=list(schema.names))
    crowds = released_crowds(table, [build_hierarchy(c) for c in schema.columns])
    order = table.groupby(list(schema.names), sort=False).size().index
    distinct = [key if isinstance(key, tuple) else (key,) for key in order]
    assert crowds.tolist() == [sum(compatible(row, other, choices) for other in text) for row in distinct]


def clinic(choice, n=30):
    schema = Schema.from_dict(
        {"columns": {"q0": quasi(choice), "q1": quasi("own_value", nullable=False, missing="own_value")}}
    )
    frame = pd.DataFrame({"q0": (["a"] * 5 + ["c"] * 5) * (n // 10), "q1": ["a"] * n}, dtype=object)
    return schema, frame


def test_the_choices_differ_as_they_say():
    results = {}
    for choice in ("own_value", "suppress", "wildcard"):
        schema, frame = clinic(choice)
        frame.loc[[3, 7], "q0"] = None
        results[choice] = anonymise(frame, schema, models=[KAnonymity(5)], suppression_limit=0.1)
    assert [results[choice].suppressed for choice in results] == [2, 2, 0]
    assert results["wildcard"].table["q0"].tolist().count("missing") == 2
    assert all(dict(result.node) == {"q0": 0, "q1": 0} for result in results.values())
    # A row that is left out has loss 1, whenever it was left out.
    assert results["suppress"].score == pytest.approx(results["own_value"].score) == pytest.approx(2 / 30)


def test_rows_that_lack_a_value_count_against_the_limit():
    schema, frame = clinic("suppress")
    frame.loc[:3, "q0"] = None
    assert anonymise(frame, schema, models=[KAnonymity(5)], suppression_limit=0.14).suppressed == 4
    with pytest.raises(NotAnonymisable, match="too many patients lack a value"):
        anonymise(frame, schema, models=[KAnonymity(5)], suppression_limit=0.1)
    frame.loc[:27, "q0"] = np.nan
    with pytest.raises(NotAnonymisable, match="too many patients lack a value"):
        anonymise(frame, schema, models=[KAnonymity(5)], suppression_limit=1.0)


class Other:
    attribute = None
    needs_population = False
    downward_closed = True
    monotone = True
    least_rows = 1

    def class_fails(self, classes):
        return classes.sizes < 2

    def least_lost(self, classes):
        return classes.sizes

    def __repr__(self):
        return "Other()"


def test_other_models_have_no_meaning_over_wildcards():
    schema, frame = clinic("wildcard")
    with pytest.raises(NotAnonymisable, match=r"'q0'.*not for Other\(\)"):
        anonymise(frame, schema, models=[KAnonymity(2), Other()])


def test_a_release_with_too_small_crowds_is_withheld(monkeypatch):
    schema, frame = clinic("wildcard")
    frame.loc[0, "q0"] = "d"
    monkeypatch.setattr(Wildcards, "failing", lambda self, *_, **__: np.zeros(self._pattern.size, dtype=bool))
    with pytest.raises(GuaranteeBroken, match=r"KAnonymity\(k=5\)"):
        anonymise(frame, schema, models=[KAnonymity(5)])


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"missing": "guess"}, "missing is one of own_value, wildcard, suppress"),
        ({"nullable": False}, "that is nullable"),
        ({"role": "sensitive"}, "of a quasi-identifier"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused(more, rule):
    with pytest.raises(SchemaError, match=rule):
        Schema.from_dict({"columns": {"q": quasi("wildcard") | more}})


def test_a_patient_who_lacks_a_value_in_one_visit_is_left_out_with_all_visits():
    schema = Schema.from_dict(
        {
            "table": {"name": "visits", "patient_id": "id"},
            "columns": {
                "id": {"role": "identifier"},
                "ward": {"role": "quasi-identifier", "categories": ["a", "b"], "nullable": True, "missing": "suppress"},
            },
        }
    )
    frame = pd.DataFrame({"id": [1, 1, 2, 2, 3, 3], "ward": ["a", "b", "a", "b", "a", None]})
    with pytest.raises(NotAnonymisable, match="too many patients lack a value"):
        anonymise(frame, schema, models=[KAnonymity(2)])
    result = anonymise(frame, schema, models=[KAnonymity(2)], suppression_limit=0.4)
    assert (result.suppressed, len(result.table)) == (1, 4)
    assert result.score == pytest.approx(1 / 3)


def test_wildcards_are_refused_for_patients_of_several_rows():
    schema = Schema.from_dict(
        {
            "table": {"name": "visits", "patient_id": "id"},
            "columns": {
                "id": {"role": "identifier"},
                "ward": {"role": "quasi-identifier", "categories": ["a", "b"], "nullable": True, "missing": "wildcard"},
            },
        }
    )
    frame = pd.DataFrame({"id": [1, 1, 2, 2], "ward": ["a", "b", "a", None]})
    with pytest.raises(NotAnonymisable, match="no meaning for patients of several rows"):
        anonymise(frame, schema, models=[KAnonymity(2)])
