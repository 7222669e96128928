"""Forests as junction trees, against brute force; the fit against independent solvers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from generators import Domain, DomainMismatch, Measurement, UnknownColumn
from generators.forest import Components, Forest, clique_marginals, compose
from generators.inference import Evidence, estimate_total, fit_forest, merge, on_simplex


@st.composite
def random_forests(draw, least_columns=1):
    n = draw(st.integers(least_columns, 4))
    domain = Domain(tuple("abcd"[:n]), tuple(draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))))
    components = Components(domain.columns)
    pairs = draw(st.permutations([(x, y) for x, y in itertools.permutations(domain.columns, 2)]))
    edges = [pair for pair in pairs[: draw(st.integers(0, 2 * n))] if components.join(*pair)]
    return Forest(domain, edges)


def random_conditionals(forest, seed):
    rng = np.random.default_rng(seed)
    sizes = forest.domain.n_codes
    roots = {i: rng.dirichlet(np.ones(sizes[i])) for i in forest.order if forest.parent[i] < 0}
    children = {i: rng.dirichlet(np.ones(sizes[i]), size=sizes[forest.parent[i]]) for i in forest.children}
    return roots, children


def brute_force_joint(forest, roots, children):
    joint = np.ones(forest.domain.n_codes)
    n = len(forest.domain)
    for i in range(n):
        shape = [1] * n
        shape[i] = forest.domain.n_codes[i]
        parent = forest.parent[i]
        if parent < 0:
            joint = joint * roots[i].reshape(shape)
        else:
            shape[parent] = forest.domain.n_codes[parent]
            joint = joint * (children[i] if parent < i else children[i].T).reshape(shape)
    return joint


def project(joint, domain, columns):
    positions = [domain.columns.index(name) for name in columns]
    summed = joint.sum(axis=tuple(i for i in range(joint.ndim) if i not in positions))
    kept = sorted(positions)
    return summed.transpose([kept.index(p) for p in positions])


@given(random_forests(), st.integers(0, 2**32 - 1))
def test_a_forest_and_its_junction_tree_are_the_same_distribution(forest, seed):
    roots, children = random_conditionals(forest, seed)
    joint = brute_force_joint(forest, roots, children)
    marginals = clique_marginals(compose(forest, roots, children))
    assert {frozenset(edge) for edge in marginals.tree.edges} == {frozenset(edge) for edge in forest.edges}
    for k in range(1, len(forest.domain) + 1):
        for columns in itertools.permutations(forest.domain.columns, k):
            assert np.allclose(marginals.project(columns), project(joint, forest.domain, columns), atol=1e-12)


def test_a_cycle_and_an_unknown_column_are_refused():
    domain = Domain(("a", "b", "c"), (2, 2, 2))
    with pytest.raises(DomainMismatch, match="closes a cycle"):
        Forest(domain, [("a", "b"), ("b", "c"), ("c", "a")])
    with pytest.raises(UnknownColumn):
        Forest(domain, [("a", "z")])


def tree_table(seed, sizes=(3, 4, 2, 3), n=1000):
    """Counts of a distribution over the tree a-b, b-c, b-d that independent random conditionals make."""
    rng = np.random.default_rng(seed)
    b = rng.dirichlet(np.ones(sizes[1]))
    a, c, d = (rng.dirichlet(np.ones(sizes[i]), size=sizes[1]) for i in (0, 2, 3))
    return n * np.einsum("b,ba,bc,bd->abcd", b, a, c, d)


def test_exact_marginals_of_a_tree_give_back_edges_over_nodes():
    joint = tree_table(1)
    domain = Domain(("a", "b", "c", "d"), joint.shape)
    edges = [("a", "b"), ("b", "c"), ("b", "d")]
    cliques = [*((name,) for name in domain), *edges]
    evidence = [Evidence(clique, project(joint, domain, clique), 1.0) for clique in cliques]
    fit = fit_forest(Forest(domain, edges), evidence, total=joint.sum(), tolerance=1e-12)
    p = {clique: project(joint, domain, clique) / joint.sum() for clique in cliques}
    # p(a,b,c,d) = p(a,b) p(b,c) p(b,d) / p(b)^(3 - 1)
    formula = np.einsum("ab,bc,bd,b->abcd", p["a", "b"], p["b", "c"], p["b", "d"], p[("b",)] ** -2.0)
    assert fit.converged
    assert np.allclose(fit.marginals.project(domain.columns), formula, atol=1e-7)


def objective(joint, domain, evidence):
    return sum(
        0.5 / part.variance * np.square(project(joint, domain, part.columns) - part.values).sum() for part in evidence
    )


def best_joint(domain, evidence, total, impossible=None):
    """Least squares over all joint tables >= 0 with this total, by Lawson-Hanson: a different problem and solver."""
    cells = domain.cells(domain.columns)
    rows, right = [], []
    for part in evidence:
        design = np.stack(
            [project(unit.reshape(domain.n_codes), domain, part.columns).ravel() for unit in np.eye(cells)]
        )
        rows.append(design.T / math.sqrt(part.variance))
        right.append(part.values.ravel() / math.sqrt(part.variance))
    rows.append(np.full((1, cells), 1e4))
    right.append(np.array([1e4 * total]))
    matrix = np.vstack(rows)
    if impossible is not None:
        matrix = matrix[:, ~impossible.ravel()]
    solution, _ = nnls(matrix, np.concatenate(right), maxiter=100_000)
    if impossible is None:
        return solution.reshape(domain.n_codes)
    joint = np.zeros(cells)
    joint[~impossible.ravel()] = solution
    return joint.reshape(domain.n_codes)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise_std", [2.0, 60.0])
def test_the_fit_is_the_least_squares_optimum_over_all_tables(seed, noise_std):
    rng = np.random.default_rng(seed)
    joint = tree_table(seed, sizes=(3, 3, 2, 2), n=200)
    domain = Domain(("a", "b", "c", "d"), joint.shape)
    edges = [("a", "b"), ("b", "c")] if seed % 2 else [("a", "b"), ("b", "c"), ("c", "d")]
    evidence = []
    for clique in [*((name,) for name in domain), *edges]:
        exact = project(joint, domain, clique)
        std = noise_std * (1 if len(clique) == 1 else 1.7)
        evidence.append(Evidence(clique, np.rint(exact + rng.normal(0, std, exact.shape)), std**2))
    total = estimate_total(evidence)
    fit = fit_forest(Forest(domain, edges), evidence, total=total, tolerance=1e-10)
    fitted = total * fit.marginals.project(domain.columns)
    best = objective(best_joint(domain, evidence, total), domain, evidence)
    reached = objective(fitted, domain, evidence)
    assert fit.converged
    assert reached == pytest.approx(best, rel=1e-5, abs=1e-6)
    # The certified gap is honest: the optimum lies within it (the oracle's own error added).
    assert reached - best <= fit.gap_per_cell * sum(part.values.size for part in evidence) + 1e-5 * best + 1e-6


def test_structural_zeros_get_probability_zero_and_the_rest_is_still_optimal():
    rng = np.random.default_rng(8)
    domain = Domain(("a", "b", "c"), (3, 3, 2))
    zero_pair = np.zeros((3, 3), dtype=bool)
    zero_pair[0, 1] = zero_pair[2, 2] = True
    evidence = [
        Evidence(clique, rng.normal(30, 20, domain.sizes(clique)), 400.0)
        for clique in [("a",), ("b",), ("c",), ("a", "b"), ("b", "c")]
    ]
    forest = Forest(domain, [("b", "a"), ("b", "c")])
    zeros = {("a", "b"): zero_pair, ("c",): np.array([False, False])}
    fit = fit_forest(forest, evidence, total=180.0, zeros=zeros, tolerance=1e-10)
    fitted = 180.0 * fit.marginals.project(domain.columns)
    assert (project(fitted, domain, ("a", "b"))[zero_pair] == 0).all()
    impossible = np.broadcast_to(zero_pair[:, :, None], (3, 3, 2))
    best = objective(best_joint(domain, evidence, 180.0, impossible), domain, evidence)
    assert objective(fitted, domain, evidence) == pytest.approx(best, rel=1e-5)


def test_zeros_that_exclude_everything_are_named():
    forest = Forest(Domain(("a", "b"), (2, 2)), [("a", "b")])
    with pytest.raises(DomainMismatch, match="no possible row"):
        fit_forest(forest, [], total=10.0, zeros={("a", "b"): np.ones((2, 2), dtype=bool)})


def test_cliques_that_nobody_measured_become_independent():
    domain = Domain(("a", "b", "c"), (2, 2, 3))
    evidence = [Evidence(("a",), np.array([30.0, 70.0]), 1.0), Evidence(("b",), np.array([80.0, 20.0]), 1.0)]
    fit = fit_forest(Forest(domain, [("a", "b")]), evidence, total=100.0)
    assert np.allclose(fit.marginals.project(("a", "b")), np.outer([0.3, 0.7], [0.8, 0.2]), atol=1e-3)
    assert np.allclose(fit.marginals.project(("c",)), 1 / 3, atol=1e-3)


def test_evidence_outside_the_forest_is_refused():
    forest = Forest(Domain(("a", "b"), (2, 2)), [])
    with pytest.raises(DomainMismatch, match="a, b is no column or edge"):
        fit_forest(forest, [Evidence(("a", "b"), np.ones((2, 2)), 1.0)], total=4.0)


def test_repeated_measurements_are_averaged_by_inverse_variance_whatever_their_axes():
    domain = Domain(("a", "b"), (2, 3))
    first = np.arange(6).reshape(2, 3)
    second = first.T + 30
    merged = merge([Measurement(("a", "b"), first, 1.0), Measurement(("b", "a"), second, 2.0)], domain)
    assert list(merged) == [("a", "b")]
    # Weights 1 and 1/4: mean = first + 30 / 5; variance 1 / (1 + 1/4).
    assert np.allclose(merged["a", "b"].values, first + 6)
    assert merged["a", "b"].variance == pytest.approx(0.8)
    with pytest.raises(DomainMismatch, match="another shape"):
        merge([Measurement(("a",), np.zeros(3, dtype=np.int64), 1.0)], domain)


def test_the_total_is_at_least_one_however_negative_the_noise():
    assert estimate_total([Evidence(("a",), np.array([-50.0, 3.0]), 9.0)]) == 1.0


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8), st.floats(0.5, 50), st.integers(0, 2**32 - 1))
def test_no_point_of_the_simplex_is_nearer_than_the_projection(values, total, seed):
    y = np.array(values)
    x = on_simplex(y, total)
    assert x.min() >= 0
    assert x.sum() == pytest.approx(total)
    others = total * np.random.default_rng(seed).dirichlet(np.ones(y.size), size=50)
    assert (np.square(others - y).sum(axis=1) >= np.square(x - y).sum() - 1e-7).all()


@pytest.mark.parametrize("sizes", [(1,), (3,), (1, 2), (3, 2), (2, 3, 2)], ids=str)
def test_counts_that_are_all_below_zero_still_give_the_nearest_table(sizes):
    # As happens with few patients and a tiny budget: no cell is positive where Newton's method begins.
    domain = Domain(tuple("abc"[: len(sizes)]), sizes)
    rng = np.random.default_rng(4)
    values = [-rng.uniform(50, 90, size) for size in sizes]
    evidence = [Evidence((name,), part, 900.0) for name, part in zip(domain.columns, values, strict=True)]
    for edges in ([], [(domain.columns[0], name) for name in domain.columns[1:]]):
        fit = fit_forest(Forest(domain, edges), evidence, total=2.0)
        assert fit.converged
        for name, part in zip(domain.columns, values, strict=True):
            assert 2 * fit.marginals.project((name,)) == pytest.approx(on_simplex(part, 2.0), abs=0.5)
    only = fit_forest(Forest(domain, []), evidence, total=2.0, tolerance=1e-12)
    for name, part in zip(domain.columns, values, strict=True):
        assert 2 * only.marginals.project((name,)) == pytest.approx(on_simplex(part, 2.0), abs=1e-4)


def test_the_fit_of_a_large_noisy_tree_converges_at_high_and_low_budgets():
    rng = np.random.default_rng(3)
    sizes = (40, 3, 60, 12, 2, 30)
    domain = Domain(tuple("abcdef"), sizes)
    edges = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("a", "f")]
    codes = np.stack([rng.integers(0, rng.integers(1, size + 1), 5000) for size in sizes], axis=1)
    for std in (0.5, 5.0, 500.0):
        evidence = []
        for clique in [*((name,) for name in domain), *edges]:
            index = np.ravel_multi_index([codes[:, domain.position(n)] for n in clique], domain.sizes(clique))
            exact = np.bincount(index, minlength=domain.cells(clique)).reshape(domain.sizes(clique))
            evidence.append(Evidence(clique, exact + np.rint(rng.normal(0, std, exact.shape)), std**2))
        fit = fit_forest(Forest(domain, edges), evidence, total=estimate_total(evidence))
        assert fit.converged
        assert fit.iterations <= 30
