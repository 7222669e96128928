"""A small clinic's files and the commands on them, for the tests of `synthema anonymise`."""

from pathlib import Path

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from synthema.cli.app import app

SCHEMA = """
[table]
name = "clinic"
[columns.mrn]
role = "identifier"
[columns.sex]
role = "quasi-identifier"
categories = ["F", "M"]
[columns.age]
role = "quasi-identifier"
kind = "integer"
bounds = [0, 99]
hierarchy = { interval = [10, 50] }
[columns.diagnosis]
role = "sensitive"
categories = ["HbSS", "HbSC", "HbSb"]
[columns.weeks]
role = "insensitive"
kind = "integer"
bounds = [0, 400]
nullable = true
"""
ROOT = Path(__file__).parents[2]


def write_clinic(tmp_path):
    """Write a schema and 200 rows; return the folder."""
    (tmp_path / "schema.toml").write_text(SCHEMA)
    rng = np.random.default_rng(1)
    n = 200
    columns = {
        "mrn": [f"MRN-{i:04}" for i in range(n)],
        "sex": rng.choice(["F", "M"], n),
        "age": rng.integers(20, 80, n),
        "diagnosis": rng.choice(["HbSS", "HbSC", "HbSb"], n),
        "weeks": [None if i % 9 == 0 else int(w) for i, w in enumerate(rng.integers(0, 400, n))],
    }
    pd.DataFrame(columns).astype({"weeks": "Int64"}).to_csv(tmp_path / "in.csv", index=False)
    return tmp_path


def run(*words, code=0):
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def anonymise(folder, *more, out="out.csv", code=0, by=("--k", 4, "--suppression", 0.1)):
    schema = () if "--policy" in more else ("--schema", folder / "schema.toml", *by)
    return run("anonymise", folder / "in.csv", *schema, "-o", folder / out, *more, code=code)


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def rows(path):
    return sorted(path.read_text().splitlines())
