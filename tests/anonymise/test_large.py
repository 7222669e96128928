"""Tables read in parts: the same release as from memory, wherever the parts come from; nothing is written half."""

import sqlite3
from collections import Counter
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from anonymise import AverageRisk, KAnonymity, KMap, LDiversity, Schema, TCloseness, anonymise
from anonymise.errors import NotAnonymisable, TableChanged
from anonymise.large import SqlTable, plan_release, release_to_csv
from privacy import InsecureSeededRng
from privacy.errors import SchemaError

DATA = Path(__file__).parent / "data"
WITH_SENSITIVE = [KAnonymity(5), LDiversity(3, attribute="occupation"), TCloseness(0.4, attribute="occupation")]


@pytest.fixture(scope="module")
def schema():
    whole = Schema.load(DATA / "adult.toml").to_dict()
    whole["columns"]["occupation"]["role"] = "sensitive"
    return Schema.from_dict(whole)


@pytest.fixture(scope="module")
def adult():
    return pd.read_csv(DATA / "adult.csv.gz", sep=";").head(4000)


def parts(frame, n):
    return [frame.iloc[at : at + n] for at in range(0, len(frame), n)]


def rows(frame):
    return Counter(frame.astype(str).itertuples(index=False, name=None))


@pytest.mark.parametrize("models", [[KAnonymity(5)], WITH_SENSITIVE, [KAnonymity(3), AverageRisk(0.1)]], ids=str)
def test_a_table_in_parts_is_released_as_one_in_memory(schema, adult, models):
    whole = anonymise(adult, schema, models=models, suppression_limit=0.05)
    source = parts(adult, 900)
    plan = plan_release(source, schema, models=models, suppression_limit=0.05)
    assert dict(plan.node) == dict(whole.node)
    assert (plan.suppressed, plan.n_rows) == (whole.suppressed, len(adult))
    assert plan.score == pytest.approx(whole.score, abs=1e-12)
    released = pd.concat([part.astype(str) for part in plan.release(source)])
    assert rows(released) == rows(whole.table)


def tables(adult):
    database = sqlite3.connect(":memory:")
    adult.to_sql("adult", database, index=False)
    warehouse = duckdb.connect()
    warehouse.register("rows", adult)
    warehouse.execute('CREATE TABLE "adult" AS SELECT * FROM rows')
    return {
        "frame": adult,
        "sqlite": SqlTable(database, "adult"),
        "duckdb": SqlTable(warehouse, ("main", "adult")),
    }


@pytest.mark.parametrize("kind", ["frame", "sqlite", "duckdb"])
def test_databases_count_and_the_release_is_the_same(schema, adult, kind):
    whole = anonymise(adult, schema, models=WITH_SENSITIVE, suppression_limit=0.05)
    source = tables(adult)[kind]
    plan = plan_release(source, schema, models=WITH_SENSITIVE, suppression_limit=0.05)
    assert dict(plan.node) == dict(whole.node)
    assert rows(pd.concat([part.astype(str) for part in plan.release(source)])) == rows(whole.table)


@pytest.mark.parametrize("lazy", [False, True])
def test_frames_of_polars_are_released_as_well(schema, adult, lazy):
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    source = polars.DataFrame(adult.to_dict("list"))
    source = source.lazy() if lazy else source
    plan = plan_release(source, schema, models=WITH_SENSITIVE, suppression_limit=0.05)
    whole = anonymise(adult, schema, models=WITH_SENSITIVE, suppression_limit=0.05)
    assert rows(pd.concat([part.astype(str) for part in plan.release(source)])) == rows(whole.table)


def test_spellings_that_a_collation_takes_for_equal_are_told_apart():
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE patients (gene TEXT COLLATE NOCASE)")
    database.executemany("INSERT INTO patients VALUES (?)", [("tet2",)] * 3 + [("TET2",)])
    schema = Schema.from_dict({"columns": {"gene": {"role": "quasi-identifier", "categories": ["tet2", "TET2"]}}})
    plan = plan_release(SqlTable(database, "patients"), schema, models=[KAnonymity(3)], suppression_limit=0.25)
    assert (dict(plan.node), plan.suppressed) == ({"gene": 0}, 1)


def test_the_file_holds_the_release_in_a_random_order(schema, adult, tmp_path):
    source = parts(adult, 1500)
    plan = plan_release(source, schema, models=[KAnonymity(5)], suppression_limit=0.02)
    path = tmp_path / "out.csv"
    release_to_csv(plan, source, path, bucket_rows=600)
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    whole = anonymise(adult, schema, models=[KAnonymity(5)], suppression_limit=0.02)
    assert rows(written) == rows(whole.table)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileExistsError):
        release_to_csv(plan, source, path)


def test_the_order_of_a_file_does_not_tell_the_order_of_the_table(tmp_path):
    # 6,000 rows whose sensitive value is their number; p of the rank correlation above 1e-4.
    schema = Schema.from_dict(
        {
            "columns": {
                "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
                "number": {"role": "sensitive", "kind": "integer", "bounds": [0, 10_000]},
            }
        }
    )
    n = 6000
    frame = pd.DataFrame({"sex": ["F", "M"] * (n // 2), "number": np.arange(n)})
    source = parts(frame, 1000)
    plan = plan_release(source, schema, models=[KAnonymity(2)])
    release_to_csv(plan, source, tmp_path / "out.csv", bucket_rows=1500, rng=InsecureSeededRng(3))
    number = pd.read_csv(tmp_path / "out.csv")["number"].to_numpy()
    assert sorted(number) == list(range(n))
    limit = 3.9 / np.sqrt(n)
    assert abs(np.corrcoef(np.arange(n), number)[0, 1]) < limit
    # Negative control: part by part, the parts' order shows.
    in_parts = np.concatenate([part["number"].to_numpy() for part in plan.release(source, rng=InsecureSeededRng(3))])
    assert abs(np.corrcoef(np.arange(n), in_parts)[0, 1]) > limit


def test_a_table_that_changed_is_not_written(schema, adult, tmp_path):
    source = parts(adult, 1500)
    plan = plan_release(source, schema, models=[KAnonymity(5)], suppression_limit=0.02)
    changed = [*source[:-1], source[-1].iloc[::-1].iloc[: len(source[-1]) - 1]]
    other = adult.iloc[:1].assign(age=17, **{"native-country": "Holand-Netherlands", "race": "Other"})
    with pytest.raises(TableChanged):
        release_to_csv(plan, changed, tmp_path / "out.csv")
    with pytest.raises(TableChanged):
        release_to_csv(plan, [*changed, other], tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"table": {"name": "t", "patient_id": "id"}}, "several rows a patient"),
        ({"rules": [{"forbid": {"a": "x", "b": "x"}}]}, "rules between columns"),
        ({"missing": "suppress"}, "missing = 'suppress'"),
        ({"missing": "wildcard"}, "missing = 'wildcard'"),
    ],
)
def test_what_needs_the_table_in_memory_is_refused(change, rule):
    columns = {
        "id": {"role": "identifier"},
        "a": {"role": "quasi-identifier", "categories": ["x", "y"], "nullable": True},
        "b": {"role": "quasi-identifier", "categories": ["x", "y"]},
    }
    if "missing" in change:
        columns["a"]["missing"] = change.pop("missing")
    schema = Schema.from_dict({"columns": columns, **change})
    with pytest.raises(SchemaError, match=rule):
        plan_release([], schema, models=[KAnonymity(2)])


def test_populations_and_sources_that_can_be_read_once_are_refused(schema, adult):
    with pytest.raises(NotAnonymisable, match="population"):
        plan_release([adult], schema, models=[KMap(5)])
    with pytest.raises(TypeError, match="read twice"):
        plan_release(iter([adult]), schema, models=[KAnonymity(5)])
    with pytest.raises(SchemaError, match="'age'"):
        plan_release([adult.drop(columns="age")], schema, models=[KAnonymity(5)])
    with pytest.raises(NotAnonymisable, match="fewer patients"):
        plan_release([adult.head(3)], schema, models=[KAnonymity(5)])


def test_nothing_of_the_patients_is_shown(schema, adult):
    plan = plan_release([adult], schema, models=[KAnonymity(5)], suppression_limit=0.02)
    assert repr(plan) == f"Plan(node={dict(plan.node)!r})"


def test_the_form_of_a_number_does_not_tell_its_part(tmp_path):
    schema = Schema.from_dict(
        {
            "columns": {
                "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
                "count": {"role": "sensitive", "kind": "integer", "bounds": [0, 9], "nullable": True},
                "level": {"role": "sensitive", "kind": "continuous", "bounds": [0, 9], "edges": [3, 6]},
                "event": {"role": "sensitive", "categories": ["0", "1"], "nullable": True},
            }
        }
    )
    whole = {"sex": ["F", "M"], "count": [1, 2], "level": [1, 2], "event": [0, 1]}
    lacking = {"sex": ["F", "M"], "count": [1, None], "level": [1.5, 2], "event": [1, None]}
    source = [pd.DataFrame(whole), pd.DataFrame(lacking)]
    plan = plan_release(source, schema, models=[KAnonymity(2)])
    release_to_csv(plan, source, tmp_path / "out.csv")
    written = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert set(written["count"]) == {"1", "2", ""}
    assert set(written["level"]) == {"1.0", "2.0", "1.5"}
    assert set(written["event"]) == {"0", "1", ""}
