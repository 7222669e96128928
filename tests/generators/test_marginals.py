"""Domains and counting: against a slow count, and the sensitivity that every price rests on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import Domain, DomainMismatch, MarginalTooLarge, UnknownColumn, count_marginal
from generators.indicators import count_by_product, product_pays
from generators.marginals import _count, _plan, count_in_passes, count_marginals, smallest_dtype
from privacy import Schema


def slow_count(codes, domain, columns):
    out = np.zeros(domain.sizes(columns), dtype=np.int64)
    positions = [domain.columns.index(name) for name in columns]
    for row in codes.tolist():
        out[tuple(row[p] for p in positions)] += 1
    return out


@st.composite
def coded_tables(draw):
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    rows = draw(st.lists(st.tuples(*(st.integers(0, size - 1) for size in sizes)), min_size=1, max_size=30))
    domain = Domain(tuple("abcd"[: len(sizes)]), tuple(sizes))
    return domain, np.array(rows, dtype=smallest_dtype(domain))


@given(coded_tables())
def test_counts_equal_a_row_by_row_count(table):
    domain, codes = table
    for k in range(1, len(domain) + 1):
        for columns in itertools.permutations(domain.columns, k):
            assert np.array_equal(count_marginal(codes, domain, columns), slow_count(codes, domain, columns))


@given(coded_tables(), st.data())
def test_cliques_that_share_passes_are_counted_as_if_alone(table, data):
    domain, codes = table
    every = [c for k in range(1, len(domain) + 1) for c in itertools.permutations(domain.columns, k)]
    cliques = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=20))
    cut = data.draw(st.integers(0, len(codes)))
    for blocks in (codes, np.asfortranarray(codes), [codes[:cut], codes[cut:]]):
        for clique, counts in zip(cliques, count_marginals(blocks, domain, cliques), strict=True):
            assert np.array_equal(counts, slow_count(codes, domain, clique))


@given(coded_tables(), st.data())
def test_one_product_counts_what_passes_count(table, data):
    domain, codes = table
    every = [c for k in (1, 2) for c in itertools.permutations(domain.columns, k)]
    cliques = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=20))
    cut = data.draw(st.integers(0, len(codes)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generators.indicators._BLOCK_NUMBERS", data.draw(st.integers(1, 60)))
        for blocks in ([codes], [np.asfortranarray(codes)], [codes[:cut], codes[cut:]]):
            for clique, counts in zip(cliques, count_by_product(blocks, domain, cliques), strict=True):
                assert counts.dtype == np.int64
                assert counts.flags.c_contiguous
                assert np.array_equal(counts, slow_count(codes, domain, clique))


def test_the_product_is_for_many_pairs_of_small_columns_in_few_rows():
    domain = Domain(tuple(f"c{i}" for i in range(60)), (2,) * 58 + (30, 5000))
    small, pairs = domain.columns[:-1], list(itertools.combinations(domain.columns[:-1], 2))
    assert product_pays(pairs, domain, 500)
    assert not product_pays(pairs, domain, 500_000)
    assert not product_pays(pairs[:3], domain, 500)
    assert not product_pays([*pairs, small[:3]], domain, 500)
    assert not product_pays([*pairs, (small[0], "c59")], domain, 500)
    assert not product_pays([], domain, 500)


def test_a_hundred_columns_are_counted_alike_in_both_ways():
    domain = Domain(tuple(f"c{i}" for i in range(100)), (2, 3, 2, 12, 2) * 20)
    codes = skewed_codes(domain, 3_000, seed=2)
    cliques = [c for k in (1, 2) for c in itertools.combinations(domain.columns, k)]
    assert product_pays(cliques, domain, len(codes))
    by_passes = count_in_passes(
        cliques, domain, n_rows=len(codes), count=lambda passes: _count([codes], domain, passes)
    )
    for ours, theirs in zip(count_marginals(codes, domain, cliques), by_passes, strict=True):
        assert np.array_equal(ours, theirs)


def skewed_codes(domain, n_rows, seed):
    rng = np.random.default_rng(seed)
    return np.stack([(size * rng.beta(1, 3, n_rows)).astype(smallest_dtype(domain)) for size in domain.n_codes], axis=1)


def test_passes_over_groups_of_columns_lose_no_row_at_block_borders(monkeypatch):
    monkeypatch.setattr("generators.marginals._BLOCK_ROWS", 20_000)
    domain = Domain(tuple(f"c{i}" for i in range(12)), (2, 3, 7, 20, 20, 40, 90, 2, 1, 5, 300, 20))
    codes = skewed_codes(domain, 50_003, seed=1)
    cliques = [c for k in (1, 2) for c in itertools.combinations(domain.columns, k)]
    cliques += [domain.columns[:4], domain.columns[7:10], ("c10", "c6", "c5")]
    plan = _plan(cliques, domain, len(codes))
    assert len(plan) < len(cliques) / 2
    assert sorted(i for part in plan for i in part.answers) == list(range(len(cliques)))
    assert max(len(part.answers) for part in plan) > 4
    for clique, counts in zip(cliques, count_marginals(codes, domain, cliques), strict=True):
        flat = np.ravel_multi_index(
            [codes[:, domain.position(name)].astype(np.int64) for name in clique], domain.sizes(clique)
        )
        expected = np.bincount(flat, minlength=domain.cells(clique)).reshape(domain.sizes(clique))
        assert np.array_equal(counts, expected)


def test_a_table_without_rows_counts_to_zero():
    domain = Domain(("a", "b"), (2, 3))
    for nothing in (np.empty((0, 2), dtype=np.uint8), []):
        assert [counts.sum() for counts in count_marginals(nothing, domain, [("a",), ("b", "a")])] == [0, 0]
    assert count_marginals(np.zeros((4, 2), dtype=np.uint8), domain, []) == []


@given(coded_tables(), st.data())
def test_one_more_row_changes_each_marginal_in_one_cell_by_one(table, data):
    domain, codes = table
    row = data.draw(st.tuples(*(st.integers(0, size - 1) for size in domain.n_codes)))
    more = np.vstack([codes, np.array([row], dtype=codes.dtype)])
    for k in range(1, len(domain) + 1):
        for columns in itertools.combinations(domain.columns, k):
            change = count_marginal(more, domain, columns) - count_marginal(codes, domain, columns)
            assert change.sum() == 1
            assert np.abs(change).sum() == 1


@pytest.mark.parametrize("order", ["C", "F"])
def test_eight_bit_codes_neither_overflow_nor_lose_rows_at_block_borders(order):
    domain = Domain(("a", "b", "c"), (250, 200, 3))
    n_rows = 2 * 65_536 + 5
    rng = np.random.default_rng(1)
    codes = np.asarray(
        np.stack([rng.integers(0, size, n_rows) for size in domain.n_codes], axis=1), dtype=np.uint8, order=order
    )
    flat = np.ravel_multi_index(codes.astype(np.int64).T, domain.n_codes)
    expected = np.bincount(flat, minlength=domain.cells(domain.columns)).reshape(domain.n_codes)
    assert np.array_equal(count_marginal(codes, domain, domain.columns), expected)
    assert count_marginal(codes, domain, ("a",)).sum() == n_rows


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int64])
def test_columns_of_one_code_beside_one_of_256_and_codes_of_any_type_are_counted(dtype):
    domain = Domain(("a", "b", "c"), (1, 256, 2))
    codes = np.array([[0, 255, 1], [0, 255, 1], [0, 3, 0]], dtype=dtype)
    for clique in (("a", "b"), ("a", "b", "c"), ("b", "c"), ("c", "a", "b")):
        counts = count_marginal(codes, domain, clique)
        cell = dict(zip(domain.columns, (0, 255, 1), strict=True))
        assert counts.sum() == 3
        assert counts[tuple(cell[name] for name in clique)] == 2


def test_a_marginal_beyond_memory_is_refused_before_it_is_allocated():
    domain = Domain(("a", "b", "c"), (2000, 2000, 2000))
    with pytest.raises(MarginalTooLarge, match="8000000000 cells"):
        count_marginal(np.zeros((1, 3), dtype=np.uint16), domain, domain.columns)


def test_cells_of_a_wide_clique_do_not_overflow():
    domain = Domain(tuple(f"c{i}" for i in range(30)), (100,) * 30)
    assert domain.cells(domain.columns) == 10**60


def test_unknown_columns_and_wrong_shapes_are_named():
    domain = Domain(("a", "b"), (2, 2))
    codes = np.zeros((3, 2), dtype=np.uint8)
    with pytest.raises(UnknownColumn, match="'z' is not in the domain; known: a, b"):
        count_marginal(codes, domain, ("a", "z"))
    with pytest.raises(DomainMismatch, match="at least one column"):
        count_marginal(codes, domain, ())
    with pytest.raises(DomainMismatch, match="named once"):
        count_marginal(codes, domain, ("a", "a"))
    with pytest.raises(DomainMismatch, match=r"shape \(n_rows, 2\)"):
        count_marginal(codes[:, :1], domain, ("a",))


@pytest.mark.parametrize(
    ("columns", "sizes"), [((), ()), (("a", "a"), (2, 2)), (("a",), (2, 3)), (("a",), (0,))], ids=str
)
def test_a_domain_checks_itself(columns, sizes):
    with pytest.raises(DomainMismatch):
        Domain(columns, sizes)


def test_the_domain_holds_the_coded_columns_in_the_schemas_order(clinic_schema):
    domain = Domain.from_schema(clinic_schema)
    assert domain.columns == ("sex", "pregnant", "age", "wbc", "blasts", "visits", "time", "event")
    assert domain.n_codes == (2, 3, 5, 6, 3, 3, 4, 2)
    assert dict(domain)["age"] == 5
    assert "pid" not in domain


def test_a_schema_without_codes_has_no_domain():
    schema = Schema.from_dict({"columns": {"pid": {"role": "identifier"}}})
    with pytest.raises(DomainMismatch, match="nothing can be generated"):
        Domain.from_schema(schema)
