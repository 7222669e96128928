"""The command line as a user meets it, on files: each command in a process of its own, its other cases in this one."""

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from synthema.cli.app import app
from synthema.demo import demo_frames

SCHEMA = """
[table]
name = "registry"
patient_id = "id"
[columns.id]
role = "identifier"
[columns.age]
role = "quasi-identifier"
kind = "integer"
bounds = [0, 110]
edges = [50, 70]
[columns.sex]
role = "quasi-identifier"
categories = ["F", "M"]
"""
STUDY = """
[study]
name = "pilot"
purpose = "Age and sex of three registries"
schema = "schema.toml"
[budget]
epsilon = 1.0
delta = 1e-6
[synthesis]
rows = 20
[sites.vienna]
file = "vienna.csv"
[sites.madrid]
file = "madrid.csv"
[sites.milan]
file = "milan.csv"
"""


def synthema(*args, cwd=None):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "synthema", *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def synthema_here(*args, cwd="."):
    """Run the command in this process, which saves its start; what would end it with a traceback is raised."""
    command = list(map(str, args))
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(app, command, catch_exceptions=False)
    return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def study_folder(tmp_path):
    (tmp_path / "schema.toml").write_text(SCHEMA)
    (tmp_path / "study.toml").write_text(STUDY)
    for name in ("vienna", "madrid", "milan"):
        rows = [f"{name}{i},{20 + i},{'FM'[i % 2]}" for i in range(60)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,age,sex", *rows]) + "\n")
    return tmp_path


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "demo"
    done = synthema("demo", "--out", folder, "--rows", 500)
    assert done.returncode == 0, done.stderr
    assert "no row left a site" in done.stdout
    assert "\x1b[" not in done.stdout + done.stderr, "no progress bars or colours outside a terminal"
    return folder


def test_the_demo_writes_what_the_readme_promises(demo_folder):
    assert len(pd.read_csv(demo_folder / "synthetic.csv")) == 500
    for name in ("report.html", "anonymised.csv", "costs.json"):
        assert (demo_folder / name).stat().st_size > 0
    for site in demo_frames():
        assert "INTERNAL" in (demo_folder / "sites" / site / "internal.html").read_text()
    assert (demo_folder / "report.html").stat().st_size < 500_000


def test_the_demos_ledgers_verify_and_can_be_shown(demo_folder):
    files = sorted((demo_folder / "ledgers").glob("*.db"))
    assert len(files) == 5
    done = synthema("ledger", "verify", *files, "--json")
    assert done.returncode == 0
    assert all(item["ok"] for item in json.loads(done.stdout))
    shown = json.loads(synthema("ledger", "show", files[0], "--json").stdout)
    assert {account["name"] for account in shown["accounts"]} == {"private", "exact"}
    assert "epsilon" in synthema_here("ledger", "show", files[0]).stdout


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 8], ids=["all digits", "one in eight"])
def test_every_changed_digit_of_an_entry_or_cap_fails_verification(demo_folder, tmp_path, every):
    original = demo_folder / "ledgers" / "rowan.db"
    with sqlite3.connect(original) as connection:
        bodies = connection.execute("SELECT seq, body FROM entry ORDER BY seq").fetchall()
    connection.close()
    from privacy.ledger import verify

    changed = 0
    for seq, body in bodies:
        digits = [match.start() for match in re.finditer(rb"[0-9]", bytes(body))]
        # Every digit of the short entries, every seventh of the long ones: some hundreds in all; or a part of those.
        for position in digits[seq % every :: every * (1 if len(digits) < 60 else 7)]:
            copy = tmp_path / "copy.db"
            shutil.copy(original, copy)
            new = bytearray(body)
            new[position] = ord("0") + (new[position] - ord("0") + 1) % 10
            with sqlite3.connect(copy) as connection:
                rewrite(connection, seq, bytes(new))
            connection.close()
            assert not verify(f"sqlite:///{copy}").ok, (seq, position)
            changed += 1
    assert changed > 300 / every / 2
    done = synthema("ledger", "verify", tmp_path / "copy.db")
    assert done.returncode == 5
    assert "DOES NOT VERIFY" in done.stdout


def rewrite(connection, seq, body):
    """Change one entry as the file's owner could: lift the triggers, write, put the triggers back."""
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f'DROP TRIGGER "{name}"')
    connection.execute("UPDATE entry SET body = ? WHERE seq = ?", (body, seq))
    for _, sql in triggers:
        connection.execute(sql)


def test_a_study_on_csv_files_runs_and_speaks_json(study_folder):
    done = synthema_here("simulate", "study.toml", "--out", "out", "--json", cwd=study_folder)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["costs"]["budget"]["epsilon"] == 1.0
    assert len(pd.read_csv(study_folder / "out" / "synthetic.csv")) == 20


@pytest.mark.parametrize(
    ("file", "old", "new", "code", "words"),
    [
        ("vienna.csv", "id,age,sex", "id;age;sex", 2, "vienna.csv"),
        ("vienna.csv", ",20,F", ",200,F", 2, "bounds [0, 110]"),
        ("vienna.csv", ",20,F", ",,F", 2, "missing value"),
        ("vienna.csv", ",20,F", ",20,X", 2, "F, M"),
        ("vienna.csv", "id,age,sex", "id,age,age", 2, "more than once"),
        ("schema.toml", "bounds = [0, 110]", "", 2, "public bounds"),
        ("study.toml", "epsilon = 1.0", "epsilon = -1.0", 2, "budget.epsilon"),
        ("study.toml", "epsilon = 1.0", "epsilon = nan", 2, "budget.epsilon"),
        ("study.toml", 'file = "milan.csv"', "", 2, "sites.milan"),
        ("study.toml", 'file = "milan.csv"', 'file = "rome.csv"', 2, "rome.csv"),
        (
            "study.toml",
            'file = "milan.csv"',
            'file = "milan.csv"\npolicy = { epsilon_cap = 0.5, delta_cap = 1e-6 }',
            3,
            "what would fit",
        ),
        (
            "study.toml",
            'file = "milan.csv"',
            'file = "milan.csv"\npolicy = { epsilon_cap = 5.0, delta_cap = 1e-6, min_patients = 100 }',
            3,
            "at least 100 patients",
        ),
    ],
)
def test_bad_input_gets_one_clear_line_and_an_exit_code(study_folder, file, old, new, code, words):
    path = study_folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    before = {p.name: p.read_bytes() for p in study_folder.iterdir() if p.is_file()}
    done = synthema_here("simulate", "study.toml", "--out", "out", cwd=study_folder)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (study_folder / "out" / "report.html").exists()
    assert {p.name: p.read_bytes() for p in study_folder.iterdir() if p.is_file()} == before


def test_errors_are_json_too_when_asked(study_folder):
    (study_folder / "vienna.csv").write_text("id,age,sex\na,300,F\n")
    done = synthema_here("check", "vienna.csv", "--schema", "schema.toml", "--json", cwd=study_folder)
    assert done.returncode == 2
    answer = json.loads(done.stdout)
    assert answer["problems"][0]["column"] == "age"
    assert "300" not in done.stdout


def test_a_good_table_passes_the_check(study_folder):
    done = synthema_here("check", "vienna.csv", "--schema", "schema.toml", cwd=study_folder)
    assert (done.returncode, done.stdout) == (0, "vienna.csv fits the schema\n")


def test_a_demo_that_asks_too_much_is_refused_with_what_would_fit(tmp_path):
    done = synthema_here("demo", "--out", tmp_path / "demo", "--epsilon", 50)
    assert done.returncode == 3
    assert "would fit" in done.stderr
    done = synthema_here("demo", "--out", tmp_path / "demo", "--epsilon", "nan")
    assert done.returncode == 2


def test_verify_says_that_a_file_is_no_ledger(tmp_path):
    (tmp_path / "x.db").write_text("not a database")
    done = synthema_here("ledger", "verify", tmp_path / "x.db")
    assert done.returncode == 5
    done = synthema_here("ledger", "verify", tmp_path / "nowhere.db")
    assert done.returncode == 5
    assert not (tmp_path / "nowhere.db").exists()


@pytest.mark.slow
def test_a_foreign_package_of_the_same_name_is_named_with_the_way_out(tmp_path):
    (tmp_path / "generators").mkdir()
    (tmp_path / "generators" / "__init__.py").write_text("")
    done = synthema("demo", "--out", tmp_path / "demo", cwd=tmp_path)
    assert done.returncode == 1
    assert "'generators' hides the one of synthema" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reservation_left_behind_can_be_voided_but_a_charge_cannot(tmp_path):
    from privacy import DiscreteGaussian
    from privacy.ledger import open_ledger

    file = tmp_path / "site.db"
    with open_ledger(f"sqlite:///{file}") as ledger:
        ledger.open_account("private", epsilon=1.0, delta=1e-6, neighbours="add_remove_one")
        ledger.reserve("private", DiscreteGaussian(noise_multiplier=50.0), key="left-behind", purpose="a count")
        with ledger.spend("private", DiscreteGaussian(noise_multiplier=50.0), key="charged", purpose="a count"):
            pass
    assert "reserved and not started: left-behind" in synthema_here("ledger", "show", file).stdout
    assert synthema("ledger", "void", file, "left-behind").returncode == 0
    assert synthema_here("ledger", "void", file, "charged").returncode == 4
    assert json.loads(synthema_here("ledger", "show", file, "--json").stdout)["pending"] == []
