"""The clinical features end to end: every door to the rows codes them alike, and a model keeps them in its file."""

from __future__ import annotations

import itertools
import sqlite3

import numpy as np
import pandas as pd
import pytest

from anonymise import KAnonymity, anonymise
from generators import (
    ChowLiu,
    Domain,
    LocalTableOracle,
    compare_marginals,
    cumulative_incidence,
    decode,
    encode,
    private_edges,
    private_leaves,
)
from generators.sql import SqlOracle
from privacy import Schema
from privacy.randomness import InsecureSeededRng

REGISTRY = {
    "columns": {
        "diagnosis": {"kind": "date", "bounds": ["2000-01-01", "2019-12-31"], "step": "year", "dtype": "text"},
        "transplant": {"kind": "date", "bounds": ["2000-01-01", "2022-12-31"], "step": "year", "nullable": True},
        "icd": {
            "categories": ["C91.0", "C91.1", "C92.0", "C92.1", "D46.9"],
            "hierarchy": {"prefix": [3, 1]},
            "model_level": 1,
        },
        "wbc": {"kind": "continuous", "bounds": [0, 500], "edges": [10, 50], "decimals": 1, "nullable": True},
        "ldh": {"kind": "integer", "bounds": [0, 5000], "edges": [250, 500], "nullable": True},
        "time": {"kind": "integer", "bounds": [0, 6000], "edges": [365, 730, 1825, 3650]},
        "event": {"categories": ["0", "1", "2"]},
    },
    "survival": {"time": "time", "event": "event", "competing": {"1": "relapse", "2": "death"}, "horizon": 3650},
    "missing": {"patterns": [["wbc", "ldh"]]},
    "rules": [{"order": ["diagnosis", "transplant"]}],
}


@pytest.fixture(scope="module")
def schema():
    return Schema.from_dict(REGISTRY)


@pytest.fixture(scope="module")
def registry(schema):
    rng = np.random.default_rng(1)
    n = 4000
    diagnosis = np.datetime64("2000-01-01") + rng.integers(0, 7304, n)
    transplant = diagnosis + rng.integers(30, 1000, n)
    transplant[rng.random(n) < 0.4] = np.datetime64("NaT")
    missing = rng.random(n) < 0.3
    rate = rng.choice([1500, 4000], n)
    first, second, loss = rng.exponential(rate), rng.exponential(3000, n), rng.uniform(1000, 6000, n)
    time = np.minimum(np.minimum(first, second), loss)
    event = np.where(time == loss, 0, np.where(time == first, 1, 2))
    frame = pd.DataFrame(
        {
            "diagnosis": diagnosis.astype(str),
            "transplant": transplant,
            "icd": rng.choice(REGISTRY["columns"]["icd"]["categories"], n, p=[0.3, 0.05, 0.4, 0.2, 0.05]),
            "wbc": np.where(missing, np.nan, np.round(rng.gamma(1.5, 20, n).clip(0, 500), 1)),
            "ldh": np.where(missing & (rng.random(n) < 0.9), np.nan, rng.integers(100, 900, n)),
            "time": np.ceil(time).astype(int),
            "event": event.astype(str),
        }
    )
    schema.validate(frame)
    return frame


def in_sqlite(frame):
    connection = sqlite3.connect(":memory:")
    plain = frame.assign(transplant=frame["transplant"].dt.strftime("%Y-%m-%d")).astype(object)
    plain.where(plain.notna(), None).to_sql("registry", connection, index=False)
    return connection


def test_a_database_counts_dates_groups_patterns_and_horizons_as_the_table_does(schema, registry):
    connection = in_sqlite(registry)
    domain = Domain.from_schema(schema)
    local, sql = LocalTableOracle(registry, schema), SqlOracle(connection, "registry", schema)
    cliques = [*((name,) for name in domain), *itertools.combinations(domain.columns, 2)]
    for clique, ours, theirs in zip(cliques, local._count(cliques), sql._count(cliques), strict=True):
        assert np.array_equal(ours, theirs), clique
    connection.close()


def test_what_the_codes_of_a_column_depend_on(schema):
    assert schema.needed_for(["event"]) == ("time", "event")
    assert schema.needed_for(["missing(wbc,ldh)"]) == ("wbc", "ldh")
    assert schema.needed_for(["icd"]) == ("icd",)


def test_a_model_of_everything_obeys_the_schema_and_survives_its_file(schema, registry, tmp_path):
    binned, paid = private_edges(registry, schema, bins={"ldh": 5}, rho=0.1, rng=InsecureSeededRng(1))
    weighted, also_paid = private_leaves(registry, binned, rho=0.1, rng=InsecureSeededRng(2))
    model = ChowLiu(epsilon=3.0, delta=1e-9).fit(registry, weighted, rng=InsecureSeededRng(3))
    model.save(tmp_path / "model.synthema")
    again = ChowLiu.load(tmp_path / "model.synthema")
    assert again.schema == weighted
    table = again.sample(4000, rng=np.random.default_rng(4))
    weighted.validate(table)
    assert list(table.columns) == list(registry.columns)
    assert table["transplant"].dtype == np.dtype("datetime64[s]")
    assert table["diagnosis"].str.fullmatch(r"\d{4}-\d{2}-\d{2}").all()
    assert table["time"].between(1, 3650).all()
    assert len(paid) + len(also_paid) + len(model.events) == 3 + 1 + 1
    together = table["wbc"].isna() & table["ldh"].isna()
    assert together.mean() == pytest.approx((registry["wbc"].isna() & registry["ldh"].isna()).mean(), abs=0.03)
    assert compare_marginals(registry, table, weighted).mean_one_way < 0.1
    # Conditions on a date, a group and a category that lies in it.
    for given in ({"diagnosis": "2005-06-01"}, {"icd": "C92**"}, {"icd": "C92.1"}):
        part = model.sample(300, given=given, rng=np.random.default_rng(5))
        name = next(iter(given))
        assert set(part[name].str[: 4 if name == "diagnosis" else 3]) == {
            given[name][: 4 if name == "diagnosis" else 3]
        }


def test_cumulative_incidences_of_competing_events_are_kept(schema, registry):
    model = ChowLiu(epsilon=10.0, delta=1e-9).fit(registry, schema, rng=InsecureSeededRng(6))
    table = model.sample(4000, rng=np.random.default_rng(7))
    grid = [180, 365, 730, 1000, 1825, 3000, 3650]
    real, ours = (cumulative_incidence(t["time"], t["event"].astype(int), grid, n_causes=2) for t in (registry, table))
    assert np.abs(real - ours).max() < 0.03
    # The negative control: causes exchanged.
    assert np.abs(real - ours[::-1]).max() > 0.1


def test_one_more_row_with_extremes_changes_no_shape(schema, registry):
    extreme = registry.iloc[[0]].assign(
        diagnosis="2019-12-31", transplant=np.datetime64("NaT"), wbc=500.0, ldh=np.nan, time=6000, event="2"
    )
    more = pd.concat([registry, extreme], ignore_index=True)
    assert encode(more, schema).shape == (len(registry) + 1, len(Domain.from_schema(schema)))
    for clique in (("time", "event"), ("missing(wbc,ldh)",)):
        [first], [second] = (LocalTableOracle(t, schema)._count([clique]) for t in (registry, more))
        assert np.abs(first - second).sum() == 1


def test_times_of_day_are_decoded_at_the_schemas_resolution():
    seen = {"kind": "date", "bounds": ["2020-01-01", "2020-01-03"], "resolution": "hour", "bins": 4, "nullable": True}
    schema = Schema.from_dict({"columns": {"seen": seen, "text": seen | {"dtype": "text"}}})
    codes = np.repeat(np.arange(5), 50)[:, None].repeat(2, axis=1)
    table = decode(codes, schema, rng=np.random.default_rng(8))
    assert (table["seen"].dropna().dt.minute == 0).all()
    assert table["text"].dropna().str.fullmatch(r"2020-01-0[123]T\d\d:00").all()
    assert table["text"].isna().sum() == table["seen"].isna().sum() == 50
    assert np.array_equal(encode(table, schema), codes)


def test_anonymisation_reads_the_same_dates():
    schema = Schema.from_dict(
        {
            "columns": {
                "born": {
                    "role": "quasi-identifier",
                    "kind": "date",
                    "bounds": ["1950-03-01", "1960-12-31"],
                    "step": "year",
                    "hierarchy": {"date": ["month", "year"]},
                },
                "died": {"kind": "date", "bounds": ["1990-01-01", "2020-12-31"], "nullable": True},
            },
            "rules": [{"order": ["born", "died"]}],
        }
    )
    frame = pd.DataFrame({"born": ["1950-03-01", "1950-07-04", "1960-12-31", "1960-02-29"], "died": None})
    result = anonymise(frame, schema, models=[KAnonymity(2)])
    assert sorted(result.table["born"]) == ["1950", "1950", "1960", "1960"]
