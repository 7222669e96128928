"""The fit on junction trees: its optimum is that of brute force, its certificate holds, its inner loop is exact."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from generators import Domain, DomainMismatch
from generators.calibration import Calibrator
from generators.estimation import fit_graph
from generators.factor import spread
from generators.forest import Forest
from generators.inference import Evidence, fit_forest
from generators.junction_tree import JunctionTree
from generators.propagation import propagate

DOMAIN = Domain(("a", "b", "c", "d", "e"), (3, 2, 4, 2, 3))
TOTAL = 500.0
SHAPES = {
    "chain": [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")],
    "tree": [("a", "b"), ("a", "c"), ("a", "d", "e")],
    "loop": [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("a", "e")],
    "disconnected": [("a", "b"), ("d", "e"), ("c",)],
    "nested": [("a", "b", "c"), ("a", "b"), ("b",), ("c", "d"), ("e",)],
    "one clique": [("a", "b", "c", "d", "e"), ("a", "e")],
}


def noisy_evidence(cliques, *, seed, stds=(3.0, 10.0)):
    """Counts of a skewed random table, with noise: small cells come out negative."""
    rng = np.random.default_rng(seed)
    joint = rng.gamma(0.15, size=DOMAIN.n_codes)
    joint *= TOTAL / joint.sum()
    out = []
    for clique in cliques:
        axes = tuple(axis for axis, name in enumerate(DOMAIN.columns) if name not in clique)
        std = float(rng.choice(stds))
        out.append(Evidence(clique, joint.sum(axis=axes) + std * rng.normal(size=DOMAIN.sizes(clique)), std**2))
    return out


def brute_force(evidence, zeros=None):
    """Return the least loss over all joint tables, by non-negative least squares with a heavy row for the total."""
    rows, right = [], []
    for part in evidence:
        axes = [DOMAIN.position(name) for name in part.columns]
        for index in np.ndindex(*part.values.shape):
            cell = np.ones(DOMAIN.n_codes)
            for axis, code in zip(axes, index, strict=True):
                cell *= spread(np.arange(DOMAIN.n_codes[axis]) == code, (DOMAIN.columns[axis],), DOMAIN.columns)
            rows.append(cell.ravel() / math.sqrt(part.variance))
            right.append(part.values[index] / math.sqrt(part.variance))
    possible = np.ones(DOMAIN.n_codes, dtype=bool)
    for clique, mask in (zeros or {}).items():
        possible &= ~spread(mask, clique, DOMAIN.columns)
    matrix = np.array([*rows, np.full(possible.size, 1e3)])[:, possible.ravel()]
    solution, _ = optimize.nnls(matrix, np.array([*right, 1e3 * TOTAL]))
    return 0.5 * float(np.square(matrix[:-1] @ solution - right).sum())


def loss_of(fit, evidence):
    return sum(
        0.5 * float(np.square(fit.estimate(part.columns) - part.values).sum()) / part.variance for part in evidence
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_fit_is_as_good_as_the_best_joint_table_and_its_certificate_holds(shape, seed):
    evidence = noisy_evidence(SHAPES[shape], seed=seed)
    fit = fit_graph(DOMAIN, evidence, total=TOTAL, tolerance=1e-6)
    least = brute_force(evidence)
    cells = sum(part.values.size for part in evidence)
    assert fit.converged
    assert fit.loss == pytest.approx(loss_of(fit, evidence), rel=1e-6)
    assert least - 1e-6 <= fit.loss <= least + 2e-3 * cells
    assert (fit.loss - least) / cells <= fit.gap_per_cell + 1e-9
    # The certificate says something: without any it would be f itself.
    assert fit.gap_per_cell < 0.25 * fit.loss / cells


def test_a_fit_that_is_stopped_early_says_so_and_its_certificate_still_holds():
    evidence = noisy_evidence(SHAPES["loop"], seed=3)
    fit = fit_graph(DOMAIN, evidence, total=TOTAL, max_iterations=5)
    cells = sum(part.values.size for part in evidence)
    assert not fit.converged
    assert 0.05 < (fit.loss - brute_force(evidence)) / cells <= fit.gap_per_cell


def test_structural_zeros_have_probability_zero_and_the_rest_is_the_best_that_is_left():
    zeros = {
        ("a", "d"): np.array([[False, True], [False, False], [True, False]]),
        ("b", "c"): np.array([[True, False, False, False], [False, False, False, True]]),
        ("e",): np.array([False, True, False]),
    }
    evidence = noisy_evidence(SHAPES["loop"], seed=4)
    fit = fit_graph(DOMAIN, evidence, total=TOTAL, zeros=zeros, tolerance=1e-6)
    for clique, mask in zeros.items():
        assert not fit.estimate(clique)[mask].any()
    least = brute_force(evidence, zeros)
    cells = sum(part.values.size for part in evidence)
    assert least > brute_force(evidence) + 1
    assert least - 1e-6 <= fit.loss <= least + 2e-3 * cells
    assert (fit.loss - least) / cells <= fit.gap_per_cell + 1e-9


def test_zeros_that_leave_nothing_are_an_error():
    with pytest.raises(DomainMismatch, match="no possible row"):
        fit_graph(DOMAIN, noisy_evidence([("a",)], seed=1), total=TOTAL, zeros={("b",): np.array([True, True])})


def test_on_forests_the_optimum_is_that_of_the_forest_fit():
    cliques = [(name,) for name in DOMAIN] + SHAPES["chain"]
    evidence = noisy_evidence(cliques, seed=5)
    graph = fit_graph(DOMAIN, evidence, total=TOTAL, tolerance=1e-7)
    forest = fit_forest(Forest(DOMAIN, SHAPES["chain"]), evidence, total=TOTAL, tolerance=1e-8)
    for pair in SHAPES["chain"]:
        assert np.abs(graph.estimate(pair) - TOTAL * forest.marginals.project(pair)).max() < 0.5


def test_exact_and_consistent_counts_are_reproduced():
    evidence = [
        Evidence(part.columns, part.values, 1.0) for part in noisy_evidence(SHAPES["loop"], seed=6, stds=[1e-9])
    ]
    fit = fit_graph(DOMAIN, evidence, total=TOTAL, tolerance=1e-8)
    for part in evidence:
        assert np.abs(fit.estimate(part.columns) - part.values).max() < 0.05


def test_uniform_counts_give_the_uniform_distribution():
    evidence = [Evidence(pair, np.full(DOMAIN.sizes(pair), TOTAL / DOMAIN.cells(pair)), 4.0) for pair in SHAPES["loop"]]
    fit = fit_graph(DOMAIN, evidence, total=TOTAL)
    assert fit.loss < 1e-9
    for triple in itertools.combinations(DOMAIN.columns, 3):
        assert np.allclose(fit.marginals.project(triple), 1 / DOMAIN.cells(triple))


def test_repeated_measurements_count_as_their_weighted_mean():
    first, second = (noisy_evidence([("a", "c")], seed=seed)[0] for seed in (7, 8))
    weight = 1 / first.variance + 1 / second.variance
    mean = (first.values / first.variance + second.values / second.variance) / weight
    both = fit_graph(DOMAIN, [first, second], total=TOTAL, tolerance=1e-7)
    merged = fit_graph(DOMAIN, [Evidence(("a", "c"), mean, 1 / weight)], total=TOTAL, tolerance=1e-7)
    assert np.allclose(both.estimate(("a", "c")), merged.estimate(("a", "c")), atol=1e-6)


def test_a_warm_start_on_another_tree_ends_at_the_same_optimum_in_fewer_calls():
    evidence = noisy_evidence(SHAPES["loop"], seed=9)
    before = fit_graph(DOMAIN, evidence[:-1], total=TOTAL, tolerance=1e-6)
    assert set(before.potentials) == {part.columns for part in evidence[:-1]}
    cold = fit_graph(DOMAIN, evidence, total=TOTAL, tolerance=1e-6)
    warm = fit_graph(DOMAIN, evidence, total=TOTAL, tolerance=1e-6, warm=before.potentials)
    again = fit_graph(DOMAIN, evidence, total=TOTAL, tolerance=1e-6, warm=cold.potentials)
    assert before.marginals.tree.cliques != cold.marginals.tree.cliques
    assert warm.loss == pytest.approx(cold.loss, abs=0.05)
    assert again.iterations < cold.iterations
    assert again.loss <= cold.loss + 1e-9


def test_cliques_that_must_be_together_are_in_the_tree():
    fit = fit_graph(DOMAIN, noisy_evidence([("a",), ("b",)], seed=1), total=TOTAL, cliques=[("a", "c", "e")])
    assert fit.marginals.tree.find(("a", "c", "e")) is not None
    assert np.allclose(fit.marginals.project(("c",)), 0.25)


@pytest.mark.parametrize(
    ("evidence", "zeros"),
    [
        ([], None),
        ([Evidence(("b", "a"), np.zeros((2, 3)), 1.0)], None),
        ([Evidence(("a", "b"), np.zeros((2, 3)), 1.0)], None),
        ([Evidence(("a",), np.zeros(3), 1.0)], {("b",): np.zeros(3, dtype=bool)}),
    ],
)
def test_evidence_that_does_not_fit_the_domain_is_refused(evidence, zeros):
    with pytest.raises(DomainMismatch):
        fit_graph(DOMAIN, evidence, total=TOTAL, zeros=zeros)


@given(
    st.lists(st.sets(st.sampled_from(DOMAIN.columns), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.lists(st.floats(0, 500), min_size=1, max_size=4),
)
def test_the_inner_loop_gives_the_marginals_of_belief_propagation_however_far_potentials_jump(sets, seed, scales):
    rng = np.random.default_rng(seed)
    cliques = list(dict.fromkeys(tuple(name for name in DOMAIN if name in group) for group in sets))
    zeros = {cliques[-1]: rng.random(DOMAIN.sizes(cliques[-1])) < 0.3}
    zeros[cliques[-1]].flat[0] = False
    tree = JunctionTree.build(DOMAIN, cliques)
    calibrator = Calibrator(tree, cliques, total=TOTAL, zeros=zeros)
    for scale in scales:
        theta = scale * rng.normal(size=calibrator.size)
        tables = [np.zeros(tree.shape(i)) for i in range(len(tree.cliques))]
        for clique, where in zip(cliques, calibrator.slices, strict=True):
            tables[tree.find(clique)] += spread(
                theta[where].reshape(DOMAIN.sizes(clique)), clique, tree.cliques[tree.find(clique)]
            )
        for clique, mask in zeros.items():
            tables[tree.find(clique)] += spread(np.where(mask, -np.inf, 0.0), clique, tree.cliques[tree.find(clique)])
        expected = propagate(tree, tables)
        got = calibrator.marginals(theta)
        assert calibrator.log_z == pytest.approx(expected.log_z, rel=1e-12, abs=1e-9)
        for clique, where in zip(cliques, calibrator.slices, strict=True):
            assert np.abs(got[where] - TOTAL * expected.project(clique).ravel()).max() < 1e-8


def test_the_inner_loop_refuses_cliques_outside_its_tree():
    tree = JunctionTree.build(DOMAIN, [("a", "b")])
    for clique in [("a", "c"), ("b", "a")]:
        with pytest.raises(DomainMismatch, match="junction tree"):
            Calibrator(tree, [clique], total=1.0)
