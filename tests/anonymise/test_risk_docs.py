"""The page on risk: its examples run, and the example script shows a lower risk."""

import doctest
import runpy
import sys
from pathlib import Path

import anonymise.risk

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "anonymise" / "risk.md"


def test_the_examples_of_the_page_run():
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted >= 12
    assert result.failed == 0


def test_the_page_names_every_field_of_a_report():
    text = PAGE.read_text(encoding="utf-8")
    for name in ("smallest_class", "journalist", "population_uniqueness", "sensitive", "models", "distribution"):
        assert f"`{name}" in text
        assert name in anonymise.risk.RiskReport.__slots__


def test_the_example_script_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["risk_report.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "examples" / "risk_report.py"), run_name="__main__")
    assert "alone after   0.0%" in capsys.readouterr().out
    assert (tmp_path / "risk.html").read_text(encoding="utf-8").count("INTERNAL") >= 2
    assert (tmp_path / "risk.json").exists()
