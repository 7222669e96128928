from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators import Domain, DomainMismatch, UnknownColumn
from generators.factor import contract, spread, sum_onto
from generators.junction_tree import CliqueGraph, JunctionTree, mask_of
from generators.propagation import CliqueMarginals, compose, least_energy, propagate, uniform

NAMES = "abcdefg"


@st.composite
def graphs(draw):
    sizes = draw(st.lists(st.integers(1, 3), min_size=2, max_size=6))
    domain = Domain(tuple(NAMES[: len(sizes)]), tuple(sizes))
    cliques = draw(st.lists(st.lists(st.sampled_from(domain.columns), min_size=1, max_size=3, unique=True), max_size=6))
    return domain, [tuple(sorted(clique)) for clique in cliques]


def random_potentials(tree, seed, *, zero_share=0.0):
    rng = np.random.default_rng(seed)
    out = []
    for i in range(len(tree.cliques)):
        table = rng.normal(0, 3, tree.shape(i))
        table[rng.random(table.shape) < zero_share] = -np.inf
        out.append(table)
    return out


def brute_force(tree, potentials):
    """Return the joint distribution over the whole domain, unnormalised."""
    joint = np.zeros(tree.domain.n_codes)
    for i, potential in enumerate(potentials):
        joint = joint + spread(potential, tree.cliques[i], tree.domain.columns)
    return np.exp(joint)


@given(graphs())
def test_every_clique_that_was_joined_is_inside_a_clique_of_the_tree(graph):
    domain, cliques = graph
    tree = JunctionTree.build(domain, cliques)
    assert all(tree.find(clique) is not None for clique in cliques)
    assert all(tree.find((name,)) is not None for name in domain.columns)


@given(graphs())
def test_the_cliques_that_hold_a_column_are_connected(graph):
    domain, cliques = graph
    tree = JunctionTree.build(domain, cliques)
    for name in domain.columns:
        holding = [i for i, clique in enumerate(tree.cliques) if name in clique]
        links = [i for i in holding if tree.parent[i] >= 0 and name in tree.separators[i]]
        assert len(links) == len(holding) - 1


@given(graphs())
def test_no_clique_lies_inside_another_and_parents_come_first(graph):
    domain, cliques = graph
    tree = JunctionTree.build(domain, cliques)
    for one, two in itertools.permutations(tree.cliques, 2):
        assert not set(one) <= set(two)
    place = {i: at for at, i in enumerate(tree.order)}
    assert sorted(place) == list(range(len(tree.cliques)))
    assert all(place[tree.parent[i]] < place[i] for i in tree.children)


@given(graphs())
def test_triangulating_again_changes_nothing(graph):
    domain, cliques = graph
    tree = JunctionTree.build(domain, cliques)
    assert JunctionTree.build(domain, tree.cliques) == tree
    assert JunctionTree.build(domain, reversed(tree.cliques)) == tree


@given(graphs())
def test_networkx_agrees_that_the_graph_is_chordal_and_on_its_maximal_cliques(graph):
    import networkx as nx

    domain, cliques = graph
    tree = JunctionTree.build(domain, cliques)
    chordal = nx.Graph()
    chordal.add_nodes_from(domain.columns)
    chordal.add_edges_from(tree.edges)
    assert nx.is_chordal(chordal)
    assert {frozenset(clique) for clique in nx.find_cliques(chordal)} == {frozenset(c) for c in tree.cliques}


@given(graphs(), st.integers(0, 2**32))
def test_the_size_with_one_more_clique_is_the_size_of_the_tree_built_with_it(graph, seed):
    domain, cliques = graph
    rng = np.random.default_rng(seed)
    more = tuple(sorted(rng.choice(domain.columns, size=min(3, len(domain)), replace=False)))
    sizes = CliqueGraph(domain, cliques)
    assert sizes.cells == JunctionTree.build(domain, cliques).cells
    assert sizes.cells_with(more) == JunctionTree.build(domain, [*cliques, more]).cells
    assert sizes.cells == JunctionTree.build(domain, cliques).cells


def test_a_square_gets_one_diagonal():
    domain = Domain(tuple("abcd"), (2, 2, 2, 2))
    tree = JunctionTree.build(domain, [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")])
    assert sorted(map(len, tree.cliques)) == [3, 3]


def test_the_diagonal_goes_where_it_costs_least():
    domain = Domain(tuple("abcd"), (2, 50, 2, 50))
    tree = JunctionTree.build(domain, [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")])
    assert tree.cliques == (("a", "b", "c"), ("a", "c", "d"))


def test_cells_of_a_huge_clique_do_not_overflow():
    domain = Domain(tuple(f"c{i}" for i in range(30)), (1000,) * 30)
    assert CliqueGraph(domain).cells_with(domain.columns) == 1000**30


def test_a_hundred_columns_make_a_tree_of_pairs():
    domain = Domain(tuple(f"c{i}" for i in range(100)), (5,) * 100)
    tree = JunctionTree.build(domain, [(f"c{i}", f"c{i + 1}") for i in range(99)])
    assert len(tree.cliques) == 99
    assert tree.cells == 99 * 25


def test_an_unknown_column_is_named():
    with pytest.raises(UnknownColumn, match="'z'"):
        JunctionTree.build(Domain(("a",), (2,)), [("a", "z")])


@settings(deadline=None)
@given(graphs(), st.integers(0, 2**32), st.sampled_from([0.0, 0.2]))
def test_marginals_of_any_columns_are_those_of_the_joint_distribution(graph, seed, zero_share):
    domain, cliques = graph
    tree = JunctionTree.build(domain, cliques)
    potentials = random_potentials(tree, seed, zero_share=zero_share)
    joint = brute_force(tree, potentials)
    found = propagate(tree, potentials)
    if joint.sum() == 0:
        assert found.log_z == -math.inf
        assert all(not table.any() for table in found.cliques)
        return
    assert found.log_z == pytest.approx(math.log(joint.sum()), abs=1e-9)
    joint /= joint.sum()
    for k in range(1, min(4, len(domain)) + 1):
        for columns in itertools.permutations(domain.columns, k):
            want = sum_onto(joint, domain.columns, columns)
            np.testing.assert_allclose(found.project(columns), want, atol=1e-12)


@settings(deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_conditioning_is_that_of_the_joint_distribution(graph, seed):
    domain, cliques = graph
    tree = JunctionTree.build(domain, cliques)
    rng = np.random.default_rng(seed)
    potentials = random_potentials(tree, seed, zero_share=0.1)
    joint = brute_force(tree, potentials)
    if joint.sum() == 0:
        return
    joint /= joint.sum()
    allowed = {name: rng.random(domain[name]) < 0.6 for name in domain.columns[:2]}
    for name, codes in allowed.items():
        joint = joint * spread(codes.astype(float), (name,), domain.columns)
    found = propagate(tree, potentials).given(allowed)
    if joint.sum() == 0:
        assert found.log_z == -math.inf
        return
    assert found.log_z == pytest.approx(math.log(joint.sum()), abs=1e-9)
    joint /= joint.sum()
    for columns in itertools.combinations(domain.columns, 2):
        np.testing.assert_allclose(found.project(columns), sum_onto(joint, domain.columns, columns), atol=1e-12)


@settings(deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_conditionals_compose_to_the_same_distribution(graph, seed):
    domain, cliques = graph
    tree = JunctionTree.build(domain, cliques)
    found = propagate(tree, random_potentials(tree, seed))
    again = compose(tree, [found.conditional(i) for i in range(len(tree.cliques))])
    for one, two in zip(found.cliques, again.cliques, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-14)


@settings(deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_the_least_energy_is_that_of_some_row(graph, seed):
    domain, cliques = graph
    tree = JunctionTree.build(domain, cliques)
    energies = random_potentials(tree, seed)
    want = np.zeros(domain.n_codes)
    for i, energy in enumerate(energies):
        want = want + spread(energy, tree.cliques[i], domain.columns)
    assert least_energy(tree, energies) == pytest.approx(want.min(), abs=1e-9)


def test_potentials_far_apart_neither_overflow_nor_vanish():
    tree = JunctionTree.build(Domain(("a", "b", "c"), (2, 2, 2)), [("a", "b"), ("b", "c")])
    far = np.array([[4000.0, 0.0], [0.0, -4000.0]])
    found = propagate(tree, [far, far])
    assert np.isfinite(found.log_z)
    # Given b = 1, whose weight is exp(-4000) of the other's, its neighbours still have their own conditionals.
    np.testing.assert_allclose(found.conditional(1)[1], [1.0, 0.0], atol=1e-12)


def test_uniform_potentials_give_uniform_marginals():
    domain = Domain(tuple("abcd"), (2, 3, 4, 2))
    marginals = uniform(JunctionTree.build(domain, [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")]))
    np.testing.assert_allclose(marginals.project(("d", "b")), np.full((2, 3), 1 / 6))
    assert marginals.log_z == pytest.approx(math.log(2 * 3 * 4 * 2))


def test_naming_a_column_twice_or_none_is_refused():
    marginals = uniform(JunctionTree.build(Domain(("a", "b"), (2, 2)), []))
    for columns in ((), ("a", "a")):
        with pytest.raises(DomainMismatch, match="once"):
            marginals.project(columns)


@given(st.integers(0, 2**32))
def test_contracting_two_factors_is_an_einsum(seed):
    rng = np.random.default_rng(seed)
    sizes = dict(zip("abcde", rng.integers(1, 4, 5), strict=True))
    first = tuple(rng.permutation(list("abcde"))[: rng.integers(1, 5)])
    second = tuple(rng.permutation(list("abcde"))[: rng.integers(1, 5)])
    keep = set(rng.permutation(list("abcde"))[: rng.integers(0, 5)])
    x = rng.normal(size=[sizes[name] for name in first])
    y = rng.normal(size=[sizes[name] for name in second])
    values, columns = contract(x, first, y, second, keep)
    want = np.einsum(f"{''.join(first)},{''.join(second)}->{''.join(columns)}", x, y)
    assert set(columns) == keep & (set(first) | set(second))
    np.testing.assert_allclose(values, want, atol=1e-12)


def test_a_mask_has_one_bit_for_each_column():
    assert mask_of(("c", "a"), Domain(tuple("abc"), (2, 2, 2))) == 0b101


def test_a_distribution_shows_no_cache_and_compares_by_its_tables():
    tree = JunctionTree.build(Domain(("a", "b"), (2, 2)), [("a", "b")])
    marginals = uniform(tree)
    before = repr(marginals)
    marginals.conditional(0)
    assert repr(marginals) == before
    assert isinstance(marginals, CliqueMarginals)
