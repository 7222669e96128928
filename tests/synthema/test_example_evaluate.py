"""The evaluation's example and the code of its page in the documentation, run as they stand there."""

import json
import re
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

from synthema.demo import demo_frames, demo_study

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_example_writes_its_page_and_finds_no_difference_in_survival(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate_synthetic.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "examples" / "evaluate_synthetic.py"), run_name="__main__")
    assert "survival curves" in capsys.readouterr().out
    report = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert report["rows"] == {"real": 750, "synthetic": 750, "holdout": 293}
    assert "INTERNAL" in (tmp_path / "evaluation.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_code_of_the_documentation_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "generators" / "evaluate.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    patients = pd.concat(demo_frames().values()).sample(frac=1, random_state=1)
    names = {"frame": patients[:400], "holdout": patients[400:700], "schema": demo_study().data_schema}
    exec(compile(code, "evaluate.md", "exec"), names)
    assert (tmp_path / "evaluation.html").exists()
