"""`synthema site check`: what is wrong by column, what is shown at a terminal alone, and the documented examples."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from synthema.cli.site_check import site_check
from synthema.intake import SiteSource

ROOT = Path(__file__).parents[2]
SCHEMA = """
[columns.sex]
categories = ["F", "M"]
[columns.hb]
kind = "continuous"
bounds = [0, 250]
nullable = true
"""
SITE = """
[data]
kind = "csv"
path = "export.csv"
decimal = ","
schema = "schema.toml"
map = "map.toml"
"""
MAP = """
version = 1
[columns.sex]
from = "gender"
recode = { "1" = "M", "2" = "F" }
"""


@pytest.fixture
def folder(tmp_path):
    for name, text in (("schema.toml", SCHEMA), ("site.toml", SITE), ("map.toml", MAP)):
        (tmp_path / name).write_text(text)
    (tmp_path / "export.csv").write_text("gender;hb\n1;98,5\n2;\n")
    return tmp_path


def run(*words, code=0):
    app = typer.Typer()
    app.command()(site_check)
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def test_a_table_that_fits_is_told_so_and_nothing_of_it(folder):
    assert run("--data", folder / "site.toml") == "the table fits the schema (2 columns, read into memory)\n"
    said = json.loads(run("--data", folder / "site.toml", "--json"))
    assert said == {"ok": True, "columns": ["sex", "hb"], "in_memory": True}


def test_the_schema_may_be_the_sites_own_or_a_studys(folder):
    text = (folder / "site.toml").read_text().replace('schema = "schema.toml"\n', "")
    (folder / "site.toml").write_text('name = "vienna"\nschema = "schema.toml"\n' + text)
    assert "2 columns" in run("--data", folder / "site.toml")
    (folder / "study.toml").write_text(SCHEMA.replace("[0, 250]", "[0, 9]"))
    assert "'hb': holds a value outside" in run(
        "--data", folder / "site.toml", "--schema", folder / "study.toml", code=2
    )


def test_every_problem_is_listed_by_column(folder):
    (folder / "export.csv").write_text("gender;hb;ward\n1;98.5;7\n3;;7\n")
    said = run("--data", folder / "site.toml", code=2)
    for column, rule in (("sex", "codes that the map does not cover"), ("hb", "holds a point"), ("ward", "not needed")):
        assert re.search(f"column '{column}': .*{rule}", said)
    assert "98" not in said
    body = json.loads(run("--data", folder / "site.toml", "--json", code=2))
    assert {problem["column"] for problem in body["problems"]} == {"sex", "hb", "ward"}


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("site.toml", "[data]", "[date]", "no \\[data\\] section"),
        ("site.toml", 'schema = "schema.toml"', "", "names no schema"),
        ("site.toml", 'decimal = ","', 'decimal = ";"', "decimal: Input should be"),
        ("map.toml", "version = 1", "", "no version"),
        ("map.toml", '"M"', '"X"', "'X', which is none of its categories"),
        ("map.toml", "recode", "lambda", "lambda: Extra inputs"),
    ],
)
def test_wrong_files_are_named_by_entry(folder, name, old, new, told):
    (folder / name).write_text((folder / name).read_text().replace(old, new, 1))
    assert re.search(told, run("--data", folder / "site.toml", code=2))


def test_codes_are_shown_at_a_terminal_only_and_only_frequent_ones(folder, monkeypatch):
    (folder / "export.csv").write_text("gender;hb\n" + "7;98,5\n" * 10 + "rare name;1\n" * 9 + "1;1\n")
    assert SiteSource.load(folder / "site.toml").unmapped_codes(at_least=1) == {"sex": ["7"]}
    said = run("--data", folder / "site.toml", "--show-unmapped", code=2)
    assert "terminal only" in said
    assert "7" not in said
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal, monkeypatch.context() as patch:  # noqa: PTH123 - a descriptor has no path
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        with pytest.raises(typer.Exit) as ended:
            site_check(folder / "site.toml", show_unmapped=True)
        terminal.flush()
        shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert ended.value.exit_code == 2
    assert "column 'sex': not in the map: '7'" in shown
    assert "rare name" not in shown


def test_the_documented_examples_run(tmp_path):
    text = (ROOT / "docs" / "federation" / "data.md").read_text()
    files = dict(re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", text, flags=re.DOTALL))
    assert {"schema.toml", "map.toml", "csv.toml", "redcap.toml"} <= set(files)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    for name in ("csv.toml", "redcap.toml"):
        assert "fits the schema" in run("--data", tmp_path / name)
    pytest.importorskip("duckdb")
    code = re.search(r"<!-- run: parquet -->\n```python\n(.*?)```", text, flags=re.DOTALL).group(1)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    assert "counted where it is" in run("--data", tmp_path / "parquet.toml")
