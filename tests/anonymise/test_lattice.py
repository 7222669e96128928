import itertools
import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small_lattices import EvenClasses, hierarchies

from anonymise import KAnonymity, TimeLimitReached, build_hierarchy, encode_table, lattice
from anonymise.checking import Checker, failing_tuples
from anonymise.classes import Classes
from anonymise.lattice import search
from anonymise.loss import Loss
from privacy.schema import Column, HierarchySpec, Schema

DATA = Path(__file__).parent / "data"


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


@settings(max_examples=4 * settings.default.max_examples)
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


@settings(max_examples=2 * settings.default.max_examples)
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


@settings(max_examples=2 * settings.default.max_examples)
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


@settings(max_examples=2 * settings.default.max_examples)
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


def every_score(data, chosen, models, max_suppressed):
    """Every feasible node and its score, by the checker of one node and sums over rows: no bound takes part."""
    metric = Loss.of(chosen)
    checker = Checker(data, models)
    scores = {}
    for node in itertools.product(*(range(levels) for levels in data.shape)):
        failing = checker.failing(node)
        n_failing = int(data.counts[failing].sum())
        if n_failing <= max_suppressed:
            kept = data.counts[~failing] @ metric.row_losses(data.leaves[:, ~failing], node)
            scores[node] = (float(kept) + n_failing) / data.n_rows
    return scores


@st.composite
def wide_tables(draw):
    """Three or four columns and up to 60 rows, drawn by NumPy: lattices of up to 625 nodes."""
    chosen = [draw(hierarchies(f"q{i}")) for i in range(draw(st.integers(3, 4)))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_rows = draw(st.integers(5, 60))
    columns = [np.array(h.labels[0], dtype=object)[rng.zipf(1.5, n_rows) % h.n_leaves] for h in chosen]
    return chosen, list(zip(*columns, strict=True))


@given(wide_tables(), st.integers(2, 4), st.sampled_from([0, 1, 5, 60]), st.booleans(), st.sampled_from([1, 5, 10_000]))
def test_the_search_finds_what_checking_every_node_finds(table, k, max_suppressed, not_closed, max_boxes):
    chosen, rows = table
    data = encoded(chosen, rows)
    models = [KAnonymity(k), EvenClasses()] if not_closed else [KAnonymity(k)]
    scores = every_score(data, chosen, models, max_suppressed)
    found = search(data, Loss.of(chosen), models, max_suppressed=max_suppressed, max_boxes=max_boxes)
    if found is None:
        assert not scores
    else:
        best = min(scores.values())
        assert found.node == min(node for node, score in scores.items() if score < best + 1e-12)
        assert found.score == pytest.approx(best, abs=1e-13)
        assert found.proven
        assert found.bound == found.score


class Steps:
    """A clock that goes on by a second whenever it is read: a time limit becomes a number of steps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now


def stopped_after(steps, *args, monkeypatch, **kwargs):
    with monkeypatch.context() as patched:
        patched.setattr(lattice, "time", Steps())
        return search(*args, time_limit=steps + 0.5, **kwargs)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wide_tables(), st.integers(2, 4), st.sampled_from([0, 1, 5, 60]), st.booleans(), st.sampled_from([1, 10_000]))
def test_the_optimum_lies_in_the_gap_wherever_the_search_is_stopped(
    monkeypatch, table, k, max_suppressed, not_closed, max_boxes
):
    chosen, rows = table
    data = encoded(chosen, rows)
    models = [KAnonymity(k), EvenClasses()] if not_closed else [KAnonymity(k)]
    scores = every_score(data, chosen, models, max_suppressed)
    last = -math.inf
    for steps in (1, 2, 4, 8, 16, 32, 64):
        try:
            found = stopped_after(
                steps,
                data,
                Loss.of(chosen),
                models,
                monkeypatch=monkeypatch,
                max_suppressed=max_suppressed,
                max_boxes=max_boxes,
            )
        except TimeLimitReached:
            continue
        if found is None:
            assert not scores
            return
        assert found.score == pytest.approx(scores[found.node], abs=1e-13)
        assert found.bound <= min(scores.values()) + 1e-12
        assert found.gap >= 0.0
        assert found.bound >= last - 1e-12
        last = found.bound


def test_a_search_that_is_stopped_before_it_knows_anything_says_so(monkeypatch):
    # All five patients together are an odd class, so the most general node is no answer, but others may be.
    chosen = [build_hierarchy(Column(name, categories=tuple("xyz"))) for name in "ab"]
    rows = [("x", "x"), ("x", "x"), ("y", "y"), ("y", "y"), ("z", "z")]
    args = encoded(chosen, rows), Loss.of(chosen), [EvenClasses()]
    with pytest.raises(TimeLimitReached, match="raise time_limit"):
        stopped_after(0, *args, monkeypatch=monkeypatch, max_suppressed=1)
    assert search(*args, max_suppressed=1).node == (0, 0)


def test_progress_is_told_and_its_bound_only_rises():
    chosen, rows = columns_of_intervals(12, 64, n_rows=200)
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lattice, "time", Steps())
        found = search(encoded(chosen, rows), Loss.of(chosen), [KAnonymity(5)], max_suppressed=4, progress=seen.append)
    assert found.proven
    assert len(seen) > 10
    bounds = [one.bound for one in seen]
    assert bounds == sorted(bounds)
    assert all(one.bound <= found.score <= one.score for one in seen)
    assert [one.n_checked for one in seen] == sorted(one.n_checked for one in seen)
    assert seen[-1].n_checked <= found.n_checked


def columns_of_intervals(n_columns, n_values, n_rows):
    """Columns that hang together: each is a noisy copy of one hidden value."""
    widths = tuple(2**i for i in range(1, n_values.bit_length() - 1))
    chosen = [
        build_hierarchy(
            Column(f"q{i}", kind="integer", bounds=(0, n_values - 1), hierarchy=HierarchySpec("interval", widths))
        )
        for i in range(n_columns)
    ]
    rng = np.random.default_rng(8)
    hidden = rng.integers(0, n_values, n_rows)
    columns = [np.clip(hidden + rng.integers(-3, 4, n_rows), 0, n_values - 1) for _ in chosen]
    return chosen, list(zip(*columns, strict=True))


def test_columns_that_mirror_each_other_have_a_known_optimum():
    # 4^12 = 1.7e7 nodes. All columns tell the same, so a class at a node is a group of the lowest level in it, and
    # raising any column further only loses.
    chosen, _ = columns_of_intervals(12, 8, n_rows=1)
    values = np.repeat(np.arange(8), 3)
    found = search(encoded(chosen, [(v,) * 12 for v in values]), Loss.of(chosen), [KAnonymity(5)], max_suppressed=0)
    # Pairs of values, 6 patients each, are the smallest classes of at least 5.
    assert found.node == (1,) * 12
    assert found.proven
    assert found.score == pytest.approx((2 / 8 - 1 / 8) / (1 - 1 / 8), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("max_suppressed", [0, 50])
def test_fifteen_quasi_identifiers_are_searched_to_the_proof(max_suppressed):
    # Couples of Adult: nine columns of one person, six of the other; 1.4e7 nodes.
    schema = Schema.load(DATA / "adult.toml")
    people = pd.read_csv(DATA / "adult.csv.gz", sep=";", nrows=2000)
    of_partner = ["sex", "age", "marital-status", "education", "workclass", "occupation"]
    columns = [people[name][:1000] for name in schema.names] + [people[name][1000:] for name in of_partner]
    chosen = [build_hierarchy(schema.column(name)) for name in [*schema.names, *of_partner]]
    data = encode_table(columns, chosen)
    assert math.prod(data.shape) > 10**7
    metric = Loss.of(chosen)
    found = search(data, metric, [KAnonymity(3)], max_suppressed=max_suppressed)
    assert found.proven
    # No other node that was drawn at random is better, near the optimum or far from it.
    rng = np.random.default_rng(5)
    n_feasible = 0
    for at in range(300):
        if at % 2:
            node = tuple(int(rng.integers(0, levels, 4).max()) for levels in data.shape)
        else:
            moved = np.array(found.node) + rng.integers(-1, 2, len(data.shape))
            node = tuple(np.clip(moved, 0, np.array(data.shape) - 1).tolist())
        failing = failing_tuples(data, [KAnonymity(3)], node)
        n_failing = int(data.counts[failing].sum())
        if n_failing > max_suppressed:
            continue
        n_feasible += 1
        kept = data.counts[~failing] @ metric.row_losses(data.leaves[:, ~failing], node)
        assert (kept + n_failing) / data.n_rows >= found.score - 1e-12
    assert n_feasible > 10


@pytest.mark.parametrize("k", [1, 0, -3, 2.0, True, "5"])
def test_k_is_a_whole_number_of_at_least_two(k):
    with pytest.raises(ValueError, match="k must be an integer >= 2"):
        KAnonymity(k)
