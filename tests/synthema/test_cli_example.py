"""`synthema example aml`: what it writes is what the other commands read."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from privacy import Schema
from synthema.aml import aml_schema
from synthema.cli.app import app
from synthema.study import Study
from synthema.tables import read_table


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_files_are_a_study_that_runs(tmp_path):
    told = run("example", "aml", "--out", tmp_path / "aml", "--sites", 2, "--patients", 60, "--seed", 4)
    assert told.exit_code == 0
    assert "simulated" in told.stdout
    assert "SIMULATED" in (tmp_path / "aml" / "README.txt").read_text(encoding="utf-8")
    study = Study.load(tmp_path / "aml" / "study.toml")
    assert study.data_schema == aml_schema() == Schema.load(tmp_path / "aml" / "schema.toml")
    ids: set[str] = set()
    for name, section in study.sites.items():
        frame = read_table(tmp_path / "aml" / section.file, study.data_schema)
        assert len(frame) == 60, name
        ids |= set(frame["ID"])
    assert len(ids) == 120
    done = run("simulate", tmp_path / "aml" / "study.toml", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["costs"]["steps"][0]["step"] == "marginals"
    table = pd.read_csv(tmp_path / "out" / "synthetic.csv")
    assert (len(table), table.shape[1]) == (1000, 12)


def test_a_seed_repeats_the_files_and_json_lists_them(tmp_path):
    texts = []
    for folder in ("one", "two"):
        told = run("example", "aml", "--out", tmp_path / folder, "--patients", 20, "--seed", 9, "--json")
        files = json.loads(told.stdout)["files"]
        assert len(files) == 3 + 3
        texts.append({name.rsplit("/", 1)[1]: Path(name).read_text(encoding="utf-8") for name in files})
    assert texts[0] == texts[1]


@pytest.mark.parametrize("wrong", [("--sites", 1), ("--patients", 3)])
def test_a_federation_of_one_or_a_handful_of_patients_is_refused(tmp_path, wrong):
    assert run("example", "aml", "--out", tmp_path, *wrong).exit_code == 2
