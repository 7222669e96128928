"""`synthema generate` and `synthema evaluate` on files: what they write, say, charge and refuse."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from generators import GraphicalModel
from privacy import rho_of
from privacy.events import event_from_json
from privacy.ledger import open_ledger, verify
from synthema.cli.app import app

SCHEMA = """
[table]
name = "clinic"
patient_id = "id"
[columns.id]
role = "identifier"
[columns.sex]
role = "quasi-identifier"
categories = ["F", "M"]
[columns.age]
role = "quasi-identifier"
kind = "integer"
bounds = [0, 110]
edges = [30, 50, 70]
[columns.time]
kind = "integer"
bounds = [0, 3000]
edges = [365, 1000]
[columns.event]
categories = ["0", "1"]
[survival]
time = "time"
event = "event"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "schema.toml").write_text(SCHEMA)
    for name, seed in (("real", 1), ("holdout", 2)):
        rng = np.random.default_rng(seed)
        n = 300
        age = rng.integers(0, 111, n)
        time = np.minimum(800 * rng.exponential(np.exp(-age / 60)), 3000).astype(int)
        columns = {"id": [f"{name}{i}" for i in range(n)], "sex": rng.choice(["F", "M"], n), "age": age, "time": time}
        pd.DataFrame({**columns, "event": rng.integers(0, 2, n)}).to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def run(*words, code=0):
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def generate(folder, *more, code=0):
    files = (folder / "real.csv", "--schema", folder / "schema.toml", "--out", folder / "made.csv")
    return run("generate", *files, "--epsilon", 2, "--delta", "1e-6", *more, code=code)


def test_rows_and_model_are_written_and_the_cost_is_that_of_the_events(folder):
    done = generate(folder, "-n", 50, "--model", folder / "m.synthema", "--mechanism", "independent", "--json")
    body = json.loads(done.stdout, parse_constant=pytest.fail)
    made = pd.read_csv(folder / "made.csv")
    assert (len(made), list(made.columns)) == (50, ["sex", "age", "time", "event"])
    model = GraphicalModel.load(folder / "m.synthema")
    assert body["mechanism"] == model.mechanism == "independent"
    events = [event_from_json(event) for event in body["events"]]
    assert events == list(model.events)
    assert sum(rho_of(event, neighbours="add_remove_one") for event in events) > 0
    assert 1.9 < body["epsilon"] <= 2.0
    assert body["ledger"] is None
    assert "No ledger" in body["note"]


def test_without_a_ledger_the_text_says_so(folder):
    text = generate(folder).stdout
    assert "NOT IN ANY LEDGER" in text
    assert "epsilon 2.000 at delta 1e-06" in text
    assert re.search(r"(\d+) synthetic patients", text), "the noisy number of rows is drawn by default"


def test_the_ledger_pays_once_and_the_same_key_gives_the_same_model(folder):
    url = f"sqlite:///{folder / 'site.db'}"
    with open_ledger(url, site="vienna") as book:
        book.open_account("research", epsilon=2.5, delta=1e-6, neighbours="replace_one")
    pay = ("--ledger", folder / "site.db", "--account", "research", "--json", "--model")
    one, two = (json.loads(generate(folder, *pay, folder / f"{i}.synthema").stdout) for i in (1, 2))
    assert (one["ledger"]["charged"], two["ledger"]["charged"]) == (True, False)
    assert one["ledger"]["epsilon_spent"] == two["ledger"]["epsilon_spent"] == pytest.approx(2.0, abs=1e-3)
    assert (folder / "1.synthema").read_bytes() == (folder / "2.synthema").read_bytes()
    # The account's relation between neighbours is what the noise is made for.
    assert one["neighbours"] == "replace_one"
    before = (folder / "made.csv").read_bytes()
    refused = json.loads(generate(folder, *pay, folder / "3.synthema", "--spend-key", "another", code=4).stdout)
    assert refused["error"] == "BudgetExceeded"
    assert (folder / "made.csv").read_bytes() == before
    assert not (folder / "3.synthema").exists()
    assert verify(url).ok


def test_what_cannot_be_done_is_said_before_anything_is_charged(folder):
    assert "independent" in generate(folder, "--mechanism", "gan", code=2).stderr
    assert "together" in generate(folder, "--account", "research", code=2).stderr
    assert "-n" in generate(folder, "-n", 0, code=2).stderr
    assert "site.db" in generate(folder, "--ledger", folder / "site.db", "--account", "a", code=2).stderr
    generate(folder, "--delta", 2, code=2)
    assert not (folder / "made.csv").exists()


def test_a_table_that_is_refused_costs_nothing(folder):
    url = f"sqlite:///{folder / 'site.db'}"
    with open_ledger(url, site="vienna") as book:
        book.open_account("research", epsilon=2.5, delta=1e-6, neighbours="add_remove_one")
    pay = ("--ledger", folder / "site.db", "--account", "research")
    frame = pd.read_csv(folder / "real.csv")
    frame.assign(id=frame["id"].replace("real1", " real0")).to_csv(folder / "real.csv", index=False)
    assert "max_records_per_patient = 1" in generate(folder, *pay, code=2).stderr
    text = (folder / "schema.toml").read_text()
    (folder / "schema.toml").write_text(text.replace("edges = [30, 50, 70]", "edges = [30.2, 30.7]"))
    frame.to_csv(folder / "real.csv", index=False)
    assert "holds no whole number" in generate(folder, *pay, code=2).stderr
    with open_ledger(url) as book:
        assert book.remaining("research").epsilon_spent == 0


def test_an_evaluation_is_written_as_page_and_json_and_marked_internal(folder):
    generate(folder, "-n", 200)
    files = (folder / "real.csv", folder / "made.csv", "--schema", folder / "schema.toml")
    done = run("evaluate", *files, "--holdout", folder / "holdout.csv", "--report", folder / "page.html", "--json")
    body = json.loads(done.stdout, parse_constant=pytest.fail)
    assert body["internal"] is True
    assert body["rows"] == {"real": 300, "synthetic": 200, "holdout": 300}
    assert body["sections"]["privacy"]["attacks"]
    assert "INTERNAL" in (folder / "page.html").read_text()
    text = run("evaluate", *files, "--no-attacks", "--target", "sex", "--group", "sex").stdout
    assert text.startswith("INTERNAL")
    assert "Does survival come out right?" in text
    run("evaluate", *files, "--target", "height", code=2)
    run("evaluate", folder / "made.csv", folder / "made.csv", "--schema", folder / "schema.toml", code=2)


def test_a_plan_reads_the_schema_alone(folder):
    schema = ("plan", "--schema", folder / "schema.toml", "--epsilon", 1)
    (folder / "real.csv").unlink()
    few, many = (json.loads(run(*schema, "-n", n, "--json").stdout) for n in (100, 100_000))
    assert few["mean_column_error"] > 10 * many["mean_column_error"]
    assert "100000 patients, epsilon 1" in run(*schema, "-n", 100_000).stdout
    run(*schema, "-n", 0, code=2)
    assert "adaptive" in run(*schema, "-n", 100, "--mechanism", "gan", code=2).stderr
    assert "epsilon" in run("plan", "--schema", folder / "schema.toml", "--epsilon", -1, "-n", 100, code=2).stderr
