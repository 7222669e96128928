"""The README's files and code, run as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from synthema.cli.app import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def registry(site: str, n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"{site}-{i}" for i in range(n)],
            "age": rng.integers(20, 95, n),
            "sex": rng.choice(["F", "M"], n),
            "time": rng.integers(1, 4000, n),
            "event": rng.choice(["0", "1"], n),
        }
    )


def prepare(folder: Path) -> dict[str, pd.DataFrame]:
    for text in blocks("toml"):
        name = re.match(r"# (\S+\.toml)", text).group(1)
        (folder / name).write_text(text, encoding="utf-8")
    frames = {site: registry(site, 120, seed) for seed, site in enumerate(("vienna", "madrid", "milan"))}
    for site, frame in frames.items():
        frame.to_csv(folder / f"{site}.csv", index=False)
    return frames


def test_the_commands_on_your_own_data_work_as_written(tmp_path, monkeypatch):
    prepare(tmp_path)
    text = "\n".join(blocks("sh"))
    lines = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("synthema ")]
    assert [line[1] for line in lines] == [
        *("check", "simulate", "plan", "generate", "evaluate"),
        *("risk", "anonymise", "account", "account"),
    ]
    # The first one in a process of its own; the others save its start.
    done = subprocess.run(
        [sys.executable, "-m", *lines[0]], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    for line in lines[1:]:
        done = CliRunner().invoke(app, line[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
    assert (tmp_path / "pilot" / "report.html").exists()
    assert (tmp_path / "internal.html").exists()
    assert (tmp_path / "risk.html").exists()
    assert len(pd.read_csv(tmp_path / "synthetic.csv")) == 1000


def test_the_python_examples_work_as_written(tmp_path, monkeypatch, capsys):
    frames = prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, model = blocks("python")
    names = {f"frame_{i}": frame for i, frame in enumerate(frames.values(), start=1)}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["outcome"].table) == 1000
    exec(compile(model, "README.md", "exec"), {})
    assert "odds ratio" in capsys.readouterr().out


def test_the_two_commands_are_one_line_each_and_marked_for_ci():
    for name, ending in (("demo", "synthema demo"), ("tests", "pytest")):
        (line,) = (
            re.search(rf"<!-- command: {name} -->\n```sh\n(.*?)```", README, flags=re.DOTALL).group(1).splitlines()
        )
        assert line.startswith("python3 -m venv .venv && ")
        assert line.endswith(f"uv run {ending}")
