"""What the sites share, against counting each marginal of the rows."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthesis_members import SCHEMA, pooled_frame, small_study

from generators import Domain, count_marginal, encode
from smpc import reconstruct, share
from synthema.conducting import synthesis_vector
from synthema.errors import StudyError
from synthema.marginal_layout import SynthesisLayout, column_sizes, synthesis_layout, takes_triples
from synthema.study import Study

MECHANISMS = ["chow-liu", "independent", "mst", "aim", "privbayes", "adaptive"]
SIZES = {"a": 2, "b": 3, "c": 2, "d": 4}


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_every_part_of_what_is_shared_reads_as_it_is_counted(cliques):
    layout = SynthesisLayout(SIZES, cliques)
    domain = Domain(tuple(SIZES), tuple(SIZES.values()))
    codes = encode(pooled_frame(), SCHEMA)
    vector = np.concatenate([count_marginal(codes, domain, clique).ravel() for clique in layout.cliques])
    for clique in cliques:
        for size in range(1, len(clique) + 1):
            for part in itertools.permutations(clique, size):
                counted = count_marginal(codes, domain, part)
                assert np.array_equal(layout.read(vector, part), counted)
    # None lies within another, and what is not within one of them is not held.
    sets = [set(clique) for clique in layout.cliques]
    assert not any(a < b for a in sets for b in sets)
    for other in itertools.combinations("abcd", 3):
        assert layout.holds(other) == any(set(other) <= held for held in sets)
    assert not layout.holds(("a", "a"))
    assert not layout.holds(("a", "z"))
    assert not layout.holds(())


def test_marginals_are_read_from_shares_as_from_counts():
    study = small_study("aim")
    layout = synthesis_layout(study)
    vector = synthesis_vector(study, encode(pooled_frame(), SCHEMA))
    packages = share(vector, 3)
    parts = [layout.read(package.expand(), ("d", "a")) for package in packages]
    total = np.add.reduce(parts, dtype=np.uint64).view(np.int64)
    assert np.array_equal(total, layout.read(vector, ("d", "a")))
    assert np.array_equal(reconstruct(packages), vector)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_each_mechanism_shares_what_it_may_ask_for_and_no_more_than_its_largest(mechanism):
    layout = synthesis_layout(small_study(mechanism))
    longest = {"chow-liu": 2, "independent": 1, "mst": 2}.get(mechanism, 3)
    assert {len(clique) for clique in layout.cliques} == {longest}
    assert all(layout.holds((name,)) for name in column_sizes(small_study()))


def test_a_workload_of_its_own_is_shared_with_all_columns():
    study = small_study("aim", synthesis={"workload": [["a", "b"], ["b", "d"]]})
    assert synthesis_layout(study).cliques == (("c",), ("a", "b"), ("b", "d"))


def wide_study(mechanism: str, n_columns: int, n_codes: int) -> Study:
    columns = {f"x{i}": {"categories": [str(code) for code in range(n_codes)]} for i in range(n_columns)}
    return small_study(mechanism, study={"schema": {"columns": columns}})


def test_triples_that_are_too_many_are_left_out_or_refused():
    assert takes_triples(dict.fromkeys("abcd", 5))
    wide = wide_study("aim", 12, 9)
    assert not takes_triples(column_sizes(wide))
    assert {len(clique) for clique in synthesis_layout(wide).cliques} == {2}
    assert {len(clique) for clique in synthesis_layout(wide_study("privbayes", 12, 9)).cliques} == {2}
    with pytest.raises(StudyError, match="adaptive"):
        synthesis_layout(wide_study("adaptive", 12, 9))


def test_a_vector_that_is_too_long_is_refused():
    with pytest.raises(StudyError, match="more than"):
        synthesis_layout(wide_study("mst", 30, 100))
