from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anonymise import KAnonymity, Schema, anonymise, assess_risk, build_hierarchy, encode_table
from anonymise.checking import failing_tuples
from anonymise.loss import Loss

DATA = Path(__file__).parent / "data"
# ARX 3.9.2 on the same rows: k = 5, Loss with arithmetic mean, factor 0.5.
ARX = [
    (0.0, (0, 4, 1, 1, 3, 2, 2, 1, 0), 0.6355438466888889, 0, 181),
    (0.02, (0, 3, 0, 2, 2, 1, 1, 2, 0), 0.35748248986666664, 506, 1110),
    (1.0, (0, 3, 0, 0, 2, 1, 1, 1, 0), 0.22770032318888891, 2553, 3449),
]


@pytest.fixture(scope="module")
def schema():
    return Schema.load(DATA / "adult.toml")


@pytest.fixture(scope="module")
def adult():
    return pd.read_csv(DATA / "adult.csv.gz", sep=";")


@pytest.mark.parametrize(("limit", "node", "score", "suppressed", "arx_checks"), ARX)
def test_node_score_and_suppressed_rows_are_those_of_arx(schema, adult, limit, node, score, suppressed, arx_checks):
    result = anonymise(adult, schema, models=[KAnonymity(5)], suppression_limit=limit)
    assert tuple(result.node.values()) == node
    assert tuple(result.node) == schema.quasi_identifiers
    assert result.suppressed == suppressed
    assert result.score == pytest.approx(score, abs=1e-9)
    assert result.optimal
    assert result.gap == 0.0
    assert result.n_checked < 2 * arx_checks
    # An independent count over the released text.
    classes = Counter(result.table.itertuples(index=False, name=None))
    assert min(classes.values()) >= 5
    assert sum(classes.values()) == len(adult) - suppressed


@pytest.mark.parametrize(("node", "score", "suppressed"), [row[1:4] for row in ARX])
def test_the_score_is_arxs_to_the_last_digit_once_its_rounding_is_applied(schema, adult, node, score, suppressed):
    # ARX cuts each attribute's loss to ten decimals before it takes the mean; this is its only difference.
    hierarchies = [build_hierarchy(schema.column(name)) for name in schema.names]
    data = encode_table([adult[name] for name in schema.names], hierarchies)
    kept = ~failing_tuples(data, [KAnonymity(5)], node)
    sums = Loss.of(hierarchies).level_sums(data.leaves[:, kept], data.counts[kept].astype(float))
    columns = [(column[level] * 9 + suppressed) / len(adult) for column, level in zip(sums, node, strict=True)]
    cut = [np.floor(column * 1e10 + 1e-4) / 1e10 for column in columns]
    assert np.mean(cut) == pytest.approx(score, abs=1e-15)


@pytest.mark.slow
def test_order_of_rows_and_columns_changes_nothing(schema, adult):
    turned = Schema(name="adult", columns=schema.columns[::-1])
    shuffled = adult.sample(frac=1.0, random_state=4)[list(turned.names)]
    here = anonymise(adult, schema, models=[KAnonymity(5)], suppression_limit=0.02)
    there = anonymise(shuffled, turned, models=[KAnonymity(5)], suppression_limit=0.02)
    assert dict(here.node) == dict(there.node)
    assert here.score == pytest.approx(there.score, abs=1e-13)
    columns = list(schema.names)
    assert Counter(here.table[columns].itertuples(index=False)) == Counter(there.table[columns].itertuples(index=False))


def test_risks_of_the_raw_table_are_those_of_arx(schema, adult):
    report = assess_risk(adult, schema)
    assert report.average_prosecutor_risk == 0.6465751607983555
    assert report.sample_uniqueness == 0.5142895033485844
    assert (report.n_records, report.n_classes) == (30162, 19502)


def test_risks_of_the_released_table_respect_k(schema, adult):
    result = anonymise(adult, schema, models=[KAnonymity(11)], suppression_limit=0.05)
    report = assess_risk(result.table, schema)
    assert report.max_prosecutor_risk <= 1 / 11
    assert report.sample_uniqueness == 0.0
    assert dict(report.share_above)[0.09] == 0.0
    assert dict(report.share_above)[0.05] > 0.0
