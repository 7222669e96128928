"""Synthetic rows: as near to the model as whole rows can be, in an order that tells nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, spearmanr

from generators import Domain
from generators.factor import spread
from generators.junction_tree import JunctionTree
from generators.propagation import propagate
from generators.sampling import move_to_column_sums, round_rows, sample_codes

# A normal variable leaves this interval once in 10^6 tests.
Z_THRESHOLD = 4.9
N_ORDER_ROWS = 4000
N_REPEATS = 3000
N_CHI_SQUARE_ROWS = 200_000
P_THRESHOLD = 1e-6


def random_model(sizes, cliques, seed, spread=1.5, zero_share=0.0):
    rng = np.random.default_rng(seed)
    tree = JunctionTree.build(Domain(tuple("abcdefgh"[: len(sizes)]), tuple(sizes)), cliques)
    potentials = []
    for i in range(len(tree.cliques)):
        table = rng.normal(0, spread, tree.shape(i))
        table[rng.random(table.shape) < zero_share] = -np.inf
        potentials.append(table)
    return propagate(tree, potentials)


def counts_of(codes, domain, columns):
    index = np.ravel_multi_index([codes[:, domain.position(name)] for name in columns], domain.sizes(columns))
    return np.bincount(index, minlength=domain.cells(columns)).reshape(domain.sizes(columns))


@given(
    st.lists(st.integers(1, 12), min_size=4, max_size=4),
    st.sampled_from(
        [
            (),
            (("a", "b"), ("b", "c"), ("b", "d")),
            (("c", "d"),),
            (("a", "b", "c"), ("b", "c", "d")),
            (("a", "c", "d"), ("b", "d")),
            (("a", "b", "c", "d"),),
        ]
    ),
    st.integers(1, 400),
    st.integers(0, 2**32 - 1),
)
def test_every_column_is_within_one_row_of_the_model(sizes, cliques, n_rows, seed):
    marginals = random_model(sizes, cliques, seed)
    codes = sample_codes(marginals, n_rows, rng=np.random.default_rng(seed))
    assert codes.shape == (n_rows, 4)
    domain = marginals.tree.domain
    for name in domain:
        error = np.abs(counts_of(codes, domain, (name,)) / n_rows - marginals.project((name,))).max()
        assert error <= 1 / n_rows + 1e-9


def test_pairs_and_triples_come_out_as_the_model_says():
    marginals = random_model((6, 5, 4, 3), (("a", "b"), ("b", "c"), ("b", "d")), 1)
    domain = marginals.tree.domain
    n = 200_000
    codes = sample_codes(marginals, n, rng=np.random.default_rng(2))
    joined = counts_of(codes, domain, ("a", "b"))
    # Joined pairs are dealt from rounded tables: within a few rows of each cell.
    assert np.abs(joined - n * marginals.project(("a", "b"))).max() < 5
    # Columns joined only through b are dealt at random within b: multinomial noise, no more.
    apart = counts_of(codes, domain, ("c", "d")) / n
    p = marginals.project(("c", "d"))
    assert (np.abs(apart - p) / np.sqrt(p * (1 - p) / n)).max() < Z_THRESHOLD


def test_a_clique_of_three_comes_out_within_a_few_rows_of_each_cell():
    marginals = random_model((6, 5, 4, 3), (("a", "b", "c"), ("c", "d")), 9)
    n = 200_000
    codes = sample_codes(marginals, n, rng=np.random.default_rng(10))
    for columns in (("a", "b", "c"), ("a", "c"), ("b", "c"), ("c", "d")):
        assert np.abs(counts_of(codes, marginals.tree.domain, columns) - n * marginals.project(columns)).max() < 8


def pearson(counts, expected):
    """Pearson's chi-square, and the number of cells that can occur."""
    cells = expected > 0
    assert (counts[~cells] == 0).all()
    return float((np.square(counts - expected)[cells] / expected[cells]).sum()), int(cells.sum())


@pytest.mark.parametrize("cliques", [(("a", "b"), ("b", "c"), ("c", "d")), (("a", "b", "c"), ("b", "c", "d"))], ids=str)
def test_sampled_tables_follow_the_formula_for_trees_and_a_wrong_table_is_noticed(cliques):
    # The joint table of a junction tree is prod P(clique) / prod P(separator): made here from projections of a random
    # joint table, so nothing but the marginals of that table goes into the model.
    rng = np.random.default_rng(11)
    joint = rng.dirichlet(np.full(4 * 3 * 5 * 2, 2.0)).reshape(4, 3, 5, 2)
    letters = "abcd"

    def margin(columns):
        return np.einsum(f"abcd->{''.join(columns)}", joint)

    separators = [[name for name in cliques[i] if name in cliques[i + 1]] for i in range(len(cliques) - 1)]
    formula = np.ones(joint.shape)
    for columns, power in [*((c, 1) for c in cliques), *((s, -1) for s in separators)]:
        shape = [joint.shape[k] if letters[k] in columns else 1 for k in range(4)]
        formula = formula * margin(columns).reshape(shape) ** power
    tree = JunctionTree.build(Domain(tuple(letters), joint.shape), cliques)
    potentials = []
    for clique, separator in zip(tree.cliques, tree.separators, strict=True):
        log_separator = np.log(margin(separator)) if separator else np.zeros(())
        potentials.append(np.log(margin(clique)) - spread(log_separator, separator, clique))
    marginals = propagate(tree, potentials)
    codes = sample_codes(marginals, N_CHI_SQUARE_ROWS, rng=np.random.default_rng(12))
    counts = counts_of(codes, tree.domain, tuple(letters))
    # Stratified rows vary less than independent ones, so the usual threshold is on the safe side of a false alarm.
    statistic, cells = pearson(counts, N_CHI_SQUARE_ROWS * formula)
    assert chi2.sf(statistic, cells - 1) > P_THRESHOLD
    # Negative control: the random joint table is not the tree's, and neither are columns taken as independent.
    for wrong in (joint, np.einsum("a,b,c,d->abcd", *(margin((name,)) for name in letters))):
        statistic, cells = pearson(counts, N_CHI_SQUARE_ROWS * wrong)
        assert chi2.sf(statistic, cells - 1) < P_THRESHOLD


def test_rounding_is_fair_on_average():
    probabilities = np.array([[0.42, 0.33, 0.25], [0.05, 0.0, 0.95]])
    sums = np.array([7, 3])
    rng = np.random.default_rng(3)
    drawn = np.stack([round_rows(probabilities, sums, rng=rng) for _ in range(N_REPEATS)])
    ideal = probabilities * sums[:, None]
    assert (drawn.sum(axis=2) == sums).all()
    assert (np.abs(drawn - ideal) < 1).all()
    assert (drawn[:, 1, 1] == 0).all()
    # A count that is floor or ceiling has a variance of at most 1/4.
    assert np.abs(drawn.mean(axis=0) - ideal).max() < Z_THRESHOLD * 0.5 / math.sqrt(N_REPEATS)


def test_moving_rows_reaches_the_column_sums_and_respects_zeros():
    table = np.array([[5, 0, 0], [1, 3, 1]])
    ideal = np.array([[4.5, 0.5, 0.0], [1.0, 2.5, 1.5]])
    move_to_column_sums(table, ideal, np.array([5, 3, 2]))
    assert table.sum(axis=0).tolist() == [5, 3, 2]
    assert table.sum(axis=1).tolist() == [5, 5]
    assert table[0, 2] == 0
    # Nothing may enter the last column: its sum gives way, not the zero.
    stuck = np.array([[2, 0]])
    move_to_column_sums(stuck, np.array([[2.0, 0.0]]), np.array([1, 1]))
    assert stuck.tolist() == [[2, 0]]


def order_z_score(values):
    """Rank correlation of the values with their position, standardised: about normal if the order is random."""
    return spearmanr(np.arange(len(values)), values).statistic * math.sqrt(len(values) - 1)


def test_published_order_tells_nothing_and_a_sorted_table_is_noticed():
    marginals = random_model((9, 8, 7, 6), (("a", "b"), ("b", "c")), 4)
    codes = sample_codes(marginals, N_ORDER_ROWS, rng=np.random.default_rng(5))
    for i in range(4):
        assert abs(order_z_score(codes[:, i])) < Z_THRESHOLD
        # Neighbouring rows have nothing in common either.
        lag = np.corrcoef(codes[1:, i], codes[:-1, i])[0, 1] * math.sqrt(N_ORDER_ROWS - 1)
        assert abs(lag) < Z_THRESHOLD
    # Negative control: the same rows sorted by one column.
    by_last = codes[np.argsort(codes[:, 3], kind="stable")]
    assert abs(order_z_score(by_last[:, 3])) > Z_THRESHOLD


def test_a_seed_gives_the_same_rows():
    marginals = random_model((9, 8, 7, 6), (("a", "b"), ("b", "c")), 6)
    first, second = (sample_codes(marginals, 500, rng=np.random.default_rng(7)) for _ in range(2))
    third = sample_codes(marginals, 500, rng=np.random.default_rng(8))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cliques", [(("a", "b"), ("b", "c")), (("a", "b", "c"),), (("a", "b"), ("a", "c"))], ids=str)
def test_structural_zeros_never_appear(seed, cliques):
    marginals = random_model((5, 6, 3), cliques, seed, spread=2.0, zero_share=0.4)
    assert math.isfinite(marginals.log_z)
    codes = sample_codes(marginals, 37, rng=np.random.default_rng(seed))
    for clique in marginals.tree.cliques:
        counts = counts_of(codes, marginals.tree.domain, clique)
        assert counts.sum() == 37
        assert (counts[marginals.project(clique) == 0] == 0).all()


def test_a_clique_with_far_more_cells_than_rows_and_more_groups_than_16_bits_hold():
    marginals = random_model((300, 250, 3, 2), (("a", "b", "c"), ("a", "b", "d")), 13, spread=2.0)
    codes = sample_codes(marginals, 3000, rng=np.random.default_rng(14))
    for name in "abcd":
        assert (
            np.abs(counts_of(codes, marginals.tree.domain, (name,)) - 3000 * marginals.project((name,))).max() < 1.001
        )
    # d depends on a and b together. Its mean log probability given them is what the model says.
    conditional = marginals.project(("a", "b", "d"))
    conditional = conditional / conditional.sum(axis=2, keepdims=True)
    found = np.log(conditional[codes[:, 0], codes[:, 1], codes[:, 3]])
    joint = marginals.project(("a", "b", "d"))
    expected = float((joint * np.log(conditional)).sum())
    assert abs(found.mean() - expected) < Z_THRESHOLD * found.std() / math.sqrt(3000)
    # Negative control: d dealt without regard to a and b.
    shuffled = np.log(conditional[codes[:, 0], codes[:, 1], np.random.default_rng(15).permutation(codes[:, 3])])
    assert abs(shuffled.mean() - expected) > Z_THRESHOLD * found.std() / math.sqrt(3000)
