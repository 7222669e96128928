import itertools
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from anonymise import KAnonymity, build_hierarchy, encode_table
from anonymise.checking import failing_tuples
from anonymise.classes import Classes
from anonymise.lattice import search
from anonymise.loss import Loss
from privacy.schema import Column, HierarchySpec


@dataclass(frozen=True)
class EvenClasses:
    """A model made up for this test: classes have an even size. A failing class has passing parts."""

    downward_closed: bool = False
    monotone: bool = True
    least_rows: int = 2
    attribute: None = None
    needs_population: bool = False

    def class_fails(self, classes):
        return classes.sizes % 2 == 1

    def least_lost(self, classes):
        # All parts of an odd class cannot be even.
        return np.ones(len(classes), dtype=np.int64)


@st.composite
def hierarchies(draw, name):
    """A random tree: groups of each level are merged into groups of the next."""
    n_leaves = draw(st.integers(1, 5))
    levels = [list(range(n_leaves))]
    for _ in range(draw(st.integers(1, 3))):
        merged = draw(st.lists(st.integers(0, 2), min_size=5, max_size=5))
        levels.append([merged[group] for group in levels[-1]])
    if draw(st.booleans()):
        levels.append([0] * n_leaves)
    rows = tuple(tuple(f"{at}:{level[leaf]}" for at, level in enumerate(levels)) for leaf in range(n_leaves))
    return build_hierarchy(
        Column(name, categories=tuple(row[0] for row in rows), hierarchy=HierarchySpec("rows", rows=rows))
    )


@st.composite
def tables(draw):
    chosen = [draw(hierarchies(f"q{i}")) for i in range(draw(st.integers(1, 3)))]
    n_rows = draw(st.integers(2, 14))
    row = st.tuples(*(st.sampled_from(hierarchy.labels[0]) for hierarchy in chosen))
    return chosen, draw(st.lists(row, min_size=n_rows, max_size=n_rows))


def encoded(chosen, rows):
    return encode_table([np.array(column, dtype=object) for column in zip(*rows, strict=True)], chosen)


def brute_force(chosen, rows, models, max_suppressed):
    """Every node, by dictionaries and fractions; the lexicographically first of the exactly best ones."""
    best = None
    for node in itertools.product(*(range(hierarchy.n_levels) for hierarchy in chosen)):
        generalised, losses = [], []
        for row in rows:
            cells, loss = [], Fraction(0)
            for hierarchy, level, value in zip(chosen, node, row, strict=True):
                texts = [hierarchy.labels[level][code] for code in hierarchy.codes[level]]
                text = texts[hierarchy.labels[0].index(value)]
                cells.append(text)
                if len(texts) > 1:
                    share = Fraction(texts.count(text), len(texts))
                    loss += (share - Fraction(1, len(texts))) / (1 - Fraction(1, len(texts)))
            generalised.append(tuple(cells))
            losses.append(loss / len(chosen))
        sizes = Counter(generalised)
        fails = {
            cell
            for cell, size in sizes.items()
            if any(m.class_fails(Classes(np.array([size]), len(rows)))[0] for m in models)
        }
        suppressed = sum(sizes[cell] for cell in fails)
        if suppressed > max_suppressed:
            continue
        kept = sum((loss for cell, loss in zip(generalised, losses, strict=True) if cell not in fails), Fraction(0))
        score = (kept + suppressed) / len(rows)
        if best is None or score < best[1]:
            best = node, score, suppressed
    return best


@settings(deadline=None, max_examples=250)
@given(tables(), st.integers(2, 4), st.integers(0, 14), st.booleans())
def test_the_search_finds_what_brute_force_finds(table, k, max_suppressed, with_a_model_that_is_not_closed):
    chosen, rows = table
    models = [KAnonymity(k), EvenClasses()] if with_a_model_that_is_not_closed else [KAnonymity(k)]
    expected = brute_force(chosen, rows, models, max_suppressed)
    found = search(encoded(chosen, rows), Loss.of(chosen), models, max_suppressed=max_suppressed)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert (found.node, found.n_suppressed) == (expected[0], expected[2])
        assert found.score == pytest.approx(float(expected[1]), abs=1e-13)


def test_brute_force_would_notice_a_bound_that_claims_too_much():
    # Negative control: declaring the even-size model closed makes the search drop nodes that are feasible.
    wrong = 0
    rng = np.random.default_rng(20)
    rows_of = tuple((str(i), f"g{i // 2}", "*") for i in range(6))
    chosen = [
        build_hierarchy(Column(n, categories=tuple("012345"), hierarchy=HierarchySpec("rows", rows=rows_of)))
        for n in "ab"
    ]
    for _ in range(20):
        rows = [tuple(str(v) for v in rng.integers(0, 6, 2)) for _ in range(12)]
        models = [EvenClasses(downward_closed=True)]
        found = search(encoded(chosen, rows), Loss.of(chosen), models, max_suppressed=4)
        expected = brute_force(chosen, rows, models, 4)
        wrong += (found and found.node) != (expected and expected[0])
    assert wrong > 0


@settings(deadline=None, max_examples=100)
@given(tables(), st.integers(2, 4))
def test_generalising_never_makes_more_rows_fail(table, k):
    chosen, rows = table
    data = encoded(chosen, rows)
    failing = {
        node: failing_tuples(data, [KAnonymity(k)], node)
        for node in itertools.product(*(range(levels) for levels in data.shape))
    }
    for low, high in itertools.product(failing, repeat=2):
        if all(a <= b for a, b in zip(low, high, strict=True)):
            assert (failing[high] <= failing[low]).all()


@settings(deadline=None, max_examples=100)
@given(tables(), st.integers(2, 3), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_optimum_does_not_depend_on_the_order_of_rows_or_columns(table, k, max_suppressed, random):
    chosen, rows = table
    models = [KAnonymity(k)]
    one = search(encoded(chosen, rows), Loss.of(chosen), models, max_suppressed=max_suppressed)
    shuffled = random.sample(rows, len(rows))
    assert search(encoded(chosen, shuffled), Loss.of(chosen), models, max_suppressed=max_suppressed) == one
    turned = search(
        encoded(chosen[::-1], [row[::-1] for row in rows]),
        Loss.of(chosen[::-1]),
        models,
        max_suppressed=max_suppressed,
    )
    assert (one is None) == (turned is None)
    if one is not None:
        assert turned.score == pytest.approx(one.score, abs=1e-13)


@settings(deadline=None, max_examples=100)
@given(tables(), st.integers(2, 3), st.integers(0, 7))
def test_a_larger_suppression_limit_or_smaller_k_never_loses_more(table, k, max_suppressed):
    chosen, rows = table
    data = encoded(chosen, rows)
    here = search(data, Loss.of(chosen), [KAnonymity(k)], max_suppressed=max_suppressed)
    assume(here is not None)
    for freer in (
        search(data, Loss.of(chosen), [KAnonymity(k)], max_suppressed=max_suppressed + 1),
        search(data, Loss.of(chosen), [KAnonymity(max(2, k - 1))], max_suppressed=max_suppressed),
    ):
        assert freer is not None
        assert freer.score <= here.score + 1e-12


def test_equal_scores_are_decided_by_the_lowest_level_vector():
    # Two columns that mirror each other: generalising either one gives the same score.
    chosen = [build_hierarchy(Column(name, categories=("x", "y"))) for name in "ab"]
    rows = [("x", "y"), ("x", "x"), ("y", "y"), ("y", "x")]
    found = search(encoded(chosen, rows), Loss.of(chosen), [KAnonymity(2)], max_suppressed=0)
    assert found is not None
    assert found.node == (0, 1)


@pytest.mark.parametrize("k", [1, 0, -3, 2.0, True, "5"])
def test_k_is_a_whole_number_of_at_least_two(k):
    with pytest.raises(ValueError, match="k must be an integer >= 2"):
        KAnonymity(k)
