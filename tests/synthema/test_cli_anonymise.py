"""`synthema anonymise` and `synthema risk` on files: what they write, say, record and refuse."""

import hashlib
import json
import re
import shlex

import numpy as np
import pandas as pd
import pytest
from clinic_files import ROOT, anonymise, listed, rows, run, write_clinic

from anonymise import (
    AlphaKAnonymity,
    AverageRisk,
    BetaLikeness,
    DeltaDisclosure,
    DeltaPresence,
    KAnonymity,
    KMap,
    LDiversity,
    PopulationUniqueness,
    SampleUniqueness,
    Schema,
    TCloseness,
)
from anonymise import anonymise as anonymised
from synthema.cli.model_grammar import ModelOptions
from synthema.errors import PolicyError, TableError
from synthema.outputs import outputs
from synthema.release_models import MODELS, model_of, terms_of
from synthema.release_policy import ReleasePolicy
from synthema.tables import read_table


@pytest.fixture
def folder(tmp_path):
    return write_clinic(tmp_path)


def test_the_written_table_is_the_release_and_nothing_else(folder):
    body = json.loads(anonymise(folder, "--json").stdout, parse_constant=pytest.fail)
    schema = Schema.load(folder / "schema.toml")
    frame = read_table(folder / "in.csv", schema)
    expected = anonymised(frame, schema, models=[KAnonymity(4)], suppression_limit=0.1)
    assert body["node"] == dict(expected.node)
    assert (body["score"], body["suppressed"], body["optimal"]) == (expected.score, expected.suppressed, True)
    text = (folder / "out.csv").read_text()
    made = pd.read_csv(folder / "out.csv", dtype=str, keep_default_na=False)
    assert list(made.columns) == ["sex", "age", "diagnosis", "weeks"]
    assert len(made) == body["rows"] == 200 - body["suppressed"]
    assert made.groupby(["sex", "age"]).size().min() >= 4
    # No index, no trace of who it was, and whole numbers stay whole.
    assert "MRN" not in text
    assert set(made["weeks"]) <= {""} | set(map(str, range(400)))
    kept = expected.table.astype({"weeks": "Int64"}).astype(object).where(lambda t: t.notna(), "").astype(str)
    assert sorted(made.itertuples(index=False)) == sorted(map(tuple, kept.to_numpy().tolist()))
    assert body["ledger"] is None
    assert "No ledger" in body["note"]


def test_rows_leave_in_another_order_each_time(folder):
    anonymise(folder, out="1.csv")
    anonymise(folder, out="2.csv")
    one, two = folder / "1.csv", folder / "2.csv"
    assert rows(one) == rows(two)
    # 190 rows in one order by chance: 1 / 190!
    assert one.read_text() != two.read_text()


def test_the_text_says_what_was_done_and_that_nothing_recorded_it(folder):
    text = anonymise(folder, by=("--k", 4, "--l", "2:diagnosis", "--suppression", 0.1)).stdout
    assert "k-anonymity (k 4); l-diversity (l 2, attribute diagnosis)" in text
    assert "proven" in text
    assert "NOT IN ANY LEDGER" in text


@pytest.mark.parametrize("algorithm", ["mondrian", "local", "cell_suppression"])
def test_an_algorithm_that_can_be_attacked_says_so_and_its_table_keeps_the_model(folder, algorithm):
    files = ("--manifest", folder / "m.json", "--report", folder / "r.html")
    done = anonymise(folder, *files, "--algorithm", algorithm)
    assert "WARNING" in done.stdout
    assert "can be attacked" in done.stdout
    assert "proves no least" in done.stdout
    told = json.loads((folder / "m.json").read_text())
    assert (told["algorithm"], told["node"]) == (algorithm, None)
    made = pd.read_csv(folder / "out.csv", dtype=str)
    assert made.groupby(["sex", "age"]).size().min() >= 4
    body = json.loads(anonymise(folder, "--algorithm", algorithm, "--json", out="2.csv").stdout)
    assert (body["node"], body["gap"], body["optimal"]) == (None, None, False)
    assert "can be attacked" in body["warning"]


GRAMMAR = [
    (ModelOptions(k=5), [KAnonymity(5)]),
    (ModelOptions(l=("3:d",)), [LDiversity(3, attribute="d")]),
    (ModelOptions(l=("2.5:d:entropy",)), [LDiversity(2.5, attribute="d", kind="entropy")]),
    (ModelOptions(l=("3:a+b:recursive,2",)), [LDiversity(3, attribute=("a", "b"), kind="recursive", c=2)]),
    (ModelOptions(t=("0.2:d",)), [TCloseness(0.2, attribute="d")]),
    (
        ModelOptions(t=("0.2:d", ".3:e:ordered")),
        [TCloseness(0.2, attribute="d"), TCloseness(0.3, attribute="e", distance="ordered")],
    ),
    (ModelOptions(beta=("1:d",)), [BetaLikeness(1, attribute="d")]),
    (ModelOptions(beta=("2:d:enhanced",)), [BetaLikeness(2, attribute="d", kind="enhanced")]),
    (ModelOptions(delta_disclosure=("1.5:d",)), [DeltaDisclosure(1.5, attribute="d")]),
    (ModelOptions(k=3, alpha=("0.5:d",)), [AlphaKAnonymity(0.5, 3, attribute="d")]),
    (ModelOptions(k_map="5"), [KMap(5)]),
    (
        ModelOptions(k_map="5:1000:zero_truncated_poisson"),
        [KMap(5, population_size=1000, estimator="zero_truncated_poisson")],
    ),
    (ModelOptions(presence="0.1:0.5"), [DeltaPresence(0.1, 0.5)]),
    (ModelOptions(average_risk=0.1, sample_uniqueness=0.0), [AverageRisk(0.1), SampleUniqueness(0.0)]),
    (
        ModelOptions(population_uniqueness="0.05:900:pitman"),
        [PopulationUniqueness(0.05, population_size=900, estimator="pitman")],
    ),
]


@pytest.mark.parametrize(("options", "models"), GRAMMAR)
def test_every_model_has_an_option(options, models):
    made = [model_of(terms) for terms in options.terms()]
    assert made == models
    assert [model_of(terms_of(model)) for model in made] == models


def test_no_model_is_forgotten_in_the_grammar_or_the_policy():
    named = {type(model) for _, models in GRAMMAR for model in models}
    assert named == set(MODELS.values())
    import anonymise.models as all_models

    names = {name for name in all_models.__all__ if name not in ("AnyModel", "Model", "TableModel")}
    assert names == {made.__name__ for made in MODELS.values()}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ModelOptions(l=("diagnosis",)), "--l takes L:COLUMN"),
        (ModelOptions(l=("x:diagnosis",)), "--l needs a number"),
        (ModelOptions(l=("3:diagnosis:recursive",)), "recursive,C"),
        (ModelOptions(t=("0.2:",)), "--t takes"),
        (ModelOptions(alpha=("0.5:d",)), "--alpha needs --k"),
        (ModelOptions(presence="0.5"), "LOW:HIGH"),
    ],
)
def test_an_option_that_is_no_model_is_named(options, said):
    with pytest.raises(PolicyError, match=said):
        options.terms()


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"model": "k-anonymty", "k": 5}, "must be one of"),
        ({"model": "k-anonymity", "k": 1}, "protects nobody"),
        ({"model": "k-anonymity"}, "needs k"),
        ({"model": "k-anonymity", "k": 5, "l": 2}, "no parameter 'l'"),
        ({"k": 5}, "must be one of"),
    ],
)
def test_a_map_that_is_no_model_is_refused(terms, said):
    with pytest.raises(PolicyError, match=said):
        model_of(terms)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--k", 1), "protects nobody"),
        ((), "at least one privacy model"),
        (("--k", 4, "--suppression", 2), "suppression_limit"),
        (("--k", 4, "--quality", "beauty"), "quality"),
        (("--k", 4, "--algorithm", "magic"), "algorithm"),
        (("--l", "2:doctor"), "doctor"),
        (("--l", "2:age"), "quasi-identifier"),
        (("--k-map", 5), "population"),
        (("--k", 4, "--account", "a"), "together"),
        (("--k", 4, "--ledger", "none.db", "--account", "a"), "none.db"),
        (("--k", 4, "--static", "sex"), "patient_id"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(folder, words, said):
    before = listed(folder)
    assert said in anonymise(folder, by=words, code=2).stderr
    assert listed(folder) == before


def test_a_table_that_cannot_be_released_writes_nothing(folder):
    before = listed(folder)
    # All 200 in one class are too few.
    told = json.loads(anonymise(folder, "--json", by=("--k", 201), code=3).stdout)
    assert told["error"] == "NotAnonymisable"
    (folder / "in.csv").write_text("mrn,sex,age,diagnosis,weeks\nMRN-7777,X,30,HbSS,4\n")
    stderr = anonymise(folder, code=2).stderr
    assert "sex" in stderr
    assert "7777" not in stderr
    assert listed(folder) == before


def test_files_that_exist_stay_unless_forced_and_the_input_always(folder):
    anonymise(folder)
    before = (folder / "out.csv").read_bytes()
    assert "--force" in anonymise(folder, code=2).stderr
    assert (folder / "out.csv").read_bytes() == before
    anonymise(folder, "--force", by=("--k", 20, "--suppression", 0.1))
    assert rows(folder / "out.csv") != sorted(before.decode().splitlines())
    for name in ("in.csv", "schema.toml"):
        kept = (folder / name).read_bytes()
        assert "is read" in anonymise(folder, "--force", out=name, code=2).stderr
        assert (folder / name).read_bytes() == kept
    assert "two outputs" in anonymise(folder, "--report", folder / "x", out="x", code=2).stderr
    assert "folder" in anonymise(folder, out="nowhere/x.csv", code=2).stderr


def test_staged_files_appear_together_or_not_at_all(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    with outputs() as files:
        files.stage(one, lambda file: file.write("1"))
        assert not one.exists()
        assert len(listed(tmp_path)) == 1
    assert listed(tmp_path) == []
    with outputs() as files:
        files.stage(one, lambda file: file.write("1"))
        files.stage(two, lambda file: file.write("2"))
        files.commit()
    assert listed(tmp_path) == ["one", "two"]
    # Somebody else's file that came after the check is not replaced.
    with outputs() as files:
        files.stage(one, lambda file: file.write("3"))
        with pytest.raises(TableError):
            files.commit()
    assert one.read_text() == "1"
    assert listed(tmp_path) == ["one", "two"]


# ---------------------------------------------------------------- report and manifest


def test_the_manifest_names_hashes_versions_and_levels_and_no_value_or_count(folder):
    more = ("--manifest", folder / "m.json", "--report", folder / "r.html", "--json")
    body = json.loads(anonymise(folder, *more).stdout)
    told = json.loads((folder / "m.json").read_text())
    assert told["sha256"] == hashlib.sha256((folder / "out.csv").read_bytes()).hexdigest()
    assert told["policy_sha256"] == body["policy_sha256"]
    assert told["schema_sha256"] == Schema.load(folder / "schema.toml").content_hash()
    assert told["node"] == body["node"]
    assert told["models"] == ["KAnonymity(k=4)"]
    assert set(told["software"]) == {"python", "synthema", "numpy", "pandas"}
    assert told["ledger"] is None
    # Everything else would have to be looked at before it is told.
    allowed = {"format", "version", "table", "file", "sha256", "policy_sha256", "schema_sha256", "models", "algorithm",
               "node", "levels", "software", "ledger", "notice"}  # fmt: skip
    assert set(told) == allowed
    page = (folder / "r.html").read_text()
    assert "INTERNAL" in page
    assert body["policy_sha256"] in page
    assert "MRN-" not in page
    assert (folder / "r.html").stat().st_mode & 0o077 == 0


# ---------------------------------------------------------------- population and risk


def test_a_population_is_read_and_kept_in_the_policy(folder):
    people = pd.read_csv(folder / "in.csv")[["sex", "age"]]
    pd.concat([people] * 3).to_csv(folder / "people.csv", index=False)
    by = ("--k-map", 6, "--population", folder / "people.csv")
    policy = folder / "p.toml"
    one = json.loads(anonymise(folder, "--save-policy", policy, "--json", out="1.csv", by=by).stdout)
    two = json.loads(anonymise(folder, "--policy", policy, "--json", out="2.csv").stdout)
    assert one["node"] == two["node"]
    # Each row stands for three people, so classes of two are enough.
    made = pd.read_csv(folder / "1.csv")
    assert made.groupby(["sex", "age"]).size().min() >= 2


def test_risk_is_told_before_and_after_with_findings_and_candidates(folder):
    anonymise(folder)
    files = (folder / "in.csv", "--schema", folder / "schema.toml")
    body = json.loads(run("risk", *files, "--json", "--k", 4).stdout, parse_constant=pytest.fail)
    frame = pd.read_csv(folder / "in.csv")
    sizes = frame.groupby(["sex", "age"])["mrn"].transform("size")
    assert body["audience"] == "INTERNAL"
    assert body["before"]["sample_uniqueness"] == pytest.approx((sizes == 1).mean())
    assert body["before"]["smallest_class"] == sizes.min()
    assert [check["holds"] for check in body["before"]["models"]] == [False]
    assert any(finding["source"] == "EMA Policy 0070" for finding in body["findings"])
    assert body["quasi_identifiers_found"]["minimal"]
    both = (*files, "--released", folder / "out.csv", "--k", 4, "--report", folder / "r.html")
    text = run("risk", *both).stdout
    assert "KAnonymity(k=4): holds" in text
    assert "before" in text
    assert "single out" in text
    assert "EMA Policy 0070" in run("risk", *files).stdout
    assert "INTERNAL" in (folder / "r.html").read_text()
    assert "--force" in run("risk", *both, code=2).stderr
    assert "single out more" not in run("risk", *files, "--no-finder").stdout


def test_risk_refuses_a_released_table_of_other_columns(folder):
    (folder / "other.csv").write_text("sex,height\nF,180\n")
    done = run(
        "risk", folder / "in.csv", "--schema", folder / "schema.toml", "--released", folder / "other.csv", code=2
    )
    assert "height" in done.stderr
    assert "180" not in done.stderr


@pytest.mark.slow
def test_a_search_that_is_stopped_says_how_much_less_is_possible(folder):
    # Thirty columns of five levels: 9e20 combinations, and no proof in a moment.
    n = 30
    columns = {f"c{i}": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 15]} for i in range(n)}
    for column in columns.values():
        column["hierarchy"] = {"interval": [2, 4, 8]}
    Schema.from_dict({"table": {"name": "wide"}, "columns": columns}).save(folder / "schema.toml")
    rng = np.random.default_rng(2)
    pd.DataFrame({name: rng.integers(0, 16, 300) for name in columns}).to_csv(folder / "in.csv", index=False)
    by = ("--k", 5, "--suppression", 0.3, "--time-limit", 0.5)
    body = json.loads(anonymise(folder, "--json", by=by).stdout, parse_constant=pytest.fail)
    assert body["optimal"] is False
    assert 0 < body["gap"] <= body["score"]
    text = anonymise(folder, out="2.csv", by=by).stdout
    assert "not proven to be the least" in text


# ---------------------------------------------------------------- documentation


def test_the_documented_commands_work_as_written(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "anonymise" / "command.md").read_text(encoding="utf-8")
    schema, policy = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "registry.toml").write_text(schema, encoding="utf-8")
    rng = np.random.default_rng(4)
    n = 600
    columns = {
        "mrn": range(n),
        "age": rng.integers(20, 95, n),
        "sex": rng.choice(["F", "M"], n),
        "district": rng.choice(["1010", "1020", "1030", "2340", "2345", "2380"], n),
        "diagnosis": rng.choice(["AML", "CML", "MDS", "MPN"], n),
    }
    pd.DataFrame(columns).to_csv(tmp_path / "registry.csv", index=False)
    monkeypatch.chdir(tmp_path)
    text = "".join(re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL))
    lines = [shlex.split(line)[1:] for line in text.splitlines()]
    assert len(lines) == 9
    for line in lines:
        run(*line)
    made = {name: rows(tmp_path / f"{name}.csv") for name in ("second", "third", "fourth")}
    assert made["second"] == made["third"] == made["fourth"]
    saved = ReleasePolicy.load(tmp_path / "policy.toml")
    hashed = policy.replace('"..."', f'"{saved.schema_file.sha256}"')
    assert hashed == f"# policy.toml\n{saved.to_toml()}"
