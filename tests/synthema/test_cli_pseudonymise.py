"""`synthema pseudonymise` on files: names, dates, keys, and what it refuses."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from anonymise import PseudonymKey
from anonymise import pseudonymise as names_of
from synthema.cli.app import app

SCHEMA = """
[table]
name = "visits"
patient_id = "mrn"
[columns.mrn]
role = "identifier"
[columns.name]
role = "identifier"
[columns.day]
role = "quasi-identifier"
kind = "date"
bounds = ["2020-01-01", "2024-12-31"]
hierarchy = { date = ["month", "year"] }
[columns.hb]
role = "sensitive"
kind = "continuous"
bounds = [0, 25]
nullable = true
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "schema.toml").write_text(SCHEMA)
    # Twenty patients, a visit a month; the second visit has no value.
    rows = [
        f"MRN-{i},Ada {i},2022-{month:02}-{1 + i:02},{'' if month == 2 else 8 + month}\n"
        for month in (1, 2, 5)
        for i in range(20)
    ]
    (tmp_path / "in.csv").write_text("mrn,name,day,hb\n" + "".join(rows))
    return tmp_path


def run(folder, *more, code=0, out="out.csv"):
    files = (folder / "in.csv", "--schema", folder / "schema.toml", "--key-file", folder / "key", "-o", folder / out)
    words = ("pseudonymise", *files, "--project", "aml-2026", "--column", "mrn", *more)
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def test_names_are_those_of_the_key_and_other_identifiers_and_the_order_do_not_stay(folder):
    text = run(folder, "--new-key").stdout
    assert "personal data" in text
    assert "Left out: name" in text
    made = pd.read_csv(folder / "out.csv", dtype=str)
    assert list(made.columns) == ["mrn", "day", "hb"]
    frame = pd.read_csv(folder / "in.csv", dtype=str)
    key = PseudonymKey.from_file(folder / "key")
    expected = frame.assign(mrn=names_of(frame["mrn"], key, domain=("aml-2026", "mrn")))
    # The same rows; in the same order by chance: 1 / 60!
    assert sorted(made["mrn"] + made["day"]) == sorted(expected["mrn"] + expected["day"])
    assert made["mrn"].tolist() != expected["mrn"].tolist()
    assert (folder / "out.csv").stat().st_mode & 0o077 == 0
    secret = (folder / "key").read_text().strip()
    assert secret not in text + (folder / "out.csv").read_text()


def test_a_key_is_used_again_and_never_replaced(folder):
    run(folder, "--new-key")
    secret = (folder / "key").read_text()
    assert "no key is ever replaced" in run(folder, "--new-key", out="2.csv", code=2).stderr
    run(folder, out="2.csv")
    assert (folder / "key").read_text() == secret
    assert sorted((folder / "out.csv").read_text()) == sorted((folder / "2.csv").read_text())
    run(folder, "--site", "vienna", out="3.csv")
    assert not set(pd.read_csv(folder / "3.csv")["mrn"]) & set(pd.read_csv(folder / "2.csv")["mrn"])


def test_dates_move_by_patient_and_intervals_stay(folder):
    run(folder, "--new-key", "--shift-dates", "day", "--max-days", 40)
    made = pd.read_csv(folder / "out.csv", parse_dates=["day"])
    frame = pd.read_csv(folder / "in.csv", parse_dates=["day"])
    frame["mrn"] = names_of(frame["mrn"], PseudonymKey.from_file(folder / "key"), domain=("aml-2026", "mrn"))
    shifts = made.groupby("mrn")["day"].min() - frame.groupby("mrn")["day"].min()
    assert (made.groupby("mrn")["day"].max() - frame.groupby("mrn")["day"].max() == shifts).all()
    assert (shifts.dt.days.abs().between(1, 40)).all()
    assert len(set(shifts)) > 1


def test_tables_that_name_one_id_differently_share_its_field(folder):
    run(folder, "--new-key")
    (folder / "schema.toml").write_text(SCHEMA.replace("mrn", "patient"))
    (folder / "in.csv").write_text((folder / "in.csv").read_text().replace("mrn", "patient"))
    files = (folder / "in.csv", "--schema", folder / "schema.toml", "--key-file", folder / "key", "-o")
    words = ("--project", "aml-2026", "--column")
    for out, column in (("2.csv", "patient=mrn"), ("3.csv", "patient")):
        CliRunner().invoke(app, list(map(str, ("pseudonymise", *files, folder / out, *words, column))))
    mrn = set(pd.read_csv(folder / "out.csv")["mrn"])
    assert set(pd.read_csv(folder / "2.csv")["patient"]) == mrn
    assert not set(pd.read_csv(folder / "3.csv")["patient"]) & mrn


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shift-dates", "day"), "--max-days"),
        (("--shift-dates", "hb", "--max-days", 9), "holds no dates"),
        (("--column", "day"), "identifiers"),
        (("--column", "mrn"), "more than once"),
        (("--column", "doctor"), "doctor"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(folder, words, said):
    PseudonymKey.generate().save(folder / "key")
    before = sorted(folder.iterdir())
    assert said in json.loads(run(folder, "--json", *words, code=2).stdout)["message"]
    assert sorted(folder.iterdir()) == before


def test_a_key_that_others_can_read_is_refused_without_showing_it(folder):
    PseudonymKey.generate().save(folder / "key")
    (folder / "key").chmod(0o644)
    done = run(folder, code=2)
    assert "chmod 600" in done.stderr
    assert (folder / "key").read_text().strip() not in done.output


def test_the_documented_commands_work_as_written(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "anonymise" / "pseudonyms.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "visits.toml").write_text(SCHEMA.replace("day", "visit"))
    (tmp_path / "visits.csv").write_text("mrn,name,visit,hb\n7,Ada,2024-02-27,9.1\n7,Ada,2024-03-05,\n")
    monkeypatch.chdir(tmp_path)
    for line in text.splitlines():
        done = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    moved = pd.read_csv(tmp_path / "shifted.csv", parse_dates=["visit"])["visit"]
    assert (moved.max() - moved.min()).days == 7
