import re
import runpy
import tomllib
from pathlib import Path

import pytest

from privacy._hierarchy_reader import CLASSIFICATIONS, HierarchyReader

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "anonymise" / "hierarchies.md").read_text(encoding="utf-8")
RULES = [rule for rule in re.findall(r"`(\{ [a-z]+ = [^`]*\})`", PAGE) if ".csv" not in rule]


def test_the_example_runs_and_keeps_what_its_schema_says(capsys):
    runpy.run_path(str(ROOT / "examples" / "anonymise_hierarchies.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "diagnosed  40: 2010-Q1 | 10: 2010 | 1: *" in printed
    assert "stage      4: I | 2: early | 1: *" in printed
    assert "note" not in printed


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_of_the_page_is_one(rule):
    problems = []
    reader = HierarchyReader("x", lambda *problem: bool(problems.append(problem)), folder=None)
    assert reader.spec(tomllib.loads(f"rule = {rule}")["rule"]) is not None
    assert problems == []


def test_the_page_names_every_classification():
    assert len(RULES) > 12
    assert all(f"`{name}`" in PAGE for name in CLASSIFICATIONS)
