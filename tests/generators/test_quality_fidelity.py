"""Distances, associations, propensity and rare groups: closed forms, independent computations, calibrated nulls."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from generators import Domain, encode
from generators.quality import distances as distances_module
from generators.quality.association import cramers_v, spearman
from generators.quality.distances import distances, some_cliques
from generators.quality.propensity import propensity
from generators.quality.rulers import Bench
from generators.quality.subgroups import BANDS, rare_subgroups
from privacy import Schema

# Draws behind each calibration, and how many standard errors a mean may be off: 6e-5 by chance, both sides.
N_DRAWS = 150
Z_LIMIT = 4.0


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema.from_dict(
        {
            "columns": {
                "a": {"role": "quasi-identifier", "categories": ["0", "1", "2"]},
                "b": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 9], "edges": [2, 4, 6, 8]},
                "c": {"role": "quasi-identifier", "categories": ["0", "1"], "nullable": True},
                "d": {"kind": "continuous", "bounds": [0, 1], "edges": [0.25, 0.5, 0.75]},
            }
        }
    )


def _frame(n: int, rng: np.random.Generator) -> pd.DataFrame:
    b = rng.integers(0, 10, n)
    c = np.where(rng.random(n) < 0.1, None, np.where(rng.random(n) < b / 10, "1", "0"))
    d = np.clip(b / 10 + rng.normal(0, 0.2, n), 0, 1)
    return pd.DataFrame({"a": rng.choice(["0", "1", "2"], n, p=[0.6, 0.3, 0.1]), "b": b, "c": c, "d": d})


def _shuffled(codes, rng):
    return np.stack([rng.permutation(column) for column in codes.T], axis=1)


def test_a_large_marginal_is_counted_by_its_occupied_cells_with_the_same_result(schema, monkeypatch):
    rng = np.random.default_rng(1)
    domain = Domain.from_schema(schema)
    one, *others = (encode(_frame(n, rng), schema) for n in (300, 200, 150))
    cliques = [clique for k in (1, 2, 3) for clique in itertools.combinations(domain.columns, k)]
    dense = distances(one, others, domain, cliques)
    monkeypatch.setattr(distances_module, "_SMALL_TABLE", 0)
    monkeypatch.setattr(distances_module, "MAX_CELLS", 1)
    assert np.allclose(distances(one, others, domain, cliques), dense)


def test_a_sample_of_cliques_has_no_repetition_and_all_of_few_are_taken():
    domain = Domain(tuple("abcdefghij"), (2,) * 10)
    assert some_cliques(domain, 3, at_most=120, rng=np.random.default_rng(1)) == tuple(
        itertools.combinations("abcdefghij", 3)
    )
    sample = some_cliques(domain, 3, at_most=50, rng=np.random.default_rng(1))
    assert len(set(sample)) == 50
    assert all(tuple(sorted(clique)) == clique for clique in sample)


def test_associations_equal_scipys():
    from scipy.stats import spearmanr
    from scipy.stats.contingency import association

    rng = np.random.default_rng(2)
    x = rng.integers(0, 5, 500)
    y = np.clip(x + rng.integers(-2, 3, 500), 0, 4)
    table = pd.crosstab(x, y).to_numpy()
    assert spearman(table) == pytest.approx(spearmanr(x, y).statistic)
    # Bergsma 2013, equations (8) to (10), from the uncorrected V.
    n, r = 500, 5
    phi2 = association(table, method="cramer") ** 2 * (r - 1) - (r - 1) ** 2 / (n - 1)
    assert cramers_v(table) == pytest.approx(np.sqrt(phi2 / (r - (r - 1) ** 2 / (n - 1) - 1)))
    assert spearman(np.array([[3, 2]])) == cramers_v(np.array([[3, 2]])) == 0.0


@pytest.mark.slow
def test_the_propensity_null_is_calibrated_and_dependence_that_is_lost_is_seen(schema):
    rng = np.random.default_rng(20_263)
    domain, columns = Domain.from_schema(schema), {column.name: column for column in schema.modelled}
    n, m = 1500, 1000
    real = encode(_frame(n, rng), schema)
    resampled, other, lost = [], [], []
    for _ in range(N_DRAWS):
        resampled.append(propensity(real, real[rng.integers(0, n, m)], domain, columns, rng=rng))
        other.append(propensity(real, encode(_frame(m, rng), schema), domain, columns, rng=rng))
    lost = [propensity(real, _shuffled(real, rng)[:m], domain, columns, rng=rng) for _ in range(10)]
    z = np.array([each.z for each in resampled])
    # Standardised: mean 0, variance 1; a sample variance of chi-squareds has variance (2 + 12 / df) / N.
    assert abs(z.mean()) < Z_LIMIT / np.sqrt(N_DRAWS)
    assert abs(z.var() - 1) < Z_LIMIT * np.sqrt((2 + 12 / resampled[0].n_features) / N_DRAWS)
    # Other patients of the same population: 1 / (1 - c) times the null of a resample, c = m / (n + m). The real rows
    # are the same in every draw, so their own chance stays: hence the wide margin.
    ratio = np.mean([each.ratio for each in other])
    assert ratio == pytest.approx((n + m) / n, rel=0.25)
    # Negative control: equal columns, nothing that goes together.
    assert min(each.z for each in lost) > 10 * Z_LIMIT
    assert min(each.auc for each in lost) > 0.6


def test_a_copy_is_never_told_apart_and_a_disjoint_table_always(schema):
    rng = np.random.default_rng(4)
    domain, columns = Domain.from_schema(schema), {column.name: column for column in schema.modelled}
    low = _frame(400, rng).assign(a="0", b=1)
    codes, others = encode(low, schema), encode(low.assign(a="1", b=9), schema)
    same = propensity(codes, codes, domain, columns, rng=rng)
    assert same.ratio == pytest.approx(0, abs=1e-6)
    assert same.auc == pytest.approx(0.5)
    apart = propensity(codes, others, domain, columns, rng=rng)
    assert apart.auc == 1.0
    assert apart.share_of_most > 0.95


def test_rare_groups_are_those_of_a_count_by_hand(schema):
    rng = np.random.default_rng(5)
    real, synthetic = _frame(900, rng), _frame(500, rng)
    bench = Bench.of(real, synthetic, None, schema, n_resamples=2, rng=rng)
    found = rare_subgroups(bench, rng=rng)
    assert found.cliques == (("a", "b", "c"),)
    a, b = (
        pd.Series(list(map(tuple, table.codes[:, :3].tolist()))).value_counts()
        for table in (bench.real, bench.synthetic)
    )
    bands = {(band.low, band.high): band for band in found.bands}
    for low, high in BANDS:
        rare = a[(a >= low) & (a <= high)]
        if len(rare) == 0:
            assert (low, high) not in bands
            continue
        band = bands[low, high]
        there = b.reindex(rare.index).fillna(0)
        assert band.n_combinations == len(rare)
        assert band.present == pytest.approx((there > 0).mean())
        assert band.frequency_ratio == pytest.approx((there.sum() / 500) / (rare.sum() / 900))
    invented = next(figure for figure in found.figures if figure.name == "invented_share")
    assert invented.value == pytest.approx(b[~b.index.isin(a.index)].sum() / 500)
    assert invented.copy == 0


def test_rare_groups_are_judged_by_other_patients_only(schema):
    rng = np.random.default_rng(6)
    real, synthetic, holdout = (_frame(n, rng) for n in (600, 600, 600))
    without, beside = (
        rare_subgroups(Bench.of(real, synthetic, other, schema, n_resamples=1, rng=rng), rng=rng).figures
        for other in (None, holdout)
    )
    assert {figure.verdict for figure in without} == {None}
    assert {figure.verdict for figure in beside} == {"good"}
    lost = synthetic.assign(a="0")
    poor = rare_subgroups(Bench.of(real, lost, holdout, schema, n_resamples=1, rng=rng), rng=rng).figures
    assert poor[0].verdict == "poor"
