import numpy as np
import pytest

from anonymise import build_hierarchy
from anonymise.spans import Spans
from privacy.schema import Column, HierarchySpec


def age(**more):
    spec = HierarchySpec("interval", steps=(5, 20), **more)
    return build_hierarchy(Column("age", kind="integer", bounds=(0, 119), hierarchy=spec))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_runs_of_whole_numbers_are_half_open_and_lose_their_width(k):
    span = Spans.of(age())
    texts, loss = span.texts(np.array([30, 30]), np.array([30, 30 + k]))
    assert texts == ["30", f"[30, {31 + k})"]
    assert loss.tolist() == [0.0, k / 119]


def test_runs_that_end_in_a_coded_value_are_open():
    span = Spans.of(age(bottom=20, top=90))
    last = span.full_width
    texts, loss = span.texts(np.array([0, 0, 3, 0, last]), np.array([0, 3, last, last, last]))
    assert texts == ["<20", "<23", "22+", "*", "90+"]
    assert loss.tolist() == pytest.approx([0.0, 3 / last, (last - 3) / last, 1.0, 0.0])


def test_a_lowest_level_that_is_kept_gives_runs_of_its_groups():
    span = Spans.of(age(keep_levels=(1, 3)))
    assert span.texts(np.array([6, 6]), np.array([6, 8]))[0] == ["[30, 35)", "[30, 45)"]


def test_ages_are_numbers_and_months_are_days_of_a_kind():
    rule = HierarchySpec("age", steps=(10,), at="2020-01-01")
    born = Spans.of(build_hierarchy(Column("born", kind="date", bounds=(1900, 2010), hierarchy=rule)))
    assert born.texts(np.array([9, 9]), np.array([9, 11]))[0] == ["9", "[9, 12)"]
    rule = HierarchySpec("date", steps=("month", "year"), keep_levels=(1, 3))
    seen = Spans.of(build_hierarchy(Column("seen", kind="date", bounds=(2001, 2002), hierarchy=rule)))
    assert seen.texts(np.array([1, 1]), np.array([1, 12]))[0] == ["2001-02", "2001-02 to 2002-01"]


def test_groups_of_numbers_that_are_no_runs_are_a_tree():
    rows = tuple((str(v), f"g{v % 3}", "even" if v % 3 == 0 else "odd", "*") for v in range(9))
    spec = HierarchySpec("rows", rows=rows, keep_levels=(1, 3))
    span = Spans.of(build_hierarchy(Column("code", kind="integer", bounds=(0, 8), hierarchy=spec)))
    assert span.notation == "tree"
    assert span.texts(np.array([0, 1]), np.array([0, 2]))[0] in (["g0", "odd"], ["g1", "*"])


def test_bins_days_and_missing_values_have_their_own_notation():
    lab = Spans.of(build_hierarchy(Column("lab", kind="continuous", bounds=(0, 4), edges=(1, 2), nullable=True)))
    missing = int(lab.rank.max())
    texts, loss = lab.texts(np.array([0, 1, 1, missing]), np.array([1, 2, missing, missing]))
    assert texts == ["0 to 2", "1 to 4", "*", "missing"]
    assert loss.tolist() == pytest.approx([1 / 3, 1 / 3, 1.0, 0.0])
    # Joining a number to a missing value is "*": no run looks wider.
    assert (missing - 2) / lab.full_width >= 1.0
    days = Spans.of(build_hierarchy(Column("seen", kind="date", bounds=(2001, 2002))))
    assert days.texts(np.array([0, 31]), np.array([30, 31]))[0] == ["2001-01-01 to 2001-01-31", "2001-02-01"]


def test_groups_of_a_tree_are_runs_and_the_lowest_common_one_is_released():
    rows = tuple((v, g, "*") for v, g in [("a", "X"), ("b", "Y"), ("c", "X"), ("d", "Y"), ("e", "Y")])
    span = Spans.of(build_hierarchy(Column("c", categories=tuple("abcde"), hierarchy=HierarchySpec("rows", rows=rows))))
    assert [tuple("abcde")[leaf] for leaf in span.leaf] == ["a", "c", "b", "d", "e"]
    texts, loss = span.texts(np.array([0, 2, 1, 3]), np.array([1, 4, 2, 3]))
    assert texts == ["X", "Y", "*", "d"]
    assert loss.tolist() == [1 / 4, 2 / 4, 1.0, 0.0]


def test_without_a_tree_the_set_of_values_is_released():
    span = Spans.of(build_hierarchy(Column("genotype", categories=("SS", "SC", "Sb"))))
    texts, loss = span.set_texts([(0,), (0, 2), (0, 1, 2)])
    assert texts == ["SS", "{SS, Sb}", "*"]
    assert loss.tolist() == [0.0, 0.5, 1.0]
